//! Records as devices send them and clients read them, and the measurements that they are kept as.

use crate::serial::Serial;
use crate::stream::{CHANNEL, DURATION, FREQUENCY, MODEL, Stream, modbus_field};
use meterd_fault::Fault;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, Subject, Timestamp,
};
use std::sync::LazyLock;

/// One record of Long or Short Energy, or one bucket of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnergyRecord {
    /// Seconds since 1970: the interval's end, or the bucket's start.
    pub(crate) stamp: i64,
    /// Seconds.
    pub(crate) duration: i64,
    /// Hertz; Short Energy only.
    pub(crate) frequency: Option<Decimal>,
    /// In the order of [`Stream::arrays`]; each has a value for each channel.
    pub(crate) arrays: Vec<Vec<Decimal>>,
}

/// One record of Modbus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModbusRecord {
    /// Seconds since 1970.
    pub(crate) stamp: i64,
    /// Of the Modbus meter, e.g. `PMC-220`.
    pub(crate) model: String,
    /// By name on the wire.
    pub(crate) readings: Vec<(&'static str, Decimal)>,
}

/// What a device sends as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Energy(EnergyRecord),
    Modbus(ModbusRecord),
}

impl Record {
    pub(crate) fn stamp(&self) -> i64 {
        match self {
            Self::Energy(record) => record.stamp,
            Self::Modbus(record) => record.stamp,
        }
    }

    pub(crate) fn measurements(&self, place: &Place) -> Result<Vec<Measurement>, Fault> {
        match self {
            Self::Energy(record) => record.measurements(place),
            Self::Modbus(record) => Ok(vec![record.measurement(place)?]),
        }
    }
}

/// Where a record's measurements belong.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) stream: Stream,
    pub(crate) meter: MeterId,
    pub(crate) serial: Serial,
}

impl Place {
    fn measurement(
        &self,
        stamp: i64,
        channel: Option<u8>,
        values: Vec<(FieldName, Decimal)>,
        attribute: (FieldName, AttributeValue),
    ) -> Result<Measurement, Fault> {
        let Self {
            stream,
            meter,
            serial,
        } = self;
        let id = match channel {
            Some(channel) => format!("{serial}/{}/{stamp}/{channel}", stream.word()),
            None => format!("{serial}/{}/{stamp}", stream.word()),
        };
        Ok(Measurement {
            id: MeasurementId::new(id).map_err(Fault::internal)?,
            meter: *meter,
            subject: Subject::new(serial.as_str()).map_err(Fault::internal)?,
            time: Timestamp::from_seconds(stamp)
                .ok_or_else(|| Fault::internal("a stamp that is no time"))?,
            end_time: None,
            values,
            attributes: vec![attribute],
        })
    }
}

impl EnergyRecord {
    /// One for each channel.
    pub(crate) fn measurements(&self, place: &Place) -> Result<Vec<Measurement>, Fault> {
        let names = names(place.stream);
        let channels = self.arrays.first().map_or(0, Vec::len);
        let channels = u8::try_from(channels).map_err(Fault::internal)?;
        (1..=channels)
            .map(|channel| {
                let index = usize::from(channel - 1);
                let arrays = names.arrays.iter().zip(&self.arrays);
                let mut values: Vec<_> = arrays
                    .filter_map(|(name, array)| Some((name.clone(), *array.get(index)?)))
                    .collect();
                values.push((names.duration.clone(), Decimal::from(self.duration)));
                if let Some(frequency) = self.frequency {
                    values.push((names.frequency.clone(), frequency));
                }
                let number = AttributeValue::new(channel.to_string()).map_err(Fault::internal)?;
                let attribute = (names.channel.clone(), number);
                place.measurement(self.stamp, Some(channel), values, attribute)
            })
            .collect()
    }
}

impl ModbusRecord {
    pub(crate) fn measurement(&self, place: &Place) -> Result<Measurement, Fault> {
        let field = |name: &str| FieldName::new(name).map_err(Fault::internal);
        let values = (self.readings.iter())
            .map(|(name, value)| Ok((field(modbus_field(name))?, *value)))
            .collect::<Result<Vec<_>, Fault>>()?;
        let model = AttributeValue::new(&self.model).map_err(Fault::internal)?;
        place.measurement(self.stamp, None, values, (field(MODEL)?, model))
    }
}

/// The fields of an energy stream, which need be checked only once.
#[derive(Debug)]
pub(crate) struct Names {
    /// In the order of [`Stream::arrays`].
    pub(crate) arrays: Vec<FieldName>,
    pub(crate) duration: FieldName,
    pub(crate) frequency: FieldName,
    pub(crate) channel: FieldName,
}

pub(crate) fn names(stream: Stream) -> &'static Names {
    static LONG: LazyLock<Names> = LazyLock::new(|| Names::of(Stream::Long));
    static SHORT: LazyLock<Names> = LazyLock::new(|| Names::of(Stream::Short));
    match stream {
        Stream::Long | Stream::Modbus => &LONG,
        Stream::Short => &SHORT,
    }
}

impl Names {
    #[expect(clippy::expect_used, reason = "the names are literals")]
    fn of(stream: Stream) -> Self {
        let field = |name| FieldName::new(name).expect("a field's name");
        let arrays = stream.arrays().iter();
        Self {
            arrays: arrays.map(|array| field(array.name)).collect(),
            duration: field(DURATION),
            frequency: field(FREQUENCY),
            channel: field(CHANNEL),
        }
    }
}
