//! Files and frames of the log: what one append writes, and how a reader tells that it is whole.

use std::path::{Path, PathBuf};

/// The folder of the log within the engine's directory.
pub(crate) fn log_directory(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// Number of a log file, from 1, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileNumber(pub(crate) u64);

impl FileNumber {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) fn file_name(self) -> String {
        format!("{:020}.log", self.0)
    }

    /// Where the torn tail of the file is kept; no name of a log file.
    pub(crate) fn torn_name(self) -> String {
        format!("{:020}.log.torn", self.0)
    }

    /// Exact inverse of [`Self::file_name`].
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".log")?;
        let number = Self(digits.parse().ok()?);
        (number.file_name() == name && number >= Self::FIRST).then_some(number)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

const FILE_MAGIC: [u8; 8] = *b"meterdLG";
const FILE_VERSION: u32 = 1;
/// Magic 8, version 4, file number 8, CRC-32C 4.
pub(crate) const FILE_HEADER_BYTES: u64 = 24;

const FRAME_MARK: [u8; 4] = *b"mFR\x01";
/// Mark 4, payload length 4, durable offset 8, CRC-32C 4.
const FRAME_HEADER_BYTES: usize = 20;
/// Most bytes of a frame's payload.
pub(crate) const FRAME_PAYLOAD_MAX: usize = 64 << 20;

pub(crate) fn file_header(number: FileNumber) -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend_from_slice(&FILE_MAGIC);
    header.extend_from_slice(&FILE_VERSION.to_le_bytes());
    header.extend_from_slice(&number.0.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header
}

/// Why a file or a part of it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the file is shorter than its header")]
    HeaderShort,
    #[error("the file is no log file")]
    Magic,
    #[error("the file has format version {0}, which this build does not read")]
    FileVersion(u32),
    #[error("the file header's checksum is wrong")]
    HeaderChecksum,
    #[error("the file header names another file")]
    FileNumber,
    #[error("a file of the log is missing")]
    FileMissing,
    #[error("no frame begins here")]
    Mark,
    #[error("the frame's length is out of bounds")]
    Length,
    #[error("the frame's checksum is wrong")]
    Checksum,
    #[error("the record's version is {0}, which this build does not read")]
    RecordVersion(u8),
    #[error("the record is of an unknown type {0}")]
    RecordType(u8),
    #[error("the record's contents are malformed")]
    Contents,
    #[error("the record does not follow the one before it")]
    Sequence,
    #[error("the record contradicts what is stored")]
    Decision,
    #[error("the ids that it may know cannot be read")]
    Ids,
}

pub(crate) fn check_file_header(bytes: &[u8], number: FileNumber) -> Result<(), Fault> {
    let mut rest = bytes;
    let magic: [u8; 8] = take(&mut rest).ok_or(Fault::HeaderShort)?;
    if magic != FILE_MAGIC {
        return Err(Fault::Magic);
    }
    let version = u32::from_le_bytes(take(&mut rest).ok_or(Fault::HeaderShort)?);
    let named = u64::from_le_bytes(take(&mut rest).ok_or(Fault::HeaderShort)?);
    let covered = bytes.get(..20).ok_or(Fault::HeaderShort)?;
    let crc = u32::from_le_bytes(take(&mut rest).ok_or(Fault::HeaderShort)?);
    if crc != crc32c::crc32c(covered) {
        return Err(Fault::HeaderChecksum);
    }
    if version != FILE_VERSION {
        return Err(Fault::FileVersion(version));
    }
    if named != number.0 {
        return Err(Fault::FileNumber);
    }
    Ok(())
}

/// One frame around `payload`, to stand at `offset` of file `number`, of which `durable` bytes are synced.
pub(crate) fn frame(
    payload: &[u8],
    number: FileNumber,
    offset: u64,
    durable: u64,
) -> Result<Vec<u8>, Fault> {
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= FRAME_PAYLOAD_MAX && !payload.is_empty())
        .ok_or(Fault::Length)?;
    let crc = frame_checksum(number, offset, length, durable, payload);
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&FRAME_MARK);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&durable.to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Covers where the frame stands too, so that no frame is taken for one of another place.
fn frame_checksum(
    number: FileNumber,
    offset: u64,
    length: u32,
    durable: u64,
    payload: &[u8],
) -> u32 {
    let mut crc = crc32c::crc32c(&number.0.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &durable.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// A frame that was read whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) offset: u64,
    pub(crate) end: u64,
    /// How much of the file was known to be synced when the frame was written.
    pub(crate) durable: u64,
    pub(crate) payload: &'a [u8],
}

/// Reads the frame at `offset`; `None` at the end of the file.
pub(crate) fn frame_at(
    bytes: &[u8],
    number: FileNumber,
    offset: u64,
) -> Result<Option<Frame<'_>>, Fault> {
    let Some(head) = frame_head_at(bytes, offset)? else {
        return Ok(None);
    };
    if !head.is_whole(number) {
        return Err(Fault::Checksum);
    }
    let FrameHead {
        durable, payload, ..
    } = head;
    let frame_bytes = FRAME_HEADER_BYTES + payload.len();
    Ok(Some(Frame {
        offset,
        end: offset + u64::try_from(frame_bytes).map_err(|_| Fault::Length)?,
        durable,
        payload,
    }))
}

/// What stands where a frame is, its checksum not looked at.
struct FrameHead<'a> {
    offset: u64,
    length: u32,
    durable: u64,
    crc: u32,
    payload: &'a [u8],
}

