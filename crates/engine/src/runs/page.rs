//! A page: entries side by side, each number in as few bytes as the page's largest one needs.

use super::format::{Fields, checksum, length, place};
use super::{IdHash, RunError, damaged, ensure};
use std::cmp::Ordering;
use std::ops::Range;

pub(super) const PAGE_BYTES: usize = 4096;

/// CRC-32C 4, first entry 8, lowest sequence 8, rows 2, bytes of prefix, sequence and mark 3.
const HEAD_BYTES: usize = 25;
const HASH_BYTES: usize = 12;
const CONTENT_BYTES: usize = 8;

/// An entry without its organization, which is found by its place in the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) hash: IdHash,
    pub(super) content: u64,
    pub(super) sequence: u64,
    /// Twice the partition's place in the run's table, and one more if the id is voided.
    pub(super) mark: u32,
}

/// A page that is being filled.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    rows: Vec<Row>,
    shape: Option<Shape>,
}

/// What decides how wide the rows of a page are.
#[derive(Clone, Copy, Debug)]
struct Shape {
    first: IdHash,
    /// Bytes that all hashes begin with.
    prefix_bytes: usize,
    sequence_min: u64,
    sequence_max: u64,
    mark_max: u32,
}

impl PageBuilder {
    /// Adds a row; `false` if the page has no room for it.
    pub(super) fn push(&mut self, row: Row) -> bool {
        let shape = match self.shape {
            None => Shape::of(row),
            Some(shape) => shape.with(row),
        };
        if shape.page_bytes(self.rows.len() + 1) > PAGE_BYTES {
            return false;
        }
        self.shape = Some(shape);
        self.rows.push(row);
        true
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Empties the builder into a page, to stand at `offset` of file `number`; `None` if there is no row.
    pub(super) fn take(&mut self, first_entry: u64, number: u64, offset: u64) -> Option<Vec<u8>> {
        let shape = self.shape.take()?;
        let mut body = Vec::with_capacity(PAGE_BYTES);
        body.extend_from_slice(&first_entry.to_le_bytes());
        body.extend_from_slice(&shape.sequence_min.to_le_bytes());
        // A page is too short for a number of rows that would not fit.
        body.extend_from_slice(&u16::try_from(self.rows.len()).ok()?.to_le_bytes());
        for width in [
            shape.prefix_bytes,
            shape.sequence_bytes(),
            shape.mark_bytes(),
        ] {
            body.push(u8::try_from(width).ok()?);
        }
        let (prefix, _) = shape.first.0.split_at_checked(shape.prefix_bytes)?;
        body.extend_from_slice(prefix);
        for row in self.rows.drain(..) {
            let (_, suffix) = row.hash.0.split_at_checked(shape.prefix_bytes)?;
            body.extend_from_slice(suffix);
            body.extend_from_slice(&row.content.to_le_bytes());
            let sequence = (row.sequence - shape.sequence_min).to_le_bytes();
            body.extend(sequence.iter().take(shape.sequence_bytes()));
            body.extend(row.mark.to_le_bytes().iter().take(shape.mark_bytes()));
        }
        body.resize(PAGE_BYTES - 4, 0);
        let mut page = checksum(number, offset, &body).to_le_bytes().to_vec();
        page.append(&mut body);
        Some(page)
    }
}

impl Shape {
    fn of(row: Row) -> Self {
        Self {
            first: row.hash,
            prefix_bytes: HASH_BYTES,
            sequence_min: row.sequence,
            sequence_max: row.sequence,
            mark_max: row.mark,
        }
    }

    fn with(self, row: Row) -> Self {
        let common = self
            .first
            .0
            .iter()
            .zip(row.hash.0)
            .take_while(|(a, b)| **a == *b);
        Self {
            first: self.first,
            prefix_bytes: self.prefix_bytes.min(common.count()),
            sequence_min: self.sequence_min.min(row.sequence),
            sequence_max: self.sequence_max.max(row.sequence),
            mark_max: self.mark_max.max(row.mark),
        }
    }

    fn sequence_bytes(self) -> usize {
        bytes_of(self.sequence_max - self.sequence_min)
    }

    fn mark_bytes(self) -> usize {
        bytes_of(u64::from(self.mark_max))
    }

