//! A query with its names looked up, and the snapshot it reads.

use super::groups::Groups;
use super::numbers::Numbers;
use super::view::View;
use super::{Aggregation, Filter, Function, GroupKey, Query, QueryError};
use crate::memory::Memory;
use crate::segment::read::{Projection, Segment, TextColumn};
use crate::state::Organization;
use crate::table::{Cells, Chunk};
use crate::texts::{NO_TEXT, TextList, TextNumber, Texts};
use meterd_model::{FieldName, RESET};
use roaring::RoaringTreemap;
use std::ops::Range;
use std::sync::Arc;

/// Everything that may have measurements of the range, as it was under one lock.
pub(super) struct Plan {
    pub(super) memories: Vec<MemorySource>,
    pub(super) segments: Vec<SegmentSource>,
}

/// The chunks of a meter in one memory.
pub(super) struct MemorySource {
    pub(super) chunks: Vec<Chunk>,
    pub(super) texts: TextList,
    pub(super) filter: TextFilter,
    pub(super) layout: Layout,
    pub(super) retired: Vec<Arc<RoaringTreemap>>,
}

pub(super) struct SegmentSource {
    pub(super) segment: Arc<Segment>,
    pub(super) projection: Projection,
    pub(super) layout: Layout,
    pub(super) retired: Vec<Arc<RoaringTreemap>>,
    /// Whether all its times are in the range.
    is_covered: bool,
}

/// Where a source has what the query names.
pub(super) struct Layout {
    filters: Vec<Field>,
    group_by: Vec<Field>,
    /// Of the aggregations.
    pub(super) fields: Vec<Field>,
}

/// Where a name's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The measurement itself.
    Row,
    Subject,
    Value(usize),
    Attribute(usize),
    /// A name that is both: the value where there is one, else the attribute.
    ValueOrAttribute(usize, usize),
    /// The readings of a register, and the attribute that says which begin a new count.
    Register {
        value: usize,
        reset: Option<usize>,
    },
    /// No measurement of the source carries it.
    Nowhere,
}

/// The texts that match, as numbers, sorted.
#[derive(Clone)]
pub(crate) struct TextFilter {
    subjects: Option<Vec<TextNumber>>,
    attributes: Vec<Vec<TextNumber>>,
}

/// A filter over the columns of some rows.
pub(crate) struct Matcher<'a> {
    columns: Vec<(Cells<'a, TextNumber>, &'a [TextNumber])>,
}

impl Matcher<'_> {
    pub(crate) fn matches(&self, place: usize) -> bool {
        let mut columns = self.columns.iter();
        columns.all(|(cells, wanted)| is_wanted(cells.get(place), wanted))
    }
}

fn is_wanted(cell: Option<TextNumber>, wanted: &[TextNumber]) -> bool {
    cell.is_some_and(|cell| wanted.binary_search(&cell).is_ok())
}

/// Selected rows of one group: their places in the view, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    pub(super) places: Range<usize>,
    pub(super) group: usize,
}

/// A column of texts, walked through from one run of equal cells to the next: sorted as rows are, these are long.
struct Walk<'a, T> {
    cells: Cells<'a, TextNumber>,
    /// What was made of the cell of this run, and where it ends.
    made: T,
    end: usize,
}

impl<'a, T: Default> Walk<'a, T> {
    fn new(cells: Cells<'a, TextNumber>) -> Self {
        Self {
            cells,
            made: T::default(),
            end: 0,
        }
    }

    /// Goes to a place that is not before the last one.
    fn go_to(&mut self, place: usize, make: impl FnOnce(Option<TextNumber>) -> T) {
        if place >= self.end {
            self.made = make(self.cells.get(place));
            self.end = self.cells.run_end(place);
        }
    }
}

impl Plan {
    pub(super) fn new(organization: &Organization, query: &Query) -> Self {
        let (from, to) = (query.from.micros(), query.to.micros());
        let memories = organization.memories();
        let segments = organization.sealed.segments(query.meter).iter();
        Self {
            memories: memories
                .filter_map(|memory| MemorySource::new(organization, memory, query))
                .collect(),
            segments: segments
                .filter(|segment| {
                    let meta = segment.meta();
                    meta.time_min < to && meta.time_max >= from && meta.rows > meta.superseded
                })
                .map(|segment| SegmentSource::new(organization, segment, query))
                .collect(),
        }
    }
}

impl MemorySource {
    fn new(organization: &Organization, memory: &Memory, query: &Query) -> Option<Self> {
        let table = memory.table(query.meter)?;
        let (from, to) = (query.from.micros(), query.to.micros());
        let chunks: Vec<Chunk> = (table.chunks().iter())
            .filter(|chunk| chunk.rows.time_min < to && chunk.rows.time_max >= from)
            .filter(|chunk| chunk.current_count() > 0)
            .cloned()
            .collect();
        let is_recent = std::ptr::eq(memory, &raw const organization.recent);
        let value = |name: &FieldName| position(table.value_names(), name);
        let attribute = |name: &FieldName| position(table.attribute_names(), name);
        (!chunks.is_empty()).then(|| Self {
            chunks,
            texts: memory.texts.list().clone(),
            filter: TextFilter::new(&query.filter, |text| memory.texts.find(text)),
            layout: Layout::new(query, value, attribute),
            // What comes marks its own rows by itself.
            retired: if is_recent {
                Vec::new()
            } else {
                organization.retired_while_sealing(query.meter)
            },
        })
    }
}

