//! How the `T IoT Hub` surface words its faults: a problem object whose `type` is a phrase (specs/t-iot-hub.md 6), and
//! Keycloak's words at the token endpoint (2.1).
//!
//! Only 400, 401, 403, 404, 429 and 500 are documented, plus the gateway's 413 and 431. What a SIM platform's failure
//! becomes stands in the normalisation table 6.5; a platform's bad credentials must never become a 401, since clients
//! answer a 401 with a new token and would loop.

use http::{HeaderValue, StatusCode, header};
use meterd_fault::{Kind, Location, Platform, Problem, Resource, quote};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;
use uuid::Uuid;

#[derive(Clone, Copy, Debug)]
pub struct TIotHubDialect;

/// The problem object (6.1).
#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    instance: String,
    #[serde(rename = "externalErrors")]
    external_errors: Vec<ExternalError<'a>>,
    /// Only with *Missing or malformed parameter*.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(rename = "@type")]
    at_type: &'static str,
    #[serde(rename = "traceId")]
    trace_id: Uuid,
    retryable: bool,
}

/// What a SIM platform did. Its address and its credentials are never part of it.
#[derive(Serialize)]
struct ExternalError<'a> {
    system: &'a str,
    account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    message: String,
}

#[derive(Serialize)]
struct FieldError {
    field: String,
    message: String,
}

/// Keycloak's error object at the token endpoint (2.1).
#[derive(Serialize)]
struct OauthBody {
    error: &'static str,
    error_description: String,
}

/// Status, `type` and `title`, which go together (6.2).
#[derive(Clone, Copy)]
struct Class {
    status: StatusCode,
    phrase: &'static str,
    title: &'static str,
}

impl Class {
    /// All classes but two carry the status's phrase as title too.
    const fn plain(status: StatusCode, phrase: &'static str) -> Self {
        Self {
            status,
            phrase,
            title: phrase,
        }
    }
}

