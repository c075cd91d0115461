//! Bearer tokens of OAuth clients: JSON Web Tokens signed with HMAC-SHA-256.
//!
//! Written here rather than taken from a library because so little of JWT is needed: one algorithm, one key, one set
//! of claims. The header must be byte for byte the one that this server writes, so that no other algorithm (`none`
//! above all) can be asked for. A token only names its credential; what that may do is read from the credential at
//! each request, so that revoking it ends all its tokens at once. Checking reads memory only and issuing writes
//! nothing, since well-known clients fetch a token before every request.

use crate::credential::{Credential, Credentials};
use crate::database::{Database, OpenError};
use crate::secret::Secret;
use crate::signing::{SigningKey, decode, encode};
use crate::store::SERVER;
use meterd_fault::{Fault, Kind};
use meterd_model::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Longest token that is looked at, in bytes; ours have about 350.
pub const TOKEN_BYTES_MAX: usize = 2_048;
/// How far in the future a token may have been issued: the clock may have been set back since.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);
const SIGNING_KEY: &str = "token-signing";
/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub token: Secret,
    pub expires_in: Duration,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    key: SigningKey,
    credentials: Credentials,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// Credential.
    sub: Uuid,
    org: OrganizationId,
    /// Seconds since 1970.
    iat: i64,
    exp: i64,
    jti: Uuid,
}

impl Tokens {
    pub(crate) fn open(database: &Database, credentials: Credentials) -> Result<Self, OpenError> {
        let key = SigningKey::open(database, SIGNING_KEY)?;
        Ok(Self { key, credentials })
    }

    /// A token for the credential, valid for `lifetime` (whole seconds, at least 1) from `now`.
    pub fn issue(
        &self,
        credential: &Credential,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<IssuedToken, Fault> {
        let seconds = lifetime.as_secs().max(1);
        let claims = Claims {
            sub: credential.id,
            org: credential.organization.unwrap_or(SERVER),
            iat: now.seconds(),
            exp: now
                .seconds()
                .saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            jti: Uuid::new_v4(),
        };
        let token = self.key.sign(format!("{HEADER}.{}", encode(&claims)?))?;
        Ok(IssuedToken {
            token: Secret::from_issued(token),
            expires_in: Duration::from_secs(seconds),
        })
    }

    /// Whose token it is. `TokenInvalid` for anything this server did not sign for this surface, `TokenExpired`, or what
    /// has become of the credential: `CredentialsRevoked`, `…Disabled`, `…Expired`.
    pub fn check(
        &self,
        surface: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
        let claims = self.verified(token)?;
        if now.saturating_add(CLOCK_TOLERANCE).seconds() < claims.iat {
            return Err(Kind::TokenInvalid.into());
        }
        if now.seconds() >= claims.exp {
            return Err(Kind::TokenExpired.into());
        }
        let credential = self.credentials.admit_by_id(surface, claims.sub, now)?;
        if credential.organization.unwrap_or(SERVER) != claims.org {
            return Err(Kind::TokenInvalid.into());
        }
        Ok(credential)
    }

    fn verified(&self, token: &str) -> Result<Claims, Fault> {
        let invalid = || Fault::new(Kind::TokenInvalid);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        // Nothing of the claims is read before.
        let signed = self.key.verified(token)?.ok_or_else(invalid)?;
        let (header, claims) = signed.split_once('.').ok_or_else(invalid)?;
        if header != HEADER {
            return Err(invalid());
        }
        decode(claims).ok_or_else(invalid)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}
