//! Assets (4.3).

use crate::server::{invalid, missing, refusal, refused};
use crate::world::{World, id, ids, technician};
use meterd_surface_fsm_navigator::apply_asset_type;
use meterd_testkit::system;
use serde_json::{Value, json};

#[test]
fn an_asset_needs_a_name() {
    let world = World::start();
    let server = &world.server;
    let (kind, _) =
        apply_asset_type(&server.control, server.live(), "Generator", &system()).unwrap();
    let body = json!({
        "asset_name": " Generator 5 ",
        "asset_type_id": kind,
        "serial_number": "SN-77",
        "condition": "Good",
        "ownership_type": "leased",
        "location_id": world.location,
        "purchase_date": "2024-05-01",
    });
    let answer = server.ask("POST", "/assets", Some(&body)).expect(201);
    let mut asset = answer["asset"].clone();
    assert_eq!(answer["data"], asset);
    let times = (asset["created_at"].clone(), asset["updated_at"].clone());
    let expected = json!({
        "id": 1,
        "asset_id": 1,
        "asset_tag": "AST-000001",
        "asset_name": "Generator 5",
        "asset_type_id": kind,
        "status": "Active",
        "condition": "Good",
        "ownership_type": "leased",
        "serial_number": "SN-77",
        "manufacturer": null,
        "model": null,
        "location_id": world.location,
        "assigned_technician_id": null,
        "purchase_date": "2024-05-01T00:00:00Z",
        "install_date": null,
        "warranty_expiration": null,
        "notes": null,
        "asset_type_name": "Generator",
        "location_name": "Main site",
        "customer_id": world.customer,
        "created_at": times.0,
        "updated_at": times.1,
        "meters": [],
    });
    assert_eq!(asset, expected);
    assert_eq!(server.get("/assets?id=1")["data"], asset);
    assert_eq!(server.get("/assets/1/")["asset"], asset);
    // Those of a list come without their meters.
    asset.as_object_mut().unwrap().remove("meters");
    assert_eq!(server.get("/assets")["data"], json!([asset]));
}

#[test]
fn assets_are_checked_member_by_member() {
    let world = World::start();
    let server = &world.server;
    let with = |member: &str, value: Value| {
        let mut body = json!({"asset_name": "A"});
        body[member] = value;
        server.refused("POST", "/assets", &body)
    };
    assert_eq!(
        server.refused("POST", "/assets", &json!({"asset_name": " ", "status": 5})),
        missing("Missing required field: asset_name.")
    );
    let status = "must be one of Active, Idle, In Maintenance, Pending Install, In Transit, Lost, Non-Compliant, \
                  Decommissioned, Retired";
    let time = "must be an ISO 8601 date or time, such as 2026-01-15T00:00:00Z";
    for (member, value, rule) in [
        ("asset_name", json!(5), "must be a string"),
        ("status", json!("Broken"), status),
        (
            "status",
            json!("Idle"),
            "must be Active or Pending Install for a new asset",
        ),
        ("location_id", json!(99), "must name an existing location"),
        (
            "assigned_technician_id",
            json!(99),
            "must name an existing technician",
        ),
        ("asset_type_id", json!(99), "must name an existing resource"),
        ("install_date", json!("spring"), time),
    ] {
        let message = format!("Invalid value for {member}: {rule}.");
        assert_eq!(with(member, value), invalid(&message), "{member}");
    }
    server.post(
        "/assets",
        &json!({"asset_name": "A", "asset_tag": "T-1", "asset_status": "pending_install"}),
    );
    assert_eq!(
        with("asset_tag", json!("T-1")),
        invalid("Invalid value for asset_tag: another asset has T-1 already.")
    );
    assert_eq!(server.get("/assets")["pagination"]["total"], 1);
}

