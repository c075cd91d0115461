//! Power cuts at every step of a workload, and disks that fail without one.

use crate::fixtures::*;
use meterd_engine::testing::{Operation, PowerCut, SimulatedDisk};
use meterd_engine::{
    Cancel, Durability, Engine, OpenError, Settings, SubmitError, Ticket, Verdict, verify,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was sent and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// No answer, or one that leaves it open: may be there, once, or not.
    Unknown,
}

#[derive(Default)]
struct Script {
    /// Of batches of new ids: name and fate. Each batch has two rows, `n-a` of 1 and `n-b` of 2.
    stored: Vec<(u32, Fate)>,
    replaced: BTreeMap<u32, Fate>,
    voided: BTreeMap<u32, Fate>,
}

fn fate<T>(answer: &Result<T, SubmitError>) -> Fate {
    match answer {
        Ok(_) => Fate::Acknowledged,
        Err(_) => Fate::Unknown,
    }
}

fn names(n: u32) -> [String; 2] {
    [format!("{n}-a"), format!("{n}-b")]
}

fn settings(durability: Durability) -> Settings {
    Settings {
        durability,
        log_file_max_bytes: 300,
        ..Settings::default()
    }
}

/// Stores, replaces and voids until the power goes.
fn play(engine: &Engine, first: u32) -> Script {
    let mut script = Script::default();
    for n in first..first + 8 {
        let [a, b] = names(n);
        let answer = engine
            .submit(batch(vec![
                measured(&a, i64::from(n), "1"),
                measured(&b, i64::from(n), "2"),
            ]))
            .and_then(Ticket::wait);
        script.stored.push((n, fate(&answer)));
        if n % 3 == 1 {
            let answer = engine
                .submit(replacing(vec![measured(&a, 7, "10")]))
                .and_then(Ticket::wait);
            script.replaced.insert(n, fate(&answer));
        }
        if n % 4 == 2 {
            let answer = engine
                .void(organization(1), vec![id(&b)], at(9))
                .and_then(Ticket::wait);
            script.voided.insert(n, fate(&answer));
            // Sent again, the verdict says whether it was voided, and from then on that must stay true.
            let again = engine
                .submit(batch(vec![measured(&b, i64::from(n), "2")]))
                .and_then(Ticket::wait);
            match again.as_ref().map(|receipt| receipt.verdicts.as_slice()) {
                Ok([Verdict::Duplicate]) => drop(script.voided.remove(&n)),
                Ok([Verdict::Conflict]) => drop(script.voided.insert(n, Fate::Acknowledged)),
                _ => {}
            }
        }
    }
    script
}

/// Acknowledged ⊆ stored, every row as one of the versions that may count, the sum that of the rows.
fn check(engine: &Engine, script: &Script) {
    let current = |name: &str| {
        let trace = engine
            .trace(organization(1), &id(name), 100, &Cancel::new())
            .unwrap()?;
        Some(
            trace
                .current()
                .map_or_else(|| "void".to_owned(), |m| m.values[0].1.to_string()),
        )
    };
    let mut sum = 0;
    let mut count = 0;
    for (n, fate) in &script.stored {
        let [a, b] = names(*n);
        let (a, b) = (current(&a), current(&b));
        assert_eq!(a.is_some(), b.is_some(), "half a batch: {n}");
        assert!(
            *fate == Fate::Unknown || a.is_some(),
            "lost an acknowledged batch: {n}"
        );
        let allowed_a: &[&str] = match script.replaced.get(n) {
            None => &["1"],
            Some(Fate::Acknowledged) => &["10"],
            Some(Fate::Unknown) => &["1", "10"],
        };
        let allowed_b: &[&str] = match script.voided.get(n) {
            None => &["2"],
            Some(Fate::Acknowledged) => &["void"],
            Some(Fate::Unknown) => &["2", "void"],
        };
        assert!(
            a.iter().all(|a| allowed_a.contains(&a.as_str())),
            "{n}: {a:?} not in {allowed_a:?}"
        );
        assert!(
            b.iter().all(|b| allowed_b.contains(&b.as_str())),
            "{n}: {b:?} not in {allowed_b:?}"
        );
        for value in a
            .iter()
            .chain(&b)
            .filter_map(|text| text.parse::<i64>().ok())
        {
            sum += value;
            count += 1;
        }
    }
    assert_eq!(totals(engine), (count, sum.to_string()));
}

