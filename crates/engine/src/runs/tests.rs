//! Runs against an oracle, and against every kind of damage.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of tests are small"
)]

use super::format::{FIRST_PAGE_AT, TRAILER_BYTES, Trailer, checksum};
use super::merge::Merged;
use super::*;
use crate::disk::Disk;
use crate::partition::{Month, Partition};
use crate::testing::{Operation, SimulatedDisk};
use meterd_model::MeterId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const NUMBER: u64 = 7;

/// A small generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn hash(&mut self) -> IdHash {
        let mut hash = [0; 12];
        hash[..8].copy_from_slice(&self.next().to_be_bytes());
        hash[8..].copy_from_slice(&self.next().to_be_bytes()[..4]);
        IdHash(hash)
    }

    fn entry(&mut self, organization: u128, partitions: u64, sequences: u64) -> RunEntry {
        let partition = self.below(partitions);
        RunEntry {
            organization: OrganizationId(Uuid::from_u128(organization)),
            hash: self.hash(),
            content: self.next(),
            newest: Link {
                partition: Partition {
                    meter: MeterId(Uuid::from_u128(u128::from(partition / 3) << 64)),
                    month: Month(u32::try_from(partition % 3).unwrap()),
                },
                sequence: 1_000_000 + self.below(sequences),
            },
            voided: self.below(4) == 0,
        }
    }
}

type Oracle = BTreeMap<(OrganizationId, IdHash), RunEntry>;

fn oracle(entries: impl IntoIterator<Item = RunEntry>) -> Oracle {
    entries
        .into_iter()
        .map(|entry| (entry.key(), entry))
        .collect()
}

fn path(number: u64) -> std::path::PathBuf {
    Path::new("/ids").join(RunMeta::file_name(number))
}

fn writer(disk: &SimulatedDisk, number: u64, shard_pages: u32) -> RunWriter {
    match disk.create_directory(Path::new("/ids")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
        _ => {}
    }
    let file = disk.create(&path(number)).unwrap();
    RunWriter::new(file, number, 1_000).with_shard_pages(shard_pages)
}

fn write(disk: &SimulatedDisk, number: u64, entries: &Oracle, shard_pages: u32) -> RunMeta {
    let mut writer = writer(disk, number, shard_pages);
    for entry in entries.values() {
        writer.push(entry).unwrap();
    }
    let meta = writer.finish().unwrap();
    let bytes = disk.bytes(&path(number)).unwrap();
    assert_eq!(meta.bytes, bytes.len() as u64);
    assert_eq!(meta.checksum, crc32c::crc32c(&bytes));
    assert_eq!((meta.number, meta.entries), (number, entries.len() as u64));
    meta
}

fn open(disk: &SimulatedDisk, meta: &RunMeta) -> Run {
    Run::open(disk, &path(meta.number), meta).unwrap()
}

fn check(run: &Run, entries: &Oracle, random: &mut Random) {
    let all: Vec<RunEntry> = run.entries().map(Result::unwrap).collect();
    assert!(all.iter().eq(entries.values()));
    for entry in entries.values() {
        assert_eq!(
            run.find(entry.organization, entry.hash).unwrap(),
            Some(*entry)
        );
        // The same id of another organization, and one next to it.
        let other = OrganizationId(Uuid::from_u128(entry.organization.0.as_u128() ^ 1));
        let expected = entries.get(&(other, entry.hash)).copied();
        assert_eq!(run.find(other, entry.hash).unwrap(), expected);
        let mut next = entry.hash;
        next.0[11] ^= 1;
        let expected = entries.get(&(entry.organization, next)).copied();
        assert_eq!(run.find(entry.organization, next).unwrap(), expected);
    }
    for hash in [
        IdHash([0; 12]),
        IdHash([255; 12]),
        random.hash(),
        random.hash(),
    ] {
        for (organization, _) in run.organizations() {
            let expected = entries.get(&(organization, hash)).copied();
            assert_eq!(run.find(organization, hash).unwrap(), expected);
        }
    }
    let mut counts = BTreeMap::new();
    for entry in entries.values() {
        *counts.entry(entry.organization).or_insert(0) += 1;
    }
    assert!(run.organizations().eq(counts));
    run.verify().unwrap();
    // 24 bytes an entry and a filter; or a page each for what is small.
    assert!(run.memory_bytes() < 20_000 + 100 * run.meta().entries);
}

fn round_trip(entries: impl IntoIterator<Item = RunEntry>) {
    let entries = oracle(entries);
    for shard_pages in [1, 3, 4096] {
        let disk = SimulatedDisk::new();
        let meta = write(&disk, NUMBER, &entries, shard_pages);
        check(&open(&disk, &meta), &entries, &mut Random(1));
    }
}

