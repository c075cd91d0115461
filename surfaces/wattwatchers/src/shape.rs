//! How a record is shown: channels put together by phase, energy as power, some fields more or fewer
//! (specs/wattwatchers.md 3.6, 3.10, 5).

use crate::asked::word;
use crate::device::Device;
use crate::record::{EnergyRecord, ModbusRecord, Record};
use crate::stream::{Array, Combine, Quantity, Stream};
use meterd_fault::{Fault, Problem, Rule};
use meterd_http::ExactNumber;
use meterd_http::fields::Fields;
use meterd_model::{Decimal, DecimalSum, Rounding};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

const FIELDS: &str = "fields[energy]";
const GROUP: &str = "filter[group]";
const CONVERT: &str = "convert[energy]";
const JOULES_PER_KWH: f64 = 3_600_000.0;
/// Digits after the point that the mean of some voltages keeps.
const MEAN_DIGITS: i32 = 1;

/// What `fields[energy]` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All fields, and the power factor.
    PowerFactor,
    Timestamp,
}

/// What lists of energy can select.
pub(crate) const OF_LISTS: &[(&str, Selection)] = &[("+pf", Selection::PowerFactor)];
/// What single records of energy can.
pub(crate) const OF_RECORDS: &[(&str, Selection)] = &[
    ("+pf", Selection::PowerFactor),
    ("timestamp", Selection::Timestamp),
];
/// What single records of Modbus can.
pub(crate) const OF_MODBUS: &[(&str, Selection)] = &[("timestamp", Selection::Timestamp)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conversion {
    Energy,
    /// The average over the record.
    Power,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    by_phase: bool,
    selection: Option<Selection>,
    conversion: Option<Conversion>,
}

impl Shape {
    pub(crate) fn read(fields: &mut Fields<'_>, selections: &[(&'static str, Selection)]) -> Self {
        let conversions = [("kWh", Conversion::Energy), ("kW", Conversion::Power)];
        Self {
            by_phase: word(fields, GROUP, &[("phases", ())]).is_some(),
            selection: word(fields, FIELDS, selections),
            conversion: word(fields, CONVERT, &conversions),
        }
    }

    /// Of records of Modbus, which are only shown as they are or by their stamp.
    pub(crate) fn read_modbus(fields: &mut Fields<'_>) -> Self {
        Self {
            selection: word(fields, FIELDS, OF_MODBUS),
            ..Self::default()
        }
    }

    /// Refuses options that exclude each other.
    pub(crate) fn check(self) -> Result<(), Fault> {
        if self.by_phase && self.selection.is_some() {
            let other = GROUP.into();
            return Err(Fault::invalid(Problem::query(
                FIELDS,
                Rule::ExcludedBy { other },
            )));
        }
        Ok(())
    }

    /// The record as the API shows it.
    pub(crate) fn view(
        self,
        record: Record,
        device: &Device,
        stream: Stream,
    ) -> Result<View, Fault> {
        if self.selection == Some(Selection::Timestamp) {
            return Ok(View(vec![timestamp(record.stamp())]));
        }
        match record {
            Record::Modbus(record) => Ok(modbus_view(record)),
            Record::Energy(mut record) => {
                let phases = &device.phases.grouping;
                if self.by_phase && !phases.is_empty() {
                    record.collapse(stream.arrays(), phases)?;
                }
                Ok(self.energy_view(&record, stream.arrays()))
            }
        }
    }

    fn energy_view(self, record: &EnergyRecord, arrays: &[Array]) -> View {
        let mut members = vec![timestamp(record.stamp)];
        members.push(("duration".into(), Member::Integer(record.duration)));
        let frequency = record
            .frequency
            .map(|hertz| ("frequency".into(), number(hertz)));
        members.extend(frequency);
        for (array, values) in arrays.iter().zip(&record.arrays) {
            let converted = self.conversion.filter(|_| array.quantity.is_energy());
            members.push(match converted {
                None => (array.name.into(), exact(values)),
                Some(conversion) => {
                    let values = values
                        .iter()
                        .map(|joules| conversion.of(*joules, record.duration));
                    (
                        conversion.name(array.name).into(),
                        Member::Doubles(values.collect()),
                    )
                }
            });
        }
        if self.selection == Some(Selection::PowerFactor) {
            members.push(("pf".into(), Member::Doubles(power_factors(record, arrays))));
        }
        View(members)
    }
}

