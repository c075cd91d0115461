//! Every reader of bytes from the disk, for fuzzers: whatever the bytes are, it must not panic, nor take time or memory
//! out of proportion.
//!
//! The first byte of an input says whether checksums are mended before the rest is read: with them as they come, nearly
//! all that a fuzzer thinks of ends there.

#![expect(
    clippy::expect_used,
    reason = "only tests use it, and its samples are well-formed"
)]

use crate::catalog::{path_of, runs_directory};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::id_hash::IdHasher;
use crate::log::frame::{FILE_HEADER_BYTES, FileNumber, file_header, frame, log_directory};
use crate::manifest::Manifest;
use crate::recover::recover;
use crate::runs::{Run, RunMeta};
use crate::segment::SegmentMeta;
use crate::segment::read::{Range, Segment};
use crate::settings::{Sealing, Settings};
use crate::state::State;
use crate::stored::whole;
use crate::testing::SimulatedDisk;
use crate::{Batch, OnConflict, Ticket};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// What the bytes are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A log file, or the payload of one frame.
    Log,
    Manifest,
    /// A run of ids.
    Run,
    Segment,
}

impl Target {
    pub const ALL: [Self; 4] = [Self::Log, Self::Manifest, Self::Run, Self::Segment];

    /// As the folders of the corpus are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Manifest => "manifest",
            Self::Run => "run",
            Self::Segment => "segment",
        }
    }

    /// Well-formed inputs to begin with.
    pub fn samples(self) -> Vec<Vec<u8>> {
        let sample = sample();
        let files: Vec<Vec<u8>> = match self {
            Self::Log => {
                // What a mended input has is the payload of the first frame.
                let payload = sample.log.get(PAYLOAD_AT..).unwrap_or_default();
                return vec![marked(AS_IT_IS, &sample.log), marked(MENDED, payload)];
            }
            Self::Manifest => vec![sample.manifest.clone()],
            Self::Run => sample.runs.iter().map(|(_, bytes)| bytes.clone()).collect(),
            Self::Segment => sample
                .segments
                .iter()
                .map(|(_, bytes)| bytes.clone())
                .collect(),
        };
        let both = files
            .iter()
            .flat_map(|file| [marked(AS_IT_IS, file), marked(MENDED, file)]);
        both.collect()
    }

    /// Reads an input; it does not matter what comes of it.
    pub fn read(self, input: &[u8]) {
        let Some((mark, bytes)) = input.split_first() else {
            return;
        };
        let mend = *mark == MENDED;
        match self {
            Self::Log => read_log(bytes, mend),
            Self::Manifest => read_manifest(bytes, mend),
            Self::Run => read_run(bytes, mend),
            Self::Segment => read_segment(bytes),
        }
    }
}

const AS_IT_IS: u8 = 0;
const MENDED: u8 = 1;
const DIRECTORY: &str = "data";
const ORGANIZATION: OrganizationId = OrganizationId(Uuid::from_u128(1));
/// Header of the file and of its first frame.
const PAYLOAD_AT: usize = 24 + 20;

fn marked(mark: u8, bytes: &[u8]) -> Vec<u8> {
    [&[mark], bytes].concat()
}

fn read_log(bytes: &[u8], mend: bool) {
    let number = FileNumber::FIRST;
    let mut file = bytes.to_vec();
    if mend {
        let frame = frame(bytes, number, FILE_HEADER_BYTES, FILE_HEADER_BYTES);
        file = file_header(number);
        file.extend(frame.unwrap_or_default());
    }
    let log = log_directory(Path::new(DIRECTORY));
    let disk = holding(&log.join(number.file_name()), file);
    let manifest = Manifest {
        first_log: number.0,
        next_sequence: 1,
        next_file: 1,
        ..Manifest::default()
    };
    let state = State::new(IdHasher::new([0; 32]), Vec::new(), 0);
    let _ = recover(&disk, &log, &manifest, &state);
}

