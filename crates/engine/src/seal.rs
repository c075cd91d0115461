//! Sealing: what was set aside in memory becomes segments and a run of ids on disk, and its log is removed.

use crate::catalog::{Catalog, Draft, MaintenanceError, organization_mut};
use crate::disk::Directories;
use crate::freezer::Frozen;
use crate::log::frame::FileNumber;
use crate::manifest::Manifest;
use crate::memory::{Memory, VoidRow};
use crate::partition::{Month, Partition};
use crate::runs::{Run, RunEntry, RunMeta};
use crate::segment::SegmentMeta;
use crate::segment::read::Segment;
use crate::segment::schema::SegmentPath;
use crate::segment::write::{SegmentRow, SegmentWriter};
use crate::state::{Organization, State, dropped_below};
use crate::table::{Rows, Table};
use crate::texts::TextNumber;
use hashbrown::HashSet;
use meterd_model::{FieldName, MeterId, OrganizationId, Timestamp};
use parking_lot::RwLock;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// One organization's memory that was set aside.
struct Sealing {
    id: OrganizationId,
    organization: Arc<RwLock<Organization>>,
    memory: Arc<Memory>,
    segments: Vec<SegmentMeta>,
}

/// Seals what is frozen, if anything is. After an error it is still frozen, and may be tried again.
pub(crate) fn seal(state: &State, catalog: &Catalog) -> Result<(), MaintenanceError> {
    let Some(frozen) = state.freezer.frozen() else {
        return Ok(());
    };
    let mut all: Vec<Sealing> = (state.all().into_iter())
        .filter_map(|(id, organization)| {
            let memory = organization.read().sealing.clone()?;
            Some(Sealing {
                id,
                organization,
                memory,
                segments: Vec::new(),
            })
        })
        .collect();
    let mut draft = catalog.draft();
    let run = write_all(&mut all, &mut draft, catalog)?;
    commit(&all, run.as_ref(), draft, &frozen, state, catalog)?;
    state.freezer.release();
    Ok(())
}

fn write_all(
    all: &mut [Sealing],
    draft: &mut Draft<'_>,
    catalog: &Catalog,
) -> Result<Option<RunMeta>, MaintenanceError> {
    let directories = Directories::below(catalog.disk.as_ref(), &catalog.directory);
    for one in all.iter_mut() {
        write_segments(one, draft, &directories, catalog)?;
    }
    let ids: usize = all.iter().map(|one| one.memory.ids.len()).sum();
    if ids == 0 {
        return Ok(None);
    }
    let ids_wide = u64::try_from(ids).unwrap_or(u64::MAX);
    let written = catalog.write_run(draft, ids_wide, |mut writer| {
        for one in all.iter() {
            for (place, entry) in run_entries(one.id, &one.memory).iter().enumerate() {
                if place.is_multiple_of(STEP_ROWS) {
                    catalog.check_open()?;
                }
                writer.push(entry)?;
            }
        }
        Ok(writer.finish()?)
    })?;
    // The log that has all of them is removed next.
    let is_whole = usize::try_from(written.entries) == Ok(ids);
    ensure(is_whole, "not all ids in memory could be sealed")?;
    Ok(Some(written))
}

/// Rows or ids that are written between two questions of whether to go on.
const STEP_ROWS: usize = 4_096;

fn commit(
    all: &[Sealing],
    run: Option<&RunMeta>,
    draft: Draft<'_>,
    frozen: &Frozen,
    state: &State,
    catalog: &Catalog,
) -> Result<(), MaintenanceError> {
    let opened: Vec<Vec<Arc<Segment>>> = (all.iter())
        .map(|one| {
            let metas = one.segments.iter().cloned();
            metas.map(|meta| catalog.open_segment(meta)).collect()
        })
        .collect::<Result<_, _>>()?;
    let opened_run = run.map(|run| catalog.open_run(run)).transpose()?;
    let first_log = catalog.first_log();
    catalog.commit(
        draft,
        |manifest| {
            manifest.first_log = frozen.first_log.0;
            manifest.next_sequence = frozen.next_sequence;
            manifest.marks.clone_from(&frozen.marks);
            manifest.runs.extend(run.cloned());
            for one in all {
                add_to_manifest(manifest, one);
            }
            for (id, below) in &frozen.forgotten_below {
                if let Some(meta) = organization_mut(manifest, *id) {
                    meta.forgotten_below = *below;
                }
            }
            let old_logs = first_log..frozen.first_log.0;
            let paths = old_logs.map(|number| catalog.log_path(FileNumber(number)));
            Some(paths.collect())
        },
        || install(all, opened, opened_run, state),
    )?;
    Ok(())
}

