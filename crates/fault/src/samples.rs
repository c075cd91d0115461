//! One example of every kind, for the generated documentation and for the tests that must see them all.

use crate::kind::{Code, Kind, LimitHit, LimitScope, Period, Platform, QuotaHit, Resource};
use crate::problem::{Format, JsonType, Location, Problem, Rule};
use std::time::Duration;
use strum::IntoEnumIterator;

impl Kind {
    /// Every kind once, in the catalogue's order, with believable data.
    pub fn samples() -> impl Iterator<Item = Self> {
        Code::iter().map(Code::sample)
    }

    /// Every kind once for each of [`awkward_texts`], with that text wherever the kind carries text from outside.
    pub fn awkward_samples() -> impl Iterator<Item = Self> {
        awkward_texts()
            .into_iter()
            .flat_map(|text| Self::samples().map(move |kind| kind.holding(&text)))
    }

    /// The same kind with `text` in every field that can hold text from outside.
    fn holding(mut self, text: &str) -> Self {
        for field in self.texts() {
            text.clone_into(field);
        }
        if let Self::Invalid { problems } = &mut self {
            *problems = Problem::samples(text);
        }
        self
    }

    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::MethodNotAllowed { allowed } => allowed.iter_mut().collect(),
            Self::BodyMalformed { reason, .. } | Self::PageNotAccessible { reason } => vec![reason],
            Self::CalculationFailed { field, reason } => vec![field, reason],
            Self::CodeAmbiguous { code, similar, .. } => vec![code, similar],
            Self::AddressNotAllowed { address } => vec![address],
            Self::FeatureNotIncluded { feature } => vec![feature],
            Self::PermissionMissing { permission, .. } => vec![permission],
            Self::OrganizationNotAccessible { organization } => vec![organization],
            Self::MeasurementConflict { id }
            | Self::ResourceForbidden { id, .. }
            | Self::ResourceNotFound { id, .. }
            | Self::CapabilityMissing { id, .. } => vec![id],
            Self::OauthScopeInvalid { scopes } => vec![scopes],
            Self::ResourceExists { value, .. } => vec![value],
            Self::ResourceInUse { id, user, .. } => vec![id, user],
            Self::ReferenceBroken { field, user, .. } => vec![field, user],
            Self::TransitionNotAllowed { from, to, .. } => vec![from, to],
            Self::ActionNotSupported { action, .. } => vec![action],
            Self::MeterNotConfigured { asset } => vec![asset],
            Self::RateLimited(hit) => vec![&mut hit.policy],
            Self::QuotaExhausted(hit) => [&mut hit.quota, &mut hit.tier]
                .into_iter()
                .chain(hit.reset.as_mut())
                .collect(),
            Self::DependencyUnavailable { dependency } | Self::DependencyTimeout { dependency } => {
                vec![dependency]
            }
            Self::PlatformUnreachable(platform)
            | Self::PlatformTimeout { platform, .. }
            | Self::PlatformCredentials(platform)
            | Self::PlatformForbidden(platform)
            | Self::PlatformBadResponse(platform)
            | Self::PlatformMisconfigured(platform)
            | Self::PlatformRejectedRequest(platform)
            | Self::PlatformThrottled { platform, .. }
            | Self::PlatformFailed(platform)
            | Self::PlatformSuspended { platform, .. } => platform.texts().collect(),
            Self::PlatformRejectedValue { platform, message } => {
                platform.texts().chain([message]).collect()
            }
            Self::PlatformRefusedTransition { platform, from, to } => {
                platform.texts().chain([from, to]).collect()
            }
            Self::PageNotAllowed { url } => vec![url],
            Self::UnknownRoute
            | Self::MediaTypeUnsupported { .. }
            | Self::ContentEncodingUnsupported { .. }
            | Self::BodyTooLarge { .. }
            | Self::HeadersTooLarge { .. }
            | Self::UriTooLong { .. }
            | Self::BodyTimeout { .. }
            | Self::Invalid { .. }
            | Self::PeriodTooLong { .. }
            | Self::CredentialsMissing
            | Self::CredentialsMalformed
            | Self::CredentialsUnknown
            | Self::CredentialsDisabled
            | Self::CredentialsRevoked
            | Self::CredentialsExpired
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::OrganizationRequired
            | Self::AdministratorRequired
            | Self::OauthClientInvalid
            | Self::OauthRequestInvalid { .. }
            | Self::OauthGrantUnsupported
            | Self::VersionMismatch { .. }
            | Self::IdempotencyKeyReused
            | Self::IdempotencyInProgress { .. }
            | Self::TooManyRunning { .. }
            | Self::ResponseTooLarge { .. }
            | Self::QueryTooExpensive { .. }
            | Self::Overloaded { .. }
            | Self::ShuttingDown { .. }
            | Self::StorageFull { .. }
            | Self::StorageUnavailable { .. }
            | Self::TimedOut { .. }
            | Self::Internal
            | Self::PageTimeout
            | Self::NothingExtractable => Vec::new(),
        }
    }
}

