//! The same promises, kept by a list and plain loops.

use crate::fixtures::organization;
use meterd_engine::{
    Action, Batch, Function, GroupKey, Number, OnConflict, OrderKey, Query, QueryAnswer, Row,
    Verdict, VoidOutcome,
};
use meterd_model::{
    Decimal, DecimalSum, FieldName, Measurement, MeasurementId, MeterId, OrganizationId, Timestamp,
};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Every id ever accepted, in the order of their current versions' sequences where that matters.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Oracle {
    kept: Vec<Kept>,
    /// Every event of every id, oldest first.
    histories: BTreeMap<(OrganizationId, MeasurementId), Vec<Event>>,
    /// Sequences of events that were dropped with their month.
    dropped: BTreeSet<u64>,
    next_sequence: u64,
}

/// Sequence, what happened, and the version that was stored.
pub(crate) type Event = (u64, Action, Option<Measurement>);

#[derive(Clone, PartialEq)]
struct Kept {
    organization: OrganizationId,
    measurement: Measurement,
    sequence: u64,
    voided: bool,
    /// Its month was dropped: it does not count, but its id and content are known.
    dropped: bool,
}

impl Kept {
    fn counts(&self, organization: OrganizationId) -> bool {
        self.organization == organization && !self.voided && !self.dropped
    }
}

