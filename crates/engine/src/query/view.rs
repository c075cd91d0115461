//! Rows in columns as the aggregations see them, whether they come from memory or from a segment.

use crate::segment::read::SegmentRows;
use crate::table::{Cells, NO_VALUE, Rows};
use crate::texts::{NO_TEXT, TextNumber};

/// Columns that nobody asked for are empty.
pub(super) struct View<'a> {
    pub(super) times: &'a [i64],
    pub(super) sequences: &'a [u64],
    pub(super) subjects: Cells<'a, TextNumber>,
    values: Columns<'a, i128>,
    attributes: Columns<'a, TextNumber>,
}

enum Columns<'a, T> {
    Memory(&'a Rows),
    Cells(&'a [Vec<T>]),
}

impl<'a> View<'a> {
    pub(super) fn of_memory(rows: &'a Rows) -> Self {
        Self {
            times: &rows.times,
            sequences: &rows.sequences,
            subjects: Cells::new(&rows.subjects, NO_TEXT),
            values: Columns::Memory(rows),
            attributes: Columns::Memory(rows),
        }
    }

    pub(super) fn of_segment(rows: &'a SegmentRows) -> Self {
        Self {
            times: &rows.times,
            sequences: &rows.sequences,
            subjects: Cells::new(&rows.subjects, NO_TEXT),
            values: Columns::Cells(&rows.values),
            attributes: Columns::Cells(&rows.attributes),
        }
    }

    pub(super) fn values(&self, column: usize) -> Cells<'a, i128> {
        match self.values {
            Columns::Memory(rows) => rows.values(column),
            Columns::Cells(columns) => {
                Cells::new(columns.get(column).map_or(&[], Vec::as_slice), NO_VALUE)
            }
        }
    }

    pub(super) fn attributes(&self, column: usize) -> Cells<'a, TextNumber> {
        match self.attributes {
            Columns::Memory(rows) => rows.attributes(column),
            Columns::Cells(columns) => {
                Cells::new(columns.get(column).map_or(&[], Vec::as_slice), NO_TEXT)
            }
        }
    }
}
