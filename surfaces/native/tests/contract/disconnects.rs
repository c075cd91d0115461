//! Clients that go away in the middle of a request: what they began is finished or never was.

use crate::server::Server;
use meterd_testkit::client::{Request, connect, post, request};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Sends a request and hangs up after a while.
fn send_and_leave(server: &Server, request: &Request, after: Duration) {
    let mut stream = connect(server.address);
    stream.write_all(&request.bytes()).unwrap();
    std::thread::sleep(after);
}

/// Pauses that fall before, into and after the work of a request.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..24).map(|step| Duration::from_micros(step * 400))
}

#[test]
fn a_key_is_kept_for_a_request_whose_client_left() {
    let server = Server::start();
    for (round, pause) in pauses().enumerate() {
        let body = json!({"name": format!("meter-{round}"), "kind": "delta"}).to_string();
        let create = post("/v1/meters")
            .key(&server.key)
            .header("Idempotency-Key", &format!("round-{round}"))
            .json(body);
        send_and_leave(&server, &create, pause);
        // The first is finished or never began; a repeat is answered as if it were the first.
        let answer = loop {
            let answer = server.send(&create);
            if answer.status != 409 || answer.json()["code"] != "idempotency_in_progress" {
                break answer;
            }
        };
        answer.expect(201);
    }
}

#[test]
fn no_measurement_is_accepted_into_a_meter_that_is_being_deleted() {
    let server = Server::start();
    for (round, pause) in pauses().enumerate() {
        let name = format!("meter-{round}");
        let path = format!("/v1/meters/{name}");
        let meter = json!({"name": name, "kind": "delta", "values": {"requests": {}}}).to_string();
        let create = post("/v1/meters").key(&server.key).json(meter.clone());
        server.send(&create).expect(201);
        let measurement = json!({
            "id": name, "meter": name, "subject": "acct_1", "time": "2026-11-01T00:00:00Z", "values": {"requests": 1},
        });
        let body = json!({"measurements": [measurement]}).to_string();
        let ingest = post("/v1/measurements").key(&server.key).json(body);
        let delete = request("DELETE", &path).key(&server.key);
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| send_and_leave(&server, &delete, pause));
            std::thread::sleep(pause / 2);
            server.send(&ingest)
        });
        // A change of the meter waits for whatever is still going on.
        let change = server.send(&request("PUT", &path).key(&server.key).json(meter));
        match answer.status {
            200 => assert_eq!(
                change.status, 200,
                "round {round}: accepted, and the meter is gone"
            ),
            _ => assert_eq!(answer.json()["errors"][0]["rule"], "unknown_reference"),
        }
    }
}