impl FrameHead<'_> {
    fn is_whole(&self, number: FileNumber) -> bool {
        self.crc == frame_checksum(number, self.offset, self.length, self.durable, self.payload)
    }
}

fn frame_head_at(bytes: &[u8], offset: u64) -> Result<Option<FrameHead<'_>>, Fault> {
    let start = usize::try_from(offset).map_err(|_| Fault::Length)?;
    let mut rest = bytes.get(start..).ok_or(Fault::Length)?;
    if rest.is_empty() {
        return Ok(None);
    }
    let mark: [u8; 4] = take(&mut rest).ok_or(Fault::Mark)?;
    if mark != FRAME_MARK {
        return Err(Fault::Mark);
    }
    let length = u32::from_le_bytes(take(&mut rest).ok_or(Fault::Length)?);
    let durable = u64::from_le_bytes(take(&mut rest).ok_or(Fault::Length)?);
    let crc = u32::from_le_bytes(take(&mut rest).ok_or(Fault::Length)?);
    let payload_bytes = usize::try_from(length).map_err(|_| Fault::Length)?;
    if payload_bytes == 0 || payload_bytes > FRAME_PAYLOAD_MAX || durable > offset {
        return Err(Fault::Length);
    }
    let payload = rest.get(..payload_bytes).ok_or(Fault::Length)?;
    Ok(Some(FrameHead {
        offset,
        length,
        durable,
        crc,
        payload,
    }))
}

/// Most bytes that are checksummed in search of a proof. Only a file made to that end has so many frames begun.
const PROOF_BYTES_MAX: usize = 4 * FRAME_PAYLOAD_MAX;

/// Whether anything after a bad frame proves that the bad frame was synced once, so that it is damage and not the
/// remains of a write that the power cut.
///
/// Looks no further than a frame reaches: the writer syncs more often than that, and the next frame says so.
pub(crate) fn was_durable(bytes: &[u8], number: FileNumber, bad: u64) -> bool {
    let Ok(start) = usize::try_from(bad) else {
        return true;
    };
    let Some(after) = bytes.get(start.saturating_add(1)..) else {
        return false;
    };
    let marks = after
        .windows(FRAME_MARK.len())
        .take(FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX)
        .enumerate()
        .filter(|(_, window)| *window == FRAME_MARK)
        .filter_map(|(at, _)| u64::try_from(start + 1 + at).ok());
    let mut checked_bytes = 0;
    for at in marks {
        let Ok(Some(head)) = frame_head_at(bytes, at) else {
            continue;
        };
        // The cheap question first: a checksum costs as much as the frame is long.
        if head.durable <= bad {
            continue;
        }
        checked_bytes += head.payload.len();
        if checked_bytes > PROOF_BYTES_MAX || head.is_whole(number) {
            return true;
        }
    }
    false
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip() {
        for number in [1, 42, u64::MAX] {
            let name = FileNumber(number).file_name();
            assert_eq!(FileNumber::parse(&name), Some(FileNumber(number)));
        }
        for bad in [
            "1.log",
            "00000000000000000000.log",
            "lock",
            "+0000000000000000001.log",
        ] {
            assert_eq!(FileNumber::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn frames_belong_to_their_place() {
        let one = FileNumber(1);
        let mut bytes = file_header(one);
        let framed = frame(b"payload", one, 24, 24).unwrap();
        bytes.extend_from_slice(&framed);
        assert_eq!(check_file_header(&bytes, one), Ok(()));
        assert_eq!(
            check_file_header(&bytes, FileNumber(2)),
            Err(Fault::FileNumber)
        );
        let read = frame_at(&bytes, one, 24).unwrap().unwrap();
        assert_eq!((read.payload, read.end), (&b"payload"[..], 51));
        assert!(frame_at(&bytes, one, 51).unwrap().is_none());
        assert_eq!(
            frame_at(&bytes, FileNumber(2), 24).unwrap_err(),
            Fault::Checksum
        );
        bytes.extend_from_slice(&framed);
        assert_eq!(frame_at(&bytes, one, 51).unwrap_err(), Fault::Checksum);
    }

    #[test]
    fn a_later_frame_tells_damage_from_a_torn_write() {
        let one = FileNumber(1);
        let header = file_header(one);
        let first = frame(b"first", one, 24, 24).unwrap();
        for (durable, damage) in [(49, true), (24, false)] {
            let second = frame(b"second", one, 49, durable).unwrap();
            let mut bytes = [&header[..], &first, &second].concat();
            bytes[46] ^= 1;
            assert_eq!(frame_at(&bytes, one, 24).unwrap_err(), Fault::Checksum);
            assert_eq!(was_durable(&bytes, one, 24), damage);
        }
    }

    /// A file of nothing but beginnings of long frames was once summed up from each of them.
    #[test]
    fn hostile_files_are_judged_in_bounded_time() {
        let one = FileNumber(1);
        for (durable, damage) in [(0_u64, false), (25, true)] {
            let mut bytes = file_header(one);
            bytes.extend([0; 20]);
            let length = u32::try_from(2 << 20).unwrap();
            while bytes.len() < 4 << 20 {
                bytes.extend_from_slice(&FRAME_MARK);
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(&durable.to_le_bytes());
                bytes.extend_from_slice(&[1; 4]);
            }
            let start = std::time::Instant::now();
            assert_eq!(was_durable(&bytes, one, 24), damage);
            assert!(start.elapsed().as_secs() < 20);
        }
    }
}
