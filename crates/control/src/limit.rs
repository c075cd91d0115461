//! Rate limits and quotas: how many requests a key may make in a window.
//!
//! Several policies are taken at once, all or nothing: a request that one of them refuses is charged to none. On one
//! node the counts are exact. Time is passed in and may be out of order: a step back never grants anything, and one
//! longer than a policy's window moves what was used to the new time rather than blocking until the old one.
//!
//! Memory is bounded by [`KEYS_MAX`] and [`LOG_TIMES_MAX`]. Keys whose state is as good as new are dropped; when live
//! keys fill the bound, the one that would be new soonest is dropped, which forgives the least.
//!
//! Quotas (`persistent`) survive a restart. The database always holds a reservation at or above what was granted,
//! in steps of a part of the limit, so a crash never gives more than the quota; it can cost up to one step.
//! [`Limiter::flush`] writes the exact numbers, for an orderly shutdown.

use crate::database::{Database, doing};
use meterd_fault::{Fault, Kind, LimitHit, LimitScope, Problem, Rule};
use meterd_model::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Most keys whose state is in memory, for limits and for quotas each.
pub const KEYS_MAX: usize = 200_000;
/// Most request times in all sliding logs together (8 bytes each).
pub const LOG_TIMES_MAX: usize = 8_000_000;
/// Highest limit of a sliding log, which keeps a time per request.
pub const SLIDING_LIMIT_MAX: u64 = 100_000;
pub const LIMIT_MAX: u64 = 1_000_000_000_000;
pub const LIMIT_WINDOW_MAX: Duration = Duration::from_hours(366 * 24);
pub const LIMIT_NAME_BYTES_MAX: usize = 64;
/// A quota is reserved in so many steps at least…
const RESERVATION_STEPS: u64 = 64;
/// …but never more than so many requests ahead.
const RESERVATION_MAX: u64 = 1_000;

