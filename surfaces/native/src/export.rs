//! `GET /v1/export`: all measurements of a meter, as a stream that `meterd import` reads back.

mod form;
mod parquet;

use self::form::Writer;
use crate::app::{App, meter_id};
use crate::permissions::MeasurementsRead;
use crate::query::{CancelOnDrop, query_fault};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use meterd_control::{Meter, Stored};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Problem, Resource, Rule};
use meterd_http::fields::Fields;
use meterd_http::{Checked, Context, Failure, Permit, Query};
use meterd_model::{OrganizationId, Timestamp};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes that go to the client at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the client.
const PIECES_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Lines,
    Csv,
    Parquet,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

#[derive(Debug)]
pub(crate) struct ExportQuery {
    meter: String,
    from: Timestamp,
    to: Timestamp,
    format: Format,
}

impl Checked for ExportQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let meter = fields.required_string("meter");
        let from = fields.timestamp("from").unwrap_or(Timestamp::MIN);
        let to = fields.timestamp("to").unwrap_or(Timestamp::MAX);
        let formats = [
            ("ndjson", Format::Lines),
            ("csv", Format::Csv),
            ("parquet", Format::Parquet),
        ];
        let format = fields.choice("format", &formats);
        Some(Self {
            meter: meter?,
            from,
            to,
            format: format.unwrap_or(Format::Lines),
        })
    }
}

/// Answers once the first piece is there, so that what fails before is a fault like any other. What fails later breaks
/// the connection off: a body that ended would say that it is whole.
pub(crate) async fn export(
    State(app): State<App>,
    context: Context,
    permit: Permit<MeasurementsRead>,
    Query(asked): Query<ExportQuery>,
) -> Result<Response, Failure> {
    let organization = permit.organization;
    let found = app.find_meter(organization, &asked.meter)?;
    let rule = Rule::UnknownReference {
        resource: Resource::Meter,
    };
    let meter = found
        .ok_or_else(|| Fault::invalid(Problem::query("meter", rule).with_value(&asked.meter)))?;
    let media_type = asked.format.media_type();
    let cancel = Cancel::new();
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    // Dropped with the stream, when the client goes away.
    let cancel_on_drop = CancelOnDrop(cancel.clone());
    let slot = app.export_slot().await?;
    let work = app.clone();
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        let end = match write_all(&work, organization, &meter, &asked, &cancel, &sender) {
            Ok(()) => Piece::End,
            Err(fault) => Piece::Failed(fault),
        };
        // Only fails when nobody listens any more.
        let _ = sender.blocking_send(end);
    });
    let first = match pieces.recv().await {
        Some(Piece::Failed(fault)) => return Err(fault.into()),
        first => first,
    };
    let stream = Stream {
        first,
        pieces,
        request_id: context.request_id,
        _cancel_on_drop: cancel_on_drop,
    };
    let body = Body::from_stream(futures_util::stream::unfold(stream, async |mut stream| {
        Some((stream.next().await?, stream))
    }));
    let content_type = HeaderValue::from_static(media_type);
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// What goes from the thread that reads to the task that sends.
enum Piece {
    Bytes(Bytes),
    /// Nothing is missing.
    End,
    Failed(Fault),
}

struct Stream {
    first: Option<Piece>,
    pieces: mpsc::Receiver<Piece>,
    request_id: uuid::Uuid,
    _cancel_on_drop: CancelOnDrop,
}

impl Stream {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => self.pieces.recv().await,
        };
        match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => None,
            Some(Piece::Failed(fault)) => {
                tracing::error!(
                    request_id = %self.request_id,
                    "export broken off: {}",
                    fault.log_context().unwrap_or("no context"),
                );
                Some(Err(io::Error::other("the export failed")))
            }
            // The thread panicked.
            None => Some(Err(io::Error::other("the export was not finished"))),
        }
    }
}

fn write_all(
    app: &App,
    organization: OrganizationId,
    meter: &Arc<Stored<Meter>>,
    asked: &ExportQuery,
    cancel: &Cancel,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Fault> {
    let pieces = Pieces {
        sender: sender.clone(),
        bytes: Vec::new(),
    };
    let mut writer = Writer::new(asked.format, &meter.document, pieces).map_err(Fault::internal)?;
    let mut written = Ok(());
    let mut take = |measurement: &meterd_model::Measurement| {
        written = writer.write(measurement);
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let (from, to) = (asked.from, asked.to);
    (app.engine)
        .export(organization, meter_id(meter), from, to, cancel, &mut take)
        .map_err(query_fault)?;
    written
        .and_then(|()| writer.finish())
        .map_err(Fault::internal)
}

/// Collects bytes, and hands them on in pieces.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    bytes: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes).into();
        let sent = self.sender.blocking_send(Piece::Bytes(bytes));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
