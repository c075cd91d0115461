//! Records read back from the measurements that they are kept as, raw or summed up in buckets
//! (specs/wattwatchers.md 3.11, 4).

use crate::app::App;
use crate::asked::Asked;
use crate::bucket::Granularity;
use crate::device::Device;
use crate::model::CHANNELS_MAX;
use crate::period::Range;
use crate::record::{EnergyRecord, ModbusRecord, Record, names};
use crate::shape::Shape;
use crate::stream::{
    Array, CHANNEL, Combine, MODBUS_METERS, MODEL, REGISTERS, Stream, modbus_field,
};
use axum::response::{IntoResponse, Response};
use meterd_control::Stored;
use meterd_engine::{
    Aggregation, Cancel, Filter, Function, GroupKey, ListOrder, Listed, Listing, Number, Query,
};
use meterd_fault::Fault;
use meterd_http::{Failure, LongWork, NoContent, Reply, query_fault};
use meterd_model::{Decimal, FieldName, Measurement, MeterId, Subject, Timestamp, Zone};
use std::iter;
use std::sync::Arc;

/// Measurements that are read at a time.
const PAGE_ROWS: usize = 6000;

/// One stream of a device, to be read.
#[derive(Debug)]
pub(crate) struct Source {
    app: App,
    device: Arc<Stored<Device>>,
    stream: Stream,
    subject: Subject,
    /// None: the account has no measurement of the stream.
    meter: Option<MeterId>,
    cancel: Cancel,
}

/// Which single record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Latest,
}

impl Asked {
    /// Answers from a stream of the device, away from the threads that serve connections and within the bounds of all
    /// queries.
    pub(crate) async fn answer(
        self,
        stream: Stream,
        answer: impl FnOnce(&Source) -> Result<Response, Fault> + Send + 'static,
    ) -> Result<Response, Failure> {
        let Self { app, device, .. } = self;
        let account = device.organization;
        let meter = app.find_meter(account, stream)?;
        let subject = Subject::new(device.document.serial.as_str()).map_err(Fault::internal)?;
        let response = app.query(account, move |app, cancel| {
            answer(&Source {
                app: app.clone(),
                device,
                stream,
                subject,
                meter: meter.map(|meter| MeterId(meter.id)),
                cancel: cancel.clone(),
            })
        });
        Ok(response.await?)
    }

    /// Answers with the first or latest record.
    pub(crate) async fn answer_single(
        self,
        stream: Stream,
        end: End,
        shape: Shape,
    ) -> Result<Response, Failure> {
        let answer = move |source: &Source| match source.single(end)? {
            None => Ok(NoContent.into_response()),
            Some(record) => {
                let view = shape.view(record, &source.device.document, stream)?;
                Ok(Reply::ok(view).into_response())
            }
        };
        self.answer(stream, answer).await
    }
}

impl Source {
    /// Records as the API shows them. None in a period is an empty list, but none at all is no content (3.11).
    pub(crate) fn reply(&self, records: Vec<Record>, shape: Shape) -> Result<Response, Fault> {
        let device = &self.device.document;
        // The mark that there was some is written after the first records.
        let is_marked = device.reported.contains(&self.stream);
        if records.is_empty() && !is_marked && self.single(End::Latest)?.is_none() {
            return Ok(NoContent.into_response());
        }
        let records = records.into_iter();
        let views = records.map(|record| shape.view(record, device, self.stream));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        Ok(Reply::ok(views).into_response())
    }

    /// The record of the lowest or highest stamp.
    pub(crate) fn single(&self, end: End) -> Result<Option<Record>, Fault> {
        let order = match end {
            End::First => ListOrder::OldestFirst,
            End::Latest => ListOrder::NewestFirst,
        };
        let (rows, _) = self.list(None, order, CHANNELS_MAX)?;
        Ok(self.records_of(&rows)?.into_iter().next())
    }

    /// All records of a range as they came, oldest first.
    pub(crate) fn records(&self, range: Range) -> Result<Vec<Record>, Fault> {
        let mut records = Vec::new();
        let (mut from, to) = (time(range.from)?, time(range.to)?);
        while from < to {
            let (mut rows, more) =
                self.list(Some((from, to)), ListOrder::OldestFirst, PAGE_ROWS)?;
            let stamp_of = |row: Option<&Listed>| row.map(|row| row.measurement.time.seconds());
            // A page is a snapshot of its own: the record at its end, of which there may be more, is left to the next.
            from = match (stamp_of(rows.first()), stamp_of(rows.last())) {
                (Some(first), Some(last)) if more && first < last => time(last)?,
                (_, Some(last)) if more => time(last + 1)?,
                _ => to,
            };
            rows.retain(|row| row.measurement.time < from);
            records.extend(self.records_of(&rows)?);
        }
        Ok(records)
    }