/// A limit on requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitPolicy {
    /// Together with the key it names the count; a policy whose numbers change keeps its count.
    pub name: String,
    #[serde(with = "scope_text")]
    pub scope: LimitScope,
    /// Class of routes that it counts; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    pub algorithm: Algorithm,
    pub limit: u64,
    #[serde(rename = "window_us", with = "micros")]
    pub window: Duration,
    /// Survives restarts. Fixed windows only, and not per address.
    #[serde(default)]
    pub persistent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Algorithm {
    /// `limit` requests in each window.
    FixedWindow { start: WindowStart },
    /// `limit` requests in any stretch as long as the window.
    SlidingLog,
    /// `burst` requests at once; after that `limit` per window, evenly.
    TokenBucket { burst: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowStart {
    /// Multiples of the window since 1970: full seconds, midnight UTC.
    UtcAligned,
    /// The first request after the window before.
    FirstRequest,
}

impl LimitPolicy {
    /// `limit` requests in each window that is aligned to UTC.
    pub fn fixed(name: impl Into<String>, scope: LimitScope, limit: u64, window: Duration) -> Self {
        let algorithm = Algorithm::FixedWindow {
            start: WindowStart::UtcAligned,
        };
        Self::new(name, scope, algorithm, limit, window)
    }

    pub fn sliding(
        name: impl Into<String>,
        scope: LimitScope,
        limit: u64,
        window: Duration,
    ) -> Self {
        Self::new(name, scope, Algorithm::SlidingLog, limit, window)
    }

    pub fn new(
        name: impl Into<String>,
        scope: LimitScope,
        algorithm: Algorithm,
        limit: u64,
        window: Duration,
    ) -> Self {
        Self {
            name: name.into(),
            scope,
            class: None,
            algorithm,
            limit,
            window,
            persistent: false,
        }
    }

    #[must_use]
    pub fn for_class(mut self, class: impl Into<String>) -> Self {
        self.class = Some(class.into());
        self
    }

    #[must_use]
    pub fn kept_over_restarts(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Whether a route of this class counts.
    pub fn applies_to(&self, class: &str) -> bool {
        self.class.as_deref().is_none_or(|only| only == class)
    }

    /// The first rule that the policy breaks; `place` is its JSON Pointer.
    pub fn problem(&self, place: &str) -> Option<Problem> {
        let at = |member: &str, rule| Some(Problem::body(format!("{place}/{member}"), rule));
        let range = |max: String| Rule::Range {
            min: Some("1".to_owned()),
            max: Some(max),
        };
        if self.name.is_empty()
            || self.name.len() > LIMIT_NAME_BYTES_MAX
            || self.name.contains('\0')
        {
            return at(
                "name",
                Rule::Length {
                    min: 1,
                    max: LIMIT_NAME_BYTES_MAX as u64,
                },
            );
        }
        let limit_max = match self.algorithm {
            Algorithm::SlidingLog => SLIDING_LIMIT_MAX,
            Algorithm::FixedWindow { .. } | Algorithm::TokenBucket { .. } => LIMIT_MAX,
        };
        if self.limit == 0 || self.limit > limit_max {
            return at("limit", range(limit_max.to_string()));
        }
        if self.window < Duration::from_millis(1) || self.window > LIMIT_WINDOW_MAX {
            return at("window_us", range(LIMIT_WINDOW_MAX.as_micros().to_string()));
        }
        if let Algorithm::TokenBucket { burst } = self.algorithm
            && (burst == 0 || burst > LIMIT_MAX)
        {
            return at("algorithm/burst", range(LIMIT_MAX.to_string()));
        }
        let can_persist = matches!(self.algorithm, Algorithm::FixedWindow { .. })
            && self.scope != LimitScope::Address;
        if self.persistent && !can_persist {
            let rule = Rule::Other {
                code: "persistent_limit",
                text: "must be a fixed window that is not per address to be persistent".into(),
            };
            return at("persistent", rule);
        }
        None
    }

    fn window_micros(&self) -> i64 {
        i64::try_from(self.window.as_micros())
            .unwrap_or(i64::MAX)
            .clamp(1, i64::MAX / 4)
    }
}

/// Whether a request may go on, and where it leaves each policy, in the order they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowances: Vec<Allowance>,
    /// The policy to wait for longest; after its `retry_after` one more request passes.
    pub refused: Option<LimitHit>,
}

impl Decision {
    /// Adds what other policies said of the same request later.
    pub fn join(&mut self, later: Self) {
        self.allowances.extend(later.allowances);
        self.refused = self.refused.take().or(later.refused);
    }

    pub fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }

    /// `RateLimited` if it was refused.
    pub fn into_result(self) -> Result<Vec<Allowance>, Fault> {
        match self.refused {
            None => Ok(self.allowances),
            Some(hit) => Err(Kind::RateLimited(hit).into()),
        }
    }
}

/// What is left of one policy after the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub policy: String,
    pub scope: LimitScope,
    pub limit: u64,
    pub remaining: u64,
    /// Fixed window: its end. Sliding log: when the oldest counted request leaves. Token bucket: when it is full.
    pub reset: Timestamp,
    pub window: Duration,
    /// This policy refused the request.
    pub is_exceeded: bool,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Arc<Database>,
    pools: Mutex<Pools>,
    /// Held while reservations are written, so that each is based on the one before.
    reserving: Mutex<()>,
}

impl Limiter {
    pub(crate) fn new(database: Arc<Database>, keys_max: usize) -> Self {
        let pools = Pools {
            limits: Pool::new(keys_max),
            quotas: Pool::new(keys_max),
        };
        Self {
            inner: Arc::new(Inner {
                database,
                pools: Mutex::new(pools),
                reserving: Mutex::new(()),
            }),
        }
    }

    /// Takes one request of every policy, or of none. Memory only: None means that a quota must be reserved on disk
    /// first, which [`Limiter::take`] does. A policy given twice with the same key counts once.
    pub fn try_take(&self, charges: &[(&LimitPolicy, &str)], now: Timestamp) -> Option<Decision> {
        self.inner.pools.lock().take(charges, now).ok()
    }

