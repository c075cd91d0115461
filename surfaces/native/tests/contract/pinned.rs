//! Which parts of an answer are pinned, see [`meterd_testkit::pinned`].

use meterd_testkit::client::Answer;
use meterd_testkit::pinned::{Pins, replace, with_placeholders};
use serde_json::{Map, Value, json};
use std::path::Path;
use uuid::Uuid;

/// The answers of one group of cases, on file in `answers/GROUP.json`.
pub(crate) fn pins(group: &str) -> Pins {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/contract/answers")
        .join(format!("{group}.json"));
    Pins::of(file, comparable)
}

/// Status, every header and the body, with placeholders.
fn comparable(answer: &Answer) -> Value {
    let request_id: Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
    assert_eq!(request_id.get_version_num(), 7);
    let date = answer.header("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let mut body = if answer.body.is_empty() {
        Value::Null
    } else {
        answer.json()
    };
    if answer.status >= 400 && !answer.body.is_empty() {
        assert_eq!(body["request_id"], request_id.to_string());
        assert_eq!(body["status"], answer.status);
    }
    if let Some(length) = answer.header("content-length")
        && !answer.body.is_empty()
    {
        assert_eq!(length, answer.body.len().to_string());
    }
    let mut headers: Map<String, Value> = answer
        .headers
        .iter()
        .filter(|(name, _)| {
            !matches!(
                name.as_str(),
                "date" | "content-length" | "x-request-id" | "connection"
            )
        })
        .map(|(name, value)| (name.clone(), with_placeholders(value).into()))
        .collect();
    headers.sort_keys();
    if body["code"] == "rate_limited" {
        hide_waits(&mut headers, &mut body);
    }
    replace(&mut body);
    json!({"status": answer.status, "headers": headers, "body": body})
}

/// How long to wait depends on the moment; that it is positive and within the window does not.
fn hide_waits(headers: &mut Map<String, Value>, body: &mut Value) {
    let wait_ms = body["retry"]["after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait_ms), "{wait_ms}");
    let seconds = headers["retry-after"].as_str().unwrap();
    assert_eq!(seconds, wait_ms.div_ceil(1000).to_string());
    let states: Vec<_> = headers["ratelimit"]
        .as_str()
        .unwrap()
        .split(", ")
        .map(|state| {
            let (known, left) = state.rsplit_once("t=").unwrap();
            assert!((1..=60).contains(&left.parse::<u64>().unwrap()), "{left}");
            format!("{known}t={{seconds}}")
        })
        .collect();
    headers["ratelimit"] = states.join(", ").into();
    headers["retry-after"] = "{seconds}".into();
    body["retry"]["after_ms"] = "{milliseconds}".into();
}
