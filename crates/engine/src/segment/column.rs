//! One column of a row group: its pages fetched, checked, and decoded to cells of a row each.

use super::decode::{self, PageCells, damage};
use super::footer::{Footer, StoredPage};
use super::read::Texts;
use super::schema;
use crate::disk::DiskReader;
use crate::partition::{Link, Partition};
use crate::table::{NO_TIME, NO_VALUE};
use crate::texts::{NO_TEXT, TextNumber};
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use std::io;
use std::sync::Arc;

/// Which page of a part, and how many rows it has.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) page: usize,
    pub(super) rows: usize,
}

/// What one page is decoded in.
#[derive(Default)]
pub(super) struct Scratch {
    places: Vec<u32>,
    numbers: Vec<i64>,
    decimals: Vec<i128>,
    ends: Vec<usize>,
    partitions: Vec<u32>,
}

/// A row group whose columns are to be opened.
pub(super) struct Columns<'a> {
    pub(super) reader: &'a dyn DiskReader,
    pub(super) footer: &'a Footer,
    pub(super) group: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn open<D: FromDictionary>(
        &self,
        wanted: bool,
        column: usize,
    ) -> Result<Option<Column<'a, D>>> {
        wanted.then(|| self.column(column)).transpose()
    }

    pub(super) fn column<D: FromDictionary>(&self, column: usize) -> Result<Column<'a, D>> {
        let missing = || damage("it has no such column");
        let group = self.footer.groups.get(self.group).ok_or_else(missing)?;
        let chunk = group.chunks.get(column).ok_or_else(missing)?;
        let metadata = self.footer.column(self.group, column).ok_or_else(missing)?;
        let data_pages = chunk
            .stored
            .get(usize::from(chunk.has_dictionary)..)
            .unwrap_or_default();
        let locations = group.pages.iter().zip(data_pages).map(|(rows, page)| {
            Ok(PageLocation {
                offset: i64::try_from(page.offset)?,
                compressed_page_size: i32::try_from(page.length)?,
                first_row_index: i64::try_from(rows.first_row)?,
            })
        });
        let locations = locations.collect::<Result<Vec<_>>>()?;
        let rows = group.pages.iter().map(|page| page.rows).sum();
        let bytes = Arc::new(ChunkBytes {
            reader: self.reader,
            stored: &chunk.stored,
        });
        let mut pages = SerializedPageReader::new(bytes, metadata, rows, Some(locations))?;
        let mut dictionary = D::default();
        if chunk.has_dictionary {
            let Some(Page::DictionaryPage {
                buf,
                num_values,
                encoding: Encoding::PLAIN | Encoding::PLAIN_DICTIONARY,
                ..
            }) = pages.get_next_page()?
            else {
                return Err(damage("a column has no dictionary where it should"));
            };
            dictionary = D::decode(&buf, usize::try_from(num_values)?)?;
        }
        Ok(Column {
            pages,
            next: 0,
            dictionary,
        })
    }
}

/// The bytes of one column of a row group, each page checked when it is read.
struct ChunkBytes<'a> {
    reader: &'a dyn DiskReader,
    stored: &'a [StoredPage],
}

impl Length for ChunkBytes<'_> {
    fn len(&self) -> u64 {
        self.reader.length()
    }
}

impl ChunkReader for ChunkBytes<'_> {
    type T = io::Empty;

    /// Never asked for where pages are read by their places.
    fn get_read(&self, _: u64) -> Result<Self::T> {
        Err(ParquetError::NYI(
            "reading without an index of pages".into(),
        ))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let place = self
            .stored
            .binary_search_by_key(&start, |page| page.offset)
            .ok();
        let page = place.and_then(|place| self.stored.get(place));
        let page = page.filter(|page| page.length == length);
        let page = page.ok_or_else(|| damage("a page is not where it should be"))?;
        let mut bytes = vec![0; length];
        self.reader.read_at(start, &mut bytes)?;
        if crc32c::crc32c(&bytes) != page.checksum {
            return Err(damage("a page does not have the right checksum"));
        }
        Ok(bytes.into())
    }
}

