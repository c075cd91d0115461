//! Replacing and withdrawing measurements: queries count what is current, the trace keeps what was.

use crate::pinned::pins;
use crate::server::{Server, row_with};
use meterd_testkit::client::{get, post, request};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn send(server: &Server, on_conflict: &str, rows: &[Value]) -> Value {
    let body = json!({"measurements": rows}).to_string();
    let target = format!("/v1/measurements?on_conflict={on_conflict}");
    let sent = post(target).key(&server.key).json(body);
    server.send(&sent).expect(200)
}

fn void(server: &Server, id: &str) -> u16 {
    let target = format!("/v1/measurements/{id}");
    let sent = request("DELETE", target).key(&server.key);
    server.send(&sent).status
}

/// Sum and count of everything, or nothing.
fn totals(server: &Server) -> Value {
    let answer = server.query(&json!({
        "meter": "api_calls", "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "aggregations": [{"function": "sum", "field": "requests"}, {"function": "count"}],
    }));
    answer["rows"][0]["values"].clone()
}

fn with(id: &str, requests: i64) -> Value {
    row_with(id, &json!({"values": {"requests": requests}}))
}

#[test]
fn a_replacement_counts_and_what_it_replaced_is_on_record() {
    let server = Server::start().with_meter();
    assert_eq!(
        send(&server, "replace", &[with("a", 12), with("b", 1)])["accepted"],
        2
    );
    assert_eq!(send(&server, "reject", &[with("a", 13)])["conflict"], 1);
    let answer = send(
        &server,
        "replace",
        &[with("a", 13), with("b", 1), with("c", 5)],
    );
    let counts = ["accepted", "replaced", "duplicate", "conflict", "rejected"];
    assert_eq!(
        counts.map(|name| answer[name].as_u64().unwrap()),
        [1, 1, 1, 0, 0]
    );
    assert_eq!(
        totals(&server),
        json!({"sum(requests)": "19", "count": "3"})
    );
    let trace = server.get("/v1/measurements/a");
    assert_eq!(trace["verdict"], "replaced");
    let versions = trace["versions"].as_array().unwrap();
    let values: Vec<_> = versions
        .iter()
        .map(|version| {
            version["measurement"]["values"]["requests"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(values, ["12", "13"]);
    let events = server.get("/v1/events?type=measurements.replaced");
    assert_eq!(events["items"][0]["data"]["replaced"], 1);
    // Without asking for it, the answer has the members it always had.
    assert_eq!(
        send(&server, "reject", &[with("d", 1)]).get("replaced"),
        None
    );
}

#[test]
fn a_withdrawn_measurement_no_longer_counts() {
    let server = Server::start().with_meter();
    server.ingest(&[with("a", 12), with("b", 1)]);
    assert_eq!(void(&server, "a"), 204);
    assert_eq!(totals(&server), json!({"sum(requests)": "1", "count": "1"}));
    // Twice is once; what never was is not found.
    assert_eq!(void(&server, "a"), 204);
    assert_eq!(void(&server, "nobody"), 404);
    assert_eq!(void(&server, "%20"), 404);
    let trace = server.get("/v1/measurements/a");
    assert_eq!(trace["verdict"], "voided");
    assert_eq!(trace["meter"], "api_calls");
    assert_eq!(trace["counted_in"], json!({}));
    let listed = server.get("/v1/measurements");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // Sent again it does not come back by itself, only when it is meant.
    assert_eq!(send(&server, "reject", &[with("a", 12)])["conflict"], 1);
    assert_eq!(send(&server, "replace", &[with("a", 12)])["replaced"], 1);
    assert_eq!(
        totals(&server),
        json!({"sum(requests)": "13", "count": "2"})
    );
    let events = server.get("/v1/events?type=measurements.voided");
    assert_eq!(events["items"][0]["data"]["voided"], 1);
}

#[test]
fn many_are_withdrawn_at_once() {
    let server = Server::start().with_meter();
    server.ingest(&[with("a", 1), with("b", 2), with("c", 4)]);
    assert_eq!(void(&server, "b"), 204);
    let body = json!({"ids": ["a", "b", "nobody", "a", "c"]}).to_string();
    let answer = server.send(&post("/v1/voids").key(&server.key).json(body));
    assert_eq!(
        answer.expect(200),
        json!({"voided": 2, "already_voided": 2, "not_found": 1, "items": [
            {"index": 1, "id": "b", "outcome": "already_voided"},
            {"index": 2, "id": "nobody", "outcome": "not_found"},
            {"index": 3, "id": "a", "outcome": "already_voided"},
        ]})
    );
    assert_eq!(totals(&server), Value::Null);
}

#[test]
fn bad_withdrawals_change_nothing() {
    let server = Server::start().with_meter();
    server.ingest(&[with("a", 1)]);
    let before = server.contents();
    let mut pins = pins("voids");
    let long = "x".repeat(129);
    let many = vec!["a"; 10_001];
    for (name, body) in [
        ("no ids", json!({})),
        ("empty", json!({"ids": []})),
        ("too many", json!({"ids": many})),
        ("wrong types", json!({"ids": ["a", 5, null, long, ""]})),
        ("no list", json!({"ids": "a"})),
        ("unknown member", json!({"ids": ["a"], "reason": "typo"})),
    ] {
        let answer = server.send(&post("/v1/voids").key(&server.key).json(body.to_string()));
        assert_eq!(answer.status, 422, "{name}");
        pins.check(name, &answer);
    }
    let reader = server.key_with(&["measurements:read"]);
    for sent in [
        request("DELETE", "/v1/measurements/a").key(&reader),
        post("/v1/voids").key(&reader).json(r#"{"ids":["a"]}"#),
        post("/v1/voids")
            .key(&server.admin_key)
            .json(r#"{"ids":["a"]}"#),
        post("/v1/measurements?on_conflict=replace")
            .key(&reader)
            .json(json!({"measurements": [with("a", 2)]}).to_string()),
    ] {
        assert_eq!(server.send(&sent).status, 403);
    }
    let sent = post("/v1/measurements?on_conflict=both")
        .key(&server.key)
        .json(json!({"measurements": [with("a", 2)]}).to_string());
    let answer = server.send(&sent);
    assert_eq!(
        answer.expect(422)["errors"][0]["allowed"],
        json!(["reject", "replace"])
    );
    assert_eq!(server.contents(), before);
    pins.finish();
}

#[test]
fn nobody_withdraws_or_replaces_what_others_sent() {
    let server = Server::start().with_meter();
    server.ingest(&[with("a", 1)]);
    let before = server.contents();
    let rival = &server.rival_key;
    let delete = request("DELETE", "/v1/measurements/a").key(rival);
    assert_eq!(server.send(&delete).status, 404);
    let voids = post("/v1/voids").key(rival).json(r#"{"ids":["a"]}"#);
    assert_eq!(server.send(&voids).expect(200)["not_found"], 1);
    let replace = post("/v1/measurements?on_conflict=replace")
        .key(rival)
        .json(json!({"measurements": [with("a", 7)]}).to_string());
    assert_eq!(server.send(&replace).expect(200)["accepted"], 1);
    assert_eq!(server.contents(), before);
    let theirs = server
        .send(&get("/v1/measurements/a").key(rival))
        .expect(200);
    assert_eq!(
        theirs["versions"][0]["measurement"]["values"]["requests"],
        "7"
    );
}

/// Any order of sending, replacing and withdrawing leaves what a plain map would hold.
#[test]
fn corrections_in_any_order_agree_with_a_map() {
    let server = Server::start().with_meter();
    let mut current: BTreeMap<String, i64> = BTreeMap::new();
    let mut known: BTreeMap<String, i64> = BTreeMap::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: u64| {
        // xorshift64* (Vigna 2016): the same on every run.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    };
    for _ in 0..400 {
        let id = format!("id-{}", draw(25));
        let value = i64::try_from(draw(4)).unwrap();
        match draw(3) {
            0 => {
                let answer = send(&server, "reject", &[with(&id, value)]);
                let expected = match (known.get(&id), current.get(&id)) {
                    (None, _) => "accepted",
                    (_, Some(stored)) if *stored == value => "duplicate",
                    _ => "conflict",
                };
                assert_eq!(answer[expected], 1, "{answer}");
                if expected == "accepted" {
                    current.insert(id.clone(), value);
                    known.insert(id, value);
                }
            }
            1 => {
                let answer = send(&server, "replace", &[with(&id, value)]);
                let expected = match (known.get(&id), current.get(&id)) {
                    (None, _) => "accepted",
                    (_, Some(stored)) if *stored == value => "duplicate",
                    _ => "replaced",
                };
                assert_eq!(answer[expected], 1, "{answer}");
                current.insert(id.clone(), value);
                known.insert(id, value);
            }
            _ => {
                let expected = if known.contains_key(&id) { 204 } else { 404 };
                assert_eq!(void(&server, &id), expected);
                current.remove(&id);
            }
        }
    }
    let answer = server.query(&json!({
        "meter": "api_calls", "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "aggregations": [
            {"function": "sum", "field": "requests"}, {"function": "min", "field": "requests"},
            {"function": "max", "field": "requests"}, {"function": "unique", "field": "requests"}, {"function": "count"},
        ],
    }));
    let mut values: Vec<i64> = current.values().copied().collect();
    values.sort_unstable();
    let sum: i64 = values.iter().sum();
    let count = values.len();
    let (min, max) = (values[0], values[count - 1]);
    values.dedup();
    assert_eq!(
        answer["rows"][0]["values"],
        json!({
            "sum(requests)": sum.to_string(), "min(requests)": min.to_string(), "max(requests)": max.to_string(),
            "unique(requests)": values.len().to_string(), "count": count.to_string(),
        })
    );
    let listed = server.get("/v1/measurements?limit=1000");
    let ids: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), count);
    assert!(ids.iter().all(|id| current.contains_key(*id)));
}
