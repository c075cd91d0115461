//! The items of a JSON array, one after the other out of a file of any length.

use std::io::{self, BufRead};

/// Longest item, in bytes: far more than any measurement.
pub(crate) const ITEM_BYTES_MAX: usize = 64 * 1024;

/// Splits an array at its commas. What stands between them is not looked at further than that.
#[derive(Debug)]
pub(crate) struct ArrayItems<R> {
    reader: R,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the opening bracket.
    Start,
    /// After it; the array may end here.
    First,
    /// After a comma.
    Next,
    End,
}

/// Why there are no more items.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("the file is not a JSON array")]
    NoArray,
    #[error("an item is longer than {ITEM_BYTES_MAX} bytes")]
    TooLong,
    #[error("read the file: {0}")]
    Io(#[from] io::Error),
}

impl<R: BufRead> ArrayItems<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            place: Place::Start,
        }
    }

    /// The text of the next item, without blanks around it.
    pub(crate) fn next_item(&mut self) -> Result<Option<Vec<u8>>, SplitError> {
        if self.place == Place::Start {
            self.open()?;
            self.place = Place::First;
        }
        if self.place == Place::End {
            return Ok(None);
        }
        let mut item = Vec::new();
        let mut depth = 0_usize;
        let mut in_text = false;
        let mut escaped = false;
        loop {
            let byte = self.byte()?.ok_or(SplitError::NoArray)?;
            if in_text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_text = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => in_text = true,
                    b'[' | b'{' => depth += 1,
                    b']' | b',' if depth == 0 => return self.close(item, byte),
                    b']' | b'}' => depth = depth.checked_sub(1).ok_or(SplitError::NoArray)?,
                    b' ' | b'\t' | b'\r' | b'\n' if item.is_empty() => continue,
                    _ => {}
                }
            }
            if item.len() == ITEM_BYTES_MAX {
                return Err(SplitError::TooLong);
            }
            item.push(byte);
        }
    }

    fn open(&mut self) -> Result<(), SplitError> {
        loop {
            match self.byte()? {
                Some(b'[') => return Ok(()),
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                _ => return Err(SplitError::NoArray),
            }
        }
    }

    fn close(&mut self, mut item: Vec<u8>, by: u8) -> Result<Option<Vec<u8>>, SplitError> {
        item.truncate(item.trim_ascii_end().len());
        let is_last = by == b']';
        if item.is_empty() && !(is_last && self.place == Place::First) {
            return Err(SplitError::NoArray);
        }
        self.place = if is_last { Place::End } else { Place::Next };
        if is_last {
            while let Some(byte) = self.byte()? {
                if !byte.is_ascii_whitespace() {
                    return Err(SplitError::NoArray);
                }
            }
        }
        Ok((!item.is_empty()).then_some(item))
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.reader.fill_buf()?.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
        }
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<String>, SplitError> {
        let mut items = ArrayItems::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(item) = items.next_item()? {
            found.push(String::from_utf8(item).unwrap());
        }
        Ok(found)
    }

    #[test]
    fn items_are_what_stands_between_the_commas() {
        assert_eq!(split("[]").unwrap(), [""; 0]);
        assert_eq!(split(" [ \n ] \n").unwrap(), [""; 0]);
        assert_eq!(
            split(r#"[{"a":[1,2,{"b":"x],\"}"}]} , 7,"\\", [[]]]"#).unwrap(),
            [r#"{"a":[1,2,{"b":"x],\"}"}]}"#, "7", r#""\\""#, "[[]]"]
        );
    }

    #[test]
    fn what_is_no_array_is_told() {
        for broken in [
            "", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1,,2]", "[1}]", "[] x", "[\"]",
        ] {
            assert!(
                matches!(split(broken), Err(SplitError::NoArray)),
                "{broken}"
            );
        }
        let long = format!("[\"{}\"]", "x".repeat(ITEM_BYTES_MAX));
        assert!(matches!(split(&long), Err(SplitError::TooLong)));
    }
}
