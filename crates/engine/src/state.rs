//! What the log says, in memory: every organization's ids and tables.

use crate::fingerprint::Fingerprint;
use crate::ids::{IdEntry, IdNumber, Ids};
use crate::table::{NewRow, RowPlace, Rows, Table};
use crate::texts::Texts;
use crate::trace::Action;
use hashbrown::HashMap;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp,
};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All organizations. Each has a lock of its own, held by the writer for one batch and by a query only while it
/// takes its snapshot.
#[derive(Debug, Default)]
pub(crate) struct State {
    organizations: RwLock<HashMap<OrganizationId, Arc<RwLock<Organization>>>>,
    pub(crate) totals: Totals,
}

/// How much an organization has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Measurements that count.
    measurements: u64,
    ids: u64,
}

/// How much all organizations have together, so that nobody has to ask each of them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    measurements: AtomicU64,
    ids: AtomicU64,
}

impl Totals {
    pub(crate) fn measurements(&self) -> u64 {
        self.measurements.load(Ordering::Relaxed)
    }

    pub(crate) fn ids(&self) -> u64 {
        self.ids.load(Ordering::Relaxed)
    }

    /// An organization went from one to the other. Only the writer calls this, one change after the other.
    pub(crate) fn change(&self, from: Figures, to: Figures) {
        let change = |total: &AtomicU64, from, to| {
            let new = total.load(Ordering::Relaxed) + to - from;
            total.store(new, Ordering::Relaxed);
        };
        change(&self.measurements, from.measurements, to.measurements);
        change(&self.ids, from.ids, to.ids);
    }
}

impl State {
    pub(crate) fn organization(&self, id: OrganizationId) -> Option<Arc<RwLock<Organization>>> {
        self.organizations.read().get(&id).cloned()
    }

    pub(crate) fn organization_or_new(&self, id: OrganizationId) -> Arc<RwLock<Organization>> {
        if let Some(organization) = self.organization(id) {
            return organization;
        }
        Arc::clone(self.organizations.write().entry(id).or_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.organizations.read().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<RwLock<Organization>>> {
        self.organizations.read().values().cloned().collect()
    }
}

/// One tenant's measurements.
#[derive(Debug, Default)]
pub(crate) struct Organization {
    pub(crate) texts: Texts,
    pub(crate) ids: Ids,
    tables: Vec<Table>,
    table_meters: Vec<MeterId>,
    table_numbers: HashMap<MeterId, u32>,
    /// Ids that have more to tell than one stored version.
    histories: HashMap<IdNumber, Vec<HistoryEntry>>,
    /// Duplicates seen since the start.
    repeats: HashMap<IdNumber, u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryEntry {
    pub(crate) sequence: u64,
    pub(crate) received: Timestamp,
    pub(crate) action: Action,
    /// `None` for a void.
    pub(crate) row: Option<RowPlace>,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) voided: bool,
}

/// Where a version stands in the one order of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) received: Timestamp,
}

impl Organization {
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            measurements: self.tables.iter().map(Table::current).sum(),
            ids: u64::try_from(self.ids.len()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn known(&self, id: &str) -> Option<Known> {
        let entry = self.ids.entry(self.ids.find(id)?)?;
        Some(Known {
            fingerprint: entry.fingerprint(),
            voided: !self.is_current(entry.newest),
        })
    }

    /// Stores a version: the first of a new id, or the one that replaces what an id had.
    pub(crate) fn store(
        &mut self,
        measurement: &Measurement,
        fingerprint: Fingerprint,
        stamp: Stamp,
    ) {
        let known = self.ids.find(measurement.id.as_str());
        let id = known.unwrap_or_else(|| self.ids.next_number());
        let place = self.push_row(measurement, id, stamp);
        let entry = IdEntry::new(fingerprint, place);
        match known {
            None => self.ids.add(measurement.id.as_str(), entry),
            Some(id) => {
                self.begin_history(id);
                let old = self.ids.entry(id).map(|old| old.newest);
                if let Some(old) = old {
                    self.retire(old);
                }
                if let Some(slot) = self.ids.entry_mut(id) {
                    *slot = entry;
                }
                self.note(id, stamp, Action::Replaced, Some(place));
            }
        }
    }

    /// Withdraws an id that counts.
    pub(crate) fn void(&mut self, id: &str, stamp: Stamp) {
        let Some(id) = self.ids.find(id) else {
            return;
        };
        self.begin_history(id);
        if let Some(newest) = self.ids.entry(id).map(|entry| entry.newest) {
            self.retire(newest);
        }
        self.note(id, stamp, Action::Voided, None);
    }

    pub(crate) fn count_repeat(&mut self, id: &str, ids_max: usize) {
        let Some(id) = self.ids.find(id) else {
            return;
        };
        if self.repeats.len() < ids_max || self.repeats.contains_key(&id) {
            *self.repeats.entry(id).or_default() += 1;
        }
    }

    pub(crate) fn repeats(&self, id: IdNumber) -> u64 {
        self.repeats.get(&id).copied().unwrap_or(0)
    }

    pub(crate) fn table(&self, meter: MeterId) -> Option<&Table> {
        self.table_at(*self.table_numbers.get(&meter)?)
    }

    pub(crate) fn table_at(&self, number: u32) -> Option<&Table> {
        self.tables.get(number as usize)
    }

    pub(crate) fn meter_at(&self, number: u32) -> Option<MeterId> {
        self.table_meters.get(number as usize).copied()
    }

    /// All tables with their numbers.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u32, MeterId, &Table)> {
        (0..)
            .zip(&self.table_meters)
            .zip(&self.tables)
            .map(|((number, meter), table)| (number, *meter, table))
    }

