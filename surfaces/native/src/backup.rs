//! Backups of the whole server, while it runs.

use crate::access::BackupsWrite;
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use meterd_engine::MaintenanceError;
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::Fields;
use meterd_http::{AdminPermit, Body, Checked, Failure, LongWork, Reply, submit_fault};
use serde::Serialize;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
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
            && !directory.contains('\0')
            && !directory.split('/').any(|part| matches!(part, "." | ".."));
        if !is_usable {
            let text =
                "must be the absolute path of a directory on the server, without . or .. in it"
                    .into();
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
    let mut reply = Reply::ok(back_up_alone(&app, new.directory).await?);
    reply.status = StatusCode::CREATED;
    Ok(reply)
}

/// Makes a backup, unless one is being made.
async fn back_up_alone(app: &App, directory: PathBuf) -> Result<Backup, Fault> {
    let slot = app.backup_slot()?;
    app.blocking(move |app| {
        let _slot = slot;
        let backup = app.back_up(&directory)?;
        let Backup {
            directory,
            measurements,
            bytes,
        } = &backup;
        tracing::info!(directory, measurements, bytes, "backed up to {directory}");
        Ok(backup)
    })
    .await
}

impl App {
    /// Copies everything to a directory that is new or empty, outside of the data directory: what was acknowledged
    /// before the call, and maybe some of what came later. What a failed attempt made is removed again.
    pub fn back_up(&self, directory: &Path) -> Result<Backup, Fault> {
        let created: Vec<&Path> = (directory.ancestors())
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        if created.iter().any(|path| path.is_symlink()) {
            return Err(refused(directory, WRITABLE));
        }
        if self.is_inside_data(directory) {
            return Err(refused(directory, OUTSIDE));
        }
        let made = self.copy_to(directory, &created);
        if made.is_err() {
            for path in created {
                // Deepest first; one that somebody has written to meanwhile stays.
                let _ = fs::remove_dir(path);
            }
        }
        made
    }

    fn copy_to(&self, directory: &Path, created: &[&Path]) -> Result<Backup, Fault> {
        let failed = |what| move |error: io::Error| disk_fault(what, &error);
        let engine = directory.join("engine");
        let control = directory.join("control.sqlite");
        let unusable = |what| move |error: io::Error| directory_fault(directory, what, &error);
        let mut private = DirBuilder::new();
        private.mode(0o700);
        (private.recursive(true))
            .create(directory)
            .map_err(unusable("create the directory"))?;
        let mut entries = fs::read_dir(directory).map_err(unusable("list the directory"))?;
        if entries.next().is_some() {
            return Err(refused(directory, NEW));
        }
        // Of two backups that begin at the same time here, one makes this.
        (private.recursive(false))
            .create(&engine)
            .map_err(unusable("create a directory"))?;
        let copy = || {
            let report = self.engine.backup(&engine).map_err(maintenance_fault)?;
            // After the measurements, so that it has the meters of all of them: a meter that has some cannot be
            // deleted. What else it knows by then does no harm, as long as routes that take measurements keep no
            // answers under idempotency keys: those would outlive here what they tell of.
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

    /// Whether the directory is, or would be made, below the data directory: there it would end with what it is for.
    fn is_inside_data(&self, directory: &Path) -> bool {
        let data = self.control.path().parent().map(Path::canonicalize);
        let deepest = directory
            .ancestors()
            .find_map(|path| path.canonicalize().ok());
        matches!((data, deepest), (Some(Ok(data)), Some(deepest)) if deepest.starts_with(&data))
    }
}

/// A rule for directories: its code, and what they must be.
type DirectoryRule = (&'static str, &'static str);
const NEW: DirectoryRule = ("new_directory", "must be a directory that is new or empty");
const OUTSIDE: DirectoryRule = (
    "outside_data",
    "must lie outside of the server's data directory",
);
const WRITABLE: DirectoryRule = (
    "writable_directory",
    "must be a directory that the server can write to",
);

fn refused(directory: &Path, (code, text): DirectoryRule) -> Fault {
    let text = text.into();
    let rule = Rule::Other { code, text };
    let directory = directory.display().to_string();
    Fault::invalid(Problem::body("/directory", rule).with_value(&directory))
}

/// What the system says of the directory that was asked for: most of it stays so, however often it is asked again.
fn directory_fault(directory: &Path, what: &str, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => refused(directory, NEW),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::NotFound => refused(directory, WRITABLE)
            .with_context(format!("{what} {}: {error}", directory.display())),
        _ => disk_fault(what, error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_control::Control;
    use meterd_engine::testing::SimulatedDisk;
    use meterd_engine::{Engine, Settings};
    use meterd_http::Core;
    use std::sync::Arc;

    #[tokio::test]
    async fn one_backup_is_made_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        let settings = meterd_control::Settings::default();
        let control = Control::open(data.join("control.sqlite"), settings).unwrap();
        let disk = Arc::new(SimulatedDisk::new());
        let engine = Engine::open(Path::new("/engine"), Settings::default(), disk).unwrap();
        let app = App::new(Core::new(Arc::new(control), Arc::new(engine)));
        let directory = home.path().join("copies/first");
        let held = app.backup_slot().unwrap();
        let refused = back_up_alone(&app, directory.clone()).await.unwrap_err();
        assert!(matches!(*refused.kind, Kind::Overloaded { .. }));
        assert!(!home.path().join("copies").exists());
        drop(held);
        back_up_alone(&app, directory).await.unwrap();
        back_up_alone(&app, home.path().join("copies/second"))
            .await
            .unwrap();
    }
}