#[test]
fn an_asset_that_changes_is_shown_with_its_meters() {
    let world = World::start();
    let server = &world.server;
    let meter = world.meter(&world.asset(), |_| {});
    world.read(1, meter, "5", "2026-01-01").expect(201);
    let put = server.put("/assets?id=1", &json!({"notes": "loud"}));
    assert_eq!(put["meters"][0]["current_reading"], 5);
    assert_eq!(put, server.get("/assets?id=1")["data"]);
    let patched = server.patch("/assets?id=1", &json!({"status": "Idle"}));
    assert_eq!(patched["meters"], put["meters"]);
    assert_eq!(patched, server.get("/assets?id=1")["data"]);
}

/// A tag of the usual form that somebody gave to another asset does not stand in the way of new ones.
#[test]
fn the_usual_tag_is_passed_over_if_it_is_taken() {
    let world = World::start();
    let taken = json!({"asset_name": "A", "asset_tag": "AST-000002"});
    assert_eq!(id(&world.server.post("/assets", &taken)), 1);
    let asset = world.asset();
    assert_eq!(asset["asset_tag"], "AST-000003");
    assert_eq!(id(&asset), 3);
}

/// Nor do many of them keep the one write waiting that meets them.
#[test]
fn tags_that_were_given_ahead_are_passed_over_in_steps() {
    let world = World::start();
    let server = &world.server;
    for number in 121..=240 {
        let tag = format!("AST-{number:06}");
        server.post("/assets", &json!({"asset_name": "A", "asset_tag": tag}));
    }
    let first = world.asset();
    assert_eq!(id(&first), 220);
    let tag = first["asset_tag"].as_str().unwrap();
    let second = tag.strip_prefix("AST-000220-").unwrap();
    assert!(second.parse::<i64>().unwrap() > 0, "{tag}");
    let next = world.asset();
    assert_eq!((id(&next), &next["asset_tag"]), (241, &json!("AST-000241")));
}

#[test]
fn a_put_changes_what_it_names() {
    let world = World::start();
    let server = &world.server;
    let asset = world.asset();
    let path = format!("/assets?id={}", id(&asset));
    // Nothing is no change.
    assert_eq!(server.put(&path, &json!({})), asset);
    let change =
        json!({"asset_tag": "G-5", "notes": "loud", "status": "idle", "location_id": null});
    let mut expected = asset.clone();
    expected["asset_tag"] = json!("G-5");
    expected["notes"] = json!("loud");
    expected["status"] = json!("Idle");
    for gone in ["location_id", "location_name", "customer_id"] {
        expected[gone] = Value::Null;
    }
    let changed = server.put(&path, &change);
    expected["updated_at"] = changed["updated_at"].clone();
    assert_eq!(changed, expected);
    // Without a tag of its own it has the usual one.
    assert_eq!(
        server.put(&path, &json!({"asset_tag": null}))["asset_tag"],
        asset["asset_tag"]
    );
    assert_eq!(
        server.refused("PUT", &path, &json!({"status": "Lost"})),
        refusal(
            400,
            "invalid_status_transition",
            "Cannot change status from \"Idle\" to \"Lost\"."
        )
    );
    for method in ["PUT", "PATCH"] {
        assert_eq!(
            server.refused(method, "/assets", &json!({})),
            missing("Missing required field: id.")
        );
    }
    assert_eq!(
        server.refused("PATCH", &path, &json!({"reason": "none"})),
        missing("Missing required field: status.")
    );
}

