//! Decoding pages straight into columns of numbers.
//!
//! The library reads file, footer and page headers and inflates; what is within a page is decoded here, because its own
//! readers make an object of each text and decimal. Formats are those of Parquet's "Encodings" page; only what
//! [`super::write`] chooses among is known. Nothing here trusts a length, and nothing is kept longer than a page.

use super::schema::DECIMAL_BYTES;
use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};

/// The cells of one page, encoded, and which rows these are of.
pub(super) struct PageCells<'a> {
    pub(super) encoding: Encoding,
    pub(super) bytes: &'a [u8],
    pub(super) rows: usize,
    /// Cells that are there; if these are fewer than the rows, `present` says which.
    pub(super) count: usize,
    pub(super) present: Vec<u32>,
}

impl<'a> PageCells<'a> {
    pub(super) fn open(page: &'a Page, expected_rows: usize) -> Result<Self> {
        let Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            num_nulls,
            num_rows,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } = page
        else {
            return Err(damage("a page is of a kind that is never written"));
        };
        let rows = usize::try_from(*num_rows)?;
        let count = num_values
            .checked_sub(*num_nulls)
            .map(usize::try_from)
            .transpose()?;
        let count = count.ok_or_else(|| damage("a page has fewer cells than none"))?;
        if rows != expected_rows || num_values != num_rows || *rep_levels_byte_len != 0 {
            return Err(damage("a page does not have the rows it should"));
        }
        let (levels, bytes) = (buf.split_at_checked(usize::try_from(*def_levels_byte_len)?))
            .ok_or_else(|| damage("a page is too short"))?;
        let mut present = Vec::new();
        if count < rows {
            packed_numbers(levels, 1, rows, &mut present)?;
            if present.iter().filter(|level| **level != 0).count() != count {
                return Err(damage("a page does not have the cells it should"));
            }
        }
        Ok(Self {
            encoding: *encoding,
            bytes,
            rows,
            count,
            present,
        })
    }

    /// Appends a cell for each row to `out`: those of `dense`, and `none` where there is none.
    pub(super) fn spread<T: Copy>(&self, dense: &[T], none: T, out: &mut Vec<T>) {
        if self.present.is_empty() {
            out.extend_from_slice(dense);
            return;
        }
        let mut dense = dense.iter();
        out.extend(self.present.iter().map(|&present| {
            let cell = if present == 0 { None } else { dense.next() };
            cell.copied().unwrap_or(none)
        }));
    }

    /// For an encoding with a dictionary: the number in it of each cell.
    pub(super) fn dictionary_numbers(&self, out: &mut Vec<u32>) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let (width, bytes) = self
            .bytes
            .split_first()
            .ok_or_else(|| damage("a page is too short"))?;
        packed_numbers(bytes, u32::from(*width), self.count, out)
    }
}

pub(super) fn damage(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

fn too_short() -> ParquetError {
    damage("a page is too short")
}

/// "RLE / bit-packing hybrid": appends `count` numbers of `width` bits.
pub(super) fn packed_numbers(
    mut bytes: &[u8],
    width: u32,
    count: usize,
    out: &mut Vec<u32>,
) -> Result<()> {
    if width > 32 {
        return Err(damage("numbers are wider than they may be"));
    }
    let end = out.len() + count;
    while out.len() < end {
        let missing = end - out.len();
        let header = usize::try_from(varint(&mut bytes)?)?;
        let times = header >> 1;
        if times == 0 {
            return Err(damage("a run is empty"));
        }
        if header & 1 == 0 {
            let value_bytes = usize::try_from(width.div_ceil(8))?;
            let value = take(&mut bytes, value_bytes)?;
            let value = value
                .iter()
                .rev()
                .fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            out.extend(std::iter::repeat_n(value, times.min(missing)));
        } else {
            let groups = times.min(missing.div_ceil(8));
            let run = take(&mut bytes, times.saturating_mul(usize::try_from(width)?))?;
            unpack_small(run, width, groups.saturating_mul(8).min(missing), out)?;
        }
    }
    Ok(())
}

/// `DELTA_BINARY_PACKED`: appends `count` numbers, which must be all there are; answers what follows them.
pub(super) fn differences<'a>(
    mut bytes: &'a [u8],
    count: usize,
    out: &mut Vec<i64>,
) -> Result<&'a [u8]> {
    if bytes.is_empty() && count == 0 {
        return Ok(bytes);
    }
    let block = usize::try_from(varint(&mut bytes)?)?;
    let parts = usize::try_from(varint(&mut bytes)?)?;
    let total = usize::try_from(varint(&mut bytes)?)?;
    let first = zigzag(varint(&mut bytes)?);
    let part = block.checked_div(parts).unwrap_or(0);
    if total != count || part == 0 || part % 32 != 0 || block > 1 << 16 {
        return Err(damage("differences are not laid out as they may be"));
    }
    if count == 0 {
        return Ok(bytes);
    }
    let mut value = first;
    out.push(first);
    let mut missing = count - 1;
    let mut deltas = Vec::with_capacity(part);
    while missing > 0 {
        let least = zigzag(varint(&mut bytes)?);
        let widths = take(&mut bytes, parts)?;
        for &width in widths {
            if missing == 0 {
                break;
            }
            let width = u32::from(width);
            let packed = take(&mut bytes, part / 8 * usize::try_from(width)?)?;
            let here = part.min(missing);
            missing -= here;
            deltas.clear();
            unpack(packed, width, here, &mut deltas)?;
            out.extend(deltas.iter().map(|delta| {
                value = value.wrapping_add(least).wrapping_add(delta.cast_signed());
                value
            }));
        }
    }
    Ok(bytes)
}

