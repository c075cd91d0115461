//! The one thread that decides, logs, applies and answers, in this order.

use crate::batch::{
    Batch, OnConflict, Receipt, SubmitError, Verdict, Void, VoidOutcome, VoidReceipt,
};
use crate::freezer::Frozen;
use crate::id_hash::Print;
use crate::log::record::{Head, RowKind, encode_store, encode_void};
use crate::log::writer::{AppendError, LogWriter};
use crate::marks::Marks;
use crate::memory::{Before, Known, Stamp};
use crate::partition::{Partition, Partitions};
use crate::probe::Probes;
use crate::queue::{Queue, Request, Taken};
use crate::runs::IdHash;
use crate::settings::{Sealing, Settings};
use crate::state::{Organization, State};
use hashbrown::{HashMap, HashSet};
use meterd_model::{OrganizationId, Timestamp};
use parking_lot::RwLockReadGuard;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the writer tells the outside, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) last_log_file: AtomicU64,
    pub(crate) log_failures: AtomicU64,
    pub(crate) writable: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) state: Arc<State>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: LogWriter,
    pub(crate) next_sequence: u64,
    /// Versions and voids since the last freeze.
    pub(crate) recent_rows: u64,
    /// About how much memory they take.
    pub(crate) recent_bytes: u64,
    /// The segments that they would be sealed to.
    pub(crate) recent_partitions: usize,
    /// The same of what was frozen last, which counts until it is sealed.
    pub(crate) frozen_bytes: u64,
    /// A request was refused since memory has no room for it.
    pub(crate) crowded: Cell<bool>,
    pub(crate) marks: Marks,
    pub(crate) settings: Settings,
}

/// What is to become of one request.
#[derive(Debug)]
struct Decision {
    outcome: Outcome,
    first_sequence: u64,
    /// Whether anything has to be written.
    writes: bool,
    /// How many segments that would be, beside those of what is there already.
    partitions: usize,
    /// Whether the decision rests on one of the same group, so that it holds only if the group is written.
    rests_on_group: bool,
}

#[derive(Debug)]
enum Outcome {
    Store(Verdicts),
    /// With, per `Voided`, in order, what was known before the group.
    Void(Vec<VoidOutcome>, Vec<Option<Known>>),
    Refused(SubmitError),
}

#[derive(Debug)]
struct Verdicts {
    all: Vec<Verdict>,
    /// Per `Replaced`, in order, what was known before the group.
    replaced: Vec<Option<Known>>,
    /// Indices of `Accepted` whose id was forgotten, ascending.
    forgotten: Vec<usize>,
}

impl Writer {
    /// Works until the queue is closed and drained.
    pub(crate) fn run(mut self) {
        let guard = LeaveOnExit {
            queue: Arc::clone(&self.queue),
            counters: Arc::clone(&self.counters),
        };
        loop {
            // Who sees that the log cannot be written may send nothing more, so do not wait to be asked.
            let broken = !self.log.is_writable();
            match (self.queue).take_group(broken.then_some(self.settings.repair_interval)) {
                Taken::Group(group) => self.work(group),
                Taken::Nothing => {
                    // If it fails, the next round or append tries again.
                    let _ = self.log.repair();
                    self.publish_counters();
                }
                Taken::Closed => break,
            }
        }
        self.log.close();
        self.publish_counters();
        drop(guard);
    }

    fn work(&mut self, mut group: Vec<Request>) {
        let freeze = group.pop_if(|request| matches!(request, Request::Freeze { .. }));
        if !group.is_empty() {
            self.commit(group);
        }
        match freeze {
            Some(Request::Freeze { answer }) => answer.give(self.freeze()),
            _ if self.is_freeze_due() => {
                // If it fails, the next group tries again; until then memory grows up to its bound.
                let _ = self.freeze();
            }
            _ => {}
        }
    }

