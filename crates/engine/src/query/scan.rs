//! The scan: the sources of a plan in pieces, over as many threads as pay.

use super::accumulate::Accumulator;
use super::groups::Groups;
use super::numbers::Numbers;
use super::plan::{MemorySource, Plan, SegmentSource, Selected, TextFilter};
use super::view::View;
use super::{Cancel, Query, QueryError, QueryLimit, check, too_expensive};
use crate::segment::read::{Part, Range, SegmentRows};
use crate::settings::Settings;
use crate::stored::current_places;
use crate::table::Chunk;
use crate::texts::{NO_TEXT, TextNumber, Texts};
use crate::wide;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a scan found, in the query's numbering of texts.
pub(super) struct Found {
    pub(super) texts: Texts,
    pub(super) groups: Groups,
    pub(super) columns: Vec<Accumulator>,
}

/// Rows from which on a second thread pays.
const ROWS_PER_THREAD: u64 = 250_000;

pub(super) fn scan(
    plan: &Plan,
    query: &Query,
    settings: &Settings,
    cancel: &Cancel,
) -> Result<Found, QueryError> {
    let (pieces, rows) = pieces(plan, query, cancel)?;
    let shared = Shared {
        query,
        settings,
        cancel,
        pieces: &pieces,
        next: AtomicUsize::new(0),
        rows_seen: AtomicU64::new(0),
        unique: AtomicUsize::new(0),
        texts: AtomicUsize::new(0),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pay = usize::try_from(rows / ROWS_PER_THREAD).unwrap_or(usize::MAX);
    let threads = (settings.query_threads.min(cores).min(pieces.len()).min(pay)).max(1);
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
    let first = workers.next().unwrap_or(Err(QueryError::Cancelled))?;
    let mut found = Found {
        texts: first.texts,
        groups: first.groups,
        columns: first.columns,
    };
    for worker in workers {
        check(cancel)?;
        found.absorb(worker?)?;
    }
    Ok(found)
}

enum Piece<'a> {
    /// With the memory's number in the plan.
    Chunk(usize, &'a MemorySource, &'a Chunk),
    Part(&'a SegmentSource, Part),
}

/// The pieces of the plan, and how many rows they have at most.
fn pieces<'a>(
    plan: &'a Plan,
    query: &Query,
    cancel: &Cancel,
) -> Result<(Vec<Piece<'a>>, u64), QueryError> {
    let mut pieces = Vec::new();
    let mut rows = 0;
    for (memory, source) in plan.memories.iter().enumerate() {
        for chunk in &source.chunks {
            rows += u64::from(chunk.current_count());
            pieces.push(Piece::Chunk(memory, source, chunk));
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
    for source in &plan.segments {
        check(cancel)?;
        for part in source.segment.parts(&range)? {
            rows += wide(part.rows);
            pieces.push(Piece::Part(source, part));
        }
    }
    Ok((pieces, rows))
}

struct Shared<'a> {
    query: &'a Query,
    settings: &'a Settings,
    cancel: &'a Cancel,
    pieces: &'a [Piece<'a>],
    next: AtomicUsize,
    rows_seen: AtomicU64,
    /// What all threads hold.
    unique: AtomicUsize,
    texts: AtomicUsize,
}

/// One thread's part of a scan.
struct Worker {
    texts: Texts,
    filter: TextFilter,
    groups: Groups,
    columns: Vec<Accumulator>,
    selection: Vec<Selected>,
    /// The query's numbers of the texts of the memory that was scanned last, and which that is.
    numbers: Vec<TextNumber>,
    numbers_of: Option<usize>,
    /// What of `columns` and `texts` the others know of.
    told_unique: usize,
    told_texts: usize,
}

impl Worker {
    fn new(shared: &Shared<'_>) -> Self {
        let query = shared.query;
        let mut texts = Texts::default();
        let columns = query.aggregations.iter();
        Self {
            filter: TextFilter::of_query(&query.filter, &mut texts),
            texts,
            groups: Groups::new(query, shared.settings.query_groups_max),
            columns: columns
                .map(|aggregation| Accumulator::new(aggregation.function))
                .collect(),
            selection: Vec::new(),
            numbers: Vec::new(),
            numbers_of: None,
            told_unique: 0,
            told_texts: 0,
        }
    }

    fn run(mut self, shared: &Shared<'_>) -> Result<Self, QueryError> {
        loop {
            let next = shared.next.fetch_add(1, Ordering::Relaxed);
            match shared.pieces.get(next) {
                None => return Ok(self),
                Some(Piece::Chunk(memory, source, chunk)) => {
                    self.scan_chunk(shared, *memory, source, chunk)?;
                }
                Some(Piece::Part(source, part)) => self.scan_part(shared, source, part)?,
            }
        }
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
        let mut numbers = Numbers::of_memory(&mut self.texts, &source.texts, &mut self.numbers);
        let view = View::of_memory(&chunk.rows);
        source.layout.select(
            shared.query,
            &view,
            chunk.current_places(),
            &source.filter,
            &source.retired,
            &mut numbers,
            &mut self.groups,
            &mut self.selection,
        )?;
        for (column, field) in self.columns.iter_mut().zip(&source.layout.fields) {
            column.take(
                &view,
                *field,
                &mut numbers,
                &self.selection,
                self.groups.len(),
            );
        }
        self.tell(shared, self.texts.len())
    }

    fn scan_part(
        &mut self,
        shared: &Shared<'_>,
        source: &SegmentSource,
        part: &Part,
    ) -> Result<(), QueryError> {
        let mut ended = Ok(());
        // Taken out, so that the segment can number texts while rows are looked at.
        let texts = std::cell::RefCell::new(std::mem::take(&mut self.texts));
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
        self.texts = texts.into_inner();
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
        let mut numbers = Numbers::of_query(texts);
        let view = View::of_segment(rows);
        source.layout.select(
            shared.query,
            &view,
            current_places(rows),
            &self.filter,
            &source.retired,
            &mut numbers,
            &mut self.groups,
            &mut self.selection,
        )?;
        for (column, field) in self.columns.iter_mut().zip(&source.layout.fields) {
            column.take(
                &view,
                *field,
                &mut numbers,
                &self.selection,
                self.groups.len(),
            );
        }
        self.tell(shared, texts.len())
    }

    /// Tells the others how much is held here.
    fn tell(&mut self, shared: &Shared<'_>, texts: usize) -> Result<(), QueryError> {
        let unique = self.columns.iter().map(Accumulator::unique_len).sum();
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

/// Brings a sum up to date with one of its parts, which only grows; answers the sum.
fn add(sum: &AtomicUsize, part: usize, told: &mut usize) -> usize {
    let more = part - *told;
    *told = part;
    sum.fetch_add(more, Ordering::Relaxed) + more
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

impl Found {
    fn absorb(&mut self, other: Worker) -> Result<(), QueryError> {
        let mut known = Vec::new();
        let list = other.texts.list();
        let mut numbers = Numbers::of_memory(&mut self.texts, list, &mut known);
        let map = self.groups.absorb(&other.groups, &mut numbers)?;
        for (mine, theirs) in self.columns.iter_mut().zip(other.columns) {
            mine.absorb(theirs, &map, self.groups.len(), |text| numbers.number(text));
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
    }
}
