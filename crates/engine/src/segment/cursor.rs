//! All rows of a segment, one by one, with all their columns.

use super::SegmentError;
use super::read::{Part, PartReader, Projection, Range, Segment, SegmentRows, TextColumn, Texts};
use super::write::SegmentRow;
use crate::table::{NO_TIME, NO_VALUE};
use crate::texts::NO_TEXT;

/// Stands at one row. Keeps a page of each column, and its dictionary.
pub(super) struct Cursor<'a> {
    segment: &'a Segment,
    projection: Projection,
    parts: std::vec::IntoIter<Part>,
    part: Option<PartReader<'a>>,
    texts: Texts,
    rows: SegmentRows,
    row: usize,
}

impl<'a> Cursor<'a> {
    /// Stands before the first row.
    pub(super) fn open(segment: &'a Segment) -> Result<Self, SegmentError> {
        let footer = segment.footer()?;
        let projection = Projection {
            subjects: true,
            times: true,
            ends: true,
            ids: true,
            sequences: true,
            received: true,
            replaces: true,
            values: footer.values.clone(),
            attributes: footer.attributes.clone(),
        };
        Ok(Self {
            segment,
            projection,
            parts: segment.parts(&Range::ALL)?.into_iter(),
            part: None,
            texts: Texts::default(),
            rows: SegmentRows::default(),
            row: 0,
        })
    }

    /// Goes to the next row; false after the last.
    pub(super) fn advance(&mut self) -> Result<bool, SegmentError> {
        self.row += 1;
        while self.row >= self.rows.len {
            let Some(part) = &mut self.part else {
                let Some(part) = self.parts.next() else {
                    return Ok(false);
                };
                self.part = Some(PartReader::open(
                    self.segment,
                    &part,
                    &self.projection,
                    true,
                )?);
                continue;
            };
            // No text is kept longer than its page: a row group may have one for every row.
            let texts = &mut self.texts;
            texts.clear();
            part.forget_texts();
            let mut number = |_: TextColumn, text: &str| texts.push(text);
            if part.next(&mut number, &mut self.rows)? {
                self.row = 0;
            } else {
                self.part = None;
            }
        }
        Ok(true)
    }

    pub(super) fn sequence(&self) -> u64 {
        at(&self.rows.sequences, self.row, 0)
    }

    /// What rows are sorted by.
    pub(super) fn key(&self) -> (Option<&str>, i64, u64) {
        (
            self.text(&self.rows.subjects),
            at(&self.rows.times, self.row, NO_TIME),
            self.sequence(),
        )
    }

    /// The row's values, each with the index of its column.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, i128)> {
        let columns = self.rows.values.iter().enumerate();
        let cells = columns.map(|(column, cells)| (column, at(cells, self.row, NO_VALUE)));
        cells.filter(|(_, units)| *units != NO_VALUE)
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (usize, &str)> {
        let columns = self.rows.attributes.iter().enumerate();
        columns.filter_map(|(column, cells)| Some((column, self.text(cells)?)))
    }

    /// The row, with these for its values and attributes.
    pub(super) fn row<'b>(
        &'b self,
        values: &'b [(usize, i128)],
        attributes: &'b [(usize, &'b str)],
    ) -> SegmentRow<'b> {
        let rows = &self.rows;
        let end = at(&rows.ends, self.row, NO_TIME);
        SegmentRow {
            subject: self.text(&rows.subjects),
            time: at(&rows.times, self.row, NO_TIME),
            end: (end != NO_TIME).then_some(end),
            id: rows.ids.get(self.row).unwrap_or_default(),
            sequence: self.sequence(),
            received: at(&rows.received, self.row, NO_TIME),
            current: rows
                .current
                .as_ref()
                .is_none_or(|current| at(current, self.row, false)),
            replaces: at(&rows.replaces, self.row, None),
            values,
            attributes,
        }
    }

    fn text(&self, column: &[u32]) -> Option<&str> {
        let number = usize::try_from(at(column, self.row, NO_TEXT)).ok()?;
        self.texts.get(number)
    }
}

/// Columns have a cell for every row; the last value is only for the type.
fn at<T: Copy>(column: &[T], row: usize, none: T) -> T {
    column.get(row).copied().unwrap_or(none)
}
