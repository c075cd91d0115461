//! The scanner beside the parser that reads all other bodies: on any text both must see the same.

use super::Scanner;
use crate::json::malformed;
use jiter::{Jiter, JiterError, Peek};
use meterd_fault::Kind;
use std::borrow::Cow;

/// Deepest nesting that is entered; what is below is passed over.
const DEPTH_MAX: usize = 40;

/// # Panics
/// If the two differ on this text.
pub fn compare(body: &str) {
    assert_eq!(scan(body), parse(body), "{body:?}");
}

/// What one walk over a document saw: everything, or up to the first mistake.
pub(super) type Walk = (Vec<String>, Result<(), Kind>);

pub(super) fn scan(body: &str) -> Walk {
    let mut seen = Vec::new();
    let mut scanner = Scanner::new(body);
    let end = (|| {
        let peek = scanner.peek()?;
        scan_value(&mut scanner, peek, 0, &mut seen)?;
        scanner.finish()
    })();
    (seen, end)
}

fn scan_value(
    scanner: &mut Scanner<'_>,
    peek: Peek,
    depth: usize,
    seen: &mut Vec<String>,
) -> Result<(), Kind> {
    match peek {
        Peek::Object | Peek::Array if depth == DEPTH_MAX => scanner.skip()?,
        Peek::Object => {
            let mut key = scanner.object()?;
            while let Some(name) = key {
                seen.push(format!("key {name}"));
                let peek = scanner.peek()?;
                scan_value(scanner, peek, depth + 1, seen)?;
                key = scanner.next_key()?;
            }
        }
        Peek::Array => {
            let mut item = scanner.array()?;
            while let Some(peek) = item {
                scan_value(scanner, peek, depth + 1, seen)?;
                item = scanner.next_item()?;
            }
        }
        Peek::String => seen.push(format!("string {}", scanner.string()?)),
        Peek::Null => scanner.null()?,
        peek if peek.is_num() => seen.push(format!("number {:?}", scanner.number(peek)?)),
        _ => scanner.skip()?,
    }
    Ok(())
}

pub(super) fn parse(body: &str) -> Walk {
    let mut seen = Vec::new();
    let mut jiter = Jiter::new(body.as_bytes());
    let end = (|| {
        let peek = jiter.peek()?;
        parse_value(&mut jiter, peek, 0, &mut seen)?;
        jiter.finish()
    })();
    let end = end.map_err(|error: JiterError| malformed(&error, body.as_bytes()));
    (seen, end)
}

fn parse_value(
    jiter: &mut Jiter<'_>,
    peek: Peek,
    depth: usize,
    seen: &mut Vec<String>,
) -> Result<(), JiterError> {
    match peek {
        Peek::Object | Peek::Array if depth == DEPTH_MAX => jiter.known_skip(peek)?,
        Peek::Object => {
            let mut key = jiter.known_object()?.map(str::to_owned);
            while let Some(name) = key {
                seen.push(format!("key {name}"));
                let peek = jiter.peek()?;
                parse_value(jiter, peek, depth + 1, seen)?;
                key = jiter.next_key()?.map(str::to_owned);
            }
        }
        Peek::Array => {
            let mut item = jiter.known_array()?;
            while let Some(peek) = item {
                parse_value(jiter, peek, depth + 1, seen)?;
                item = jiter.array_step()?;
            }
        }
        Peek::String => seen.push(format!("string {}", jiter.known_str()?)),
        Peek::Null => jiter.known_null()?,
        peek if peek.is_num() => {
            let number = Cow::Borrowed(jiter.known_number_bytes(peek)?);
            seen.push(format!("number {number:?}"));
        }
        peek => jiter.known_skip(peek)?,
    }
    Ok(())
}
