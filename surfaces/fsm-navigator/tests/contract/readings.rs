//! Meters, readings and thresholds (4.3, 5.3, 5.4).

use crate::server::{Options, Server, invalid, missing, refusal, refused};
use crate::world::{World, id};
use meterd_control::{Applied, EventFilter, Meter, Stored};
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{Batch, OnConflict};
use meterd_http::queries_max;
use meterd_model::{Measurement, MeasurementId, MeterId, MeterName, Subject, Timestamp};
use meterd_surface_fsm_navigator::{
    Amount, NewMeter, NewReset, apply_meter, apply_reset, settle_all,
};
use meterd_testkit::system;
use serde_json::{Value, json};
use std::time::Duration;

fn amount(text: &str) -> Amount {
    Amount::Text(text.to_owned())
}

fn reset(world: &World, at: &str, base: &str) -> Result<Applied, String> {
    let reset = NewReset {
        asset: "AST-000001".to_owned(),
        meter: "engine hours".to_owned(),
        at: at.to_owned(),
        base: amount(base),
    };
    let server = &world.server;
    apply_reset(
        &server.control,
        &server.engine,
        server.live(),
        &reset,
        &system(),
    )
    .map_err(|fault| fault.kind.to_string())
}

#[test]
fn a_reading_is_stored_with_its_meter() {
    let world = World::start();
    let asset = world.asset();
    let meter = world.meter(&asset, |new| new.initial_reading = Some(amount("1000.5")));
    let job = id(&world.job());
    let path = "/assets?id=1&sub=meter_reading";
    let body = json!({
        "meter": "ENGINE hours",
        "value": "1250.25",
        "recorded_at": "2026-01-15T01:00:00.9+01:00",
        "unit": "Hours",
        "job_id": job,
        "notes": "n".repeat(10_000),
    });
    let answer = world.server.ask("POST", path, Some(&body)).expect(201);
    let reading = &answer["meter_reading"];
    assert_eq!(answer["data"], *reading);
    assert_eq!(
        *reading,
        json!({
            "reading_id": 1,
            "id": 1,
            "meter_id": meter,
            "asset_id": 1,
            "reading_value": 1250.25,
            "previous_value": 1000.5,
            "delta": 249.75,
            "unit": "hours",
            "reading_date": "2026-01-15T00:00:00Z",
            "source": "api",
            "job_id": job,
            "notes": "n".repeat(10_000),
            "created_at": reading["created_at"],
        })
    );
    let shown = json!({
        "meter_id": meter,
        "id": meter,
        "meter_name": "Engine Hours",
        "unit": "hours",
        "initial_reading": 1000.5,
        "current_reading": 1250.25,
        "last_reading_at": "2026-01-15T00:00:00Z",
        "threshold_value": null,
        "threshold_action": "alert",
    });
    assert_eq!(answer["meter"], shown);
    assert_eq!(answer["threshold"], Value::Null);
    let members: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "success",
            "data",
            "meter_reading",
            "meter",
            "threshold",
            "request_id"
        ]
    );
    assert_eq!(
        world.server.get("/assets/1")["asset"]["meters"],
        json!([shown])
    );
}

