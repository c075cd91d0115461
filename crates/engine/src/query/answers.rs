//! What whole segments answered, kept for whoever asks the same next: a dashboard asks for the months of one device again
//! and again, and a segment never changes.
//!
//! An answer is kept of a segment that lies in the question's range with all its rows, none of them retired. Its windows
//! are whole ones, so that it serves all questions that differ in nothing but their range, order and page.

use super::Query;
use super::scan::Found;
use crate::id_hash::IdHasher;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The answers of all organizations. A number of a segment is never given twice, so that only those find an answer who
/// may read its segment.
pub(crate) struct Answers {
    max_bytes: usize,
    hasher: IdHasher,
    kept: Mutex<Kept>,
    found: AtomicU64,
    missed: AtomicU64,
}

/// How the answers did since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerFigures {
    pub(crate) found: u64,
    pub(crate) missed: u64,
    pub(crate) bytes: usize,
}

/// A segment, and the hash of what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    pub(super) segment: u64,
    pub(super) question: u128,
}

/// What the rows of a segment come to.
pub(super) struct Answer {
    pub(super) found: Found,
    /// Rows that were looked at for it.
    pub(super) rows: u64,
}

/// In two halves, so that what was used least lately can go without a search for it: once `recent` is full, it becomes
/// `older`, and what was that goes.
#[derive(Default)]
struct Kept {
    recent: Half,
    older: Half,
}

#[derive(Default)]
struct Half {
    answers: HashMap<AnswerKey, Arc<Answer>>,
    bytes: usize,
}

/// One answer gets this part of the room at most.
const PART_OF_ONE: usize = 64;

/// About what an answer takes without groups.
const ANSWER_BYTES: usize = 1024;

impl Answer {
    fn bytes(&self) -> usize {
        ANSWER_BYTES + self.found.bytes()
    }
}

impl Answers {
    /// Keeps none if it is to take no bytes.
    pub(crate) fn new(max_bytes: usize, hasher: IdHasher) -> Self {
        Self {
            max_bytes,
            hasher,
            kept: Mutex::default(),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    pub(crate) fn figures(&self) -> AnswerFigures {
        let kept = self.kept.lock();
        AnswerFigures {
            found: self.found.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            bytes: kept.recent.bytes + kept.older.bytes,
        }
    }

    /// These segments are no more. What a query that still reads one of them keeps after this goes in its turn.
    pub(crate) fn forget(&self, segments: &HashSet<u64>) {
        let mut kept = self.kept.lock();
        let Kept { recent, older } = &mut *kept;
        for half in [recent, older] {
            half.answers.retain(|key, answer| {
                let stays = !segments.contains(&key.segment);
                half.bytes -= if stays { 0 } else { answer.bytes() };
                stays
            });
        }
    }

    /// Most bytes of one answer; `None` if none are kept.
    pub(super) fn one_max_bytes(&self) -> Option<usize> {
        (self.max_bytes > 0).then_some(self.max_bytes / PART_OF_ONE)
    }

    pub(super) fn question(&self, query: &Query) -> u128 {
        let Query {
            // The segment's.
            meter: _,
            // All of the segment.
            from: _,
            to: _,
            zone,
            window,
            group_by,
            filter,
            aggregations,
            // Of the answer as a whole.
            order_by: _,
            offset: _,
            limit: _,
        } = query;
        (self.hasher).hash_of(&(zone.name(), window, group_by, filter, aggregations))
    }

    pub(super) fn find(&self, key: AnswerKey) -> Option<Arc<Answer>> {
        let mut kept = self.kept.lock();
        let mut found = kept.recent.answers.get(&key).cloned();
        let mut gone = Half::default();
        if found.is_none() {
            found = kept.older.take(key);
            if let Some(answer) = &found {
                gone = kept.put(key, Arc::clone(answer), self.max_bytes / 2);
            }
        }
        drop(kept);
        // Which may be many, and nobody has to wait for it.
        drop(gone);
        let counter = if found.is_some() {
            &self.found
        } else {
            &self.missed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(super) fn keep(&self, key: AnswerKey, answer: Answer) {
        if answer.bytes() <= self.max_bytes / PART_OF_ONE {
            let gone = (self.kept.lock()).put(key, Arc::new(answer), self.max_bytes / 2);
            drop(gone);
        }
    }
}

/// Without what it keeps, which is the organizations'.
impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Kept {
    /// Answers what has to go.
    fn put(&mut self, key: AnswerKey, answer: Arc<Answer>, half_bytes: usize) -> Half {
        let bytes = answer.bytes();
        let gone = if self.recent.bytes + bytes > half_bytes {
            std::mem::replace(&mut self.older, std::mem::take(&mut self.recent))
        } else {
            Half::default()
        };
        // Another query may have kept the same.
        self.recent.take(key);
        self.recent.bytes += bytes;
        self.recent.answers.insert(key, answer);
        gone
    }
}

impl Half {
    fn take(&mut self, key: AnswerKey) -> Option<Arc<Answer>> {
        let answer = self.answers.remove(&key)?;
        self.bytes -= answer.bytes();
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Filter;
    use meterd_model::{MeterId, Timestamp, Zone};
    use uuid::Uuid;

    fn answer() -> Answer {
        let query = Query {
            meter: MeterId(Uuid::nil()),
            from: Timestamp::MIN,
            to: Timestamp::MAX,
            zone: Zone::UTC,
            window: None,
            group_by: Vec::new(),
            filter: Filter::default(),
            aggregations: Vec::new(),
            order_by: Vec::new(),
            offset: 0,
            limit: 0,
        };
        Answer {
            found: Found::new(&query, 1),
            rows: 1,
        }
    }

    fn key(segment: u64) -> AnswerKey {
        AnswerKey {
            segment,
            question: 1,
        }
    }

    #[test]
    fn what_was_used_least_lately_goes_first() {
        let max_bytes = PART_OF_ONE * answer().bytes();
        let answers = Answers::new(max_bytes, IdHasher::new([0; 32]));
        for segment in 0..1_000 {
            answers.keep(key(segment), answer());
            assert!(answers.find(key(0)).is_some(), "{segment}");
            assert!(answers.figures().bytes <= max_bytes);
        }
        let mut kept: HashSet<_> = (1..1_000)
            .filter(|n| answers.find(key(*n)).is_some())
            .collect();
        assert!((20..=64).contains(&kept.len()), "{kept:?}");
        assert!(kept.iter().all(|segment| *segment > 900), "{kept:?}");
        kept.insert(0);
        answers.forget(&kept);
        assert_eq!(answers.figures().bytes, 0);
        let figures = answers.figures();
        assert_eq!(figures.found + figures.missed, 1_000 + 999);
    }

    #[test]
    fn what_is_too_large_for_one_is_not_kept() {
        let answers = Answers::new(PART_OF_ONE * answer().bytes() - 1, IdHasher::new([0; 32]));
        answers.keep(key(1), answer());
        assert!(answers.find(key(1)).is_none());
        assert_eq!(
            Answers::new(0, IdHasher::new([0; 32])).one_max_bytes(),
            None
        );
    }
}
