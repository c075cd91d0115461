//! Retention: drops what a meter keeps no longer, shortly after the start and then every hour.

use crate::server::now;
use meterd_control::{Control, List, Meter, Organization, Stored};
use meterd_engine::Engine;
use meterd_fault::Fault;
use meterd_model::{MeterId, OrganizationId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{info, warn};

const PAUSE: Duration = Duration::from_hours(1);

/// Goes on until it is aborted. What is being dropped then is finished, and no other meter is begun.
pub(crate) async fn keep(control: Arc<Control>, engine: Arc<Engine>) {
    let stopping = StopOnDrop::default();
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        ticks.tick().await;
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

fn drop_old(control: &Control, engine: &Engine, stopped: &AtomicBool) -> Result<(), Fault> {
    let mut organizations = List::default();
    loop {
        let page = control.store().list_organizations(&organizations)?;
        for organization in &page.items {
            drop_old_of(control, engine, organization, stopped)?;
        }
        match page.next {
            Some(next) => organizations.cursor = Some(next),
            None => return Ok(()),
        }
    }
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
        for meter in &page.items {
            if stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Some(days) = meter.document.retention_days {
                drop_old_rows(engine, id, &organization.document.name, meter, days);
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
