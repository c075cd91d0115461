//! Lists of random records, in every granularity and shape, against what a naive reckoning makes of them.
//!
//! The records lie around changes of offset in many zones. The reckoning walks the calendar step by step and
//! knows nothing of the engine's windows.

use crate::world::World;
use jiff::tz::TimeZone;
use meterd_testkit::client::Answer;
use meterd_testkit::now;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const DAY: i64 = 86_400;
/// Buckets begin at multiples of it, and offsets change there.
const STEP: i64 = 900;
const GRANULARITIES: [&str; 7] = ["5m", "15m", "30m", "hour", "day", "week", "month"];
const ENERGIES: [&str; 6] = [
    "eReal",
    "eRealPositive",
    "eRealNegative",
    "eReactive",
    "eReactivePositive",
    "eReactiveNegative",
];

/// A zone, and an instant at which its offset changes.
const CHANGES: [(&str, i64); 12] = [
    // Both ends of a summer.
    ("Australia/Sydney", 1_712_419_200),
    ("Australia/Sydney", 1_728_144_000),
    // By half an hour.
    ("Australia/Lord_Howe", 1_712_415_600),
    ("Australia/Lord_Howe", 1_728_142_200),
    ("Australia/Adelaide", 1_712_421_000),
    ("Europe/Berlin", 1_711_846_800),
    ("America/New_York", 1_730_613_600),
    ("Pacific/Chatham", 1_712_412_000),
    // At midnight, which the day then lacks.
    ("America/Sao_Paulo", 1_541_300_400),
    // Over a whole day.
    ("Pacific/Apia", 1_325_239_200),
    // None.
    ("Asia/Kathmandu", 1_717_200_000),
    ("UTC", 1_709_251_200),
];

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Volts in tenths, amperes in thousandths: whole numbers are all that is reckoned with.
#[derive(Clone, Copy)]
struct Channel {
    positive: i64,
    negative: i64,
    reactive_positive: i64,
    reactive_negative: i64,
    volts: (i64, i64),
    amperes: (i64, i64),
}

impl Channel {
    fn random(dice: &mut Dice) -> Self {
        // Often no load at all.
        let mut energy = || {
            if dice.below(4) == 0 {
                0
            } else {
                dice.below(2_000_000)
            }
        };
        let (positive, negative) = (energy(), energy());
        let (reactive_positive, reactive_negative) = (energy(), energy());
        let (volts, amperes) = (2200 + dice.below(300), dice.below(60_000));
        Self {
            positive,
            negative,
            reactive_positive,
            reactive_negative,
            volts: (volts, volts + dice.below(50)),
            amperes: (amperes, amperes + dice.below(9000)),
        }
    }

    fn join(self, other: Self) -> Self {
        let range = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        Self {
            positive: self.positive + other.positive,
            negative: self.negative + other.negative,
            reactive_positive: self.reactive_positive + other.reactive_positive,
            reactive_negative: self.reactive_negative + other.reactive_negative,
            volts: range(self.volts, other.volts),
            amperes: range(self.amperes, other.amperes),
        }
    }

    /// In the order of [`ENERGIES`].
    fn energies(self) -> [i64; 6] {
        [
            self.positive - self.negative,
            self.positive,
            self.negative,
            self.reactive_positive - self.reactive_negative,
            self.reactive_positive,
            self.reactive_negative,
        ]
    }
}

#[derive(Clone)]
struct Record {
    duration: i64,
    channels: Vec<Channel>,
}

impl Record {
    fn random(dice: &mut Dice, channels: usize) -> Self {
        let is_short = dice.below(10) == 0;
        Self {
            duration: if is_short { 1 + dice.below(300) } else { 300 },
            channels: (0..channels).map(|_| Channel::random(dice)).collect(),
        }
    }

    fn join(&mut self, other: &Self) {
        self.duration += other.duration;
        for (channel, other) in self.channels.iter_mut().zip(&other.channels) {
            *channel = channel.join(*other);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    Phases,
    KilowattHours,
    Kilowatts,
    PowerFactor,
    PhasesInKilowatts,
}

impl Shape {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Plain, ""),
        (Self::Phases, "&filter[group]=phases"),
        (Self::KilowattHours, "&convert[energy]=kWh"),
        (Self::Kilowatts, "&convert[energy]=kW"),
        (Self::PowerFactor, "&fields[energy]=%2Bpf"),
        (
            Self::PhasesInKilowatts,
            "&filter[group]=phases&convert%5Benergy%5D=kW",
        ),
    ];
}

fn number(value: i64, scale: i32) -> Value {
    if value % i64::from(scale) == 0 {
        return json!(value / i64::from(scale));
    }
    json!(f64::from(i32::try_from(value).unwrap()) / f64::from(scale))
}

