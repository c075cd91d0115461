//! Listings: the measurements themselves, newest first, page by page.

use crate::query::{Cancel, QueryError, QueryLimit, check};
use crate::settings::Settings;
use crate::state::Organization;
use crate::table::Chunk;
use crate::texts::TextNumber;
use meterd_model::{Measurement, MeterId, Subject, Timestamp};
use parking_lot::RwLock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Which measurements to list. All that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub meter: Option<MeterId>,
    pub subject: Option<Subject>,
    /// The first time that is listed.
    pub from: Option<Timestamp>,
    /// The first time that is not.
    pub to: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<ListCursor>,
    /// Most measurements of the page; lowered to [`Settings::list_limit_max`].
    pub limit: usize,
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
    /// By time descending, then by sequence descending.
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
    let plan = Plan::new(&organization.read(), listing);
    let Some(plan) = plan.filter(|_| limit > 0) else {
        return Ok(ListPage::default());
    };
    let newest = plan.newest(limit + 1, settings.query_rows_max, cancel)?;
    let more = newest.len() > limit;
    let page = newest.get(..limit).unwrap_or(&newest);
    let organization = organization.read();
    let measurements = page
        .iter()
        .filter_map(|found| plan.listed(*found, &organization))
        .collect();
    let next = page.last().filter(|_| more).and_then(|found| {
        Some(ListCursor {
            time: Timestamp::from_micros(found.time)?,
            sequence: found.sequence,
        })
    });
    Ok(ListPage { measurements, next })
}

struct Plan {
    from: i64,
    to: i64,
    subject: Option<TextNumber>,
    /// Only what is smaller is listed.
    before: (i64, u64),
    /// With the number of their table, latest first.
    chunks: Vec<(u32, Chunk)>,
}

/// Ordered by time and then by sequence, of which no two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    time: i64,
    sequence: u64,
    chunk: usize,
    place: usize,
}

impl Plan {
    /// `None` if nothing can match.
    fn new(organization: &Organization, listing: &Listing) -> Option<Self> {
        let subject = match &listing.subject {
            Some(subject) => Some(organization.texts.find(subject.as_str())?),
            None => None,
        };
        let before = listing.after.map_or((i64::MAX, u64::MAX), |cursor| {
            (cursor.time.micros(), cursor.sequence)
        });
        let from = listing.from.map_or(i64::MIN, Timestamp::micros);
        let to = listing.to.map_or(i64::MAX, Timestamp::micros);
        let mut chunks: Vec<(u32, Chunk)> = organization
            .tables()
            .filter(|(_, meter, _)| listing.meter.is_none_or(|wanted| wanted == *meter))
            .flat_map(|(number, _, table)| table.chunks().iter().map(move |chunk| (number, chunk)))
            .filter(|(_, chunk)| {
                let rows = &chunk.rows;
                rows.time_min < to && rows.time_max >= from && rows.time_min <= before.0
            })
            .map(|(number, chunk)| (number, chunk.clone()))
            .collect();
        chunks.sort_by_key(|(_, chunk)| Reverse(chunk.rows.time_max));
        Some(Self {
            from,
            to,
            subject,
            before,
            chunks,
        })
    }

    /// The newest `count`, newest first.
    fn newest(
        &self,
        count: usize,
        rows_max: u64,
        cancel: &Cancel,
    ) -> Result<Vec<Found>, QueryError> {
        let mut newest: BinaryHeap<Reverse<Found>> = BinaryHeap::new();
        let mut rows_seen = 0_u64;
        for (number, (_, chunk)) in self.chunks.iter().enumerate() {
            let oldest = newest.peek().filter(|_| newest.len() >= count);
            if oldest.is_some_and(|Reverse(oldest)| chunk.rows.time_max < oldest.time) {
                // The chunks after it end even earlier.
                break;
            }
            check(cancel)?;
            rows_seen += u64::from(chunk.current_count());
            if rows_seen > rows_max {
                return Err(QueryError::TooExpensive {
                    limit: QueryLimit::Rows(rows_max),
                });
            }
            for found in self.matches(number, chunk) {
                if newest.len() < count {
                    newest.push(Reverse(found));
                } else if let Some(mut oldest) = newest.peek_mut()
                    && oldest.0 < found
                {
                    *oldest = Reverse(found);
                }
            }
        }
        Ok(newest
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse(found)| found)
            .collect())
    }

    fn matches<'a>(&'a self, number: usize, chunk: &'a Chunk) -> impl Iterator<Item = Found> + 'a {
        let rows = &chunk.rows;
        chunk.current_places().filter_map(move |place| {
            let found = Found {
                time: *rows.times.get(place)?,
                sequence: *rows.sequences.get(place)?,
                chunk: number,
                place,
            };
            let matches = (self.from..self.to).contains(&found.time)
                && (found.time, found.sequence) < self.before
                && self
                    .subject
                    .is_none_or(|subject| rows.subjects.get(place) == Some(&subject));
            matches.then_some(found)
        })
    }

    fn listed(&self, found: Found, organization: &Organization) -> Option<Listed> {
        let (table, chunk) = self.chunks.get(found.chunk)?;
        Some(Listed {
            sequence: found.sequence,
            received: Timestamp::from_micros(*chunk.rows.received.get(found.place)?)?,
            measurement: organization.measurement_of(*table, &chunk.rows, found.place)?,
        })
    }
}
