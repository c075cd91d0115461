//! Ten thousand random measurements from several clients at once, and queries of every shape, against the oracle.
//!
//! The seed is printed; `CONTRACT_SEED` runs another one.

use crate::oracle::{Clock, Fact, answer, units};
use crate::server::Server;
use jiff::Timestamp;
use meterd_testkit::client::post;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const MEASUREMENTS: usize = 10_000;
const REPEATS: usize = MEASUREMENTS / 5;
const CONFLICTS: usize = 300;
const BATCH: usize = 250;
const CLIENTS: usize = 4;
const QUERIES: usize = 150;

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
];
const WINDOWS: [Option<&str>; 7] = [
    None,
    Some("15m"),
    Some("hour"),
    Some("day"),
    Some("week"),
    Some("month"),
    Some("quarter"),
];
/// Days on which one of the zones changes its clock, and plain ones at the turn of a month and a year.
const DAYS: [&str; 11] = [
    "2025-10-04",
    "2025-10-05",
    "2025-10-26",
    "2025-11-02",
    "2025-12-31",
    "2026-02-28",
    "2026-03-08",
    "2026-03-29",
    "2026-04-04",
    "2026-04-05",
    "2026-10-25",
];
const METER: &str = r#"{"name":"usage","kind":"delta",
    "values":{"requests":{},"bytes":{},"level":{}},"attributes":["region","plan"]}"#;

/// A small generator (xorshift64*): the same seed, the same test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }

    fn some<T: Clone>(&mut self, items: &[T], most: usize) -> Vec<T> {
        let mut chosen = items.to_vec();
        self.shuffle(&mut chosen);
        chosen.truncate(self.below(most + 1));
        chosen
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap()))
            .collect()
    }
}

fn seed() -> u64 {
    let seed = std::env::var("CONTRACT_SEED").map_or(20_261_101, |text| text.parse().unwrap());
    println!("CONTRACT_SEED={seed}");
    seed
}

/// A decimal that needs all the digits there are, or few; and one more spelling of it.
fn number(random: &mut Random) -> String {
    let sign = if random.one_in(4) { "-" } else { "" };
    match random.below(5) {
        0 => format!("{sign}{}", random.below(20)),
        1 => format!("{sign}{}.{}", random.below(1000), 1 + random.below(99)),
        2 => {
            let fraction = random.digits(17);
            format!("{sign}0.{fraction}1")
        }
        3 => {
            let (whole, fraction) = (random.digits(19), random.digits(17));
            format!("{sign}9{whole}.{fraction}7")
        }
        _ => {
            let whole = random.digits(8);
            format!("{sign}1{whole}.5")
        }
    }
}

/// The same number, told otherwise.
fn respelled(random: &mut Random, number: &str) -> String {
    let dotted = if number.contains('.') {
        number.to_owned()
    } else {
        format!("{number}.0")
    };
    match random.below(4) {
        0 => number.to_owned(),
        1 => format!("{dotted}000"),
        2 => format!("\"{number}\""),
        _ => format!("{number}e0"),
    }
}

