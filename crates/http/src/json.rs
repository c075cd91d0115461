//! JSON from outside, read strictly.
//!
//! A body becomes a [`Json`] tree in which numbers are still their text, so that a decimal never passes through a
//! binary float. Duplicate keys and nesting past a bound are problems like any other; broken syntax is a fault with
//! line and column.

use crate::fields::Problems;
use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, LinePosition, Peek};
use meterd_fault::{Kind, Problem, Rule};
use std::collections::HashSet;

/// Deepest nesting of arrays and objects in any body.
pub const DEPTH_MAX: usize = 32;

/// One JSON value. Numbers keep their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Boolean(bool),
    Number(Box<str>),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Reads one document. Problems of content (duplicate keys, nesting) go to `problems`, under `pointer`.
pub fn parse(bytes: &[u8], pointer: &str, problems: &mut Problems) -> Result<Json, Kind> {
    check_utf8(bytes)?;
    let mut reader = Reader {
        bytes,
        jiter: Jiter::new(bytes),
        pointer: pointer.to_owned(),
        problems,
    };
    let peek = reader.jiter.peek().map_err(|e| malformed(&e, bytes))?;
    let json = reader.value(peek, 0)?;
    reader.jiter.finish().map_err(|e| malformed(&e, bytes))?;
    Ok(json)
}

/// A parser may skip strings without looking at them, so the bytes are checked as a whole first.
pub fn check_utf8(bytes: &[u8]) -> Result<&str, Kind> {
    std::str::from_utf8(bytes).map_err(|error| {
        let position = LinePosition::find(bytes, error.valid_up_to());
        Kind::BodyMalformed {
            reason: "invalid UTF-8".into(),
            line: position.line as u64,
            column: position.column as u64,
        }
    })
}

/// The fault for a syntax error that the parser found.
pub fn malformed(error: &JiterError, bytes: &[u8]) -> Kind {
    let position = LinePosition::find(bytes, error.index);
    let reason = match &error.error_type {
        JiterErrorType::JsonError(JsonErrorType::InternalError(_)) => "invalid JSON".to_owned(),
        JiterErrorType::JsonError(kind) => kind.to_string(),
        JiterErrorType::WrongType { .. } => "a value of another type".to_owned(),
    };
    Kind::BodyMalformed {
        reason,
        line: position.line as u64,
        column: position.column as u64,
    }
}

/// A JSON Pointer with one more member (RFC 6901, section 3). A member that is long or not fit to print is shown as
/// [`meterd_fault::quote`] shows it.
pub fn child(pointer: &str, member: &str) -> String {
    let mut path = pointer.to_owned();
    push_member(&mut path, member);
    path
}

