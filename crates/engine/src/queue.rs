//! What waits for the log, bounded in number and bytes.

use crate::batch::{Batch, Receipt, SubmitError, Void, VoidReceipt};
use crate::id_hash::Print;
use crate::probe::Probes;
use crate::runs::IdHash;
use crate::settings::Settings;
use crate::ticket::Answer;
use meterd_model::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One caller's wish.
#[derive(Debug)]
pub(crate) enum Request {
    Store {
        batch: Batch,
        /// Of the batch's measurements, computed where the caller waits rather than in the one writer.
        prints: Vec<Print>,
        probes: Probes,
        /// About how much memory it takes at most.
        bytes: u64,
        answer: Answer<Receipt>,
    },
    Void {
        void: Void,
        hashes: Vec<IdHash>,
        probes: Probes,
        bytes: u64,
        answer: Answer<VoidReceipt>,
    },
    /// Everything before it is to be sealed.
    Freeze { answer: Answer<()> },
}

impl Request {
    pub(crate) fn received(&self) -> Option<Timestamp> {
        match self {
            Self::Store { batch, .. } => Some(batch.received),
            Self::Void { void, .. } => Some(void.received),
            Self::Freeze { .. } => None,
        }
    }

    /// About how much memory it takes at most.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Store { bytes, .. } | Self::Void { bytes, .. } => *bytes,
            Self::Freeze { .. } => 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    max_batches: usize,
    max_bytes: usize,
    group_max_batches: usize,
    group_max_bytes: usize,
    group_max_wait: Duration,
    busy_retry_after: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<(Request, usize)>,
    bytes: usize,
    closed: bool,
}

/// What was found waiting.
#[derive(Debug)]
pub(crate) enum Taken {
    Group(Vec<Request>),
    /// Nothing came in time.
    Nothing,
    /// Nothing is left, and nothing will come.
    Closed,
}

/// How much waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) batches: usize,
    pub(crate) bytes: usize,
}

impl Queue {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            max_batches: settings.queue_max_batches,
            max_bytes: settings.queue_max_bytes,
            group_max_batches: settings.group_max_batches.max(1),
            group_max_bytes: settings.group_max_bytes.min(Settings::GROUP_BYTES_LIMIT),
            group_max_wait: settings.group_max_wait,
            busy_retry_after: settings.busy_retry_after,
        }
    }

    /// Whether a request would be taken now, before any work is put into it.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), SubmitError> {
        self.check(&self.waiting.lock(), bytes)
    }

    fn check(&self, waiting: &Waiting, bytes: usize) -> Result<(), SubmitError> {
        if bytes > self.group_max_bytes {
            return Err(SubmitError::TooLarge {
                max_bytes: self.group_max_bytes,
            });
        }
        if waiting.closed {
            return Err(SubmitError::Closed);
        }
        // A batch larger than the whole queue still gets through when nothing else waits.
        let full = waiting.requests.len() >= self.max_batches
            || (waiting.bytes.saturating_add(bytes) > self.max_bytes
                && !waiting.requests.is_empty());
        if full {
            return Err(SubmitError::Busy {
                retry_after: self.busy_retry_after,
            });
        }
        Ok(())
    }

    /// `bytes`: no less than what the request adds to the log. A freeze adds nothing, and whoever wants one is not one of
    /// many: it is taken however much waits.
    pub(crate) fn push(&self, request: Request, bytes: usize) -> Result<(), SubmitError> {
        let mut waiting = self.waiting.lock();
        if !matches!(request, Request::Freeze { .. }) {
            self.check(&waiting, bytes)?;
        } else if waiting.closed {
            return Err(SubmitError::Closed);
        }
        waiting.bytes += bytes;
        waiting.requests.push_back((request, bytes));
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for requests, at most so long, and takes as many as may be written together.
    pub(crate) fn take_group(&self, patience: Option<Duration>) -> Taken {
        let mut waiting = self.waiting.lock();
        let until = patience.map(|patience| Instant::now() + patience);
        while waiting.requests.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            match until {
                None => self.changed.wait(&mut waiting),
                Some(until) => {
                    if self.changed.wait_until(&mut waiting, until).timed_out() {
                        return Taken::Nothing;
                    }
                }
            }
        }
        self.wait_for_more(&mut waiting);
        let mut group = Vec::new();
        let mut group_bytes = 0;
        while group.len() < self.group_max_batches {
            let Some(bytes) = waiting.requests.front().map(|(_, bytes)| *bytes) else {
                break;
            };
            if !group.is_empty() && group_bytes + bytes > self.group_max_bytes {
                break;
            }
            let Some((request, _)) = waiting.requests.pop_front() else {
                break;
            };
            waiting.bytes -= bytes;
            group_bytes += bytes;
            let ends_group = matches!(request, Request::Freeze { .. });
            group.push(request);
            if ends_group {
                break;
            }
        }
        Taken::Group(group)
    }

    /// Lets others join the group, if that is wanted, until it is full or the wait is over.
    fn wait_for_more(&self, waiting: &mut MutexGuard<'_, Waiting>) {
        if self.group_max_wait.is_zero() {
            return;
        }
        let until = Instant::now() + self.group_max_wait;
        while waiting.requests.len() < self.group_max_batches
            && waiting.bytes < self.group_max_bytes
            && !waiting.closed
            && !self.changed.wait_until(waiting, until).timed_out()
        {}
    }

    /// Takes nothing more; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_all();
    }

    /// Drops what waits, whose callers thereby learn that it will not be done.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let dropped = std::mem::take(&mut waiting.requests);
        waiting.bytes = 0;
        drop(waiting);
        drop(dropped);
    }

    pub(crate) fn depth(&self) -> Depth {
        let waiting = self.waiting.lock();
        Depth {
            batches: waiting.requests.len(),
            bytes: waiting.bytes,
        }
    }
}
