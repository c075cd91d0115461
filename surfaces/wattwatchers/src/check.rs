//! What a record must be like to be stored (specs/wattwatchers.md 6.1).

use crate::record::{EnergyRecord, ModbusRecord, Record};
use crate::stream::{DURATION, FREQUENCY, MODBUS_METERS, MODEL, NETS, Quantity, REGISTERS, Stream};
use meterd_fault::{JsonType, Problem, Rule};
use meterd_http::fields::{DecimalRange, Fields, Problems, decimal_rule};
use meterd_http::json::{Json, child, parse};
use meterd_model::{Decimal, Timestamp};

/// Between two records of Long Energy, and the longest that one covers.
const LONG_SECONDS: i64 = 300;
const SHORT_SECONDS_MAX: i64 = 295;
/// Of any stamp; what is past it is milliseconds (4.2).
pub(crate) const STAMP_MAX: i64 = 9_999_999_999;
/// Far more than any circuit has, in any unit; so sums over many years have room.
const VALUE_MAX: i64 = 10_000_000_000_000;
/// Of a register, in hundredths of its unit.
const REGISTER_MAX: i64 = 1_000_000_000_000_000;
/// Longest text of a record, many times what one of six channels has.
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// By how much a net may differ from its parts, in joules.
const NET_TOLERANCE: i64 = 1;

/// What the device allows its records to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) stream: Stream,
    pub(crate) channels: usize,
    /// The last stamp that is not in the future.
    pub(crate) latest: Timestamp,
}

impl Terms {
    /// The record of a text, or all that is wrong with it.
    pub(crate) fn read(&self, text: &[u8]) -> Result<Record, Problems> {
        let mut problems = Problems::default();
        let json = json_of(text, &mut problems);
        let record = json.and_then(|json| {
            let fields = Fields::of_object(json, "", &mut problems)?;
            if self.stream == Stream::Modbus {
                modbus_record(fields).map(Record::Modbus)
            } else {
                self.energy_record(fields).map(Record::Energy)
            }
        });
        let Some(record) = record.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        self.check(&record, &mut problems);
        if problems.is_empty() {
            Ok(record)
        } else {
            Err(problems)
        }
    }

    fn energy_record(&self, mut fields: Fields<'_>) -> Option<EnergyRecord> {
        let stamp = fields.required_integer("timestamp", 0, STAMP_MAX);
        let duration = fields.required_integer(DURATION, 0, i64::MAX);
        let frequency = if self.stream == Stream::Short {
            let range = DecimalRange::AtLeast(Decimal::ZERO);
            let value = fields.required_decimal(FREQUENCY, range);
            bounded(&mut fields, FREQUENCY, value)
        } else {
            None
        };
        let arrays = self.stream.arrays().iter();
        let arrays: Vec<_> = arrays
            .map(|array| numbers(&mut fields, array.name, self.channels))
            .collect();
        fields.finish();
        Some(EnergyRecord {
            stamp: stamp?,
            duration: duration?,
            frequency,
            arrays: arrays.into_iter().collect::<Option<_>>()?,
        })
    }

    /// Notes every rule that a record breaks.
    pub(crate) fn check(&self, record: &Record, problems: &mut Problems) {
        if record.stamp() > self.latest.seconds() {
            let text = "must not be in the future";
            problems
                .push(other("timestamp", "future", text).with_value(&record.stamp().to_string()));
        }
        if let Record::Energy(record) = record {
            self.check_times(record, problems);
            self.check_values(record, problems);
        }
    }

    fn check_times(&self, record: &EnergyRecord, problems: &mut Problems) {
        let duration_max = match self.stream {
            Stream::Long | Stream::Modbus => LONG_SECONDS,
            Stream::Short => SHORT_SECONDS_MAX,
        };
        if !(1..=duration_max).contains(&record.duration) {
            problems.push(Problem::body("/duration", range(1, duration_max)));
        }
        if self.stream == Stream::Long && record.stamp % LONG_SECONDS != 0 {
            let text = "must be a multiple of 300";
            problems.push(other("timestamp", "multiple", text));
        }
    }

    fn check_values(&self, record: &EnergyRecord, problems: &mut Problems) {
        for (array, values) in self.stream.arrays().iter().zip(&record.arrays) {
            let name = array.name;
            for (index, value) in values.iter().enumerate() {
                if let Some(rule) = broken(array.quantity, *value) {
                    problems.push(Problem::body(format!("/{name}/{index}"), rule));
                }
            }
        }
        if self.stream == Stream::Long {
            check_parts(record, problems);
        }
    }
}

/// A tree takes many times the room of its text, which is therefore bounded first. The syntax was right in the whole body.
fn json_of(text: &[u8], problems: &mut Problems) -> Option<Json> {
    let (code, told) = if text.len() > RECORD_BYTES_MAX {
        let told = format!("must not be longer than {RECORD_BYTES_MAX} bytes");
        ("length", told)
    } else {
        match parse(text, "", problems) {
            Ok(json) => return Some(json),
            Err(kind) => ("json", kind.to_string()),
        }
    };
    let text = told.into();
    problems.push(Problem::body("", Rule::Other { code, text }));
    None
}