/// A measurement to be sent, and what the oracle keeps of it.
#[derive(Clone)]
struct Sent {
    id: String,
    time: Timestamp,
    subject: String,
    values: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl Sent {
    fn random(random: &mut Random, id: String) -> Self {
        let midnight: Timestamp = format!("{}T00:00:00Z", random.pick(&DAYS)).parse().unwrap();
        // A day and a half around it, so that every zone's own day is covered; mostly on the second.
        let second =
            midnight.as_second() - 12 * 3600 + i64::try_from(random.below(36 * 3600)).unwrap();
        let micros = match random.below(4) {
            0 => i64::try_from(random.below(1_000_000)).unwrap(),
            // The edges of quarter hours, and a microsecond before them.
            1 => -(second % 900) * 1_000_000 - i64::try_from(random.below(2)).unwrap(),
            _ => 0,
        };
        let mut values = BTreeMap::new();
        for field in ["requests", "bytes", "level"] {
            if !random.one_in(3) {
                values.insert(field.to_owned(), number(random));
            }
        }
        if values.is_empty() {
            values.insert("requests".to_owned(), "1".to_owned());
        }
        let mut attributes = BTreeMap::new();
        if !random.one_in(4) {
            attributes.insert(
                "region".to_owned(),
                (*random.pick(&["eu", "us", "Ost/West", "é", ""])).to_owned(),
            );
        }
        if random.one_in(2) {
            attributes.insert("plan".to_owned(), format!("plan-{}", random.below(3)));
        }
        Self {
            id,
            time: Timestamp::from_microsecond(second * 1_000_000 + micros).unwrap(),
            subject: format!("acct_{}", random.below(12)),
            values,
            attributes,
        }
    }

    /// As JSON text; the same content in different words each time.
    fn text(&self, random: &mut Random) -> String {
        let mut values: Vec<_> = self
            .values
            .iter()
            .map(|(name, number)| format!("{}:{}", json!(name), respelled(random, number)))
            .collect();
        random.shuffle(&mut values);
        let zone = jiff::tz::TimeZone::get(random.pick::<&str>(&ZONES)).unwrap();
        let offset = zone.to_offset(self.time);
        let time = self.time.display_with_offset(offset).to_string();
        let mut members = vec![
            format!("\"id\":{}", json!(self.id)),
            "\"meter\":\"usage\"".to_owned(),
            format!("\"subject\":{}", json!(self.subject)),
            format!("\"time\":{}", json!(time)),
            format!("\"values\":{{{}}}", values.join(",")),
            format!("\"attributes\":{}", json!(self.attributes)),
        ];
        random.shuffle(&mut members);
        format!("{{{}}}", members.join(","))
    }

    fn fact(&self, sequence: usize) -> Fact {
        Fact {
            time: self.time.as_microsecond(),
            subject: self.subject.clone(),
            values: self
                .values
                .iter()
                .map(|(name, number)| (name.clone(), units(number)))
                .collect(),
            attributes: self.attributes.clone(),
            sequence,
        }
    }

    fn changed(&self, random: &mut Random) -> Self {
        let mut other = self.clone();
        match random.below(3) {
            0 => other.subject.push('x'),
            1 => other.time = Timestamp::from_microsecond(self.time.as_microsecond() + 1).unwrap(),
            _ => {
                let first = other.values.values_mut().next().unwrap();
                *first = if first.contains('.') {
                    "3".to_owned()
                } else {
                    format!("{first}.5")
                };
            }
        }
        other
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    accepted: u64,
    duplicate: u64,
    conflict: u64,
    rejected: u64,
}

/// Sends all texts in batches from several threads. Returns the counts.
fn send_all(server: &Server, texts: &[String]) -> Counts {
    let batches: Vec<_> = texts.chunks(BATCH).collect();
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index = batch.len();
                    let request = post("/v1/measurements").key(&server.key);
                    let request = if index % 2 == 0 {
                        request.json(format!("{{\"measurements\":[{}]}}", batch.join(",")))
                    } else {
                        request.typed("application/x-ndjson", batch.join("\n"))
                    };
                    let answer = server.send(&request).expect(200);
                    let items = answer["items"].as_array().unwrap().len() as u64;
                    let count = |name: &str| answer[name].as_u64().unwrap();
                    let mut counts = counts.lock().unwrap();
                    counts.accepted += count("accepted");
                    counts.duplicate += count("duplicate");
                    counts.conflict += count("conflict");
                    counts.rejected += count("rejected");
                    assert_eq!(count("accepted") + items, batch.len() as u64);
                }
            });
        }
    });
    counts.into_inner().unwrap()
}

/// The order in which the server stored: of measurements of one time, the listing has the last stored first.
fn stored_order(server: &Server) -> HashMap<String, usize> {
    let mut order = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/measurements?limit=1000{cursor}"));
        let items = page["items"].as_array().unwrap();
        order.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let count = order.len();
    order
        .into_iter()
        .enumerate()
        .map(|(place, id)| (id, count - place))
        .collect()
}

fn query(random: &mut Random) -> Value {
    let day = |random: &mut Random| -> Timestamp {
        let midnight: Timestamp = format!("{}T00:00:00Z", random.pick(&DAYS)).parse().unwrap();
        let into = i64::try_from(random.below(2 * 24 * 3600)).unwrap() - 24 * 3600;
        Timestamp::from_second(midnight.as_second() + into).unwrap()
    };
    let (mut from, mut to) = (day(random), day(random));
    if random.one_in(3) || from == to {
        (from, to) = (
            "2025-01-01T00:00:00Z".parse().unwrap(),
            "2027-01-01T00:00:00Z".parse().unwrap(),
        );
    }
    if to < from {
        (from, to) = (to, from);
    }
    let fields = ["requests", "bytes", "level"];
    let mut aggregations: Vec<Value> = vec![
        json!({"function": "count"}),
        json!({"function": "unique", "field": "subject"}),
        json!({"function": "unique", "field": "region"}),
        json!({"function": "count", "field": "plan"}),
    ];
    for function in [
        "sum", "min", "max", "mean", "latest", "earliest", "count", "unique",
    ] {
        for field in fields {
            aggregations.push(json!({"function": function, "field": field}));
        }
    }
    random.shuffle(&mut aggregations);
    aggregations.truncate(1 + random.below(6));
    let keys: Vec<String> = aggregations
        .iter()
        .map(|aggregation| {
            let function = aggregation["function"].as_str().unwrap();
            aggregation["field"].as_str().map_or_else(
                || function.to_owned(),
                |field| format!("{function}({field})"),
            )
        })
        .collect();
    let group_by = random.some(&["subject", "region", "plan"], 3);
    let mut filter = serde_json::Map::new();
    if random.one_in(3) {
        let subjects: Vec<_> = (0..=random.below(4))
            .map(|index| format!("acct_{}", index * 3))
            .collect();
        filter.insert("subject".to_owned(), json!(subjects));
    }
    if random.one_in(3) {
        filter.insert(
            "region".to_owned(),
            random
                .pick(&[json!("eu"), json!(["us", "é", ""]), json!(["nowhere"])])
                .clone(),
        );
    }
    if random.one_in(4) {
        filter.insert("plan".to_owned(), json!(["plan-0", "plan-2"]));
    }
    let mut orders: Vec<String> = group_by
        .iter()
        .map(ToString::to_string)
        .chain(keys)
        .collect();
    orders.push("from".to_owned());
    let order_by: Vec<_> = random
        .some(&orders, 3)
        .into_iter()
        .map(|value| json!({"value": value, "descending": random.one_in(2)}))
        .collect();
    json!({
        "meter": "usage", "from": from.to_string(), "to": to.to_string(),
        "timezone": random.pick(&ZONES), "window": random.pick(&WINDOWS),
        "group_by": group_by, "filter": filter, "aggregations": aggregations, "order_by": order_by,
    })
}

