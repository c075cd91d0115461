//! Keeps the sealed part in order: seals what was set aside, merges what became many, drops what is too old. On threads
//! of its own, or when asked.

use crate::SubmitError;
use crate::catalog::{Catalog, MaintenanceError};
use crate::compact::{History, expire, merge_once};
use crate::seal::seal;
use crate::settings::Settings;
use crate::state::State;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Keeper {
    state: Arc<State>,
    pub(crate) catalog: Catalog,
    settings: Settings,
    sealing: Mutex<()>,
    merging: Mutex<History>,
    failures: AtomicU64,
    settled: AtomicBool,
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
    /// Whether nothing is left to merge, though nothing was sealed for a while.
    pub(crate) settled: bool,
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
            merging: Mutex::default(),
            failures: AtomicU64::new(0),
            settled: AtomicBool::new(false),
        }
    }

    /// Seals what is set aside, if anything is.
    pub(crate) fn seal(&self) -> Result<(), MaintenanceError> {
        let _one = self.sealing.lock();
        self.attempt(|| {
            let sealed = seal(&self.state, &self.catalog);
            let lacks_space = sealed.as_ref().is_err_and(MaintenanceError::is_full);
            self.state.freezer.set_lacks_space(lacks_space);
            sealed
        })
    }

    pub(crate) fn merge(&self) -> Result<bool, MaintenanceError> {
        let mut history = self.merging.lock();
        let merged =
            self.attempt(|| merge_once(&self.state, &self.catalog, &self.settings, &mut history));
        let settled = history.is_quiet() && matches!(merged, Ok(false));
        self.settled.store(settled, Ordering::Relaxed);
        merged
    }

    pub(crate) fn expire(
        &self,
        organization: OrganizationId,
        meter: MeterId,
        before: Timestamp,
    ) -> Result<u64, MaintenanceError> {
        self.attempt(|| expire(organization, meter, before, &self.state, &self.catalog))
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
            // After a failure as after nothing to do: others may be due, and in time what failed.
            let merged = self.merge().unwrap_or(false);
            let pause = if merged { Duration::ZERO } else { MERGE_PAUSE };
            if !self.state.freezer.pause(pause) {
                return;
            }
        }
    }

    /// Breaks off what is being sealed or merged, and waits until nobody writes any more.
    pub(crate) fn close(&self) {
        self.catalog.stop();
        self.state.freezer.close();
        drop(self.sealing.lock());
        drop(self.merging.lock());
        self.catalog.close();
    }

    pub(crate) fn figures(&self) -> SealedFigures {
        let failures = self.failures.load(Ordering::Relaxed);
        let settled = self.settled.load(Ordering::Relaxed);
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
                settled,
            }
        })
    }

    /// Counts a failure, also if it is a panic: the next attempt may do better, and a thread that just ended would tell
    /// nobody. What a close broke off has not failed.
    fn attempt<T>(
        &self,
        work: impl FnOnce() -> Result<T, MaintenanceError>,
    ) -> Result<T, MaintenanceError> {
        let is_closed = || self.catalog.check_open().is_err();
        if is_closed() {
            return Err(SubmitError::Closed.into());
        }
        let done = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(MaintenanceError::Damaged("it panicked".to_owned())));
        match done {
            Err(error) if error.is_interrupted() && is_closed() => Err(SubmitError::Closed.into()),
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::id_hash::IdHasher;
    use crate::manifest::Manifest;
    use crate::testing::SimulatedDisk;
    use std::io;
    use std::path::Path;

    fn keeper() -> Keeper {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        let empty = Manifest {
            next_sequence: 1,
            ..Manifest::default()
        };
        let catalog = Catalog::new(&disk, Path::new("data"), empty, 1);
        let state = State::new(IdHasher::new([0; 32]), Vec::new(), 0);
        Keeper::new(Arc::new(state), catalog, Settings::default())
    }

    #[test]
    fn a_panic_is_a_failure_that_is_told() {
        let keeper = keeper();
        let done = keeper.attempt::<()>(|| panic!("a mistake in the code"));
        assert!(matches!(done, Err(MaintenanceError::Damaged(_))));
        assert_eq!(keeper.figures().failures, 1);
        assert_eq!(keeper.attempt(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn what_a_close_breaks_off_has_not_failed() {
        let keeper = keeper();
        let work = || {
            keeper.catalog.check_open()?;
            keeper.catalog.stop();
            keeper.catalog.check_open()
        };
        let done = keeper.attempt(|| work().map_err(MaintenanceError::io("merge")));
        let is_closed = |done: &Result<(), MaintenanceError>| {
            matches!(done, Err(MaintenanceError::Refused(SubmitError::Closed)))
        };
        assert!(is_closed(&done));
        assert!(is_closed(&keeper.attempt(|| Ok(()))));
        assert_eq!(keeper.figures().failures, 0);
        keeper.close();
        let late = keeper
            .catalog
            .commit(keeper.catalog.draft(), |_| Some(Vec::new()), || ());
        assert!(is_closed(&late.map(drop)));
    }

    #[test]
    fn an_interruption_by_the_system_is_a_failure() {
        let keeper = keeper();
        let interrupted = || {
            Err(MaintenanceError::io("read")(
                io::ErrorKind::Interrupted.into(),
            ))
        };
        assert!(keeper.attempt::<()>(interrupted).is_err());
        assert_eq!(keeper.figures().failures, 1);
    }

    #[test]
    fn after_a_panic_in_the_middle_of_a_switch_there_is_no_other() {
        let keeper = keeper();
        let directory = Path::new("data");
        keeper.catalog.disk.create_directory(directory).unwrap();
        let switch = |install: fn()| {
            let catalog = &keeper.catalog;
            let edit = |manifest: &mut Manifest| {
                manifest.first_log += 1;
                Some(Vec::new())
            };
            keeper.attempt(|| catalog.commit(catalog.draft(), edit, install))
        };
        assert!(switch(|| ()).unwrap());
        assert!(switch(|| panic!("a mistake in the code")).is_err());
        assert!(switch(|| ()).is_err());
        assert_eq!(keeper.figures().failures, 2);
    }
}
