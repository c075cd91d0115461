//! The manifest's format, what it refuses, and what power cuts leave of a switch.

use super::codec::{decode, encode, framed, payload};
use super::*;
use crate::testing::{Operation, PowerCut, SimulatedDisk};
use meterd_model::{FieldName, MeterId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn field(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

fn partition(meter: u8, month: u32) -> Partition {
    Partition {
        meter: MeterId(Uuid::from_bytes([meter; 16])),
        month: Month(month),
    }
}

fn organization(number: u8) -> OrganizationId {
    OrganizationId(Uuid::from_bytes([number; 16]))
}

fn segment(number: u64) -> SegmentMeta {
    SegmentMeta {
        number,
        organization: organization(0x11),
        partition: partition(0x22, 682),
        rows: 300,
        voids: 1,
        superseded: 2,
        time_min: 0x0102,
        time_max: 0x0304,
        sequence_min: 1,
        sequence_max: 300,
        bytes: 5_000,
        checksum: 0xa1b2_c3d4,
        values: vec![field("kwh")],
        attributes: vec![field("site"), field("zone")],
    }
}

fn small() -> Manifest {
    Manifest {
        first_log: 3,
        next_sequence: 400,
        next_file: 9,
        hash_key: [0x33; 32],
        organizations: vec![OrganizationMeta {
            organization: organization(0x11),
            ids: 250,
            segments: vec![segment(7)],
            retired: vec![(partition(0x22, 682), RoaringTreemap::from([5, 6]))],
            dropped: vec![(partition(0x22, 600), 120)],
            forgets: true,
            forgotten_below: 130,
        }],
        runs: vec![RunMeta {
            number: 8,
            entries: 250,
            bytes: 4_096,
            checksum: 0x0a0b_0c0d,
        }],
        marks: vec![(1_000, 1), (1_200, 301)],
    }
}

/// As in `docs/STORAGE-FORMAT.md`, byte by byte.
#[test]
fn the_format_is_the_one_that_is_written_down() {
    let expected = [
        b"meterdMF".to_vec(),
        hex("02000000 bd00000000000000 fa89b017"),
        // First log, next sequence, next file, hash key.
        hex("03 9003 09"),
        vec![0x33; 32],
        // Fields and meters.
        hex("03 03 6b7768 04 73697465 04 7a6f6e65"),
        hex("01"),
        vec![0x22; 16],
        // One organization with its ids.
        hex("01"),
        vec![0x11; 16],
        hex("fa01"),
        // One segment: number, meter, month, rows, voids, superseded, times, sequences, bytes, checksum, fields.
        hex("01 07 00 aa05 ac02 01 02 0201000000000000 0403000000000000 01 ac02 8827 d4c3b2a1"),
        hex("01 00 02 01 02"),
        // One retired set: meter, month, length, 64-bit Roaring with one part of key 0.
        hex("01 00 aa05 20 0100000000000000 00000000"),
        hex("3a300000 01000000 0000 0100 10000000 0500 0600"),
        // One month up to which rows were dropped: meter, month, sequence.
        hex("01 00 d804 78"),
        // It forgot ids, those below a sequence for good.
        hex("01 8201"),
        // One run, two marks.
        hex("01 08 fa01 8020 0d0c0b0a"),
        hex("02 e807 01 c801 ac02"),
    ]
    .concat();
    let bytes = encode(&small()).unwrap();
    assert_eq!(bytes, expected);
    assert_eq!(decode(&bytes), Ok(small()));
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.replace(' ', "").into_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn any_flipped_bit_and_any_missing_or_added_byte_is_damage() {
    let bytes = encode(&small()).unwrap();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << bit;
            decode(&flipped).unwrap_err();
        }
        decode(&bytes[..place]).unwrap_err();
    }
    decode(&[&bytes[..], &[0]].concat()).unwrap_err();
    let fault = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        decode(&bytes).unwrap_err()
    };
    assert_eq!(fault(Vec::clear), ManifestFault::Length);
    assert_eq!(fault(|bytes| bytes[0] = b'M'), ManifestFault::Magic);
    assert_eq!(fault(|bytes| bytes[8] = 1), ManifestFault::Version(1));
    assert_eq!(
        fault(|bytes| bytes[12..20].fill(0xff)),
        ManifestFault::Length
    );
    assert_eq!(fault(|bytes| bytes[30] ^= 1), ManifestFault::Checksum);
}

