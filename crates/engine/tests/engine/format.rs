//! Damaged files: refused with their name and place, never guessed at, and never a panic.

use crate::fixtures::*;
use meterd_engine::testing::{PowerCut, SimulatedDisk};
use meterd_engine::{Action, Batch, Cancel, Engine, Fault, OpenError, Problem, Settings, verify};
use meterd_model::{Decimal, Timestamp};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn file(number: u32) -> PathBuf {
    Path::new(DIRECTORY)
        .join("log")
        .join(format!("{number:020}.log"))
}

/// A log of several files with all that records can hold.
fn written(file_max: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let settings = Settings {
        log_file_max_bytes: file_max,
        ..Settings::default()
    };
    let engine = open_with(&disk, settings);
    for n in 0..6 {
        let mut rich = measured(&format!("rich{n}"), n, "-1.25");
        rich.end_time = Some(at(n + 5));
        rich.attributes = vec![(field("region"), text("eu")), (field("tier"), text(""))];
        store(
            &engine,
            batch(vec![
                measured(&format!("plain{n}"), n, "99999999999999999999.5"),
                rich.clone(),
            ]),
        );
        rich.subject = subject("other");
        store(&engine, replacing(vec![rich]));
        engine
            .void(organization(1), vec![id(&format!("plain{n}"))], at(9))
            .unwrap()
            .wait()
            .unwrap();
    }
    disk.restart(PowerCut::Drop)
}

fn reopen(disk: &SimulatedDisk) -> Result<Engine, OpenError> {
    Engine::open(
        Path::new(DIRECTORY),
        Settings::default(),
        Arc::new(disk.clone()),
    )
}

fn damage(disk: &SimulatedDisk, number: u32, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.bytes(&file(number)).unwrap();
    change(&mut bytes);
    disk.put(&file(number), bytes);
}

#[test]
fn damage_before_the_end_is_refused_with_its_place() {
    for (number, at_byte) in [(1, 60), (2, 40), (3, 30)] {
        let disk = written(400);
        damage(&disk, number, |bytes| bytes[at_byte] ^= 0x10);
        match reopen(&disk).unwrap_err() {
            OpenError::Damaged {
                file: name,
                offset,
                fault,
            } => {
                assert_eq!(name, format!("{number:020}.log"));
                assert_eq!(
                    (offset, fault),
                    (24, if at_byte < 44 { fault } else { Fault::Checksum })
                );
            }
            other => panic!("{other}"),
        }
        let report = verify(Path::new(DIRECTORY), &disk, &mut |_, _| {}).unwrap();
        assert!(
            matches!(report.problems[0], Problem::Damaged { offset: 24, .. }),
            "{report:?}"
        );
    }
}

#[test]
fn in_the_last_file_only_the_end_may_be_torn() {
    let disk = written(1 << 20);
    damage(&disk, 1, |bytes| bytes[60] ^= 1);
    assert!(matches!(
        reopen(&disk),
        Err(OpenError::Damaged {
            offset: 24,
            fault: Fault::Checksum,
            ..
        })
    ));
    let disk = written(1 << 20);
    let whole = totals(&reopen(&disk.restart(PowerCut::Keep)).unwrap());
    damage(&disk, 1, |bytes| bytes.truncate(bytes.len() - 3));
    let cut = totals(&reopen(&disk).unwrap());
    // The last record was a void.
    assert_eq!((whole.0, cut.0), (6, 7));
}

#[test]
fn missing_foreign_and_newer_files_are_refused() {
    let fault = |disk: &SimulatedDisk| match reopen(disk) {
        Err(OpenError::Damaged { fault, .. }) => Some(fault),
        _ => None,
    };
    let disk = written(400);
    let second = disk.bytes(&file(2)).unwrap();
    disk.put(&file(1), second);
    assert_eq!(fault(&disk), Some(Fault::FileNumber));
    let disk = written(400);
    disk.put(&file(99), disk.bytes(&file(1)).unwrap());
    assert_eq!(fault(&disk), Some(Fault::FileMissing));
    let disk = written(400);
    damage(&disk, 1, |bytes| bytes[0] = b'X');
    assert_eq!(fault(&disk), Some(Fault::Magic));
    let disk = SimulatedDisk::new();
    drop(reopen(&disk));
    damage(&disk, 1, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..20]).to_le_bytes();
        bytes[20..24].copy_from_slice(&crc);
    });
    assert_eq!(fault(&disk), Some(Fault::FileVersion(2)));
}