    fn is_freeze_due(&self) -> bool {
        self.settings.sealing == Sealing::Background
            && (self.recent_rows >= self.settings.seal_rows
                || self.recent_bytes >= self.settings.seal_bytes
                || self.recent_partitions >= self.settings.seal_partitions
                || self.crowded.get())
            && !self.state.freezer.is_busy()
    }

    /// Sets aside all that was stored so far to be sealed; what comes goes to a new log file and a new memory.
    fn freeze(&mut self) -> Result<(), SubmitError> {
        if self.state.freezer.is_busy() {
            return Err(SubmitError::Busy {
                retry_after: self.settings.busy_retry_after,
            });
        }
        if self.recent_rows == 0 {
            self.crowded.set(false);
            return Ok(());
        }
        let rotated = self.log.rotate();
        self.publish_counters();
        let first_log = rotated.map_err(|error| match error {
            AppendError::Full => SubmitError::Full,
            AppendError::Failed | AppendError::Unsettled => SubmitError::Unavailable,
        })?;
        let mut forgotten_below = Vec::new();
        for (id, organization) in self.state.all() {
            let mut organization = organization.write();
            // Fixed here, so that all that is in the log after this is decided by no less.
            if let Some(window) = self.state.id_window(id) {
                let below = self.marks.forgotten_below(window);
                organization.forgotten_below = organization.forgotten_below.max(below);
            }
            if organization.forgotten_below > 0 {
                forgotten_below.push((id, organization.forgotten_below));
            }
            if !organization.recent.is_empty() {
                let recent = std::mem::take(&mut organization.recent);
                organization.sealing = Some(Arc::new(recent));
                organization.freezes += 1;
            }
        }
        self.recent_rows = 0;
        self.recent_partitions = 0;
        self.frozen_bytes = std::mem::take(&mut self.recent_bytes);
        self.crowded.set(false);
        self.state.freezer.hand_over(Frozen {
            first_log,
            next_sequence: self.next_sequence,
            marks: self.marks.list().to_vec(),
            forgotten_below,
        });
        Ok(())
    }

    fn commit(&mut self, group: Vec<Request>) {
        let decisions = self.decide(&group);
        let written = self.write(&group, &decisions);
        // Before the answers, so that whoever has one finds it in the figures.
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.publish_counters();
        for (request, decision) in group.into_iter().zip(decisions) {
            let needs_log = decision.writes || decision.rests_on_group;
            match written {
                Ok(()) => self.apply_and_answer(request, decision),
                Err(AppendError::Full) if needs_log => refuse(request, SubmitError::Full),
                Err(AppendError::Failed) if needs_log => refuse(request, SubmitError::Unavailable),
                Err(AppendError::Full | AppendError::Failed) => {
                    self.apply_and_answer(request, decision);
                }
                // What may come back after a restart could belie any answer.
                Err(AppendError::Unsettled) => refuse(request, SubmitError::Unavailable),
            }
        }
    }

    /// Decides every id of the group under one order: what is stored, and what the group itself has decided before.
    fn decide(&mut self, group: &[Request]) -> Vec<Decision> {
        let mut overlay = Overlay::new();
        let mut room = Room {
            next_sequence: self.next_sequence,
            versions: self.state.totals.versions(),
            recent_rows: self.recent_rows,
            bytes: self.unsealed_bytes(),
            partitions: self.recent_partitions,
        };
        let mut decisions = Vec::with_capacity(group.len());
        for request in group {
            // Before it is decided: it may be what shows that a window is over. What the group itself adds may yet fail to
            // be written, and its sequences be given again later.
            if let Some(received) = request.received() {
                self.marks.note(received, self.next_sequence);
            }
            let mut decision = match request {
                Request::Store {
                    batch,
                    prints,
                    probes,
                    bytes,
                    ..
                } => self.decide_batch(batch, prints, probes, *bytes, &room, &mut overlay),
                Request::Void {
                    void,
                    hashes,
                    probes,
                    bytes,
                    ..
                } => self.decide_void(void, hashes, probes, *bytes, &room, &mut overlay),
                Request::Freeze { .. } => refused(SubmitError::Unavailable),
            };
            decision.first_sequence = room.next_sequence;
            let (written, stored) = decision.outcome.counts();
            decision.writes = written > 0;
            room.next_sequence += written;
            room.recent_rows += written;
            room.partitions += decision.partitions;
            if decision.writes {
                room.bytes += request.bytes();
            }
            room.versions += stored;
            decisions.push(decision);
        }
        decisions
    }

