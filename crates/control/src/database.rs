//! The database (`SQLite`): opening, migrations, one writer, some readers, and what its errors mean to a client.
//!
//! The writer is behind a lock, since the database has one writer anyway; readers have connections of their own, so
//! that a listing does not wait for a commit to reach the disk, nor a short look-up for a long listing. Numbers in the name of a migration are the schema's
//! version (`user_version`) after it.

use meterd_fault::{Fault, Kind};
use meterd_model::Timestamp;
use parking_lot::Mutex;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for the others of this process.
const WRITER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections to read with. Past that many reads at a time, the next one waits.
const READERS: usize = 4;
const STORAGE_FULL_RETRY: Duration = Duration::from_secs(30);
const STORAGE_UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);

const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001_control.sql"),
    include_str!("../migrations/0002_files.sql"),
    include_str!("../migrations/0003_event_members.sql"),
];

/// Why the control plane's database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another meterd")]
    InUse { path: PathBuf },
    #[error("create {path}: {source}")]
    Create {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("open {path}: {source}")]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "{path} was written by a newer meterd (schema {found}; this one knows up to {known}); use that version"
    )]
    NewerSchema {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "the {kind} {id} was written by a newer meterd (document schema {found}; this one knows up to {known})"
    )]
    NewerDocument {
        kind: &'static str,
        id: String,
        found: u32,
        known: u32,
    },
    #[error("read the {kind} {id}: {reason}")]
    Document {
        kind: String,
        id: String,
        reason: String,
    },
    #[error("two document types are registered as {0}")]
    DuplicateKind(&'static str),
    #[error("no randomness from the operating system: {0}")]
    Randomness(getrandom::Error),
}

#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Vec<Mutex<Connection>>,
    /// Which reader is asked first, in turn.
    next_reader: AtomicUsize,
    /// Locked as long as it is open.
    _lock: File,
}

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let named = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let lock = lock(path)?;
        create_private(path).map_err(|source| OpenError::Create {
            path: path.to_owned(),
            source,
        })?;
        let mut writer = Connection::open(path).map_err(named)?;
        configure(&writer).map_err(named)?;
        migrate(&mut writer, path)?;
        let readers = (0..READERS)
            .map(|_| open_reader(path).map(Mutex::new))
            .collect::<Result<_, _>>()
            .map_err(named)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers,
            next_reader: AtomicUsize::new(0),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One transaction; nothing of it stays if `work` fails.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.write_then(work, |done| done)
    }

    /// One transaction, and `then` after its commit but before any other writer: the place to bring memory up to date.
    pub(crate) fn write_then<T, U>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
        then: impl FnOnce(T) -> U,
    ) -> Result<U, Fault> {
        // A write inside of a write waits for itself; a bound turns that mistake into a fault.
        let mut writer = self.writer.try_lock_for(WRITER_TIMEOUT).ok_or_else(|| {
            Fault::new(Kind::StorageUnavailable {
                retry_after: STORAGE_UNAVAILABLE_RETRY,
            })
            .with_context("wait for the writer: another write takes too long")
        })?;
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| fault("begin a transaction", &e))?;
        let done = work(&transaction)?;
        transaction.commit().map_err(|e| fault("commit", &e))?;
        Ok(then(done))
    }

    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let start = self.next_reader.fetch_add(1, Ordering::Relaxed) % READERS;
        let (before, from) = self.readers.split_at(start);
        let free = from.iter().chain(before).find_map(Mutex::try_lock);
        if let Some(reader) = free {
            return work(&reader);
        }
        match from.first() {
            Some(reader) => work(&reader.lock()),
            None => Err(Fault::internal("there are no readers")),
        }
    }

    /// Copies the database while it is in use. The target is replaced at the end, in one step; if the copy fails, it
    /// stays as it was.
    pub(crate) fn backup_to(&self, target: &Path) -> Result<(), Fault> {
        let mut part = target.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // What a copy that was cut off left behind must not be taken for a part of this one.
        let _ = std::fs::remove_file(&part);
        // The database takes the name as text; a name that is none would be another file's.
        let name = part
            .to_str()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidFilename, "not UTF-8"))
            .map_err(|e| move_fault(target, &e))?;
        let copied = create_private(&part)
            .map_err(|e| move_fault(target, &e))
            .and_then(|()| self.copy_to(name).map_err(|e| fault("back up", &e)))
            .and_then(|()| replace_file(&part, target));
        if copied.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        copied
    }

    fn copy_to(&self, target: &str) -> Result<(), rusqlite::Error> {
        // Its own connection, so that neither readers nor writers wait for the copy; and one statement, so that it is
        // one snapshot which no write makes it begin again. An empty file is written to like a new one.
        let source = Connection::open(&self.path)?;
        configure(&source)?;
        source.execute("VACUUM INTO ?1", [target])?;
        // The copy stays one file, whatever the journal of the original.
        Connection::open(target)?.pragma_update(None, "journal_mode", "DELETE")
    }

    /// Work on the writer outside of a transaction, while opening.
    pub(crate) fn on_writer<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, OpenError> {
        work(&mut self.writer.lock()).map_err(|source| OpenError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.writer
            .lock()
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
    }
}