const BAD_REQUEST: Class = Class::plain(StatusCode::BAD_REQUEST, "Bad Request");
const MALFORMED_PARAMETER: Class = Class {
    title: "Missing or malformed parameter",
    ..BAD_REQUEST
};
const INVALID_ACTION: Class = Class {
    title: "Invalid Action",
    ..BAD_REQUEST
};
const UNAUTHORIZED: Class = Class::plain(StatusCode::UNAUTHORIZED, "Unauthorized");
const FORBIDDEN: Class = Class::plain(StatusCode::FORBIDDEN, "Forbidden");
const NOT_FOUND: Class = Class::plain(StatusCode::NOT_FOUND, "Not Found");
const PAYLOAD_TOO_LARGE: Class = Class::plain(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large");
const HEADERS_TOO_LARGE: Class = Class::plain(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "Request Header Fields Too Large",
);
const TOO_MANY_REQUESTS: Class = Class::plain(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
const SERVER_ERROR: Class =
    Class::plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");

/// `Retry-After` of a retryable problem that names no wait of its own (6.1; the number is row 11's of 6.5).
const USUAL_WAIT_SECONDS: u64 = 1;

impl Dialect for TIotHubDialect {
    fn surface(&self) -> &'static str {
        "t-iot-hub"
    }

    fn render(&self, kind: &Kind, request: &Asked<'_>) -> Rendered {
        match kind {
            Kind::OauthClientInvalid => oauth(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "Invalid client or Invalid client credentials".to_owned(),
            ),
            Kind::OauthRequestInvalid { parameter } => oauth(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                format!("Missing form parameter: {parameter}"),
            ),
            Kind::OauthGrantUnsupported => oauth(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Unsupported grant_type".to_owned(),
            ),
            Kind::OauthScopeInvalid { scopes } => oauth(
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                format!("Invalid scopes: {}", quote(scopes)),
            ),

            // "Wrong method" stands under 400 in the original's list; 405 does not exist there (6.2).
            Kind::MethodNotAllowed { .. }
            | Kind::TransitionNotAllowed { .. }
            | Kind::ActionNotSupported { .. }
            | Kind::CapabilityMissing { .. }
            | Kind::ResourceInUse { .. }
            | Kind::ReferenceBroken { .. } => problem(INVALID_ACTION, kind, request),
            Kind::PlatformRefusedTransition { platform, .. } => {
                platform_problem(INVALID_ACTION, platform, kind, request)
            }

            Kind::Invalid { problems } => invalid(problems, kind, request),
            Kind::MediaTypeUnsupported { .. }
            | Kind::ContentEncodingUnsupported { .. }
            | Kind::BodyMalformed { .. }
            | Kind::UriTooLong { .. }
            | Kind::BodyTimeout { .. }
            | Kind::PeriodTooLong { .. }
            | Kind::MeasurementConflict { .. }
            | Kind::CalculationFailed { .. }
            | Kind::CodeAmbiguous { .. }
            | Kind::ResourceExists { .. }
            | Kind::VersionMismatch { .. }
            | Kind::MeterNotConfigured { .. }
            | Kind::IdempotencyKeyReused
            | Kind::ResponseTooLarge { .. }
            | Kind::QueryTooExpensive { .. }
            | Kind::PageNotAllowed { .. }
            | Kind::PageNotAccessible { .. }
            | Kind::NothingExtractable => problem(BAD_REQUEST, kind, request),
            Kind::PlatformRejectedValue { platform, message } => Body::of(BAD_REQUEST, kind)
                .detail(platform_text(message))
                .caused_by(platform)
                .render(request),

            Kind::CredentialsMissing
            | Kind::CredentialsMalformed
            | Kind::CredentialsUnknown
            | Kind::CredentialsDisabled
            | Kind::CredentialsRevoked
            | Kind::CredentialsExpired
            | Kind::TokenInvalid
            | Kind::TokenExpired => Body::of(UNAUTHORIZED, kind)
                .detail("Authentication information is missing or invalid")
                .render(request),

            Kind::AddressNotAllowed { .. }
            | Kind::FeatureNotIncluded { .. }
            | Kind::PermissionMissing { .. }
            | Kind::OrganizationNotAccessible { .. }
            | Kind::OrganizationRequired
            | Kind::AdministratorRequired
            | Kind::ResourceForbidden { .. }
            | Kind::QuotaExhausted(_) => problem(FORBIDDEN, kind, request),
            Kind::PlatformForbidden(platform) => {
                platform_problem(FORBIDDEN, platform, kind, request)
            }

            Kind::UnknownRoute => problem(NOT_FOUND, kind, request),
            Kind::ResourceNotFound { resource, id } => Body::of(NOT_FOUND, kind)
                .detail(not_found(*resource, id))
                .render(request),

            Kind::BodyTooLarge { .. } => problem(PAYLOAD_TOO_LARGE, kind, request),
            Kind::HeadersTooLarge { .. } => problem(HEADERS_TOO_LARGE, kind, request),

            Kind::RateLimited(_)
            | Kind::TooManyRunning { .. }
            | Kind::IdempotencyInProgress { .. }
            | Kind::Overloaded { .. } => problem(TOO_MANY_REQUESTS, kind, request),
            Kind::PlatformThrottled { platform, .. } => {
                platform_problem(TOO_MANY_REQUESTS, platform, kind, request)
            }

            Kind::Internal
            | Kind::ShuttingDown { .. }
            | Kind::StorageFull { .. }
            | Kind::StorageUnavailable { .. }
            | Kind::TimedOut { .. }
            | Kind::DependencyUnavailable { .. }
            | Kind::DependencyTimeout { .. }
            | Kind::PageTimeout => problem(SERVER_ERROR, kind, request),
            Kind::PlatformUnreachable(platform)
            | Kind::PlatformTimeout { platform, .. }
            | Kind::PlatformCredentials(platform)
            | Kind::PlatformBadResponse(platform)
            | Kind::PlatformMisconfigured(platform)
            | Kind::PlatformRejectedRequest(platform)
            | Kind::PlatformFailed(platform)
            | Kind::PlatformSuspended { platform, .. } => {
                platform_problem(SERVER_ERROR, platform, kind, request)
            }
        }
    }
}

/// A problem object in the making; what it does not say of itself comes from the catalogue.
struct Body<'a> {
    class: Class,
    kind: &'a Kind,
    detail: String,
    platform: Option<&'a Platform>,
    errors: Vec<FieldError>,
}

