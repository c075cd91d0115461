//! The engine: opening it, and everything one can ask of it.

use crate::batch::{Batch, Receipt, SubmitError, Void, VoidReceipt};
use crate::disk::{Disk, DiskLock, create_directories};
use crate::fingerprint::Fingerprint;
use crate::list::{ListPage, Listing, list};
use crate::log::frame::log_directory;
use crate::log::record::{RECORD_BYTES_MAX, measurement_bytes_max};
use crate::log::writer::LogWriter;
use crate::query::{Cancel, Query, QueryAnswer, QueryError, run};
use crate::queue::{Queue, Request};
use crate::recover::{OpenError, recover};
use crate::settings::Settings;
use crate::state::State;
use crate::ticket::{Answer, Ticket};
use crate::trace::{Trace, trace};
use crate::writer::{Counters, Writer};
use meterd_model::{FieldName, Measurement, MeasurementId, MeterId, OrganizationId, Timestamp};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// The measurements of one data directory. Shared freely between threads; closed when dropped.
#[derive(Debug)]
pub struct Engine {
    state: Arc<State>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    settings: Settings,
    torn_bytes: u64,
    writer: Mutex<Option<WriterThread>>,
}

/// The thread and the lock that must outlive it.
#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    lock: Box<dyn DiskLock>,
}

/// What a meter has, for whoever wants to change or delete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Measurements that count.
    pub measurements: u64,
    /// All versions ever stored, whether they count or not.
    pub versions: u64,
    /// Value fields that any version carried, sorted.
    pub values: Vec<FieldName>,
    /// Attributes that any version carried, sorted.
    pub attributes: Vec<FieldName>,
}

/// The engine's figures, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Measurements that count.
    pub measurements: u64,
    /// All versions held.
    pub versions: u64,
    pub organizations: u64,
    /// Distinct ids.
    pub ids: u64,
    pub log_bytes: u64,
    pub log_files: u64,
    /// Writes and syncs of the log that failed since the start.
    pub log_failures: u64,
    pub queue_batches: u64,
    pub queue_bytes: u64,
    /// Groups committed since the start.
    pub groups: u64,
    /// Batches and voids answered since the start.
    pub batches: u64,
    pub syncs: u64,
    /// Whether the log takes writes, as far as the last one or the last attempt at repair tells.
    pub writable: bool,
    /// Bytes that an interrupted write had left at the end of the log when it was opened. They were cut off and put
    /// beside the log, in `NUMBER.log.torn`.
    pub torn_bytes: u64,
}

