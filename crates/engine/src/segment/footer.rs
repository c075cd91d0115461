//! The end of a segment: checksums of its pages, and Parquet's own footer with the index of pages.
//!
//! Parquet has no checksum that its readers must look at, so there is one for every page of every column, in a block
//! between the last row group and the indexes, where Parquet's readers do not look. The block begins with the checksum
//! of all before it. With that of the bytes from the block on, it must give the checksum of the whole file, which the
//! manifest has: so everything a reader relies on is known to be good without reading all of it.

use super::schema;
use super::{SegmentError, SegmentMeta};
use crate::disk::DiskReader;
use meterd_model::FieldName;
use parquet::basic::Type as Physical;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use std::ops::Range as Span;

/// Rows of a page at most, and so of a batch that a reader hands out.
pub(super) const PAGE_ROWS_MAX: usize = 8_192;

/// What a reader knows of a file: about 450 bytes per column and row group and 24 per page of a column, which is 1 MB
/// for ten million rows of twelve columns.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) values: Vec<FieldName>,
    pub(super) attributes: Vec<FieldName>,
    pub(super) groups: Vec<Group>,
    metadata: ParquetMetaData,
}

/// A row group.
#[derive(Debug)]
pub(super) struct Group {
    /// By page: the same in every column.
    pub(super) pages: Vec<PageRows>,
    /// By column.
    pub(super) chunks: Vec<Chunk>,
}

/// What is in the rows of a page; without a version, there is neither subject nor time.
#[derive(Debug)]
pub(super) struct PageRows {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    /// The greatest may be longer than it needs to be, but is never less than any.
    pub(super) subjects: Option<Bounds>,
    pub(super) times: Option<(i64, i64)>,
    pub(super) sequences: (u64, u64),
    pub(super) has_voids: bool,
}

/// The least and the greatest.
type Bounds = (Box<[u8]>, Box<[u8]>);

/// One column of a row group.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) has_dictionary: bool,
    /// The dictionary, if there is one, then the pages.
    pub(super) stored: Vec<StoredPage>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct StoredPage {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) checksum: u32,
}

const BLOCK_MAGIC: &[u8; 8] = b"meterdCK";
const BLOCK_HEAD_BYTES: usize = 16;
/// Parquet's own: length of the footer, and the magic.
const TRAILER_BYTES: usize = 8;
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";
/// What is read first; it holds all of the end of a small file.
const FIRST_READ_BYTES: u64 = 32 * 1024;

/// The block of checksums.
pub(super) fn encode_checksums(before: u32, pages: &[u32]) -> Vec<u8> {
    let mut block = BLOCK_MAGIC.to_vec();
    block.extend(before.to_le_bytes());
    block.extend(u32::try_from(pages.len()).unwrap_or(u32::MAX).to_le_bytes());
    block.extend(pages.iter().flat_map(|checksum| checksum.to_le_bytes()));
    block
}

impl Footer {
    /// Reads the end of a file and checks it against the checksum of the whole.
    pub(super) fn read(
        reader: &dyn DiskReader,
        meta: &SegmentMeta,
    ) -> std::result::Result<Self, SegmentError> {
        read(reader, meta).map_err(|error| SegmentError::of_parquet(meta.number, error))
    }

    pub(super) fn column(&self, group: usize, column: usize) -> Option<&ColumnChunkMetaData> {
        self.metadata.row_groups().get(group)?.columns().get(column)
    }
}

