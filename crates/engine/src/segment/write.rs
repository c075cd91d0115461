//! Writing a segment: rows come in order, are kept for one row group as columns, and go out encoded.

use super::encode::properties;
use super::group::RowGroup;
use super::schema::{self, SegmentPath};
use super::{SegmentMeta, footer};
use crate::disk::{Directories, Disk, DiskFile, parent_of};
use crate::partition::{Link, Partition};
use meterd_model::{FieldName, OrganizationId};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// One version of a measurement, or a void.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentRow<'a> {
    /// None: a void, whose time is not kept.
    pub(crate) subject: Option<&'a str>,
    pub(crate) time: i64,
    pub(crate) end: Option<i64>,
    pub(crate) id: &'a str,
    pub(crate) sequence: u64,
    pub(crate) received: i64,
    pub(crate) current: bool,
    /// The event that this one replaced or voided.
    pub(crate) replaces: Option<Link>,
    /// Each by its index into the writer's names, ascending.
    pub(crate) values: &'a [(usize, i128)],
    pub(crate) attributes: &'a [(usize, &'a str)],
}

/// How a file is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) row_group_rows: usize,
    /// Bytes in memory at which a row group ends early.
    pub(crate) row_group_bytes: usize,
    /// At most [`footer::PAGE_ROWS_MAX`].
    pub(crate) page_rows: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            row_group_rows: 128 * 1024,
            row_group_bytes: 64 * 1024 * 1024,
            page_rows: footer::PAGE_ROWS_MAX,
        }
    }
}

/// Writes one segment. Dropped before it is finished, it removes the file, as well as it can.
pub(crate) struct SegmentWriter<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    shape: Shape,
    /// None once it is finished.
    file: Option<SerializedFileWriter<Sink>>,
    checksums: Vec<u32>,
    group: RowGroup,
    values: Vec<FieldName>,
    attributes: Vec<FieldName>,
    value_is_used: Vec<bool>,
    attribute_is_used: Vec<bool>,
    /// Figures of the rows so far.
    meta: SegmentMeta,
    last: Option<Place>,
}

impl<'a> SegmentWriter<'a> {
    /// A new file below the engine's directory; an error if there is one of that number. Field names must be sorted.
    pub(crate) fn create(
        directories: &Directories<'a>,
        path: SegmentPath,
        values: &[FieldName],
        attributes: &[FieldName],
    ) -> io::Result<Self> {
        Self::with_shape(directories, path, values, attributes, Shape::default())
    }

    pub(super) fn with_shape(
        directories: &Directories<'a>,
        path: SegmentPath,
        values: &[FieldName],
        attributes: &[FieldName],
        shape: Shape,
    ) -> io::Result<Self> {
        let sorted = |names: &[FieldName]| names.is_sorted_by(|a, b| a < b);
        if !sorted(values) || !sorted(attributes) {
            return Err(misuse("field names out of order"));
        }
        let SegmentPath {
            organization,
            partition,
            number,
        } = path;
        let path = directories.root.join(path.relative());
        let columns = schema::columns(values, attributes).map_err(io_error)?;
        let sink = Sink::new(directories.create_file(&path)?);
        let properties = properties(shape)
            .set_key_value_metadata(Some(schema::key_values(organization, partition)))
            .build();
        let file = SerializedFileWriter::new(sink, columns, Arc::new(properties));
        Ok(Self {
            disk: directories.disk,
            path,
            shape,
            file: Some(file.map_err(io_error)?),
            checksums: Vec::new(),
            group: RowGroup::new(values.len(), attributes.len()),
            value_is_used: vec![false; values.len()],
            attribute_is_used: vec![false; attributes.len()],
            values: values.to_vec(),
            attributes: attributes.to_vec(),
            meta: empty_meta(number, organization, partition),
            last: None,
        })
    }

    /// Adds a row, which must come after the last by subject, time and sequence; voids come before all subjects.
    pub(crate) fn push(&mut self, row: &SegmentRow<'_>) -> io::Result<()> {
        self.check_order(row)?;
        let own = self.meta.partition;
        self.group.push(row, own)?;
        for &(field, _) in row.values {
            *self
                .value_is_used
                .get_mut(field)
                .ok_or_else(|| misuse("no such value"))? = true;
        }
        for &(field, _) in row.attributes {
            let used = self.attribute_is_used.get_mut(field);
            *used.ok_or_else(|| misuse("no such attribute"))? = true;
        }
        let meta = &mut self.meta;
        meta.rows += 1;
        meta.voids += u64::from(row.subject.is_none());
        meta.superseded += u64::from(!row.current);
        meta.sequence_min = meta.sequence_min.min(row.sequence);
        meta.sequence_max = meta.sequence_max.max(row.sequence);
        if row.subject.is_some() {
            meta.time_min = meta.time_min.min(row.time);
            meta.time_max = meta.time_max.max(row.time);
        }
        let full = self.group.rows >= self.shape.row_group_rows
            || self.group.bytes >= self.shape.row_group_bytes;
        if full { self.flush() } else { Ok(()) }
    }

