//! What came since the last seal, in memory: the same things that segments and runs hold on disk.
//!
//! There is one that takes what comes, and for a while a second that is being sealed and does not change any more.

use crate::id_hash::Print;
use crate::ids::{IdEntry, IdNumber, Ids, Newest};
use crate::partition::{Link, Month, Partition, Partitions};
use crate::retired::Retired;
use crate::runs::IdHash;
use crate::table::{NewRow, RowPlace, Rows, Table};
use crate::texts::{TextList, Texts, length};
use crate::trace::Action;
use crate::wide;
use hashbrown::HashMap;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, Subject, Timestamp,
};

/// About what an event may take beyond [`crate::log::record::measurement_bytes_max`], or beyond an id that is voided.
pub(crate) const EVENT_BYTES_MAX: u64 = ID_BYTES + VOID_BYTES + LINK_BYTES + HISTORY_BYTES;

const ROW_BYTES: u64 = 40;
const VALUE_BYTES: u64 = 16;
const ATTRIBUTE_BYTES: u64 = 4;
const ID_BYTES: u64 = 48;
const VOID_BYTES: u64 = 56;
const LINK_BYTES: u64 = 64;
const HISTORY_BYTES: u64 = 128;
const TABLE_BYTES: u64 = 1024;

/// One tenant's measurements since the last seal.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) texts: Texts,
    pub(crate) ids: Ids,
    tables: Vec<Table>,
    table_meters: Vec<MeterId>,
    table_numbers: HashMap<MeterId, u32>,
    voids: Vec<VoidRow>,
    /// What an event here replaced or voided, by the event's sequence.
    links: HashMap<u64, Link>,
    /// Ids of which more than one event is here, with all of them, oldest first.
    histories: HashMap<IdNumber, Vec<HistoryEntry>>,
    /// Rows of older layers that count no more because of an event here.
    pub(crate) retired: Retired,
    /// Ids that no older layer has.
    pub(crate) new_ids: u64,
    /// Whether a version here has an id that an older one has too, which still counts: it was forgotten.
    pub(crate) forgets: bool,
    /// Without the texts.
    bytes: u64,
    /// Those that have something here, each of which is sealed to a segment: a file, which takes its time whatever is in
    /// it.
    pub(crate) partitions: Partitions,
}

/// What an id had before a version was stored under it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    Nothing,
    /// Something from before its organization's window; it goes on to count, as another measurement.
    Forgotten,
    Replaced(Known),
}

/// An id was withdrawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VoidRow {
    pub(crate) id: IdNumber,
    pub(crate) stamp: Stamp,
    pub(crate) voided: Link,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryEntry {
    pub(crate) stamp: Stamp,
    pub(crate) action: Action,
    /// `None` for a void.
    pub(crate) row: Option<RowPlace>,
}

/// What the numbers in the rows of a table stand for.
pub(crate) struct RowNames<'a> {
    pub(crate) meter: MeterId,
    /// By column.
    pub(crate) values: &'a [FieldName],
    pub(crate) attributes: &'a [FieldName],
    pub(crate) texts: &'a TextList,
}

impl RowNames<'_> {
    /// A row as it came in.
    pub(crate) fn measurement(&self, id: &str, rows: &Rows, at: usize) -> Option<Measurement> {
        let values = self.values.iter().enumerate().filter_map(|(column, name)| {
            let value = rows.values(column).get(at).and_then(Decimal::from_units)?;
            Some((name.clone(), value))
        });
        let attributes = self
            .attributes
            .iter()
            .enumerate()
            .filter_map(|(column, name)| {
                let text = self.texts.get(rows.attributes(column).get(at)?)?;
                Some((name.clone(), AttributeValue::new(text).ok()?))
            });
        let measurement = Measurement {
            id: MeasurementId::new(id).ok()?,
            meter: self.meter,
            subject: Subject::new(self.texts.get(*rows.subjects.get(at)?)?).ok()?,
            time: Timestamp::from_micros(*rows.times.get(at)?)?,
            end_time: rows.end(at).and_then(Timestamp::from_micros),
            values: values.collect(),
            attributes: attributes.collect(),
        };
        Some(measurement.in_order())
    }
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) content: u64,
    pub(crate) newest: Link,
    pub(crate) voided: bool,
    /// Whether the newest event is a version that is still kept: not voided, and not dropped with its month.
    pub(crate) counts: bool,
}