    fn decide_batch(
        &self,
        batch: &Batch,
        prints: &[Print],
        probes: &Probes,
        bytes: u64,
        room: &Room,
        overlay: &mut Overlay,
    ) -> Decision {
        let organization = self.state.organization(batch.organization);
        let stored = organization
            .as_ref()
            .map(|organization| organization.read());
        let Ok(older) = self.older(batch.organization, stored.as_ref(), probes, || {
            prints.iter().map(|print| print.hash)
        }) else {
            return refused(SubmitError::Unavailable);
        };
        let pending = overlay.entry(batch.organization).or_default();
        let mut before_batch = Earlier::new(&mut pending.ids, stored.as_deref(), &older);
        let forgotten_below =
            self.forgotten_below(batch.organization, batch.received, stored.as_deref());
        let mut verdicts = Vec::with_capacity(prints.len());
        let mut replaced = Vec::new();
        let mut forgotten = Vec::new();
        let mut partitions = Partitions::default();
        for (index, (print, measurement)) in prints.iter().zip(&batch.measurements).enumerate() {
            let mut known = before_batch.known(print.hash);
            if known.is_some_and(|known| known.is_before(forgotten_below)) {
                known = None;
                forgotten.push(index);
            }
            let verdict = judge(known, print.content, batch.on_conflict);
            if verdict.writes() {
                before_batch.note(print.hash, print.content, false);
                partitions.note(measurement.meter, measurement.time);
            }
            if verdict == Verdict::Replaced {
                replaced.push(known.and_then(|known| known.stored));
            }
            verdicts.push(verdict);
        }
        let outcome = Outcome::Store(Verdicts {
            all: verdicts,
            replaced,
            forgotten,
        });
        let (versions, _) = outcome.counts();
        let texts = stored
            .as_ref()
            .map_or(0, |organization| organization.recent.texts.len());
        let partitions = lacking(&pending.partitions, stored.as_deref(), partitions.iter());
        let more = More {
            rows: versions,
            versions,
            bytes,
            partitions: partitions.len(),
        };
        if let Some(error) = self.no_room(room, &more, texts) {
            before_batch.take_back();
            return refused(error);
        }
        let rests_on_group = before_batch.used;
        pending.partitions.extend(&partitions);
        Decision {
            outcome,
            first_sequence: 0,
            writes: false,
            partitions: more.partitions,
            rests_on_group,
        }
    }

    /// Ids of lesser sequences are forgotten when the request comes; 0 if its organization forgets none.
    fn forgotten_below(
        &self,
        id: OrganizationId,
        received: Timestamp,
        stored: Option<&Organization>,
    ) -> u64 {
        let for_good = stored.map_or(0, |organization| organization.forgotten_below);
        let window = self.state.id_window(id);
        let by_now = window.map_or(0, |window| self.marks.sequence_before(received, window));
        for_good.max(by_now)
    }

