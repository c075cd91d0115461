//! Bodies that cannot be read, or say what the API does not know: resources and queries.

use super::{Case, Group, case, exchange};
use crate::server::{Options, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use meterd_fault::Code;
use meterd_http::Bounds;
use meterd_testkit::client::{connect, post, read_answer, request};
use std::io::Write;
use std::time::Duration;

pub(super) const GROUP: Group = Group {
    name: "bodies",
    start: || {
        Server::start_with(Options {
            bounds: Bounds {
                body_pause_max: Duration::from_millis(100),
                ..Bounds::default()
            },
            ..Options::default()
        })
        .with_meter()
    },
    cases,
    keeps_contents: true,
};

/// Largest body of resources, and of measurements.
const MIB: usize = 1 << 20;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, body) in MALFORMED {
        cases.push(case(*name, Code::BodyMalformed, move |s| {
            post("/v1/meters").key(&s.key).json(*body)
        }));
    }
    for (name, body) in METERS {
        cases.push(case(format!("meter: {name}"), Code::Invalid, move |s| {
            post("/v1/meters").key(&s.key).json(*body)
        }));
    }
    for (name, body) in QUERIES {
        cases.push(case(format!("query: {name}"), Code::Invalid, move |s| {
            post("/v1/query").key(&s.key).json(*body)
        }));
    }
    for (name, path, body) in ADMINISTRATION {
        cases.push(case(*name, Code::Invalid, move |s| {
            post(*path).key(&s.admin_key).json(*body)
        }));
    }
    for (name, target) in PARAMETERS {
        let admin =
            target.starts_with("/v1/organizations") || target.starts_with("/v1/credentials");
        cases.push(case(
            format!("parameters: {name}"),
            Code::Invalid,
            move |s| request("GET", *target).key(if admin { &s.admin_key } else { &s.key }),
        ));
    }
    cases.push(case("deep nesting", Code::Invalid, |s| {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        let body = format!(r#"{{"name":"m","kind":"delta","attributes":{deep}}}"#);
        post("/v1/meters").key(&s.key).json(body)
    }));
    cases.push(case(
        "nesting far past any stack",
        Code::BodyMalformed,
        |s| post("/v1/meters").key(&s.key).json("[".repeat(500_000)),
    ));
    cases.extend(sizes());
    cases.push(exchange("a body that stops", Code::BodyTimeout, |s| {
        let mut stream = connect(s.address);
        let head = format!(
            "POST /v1/meters HTTP/1.1\r\nHost: meter.example\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"name\":",
            s.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, false)
    }));
    cases.push(exchange("a body that ends early", Code::BodyMalformed, |s| {
        let mut stream = connect(s.address);
        let head = format!(
            "POST /v1/meters HTTP/1.1\r\nHost: meter.example\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{{\"name\":\r\nnonsense\r\n",
            s.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, false)
    }));
    cases
}

const MALFORMED: &[(&str, &[u8])] = &[
    ("empty body", b""),
    ("blank body", b" \n\t"),
    ("trailing comma", b"{\"name\":\"m\",}"),
    (
        "missing comma on line 2",
        b"{\"name\":\"m\"\n \"kind\":\"delta\"}",
    ),
    ("two documents", b"{} {}"),
    ("unfinished string", b"{\"name\":\"m"),
    ("control character in a string", b"{\"name\":\"a\x01\"}"),
    ("leading zero", b"{\"name\":01}"),
    ("NaN", b"{\"name\":NaN}"),
    ("single quotes", b"{'name':'m'}"),
    ("comment", b"{/* no */}"),
    ("byte order mark", b"\xef\xbb\xbf{}"),
    ("invalid UTF-8", b"{\"name\":\"\xff\xfe\"}"),
    ("overlong UTF-8", b"{\n\"name\":\"\xc0\x80\"}"),
    ("lone surrogate", b"{\"name\":\"\\ud800\"}"),
];

