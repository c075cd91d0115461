//! Secrets: made from the operating system's randomness, shown once, kept only as SHA-256.
//!
//! A plain hash is enough because the secrets are random and long; there is nothing to guess from. Given secrets
//! (imports) must be as hard to guess, see [`Secret::import`].

use crate::credential::Environment;
use meterd_fault::{Fault, Problem, Rule};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt;
use subtle::ConstantTimeEq;

/// Longest secret that is looked at, in bytes. Longer ones are unknown without being hashed.
pub const SECRET_BYTES_MAX: usize = 512;
/// Shortest secret that may be imported, in characters.
pub const IMPORTED_SECRET_CHARS_MIN: usize = 20;
/// Fewest different characters of an imported secret.
const IMPORTED_SECRET_VARIETY_MIN: usize = 8;
/// Characters after the prefix that the hint shows.
const HINT_CHARS: usize = 4;

/// A secret in the clear. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How a kind of secret looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretForm {
    pub prefix: &'static str,
    pub alphabet: SecretAlphabet,
    /// Random characters after the prefix.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretAlphabet {
    /// `0-9A-Za-z`
    Base62,
    /// `0-9a-z`
    LowerAlphanumeric,
    /// `0-9a-f`
    LowerHex,
}

impl SecretForm {
    pub const NATIVE: Self = Self::new("mtr_", SecretAlphabet::Base62, 43);
    pub const WATTWATCHERS: Self = Self::new("key_", SecretAlphabet::LowerHex, 32);
    /// Of what devices send with, beside the keys of those who read.
    pub const WATTWATCHERS_INGEST: Self = Self::new("ingest_", SecretAlphabet::LowerHex, 32);
    pub const FSM_LIVE: Self = Self::new("fsm_live_", SecretAlphabet::LowerAlphanumeric, 40);
    pub const FSM_TEST: Self = Self::new("fsm_test_", SecretAlphabet::LowerAlphanumeric, 40);
    pub const METER_WEB: Self = Self::new("sk_live_", SecretAlphabet::Base62, 32);
    pub const OAUTH_CLIENT_ID: Self = Self::new("", SecretAlphabet::LowerAlphanumeric, 20);
    pub const OAUTH_CLIENT_SECRET: Self = Self::new("", SecretAlphabet::Base62, 43);

    /// How the API keys of a surface look.
    pub fn of_key(surface: &str, environment: Environment) -> Self {
        match (surface, environment) {
            ("wattwatchers", _) => Self::WATTWATCHERS,
            ("fsm-navigator", Environment::Live) => Self::FSM_LIVE,
            ("fsm-navigator", Environment::Test) => Self::FSM_TEST,
            ("meter-web", _) => Self::METER_WEB,
            _ => Self::NATIVE,
        }
    }

    pub const fn new(prefix: &'static str, alphabet: SecretAlphabet, length: usize) -> Self {
        Self {
            prefix,
            alphabet,
            length,
        }
    }
}

impl SecretAlphabet {
    fn letters(self) -> &'static [u8] {
        match self {
            Self::Base62 => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            Self::LowerAlphanumeric => b"0123456789abcdefghijklmnopqrstuvwxyz",
            Self::LowerHex => b"0123456789abcdef",
        }
    }
}

impl Secret {
    pub fn generate(form: SecretForm) -> Result<Self, Fault> {
        let letters = form.alphabet.letters();
        // Bytes at or above the largest multiple of the alphabet are thrown away, so that every letter is equally likely.
        let bound = 256 - 256 % letters.len();
        let mut text = form.prefix.to_owned();
        let mut missing = form.length;
        let mut random = [0; 64];
        while missing > 0 {
            getrandom::fill(&mut random)
                .map_err(|e| Fault::internal(format!("randomness: {e}")))?;
            let usable = random
                .iter()
                .map(|b| usize::from(*b))
                .filter(|b| *b < bound);
            for byte in usable.take(missing) {
                if let Some(letter) = letters.get(byte % letters.len()) {
                    text.push(char::from(*letter));
                    missing -= 1;
                }
            }
        }
        Ok(Self(text))
    }