    fn decide_void(
        &self,
        void: &Void,
        hashes: &[IdHash],
        probes: &Probes,
        bytes: u64,
        room: &Room,
        overlay: &mut Overlay,
    ) -> Decision {
        let organization = self.state.organization(void.organization);
        let stored = organization
            .as_ref()
            .map(|organization| organization.read());
        let Ok(older) = self.older(void.organization, stored.as_ref(), probes, || {
            hashes.iter().copied()
        }) else {
            return refused(SubmitError::Unavailable);
        };
        let pending = overlay.entry(void.organization).or_default();
        let mut before = Earlier::new(&mut pending.ids, stored.as_deref(), &older);
        let forgotten_below =
            self.forgotten_below(void.organization, void.received, stored.as_deref());
        let mut voided = Vec::new();
        let mut outcomes = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let known = before.known(*hash);
            outcomes.push(
                match known.filter(|known| !known.is_before(forgotten_below)) {
                    None => VoidOutcome::NotFound,
                    Some(known) if known.voided => VoidOutcome::AlreadyVoided,
                    Some(known) => {
                        before.note(*hash, known.content, true);
                        voided.push(known.stored);
                        VoidOutcome::Voided
                    }
                },
            );
        }
        let rests_on_group = before.used;
        // What the group itself stored has its partition from there.
        let partitions = voided.iter().flatten().map(|known| known.newest.partition);
        let partitions = lacking(&pending.partitions, stored.as_deref(), partitions);
        let outcome = Outcome::Void(outcomes, voided);
        let more = More {
            rows: outcome.counts().0,
            versions: 0,
            bytes,
            partitions: partitions.len(),
        };
        if let Some(error) = self.no_room(room, &more, 0) {
            before.take_back();
            return refused(error);
        }
        pending.partitions.extend(&partitions);
        Decision {
            outcome,
            first_sequence: 0,
            writes: false,
            partitions: more.partitions,
            rests_on_group,
        }
    }

    /// What the runs know of the request's ids: what its caller looked up, and what was sealed since. Asked under the organization's lock, so that no id can go from memory to a run in between.
    fn older<'p, I: Iterator<Item = IdHash>>(
        &self,
        organization: OrganizationId,
        _held: Option<&RwLockReadGuard<'_, Organization>>,
        probes: &'p Probes,
        ids: impl FnOnce() -> I,
    ) -> Result<Cow<'p, Probes>, ()> {
        let now = probes.as_of(&self.state.runs(), organization, ids);
        now.map_err(|_| ())
    }

    /// Why so much more cannot be taken by an organization with so many texts; `None` if it can.
    fn no_room(&self, room: &Room, more: &More, texts: usize) -> Option<SubmitError> {
        if more.rows == 0 {
            return None;
        }
        let settings = &self.settings;
        if room.versions + more.versions > settings.versions_max {
            return Some(SubmitError::Full);
        }
        let rows_max = settings.memory_rows_max.min(Settings::MEMORY_ROWS_LIMIT);
        // A request that is larger than a bound still gets through when memory is empty.
        let is_crowded = texts >= settings.texts_max.min(Settings::TEXTS_LIMIT)
            || (room.recent_rows > 0 && room.recent_rows + more.rows > rows_max)
            || (room.bytes > 0 && room.bytes + more.bytes > settings.memory_bytes_max)
            || (room.partitions > 0
                && room.partitions + more.partitions > settings.memory_partitions_max);
        if !is_crowded {
            return None;
        }
        self.crowded.set(true);
        // Sealing lags behind, or has no space.
        Some(if self.state.freezer.lacks_space() {
            SubmitError::Full
        } else {
            SubmitError::Busy {
                retry_after: settings.busy_retry_after,
            }
        })
    }

    /// About how much memory all takes that a restart would find in the log.
    fn unsealed_bytes(&self) -> u64 {
        let is_frozen = self.state.freezer.is_busy();
        self.recent_bytes + if is_frozen { self.frozen_bytes } else { 0 }
    }

    /// One frame for the group, one record per request that has something to write.
    fn write(&mut self, group: &[Request], decisions: &[Decision]) -> Result<(), AppendError> {
        let mut payload = Vec::new();
        for (request, decision) in group.iter().zip(decisions) {
            if decision.writes {
                encode(&mut payload, request, decision);
            }
        }
        if payload.is_empty() {
            // Even "nothing changed" says what is stored, and what a failed write may have left behind must not come
            // back after somebody was told.
            return self.log.settle().map_err(|_| AppendError::Unsettled);
        }
        self.log.append(&payload)
    }

    fn apply_and_answer(&mut self, request: Request, decision: Decision) {
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        match (request, decision.outcome) {
            (
                Request::Store {
                    batch,
                    prints,
                    answer,
                    ..
                },
                Outcome::Store(decided),
            ) => {
                self.apply_batch(&batch, &prints, &decided);
                answer.give(Ok(Receipt {
                    verdicts: decided.all,
                }));
            }
            (
                Request::Void {
                    void,
                    hashes,
                    answer,
                    ..
                },
                Outcome::Void(outcomes, voided),
            ) => {
                self.apply_void(&void, &hashes, &outcomes, &voided);
                answer.give(Ok(VoidReceipt { outcomes }));
            }
            (request, Outcome::Refused(error)) => refuse(request, error),
            (request, _) => refuse(request, SubmitError::Unavailable),
        }
    }

    /// Under one lock, so that no query sees a part of the batch.
    fn apply_batch(&mut self, batch: &Batch, prints: &[Print], decided: &Verdicts) {
        let verdicts = &decided.all;
        if verdicts.iter().all(|verdict| *verdict == Verdict::Conflict) {
            return;
        }
        let organization = self.state.organization_or_new(batch.organization);
        let mut organization = organization.write();
        let bytes_before = organization.recent.bytes();
        let partitions_before = organization.recent.partitions.len();
        let (mut more, mut versions, mut new_ids) = (0, 0, 0);
        let mut replaced = decided.replaced.iter();
        let mut forgotten = decided.forgotten.iter().peekable();
        let rows = batch.measurements.iter().zip(prints).zip(verdicts);
        for (index, ((measurement, print), verdict)) in rows.enumerate() {
            match verdict {
                Verdict::Accepted if forgotten.next_if_eq(&&index).is_some() => {
                    let stamp = self.next_stamp(batch.received);
                    (organization.recent).store(measurement, *print, stamp, Before::Forgotten);
                    more += 1;
                    versions += 1;
                }
                Verdict::Accepted => {
                    let stamp = self.next_stamp(batch.received);
                    (organization.recent).store(measurement, *print, stamp, Before::Nothing);
                    more += 1;
                    versions += 1;
                    new_ids += 1;
                }
                Verdict::Replaced => {
                    // The log has given it, whatever is found here.
                    let stamp = self.next_stamp(batch.received);
                    let stored = replaced.next().copied().flatten();
                    // Earlier rows of the group are in memory by now.
                    let known = organization.recent.known(print.hash).or(stored);
                    let Some(known) = known.map(|known| organization.as_of_now(known)) else {
                        continue;
                    };
                    (organization.recent).store(
                        measurement,
                        *print,
                        stamp,
                        Before::Replaced(known),
                    );
                    versions += 1;
                    more += i64::from(!known.counts);
                }
                Verdict::Duplicate => {
                    let ids_max = self.settings.repeats_max;
                    organization.count_repeat(print.hash, &self.state.totals, ids_max);
                }
                Verdict::Conflict => {}
            }
        }
        self.recent_bytes += organization.recent.bytes() - bytes_before;
        self.recent_partitions += organization.recent.partitions.len() - partitions_before;
        organization.ids += new_ids;
        self.state.totals.add(more, versions, new_ids);
    }

    fn apply_void(
        &mut self,
        void: &Void,
        hashes: &[IdHash],
        outcomes: &[VoidOutcome],
        voided: &[Option<Known>],
    ) {
        let Some(organization) = self.state.organization(void.organization) else {
            return;
        };
        let mut organization = organization.write();
        let bytes_before = organization.recent.bytes();
        let partitions_before = organization.recent.partitions.len();
        let rows = void.ids.iter().zip(hashes).zip(outcomes);
        let rows = rows.filter(|(_, outcome)| **outcome == VoidOutcome::Voided);
        for (((id, hash), _), stored) in rows.zip(voided) {
            let stamp = self.next_stamp(void.received);
            if let Some(known) = organization.recent.known(*hash).or(*stored) {
                let known = organization.as_of_now(known);
                organization.recent.void(id.as_str(), *hash, stamp, known);
                self.state.totals.add(-i64::from(known.counts), 0, 0);
            }
        }
        self.recent_bytes += organization.recent.bytes() - bytes_before;
        self.recent_partitions += organization.recent.partitions.len() - partitions_before;
    }

    fn next_stamp(&mut self, received: Timestamp) -> Stamp {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.recent_rows += 1;
        Stamp { sequence, received }
    }

    pub(crate) fn publish_counters(&self) {
        let counters = &self.counters;
        counters.syncs.store(self.log.syncs, Ordering::Relaxed);
        counters
            .log_bytes
            .store(self.log.total_bytes, Ordering::Relaxed);
        counters
            .last_log_file
            .store(self.log.last_file().0, Ordering::Relaxed);
        counters
            .log_failures
            .store(self.log.failures, Ordering::Relaxed);
        counters
            .writable
            .store(self.log.is_writable(), Ordering::Relaxed);
    }
}

