//! Devices: who sees which, and what of them.

use crate::world::{FOREIGN, HOUSE, MODBUS, Options, SHED, SWITCHED, World, assert_fault, at};
use meterd_model::Timestamp;
use meterd_surface_wattwatchers::{KeySees, Level};
use meterd_testkit::client::get;
use serde_json::{Value, json};

const NO_CREDENTIALS: &str =
    "You must provide a valid Authorization header value to access this endpoint.";
const NOT_PERMITTED: &str =
    "You are not permitted to access this endpoint with the provided token.";
const BAD_SERIAL: &str =
    "Serial numbers must be 13 characters in length, starting with a B, D, E, F.";

/// [1, 2, 3]
#[test]
fn without_a_usable_header_there_is_no_access() {
    let world = World::start();
    let bare = get(at("/devices"));
    for request in [
        bare.clone(),
        bare.clone().header("Authorization", ""),
        bare.clone().header("Authorization", "Bearer"),
        bare.clone().header("Authorization", "Bearer "),
        bare.clone().header("Authorization", "Basic abc"),
        bare.clone().header("Authorization", &world.key),
    ] {
        let answer = world.send(&request);
        assert_fault(&answer, 401, "UNAUTHORIZED", NO_CREDENTIALS);
    }
}

/// [4, 5]
#[test]
fn an_unknown_key_is_not_permitted_and_the_scheme_has_no_case() {
    let world = World::start();
    for key in ["key_00000000000000000000000000000000", "garbage"] {
        let answer = world.get_as(key, "/devices");
        assert_fault(&answer, 403, "NOT_PERMITTED", NOT_PERMITTED);
    }
    let lower = format!("bearer  {} ", world.key);
    let answer = world.send(&get(at("/devices")).header("Authorization", &lower));
    assert_eq!(answer.expect(200), json!([SHED, HOUSE, SWITCHED, MODBUS]));
    let upper = world.key.to_uppercase();
    assert_eq!(world.get_as(&upper, "/devices").status, 403);
}

/// A5
#[test]
fn a_disabled_key_is_unauthorized() {
    let world = World::start();
    let key = world.key_for(&[HOUSE], &[]);
    let credentials = world.control.credentials();
    let id = (credentials.authenticate("wattwatchers", &key, meterd_testkit::now()))
        .unwrap()
        .id;
    credentials.disable(id, &meterd_testkit::system()).unwrap();
    let message = "The provided API key has been disabled.";
    assert_fault(
        &world.get_as(&key, "/devices"),
        401,
        "UNAUTHORIZED",
        message,
    );
}

/// [6, 7]
#[test]
fn the_root_answers_anybody_and_unknown_paths_are_not_found() {
    let world = World::start();
    let mut status = world.send(&get("/wattwatchers/")).expect(200);
    let time = status["time"].take();
    let time = time.as_str().unwrap();
    assert!(time.ends_with("+00:00") && time.len() == 25, "{time}");
    let second = Timestamp::parse_iso(time).unwrap().seconds();
    let now = meterd_testkit::now().seconds();
    assert!((now - 60..=now).contains(&second), "{time}");
    assert_eq!(
        status,
        json!({"status": "ok", "time": null, "version": env!("CARGO_PKG_VERSION")})
    );
    let message = "The requested resource could not be found.";
    let answer = world.send(&get(at("/nonsense")));
    assert_fault(&answer, 404, "NOT_FOUND", message);
}

/// [8, 9]
#[test]
fn a_key_lists_its_devices_by_serial_number() {
    let world = World::start();
    assert_eq!(
        world.get("/devices").expect(200),
        json!([SHED, HOUSE, SWITCHED, MODBUS])
    );
    let two = world.key_for(&[SWITCHED, SHED], &[]);
    let answer = world.get_as(&two, "/devices");
    assert_eq!(answer.expect(200), json!([SHED, SWITCHED]));
    let none = world.key_for(&[], &[]);
    assert_eq!(world.get_as(&none, "/devices").expect(200), json!([]));
}

/// [10, 11]
#[test]
fn a_device_is_shown_whole_without_empty_members() {
    let world = World::start();
    let channel = |n: u8| {
        json!({
            "id": format!("{SHED}_C{n}"),
            "label": format!("Channel {n}"),
            "categoryId": -1,
            "categoryLabel": "Not set",
            "ctRating": 60,
        })
    };
    assert_eq!(
        world.get(&format!("/devices/{SHED}")).expect(200),
        json!({
            "id": SHED,
            "model": "3M",
            "shortEnergyReportingInterval": 30,
            "comms": {"type": "cellular"},
            "channels": [channel(1), channel(2), channel(3)],
            "phases": {"count": 0, "grouping": []},
        })
    );
    let switched = world.get(&format!("/devices/{SWITCHED}")).expect(200);
    assert_eq!(switched["channels"].as_array().unwrap().len(), 6);
    assert_eq!(
        switched["switches"][2],
        json!({
            "id": format!("{SWITCHED}_S3"),
            "state": "open",
            "label": "Switch 3",
            "contactorType": "NO",
            "closedStateLabel": "On",
            "openStateLabel": "Off",
        })
    );
}

