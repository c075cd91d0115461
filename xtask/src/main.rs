//! What is automated about the repository: `cargo xtask --help`.

mod child;
mod crash;
mod growth;
mod peers;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Parser)]
#[command(about = "Automation of the meterd repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write docs/ERRORS.md from the catalogue
    Docs {
        /// Only tell whether it is up to date
        #[arg(long)]
        check: bool,
    },
    /// Check that dependencies between the crates point one way
    Edges,
    /// Run the `OpenAPI` fuzzer against a built server (needs Python 3)
    Openapi,
    /// Start the demo from a release build and print what it needs: time, memory, size
    Footprint,
    /// Run m3ter's own Python SDK against a built server (needs Python 3)
    M3ter,
    /// Open the example page of the Wattwatchers API in headless Chromium, where there is one
    Browser,
    /// Open the demo's segments with `DuckDB` and pandas (needs Python 3)
    Parquet,
    /// Try the engine's crash points, a million unless told otherwise
    Crash(crash::Options),
    /// Compare with the peers that are installed: `ClickHouse`, `VictoriaMetrics`, `DuckDB`
    Peers(peers::Options),
    /// Write docs/growth.md and docs/growth.svg: figures by rows, subjects and meters
    Growth(growth::Options),
}

/// Who must not depend on whom. The first is looked for below the second.
const FORBIDDEN: [(&str, &str); 15] = [
    ("axum", "meterd-fault"),
    ("axum", "meterd-model"),
    ("axum", "meterd-engine"),
    ("axum", "meterd-control"),
    ("axum", "meterd-formula"),
    ("tokio", "meterd-engine"),
    ("tokio", "meterd-control"),
    ("rusqlite", "meterd-engine"),
    ("meterd-fault", "meterd-engine"),
    ("meterd-control", "meterd-engine"),
    ("meterd-engine", "meterd-control"),
    ("meterd-formula", "meterd-engine"),
    ("meterd-formula", "meterd-http"),
    ("meterd-surface-native", "meterd-http"),
    ("meterd-testkit", "meterd"),
];

/// None of which may depend on another.
const SURFACES: [&str; 6] = [
    "meterd-surface-fsm-navigator",
    "meterd-surface-m3ter",
    "meterd-surface-meter-web",
    "meterd-surface-native",
    "meterd-surface-t-iot-hub",
    "meterd-surface-wattwatchers",
];

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Docs { check } => docs(check),
        Task::Edges => edges(),
        Task::Openapi => openapi(),
        Task::Footprint => footprint(),
        Task::M3ter => m3ter(),
        Task::Browser => browser(),
        Task::Parquet => parquet(),
        Task::Crash(options) => crash::run(&options),
        Task::Peers(options) => peers::run(given_or_built(options.meterd.as_deref())?, &options),
        Task::Growth(options) => growth::run(&given_or_built(options.meterd.as_deref())?, &options),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the server and says where it is.
fn build(release: bool) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "meterd"]);
    if release {
        command.arg("--release");
    }
    if !command.status()?.success() {
        bail!("the server does not build");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target
        .join(if release { "release" } else { "debug" })
        .join("meterd"))
}

/// The binary to measure.
fn given_or_built(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(file) => Ok(file.canonicalize()?),
        None => build(true),
    }
}

fn docs(check: bool) -> anyhow::Result<()> {
    let output = Command::new(build(false)?)
        .args(["errors", "--format", "md"])
        .output()?;
    if !output.status.success() {
        bail!("meterd errors failed");
    }
    let path = root().join("docs/ERRORS.md");
    if !check {
        return std::fs::write(&path, output.stdout).context("write docs/ERRORS.md");
    }
    let current = std::fs::read(&path).context("read docs/ERRORS.md")?;
    if current != output.stdout {
        bail!("docs/ERRORS.md is stale; run: cargo xtask docs");
    }
    Ok(())
}

fn edges() -> anyhow::Result<()> {
    let mut found = Vec::new();
    let mut forbidden: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let among_surfaces = SURFACES
        .iter()
        .flat_map(|above| SURFACES.map(|below| (below, *above)));
    for (below, above) in FORBIDDEN.into_iter().chain(among_surfaces) {
        if below != above {
            forbidden.entry(above).or_default().push(below);
        }
    }
    for (above, all_below) in forbidden {
        let output = cargo()
            .args(["tree", "--locked", "--edges", "normal", "--prefix", "none"])
            .args(["--package", above, "--format", "{p}"])
            .output()?;
        if !output.status.success() {
            bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        }
        let tree = String::from_utf8_lossy(&output.stdout);
        let names: HashSet<_> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let hits = all_below.iter().filter(|below| names.contains(**below));
        found.extend(hits.map(|below| format!("{above} depends on {below}")));
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!("{}", found.join("\n"));
}

fn openapi() -> anyhow::Result<()> {
    let server = build(true)?;
    let status = Command::new("bash")
        .arg(root().join("compat/openapi/run"))
        .env("METERD_BIN", server)
        .status()?;
    if !status.success() {
        bail!("the OpenAPI fuzzer found something");
    }
    Ok(())
}

fn parquet() -> anyhow::Result<()> {
    let status = Command::new("bash")
        .arg(root().join("compat/parquet/run"))
        .env("METERD_BIN", build(true)?)
        .status()?;
    if !status.success() {
        bail!("the segments are not what the API says");
    }
    Ok(())
}

fn browser() -> anyhow::Result<()> {
    let status = Command::new("bash")
        .arg(root().join("compat/browser"))
        .env("METERD_BIN", build(true)?)
        .status()?;
    if !status.success() {
        bail!("the example page does not show what it should");
    }
    Ok(())
}

fn m3ter() -> anyhow::Result<()> {
    let status = Command::new("bash")
        .arg(root().join("compat/m3ter/run"))
        .env("METERD_BIN", build(true)?)
        .status()?;
    if !status.success() {
        bail!("m3ter's SDK found something");
    }
    Ok(())
}

fn footprint() -> anyhow::Result<()> {
    let server = build(true)?;
    let size = std::fs::metadata(&server)?.len();
    let status = Command::new("bash")
        .arg(root().join("compat/footprint"))
        .env("METERD_BIN", &server)
        .status()?;
    println!("stripped release binary: {size} bytes");
    if !status.success() {
        bail!("the footprint could not be measured");
    }
    Ok(())
}