    /// The newest versions and voids of an id, oldest first, and whether there are more than `limit`.
    pub(crate) fn history(&self, id: IdNumber, limit: usize) -> (Vec<HistoryEntry>, bool) {
        match self.histories.get(&id) {
            Some(entries) => {
                let hidden = entries.len().saturating_sub(limit);
                let newest = entries.get(hidden..).unwrap_or_default();
                (newest.to_vec(), hidden > 0)
            }
            None => {
                let only = self.only_version(id);
                (only.into_iter().take(limit).collect(), limit == 0)
            }
        }
    }

    /// A stored version as it came in.
    pub(crate) fn measurement(&self, place: RowPlace) -> Option<Measurement> {
        let table = self.table_at(place.table)?;
        let (chunk, at) = table.find(place.row)?;
        self.measurement_of(place.table, &chunk.rows, at)
    }

    pub(crate) fn measurement_of(&self, table: u32, rows: &Rows, at: usize) -> Option<Measurement> {
        let meter = self.meter_at(table)?;
        let table = self.table_at(table)?;
        let values = table
            .value_names()
            .iter()
            .enumerate()
            .filter_map(|(column, name)| {
                let value = rows.values(column).get(at).and_then(Decimal::from_units)?;
                Some((name.clone(), value))
            });
        let attributes = table
            .attribute_names()
            .iter()
            .enumerate()
            .filter_map(|(column, name)| {
                let text = rows.attributes(column).get(at)?;
                let text = AttributeValue::new(self.texts.get(text)?).ok()?;
                Some((name.clone(), text))
            });
        let measurement = Measurement {
            id: MeasurementId::new(self.ids.text(*rows.ids.get(at)?)?).ok()?,
            meter,
            subject: Subject::new(self.texts.get(*rows.subjects.get(at)?)?).ok()?,
            time: Timestamp::from_micros(*rows.times.get(at)?)?,
            end_time: rows.end(at).and_then(Timestamp::from_micros),
            values: values.collect(),
            attributes: attributes.collect(),
        };
        Some(measurement.in_order())
    }

    fn is_current(&self, place: RowPlace) -> bool {
        self.table_at(place.table)
            .is_some_and(|table| table.is_current(place.row))
    }

    fn retire(&mut self, place: RowPlace) {
        if let Some(table) = self.tables.get_mut(place.table as usize) {
            table.retire(place.row);
        }
    }

    /// Writes down the first version of an id before a second event joins it.
    fn begin_history(&mut self, id: IdNumber) {
        if !self.histories.contains_key(&id) {
            let first = self.only_version(id).into_iter().collect();
            self.histories.insert(id, first);
        }
    }

    fn only_version(&self, id: IdNumber) -> Option<HistoryEntry> {
        let place = self.ids.entry(id)?.newest;
        let (chunk, at) = self.table_at(place.table)?.find(place.row)?;
        Some(HistoryEntry {
            sequence: *chunk.rows.sequences.get(at)?,
            received: Timestamp::from_micros(*chunk.rows.received.get(at)?)?,
            action: Action::Stored,
            row: Some(place),
        })
    }

    fn note(&mut self, id: IdNumber, stamp: Stamp, action: Action, row: Option<RowPlace>) {
        self.histories.entry(id).or_default().push(HistoryEntry {
            sequence: stamp.sequence,
            received: stamp.received,
            action,
            row,
        });
    }

    fn push_row(&mut self, measurement: &Measurement, id: IdNumber, stamp: Stamp) -> RowPlace {
        let number = self.table_number(measurement.meter);
        let texts = &mut self.texts;
        let Some(table) = self.tables.get_mut(number as usize) else {
            return RowPlace {
                table: number,
                row: u32::MAX,
            };
        };
        let place = RowPlace {
            table: number,
            row: table.next_row(),
        };
        let row = NewRow {
            time: measurement.time.micros(),
            end: measurement.end_time.map(Timestamp::micros),
            subject: texts.number(measurement.subject.as_str()),
            id,
            sequence: stamp.sequence,
            received: stamp.received.micros(),
        };
        let values: Vec<_> = columns(&measurement.values, |name| table.value_column(name))
            .map(|(column, value)| (column, value.units()))
            .collect();
        let attributes: Vec<_> =
            columns(&measurement.attributes, |name| table.attribute_column(name))
                .map(|(column, text)| (column, texts.number(text.as_str())))
                .collect();
        table.push(&row, values.into_iter(), attributes.into_iter());
        place
    }

    fn table_number(&mut self, meter: MeterId) -> u32 {
        let next = u32::try_from(self.tables.len()).unwrap_or(u32::MAX);
        *self.table_numbers.entry(meter).or_insert_with(|| {
            self.tables.push(Table::default());
            self.table_meters.push(meter);
            next
        })
    }
}

fn columns<T>(
    fields: &[(FieldName, T)],
    mut column: impl FnMut(&FieldName) -> usize,
) -> impl Iterator<Item = (usize, &T)> {
    fields.iter().map(move |(name, cell)| (column(name), cell))
}