    /// The records of a range in buckets, oldest first. A bucket has the records of the range alone, and its own stamp
    /// also where that is before the range.
    pub(crate) fn buckets(
        &self,
        range: Range,
        granularity: Granularity,
        zone: &Zone,
    ) -> Result<Vec<Record>, Fault> {
        let (from, to) = (time(range.from)?, time(range.to)?);
        let Some(meter) = self.meter.filter(|_| from < to) else {
            return Ok(Vec::new());
        };
        let names = names(self.stream);
        let arrays = self.stream.arrays();
        let of_field = |function, field: &FieldName| Aggregation {
            function,
            field: Some(field.clone()),
        };
        let duration = iter::once(of_field(Function::Sum, &names.duration));
        let values = arrays.iter().zip(&names.arrays);
        let query = Query {
            meter,
            from,
            to,
            zone: zone.clone(),
            window: granularity.window(),
            group_by: vec![GroupKey::Attribute(names.channel.clone())],
            filter: self.filter(),
            aggregations: duration
                .chain(values.map(|(array, name)| of_field(array.combine.function(), name)))
                .collect(),
            order_by: Vec::new(),
            offset: 0,
            limit: usize::MAX,
        };
        let engine = &self.app.engine;
        let answer = engine.query(self.device.organization, &query, &self.cancel);
        let mut drafts = Drafts::new(self.stream, &self.device.document);
        for row in answer.map_err(query_fault)?.rows {
            let channel = row.group.first().and_then(Option::as_deref);
            let mut numbers = row.values.into_iter().map(decimal);
            let duration = numbers.next().unwrap_or(Ok(Decimal::ZERO))?;
            let share = Share {
                duration,
                frequency: None,
                values: numbers.collect::<Result<_, _>>()?,
            };
            drafts.add(granularity.start(row.from, zone), channel, share)?;
        }
        Ok(drafts.finish())
    }

    fn filter(&self) -> Filter {
        Filter {
            subjects: Some(vec![self.subject.clone()]),
            ..Filter::default()
        }
    }

    /// Measurements of the stream, of a period or of all times, and whether there are more.
    fn list(
        &self,
        period: Option<(Timestamp, Timestamp)>,
        order: ListOrder,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool), Fault> {
        if self.meter.is_none() {
            return Ok((Vec::new(), false));
        }
        let listing = Listing {
            meter: self.meter,
            filter: self.filter(),
            from: period.map(|(from, _)| from),
            to: period.map(|(_, to)| to),
            order,
            limit,
            ..Listing::default()
        };
        let engine = &self.app.engine;
        let page = engine.list(self.device.organization, &listing, &self.cancel);
        let page = page.map_err(query_fault)?;
        Ok((page.measurements, page.next.is_some()))
    }

    /// The records that measurements of a listing belong to, in its order.
    fn records_of(&self, rows: &[Listed]) -> Result<Vec<Record>, Fault> {
        let measurements = rows.iter().map(|row| &row.measurement);
        if self.stream == Stream::Modbus {
            let records =
                measurements.map(|measurement| Record::Modbus(modbus_record(measurement)));
            return Ok(records.collect());
        }
        let names = names(self.stream);
        let mut drafts = Drafts::new(self.stream, &self.device.document);
        for measurement in measurements {
            let channel = attribute(measurement, CHANNEL);
            let share = Share {
                duration: value(measurement, &names.duration).unwrap_or_default(),
                frequency: value(measurement, &names.frequency),
                values: (names.arrays.iter())
                    .map(|name| value(measurement, name).unwrap_or_default())
                    .collect(),
            };
            drafts.add(measurement.time.seconds(), channel, share)?;
        }
        Ok(drafts.finish())
    }
}

/// Records whose channels come one by one, those of one stamp next to each other.
struct Drafts {
    arrays: &'static [Array],
    channels: usize,
    records: Vec<Draft>,
}

struct Draft {
    stamp: i64,
    /// What is not there shows as 0: an array has a value for each channel of the device.
    channels: Vec<Option<Share>>,
}

/// What a channel has of a record.
struct Share {
    duration: Decimal,
    frequency: Option<Decimal>,
    /// In the order of the arrays.
    values: Vec<Decimal>,
}

