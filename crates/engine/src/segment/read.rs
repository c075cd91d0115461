//! Reading a segment: which of its pages a question needs, and their columns, page by page.

use super::column::{Column, Columns, Dictionary, Place, Scratch, read_links};
use super::decode::damage;
use super::footer::{Footer, PageRows};
use super::schema::{self, SegmentPath};
use super::{SegmentError, SegmentMeta};
use crate::disk::{Disk, DiskReader};
use crate::partition::Link;
use crate::texts::NO_TEXT;
use meterd_model::FieldName;
use parquet::errors::Result as PageResult;
use roaring::RoaringTreemap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// A segment open for reading, by many threads at once. Its file stays readable while this is held.
#[derive(Debug)]
pub(crate) struct Segment {
    meta: SegmentMeta,
    reader: Arc<dyn DiskReader>,
    /// Kept once it was read; its size is told there.
    footer: OnceLock<Footer>,
    /// Rows retired between its first sequence and its last that are other segments', as far as is known.
    pub(crate) retired_elsewhere: AtomicU64,
}

/// The columns to read. Whether a row counts is always told, if not all do.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each column, by name"
)]
pub(crate) struct Projection {
    pub(crate) subjects: bool,
    pub(crate) times: bool,
    pub(crate) ends: bool,
    pub(crate) ids: bool,
    pub(crate) sequences: bool,
    pub(crate) received: bool,
    pub(crate) replaces: bool,
    pub(crate) values: Vec<FieldName>,
    pub(crate) attributes: Vec<FieldName>,
}

/// Which rows a question is about. Only pages without any of them are left out, so other rows come out as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    /// Voids, which have neither time nor subject, are in it only from `i64::MIN` and for all subjects.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Sorted.
    pub(crate) subjects: Option<&'a [&'a str]>,
    /// Both included.
    pub(crate) sequence: Option<(u64, u64)>,
}

/// Whose text is to be numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextColumn {
    Subject,
    /// By its place in the projection.
    Attribute(usize),
}

/// Gives a text a number less than [`NO_ANSWER`](super::column::NO_ANSWER), or [`NO_TEXT`](crate::texts::NO_TEXT) if it is
/// of no interest.
pub(crate) type TextNumbers<'a> = dyn FnMut(TextColumn, &str) -> u32 + 'a;

/// Pages of one row group that can be read without the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: usize,
    group: usize,
    pages: Vec<usize>,
}

/// A batch of rows as columns; those that were not asked for are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentRows {
    pub(crate) len: usize,
    /// By the caller's numbers; [`NO_TEXT`] for a void.
    pub(crate) subjects: Vec<u32>,
    /// [`NO_TIME`] for a void.
    pub(crate) times: Vec<i64>,
    /// [`NO_TIME`] where there is none.
    pub(crate) ends: Vec<i64>,
    pub(crate) ids: Texts,
    pub(crate) sequences: Vec<u64>,
    pub(crate) received: Vec<i64>,
    /// None: all rows count by this file.
    pub(crate) current: Option<Vec<bool>>,
    pub(crate) replaces: Vec<Option<Link>>,
    /// In the order of the projection; [`NO_VALUE`] where there is none, empty for a name that the file does not have.
    pub(crate) values: Vec<Vec<i128>>,
    /// In the order of the projection, by the caller's numbers; [`NO_TEXT`] where there is none, empty for a name that
    /// the file does not have.
    pub(crate) attributes: Vec<Vec<u32>>,
}

/// Texts one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    pub(super) text: String,
    pub(super) ends: Vec<usize>,
}

impl Texts {
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        let start = match row.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(row)?)
    }

    /// The text's number.
    pub(super) fn push(&mut self, text: &str) -> u32 {
        self.text.push_str(text);
        self.ends.push(self.text.len());
        u32::try_from(self.ends.len() - 1).unwrap_or(NO_TEXT)
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

impl Range<'_> {
    /// Everything, voids included.
    pub(crate) const ALL: Self = Self {
        from: i64::MIN,
        to: i64::MAX,
        subjects: None,
        sequence: None,
    };

    fn meets(&self, page: &PageRows) -> bool {
        let (least, greatest) = page.sequences;
        if self
            .sequence
            .is_some_and(|(from, to)| greatest < from || to < least)
        {
            return false;
        }
        let voids = page.has_voids && self.from == i64::MIN && self.subjects.is_none();
        let in_time = page
            .times
            .is_some_and(|(first, last)| first < self.to && self.from <= last);
        voids || in_time && self.subjects.is_none_or(|subjects| has_any(page, subjects))
    }
}

fn has_any(page: &PageRows, subjects: &[&str]) -> bool {
    let Some((least, greatest)) = &page.subjects else {
        return false;
    };
    let place = subjects.partition_point(|subject| subject.as_bytes() < &**least);
    subjects
        .get(place)
        .is_some_and(|subject| subject.as_bytes() <= &**greatest)
}

