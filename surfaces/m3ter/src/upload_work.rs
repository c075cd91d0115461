//! Reading an uploaded file: row by row through the same checks as a request's (5.7).

use crate::app::App;
use crate::array::{ArrayItems, SplitError};
use crate::failure::{self, FailedRow, Failure, FailureType};
use crate::ingest::rows::{ROWS_MAX, Row, read_row};
use crate::ingest::{Source, store_rows};
use crate::upload::{UploadJob, UploadStatus};
use meterd_control::Author;
use meterd_fault::{Fault, Kind};
use meterd_http::LongWork;
use meterd_http::json::check_utf8;
use meterd_model::{MeasurementId, OrganizationId, Timestamp};
use std::borrow::Cow;
use std::fs::File;
use std::io::BufReader;
use std::time::Duration;
use uuid::Uuid;

/// Bytes of rows that are stored at a time; a request has no more either.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// How often the job says how far it is: each time is a change on record, and another row of the audit trail.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// A file with more rows that are no measurements is given up, since each of them is put on record.
const REFUSED_MAX: u64 = 10_000;

type Items = ArrayItems<BufReader<File>>;

/// Reads what is left of the job's file. After a crash the rows since the job was last told are handed in again, which
/// their ids make harmless.
pub(crate) async fn run(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    now: fn() -> Timestamp,
) -> Result<(), Fault> {
    let stored = app.control.store().get::<UploadJob>(organization, id)?;
    let job = &stored.document;
    let begin = now();
    let source = Source {
        author: Author::system(begin),
        resumes: true,
    };
    let Some(file) = job.file else {
        return finish(app, organization, id, UploadStatus::Failed, now()).await;
    };
    let done = job.total_rows;
    let opened = app
        .blocking(move |app| {
            let (_, file) = app.control.files().open_file(organization, file, begin)?;
            let mut items = ArrayItems::new(BufReader::new(file));
            for _ in 0..done {
                if let Err(error) = items.next_item() {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(items))
        })
        .await;
    let mut items = match opened {
        Ok(Ok(items)) => items,
        Ok(Err(error)) => return give_up(app, organization, id, &error, now()).await,
        // Gone with its time, or left out of a backup.
        Err(fault) if matches!(*fault.kind, Kind::ResourceNotFound { .. }) => {
            return finish(app, organization, id, UploadStatus::Failed, now()).await;
        }
        Err(fault) => return Err(fault),
    };
    let mut first_row = done;
    let mut refused = 0;
    let mut untold = Counts::default();
    let mut told = begin;
    loop {
        let (left, chunk, end) = app.blocking(move |_| Ok(next_chunk(items))).await?;
        items = left;
        let counts = store(app, organization, id, first_row, &chunk, &source, now()).await?;
        first_row += counts.rows;
        refused += counts.refused;
        untold.rows += counts.rows;
        untold.failed += counts.failed;
        let is_last = end.is_some() || refused > REFUSED_MAX;
        let is_time = told.saturating_add(TOLD_EVERY) <= now();
        if untold.rows > 0 && (is_last || is_time) {
            told = now();
            let Counts { rows, failed, .. } = std::mem::take(&mut untold);
            change(app, organization, id, told, move |job| {
                job.total_rows += rows;
                job.processed_rows += rows;
                job.failed_rows += failed;
                job.starts = 0;
            })
            .await?;
        }
        if refused > REFUSED_MAX {
            tracing::info!(%organization, job = %id, "uploaded file given up: it holds no measurements");
            return finish(app, organization, id, UploadStatus::Failed, now()).await;
        }
        match end {
            None => {}
            Some(Ok(())) => {
                return finish(app, organization, id, UploadStatus::Succeeded, now()).await;
            }
            Some(Err(error)) => return give_up(app, organization, id, &error, now()).await,
        }
    }
}

/// The next rows, and how the file ends if it does with them.
fn next_chunk(mut items: Items) -> (Items, Vec<Vec<u8>>, Option<Result<(), SplitError>>) {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while chunk.len() < ROWS_MAX && bytes < CHUNK_BYTES_MAX {
        match items.next_item() {
            Ok(Some(item)) => {
                bytes += item.len();
                chunk.push(item);
            }
            Ok(None) => return (items, chunk, Some(Ok(()))),
            Err(error) => return (items, chunk, Some(Err(error))),
        }
    }
    (items, chunk, None)
}

/// What became of some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    rows: u64,
    failed: u64,
    /// Those of the failed that are no measurements.
    refused: u64,
}