fn install(
    all: &[Sealing],
    segments: Vec<Vec<Arc<Segment>>>,
    run: Option<Arc<Run>>,
    state: &State,
) {
    // Ids are in the run before they leave memory, so that whoever looks finds them in one or both.
    if let Some(run) = run {
        state.add_run(run);
    }
    for (one, segments) in all.iter().zip(segments) {
        let mut organization = one.organization.write();
        for segment in segments {
            organization.sealed.add(segment);
        }
        for (partition, rows) in one.memory.retired.partitions() {
            let gone = organization.sealed.dropped_below(partition);
            organization
                .sealed
                .retired
                .add(partition, &without(&rows, gone));
        }
        organization.sealing = None;
    }
}

/// Rows that were not dropped with their month since they were retired.
fn without(rows: &RoaringTreemap, dropped_below: u64) -> RoaringTreemap {
    let mut rows = rows.clone();
    rows.remove_range(..dropped_below);
    rows
}

fn add_to_manifest(manifest: &mut Manifest, one: &Sealing) {
    let Some(meta) = organization_mut(manifest, one.id) else {
        return;
    };
    meta.ids += one.memory.new_ids;
    meta.forgets |= one.memory.forgets;
    meta.segments.extend(one.segments.iter().cloned());
    let mut retired: BTreeMap<Partition, _> =
        std::mem::take(&mut meta.retired).into_iter().collect();
    for (partition, rows) in one.memory.retired.partitions() {
        let rows = without(&rows, dropped_below(&meta.dropped, partition));
        if !rows.is_empty() {
            *retired.entry(partition).or_default() |= rows;
        }
    }
    meta.retired = retired.into_iter().collect();
}

fn ensure(holds: bool, what: &str) -> Result<(), MaintenanceError> {
    if holds {
        Ok(())
    } else {
        Err(MaintenanceError::Damaged(what.to_owned()))
    }
}

/// What a memory knows of its ids, sorted as a run is.
fn run_entries(organization: OrganizationId, memory: &Memory) -> Vec<RunEntry> {
    let entries = memory.ids.entries().filter_map(|entry| {
        let known = memory.known_of(entry)?;
        Some(RunEntry {
            organization,
            hash: entry.hash,
            content: known.content,
            newest: known.newest,
            voided: known.voided,
        })
    });
    let mut entries: Vec<RunEntry> = entries.collect();
    entries.sort_unstable_by_key(RunEntry::key);
    entries
}

/// One row of a memory on its way to a segment, ordered as segments are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    month: Month,
    /// 0 for a void, else one more than the subject's place among all subjects of the meter.
    subject: u32,
    time: i64,
    sequence: u64,
    /// Number of the row in the table, or of the void in the memory.
    row: u32,
}

fn write_segments(
    one: &mut Sealing,
    draft: &mut Draft<'_>,
    directories: &Directories<'_>,
    catalog: &Catalog,
) -> Result<(), MaintenanceError> {
    let memory = Arc::clone(&one.memory);
    let mut voids: BTreeMap<MeterId, Vec<(u32, &VoidRow)>> = BTreeMap::new();
    for (index, void) in (0..).zip(memory.voids()) {
        voids
            .entry(void.voided.partition.meter)
            .or_default()
            .push((index, void));
    }
    let empty = Table::default();
    let mut tables: BTreeMap<MeterId, &Table> = memory
        .tables()
        .map(|(_, meter, table)| (meter, table))
        .collect();
    for meter in voids.keys() {
        tables.entry(*meter).or_insert(&empty);
    }
    let mut ranks = vec![0; memory.texts.len()];
    for (meter, table) in tables {
        let voids = voids.get(&meter).map_or(&[][..], Vec::as_slice);
        rank(&memory, table, &mut ranks);
        let places = places(table, voids, &ranks);
        for places in places.chunk_by(|a, b| a.month == b.month) {
            let Some(month) = places.first().map(|place| place.month) else {
                continue;
            };
            let path = SegmentPath {
                organization: one.id,
                partition: Partition { meter, month },
                number: catalog.new_file(),
            };
            draft.add(directories.root.join(path.relative()));
            let go_on = || catalog.check_open();
            let written = write_segment(&memory, table, places, path, directories, &go_on);
            let written = written.map_err(MaintenanceError::io("write a segment"))?;
            let is_whole = usize::try_from(written.rows) == Ok(places.len());
            one.segments.push(written);
            ensure(is_whole, "not all rows in memory could be sealed")?;
        }
    }
    Ok(())
}