impl Engine {
    /// Takes the directory's lock, reads the log back, cuts a torn tail, and starts the writer.
    pub fn open(
        directory: &Path,
        settings: Settings,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let failed = |what| move |source: io::Error| OpenError::Io { what, source };
        let log = log_directory(directory);
        create_directories(disk.as_ref(), &log).map_err(failed("create the data directory"))?;
        let lock = disk
            .lock(directory)
            .map_err(failed("lock the data directory"))?
            .ok_or(OpenError::Locked)?;
        let recovered = recover(disk.as_ref(), &log)?;
        let writer = LogWriter::resume(
            disk,
            directory,
            settings.durability,
            settings.log_file_max_bytes,
            recovered.end,
        )
        .map_err(failed("continue the log"))?;
        let state = Arc::new(recovered.state);
        let queue = Arc::new(Queue::new(&settings));
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            state: Arc::clone(&state),
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            log: writer,
            next_sequence: recovered.next_sequence,
            versions: recovered.versions,
            settings: settings.clone(),
        };
        writer.publish_counters();
        let thread = std::thread::Builder::new()
            .name("meterd-log".to_owned())
            .spawn(move || writer.run())
            .map_err(failed("start the writer"))?;
        Ok(Self {
            state,
            queue,
            counters,
            settings,
            torn_bytes: recovered.end.torn_bytes,
            writer: Mutex::new(Some(WriterThread { thread, lock })),
        })
    }

    /// Hands in a batch. The ticket's receipt comes once all that was accepted is durable and visible to queries.
    pub fn submit(&self, mut batch: Batch) -> Result<Ticket<Receipt>, SubmitError> {
        let rows = batch.measurements.iter().map(measurement_bytes_max);
        let bytes = RECORD_BYTES_MAX + rows.sum::<usize>();
        // Hashing is most of the work, and in vain if there is no room.
        self.queue.check_room(bytes)?;
        let mut scratch = Vec::new();
        let mut fingerprints = Vec::with_capacity(batch.measurements.len());
        batch.measurements = (batch.measurements.into_iter())
            .map(Measurement::in_order)
            .collect();
        for (index, measurement) in batch.measurements.iter().enumerate() {
            (measurement.check()).map_err(|error| SubmitError::Invalid { index, error })?;
            fingerprints.push(Fingerprint::of(measurement, &mut scratch));
        }
        let (answer, ticket) = Answer::pair();
        let request = Request::Store {
            batch,
            fingerprints,
            answer,
        };
        self.queue.push(request, bytes)?;
        Ok(ticket)
    }

    /// Withdraws measurements: they no longer count, but stay in the trace.
    pub fn void(
        &self,
        organization: OrganizationId,
        ids: Vec<MeasurementId>,
        received: Timestamp,
    ) -> Result<Ticket<VoidReceipt>, SubmitError> {
        const LENGTH_BYTES: usize = 8;
        let bytes: usize = ids.iter().map(|id| id.as_str().len() + LENGTH_BYTES).sum();
        let (answer, ticket) = Answer::pair();
        let void = Void {
            organization,
            received,
            ids,
        };
        self.queue
            .push(Request::Void { void, answer }, RECORD_BYTES_MAX + bytes)?;
        Ok(ticket)
    }

    /// Answers from one snapshot: of every batch all or nothing, and all that was acknowledged before the call.
    pub fn query(
        &self,
        organization: OrganizationId,
        query: &Query,
        cancel: &Cancel,
    ) -> Result<QueryAnswer, QueryError> {
        match self.state.organization(organization) {
            Some(organization) => run(&organization, query, &self.settings, cancel),
            None => query.check().map(|()| QueryAnswer::default()),
        }
    }

    /// A page of measurements that count, newest first.
    pub fn list(
        &self,
        organization: OrganizationId,
        listing: &Listing,
        cancel: &Cancel,
    ) -> Result<ListPage, QueryError> {
        match self.state.organization(organization) {
            Some(organization) => list(&organization, listing, &self.settings, cancel),
            None => Ok(ListPage::default()),
        }
    }

    /// What happened to an id, at most the newest `limit` versions, lowered to [`Settings::list_limit_max`]; `None`
    /// if it was never stored.
    pub fn trace(
        &self,
        organization: OrganizationId,
        id: &MeasurementId,
        limit: usize,
    ) -> Option<Trace> {
        let organization = self.state.organization(organization)?;
        let organization = organization.read();
        trace(&organization, id, limit.min(self.settings.list_limit_max))
    }

    pub fn meter_stats(&self, organization: OrganizationId, meter: MeterId) -> MeterStats {
        let Some(organization) = self.state.organization(organization) else {
            return MeterStats::default();
        };
        let organization = organization.read();
        organization
            .table(meter)
            .map_or_else(MeterStats::default, |table| MeterStats {
                measurements: table.current(),
                versions: table.rows(),
                values: sorted(table.value_names()),
                attributes: sorted(table.attribute_names()),
            })
    }

    /// Waits for no organization's lock.
    pub fn stats(&self) -> Stats {
        let depth = self.queue.depth();
        let counters = &self.counters;
        Stats {
            measurements: self.state.totals.measurements(),
            versions: counters.versions.load(Ordering::Relaxed),
            organizations: wide(self.state.len()),
            ids: self.state.totals.ids(),
            log_bytes: counters.log_bytes.load(Ordering::Relaxed),
            log_files: counters.log_files.load(Ordering::Relaxed),
            log_failures: counters.log_failures.load(Ordering::Relaxed),
            queue_batches: wide(depth.batches),
            queue_bytes: wide(depth.bytes),
            groups: counters.groups.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            writable: self.is_writable(),
            torn_bytes: self.torn_bytes,
        }
    }

    /// See [`Stats::writable`]; takes no lock.
    pub fn is_writable(&self) -> bool {
        self.counters.writable.load(Ordering::Relaxed)
    }

    /// Takes no more batches, finishes those that wait, and gives the directory back. Reads still answer.
    pub fn close(&self) {
        self.queue.close();
        let mut writer = self.writer.lock();
        if let Some(WriterThread { thread, lock }) = writer.take() {
            // A writer that panicked has told its callers already.
            let _ = thread.join();
            drop(lock);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn sorted(names: &[FieldName]) -> Vec<FieldName> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimulatedDisk;
    use std::sync::mpsc;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn figures_wait_for_nobody() {
        let disk = Arc::new(SimulatedDisk::new());
        let engine = Engine::open(Path::new("data"), Settings::default(), disk).unwrap();
        let id = OrganizationId(Uuid::from_u128(1));
        let organization = engine.state.organization_or_new(id);
        let held = organization.write();
        let (sender, stats) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(engine.stats()));
            let stats = stats.recv_timeout(Duration::from_secs(20));
            drop(held);
            assert_eq!(stats.map(|stats| stats.organizations), Ok(1));
        });
    }
}
