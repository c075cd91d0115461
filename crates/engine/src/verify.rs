//! Reads a closed data directory from end to end and checks all that can be checked.

use crate::catalog::{path_of, runs_directory};
use crate::disk::Disk;
use crate::id_hash::{IdHasher, Print};
use crate::log::frame::{Fault, FileNumber, log_directory};
use crate::log::reader::{ReadError, files, read_file};
use crate::log::record::{Head, Record, RowKind, StoredRow};
use crate::manifest::{Manifest, ManifestError};
use crate::partition::{Link, Partition};
use crate::runs::{IdHash, Merged, Run, RunEntry, RunError, RunMeta};
use crate::segment::read::{Range, Segment};
use crate::segment::{SegmentError, SegmentMeta};
use crate::state::{RunSet, is_dropped};
use crate::stored::{self, current_places, stored_row, whole};
use crate::texts::Texts;
use hashbrown::{HashMap, HashSet};
use meterd_model::{MeasurementId, OrganizationId};
use roaring::RoaringTreemap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Problems listed at most; the count goes on.
const PROBLEMS_MAX: usize = 1000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Of the log.
    pub files: u64,
    pub segments: u64,
    /// Files of ids.
    pub runs: u64,
    pub bytes: u64,
    pub records: u64,
    /// Versions of measurements.
    pub versions: u64,
    /// Distinct ids, each accepted exactly once unless a problem says otherwise.
    pub ids: u64,
    /// Measurements that count.
    pub measurements: u64,
    /// Bytes at the end that an interrupted write left, which opening cuts. No problem.
    pub torn_bytes: u64,
    /// The first thousand.
    pub problems: Vec<Problem>,
    pub problem_count: u64,
}