    /// Makes the file durable. Only what this answers is a segment.
    pub(crate) fn finish(mut self) -> io::Result<SegmentMeta> {
        self.flush()?;
        let Some(mut file) = self.file.take() else {
            return Err(misuse("finished twice"));
        };
        let written = Self::seal(&mut file, &self.checksums).and_then(|()| {
            let mut sink = file.into_inner().map_err(io_error)?;
            sink.flush()?;
            sink.file.sync()?;
            Ok((sink.bytes, sink.checksum))
        });
        let directory_synced = written.and_then(|written| {
            if let Some(parent) = parent_of(&self.path) {
                self.disk.sync_directory(parent)?;
            }
            Ok(written)
        });
        let (bytes, checksum) = directory_synced.inspect_err(|_| self.discard())?;
        self.meta.bytes = bytes;
        self.meta.checksum = checksum;
        self.meta.values = used(&self.values, &self.value_is_used);
        self.meta.attributes = used(&self.attributes, &self.attribute_is_used);
        Ok(self.meta.clone())
    }

    /// The checksums of all pages, and where they are.
    fn seal(file: &mut SerializedFileWriter<Sink>, checksums: &[u32]) -> io::Result<()> {
        // What is before them must have gone through the sink, which computes its checksum.
        file.flush()?;
        let offset = file.inner().bytes;
        let block = footer::encode_checksums(file.inner().checksum, checksums);
        file.write_all(&block)?;
        file.append_key_value_metadata(KeyValue::new(
            schema::CHECKSUMS_KEY.to_owned(),
            offset.to_string(),
        ));
        Ok(())
    }

    /// Writes the rows at hand as a row group.
    fn flush(&mut self) -> io::Result<()> {
        if self.group.rows == 0 {
            return Ok(());
        }
        let Some(file) = self.file.as_mut() else {
            return Err(misuse("already finished"));
        };
        let written = self.group.write(file, self.shape, &mut self.checksums);
        self.group.clear();
        written.map_err(io_error)
    }

    fn check_order(&mut self, row: &SegmentRow<'_>) -> io::Result<()> {
        let time = if row.subject.is_some() {
            row.time
        } else {
            i64::MIN
        };
        let place = (row.subject, time, row.sequence);
        match &mut self.last {
            Some(last) if (last.subject.as_deref(), last.time, last.sequence) >= place => {
                return Err(misuse("rows out of order"));
            }
            Some(last) if last.subject.as_deref() == row.subject => {
                (last.time, last.sequence) = (time, row.sequence);
            }
            last => {
                let subject = row.subject.map(Into::into);
                *last = Some(Place {
                    subject,
                    time,
                    sequence: row.sequence,
                });
            }
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.file = None;
        // Whatever is left of it is in no manifest.
        let _ = self.disk.remove(&self.path);
    }
}

impl Drop for SegmentWriter<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.discard();
        }
    }
}

/// Where a row belongs.
struct Place {
    subject: Option<Box<str>>,
    time: i64,
    sequence: u64,
}

/// Of names, those that any row has.
pub(super) fn used(names: &[FieldName], is_used: &[bool]) -> Vec<FieldName> {
    let pairs = names.iter().zip(is_used);
    pairs
        .filter(|(_, used)| **used)
        .map(|(name, _)| name.clone())
        .collect()
}

pub(super) fn empty_meta(
    number: u64,
    organization: OrganizationId,
    partition: Partition,
) -> SegmentMeta {
    SegmentMeta {
        number,
        organization,
        partition,
        rows: 0,
        voids: 0,
        superseded: 0,
        time_min: i64::MAX,
        time_max: i64::MIN,
        sequence_min: u64::MAX,
        sequence_max: 0,
        bytes: 0,
        checksum: 0,
        values: Vec::new(),
        attributes: Vec::new(),
    }
}

/// The file that is written, with its checksum so far.
pub(super) struct Sink {
    file: Box<dyn DiskFile>,
    pending: Vec<u8>,
    checksum: u32,
    bytes: u64,
    /// After an error any part may have been written, so nothing more is.
    failed: bool,
}

const PENDING_BYTES: usize = 1 << 20;

impl Sink {
    fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            pending: Vec::new(),
            checksum: 0,
            bytes: 0,
            failed: false,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() >= PENDING_BYTES {
            self.flush()?;
        }
        self.pending.extend_from_slice(bytes);
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.bytes += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        self.failed = true;
        self.file.append(&self.pending)?;
        self.failed = false;
        self.pending.clear();
        Ok(())
    }
}

pub(super) fn misuse(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Errors of the disk come through the library boxed; their kind matters to whoever decides what to do.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
