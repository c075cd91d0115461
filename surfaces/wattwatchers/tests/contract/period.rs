//! Which records a list has: the ends of its period, what stands for missing ones, and what cannot be asked.

use crate::energy::{feed_long, stamps};
use crate::world::{HOUSE, MODBUS, SHED, World, assert_fault, long_record, short_record};
use meterd_testkit::now;
use serde_json::{Value, json};

/// A multiple of 300.
const BASE: i64 = 1_700_000_100;
const DAY: i64 = 86_400;
const BAD_ZONE: &str = "You must specify a valid timezone value when applying granularity of 'hour', 'day', 'week', or 'month.'";

fn long(query: &str) -> String {
    format!("/long-energy/{SHED}?{query}")
}

#[track_caller]
fn assert_bad(world: &World, path: &str, message: &str) {
    assert_fault(&world.get(path), 400, "BAD_REQUEST", message);
}

#[track_caller]
fn assert_unprocessable(world: &World, path: &str, message: &str) {
    assert_fault(&world.get(path), 422, "UNPROCESSABLE_ENTITY", message);
}

fn too_long(longest: &str) -> String {
    format!("The requested time period is greater than {longest}.")
}

/// [36]
#[test]
fn long_energy_is_a_week_from_its_first_record() {
    let world = World::start();
    let all: Vec<_> = (0..2020).map(|n| BASE + 300 * n).collect();
    feed_long(&world, SHED, 3, &all);
    let whole = world.get(&format!("/long-energy/{SHED}"));
    assert_eq!(stamps(&whole), all[..2016]);
    assert_eq!(whole.json()[2015], long_record(BASE + 2015 * 300, 3));
    // The same from the disk.
    world.engine.seal().unwrap();
    let sealed = world.get(&format!("/long-energy/{SHED}"));
    assert_eq!(sealed.json(), whole.json());
    let end = format!("toTs={}", BASE + 300);
    assert_eq!(stamps(&world.get(&long(&end))), [BASE]);
    for empty in [BASE, BASE - 1, 0] {
        assert_eq!(
            world.get(&long(&format!("toTs={empty}"))).expect(200),
            json!([])
        );
    }
    let week = format!("toTs={}", BASE + 7 * DAY);
    assert_eq!(stamps(&world.get(&long(&week))), all[..2016]);
    let more = format!("toTs={}", BASE + 7 * DAY + 1);
    assert_unprocessable(&world, &long(&more), &too_long("7 days"));
    // Nothing, and 0 alone, stand for the same.
    for same in ["fromTs=&toTs=&granularity=", "fromTs=0", "granularity=5m"] {
        assert_eq!(stamps(&world.get(&long(same))), all[..2016], "{same}");
    }
    let from = format!("fromTs={}", BASE + 2015 * 300);
    assert_eq!(stamps(&world.get(&long(&from))), all[2015..]);
}

/// [37, 38, 52]
#[test]
fn a_period_has_its_start_and_not_its_end() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE, BASE + 300, BASE + 600]);
    for (from, to, expected) in [
        (BASE, BASE + 1, vec![BASE]),
        (BASE + 1, BASE + 300, vec![]),
        (BASE, BASE + 300, vec![BASE]),
        (BASE, BASE + 301, vec![BASE, BASE + 300]),
        (BASE + 300, BASE + 300, vec![]),
        (BASE + 600, BASE + 7 * DAY, vec![BASE + 600]),
    ] {
        let answer = world.get(&long(&format!("fromTs={from}&toTs={to}")));
        assert_eq!(stamps(&answer), expected, "{from} {to}");
    }
    let now = now().seconds();
    for (from, to) in [(now - 60, now + DAY), (now + DAY, now + 2 * DAY)] {
        let answer = world.get(&long(&format!("fromTs={from}&toTs={to}")));
        assert_eq!(answer.expect(200), json!([]));
    }
    let future = world.get(&long(&format!("fromTs={}", now + DAY)));
    assert_eq!(future.expect(200), json!([]));
}

