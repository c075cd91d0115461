//! What all handlers of the surface share.

use crate::access::KEYS;
use meterd_control::{Actor, Author, Credential, KeyRules, Meter, Stored};
use meterd_fault::{Fault, Kind};
use meterd_http::{Context, Core, EXPORTS_MAX, queries_max};
use meterd_model::{MeterId, OrganizationId};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The parts of a server that the native surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
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
            backup_slots: Arc::new(Semaphore::new(BACKUPS_MAX)),
            keys: &[KEYS],
        }
    }

    /// With these surfaces' keys to be made and changed.
    #[must_use]
    pub fn with_keys(self, keys: &'static [KeyRules]) -> Self {
        Self { keys, ..self }
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