#[test]
fn readings_are_checked_member_by_member() {
    let world = World::start();
    let server = &world.server;
    let asset = world.asset();
    let path = "/assets?id=1&sub=meter_reading";
    let lacking = refusal(400, "meter_not_found", "Meter not found for this asset.");
    // An asset without meters tells so before anything else.
    let broken = server.ask("POST", path, Some(&json!(5)));
    assert_eq!(refused(&broken), lacking);
    let meter = world.meter(&asset, |_| {});
    for (body, names) in [
        (json!({}), "s: meter_id, reading_value"),
        (
            json!({"meter_id": null, "value": " "}),
            "s: meter_id, reading_value",
        ),
        (json!({"meter_id": true}), ": reading_value"),
        (json!({"reading_value": 1}), ": meter_id"),
    ] {
        let message = format!("Missing required field{names}.");
        let expected = missing(&message);
        assert_eq!(server.refused("POST", path, &body), expected);
    }
    let value = "must be from 0 to below 1000000000000, with at most 4 decimals";
    let ahead = Timestamp::of_system(std::time::SystemTime::now())
        .saturating_add(Duration::from_mins(6))
        .to_string();
    for (member, given, rule) in [
        ("meter_id", json!(1.5), "must be an integer"),
        ("meter_id", json!([1]), "must be an integer"),
        ("reading_value", json!(-1), value),
        ("reading_value", json!("0.00001"), value),
        ("reading_value", json!(1_000_000_000_000_u64), value),
        ("reading_value", json!(true), "must be a number"),
        ("reading_value", json!("much"), "must be a decimal number"),
        (
            "reading_date",
            json!(ahead),
            "must not be more than 5 minutes ahead",
        ),
        ("unit", json!("miles"), "must be the meter's unit (hours)"),
        ("job_id", json!(77), "must name an existing job"),
    ] {
        let mut body = json!({"meter_id": meter, "reading_value": 5});
        body[member] = given;
        let message = format!("Invalid value for {member}: {rule}.");
        assert_eq!(server.refused("POST", path, &body), invalid(&message));
    }
    // Two names for one thing, with different contents.
    let twice = json!({"meter_id": meter, "reading_value": 5, "value": 6});
    assert_eq!(server.refused("POST", path, &twice).1, "validation_failed");
    for unknown in [
        json!(999),
        json!(0),
        json!("999"),
        json!("Mileage"),
        json!("99999999999999999999999"),
    ] {
        let body = json!({"meter_id": unknown, "reading_value": 5});
        assert_eq!(server.refused("POST", path, &body), lacking);
    }
    assert_eq!(world.current(1), 0);
    for known in [
        json!(meter),
        json!(meter.to_string()),
        json!(" engine hours "),
    ] {
        let body =
            json!({"meter_type": known, "reading": "999999999999.9999", "date": "2026-01-01"});
        let answer = server.ask("POST", path, Some(&body));
        assert!(matches!(answer.status, 200 | 201));
    }
    server.patch("/assets?id=1", &json!({"status": "Decommissioned"}));
    assert_eq!(
        refused(&world.read(1, meter, "999999999999.9999", "2026-02-01")),
        invalid("Invalid value for id: must not be that of an asset that is Decommissioned.")
    );
    // Who tries again hears of what was stored before that.
    let again = world.read(1, meter, "999999999999.9999", "2026-01-01");
    assert_eq!(again.expect(200)["data"]["reading_id"], 1);
}

#[test]
fn a_reset_begins_a_new_count() {
    let world = World::start();
    let meter = world.meter(&world.asset(), |_| {});
    for (value, at) in [("100", "2026-01-01"), ("200", "2026-01-03")] {
        world.read(1, meter, value, at).expect(201);
    }
    assert_eq!(
        reset(&world, "2026-01-05T00:00:00Z", "3"),
        Ok(Applied::Created)
    );
    assert_eq!(
        reset(&world, "2026-01-05T00:00:00.5Z", "3"),
        Ok(Applied::Unchanged)
    );
    assert!(reset(&world, "2026-01-05T00:00:00Z", "4").is_err());
    // It would hide every reading until then, and have the reading after it fall.
    assert!(reset(&world, "2126-01-05T00:00:00Z", "0").is_err());
    assert!(reset(&world, "2026-01-02T00:00:00Z", "201").is_err());
    assert_eq!(world.current(1), 3);
    let answer = world.read(1, meter, "5", "2026-01-06").expect(201);
    assert_eq!(answer["meter_reading"]["previous_value"], 3);
    // What is before the reset is not bounded by what is after it.
    world.read(1, meter, "250", "2026-01-04").expect(201);
    assert_eq!(
        refused(&world.read(1, meter, "250", "2026-01-02")),
        invalid(
            "Invalid value for reading_value: must be less than or equal to the next reading (200)."
        )
    );
    assert_eq!(
        refused(&world.read(1, meter, "2.9999", "2026-01-05")),
        invalid(
            "Invalid value for reading_value: must be greater than or equal to the previous reading (3)."
        )
    );
    assert_eq!(world.current(1), 5);
}

/// As when a meter is swapped: what the old one was at last, and what the new one begins with.
#[test]
fn a_reading_is_bounded_by_one_in_the_second_of_a_reset() {
    let world = World::start();
    let meter = world.meter(&world.asset(), |_| {});
    let swapped = "2026-01-05T00:00:00Z";
    world.read(1, meter, "500", swapped).expect(201);
    assert_eq!(reset(&world, swapped, "0"), Ok(Applied::Created));
    assert_eq!(
        refused(&world.read(1, meter, "9999", "2026-01-04")),
        invalid(
            "Invalid value for reading_value: must be less than or equal to the next reading (500)."
        )
    );
    world.read(1, meter, "400", "2026-01-04").expect(201);
}