/// [39, 40]
#[test]
fn the_longest_period_depends_on_the_granularity() {
    let world = World::start();
    // Of 2024-01-01, UTC.
    let start = 1_704_067_200;
    feed_long(&world, SHED, 3, &[start]);
    for (granularity, seconds, words) in [
        ("5m", 7 * DAY, "7 days"),
        ("15m", 14 * DAY, "14 days"),
        ("30m", 31 * DAY, "31 days"),
        ("hour", 90 * DAY, "90 days"),
        ("day", (3 * 365 + 1) * DAY, "3 years"),
        ("week", (5 * 365 + 2) * DAY, "5 years"),
        ("month", (10 * 365 + 3) * DAY, "10 years"),
    ] {
        let path = |to| {
            long(&format!(
                "granularity={granularity}&timezone=UTC&fromTs={start}&toTs={to}"
            ))
        };
        assert_eq!(stamps(&world.get(&path(start + seconds))).len(), 1);
        assert_unprocessable(&world, &path(start + seconds + 1), &too_long(words));
    }
}

#[test]
fn three_years_are_never_shorter_than_their_days() {
    let world = World::start();
    // Of 2020-10-03 in Sydney, where summer began a day later and in 2023 two days before that date.
    let start = 1_601_647_200;
    let path = |to| {
        long(&format!(
            "granularity=day&timezone=Australia/Sydney&fromTs={start}&toTs={to}"
        ))
    };
    assert_eq!(world.get(&path(start + 3 * 365 * DAY)).status, 204);
    assert_unprocessable(
        &world,
        &path(start + 3 * 365 * DAY + 1),
        &too_long("3 years"),
    );
    // A year later the three years have a leap day, and an hour more or less.
    let start = 1_633_183_200;
    let path = |to| {
        long(&format!(
            "granularity=day&timezone=Australia/Sydney&fromTs={start}&toTs={to}"
        ))
    };
    let end = start + (3 * 365 + 1) * DAY;
    assert_eq!(world.get(&path(end)).status, 204);
    assert_unprocessable(&world, &path(end + 3601), &too_long("3 years"));
}

#[test]
fn without_an_end_a_period_is_the_longest() {
    let world = World::start();
    let fortnight = 14 * DAY;
    // Of a quarter of an hour.
    let base = BASE - BASE % 900;
    feed_long(
        &world,
        SHED,
        3,
        &[base, base + fortnight - 300, base + fortnight],
    );
    let answer = world.get(&long("granularity=15m"));
    assert_eq!(stamps(&answer), [base, base + fortnight - 900]);
}

/// [41, 42, 43]
#[test]
fn buckets_of_a_calendar_need_its_zone() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    for granularity in ["hour", "day", "week", "month"] {
        for zone in [
            "",
            "&timezone=",
            "&timezone=Mars/X",
            "&timezone=%2B10:00",
            "&timezone=utc%20",
            "&timezone=UTC&timezone=UTC",
        ] {
            let path = long(&format!("granularity={granularity}{zone}"));
            assert_bad(&world, &path, BAD_ZONE);
        }
    }
    for granularity in ["5m", "15m", "30m"] {
        let path = long(&format!("granularity={granularity}&timezone=Mars/X"));
        assert_eq!(world.get(&path).expect(200).as_array().unwrap().len(), 1);
    }
    let offset = world.get(&long("granularity=day&timezone=Etc/GMT+5"));
    assert_eq!(
        stamps(&offset),
        [(BASE - 5 * 3600).div_euclid(DAY) * DAY + 5 * 3600]
    );
    let message =
        "The granularity query string value must be one of 5m, 15m, 30m, hour, day, week, month.";
    for unknown in ["2h", "Day", "day,", "15M"] {
        let path = long(&format!("granularity={unknown}&timezone=UTC"));
        assert_bad(&world, &path, message);
    }
}

/// [48]
#[test]
fn a_stamp_is_an_integer() {
    let world = World::start();
    for path in ["long-energy", "short-energy"].map(|stream| format!("/{stream}/{HOUSE}")) {
        for bad in [
            "abc",
            "1.5",
            "1e9",
            "123?toTs=456",
            "0x10",
            "-",
            "+5",
            "1%2C2",
            "%20",
            "1&fromTs=1",
        ] {
            for name in ["fromTs", "toTs"] {
                let bad = bad.replace("fromTs", name);
                let message = format!("The {name} query string value must be an integer.");
                assert_bad(&world, &format!("{path}?{name}={bad}"), &message);
            }
        }
    }
    let message = "The fromTs query string value must be an integer.";
    assert_bad(&world, &format!("/modbus/{MODBUS}?fromTs=x"), message);
    let message = "The fromTs query string value must be percent-encoded UTF-8.";
    assert_bad(&world, &long("fromTs=%FF"), message);
}