/// What relates the arrays of Long Energy to each other.
fn check_parts(record: &EnergyRecord, problems: &mut Problems) {
    let array = |name: &str| {
        let place = Stream::Long.place_of(name);
        let values = place.and_then(|place| record.arrays.get(place));
        values.map_or(&[][..], Vec::as_slice)
    };
    for [net, positive, negative] in NETS {
        let parts = array(positive).iter().zip(array(negative));
        for (index, (net_value, (plus, minus))) in array(net).iter().zip(parts).enumerate() {
            let off = (plus.checked_sub(*minus))
                .and_then(|parts| net_value.checked_sub(parts))
                .map_or(Decimal::MAX, Decimal::abs);
            if off > Decimal::from(NET_TOLERANCE) {
                let text = format!("must be {positive} less {negative}");
                let rule = Rule::Other {
                    code: "net",
                    text: text.into(),
                };
                problems.push(Problem::body(format!("/{net}/{index}"), rule));
            }
        }
    }
    for (low, high) in [("vRMSMin", "vRMSMax"), ("iRMSMin", "iRMSMax")] {
        let pairs = array(low).iter().zip(array(high));
        for (index, _) in pairs.enumerate().filter(|(_, (low, high))| low > high) {
            let rule = Rule::Other {
                code: "order",
                text: format!("must not be above {high}").into(),
            };
            problems.push(Problem::body(format!("/{low}/{index}"), rule));
        }
    }
}

fn broken(quantity: Quantity, value: Decimal) -> Option<Rule> {
    let min = match quantity {
        Quantity::NetEnergy => -VALUE_MAX,
        Quantity::Energy | Quantity::Volts | Quantity::Amperes => 0,
    };
    if quantity.is_energy() && value.to_integer().is_none() {
        return Some(Rule::Type {
            expected: JsonType::Integer,
        });
    }
    let is_within = value >= Decimal::from(min) && value <= Decimal::from(VALUE_MAX);
    (!is_within).then(|| range(min, VALUE_MAX))
}

fn range(min: i64, max: i64) -> Rule {
    Rule::Range {
        min: Some(min.to_string()),
        max: Some(max.to_string()),
    }
}

fn other(name: &str, code: &'static str, text: &'static str) -> Problem {
    let rule = Rule::Other {
        code,
        text: text.into(),
    };
    Problem::body(format!("/{name}"), rule)
}

/// An array of a number for each channel, each exactly as it is written.
fn numbers(fields: &mut Fields<'_>, name: &'static str, channels: usize) -> Option<Vec<Decimal>> {
    let Json::Array(items) = fields.require(name)? else {
        let expected = JsonType::Array;
        fields.refuse(name, Rule::Type { expected });
        return None;
    };
    if items.len() != channels {
        let text = format!("must have {channels} items, one for each channel");
        let rule = Rule::Other {
            code: "channels",
            text: text.into(),
        };
        fields.refuse(name, rule);
        return None;
    }
    let mut values = Vec::with_capacity(channels);
    for (index, item) in items.iter().enumerate() {
        match number(item) {
            Ok(value) => values.push(value),
            Err(rule) => {
                let place = child(&format!("/{name}"), &index.to_string());
                fields.problems().push(Problem::body(place, rule));
            }
        }
    }
    Some(values)
}

fn number(item: &Json) -> Result<Decimal, Rule> {
    match item {
        Json::Number(text) => Decimal::parse(text.as_bytes()).map_err(decimal_rule),
        _ => Err(Rule::Type {
            expected: JsonType::Number,
        }),
    }
}

fn bounded(fields: &mut Fields<'_>, name: &str, value: Option<Decimal>) -> Option<Decimal> {
    let value = value?;
    if value.abs() > Decimal::from(VALUE_MAX) {
        fields.refuse(name, range(-VALUE_MAX, VALUE_MAX));
        return None;
    }
    Some(value)
}

fn modbus_record(mut fields: Fields<'_>) -> Option<ModbusRecord> {
    let stamp = fields.required_integer("timestamp", 0, STAMP_MAX);
    let models = MODBUS_METERS.map(|(model, readings)| (model, (model, readings)));
    let model = fields.required_choice(MODEL, &models);
    let mut readings = Vec::new();
    for name in REGISTERS {
        let value = fields.required_integer(name, -REGISTER_MAX, REGISTER_MAX);
        readings.extend(value.map(|value| (name, Decimal::from(value))));
    }
    let (model, names) = model?;
    for name in names {
        let value = fields.decimal(name, DecimalRange::Any);
        let value = bounded(&mut fields, name, value);
        readings.extend(value.map(|value| (*name, value)));
    }
    fields.finish();
    Some(ModbusRecord {
        stamp: stamp?,
        model: model.to_owned(),
        readings,
    })
}