    fn page_bytes(self, rows: usize) -> usize {
        let suffix_bytes = HASH_BYTES - self.prefix_bytes;
        let row = suffix_bytes + CONTENT_BYTES + self.sequence_bytes() + self.mark_bytes();
        HEAD_BYTES + self.prefix_bytes + rows * row
    }
}

/// Bytes that a number takes without its leading zeros.
fn bytes_of(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(8) as usize
}

/// A page that was read whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// Place of its first entry in the run.
    first_entry: u64,
    sequence_min: u64,
    prefix: &'a [u8],
    sequence_bytes: usize,
    row_bytes: usize,
    count: usize,
    rows: &'a [u8],
}

impl<'a> Page<'a> {
    /// Checks and takes apart the page at `offset` of file `number`.
    pub(super) fn parse(bytes: &'a [u8], number: u64, offset: u64) -> Result<Self, RunError> {
        let mut rest = bytes;
        let mut fields = Fields(&mut rest);
        let crc = fields.u32()?;
        ensure(
            crc == checksum(number, offset, fields.0),
            "a page's checksum is wrong",
        )?;
        let first_entry = fields.u64()?;
        let sequence_min = fields.u64()?;
        let count = usize::from(u16::from_le_bytes(fields.take()?));
        let [prefix_bytes, sequence_bytes, mark_bytes] = fields.take()?.map(usize::from);
        let malformed = damaged("a page is malformed");
        let Some((prefix, rows)) = rest.split_at_checked(prefix_bytes) else {
            return Err(malformed);
        };
        if prefix_bytes > HASH_BYTES || sequence_bytes > 8 || mark_bytes > 4 || count == 0 {
            return Err(malformed);
        }
        let row_bytes = HASH_BYTES - prefix_bytes + CONTENT_BYTES + sequence_bytes + mark_bytes;
        let Some(rows) = rows.get(..count * row_bytes) else {
            return Err(malformed);
        };
        Ok(Self {
            first_entry,
            sequence_min,
            prefix,
            sequence_bytes,
            row_bytes,
            count,
            rows,
        })
    }

    /// Places in the run of the page's entries.
    pub(super) fn entries(&self) -> Range<u64> {
        self.first_entry..self.first_entry.saturating_add(length(self.count))
    }

    /// The row of the entry at this place in the run, if the page has it.
    pub(super) fn row(&self, entry: u64) -> Result<Row, RunError> {
        let outside = damaged("an entry is not on its page");
        let row = entry
            .checked_sub(self.first_entry)
            .map(place)
            .filter(|row| *row < self.count);
        let start = row.ok_or(outside)? * self.row_bytes;
        let mut rest = self
            .rows
            .get(start..start + self.row_bytes)
            .unwrap_or_default();
        let mut hash = [0; HASH_BYTES];
        let (prefix, suffix) = hash.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix);
        take_into(&mut rest, suffix)?;
        let content = Fields(&mut rest).u64()?;
        let mut sequence = [0; 8];
        take_into(&mut rest, sequence.split_at_mut(self.sequence_bytes).0)?;
        let mut mark = [0; 4];
        let mark_bytes = rest.len().min(mark.len());
        take_into(&mut rest, mark.split_at_mut(mark_bytes).0)?;
        let beyond = damaged("a sequence is beyond 64 bits");
        Ok(Row {
            hash: IdHash(hash),
            content,
            sequence: self
                .sequence_min
                .checked_add(u64::from_le_bytes(sequence))
                .ok_or(beyond)?,
            mark: u32::from_le_bytes(mark),
        })
    }

    /// Looks for a hash among those entries at `places` in the run that the page has; they are of one organization.
    pub(super) fn find(&self, hash: IdHash, places: &Range<u64>) -> Result<Option<Row>, RunError> {
        let own = self.entries();
        let (mut low, mut high) = (own.start.max(places.start), own.end.min(places.end));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(middle)?;
            match row.hash.cmp(&hash) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some(row)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

fn take_into(rest: &mut &[u8], field: &mut [u8]) -> Result<(), RunError> {
    let (bytes, after) = rest
        .split_at_checked(field.len())
        .ok_or(damaged("a row is too short"))?;
    field.copy_from_slice(bytes);
    *rest = after;
    Ok(())
}
