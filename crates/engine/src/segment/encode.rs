//! Encoding one column of a row group.
//!
//! What decides size and speed was measured: times and sequences as differences; texts, decimals and times of
//! receipt as numbers into a dictionary where few are distinct within a row group; ids as lengths and bytes apart, so
//! that zstd sees nothing but their digits. All pages have the same rows in every column, so that a reader can take
//! one page of each and has whole rows.

use super::group::{Cells, TextCells};
use super::schema;
use super::write::Shape;
use bytes::Bytes;
use hashbrown::HashSet;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::{ColumnCloseResult, ColumnWriterImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType,
    Int64Type,
};
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr,
    WriterVersion,
};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use std::hash::Hash;
use std::sync::Arc;

/// Whether a reader gets to know the least and greatest of each page.
#[derive(Clone, Copy)]
pub(super) enum Bounds {
    Pages,
    None,
}

pub(super) type Encoded = Result<(Vec<u8>, ColumnCloseResult)>;

/// A column of a row group to be encoded.
pub(super) struct Target {
    pub(super) descriptor: ColumnDescPtr,
    pub(super) shape: Shape,
    pub(super) rows: usize,
}

impl Target {
    pub(super) fn texts(self, cells: &TextCells, bounds: Bounds) -> Encoded {
        let arrays = cells.arrays();
        let encoding = if is_repetitive(arrays.iter().map(ByteArray::data), 4) {
            None
        } else {
            Some(Encoding::DELTA_LENGTH_BYTE_ARRAY)
        };
        self.encode::<ByteArrayType>(&arrays, &cells.cells.levels, encoding, bounds)
    }

    pub(super) fn distinct_texts(self, cells: &TextCells) -> Encoded {
        let encoding = Some(Encoding::DELTA_LENGTH_BYTE_ARRAY);
        self.encode::<ByteArrayType>(&cells.arrays(), &cells.cells.levels, encoding, Bounds::None)
    }

    pub(super) fn rising(self, cells: &Cells<i64>, bounds: Bounds) -> Encoded {
        let encoding = Some(Encoding::DELTA_BINARY_PACKED);
        self.encode::<Int64Type>(&cells.values, &cells.levels, encoding, bounds)
    }

    pub(super) fn repeating(self, cells: &Cells<i64>) -> Encoded {
        let encoding = if dictionary_bits(&cells.values) < differences_bits(&cells.values) {
            None
        } else {
            Some(Encoding::DELTA_BINARY_PACKED)
        };
        self.encode::<Int64Type>(&cells.values, &cells.levels, encoding, Bounds::None)
    }

    pub(super) fn decimals(self, cells: &Cells<i128>) -> Encoded {
        let encoding = if is_repetitive(cells.values.iter(), 4) {
            None
        } else {
            Some(Encoding::PLAIN)
        };
        let mut bytes = Vec::with_capacity(cells.values.len() * schema::DECIMAL_BYTES);
        bytes.extend(cells.values.iter().flat_map(|units| units.to_be_bytes()));
        let bytes = Bytes::from(bytes);
        let arrays: Vec<FixedLenByteArray> = (0..bytes.len())
            .step_by(schema::DECIMAL_BYTES)
            .map(|start| ByteArray::from(bytes.slice(start..start + schema::DECIMAL_BYTES)).into())
            .collect();
        self.encode::<FixedLenByteArrayType>(&arrays, &cells.levels, encoding, Bounds::None)
    }

    pub(super) fn flags(self, cells: &Cells<bool>) -> Encoded {
        self.encode::<BoolType>(
            &cells.values,
            &cells.levels,
            Some(Encoding::PLAIN),
            Bounds::None,
        )
    }