impl Problem {
    /// Every rule broken at every place, with `text` as name, value and allowed value.
    pub fn samples(text: &str) -> Vec<Self> {
        let places = [
            Location::Body(format!("/{text}")),
            Location::Body(String::new()),
            Location::Query(text.to_owned()),
            Location::Path(text.to_owned()),
            Location::Header(text.to_owned()),
        ];
        let rules = Rule::samples(text);
        places
            .iter()
            .flat_map(|place| {
                rules
                    .iter()
                    .map(|rule| Self::new(place.clone(), rule.clone()).with_value(text))
            })
            .collect()
    }
}

impl Rule {
    /// Every rule, with `text` wherever it carries any.
    pub fn samples(text: &str) -> Vec<Self> {
        vec![
            Self::Required,
            Self::Type {
                expected: JsonType::Integer,
            },
            Self::Format {
                format: Format::Url,
            },
            Self::OneOf {
                allowed: vec![text.to_owned().into()],
            },
            Self::Length { min: 1, max: 64 },
            Self::Count { min: 1, max: 1000 },
            Self::Range {
                min: Some("60".into()),
                max: None,
            },
            Self::Digits {
                integer: 20,
                fraction: 10,
            },
            Self::Depth { max: 32 },
            Self::Unique,
            Self::UnknownField {
                known: vec![text.to_owned()],
            },
            Self::UnknownReference {
                resource: Resource::Meter,
            },
            Self::ExcludedBy {
                other: text.to_owned().into(),
            },
            Self::Immutable,
            Self::Other {
                code: "order",
                text: "must not be before the start".into(),
            },
        ]
    }
}

/// Texts that break careless answers: quotes, line ends, control characters, JSON, markup, other scripts, great length.
pub fn awkward_texts() -> Vec<String> {
    vec![
        r#"say "no" \ or 'yes'"#.into(),
        "a\r\nSet-Cookie: b=c\r\n\r\n".into(),
        "\u{0}\u{1}\u{7f}\u{1b}[31m\t".into(),
        r#"","httpCode":200,"x":{"y":["#.into(),
        "<script>{{7*7}}</script>${x}%00%s".into(),
        "Zähler Größe 電力量 🔌 \u{202e}\u{2028}\u{feff}".into(),
        String::new(),
        "x".repeat(10_000),
    ]
}

