//! Between the writer, which sets memories aside, and whoever seals them.

use crate::log::frame::FileNumber;
use meterd_model::OrganizationId;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Holds one freeze at a time.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    frozen: Mutex<Slot>,
    changed: Condvar,
    lacks_space: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    frozen: Option<Arc<Frozen>>,
    closed: bool,
}

/// Where the frozen memories end in the log.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// The first file that has nothing of them.
    pub(crate) first_log: FileNumber,
    /// The first sequence that is not theirs.
    pub(crate) next_sequence: u64,
    /// See [`crate::manifest::Manifest::marks`].
    pub(crate) marks: Vec<(i64, u64)>,
    /// See [`crate::manifest::OrganizationMeta::forgotten_below`]; of organizations that forget.
    pub(crate) forgotten_below: Vec<(OrganizationId, u64)>,
}

impl Freezer {
    /// Whether something is frozen and not sealed yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.frozen.lock().frozen.is_some()
    }

    pub(crate) fn hand_over(&self, frozen: Frozen) {
        self.frozen.lock().frozen = Some(Arc::new(frozen));
        self.changed.notify_all();
    }

    pub(crate) fn frozen(&self) -> Option<Arc<Frozen>> {
        self.frozen.lock().frozen.clone()
    }

    /// What was frozen is sealed.
    pub(crate) fn release(&self) {
        self.frozen.lock().frozen = None;
        self.changed.notify_all();
    }

    /// Waits until something is frozen, at most so long; `false` once it is closed.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let mut slot = self.frozen.lock();
        if slot.frozen.is_none() && !slot.closed {
            self.changed.wait_for(&mut slot, patience);
        }
        !slot.closed
    }

    /// Waits so long, or until it is closed; `false` once it is.
    pub(crate) fn pause(&self, patience: Duration) -> bool {
        let mut slot = self.frozen.lock();
        if !slot.closed {
            self.changed.wait_for(&mut slot, patience);
        }
        !slot.closed
    }

    pub(crate) fn close(&self) {
        self.frozen.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn set_lacks_space(&self, lacks: bool) {
        self.lacks_space.store(lacks, Ordering::Relaxed);
    }

    /// Whether the last attempt to seal found the disk full.
    pub(crate) fn lacks_space(&self) -> bool {
        self.lacks_space.load(Ordering::Relaxed)
    }
}
