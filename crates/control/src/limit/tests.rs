//! The limiter against naive oracles, from many threads, and over restarts.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY_MICROS: i64 = 86_400_000_000;
const DAY: Duration = Duration::from_hours(24);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + micros).unwrap()
}

struct Fixture {
    folder: tempfile::TempDir,
    limiter: Limiter,
}

impl Fixture {
    fn new() -> Self {
        Self::with_keys(1_000)
    }

    fn with_keys(keys_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limiter = open(folder.path(), keys_max);
        Self { folder, limiter }
    }

    /// As after a crash: nothing is flushed.
    fn reopened(self) -> Self {
        drop(self.limiter);
        Self {
            limiter: open(self.folder.path(), 1_000),
            folder: self.folder,
        }
    }

    fn take(&self, policy: &LimitPolicy, now: Timestamp) -> Decision {
        self.limiter.take(&[(policy, "k")], now).unwrap()
    }

    fn granted(&self, policy: &LimitPolicy, tries: usize, now: Timestamp) -> usize {
        (0..tries)
            .filter(|_| self.take(policy, now).is_allowed())
            .count()
    }
}

fn open(folder: &std::path::Path, keys_max: usize) -> Limiter {
    let database = Database::open(&folder.join("control.db")).unwrap();
    Limiter::new(Arc::new(database), keys_max)
}

fn bucket(limit: u64, burst: u64) -> LimitPolicy {
    let algorithm = Algorithm::TokenBucket { burst };
    LimitPolicy::new("b", LimitScope::Organization, algorithm, limit, SECOND)
}

fn from_first(limit: u64, window: Duration) -> LimitPolicy {
    let algorithm = Algorithm::FixedWindow {
        start: WindowStart::FirstRequest,
    };
    LimitPolicy::new("f", LimitScope::Credential, algorithm, limit, window)
}

fn daily(limit: u64) -> LimitPolicy {
    LimitPolicy::fixed("tpd", LimitScope::Credential, limit, DAY).kept_over_restarts()
}

/// Whether each request passes, the slow and obvious way.
fn oracle(policy: &LimitPolicy, times: &[i64]) -> Vec<bool> {
    let window = policy.window_micros();
    let mut granted: Vec<i64> = Vec::new();
    let mut window_began: Option<i64> = None;
    let limit = usize::try_from(policy.limit).unwrap();
    let mut tokens = match policy.algorithm {
        Algorithm::TokenBucket { burst } => i128::from(burst) * i128::from(window),
        _ => 0,
    };
    let full = tokens;
    let mut last = times.first().copied().unwrap_or(0);
    times
        .iter()
        .map(|&now| {
            let passes = match policy.algorithm {
                Algorithm::SlidingLog => {
                    granted.iter().filter(|&&t| t > now - window).count() < limit
                }
                Algorithm::FixedWindow {
                    start: WindowStart::UtcAligned,
                } => {
                    let same = |t: i64| t.div_euclid(window) == now.div_euclid(window);
                    granted.iter().filter(|&&t| same(t)).count() < limit
                }
                Algorithm::FixedWindow {
                    start: WindowStart::FirstRequest,
                } => {
                    if window_began.is_none_or(|began| now >= began + window) {
                        window_began = Some(now);
                    }
                    let began = window_began.unwrap();
                    granted.iter().filter(|&&t| t >= began).count() < limit
                }
                Algorithm::TokenBucket { .. } => {
                    tokens = (tokens + i128::from(now - last) * i128::from(policy.limit)).min(full);
                    last = now;
                    let passes = tokens >= i128::from(window);
                    if passes {
                        tokens -= i128::from(window);
                    }
                    passes
                }
            };
            if passes {
                granted.push(now);
            }
            passes
        })
        .collect()
}

