//! How the FSM Navigator surface words its faults: `{"success","error","message"}` with one of thirteen codes
//! (specs/fsm-navigator.md 8).
//!
//! The original documents no 402, 410, 413, 415, 422 or 503: what is wrong with a body is a 400, what is unexpected a
//! 500. Two 400s surprise (a missing meter, a forbidden status change), and the only 409 is a customer's e-mail.

use http::{HeaderName, HeaderValue, StatusCode, header};
use meterd_fault::{Kind, LimitHit, LimitScope, Location, Problem, Resource, Rule, quote};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;

#[derive(Clone, Copy, Debug)]
pub struct FsmNavigatorDialect;

/// The body of every failure (3.2, 8.1).
#[derive(Serialize)]
struct Body {
    success: bool,
    error: &'static str,
    message: String,
    /// On 429 only; the same number as the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// Status and code, which go together.
#[derive(Clone, Copy)]
struct Class(StatusCode, &'static str);

const VALIDATION_FAILED: Class = Class(StatusCode::BAD_REQUEST, "validation_failed");
const MISSING_REQUIRED_FIELD: Class = Class(StatusCode::BAD_REQUEST, "missing_required_field");
const INVALID_STATUS_TRANSITION: Class =
    Class(StatusCode::BAD_REQUEST, "invalid_status_transition");
const METER_NOT_FOUND: Class = Class(StatusCode::BAD_REQUEST, "meter_not_found");
const UNAUTHORIZED: Class = Class(StatusCode::UNAUTHORIZED, "unauthorized");
const FORBIDDEN: Class = Class(StatusCode::FORBIDDEN, "forbidden");
const IP_NOT_ALLOWED: Class = Class(StatusCode::FORBIDDEN, "ip_not_allowed");
const SCOPE_NOT_AUTHORIZED: Class = Class(StatusCode::FORBIDDEN, "scope_not_authorized");
const NOT_FOUND: Class = Class(StatusCode::NOT_FOUND, "not_found");
const METHOD_NOT_ALLOWED: Class = Class(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
const DUPLICATE_CUSTOMER: Class = Class(StatusCode::CONFLICT, "duplicate_customer");
const RATE_LIMIT_EXCEEDED: Class = Class(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded");
const SERVER_ERROR: Class = Class(StatusCode::INTERNAL_SERVER_ERROR, "server_error");

/// Where a 429 names no wait of its own: the documented example's.
const USUAL_WAIT_SECONDS: u64 = 60;

impl Dialect for FsmNavigatorDialect {
    fn surface(&self) -> &'static str {
        "fsm-navigator"
    }

    fn render(&self, kind: &Kind, request: &Asked<'_>) -> Rendered {
        match kind {
            Kind::Invalid { problems } => invalid(problems),
            Kind::BodyMalformed {
                reason,
                line,
                column,
            } => answer(
                VALIDATION_FAILED,
                format!(
                    "The request body is not valid JSON: {} at line {line}, column {column}.",
                    quote(reason)
                ),
            ),
            Kind::TransitionNotAllowed { from, to, .. }
            | Kind::PlatformRefusedTransition { from, to, .. } => answer(
                INVALID_STATUS_TRANSITION,
                format!(
                    "Cannot change status from \"{}\" to \"{}\".",
                    quote(from),
                    quote(to)
                ),
            ),
            Kind::MeterNotConfigured { .. } => {
                answer(METER_NOT_FOUND, "Meter not found for this asset.")
            }
            Kind::ResourceExists {
                resource: Resource::Customer,
                field: "email",
                ..
            } => answer(
                DUPLICATE_CUSTOMER,
                "A customer with this email already exists.",
            ),
            Kind::ResourceExists {
                resource,
                field,
                value,
            } => answer(
                VALIDATION_FAILED,
                format!(
                    "Invalid value for {field}: another {} has {} already.",
                    resource.noun(),
                    quote(value)
                ),
            ),
            Kind::MediaTypeUnsupported { .. }
            | Kind::ContentEncodingUnsupported { .. }
            | Kind::BodyTooLarge { .. }
            | Kind::HeadersTooLarge { .. }
            | Kind::UriTooLong { .. }
            | Kind::BodyTimeout { .. }
            | Kind::PeriodTooLong { .. }
            | Kind::MeasurementConflict { .. }
            | Kind::CalculationFailed { .. }
            | Kind::CodeAmbiguous { .. }
            | Kind::OauthRequestInvalid { .. }
            | Kind::OauthGrantUnsupported
            | Kind::OauthScopeInvalid { .. }
            | Kind::VersionMismatch { .. }
            | Kind::ResourceInUse { .. }
            | Kind::ReferenceBroken { .. }
            | Kind::ActionNotSupported { .. }
            | Kind::CapabilityMissing { .. }
            | Kind::IdempotencyKeyReused
            | Kind::ResponseTooLarge { .. }
            | Kind::QueryTooExpensive { .. }
            | Kind::PlatformRejectedValue { .. }
            | Kind::PageNotAllowed { .. }
            | Kind::PageNotAccessible { .. }
            | Kind::NothingExtractable => answer(VALIDATION_FAILED, kind.to_string()),

            // One sentence for all: who holds a wrong key learns nothing about it.
            Kind::CredentialsMissing
            | Kind::CredentialsMalformed
            | Kind::CredentialsUnknown
            | Kind::CredentialsDisabled
            | Kind::CredentialsRevoked
            | Kind::CredentialsExpired
            | Kind::TokenInvalid
            | Kind::TokenExpired
            | Kind::OauthClientInvalid => answer(UNAUTHORIZED, "API key is missing or invalid."),

            Kind::AddressNotAllowed { .. } => answer(
                IP_NOT_ALLOWED,
                "Requests from this IP address are not allowed.",
            ),
            // A key with some scope of the resource lacks this one; a key with none is out of place altogether (8.2).
            Kind::PermissionMissing {
                permission,
                holds_related,
            } => answer(
                if *holds_related {
                    SCOPE_NOT_AUTHORIZED
                } else {
                    FORBIDDEN
                },
                format!(
                    "This API key does not include the required scope: {}.",
                    quote(permission)
                ),
            ),
            Kind::FeatureNotIncluded { .. }
            | Kind::OrganizationRequired
            | Kind::AdministratorRequired
            | Kind::QuotaExhausted(_)
            | Kind::PlatformForbidden(_) => answer(FORBIDDEN, kind.to_string()),

            Kind::UnknownRoute => answer(NOT_FOUND, "Endpoint not found."),
            // 404 covers "does not exist or is not accessible" (8.1).
            Kind::ResourceNotFound { resource, .. } | Kind::ResourceForbidden { resource, .. } => {
                answer(NOT_FOUND, format!("{} not found.", resource.capitalized()))
            }
            Kind::OrganizationNotAccessible { .. } => answer(NOT_FOUND, "Company not found."),
            Kind::MethodNotAllowed { .. } => answer(
                METHOD_NOT_ALLOWED,
                format!(
                    "Method {} is not allowed for this endpoint.",
                    quote(request.method)
                ),
            )
            .with_allow(kind),

            Kind::RateLimited(hit) => with_window(too_many_requests(kind), hit),
            Kind::TooManyRunning { .. }
            | Kind::IdempotencyInProgress { .. }
            | Kind::Overloaded { .. }
            | Kind::PlatformThrottled { .. } => too_many_requests(kind),

            Kind::Internal => answer(SERVER_ERROR, "An internal error occurred."),
            Kind::ShuttingDown { .. }
            | Kind::StorageFull { .. }
            | Kind::StorageUnavailable { .. }
            | Kind::TimedOut { .. }
            | Kind::DependencyUnavailable { .. }
            | Kind::DependencyTimeout { .. }
            | Kind::PlatformUnreachable(_)
            | Kind::PlatformTimeout { .. }
            | Kind::PlatformCredentials(_)
            | Kind::PlatformBadResponse(_)
            | Kind::PlatformMisconfigured(_)
            | Kind::PlatformRejectedRequest(_)
            | Kind::PlatformFailed(_)
            | Kind::PlatformSuspended { .. }
            | Kind::PageTimeout => answer(SERVER_ERROR, kind.to_string()),
        }
    }
}

fn answer(class: Class, message: impl Into<String>) -> Rendered {
    rendered(class, message.into(), None)
}

fn rendered(Class(status, error): Class, message: String, retry_after: Option<u64>) -> Rendered {
    Rendered::typed_json(
        status,
        HeaderValue::from_static("application/json; charset=utf-8"),
        &Body {
            success: false,
            error,
            message,
            retry_after,
        },
    )
}

/// Member and header name the same number of seconds (6). The message is the one documented literal (8.3).
fn too_many_requests(kind: &Kind) -> Rendered {
    let seconds = kind.retry_after_seconds().unwrap_or(USUAL_WAIT_SECONDS);
    rendered(
        RATE_LIMIT_EXCEEDED,
        "Too many requests. Please try again later.".to_owned(),
        Some(seconds),
    )
    .with_header(header::RETRY_AFTER, seconds)
}

/// The window that rejected the request. Limits that are not the key's have no window to report (6).
fn with_window(answer: Rendered, hit: &LimitHit) -> Rendered {
    match hit.scope {
        LimitScope::Credential | LimitScope::Organization => answer
            .with_header(HeaderName::from_static("x-ratelimit-limit"), hit.limit)
            .with_header(HeaderName::from_static("x-ratelimit-remaining"), 0_u64)
            .with_header(
                HeaderName::from_static("x-ratelimit-reset"),
                hit.reset_epoch_seconds,
            ),
        LimitScope::Address | LimitScope::Server => answer,
    }
}

/// Missing fields win over invalid ones, and the message lists all of them (8.2).
fn invalid(problems: &[Problem]) -> Rendered {
    let missing: Vec<String> = problems
        .iter()
        .filter(|problem| problem.rule == Rule::Required)
        .filter_map(|problem| field(&problem.location))
        .collect();
    match missing.as_slice() {
        [] => answer(VALIDATION_FAILED, invalid_values(problems)),
        [one] => answer(
            MISSING_REQUIRED_FIELD,
            format!("Missing required field: {one}."),
        ),
        several => answer(
            MISSING_REQUIRED_FIELD,
            format!("Missing required fields: {}.", several.join(", ")),
        ),
    }
}

fn invalid_values(problems: &[Problem]) -> String {
    let sentences: Vec<String> = problems
        .iter()
        .map(|problem| match field(&problem.location) {
            Some(field) => format!("Invalid value for {field}: {}.", problem.rule),
            None => format!("The request body {}.", problem.rule),
        })
        .collect();
    sentences.join(" ")
}

/// The field's name, or `None` for the body as a whole: a body that is absent is invalid, not incomplete (8.2).
fn field(location: &Location) -> Option<String> {
    if matches!(location, Location::Body(pointer) if pointer.is_empty()) {
        return None;
    }
    Some(quote(&location.dotted()))
}

#[cfg(test)]
mod tests;