/// A column of a part, read forwards.
pub(super) struct Column<'a, D> {
    pages: SerializedPageReader<ChunkBytes<'a>>,
    next: usize,
    dictionary: D,
}

/// What the dictionary of a column is decoded to.
pub(super) trait FromDictionary: Default {
    fn decode(bytes: &[u8], count: usize) -> Result<Self>;
}

impl FromDictionary for () {
    fn decode(_: &[u8], _: usize) -> Result<Self> {
        Err(damage("a column has a dictionary that should not"))
    }
}

impl FromDictionary for Vec<i64> {
    fn decode(bytes: &[u8], count: usize) -> Result<Self> {
        let mut numbers = Vec::new();
        decode::numbers(bytes, count, &mut numbers)?;
        Ok(numbers)
    }
}

impl FromDictionary for Vec<i128> {
    fn decode(bytes: &[u8], count: usize) -> Result<Self> {
        let mut decimals = Vec::new();
        decode::decimals(bytes, count, &mut decimals)?;
        Ok(decimals)
    }
}

/// Stands for the number of a text that was not asked for yet.
pub(crate) const NO_ANSWER: TextNumber = NO_TEXT - 1;

/// Texts, and the caller's number of each that occurred so far, or [`NO_ANSWER`].
#[derive(Default)]
pub(super) struct Dictionary {
    texts: Vec<Box<str>>,
    numbers: Vec<u32>,
}

impl FromDictionary for Dictionary {
    fn decode(bytes: &[u8], count: usize) -> Result<Self> {
        let texts = decode::dictionary_texts(bytes, count)?;
        Ok(Self {
            numbers: vec![NO_ANSWER; texts.len()],
            texts,
        })
    }
}

impl<D> Column<'_, D> {
    fn page(&mut self, page: usize) -> Result<Page> {
        while self.next < page {
            self.pages.skip_next_page()?;
            self.next += 1;
        }
        self.next += 1;
        self.pages
            .get_next_page()?
            .ok_or_else(|| damage("a page is missing"))
    }
}

impl Column<'_, Vec<i64>> {
    pub(super) fn numbers(
        &mut self,
        place: Place,
        scratch: &mut Scratch,
        out: &mut Vec<i64>,
    ) -> Result<()> {
        let page = self.page(place.page)?;
        let cells = PageCells::open(&page, place.rows)?;
        let dense = &mut scratch.numbers;
        dense.clear();
        match cells.encoding {
            Encoding::DELTA_BINARY_PACKED => {
                decode::differences(cells.bytes, cells.count, dense)?;
            }
            Encoding::RLE_DICTIONARY => {
                look_up(&cells, &self.dictionary, &mut scratch.places, dense)?;
            }
            _ => return Err(unknown_encoding()),
        }
        cells.spread(dense, NO_TIME, out);
        Ok(())
    }
}

impl Column<'_, Vec<i128>> {
    pub(super) fn decimals(
        &mut self,
        place: Place,
        scratch: &mut Scratch,
        out: &mut Vec<i128>,
    ) -> Result<()> {
        let page = self.page(place.page)?;
        let cells = PageCells::open(&page, place.rows)?;
        let dense = &mut scratch.decimals;
        dense.clear();
        match cells.encoding {
            Encoding::PLAIN => decode::decimals(cells.bytes, cells.count, dense)?,
            Encoding::RLE_DICTIONARY => {
                look_up(&cells, &self.dictionary, &mut scratch.places, dense)?;
            }
            _ => return Err(unknown_encoding()),
        }
        cells.spread(dense, NO_VALUE, out);
        Ok(())
    }
}

