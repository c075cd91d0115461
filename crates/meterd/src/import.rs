//! `meterd import`: measurements from CSV, NDJSON or Parquet files, to a running server or into a data directory.
//!
//! Both ways send the same NDJSON batches through the same checks, and sending a file twice changes nothing.

mod layout;
mod parquet;

use crate::cli::ImportOptions;
use crate::key::{Api, Refused, config_beside, said, text};
use crate::server::{Parts, control_path, now};
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::{Context as _, anyhow, bail};
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use meterd_engine::OnConflict;
use meterd_fault::{Fault, Kind, Location};
use meterd_http::Core;
use meterd_model::OrganizationId;
use meterd_surface_native::{App, BatchForm, OnError, SentBatch};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// Rows sent at once.
const BATCH_ROWS: usize = 5_000;
/// Bytes sent at once, below the server's bound on a body.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Longest row of a file.
const ROW_BYTES_MAX: u64 = 1024 * 1024;
/// Bad rows that are printed; the count goes on.
const SHOWN_MAX: u64 = 20;
/// Bad rows of a refused batch that are printed.
const REFUSED_SHOWN_MAX: usize = 5;
/// The catalogue's code of a body that is no JSON.
const BODY_MALFORMED: &str = "body_malformed";

/// Returns whether every row was stored or known already (and so may have been dropped by its meter's retention).
pub(crate) fn run(options: &ImportOptions) -> anyhow::Result<bool> {
    if options.layout.is_some() {
        return layout::run(options);
    }
    let target = Target::of(options, App::new)?;
    let mut total = Totals::default();
    for file in &options.files {
        let shown = file.display().to_string();
        let totals =
            import_file(file, options, &target).with_context(|| format!("import {shown}"))?;
        println!(
            "{shown}: {} accepted, {} duplicate, {} conflict, {} rejected",
            grouped(totals.accepted),
            grouped(totals.duplicate),
            grouped(totals.conflict),
            grouped(totals.rejected)
        );
        total.add(&totals);
    }
    Ok(total.conflict == 0 && total.rejected == 0)
}

#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    duplicate: u64,
    conflict: u64,
    rejected: u64,
    shown: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.rejected += other.rejected;
    }

    /// Adds an answer; `lines` tells which line of the file each row is.
    fn note(&mut self, answer: &Value, lines: &[u64]) {
        let count = |member: &str| answer.get(member).and_then(Value::as_u64).unwrap_or(0);
        self.accepted += count("accepted");
        self.duplicate += count("duplicate");
        self.conflict += count("conflict");
        self.rejected += count("rejected");
        for item in array(answer, "items") {
            let index = item.get("index").and_then(Value::as_u64);
            let line = index.and_then(|index| lines.get(usize::try_from(index).ok()?));
            if let (Some(fault), Some(index), Some(line)) = (item.get("fault"), index, line)
                && !fault.is_null()
            {
                self.show(*line, index, fault);
            }
        }
    }

    fn show(&mut self, line: u64, index: u64, fault: &Value) {
        self.shown += 1;
        if self.shown > SHOWN_MAX {
            if self.shown == SHOWN_MAX + 1 {
                eprintln!("further bad rows are only counted");
            }
            return;
        }
        let messages: Vec<_> = array(fault, "errors")
            .map(|error| about_row(text(error, "message"), index))
            .collect();
        if messages.is_empty() {
            eprintln!("line {line}: {}", text(fault, "detail"));
        } else {
            eprintln!("line {line}: {}", messages.join(" "));
        }
    }
}

fn array<'a>(json: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    json.get(member)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// A message about a row of a batch, without the row's place in the batch: a reader knows the file only.
fn about_row(message: &str, index: u64) -> String {
    let message = message
        .strip_prefix(&format!("[{index}]"))
        .unwrap_or(message);
    message
        .trim_start_matches('.')
        .trim_start()
        .replace(&format!(" at line {}, ", index + 1), " at ")
}

/// Where measurements go: to a surface of a server, or what that surface works with.
enum Target<A> {
    Server(Api),
    Data {
        app: A,
        organization: OrganizationId,
        runtime: tokio::runtime::Runtime,
    },
}

impl<A> Target<A> {
    fn of(options: &ImportOptions, app: impl FnOnce(Core) -> A) -> anyhow::Result<Self> {
        if let (Some(server), Some(key)) = (&options.server, &options.key) {
            return Ok(Self::Server(Api::new(server, key)));
        }
        let name = options.organization.as_deref().unwrap_or_default();
        if !control_path(&options.data).is_file() {
            bail!("{} is no data directory of meterd", options.data.display());
        }
        let parts = Parts::open(&config_beside(&options.data))?;
        let found = parts
            .control
            .store()
            .organization_by_name(name)
            .map_err(said)?;
        Ok(Self::Data {
            organization: found.organization_id(),
            app: app(Core::new(
                Arc::clone(&parts.control),
                Arc::clone(&parts.engine),
            )),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
        })
    }
}

