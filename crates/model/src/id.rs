//! The names things go by. Each is its own type, so that a subject cannot be passed where a meter is asked for.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A tenant. What one organization stores, no other can see.
    OrganizationId
}
uuid_id! {
    /// A meter for as long as it lives; a new meter of the same name gets a new id.
    MeterId
}

/// Which texts a name may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRule {
    pub min_chars: usize,
    pub max_chars: usize,
    pub alphabet: Alphabet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// ASCII letters, digits, `_`, `-`, `.`; a letter first.
    Name,
    /// Any characters but control characters, and no blank at either end.
    Text,
}

/// Why a text is not the name it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("must have {min} to {max} characters")]
    Length { min: usize, max: usize },
    #[error("has a character that is not allowed")]
    Alphabet(Alphabet),
}

pub fn check_text(text: &str, rule: TextRule) -> Result<(), TextError> {
    let chars = if text.len() <= rule.max_chars && text.is_ascii() {
        text.len()
    } else {
        text.chars().take(rule.max_chars.saturating_add(1)).count()
    };
    if chars < rule.min_chars || chars > rule.max_chars {
        return Err(TextError::Length {
            min: rule.min_chars,
            max: rule.max_chars,
        });
    }
    let fits = match rule.alphabet {
        Alphabet::Name => {
            text.bytes().next().is_none_or(|b| b.is_ascii_alphabetic())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        }
        Alphabet::Text => text.trim() == text && !text.chars().any(char::is_control),
    };
    if fits {
        Ok(())
    } else {
        Err(TextError::Alphabet(rule.alphabet))
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $min:literal..=$max:literal, $alphabet:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            pub const RULE: TextRule = TextRule {
                min_chars: $min,
                max_chars: $max,
                alphabet: Alphabet::$alphabet,
            };

            pub fn new(text: impl Into<Box<str>>) -> Result<Self, TextError> {
                let text = text.into();
                check_text(&text, Self::RULE)?;
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A measurement's own id, chosen by its sender and unique within an organization.
    MeasurementId, 1..=128, Text
}
text_id! {
    /// What users call a meter; unique within an organization.
    MeterName, 1..=80, Name
}
text_id! {
    /// A value field or an attribute of a meter.
    FieldName, 1..=64, Name
}
text_id! {
    /// What is measured: account, device, asset, SIM product, page.
    Subject, 1..=128, Text
}
text_id! {
    /// The text of an attribute; may be empty.
    AttributeValue, 0..=256, Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_by_characters_not_bytes() {
        assert!(Subject::new("é".repeat(128)).is_ok());
        assert_eq!(
            Subject::new("é".repeat(129)),
            Err(TextError::Length { min: 1, max: 128 })
        );
        assert!(MeterName::new("api_calls.v2-eu").is_ok());
        for bad in ["1st", "a b", "é", "_x"] {
            assert_eq!(
                MeterName::new(bad),
                Err(TextError::Alphabet(Alphabet::Name))
            );
        }
        for bad in [" a", "a\n", "a\u{0}b"] {
            assert_eq!(
                MeasurementId::new(bad),
                Err(TextError::Alphabet(Alphabet::Text))
            );
        }
        assert!(MeasurementId::new("").is_err());
        assert!(AttributeValue::new("").is_ok());
        assert!(AttributeValue::new(" eu").is_err());
        assert!(AttributeValue::new("r".repeat(256)).is_ok());
        assert!(AttributeValue::new("r".repeat(257)).is_err());
    }
}
