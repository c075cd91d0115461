//! Listings: the measurements themselves, in the order of their times, page by page.

use crate::memory::Memory;
use crate::query::{Cancel, Filter, QueryError, QueryLimit, TextFilter, check, column, is_retired};
use crate::segment::read::{Projection, Range, Segment, SegmentRows};
use crate::settings::Settings;
use crate::state::Organization;
use crate::stored::{current_places, rows_of, scan_part};
use crate::table::{Cells, Chunk};
use crate::texts::{NO_TEXT, Texts};
use meterd_model::{Measurement, MeterId, Subject, Timestamp};
use parking_lot::RwLock;
use roaring::RoaringTreemap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Which measurements to list. All that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub meter: Option<MeterId>,
    pub filter: Filter,
    /// The first time that is listed.
    pub from: Option<Timestamp>,
    /// The first time that is not.
    pub to: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<ListCursor>,
    pub order: ListOrder,
    /// Most measurements of the page; lowered to [`Settings::list_limit_max`].
    pub limit: usize,
}

/// By time and then by sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// A place in the order of a listing. What is stored meanwhile neither repeats nor hides anything of the pages after
/// it, but shows up there if its own place is after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    pub time: Timestamp,
    pub sequence: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// In the order of the listing.
    pub measurements: Vec<Listed>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<ListCursor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub sequence: u64,
    pub received: Timestamp,
    pub measurement: Measurement,
}

pub(crate) fn list(
    organization: &RwLock<Organization>,
    listing: &Listing,
    settings: &Settings,
    cancel: &Cancel,
) -> Result<ListPage, QueryError> {
    let limit = listing.limit.min(settings.list_limit_max);
    if limit == 0 || listing.filter.matches_nothing() {
        return Ok(ListPage::default());
    }
    loop {
        let plan = Plan::new(&organization.read(), listing);
        let first = plan.first(limit + 1, settings.query_rows_max, cancel)?;
        let more = first.len() > limit;
        let page = first.get(..limit).unwrap_or(&first);
        // What was in memory may have gone to disk meanwhile; then the page is made again.
        let Some(measurements) = plan.listed(page, organization, cancel)? else {
            continue;
        };
        let next = page.last().filter(|_| more).and_then(|found| {
            Some(ListCursor {
                time: Timestamp::from_micros(found.time)?,
                sequence: found.sequence,
            })
        });
        return Ok(ListPage { measurements, next });
    }
}

/// A snapshot of what a listing may have to show.
struct Plan {
    from: i64,
    to: i64,
    filter: Filter,
    order: ListOrder,
    /// Only what has a smaller rank is listed.
    below: Rank,
    /// Of the organization when the snapshot was taken.
    freezes: u64,
    /// Those first whose ranks begin the highest.
    sources: Vec<Source>,
}

enum Source {
    Chunk {
        /// What is being sealed, or else the memory that takes what comes.
        sealing: Option<Arc<Memory>>,
        table: u32,
        chunk: Chunk,
        filter: Arc<ChunkFilter>,
        retired: Vec<Arc<RoaringTreemap>>,
    },
    Segment {
        segment: Arc<Segment>,
        retired: Vec<Arc<RoaringTreemap>>,
    },
}

/// Time and sequence such that what is listed first has the highest rank.
type Rank = (i64, u64);

impl ListOrder {
    /// The rank of what has a time and a sequence, or the time and sequence of a rank.
    fn rank(self, (time, sequence): (i64, u64)) -> Rank {
        match self {
            Self::NewestFirst => (time, sequence),
            Self::OldestFirst => (!time, !sequence),
        }
    }
}

/// Ordered by rank, of which no two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    rank: Rank,
    time: i64,
    sequence: u64,
    source: usize,
    place: usize,
}

/// What is listed of a table in memory.
struct ChunkFilter {
    texts: TextFilter,
    /// Columns of the attributes that it names.
    columns: Vec<usize>,
}

/// Those of the highest ranks so far.
struct First {
    count: usize,
    heap: BinaryHeap<Reverse<Found>>,
}

