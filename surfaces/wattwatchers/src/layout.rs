//! Tables of Long Energy as other programs write them, a record in each row (specs/wattwatchers.md 6.3).
//!
//! The header tells which of three layouts a table has. A row becomes the JSON that a device would send, so that files and
//! devices are held to the same rules. What a table does not have of a record is filled in: both directions follow from the
//! net, volts and amperes are 0. Where a table in kWh or kW has rounded a net and its directions each by itself, the net
//! follows from them.

use crate::model::CHANNELS_MAX;
use crate::serial::Serial;
use crate::stream::{Array, NETS, Quantity, Stream};
use meterd_model::{Decimal, Rounding, Timestamp};
use std::fmt::Write as _;

/// Least digits after the point that converted energy is taken to have: a thousandth of a kWh is what 12 W come to in five
/// minutes.
const DIGITS_MIN: i64 = 3;

/// What the columns of a table mean.
#[derive(Clone, Debug)]
pub struct Layout {
    columns: usize,
    device: usize,
    timestamp: usize,
    duration: usize,
    cells: Vec<Cell>,
}

/// A column with a value of one channel.
#[derive(Clone, Copy, Debug)]
struct Cell {
    column: usize,
    /// In [`Stream::arrays`].
    array: usize,
    /// From 0.
    channel: usize,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// As a record has it.
    Own,
    KilowattHours,
    /// On average over the duration.
    Kilowatts,
}

/// A row of a table as a device would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRow {
    pub serial: Serial,
    /// A record of Long Energy, in JSON.
    pub record: String,
}

impl Layout {
    /// `None` for a header that has none of the three.
    pub fn of_header(names: &[&str]) -> Option<Self> {
        let column = |wanted: &str| names.iter().position(|name| name.trim() == wanted);
        let cells = (names.iter().enumerate())
            .filter_map(|(column, name)| cell_of(column, name.trim()))
            .collect::<Vec<_>>();
        let has_net = cells.iter().any(|cell| cell.array == 0);
        Some(Self {
            columns: names.len(),
            device: column("device_id")?,
            timestamp: column("timestamp")?,
            duration: column("duration")?,
            cells,
        })
        .filter(|_| has_net)
    }

    /// What a row says, or why it says nothing.
    pub fn row(&self, row: &[&str]) -> Result<LayoutRow, String> {
        if row.len() != self.columns {
            // Which one is missing, or one too many, cannot be told.
            let (cells, columns) = (row.len(), self.columns);
            return Err(format!("{cells} cells below {columns} names"));
        }
        let cell = |column: usize| row.get(column).map_or("", |cell| cell.trim());
        let device = cell(self.device);
        let serial = Serial::parse(device)
            .ok_or_else(|| format!("device_id {device:?} is no serial number"))?;
        let stamp = stamp_of(cell(self.timestamp))?;
        let duration = number(cell(self.duration))
            .and_then(Decimal::to_integer)
            .ok_or_else(|| format!("duration {:?} is no integer", cell(self.duration)))?;
        let mut arrays = vec![[None; CHANNELS_MAX]; Stream::Long.arrays().len()];
        let mut digits = arrays.clone();
        for known in &self.cells {
            let text = cell(known.column);
            if text.is_empty() {
                continue;
            }
            let value = number(text)
                .and_then(|value| known.unit.in_record(value, duration))
                .ok_or_else(|| format!("{text:?} is no number"))?;
            let digit = known.unit.last_digit(text, duration);
            for (rows, value) in [(&mut arrays, Some(value)), (&mut digits, digit)] {
                let slot = rows.get_mut(known.array);
                if let Some(slot) = slot.and_then(|row| row.get_mut(known.channel)) {
                    *slot = value;
                }
            }
        }
        settle_nets(&mut arrays, &digits);
        let net = arrays.first().copied().unwrap_or_default();
        Ok(LayoutRow {
            serial,
            record: record_of(stamp, duration, channels_of(&net)?, &arrays),
        })
    }
}

/// Vendor's notebooks: `eReal_0`, `eRealKwh_0`, `pRealKw_0`; fleet exports: `C1_ereal_kWh`; simple ones: `c1_j`.
fn cell_of(column: usize, name: &str) -> Option<Cell> {
    let (channel, field) = match name
        .strip_prefix(['C', 'c'])
        .and_then(|r| r.split_once('_'))
    {
        Some((number, field)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            (number.parse::<usize>().ok()?.checked_sub(1)?, field)
        }
        _ => {
            let (field, number) = name.rsplit_once('_')?;
            (number.parse().ok()?, field)
        }
    };
    let (array, unit) = field_of(field)?;
    (channel < CHANNELS_MAX).then_some(Cell {
        column,
        array,
        channel,
        unit,
    })
}