#[test]
fn a_measurement_of_something_else_is_no_repeat() {
    let world = World::start();
    let (server, asset) = (&world.server, world.asset());
    let meter = world.meter(&asset, |_| {});
    let at = "2026-01-03T00:00:00Z";
    store_by_hand(server, "asset-2", meter, "11", at);
    let told = refused(&world.read(1, meter, "11", at));
    assert_eq!((told.0, told.1.as_str()), (400, "validation_failed"));
    assert_eq!(world.current(1), 0);
    world.read(1, meter, "12", at).expect(201);
}

#[test]
fn an_engine_meter_is_not_shared_with_whoever_may_delete_it() {
    let world = World::start();
    let (server, asset) = (&world.server, world.asset());
    let store = server.control.store();
    let find = |name| {
        store
            .get_by_key::<Meter>(server.acme, "name", name)
            .unwrap()
    };
    world.meter(&asset, |_| {});
    let own = find("engine_hours").document.clone();
    assert_eq!(own.managed_by.as_deref(), Some("fsm-navigator"));
    let same_by_hand = Meter {
        name: MeterName::new("fuel").unwrap(),
        managed_by: None,
        ..own
    };
    store.create(server.acme, same_by_hand, &system()).unwrap();
    let meter = world.meter(&asset, |new| new.name = "Fuel".to_owned());
    world.read(1, meter, "5", "2026-01-01").expect(201);
    let held = |name| {
        server
            .engine
            .meter_stats(server.acme, MeterId(find(name).id))
            .versions
    };
    assert_eq!((held("fuel"), held("fuel_2")), (0, 1));
}

#[test]
fn engine_meters_of_before_they_said_whose_they_are_are_adopted() {
    let world = World::start();
    let server = &world.server;
    let store = server.control.store();
    let find = |name| {
        let found = store.find_by_key::<Meter>(server.acme, "name", name);
        found.unwrap()
    };
    let disown = || {
        let change = |meter: &Stored<Meter>| {
            let managed_by = None;
            Ok(Meter {
                managed_by,
                ..meter.document.clone()
            })
        };
        let id = find("engine_hours").unwrap().id;
        let changed = store.update(server.acme, id, None, &system(), change);
        changed.unwrap();
    };
    let is_own = || {
        let meter = find("engine_hours").unwrap();
        meter.document.managed_by.as_deref() == Some("fsm-navigator")
    };
    world.meter(&world.asset(), |_| {});
    disown();
    // As `meterd apply` makes it.
    world.meter(&world.asset(), |_| {});
    assert!(is_own() && find("engine_hours_2").is_none());
    disown();
    // As an opening does.
    settle_all(&server.control, &server.engine, &system()).unwrap();
    assert!(is_own());
}

#[test]
fn both_data_sets_of_a_company_share_its_places() {
    let world = World::start();
    let server = &world.server;
    let meter = world.meter(&world.asset(), |_| {});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let take = || {
        runtime
            .block_on(server.core.query_slot(server.acme))
            .unwrap()
    };
    let held: Vec<_> = (0..queries_max() / 2).map(|_| take()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(world.read(1, meter, "5", "2026-01-01").status, 429));
        scope.spawn(|| {
            let answer = server.ask_as(&server.test_key, "GET", "/jobs", None);
            assert_eq!(answer.status, 429);
        });
        let other = server.ask_as(&server.rival_key, "GET", "/jobs", None);
        other.expect(200);
    });
    drop(held);
    // What was told to come again was not stored.
    world.read(1, meter, "5", "2026-01-01").expect(201);
}

