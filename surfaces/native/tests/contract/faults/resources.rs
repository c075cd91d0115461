//! Resources that are not there, are there already, or cannot change as asked; idempotency keys.

use super::{Case, Group, case, exchange};
use crate::server::{Server, row_with};
use meterd_fault::Code;
use meterd_testkit::client::{post, request};
use serde_json::json;

pub(super) const GROUP: Group = Group {
    name: "resources",
    start: seeded,
    cases,
    keeps_contents: true,
};

fn seeded() -> Server {
    let server = Server::start().with_meter();
    let replaced = r#"{"name":"api_calls","kind":"delta",
        "values":{"requests":{"unit":"1"},"bytes":{"unit":"kBy"}},"attributes":["region","plan"]}"#;
    server
        .send(
            &request("PUT", "/v1/meters/api_calls")
                .key(&server.key)
                .json(replaced),
        )
        .expect(200);
    server.made_by_a_surface("managed");
    server.ingest(&[row_with(
        "stored",
        &json!({"attributes": {"region": "eu", "plan": "pro"}}),
    )]);
    server
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (method, path) in MISSING {
        let admin = path.starts_with("/v1/organizations") || path.starts_with("/v1/credentials");
        cases.push(case(
            format!("{method} {path}"),
            Code::ResourceNotFound,
            move |s| {
                let request = request(method, *path).key(if admin { &s.admin_key } else { &s.key });
                match *method {
                    "PUT" => request.json(r#"{"name":"nope","kind":"delta"}"#),
                    "POST" => request.json("{}"),
                    _ => request,
                }
            },
        ));
    }
    for (name, code, body) in CHANGES {
        cases.push(case(*name, *code, move |s| {
            request("PUT", "/v1/meters/api_calls")
                .key(&s.key)
                .json(*body)
        }));
    }
    cases.extend([
        case("meter that exists", Code::ResourceExists, |s| {
            post("/v1/meters").key(&s.key).json(r#"{"name":"api_calls","kind":"gauge"}"#)
        }),
        case("organization that exists", Code::ResourceExists, |s| {
            post("/v1/organizations").key(&s.admin_key).json(r#"{"name":"rival"}"#)
        }),
        case("meter with measurements", Code::ResourceInUse, |s| {
            request("DELETE", "/v1/meters/api_calls").key(&s.key)
        }),
        case("managed meter", Code::ActionNotSupported, |s| {
            request("DELETE", "/v1/meters/managed").key(&s.key)
        }),
        case("managed meter, defined anew", Code::ActionNotSupported, |s| {
            request("PUT", "/v1/meters/managed")
                .key(&s.key)
                .json(r#"{"name":"managed","kind":"gauge"}"#)
        }),
        exchange("rotate a revoked credential", Code::TransitionNotAllowed, |s| {
            let (credential, _) = s.issue(|_| {});
            let path = format!("/v1/credentials/{}", credential.id);
            let revoked = s.send(&request("DELETE", path.clone()).key(&s.admin_key));
            assert_eq!(revoked.status, 204);
            let mut answer =
                s.send(&post(format!("{path}/rotate")).key(&s.admin_key).json("{}"));
            // The instance is a path with an id of this run; checked here, since it is no word of its own.
            assert_eq!(answer.json()["instance"], format!("{path}/rotate"));
            answer.body = String::from_utf8(answer.body)
                .unwrap()
                .replace(&credential.id.to_string(), &uuid::Uuid::nil().to_string())
                .into_bytes();
            answer
        }),
        exchange("idempotency key of another body", Code::IdempotencyKeyReused, |s| {
            let send = |name: &str| {
                let body = json!({"organization": "acme", "name": name, "permissions": ["meters:read"]});
                let request = post("/v1/credentials")
                    .key(&s.admin_key)
                    .header("Idempotency-Key", "one-key");
                s.send(&request.json(body.to_string()))
            };
            send("first").expect(201);
            send("second")
        }),
        exchange("idempotency key of another path", Code::IdempotencyKeyReused, |s| {
            let send = |path: &str, body: &str| {
                let request = post(path).key(&s.admin_key);
                s.send(&request.header("Idempotency-Key", "\"another-key\"").json(body))
            };
            send("/v1/organizations", r#"{"name":"third"}"#).expect(201);
            send("/v1/credentials", r#"{"name":"third"}"#)
        }),
        case("empty idempotency key", Code::Invalid, |s| {
            post("/v1/meters")
                .key(&s.key)
                .header("Idempotency-Key", "\"\"")
                .json(r#"{"name":"m","kind":"delta"}"#)
        }),
        case("idempotency key too long", Code::Invalid, |s| {
            post("/v1/meters")
                .key(&s.key)
                .header("Idempotency-Key", &"k".repeat(256))
                .json(r#"{"name":"m","kind":"delta"}"#)
        }),
    ]);
    cases
}

const MISSING: &[(&str, &str)] = &[
    ("GET", "/v1/meters/nope"),
    ("PUT", "/v1/meters/nope"),
    ("DELETE", "/v1/meters/nope"),
    ("GET", "/v1/meters/api%5Fcalls%20"),
    ("GET", "/v1/measurements/nope"),
    // Texts that can be no id name nothing.
    ("GET", "/v1/measurements/%20"),
    ("GET", "/v1/measurements/a%00b"),
    ("GET", "/v1/organizations/nope"),
    ("GET", "/v1/credentials/nope"),
    (
        "GET",
        "/v1/credentials/00000000-0000-7000-8000-000000000000",
    ),
    (
        "DELETE",
        "/v1/credentials/00000000-0000-7000-8000-000000000000",
    ),
    (
        "POST",
        "/v1/credentials/00000000-0000-7000-8000-000000000000/rotate",
    ),
];

const CHANGES: &[(&str, Code, &str)] = &[
    (
        "version that was overtaken",
        Code::VersionMismatch,
        r#"{"name":"api_calls","kind":"delta","version":1}"#,
    ),
    (
        "version that is yet to come",
        Code::VersionMismatch,
        r#"{"name":"api_calls","kind":"delta","version":3}"#,
    ),
    (
        "value that holds data taken away",
        Code::ReferenceBroken,
        r#"{"name":"api_calls","kind":"delta","values":{"bytes":{}},"attributes":["region","plan"]}"#,
    ),
    (
        "attribute that holds data taken away",
        Code::ReferenceBroken,
        r#"{"name":"api_calls","kind":"delta","values":{"requests":{}},"attributes":["region"],"version":2}"#,
    ),
    (
        "kind changed under data",
        Code::ReferenceBroken,
        r#"{"name":"api_calls","kind":"gauge","values":{"requests":{}},"attributes":["region","plan"]}"#,
    ),
    (
        "another name",
        Code::Invalid,
        r#"{"name":"calls","kind":"delta"}"#,
    ),
    (
        "version that is none",
        Code::Invalid,
        r#"{"name":"api_calls","kind":"delta","version":0}"#,
    ),
];
