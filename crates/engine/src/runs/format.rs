//! The frame of a run's file: header and trailer, checksums, and how to read fields out of bytes.

use super::page::PAGE_BYTES;
use super::{RunError, damaged, ensure};

const MAGIC: [u8; 8] = *b"meterdID";
const VERSION: u32 = 1;
/// Magic 8, version 4, file number 8, CRC-32C 4. Zeros follow up to the first page.
const HEADER_BYTES: usize = 24;

/// Where the first page stands. Pages stand at multiples of their size, so that a look-up reads one page of the disk.
pub(super) const FIRST_PAGE_AT: u64 = PAGE_BYTES as u64;

pub(super) const TRAILER_BYTES: usize = 36;

pub(super) const ORGANIZATION_BYTES: usize = 32;
pub(super) const PARTITION_BYTES: usize = 20;
pub(super) const FENCE_BYTES: usize = 8;
pub(super) const SHARD_BYTES: usize = 48;

/// Checksum of a part of the file. Covers where the part stands too, so that none is taken for one of another place.
pub(super) fn checksum(number: u64, offset: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

pub(super) fn header(number: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(PAGE_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header.resize(PAGE_BYTES, 0);
    header
}

pub(super) fn check_header(bytes: &[u8; PAGE_BYTES], number: u64) -> Result<(), RunError> {
    let (covered, mut rest) = bytes.split_at(HEADER_BYTES - 4);
    let crc = Fields(&mut rest).u32()?;
    let mut fields = covered;
    let mut fields = Fields(&mut fields);
    ensure(fields.take()? == MAGIC, "it is no id run")?;
    let version = fields.u32()?;
    let named = fields.u64()?;
    ensure(
        crc == crc32c::crc32c(covered),
        "the header's checksum is wrong",
    )?;
    ensure(
        version == VERSION,
        "this build does not read its format version",
    )?;
    ensure(named == number, "the header names another file")?;
    ensure(
        rest.iter().all(|byte| *byte == 0),
        "the header is not followed by zeros",
    )
}

/// The last bytes of the file, from which the rest is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trailer {
    pub(super) entries: u64,
    pub(super) pages: u32,
    /// Pages of a shard; the last may have fewer.
    pub(super) shard_pages: u32,
    pub(super) organizations: u32,
    pub(super) partitions: u32,
    /// Bits of a slot of the filters.
    pub(super) slot_bits: u32,
    pub(super) index_checksum: u32,
}

impl Trailer {
    /// The trailer, to stand at `offset` of file `number`.
    pub(super) fn encode(&self, number: u64, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&self.entries.to_le_bytes());
        for field in [
            self.pages,
            self.shard_pages,
            self.organizations,
            self.partitions,
            self.slot_bits,
            self.index_checksum,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let crc = checksum(number, offset, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(
        bytes: &[u8; TRAILER_BYTES],
        number: u64,
        offset: u64,
    ) -> Result<Self, RunError> {
        let (mut covered, mut crc) = bytes.split_at(TRAILER_BYTES - 4);
        let whole = Fields(&mut crc).u32()? == checksum(number, offset, covered);
        ensure(whole, "the trailer's checksum is wrong")?;
        let mut fields = Fields(&mut covered);
        let trailer = Self {
            entries: fields.u64()?,
            pages: fields.u32()?,
            shard_pages: fields.u32()?,
            organizations: fields.u32()?,
            partitions: fields.u32()?,
            slot_bits: fields.u32()?,
            index_checksum: fields.u32()?,
        };
        ensure(trailer.shard_pages > 0, "a shard has no pages")?;
        ensure(
            (1..=16).contains(&trailer.slot_bits),
            "a slot has a wrong number of bits",
        )?;
        Ok(trailer)
    }

    pub(super) fn shards(&self) -> u32 {
        self.pages.div_ceil(self.shard_pages)
    }

    /// Bytes of organizations, partitions, fences and shards. No sum of four such products passes 64 bits.
    pub(super) fn index_bytes(&self) -> u64 {
        [
            (self.organizations, ORGANIZATION_BYTES),
            (self.partitions, PARTITION_BYTES),
            (self.pages, FENCE_BYTES),
            (self.shards(), SHARD_BYTES),
        ]
        .iter()
        .map(|(count, bytes)| u64::from(*count) * length(*bytes))
        .sum()
    }
}

/// Takes one field after the other from the front of bytes.
pub(super) struct Fields<'a, 'b>(pub(super) &'a mut &'b [u8]);

impl Fields<'_, '_> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], RunError> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or(damaged("it ends within a field"))?;
        *self.0 = rest;
        Ok(*field)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RunError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, RunError> {
        Ok(u64::from_le_bytes(self.take()?))
    }
}

/// A length in memory, as a length on disk.
pub(super) fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A place on disk, as one in memory; what does not fit is a place where nothing is.
pub(super) fn place(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