fn read(reader: &dyn DiskReader, meta: &SegmentMeta) -> Result<Footer> {
    let bytes = reader.length();
    if bytes != meta.bytes {
        return Err(damage("its length is not the one it was written with"));
    }
    let mut start = bytes.saturating_sub(FIRST_READ_BYTES);
    let mut end = read_from(reader, start)?;
    let (rest, trailer) = end
        .split_last_chunk::<TRAILER_BYTES>()
        .ok_or_else(too_short)?;
    let [l0, l1, l2, l3, magic @ ..] = *trailer;
    if &magic != PARQUET_MAGIC {
        return Err(damage("it does not end as a Parquet file"));
    }
    let footer_bytes = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let footer_end = start + offset_of(rest.len())?;
    let footer_start = footer_end.checked_sub(footer_bytes).ok_or_else(too_short)?;
    if footer_start < start {
        start = footer_start;
        end = read_from(reader, start)?;
    }
    let footer = slice(&end, start, footer_start..footer_end)?;
    // The one thing that is read before its checksum is known: it says where the checksums are. The library's parser
    // answered 400 000 footers full of rubbish with errors, and none with a panic.
    let metadata = ParquetMetaDataReader::decode_metadata(footer)?;
    let block_start = checksums_offset(&metadata).ok_or_else(|| damage("it has no checksums"))?;
    if block_start > footer_start {
        return Err(damage("its checksums are out of place"));
    }
    if block_start < start {
        start = block_start;
        end = read_from(reader, start)?;
    }
    let block = slice(&end, start, block_start..footer_start)?;
    let (before, checksums) = decode_checksums(block)?;
    let tail = slice(&end, start, block_start..bytes)?;
    if crc32c::crc32c_combine(before, crc32c::crc32c(tail), tail.len()) != meta.checksum {
        return Err(damage("its end does not have the right checksum"));
    }
    check_identity(&metadata, meta)?;
    let mut checksums = checksums.into_iter();
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    for group in metadata.row_groups() {
        let pages = |range: Option<Span<u64>>| {
            slice(
                &end,
                start,
                range.ok_or_else(|| damage("it has no index of pages"))?,
            )
        };
        let mut group_pages: Vec<PageRows> = Vec::new();
        let mut chunks = Vec::with_capacity(group.num_columns());
        let rows = usize::try_from(group.num_rows())?;
        for (place, column) in group.columns().iter().enumerate() {
            let index = decode_offset_index(pages(column.offset_index_range())?)?;
            let locations = index.page_locations();
            let firsts: Vec<i64> = locations.iter().map(|page| page.first_row_index).collect();
            if place == 0 {
                group_pages = page_rows(&firsts, rows)?;
            } else if !(group_pages
                .iter()
                .map(|page| i64::try_from(page.first_row).ok()))
            .eq(firsts.iter().copied().map(Some))
            {
                return Err(damage("the pages of its columns do not match"));
            }
            let places = locations
                .iter()
                .map(|page| (page.offset, page.compressed_page_size));
            chunks.push(chunk(column, places, &mut checksums, block_start)?);
        }
        for (column, bounds) in [schema::SUBJECT, schema::TIME, schema::SEQUENCE]
            .into_iter()
            .map(|place| {
                let column = group.columns().get(place);
                (
                    place,
                    column.and_then(ColumnChunkMetaData::column_index_range),
                )
            })
        {
            let physical = if column == schema::SUBJECT {
                Physical::BYTE_ARRAY
            } else {
                Physical::INT64
            };
            let index = decode_column_index(pages(bounds)?, physical)?;
            set_bounds(&mut group_pages, column, &index)?;
        }
        groups.push(Group {
            pages: group_pages,
            chunks,
        });
    }
    if checksums.next().is_some() {
        return Err(damage("it has more checksums than pages"));
    }
    let (values, attributes) = schema::fields(metadata.file_metadata().schema())?;
    Ok(Footer {
        values,
        attributes,
        groups,
        metadata,
    })
}

