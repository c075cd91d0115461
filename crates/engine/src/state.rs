//! All that the engine knows, in layers: what came last, what is being sealed, and what is sealed on disk.

use crate::freezer::Freezer;
use crate::id_hash::IdHasher;
use crate::memory::{Known, Memory};
use crate::partition::{Link, Partition};
use crate::query::Answers;
use crate::retired::Retired;
use crate::runs::{IdHash, Run, RunEntry, RunError, find_newest};
use crate::segment::read::Segment;
use crate::table::Table;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use meterd_model::{MeterId, OrganizationId};
use parking_lot::RwLock;
use roaring::RoaringTreemap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// All organizations. Each has a lock of its own, held by a query only while it takes its snapshot, and by the writer for
/// one batch: to decide it, with a look at the disk for ids that were sealed since the batch came, and to apply it.
#[derive(Debug)]
pub(crate) struct State {
    organizations: RwLock<HashMap<OrganizationId, Arc<RwLock<Organization>>>>,
    runs: RwLock<Arc<RunSet>>,
    /// How long organizations remember ids, those that do not remember them for ever.
    id_windows: RwLock<HashMap<OrganizationId, Duration>>,
    pub(crate) hasher: IdHasher,
    pub(crate) totals: Totals,
    pub(crate) freezer: Freezer,
    pub(crate) answers: Answers,
}

/// The runs of ids, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RunSet {
    /// Rises when ids come that were in no run before: an answer of an older set may have become wrong.
    pub(crate) generation: u64,
    pub(crate) runs: Vec<Arc<Run>>,
}

/// How much all organizations have together, so that nobody has to ask each of them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    measurements: AtomicU64,
    versions: AtomicU64,
    ids: AtomicU64,
    /// Ids whose repeats are counted.
    repeated: AtomicUsize,
}

impl Totals {
    pub(crate) fn measurements(&self) -> u64 {
        self.measurements.load(Ordering::Relaxed)
    }

    pub(crate) fn ids(&self) -> u64 {
        self.ids.load(Ordering::Relaxed)
    }

    /// All versions held.
    pub(crate) fn versions(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, measurements: i64, versions: i64, ids: u64) {
        self.measurements
            .fetch_add(measurements.cast_unsigned(), Ordering::Relaxed);
        self.versions
            .fetch_add(versions.cast_unsigned(), Ordering::Relaxed);
        self.ids.fetch_add(ids, Ordering::Relaxed);
    }
}

impl State {
    pub(crate) fn new(hasher: IdHasher, runs: Vec<Arc<Run>>, query_cache_bytes: usize) -> Self {
        Self {
            organizations: RwLock::default(),
            runs: RwLock::new(Arc::new(RunSet {
                generation: 0,
                runs,
            })),
            id_windows: RwLock::default(),
            hasher,
            totals: Totals::default(),
            freezer: Freezer::default(),
            answers: Answers::new(query_cache_bytes, hasher),
        }
    }

    pub(crate) fn organization(&self, id: OrganizationId) -> Option<Arc<RwLock<Organization>>> {
        self.organizations.read().get(&id).cloned()
    }

