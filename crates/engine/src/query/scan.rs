//! The scan: the sources of a plan in pieces, over as many threads as pay.

use super::accumulate::Accumulator;
use super::answers::{Answer, AnswerKey, Answers};
use super::groups::Groups;
use super::numbers::Numbers;
use super::plan::{MemorySource, Plan, SegmentSource, Selected, TextFilter};
use super::view::View;
use super::{Cancel, Query, QueryError, QueryLimit, check, too_expensive};
use crate::segment::read::{Part, Range, SegmentRows};
use crate::settings::Settings;
use crate::stored::current_places;
use crate::table::Chunk;
use crate::texts::{NO_TEXT, TextList, TextNumber, Texts};
use crate::wide;
use meterd_model::Timestamp;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a scan found, with a numbering of texts of its own.
pub(super) struct Found {
    pub(super) texts: Texts,
    pub(super) tally: Tally,
}

/// Groups, and what the rows of each come to.
pub(super) struct Tally {
    pub(super) groups: Groups,
    pub(super) columns: Vec<Accumulator>,
}

impl Found {
    pub(super) fn new(query: &Query, groups_max: usize) -> Self {
        Self {
            texts: Texts::default(),
            tally: Tally::new(query, groups_max),
        }
    }

    /// Adds what was found in other rows, with another numbering of texts.
    fn absorb(&mut self, texts: &TextList, tally: &Tally) -> Result<(), QueryError> {
        let mut known = Vec::new();
        let mut numbers = Numbers::of_memory(&mut self.texts, texts, &mut known);
        self.tally.absorb(tally, &mut numbers)
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.texts.bytes()).unwrap_or(usize::MAX) + self.tally.bytes()
    }
}

impl Tally {
    fn new(query: &Query, groups_max: usize) -> Self {
        let aggregations = query.aggregations.iter();
        Self {
            groups: Groups::new(query, groups_max),
            columns: aggregations
                .map(|aggregation| Accumulator::new(aggregation.function))
                .collect(),
        }
    }

    fn absorb(&mut self, other: &Self, numbers: &mut Numbers<'_>) -> Result<(), QueryError> {
        let map = self.groups.absorb(&other.groups, numbers)?;
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.absorb(theirs, &map, self.groups.len(), |text| numbers.number(text));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(Accumulator::bytes);
        self.groups.bytes() + columns.sum::<usize>()
    }

    fn unique_len(&self) -> usize {
        self.columns.iter().map(Accumulator::unique_len).sum()
    }
}

pub(super) fn scan(
    plan: &Plan,
    query: &Query,
    settings: &Settings,
    answers: &Answers,
    cancel: &Cancel,
) -> Result<Found, QueryError> {
    let whole = Query {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        ..query.clone()
    };
    let work = Work::new(plan, query, &whole, settings, answers, cancel)?;
    let shared = Shared {
        query,
        whole: &whole,
        settings,
        answers,
        cancel,
        pieces: &work.pieces,
        next: AtomicUsize::new(0),
        rows_seen: AtomicU64::new(0),
        unique: AtomicUsize::new(0),
        texts: AtomicUsize::new(0),
        is_too_large: AtomicBool::new(false),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pay = usize::try_from(work.rows / settings.query_thread_rows.max(1)).unwrap_or(usize::MAX);
    let threads = (settings.query_threads.min(cores)).min(work.pieces.len().min(pay));
    let workers = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| scope.spawn(|| Worker::new(&shared).run(&shared)))
            .collect();
        let mut workers = vec![Worker::new(&shared).run(&shared)];
        workers.extend(others.into_iter().map(|other| {
            // A panic there is one here: it ends in one answered fault.
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        workers
    });
    let mut workers = workers.into_iter();
    let mut found = workers.next().unwrap_or(Err(QueryError::Cancelled))?;
    for other in workers {
        check(cancel)?;
        let other = other?;
        found.absorb(other.texts.list(), &other.tally)?;
    }
    for draft in work.drafts {
        check(cancel)?;
        if let Some(left) = draft.progress.lock().found.take() {
            found.absorb(left.texts.list(), &left.tally)?;
        }
    }
    Ok(found)
}

/// What the threads share out among them.
struct Work<'a> {
    pieces: Vec<Piece<'a>>,
    drafts: Vec<Arc<Draft>>,
    /// Of the pieces that have to be scanned, at most.
    rows: u64,
}