    /// As [`Limiter::try_take`], but writes a reservation where one is needed. That happens once in a while per quota
    /// (at most 64 times per window for small limits, or every 1,000 requests), and never without persistent policies.
    pub fn take(
        &self,
        charges: &[(&LimitPolicy, &str)],
        now: Timestamp,
    ) -> Result<Decision, Fault> {
        // Other threads may use up a reservation before this one gets to it, so that a second try can be needed.
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let missing = match self.inner.pools.lock().take(charges, now) {
                Ok(decision) => return Ok(decision),
                Err(missing) => missing,
            };
            self.reserve(charges, &missing, now)?;
        }
        Err(Fault::new(Kind::Overloaded {
            retry_after: Duration::from_secs(1),
        })
        .with_context("reserve a quota: too many tries"))
    }

    /// Writes the exact counts of all quotas. For an orderly shutdown: afterwards each quota's next request needs a
    /// new reservation.
    pub fn flush(&self, now: Timestamp) -> Result<(), Fault> {
        let _reserving = self.inner.reserving.lock();
        // From here on nothing is granted without a new reservation, which waits for this to end.
        let rows = self.inner.pools.lock().quotas.release();
        self.inner.database.write(|sql| {
            sweep(sql, now).map_err(doing("delete old quotas"))?;
            for row in &rows {
                upsert(sql, row).map_err(doing("write a quota"))?;
            }
            Ok(())
        })
    }

    /// Keys in memory.
    pub fn tracked_keys(&self) -> usize {
        let pools = self.inner.pools.lock();
        pools.limits.entries.len() + pools.quotas.entries.len()
    }

    fn reserve(
        &self,
        charges: &[(&LimitPolicy, &str)],
        missing: &[usize],
        now: Timestamp,
    ) -> Result<(), Fault> {
        let _reserving = self.inner.reserving.lock();
        for (policy, key) in missing.iter().filter_map(|index| charges.get(*index)) {
            self.reserve_one(policy, key, now)?;
        }
        Ok(())
    }

    fn reserve_one(&self, policy: &LimitPolicy, key: &str, now: Timestamp) -> Result<(), Fault> {
        let name = full_key(policy, key);
        let in_memory = self.inner.pools.lock().quotas.quota(&name, policy, now);
        if in_memory
            .as_ref()
            .is_some_and(|quota| quota.used < quota.reserved)
        {
            return Ok(());
        }
        let reserved = self.inner.database.write(|sql| {
            let mut quota = match in_memory {
                Some(quota) => quota,
                None => stored_quota(sql, policy, key, now).map_err(doing("read a quota"))?,
            };
            let step = (policy.limit / RESERVATION_STEPS).clamp(1, RESERVATION_MAX);
            quota.reserved = quota
                .used
                .saturating_add(step)
                .min(policy.limit)
                .max(quota.used);
            sweep(sql, now).map_err(doing("delete old quotas"))?;
            let row = QuotaRow {
                policy: policy.name.clone(),
                key: key.to_owned(),
                start: quota.start,
                end: quota.start.saturating_add(policy.window_micros()),
                reserved: quota.reserved,
            };
            upsert(sql, &row).map_err(doing("write a quota"))?;
            Ok(quota)
        })?;
        let mut pools = self.inner.pools.lock();
        pools.quotas.set_reserved(&name, policy, &reserved, now);
        Ok(())
    }
}

#[derive(Debug)]
struct Pools {
    limits: Pool,
    quotas: Pool,
}

