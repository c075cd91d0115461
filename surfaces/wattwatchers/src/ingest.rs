//! What devices send: records of the three streams (specs/wattwatchers.md 6.1).
//!
//! A body is passed over once for the places of its records, and each record is then read by itself: so what is in memory
//! of a large body beside its text is bounded by the number of its records.

use crate::access::Feeder;
use crate::app::App;
use crate::asked::word;
use crate::body::SaysJson;
use crate::check::Terms;
use crate::device::Device;
use crate::record::Place;
use crate::serial::Serial;
use crate::stream::{Stream, ensure_meter};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use meterd_control::{Author, Meter, Stored};
use meterd_engine::{Batch, OnConflict, Verdict};
use meterd_fault::{Fault, JsonType, Problem, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Form, Problems};
use meterd_http::json::check_utf8;
use meterd_http::scan::{Peek, Scanner};
use meterd_http::{Failure, LongWork, Params, RawBody, Reply};
use meterd_model::{Measurement, MeterId, OrganizationId};
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Largest body: a week of Long Energy of six channels has half of it.
pub(crate) const BODY_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Bodies, and records, that take longer to read than it takes to call another thread.
const LARGE_BYTES: usize = 64 * 1024;
const LARGE_RECORDS: usize = 100;
/// Problems of one record that its rejection tells.
const TOLD_MAX: usize = 5;

/// What became of the records of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// New, or the same as stored.
    pub accepted: usize,
    /// Stored in place of another content.
    pub replaced: usize,
    /// Not stored, since another content is, which stays; only where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<usize>,
    pub rejected: Vec<Rejected>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// From 0.
    pub index: usize,
    pub message: String,
}

/// Stores the records of a body as if the account's device had sent it. When this returns, all that was not rejected is
/// durable and visible. `ResourceNotFound` if the account has no such device.
pub async fn import(
    app: &App,
    account: OrganizationId,
    serial: &Serial,
    stream: Stream,
    body: Bytes,
    on_conflict: OnConflict,
    author: &Author,
) -> Result<Outcome, Fault> {
    let sent = Sent::read(body, stream)?;
    let store = app.control.store();
    let device = store.get_by_key::<Device>(account, "id", serial.as_str())?;
    app.store_sent(&device, stream, sent, on_conflict, author)
        .await
}

/// `POST /ingest/v1/devices/{id}/long-energy`
pub(crate) async fn feed_long(feed: Feed) -> Result<Reply<Outcome>, Failure> {
    feed.store(Stream::Long).await
}

/// `POST /ingest/v1/devices/{id}/short-energy`
pub(crate) async fn feed_short(feed: Feed) -> Result<Reply<Outcome>, Failure> {
    feed.store(Stream::Short).await
}

/// `POST /ingest/v1/devices/{id}/modbus`
pub(crate) async fn feed_modbus(feed: Feed) -> Result<Reply<Outcome>, Failure> {
    feed.store(Stream::Modbus).await
}

/// A request with records of a device.
#[derive(Debug)]
pub(crate) struct Feed {
    app: App,
    feeder: Feeder,
    params: Params,
    on_conflict: OnConflict,
    body: RawBody,
}

impl FromRequest<App> for Feed {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let feeder = Feeder::from_request_parts(&mut parts, app).await?;
        let params = Params::from_request_parts(&mut parts, app).await?;
        SaysJson::from_request_parts(&mut parts, app).await?;
        let query = parts.uri.query().unwrap_or_default();
        let on_conflict = read_query(query, Form::LENIENT, |fields| {
            Some(word(fields, "on_conflict", &ON_CONFLICT))
        })?;
        Ok(Self {
            app: app.clone(),
            feeder,
            params,
            on_conflict: on_conflict.unwrap_or(OnConflict::Replace),
            body: RawBody::from_request(Request::from_parts(parts, body), app).await?,
        })
    }
}

/// As the native API has them, though a device's own word replaces what it said before.
const ON_CONFLICT: [(&str, OnConflict); 2] = [
    ("reject", OnConflict::Reject),
    ("replace", OnConflict::Replace),
];