impl Target<App> {
    /// Sends one batch of NDJSON and returns the answer as `POST /v1/measurements` words it.
    fn send(&self, bytes: &[u8], on_error: OnError) -> Result<Value, Refusal> {
        match self {
            Self::Server(api) => {
                let path = match on_error {
                    OnError::Abort => "/v1/measurements",
                    OnError::Skip => "/v1/measurements?on_error=skip",
                };
                api.send(path, "application/x-ndjson", bytes)
                    .map_err(|error| Refusal::by_server(&error))
            }
            Self::Data {
                app,
                organization,
                runtime,
            } => {
                let batch = SentBatch {
                    organization: *organization,
                    received: now(),
                    bytes: axum::body::Bytes::copy_from_slice(bytes),
                    form: BatchForm::Lines,
                    on_error,
                    on_conflict: OnConflict::Reject,
                };
                let answer = runtime
                    .block_on(meterd_surface_native::ingest(app, batch))
                    .map_err(|fault| Refusal::of_fault(&fault))?;
                serde_json::to_value(answer).map_err(|error| Refusal {
                    words: error.to_string(),
                    ..Refusal::default()
                })
            }
        }
    }
}

/// Why a batch was refused as a whole.
#[derive(Debug, Default)]
struct Refusal {
    words: String,
    /// Of the catalogue, where the refusal is a fault.
    code: String,
    /// Index of a row in the batch, and what is wrong with it.
    rows: Vec<(u64, String)>,
}

impl Refusal {
    fn of_fault(fault: &Fault) -> Self {
        let problems = match &*fault.kind {
            Kind::Invalid { problems } => problems.as_slice(),
            _ => &[],
        };
        Self {
            words: fault.kind.to_string(),
            code: fault.entry().code.to_owned(),
            rows: problems
                .iter()
                .filter_map(|problem| match &problem.location {
                    Location::Body(pointer) => Some((row_index(pointer)?, problem.message())),
                    _ => None,
                })
                .collect(),
        }
    }

    fn by_server(error: &anyhow::Error) -> Self {
        let problem = error
            .downcast_ref()
            .map(|refused: &Refused| &refused.problem);
        let problem = problem.unwrap_or(&Value::Null);
        Self {
            words: format!("{error:#}"),
            code: text(problem, "code").to_owned(),
            rows: array(problem, "errors")
                .filter_map(|error| {
                    let index = row_index(text(error, "pointer"))?;
                    Some((index, text(error, "message").to_owned()))
                })
                .collect(),
        }
    }

    /// With the file's own line numbers.
    fn into_error(mut self, bytes: &[u8], lines: &[u64]) -> anyhow::Error {
        if self.code == BODY_MALFORMED
            && let Some(index) = first_broken(bytes)
        {
            self.rows = vec![(index, "is not JSON".to_owned())];
        }
        let line_of = |index: u64| lines.get(usize::try_from(index).ok()?);
        let bad: Vec<_> = self
            .rows
            .iter()
            .filter_map(|(index, message)| {
                let message = about_row(message, *index);
                Some(format!("\n  line {}: {message}", line_of(*index)?))
            })
            .take(REFUSED_SHOWN_MAX)
            .collect();
        let first = lines.first().copied().unwrap_or(0);
        if bad.is_empty() {
            return anyhow!("nothing from line {first} on was stored: {}", self.words);
        }
        anyhow!(
            "nothing from line {first} on was stored (--skip-errors stores the good rows):{}",
            bad.concat()
        )
    }
}

/// First member of a JSON Pointer: the row in a batch of NDJSON.
fn row_index(pointer: &str) -> Option<u64> {
    pointer.split('/').nth(1)?.parse().ok()
}

/// A refused body says its line in words only; so look for it.
fn first_broken(bytes: &[u8]) -> Option<u64> {
    let broken = bytes
        .split(|byte| *byte == b'\n')
        .position(|line| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err())?;
    u64::try_from(broken).ok()
}