impl<'a> Body<'a> {
    fn of(class: Class, kind: &'a Kind) -> Self {
        Self {
            class,
            kind,
            detail: kind.phrase(),
            platform: None,
            errors: Vec::new(),
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn caused_by(mut self, platform: &'a Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    fn errors(mut self, problems: &[Problem]) -> Self {
        self.errors = problems.iter().map(FieldError::of).collect();
        self
    }

    fn render(self, request: &Asked<'_>) -> Rendered {
        let retryable = self.kind.entry().advice.retry_can_help();
        let body = ProblemBody {
            r#type: self.class.phrase,
            title: self.class.title,
            status: self.class.status.as_u16(),
            external_errors: self
                .platform
                .map(|platform| ExternalError {
                    system: &platform.system,
                    account: &platform.account,
                    status: platform.status,
                    code: platform.code.as_deref(),
                    message: self.detail.clone(),
                })
                .into_iter()
                .collect(),
            detail: self.detail,
            instance: format!("{}{}", request.base_url, request.path),
            errors: self.errors,
            at_type: "problem",
            trace_id: request.request_id,
            retryable,
        };
        let answer = Rendered::typed_json(self.class.status, media_type(request.accept), &body);
        if !retryable {
            return answer;
        }
        let seconds = self.kind.retry_after_seconds();
        answer.with_header(
            header::RETRY_AFTER,
            HeaderValue::from(seconds.unwrap_or(USUAL_WAIT_SECONDS)),
        )
    }
}

fn problem(class: Class, kind: &Kind, request: &Asked<'_>) -> Rendered {
    Body::of(class, kind).render(request)
}

fn platform_problem(
    class: Class,
    platform: &Platform,
    kind: &Kind,
    request: &Asked<'_>,
) -> Rendered {
    Body::of(class, kind).caused_by(platform).render(request)
}

fn oauth(status: StatusCode, error: &'static str, error_description: String) -> Rendered {
    Rendered::json(
        status,
        &OauthBody {
            error,
            error_description,
        },
    )
}

/// A body that fails validation lists its problems; a wrong query is the generic 400 with the parameter in `detail`
/// (6.2).
fn invalid(problems: &[Problem], kind: &Kind, request: &Asked<'_>) -> Rendered {
    let in_body = |problem: &Problem| matches!(problem.location, Location::Body(_));
    if problems.iter().any(in_body) {
        Body::of(MALFORMED_PARAMETER, kind)
            .errors(problems)
            .render(request)
    } else {
        problem(BAD_REQUEST, kind, request)
    }
}

impl FieldError {
    fn of(problem: &Problem) -> Self {
        let path = problem.location.dotted();
        Self {
            field: if path.is_empty() {
                "body".to_owned()
            } else {
                quote(&path)
            },
            message: problem.rule.to_string(),
        }
    }
}

/// The recorded wording of a missing SIM (4.3, 6.5): a SIM product's id is its ICCID, a device's its serial number.
fn not_found(resource: Resource, id: &str) -> String {
    let id = quote(id);
    match resource {
        Resource::SimProduct => format!("Product with iccid {id} not found"),
        Resource::Device => format!("Product with terminal serial number {id} not found"),
        Resource::Product => format!("Product with id {id} not found"),
        other => format!("{} {id} not found", other.capitalized()),
    }
}

/// A platform's own message, passed on as row 8 of 6.5 asks, but never empty.
fn platform_text(message: &str) -> String {
    if message.trim().is_empty() {
        return "The platform rejected a value".to_owned();
    }
    quote(message)
}

/// `application/problem+json` only for a client that names it (6.1).
fn media_type(accept: &str) -> HeaderValue {
    const PROBLEM: &str = "application/problem+json";
    let named = accept.split(',').any(|range| {
        range
            .split(';')
            .next()
            .is_some_and(|name| name.trim().eq_ignore_ascii_case(PROBLEM))
    });
    HeaderValue::from_static(if named { PROBLEM } else { "application/json" })
}

#[cfg(test)]
mod tests;
