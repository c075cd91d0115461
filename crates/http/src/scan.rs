//! Reading JSON from front to back, borrowing from the body what can be borrowed.
//!
//! What nearly all JSON of programs looks like (no escapes in strings, no exponents) is read here, in less than half
//! the time. Everything else, mistakes above all, goes to the parser that reads all other bodies, set up at the same
//! place: so there is one opinion on what is JSON, and one wording of what is wrong with it.

#[cfg(any(test, feature = "testing"))]
pub mod compare;

use crate::json::malformed;
use jiter::{Jiter, JiterError};
use meterd_fault::Kind;
use std::borrow::Cow;

pub use jiter::Peek;

/// A place in a JSON text. The methods that take no [`Peek`] expect the caller to have seen one that fits.
#[derive(Debug)]
pub struct Scanner<'b> {
    body: &'b str,
    at: usize,
    /// The parser's room for strings with escapes.
    tape: Vec<u8>,
}

/// What may stand where a key may.
enum PlainKey<'b> {
    /// A key, read with its colon.
    Name(&'b str),
    /// The end of the object.
    End,
}

impl<'b> Scanner<'b> {
    pub fn new(body: &'b str) -> Self {
        Self {
            body,
            at: 0,
            tape: Vec::new(),
        }
    }

    /// Where the next value, or what else comes next, begins.
    pub fn place(&mut self) -> usize {
        let _ = self.next_byte();
        self.at
    }

    /// The text from a place up to here.
    pub fn text_from(&self, place: usize) -> &'b str {
        self.body.get(place..self.at).unwrap_or_default()
    }

    /// The first byte of the value that comes next.
    pub fn peek(&mut self) -> Result<Peek, Kind> {
        match self.next_byte() {
            Some(byte) => Ok(Peek::new(byte)),
            None => self.parse(Jiter::peek),
        }
    }

    /// Enters an object: its first key, if it has one.
    pub fn object(&mut self) -> Result<Option<Cow<'b, str>>, Kind> {
        let start = self.at;
        self.at += 1;
        match self.plain_key() {
            Some(PlainKey::Name(name)) => Ok(Some(Cow::Borrowed(name))),
            Some(PlainKey::End) => Ok(None),
            None => {
                self.at = start;
                self.parse(|jiter| Ok(jiter.known_object()?.map(owned)))
            }
        }
    }

    /// The key after the value just read, unless the object ends here.
    pub fn next_key(&mut self) -> Result<Option<Cow<'b, str>>, Kind> {
        let start = self.at;
        let comma = self.next_byte() == Some(b',');
        if comma {
            self.at += 1;
        }
        match self.plain_key() {
            Some(PlainKey::Name(name)) if comma => Ok(Some(Cow::Borrowed(name))),
            Some(PlainKey::End) if !comma => Ok(None),
            _ => {
                self.at = start;
                self.parse(|jiter| Ok(jiter.next_key()?.map(owned)))
            }
        }
    }

    /// Enters an array: the first byte of its first item, if it has one.
    pub fn array(&mut self) -> Result<Option<Peek>, Kind> {
        self.parse(Jiter::known_array)
    }

    /// The first byte of the item after the one just read, unless the array ends here.
    pub fn next_item(&mut self) -> Result<Option<Peek>, Kind> {
        let start = self.at;
        if self.next_byte() == Some(b',') {
            self.at += 1;
            if let Some(byte) = self.next_byte().filter(|byte| *byte != b']') {
                return Ok(Some(Peek::new(byte)));
            }
        }
        self.at = start;
        self.parse(Jiter::array_step)
    }

    pub fn string(&mut self) -> Result<Cow<'b, str>, Kind> {
        match self.plain_string() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.parse(|jiter| Ok(owned(jiter.known_str()?))),
        }
    }

    /// The text of a number.
    pub fn number(&mut self, peek: Peek) -> Result<Cow<'b, [u8]>, Kind> {
        match self.plain_number() {
            Some(number) => Ok(Cow::Borrowed(number)),
            None => self.parse(|jiter| Ok(Cow::Owned(jiter.known_number_bytes(peek)?.to_vec()))),
        }
    }

    pub fn null(&mut self) -> Result<(), Kind> {
        self.parse(Jiter::known_null)
    }

    /// Passes over a value of any type.
    pub fn skip(&mut self) -> Result<(), Kind> {
        self.parse(Jiter::next_skip)
    }

    /// Makes sure that nothing follows.
    pub fn finish(&mut self) -> Result<(), Kind> {
        self.parse(Jiter::finish)
    }

    fn parse<T>(
        &mut self,
        read: impl FnOnce(&mut Jiter<'b>) -> Result<T, JiterError>,
    ) -> Result<T, Kind> {
        let bytes = self.body.as_bytes();
        let rest = bytes.get(self.at..).unwrap_or_default();
        let mut jiter = Jiter::with_tape(rest, std::mem::take(&mut self.tape));
        let read = read(&mut jiter).map_err(|mut error| {
            error.index += self.at;
            malformed(&error, bytes)
        });
        self.at += jiter.current_index();
        self.tape = jiter.into_tape();
        read
    }

    fn byte(&self) -> Option<u8> {
        self.body.as_bytes().get(self.at).copied()
    }

    /// Passes over blanks.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn plain_key(&mut self) -> Option<PlainKey<'b>> {
        match self.next_byte()? {
            b'"' => {
                let key = self.plain_string()?;
                if self.next_byte()? != b':' {
                    return None;
                }
                self.at += 1;
                Some(PlainKey::Name(key))
            }
            b'}' => {
                self.at += 1;
                Some(PlainKey::End)
            }
            _ => None,
        }
    }

    fn plain_string(&mut self) -> Option<&'b str> {
        let start = self.at + 1;
        let rest = self.body.as_bytes().get(start..)?;
        let length = plain_length(rest)?;
        if rest.get(length) != Some(&b'"') {
            return None;
        }
        let text = self.body.get(start..start + length)?;
        self.at = start + length + 1;
        Some(text)
    }

    /// A number without exponent, shorter than the parser's bound.
    fn plain_number(&mut self) -> Option<&'b [u8]> {
        const BYTES_MAX: usize = 64;
        let rest = self.body.as_bytes().get(self.at..)?;
        let sign = usize::from(rest.first() == Some(&b'-'));
        let integer = digits(rest, sign);
        let leading_zero = integer > 1 && rest.get(sign) == Some(&b'0');
        if integer == 0 || leading_zero {
            return None;
        }
        let mut length = sign + integer;
        if rest.get(length) == Some(&b'.') {
            let fraction = digits(rest, length + 1);
            if fraction == 0 {
                return None;
            }
            length += 1 + fraction;
        }
        if length > BYTES_MAX || matches!(rest.get(length), Some(b'e' | b'E')) {
            return None;
        }
        self.at += length;
        rest.get(..length)
    }
}