/// A record as the surface is to show it.
fn shown(stamp: i64, record: &Record, groups: &[Vec<usize>], shape: Shape) -> Value {
    let mut channels = record.channels.clone();
    if matches!(shape, Shape::Phases | Shape::PhasesInKilowatts) && !groups.is_empty() {
        let together = |group: &Vec<usize>| {
            let members = group.iter().map(|place| record.channels[*place]);
            members.reduce(Channel::join).unwrap()
        };
        channels = groups.iter().map(together).collect();
    }
    let mut members = Map::new();
    members.insert("timestamp".into(), json!(stamp));
    members.insert("duration".into(), json!(record.duration));
    let double = |joules: i64| joules.to_string().parse::<f64>().unwrap();
    for (place, name) in ENERGIES.iter().enumerate() {
        let joules = channels.iter().map(|channel| channel.energies()[place]);
        let (name, values): (_, Vec<Value>) = match shape {
            Shape::KilowattHours => (
                format!("{name}Kwh"),
                joules.map(|j| json!(double(j) / 3_600_000.0)).collect(),
            ),
            Shape::Kilowatts | Shape::PhasesInKilowatts => (
                format!("p{}Kw", &name[1..]),
                joules
                    .map(|j| json!(double(j) / (1000.0 * double(record.duration))))
                    .collect(),
            ),
            _ => ((*name).to_owned(), joules.map(|j| json!(j)).collect()),
        };
        members.insert(name, Value::Array(values));
    }
    let mut array = |name: &str, value: &dyn Fn(&Channel) -> Value| {
        members.insert(name.to_owned(), channels.iter().map(value).collect());
    };
    array("vRMSMin", &|channel| number(channel.volts.0, 10));
    array("vRMSMax", &|channel| number(channel.volts.1, 10));
    array("iRMSMin", &|channel| number(channel.amperes.0, 1000));
    array("iRMSMax", &|channel| number(channel.amperes.1, 1000));
    if shape == Shape::PowerFactor {
        array("pf", &|channel| {
            let [real, _, _, reactive, ..] = channel.energies().map(double);
            if real == 0.0 && reactive == 0.0 {
                return json!(1.0);
            }
            json!(real / (real * real + reactive * reactive).sqrt())
        });
    }
    Value::Object(members)
}

/// The stamps of the buckets, one for each granularity, that each step between two times belongs to: where a bucket's name
/// begins to be another than a step before.
fn bucket_starts(zone: &TimeZone, from: i64, to: i64) -> BTreeMap<i64, [i64; 7]> {
    let names = |time: i64| {
        let local = jiff::Timestamp::from_second(time)
            .unwrap()
            .to_zoned(zone.clone());
        let (date, week) = (local.date(), local.date().iso_week_date());
        let (year, offset) = (i64::from(date.year()), i64::from(local.offset().seconds()));
        let day = [year, date.month().into(), date.day().into()];
        [
            [time, 0, 0],
            [time / 900, 0, 0],
            [time / 1800, 0, 0],
            [day[1] * 31 + day[2], local.hour().into(), offset],
            day,
            [week.year().into(), week.week().into(), 0],
            [year, day[1], 0],
        ]
    };
    let mut starts = BTreeMap::new();
    let mut last = (names(from), [from; 7]);
    for time in (from..to).step_by(usize::try_from(STEP).unwrap()) {
        let now = names(time);
        for (place, start) in last.1.iter_mut().enumerate() {
            if now[place] != last.0[place] {
                *start = time;
            }
        }
        last.0 = now;
        starts.insert(time, last.1);
    }
    starts
}

/// A device with records around a change of offset.
struct House {
    serial: String,
    zone: &'static str,
    change: i64,
    /// With the stamps of the buckets that each belongs to.
    records: BTreeMap<i64, (Record, [i64; 7])>,
    groups: Vec<Vec<usize>>,
}

impl House {
    fn new(world: &World, dice: &mut Dice, place: usize) -> Self {
        let (zone, change) = CHANGES[place];
        let channels = place % 6 + 1;
        let serial = format!("D0000000000{place:02}");
        let device = json!({"model": "6M", "channelsCount": channels, "keys": [world.key]});
        world.feed_put(&serial, &device).expect(200);
        // The last channels first, two at a time, and the first one of none.
        let all: Vec<usize> = (1..channels).rev().collect();
        let groups: Vec<Vec<usize>> = all.chunks(2).map(<[usize]>::to_vec).collect();
        let ids = |group: &Vec<usize>| {
            let ids = group
                .iter()
                .map(|place| json!(format!("{serial}_C{}", place + 1)));
            json!({"included": ids.collect::<Value>()})
        };
        let grouping: Vec<_> = groups.iter().map(ids).collect();
        let phases = json!({"phases": {"count": if groups.is_empty() { 0 } else { 3 }, "grouping": grouping}});
        world
            .patch(&format!("/devices/{serial}"), &phases)
            .expect(200);
        let mut house = Self {
            serial,
            zone,
            change,
            records: BTreeMap::new(),
            groups,
        };
        // The longest bucket begins up to a month before.
        let zone = TimeZone::get(zone).unwrap();
        let starts = bucket_starts(&zone, change - 76 * DAY, change + 44 * DAY);
        let mut add = |dice: &mut Dice, stamp: i64| {
            let mut starts = starts[&(stamp - stamp.rem_euclid(STEP))];
            starts[0] = stamp;
            let record = Record::random(dice, channels);
            house.records.insert(stamp, (record, starts));
        };
        // Dense for a day on both sides with gaps, and sparse for six weeks.
        for step in -288..288 {
            if dice.below(8) > 0 {
                add(dice, change + 300 * step);
            }
        }
        for _ in 0..150 {
            let step = dice.below(2 * 43 * 288) - 43 * 288;
            add(dice, change + 300 * step);
        }
        house
    }