impl Segment {
    /// Opens the file; its footer is read at the first use.
    pub(crate) fn open(
        disk: &dyn Disk,
        directory: &Path,
        meta: SegmentMeta,
    ) -> Result<Self, SegmentError> {
        let SegmentMeta {
            organization,
            partition,
            number,
            ..
        } = meta;
        let path = SegmentPath {
            organization,
            partition,
            number,
        };
        Self::of(disk.open_read(&directory.join(path.relative()))?, meta)
    }

    /// A segment whose file is open already, or as good as that.
    pub(crate) fn of(reader: Arc<dyn DiskReader>, meta: SegmentMeta) -> Result<Self, SegmentError> {
        if reader.length() != meta.bytes {
            return Err(SegmentError::damaged(
                meta.number,
                "its length is not the one it was written with",
            ));
        }
        Ok(Self {
            meta,
            reader,
            footer: OnceLock::new(),
            retired_elsewhere: AtomicU64::new(0),
        })
    }

    pub(crate) fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Rows retired between its first sequence and its last.
    pub(crate) fn retired_between(&self, retired: &RoaringTreemap) -> u64 {
        retired.range_cardinality(self.meta.sequence_min..=self.meta.sequence_max)
    }

    /// The whole file.
    pub(crate) fn file(&self) -> &Arc<dyn DiskReader> {
        &self.reader
    }

    /// What is to be read for a question, divided so that each part can be read by another thread; in order.
    pub(crate) fn parts(&self, range: &Range<'_>) -> Result<Vec<Part>, SegmentError> {
        let groups = self.footer()?.groups.iter().enumerate();
        let parts = groups.map(|(group, content)| {
            let pages = content.pages.iter().enumerate();
            let pages: Vec<_> = pages.filter(|(_, page)| range.meets(page)).collect();
            Part {
                rows: pages.iter().map(|(_, page)| page.rows).sum(),
                group,
                pages: pages.into_iter().map(|(place, _)| place).collect(),
            }
        });
        Ok(parts.filter(|part| part.rows > 0).collect())
    }

    /// Hands out the rows of a part, batch by batch, until `take` breaks off. `texts` numbers each text that
    /// occurs; within a part it is mostly asked once for each.
    pub(crate) fn scan(
        &self,
        part: &Part,
        projection: &Projection,
        texts: &mut TextNumbers<'_>,
        take: &mut dyn FnMut(&SegmentRows) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SegmentError> {
        let mut reader = PartReader::open(self, part, projection, self.meta.superseded > 0)?;
        let mut rows = SegmentRows::default();
        while reader.next(texts, &mut rows)? {
            if take(&rows).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// All fields that the file has columns for: `meta` has those that any row has.
    pub(super) fn footer(&self) -> Result<&Footer, SegmentError> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer);
        }
        // Two threads may both read it; one of the two is kept.
        let footer = Footer::read(&*self.reader, &self.meta)?;
        Ok(self.footer.get_or_init(|| footer))
    }

    pub(super) fn reader(&self) -> &dyn DiskReader {
        &*self.reader
    }
}

/// Reads a part from its first page to its last.
pub(super) struct PartReader<'a> {
    segment: &'a Segment,
    rows: &'a [PageRows],
    pages: std::vec::IntoIter<usize>,
    subjects: Option<Column<'a, Dictionary>>,
    times: Option<Column<'a, Vec<i64>>>,
    ends: Option<Column<'a, Vec<i64>>>,
    ids: Option<Column<'a, ()>>,
    sequences: Option<Column<'a, Vec<i64>>>,
    received: Option<Column<'a, Vec<i64>>>,
    current: Option<Column<'a, ()>>,
    replaces: Option<Column<'a, Vec<i64>>>,
    replaces_partitions: Option<Column<'a, Dictionary>>,
    values: Vec<Option<Column<'a, Vec<i128>>>>,
    attributes: Vec<Option<Column<'a, Dictionary>>>,
    scratch: Scratch,
}