/// What is read must be written as something that reads the same.
fn read_manifest(bytes: &[u8], mend: bool) {
    /// Magic and version, the length of what follows the header, and a checksum of all but itself.
    const LENGTH_AT: usize = 12;
    const CHECKSUM_AT: usize = 20;
    const HEADER_BYTES: usize = 24;
    let mut bytes = bytes.to_vec();
    if mend && bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - HEADER_BYTES) as u64;
        put(&mut bytes, LENGTH_AT, &length.to_le_bytes());
        let (covered, payload) = (
            part(&bytes, 0, CHECKSUM_AT),
            part(&bytes, HEADER_BYTES, bytes.len()),
        );
        let checksum = crc32c::crc32c_append(crc32c::crc32c(covered), payload);
        put(&mut bytes, CHECKSUM_AT, &checksum.to_le_bytes());
    }
    let directory = Path::new(DIRECTORY);
    let disk = holding(&directory.join("manifest"), bytes);
    if let Ok(Some(manifest)) = Manifest::read(&disk, directory) {
        manifest
            .write(&disk, directory)
            .expect("what reads can be written");
        let again = Manifest::read(&disk, directory).expect("what was written reads");
        assert_eq!(again, Some(manifest));
    }
}

fn read_run(bytes: &[u8], mend: bool) {
    /// After magic and version.
    const NUMBER_AT: usize = 12;
    let number = u64_at(bytes, NUMBER_AT).unwrap_or_default();
    let mut bytes = bytes.to_vec();
    if mend {
        mend_run(&mut bytes, number);
    }
    let entries = bytes
        .len()
        .checked_sub(RUN_TRAILER_BYTES)
        .and_then(|at| u64_at(&bytes, at));
    let meta = RunMeta {
        number,
        entries: entries.unwrap_or_default(),
        bytes: bytes.len() as u64,
        checksum: crc32c::crc32c(&bytes),
    };
    let path = runs_directory(Path::new(DIRECTORY)).join(RunMeta::file_name(number));
    let disk = holding(&path, bytes);
    let Ok(run) = Run::open(&disk, &path, &meta) else {
        return;
    };
    let is_whole = run.verify().is_ok();
    for entry in run.entries() {
        let Ok(entry) = entry else {
            break;
        };
        let found = run.find(entry.organization, entry.hash);
        if is_whole {
            assert_eq!(found.expect("a verified run reads"), Some(entry));
        }
    }
}

const RUN_PAGE_BYTES: usize = 4096;
const RUN_TRAILER_BYTES: usize = 36;

/// Makes the checksums of header, pages (of a run with one shard), index and trailer right, but not that of its filter.
fn mend_run(bytes: &mut [u8], number: u64) {
    const HEADER_CHECKSUM_AT: usize = 20;
    let checksum = |at: usize, covered: &[u8]| {
        let crc = crc32c::crc32c(&number.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &(at as u64).to_le_bytes());
        crc32c::crc32c_append(crc, covered).to_le_bytes()
    };
    let Some(trailer_at) = bytes.len().checked_sub(RUN_TRAILER_BYTES) else {
        return;
    };
    let header = crc32c::crc32c(part(bytes, 0, HEADER_CHECKSUM_AT));
    put(bytes, HEADER_CHECKSUM_AT, &header.to_le_bytes());
    let field = |bytes: &[u8], index: usize| {
        let bytes = part(bytes, trailer_at + 8 + 4 * index, bytes.len());
        bytes
            .first_chunk()
            .map_or(0, |field| u32::from_le_bytes(*field)) as usize
    };
    let (pages, shard_pages) = (field(bytes, 0), field(bytes, 1));
    let (organizations, partitions) = (field(bytes, 2), field(bytes, 3));
    for page in 1..=pages.min(bytes.len() / RUN_PAGE_BYTES) {
        let at = page * RUN_PAGE_BYTES;
        let crc = checksum(at, part(bytes, at + 4, at + RUN_PAGE_BYTES));
        put(bytes, at, &crc);
    }
    let shards = pages.div_ceil(shard_pages.max(1));
    let index_bytes = organizations * 32 + partitions * 20 + pages * 8 + shards * 48;
    if let Some(index_at) = trailer_at.checked_sub(index_bytes) {
        let crc = checksum(index_at, part(bytes, index_at, trailer_at));
        put(bytes, trailer_at + 28, &crc);
    }
    let crc = checksum(trailer_at, part(bytes, trailer_at, trailer_at + 32));
    put(bytes, trailer_at + 32, &crc);
}

