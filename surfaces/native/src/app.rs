//! What all handlers of the surface share.

use crate::credentials::KEYS;
use meterd_control::{Actor, Author, Credential, KeyRules, Meter, Stored};
use meterd_fault::{Fault, Kind};
use meterd_http::{Context, Core, EXPORTS_MAX, queries_max};
use meterd_model::{MeterId, OrganizationId};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore};

/// The parts of a server that the native surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    gates: Arc<Mutex<HashMap<OrganizationId, Arc<RwLock<()>>>>>,
    /// Each is a full copy, and may take hours.
    backup_slots: Arc<Semaphore>,
    /// Whose keys can be made and changed here.
    pub(crate) keys: &'static [KeyRules],
}

const BACKUPS_MAX: usize = 1;

/// Blocking threads that may be taken for seconds by queries, or for hours by exports and backups; a runtime needs
/// others beside them.
pub fn long_work_threads() -> usize {
    queries_max() + EXPORTS_MAX + BACKUPS_MAX
}

impl Deref for App {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl App {
    pub fn new(core: Core) -> Self {
        Self {
            core,
            gates: Arc::default(),
            backup_slots: Arc::new(Semaphore::new(BACKUPS_MAX)),
            keys: &[KEYS],
        }
    }

    /// With these surfaces' keys to be made and changed.
    #[must_use]
    pub fn with_keys(self, keys: &'static [KeyRules]) -> Self {
        Self { keys, ..self }
    }

    /// An organization's gate between its meters and its measurements. Held for reading while measurements go in, for
    /// writing while a meter changes or goes: so no measurement is stored for a field or a meter that has just been
    /// taken away. Whoever holds it must hold it until the work is done, also when the client goes away.
    pub(crate) fn gate(&self, organization: OrganizationId) -> Arc<RwLock<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(organization).or_default())
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
        meterd_http::blocking(move || work(&app)).await
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

/// The engine's name for a meter.
pub(crate) fn meter_id(meter: &Stored<Meter>) -> MeterId {
    MeterId(meter.id)
}

/// The caller as author of a change.
pub(crate) fn author(credential: &Credential, context: &Context) -> Author {
    Author::new(Actor::Credential(credential.id), context.now)
}
