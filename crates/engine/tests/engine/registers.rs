//! How much registers rose.

use crate::fixtures::*;
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{Aggregation, Cancel, Engine, Filter, Function, GroupKey, Number, Query};
use meterd_model::{Measurement, Window};

const DAY: i64 = 86_400;

fn reading(id: &str, of: &str, seconds: i64, value: &str) -> Measurement {
    Measurement {
        subject: subject(of),
        ..measured(id, seconds, value)
    }
}

fn reset(id: &str, of: &str, seconds: i64, value: &str) -> Measurement {
    Measurement {
        attributes: vec![(field("reset"), text("true"))],
        ..reading(id, of, seconds, value)
    }
}

fn consumption(from: i64, to: i64) -> Query {
    Query {
        from: at(from),
        to: at(to),
        ..whole_range(vec![Aggregation {
            function: Function::Consumption,
            field: Some(field("amount")),
        }])
    }
}

/// Group and consumption, row by row.
fn ask(engine: &Engine, query: &Query) -> Vec<(String, Option<String>)> {
    let answer = engine
        .query(organization(1), query, &Cancel::new())
        .unwrap();
    let rows = answer.rows.into_iter().map(|row| {
        let group = row.group.into_iter().flatten().collect::<String>();
        let value = row.values[0].map(|value| match value {
            Number::Decimal(sum) => sum.to_string(),
            Number::Count(count) => panic!("{count} is no sum"),
        });
        (group, value)
    });
    rows.collect()
}

fn one(value: &str) -> Vec<(String, Option<String>)> {
    vec![(String::new(), Some(value.to_owned()))]
}

#[test]
fn differences_count_where_the_later_reading_is() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    store(
        &engine,
        batch(vec![
            reading("a1", "a", 0, "100"),
            reading("a2", "a", DAY / 2, "110.5"),
            reading("a4", "a", 2 * DAY, "150"),
            reading("b1", "b", DAY, "7"),
        ]),
    );
    let days = |from, to| Query {
        window: Some(Window::Day),
        ..consumption(from, to)
    };
    let by_subject = Query {
        group_by: vec![GroupKey::Subject],
        ..consumption(0, 3 * DAY)
    };
    let of_a = Query {
        filter: Filter {
            subjects: Some(vec![subject("a")]),
            attributes: Vec::new(),
        },
        ..consumption(DAY, 3 * DAY)
    };
    let check = |sealed: bool| {
        let told = |values: &[&str]| {
            let rows = values.iter().flat_map(|value| one(value));
            rows.collect::<Vec<_>>()
        };
        // The first reading of all has nothing to differ from.
        assert_eq!(
            ask(&engine, &consumption(0, 3 * DAY)),
            one("50"),
            "{sealed}"
        );
        assert_eq!(
            ask(&engine, &days(0, 3 * DAY)),
            told(&["10.5", "9.5", "30"])
        );
        // Windows of a part add up to it, and know what was before.
        assert_eq!(ask(&engine, &days(DAY, 3 * DAY)), told(&["9.5", "30"]));
        assert_eq!(ask(&engine, &of_a), one("39.5"));
        assert_eq!(
            ask(&engine, &by_subject),
            [("a", "50"), ("b", "0")].map(|(of, value)| (of.to_owned(), Some(value.to_owned())))
        );
        assert_eq!(ask(&engine, &consumption(4 * DAY, 5 * DAY)), []);
    };
    // Back-dated: it takes a part of the difference over.
    store(&engine, batch(vec![reading("a3", "a", DAY, "120")]));
    check(false);
    engine.seal().unwrap();
    check(true);
}

#[test]
fn a_reset_begins_a_new_count() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let rows = vec![
        reading("1", "a", 10, "100"),
        reading("2", "a", 20, "130"),
        reset("3", "a", 30, "5"),
        reading("4", "a", 40, "9"),
        // At one time they follow each other as they were stored; a lower one takes back.
        reading("5", "a", 40, "12"),
        reading("6", "a", 50, "11.5"),
    ];
    store(&engine, batch(rows));
    let check = || {
        assert_eq!(ask(&engine, &consumption(0, 100)), one("36.5"));
        assert_eq!(ask(&engine, &consumption(30, 31)), one("0"));
        assert_eq!(ask(&engine, &consumption(31, 50)), one("7"));
        assert_eq!(ask(&engine, &consumption(50, 100)), one("-0.5"));
    };
    check();
    engine.seal().unwrap();
    check();
    // Without the reset it all is one count.
    let ids = [id("3")];
    let voided = engine.void(organization(1), ids.to_vec(), at(0));
    voided.unwrap().wait().unwrap();
    assert_eq!(ask(&engine, &consumption(0, 100)), one("-88.5"));
    engine.seal().unwrap();
    assert_eq!(ask(&engine, &consumption(0, 100)), one("-88.5"));
    assert_eq!(ask(&engine, &consumption(40, 41)), one("-118"));
}

/// Only what carries the field takes part, and an attribute has no readings.
#[test]
fn what_carries_no_reading_is_passed_over() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let mut other = reset("2", "a", 20, "1");
    other.values = vec![(field("energy"), decimal("1"))];
    store(
        &engine,
        batch(vec![
            reading("1", "a", 10, "100"),
            other,
            reading("3", "a", 30, "101"),
        ]),
    );
    let check = || {
        assert_eq!(ask(&engine, &consumption(0, 100)), one("1"));
        assert_eq!(ask(&engine, &consumption(20, 21)), [(String::new(), None)]);
        let mut of_attribute = consumption(0, 100);
        of_attribute.aggregations[0].field = Some(field("reset"));
        assert_eq!(ask(&engine, &of_attribute), [(String::new(), None)]);
    };
    check();
    engine.seal().unwrap();
    check();
}
