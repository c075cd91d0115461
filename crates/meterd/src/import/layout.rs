//! `meterd import --layout`: tables of energy records, which go the way of what devices send.

use super::{BATCH_BYTES, SHOWN_MAX, Target, extension_of, reader};
use crate::cli::ImportOptions;
use crate::key::{Refused, said, text};
use crate::server::now;
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::{Context as _, anyhow, bail};
use meterd_control::{Actor, Author};
use meterd_engine::OnConflict;
use meterd_fault::Kind;
use meterd_surface_wattwatchers::{
    App, Layout, LayoutRow, Serial, Stream, WattwatchersSettings, import,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Most records sent at once, as many as a device may send.
const BATCH_RECORDS: usize = 2_000;
/// Most records that wait, of all devices.
const WAITING_MAX: usize = 50_000;

/// Returns whether every row was stored, or left out for what is stored.
pub(super) fn run(options: &ImportOptions) -> anyhow::Result<bool> {
    let target = Target::of(options, |core| {
        App::new(core, WattwatchersSettings::default())
    })?;
    let on_conflict = if options.replace {
        OnConflict::Replace
    } else {
        OnConflict::Reject
    };
    let mut rejected = 0;
    for file in &options.files {
        let shown = file.display().to_string();
        let totals =
            import_file(file, &target, on_conflict).with_context(|| format!("import {shown}"))?;
        println!(
            "{shown}: {} accepted, {} replaced, {} kept as they were, {} rejected",
            grouped(totals.accepted),
            grouped(totals.replaced),
            grouped(totals.kept),
            grouped(totals.rejected)
        );
        rejected += totals.rejected;
    }
    Ok(rejected == 0)
}

/// What a device is answered, or why the account has no such device.
type Answer = Result<Value, String>;

impl Target<App> {
    fn send(
        &self,
        serial: &Serial,
        body: String,
        on_conflict: OnConflict,
    ) -> anyhow::Result<Answer> {
        match self {
            Self::Server(api) => {
                let word = match on_conflict {
                    OnConflict::Reject => "reject",
                    OnConflict::Replace => "replace",
                };
                let path = format!(
                    "/wattwatchers/ingest/v1/devices/{serial}/long-energy?on_conflict={word}"
                );
                match api.send(&path, "application/json", body.as_bytes()) {
                    Ok(answer) => Ok(Ok(answer)),
                    Err(error) => match about_device(&error, serial) {
                        Some(message) => Ok(Err(message)),
                        None => Err(refused(error)),
                    },
                }
            }
            Self::Data {
                app,
                organization,
                runtime,
            } => {
                let author = Author::new(Actor::Operator, now());
                let (stream, body) = (Stream::Long, body.into());
                let done = import(
                    app,
                    *organization,
                    serial,
                    stream,
                    body,
                    on_conflict,
                    &author,
                );
                match runtime.block_on(done) {
                    Err(fault) if matches!(*fault.kind, Kind::ResourceNotFound { .. }) => {
                        Ok(Err(format!("{serial} could not be found.")))
                    }
                    outcome => Ok(Ok(serde_json::to_value(outcome.map_err(said)?)?)),
                }
            }
        }
    }
}

/// The server's message, if it is that nobody has the device, or somebody else; what is said of the key names no device.
fn about_device(error: &anyhow::Error, serial: &Serial) -> Option<String> {
    let refused = error.downcast_ref::<Refused>()?;
    let message = text(&refused.problem, "message");
    let is_about_device = matches!(text(&refused.problem, "code"), "NOT_FOUND" | "FORBIDDEN")
        && message.contains(serial.as_str());
    is_about_device.then(|| message.to_owned())
}

/// In this API's words.
fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Refused>() {
        Some(refused) => anyhow!("{error}{}", text(&refused.problem, "message")),
        None => error,
    }
}

fn import_file(
    path: &Path,
    target: &Target<App>,
    on_conflict: OnConflict,
) -> anyhow::Result<Totals> {
    let (extension, compressed) = extension_of(path);
    if extension != "csv" {
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
        on_conflict,
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
    kept: u64,
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
    target: &'a Target<App>,
    on_conflict: OnConflict,
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
            self.send(&row.serial, batch)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some((serial, batch)) = self.devices.pop_first() {
            self.send(&serial, batch)?;
        }
        Ok(())
    }

    fn send(&mut self, serial: &Serial, batch: Batch) -> anyhow::Result<()> {
        let Batch { json, lines } = batch;
        let first = lines.first().copied().unwrap_or(0);
        let answer = (self
            .target
            .send(serial, format!("[{json}]"), self.on_conflict))
        .with_context(|| format!("store records of {serial} from line {first} on"))?;
        self.records -= lines.len();
        let answer = match answer {
            Ok(answer) => answer,
            Err(message) => {
                for line in lines {
                    self.totals.reject(line, &message);
                }
                return Ok(());
            }
        };
        let count = |member: &str| answer.get(member).and_then(Value::as_u64).unwrap_or(0);
        self.totals.accepted += count("accepted");
        self.totals.replaced += count("replaced");
        self.totals.kept += count("kept");
        for item in super::array(&answer, "rejected") {
            let index = item.get("index").and_then(Value::as_u64);
            let line = index.and_then(|index| lines.get(usize::try_from(index).ok()?));
            let message = text(item, "message");
            self.totals.reject(line.copied().unwrap_or(0), message);
        }
        Ok(())
    }
}
