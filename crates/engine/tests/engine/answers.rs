//! What whole segments answered before: nothing that anybody sees, but for the time it takes.

use crate::fixtures::*;
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{
    Aggregation, Cancel, Engine, Function, GroupKey, Query, QueryAnswer, QueryError, QueryLimit,
    Sealing, Settings,
};
use meterd_model::{Measurement, Window, Zone};

const DAY_SECONDS: i64 = 86_400;

fn settings() -> Settings {
    Settings {
        sealing: Sealing::OnDemand,
        merge_fan_in: 2,
        ..Settings::default()
    }
}

fn ask(engine: &Engine, query: &Query) -> QueryAnswer {
    (engine.query(organization(1), query, &Cancel::new())).unwrap()
}

/// Segments that were not read, and those that were though their answer could have been kept.
fn found_and_missed(engine: &Engine) -> (u64, u64) {
    let stats = engine.stats();
    (stats.answers_found, stats.answers_missed)
}

/// The hours of January to March 1970 in Berlin, without those that UTC has in December.
const HOURS: u32 = 90 * 24 - 1;

/// A measurement for each of them.
fn three_months() -> Vec<Measurement> {
    let row = |hour: u32| measured(&format!("h{hour}"), i64::from(hour) * 3_600, "1");
    (0..HOURS).map(row).collect()
}

fn by_month() -> Query {
    Query {
        window: Some(Window::Month),
        zone: Zone::named("Europe/Berlin").unwrap(),
        ..whole_range(vec![sum_of("amount")])
    }
}

#[test]
fn a_segment_is_read_once_whatever_the_range() {
    let engine = open_with(&SimulatedDisk::new(), settings());
    store(&engine, batch(three_months()));
    engine.seal().unwrap();
    let whole = ask(&engine, &by_month());
    assert_eq!(whole.rows.len(), 3);
    assert_eq!(found_and_missed(&engine), (0, 3));
    assert_eq!(ask(&engine, &by_month()), whole);
    assert_eq!(found_and_missed(&engine), (3, 3));
    let clipped = Query {
        from: at(10 * DAY_SECONDS),
        to: at(1_000 * DAY_SECONDS),
        ..by_month()
    };
    let answer = ask(&engine, &clipped);
    assert_eq!(answer.rows[0].from, clipped.from);
    assert_eq!(answer.rows[1..], whole.rows[1..]);
    assert_eq!(found_and_missed(&engine), (5, 3));
    // Another zone is another question.
    ask(
        &engine,
        &Query {
            zone: Zone::UTC,
            ..by_month()
        },
    );
    assert_eq!(found_and_missed(&engine), (5, 6));
    // One that is not all of what counts is read, and no answer of it kept.
    let ticket = engine.void(organization(1), vec![id("h800")], at(2_000_000_000));
    ticket.unwrap().wait().unwrap();
    let less = ask(&engine, &by_month());
    assert_ne!(less, whole);
    assert_eq!(found_and_missed(&engine), (7, 6));
    // Merged with its void it is another segment.
    engine.seal().unwrap();
    while engine.merge().unwrap() {}
    let kept = engine.stats().answer_bytes;
    assert_eq!(ask(&engine, &by_month()), less);
    let dropped = engine.expire(organization(1), meter(1), at(32 * DAY_SECONDS));
    assert_eq!(dropped.unwrap(), 31 * 24);
    assert!(engine.stats().answer_bytes < kept);
    assert_eq!(ask(&engine, &by_month()).rows.len(), 2);
}

#[test]
fn what_was_not_looked_at_again_counts_against_the_bound() {
    let settings = Settings {
        query_rows_max: u64::from(HOURS) - 1,
        ..settings()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    store(&engine, batch(three_months()));
    engine.seal().unwrap();
    for _ in 0..3 {
        let refused = engine.query(organization(1), &by_month(), &Cancel::new());
        let limit = QueryLimit::Rows(u64::from(HOURS) - 1);
        assert_eq!(refused, Err(QueryError::TooExpensive { limit }));
    }
}

#[test]
fn threads_that_share_a_segment_answer_as_one_does() {
    const ROWS: i64 = 150_000;
    let disk = SimulatedDisk::new();
    let open = |query_cache_bytes, query_threads| {
        let settings = Settings {
            query_cache_bytes,
            query_threads,
            query_thread_rows: 1,
            ..settings()
        };
        open_with(&disk, settings)
    };
    let engine = open(0, 1);
    for rows in (0..ROWS).collect::<Vec<_>>().chunks(10_000) {
        let row = |n: &i64| Measurement {
            subject: subject(&format!("s-{}", n % 2_000)),
            ..measured(&format!("m{n}"), n * 10, &n.to_string())
        };
        store(&engine, batch(rows.iter().map(row).collect()));
    }
    // More than one row group.
    engine.seal().unwrap();
    let of = |function| Aggregation {
        function,
        field: (function != Function::Unique).then(|| field("amount")),
    };
    let all = whole_range(
        [Function::Sum, Function::Latest, Function::Max]
            .map(of)
            .to_vec(),
    );
    let queries = [
        whole_range(vec![of(Function::Unique)]),
        Query {
            group_by: vec![GroupKey::Subject],
            ..all.clone()
        },
        Query {
            window: Some(Window::Hour),
            ..all.clone()
        },
        all,
    ];
    let expected = queries.each_ref().map(|query| ask(&engine, query));
    assert_eq!(found_and_missed(&engine), (0, 0));
    drop(engine);
    // With the least room, an answer of one group has its place, and one of many has not.
    for query_cache_bytes in [200_000, 64 << 20] {
        let engine = open(query_cache_bytes, 4);
        for (query, expected) in queries.iter().zip(&expected) {
            for _ in 0..2 {
                assert_eq!(&ask(&engine, query), expected);
            }
        }
        let (found, missed) = found_and_missed(&engine);
        assert!(found > 0 && missed > 0, "{found} {missed}");
        drop(engine);
    }
}
