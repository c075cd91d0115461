//! Merging: many small segments and runs become few large ones. Nothing that a query can see changes.

use crate::catalog::{Catalog, MaintenanceError, organization_mut};
use crate::partition::Partition;
use crate::runs::{self, Run, RunEntry};
use crate::segment::read::Segment;
use crate::segment::schema::SegmentPath;
use crate::segment::{self, SegmentMeta};
use crate::settings::Settings;
use crate::state::{Organization, State};
use hashbrown::HashMap;
use meterd_model::{MeterId, OrganizationId, Timestamp};
use roaring::RoaringTreemap;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Runs alike in size that are merged into one.
const RUN_FAN_IN: usize = 4;

/// Does the one merge that is most due; `false` if none is.
pub(crate) fn merge_once(
    state: &State,
    catalog: &Catalog,
    settings: &Settings,
) -> Result<bool, MaintenanceError> {
    if let Some(runs) = due_runs(&state.runs().runs) {
        merge_runs(runs, state, catalog)?;
        return Ok(true);
    }
    if let Some(due) = due_segments(state, settings) {
        merge_segments(&due, state, catalog)?;
        return Ok(true);
    }
    Ok(false)
}

/// Of the newest runs so many that those alike in size are together; all of one size class or smaller, so that each
/// entry is written once per class.
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
        (newest >= RUN_FAN_IN).then_some(due)
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
    let meta = catalog.write_run(entries, |into| runs::merge(oldest_first, keep, into))?;
    let path = catalog.run_path(meta.number);
    let opened = catalog.open_run(&meta);
    let opened = opened.inspect_err(|_| catalog.discard([path.clone()]))?;
    let merged: Vec<u64> = oldest_first.iter().map(|run| run.meta().number).collect();
    let committed = catalog.commit(
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
        },
        || state.replace_runs(&merged, &opened),
        || {
            let paths = merged.iter().map(|number| catalog.run_path(*number));
            paths.collect()
        },
    );
    committed.inspect_err(|_| catalog.discard([path]))
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

/// Rows that count no more, of a hundred of a partition, from which on its segments are written anew: readers other
/// than the engine do not know of them.
const RETIRED_PERCENT: u64 = 5;

fn due_segments(state: &State, settings: &Settings) -> Option<Due> {
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
            let retired = organization.sealed.retired.rows(partition);
            let chosen = alike(&segments, settings)
                .or_else(|| worn(&segments, retired.map_or(0, |rows| rows.len()), settings));
            if let Some(segments) = chosen {
                return Some(Due {
                    organization: id,
                    partition,
                    segments,
                    retired: retired.cloned(),
                });
            }
        }
    }
    None
}

/// The smallest segments that are alike in size, if there are enough of them.
fn alike(segments: &[&Arc<Segment>], settings: &Settings) -> Option<Vec<Arc<Segment>>> {
    let mut by_class: BTreeMap<u32, Vec<&Arc<Segment>>> = BTreeMap::new();
    for segment in segments {
        let class = class_of(segment.meta().rows, settings.merge_fan_in);
        by_class.entry(class).or_default().push(segment);
    }
    let mut small = Vec::new();
    for (_, alike) in by_class {
        small.extend(alike);
        let rows: u64 = small.iter().map(|segment| segment.meta().rows).sum();
        if small.len() >= settings.merge_fan_in.max(2) && rows <= settings.segment_max_rows {
            return Some(small.into_iter().cloned().collect());
        }
    }
    None
}

/// All segments, if too many of their rows count no more without their saying so.
fn worn(
    segments: &[&Arc<Segment>],
    retired: u64,
    settings: &Settings,
) -> Option<Vec<Arc<Segment>>> {
    let rows: u64 = segments.iter().map(|segment| segment.meta().rows).sum();
    let is_worn =
        retired > 0 && retired.saturating_mul(100) >= rows.saturating_mul(RETIRED_PERCENT);
    (is_worn && rows <= settings.segment_max_rows)
        .then(|| segments.iter().map(|segment| Arc::clone(segment)).collect())
}

