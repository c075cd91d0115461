//! What an operator may set of this surface, each with the default that m3ter documents or that we chose.

use crate::meter::Category;
use meterd_control::{Algorithm, LimitPolicy};
use meterd_fault::LimitScope;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// The `[m3ter]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct M3terSettings {
    /// How long a token works.
    pub token_lifetime_seconds: u64,
    /// What the token endpoint answers to wrong credentials.
    #[serde(rename = "token_endpoint_status", deserialize_with = "token_refusal")]
    pub token_refusal: TokenRefusal,
    /// How long a `uid` is known; sent again later it is a new measurement (5.3).
    pub uid_window_days: u32,
    /// Which data fields a measurement must have (9, 12).
    pub required_fields: RequiredFields,
    /// How far ahead of the server's clock a measurement may be (9, 13).
    pub future_tolerance_seconds: u64,
    /// Largest answer; past it the caller is asked to narrow the request (7.2, 413).
    pub response_max_bytes: u64,
    pub limits: M3terLimits,
}

impl Default for M3terSettings {
    fn default() -> Self {
        Self {
            token_lifetime_seconds: 18_000,
            token_refusal: TokenRefusal::default(),
            uid_window_days: 35,
            required_fields: RequiredFields::Standard,
            future_tolerance_seconds: 60,
            response_max_bytes: 6 * 1024 * 1024,
            limits: M3terLimits::default(),
        }
    }
}

/// Which data fields of its meter a measurement must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequiredFields {
    /// All but those of the categories OTHER and METADATA.
    #[default]
    Standard,
    All,
    None,
}

impl RequiredFields {
    pub(crate) fn requires(self, category: Category) -> bool {
        match self {
            Self::Standard => !matches!(category, Category::Other | Category::Metadata),
            Self::All => true,
            Self::None => false,
        }
    }
}

impl M3terSettings {
    /// The first member that cannot be, in words.
    pub fn problem(&self) -> Option<String> {
        let seconds_max = u64::from(u32::MAX);
        if self.token_lifetime_seconds == 0 || self.token_lifetime_seconds > seconds_max {
            return Some(format!(
                "token_lifetime_seconds must be from 1 to {seconds_max}"
            ));
        }
        if self.uid_window_days == 0 || self.uid_window_days > UID_WINDOW_DAYS_MAX {
            return Some(format!(
                "uid_window_days must be from 1 to {UID_WINDOW_DAYS_MAX}"
            ));
        }
        if self.response_max_bytes == 0 {
            return Some("response_max_bytes must not be 0".to_owned());
        }
        self.limits.policies().iter().find_map(|policy| {
            let problem = policy.problem("")?;
            Some(format!("limits: {}: {}", policy.name, problem.message()))
        })
    }
}

/// A hundred years; longer is for ever.
const UID_WINDOW_DAYS_MAX: u32 = 36_500;

/// The status of a refusal at the token endpoint. m3ter's own table has no 401; RFC 6749 asks for it (9, 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRefusal {
    #[default]
    Forbidden,
    Unauthorized,
}

fn token_refusal<'de, D: Deserializer<'de>>(source: D) -> Result<TokenRefusal, D::Error> {
    match u16::deserialize(source)? {
        403 => Ok(TokenRefusal::Forbidden),
        401 => Ok(TokenRefusal::Unauthorized),
        other => Err(D::Error::custom(format!("must be 403 or 401, not {other}"))),
    }
}

/// Requests in a window (7.4). The token endpoint is never counted.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct M3terLimits {
    pub enabled: bool,
    /// Of configuration, per source address in any 5 minutes.
    pub config_address: u64,
    /// Of configuration, per organization and second.
    pub config_organization: u64,
    /// Usage queries per organization and second, sustained.
    pub explorer: u64,
    /// Usage queries that may come at once after a pause.
    pub explorer_burst: u64,
    /// Of ingest, per source address in any 5 minutes.
    pub ingest_address: u64,
    /// Of ingest, per organization and second.
    pub ingest_organization: u64,
}

impl Default for M3terLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            config_address: 20_000,
            config_organization: 50,
            explorer: 1,
            explorer_burst: 10,
            ingest_address: 5_000,
            ingest_organization: 50,
        }
    }
}

impl M3terLimits {
    pub(crate) fn policies(&self) -> Vec<LimitPolicy> {
        if !self.enabled {
            return Vec::new();
        }
        let address = |name, class: &str, limit| {
            LimitPolicy::sliding(name, LimitScope::Address, limit, Duration::from_mins(5))
                .for_class(class)
        };
        let second = |name, class: &str, limit| {
            LimitPolicy::fixed(
                name,
                LimitScope::Organization,
                limit,
                Duration::from_secs(1),
            )
            .for_class(class)
        };
        let explorer = LimitPolicy::new(
            "m3ter-explorer",
            LimitScope::Organization,
            Algorithm::TokenBucket {
                burst: self.explorer_burst,
            },
            self.explorer,
            Duration::from_secs(1),
        );
        vec![
            address("m3ter-config-address", "config", self.config_address),
            second(
                "m3ter-config-organization",
                "config",
                self.config_organization,
            ),
            address("m3ter-config-address", "explorer", self.config_address),
            explorer.for_class("explorer"),
            address("m3ter-ingest-address", "ingest", self.ingest_address),
            second(
                "m3ter-ingest-organization",
                "ingest",
                self.ingest_organization,
            ),
        ]
    }
}
