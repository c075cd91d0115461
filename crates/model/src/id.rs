//! The names things go by. Each is its own type, so that a subject cannot be passed where a meter is asked for.

use crate::text::Text;
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
    /// Letters of any script, digits, `_` and `$`; no digit first.
    Identifier,
    /// Any characters.
    Any,
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
    if is_plain(text, rule) {
        return Ok(());
    }
    // No more characters than bytes; and of a long text no more than needed are counted.
    let chars = text.chars().take(rule.max_chars.saturating_add(1)).count();
    if chars < rule.min_chars || chars > rule.max_chars {
        return Err(TextError::Length {
            min: rule.min_chars,
            max: rule.max_chars,
        });
    }
    let fits = match rule.alphabet {
        Alphabet::Name => {
            text.bytes().next().is_none_or(|b| b.is_ascii_alphabetic()) && is_all(text, in_name)
        }
        Alphabet::Text => text.trim() == text && !text.chars().any(char::is_control),
        Alphabet::Identifier => {
            let mut chars = text.chars();
            chars.next().is_none_or(starts_identifier)
                && chars.all(|char| starts_identifier(char) || char.is_ascii_digit())
        }
        Alphabet::Any => true,
    };
    if fits {
        Ok(())
    } else {
        Err(TextError::Alphabet(rule.alphabet))
    }
}

/// Whether a text follows its rule in the way that nearly all do, for which bytes tell: it is printable ASCII.
fn is_plain(text: &str, rule: TextRule) -> bool {
    if !(rule.min_chars..=rule.max_chars).contains(&text.len()) {
        return false;
    }
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().next_back()) else {
        return true;
    };
    match rule.alphabet {
        Alphabet::Name => first.is_ascii_alphabetic() && is_all(text, in_name),
        Alphabet::Text => {
            first != b' ' && last != b' ' && is_all(text, |byte| (b' '..=b'~').contains(&byte))
        }
        Alphabet::Identifier => {
            !first.is_ascii_digit()
                && is_all(text, |byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
                })
        }
        Alphabet::Any => text.is_ascii(),
    }
}

fn starts_identifier(char: char) -> bool {
    char.is_alphabetic() || matches!(char, '_' | '$')
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Looks at every byte, also past the first that fails: so the compiler takes many at a time.
fn is_all(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, byte| all & allowed(byte))
}

/// The last number is how many bytes lie in place: most of what is seen, a UUID among them where one may stand.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $min:literal..=$max:literal, $alphabet:ident, $in_place:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Text<$in_place>);

        impl $name {
            pub const RULE: TextRule = TextRule {
                min_chars: $min,
                max_chars: $max,
                alphabet: Alphabet::$alphabet,
            };

            pub fn new(text: impl AsRef<str>) -> Result<Self, TextError> {
                let text = text.as_ref();
                check_text(text, Self::RULE)?;
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                self.0.as_str()
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
                id.as_str().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text_id! {
    /// A measurement's own id, chosen by its sender and unique within an organization.
    MeasurementId, 1..=128, Text, 40
}
text_id! {
    /// What users call a meter; unique within an organization.
    MeterName, 1..=80, Name, 24
}
text_id! {
    /// A value field or an attribute of a meter.
    FieldName, 1..=64, Name, 24
}
text_id! {
    /// What is measured: account, device, asset, SIM product, page.
    Subject, 1..=128, Text, 40
}
text_id! {
    /// The text of an attribute; may be empty.
    AttributeValue, 0..=256, Text, 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// The shortcut lets nothing through that the rule, spelled out, would not.
        #[test]
        fn plain_texts_follow_the_rule(
            text in prop_oneof!["[a-z0-9 ._$-]{0,7}", "[ -~]{0,7}", "[a\\PC\t\u{7f}\u{a0}\u{85}]{0,7}"],
            min_chars in 0_usize..3,
            alphabet in proptest::sample::select(vec![
                Alphabet::Name, Alphabet::Text, Alphabet::Identifier, Alphabet::Any,
            ]),
        ) {
            let rule = TextRule { min_chars, max_chars: 5, alphabet };
            let length = text.chars().count();
            let mut chars = text.chars();
            let first = chars.next().unwrap_or('a');
            let fits = match alphabet {
                Alphabet::Name => {
                    first.is_ascii_alphabetic()
                        && chars.all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                }
                Alphabet::Text => text.trim() == text && !text.contains(char::is_control),
                Alphabet::Identifier => {
                    !first.is_ascii_digit()
                        && text
                            .chars()
                            .all(|c| c.is_alphabetic() || c.is_ascii_digit() || "_$".contains(c))
                }
                Alphabet::Any => true,
            };
            let expected = if (min_chars..=5).contains(&length) {
                if fits { Ok(()) } else { Err(TextError::Alphabet(alphabet)) }
            } else {
                Err(TextError::Length { min: min_chars, max: 5 })
            };
            prop_assert_eq!(check_text(&text, rule), expected);
        }
    }
}
