//! Keeps the sealed part in order: seals what was set aside, merges what became many, drops what is too old. On threads
//! of its own, or when asked.

use crate::catalog::{Catalog, MaintenanceError};
use crate::compact::{expire, merge_once};
use crate::seal::seal;
use crate::settings::Settings;
use crate::state::State;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Keeper {
    state: Arc<State>,
    pub(crate) catalog: Catalog,
    settings: Settings,
    sealing: Mutex<()>,
    merging: Mutex<()>,
    failures: AtomicU64,
}

/// How much is sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedFigures {
    pub(crate) first_log: u64,
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) id_bytes: u64,
    /// Attempts to seal or merge that failed since the start.
    pub(crate) failures: u64,
}

/// How long an idle merger sleeps, at most.
const MERGE_PAUSE: Duration = Duration::from_secs(1);

impl Keeper {
    pub(crate) fn new(state: Arc<State>, catalog: Catalog, settings: Settings) -> Self {
        Self {
            state,
            catalog,
            settings,
            sealing: Mutex::new(()),
            merging: Mutex::new(()),
            failures: AtomicU64::new(0),
        }
    }

    /// Seals what is set aside, if anything is.
    pub(crate) fn seal(&self) -> Result<(), MaintenanceError> {
        let _one = self.sealing.lock();
        let sealed = seal(&self.state, &self.catalog);
        let lacks_space = sealed.as_ref().is_err_and(MaintenanceError::is_full);
        self.state.freezer.set_lacks_space(lacks_space);
        self.note(sealed)
    }

    pub(crate) fn merge(&self) -> Result<bool, MaintenanceError> {
        let _one = self.merging.lock();
        self.note(merge_once(&self.state, &self.catalog, &self.settings))
    }

    pub(crate) fn expire(
        &self,
        organization: OrganizationId,
        meter: MeterId,
        before: Timestamp,
    ) -> Result<u64, MaintenanceError> {
        self.note(expire(
            organization,
            meter,
            before,
            &self.state,
            &self.catalog,
        ))
    }

    pub(crate) fn keep_sealing(&self) {
        while self.state.freezer.wait(self.settings.repair_interval) {
            if self.seal().is_err() && !self.state.freezer.pause(self.settings.repair_interval) {
                return;
            }
        }
    }

    pub(crate) fn keep_merging(&self) {
        loop {
            // After a failure as after nothing to do: what failed is tried again.
            let merged = self.merge().unwrap_or(false);
            let pause = if merged { Duration::ZERO } else { MERGE_PAUSE };
            if !self.state.freezer.pause(pause) {
                return;
            }
        }
    }

    pub(crate) fn close(&self) {
        self.state.freezer.close();
    }

    pub(crate) fn figures(&self) -> SealedFigures {
        let failures = self.failures.load(Ordering::Relaxed);
        self.catalog.with_manifest(|manifest| {
            let segments = || {
                manifest
                    .organizations
                    .iter()
                    .flat_map(|meta| &meta.segments)
            };
            SealedFigures {
                first_log: manifest.first_log,
                segments: u64::try_from(segments().count()).unwrap_or(u64::MAX),
                segment_bytes: segments().map(|meta| meta.bytes).sum(),
                id_bytes: manifest.runs.iter().map(|meta| meta.bytes).sum(),
                failures,
            }
        })
    }

    fn note<T>(&self, result: Result<T, MaintenanceError>) -> Result<T, MaintenanceError> {
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}