/// What an engine is to say of a meter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) measurements: u64,
    pub(crate) versions: u64,
    pub(crate) values: BTreeSet<FieldName>,
    pub(crate) attributes: BTreeSet<FieldName>,
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
                let action = if verdict == Verdict::Accepted {
                    Action::Stored
                } else {
                    Action::Replaced
                };
                self.note(
                    batch.organization,
                    &measurement.id,
                    (sequence, action, Some(measurement.clone())),
                );
                self.kept.retain(|kept| {
                    kept.organization != batch.organization || kept.measurement.id != measurement.id
                });
                self.kept.push(Kept {
                    organization: batch.organization,
                    measurement,
                    sequence,
                    voided: false,
                    dropped: false,
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
                let sequence = self.sequence();
                self.note(organization, id, (sequence, Action::Voided, None));
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Drops the months of a meter that ended by `before`. Answers how many versions and voids that were.
    pub(crate) fn expire(
        &mut self,
        organization: OrganizationId,
        meter: MeterId,
        before: Timestamp,
    ) -> u64 {
        let is_old =
            |version: &Measurement| version.meter == meter && month(version.time) < month(before);
        let mut count = 0;
        for ((of, _), events) in &self.histories {
            if *of != organization {
                continue;
            }
            // A void is kept where what it voided is.
            let mut newest_is_old = false;
            for (sequence, _, version) in events {
                newest_is_old = version.as_ref().map_or(newest_is_old, is_old);
                count += u64::from(newest_is_old && self.dropped.insert(*sequence));
            }
        }
        for kept in &mut self.kept {
            kept.dropped = self.dropped.contains(&kept.sequence);
        }
        count
    }

    fn note(&mut self, organization: OrganizationId, id: &MeasurementId, event: Event) {
        let history = self.histories.entry((organization, id.clone()));
        history.or_default().push(event);
    }

    /// Every id with its events, oldest first, as far back as none was dropped.
    pub(crate) fn histories(
        &self,
    ) -> impl Iterator<Item = (OrganizationId, &MeasurementId, &[Event])> {
        self.histories.iter().map(|((organization, id), events)| {
            let dropped = events
                .iter()
                .rposition(|(sequence, ..)| self.dropped.contains(sequence));
            let first = dropped.map_or(0, |last| last + 1);
            (*organization, id, &events[first..])
        })
    }

    /// Measurements of a meter that count.
    pub(crate) fn counted(&self, organization: OrganizationId, meter: MeterId) -> u64 {
        self.held(organization, meter).measurements
    }

    pub(crate) fn held(&self, organization: OrganizationId, meter: MeterId) -> Held {
        let mut held = Held::default();
        let kept = self.kept.iter();
        let counted =
            kept.filter(|kept| kept.counts(organization) && kept.measurement.meter == meter);
        held.measurements = u64::try_from(counted.count()).unwrap();
        for ((of, _), events) in &self.histories {
            let mut newest = None;
            for (sequence, _, version) in events {
                newest = version.as_ref().or(newest);
                let of_meter = newest.is_some_and(|newest| newest.meter == meter);
                if *of != organization || !of_meter || self.dropped.contains(sequence) {
                    continue;
                }
                let Some(version) = version else {
                    continue;
                };
                held.versions += 1;
                held.values
                    .extend(version.values.iter().map(|(name, _)| name.clone()));
                held.attributes
                    .extend(version.attributes.iter().map(|(name, _)| name.clone()));
            }
        }
        held
    }

    /// All that counts of organization 1: sequence and measurement, newest first.
    pub(crate) fn listing(&self) -> Vec<(u64, Measurement)> {
        self.listing_of(organization(1))
    }

    pub(crate) fn listing_of(&self, organization: OrganizationId) -> Vec<(u64, Measurement)> {
        let mut all: Vec<_> = self
            .kept
            .iter()
            .filter(|kept| kept.counts(organization))
            .map(|kept| (kept.sequence, kept.measurement.clone()))
            .collect();
        all.sort_by_key(|(sequence, measurement)| std::cmp::Reverse((measurement.time, *sequence)));
        all
    }

    pub(crate) fn query(&self, query: &Query) -> QueryAnswer {
        self.query_of(organization(1), query)
    }

    pub(crate) fn query_of(&self, organization: OrganizationId, query: &Query) -> QueryAnswer {
        let mut groups: Vec<(Row, Vec<&Kept>)> = Vec::new();
        for kept in &self.kept {
            if !kept.counts(organization) || !matches(query, &kept.measurement) {
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
                        let name = a.field.as_ref().map(FieldName::as_str);
                        if a.function == Function::Consumption {
                            return self.consumption(organization, query, name?, &members);
                        }
                        aggregate(a.function, name, &members)
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

impl Oracle {
    /// The differences of the members to the reading before each, wherever that is.
    fn consumption(
        &self,
        organization: OrganizationId,
        query: &Query,
        field: &str,
        members: &[&Kept],
    ) -> Option<Number> {
        let ever = Query {
            from: Timestamp::MIN,
            ..query.clone()
        };
        let place = |kept: &Kept| (kept.measurement.time, kept.sequence);
        let mut sum = None;
        for member in members {
            let Some(now) = value(&member.measurement, field) else {
                continue;
            };
            let sum: &mut DecimalSum = sum.get_or_insert_default();
            let before = self.kept.iter().filter(|kept| {
                kept.counts(organization)
                    && matches(&ever, &kept.measurement)
                    && kept.measurement.subject == member.measurement.subject
                    && value(&kept.measurement, field).is_some()
                    && place(kept) < place(member)
            });
            if attribute(&member.measurement, "reset") == Some("true") {
                continue;
            }
            if let Some(before) = before.max_by_key(|kept| place(kept)) {
                sum.add(now);
                sum.subtract(value(&before.measurement, field)?);
            }
        }
        sum.map(Number::Decimal)
    }
}

/// As in `2026-11`.
fn month(time: Timestamp) -> String {
    time.to_string().chars().take(7).collect()
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

pub(crate) fn matches(query: &Query, measurement: &Measurement) -> bool {
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
        Function::Consumption => unreachable!("is not of the members alone"),
        Function::Count => Some(Number::Count(texts.len().try_into().unwrap())),
        Function::Unique => {
            let distinct: BTreeSet<_> = texts.into_iter().collect();
            Some(Number::Count(distinct.len().try_into().unwrap()))
        }
    }
}
