//! Versions read back from segments, whole, as they came in.

use crate::partition::Link;
use crate::query::{Cancel, QueryError, check};
use crate::segment::SegmentMeta;
use crate::segment::read::{Part, Projection, Range, Segment, SegmentRows, TextNumbers};
use crate::texts::Texts;
use crate::trace::Action;
use meterd_model::{AttributeValue, Decimal, Measurement, MeasurementId, Subject, Timestamp};
use std::cell::RefCell;
use std::ops::ControlFlow;

/// A row of a segment.
#[derive(Clone, Debug)]
pub(crate) struct StoredRow {
    pub(crate) sequence: u64,
    pub(crate) received: Timestamp,
    /// What it replaced or voided.
    pub(crate) replaces: Option<Link>,
    /// `None` for a void.
    pub(crate) measurement: Option<Measurement>,
}

impl StoredRow {
    pub(crate) fn action(&self) -> Action {
        match (&self.measurement, self.replaces) {
            (None, _) => Action::Voided,
            (Some(_), Some(_)) => Action::Replaced,
            (Some(_), None) => Action::Stored,
        }
    }
}

/// Rows that count, by what their segment says.
pub(crate) fn current_places(rows: &SegmentRows) -> impl Iterator<Item = usize> {
    let current = rows.current.as_deref();
    (0..rows.len).filter(move |place| {
        current.is_none_or(|current| current.get(*place).copied().unwrap_or(false))
    })
}

/// All that a segment has of a row.
pub(crate) fn whole(meta: &SegmentMeta) -> Projection {
    Projection {
        subjects: true,
        times: true,
        ends: true,
        ids: true,
        sequences: true,
        received: true,
        replaces: true,
        values: meta.values.clone(),
        attributes: meta.attributes.clone(),
    }
}

pub(crate) fn scan_part(
    segment: &Segment,
    part: &Part,
    projection: &Projection,
    texts: &mut TextNumbers<'_>,
    cancel: &Cancel,
    take: &mut dyn FnMut(&SegmentRows) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    check(cancel)?;
    let _ended_early = segment.scan(part, projection, texts, &mut |rows| {
        if cancel.is_cancelled() {
            return ControlFlow::Break(());
        }
        take(rows)
    })?;
    check(cancel)
}

/// The rows with these sequences (sorted), in no order.
pub(crate) fn rows_of(
    segment: &Segment,
    range: &Range<'_>,
    sequences: &[u64],
    cancel: &Cancel,
) -> Result<Vec<StoredRow>, QueryError> {
    let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else {
        return Ok(Vec::new());
    };
    let range = Range {
        sequence: Some((*first, *last)),
        ..*range
    };
    let narrow = Projection {
        sequences: true,
        ..Projection::default()
    };
    rows_where(segment, &range, &narrow, cancel, |rows, place| {
        rows.sequences
            .get(place)
            .is_some_and(|sequence| sequences.binary_search(sequence).is_ok())
    })
}

/// All rows of an id, in no order.
pub(crate) fn rows_of_id(
    segment: &Segment,
    id: &str,
    cancel: &Cancel,
) -> Result<Vec<StoredRow>, QueryError> {
    let narrow = Projection {
        ids: true,
        ..Projection::default()
    };
    rows_where(segment, &Range::ALL, &narrow, cancel, |rows, place| {
        rows.ids.get(place) == Some(id)
    })
}

/// First looks at as few columns as tell which rows are wanted, then reads the parts that have some.
fn rows_where(
    segment: &Segment,
    range: &Range<'_>,
    narrow: &Projection,
    cancel: &Cancel,
    is_wanted: impl Fn(&SegmentRows, usize) -> bool,
) -> Result<Vec<StoredRow>, QueryError> {
    let wide = whole(segment.meta());
    let mut found = Vec::new();
    for part in segment.parts(range)? {
        let mut some = false;
        // No more texts are held than one part has.
        let texts = RefCell::new(Texts::default());
        let mut number = |_, text: &str| texts.borrow_mut().number(text);
        scan_part(segment, &part, narrow, &mut number, cancel, &mut |rows| {
            some |= (0..rows.len).any(|place| is_wanted(rows, place));
            if some {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if some {
            scan_part(segment, &part, &wide, &mut number, cancel, &mut |rows| {
                let wanted = (0..rows.len).filter(|place| is_wanted(rows, *place));
                let stored = wanted.filter_map(|place| {
                    stored_row(segment.meta(), &wide, rows, place, &texts.borrow())
                });
                found.extend(stored);
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(found)
}

/// A row of a scan with the projection [`whole`].
pub(crate) fn stored_row(
    meta: &SegmentMeta,
    projection: &Projection,
    rows: &SegmentRows,
    place: usize,
    texts: &Texts,
) -> Option<StoredRow> {
    Some(StoredRow {
        sequence: *rows.sequences.get(place)?,
        received: Timestamp::from_micros(*rows.received.get(place)?)?,
        replaces: rows.replaces.get(place).copied().flatten(),
        measurement: measurement(meta, projection, rows, place, texts),
    })
}

fn measurement(
    meta: &SegmentMeta,
    projection: &Projection,
    rows: &SegmentRows,
    place: usize,
    texts: &Texts,
) -> Option<Measurement> {
    let subject = texts.get(*rows.subjects.get(place)?)?;
    let values = projection.values.iter().zip(&rows.values);
    let values = values.filter_map(|(name, cells)| {
        let value = Decimal::from_units(*cells.get(place)?)?;
        Some((name.clone(), value))
    });
    let attributes = projection.attributes.iter().zip(&rows.attributes);
    let attributes = attributes.filter_map(|(name, cells)| {
        let text = texts.get(*cells.get(place)?)?;
        Some((name.clone(), AttributeValue::new(text).ok()?))
    });
    Some(Measurement {
        id: MeasurementId::new(rows.ids.get(place)?).ok()?,
        meter: meta.partition.meter,
        subject: Subject::new(subject).ok()?,
        time: Timestamp::from_micros(*rows.times.get(place)?)?,
        end_time: rows
            .ends
            .get(place)
            .and_then(|end| Timestamp::from_micros(*end)),
        values: values.collect(),
        attributes: attributes.collect(),
    })
}
