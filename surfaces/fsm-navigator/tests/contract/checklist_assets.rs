//! Rows of the black-box checklist that are about assets and their readings, each under its number (10).

use crate::server::{invalid, missing, refusal, refused};
use crate::world::{World, id};
use meterd_surface_fsm_navigator::Amount;
use serde_json::{Value, json};

/// A server with an asset, which has a meter.
fn metered() -> (World, u64, u64) {
    let world = World::start();
    let asset = world.asset();
    let meter = world.meter(&asset, |_| {});
    (world, id(&asset), meter)
}

fn transition(from: &str, to: &str) -> (u16, String, String) {
    let message = format!("Cannot change status from \"{from}\" to \"{to}\".");
    refusal(400, "invalid_status_transition", &message)
}

#[track_caller]
fn refuse_status(world: &World, asset: u64, from: &str, to: &str) {
    let path = format!("/assets?id={asset}");
    let before = world.server.get(&path)["asset"].clone();
    let told = world.server.refused("PATCH", &path, &json!({"status": to}));
    assert_eq!(told, transition(from, to));
    assert_eq!(world.server.get(&path)["asset"], before);
}

#[test]
fn row_48_a_new_asset_is_active_and_tagged() {
    let world = World::start();
    for number in 1..=3 {
        let asset = world.asset();
        assert_eq!(asset["status"], "Active");
        assert_eq!(asset["asset_tag"], format!("AST-{number:06}"));
    }
}

