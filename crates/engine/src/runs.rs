//! Ids of sealed measurements: immutable files, sorted by hash, each behind a filter in memory.
//!
//! The format is written down in `docs/STORAGE-FORMAT.md`; [`format`] knows the frame of the file, [`page`] how
//! entries lie in it and [`filter`] what answers for absent ids. [`writer`] makes a run, [`reader`] looks up and lists
//! what is in one, [`merge`] makes one of several.

mod filter;
mod format;
mod merge;
mod page;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use merge::{Merged, merge};
pub(crate) use reader::{Run, find_newest, may_be_in};
pub(crate) use writer::RunWriter;

use crate::partition::Link;
use meterd_model::OrganizationId;
use std::io;

/// What the manifest knows of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMeta {
    pub(crate) number: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// CRC-32C of the whole file.
    pub(crate) checksum: u32,
}

impl RunMeta {
    pub(crate) fn file_name(number: u64) -> String {
        format!("{number:020}.ids")
    }

    /// Exact inverse of [`Self::file_name`].
    pub(crate) fn parse(name: &str) -> Option<u64> {
        let number = name.strip_suffix(".ids")?.parse().ok()?;
        (Self::file_name(number) == name).then_some(number)
    }
}

/// What tells ids apart: 96 bits of a keyed hash, compared as bytes. Of a thousand million ids two are alike with a
/// probability of about 10⁻¹¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IdHash(pub(crate) [u8; 12]);

impl IdHash {
    /// The first eight bytes: they sort as the hash does, but for hashes that have them in common.
    fn prefix(self) -> u64 {
        self.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

/// What is known of an id: its newest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunEntry {
    pub(crate) organization: OrganizationId,
    pub(crate) hash: IdHash,
    /// 64 bits of the content's fingerprint.
    pub(crate) content: u64,
    /// The newest event: a version, or a void.
    pub(crate) newest: Link,
    pub(crate) voided: bool,
}

impl RunEntry {
    /// What entries are sorted by.
    pub(crate) fn key(&self) -> (OrganizationId, IdHash) {
        (self.organization, self.hash)
    }
}

/// Why a run could not be read, or not be written from others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the id run is damaged: {what}")]
    Damaged { what: &'static str },
}

fn damaged(what: &'static str) -> RunError {
    RunError::Damaged { what }
}

/// Damage, unless `holds`.
fn ensure(holds: bool, what: &'static str) -> Result<(), RunError> {
    if holds { Ok(()) } else { Err(damaged(what)) }
}
