//! Files that surfaces hand out or take in: what could not be ingested, uploads, exports.
//!
//! Each lies beside the database, in `files/ORGANIZATION/ID`, and has a row that says what it is and when it ends. The
//! row comes last, so a file without one is the rest of a crash and goes at the next opening. Files are no resources:
//! they are not audited, not held in memory, and no part of a backup.

use crate::database::{Database, OpenError, doing, full, time};
use meterd_fault::{Fault, Kind, Resource};
use meterd_model::{OrganizationId, Timestamp};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a file costs besides its bytes, so that many small ones are bounded too.
const FILE_OVERHEAD_BYTES: u64 = 4096;
/// Expired files that one transaction removes.
const SWEEP_BATCH: u64 = 1_000;
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);

/// What is known of a finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    pub id: Uuid,
    pub organization: OrganizationId,
    /// What it is for, e.g. `export`.
    pub purpose: String,
    /// What its owner calls it.
    pub name: String,
    pub media_type: String,
    pub bytes: u64,
    pub created_at: Timestamp,
    /// From then on it is not found.
    pub expires_at: Timestamp,
}

/// A file to be written.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub organization: OrganizationId,
    pub purpose: &'static str,
    pub name: String,
    pub media_type: String,
    pub expires_at: Timestamp,
    /// Most bytes that the organization keeps for this purpose; the oldest files give way, so that the new one is taken
    /// whatever there is for other purposes. Without it the new file is refused once all files are at their bound.
    pub purpose_bytes_max: Option<u64>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Arc<Database>,
    folder: PathBuf,
    /// Of one organization.
    bytes_max: u64,
    /// What the files cost, by organization and purpose; those being written count.
    used: Mutex<HashMap<(OrganizationId, String), u64>>,
}

