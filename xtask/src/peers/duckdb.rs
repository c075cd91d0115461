//! `DuckDB`, in its own process, over the segments that meterd wrote.

use super::{Bench, FROM, TO, WORK_MAX};
use crate::child::{self, Figures};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub(super) struct DuckDb {
    python: PathBuf,
    version: String,
}

impl DuckDb {
    pub(super) fn find(python: Option<&Path>) -> Option<Self> {
        let python = python.unwrap_or_else(|| Path::new("python3")).to_owned();
        let output = Command::new(&python)
            .args(["-c", "import duckdb; print(duckdb.__version__)"])
            .output()
            .ok()?;
        output.status.success().then(|| Self {
            python,
            version: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        })
    }

    pub(super) fn version(&self) -> String {
        self.version.clone()
    }

    /// Nothing where meterd has sealed nothing.
    pub(super) fn query(&self, folder: &Path, bench: &Bench) -> anyhow::Result<Option<Figures>> {
        let segments = folder.join("data/engine/segments");
        if !holds_parquet(&segments) {
            println!(
                "- DuckDB: not asked, there are no segments below {}",
                segments.display()
            );
            return Ok(None);
        }
        let mut command = child::command(&self.python);
        command
            .arg(crate::root().join("compat/peers/duckdb_query.py"))
            .arg(segments.join("**/*.parquet"))
            .args([FROM, TO, &bench.questions.to_string()]);
        child::read_figures(&mut command, WORK_MAX).map(Some)
    }
}

fn holds_parquet(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        path.extension()
            .is_some_and(|extension| extension == "parquet")
            || holds_parquet(&path)
    })
}
