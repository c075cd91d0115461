//! What is wrong with a request before anybody looks at what it means, and HEAD: status, headers and whole body (3.2, 8).

use crate::server::{Options, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use meterd_testkit::client::{Answer, Request, get, post, request};
use serde_json::{Value, json};
use std::io::Write as _;

const CUSTOMERS: &str = "/fsm-navigator/api/v1/customers";
/// Headers of every answer; those of limits are beside them for whoever got as far.
const HEADERS: [&str; 6] = [
    "cache-control",
    "content-type",
    "content-length",
    "x-content-type-options",
    "x-request-id",
    "date",
];
const LIMITS: [&str; 3] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

/// A server that has limits, and tells them.
fn limited() -> Server {
    let mut options = Options::default();
    options.settings.limits.enabled = true;
    Server::start_with(options)
}

fn names(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<_> = names.filter(|name| *name != "connection").collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn assert_refused(answer: &Answer, tells_limits: bool, code: &str, message: &str) {
    let body = json!({"success": false, "error": code, "message": message});
    assert_eq!(answer.json(), body);
    let status = if code == "unauthorized" { 401 } else { 400 };
    assert_eq!(answer.status, status);
    let limits = LIMITS.iter().filter(|_| tells_limits);
    let mut expected: Vec<_> = HEADERS.iter().chain(limits).copied().collect();
    expected.sort_unstable();
    assert_eq!(names(answer), expected);
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_that_cannot_be_read() {
    let server = limited();
    let gzipped = |bytes: &[u8]| {
        let request = post(CUSTOMERS).header("Content-Encoding", "gzip");
        request.json(gzip(bytes))
    };
    let mebibyte = 1024 * 1024;
    let no_object = "The request body must be an object.";
    let too_large = "The body is larger than 1048576 bytes.";
    let nested = format!(
        "Invalid value for {}: must not nest deeper than 32 levels. {no_object}",
        "[0]".repeat(32)
    );
    let deep = [b"[".repeat(100), b"]".repeat(100)].concat();
    let cases: [(Request, &str); 7] = [
        (
            post(CUSTOMERS).header("Content-Encoding", "br").json("{}"),
            "The Content-Encoding must be gzip or zstd.",
        ),
        (post(CUSTOMERS).json(" ".repeat(mebibyte + 1)), too_large),
        // A kilobyte that unpacks to more than a body may have, and one of a thousandth of its size.
        (gzipped(&b" ".repeat(mebibyte + 1)), too_large),
        (gzipped(&vec![b' '; 32 * mebibyte]), too_large),
        (
            post(CUSTOMERS).json(*b"{\"customer_name\":\"\xff\"}"),
            "The request body is not valid JSON: invalid UTF-8 at line 1, column 19.",
        ),
        (post(CUSTOMERS).json(deep), &nested),
        (post(CUSTOMERS).json("[]"), no_object),
    ];
    for (request, message) in cases {
        let answer = server.send(&request.header("X-API-Key", &server.key));
        assert_refused(&answer, true, "validation_failed", message);
    }
    let packed =
        server.send(&gzipped(b"{\"customer_name\":\"A\"}").header("X-API-Key", &server.key));
    assert_eq!(packed.expect(201)["customer"]["customer_name"], "A");
    assert_eq!(server.get("/customers")["pagination"]["total"], 1);
}

/// Before the key is known, so that nobody reads the limits of one.
#[test]
fn heads_that_are_too_large() {
    let server = limited();
    let long = get(format!("{CUSTOMERS}?search={}", "a".repeat(9 * 1024)));
    let wide = get(CUSTOMERS).header("X-Long", &"y".repeat(40 * 1024));
    for (request, message) in [
        (long, "The address is longer than 8192 bytes."),
        (wide, "The headers are larger than 32768 bytes."),
    ] {
        let with_key = request.clone().header("X-API-Key", &server.key);
        for request in [request, with_key] {
            let answer = server.send(&request);
            assert_refused(&answer, false, "validation_failed", message);
        }
    }
    let message = "API key is missing or invalid.";
    let answer = server.send(&get(CUSTOMERS));
    assert_refused(&answer, false, "unauthorized", message);
    // From here on the connection itself answers.
    let longer = get(format!("{CUSTOMERS}?search={}", "a".repeat(70 * 1024)));
    let answer = server.send(&longer.header("X-API-Key", &server.key));
    assert_eq!((answer.status, answer.body.len()), (414, 0));
    assert_eq!(names(&answer), ["content-length", "date"]);
}

/// HEAD has the status and the headers of GET (9).
#[test]
fn head_has_what_get_has() {
    let server = limited();
    server.post("/customers", &json!({"customer_name": "A"}));
    for (path, status) in [
        ("/customers", 200),
        ("/customers?id=1", 200),
        ("/customers?id=2", 404),
        ("/customers?page=0", 400),
        ("/nonsense", 404),
    ] {
        let ask = |method| {
            let target = format!("/fsm-navigator/api/v1{path}");
            server.send(&request(method, target).header("X-API-Key", &server.key))
        };
        let (whole, head) = (ask("GET"), ask("HEAD"));
        assert_eq!((whole.status, head.status), (status, status), "{path}");
        assert!(head.body.is_empty());
        assert_eq!(names(&head), names(&whole));
        for name in ["content-type", "content-length", "x-ratelimit-limit"] {
            assert_eq!(head.header(name), whole.header(name), "{name} of {path}");
        }
        assert_ne!(whole.json(), Value::Null);
    }
}