impl Code {
    /// Every code, in the catalogue's order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    pub fn sample(self) -> Kind {
        let platform = || Platform {
            system: "JASPER".into(),
            account: "JASPER_1".into(),
            status: Some(404),
            code: Some("20000001".into()),
        };
        match self {
            Self::UnknownRoute => Kind::UnknownRoute,
            Self::MethodNotAllowed => Kind::MethodNotAllowed {
                allowed: vec!["GET".into(), "POST".into()],
            },
            Self::MediaTypeUnsupported => Kind::MediaTypeUnsupported {
                expected: &["application/json"],
            },
            Self::ContentEncodingUnsupported => Kind::ContentEncodingUnsupported {
                allowed: &["gzip", "zstd"],
            },
            Self::BodyMalformed => Kind::BodyMalformed {
                reason: "expected a value".into(),
                line: 1,
                column: 17,
            },
            Self::BodyTooLarge => Kind::BodyTooLarge {
                limit_bytes: 16_777_216,
            },
            Self::HeadersTooLarge => Kind::HeadersTooLarge {
                limit_bytes: 32_768,
            },
            Self::UriTooLong => Kind::UriTooLong { limit_bytes: 8_192 },
            Self::BodyTimeout => Kind::BodyTimeout {
                limit: Duration::from_secs(30),
            },
            Self::Invalid => Kind::Invalid {
                problems: vec![
                    Problem::body("/name", Rule::Required),
                    Problem::body(
                        "/interval_seconds",
                        Rule::Type {
                            expected: JsonType::Integer,
                        },
                    ),
                ],
            },
            Self::PeriodTooLong => Kind::PeriodTooLong {
                longest: Period::Days(7),
            },
            Self::MeasurementConflict => Kind::MeasurementConflict { id: "a-1".into() },
            Self::CalculationFailed => Kind::CalculationFailed {
                field: "cost_per_call".into(),
                reason: "division by zero".into(),
            },
            Self::CodeAmbiguous => Kind::CodeAmbiguous {
                resource: Resource::Account,
                code: "acme ".into(),
                similar: "acme".into(),
            },
            Self::CredentialsMissing => Kind::CredentialsMissing,
            Self::CredentialsMalformed => Kind::CredentialsMalformed,
            Self::CredentialsUnknown => Kind::CredentialsUnknown,
            Self::CredentialsDisabled => Kind::CredentialsDisabled,
            Self::CredentialsRevoked => Kind::CredentialsRevoked,
            Self::CredentialsExpired => Kind::CredentialsExpired,
            Self::TokenInvalid => Kind::TokenInvalid,
            Self::TokenExpired => Kind::TokenExpired,
            Self::AddressNotAllowed => Kind::AddressNotAllowed {
                address: "192.0.2.17".into(),
            },
            Self::FeatureNotIncluded => Kind::FeatureNotIncluded {
                feature: "the REST API".into(),
            },
            Self::PermissionMissing => Kind::PermissionMissing {
                permission: "jobs:write".into(),
                holds_related: true,
            },
            Self::OrganizationNotAccessible => Kind::OrganizationNotAccessible {
                organization: "ZZ6d788d-5174-4e8b-9d69-a41f4671fcYY".into(),
            },
            Self::OrganizationRequired => Kind::OrganizationRequired,
            Self::AdministratorRequired => Kind::AdministratorRequired,
            Self::ResourceForbidden => Kind::ResourceForbidden {
                resource: Resource::Device,
                id: "D123456789012".into(),
                action: "access",
            },
            Self::OauthClientInvalid => Kind::OauthClientInvalid,
            Self::OauthRequestInvalid => Kind::OauthRequestInvalid {
                parameter: "grant_type",
            },
            Self::OauthGrantUnsupported => Kind::OauthGrantUnsupported,
            Self::OauthScopeInvalid => Kind::OauthScopeInvalid {
                scopes: "everything".into(),
            },
            Self::ResourceNotFound => Kind::ResourceNotFound {
                resource: Resource::Strategy,
                id: "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11".into(),
            },
            Self::ResourceExists => Kind::ResourceExists {
                resource: Resource::Customer,
                field: "email",
                value: "jane@example.com".into(),
            },
            Self::VersionMismatch => Kind::VersionMismatch {
                resource: Resource::Meter,
                stored: 3,
                given: 2,
            },
            Self::ResourceInUse => Kind::ResourceInUse {
                resource: Resource::Product,
                id: "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11".into(),
                used_by: Resource::Meter,
                user: "api_calls".into(),
            },
            Self::ReferenceBroken => Kind::ReferenceBroken {
                resource: Resource::Meter,
                field: "bytes".into(),
                used_by: Resource::Aggregation,
                user: "Bytes per month".into(),
            },
            Self::TransitionNotAllowed => Kind::TransitionNotAllowed {
                resource: Resource::Job,
                from: "Completed".into(),
                to: "In Progress".into(),
            },
            Self::ActionNotSupported => Kind::ActionNotSupported {
                resource: Resource::SimProduct,
                action: "DELETE".into(),
            },
            Self::MeterNotConfigured => Kind::MeterNotConfigured { asset: "42".into() },
            Self::CapabilityMissing => Kind::CapabilityMissing {
                resource: Resource::Device,
                id: "D123456789012".into(),
                capability: "modbus",
            },
            Self::IdempotencyKeyReused => Kind::IdempotencyKeyReused,
            Self::IdempotencyInProgress => Kind::IdempotencyInProgress {
                retry_after: Duration::from_secs(5),
            },
            Self::RateLimited => Kind::RateLimited(LimitHit {
                policy: "per-second".into(),
                scope: LimitScope::Credential,
                limit: 5,
                window: Duration::from_secs(1),
                retry_after: Duration::from_secs(1),
                reset_epoch_seconds: 1_550_549_481,
            }),
            Self::QuotaExhausted => Kind::QuotaExhausted(QuotaHit {
                quota: "strategies".into(),
                used: 10,
                limit: 10,
                window_days: 30,
                tier: "free".into(),
                reset: Some("2026-12-01T00:00:00Z".into()),
            }),
            Self::TooManyRunning => Kind::TooManyRunning {
                resource: Resource::BillJob,
                limit: 10,
            },
            Self::ResponseTooLarge => Kind::ResponseTooLarge {
                limit_bytes: 6_291_456,
            },
            Self::QueryTooExpensive => Kind::QueryTooExpensive {
                limit_rows: 100_000,
            },
            Self::Overloaded => Kind::Overloaded {
                retry_after: Duration::from_secs(1),
            },
            Self::ShuttingDown => Kind::ShuttingDown {
                retry_after: Duration::from_secs(5),
            },
            Self::StorageFull => Kind::StorageFull {
                retry_after: Duration::from_secs(30),
            },
            Self::StorageUnavailable => Kind::StorageUnavailable {
                retry_after: Duration::from_secs(5),
            },
            Self::TimedOut => Kind::TimedOut {
                limit: Duration::from_secs(30),
            },
            Self::Internal => Kind::Internal,
            Self::DependencyUnavailable => Kind::DependencyUnavailable {
                dependency: "language model".into(),
            },
            Self::DependencyTimeout => Kind::DependencyTimeout {
                dependency: "language model".into(),
            },
            Self::PlatformUnreachable => Kind::PlatformUnreachable(platform()),
            Self::PlatformTimeout => Kind::PlatformTimeout {
                platform: platform(),
                after: Duration::from_secs(30),
                write: true,
            },
            Self::PlatformCredentials => Kind::PlatformCredentials(platform()),
            Self::PlatformForbidden => Kind::PlatformForbidden(platform()),
            Self::PlatformBadResponse => Kind::PlatformBadResponse(platform()),
            Self::PlatformMisconfigured => Kind::PlatformMisconfigured(platform()),
            Self::PlatformRejectedValue => Kind::PlatformRejectedValue {
                platform: platform(),
                message: "unknown rate plan".into(),
            },
            Self::PlatformRejectedRequest => Kind::PlatformRejectedRequest(platform()),
            Self::PlatformRefusedTransition => Kind::PlatformRefusedTransition {
                platform: platform(),
                from: "ACTIVATED".into(),
                to: "INVENTORY".into(),
            },
            Self::PlatformThrottled => Kind::PlatformThrottled {
                platform: platform(),
                retry_after: Duration::from_secs(1),
            },
            Self::PlatformFailed => Kind::PlatformFailed(platform()),
            Self::PlatformSuspended => Kind::PlatformSuspended {
                platform: platform(),
                retry_after: Duration::from_mins(1),
            },
            Self::PageNotAllowed => Kind::PageNotAllowed {
                url: "http://127.0.0.1/".into(),
            },
            Self::PageNotAccessible => Kind::PageNotAccessible {
                reason: "404 Not Found".into(),
            },
            Self::PageTimeout => Kind::PageTimeout,
            Self::NothingExtractable => Kind::NothingExtractable,
        }
    }
}

impl Platform {
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        [&mut self.system, &mut self.account]
            .into_iter()
            .chain(&mut self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_sample_is_of_its_own_code_and_codes_are_unique() {
        let mut seen = HashSet::new();
        for code in Code::all() {
            assert_eq!(Code::from(&code.sample()), code);
            let entry = code.entry();
            assert!(seen.insert(entry.code), "{} stands twice", entry.code);
            assert!(
                entry
                    .code
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
        }
    }

    #[test]
    fn advice_and_data_agree() {
        for kind in Kind::samples() {
            let entry = kind.entry();
            if kind.retry_after().is_some() {
                assert!(
                    entry.advice.retry_can_help(),
                    "{} names a wait but advises no retry",
                    entry.code
                );
            }
            let detail = kind.to_string();
            assert!(detail.ends_with('.'), "{}: {detail}", entry.code);
        }
    }
}