impl Pools {
    /// The decision, or the charges whose quota must be reserved first.
    fn take(
        &mut self,
        charges: &[(&LimitPolicy, &str)],
        now: Timestamp,
    ) -> Result<Decision, Vec<usize>> {
        let at = now.micros();
        let names: Vec<String> = charges.iter().map(|(p, key)| full_key(p, key)).collect();
        let mut unknown = Vec::new();
        let mut short = Vec::new();
        let mut outlooks = Vec::with_capacity(charges.len());
        for (index, ((policy, _), name)) in charges.iter().zip(&names).enumerate() {
            let pool = if policy.persistent {
                &mut self.quotas
            } else {
                &mut self.limits
            };
            let outlook = if let Some(state) = pool.settled(name, policy, at) {
                if policy.persistent && state.needs_reservation() {
                    short.push(index);
                }
                state.outlook(policy, at)
            } else {
                if policy.persistent {
                    unknown.push(index);
                }
                State::fresh(policy, at).outlook(policy, at)
            };
            outlooks.push(outlook);
        }
        if !unknown.is_empty() {
            return Err(unknown);
        }
        if outlooks.iter().any(|outlook| outlook.wait.is_some()) {
            return Ok(refusal(charges, &outlooks, now));
        }
        if !short.is_empty() {
            return Err(short);
        }
        let mut allowances = Vec::with_capacity(charges.len());
        for (index, ((policy, _), name)) in charges.iter().zip(&names).enumerate() {
            let is_first = names.iter().position(|other| other == name) == Some(index);
            let pool = if policy.persistent {
                &mut self.quotas
            } else {
                &mut self.limits
            };
            let outlook = pool.charge(name, policy, at, is_first);
            allowances.push(allowance(policy, &outlook, now));
        }
        Ok(Decision {
            allowances,
            refused: None,
        })
    }
}

/// States by policy and key, ordered by when they will be as good as new.
#[derive(Debug)]
struct Pool {
    entries: HashMap<Arc<str>, Entry>,
    order: BTreeMap<(i64, u64), Arc<str>>,
    keys_max: usize,
    next_number: u64,
    log_times: usize,
}

#[derive(Debug)]
struct Entry {
    state: State,
    place: (i64, u64),
    /// For quotas: the window's length when it was last charged.
    window: i64,
}

#[derive(Debug)]
enum State {
    Fixed {
        start: i64,
        used: u64,
        reserved: u64,
    },
    /// Rising.
    Log(VecDeque<i64>),
    /// `level` in parts of a token: `window` parts are one, and each microsecond adds `limit` parts.
    Bucket { at: i64, level: u128, window: i64 },
}

struct Outlook {
    remaining: u64,
    /// Microseconds since 1970.
    reset: i64,
    /// Microseconds until one more request passes, if none does now.
    wait: Option<i64>,
}