    pub(crate) fn organization_or_new(&self, id: OrganizationId) -> Arc<RwLock<Organization>> {
        if let Some(organization) = self.organization(id) {
            return organization;
        }
        Arc::clone(self.organizations.write().entry(id).or_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.organizations.read().len()
    }

    /// In the order of their ids.
    pub(crate) fn all(&self) -> Vec<(OrganizationId, Arc<RwLock<Organization>>)> {
        let organizations = self.organizations.read();
        let mut all: Vec<_> = (organizations.iter())
            .map(|(id, organization)| (*id, Arc::clone(organization)))
            .collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    pub(crate) fn id_window(&self, organization: OrganizationId) -> Option<Duration> {
        self.id_windows.read().get(&organization).copied()
    }

    pub(crate) fn set_id_window(&self, organization: OrganizationId, window: Option<Duration>) {
        let mut windows = self.id_windows.write();
        match window {
            Some(window) => windows.insert(organization, window),
            None => windows.remove(&organization),
        };
    }

    pub(crate) fn runs(&self) -> Arc<RunSet> {
        Arc::clone(&self.runs.read())
    }

    /// A run of ids that no run had before.
    pub(crate) fn add_run(&self, run: Arc<Run>) {
        let mut set = self.runs.write();
        let mut runs = set.runs.clone();
        runs.push(run);
        *set = Arc::new(RunSet {
            generation: set.generation + 1,
            runs,
        });
    }

    /// One run in place of those that it was merged from.
    pub(crate) fn replace_runs(&self, merged: &[u64], by: &Arc<Run>) {
        let mut set = self.runs.write();
        let mut by = Some(Arc::clone(by));
        let runs = (set.runs.iter()).filter_map(|run| {
            if merged.contains(&run.meta().number) {
                by.take()
            } else {
                Some(Arc::clone(run))
            }
        });
        *set = Arc::new(RunSet {
            generation: set.generation,
            runs: runs.collect(),
        });
    }
}

impl RunSet {
    pub(crate) fn find(
        &self,
        organization: OrganizationId,
        hash: IdHash,
    ) -> Result<Option<RunEntry>, RunError> {
        find_newest(&self.runs, organization, hash)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.memory_bytes()).sum()
    }
}

impl From<RunEntry> for Known {
    fn from(entry: RunEntry) -> Self {
        Self {
            content: entry.content,
            newest: entry.newest,
            voided: entry.voided,
            counts: !entry.voided,
        }
    }
}

/// One tenant's measurements.
#[derive(Debug, Default)]
pub(crate) struct Organization {
    /// Takes what comes.
    pub(crate) recent: Memory,
    /// Is being written to segments and does not change.
    pub(crate) sealing: Option<Arc<Memory>>,
    pub(crate) sealed: Sealed,
    /// How often `recent` was set aside.
    pub(crate) freezes: u64,
    /// Ids whose newest event has a lesser sequence are unknown to everybody. Rises with a freeze, and is in the
    /// manifest once that is sealed: merges drop ids by what the manifest says, which is never more than this.
    pub(crate) forgotten_below: u64,
    /// Distinct ids seen, also those that are forgotten or went with their month by now.
    pub(crate) ids: u64,
    /// Duplicates seen since the start.
    repeats: HashMap<IdHash, u64>,
}

/// What is on disk.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// By month and then by number.
    meters: HashMap<MeterId, Vec<Arc<Segment>>>,
    /// By events that are sealed too.
    pub(crate) retired: Retired,
    /// See [`crate::manifest::OrganizationMeta::dropped`].
    pub(crate) dropped: Vec<(Partition, u64)>,
}

impl Organization {
    /// Measurements of a meter that count.
    pub(crate) fn current(&self, meter: MeterId) -> u64 {
        let memory: u64 = self.tables(meter).map(Table::current).sum();
        let segments = self
            .sealed
            .segments(meter)
            .iter()
            .map(|segment| segment.meta());
        let sealed: u64 = segments
            .map(|meta| meta.rows.saturating_sub(meta.superseded))
            .sum();
        let months = self.retirements().flat_map(|layer| layer.months(meter));
        let retired: u64 = months
            .map(|(month, rows)| {
                // What was dropped since is in no segment that it could be missing from.
                let gone = self.sealed.dropped_below(Partition { meter, month });
                rows.range_cardinality(gone..)
            })
            .sum();
        (memory + sealed).saturating_sub(retired)
    }

    /// The tables of a meter in memory, newest first.
    pub(crate) fn tables(&self, meter: MeterId) -> impl Iterator<Item = &Table> {
        self.memories()
            .filter_map(move |memory| memory.table(meter))
    }

