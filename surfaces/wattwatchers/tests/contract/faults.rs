//! Refusals that no single operation is to blame for. Each case says which fault of the catalogue it provokes, with the
//! whole answer.

use crate::world::{HOUSE, Options, World, assert_fault, at};
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{Answer, Request, connect, get, patch, post, read_answer, request};
use serde_json::json;
use std::io::Write as _;
use std::time::Duration;

struct Case {
    code: Code,
    send: fn(&World) -> Answer,
    status: u16,
    /// The code on the wire.
    word: &'static str,
    message: &'static str,
}

fn asked(world: &World, request: Request) -> Answer {
    world.send(&request.key(&world.key))
}

fn house() -> String {
    at(&format!("/devices/{HOUSE}"))
}

fn check(world: &World, cases: &[Case]) {
    for case in cases {
        let answer = (case.send)(world);
        assert_eq!(answer.status, case.status, "{:?}", case.code);
        assert_fault(&answer, case.status, case.word, case.message);
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    world.get("/devices").expect(200);
}

const BAD: (u16, &str) = (400, "BAD_REQUEST");

fn case(
    code: Code,
    (status, word): (u16, &'static str),
    message: &'static str,
    send: fn(&World) -> Answer,
) -> Case {
    Case {
        code,
        send,
        status,
        word,
        message,
    }
}

#[test]
fn requests_that_cannot_be_taken_are_refused_in_the_envelope() {
    let cases = [
        case(
            Code::UnknownRoute,
            (404, "NOT_FOUND"),
            "The requested resource could not be found.",
            |world| world.send(&get(at("/devices/D123456789012/nothing"))),
        ),
        case(
            Code::MethodNotAllowed,
            (405, "METHOD_NOT_ALLOWED"),
            "This path accepts only GET, HEAD.",
            |world| world.send(&post(at("/devices")).json("{}")),
        ),
        case(
            Code::MethodNotAllowed,
            (405, "METHOD_NOT_ALLOWED"),
            "This path accepts only GET, PATCH, POST, HEAD.",
            |world| world.send(&request("DELETE", house())),
        ),
        case(
            Code::Invalid,
            BAD,
            "Serial numbers must be 13 characters in length, starting with a B, D, E, F.",
            |world| asked(world, get(at("/devices/%ff"))),
        ),
        case(
            Code::ContentEncodingUnsupported,
            BAD,
            "The Content-Encoding must be gzip or zstd.",
            |world| {
                let request = patch(house()).header("Content-Encoding", "br");
                asked(world, request.json("{}"))
            },
        ),
        case(
            Code::BodyTooLarge,
            BAD,
            "The body is larger than 262144 bytes.",
            |world| asked(world, patch(house()).json(" ".repeat(256 * 1024 + 1))),
        ),
        case(
            Code::UriTooLong,
            BAD,
            "The address is longer than 512 bytes.",
            |world| asked(world, get(at(&format!("/devices?{}", "a".repeat(512))))),
        ),
        case(
            Code::HeadersTooLarge,
            BAD,
            "The headers are larger than 4096 bytes.",
            |world| {
                asked(
                    world,
                    get(at("/devices")).header("X-Long", &"y".repeat(4096)),
                )
            },
        ),
        case(
            Code::BodyTimeout,
            BAD,
            "The body did not arrive within 0.1 seconds.",
            |world| {
                let whole = patch(house()).key(&world.key).json("{}").bytes();
                let mut stream = connect(world.address);
                stream.write_all(&whole[..whole.len() - 1]).unwrap();
                read_answer(&mut stream, false)
            },
        ),
    ];
    let mut options = Options::default();
    options.general.bounds = Bounds {
        uri_max_bytes: 512,
        headers_max_bytes: 4096,
        body_pause_max: Duration::from_millis(100),
        ..Bounds::default()
    };
    check(&World::start_with(options), &cases);
}

/// A server without room for one more request answers in plain text and says nothing of limits (8).
#[test]
fn a_busy_server_throttles_everybody() {
    let mut options = Options::default();
    options.general.bounds.body_memory_max_bytes = 1024;
    let world = World::start_with(options);
    let body = json!({"label": "a".repeat(4_000)});
    for answer in [
        world.patch(&format!("/devices/{HOUSE}"), &body),
        world.feed(HOUSE, "/long-energy", &body),
    ] {
        assert_eq!(answer.status, 429);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.body, b"Too many requests. Please try again later.\n");
        let names = answer.headers.iter().map(|(name, _)| name.as_str());
        let limits: Vec<_> = names
            .filter(|name| name.starts_with("x-ratelimit") || *name == "retry-after")
            .collect();
        assert!(limits.is_empty(), "{limits:?}");
    }
}

/// [71, 72, 73]
#[test]
fn slashes_bodies_of_get_and_unknown_parameters_do_not_matter() {
    let world = World::start();
    let plain = world.get("/devices").expect(200);
    for path in [
        "//wattwatchers//devices/",
        "/wattwatchers/devices?foo=1&foo=2&toTs=",
    ] {
        assert_eq!(asked(&world, get(path)).expect(200), plain);
    }
    let form = get(at("/devices")).typed("application/x-www-form-urlencoded", "fromTs=1&toTs=x");
    assert_eq!(asked(&world, form).expect(200), plain);
    let json = get(at("/devices")).header("Content-Type", "application/json");
    assert_eq!(asked(&world, json).expect(200), plain);
}