fn field_of(field: &str) -> Option<(usize, Unit)> {
    if field == "j" {
        return Some((0, Unit::Own));
    }
    let lower = field.to_ascii_lowercase();
    let stripped = |suffixes: &[&str]| {
        let mut suffixes = suffixes.iter();
        suffixes.find_map(|suffix| lower.strip_suffix(suffix))
    };
    let (base, unit) = if let Some(base) = stripped(&["_kwh", "_kvarh", "kwh"]) {
        (base.to_owned(), Unit::KilowattHours)
    } else if let Some(base) = stripped(&["kw"]).and_then(|base| base.strip_prefix('p')) {
        // Power goes by names of its own.
        (format!("e{base}"), Unit::Kilowatts)
    } else {
        (lower.clone(), Unit::Own)
    };
    let arrays = Stream::Long.arrays();
    let found = arrays
        .iter()
        .position(|array| array.name.eq_ignore_ascii_case(&base))?;
    let is_energy = arrays.get(found)?.quantity.is_energy();
    (is_energy || unit == Unit::Own).then_some((found, unit))
}

impl Unit {
    /// Energy in whole joules.
    fn in_record(self, value: Decimal, duration: i128) -> Option<Decimal> {
        if self == Self::Own {
            return Some(value);
        }
        let joules = value.checked_mul(self.joules(duration)?)?;
        joules.round_at(0, Rounding::HalfUp)
    }

    /// What one of the last digit of a number comes to, in joules; `None` of what is not converted.
    fn last_digit(self, text: &str, duration: i128) -> Option<Decimal> {
        if self == Self::Own {
            return None;
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let fraction = mantissa.split_once('.').map_or("", |(_, digits)| digits);
        let digits =
            i64::try_from(fraction.len()).ok()? - exponent.parse::<i32>().map_or(0, i64::from);
        let digits = u32::try_from(digits.max(DIGITS_MIN)).ok()?;
        let one = 10_i128.checked_pow(Decimal::FRACTION_DIGITS.saturating_sub(digits))?;
        Decimal::from_units(one)?.checked_mul(self.joules(duration)?)
    }

    /// Joules of one.
    fn joules(self, duration: i128) -> Option<Decimal> {
        let joules = match self {
            Self::Own => 1,
            Self::KilowattHours => 3_600_000,
            Self::Kilowatts => i64::try_from(duration).ok()?.checked_mul(1_000)?,
        };
        Some(Decimal::from(joules))
    }
}

/// Seconds since 1970, or a time with an offset.
fn stamp_of(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text).and_then(Decimal::to_integer) {
        return i64::try_from(seconds).map_err(|_| format!("timestamp {text:?} is no time"));
    }
    let time = Timestamp::parse_iso(text).map_err(|_| format!("timestamp {text:?} is no time"))?;
    Ok(time.seconds())
}

/// Programs that computed it wrote more digits than it has.
fn number(text: &str) -> Option<Decimal> {
    Decimal::parse_rounded(text.as_bytes()).ok()
}

type Row = [Option<Decimal>; CHANNELS_MAX];

/// Puts in place of each net what its directions come to, where that differs by no more than a table's rounding of the three;
/// `digits` has what their last digits come to. What is further off is left for the check of records to refuse.
fn settle_nets(arrays: &mut [Row], digits: &[Row]) {
    for names in NETS {
        let places = names.map(|name| Stream::Long.place_of(name));
        for channel in 0..CHANNELS_MAX {
            let of = |rows: &[Row]| {
                places.map(|place| rows.get(place?)?.get(channel).copied().flatten())
            };
            let [Some(net), Some(plus), Some(minus)] = of(arrays) else {
                continue;
            };
            // A net in joules is not rounded, whatever its directions are.
            let digits = of(digits);
            let digit = digits[0].and(digits.into_iter().flatten().min());
            let settled = digit.and_then(|digit| settled_net(net, plus, minus, digit));
            let [place, ..] = places;
            let row = place.and_then(|place| arrays.get_mut(place));
            if let Some(slot) = row.and_then(|row| row.get_mut(channel)) {
                *slot = settled.or(*slot);
            }
        }
    }
}

