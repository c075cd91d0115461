//! The rules one by one, each in its smallest case.

use crate::fixtures::*;
use Verdict::{Accepted, Conflict, Duplicate, Replaced};
use VoidOutcome::{AlreadyVoided, NotFound, Voided};
use meterd_engine::testing::{PowerCut, SimulatedDisk};
use meterd_engine::{
    Action, Batch, Cancel, Durability, Engine, Filter, GroupKey, ListCursor, Listing, Number,
    OpenError, Order, OrderKey, Query, QueryError, QueryLimit, Sealing, Settings, SubmitError,
    SystemDisk, Ticket, Verdict, VoidOutcome, verify,
};
use meterd_model::{Measurement, MeasurementError, Timestamp, Window};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn one_id_is_decided_by_what_it_holds() {
    let engine = open(&SimulatedDisk::new());
    let verdicts = store(
        &engine,
        batch(vec![
            measured("a", 1, "1"),
            measured("a", 1, "1.0"),
            measured("a", 1, "2"),
            measured("b", 1, "5"),
        ]),
    );
    assert_eq!(verdicts, [Accepted, Duplicate, Conflict, Accepted]);
    assert_eq!(totals(&engine), (2, "6".to_owned()));
    let verdicts = store(
        &engine,
        replacing(vec![
            measured("a", 1, "2"),
            measured("a", 1, "2"),
            measured("a", 2, "3"),
            measured("c", 1, "1"),
        ]),
    );
    assert_eq!(verdicts, [Replaced, Duplicate, Replaced, Accepted]);
    assert_eq!(totals(&engine), (3, "9".to_owned()));
}