fn policies() -> impl Strategy<Value = LimitPolicy> {
    let algorithm = prop_oneof![
        Just(Algorithm::SlidingLog),
        Just(Algorithm::FixedWindow {
            start: WindowStart::UtcAligned
        }),
        Just(Algorithm::FixedWindow {
            start: WindowStart::FirstRequest
        }),
        (1_u64..8).prop_map(|burst| Algorithm::TokenBucket { burst }),
    ];
    (algorithm, 1_u64..8, 1_u64..3_000).prop_map(|(algorithm, limit, millis)| {
        let window = Duration::from_millis(millis);
        LimitPolicy::new("p", LimitScope::Credential, algorithm, limit, window)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_the_oracle(
        policy in policies(),
        steps in prop::collection::vec(prop_oneof![Just(0), 0_i64..400_000, 0_i64..4_000_000], 1..80),
    ) {
        let times: Vec<i64> = steps
            .iter()
            .scan(0, |now, step| { *now += step; Some(at(*now).micros()) })
            .collect();
        let fixture = Fixture::new();
        let taken: Vec<bool> = times
            .iter()
            .map(|now| fixture.take(&policy, Timestamp::from_micros(*now).unwrap()).is_allowed())
            .collect();
        prop_assert_eq!(taken, oracle(&policy, &times));
    }

    #[test]
    fn waiting_as_told_succeeds_and_less_does_not(
        policies in prop::collection::vec(policies(), 1..4),
        steps in prop::collection::vec(0_i64..200_000, 1..60),
    ) {
        let fixture = Fixture::new();
        let names = ["a", "b", "c"];
        let charges: Vec<(&LimitPolicy, &str)> = policies.iter().zip(names).collect();
        let mut now = at(0);
        for step in steps {
            now = now.saturating_add(Duration::from_micros(step.unsigned_abs()));
            let decision = fixture.limiter.take(&charges, now).unwrap();
            let Some(hit) = decision.refused else { continue };
            prop_assert!(hit.retry_after > Duration::ZERO);
            let later = now.saturating_add(hit.retry_after);
            let sooner = later.saturating_sub(Duration::from_micros(1));
            prop_assert!(!fixture.limiter.take(&charges, sooner).unwrap().is_allowed());
            prop_assert!(hit.reset_epoch_seconds * 1_000_000 >= later.micros());
            prop_assert!(fixture.limiter.take(&charges, later).unwrap().is_allowed());
            now = later;
        }
    }

    /// However the clock jumps back, it grants nothing.
    #[test]
    fn a_clock_going_back_grants_nothing(
        policy in policies(),
        steps in prop::collection::vec(1_u64..10_000_000_000, 1..40),
    ) {
        let fixture = Fixture::new();
        let mut now = at(0);
        let most = match policy.algorithm {
            Algorithm::TokenBucket { burst } => burst,
            Algorithm::FixedWindow { .. } | Algorithm::SlidingLog => policy.limit,
        };
        prop_assert_eq!(fixture.granted(&policy, 20, now) as u64, most);
        for step in steps {
            now = now.saturating_sub(Duration::from_micros(step));
            let hit = fixture.take(&policy, now).refused;
            let wait = hit.expect("a grant").retry_after;
            // Nor does it block for longer than the jump that is tolerated and a window.
            prop_assert!(wait <= policy.window * 2, "{:?}", wait);
        }
    }
}

#[test]
fn all_or_nothing() {
    let fixture = Fixture::new();
    let wide = LimitPolicy::sliding("wide", LimitScope::Organization, 10, SECOND);
    let narrow = LimitPolicy::fixed("narrow", LimitScope::Credential, 1, DAY);
    let charges = [(&wide, "o"), (&narrow, "c")];
    assert!(fixture.limiter.take(&charges, at(0)).unwrap().is_allowed());
    for _ in 0..20 {
        let decision = fixture.limiter.take(&charges, at(1)).unwrap();
        let hit = decision.refused.unwrap();
        assert_eq!((hit.policy.as_str(), hit.limit), ("narrow", 1));
        assert_eq!(decision.allowances[0].remaining, 9);
        assert!(!decision.allowances[0].is_exceeded);
        assert!(decision.allowances[1].is_exceeded);
    }
}

#[test]
fn the_longest_wait_is_reported() {
    let fixture = Fixture::new();
    let tps = LimitPolicy::fixed("tps", LimitScope::Credential, 1, SECOND);
    let tpd = daily(1);
    let charges = [(&tps, "c"), (&tpd, "c")];
    assert!(fixture.limiter.take(&charges, at(0)).unwrap().is_allowed());
    let hit = fixture.limiter.take(&charges, at(0)).unwrap().refused;
    let hit = hit.unwrap();
    assert_eq!(hit.policy, "tpd");
    assert_eq!(hit.reset_epoch_seconds % 86_400, 0);
}

#[test]
fn a_policy_given_twice_counts_once() {
    let fixture = Fixture::new();
    let policy = LimitPolicy::sliding("s", LimitScope::Credential, 2, SECOND);
    let twice = [(&policy, "k"), (&policy, "k")];
    let decision = fixture.limiter.take(&twice, at(0)).unwrap();
    assert_eq!(decision.allowances[0].remaining, 1);
    assert!(fixture.take(&policy, at(0)).is_allowed());
    assert!(!fixture.take(&policy, at(0)).is_allowed());
}

#[test]
fn a_changed_limit_acts_at_once_and_keeps_the_count() {
    for make in [
        |limit| LimitPolicy::sliding("s", LimitScope::Credential, limit, SECOND),
        |limit| LimitPolicy::fixed("s", LimitScope::Credential, limit, SECOND),
        daily,
    ] {
        let fixture = Fixture::new();
        assert_eq!(fixture.granted(&make(5), 9, at(0)), 5);
        assert_eq!(fixture.granted(&make(7), 9, at(0)), 2);
        let decision = fixture.take(&make(3), at(0));
        let hit = decision.refused.unwrap();
        let later = at(0).saturating_add(hit.retry_after);
        assert!(fixture.take(&make(3), later).is_allowed());
    }
}

#[test]
fn a_window_from_the_first_request() {
    let fixture = Fixture::new();
    let policy = from_first(2, DAY);
    let first = fixture.take(&policy, at(5));
    assert_eq!(first.allowances[0].reset, at(5).saturating_add(DAY));
    assert_eq!(fixture.granted(&policy, 5, at(DAY_MICROS + 4)), 1);
    assert_eq!(fixture.granted(&policy, 5, at(DAY_MICROS + 5)), 2);
}

#[test]
fn a_bucket_refills_evenly() {
    let fixture = Fixture::new();
    let policy = bucket(1, 10);
    assert_eq!(fixture.granted(&policy, 20, at(0)), 10);
    assert_eq!(fixture.granted(&policy, 20, at(999_999)), 0);
    assert_eq!(fixture.granted(&policy, 20, at(1_000_000)), 1);
    assert_eq!(fixture.granted(&policy, 20, at(3_500_000)), 2);
    assert_eq!(fixture.granted(&policy, 20, at(4_000_000)), 1);
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let fixture = Fixture::new();
    for policy in [
        bucket(u64::MAX, u64::MAX),
        LimitPolicy::fixed("x", LimitScope::Server, u64::MAX, Duration::MAX),
        LimitPolicy::sliding("y", LimitScope::Server, 1, Duration::MAX),
        LimitPolicy::sliding("z", LimitScope::Server, 0, Duration::ZERO),
        bucket(0, 0),
    ] {
        for now in [Timestamp::MIN, Timestamp::MAX, at(0), Timestamp::MIN] {
            fixture.take(&policy, now);
        }
    }
}

#[test]
fn exactly_the_limit_passes_from_many_threads() {
    for policy in [
        LimitPolicy::sliding("s", LimitScope::Credential, 500, SECOND),
        LimitPolicy::fixed("f", LimitScope::Credential, 500, DAY),
        bucket(1, 500),
        daily(500),
    ] {
        let fixture = Fixture::new();
        let granted: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| fixture.granted(&policy, 100, at(0))))
                .collect();
            takers.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(granted, 500, "{}", policy.name);
    }
}

