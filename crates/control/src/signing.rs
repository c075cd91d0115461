//! Texts that carry a proof that this server wrote them: the text, a dot, and its HMAC-SHA-256 in base64 for URLs.

use crate::database::{Database, OpenError, server_key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use meterd_fault::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use std::sync::Arc;

const KEY_BYTES: usize = 32;

/// A key of the server, under a name of its own for each use.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<[u8]>);

impl SigningKey {
    pub(crate) fn open(database: &Database, name: &str) -> Result<Self, OpenError> {
        let key = server_key(database, name, || {
            let mut key = vec![0; KEY_BYTES];
            getrandom::fill(&mut key).map_err(OpenError::Randomness)?;
            Ok(key)
        })?;
        Ok(Self(key.into()))
    }

    /// The text with its signature.
    pub(crate) fn sign(&self, mut text: String) -> Result<String, Fault> {
        let signature = self.mac(&text)?.finalize().into_bytes();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }

    /// The text without its signature; `None` if that is not ours. Nothing of the text may be believed before.
    pub(crate) fn verified<'t>(&self, signed: &'t str) -> Result<Option<&'t str>, Fault> {
        let Some((text, signature)) = signed.rsplit_once('.') else {
            return Ok(None);
        };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return Ok(None);
        };
        // Constant time.
        let verdict = self.mac(text)?.verify_slice(&signature);
        Ok(verdict.is_ok().then_some(text))
    }

    fn mac(&self, text: &str) -> Result<Hmac<Sha256>, Fault> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map_err(|e| Fault::internal(format!("use a signing key: {e}")))?;
        mac.update(text.as_bytes());
        Ok(mac)
    }
}

/// A value as JSON in base64 for URLs.
pub(crate) fn encode(value: &impl Serialize) -> Result<String, Fault> {
    let json = serde_json::to_vec(value)
        .map_err(|e| Fault::internal(format!("write what is to be signed: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