impl First {
    fn push(&mut self, found: Found) {
        if self.heap.len() < self.count {
            self.heap.push(Reverse(found));
        } else if let Some(mut last) = self.heap.peek_mut()
            && last.0 < found
        {
            *last = Reverse(found);
        }
    }

    /// What comes must not rank below this to have a place.
    fn lowest(&self) -> i64 {
        let full = self.heap.len() >= self.count;
        let last = self.heap.peek().filter(|_| full);
        last.map_or(i64::MIN, |Reverse(last)| last.rank.0)
    }
}

impl Plan {
    fn new(organization: &Organization, listing: &Listing) -> Self {
        let mut plan = Self {
            from: listing.from.map_or(i64::MIN, Timestamp::micros),
            to: listing.to.map_or(i64::MAX, Timestamp::micros),
            filter: listing.filter.clone(),
            order: listing.order,
            below: listing.after.map_or((i64::MAX, u64::MAX), |cursor| {
                (listing.order).rank((cursor.time.micros(), cursor.sequence))
            }),
            freezes: organization.freezes,
            sources: Vec::new(),
        };
        let wanted = |meter| listing.meter.is_none_or(|wanted| wanted == meter);
        plan.add_memory(organization, &organization.recent, None, &wanted);
        if let Some(sealing) = &organization.sealing {
            plan.add_memory(organization, sealing, Some(sealing), &wanted);
        }
        for segment in organization.sealed.all_segments() {
            let meta = segment.meta();
            let may_match = wanted(meta.partition.meter)
                && meta.rows > meta.superseded
                && plan.may_have(meta.time_min, meta.time_max)
                && (plan.filter.attributes.iter())
                    .all(|(name, _)| meta.attributes.binary_search(name).is_ok());
            if may_match {
                plan.sources.push(Source::Segment {
                    segment: Arc::clone(segment),
                    retired: organization.retired(meta.partition),
                });
            }
        }
        let order = plan.order;
        plan.sources
            .sort_by_key(|source| Reverse(source.highest(order)));
        plan
    }

    fn add_memory(
        &mut self,
        organization: &Organization,
        memory: &Memory,
        sealing: Option<&Arc<Memory>>,
        wanted: &dyn Fn(MeterId) -> bool,
    ) {
        let texts = TextFilter::new(&self.filter, |text| memory.texts.find(text));
        if texts.is_empty() {
            return;
        }
        for (table, meter, rows) in memory.tables().filter(|(_, meter, _)| wanted(*meter)) {
            let names = rows.attribute_names();
            let columns = (self.filter.attributes.iter())
                .map(|(name, _)| names.iter().position(|known| known == name));
            let Some(columns) = columns.collect() else {
                continue;
            };
            let filter = Arc::new(ChunkFilter {
                texts: texts.clone(),
                columns,
            });
            let retired = match sealing {
                None => Vec::new(),
                Some(_) => organization.retired_while_sealing(meter),
            };
            for chunk in rows.chunks() {
                if self.may_have(chunk.rows.time_min, chunk.rows.time_max) {
                    self.sources.push(Source::Chunk {
                        sealing: sealing.cloned(),
                        table,
                        chunk: chunk.clone(),
                        filter: Arc::clone(&filter),
                        retired: retired.clone(),
                    });
                }
            }
        }
    }

    fn may_have(&self, time_min: i64, time_max: i64) -> bool {
        let lowest = match self.order {
            ListOrder::NewestFirst => time_min,
            ListOrder::OldestFirst => !time_max,
        };
        time_min < self.to && time_max >= self.from && lowest <= self.below.0
    }

