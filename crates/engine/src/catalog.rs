//! The manifest in use, and the files that it names: made, switched to, and removed once nothing names them.

use crate::disk::{Disk, is_full};
use crate::log::frame::{FileNumber, log_directory};
use crate::log::reader::files;
use crate::manifest::{Manifest, OrganizationMeta, WriteError};
use crate::partition::Partition;
use crate::runs::{Run, RunError, RunMeta, RunWriter};
use crate::segment::read::Segment;
use crate::segment::schema::SegmentPath;
use crate::segment::{SegmentError, SegmentMeta};
use meterd_model::OrganizationId;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One at a time may commit; reading what was committed waits for no disk.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    manifest: Mutex<Manifest>,
    /// Held from the decision on a new manifest to its being durable.
    committing: Mutex<()>,
    next_file: Mutex<u64>,
    garbage: Mutex<Garbage>,
}

/// Files of attempts that failed.
#[derive(Debug, Default)]
struct Garbage {
    paths: Vec<PathBuf>,
    /// A manifest was written, and nobody knows whether it is the one that a restart finds: it may name these.
    is_needed: bool,
}

/// Why something was not sealed, merged or dropped. What was before still holds.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    #[error("{what}: {source}")]
    Io {
        /// A verb phrase, e.g. "write a segment".
        what: &'static str,
        source: io::Error,
    },
    #[error("{0}")]
    Damaged(String),
    /// The engine is closed, or its log cannot be written.
    #[error(transparent)]
    Refused(#[from] crate::SubmitError),
}

impl MaintenanceError {
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Whether the disk has no space.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

impl From<SegmentError> for MaintenanceError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io(source) => Self::io("read or write a segment")(source),
            damaged @ SegmentError::Damaged { .. } => Self::Damaged(damaged.to_string()),
        }
    }
}

impl From<RunError> for MaintenanceError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Io(source) => Self::io("read or write an id run")(source),
            damaged @ RunError::Damaged { .. } => Self::Damaged(damaged.to_string()),
        }
    }
}

pub(crate) fn runs_directory(directory: &Path) -> PathBuf {
    directory.join("ids")
}

pub(crate) fn segments_directory(directory: &Path) -> PathBuf {
    directory.join("segments")
}

