//! One aggregation at work: a running result per group.

use super::consumption::Readings;
use super::numbers::Numbers;
use super::plan::{Field, Selected};
use super::view::View;
use super::{Function, Number};
use crate::table::NO_VALUE;
use crate::texts::TextNumber;
use crate::wide;
use hashbrown::HashSet;
use meterd_model::{Decimal, DecimalSum};

pub(super) struct Accumulator {
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
    Consumption(Readings),
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
    pub(super) fn new(function: Function) -> Self {
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
            Function::Consumption => Results::Consumption(Readings::default()),
        };
        Self { results }
    }

    /// Takes the selected rows, of which `field` says where the cells are; there are `groups` groups by now.
    pub(super) fn take(
        &mut self,
        rows: &View<'_>,
        field: Field,
        numbers: &mut Numbers<'_>,
        selection: &[Selected],
        groups: usize,
    ) {
        match &mut self.results {
            Results::Sum(totals) | Results::Mean(totals) => {
                add_up(totals, rows, field, selection, groups);
            }
            Results::Min(least) => {
                each_value(least, rows, field, selection, groups, |least, units, _| {
                    *least = Some(least.map_or(units, |known| known.min(units)));
                });
            }
            Results::Max(most) => {
                each_value(most, rows, field, selection, groups, |most, units, _| {
                    *most = (*most).max(Some(units));
                });
            }
            Results::Latest(picks) => {
                each_value(
                    picks,
                    rows,
                    field,
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
                    field,
                    selection,
                    groups,
                    |pick, units, place| {
                        let new = pick_of(rows, place, units);
                        *pick = pick.map_or(new, |known| new.map(|new| known.min(new)));
                    },
                );
            }
            Results::Count(counts) => {
                counts.resize(groups, 0);
                each_cell(rows, field, numbers, selection, |_, group| {
                    if let Some(count) = counts.get_mut(group) {
                        *count += 1;
                    }
                });
            }
            Results::Unique { seen, counts } => {
                counts.resize(groups, 0);
                each_cell(rows, field, numbers, selection, |cell, group| {
                    if seen.insert((group, cell))
                        && let Some(count) = counts.get_mut(group)
                    {
                        *count += 1;
                    }
                });
            }
            Results::Consumption(readings) => readings.take(rows, field, numbers, selection),
        }
    }

    /// Adds what another one of the same function found in other rows. Its group `n` is `groups[n]` here, of `count`;
    /// `text` gives the number here of a text's number there.
    pub(super) fn absorb(
        &mut self,
        other: &Self,
        groups: &[usize],
        count: usize,
        mut text: impl FnMut(TextNumber) -> TextNumber,
    ) {
        match (&mut self.results, &other.results) {
            (Results::Sum(mine), Results::Sum(theirs))
            | (Results::Mean(mine), Results::Mean(theirs)) => {
                merge(mine, theirs, groups, count, |mine, theirs| {
                    mine.sum.merge(theirs.sum);
                    mine.count += theirs.count;
                });
            }
            (Results::Min(mine), Results::Min(theirs)) => {
                merge(mine, theirs, groups, count, least);
            }
            (Results::Max(mine), Results::Max(theirs)) => {
                merge(mine, theirs, groups, count, |mine, theirs| {
                    *mine = (*mine).max(theirs);
                });
            }
            (Results::Latest(mine), Results::Latest(theirs)) => {
                merge(mine, theirs, groups, count, |mine, theirs| {
                    *mine = (*mine).max(theirs);
                });
            }
            (Results::Earliest(mine), Results::Earliest(theirs)) => {
                merge(mine, theirs, groups, count, least);
            }
            (Results::Count(mine), Results::Count(theirs)) => {
                merge(mine, theirs, groups, count, |mine, theirs| *mine += theirs);
            }
            (Results::Unique { seen, counts }, Results::Unique { seen: theirs, .. }) => {
                counts.resize(count, 0);
                for (group, cell) in theirs {
                    let Some(group) = groups.get(*group).copied() else {
                        continue;
                    };
                    let cell = text_of_cell(*cell).map_or(*cell, |number| text_cell(text(number)));
                    if seen.insert((group, cell))
                        && let Some(count) = counts.get_mut(group)
                    {
                        *count += 1;
                    }
                }
            }
            (Results::Consumption(mine), Results::Consumption(theirs)) => {
                mine.absorb(theirs, groups, text);
            }
            // All are made from one list of functions.
            _ => {}
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        match &self.results {
            Results::Sum(totals) | Results::Mean(totals) => bytes_of::<Total>(totals.capacity()),
            Results::Min(units) | Results::Max(units) => bytes_of::<Option<i128>>(units.capacity()),
            Results::Count(counts) => bytes_of::<u64>(counts.capacity()),
            Results::Latest(picks) | Results::Earliest(picks) => {
                bytes_of::<Option<Pick>>(picks.capacity())
            }
            Results::Consumption(readings) => readings.bytes(),
            Results::Unique { seen, counts } => {
                bytes_of::<(usize, i128)>(seen.capacity()) + bytes_of::<u64>(counts.capacity())
            }
        }
    }

    pub(super) fn unique_len(&self) -> usize {
        match &self.results {
            Results::Unique { seen, .. } => seen.len(),
            // Each is held until the end, as distinct values are.
            Results::Consumption(readings) => readings.len(),
            _ => 0,
        }
    }

    /// What differences are to be worked out of.
    pub(super) fn readings_mut(&mut self) -> Option<&mut Readings> {
        match &mut self.results {
            Results::Consumption(readings) => Some(readings),
            _ => None,
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
            Results::Consumption(readings) => readings.sum(group),
        }
    }
}

fn bytes_of<T>(count: usize) -> usize {
    count * size_of::<T>()
}