/// Neither written nor read.
#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut Manifest);
    fn first(manifest: &mut Manifest) -> &mut OrganizationMeta {
        &mut manifest.organizations[0]
    }
    fn again(manifest: &mut Manifest, number: u8) {
        let mut other = manifest.organizations[0].clone();
        other.organization = organization(number);
        other.segments.clear();
        manifest.organizations.push(other);
    }
    let changes: [(Change, &str); 36] = [
        (|m| m.first_log = 0, "log begins"),
        (|m| again(m, 0x11), "organizations"),
        (|m| again(m, 0x10), "organizations"),
        (|m| m.runs[0].number = 7, "same number"),
        (|m| first(m).segments.push(segment(7)), "same number"),
        (|m| m.runs[0].number = 9, "not given yet"),
        (|m| m.next_file = 0, "not given yet"),
        (|m| first(m).segments[0].superseded = 301, "superseded"),
        (|m| first(m).segments[0].time_min = 0x0305, "ends before"),
        (|m| first(m).segments[0].sequence_min = 301, "sequences"),
        (|m| first(m).segments[0].sequence_max = 400, "sequences"),
        (|m| m.next_sequence = 300, "sequences"),
        (|m| first(m).segments[0].attributes.reverse(), "fields"),
        (|m| first(m).segments[0].values.push(field("kwh")), "fields"),
        (
            |m| first(m).segments[0].partition.month.0 = 96_360,
            "no month",
        ),
        (|m| first(m).retired[0].1.clear(), "empty"),
        (|m| first(m).retired[0].1.extend([400]), "not sealed"),
        (|m| first(m).retired[0].0.month.0 = 96_360, "no month"),
        (
            |m| {
                let twice = first(m).retired[0].clone();
                first(m).retired.push(twice);
            },
            "partitions",
        ),
        (
            |m| {
                let set = RoaringTreemap::from([1]);
                first(m).retired.push((partition(0x22, 681), set));
            },
            "partitions",
        ),
        (|m| m.marks.reverse(), "mark"),
        (|m| m.marks[1].0 = 1_000, "marks are not"),
        (|m| m.marks[1].1 = 1, "marks are not"),
        (|m| m.marks[0].0 = -1, "mark"),
        (|m| m.marks[1].1 = 401, "mark"),
        (|m| first(m).forgotten_below = 401, "forgotten"),
        (|m| m.first_log = 1 << 62, "any that is given"),
        (|m| m.next_sequence = u64::MAX, "any that is given"),
        (|m| m.next_file = u64::MAX, "any that is given"),
        (|m| first(m).segments[0].rows = 301, "more rows"),
        (
            |m| {
                let twice = (0..2).map(segment);
                first(m).segments = twice.collect();
            },
            "more rows",
        ),
        (|m| first(m).ids = 400, "more ids"),
        (|m| m.runs[0].entries = u64::MAX, "more entries"),
        (|m| m.runs[0].bytes = 1 << 62, "more bytes"),
        (|m| m.runs[0].bytes = u64::MAX, "more bytes"),
        (|m| first(m).segments[0].bytes = u64::MAX - 9, "more bytes"),
    ];
    for (place, (change, words)) in changes.into_iter().enumerate() {
        let mut manifest = small();
        change(&mut manifest);
        let disk = disk();
        let refused = manifest.write(&disk, Path::new("")).unwrap_err();
        assert!(matches!(refused, WriteError::NotWritten(_)) && disk.steps() == 0);
        let read = decode(&framed(&payload(&manifest).unwrap())).unwrap_err();
        assert!(read.to_string().contains(words), "{place}: {read}");
    }
    let mut other = small();
    other.organizations[0].segments[0].organization = organization(0x12);
    assert!(encode(&other).is_err());
}

