//! The one thread that decides, logs, applies and answers, in this order.

use crate::batch::{
    Batch, OnConflict, Receipt, SubmitError, Verdict, Void, VoidOutcome, VoidReceipt,
};
use crate::fingerprint::Fingerprint;
use crate::log::record::{Head, encode_store, encode_void};
use crate::log::writer::{AppendError, LogWriter};
use crate::queue::{Queue, Request, Taken};
use crate::settings::Settings;
use crate::state::{Known, Organization, Stamp, State};
use hashbrown::HashMap;
use meterd_model::{MeasurementId, OrganizationId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the writer tells the outside, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) versions: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) log_files: AtomicU64,
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
    pub(crate) versions: u64,
    pub(crate) settings: Settings,
}

/// What is to become of one request.
#[derive(Debug)]
struct Decision {
    outcome: Outcome,
    first_sequence: u64,
    /// Whether anything has to be written.
    writes: bool,
    /// Whether the decision rests on one of the same group, so that it holds only if the group is written.
    rests_on_group: bool,
}

#[derive(Debug)]
enum Outcome {
    Store(Vec<Verdict>),
    Void(Vec<VoidOutcome>),
    /// There is no room for what it would add.
    Full,
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
                Taken::Group(group) => self.commit(group),
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
    fn decide(&self, group: &[Request]) -> Vec<Decision> {
        let mut overlay = Overlay::new();
        let mut next_sequence = self.next_sequence;
        let mut versions = self.versions;
        let versions_max = self.settings.versions_max.min(Settings::VERSIONS_LIMIT);
        let mut decisions = Vec::with_capacity(group.len());
        for request in group {
            let mut decision = match request {
                Request::Store {
                    batch,
                    fingerprints,
                    ..
                } => {
                    let room = versions_max.saturating_sub(versions);
                    self.decide_batch(batch, fingerprints, room, &mut overlay)
                }
                Request::Void { void, .. } => self.decide_void(void, &mut overlay),
            };
            decision.first_sequence = next_sequence;
            let (written, stored) = decision.outcome.counts();
            decision.writes = written > 0;
            next_sequence += written;
            versions += stored;
            decisions.push(decision);
        }
        decisions
    }

    fn decide_batch<'a>(
        &self,
        batch: &'a Batch,
        fingerprints: &[Fingerprint],
        versions_room: u64,
        overlay: &mut Overlay<'a>,
    ) -> Decision {
        let organization = self.state.organization(batch.organization);
        let stored = organization
            .as_ref()
            .map(|organization| organization.read());
        let pending = overlay.entry(batch.organization).or_default();
        let mut before_batch = Earlier::new(pending);
        let verdicts = batch
            .measurements
            .iter()
            .zip(fingerprints)
            .map(|(measurement, fingerprint)| {
                let known = before_batch.known(&measurement.id, stored.as_deref());
                let verdict = judge(known, *fingerprint, batch.on_conflict);
                if verdict.writes() {
                    before_batch.note(&measurement.id, *fingerprint, false);
                }
                verdict
            })
            .collect();
        let outcome = Outcome::Store(verdicts);
        let (versions, _) = outcome.counts();
        let texts = stored.map_or(0, |organization| organization.texts.len());
        let texts_max = self.settings.texts_max.min(Settings::TEXTS_LIMIT);
        if versions > versions_room || (versions > 0 && texts >= texts_max) {
            before_batch.take_back();
            return full();
        }
        Decision {
            outcome,
            first_sequence: 0,
            writes: false,
            rests_on_group: before_batch.used,
        }
    }

    fn decide_void<'a>(&self, void: &'a Void, overlay: &mut Overlay<'a>) -> Decision {
        let organization = self.state.organization(void.organization);
        let stored = organization
            .as_ref()
            .map(|organization| organization.read());
        let pending = overlay.entry(void.organization).or_default();
        let mut before = Earlier::new(pending);
        let outcomes = void
            .ids
            .iter()
            .map(|id| match before.known(id, stored.as_deref()) {
                None => VoidOutcome::NotFound,
                Some(known) if known.voided => VoidOutcome::AlreadyVoided,
                Some(known) => {
                    before.note(id, known.fingerprint, true);
                    VoidOutcome::Voided
                }
            })
            .collect();
        Decision {
            outcome: Outcome::Void(outcomes),
            first_sequence: 0,
            writes: false,
            rests_on_group: before.used,
        }
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
                    fingerprints,
                    answer,
                },
                Outcome::Store(verdicts),
            ) => {
                self.apply_batch(&batch, &fingerprints, &verdicts);
                self.counters
                    .versions
                    .store(self.versions, Ordering::Relaxed);
                answer.give(Ok(Receipt { verdicts }));
            }
            (Request::Void { void, answer }, Outcome::Void(outcomes)) => {
                self.apply_void(&void, &outcomes);
                answer.give(Ok(VoidReceipt { outcomes }));
            }
            (request, _) => refuse(request, SubmitError::Full),
        }
    }

    /// Under one lock, so that no query sees a part of the batch.
    fn apply_batch(&mut self, batch: &Batch, fingerprints: &[Fingerprint], verdicts: &[Verdict]) {
        if verdicts.iter().all(|verdict| *verdict == Verdict::Conflict) {
            return;
        }
        let organization = self.state.organization_or_new(batch.organization);
        let mut organization = organization.write();
        let before = organization.figures();
        let rows = batch.measurements.iter().zip(fingerprints).zip(verdicts);
        for ((measurement, fingerprint), verdict) in rows {
            match verdict {
                Verdict::Accepted | Verdict::Replaced => {
                    let stamp = self.next_stamp(batch.received);
                    organization.store(measurement, *fingerprint, stamp);
                    self.versions += 1;
                }
                Verdict::Duplicate => {
                    organization.count_repeat(measurement.id.as_str(), self.settings.repeats_max);
                }
                Verdict::Conflict => {}
            }
        }
        self.state.totals.change(before, organization.figures());
    }

    fn apply_void(&mut self, void: &Void, outcomes: &[VoidOutcome]) {
        let Some(organization) = self.state.organization(void.organization) else {
            return;
        };
        let mut organization = organization.write();
        let before = organization.figures();
        for (id, outcome) in void.ids.iter().zip(outcomes) {
            if *outcome == VoidOutcome::Voided {
                let stamp = self.next_stamp(void.received);
                organization.void(id.as_str(), stamp);
            }
        }
        self.state.totals.change(before, organization.figures());
    }

    fn next_stamp(&mut self, received: Timestamp) -> Stamp {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Stamp { sequence, received }
    }

    pub(crate) fn publish_counters(&self) {
        let counters = &self.counters;
        counters.versions.store(self.versions, Ordering::Relaxed);
        counters.syncs.store(self.log.syncs, Ordering::Relaxed);
        counters
            .log_bytes
            .store(self.log.total_bytes, Ordering::Relaxed);
        counters
            .log_files
            .store(self.log.files(), Ordering::Relaxed);
        counters
            .log_failures
            .store(self.log.failures, Ordering::Relaxed);
        counters
            .writable
            .store(self.log.is_writable(), Ordering::Relaxed);
    }
}

