//! Random histories and random queries: the engine must agree with the oracle to the last digit, also after reopening.

use crate::fixtures::*;
use crate::oracle::{Oracle, matches};
use meterd_engine::testing::{PowerCut, SimulatedDisk};
use meterd_engine::{
    Aggregation, Batch, Cancel, Engine, Filter, Function, GroupKey, ListOrder, Listing, OnConflict,
    Order, OrderKey, Query, Sealing, Settings, verify,
};
use meterd_model::{Decimal, Measurement, Timestamp, Window, Zone};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::path::Path;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
];
const VALUES: [&str; 3] = ["amount", "energy", "both"];
const ATTRIBUTES: [&str; 4] = ["region", "tier", "both", "reset"];
const TEXTS: [&str; 5] = ["eu", "us", "", "Ω-3", "true"];
const SUBJECTS: [&str; 4] = ["device-1", "device-2", "Äpfel", "z"];
/// Around changes of daylight saving in Berlin, St. John's and Lord Howe, and Samoa's lost day.
const MOMENTS: [i64; 5] = [
    1_774_746_000,
    1_792_890_000,
    1_775_314_800,
    1_325_239_200,
    1_541_300_400,
];

#[derive(Clone, Debug)]
enum Step {
    Submit(Batch),
    Void(u128, Vec<u8>),
    Seal,
    Merge,
    Close,
    CutPower(PowerCut),
}

fn time() -> impl Strategy<Value = Timestamp> {
    (
        0..MOMENTS.len(),
        -400_000_000_000_i64..400_000_000_000,
        any::<bool>(),
    )
        .prop_map(|(moment, off, coarse)| {
            let off = if coarse {
                off / 3_600_000_000 * 3_600_000_000
            } else {
                off
            };
            Timestamp::from_micros(MOMENTS[moment] * 1_000_000 + off).unwrap()
        })
}

fn value() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        3 => (-20_i64..20).prop_map(Decimal::from),
        2 => any::<i64>().prop_map(|units| Decimal::from_units(i128::from(units) * 7_919).unwrap()),
        1 => prop_oneof![Just(Decimal::MAX), Just(Decimal::MIN), Just(Decimal::ZERO)],
    ]
}