/// `DELTA_LENGTH_BYTE_ARRAY`: the texts in one, and where each ends.
pub(super) fn texts<'a>(cells: &PageCells<'a>, ends: &mut Vec<usize>) -> Result<&'a str> {
    if cells.encoding != Encoding::DELTA_LENGTH_BYTE_ARRAY {
        return Err(damage("texts are encoded in a way that is never written"));
    }
    let mut lengths = Vec::with_capacity(cells.count);
    let bytes = differences(cells.bytes, cells.count, &mut lengths)?;
    let all = utf8(bytes)?;
    let mut end = 0_usize;
    for length in lengths {
        end = end.saturating_add(usize::try_from(length)?);
        if !all.is_char_boundary(end) {
            return Err(damage("texts are cut where they cannot be"));
        }
        ends.push(end);
    }
    Ok(all)
}

/// `PLAIN` decimals.
pub(super) fn decimals(bytes: &[u8], count: usize, out: &mut Vec<i128>) -> Result<()> {
    let (cells, rest) = bytes.as_chunks::<DECIMAL_BYTES>();
    if cells.len() != count || !rest.is_empty() {
        return Err(damage("a page does not have the decimals it should"));
    }
    out.extend(cells.iter().map(|cell| i128::from_be_bytes(*cell)));
    Ok(())
}

/// `PLAIN` numbers.
pub(super) fn numbers(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<()> {
    let (cells, rest) = bytes.as_chunks::<8>();
    if cells.len() != count || !rest.is_empty() {
        return Err(damage("a page does not have the numbers it should"));
    }
    out.extend(cells.iter().map(|cell| i64::from_le_bytes(*cell)));
    Ok(())
}

/// `PLAIN` booleans.
pub(super) fn flags(bytes: &[u8], count: usize, out: &mut Vec<bool>) -> Result<()> {
    if bytes.len() != count.div_ceil(8) {
        return Err(damage("a page does not have the flags it should"));
    }
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    out.extend(bits.take(count));
    Ok(())
}

/// A dictionary of texts, which are `PLAIN`.
pub(super) fn dictionary_texts(mut bytes: &[u8], count: usize) -> Result<Vec<Box<str>>> {
    let mut texts = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        let (length, _) = bytes.split_first_chunk::<4>().ok_or_else(too_short)?;
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        take(&mut bytes, 4)?;
        texts.push(utf8(take(&mut bytes, length)?)?.into());
    }
    Ok(texts)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(|_| damage("a text is not UTF-8"))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(too_short)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(too_short)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damage("a number is longer than it may be"))
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Numbers of up to 32 bits, lowest bits first; `bytes` may end with the last of them.
fn unpack_small(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<()> {
    if u64::try_from(bytes.len())? * 8 < u64::from(width) * u64::try_from(count)? {
        return Err(too_short());
    }
    let mask = (1_u64 << width) - 1;
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let mut words = words
        .iter()
        .chain(std::iter::once(&last))
        .map(|word| u64::from(u32::from_le_bytes(*word)));
    let (mut buffer, mut bits) = (0_u64, 0);
    out.extend((0..count).map(|_| {
        if bits < width {
            buffer |= words.next().unwrap_or(0) << bits;
            bits += 32;
        }
        let value = buffer & mask;
        buffer >>= width;
        bits -= width;
        // The mask has at most 32 bits.
        u32::try_from(value).unwrap_or(0)
    }));
    Ok(())
}

/// Numbers of up to 64 bits, lowest bits first.
fn unpack(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u64>) -> Result<()> {
    if width > 64 || u64::try_from(bytes.len())? * 8 < u64::from(width) * u64::try_from(count)? {
        return Err(damage("numbers are wider than they may be"));
    }
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let mut words = words
        .iter()
        .chain(std::iter::once(&last))
        .map(|word| u64::from_le_bytes(*word));
    // What is left of the last word, in its lowest bits.
    let (mut buffer, mut bits) = (0_u64, 0);
    out.extend((0..count).map(|_| {
        if bits >= width {
            let value = buffer & mask;
            buffer = buffer.checked_shr(width).unwrap_or(0);
            bits -= width;
            return value;
        }
        let word = words.next().unwrap_or(0);
        let value = (buffer | word << bits) & mask;
        let used = width - bits;
        buffer = word.checked_shr(used).unwrap_or(0);
        bits = 64 - used;
        value
    }));
    Ok(())
}
