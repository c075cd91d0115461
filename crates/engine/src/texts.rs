//! Texts that many rows share, kept once and numbered.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a text within an organization.
pub(crate) type TextNumber = u32;

/// No text. Never given out: the engine is full before an organization has so many.
pub(crate) const NO_TEXT: TextNumber = TextNumber::MAX;

/// Texts are never forgotten, so that a number stays valid after the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    hasher: DefaultHashBuilder,
    numbers: HashTable<TextNumber>,
    list: Vec<Arc<str>>,
}

impl Texts {
    pub(crate) fn get(&self, number: TextNumber) -> Option<&str> {
        self.list.get(number as usize).map(AsRef::as_ref)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// A text to keep beyond the lock.
    pub(crate) fn handle(&self, number: TextNumber) -> Option<Arc<str>> {
        self.list.get(number as usize).cloned()
    }

    pub(crate) fn find(&self, text: &str) -> Option<TextNumber> {
        let hash = self.hasher.hash_one(text);
        self.numbers
            .find(hash, |number| self.get(*number) == Some(text))
            .copied()
    }

    pub(crate) fn number(&mut self, text: &str) -> TextNumber {
        let hash = self.hasher.hash_one(text);
        let texts = &self.list;
        let text_of = |number: TextNumber| texts.get(number as usize).map(AsRef::as_ref);
        if let Some(number) = self
            .numbers
            .find(hash, |number| text_of(*number) == Some(text))
        {
            return *number;
        }
        // Below the bound, see `Settings::texts_max`: a group adds fewer than what lies between that and 32 bits.
        let number = TextNumber::try_from(self.list.len()).unwrap_or(NO_TEXT);
        let hasher = &self.hasher;
        self.numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(text_of(*number).unwrap_or_default())
        });
        self.list.push(text.into());
        number
    }
}
