//! Reads a closed data directory from end to end and checks all that can be checked.

use crate::batch::OnConflict;
use crate::disk::Disk;
use crate::fingerprint::Fingerprint;
use crate::log::frame::{Fault, FileNumber, log_directory};
use crate::log::reader::{ReadError, files, read_file};
use crate::log::record::{Head, Record, StoredRow};
use hashbrown::HashMap;
use meterd_model::{MeasurementId, OrganizationId};
use std::fmt;
use std::io;
use std::path::Path;

/// Problems listed at most; the count goes on.
const PROBLEMS_MAX: usize = 1000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub files: u64,
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
    let log = log_directory(directory);
    let numbers = files(disk, &log)?;
    let lengths = numbers
        .iter()
        .map(|number| disk.length(&log.join(number.file_name())))
        .collect::<io::Result<Vec<_>>>()?;
    let total = lengths.iter().sum();
    let mut check = Check {
        next_sequence: Some(1),
        ..Check::default()
    };
    let mut expected = FileNumber::FIRST;
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
#[derive(Default)]
struct Check {
    report: VerifyReport,
    ids: HashMap<OrganizationId, HashMap<MeasurementId, IdState>>,
    /// `None` after a gap, whose length is not known.
    next_sequence: Option<u64>,
    scratch: Vec<u8>,
}

struct IdState {
    fingerprint: Fingerprint,
    voided: bool,
}

impl Check {
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

    fn row(&mut self, organization: OrganizationId, row: &StoredRow) {
        self.report.versions += 1;
        let id = row.measurement.id.clone();
        let fingerprint = Fingerprint::of(&row.measurement, &mut self.scratch);
        let state = IdState {
            fingerprint,
            voided: false,
        };
        let before = self
            .ids
            .entry(organization)
            .or_default()
            .insert(id.clone(), state);
        let problem = match (row.kind, before) {
            (OnConflict::Reject, None) => None,
            (OnConflict::Reject, Some(_)) => Some(Problem::AcceptedTwice { organization, id }),
            (OnConflict::Replace, None) => Some(Problem::ReplacesNothing { organization, id }),
            (OnConflict::Replace, Some(before)) => {
                let same = !before.voided && before.fingerprint == fingerprint;
                same.then_some(Problem::ReplacesSame { organization, id })
            }
        };
        if let Some(problem) = problem {
            self.problem(problem);
        }
    }

    fn void(&mut self, organization: OrganizationId, id: &MeasurementId) {
        let ids = self.ids.entry(organization).or_default();
        match ids.get_mut(id) {
            Some(state) if !state.voided => state.voided = true,
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

    fn finish(mut self) -> VerifyReport {
        let states = self.ids.values().flat_map(HashMap::values);
        for state in states {
            self.report.ids += 1;
            self.report.measurements += u64::from(!state.voided);
        }
        self.report
    }
}