    /// Encodes the column in memory, with a dictionary if no `encoding` is named.
    fn encode<T: DataType>(
        self,
        values: &[T::T],
        levels: &[i16],
        encoding: Option<Encoding>,
        bounds: Bounds,
    ) -> Encoded {
        let statistics = match bounds {
            Bounds::Pages => EnabledStatistics::Page,
            Bounds::None => EnabledStatistics::None,
        };
        let properties = properties(self.shape).set_statistics_enabled(statistics);
        let properties: WriterPropertiesPtr = Arc::new(match encoding {
            Some(encoding) => properties
                .set_dictionary_enabled(false)
                .set_encoding(encoding)
                .build(),
            None => properties.set_dictionary_enabled(true).build(),
        });
        let nullable = self.descriptor.max_def_level() > 0;
        let mut bytes = TrackedWrite::new(Vec::new());
        let pages = Box::new(SerializedPageWriter::new(&mut bytes));
        let mut column = ColumnWriterImpl::<T>::new(self.descriptor, properties, pages);
        let mut values = values;
        let mut levels = levels.to_vec();
        levels.resize(self.rows, 0);
        // One page at a time, so that each ends after the same rows in all columns.
        for levels in levels.chunks(self.shape.page_rows) {
            let present = levels.iter().filter(|level| **level == 1).count();
            let (page, rest) = values.split_at_checked(present).unwrap_or((values, &[]));
            column.write_batch(page, nullable.then_some(levels), None)?;
            values = rest;
        }
        let closed = column.close()?;
        Ok((bytes.into_inner()?, closed))
    }
}

/// Whether a dictionary pays: each value stands at least `times` times, on average.
fn is_repetitive(mut values: impl ExactSizeIterator<Item: Eq + Hash>, times: usize) -> bool {
    let limit = values.len() / times;
    let mut distinct = HashSet::new();
    values.all(|value| {
        distinct.insert(value);
        distinct.len() <= limit
    })
}

/// About the size of numbers as places in a dictionary.
fn dictionary_bits(values: &[i64]) -> usize {
    let distinct: HashSet<i64> = values.iter().copied().collect();
    let place_bits = distinct.len().checked_ilog2().map_or(0, |bits| bits + 1);
    distinct.len() * 64 + values.len() * usize::try_from(place_bits).unwrap_or(usize::MAX)
}

/// About the size of numbers as differences, which are packed with one width for every few.
fn differences_bits(values: &[i64]) -> usize {
    const PACKED: usize = 32;
    let runs = values.chunks(PACKED).map(|run| {
        let differences = || {
            run.windows(2)
                .filter_map(|pair| pair.last()?.checked_sub(*pair.first()?))
        };
        let spread = differences()
            .max()
            .zip(differences().min())
            .map_or(0, |(most, least)| most.abs_diff(least));
        let width = spread.checked_ilog2().map_or(0, |bits| bits + 1);
        PACKED * usize::try_from(width).unwrap_or(usize::MAX)
    });
    runs.sum()
}

/// Of each page of an encoded column: the dictionary, if there is one, then the data.
pub(super) fn page_checksums(bytes: &[u8], closed: &ColumnCloseResult) -> Vec<u32> {
    let locations = closed
        .offset_index
        .as_ref()
        .map(|index| index.page_locations.as_slice());
    let mut starts: Vec<usize> = (locations.unwrap_or_default().iter())
        .filter_map(|page| usize::try_from(page.offset).ok())
        .collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    starts.push(bytes.len());
    (starts.windows(2))
        .filter_map(|page| bytes.get(*page.first()?..*page.last()?))
        .map(crc32c::crc32c)
        .collect()
}

pub(super) fn properties(shape: Shape) -> WriterPropertiesBuilder {
    // Pages end by their rows and a dictionary is chosen knowing its size, so no limit in bytes may step in; a page
    // is bounded by what a row may have.
    let unlimited = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    let place = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: true,
    };
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(format!("meterd {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_write_batch_size(shape.page_rows)
        .set_data_page_row_count_limit(shape.page_rows)
        .set_data_page_size_limit(unlimited)
        .set_dictionary_page_size_limit(unlimited)
        .set_sorting_columns(Some(vec![place(0), place(1), place(4)]))
}
