//! Many threads at once.

use crate::fixtures::*;
use meterd_engine::testing::{PowerCut, SimulatedDisk};
use meterd_engine::{Batch, Settings, SubmitError, Verdict};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn overlapping_senders_store_each_id_once() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let accepted: Vec<String> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..6_u64)
            .map(|sender| {
                let engine = &engine;
                scope.spawn(move || {
                    let mut accepted = Vec::new();
                    for round in 0..60 {
                        // Each sender sends every block, in an order of its own.
                        let block = (round * 7 + sender * 11) % 60;
                        let names: Vec<_> =
                            (0..20).map(|n| format!("id-{}", block * 20 + n)).collect();
                        let verdicts = store(
                            engine,
                            batch(names.iter().map(|name| measured(name, 1, "1")).collect()),
                        );
                        accepted.extend(
                            names
                                .into_iter()
                                .zip(verdicts)
                                .filter(|(_, v)| *v == Verdict::Accepted)
                                .map(|(name, _)| name),
                        );
                    }
                    accepted
                })
            })
            .collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect()
    });
    let mut times = BTreeMap::new();
    for name in accepted {
        *times.entry(name).or_insert(0) += 1;
    }
    assert_eq!(times.len(), 1200);
    assert!(times.values().all(|n| *n == 1));
    assert_eq!(totals(&engine), (1200, "1200".to_owned()));
    assert_eq!(
        totals(&open(&disk.restart(PowerCut::Drop))),
        (1200, "1200".to_owned())
    );
}

#[test]
fn queries_see_whole_batches_and_all_that_was_acknowledged() {
    let engine = open(&SimulatedDisk::new());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..1500 {
                let (plus, minus) = (format!("{n}+"), format!("{n}-"));
                let amount = (n + 1).to_string();
                store(
                    &engine,
                    batch(vec![
                        measured(&plus, n, &amount),
                        measured(&minus, n, &format!("-{amount}")),
                    ]),
                );
                let (count, sum) = totals(&engine);
                assert_eq!(
                    (count, sum.as_str()),
                    (2 * u64::try_from(n + 1).unwrap(), "0")
                );
                if n % 5 == 0 {
                    // A replacement of both rows keeps the balance too.
                    store(
                        &engine,
                        replacing(vec![measured(&plus, n, "0.5"), measured(&minus, n, "-0.5")]),
                    );
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = 0;
                while !done.load(Ordering::SeqCst) {
                    let (count, sum) = totals(&engine);
                    assert_eq!((count % 2, sum.as_str()), (0, "0"));
                    assert!(count >= before);
                    before = count;
                }
            });
        }
    });
}

#[test]
fn a_crowded_queue_says_busy_and_loses_nothing() {
    let settings = Settings {
        queue_max_batches: 2,
        ..Settings::default()
    };
    let engine = open_with(&SimulatedDisk::new(), settings);
    let mut tickets = Vec::new();
    let mut busy = 0;
    for n in 0..5000 {
        let one: Batch = batch(vec![measured(&format!("a{n}"), 1, "1")]);
        match engine.submit(one) {
            Ok(ticket) => tickets.push(ticket),
            Err(SubmitError::Busy { retry_after }) => {
                assert!(!retry_after.is_zero());
                busy += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let accepted = tickets.len();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap().verdicts, [Verdict::Accepted]);
    }
    assert_eq!(accepted + busy, 5000);
    assert_eq!(totals(&engine).0, u64::try_from(accepted).unwrap());
}
