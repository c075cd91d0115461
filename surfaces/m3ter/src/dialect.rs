//! How the m3ter surface words its faults: one JSON object with one string, and eight statuses (specs/m3ter.md 7).
//!
//! m3ter has no 401, 405, 409, 415, 422 or 503. A client there tells "authenticate again" from "not allowed" by the
//! words Unauthorized and Forbidden, both under 403; and the official SDK repeats a 409, which could never succeed.

use crate::settings::TokenRefusal;
use http::{HeaderValue, StatusCode, header};
use meterd_fault::{Kind, Location, Problem, Resource, quote};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;

#[derive(Clone, Copy, Debug, Default)]
pub struct M3terDialect {
    pub token_refusal: TokenRefusal,
}

/// The body of every failure (7.1).
#[derive(Serialize)]
struct Body {
    message: String,
}

/// Where a 429 names no wait of its own. The SDK's first retry comes after half a second otherwise (7.4).
const SHORTEST_WAIT_SECONDS: u64 = 1;

/// Where tokens are asked for.
const TOKEN_PATH: &str = "/oauth/token";
const UNAUTHORIZED: &str = "Unauthorized";
const FORBIDDEN: &str = "Forbidden";
const TOO_MANY_REQUESTS: &str = "Too Many Requests";
const RESPONSE_TOO_LARGE: &str = "Response too large; narrow the request with filters";