#[test]
fn names_have_an_exact_inverse() {
    for number in [0, 1, 42, u64::MAX] {
        assert_eq!(RunMeta::parse(&RunMeta::file_name(number)), Some(number));
    }
    assert_eq!(RunMeta::file_name(42), "00000000000000000042.ids");
    for bad in [
        "42.ids",
        "00000000000000000042",
        "+0000000000000000042.ids",
        ".ids",
        "1.log",
    ] {
        assert_eq!(RunMeta::parse(bad), None, "{bad}");
    }
}

#[test]
fn small_runs_are_as_they_were_written() {
    let mut random = Random(2);
    round_trip([]);
    for count in [1, 2, 3, 180, 200] {
        round_trip((0..count).map(|_| random.entry(5, 1, 1)));
    }
    let entry = random.entry(u128::MAX, 1, 1);
    round_trip([RunEntry {
        hash: IdHash([255; 12]),
        ..entry
    }]);
    round_trip([RunEntry {
        hash: IdHash([0; 12]),
        ..entry
    }]);
}

#[test]
fn large_runs_are_as_they_were_written() {
    let mut random = Random(3);
    round_trip(
        (0..5_000)
            .map(|n| random.entry([1, 2, 9][n % 3], 400, 1 << 40))
            .collect::<Vec<_>>(),
    );
    // Organizations of one entry, some of many pages, some that end with a page.
    let sizes: Vec<u64> = (0..300)
        .map(|n| if n % 50 == 7 { 600 } else { 1 + n % 2 })
        .collect();
    let mixed = (0_u128..)
        .zip(&sizes)
        .flat_map(|(n, size)| vec![n; usize::try_from(*size).unwrap()]);
    round_trip(mixed.map(|n| random.entry(n, 2, 9)).collect::<Vec<_>>());
    // More partitions than two bytes of a mark can tell apart.
    round_trip(
        (0..40_000)
            .map(|_| random.entry(1, 40_000, 9))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn hashes_that_begin_alike_are_told_apart() {
    let mut random = Random(4);
    let mut entries = Vec::new();
    for _ in 0..3_000 {
        let organization = u128::from(random.below(2));
        let mut entry = random.entry(organization, 3, 5);
        // Three groups, each of several pages, of equal prefixes.
        entry.hash.0[..8].copy_from_slice(&[[0; 8], [7; 8], [255; 8]][random.below(3) as usize]);
        entries.push(entry);
    }
    // The same hash in many organizations.
    let entry = random.entry(0, 1, 1);
    entries.extend((10..900).map(|n| RunEntry {
        organization: OrganizationId(Uuid::from_u128(n)),
        ..entry
    }));
    round_trip(entries);
}

#[test]
fn sequences_may_be_far_apart() {
    let mut random = Random(5);
    let wide = |bits: u32, random: &mut Random| {
        let mut entry = random.entry(1, 5, 1);
        entry.newest.sequence = random.next() >> (64 - bits);
        entry
    };
    for bits in [1, 7, 8, 9, 16, 39, 40, 41, 63, 64] {
        round_trip(
            (0..400)
                .map(|_| wide(bits, &mut random))
                .collect::<Vec<_>>(),
        );
    }
    let mut ends = [random.entry(1, 1, 1), random.entry(1, 1, 1)];
    (ends[0].newest.sequence, ends[1].newest.sequence) = (0, u64::MAX);
    round_trip(ends);
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut random = Random(6);
    let (low, high) = (random.entry(1, 1, 1), random.entry(2, 1, 1));
    let disk = SimulatedDisk::new();
    let mut writer = writer(&disk, NUMBER, 1);
    writer.push(&high).unwrap();
    for entry in [low, high] {
        assert_eq!(
            writer.push(&entry).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
    // What was refused left no trace.
    let meta = writer.finish().unwrap();
    check(&open(&disk, &meta), &oracle([high]), &mut random);
}

#[test]
fn a_disk_that_fails_is_heard_of() {
    let mut random = Random(7);
    let entries = oracle((0..20_000).map(|_| random.entry(1, 1, 1)));
    let failures: [fn(&SimulatedDisk); 2] = [
        |disk| disk.set_space(Some(9_000)),
        |disk| disk.fail(Operation::Sync, 1),
    ];
    for fail in failures {
        let disk = SimulatedDisk::new();
        let mut writer = writer(&disk, NUMBER, 4);
        fail(&disk);
        let pushed = entries.values().try_for_each(|entry| writer.push(entry));
        assert!(pushed.and_then(|()| writer.finish()).is_err());
    }
}

#[test]
fn a_merge_knows_the_newest_of_each_id() {
    let mut random = Random(8);
    let disk = SimulatedDisk::new();
    let (mut expected, mut runs) = (Oracle::new(), Vec::new());
    let known: Vec<RunEntry> = (0..3_000).map(|n| random.entry(n % 3, 10, 1)).collect();
    for number in 0..5 {
        let fresh: Vec<RunEntry> = (0..700).map(|n| random.entry(n % 5, 30, 1 << 30)).collect();
        let again = known.iter().filter(|_| number != 2).map(|entry| RunEntry {
            content: number,
            voided: number % 2 == 0,
            ..*entry
        });
        let entries = oracle(
            again
                .filter(|entry| entry.content.is_multiple_of(2) || entry.hash.0[0] > 99)
                .chain(fresh),
        );
        let entries = if number == 3 { Oracle::new() } else { entries };
        let meta = write(&disk, number, &entries, 2);
        runs.push(Arc::new(open(&disk, &meta)));
        expected.extend(entries);
    }
    for (place, entry) in expected.values().enumerate() {
        let found = find_newest(&runs, entry.organization, entry.hash).unwrap();
        assert_eq!(found, Some(*entry), "{place}");
        assert_eq!(
            find_newest(&runs, entry.organization, random.hash()).unwrap(),
            None
        );
    }
    // More runs than are asked together.
    let many: Vec<Arc<Run>> = runs.iter().cycle().take(40).cloned().collect();
    let newest = expected.values().next().unwrap();
    assert_eq!(
        find_newest(&many, newest.organization, newest.hash).unwrap(),
        Some(*newest)
    );
    assert_eq!(
        find_newest(&many, newest.organization, random.hash()).unwrap(),
        None
    );

    let keep = |entry: &RunEntry| !entry.voided || entry.hash.0[1] > 50;
    let meta = merge(&runs, keep, &|| Ok(()), writer(&disk, 10, 3)).unwrap();
    let before = expected.len();
    expected.retain(|_, entry| keep(entry));
    assert!(expected.len() < before && expected.len() > 5_000);
    check(&open(&disk, &meta), &expected, &mut random);

    let nothing = merge(&[], |_| true, &|| Ok(()), writer(&disk, 11, 3)).unwrap();
    check(&open(&disk, &nothing), &Oracle::new(), &mut random);
    let nothing = merge(&runs, |_| false, &|| Ok(()), writer(&disk, 12, 3)).unwrap();
    check(&open(&disk, &nothing), &Oracle::new(), &mut random);

    // Whoever does not want it any more ends a merge.
    let stop = || Err(io::ErrorKind::Interrupted.into());
    let merged = merge(&runs, |_| true, &stop, writer(&disk, 14, 3));
    assert!(matches!(merged, Err(RunError::Io(_))));

    // So does a damaged run.
    let mut bytes = disk.bytes(&path(1)).unwrap();
    bytes[FIRST_PAGE_AT as usize + 4_100] ^= 1;
    disk.put(&path(1), bytes);
    runs[1] = Arc::new(open(&disk, runs[1].meta()));
    let merged = merge(&runs, |_| true, &|| Ok(()), writer(&disk, 13, 3));
    assert!(matches!(merged, Err(RunError::Damaged { .. })));
    assert_eq!(Merged::new(&runs).filter(Result::is_err).count(), 1);
}

/// A small file that has everything: two shards, two organizations that share a page.
fn specimen() -> (SimulatedDisk, RunMeta, Oracle) {
    let mut random = Random(9);
    let entries = oracle((0..250).map(|n| random.entry(n % 2, 3, 9)));
    let disk = SimulatedDisk::new();
    let meta = write(&disk, NUMBER, &entries, 1);
    (disk, meta, entries)
}

/// Whether damage is reported; there must be no wrong answer.
fn is_damage_reported(bytes: Vec<u8>, meta: &RunMeta, entries: &Oracle) -> bool {
    let disk = SimulatedDisk::new();
    disk.put(&path(NUMBER), bytes);
    let Ok(run) = Run::open(&disk, &path(NUMBER), meta) else {
        return true;
    };
    for entry in entries.values().step_by(25) {
        match run.find(entry.organization, entry.hash) {
            Ok(found) => assert_eq!(found, Some(*entry)),
            Err(RunError::Damaged { .. }) => return true,
            Err(RunError::Io(error)) => panic!("{error}"),
        }
    }
    run.entries().any(|entry| entry.is_err()) || run.verify().is_err()
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    assert!(!is_damage_reported(bytes.clone(), &meta, &entries));
    for place in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[place] ^= 1 << (place % 8);
        assert!(is_damage_reported(bad, &meta, &entries), "byte {place}");
    }
    for (name, meta) in [
        (
            "number",
            RunMeta {
                number: meta.number + 1,
                ..meta.clone()
            },
        ),
        (
            "entries",
            RunMeta {
                entries: meta.entries + 1,
                ..meta.clone()
            },
        ),
        (
            "bytes",
            RunMeta {
                bytes: meta.bytes + 1,
                ..meta.clone()
            },
        ),
        (
            "checksum",
            RunMeta {
                checksum: meta.checksum ^ 1,
                ..meta.clone()
            },
        ),
    ] {
        assert!(is_damage_reported(bytes.clone(), &meta, &entries), "{name}");
    }
}

#[test]
fn every_cut_is_noticed() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    for length in 0..bytes.len() {
        let cut = bytes[..length].to_vec();
        assert!(
            is_damage_reported(cut.clone(), &meta, &entries),
            "{length} bytes"
        );
        // Also when the length is the one noted.
        let meta = RunMeta {
            bytes: length as u64,
            ..meta.clone()
        };
        assert!(is_damage_reported(cut, &meta, &entries), "{length} bytes");
    }
}

#[test]
fn pages_of_another_place_are_noticed() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    let mut bad = bytes.clone();
    // The second page stands behind the first one's filter.
    let (first, second) = (FIRST_PAGE_AT as usize, FIRST_PAGE_AT as usize + 2 * 4096);
    bad.copy_within(second..second + 4096, first);
    assert!(is_damage_reported(bad, &meta, &entries));
}

/// Puts another trailer in place, with the right checksums.
fn forged(bytes: &[u8], change: impl Fn(&mut Trailer)) -> Vec<u8> {
    let trailer_at = bytes.len() - TRAILER_BYTES;
    let (rest, trailer) = bytes.split_at(trailer_at);
    let offset = trailer_at as u64;
    let mut trailer = Trailer::decode(trailer.try_into().unwrap(), NUMBER, offset).unwrap();
    change(&mut trailer);
    // Without a number of shards there is no saying where the index begins.
    if trailer.shard_pages > 0 {
        let index_at = offset.saturating_sub(trailer.index_bytes());
        trailer.index_checksum = checksum(NUMBER, index_at, &rest[index_at as usize..]);
    }
    [rest.to_vec(), trailer.encode(NUMBER, offset)].concat()
}

/// Uses a forged file in every way. Any answer may come, but no panic.
fn opens(bytes: Vec<u8>, meta: &RunMeta, entries: &Oracle) -> bool {
    let disk = SimulatedDisk::new();
    disk.put(&path(NUMBER), bytes);
    let Ok(run) = Run::open(&disk, &path(NUMBER), meta) else {
        return false;
    };
    let _ = run.entries().count();
    let _ = run.verify();
    for entry in entries.values().step_by(20) {
        let _ = run.find(entry.organization, entry.hash);
    }
    true
}

#[test]
fn hostile_lengths_do_not_open() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    assert!(opens(forged(&bytes, |_| ()), &meta, &entries));
    let fields: [fn(&mut Trailer) -> &mut u32; 5] = [
        |trailer| &mut trailer.pages,
        |trailer| &mut trailer.shard_pages,
        |trailer| &mut trailer.organizations,
        |trailer| &mut trailer.partitions,
        |trailer| &mut trailer.slot_bits,
    ];
    for field in fields {
        for value in [0, 1, 2, 3, 100, 1 << 20, u32::MAX] {
            let bad = forged(&bytes, |trailer| *field(trailer) = value);
            let opened = opens(bad, &meta, &entries);
            assert!(!opened || value < 100, "{value}");
        }
    }
}

#[test]
fn a_hostile_index_is_no_panic() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    let end = bytes.len() - TRAILER_BYTES;
    let trailer = Trailer::decode(bytes[end..].try_into().unwrap(), NUMBER, end as u64).unwrap();
    for place in end - trailer.index_bytes() as usize..end {
        for value in [0, 1, 127, 255] {
            let mut bad = bytes.clone();
            bad[place] = value;
            opens(forged(&bad, |_| ()), &meta, &entries);
        }
    }
}

#[test]
fn a_hostile_page_is_no_panic() {
    let (disk, meta, entries) = specimen();
    let bytes = disk.bytes(&path(NUMBER)).unwrap();
    let (start, end) = (FIRST_PAGE_AT as usize, FIRST_PAGE_AT as usize + 4096);
    for place in start + 4..start + 64 {
        for value in [0, 1, 13, 127, 255] {
            let mut bad = bytes.clone();
            bad[place] = value;
            let crc = checksum(NUMBER, FIRST_PAGE_AT, &bad[start + 4..end]);
            bad[start..start + 4].copy_from_slice(&crc.to_le_bytes());
            opens(bad, &meta, &entries);
        }
    }
}
