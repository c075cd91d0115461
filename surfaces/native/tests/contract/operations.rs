//! Every operation as it should go.

use crate::faults::gzip;
use crate::pinned::pins;
use crate::server::{METER, Server, now, row, row_with};
use meterd_fault::{Code, Kind};
use meterd_http::{Core, Surface};
use meterd_surface_native::{App, NativeSurface, openapi_document};
use meterd_testkit::client::{Answer, Request, get, post, request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// All items of a list, page by page.
fn pages(server: &Server, key: &str, target: &str, limit: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let join = if target.contains('?') { '&' } else { '?' };
        let mut page = format!("{target}{join}limit={limit}");
        if let Some(cursor) = &cursor {
            page.extend(["&cursor=", cursor]);
        }
        let page = server.send(&get(page).key(key)).expect(200);
        let on_page = page["items"].as_array().unwrap();
        assert!(on_page.len() <= limit);
        items.extend(on_page.iter().cloned());
        match page["next_cursor"].as_str() {
            // A page that has a next one is full: nobody asks for nothing.
            Some(next) => {
                assert_eq!(on_page.len(), limit);
                cursor = Some(next.to_owned());
            }
            None => return items,
        }
    }
}

fn texts(items: &[Value], member: &str) -> Vec<String> {
    items
        .iter()
        .map(|item| item[member].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_meter_from_first_to_last() {
    let server = Server::start();
    let mut pins = pins("operations-meters");
    let mut pin = |name: &str, answer: Answer| pins.check(name, &answer);
    let with_key = |request: Request| server.send(&request.key(&server.key));
    pin("create", with_key(post("/v1/meters").json(METER)));
    pin("list", with_key(get("/v1/meters")));
    pin("read", with_key(get("/v1/meters/api_calls")));
    // What a read shows may be sent back, with a change.
    let mut changed = server.get("/v1/meters/api_calls");
    changed["values"]["errors"] = json!({"unit": "1"});
    changed["attributes"] = json!([]);
    pin(
        "replace",
        with_key(request("PUT", "/v1/meters/api_calls").json(changed.to_string())),
    );
    pin(
        "replace without a version",
        with_key(
            request("PUT", "/v1/meters/api_calls").json(r#"{"name":"api_calls","kind":"gauge"}"#),
        ),
    );
    pin(
        "delete",
        with_key(request("DELETE", "/v1/meters/api_calls")),
    );
    pin("gone", with_key(get("/v1/meters/api_calls")));
    pin(
        "created anew",
        with_key(
            post("/v1/meters")
                .json(r#"{"name":"api_calls","kind":"register","values":null,"attributes":null}"#),
        ),
    );
    pin("events", with_key(get("/v1/events")));
    pin(
        "events of a type",
        with_key(get("/v1/events?type=meter.deleted")),
    );
    pins.finish();
}

#[test]
fn measurements_in_every_form_of_body() {
    let server = Server::start().with_meter();
    let batch = |id: &str| json!({"measurements": [row(id)]}).to_string();
    let send = |request: Request| {
        let answer = server.send(&request.key(&server.key));
        assert_eq!(
            answer.expect(200),
            json!({"accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 0, "items": []})
        );
    };
    let target = "/v1/measurements";
    send(post(target).json(batch("plain")));
    send(post(target).typed("Application/JSON; charset=utf-8", batch("typed")));
    send(
        post(target)
            .header("Content-Encoding", "identity")
            .json(batch("identity")),
    );
    send(
        post(target)
            .header("Content-Encoding", "gzip")
            .json(gzip(batch("gzip").as_bytes())),
    );
    send(
        post(target)
            .header("Content-Encoding", "zstd")
            .json(zstd::encode_all(batch("zstd").as_bytes(), 3).unwrap()),
    );
    // Two gzip members are one body (RFC 1952, 2.2).
    let text = batch("members");
    let (first, second) = text.as_bytes().split_at(20);
    send(
        post(target)
            .header("Content-Encoding", "gzip")
            .json([gzip(first), gzip(second)].concat()),
    );
    let line = row("line").to_string();
    send(post(target).typed("application/x-ndjson", line));
    send(post(target).typed(
        "application/x-ndjson",
        format!("\r\n{}\r\n\r\n", row("windows")),
    ));
    let line = row("packed lines").to_string();
    send(
        post(target)
            .header("Content-Encoding", "gzip")
            .typed("application/x-ndjson", gzip(line.as_bytes())),
    );
    let all = pages(&server, &server.key, "/v1/measurements", 2);
    let mut ids = texts(&all, "id");
    ids.sort();
    assert_eq!(
        ids,
        [
            "gzip",
            "identity",
            "line",
            "members",
            "packed lines",
            "plain",
            "typed",
            "windows",
            "zstd"
        ]
    );
}

#[test]
fn what_a_measurement_may_say() {
    let server = Server::start().with_meter();
    let tomorrow = now()
        .saturating_add(std::time::Duration::from_hours(23))
        .to_string();
    let good = [
        json!({"id": "i".repeat(128)}),
        json!({"id": "é€🦀 / % ? #"}),
        json!({"subject": "s".repeat(128)}),
        json!({"time": "1970-01-01T00:00:00Z"}),
        json!({"time": tomorrow}),
        json!({"time": "2026-11-01T05:30:00.123456789+05:30"}),
        json!({"end_time": "2026-11-01T00:00:00.000001Z"}),
        json!({"end_time": null, "attributes": null}),
        json!({"attributes": {"region": "", "plan": null}}),
        json!({"attributes": {"region": "r".repeat(256)}}),
        json!({"values": {"requests": "99999999999999999999.999999999999999999"}}),
        json!({"values": {"requests": "-99999999999999999999.999999999999999999"}}),
        json!({"values": {"requests": "1e-18", "bytes": null}}),
        json!({"values": {"requests": "1.5e3"}}),
        json!({"values": {"requests": "-0"}}),
    ];
    let rows: Vec<_> = good
        .iter()
        .enumerate()
        .map(|(index, members)| row_with(&format!("good-{index}"), members))
        .collect();
    let answer = server.ingest(&rows);
    assert_eq!(answer["accepted"], good.len(), "{answer}");
    let item = |id: &str| {
        server.get(&format!("/v1/measurements/{id}"))["versions"][0]["measurement"].clone()
    };
    assert_eq!(item("good-5")["time"], "2026-11-01T00:00:00.123456Z");
    assert_eq!(
        item("good-10")["values"]["requests"],
        "99999999999999999999.999999999999999999"
    );
    assert_eq!(
        item("good-12")["values"],
        json!({"requests": "0.000000000000000001"})
    );
    assert_eq!(item("good-13")["values"], json!({"requests": "1500"}));
    assert_eq!(item("good-14")["values"], json!({"requests": "0"}));
    assert_eq!(item("good-8")["attributes"], json!({"region": ""}));
    // Percent-encoded, an id may hold anything.
    let awkward = "%C3%A9%E2%82%AC%F0%9F%A6%80%20%2F%20%25%20%3F%20%23";
    assert_eq!(item(awkward)["id"], "é€🦀 / % ? #");
    // The same content in other words is the same measurement.
    let same = row_with(
        "good-13",
        &json!({"time": "2026-10-31T19:00:00-05:00", "values": {"requests": 1500.0}, "end_time": null}),
    );
    assert_eq!(server.ingest(&[same])["duplicate"], 1);
}

#[test]
fn ten_thousand_rows_at_once() {
    let server = Server::start().with_meter();
    let rows: Vec<_> = (0..10_000)
        .map(|index| row(&format!("r-{index}")))
        .collect();
    assert_eq!(server.ingest(&rows)["accepted"], 10_000);
    assert_eq!(server.ingest(&rows)["duplicate"], 10_000);
    let listed = pages(&server, &server.key, "/v1/measurements", 1000);
    let ids: BTreeSet<_> = texts(&listed, "id").into_iter().collect();
    assert_eq!((listed.len(), ids.len()), (10_000, 10_000));
}

#[test]
fn a_trace_and_a_listing() {
    let server = Server::start().with_meter();
    let mut pins = pins("operations-measurements");
    let full = json!({
        "id": "a-1", "meter": "api_calls", "subject": "acct_1", "time": "2026-11-01T10:20:30.5Z",
        "end_time": "2026-11-01T10:21:00Z", "values": {"requests": 12, "bytes": 345.25},
        "attributes": {"region": "eu", "plan": "pro"},
    });
    server.ingest(std::slice::from_ref(&full));
    server.ingest(&[full, row("b-2")]);
    pins.check(
        "trace",
        &server.send(&get("/v1/measurements/a-1").key(&server.key)),
    );
    pins.check(
        "listing",
        &server.send(&get("/v1/measurements").key(&server.key)),
    );
    pins.finish();
}

#[test]
fn listings_filter_and_page_to_the_end() {
    let server = Server::start().with_meter();
    let other = r#"{"name":"other","kind":"delta","values":{"requests":{}},"attributes":[]}"#;
    server
        .send(&post("/v1/meters").key(&server.key).json(other))
        .expect(201);
    // Many share a time, so that pages end within one.
    let rows: Vec<_> = (0..57)
        .map(|index| {
            let (hour, subject) = (index % 5, index % 3);
            json!({
                "id": format!("m-{index}"), "meter": if index % 4 == 0 { "other" } else { "api_calls" },
                "subject": format!("acct_{subject}"), "time": format!("2026-11-01T{hour:02}:00:00Z"),
                "values": {"requests": index},
            })
        })
        .collect();
    server.ingest(&rows);
    let expect = |target: &str, wanted: &dyn Fn(usize) -> bool| {
        let mut indexes: Vec<usize> = (0..57).filter(|index| wanted(*index)).collect();
        // Newest first; of the same time, the last stored first.
        indexes.sort_by_key(|index| std::cmp::Reverse((index % 5, *index)));
        let wanted: Vec<_> = indexes.iter().map(|index| format!("m-{index}")).collect();
        for limit in [1, 7, 19, 57, 1000] {
            assert_eq!(
                texts(&pages(&server, &server.key, target, limit), "id"),
                wanted,
                "{target}"
            );
        }
    };
    expect("/v1/measurements", &|_| true);
    expect("/v1/measurements?meter=other", &|index| index % 4 == 0);
    expect("/v1/measurements?subject=acct_2", &|index| index % 3 == 2);
    expect("/v1/measurements?from=2026-11-01T03:00:00Z", &|index| {
        index % 5 >= 3
    });
    expect("/v1/measurements?to=2026-11-01T03:00:00Z", &|index| {
        index % 5 < 3
    });
    expect(
        "/v1/measurements?meter=api_calls&subject=acct_1&from=2026-11-01T01:00:00Z&to=2026-11-01T04:00:00%2B01:00",
        &|index| index % 4 != 0 && index % 3 == 1 && (1..3).contains(&(index % 5)),
    );
}

#[test]
fn a_page_goes_on_where_it_ended_whatever_comes_meanwhile() {
    let server = Server::start().with_meter();
    let at = |id: &str, hour: u32| {
        row_with(id, &json!({"time": format!("2026-11-01T{hour:02}:00:00Z")}))
    };
    let rows: Vec<_> = (0..6)
        .map(|hour| at(&format!("old-{hour}"), hour))
        .collect();
    server.ingest(&rows);
    let first = server.get("/v1/measurements?limit=3");
    assert_eq!(
        texts(first["items"].as_array().unwrap(), "id"),
        ["old-5", "old-4", "old-3"]
    );
    server.ingest(&[at("newer", 9)]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/v1/measurements?limit=3&cursor={cursor}"));
    assert_eq!(
        texts(second["items"].as_array().unwrap(), "id"),
        ["old-2", "old-1", "old-0"]
    );
    assert_eq!(second["next_cursor"], Value::Null);
}

#[test]
fn lists_of_the_control_plane_page_to_the_end() {
    let server = Server::start();
    for index in 0..23 {
        let meter = format!(r#"{{"name":"m{index}","kind":"delta"}}"#);
        server
            .send(&post("/v1/meters").key(&server.key).json(meter))
            .expect(201);
        let organization = format!(r#"{{"name":"o{index}"}}"#);
        server
            .send(
                &post("/v1/organizations")
                    .key(&server.admin_key)
                    .json(organization),
            )
            .expect(201);
        let credential =
            json!({"organization": "acme", "name": format!("k{index}"), "permissions": ["*"]});
        server
            .send(
                &post("/v1/credentials")
                    .key(&server.admin_key)
                    .json(credential.to_string()),
            )
            .expect(201);
    }
    let newest_first = |letter: &str, rest: &[&str]| {
        let made = (0..23).rev().map(|index| format!("{letter}{index}"));
        made.chain(rest.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    for limit in [1, 5, 23, 1000] {
        let names = |key: &str, target: &str| texts(&pages(&server, key, target, limit), "name");
        assert_eq!(names(&server.key, "/v1/meters"), newest_first("m", &[]));
        assert_eq!(
            names(&server.admin_key, "/v1/organizations"),
            newest_first("o", &["rival", "acme"])
        );
        assert_eq!(
            names(&server.admin_key, "/v1/credentials?organization=acme"),
            newest_first("k", &["acme"])
        );
        assert_eq!(
            names(&server.admin_key, "/v1/credentials"),
            ["administrator"]
        );
        let sequences: Vec<_> = pages(&server, &server.key, "/v1/events", limit)
            .iter()
            .map(|event| event["sequence"].as_u64().unwrap())
            .collect();
        let events = server.get("/v1/events?limit=1000");
        assert_eq!(sequences.len(), events["items"].as_array().unwrap().len());
        assert!(sequences.is_sorted_by(|a, b| a > b), "{sequences:?}");
        let created = pages(&server, &server.key, "/v1/events?type=meter.created", limit);
        assert_eq!(created.len(), 23);
    }
}

#[test]
fn administration() {
    let server = Server::start();
    let mut pins = pins("operations-administration");
    let admin = |request: Request| server.send(&request.key(&server.admin_key));
    let body = r#"{"name":"third","display_name":"The Third","timezone":"Europe/Berlin"}"#;
    pins.check(
        "create an organization",
        &admin(post("/v1/organizations").json(body)),
    );
    pins.check("read it", &admin(get("/v1/organizations/third")));
    pins.check("list organizations", &admin(get("/v1/organizations")));
    let body = json!({
        "organization": "third", "name": "backend", "permissions": ["measurements:*", "meters:read"],
        "addresses": ["127.0.0.1", "2001:db8::/32"], "expires_at": "2100-01-01T00:00:00+01:00",
    });
    let created = admin(post("/v1/credentials").json(body.to_string()));
    let secret = created.expect(201)["secret"].as_str().unwrap().to_owned();
    let location = created.header("location").unwrap().to_owned();
    assert_eq!(
        location,
        format!("/v1/credentials/{}", created.json()["id"].as_str().unwrap())
    );
    assert_eq!(server.send(&get("/v1/meters").key(&secret)).status, 200);
    let shown = admin(get(location.clone())).expect(200);
    assert_eq!(shown.get("secret"), None);
    assert!(shown["last_used_at"].is_string());
    for (member, value) in [
        ("organization", json!("third")),
        ("surface", json!("native")),
        ("name", json!("backend")),
        ("permissions", json!(["measurements:*", "meters:read"])),
        ("addresses", json!(["127.0.0.1/32", "2001:db8::/32"])),
        ("expires_at", json!("2099-12-31T23:00:00Z")),
        ("state", json!("active")),
    ] {
        assert_eq!(shown[member], value);
    }
    assert!(secret.starts_with(shown["hint"].as_str().unwrap().trim_end_matches('…')));

    // By the organization's id, too; and an administrator without organization.
    let third = admin(get("/v1/organizations/third")).expect(200)["id"].clone();
    let body = json!({"organization": third, "name": "by id", "permissions": ["*"]});
    assert_eq!(
        admin(post("/v1/credentials").json(body.to_string())).expect(201)["organization"],
        "third"
    );
    let body = json!({"name": "second administrator", "permissions": ["organizations:read"]});
    let second = admin(post("/v1/credentials").json(body.to_string())).expect(201);
    let second_key = second["secret"].as_str().unwrap();
    server
        .send(&get("/v1/organizations").key(second_key))
        .expect(200);
    assert_eq!(
        server.send(&get("/v1/credentials").key(second_key)).status,
        403
    );

    assert_eq!(admin(request("DELETE", location.clone())).status, 204);
    assert_eq!(admin(request("DELETE", location.clone())).status, 204);
    assert_eq!(admin(get(location)).expect(200)["state"], "revoked");
    assert_eq!(
        server.send(&get("/v1/meters").key(&secret)).expect(401)["code"],
        "credentials_revoked"
    );
    pins.finish();
}

#[test]
fn rotation_overlaps_and_revocation_acts_at_once() {
    let server = Server::start();
    let (credential, first) = server.issue(|_| {});
    let path = format!("/v1/credentials/{}", credential.id);
    let rotate = |body: &str| {
        let answer = server.send(
            &post(format!("{path}/rotate"))
                .key(&server.admin_key)
                .json(body),
        );
        answer.expect(200)["secret"].as_str().unwrap().to_owned()
    };
    let status = |key: &str| server.send(&get("/v1/meters").key(key)).status;
    let second = rotate(r#"{"overlap_seconds":3600}"#);
    assert_eq!((status(&first), status(&second)), (200, 200));
    // Without overlap all older secrets end.
    let third = rotate("{}");
    assert_eq!(
        (status(&first), status(&second), status(&third)),
        (401, 401, 200)
    );
    let revoked = server.send(&request("DELETE", path.clone()).key(&server.admin_key));
    assert_eq!((revoked.status, status(&third)), (204, 401));
}

#[test]
fn a_repeated_idempotent_request_is_done_once() {
    let server = Server::start();
    let cases = [
        (
            "/v1/meters",
            &server.key,
            json!({"name": "m", "kind": "delta"}),
            201,
        ),
        (
            "/v1/organizations",
            &server.admin_key,
            json!({"name": "o"}),
            201,
        ),
        (
            "/v1/credentials",
            &server.admin_key,
            json!({"organization": "acme", "name": "k", "permissions": ["*"]}),
            201,
        ),
    ];
    for (path, key, body, status) in &cases {
        replays(&server, path, key, body, *status);
    }
    let (credential, _) = server.issue(|_| {});
    let path = format!("/v1/credentials/{}/rotate", credential.id);
    replays(&server, &path, &server.admin_key, &json!({}), 200);
    // A failure is not kept: with the same key the request may succeed later.
    let create = || {
        server.send(
            &post("/v1/credentials")
                .key(&server.admin_key)
                .header("Idempotency-Key", "later")
                .json(r#"{"organization":"tomorrow","name":"k","permissions":["*"]}"#),
        )
    };
    create().expect(422);
    server
        .send(
            &post("/v1/organizations")
                .key(&server.admin_key)
                .json(r#"{"name":"tomorrow"}"#),
        )
        .expect(201);
    create().expect(201);
}

fn replays(server: &Server, path: &str, key: &str, body: &Value, status: u16) {
    let send = |spelled: String| {
        server.send(
            &post(path)
                .key(key)
                .header("Idempotency-Key", &spelled)
                .json(body.to_string()),
        )
    };
    let first = send(format!("once{path}"));
    let second = send(format!("\"once{path}\""));
    let mut kept = first.expect(status);
    let shown = second.expect(status);
    if let Some(secret) = kept.as_object_mut().unwrap().remove("secret") {
        assert!(!String::from_utf8_lossy(&second.body).contains(secret.as_str().unwrap()));
    }
    assert_eq!(shown, kept);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(first.header("content-type"), second.header("content-type"));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[test]
fn one_path_has_one_answer_however_it_is_spelled() {
    let server = Server::start().with_meter();
    let plain = server.send(&get("/v1/meters").key(&server.key));
    for path in [
        "/v1/meters/",
        "//v1//meters",
        "/v1/meters//",
        "/v1/meters?",
        "/v1/meters/?limit=100",
    ] {
        let answer = server.send(&get(path).key(&server.key));
        assert_eq!(
            (answer.status, answer.json()),
            (200, plain.json()),
            "{path}"
        );
    }
    let one = server.send(&get("/v1/meters/api%5fcalls/").key(&server.key));
    assert_eq!(one.expect(200)["name"], "api_calls");
    assert_eq!(
        server
            .send(&get("/v1/meters").header("Authorization", &format!("bEARER  {}", server.key)))
            .status,
        200
    );
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start().with_meter();
    server.ingest(&[row("a-1")]);
    for path in [
        "/v1/meters",
        "/v1/meters/api_calls",
        "/v1/measurements",
        "/v1/measurements/a-1",
        "/v1/events",
        "/v1/faults",
        "/v1/openapi.json",
        "/v1/meters/nope",
        "/v1/nothing",
    ] {
        let with_body = server.send(&get(path).key(&server.key));
        let without = server.send(&request("HEAD", path).key(&server.key));
        assert_eq!(without.body, b"", "{path}");
        assert_eq!(without.status, with_body.status, "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(
                without.header(name),
                with_body.header(name),
                "{path} {name}"
            );
        }
    }
    assert_eq!(
        server
            .send(&request("HEAD", "/v1/query").key(&server.key))
            .status,
        405
    );
}

#[test]
fn the_document_describes_exactly_the_routes() {
    let server = Server::start();
    let document = server.send(&get("/v1/openapi.json")).expect(200);
    assert_eq!(document, openapi_document());
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let app = App::new(Core::new(
        Arc::clone(&server.control),
        Arc::clone(&server.engine),
    ));
    let surface = NativeSurface::new(app, Vec::new());
    let routed: BTreeSet<(String, String)> = surface
        .routes()
        .list()
        .flat_map(|(path, methods)| {
            methods
                .into_iter()
                .map(move |method| (path.to_owned(), method))
        })
        .collect();
    assert_eq!(described, routed);
    assert!(routed.len() >= 20, "{routed:?}");
}

#[test]
fn the_catalogue_lists_every_code() {
    let server = Server::start();
    let catalogue = server.send(&get("/v1/faults")).expect(200);
    let listed: BTreeSet<_> = texts(catalogue["items"].as_array().unwrap(), "code")
        .into_iter()
        .collect();
    let all: BTreeSet<_> = Kind::samples()
        .map(|kind| Code::from(&kind).entry().code.to_owned())
        .collect();
    assert_eq!(listed, all);
    for item in catalogue["items"].as_array().unwrap() {
        assert!(
            (400..600).contains(&item["status"].as_u64().unwrap()),
            "{item}"
        );
        for member in ["title", "advice", "remedy", "example", "stored"] {
            assert!(!item[member].as_str().unwrap().is_empty(), "{item}");
        }
    }
}

#[test]
fn registers_rise_by_so_much() {
    let server = Server::start().with_meter();
    let meter = json!({
        "name": "odometer", "kind": "register",
        "values": {"reading": {"unit": "km"}}, "attributes": ["reset"],
    });
    let made = post("/v1/meters").key(&server.key).json(meter.to_string());
    server.send(&made).expect(201);
    let reading = |id: &str, time: &str, value: &str, attributes: Value| {
        json!({
            "id": id, "meter": "odometer", "subject": "truck", "time": time,
            "values": {"reading": value}, "attributes": attributes,
        })
    };
    server.ingest(&[
        reading("1", "2026-01-01T12:00:00Z", "100", json!({})),
        reading("2", "2026-01-02T12:00:00Z", "130.5", json!({})),
        reading("3", "2026-01-02T18:00:00Z", "0", json!({"reset": "true"})),
        reading("4", "2026-01-03T12:00:00Z", "7", json!({})),
    ]);
    let mut question = json!({
        "meter": "odometer", "from": "2026-01-02T00:00:00Z", "to": "2026-02-01T00:00:00Z", "window": "day",
        "aggregations": [{"function": "consumption", "field": "reading"}],
    });
    let row = |from: &str, to: &str, value: &str| {
        json!({
            "from": format!("2026-01-{from}T00:00:00Z"), "to": format!("2026-01-{to}T00:00:00Z"),
            "group": {}, "values": {"consumption(reading)": value},
        })
    };
    assert_eq!(
        server.query(&question),
        json!({"rows": [row("02", "03", "30.5"), row("03", "04", "7")], "next_cursor": null})
    );
    // Of amounts there is none.
    question["meter"] = json!("api_calls");
    question["aggregations"][0]["field"] = json!("requests");
    let asked = post("/v1/query")
        .key(&server.key)
        .json(question.to_string());
    let problem = &server.send(&asked).expect(422)["errors"][0];
    let allowed = [
        "sum", "min", "max", "count", "mean", "latest", "earliest", "unique",
    ];
    assert_eq!(
        *problem,
        json!({
            "in": "body",
            "pointer": "/aggregations/0/function",
            "rule": "one_of",
            "message": format!("aggregations[0].function must be one of {}.", allowed.join(", ")),
            "allowed": allowed,
        })
    );
}