/// [12, 13]
#[test]
fn a_device_that_nobody_has_is_told_from_somebody_elses() {
    let world = World::start();
    let nobodys = "D000000000000";
    let message = format!("{nobodys} could not be found.");
    let answer = world.get(&format!("/devices/{nobodys}"));
    assert_fault(&answer, 404, "NOT_FOUND", &message);
    let refused = |id| format!("You don't have permission to access device {id}.");
    let answer = world.get(&format!("/devices/{FOREIGN}"));
    assert_fault(&answer, 403, "FORBIDDEN", &refused(FOREIGN));
    // Of the same account, but not the key's.
    let key = world.key_for(&[HOUSE], &Level::ALL);
    let answer = world.get_as(&key, &format!("/devices/{SHED}"));
    assert_fault(&answer, 403, "FORBIDDEN", &refused(SHED));
}

#[test]
fn foreign_devices_can_be_masked() {
    let mut options = Options::default();
    options.settings.mask_foreign_devices = true;
    let world = World::start_with(options);
    let key = world.key_for(&[HOUSE], &[]);
    for id in [FOREIGN, SHED] {
        let message = format!("{id} could not be found.");
        let answer = world.get_as(&key, &format!("/devices/{id}"));
        assert_fault(&answer, 404, "NOT_FOUND", &message);
    }
}

/// [14, 15]
#[test]
fn a_malformed_serial_number_is_a_bad_request() {
    let world = World::start();
    for id in [
        "marmaduke",
        "A123456789012",
        "D12345678901",
        "d123456789012",
        "DD1000000000%FF",
    ] {
        for path in ["devices", "long-energy", "short-energy", "modbus"] {
            let answer = world.get(&format!("/{path}/{id}"));
            assert_fault(&answer, 400, "BAD_REQUEST", BAD_SERIAL);
        }
    }
}

/// [16]
#[test]
fn there_are_fourteen_categories() {
    let world = World::start();
    let categories = world.get("/devices/channel-categories").expect(200);
    let labels: Vec<_> = (categories.as_array().unwrap().iter())
        .map(|category| {
            assert_eq!(category.as_object().unwrap().len(), 3);
            assert!(!category["description"].as_str().unwrap().is_empty());
            (
                category["id"].as_i64().unwrap(),
                category["label"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        labels,
        [
            (-1, "Not set"),
            (0, "Not connected"),
            (1, "Grid connect"),
            (2, "Lighting & Power"),
            (3, "Pool pump"),
            (4, "Air conditioning"),
            (5, "Solar generation"),
            (6, "Hot water"),
            (7, "Electric vehicle"),
            (8, "Battery"),
            (9, "Oven"),
            (10, "Lighting"),
            (11, "Power"),
            (12, "Hybrid solar & battery system"),
        ]
    );
}

/// [17]
#[test]
fn every_model_says_what_it_can_do() {
    let world = World::start();
    let models = world.get("/devices/models").expect(200);
    let models: Vec<Value> = models.as_array().unwrap().clone();
    for (code, channels, switches, communications) in [
        ("3M", 3, 0, "cellular"),
        ("6M", 6, 0, "cellular"),
        ("6M+One", 6, 0, "cellular"),
        ("6M+3SW", 6, 3, "cellular"),
        ("6MW-CER", 6, 1, "cellular+wifi"),
        ("6MW", 6, 0, "cellular+wifi"),
        ("6W", 6, 0, "wifi"),
        ("6W+3SW", 6, 3, "wifi"),
        ("3RM", 3, 0, "cellular"),
        ("3RM+3SW", 3, 3, "cellular"),
        ("6M4+3SW", 6, 3, "cellular"),
    ] {
        let expected = json!({
            "code": code,
            "displayName": format!("Auditor {code}"),
            "channelsCount": channels,
            "switchesCount": switches,
            "communications": communications,
        });
        assert!(models.contains(&expected), "{expected}");
    }
    assert_eq!(models.len(), 11);
}

#[test]
fn reading_and_sending_need_keys_of_their_own() {
    let world = World::start();
    let lacks = |permission| format!("The credentials lack the permission {permission}.");
    let answer = world.get_as(&world.feed, "/devices");
    assert_fault(&answer, 403, "FORBIDDEN", &lacks("devices:read"));
    let path = format!("/ingest/v1/devices/{HOUSE}/long-energy");
    let answer = world.post(&path, &json!([]));
    assert_fault(&answer, 403, "FORBIDDEN", &lacks("ingest:write"));
    let all = world.new_key(&[], KeySees::All);
    assert_eq!(world.get_as(&all, "/devices").status, 200);
}

/// [31]
#[test]
fn other_methods_are_refused_with_those_that_there_are() {
    let world = World::start();
    let path = at(&format!("/devices/{HOUSE}"));
    let answer = world.send(&meterd_testkit::client::put(path).key(&world.key).json("{}"));
    let message = "This path accepts only GET, PATCH, POST, HEAD.";
    assert_fault(&answer, 405, "METHOD_NOT_ALLOWED", message);
    assert_eq!(answer.header("allow"), Some("GET, PATCH, POST, HEAD"));
}