fn merged(mut first: Script, second: Script) -> Script {
    first.stored.extend(second.stored);
    first.replaced.extend(second.replaced);
    first.voided.extend(second.voided);
    first
}

#[test]
fn every_power_cut_leaves_what_was_acknowledged() {
    let whole = SimulatedDisk::new();
    drop(play(&open_with(&whole, settings(Durability::Sync)), 0));
    let steps = whole.steps();
    assert!(
        steps > 40,
        "the workload rotates files and syncs: {steps} steps"
    );
    let cuts = [PowerCut::Keep, PowerCut::Drop]
        .into_iter()
        .chain((0..12).map(|seed| PowerCut::Tear { seed }));
    for cut in cuts {
        for step in 0..=steps {
            let disk = SimulatedDisk::new();
            disk.cut_power_at(step);
            let opened = Engine::open(
                Path::new(DIRECTORY),
                settings(Durability::Sync),
                Arc::new(disk.clone()),
            );
            let script = opened.map(|engine| play(&engine, 0)).unwrap_or_default();
            let found = disk.restart(cut);
            // The second start may lose power as well, in the middle of its repairs.
            found.cut_power_at(step % 7);
            let opened = Engine::open(
                Path::new(DIRECTORY),
                settings(Durability::Sync),
                Arc::new(found.clone()),
            );
            let more = opened.map(|engine| play(&engine, 100)).unwrap_or_default();
            let found = found.restart(cut);
            let engine = open_with(&found, settings(Durability::Sync));
            let script = merged(script, more);
            check(&engine, &script);
            let third = play(&engine, 200);
            let script = merged(script, third);
            check(&engine, &script);
            drop(engine);
            let report = verify(Path::new(DIRECTORY), &found, &mut |_, _| {}).unwrap();
            assert!(report.is_sound(), "{cut:?} {step}: {report:?}");
        }
    }
}

/// Batches that wait together are committed in groups; a group that is lost is lost without a trace.
#[test]
fn a_power_cut_during_group_commit_leaves_whole_batches() {
    for step in 0..30 {
        for seed in 0..8 {
            let disk = SimulatedDisk::new();
            disk.cut_power_at(step);
            let directory = Path::new(DIRECTORY);
            let settings = settings(Durability::Sync);
            let opened = Engine::open(directory, settings.clone(), Arc::new(disk.clone()));
            let mut script = Script::default();
            if let Ok(engine) = opened {
                let tickets: Vec<_> = (0..40)
                    .map(|n| {
                        let [a, b] = names(n);
                        let rows = vec![measured(&a, 1, "1"), measured(&b, 1, "2")];
                        // Every second one is a repeat that rests on the one before it.
                        (
                            n,
                            engine.submit(batch(rows.clone())),
                            engine.submit(batch(rows)),
                        )
                    })
                    .collect();
                for (n, first, second) in tickets {
                    let first = fate(&first.and_then(Ticket::wait));
                    let second = fate(&second.and_then(Ticket::wait));
                    let any = [first, second].contains(&Fate::Acknowledged);
                    let fate = if any {
                        Fate::Acknowledged
                    } else {
                        Fate::Unknown
                    };
                    script.stored.push((n, fate));
                }
            }
            let found = disk.restart(PowerCut::Tear { seed });
            check(&open_with(&found, settings), &script);
        }
    }
}

/// Without syncs nothing is promised over a power cut but that the log still opens.
#[test]
fn unsynced_logs_open_after_a_power_cut() {
    for seed in 0..200 {
        let disk = SimulatedDisk::new();
        let engine = open_with(&disk, settings(Durability::Os));
        play(&engine, 0);
        let found = disk.restart(PowerCut::Tear { seed });
        let engine = open_with(&found, settings(Durability::Os));
        let query = whole_range(vec![count()]);
        engine
            .query(organization(1), &query, &Cancel::new())
            .unwrap();
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    for space in 0..600 {
        let disk = SimulatedDisk::new();
        let engine = open_with(&disk, settings(Durability::Sync));
        store(&engine, batch(vec![measured("first", 1, "1")]));
        disk.set_space(Some(space));
        let mut acknowledged = 1;
        let mut refused = false;
        for n in 0..10 {
            let answer = engine
                .submit(batch(vec![measured(&format!("n{n}"), 1, "1")]))
                .unwrap()
                .wait();
            match answer {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    assert_eq!(error, SubmitError::Full);
                    refused = true;
                }
            }
            assert_eq!(totals(&engine).0, acknowledged);
        }
        assert!(refused);
        // What is stored is recognised even now.
        assert_eq!(
            store(&engine, batch(vec![measured("first", 1, "1")])),
            [Verdict::Duplicate]
        );
        disk.set_space(None);
        assert_eq!(
            store(&engine, batch(vec![measured("later", 1, "1")])),
            [Verdict::Accepted]
        );
        assert_eq!(totals(&engine).0, acknowledged + 1);
        let reopened = open_with(&disk.restart(PowerCut::Drop), settings(Durability::Sync));
        assert_eq!(totals(&reopened).0, acknowledged + 1, "space {space}");
    }
}