impl Feed {
    async fn store(self, stream: Stream) -> Result<Reply<Outcome>, Failure> {
        let Self {
            app,
            feeder,
            params,
            on_conflict,
            body,
        } = self;
        let bytes = body.bytes.clone();
        let sent = if bytes.len() > LARGE_BYTES {
            app.blocking(move |_| Sent::read(bytes, stream)).await?
        } else {
            Sent::read(bytes, stream)?
        };
        let device = feeder.device(&app, params.get("id"))?;
        if stream == Stream::Modbus {
            device.document.expect_modbus()?;
        }
        // A task of its own goes on when the client goes away, so that no record is stored without its device's knowing.
        let done = tokio::spawn(async move {
            let author = feeder.author();
            let stored = app.store_sent(&device, stream, sent, on_conflict, &author);
            let outcome = stored.await?;
            let serial = &device.document.serial;
            app.heard.note(feeder.account(), serial, feeder.now());
            drop(body);
            Ok::<_, Fault>(outcome)
        });
        Ok(Reply::ok(done.await.map_err(Fault::internal)??))
    }
}

/// A body, and where in it each record stands.
#[derive(Debug)]
pub(crate) struct Sent {
    bytes: Bytes,
    records: Vec<Range<usize>>,
}

impl Sent {
    /// A body that is no JSON, or no array of at most as many records as the stream allows, is refused whole.
    pub(crate) fn read(bytes: Bytes, stream: Stream) -> Result<Self, Fault> {
        let mut json = Scanner::new(check_utf8(&bytes)?);
        if json.peek()? != Peek::Array {
            json.skip()?;
            json.finish()?;
            let expected = JsonType::Array;
            return Err(Fault::invalid(Problem::body("", Rule::Type { expected })));
        }
        let max = stream.records_max();
        let mut records = Vec::new();
        let mut next = json.array()?;
        while next.is_some() {
            let start = json.place();
            json.skip()?;
            // One more tells that there are too many.
            if records.len() <= max {
                records.push(start..start + json.text_from(start).len());
            }
            next = json.next_item()?;
        }
        json.finish()?;
        if records.len() > max {
            let rule = Rule::Count {
                min: 0,
                max: max as u64,
            };
            return Err(Fault::invalid(Problem::body("", rule)));
        }
        Ok(Self { bytes, records })
    }

    /// The text of each record.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let records = self.records.iter().cloned();
        records.map(|place| self.bytes.get(place).unwrap_or_default())
    }

    /// Whether it takes longer to look through than it takes to call another thread.
    fn is_large(&self) -> bool {
        self.bytes.len() > LARGE_BYTES || self.records.len() > LARGE_RECORDS
    }
}

impl Stream {
    /// Most records of one request: a week of Long Energy, a day of Short Energy.
    fn records_max(self) -> usize {
        match self {
            Self::Long | Self::Modbus => 2016,
            Self::Short => 2880,
        }
    }
}

/// The records of a body, checked and taken apart.
#[derive(Debug, Default)]
struct Prepared {
    measurements: Vec<Measurement>,
    /// How many measurements there are up to the end of each record.
    ends: Vec<usize>,
    rejected: Vec<Rejected>,
}

impl Prepared {
    fn of(sent: &Sent, terms: &Terms, place: &Place) -> Result<Self, Fault> {
        let mut prepared = Self::default();
        for (index, text) in sent.records().enumerate() {
            match terms.read(text) {
                Ok(record) => {
                    prepared.measurements.extend(record.measurements(place)?);
                    prepared.ends.push(prepared.measurements.len());
                }
                Err(problems) => {
                    let message = told(problems);
                    prepared.rejected.push(Rejected { index, message });
                }
            }
        }
        Ok(prepared)
    }
}

fn told(problems: Problems) -> String {
    let problems = problems.into_vec();
    let messages: Vec<_> = problems
        .iter()
        .take(TOLD_MAX)
        .map(Problem::message)
        .collect();
    messages.join(" ")
}

