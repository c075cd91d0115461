//! Reads the log back into memory, on top of what is sealed.

use crate::disk::Disk;
use crate::log::frame::{Fault, FileNumber};
use crate::log::reader::{ReadError, files, read_file};
use crate::log::record::{Head, Record, RowKind};
use crate::log::writer::LogEnd;
use crate::manifest::Manifest;
use crate::marks::Marks;
use crate::memory::{Before, Known, Stamp};
use crate::runs::IdHash;
use crate::state::{Organization, State};
use std::io;
use std::path::Path;

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the data directory open")]
    Locked,
    #[error("{what}: {source}")]
    Io {
        /// A verb phrase, e.g. "read the log".
        what: &'static str,
        source: io::Error,
    },
    /// The log cannot be read. Nothing was changed; `verify` tells more.
    #[error("log file {file} is damaged at byte {offset}: {fault}")]
    Damaged {
        file: String,
        offset: u64,
        fault: Fault,
    },
    /// Something sealed cannot be read. Nothing was changed; `verify` tells more.
    #[error("{file} is damaged: {fault}")]
    Sealed { file: String, fault: String },
}

/// What the log left in memory.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) next_sequence: u64,
    /// Versions and voids that the log added.
    pub(crate) rows: u64,
    /// About how much memory they take.
    pub(crate) bytes: u64,
    /// The segments that it would be sealed to.
    pub(crate) partitions: usize,
    pub(crate) marks: Marks,
    pub(crate) end: LogEnd,
}

/// Applies the log to what is sealed.
pub(crate) fn recover(
    disk: &dyn Disk,
    log: &Path,
    manifest: &Manifest,
    state: &State,
) -> Result<Recovered, OpenError> {
    let io_error = |source| OpenError::Io {
        what: "read the log",
        source,
    };
    let first = FileNumber(manifest.first_log.max(FileNumber::FIRST.0));
    let mut numbers = files(disk, log).map_err(io_error)?;
    // Those before are sealed; whoever sealed them had no time to remove them.
    numbers.retain(|number| *number >= first);
    let mut replay = Replay {
        state,
        scratch: Vec::new(),
        recovered: Recovered {
            next_sequence: manifest.next_sequence,
            rows: 0,
            bytes: 0,
            partitions: 0,
            marks: Marks::new(manifest.marks.clone()),
            end: LogEnd::before(first),
        },
    };
    for number in &numbers {
        let damaged = |offset, fault| OpenError::Damaged {
            file: number.file_name(),
            offset,
            fault,
        };
        if *number != replay.recovered.end.number.next() {
            return Err(damaged(0, Fault::FileMissing));
        }
        let last = Some(number) == numbers.last();
        let end = read_file(disk, log, *number, last, |record| replay.apply(&record)).map_err(
            |error| match error {
                ReadError::Io(source) => io_error(source),
                ReadError::Damaged { offset, fault } => damaged(offset, fault),
            },
        )?;
        let log_end = &mut replay.recovered.end;
        log_end.torn_bytes = end.length - end.good;
        if end.good == 0 {
            log_end.torn_header = Some(*number);
            break;
        }
        log_end.number = *number;
        log_end.good = end.good;
        log_end.durable = end.durable;
        log_end.total_bytes += end.good;
    }
    for (_, organization) in state.all() {
        let organization = organization.read();
        replay.recovered.bytes += organization.recent.bytes();
        replay.recovered.partitions += organization.recent.partitions.len();
    }
    Ok(replay.recovered)
}

struct Replay<'a> {
    state: &'a State,
    scratch: Vec<u8>,
    recovered: Recovered,
}

impl Replay<'_> {
    /// Every record must be one that the writer could have written here.
    fn apply(&mut self, record: &Record) -> Result<(), Fault> {
        match record {
            Record::Store(head, rows) => {
                self.check_sequence(head)?;
                let organization = self.state.organization_or_new(head.organization);
                let mut organization = organization.write();
                for row in rows {
                    let hasher = &self.state.hasher;
                    let print =
                        hasher.print(head.organization, &row.measurement, &mut self.scratch);
                    let known = self.known(&organization, head, print.hash)?;
                    let before = match (row.kind, known) {
                        (RowKind::New, None) => Before::Nothing,
                        // Whether its window was over is not asked again.
                        (RowKind::Forgotten, _) => Before::Forgotten,
                        (RowKind::Replaces, Some(known)) => Before::Replaced(known),
                        (RowKind::New, Some(_)) | (RowKind::Replaces, None) => {
                            return Err(Fault::Decision);
                        }
                    };
                    let stamp = self.next_stamp(head);
                    (organization.recent).store(&row.measurement, print, stamp, before);
                    let new_ids = u64::from(row.kind == RowKind::New);
                    let counted_before = match before {
                        Before::Replaced(known) => known.counts,
                        Before::Nothing | Before::Forgotten => false,
                    };
                    organization.ids += new_ids;
                    (self.state.totals).add(i64::from(!counted_before), 1, new_ids);
                }
            }
            Record::Void(head, ids) => {
                self.check_sequence(head)?;
                let organization = self.state.organization_or_new(head.organization);
                let mut organization = organization.write();
                for id in ids {
                    let hash = self.state.hasher.hash(head.organization, id.as_str());
                    let known = self.known(&organization, head, hash)?;
                    let Some(known) = known.filter(|known| !known.voided) else {
                        return Err(Fault::Decision);
                    };
                    let stamp = self.next_stamp(head);
                    organization.recent.void(id.as_str(), hash, stamp, known);
                    self.state.totals.add(-i64::from(known.counts), 0, 0);
                }
            }
            Record::Close => {}
        }
        Ok(())
    }

    fn known(
        &self,
        organization: &Organization,
        head: &Head,
        hash: IdHash,
    ) -> Result<Option<Known>, Fault> {
        let known = match organization.known(hash) {
            Some(known) => Some(known),
            None => {
                let found = self.state.runs().find(head.organization, hash);
                found.map_err(|_| Fault::Ids)?.map(Known::from)
            }
        };
        // All that is read here was decided without those, and a merge may have dropped some of them since.
        let known = known.filter(|known| known.newest.sequence >= organization.forgotten_below);
        Ok(known.map(|known| organization.as_of_now(known)))
    }

    fn check_sequence(&mut self, head: &Head) -> Result<(), Fault> {
        let next = self.recovered.next_sequence;
        if head.first_sequence != next {
            return Err(Fault::Sequence);
        }
        self.recovered.marks.note(head.received, next);
        Ok(())
    }

    fn next_stamp(&mut self, head: &Head) -> Stamp {
        let sequence = self.recovered.next_sequence;
        self.recovered.next_sequence += 1;
        self.recovered.rows += 1;
        Stamp {
            sequence,
            received: head.received,
        }
    }
}
