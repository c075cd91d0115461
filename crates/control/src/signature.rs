//! Signed values for addresses that work without credentials for a while, such as downloads.

use crate::database::{Database, OpenError};
use crate::signing::{SigningKey, decode, encode};
use crate::token::TOKEN_BYTES_MAX;
use meterd_fault::{Fault, Kind};
use meterd_model::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const KEY_NAME: &str = "url-signing";

/// Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

#[derive(Serialize, Deserialize)]
struct Signed<T> {
    /// So that what was signed for one use is not taken for another.
    purpose: String,
    /// Microseconds since 1970.
    expires: i64,
    body: T,
}

impl Signer {
    pub(crate) fn open(database: &Database) -> Result<Self, OpenError> {
        let key = SigningKey::open(database, KEY_NAME)?;
        Ok(Self { key })
    }

    /// A text of letters, digits, `-`, `_` and `.` that says `body` to this server until `expires`. Not encrypted.
    /// Together with its frame the body must stay within [`TOKEN_BYTES_MAX`].
    pub fn sign(
        &self,
        purpose: &str,
        body: &impl Serialize,
        expires: Timestamp,
    ) -> Result<String, Fault> {
        let token = self.key.sign(encode(&Signed {
            purpose: purpose.to_owned(),
            expires: expires.micros(),
            body,
        })?)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Fault::internal("a signed value is too long"));
        }
        Ok(token)
    }

    /// What was signed for this purpose. `TokenInvalid` or `TokenExpired` otherwise.
    pub fn check<T: DeserializeOwned>(
        &self,
        purpose: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<T, Fault> {
        let invalid = || Fault::new(Kind::TokenInvalid);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        let text = self.key.verified(token)?.ok_or_else(invalid)?;
        let signed: Signed<serde_json::Value> = decode(text).ok_or_else(invalid)?;
        if signed.purpose != purpose {
            return Err(invalid());
        }
        if now.micros() >= signed.expires {
            return Err(Kind::TokenExpired.into());
        }
        serde_json::from_value(signed.body).map_err(|_| invalid())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}
