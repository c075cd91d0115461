//! Long Energy: what lists and single records of it are like.

use crate::energy::{feed_long, stamps};
use crate::world::{FOREIGN, HOUSE, Options, SHED, World, at, long_record};
use meterd_testkit::client::{get, request};
use serde_json::{Value, json};

/// A multiple of 300.
const BASE: i64 = 1_700_000_100;
const SYDNEY: &str = "timezone=Australia/Sydney";

fn long(query: &str) -> String {
    format!("/long-energy/{SHED}?{query}")
}

/// Stamps of raw records of `[from, to)`.
fn every_five_minutes(from: i64, to: i64) -> Vec<i64> {
    (from..to).step_by(300).collect()
}

/// [33, 34]
#[test]
fn a_device_without_data_has_no_content() {
    let world = World::start();
    // Another device's records are not its own.
    feed_long(&world, HOUSE, 6, &[BASE]);
    for rest in [
        "",
        "/first",
        "/latest",
        "?granularity=day&timezone=UTC",
        "?fromTs=5",
        "/latest?fields[energy]=timestamp",
    ] {
        let answer = world.get(&format!("/long-energy/{SHED}{rest}"));
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (204, &b""[..]),
            "{rest}"
        );
        assert_eq!(answer.header("content-type"), None);
        // Nor of the other streams.
        let answer = world.get(&format!("/short-energy/{HOUSE}{rest}"));
        assert_eq!(answer.status, 204, "{rest}");
    }
}

/// [35]
#[test]
fn a_period_without_data_is_an_empty_list() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    for query in [
        "toTs=1000",
        "fromTs=1000",
        "fromTs=1000&toTs=2000&granularity=day&timezone=UTC",
    ] {
        let answer = world.get(&long(query));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, b"[]");
    }
}

/// [62]
#[test]
fn the_ends_are_bare_records() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE + 300, BASE + 600, BASE]);
    let end = |path: &str| world.get(&format!("/long-energy/{SHED}{path}")).expect(200);
    for _ in 0..2 {
        assert_eq!(end("/first"), long_record(BASE, 3));
        assert_eq!(end("/latest"), long_record(BASE + 600, 3));
        world.engine.seal().unwrap();
    }
    feed_long(&world, SHED, 3, &[BASE + 900, BASE - 300]);
    assert_eq!(end("/first"), long_record(BASE - 300, 3));
    assert_eq!(end("/latest"), long_record(BASE + 900, 3));
}

/// The members of a record stand in the documented order, with all digits that were sent.
#[test]
fn a_record_is_shown_as_it_was_sent() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    let shown = "{\"timestamp\":1700000100,\"duration\":300,\"eReal\":[-1000,0,1000],\
                 \"eRealPositive\":[1000,2000,3000],\"eRealNegative\":[2000,2000,2000],\"eReactive\":[10,20,30],\
                 \"eReactivePositive\":[15,30,45],\"eReactiveNegative\":[5,10,15],\"vRMSMin\":[230.1,230.2,230.3],\
                 \"vRMSMax\":[241.5,241.5,241.5],\"iRMSMin\":[0.125,0.125,0.125],\"iRMSMax\":[2.75,2.75,2.75]}";
    let latest = world.get(&format!("/long-energy/{SHED}/latest"));
    assert_eq!(String::from_utf8(latest.body).unwrap(), shown);
    let list = world.get(&format!("/long-energy/{SHED}"));
    assert_eq!(list.header("content-type"), Some("application/json"));
    assert_eq!(String::from_utf8(list.body).unwrap(), format!("[{shown}]"));
}

/// Pages of the engine end within records.
#[test]
fn no_page_cuts_a_record() {
    let all = every_five_minutes(BASE, BASE + 40 * 300);
    for rows in [6, 7, 11, 13] {
        let mut options = Options::default();
        options.general.engine.list_limit_max = rows;
        let world = World::start_with(options);
        feed_long(&world, HOUSE, 6, &all);
        let records: Vec<_> = all.iter().map(|stamp| long_record(*stamp, 6)).collect();
        for _ in 0..2 {
            let list = world.get(&format!("/long-energy/{HOUSE}"));
            assert_eq!(list.expect(200), json!(records), "{rows}");
            for (end, record) in [("first", records.first()), ("latest", records.last())] {
                let single = world.get(&format!("/long-energy/{HOUSE}/{end}"));
                assert_eq!(Some(&single.expect(200)), record, "{rows}");
            }
            world.engine.seal().unwrap();
        }
    }
}

