//! `VictoriaMetrics`: a server of its own below a temporary folder, fed with line protocol. No ids, no sync.

use super::{Bench, Loaded, ask, find, free_address};
use crate::child::{self, Figures, Folder, Running};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Debug)]
pub(super) struct VictoriaMetrics {
    program: PathBuf,
}

impl VictoriaMetrics {
    pub(super) fn find() -> Option<Self> {
        let program = find(&["victoria-metrics", "victoria-metrics-prod"])?;
        Some(Self { program })
    }

    pub(super) fn version(&self) -> String {
        let output = Command::new(&self.program).arg("-version").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if text.is_empty() {
            "found, tells no version".to_owned()
        } else {
            text
        }
    }

    pub(super) fn ingest(&self, bench: &Bench) -> anyhow::Result<Figures> {
        let folder = Folder::create("peers-victoria")?;
        let address = free_address()?;
        let mut command = child::command(&self.program);
        command
            .arg(format!("-storageDataPath={}", folder.path().display()))
            .arg(format!("-httpListenAddr={address}"))
            // Without it, rows older than a month are dropped in silence.
            .arg("-retentionPeriod=100y")
            .arg("-loggerLevel=ERROR")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let mut process = Running::start(&mut command)?;
        process.wait_until(|| ask(address, "/health", "").is_ok())?;
        let mut figures = bench.load(&Loaded {
            url: format!("http://{address}/write"),
            format: "victoria",
            process: &process,
        })?;
        check_count(&ask(address, "/metrics", "")?, bench.rows)?;
        // Until then, the newest samples are in memory only.
        ask(address, "/internal/force_flush", "")?;
        bench.set_disk_bytes(&mut figures, folder.bytes());
        Ok(figures)
    }
}

/// Fails unless as many rows were added as were sent: rows that are too old, for one, are dropped without an error.
fn check_count(metrics: &str, rows: u32) -> anyhow::Result<()> {
    let added = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vm_rows_inserted_total{type=\"influx\"} "));
    let samples = u64::from(rows) * 2;
    if added.and_then(|text| text.trim().parse::<u64>().ok()) != Some(samples) {
        anyhow::bail!("VictoriaMetrics took {added:?} samples of {samples}");
    }
    let dropped: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("vm_rows_ignored_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    if dropped > 0.0 {
        anyhow::bail!("VictoriaMetrics dropped {dropped} samples");
    }
    Ok(())
}
