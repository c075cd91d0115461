//! What happened, as one or two English sentences: the words meterd uses itself. Dialects whose originals document
//! their own words spell those instead.

use crate::kind::{Kind, LimitHit, Platform};
use std::fmt;
use std::time::Duration;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRoute => f.write_str("There is nothing at this path."),
            Self::MethodNotAllowed { allowed } => {
                write!(f, "This path accepts only {}.", allowed.join(", "))
            }
            Self::MediaTypeUnsupported { expected } => {
                write!(f, "The Content-Type must be {}.", expected.join(" or "))
            }
            Self::ContentEncodingUnsupported { allowed } => {
                write!(f, "The Content-Encoding must be {}.", allowed.join(" or "))
            }
            Self::BodyMalformed {
                reason,
                line,
                column,
            } => write!(
                f,
                "The body could not be read: {reason} at line {line}, column {column}."
            ),
            Self::BodyTooLarge { limit_bytes } => {
                write!(f, "The body is larger than {limit_bytes} bytes.")
            }
            Self::HeadersTooLarge { limit_bytes } => {
                write!(f, "The headers are larger than {limit_bytes} bytes.")
            }
            Self::UriTooLong { limit_bytes } => {
                write!(f, "The address is longer than {limit_bytes} bytes.")
            }
            Self::BodyTimeout { limit } => {
                write!(f, "The body did not arrive within {}.", Seconds(*limit))
            }
            Self::Invalid { problems } => {
                for (position, problem) in problems.iter().enumerate() {
                    let gap = if position == 0 { "" } else { " " };
                    write!(f, "{gap}{}", problem.message())?;
                }
                Ok(())
            }
            Self::PeriodTooLong { longest } => {
                write!(f, "The requested period is longer than {longest}.")
            }
            Self::MeasurementConflict { id } => write!(
                f,
                "A measurement with id {id} is stored already, with other content."
            ),
            Self::CalculationFailed { field, reason } => {
                write!(f, "{field} could not be calculated: {reason}.")
            }
            Self::CodeAmbiguous {
                resource,
                code,
                similar,
            } => write!(
                f,
                "No {} has the code {code}, but one has the similar code {similar}.",
                resource.noun()
            ),
            Self::CredentialsMissing => f.write_str("The request carries no credentials."),
            Self::CredentialsMalformed => {
                f.write_str("The request's credentials are not in the documented form.")
            }
            Self::CredentialsUnknown => f.write_str("The credentials are not known here."),
            Self::CredentialsDisabled => f.write_str("The credentials are disabled."),
            Self::CredentialsRevoked => f.write_str("The credentials have been revoked."),
            Self::CredentialsExpired => f.write_str("The credentials have expired."),
            Self::TokenInvalid => f.write_str("The token is not valid."),
            Self::TokenExpired => f.write_str("The token has expired."),
            Self::AddressNotAllowed { address } => write!(
                f,
                "The credentials may not be used from the address {address}."
            ),
            Self::FeatureNotIncluded { feature } => {
                write!(f, "Your organization does not include {feature}.")
            }
            Self::PermissionMissing { permission, .. } => {
                write!(f, "The credentials lack the permission {permission}.")
            }
            Self::OrganizationNotAccessible { organization } => write!(
                f,
                "The credentials give no access to the organization {organization}."
            ),
            Self::OrganizationRequired => f.write_str(
                "The credentials administer the server and belong to no organization, which this request needs.",
            ),
            Self::AdministratorRequired => f.write_str(
                "The credentials belong to an organization, and only an administrator's can do this.",
            ),
            Self::ResourceForbidden {
                resource,
                id,
                action,
            } => write!(
                f,
                "The credentials do not allow to {action} the {} {id}.",
                resource.noun()
            ),
            Self::OauthClientInvalid => f.write_str("The client id or secret is wrong."),
            Self::OauthRequestInvalid { parameter } => {
                write!(f, "The token request lacks the parameter {parameter}.")
            }
            Self::OauthGrantUnsupported => {
                f.write_str("Only the grant type client_credentials is supported.")
            }
            Self::OauthScopeInvalid { scopes } => write!(f, "Unknown scopes: {scopes}."),
            Self::ResourceNotFound { resource, id } => {
                write!(f, "There is no {} {id}.", resource.noun())
            }
            Self::ResourceExists {
                resource,
                field,
                value,
            } => write!(
                f,
                "Another {} has the {field} {value} already.",
                resource.noun()
            ),
            Self::VersionMismatch {
                resource,
                stored,
                given,
            } => write!(
                f,
                "The {} is at version {stored}, the request was made for version {given}.",
                resource.noun()
            ),
            Self::ResourceInUse {
                resource,
                id,
                used_by,
                user,
            } => write!(
                f,
                "The {} {id} is used by the {} {user}.",
                resource.noun(),
                used_by.noun()
            ),
            Self::ReferenceBroken {
                resource,
                field,
                used_by,
                user,
            } => write!(
                f,
                "The field {field} of the {} is used by the {} {user}.",
                resource.noun(),
                used_by.noun()
            ),
            Self::TransitionNotAllowed { resource, from, to } => write!(
                f,
                "The {} cannot change from {from} to {to}.",
                resource.noun()
            ),
            Self::ActionNotSupported { resource, action } => {
                write!(f, "A {} does not support {action}.", resource.noun())
            }
            Self::MeterNotConfigured { asset } => {
                write!(f, "The asset {asset} has no such meter.")
            }
            Self::CapabilityMissing {
                resource,
                id,
                capability,
            } => write!(
                f,
                "The {} {id} does not support {capability}.",
                resource.noun()
            ),
            Self::IdempotencyKeyReused => {
                f.write_str("The Idempotency-Key was used before with a different request.")
            }
            Self::IdempotencyInProgress { .. } => {
                f.write_str("The first request with this Idempotency-Key is still in progress.")
            }
            Self::RateLimited(LimitHit {
                scope,
                limit,
                window,
                ..
            }) => write!(
                f,
                "More than {limit} requests per {} from this {}.",
                Seconds(*window),
                scope.noun()
            ),
            Self::QuotaExhausted(hit) => write!(
                f,
                "The quota of {} {} in {} days is used up.",
                hit.limit, hit.quota, hit.window_days
            ),
            Self::TooManyRunning { resource, limit } => {
                write!(
                    f,
                    "{limit} of this {} are running already.",
                    resource.noun()
                )
            }
            Self::ResponseTooLarge { limit_bytes } => {
                write!(f, "The answer would be larger than {limit_bytes} bytes.")
            }
            Self::QueryTooExpensive { limit_rows } => write!(
                f,
                "The answer would need more than {limit_rows} rows or groups."
            ),
            Self::Overloaded { .. } => {
                f.write_str("The server has as many requests in hand as it can serve.")
            }
            Self::ShuttingDown { .. } => f.write_str("The server is shutting down."),
            Self::StorageFull { .. } => {
                f.write_str("The disk is full; nothing of this request was stored.")
            }
            Self::StorageUnavailable { .. } => {
                f.write_str("The storage did not confirm the write.")
            }
            Self::TimedOut { limit } => {
                write!(f, "The request took longer than {}.", Seconds(*limit))
            }
            Self::Internal => f.write_str("Something went wrong inside the server."),
            Self::DependencyUnavailable { dependency } => {
                write!(f, "The {dependency} is unavailable.")
            }
            Self::DependencyTimeout { dependency } => {
                write!(f, "The {dependency} did not answer in time.")
            }
            Self::PlatformUnreachable(platform) => {
                write!(f, "Platform {platform} is not reachable.")
            }
            Self::PlatformTimeout {
                platform,
                after,
                write,
            } => {
                write!(
                    f,
                    "Platform {platform} did not answer within {} s",
                    after.as_secs()
                )?;
                f.write_str(if *write {
                    "; the change may have been applied."
                } else {
                    "."
                })
            }
            Self::PlatformCredentials(platform) => write!(
                f,
                "Credentials for platform {platform} are invalid or expired."
            ),
            Self::PlatformForbidden(platform) => write!(
                f,
                "The account used for platform {platform} is not allowed to perform this action."
            ),
            Self::PlatformBadResponse(platform) | Self::PlatformMisconfigured(platform) => {
                write!(f, "Platform {platform} returned an unexpected response.")
            }
            Self::PlatformRejectedValue { platform, message } => {
                write!(f, "Platform {platform} rejected a value: {message}.")
            }
            Self::PlatformRejectedRequest(platform) => {
                write!(f, "Platform {platform} rejected the request.")
            }
            Self::PlatformRefusedTransition { platform, from, to } => write!(
                f,
                "Status change from {from} to {to} was refused by platform {platform}."
            ),
            Self::PlatformThrottled { platform, .. } => {
                write!(f, "Rate limit of platform {platform} reached.")
            }
            Self::PlatformFailed(platform) => {
                write!(f, "Platform {platform} reported an internal error.")
            }
            Self::PlatformSuspended { platform, .. } => write!(
                f,
                "Platform {platform} is temporarily disabled after repeated errors."
            ),
            Self::PageNotAllowed { url } => write!(f, "The address {url} may not be opened."),
            Self::PageNotAccessible { reason } => {
                write!(f, "The page could not be opened: {reason}.")
            }
            Self::PageTimeout => f.write_str("The target site did not respond in time."),
            Self::NothingExtractable => f.write_str("Nothing on the page fits the description."),
        }
    }
}

impl Kind {
    /// What happened, without the full stop, for dialects whose originals write none.
    pub fn phrase(&self) -> String {
        let mut sentence = self.to_string();
        if sentence.ends_with('.') {
            sentence.pop();
        }
        sentence
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.account)
    }
}

/// A duration as words: the largest whole unit, e.g. `1 day`, `5 minutes`, `1.5 seconds`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0.as_secs() {
            s if self.0.subsec_nanos() > 0 || s == 0 => {
                return write!(f, "{} seconds", self.0.as_secs_f64());
            }
            s if s % 86_400 == 0 => (s / 86_400, "day"),
            s if s % 3_600 == 0 => (s / 3_600, "hour"),
            s if s % 60 == 0 => (s / 60, "minute"),
            s => (s, "second"),
        };
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}