/// Moves a finished copy to its name and waits until both are on the disk.
fn replace_file(part: &Path, target: &Path) -> Result<(), Fault> {
    let moved = File::open(part)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(part, target))
        .and_then(|()| {
            let folder = target.parent().filter(|path| !path.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
    moved.map_err(|error| move_fault(target, &error))
}

fn move_fault(target: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Kind::StorageUnavailable {
        retry_after: STORAGE_UNAVAILABLE_RETRY,
    })
    .with_context(format!("write the backup {}: {error}", target.display()))
}

/// Only one process may have the database open, since each holds all resources in memory. The lock is a file beside
/// it, because closing any handle of the database's own file would end the locks that the database takes.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |source| OpenError::Create {
        path: name.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The database holds the key that signs tokens, so that nobody else may read it. The files that it keeps beside
/// itself get the same mode.
fn create_private(path: &Path) -> Result<(), std::io::Error> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Some documents hold what is secret for a while; when they change, nothing of it is to stay behind.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let reader = Connection::open(path)?;
    configure(&reader)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(reader)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let named = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let known = known_schema();
    // The version is read inside the transaction, so that two processes cannot both migrate.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(named)?;
    let found: u32 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(named)?;
    if found > known {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (version, migration) in (1_u32..).zip(MIGRATIONS) {
        if version > found {
            transaction.execute_batch(migration).map_err(named)?;
            transaction
                .pragma_update(None, "user_version", version)
                .map_err(named)?;
        }
    }
    transaction.commit().map_err(named)
}

/// What a database error means to the client. `doing` is a verb phrase for the log.
pub(crate) fn fault(doing: &str, error: &rusqlite::Error) -> Fault {
    let context = format!("{doing}: {error}");
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::new(Kind::StorageFull {
            retry_after: STORAGE_FULL_RETRY,
        })
        .with_context(context),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory,
        ) => Fault::new(Kind::StorageUnavailable {
            retry_after: STORAGE_UNAVAILABLE_RETRY,
        })
        .with_context(context),
        _ => Fault::internal(context),
    }
}

/// For `map_err`: [`fault`] with its verb phrase given.
pub(crate) fn doing(what: &'static str) -> impl Fn(rusqlite::Error) -> Fault {
    move |error| fault(what, &error)
}

/// A past its bound: nothing more fits, as on a full disk.
pub(crate) fn full(what: &str) -> Fault {
    Fault::new(Kind::StorageFull {
        retry_after: STORAGE_FULL_RETRY,
    })
    .with_context(format!("{what} are at their bound"))
}

/// A stored time; one out of range could only come from a damaged database and is held at the edge.
pub(crate) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// A server key by name, made by `make` the first time.
pub(crate) fn server_key(
    database: &Database,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, OpenError>,
) -> Result<Vec<u8>, OpenError> {
    let stored: Option<Vec<u8>> = database.on_writer(|sql| {
        sql.query_row(
            "SELECT value FROM server_keys WHERE name = ?1",
            [name],
            |row| row.get(0),
        )
        .optional()
    })?;
    if let Some(value) = stored {
        return Ok(value);
    }
    let value = make()?;
    database.on_writer(|sql| {
        sql.execute(
            "INSERT INTO server_keys (name, value) VALUES (?1, ?2)",
            (name, &value),
        )
    })?;
    Ok(value)
}

/// A database that is only looked at: nothing of it is written, migrated or kept in memory.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    pub(crate) connection: Connection,
    /// Held as long as it is open, if a server has ever made one.
    _lock: Option<File>,
}

impl ReadOnly {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let lock = if beside(".lock").exists() {
            Some(lock(path)?)
        } else {
            None
        };
        let has_log = std::fs::metadata(beside("-wal")).is_ok_and(|log| log.len() > 0);
        let named = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        // What a crash left in the log counts, and reading it needs the files beside the database; without a log the
        // database is read as it lies there, and no file is made.
        let connection = if has_log {
            Connection::open_with_flags(path, flags)
        } else {
            Connection::open_with_flags(immutable_uri(path), flags)
        };
        let connection = connection.map_err(named)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(named)?;
        Ok(Self {
            connection,
            _lock: lock,
        })
    }

    /// The schema's version; 0 if nothing was ever written.
    pub(crate) fn schema(&self) -> Result<u32, rusqlite::Error> {
        self.connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
    }
}

/// The newest schema that this meterd knows.
pub(crate) fn known_schema() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// The file's name as a URI that promises that nobody changes the file.
fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~') {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// Whether the error tells of a damaged file, rather than of one that could not be read this time.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        // A value that has not the type it was written with.
        None => true,
    }
}

/// What the database finds wrong with itself.
pub(crate) fn integrity(sql: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut problems: Vec<String> = sql
        .prepare("PRAGMA integrity_check(100)")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    problems.retain(|problem| problem != "ok");
    let orphans = sql.prepare("PRAGMA foreign_key_check")?.exists([])?;
    if orphans {
        problems.push("a key row names a resource that does not exist".to_owned());
    }
    Ok(problems)
}