impl Pool {
    fn new(keys_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            keys_max: keys_max.max(1),
            next_number: 0,
            log_times: 0,
        }
    }

    /// The state, brought to the given time.
    fn settled(&mut self, name: &str, policy: &LimitPolicy, at: i64) -> Option<&mut State> {
        let entry = self.entries.get_mut(name)?;
        let before = entry.state.times();
        entry.state.settle(policy, at);
        self.log_times = self.log_times + entry.state.times() - before;
        Some(&mut entry.state)
    }

    fn charge(&mut self, name: &str, policy: &LimitPolicy, at: i64, counts: bool) -> Outlook {
        if !self.entries.contains_key(name) {
            self.insert(name, policy, State::fresh(policy, at), at);
        }
        let Some(entry) = self.entries.get_mut(name) else {
            return State::fresh(policy, at).outlook(policy, at);
        };
        if counts {
            let before = entry.state.times();
            entry.state.charge(policy, at);
            self.log_times = self.log_times + entry.state.times() - before;
        }
        let outlook = entry.state.outlook(policy, at);
        entry.window = policy.window_micros();
        let idle_at = entry.state.idle_at(policy);
        if idle_at != entry.place.0
            && let Some(key) = self.order.remove(&entry.place)
        {
            entry.place.0 = idle_at;
            self.order.insert(entry.place, key);
        }
        while self.log_times > LOG_TIMES_MAX && self.drop_first() {}
        outlook
    }

    fn insert(&mut self, name: &str, policy: &LimitPolicy, state: State, at: i64) {
        while self
            .order
            .first_key_value()
            .is_some_and(|(place, _)| place.0 <= at)
        {
            self.drop_first();
        }
        while self.entries.len() >= self.keys_max && self.drop_first() {}
        let place = (state.idle_at(policy), self.next_number);
        self.next_number += 1;
        let key: Arc<str> = name.into();
        self.order.insert(place, Arc::clone(&key));
        let entry = Entry {
            state,
            place,
            window: policy.window_micros(),
        };
        self.entries.insert(key, entry);
    }

    /// Whether there was one.
    fn drop_first(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_first() else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&key) {
            self.log_times -= entry.state.times();
        }
        true
    }

    fn quota(&mut self, name: &str, policy: &LimitPolicy, now: Timestamp) -> Option<Quota> {
        match self.settled(name, policy, now.micros())? {
            State::Fixed {
                start,
                used,
                reserved,
            } => Some(Quota {
                start: *start,
                used: *used,
                reserved: *reserved,
            }),
            State::Log(_) | State::Bucket { .. } => None,
        }
    }

    /// After `quota` was written. If the window has changed meanwhile, the reservation is of no use and is left.
    fn set_reserved(&mut self, name: &str, policy: &LimitPolicy, quota: &Quota, now: Timestamp) {
        if let Some(state) = self.settled(name, policy, now.micros()) {
            if let State::Fixed {
                start, reserved, ..
            } = state
                && *start == quota.start
            {
                *reserved = quota.reserved.max(*reserved);
            }
            return;
        }
        let state = State::Fixed {
            start: quota.start,
            used: quota.used,
            reserved: quota.reserved,
        };
        self.insert(name, policy, state, now.micros());
    }

    /// Gives all reservations back and returns what was used.
    fn release(&mut self) -> Vec<QuotaRow> {
        let mut rows = Vec::with_capacity(self.entries.len());
        for (name, entry) in &mut self.entries {
            let State::Fixed {
                start,
                used,
                reserved,
            } = &mut entry.state
            else {
                continue;
            };
            let Some((policy, key)) = name.split_once('\0') else {
                continue;
            };
            *reserved = *used;
            rows.push(QuotaRow {
                policy: policy.to_owned(),
                key: key.to_owned(),
                start: *start,
                end: start.saturating_add(entry.window),
                reserved: *used,
            });
        }
        rows
    }
}

impl State {
    fn fresh(policy: &LimitPolicy, at: i64) -> Self {
        match policy.algorithm {
            Algorithm::FixedWindow { start } => Self::Fixed {
                start: window_start(start, policy.window_micros(), at),
                used: 0,
                reserved: 0,
            },
            Algorithm::SlidingLog => Self::Log(VecDeque::new()),
            Algorithm::TokenBucket { burst } => Self::Bucket {
                at,
                level: capacity(burst, policy.window_micros()),
                window: policy.window_micros(),
            },
        }
    }

    /// Lets go what has passed by `now`. The state may be of an older form of the policy.
    fn settle(&mut self, policy: &LimitPolicy, now: i64) {
        let length = policy.window_micros();
        match (&mut *self, policy.algorithm) {
            (Self::Fixed { start, .. }, Algorithm::FixedWindow { start: from }) => {
                if now >= start.saturating_add(length) {
                    *self = Self::fresh(policy, now);
                } else if now < start.saturating_sub(length) {
                    *start = window_start(from, length, now);
                } else if from == WindowStart::UtcAligned {
                    // Moves only if the window's length was changed.
                    *start = window_start(from, length, now.max(*start));
                }
            }
            (Self::Log(times), Algorithm::SlidingLog) => {
                let newest = times.back().copied().unwrap_or(now);
                if newest > now.saturating_add(length) {
                    for time in times.iter_mut() {
                        *time = now.min(*time);
                    }
                }
                let newest = times.back().copied().unwrap_or(now);
                let gone = now.max(newest).saturating_sub(length);
                while times.front().is_some_and(|time| *time <= gone) {
                    times.pop_front();
                }
            }
            (Self::Bucket { at, level, window }, Algorithm::TokenBucket { burst }) => {
                if *window != length {
                    *level = level.saturating_mul(wide(length)) / wide(*window);
                    *window = length;
                }
                if now > *at {
                    let filled = wide(now - *at).saturating_mul(u128::from(policy.limit));
                    *level = level.saturating_add(filled);
                    *at = now;
                } else if at.saturating_sub(now) > length {
                    *at = now;
                }
                *level = (*level).min(capacity(burst, length));
            }
            _ => *self = Self::fresh(policy, now),
        }
    }

