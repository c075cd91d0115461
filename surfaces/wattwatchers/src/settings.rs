//! What an operator may set of this surface, each with the default that the original documents or that we chose.

use crate::limits::{DAY, policies};
use meterd_control::{LimitPolicy, RETENTION_DAYS_MAX, WindowStart};
use serde::Deserialize;

/// The `[wattwatchers]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WattwatchersSettings {
    /// A device that the key may not see is answered like one that does not exist (2, oddity 3).
    pub mask_foreign_devices: bool,
    /// Days after which Short Energy may be dropped, whole months at a time; for accounts without a record of it yet (6.4).
    pub short_energy_retention_days: u32,
    /// How far ahead of the server's clock a record may be (6.1).
    pub future_tolerance_seconds: u32,
    pub limits: WattwatchersLimits,
}

impl Default for WattwatchersSettings {
    fn default() -> Self {
        Self {
            mask_foreign_devices: false,
            short_energy_retention_days: 31,
            future_tolerance_seconds: 300,
            limits: WattwatchersLimits::default(),
        }
    }
}

/// What a key may do that has no limits of its own (8).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WattwatchersLimits {
    pub per_second: u64,
    pub per_day: u64,
    pub day: DayWindow,
    /// Of one source address, whatever its keys; 0 for any number.
    pub address_per_minute: u64,
}

impl Default for WattwatchersLimits {
    fn default() -> Self {
        Self {
            per_second: 5,
            per_day: 10_000,
            day: DayWindow::UtcDay,
            address_per_minute: 12_000,
        }
    }
}

/// When the requests of a day begin to count anew (8, Q15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayWindow {
    /// At midnight UTC.
    UtcDay,
    /// 24 hours after the first of them.
    #[serde(rename = "first_request_24h")]
    FirstRequest24h,
}

impl DayWindow {
    pub(crate) fn start(self) -> WindowStart {
        match self {
            Self::UtcDay => WindowStart::UtcAligned,
            Self::FirstRequest24h => WindowStart::FirstRequest,
        }
    }
}

impl WattwatchersSettings {
    /// The first member that cannot be, in words.
    pub fn problem(&self) -> Option<String> {
        if self.short_energy_retention_days == 0
            || self.short_energy_retention_days > RETENTION_DAYS_MAX
        {
            return Some(format!(
                "short_energy_retention_days must be from 1 to {RETENTION_DAYS_MAX}"
            ));
        }
        if u64::from(self.future_tolerance_seconds) > DAY.as_secs() {
            return Some(format!(
                "future_tolerance_seconds must be at most {}",
                DAY.as_secs()
            ));
        }
        let broken = |policy: &LimitPolicy| {
            let problem = policy.problem("")?;
            Some(format!("limits: {}: {}", policy.name, problem.message()))
        };
        policies(&self.limits).iter().find_map(broken)
    }
}
