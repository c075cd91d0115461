//! Making one segment of several of the same partition.

use super::cursor::Cursor;
use super::read::Segment;
use super::schema::SegmentPath;
use super::write::{SegmentWriter, Shape};
use super::{SegmentError, SegmentMeta};
use crate::disk::Directories;
use meterd_model::FieldName;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Rows that are written between two questions of whether to go on.
const STEP_ROWS: u64 = 4_096;

/// What a merge asks while it is at work.
pub(crate) struct Ask<'a> {
    /// Whether the row of this sequence does not count any more.
    pub(crate) is_retired: &'a dyn Fn(u64) -> bool,
    /// An error ends the merge.
    pub(crate) go_on: &'a dyn Fn() -> io::Result<()>,
}

/// Writes the rows of all `inputs` as one segment of their partition. Rows whose sequence is retired do not count in
/// it. Keeps a page and the dictionary of each input's columns and one row group in memory.
pub(crate) fn merge(
    directories: &Directories<'_>,
    number: u64,
    inputs: &[Arc<Segment>],
    ask: &Ask<'_>,
) -> Result<SegmentMeta, SegmentError> {
    merge_to_shape(directories, number, inputs, ask, Shape::default())
}

pub(super) fn merge_to_shape(
    directories: &Directories<'_>,
    number: u64,
    inputs: &[Arc<Segment>],
    ask: &Ask<'_>,
    shape: Shape,
) -> Result<SegmentMeta, SegmentError> {
    let Some(first) = inputs.first().map(|input| input.meta()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let (organization, partition) = (first.organization, first.partition);
    for input in inputs {
        let meta = input.meta();
        if (meta.organization, meta.partition) != (organization, partition) {
            return Err(SegmentError::damaged(
                meta.number,
                "it is of another partition",
            ));
        }
        input.check_bytes(ask.go_on)?;
    }
    let values = union(inputs.iter().map(|input| &input.meta().values));
    let attributes = union(inputs.iter().map(|input| &input.meta().attributes));
    let path = SegmentPath {
        organization,
        partition,
        number,
    };
    let mut writer = SegmentWriter::with_shape(directories, path, &values, &attributes, shape)?;
    let mut sources = Vec::with_capacity(inputs.len());
    for input in inputs {
        let source = Source::open(input, &values, &attributes)?;
        sources.extend(source);
    }
    for row in 0_u64.. {
        if row.is_multiple_of(STEP_ROWS) {
            (ask.go_on)()?;
        }
        let Some(next) = least(&sources) else {
            break;
        };
        let Some(source) = sources.get_mut(next) else {
            break;
        };
        source.write_row(&mut writer, ask.is_retired)?;
        if !source.cursor.advance()? {
            sources.swap_remove(next);
        }
    }
    Ok(writer.finish()?)
}

/// An input that has rows left, and where its columns go.
struct Source<'a> {
    cursor: Cursor<'a>,
    values: Vec<Option<usize>>,
    attributes: Vec<Option<usize>>,
    row_values: Vec<(usize, i128)>,
}

impl<'a> Source<'a> {
    /// None if it has no rows.
    fn open(
        input: &'a Segment,
        values: &[FieldName],
        attributes: &[FieldName],
    ) -> Result<Option<Self>, SegmentError> {
        let places = |of: &[FieldName], to: &[FieldName]| {
            of.iter().map(|name| to.binary_search(name).ok()).collect()
        };
        let footer = input.footer()?;
        let mut source = Self {
            cursor: Cursor::open(input)?,
            values: places(&footer.values, values),
            attributes: places(&footer.attributes, attributes),
            row_values: Vec::new(),
        };
        Ok(source.cursor.advance()?.then_some(source))
    }

    fn write_row(
        &mut self,
        writer: &mut SegmentWriter<'_>,
        is_retired: &dyn Fn(u64) -> bool,
    ) -> io::Result<()> {
        let to = |places: &[Option<usize>], column: usize| places.get(column).copied().flatten();
        self.row_values.clear();
        let values = self.cursor.values();
        self.row_values
            .extend(values.filter_map(|(column, units)| Some((to(&self.values, column)?, units))));
        let attributes = self.cursor.attributes();
        let attributes: Vec<_> = attributes
            .filter_map(|(column, text)| Some((to(&self.attributes, column)?, text)))
            .collect();
        let mut row = self.cursor.row(&self.row_values, &attributes);
        row.current &= !is_retired(row.sequence);
        writer.push(&row)
    }
}

/// The source whose row comes first. There are few, so that looking at each is as good as a heap.
fn least(sources: &[Source<'_>]) -> Option<usize> {
    let sources = sources.iter().enumerate();
    sources
        .min_by(|(_, a), (_, b)| a.cursor.key().cmp(&b.cursor.key()))
        .map(|(place, _)| place)
}

fn union<'a>(names: impl Iterator<Item = &'a Vec<FieldName>>) -> Vec<FieldName> {
    let all: BTreeSet<_> = names.flatten().cloned().collect();
    all.into_iter().collect()
}
