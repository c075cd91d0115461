//! Programs started for a while: bounded in time, and gone when their guard is.

use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until a check holds.
    pub(crate) fn wait_until(&mut self, mut check: impl FnMut() -> bool) -> anyhow::Result<()> {
        const WAIT_MAX: Duration = Duration::from_mins(1);
        let begin = Instant::now();
        while begin.elapsed() < WAIT_MAX {
            if check() {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("it was not ready within {WAIT_MAX:?}")
    }
}

/// A command that the kernel ends with us, where that can be had.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Runs a command and reads the one JSON object that it prints, which is short.
pub(crate) fn read_figures(command: &mut Command, limit: Duration) -> anyhow::Result<Figures> {
    let line = format!("{command:?}");
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = running.0.try_wait()? {
            break status;
        }
        if begin.elapsed() > limit {
            bail!("not done within {limit:?}: {line}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        bail!("{status}: {line}");
    }
    let mut text = String::new();
    if let Some(stdout) = &mut running.0.stdout {
        stdout.read_to_string(&mut text)?;
    }
    let figures = serde_json::from_str(&text).with_context(|| format!("{text:?} of {line}"))?;
    Ok(Figures(figures))
}

/// Figures by name, as `meterd bench --json` prints them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(serde_json::Map<String, serde_json::Value>);

impl Figures {
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<f64> {
        let value = self.0.get(name).and_then(serde_json::Value::as_f64);
        value.with_context(|| format!("no figure named {name}"))
    }

    pub(crate) fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Of each figure the better one: more per second, less of all else. How busy the machine was otherwise is no
    /// figure to be proud of: there the most counts.
    #[must_use]
    pub(crate) fn best(mut self, other: &Self) -> Self {
        for (name, value) in &mut self.0 {
            let (Some(ours), Some(theirs)) = (
                value.as_f64(),
                other.0.get(name).and_then(serde_json::Value::as_f64),
            ) else {
                continue;
            };
            let best = if name.ends_with("per_second") || name.ends_with("busy") {
                ours.max(theirs)
            } else {
                ours.min(theirs)
            };
            *value = best.into();
        }
        self
    }
}

/// A folder that is swept away when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("meterd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes of all files in it. Files that are swept away meanwhile do not count.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(&self.0)
    }
}

fn bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
