//! Requests that fail before their body is looked at: routes, methods, heads past a bound.

use super::{Case, Group, case};
use crate::server::{Options, Server};
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{get, post, request};

pub(super) const GROUP: Group = Group {
    name: "requests",
    start: || Server::start().with_meter(),
    cases: routes,
    keeps_contents: true,
};

pub(super) const BOUNDED: Group = Group {
    name: "bounded",
    start: || {
        Server::start_with(Options {
            bounds: Bounds {
                uri_max_bytes: 256,
                headers_max_bytes: 1024,
                ..Bounds::default()
            },
            ..Options::default()
        })
    },
    cases: heads,
    keeps_contents: false,
};

fn routes() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/meters/api_calls/fields"),
        ("GET", "/v1/METERS"),
        ("GET", "/elsewhere"),
        // A path that is percent-encoded is another path.
        ("GET", "/v1/%6deters"),
    ]
    .map(|(method, path)| {
        case(format!("{method} {path}"), Code::UnknownRoute, move |_| {
            request(method, path)
        })
    })
    .into();
    cases.extend(
        [
            ("DELETE", "/v1/meters"),
            ("POST", "/v1/meters/api_calls"),
            ("PUT", "/v1/measurements"),
            ("PATCH", "/v1/measurements/a-1"),
            ("GET", "/v1/query"),
            ("HEAD2", "/v1/query"),
            ("POST", "/v1/events"),
            ("PUT", "/v1/organizations"),
            ("DELETE", "/v1/organizations/acme"),
            ("DELETE", "/v1/credentials"),
            ("PUT", "/v1/credentials/x"),
            ("GET", "/v1/credentials/x/rotate"),
            ("POST", "/v1/faults"),
            ("OPTIONS", "/v1/openapi.json"),
        ]
        .map(|(method, path)| {
            // Before credentials: none are sent.
            case(
                format!("{method} {path}"),
                Code::MethodNotAllowed,
                move |_| request(method, path),
            )
        }),
    );
    cases.push(case(
        "path parameter that is no UTF-8",
        Code::Invalid,
        |s| get("/v1/meters/%ff").key(&s.key),
    ));
    cases.push(case("stray percent sign in the path", Code::Invalid, |s| {
        get("/v1/measurements/100%").key(&s.key)
    }));
    let media_types = [
        ("no content type", "POST", "/v1/meters", None),
        (
            "form",
            "POST",
            "/v1/meters",
            Some("application/x-www-form-urlencoded"),
        ),
        (
            "lines where only JSON is taken",
            "POST",
            "/v1/query",
            Some("application/x-ndjson"),
        ),
        (
            "text as measurements",
            "POST",
            "/v1/measurements",
            Some("text/plain"),
        ),
        (
            "measurements without content type",
            "POST",
            "/v1/measurements",
            None,
        ),
        (
            "not quite JSON",
            "PUT",
            "/v1/meters/api_calls",
            Some("application/jsonx"),
        ),
    ];
    for (name, method, path, media_type) in media_types {
        cases.push(case(name, Code::MediaTypeUnsupported, move |s| {
            let request = request(method, path).key(&s.key).body("{}");
            match media_type {
                Some(media_type) => request.header("Content-Type", media_type),
                None => request,
            }
        }));
    }
    for encoding in ["br", "deflate", "gzip, zstd"] {
        cases.push(case(
            format!("content encoding {encoding}"),
            Code::ContentEncodingUnsupported,
            move |s| {
                post("/v1/measurements")
                    .key(&s.key)
                    .header("Content-Encoding", encoding)
                    .json("{}")
            },
        ));
    }
    cases.push(case(
        "two content encodings",
        Code::ContentEncodingUnsupported,
        |s| {
            post("/v1/meters")
                .key(&s.key)
                .header("Content-Encoding", "gzip")
                .header("Content-Encoding", "gzip")
                .json("{}")
        },
    ));
    cases
}

fn heads() -> Vec<Case> {
    vec![
        case("address one byte too long", Code::UriTooLong, |_| {
            get(format!(
                "/v1/faults?{}",
                "q".repeat(257 - "/v1/faults?".len())
            ))
        }),
        case("path too long", Code::UriTooLong, |_| {
            get(format!("/v1/meters/{}", "m".repeat(1000)))
        }),
        case("one long header", Code::HeadersTooLarge, |_| {
            get("/v1/faults").header("X-Long", &"v".repeat(1024))
        }),
        case("many headers", Code::HeadersTooLarge, |_| {
            (0..30).fold(get("/v1/faults"), |request, index| {
                request.header(&format!("X-{index}"), "v")
            })
        }),
    ]
}

#[test]
fn heads_up_to_the_bound_are_served() {
    let server = (BOUNDED.start)();
    let longest = format!("/v1/faults?{}", "q".repeat(256 - "/v1/faults?".len()));
    assert_eq!(server.send(&get(longest)).status, 200);
    // Each counts for 32 bytes more than it has.
    let most = (0..20).fold(get("/v1/faults"), |request, index| {
        request.header(&format!("X-{index}"), "v")
    });
    assert_eq!(server.send(&most).status, 200);
}
