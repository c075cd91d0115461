//! The engine: opening it, and everything one can ask of it.

use crate::backup::{BackupReport, backup};
use crate::batch::{Batch, Receipt, SubmitError, Void, VoidReceipt};
use crate::catalog::{Catalog, MaintenanceError, path_of, runs_directory, segments_directory};
use crate::disk::{Disk, DiskLock, create_directories};
use crate::export::export;
use crate::id_hash::{IdHasher, Print};
use crate::keeper::Keeper;
use crate::list::{ListPage, Listing, list};
use crate::log::frame::log_directory;
use crate::log::record::{RECORD_BYTES_MAX, measurement_bytes_max};
use crate::log::writer::LogWriter;
use crate::manifest::{Manifest, WriteError};
use crate::memory::EVENT_BYTES_MAX;
use crate::partition::{Month, Partitions};
use crate::probe::Probes;
use crate::query::{Cancel, Query, QueryAnswer, QueryError, run};
use crate::queue::{Queue, Request};
use crate::recover::{OpenError, recover};
use crate::runs::RunMeta;
use crate::segment::SegmentMeta;
use crate::settings::{Sealing, Settings};
use crate::state::State;
use crate::table::Table;
use crate::ticket::{Answer, Ticket};
use crate::trace::{Trace, trace};
use crate::wide;
use crate::writer::{Counters, Writer};
use meterd_model::{FieldName, Measurement, MeasurementId, MeterId, OrganizationId, Timestamp};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// The measurements of one data directory. Shared freely between threads; closed when dropped.
#[derive(Debug)]
pub struct Engine {
    state: Arc<State>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    keeper: Arc<Keeper>,
    settings: Settings,
    torn_bytes: u64,
    threads: Mutex<Option<Threads>>,
    received_before: Option<Timestamp>,
}

/// The threads and the lock that must outlive them.
#[derive(Debug)]
struct Threads {
    threads: Vec<JoinHandle<()>>,
    lock: Box<dyn DiskLock>,
}

/// A batch that is checked and hashed.
#[derive(Debug)]
pub struct PreparedBatch {
    batch: Batch,
    prints: Vec<Print>,
    /// `None` if the disk has to be asked for them.
    probes: Option<Probes>,
    bytes: usize,
}

impl PreparedBatch {
    /// Whether ids of it seem to be sealed, so that handing it in waits for the disk.
    pub fn needs_disk(&self) -> bool {
        self.probes.is_none()
    }
}

impl Threads {
    fn start(writer: Writer, keeper: &Arc<Keeper>, lock: Box<dyn DiskLock>) -> io::Result<Self> {
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)?;
            threads.push(thread);
            Ok::<_, io::Error>(())
        };
        if writer.settings.sealing == Sealing::Background {
            let sealer = Arc::clone(keeper);
            start("meterd-seal", Box::new(move || sealer.keep_sealing()))?;
            let merger = Arc::clone(keeper);
            start("meterd-merge", Box::new(move || merger.keep_merging()))?;
        }
        start("meterd-log", Box::new(move || writer.run()))?;
        Ok(Self { threads, lock })
    }
}

