//! Refusals that no single operation is to blame for, and what m3ter has and this server does not.
//!
//! Each case says which fault of the catalogue it provokes, with the whole answer: in this dialect that is a status and
//! one string.

use crate::server::{GRANT, Options, Server, message};
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{Answer, Request, connect, get, post, put, read_answer, request};
use serde_json::json;
use std::io::Write as _;
use std::time::Duration;

struct Case {
    name: &'static str,
    code: Code,
    send: fn(&Server) -> Answer,
    status: u16,
    message: &'static str,
}

fn asked(server: &Server, request: Request) -> Answer {
    server.send(&request.key(&server.acme.admin.token))
}

fn products(server: &Server) -> Request {
    post(server.path("/products"))
}

fn check(server: &Server, cases: &[Case]) {
    for case in cases {
        let answer = (case.send)(server);
        assert_eq!(
            message(&answer, case.status),
            case.message,
            "{}: {:?}",
            case.name,
            case.code
        );
        let id = answer.header("x-request-id").unwrap();
        assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(server.get("/products"), json!({"data": []}));
}

#[test]
fn bodies_that_cannot_be_taken_are_refused() {
    let cases = [
        Case {
            name: "broken JSON",
            code: Code::BodyMalformed,
            send: |s| asked(s, products(s).json("{\n  \"name\": ,\n}")),
            status: 400,
            message: "Invalid JSON: expected value at line 2, column 11",
        },
        Case {
            name: "an array for an object",
            code: Code::Invalid,
            send: |s| asked(s, products(s).json("[]")),
            status: 400,
            message: "Validation failed: body: must be an object",
        },
        Case {
            name: "a member twice",
            code: Code::Invalid,
            send: |s| asked(s, products(s).json(r#"{"name":"a","name":"b","code":"c"}"#)),
            status: 400,
            message: "Validation failed: name: must not be given twice",
        },
        Case {
            name: "all problems at once",
            code: Code::Invalid,
            send: |s| asked(s, products(s).json(r#"{"name":"","customFields":7}"#)),
            status: 400,
            message: "Validation failed: name: must have 1 to 200 characters; code: is required; customFields: must be an object",
        },
        Case {
            name: "another media type",
            code: Code::MediaTypeUnsupported,
            send: |s| asked(s, products(s).typed("text/csv", "a,b")),
            status: 400,
            message: "The Content-Type must be application/json",
        },
        Case {
            name: "an unknown encoding",
            code: Code::ContentEncodingUnsupported,
            send: |s| asked(s, products(s).header("Content-Encoding", "br").json("{}")),
            status: 400,
            message: "The Content-Encoding must be gzip or zstd",
        },
        Case {
            name: "too large",
            code: Code::BodyTooLarge,
            send: |s| asked(s, products(s).json(" ".repeat(1024 * 1024 + 1))),
            status: 403,
            message: "Request payload too large",
        },
    ];
    let server = Server::start();
    check(&server, &cases);
}

#[test]
fn requests_that_go_nowhere_are_refused() {
    let cases = [
        Case {
            name: "no such path",
            code: Code::UnknownRoute,
            send: |s| asked(s, get("/m3ter/nothing")),
            status: 404,
            message: "Not Found",
        },
        Case {
            name: "no such method",
            code: Code::MethodNotAllowed,
            send: |s| asked(s, request("PATCH", s.path("/products"))),
            status: 404,
            message: "Not Found",
        },
        Case {
            name: "a path that is no text",
            code: Code::Invalid,
            send: |s| asked(s, get(s.path("/products/%ff"))),
            status: 400,
            message: "Validation failed: id: must be percent-encoded UTF-8",
        },
        Case {
            name: "a long address",
            code: Code::UriTooLong,
            send: |s| asked(s, get(s.path(&format!("/products?{}", "a".repeat(512))))),
            status: 400,
            message: "The address is longer than 512 bytes",
        },
        Case {
            name: "a cursor of nobody's",
            code: Code::Invalid,
            send: |s| asked(s, get(s.path("/products?nextToken=abc"))),
            status: 400,
            message: "Validation failed: nextToken: must be the nextToken of an earlier answer",
        },
        Case {
            name: "a body that does not come",
            code: Code::BodyTimeout,
            send: |s| {
                let whole = asked_bytes(s, products(s).json("{}"));
                let mut stream = connect(s.address);
                stream.write_all(&whole[..whole.len() - 1]).unwrap();
                read_answer(&mut stream, false)
            },
            status: 504,
            message: "The body did not arrive within 0.1 seconds",
        },
    ];
    let mut options = Options::default();
    options.general.bounds = Bounds {
        uri_max_bytes: 512,
        body_pause_max: Duration::from_millis(100),
        ..Bounds::default()
    };
    let server = Server::start_with(options);
    check(&server, &cases);
}

fn asked_bytes(server: &Server, request: Request) -> Vec<u8> {
    request.key(&server.acme.admin.token).bytes()
}

#[test]
fn what_is_not_there_yet_is_not_found() {
    let server = Server::start();
    let token = &server.acme.admin.token;
    let id = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
    for line in include_str!("absent.txt").lines() {
        let (method, template) = line.split_once(' ').unwrap();
        let segments = template.split('/').map(|segment| {
            let is_parameter = segment.starts_with('{');
            if is_parameter { id } else { segment }
        });
        let path: Vec<_> = segments.collect();
        let method = ["GET", "POST", "PUT", "DELETE"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap();
        let body = json!({});
        let answer = server.ask_as(token, method, &path.join("/"), Some(&body));
        assert_eq!(message(&answer, 404), "Not Found", "{line}");
    }
}

/// A server without room for one more request.
#[test]
fn a_busy_server_asks_to_wait() {
    let mut options = Options::default();
    options.general.bounds.body_memory_max_bytes = 1024;
    let server = Server::start_with(options);
    let body = json!({"name": "a".repeat(4_000), "code": "a"}).to_string();
    let answer = asked(&server, products(&server).json(body));
    assert_eq!(message(&answer, 429), "Too Many Requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let admin = &server.acme.admin;
    let token = crate::server::token_request(&admin.key, &admin.secret).json(GRANT);
    server.send(&token).expect(200);
}

/// What the store cannot take is no fault of the caller's, and nothing of it is there afterwards.
#[test]
fn conflicts_are_told_apart() {
    let server = Server::start();
    let created = server.post("/products", &json!({"name": "a", "code": "a"}));
    let id = created["id"].as_str().unwrap();
    let other = json!({"name": "b", "code": "a"});
    assert_eq!(
        server.refused(400, "POST", "/products", Some(&other)),
        "Code 'a' is already in use"
    );
    let meter = json!({
        "name": "m", "code": "m", "productId": id, "derivedFields": [],
        "dataFields": [{"category": "MEASURE", "code": "n", "name": "n"}],
    });
    server.post("/meters", &meter);
    assert_eq!(
        server.refused(400, "DELETE", &format!("/products/{id}"), None),
        "Product a is in use by meter 'm'"
    );
    let stale = json!({"name": "a", "code": "a", "version": 9});
    let answer = asked(
        &server,
        put(server.path(&format!("/products/{id}"))).json(stale.to_string()),
    );
    assert_eq!(message(&answer, 400), "Version mismatch: expected 1, got 9");
    assert_eq!(server.get(&format!("/products/{id}")), created);
}