fn push_member(path: &mut String, member: &str) {
    path.push('/');
    for c in meterd_fault::quote(member).chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            c => path.push(c),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    jiter: Jiter<'a>,
    pointer: String,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn value(&mut self, peek: Peek, depth: usize) -> Result<Json, Kind> {
        let bytes = self.bytes;
        let broken = |e: JiterError| malformed(&e, bytes);
        match peek {
            Peek::Null => self.jiter.known_null().map(|()| Json::Null).map_err(broken),
            Peek::True | Peek::False => self
                .jiter
                .known_bool(peek)
                .map(Json::Boolean)
                .map_err(broken),
            Peek::String => self
                .jiter
                .known_str()
                .map(|text| Json::String(text.to_owned()))
                .map_err(broken),
            Peek::Array | Peek::Object if depth >= DEPTH_MAX => {
                self.problems.push(Problem::body(
                    self.pointer.clone(),
                    Rule::Depth {
                        max: DEPTH_MAX as u64,
                    },
                ));
                self.jiter
                    .known_skip(peek)
                    .map(|()| Json::Null)
                    .map_err(broken)
            }
            Peek::Array => self.array(depth),
            Peek::Object => self.object(depth),
            _ => {
                let number = self.jiter.known_number_bytes(peek).map_err(broken)?;
                let text = std::str::from_utf8(number).unwrap_or_default();
                Ok(Json::Number(text.into()))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Kind> {
        let bytes = self.bytes;
        let broken = |e: JiterError| malformed(&e, bytes);
        let mut items = Vec::new();
        let mut next = self.jiter.known_array().map_err(broken)?;
        while let Some(peek) = next {
            let item = self.below(&items.len().to_string(), |reader| {
                reader.value(peek, depth + 1)
            })?;
            items.push(item);
            next = self.jiter.array_step().map_err(broken)?;
        }
        Ok(Json::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Json, Kind> {
        let bytes = self.bytes;
        let broken = |e: JiterError| malformed(&e, bytes);
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut seen = HashSet::new();
        let mut next = self
            .jiter
            .known_object()
            .map_err(broken)?
            .map(str::to_owned);
        while let Some(key) = next {
            let peek = self.jiter.peek().map_err(broken)?;
            let value = self.below(&key, |reader| {
                let value = reader.value(peek, depth + 1)?;
                let is_first = seen.insert(key.clone());
                if !is_first {
                    let problem = Problem::body(reader.pointer.clone(), Rule::Unique);
                    reader.problems.push(problem);
                }
                Ok(is_first.then_some(value))
            })?;
            // The first one stands for both: the repeat is one problem, not two.
            members.extend(value.map(|value| (key, value)));
            next = self.jiter.next_key().map_err(broken)?.map(str::to_owned);
        }
        Ok(Json::Object(members))
    }

    fn below<T>(
        &mut self,
        member: &str,
        read: impl FnOnce(&mut Self) -> Result<T, Kind>,
    ) -> Result<T, Kind> {
        let length = self.pointer.len();
        push_member(&mut self.pointer, member);
        let result = read(self);
        self.pointer.truncate(length);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(Json, Vec<Problem>), Kind> {
        let mut problems = Problems::default();
        let json = parse(text, "", &mut problems)?;
        Ok((json, problems.into_vec()))
    }

    #[test]
    fn numbers_keep_their_text() {
        let (json, problems) = read(br"[1e400, 0.1000, -5]").unwrap();
        assert_eq!(
            json,
            Json::Array(vec![
                Json::Number("1e400".into()),
                Json::Number("0.1000".into()),
                Json::Number("-5".into())
            ])
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn duplicate_keys_and_depth_are_problems() {
        let (_, problems) = read(br#"{"a":{"b~/":1,"b~/":2},"a":3}"#).unwrap();
        assert_eq!(
            problems,
            [
                Problem::body("/a/b~0~1", Rule::Unique),
                Problem::body("/a", Rule::Unique)
            ]
        );
        let deep = "[".repeat(40) + &"]".repeat(40);
        let (_, problems) = read(deep.as_bytes()).unwrap();
        assert_eq!(problems[0].rule, Rule::Depth { max: 32 });
        // Far deeper than any stack allows, still an answer.
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn a_place_stays_short_whatever_the_keys() {
        let long = "k".repeat(100_000);
        let text = format!(
            r#"{{"{long}":{{"a":1,"a":2,"b":[{}]}}}}"#,
            "0,".repeat(50_000) + "0"
        );
        let (_, problems) = read(text.as_bytes()).unwrap();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message().len() < 400);
    }

    #[test]
    fn syntax_errors_name_their_place() {
        for (text, line, column) in [
            (&b"{\"a\":1,}"[..], 1, 8),
            (b"", 1, 0),
            (b"{\n \"a\" 1}", 2, 6),
            (b"[1] x", 1, 5),
            (b"NaN", 1, 1),
            (b"[01]", 1, 3),
        ] {
            match read(text) {
                Err(Kind::BodyMalformed {
                    line: l, column: c, ..
                }) => {
                    assert_eq!((l, c), (line, column), "{}", String::from_utf8_lossy(text));
                }
                other => panic!("{other:?}"),
            }
        }
        let Err(Kind::BodyMalformed { reason, .. }) = read(b"[\"\xff\"]") else {
            panic!("invalid UTF-8 was read");
        };
        assert_eq!(reason, "invalid UTF-8");
        assert!(read(br#"["\ud800"]"#).is_err());
    }
}
