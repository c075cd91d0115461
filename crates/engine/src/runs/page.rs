//! A page: entries side by side, each number less the page's lowest one, in as few bits as the largest then needs.

use super::format::{Fields, checksum, length, place};
use super::{IdHash, RunError, damaged, ensure};
use std::cmp::Ordering;
use std::ops::Range;

pub(super) const PAGE_BYTES: usize = 4096;

/// CRC-32C 4, first entry 8, lowest hash 12, lowest sequence 8, rows 2, bits of hash, sequence and mark 3.
const HEAD_BYTES: usize = 37;
const HASH_BYTES: usize = 12;
const HASH_BITS: u32 = 96;
const CONTENT_BITS: u32 = u64::BITS;

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
    hash_min: u128,
    hash_max: u128,
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
        let widths = shape.widths();
        let mut body = Vec::with_capacity(PAGE_BYTES);
        body.extend_from_slice(&first_entry.to_le_bytes());
        body.extend_from_slice(&hash_of(shape.hash_min)?.0);
        body.extend_from_slice(&shape.sequence_min.to_le_bytes());
        // A page is too short for a number of rows that would not fit.
        body.extend_from_slice(&u16::try_from(self.rows.len()).ok()?.to_le_bytes());
        for width in [widths.hash, widths.sequence, widths.mark] {
            body.push(u8::try_from(width).ok()?);
        }
        let mut rows = Bits::after(body);
        for row in self.rows.drain(..) {
            rows.push(number_of(row.hash) - shape.hash_min, widths.hash);
            rows.push(row.content.into(), CONTENT_BITS);
            rows.push((row.sequence - shape.sequence_min).into(), widths.sequence);
            rows.push(row.mark.into(), widths.mark);
        }
        let mut body = rows.finish();
        body.resize(PAGE_BYTES - 4, 0);
        let mut page = checksum(number, offset, &body).to_le_bytes().to_vec();
        page.append(&mut body);
        Some(page)
    }
}

impl Shape {
    fn of(row: Row) -> Self {
        let hash = number_of(row.hash);
        Self {
            hash_min: hash,
            hash_max: hash,
            sequence_min: row.sequence,
            sequence_max: row.sequence,
            mark_max: row.mark,
        }
    }

    fn with(self, row: Row) -> Self {
        let hash = number_of(row.hash);
        Self {
            hash_min: self.hash_min.min(hash),
            hash_max: self.hash_max.max(hash),
            sequence_min: self.sequence_min.min(row.sequence),
            sequence_max: self.sequence_max.max(row.sequence),
            mark_max: self.mark_max.max(row.mark),
        }
    }

    fn widths(self) -> Widths {
        Widths {
            hash: u128::BITS - (self.hash_max - self.hash_min).leading_zeros(),
            sequence: u64::BITS - (self.sequence_max - self.sequence_min).leading_zeros(),
            mark: u32::BITS - self.mark_max.leading_zeros(),
        }
    }

    fn page_bytes(self, rows: usize) -> usize {
        HEAD_BYTES + (rows * self.widths().row()).div_ceil(8)
    }
}

/// Bits of a row's numbers, in the order in which they stand.
#[derive(Clone, Copy, Debug)]
struct Widths {
    hash: u32,
    sequence: u32,
    mark: u32,
}

impl Widths {
    fn row(self) -> usize {
        // At most 256.
        (self.hash + CONTENT_BITS + self.sequence + self.mark) as usize
    }
}

/// A hash as a number that sorts as it does.
fn number_of(hash: IdHash) -> u128 {
    let mut bytes = [0; 16];
    let (_, low) = bytes.split_at_mut(16 - HASH_BYTES);
    low.copy_from_slice(&hash.0);
    u128::from_be_bytes(bytes)
}

/// The inverse of [`number_of`]; `None` for more than 96 bits.
fn hash_of(number: u128) -> Option<IdHash> {
    let bytes = number.to_be_bytes();
    let (high, low) = bytes.split_at_checked(16 - HASH_BYTES)?;
    let fits = high.iter().all(|byte| *byte == 0);
    fits.then_some(IdHash(low.try_into().ok()?))
}

/// Numbers written one after the other, each from its lowest bit on.
#[derive(Debug)]
struct Bits {
    bytes: Vec<u8>,
    /// The bits of the last byte, while it is not full.
    partial: u128,
    filled: u32,
}

impl Bits {
    fn after(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            partial: 0,
            filled: 0,
        }
    }

    /// `number` has at most `width` bits, and that is at most 96.
    fn push(&mut self, number: u128, width: u32) {
        self.partial |= number << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            let [lowest, ..] = self.partial.to_le_bytes();
            self.bytes.push(lowest);
            self.partial >>= 8;
            self.filled -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.push(0, 8 - self.filled);
        }
        self.bytes
    }
}

/// The number of `width` bits, at most 96, that begins at a bit. There are zeros after the last byte.
fn bits(bytes: &[u8], start: usize, width: u32) -> u128 {
    let mut window = [0; 16];
    for (byte, found) in window.iter_mut().zip(bytes.iter().skip(start / 8)) {
        *byte = *found;
    }
    let number = u128::from_le_bytes(window) >> (start % 8);
    number & ((1 << width) - 1)
}

/// A page that was read whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// Place of its first entry in the run.
    first_entry: u64,
    hash_min: u128,
    sequence_min: u64,
    widths: Widths,
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
        let hash_min = number_of(IdHash(fields.take()?));
        let sequence_min = fields.u64()?;
        let count = usize::from(u16::from_le_bytes(fields.take()?));
        let [hash, sequence, mark] = fields.take()?.map(u32::from);
        let widths = Widths {
            hash,
            sequence,
            mark,
        };
        let is_sound = hash <= HASH_BITS
            && sequence <= u64::BITS
            && mark <= u32::BITS
            && count > 0
            && count * widths.row() <= rest.len() * 8;
        ensure(is_sound, "a page is malformed")?;
        Ok(Self {
            first_entry,
            hash_min,
            sequence_min,
            widths,
            count,
            rows: rest,
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
        let start = row.ok_or(outside)? * self.widths.row();
        self.read(start)
            .ok_or(damaged("a number of an entry is too large"))
    }

    /// The row whose bits begin here.
    fn read(&self, mut start: usize) -> Option<Row> {
        let mut next = |width: u32| {
            let number = bits(self.rows, start, width);
            start += width as usize;
            number
        };
        let hash = next(self.widths.hash);
        let content = next(CONTENT_BITS);
        let sequence = next(self.widths.sequence);
        let mark = next(self.widths.mark);
        Some(Row {
            hash: hash_of(self.hash_min + hash)?,
            content: u64::try_from(content).ok()?,
            sequence: (self.sequence_min).checked_add(u64::try_from(sequence).ok()?)?,
            mark: u32::try_from(mark).ok()?,
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
