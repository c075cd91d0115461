//! Segments on a simulated disk, with row groups and pages so small that a few hundred rows make many.

use super::cursor::Cursor;
use super::merge::{Ask, merge_to_shape};
use super::read::{Projection, Range, Segment};
use super::schema::{self, SegmentPath};
use super::write::{SegmentRow, SegmentWriter, Shape};
use super::{SegmentError, SegmentMeta};
use crate::disk::Directories;
use crate::disk::Disk;
use crate::partition::{Link, Month, Partition};
use crate::testing::{PowerCut, SimulatedDisk};
use crate::texts::NO_TEXT;
use meterd_model::{Decimal, FieldName, MeterId, OrganizationId};
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const SMALL: Shape = Shape {
    row_group_rows: 48,
    row_group_bytes: 1 << 20,
    page_rows: 8,
};

/// With the engine's directory.
fn new_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new("engine")).unwrap();
    disk.sync_directory(Path::new(".")).unwrap();
    disk
}

#[test]
fn paths_and_partitions_have_one_spelling() {
    let path = path(18);
    let text = "segments/organization=00000000-0000-0000-0000-000000000009/\
                meter=00000000-0000-0000-0000-000000000007/month=2026-11/00000000000000000018.parquet";
    assert_eq!(path.relative().to_str(), Some(text));
    assert_eq!(SegmentPath::parse(Path::new(text)), Some(path));
    for bad in [
        text.replace("parquet", "torn"),
        text.replace("0018", "18"),
        text.replace("0018", "+018"),
        text.replace("2026-11", "2026-13"),
        text.replace("segments/", ""),
        text.replace("organization=00000000-", "organization=00000000"),
        format!("{text}/x"),
        String::new(),
    ] {
        assert_eq!(SegmentPath::parse(Path::new(&bad)), None, "{bad}");
    }
    let text = schema::partition_text(path.partition);
    assert_eq!(text, "00000000-0000-0000-0000-000000000007/2026-11");
    assert_eq!(schema::parse_partition(&text), Some(path.partition));
    assert_eq!(
        schema::parse_partition(&text.to_uppercase().replace("0007", "000A")),
        None
    );
}

#[test]
fn rows_come_back_as_they_were_written() {
    for seed in 1..12 {
        // Few and many different texts and numbers, so that each encoding is taken.
        let rows = random_rows(seed, 400, if seed % 2 == 0 { 5 } else { 1_000_000 });
        let disk = new_disk();
        let meta = write(&disk, 1, &rows, SMALL).unwrap();
        let after = disk.restart(PowerCut::Drop);
        let segment = open(&after, meta.clone());
        segment.verify().unwrap();
        assert_eq!(all_rows(&segment).unwrap(), rows, "seed {seed}");

        let versions = || rows.iter().filter(|row| row.subject.is_some());
        assert_eq!(meta.rows, 400);
        assert_eq!(
            meta.superseded,
            rows.iter().map(|row| u64::from(!row.current)).sum::<u64>()
        );
        assert_eq!(Some(meta.time_min), versions().map(|row| row.time).min());
        assert_eq!(Some(meta.time_max), versions().map(|row| row.time).max());
        assert_eq!(
            Some(meta.sequence_min),
            rows.iter().map(|row| row.sequence).min()
        );
        assert_eq!(
            Some(meta.sequence_max),
            rows.iter().map(|row| row.sequence).max()
        );
        // The third value is never there.
        assert_eq!(meta.values, names(&["a", "b.c"]));
        assert_eq!(meta.attributes, names(&["kind", "x_Y-z"]));
    }
}

#[test]
fn a_file_of_voids_and_one_of_one_page_can_be_read() {
    let disk = new_disk();
    let voids: Vec<_> = random_rows(3, 400, 5)
        .into_iter()
        .filter(|row| row.subject.is_none())
        .collect();
    let meta = write(&disk, 1, &voids, SMALL).unwrap();
    assert_eq!(
        (meta.time_min, meta.time_max, meta.superseded),
        (i64::MAX, i64::MIN, meta.rows)
    );
    let segment = open(&disk, meta);
    segment.verify().unwrap();
    assert_eq!(all_rows(&segment).unwrap(), voids);
    let timed = Range {
        from: 0,
        ..Range::ALL
    };
    assert_eq!(segment.parts(&timed).unwrap(), []);

    let rows = random_rows(4, 5, 5);
    let segment = open(&disk, write(&disk, 2, &rows, Shape::default()).unwrap());
    segment.verify().unwrap();
    assert_eq!(all_rows(&segment).unwrap(), rows);
}