fn decimal(units: i128) -> Option<Number> {
    Decimal::from_units(units).map(|value| Number::Decimal(value.into()))
}

fn pick_of(rows: &View<'_>, place: usize, units: i128) -> Option<Pick> {
    Some(Pick {
        time: *rows.times.get(place)?,
        sequence: *rows.sequences.get(place)?,
        units,
    })
}

fn add_up(
    totals: &mut Vec<Total>,
    rows: &View<'_>,
    field: Field,
    selection: &[Selected],
    groups: usize,
) {
    totals.resize(groups, Total::default());
    let Field::Value(column) = field else {
        return;
    };
    let cells = rows.values(column);
    for Selected { places, group } in selection {
        if let Some(known) = totals.get_mut(*group) {
            let total = total_of(cells.slice(places.clone()));
            known.sum.merge(total.sum);
            known.count += total.count;
        }
    }
}

/// The total of the cells of a page or chunk that are there.
fn total_of(cells: &[i128]) -> Total {
    /// Of numbers so small, as many as a page has stay below what a decimal can be.
    const SMALL_BITS: u32 = 100;
    let (mut sum, mut bits) = (0_i128, 0);
    for units in cells {
        sum = sum.wrapping_add(*units);
        bits |= units ^ (units >> (i128::BITS - 1));
    }
    // An absent cell is no small number.
    let small_sum = Decimal::from_units(sum).filter(|_| bits >> SMALL_BITS == 0);
    let mut total = Total::default();
    if let Some(small_sum) = small_sum {
        total.sum.add(small_sum);
        total.count = wide(cells.len());
        return total;
    }
    for units in cells.iter().filter(|units| **units != NO_VALUE) {
        let value = Decimal::from_units(*units).unwrap_or_default();
        total.sum.add(value);
        total.count += 1;
    }
    total
}

/// Calls `step` with the group's result, the value and the row's place, for each row that carries the value.
fn each_value<T: Clone + Default>(
    results: &mut Vec<T>,
    rows: &View<'_>,
    field: Field,
    selection: &[Selected],
    groups: usize,
    mut step: impl FnMut(&mut T, i128, usize),
) {
    results.resize(groups, T::default());
    let Field::Value(column) = field else {
        return;
    };
    let cells = rows.values(column);
    for Selected { places, group } in selection {
        let Some(result) = results.get_mut(*group) else {
            continue;
        };
        for place in places.clone() {
            if let Some(units) = cells.get(place) {
                step(result, units, place);
            }
        }
    }
}

/// Calls `step` with the cell as a number and the group, for each row that has a cell.
fn each_cell(
    rows: &View<'_>,
    field: Field,
    numbers: &mut Numbers<'_>,
    selection: &[Selected],
    mut step: impl FnMut(i128, usize),
) {
    let mut each = |cell: &mut dyn FnMut(usize) -> Option<i128>| {
        for Selected { places, group } in selection {
            for cell in places.clone().filter_map(&mut *cell) {
                step(cell, *group);
            }
        }
    };
    match field {
        Field::Row => each(&mut |_| Some(0)),
        Field::Subject => {
            each(&mut |place| {
                rows.subjects
                    .get(place)
                    .map(|n| text_cell(numbers.number(n)))
            });
        }
        Field::Value(column) => {
            let cells = rows.values(column);
            each(&mut |place| cells.get(place));
        }
        Field::Attribute(column) => {
            let cells = rows.attributes(column);
            each(&mut |place| cells.get(place).map(|n| text_cell(numbers.number(n))));
        }
        Field::ValueOrAttribute(value, attribute) => {
            let (values, attributes) = (rows.values(value), rows.attributes(attribute));
            each(&mut |place| {
                let text = || attributes.get(place).map(|n| text_cell(numbers.number(n)));
                values.get(place).or_else(text)
            });
        }
        Field::Register { .. } | Field::Nowhere => {}
    }
}

/// Joins the results of groups that are the same.
fn merge<T: Copy + Default>(
    mine: &mut Vec<T>,
    theirs: &[T],
    groups: &[usize],
    count: usize,
    mut join: impl FnMut(&mut T, T),
) {
    mine.resize(count, T::default());
    for (theirs, group) in theirs.iter().zip(groups) {
        if let Some(mine) = mine.get_mut(*group) {
            join(mine, *theirs);
        }
    }
}

fn least<T: Ord + Copy>(mine: &mut Option<T>, theirs: Option<T>) {
    *mine = match (*mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
        (mine, theirs) => mine.or(theirs),
    };
}

/// A text as a cell that no decimal's units can equal: they stay below 10³⁸.
fn text_cell(text: TextNumber) -> i128 {
    i128::MAX - i128::from(text)
}

fn text_of_cell(cell: i128) -> Option<TextNumber> {
    TextNumber::try_from(i128::MAX.checked_sub(cell)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_add_up() {
        let large = (1_i128 << 100) - 1;
        let most = Decimal::MAX.units();
        for cells in [
            vec![],
            vec![NO_VALUE],
            vec![1, -1, 5],
            vec![large; 8_192],
            vec![-large; 8_192],
            vec![large + 1, large, NO_VALUE, -7],
            vec![-large - 1, -large],
            vec![most; 5],
            vec![-most, -most, NO_VALUE, 3],
        ] {
            let mut expected = DecimalSum::ZERO;
            let there = cells.iter().filter(|units| **units != NO_VALUE);
            let there: Vec<_> = there
                .filter_map(|units| Decimal::from_units(*units))
                .collect();
            for value in &there {
                expected.add(*value);
            }
            let total = total_of(&cells);
            assert_eq!((total.sum, total.count), (expected, wide(there.len())));
        }
    }
}