impl VerifyReport {
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file cannot be read from this byte on; what follows in it was not checked.
    Damaged {
        file: String,
        offset: u64,
        fault: Fault,
    },
    /// Something sealed cannot be read, or is not what the manifest says.
    Sealed { file: String, fault: String },
    /// The measurements that count by the segments are not those that count by the ids.
    IdsDiffer { in_segments: u64, in_ids: u64 },
    /// A new measurement has an id that was accepted before.
    AcceptedTwice {
        organization: OrganizationId,
        id: MeasurementId,
    },
    /// A version replaces an id that was never accepted.
    ReplacesNothing {
        organization: OrganizationId,
        id: MeasurementId,
    },
    /// A version replaces an id by the content that it has already.
    ReplacesSame {
        organization: OrganizationId,
        id: MeasurementId,
    },
    /// A void of an id that does not count.
    VoidsNothing {
        organization: OrganizationId,
        id: MeasurementId,
    },
    /// A record does not continue the sequence of the ones before it.
    Sequence { expected: u64, found: u64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged {
                file,
                offset,
                fault,
            } => write!(f, "{file} is damaged at byte {offset}: {fault}"),
            Self::Sealed { file, fault } => write!(f, "{file}: {fault}"),
            Self::IdsDiffer {
                in_segments,
                in_ids,
            } => write!(
                f,
                "the {in_segments} sealed measurements that count are not the {in_ids} that the ids tell of"
            ),
            Self::AcceptedTwice { organization, id } => {
                write!(
                    f,
                    "{organization}: {id:?} was accepted twice",
                    id = id.as_str()
                )
            }
            Self::ReplacesNothing { organization, id } => {
                write!(
                    f,
                    "{organization}: {id:?} was replaced but never accepted",
                    id = id.as_str()
                )
            }
            Self::ReplacesSame { organization, id } => {
                write!(
                    f,
                    "{organization}: {id:?} was replaced by itself",
                    id = id.as_str()
                )
            }
            Self::VoidsNothing { organization, id } => {
                write!(
                    f,
                    "{organization}: {id:?} was voided but did not count",
                    id = id.as_str()
                )
            }
            Self::Sequence { expected, found } => {
                write!(f, "a record has sequence {found} where {expected} follows")
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("another process has the data directory open")]
    Locked,
    #[error("read the data directory: {0}")]
    Io(#[from] io::Error),
}

/// Checks a directory that no engine has open, and changes nothing in it. `progress` hears of bytes done and bytes
/// in total after each file.
pub fn verify(
    directory: &Path,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    let _lock = disk.lock(directory)?.ok_or(VerifyError::Locked)?;
    let mut check = Check::default();
    let manifest = match Manifest::read(disk, directory) {
        Ok(manifest) => manifest.unwrap_or_else(|| Manifest {
            first_log: FileNumber::FIRST.0,
            next_sequence: 1,
            ..Manifest::default()
        }),
        Err(ManifestError::Io(error)) => return Err(error.into()),
        Err(error @ ManifestError::Damaged(_)) => {
            check.problem(Problem::Sealed {
                file: "manifest".to_owned(),
                fault: error.to_string(),
            });
            return Ok(check.finish());
        }
    };
    let log = log_directory(directory);
    let mut numbers = files(disk, &log)?;
    numbers.retain(|number| number.0 >= manifest.first_log);
    let lengths = numbers
        .iter()
        .map(|number| disk.length(&log.join(number.file_name())))
        .collect::<io::Result<Vec<_>>>()?;
    let segments = || {
        manifest
            .organizations
            .iter()
            .flat_map(|meta| &meta.segments)
    };
    let sealed_bytes = segments().map(|meta| meta.bytes).sum::<u64>()
        + manifest.runs.iter().map(|meta| meta.bytes).sum::<u64>();
    let total = sealed_bytes + lengths.iter().sum::<u64>();
    check.hasher = IdHasher::new(manifest.hash_key);
    check.report.ids = manifest.organizations.iter().map(|meta| meta.ids).sum();
    check.runs(disk, directory, &manifest, &mut |done| {
        progress(done, total);
    })?;
    check.segments(disk, directory, &manifest, &mut |done| {
        progress(done, total);
    })?;
    check.compare()?;
    check.next_sequence = Some(manifest.next_sequence);
    let mut expected = FileNumber(manifest.first_log);
    for (number, length) in numbers.iter().zip(lengths) {
        if *number != expected {
            // One missing file or a million: the first says it.
            check.damaged(expected, 0, Fault::FileMissing);
            check.next_sequence = None;
        }
        expected = number.next();
        check.file(disk, &log, *number, Some(number) == numbers.last())?;
        check.report.bytes += length;
        progress(check.report.bytes, total);
    }
    Ok(check.finish())
}

/// Decides everything again, from its own small state.
struct Check {
    report: VerifyReport,
    hasher: IdHasher,
    runs: RunSet,
    /// Organizations that forgot ids: what counts there may be more than their ids tell of.
    forgetful: HashSet<OrganizationId>,
    /// See [`crate::manifest::OrganizationMeta::forgotten_below`].
    forgotten_below: HashMap<OrganizationId, u64>,
    /// See [`crate::manifest::OrganizationMeta::dropped`].
    dropped: HashMap<OrganizationId, Vec<(Partition, u64)>>,
    /// What counts by the segments, of all others.
    counted: Tally,
    /// What the log tells of its ids; of others, the runs know.
    ids: HashMap<(OrganizationId, IdHash), Option<IdState>>,
    /// `None` after a gap, whose length is not known.
    next_sequence: Option<u64>,
    scratch: Vec<u8>,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            report: VerifyReport::default(),
            hasher: IdHasher::new([0; 32]),
            runs: RunSet::default(),
            forgetful: HashSet::new(),
            forgotten_below: HashMap::new(),
            dropped: HashMap::new(),
            counted: Tally::default(),
            ids: HashMap::new(),
            next_sequence: None,
            scratch: Vec::new(),
        }
    }
}

#[derive(Clone, Copy)]
struct IdState {
    content: u64,
    voided: bool,
    /// Neither voided nor dropped with its month.
    counts: bool,
}

/// A set of things in constant space: how many, and the sum of their hashes. Sets with equal tallies are equal, but for
/// a probability of 2⁻¹²⁸.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: u128,
}

impl Tally {
    /// A measurement that counts: where it is, and what it is.
    fn add(&mut self, organization: OrganizationId, print: Print, row: Link) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(organization.0.as_bytes());
        hasher.update(&print.hash.0);
        hasher.update(&print.content.to_le_bytes());
        hasher.update(row.partition.meter.0.as_bytes());
        hasher.update(&row.partition.month.0.to_le_bytes());
        hasher.update(&row.sequence.to_le_bytes());
        let mut half = [0; 16];
        for (to, from) in half.iter_mut().zip(hasher.finalize().as_bytes()) {
            *to = *from;
        }
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }
}