#[test]
fn meters_are_set_up_once() {
    let world = World::start();
    let (server, asset) = (&world.server, world.asset());
    let other = world.asset();
    let new = |asset: &str, name: &str, unit: &str| NewMeter {
        asset: asset.to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        initial_reading: None,
        threshold_value: None,
        threshold_action: None,
    };
    let apply = |new: &NewMeter| {
        apply_meter(&server.control, server.live(), new, &system()).map_err(|f| f.kind.to_string())
    };
    let (first, second) = ("AST-000001", "AST-000002");
    assert_eq!((id(&asset), id(&other)), (1, 2));
    assert_eq!(apply(&new(first, "Fuel 1", "l")), Ok((1, Applied::Created)));
    assert_eq!(
        apply(&new(first, "Fuel 1", "l")),
        Ok((1, Applied::Unchanged))
    );
    assert_eq!(
        apply(&new(first, " FUEL 1 ", "l ")),
        Ok((1, Applied::Updated))
    );
    // Another name, but not for the engine; another unit; another asset.
    assert_eq!(apply(&new(first, "fuel-1", "l")), Ok((2, Applied::Created)));
    assert_eq!(
        apply(&new(second, "Fuel 1", "gal")),
        Ok((3, Applied::Created))
    );
    assert_eq!(
        apply(&new(second, "fuel-1", "l")),
        Ok((4, Applied::Created))
    );
    for wrong in [
        new("AST-9", "Fuel", "l"),
        new(first, " ", "l"),
        new(first, "Fuel 1", "gal"),
        new(first, "Fuel", &"l".repeat(33)),
    ] {
        assert!(apply(&wrong).is_err());
    }
    let names = ["fuel_1", "fuel_1_2", "fuel_1_3"].map(|name| {
        let found = server
            .control
            .store()
            .find_by_key::<Meter>(server.acme, "name", name);
        found.unwrap().is_some()
    });
    assert_eq!(names, [true, true, true]);
    for (asset, meter, value) in [(1, 1, "10"), (1, 2, "20"), (2, 3, "30"), (2, 4, "40")] {
        world.read(asset, meter, value, "2026-01-01").expect(201);
    }
    assert_eq!((world.current(1), world.current(2)), (json!(10), json!(30)));
    assert_eq!(
        refused(&world.read(2, 1, "50", "2026-01-01")),
        refusal(400, "meter_not_found", "Meter not found for this asset.")
    );
}

/// How many alerts acme got.
fn alerts(server: &Server) -> usize {
    let filter = EventFilter {
        kind: Some("fsm-navigator/asset-meter.threshold"),
        ..EventFilter::default()
    };
    let newest = server
        .control
        .events()
        .newest(server.acme, &filter, None, 100);
    newest.unwrap().0.len()
}

/// Has a meter open a job when it is read at the threshold or above.
fn opens_job_at(threshold: &str) -> impl Fn(&mut NewMeter) + use<> {
    let threshold = amount(threshold);
    move |new| {
        new.threshold_value = Some(threshold.clone());
        new.threshold_action = Some("create_job".to_owned());
    }
}

#[test]
fn a_threshold_is_reached_once() {
    let world = World::start();
    let server = &world.server;
    let asset = world.asset();
    let set = |threshold: &str| world.meter(&asset, opens_job_at(threshold));
    let meter = set("500");
    let read =
        |value: &str, at: &str| world.read(1, meter, value, at).expect(201)["threshold"].take();
    let jobs = || server.get("/jobs")["pagination"]["total"].clone();
    assert_eq!(read("499", "2026-01-01"), Value::Null);
    // Reached in the past, as later readings say: nobody hears of it.
    let crossed = json!({"crossed": true, "action": "create_job", "job_id": 1});
    assert_eq!(read("500", "2026-01-05"), crossed);
    assert_eq!(read("500", "2026-01-03"), Value::Null);
    assert_eq!(read("500", "2026-01-06"), Value::Null);
    assert_eq!(read("700", "2026-01-07"), Value::Null);
    // The same reading again says what it said, and does nothing.
    let again = world.read(1, meter, "500.0", "2026-01-05").expect(200);
    assert_eq!(again["threshold"], crossed);
    assert_eq!((jobs(), alerts(server)), (json!(1), 1));
    let job = server.get("/jobs?id=1")["job"].clone();
    assert_eq!(
        job["job_title"],
        "Generator (AST-000001): Engine Hours threshold reached"
    );
    assert_eq!(
        job["job_description"],
        "The reading of Engine Hours is 500 hours."
    );
    assert_eq!(
        (&job["job_status"], &job["job_priority"]),
        (&json!("Pending"), &json!("Medium"))
    );
    assert_eq!(job["customer_location_id"], world.location);
    assert_eq!(job["customer_id"], world.customer);
    assert_eq!(job["assets"][0]["asset_id"], 1);
    // A higher one can be reached again, and so can the same after a reset.
    set("800");
    assert_eq!(read("900", "2026-01-08")["job_id"], 2);
    assert_eq!(
        reset(&world, "2026-01-09T00:00:00Z", "0"),
        Ok(Applied::Created)
    );
    // Without a location there is nowhere to go to.
    server.put("/assets?id=1", &json!({"location_id": null}));
    assert_eq!(
        read("800", "2026-01-10"),
        json!({"crossed": true, "action": "create_job", "job_id": null})
    );
    assert_eq!((jobs(), alerts(server)), (json!(2), 3));
}