fn import_file(
    path: &Path,
    options: &ImportOptions,
    target: &Target<App>,
) -> anyhow::Result<Totals> {
    let (extension, compressed) = extension_of(path);
    let file = File::open(path)?;
    let on_error = if options.skip_errors {
        OnError::Skip
    } else {
        OnError::Abort
    };
    let mut batches = Batches {
        target,
        on_error,
        bytes: Vec::new(),
        lines: Vec::new(),
        totals: Totals::default(),
    };
    let bar = match extension.as_str() {
        "parquet" if !compressed => progress_bar(0, "importing", Unit::Rows),
        _ => progress_bar(file.metadata()?.len(), "importing", Unit::Bytes),
    };
    match extension.as_str() {
        "parquet" if !compressed => parquet::read(file, options, &mut batches, &bar)?,
        "csv" => read_csv(reader(file, compressed, &bar), options, &mut batches)?,
        "ndjson" | "jsonl" => {
            read_lines(reader(file, compressed, &bar), options, &mut batches)?;
        }
        _ => bail!(
            "the file's name must end in .parquet, or in .csv, .ndjson or .jsonl, with or without .gz"
        ),
    }
    batches.flush()?;
    bar.finish_and_clear();
    Ok(batches.totals)
}

/// How a file's name ends, but for the ending that tells that it is compressed; and whether it is.
fn extension_of(path: &Path) -> (String, bool) {
    let name = path.to_string_lossy().to_lowercase();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let extension = plain.rsplit('.').next().unwrap_or_default();
    (extension.to_owned(), plain.len() < name.len())
}

fn reader(file: File, compressed: bool, bar: &ProgressBar) -> Box<dyn Read> {
    let counted = bar.wrap_read(file);
    if compressed {
        Box::new(MultiGzDecoder::new(counted))
    } else {
        Box::new(counted)
    }
}

/// Rows on their way.
struct Batches<'a> {
    target: &'a Target<App>,
    on_error: OnError,
    bytes: Vec<u8>,
    /// The line of the file that each row begins at.
    lines: Vec<u64>,
    totals: Totals,
}

impl Batches<'_> {
    /// Adds a row of JSON that begins at a line of the file.
    fn push(&mut self, row: &[u8], line: u64) -> anyhow::Result<()> {
        if self.lines.len() == BATCH_ROWS || self.bytes.len() + row.len() > BATCH_BYTES {
            self.flush()?;
        }
        self.bytes.extend_from_slice(row);
        self.bytes.push(b'\n');
        self.lines.push(line);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let answer = self
            .target
            .send(&self.bytes, self.on_error)
            .map_err(|refusal| refusal.into_error(&self.bytes, &self.lines))?;
        self.totals.note(&answer, &self.lines);
        self.bytes.clear();
        self.lines.clear();
        Ok(())
    }
}

fn read_lines(
    reader: Box<dyn Read>,
    options: &ImportOptions,
    batches: &mut Batches<'_>,
) -> anyhow::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut row = Vec::new();
    for line in 1.. {
        row.clear();
        let read = (&mut reader)
            .take(ROW_BYTES_MAX + 1)
            .read_until(b'\n', &mut row)?;
        if read == 0 {
            break;
        }
        if read as u64 > ROW_BYTES_MAX {
            bail!("line {line} is longer than {ROW_BYTES_MAX} bytes");
        }
        let text = row.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match with_defaults(text, options) {
            Some(completed) => batches.push(completed.as_bytes(), line)?,
            None => batches.push(text, line)?,
        }
    }
    Ok(())
}

/// The line with the command line's meter and subject where it has none; none if there is nothing to add.
fn with_defaults(line: &[u8], options: &ImportOptions) -> Option<String> {
    if options.meter.is_none() && options.subject.is_none() {
        return None;
    }
    // Numbers must keep their text, so members are spliced in rather than the line parsed and written again.
    let probe: Value = serde_json::from_slice(line).ok()?;
    let mut added = Map::new();
    for (name, value) in [("meter", &options.meter), ("subject", &options.subject)] {
        if let (Some(value), None) = (value, probe.get(name)) {
            added.insert(name.to_owned(), value.clone().into());
        }
    }
    if added.is_empty() || !probe.is_object() {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?.strip_prefix('{')?;
    let head = Value::Object(added).to_string();
    let comma = if probe.as_object().is_some_and(Map::is_empty) {
        ""
    } else {
        ","
    };
    Some(format!("{}{comma}{text}", head.strip_suffix('}')?))
}

/// What a column means.
enum Column {
    Id,
    Meter,
    Subject,
    Time,
    EndTime,
    Value(String),
    Attribute(String),
    Ignored,
}

/// How a kind of file names the columns of fields: the prefixes of their names.
struct Naming {
    value: &'static str,
    attribute: &'static str,
}

const CSV: Naming = Naming {
    value: "values.",
    attribute: "attributes.",
};
/// As segments have them.
const PARQUET: Naming = Naming {
    value: "value_",
    attribute: "attribute_",
};

fn read_csv(
    reader: Box<dyn Read>,
    options: &ImportOptions,
    batches: &mut Batches<'_>,
) -> anyhow::Result<()> {
    let mut reader = csv::ReaderBuilder::new().from_reader(reader);
    let header = reader.headers()?.clone();
    let names: Vec<&str> = header.iter().collect();
    let columns = columns_of(&names, &CSV, options)?;
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        // Empty cells are absent.
        let cells = (record.iter().zip(&columns))
            .filter(|(cell, _)| !cell.is_empty())
            .map(|(cell, column)| (Cow::Borrowed(unquoted(cell.trim(), column)), column));
        let row = row_of(cells, options).to_string();
        batches.push(row.as_bytes(), line)?;
    }
    Ok(())
}