enum Piece<'a> {
    /// With the memory's number in the plan.
    Chunk(usize, &'a MemorySource, &'a Chunk),
    /// With the answer of its segment that it is to be a part of.
    Part(&'a SegmentSource, Part, Option<Arc<Draft>>),
    /// What a segment has answered before.
    Answer(Arc<Answer>),
}

/// An answer of a segment in the making.
struct Draft {
    key: AnswerKey,
    rows: u64,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Parts of the segment that nobody has handed in.
    parts_left: usize,
    /// What those handed in so far come to; `None` once it is somewhere else.
    found: Option<Found>,
}

impl<'a> Work<'a> {
    fn new(
        plan: &'a Plan,
        query: &Query,
        whole: &Query,
        settings: &Settings,
        answers: &Answers,
        cancel: &Cancel,
    ) -> Result<Self, QueryError> {
        let mut work = Self {
            pieces: Vec::new(),
            drafts: Vec::new(),
            rows: 0,
        };
        for (memory, source) in plan.memories.iter().enumerate() {
            for chunk in &source.chunks {
                work.rows += u64::from(chunk.current_count());
                work.pieces.push(Piece::Chunk(memory, source, chunk));
            }
        }
        let mut subjects: Option<Vec<&str>> = query
            .filter
            .subjects
            .as_ref()
            .map(|subjects| subjects.iter().map(meterd_model::Subject::as_str).collect());
        if let Some(subjects) = &mut subjects {
            subjects.sort_unstable();
            subjects.dedup();
        }
        let range = Range {
            from: query.from.micros(),
            to: query.to.micros(),
            subjects: subjects.as_deref(),
            sequence: None,
        };
        let question = answers.one_max_bytes().map(|_| answers.question(query));
        for source in &plan.segments {
            check(cancel)?;
            let key = question.filter(|_| source.is_whole());
            let key = key.map(|question| AnswerKey {
                segment: source.segment.meta().number,
                question,
            });
            if let Some(answer) = key.and_then(|key| answers.find(key)) {
                work.pieces.push(Piece::Answer(answer));
                continue;
            }
            let parts = source.segment.parts(&range)?;
            let rows = parts.iter().map(|part| wide(part.rows)).sum();
            work.rows += rows;
            let draft = key.filter(|_| !parts.is_empty()).map(|key| {
                let progress = Progress {
                    parts_left: parts.len(),
                    found: Some(Found::new(whole, settings.query_groups_max)),
                };
                Arc::new(Draft {
                    key,
                    rows,
                    progress: Mutex::new(progress),
                })
            });
            work.drafts.extend(draft.clone());
            let parts = parts.into_iter();
            (work.pieces).extend(parts.map(|part| Piece::Part(source, part, draft.clone())));
        }
        Ok(work)
    }
}

struct Shared<'a> {
    query: &'a Query,
    /// The same over all times.
    whole: &'a Query,
    settings: &'a Settings,
    answers: &'a Answers,
    cancel: &'a Cancel,
    pieces: &'a [Piece<'a>],
    next: AtomicUsize,
    rows_seen: AtomicU64,
    /// What all threads hold.
    unique: AtomicUsize,
    texts: AtomicUsize,
    /// Whether an answer became too large to be kept; then no others are tried.
    is_too_large: AtomicBool,
}

/// One thread's part of a scan.
struct Worker {
    found: Found,
    own: Option<Own>,
    filter: TextFilter,
    selection: Vec<Selected>,
    /// The query's numbers of the texts of the memory that was scanned last, and which that is.
    numbers: Vec<TextNumber>,
    numbers_of: Option<usize>,
    /// What of this the others know of.
    told_unique: usize,
    told_texts: usize,
}

/// What the parts of one segment come to that were scanned one after the other, with the worker's numbers of texts.
struct Own {
    draft: Arc<Draft>,
    parts: usize,
    tally: Tally,
}

impl Worker {
    fn new(shared: &Shared<'_>) -> Self {
        let query = shared.query;
        let mut found = Found::new(query, shared.settings.query_groups_max);
        Self {
            filter: TextFilter::of_query(&query.filter, &mut found.texts),
            found,
            own: None,
            selection: Vec::new(),
            numbers: Vec::new(),
            numbers_of: None,
            told_unique: 0,
            told_texts: 0,
        }
    }