/// What could not be cut back may be there after a restart; until it is, no answer may say what is stored, not even
/// that nothing changed.
#[test]
fn no_answer_rests_on_what_may_come_back() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let a = || batch(vec![measured("a", 1, "1")]);
    let void = |name: &str| {
        let ticket = engine.void(organization(1), vec![id(name)], at(9)).unwrap();
        ticket.wait().map(|receipt| receipt.outcomes)
    };
    store(&engine, a());
    disk.fail(Operation::Sync, 1);
    disk.fail(Operation::Cut, 5);
    assert_eq!(void("a"), Err(SubmitError::Unavailable));
    let send = |batch| engine.submit(batch).unwrap().wait();
    assert_eq!(send(a()), Err(SubmitError::Unavailable));
    assert_eq!(
        send(batch(vec![measured("a", 1, "2")])),
        Err(SubmitError::Unavailable)
    );
    assert_eq!(void("unknown"), Err(SubmitError::Unavailable));
    disk.fail(Operation::Cut, 0);
    assert_eq!(store(&engine, a()), [Verdict::Duplicate]);
    let found = open(&disk.restart(PowerCut::Keep));
    assert_eq!(totals(&found), (1, "1".to_owned()));
    // No space is no excuse either.
    store(&engine, batch(vec![measured("b", 1, "1")]));
    disk.set_space(Some(10));
    disk.fail(Operation::Cut, 1);
    assert_eq!(void("a"), Err(SubmitError::Unavailable));
    assert_eq!(void("a"), Err(SubmitError::Full));
}

/// A sync failed, the process was killed, and the cache showed the next one what the disk never got.
#[test]
fn what_a_start_reads_is_on_the_disk() {
    for durability in [Durability::Sync, Durability::Os] {
        for file_max in [300, 1 << 20] {
            let settings = || Settings {
                log_file_max_bytes: file_max,
                ..settings(durability)
            };
            let disk = SimulatedDisk::new();
            let engine = open_with(&disk, settings());
            for n in 0..4 {
                store(&engine, batch(vec![measured(&format!("a{n}"), 1, "1")]));
            }
            disk.fail(Operation::Sync, 1);
            disk.fail(Operation::Cut, 100);
            let unsure = engine.submit(batch(vec![measured("b", 1, "1")])).unwrap();
            let _ = unsure.wait();
            let disk = disk.kill();
            let engine = open_with(&disk, settings());
            let names = ["a0", "a1", "a2", "a3", "b"];
            store(
                &engine,
                batch(names.iter().map(|name| measured(name, 1, "1")).collect()),
            );
            let found = open_with(&disk.restart(PowerCut::Drop), settings());
            let kept = totals(&found).0;
            // Without syncs, what the second life wrote may go; what it found may not.
            assert!(
                kept == 5 || (durability == Durability::Os && kept == 4),
                "{durability:?} {file_max}: {kept}"
            );
        }
    }
}

#[test]
fn a_start_without_space_still_reads() {
    let disk = SimulatedDisk::new();
    store(&open(&disk), batch(vec![measured("a", 1, "1")]));
    // An interrupted write is cut off, and there is no room for a copy of it; nor does it leave room for a new file.
    let file = Path::new(DIRECTORY).join("log/00000000000000000001.log");
    let mut bytes = disk.bytes(&file).unwrap();
    bytes.extend([7; 20]);
    disk.put(&file, bytes);
    disk.set_space(Some(0));
    let engine = open(&disk);
    assert_eq!(totals(&engine), (1, "1".to_owned()));
    assert!(!engine.is_writable());
    let send = |name| {
        engine
            .submit(batch(vec![measured(name, 1, "1")]))
            .unwrap()
            .wait()
    };
    assert_eq!(send("b"), Err(SubmitError::Full));
    assert_eq!(send("a").unwrap().verdicts, [Verdict::Duplicate]);
    disk.set_space(None);
    assert_eq!(send("b").unwrap().verdicts, [Verdict::Accepted]);
    assert!(engine.is_writable());
    assert_eq!(totals(&open(&disk.restart(PowerCut::Drop))).0, 2);
}