#[test]
fn an_alert_makes_no_job() {
    let world = World::start();
    let meter = world.meter(&world.asset(), |new| {
        new.threshold_value = Some(amount("10"));
    });
    let answer = world.read(1, meter, "10", "2026-01-01").expect(201);
    assert_eq!(
        answer["threshold"],
        json!({"crossed": true, "action": "alert", "job_id": null})
    );
    assert_eq!(world.server.get("/jobs")["pagination"]["total"], 0);
    assert_eq!(alerts(&world.server), 1);
}

/// A server that stops between a reading and what its threshold asks for leaves that to whoever comes next.
#[test]
fn what_a_reading_asks_for_is_done_in_the_end() {
    let disk = SimulatedDisk::new();
    let mut options = Options::default();
    options.general.disk = Some(disk.clone());
    let world = World::over(Server::start_with(options));
    let server = &world.server;
    let meter = world.meter(&world.asset(), opens_job_at("10"));
    let jobs = || server.get("/jobs")["pagination"]["total"].clone();
    // Noted, but not stored.
    disk.set_space(Some(0));
    let failed = world.read(1, meter, "12", "2026-01-02");
    assert_eq!(refused(&failed).1, "server_error");
    disk.set_space(None);
    let earlier = world.read(1, meter, "5", "2026-01-01").expect(201);
    assert_eq!(earlier["threshold"], Value::Null);
    assert_eq!((jobs(), alerts(server)), (json!(0), 0));
    // Noted and stored, and then it stopped.
    disk.set_space(Some(0));
    assert_eq!(world.read(1, meter, "11", "2026-01-03").status, 500);
    disk.set_space(None);
    store_by_hand(server, "asset-1", meter, "11", "2026-01-03T00:00:00Z");
    let next = world.read(1, meter, "15", "2026-01-04").expect(201);
    assert_eq!(next["threshold"], Value::Null);
    assert_eq!((jobs(), alerts(server)), (json!(1), 1));
    let repeat = world.read(1, meter, "15", "2026-01-04").expect(200);
    assert_eq!(repeat["data"], next["data"]);
    assert_eq!((jobs(), alerts(server)), (json!(1), 1));
}

/// Also if nobody comes: at the next start, once.
#[test]
fn what_a_reading_asks_for_is_done_at_the_next_start() {
    let disk = SimulatedDisk::new();
    let start = |directory| {
        let mut options = Options::default();
        options.general.disk = Some(disk.clone());
        options.general.directory = directory;
        Server::start_with(options)
    };
    let world = World::over(start(None));
    let meters = [1, 2].map(|asset| {
        let meter = world.meter(&world.asset(), opens_job_at("10"));
        // Noted, and then the server stops.
        disk.set_space(Some(0));
        assert_eq!(world.read(asset, meter, "11", "2026-01-03").status, 500);
        disk.set_space(None);
        meter
    });
    // The first was stored before it stopped.
    let at = "2026-01-03T00:00:00Z";
    store_by_hand(&world.server, "asset-1", meters[0], "11", at);
    assert_eq!(alerts(&world.server), 0);
    let server = start(Some(world.server.stop()));
    for _ in 0..2 {
        settle_all(&server.control, &server.engine, &system()).unwrap();
        let jobs = server.get("/jobs");
        assert_eq!(jobs["pagination"]["total"], 1);
        assert_eq!(jobs["data"][0]["assets"][0]["id"], 1);
        assert_eq!(alerts(&server), 1);
    }
}

/// Puts customers into acme until not even one more fits, and then makes room for what a reading writes.
fn fill(server: &Server) {
    let padding = "x".repeat(255);
    let first = json!({"customer_name": "First", "tax_exemption_reason": padding});
    let first = id(&server.post("/customers", &first));
    for name in [padding.as_str(), "A"] {
        let body = json!({"customer_name": name, "tax_exemption_reason": name});
        while server.ask("POST", "/customers", Some(&body)).status == 201 {}
    }
    let path = format!("/customers?id={first}");
    server.put(&path, &json!({"tax_exemption_reason": "x".repeat(105)}));
}

