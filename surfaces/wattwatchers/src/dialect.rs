//! How the Wattwatchers surface words its faults: `{"code","httpCode","message"}` (specs/wattwatchers.md 2, 7, 8).
//!
//! 400 says that a request is malformed, 422 that it was understood and cannot be honoured (7.2); which of the two
//! a broken rule means depends on where it was broken, see [`problems`].

mod problems;

use http::{HeaderName, HeaderValue, StatusCode};
use meterd_fault::{Kind, LimitHit, LimitScope, quote};
use meterd_http::{Asked, Dialect, Rendered};
use serde::Serialize;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct WattwatchersDialect;

/// The envelope of a failure (7).
#[derive(Clone, Serialize)]
struct Envelope {
    code: &'static str,
    #[serde(rename = "httpCode")]
    http_code: u16,
    message: String,
}

/// Status and code, which go together.
#[derive(Clone, Copy)]
struct Class {
    status: StatusCode,
    code: &'static str,
}

const BAD_REQUEST: Class = Class {
    status: StatusCode::BAD_REQUEST,
    code: "BAD_REQUEST",
};
const UNAUTHORIZED: Class = Class {
    status: StatusCode::UNAUTHORIZED,
    code: "UNAUTHORIZED",
};
const FORBIDDEN: Class = Class {
    status: StatusCode::FORBIDDEN,
    code: "FORBIDDEN",
};
/// Not in the code table, but in the worked example of an unknown key, which wins (section 2, oddity 2).
const NOT_PERMITTED: Class = Class {
    status: StatusCode::FORBIDDEN,
    code: "NOT_PERMITTED",
};
const NOT_FOUND: Class = Class {
    status: StatusCode::NOT_FOUND,
    code: "NOT_FOUND",
};
const METHOD_NOT_ALLOWED: Class = Class {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "METHOD_NOT_ALLOWED",
};
const UNPROCESSABLE: Class = Class {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "UNPROCESSABLE_ENTITY",
};
/// With a space, as the contract has it for Modbus alone (7.1, Q13).
const UNPROCESSABLE_MODBUS: Class = Class {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "UNPROCESSABLE ENTITY",
};
const TOO_MANY_PER_SECOND: Class = Class {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "TOO_MANY_REQUESTS_TPS",
};
const TOO_MANY_PER_DAY: Class = Class {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "TOO_MANY_REQUESTS_TPD",
};
const SERVER_ERROR: Class = Class {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "INTERNAL_SERVER_ERROR",
};

const NO_CREDENTIALS: &str =
    "You must provide a valid Authorization header value to access this endpoint.";
const KEY_NOT_PERMITTED: &str =
    "You are not permitted to access this endpoint with the provided token.";

const DAY: Duration = Duration::from_hours(24);