fn places(table: &Table, voids: &[(u32, &VoidRow)], ranks: &[u32]) -> Vec<Place> {
    let count = usize::try_from(table.rows()).unwrap_or(0) + voids.len();
    let mut places = Vec::with_capacity(count);
    places.extend(voids.iter().map(|(index, void)| Place {
        month: void.voided.partition.month,
        subject: 0,
        time: 0,
        sequence: void.stamp.sequence,
        row: *index,
    }));
    let mut month = (Month(0), 0, 0);
    let mut row = 0;
    for chunk in table.chunks() {
        let rows = &chunk.rows;
        for ((time, sequence), subject) in
            rows.times.iter().zip(&rows.sequences).zip(&rows.subjects)
        {
            if *time < month.1 || *time >= month.2 {
                let found = Timestamp::from_micros(*time).map_or(Month(0), Month::of);
                month = (found, found.start_micros(), found.end_micros());
            }
            places.push(Place {
                month: month.0,
                subject: ranks.get(*subject as usize).copied().unwrap_or(0) + 1,
                time: *time,
                sequence: *sequence,
                row,
            });
            row += 1;
        }
    }
    places.sort_unstable();
    places
}

/// Notes by text number the place of the table's subjects in their order. Of other texts it says nothing: a memory has
/// many tables, and more texts than any of them.
fn rank(memory: &Memory, table: &Table, ranks: &mut [u32]) {
    let chunks = table.chunks().iter();
    let used: HashSet<TextNumber> = chunks
        .flat_map(|chunk| chunk.rows.subjects.iter().copied())
        .collect();
    let mut used: Vec<TextNumber> = used.into_iter().collect();
    used.sort_unstable_by_key(|number| memory.texts.get(*number));
    for (rank, number) in (0..).zip(used) {
        if let Some(slot) = ranks.get_mut(number as usize) {
            *slot = rank;
        }
    }
}

fn write_segment(
    memory: &Memory,
    table: &Table,
    places: &[Place],
    path: SegmentPath,
    directories: &Directories<'_>,
    go_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<SegmentMeta> {
    let values = sorted(table.value_names());
    let attributes = sorted(table.attribute_names());
    let names = |sorted: &[(usize, &FieldName)]| -> Vec<FieldName> {
        sorted.iter().map(|(_, name)| (*name).clone()).collect()
    };
    let mut writer =
        SegmentWriter::create(directories, path, &names(&values), &names(&attributes))?;
    let mut value_cells = Vec::new();
    let mut attribute_cells = Vec::new();
    for (written, place) in places.iter().enumerate() {
        if written.is_multiple_of(STEP_ROWS) {
            go_on()?;
        }
        if place.subject == 0 {
            let Some(row) = void_row(memory, place.row) else {
                continue;
            };
            writer.push(&row)?;
            continue;
        }
        let Some((chunk, at)) = table.find(place.row) else {
            continue;
        };
        let rows = &chunk.rows;
        value_cells.clear();
        value_cells.extend(
            (values.iter().enumerate())
                .filter_map(|(to, (column, _))| Some((to, rows.values(*column).get(at)?))),
        );
        attribute_cells.clear();
        attribute_cells.extend(
            (attributes.iter().enumerate()).filter_map(|(to, (column, _))| {
                Some((to, memory.texts.get(rows.attributes(*column).get(at)?)?))
            }),
        );
        let row = version_row(
            memory,
            rows,
            at,
            chunk.is_current(at),
            &value_cells,
            &attribute_cells,
        );
        let Some(row) = row else {
            continue;
        };
        writer.push(&row)?;
    }
    writer.finish()
}

fn version_row<'a>(
    memory: &'a Memory,
    rows: &Rows,
    at: usize,
    current: bool,
    values: &'a [(usize, i128)],
    attributes: &'a [(usize, &'a str)],
) -> Option<SegmentRow<'a>> {
    let sequence = *rows.sequences.get(at)?;
    Some(SegmentRow {
        subject: Some(memory.texts.get(*rows.subjects.get(at)?)?),
        time: *rows.times.get(at)?,
        end: rows.end(at),
        id: memory.ids.text(*rows.ids.get(at)?)?,
        sequence,
        received: *rows.received.get(at)?,
        current,
        replaces: memory.replaced_by(sequence),
        values,
        attributes,
    })
}

fn void_row(memory: &Memory, index: u32) -> Option<SegmentRow<'_>> {
    let void = memory.voids().get(index as usize)?;
    Some(SegmentRow {
        subject: None,
        time: 0,
        end: None,
        id: memory.ids.text(void.id)?,
        sequence: void.stamp.sequence,
        received: void.stamp.received.micros(),
        current: false,
        replaces: Some(void.voided),
        values: &[],
        attributes: &[],
    })
}

/// Names in their order, each with its column.
fn sorted(names: &[FieldName]) -> Vec<(usize, &FieldName)> {
    let mut names: Vec<_> = names.iter().enumerate().collect();
    names.sort_unstable_by_key(|(_, name)| *name);
    names
}