#[test]
fn keys_are_bounded_and_expire() {
    let fixture = Fixture::with_keys(100);
    let policy = LimitPolicy::sliding("s", LimitScope::Address, 3, SECOND);
    for address in 0..1_000 {
        let key = address.to_string();
        fixture
            .limiter
            .take(&[(&policy, &key)], at(address))
            .unwrap();
    }
    assert_eq!(fixture.limiter.tracked_keys(), 100);
    fixture
        .limiter
        .take(&[(&policy, "new")], at(9_000_000))
        .unwrap();
    assert_eq!(fixture.limiter.tracked_keys(), 1);
    assert_eq!(fixture.limiter.inner.pools.lock().limits.log_times, 1);
}

#[test]
fn short_limits_do_not_push_out_long_ones() {
    let fixture = Fixture::with_keys(10);
    let long = LimitPolicy::fixed("long", LimitScope::Credential, 1, DAY);
    assert!(fixture.take(&long, at(0)).is_allowed());
    let short = LimitPolicy::fixed("short", LimitScope::Address, 1, SECOND);
    for address in 0..100 {
        let key = address.to_string();
        fixture
            .limiter
            .take(&[(&short, &key)], at(address))
            .unwrap();
    }
    assert!(!fixture.take(&long, at(101)).is_allowed());
}

