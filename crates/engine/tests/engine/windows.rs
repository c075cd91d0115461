//! Ids that an organization's window forgot: merges drop them, and nobody may find anything of them after that.

use crate::fixtures::{
    DIRECTORY, at, batch, id, measured, open_with, organization, replacing, store, totals,
};
use meterd_engine::Verdict::{Accepted, Conflict, Duplicate, Replaced};
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{Batch, Cancel, Engine, Sealing, Settings, Verdict, VoidOutcome, verify};
use std::path::Path;
use std::time::Duration;

const DAY: Option<Duration> = Some(Duration::from_hours(24));

fn open(disk: &SimulatedDisk) -> Engine {
    let settings = Settings {
        sealing: Sealing::OnDemand,
        merge_fan_in: 100,
        ..Settings::default()
    };
    open_with(disk, settings)
}

fn send(engine: &Engine, hours: i64, mut batch: Batch) -> Vec<Verdict> {
    batch.received = at(1_800_000_000 + hours * 3_600);
    store(engine, batch)
}

/// One id in a run of its own.
fn send_and_seal(engine: &Engine, hours: i64, name: &str) {
    let batch = batch(vec![measured(name, 1, "100")]);
    assert_eq!(send(engine, hours, batch), [Accepted]);
    engine.seal().unwrap();
}

fn void(engine: &Engine, hours: i64, name: &str) -> Vec<VoidOutcome> {
    let received = at(1_800_000_000 + hours * 3_600);
    let ticket = engine.void(organization(1), vec![id(name)], received);
    ticket.unwrap().wait().unwrap().outcomes
}

fn trace_length(engine: &Engine, name: &str) -> Option<usize> {
    let trace = engine.trace(organization(1), &id(name), 10, &Cancel::new());
    trace.unwrap().map(|trace| trace.versions.len())
}

fn merge(engine: &Engine) {
    assert!(engine.merge().unwrap());
    assert!(!engine.merge().unwrap());
}

/// What a power cut leaves, checked and opened again.
fn reopen(disk: &SimulatedDisk, engine: Engine) -> (SimulatedDisk, Engine) {
    let after = disk.kill();
    drop(engine);
    let report = verify(Path::new(DIRECTORY), &after, &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let engine = open(&after);
    assert_eq!(engine.stats().measurements, report.measurements);
    assert_eq!(totals(&engine).0, report.measurements);
    (after, engine)
}

#[test]
fn a_forgotten_id_cannot_be_voided() {
    for merges_first in [false, true] {
        let disk = SimulatedDisk::new();
        let engine = open(&disk);
        engine.set_id_window(organization(1), DAY);
        for (hours, name) in [(0, "a"), (30, "b"), (60, "c"), (90, "d")] {
            send_and_seal(&engine, hours, name);
        }
        if merges_first {
            merge(&engine);
        }
        assert_eq!(void(&engine, 91, "a"), [VoidOutcome::NotFound]);
        assert_eq!(void(&engine, 91, "d"), [VoidOutcome::Voided]);
        if !merges_first {
            merge(&engine);
        }
        let (_, engine) = reopen(&disk, engine);
        assert_eq!(totals(&engine), (3, "300".to_owned()));
        // For good, whatever the window is by now.
        assert_eq!(void(&engine, 91, "a"), [VoidOutcome::NotFound]);
        assert_eq!(trace_length(&engine, "a"), None);
        assert_eq!(trace_length(&engine, "d"), Some(2));
    }
}

#[test]
fn a_shorter_window_does_not_take_ids_from_what_is_not_sealed() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    for (hours, name) in [(0, "a"), (30, "b"), (60, "c"), (90, "d")] {
        send_and_seal(&engine, hours, name);
    }
    let other = || replacing(vec![measured("a", 1, "1")]);
    assert_eq!(send(&engine, 91, other()), [Replaced]);
    engine.set_id_window(organization(1), DAY);
    merge(&engine);
    let (disk, engine) = reopen(&disk, engine);
    assert_eq!(totals(&engine), (4, "301".to_owned()));
    // What was decided so is sealed, and then the window may act.
    engine.set_id_window(organization(1), DAY);
    send_and_seal(&engine, 130, "e");
    assert_eq!(send(&engine, 131, other()), [Accepted]);
    let (_, engine) = reopen(&disk, engine);
    assert_eq!(totals(&engine), (6, "402".to_owned()));
}

#[test]
fn a_clock_that_was_set_back_does_not_bring_ids_back() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    engine.set_id_window(organization(1), DAY);
    for (hours, name) in [(0, "a"), (30, "b"), (60, "c"), (90, "d")] {
        send_and_seal(&engine, hours, name);
    }
    let other = replacing(vec![measured("a", 1, "1")]);
    assert_eq!(send(&engine, 1, other), [Accepted]);
    merge(&engine);
    let (_, engine) = reopen(&disk, engine);
    assert_eq!(totals(&engine), (5, "401".to_owned()));
}

#[test]
fn a_merge_of_some_runs_brings_no_older_entry_back() {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    engine.set_id_window(organization(1), DAY);
    // A large run with the first version, and a small one with the second.
    let many = (0..64)
        .map(|n| measured(&format!("a-{n}"), 1, "1"))
        .collect();
    send(&engine, 0, batch(many));
    engine.seal().unwrap();
    let second = || replacing(vec![measured("a-0", 1, "2")]);
    assert_eq!(send(&engine, 1, second()), [Replaced]);
    engine.seal().unwrap();
    for (hours, name) in [(30, "b"), (60, "c"), (90, "d")] {
        send_and_seal(&engine, hours, name);
    }
    merge(&engine);
    assert_eq!(void(&engine, 91, "a-0"), [VoidOutcome::NotFound]);
    assert_eq!(trace_length(&engine, "a-0"), None);
    engine.set_id_window(organization(1), None);
    let (disk, engine) = reopen(&disk, engine);
    let first = || batch(vec![measured("a-0", 1, "1")]);
    // It is another measurement now, beside the one that it was.
    assert_eq!(send(&engine, 92, first()), [Accepted]);
    assert_eq!(send(&engine, 92, first()), [Duplicate]);
    assert_eq!(trace_length(&engine, "a-0"), Some(1));
    let (_, engine) = reopen(&disk, engine);
    let second = batch(vec![measured("a-0", 1, "2")]);
    assert_eq!(send(&engine, 92, second), [Conflict]);
    assert_eq!(totals(&engine), (68, "366".to_owned()));
    assert_eq!(engine.stats().measurements, 68);
}