fn damage(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

fn too_short() -> ParquetError {
    damage("it is too short")
}

fn offset_of(length: usize) -> Result<u64> {
    Ok(u64::try_from(length)?)
}

fn read_from(reader: &dyn DiskReader, start: u64) -> Result<Vec<u8>> {
    let length = reader.length().saturating_sub(start);
    let mut bytes = vec![0; usize::try_from(length)?];
    reader.read_at(start, &mut bytes)?;
    Ok(bytes)
}

/// A part of the file, of what was read from `start` on.
fn slice(bytes: &[u8], start: u64, part: Span<u64>) -> Result<&[u8]> {
    let place = |offset: u64| usize::try_from(offset.checked_sub(start)?).ok();
    let range = place(part.start).zip(place(part.end));
    let found = range.and_then(|(from, to)| bytes.get(from..to));
    found.ok_or_else(|| damage("its footer points to where it cannot"))
}

fn key_value<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

fn checksums_offset(metadata: &ParquetMetaData) -> Option<u64> {
    key_value(metadata, schema::CHECKSUMS_KEY)?.parse().ok()
}

/// The block may be followed by the indexes.
fn decode_checksums(block: &[u8]) -> Result<(u32, Vec<u32>)> {
    let (head, rest) = block
        .split_at_checked(BLOCK_HEAD_BYTES)
        .ok_or_else(too_short)?;
    let head = head
        .strip_prefix(BLOCK_MAGIC)
        .and_then(|numbers| numbers.as_chunks::<4>().0.get(..2));
    let Some(&[before, count]) = head else {
        return Err(damage("its checksums are not where they should be"));
    };
    let count = usize::try_from(u32::from_le_bytes(count))?;
    let pages = rest.as_chunks::<4>().0.get(..count).ok_or_else(too_short)?;
    let pages = pages.iter().copied().map(u32::from_le_bytes);
    Ok((u32::from_le_bytes(before), pages.collect()))
}

fn check_identity(metadata: &ParquetMetaData, meta: &SegmentMeta) -> Result<()> {
    if key_value(metadata, schema::FORMAT_KEY) != Some(schema::FORMAT_VERSION) {
        return Err(damage("it is of a format that this version does not know"));
    }
    let expected = schema::key_values(meta.organization, meta.partition);
    let same = expected
        .iter()
        .all(|pair| key_value(metadata, &pair.key) == pair.value.as_deref());
    let rows: i64 = metadata
        .row_groups()
        .iter()
        .map(RowGroupMetaData::num_rows)
        .sum();
    if !same || u64::try_from(rows) != Ok(meta.rows) {
        return Err(damage("it is another file than the manifest says"));
    }
    Ok(())
}

/// The pages of a row group, by the first row of each.
fn page_rows(firsts: &[i64], rows: usize) -> Result<Vec<PageRows>> {
    let mut pages = Vec::with_capacity(firsts.len());
    let mut next = 0;
    for (place, first) in firsts.iter().enumerate() {
        let first_row = usize::try_from(*first)?;
        let end = match firsts.get(place + 1) {
            Some(end) => usize::try_from(*end)?,
            None => rows,
        };
        let rows = end
            .checked_sub(first_row)
            .filter(|rows| (1..=PAGE_ROWS_MAX).contains(rows));
        let rows = rows.filter(|_| first_row == next);
        let rows = rows.ok_or_else(|| damage("its pages are not of the size they may be"))?;
        next = end;
        pages.push(PageRows {
            first_row,
            rows,
            subjects: None,
            times: None,
            sequences: (0, u64::MAX),
            has_voids: true,
        });
    }
    if next != rows {
        return Err(damage("its pages do not have all rows"));
    }
    Ok(pages)
}

/// The places of a column's pages, which lie one behind the other, with their checksums.
fn chunk(
    column: &ColumnChunkMetaData,
    pages: impl Iterator<Item = (i64, i32)>,
    checksums: &mut impl Iterator<Item = u32>,
    end: u64,
) -> Result<Chunk> {
    // The library takes it for granted that these are not negative, and panics where they are.
    let start = column.dictionary_page_offset();
    let start = start.unwrap_or_else(|| column.data_page_offset());
    if start < 0 || column.compressed_size() < 0 {
        return Err(damage("a column is where it cannot be"));
    }
    let (mut next, length) = column.byte_range();
    let chunk_end = next
        .checked_add(length)
        .filter(|chunk_end| *chunk_end <= end);
    let chunk_end = chunk_end.ok_or_else(|| damage("a column is where it cannot be"))?;
    let mut store = |offset: u64, page_end: u64| {
        let checksum = checksums
            .next()
            .ok_or_else(|| damage("it has fewer checksums than pages"))?;
        let length = page_end
            .checked_sub(offset)
            .filter(|_| offset == next && page_end <= chunk_end);
        let length = length.ok_or_else(|| damage("a page is where it cannot be"))?;
        next = page_end;
        Ok::<_, ParquetError>(StoredPage {
            offset,
            length: usize::try_from(length)?,
            checksum,
        })
    };
    let mut stored = Vec::new();
    let mut has_dictionary = false;
    for (offset, length) in pages {
        let (offset, length) = (u64::try_from(offset)?, u64::try_from(length)?);
        if stored.is_empty() && offset != column.byte_range().0 {
            has_dictionary = true;
            stored.push(store(column.byte_range().0, offset)?);
        }
        stored.push(store(offset, offset.saturating_add(length))?);
    }
    Ok(Chunk {
        has_dictionary,
        stored,
    })
}

/// Takes the bounds of a column's pages over from its index.
fn set_bounds(pages: &mut [PageRows], column: usize, index: &ColumnIndexMetaData) -> Result<()> {
    if usize::try_from(index.num_pages()) != Ok(pages.len()) {
        return Err(damage("an index does not have all pages"));
    }
    for (place, page) in pages.iter_mut().enumerate() {
        match index {
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                page.subjects = index
                    .min_value(place)
                    .map(Into::into)
                    .zip(index.max_value(place).map(Into::into));
                page.has_voids = index.null_count(place).is_none_or(|nulls| nulls > 0);
            }
            ColumnIndexMetaData::INT64(index) => {
                let bounds = index
                    .min_value(place)
                    .copied()
                    .zip(index.max_value(place).copied());
                if column == schema::TIME {
                    page.times = bounds;
                } else {
                    let (least, greatest) =
                        bounds.ok_or_else(|| damage("a page has no sequences"))?;
                    page.sequences = (u64::try_from(least)?, u64::try_from(greatest)?);
                }
            }
            _ => return Err(damage("an index is of another kind than its column")),
        }
    }
    Ok(())
}