#[test]
fn a_crash_never_gives_more_than_the_quota() {
    for limit in [1, 20, 500, 10_000] {
        let policy = daily(limit);
        let step = usize::try_from((limit / RESERVATION_STEPS).clamp(1, RESERVATION_MAX)).unwrap();
        let limit = usize::try_from(limit).unwrap();
        let mut fixture = Fixture::new();
        let mut granted = 0;
        let crashes = 5;
        for _ in 0..crashes {
            granted += fixture.granted(&policy, limit / 7 + 1, at(0));
            fixture = fixture.reopened();
        }
        granted += fixture.granted(&policy, limit + 1, at(0));
        assert!(granted <= limit, "{granted} of {limit}");
        assert!(granted + crashes * step >= limit, "{granted} of {limit}");
        assert_eq!(fixture.granted(&policy, limit + 1, at(DAY_MICROS)), limit);
    }
}

#[test]
fn an_orderly_restart_loses_nothing() {
    let policy = daily(10_000);
    let fixture = Fixture::new();
    assert_eq!(fixture.granted(&policy, 1_234, at(0)), 1_234);
    fixture.limiter.flush(at(0)).unwrap();
    let fixture = fixture.reopened();
    assert_eq!(fixture.granted(&policy, 10_000, at(0)), 10_000 - 1_234);
}

#[test]
fn counting_goes_on_after_a_flush() {
    let policy = daily(100);
    let fixture = Fixture::new();
    let mut granted = 0;
    for _ in 0..30 {
        granted += fixture.granted(&policy, 7, at(0));
        fixture.limiter.flush(at(0)).unwrap();
    }
    assert_eq!(granted, 100);
}

#[test]
fn only_reservations_need_the_disk() {
    let policy = daily(6_400);
    let fixture = Fixture::new();
    let charge = [(&policy, "k")];
    assert!(fixture.limiter.try_take(&charge, at(0)).is_none());
    let mut waited = 0;
    for _ in 0..6_400 {
        if fixture.limiter.try_take(&charge, at(0)).is_none() {
            waited += 1;
            assert!(fixture.limiter.take(&charge, at(0)).unwrap().is_allowed());
        }
    }
    assert_eq!(waited, 64);
    // A refusal is known without the disk.
    assert!(
        !fixture
            .limiter
            .try_take(&charge, at(0))
            .unwrap()
            .is_allowed()
    );
}

#[test]
fn policies_are_checked() {
    let good = LimitPolicy::fixed("n", LimitScope::Credential, 5, SECOND);
    assert_eq!(good.problem("/limits/0"), None);
    let bad = [
        LimitPolicy {
            limit: 0,
            ..good.clone()
        },
        LimitPolicy {
            name: String::new(),
            ..good.clone()
        },
        LimitPolicy {
            window: Duration::ZERO,
            ..good.clone()
        },
        LimitPolicy {
            persistent: true,
            scope: LimitScope::Address,
            ..good.clone()
        },
        LimitPolicy {
            algorithm: Algorithm::SlidingLog,
            limit: SLIDING_LIMIT_MAX + 1,
            ..good.clone()
        },
        LimitPolicy {
            algorithm: Algorithm::SlidingLog,
            persistent: true,
            ..good.clone()
        },
        bucket(1, 0),
    ];
    for policy in bad {
        assert!(policy.problem("/limits/0").is_some(), "{policy:?}");
    }
    let json = serde_json::to_value(&good).unwrap();
    assert_eq!(json["scope"], "credential");
    assert_eq!(serde_json::from_value::<LimitPolicy>(json).unwrap(), good);
}
