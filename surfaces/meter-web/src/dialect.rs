//! How the Meter surface words its faults: `{"detail": "…"}`, always a string (specs/meter-web.md 2, 3.0, 5).

mod problems;

use http::{HeaderName, HeaderValue, StatusCode, header};
use meterd_fault::{Kind, QuotaHit, quote};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;

#[derive(Clone, Copy, Debug)]
pub struct MeterWebDialect;

/// The body of every failure (5.1).
#[derive(Serialize)]
struct Body {
    detail: String,
}

const NO_KEY: &str = "Invalid or missing API key";
const NO_PERMISSION: &str = "You do not have permission to access this resource";
const INVALID_PARAMETERS: &str = "Invalid request parameters";
const MALFORMED_JSON: &str = "Malformed JSON";
const SLOW_DOWN: &str = "Please slow down - limits on strategy generation";
const UNAVAILABLE: &str = "Service temporarily unavailable. Please try again later.";
const INTERNAL: &str = "Internal server error";

impl Dialect for MeterWebDialect {
    fn surface(&self) -> &'static str {
        "meter-web"
    }

    fn render(&self, kind: &Kind, _request: &Asked<'_>) -> Rendered {
        match kind {
            Kind::BodyMalformed { .. } => answer(StatusCode::BAD_REQUEST, MALFORMED_JSON),
            Kind::Invalid { problems } => problems::render(problems),
            // What is wrong with the request as a whole; 408, 414, 415 and 431 are not documented.
            Kind::MediaTypeUnsupported { .. }
            | Kind::ContentEncodingUnsupported { .. }
            | Kind::HeadersTooLarge { .. }
            | Kind::UriTooLong { .. }
            | Kind::BodyTimeout { .. }
            | Kind::ActionNotSupported { .. }
            | Kind::OauthRequestInvalid { .. }
            | Kind::OauthGrantUnsupported
            | Kind::OauthScopeInvalid { .. } => answer(StatusCode::BAD_REQUEST, kind.phrase()),

            // One answer for all, a deleted key included (2).
            Kind::CredentialsMissing
            | Kind::CredentialsMalformed
            | Kind::CredentialsUnknown
            | Kind::CredentialsDisabled
            | Kind::CredentialsRevoked
            | Kind::CredentialsExpired
            | Kind::TokenInvalid
            | Kind::TokenExpired
            | Kind::OauthClientInvalid => answer(StatusCode::UNAUTHORIZED, NO_KEY)
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),

            Kind::AddressNotAllowed { .. }
            | Kind::FeatureNotIncluded { .. }
            | Kind::PermissionMissing { .. }
            | Kind::OrganizationNotAccessible { .. }
            | Kind::OrganizationRequired
            | Kind::AdministratorRequired
            | Kind::ResourceForbidden { .. }
            | Kind::PlatformForbidden(_) => answer(StatusCode::FORBIDDEN, NO_PERMISSION),
            Kind::QuotaExhausted(hit) => quota_exhausted(hit),

            Kind::UnknownRoute => answer(StatusCode::NOT_FOUND, "Not Found"),
            Kind::ResourceNotFound { resource, .. } => answer(
                StatusCode::NOT_FOUND,
                format!("{} not found", resource.capitalized()),
            ),
            Kind::MethodNotAllowed { .. } => {
                answer(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").with_allow(kind)
            }
            Kind::IdempotencyInProgress { .. } => answer(
                StatusCode::CONFLICT,
                "Idempotent request still in progress. Retry shortly.",
            )
            .with_retry_after(kind),
            Kind::BodyTooLarge { .. } => answer(StatusCode::PAYLOAD_TOO_LARGE, kind.phrase()),

            Kind::IdempotencyKeyReused => {
                unprocessable("Idempotency-Key reused with a different request body.")
            }
            Kind::PageNotAllowed { .. } => unprocessable("URL not allowed"),
            Kind::PageNotAccessible { reason } => {
                unprocessable(format!("Page not accessible: {}", quote(reason)))
            }
            Kind::PageTimeout => unprocessable("Connection timeout: target site did not respond"),
            Kind::NothingExtractable => {
                unprocessable("Could not generate a strategy for this page and description")
            }
            Kind::PeriodTooLong { .. }
            | Kind::MeasurementConflict { .. }
            | Kind::CalculationFailed { .. }
            | Kind::CodeAmbiguous { .. }
            | Kind::ResourceExists { .. }
            | Kind::VersionMismatch { .. }
            | Kind::ResourceInUse { .. }
            | Kind::ReferenceBroken { .. }
            | Kind::TransitionNotAllowed { .. }
            | Kind::MeterNotConfigured { .. }
            | Kind::CapabilityMissing { .. }
            | Kind::ResponseTooLarge { .. }
            | Kind::QueryTooExpensive { .. }
            | Kind::PlatformRejectedValue { .. }
            | Kind::PlatformRefusedTransition { .. } => unprocessable(kind.phrase()),

            Kind::RateLimited(_) => {
                answer(StatusCode::TOO_MANY_REQUESTS, SLOW_DOWN).with_retry_after(kind)
            }

            // No Retry-After: for 500 and 503 the original advises exponential back-off (5.5).
            Kind::TooManyRunning { .. }
            | Kind::Overloaded { .. }
            | Kind::ShuttingDown { .. }
            | Kind::StorageFull { .. }
            | Kind::StorageUnavailable { .. }
            | Kind::TimedOut { .. }
            | Kind::DependencyUnavailable { .. }
            | Kind::DependencyTimeout { .. }
            | Kind::PlatformUnreachable(_)
            | Kind::PlatformTimeout { .. }
            | Kind::PlatformThrottled { .. }
            | Kind::PlatformFailed(_)
            | Kind::PlatformSuspended { .. } => {
                answer(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
            }
            Kind::Internal
            | Kind::PlatformCredentials(_)
            | Kind::PlatformBadResponse(_)
            | Kind::PlatformMisconfigured(_)
            | Kind::PlatformRejectedRequest(_) => {
                answer(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
            }
        }
    }
}

fn answer(status: StatusCode, detail: impl Into<String>) -> Rendered {
    Rendered::json(
        status,
        &Body {
            detail: detail.into(),
        },
    )
}

fn unprocessable(detail: impl Into<String>) -> Rendered {
    answer(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// The same headers as on a strategy that was created (3.0); `Reset` is absent while nothing is used.
fn quota_exhausted(hit: &QuotaHit) -> Rendered {
    let detail = format!(
        "Strategy quota exceeded: {} of {} used in the last {} days",
        hit.used, hit.limit, hit.window_days
    );
    let answer = answer(StatusCode::FORBIDDEN, detail)
        .with_header(HeaderName::from_static("x-strategy-quota-used"), hit.used)
        .with_header(HeaderName::from_static("x-strategy-quota-limit"), hit.limit)
        .with_text_header(HeaderName::from_static("x-strategy-quota-tier"), &hit.tier);
    match &hit.reset {
        Some(reset) => {
            answer.with_text_header(HeaderName::from_static("x-strategy-quota-reset"), reset)
        }
        None => answer,
    }
}

#[cfg(test)]
mod tests;