    fn run(mut self, shared: &Shared<'_>) -> Result<Found, QueryError> {
        loop {
            let next = shared.next.fetch_add(1, Ordering::Relaxed);
            let piece = shared.pieces.get(next);
            self.turn_to(shared, piece)?;
            match piece {
                None => return Ok(self.found),
                Some(Piece::Chunk(memory, source, chunk)) => {
                    self.scan_chunk(shared, *memory, source, chunk)?;
                }
                Some(Piece::Part(source, part, _)) => self.scan_part(shared, source, part)?,
                Some(Piece::Answer(answer)) => {
                    // They count as if they were looked at, so that it does not depend on others what is too much.
                    shared.count(answer.rows)?;
                    let Found { texts, tally } = &answer.found;
                    self.found.absorb(texts.list(), tally)?;
                    self.tell(shared, self.found.texts.len())?;
                }
            }
        }
    }

    /// Hands in what is of another segment than the piece, or has become too large.
    fn turn_to(
        &mut self,
        shared: &Shared<'_>,
        piece: Option<&Piece<'_>>,
    ) -> Result<(), QueryError> {
        let one_max_bytes = shared.answers.one_max_bytes().unwrap_or(0);
        let is_too_large = |own: &Own| own.tally.bytes() > one_max_bytes;
        if self.own.as_ref().is_some_and(is_too_large) {
            shared.is_too_large.store(true, Ordering::Relaxed);
        }
        let draft = match piece {
            Some(Piece::Part(_, _, draft)) if !shared.is_too_large.load(Ordering::Relaxed) => {
                draft.as_ref()
            }
            _ => None,
        };
        let is_own = |own: &Own| draft.is_some_and(|draft| draft.key == own.draft.key);
        if !self.own.as_ref().is_some_and(is_own) {
            self.hand_in(shared, one_max_bytes)?;
            self.own = draft.map(|draft| Own {
                draft: Arc::clone(draft),
                parts: 0,
                tally: Tally::new(shared.whole, shared.settings.query_groups_max),
            });
        }
        if let Some(own) = &mut self.own {
            own.parts += 1;
        }
        Ok(())
    }

    /// Adds what is of one segment to its answer. Whoever completes that takes it over and keeps it.
    fn hand_in(&mut self, shared: &Shared<'_>, one_max_bytes: usize) -> Result<(), QueryError> {
        let Some(Own {
            draft,
            parts,
            tally,
        }) = self.own.take()
        else {
            return Ok(());
        };
        let mut progress = draft.progress.lock();
        progress.parts_left = progress.parts_left.saturating_sub(parts);
        let is_complete = progress.parts_left == 0;
        match &mut progress.found {
            Some(found) if found.bytes() + tally.bytes() <= one_max_bytes => {
                found.absorb(self.found.texts.list(), &tally)?;
                let complete = progress.found.take_if(|_| is_complete);
                drop(progress);
                if let Some(found) = complete {
                    self.found.absorb(found.texts.list(), &found.tally)?;
                    let rows = draft.rows;
                    shared.answers.keep(draft.key, Answer { found, rows });
                }
            }
            found => {
                let found = found.take();
                drop(progress);
                let mut numbers = Numbers::of_query(&mut self.found.texts);
                self.found.tally.absorb(&tally, &mut numbers)?;
                if let Some(found) = found {
                    self.found.absorb(found.texts.list(), &found.tally)?;
                }
            }
        }
        self.tell(shared, self.found.texts.len())
    }

    fn scan_chunk(
        &mut self,
        shared: &Shared<'_>,
        memory: usize,
        source: &MemorySource,
        chunk: &Chunk,
    ) -> Result<(), QueryError> {
        shared.count(u64::from(chunk.current_count()))?;
        if self.numbers_of != Some(memory) {
            self.numbers.clear();
            self.numbers_of = Some(memory);
        }
        let Found { texts, tally } = &mut self.found;
        let mut numbers = Numbers::of_memory(texts, &source.texts, &mut self.numbers);
        let view = View::of_memory(&chunk.rows);
        source.layout.select(
            shared.query,
            &view,
            chunk.current_places(),
            &source.filter,
            &source.retired,
            &mut numbers,
            &mut tally.groups,
            &mut self.selection,
        )?;
        for (column, field) in tally.columns.iter_mut().zip(&source.layout.fields) {
            column.take(
                &view,
                *field,
                &mut numbers,
                &self.selection,
                tally.groups.len(),
            );
        }
        self.tell(shared, self.found.texts.len())
    }

