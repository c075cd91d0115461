//! Sealed measurements: immutable Parquet files, one or a few per partition.
//!
//! The format is written down in `docs/STORAGE-FORMAT.md`. [`schema`] knows names and columns; [`write`] makes a file,
//! with [`group`] and [`encode`] below it; [`read`] answers from one, with [`footer`], [`column`] and [`decode`] below
//! it; [`merge`] makes one of several.

use crate::partition::Partition;
use meterd_model::{FieldName, OrganizationId};
use parquet::errors::ParquetError;
use std::io;

mod column;
mod cursor;
mod decode;
mod encode;
mod footer;
mod group;
pub(crate) mod merge;
pub(crate) mod read;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod verify;
pub(crate) mod write;

/// What the manifest knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u64,
    pub(crate) organization: OrganizationId,
    pub(crate) partition: Partition,
    /// Versions and voids.
    pub(crate) rows: u64,
    pub(crate) voids: u64,
    /// Rows that did not count any more when the file was written: replaced or voided versions, and the voids.
    pub(crate) superseded: u64,
    /// Of the versions; voids have no time. Without versions, `i64::MAX` and `i64::MIN`: no range meets that.
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) sequence_min: u64,
    pub(crate) sequence_max: u64,
    pub(crate) bytes: u64,
    /// CRC-32C of the whole file.
    pub(crate) checksum: u32,
    /// Fields that any row has, sorted.
    pub(crate) values: Vec<FieldName>,
    pub(crate) attributes: Vec<FieldName>,
}

impl SegmentMeta {
    pub(crate) fn versions(&self) -> u64 {
        self.rows.saturating_sub(self.voids)
    }
}

/// Why a segment cannot be read or merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error("read or write a segment: {0}")]
    Io(#[from] io::Error),
    #[error("segment {number} is damaged: {what}")]
    Damaged { number: u64, what: String },
}

impl SegmentError {
    fn damaged(number: u64, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Damaged { number, what }
    }

    /// Errors of the disk come through the library boxed; all others are about what the file holds.
    fn of_parquet(number: u64, error: ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => Self::Io(*error),
                Err(other) => Self::damaged(number, other.to_string()),
            },
            ParquetError::General(what) => Self::damaged(number, what),
            other => Self::damaged(number, other.to_string()),
        }
    }
}
