//! One aggregation at work: a running result per group.

use super::plan::{Selected, Source};
use super::{Function, Number};
use crate::table::Rows;
use crate::texts::TextNumber;
use hashbrown::HashSet;
use meterd_model::{Decimal, DecimalSum};

pub(super) struct Accumulator {
    source: Source,
    results: Results,
}

enum Results {
    Sum(Vec<Total>),
    Mean(Vec<Total>),
    Min(Vec<Option<i128>>),
    Max(Vec<Option<i128>>),
    Count(Vec<u64>),
    Latest(Vec<Option<Pick>>),
    Earliest(Vec<Option<Pick>>),
    Unique {
        seen: HashSet<(usize, i128)>,
        counts: Vec<u64>,
    },
}

#[derive(Clone, Copy, Default)]
struct Total {
    sum: DecimalSum,
    count: u64,
}

/// Ordered by time and then by sequence, of which no two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    time: i64,
    sequence: u64,
    units: i128,
}

impl Accumulator {
    pub(super) fn new(function: Function, source: Source) -> Self {
        let results = match function {
            Function::Sum => Results::Sum(Vec::new()),
            Function::Mean => Results::Mean(Vec::new()),
            Function::Min => Results::Min(Vec::new()),
            Function::Max => Results::Max(Vec::new()),
            Function::Count => Results::Count(Vec::new()),
            Function::Latest => Results::Latest(Vec::new()),
            Function::Earliest => Results::Earliest(Vec::new()),
            Function::Unique => Results::Unique {
                seen: HashSet::new(),
                counts: Vec::new(),
            },
        };
        Self { source, results }
    }

    /// Takes the selected rows of one chunk; there are `groups` groups by now.
    pub(super) fn take(&mut self, rows: &Rows, selection: &[Selected], groups: usize) {
        let source = self.source;
        match &mut self.results {
            Results::Sum(totals) | Results::Mean(totals) => {
                add_up(totals, rows, source, selection, groups);
            }
            Results::Min(least) => {
                each_value(least, rows, source, selection, groups, |least, units, _| {
                    *least = Some(least.map_or(units, |known| known.min(units)));
                });
            }
            Results::Max(most) => {
                each_value(most, rows, source, selection, groups, |most, units, _| {
                    *most = (*most).max(Some(units));
                });
            }
            Results::Latest(picks) => {
                each_value(
                    picks,
                    rows,
                    source,
                    selection,
                    groups,
                    |pick, units, place| {
                        *pick = (*pick).max(pick_of(rows, place, units));
                    },
                );
            }
            Results::Earliest(picks) => {
                each_value(
                    picks,
                    rows,
                    source,
                    selection,
                    groups,
                    |pick, units, place| {
                        let new = pick_of(rows, place, units);
                        *pick = pick.map_or(new, |known| new.map(|new| known.min(new)));
                    },
                );
            }
            Results::Count(counts) => {
                each_cell(counts, rows, source, selection, groups, |count, _, _| {
                    *count += 1;
                });
            }
            Results::Unique { seen, counts } => {
                each_cell(
                    counts,
                    rows,
                    source,
                    selection,
                    groups,
                    |count, cell, group| {
                        if seen.insert((group, cell)) {
                            *count += 1;
                        }
                    },
                );
            }
        }
    }

    pub(super) fn unique_len(&self) -> usize {
        match &self.results {
            Results::Unique { seen, .. } => seen.len(),
            _ => 0,
        }
    }

    pub(super) fn value(&self, group: usize) -> Option<Number> {
        match &self.results {
            Results::Sum(totals) => {
                let total = totals.get(group)?;
                (total.count > 0).then_some(Number::Decimal(total.sum))
            }
            Results::Mean(totals) => {
                let total = totals.get(group)?;
                total.sum.mean(total.count).map(Number::Decimal)
            }
            Results::Min(units) | Results::Max(units) => decimal((*units.get(group)?)?),
            Results::Latest(picks) | Results::Earliest(picks) => {
                decimal((*picks.get(group)?)?.units)
            }
            Results::Count(counts) | Results::Unique { counts, .. } => {
                Some(Number::Count(counts.get(group).copied().unwrap_or(0)))
            }
        }
    }
}

fn decimal(units: i128) -> Option<Number> {
    Decimal::from_units(units).map(|value| Number::Decimal(value.into()))
}

fn pick_of(rows: &Rows, place: usize, units: i128) -> Option<Pick> {
    Some(Pick {
        time: *rows.times.get(place)?,
        sequence: *rows.sequences.get(place)?,
        units,
    })
}

/// Keeps the total of a run of rows of one group at hand instead of writing it back for each: rows next to each other
/// mostly belong to one group.
fn add_up(
    totals: &mut Vec<Total>,
    rows: &Rows,
    source: Source,
    selection: &[Selected],
    groups: usize,
) {
    totals.resize(groups, Total::default());
    let Source::Value(column) = source else {
        return;
    };
    let cells = rows.values(column);
    for run in selection.chunk_by(|a, b| a.group == b.group) {
        let Some(group) = run.first().map(|selected| selected.group) else {
            continue;
        };
        let mut total = Total::default();
        for units in run.iter().filter_map(|selected| cells.get(selected.place)) {
            total
                .sum
                .add(Decimal::from_units(units).unwrap_or_default());
            total.count += 1;
        }
        if let Some(known) = totals.get_mut(group) {
            known.sum.merge(total.sum);
            known.count += total.count;
        }
    }
}

/// Calls `step` with the group's result, the value and the row's place, for each row that carries the value.
fn each_value<T: Clone + Default>(
    results: &mut Vec<T>,
    rows: &Rows,
    source: Source,
    selection: &[Selected],
    groups: usize,
    mut step: impl FnMut(&mut T, i128, usize),
) {
    results.resize(groups, T::default());
    let Source::Value(column) = source else {
        return;
    };
    let cells = rows.values(column);
    for selected in selection {
        if let (Some(units), Some(result)) =
            (cells.get(selected.place), results.get_mut(selected.group))
        {
            step(result, units, selected.place);
        }
    }
}

/// Calls `step` with the group's result, the cell as a number and the group, for each row that has a cell.
fn each_cell(
    results: &mut Vec<u64>,
    rows: &Rows,
    source: Source,
    selection: &[Selected],
    groups: usize,
    mut step: impl FnMut(&mut u64, i128, usize),
) {
    results.resize(groups, 0);
    let mut each = |cell: &dyn Fn(usize) -> Option<i128>| {
        for selected in selection {
            if let (Some(cell), Some(result)) =
                (cell(selected.place), results.get_mut(selected.group))
            {
                step(result, cell, selected.group);
            }
        }
    };
    match source {
        Source::Row => each(&|_| Some(0)),
        Source::Subject => each(&|place| rows.subjects.get(place).map(|text| text_cell(*text))),
        Source::Value(column) => {
            let cells = rows.values(column);
            each(&|place| cells.get(place));
        }
        Source::Attribute(column) => {
            let cells = rows.attributes(column);
            each(&|place| cells.get(place).map(text_cell));
        }
        Source::ValueOrAttribute(value, attribute) => {
            let (values, attributes) = (rows.values(value), rows.attributes(attribute));
            each(&|place| {
                values
                    .get(place)
                    .or_else(|| attributes.get(place).map(text_cell))
            });
        }
        Source::Nowhere => {}
    }
}

/// A text as a cell that no decimal's units can equal: they stay below 10³⁸.
fn text_cell(text: TextNumber) -> i128 {
    i128::MAX - i128::from(text)
}
