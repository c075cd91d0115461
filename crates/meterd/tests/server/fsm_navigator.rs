//! A company of FSM Navigator: keys from the native API, meters from a file, readings over its own API, and what the
//! native one answers of them.

use crate::support::{Home, Server, exchange, new_key, run};
use serde_json::{Value, json};

const METER: &str = r#"
[[organization]]
name = "acme"

[[organization.fsm_navigator.live.meter]]
asset = "AST-000001"
name = "Engine Hours"
unit = "hours"
threshold_value = 100
threshold_action = "create_job"
"#;

const RESET: &str = r#"
[[organization]]
name = "acme"

[[organization.fsm_navigator.live.reset]]
asset = "AST-000001"
meter = "Engine Hours"
at = "2026-02-01T00:00:00Z"
base = 5
"#;

fn apply(home: &Home, toml: &str) {
    let file = home.write("wanted.toml", toml);
    run(&["apply", &file, "--data", &home.data()]).succeeded();
}

fn ask(server: &Server, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "{method} /fsm-navigator/api/v1{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server.connect(), request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn read(server: &Server, key: &str, value: u32, day: &str) {
    let body = json!({"meter_id": 1, "reading_value": value, "reading_date": day});
    let (status, answer) = ask(server, key, "POST", "/assets/1/meter_reading", &body);
    assert_eq!(status, 201, "{answer}");
}

/// As if the server had stopped between the last reading and what its threshold asks for.
fn unsettle(home: &Home) {
    let database = rusqlite::Connection::open(home.path("data/control.sqlite")).unwrap();
    let changed = database.execute(
        "UPDATE resources SET document = json_set(document, '$.crossing.is_settled', json('false')) \
         WHERE kind = 'fsm-navigator/asset-meter' AND json_extract(document, '$.crossing.is_settled')",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn readings_are_asked_for_and_acted_on() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin = server.admin_key();
    let client = server.client(&admin);
    client
        .post("/v1/organizations", &json!({"name": "acme"}))
        .ok();
    let native = new_key(&client, &["*"], &[]).1;
    let scopes = [
        "customers:write",
        "assets:write",
        "assets:meter",
        "jobs:read",
    ];
    let key = json!({
        "organization": "acme", "surface": "fsm-navigator", "name": "app", "permissions": scopes,
    });
    let key = client.post("/v1/credentials", &key).ok();
    let key = key["secret"].as_str().unwrap();
    let location = json!({
        "location_name": "Site", "street": "1 Main St", "city": "Springfield", "state": "IL", "zip": "62701",
    });
    for (path, body) in [
        ("/customers", json!({"customer_name": "Customer"})),
        ("/customers/1/locations", location),
        ("/assets", json!({"asset_name": "Pump", "location_id": 1})),
    ] {
        assert_eq!(ask(&server, key, "POST", path, &body).0, 201, "{path}");
    }
    assert_eq!(server.stop(), Some(0));

    apply(&home, METER);
    let server = Server::start(&home);
    read(&server, key, 10, "2026-01-02");
    read(&server, key, 60, "2026-01-20");
    assert_eq!(server.stop(), Some(0));

    apply(&home, RESET);
    let server = Server::start(&home);
    read(&server, key, 30, "2026-02-10");
    read(&server, key, 120, "2026-03-05");
    let query = json!({
        "meter": "engine_hours", "from": "2026-01-01T00:00:00Z", "to": "2026-04-01T00:00:00Z",
        "window": "month", "aggregations": [{"function": "consumption", "field": "reading"}],
    });
    let answer = server.client(&native).post("/v1/query", &query).ok();
    let rows = answer["rows"].as_array().unwrap().iter();
    let consumed: Vec<_> = rows
        .map(|row| &row["values"]["consumption(reading)"])
        .collect();
    assert_eq!(consumed, ["50", "25", "90"]);
    let jobs = |server: &Server| {
        ask(server, key, "GET", "/jobs", &json!({})).1["pagination"]["total"].take()
    };
    assert_eq!(jobs(&server), 1);
    assert_eq!(server.stop(), Some(0));

    unsettle(&home);
    for _ in 0..2 {
        let server = Server::start(&home);
        assert_eq!(jobs(&server), 2);
        assert_eq!(server.stop(), Some(0));
    }
}
