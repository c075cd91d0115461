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
    let length = answer.header("content-length").unwrap();
    assert_eq!(length, answer.body.len().to_string());
    let told = answer.headers.iter().filter(|(name, _)| {
        let of_the_moment = ["date", "content-length", "x-request-id", "connection"];
        !of_the_moment.contains(&name.as_str())
    });
    let mut headers: Map<String, Value> = told
        .map(|(name, value)| (name.clone(), with_placeholders(value).into()))
        .collect();
    headers.sort_keys();
    let mut body = answer.json();
    replace(&mut body);
    json!({"status": answer.status, "headers": headers, "body": body})
}
