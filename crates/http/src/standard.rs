//! Headers that several surfaces share because a standard defines them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use meterd_control::Decision;
use meterd_fault::{Fault, Kind};
use meterd_model::Timestamp;
use uuid::Uuid;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1). The scheme's case does not matter.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or(Kind::CredentialsMissing)?;
    let text = value.to_str().map_err(|_| Kind::CredentialsMalformed)?;
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(token)
    } else {
        Err(Kind::CredentialsMalformed.into())
    }
}

pub fn request_id_header(headers: &mut HeaderMap, request_id: Uuid) {
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): one item per policy, with its quota
/// and window, and with what remains and the seconds until it is whole again.
pub fn rate_limit_headers(headers: &mut HeaderMap, decision: &Decision, now: Timestamp) {
    if decision.allowances.is_empty() {
        return;
    }
    let list = |format: &dyn Fn(&meterd_control::Allowance) -> String| {
        let items: Vec<_> = decision.allowances.iter().map(format).collect();
        HeaderValue::from_str(&items.join(", "))
    };
    let policies = list(&|limit| {
        format!(
            "\"{}\";q={};w={}",
            limit.policy,
            limit.limit,
            limit.window.as_secs().max(1)
        )
    });
    let states = list(&|limit| {
        let left = limit.reset.micros().saturating_sub(now.micros()).max(0);
        let seconds = u64::try_from(left).unwrap_or(0).div_ceil(1_000_000);
        format!("\"{}\";r={};t={seconds}", limit.policy, limit.remaining)
    });
    if let (Ok(policies), Ok(states)) = (policies, states) {
        headers.insert(RATE_LIMIT_POLICY, policies);
        headers.insert(RATE_LIMIT, states);
    }
}
