//! The groups of a query, numbered in the order they are met, and the order of their texts.

use super::numbers::Numbers;
use super::windows::WindowFinder;
use super::{Cancel, Query, QueryError, QueryLimit, check, too_expensive};
use crate::texts::{NO_TEXT, TextNumber, Texts};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use meterd_model::Timestamp;
use std::hash::BuildHasher;

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
    /// The texts, the window's start and the group of the row that was asked for last: rows stand sorted, so that most
    /// belong to the group of the one before.
    key: Vec<TextNumber>,
    last: Option<(i64, usize)>,
    /// Per group the one that came after it last: most often it does so again.
    next: Vec<usize>,
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
            key: vec![NO_TEXT; query.group_by.len()],
            last: None,
            next: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.windows.bytes()
            + self.numbers.capacity() * size_of::<usize>()
            + self.starts.capacity() * size_of::<i64>()
            + self.next.capacity() * size_of::<usize>()
            + self.texts.capacity() * size_of::<TextNumber>()
    }

    /// The number of the group that a row belongs to, and where its window ends.
    pub(super) fn number(
        &mut self,
        time: i64,
        key: impl Iterator<Item = TextNumber>,
    ) -> Result<(usize, i64), QueryError> {
        let (start, end) = self.windows.around(time);
        // One by one, and without a call of memcmp for each row, which took a quarter of a sum by subject.
        let mut is_same = true;
        for (known, text) in self.key.iter_mut().zip(key) {
            is_same &= *known == text;
            *known = text;
        }
        let last = self.last;
        if let Some((last_start, last)) = last
            && is_same
            && last_start == start
        {
            return Ok((last, end));
        }
        let guess = last.and_then(|(_, last)| self.next.get(last).copied());
        let number = match guess.filter(|guess| self.is(*guess, start)) {
            Some(number) => number,
            None => self.find_or_add(start)?,
        };
        if let Some(next) = last.and_then(|(_, last)| self.next.get_mut(last)) {
            *next = number;
        }
        self.last = Some((start, number));
        Ok((number, end))
    }

    /// The number of the group of `key` in the window.
    fn find_or_add(&mut self, start: i64) -> Result<usize, QueryError> {
        let hash = self.hasher.hash_one((start, self.key.as_slice()));
        if let Some(number) = self.numbers.find(hash, |number| self.is(*number, start)) {
            return Ok(*number);
        }
        if self.len() >= self.max {
            return Err(too_expensive(QueryLimit::Groups(self.max)));
        }
        let number = self.len();
        self.starts.push(start);
        self.next.push(number);
        self.texts.extend_from_slice(&self.key);
        let (hasher, starts, texts, width) = (&self.hasher, &self.starts, &self.texts, self.width);
        self.numbers.insert_unique(hash, number, |number| {
            let start = starts.get(*number).copied().unwrap_or_default();
            hasher.hash_one((start, texts_of(texts, *number, width)))
        });
        Ok(number)
    }

    /// Adds the groups of a scan that differs in its rows or its range, and answers their numbers here.
    pub(super) fn absorb(
        &mut self,
        other: &Self,
        numbers: &mut Numbers<'_>,
    ) -> Result<Vec<usize>, QueryError> {
        let here = |number: TextNumber, numbers: &mut Numbers<'_>| match number {
            NO_TEXT => NO_TEXT,
            text => numbers.number(text),
        };
        (0..other.len())
            .map(|group| {
                let key = texts_of(&other.texts, group, other.width).iter();
                // The start of a window is in it, also if it is clipped here.
                let number = self.number(other.start(group), key.map(|text| here(*text, numbers)));
                number.map(|(number, _)| number)
            })
            .collect()
    }

    pub(super) fn start(&self, group: usize) -> i64 {
        self.starts.get(group).copied().unwrap_or_default()
    }

    pub(super) fn window(&self, group: usize) -> (Timestamp, Timestamp) {
        let start = self.start(group);
        let from = Timestamp::from_micros(start).unwrap_or(Timestamp::MIN);
        (from, self.windows.end(start))
    }

    pub(super) fn text(&self, group: usize, index: usize) -> TextNumber {
        texts_of(&self.texts, group, self.width)
            .get(index)
            .copied()
            .unwrap_or(NO_TEXT)
    }

    fn is(&self, group: usize, start: i64) -> bool {
        self.starts.get(group) == Some(&start)
            && texts_of(&self.texts, group, self.width)
                .iter()
                .eq(&self.key)
    }
}

fn texts_of(texts: &[TextNumber], group: usize, width: usize) -> &[TextNumber] {
    let start = group * width;
    texts.get(start..start + width).unwrap_or_default()
}

/// The order of the groups' texts.
pub(super) struct Ranks<'a> {
    texts: &'a Texts,
    ranked: HashMap<TextNumber, usize>,
}

impl<'a> Ranks<'a> {
    pub(super) fn new(
        groups: &Groups,
        texts: &'a Texts,
        cancel: &Cancel,
    ) -> Result<Self, QueryError> {
        let mut ranked: HashMap<_, _> = groups.texts.iter().map(|number| (*number, 0)).collect();
        ranked.remove(&NO_TEXT);
        check(cancel)?;
        let mut order: Vec<TextNumber> = ranked.keys().copied().collect();
        order.sort_unstable_by_key(|number| texts.get(*number));
        check(cancel)?;
        for (rank, number) in order.iter().enumerate() {
            ranked.insert(*number, rank);
        }
        Ok(Self { texts, ranked })
    }

    /// `None` for the group without the attribute, which so comes first.
    pub(super) fn of(&self, groups: &Groups, group: usize, index: usize) -> Option<usize> {
        self.ranked.get(&groups.text(group, index)).copied()
    }

    pub(super) fn text(&self, groups: &Groups, group: usize, index: usize) -> Option<&'a str> {
        self.texts.get(groups.text(group, index))
    }
}