    /// The first `count` in the listing's order.
    fn first(
        &self,
        count: usize,
        rows_max: u64,
        cancel: &Cancel,
    ) -> Result<Vec<Found>, QueryError> {
        let mut first = First {
            count,
            heap: BinaryHeap::new(),
        };
        let mut rows_seen = 0_u64;
        for (number, source) in self.sources.iter().enumerate() {
            if source.highest(self.order) < first.lowest() {
                // The sources after it begin even lower.
                break;
            }
            check(cancel)?;
            match source {
                Source::Chunk { .. } => {
                    self.search_chunk(number, source, &mut first);
                    rows_seen += source.rows();
                }
                Source::Segment { segment, retired } => {
                    self.search_segment(
                        (number, segment, retired),
                        &mut first,
                        &mut rows_seen,
                        rows_max,
                        cancel,
                    )?;
                }
            }
            check_rows(rows_seen, rows_max)?;
        }
        let first = first.heap.into_sorted_vec();
        Ok(first.into_iter().map(|Reverse(found)| found).collect())
    }

    fn search_chunk(&self, number: usize, source: &Source, first: &mut First) {
        let Source::Chunk {
            chunk,
            filter,
            retired,
            ..
        } = source
        else {
            return;
        };
        let rows = &chunk.rows;
        let columns = filter.columns.iter().map(|column| rows.attributes(*column));
        let subjects = Cells::new(&rows.subjects, NO_TEXT);
        let filter = filter.texts.over(subjects, columns);
        for place in chunk.current_places() {
            let (Some(time), Some(sequence)) = (rows.times.get(place), rows.sequences.get(place))
            else {
                return;
            };
            let matches = self.lists(*time, *sequence)
                && filter.matches(place)
                && !is_retired(retired, &rows.sequences, place);
            if matches {
                first.push(Found {
                    rank: self.order.rank((*time, *sequence)),
                    time: *time,
                    sequence: *sequence,
                    source: number,
                    place,
                });
            }
        }
    }

    fn search_segment(
        &self,
        (number, segment, retired): (usize, &Segment, &[Arc<RoaringTreemap>]),
        first: &mut First,
        rows_seen: &mut u64,
        rows_max: u64,
        cancel: &Cancel,
    ) -> Result<(), QueryError> {
        let subjects = self.subjects();
        let mut texts = Texts::default();
        let filter = TextFilter::of_query(&self.filter, &mut texts);
        // Only what is asked for gets a number.
        let mut number_of = |_, text: &str| texts.find(text).unwrap_or(NO_TEXT);
        let (lowest, highest) = (first.lowest(), self.below.0);
        let (from, to) = match self.order {
            ListOrder::NewestFirst => (lowest, highest.saturating_add(1)),
            ListOrder::OldestFirst => (!highest, (!lowest).saturating_add(1)),
        };
        let range = Range {
            from: self.from.max(from),
            to: self.to.min(to),
            subjects: subjects.as_deref(),
            sequence: None,
        };
        let mut projection = Projection {
            subjects: subjects.is_some(),
            times: true,
            sequences: true,
            ..Projection::default()
        };
        let columns: Vec<_> = (self.filter.attributes.iter())
            .map(|(name, _)| column(&mut projection.attributes, name))
            .collect();
        let mut ended = Ok(());
        let mut take = |rows: &SegmentRows| {
            *rows_seen += u64::try_from(rows.len).unwrap_or(u64::MAX);
            ended = check_rows(*rows_seen, rows_max);
            if ended.is_err() {
                return ControlFlow::Break(());
            }
            let subjects = Cells::new(&rows.subjects, NO_TEXT);
            let columns = columns.iter().map(|column| {
                let cells = rows.attributes.get(*column);
                Cells::new(cells.map_or(&[][..], Vec::as_slice), NO_TEXT)
            });
            let filter = filter.over(subjects, columns);
            for place in current_places(rows) {
                let (Some(time), Some(sequence)) =
                    (rows.times.get(place), rows.sequences.get(place))
                else {
                    break;
                };
                let matches = self.lists(*time, *sequence)
                    && filter.matches(place)
                    && !is_retired(retired, &rows.sequences, place);
                if matches {
                    first.push(Found {
                        rank: self.order.rank((*time, *sequence)),
                        time: *time,
                        sequence: *sequence,
                        source: number,
                        place,
                    });
                }
            }
            ControlFlow::Continue(())
        };
        for part in segment.parts(&range)? {
            scan_part(
                segment,
                &part,
                &projection,
                &mut number_of,
                cancel,
                &mut take,
            )?;
        }
        ended
    }

