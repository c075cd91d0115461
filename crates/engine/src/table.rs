//! The measurements of one meter in columns, in chunks that a query can hold on to while others write.

use crate::ids::IdNumber;
use crate::texts::{NO_TEXT, TextNumber};
use meterd_model::FieldName;
use std::ops::Range;
use std::sync::Arc;

/// Rows per chunk. What a write copies at most, if a query holds the last chunk.
pub(crate) const CHUNK_ROWS: usize = 4096;
const BIT_WORDS: usize = CHUNK_ROWS / 64;

/// Absent in a column of values: far outside what a decimal can be.
pub(crate) const NO_VALUE: i128 = i128::MIN;
/// Absent in a column of times: outside what a time can be.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// Where a row is: number of the table within the organization, and of the row within the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowPlace {
    pub(crate) table: u32,
    pub(crate) row: u32,
}

/// All versions of all measurements of one meter, in the order they were stored.
#[derive(Debug, Default)]
pub(crate) struct Table {
    value_names: Vec<FieldName>,
    attribute_names: Vec<FieldName>,
    chunks: Vec<Chunk>,
    rows: u64,
    current: u64,
}

/// A part of a table. Cloning it is cheap and keeps it as it is now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) rows: Arc<Rows>,
    current: Arc<CurrentBits>,
}

/// Which rows are the newest version of their id and not voided.
#[derive(Clone, Debug)]
struct CurrentBits {
    words: [u64; BIT_WORDS],
    count: u32,
}

impl Default for CurrentBits {
    fn default() -> Self {
        Self {
            words: [0; BIT_WORDS],
            count: 0,
        }
    }
}

/// Columns of equal meaning per row; one that is shorter than `times` ends in absent cells.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) times: Vec<i64>,
    ends: Vec<i64>,
    pub(crate) subjects: Vec<TextNumber>,
    pub(crate) ids: Vec<IdNumber>,
    pub(crate) sequences: Vec<u64>,
    pub(crate) received: Vec<i64>,
    values: Vec<Vec<i128>>,
    attributes: Vec<Vec<TextNumber>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            time_min: i64::MAX,
            time_max: i64::MIN,
            times: Vec::new(),
            ends: Vec::new(),
            subjects: Vec::new(),
            ids: Vec::new(),
            sequences: Vec::new(),
            received: Vec::new(),
            values: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

/// A row to be added; fields by column number.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) time: i64,
    pub(crate) end: Option<i64>,
    pub(crate) subject: TextNumber,
    pub(crate) id: IdNumber,
    pub(crate) sequence: u64,
    pub(crate) received: i64,
}

impl Table {
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn current(&self) -> u64 {
        self.current
    }

    pub(crate) fn value_names(&self) -> &[FieldName] {
        &self.value_names
    }

    pub(crate) fn attribute_names(&self) -> &[FieldName] {
        &self.attribute_names
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The number that the next row will have.
    pub(crate) fn next_row(&self) -> u32 {
        // Bounded: a memory takes no more versions than 32 bits can number.
        u32::try_from(self.rows).unwrap_or(u32::MAX)
    }

    /// Adds a row that counts, and takes its cells one by one.
    pub(crate) fn add(&mut self, row: &NewRow) -> NewCells<'_> {
        let place = usize::try_from(self.rows).unwrap_or(usize::MAX) % CHUNK_ROWS;
        if place == 0 {
            self.chunks.push(Chunk::default());
        }
        self.rows += 1;
        self.current += 1;
        let rows = self.chunks.last_mut().map(|chunk| {
            Arc::make_mut(&mut chunk.current).set(place, true);
            let rows = Arc::make_mut(&mut chunk.rows);
            rows.push(row);
            rows
        });
        NewCells {
            rows,
            place,
            value_names: &mut self.value_names,
            attribute_names: &mut self.attribute_names,
        }
    }

    /// Takes a row out of what counts.
    pub(crate) fn retire(&mut self, row: u32) {
        let (chunk, place) = split(row);
        if let Some(chunk) = self.chunks.get_mut(chunk)
            && chunk.is_current(place)
        {
            Arc::make_mut(&mut chunk.current).set(place, false);
            self.current -= 1;
        }
    }

    /// The chunk that holds a row, and the row's place in it.
    pub(crate) fn find(&self, row: u32) -> Option<(&Chunk, usize)> {
        let (chunk, place) = split(row);
        Some((self.chunks.get(chunk)?, place))
    }
}

/// The cells of a row that was just added.
pub(crate) struct NewCells<'a> {
    rows: Option<&'a mut Rows>,
    place: usize,
    value_names: &'a mut Vec<FieldName>,
    attribute_names: &'a mut Vec<FieldName>,
}