/// Whether the newest version of an id counts.
fn counts(dropped: &HashMap<OrganizationId, Vec<(Partition, u64)>>, entry: &RunEntry) -> bool {
    let dropped = dropped.get(&entry.organization).map(Vec::as_slice);
    !entry.voided && !is_dropped(dropped.unwrap_or_default(), entry.newest)
}

impl Check {
    fn runs(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        manifest: &Manifest,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        for meta in &manifest.runs {
            self.report.runs += 1;
            let name = RunMeta::file_name(meta.number);
            let path = runs_directory(directory).join(&name);
            let run = Run::open(disk, &path, meta).and_then(|run| run.verify().map(|()| run));
            match run {
                Ok(run) => self.runs.runs.push(Arc::new(run)),
                Err(RunError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Err(error) => self.sealed(&name, &error),
            }
            self.report.bytes += meta.bytes;
            progress(self.report.bytes);
        }
        Ok(())
    }

    fn segments(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        manifest: &Manifest,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        for organization in &manifest.organizations {
            (self.forgotten_below).insert(organization.organization, organization.forgotten_below);
            if organization.forgets {
                self.forgetful.insert(organization.organization);
            }
            (self.dropped).insert(organization.organization, organization.dropped.clone());
            let mut retired: BTreeMap<Partition, RoaringTreemap> =
                organization.retired.iter().cloned().collect();
            for meta in &organization.segments {
                self.report.segments += 1;
                let name = path_of(meta).relative().display().to_string();
                let rows = retired.entry(meta.partition).or_default();
                match self.segment(disk, directory, meta, rows) {
                    Ok(()) => {}
                    Err(SegmentError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error);
                    }
                    Err(error) => self.sealed(&name, &error),
                }
                self.report.bytes += meta.bytes;
                progress(self.report.bytes);
            }
            for (partition, left) in retired.iter().filter(|(_, left)| !left.is_empty()) {
                let fault = format!(
                    "{} retired rows of {} in {} are in no segment",
                    left.len(),
                    partition.meter,
                    partition.month
                );
                self.sealed("manifest", &fault);
            }
        }
        Ok(())
    }

    /// Takes the rows that it has out of `retired`.
    fn segment(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        meta: &SegmentMeta,
        retired: &mut RoaringTreemap,
    ) -> Result<(), SegmentError> {
        let segment = Segment::open(disk, directory, meta.clone())?;
        segment.verify()?;
        let whole = whole(meta);
        for part in segment.parts(&Range::ALL)? {
            // No more texts are held than one part has.
            let texts = RefCell::new(Texts::default());
            let _ended_early = segment.scan(
                &part,
                &whole,
                &mut |_, text| texts.borrow_mut().number(text),
                &mut |rows| {
                    let mut current = current_places(rows).peekable();
                    for place in 0..rows.len {
                        let is_current = current.next_if_eq(&place).is_some();
                        let row = stored_row(meta, &whole, rows, place, &texts.borrow());
                        if let Some(row) = row {
                            self.sealed_row(meta, &row, is_current, retired);
                        }
                    }
                    ControlFlow::Continue(())
                },
            )?;
        }
        Ok(())
    }

    fn sealed_row(
        &mut self,
        meta: &SegmentMeta,
        row: &stored::StoredRow,
        is_current: bool,
        retired: &mut RoaringTreemap,
    ) {
        let Some(measurement) = &row.measurement else {
            return;
        };
        self.report.versions += 1;
        let is_retired = is_current && retired.remove(row.sequence);
        if is_current && !is_retired {
            self.report.measurements += 1;
            let print = (self.hasher).print(meta.organization, measurement, &mut self.scratch);
            let link = Link {
                partition: meta.partition,
                sequence: row.sequence,
            };
            if !self.forgetful.contains(&meta.organization) {
                self.counted.add(meta.organization, print, link);
            }
        }
    }

