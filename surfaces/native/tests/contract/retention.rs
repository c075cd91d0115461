//! What a meter says of how long its measurements stay.

use crate::pinned::pins;
use crate::server::Server;
use meterd_testkit::client::{post, request};
use serde_json::{Value, json};

fn meter(retention_days: &Value) -> String {
    json!({"name": "kept", "kind": "delta", "values": {"requests": {}}, "retention_days": retention_days})
        .to_string()
}

#[test]
fn a_meter_says_how_long_its_measurements_stay() {
    let server = Server::start();
    let create = |days: Value| server.send(&post("/v1/meters").key(&server.key).json(meter(&days)));
    let change = |days: Value| {
        let put = request("PUT", "/v1/meters/kept").key(&server.key);
        server.send(&put.json(meter(&days)))
    };
    let mut pins = pins("retention");
    for (name, days) in [
        ("none of a day", json!(0)),
        ("too many days", json!(36_501)),
        ("a part of a day", json!(1.5)),
        ("no number", json!("30")),
    ] {
        pins.check(name, &create(days));
    }
    pins.finish();
    assert_eq!(create(json!(36_500)).expect(201)["retention_days"], 36_500);
    assert_eq!(change(json!(1)).expect(200)["retention_days"], 1);
    assert_eq!(server.get("/v1/meters/kept")["retention_days"], 1);
    assert_eq!(
        change(json!(null)).expect(200)["retention_days"],
        Value::Null
    );
    let changed = server.get("/v1/events?limit=1");
    assert_eq!(changed["items"][0]["changed"], json!(["retention_days"]));
}

#[test]
fn a_meter_that_a_surface_manages_says_so_and_can_keep_its_measurements_for_less_long() {
    let server = Server::start().with_meter();
    server.made_by_a_surface("managed");
    assert_eq!(
        server.get("/v1/meters/api_calls")["managed_by"],
        Value::Null
    );
    let mut meter = server.get("/v1/meters/managed");
    assert_eq!(meter["managed_by"], "wattwatchers");
    meter["retention_days"] = json!(30);
    meter["managed_by"] = json!("nobody");
    let put = request("PUT", "/v1/meters/managed").key(&server.key);
    let changed = server.send(&put.json(meter.to_string())).expect(200);
    assert_eq!(changed["retention_days"], 30);
    assert_eq!(changed["managed_by"], "wattwatchers");
}
