//! What happens to files: merging, dropping, closing, and what goes wrong with that.

use crate::fixtures::*;
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{
    Cancel, Disk, Engine, Listing, MaintenanceError, Problem, Sealing, Settings, SubmitError,
    Verdict, VerifyReport, verify,
};
use meterd_model::Measurement;
use std::path::{Path, PathBuf};

const MONTH_SECONDS: i64 = 31 * 86_400;

fn settings() -> Settings {
    Settings {
        sealing: Sealing::OnDemand,
        ..Settings::default()
    }
}

/// Merges as soon as there are two alike.
fn open_merging_pairs(disk: &SimulatedDisk) -> Engine {
    let settings = Settings {
        merge_fan_in: 2,
        ..settings()
    };
    open_with(disk, settings)
}

/// So many measurements of some month, each with an id of its own.
fn rows(name: &str, month: i64, count: i64) -> Vec<Measurement> {
    let row = |n| {
        measured(
            &format!("{name}-{month}-{n}"),
            month * MONTH_SECONDS + n,
            "1",
        )
    };
    (0..count).map(row).collect()
}

fn store_sealed(engine: &Engine, rows: Vec<Measurement>) {
    store(engine, batch(rows));
    engine.seal().unwrap();
}

fn segments(engine: &Engine) -> u64 {
    engine.stats().segments
}

fn failures(engine: &Engine) -> u64 {
    engine.stats().maintenance_failures
}

/// All files below a directory.
fn files(disk: &SimulatedDisk, directory: &Path) -> Vec<PathBuf> {
    let Ok(names) = disk.list(directory) else {
        return vec![directory.to_owned()];
    };
    let paths = names.iter().map(|name| directory.join(name));
    let mut all: Vec<_> = paths.flat_map(|path| files(disk, &path)).collect();
    all.sort();
    all
}

fn segment_files(disk: &SimulatedDisk) -> Vec<PathBuf> {
    files(disk, &Path::new(DIRECTORY).join("segments"))
}

fn run_files(disk: &SimulatedDisk) -> usize {
    disk.list(&Path::new(DIRECTORY).join("ids")).unwrap().len()
}

fn verified(disk: &SimulatedDisk) -> VerifyReport {
    verify(Path::new(DIRECTORY), &disk.kill(), &mut |_, _| {}).unwrap()
}

#[test]
fn what_cannot_be_merged_does_not_hold_up_the_rest() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for name in ["a", "b"] {
        let all = (600..603).flat_map(|month| rows(name, month, 10));
        store_sealed(&engine, all.collect());
    }
    let damaged = segment_files(&disk).remove(0);
    let mut bytes = disk.bytes(&damaged).unwrap();
    bytes[50] ^= 1;
    disk.put(&damaged, bytes);
    let rounds: Vec<bool> = (0..20).map(|_| engine.merge().is_err()).collect();
    // The damaged partition stays as it is, the other two are one segment each.
    assert_eq!(segments(&engine), 4);
    // It is tried again, but ever more seldom.
    let failed = rounds.iter().filter(|failed| **failed).count();
    assert_eq!((failed, failures(&engine)), (5, 5), "{rounds:?}");
    assert_eq!(segment_files(&disk).len(), 4);
}

#[test]
fn segments_are_merged_though_runs_cannot_be() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for name in ["a", "b", "c", "d"] {
        store_sealed(&engine, rows(name, 600, 10));
    }
    let runs = files(&disk, &Path::new(DIRECTORY).join("ids"));
    let mut bytes = disk.bytes(&runs[0]).unwrap();
    bytes[5_000] ^= 1;
    disk.put(&runs[0], bytes);
    let failed = (0..10).filter(|_| engine.merge().is_err()).count();
    assert_eq!(failed, 4);
    assert_eq!((segments(&engine), run_files(&disk)), (1, 4));
}

#[test]
fn partitions_are_merged_together() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for name in ["a", "b"] {
        let all = (600..630).flat_map(|month| rows(name, month, 2));
        store_sealed(&engine, all.collect());
    }
    assert_eq!(segments(&engine), 60);
    assert!(engine.merge().unwrap());
    assert_eq!(segments(&engine), 30);
    assert_eq!(segment_files(&disk).len(), 30);
    assert!(!engine.merge().unwrap());
    assert_eq!(totals(&engine), (120, "120".to_owned()));
    assert!(verified(&disk).is_sound());
}

#[test]
fn a_merge_reads_a_bounded_number_of_files() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for n in 0..40 {
        store_sealed(&engine, rows(&n.to_string(), 600, 1));
    }
    assert_eq!((run_files(&disk), segments(&engine)), (40, 40));
    assert!(engine.merge().unwrap());
    assert_eq!(run_files(&disk), 40 - 16 + 1);
    while run_files(&disk) > 8 {
        assert!(engine.merge().unwrap());
    }
    assert_eq!(segments(&engine), 40);
    assert!(engine.merge().unwrap());
    assert_eq!(segments(&engine), 40 - 8 + 1);
    while engine.merge().unwrap() {}
    assert_eq!(totals(&engine), (40, "40".to_owned()));
    assert!(verified(&disk).is_sound());
}

