//! `GET /v1/export`: all measurements of a meter, as a stream that `meterd import` reads back.

mod form;
mod parquet;

use self::form::Writer;
use crate::access::MeasurementsRead;
use crate::app::{App, meter_id};
use crate::query::refuse_backward;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use meterd_control::{Meter, Stored};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Kind, Problem, Resource, Rule};
use meterd_http::fields::Fields;
use meterd_http::{CancelOnDrop, Checked, Context, Failure, Permit, Query, query_fault};
use meterd_model::{OrganizationId, Timestamp};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

/// Bytes that go to the client at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the client.
const PIECES_MAX: usize = 4;
/// Longest time that the next piece waits for the client.
const PATIENCE_MAX: Duration = Duration::from_mins(1);
/// What each piece that goes out gives back of it: a client must take 16 KiB a second over some time.
const PATIENCE_EARNED: Duration = Duration::from_secs(4);

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

    fn extension(self) -> &'static str {
        match self {
            Self::Lines => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
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
        let from = fields.timestamp("from");
        let to = fields.timestamp("to");
        refuse_backward(fields, from, to);
        let formats = [
            ("ndjson", Format::Lines),
            ("csv", Format::Csv),
            ("parquet", Format::Parquet),
        ];
        let format = fields.choice("format", &formats);
        Some(Self {
            meter: meter?,
            from: from.unwrap_or(Timestamp::MIN),
            to: to.unwrap_or(Timestamp::MAX),
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
    version: Version,
    Query(asked): Query<ExportQuery>,
) -> Result<Response, Failure> {
    if version < Version::HTTP_11 {
        // There a body ends with its connection, so that one which broke off looks whole.
        let action = "an export over HTTP/1.0, which cannot tell a whole answer from a broken one; use HTTP/1.1";
        return Err(Kind::ActionNotSupported {
            resource: Resource::Meter,
            action: action.into(),
        }
        .into());
    }
    let organization = permit.organization;
    let found = app.find_meter(organization, &asked.meter)?;
    let rule = Rule::UnknownReference {
        resource: Resource::Meter,
    };
    let meter = found
        .ok_or_else(|| Fault::invalid(Problem::query("meter", rule).with_value(&asked.meter)))?;
    let format = asked.format;
    let file = format!(
        "attachment; filename=\"{}.{}\"",
        asked.meter,
        format.extension()
    );
    let disposition = HeaderValue::try_from(file).map_err(Fault::internal)?;
    let cancel = Cancel::new();
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    // Dropped with the stream, when the client goes away.
    let cancel_on_drop = CancelOnDrop(cancel.clone());
    let slot = app.export_slot(organization).await?;
    let work = app.clone();
    let request_id = context.request_id;
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        let mut outlet = Outlet::new(sender);
        let end = match write_all(&work, organization, &meter, &asked, &cancel, &outlet) {
            Ok(()) => Piece::End,
            Err(fault) => Piece::Failed(fault),
        };
        // Only fails when nobody listens any more, or too slowly.
        if let Err(error) = outlet.send(end)
            && error.kind() == io::ErrorKind::TimedOut
        {
            tracing::warn!(%request_id, "export broken off: its client takes too little");
        }
    });
    let first = match pieces.recv().await {
        Some(Piece::Failed(fault)) => return Err(fault.into()),
        Some(first) => first,
        None => return Err(Fault::internal("the export's thread ended without a piece").into()),
    };
    let stream = Stream {
        first: Some(first),
        pieces,
        request_id,
        _cancel_on_drop: cancel_on_drop,
    };
    let body = Body::from_stream(futures_util::stream::unfold(stream, async |mut stream| {
        Some((stream.next().await?, stream))
    }));
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(format.media_type()),
        ),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, body).into_response())
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
            // The thread panicked, or gave a slow client up.
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
    outlet: &Outlet,
) -> Result<(), Fault> {
    let pieces = Pieces {
        outlet: outlet.clone(),
        bytes: BytesMut::new(),
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

/// Hands pieces to the client, and waits for it within bounds.
#[derive(Clone)]
struct Outlet {
    sender: mpsc::Sender<Piece>,
    runtime: Handle,
    patience: Duration,
}

impl Outlet {
    /// For a thread of the runtime that may block.
    fn new(sender: mpsc::Sender<Piece>) -> Self {
        Self {
            sender,
            runtime: Handle::current(),
            patience: PATIENCE_MAX,
        }
    }

    fn send(&mut self, piece: Piece) -> io::Result<()> {
        let started = Instant::now();
        let sent = self.sender.send_timeout(piece, self.patience);
        self.runtime.block_on(sent).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => io::Error::from(io::ErrorKind::TimedOut),
            SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })?;
        self.patience = patience_after(self.patience, started.elapsed());
        Ok(())
    }
}

fn patience_after(patience: Duration, waited: Duration) -> Duration {
    (patience.saturating_sub(waited) + PATIENCE_EARNED).min(PATIENCE_MAX)
}

/// Collects bytes, and hands them on in pieces.
struct Pieces {
    outlet: Outlet,
    bytes: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        while self.bytes.len() >= PIECE_BYTES {
            let piece = self.bytes.split_to(PIECE_BYTES);
            self.outlet.send(Piece::Bytes(piece.freeze()))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let rest = self.bytes.split();
        self.outlet.send(Piece::Bytes(rest.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_for_a_pause_or_for_a_pace() {
        let second = Duration::from_secs;
        assert_eq!(patience_after(second(60), second(50)), second(14));
        assert_eq!(patience_after(second(60), second(1)), PATIENCE_MAX);
        // Slower than the pace, it comes to its end.
        let mut patience = PATIENCE_MAX;
        for _ in 0..60 {
            patience = patience_after(patience, second(5));
        }
        assert!(patience < second(5), "{patience:?}");
        // At the pace it never does.
        for _ in 0..1000 {
            patience = patience_after(patience, PATIENCE_EARNED);
        }
        assert!(patience >= PATIENCE_EARNED);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_takes_too_little_is_given_up() {
        let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
        let written = tokio::task::spawn_blocking(move || {
            let outlet = Outlet::new(sender);
            let bytes = BytesMut::new();
            let mut to = Pieces { outlet, bytes };
            let bytes = vec![b'x'; PIECES_MAX * PIECE_BYTES];
            to.write_all(&bytes)?;
            to.outlet.patience = Duration::from_millis(20);
            to.write_all(&bytes)
        });
        let error = written.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut count = 0;
        while let Some(Piece::Bytes(piece)) = pieces.recv().await {
            assert_eq!(piece.len(), PIECE_BYTES);
            count += 1;
        }
        assert_eq!(count, PIECES_MAX);
    }
}
