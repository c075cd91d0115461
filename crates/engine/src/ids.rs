//! The ids that came since the last seal, each with its content's fingerprint and its newest event.

use crate::runs::IdHash;
use crate::table::RowPlace;
use hashbrown::HashTable;
use std::sync::Arc;

/// Number of an id within one memory, in the order they came.
pub(crate) type IdNumber = u32;

/// About 50 bytes each beyond the id itself.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    numbers: HashTable<IdNumber>,
    count: usize,
    pages: Vec<Page>,
}

/// Ids per page: a growing index then never moves what it has, and wastes half a page at most.
const PAGE_IDS: usize = 4096;

#[derive(Debug, Default)]
struct Page {
    texts: Arc<PageTexts>,
    entries: Vec<IdEntry>,
}

#[derive(Clone, Debug, Default)]
struct PageTexts {
    text: String,
    ends: Vec<u32>,
}

/// The ids themselves, by number, as they were when this was made. What comes after copies a page at most.
#[derive(Clone, Debug)]
pub(crate) struct IdTexts {
    pages: Vec<Arc<PageTexts>>,
}

impl IdTexts {
    pub(crate) fn text(&self, number: IdNumber) -> Option<&str> {
        let (page, place) = split(number);
        self.pages.get(page)?.get(place)
    }
}

impl PageTexts {
    fn get(&self, place: usize) -> Option<&str> {
        let end = *self.ends.get(place)? as usize;
        let start = match place.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)? as usize,
        };
        self.text.get(start..end)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdEntry {
    pub(crate) hash: IdHash,
    /// See [`crate::id_hash::Print`].
    pub(crate) content: u64,
    pub(crate) newest: Newest,
}

/// The newest event of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    Row(RowPlace),
    /// Index into the voids of the memory.
    Void(u32),
}

impl Ids {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn text(&self, number: IdNumber) -> Option<&str> {
        let (page, place) = split(number);
        self.pages.get(page)?.texts.get(place)
    }

    /// All ids as of now.
    pub(crate) fn texts(&self) -> IdTexts {
        IdTexts {
            pages: self
                .pages
                .iter()
                .map(|page| Arc::clone(&page.texts))
                .collect(),
        }
    }

    pub(crate) fn find(&self, hash: IdHash) -> Option<IdNumber> {
        let pages = &self.pages;
        let is_it = |number: &IdNumber| entry_in(pages, *number).is_some_and(|e| e.hash == hash);
        self.numbers.find(place_of(hash), is_it).copied()
    }

    pub(crate) fn entry(&self, number: IdNumber) -> Option<&IdEntry> {
        entry_in(&self.pages, number)
    }

    pub(crate) fn entry_mut(&mut self, number: IdNumber) -> Option<&mut IdEntry> {
        let (page, place) = split(number);
        self.pages.get_mut(page)?.entries.get_mut(place)
    }

    /// All entries in the order of their numbers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &IdEntry> {
        self.pages.iter().flat_map(|page| &page.entries)
    }

    /// The number that the next new id will have.
    pub(crate) fn next_number(&self) -> IdNumber {
        // Bounded: a memory takes no more versions than 32 bits can number.
        IdNumber::try_from(self.count).unwrap_or(IdNumber::MAX)
    }

    /// Adds an id that is not there.
    pub(crate) fn add(&mut self, id: &str, entry: IdEntry) -> IdNumber {
        let number = self.next_number();
        if self.count.is_multiple_of(PAGE_IDS) {
            if let Some(page) = self.pages.last_mut() {
                Arc::make_mut(&mut page.texts).text.shrink_to_fit();
            }
            self.pages.push(Page::default());
        }
        if let Some(page) = self.pages.last_mut() {
            let texts = Arc::make_mut(&mut page.texts);
            texts.text.push_str(id);
            // An id has at most 512 bytes.
            texts
                .ends
                .push(u32::try_from(texts.text.len()).unwrap_or(u32::MAX));
            page.entries.push(entry);
        }
        self.count += 1;
        let pages = &self.pages;
        self.numbers
            .insert_unique(place_of(entry.hash), number, |number| {
                entry_in(pages, *number).map_or(0, |entry| place_of(entry.hash))
            });
        number
    }
}

/// The hash is as good as random, so that a part of it says where it goes.
fn place_of(hash: IdHash) -> u64 {
    hash.0.last_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn entry_in(pages: &[Page], number: IdNumber) -> Option<&IdEntry> {
    let (page, place) = split(number);
    pages.get(page)?.entries.get(place)
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
        let hash = |n: u32| {
            let mut bytes = [7; 12];
            bytes[4..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
            IdHash(bytes)
        };
        let entry = |n| IdEntry {
            hash: hash(n),
            content: u64::from(n),
            newest: Newest::Row(RowPlace { table: 0, row: n }),
        };
        for n in 0..COUNT {
            assert_eq!(ids.find(hash(n)), None);
            assert_eq!(ids.add(&format!("id-{n}"), entry(n)), n);
        }
        for n in 0..COUNT {
            assert_eq!(ids.find(hash(n)), Some(n));
            assert_eq!(ids.text(n), Some(format!("id-{n}").as_str()));
            assert_eq!(ids.entry(n), Some(&entry(n)));
        }
        assert_eq!(ids.find(hash(COUNT)), None);
        assert_eq!(ids.entry(COUNT), None);
        assert_eq!(ids.entries().count(), COUNT as usize);
    }
}
