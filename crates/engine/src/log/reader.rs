//! Reads the log of a directory, file by file, and judges what does not read.

use super::frame::{
    FILE_HEADER_BYTES, Fault, FileNumber, check_file_header, frame_at, was_durable,
};
use super::record::{Record, decode_all};
use crate::disk::Disk;
use std::io;
use std::path::Path;

/// The log files of a directory, in order. Other files are none of the log's business.
pub(crate) fn files(disk: &dyn Disk, log: &Path) -> io::Result<Vec<FileNumber>> {
    let mut numbers: Vec<_> = disk
        .list(log)?
        .iter()
        .filter_map(|name| FileNumber::parse(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where a file ends that reads well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileEnd {
    /// Bytes that are good; what follows is the remains of a write that was never confirmed.
    pub(crate) good: u64,
    /// How many of them the last frame knows to be synced.
    pub(crate) durable: u64,
    pub(crate) length: u64,
}

impl FileEnd {
    pub(crate) fn is_torn(self) -> bool {
        self.good < self.length
    }
}

/// Why a file was not read to its end.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Damaged { offset: u64, fault: Fault },
}

/// Hands the records of one file to `take`, in order. Only the last file may end in a torn write; if its header is
/// torn, `good` is 0.
pub(crate) fn read_file(
    disk: &dyn Disk,
    log: &Path,
    number: FileNumber,
    last: bool,
    mut take: impl FnMut(Record) -> Result<(), Fault>,
) -> Result<FileEnd, ReadError> {
    let bytes = disk
        .read(&log.join(number.file_name()))
        .map_err(ReadError::Io)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if let Err(fault) = check_file_header(&bytes, number) {
        // Frames follow only after a synced header: a file without frames may have been cut while it was created.
        let torn = last && length <= FILE_HEADER_BYTES && !matches!(fault, Fault::FileVersion(_));
        return if torn {
            Ok(FileEnd {
                good: 0,
                durable: 0,
                length,
            })
        } else {
            Err(ReadError::Damaged { offset: 0, fault })
        };
    }
    let mut offset = FILE_HEADER_BYTES;
    // Nothing tells that the header was synced but the first frame.
    let mut durable = 0;
    loop {
        match frame_at(&bytes, number, offset) {
            Ok(None) => {
                return Ok(FileEnd {
                    good: offset,
                    durable,
                    length,
                });
            }
            Ok(Some(frame)) => {
                let damaged = |fault| ReadError::Damaged {
                    offset: frame.offset,
                    fault,
                };
                for record in decode_all(frame.payload).map_err(damaged)? {
                    take(record).map_err(damaged)?;
                }
                offset = frame.end;
                durable = frame.durable;
            }
            Err(_) if last && !was_durable(&bytes, number, offset) => {
                return Ok(FileEnd {
                    good: offset,
                    durable,
                    length,
                });
            }
            Err(fault) => return Err(ReadError::Damaged { offset, fault }),
        }
    }
}