/// The rule of de-duplication.
pub(crate) fn judge(
    known: Option<Known>,
    content: Fingerprint,
    on_conflict: OnConflict,
) -> Verdict {
    match known {
        None => Verdict::Accepted,
        Some(known) if !known.voided && known.fingerprint == content => Verdict::Duplicate,
        Some(_) => match on_conflict {
            OnConflict::Reject => Verdict::Conflict,
            OnConflict::Replace => Verdict::Replaced,
        },
    }
}

/// What the group has decided so far, per organization.
type Overlay<'a> = HashMap<OrganizationId, HashMap<&'a str, Known>>;

/// What one request of a group finds: what is stored, covered by what the group decided before it.
struct Earlier<'o, 'a> {
    pending: &'o mut HashMap<&'a str, Known>,
    had_pending: bool,
    used: bool,
    /// What its own entries covered, oldest first.
    covered: Vec<(&'a str, Option<Known>)>,
}

impl<'o, 'a> Earlier<'o, 'a> {
    fn new(pending: &'o mut HashMap<&'a str, Known>) -> Self {
        Self {
            had_pending: !pending.is_empty(),
            pending,
            used: false,
            covered: Vec::new(),
        }
    }

    fn known(&mut self, id: &MeasurementId, stored: Option<&Organization>) -> Option<Known> {
        if let Some(known) = self.pending.get(id.as_str()) {
            // The request's own entries rest on the group as well, and then the request writes anyway.
            self.used |= self.had_pending;
            return Some(*known);
        }
        stored.and_then(|organization| organization.known(id.as_str()))
    }

    fn note(&mut self, id: &'a MeasurementId, fingerprint: Fingerprint, voided: bool) {
        let known = Known {
            fingerprint,
            voided,
        };
        let covered = self.pending.insert(id.as_str(), known);
        self.covered.push((id.as_str(), covered));
    }

    /// Leaves the group as if the request had not been.
    fn take_back(self) {
        for (id, covered) in self.covered.into_iter().rev() {
            match covered {
                Some(known) => self.pending.insert(id, known),
                None => self.pending.remove(id),
            };
        }
    }
}

impl Outcome {
    /// Sequences it takes, and versions it stores.
    fn counts(&self) -> (u64, u64) {
        match self {
            Self::Store(verdicts) => {
                let stored = count(verdicts.iter().filter(|verdict| verdict.writes()));
                (stored, stored)
            }
            Self::Void(outcomes) => {
                let voided = outcomes
                    .iter()
                    .filter(|outcome| **outcome == VoidOutcome::Voided);
                (count(voided), 0)
            }
            Self::Full => (0, 0),
        }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

fn full() -> Decision {
    Decision {
        outcome: Outcome::Full,
        first_sequence: 0,
        writes: false,
        rests_on_group: false,
    }
}

fn encode(payload: &mut Vec<u8>, request: &Request, decision: &Decision) {
    let first_sequence = decision.first_sequence;
    match (request, &decision.outcome) {
        (Request::Store { batch, .. }, Outcome::Store(verdicts)) => {
            let head = Head {
                organization: batch.organization,
                received: batch.received,
                first_sequence,
            };
            let rows = batch.measurements.iter().zip(verdicts);
            let rows = rows.filter_map(|(measurement, verdict)| match verdict {
                Verdict::Accepted => Some((OnConflict::Reject, measurement)),
                Verdict::Replaced => Some((OnConflict::Replace, measurement)),
                Verdict::Duplicate | Verdict::Conflict => None,
            });
            encode_store(payload, head, rows);
        }
        (Request::Void { void, .. }, Outcome::Void(outcomes)) => {
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