    /// What memory knows of an id.
    pub(crate) fn known(&self, hash: IdHash) -> Option<Known> {
        let sealing = || self.sealing.as_ref()?.known(hash);
        self.recent.known(hash).or_else(sealing)
    }

    /// Of at most so many ids of all organizations together.
    pub(crate) fn count_repeat(&mut self, hash: IdHash, totals: &Totals, ids_max: usize) {
        match self.repeats.entry(hash) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            // Only the one writer counts.
            Entry::Vacant(place) if totals.repeated.load(Ordering::Relaxed) < ids_max => {
                totals.repeated.fetch_add(1, Ordering::Relaxed);
                place.insert(1);
            }
            Entry::Vacant(_) => {}
        }
    }

    pub(crate) fn repeats(&self, hash: IdHash) -> u64 {
        self.repeats.get(&hash).copied().unwrap_or(0)
    }

    /// The memories, newest first.
    pub(crate) fn memories(&self) -> impl Iterator<Item = &Memory> {
        std::iter::once(&self.recent).chain(self.sealing.as_deref())
    }

    /// Rows of a partition that do not count, though the segments or the memory that is being sealed say so.
    pub(crate) fn retired(&self, partition: Partition) -> Vec<Arc<RoaringTreemap>> {
        let layers = self.retirements();
        layers
            .filter_map(|layer| layer.rows(partition).cloned())
            .collect()
    }

    /// Rows of the memory that is being sealed that do not count any more: only what came since can say so.
    pub(crate) fn retired_while_sealing(&self, meter: MeterId) -> Vec<Arc<RoaringTreemap>> {
        let months = self.recent.retired.months(meter);
        months.map(|(_, rows)| Arc::clone(rows)).collect()
    }

    /// What is known of an id, now that it is acted on: its month may have been dropped since it was sealed.
    pub(crate) fn as_of_now(&self, known: Known) -> Known {
        Known {
            counts: known.counts && !is_dropped(&self.sealed.dropped, known.newest),
            ..known
        }
    }

    fn retirements(&self) -> impl Iterator<Item = &Retired> {
        let memories = self.memories().map(|memory| &memory.retired);
        memories.chain(std::iter::once(&self.sealed.retired))
    }
}

/// Whether a row went with its month.
pub(crate) fn is_dropped(dropped: &[(Partition, u64)], row: Link) -> bool {
    row.sequence < dropped_below(dropped, row.partition)
}

/// Rows of the partition with a lesser sequence were dropped.
pub(crate) fn dropped_below(dropped: &[(Partition, u64)], partition: Partition) -> u64 {
    let covers = |(upto, _): &&(Partition, u64)| {
        upto.meter == partition.meter && partition.month <= upto.month
    };
    let all = dropped.iter().filter(covers);
    all.map(|(_, sequence)| *sequence).max().unwrap_or(0)
}

impl Sealed {
    pub(crate) fn dropped_below(&self, partition: Partition) -> u64 {
        dropped_below(&self.dropped, partition)
    }

    pub(crate) fn segments(&self, meter: MeterId) -> &[Arc<Segment>] {
        self.meters.get(&meter).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all_segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.meters.values().flatten()
    }

    pub(crate) fn add(&mut self, segment: Arc<Segment>) {
        let order = |segment: &Segment| (segment.meta().partition.month, segment.meta().number);
        let of_meter = self
            .meters
            .entry(segment.meta().partition.meter)
            .or_default();
        let place = of_meter.partition_point(|known| order(known) < order(&segment));
        of_meter.insert(place, segment);
    }

    pub(crate) fn remove(&mut self, partition: Partition, numbers: &[u64]) {
        if let Some(of_meter) = self.meters.get_mut(&partition.meter) {
            of_meter.retain(|segment| !numbers.contains(&segment.meta().number));
            if of_meter.is_empty() {
                self.meters.remove(&partition.meter);
            }
        }
    }
}