#[test]
fn what_is_large_is_not_written_anew_for_what_is_small() {
    let disk = SimulatedDisk::new();
    let engine = open_with(&disk, settings());
    store_sealed(&engine, rows("large", 600, 1_000));
    let large = (segment_files(&disk), run_files(&disk));
    for n in 0..7 {
        store_sealed(&engine, rows(&n.to_string(), 600, 1));
    }
    // The runs of the small ones become one.
    assert!(engine.merge().unwrap());
    assert!(!engine.merge().unwrap());
    assert_eq!((run_files(&disk), segments(&engine)), (2, 8));
    store_sealed(&engine, rows("last", 600, 1));
    while engine.merge().unwrap() {}
    assert_eq!(segments(&engine), 2);
    assert!(segment_files(&disk).contains(&large.0[0]));
}

#[test]
fn the_worst_segments_of_a_large_partition_are_written_anew() {
    let disk = SimulatedDisk::new();
    let engine = open_with(
        &disk,
        Settings {
            segment_max_rows: 150,
            ..settings()
        },
    );
    for name in ["a", "b", "c"] {
        store_sealed(&engine, rows(name, 600, 100));
    }
    let ids = |name: &str, count| rows(name, 600, count).into_iter().map(|row| row.id);
    let voided = ids("a", 2).chain(ids("b", 40)).chain(ids("c", 10));
    let ticket = engine.void(organization(1), voided.collect(), at(2_000_000_000));
    ticket.unwrap().wait().unwrap();
    engine.seal().unwrap();
    // That of `a` has too few; the other two do not fit into one.
    let mut merges = 0;
    while engine.merge().unwrap() {
        merges += 1;
    }
    // One of these is of the four runs.
    assert_eq!((merges, segments(&engine)), (3, 4));
    assert_eq!(totals(&engine), (248, "248".to_owned()));
    let report = verified(&disk);
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.measurements, 248);
}

#[test]
fn what_only_seems_worn_is_written_anew_once() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    let settled = || {
        while engine.merge().unwrap() {}
        segment_files(&disk)
    };
    let void = |name: &str, count| {
        let ids = rows(name, 600, count).into_iter().map(|row| row.id);
        let ticket = engine.void(organization(1), ids.collect(), at(2_000_000_000));
        ticket.unwrap().wait().unwrap();
        engine.seal().unwrap();
    };
    for (name, count) in [("early", 10), ("large", 600), ("late", 10)] {
        store_sealed(&engine, rows(name, 600, count));
    }
    // One of the early and the late rows, between which the large segment's came, and the large one.
    assert_eq!(settled().len(), 2);
    void("large", 2);
    let settled_once = settled();
    for _ in 0..10 {
        assert!(!engine.merge().unwrap());
    }
    assert_eq!(segment_files(&disk), settled_once);
    // Nothing else of the partition has to rest for it.
    store_sealed(&engine, rows("more", 600, 20));
    assert_eq!(settled().len(), 2);
    // What is really worn is still found.
    void("early", 10);
    let worn = segment_files(&disk);
    assert_ne!(settled(), worn);
    let report = verified(&disk);
    assert_eq!(report.problems, Vec::<Problem>::new());
    assert_eq!(totals(&engine), (628, "628".to_owned()));
}

#[test]
fn a_merge_that_does_not_fit_leaves_the_space_to_the_log() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for name in ["a", "b"] {
        store_sealed(&engine, rows(name, 600, 500));
    }
    let before = files(&disk, Path::new(DIRECTORY));
    disk.set_space(Some(2_000));
    let merged = engine.merge();
    assert!(merged.is_err_and(|error| error.is_full()));
    for _ in 0..5 {
        assert!(!engine.merge().unwrap_or(false));
    }
    assert_eq!(files(&disk, Path::new(DIRECTORY)), before);
    assert_eq!(
        store(&engine, batch(rows("c", 600, 1))),
        [Verdict::Accepted]
    );
    disk.set_space(None);
    // In time it is tried again.
    while segments(&engine) == 2 {
        engine.merge().unwrap();
    }
    assert_eq!(totals(&engine), (1_001, "1001".to_owned()));
}

#[test]
fn a_seal_needs_no_more_space_for_having_failed() {
    let filled = || {
        let disk = SimulatedDisk::new();
        let engine = open_with(&disk, settings());
        let all = (600..605).flat_map(|month| rows("a", month, 10));
        store(&engine, batch(all.collect()));
        (disk, engine)
    };
    let (disk, engine) = filled();
    let needed = (1..1_000).map(|n| n * 500).find(|bytes| {
        disk.set_space(Some(*bytes));
        engine.seal().is_ok()
    });
    let (disk, engine) = filled();
    let ballast = Path::new(DIRECTORY).join("ballast");
    disk.put(&ballast, vec![0; 2_000]);
    disk.set_space(Some(needed.unwrap() - 1_000));
    for _ in 0..3 {
        assert!(engine.seal().is_err_and(|error| error.is_full()));
    }
    disk.remove(&ballast).unwrap();
    engine.seal().unwrap();
}