    /// What counts by the ids must be what counts by the segments.
    fn compare(&mut self) -> io::Result<()> {
        let mut by_ids = Tally::default();
        for entry in Merged::new(&self.runs.runs) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(RunError::Io(error)) => return Err(error),
                // It was told of already.
                Err(RunError::Damaged { .. }) => return Ok(()),
            };
            // Ids outlive what the meter's retention dropped.
            let compares = !self.forgetful.contains(&entry.organization);
            if compares && counts(&self.dropped, &entry) {
                let print = Print {
                    hash: entry.hash,
                    content: entry.content,
                };
                by_ids.add(entry.organization, print, entry.newest);
            }
        }
        if by_ids != self.counted && self.report.is_sound() {
            self.problem(Problem::IdsDiffer {
                in_segments: self.counted.count,
                in_ids: by_ids.count,
            });
        }
        Ok(())
    }

    fn sealed(&mut self, file: &str, fault: &dyn fmt::Display) {
        self.problem(Problem::Sealed {
            file: file.to_owned(),
            fault: fault.to_string(),
        });
    }

    fn file(
        &mut self,
        disk: &dyn Disk,
        log: &Path,
        number: FileNumber,
        last: bool,
    ) -> io::Result<()> {
        self.report.files += 1;
        let read = read_file(disk, log, number, last, |record| {
            self.record(&record);
            Ok(())
        });
        match read {
            Ok(end) if end.is_torn() => self.report.torn_bytes += end.length - end.good,
            Ok(_) => {}
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Damaged { offset, fault }) => {
                self.damaged(number, offset, fault);
                self.next_sequence = None;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) {
        self.report.records += 1;
        match record {
            Record::Store(head, rows) => {
                self.sequence(head, rows.len());
                for row in rows {
                    self.row(head.organization, row);
                }
            }
            Record::Void(head, ids) => {
                self.sequence(head, ids.len());
                for id in ids {
                    self.void(head.organization, id);
                }
            }
            Record::Close => {}
        }
    }

    fn sequence(&mut self, head: &Head, count: usize) {
        let found = head.first_sequence;
        if let Some(expected) = self.next_sequence
            && expected != found
        {
            self.problem(Problem::Sequence { expected, found });
        }
        self.next_sequence = found.checked_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// What is known of an id before a record of the log; a place to put what is known after it.
    fn state(&mut self, organization: OrganizationId, hash: IdHash) -> &mut Option<IdState> {
        let (runs, dropped) = (&self.runs, &self.dropped);
        let forgotten_below = self.forgotten_below.get(&organization).copied();
        self.ids.entry((organization, hash)).or_insert_with(|| {
            // A run that cannot be read was told of already.
            let entry = runs.find(organization, hash).ok().flatten()?;
            let is_known = entry.newest.sequence >= forgotten_below.unwrap_or(0);
            is_known.then_some(IdState {
                content: entry.content,
                voided: entry.voided,
                counts: counts(dropped, &entry),
            })
        })
    }

    fn row(&mut self, organization: OrganizationId, row: &StoredRow) {
        self.report.versions += 1;
        let id = row.measurement.id.clone();
        let print = self
            .hasher
            .print(organization, &row.measurement, &mut self.scratch);
        let state = IdState {
            content: print.content,
            voided: false,
            counts: true,
        };
        let before = self.state(organization, print.hash).replace(state);
        let is_another = row.kind == RowKind::Forgotten;
        self.report.ids += u64::from(before.is_none() && !is_another);
        let adds = is_another || before.is_none_or(|before| !before.counts);
        self.report.measurements += u64::from(adds);
        let problem = match (row.kind, before) {
            (RowKind::New, None) | (RowKind::Forgotten, _) => None,
            (RowKind::New, Some(_)) => Some(Problem::AcceptedTwice { organization, id }),
            (RowKind::Replaces, None) => Some(Problem::ReplacesNothing { organization, id }),
            (RowKind::Replaces, Some(before)) => {
                let same = !before.voided && before.content == print.content;
                same.then_some(Problem::ReplacesSame { organization, id })
            }
        };
        if let Some(problem) = problem {
            self.problem(problem);
        }
    }

    fn void(&mut self, organization: OrganizationId, id: &MeasurementId) {
        let hash = self.hasher.hash(organization, id.as_str());
        match self.state(organization, hash) {
            Some(state) if !state.voided => {
                state.voided = true;
                let counted = u64::from(std::mem::take(&mut state.counts));
                self.report.measurements = self.report.measurements.saturating_sub(counted);
            }
            _ => self.problem(Problem::VoidsNothing {
                organization,
                id: id.clone(),
            }),
        }
    }

    fn damaged(&mut self, file: FileNumber, offset: u64, fault: Fault) {
        self.problem(Problem::Damaged {
            file: file.file_name(),
            offset,
            fault,
        });
    }

    fn problem(&mut self, problem: Problem) {
        self.report.problem_count += 1;
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(problem);
        }
    }

    fn finish(self) -> VerifyReport {
        self.report
    }
}
