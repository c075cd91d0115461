//! The rows of one row group in memory, as columns.

use super::encode::{Bounds, Encoded, Target, page_checksums};
use super::schema;
use super::write::{SegmentRow, Shape, Sink, misuse};
use crate::partition::Partition;
use bytes::Bytes;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedFileWriter;
use std::io;

/// The rows at hand.
pub(super) struct RowGroup {
    pub(super) rows: usize,
    /// About as many as it takes in memory.
    pub(super) bytes: usize,
    subjects: TextCells,
    times: Cells<i64>,
    ends: Cells<i64>,
    ids: TextCells,
    sequences: Cells<i64>,
    received: Cells<i64>,
    current: Cells<bool>,
    replaces: Cells<i64>,
    replaces_partitions: TextCells,
    values: Vec<Cells<i128>>,
    attributes: Vec<TextCells>,
}

impl RowGroup {
    pub(super) fn new(values: usize, attributes: usize) -> Self {
        Self {
            rows: 0,
            bytes: 0,
            subjects: TextCells::default(),
            times: Cells::default(),
            ends: Cells::default(),
            ids: TextCells::default(),
            sequences: Cells::default(),
            received: Cells::default(),
            current: Cells::default(),
            replaces: Cells::default(),
            replaces_partitions: TextCells::default(),
            values: std::iter::repeat_with(Cells::default)
                .take(values)
                .collect(),
            attributes: std::iter::repeat_with(TextCells::default)
                .take(attributes)
                .collect(),
        }
    }

    pub(super) fn push(&mut self, row: &SegmentRow<'_>, own: Partition) -> io::Result<()> {
        let sequence =
            |number: u64| i64::try_from(number).map_err(|_| misuse("sequence too great"));
        let at = self.rows;
        if let Some(subject) = row.subject {
            self.subjects.put(at, subject);
            self.times.put(at, row.time);
        }
        if let Some(end) = row.end {
            self.ends.put(at, end);
        }
        self.ids.put(at, row.id);
        self.sequences.put(at, sequence(row.sequence)?);
        self.received.put(at, row.received);
        self.current.put(at, row.current);
        if let Some(link) = row.replaces {
            self.replaces.put(at, sequence(link.sequence)?);
            if link.partition != own {
                self.replaces_partitions
                    .put(at, &schema::partition_text(link.partition));
                self.bytes += 64;
            }
        }
        for &(field, units) in row.values {
            let column = self.values.get_mut(field);
            column
                .ok_or_else(|| misuse("no such value"))?
                .put(at, units);
        }
        for &(field, text) in row.attributes {
            let column = self.attributes.get_mut(field);
            column
                .ok_or_else(|| misuse("no such attribute"))?
                .put(at, text);
            self.bytes += text.len();
        }
        self.rows += 1;
        let texts = row.subject.map_or(0, str::len) + row.id.len();
        // The fixed columns with their levels, and what each field has of those.
        self.bytes += 64 + texts + row.values.len() * 18 + row.attributes.len() * 10;
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.values.len(), self.attributes.len());
    }

    pub(super) fn write(
        &self,
        file: &mut SerializedFileWriter<Sink>,
        shape: Shape,
        checksums: &mut Vec<u32>,
    ) -> Result<()> {
        let descriptors = file.schema_descr().columns().to_vec();
        let mut descriptors = descriptors.into_iter();
        let mut group = file.next_row_group()?;
        let mut append = |encode: &dyn Fn(Target) -> Encoded| {
            let Some(descriptor) = descriptors.next() else {
                return Err(ParquetError::General(
                    "more columns than in the schema".into(),
                ));
            };
            let (bytes, closed) = encode(Target {
                descriptor,
                shape,
                rows: self.rows,
            })?;
            checksums.extend(page_checksums(&bytes, &closed));
            group.append_column(&Bytes::from(bytes), closed)
        };
        append(&|target| target.texts(&self.subjects, Bounds::Pages))?;
        append(&|target| target.rising(&self.times, Bounds::Pages))?;
        append(&|target| target.rising(&self.ends, Bounds::None))?;
        append(&|target| target.distinct_texts(&self.ids))?;
        append(&|target| target.rising(&self.sequences, Bounds::Pages))?;
        append(&|target| target.repeating(&self.received))?;
        append(&|target| target.flags(&self.current))?;
        append(&|target| target.rising(&self.replaces, Bounds::None))?;
        append(&|target| target.texts(&self.replaces_partitions, Bounds::None))?;
        for value in &self.values {
            append(&|target| target.decimals(value))?;
        }
        for attribute in &self.attributes {
            append(&|target| target.texts(attribute, Bounds::None))?;
        }
        group.close()?;
        Ok(())
    }
}

/// The cells of one column that are there, and which rows these are of.
pub(super) struct Cells<T> {
    pub(super) values: Vec<T>,
    /// Per row, 1 if it has a cell: what Parquet calls definition levels. Rows without one at the end are left out.
    pub(super) levels: Vec<i16>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            levels: Vec::new(),
        }
    }
}

impl<T> Cells<T> {
    fn put(&mut self, row: usize, value: T) {
        self.levels.resize(row, 0);
        self.levels.push(1);
        self.values.push(value);
    }
}

#[derive(Default)]
pub(super) struct TextCells {
    bytes: Vec<u8>,
    /// Where each text ends.
    pub(super) cells: Cells<usize>,
}

impl TextCells {
    fn put(&mut self, row: usize, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.cells.put(row, self.bytes.len());
    }

    pub(super) fn arrays(&self) -> Vec<ByteArray> {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        let mut start = 0;
        let ends = self.cells.values.iter();
        ends.map(|&end| ByteArray::from(bytes.slice(std::mem::replace(&mut start, end)..end)))
            .collect()
    }
}
