//! A query with its names looked up, and the snapshot it reads.

use super::groups::Groups;
use super::{Aggregation, Function, GroupKey, Query, QueryError};
use crate::state::Organization;
use crate::table::{Cells, Chunk, Rows, Table};
use crate::texts::{NO_TEXT, TextNumber, Texts};
use meterd_model::FieldName;

pub(super) struct Plan {
    from: i64,
    to: i64,
    /// Those that may have measurements of the range.
    pub(super) chunks: Vec<Chunk>,
    subjects: Option<Vec<TextNumber>>,
    attributes: Vec<(Source, Vec<TextNumber>)>,
    group_by: Vec<Source>,
    /// Of the aggregations.
    pub(super) sources: Vec<Source>,
}

/// Where a name's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The measurement itself.
    Row,
    Subject,
    Value(usize),
    Attribute(usize),
    /// A name that is both: the value where there is one, else the attribute.
    ValueOrAttribute(usize, usize),
    /// No measurement of the meter ever carried it.
    Nowhere,
}

/// A selected row: its place in the chunk and its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected {
    pub(super) place: usize,
    pub(super) group: usize,
}

impl Plan {
    /// `None` if the meter has no measurements.
    pub(super) fn new(organization: &Organization, query: &Query) -> Option<Self> {
        let table = organization.table(query.meter)?;
        let (from, to) = (query.from.micros(), query.to.micros());
        let chunks = table
            .chunks()
            .iter()
            .filter(|chunk| chunk.rows.time_min < to && chunk.rows.time_max >= from)
            .filter(|chunk| chunk.current_count() > 0)
            .cloned()
            .collect();
        let texts = &organization.texts;
        let filter = &query.filter;
        let subjects = filter
            .subjects
            .as_ref()
            .map(|subjects| numbers(texts, subjects.iter().map(meterd_model::Subject::as_str)));
        let attributes = filter.attributes.iter().map(|(name, wanted)| {
            let wanted = numbers(texts, wanted.iter().map(String::as_str));
            (attribute(table, name), wanted)
        });
        let group_by = query.group_by.iter().map(|key| match key {
            GroupKey::Subject => Source::Subject,
            GroupKey::Attribute(name) => attribute(table, name),
        });
        let sources = query
            .aggregations
            .iter()
            .map(|aggregation| source(table, aggregation));
        Some(Self {
            from,
            to,
            chunks,
            subjects,
            attributes: attributes.collect(),
            group_by: group_by.collect(),
            sources: sources.collect(),
        })
    }

    /// Finds the rows of a chunk that match, and their groups.
    pub(super) fn select(
        &self,
        chunk: &Chunk,
        groups: &mut Groups,
        selection: &mut Vec<Selected>,
    ) -> Result<(), QueryError> {
        selection.clear();
        let rows = &*chunk.rows;
        let filters: Vec<_> = (self.attributes.iter())
            .map(|(source, wanted)| (texts_of(rows, *source), wanted))
            .collect();
        let keys: Vec<_> = self
            .group_by
            .iter()
            .map(|source| texts_of(rows, *source))
            .collect();
        for place in chunk.current_places() {
            let (Some(time), Some(subject)) = (rows.times.get(place), rows.subjects.get(place))
            else {
                break;
            };
            let matches = (self.from..self.to).contains(time)
                && self
                    .subjects
                    .as_ref()
                    .is_none_or(|wanted| wanted.binary_search(subject).is_ok())
                && filters.iter().all(|(cells, wanted)| {
                    let cell = cells.get(place, *subject);
                    cell != NO_TEXT && wanted.binary_search(&cell).is_ok()
                });
            if matches {
                let key = keys.iter().map(|cells| cells.get(place, *subject));
                let group = groups.number(*time, key)?;
                selection.push(Selected { place, group });
            }
        }
        Ok(())
    }
}

/// The cells of a source that are texts.
enum TextCells<'a> {
    Subject,
    Attribute(Cells<'a, TextNumber>),
    Nowhere,
}

fn texts_of(rows: &Rows, source: Source) -> TextCells<'_> {
    match source {
        Source::Subject => TextCells::Subject,
        Source::Attribute(column) => TextCells::Attribute(rows.attributes(column)),
        Source::Row | Source::Value(_) | Source::ValueOrAttribute(..) | Source::Nowhere => {
            TextCells::Nowhere
        }
    }
}

impl TextCells<'_> {
    fn get(&self, place: usize, subject: TextNumber) -> TextNumber {
        match self {
            Self::Subject => subject,
            Self::Attribute(cells) => cells.get(place).unwrap_or(NO_TEXT),
            Self::Nowhere => NO_TEXT,
        }
    }
}

/// Sorted; texts that nobody ever sent match nothing.
fn numbers<'a>(texts: &Texts, wanted: impl Iterator<Item = &'a str>) -> Vec<TextNumber> {
    let mut numbers: Vec<_> = wanted.filter_map(|text| texts.find(text)).collect();
    numbers.sort_unstable();
    numbers
}

fn source(table: &Table, aggregation: &Aggregation) -> Source {
    match (aggregation.function, &aggregation.field) {
        (Function::Unique, None) => Source::Subject,
        (_, None) => Source::Row,
        (Function::Count | Function::Unique, Some(name)) => {
            match (value(table, name), attribute(table, name)) {
                (Source::Value(value), Source::Attribute(attribute)) => {
                    Source::ValueOrAttribute(value, attribute)
                }
                (Source::Nowhere, found) | (found, _) => found,
            }
        }
        (_, Some(name)) => value(table, name),
    }
}

fn value(table: &Table, name: &FieldName) -> Source {
    position(table.value_names(), name).map_or(Source::Nowhere, Source::Value)
}

fn attribute(table: &Table, name: &FieldName) -> Source {
    position(table.attribute_names(), name).map_or(Source::Nowhere, Source::Attribute)
}

fn position(names: &[FieldName], name: &FieldName) -> Option<usize> {
    names.iter().position(|known| known == name)
}