impl NewCells<'_> {
    pub(crate) fn value(&mut self, name: &FieldName, units: i128) {
        let column = column(self.value_names, name);
        if let Some(rows) = self.rows.as_mut() {
            set(&mut rows.values, column, self.place, units, NO_VALUE);
        }
    }

    pub(crate) fn attribute(&mut self, name: &FieldName, text: TextNumber) {
        let column = column(self.attribute_names, name);
        if let Some(rows) = self.rows.as_mut() {
            set(&mut rows.attributes, column, self.place, text, NO_TEXT);
        }
    }
}

fn split(row: u32) -> (usize, usize) {
    let row = row as usize;
    (row / CHUNK_ROWS, row % CHUNK_ROWS)
}

/// A meter has few fields, so that looking through their names beats a map.
fn column(names: &mut Vec<FieldName>, name: &FieldName) -> usize {
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        })
}

fn set<T: Copy>(columns: &mut Vec<Vec<T>>, column: usize, place: usize, cell: T, absent: T) {
    if columns.len() <= column {
        columns.resize_with(column + 1, Vec::new);
    }
    if let Some(cells) = columns.get_mut(column) {
        if cells.len() > place {
            return;
        }
        cells.resize(place, absent);
        cells.push(cell);
    }
}

impl Chunk {
    pub(crate) fn is_current(&self, place: usize) -> bool {
        let word = self.current.words.get(place / 64).copied().unwrap_or(0);
        word >> (place % 64) & 1 == 1
    }

    pub(crate) fn current_count(&self) -> u32 {
        self.current.count
    }

    /// Places of the rows that count, in order.
    pub(crate) fn current_places(&self) -> impl Iterator<Item = usize> {
        self.current
            .words
            .iter()
            .enumerate()
            .flat_map(|(index, word)| {
                let mut rest = *word;
                std::iter::from_fn(move || {
                    (rest != 0).then(|| {
                        let bit = rest.trailing_zeros() as usize;
                        rest &= rest - 1;
                        index * 64 + bit
                    })
                })
            })
    }
}

impl CurrentBits {
    fn set(&mut self, place: usize, current: bool) {
        if let Some(word) = self.words.get_mut(place / 64) {
            let bit = 1 << (place % 64);
            if current {
                *word |= bit;
                self.count += 1;
            } else {
                *word &= !bit;
                self.count -= 1;
            }
        }
    }
}

impl Rows {
    fn push(&mut self, row: &NewRow) {
        self.time_min = self.time_min.min(row.time);
        self.time_max = self.time_max.max(row.time);
        if let Some(end) = row.end {
            self.ends.resize(self.times.len(), NO_TIME);
            self.ends.push(end);
        }
        self.times.push(row.time);
        self.subjects.push(row.subject);
        self.ids.push(row.id);
        self.sequences.push(row.sequence);
        self.received.push(row.received);
    }

    pub(crate) fn end(&self, place: usize) -> Option<i64> {
        self.ends.get(place).copied().filter(|end| *end != NO_TIME)
    }

    /// A column of values, which may be shorter than the chunk.
    pub(crate) fn values(&self, column: usize) -> Cells<'_, i128> {
        Cells {
            cells: self.values.get(column).map_or(&[], Vec::as_slice),
            absent: NO_VALUE,
        }
    }

    /// A column of attributes, which may be shorter than the chunk.
    pub(crate) fn attributes(&self, column: usize) -> Cells<'_, TextNumber> {
        Cells {
            cells: self.attributes.get(column).map_or(&[], Vec::as_slice),
            absent: NO_TEXT,
        }
    }
}

/// The cells of one column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells<'a, T> {
    cells: &'a [T],
    absent: T,
}

impl<'a, T: Copy + PartialEq> Cells<'a, T> {
    pub(crate) fn new(cells: &'a [T], absent: T) -> Self {
        Self { cells, absent }
    }

    pub(crate) fn get(&self, place: usize) -> Option<T> {
        self.cells
            .get(place)
            .copied()
            .filter(|cell| *cell != self.absent)
    }

    /// The cells of some rows, absent ones included; fewer where the column is shorter.
    pub(crate) fn slice(&self, places: Range<usize>) -> &'a [T] {
        let end = places.end.min(self.cells.len());
        self.cells.get(places.start..end).unwrap_or_default()
    }

    /// The first place after `place` that may have another cell.
    pub(crate) fn run_end(&self, place: usize) -> usize {
        match self.cells.get(place..).and_then(<[T]>::split_first) {
            Some((first, rest)) => {
                place + 1 + rest.iter().take_while(|cell| *cell == first).count()
            }
            None => usize::MAX,
        }
    }
}