/// A company without room for another job gets its readings all the same, and the alert.
#[test]
fn a_reading_is_stored_where_its_job_does_not_fit() {
    let mut options = Options::default();
    options.general.resource_bytes_max = Some(32 * 1024);
    let world = World::over(Server::start_with(options));
    let server = &world.server;
    let asset = world.asset();
    let set = |threshold: &str| world.meter(&asset, opens_job_at(threshold));
    let meter = set("500");
    fill(server);
    let job = json!({"job_title": "Inspect", "customer_location_id": world.location});
    assert_eq!(
        server.refused("POST", "/jobs", &job),
        invalid(
            "The request body does not fit: an organization's configuration has at most 32768 bytes."
        )
    );
    let crossed = json!({"crossed": true, "action": "create_job", "job_id": null});
    let first = world.read(1, meter, "500", "2026-01-01").expect(201);
    assert_eq!(first["threshold"], crossed);
    assert_eq!(world.current(1), 500);
    let again = world.read(1, meter, "500", "2026-01-01").expect(200);
    assert_eq!(again["data"], first["data"]);
    assert_eq!(again["threshold"], crossed);
    let next = world.read(1, meter, "510", "2026-01-02").expect(201);
    assert_eq!(next["threshold"], Value::Null);
    set("600");
    let next = world.read(1, meter, "600", "2026-01-03").expect(201);
    assert_eq!(next["threshold"], crossed);
    let settled = settle_all(&server.control, &server.engine, &system());
    assert_eq!(settled.map_err(|fault| fault.kind), Ok(()));
    assert_eq!(server.get("/jobs")["pagination"]["total"], 0);
    assert_eq!(alerts(server), 2);
}

/// A fault that comes after the reading was stored is none of the reading's, nor of later ones.
#[test]
fn what_a_reading_asks_for_may_fail_for_a_while() {
    let world = World::start();
    let server = &world.server;
    let meter = world.meter(&world.asset(), opens_job_at("10"));
    let database = rusqlite::Connection::open(server.control.path()).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON resources WHEN NEW.kind = 'fsm-navigator/job' \
             BEGIN SELECT RAISE(ABORT, 'no jobs'); END",
        )
        .unwrap();
    let mut crossed = json!({"crossed": true, "action": "create_job", "job_id": null});
    let first = world.read(1, meter, "11", "2026-01-01").expect(201);
    assert_eq!(first["threshold"], crossed);
    let next = world.read(1, meter, "12", "2026-01-02").expect(201);
    assert_eq!(next["threshold"], Value::Null);
    assert_eq!(alerts(server), 0);
    // One that reaches the threshold anew would take the place of the first.
    let reset_at = "2026-01-03T00:00:00Z";
    assert_eq!(reset(&world, reset_at, "0"), Ok(Applied::Created));
    let message = "An internal error occurred.";
    assert_eq!(
        refused(&world.read(1, meter, "10", "2026-01-04")),
        refusal(500, "server_error", message)
    );
    assert_eq!(world.current(1), 0);
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    let again = world.read(1, meter, "11", "2026-01-01").expect(200);
    crossed["job_id"] = json!(1);
    assert_eq!(again["threshold"], crossed);
    let jobs = server.get("/jobs")["pagination"]["total"].clone();
    assert_eq!((jobs, alerts(server)), (json!(1), 1));
    let anew = world.read(1, meter, "10", "2026-01-04").expect(201);
    assert_eq!(anew["threshold"]["job_id"], 2);
}

/// What a reading of an asset is in the engine, without its attributes.
fn store_by_hand(server: &Server, subject: &str, meter: u64, value: &str, at: &str) {
    let at = Timestamp::parse(at).unwrap();
    let store = server.control.store();
    let found = store.find_by_key::<Meter>(server.acme, "name", "engine_hours");
    let id = format!("reading-{meter}-{}-{value}", at.seconds());
    let measurement = Measurement {
        id: MeasurementId::new(id).unwrap(),
        meter: MeterId(found.unwrap().unwrap().id),
        subject: Subject::new(subject).unwrap(),
        time: at,
        end_time: None,
        values: vec![(
            meterd_model::FieldName::new("reading").unwrap(),
            value.parse().unwrap(),
        )],
        attributes: Vec::new(),
    };
    let batch = Batch {
        organization: server.acme,
        received: at,
        measurements: vec![measurement],
        on_conflict: OnConflict::Reject,
    };
    server.engine.submit(batch).unwrap().wait().unwrap();
}