/// [49, 50, 51]
#[test]
fn a_stamp_can_be() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    let invalid =
        |name: &str, value: &str| format!("The provided {name} ({value}) value was invalid.");
    let devices = [
        format!("/long-energy/{SHED}"),
        format!("/long-energy/{HOUSE}"),
        format!("/short-energy/{HOUSE}"),
        format!("/modbus/{MODBUS}"),
    ];
    for path in &devices {
        for value in [
            "-5",
            "1700000100000",
            "10000000000",
            "99999999999999999999999999999999999999999",
        ] {
            let from = format!("{path}?fromTs={value}");
            assert_unprocessable(&world, &from, &invalid("fromTs", value));
            let to = format!("{path}?fromTs=5&toTs={value}");
            assert_unprocessable(&world, &to, &invalid("toTs", value));
        }
        let before = format!("{path}?fromTs={BASE}&toTs={}", BASE - 1);
        let message = invalid("toTs", &(BASE - 1).to_string());
        assert_unprocessable(&world, &before, &message);
    }
    let zero = long("fromTs=0&toTs=1550000000");
    assert_unprocessable(&world, &zero, &invalid("fromTs", "0"));
    // Elsewhere 0 is a number like others.
    let path = format!("/short-energy/{HOUSE}?fromTs=0&toTs=1550000000");
    assert_unprocessable(&world, &path, &too_long("12 hours"));
    let path = format!("/modbus/{MODBUS}?fromTs=0&toTs=1550000000");
    assert_unprocessable(&world, &path, &too_long("7 days"));
}

/// [53]
#[test]
fn short_energy_is_of_the_last_hour() {
    let world = World::start();
    let now = now().seconds();
    let fed = [now - 7000, now - 3700, now - 3000, now - 60];
    let records: Vec<_> = fed.map(|stamp| short_record(stamp, 6)).into();
    world
        .feed(HOUSE, "/short-energy", &Value::Array(records))
        .expect(200);
    let of = |query: &str| stamps(&world.get(&format!("/short-energy/{HOUSE}?{query}")));
    let whole = world.get(&format!("/short-energy/{HOUSE}")).expect(200);
    let last_hour = [now - 3000, now - 60].map(|stamp| short_record(stamp, 6));
    assert_eq!(whole, json!(last_hour));
    assert_eq!(of("foo=1&foo=2&granularity=2h"), [now - 3000, now - 60]);
    let start = now - 7000;
    assert_eq!(of(&format!("fromTs={start}")), [now - 7000, now - 3700]);
    assert_eq!(of(&format!("toTs={}", now - 3000)), [now - 3700]);
    assert_eq!(of(&format!("fromTs={start}&toTs={}", now + 60)), fed);
    assert_eq!(of(&format!("fromTs={}", now + DAY)), [0; 0]);
    assert_eq!(of("toTs=10"), [0; 0]);
}

/// [54]
#[test]
fn short_energy_is_of_half_a_day_at_most() {
    let world = World::start();
    let path = |to| format!("/short-energy/{HOUSE}?fromTs={BASE}&toTs={to}");
    let record = short_record(BASE + 43_199, 6);
    world
        .feed(HOUSE, "/short-energy", &json!([record]))
        .expect(200);
    let list = world.get(&path(BASE + 43_200));
    assert_eq!(list.expect(200), json!([record]));
    assert_unprocessable(&world, &path(BASE + 43_201), &too_long("12 hours"));
}

#[test]
fn syntax_comes_before_meaning_and_both_before_the_lack_of_data() {
    let world = World::start();
    // The device before all parameters.
    let nobodys = world.get("/long-energy/D000000000000?granularity=2h");
    assert_eq!(nobodys.status, 404);
    let granularity =
        "The granularity query string value must be one of 5m, 15m, 30m, hour, day, week, month.";
    assert_bad(&world, &long("fromTs=-5&granularity=2h"), granularity);
    let stamp = "The provided fromTs (-5) value was invalid.";
    assert_unprocessable(&world, &long("fromTs=-5&granularity=day"), stamp);
    let order = format!("fromTs={BASE}&toTs=5");
    assert_bad(&world, &long(&format!("{order}&granularity=day")), BAD_ZONE);
    let stamp = "The provided toTs (5) value was invalid.";
    assert_unprocessable(&world, &long(&order), stamp);
    let month = format!("fromTs={BASE}&toTs={}", BASE + 30 * DAY);
    assert_unprocessable(&world, &long(&month), &too_long("7 days"));
    assert_eq!(world.get(&long(&format!("toTs={BASE}"))).status, 204);
}
