//! Work that goes on after its request was answered: uploaded files are read, exports are written.
//!
//! The queue is the store: a job that was waiting or running when the server stopped is found again. Two lanes take
//! jobs, never two of one organization, the oldest first.

use crate::app::App;
use crate::entity::Entity;
use crate::export_job::ExportJob;
use crate::upload::UploadJob;
use crate::{export_schedule, export_work, scheduled_event, upload_work};
use meterd_control::{List, Order};
use meterd_fault::Fault;
use meterd_model::{OrganizationId, Timestamp};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How long nothing happens after a job could not go on, and how often the queue is looked at without being told.
const PAUSE: Duration = Duration::from_secs(5);
/// How often schedules are looked at.
const TICK: Duration = Duration::from_secs(30);

/// A kind of job in the store.
pub(crate) trait Job: Entity {
    /// The statuses in which there is something to do, as its index key `status` has them.
    const UNFINISHED: &'static [&'static str];
}

/// Does what this surface does by itself, until it is dropped. `now` is the server's clock.
pub async fn work(app: App, now: fn() -> Timestamp) {
    let busy = Mutex::default();
    tokio::join!(
        lane(&app, &busy, now),
        lane(&app, &busy, now),
        schedules(&app, now)
    );
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Upload(Uuid),
    Export(Uuid),
}

async fn lane(app: &App, busy: &Mutex<HashSet<OrganizationId>>, now: fn() -> Timestamp) {
    loop {
        let done = match take(app, busy).await {
            Ok(None) => {
                tokio::select! {
                    () = app.wake.notified() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
                continue;
            }
            Ok(Some((organization, task))) => {
                // There may be one for the other lane too.
                app.wake.notify_one();
                let done = match task {
                    Task::Upload(id) => upload_work::run(app, organization, id, now).await,
                    Task::Export(id) => export_work::run(app, organization, id, now).await,
                };
                lock(busy).remove(&organization);
                done
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = done {
            tracing::warn!(
                "a job cannot go on: {}",
                fault.log_context().unwrap_or("no context")
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The oldest job of an organization that none is done for; that organization is busy from then on.
async fn take(
    app: &App,
    busy: &Mutex<HashSet<OrganizationId>>,
) -> Result<Option<(OrganizationId, Task)>, Fault> {
    for organization in app.blocking(organizations).await? {
        if lock(busy).contains(&organization) {
            continue;
        }
        let upload = oldest::<UploadJob>(app, organization)?.map(Task::Upload);
        let export = oldest::<ExportJob>(app, organization)?.map(Task::Export);
        if let Some(task) = upload.or(export)
            && lock(busy).insert(organization)
        {
            return Ok(Some((organization, task)));
        }
    }
    Ok(None)
}

fn oldest<J: Job>(app: &App, organization: OrganizationId) -> Result<Option<Uuid>, Fault> {
    let statuses: Vec<_> = J::UNFINISHED.iter().map(ToString::to_string).collect();
    let list = List {
        any_of: Some(("status", &statuses)),
        limit: 1,
        order: Order::OldestFirst,
        ..List::default()
    };
    let page = app.control.store().list::<J>(organization, &list)?;
    Ok(page.items.first().map(|stored| stored.id))
}

async fn schedules(app: &App, now: fn() -> Timestamp) {
    loop {
        let done = app.blocking(move |app| tick(app, now())).await;
        if let Err(fault) = done {
            tracing::warn!("schedules: {}", fault.log_context().unwrap_or("failed"));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Raises and starts what schedules have due by `now`, of all organizations; [`work`] does so every half minute. Waits
/// for the disk.
pub fn tick(app: &App, now: Timestamp) -> Result<(), Fault> {
    for organization in organizations(app)? {
        // The other organizations must not wait for this one.
        let done = scheduled_event::raise_due(app, organization, now)
            .and_then(|()| export_schedule::start_due(app, organization, now));
        if let Err(fault) = done {
            tracing::warn!(
                %organization,
                "schedules: {}",
                fault.log_context().unwrap_or("failed")
            );
        }
    }
    app.wake.notify_one();
    Ok(())
}

fn organizations(app: &App) -> Result<Vec<OrganizationId>, Fault> {
    let mut list = List::default();
    let mut organizations = Vec::new();
    loop {
        let page = app.control.store().list_organizations(&list)?;
        let ids = page.items.iter().map(|stored| stored.organization_id());
        organizations.extend(ids);
        match page.next {
            Some(next) => list.cursor = Some(next),
            None => return Ok(organizations),
        }
    }
}

fn lock(
    busy: &Mutex<HashSet<OrganizationId>>,
) -> std::sync::MutexGuard<'_, HashSet<OrganizationId>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}