#[test]
fn what_is_cut_is_kept_beside_the_log() {
    let disk = written(1 << 20);
    let copy = Path::new(DIRECTORY)
        .join("log")
        .join("00000000000000000001.log.torn");
    assert_eq!(
        reopen(&disk.restart(PowerCut::Keep))
            .unwrap()
            .stats()
            .torn_bytes,
        0
    );
    let whole = disk.bytes(&file(1)).unwrap();
    damage(&disk, 1, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let torn_bytes = {
        let engine = reopen(&disk).unwrap();
        engine.stats().torn_bytes
    };
    let good = disk.bytes(&file(1)).unwrap();
    let tail = disk.bytes(&copy).unwrap();
    assert_eq!(u64::try_from(tail.len()).unwrap(), torn_bytes);
    assert_eq!(
        [&good[..], &tail[..tail.len() - 1]].concat(),
        whole[..whole.len() - 1]
    );
    // The copy is none of the log's business, and safe.
    let disk = disk.restart(PowerCut::Drop);
    assert_eq!(reopen(&disk).unwrap().stats().torn_bytes, 0);
    assert_eq!(disk.bytes(&copy), Some(tail));
    assert!(
        verify(Path::new(DIRECTORY), &disk, &mut |_, _| {})
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_missing_first_file_is_one_problem() {
    let disk = written(400);
    let without = SimulatedDisk::new();
    for number in 2..100 {
        if let Some(bytes) = disk.bytes(&file(number)) {
            without.put(&file(number), bytes);
        }
    }
    let report = verify(Path::new(DIRECTORY), &without, &mut |_, _| {}).unwrap();
    let sequences = report
        .problems
        .iter()
        .filter(|p| matches!(p, Problem::Sequence { .. }));
    assert_eq!(sequences.count(), 0);
    assert_eq!(
        report.problems[0],
        Problem::Damaged {
            file: format!("{:020}.log", 1),
            offset: 0,
            fault: Fault::FileMissing
        }
    );
}

/// A log of all that the first format knows, as it was written when the format was fixed.
const FORMAT_1: &[u8] = include_bytes!("format-1.log");

fn write_format_1() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let mut rich = measured("ärich", 86_400, "-1.25");
    rich.end_time = Some(Timestamp::MAX);
    rich.values.push((field("zero"), decimal("0")));
    rich.values.push((field("most"), Decimal::MAX));
    rich.attributes = vec![(field("region"), text("eu")), (field("tier"), text(""))];
    store(
        &engine,
        batch(vec![
            measured("plain", 0, "0.000000000000000001"),
            rich.clone(),
        ]),
    );
    store(
        &engine,
        Batch {
            organization: organization(2),
            ..batch(vec![measured("plain", 5, "7")])
        },
    );
    rich.subject = subject("other");
    rich.meter = meter(2);
    store(&engine, replacing(vec![rich, measured("new", 6, "8")]));
    let ids = vec![id("plain"), id("new")];
    engine
        .void(organization(1), ids, at(9))
        .unwrap()
        .wait()
        .unwrap();
    drop(engine);
    disk
}

#[test]
fn the_first_format_is_still_written() {
    let bytes = write_format_1().bytes(&file(1)).unwrap();
    assert!(bytes == FORMAT_1, "{bytes:?}");
}

#[test]
fn the_first_format_is_still_read() {
    let disk = SimulatedDisk::new();
    disk.put(&file(1), FORMAT_1.to_vec());
    let engine = reopen(&disk).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.organizations, stats.ids), (2, 4));
    assert_eq!((stats.measurements, stats.versions), (2, 5));
    let trace = |n, name| {
        engine
            .trace(organization(n), &id(name), 10, &Cancel::new())
            .unwrap()
            .unwrap()
    };
    let rich = trace(1, "ärich");
    assert_eq!(
        rich.versions
            .iter()
            .map(|v| (v.sequence, v.action))
            .collect::<Vec<_>>(),
        [(2, Action::Stored), (4, Action::Replaced)]
    );
    let old = rich.versions[0].measurement.as_ref().unwrap();
    assert_eq!((old.meter, old.subject.as_str()), (meter(1), "s"));
    let new = rich.current().unwrap();
    assert_eq!((new.meter, new.subject.as_str()), (meter(2), "other"));
    assert_eq!((new.time, new.end_time), (at(86_400), Some(Timestamp::MAX)));
    assert_eq!(
        new.values,
        [
            (field("amount"), decimal("-1.25")),
            (field("most"), Decimal::MAX),
            (field("zero"), decimal("0"))
        ]
    );
    assert_eq!(
        new.attributes,
        [(field("region"), text("eu")), (field("tier"), text(""))]
    );
    assert_eq!(rich.versions[1].received, at(2_000_000_000));
    let plain = trace(1, "plain");
    assert!(plain.current().is_none());
    assert_eq!(
        (plain.versions[1].sequence, plain.versions[1].received),
        (6, at(9))
    );
    assert_eq!(
        plain.versions[0].measurement.as_ref().unwrap().values,
        [(field("amount"), decimal("0.000000000000000001"))]
    );
    assert_eq!(
        trace(2, "plain").current().unwrap().values,
        [(field("amount"), decimal("7"))]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens to the bytes: it opens with a part of what was stored, or says why not. Verify never fails.
    #[test]
    fn no_bytes_make_it_panic(
        file_max in prop_oneof![Just(400_u64), Just(1 << 20)],
        number in 1_u32..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in prop::option::of(any::<prop::sample::Index>()),
        extra in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let disk = written(file_max);
        if disk.bytes(&file(number)).is_none() {
            return Ok(());
        }
        damage(&disk, number, |bytes| {
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Some(keep) = keep {
                bytes.truncate(keep.index(bytes.len()));
            }
            bytes.extend(extra);
        });
        let report = verify(Path::new(DIRECTORY), &disk, &mut |_, _| {}).unwrap();
        match reopen(&disk) {
            Ok(engine) => {
                prop_assert!(report.is_sound());
                prop_assert!(totals(&engine).0 <= 12);
            }
            Err(_) => prop_assert!(!report.is_sound()),
        }
    }
}