fn measurement() -> impl Strategy<Value = Measurement> {
    (
        (0_u8..40, 1_u128..3, 0..SUBJECTS.len(), time()),
        option::weighted(0.2, 1_i64..10_000_000),
        vec(option::weighted(0.7, value()), VALUES.len()),
        vec(option::weighted(0.5, 0..TEXTS.len()), ATTRIBUTES.len()),
        any::<bool>(),
    )
        .prop_map(
            |(
                (number, meter_number, subject_index, time),
                lasts,
                values,
                attributes,
                backwards,
            )| {
                let mut measurement = Measurement {
                    id: id(&format!("id-{number}")),
                    meter: meter(meter_number),
                    subject: subject(SUBJECTS[subject_index]),
                    time,
                    end_time: lasts
                        .map(|lasts| Timestamp::from_micros(time.micros() + lasts).unwrap()),
                    values: VALUES
                        .iter()
                        .zip(values)
                        .filter_map(|(name, value)| Some((field(name), value?)))
                        .collect(),
                    attributes: ATTRIBUTES
                        .iter()
                        .zip(attributes)
                        .filter_map(|(name, text)| {
                            Some((field(name), crate::fixtures::text(TEXTS[text?])))
                        })
                        .collect(),
                };
                if backwards {
                    measurement.values.reverse();
                }
                measurement
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (
        1_u128..3,
        vec(measurement(), 0..12),
        any::<bool>(),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(organization_number, mut measurements, replace, repeat)| {
            if let Some(last) = measurements.last().cloned() {
                // A repeat of the same content, which random content would hardly ever hit.
                measurements.insert(repeat.index(measurements.len()), last);
            }
            Step::Submit(Batch {
                organization: organization(organization_number),
                received: at(1_800_000_000),
                measurements,
                on_conflict: if replace {
                    OnConflict::Replace
                } else {
                    OnConflict::Reject
                },
            })
        });
    let void = (1_u128..3, vec(0_u8..50, 0..5))
        .prop_map(|(organization, ids)| Step::Void(organization, ids));
    let keep = prop_oneof![
        4 => Just(Step::Seal),
        3 => Just(Step::Merge),
        1 => Just(Step::Close),
        1 => Just(Step::CutPower(PowerCut::Drop)),
        1 => any::<u64>().prop_map(|seed| Step::CutPower(PowerCut::Tear { seed })),
    ];
    prop_oneof![6 => submit, 2 => void, 4 => keep]
}

fn query() -> impl Strategy<Value = Query> {
    let aggregation = (0..9_usize, 0..5_usize).prop_map(|(function, name)| {
        let functions = [
            Function::Sum,
            Function::Min,
            Function::Max,
            Function::Count,
            Function::Mean,
            Function::Latest,
            Function::Earliest,
            Function::Unique,
            Function::Consumption,
        ];
        let function = functions[function];
        let names = [
            Some("amount"),
            Some("energy"),
            Some("both"),
            Some("region"),
            None,
        ];
        let optional = matches!(function, Function::Count | Function::Unique);
        Aggregation {
            function,
            field: names[name]
                .or(if optional { None } else { Some("unheard-of") })
                .map(field),
        }
    });
    let group = (0..4_usize).prop_map(|n| match n {
        0 => GroupKey::Subject,
        1 => GroupKey::Attribute(field("region")),
        2 => GroupKey::Attribute(field("both")),
        _ => GroupKey::Attribute(field("unheard-of")),
    });
    let filter = (
        option::weighted(0.3, vec(0..5_usize, 0..4)),
        vec((0..3_usize, vec(0..5_usize, 0..5)), 0..2),
    )
        .prop_map(|(subjects, attributes)| {
            let subjects_known = ["device-1", "device-2", "Äpfel", "z", "nobody"];
            let texts = ["eu", "us", "", "Ω-3", "nothing"];
            Filter {
                subjects: subjects.map(|subjects| {
                    subjects
                        .into_iter()
                        .map(|s| subject(subjects_known[s]))
                        .collect()
                }),
                attributes: attributes
                    .into_iter()
                    .map(|(name, wanted)| {
                        (
                            field(ATTRIBUTES[name]),
                            wanted.into_iter().map(|t| texts[t].to_owned()).collect(),
                        )
                    })
                    .collect(),
            }
        });
    let range = prop_oneof![
        1 => Just((Timestamp::MIN, Timestamp::MAX)),
        3 => (time(), time()).prop_map(|(a, b)| (a.min(b), a.max(b))),
    ];
    (
        (range, 0..ZONES.len(), option::weighted(0.8, 0..5_usize)),
        vec(group, 0..3),
        filter,
        vec(aggregation, 0..5),
        vec((0..3_u8, any::<prop::sample::Index>(), any::<bool>()), 0..3),
        (0..4_usize, prop_oneof![Just(1000), 0..6_usize]),
    )
        .prop_map(
            |((range, zone, window), group_by, filter, aggregations, orders, (offset, limit))| {
                Query {
                    meter: meter(1),
                    from: range.0,
                    to: range.1,
                    zone: Zone::named(ZONES[zone]).unwrap(),
                    window: window.map(|window| Window::ALL[window]),
                    order_by: orders
                        .into_iter()
                        .map(|(kind, index, descending)| Order {
                            by: match kind {
                                1 if !group_by.is_empty() => {
                                    OrderKey::Group(index.index(group_by.len()))
                                }
                                2 if !aggregations.is_empty() => {
                                    OrderKey::Value(index.index(aggregations.len()))
                                }
                                _ => OrderKey::From,
                            },
                            descending,
                        })
                        .collect(),
                    group_by,
                    filter,
                    aggregations,
                    offset: if limit == 1000 { 0 } else { offset },
                    limit,
                }
            },
        )
}

fn agree(engine: &Engine, oracle: &Oracle, queries: &[Query]) -> Result<(), TestCaseError> {
    for query in queries {
        let answer = engine
            .query(organization(1), query, &Cancel::new())
            .unwrap();
        prop_assert_eq!(answer, oracle.query(query), "{:?}", query);
        let listing = Listing {
            meter: Some(query.meter),
            filter: query.filter.clone(),
            from: Some(query.from),
            to: Some(query.to),
            limit: 1000,
            ..Listing::default()
        };
        let page = engine
            .list(organization(1), &listing, &Cancel::new())
            .unwrap();
        let listed = page.measurements.iter().map(|m| m.sequence);
        let expected = oracle.listing().into_iter();
        let expected = expected.filter(|(_, measurement)| matches(query, measurement));
        prop_assert!(
            listed.eq(expected.map(|(sequence, _)| sequence)),
            "{:?}",
            query
        );
    }
    for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
        let mut listed = Vec::new();
        let mut listing = Listing {
            order,
            limit: 7,
            ..Listing::default()
        };
        loop {
            let page = engine
                .list(organization(1), &listing, &Cancel::new())
                .unwrap();
            listed.extend(
                page.measurements
                    .into_iter()
                    .map(|m| (m.sequence, m.measurement)),
            );
            match page.next {
                Some(next) => listing.after = Some(next),
                None => break,
            }
        }
        if order == ListOrder::OldestFirst {
            listed.reverse();
        }
        prop_assert_eq!(listed, oracle.listing());
    }
    let mut measurements = 0;
    for (number, meter_number) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let (organization, meter) = (organization(number), meter(meter_number));
        let counted = oracle.counted(organization, meter);
        prop_assert_eq!(
            engine.meter_stats(organization, meter).measurements,
            counted
        );
        measurements += counted;
    }
    let stats = engine.stats();
    let ids = u64::try_from(oracle.histories().count()).unwrap();
    prop_assert_eq!((stats.measurements, stats.ids), (measurements, ids));
    for (organization, id, events) in oracle.histories() {
        for limit in [1, 2, 100] {
            let trace = engine
                .trace(organization, id, limit, &Cancel::new())
                .unwrap()
                .unwrap();
            let versions = trace.versions.into_iter();
            let versions: Vec<_> = versions
                .map(|v| (v.sequence, v.action, v.measurement))
                .collect();
            let newest = events.len().saturating_sub(limit);
            prop_assert_eq!(
                &versions,
                &events[newest..],
                "{:?} of {:?}",
                id,
                organization
            );
            prop_assert_eq!(trace.more, newest > 0);
        }
    }
    Ok(())
}