/// How much there is when a request is decided.
struct Room {
    next_sequence: u64,
    versions: u64,
    recent_rows: u64,
    /// About how much memory is taken, also by what is being sealed.
    bytes: u64,
    /// The segments that memory would become.
    partitions: usize,
}

/// What a request would add to that.
struct More {
    /// Versions and voids.
    rows: u64,
    versions: u64,
    bytes: u64,
    partitions: usize,
}

/// The rule of de-duplication.
fn judge(known: Option<Decided>, content: u64, on_conflict: OnConflict) -> Verdict {
    match known {
        None => Verdict::Accepted,
        Some(known) if !known.voided && known.content == content => Verdict::Duplicate,
        Some(_) => match on_conflict {
            OnConflict::Reject => Verdict::Conflict,
            OnConflict::Replace => Verdict::Replaced,
        },
    }
}

/// What the group has decided so far, per organization.
type Overlay = HashMap<OrganizationId, Pending>;

#[derive(Debug, Default)]
struct Pending {
    ids: HashMap<IdHash, Decided>,
    /// Those that memory had nothing of.
    partitions: HashSet<Partition>,
}

/// What an id is when a request of the group meets it.
#[derive(Clone, Copy, Debug)]
struct Decided {
    content: u64,
    voided: bool,
    /// `None` if an earlier row of the group is the newest.
    stored: Option<Known>,
}