impl SegmentSource {
    fn new(organization: &Organization, segment: &Arc<Segment>, query: &Query) -> Self {
        let meta = segment.meta();
        let retired = organization.retired(meta.partition);
        let mut projection = Projection::default();
        let has = |names: &[FieldName], name: &FieldName| names.binary_search(name).is_ok();
        let mut value = |name: &FieldName| {
            has(&meta.values, name).then(|| column(&mut projection.values, name))
        };
        let mut attribute = |name: &FieldName| {
            has(&meta.attributes, name).then(|| column(&mut projection.attributes, name))
        };
        let layout = Layout::new(query, &mut value, &mut attribute);
        let picks = (query.aggregations.iter()).any(|aggregation| {
            matches!(
                aggregation.function,
                Function::Latest | Function::Earliest | Function::Consumption
            )
        });
        let is_covered = query.from.micros() <= meta.time_min && meta.time_max < query.to.micros();
        projection.subjects = query.filter.subjects.is_some() || layout.keeps(TextColumn::Subject);
        projection.times = picks || !is_covered || query.window.is_some();
        projection.sequences = picks || !retired.is_empty();
        Self {
            segment: Arc::clone(segment),
            projection,
            layout,
            retired,
            is_covered,
        }
    }

    /// Whether what counts of it is what it says itself, and all in the range.
    pub(super) fn is_whole(&self) -> bool {
        let retires_none = |rows: &Arc<_>| self.segment.retired_between(rows) == 0;
        self.is_covered && self.retired.iter().all(retires_none)
    }
}

impl Layout {
    fn new(
        query: &Query,
        mut value: impl FnMut(&FieldName) -> Option<usize>,
        mut attribute: impl FnMut(&FieldName) -> Option<usize>,
    ) -> Self {
        let mut text = |name: &FieldName| attribute(name).map_or(Field::Nowhere, Field::Attribute);
        let filters = query.filter.attributes.iter();
        let filters = filters.map(|(name, _)| text(name)).collect();
        let group_by = (query.group_by.iter()).map(|key| match key {
            GroupKey::Subject => Field::Subject,
            GroupKey::Attribute(name) => text(name),
        });
        let group_by = group_by.collect();
        let fields = query.aggregations.iter();
        Self {
            filters,
            group_by,
            fields: fields
                .map(|aggregation| field(aggregation, &mut value, &mut attribute))
                .collect(),
        }
    }

    fn names(&self, wanted: Field) -> bool {
        self.group_by.contains(&wanted) || self.fields.contains(&wanted)
    }

    /// Whether texts of a column come out of a scan; else they are only compared with those of the filter.
    pub(super) fn keeps(&self, column: TextColumn) -> bool {
        match column {
            TextColumn::Subject => {
                let is_of_register = |field: &Field| matches!(field, Field::Register { .. });
                self.names(Field::Subject) || self.fields.iter().any(is_of_register)
            }
            TextColumn::Attribute(column) => {
                let is_taken = |field: &Field| match field {
                    Field::ValueOrAttribute(_, at) => *at == column,
                    Field::Register { reset, .. } => *reset == Some(column),
                    _ => false,
                };
                self.names(Field::Attribute(column)) || self.fields.iter().any(is_taken)
            }
        }
    }

    /// Finds the rows among `places`, which ascend, that match, and their groups.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one scan, each borrowed on its own"
    )]
    pub(super) fn select(
        &self,
        query: &Query,
        view: &View<'_>,
        places: impl Iterator<Item = usize>,
        filter: &TextFilter,
        retired: &[Arc<RoaringTreemap>],
        numbers: &mut Numbers<'_>,
        groups: &mut Groups,
        selection: &mut Vec<Selected>,
    ) -> Result<(), QueryError> {
        selection.clear();
        let (from, to) = (query.from.micros(), query.to.micros());
        let filters = self.filters.iter().map(|field| texts_of(view, *field));
        let filter = filter.over(view.subjects, filters);
        let mut filters: Vec<(Walk<'_, bool>, _)> = (filter.columns.into_iter())
            .map(|(cells, wanted)| (Walk::new(cells), wanted))
            .collect();
        let keys = (self.group_by.iter()).map(|field| Walk::new(texts_of(view, *field)));
        let mut keys: Vec<Walk<'_, TextNumber>> = keys.collect();
        let all_in_range = view.times.is_empty();
        let counted = places.filter(|place| !is_retired(retired, view.sequences, *place));
        for stretch in stretches(counted) {
            let mut place = stretch.start;
            while place < stretch.end {
                let mut end = stretch.end;
                let mut matches = true;
                for (filter, wanted) in &mut filters {
                    filter.go_to(place, |cell| is_wanted(cell, wanted));
                    matches &= filter.made;
                    end = end.min(filter.end);
                }
                let time = match view.times.get(place) {
                    Some(time) => *time,
                    None if all_in_range => from,
                    None => return Ok(()),
                };
                if !matches || time < from || time >= to {
                    place = if matches { place + 1 } else { end };
                    continue;
                }
                for key in &mut keys {
                    key.go_to(place, |cell| {
                        cell.map_or(NO_TEXT, |number| numbers.number(number))
                    });
                    end = end.min(key.end);
                }
                let (group, window_end) = groups.number(time, keys.iter().map(|key| key.made))?;
                if !all_in_range {
                    let later = view.times.iter().take(end).skip(place + 1);
                    let is_near = |next: &&i64| time <= **next && **next < window_end;
                    end = place + 1 + later.take_while(is_near).count();
                }
                let places = place..end;
                place = end;
                selection.push(Selected { places, group });
            }
        }
        Ok(())
    }
}