impl Column<'_, Dictionary> {
    pub(super) fn forget_numbers(&mut self) {
        self.dictionary.numbers.fill(NO_ANSWER);
    }

    pub(super) fn texts(
        &mut self,
        place: Place,
        scratch: &mut Scratch,
        texts: &mut dyn FnMut(&str) -> u32,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let page = self.page(place.page)?;
        let cells = PageCells::open(&page, place.rows)?;
        let places = &mut scratch.places;
        places.clear();
        if cells.encoding == Encoding::RLE_DICTIONARY {
            cells.dictionary_numbers(places)?;
            let Dictionary {
                texts: known,
                numbers,
            } = &mut self.dictionary;
            for cell in places.iter_mut() {
                let entry = usize::try_from(*cell)?;
                let (Some(number), Some(text)) = (numbers.get_mut(entry), known.get(entry)) else {
                    return Err(outside());
                };
                if *number == NO_ANSWER {
                    *number = texts(text);
                }
                *cell = *number;
            }
        } else {
            scratch.ends.clear();
            let all = decode::texts(&cells, &mut scratch.ends)?;
            // The subject, being sorted by, repeats.
            let mut last: Option<(&str, u32)> = None;
            let mut start = 0;
            for &end in &scratch.ends {
                let text = all.get(start..end).unwrap_or_default();
                start = end;
                let number = match last {
                    Some((same, number)) if same == text => number,
                    _ => texts(text),
                };
                last = Some((text, number));
                places.push(number);
            }
        }
        cells.spread(places, NO_TEXT, out);
        Ok(())
    }
}

impl Column<'_, ()> {
    pub(super) fn all_texts(&mut self, place: Place, out: &mut Texts) -> Result<()> {
        let page = self.page(place.page)?;
        let cells = PageCells::open(&page, place.rows)?;
        let all = decode::texts(&cells, &mut out.ends)?;
        out.text.push_str(all);
        expect_all(&cells)
    }

    pub(super) fn flags(&mut self, place: Place, out: &mut Vec<bool>) -> Result<()> {
        let page = self.page(place.page)?;
        let cells = PageCells::open(&page, place.rows)?;
        if cells.encoding != Encoding::PLAIN {
            return Err(unknown_encoding());
        }
        decode::flags(cells.bytes, cells.count, out)?;
        expect_all(&cells)
    }
}

fn look_up<T: Copy>(
    cells: &PageCells<'_>,
    dictionary: &[T],
    places: &mut Vec<u32>,
    out: &mut Vec<T>,
) -> Result<()> {
    places.clear();
    cells.dictionary_numbers(places)?;
    for &place in places.iter() {
        out.push(
            *dictionary
                .get(usize::try_from(place)?)
                .ok_or_else(outside)?,
        );
    }
    Ok(())
}

pub(super) fn read_links(
    own: Partition,
    sequences: &mut Column<'_, Vec<i64>>,
    partitions: &mut Column<'_, Dictionary>,
    place: Place,
    scratch: &mut Scratch,
    out: &mut Vec<Option<Link>>,
) -> Result<()> {
    let mut named: Vec<Option<Partition>> = Vec::new();
    let mut numbers = Vec::with_capacity(place.rows);
    sequences.numbers(place, scratch, &mut numbers)?;
    let mut other = std::mem::take(&mut scratch.partitions);
    other.clear();
    // Each page is numbered anew.
    partitions.forget_numbers();
    let mut number_of = |text: &str| {
        named.push(schema::parse_partition(text));
        u32::try_from(named.len() - 1).unwrap_or(NO_TEXT)
    };
    partitions.texts(place, scratch, &mut number_of, &mut other)?;
    if named.contains(&None) {
        return Err(damage("a partition is not named as it should be"));
    }
    let found = |other: u32| named.get(usize::try_from(other).ok()?).copied().flatten();
    out.extend(numbers.iter().zip(&other).map(|(&sequence, &other)| {
        (sequence != NO_TIME).then(|| Link {
            partition: found(other).unwrap_or(own),
            sequence: sequence.cast_unsigned(),
        })
    }));
    scratch.partitions = other;
    Ok(())
}

fn expect_all(cells: &PageCells<'_>) -> Result<()> {
    if cells.count == cells.rows {
        Ok(())
    } else {
        Err(damage("a page lacks cells that every row has"))
    }
}

fn unknown_encoding() -> ParquetError {
    damage("a page is encoded in a way that is never written")
}

fn outside() -> ParquetError {
    damage("a cell is not in its dictionary")
}
