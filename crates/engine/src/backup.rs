//! Backups: a copy of all that is sealed, made while the engine goes on, and the way back.
//!
//! A backup is a data directory whose log is empty. Its manifest is written last, so that what an interrupted copy
//! leaves behind is not taken for one. Every file's checksum is compared with the manifest's while it is copied.

use crate::catalog::{Catalog, MaintenanceError, path_of, runs_directory};
use crate::disk::{Disk, DiskReader, create_directories, parent_of};
use crate::log::frame::log_directory;
use crate::log::reader::files;
use crate::manifest::{Manifest, ManifestError, WriteError};
use crate::runs::RunMeta;
use crate::state::State;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// Those that count.
    pub measurements: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Copies what the manifest names now. Files that are merged away meanwhile stay readable to the end.
pub(crate) fn backup(
    destination: &Path,
    state: &State,
    catalog: &Catalog,
) -> Result<BackupReport, MaintenanceError> {
    let (manifest, readers) = catalog.hold(|manifest| open_files(manifest, state));
    let open = |file: &File| {
        let reader = readers.get(&file.number).cloned();
        reader.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    copy_all(
        &manifest,
        &open,
        destination,
        catalog.disk.as_ref(),
        &mut |_, _| {},
    )
}

/// Copies a backup to a directory that is new or empty, which an engine can then open. `progress` hears of bytes done
/// and bytes in total.
pub fn restore(
    from: &Path,
    to: &Path,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupReport, MaintenanceError> {
    let damaged = |what: &str| MaintenanceError::Damaged(format!("{}: {what}", from.display()));
    let manifest = match Manifest::read(disk, from) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Err(damaged("there is no manifest, so this is no whole backup")),
        Err(ManifestError::Io(error)) => {
            return Err(MaintenanceError::io("read the manifest")(error));
        }
        Err(error @ ManifestError::Damaged(_)) => return Err(damaged(&error.to_string())),
    };
    let logs = match files(disk, &log_directory(from)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(MaintenanceError::io("list the log"))?,
    };
    if logs.iter().any(|number| number.0 >= manifest.first_log) {
        return Err(damaged(
            "it has a log, so this is a data directory and no backup",
        ));
    }
    let open = |file: &File| disk.open_read(&from.join(&file.path));
    copy_all(&manifest, &open, to, disk, progress)
}

/// One file that a manifest names.
struct File {
    number: u64,
    /// Below the engine's directory.
    path: PathBuf,
    bytes: u64,
    checksum: u32,
}

fn files_of(manifest: &Manifest) -> Vec<File> {
    let segments = manifest
        .organizations
        .iter()
        .flat_map(|meta| &meta.segments);
    let segments = segments.map(|meta| File {
        number: meta.number,
        path: path_of(meta).relative(),
        bytes: meta.bytes,
        checksum: meta.checksum,
    });
    let runs = manifest.runs.iter().map(|meta| File {
        number: meta.number,
        path: runs_directory(Path::new("")).join(RunMeta::file_name(meta.number)),
        bytes: meta.bytes,
        checksum: meta.checksum,
    });
    segments.chain(runs).collect()
}

/// The files that are open anyway, by number.
fn open_files(manifest: &Manifest, state: &State) -> HashMap<u64, Arc<dyn DiskReader>> {
    let mut readers = HashMap::new();
    for run in &state.runs().runs {
        readers.insert(run.meta().number, Arc::clone(run.file()));
    }
    for meta in &manifest.organizations {
        if let Some(organization) = state.organization(meta.organization) {
            for segment in organization.read().sealed.all_segments() {
                readers.insert(segment.meta().number, Arc::clone(segment.file()));
            }
        }
    }
    readers
}

fn copy_all(
    manifest: &Manifest,
    open: &dyn Fn(&File) -> io::Result<Arc<dyn DiskReader>>,
    to: &Path,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupReport, MaintenanceError> {
    let failed = MaintenanceError::io;
    create_directories(disk, to).map_err(failed("create the directory"))?;
    if !disk
        .list(to)
        .map_err(failed("list the directory"))?
        .is_empty()
    {
        let not_empty = io::ErrorKind::DirectoryNotEmpty.into();
        return Err(failed("copy into the directory")(not_empty));
    }
    let files = files_of(manifest);
    let total = files.iter().map(|file| file.bytes).sum();
    let mut directories = BTreeSet::from([log_directory(to), runs_directory(to)]);
    for directory in &directories {
        create_directories(disk, directory).map_err(failed("create a directory"))?;
    }
    let mut report = BackupReport {
        measurements: measurements(manifest),
        ..BackupReport::default()
    };
    let mut buffer = vec![0; PIECE_BYTES];
    for file in files {
        let path = to.join(&file.path);
        if let Some(directory) = parent_of(&path)
            && !directories.contains(directory)
        {
            create_directories(disk, directory).map_err(failed("create a directory"))?;
            directories.insert(directory.to_owned());
        }
        let reader = open(&file).map_err(failed("open a file to copy"))?;
        copy(
            &file,
            reader.as_ref(),
            &path,
            disk,
            &mut buffer,
            &mut |bytes| {
                report.bytes += bytes;
                progress(report.bytes, total);
            },
        )?;
        report.files += 1;
    }
    for directory in &directories {
        disk.sync_directory(directory)
            .map_err(failed("sync a directory"))?;
    }
    match manifest.write(disk, to) {
        Ok(()) => Ok(report),
        Err(WriteError::NotWritten(error) | WriteError::Unknown(error)) => {
            Err(failed("write the manifest")(error))
        }
    }
}

fn measurements(manifest: &Manifest) -> u64 {
    let organizations = manifest.organizations.iter().map(|meta| {
        let current = meta
            .segments
            .iter()
            .map(|segment| segment.rows - segment.superseded);
        let retired: u64 = meta.retired.iter().map(|(_, rows)| rows.len()).sum();
        current.sum::<u64>().saturating_sub(retired)
    });
    organizations.sum()
}

fn copy(
    file: &File,
    from: &dyn DiskReader,
    to: &Path,
    disk: &dyn Disk,
    buffer: &mut [u8],
    copied: &mut dyn FnMut(u64),
) -> Result<(), MaintenanceError> {
    let failed = MaintenanceError::io;
    let damaged =
        |what: &str| MaintenanceError::Damaged(format!("{}: {what}", file.path.display()));
    if from.length() != file.bytes {
        return Err(damaged("its length is not the one noted"));
    }
    let mut into = disk.create(to).map_err(failed("create a file"))?;
    let (mut offset, mut checksum) = (0, 0);
    while offset < file.bytes {
        let left = usize::try_from(file.bytes - offset).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let piece = buffer.get_mut(..length).unwrap_or_default();
        from.read_at(offset, piece)
            .map_err(failed("read a file to copy"))?;
        checksum = crc32c::crc32c_append(checksum, piece);
        into.append(piece).map_err(failed("write a file"))?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        offset += length;
        copied(length);
    }
    if checksum != file.checksum {
        return Err(damaged("its checksum is wrong"));
    }
    into.sync().map_err(failed("sync a file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PowerCut, SimulatedDisk};
    use crate::{Batch, Cancel, Engine, Listing, OnConflict, Sealing, Settings, Verdict, verify};
    use meterd_model::{
        FieldName, Measurement, MeasurementId, MeterId, OrganizationId, Subject, Timestamp,
    };
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;
    use uuid::Uuid;

    const ORGANIZATION: OrganizationId = OrganizationId(Uuid::from_u128(1));

    fn measured(n: u64) -> Measurement {
        let seconds = i64::try_from(n).unwrap() * 40_000;
        Measurement {
            id: MeasurementId::new(n.to_string()).unwrap(),
            meter: MeterId(Uuid::from_u128(2)),
            subject: Subject::new("s").unwrap(),
            time: Timestamp::from_seconds(seconds).unwrap(),
            end_time: None,
            values: vec![(FieldName::new("amount").unwrap(), "1".parse().unwrap())],
            attributes: Vec::new(),
        }
    }

    fn store(engine: &Engine, numbers: std::ops::Range<u64>) -> Vec<Verdict> {
        let batch = Batch {
            organization: ORGANIZATION,
            received: Timestamp::MIN,
            measurements: numbers.map(measured).collect(),
            on_conflict: OnConflict::Reject,
        };
        engine.submit(batch).unwrap().wait().unwrap().verdicts
    }

    fn open(disk: &SimulatedDisk, path: &str, settings: &Settings) -> Engine {
        Engine::open(Path::new(path), settings.clone(), Arc::new(disk.clone())).unwrap()
    }

    /// The numbers stored, sorted.
    fn numbers(engine: &Engine) -> Vec<u64> {
        let listing = Listing {
            limit: usize::MAX,
            ..Listing::default()
        };
        let page = engine.list(ORGANIZATION, &listing, &Cancel::new()).unwrap();
        let ids = page
            .measurements
            .iter()
            .map(|listed| listed.measurement.id.as_str());
        let mut numbers: Vec<u64> = ids.map(|id| id.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn is_sound(disk: &SimulatedDisk, path: &str) {
        let report = verify(Path::new(path), disk, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
    }

    #[test]
    fn a_backup_is_a_prefix_of_what_was_acknowledged_whatever_goes_on() {
        let disk = SimulatedDisk::new();
        let settings = Settings {
            seal_rows: 60,
            merge_fan_in: 2,
            list_limit_max: usize::MAX - 1,
            ..Settings::default()
        };
        let engine = open(&disk, "data", &settings);
        store(&engine, 0..10);
        let acknowledged = AtomicU64::new(10);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _done = SetOnDrop(&done);
            scope.spawn(|| {
                for n in 1_u64.. {
                    store(&engine, n * 10..n * 10 + 10);
                    acknowledged.store(n * 10 + 10, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    engine.merge().unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            for round in 0..5 {
                let copy = format!("copies/{round}");
                let before = acknowledged.load(Ordering::SeqCst);
                let report = engine.backup(Path::new(&copy)).unwrap();
                let after = acknowledged.load(Ordering::SeqCst) + 10;
                is_sound(&disk, &copy);
                let restored = format!("restored/{round}");
                let again = restore(
                    Path::new(&copy),
                    Path::new(&restored),
                    &disk,
                    &mut |_, _| {},
                );
                assert_eq!(again.unwrap(), report);
                for path in [copy, restored] {
                    let engine = open(&disk, &path, &settings);
                    let found = numbers(&engine);
                    let count = u64::try_from(found.len()).unwrap();
                    assert!(
                        (before..=after).contains(&count),
                        "{before} {count} {after}"
                    );
                    assert_eq!(found, (0..count).collect::<Vec<_>>());
                    assert_eq!(report.measurements, count);
                    // Its ids are known, and it goes on.
                    let verdicts = store(&engine, count - 1..count + 1);
                    assert_eq!(verdicts, [Verdict::Duplicate, Verdict::Accepted]);
                    engine.close();
                    drop(engine);
                    is_sound(&disk, &path);
                }
            }
        });
    }

    /// Ends the other threads also when an assertion fails.
    struct SetOnDrop<'a>(&'a AtomicBool);

    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Some months, on a disk of its own.
    fn filled() -> (SimulatedDisk, Settings) {
        let disk = SimulatedDisk::new();
        let settings = Settings {
            sealing: Sealing::OnDemand,
            ..Settings::default()
        };
        let engine = open(&disk, "data", &settings);
        store(&engine, 0..200);
        engine.seal().unwrap();
        engine.close();
        (disk, settings)
    }

    #[test]
    fn an_interrupted_backup_is_none() {
        let (disk, settings) = filled();
        let begun = |disk: &SimulatedDisk| {
            let engine = open(disk, "data", &settings);
            let steps = disk.steps();
            let backup = engine.backup(Path::new("copy"));
            (steps, disk.steps(), backup)
        };
        let (first, last, backup) = begun(&disk.kill());
        backup.unwrap();
        let mut whole = 0;
        for (seed, step) in (0..).zip(first..last) {
            let disk = disk.kill();
            disk.cut_power_at(step);
            assert!(begun(&disk).2.is_err(), "step {step}");
            let disk = disk.restart(PowerCut::Tear { seed });
            let target = Path::new("restored");
            match restore(Path::new("copy"), target, &disk, &mut |_, _| {}) {
                Ok(report) => {
                    // Only the last sync was missing, and what it was for happened.
                    assert_eq!(report.measurements, 200);
                    is_sound(&disk, "restored");
                    whole += 1;
                }
                Err(MaintenanceError::Io { .. }) => panic!("step {step}"),
                Err(_) => assert!(disk.length(&target.join("manifest")).is_err()),
            }
            is_sound(&disk, "data");
        }
        assert!(whole < 4, "{whole} of {}", last - first);
    }

    #[test]
    fn what_is_refused() {
        let (disk, settings) = filled();
        let engine = open(&disk, "data", &settings);
        engine.backup(Path::new("copy")).unwrap();
        let again = engine.backup(Path::new("copy")).unwrap_err();
        assert!(
            matches!(&again, MaintenanceError::Io { source, .. } if source.kind() == io::ErrorKind::DirectoryNotEmpty),
            "{again}"
        );
        disk.set_space(Some(100));
        assert!(engine.backup(Path::new("full")).unwrap_err().is_full());
        disk.set_space(None);
        let restored = |from: &str, to: &str| {
            restore(Path::new(from), Path::new(to), &disk, &mut |_, _| {})
                .map_err(|e| e.to_string())
        };
        assert!(
            restored("full", "a")
                .unwrap_err()
                .contains("no whole backup")
        );
        assert!(restored("data", "b").unwrap_err().contains("has a log"));
        assert!(restored("copy", "data").is_err());
        let manifest = Manifest::read(&disk, Path::new("copy")).unwrap().unwrap();
        let file = &files_of(&manifest)[0];
        let path = Path::new("copy").join(&file.path);
        let mut bytes = disk.bytes(&path).unwrap();
        bytes[7] ^= 1;
        disk.put(&path, bytes);
        assert!(
            restored("copy", "c")
                .unwrap_err()
                .contains("checksum is wrong")
        );
        assert!(disk.length(Path::new("c/manifest")).is_err());
    }
}
