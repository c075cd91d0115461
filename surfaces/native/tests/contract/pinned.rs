//! Which parts of an answer are pinned, see [`meterd_testkit::pinned`].

use meterd_testkit::client::Answer;
use meterd_testkit::pinned::{self, Pins};
use serde_json::Value;

/// The answers of one group of cases, on file in `answers/GROUP.json`.
pub(crate) fn pins(group: &str) -> Pins {
    Pins::of(env!("CARGO_MANIFEST_DIR"), group, comparable)
}

fn comparable(answer: &Answer) -> Value {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    if answer.status >= 400 && !answer.body.is_empty() {
        let body = answer.json();
        let request_id = answer.header("x-request-id").unwrap();
        assert_eq!(body["request_id"], request_id);
        assert_eq!(body["status"], answer.status);
    }
    let mut pinned = pinned::comparable(answer);
    if pinned["body"]["code"] == "rate_limited" {
        hide_waits(&mut pinned);
    }
    pinned
}

/// How long to wait depends on the moment; that it is positive and within the window does not.
fn hide_waits(pinned: &mut Value) {
    let wait_ms = pinned["body"]["retry"]["after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait_ms), "{wait_ms}");
    let headers = &mut pinned["headers"];
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
    pinned["body"]["retry"]["after_ms"] = "{milliseconds}".into();
}