fn owned<'b>(text: &str) -> Cow<'b, str> {
    Cow::Owned(text.to_owned())
}

/// How many digits there are from `start`.
fn digits(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Bytes of a string before the first that is a quote, a backslash or a control character, eight at a time.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    const BLANKS: u64 = ONES * b' ' as u64;
    let (words, tail) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte that is less than the one taken off; the lowest such bit is right, and those above it
        // may be borrows.
        let is_less = |word: u64, than: u64| word.wrapping_sub(than) & !word & HIGHS;
        let special = is_less(word, BLANKS)
            | is_less(word ^ QUOTES, ONES)
            | is_less(word ^ BACKSLASHES, ONES);
        if special != 0 {
            let byte = usize::try_from(special.trailing_zeros() / 8).ok()?;
            return Some(place * 8 + byte);
        }
    }
    let in_tail = tail
        .iter()
        .position(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\'))?;
    Some(words.len() * 8 + in_tail)
}

#[cfg(test)]
mod tests {
    use super::compare::{compare, parse, scan};
    use super::*;

    #[test]
    fn borrows_what_it_can() {
        let mut scanner = Scanner::new(r#"{"plain" : "\u0061","é":-1.50,"escaped\n":1e3}"#);
        assert!(matches!(scanner.object(), Ok(Some(Cow::Borrowed("plain")))));
        assert_eq!(scanner.peek().unwrap(), Peek::String);
        assert!(matches!(scanner.string(), Ok(Cow::Owned(text)) if text == "a"));
        assert!(matches!(scanner.next_key(), Ok(Some(Cow::Borrowed("é")))));
        let place = scanner.place();
        let peek = scanner.peek().unwrap();
        assert!(matches!(scanner.number(peek), Ok(Cow::Borrowed(b"-1.50"))));
        assert_eq!(scanner.text_from(place), "-1.50");
        assert!(matches!(scanner.next_key(), Ok(Some(Cow::Owned(text))) if text == "escaped\n"));
        let peek = scanner.peek().unwrap();
        assert!(matches!(scanner.number(peek), Ok(Cow::Owned(text)) if text == b"1e3"));
        assert!(matches!(scanner.next_key(), Ok(None)));
        assert!(scanner.finish().is_ok());
    }

    #[test]
    fn a_long_number_is_bounded_as_by_the_parser() {
        for digits in [60, 70, 4300, 4302, 10_000] {
            let body = format!("[{}]", "7".repeat(digits));
            assert_eq!(scan(&body), parse(&body));
        }
    }

    /// Plain and odd, right and wrong; and each with every small edit at every place.
    #[test]
    fn reads_and_refuses_what_the_parser_does() {
        const DOCUMENTS: [&str; 12] = [
            r#"{"measurements":[{"id":"a-1","values":{"requests":12,"bytes":0.50}},{"id":""}]}"#,
            " { \"a\" : [ 1 , \"two\" ,\tnull ] ,\r\n \"b\" : { } } ",
            r#"["0123456","01234567","012345678","01234\n67","0123456\"",{"k\\":"\u00e9é"}]"#,
            r#"["\ud83d\ude00","\ud800","\x",true]"#,
            "[-1.5e3,0,-0,0.0,10.25,1e400,0E-1,123456789012345678901234567890]",
            "[01]",
            "[1.]",
            "[.5,-]",
            "[NaN,Infinity,-Infinity]",
            "{\"a\":1,}",
            "[1,]",
            "\"unfinished",
        ];
        const EDITS: [&str; 20] = [
            "", "\"", "\\", "{", "}", "[", "]", ":", ",", " ", "\n", "0", "1", ".", "e", "-", "a",
            "é", "\u{1}", "\u{7f}",
        ];
        for document in DOCUMENTS {
            let places = document.char_indices().map(|(place, _)| place);
            for place in places.chain([document.len()]) {
                let (before, after) = document.split_at(place);
                let next = after.chars().next().map_or(0, char::len_utf8);
                for edit in EDITS {
                    for kept in [after, &after[next..]] {
                        let body = format!("{before}{edit}{kept}");
                        compare(&body);
                    }
                }
            }
        }
    }

    /// Long strings whose bytes of all kinds fall on every place of a word, and documents of any tokens.
    #[test]
    fn reads_any_text_as_the_parser_does() {
        const TOKENS: [&str; 32] = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\"",
            "\\",
            "\\u00e9",
            "\\ud83d",
            "\\ude00",
            " ",
            "\n",
            "\t",
            "\u{1}",
            "\u{1f}",
            "\u{7f}",
            "é",
            "€",
            "\u{10ffff}",
            "\u{80}",
            "abcdefgh",
            "x",
            "-",
            "0",
            "12",
            ".5",
            "e7",
            "null",
            "true",
            "\"key\":",
        ];
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        for _ in 0..50_000 {
            let count = random.below(40);
            let body: String = (0..count).map(|_| TOKENS[random.below(32)]).collect();
            compare(&body);
            compare(&format!("[\"{body}\"]"));
            compare(&format!("{{\"a\":[{body}],\"b\":\"{body}\"}}"));
        }
        for special in [
            "\"", "\\", "\\n", "\u{0}", "\u{1f}", "\u{7f}", "\u{80}", "é", "€", "!", "#",
        ] {
            for before in 0..20 {
                for filler in ["a", "\u{80}", "\u{7f}", "ÿ"] {
                    let (start, end) = (filler.repeat(before), filler.repeat(20 - before));
                    compare(&format!("[\"{start}{special}{end}\",1]"));
                    compare(&format!("{{\"{start}{special}{special}{end}\":1}}"));
                }
            }
        }
        compare(&"[".repeat(10_000));
        compare(&"{\"a\":".repeat(10_000));
    }

    /// Random enough, and the same in every run.
    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % bound
        }
    }
}
