//! Work that goes on after its request was answered: uploaded files are read, exports are written.
//!
//! The queue is the store: a job that was waiting or running when the server stopped is found again. Two lanes take
//! jobs, of one organization after the other and never two of one, the oldest of each first.

use crate::access::Seen;
use crate::app::App;
use crate::entity::Entity;
use crate::export_job::ExportJob;
use crate::list::{ListQuery, every, page_of};
use crate::upload::UploadJob;
use crate::{export_schedule, export_work, scheduled_event, upload_work};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{Author, List, Order, Stored};
use meterd_fault::Fault;
use meterd_http::body::read_query;
use meterd_http::fields::Form;
use meterd_http::{Failure, LongWork, Reply};
use meterd_model::{OrganizationId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How long nothing happens after a job could not go on, and how often the queue is looked at without being told.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a job is tried that cannot go on: over ten minutes.
const ATTEMPTS_MAX: u32 = 120;
/// How many servers in a row begin a job that gets nowhere: it may be what ends them.
const STARTS_MAX: u32 = 10;
const GIVEN_UP: &str = "The server could not go on with it";
/// Most jobs of one kind that an organization keeps, those that have not ended aside.
const JOBS_MAX: usize = 10_000;
/// How often schedules are looked at.
const TICK: Duration = Duration::from_secs(30);

/// A kind of job in the store.
pub(crate) trait Job: Entity {
    /// The statuses in which there is something to do, as its index key `status` has them.
    const UNFINISHED: &'static [&'static str];
    /// For how long it can be looked at.
    const KEPT: Duration;

    /// Notes that a server begins it, or goes on with it. Returns how many have since it last got on.
    fn begin(&mut self, now: Timestamp) -> u32;
}

/// The jobs of a kind, those that were asked for in a period if the caller names one.
pub(crate) async fn list_jobs<J: Job>(
    State(app): State<App>,
    seen: Seen<J>,
    uri: Uri,
) -> Result<Response, Failure> {
    let (query, start, end) = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        let query = ListQuery::read::<J>(fields);
        let start = fields.iso_time("dateCreatedStart");
        let end = fields.iso_time("dateCreatedEnd");
        Some((query, start, end))
    })?;
    let page = page_of::<J>(&app, seen.access.organization, &query, |stored| {
        let at = stored.created_at;
        start.is_none_or(|start| start <= at)
            && end.is_none_or(|end| at < end)
            && seen.sees(stored.id)
    })?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}

/// Does what this surface does by itself, until it is dropped. `now` is the server's clock.
pub async fn work(app: App, now: fn() -> Timestamp) {
    let busy = Mutex::<Busy>::default();
    tokio::join!(
        lane(&app, &busy, now),
        lane(&app, &busy, now),
        schedules(&app, now)
    );
}

/// What the lanes know of each other.
#[derive(Debug, Default)]
struct Busy {
    /// Those that a lane works for.
    organizations: HashSet<OrganizationId>,
    /// Whose turn it was last.
    served: Option<OrganizationId>,
    /// Jobs that are not done.
    tried: HashMap<Uuid, Tried>,
}

/// What this server did for a job.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    times: u32,
    /// Whether the job says that this server began it.
    is_counted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Upload(Uuid),
    Export(Uuid),
}

impl Task {
    fn id(self) -> Uuid {
        let (Self::Upload(id) | Self::Export(id)) = self;
        id
    }
}

/// Does a job as far as it can be done. One that cannot go on stays where it is, to be tried again; in the end it has
/// failed, so that those behind it have their turn.
async fn attempt(
    app: &App,
    busy: &Mutex<Busy>,
    organization: OrganizationId,
    task: Task,
    now: fn() -> Timestamp,
) -> Result<(), Fault> {
    let tried = {
        let mut busy = lock(busy);
        let tried = busy.tried.entry(task.id()).or_default();
        tried.times += 1;
        *tried
    };
    // Once the process has ended, nobody can count that it did.
    let starts = if tried.is_counted {
        Ok(0)
    } else {
        count_start(app, organization, task, now()).await
    };
    if let (Ok(_), Some(tried)) = (&starts, lock(busy).tried.get_mut(&task.id())) {
        tried.is_counted = true;
    }
    let done = match (starts, task) {
        (Err(fault), _) => Err(fault),
        (Ok(starts), _) if starts > STARTS_MAX => give_up(app, organization, task, now()).await,
        (Ok(_), Task::Upload(id)) => upload_work::run(app, organization, id, now).await,
        (Ok(_), Task::Export(id)) => export_work::run(app, organization, id, now).await,
    };
    if done.is_err() && tried.times < ATTEMPTS_MAX {
        return done;
    }
    lock(busy).tried.remove(&task.id());
    match done {
        Ok(()) => Ok(()),
        Err(fault) => give_up(app, organization, task, now())
            .await
            .and(Err(fault)),
    }
}