/// Right sums around wrong contents.
#[test]
fn contents_that_no_writer_writes_are_refused() {
    let whole = payload(&small()).unwrap();
    let set = whole.len() - 20 - 6 - 32;
    let cases: [(usize, &[u8], &str); 8] = [
        (0, &[0xff; 9], "too great"),
        (0, &[0x80; 10], "too great"),
        // More fields than there are bytes, and a name that is none.
        (36, &[0x7f], "a field has no valid name"),
        (36, &[0xff, 0xff, 0xff, 0xff, 0x0f], "too early"),
        (38, b"9", "valid name"),
        // Parts of a retired set: none, more than there are, a wrong kind.
        (set, &[0], "retired set"),
        (set, &[0xff; 8], "retired set"),
        (set + 12, &[0], "retired set"),
    ];
    for (place, new, words) in cases {
        let mut bytes = whole.clone();
        bytes[place..place + new.len()].copy_from_slice(new);
        let fault = decode(&framed(&bytes)).unwrap_err().to_string();
        assert!(fault.contains(words), "{place} {new:?}: {fault}");
    }
    let long = decode(&framed(&[&whole[..], &[0]].concat())).unwrap_err();
    assert_eq!(long, Contents("they go on past their end"));

    // Two parts of one key, of which the library would keep one.
    let mut twice = whole.clone();
    let part = whole[set + 8..set + 32].to_vec();
    twice.splice(set + 32..set + 32, part);
    twice[set] = 2;
    twice[set - 1] = 56;
    let fault = decode(&framed(&twice)).unwrap_err();
    assert_eq!(fault, Contents("a retired set does not read"));
}

fn names() -> impl Strategy<Value = Vec<FieldName>> {
    prop::collection::btree_set("[a-z]{1,3}", 0..5)
        .prop_map(|names| names.iter().map(|name| field(name)).collect())
}

fn partitions() -> impl Strategy<Value = Partition> {
    (0..4_u8, 0..96_000_u32).prop_map(|(meter, month)| partition(meter, month))
}

/// Next sequence of a manifest that has anything.
const GIVEN: u64 = 1 << 61;
/// So much of what is summed up can each of its parts have.
const SHARE: u64 = GIVEN / 32;

fn sequences() -> impl Strategy<Value = RoaringTreemap> {
    let few = prop::collection::vec(0..GIVEN, 1..9).prop_map(RoaringTreemap::from_iter);
    let many = (any::<u32>(), 1..100_000_u64).prop_map(|(start, length)| {
        let mut set = RoaringTreemap::new();
        set.insert_range(u64::from(start)..u64::from(start) + length);
        set.extend((0..6_000).map(|n| u64::from(start) + n * 7));
        set
    });
    let runs = (any::<u32>(), 1..100_000_u64).prop_map(|(start, length)| {
        let mut set = RoaringTreemap::new();
        set.insert_range(u64::from(start)..u64::from(start) + length);
        set.optimize();
        set
    });
    prop_oneof![4 => few, 1 => many, 1 => runs].prop_map(|mut set| {
        set.insert(1);
        set
    })
}

fn segments() -> impl Strategy<Value = SegmentMeta> {
    let numbers = (0..SHARE, 0..SHARE, any::<i64>(), any::<i64>(), 0..SHARE);
    let others = (
        0..GIVEN - SHARE,
        0..GIVEN - SHARE,
        any::<u64>(),
        any::<u32>(),
    );
    (partitions(), numbers, others, names(), names()).prop_map(
        |(partition, (rows, superseded, time, other_time, bytes), others, values, attributes)| {
            let (sequence, other_sequence, number, checksum) = others;
            SegmentMeta {
                number,
                organization: organization(0),
                partition,
                rows: rows.max(superseded),
                voids: rows.min(superseded) / 2,
                superseded: rows.min(superseded),
                time_min: time.min(other_time),
                time_max: time.max(other_time),
                sequence_min: sequence.min(other_sequence),
                sequence_max: sequence.max(other_sequence) + rows.max(superseded),
                bytes,
                checksum,
                values,
                attributes,
            }
        },
    )
}

