//! Merging: many small segments and runs become few large ones. Nothing that a query can see changes.

use crate::catalog::{Catalog, Draft, MaintenanceError, organization_mut};
use crate::disk::Directories;
use crate::manifest::Manifest;
use crate::partition::Partition;
use crate::runs::{self, Run, RunEntry};
use crate::segment::merge::Ask;
use crate::segment::read::Segment;
use crate::segment::schema::SegmentPath;
use crate::segment::{self, SegmentMeta};
use crate::settings::Settings;
use crate::state::{Organization, State};
use hashbrown::HashMap;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use roaring::RoaringTreemap;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs alike in size that are merged into one.
const RUN_FAN_IN: usize = 4;

/// Runs that are merged into one at most; of each a few pages are held.
const RUNS_MAX: usize = 16;

/// Rounds without a seal after which segments are merged that would not be worth it while more come: about a minute.
const QUIET_ROUNDS: u64 = 60;

/// Segments alike in size that are merged into one then.
const QUIET_FAN_IN: usize = 2;

/// What can be merged, and can fail to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Job {
    Runs,
    Segments(OrganizationId, Partition),
}

/// What the rounds before tell the next one: since when nothing came, and what failed. What failed is left alone for a
/// while, so that others have their turn, and a disk that is full or broken its rest.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Counted here, since nobody has a clock.
    round: u64,
    failed: HashMap<Job, Setback>,
    /// What was sealed up to the round before, and since when that is all.
    sealed: u64,
    quiet_since: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Setback {
    times: u32,
    rests_until: u64,
}

/// Rounds that something rests at most: about an hour of a merger that has nothing else to do.
const REST_ROUNDS_MAX: u64 = 3_600;

impl History {
    /// Begins a round; `sealed` is the sequence up to which everything is sealed.
    fn next_round(&mut self, sealed: u64) {
        self.round += 1;
        // What was not tried again for so long is due no more, or gone.
        let round = self.round;
        (self.failed).retain(|_, setback| round < setback.rests_until + REST_ROUNDS_MAX);
        if self.sealed != sealed {
            self.sealed = sealed;
            self.quiet_since = self.round;
        }
    }

