//! Writes a run from front to back. In memory are one page, the filter keys of one shard, and what a reader keeps too.

use super::filter::{Filter, FilterShape, filter_key, slot_bits};
use super::format::{Trailer, checksum, header, length};
use super::page::{PageBuilder, Row};
use super::{IdHash, RunEntry, RunMeta};
use crate::disk::DiskFile;
use crate::partition::Partition;
use hashbrown::HashMap;
use meterd_model::OrganizationId;
use std::io;

/// Pages of a shard: 16 MiB with about 750 000 entries, whose filter takes some 30 MB to build.
const SHARD_PAGES: u32 = 4096;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct RunWriter {
    file: Box<dyn DiskFile>,
    number: u64,
    shard_pages: u32,
    slot_bits: u32,
    /// What is still to be written; with it the file has `bytes` bytes.
    unwritten: Vec<u8>,
    bytes: u64,
    /// CRC-32C of what was written.
    checksum: u32,
    page: PageBuilder,
    /// Filter keys of the shard's entries so far.
    keys: Vec<u64>,
    entries: u64,
    last: Option<(OrganizationId, IdHash)>,
    organizations: Vec<OrganizationPlace>,
    partitions: Vec<Partition>,
    partition_places: HashMap<Partition, u32>,
    fences: Vec<[u8; 8]>,
    /// First keys of the shards.
    shard_firsts: Vec<(OrganizationId, IdHash)>,
    /// Of the shards that are whole: the filter's shape and its block's checksum.
    shards: Vec<(FilterShape, u32)>,
}

#[derive(Debug)]
struct OrganizationPlace {
    organization: OrganizationId,
    entries: u64,
    first_page: u32,
    last_page: u32,
}

impl RunWriter {
    /// Writes run `number` to an empty file. `entries_max` is how many entries may come; by it the width of the
    /// filter is chosen, so that it need not be exact.
    pub(crate) fn new(file: Box<dyn DiskFile>, number: u64, entries_max: u64) -> Self {
        let mut writer = Self {
            file,
            number,
            shard_pages: SHARD_PAGES,
            slot_bits: slot_bits(entries_max),
            unwritten: Vec::new(),
            bytes: 0,
            checksum: 0,
            page: PageBuilder::default(),
            keys: Vec::new(),
            entries: 0,
            last: None,
            organizations: Vec::new(),
            partitions: Vec::new(),
            partition_places: HashMap::new(),
            fences: Vec::new(),
            shard_firsts: Vec::new(),
            shards: Vec::new(),
        };
        writer.put(&header(number));
        writer
    }

    #[cfg(test)]
    pub(super) fn with_shard_pages(mut self, shard_pages: u32) -> Self {
        self.shard_pages = shard_pages;
        self
    }

    /// Adds an entry; it must come after the one before by organization and hash.
    pub(crate) fn push(&mut self, entry: &RunEntry) -> io::Result<()> {
        let key = entry.key();
        if self.last.is_some_and(|last| last >= key) {
            return Err(invalid("an entry of an id run is out of order"));
        }
        let row = Row {
            hash: entry.hash,
            content: entry.content,
            sequence: entry.newest.sequence,
            mark: self.partition_place(entry.newest.partition)? << 1 | u32::from(entry.voided),
        };
        if !self.page.push(row) {
            self.end_page()?;
            self.page.push(row);
        }
        if self.page.rows() == 1 {
            self.begin_page(key);
        }
        let page = self.page_number()?;
        match self.organizations.last_mut() {
            Some(last) if last.organization == entry.organization => {
                last.entries += 1;
                last.last_page = page;
            }
            _ => self.organizations.push(OrganizationPlace {
                organization: entry.organization,
                entries: 1,
                first_page: page,
                last_page: page,
            }),
        }
        self.keys.push(filter_key(entry.organization, entry.hash));
        self.entries += 1;
        self.last = Some(key);
        Ok(())
    }

