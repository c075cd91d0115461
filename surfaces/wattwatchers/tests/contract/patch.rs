//! Changing devices, and what the hardware is asked to do.

use crate::world::{HOUSE, MODBUS, SHED, SWITCHED, World, assert_fault, at};
use meterd_surface_wattwatchers::Level;
use meterd_testkit::client::{Answer, patch, post};
use serde_json::{Value, json};

fn device(id: &str) -> String {
    format!("/devices/{id}")
}

/// Holds a refused body to all its errors, of which the first of the lowest status leads.
#[track_caller]
fn assert_refused(answer: &Answer, errors: &[(u16, &str)]) {
    let error = |(status, message): &(u16, &str)| {
        let code = if *status == 400 {
            "BAD_REQUEST"
        } else {
            "UNPROCESSABLE_ENTITY"
        };
        json!({"code": code, "httpCode": status, "message": message})
    };
    let status = errors.iter().map(|(status, _)| *status).min().unwrap();
    let leading = errors.iter().find(|(known, _)| *known == status).unwrap();
    let mut expected = error(leading);
    expected["errors"] = errors.iter().map(error).collect();
    assert_eq!(answer.expect(status), expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// [18]
#[test]
fn a_body_must_say_that_it_is_json() {
    let world = World::start();
    let message = "The Content-Type header must be 'application/json'.";
    for request in [
        patch(at(&device(HOUSE))).body("{}"),
        patch(at(&device(HOUSE))).typed("text/plain", "{}"),
        patch(at(&device(HOUSE))).typed("application/merge-patch+json", "{}"),
        post(at(&device(HOUSE))).typed("application/x-www-form-urlencoded", "label=x"),
        // Before anything else is looked at.
        patch(at("/devices/marmaduke")).typed("text/plain", "{"),
    ] {
        let answer = world.send(&request.key(&world.key));
        assert_fault(&answer, 400, "BAD_REQUEST", message);
    }
    let answer = world.send(
        &patch(at(&device(HOUSE)))
            .key(&world.key)
            .json("{\"label\":"),
    );
    assert_fault(
        &answer,
        400,
        "BAD_REQUEST",
        "The request body is not valid JSON: EOF while parsing a value at line 1, column 9.",
    );
}

/// [19, 20, 32]
#[test]
fn a_label_and_a_zone_apply_at_once() {
    let world = World::start();
    let body = json!({"id": HOUSE, "label": "Home", "timezone": "Australia/Sydney"});
    let mut expected = world.get(&device(HOUSE)).expect(200);
    expected["label"] = json!("Home");
    expected["timezone"] = json!("Australia/Sydney");
    for request in [patch(at(&device(HOUSE))), post(at(&device(HOUSE)))] {
        let request = request.typed("Application/JSON; charset=utf-8", body.to_string());
        let changed = world.send(&request.key(&world.key)).expect(200);
        assert_eq!(changed, expected);
        assert_eq!(changed, world.get(&device(HOUSE)).expect(200));
    }
    let cleared = world
        .patch(&device(HOUSE), &json!({"label": ""}))
        .expect(200);
    assert_eq!(cleared.get("label"), None);
}

/// [21, 22, 26, 28, 30]
#[test]
fn every_fault_of_a_body_is_told_and_nothing_of_it_applied() {
    let world = World::start();
    let before = world.get(&device(HOUSE)).expect(200);
    let long = "x".repeat(65);
    let channel = |member: &str, value: Value| json!({"channels": [{"id": format!("{HOUSE}_C1"), member: value}]});
    let ids: Vec<_> = (1..=6).map(|n| format!("{HOUSE}_C{n}")).collect();
    let one_of_ids = format!("must be one of {}.", ids.join(", "));
    let cases: Vec<(Value, Vec<(u16, String)>)> = vec![
        (json!([]), vec![(400, "The body must be an object.".into())]),
        (
            json!({"label": long}),
            vec![(422, "label must have at most 64 characters.".into())],
        ),
        (json!({"label": 5}), vec![(400, "label must be a string.".into())]),
        (
            json!({"timezone": "Mars/X", "label": ["x"]}),
            vec![
                (400, "label must be a string.".into()),
                (
                    422,
                    "timezone must be an IANA time zone name, such as Europe/Berlin.".into(),
                ),
            ],
        ),
        (
            json!({"id": "marmaduke", "label": "fine"}),
            vec![(
                400,
                "Serial numbers must be 13 characters in length, starting with a B, D, E, F.".into(),
            )],
        ),
        (json!({"id": SHED}), vec![(422, "id cannot be changed.".into())]),
        (
            channel("ctRating", json!(61)),
            vec![(
                422,
                "channels[0].ctRating must be one of 60, 120, 200, 400, 600.".into(),
            )],
        ),
        (
            channel("ctRating", json!("60")),
            vec![(400, "channels[0].ctRating must be an integer.".into())],
        ),
        (
            channel("categoryId", json!(13)),
            vec![(
                422,
                "channels[0].categoryId must be one of -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.".into(),
            )],
        ),
        (
            json!({"channels": [{"label": "a"}, {"id": "D123456789012_C7"}, 5]}),
            vec![
                (400, "channels[0].id is required.".into()),
                (422, format!("channels[1].id {one_of_ids}")),
                (400, "channels[2] must be an object.".into()),
            ],
        ),
        (
            json!({"channels": [{"id": ids[0]}, {"id": ids[0]}]}),
            vec![(422, "channels[1].id must not be given twice.".into())],
        ),
        (
            json!({"switches": [{"id": "D123456789012_S1", "state": "closed"}]}),
            vec![(
                422,
                "switches must not be given: the device's model has no switches.".into(),
            )],
        ),
        (
            json!({"phases": {"count": 4}}),
            vec![(422, "phases.count must be between 0 and 3.".into())],
        ),
        (
            json!({"phases": {"count": 3, "grouping": [{"included": [ids[0], format!("{SHED}_C1")]}]}}),
            vec![(422, format!("phases.grouping[0].included[1] {one_of_ids}"))],
        ),
        (
            json!({"phases": {"count": 3, "grouping": [{"included": [ids[0]]}, {"included": [ids[1], ids[0]]}]}}),
            vec![(422, "phases.grouping[1].included[1] must not be given twice.".into())],
        ),
        (
            json!({"phases": {"count": 1, "grouping": [{"included": [ids[0], ids[1]]}]}}),
            vec![(422, "phases.grouping[0].included must not have more channels than phases.count.".into())],
        ),
        (
            json!({"phases": {"grouping": [{"included": [ids[0]]}]}}),
            vec![(422, "phases.grouping must be empty while phases.count is 0.".into())],
        ),
        (
            json!({"comms": {"wifi": {"ssid": "home", "psk": "password"}}}),
            vec![(
                422,
                "comms.wifi must not be given: the device's model takes no network.".into(),
            )],
        ),
    ];
    for (body, errors) in cases {
        let answer = world.patch(&device(HOUSE), &body);
        let errors: Vec<_> = errors.iter().map(|(s, m)| (*s, m.as_str())).collect();
        assert_refused(&answer, &errors);
    }
    assert_eq!(world.get(&device(HOUSE)).expect(200), before);
}

/// [28]
#[test]
fn a_model_with_modbus_has_nothing_to_switch() {
    let world = World::start();
    let before = world.get(&device(MODBUS)).expect(200);
    let switch = json!({"id": format!("{MODBUS}_S1"), "state": "closed"});
    let body = json!({"label": "Barn", "switches": [switch]});
    let message = "switches must not be given: the device's model has no switches.";
    assert_refused(&world.patch(&device(MODBUS), &body), &[(422, message)]);
    assert_eq!(world.get(&device(MODBUS)).expect(200), before);
}

/// Programs write `null` for what they were not given.
#[test]
fn members_that_are_null_ask_for_nothing() {
    let world = World::start();
    let body = json!({"label": "Barn", "phases": {"count": 1}});
    let before = world.patch(&device(SWITCHED), &body).expect(200);
    let (channel, switch) = (format!("{SWITCHED}_C1"), format!("{SWITCHED}_S1"));
    for body in [
        json!({"id": null, "label": null, "timezone": null, "channels": null, "switches": null, "phases": null,
               "comms": null, "pending": null, "firmwareVersion": null}),
        json!({
            "channels": [{"id": channel, "label": null, "categoryId": null, "ctRating": null, "pending": null}],
            "switches": [{"id": switch, "state": null, "label": null, "contactorType": null, "closedStateLabel": null,
                          "openStateLabel": null}],
            "phases": {"count": null, "grouping": null},
            "comms": {"wifi": null},
        }),
    ] {
        assert_eq!(world.patch(&device(SWITCHED), &body).expect(200), before);
    }
    // What has to be there is not.
    for (body, message) in [
        (
            json!({"channels": [{"id": null}]}),
            "channels[0].id is required.",
        ),
        (
            json!({"phases": {"grouping": [{"included": null}]}}),
            "phases.grouping[0].included is required.",
        ),
    ] {
        assert_refused(&world.patch(&device(SWITCHED), &body), &[(400, message)]);
    }
}

/// [23]
#[test]
fn a_device_sent_back_as_it_was_given_changes_nothing() {
    let world = World::start();
    world.patch(
        &device(SWITCHED),
        &json!({
            "label": "Barn",
            "channels": [{"id": format!("{SWITCHED}_C2"), "ctRating": 200}],
            "switches": [{"id": format!("{SWITCHED}_S1"), "state": "closed"}],
            "phases": {"count": 3, "grouping": [{"included": [format!("{SWITCHED}_C3"), format!("{SWITCHED}_C1")]}]},
        }),
    );
    let given = world.get(&device(SWITCHED)).expect(200);
    assert_eq!(given["switches"][0]["pending"], json!({"state": "closed"}));
    // A key that may do little may send back what it may not change.
    let key = world.key_for(&[SWITCHED], &[Level::Metadata]);
    let revision = || {
        let store = world.control.store();
        store.revision::<meterd_control::Meter>(world.acme)
    };
    let before = revision();
    let answer = world.patch_as(&key, &device(SWITCHED), &given);
    assert_eq!(answer.expect(200), given);
    assert_eq!(revision(), before);
    let mut edited = given.clone();
    edited["channels"][0]["label"] = json!("Kitchen");
    let changed = world.patch_as(&key, &device(SWITCHED), &edited).expect(200);
    assert_eq!(changed, edited);
}

/// [24]
#[test]
fn a_category_brings_its_label() {
    let world = World::start();
    let mut expected = world.get(&device(HOUSE)).expect(200);
    let body = json!({"channels": [{"id": format!("{HOUSE}_C2"), "categoryId": 5, "categoryLabel": "Mine"}]});
    let changed = world.patch(&device(HOUSE), &body).expect(200);
    expected["channels"][1]["categoryId"] = json!(5);
    expected["channels"][1]["categoryLabel"] = json!("Solar generation");
    assert_eq!(changed, expected);
}

/// [25, 27]
#[test]
fn what_the_hardware_has_to_do_waits_for_its_word() {
    let world = World::start();
    let (channel, switch) = (format!("{SWITCHED}_C1"), format!("{SWITCHED}_S2"));
    let mut expected = world.get(&device(SWITCHED)).expect(200);
    let asked = world.patch(
        &device(SWITCHED),
        &json!({
            "channels": [{"id": channel, "ctRating": 120}],
            "switches": [{"id": switch, "state": "closed", "label": "Pump", "contactorType": "NC"}],
        }),
    );
    expected["channels"][0]["pending"] = json!({"ctRating": 120});
    expected["switches"][1] = json!({
        "id": switch, "state": "open", "label": "Pump", "contactorType": "NC", "closedStateLabel": "On",
        "openStateLabel": "Off", "pending": {"state": "closed"},
    });
    assert_eq!(asked.expect(200), expected);
    let interval = json!({"shortEnergyReportingInterval": 5});
    let path = format!("{}/reporting-interval", device(SWITCHED));
    let asked = world.post(&path, &interval).expect(200);
    assert_eq!(asked["pending"], interval);
    assert_eq!(asked["shortEnergyReportingInterval"], 30);

    let feed = |path: &str| format!("/wattwatchers/ingest/v1/devices/{SWITCHED}/commands{path}");
    let fetch = || {
        let request = meterd_testkit::client::get(feed("")).key(&world.feed);
        let mut commands = world.send(&request).expect(200)["commands"].take();
        for command in commands.as_array_mut().unwrap() {
            let requested = command.as_object_mut().unwrap().remove("requestedAt");
            assert!(requested.unwrap().as_i64().unwrap() > 1_700_000_000);
        }
        commands
    };
    assert_eq!(
        fetch(),
        json!([
            {"n": 1, "type": "ctRating", "target": channel, "value": 120},
            {"n": 2, "type": "switch", "target": switch, "value": "closed"},
            {"n": 3, "type": "shortEnergyReportingInterval", "target": SWITCHED, "value": 5},
        ])
    );
    let acknowledge = |n: &str| {
        let path = feed(&format!("/{n}/ack"));
        world.send(&post(path).key(&world.feed))
    };
    let is_now = |answer: Answer, expected: &Value| {
        let mut shown = answer.expect(200);
        let heard = shown["comms"].as_object_mut().unwrap();
        let heard = heard.remove("lastHeardAt").unwrap().as_i64().unwrap();
        assert!(heard > 1_700_000_000);
        assert_eq!(shown, *expected);
    };
    expected["pending"] = interval;
    let pump = expected["switches"][1].as_object_mut().unwrap();
    pump.remove("pending");
    pump["state"] = json!("closed");
    is_now(acknowledge("2"), &expected);
    is_now(world.get(&device(SWITCHED)), &expected);
    expected.as_object_mut().unwrap().remove("pending");
    expected["shortEnergyReportingInterval"] = json!(5);
    is_now(acknowledge("3"), &expected);
    for n in ["2", "0", "x", "99999999999999999999"] {
        let message = format!("command {n} could not be found.");
        assert_fault(&acknowledge(n), 404, "NOT_FOUND", &message);
    }
    is_now(world.get(&device(SWITCHED)), &expected);
    assert_eq!(fetch().as_array().unwrap().len(), 1);
}

#[test]
fn a_newer_wish_replaces_the_older_and_one_for_what_is_so_takes_it_back() {
    let world = World::start();
    let switch = format!("{SWITCHED}_S1");
    let ask = |state: &str| {
        let body = json!({"id": SWITCHED, "switches": [{"id": switch, "state": state}]});
        world.patch(&device(SWITCHED), &body).expect(200)["switches"][0].take()
    };
    assert_eq!(ask("open").get("pending"), None);
    assert_eq!(ask("closed")["pending"], json!({"state": "closed"}));
    assert_eq!(ask("closed")["pending"], json!({"state": "closed"}));
    assert_eq!(ask("open").get("pending"), None);
    assert_eq!(ask("closed")["pending"], json!({"state": "closed"}));
    // The hardware can tell as well without being asked.
    let status = json!({"switches": [{"id": switch, "state": "closed"}]});
    world.feed(SWITCHED, "/status", &status).expect(200);
    let shown = world.get(&device(SWITCHED)).expect(200)["switches"][0].take();
    assert_eq!(
        (&shown["state"], shown.get("pending")),
        (&json!("closed"), None)
    );
}

/// It may have fetched the command by then.
#[test]
fn what_is_taken_back_is_told_to_the_device_and_shown_to_nobody() {
    let world = World::start();
    let switch = format!("{SWITCHED}_S1");
    let body = |state: &str| json!({"switches": [{"id": switch, "state": state}]});
    for state in ["closed", "open"] {
        world.patch(&device(SWITCHED), &body(state)).expect(200);
    }
    let commands = format!("/wattwatchers/ingest/v1/devices/{SWITCHED}/commands");
    let fetch = || {
        let request = meterd_testkit::client::get(commands.clone()).key(&world.feed);
        world.send(&request).expect(200)["commands"].take()
    };
    let told = fetch();
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(
        (&told[0]["n"], &told[0]["value"]),
        (&json!(2), &json!("open"))
    );
    let shown = world.get(&device(SWITCHED)).expect(200);
    assert_eq!(shown["switches"][0].get("pending"), None);
    // Sent back by a key that may not switch, it asks for nothing.
    let key = world.key_for(&[SWITCHED], &[Level::Metadata]);
    world.patch_as(&key, &device(SWITCHED), &shown).expect(200);
    assert_eq!(fetch(), told);
    // The device had closed it already.
    let shown = world.feed(SWITCHED, "/status", &body("closed"));
    shown.expect(200);
    let shown = world.get(&device(SWITCHED)).expect(200)["switches"][0].take();
    assert_eq!(shown["pending"], json!({"state": "open"}));
    let acknowledged = world.send(&post(format!("{commands}/2/ack")).key(&world.feed));
    let shown = acknowledged.expect(200)["switches"][0].take();
    assert_eq!(
        (&shown["state"], shown.get("pending")),
        (&json!("open"), None)
    );
    assert_eq!(fetch(), json!([]));
}

/// [29]
#[test]
fn each_member_needs_its_level() {
    let world = World::start();
    let read_only = world.key_for(&[SWITCHED], &[]);
    let metadata = world.key_for(&[SWITCHED], &[Level::Metadata]);
    let configuration = world.key_for(&[SWITCHED], &[Level::Configuration]);
    let switching = world.key_for(&[SWITCHED], &[Level::Switching]);
    let (channel, switch) = (format!("{SWITCHED}_C1"), format!("{SWITCHED}_S1"));
    let bodies = [
        (json!({"label": "x"}), &metadata),
        (json!({"timezone": "UTC"}), &metadata),
        (
            json!({"channels": [{"id": channel, "label": "x"}]}),
            &metadata,
        ),
        (
            json!({"channels": [{"id": channel, "categoryId": 1}]}),
            &metadata,
        ),
        (json!({"phases": {"count": 1}}), &metadata),
        (
            json!({"channels": [{"id": channel, "ctRating": 120}]}),
            &configuration,
        ),
        (
            json!({"switches": [{"id": switch, "contactorType": "NC"}]}),
            &configuration,
        ),
        (
            json!({"switches": [{"id": switch, "state": "closed"}]}),
            &switching,
        ),
        (
            json!({"switches": [{"id": switch, "openStateLabel": "x"}]}),
            &metadata,
        ),
    ];
    let message = format!("You don't have permission to update device {SWITCHED}.");
    for (body, needed) in &bodies {
        for key in [&read_only, &metadata, &configuration, &switching] {
            if key != *needed {
                let answer = world.patch_as(key, &device(SWITCHED), body);
                assert_fault(&answer, 403, "FORBIDDEN", &message);
            }
        }
        world.patch_as(needed, &device(SWITCHED), body).expect(200);
    }
    // Whoever may not change it is not told what is wrong with it; and nobody without a level is let near.
    let bad = json!({"switches": [{"id": switch, "state": 5}]});
    let answer = world.patch_as(&metadata, &device(SWITCHED), &bad);
    assert_fault(&answer, 403, "FORBIDDEN", &message);
    let answer = world.patch_as(&read_only, &device(SWITCHED), &json!({}));
    assert_fault(&answer, 403, "FORBIDDEN", &message);
    world
        .patch_as(&metadata, &device(SWITCHED), &json!({}))
        .expect(200);
    // Taking a wish back is switching too.
    let asked = json!({"switches": [{"id": switch, "state": "closed"}]});
    world
        .patch_as(&switching, &device(SWITCHED), &asked)
        .expect(200);
    let back = json!({"switches": [{"id": switch, "state": "open"}]});
    let answer = world.patch_as(&metadata, &device(SWITCHED), &back);
    assert_fault(&answer, 403, "FORBIDDEN", &message);
}

#[test]
fn a_reporting_interval_has_bounds_and_a_level() {
    let world = World::start();
    let path = format!("{}/reporting-interval", device(HOUSE));
    let refused = |body: &Value| world.post(&path, body);
    for interval in [4, 296] {
        let message = "shortEnergyReportingInterval must be between 5 and 295.";
        let answer = refused(&json!({"shortEnergyReportingInterval": interval}));
        assert_refused(&answer, &[(422, message)]);
    }
    let message = "shortEnergyReportingInterval is required.";
    assert_refused(&refused(&json!({})), &[(400, message)]);
    let key = world.key_for(&[HOUSE], &[Level::Metadata, Level::Switching]);
    let request = post(at(&path)).key(&key).json("{}");
    let message = format!("You don't have permission to update device {HOUSE}.");
    assert_fault(&world.send(&request), 403, "FORBIDDEN", &message);
}

#[test]
fn a_network_is_told_to_the_device_and_to_nobody_else() {
    let world = World::start();
    let id = "D0000000000W1";
    world.feed_put(id, &json!({"model": "6MW"})).expect(200);
    let wifi = json!({"ssid": "home", "psk": "correct horse"});
    let body = json!({"comms": {"wifi": wifi}});
    let asked = world.patch(&device(id), &body);
    let text = String::from_utf8_lossy(&asked.body).into_owned();
    asked.expect(200);
    assert!(
        !text.contains("correct horse") && !text.contains("pending"),
        "{text}"
    );
    let path = format!("/wattwatchers/ingest/v1/devices/{id}/commands");
    let commands = world
        .send(&meterd_testkit::client::get(path).key(&world.feed))
        .expect(200);
    assert_eq!(commands["commands"][0]["type"], "wifi");
    assert_eq!(commands["commands"][0]["value"], wifi);
    let back = json!({"comms": {"wifi": {"ssid": "", "psk": ""}}});
    world.patch(&device(id), &back).expect(200);
    let odd = json!({"comms": {"wifi": {"ssid": "", "psk": "x"}}});
    assert_refused(
        &world.patch(&device(id), &odd),
        &[(422, "comms.wifi.psk must be empty without a network.")],
    );
}

/// The key is nothing that a device tells, so that of the network it is on already it may have to be told another.
#[test]
fn a_device_that_goes_over_to_a_network_need_not_acknowledge_it() {
    let world = World::start();
    let id = "D0000000000W2";
    world.feed_put(id, &json!({"model": "6MW"})).expect(200);
    let ask = |ssid: &str, psk: &str| {
        let body = json!({"comms": {"wifi": {"ssid": ssid, "psk": psk}}});
        world.patch(&device(id), &body).expect(200);
    };
    let tell = |comms: Value| {
        let status = json!({"comms": comms});
        world.feed(id, "/status", &status).expect(200);
    };
    let waiting = || {
        let path = format!("/wattwatchers/ingest/v1/devices/{id}/commands");
        let request = meterd_testkit::client::get(path).key(&world.feed);
        let commands = world.send(&request).expect(200)["commands"].take();
        commands.as_array().unwrap().len()
    };
    let (home, other) = (
        json!({"type": "wifi", "networkId": "home"}),
        json!({"type": "wifi", "networkId": "other"}),
    );
    let cellular = json!({"type": "cellular", "networkId": "50501"});
    ask("home", "first");
    for (told, left) in [(&cellular, 1), (&other, 1), (&home, 0)] {
        tell(told.clone());
        assert_eq!(waiting(), left, "{told}");
    }
    ask("home", "second");
    tell(home);
    assert_eq!(waiting(), 1);
    ask("", "");
    for (told, left) in [(&other, 1), (&cellular, 0)] {
        tell(told.clone());
        assert_eq!(waiting(), left, "{told}");
    }
}

#[test]
fn the_ratings_of_rogowski_coils_are_what_they_are() {
    let world = World::start();
    let id = "D0000000000R1";
    let made = world.feed_put(id, &json!({"model": "3RM"})).expect(200);
    assert_eq!(made["channels"][0]["ctRating"], 3000);
    let rating = |amperes: u32| {
        let body = json!({"channels": [{"id": format!("{id}_C1"), "ctRating": amperes}]});
        world.patch(&device(id), &body)
    };
    assert_eq!(rating(3000).expect(200), world.get(&device(id)).expect(200));
    assert_refused(
        &rating(120),
        &[(422, "channels[0].ctRating must be one of 3000.")],
    );
    // Whatever the hardware says it has.
    let status = json!({"channels": [{"id": format!("{HOUSE}_C1"), "ctRating": 300}]});
    world.feed(HOUSE, "/status", &status).expect(200);
    let body = json!({"channels": [{"id": format!("{HOUSE}_C1"), "ctRating": 120}]});
    let asked = world.patch(&device(HOUSE), &body).expect(200);
    assert_eq!(asked["channels"][0]["pending"], json!({"ctRating": 120}));
    let body = json!({"channels": [{"id": format!("{HOUSE}_C1"), "ctRating": 300}]});
    let back = world.patch(&device(HOUSE), &body).expect(200);
    assert_eq!(back["channels"][0].get("pending"), None);
}

#[test]
fn phases_are_replaced_whole_and_may_be_in_any_order() {
    let world = World::start();
    let id = |n: u8| format!("{HOUSE}_C{n}");
    let phases = json!({"count": 3, "grouping": [{"included": [id(2), id(4), id(1)]}, {"included": [id(6)]}]});
    let changed = world
        .patch(&device(HOUSE), &json!({"phases": phases}))
        .expect(200);
    assert_eq!(changed["phases"], phases);
    let fewer = json!({"phases": {"grouping": [{"included": [id(5)]}]}});
    let changed = world.patch(&device(HOUSE), &fewer).expect(200);
    assert_eq!(
        changed["phases"],
        json!({"count": 3, "grouping": [{"included": [id(5)]}]})
    );
    let none = json!({"phases": {"count": 0, "grouping": []}});
    let changed = world.patch(&device(HOUSE), &none).expect(200);
    assert_eq!(changed["phases"], none["phases"]);
}

#[test]
fn a_model_without_switches_is_not_asked_to_switch() {
    let world = World::start();
    let body = json!({
        "channels": [{"id": format!("{SWITCHED}_C1"), "ctRating": 120}],
        "switches": [{"id": format!("{SWITCHED}_S1"), "state": "closed"}],
    });
    world.patch(&device(SWITCHED), &body).expect(200);
    world
        .feed_put(SWITCHED, &json!({"model": "6M"}))
        .expect(200);
    let commands = format!("/wattwatchers/ingest/v1/devices/{SWITCHED}/commands");
    let request = meterd_testkit::client::get(commands).key(&world.feed);
    let commands = world.send(&request).expect(200)["commands"].take();
    let kinds: Vec<_> = (commands.as_array().unwrap().iter())
        .map(|command| &command["type"])
        .collect();
    assert_eq!(kinds, [&json!("ctRating")]);
}

#[test]
fn a_device_tells_its_status() {
    let world = World::start();
    let status = json!({
        "firmwareVersion": "49.1.0",
        "comms": {"type": "cellular", "mode": "4G", "cellQuality": 3, "signalQualityDbm": -79, "simId": "8961", "apn": "m2m",
                  "imsi": "505", "networkId": "50501"},
        "shortEnergyReportingInterval": 60,
        "channels": [{"id": format!("{MODBUS}_C1"), "ctRating": 200}],
    });
    let answer = world.feed(MODBUS, "/status", &status).expect(200);
    assert_eq!(
        answer,
        json!({"accepted": 1, "replaced": 0, "rejected": []})
    );
    let mut shown = world.get(&device(MODBUS)).expect(200);
    assert_eq!(shown["firmwareVersion"], "49.1.0");
    assert_eq!(shown["shortEnergyReportingInterval"], 60);
    assert_eq!(shown["channels"][0]["ctRating"], 200);
    assert!(shown["latestStatus"].as_i64().unwrap() > 1_700_000_000);
    let heard = shown["comms"]
        .as_object_mut()
        .unwrap()
        .remove("lastHeardAt");
    assert!(heard.unwrap().as_i64().unwrap() > 1_700_000_000);
    assert_eq!(shown["comms"], status["comms"]);
    let bad = json!({"comms": {"type": "pigeon"}, "switches": [{"id": "x", "state": "open"}]});
    assert_refused(
        &world.feed(MODBUS, "/status", &bad),
        &[
            (
                422,
                "switches[0].id must name a part of the device, which has none of this kind.",
            ),
            (422, "comms.type must be one of cellular, wifi."),
        ],
    );
}

#[test]
fn when_a_device_was_heard_survives_a_restart() {
    let world = World::start();
    world.feed(SHED, "/status", &json!({})).expect(200);
    let before = world.get(&device(SHED)).expect(200);
    let world = world.restart();
    assert_eq!(world.get(&device(SHED)).expect(200), before);
}