fn settled_net(net: Decimal, plus: Decimal, minus: Decimal, digit: Decimal) -> Option<Decimal> {
    let parts = plus.checked_sub(minus)?;
    let off = net.checked_sub(parts)?.abs();
    // Each of the three was rounded to a digit, and then to a joule.
    let allowed = digit
        .checked_add(Decimal::ONE)?
        .checked_mul(Decimal::from(3))?;
    (off.checked_mul(Decimal::from(2))? <= allowed).then_some(parts)
}

/// Tables have columns for more channels than a device may have, but none between others is without its energy.
fn channels_of(net: &Row) -> Result<usize, String> {
    let last = net.iter().rposition(Option::is_some);
    let channels = last.map_or(0, |last| last + 1);
    match net.iter().position(Option::is_none) {
        Some(empty) if empty < channels => Err(format!("channel {} has no energy", empty + 1)),
        _ => Ok(channels),
    }
}

fn record_of(stamp: i64, duration: i128, channels: usize, arrays: &[Row]) -> String {
    let mut json = format!("{{\"timestamp\":{stamp},\"duration\":{duration}");
    for (array, values) in Stream::Long.arrays().iter().zip(arrays) {
        let net = net_of(array, arrays);
        // Writing to a string cannot fail.
        let _ = write!(json, ",\"{}\":[", array.name);
        for (channel, value) in values.iter().take(channels).enumerate() {
            let value = value.unwrap_or_else(|| {
                let net = net.and_then(|net| net.get(channel).copied().flatten());
                derived(array, net.unwrap_or(Decimal::ZERO))
            });
            let comma = if channel == 0 { "" } else { "," };
            let _ = write!(json, "{comma}{value}");
        }
        json.push(']');
    }
    json.push('}');
    json
}

/// The net that one direction of energy is part of.
fn net_of<'a>(array: &Array, arrays: &'a [Row]) -> Option<&'a Row> {
    let base = (array.name.strip_suffix("Positive")).or(array.name.strip_suffix("Negative"))?;
    arrays.get(Stream::Long.place_of(base)?)
}