impl<'a> PartReader<'a> {
    pub(super) fn open(
        segment: &'a Segment,
        part: &Part,
        projection: &Projection,
        current: bool,
    ) -> Result<Self, SegmentError> {
        let footer = segment.footer()?;
        let open = || {
            let group = footer
                .groups
                .get(part.group)
                .ok_or_else(|| damage("it has no such part"))?;
            let columns = Columns {
                reader: segment.reader(),
                footer,
                group: part.group,
            };
            let after = |first: usize, names: &[FieldName], name: &FieldName| {
                names.binary_search(name).ok().map(|place| first + place)
            };
            let first_attribute = schema::FIRST_VALUE + footer.values.len();
            let values = projection.values.iter();
            let values = values.map(|name| after(schema::FIRST_VALUE, &footer.values, name));
            let attributes = projection.attributes.iter();
            let attributes =
                attributes.map(|name| after(first_attribute, &footer.attributes, name));
            PageResult::Ok(Self {
                segment,
                rows: &group.pages,
                pages: part.pages.clone().into_iter(),
                subjects: columns.open(projection.subjects, schema::SUBJECT)?,
                times: columns.open(projection.times, schema::TIME)?,
                ends: columns.open(projection.ends, schema::END_TIME)?,
                ids: columns.open(projection.ids, schema::ID)?,
                sequences: columns.open(projection.sequences, schema::SEQUENCE)?,
                received: columns.open(projection.received, schema::RECEIVED)?,
                current: columns.open(current, schema::CURRENT)?,
                replaces: columns.open(projection.replaces, schema::REPLACES)?,
                replaces_partitions: columns
                    .open(projection.replaces, schema::REPLACES_PARTITION)?,
                values: values
                    .map(|column| column.map(|column| columns.column(column)).transpose())
                    .collect::<PageResult<_>>()?,
                attributes: attributes
                    .map(|column| column.map(|column| columns.column(column)).transpose())
                    .collect::<PageResult<_>>()?,
                scratch: Scratch::default(),
            })
        };
        open().map_err(|error| SegmentError::of_parquet(segment.meta.number, error))
    }

    /// Every text is asked for anew from now on.
    pub(super) fn forget_texts(&mut self) {
        let attributes = self.attributes.iter_mut().flatten();
        for column in self.subjects.iter_mut().chain(attributes) {
            column.forget_numbers();
        }
    }

    /// The rows of the next page, in place of what `rows` had; false after the last.
    pub(super) fn next(
        &mut self,
        texts: &mut TextNumbers<'_>,
        rows: &mut SegmentRows,
    ) -> Result<bool, SegmentError> {
        let number = self.segment.meta.number;
        match self.pages.next() {
            Some(page) => {
                let read = self.read(page, texts, rows);
                read.map_err(|error| SegmentError::of_parquet(number, error))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn read(
        &mut self,
        page: usize,
        texts: &mut TextNumbers<'_>,
        rows: &mut SegmentRows,
    ) -> PageResult<()> {
        let len = self
            .rows
            .get(page)
            .ok_or_else(|| damage("it has no such page"))?
            .rows;
        let place = Place { page, rows: len };
        rows.clear(self.values.len(), self.attributes.len());
        rows.len = len;
        let scratch = &mut self.scratch;
        if let Some(column) = &mut self.subjects {
            let mut number = |text: &str| texts(TextColumn::Subject, text);
            column.texts(place, scratch, &mut number, &mut rows.subjects)?;
        }
        if let Some(column) = &mut self.times {
            column.numbers(place, scratch, &mut rows.times)?;
        }
        if let Some(column) = &mut self.ends {
            column.numbers(place, scratch, &mut rows.ends)?;
        }
        if let Some(column) = &mut self.ids {
            column.all_texts(place, &mut rows.ids)?;
        }
        if let Some(column) = &mut self.sequences {
            let mut sequences = Vec::with_capacity(len);
            column.numbers(place, scratch, &mut sequences)?;
            rows.sequences
                .extend(sequences.into_iter().map(i64::cast_unsigned));
        }
        if let Some(column) = &mut self.received {
            column.numbers(place, scratch, &mut rows.received)?;
        }
        if let Some(column) = &mut self.current {
            column.flags(place, rows.current.get_or_insert_default())?;
        }
        if let (Some(sequences), Some(partitions)) =
            (&mut self.replaces, &mut self.replaces_partitions)
        {
            let own = self.segment.meta.partition;
            read_links(
                own,
                sequences,
                partitions,
                place,
                scratch,
                &mut rows.replaces,
            )?;
        }
        for (column, cells) in self.values.iter_mut().zip(&mut rows.values) {
            if let Some(column) = column {
                column.decimals(place, scratch, cells)?;
            }
        }
        let attributes = self.attributes.iter_mut().zip(&mut rows.attributes);
        for (at, (column, cells)) in attributes.enumerate() {
            if let Some(column) = column {
                let mut number = |text: &str| texts(TextColumn::Attribute(at), text);
                column.texts(place, scratch, &mut number, cells)?;
            }
        }
        Ok(())
    }
}

impl SegmentRows {
    fn clear(&mut self, values: usize, attributes: usize) {
        self.subjects.clear();
        self.times.clear();
        self.ends.clear();
        self.ids.clear();
        self.sequences.clear();
        self.received.clear();
        if let Some(current) = &mut self.current {
            current.clear();
        }
        self.replaces.clear();
        self.values.resize_with(values, Vec::new);
        self.values.iter_mut().for_each(Vec::clear);
        self.attributes.resize_with(attributes, Vec::new);
        self.attributes.iter_mut().for_each(Vec::clear);
    }
}