/// [44], 4.4
#[test]
fn a_bucket_of_a_quarter_hour_begins_with_its_stamp() {
    let world = World::start();
    let start = 1_712_498_400;
    let mut records: Vec<Value> = every_five_minutes(start - 300, start + 1200)
        .into_iter()
        .map(|stamp| long_record(stamp, 3))
        .collect();
    records[2]["vRMSMin"][0] = json!(210.5);
    records[3]["iRMSMax"][1] = json!(31.25);
    // Of the bucket before and the bucket after.
    records[0]["vRMSMin"][0] = json!(1);
    records[4]["iRMSMax"][1] = json!(99);
    world
        .feed(SHED, "/long-energy", &Value::Array(records))
        .expect(200);
    let answer = world.get(&long("granularity=15m")).expect(200);
    assert_eq!(answer.as_array().unwrap().len(), 3);
    assert_eq!(
        answer[1],
        json!({
            "timestamp": start,
            "duration": 900,
            "eReal": [-3000, 0, 3000],
            "eRealPositive": [3000, 6000, 9000],
            "eRealNegative": [6000, 6000, 6000],
            "eReactive": [30, 60, 90],
            "eReactivePositive": [45, 90, 135],
            "eReactiveNegative": [15, 30, 45],
            "vRMSMin": [210.5, 230.2, 230.3],
            "vRMSMax": [241.5, 241.5, 241.5],
            "iRMSMin": [0.125, 0.125, 0.125],
            "iRMSMax": [2.75, 31.25, 2.75],
        })
    );
    assert_eq!(answer[0]["timestamp"], json!(start - 900));
    assert_eq!(answer[0]["duration"], json!(300));
    assert_eq!(answer[2]["timestamp"], json!(start + 900));
    assert_eq!(answer[2]["duration"], json!(300));
    let halves = world.get(&long("granularity=30m"));
    assert_eq!(stamps(&halves), [start - 1800, start]);
    assert_eq!(halves.json()[1]["duration"], json!(1200));
    // Rows are chosen first and summed up then; the bucket keeps its stamp.
    let part = world.get(&long(&format!(
        "granularity=15m&fromTs={}&toTs={}",
        start + 300,
        start + 900
    )));
    assert_eq!(stamps(&part), [start]);
    assert_eq!(part.json()[0]["duration"], json!(600));
}

/// [45, 46], 4.4
#[test]
fn days_weeks_and_months_are_sydneys() {
    let world = World::start();
    let (day, next_day) = (1_712_408_400, 1_712_498_400);
    let (short_day, after_short_day) = (1_728_136_800, 1_728_219_600);
    for (from, to) in [(day, next_day), (short_day, after_short_day)] {
        feed_long(&world, SHED, 3, &every_five_minutes(from - 300, to + 300));
    }
    let of = |query: &str| {
        let answer = world.get(&long(&format!("{query}&{SYDNEY}"))).expect(200);
        let shown = answer.as_array().unwrap().iter().map(|record| {
            let whole = |name: &str| record[name].as_i64().unwrap();
            (whole("timestamp"), whole("duration"))
        });
        shown.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(
            of("granularity=day"),
            [
                (day - 86_400, 300),
                (day, 90_000),
                (next_day, 300),
                (short_day - 86_400, 300),
                (short_day, 82_800),
                (after_short_day, 300),
            ]
        );
        let whole_day = format!("granularity=day&fromTs={day}&toTs={next_day}");
        let week = 1_711_890_000;
        // Of 300 records; the week has no others.
        let sum = |stamp: i64| {
            json!([{
                "timestamp": stamp,
                "duration": 90_000,
                "eReal": [-300_000, 0, 300_000],
                "eRealPositive": [300_000, 600_000, 900_000],
                "eRealNegative": [600_000, 600_000, 600_000],
                "eReactive": [3_000, 6_000, 9_000],
                "eReactivePositive": [4_500, 9_000, 13_500],
                "eReactiveNegative": [1_500, 3_000, 4_500],
                "vRMSMin": [230.1, 230.2, 230.3],
                "vRMSMax": [241.5, 241.5, 241.5],
                "iRMSMin": [0.125, 0.125, 0.125],
                "iRMSMax": [2.75, 2.75, 2.75],
            }])
        };
        for (query, stamp) in [
            (whole_day.clone(), day),
            (whole_day.replace("day", "week"), week),
            (whole_day.replace("day", "month"), week),
        ] {
            let answer = world.get(&long(&format!("{query}&{SYDNEY}")));
            assert_eq!(answer.expect(200), sum(stamp), "{query}");
        }
        // The repeated hour is two buckets, the one that was left out none.
        let hours = of(&whole_day.replace("day", "hour"));
        assert_eq!(hours.len(), 25);
        assert!(hours.iter().all(|(_, duration)| *duration == 3600));
        let april_ends = 1_714_485_600;
        assert_eq!(
            of(&format!("granularity=month&toTs={april_ends}")),
            [(week, 90_600)]
        );
        world.engine.seal().unwrap();
    }
}

