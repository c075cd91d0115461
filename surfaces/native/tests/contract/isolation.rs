//! Over the fence: what another organization holds answers exactly like what does not exist.

use crate::server::{Server, row, row_with};
use meterd_http::queries_max;
use meterd_testkit::client::{Request, get, post, request};
use serde_json::{Value, json};

const SECRET_METER: &str =
    r#"{"name":"secret_meter","kind":"gauge","values":{"level":{}},"attributes":["room"]}"#;

/// `rival` has a meter and measurements that `acme` has not; both have `api_calls`.
fn server() -> Server {
    let server = Server::start().with_meter();
    let rival = |request: Request| server.send(&request.key(&server.rival_key));
    rival(post("/v1/meters").json(SECRET_METER)).expect(201);
    let rows = json!({"measurements": [
        {"id": "secret-1", "meter": "secret_meter", "subject": "vault", "time": "2026-11-01T00:00:00Z",
         "values": {"level": 7}, "attributes": {"room": "blue"}},
        row_with("secret-2", &json!({"subject": "acct_9", "values": {"requests": 1000}})),
        row_with("shared", &json!({"values": {"requests": 500}})),
    ]});
    rival(post("/v1/measurements").json(rows.to_string())).expect(200);
    server
}

/// The same answer, names of the asked things aside.
fn alike(server: &Server, hidden: &str, unknown: &str, ask: impl Fn(&str) -> Request) {
    let answer = |name: &str| {
        let answer = server.send(&ask(name).key(&server.key));
        let text = String::from_utf8(answer.body)
            .unwrap()
            .replace(name, "NAME");
        let mut body: Value = serde_json::from_str(&text).unwrap();
        body["request_id"] = Value::Null;
        let headers: Vec<_> = answer
            .headers
            .into_iter()
            .filter(|(name, _)| {
                !matches!(name.as_str(), "x-request-id" | "date" | "content-length")
            })
            .collect();
        (answer.status, headers, body)
    };
    let of_hidden = answer(hidden);
    assert!((400..500).contains(&of_hidden.0), "{of_hidden:?}");
    assert_eq!(of_hidden, answer(unknown));
}

#[test]
fn what_others_hold_answers_like_what_is_not_there() {
    let server = server();
    let meters: &[fn(&str) -> Request] = &[
        |name| get(format!("/v1/meters/{name}")),
        |name| {
            request("PUT", format!("/v1/meters/{name}"))
                .json(format!(r#"{{"name":"{name}","kind":"delta"}}"#))
        },
        |name| request("DELETE", format!("/v1/meters/{name}")),
        |name| get(format!("/v1/measurements?meter={name}")),
        |name| {
            post("/v1/measurements")
                .json(json!({"measurements": [row_with("x", &json!({"meter": name}))]}).to_string())
        },
        |name| {
            post("/v1/query").json(
                json!({
                    "meter": name, "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z",
                    "aggregations": [{"function": "count"}],
                })
                .to_string(),
            )
        },
    ];
    for ask in meters {
        alike(&server, "secret_meter", "absent_meter", ask);
    }
    alike(&server, "secret-1", "absent-1", |id| {
        get(format!("/v1/measurements/{id}"))
    });
    alike(&server, "secret-2", "absent-2", |id| {
        get(format!("/v1/measurements/{id}"))
    });
}

#[test]
fn answers_never_show_rows_of_others() {
    let server = server();
    let all = json!({
        "meter": "api_calls", "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "group_by": ["subject"], "aggregations": [{"function": "count"}, {"function": "sum", "field": "requests"}],
    });
    let empty = json!({"rows": [], "next_cursor": null});
    assert_eq!(server.query(&all), empty);
    assert_eq!(
        server.get("/v1/measurements"),
        json!({"items": [], "next_cursor": null})
    );
    // The same id in both: neither a repeat nor a conflict.
    assert_eq!(server.ingest(&[row("shared")])["accepted"], 1);
    let rows = server.query(&all);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1);
    assert_eq!(
        rows["rows"][0]["values"],
        json!({"count": "1", "sum(requests)": "1"})
    );
    assert_eq!(rows["rows"][0]["group"], json!({"subject": "acct_1"}));
    let trace = server.get("/v1/measurements/shared");
    assert_eq!(trace["versions"].as_array().unwrap().len(), 1);
    assert_eq!(
        trace["versions"][0]["measurement"]["values"],
        json!({"requests": "1"})
    );
    // A filter for their subjects, and grouping by attributes that only they use.
    for filter in [json!({"subject": ["acct_9"]}), json!({"region": ["blue"]})] {
        let mut filtered = all.clone();
        filtered["filter"] = filter;
        assert_eq!(server.query(&filtered), empty);
    }

    let events = server.get("/v1/events?limit=1000").to_string();
    for secret in ["secret_meter", "secret-", "vault", "rival"] {
        assert!(!events.contains(secret), "{events}");
    }
    let meters = server.get("/v1/meters").to_string();
    assert!(!meters.contains("secret"), "{meters}");
    // And in the other direction.
    let theirs = server
        .send(&get("/v1/measurements").key(&server.rival_key))
        .expect(200);
    assert_eq!(theirs["items"].as_array().unwrap().len(), 3);
    let theirs = server.send(
        &post("/v1/query")
            .key(&server.rival_key)
            .json(all.to_string()),
    );
    assert_eq!(
        theirs.expect(200)["rows"][0]["values"]["sum(requests)"],
        "500"
    );
}

#[test]
fn cursors_of_others_open_nothing() {
    let server = server();
    let cursor = |path: &str| {
        let page = server.send(&get(format!("{path}?limit=1")).key(&server.rival_key));
        page.expect(200)["next_cursor"].as_str().unwrap().to_owned()
    };
    for path in ["/v1/meters", "/v1/measurements", "/v1/events"] {
        let page = server
            .get(&format!("{path}?cursor={}", cursor(path)))
            .to_string();
        assert!(
            !page.contains("secret_meter") && !page.contains("vault"),
            "{page}"
        );
    }
}

#[test]
fn idempotency_keys_belong_to_their_credential() {
    let server = Server::start();
    let body = r#"{"name":"m","kind":"delta"}"#;
    let create = |key: &str| {
        server.send(
            &post("/v1/meters")
                .key(key)
                .header("Idempotency-Key", "same")
                .json(body),
        )
    };
    let first = create(&server.key);
    first.expect(201);
    let other = create(&server.rival_key);
    assert_ne!(other.expect(201)["id"], first.json()["id"]);
    assert_eq!(other.header("idempotent-replayed"), None);
}

#[test]
fn what_one_asks_leaves_places_to_the_others() {
    let server = server();
    let count = json!({
        "meter": "api_calls", "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z",
        "aggregations": [{"function": "count"}],
    });
    let questions: [&(dyn Fn() -> Request + Sync); 3] = [
        &|| get("/v1/measurements"),
        &|| get("/v1/measurements/shared"),
        &|| post("/v1/query").json(count.to_string()),
    ];
    server.ingest(&[row("shared")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let take = || {
        runtime
            .block_on(server.core.query_slot(server.acme))
            .unwrap()
    };
    let held: Vec<_> = (0..queries_max() / 2).map(|_| take()).collect();
    std::thread::scope(|scope| {
        for question in questions {
            scope.spawn(|| {
                let answer = server.send(&question().key(&server.key)).expect(503);
                assert_eq!(answer["code"], "overloaded", "{answer}");
            });
            server.send(&question().key(&server.rival_key)).expect(200);
        }
    });
    drop(held);
    for question in questions {
        server.send(&question().key(&server.key)).expect(200);
    }
}