    fn feed(&self, world: &World, is_fed: impl Fn(i64) -> bool) {
        let records = self.records.iter().filter(|(stamp, _)| is_fed(**stamp));
        let records: Vec<_> = records
            .map(|(stamp, (record, _))| shown(*stamp, record, &[], Shape::Plain))
            .collect();
        let sent = world.feed(&self.serial, "/long-energy", &json!(records));
        assert_eq!(
            sent.expect(200),
            json!({"accepted": records.len(), "replaced": 0, "rejected": []})
        );
    }

    /// Asks for lists of many periods, granularities and shapes, of those records that were fed.
    fn check(&self, world: &World, dice: &mut Dice, is_fed: impl Fn(i64) -> bool) {
        for (place, granularity) in GRANULARITIES.iter().enumerate() {
            // A period around the change within the longest, with ends that need not be stamps.
            let whole = match *granularity {
                "5m" => 3 * DAY,
                "15m" => 6 * DAY,
                "30m" => 15 * DAY,
                _ => 44 * DAY,
            };
            let dense = DAY;
            for (reach, cut) in [(whole, 1), (dense, 3 * 3600)] {
                let from = self.change - reach + dice.below(cut);
                let to = self.change + reach - dice.below(cut);
                let mut buckets: BTreeMap<i64, Record> = BTreeMap::new();
                let fed = self
                    .records
                    .range(from..to)
                    .filter(|(stamp, _)| is_fed(**stamp));
                for (_, (record, starts)) in fed {
                    let bucket = buckets.entry(starts[place]);
                    bucket
                        .and_modify(|bucket| bucket.join(record))
                        .or_insert_with(|| record.clone());
                }
                let (shape, options) = Shape::ALL[usize::try_from(dice.below(6)).unwrap()];
                for (shape, options) in [(Shape::Plain, ""), (shape, options)] {
                    let expected: Value = (buckets.iter())
                        .map(|(start, record)| shown(*start, record, &self.groups, shape))
                        .collect();
                    let path = format!(
                        "/long-energy/{}?granularity={granularity}&timezone={}&fromTs={from}&toTs={to}{options}",
                        self.serial, self.zone
                    );
                    assert_same(&world.get(&path), &expected, &path);
                }
            }
        }
    }
}

/// Holds an answer to its text, since `serde_json` reads the last digit of a number only nearly. Tells the first record that
/// differs.
#[track_caller]
fn assert_same(answer: &Answer, expected: &Value, path: &str) {
    assert_eq!(answer.status, 200, "{path}");
    let shown = String::from_utf8(answer.body.clone()).unwrap();
    let expected = expected.to_string();
    let records = |list: &str| list.split("},{").map(str::to_owned).collect::<Vec<_>>();
    let (shown, expected) = (records(&shown), records(&expected));
    for (place, record) in expected.iter().enumerate() {
        assert_eq!(shown.get(place), Some(record), "{place} of {path}");
    }
    assert_eq!(shown.len(), expected.len(), "{path}");
}

#[test]
fn every_list_is_what_a_naive_reckoning_makes_of_the_records() {
    let world = World::start();
    let mut dice = Dice(7);
    let houses = CHANGES.iter().enumerate();
    let houses: Vec<_> = houses
        .map(|(place, _)| House::new(&world, &mut dice, place))
        .collect();
    assert!(houses.iter().all(|house| house.change < now().seconds()));
    let every_other = |stamp: i64| stamp % 600 == 0;
    let others = |stamp: i64| stamp % 600 != 0;
    for house in &houses {
        house.feed(&world, every_other);
    }
    // Half of them in memory, on disk, then on disk and in memory, then all on disk in two files.
    houses[0].check(&world, &mut dice, every_other);
    world.engine.seal().unwrap();
    houses[1].check(&world, &mut dice, every_other);
    for house in &houses {
        house.feed(&world, others);
    }
    for house in &houses {
        house.check(&world, &mut dice, |_| true);
    }
    world.engine.seal().unwrap();
    for house in &houses {
        house.check(&world, &mut dice, |_| true);
    }
}