/// All rows of a query, page by page.
fn rows_of(server: &Server, query: &Value, limit: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut page = query.clone();
    page["limit"] = json!(limit);
    loop {
        let answer = server.query(&page);
        let on_page = answer["rows"].as_array().unwrap();
        assert!(on_page.len() <= limit);
        rows.extend(on_page.iter().cloned());
        if answer["next_cursor"].is_null() {
            return rows;
        }
        assert_eq!(on_page.len(), limit);
        page["cursor"] = answer["next_cursor"].clone();
    }
}

#[test]
fn ten_thousand_measurements_and_every_shape_of_query() {
    let mut random = Random(seed());
    let server = Server::start();
    server
        .send(&post("/v1/meters").key(&server.key).json(METER))
        .expect(201);

    let sent: Vec<_> = (0..MEASUREMENTS)
        .map(|index| Sent::random(&mut random, format!("m-{index}")))
        .collect();
    let mut texts: Vec<_> = sent.iter().map(|sent| sent.text(&mut random)).collect();
    for _ in 0..REPEATS {
        let again = sent[random.below(MEASUREMENTS)].text(&mut random);
        texts.push(again);
    }
    random.shuffle(&mut texts);
    assert_eq!(
        send_all(&server, &texts),
        Counts {
            accepted: 10_000,
            duplicate: 2_000,
            conflict: 0,
            rejected: 0
        }
    );
    let conflicts: Vec<_> = (0..CONFLICTS)
        .map(|index| sent[index * 31].changed(&mut random).text(&mut random))
        .collect();
    assert_eq!(
        send_all(&server, &conflicts),
        Counts {
            accepted: 0,
            duplicate: 0,
            conflict: 300,
            rejected: 0
        }
    );

    let order = stored_order(&server);
    assert_eq!(order.len(), MEASUREMENTS);
    let facts: Vec<_> = sent.iter().map(|sent| sent.fact(order[&sent.id])).collect();
    let clocks: HashMap<_, _> = ZONES
        .into_iter()
        .map(|zone| (zone, Clock::in_zone(zone)))
        .collect();
    for number in 0..QUERIES {
        let mut query = query(&mut random);
        if number < ZONES.len() * WINDOWS.len() {
            // Every pair of zone and window at least once, over everything.
            query["timezone"] = json!(ZONES[number % ZONES.len()]);
            query["window"] = json!(WINDOWS[number / ZONES.len()]);
            query["from"] = json!("2025-01-01T00:00:00Z");
            query["to"] = json!("2027-01-01T00:00:00Z");
        }
        let clock = &clocks[query["timezone"].as_str().unwrap()];
        let expected = answer(&query, clock, &facts);
        let limit = *random.pick(&[10_000, expected.len() / 2 + 1, expected.len() / 7 + 1]);
        let rows = rows_of(&server, &query, limit);
        assert_eq!(rows.len(), expected.len(), "{query}");
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "{query}");
        }
        // And the first few alone.
        let mut first = query.clone();
        first["limit"] = json!(3);
        let top = server.query(&first);
        assert_eq!(
            top["rows"].as_array().unwrap().as_slice(),
            &expected[..expected.len().min(3)]
        );
        assert_eq!(top["next_cursor"].is_null(), expected.len() <= 3, "{query}");
    }
}

#[test]
fn one_id_sent_by_many_at_once_is_stored_once() {
    let mut random = Random(seed() ^ 0xfeed);
    let server = Server::start();
    server
        .send(&post("/v1/meters").key(&server.key).json(METER))
        .expect(201);
    let sent: Vec<_> = (0..100)
        .map(|index| Sent::random(&mut random, format!("m-{index}")))
        .collect();
    // Each client sends all of it, each in an order of its own.
    let mut texts = Vec::new();
    for _ in 0..CLIENTS * 3 {
        let mut all: Vec<_> = sent.iter().map(|sent| sent.text(&mut random)).collect();
        random.shuffle(&mut all);
        all.resize_with(BATCH, || sent[0].text(&mut random));
        texts.extend(all);
    }
    let counts = send_all(&server, &texts);
    assert_eq!(
        (counts.accepted, counts.duplicate),
        (100, (texts.len() - 100) as u64)
    );
}
