//! Retention: drops what a meter keeps no longer, some minutes after the start and then every hour.
//!
//! What is dropped is gone for good, so the clock is believed only as far as it agrees with what else is known of the
//! time: what was received before this process began, and how long it has run.

use crate::server::now;
use meterd_control::{Control, List, Meter, Organization, Stored};
use meterd_engine::Engine;
use meterd_fault::Fault;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{info, warn};

const PAUSE: Duration = Duration::from_hours(1);
/// How far the clock may have been set since the last look.
const JUMP_MAX: Duration = Duration::from_mins(5);
/// How long the server may have been away before this start; what that leaves undropped goes with a later start.
const AWAY_MAX: Duration = Duration::from_hours(31 * 24);

/// Goes on until it is aborted. What is being dropped then is finished, and no other meter is begun.
pub(crate) async fn keep(control: Arc<Control>, engine: Arc<Engine>, first_after: Duration) {
    let stopping = StopOnDrop::default();
    let received_before = engine.received_before_opening();
    let first = Look::now();
    let mut last = first;
    let mut pause = first_after;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        let before = std::mem::replace(&mut last, Look::now());
        if before.is_jump_to(&last) {
            let wall = last.wall;
            warn!("retention: the clock was set, to {wall}; nothing is dropped for an hour");
            continue;
        }
        let at = first.trusted(&last, received_before);
        if at < last.wall {
            let wall = last.wall;
            warn!(
                "retention: the clock says {wall}, which is too far after what was received before the start; {at} is taken for the present"
            );
        }
        let (control, engine) = (Arc::clone(&control), Arc::clone(&engine));
        let stopped = Arc::clone(&stopping.0);
        let done =
            tokio::task::spawn_blocking(move || drop_old(&control, &engine, at, &stopped)).await;
        if let Ok(Err(fault)) = done {
            warn!("retention: {}", fault.log_context().unwrap_or("failed"));
        }
    }
}

/// Tells the thread that works that nobody waits any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What two clocks say at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    wall: Timestamp,
    /// Nobody sets it.
    steady: Instant,
}

impl Look {
    fn now() -> Self {
        Self {
            wall: now(),
            steady: Instant::now(),
        }
    }

    /// The time of a `later` look as far as it can be trusted. This look was made at the start.
    fn trusted(&self, later: &Self, received_before: Option<Timestamp>) -> Timestamp {
        let passed = later.steady.saturating_duration_since(self.steady);
        let latest = received_before.map(|time| time.saturating_add(AWAY_MAX + passed));
        // Where nothing was received before, nothing old can be lost.
        latest.map_or(later.wall, |latest| later.wall.min(latest))
    }

    fn is_jump_to(&self, later: &Self) -> bool {
        let passed = later.steady.saturating_duration_since(self.steady);
        let expected = self.wall.saturating_add(passed);
        later.wall > expected.saturating_add(JUMP_MAX)
            || expected > later.wall.saturating_add(JUMP_MAX)
    }
}

fn drop_old(
    control: &Control,
    engine: &Engine,
    at: Timestamp,
    stopped: &AtomicBool,
) -> Result<(), Fault> {
    let organizations = control.store().every_organization()?;
    for organization in &organizations {
        // The other organizations must not wait for this one.
        if let Err(fault) = drop_old_of(control, engine, organization, at, stopped) {
            warn!(
                organization = %organization.document.name,
                "retention of {}: {}",
                organization.document.name,
                fault.log_context().unwrap_or("failed"),
            );
        }
    }
    Ok(())
}

fn drop_old_of(
    control: &Control,
    engine: &Engine,
    organization: &Stored<Organization>,
    at: Timestamp,
    stopped: &AtomicBool,
) -> Result<(), Fault> {
    let id = organization.organization_id();
    let mut meters = List::default();
    loop {
        let page = control.store().list::<Meter>(id, &meters)?;
        for listed in &page.items {
            if stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            // Dropping takes its time, in which somebody may have decided otherwise.
            let Some(meter) = control.store().find::<Meter>(id, listed.id)? else {
                continue;
            };
            if let Some(days) = meter.document.retention_days {
                let kept = Duration::from_hours(u64::from(days) * 24);
                let before = at.saturating_sub(kept);
                drop_old_rows(engine, id, &organization.document.name, &meter, before);
            }
        }
        match page.next {
            Some(next) => meters.cursor = Some(next),
            None => return Ok(()),
        }
    }
}

fn drop_old_rows(
    engine: &Engine,
    organization: OrganizationId,
    organization_name: &str,
    meter: &Stored<Meter>,
    before: Timestamp,
) {
    let name = &meter.document.name;
    match engine.expire(organization, MeterId(meter.id), before) {
        Ok(0) => {}
        Ok(rows) => info!(
            organization = organization_name,
            meter = %name,
            rows,
            "dropped {rows} versions of {organization_name}/{name} from months before {before}"
        ),
        // The other meters must not wait for this one; it is tried again in an hour.
        Err(error) => warn!(
            organization = organization_name,
            meter = %name,
            "retention of {organization_name}/{name}: {error}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_clock_that_is_set_is_noticed() {
        let before = Look::now();
        let after = |steady: Duration, wall: Duration| Look {
            wall: before.wall.saturating_add(wall),
            steady: before.steady + steady,
        };
        for (steady, wall, jumped) in [
            (PAUSE, PAUSE, false),
            (PAUSE, PAUSE + JUMP_MAX, false),
            (PAUSE + JUMP_MAX, PAUSE, false),
            (PAUSE, PAUSE + JUMP_MAX * 2, true),
            (PAUSE, Duration::ZERO, true),
            (DAY * 300, DAY * 300, false),
        ] {
            assert_eq!(before.is_jump_to(&after(steady, wall)), jumped);
        }
    }

    #[test]
    fn a_clock_that_was_wrong_at_the_start_is_not_believed() {
        let received = Timestamp::parse("2026-11-01T00:00:00Z").unwrap();
        let start = |days: u32| Look {
            wall: received.saturating_add(DAY * days),
            steady: Instant::now(),
        };
        for (days_away, trusted_days) in [(0, 2), (20, 22), (30, 32), (3_650, 33)] {
            let first = start(days_away);
            let later = Look {
                wall: first.wall.saturating_add(DAY * 2),
                steady: first.steady + DAY * 2,
            };
            assert_eq!(
                first.trusted(&later, Some(received)),
                received.saturating_add(DAY * trusted_days),
                "{days_away}"
            );
            assert_eq!(first.trusted(&later, None), later.wall);
        }
    }
}
