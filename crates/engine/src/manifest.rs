//! What of the data directory belongs to the engine's present state, in one file that is switched atomically.
//!
//! The file is written whole under another name, synced, and renamed; so a start finds the old one or the new one.
//! What does not read is damage, and never guessed at. The format is written down in `docs/STORAGE-FORMAT.md`.

mod codec;
#[cfg(test)]
mod tests;

use self::ManifestFault::Contents;
use crate::disk::Disk;
use crate::partition::{Month, Partition};
use crate::runs::RunMeta;
use crate::segment::SegmentMeta;
use meterd_model::{OrganizationId, Timestamp};
use roaring::RoaringTreemap;
use std::io;
use std::path::Path;

/// The state of all that is sealed. The log from `first_log` on has the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// Number of the first log file that is not sealed.
    pub(crate) first_log: u64,
    /// The first sequence that is not sealed.
    pub(crate) next_sequence: u64,
    /// Number of the next segment or run; none is ever given twice.
    pub(crate) next_file: u64,
    /// Key of the hash that tells ids apart.
    pub(crate) hash_key: [u8; 32],
    /// By their ids.
    pub(crate) organizations: Vec<OrganizationMeta>,
    /// Oldest first.
    pub(crate) runs: Vec<RunMeta>,
    /// When sequences were given: rising pairs of a time in microseconds and the first sequence received at or after
    /// it.
    pub(crate) marks: Vec<(i64, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OrganizationMeta {
    pub(crate) organization: OrganizationId,
    /// Distinct ids seen; one that was forgotten may have been seen again.
    pub(crate) ids: u64,
    pub(crate) segments: Vec<SegmentMeta>,
    /// Sequences of rows that count by their segment, but were replaced or voided since it was written; by partition.
    pub(crate) retired: Vec<(Partition, RoaringTreemap)>,
    /// By partition: of the meter, rows of that month or one before, with a lesser sequence than this, were dropped.
    pub(crate) dropped: Vec<(Partition, u64)>,
    /// Whether it ever forgot an id, so that a measurement that counts may not be the newest of its id, or have none.
    pub(crate) forgets: bool,
    /// Ids whose newest event has a lesser sequence are unknown, whether a run still has them or not. All that the log
    /// from `first_log` on says was decided so; it only rises.
    pub(crate) forgotten_below: u64,
}

/// Why there is no manifest to go on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the manifest is damaged: {0}")]
    Damaged(#[from] ManifestFault),
}

/// Why a manifest cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestFault {
    #[error("the file is no manifest")]
    Magic,
    #[error("the file has format version {0}, which this build does not read")]
    Version(u32),
    #[error("the file is shorter or longer than it says")]
    Length,
    #[error("the checksum is wrong")]
    Checksum,
    #[error("the contents are malformed: {0}")]
    Contents(&'static str),
}

/// Why a manifest was not written, and what that leaves behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A start finds what it would have found without the attempt.
    #[error("write the manifest: {0}")]
    NotWritten(#[source] io::Error),
    /// A start finds the old one or the new one, until a later attempt succeeds. Until then nothing may be removed
    /// that either needs.
    #[error("switch the manifest: {0}")]
    Unknown(#[source] io::Error),
}

/// More than any number that is given, and than all bytes together: what is added to them does not overflow.
const NUMBER_MAX: u64 = 1 << 62;

const NAME: &str = "manifest";
/// Where the next one is written; what an interrupted attempt left there means nothing.
const TEMPORARY_NAME: &str = "manifest.tmp";

impl Manifest {
    /// `None` if there is none. What this answers is durable: were it not, a power cut could bring back an older one
    /// after its files are gone.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, ManifestError> {
        let path = directory.join(NAME);
        let length = match disk.length(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if length > codec::FILE_BYTES_MAX {
            return Err(ManifestFault::Length.into());
        }
        let manifest = codec::decode(&disk.read(&path)?)?;
        disk.sync_directory(directory)?;
        Ok(Some(manifest))
    }

    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), WriteError> {
        let bytes = codec::encode(self).map_err(WriteError::NotWritten)?;
        let temporary = directory.join(TEMPORARY_NAME);
        if let Err(error) = write_file(disk, &temporary, &bytes) {
            // It may be what fills the disk. The next attempt can do with it as well.
            let _ = disk.remove(&temporary);
            return Err(WriteError::NotWritten(error));
        }
        disk.rename(&temporary, &directory.join(NAME))
            .and_then(|()| disk.sync_directory(directory))
            .map_err(WriteError::Unknown)
    }

    /// What holds for every manifest. Asked of what is read, and of what is written, so that nothing is written that
    /// would not be read.
    fn check(&self) -> Result<(), ManifestFault> {
        let month_max = Month::of(Timestamp::MAX);
        require(self.first_log >= 1, "the log begins before its first file")?;
        require(
            (self.first_log.max(self.next_sequence)).max(self.next_file) < NUMBER_MAX,
            "a number is greater than any that is given",
        )?;
        require(
            is_rising(self.organizations.iter().map(|meta| meta.organization)),
            "organizations are not in order",
        )?;
        for meta in &self.organizations {
            for segment in &meta.segments {
                self.check_segment(meta.organization, segment)?;
                require(
                    segment.partition.month <= month_max,
                    "a segment is of no month",
                )?;
            }
            require(
                is_rising(meta.retired.iter().map(|(partition, _)| *partition)),
                "partitions of retired rows are not in order",
            )?;
            for (partition, sequences) in &meta.retired {
                let last = sequences.max().ok_or(Contents("a retired set is empty"))?;
                require(last < self.next_sequence, "a retired row is not sealed")?;
                require(partition.month <= month_max, "retired rows are of no month")?;
            }
        }
        require(
            (self.organizations.iter()).all(|meta| meta.forgotten_below <= self.next_sequence),
            "what is forgotten was not sealed",
        )?;
        let mut dropped = self.organizations.iter().flat_map(|meta| &meta.dropped);
        require(
            dropped.all(|(partition, sequence)| {
                partition.month <= month_max && *sequence <= self.next_sequence
            }),
            "what was dropped was not sealed",
        )?;
        require(
            (self.organizations.iter())
                .all(|meta| is_rising(meta.dropped.iter().map(|(partition, _)| *partition))),
            "what was dropped is not in order",
        )?;
        require(
            is_rising(self.marks.iter().map(|(time, _)| *time))
                && is_rising(self.marks.iter().map(|(_, sequence)| *sequence)),
            "marks are not rising",
        )?;
        require(
            (self.marks.iter()).all(|(time, _)| Timestamp::from_micros(*time).is_some()),
            "a mark is of no time",
        )?;
        require(
            (self.marks.last()).is_none_or(|(_, sequence)| *sequence <= self.next_sequence),
            "a mark is of no sealed row",
        )?;
        self.check_files()?;
        self.check_sums()
    }

    /// Each row has a sequence of its own, so has each first version of an id, and each newest one.
    fn check_sums(&self) -> Result<(), ManifestFault> {
        let segments = || self.organizations.iter().flat_map(|meta| &meta.segments);
        let rows = segments().map(|segment| segment.rows);
        let ids = self.organizations.iter().map(|meta| meta.ids);
        let entries = self.runs.iter().map(|run| run.entries);
        let run_bytes = self.runs.iter().map(|run| run.bytes);
        let bytes = segments().map(|segment| segment.bytes).chain(run_bytes);
        let sequences = self.next_sequence;
        require(sums_below(rows, sequences), "more rows than sequences")?;
        require(sums_below(ids, sequences), "more ids than sequences")?;
        require(
            sums_below(entries, sequences),
            "more entries of ids than sequences",
        )?;
        require(sums_below(bytes, NUMBER_MAX), "more bytes than a disk has")
    }

    fn check_segment(
        &self,
        organization: OrganizationId,
        segment: &SegmentMeta,
    ) -> Result<(), ManifestFault> {
        require(
            segment.organization == organization,
            "a segment is of another organization",
        )?;
        require(
            segment.voids <= segment.superseded && segment.superseded <= segment.rows,
            "a segment has more superseded rows than rows, or more voids than those",
        )?;
        // Voids have no time.
        let is_timeless = segment.voids == segment.rows
            && (segment.time_min, segment.time_max) == (i64::MAX, i64::MIN);
        require(
            segment.time_min <= segment.time_max || is_timeless,
            "a segment ends before it begins",
        )?;
        require(
            segment.sequence_min <= segment.sequence_max
                && segment.sequence_max < self.next_sequence,
            "a segment's sequences are not those of sealed rows",
        )?;
        require(
            segment.rows.saturating_sub(1) <= segment.sequence_max - segment.sequence_min,
            "a segment has more rows than sequences",
        )?;
        require(
            is_rising(segment.values.iter()) && is_rising(segment.attributes.iter()),
            "a segment's fields are not in order",
        )
    }

    fn check_files(&self) -> Result<(), ManifestFault> {
        let segments = self.organizations.iter().flat_map(|meta| &meta.segments);
        let mut numbers: Vec<_> = segments
            .map(|segment| segment.number)
            .chain(self.runs.iter().map(|run| run.number))
            .collect();
        numbers.sort_unstable();
        require(is_rising(numbers.iter()), "two files have the same number")?;
        require(
            numbers.last().is_none_or(|last| *last < self.next_file),
            "a file's number was not given yet",
        )
    }
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), ManifestFault> {
    if holds {
        Ok(())
    } else {
        Err(Contents(otherwise))
    }
}

fn is_rising<T: PartialOrd>(items: impl Iterator<Item = T>) -> bool {
    items.is_sorted_by(|one, next| one < next)
}

fn sums_below(mut parts: impl Iterator<Item = u64>, bound: u64) -> bool {
    let sum = parts.try_fold(0, u64::checked_add);
    sum.is_some_and(|sum| sum < bound)
}

fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            disk.create(path)?
        }
        other => other?,
    };
    file.append(bytes)?;
    file.sync()
}