    /// How many segments alike make a merge. Each row is then written more often, which is nothing to save while nobody
    /// writes; and whoever asks for one subject has fewer files to ask.
    fn fan_in(&self, settings: &Settings) -> usize {
        let fan_in = settings.merge_fan_in.max(2);
        if self.is_quiet() {
            QUIET_FAN_IN
        } else {
            fan_in
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.round.saturating_sub(self.quiet_since) >= QUIET_ROUNDS
    }

    fn rests(&self, job: Job) -> bool {
        let setback = self.failed.get(&job);
        setback.is_some_and(|setback| self.round < setback.rests_until)
    }

    /// It has failed, unless [`Self::end`] says otherwise: so a panic counts too. It is tried again in the next round,
    /// and after each further failure twice as late.
    fn begin(&mut self, job: Job) {
        let round = self.round;
        let setback = self.failed.entry(job).or_default();
        let rounds = 1_u64.checked_shl(setback.times).unwrap_or(REST_ROUNDS_MAX);
        setback.times = setback.times.saturating_add(1).min(u64::BITS);
        setback.rests_until = round.saturating_add(rounds.min(REST_ROUNDS_MAX));
    }

    fn end(&mut self, job: Job) {
        self.failed.remove(&job);
    }
}

/// Does the merge that is most due, of runs or of the segments of some partitions; `false` if none is.
pub(crate) fn merge_once(
    state: &State,
    catalog: &Catalog,
    settings: &Settings,
    history: &mut History,
) -> Result<bool, MaintenanceError> {
    history.next_round(catalog.with_manifest(|manifest| manifest.next_sequence));
    if !history.rests(Job::Runs)
        && let Some(runs) = due_runs(&state.runs().runs)
    {
        history.begin(Job::Runs);
        merge_runs(runs, state, catalog)?;
        history.end(Job::Runs);
        return Ok(true);
    }
    let due = due_segments(state, settings, history);
    if due.is_empty() {
        return Ok(false);
    }
    merge_segments(&due, state, catalog, history)?;
    Ok(true)
}

/// Of the newest runs so many that they make one of a larger size class than each of them: so each entry is written
/// once per class. If these are very many, the oldest of them.
fn due_runs(oldest_first: &[Arc<Run>]) -> Option<&[Arc<Run>]> {
    let class = |run: &Arc<Run>| class_of(run.meta().entries, RUN_FAN_IN);
    let largest = oldest_first.iter().map(class).max()?;
    (0..=largest).find_map(|up_to| {
        let newest = oldest_first
            .iter()
            .rev()
            .take_while(|run| class(run) <= up_to)
            .count();
        let due = oldest_first.get(oldest_first.len() - newest..)?;
        let entries = due.iter().map(|run| run.meta().entries).sum();
        let is_due = newest >= RUN_FAN_IN && class_of(entries, RUN_FAN_IN) > up_to;
        due.get(..newest.min(RUNS_MAX)).filter(|_| is_due)
    })
}

/// Sizes of one class differ by less than `fan_in` times.
fn class_of(size: u64, fan_in: usize) -> u32 {
    let fan_in = u64::try_from(fan_in.max(2)).unwrap_or(u64::MAX);
    size.max(1).ilog(fan_in)
}

fn merge_runs(
    oldest_first: &[Arc<Run>],
    state: &State,
    catalog: &Catalog,
) -> Result<(), MaintenanceError> {
    let entries = oldest_first.iter().map(|run| run.meta().entries).sum();
    let forgotten = forgotten_below(catalog);
    let mut forgets = BTreeSet::new();
    let keep = |entry: &RunEntry| {
        let below = forgotten.get(&entry.organization).copied().unwrap_or(0);
        let is_kept = entry.newest.sequence >= below;
        if !is_kept {
            forgets.insert(entry.organization);
        }
        is_kept
    };
    let mut draft = catalog.draft();
    let go_on = || catalog.check_open();
    let meta = catalog.write_run(&mut draft, entries, |into| {
        runs::merge(oldest_first, keep, &go_on, into)
    })?;
    let opened = catalog.open_run(&meta)?;
    let merged: Vec<u64> = oldest_first.iter().map(|run| run.meta().number).collect();
    catalog.commit(
        draft,
        |manifest| {
            for organization in &forgets {
                if let Some(meta) = organization_mut(manifest, *organization) {
                    meta.forgets = true;
                }
            }
            let mut by = Some(meta);
            let old = std::mem::take(&mut manifest.runs);
            manifest.runs = (old.into_iter())
                .filter_map(|run| {
                    if merged.contains(&run.number) {
                        by.take()
                    } else {
                        Some(run)
                    }
                })
                .collect();
            let paths = merged.iter().map(|number| catalog.run_path(*number));
            Some(paths.collect())
        },
        || state.replace_runs(&merged, &opened),
    )?;
    Ok(())
}

/// Of organizations that forget ids: see [`crate::manifest::OrganizationMeta::forgotten_below`]. Only what is committed,
/// since a restart reads the log by it.
fn forgotten_below(catalog: &Catalog) -> HashMap<OrganizationId, u64> {
    catalog.with_manifest(|manifest| {
        let all = manifest.organizations.iter();
        let forgetting = all.filter(|meta| meta.forgotten_below > 0);
        forgetting
            .map(|meta| (meta.organization, meta.forgotten_below))
            .collect()
    })
}

/// Segments of one partition that are to become one.
struct Due {
    organization: OrganizationId,
    partition: Partition,
    segments: Vec<Arc<Segment>>,
    /// Rows that the new segment knows not to count.
    retired: Option<Arc<RoaringTreemap>>,
}

impl Due {
    fn job(&self) -> Job {
        Job::Segments(self.organization, self.partition)
    }