/// [47]
#[test]
fn the_days_of_a_period_sum_up_to_its_records() {
    let world = World::start();
    feed_long(
        &world,
        SHED,
        3,
        &every_five_minutes(BASE, BASE + 3 * 86_400),
    );
    let period = format!("fromTs={}&toTs={}", BASE + 4500, BASE + 2 * 86_400 + 900);
    let total = |granularity: &str| {
        let answer = world.get(&long(&format!(
            "{period}&{SYDNEY}&granularity={granularity}"
        )));
        let records = answer.expect(200);
        [
            "eReal",
            "eRealPositive",
            "eRealNegative",
            "eReactive",
            "eReactivePositive",
            "eReactiveNegative",
        ]
        .map(|name| {
            [0, 1, 2].map(|channel| {
                let records = records.as_array().unwrap().iter();
                let values = records.map(|record| record[name][channel].as_i64().unwrap());
                values.sum::<i64>()
            })
        })
    };
    let raw = total("5m");
    assert_eq!(raw[1], [1000, 2000, 3000].map(|joules| joules * 564));
    for granularity in ["15m", "30m", "hour", "day", "week", "month"] {
        assert_eq!(total(granularity), raw, "{granularity}");
    }
}

/// [75]
#[test]
fn late_records_change_the_bucket_they_belong_to() {
    let world = World::start();
    let day = 1_712_408_400;
    let query = long(&format!("granularity=day&{SYDNEY}"));
    let shown = || {
        let answer = world.get(&query).expect(200);
        (
            answer[0]["duration"].clone(),
            answer[0]["eRealPositive"][0].clone(),
        )
    };
    feed_long(&world, SHED, 3, &[day + 300, day + 900]);
    assert_eq!(shown(), (json!(600), json!(2000)));
    world.engine.seal().unwrap();
    assert_eq!(shown(), (json!(600), json!(2000)));
    feed_long(&world, SHED, 3, &[day + 600]);
    assert_eq!(shown(), (json!(900), json!(3000)));
    // And one that takes another's place.
    let mut other = long_record(day + 300, 3);
    other["eReal"][0] = json!(-999);
    other["eRealPositive"][0] = json!(1001);
    world
        .feed(SHED, "/long-energy", &json!([other]))
        .expect(200);
    for _ in 0..2 {
        assert_eq!(shown(), (json!(900), json!(3001)));
        let raw = world.get(&long("")).expect(200);
        assert_eq!(raw.as_array().unwrap().len(), 3);
        assert_eq!(raw[0], other);
        world.engine.seal().unwrap();
    }
}

/// [71, 72, 73]
#[test]
fn a_get_is_taken_as_clients_send_it() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE, BASE + 300]);
    let latest = long_record(BASE + 300, 3);
    for path in [
        format!("//long-energy/{SHED}/latest"),
        format!("/long-energy//{SHED}//latest/"),
        format!("/long-energy/{SHED}/latest?foo=1"),
        format!(
            "/long-energy/{SHED}/latest?foo=1&foo=2&filter=phases&convert=kW&fields=%2Bpf&filter[energy]=x"
        ),
        format!("/long-energy/{SHED}/latest?fromTs=abc&granularity=2h"),
        format!("/long-energy/{SHED}/latest?fromTs=%FF&foo=%FF&%FF=1&bar=%zz"),
    ] {
        assert_eq!(world.get(&path).expect(200), latest, "{path}");
    }
    let form = "application/x-www-form-urlencoded";
    let plain = get(at(&format!("/long-energy/{SHED}"))).key(&world.key);
    for request in [
        plain.clone().typed(form, format!("fromTs={}", BASE + 300)),
        plain.clone().typed(form, "fromTs=abc"),
        plain.clone().json("{"),
        plain.header("Content-Type", "application/json"),
    ] {
        assert_eq!(stamps(&world.send(&request)), [BASE, BASE + 300]);
    }
}

#[test]
fn streams_are_read_by_those_who_see_the_device() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    let key = world.key_for(&[HOUSE], &[]);
    for path in ["long-energy", "short-energy", "modbus"] {
        for rest in ["", "/first", "/latest"] {
            let of = |key: &str, id: &str| world.get_as(key, &format!("/{path}/{id}{rest}"));
            assert_eq!(of(&key, SHED).status, 403);
            assert_eq!(of(&world.key, FOREIGN).status, 403);
            assert_eq!(of(&world.key, "D000000000000").status, 404);
            assert_eq!(of(&world.key, "marmaduke").status, 400);
            assert_eq!(of(&world.feed, SHED).status, 403);
            let target = at(&format!("/{path}/{SHED}{rest}"));
            let post = world.send(&request("POST", target).key(&world.key));
            assert_eq!(post.status, 405);
        }
    }
}
