//! Measurements that cannot be stored, in both forms of a batch.

use super::{Case, Group, case};
use crate::server::{Server, now, row, row_with};
use meterd_fault::Code;
use meterd_testkit::client::{Request, post};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) const GROUP: Group = Group {
    name: "measurements",
    start: seeded,
    cases: batches,
    keeps_contents: true,
};

pub(super) const LINES: Group = Group {
    name: "lines",
    start: seeded,
    cases: lines,
    keeps_contents: true,
};

/// With one measurement stored, for conflicts and so that a change would be seen.
fn seeded() -> Server {
    let server = Server::start().with_meter();
    assert_eq!(server.ingest(&[row("stored")])["accepted"], 1);
    server
}

fn send(server: &Server, body: impl Into<Vec<u8>>) -> Request {
    post("/v1/measurements").key(&server.key).json(body)
}

/// A batch of a good row and a bad one.
fn beside_a_good_one(bad: &str) -> String {
    format!(r#"{{"measurements":[{},{bad}]}}"#, row("good"))
}

/// Text of a row whose `values` are as given.
fn with_values(values: &str) -> String {
    format!(
        r#"{{"id":"bad","meter":"api_calls","subject":"acct_1","time":"2026-11-01T00:00:00Z","values":{values}}}"#
    )
}

fn batches() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, body) in BATCHES {
        cases.push(case(*name, Code::Invalid, move |s| send(s, *body)));
    }
    for (name, body) in MALFORMED {
        cases.push(case(*name, Code::BodyMalformed, move |s| send(s, *body)));
    }
    for (name, members) in members() {
        cases.push(case(format!("row: {name}"), Code::Invalid, move |s| {
            send(s, beside_a_good_one(&row_with("bad", &members).to_string()))
        }));
    }
    for (name, values) in VALUES {
        cases.push(case(*name, Code::Invalid, move |s| {
            send(s, beside_a_good_one(&with_values(values)))
        }));
    }
    for (name, bad) in ROWS {
        cases.push(case(*name, Code::Invalid, move |s| {
            send(s, beside_a_good_one(bad))
        }));
    }
    cases.push(case("a day and an hour ahead", Code::Invalid, |s| {
        let ahead = now().saturating_add(Duration::from_hours(25)).to_string();
        send(
            s,
            beside_a_good_one(&row_with("bad", &json!({"time": ahead})).to_string()),
        )
    }));
    cases.push(case("10,001 rows", Code::Invalid, |s| {
        let rows: Vec<Value> = (0..10_001)
            .map(|index| row(&format!("r-{index}")))
            .collect();
        send(s, json!({"measurements": rows}).to_string())
    }));
    cases.push(case("a hundred problems and more", Code::Invalid, |s| {
        let rows = vec![json!({"id": 1}); 60];
        send(s, json!({"measurements": rows}).to_string())
    }));
    cases.push(case(
        "nesting far past any stack",
        Code::BodyMalformed,
        |s| send(s, format!(r#"{{"measurements":[{}"#, "[".repeat(500_000))),
    ));
    cases.push(case(
        "a conflict is an item",
        Code::MeasurementConflict,
        |s| {
            let other = row_with("stored", &json!({"values": {"requests": 2}}));
            send(s, json!({"measurements": [other]}).to_string())
        },
    ));
    cases.push(case(
        "a conflict within a batch",
        Code::MeasurementConflict,
        |s| {
            let other = row_with("stored", &json!({"subject": "acct_2"}));
            send(
                s,
                json!({"measurements": [row("stored"), other]}).to_string(),
            )
        },
    ));
    cases.push(case("unknown on_error", Code::Invalid, |s| {
        let body = json!({"measurements": [row("good")]}).to_string();
        post("/v1/measurements?on_error=ignore&dry_run=1")
            .key(&s.key)
            .json(body)
    }));
    cases
}

const BATCHES: &[(&str, &str)] = &[
    ("no object", "[]"),
    ("null", "null"),
    ("no measurements", "{}"),
    ("measurements that are null", r#"{"measurements":null}"#),
    ("measurements that are an object", r#"{"measurements":{}}"#),
    ("empty batch", r#"{"measurements":[]}"#),
    ("unknown member", r#"{"measurements":[],"measurement":[]}"#),
    (
        "measurements given twice",
        r#"{"measurements":[],"measurements":[]}"#,
    ),
    (
        "rows that are none",
        r#"{"measurements":[1,"a",null,[],true]}"#,
    ),
    ("empty row", r#"{"measurements":[{}]}"#),
];

const MALFORMED: &[(&str, &[u8])] = &[
    ("empty body", b""),
    ("no JSON", b"id,meter,value"),
    (
        "broken on line 3",
        b"{\n\"measurements\":[\n{\"id\":\"a\" \"meter\":\"m\"}]}",
    ),
    ("text after the end", b"{\"measurements\":[]}{}"),
    ("cut short", b"{\"measurements\":[{\"id\":\"a\""),
    (
        "invalid UTF-8 in an id",
        b"{\"measurements\":[{\"id\":\"\xc3\x28\"}]}",
    ),
    // In a member that nobody reads, too.
    (
        "invalid UTF-8 in an unknown member",
        b"{\"measurements\":[],\"note\":\"\x80\"}",
    ),
    (
        "number with a leading zero",
        b"{\"measurements\":[{\"values\":{\"requests\":007}}]}",
    ),
    (
        "infinite number",
        b"{\"measurements\":[{\"values\":{\"requests\":Infinity}}]}",
    ),
];

fn members() -> Vec<(&'static str, Value)> {
    vec![
        ("unknown meter", json!({"meter": "nope"})),
        ("meter in capitals", json!({"meter": "API_CALLS"})),
        (
            "unknown value and attribute",
            json!({"values": {"clicks": 1}, "attributes": {"colour": "red"}}),
        ),
        ("no values", json!({"values": {}})),
        (
            "values that are null",
            json!({"values": {"requests": null}}),
        ),
        ("values left out", json!({"values": null})),
        ("id too long", json!({"id": "i".repeat(129)})),
        (
            "id of 129 characters of several bytes",
            json!({"id": "é".repeat(129)}),
        ),
        ("empty id", json!({"id": ""})),
        ("id with a blank at the end", json!({"id": "a "})),
        ("id with a control character", json!({"id": "a\u{0}b"})),
        ("id that is a number", json!({"id": 7})),
        ("subject too long", json!({"subject": "s".repeat(129)})),
        (
            "attribute too long",
            json!({"attributes": {"region": "r".repeat(257)}}),
        ),
        (
            "time before 1970",
            json!({"time": "1969-12-31T23:59:59.999999Z"}),
        ),
        ("time years ahead", json!({"time": "2200-01-01T00:00:00Z"})),
        (
            "time past every zone",
            json!({"time": "9999-12-31T23:59:59Z"}),
        ),
        (
            "time without offset",
            json!({"time": "2026-11-01T00:00:00"}),
        ),
        ("date only", json!({"time": "2026-11-01"})),
        ("day that is none", json!({"time": "2026-02-30T00:00:00Z"})),
        ("time in seconds", json!({"time": 1_793_491_200})),
        (
            "time with a zone in brackets",
            json!({"time": "2026-11-01T00:00:00+01:00[Europe/Berlin]"}),
        ),
        (
            "end before the start",
            json!({"end_time": "2026-10-31T23:59:59Z"}),
        ),
        (
            "end at the start",
            json!({"end_time": "2026-11-01T00:00:00Z"}),
        ),
        (
            "wrong types",
            json!({"id": [], "meter": {}, "subject": 1, "time": true, "end_time": 5, "values": "none", "attributes": []}),
        ),
        (
            "wrong types within",
            json!({"values": {"requests": true, "bytes": [1]}, "attributes": {"region": 1, "plan": {}}}),
        ),
        ("unknown member", json!({"units": "kWh"})),
        (
            "everything at once",
            json!({"id": "", "subject": "s".repeat(200), "time": "soon", "values": {"requests": "many", "clicks": 1}, "attributes": {"region": 5, "x/y": "z"}, "note": 1}),
        ),
    ]
}

const VALUES: &[(&str, &str)] = &[
    (
        "21 digits before the point",
        r#"{"requests":100000000000000000000}"#,
    ),
    (
        "19 digits after the point",
        r#"{"requests":0.0000000000000000001}"#,
    ),
    (
        "39 digits",
        r#"{"requests":123456789012345678901.123456789012345678}"#,
    ),
    ("a huge exponent", r#"{"requests":1e400}"#),
    ("a tiny exponent", r#"{"requests":1e-400}"#),
    (
        "an exponent past 64 bits",
        r#"{"requests":1e99999999999999999999}"#,
    ),
    ("a text that is no number", r#"{"requests":"1,5"}"#),
    ("a text with a leading plus", r#"{"requests":"+1"}"#),
    ("a text that is blank", r#"{"requests":" "}"#),
    ("a value given twice", r#"{"requests":1,"requests":1}"#),
    (
        "a value given twice, once as null",
        r#"{"requests":1,"requests":null}"#,
    ),
    (
        "a value given twice, escaped once",
        r#"{"requests":1,"\u0072equests":2}"#,
    ),
];

const ROWS: &[(&str, &str)] = &[
    ("only an unknown member", r#"{"name":"a"}"#),
    (
        "member given twice",
        r#"{"id":"bad","id":"bad2","meter":"api_calls","subject":"s","time":"2026-11-01T00:00:00Z","values":{"requests":1}}"#,
    ),
    (
        "attribute given twice",
        r#"{"id":"bad","meter":"api_calls","subject":"s","time":"2026-11-01T00:00:00Z","values":{"requests":1},"attributes":{"region":"a","region":"b"}}"#,
    ),
    (
        "attribute given twice, once as null",
        r#"{"id":"bad","meter":"api_calls","subject":"s","time":"2026-11-01T00:00:00Z","values":{"requests":1},"attributes":{"region":null,"region":"b"}}"#,
    ),
];

fn lines() -> Vec<Case> {
    let send = |server: &Server, body: String| {
        post("/v1/measurements")
            .key(&server.key)
            .typed("application/x-ndjson", body)
    };
    vec![
        case("no lines", Code::Invalid, move |s| send(s, String::new())),
        case("blank lines", Code::Invalid, move |s| {
            send(s, "\n \r\n\n".into())
        }),
        case("broken second line", Code::BodyMalformed, move |s| {
            send(s, format!("{}\n{{\"id\":}}\n", row("good")))
        }),
        case("two rows on a line", Code::BodyMalformed, move |s| {
            send(s, format!("{} {}", row("good"), row("better")))
        }),
        case("a batch as a line", Code::Invalid, move |s| {
            send(s, json!({"measurements": [row("good")]}).to_string())
        }),
        case("a bad row among blank lines", Code::Invalid, move |s| {
            let bad = row_with("bad", &json!({"time": "soon", "values": {"requests": "x"}}));
            send(s, format!("{}\n\n{bad}\n", row("good")))
        }),
        case("10,001 lines", Code::Invalid, move |s| {
            let lines: Vec<_> = (0..10_001)
                .map(|index| row(&format!("r-{index}")).to_string())
                .collect();
            send(s, lines.join("\n"))
        }),
        case("invalid UTF-8 on line 2", Code::BodyMalformed, |s| {
            let body = [row("good").to_string().as_bytes(), b"\n\"\xff\""].concat();
            post("/v1/measurements")
                .key(&s.key)
                .typed("application/x-ndjson; charset=utf-8", body)
        }),
    ]
}