#[test]
fn row_groups_are_bounded_in_bytes() {
    let disk = new_disk();
    let rows = random_rows(5, 300, 5);
    let shape = Shape {
        row_group_rows: 1_000,
        row_group_bytes: 3_000,
        page_rows: 8,
    };
    let segment = open(&disk, write(&disk, 1, &rows, shape).unwrap());
    let parts = segment.parts(&Range::ALL).unwrap();
    assert!(
        parts.len() > 5 && parts.iter().all(|part| part.rows < 60),
        "{parts:?}"
    );
    assert_eq!(all_rows(&segment).unwrap(), rows);
}

#[test]
fn only_what_is_asked_for_is_read_and_each_text_is_asked_once_a_part() {
    let disk = new_disk();
    let rows = random_rows(6, 400, 5);
    let shape = Shape {
        row_group_rows: 200,
        ..SMALL
    };
    let segment = open(&disk, write(&disk, 1, &rows, shape).unwrap());
    let projection = Projection {
        values: names(&["unknown", "b.c"]),
        attributes: names(&["kind", "unknown"]),
        ..Projection::default()
    };
    let mut row = 0;
    for part in segment.parts(&Range::ALL).unwrap() {
        let mut asked = Vec::new();
        let mut texts = |_, text: &str| {
            assert!(!asked.contains(&text.to_owned()), "asked twice for {text}");
            asked.push(text.to_owned());
            u32::try_from(asked.len() - 1).unwrap()
        };
        let mut kinds = Vec::new();
        let scanned = segment.scan(&part, &projection, &mut texts, &mut |batch| {
            assert!(batch.len <= SMALL.page_rows);
            assert!(
                batch.times.is_empty() && batch.subjects.is_empty() && batch.ids.get(0).is_none()
            );
            assert!(batch.values[0].is_empty() && batch.attributes[1].is_empty());
            assert_eq!(batch.current.as_ref().map(Vec::len), Some(batch.len));
            kinds.extend(batch.attributes[0].iter().copied());
            for (at, units) in batch.values[1].iter().enumerate() {
                let there = rows[row + at].values.iter().find(|(field, _)| *field == 1);
                assert_eq!(*units, there.map_or(i128::MIN, |(_, units)| *units));
            }
            row += batch.len;
            ControlFlow::Continue(())
        });
        assert_eq!(scanned.unwrap(), ControlFlow::Continue(()));
        let first = row - kinds.len();
        for (at, kind) in kinds.into_iter().enumerate() {
            let there = rows[first + at]
                .attributes
                .iter()
                .find(|(field, _)| *field == 0);
            let read = usize::try_from(kind).ok().and_then(|kind| asked.get(kind));
            assert_eq!(read, there.map(|(_, text)| text));
        }
    }
    assert_eq!(row, 400);
    let part = &segment.parts(&Range::ALL).unwrap()[0];
    let mut batches = 0;
    let broken = segment.scan(part, &projection, &mut |_, _| 0, &mut |_| {
        batches += 1;
        ControlFlow::Break(())
    });
    assert_eq!((broken.unwrap(), batches), (ControlFlow::Break(()), 1));
}

