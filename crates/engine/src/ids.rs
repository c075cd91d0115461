//! The ids an organization has seen, each with its content's fingerprint and the row that holds its newest version.

use crate::fingerprint::Fingerprint;
use crate::table::RowPlace;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Number of an id within an organization, in the order they came.
pub(crate) type IdNumber = u32;

/// All ids, for ever. About 45 bytes beyond the id itself.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    hasher: DefaultHashBuilder,
    /// None before the first id, one for a few, then [`SHARDS`], chosen by the hash.
    shards: Vec<HashTable<IdNumber>>,
    count: usize,
    pages: Vec<Page>,
}

/// A table that grows hashes all that it has again, while everybody waits (measured: 1.7 s at 7 million ids in one
/// table). In so many tables each does so on its own, for a part of the ids.
const SHARDS: usize = 256;
/// Ids that one table holds without being felt.
const ONE_SHARD_IDS: usize = 1 << 15;

/// Ids per page: a growing index then never moves what it has, and wastes half a page at most.
const PAGE_IDS: usize = 4096;

#[derive(Debug, Default)]
struct Page {
    text: String,
    ends: Vec<u32>,
    entries: Vec<IdEntry>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct IdEntry {
    fingerprint_high: u64,
    fingerprint_low: u64,
    /// The newest version; it does not count if it was voided.
    pub(crate) newest: RowPlace,
}

impl IdEntry {
    pub(crate) fn new(fingerprint: Fingerprint, newest: RowPlace) -> Self {
        let [low, high] = halves(fingerprint.0);
        Self {
            fingerprint_high: high,
            fingerprint_low: low,
            newest,
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(u128::from(self.fingerprint_high) << 64 | u128::from(self.fingerprint_low))
    }
}

/// Two halves instead of one number, since a `u128` would be aligned to 16 bytes.
fn halves(number: u128) -> [u64; 2] {
    let high = u64::try_from(number >> 64).unwrap_or_default();
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    [low, high]
}

impl Ids {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn text(&self, number: IdNumber) -> Option<&str> {
        text_in(&self.pages, number)
    }

    pub(crate) fn find(&self, id: &str) -> Option<IdNumber> {
        let hash = self.hasher.hash_one(id);
        self.shards
            .get(shard_of(hash, self.shards.len()))?
            .find(hash, |number| self.text(*number) == Some(id))
            .copied()
    }

    pub(crate) fn entry(&self, number: IdNumber) -> Option<&IdEntry> {
        let (page, place) = split(number);
        self.pages.get(page)?.entries.get(place)
    }

    pub(crate) fn entry_mut(&mut self, number: IdNumber) -> Option<&mut IdEntry> {
        let (page, place) = split(number);
        self.pages.get_mut(page)?.entries.get_mut(place)
    }

    /// The number that the next new id will have.
    pub(crate) fn next_number(&self) -> IdNumber {
        // Bounded: the engine takes no more versions than 32 bits can number.
        IdNumber::try_from(self.count).unwrap_or(IdNumber::MAX)
    }

    /// Adds an id that is not there.
    pub(crate) fn add(&mut self, id: &str, entry: IdEntry) {
        let number = self.next_number();
        let full = self
            .pages
            .last()
            .is_none_or(|page| page.entries.len() >= PAGE_IDS);
        if full {
            if let Some(page) = self.pages.last_mut() {
                page.text.shrink_to_fit();
            }
            self.pages.push(Page::default());
        }
        if let Some(page) = self.pages.last_mut() {
            page.text.push_str(id);
            // An id has at most 512 bytes.
            page.ends
                .push(u32::try_from(page.text.len()).unwrap_or(u32::MAX));
            page.entries.push(entry);
        }
        match self.count {
            0 => self.shards.push(HashTable::new()),
            ONE_SHARD_IDS => self.spread(),
            _ => {}
        }
        self.count += 1;
        let (hasher, pages) = (&self.hasher, &self.pages);
        insert(&mut self.shards, hasher, pages, number);
    }

    fn spread(&mut self) {
        let few = std::mem::take(&mut self.shards);
        self.shards.resize_with(SHARDS, HashTable::new);
        for number in few.into_iter().flatten() {
            insert(&mut self.shards, &self.hasher, &self.pages, number);
        }
    }
}

fn insert(
    shards: &mut [HashTable<IdNumber>],
    hasher: &DefaultHashBuilder,
    pages: &[Page],
    number: IdNumber,
) {
    let hash_of = |number: &IdNumber| hasher.hash_one(text_in(pages, *number).unwrap_or_default());
    let hash = hash_of(&number);
    let shard = shard_of(hash, shards.len());
    if let Some(shard) = shards.get_mut(shard) {
        shard.insert_unique(hash, number, hash_of);
    }
}

/// By bits that the tables themselves use little: they place by the lowest and tell apart by the highest.
fn shard_of(hash: u64, shards: usize) -> usize {
    let [.., bits, _, _] = hash.to_le_bytes();
    if shards == SHARDS {
        usize::from(bits)
    } else {
        0
    }
}

fn text_in(pages: &[Page], number: IdNumber) -> Option<&str> {
    let (page, place) = split(number);
    let page = pages.get(page)?;
    let end = *page.ends.get(place)? as usize;
    let start = match place.checked_sub(1) {
        None => 0,
        Some(before) => *page.ends.get(before)? as usize,
    };
    page.text.get(start..end)
}

fn split(number: IdNumber) -> (usize, usize) {
    let number = number as usize;
    (number / PAGE_IDS, number % PAGE_IDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_id_over_many_pages() {
        const COUNT: u32 = 50_000;
        let mut ids = Ids::default();
        assert_eq!(ids.find("id-0"), None);
        let place = RowPlace { table: 0, row: 0 };
        for n in 0..COUNT {
            assert_eq!(ids.next_number(), n);
            ids.add(
                &format!("id-{n}"),
                IdEntry::new(Fingerprint(u128::from(n) << 60), place),
            );
        }
        assert_eq!((ids.len(), ids.shards.len()), (COUNT as usize, SHARDS));
        // No table is so large that its growth would be felt.
        let most = ids.shards.iter().map(HashTable::len).max().unwrap();
        assert!(most < 4 * COUNT as usize / SHARDS, "{most}");
        for n in 0..COUNT {
            let id = format!("id-{n}");
            assert_eq!(ids.find(&id), Some(n));
            assert_eq!(ids.text(n), Some(id.as_str()));
            assert_eq!(
                ids.entry(n).unwrap().fingerprint(),
                Fingerprint(u128::from(n) << 60)
            );
        }
        assert_eq!(ids.find("id-50000"), None);
        assert_eq!(size_of::<IdEntry>(), 24);
    }
}