    fn charge(&mut self, policy: &LimitPolicy, now: i64) {
        match self {
            Self::Fixed { used, .. } => *used = used.saturating_add(1),
            Self::Log(times) => {
                let newest = times.back().copied().unwrap_or(now);
                times.push_back(now.max(newest));
            }
            Self::Bucket { level, .. } => {
                *level = level.saturating_sub(wide(policy.window_micros()));
            }
        }
    }

    fn outlook(&self, policy: &LimitPolicy, now: i64) -> Outlook {
        let length = policy.window_micros();
        match self {
            Self::Fixed { start, used, .. } => {
                let end = start.saturating_add(length);
                Outlook {
                    remaining: policy.limit.saturating_sub(*used),
                    reset: end,
                    wait: (*used >= policy.limit).then(|| end - now),
                }
            }
            Self::Log(times) => {
                let counted = times.len() as u64;
                let excess = counted.checked_sub(policy.limit);
                // With a limit that was lowered, more than one has to leave.
                let last_to_leave = excess.map(|excess| {
                    let index = usize::try_from(excess).unwrap_or(usize::MAX);
                    times.get(index).copied().unwrap_or(now)
                });
                Outlook {
                    remaining: policy.limit.saturating_sub(counted),
                    reset: times.front().copied().unwrap_or(now).saturating_add(length),
                    wait: last_to_leave.map(|time| time.saturating_add(length) - now),
                }
            }
            Self::Bucket { at, level, .. } => {
                let token = wide(length);
                let full = match policy.algorithm {
                    Algorithm::TokenBucket { burst } => capacity(burst, length),
                    Algorithm::FixedWindow { .. } | Algorithm::SlidingLog => *level,
                };
                let until = |parts: u128| {
                    let micros = parts.div_ceil(u128::from(policy.limit.max(1)));
                    at.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX))
                };
                Outlook {
                    remaining: u64::try_from(level / token).unwrap_or(u64::MAX),
                    reset: until(full.saturating_sub(*level)),
                    wait: (*level < token).then(|| until(token - level).saturating_sub(now)),
                }
            }
        }
    }

    /// When it will be as good as new.
    fn idle_at(&self, policy: &LimitPolicy) -> i64 {
        match self {
            Self::Log(times) => times
                .back()
                .map_or(i64::MIN, |time| time.saturating_add(policy.window_micros())),
            Self::Fixed { .. } | Self::Bucket { .. } => self.outlook(policy, 0).reset,
        }
    }

    fn times(&self) -> usize {
        match self {
            Self::Log(times) => times.len(),
            Self::Fixed { .. } | Self::Bucket { .. } => 0,
        }
    }

    fn needs_reservation(&self) -> bool {
        matches!(self, Self::Fixed { used, reserved, .. } if used >= reserved)
    }
}

fn window_start(start: WindowStart, length: i64, at: i64) -> i64 {
    match start {
        WindowStart::UtcAligned => at - at.rem_euclid(length),
        WindowStart::FirstRequest => at,
    }
}

fn capacity(burst: u64, window: i64) -> u128 {
    u128::from(burst).saturating_mul(wide(window))
}

fn wide(micros: i64) -> u128 {
    u128::try_from(micros).unwrap_or(0)
}

/// No name holds a NUL (see [`LimitPolicy::problem`]), so two pairs never share a key.
fn full_key(policy: &LimitPolicy, key: &str) -> String {
    let mut name = String::with_capacity(policy.name.len() + key.len() + 1);
    name.push_str(&policy.name);
    name.push('\0');
    name.push_str(key);
    name
}