    fn numbers(&self) -> Vec<u64> {
        let metas = self.segments.iter().map(|segment| segment.meta());
        metas.map(|meta| meta.number).collect()
    }
}

/// Rows that count no more, of a hundred of a segment, from which on it is written anew: readers other than the engine
/// do not know of them.
const RETIRED_PERCENT: u64 = 5;

/// Partitions that are merged together at most: each commit writes the whole manifest.
const PARTITIONS_MAX: usize = 256;

/// Segments that are merged into one at most, in times of the fan-in. After an outage there may be any number, and of
/// each a page of every column is held.
const INPUTS_PER_FAN_IN: usize = 4;

fn due_segments(state: &State, settings: &Settings, history: &History) -> Vec<Due> {
    let mut all = Vec::new();
    let mut rows = 0;
    for (id, organization) in state.all() {
        let organization = organization.read();
        let mut partitions: BTreeMap<Partition, Vec<&Arc<Segment>>> = BTreeMap::new();
        for segment in organization.sealed.all_segments() {
            partitions
                .entry(segment.meta().partition)
                .or_default()
                .push(segment);
        }
        for (partition, segments) in partitions {
            if history.rests(Job::Segments(id, partition)) {
                continue;
            }
            let retired = organization.sealed.retired.rows(partition);
            let chosen = alike(&segments, history.fan_in(settings), settings)
                .or_else(|| worn(&segments, retired.map(AsRef::as_ref)?, settings));
            let Some(segments) = chosen else {
                continue;
            };
            rows += rows_of(&segments);
            let is_enough = all.len() >= PARTITIONS_MAX || rows > settings.segment_max_rows;
            if is_enough && !all.is_empty() {
                return all;
            }
            all.push(Due {
                organization: id,
                partition,
                segments,
                retired: retired.cloned(),
            });
        }
    }
    all
}

/// The smallest segments, if so many are alike in size that they make one of a larger class: so each row is written
/// once per class.
fn alike(
    segments: &[&Arc<Segment>],
    fan_in: usize,
    settings: &Settings,
) -> Option<Vec<Arc<Segment>>> {
    let class = |segment: &&Arc<Segment>| class_of(segment.meta().rows, fan_in);
    let mut smallest = segments.to_vec();
    smallest.sort_by_key(|segment| segment.meta().rows);
    let classes: BTreeSet<u32> = smallest.iter().map(class).collect();
    let due = classes.into_iter().find_map(|up_to| {
        let count = smallest.partition_point(|segment| class(segment) <= up_to);
        let due = smallest.get(..count)?;
        let rows = due.iter().map(|segment| segment.meta().rows).sum();
        (count >= fan_in && class_of(rows, fan_in) > up_to).then_some(due)
    })?;
    let fitting = fitting(due, settings);
    (fitting.len() >= fan_in).then_some(fitting)
}

/// Segments of which too many rows count no more without their saying so, the worst first.
fn worn(
    segments: &[&Arc<Segment>],
    retired: &RoaringTreemap,
    settings: &Settings,
) -> Option<Vec<Arc<Segment>>> {
    let worn = segments.iter().filter_map(|segment| {
        // Other segments may have some of these, which is only found out by writing it anew.
        let retired = segment.retired_between(retired);
        let elsewhere = (segment.retired_elsewhere).fetch_min(retired, Ordering::Relaxed);
        let own = retired.saturating_sub(elsewhere);
        let percent = own.saturating_mul(100) / segment.meta().rows.max(1);
        (percent >= RETIRED_PERCENT).then_some((Reverse(percent), *segment))
    });
    let mut worn: Vec<_> = worn.collect();
    worn.sort_by_key(|(percent, _)| *percent);
    let worn: Vec<_> = worn.into_iter().map(|(_, segment)| segment).collect();
    (!worn.is_empty()).then(|| fitting(&worn, settings))
}

/// The first, and as many of those after it as one segment has room for and one merge is to read.
fn fitting(segments: &[&Arc<Segment>], settings: &Settings) -> Vec<Arc<Segment>> {
    let inputs_max = settings
        .merge_fan_in
        .max(2)
        .saturating_mul(INPUTS_PER_FAN_IN);
    let mut rows = 0_u64;
    let fitting = segments.iter().enumerate().take_while(|(place, segment)| {
        rows = rows.saturating_add(segment.meta().rows);
        *place == 0 || (*place < inputs_max && rows <= settings.segment_max_rows)
    });
    fitting.map(|(_, segment)| Arc::clone(segment)).collect()
}

fn rows_of(segments: &[Arc<Segment>]) -> u64 {
    segments.iter().map(|segment| segment.meta().rows).sum()
}

/// What became of the segments of one partition.
struct Merged<'a> {
    due: &'a Due,
    meta: SegmentMeta,
    opened: Arc<Segment>,
    /// Of what was retired, the rows of these segments: the new one knows by itself.
    known: RoaringTreemap,
}