impl Files {
    pub(crate) fn open(database: Arc<Database>, bytes_max: u64) -> Result<Self, OpenError> {
        let folder = folder_of(database.path());
        let known = database.on_writer(|sql| all_files(sql))?;
        let mut used: HashMap<_, u64> = HashMap::new();
        for file in &known {
            *used
                .entry((file.organization, file.purpose.clone()))
                .or_default() += cost(file.bytes);
        }
        let ids = known.iter().map(|file| file.id).collect();
        remove_unknown(&folder, &ids).map_err(|source| OpenError::Create {
            path: folder.clone(),
            source,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                folder,
                bytes_max,
                used: Mutex::new(used),
            }),
        })
    }

    /// Begins a file. Nobody sees it before it is finished; dropped before, it is gone.
    pub fn create(&self, new: NewFile, now: Timestamp) -> Result<FileWriter, Fault> {
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random()?).into_uuid();
        let path = self.path(new.organization, id);
        let made = path
            .parent()
            .map_or(Ok(()), create_folder)
            .and_then(|()| create_private(&part_of(&path)));
        let file = made.map_err(|e| file_fault("create a file", &e))?;
        let mut writer = FileWriter {
            files: self.clone(),
            file: io::BufWriter::new(file),
            path,
            charged: 0,
            meta: FileMeta {
                id,
                organization: new.organization,
                purpose: new.purpose.to_owned(),
                name: new.name,
                media_type: new.media_type,
                bytes: 0,
                created_at: now,
                expires_at: new.expires_at,
            },
            purpose_bytes_max: new.purpose_bytes_max,
        };
        writer.charge(FILE_OVERHEAD_BYTES)?;
        Ok(writer)
    }

    /// A finished file. Another organization's, and one that has expired, is not found.
    pub fn open_file(
        &self,
        organization: OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<(FileMeta, File), Fault> {
        let not_found = || {
            Fault::new(Kind::ResourceNotFound {
                resource: Resource::File,
                id: id.to_string(),
            })
        };
        let meta = self
            .find(organization, id)?
            .filter(|meta| now < meta.expires_at)
            .ok_or_else(not_found)?;
        match File::open(self.path(organization, id)) {
            Ok(file) => Ok((meta, file)),
            // Files are no part of a backup, so that a row may have none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_found()),
            Err(error) => Err(file_fault("open a file", &error)),
        }
    }

    /// What is known of a file, whether or not it has expired.
    pub fn find(&self, organization: OrganizationId, id: Uuid) -> Result<Option<FileMeta>, Fault> {
        self.inner.database.read(|sql| {
            sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM files WHERE id = ?1 AND organization = ?2"
            ))
            .and_then(|mut statement| {
                statement
                    .query_row(params![id, organization.0], meta_of)
                    .optional()
            })
            .map_err(doing("look up a file"))
        })
    }

    /// The organization's last file of this purpose.
    pub fn newest(
        &self,
        organization: OrganizationId,
        purpose: &str,
        now: Timestamp,
    ) -> Result<Option<FileMeta>, Fault> {
        self.inner.database.read(|sql| {
            sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM files WHERE organization = ?1 AND purpose = ?2 AND expires_at > ?3 \
                 ORDER BY created_at DESC, id DESC LIMIT 1"
            ))
            .and_then(|mut statement| {
                statement
                    .query_row(params![organization.0, purpose, now.micros()], meta_of)
                    .optional()
            })
            .map_err(doing("look up a file"))
        })
    }

    /// Deleting what is not there is done already.
    pub fn delete(&self, organization: OrganizationId, id: Uuid) -> Result<(), Fault> {
        match self.find(organization, id)? {
            Some(meta) => self.remove(&[meta]),
            None => Ok(()),
        }
    }

    /// Removes what has expired, of all organizations. Returns how many files.
    pub fn sweep(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut swept = 0;
        loop {
            let expired = self.inner.database.read(|sql| {
                sql.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM files WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
                ))
                .and_then(|mut statement| {
                    statement
                        .query_map(params![now.micros(), SWEEP_BATCH], meta_of)?
                        .collect::<Result<Vec<_>, _>>()
                })
                .map_err(doing("list expired files"))
            })?;
            if expired.is_empty() {
                return Ok(swept);
            }
            self.remove(&expired)?;
            swept += expired.len() as u64;
        }
    }

    pub(crate) fn remove(&self, files: &[FileMeta]) -> Result<(), Fault> {
        let removed = self.inner.database.write(|sql| {
            let mut removed = Vec::with_capacity(files.len());
            for file in files {
                let rows = sql
                    .prepare_cached("DELETE FROM files WHERE id = ?1")
                    .and_then(|mut statement| statement.execute([file.id]))
                    .map_err(doing("remove a file"))?;
                // Another thread may have removed it meanwhile; its bytes are given back once.
                if rows > 0 {
                    removed.push(file);
                }
            }
            Ok(removed)
        })?;
        for file in removed {
            // What stays behind goes at the next opening.
            let _ = std::fs::remove_file(self.path(file.organization, file.id));
            self.release(file.organization, &file.purpose, cost(file.bytes));
        }
        Ok(())
    }

    /// Makes room among the files of one purpose, which never needs more than its bound.
    fn make_room(
        &self,
        organization: OrganizationId,
        purpose: &str,
        max: u64,
    ) -> Result<(), Fault> {
        loop {
            let used = {
                let used = self.inner.used.lock();
                used.get(&(organization, purpose.to_owned())).copied()
            };
            if used.unwrap_or(0) <= max {
                return Ok(());
            }
            let oldest = self.inner.database.read(|sql| {
                sql.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM files WHERE organization = ?1 AND purpose = ?2 \
                     ORDER BY created_at, id LIMIT 1"
                ))
                .and_then(|mut statement| {
                    statement
                        .query_row(params![organization.0, purpose], meta_of)
                        .optional()
                })
                .map_err(doing("look up the oldest file"))
            })?;
            match oldest {
                Some(oldest) => self.remove(&[oldest])?,
                None => return Ok(()),
            }
        }
    }

    fn release(&self, organization: OrganizationId, purpose: &str, bytes: u64) {
        let mut used = self.inner.used.lock();
        if let Some(used) = used.get_mut(&(organization, purpose.to_owned())) {
            *used = used.saturating_sub(bytes);
        }
    }

    fn path(&self, organization: OrganizationId, id: Uuid) -> PathBuf {
        let folder = self.inner.folder.join(organization.to_string());
        folder.join(id.to_string())
    }
}

/// A file on its way. Waits for the disk.
#[derive(Debug)]
pub struct FileWriter {
    files: Files,
    file: io::BufWriter<File>,
    path: PathBuf,
    meta: FileMeta,
    /// What counts against the bounds; none once the file is finished.
    charged: u64,
    purpose_bytes_max: Option<u64>,
}

impl FileWriter {
    pub fn id(&self) -> Uuid {
        self.meta.id
    }

    pub fn bytes(&self) -> u64 {
        self.meta.bytes
    }