/// What a meter has, for whoever wants to change or delete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Measurements that count.
    pub measurements: u64,
    /// All versions held, whether they count or not. Those of dropped months are not.
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
    /// Distinct ids seen. One that is forgotten stays among them, and may be seen again.
    pub ids: u64,
    /// Written since the start, and found then.
    pub log_bytes: u64,
    pub log_files: u64,
    pub segments: u64,
    pub segment_bytes: u64,
    pub id_bytes: u64,
    /// Of the filters of sealed ids and what leads to them.
    pub id_memory_bytes: u64,
    /// Of what segments have answered, kept for the next query.
    pub answer_bytes: u64,
    /// Segments that a query did not have to read, since they had answered it before, since the start.
    pub answers_found: u64,
    /// Those that it had to read, though their answer could have been kept.
    pub answers_missed: u64,
    /// Attempts to seal, merge or drop that failed since the start.
    pub maintenance_failures: u64,
    /// Whether nothing is left to merge, though nothing was sealed for about a minute.
    pub settled: bool,
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
    /// Takes the directory's lock, reads back what is sealed and the log after it, cuts a torn tail, and starts the
    /// threads.
    pub fn open(
        directory: &Path,
        settings: Settings,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let failed = |what| move |source: io::Error| OpenError::Io { what, source };
        let log = log_directory(directory);
        let create = |path: &Path| {
            create_directories(disk.as_ref(), path).map_err(failed("create the data directory"))
        };
        create(&log)?;
        let lock = disk
            .lock(directory)
            .map_err(failed("lock the data directory"))?
            .ok_or(OpenError::Locked)?;
        create(&runs_directory(directory))?;
        let (catalog, state) = open_sealed(&disk, directory, &settings)?;
        let manifest = catalog.manifest();
        let recovered = recover(disk.as_ref(), &log, &manifest, &state)?;
        let received_before = recovered.marks.latest();
        let log_writer = LogWriter::resume(
            disk,
            directory,
            settings.durability,
            settings.log_file_max_bytes,
            recovered.end,
        )
        .map_err(failed("continue the log"))?;
        (catalog.remove_strays()).map_err(failed("remove what a crash left"))?;
        let state = Arc::new(state);
        let queue = Arc::new(Queue::new(&settings));
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            state: Arc::clone(&state),
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            log: log_writer,
            next_sequence: recovered.next_sequence,
            recent_rows: recovered.rows,
            recent_bytes: recovered.bytes,
            recent_partitions: recovered.partitions,
            frozen_bytes: 0,
            crowded: Cell::new(false),
            marks: recovered.marks,
            settings: settings.clone(),
        };
        writer.publish_counters();
        let keeper = Arc::new(Keeper::new(Arc::clone(&state), catalog, settings.clone()));
        let threads = Threads::start(writer, &keeper, lock).map_err(failed("start a thread"))?;
        Ok(Self {
            state,
            queue,
            counters,
            keeper,
            settings,
            torn_bytes: recovered.end.torn_bytes,
            threads: Mutex::new(Some(threads)),
            received_before,
        })
    }

    /// Hands in a batch. The ticket's receipt comes once all that was accepted is durable and visible to queries. Reads
    /// the disk for ids that seem to be sealed; who may not wait for that uses [`Engine::prepare`].
    pub fn submit(&self, batch: Batch) -> Result<Ticket<Receipt>, SubmitError> {
        self.submit_prepared(self.prepare(batch)?)
    }

    /// The part of [`Engine::submit`] that waits for nothing.
    pub fn prepare(&self, mut batch: Batch) -> Result<PreparedBatch, SubmitError> {
        let rows = batch.measurements.iter().map(measurement_bytes_max);
        let bytes = RECORD_BYTES_MAX + rows.sum::<usize>();
        // Hashing is most of the work, and in vain if there is no room.
        self.queue.check_room(bytes)?;
        let mut scratch = Vec::new();
        let mut prints = Vec::with_capacity(batch.measurements.len());
        let mut partitions = Partitions::default();
        batch.measurements = (batch.measurements.into_iter())
            .map(Measurement::in_order)
            .collect();
        for (index, measurement) in batch.measurements.iter().enumerate() {
            (measurement.check()).map_err(|error| SubmitError::Invalid { index, error })?;
            let hasher = &self.state.hasher;
            prints.push(hasher.print(batch.organization, measurement, &mut scratch));
            partitions.note(measurement.meter, measurement.time);
        }
        let max = self.settings.batch_partitions_max;
        if partitions.len() > max {
            return Err(SubmitError::TooManyMonths { max });
        }
        let ids = prints.iter().map(|print| print.hash);
        let probes = Probes::look_up_in_memory(&self.state.runs(), batch.organization, ids);
        Ok(PreparedBatch {
            batch,
            prints,
            probes,
            bytes,
        })
    }

    /// The rest of [`Engine::submit`]; reads the disk if [`PreparedBatch::needs_disk`].
    pub fn submit_prepared(&self, prepared: PreparedBatch) -> Result<Ticket<Receipt>, SubmitError> {
        let PreparedBatch {
            batch,
            prints,
            probes,
            bytes,
        } = prepared;
        let probes = match probes {
            Some(probes) => probes,
            None => {
                let ids = prints.iter().map(|print| print.hash);
                Probes::look_up(&self.state.runs(), batch.organization, ids)
                    .map_err(|_| SubmitError::Unavailable)?
            }
        };
        let (answer, ticket) = Answer::pair();
        let request = Request::Store {
            bytes: wide(bytes) + wide(prints.len()) * EVENT_BYTES_MAX,
            batch,
            prints,
            probes,
            answer,
        };
        self.queue.push(request, bytes)?;
        Ok(ticket)
    }

    /// Withdraws measurements: they no longer count, but stay in the trace. Reads the disk for ids that seem to be sealed.
    pub fn void(
        &self,
        organization: OrganizationId,
        ids: Vec<MeasurementId>,
        received: Timestamp,
    ) -> Result<Ticket<VoidReceipt>, SubmitError> {
        const LENGTH_BYTES: usize = 8;
        let lengths = ids.iter().map(|id| id.as_str().len() + LENGTH_BYTES);
        let bytes = RECORD_BYTES_MAX + lengths.sum::<usize>();
        self.queue.check_room(bytes)?;
        let hasher = &self.state.hasher;
        let id_hashes: Vec<_> = (ids.iter())
            .map(|id| hasher.hash(organization, id.as_str()))
            .collect();
        let probes = Probes::look_up(&self.state.runs(), organization, id_hashes.iter().copied())
            .map_err(|_| SubmitError::Unavailable)?;
        let (answer, ticket) = Answer::pair();
        let request = Request::Void {
            void: Void {
                organization,
                received,
                ids,
            },
            bytes: wide(bytes) + wide(id_hashes.len()) * EVENT_BYTES_MAX,
            hashes: id_hashes,
            probes,
            answer,
        };
        self.queue.push(request, bytes)?;
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
            Some(organization) => {
                let answers = &self.state.answers;
                run(&organization, query, &self.settings, answers, cancel)
            }
            None => query.check().map(|()| QueryAnswer::default()),
        }
    }

    /// A page of measurements that count.
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
        cancel: &Cancel,
    ) -> Result<Option<Trace>, QueryError> {
        let limit = limit.min(self.settings.list_limit_max);
        trace(&self.state, organization, id, limit, cancel)
    }

    pub fn meter_stats(&self, organization: OrganizationId, meter: MeterId) -> MeterStats {
        let Some(organization) = self.state.organization(organization) else {
            return MeterStats::default();
        };
        let organization = organization.read();
        let tables: Vec<_> = organization.tables(meter).collect();
        let segments = organization.sealed.segments(meter);
        let metas: Vec<_> = segments.iter().map(|segment| segment.meta()).collect();
        let in_memory: u64 = tables.iter().map(|table| table.rows()).sum();
        let names = |of_table: fn(&Table) -> &[FieldName],
                     of_meta: fn(&SegmentMeta) -> &[FieldName]| {
            let tables = tables.iter().flat_map(|table| of_table(table));
            let metas = metas.iter().flat_map(|meta| of_meta(meta));
            let all: BTreeSet<_> = tables.chain(metas).cloned().collect();
            all.into_iter().collect()
        };
        MeterStats {
            measurements: organization.current(meter),
            versions: in_memory + metas.iter().map(|meta| meta.versions()).sum::<u64>(),
            values: names(Table::value_names, |meta| &meta.values),
            attributes: names(Table::attribute_names, |meta| &meta.attributes),
        }
    }

    /// Writes all that was acknowledged so far to segments, whatever [`Settings::sealing`] says.
    pub fn seal(&self) -> Result<(), MaintenanceError> {
        loop {
            // What was set aside before goes first.
            self.keeper.seal()?;
            let (answer, ticket) = Answer::pair();
            self.queue.push(Request::Freeze { answer }, 0)?;
            match ticket.wait() {
                Ok(()) => return self.keeper.seal(),
                // Another freeze came in between.
                Err(SubmitError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// From now on the organization remembers ids for so long after they were received, and up to an hour more; `None`:
    /// for ever. An id that comes again after that is another measurement, beside the one that it was, and cannot be
    /// voided or traced by the old one.
    ///
    /// Not written down: whoever opens the engine says it again for each organization, before anything is submitted;
    /// otherwise ids are remembered for longer, and no others are forgotten. What sealing has once forgotten is written
    /// down, and stays so when the window becomes longer or is taken away. Cheap, and may be said at any time.
    pub fn set_id_window(&self, organization: OrganizationId, window: Option<Duration>) {
        self.state.set_id_window(organization, window);
    }

    /// Merges ids, or segments of some partitions, if any are due; `false` if none are. What failed lately is not due for
    /// a while, counted in calls.
    pub fn merge(&self) -> Result<bool, MaintenanceError> {
        self.keeper.merge()
    }

    /// Drops the months of a meter that ended by `before`, also what of them is still in memory. Their ids stay known.
    /// Answers how many versions and voids that were.
    pub fn expire(
        &self,
        organization: OrganizationId,
        meter: MeterId,
        before: Timestamp,
    ) -> Result<u64, MaintenanceError> {
        // Only what is sealed can be dropped; a meter with few measurements would never be sealed by itself. One seal
        // is for all meters, so that the next of them needs none.
        let sealed = if self.holds_before(organization, meter, before) {
            self.seal()
        } else {
            Ok(())
        };
        // A disk that is too full for a seal is one that has to be freed.
        let dropped = self.keeper.expire(organization, meter, before)?;
        sealed.map(|()| dropped)
    }

    /// The latest time at which a measurement is known to have been received before the engine was opened, to within an
    /// hour; `None` if none ever was. What the clock says now had no part in it.
    pub fn received_before_opening(&self) -> Option<Timestamp> {
        self.received_before
    }

    /// Whether memory has measurements of months that ended by `before`.
    fn holds_before(
        &self,
        organization: OrganizationId,
        meter: MeterId,
        before: Timestamp,
    ) -> bool {
        let Some(organization) = self.state.organization(organization) else {
            return false;
        };
        let organization = organization.read();
        let chunks = organization.tables(meter).flat_map(Table::chunks);
        let mut oldest = chunks.filter_map(|chunk| Timestamp::from_micros(chunk.rows.time_min));
        oldest.any(|time| Month::of(time).end_micros() <= before.micros())
    }

    /// Copies all that was acknowledged before the call, and maybe some that came later, to a directory that is new
    /// or empty, while the engine goes on. The copy is a data directory of its own; [`crate::restore`] copies it back,
    /// and checks it. What a failed attempt leaves there has no manifest, and is no backup.
    pub fn backup(&self, destination: &Path) -> Result<BackupReport, MaintenanceError> {
        self.seal()?;
        backup(destination, &self.state, &self.keeper.catalog)
    }

    /// Hands out every measurement of a meter that counts and whose time is in `[from, to)`, in no order, until `take`
    /// breaks off: from one snapshot, with all that was acknowledged before the call.
    pub fn export(
        &self,
        organization: OrganizationId,
        meter: MeterId,
        from: Timestamp,
        to: Timestamp,
        cancel: &Cancel,
        take: &mut dyn FnMut(&Measurement) -> ControlFlow<()>,
    ) -> Result<(), QueryError> {
        match self.state.organization(organization) {
            Some(organization) => {
                let times = from.micros()..to.micros();
                export(&organization, meter, &times, cancel, take)
            }
            None => Ok(()),
        }
    }

    /// Waits for no organization's lock.
    pub fn stats(&self) -> Stats {
        let depth = self.queue.depth();
        let counters = &self.counters;
        let sealed = self.keeper.figures();
        let answers = self.state.answers.figures();
        Stats {
            measurements: self.state.totals.measurements(),
            versions: self.state.totals.versions(),
            organizations: wide(self.state.len()),
            ids: self.state.totals.ids(),
            log_bytes: counters.log_bytes.load(Ordering::Relaxed),
            log_files: (counters.last_log_file.load(Ordering::Relaxed) + 1)
                .saturating_sub(sealed.first_log),
            segments: sealed.segments,
            segment_bytes: sealed.segment_bytes,
            id_bytes: sealed.id_bytes,
            id_memory_bytes: self.state.runs().memory_bytes(),
            answer_bytes: wide(answers.bytes),
            answers_found: answers.found,
            answers_missed: answers.missed,
            maintenance_failures: sealed.failures,
            settled: sealed.settled,
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

    /// Takes no more batches, finishes those that wait, breaks off seals and merges, and gives the directory back. Reads
    /// still answer.
    pub fn close(&self) {
        self.queue.close();
        self.keeper.close();
        if let Some(threads) = self.threads.lock().take() {
            for thread in threads.threads {
                // A writer that panicked has told its callers already.
                let _ = thread.join();
            }
            drop(threads.lock);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the manifest names, all of it opened.
fn open_sealed(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    settings: &Settings,
) -> Result<(Catalog, State), OpenError> {
    let damaged = |file: &str| {
        let file = file.to_owned();
        move |fault: &dyn std::fmt::Display| OpenError::Sealed {
            file,
            fault: fault.to_string(),
        }
    };
    let manifest = match Manifest::read(disk.as_ref(), directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let is_new = is_empty(disk.as_ref(), directory).map_err(|source| OpenError::Io {
                what: "list the data directory",
                source,
            })?;
            if !is_new {
                return Err(damaged("manifest")(&"it is missing"));
            }
            new_manifest(disk, directory, settings)?
        }
        Err(error) => return Err(damaged("manifest")(&error)),
    };
    let catalog = Catalog::new(disk, directory, manifest, settings.open_segments_max);
    let manifest = catalog.manifest();
    let mut runs = Vec::with_capacity(manifest.runs.len());
    for meta in &manifest.runs {
        let name = RunMeta::file_name(meta.number);
        runs.push(
            catalog
                .open_run(meta)
                .map_err(|error| damaged(&name)(&error))?,
        );
    }
    let hasher = IdHasher::new(manifest.hash_key);
    let state = State::new(hasher, runs, settings.query_cache_bytes);
    for meta in &manifest.organizations {
        let organization = state.organization_or_new(meta.organization);
        let mut organization = organization.write();
        organization.ids = meta.ids;
        for segment in &meta.segments {
            let name = path_of(segment).relative().display().to_string();
            let opened = catalog.open_segment(segment.clone());
            organization
                .sealed
                .add(opened.map_err(|error| damaged(&name)(&error))?);
        }
        for (partition, rows) in &meta.retired {
            organization.sealed.retired.add(*partition, rows);
        }
        organization.sealed.dropped.clone_from(&meta.dropped);
        organization.forgotten_below = meta.forgotten_below;
        let meters: BTreeSet<_> = meta.segments.iter().map(|s| s.partition.meter).collect();
        let counted: u64 = meters
            .iter()
            .map(|meter| organization.current(*meter))
            .sum();
        let versions: u64 = meta.segments.iter().map(SegmentMeta::versions).sum();
        let more = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        state.totals.add(more(counted), more(versions), meta.ids);
    }
    Ok((catalog, state))
}

/// Whether nothing is sealed.
fn is_empty(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    let runs = disk.list(&runs_directory(directory))?;
    let segments = match disk.list(&segments_directory(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    Ok(segments.is_empty() && !runs.iter().any(|name| RunMeta::parse(name).is_some()))
}

/// For a directory that has sealed nothing yet. It is written at once, so that the key outlives a crash: with another
/// key no id would be known again.
fn new_manifest(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    settings: &Settings,
) -> Result<Manifest, OpenError> {
    let failed = |what| move |source: io::Error| OpenError::Io { what, source };
    let mut hash_key = [0; 32];
    match settings.hash_key {
        Some(key) => hash_key = key,
        None => getrandom::fill(&mut hash_key)
            .map_err(io::Error::other)
            .map_err(failed("draw a key"))?,
    }
    let manifest = Manifest {
        first_log: 1,
        next_sequence: 1,
        next_file: 1,
        hash_key,
        ..Manifest::default()
    };
    match manifest.write(disk.as_ref(), directory) {
        Ok(()) => Ok(manifest),
        Err(WriteError::NotWritten(source) | WriteError::Unknown(source)) => {
            Err(failed("write the manifest")(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Operation, SimulatedDisk};
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

    fn stored(name: &str) -> Batch {
        let measurement = Measurement {
            id: MeasurementId::new(name).unwrap(),
            meter: MeterId(Uuid::from_u128(2)),
            subject: meterd_model::Subject::new("s").unwrap(),
            time: Timestamp::from_seconds(1).unwrap(),
            end_time: None,
            values: Vec::new(),
            attributes: Vec::new(),
        };
        Batch {
            organization: OrganizationId(Uuid::from_u128(1)),
            received: Timestamp::from_seconds(2).unwrap(),
            measurements: vec![measurement],
            on_conflict: crate::OnConflict::Reject,
        }
    }

    fn on_demand(disk: &SimulatedDisk, mut settings: Settings) -> Engine {
        settings.sealing = Sealing::OnDemand;
        Engine::open(Path::new("data"), settings, Arc::new(disk.clone())).unwrap()
    }

    #[test]
    fn only_ids_that_are_sealed_need_the_disk() {
        let disk = SimulatedDisk::new();
        let engine = on_demand(&disk, Settings::default());
        let verdict = |prepared| engine.submit_prepared(prepared).unwrap().wait().unwrap();
        let early = engine.prepare(stored("a")).unwrap();
        let again = engine.prepare(stored("a")).unwrap();
        assert!(!early.needs_disk() && !again.needs_disk());
        assert_eq!(verdict(early).verdicts, [crate::Verdict::Accepted]);
        assert!(!engine.prepare(stored("a")).unwrap().needs_disk());
        engine.seal().unwrap();
        assert!(engine.prepare(stored("a")).unwrap().needs_disk());
        assert!(!engine.prepare(stored("b")).unwrap().needs_disk());
        // What was sealed since is found by the writer.
        assert_eq!(verdict(again).verdicts, [crate::Verdict::Duplicate]);
    }

    #[test]
    fn a_seal_makes_nobody_ask_the_older_runs_again() {
        let disk = SimulatedDisk::new();
        let engine = on_demand(&disk, Settings::default());
        let organization = OrganizationId(Uuid::from_u128(1));
        let hash = |name| engine.state.hasher.hash(organization, name);
        let seal = |name| {
            engine.submit(stored(name)).unwrap().wait().unwrap();
            engine.seal().unwrap();
        };
        seal("a");
        let ids = || ["a", "b"].map(hash).into_iter();
        let probes = Probes::look_up(&engine.state.runs(), organization, ids()).unwrap();
        seal("c");
        disk.fail(Operation::Read, u64::MAX);
        let now = probes
            .as_of(&engine.state.runs(), organization, ids)
            .unwrap();
        assert!(now.known(hash("a")).is_some() && now.known(hash("b")).is_none());
        let ids = || ["c"].map(hash).into_iter();
        (probes.as_of(&engine.state.runs(), organization, ids)).unwrap_err();
    }

    #[test]
    fn what_was_sealed_twice_since_is_found_after_a_merge_too() {
        let disk = SimulatedDisk::new();
        let engine = on_demand(&disk, Settings::default());
        let organization = OrganizationId(Uuid::from_u128(1));
        let hash = |name| engine.state.hasher.hash(organization, name);
        let look_up = || {
            let ids = ["a", "b", "c", "d"].map(hash).into_iter();
            Probes::look_up(&engine.state.runs(), organization, ids).unwrap()
        };
        let mut looked_up = vec![look_up()];
        for name in ["a", "b", "c", "d"] {
            engine.submit(stored(name)).unwrap().wait().unwrap();
            engine.seal().unwrap();
            looked_up.push(look_up());
        }
        assert!(engine.merge().unwrap());
        for probes in looked_up {
            let ids = || ["a", "b", "c", "d"].map(hash).into_iter();
            let now = probes
                .as_of(&engine.state.runs(), organization, ids)
                .unwrap();
            assert!(
                ["a", "b", "c", "d"]
                    .iter()
                    .all(|name| now.known(hash(name)).is_some())
            );
        }
    }

    #[test]
    fn a_full_queue_takes_a_freeze() {
        let disk = SimulatedDisk::new();
        let settings = Settings {
            queue_max_batches: 0,
            ..Settings::default()
        };
        let engine = on_demand(&disk, settings);
        let busy = engine.submit(stored("a")).unwrap_err();
        assert!(matches!(busy, SubmitError::Busy { .. }));
        engine.seal().unwrap();
        engine.close();
        let refused = engine.seal().unwrap_err();
        assert!(matches!(
            refused,
            MaintenanceError::Refused(SubmitError::Closed)
        ));
    }

    #[test]
    fn several_meters_expire_with_one_seal() {
        let disk = SimulatedDisk::new();
        let engine = on_demand(&disk, Settings::default());
        let organizations = [1, 2, 3].map(|number| OrganizationId(Uuid::from_u128(number)));
        for organization in organizations {
            let batch = Batch {
                organization,
                ..stored("a")
            };
            engine.submit(batch).unwrap().wait().unwrap();
        }
        let before = Timestamp::from_seconds(40 * 86_400).unwrap();
        for organization in organizations.into_iter().take(2) {
            let meter = MeterId(Uuid::from_u128(2));
            assert_eq!(engine.expire(organization, meter, before).unwrap(), 1);
        }
        // One new log file for all of them.
        assert_eq!(engine.counters.last_log_file.load(Ordering::Relaxed), 2);
        assert_eq!(engine.stats().measurements, 1);
    }
}