/// Where an event stands in the one order of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) received: Timestamp,
}

impl Memory {
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.len() == 0
    }

    /// About how much memory all of it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.texts.bytes()
    }

    pub(crate) fn known(&self, hash: IdHash) -> Option<Known> {
        self.known_of(self.ids.entry(self.ids.find(hash)?)?)
    }

    pub(crate) fn known_of(&self, entry: &IdEntry) -> Option<Known> {
        let (newest, voided) = match entry.newest {
            Newest::Row(place) => (self.link(place)?, false),
            Newest::Void(index) => {
                let void = self.void_at(index)?;
                let newest = Link {
                    partition: void.voided.partition,
                    sequence: void.stamp.sequence,
                };
                (newest, true)
            }
        };
        Some(Known {
            content: entry.content,
            newest,
            voided,
            counts: !voided,
        })
    }

    /// Stores a version: the first of a new id, or the one that comes after what an id had, here or in an older layer.
    pub(crate) fn store(
        &mut self,
        measurement: &Measurement,
        print: Print,
        stamp: Stamp,
        before: Before,
    ) {
        let known = match before {
            Before::Nothing => None,
            Before::Forgotten | Before::Replaced(_) => self.ids.find(print.hash),
        };
        let id = known.unwrap_or_else(|| self.ids.next_number());
        let place = self.push_row(measurement, id, stamp);
        let entry = IdEntry {
            hash: print.hash,
            content: print.content,
            newest: Newest::Row(place),
        };
        let action = match before {
            Before::Nothing => {
                self.new_ids += 1;
                Action::Stored
            }
            Before::Forgotten => {
                self.forgets = true;
                Action::Stored
            }
            Before::Replaced(replaced) => {
                self.link_to(stamp, replaced);
                self.retire(known, replaced);
                Action::Replaced
            }
        };
        self.note(known, measurement.id.as_str(), entry, stamp, action);
    }

    /// Withdraws an id that counts.
    pub(crate) fn void(&mut self, id: &str, hash: IdHash, stamp: Stamp, voided: Known) {
        let known = self.ids.find(hash);
        self.retire(known, voided);
        self.link_to(stamp, voided);
        let index = u32::try_from(self.voids.len()).unwrap_or(u32::MAX);
        let entry = IdEntry {
            hash,
            content: voided.content,
            newest: Newest::Void(index),
        };
        let number = self.note(known, id, entry, stamp, Action::Voided);
        self.bytes += VOID_BYTES;
        self.partitions.insert(voided.newest.partition);
        self.voids.push(VoidRow {
            id: number,
            stamp,
            voided: voided.newest,
        });
    }

    pub(crate) fn table(&self, meter: MeterId) -> Option<&Table> {
        self.table_at(*self.table_numbers.get(&meter)?)
    }

    pub(crate) fn table_at(&self, number: u32) -> Option<&Table> {
        self.tables.get(number as usize)
    }

    /// All tables with their numbers.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u32, MeterId, &Table)> {
        (0..)
            .zip(&self.table_meters)
            .zip(&self.tables)
            .map(|((number, meter), table)| (number, *meter, table))
    }

    pub(crate) fn voids(&self) -> &[VoidRow] {
        &self.voids
    }

    pub(crate) fn replaced_by(&self, sequence: u64) -> Option<Link> {
        self.links.get(&sequence).copied()
    }

    /// The events of an id that are here, oldest first, and what the first of them replaced or voided elsewhere.
    pub(crate) fn history(&self, hash: IdHash) -> (Vec<HistoryEntry>, Option<Link>) {
        let Some(id) = self.ids.find(hash) else {
            return (Vec::new(), None);
        };
        let mut events = match self.histories.get(&id) {
            Some(events) => events.clone(),
            None => self.only_event(id).into_iter().collect(),
        };
        // What was before the id was forgotten is of another measurement.
        let is_first = |event: &HistoryEntry| event.action == Action::Stored;
        if let Some(first) = events.iter().rposition(is_first) {
            events.drain(..first);
        }
        let before = events
            .first()
            .and_then(|event| self.replaced_by(event.stamp.sequence));
        (events, before)
    }

    /// A stored version as it came in.
    pub(crate) fn measurement(&self, place: RowPlace) -> Option<Measurement> {
        let table = self.table_at(place.table)?;
        let (chunk, at) = table.find(place.row)?;
        self.measurement_of(place.table, &chunk.rows, at)
    }

    pub(crate) fn measurement_of(&self, table: u32, rows: &Rows, at: usize) -> Option<Measurement> {
        let names = RowNames {
            meter: *self.table_meters.get(table as usize)?,
            values: self.table_at(table)?.value_names(),
            attributes: self.table_at(table)?.attribute_names(),
            texts: self.texts.list(),
        };
        names.measurement(self.ids.text(*rows.ids.get(at)?)?, rows, at)
    }

    fn void_at(&self, index: u32) -> Option<&VoidRow> {
        self.voids.get(index as usize)
    }

    fn link(&self, place: RowPlace) -> Option<Link> {
        let (chunk, at) = self.table_at(place.table)?.find(place.row)?;
        let time = Timestamp::from_micros(*chunk.rows.times.get(at)?)?;
        Some(Link {
            partition: Partition {
                meter: *self.table_meters.get(place.table as usize)?,
                month: Month::of(time),
            },
            sequence: *chunk.rows.sequences.get(at)?,
        })
    }

    fn link_to(&mut self, stamp: Stamp, before: Known) {
        self.bytes += LINK_BYTES;
        self.links.insert(stamp.sequence, before.newest);
    }

    /// The version that counted until now does not any more.
    fn retire(&mut self, here: Option<IdNumber>, known: Known) {
        match here
            .and_then(|id| self.ids.entry(id))
            .map(|entry| entry.newest)
        {
            Some(Newest::Row(place)) => {
                if let Some(table) = self.tables.get_mut(place.table as usize) {
                    table.retire(place.row);
                }
            }
            None if known.counts => self.retired.insert(known.newest),
            Some(Newest::Void(_)) | None => {}
        }
    }

    /// Makes an event the newest of its id.
    fn note(
        &mut self,
        known: Option<IdNumber>,
        id: &str,
        entry: IdEntry,
        stamp: Stamp,
        action: Action,
    ) -> IdNumber {
        let Some(number) = known else {
            self.bytes += ID_BYTES + length(id);
            return self.ids.add(id, entry);
        };
        self.bytes += HISTORY_BYTES;
        if !self.histories.contains_key(&number) {
            let first = self.only_event(number).into_iter().collect();
            self.histories.insert(number, first);
        }
        let row = match entry.newest {
            Newest::Row(place) => Some(place),
            Newest::Void(_) => None,
        };
        self.histories
            .entry(number)
            .or_default()
            .push(HistoryEntry { stamp, action, row });
        if let Some(slot) = self.ids.entry_mut(number) {
            *slot = entry;
        }
        number
    }

    fn only_event(&self, id: IdNumber) -> Option<HistoryEntry> {
        match self.ids.entry(id)?.newest {
            Newest::Void(index) => Some(HistoryEntry {
                stamp: self.void_at(index)?.stamp,
                action: Action::Voided,
                row: None,
            }),
            Newest::Row(place) => {
                let (chunk, at) = self.table_at(place.table)?.find(place.row)?;
                let stamp = Stamp {
                    sequence: *chunk.rows.sequences.get(at)?,
                    received: Timestamp::from_micros(*chunk.rows.received.get(at)?)?,
                };
                let replaced = self.links.contains_key(&stamp.sequence);
                Some(HistoryEntry {
                    stamp,
                    action: if replaced {
                        Action::Replaced
                    } else {
                        Action::Stored
                    },
                    row: Some(place),
                })
            }
        }
    }

    fn push_row(&mut self, measurement: &Measurement, id: IdNumber, stamp: Stamp) -> RowPlace {
        let number = self.table_number(measurement.meter);
        self.bytes += ROW_BYTES
            + wide(measurement.values.len()) * VALUE_BYTES
            + wide(measurement.attributes.len()) * ATTRIBUTE_BYTES;
        (self.partitions).note(measurement.meter, measurement.time);
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
        let mut cells = table.add(&row);
        for (name, value) in &measurement.values {
            cells.value(name, value.units());
        }
        for (name, text) in &measurement.attributes {
            cells.attribute(name, texts.number(text.as_str()));
        }
        place
    }

    fn table_number(&mut self, meter: MeterId) -> u32 {
        let next = u32::try_from(self.tables.len()).unwrap_or(u32::MAX);
        *self.table_numbers.entry(meter).or_insert_with(|| {
            self.bytes += TABLE_BYTES;
            self.tables.push(Table::default());
            self.table_meters.push(meter);
            next
        })
    }
}