#[test]
fn pages_are_left_out_only_if_no_row_matches() {
    let mut left_out = 0;
    for seed in 1..8 {
        let rows = random_rows(seed, 600, 1_000);
        let disk = new_disk();
        let segment = open(&disk, write(&disk, 1, &rows, SMALL).unwrap());
        let mut random = Random(seed + 1_000);
        for _ in 0..60 {
            let mut wanted = if random.below(4) == 0 {
                vec!["nobody"]
            } else {
                Vec::new()
            };
            for _ in 0..random.below(3) {
                wanted.extend(rows[random.place(600)].subject.as_deref());
            }
            wanted.sort_unstable();
            let from = if random.below(3) == 0 {
                i64::MIN
            } else {
                start() + random.signed(1_000)
            };
            let to = if random.below(3) == 0 {
                i64::MAX
            } else {
                start() + random.signed(1_000)
            };
            let first = random.below(600);
            let range = Range {
                from,
                to,
                subjects: (random.below(2) == 0).then_some(wanted.as_slice()),
                sequence: (random.below(3) == 0).then_some((first, first + random.below(50))),
            };
            let matches = |row: &Row| {
                let in_sequence = range
                    .sequence
                    .is_none_or(|(from, to)| (from..=to).contains(&row.sequence));
                in_sequence
                    && match &row.subject {
                        None => range.from == i64::MIN && range.subjects.is_none(),
                        Some(subject) => {
                            (range.from..range.to).contains(&row.time)
                                && range
                                    .subjects
                                    .is_none_or(|subjects| subjects.contains(&subject.as_str()))
                        }
                    }
            };
            let expected: BTreeSet<u64> = rows
                .iter()
                .filter(|row| matches(row))
                .map(|row| row.sequence)
                .collect();
            let mut read = BTreeSet::new();
            let projection = Projection {
                sequences: true,
                ..Projection::default()
            };
            for part in segment.parts(&range).unwrap() {
                let before = read.len();
                let scanned = segment.scan(&part, &projection, &mut |_, _| 0, &mut |batch| {
                    read.extend(&batch.sequences);
                    ControlFlow::Continue(())
                });
                assert!(scanned.is_ok());
                assert_eq!(read.len() - before, part.rows);
            }
            assert!(expected.is_subset(&read), "{range:?}");
            left_out += rows.len() - read.len();
        }
    }
    assert!(left_out > 7 * 60 * 300, "{left_out}");
}

#[test]
fn merging_keeps_every_row_and_retires_some() {
    for seed in 1..8 {
        let disk = new_disk();
        let mut random = Random(seed);
        let rows = random_rows(seed, 500, 50);
        let mut divided = vec![Vec::new(); 4];
        for row in &rows {
            divided[random.place(4)].push(row.clone());
        }
        // One without any row.
        divided.push(Vec::new());
        let inputs = (1..).zip(&divided).map(|(number, rows)| {
            Arc::new(open(&disk, write(&disk, number, rows, SMALL).unwrap()))
        });
        let inputs: Vec<_> = inputs.collect();
        let is_retired = |sequence: u64| sequence.is_multiple_of(7);
        let meta =
            merge_to_shape(&directories(&disk), 9, &inputs, &ask(&is_retired), SMALL).unwrap();
        let merged = open(&disk, meta);
        merged.verify().unwrap();
        let expected: Vec<Row> = rows
            .into_iter()
            .map(|row| Row {
                current: row.current && !is_retired(row.sequence),
                ..row
            })
            .collect();
        // The third value is in no input, and so in no column.
        assert_eq!(merged.footer().unwrap().values, names(&["a", "b.c"]));
        assert_eq!(all_rows(&merged).unwrap(), expected);
    }
}