/// One direction, where a table has only the net.
fn derived(array: &Array, net: Decimal) -> Decimal {
    if array.quantity != Quantity::Energy {
        return Decimal::ZERO;
    }
    let directed = if array.name.ends_with("Negative") {
        -net
    } else {
        net
    };
    directed.max(Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(header: &str, row: &str) -> Result<(String, Value), String> {
        let names: Vec<_> = header.split(',').collect();
        let cells: Vec<_> = row.split(',').collect();
        let row = Layout::of_header(&names).unwrap().row(&cells)?;
        Ok((
            row.serial.to_string(),
            serde_json::from_str(&row.record).unwrap(),
        ))
    }

    #[test]
    fn notebooks_number_channels_from_0() {
        let header = "device_id,timestamp,date,time,duration,eReal_0,eReal_1,eRealPositive_0,eRealPositive_1,\
                      eRealNegative_0,eRealNegative_1,vRMSMin_0,vRMSMin_1,vRMSMax_0,vRMSMax_1";
        let row = "D123456789012,1550408400,2019-02-18,00:00,300,1200,-560,1300,0,100,560,229.4,229.5,232.2,232.25";
        let (serial, record) = read(header, row).unwrap();
        assert_eq!(serial, "D123456789012");
        assert_eq!(
            record,
            json!({
                "timestamp": 1_550_408_400, "duration": 300, "eReal": [1200, -560], "eRealPositive": [1300, 0],
                "eRealNegative": [100, 560], "eReactive": [0, 0], "eReactivePositive": [0, 0],
                "eReactiveNegative": [0, 0], "vRMSMin": [229.4, 229.5], "vRMSMax": [232.2, 232.25], "iRMSMin": [0, 0],
                "iRMSMax": [0, 0],
            })
        );
    }

    #[test]
    fn converted_columns_become_joules_again() {
        let (_, record) = read(
            "device_id,timestamp,duration,eRealKwh_0,eReactiveKwh_0",
            "D123456789012,1550408400,300,-0.00015555555555555556,0.00000027777777777777776",
        )
        .unwrap();
        assert_eq!(
            (&record["eReal"], &record["eReactive"]),
            (&json!([-560]), &json!([1]))
        );
        assert_eq!(record["eRealNegative"], json!([560]));
        let (_, record) = read(
            "device_id,timestamp,duration,pRealKw_0,pRealPositiveKw_0,pRealNegativeKw_0",
            "D123456789012,1550408400,300,4.0437833333333334,4.0437833333333334,0",
        )
        .unwrap();
        assert_eq!(record["eReal"], json!([1_213_135]));
        assert_eq!(record["eRealPositive"], json!([1_213_135]));
    }

    #[test]
    fn fleet_exports_number_channels_from_1_and_leave_cells_empty() {
        let header = "device_id,interval_start,interval_end,duration,timestamp,C1_category,C1_label,C1_ereal_kWh,\
                      C1_erealpositive_kWh,C1_erealnegative_kWh,C1_ereactive,C2_category,C2_label,C2_ereal_kWh,\
                      C3_ereal_kWh";
        let row = "DD03710132282,2019-02-18 00:00,2019-02-18 00:05,300,2019-02-17T13:00:00Z,Solar,Roof,-0.5,0,0.5,-857,\
                   Grid,Main,0.25,";
        let (serial, record) = read(header, row).unwrap();
        assert_eq!(serial, "DD03710132282");
        assert_eq!(record["timestamp"], 1_550_408_400);
        assert_eq!(record["eReal"], json!([-1_800_000, 900_000]));
        assert_eq!(record["eRealNegative"], json!([1_800_000, 0]));
        assert_eq!(record["eReactive"], json!([-857, 0]));
        assert_eq!(record["eReactiveNegative"], json!([857, 0]));
    }

    /// A net, and what energy went which way: each rounded by itself.
    #[test]
    fn rounded_nets_follow_from_their_directions() {
        let energy = |header: &str, row: &str| {
            let header = format!("device_id,timestamp,duration,{header}");
            let row = format!("D123456789012,1550408400,300,{row}");
            let (_, record) = read(&header, &row).unwrap();
            ["eReal", "eRealPositive", "eRealNegative"]
                .map(|name| record[name][0].as_i64().unwrap())
        };
        let fleet = "C1_ereal_kWh,C1_erealpositive_kWh,C1_erealnegative_kWh";
        for (row, net, positive, negative) in [
            ("0.0123,0.0124,0.0000", 44_640, 44_640, 0),
            ("0.0123,0.0200,0.0078", 43_920, 72_000, 28_080),
            ("-0.0001,0,0", 0, 0, 0),
            ("1.23e-2,0.0124,0E9", 44_640, 44_640, 0),
            // What no rounding explains stays as it is, to be refused.
            ("0.0122,0.0124,0.0000", 43_920, 44_640, 0),
            ("0.0012,0,0", 4_320, 0, 0),
            ("1,0,0", 3_600_000, 0, 0),
        ] {
            assert_eq!(energy(fleet, row), [net, positive, negative], "{row}");
        }
        let power = "pRealKw_0,pRealPositiveKw_0,pRealNegativeKw_0";
        assert_eq!(energy(power, "0.147,0.148,0"), [44_400, 44_400, 0]);
        // Joules are not rounded.
        let joules = "eReal_0,eRealPositive_0,eRealNegative_0";
        assert_eq!(energy(joules, "5,7,0"), [5, 7, 0]);
        let mixed = "eReal_0,eRealPositiveKwh_0,eRealNegativeKwh_0";
        assert_eq!(energy(mixed, "44412,0.0124,0"), [44_412, 44_640, 0]);
    }

    #[test]
    fn simple_tables_have_joules_only() {
        let header = "device_id,timestamp,duration,c1_j,c2_j,c3_j";
        let (_, record) = read(header, "D123456789012,1550408400,300,5,-7,0").unwrap();
        assert_eq!(record["eReal"], json!([5, -7, 0]));
        assert_eq!(record["eRealPositive"], json!([5, 0, 0]));
        assert_eq!(record["eRealNegative"], json!([0, 7, 0]));
        for (row, message) in [
            (
                "d1,1550408400,300,5,5,5",
                "device_id \"d1\" is no serial number",
            ),
            (
                "D123456789012,soon,300,5,5,5",
                "timestamp \"soon\" is no time",
            ),
            (
                "D123456789012,1550408400,,5,5,5",
                "duration \"\" is no integer",
            ),
            ("D123456789012,1550408400,300,x,5,5", "\"x\" is no number"),
            (
                "D123456789012,1550408400,300,5,,5",
                "channel 2 has no energy",
            ),
            (
                "D123456789012,1550408400,300,1,200,5,5",
                "7 cells below 6 names",
            ),
            (
                "D123456789012,1550408400,300,1,200",
                "5 cells below 6 names",
            ),
        ] {
            assert_eq!(read(header, row).unwrap_err(), message);
        }
        for header in [
            "timestamp,duration,c1_j",
            "device_id,timestamp,duration,cost_1",
            "a,b",
        ] {
            let names: Vec<_> = header.split(',').collect();
            assert!(Layout::of_header(&names).is_none(), "{header}");
        }
    }
}
