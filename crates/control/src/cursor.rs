//! The place in a list where the next page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use uuid::Uuid;

/// A place in a list. Opaque to clients; valid as long as the list exists, even if what it points at is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u128);

/// A text that is no [`Cursor`]. Callers know which parameter it came from and name that in their fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor")]
pub struct CursorError;

impl Cursor {
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| CursorError)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// Behind the resource with this id, in either order of creation.
    pub fn of_id(id: Uuid) -> Self {
        Self(id.as_u128())
    }

    pub fn as_id(self) -> Uuid {
        Uuid::from_u128(self.0)
    }

    /// Behind the event with this sequence, newest first.
    pub fn of_sequence(sequence: u64) -> Self {
        Self(sequence.into())
    }

    /// A cursor of another list may not fit; it then points past the end.
    pub fn as_sequence(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_what_they_write() {
        let cursor = Cursor::of_id(Uuid::from_u128(0x0193_a5c2 << 90));
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        for bad in ["", "x", "AAAA", "=", &"A".repeat(1000)] {
            assert_eq!(Cursor::parse(bad), Err(CursorError), "{bad}");
        }
    }
}