#[test]
fn a_merge_that_is_broken_off_leaves_nothing() {
    let disk = new_disk();
    let input = write(&disk, 1, &random_rows(1, 5_000, 50), Shape::default()).unwrap();
    let inputs = [Arc::new(open(&disk, input))];
    // Asked before it reads, and then again after every few thousand rows.
    for times in [0, 2] {
        let asked = std::cell::Cell::new(0);
        let ask = Ask {
            is_retired: &|_| false,
            go_on: &|| {
                asked.set(asked.get() + 1);
                if asked.get() > times {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(())
            },
        };
        let merged = merge_to_shape(&directories(&disk), 2, &inputs, &ask, SMALL);
        let Err(SegmentError::Io(error)) = merged else {
            panic!("{merged:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let left = disk.list(
            Path::new("engine")
                .join(path(2).relative())
                .parent()
                .unwrap(),
        );
        assert_eq!(left.unwrap().len(), 1);
    }
}

#[test]
fn columns_of_a_merge_are_those_of_any_input() {
    let disk = new_disk();
    let one = |number: u64, value: &str, attribute: &str| {
        let (values, attributes) = (names(&[value]), names(&[attribute]));
        let mut writer = SegmentWriter::with_shape(
            &directories(&disk),
            path(number),
            &values,
            &attributes,
            SMALL,
        )
        .unwrap();
        let row = Row {
            sequence: number,
            values: vec![(0, i128::from(number))],
            attributes: vec![(0, attribute.into())],
            ..plain_row()
        };
        row.push_to(&mut writer).unwrap();
        Arc::new(open(&disk, writer.finish().unwrap()))
    };
    let inputs = [one(1, "b", "p"), one(2, "a", "q"), one(3, "b", "p")];
    let meta = merge_to_shape(&directories(&disk), 4, &inputs, &ask(&|_| false), SMALL).unwrap();
    assert_eq!(
        (&meta.values, &meta.attributes),
        (&names(&["a", "b"]), &names(&["p", "q"]))
    );
    let rows = all_rows(&open(&disk, meta)).unwrap();
    let values: Vec<_> = rows
        .iter()
        .map(|row| (row.sequence, row.values.clone(), row.attributes.clone()))
        .collect();
    assert_eq!(
        values,
        [
            (1, vec![(1, 1)], vec![(0, "p".to_owned())]),
            (2, vec![(0, 2)], vec![(1, "q".to_owned())]),
            (3, vec![(1, 3)], vec![(0, "p".to_owned())]),
        ]
    );
}

#[test]
fn no_damage_goes_unnoticed_and_none_panics() {
    let rows = random_rows(7, 20, 5);
    let disk = new_disk();
    let shape = Shape {
        row_group_rows: 12,
        page_rows: 4,
        ..SMALL
    };
    let meta = write(&disk, 1, &rows, shape).unwrap();
    let file = Path::new("engine").join(path(1).relative());
    let good = disk.bytes(&file).unwrap();
    let mut random = Random(99);
    // Every fifth byte is in every part of the file, and takes a tenth of the time.
    for at in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        disk.put(&file, bad);
        let segment = open(&disk, meta.clone());
        assert!(
            matches!(
                segment.verify(),
                Err(SegmentError::Damaged { number: 1, .. })
            ),
            "{at}"
        );
        // Reading checks what it reads: only Parquet's first magic is for others.
        match all_rows(&segment) {
            Ok(read) => assert!(at < 4 && read == rows, "{at}"),
            Err(error) => assert!(
                matches!(error, SegmentError::Damaged { .. }),
                "{at}: {error}"
            ),
        }
        let inputs = [Arc::new(segment)];
        let merged = merge_to_shape(&directories(&disk), 2, &inputs, &ask(&|_| false), SMALL);
        assert!(matches!(merged, Err(SegmentError::Damaged { .. })));
    }
    // Rubbish where the one part is that is read before its checksum is known.
    let footer = good.len()
        - 8
        - usize::try_from(u32::from_le_bytes(
            good[good.len() - 8..][..4].try_into().unwrap(),
        ))
        .unwrap();
    for _ in 0..1_000 {
        let mut bad = good.clone();
        for _ in 0..=random.below(8) {
            let at = footer + random.place(good.len() - footer);
            bad[at] = u8::try_from(random.below(256)).unwrap();
        }
        if bad != good {
            disk.put(&file, bad);
            assert!(matches!(
                all_rows(&open(&disk, meta.clone())),
                Err(SegmentError::Damaged { .. })
            ));
        }
    }
    for length in 0..good.len() {
        disk.put(&file, good[..length].to_vec());
        let opened = Segment::open(&disk, Path::new("engine"), meta.clone());
        assert!(
            matches!(opened, Err(SegmentError::Damaged { .. })),
            "{length}"
        );
    }
    // A manifest that means another file.
    disk.put(&file, good);
    let other = SegmentMeta {
        rows: meta.rows + 1,
        ..meta.clone()
    };
    assert!(matches!(
        open(&disk, other).verify(),
        Err(SegmentError::Damaged { .. })
    ));
    let other = SegmentMeta {
        superseded: 0,
        ..meta
    };
    assert!(matches!(
        open(&disk, other).verify(),
        Err(SegmentError::Damaged { .. })
    ));
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let rows = random_rows(8, 100, 5);
    let disk = new_disk();
    let bytes = write(&disk, 1, &rows, SMALL).unwrap().bytes;
    let directory = Path::new("engine").join(path(1).relative());
    let directory = directory.parent().unwrap();
    for space in (0..bytes).step_by(97) {
        disk.set_space(Some(space));
        let error = write(&disk, 2, &rows, SMALL).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{space}: {error}");
        assert_eq!(
            disk.list(directory).unwrap(),
            ["00000000000000000001.parquet"]
        );
        disk.set_space(None);
    }
    write(&disk, 2, &rows, SMALL).unwrap();
}

#[test]
fn a_segment_is_durable_once_it_is_finished_and_never_half() {
    let rows = random_rows(9, 100, 5);
    let whole = new_disk();
    let meta = write(&whole, 1, &rows, SMALL).unwrap();
    for step in 0..whole.steps() {
        let disk = new_disk();
        disk.cut_power_at(step);
        if write(&disk, 1, &rows, SMALL).is_ok() {
            let after = disk.restart(PowerCut::Drop);
            assert_eq!(all_rows(&open(&after, meta.clone())).unwrap(), rows);
        }
    }
}

#[test]
fn what_is_out_of_order_is_refused() {
    let disk = new_disk();
    let rows = random_rows(10, 20, 1_000);
    for at in 1..rows.len() {
        let mut rows = rows.clone();
        rows.swap(at - 1, at);
        let error = write(&disk, 1, &rows, SMALL).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let twice = vec![rows[0].clone(), rows[0].clone()];
    assert_eq!(
        write(&disk, 1, &twice, SMALL).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    write(&disk, 1, &rows, SMALL).unwrap();
    // The number is taken.
    assert_eq!(
        write(&disk, 1, &rows, SMALL).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    open(&disk, write(&disk, 2, &rows, SMALL).unwrap())
        .verify()
        .unwrap();
}

/// A row that owns what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    subject: Option<String>,
    time: i64,
    end: Option<i64>,
    id: String,
    sequence: u64,
    received: i64,
    current: bool,
    replaces: Option<Link>,
    values: Vec<(usize, i128)>,
    attributes: Vec<(usize, String)>,
}

impl Row {
    fn push_to(&self, writer: &mut SegmentWriter<'_>) -> io::Result<()> {
        let attributes: Vec<_> = self
            .attributes
            .iter()
            .map(|(field, text)| (*field, text.as_str()))
            .collect();
        writer.push(&SegmentRow {
            subject: self.subject.as_deref(),
            time: self.time,
            end: self.end,
            id: &self.id,
            sequence: self.sequence,
            received: self.received,
            current: self.current,
            replaces: self.replaces,
            values: &self.values,
            attributes: &attributes,
        })
    }
}

fn write(disk: &SimulatedDisk, number: u64, rows: &[Row], shape: Shape) -> io::Result<SegmentMeta> {
    let (values, attributes) = (names(&["a", "b.c", "unused"]), names(&["kind", "x_Y-z"]));
    let directories = directories(disk);
    let mut writer =
        SegmentWriter::with_shape(&directories, path(number), &values, &attributes, shape)?;
    for row in rows {
        row.push_to(&mut writer)?;
    }
    writer.finish()
}

fn directories(disk: &SimulatedDisk) -> Directories<'_> {
    Directories::below(disk, Path::new("engine"))
}

fn ask(is_retired: &dyn Fn(u64) -> bool) -> Ask<'_> {
    Ask {
        is_retired,
        go_on: &|| Ok(()),
    }
}

fn open(disk: &SimulatedDisk, meta: SegmentMeta) -> Segment {
    Segment::open(disk, Path::new("engine"), meta).unwrap()
}

fn all_rows(segment: &Segment) -> Result<Vec<Row>, SegmentError> {
    let mut cursor = Cursor::open(segment)?;
    let mut rows = Vec::new();
    while cursor.advance()? {
        let values: Vec<_> = cursor.values().collect();
        let attributes: Vec<_> = cursor.attributes().collect();
        let row = cursor.row(&values, &attributes);
        rows.push(Row {
            subject: row.subject.map(Into::into),
            time: row.time,
            end: row.end,
            id: row.id.into(),
            sequence: row.sequence,
            received: row.received,
            current: row.current,
            replaces: row.replaces,
            values: values.clone(),
            attributes: attributes
                .iter()
                .map(|(field, text)| (*field, (*text).to_owned()))
                .collect(),
        });
    }
    Ok(rows)
}

/// Rows of all kinds in order, with the sequences from 0 on; of `kinds` different texts and numbers.
fn random_rows(seed: u64, count: u64, kinds: u64) -> Vec<Row> {
    let mut random = Random(seed);
    let other = Partition {
        meter: MeterId(Uuid::from_u128(8)),
        month: Month(0),
    };
    let mut rows: Vec<Row> = (0..count)
        .map(|sequence| {
            let is_void = random.below(10) == 0;
            let time = start() + random.signed(1_000);
            let replaces = (is_void || random.below(5) == 0).then(|| Link {
                partition: if random.below(2) == 0 {
                    path(1).partition
                } else {
                    other
                },
                sequence: random.below(1 << 40),
            });
            let mut values = Vec::new();
            if !is_void && random.below(5) != 0 {
                let units = match random.below(8) {
                    0 => Decimal::MAX.units(),
                    1 => Decimal::MIN.units(),
                    2 => 0,
                    _ => i128::from(random.signed(kinds)) * 1_000_000_000_000_000_000 * -3,
                };
                values.push((0, units));
            }
            if !is_void && random.below(2) == 0 {
                values.push((1, i128::from(random.signed(kinds))));
            }
            let mut attributes = Vec::new();
            if !is_void && random.below(4) != 0 {
                attributes.push((0, random.text(kinds)));
            }
            if !is_void && random.below(2) == 0 {
                attributes.push((1, random.text(3)));
            }
            Row {
                subject: (!is_void).then(|| format!("s{}", random.text(kinds))),
                time: if is_void { i64::MIN } else { time },
                end: (!is_void && random.below(3) == 0).then(|| time + random.signed(100)),
                id: format!("{sequence}-{}", random.text(kinds)),
                sequence,
                received: start() + random.signed(kinds),
                current: !is_void && random.below(4) != 0,
                replaces,
                values,
                attributes,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.subject, a.time, a.sequence).cmp(&(&b.subject, b.time, b.sequence)));
    rows
}

fn plain_row() -> Row {
    Row {
        subject: Some("s".into()),
        time: start(),
        end: None,
        id: "id".into(),
        sequence: 0,
        received: 0,
        current: true,
        replaces: None,
        values: Vec::new(),
        attributes: Vec::new(),
    }
}

fn path(number: u64) -> SegmentPath {
    SegmentPath {
        organization: OrganizationId(Uuid::from_u128(9)),
        partition: Partition {
            meter: MeterId(Uuid::from_u128(7)),
            month: Month::parse("2026-11").unwrap(),
        },
        number,
    }
}

fn start() -> i64 {
    path(1).partition.month.start_micros()
}

fn names(texts: &[&str]) -> Vec<FieldName> {
    texts
        .iter()
        .map(|text| FieldName::new(*text).unwrap())
        .collect()
}

/// George Marsaglia's xorshift; the same for a seed on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn place(&mut self, end: usize) -> usize {
        usize::try_from(self.below(u64::try_from(end).unwrap())).unwrap()
    }

    fn signed(&mut self, end: u64) -> i64 {
        i64::try_from(self.below(end)).unwrap()
    }

    /// Empty, long, and of more than one byte a character among them.
    fn text(&mut self, kinds: u64) -> String {
        match self.below(kinds) {
            0 => String::new(),
            1 => "größe 測定 🌡".into(),
            2 => "\u{10ffff}".repeat(60),
            kind => format!("kind {kind}"),
        }
    }
}

#[test]
fn no_number_of_a_text_is_that_of_none() {
    let disk = new_disk();
    let segment = open(
        &disk,
        write(&disk, 1, &random_rows(11, 50, 5), SMALL).unwrap(),
    );
    let projection = Projection {
        subjects: true,
        ..Projection::default()
    };
    for part in segment.parts(&Range::ALL).unwrap() {
        let scanned = segment.scan(&part, &projection, &mut |_, _| 3, &mut |batch| {
            assert!(
                batch
                    .subjects
                    .iter()
                    .all(|subject| [3, NO_TEXT].contains(subject))
            );
            ControlFlow::Continue(())
        });
        assert!(scanned.is_ok());
    }
}