fn check_sound(disk: &SimulatedDisk) -> Result<(), TestCaseError> {
    let report = verify(Path::new(DIRECTORY), disk, &mut |_, _| {}).unwrap();
    prop_assert!(report.is_sound(), "{:?}", report.problems);
    Ok(())
}

/// A query of a range, and the same of all times: so that it is answered from what was kept of the one before.
fn agree_again(engine: &Engine, oracle: &Oracle, query: &Query) -> Result<(), TestCaseError> {
    let whole = Query {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        ..query.clone()
    };
    for query in [query, &whole, query, &whole] {
        let answer = engine.query(organization(1), query, &Cancel::new());
        prop_assert_eq!(answer, Ok(oracle.query(query)), "{:?}", query);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_segments_answered_before_is_what_they_answer_now(
        steps in vec((step(), option::weighted(0.1, time())), 1..24),
        queries in vec(query(), 1..5),
        query_cache_bytes in prop_oneof![Just(0_usize), Just(100_000), Just(1 << 20)],
    ) {
        let disk = SimulatedDisk::new();
        let engine = open_with(&disk, Settings {
            sealing: Sealing::OnDemand,
            merge_fan_in: 2,
            query_cache_bytes,
            ..Settings::default()
        });
        let mut oracle = Oracle::default();
        for ((step, expired), query) in steps.into_iter().zip(queries.iter().cycle()) {
            match step {
                Step::Submit(batch) => {
                    let expected = oracle.submit(&batch);
                    prop_assert_eq!(store(&engine, batch), expected);
                }
                Step::Void(number, ids) => {
                    let ids: Vec<_> = ids.iter().map(|n| id(&format!("id-{n}"))).collect();
                    oracle.void(organization(number), &ids);
                    engine.void(organization(number), ids, at(1_800_000_001)).unwrap().wait().unwrap();
                }
                Step::Merge => while engine.merge().unwrap() {},
                Step::Seal | Step::Close | Step::CutPower(_) => engine.seal().unwrap(),
            }
            if let Some(before) = expired {
                engine.expire(organization(1), meter(1), before).unwrap();
                oracle.expire(organization(1), meter(1), before);
            }
            agree_again(&engine, &oracle, query)?;
        }
        for query in &queries {
            agree_again(&engine, &oracle, query)?;
        }
    }

    #[test]
    fn the_engine_agrees_with_the_oracle(steps in vec(step(), 1..24), queries in vec(query(), 1..12), small_files in any::<bool>()) {
        let mut disk = SimulatedDisk::new();
        let settings = Settings {
            log_file_max_bytes: if small_files { 200 } else { 1 << 20 },
            sealing: Sealing::OnDemand,
            merge_fan_in: 2,
            ..Settings::default()
        };
        let mut oracle = Oracle::default();
        let mut engine = open_with(&disk, settings.clone());
        for step in steps {
            match step {
                Step::Submit(batch) => {
                    let expected = oracle.submit(&batch);
                    prop_assert_eq!(store(&engine, batch), expected);
                }
                Step::Void(number, ids) => {
                    let ids: Vec<_> = ids.iter().map(|n| id(&format!("id-{n}"))).collect();
                    let expected = oracle.void(organization(number), &ids);
                    let receipt = engine.void(organization(number), ids, at(1_800_000_001)).unwrap().wait().unwrap();
                    prop_assert_eq!(receipt.outcomes, expected);
                }
                Step::Seal => engine.seal().unwrap(),
                Step::Merge => while engine.merge().unwrap() {},
                Step::Close => {
                    drop(engine);
                    check_sound(&disk)?;
                    engine = open_with(&disk, settings.clone());
                }
                Step::CutPower(cut) => {
                    // The old engine still holds the old disk; what it does at its end is lost.
                    disk = disk.restart(cut);
                    engine = open_with(&disk, settings.clone());
                }
            }
        }
        agree(&engine, &oracle, &queries)?;
        // A power cut with the engine still running, then a proper close.
        let crashed = open_with(&disk.restart(PowerCut::Drop), settings.clone());
        agree(&crashed, &oracle, &queries)?;
        drop(engine);
        check_sound(&disk)?;
        agree(&open_with(&disk, settings), &oracle, &queries)?;
    }
}