#[test]
fn a_closed_engine_writes_nothing() {
    let disk = SimulatedDisk::new();
    let engine = open_merging_pairs(&disk);
    for name in ["a", "b"] {
        store_sealed(&engine, rows(name, 1, 10));
    }
    store(&engine, batch(rows("c", 600, 1)));
    engine.close();
    let (steps, all) = (disk.steps(), files(&disk, Path::new(DIRECTORY)));
    let is_closed =
        |error: &MaintenanceError| matches!(error, MaintenanceError::Refused(SubmitError::Closed));
    assert!(engine.merge().as_ref().is_err_and(is_closed));
    assert!(engine.seal().as_ref().is_err_and(is_closed));
    let late = at(2_000_000_000);
    let expired = engine.expire(organization(1), meter(1), late);
    assert!(expired.as_ref().is_err_and(is_closed));
    let copied = engine.backup(Path::new("copy"));
    assert!(copied.as_ref().is_err_and(is_closed));
    assert_eq!(
        (disk.steps(), files(&disk, Path::new(DIRECTORY))),
        (steps, all)
    );
    assert_eq!(failures(&engine), 0);
    assert_eq!(totals(&engine).0, 21);
}

#[test]
fn what_is_dropped_stays_readable_to_who_reads_it_and_takes_its_directory_along() {
    let disk = SimulatedDisk::new();
    let engine = open_with(&disk, settings());
    store_sealed(&engine, rows("a", 1, 10));
    store_sealed(&engine, rows("a", 600, 1));
    let mut seen = 0;
    let mut take = |_: &Measurement| {
        if seen == 0 {
            let before = at(10 * MONTH_SECONDS);
            let dropped = engine.expire(organization(1), meter(1), before);
            assert_eq!(dropped.unwrap(), 10);
        }
        seen += 1;
        std::ops::ControlFlow::Continue(())
    };
    let (from, to) = (at(0), at(700 * MONTH_SECONDS));
    let cancel = Cancel::new();
    (engine.export(organization(1), meter(1), from, to, &cancel, &mut take)).unwrap();
    assert_eq!(seen, 11);
    let left = segment_files(&disk);
    assert_eq!(left.len(), 1, "{left:?}");
    let months = left[0].parent().unwrap().parent().unwrap();
    assert_eq!(disk.list(months).unwrap().len(), 1);
}

#[test]
fn what_retention_dropped_is_counted_once() {
    let disk = SimulatedDisk::new();
    let engine = open_with(&disk, settings());
    store_sealed(&engine, rows("a", 1, 10));
    store(&engine, batch(rows("b", 600, 5)));
    let dropped = engine.expire(organization(1), meter(1), at(10 * MONTH_SECONDS));
    assert_eq!(dropped.unwrap(), 10);
    // One that is gone comes back, in a month that is kept; another is withdrawn after all.
    let mut again = rows("a", 600, 1);
    again[0].id = rows("a", 1, 1).remove(0).id;
    store(&engine, replacing(again));
    let voided = rows("a", 1, 2).remove(1).id;
    let ticket = engine.void(organization(1), vec![voided], at(2_000_000_000));
    ticket.unwrap().wait().unwrap();
    let check = || {
        let report = verified(&disk);
        assert_eq!(report.problems, Vec::<Problem>::new());
        assert_eq!(report.measurements, engine.stats().measurements);
        assert_eq!(report.measurements, totals(&engine).0);
    };
    check();
    engine.seal().unwrap();
    check();
    let listing = Listing {
        limit: 100,
        ..Listing::default()
    };
    let page = engine.list(organization(1), &listing, &Cancel::new());
    assert_eq!(page.unwrap().measurements.len(), 6);
}

#[test]
fn what_has_become_quiet_is_merged_to_the_end() {
    const QUIET_ROUNDS: usize = 60;
    let disk = SimulatedDisk::new();
    let engine = open_with(&disk, settings());
    let merge = |rounds| {
        for _ in 0..rounds {
            engine.merge().unwrap();
        }
        segments(&engine)
    };
    for name in ["a", "b", "c"] {
        store_sealed(&engine, rows(name, 0, 10));
    }
    store_sealed(&engine, rows("d", 1, 10));
    // So few are worth no merge while others may come.
    assert_eq!(merge(QUIET_ROUNDS), 4);
    store_sealed(&engine, rows("e", 1, 10));
    assert_eq!(merge(QUIET_ROUNDS), 5);
    assert!(!engine.stats().settled);
    assert_eq!(merge(10), 2);
    assert!(!engine.merge().unwrap());
    assert!(engine.stats().settled);
    assert_eq!(totals(&engine), (50, "50".to_owned()));
}
