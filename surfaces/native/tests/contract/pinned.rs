//! Whole answers, held against the ones on file.
//!
//! `answers/GROUP.json` has one entry per case. What differs from run to run is checked for its form and then stands
//! as a placeholder. With `PIN_ANSWERS=1` a run writes the files anew; the difference is then read like code.

use crate::client::Answer;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use uuid::Uuid;

/// The answers of one group of cases.
pub(crate) struct Pins {
    file: PathBuf,
    on_file: Map<String, Value>,
    seen: Map<String, Value>,
    differences: Vec<String>,
}

impl Pins {
    pub(crate) fn of(group: &str) -> Self {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/contract/answers")
            .join(format!("{group}.json"));
        let on_file = std::fs::read(&file).map_or_else(
            |_| Map::new(),
            |text| serde_json::from_slice(&text).unwrap(),
        );
        Self {
            file,
            on_file,
            seen: Map::new(),
            differences: Vec::new(),
        }
    }

    pub(crate) fn check(&mut self, name: &str, answer: &Answer) {
        let seen = comparable(answer);
        match self.on_file.get(name) {
            Some(pinned) if *pinned == seen => {}
            pinned => self.differences.push(format!(
                "{name}\n  on file: {}\n  now:     {seen}",
                pinned.map_or_else(|| "nothing".to_owned(), ToString::to_string),
            )),
        }
        let before = self.seen.insert(name.to_owned(), seen);
        assert!(before.is_none(), "two cases are named {name}");
    }

    /// Fails if any answer differed, or if the file has entries of cases that are gone.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        if std::env::var_os("PIN_ANSWERS").is_some() {
            let mut text = serde_json::to_string_pretty(&self.seen).unwrap();
            text.push('\n');
            std::fs::write(&self.file, text).unwrap();
            return;
        }
        let gone = self
            .on_file
            .keys()
            .filter(|name| !self.seen.contains_key(*name));
        self.differences
            .extend(gone.map(|name| format!("{name}\n  on file, but no case")));
        assert!(
            self.differences.is_empty(),
            "{}:\n{}",
            self.file.display(),
            self.differences.join("\n")
        );
    }
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

fn replace(value: &mut Value) {
    match value {
        Value::String(text) => *text = with_placeholders(text),
        Value::Array(items) => items.iter_mut().for_each(replace),
        Value::Object(members) => members.values_mut().for_each(replace),
        _ => {}
    }
}

/// Ids, secrets and times of this run as placeholders; times of the tests' data stay.
fn with_placeholders(text: &str) -> String {
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
    let mut replaced = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !in_word(c)) {
        let word = piece
            .trim_end_matches(|c| !in_word(c))
            .trim_end_matches('.');
        let placeholder = if word.parse::<Uuid>().is_ok() {
            Some("{uuid}")
        } else if word.starts_with("mtr_") {
            Some("{secret}")
        } else if is_of_this_run(word) {
            Some("{time}")
        } else if let Some(id) = word.strip_prefix("credential:")
            && id.parse::<Uuid>().is_ok()
        {
            Some("credential:{uuid}")
        } else {
            None
        };
        match placeholder {
            Some(placeholder) => {
                replaced.push_str(placeholder);
                replaced.push_str(&piece[word.len()..]);
            }
            None => replaced.push_str(piece),
        }
    }
    replaced
}

/// Whether a text is a time within two days of now, to the microsecond.
fn is_of_this_run(word: &str) -> bool {
    const DAYS: i64 = 2 * 24 * 3600;
    word.contains('.')
        && word
            .parse::<jiff::Timestamp>()
            .is_ok_and(|time| (time.as_second() - jiff::Timestamp::now().as_second()).abs() <= DAYS)
}
