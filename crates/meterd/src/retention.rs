//! Retention: drops what a meter keeps no longer, some minutes after the start and then every hour.
//!
//! What is dropped is gone for good, so the clock is believed only while it agrees with what else is known of the time.

use crate::server::now;
use meterd_control::{Control, List, Meter, Organization, Stored};
use meterd_engine::{Cancel, Engine, Listing};
use meterd_fault::Fault;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{info, warn};

const PAUSE: Duration = Duration::from_hours(1);
/// How far the clock may have been set since the last look.
const JUMP_MAX: Duration = Duration::from_mins(5);
/// How long ago the newest measurement may have been received.
const SILENCE_MAX: Duration = Duration::from_hours(31 * 24);

/// Goes on until it is aborted. What is being dropped then is finished, and no other meter is begun.
pub(crate) async fn keep(control: Arc<Control>, engine: Arc<Engine>, first_after: Duration) {
    let stopping = StopOnDrop::default();
    let mut last = Look::now();
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
        let (control, engine) = (Arc::clone(&control), Arc::clone(&engine));
        let stopped = Arc::clone(&stopping.0);
        let done = tokio::task::spawn_blocking(move || drop_old(&control, &engine, &stopped)).await;
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

    fn is_jump_to(&self, later: &Self) -> bool {
        let passed = later.steady.saturating_duration_since(self.steady);
        let expected = self.wall.saturating_add(passed);
        later.wall > expected.saturating_add(JUMP_MAX)
            || expected > later.wall.saturating_add(JUMP_MAX)
    }
}

fn drop_old(control: &Control, engine: &Engine, stopped: &AtomicBool) -> Result<(), Fault> {
    let organizations = all_organizations(control)?;
    let now = now();
    if let Some(newest) = silent_since(engine, &organizations, now) {
        warn!(
            "retention: the clock says {now}, and the newest measurement was received at {newest}; nothing is dropped until one is received"
        );
        return Ok(());
    }
    for organization in &organizations {
        // The other organizations must not wait for this one.
        if let Err(fault) = drop_old_of(control, engine, organization, stopped) {
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

fn all_organizations(control: &Control) -> Result<Vec<Arc<Stored<Organization>>>, Fault> {
    let mut list = List::default();
    let mut organizations = Vec::new();
    loop {
        let page = control.store().list_organizations(&list)?;
        organizations.extend(page.items);
        match page.next {
            Some(next) => list.cursor = Some(next),
            None => return Ok(organizations),
        }
    }
}

/// When the newest measurement was received, if that is too long ago to believe the clock.
fn silent_since(
    engine: &Engine,
    organizations: &[Arc<Stored<Organization>>],
    now: Timestamp,
) -> Option<Timestamp> {
    let newest = Listing {
        limit: 1,
        ..Listing::default()
    };
    let mut last = None;
    for organization in organizations {
        let listed = engine.list(organization.organization_id(), &newest, &Cancel::new());
        let page = listed.unwrap_or_default();
        let received = page.measurements.first().map(|listed| listed.received);
        last = last.max(received);
        if last.is_some_and(|last| last.saturating_add(SILENCE_MAX) >= now) {
            return None;
        }
    }
    last
}

fn drop_old_of(
    control: &Control,
    engine: &Engine,
    organization: &Stored<Organization>,
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
                drop_old_rows(engine, id, &organization.document.name, &meter, days);
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
    days: u32,
) {
    let kept = Duration::from_hours(u64::from(days) * 24);
    let before = now().saturating_sub(kept);
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
    use meterd_control::Author;
    use meterd_engine::testing::SimulatedDisk;
    use meterd_engine::{Batch, OnConflict, Settings};
    use meterd_model::{Measurement, MeasurementId, Subject};
    use std::path::Path;

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
    fn a_clock_far_ahead_of_the_newest_measurement_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control.sqlite");
        let control = Control::open(path, meterd_control::Settings::default()).unwrap();
        let disk = Arc::new(SimulatedDisk::new());
        let engine = Engine::open(Path::new("data"), Settings::default(), disk).unwrap();
        let received = Timestamp::parse("2026-11-01T00:00:00Z").unwrap();
        let author = Author::system(received);
        for name in ["idle", "busy"] {
            let organization = Organization::named(name);
            (control.store().create_organization(organization, &author)).unwrap();
        }
        let organizations = all_organizations(&control).unwrap();
        let later = |days: u32| received.saturating_add(DAY * days);
        // Where there is nothing, nothing can be lost.
        assert_eq!(silent_since(&engine, &organizations, later(1000)), None);
        let measurement = Measurement {
            id: MeasurementId::new("a").unwrap(),
            meter: MeterId(uuid::Uuid::nil()),
            subject: Subject::new("s").unwrap(),
            time: Timestamp::MIN,
            end_time: None,
            values: Vec::new(),
            attributes: Vec::new(),
        };
        let batch = Batch {
            organization: organizations[1].organization_id(),
            received,
            measurements: vec![measurement],
            on_conflict: OnConflict::Reject,
        };
        engine.submit(batch).unwrap().wait().unwrap();
        assert_eq!(silent_since(&engine, &organizations, later(31)), None);
        assert_eq!(
            silent_since(&engine, &organizations, later(32)),
            Some(received)
        );
    }
}