    /// A secret that was made elsewhere, if it is hard enough to guess: long, printable ASCII, varied.
    pub fn import(text: impl Into<String>) -> Result<Self, Fault> {
        let text = text.into();
        let is_strong = text.len() >= IMPORTED_SECRET_CHARS_MIN
            && text.len() <= SECRET_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_graphic())
            && text.bytes().collect::<HashSet<_>>().len() >= IMPORTED_SECRET_VARIETY_MIN;
        if is_strong {
            return Ok(Self(text));
        }
        let rule = Rule::Other {
            code: "weak_secret",
            text: "must have 20 to 512 printable characters, at least 8 of them different".into(),
        };
        Err(Fault::invalid(Problem::body("/secret", rule)))
    }

    /// The clear text, to be shown to its owner once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_issued(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }

    /// The first characters, to tell keys apart in a list: known prefix and four more, never a quarter of the secret.
    pub(crate) fn hint(&self) -> String {
        let prefix = self.0.rfind('_').map_or(0, |at| at + 1);
        let rest = self.0.len().saturating_sub(prefix);
        let shown = if prefix <= 16 {
            prefix + HINT_CHARS.min(rest / 4)
        } else {
            HINT_CHARS
        };
        self.0.chars().take(shown).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret. Compared in constant time; not shown by `Debug`, since it is of no use in a log.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// For the lookup table. Finding by hash tells nothing of the secret: whoever can choose hashes to probe with
    /// would have to invert SHA-256.
    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        use std::fmt::Write as _;
        let mut text = Self::with_capacity(64);
        for byte in hash.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl TryFrom<String> for SecretHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const WRONG: &str = "is not 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_form_and_differ() {
        for form in [
            SecretForm::NATIVE,
            SecretForm::WATTWATCHERS,
            SecretForm::FSM_TEST,
            SecretForm::OAUTH_CLIENT_ID,
        ] {
            let secret = Secret::generate(form).unwrap();
            let random = secret.reveal().strip_prefix(form.prefix).unwrap();
            assert_eq!(random.len(), form.length);
            assert!(random.bytes().all(|b| form.alphabet.letters().contains(&b)));
            assert_ne!(secret, Secret::generate(form).unwrap());
        }
    }

    #[test]
    fn every_letter_occurs() {
        let form = SecretForm::new("", SecretAlphabet::Base62, 20_000);
        let secret = Secret::generate(form).unwrap();
        for letter in SecretAlphabet::Base62.letters() {
            let count = secret.reveal().bytes().filter(|b| b == letter).count();
            // 322 expected; ten standard deviations off would be chance once in 10^20.
            assert!((140..510).contains(&count), "{letter} {count}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = Secret::generate(SecretForm::NATIVE).unwrap();
        assert_eq!(
            format!("{secret:?} {:?}", secret.hash()),
            "Secret(…) SecretHash(…)"
        );
    }

    #[test]
    fn weak_imports_are_refused() {
        for weak in [
            "short",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "with blanks in it is not good",
            "",
        ] {
            assert!(Secret::import(weak).is_err(), "{weak}");
        }
        assert!(Secret::import("key_0123456789abcdef0123456789abcdef").is_ok());
    }

    #[test]
    fn hashes_read_back_what_they_write() {
        let hash = SecretHash::of("abc");
        let text = String::from(hash);
        assert_eq!(
            text,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(SecretHash::try_from(text).unwrap().matches(&hash));
        assert!(SecretHash::try_from("é".repeat(32)).is_err());
    }

    #[test]
    fn hints_show_little() {
        let hint = |text: &str| Secret(text.to_owned()).hint();
        assert_eq!(
            hint("mtr_0123456789abcdefghijklmnopqrstuvwxyz0123456"),
            "mtr_0123"
        );
        assert_eq!(hint("fsm_live_0123456789abcdefghij"), "fsm_live_0123");
        assert_eq!(hint("0123456789abcdefghijklmnopqrstuvwxyz_12345"), "0123");
    }
}