impl Conversion {
    /// Doubles without rounding, as the original has them.
    fn of(self, joules: Decimal, duration: i64) -> f64 {
        let joules = double(joules);
        match self {
            Self::Energy => joules / JOULES_PER_KWH,
            Self::Power if duration == 0 => 0.0,
            Self::Power => joules / (1000.0 * double(Decimal::from(duration))),
        }
    }

    /// `eReal` becomes `eRealKwh` or `pRealKw`.
    fn name(self, name: &str) -> String {
        match self {
            Self::Energy => format!("{name}Kwh"),
            Self::Power => format!("p{}Kw", name.strip_prefix('e').unwrap_or(name)),
        }
    }
}

impl EnergyRecord {
    /// One value for each phase in place of one for each channel; a channel of no phase is left out.
    fn collapse(&mut self, arrays: &[Array], phases: &[Vec<u8>]) -> Result<(), Fault> {
        for (array, values) in arrays.iter().zip(&mut self.arrays) {
            let of_phase = |channels: &Vec<u8>| {
                let places = channels
                    .iter()
                    .map(|number| usize::from(*number).checked_sub(1));
                let members = places.filter_map(|place| values.get(place?).copied());
                array.combine.of(members)
            };
            *values = phases.iter().map(of_phase).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

impl Combine {
    /// What some values become; 0 where there is none.
    pub(crate) fn of(self, values: impl Iterator<Item = Decimal>) -> Result<Decimal, Fault> {
        let zero = Some(Decimal::ZERO);
        let combined = match self {
            Self::Min => values.min().or(zero),
            Self::Max => values.max().or(zero),
            Self::Sum => total(values).0.to_decimal(),
            Self::Mean => {
                let (sum, count) = total(values);
                let rounded =
                    |mean: DecimalSum| mean.to_decimal()?.round_at(MEAN_DIGITS, Rounding::HalfUp);
                sum.mean(count).map_or(zero, rounded)
            }
        };
        combined.ok_or_else(|| Fault::internal("more energy than there is"))
    }
}

fn total(values: impl Iterator<Item = Decimal>) -> (DecimalSum, u64) {
    values.fold((DecimalSum::ZERO, 0), |(mut sum, count), value| {
        sum.add(value);
        (sum, count + 1)
    })
}

/// Of each channel: real energy by apparent energy, with the sign of the former, and 1 without load (5).
fn power_factors(record: &EnergyRecord, arrays: &[Array]) -> Vec<f64> {
    // Each direction has arrays of its own beside these two.
    let mut nets = (arrays.iter().zip(&record.arrays))
        .filter(|(array, _)| array.quantity == Quantity::NetEnergy)
        .map(|(_, values)| values);
    let (Some(real), Some(reactive)) = (nets.next(), nets.next()) else {
        return Vec::new();
    };
    let pairs = real.iter().zip(reactive);
    let factor = |(real, reactive): (&Decimal, &Decimal)| {
        let (real, reactive) = (double(*real), double(*reactive));
        let apparent = (real * real + reactive * reactive).sqrt();
        if apparent > 0.0 { real / apparent } else { 1.0 }
    };
    pairs.map(factor).collect()
}

/// The double next to a decimal.
fn double(value: Decimal) -> f64 {
    value.to_string().parse().unwrap_or_default()
}

/// A record's members in the order they are shown.
#[derive(Debug)]
pub(crate) struct View(Vec<(Cow<'static, str>, Member)>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Member {
    Integer(i64),
    Number(ExactNumber),
    Text(String),
    Exact(Vec<ExactNumber>),
    Doubles(Vec<f64>),
}

impl Serialize for View {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, member) in &self.0 {
            map.serialize_entry(name, member)?;
        }
        map.end()
    }
}

fn timestamp(stamp: i64) -> (Cow<'static, str>, Member) {
    ("timestamp".into(), Member::Integer(stamp))
}

fn number(value: Decimal) -> Member {
    Member::Number(ExactNumber(value))
}

fn exact(values: &[Decimal]) -> Member {
    Member::Exact(values.iter().copied().map(ExactNumber).collect())
}

fn modbus_view(record: ModbusRecord) -> View {
    let mut members = vec![timestamp(record.stamp)];
    members.push(("model".into(), Member::Text(record.model)));
    let readings = record.readings.into_iter();
    members.extend(readings.map(|(name, value)| (name.into(), number(value))));
    View(members)
}