impl App {
    /// Stores records; `on_conflict` tells what becomes of those whose stamps have others.
    async fn store_sent(
        &self,
        device: &Arc<Stored<Device>>,
        stream: Stream,
        sent: Sent,
        on_conflict: OnConflict,
        author: &Author,
    ) -> Result<Outcome, Fault> {
        let account = device.organization;
        let _held = self.hold_meters(account).await;
        let tolerance = Duration::from_secs(self.settings.future_tolerance_seconds.into());
        let terms = Terms {
            stream,
            channels: device.document.channels.len(),
            latest: author.at.saturating_add(tolerance),
        };
        let place = Place {
            stream,
            meter: self.meter(account, stream, author).await?,
            serial: device.document.serial.clone(),
        };
        let is_large = sent.is_large();
        let Prepared {
            measurements,
            ends,
            rejected,
        } = if is_large {
            self.blocking(move |_| Prepared::of(&sent, &terms, &place))
                .await?
        } else {
            Prepared::of(&sent, &terms, &place)?
        };
        let mut outcome = Outcome {
            kept: (on_conflict == OnConflict::Reject).then_some(0),
            rejected,
            ..Outcome::default()
        };
        if measurements.is_empty() {
            return Ok(outcome);
        }
        let batch = Batch {
            organization: account,
            received: author.at,
            measurements,
            on_conflict,
        };
        let receipt = self.submit(batch, is_large).await?;
        let mut start = 0;
        for end in ends {
            outcome.count(receipt.verdicts.get(start..end).unwrap_or_default());
            start = end;
        }
        if let Err(fault) = self.note_reported(device, stream, author).await {
            // What the engine has is stored, and is not to be answered as refused. The next records note it.
            tracing::warn!(
                device = %device.document.serial,
                "note that a device has sent a stream: {}",
                fault.log_context().map_or_else(|| fault.kind.to_string(), str::to_owned)
            );
        }
        Ok(outcome)
    }

    /// The meter of a stream, made if there is none.
    async fn meter(
        &self,
        account: OrganizationId,
        stream: Stream,
        author: &Author,
    ) -> Result<MeterId, Fault> {
        let found = self.find_meter(account, stream)?;
        if let Some(meter) = found.filter(|meter| meter.document.managed_by.is_some()) {
            return Ok(MeterId(meter.id));
        }
        let author = *author;
        let made = self.blocking(move |app| {
            app.control.store().write(&author, |writes| {
                ensure_meter(writes, account, stream, &app.settings)
            })
        });
        Ok(MeterId(made.await?.id))
    }

    pub(crate) fn find_meter(
        &self,
        account: OrganizationId,
        stream: Stream,
    ) -> Result<Option<Arc<Stored<Meter>>>, Fault> {
        let store = self.control.store();
        store.find_by_key::<Meter>(account, "name", stream.meter_name())
    }

    /// So that a stream of which nothing is left is told from one that never was (3.11).
    async fn note_reported(
        &self,
        device: &Arc<Stored<Device>>,
        stream: Stream,
        author: &Author,
    ) -> Result<(), Fault> {
        if device.document.reported.contains(&stream) {
            return Ok(());
        }
        self.note_device(*author, device, move |device| {
            device.reported.insert(stream);
            Ok(())
        })
        .await?;
        Ok(())
    }
}

impl Outcome {
    /// Counts a record, whose channels are stored together. Where some are new and others are not, or differ, it was another
    /// record.
    fn count(&mut self, verdicts: &[Verdict]) {
        let all = |wanted| verdicts.iter().all(|verdict| *verdict == wanted);
        if all(Verdict::Accepted) || all(Verdict::Duplicate) {
            self.accepted += 1;
        } else if verdicts.contains(&Verdict::Conflict) {
            *self.kept.get_or_insert_default() += 1;
        } else {
            self.replaced += 1;
        }
    }
}
