//! The same answers from a list and plain loops: decimals as big integers, windows from a clock that is looked at
//! instant by instant.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use num_bigint::{BigInt, Sign};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Digits after the point.
const SCALE: usize = 18;
/// Offsets and their changes lie on quarter hours in every zone that the tests use.
const QUARTER: i64 = 15 * 60;

/// A stored measurement.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) subject: String,
    pub(crate) values: BTreeMap<String, BigInt>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Its place in the order of storing.
    pub(crate) sequence: usize,
}

/// A number of units of 10⁻¹⁸ from a decimal without exponent.
pub(crate) fn units(text: &str) -> BigInt {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{whole}{fraction:0<SCALE$}");
    let units: BigInt = padded.parse().unwrap();
    if negative { -units } else { units }
}

/// Units as the shortest decimal.
fn decimal(units: &BigInt) -> String {
    let digits = units.magnitude().to_string();
    let digits = format!("{digits:0>width$}", width = SCALE + 1);
    let (whole, fraction) = digits.split_at(digits.len() - SCALE);
    let fraction = fraction.trim_end_matches('0');
    let sign = if units.sign() == Sign::Minus { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

/// Half to even at the last digit.
fn divided(sum: &BigInt, count: usize) -> BigInt {
    let count = BigInt::from(count);
    let magnitude = BigInt::from(sum.magnitude().clone());
    let quotient = &magnitude / &count;
    let twice: BigInt = (&magnitude - &quotient * &count) * 2;
    let is_odd = quotient.bit(0);
    let rounded = match twice.cmp(&count) {
        Ordering::Less => quotient,
        Ordering::Equal if !is_odd => quotient,
        _ => quotient + 1,
    };
    if sum.sign() == Sign::Minus {
        -rounded
    } else {
        rounded
    }
}

/// A wall clock in one place, with windows found by looking at it.
pub(crate) struct Clock {
    zone: TimeZone,
    windows: RefCell<HashMap<(String, i64), (i64, i64)>>,
    first_instants: RefCell<HashMap<Date, i64>>,
}

impl Clock {
    pub(crate) fn in_zone(name: &str) -> Self {
        Self {
            zone: TimeZone::get(name).unwrap(),
            windows: RefCell::default(),
            first_instants: RefCell::default(),
        }
    }

    fn at(&self, second: i64) -> jiff::Zoned {
        Timestamp::from_second(second)
            .unwrap()
            .to_zoned(self.zone.clone())
    }

    fn offset(&self, second: i64) -> i32 {
        self.zone
            .to_offset(Timestamp::from_second(second).unwrap())
            .seconds()
    }

    /// Start and end in seconds of the window around a time.
    fn window(&self, window: &str, second: i64) -> (i64, i64) {
        let quarter = second.div_euclid(QUARTER) * QUARTER;
        let key = (window.to_owned(), quarter);
        if let Some(known) = self.windows.borrow().get(&key) {
            return *known;
        }
        let found = match window {
            "15m" => (quarter, quarter + QUARTER),
            "hour" => self.run_of(quarter, |zoned| {
                (zoned.date(), zoned.hour(), zoned.offset().seconds())
            }),
            _ => self.dates(window, quarter),
        };
        self.windows.borrow_mut().insert(key, found);
        found
    }

    /// The quarter hours around this one at which the clock shows the same.
    fn run_of<T: PartialEq>(&self, quarter: i64, shown: impl Fn(&jiff::Zoned) -> T) -> (i64, i64) {
        let here = shown(&self.at(quarter));
        let (mut start, mut end) = (quarter, quarter + QUARTER);
        while shown(&self.at(start - QUARTER)) == here {
            start -= QUARTER;
        }
        while shown(&self.at(end)) == here {
            end += QUARTER;
        }
        (start, end)
    }

    fn dates(&self, window: &str, quarter: i64) -> (i64, i64) {
        let mut day = self.at(quarter).date();
        // Back to the first day of the window, one at a time.
        let is_first = |day: Date| match window {
            "day" => true,
            "week" => day.weekday() == jiff::civil::Weekday::Monday,
            "month" => day.day() == 1,
            "quarter" => day.day() == 1 && day.month() % 3 == 1,
            other => panic!("no window {other}"),
        };
        while !is_first(day) {
            day = day.yesterday().unwrap();
        }
        let start = self.first_instant(day);
        let mut next = day.tomorrow().unwrap();
        while !is_first(next) {
            next = next.tomorrow().unwrap();
        }
        (start, self.first_instant(next))
    }

    /// When a date's calendar page is first seen.
    fn first_instant(&self, date: Date) -> i64 {
        if let Some(known) = self.first_instants.borrow().get(&date) {
            return *known;
        }
        let noon = date
            .at(12, 0, 0, 0)
            .to_zoned(TimeZone::UTC)
            .unwrap()
            .timestamp()
            .as_second();
        let mut second = noon - 40 * 3600;
        while self.at(second).date() < date {
            second += QUARTER;
        }
        self.first_instants.borrow_mut().insert(date, second);
        second
    }

    fn text(&self, micros: i64) -> String {
        let time = Timestamp::from_microsecond(micros).unwrap();
        let offset = self.offset(time.as_second());
        if offset == 0 {
            return time.to_string();
        }
        let local = time.to_zoned(self.zone.clone()).datetime();
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A value of a row, ordered as numbers are; none comes first.
type Cell = Option<BigInt>;

/// Start and end of a window, and a group.
type Place = (i64, i64, Vec<Option<String>>);

struct Row {
    from: i64,
    to: i64,
    group: Vec<Option<String>>,
    values: Vec<Cell>,
}

/// Every row that the query has, in order, limit aside.
pub(crate) fn answer(query: &Value, clock: &Clock, facts: &[Fact]) -> Vec<Value> {
    let micros = |member: &str| {
        let text = query[member].as_str().unwrap();
        text.parse::<Timestamp>().unwrap().as_microsecond()
    };
    let (from, to) = (micros("from"), micros("to"));
    let group_by = strings(&query["group_by"]);
    let mut groups: BTreeMap<Place, Vec<&Fact>> = BTreeMap::new();
    for fact in facts {
        if fact.time < from || fact.time >= to || !passes(&query["filter"], fact) {
            continue;
        }
        let (start, end) = match query["window"].as_str() {
            None => (from, to),
            Some(window) => {
                let (start, end) = clock.window(window, fact.time.div_euclid(1_000_000));
                ((start * 1_000_000).max(from), (end * 1_000_000).min(to))
            }
        };
        let group = group_by.iter().map(|name| text_of(fact, name)).collect();
        groups.entry((start, end, group)).or_default().push(fact);
    }
    let aggregations = query["aggregations"].as_array().unwrap();
    let mut rows: Vec<Row> = groups
        .into_iter()
        .map(|((from, to, group), members)| Row {
            from,
            to,
            group,
            values: aggregations
                .iter()
                .map(|aggregation| aggregate(aggregation, &members))
                .collect(),
        })
        .collect();
    let keys: Vec<String> = aggregations.iter().map(key_of).collect();
    // The map has put them in order of start and group; a stable sort keeps that among equals.
    rows.sort_by(|a, b| compare(&query["order_by"], &group_by, &keys, a, b));
    rows.iter()
        .map(|row| show(row, &group_by, aggregations, &keys, clock))
        .collect()
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn text_of(fact: &Fact, name: &str) -> Option<String> {
    if name == "subject" {
        Some(fact.subject.clone())
    } else {
        fact.attributes.get(name).cloned()
    }
}

fn passes(filter: &Value, fact: &Fact) -> bool {
    let members = filter.as_object().into_iter().flatten();
    members.into_iter().all(|(name, wanted)| {
        let wanted = match wanted {
            Value::String(one) => vec![one.clone()],
            list => strings(list),
        };
        text_of(fact, name).is_some_and(|text| wanted.contains(&text))
    })
}

fn key_of(aggregation: &Value) -> String {
    let function = aggregation["function"].as_str().unwrap();
    match aggregation["field"].as_str() {
        Some(field) => format!("{function}({field})"),
        None => function.to_owned(),
    }
}

/// Counts are plain numbers here; everything else is units.
fn aggregate(aggregation: &Value, members: &[&Fact]) -> Cell {
    let field = aggregation["field"].as_str();
    let mut values: Vec<(i64, usize, &BigInt)> = members
        .iter()
        .filter_map(|fact| Some((fact.time, fact.sequence, fact.values.get(field?)?)))
        .collect();
    values.sort();
    let sum = || values.iter().map(|value| value.2).sum::<BigInt>();
    let count = |number: usize| Some(BigInt::from(number));
    match aggregation["function"].as_str().unwrap() {
        "sum" => (!values.is_empty()).then(sum),
        "mean" => (!values.is_empty()).then(|| divided(&sum(), values.len())),
        "min" => values.iter().map(|value| value.2).min().cloned(),
        "max" => values.iter().map(|value| value.2).max().cloned(),
        "latest" => values.last().map(|value| value.2.clone()),
        "earliest" => values.first().map(|value| value.2.clone()),
        "count" => match field {
            None => count(members.len()),
            Some(name) => count(texts(members, name).len()),
        },
        "unique" => {
            let texts = texts(members, field.unwrap());
            count(texts.into_iter().collect::<BTreeSet<_>>().len())
        }
        other => panic!("no function {other}"),
    }
}

fn texts(members: &[&Fact], name: &str) -> Vec<String> {
    members
        .iter()
        .filter_map(|fact| match fact.values.get(name) {
            Some(value) => Some(value.to_string()),
            None => text_of(fact, name),
        })
        .collect()
}

fn compare(order_by: &Value, group_by: &[String], keys: &[String], a: &Row, b: &Row) -> Ordering {
    for order in order_by.as_array().into_iter().flatten() {
        let name = order["value"].as_str().unwrap();
        let ordering = if name == "from" {
            a.from.cmp(&b.from)
        } else if let Some(index) = group_by.iter().position(|known| known == name) {
            a.group[index].cmp(&b.group[index])
        } else {
            let index = keys.iter().position(|known| known == name).unwrap();
            a.values[index].cmp(&b.values[index])
        };
        let ordering = if order["descending"] == true {
            ordering.reverse()
        } else {
            ordering
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

fn show(
    row: &Row,
    group_by: &[String],
    aggregations: &[Value],
    keys: &[String],
    clock: &Clock,
) -> Value {
    let group: Map<_, _> = group_by
        .iter()
        .zip(&row.group)
        .map(|(name, text)| (name.clone(), json!(text)))
        .collect();
    let values: Map<_, _> = keys
        .iter()
        .zip(aggregations.iter().zip(&row.values))
        .map(|(key, (aggregation, cell))| {
            let is_count = matches!(aggregation["function"].as_str(), Some("count" | "unique"));
            let text = cell.as_ref().map(|cell| {
                if is_count {
                    cell.to_string()
                } else {
                    decimal(cell)
                }
            });
            (key.clone(), json!(text))
        })
        .collect();
    json!({
        "from": clock.text(row.from), "to": clock.text(row.to), "group": group, "values": values,
    })
}

#[test]
fn the_oracle_knows_its_arithmetic() {
    for text in [
        "0",
        "1",
        "-1",
        "0.5",
        "-0.000000000000000001",
        "12345678901234567890.000000000000000001",
    ] {
        assert_eq!(decimal(&units(text)), text);
    }
    assert_eq!(decimal(&units("7.500")), "7.5");
    for (sum, count, mean) in [
        ("1", 3, "0.333333333333333333"),
        ("2", 3, "0.666666666666666667"),
        ("-2", 3, "-0.666666666666666667"),
        ("0.000000000000000001", 2, "0"),
        ("0.000000000000000003", 2, "0.000000000000000002"),
        ("-0.000000000000000005", 2, "-0.000000000000000002"),
    ] {
        assert_eq!(
            decimal(&divided(&units(sum), count)),
            mean,
            "{sum} / {count}"
        );
    }
}

#[test]
fn the_oracle_knows_its_calendar() {
    let check = |zone: &str, window: &str, at: &str, from: &str, to: &str| {
        let clock = Clock::in_zone(zone);
        let time: Timestamp = at.parse().unwrap();
        let (start, end) = clock.window(window, time.as_second());
        let shown = (clock.text(start * 1_000_000), clock.text(end * 1_000_000));
        assert_eq!(
            shown,
            (from.to_owned(), to.to_owned()),
            "{zone} {window} {at}"
        );
    };
    // Published changes of the clock: a day of 23 hours, a day of 25, a repeated half hour.
    check(
        "Europe/Berlin",
        "day",
        "2026-03-29T12:00:00Z",
        "2026-03-29T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    );
    check(
        "Europe/Berlin",
        "day",
        "2026-10-25T12:00:00Z",
        "2026-10-25T00:00:00+02:00",
        "2026-10-26T00:00:00+01:00",
    );
    check(
        "Europe/Berlin",
        "hour",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
    );
    check(
        "Australia/Lord_Howe",
        "hour",
        "2026-04-04T15:10:00Z",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T02:00:00+10:30",
    );
    check(
        "Asia/Kathmandu",
        "day",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+05:45",
        "2026-01-02T00:00:00+05:45",
    );
    check(
        "Asia/Kolkata",
        "week",
        "2026-11-01T00:00:00Z",
        "2026-10-26T00:00:00+05:30",
        "2026-11-02T00:00:00+05:30",
    );
    check(
        "America/St_Johns",
        "month",
        "2026-03-08T12:00:00Z",
        "2026-03-01T00:00:00-03:30",
        "2026-04-01T00:00:00-02:30",
    );
    check(
        "UTC",
        "15m",
        "2026-11-01T00:59:59Z",
        "2026-11-01T00:45:00Z",
        "2026-11-01T01:00:00Z",
    );
}