impl Dialect for WattwatchersDialect {
    fn surface(&self) -> &'static str {
        "wattwatchers"
    }

    fn render(&self, kind: &Kind, _request: &Asked<'_>) -> Rendered {
        match kind {
            Kind::UnknownRoute => flat(NOT_FOUND, "The requested resource could not be found."),
            Kind::ResourceNotFound { id, .. } => {
                flat(NOT_FOUND, format!("{} could not be found.", quote(id)))
            }
            Kind::MethodNotAllowed { .. } => {
                flat(METHOD_NOT_ALLOWED, kind.to_string()).with_allow(kind)
            }

            Kind::MediaTypeUnsupported { .. } => flat(
                BAD_REQUEST,
                "The Content-Type header must be 'application/json'.",
            ),
            Kind::BodyMalformed {
                reason,
                line,
                column,
            } => flat(
                BAD_REQUEST,
                format!(
                    "The request body is not valid JSON: {} at line {line}, column {column}.",
                    quote(reason)
                ),
            ),
            Kind::Invalid { problems } => problems::render(problems),
            Kind::ContentEncodingUnsupported { .. }
            | Kind::BodyTooLarge { .. }
            | Kind::HeadersTooLarge { .. }
            | Kind::UriTooLong { .. }
            | Kind::BodyTimeout { .. }
            | Kind::OauthRequestInvalid { .. }
            | Kind::OauthGrantUnsupported
            | Kind::OauthScopeInvalid { .. } => flat(BAD_REQUEST, kind.to_string()),

            Kind::CredentialsMissing | Kind::CredentialsMalformed => {
                flat(UNAUTHORIZED, NO_CREDENTIALS)
            }
            Kind::CredentialsUnknown | Kind::TokenInvalid => flat(NOT_PERMITTED, KEY_NOT_PERMITTED),
            Kind::CredentialsDisabled => {
                flat(UNAUTHORIZED, "The provided API key has been disabled.")
            }
            Kind::CredentialsRevoked
            | Kind::CredentialsExpired
            | Kind::TokenExpired
            | Kind::OauthClientInvalid => {
                flat(UNAUTHORIZED, "The provided API key is no longer valid.")
            }
            Kind::ResourceForbidden {
                resource,
                id,
                action,
            } => flat(
                FORBIDDEN,
                format!(
                    "You don't have permission to {action} {} {}.",
                    resource.noun(),
                    quote(id)
                ),
            ),
            Kind::AddressNotAllowed { .. }
            | Kind::FeatureNotIncluded { .. }
            | Kind::PermissionMissing { .. }
            | Kind::OrganizationNotAccessible { .. }
            | Kind::OrganizationRequired
            | Kind::AdministratorRequired
            | Kind::QuotaExhausted(_)
            | Kind::PlatformForbidden(_) => flat(FORBIDDEN, kind.to_string()),

            Kind::PeriodTooLong { longest } => flat(
                UNPROCESSABLE,
                format!("The requested time period is greater than {longest}."),
            ),
            Kind::CapabilityMissing { capability, .. } if *capability == "modbus" => flat(
                UNPROCESSABLE_MODBUS,
                "You have attempted to query modbus data for a device ID that does not support it",
            ),
            Kind::CapabilityMissing { .. }
            | Kind::MeasurementConflict { .. }
            | Kind::CalculationFailed { .. }
            | Kind::CodeAmbiguous { .. }
            | Kind::ResourceExists { .. }
            | Kind::VersionMismatch { .. }
            | Kind::ResourceInUse { .. }
            | Kind::ReferenceBroken { .. }
            | Kind::TransitionNotAllowed { .. }
            | Kind::ActionNotSupported { .. }
            | Kind::MeterNotConfigured { .. }
            | Kind::IdempotencyKeyReused
            | Kind::IdempotencyInProgress { .. }
            | Kind::TooManyRunning { .. }
            | Kind::ResponseTooLarge { .. }
            | Kind::QueryTooExpensive { .. }
            | Kind::PlatformRejectedValue { .. }
            | Kind::PlatformRefusedTransition { .. }
            | Kind::PageNotAllowed { .. }
            | Kind::PageNotAccessible { .. }
            | Kind::NothingExtractable => flat(UNPROCESSABLE, kind.to_string()),

            Kind::RateLimited(hit) => rate_limited(kind, hit),
            Kind::Overloaded { .. } | Kind::PlatformThrottled { .. } => throttled(),

            Kind::Internal => flat(
                SERVER_ERROR,
                "Something went wrong at our end. There has been a server problem processing your request.",
            ),
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
            | Kind::PageTimeout => flat(SERVER_ERROR, kind.to_string()),
        }
    }
}

fn flat(class: Class, message: impl Into<String>) -> Rendered {
    Rendered::json(class.status, &class.envelope(message.into()))
}

impl Class {
    fn envelope(self, message: String) -> Envelope {
        Envelope {
            code: self.code,
            http_code: self.status.as_u16(),
            message,
        }
    }
}

/// The limits of a key speak the envelope with headers; a limit that is not the key's own counts as throttling of
/// the whole server, which clients recognise by the absence of both (8).
fn rate_limited(kind: &Kind, hit: &LimitHit) -> Rendered {
    match hit.scope {
        LimitScope::Credential | LimitScope::Organization => {
            let class = if hit.window < DAY {
                TOO_MANY_PER_SECOND
            } else {
                TOO_MANY_PER_DAY
            };
            flat(class, limit_message(hit))
                .with_header(HeaderName::from_static("x-ratelimit-remaining"), 0_u64)
                .with_header(HeaderName::from_static("x-ratelimit-limit"), hit.limit)
                .with_header(
                    HeaderName::from_static("x-ratelimit-reset"),
                    HeaderValue::from(hit.reset_epoch_seconds),
                )
                .with_retry_after(kind)
        }
        LimitScope::Address | LimitScope::Server => throttled(),
    }
}

/// The doubled "for" is the original's (7.1).
fn limit_message(hit: &LimitHit) -> String {
    format!(
        "You have exceeded the request limit of {} per {} for for your API key. Please review the response headers \
         for further details.",
        hit.limit,
        window_words(hit.window)
    )
}

fn window_words(window: Duration) -> String {
    let (number, unit) = if window >= DAY {
        (window.as_secs() / DAY.as_secs(), "day")
    } else {
        (window.as_secs().max(1), "second")
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// No envelope and no headers of ours: "overall server rate limiting has been engaged" (8).
fn throttled() -> Rendered {
    Rendered::text(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests. Please try again later.\n",
    )
}

#[cfg(test)]
mod tests;