fn manifests() -> impl Strategy<Value = Manifest> {
    let organizations = prop::collection::btree_map(
        any::<u8>(),
        (
            0..SHARE,
            prop::collection::vec(segments(), 0..5),
            prop::collection::btree_map(partitions(), sequences(), 0..3),
        ),
        0..4,
    );
    let runs = prop::collection::vec((0..SHARE, 0..SHARE, any::<u32>()), 0..4);
    let times = prop::collection::btree_set(0..=Timestamp::MAX.micros(), 0..6);
    let given = prop::collection::btree_set(0..GIVEN, 6);
    (
        1..NUMBER_MAX,
        any::<[u8; 32]>(),
        organizations,
        runs,
        times,
        given,
    )
        .prop_map(|(first_log, hash_key, organizations, runs, times, given)| {
            let mut next_file = 0;
            let mut next = || {
                next_file += 1;
                next_file - 1
            };
            let organizations = organizations
                .into_iter()
                .map(|(number, (ids, mut segments, retired))| {
                    for segment in &mut segments {
                        segment.organization = organization(number);
                        segment.number = next();
                    }
                    OrganizationMeta {
                        organization: organization(number),
                        ids,
                        segments,
                        retired: retired.into_iter().collect(),
                        dropped: vec![(partition(number, 1), 0)],
                        forgets: number % 2 == 0,
                        forgotten_below: u64::from(number) << (number % 50),
                    }
                })
                .collect();
            let runs = runs
                .into_iter()
                .map(|(entries, bytes, checksum)| RunMeta {
                    number: next(),
                    entries,
                    bytes,
                    checksum,
                })
                .collect();
            Manifest {
                first_log,
                next_sequence: GIVEN,
                next_file,
                hash_key,
                organizations,
                runs,
                marks: times.into_iter().zip(given).collect(),
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(manifest in manifests()) {
        let bytes = encode(&manifest).unwrap();
        prop_assert_eq!(decode(&bytes), Ok(manifest));
    }

    /// What passes the checksum may still be anything: it is refused or read, never a panic.
    #[test]
    fn no_payload_makes_it_panic(
        manifest in manifests(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = payload(&manifest).unwrap();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(read) = decode(&framed(&bytes)) {
            // And what is read can be written.
            prop_assert_eq!(decode(&encode(&read).unwrap()), Ok(read));
        }
    }
}

const DIRECTORY: &str = "engine";

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.put(&Path::new(DIRECTORY).join("other"), Vec::new());
    disk
}

fn numbered(first_log: u64) -> Manifest {
    Manifest {
        first_log,
        ..small()
    }
}

fn write(disk: &SimulatedDisk, first_log: u64) -> Result<(), WriteError> {
    numbered(first_log).write(disk, Path::new(DIRECTORY))
}

/// The number of the manifest that is there, whole.
fn read(disk: &SimulatedDisk) -> Option<u64> {
    let manifest = Manifest::read(disk, Path::new(DIRECTORY)).unwrap()?;
    assert_eq!(manifest, numbered(manifest.first_log));
    Some(manifest.first_log)
}

fn cuts() -> impl Iterator<Item = PowerCut> {
    [PowerCut::Keep, PowerCut::Drop]
        .into_iter()
        .chain((0..40).map(|seed| PowerCut::Tear { seed }))
}

/// Every disk that a start may find.
fn starts(disk: &SimulatedDisk) -> impl Iterator<Item = SimulatedDisk> {
    cuts().map(|cut| disk.restart(cut)).chain([disk.kill()])
}

/// What a start may read after a write over `old`.
fn may_read(old: Option<u64>, new: u64, written: &Result<(), WriteError>) -> Vec<Option<u64>> {
    match written {
        Ok(()) => vec![Some(new)],
        Err(WriteError::NotWritten(_)) => vec![old],
        Err(WriteError::Unknown(_)) => vec![old, Some(new)],
    }
}

/// And a second life that writes over what the first left loses power as well.
#[test]
fn every_power_cut_leaves_the_old_one_or_the_new_one() {
    let mut seen = BTreeMap::new();
    for old in [None, Some(1)] {
        let before = disk();
        if let Some(old) = old {
            write(&before, old).unwrap();
        }
        for step in 0..=5 {
            let disk = before.kill();
            disk.cut_power_at(step);
            let written = write(&disk, 2);
            assert_eq!(written.is_ok(), step == 5, "{step}: {written:?}");
            for found in starts(&disk) {
                let first = read(&found);
                assert!(
                    may_read(old, 2, &written).contains(&first),
                    "{step}: {first:?}"
                );
                *seen.entry((old, step, first)).or_insert(0) += 1;
                for cut in cuts().take(6) {
                    assert_eq!(read(&found.restart(cut)), first, "what was read is durable");
                }
                for step in 0..=6 {
                    let second = found.kill();
                    second.cut_power_at(step);
                    let written = write(&second, 3);
                    for cut in cuts().take(6) {
                        let last = read(&second.restart(cut));
                        assert!(may_read(first, 3, &written).contains(&last));
                    }
                }
            }
        }
    }
    // A cut at the rename (step 3) shows both, and so does one at the sync of the directory.
    for (old, step) in [(None, 3), (None, 4), (Some(1), 3), (Some(1), 4)] {
        assert!(seen.contains_key(&(old, step, old)) && seen.contains_key(&(old, step, Some(2))));
    }
}

#[test]
fn an_error_says_what_a_start_may_find() {
    for (operation, unknown) in [
        (Operation::Create, false),
        (Operation::Append, false),
        (Operation::Sync, false),
        (Operation::Rename, true),
        (Operation::SyncDirectory, true),
    ] {
        let disk = disk();
        write(&disk, 1).unwrap();
        disk.fail(operation, 1);
        let written = write(&disk, 2);
        assert_eq!(matches!(written, Err(WriteError::Unknown(_))), unknown);
        assert!(written.is_err());
        for found in starts(&disk) {
            let found = read(&found);
            assert!(
                may_read(Some(1), 2, &written).contains(&found),
                "{operation:?}: {found:?}"
            );
        }
        write(&disk, 3).unwrap();
        for found in starts(&disk) {
            assert_eq!(read(&found), Some(3));
        }
    }
}

#[test]
fn a_full_disk_keeps_the_old_one_and_is_not_filled_further() {
    let disk = disk();
    write(&disk, 1).unwrap();
    disk.set_space(Some(100));
    assert!(matches!(write(&disk, 2), Err(WriteError::NotWritten(_))));
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    assert_eq!(names, ["manifest", "other"]);
    assert_eq!(read(&disk), Some(1));
    // The room for one more is enough for any number.
    disk.set_space(Some(300));
    for next in 2..9 {
        write(&disk, next).unwrap();
    }
    assert_eq!(read(&disk), Some(8));
}

#[test]
fn nothing_is_guessed_at() {
    let disk = disk();
    assert_eq!(read(&disk), None);
    let directory = Path::new(DIRECTORY);
    disk.put(&directory.join(TEMPORARY_NAME), b"left over".to_vec());
    assert_eq!(read(&disk), None);
    write(&disk, 1).unwrap();
    disk.put(
        &directory.join(TEMPORARY_NAME),
        encode(&numbered(2)).unwrap(),
    );
    assert_eq!(read(&disk), Some(1));
    disk.fail(Operation::Read, 1);
    let failed = Manifest::read(&disk, directory).unwrap_err();
    assert!(matches!(failed, ManifestError::Io(_)));
    disk.put(&directory.join(NAME), Vec::new());
    let damaged = Manifest::read(&disk, directory).unwrap_err();
    assert!(matches!(
        damaged,
        ManifestError::Damaged(ManifestFault::Length)
    ));
    assert_eq!(
        damaged.to_string(),
        "the manifest is damaged: the file is shorter or longer than it says"
    );
}

/// It is written anew with each seal and merge.
#[test]
fn ten_thousand_segments_take_little_room() {
    let manifest = large();
    let bytes = encode(&manifest).unwrap();
    assert!(bytes.len() < 600_000, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok(manifest));
}

/// `cargo test --release -p meterd-engine --lib manifest -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn how_long_ten_thousand_segments_take() {
    let manifest = large();
    let bytes = encode(&manifest).unwrap();
    for (what, work) in [
        ("encode", &(|| drop(encode(&manifest))) as &dyn Fn()),
        ("decode", &|| drop(decode(&bytes))),
    ] {
        let start = std::time::Instant::now();
        (0..20).for_each(|_| work());
        println!(
            "{what}: {:?} for {} bytes",
            start.elapsed() / 20,
            bytes.len()
        );
    }
}

fn large() -> Manifest {
    let mut manifest = small();
    let meta = &mut manifest.organizations[0];
    meta.segments = (0..10_000_u64)
        .map(|number| {
            let sequence_min = 1 + number * 100_000;
            SegmentMeta {
                number: 9 + number,
                partition: partition(u8::try_from(number % 100).unwrap(), 600),
                rows: 100_000,
                time_min: 1_700_000_000_000_000,
                time_max: 1_700_000_086_400_000,
                sequence_min,
                sequence_max: sequence_min + 99_999,
                bytes: 3_000_000,
                ..segment(0)
            }
        })
        .collect();
    manifest.next_sequence = 2_000_000_000;
    manifest.next_file = 20_000;
    manifest
}