/// Merges partition by partition, up to one that fails, and then commits what there is.
fn merge_segments(
    all: &[Due],
    state: &State,
    catalog: &Catalog,
    history: &mut History,
) -> Result<(), MaintenanceError> {
    let directories = Directories::below(catalog.disk.as_ref(), &catalog.directory);
    let mut draft = catalog.draft();
    let mut merged = Vec::new();
    let mut failure = None;
    for due in all {
        history.begin(due.job());
        match merge_partition(due, &mut draft, &directories, catalog) {
            Ok(one) => merged.push(one),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    if !merged.is_empty() {
        commit_segments(&merged, draft, state, catalog)?;
    }
    for one in &merged {
        history.end(one.due.job());
    }
    failure.map_or(Ok(()), Err)
}

fn merge_partition<'a>(
    due: &'a Due,
    draft: &mut Draft<'a>,
    directories: &Directories<'_>,
    catalog: &'a Catalog,
) -> Result<Merged<'a>, MaintenanceError> {
    // Of its own, so that no file of a partition that failed is taken for one that was committed.
    let mut own = catalog.draft();
    let number = catalog.new_file();
    let path = SegmentPath {
        organization: due.organization,
        partition: due.partition,
        number,
    };
    own.add(catalog.directory.join(path.relative()));
    let known = RefCell::new(RoaringTreemap::new());
    let is_retired = |sequence| {
        let retired = due
            .retired
            .as_ref()
            .is_some_and(|rows| rows.contains(sequence));
        if retired {
            known.borrow_mut().insert(sequence);
        }
        retired
    };
    let ask = Ask {
        is_retired: &is_retired,
        go_on: &|| catalog.check_open(),
    };
    let meta = segment::merge::merge(directories, number, &due.segments, &ask)?;
    let opened = catalog.open_segment(meta.clone())?;
    draft.join(own);
    let known = known.into_inner();
    let retired = due.retired.as_ref();
    let retired = retired.map_or(0, |rows| opened.retired_between(rows));
    let elsewhere = retired.saturating_sub(known.len());
    (opened.retired_elsewhere).store(elsewhere, Ordering::Relaxed);
    Ok(Merged {
        due,
        meta,
        opened,
        known,
    })
}

