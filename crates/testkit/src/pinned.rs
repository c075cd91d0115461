//! Whole answers, held against the ones on file.
//!
//! A file has one entry per case. What differs from run to run is checked for its form and then stands
//! as a placeholder. With `PIN_ANSWERS=1` a run writes the files anew; the difference is then read like code.

use crate::client::Answer;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The answers of one group of cases.
pub struct Pins {
    file: PathBuf,
    on_file: Map<String, Value>,
    seen: Map<String, Value>,
    differences: Vec<String>,
    comparable: fn(&Answer) -> Value,
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pins")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Pins {
    /// Those on file in a crate's `tests/contract/answers/GROUP.json`. `comparable` is what of an answer is pinned.
    pub fn of(crate_directory: &str, group: &str, comparable: fn(&Answer) -> Value) -> Self {
        let file = Path::new(crate_directory)
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
            comparable,
        }
    }

    pub fn check(&mut self, name: &str, answer: &Answer) {
        let seen = (self.comparable)(answer);
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
    pub fn finish(mut self) {
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

/// Status, every header but those of the moment, and the body if there is one, with placeholders.
pub fn comparable(answer: &Answer) -> Value {
    const OF_THE_MOMENT: [&str; 4] = ["date", "content-length", "x-request-id", "connection"];
    let request_id: Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
    assert_eq!(request_id.get_version_num(), 7);
    let date = answer.header("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    let mut body = Value::Null;
    if !answer.body.is_empty() {
        let length = answer.header("content-length").unwrap();
        assert_eq!(length, answer.body.len().to_string());
        body = answer.json();
        replace(&mut body);
    }
    let told = answer.headers.iter();
    let told = told.filter(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()));
    let mut headers: Map<String, Value> = told
        .map(|(name, value)| (name.clone(), with_placeholders(value).into()))
        .collect();
    headers.sort_keys();
    json!({"status": answer.status, "headers": headers, "body": body})
}

/// Puts placeholders into all texts.
pub fn replace(value: &mut Value) {
    match value {
        Value::String(text) => *text = with_placeholders(text),
        Value::Array(items) => items.iter_mut().for_each(replace),
        Value::Object(members) => members.values_mut().for_each(replace),
        _ => {}
    }
}

/// Ids, secrets and times of this run as placeholders; times of the tests' data stay.
pub fn with_placeholders(text: &str) -> String {
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
        } else {
            actor_of_this_run(word)
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

fn actor_of_this_run(word: &str) -> Option<&'static str> {
    const ACTORS: [(&str, &str); 2] = [
        ("credential:", "credential:{uuid}"),
        ("SERVICE_USER_", "SERVICE_USER_{uuid}"),
    ];
    let named = ACTORS.iter().find(|(prefix, _)| {
        word.strip_prefix(prefix)
            .is_some_and(|id| id.parse::<Uuid>().is_ok())
    });
    named.map(|(_, placeholder)| *placeholder)
}

/// Whether a text is a time within two days of now, to the microsecond.
fn is_of_this_run(word: &str) -> bool {
    const DAYS: i64 = 2 * 24 * 3600;
    word.contains('.')
        && word
            .parse::<jiff::Timestamp>()
            .is_ok_and(|time| (time.as_second() - jiff::Timestamp::now().as_second()).abs() <= DAYS)
}
