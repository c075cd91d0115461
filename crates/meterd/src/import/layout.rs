//! `meterd import --layout`: tables of energy records, which go the way of what devices send.

use super::{BATCH_BYTES, SHOWN_MAX, reader};
use crate::cli::ImportOptions;
use crate::config::Config;
use crate::key::{Api, Refused, said, text};
use crate::server::{Parts, control_path, now};
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::{Context as _, anyhow, bail};
use meterd_control::{Actor, Author};
use meterd_fault::Kind;
use meterd_http::Core;
use meterd_model::OrganizationId;
use meterd_surface_wattwatchers::{
    App, Layout, LayoutRow, Serial, Stream, WattwatchersSettings, import,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Most records sent at once, as many as a device may send.
const BATCH_RECORDS: usize = 2_000;
/// Most records that wait, of all devices.
const WAITING_MAX: usize = 50_000;

/// Returns whether every row was stored.
pub(super) fn run(options: &ImportOptions) -> anyhow::Result<bool> {
    let target = Target::of(options)?;
    let mut rejected = 0;
    for file in &options.files {
        let shown = file.display().to_string();
        let totals = import_file(file, &target).with_context(|| format!("import {shown}"))?;
        println!(
            "{shown}: {} accepted, {} replaced, {} rejected",
            grouped(totals.accepted),
            grouped(totals.replaced),
            grouped(totals.rejected)
        );
        rejected += totals.rejected;
    }
    Ok(rejected == 0)
}

/// Where records go.
enum Target {
    Server(Api),
    Data {
        app: App,
        account: OrganizationId,
        runtime: tokio::runtime::Runtime,
    },
}

impl Target {
    fn of(options: &ImportOptions) -> anyhow::Result<Self> {
        if let (Some(server), Some(key)) = (&options.server, &options.key) {
            return Ok(Self::Server(Api::new(server, key)));
        }
        let name = options.organization.as_deref().unwrap_or_default();
        if !control_path(&options.data).is_file() {
            bail!("{} is no data directory of meterd", options.data.display());
        }
        let parts = Parts::open(&Config {
            data: options.data.clone(),
            ..Config::default()
        })?;
        let store = parts.control.store();
        let account = store.organization_by_name(name).map_err(said)?;
        let core = Core::new(Arc::clone(&parts.control), Arc::clone(&parts.engine));
        Ok(Self::Data {
            account: account.organization_id(),
            app: App::new(core, WattwatchersSettings::default()),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
        })
    }

    /// The answer as a device gets it, `None` if the account has no such device.
    fn send(&self, serial: &Serial, body: &str) -> anyhow::Result<Option<Value>> {
        match self {
            Self::Server(api) => {
                let path = format!("/wattwatchers/ingest/v1/devices/{serial}/long-energy");
                match api.send(&path, "application/json", body.as_bytes()) {
                    Err(error) if is_not_found(&error) => Ok(None),
                    answer => answer.map(Some).map_err(refused),
                }
            }
            Self::Data {
                app,
                account,
                runtime,
            } => {
                let author = Author::new(Actor::Operator, now());
                let (stream, body) = (Stream::Long, body.as_bytes());
                let done = import(app, *account, serial, stream, body, &author);
                match runtime.block_on(done) {
                    Err(fault) if matches!(*fault.kind, Kind::ResourceNotFound { .. }) => Ok(None),
                    outcome => Ok(Some(serde_json::to_value(outcome.map_err(said)?)?)),
                }
            }
        }
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| text(&refused.problem, "code") == "NOT_FOUND")
}

/// In this API's words.
fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Refused>() {
        Some(refused) => anyhow!("{error}{}", text(&refused.problem, "message")),
        None => error,
    }
}

fn import_file(path: &Path, target: &Target) -> anyhow::Result<Totals> {
    let name = path.to_string_lossy().to_lowercase();
    let (plain, compressed) = match name.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (name.as_str(), false),
    };
    if plain.rsplit('.').next() != Some("csv") {
        bail!("the file's name must end in .csv or .csv.gz");
    }
    let file = File::open(path)?;
    let bar = progress_bar(file.metadata()?.len(), "importing", Unit::Bytes);
    let mut table = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(reader(file, compressed, &bar));
    let header = table.headers()?.clone();
    let names: Vec<&str> = header.iter().collect();
    let layout = Layout::of_header(&names);
    let layout = layout.context("the header has none of the layouts")?;
    let mut waiting = Waiting {
        target,
        devices: BTreeMap::new(),
        records: 0,
        totals: Totals::default(),
    };
    let mut record = csv::StringRecord::new();
    while table.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let cells: Vec<&str> = record.iter().collect();
        match layout.row(&cells) {
            Ok(row) => waiting.push(&row, line)?,
            Err(message) => waiting.totals.reject(line, &message),
        }
    }
    waiting.flush()?;
    bar.finish_and_clear();
    Ok(waiting.totals)
}

#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    replaced: u64,
    rejected: u64,
}

impl Totals {
    fn reject(&mut self, line: u64, message: &str) {
        self.rejected += 1;
        if self.rejected <= SHOWN_MAX {
            eprintln!("line {line}: {message}");
        } else if self.rejected == SHOWN_MAX + 1 {
            eprintln!("further bad rows are only counted");
        }
    }
}

/// Records on their way: tables go through all devices again and again, and each of them has its own batch.
struct Waiting<'a> {
    target: &'a Target,
    devices: BTreeMap<Serial, Batch>,
    records: usize,
    totals: Totals,
}

#[derive(Default)]
struct Batch {
    /// The records, separated by commas.
    json: String,
    /// The line of the file that each record is on.
    lines: Vec<u64>,
}

impl Waiting<'_> {
    fn push(&mut self, row: &LayoutRow, line: u64) -> anyhow::Result<()> {
        let batch = self.devices.entry(row.serial.clone()).or_default();
        if !batch.json.is_empty() {
            batch.json.push(',');
        }
        batch.json.push_str(&row.record);
        batch.lines.push(line);
        self.records += 1;
        let is_full = batch.lines.len() >= BATCH_RECORDS || batch.json.len() >= BATCH_BYTES / 2;
        if self.records >= WAITING_MAX {
            return self.flush();
        }
        if is_full && let Some(batch) = self.devices.remove(&row.serial) {
            self.send(&row.serial, &batch)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some((serial, batch)) = self.devices.pop_first() {
            self.send(&serial, &batch)?;
        }
        Ok(())
    }

    fn send(&mut self, serial: &Serial, batch: &Batch) -> anyhow::Result<()> {
        let first = batch.lines.first().copied().unwrap_or(0);
        let answer = (self.target.send(serial, &format!("[{}]", batch.json)))
            .with_context(|| format!("store records of {serial} from line {first} on"))?;
        self.records -= batch.lines.len();
        let Some(answer) = answer else {
            let message = format!("device {serial} could not be found");
            for line in &batch.lines {
                self.totals.reject(*line, &message);
            }
            return Ok(());
        };
        let count = |member: &str| answer.get(member).and_then(Value::as_u64).unwrap_or(0);
        self.totals.accepted += count("accepted");
        self.totals.replaced += count("replaced");
        for item in super::array(&answer, "rejected") {
            let index = item.get("index").and_then(Value::as_u64);
            let line = index.and_then(|index| batch.lines.get(usize::try_from(index).ok()?));
            let message = text(item, "message");
            self.totals.reject(line.copied().unwrap_or(0), message);
        }
        Ok(())
    }
}
