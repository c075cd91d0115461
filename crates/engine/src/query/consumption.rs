//! By how much registers rose: the differences between readings that follow each other.
//!
//! A difference counts where the later of its two readings is. So the scan only gathers the readings of the range; what
//! each subject was at before is another question, asked of the same snapshot, and the differences come at the end.

use super::numbers::Numbers;
use super::plan::{Field, Selected};
use super::scan::Found;
use super::view::View;
use super::{Aggregation, Function, GroupKey, Number, Query};
use crate::texts::{NO_TEXT, TextNumber};
use hashbrown::HashMap;
use meterd_model::{Decimal, DecimalSum, RESET, Timestamp};

/// Readings of registers, and what they come to once they are all there.
#[derive(Default)]
pub(super) struct Readings {
    all: Vec<Reading>,
    /// By group; none where no reading is.
    sums: Vec<Option<DecimalSum>>,
}

/// Ordered by subject, time and sequence, of which no two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reading {
    subject: TextNumber,
    time: i64,
    sequence: u64,
    units: i128,
    /// Text of the attribute that may say that it begins a new count.
    reset: TextNumber,
    group: usize,
}

impl Readings {
    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Reading>()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn take(
        &mut self,
        rows: &View<'_>,
        field: Field,
        numbers: &mut Numbers<'_>,
        selection: &[Selected],
    ) {
        let Field::Register { value, reset } = field else {
            return;
        };
        let cells = rows.values(value);
        let resets = reset.map(|column| rows.attributes(column));
        let places =
            (selection.iter()).flat_map(|run| run.places.clone().map(|place| (place, run.group)));
        for (place, group) in places {
            let (Some(units), Some(subject)) = (cells.get(place), rows.subjects.get(place)) else {
                continue;
            };
            let reset = resets.as_ref().and_then(|cells| cells.get(place));
            self.all.push(Reading {
                subject: numbers.number(subject),
                time: rows.times.get(place).copied().unwrap_or_default(),
                sequence: rows.sequences.get(place).copied().unwrap_or_default(),
                units,
                reset: reset.map_or(NO_TEXT, |text| numbers.number(text)),
                group,
            });
        }
    }

    /// Adds readings whose group `n` is `groups[n]` here; `text` gives the number here of a text's number there.
    pub(super) fn absorb(
        &mut self,
        other: &Self,
        groups: &[usize],
        mut text: impl FnMut(TextNumber) -> TextNumber,
    ) {
        let theirs = other.all.iter().filter_map(|reading| {
            let reset = match reading.reset {
                NO_TEXT => NO_TEXT,
                reset => text(reset),
            };
            Some(Reading {
                subject: text(reading.subject),
                reset,
                group: *groups.get(reading.group)?,
                ..*reading
            })
        });
        self.all.extend(theirs);
    }

    /// Works the sums out of all readings. `before` is what subjects were at.
    fn settle(
        &mut self,
        groups: usize,
        before: &HashMap<TextNumber, Decimal>,
        is_reset: impl Fn(TextNumber) -> bool,
    ) {
        self.all.sort_unstable();
        self.sums = vec![None; groups];
        for readings in self.all.chunk_by(|a, b| a.subject == b.subject) {
            let subject = readings.first().map(|reading| reading.subject);
            let mut last = subject.and_then(|subject| before.get(&subject).copied());
            for reading in readings {
                let value = Decimal::from_units(reading.units).unwrap_or_default();
                let last = last.replace(value).filter(|_| !is_reset(reading.reset));
                let Some(sum) = self.sums.get_mut(reading.group) else {
                    continue;
                };
                let sum = sum.get_or_insert_default();
                if let Some(last) = last {
                    sum.add(value);
                    sum.subtract(last);
                }
            }
        }
    }

    pub(super) fn sum(&self, group: usize) -> Option<Number> {
        self.sums.get(group).copied().flatten().map(Number::Decimal)
    }
}

/// The question what each subject was at before the range, if it matters: a value for each aggregation that is about a
/// register.
pub(super) fn question_before(query: &Query) -> Option<Query> {
    let registers = registers(query).map(|(_, aggregation)| Aggregation {
        function: Function::Latest,
        field: aggregation.field.clone(),
    });
    let aggregations: Vec<_> = registers.collect();
    (!aggregations.is_empty()).then(|| Query {
        from: Timestamp::MIN,
        to: query.from,
        window: None,
        group_by: vec![GroupKey::Subject],
        aggregations,
        order_by: Vec::new(),
        ..query.clone()
    })
}

/// Works out the differences, with the answer to [`question_before`].
pub(super) fn settle(query: &Query, found: &mut Found, before: &Found) {
    let groups = found.tally.groups.len();
    let is_reset = |number| found.texts.get(number) == Some(RESET.1);
    for (earlier, (index, _)) in before.tally.columns.iter().zip(registers(query)) {
        let known = (0..before.tally.groups.len()).filter_map(|group| {
            let subject = before.texts.get(before.tally.groups.text(group, 0))?;
            let Some(Number::Decimal(value)) = earlier.value(group) else {
                return None;
            };
            Some((found.texts.find(subject)?, value.to_decimal()?))
        });
        let known = known.collect();
        if let Some(readings) = found
            .tally
            .columns
            .get_mut(index)
            .and_then(|c| c.readings_mut())
        {
            readings.settle(groups, &known, is_reset);
        }
    }
}

fn registers(query: &Query) -> impl Iterator<Item = (usize, &Aggregation)> {
    let aggregations = query.aggregations.iter().enumerate();
    aggregations.filter(|(_, aggregation)| aggregation.function == Function::Consumption)
}
