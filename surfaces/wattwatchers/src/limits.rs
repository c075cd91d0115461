//! How many requests a key has per second and per day, and how every answer tells (specs/wattwatchers.md 8).

use crate::settings::WattwatchersLimits;
use http::{HeaderMap, HeaderName, HeaderValue};
use meterd_control::{Algorithm, Allowance, LimitPolicy, WindowStart};
use meterd_fault::{Kind, LimitScope};
use meterd_http::Answered;
use meterd_model::Timestamp;
use std::time::Duration;

pub(crate) const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

/// The limits' names, under which a key's own ones stand in for them.
const TPS: &str = "wattwatchers-tps";
const TPD: &str = "wattwatchers-tpd";
const ADDRESS: &str = "wattwatchers-address";

/// Routes that count towards a key's limits. What devices send does not.
pub(crate) const API: &str = "api";
pub(crate) const INGEST: &str = "ingest";

/// What a key may do in a second and in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    pub per_second: u64,
    pub per_day: u64,
}

impl KeyLimits {
    /// Enough for a client that reads everything of so many devices (8, sizes).
    pub(crate) fn for_devices(devices: usize) -> Self {
        const RECORDS_PER_DAY: u64 = 288 + 2880 + 288;
        // A key waits for its first device with what one needs.
        let devices = u64::try_from(devices).unwrap_or(u64::MAX).max(1);
        let per_second = devices.min((devices / 3).max(50)).max(5);
        let per_day = devices.saturating_mul(RECORDS_PER_DAY * 5) / 4;
        Self {
            per_second,
            per_day,
        }
    }

    /// The day is the last, since of two that are waited for equally long the last is the one that is told.
    pub(crate) fn policies(self, day: WindowStart) -> [LimitPolicy; 2] {
        let fixed = |name, start, limit, window| {
            let algorithm = Algorithm::FixedWindow { start };
            LimitPolicy::new(name, LimitScope::Credential, algorithm, limit, window).for_class(API)
        };
        [
            fixed(TPS, WindowStart::FirstRequest, self.per_second, SECOND),
            fixed(TPD, day, self.per_day, DAY).kept_over_restarts(),
        ]
    }
}

/// A key's own limits with its day beginning so.
pub(crate) fn on_day(limits: &[LimitPolicy], start: WindowStart) -> Vec<LimitPolicy> {
    let mut limits = limits.to_vec();
    for limit in limits.iter_mut().filter(|limit| limit.name == TPD) {
        limit.algorithm = Algorithm::FixedWindow { start };
    }
    limits
}

/// For keys without limits of their own, and for source addresses.
pub(crate) fn policies(limits: &WattwatchersLimits) -> Vec<LimitPolicy> {
    let key = KeyLimits {
        per_second: limits.per_second,
        per_day: limits.per_day,
    };
    let mut policies = Vec::from(key.policies(limits.day.start()));
    if limits.address_per_minute > 0 {
        policies.push(LimitPolicy::fixed(
            ADDRESS,
            LimitScope::Address,
            limits.address_per_minute,
            Duration::from_mins(1),
        ));
    }
    policies
}

/// Both generations of headers, which every answer to a known key carries; the earlier one tells of the tighter limit, and
/// in a refusal the dialect has told of the one that refused. Clients know throttling of the whole server by their absence.
pub(crate) fn headers(headers: &mut HeaderMap, answered: &Answered<'_>) {
    let Some(limits) = answered.limits.filter(|_| !is_throttling(answered)) else {
        return;
    };
    let of_policy = |name: &str| limits.allowances.iter().find(|a| a.policy == name);
    let (day, second) = (of_policy(TPD), of_policy(TPS));
    if let Some(day) = day {
        let left = micros_left(day, answered.now).div_ceil(1_000_000);
        let names = ["tpdlimit", "tpdremaining", "tpdreset"];
        insert(headers, names, day, &left.to_string());
    }
    if let Some(second) = second {
        let left = micros_left(second, answered.now).div_ceil(1_000);
        let left = format!("{}.{:03}", left / 1_000, left % 1_000);
        let names = ["tpslimit", "tpsremaining", "tpsreset"];
        insert(headers, names, second, &left);
    }
    // Of two equally tight ones the day.
    let tighter = day.into_iter().chain(second).min_by_key(|a| a.remaining);
    if let Some(tighter) = tighter.filter(|_| !headers.contains_key("x-ratelimit-limit")) {
        // Not before it is so.
        let reset = -(-tighter.reset.micros()).div_euclid(1_000_000);
        let names = ["limit", "remaining", "reset"];
        insert(headers, names, tighter, &reset.to_string());
    }
}

fn insert(headers: &mut HeaderMap, names: [&str; 3], allowance: &Allowance, reset: &str) {
    let (limit, remaining) = (allowance.limit.to_string(), allowance.remaining.to_string());
    for (name, value) in names.into_iter().zip([&*limit, &*remaining, reset]) {
        let name = HeaderName::try_from(format!("x-ratelimit-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

fn micros_left(allowance: &Allowance, now: Timestamp) -> u64 {
    let left = allowance.reset.micros().saturating_sub(now.micros());
    u64::try_from(left).unwrap_or(0)
}

fn is_throttling(answered: &Answered<'_>) -> bool {
    answered.fault.is_some_and(|fault| match &*fault.kind {
        Kind::Overloaded { .. } | Kind::PlatformThrottled { .. } => true,
        Kind::RateLimited(hit) => matches!(hit.scope, LimitScope::Address | LimitScope::Server),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_devices() {
        for (devices, per_second, per_day) in [
            (0, 5, 4_320),
            (1, 5, 4_320),
            (10, 10, 43_200),
            (60, 50, 259_200),
            (100, 50, 432_000),
            (200, 66, 864_000),
        ] {
            let limits = KeyLimits::for_devices(devices);
            assert_eq!(
                (limits.per_second, limits.per_day),
                (per_second, per_day),
                "{devices}"
            );
        }
    }
}