impl Catalog {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: &Path, manifest: Manifest) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
            next_file: Mutex::new(manifest.next_file),
            manifest: Mutex::new(manifest),
            committing: Mutex::new(()),
            garbage: Mutex::default(),
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        self.manifest.lock().clone()
    }

    pub(crate) fn with_manifest<T>(&self, look: impl FnOnce(&Manifest) -> T) -> T {
        look(&self.manifest.lock())
    }

    /// The manifest in use, and what `look` finds while nobody commits another one: what is in memory fits it then,
    /// and no file that it names is removed.
    pub(crate) fn hold<T>(&self, look: impl FnOnce(&Manifest) -> T) -> (Manifest, T) {
        let _committing = self.committing.lock();
        let manifest = self.manifest();
        let found = look(&manifest);
        (manifest, found)
    }

    /// See [`OrganizationMeta::dropped`].
    pub(crate) fn dropped(&self, organization: OrganizationId) -> Vec<(Partition, u64)> {
        self.with_manifest(|manifest| {
            let meta = organization_of(manifest, organization);
            meta.map_or_else(Vec::new, |meta| meta.dropped.clone())
        })
    }

    pub(crate) fn first_log(&self) -> u64 {
        self.manifest.lock().first_log
    }

    /// A number that no file has, nor had under any manifest that a restart could find.
    pub(crate) fn new_file(&self) -> u64 {
        let mut next = self.next_file.lock();
        let number = *next;
        *next += 1;
        number
    }

    /// Switches to the manifest as `edit` leaves it, lets `install` do the same in memory before anybody else commits,
    /// and removes the files that it made obsolete. After an error the old one is still in use, and the files that
    /// only the new one names are garbage.
    pub(crate) fn commit(
        &self,
        edit: impl FnOnce(&mut Manifest),
        install: impl FnOnce(),
        obsolete: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(), MaintenanceError> {
        let _committing = self.committing.lock();
        let mut next = self.manifest();
        edit(&mut next);
        next.next_file = *self.next_file.lock();
        match next.write(self.disk.as_ref(), &self.directory) {
            Ok(()) => {
                *self.manifest.lock() = next;
                install();
                let mut garbage = self.garbage.lock();
                garbage.is_needed = false;
                garbage.paths.extend(obsolete());
                self.remove(&mut garbage);
                Ok(())
            }
            Err(error) => {
                let what = MaintenanceError::io("write the manifest");
                Err(match error {
                    WriteError::NotWritten(source) => what(source),
                    WriteError::Unknown(source) => {
                        self.garbage.lock().is_needed = true;
                        what(source)
                    }
                })
            }
        }
    }

    /// Removes files of an attempt that failed: at once, since they may be what fills the disk, or, if a restart may find
    /// a manifest that names them, after the next commit.
    pub(crate) fn discard(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut garbage = self.garbage.lock();
        garbage.paths.extend(paths);
        if !garbage.is_needed {
            self.remove(&mut garbage);
        }
    }

    /// What cannot be removed is tried again with the next, and at the latest the next start does it.
    fn remove(&self, garbage: &mut Garbage) {
        garbage.paths.retain(|path| match self.disk.remove(path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
    }

    pub(crate) fn segment_path(&self, meta: &SegmentMeta) -> PathBuf {
        self.directory.join(path_of(meta).relative())
    }

    pub(crate) fn run_path(&self, number: u64) -> PathBuf {
        runs_directory(&self.directory).join(RunMeta::file_name(number))
    }

    pub(crate) fn open_segment(&self, meta: SegmentMeta) -> Result<Arc<Segment>, SegmentError> {
        Segment::open(self.disk.as_ref(), &self.directory, meta).map(Arc::new)
    }

    pub(crate) fn open_run(&self, meta: &RunMeta) -> Result<Arc<Run>, RunError> {
        Run::open(self.disk.as_ref(), &self.run_path(meta.number), meta).map(Arc::new)
    }

    /// A new run of at most about so many entries. If `write` fails, what there is of the file is garbage.
    pub(crate) fn write_run(
        &self,
        entries_max: u64,
        write: impl FnOnce(RunWriter) -> Result<RunMeta, RunError>,
    ) -> Result<RunMeta, MaintenanceError> {
        let number = self.new_file();
        let path = self.run_path(number);
        let written = (|| {
            let writer = RunWriter::new(self.disk.create(&path)?, number, entries_max);
            let meta = write(writer)?;
            self.disk.sync_directory(&runs_directory(&self.directory))?;
            Ok::<_, RunError>(meta)
        })();
        Ok(written.inspect_err(|_| self.discard([path]))?)
    }

    pub(crate) fn log_path(&self, number: FileNumber) -> PathBuf {
        log_directory(&self.directory).join(number.file_name())
    }

    /// Removes what no manifest names: what a crash left of files that were being made or removed.
    pub(crate) fn remove_strays(&self) -> io::Result<()> {
        let manifest = self.manifest.lock();
        let disk = self.disk.as_ref();
        let log = log_directory(&self.directory);
        for number in files(disk, &log)? {
            if number.0 < manifest.first_log {
                disk.remove(&log.join(number.file_name()))?;
            }
        }
        let runs = runs_directory(&self.directory);
        for name in disk.list(&runs)? {
            let number = RunMeta::parse(&name);
            let is_stray = number.is_some_and(|n| !manifest.runs.iter().any(|run| run.number == n));
            if is_stray {
                disk.remove(&runs.join(name))?;
            }
        }
        let named = |path: &SegmentPath| {
            (organization_of(&manifest, path.organization)).is_some_and(|organization| {
                organization
                    .segments
                    .iter()
                    .any(|meta| path_of(meta) == *path)
            })
        };
        let root = segments_directory(&self.directory);
        for organization in list_or_nothing(disk, &root)? {
            for meter in list_or_nothing(disk, &root.join(&organization))? {
                let meters = root.join(&organization).join(&meter);
                for month in list_or_nothing(disk, &meters)? {
                    let directory = meters.join(&month);
                    for name in list_or_nothing(disk, &directory)? {
                        let path = directory.join(&name);
                        let relative = path.strip_prefix(&self.directory).ok();
                        let parsed = relative.and_then(SegmentPath::parse);
                        if parsed.is_some_and(|parsed| !named(&parsed)) {
                            disk.remove(&path)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn path_of(meta: &SegmentMeta) -> SegmentPath {
    SegmentPath {
        organization: meta.organization,
        partition: meta.partition,
        number: meta.number,
    }
}

fn organization_of(manifest: &Manifest, id: OrganizationId) -> Option<&OrganizationMeta> {
    let place = (manifest.organizations).binary_search_by_key(&id, |meta| meta.organization);
    manifest.organizations.get(place.ok()?)
}

/// The organization's entry, made if there is none.
pub(crate) fn organization_mut(
    manifest: &mut Manifest,
    id: OrganizationId,
) -> Option<&mut OrganizationMeta> {
    let all = &mut manifest.organizations;
    let place = match all.binary_search_by_key(&id, |meta| meta.organization) {
        Ok(place) => place,
        Err(place) => {
            let new = OrganizationMeta {
                organization: id,
                ids: 0,
                segments: Vec::new(),
                retired: Vec::new(),
                dropped: Vec::new(),
                forgets: false,
                forgotten_below: 0,
            };
            all.insert(place, new);
            place
        }
    };
    all.get_mut(place)
}

fn list_or_nothing(disk: &dyn Disk, path: &Path) -> io::Result<Vec<String>> {
    match disk.list(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}