async fn count_start(
    app: &App,
    organization: OrganizationId,
    task: Task,
    now: Timestamp,
) -> Result<u32, Fault> {
    fn count<J: Job>(
        app: &App,
        organization: OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<u32, Fault> {
        app.write(organization, &Author::system(now), |writer| {
            let mut starts = 0;
            writer.update::<J>(id, |job| starts = job.begin(now))?;
            Ok(starts)
        })
    }
    app.blocking(move |app| match task {
        Task::Upload(id) => count::<UploadJob>(app, organization, id, now),
        Task::Export(id) => count::<ExportJob>(app, organization, id, now),
    })
    .await
}

async fn give_up(
    app: &App,
    organization: OrganizationId,
    task: Task,
    now: Timestamp,
) -> Result<(), Fault> {
    match task {
        Task::Upload(id) => upload_work::fail(app, organization, id, now).await,
        Task::Export(id) => export_work::fail(app, organization, id, GIVEN_UP, now).await,
    }
}

async fn lane(app: &App, busy: &Mutex<Busy>, now: fn() -> Timestamp) {
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
                let done = attempt(app, busy, organization, task, now).await;
                lock(busy).organizations.remove(&organization);
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

/// The oldest job of the next organization that none is done for; that organization is busy from then on. They take
/// turns, so that none waits for one that always has another job.
async fn take(app: &App, busy: &Mutex<Busy>) -> Result<Option<(OrganizationId, Task)>, Fault> {
    let all = app.blocking(|app| app.control.store().every_organization());
    let mut organizations = all.await?;
    let served = lock(busy).served;
    let served = (organizations.iter()).position(|one| Some(one.organization_id()) == served);
    organizations.rotate_left(served.map_or(0, |place| place + 1));
    for organization in organizations {
        let organization = organization.organization_id();
        if lock(busy).organizations.contains(&organization) {
            continue;
        }
        let upload = oldest::<UploadJob>(app, organization)?.map(|(at, id)| (at, Task::Upload(id)));
        let export = oldest::<ExportJob>(app, organization)?.map(|(at, id)| (at, Task::Export(id)));
        let oldest = upload.into_iter().chain(export).min_by_key(|(at, _)| *at);
        let mut busy = lock(busy);
        if let Some((_, task)) = oldest
            && busy.organizations.insert(organization)
        {
            busy.served = Some(organization);
            return Ok(Some((organization, task)));
        }
    }
    Ok(None)
}

/// With the time at which it was asked for.
fn oldest<J: Job>(
    app: &App,
    organization: OrganizationId,
) -> Result<Option<(Timestamp, Uuid)>, Fault> {
    let statuses: Vec<_> = J::UNFINISHED.iter().map(ToString::to_string).collect();
    let list = List {
        any_of: Some(("status", &statuses)),
        limit: 1,
        order: Order::OldestFirst,
        ..List::default()
    };
    let page = app.control.store().list::<J>(organization, &list)?;
    Ok(page
        .items
        .first()
        .map(|stored| (stored.created_at, stored.id)))
}

/// Removes jobs that have ended and are past their time or their number, the oldest first. Waits for the disk.
fn remove_old<J: Job>(
    app: &App,
    organization: OrganizationId,
    now: Timestamp,
) -> Result<(), Fault> {
    let store = app.control.store();
    let is_ended = |stored: &Stored<J>| {
        let keys = stored.document.index_keys();
        let is_unfinished = |status: &&str| keys.contains(&("status", (*status).to_owned()));
        !J::UNFINISHED.iter().any(is_unfinished)
    };
    loop {
        let excess = store
            .count::<J>(organization, &[])?
            .saturating_sub(JOBS_MAX);
        let list = List {
            order: Order::OldestFirst,
            ..List::default()
        };
        let oldest = store.list::<J>(organization, &list)?.items;
        let old: Vec<_> = (oldest.iter().enumerate())
            .filter(|(place, stored)| {
                let is_past = stored.created_at.saturating_add(J::KEPT) <= now;
                (is_past || *place < excess) && is_ended(stored)
            })
            .map(|(_, stored)| stored.id)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        app.write(organization, &Author::system(now), |writer| {
            old.into_iter()
                .try_for_each(|id| writer.delete::<J>(id).map(drop))
        })?;
    }
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
    for organization in app.control.store().every_organization()? {
        let organization = organization.organization_id();
        for done in [
            each(app, organization, now, scheduled_event::raise_due),
            each(app, organization, now, export_schedule::start_due),
            remove_old::<UploadJob>(app, organization, now),
            remove_old::<ExportJob>(app, organization, now),
        ] {
            // The other organizations must not wait for this one.
            if let Err(fault) = done {
                tracing::warn!(
                    %organization,
                    "schedules: {}",
                    fault.log_context().unwrap_or("failed")
                );
            }
        }
    }
    app.wake.notify_one();
    Ok(())
}

/// Does what is due of each configuration of a kind.
fn each<E: Entity>(
    app: &App,
    organization: OrganizationId,
    now: Timestamp,
    act: fn(&App, &Stored<E>, Timestamp) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let list = List {
        order: Order::OldestFirst,
        ..List::default()
    };
    for stored in every::<E>(app.control.store(), organization, list, |_| true)? {
        // The others must not wait for this one.
        if let Err(fault) = act(app, &stored, now) {
            tracing::warn!(
                %organization,
                id = %stored.id,
                "{}: {}",
                E::WORD,
                fault.log_context().unwrap_or("failed")
            );
        }
    }
    Ok(())
}

fn lock(busy: &Mutex<Busy>) -> MutexGuard<'_, Busy> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export_job::{ExportRequest, ExportStatus, SourceType};
    use crate::export_schedule::ExportSchedule;
    use crate::scheduled_event::ScheduledEvent;
    use crate::settings::M3terSettings;
    use meterd_control::{Control, Settings};
    use meterd_engine::Engine;
    use meterd_engine::testing::SimulatedDisk;
    use meterd_http::Core;
    use std::path::Path;
    use std::sync::Arc;

    const HOME: OrganizationId = OrganizationId(Uuid::from_u128(1));

    fn app(directory: &Path) -> App {
        let settings = Settings {
            documents: crate::documents(),
            ..Settings::default()
        };
        let control = Control::open(directory.join("control.sqlite"), settings).unwrap();
        let engine = Engine::open(
            Path::new("/engine"),
            meterd_engine::Settings::default(),
            Arc::new(SimulatedDisk::default()),
        );
        let core = Core::new(Arc::new(control), Arc::new(engine.unwrap()));
        App::new(core, M3terSettings::default())
    }

    fn export_job() -> ExportJob {
        let request = serde_json::json!({"exportFileFormat": "CSV"});
        let request: ExportRequest = serde_json::from_value(request).unwrap();
        ExportJob::new(SourceType::Operational, request, None, Timestamp::MIN)
    }

    fn new_export(app: &App) -> Task {
        let made = app.write(HOME, &Author::system(Timestamp::MIN), |writer| {
            writer.create(export_job())
        });
        Task::Export(made.unwrap().id)
    }

    /// A server that begins it, and whether it ends over it.
    async fn status_after(app: &App, task: Task, crashes: bool) -> ExportStatus {
        if crashes {
            count_start(app, HOME, task, Timestamp::MIN).await.unwrap();
        } else {
            let busy = Mutex::default();
            attempt(app, &busy, HOME, task, || Timestamp::MIN)
                .await
                .unwrap();
        }
        let job = app.control.store().get::<ExportJob>(HOME, task.id());
        job.unwrap().document.status
    }

    #[tokio::test]
    async fn a_job_that_ends_its_servers_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let app = app(directory.path());
        for (crashes, ends) in [
            (STARTS_MAX - 1, ExportStatus::Succeeded),
            (STARTS_MAX, ExportStatus::Failed),
        ] {
            let task = new_export(&app);
            for _ in 0..crashes {
                let status = status_after(&app, task, true).await;
                assert_eq!(status, ExportStatus::Running);
            }
            assert_eq!(status_after(&app, task, false).await, ends);
        }
    }

    #[tokio::test]
    async fn a_start_that_could_not_be_counted_is_counted_by_the_next_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let app = app(directory.path());
        let id = Uuid::from_u128(7);
        let busy = Mutex::default();
        let attempt = || attempt(&app, &busy, HOME, Task::Export(id), || Timestamp::MIN);
        // There is nothing yet to count it in.
        attempt().await.unwrap_err();
        let store = app.control.store();
        let made = store.write(&Author::system(Timestamp::MIN), |writes| {
            writes.create_as(HOME, id, export_job())
        });
        assert_eq!(made.unwrap().document.started_at, None);
        attempt().await.unwrap();
        let job = store.get::<ExportJob>(HOME, id).unwrap();
        assert_eq!(job.document.status, ExportStatus::Succeeded);
        assert!(job.document.started_at.is_some());
    }

    #[test]
    fn what_is_deleted_meanwhile_does_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let app = app(directory.path());
        let author = Author::system(Timestamp::MIN);
        let schedule = serde_json::json!({
            "name": "S", "code": "s", "sourceType": "OPERATIONAL", "scheduleType": "HOUR", "period": 1,
            "exportFileFormat": "CSV",
        });
        let event = serde_json::json!({"name": "e", "entity": "account", "field": "dtCreated", "offset": 1});
        let schedule: ExportSchedule = serde_json::from_value(schedule).unwrap();
        let event: ScheduledEvent = serde_json::from_value(event).unwrap();
        let (schedule, event) = app
            .write(HOME, &author, |writer| {
                Ok((writer.create(schedule)?, writer.create(event)?))
            })
            .unwrap();
        app.write(HOME, &author, |writer| {
            writer.delete::<ExportSchedule>(schedule.id)?;
            writer.delete::<ScheduledEvent>(event.id)
        })
        .unwrap();
        let now = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
        export_schedule::start_due(&app, &schedule, now).unwrap();
        scheduled_event::raise_due(&app, &event, now).unwrap();
        let store = app.control.store();
        assert_eq!(store.count::<ExportJob>(HOME, &[]).unwrap(), 0);
        for (name, id) in [
            ("export-schedule", schedule.id),
            ("scheduled-event", event.id),
        ] {
            let mark = format!("m3ter/{name}/{id}");
            assert_eq!(store.mark(HOME, &mark).unwrap(), None);
        }
    }
}