/// Read as each of the samples, whose metadata it may fit.
fn read_segment(bytes: &[u8]) {
    for (meta, _) in &sample().segments {
        let meta = SegmentMeta {
            bytes: bytes.len() as u64,
            checksum: crc32c::crc32c(bytes),
            ..meta.clone()
        };
        let directory = Path::new(DIRECTORY);
        let disk = holding(&directory.join(path_of(&meta).relative()), bytes.to_vec());
        let Ok(segment) = Segment::open(&disk, directory, meta) else {
            continue;
        };
        let _ = segment.verify();
        let everything = whole(segment.meta());
        for part in segment.parts(&Range::ALL).unwrap_or_default() {
            let mut take = |_: &_| ControlFlow::Continue(());
            let _ = segment.scan(&part, &everything, &mut |_, _| 0, &mut take);
        }
    }
}

/// One file of each kind, as an engine wrote it.
struct Sample {
    log: Vec<u8>,
    manifest: Vec<u8>,
    runs: Vec<(RunMeta, Vec<u8>)>,
    segments: Vec<(SegmentMeta, Vec<u8>)>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| make_sample().expect("an engine on a sound disk"))
}

fn make_sample() -> Option<Sample> {
    let directory = Path::new(DIRECTORY);
    let disk = SimulatedDisk::new();
    let settings = Settings {
        sealing: Sealing::OnDemand,
        hash_key: Some([0; 32]),
        ..Settings::default()
    };
    let engine = Engine::open(directory, settings, Arc::new(disk.clone())).ok()?;
    let submit = |measurements: Vec<Measurement>, on_conflict| {
        let batch = Batch {
            organization: ORGANIZATION,
            received: Timestamp::MIN,
            measurements,
            on_conflict,
        };
        engine.submit(batch).and_then(Ticket::wait).ok()
    };
    submit(
        (0..6).filter_map(|n| measurement(n, 1)).collect(),
        OnConflict::Reject,
    )?;
    submit(vec![measurement(1, 2)?], OnConflict::Replace)?;
    let void = engine.void(ORGANIZATION, vec![measurement(2, 1)?.id], Timestamp::MIN);
    void.and_then(Ticket::wait).ok()?;
    let log = log_directory(directory).join(FileNumber::FIRST.file_name());
    let log = disk.bytes(&log)?;
    engine.seal().ok()?;
    // So that rows of the sealed segment are retired.
    submit(vec![measurement(3, 3)?], OnConflict::Replace)?;
    engine.seal().ok()?;
    drop(engine);
    let manifest = Manifest::read(&disk, directory).ok()??;
    let runs = manifest.runs.iter().filter_map(|meta| {
        let path = runs_directory(directory).join(RunMeta::file_name(meta.number));
        Some((meta.clone(), disk.bytes(&path)?))
    });
    let segments = manifest
        .organizations
        .iter()
        .flat_map(|meta| &meta.segments);
    let segments = segments.filter_map(|meta| {
        let path: PathBuf = directory.join(path_of(meta).relative());
        Some((meta.clone(), disk.bytes(&path)?))
    });
    Some(Sample {
        log,
        manifest: disk.bytes(&directory.join("manifest"))?,
        runs: runs.collect(),
        segments: segments.collect(),
    })
}

fn measurement(number: i64, value: i64) -> Option<Measurement> {
    Some(Measurement {
        id: MeasurementId::new(format!("id-{number}")).ok()?,
        meter: MeterId(Uuid::from_u128(2)),
        subject: Subject::new(["one", "two"].get(usize::from(number > 2))?).ok()?,
        time: Timestamp::from_seconds(1_767_225_600 + number)?,
        end_time: Timestamp::from_seconds(1_767_225_700).filter(|_| number == 4),
        values: vec![(FieldName::new("amount").ok()?, Decimal::from(value))],
        attributes: vec![(
            FieldName::new("region").ok()?,
            AttributeValue::new("eu").ok()?,
        )],
    })
}

fn holding(path: &Path, bytes: Vec<u8>) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.put(path, bytes);
    debug_assert!(disk.length(path).is_ok());
    disk
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to.min(bytes.len())).unwrap_or_default()
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    part(bytes, at, bytes.len())
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}