    fn lists(&self, time: i64, sequence: u64) -> bool {
        time >= self.from && time < self.to && self.order.rank((time, sequence)) < self.below
    }

    /// Those that the listing is about, sorted; `None`: all.
    fn subjects(&self) -> Option<Vec<&str>> {
        self.filter.subjects.as_ref().map(|subjects| {
            let mut subjects: Vec<_> = subjects.iter().map(Subject::as_str).collect();
            subjects.sort_unstable();
            subjects
        })
    }

    /// The measurements of a page; `None` if some were sealed since the snapshot.
    fn listed(
        &self,
        page: &[Found],
        organization: &RwLock<Organization>,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Listed>>, QueryError> {
        let mut listed: Vec<Option<Listed>> = vec![None; page.len()];
        {
            let organization = organization.read();
            for (slot, found) in listed.iter_mut().zip(page) {
                let Some(Source::Chunk {
                    sealing,
                    table,
                    chunk,
                    ..
                }) = self.sources.get(found.source)
                else {
                    continue;
                };
                let memory = match sealing {
                    Some(sealing) => sealing,
                    None if organization.freezes == self.freezes => &organization.recent,
                    None => return Ok(None),
                };
                *slot = listed_row(memory, *table, chunk, found);
            }
        }
        let subjects = self.subjects();
        let mut by_source: Vec<(&Found, &mut Option<Listed>)> =
            page.iter().zip(&mut listed).collect();
        by_source.sort_unstable_by_key(|(found, _)| (found.source, found.sequence));
        for here in by_source.chunk_by_mut(|(a, _), (b, _)| a.source == b.source) {
            let source = here.first().map(|(found, _)| found.source);
            let source = source.and_then(|source| self.sources.get(source));
            let Some(Source::Segment { segment, .. }) = source else {
                continue;
            };
            let sequences: Vec<u64> = here.iter().map(|(found, _)| found.sequence).collect();
            let times = here.iter().map(|(found, _)| found.time);
            let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
                continue;
            };
            let range = Range {
                from: first,
                to: last.saturating_add(1),
                subjects: subjects.as_deref(),
                sequence: None,
            };
            for row in rows_of(segment, &range, &sequences, cancel)? {
                let place = sequences.binary_search(&row.sequence).ok();
                if let (Some((_, slot)), Some(measurement)) =
                    (place.and_then(|place| here.get_mut(place)), row.measurement)
                {
                    **slot = Some(Listed {
                        sequence: row.sequence,
                        received: row.received,
                        measurement,
                    });
                }
            }
        }
        Ok(Some(listed.into_iter().flatten().collect()))
    }
}

fn listed_row(memory: &Memory, table: u32, chunk: &Chunk, found: &Found) -> Option<Listed> {
    Some(Listed {
        sequence: found.sequence,
        received: Timestamp::from_micros(*chunk.rows.received.get(found.place)?)?,
        measurement: memory.measurement_of(table, &chunk.rows, found.place)?,
    })
}

impl Source {
    /// The highest rank that it may have, without the sequence.
    fn highest(&self, order: ListOrder) -> i64 {
        let (time_min, time_max) = match self {
            Self::Chunk { chunk, .. } => (chunk.rows.time_min, chunk.rows.time_max),
            Self::Segment { segment, .. } => (segment.meta().time_min, segment.meta().time_max),
        };
        match order {
            ListOrder::NewestFirst => time_max,
            ListOrder::OldestFirst => !time_min,
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Chunk { chunk, .. } => u64::from(chunk.current_count()),
            Self::Segment { segment, .. } => segment.meta().rows,
        }
    }
}

fn check_rows(seen: u64, max: u64) -> Result<(), QueryError> {
    if seen > max {
        return Err(QueryError::TooExpensive {
            limit: QueryLimit::Rows(max),
        });
    }
    Ok(())
}