/// An attribute in quotes, which tell an empty text from none, without them.
fn unquoted<'a>(cell: &'a str, column: &Column) -> &'a str {
    let quoted = cell
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match (column, quoted) {
        (Column::Attribute(_), Some(text)) => text,
        _ => cell,
    }
}

fn columns_of(
    header: &[&str],
    naming: &Naming,
    options: &ImportOptions,
) -> anyhow::Result<Vec<Column>> {
    let mapped = |pairs: &[String]| -> anyhow::Result<Vec<(String, String)>> {
        pairs
            .iter()
            .map(|pair| {
                let (field, column) = pair
                    .split_once('=')
                    .ok_or_else(|| anyhow!("{pair:?} is not FIELD=COLUMN"))?;
                if header.contains(&column) {
                    Ok((column.to_owned(), field.to_owned()))
                } else {
                    Err(anyhow!("the file has no column {column:?}"))
                }
            })
            .collect()
    };
    let values = mapped(&options.value_columns)?;
    let attributes = mapped(&options.attribute_columns)?;
    let named = |pairs: &[(String, String)], name: &str| {
        pairs
            .iter()
            .find(|(column, _)| column == name)
            .map(|(_, field)| field.clone())
    };
    let columns: Vec<_> = header
        .iter()
        .map(|&name| {
            if let Some(field) = named(&values, name) {
                return Column::Value(field);
            }
            if let Some(field) = named(&attributes, name) {
                return Column::Attribute(field);
            }
            if name == options.time_column {
                return Column::Time;
            }
            match name {
                "id" => Column::Id,
                "meter" => Column::Meter,
                "subject" => Column::Subject,
                "end_time" => Column::EndTime,
                name => {
                    if let Some(field) = name.strip_prefix(naming.value) {
                        Column::Value(field.to_owned())
                    } else if let Some(field) = name.strip_prefix(naming.attribute) {
                        Column::Attribute(field.to_owned())
                    } else {
                        Column::Ignored
                    }
                }
            }
        })
        .collect();
    if !columns.iter().any(|column| matches!(column, Column::Time)) {
        bail!(
            "the file has no column {:?}; name it with --time-column",
            options.time_column
        );
    }
    Ok(columns)
}

/// One row as a measurement, of the cells that are there. Numbers stay text, so that no digit is lost.
fn row_of<'a>(
    cells: impl IntoIterator<Item = (Cow<'a, str>, &'a Column)>,
    options: &ImportOptions,
) -> Value {
    let mut row = Map::new();
    let mut values = Map::new();
    let mut attributes = Map::new();
    for (cell, column) in cells {
        let cell = Value::from(cell);
        match column {
            Column::Id => drop(row.insert("id".into(), cell)),
            Column::Meter => drop(row.insert("meter".into(), cell)),
            Column::Subject => drop(row.insert("subject".into(), cell)),
            Column::Time => drop(row.insert("time".into(), cell)),
            Column::EndTime => drop(row.insert("end_time".into(), cell)),
            Column::Value(field) => drop(values.insert(field.clone(), cell)),
            Column::Attribute(field) => drop(attributes.insert(field.clone(), cell)),
            Column::Ignored => {}
        }
    }
    for (name, default) in [("meter", &options.meter), ("subject", &options.subject)] {
        if let (Some(default), false) = (default, row.contains_key(name)) {
            row.insert(name.into(), default.clone().into());
        }
    }
    if !row.contains_key("id") {
        let part = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or("");
        let id = format!("{}/{}/{}", part("meter"), part("subject"), part("time"));
        row.insert("id".into(), id.into());
    }
    row.insert("values".into(), values.into());
    row.insert("attributes".into(), attributes.into());
    Value::Object(row)
}