impl Dialect for M3terDialect {
    fn surface(&self) -> &'static str {
        "m3ter"
    }

    fn render(&self, kind: &Kind, request: &Asked<'_>) -> Rendered {
        let (status, message) = self.status_and_message(kind, request);
        let answer = Rendered::json(status, &Body { message });
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = kind.retry_after_seconds().unwrap_or(SHORTEST_WAIT_SECONDS);
            return answer.with_header(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl M3terDialect {
    fn status_and_message(self, kind: &Kind, request: &Asked<'_>) -> (StatusCode, String) {
        let (status, message) = status_and_message(kind);
        let is_refused_token = message == UNAUTHORIZED && request.path.ends_with(TOKEN_PATH);
        match self.token_refusal {
            TokenRefusal::Unauthorized if is_refused_token => (StatusCode::UNAUTHORIZED, message),
            _ => (status, message),
        }
    }
}

fn status_and_message(kind: &Kind) -> (StatusCode, String) {
    match kind {
        // A wrong method is an unknown route here; 405 is not among m3ter's statuses (7.3).
        Kind::UnknownRoute | Kind::MethodNotAllowed { .. } => not_found("Not Found"),
        Kind::ResourceNotFound { resource, id } => not_found(format!(
            "{} not found: {}",
            resource.capitalized(),
            quote(id)
        )),

        Kind::BodyMalformed {
            reason,
            line,
            column,
        } => bad_request(format!(
            "Invalid JSON: {} at line {line}, column {column}",
            quote(reason)
        )),
        Kind::Invalid { problems } => bad_request(validation_failed(problems)),
        Kind::OauthRequestInvalid { parameter } => {
            bad_request(format!("Validation failed: {parameter}: is required"))
        }
        Kind::OauthGrantUnsupported => {
            bad_request("Validation failed: grant_type: must be client_credentials")
        }
        Kind::OauthScopeInvalid { scopes } => bad_request(format!(
            "Validation failed: scope: unknown scopes {}",
            quote(scopes)
        )),
        Kind::VersionMismatch { stored, given, .. } => {
            bad_request(format!("Version mismatch: expected {stored}, got {given}"))
        }
        Kind::ResourceExists { field, value, .. } => bad_request(format!(
            "{} '{}' is already in use",
            capitalized(field),
            quote(value)
        )),
        Kind::ResourceInUse {
            resource,
            id,
            used_by,
            user,
        } => bad_request(format!(
            "{} {} is in use by {} '{}'",
            resource.capitalized(),
            quote(id),
            used_by.noun(),
            quote(user)
        )),
        Kind::ReferenceBroken {
            resource,
            field,
            used_by,
            user,
        } => bad_request(format!(
            "{} update rejected: field '{}' is used {} {} '{}'",
            resource.capitalized(),
            quote(field),
            used_as(*used_by),
            used_by.noun(),
            quote(user)
        )),
        Kind::MediaTypeUnsupported { .. }
        | Kind::ContentEncodingUnsupported { .. }
        | Kind::HeadersTooLarge { .. }
        | Kind::UriTooLong { .. }
        | Kind::PeriodTooLong { .. }
        | Kind::MeasurementConflict { .. }
        | Kind::CalculationFailed { .. }
        | Kind::CodeAmbiguous { .. }
        | Kind::TransitionNotAllowed { .. }
        | Kind::ActionNotSupported { .. }
        | Kind::MeterNotConfigured { .. }
        | Kind::CapabilityMissing { .. }
        | Kind::IdempotencyKeyReused
        | Kind::PlatformRejectedValue { .. }
        | Kind::PlatformRefusedTransition { .. }
        | Kind::PageNotAllowed { .. }
        | Kind::PageNotAccessible { .. }
        | Kind::NothingExtractable => bad_request(kind.phrase()),

        // Documented, if surprising: too large a request is 403, and 413 is kept for answers (5.2).
        Kind::BodyTooLarge { .. } => (
            StatusCode::FORBIDDEN,
            "Request payload too large".to_owned(),
        ),
        Kind::CredentialsMissing
        | Kind::CredentialsMalformed
        | Kind::CredentialsUnknown
        | Kind::CredentialsDisabled
        | Kind::CredentialsRevoked
        | Kind::CredentialsExpired
        | Kind::TokenInvalid
        | Kind::TokenExpired
        | Kind::OauthClientInvalid => (StatusCode::FORBIDDEN, UNAUTHORIZED.to_owned()),
        // One word for all, so that an answer does not tell whether an organization exists (7.3).
        Kind::AddressNotAllowed { .. }
        | Kind::FeatureNotIncluded { .. }
        | Kind::PermissionMissing { .. }
        | Kind::OrganizationNotAccessible { .. }
        | Kind::OrganizationRequired
        | Kind::AdministratorRequired
        | Kind::ResourceForbidden { .. }
        | Kind::QuotaExhausted(_)
        | Kind::PlatformForbidden(_) => (StatusCode::FORBIDDEN, FORBIDDEN.to_owned()),

        Kind::ResponseTooLarge { .. } | Kind::QueryTooExpensive { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, RESPONSE_TOO_LARGE.to_owned())
        }

        Kind::RateLimited(_)
        | Kind::TooManyRunning { .. }
        | Kind::IdempotencyInProgress { .. }
        | Kind::Overloaded { .. }
        | Kind::PlatformThrottled { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_REQUESTS.to_owned())
        }

        Kind::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal Error".to_owned(),
        ),
        Kind::StorageFull { .. } | Kind::StorageUnavailable { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, kind.phrase())
        }
        Kind::ShuttingDown { .. }
        | Kind::DependencyUnavailable { .. }
        | Kind::PlatformUnreachable(_)
        | Kind::PlatformCredentials(_)
        | Kind::PlatformBadResponse(_)
        | Kind::PlatformMisconfigured(_)
        | Kind::PlatformRejectedRequest(_)
        | Kind::PlatformFailed(_)
        | Kind::PlatformSuspended { .. } => (StatusCode::BAD_GATEWAY, kind.phrase()),
        // A slow body is the client's doing, but 408 is not documented and the advice is to retry, which is what
        // m3ter says of 504 and of no 4xx but 429.
        Kind::BodyTimeout { .. }
        | Kind::TimedOut { .. }
        | Kind::DependencyTimeout { .. }
        | Kind::PlatformTimeout { .. }
        | Kind::PageTimeout => (StatusCode::GATEWAY_TIMEOUT, kind.phrase()),
    }
}

fn bad_request(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message.into())
}

fn not_found(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, message.into())
}

/// All problems in one line (7.3).
fn validation_failed(problems: &[Problem]) -> String {
    let reasons: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", field(&problem.location), problem.rule))
        .collect();
    format!("Validation failed: {}", reasons.join("; "))
}

fn field(location: &Location) -> String {
    let path = location.dotted();
    if path.is_empty() {
        return "body".to_owned();
    }
    quote(&path)
}

/// An aggregation aims at its field; anything else merely uses it (7.3).
fn used_as(user: Resource) -> &'static str {
    if user == Resource::Aggregation {
        "as target of"
    } else {
        "by"
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests;
