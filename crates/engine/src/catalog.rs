//! The manifest in use, and the files that it names: made, switched to, and removed once nothing names them.

use crate::SubmitError;
use crate::disk::{Disk, is_full};
use crate::files::Files;
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
use std::sync::atomic::{AtomicBool, Ordering};

/// One at a time may commit; reading what was committed waits for no disk.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    files: Arc<Files>,
    manifest: Mutex<Manifest>,
    /// Held from the decision on a new manifest to its being in use; whether there can be none any more.
    committing: Mutex<bool>,
    next_file: Mutex<u64>,
    stopping: AtomicBool,
}

/// Files that no manifest names yet. They are discarded, unless a commit takes them.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    catalog: &'a Catalog,
    paths: Vec<PathBuf>,
}

impl Draft<'_> {
    pub(crate) fn add(&mut self, path: PathBuf) {
        self.paths.push(path);
    }

    pub(crate) fn join(&mut self, mut other: Self) {
        self.paths.append(&mut other.paths);
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.paths.is_empty() {
            self.catalog.files.discard(std::mem::take(&mut self.paths));
        }
    }
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
    Refused(#[from] SubmitError),
}

impl MaintenanceError {
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Whether it was broken off because the engine is to close.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted)
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
    /// At most `open_max` files of segments stay open.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        manifest: Manifest,
        open_max: usize,
    ) -> Self {
        Self {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            files: Arc::new(Files::new(Arc::clone(disk), open_max)),
            next_file: Mutex::new(manifest.next_file),
            manifest: Mutex::new(manifest),
            committing: Mutex::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// From now on [`Self::check_open`] fails, so that whoever works long gives up.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Asked every few thousand rows by whoever works long.
    pub(crate) fn check_open(&self) -> io::Result<()> {
        if self.stopping.load(Ordering::Relaxed) {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Ok(())
        }
    }

    /// Waits for a running commit. There is none after it, so that the directory can be another engine's.
    pub(crate) fn close(&self) {
        *self.committing.lock() = true;
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

    pub(crate) fn draft(&self) -> Draft<'_> {
        Draft {
            catalog: self,
            paths: Vec::new(),
        }
    }

    /// Switches to the manifest as `edit` leaves it, lets `install` do the same in memory before anybody else commits,
    /// and removes the files that `edit` says are obsolete. If it says `None`, nothing is switched, and the answer is
    /// `false`. Then as after an error the old one is still in use, and the draft is discarded.
    pub(crate) fn commit(
        &self,
        mut draft: Draft<'_>,
        edit: impl FnOnce(&mut Manifest) -> Option<Vec<PathBuf>>,
        install: impl FnOnce(),
    ) -> Result<bool, MaintenanceError> {
        let mut closed = self.committing.lock();
        if *closed {
            return Err(SubmitError::Closed.into());
        }
        let mut next = self.manifest();
        let Some(obsolete) = edit(&mut next) else {
            return Ok(false);
        };
        next.next_file = *self.next_file.lock();
        let what = MaintenanceError::io("write the manifest");
        match next.write(self.disk.as_ref(), &self.directory) {
            Ok(()) => {}
            Err(WriteError::NotWritten(source)) => return Err(what(source)),
            Err(WriteError::Unknown(source)) => {
                self.files.doubt(std::mem::take(&mut draft.paths));
                return Err(what(source));
            }
        }
        draft.paths.clear();
        *self.manifest.lock() = next;
        // If it panics, memory and manifest differ, and nothing may be built on that.
        *closed = true;
        install();
        *closed = false;
        self.files.remove(obsolete);
        Ok(true)
    }

    pub(crate) fn segment_path(&self, meta: &SegmentMeta) -> PathBuf {
        self.directory.join(path_of(meta).relative())
    }

    pub(crate) fn run_path(&self, number: u64) -> PathBuf {
        runs_directory(&self.directory).join(RunMeta::file_name(number))
    }

    pub(crate) fn open_segment(&self, meta: SegmentMeta) -> Result<Arc<Segment>, SegmentError> {
        let file = self.files.hold(&self.segment_path(&meta))?;
        Segment::of(Arc::new(file), meta).map(Arc::new)
    }

    pub(crate) fn open_run(&self, meta: &RunMeta) -> Result<Arc<Run>, RunError> {
        Run::open(self.disk.as_ref(), &self.run_path(meta.number), meta).map(Arc::new)
    }

    /// A new run of at most about so many entries.
    pub(crate) fn write_run(
        &self,
        draft: &mut Draft<'_>,
        entries_max: u64,
        write: impl FnOnce(RunWriter) -> Result<RunMeta, RunError>,
    ) -> Result<RunMeta, MaintenanceError> {
        let number = self.new_file();
        let path = self.run_path(number);
        draft.add(path.clone());
        let written = (|| {
            let writer = RunWriter::new(self.disk.create(&path)?, number, entries_max);
            let meta = write(writer)?;
            self.disk.sync_directory(&runs_directory(&self.directory))?;
            Ok::<_, RunError>(meta)
        })();
        Ok(written?)
    }

    pub(crate) fn log_path(&self, number: FileNumber) -> PathBuf {
        log_directory(&self.directory).join(number.file_name())
    }

    /// Removes what no manifest names: what a crash left of files that were being made or removed, and directories of
    /// segments in which nothing is left.
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
                    remove_if_empty(disk, &directory);
                }
                remove_if_empty(disk, &meters);
            }
            remove_if_empty(disk, &root.join(&organization));
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

fn remove_if_empty(disk: &dyn Disk, directory: &Path) {
    if disk.list(directory).is_ok_and(|names| names.is_empty()) {
        // One that stays is untidy, and no reason not to start.
        let _ = disk.remove_directory(directory);
    }
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
