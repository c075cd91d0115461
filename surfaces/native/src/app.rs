//! What all handlers of the surface share.

use meterd_control::{Actor, Author, Control, Credential, Meter, Stored};
use meterd_engine::Engine;
use meterd_fault::{Fault, Kind};
use meterd_http::Context;
use meterd_model::{MeterId, OrganizationId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore};

/// The parts of a server that the native surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    pub control: Arc<Control>,
    pub engine: Arc<Engine>,
    tenants: Arc<Mutex<HashMap<OrganizationId, Tenant>>>,
    /// One for each query that may run at a time: queries hold memory for their groups.
    query_slots: Arc<Semaphore>,
    /// One for each export that may run at a time. They wait for their clients, so that no query waits for them.
    export_slots: Arc<Semaphore>,
    /// Each is a full copy, and may take hours.
    backup_slots: Arc<Semaphore>,
}

/// What each organization has of its own.
#[derive(Clone, Debug)]
struct Tenant {
    gate: Arc<RwLock<()>>,
    /// Its share of the server's.
    export_slots: Arc<Semaphore>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            gate: Arc::default(),
            export_slots: Arc::new(Semaphore::new(EXPORTS_MAX / 2)),
        }
    }
}

/// Each holds a thread for as long as its client reads.
const EXPORTS_MAX: usize = 4;
const BACKUPS_MAX: usize = 1;
/// Blocking threads that may be taken for minutes or hours; a runtime needs others beside them.
pub const LONG_WORK_THREADS: usize = EXPORTS_MAX + BACKUPS_MAX;

/// Longest wait of a query for others to end.
const QUERY_WAIT_MAX: Duration = Duration::from_secs(5);

impl App {
    pub fn new(control: Arc<Control>, engine: Arc<Engine>) -> Self {
        Self {
            control,
            engine,
            tenants: Arc::default(),
            query_slots: Arc::new(Semaphore::new(2 * processors())),
            export_slots: Arc::new(Semaphore::new(EXPORTS_MAX)),
            backup_slots: Arc::new(Semaphore::new(BACKUPS_MAX)),
        }
    }

    /// An organization's gate between its meters and its measurements. Held for reading while measurements go in, for
    /// writing while a meter changes or goes: so no measurement is stored for a field or a meter that has just been
    /// taken away. Whoever holds it must hold it until the work is done, also when the client goes away.
    pub(crate) fn gate(&self, organization: OrganizationId) -> Arc<RwLock<()>> {
        self.tenant(organization).gate
    }

    fn tenant(&self, organization: OrganizationId) -> Tenant {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(organization).or_default().clone()
    }

    /// Leave to run a query, or `overloaded` if others take too long.
    pub(crate) async fn query_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        slot_of(&self.query_slots).await
    }

    /// Leave to run an export, or `overloaded` if others take too long. One organization gets half of the places.
    pub(crate) async fn export_slot(
        &self,
        organization: OrganizationId,
    ) -> Result<[OwnedSemaphorePermit; 2], Fault> {
        let own = slot_of(&self.tenant(organization).export_slots).await?;
        Ok([own, slot_of(&self.export_slots).await?])
    }

    /// Leave to make a backup, or `overloaded` while another is made.
    pub(crate) fn backup_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        const AGAIN: Duration = Duration::from_mins(1);
        let slot = Arc::clone(&self.backup_slots).try_acquire_owned();
        slot.map_err(|_| {
            Fault::new(Kind::Overloaded { retry_after: AGAIN })
                .with_context("another backup is being made")
        })
    }

    /// Runs work that may wait for a disk, away from the threads that serve connections.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let app = self.clone();
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(result) => result,
            Err(error) => Err(Fault::internal(error)),
        }
    }

    pub(crate) fn meter_by_name(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Arc<Stored<Meter>>, Fault> {
        self.control
            .store()
            .get_by_key::<Meter>(organization, "name", name)
    }

    pub(crate) fn find_meter(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Option<Arc<Stored<Meter>>>, Fault> {
        self.control
            .store()
            .find_by_key::<Meter>(organization, "name", name)
    }
}

async fn slot_of(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    let slot = Arc::clone(slots).acquire_owned();
    match tokio::time::timeout(QUERY_WAIT_MAX, slot).await {
        Ok(slot) => slot.map_err(Fault::internal),
        Err(_) => Err(Kind::Overloaded {
            retry_after: QUERY_WAIT_MAX,
        }
        .into()),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The engine's name for a meter.
pub(crate) fn meter_id(meter: &Stored<Meter>) -> MeterId {
    MeterId(meter.id)
}

/// The caller as author of a change.
pub(crate) fn author(credential: &Credential, context: &Context) -> Author {
    Author::new(Actor::Credential(credential.id), context.now)
}
