//! The groups of a query, numbered in the order they are met, and the order of their texts.

use super::windows::WindowFinder;
use super::{Cancel, Query, QueryError, QueryLimit, check, too_expensive};
use crate::state::Organization;
use crate::texts::{NO_TEXT, TextNumber};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use meterd_model::Timestamp;
use parking_lot::RwLock;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A group is a window's start and one text number per group key.
pub(super) struct Groups {
    windows: WindowFinder,
    width: usize,
    max: usize,
    hasher: DefaultHashBuilder,
    numbers: HashTable<usize>,
    starts: Vec<i64>,
    /// `width` texts per group.
    texts: Vec<TextNumber>,
    key: Vec<TextNumber>,
    last: usize,
}

impl Groups {
    pub(super) fn new(query: &Query, max: usize) -> Self {
        Self {
            windows: WindowFinder::new(query.window, query.zone.clone(), query.from, query.to),
            width: query.group_by.len(),
            max,
            hasher: DefaultHashBuilder::default(),
            numbers: HashTable::new(),
            starts: Vec::new(),
            texts: Vec::new(),
            key: Vec::new(),
            last: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The number of the group that a row belongs to.
    pub(super) fn number(
        &mut self,
        time: i64,
        key: impl Iterator<Item = TextNumber>,
    ) -> Result<usize, QueryError> {
        let start = self.windows.start(time);
        self.key.clear();
        self.key.extend(key);
        if self.is(self.last, start) {
            return Ok(self.last);
        }
        let hash = self.hasher.hash_one((start, self.key.as_slice()));
        if let Some(number) = self.numbers.find(hash, |number| self.is(*number, start)) {
            self.last = *number;
            return Ok(*number);
        }
        if self.len() >= self.max {
            return Err(too_expensive(QueryLimit::Groups(self.max)));
        }
        let number = self.len();
        self.starts.push(start);
        self.texts.extend_from_slice(&self.key);
        let (hasher, starts, texts, width) = (&self.hasher, &self.starts, &self.texts, self.width);
        self.numbers.insert_unique(hash, number, |number| {
            let start = starts.get(*number).copied().unwrap_or_default();
            hasher.hash_one((start, texts_of(texts, *number, width)))
        });
        self.last = number;
        Ok(number)
    }

    pub(super) fn start(&self, group: usize) -> i64 {
        self.starts.get(group).copied().unwrap_or_default()
    }

    pub(super) fn window(&self, group: usize) -> (Timestamp, Timestamp) {
        let start = self.start(group);
        let from = Timestamp::from_micros(start).unwrap_or(Timestamp::MIN);
        (from, self.windows.end(start))
    }

    fn text(&self, group: usize, index: usize) -> TextNumber {
        texts_of(&self.texts, group, self.width)
            .get(index)
            .copied()
            .unwrap_or(NO_TEXT)
    }

    fn is(&self, group: usize, start: i64) -> bool {
        // Comparing empty slices is not free: their pointers lead nowhere, over which a vectorised memcmp stumbles
        // (measured: 0.128 s instead of 0.011 s for a sum over a million rows).
        self.starts.get(group) == Some(&start)
            && (self.width == 0 || texts_of(&self.texts, group, self.width) == self.key.as_slice())
    }
}

fn texts_of(texts: &[TextNumber], group: usize, width: usize) -> &[TextNumber] {
    let start = group * width;
    texts.get(start..start + width).unwrap_or_default()
}

/// The texts of the groups and their order.
pub(super) struct Ranks {
    ranked: HashMap<TextNumber, usize>,
    texts: Vec<Arc<str>>,
}

/// Texts taken out under one lock; the one writer waits for no more.
const TEXTS_PER_LOCK: usize = 4096;

impl Ranks {
    pub(super) fn new(
        groups: &Groups,
        organization: &RwLock<Organization>,
        cancel: &Cancel,
    ) -> Result<Self, QueryError> {
        let mut ranked: HashMap<_, _> = groups.texts.iter().map(|number| (*number, 0)).collect();
        ranked.remove(&NO_TEXT);
        let numbers: Vec<_> = ranked.keys().copied().collect();
        let mut found: Vec<(Arc<str>, TextNumber)> = Vec::with_capacity(numbers.len());
        for some in numbers.chunks(TEXTS_PER_LOCK) {
            check(cancel)?;
            // A number means the same text under every lock.
            let texts = &organization.read().texts;
            found.extend(some.iter().filter_map(|n| Some((texts.handle(*n)?, *n))));
        }
        check(cancel)?;
        found.sort_unstable();
        check(cancel)?;
        for (rank, (_, number)) in found.iter().enumerate() {
            ranked.insert(*number, rank);
        }
        Ok(Self {
            ranked,
            texts: found.into_iter().map(|(text, _)| text).collect(),
        })
    }

    /// `None` for the group without the attribute, which so comes first.
    pub(super) fn of(&self, groups: &Groups, group: usize, index: usize) -> Option<usize> {
        self.ranked.get(&groups.text(group, index)).copied()
    }

    pub(super) fn text(&self, groups: &Groups, group: usize, index: usize) -> Option<&str> {
        let rank = self.of(groups, group, index)?;
        self.texts.get(rank).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use meterd_model::{MeterId, Zone};
    use uuid::Uuid;

    #[test]
    fn texts_are_taken_out_and_ordered_in_parts_that_can_be_cancelled() {
        let organization = RwLock::new(Organization::default());
        let query = Query {
            meter: MeterId(Uuid::from_u128(1)),
            from: Timestamp::MIN,
            to: Timestamp::MAX,
            zone: Zone::UTC,
            window: None,
            group_by: vec![crate::GroupKey::Subject],
            filter: crate::Filter::default(),
            aggregations: Vec::new(),
            order_by: Vec::new(),
            offset: 0,
            limit: 10,
        };
        let mut groups = Groups::new(&query, Settings::default().query_groups_max);
        let count = 2 * TEXTS_PER_LOCK + 5;
        for n in 0..count {
            let text = format!("{:06}", n * 7919 % count);
            let number = organization.write().texts.number(&text);
            groups.number(0, std::iter::once(number)).unwrap();
        }
        groups.number(0, std::iter::once(NO_TEXT)).unwrap();
        let cancel = Cancel::new();
        let ranks = Ranks::new(&groups, &organization, &cancel).unwrap();
        for group in 0..count {
            let rank = group * 7919 % count;
            assert_eq!(ranks.of(&groups, group, 0), Some(rank));
            assert_eq!(
                ranks.text(&groups, group, 0),
                Some(format!("{rank:06}").as_str())
            );
        }
        assert_eq!(ranks.of(&groups, count, 0), None);
        cancel.cancel();
        let cancelled = Ranks::new(&groups, &organization, &cancel).map(|_| ());
        assert_eq!(cancelled, Err(QueryError::Cancelled));
    }
}