/// Places that ascend as ranges without gaps.
fn stretches(places: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    let mut places = places.peekable();
    std::iter::from_fn(move || {
        let start = places.next()?;
        let mut end = start + 1;
        while places.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(start..end)
    })
}

pub(crate) fn is_retired(retired: &[Arc<RoaringTreemap>], sequences: &[u64], place: usize) -> bool {
    !retired.is_empty()
        && (sequences.get(place))
            .is_some_and(|sequence| retired.iter().any(|rows| rows.contains(*sequence)))
}

impl TextFilter {
    pub(crate) fn new(filter: &Filter, mut find: impl FnMut(&str) -> Option<TextNumber>) -> Self {
        // Texts that the source does not have match nothing.
        let mut numbers = |wanted: &mut dyn Iterator<Item = &str>| {
            let mut numbers: Vec<_> = wanted.filter_map(&mut find).collect();
            numbers.sort_unstable();
            numbers
        };
        let subjects = filter
            .subjects
            .as_ref()
            .map(|subjects| numbers(&mut subjects.iter().map(meterd_model::Subject::as_str)));
        let attributes = (filter.attributes.iter())
            .map(|(_, wanted)| numbers(&mut wanted.iter().map(String::as_str)));
        Self {
            subjects,
            attributes: attributes.collect(),
        }
    }

    /// For sources that use the query's numbers.
    pub(crate) fn of_query(filter: &Filter, texts: &mut Texts) -> Self {
        Self::new(filter, |text| Some(texts.number(text)))
    }

    /// Whether no text at all can match.
    pub(crate) fn is_empty(&self) -> bool {
        self.subjects.as_ref().is_some_and(Vec::is_empty)
            || self.attributes.iter().any(Vec::is_empty)
    }

    /// `attributes`: a column for each that the filter names, in its order.
    pub(crate) fn over<'a>(
        &'a self,
        subjects: Cells<'a, TextNumber>,
        attributes: impl Iterator<Item = Cells<'a, TextNumber>>,
    ) -> Matcher<'a> {
        let subjects = self.subjects.iter().map(|wanted| (subjects, &**wanted));
        let attributes = attributes.zip(self.attributes.iter().map(Vec::as_slice));
        Matcher {
            columns: subjects.chain(attributes).collect(),
        }
    }
}

/// The cells of a field that are texts; none for one that is nowhere.
fn texts_of<'a>(view: &View<'a>, field: Field) -> Cells<'a, TextNumber> {
    match field {
        Field::Subject => view.subjects,
        Field::Attribute(column) => view.attributes(column),
        Field::Row
        | Field::Value(_)
        | Field::ValueOrAttribute(..)
        | Field::Register { .. }
        | Field::Nowhere => Cells::new(&[], NO_TEXT),
    }
}

fn field(
    aggregation: &Aggregation,
    mut value: impl FnMut(&FieldName) -> Option<usize>,
    mut attribute: impl FnMut(&FieldName) -> Option<usize>,
) -> Field {
    match (aggregation.function, &aggregation.field) {
        (Function::Unique, None) => Field::Subject,
        (_, None) => Field::Row,
        (Function::Count | Function::Unique, Some(name)) => match (value(name), attribute(name)) {
            (Some(value), Some(attribute)) => Field::ValueOrAttribute(value, attribute),
            (Some(value), None) => Field::Value(value),
            (None, Some(attribute)) => Field::Attribute(attribute),
            (None, None) => Field::Nowhere,
        },
        (Function::Consumption, Some(name)) => {
            let reset = FieldName::new(RESET.0).ok();
            let reset = reset.and_then(|reset| attribute(&reset));
            value(name).map_or(Field::Nowhere, |value| Field::Register { value, reset })
        }
        (_, Some(name)) => value(name).map_or(Field::Nowhere, Field::Value),
    }
}

fn position(names: &[FieldName], name: &FieldName) -> Option<usize> {
    names.iter().position(|known| known == name)
}

/// The place of a name in a projection, which gets it if it has not.
pub(crate) fn column(names: &mut Vec<FieldName>, name: &FieldName) -> usize {
    position(names, name).unwrap_or_else(|| {
        names.push(name.clone());
        names.len() - 1
    })
}