impl Decided {
    fn is_before(&self, sequence: u64) -> bool {
        (self.stored).is_some_and(|known| known.newest.sequence < sequence)
    }
}

/// What one request of a group finds: what is stored, covered by what the group decided before it.
struct Earlier<'o> {
    pending: &'o mut HashMap<IdHash, Decided>,
    stored: Option<&'o Organization>,
    older: &'o Probes,
    had_pending: bool,
    used: bool,
    /// What its own entries covered, oldest first.
    covered: Vec<(IdHash, Option<Decided>)>,
}

impl<'o> Earlier<'o> {
    fn new(
        pending: &'o mut HashMap<IdHash, Decided>,
        stored: Option<&'o Organization>,
        older: &'o Probes,
    ) -> Self {
        Self {
            had_pending: !pending.is_empty(),
            pending,
            stored,
            older,
            used: false,
            covered: Vec::new(),
        }
    }

    fn known(&mut self, hash: IdHash) -> Option<Decided> {
        if let Some(known) = self.pending.get(&hash) {
            // The request's own entries rest on the group as well, and then the request writes anyway.
            self.used |= self.had_pending;
            return Some(*known);
        }
        let in_memory = self
            .stored
            .and_then(|organization| organization.known(hash));
        let known = in_memory.or_else(|| self.older.known(hash))?;
        Some(Decided {
            content: known.content,
            voided: known.voided,
            stored: Some(known),
        })
    }