fn merge_segments(due: &Due, state: &State, catalog: &Catalog) -> Result<(), MaintenanceError> {
    let number = catalog.new_file();
    let path = SegmentPath {
        organization: due.organization,
        partition: due.partition,
        number,
    };
    let path = catalog.directory.join(path.relative());
    // Of what is retired, the rows of these segments: they will know by themselves.
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
    let written = segment::merge::merge(
        catalog.disk.as_ref(),
        &catalog.directory,
        number,
        &due.segments,
        &is_retired,
    );
    let written = written.and_then(|meta| Ok((catalog.open_segment(meta.clone())?, meta)));
    let (opened, meta) = written.inspect_err(|_| catalog.discard([path.clone()]))?;
    let merged: Vec<u64> = due
        .segments
        .iter()
        .map(|segment| segment.meta().number)
        .collect();
    let known = known.into_inner();
    let Some(organization) = state.organization(due.organization) else {
        return Ok(());
    };
    let gone = Cell::new(false);
    let committed = catalog.commit(
        |manifest| {
            let Some(organization) = organization_mut(manifest, due.organization) else {
                return;
            };
            let is_there = |number: &u64| {
                organization
                    .segments
                    .iter()
                    .any(|meta| meta.number == *number)
            };
            // The meter's retention may have dropped the month meanwhile.
            gone.set(!merged.iter().all(is_there));
            if gone.get() {
                return;
            }
            organization
                .segments
                .retain(|meta| !merged.contains(&meta.number));
            organization.segments.push(meta);
            for (partition, rows) in &mut organization.retired {
                if *partition == due.partition {
                    *rows -= &known;
                }
            }
            organization.retired.retain(|(_, rows)| !rows.is_empty());
        },
        || {
            if !gone.get() {
                let mut organization = organization.write();
                organization.sealed.remove(due.partition, &merged);
                organization.sealed.add(opened);
                organization.sealed.retired.remove(due.partition, &known);
            }
        },
        || {
            if gone.get() {
                // Whoever dropped the month removed them.
                return Vec::new();
            }
            let metas = due.segments.iter().map(|segment| segment.meta());
            metas.map(|meta| catalog.segment_path(meta)).collect()
        },
    );
    if committed.is_err() || gone.get() {
        catalog.discard([path]);
    }
    committed
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
    catalog.commit(
        |manifest| {
            let next_sequence = manifest.next_sequence;
            let Some(meta) = organization_mut(manifest, organization) else {
                return;
            };
            let (gone, kept): (Vec<_>, _) = (std::mem::take(&mut meta.segments).into_iter())
                .partition(|segment| is_old(segment.partition));
            meta.segments = kept;
            // Others may have been sealed since they were looked for.
            let Some(newest) = gone.iter().map(|segment| segment.partition).max() else {
                return;
            };
            meta.retired.retain(|(partition, _)| !is_old(*partition));
            note_dropped(&mut meta.dropped, newest, next_sequence);
            *dropped.borrow_mut() = gone;
        },
        || {
            let mut held = held.write();
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
        || {
            let dropped = dropped.borrow();
            let paths = dropped.iter().map(|meta| catalog.segment_path(meta));
            paths.collect()
        },
    )?;
    Ok(dropped.into_inner().iter().map(|meta| meta.rows).sum())
}

/// Notes that all sealed rows up to a month are gone, in place of what that says already.
fn note_dropped(dropped: &mut Vec<(Partition, u64)>, newest: Partition, next_sequence: u64) {
    dropped
        .retain(|(partition, _)| partition.meter != newest.meter || partition.month > newest.month);
    let place = dropped.partition_point(|(partition, _)| *partition < newest);
    dropped.insert(place, (newest, next_sequence));
}
