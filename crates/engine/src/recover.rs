//! Reads the log back into memory.

use crate::batch::OnConflict;
use crate::disk::Disk;
use crate::fingerprint::Fingerprint;
use crate::log::frame::{Fault, FileNumber};
use crate::log::reader::{ReadError, files, read_file};
use crate::log::record::{Head, Record};
use crate::log::writer::LogEnd;
use crate::state::{Figures, Stamp, State};
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
}

/// What the log left in memory.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) next_sequence: u64,
    pub(crate) versions: u64,
    pub(crate) end: LogEnd,
}

pub(crate) fn recover(disk: &dyn Disk, log: &Path) -> Result<Recovered, OpenError> {
    let io_error = |source| OpenError::Io {
        what: "read the log",
        source,
    };
    let numbers = files(disk, log).map_err(io_error)?;
    let mut recovered = Recovered {
        state: State::default(),
        next_sequence: 1,
        versions: 0,
        end: LogEnd {
            number: FileNumber(0),
            good: 0,
            durable: 0,
            torn_bytes: 0,
            torn_header: None,
            total_bytes: 0,
        },
    };
    let mut scratch = Vec::new();
    for number in &numbers {
        let damaged = |offset, fault| OpenError::Damaged {
            file: number.file_name(),
            offset,
            fault,
        };
        if *number != recovered.end.number.next() {
            return Err(damaged(0, Fault::FileMissing));
        }
        let last = Some(number) == numbers.last();
        let end = read_file(disk, log, *number, last, |record| {
            recovered.apply(&record, &mut scratch)
        })
        .map_err(|error| match error {
            ReadError::Io(source) => io_error(source),
            ReadError::Damaged { offset, fault } => damaged(offset, fault),
        })?;
        recovered.end.torn_bytes = end.length - end.good;
        if end.good == 0 {
            recovered.end.torn_header = Some(*number);
            break;
        }
        recovered.end.number = *number;
        recovered.end.good = end.good;
        recovered.end.durable = end.durable;
        recovered.end.total_bytes += end.good;
    }
    for organization in recovered.state.all() {
        let figures = organization.read().figures();
        recovered.state.totals.change(Figures::default(), figures);
    }
    Ok(recovered)
}

impl Recovered {
    /// Every record must be one that the writer could have written here.
    fn apply(&mut self, record: &Record, scratch: &mut Vec<u8>) -> Result<(), Fault> {
        match record {
            Record::Store(head, rows) => {
                self.check_sequence(head)?;
                let organization = self.state.organization_or_new(head.organization);
                let mut organization = organization.write();
                for row in rows {
                    let known = organization.known(row.measurement.id.as_str());
                    let expected = known.is_some() == (row.kind == OnConflict::Replace);
                    if !expected {
                        return Err(Fault::Decision);
                    }
                    let fingerprint = Fingerprint::of(&row.measurement, scratch);
                    let stamp = next_stamp(&mut self.next_sequence, head);
                    organization.store(&row.measurement, fingerprint, stamp);
                    self.versions += 1;
                }
            }
            Record::Void(head, ids) => {
                self.check_sequence(head)?;
                let organization = self.state.organization_or_new(head.organization);
                let mut organization = organization.write();
                for id in ids {
                    let known = organization.known(id.as_str());
                    if known.is_none_or(|known| known.voided) {
                        return Err(Fault::Decision);
                    }
                    let stamp = next_stamp(&mut self.next_sequence, head);
                    organization.void(id.as_str(), stamp);
                }
            }
            Record::Close => {}
        }
        Ok(())
    }

    fn check_sequence(&self, head: &Head) -> Result<(), Fault> {
        if head.first_sequence == self.next_sequence {
            Ok(())
        } else {
            Err(Fault::Sequence)
        }
    }
}

fn next_stamp(next_sequence: &mut u64, head: &Head) -> Stamp {
    let sequence = *next_sequence;
    *next_sequence += 1;
    Stamp {
        sequence,
        received: head.received,
    }
}