#[test]
fn row_49_active_to_idle_to_retired() {
    let world = World::start();
    let mut asset = world.asset();
    let path = format!("/assets?id={}", id(&asset));
    for status in ["Idle", "Retired"] {
        let change = json!({"status": status, "reason": "sold"});
        let changed = world.server.patch(&path, &change);
        asset["status"] = status.into();
        asset["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, asset);
    }
}

#[test]
fn row_50_active_is_not_retired_at_once() {
    let world = World::start();
    refuse_status(&world, id(&world.asset()), "Active", "Retired");
}

#[test]
fn row_51_nothing_comes_back_from_the_end() {
    let world = World::start();
    for (through, end) in [("Idle", "Retired"), ("Lost", "Decommissioned")] {
        let asset = id(&world.asset());
        for status in [through, end] {
            world
                .server
                .patch(&format!("/assets/{asset}"), &json!({"status": status}));
        }
        refuse_status(&world, asset, end, "Active");
    }
}

#[test]
fn row_52_a_reading_an_equal_one_a_higher_one() {
    let (world, asset, meter) = metered();
    for (second, value) in ["10", "10", "11.5"].into_iter().enumerate() {
        let at = format!("2026-01-01T00:00:0{second}Z");
        world.read(asset, meter, value, &at).expect(201);
    }
    assert_eq!(world.current(asset), 11.5);
}

#[test]
fn row_53_a_lower_reading_changes_nothing() {
    let (world, asset, meter) = metered();
    world.read(asset, meter, "1250", "2026-01-01").expect(201);
    assert_eq!(
        refused(&world.read(asset, meter, "1249.9", "2026-01-02")),
        invalid(
            "Invalid value for reading_value: must be greater than or equal to the previous reading (1250)."
        )
    );
    assert_eq!(world.current(asset), 1250);
}

#[test]
fn row_54_the_meter_must_be_the_assets() {
    let (world, asset, _) = metered();
    let others = world.meter(&world.asset(), |_| {});
    for meter in [others, 999] {
        assert_eq!(
            refused(&world.read(asset, meter, "1", "2026-01-01")),
            refusal(400, "meter_not_found", "Meter not found for this asset.")
        );
    }
}

#[test]
fn row_55_an_unknown_asset_comes_first() {
    let (world, _, _) = metered();
    assert_eq!(
        refused(&world.read(999, 999, "1", "2026-01-01")),
        refusal(404, "not_found", "Asset not found.")
    );
}

#[test]
fn row_56_a_reading_has_a_value() {
    let (world, asset, meter) = metered();
    let path = format!("/assets?id={asset}&sub=meter_reading");
    assert_eq!(
        world
            .server
            .refused("POST", &path, &json!({"meter_id": meter})),
        missing("Missing required field: reading_value.")
    );
}

#[test]
fn row_57_a_back_dated_reading_fits_in() {
    let (world, asset, meter) = metered();
    for (value, day) in [("10", 1), ("30", 5)] {
        world
            .read(asset, meter, value, &format!("2026-01-0{day}"))
            .expect(201);
    }
    world.read(asset, meter, "20", "2026-01-03").expect(201);
    assert_eq!(world.current(asset), 30);
    for (value, day, rule) in [
        (
            "19",
            4,
            "greater than or equal to the previous reading (20)",
        ),
        ("31", 4, "less than or equal to the next reading (30)"),
        ("21", 2, "less than or equal to the next reading (20)"),
        ("9", 2, "greater than or equal to the previous reading (10)"),
    ] {
        let answer = world.read(asset, meter, value, &format!("2026-01-0{day}"));
        let message = format!("Invalid value for reading_value: must be {rule}.");
        assert_eq!(refused(&answer), invalid(&message));
    }
    assert_eq!(world.current(asset), 30);
}

#[test]
fn row_58_a_threshold_opens_one_job() {
    let world = World::start();
    let meter = world.meter(&world.asset(), |new| {
        new.threshold_value = Some(Amount::Integer(100));
        new.threshold_action = Some("create_job".to_owned());
    });
    let first = world.read(1, meter, "100", "2026-01-01").expect(201);
    let job = first["threshold"]["job_id"].as_u64().unwrap();
    let job = world.server.get(&format!("/jobs?id={job}"))["job"].clone();
    assert_eq!(job["job_status"], "Pending");
    assert_eq!(job["assets"][0]["id"], 1);
    let second = world.read(1, meter, "120", "2026-01-02").expect(201);
    assert_eq!(second["threshold"], Value::Null);
    assert_eq!(world.server.get("/jobs")["pagination"]["total"], 1);
}

#[test]
fn row_59_a_repeat_is_stored_once() {
    let (world, asset, meter) = metered();
    let first = world.read(asset, meter, "10", "2026-01-01").expect(201);
    world.read(asset, meter, "20", "2026-01-02").expect(201);
    let again = world
        .read(asset, meter, "10.00", "2026-01-01T00:00:00.4Z")
        .expect(200);
    assert_eq!(again["meter_reading"], first["meter_reading"]);
    assert_eq!(again["meter"]["current_reading"], 20);
    let third = world.read(asset, meter, "30", "2026-01-03").expect(201);
    assert_eq!(third["meter_reading"]["reading_id"], 3);
}

#[test]
fn row_60_readings_are_not_listed() {
    let (world, asset, _) = metered();
    let path = format!("/assets?id={asset}&sub=meter_reading");
    let answer = world.server.ask("GET", &path, None);
    assert_eq!(
        refused(&answer),
        refusal(
            405,
            "method_not_allowed",
            "Method GET is not allowed for this endpoint."
        )
    );
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[test]
fn row_61_a_service_is_in_the_history() {
    let (world, asset, _) = metered();
    let record = json!({"service_type": "preventive"});
    let record = world
        .server
        .post(&format!("/assets?id={asset}&sub=service"), &record);
    let history = world
        .server
        .get(&format!("/assets?id={asset}&sub=service_history"));
    assert_eq!(history["data"], json!([record]));
    assert_eq!(
        history["pagination"],
        json!({"page": 1, "per_page": 50, "total": 1, "total_pages": 1})
    );
}

#[test]
fn row_69_of_parallel_readings_the_largest_accepted_counts() {
    let (world, asset, meter) = metered();
    let read = |n: u64| {
        let answer = world.read(asset, meter, &n.to_string(), "2026-01-01");
        if answer.status != 201 {
            assert_eq!(refused(&answer).1, "validation_failed");
        }
        (n, answer.status)
    };
    let told: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=20).map(|n| scope.spawn(move || read(n))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(told.iter().all(|(_, status)| matches!(status, 201 | 400)));
    let accepted = told.iter().filter(|(_, status)| *status == 201);
    let largest = accepted.map(|(n, _)| *n).max();
    assert_eq!(world.current(asset), json!(largest));
}
