//! What an operator may set of this surface, each with its default; the original publishes no numbers.

use meterd_control::{Algorithm, LimitPolicy, WindowStart};
use meterd_fault::LimitScope;
use serde::Deserialize;
use std::time::Duration;

/// Class of routes that list.
pub(crate) const LIST: &str = "list";
/// Class of routes that show one thing.
pub(crate) const READ: &str = "read";
/// Class of routes that write, and of what no route answers (6).
pub(crate) const WRITE: &str = "default";

/// What the limits of all requests of a day are called.
pub(crate) const DAILY: &str = "fsm-daily";

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The `[fsm_navigator]` table of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FsmNavigatorSettings {
    pub limits: FsmNavigatorLimits,
    /// Mail domains of throw-away addresses, which no customer may have (4.2).
    pub blocked_mail_domains: Vec<String>,
}

/// Requests of one key in any stretch of a minute, and in the 24 hours from the first on. A key's own limits replace
/// them (6).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FsmNavigatorLimits {
    pub enabled: bool,
    pub list: u64,
    pub read: u64,
    pub write: u64,
    pub daily: u64,
}

impl Default for FsmNavigatorLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            list: 120,
            read: 90,
            write: 60,
            daily: 25_000,
        }
    }
}

impl FsmNavigatorSettings {
    /// The first member that cannot be, in words.
    pub fn problem(&self) -> Option<String> {
        self.limits.policies().iter().find_map(|policy| {
            let problem = policy.problem("")?;
            Some(format!("limits: {}: {}", policy.name, problem.message()))
        })
    }
}

impl FsmNavigatorLimits {
    /// As limits of a key, which may be given to one in place of the surface's.
    pub fn policies(&self) -> Vec<LimitPolicy> {
        if !self.enabled {
            return Vec::new();
        }
        let scope = LimitScope::Credential;
        let tier =
            |name, limit, class| LimitPolicy::sliding(name, scope, limit, MINUTE).for_class(class);
        // Whose requests come in the last minute is soon forgotten. A day outlives restarts, which only a fixed window can.
        let first = Algorithm::FixedWindow {
            start: WindowStart::FirstRequest,
        };
        vec![
            tier("fsm-list", self.list, LIST),
            tier("fsm-read", self.read, READ),
            tier("fsm-write", self.write, WRITE),
            LimitPolicy::new(DAILY, scope, first, self.daily, DAY).kept_over_restarts(),
        ]
    }
}