fn commit_segments(
    merged: &[Merged<'_>],
    draft: Draft<'_>,
    state: &State,
    catalog: &Catalog,
) -> Result<(), MaintenanceError> {
    // The meters' retention may have dropped some months meanwhile.
    let there = RefCell::new(Vec::new());
    let installed = catalog.commit(
        draft,
        |manifest| {
            let mut obsolete = Vec::new();
            for one in merged {
                if replace_in_manifest(manifest, one) {
                    let metas = one.due.segments.iter().map(|segment| segment.meta());
                    obsolete.extend(metas.map(|meta| catalog.segment_path(meta)));
                    there.borrow_mut().push(one);
                } else {
                    obsolete.push(catalog.segment_path(&one.meta));
                }
            }
            (!there.borrow().is_empty()).then_some(obsolete)
        },
        || {
            for one in there.borrow().iter() {
                let Some(organization) = state.organization(one.due.organization) else {
                    continue;
                };
                let mut organization = organization.write();
                let sealed = &mut organization.sealed;
                sealed.remove(one.due.partition, &one.due.numbers());
                sealed.add(Arc::clone(&one.opened));
                sealed.retired.remove(one.due.partition, &one.known);
            }
        },
    );
    let gone = merged.iter().flat_map(|one| one.due.numbers()).collect();
    state.answers.forget(&gone);
    installed.map(drop)
}

/// Whether the segments that were merged were still there.
fn replace_in_manifest(manifest: &mut Manifest, one: &Merged<'_>) -> bool {
    let Some(organization) = organization_mut(manifest, one.due.organization) else {
        return false;
    };
    let merged = one.due.numbers();
    let segments = &mut organization.segments;
    let is_there = |number: &u64| segments.iter().any(|meta| meta.number == *number);
    if !merged.iter().all(is_there) {
        return false;
    }
    segments.retain(|meta| !merged.contains(&meta.number));
    segments.push(one.meta.clone());
    for (partition, rows) in &mut organization.retired {
        if *partition == one.due.partition {
            *rows -= &one.known;
        }
    }
    organization.retired.retain(|(_, rows)| !rows.is_empty());
    true
}

/// Drops the months of a meter that end before a time. Answers how many rows that were.
pub(crate) fn expire(
    organization: OrganizationId,
    meter: MeterId,
    before: Timestamp,
    state: &State,
    catalog: &Catalog,
) -> Result<u64, MaintenanceError> {
    let is_old = |partition: Partition| {
        partition.meter == meter && partition.month.end_micros() <= before.micros()
    };
    let Some(held) = state.organization(organization) else {
        return Ok(0);
    };
    let segments = |held: &Organization| {
        let mut segments = held.sealed.segments(meter).iter();
        segments.any(|segment| is_old(segment.meta().partition))
    };
    if !segments(&held.read()) {
        return Ok(0);
    }
    let dropped = RefCell::new(Vec::new());
    // Let go of without a lock: whoever does that last removes the files.
    let mut closing = Vec::new();
    catalog.commit(
        catalog.draft(),
        |manifest| {
            let next_sequence = manifest.next_sequence;
            let meta = organization_mut(manifest, organization)?;
            let (gone, kept): (Vec<_>, _) = (std::mem::take(&mut meta.segments).into_iter())
                .partition(|segment| is_old(segment.partition));
            meta.segments = kept;
            // Others may have been sealed since they were looked for.
            let newest = gone.iter().map(|segment| segment.partition).max()?;
            meta.retired.retain(|(partition, _)| !is_old(*partition));
            note_dropped(&mut meta.dropped, newest, next_sequence);
            let paths = gone.iter().map(|meta| catalog.segment_path(meta)).collect();
            *dropped.borrow_mut() = gone;
            Some(paths)
        },
        || {
            let mut held = held.write();
            closing.extend(held.sealed.segments(meter).iter().cloned());
            let before = held.current(meter);
            for segment in dropped.borrow().iter() {
                held.sealed.remove(segment.partition, &[segment.number]);
                held.sealed.retired.forget(segment.partition);
            }
            held.sealed.dropped = catalog.dropped(organization);
            let gone = before.saturating_sub(held.current(meter));
            let versions = dropped.borrow().iter().map(SegmentMeta::versions).sum();
            let less = |count: u64| -i64::try_from(count).unwrap_or(0);
            state.totals.add(less(gone), less(versions), 0);
        },
    )?;
    drop(closing);
    let dropped = dropped.into_inner();
    state
        .answers
        .forget(&dropped.iter().map(|meta| meta.number).collect());
    Ok(dropped.iter().map(|meta| meta.rows).sum())
}

/// Notes that all sealed rows up to a month are gone, in place of what that says already.
fn note_dropped(dropped: &mut Vec<(Partition, u64)>, newest: Partition, next_sequence: u64) {
    dropped
        .retain(|(partition, _)| partition.meter != newest.meter || partition.month > newest.month);
    let place = dropped.partition_point(|(partition, _)| *partition < newest);
    dropped.insert(place, (newest, next_sequence));
}
