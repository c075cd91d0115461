//! Backups of the whole server, while it runs.

use crate::app::App;
use crate::measurements::submit_fault;
use crate::permissions::BackupsWrite;
use axum::extract::State;
use axum::http::StatusCode;
use meterd_engine::MaintenanceError;
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::Fields;
use meterd_http::{AdminPermit, Body, Checked, Failure, Reply};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path of a directory, as systems have it.
const DIRECTORY_BYTES_MAX: usize = 4096;

/// Body of `POST /v1/backups`.
#[derive(Debug)]
pub(crate) struct NewBackup {
    directory: PathBuf,
}

impl Checked for NewBackup {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let directory = fields.required_string("directory")?;
        let is_usable = directory.starts_with('/')
            && directory.len() <= DIRECTORY_BYTES_MAX
            && !directory.contains('\0');
        if !is_usable {
            let text = "must be the absolute path of a directory on the server".into();
            let code = "absolute_path";
            fields.refuse("directory", Rule::Other { code, text });
            return None;
        }
        Some(Self {
            directory: directory.into(),
        })
    }
}

/// A backup that was made.
#[derive(Debug, Serialize)]
pub struct Backup {
    pub directory: String,
    /// Measurements that count.
    pub measurements: u64,
    /// Of the measurements' files and the control database.
    pub bytes: u64,
}

/// `POST /v1/backups`. A backup that was begun is finished, also when the client goes away.
pub(crate) async fn create_backup(
    State(app): State<App>,
    _permit: AdminPermit<BackupsWrite>,
    Body(new): Body<NewBackup>,
) -> Result<Reply<Backup>, Failure> {
    let backup = app
        .blocking(move |app| {
            let backup = app.back_up(&new.directory)?;
            let Backup {
                directory,
                measurements,
                bytes,
            } = &backup;
            tracing::info!(directory, measurements, bytes, "backed up to {directory}");
            Ok(backup)
        })
        .await?;
    let mut reply = Reply::ok(backup);
    reply.status = StatusCode::CREATED;
    Ok(reply)
}

impl App {
    /// Copies everything to a directory that is new or empty: what was acknowledged before the call, and maybe some
    /// of what came later. A failed attempt is removed again.
    pub fn back_up(&self, directory: &Path) -> Result<Backup, Fault> {
        let failed = |what| move |error: io::Error| disk_fault(what, &error);
        let engine = directory.join("engine");
        let control = directory.join("control.sqlite");
        let created: Vec<&Path> = (directory.ancestors())
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        fs::create_dir_all(directory).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => not_empty(directory),
            _ => disk_fault("create the directory", &error),
        })?;
        let mut entries = fs::read_dir(directory).map_err(failed("list the directory"))?;
        if entries.next().is_some() {
            return Err(not_empty(directory));
        }
        // Of two backups that begin at the same time here, one makes this.
        fs::create_dir(&engine).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => not_empty(directory),
            _ => disk_fault("create a directory", &error),
        })?;
        let copy = || {
            let report = self.engine.backup(&engine).map_err(maintenance_fault)?;
            // After the measurements, so that it has the meters of all of them.
            self.control.backup_to(&control)?;
            let size = fs::metadata(&control)
                .map_err(failed("look at the copy"))?
                .len();
            for parent in created.iter().filter_map(|path| path.parent()) {
                let synced = File::open(parent).and_then(|parent| parent.sync_all());
                synced.map_err(failed("sync a directory"))?;
            }
            Ok(Backup {
                directory: directory.display().to_string(),
                measurements: report.measurements,
                bytes: report.bytes + size,
            })
        };
        copy().inspect_err(|_| {
            // It may be what fills the disk.
            let _ = fs::remove_dir_all(&engine);
            let _ = fs::remove_file(&control);
        })
    }
}

fn not_empty(directory: &Path) -> Fault {
    let rule = Rule::Other {
        code: "new_directory",
        text: "must be a directory that is new or empty".into(),
    };
    let directory = directory.display().to_string();
    Fault::invalid(Problem::body("/directory", rule).with_value(&directory))
}

fn disk_fault(what: &str, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(),
        _ => unavailable(),
    };
    Fault::new(kind).with_context(format!("{what}: {error}"))
}

fn maintenance_fault(error: MaintenanceError) -> Fault {
    let kind = match &error {
        MaintenanceError::Refused(refused) => return submit_fault(*refused),
        _ if error.is_full() => full(),
        MaintenanceError::Io { .. } => unavailable(),
        MaintenanceError::Damaged(_) => return Fault::internal(error),
    };
    Fault::new(kind).with_context(format!("back up: {error}"))
}

fn full() -> Kind {
    Kind::StorageFull {
        retry_after: Duration::from_secs(30),
    }
}

fn unavailable() -> Kind {
    Kind::StorageUnavailable {
        retry_after: Duration::from_secs(5),
    }
}