    fn scan_part(
        &mut self,
        shared: &Shared<'_>,
        source: &SegmentSource,
        part: &Part,
    ) -> Result<(), QueryError> {
        let mut ended = Ok(());
        // Taken out, so that the segment can number texts while rows are looked at.
        let texts = std::cell::RefCell::new(std::mem::take(&mut self.found.texts));
        let scanned = source.segment.scan(
            part,
            &source.projection,
            &mut |column, text| {
                if source.layout.keeps(column) {
                    texts.borrow_mut().number(text)
                } else {
                    // What the filter does not name is not worth keeping: there may be one for every row.
                    texts.borrow().find(text).unwrap_or(NO_TEXT)
                }
            },
            &mut |rows| {
                ended = self.take_rows(shared, source, rows, &mut texts.borrow_mut());
                if ended.is_ok() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        );
        self.found.texts = texts.into_inner();
        let _ended_early = scanned?;
        ended
    }

    fn take_rows(
        &mut self,
        shared: &Shared<'_>,
        source: &SegmentSource,
        rows: &SegmentRows,
        texts: &mut Texts,
    ) -> Result<(), QueryError> {
        shared.count(wide(rows.len))?;
        let (query, tally) = match &mut self.own {
            Some(own) => (shared.whole, &mut own.tally),
            None => (shared.query, &mut self.found.tally),
        };
        let mut numbers = Numbers::of_query(texts);
        let view = View::of_segment(rows);
        source.layout.select(
            query,
            &view,
            current_places(rows),
            &self.filter,
            &source.retired,
            &mut numbers,
            &mut tally.groups,
            &mut self.selection,
        )?;
        for (column, field) in tally.columns.iter_mut().zip(&source.layout.fields) {
            column.take(
                &view,
                *field,
                &mut numbers,
                &self.selection,
                tally.groups.len(),
            );
        }
        self.tell(shared, texts.len())
    }

    /// Tells the others how much is held here.
    fn tell(&mut self, shared: &Shared<'_>, texts: usize) -> Result<(), QueryError> {
        let own = self.own.as_ref().map_or(0, |own| own.tally.unique_len());
        let unique = self.found.tally.unique_len() + own;
        let all = add(&shared.unique, unique, &mut self.told_unique);
        let max = shared.settings.query_unique_max;
        if all > max {
            return Err(too_expensive(QueryLimit::Unique(max)));
        }
        let all = add(&shared.texts, texts, &mut self.told_texts);
        let max = shared.settings.query_texts_max;
        if all > max {
            return Err(too_expensive(QueryLimit::Texts(max)));
        }
        Ok(())
    }
}

/// Brings a sum up to date with one of its parts; answers the sum.
fn add(sum: &AtomicUsize, part: usize, told: &mut usize) -> usize {
    let before = std::mem::replace(told, part);
    match part.checked_sub(before) {
        Some(more) => sum.fetch_add(more, Ordering::Relaxed) + more,
        None => sum.fetch_sub(before - part, Ordering::Relaxed) - (before - part),
    }
}

impl Shared<'_> {
    fn count(&self, rows: u64) -> Result<(), QueryError> {
        check(self.cancel)?;
        let seen = self.rows_seen.fetch_add(rows, Ordering::Relaxed) + rows;
        let max = self.settings.query_rows_max;
        if seen > max {
            return Err(too_expensive(QueryLimit::Rows(max)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_for_all_threads_together() {
        let all = AtomicUsize::new(0);
        let (mut one, mut other) = (0, 0);
        assert_eq!(add(&all, 3, &mut one), 3);
        assert_eq!(add(&all, 2, &mut other), 5);
        assert_eq!(add(&all, 4, &mut one), 6);
        assert_eq!(add(&all, 4, &mut one), 6);
        assert_eq!(add(&all, 1, &mut one), 3);
    }
}