    /// `StorageFull` once the organization's files are at their bound.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let length = bytes.len() as u64;
        self.charge(length)?;
        self.meta.bytes += length;
        self.file
            .write_all(bytes)
            .map_err(|e| file_fault("write a file", &e))
    }

    /// Once it returns, the file is on the disk and can be opened.
    pub fn finish(mut self) -> Result<FileMeta, Fault> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| std::fs::rename(part_of(&self.path), &self.path))
            .and_then(|()| self.path.parent().map_or(Ok(()), sync_folder));
        synced.map_err(|e| file_fault("finish a file", &e))?;
        let meta = self.meta.clone();
        self.files.inner.database.write(|sql| insert(sql, &meta))?;
        // From here on the row pays.
        self.charged = 0;
        if let Some(max) = self.purpose_bytes_max {
            self.files
                .make_room(meta.organization, &meta.purpose, max)?;
        }
        Ok(meta)
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        let organization = self.meta.organization;
        let mut used = self.files.inner.used.lock();
        let total: u64 = used
            .iter()
            .filter(|((owner, _), _)| *owner == organization)
            .map(|(_, used)| *used)
            .sum();
        let is_full = total.saturating_add(bytes) > self.files.inner.bytes_max;
        // What makes room for itself is taken although others have filled the store.
        if is_full && self.purpose_bytes_max.is_none() {
            return Err(full("the organization's files"));
        }
        *used
            .entry((organization, self.meta.purpose.clone()))
            .or_default() += bytes;
        self.charged += bytes;
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.charged == 0 {
            return;
        }
        // Renamed already, if only the row is missing.
        let _ = std::fs::remove_file(part_of(&self.path));
        let _ = std::fs::remove_file(&self.path);
        self.files
            .release(self.meta.organization, &self.meta.purpose, self.charged);
    }
}

const COLUMNS: &str = "id, organization, purpose, name, media_type, bytes, created_at, expires_at";

fn meta_of(row: &Row<'_>) -> Result<FileMeta, rusqlite::Error> {
    Ok(FileMeta {
        id: row.get(0)?,
        organization: OrganizationId(row.get(1)?),
        purpose: row.get(2)?,
        name: row.get(3)?,
        media_type: row.get(4)?,
        bytes: row.get(5)?,
        created_at: time(row.get(6)?),
        expires_at: time(row.get(7)?),
    })
}

fn all_files(sql: &Connection) -> Result<Vec<FileMeta>, rusqlite::Error> {
    sql.prepare(&format!("SELECT {COLUMNS} FROM files"))?
        .query_map([], meta_of)?
        .collect()
}

fn insert(sql: &Connection, meta: &FileMeta) -> Result<(), Fault> {
    sql.prepare_cached(&format!(
        "INSERT INTO files ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    ))
    .and_then(|mut statement| {
        statement.execute(params![
            meta.id,
            meta.organization.0,
            meta.purpose,
            meta.name,
            meta.media_type,
            meta.bytes,
            meta.created_at.micros(),
            meta.expires_at.micros(),
        ])
    })
    .map_err(doing("insert a file"))?;
    Ok(())
}

fn cost(bytes: u64) -> u64 {
    bytes.saturating_add(FILE_OVERHEAD_BYTES)
}

fn folder_of(database: &Path) -> PathBuf {
    database.with_file_name("files")
}

fn part_of(path: &Path) -> PathBuf {
    path.with_extension("part")
}

fn random() -> Result<[u8; 10], Fault> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|e| Fault::internal(format!("randomness: {e}")))?;
    Ok(random)
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let above = folder.parent().into_iter().flat_map(Path::ancestors);
    // The folder, the one that all organizations share, and what holds that one.
    above.take(2).try_for_each(sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

/// Clients' data, so that no other user can read it.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes what has no row: the rest of a crash.
fn remove_unknown(folder: &Path, known: &HashSet<Uuid>) -> io::Result<()> {
    let organizations = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        organizations => organizations?,
    };
    for organization in organizations {
        let organization = organization?.path();
        if !organization.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(organization)? {
            let file = file?;
            let id = file.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| known.contains(&id)) {
                std::fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

fn file_fault(what: &str, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::StorageFull {
        return full("the disk's bytes").with_context(format!("{what}: {error}"));
    }
    Fault::new(Kind::StorageUnavailable {
        retry_after: UNAVAILABLE_RETRY,
    })
    .with_context(format!("{what}: {error}"))
}