#[test]
fn a_voided_id_stays_taken_until_replaced() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    store(&engine, batch(vec![measured("a", 1, "1")]));
    let void = |engine: &Engine, ids: &[&str]| {
        let ids = ids.iter().map(|text| id(text)).collect();
        engine
            .void(organization(1), ids, at(7))
            .unwrap()
            .wait()
            .unwrap()
            .outcomes
    };
    assert_eq!(
        void(&engine, &["a", "a", "z"]),
        [Voided, AlreadyVoided, NotFound]
    );
    assert_eq!(totals(&engine).0, 0);
    assert_eq!(
        store(&engine, batch(vec![measured("a", 1, "1")])),
        [Conflict]
    );
    assert_eq!(
        store(&engine, replacing(vec![measured("a", 1, "1")])),
        [Replaced]
    );
    assert_eq!(
        store(&engine, batch(vec![measured("a", 1, "1")])),
        [Duplicate]
    );
    let trace = engine
        .trace(organization(1), &id("a"), 100, &Cancel::new())
        .unwrap()
        .unwrap();
    assert_eq!(trace.duplicates, 1);
    let actions: Vec<_> = trace
        .versions
        .iter()
        .map(|v| (v.sequence, v.action))
        .collect();
    assert_eq!(
        actions,
        [
            (1, Action::Stored),
            (2, Action::Voided),
            (3, Action::Replaced)
        ]
    );
    assert_eq!(trace.current(), Some(&measured("a", 1, "1")));
    assert!(trace.versions[1].measurement.is_none());
    drop(engine);
    let engine = open(&disk.restart(PowerCut::Drop));
    let again = engine
        .trace(organization(1), &id("a"), 100, &Cancel::new())
        .unwrap()
        .unwrap();
    assert_eq!((again.versions, again.duplicates), (trace.versions, 0));
    assert_eq!(totals(&engine), (1, "1".to_owned()));
    assert!(
        engine
            .trace(organization(2), &id("a"), 100, &Cancel::new())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_meter_tells_what_it_has_and_a_move_to_another_takes_it_along() {
    let engine = open(&SimulatedDisk::new());
    let mut moved = measured("a", 1, "1");
    moved.attributes.push((field("region"), text("eu")));
    store(&engine, batch(vec![moved.clone(), measured("b", 1, "2")]));
    moved.meter = meter(2);
    assert_eq!(store(&engine, replacing(vec![moved])), [Replaced]);
    let stats = engine.meter_stats(organization(1), meter(1));
    assert_eq!((stats.measurements, stats.versions), (1, 2));
    assert_eq!(
        (stats.values, stats.attributes),
        (vec![field("amount")], vec![field("region")])
    );
    assert_eq!(
        engine.meter_stats(organization(1), meter(2)).measurements,
        1
    );
    assert_eq!(engine.meter_stats(organization(2), meter(1)).versions, 0);
    assert_eq!(totals(&engine), (1, "2".to_owned()));
}

#[test]
fn pages_of_a_listing_neither_repeat_nor_skip() {
    let engine = open(&SimulatedDisk::new());
    let rows = (0..10_000)
        .map(|n| measured(&format!("m{n}"), n * 7919 % 1000, "1"))
        .collect();
    store(&engine, batch(rows));
    let mut listing = Listing {
        from: Some(at(100)),
        to: Some(at(900)),
        limit: 333,
        ..Listing::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = engine
            .list(organization(1), &listing, &Cancel::new())
            .unwrap();
        seen.extend(page.measurements.iter().map(|m| ListCursor {
            time: m.measurement.time,
            sequence: m.sequence,
        }));
        // Newer ones arrive meanwhile and must not shift the pages.
        store(
            &engine,
            batch(vec![measured(&format!("late{}", seen.len()), 899, "1")]),
        );
        match page.next {
            Some(next) => listing.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 8000);
    assert!(seen.is_sorted_by(|a, b| a > b));
}

#[test]
fn bounds_end_in_errors_that_name_them() {
    let settings = Settings {
        query_groups_max: 2,
        query_unique_max: 2,
        query_rows_max: 3,
        group_max_bytes: 1000,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    store(
        &engine,
        batch(
            (0..3)
                .map(|n| measured(&format!("a{n}"), n * 86_400, &n.to_string()))
                .collect(),
        ),
    );
    let by_day = Query {
        window: Some(Window::Day),
        ..whole_range(vec![count()])
    };
    let ask = |query: &Query| engine.query(organization(1), query, &Cancel::new());
    let limit = |limit| Err(QueryError::TooExpensive { limit });
    assert_eq!(ask(&by_day), limit(QueryLimit::Groups(2)));
    let mut unique = count();
    unique.function = meterd_engine::Function::Unique;
    unique.field = Some(field("amount"));
    assert_eq!(
        ask(&whole_range(vec![unique])),
        limit(QueryLimit::Unique(2))
    );
    store(&engine, batch(vec![measured("b", 1, "1")]));
    assert_eq!(ask(&whole_range(vec![count()])), limit(QueryLimit::Rows(3)));
    let cancel = Cancel::new();
    cancel.cancel();
    let cancelled = engine.query(organization(1), &whole_range(vec![count()]), &cancel);
    assert_eq!(cancelled, Err(QueryError::Cancelled));
    let listing = Listing {
        limit: 5,
        ..Listing::default()
    };
    let cancelled = engine.list(organization(1), &listing, &cancel);
    assert_eq!(cancelled, Err(QueryError::Cancelled));
    let many = (0..20)
        .map(|n| measured(&format!("c{n}"), 1, "1"))
        .collect();
    assert_eq!(
        engine.submit(batch(many)).unwrap_err(),
        SubmitError::TooLarge { max_bytes: 1000 }
    );
    let mut no_field = whole_range(vec![sum_of("amount")]);
    no_field.aggregations[0].field = None;
    assert_eq!(
        ask(&no_field),
        Err(QueryError::FieldMissing { aggregation: 0 })
    );
    let unordered = Query {
        group_by: vec![GroupKey::Subject],
        order_by: vec![Order {
            by: OrderKey::Group(1),
            descending: true,
        }],
        ..whole_range(Vec::new())
    };
    assert_eq!(ask(&unordered), Err(QueryError::OrderUnknown { order: 0 }));
}

#[test]
fn a_query_keeps_only_texts_that_it_answers_with() {
    let settings = Settings {
        sealing: Sealing::OnDemand,
        query_texts_max: 10,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let session = |n: i64| Measurement {
        subject: subject(&format!("s-{n}")),
        attributes: vec![(field("session"), text(&format!("t-{n}")))],
        ..measured(&format!("a-{n}"), n, "1")
    };
    store(&engine, batch((0..100).map(session).collect()));
    engine.seal().unwrap();
    let ask = |query: &Query| engine.query(organization(1), query, &Cancel::new());
    let mut narrow = whole_range(vec![count()]);
    narrow.filter.subjects = Some(vec![subject("s-7"), subject("s-8")]);
    narrow.filter.attributes = vec![(field("session"), vec!["t-8".to_owned(), "t".to_owned()])];
    let found = ask(&narrow).unwrap();
    assert_eq!(found.rows[0].values, [Some(Number::Count(1))]);
    let by_session = Query {
        group_by: vec![GroupKey::Attribute(field("session"))],
        ..whole_range(vec![count()])
    };
    let limit = QueryLimit::Texts(10);
    assert_eq!(ask(&by_session), Err(QueryError::TooExpensive { limit }));
    let listing = Listing {
        filter: Filter {
            subjects: Some(vec![subject("s-7")]),
            ..Filter::default()
        },
        limit: 5,
        ..Listing::default()
    };
    let page = engine.list(organization(1), &listing, &Cancel::new());
    assert_eq!(page.unwrap().measurements[0].measurement, session(7));
}

#[test]
fn an_engine_at_its_number_of_versions_is_full_but_reads() {
    let settings = Settings {
        versions_max: 2,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    store(
        &engine,
        batch(vec![measured("a", 1, "1"), measured("b", 1, "1")]),
    );
    let refused = engine
        .submit(batch(vec![measured("c", 1, "1")]))
        .unwrap()
        .wait();
    assert_eq!(refused, Err(SubmitError::Full));
    assert_eq!(totals(&engine).0, 2);
}

#[test]
fn at_its_bound_an_engine_still_knows_what_it_has() {
    let settings = Settings {
        versions_max: 3,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let both = || batch(vec![measured("a", 1, "1"), measured("b", 1, "1")]);
    store(&engine, both());
    assert_eq!(store(&engine, both()), [Duplicate, Duplicate]);
    let send = |batch| engine.submit(batch).unwrap();
    let two_new = || batch(vec![measured("c", 1, "1"), measured("d", 1, "1")]);
    // Together, so that they may be decided as one group: what was refused is not remembered.
    let tickets = [
        send(two_new()),
        send(two_new()),
        send(batch(vec![measured("c", 1, "1")])),
    ];
    let answers = tickets.map(|ticket| ticket.wait().map(|receipt| receipt.verdicts));
    assert_eq!(
        answers,
        [
            Err(SubmitError::Full),
            Err(SubmitError::Full),
            Ok(vec![Accepted])
        ]
    );
    assert_eq!(store(&engine, both()), [Duplicate, Duplicate]);
    let replace = send(replacing(vec![measured("a", 1, "2")]));
    assert_eq!(replace.wait(), Err(SubmitError::Full));
    assert_eq!(totals(&engine).0, 3);
}

#[test]
fn an_organization_has_a_bounded_number_of_texts_in_memory() {
    let settings = Settings {
        texts_max: 2,
        sealing: Sealing::OnDemand,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let mut rich = measured("a", 1, "1");
    rich.attributes.push((field("region"), text("eu")));
    store(&engine, batch(vec![rich.clone()]));
    let send = |name| {
        let ticket = engine.submit(batch(vec![measured(name, 1, "1")])).unwrap();
        ticket.wait().map(|receipt| receipt.verdicts)
    };
    assert!(matches!(send("b"), Err(SubmitError::Busy { .. })));
    assert_eq!(store(&engine, batch(vec![rich])), [Duplicate]);
    let other = Batch {
        organization: organization(2),
        ..batch(vec![measured("b", 1, "1")])
    };
    assert_eq!(store(&engine, other), [Accepted]);
    engine.seal().unwrap();
    assert_eq!(send("b"), Ok(vec![Accepted]));
}

/// Stores each, however often the engine is busy meanwhile; answers how often it was.
fn store_each(engine: &Engine, measurements: impl Iterator<Item = Measurement>) -> usize {
    const TRIES_MAX: usize = 20_000;
    let mut busy = 0;
    for measurement in measurements {
        let batch = batch(vec![measurement]);
        loop {
            match engine.submit(batch.clone()).and_then(Ticket::wait) {
                Ok(receipt) => break assert_eq!(receipt.verdicts, [Accepted]),
                Err(SubmitError::Busy { .. }) => busy += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(busy < TRIES_MAX, "it does not recover");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    busy
}

#[test]
fn too_many_texts_recover_by_sealing() {
    let settings = Settings {
        texts_max: 2,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let each = (0..10).map(|n| Measurement {
        subject: subject(&format!("s-{n}")),
        ..measured(&format!("a-{n}"), 1, "1")
    });
    assert!(store_each(&engine, each) > 0);
    assert_eq!(totals(&engine).0, 10);
    assert!(engine.stats().segments > 0);
}

#[test]
fn repeats_are_counted_for_a_bounded_number_of_ids() {
    let settings = Settings {
        repeats_max: 3,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let mut counted = 0;
    for number in 1..=3 {
        let batch = || Batch {
            organization: organization(number),
            ..batch(vec![measured("a", 1, "1"), measured("b", 1, "1")])
        };
        store(&engine, batch());
        assert_eq!(store(&engine, batch()), [Duplicate, Duplicate]);
        store(&engine, batch());
        for name in ["a", "b"] {
            let trace = engine.trace(organization(number), &id(name), 1, &Cancel::new());
            let duplicates = trace.unwrap().unwrap().duplicates;
            assert!(duplicates == 2 || duplicates == 0);
            counted += u64::from(duplicates > 0);
        }
    }
    assert_eq!(counted, 3);
}

/// Of 4 KiB, most of it in its attributes.
fn fat(n: u32) -> Measurement {
    let mut fat = measured(&format!("fat-{n}"), 1, "1");
    for column in 0..16 {
        let long = format!("{n:08}{column:08}").repeat(16);
        (fat.attributes).push((field(&format!("c{column}")), text(&long)));
    }
    fat
}

#[test]
fn memory_is_bounded_in_bytes() {
    let disk = SimulatedDisk::new();
    let settings = |sealing| Settings {
        sealing,
        seal_bytes: 100_000,
        memory_bytes_max: 200_000,
        ..Settings::default()
    };
    let engine = open_with(&disk, settings(Sealing::OnDemand));
    let send = |engine: &Engine, n| {
        let ticket = engine.submit(batch(vec![fat(n)])).unwrap();
        ticket.wait().map(|receipt| receipt.verdicts)
    };
    let refused = (0..100).find(|n| send(&engine, *n).is_err()).unwrap();
    assert!((20..60).contains(&refused), "{refused}");
    let busy = |engine: &Engine| matches!(send(engine, refused), Err(SubmitError::Busy { .. }));
    assert!(busy(&engine));
    assert_eq!(store(&engine, batch(vec![fat(0)])), [Duplicate]);
    // What a start reads back counts as it did.
    let after = disk.kill();
    drop(engine);
    let engine = open_with(&after, settings(Sealing::OnDemand));
    assert!(busy(&engine));
    engine.seal().unwrap();
    assert_eq!(send(&engine, refused), Ok(vec![Accepted]));
    drop(engine);
    // By itself it seals before it is refused, by then or soon after.
    let engine = open_with(&after, settings(Sealing::Background));
    let sealed = engine.stats().segments;
    store_each(&engine, (1_000..1_200).map(fat));
    assert!(engine.stats().segments > sealed);
    assert_eq!(totals(&engine).0, u64::from(refused) + 1 + 200);
}

#[test]
fn memory_is_bounded_in_the_segments_it_would_become() {
    let disk = SimulatedDisk::new();
    let settings = |sealing| Settings {
        sealing,
        seal_partitions: 5,
        memory_partitions_max: 10,
        ..Settings::default()
    };
    let month = |n: i64| measured(&format!("m{n}"), n * 32 * 86_400, "1");
    let engine = open_with(&disk, settings(Sealing::OnDemand));
    store_each(&engine, (0..10).map(month));
    let busy = |engine: &Engine| {
        let ticket = engine.submit(batch(vec![month(10)])).unwrap();
        matches!(ticket.wait(), Err(SubmitError::Busy { .. }))
    };
    assert!(busy(&engine));
    assert_eq!(store(&engine, batch(vec![month(0)])), [Duplicate]);
    // What a start reads back counts as it did.
    let after = disk.kill();
    drop(engine);
    let engine = open_with(&after, settings(Sealing::OnDemand));
    assert!(busy(&engine));
    engine.seal().unwrap();
    store_each(&engine, [month(10)].into_iter());
    drop(engine);
    let engine = open_with(&after, settings(Sealing::Background));
    store_each(&engine, (100..150).map(month));
    assert_eq!(totals(&engine).0, 61);
}

#[test]
fn a_group_keeps_to_the_segments_of_memory_too() {
    let settings = Settings {
        sealing: Sealing::OnDemand,
        memory_partitions_max: 10,
        batch_partitions_max: 4,
        group_max_wait: Duration::from_millis(100),
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let months = |range: std::ops::Range<i64>| {
        let month = |n: i64| measured(&format!("m{n}"), n * 32 * 86_400, "1");
        engine.submit(batch(range.map(month).collect()))
    };
    let refused = months(0..5).unwrap_err();
    assert_eq!(refused, SubmitError::TooManyMonths { max: 4 });
    // Together, so that they are decided as one group. What it has already is counted once.
    let tickets = [0..4, 0..4, 4..8, 8..12, 8..10].map(|range| months(range).unwrap());
    let answers = tickets.map(|ticket| ticket.wait().map(|receipt| receipt.verdicts.len()));
    assert!(
        matches!(
            answers,
            [Ok(4), Ok(4), Ok(4), Err(SubmitError::Busy { .. }), Ok(2)]
        ),
        "{answers:?}"
    );
    // What adds no segment still has room.
    assert_eq!(
        store(
            &engine,
            replacing(vec![measured("m9", 9 * 32 * 86_400, "2")])
        ),
        [Replaced]
    );
    engine.seal().unwrap();
    let tickets = [20..24, 24..28, 28..30].map(|range| months(range).unwrap());
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let void = |name| engine.void(organization(1), vec![id(name)], at(2_000_000_000));
    let refused = void("m1").unwrap().wait();
    assert!(
        matches!(refused, Err(SubmitError::Busy { .. })),
        "{refused:?}"
    );
    void("m20").unwrap().wait().unwrap();
    assert_eq!(totals(&engine).0, 19);
}

#[test]
fn plain_measurements_are_sealed_for_their_number_not_their_bytes() {
    let settings = Settings::default();
    let bytes_each = settings.seal_bytes / settings.seal_rows;
    let engine = open_with(
        &SimulatedDisk::new(),
        Settings {
            seal_rows: u64::MAX,
            seal_bytes: 1_000 * bytes_each,
            ..settings
        },
    );
    let plain = |n: usize| {
        let mut plain = measured(&format!("01890a5d-ac96-774b-bcce-b302099a{n:04}"), 1, "1");
        for column in 0..5 {
            let shared = format!("some text of some length {}", n % 10);
            (plain.attributes).push((field(&format!("c{column}")), text(&shared)));
        }
        plain
    };
    store(&engine, batch((0..1_000).map(plain).collect()));
    // What became due by the first is begun before the second.
    store(&engine, batch(vec![plain(1_000)]));
    assert_eq!(engine.stats().segments, 0);
    assert_eq!(engine.stats().log_files, 1);
}

/// What the reader of the log calls damage must not get into it.
#[test]
fn what_could_not_be_read_back_is_refused() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let good = measured("good", 1, "1");
    let mut twice = measured("twice", 1, "1");
    twice.values.push((field("amount"), decimal("7")));
    let mut texts = measured("texts", 1, "1");
    texts.attributes = vec![(field("region"), text("eu")), (field("region"), text("us"))];
    let last = Measurement {
        time: Timestamp::MAX,
        ..measured("last", 1, "1")
    };
    for (bad, error) in [
        (twice, MeasurementError::FieldRepeated),
        (texts, MeasurementError::FieldRepeated),
        (last, MeasurementError::TimeLast),
    ] {
        assert_eq!(
            engine.submit(batch(vec![good.clone(), bad])).unwrap_err(),
            SubmitError::Invalid { index: 1, error }
        );
    }
    let nearly = Measurement {
        time: Timestamp::from_micros(Timestamp::MAX.micros() - 1).unwrap(),
        ..measured("nearly", 1, "1")
    };
    store(&engine, batch(vec![nearly]));
    assert_eq!(totals(&engine).0, 1);
    drop(engine);
    assert_eq!(totals(&open(&disk)).0, 1);
}

#[test]
fn a_trace_shows_the_newest_versions() {
    let engine = open(&SimulatedDisk::new());
    for n in 0..5 {
        store(&engine, replacing(vec![measured("a", n, "1")]));
    }
    let trace = |limit| {
        let trace = engine
            .trace(organization(1), &id("a"), limit, &Cancel::new())
            .unwrap()
            .unwrap();
        let sequences: Vec<_> = trace.versions.iter().map(|v| v.sequence).collect();
        (sequences, trace.more)
    };
    assert_eq!(trace(2), (vec![4, 5], true));
    assert_eq!(trace(5), (vec![1, 2, 3, 4, 5], false));
    assert_eq!(trace(100), (vec![1, 2, 3, 4, 5], false));
    assert_eq!(trace(0), (vec![], true));
}

#[test]
fn figures_follow_what_is_stored() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    store(
        &engine,
        batch(vec![measured("a", 1, "1"), measured("b", 1, "1")]),
    );
    store(
        &engine,
        replacing(vec![measured("a", 1, "2"), measured("c", 1, "2")]),
    );
    let ids = vec![id("a"), id("b"), id("b"), id("z")];
    engine
        .void(organization(1), ids, at(9))
        .unwrap()
        .wait()
        .unwrap();
    store(&engine, replacing(vec![measured("b", 1, "2")]));
    store(
        &engine,
        batch(vec![measured("a", 1, "1"), measured("c", 1, "2")]),
    );
    let figures = |engine: &Engine| {
        let stats = engine.stats();
        (stats.measurements, stats.ids, stats.organizations)
    };
    assert_eq!(figures(&engine), (2, 3, 1));
    assert_eq!(totals(&engine).0, 2);
    drop(engine);
    assert_eq!(figures(&open(&disk)), (2, 3, 1));
}

#[test]
fn a_closed_engine_takes_nothing_and_still_answers() {
    let engine = open(&SimulatedDisk::new());
    let tickets: Vec<_> = (0..100)
        .map(|n| {
            engine
                .submit(batch(vec![measured(&format!("a{n}"), 1, "1")]))
                .unwrap()
        })
        .collect();
    engine.close();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap().verdicts, [Accepted]);
    }
    assert_eq!(
        engine.submit(batch(Vec::new())).unwrap_err(),
        SubmitError::Closed
    );
    // It looks at a batch only if it has room for it.
    let mut twice = measured("twice", 1, "1");
    twice.values.push((field("amount"), decimal("7")));
    assert_eq!(
        engine.submit(batch(vec![twice])).unwrap_err(),
        SubmitError::Closed
    );
    assert_eq!(totals(&engine), (100, "100".to_owned()));
}

#[test]
fn the_real_disk_holds_a_lock_and_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("deep/data");
    let settings = || Settings {
        log_file_max_bytes: 2000,
        durability: Durability::Sync,
        ..Settings::default()
    };
    let open = || Engine::open(&directory, settings(), Arc::new(SystemDisk));
    for round in 0..3 {
        let engine = open().unwrap();
        assert!(matches!(open(), Err(OpenError::Locked)));
        for n in 0..50 {
            store(
                &engine,
                batch(vec![measured(&format!("r{round}-{n}"), n, "0.5")]),
            );
        }
        assert_eq!(totals(&engine).0, 50 * (round + 1));
        assert!(engine.stats().log_files > 1);
    }
    let mut progress = Vec::new();
    let report = verify(&directory, &SystemDisk, &mut |done, total| {
        progress.push((done, total));
    })
    .unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(
        (
            report.ids,
            report.measurements,
            report.versions,
            report.torn_bytes
        ),
        (150, 150, 150, 0)
    );
    assert!(progress.last().is_some_and(|(done, total)| done == total));
    assert!(
        verify(
            Path::new("/nonexistent/folder"),
            &SystemDisk,
            &mut |_, _| {}
        )
        .is_err()
    );
}

#[test]
fn windows_are_clipped_to_the_range() {
    let engine = open(&SimulatedDisk::new());
    store(
        &engine,
        batch(vec![
            measured("a", 5, "1"),
            measured("b", 90_000, "2"),
            measured("c", 100_000, "4"),
        ]),
    );
    let query = Query {
        from: at(5),
        to: at(100_000),
        window: Some(Window::Day),
        ..whole_range(vec![sum_of("amount")])
    };
    let answer = engine
        .query(organization(1), &query, &Cancel::new())
        .unwrap();
    let windows: Vec<(Timestamp, Timestamp)> =
        answer.rows.iter().map(|row| (row.from, row.to)).collect();
    assert_eq!(windows, [(at(5), at(86_400)), (at(86_400), at(100_000))]);
}

/// With marks an hour apart, a window of a day is over after 25 hours at the latest.
#[test]
fn ids_are_forgotten_after_their_organizations_window() {
    const HOUR: i64 = 3_600;
    let disk = SimulatedDisk::new();
    let settings = Settings {
        sealing: Sealing::OnDemand,
        merge_fan_in: 2,
        ..Settings::default()
    };
    let open = |disk: &SimulatedDisk| {
        let engine = open_with(disk, settings.clone());
        engine.set_id_window(organization(1), Some(Duration::from_hours(24)));
        engine
    };
    let send = |engine: &Engine, hours: i64, names: &[(&str, &str)]| {
        let measurements = names.iter().map(|(name, value)| measured(name, 1, value));
        let mut batch = batch(measurements.collect());
        batch.received = at(1_800_000_000 + hours * HOUR);
        store(engine, batch)
    };
    let mut engine = open(&disk);
    assert_eq!(
        send(&engine, 0, &[("a", "1"), ("b", "2")]),
        [Accepted, Accepted]
    );
    assert_eq!(
        send(&engine, 23, &[("a", "1"), ("c", "4")]),
        [Duplicate, Accepted]
    );
    // Forgotten, then known again; within a batch too.
    assert_eq!(
        send(&engine, 26, &[("a", "8"), ("a", "8"), ("b", "9")]),
        [Accepted, Duplicate, Accepted]
    );
    assert_eq!(send(&engine, 27, &[("c", "5")]), [Conflict]);
    assert_eq!(totals(&engine), (5, "24".to_owned()));
    let trace = |engine: &Engine| {
        let trace = engine.trace(organization(1), &id("a"), 10, &Cancel::new());
        trace.unwrap().unwrap().versions.len()
    };
    assert_eq!(trace(&engine), 1);
    for round in 0..3 {
        engine.seal().unwrap();
        while engine.merge().unwrap() {}
        assert_eq!((totals(&engine), trace(&engine)), ((5, "24".to_owned()), 1));
        drop(engine);
        let report = verify(Path::new(DIRECTORY), &disk, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
        engine = open(&disk);
        let hours = 30 + round;
        assert_eq!(
            send(&engine, hours, &[("a", "8"), ("a", "9")]),
            [Duplicate, Conflict]
        );
        // The log tells what was forgotten, whatever the window is when it is read.
        assert_eq!(
            totals(&open_with(&disk.kill(), settings.clone())),
            totals(&engine)
        );
    }
    assert_eq!(send(&engine, 60, &[("c", "16")]), [Accepted]);
    assert_eq!(totals(&engine), (6, "40".to_owned()));
    // Others remember for ever.
    let mut other = batch(vec![measured("x", 1, "1")]);
    other.organization = organization(2);
    assert_eq!(store(&engine, other.clone()), [Accepted]);
    other.received = at(1_900_000_000);
    assert_eq!(store(&engine, other), [Duplicate]);
}