fn eventually(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// A load balancer sends nothing to a server that is not ready.
#[test]
fn a_log_that_failed_is_repaired_without_being_asked() {
    let disk = SimulatedDisk::new();
    let settings = Settings {
        repair_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    let engine = open_with(&disk, settings);
    disk.fail(Operation::Sync, 1);
    disk.fail(Operation::Cut, 3);
    let refused = engine.submit(batch(vec![measured("a", 1, "1")])).unwrap();
    assert_eq!(refused.wait(), Err(SubmitError::Unavailable));
    assert!(eventually(|| engine.is_writable()));
    assert!(engine.stats().writable);
    assert_eq!(totals(&open(&disk.restart(PowerCut::Keep))).0, 0);
}

#[test]
fn a_dead_writer_does_not_look_healthy() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    store(&engine, batch(vec![measured("a", 1, "1")]));
    assert!(engine.is_writable());
    disk.break_down();
    let lost = engine.submit(batch(vec![measured("b", 1, "1")])).unwrap();
    assert_eq!(lost.wait(), Err(SubmitError::Unavailable));
    assert!(eventually(|| !engine.is_writable()));
    assert_eq!(totals(&engine).0, 1);
    let refused = || engine.submit(batch(vec![measured("c", 1, "1")]));
    assert!(eventually(
        || refused().is_err_and(|error| error == SubmitError::Closed)
    ));
}

#[test]
fn new_directories_survive_a_power_cut() {
    for directory in ["a/b/c", "/var/lib/meterd", "one", ""] {
        let disk = SimulatedDisk::new();
        let open = |disk: &SimulatedDisk| {
            let disk = Arc::new(disk.clone());
            Engine::open(Path::new(directory), Settings::default(), disk).unwrap()
        };
        store(&open(&disk), batch(vec![measured("a", 1, "1")]));
        let found = open(&disk.restart(PowerCut::Drop));
        assert_eq!(totals(&found).0, 1, "{directory}");
    }
}

/// Even where writes are not synced, they are now and then, and so damage is told from a torn write.
#[test]
fn without_syncs_damage_far_before_the_end_is_refused() {
    let disk = SimulatedDisk::new();
    let engine = open_with(
        &disk,
        Settings {
            durability: Durability::Os,
            ..Settings::default()
        },
    );
    for n in 0..10 {
        let rows = (0..2000).map(|row| {
            let mut rich = measured(&format!("{n}-{row}"), 1, "1");
            let long = format!("{n}-{row}-{}", "x".repeat(240));
            rich.attributes.push((field("region"), text(&long)));
            rich.attributes
                .push((field("tier"), text(&long.replace('x', "y"))));
            rich
        });
        store(&engine, batch(rows.collect()));
    }
    let found = disk.restart(PowerCut::Keep);
    let file = Path::new(DIRECTORY).join("log/00000000000000000001.log");
    let mut bytes = found.bytes(&file).unwrap();
    assert!(bytes.len() > 9 << 20);
    bytes[200] ^= 1;
    found.put(&file, bytes);
    let opened = Engine::open(Path::new(DIRECTORY), Settings::default(), Arc::new(found));
    assert!(matches!(opened, Err(OpenError::Damaged { offset: 24, .. })));
}

#[test]
fn a_failed_sync_is_not_retried_as_if_nothing_happened() {
    let disk = SimulatedDisk::new();
    let engine = open_with(&disk, Settings::default());
    store(&engine, batch(vec![measured("a", 1, "1")]));
    for round in 0..5 {
        disk.fail(Operation::Sync, 1);
        let name = format!("b{round}");
        let refused = engine
            .submit(batch(vec![measured(&name, 1, "1")]))
            .unwrap()
            .wait();
        assert_eq!(refused, Err(SubmitError::Unavailable));
        assert_eq!(totals(&engine).0, 1 + round);
        assert!(!engine.stats().writable);
        assert_eq!(
            store(&engine, batch(vec![measured(&name, 1, "1")])),
            [Verdict::Accepted]
        );
        assert!(engine.stats().writable);
        let reopened = open(&disk.restart(PowerCut::Drop));
        assert_eq!(totals(&reopened).0, 2 + round);
    }
    drop(engine);
    let report = verify(Path::new(DIRECTORY), &disk, &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}