const METERS: &[(&str, &str)] = &[
    ("not an object", "[]"),
    ("null", "null"),
    ("nothing given", "{}"),
    (
        "wrong types",
        r#"{"name":1,"kind":true,"values":[],"attributes":{}}"#,
    ),
    ("unknown kind", r#"{"name":"m","kind":"counter"}"#),
    (
        "unknown member",
        r#"{"name":"m","kind":"delta","colour":"red"}"#,
    ),
    (
        "key given twice",
        r#"{"name":"m","name":"m","kind":"delta"}"#,
    ),
    (
        "nested key given twice",
        r#"{"name":"m","kind":"delta","values":{"v":{"unit":"1","unit":"1"}}}"#,
    ),
    (
        "field given twice",
        r#"{"name":"m","kind":"delta","values":{"v":{},"v":{}}}"#,
    ),
    ("name with a blank", r#"{"name":"my meter","kind":"delta"}"#),
    (
        "name that starts with a digit",
        r#"{"name":"1m","kind":"delta"}"#,
    ),
    ("empty name", r#"{"name":"","kind":"delta"}"#),
    (
        "field with a slash and a tilde",
        r#"{"name":"m","kind":"delta","values":{"a/b~c":{}}}"#,
    ),
    (
        "empty unit",
        r#"{"name":"m","kind":"delta","values":{"v":{"unit":""}}}"#,
    ),
    (
        "attribute given twice",
        r#"{"name":"m","kind":"delta","attributes":["a","a"]}"#,
    ),
    (
        "attribute named like a value",
        r#"{"name":"m","kind":"delta","values":{"v":{}},"attributes":["v","subject"]}"#,
    ),
    (
        "everything at once",
        r#"{"name":"a b","kind":"x","values":{"1":{"unit":5},"ok":7},"attributes":["a",2,"a b"],"extra":1,"kind":"y"}"#,
    ),
];

const QUERIES: &[(&str, &str)] = &[
    ("nothing given", "{}"),
    (
        "wrong types",
        r#"{"meter":1,"from":2,"to":false,"timezone":3,"window":4,"group_by":"subject","filter":[],"aggregations":{},"order_by":{},"limit":"9","cursor":5}"#,
    ),
    (
        "unknown meter",
        r#"{"meter":"nope","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"count"}]}"#,
    ),
    (
        "unknown words",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","timezone":"Mars/Olympus","window":"year","aggregations":[{"function":"median","field":"requests"}]}"#,
    ),
    (
        "unknown names",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","group_by":["colour"],"filter":{"shape":["round"]},"aggregations":[{"function":"sum","field":"region"},{"function":"unique","field":"flavour"}],"order_by":[{"value":"sum(requests)"}]}"#,
    ),
    (
        "range the wrong way round",
        r#"{"meter":"api_calls","from":"2026-12-01T00:00:00Z","to":"2026-11-01T00:00:00Z","aggregations":[{"function":"count"}]}"#,
    ),
    (
        "empty range",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-11-01T00:00:00Z","aggregations":[{"function":"count"}]}"#,
    ),
    (
        "times that are none",
        r#"{"meter":"api_calls","from":"2026-11-01","to":"2026-11-31T00:00:00Z","aggregations":[{"function":"count"}]}"#,
    ),
    (
        "time before 1970",
        r#"{"meter":"api_calls","from":"1969-12-31T23:59:59Z","to":"2026-11-01T00:00:00Z","aggregations":[{"function":"count"}]}"#,
    ),
    (
        "no aggregations",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[]}"#,
    ),
    (
        "sum of nothing",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"sum"}]}"#,
    ),
    (
        "things given twice",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","group_by":["region","region"],"aggregations":[{"function":"count"},{"function":"count"}]}"#,
    ),
    (
        "empty filter",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","filter":{"region":[]},"aggregations":[{"function":"count"}]}"#,
    ),
    (
        "filter of numbers",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","filter":{"region":[1,2]},"aggregations":[{"function":"count"}]}"#,
    ),
    (
        "subject that can be none",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","filter":{"subject":[""," a"]},"aggregations":[{"function":"count"}]}"#,
    ),
    (
        "limits out of range",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"count"}],"limit":10001}"#,
    ),
    (
        "limit of 0",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"count"}],"limit":0}"#,
    ),
    (
        "limit in halves",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"count"}],"limit":1.5}"#,
    ),
    (
        "made-up cursor",
        r#"{"meter":"api_calls","from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","aggregations":[{"function":"count"}],"cursor":"page-2"}"#,
    ),
];

const ADMINISTRATION: &[(&str, &str, &str)] = &[
    ("organization: nothing given", "/v1/organizations", "{}"),
    (
        "organization: wrong types",
        "/v1/organizations",
        r#"{"name":1,"display_name":2,"timezone":3}"#,
    ),
    (
        "organization: bad words",
        "/v1/organizations",
        r#"{"name":"-Acme Inc","display_name":"","timezone":"CEST+2","plan":"gold"}"#,
    ),
    ("credential: nothing given", "/v1/credentials", "{}"),
    (
        "credential: wrong types",
        "/v1/credentials",
        r#"{"organization":1,"name":2,"permissions":"*","addresses":"any","expires_at":0}"#,
    ),
    (
        "credential: bad words",
        "/v1/credentials",
        r#"{"name":" ","permissions":["meters:fly","*"],"addresses":["10.0.0.0/99","here"],"expires_at":"tomorrow"}"#,
    ),
    (
        "credential: unknown organization",
        "/v1/credentials",
        r#"{"organization":"nobody","name":"k","permissions":["*"]}"#,
    ),
    (
        "credential: no permissions",
        "/v1/credentials",
        r#"{"name":"k","permissions":[]}"#,
    ),
];

