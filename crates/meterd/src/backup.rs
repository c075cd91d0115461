//! `meterd backup` and `meterd restore`.

use crate::cli::{BackupOptions, RestoreOptions};
use crate::key::{Api, config_beside, ensure_stopped, said};
use crate::server::{
    Parts, control_path, control_settings, engine_path, ensure_restored, restoring_path,
};
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::{Context as _, bail};
use meterd_control::Control;
use meterd_engine::SystemDisk;
use meterd_http::Core;
use meterd_surface_native::App;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn backup(options: &BackupOptions) -> anyhow::Result<()> {
    let directory = absolute(&options.directory)?;
    let target = &options.target;
    let bar = progress_bar(0, "backing up", Unit::Stream);
    bar.enable_steady_tick(Duration::from_millis(100));
    let (measurements, bytes) = match (&target.server, &target.admin_key) {
        (Some(server), Some(admin_key)) => {
            let body = json!({"directory": directory});
            let made = Api::patient(server, admin_key).post("/v1/backups", &body)?;
            let count = |member: &str| made.get(member).and_then(Value::as_u64).unwrap_or(0);
            (count("measurements"), count("bytes"))
        }
        _ => {
            let made = of_stopped(&target.data, &directory)?;
            (made.measurements, made.bytes)
        }
    };
    bar.finish_and_clear();
    println!(
        "{}: {} measurements, {} bytes",
        directory.display(),
        grouped(measurements),
        grouped(bytes)
    );
    Ok(())
}

/// As the server wants it: from the root on, without `.` and `..`.
fn absolute(directory: &Path) -> anyhow::Result<PathBuf> {
    let mut whole = PathBuf::new();
    for part in std::path::absolute(directory)?.components() {
        match part {
            // What it stands behind may be a link, which goes up to another place.
            Component::ParentDir => {
                whole = whole.canonicalize().unwrap_or(whole);
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    Ok(whole)
}

fn of_stopped(data: &Path, directory: &Path) -> anyhow::Result<meterd_surface_native::Backup> {
    if !control_path(data).is_file() {
        bail!("{} is no data directory of meterd", data.display());
    }
    ensure_stopped(data)?;
    let parts = Parts::open(&config_beside(data))?;
    let app = App::new(Core::new(
        Arc::clone(&parts.control),
        Arc::clone(&parts.engine),
    ));
    let made = app.back_up(directory).map_err(said);
    parts.engine.close();
    made
}

pub(crate) fn restore(options: &RestoreOptions) -> anyhow::Result<()> {
    let from = &options.backup;
    let to = &std::path::absolute(&options.data)?;
    // The control database comes last into a backup.
    if !engine_path(from).is_dir() || !control_path(from).is_file() {
        bail!(
            "{} is no backup of meterd, or one that was interrupted",
            from.display()
        );
    }
    let verification = Control::verify_file(control_path(from), &control_settings())
        .context("verify the backup's control database")?;
    if let Some(problem) = verification.problems.first() {
        bail!("{} is damaged: {problem}", control_path(from).display());
    }
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    ensure_restored(to)?;
    if fs::read_dir(to)?.next().is_some() {
        bail!(
            "{} is not empty; a backup is restored to a new directory",
            to.display()
        );
    }
    // It comes first under another name, without which nothing would tell that the rest is missing.
    let draft = restoring_path(to);
    fs::copy(control_path(from), &draft)
        .and_then(|_| File::open(&draft)?.sync_all())
        .and_then(|()| File::open(to)?.sync_all())
        .with_context(|| format!("write {}", draft.display()))?;
    let bar = progress_bar(0, "restoring", Unit::Bytes);
    let (source, target) = (engine_path(from), engine_path(to));
    let report = meterd_engine::restore(&source, &target, &SystemDisk, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .with_context(|| format!("restore to {}", to.display()))?;
    // What is below is on the disk before its name is.
    File::open(to)?.sync_all()?;
    fs::rename(&draft, control_path(to))
        .with_context(|| format!("write {}", control_path(to).display()))?;
    for directory in to.ancestors().take(2) {
        File::open(directory)?.sync_all()?;
    }
    bar.finish_and_clear();
    println!(
        "{}: {} measurements, {} bytes in {} files, every checksum right",
        to.display(),
        grouped(report.measurements),
        grouped(report.bytes),
        report.files
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::absolute;
    use std::path::Path;

    #[test]
    fn a_directory_is_named_from_the_root_on() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("a/b")).unwrap();
        std::os::unix::fs::symlink(home.join("a/b"), home.join("link")).unwrap();
        for (given, named) in [("a/./c", "a/c"), ("x/../c", "c"), ("link/../c", "a/c")] {
            assert_eq!(absolute(&home.join(given)).unwrap(), home.join(named));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            absolute(Path::new("../c")).unwrap(),
            here.parent().unwrap().join("c")
        );
    }
}