    /// Writes what is left and syncs the file. Its name is for the caller to sync.
    pub(crate) fn finish(mut self) -> io::Result<RunMeta> {
        self.end_page()?;
        self.end_shard()?;
        let index = self.index();
        let index_checksum = checksum(self.number, self.bytes, &index);
        self.put(&index);
        let trailer = Trailer {
            entries: self.entries,
            pages: count(self.fences.len())?,
            shard_pages: self.shard_pages,
            organizations: count(self.organizations.len())?,
            partitions: count(self.partitions.len())?,
            slot_bits: self.slot_bits,
            index_checksum,
        };
        self.put(&trailer.encode(self.number, self.bytes));
        self.write()?;
        self.file.sync()?;
        Ok(RunMeta {
            number: self.number,
            entries: self.entries,
            bytes: self.bytes,
            checksum: self.checksum,
        })
    }

    fn partition_place(&mut self, partition: Partition) -> io::Result<u32> {
        if let Some(place) = self.partition_places.get(&partition) {
            return Ok(*place);
        }
        let place = count(self.partitions.len())?;
        if place > u32::MAX >> 1 {
            return Err(invalid("an id run has too many partitions"));
        }
        self.partitions.push(partition);
        self.partition_places.insert(partition, place);
        Ok(place)
    }

    /// The page that is being filled.
    fn page_number(&self) -> io::Result<u32> {
        count(self.fences.len().saturating_sub(1))
    }

    fn begin_page(&mut self, key: (OrganizationId, IdHash)) {
        if self.keys.is_empty() {
            self.shard_firsts.push(key);
        }
        self.fences.push(key.1.prefix().to_be_bytes());
    }

    fn end_page(&mut self) -> io::Result<()> {
        let first_entry = self.entries - length(self.page.rows());
        if let Some(page) = self.page.take(first_entry, self.number, self.bytes) {
            self.put(&page);
            if count(self.fences.len())?.is_multiple_of(self.shard_pages) {
                self.end_shard()?;
            }
        }
        if self.unwritten.len() < WRITE_BYTES {
            Ok(())
        } else {
            self.write()
        }
    }

    /// Puts the filter behind the pages that it is for.
    fn end_shard(&mut self) -> io::Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let filter = Filter::build(&mut self.keys, self.slot_bits)?;
        let crc = checksum(self.number, self.bytes, filter.block());
        self.put(filter.block());
        self.shards.push((filter.shape(), crc));
        Ok(())
    }

    /// Organizations, partitions, fences, shards.
    fn index(&self) -> Vec<u8> {
        let mut index = Vec::new();
        for place in &self.organizations {
            index.extend_from_slice(place.organization.0.as_bytes());
            index.extend_from_slice(&place.entries.to_le_bytes());
            index.extend_from_slice(&place.first_page.to_le_bytes());
            index.extend_from_slice(&place.last_page.to_le_bytes());
        }
        for partition in &self.partitions {
            index.extend_from_slice(partition.meter.0.as_bytes());
            index.extend_from_slice(&partition.month.0.to_le_bytes());
        }
        for fence in &self.fences {
            index.extend_from_slice(fence);
        }
        for ((organization, hash), (shape, crc)) in self.shard_firsts.iter().zip(&self.shards) {
            index.extend_from_slice(organization.0.as_bytes());
            index.extend_from_slice(&hash.0);
            index.extend_from_slice(&shape.seed.to_le_bytes());
            index.extend_from_slice(&shape.segment_slots.to_le_bytes());
            index.extend_from_slice(&shape.first_slots.to_le_bytes());
            index.extend_from_slice(&crc.to_le_bytes());
        }
        index
    }

    fn put(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
        self.bytes += length(bytes.len());
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.append(&self.unwritten)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.unwritten);
        self.unwritten.clear();
        Ok(())
    }
}

/// A count as the format has it.
fn count(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| invalid("an id run is too large"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