const PARAMETERS: &[(&str, &str)] = &[
    ("unknown", "/v1/meters?page=2"),
    ("given twice", "/v1/meters?limit=1&limit=2"),
    ("limit out of range", "/v1/meters?limit=1001"),
    ("limit of 0", "/v1/events?limit=0"),
    ("limit that is no number", "/v1/measurements?limit=many"),
    ("made-up cursor", "/v1/meters?cursor=abc"),
    (
        "made-up cursor of measurements",
        "/v1/measurements?cursor=zz.1",
    ),
    ("made-up cursor of events", "/v1/events?cursor=%00"),
    ("unknown meter", "/v1/measurements?meter=nope"),
    ("subject that can be none", "/v1/measurements?subject=%20"),
    (
        "times that are none",
        "/v1/measurements?from=yesterday&to=1969-01-01T00:00:00Z",
    ),
    ("bytes that are no UTF-8", "/v1/measurements?subject=%ff"),
    (
        "unknown organization",
        "/v1/credentials?organization=nobody",
    ),
    (
        "cursor of organizations",
        "/v1/organizations?cursor=%F0%9F%A6%80",
    ),
];

fn sizes() -> Vec<Case> {
    vec![
        case("one byte too large", Code::BodyTooLarge, |s| {
            post("/v1/meters").key(&s.key).json(" ".repeat(MIB + 1))
        }),
        exchange("announced too large", Code::BodyTooLarge, |s| {
            let mut stream = connect(s.address);
            let head = format!(
                "POST /v1/measurements HTTP/1.1\r\nHost: meter.example\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n",
                s.key
            );
            stream.write_all(head.as_bytes()).unwrap();
            read_answer(&mut stream, false)
        }),
        case("gzip bomb", Code::BodyTooLarge, |s| {
            post("/v1/measurements")
                .key(&s.key)
                .header("Content-Encoding", "gzip")
                .json(gzip(&vec![b' '; 16 * MIB + 1]))
        }),
        case("zstd bomb", Code::BodyTooLarge, |s| {
            post("/v1/measurements")
                .key(&s.key)
                .header("Content-Encoding", "zstd")
                .json(zstd::encode_all(vec![b' '; 16 * MIB + 1].as_slice(), 1).unwrap())
        }),
        case("damaged gzip", Code::BodyMalformed, |s| {
            let mut damaged = gzip(b"{\"measurements\":[]}");
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            post("/v1/measurements")
                .key(&s.key)
                .header("Content-Encoding", "gzip")
                .json(damaged)
        }),
        case("gzip cut short", Code::BodyMalformed, |s| {
            let mut cut = gzip(b"{\"measurements\":[]}");
            cut.truncate(cut.len() - 6);
            post("/v1/measurements")
                .key(&s.key)
                .header("Content-Encoding", "gzip")
                .json(cut)
        }),
        case("damaged zstd", Code::BodyMalformed, |s| {
            post("/v1/measurements")
                .key(&s.key)
                .header("Content-Encoding", "zstd")
                .json(*b"not zstd")
        }),
        case(
            "zstd that asks for too wide a window",
            Code::BodyMalformed,
            |s| {
                post("/v1/measurements")
                    .key(&s.key)
                    .header("Content-Encoding", "zstd")
                    .json(wide_zstd())
            },
        ),
    ]
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame that makes its reader keep 64 MiB.
fn wide_zstd() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(26).unwrap();
    encoder.write_all(b"{\"measurements\":[]}").unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_up_to_the_bound_are_read() {
    let server = Server::start();
    let meter = r#"{"name":"m","kind":"delta"}"#;
    let padded = format!("{meter}{}", " ".repeat(MIB - meter.len()));
    assert_eq!(
        server
            .send(&post("/v1/meters").key(&server.key).json(padded))
            .status,
        201
    );
}

/// The faults come through to a client that sends everything before it reads anything.
#[test]
fn a_refused_body_may_be_sent_to_its_end() {
    let server = Server::start();
    let body = vec![b' '; 24 * MIB];
    for (path, key, status) in [
        ("/v1/measurements", server.key.as_str(), 413),
        ("/v1/meters", "mtr_unknown", 401),
        ("/v1/nothing", "", 404),
    ] {
        let answer = server.send(&post(path).key(key).json(body.clone()));
        assert_eq!(answer.status, status, "{path}");
    }
}
