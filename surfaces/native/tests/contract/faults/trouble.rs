//! Trouble on the server's side: handlers that panic or hang, overload, storage that is full or fails.

use super::{Case, Group, case, exchange};
use crate::server::{Options, Server, row};
use meterd_engine::testing::{Operation, SimulatedDisk};
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{Request, get, post};
use serde_json::json;

pub(super) const HANDLERS: Group = Group {
    name: "handlers",
    start: || {
        Server::start_with(Options {
            bounds: Bounds {
                in_flight_max: 1,
                body_memory_max_bytes: 64 * 1024,
                ..Bounds::default()
            },
            ..Options::default()
        })
        .with_meter()
    },
    cases: handlers,
    keeps_contents: true,
};

pub(super) const IDEMPOTENT: Group = Group {
    name: "idempotent",
    start: || Server::start().with_meter(),
    cases: idempotent,
    keeps_contents: true,
};

pub(super) const FULL: Group = Group {
    name: "full",
    start: || {
        let disk = SimulatedDisk::new();
        let server = on(&disk);
        disk.set_space(Some(0));
        server
    },
    cases: || vec![case("a batch", Code::StorageFull, batch)],
    keeps_contents: true,
};

pub(super) const UNAVAILABLE: Group = Group {
    name: "unavailable",
    start: || {
        let disk = SimulatedDisk::new();
        let server = on(&disk);
        disk.fail(Operation::Sync, 1);
        server
    },
    cases: || vec![case("a batch", Code::StorageUnavailable, batch)],
    keeps_contents: false,
};

pub(super) const CLOSED: Group = Group {
    name: "closed",
    start: || {
        let server = Server::start().with_meter();
        server.engine.close();
        server
    },
    cases: || vec![case("a batch", Code::ShuttingDown, batch)],
    keeps_contents: true,
};

pub(super) const SMALL_ENGINE: Group = Group {
    name: "small-engine",
    start: || {
        let server = Server::start_with(Options {
            engine: meterd_engine::Settings {
                query_rows_max: 10,
                query_groups_max: 3,
                versions_max: 16,
                ..meterd_engine::Settings::default()
            },
            ..Options::default()
        })
        .with_meter();
        let rows: Vec<_> = (0..11)
            .map(|index| {
                let mut row = row(&format!("r-{index}"));
                row["subject"] = format!("acct_{index}").into();
                row
            })
            .collect();
        server.ingest(&rows);
        let other = r#"{"name":"calls","kind":"delta","values":{"requests":{}},"attributes":[]}"#;
        server
            .send(&post("/v1/meters").key(&server.key).json(other))
            .expect(201);
        let rows: Vec<_> = (0..4)
            .map(|index| {
                json!({
                    "id": format!("c-{index}"), "meter": "calls", "subject": format!("acct_{index}"),
                    "time": "2026-11-01T00:00:00Z", "values": {"requests": 1},
                })
            })
            .collect();
        server.ingest(&rows);
        server
    },
    cases: expensive,
    keeps_contents: false,
};

fn on(disk: &SimulatedDisk) -> Server {
    let server = Server::start_with(Options {
        disk: Some(disk.clone()),
        ..Options::default()
    })
    .with_meter();
    server.ingest(&[row("stored")]);
    server
}

fn batch(server: &Server) -> Request {
    post("/v1/measurements")
        .key(&server.key)
        .json(json!({"measurements": [row("a-1")]}).to_string())
}

fn handlers() -> Vec<Case> {
    vec![
        case("a panic", Code::Internal, |_| get("/panic")),
        case("a handler that hangs", Code::TimedOut, |_| get("/slow")),
        exchange("one request too many", Code::Overloaded, |s| {
            std::thread::scope(|scope| {
                let held = scope.spawn(|| s.send(&post("/hold").key(&s.key).body("")));
                s.held.wait_for_one();
                let refused = s.send(&get("/v1/meters").key(&s.key));
                s.held.release();
                assert_eq!(held.join().unwrap().status, 204);
                refused
            })
        }),
        case("more bodies than memory for them", Code::Overloaded, |s| {
            post("/v1/measurements")
                .key(&s.key)
                .json(" ".repeat(80 * 1024))
        }),
    ]
}

/// The second of two requests with one key, sent while the handler has the first in hand.
fn idempotent() -> Vec<Case> {
    vec![exchange(
        "the same request while the first runs",
        Code::IdempotencyInProgress,
        |s| {
            let send = || {
                let request = post("/hold").key(&s.key);
                s.send(&request.header("Idempotency-Key", "running").body("{}"))
            };
            std::thread::scope(|scope| {
                let first = scope.spawn(send);
                s.held.wait_for_one();
                let second = send();
                s.held.release();
                assert_eq!(first.join().unwrap().status, 204);
                let third = send();
                assert_eq!(third.header("idempotent-replayed"), Some("true"));
                second
            })
        },
    )]
}

fn expensive() -> Vec<Case> {
    let query = |members: serde_json::Value| {
        move |server: &Server| {
            let mut query = json!({
                "meter": "api_calls", "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z",
                "aggregations": [{"function": "count"}],
            });
            for (name, value) in members.as_object().unwrap() {
                query[name] = value.clone();
            }
            post("/v1/query").key(&server.key).json(query.to_string())
        }
    };
    vec![
        case(
            "more windows than one answer may have",
            Code::QueryTooExpensive,
            query(json!({"window": "15m", "from": "2000-01-01T00:00:00Z"})),
        ),
        case(
            "more measurements",
            Code::QueryTooExpensive,
            query(json!({})),
        ),
        case(
            "more groups",
            Code::QueryTooExpensive,
            query(json!({"meter": "calls", "group_by": ["subject"]})),
        ),
        exchange(
            "more measurements than the engine holds",
            Code::StorageFull,
            |s| {
                let rows: Vec<_> = (0..2).map(|index| row(&format!("new-{index}"))).collect();
                let body = json!({"measurements": rows}).to_string();
                s.send(&post("/v1/measurements").key(&s.key).json(body))
            },
        ),
    ]
}

#[test]
fn a_panic_does_not_keep_its_place() {
    let server = (HANDLERS.start)();
    for _ in 0..3 {
        assert_eq!(server.send(&get("/panic")).status, 500);
        assert_eq!(server.send(&get("/slow")).status, 504);
    }
    server.get("/v1/meters");
}

#[test]
fn after_space_is_back_the_same_batch_is_stored() {
    let disk = SimulatedDisk::new();
    let server = on(&disk);
    disk.set_space(Some(0));
    assert_eq!(server.send(&batch(&server)).status, 503);
    assert_eq!(
        server.get("/v1/measurements")["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    disk.set_space(None);
    assert_eq!(server.send(&batch(&server)).expect(200)["accepted"], 1);
    disk.fail(Operation::Sync, 1);
    let unsure = post("/v1/measurements")
        .key(&server.key)
        .json(json!({"measurements": [row("a-2")]}).to_string());
    assert_eq!(server.send(&unsure).status, 503);
    // Whatever became of it, sending it again settles it, once.
    let again = server.send(&unsure).expect(200);
    let counted = again["accepted"].as_u64().unwrap() + again["duplicate"].as_u64().unwrap();
    assert_eq!(counted, 1, "{again}");
    assert_eq!(
        server.get("/v1/measurements")["items"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}