fn refusal(charges: &[(&LimitPolicy, &str)], outlooks: &[Outlook], now: Timestamp) -> Decision {
    let longest = charges
        .iter()
        .zip(outlooks)
        .filter_map(|((policy, _), outlook)| outlook.wait.map(|wait| (wait, policy)))
        .max_by_key(|(wait, _)| *wait);
    let allowances = charges.iter().zip(outlooks);
    Decision {
        allowances: allowances
            .map(|((policy, _), outlook)| allowance(policy, outlook, now))
            .collect(),
        refused: longest.map(|(wait, policy)| hit(policy, wait, now)),
    }
}

fn hit(policy: &LimitPolicy, wait: i64, now: Timestamp) -> LimitHit {
    let retry_after = Duration::from_micros(u64::try_from(wait).unwrap_or(0));
    let reset = now.saturating_add(retry_after).micros();
    LimitHit {
        policy: policy.name.clone(),
        scope: policy.scope,
        limit: policy.limit,
        window: policy.window,
        retry_after,
        // Rounded up, so that the window has ended by then.
        reset_epoch_seconds: -(-reset).div_euclid(1_000_000),
    }
}

fn allowance(policy: &LimitPolicy, outlook: &Outlook, now: Timestamp) -> Allowance {
    Allowance {
        policy: policy.name.clone(),
        scope: policy.scope,
        limit: policy.limit,
        remaining: outlook.remaining,
        reset: Timestamp::from_micros(outlook.reset).unwrap_or(now),
        window: policy.window,
        is_exceeded: outlook.wait.is_some(),
    }
}

struct Quota {
    start: i64,
    used: u64,
    reserved: u64,
}

struct QuotaRow {
    policy: String,
    key: String,
    start: i64,
    end: i64,
    reserved: u64,
}

/// What the database knows of a quota that is not in memory: all that was reserved counts as used.
fn stored_quota(
    sql: &Connection,
    policy: &LimitPolicy,
    key: &str,
    now: Timestamp,
) -> Result<Quota, rusqlite::Error> {
    let row: Option<(i64, u64)> = sql
        .prepare_cached("SELECT window_start, reserved FROM quotas WHERE policy = ?1 AND key = ?2")?
        .query_row(params![policy.name, key], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let mut state = match row {
        Some((start, reserved)) => State::Fixed {
            start,
            used: reserved,
            reserved,
        },
        None => State::fresh(policy, now.micros()),
    };
    state.settle(policy, now.micros());
    Ok(match state {
        State::Fixed {
            start,
            used,
            reserved,
        } => Quota {
            start,
            used,
            reserved,
        },
        State::Log(_) | State::Bucket { .. } => Quota {
            start: now.micros(),
            used: 0,
            reserved: 0,
        },
    })
}

fn upsert(sql: &Connection, row: &QuotaRow) -> Result<(), rusqlite::Error> {
    sql.prepare_cached(
        "INSERT INTO quotas (policy, key, window_start, window_end, reserved) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (policy, key) DO UPDATE SET window_start = ?3, window_end = ?4, reserved = ?5",
    )?
    .execute(params![row.policy, row.key, row.start, row.end, row.reserved])?;
    Ok(())
}

fn sweep(sql: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    sql.prepare_cached("DELETE FROM quotas WHERE window_end <= ?1")?
        .execute([now.micros()])?;
    Ok(())
}

mod micros {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(window: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(u64::try_from(window.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

mod scope_text {
    use meterd_fault::LimitScope;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const NAMES: [(LimitScope, &str); 4] = [
        (LimitScope::Credential, "credential"),
        (LimitScope::Organization, "organization"),
        (LimitScope::Address, "address"),
        (LimitScope::Server, "server"),
    ];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(scope: &LimitScope, out: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(known, _)| known == scope);
        out.serialize_str(name.map_or("server", |(_, name)| name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LimitScope, D::Error> {
        let text = String::deserialize(from)?;
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known
            .map(|(scope, _)| *scope)
            .ok_or_else(|| de::Error::custom("is not a limit's scope"))
    }
}
