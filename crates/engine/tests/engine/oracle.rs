//! The same promises, kept by a list and plain loops.

use crate::fixtures::organization;
use meterd_engine::{
    Batch, Function, GroupKey, Number, OnConflict, OrderKey, Query, QueryAnswer, Row, Verdict,
    VoidOutcome,
};
use meterd_model::{
    Decimal, DecimalSum, FieldName, Measurement, MeasurementId, OrganizationId, Timestamp,
};
use std::cmp::Ordering;

/// Every id ever accepted, in the order of their current versions' sequences where that matters.
#[derive(Default)]
pub(crate) struct Oracle {
    kept: Vec<Kept>,
    next_sequence: u64,
}

struct Kept {
    organization: OrganizationId,
    measurement: Measurement,
    sequence: u64,
    voided: bool,
}

impl Oracle {
    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    fn find(&mut self, organization: OrganizationId, id: &MeasurementId) -> Option<&mut Kept> {
        self.kept
            .iter_mut()
            .find(|kept| kept.organization == organization && kept.measurement.id == *id)
    }

    pub(crate) fn submit(&mut self, batch: &Batch) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for measurement in batch.measurements.clone() {
            let measurement = measurement.in_order();
            let verdict = match self.find(batch.organization, &measurement.id) {
                None => Verdict::Accepted,
                Some(kept) if !kept.voided && kept.measurement == measurement => Verdict::Duplicate,
                Some(_) if batch.on_conflict == OnConflict::Reject => Verdict::Conflict,
                Some(_) => Verdict::Replaced,
            };
            if matches!(verdict, Verdict::Accepted | Verdict::Replaced) {
                let sequence = self.sequence();
                self.kept.retain(|kept| {
                    kept.organization != batch.organization || kept.measurement.id != measurement.id
                });
                self.kept.push(Kept {
                    organization: batch.organization,
                    measurement,
                    sequence,
                    voided: false,
                });
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    pub(crate) fn void(
        &mut self,
        organization: OrganizationId,
        ids: &[MeasurementId],
    ) -> Vec<VoidOutcome> {
        let mut outcomes = Vec::new();
        for id in ids {
            let outcome = match self.find(organization, id) {
                None => VoidOutcome::NotFound,
                Some(kept) if kept.voided => VoidOutcome::AlreadyVoided,
                Some(kept) => {
                    kept.voided = true;
                    VoidOutcome::Voided
                }
            };
            if outcome == VoidOutcome::Voided {
                self.sequence();
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// All that counts of organization 1: sequence and measurement, newest first.
    pub(crate) fn listing(&self) -> Vec<(u64, Measurement)> {
        let mut all: Vec<_> = self
            .kept
            .iter()
            .filter(|kept| kept.organization == organization(1) && !kept.voided)
            .map(|kept| (kept.sequence, kept.measurement.clone()))
            .collect();
        all.sort_by_key(|(sequence, measurement)| std::cmp::Reverse((measurement.time, *sequence)));
        all
    }

    pub(crate) fn query(&self, query: &Query) -> QueryAnswer {
        let mut groups: Vec<(Row, Vec<&Kept>)> = Vec::new();
        for kept in &self.kept {
            if kept.organization != organization(1)
                || kept.voided
                || !matches(query, &kept.measurement)
            {
                continue;
            }
            let (from, to) = window(query, kept.measurement.time);
            let group: Vec<Option<String>> = query
                .group_by
                .iter()
                .map(|key| match key {
                    GroupKey::Subject => Some(kept.measurement.subject.as_str().to_owned()),
                    GroupKey::Attribute(name) => {
                        attribute(&kept.measurement, name.as_str()).map(str::to_owned)
                    }
                })
                .collect();
            match groups
                .iter_mut()
                .find(|(row, _)| row.from == from && row.group == group)
            {
                Some((_, members)) => members.push(kept),
                None => groups.push((
                    Row {
                        from,
                        to,
                        group,
                        values: Vec::new(),
                    },
                    vec![kept],
                )),
            }
        }
        let mut rows: Vec<Row> = groups
            .into_iter()
            .map(|(mut row, members)| {
                row.values = query
                    .aggregations
                    .iter()
                    .map(|a| {
                        aggregate(
                            a.function,
                            a.field.as_ref().map(FieldName::as_str),
                            &members,
                        )
                    })
                    .collect();
                row
            })
            .collect();
        rows.sort_by(|a, b| compare(query, a, b));
        QueryAnswer {
            more: rows.len() > query.offset + query.limit,
            rows: rows
                .into_iter()
                .skip(query.offset)
                .take(query.limit)
                .collect(),
        }
    }
}

fn compare(query: &Query, a: &Row, b: &Row) -> Ordering {
    for order in &query.order_by {
        let ordering = match order.by {
            OrderKey::From => a.from.cmp(&b.from),
            OrderKey::Group(index) => a.group[index].cmp(&b.group[index]),
            OrderKey::Value(index) => a.values[index].cmp(&b.values[index]),
        };
        let ordering = if order.descending {
            ordering.reverse()
        } else {
            ordering
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    (a.from, &a.group).cmp(&(b.from, &b.group))
}

fn matches(query: &Query, measurement: &Measurement) -> bool {
    measurement.time >= query.from
        && measurement.time < query.to
        && measurement.meter == query.meter
        && query
            .filter
            .subjects
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&measurement.subject))
        && query.filter.attributes.iter().all(|(name, wanted)| {
            attribute(measurement, name.as_str())
                .is_some_and(|text| wanted.iter().any(|w| w == text))
        })
}

fn window(query: &Query, time: Timestamp) -> (Timestamp, Timestamp) {
    match query.window {
        None => (query.from, query.to),
        Some(window) => {
            let (start, end) = window.around(time, &query.zone);
            (start.max(query.from), end.min(query.to))
        }
    }
}

fn attribute<'a>(measurement: &'a Measurement, name: &str) -> Option<&'a str> {
    measurement
        .attributes
        .iter()
        .find(|(n, _)| n.as_str() == name)
        .map(|(_, text)| text.as_str())
}

fn value(measurement: &Measurement, name: &str) -> Option<Decimal> {
    measurement
        .values
        .iter()
        .find(|(n, _)| n.as_str() == name)
        .map(|(_, value)| *value)
}

fn aggregate(function: Function, field: Option<&str>, members: &[&Kept]) -> Option<Number> {
    let values: Vec<(Timestamp, u64, Decimal)> = members
        .iter()
        .filter_map(|kept| {
            Some((
                kept.measurement.time,
                kept.sequence,
                value(&kept.measurement, field?)?,
            ))
        })
        .collect();
    let texts: Vec<String> = members
        .iter()
        .filter_map(|kept| match field {
            None => Some(kept.measurement.subject.as_str().to_owned()),
            Some(name) => value(&kept.measurement, name)
                .map(|value| value.to_string())
                .or_else(|| attribute(&kept.measurement, name).map(str::to_owned)),
        })
        .collect();
    let number = |value: Decimal| Number::Decimal(value.into());
    let mut sum = DecimalSum::ZERO;
    for (_, _, value) in &values {
        sum.add(*value);
    }
    match function {
        Function::Sum => (!values.is_empty()).then_some(Number::Decimal(sum)),
        Function::Mean => sum
            .mean(values.len().try_into().unwrap())
            .map(Number::Decimal),
        Function::Min => values.iter().map(|v| v.2).min().map(number),
        Function::Max => values.iter().map(|v| v.2).max().map(number),
        Function::Latest => values.iter().max().map(|v| number(v.2)),
        Function::Earliest => values.iter().min().map(|v| number(v.2)),
        Function::Count => Some(Number::Count(texts.len().try_into().unwrap())),
        Function::Unique => {
            let distinct: std::collections::BTreeSet<_> = texts.into_iter().collect();
            Some(Number::Count(distinct.len().try_into().unwrap()))
        }
    }
}