async fn store(
    app: &App,
    organization: OrganizationId,
    job: Uuid,
    first_row: u64,
    chunk: &[Vec<u8>],
    source: &Source,
    now: Timestamp,
) -> Result<Counts, Fault> {
    // Accounts that the rows make are made now, however long ago the file was begun.
    let source = &Source {
        author: Author::system(now),
        ..source.clone()
    };
    let latest = app.latest(now);
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(chunk.len());
    let mut refused = Vec::new();
    for (item, place) in chunk.iter().zip(first_row..) {
        // What is no UTF-8 is no measurement either; a text that only looks like it must not be stored.
        let text = check_utf8(item).map_err(Fault::from);
        match text.and_then(|text| read_row(text, latest)) {
            Ok(mut row) => {
                if row.uid.is_none() {
                    // The same again if the chunk is, so that it is stored once.
                    let uid = MeasurementId::new(format!("{job}:{place}"));
                    row.uid = Some(uid.map_err(Fault::internal)?);
                }
                rows.push(row);
            }
            Err(fault) => refused.push(refused_row(&String::from_utf8_lossy(item), &fault)),
        }
    }
    let mut counts = Counts {
        rows: chunk.len() as u64,
        failed: refused.len() as u64,
        refused: refused.len() as u64,
    };
    let stored = store_rows(app, organization, rows, source, now).await?;
    if !refused.is_empty() {
        let author = source.author;
        app.blocking(move |app| failure::record(app, organization, &author, &refused, now))
            .await?;
    }
    counts.failed += stored.failed;
    Ok(counts)
}

fn refused_row(text: &str, fault: &Fault) -> FailedRow<'static> {
    let message = match fault.kind.as_ref() {
        Kind::Invalid { problems } => {
            let reasons = problems.iter().map(|problem| {
                let place = problem.location.dotted();
                format!("{}: {}", meterd_fault::quote(&place), problem.rule)
            });
            reasons.collect::<Vec<_>>().join("; ")
        }
        kind => kind.phrase(),
    };
    // What is no JSON is kept as a text of it.
    let json = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    let text = if json {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    };
    FailedRow {
        failures: vec![Failure {
            kind: FailureType::InvalidMeasurement,
            message,
            field: None,
        }],
        uid: None,
        account: None,
        text: Cow::Owned(text),
    }
}

async fn give_up(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    error: &SplitError,
    now: Timestamp,
) -> Result<(), Fault> {
    if let SplitError::Io(error) = error {
        return Err(Fault::internal(format!("read an uploaded file: {error}")));
    }
    tracing::info!(%organization, job = %id, "uploaded file given up: {error}");
    finish(app, organization, id, UploadStatus::Failed, now).await
}

/// Ends a job that cannot go on.
pub(crate) async fn fail(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    now: Timestamp,
) -> Result<(), Fault> {
    finish(app, organization, id, UploadStatus::Failed, now).await
}

async fn finish(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    status: UploadStatus,
    now: Timestamp,
) -> Result<(), Fault> {
    change(app, organization, id, now, move |job| job.status = status).await
}

async fn change(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    now: Timestamp,
    change: impl FnOnce(&mut UploadJob) + Send + 'static,
) -> Result<(), Fault> {
    app.blocking(move |app| {
        app.write(organization, &Author::system(now), |writer| {
            writer.update(id, change).map(drop)
        })
    })
    .await
}