#[test]
fn assets_are_found_by_what_they_are() {
    let world = World::start();
    let server = &world.server;
    let (kind, _) = apply_asset_type(&server.control, server.live(), "Pump", &system()).unwrap();
    let make = |body: Value| id(&server.post("/assets", &body));
    let pump = make(
        json!({"asset_name": "Pump", "asset_type_id": kind, "condition": "Good", "serial_number": "X-9"}),
    );
    let lift = make(
        json!({"asset_name": "Lift", "location_id": world.location, "ownership_type": "Company-owned"}),
    );
    server.patch(
        &format!("/assets?id={lift}"),
        &json!({"status": "In_Maintenance"}),
    );
    let find = |query: &str| ids(&server.get(&format!("/assets?{query}")));
    assert_eq!(find(""), [lift, pump]);
    assert_eq!(find("status=in-maintenance"), [lift]);
    assert_eq!(find(&format!("asset_type_id={kind}")), [pump]);
    assert_eq!(find(&format!("location_id={}", world.location)), [lift]);
    assert_eq!(find("condition=GOOD&status="), [pump]);
    assert_eq!(find("condition=anything"), [0; 0]);
    assert_eq!(find("ownership_type=company-owned"), [lift]);
    for search in ["pum", "ast-000001", "x-9"] {
        assert_eq!(find(&format!("search={search}")), [pump], "{search}");
    }
    assert_eq!(find("search=pum&status=Idle"), [0; 0]);
    assert_eq!(find("per_page=1&page=2"), [pump]);
    assert_eq!(
        server.refused("GET", "/assets?status=odd", &Value::Null).0,
        400
    );
}

/// Every address with an asset's id, asked by another company, with a test key, and for an asset that is not there.
#[test]
fn an_asset_is_its_companys() {
    let world = World::start();
    let server = &world.server;
    let asset = world.asset();
    let (asset_id, meter) = (id(&asset), world.meter(&asset, |_| {}));
    let other = technician(server, "Grace", "Hopper");
    let history = server.get("/assets?id=1&sub=service_history");
    let before = server.get("/assets?id=1")["asset"].clone();
    assert_eq!((asset_id, &history["data"]), (1, &json!([])));
    for (method, sub, body) in [
        ("GET", "", Value::Null),
        ("PUT", "", json!({"asset_name": "stolen"})),
        ("PATCH", "", json!({"status": "Idle"})),
        ("GET", "service_history", Value::Null),
        ("POST", "service", json!({"service_type": "repair"})),
        (
            "POST",
            "meter_reading",
            json!({"meter_id": meter, "reading_value": 1}),
        ),
        ("POST", "transfer", json!({"to_technician_id": other})),
    ] {
        for (key, number) in [
            (&server.rival_key, "1"),
            (&server.test_key, "1"),
            (&server.key, "999"),
            (&server.key, "0"),
            (&server.key, "-1"),
            (&server.key, "one"),
        ] {
            let query = match sub {
                "" => format!("/assets?id={number}"),
                sub => format!("/assets?id={number}&sub={sub}"),
            };
            let path = format!("/assets/{number}/{sub}");
            for address in [query, path] {
                let body = (!body.is_null()).then_some(&body);
                let answer = server.ask_as(key, method, &address, body);
                let expected = refusal(404, "not_found", "Asset not found.");
                assert_eq!(refused(&answer), expected, "{method} {address}");
            }
        }
    }
    assert_eq!(server.get("/assets?id=1")["asset"], before);
    for key in [&server.rival_key, &server.test_key] {
        let list = server.ask_as(key, "GET", "/assets", None).expect(200);
        assert_eq!(list["data"], json!([]));
        // What a body names is not there for others either.
        let body = json!({"asset_name": "A", "location_id": world.location});
        let answer = server.ask_as(key, "POST", "/assets", Some(&body));
        let message = "Invalid value for location_id: must name an existing location.";
        assert_eq!(refused(&answer), invalid(message));
        let made = server.ask_as(key, "POST", "/assets", Some(&json!({"asset_name": "B"})));
        // Each data set counts for itself.
        let number = id(&made.expect(201)["asset"]);
        assert_eq!(number, 1);
        let path = format!("/assets?id={number}&sub=meter_reading");
        let reading = json!({"meter_id": meter, "reading_value": 1});
        let answer = server.ask_as(key, "POST", &path, Some(&reading));
        let expected = refusal(400, "meter_not_found", "Meter not found for this asset.");
        assert_eq!(refused(&answer), expected);
    }
}
