//! Texts that many rows share, kept once and numbered.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a text within whatever numbers it.
pub(crate) type TextNumber = u32;

/// No text. Never given out: before a memory has so many it takes no more.
pub(crate) const NO_TEXT: TextNumber = TextNumber::MAX;

/// About what a text takes beyond its own bytes.
const TEXT_BYTES: u64 = 40;

/// Texts per page: what an addition copies at most, if a snapshot holds the last page.
const PAGE_TEXTS: usize = 1024;

/// Numbers texts in the order they come and forgets none.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    hasher: DefaultHashBuilder,
    numbers: HashTable<TextNumber>,
    list: TextList,
    bytes: u64,
}

/// Texts by number. Cloning it is cheap and keeps it as it is now.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextList {
    pages: Vec<Arc<Vec<Arc<str>>>>,
}

impl TextList {
    pub(crate) fn get(&self, number: TextNumber) -> Option<&str> {
        let number = number as usize;
        let page = self.pages.get(number / PAGE_TEXTS)?;
        page.get(number % PAGE_TEXTS).map(AsRef::as_ref)
    }

    pub(crate) fn len(&self) -> usize {
        match self.pages.split_last() {
            Some((last, full)) => full.len() * PAGE_TEXTS + last.len(),
            None => 0,
        }
    }

    fn push(&mut self, text: &str) {
        match self.pages.last_mut().filter(|page| page.len() < PAGE_TEXTS) {
            Some(page) => Arc::make_mut(page).push(text.into()),
            None => self.pages.push(Arc::new(vec![text.into()])),
        }
    }
}

impl Texts {
    pub(crate) fn get(&self, number: TextNumber) -> Option<&str> {
        self.list.get(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All texts as of now.
    pub(crate) fn list(&self) -> &TextList {
        &self.list
    }

    pub(crate) fn find(&self, text: &str) -> Option<TextNumber> {
        let hash = self.hasher.hash_one(text);
        self.numbers
            .find(hash, |number| self.get(*number) == Some(text))
            .copied()
    }

    pub(crate) fn number(&mut self, text: &str) -> TextNumber {
        let hash = self.hasher.hash_one(text);
        let list = &self.list;
        let known = (self.numbers).find(hash, |number| list.get(*number) == Some(text));
        if let Some(number) = known {
            return *number;
        }
        // Below the bound, see `Settings::texts_max`: a group adds fewer than what lies between that and 32 bits.
        let number = TextNumber::try_from(list.len()).unwrap_or(NO_TEXT);
        let hasher = &self.hasher;
        self.numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(list.get(*number).unwrap_or_default())
        });
        self.list.push(text);
        self.bytes += TEXT_BYTES + length(text);
        number
    }
}

/// Bytes of a text.
pub(crate) fn length(text: &str) -> u64 {
    crate::wide(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_snapshots_do_not_change() {
        let count = u32::try_from(3 * PAGE_TEXTS + 1).unwrap();
        let mut texts = Texts::default();
        let mut snapshots = Vec::new();
        for n in 0..count {
            assert_eq!(texts.find(&format!("text-{n}")), None);
            snapshots.push(texts.list().clone());
            assert_eq!(texts.number(&format!("text-{n}")), n);
            assert_eq!(texts.number(&format!("text-{n}")), n);
        }
        for (number, snapshot) in (0..count).zip(&snapshots) {
            assert_eq!(snapshot.len(), number as usize);
            assert_eq!(snapshot.get(number), None);
            let before = number.checked_sub(1);
            assert_eq!(
                before
                    .and_then(|before| snapshot.get(before))
                    .map(str::to_owned),
                before.map(|before| format!("text-{before}"))
            );
        }
        assert_eq!(texts.get(NO_TEXT), None);
    }
}