    fn note(&mut self, hash: IdHash, content: u64, voided: bool) {
        let decided = Decided {
            content,
            voided,
            stored: None,
        };
        let covered = self.pending.insert(hash, decided);
        self.covered.push((hash, covered));
    }

    /// Leaves the group as if the request had not been.
    fn take_back(self) {
        for (hash, covered) in self.covered.into_iter().rev() {
            match covered {
                Some(known) => self.pending.insert(hash, known),
                None => self.pending.remove(&hash),
            };
        }
    }
}

/// Of some partitions those of which neither the group has anything nor memory.
fn lacking(
    pending: &HashSet<Partition>,
    stored: Option<&Organization>,
    partitions: impl Iterator<Item = Partition>,
) -> HashSet<Partition> {
    let is_stored = |partition| stored.is_some_and(|of| of.recent.partitions.contains(partition));
    let lacking =
        partitions.filter(|partition| !pending.contains(partition) && !is_stored(*partition));
    lacking.collect()
}

impl Outcome {
    /// Sequences it takes, and versions it stores.
    fn counts(&self) -> (u64, u64) {
        match self {
            Self::Store(decided) => {
                let stored = count(decided.all.iter().filter(|verdict| verdict.writes()));
                (stored, stored)
            }
            Self::Void(outcomes, _) => {
                let voided = outcomes
                    .iter()
                    .filter(|outcome| **outcome == VoidOutcome::Voided);
                (count(voided), 0)
            }
            Self::Refused(_) => (0, 0),
        }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

fn refused(error: SubmitError) -> Decision {
    Decision {
        outcome: Outcome::Refused(error),
        first_sequence: 0,
        writes: false,
        partitions: 0,
        rests_on_group: false,
    }
}

fn encode(payload: &mut Vec<u8>, request: &Request, decision: &Decision) {
    let first_sequence = decision.first_sequence;
    match (request, &decision.outcome) {
        (Request::Store { batch, .. }, Outcome::Store(decided)) => {
            let head = Head {
                organization: batch.organization,
                received: batch.received,
                first_sequence,
            };
            let mut forgotten = decided.forgotten.iter().peekable();
            let rows = batch.measurements.iter().zip(&decided.all).enumerate();
            let rows = rows.filter_map(|(index, (measurement, verdict))| match verdict {
                Verdict::Accepted if forgotten.next_if_eq(&&index).is_some() => {
                    Some((RowKind::Forgotten, measurement))
                }
                Verdict::Accepted => Some((RowKind::New, measurement)),
                Verdict::Replaced => Some((RowKind::Replaces, measurement)),
                Verdict::Duplicate | Verdict::Conflict => None,
            });
            encode_store(payload, head, rows);
        }
        (Request::Void { void, .. }, Outcome::Void(outcomes, _)) => {
            let head = Head {
                organization: void.organization,
                received: void.received,
                first_sequence,
            };
            let ids = void.ids.iter().zip(outcomes);
            let ids =
                ids.filter_map(|(id, outcome)| (*outcome == VoidOutcome::Voided).then_some(id));
            encode_void(payload, head, ids);
        }
        _ => {}
    }
}

fn refuse(request: Request, error: SubmitError) {
    match request {
        Request::Store { answer, .. } => answer.give(Err(error)),
        Request::Void { answer, .. } => answer.give(Err(error)),
        Request::Freeze { answer } => answer.give(Err(error)),
    }
}

/// Should the writer ever panic, those who wait must hear of it, and nobody may think that it writes.
struct LeaveOnExit {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

impl Drop for LeaveOnExit {
    fn drop(&mut self) {
        self.counters.writable.store(false, Ordering::Relaxed);
        self.queue.abandon();
    }
}
