//! Problem details (RFC 9457): how the native surface words its faults.

use axum::http::{HeaderValue, StatusCode, header};
use meterd_fault::{Fault, Kind, Location, Problem};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;

#[derive(Clone, Copy, Debug)]
pub struct NativeDialect;

impl Dialect for NativeDialect {
    fn surface(&self) -> &'static str {
        "native"
    }

    fn render(&self, kind: &Kind, asked: &Asked<'_>) -> Rendered {
        let body = ProblemBody::new(kind, asked);
        let rendered = Rendered::typed_json(
            status(kind),
            HeaderValue::from_static("application/problem+json"),
            &body,
        )
        .with_retry_after(kind)
        .with_allow(kind);
        with_challenge(rendered, kind)
    }
}

/// A status of 401 names the scheme (RFC 6750, section 3).
fn with_challenge(rendered: Rendered, kind: &Kind) -> Rendered {
    if rendered.status != StatusCode::UNAUTHORIZED {
        return rendered;
    }
    let challenge = match kind {
        Kind::CredentialsMissing => "Bearer realm=\"meterd\"",
        _ => "Bearer realm=\"meterd\", error=\"invalid_token\"",
    };
    rendered.with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

pub(crate) fn status(kind: &Kind) -> StatusCode {
    match kind {
        Kind::BodyMalformed { .. }
        | Kind::OauthRequestInvalid { .. }
        | Kind::OauthGrantUnsupported
        | Kind::OauthScopeInvalid { .. } => StatusCode::BAD_REQUEST,
        Kind::CredentialsMissing
        | Kind::CredentialsMalformed
        | Kind::CredentialsUnknown
        | Kind::CredentialsDisabled
        | Kind::CredentialsRevoked
        | Kind::CredentialsExpired
        | Kind::TokenInvalid
        | Kind::TokenExpired
        | Kind::OauthClientInvalid => StatusCode::UNAUTHORIZED,
        Kind::AddressNotAllowed { .. }
        | Kind::FeatureNotIncluded { .. }
        | Kind::PermissionMissing { .. }
        | Kind::OrganizationNotAccessible { .. }
        | Kind::OrganizationRequired
        | Kind::AdministratorRequired
        | Kind::ResourceForbidden { .. }
        | Kind::QuotaExhausted(_)
        | Kind::PlatformForbidden(_) => StatusCode::FORBIDDEN,
        Kind::UnknownRoute | Kind::ResourceNotFound { .. } | Kind::MeterNotConfigured { .. } => {
            StatusCode::NOT_FOUND
        }
        Kind::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Kind::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
        Kind::MeasurementConflict { .. }
        | Kind::ResourceExists { .. }
        | Kind::VersionMismatch { .. }
        | Kind::ResourceInUse { .. }
        | Kind::ReferenceBroken { .. }
        | Kind::TransitionNotAllowed { .. }
        | Kind::ActionNotSupported { .. }
        | Kind::IdempotencyInProgress { .. }
        | Kind::PlatformRefusedTransition { .. } => StatusCode::CONFLICT,
        Kind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
        Kind::MediaTypeUnsupported { .. } | Kind::ContentEncodingUnsupported { .. } => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        Kind::Invalid { .. }
        | Kind::PeriodTooLong { .. }
        | Kind::CalculationFailed { .. }
        | Kind::CodeAmbiguous { .. }
        | Kind::CapabilityMissing { .. }
        | Kind::IdempotencyKeyReused
        | Kind::ResponseTooLarge { .. }
        | Kind::QueryTooExpensive { .. }
        | Kind::PlatformRejectedValue { .. }
        | Kind::PageNotAllowed { .. }
        | Kind::PageNotAccessible { .. }
        | Kind::NothingExtractable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::RateLimited(_) | Kind::TooManyRunning { .. } | Kind::PlatformThrottled { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Kind::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::DependencyUnavailable { .. }
        | Kind::PlatformUnreachable(_)
        | Kind::PlatformCredentials(_)
        | Kind::PlatformBadResponse(_)
        | Kind::PlatformMisconfigured(_)
        | Kind::PlatformRejectedRequest(_)
        | Kind::PlatformFailed(_) => StatusCode::BAD_GATEWAY,
        Kind::Overloaded { .. }
        | Kind::ShuttingDown { .. }
        | Kind::StorageFull { .. }
        | Kind::StorageUnavailable { .. }
        | Kind::PlatformSuspended { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Kind::TimedOut { .. }
        | Kind::DependencyTimeout { .. }
        | Kind::PlatformTimeout { .. }
        | Kind::PageTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    instance: &'a str,
    code: &'static str,
    request_id: String,
    retry: Retry,
    stored: &'static str,
    errors: Vec<FieldError>,
}

impl<'a> ProblemBody<'a> {
    fn new(kind: &Kind, asked: &Asked<'a>) -> Self {
        let entry = kind.entry();
        Self {
            kind: format!("{}/docs/errors/{}", asked.base_url, entry.code),
            title: entry.title,
            status: status(kind).as_u16(),
            detail: detail(kind),
            instance: asked.path,
            code: entry.code,
            request_id: asked.request_id.to_string(),
            retry: Retry::of(kind),
            stored: entry.stored.code(),
            errors: field_errors(kind),
        }
    }
}

/// What became of one measurement, inside an answer about many.
#[derive(Debug, Serialize)]
pub struct ItemFault {
    code: &'static str,
    title: &'static str,
    detail: String,
    retry: Retry,
    errors: Vec<FieldError>,
}

impl std::fmt::Display for ItemFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ItemFault {
    pub(crate) fn of(fault: &Fault) -> Self {
        let entry = fault.entry();
        Self {
            code: entry.code,
            title: entry.title,
            detail: detail(&fault.kind),
            retry: Retry::of(&fault.kind),
            errors: field_errors(&fault.kind),
        }
    }

    /// For an answer that lists enough already.
    pub(crate) fn without_errors(mut self) -> Self {
        if !self.errors.is_empty() {
            "Problems were found; those of earlier rows are listed.".clone_into(&mut self.detail);
            self.errors.clear();
        }
        self
    }
}

#[derive(Debug, Serialize)]
struct Retry {
    class: &'static str,
    /// Milliseconds to wait; null where waiting does not help or nobody knows how long.
    after_ms: Option<u64>,
}

impl Retry {
    fn of(kind: &Kind) -> Self {
        let wait = kind.retry_after();
        Self {
            class: kind.entry().advice.code(),
            // Rounded up: a client that waits as told must not come too early.
            after_ms: wait
                .map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)),
        }
    }
}

#[derive(Debug, Serialize)]
struct FieldError {
    #[serde(rename = "in")]
    place: &'static str,
    /// JSON Pointer (RFC 6901) into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Name of the query parameter, path parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    rule: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed: Vec<String>,
}

impl FieldError {
    fn of(problem: &Problem) -> Self {
        let (place, pointer, name) = match &problem.location {
            Location::Body(pointer) => ("body", Some(pointer.clone()), None),
            Location::Query(name) => ("query", None, Some(name.clone())),
            Location::Path(name) => ("path", None, Some(name.clone())),
            Location::Header(name) => ("header", None, Some(name.clone())),
        };
        Self {
            place,
            pointer,
            name,
            rule: problem.rule.code(),
            message: problem.message(),
            allowed: problem.rule.allowed(),
        }
    }
}

fn field_errors(kind: &Kind) -> Vec<FieldError> {
    match kind {
        Kind::Invalid { problems } => problems.iter().map(FieldError::of).collect(),
        _ => Vec::new(),
    }
}

/// With many problems the list speaks for itself. Who has no key in the right place is told where that is.
fn detail(kind: &Kind) -> String {
    match kind {
        Kind::CredentialsMissing | Kind::CredentialsMalformed => {
            format!("{kind} Send a key in the header Authorization: Bearer mtr_…")
        }
        Kind::Invalid { problems } if problems.len() > 1 => {
            format!("{} problems were found; see errors.", problems.len())
        }
        kind => kind.to_string(),
    }
}