impl Drafts {
    fn new(stream: Stream, device: &Device) -> Self {
        Self {
            arrays: stream.arrays(),
            channels: device.channels.len(),
            records: Vec::new(),
        }
    }

    /// Shares of one channel and stamp are combined. One of no channel of the device has no place: it came another way.
    fn add(&mut self, stamp: i64, channel: Option<&str>, share: Share) -> Result<(), Fault> {
        if self.records.last().is_none_or(|draft| draft.stamp != stamp) {
            let channels = iter::repeat_with(|| None).take(self.channels).collect();
            self.records.push(Draft { stamp, channels });
        }
        let place = channel.and_then(|number| number.parse::<usize>().ok()?.checked_sub(1));
        let slot = (self.records.last_mut()).and_then(|draft| draft.channels.get_mut(place?));
        match slot {
            None => {}
            Some(Some(known)) => known.merge(share, self.arrays)?,
            Some(slot) => *slot = Some(share),
        }
        Ok(())
    }

    fn finish(self) -> Vec<Record> {
        let arrays = self.arrays.len();
        let records = self.records.into_iter().map(|draft| draft.record(arrays));
        records.map(Record::Energy).collect()
    }
}

impl Draft {
    fn record(self, arrays: usize) -> EnergyRecord {
        let first = self.channels.iter().flatten().next();
        let array = |array| {
            let shares = self.channels.iter().map(Option::as_ref);
            let values = shares.map(|share| share.and_then(|share| share.values.get(array)));
            values
                .map(|value| value.copied().unwrap_or_default())
                .collect()
        };
        EnergyRecord {
            stamp: self.stamp,
            duration: first.map_or(0, |share| whole(share.duration)),
            frequency: first.and_then(|share| share.frequency),
            arrays: (0..arrays).map(array).collect(),
        }
    }
}

impl Share {
    fn merge(&mut self, other: Self, arrays: &[Array]) -> Result<(), Fault> {
        self.duration = Combine::Sum.of([self.duration, other.duration].into_iter())?;
        for ((array, value), other) in arrays.iter().zip(&mut self.values).zip(other.values) {
            *value = array.combine.of([*value, other].into_iter())?;
        }
        Ok(())
    }
}

impl Combine {
    fn function(self) -> Function {
        match self {
            Self::Sum => Function::Sum,
            Self::Min => Function::Min,
            Self::Max => Function::Max,
            Self::Mean => Function::Mean,
        }
    }
}

fn modbus_record(measurement: &Measurement) -> ModbusRecord {
    let model = attribute(measurement, MODEL).unwrap_or_default();
    let meter = MODBUS_METERS.iter().find(|(name, _)| *name == model);
    let own = meter.map_or(&[][..], |(_, readings)| readings);
    let readings = REGISTERS.iter().chain(own).filter_map(|name| {
        let field = modbus_field(name);
        let found = (measurement.values.iter()).find(|(known, _)| known.as_str() == field);
        found.map(|(_, value)| (*name, *value))
    });
    ModbusRecord {
        stamp: measurement.time.seconds(),
        model: model.to_owned(),
        readings: readings.collect(),
    }
}

fn attribute<'a>(measurement: &'a Measurement, name: &str) -> Option<&'a str> {
    let mut attributes = measurement.attributes.iter();
    let (_, text) = attributes.find(|(known, _)| known.as_str() == name)?;
    Some(text.as_str())
}

fn value(measurement: &Measurement, name: &FieldName) -> Option<Decimal> {
    let mut values = measurement.values.iter();
    values
        .find(|(known, _)| known == name)
        .map(|(_, value)| *value)
}

fn whole(value: Decimal) -> i64 {
    let integer = value.to_integer().map(i64::try_from);
    integer.and_then(Result::ok).unwrap_or_default()
}

/// A number of an answer; 0 where no measurement has it.
fn decimal(number: Option<Number>) -> Result<Decimal, Fault> {
    match number {
        None => Ok(Decimal::ZERO),
        Some(Number::Decimal(sum)) => sum
            .to_decimal()
            .ok_or_else(|| Fault::internal("more energy than there is")),
        Some(Number::Count(_)) => Err(Fault::internal("a count that nobody asked for")),
    }
}

fn time(stamp: i64) -> Result<Timestamp, Fault> {
    Timestamp::from_seconds(stamp).ok_or_else(|| Fault::internal("a stamp that is no time"))
}
