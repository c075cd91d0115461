//! Requests that no single operation is to blame for: where they go, how large they are, what their bodies are.

use super::{Case, Group, case, exchange};
use crate::server::{Options, Server};
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{Request, connect, get, post, put, read_answer, request};
use serde_json::json;
use std::io::Write as _;
use std::time::Duration;

pub(super) const GROUP: Group = Group {
    name: "requests",
    start: Server::start,
    cases,
    keeps_contents: true,
};

pub(super) const BOUNDED: Group = Group {
    name: "bounded",
    start: || {
        let mut options = Options::default();
        options.general.bounds = Bounds {
            uri_max_bytes: 512,
            headers_max_bytes: 2_048,
            body_pause_max: Duration::from_millis(100),
            body_memory_max_bytes: 8 * 1024,
            ..Bounds::default()
        };
        Server::start_with(options)
    },
    cases: bounded,
    keeps_contents: true,
};

fn products(server: &Server) -> Request {
    post(server.path("/products"))
}

fn cases() -> Vec<Case> {
    vec![
        case("no such path", Code::UnknownRoute, |_| {
            get("/m3ter/nothing")
        }),
        case("no such method", Code::MethodNotAllowed, |s| {
            request("PATCH", s.path("/products"))
        }),
        case(
            "no such method of the token endpoint",
            Code::MethodNotAllowed,
            |_| get("/m3ter/oauth/token"),
        ),
        case("a path that is no text", Code::Invalid, |s| {
            get(s.path("/products/%ff"))
        }),
        case("a cursor of nobody's", Code::Invalid, |s| {
            get(s.path("/products?nextToken=abc"))
        }),
        case("a page that is too large", Code::Invalid, |s| {
            get(s.path("/meters?pageSize=101"))
        }),
        case("broken JSON", Code::BodyMalformed, |s| {
            products(s).json("{\n  \"name\": ,\n}")
        }),
        case("broken JSON of a meter", Code::BodyMalformed, |s| {
            put(s.path("/meters/0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11")).json("{\"name\": \"M\"")
        }),
        case("broken JSON of measurements", Code::BodyMalformed, |s| {
            post(s.path("/measurements")).json("{\"measurements\":[{]}")
        }),
        case("no body", Code::BodyMalformed, |s| products(s).json("")),
        case("an array for an object", Code::Invalid, |s| {
            products(s).json("[]")
        }),
        case("a member twice", Code::Invalid, |s| {
            products(s).json(r#"{"name":"a","name":"b","code":"c"}"#)
        }),
        case("all problems at once", Code::Invalid, |s| {
            products(s).json(r#"{"name":"","customFields":7}"#)
        }),
        case("another media type", Code::MediaTypeUnsupported, |s| {
            products(s).typed("text/csv", "a,b")
        }),
        case(
            "an unknown encoding",
            Code::ContentEncodingUnsupported,
            |s| products(s).header("Content-Encoding", "br").json("{}"),
        ),
        case("a body that is too large", Code::BodyTooLarge, |s| {
            products(s).json(" ".repeat(1024 * 1024 + 1))
        }),
        case("too many bytes of measurements", Code::BodyTooLarge, |s| {
            post(s.path("/measurements")).json(" ".repeat(512_000))
        }),
    ]
}

fn bounded() -> Vec<Case> {
    vec![
        case("a long address", Code::UriTooLong, |s| {
            get(s.path(&format!("/products?{}", "a".repeat(512))))
        }),
        case("large headers", Code::HeadersTooLarge, |s| {
            get(s.path("/products")).header("X-Large", &"a".repeat(2_048))
        }),
        exchange("a body that does not come", Code::BodyTimeout, |s| {
            let request = products(s).key(&s.acme.admin.token).json("{}");
            let whole = request.bytes();
            let mut stream = connect(s.address);
            stream.write_all(&whole[..whole.len() - 1]).unwrap();
            read_answer(&mut stream, false)
        }),
        case("more bodies than memory for them", Code::Overloaded, |s| {
            let body = json!({"name": "a".repeat(10_000), "code": "a"});
            products(s).json(body.to_string())
        }),
    ]
}
