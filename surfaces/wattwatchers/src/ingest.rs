//! What devices send: records of the three streams (specs/wattwatchers.md 6.1).

use crate::access::Feeder;
use crate::app::App;
use crate::body::SaysJson;
use crate::check::Terms;
use crate::device::Device;
use crate::record::Place;
use crate::serial::Serial;
use crate::stream::{Stream, ensure_meter};
use axum::extract::State;
use meterd_control::{Author, Meter, Stored};
use meterd_engine::{Batch, OnConflict, Verdict};
use meterd_fault::{Fault, JsonType, Problem, Rule};
use meterd_http::fields::Problems;
use meterd_http::json::{Json, parse};
use meterd_http::{Failure, LongWork, Params, RawBody, Reply};
use meterd_model::{Measurement, MeterId, OrganizationId};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

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
    body: &[u8],
    author: &Author,
) -> Result<Outcome, Fault> {
    let sent = Sent::read(body, stream)?;
    let store = app.control.store();
    let device = store.get_by_key::<Device>(account, "id", serial.as_str())?;
    app.store_sent(&device, stream, sent, author).await
}

/// `POST /ingest/v1/devices/{id}/long-energy`
pub(crate) async fn feed_long(
    state: State<App>,
    feeder: Feeder,
    params: Params,
    _: SaysJson,
    body: RawBody,
) -> Result<Reply<Outcome>, Failure> {
    feed(state.0, feeder, &params, body, Stream::Long).await
}

/// `POST /ingest/v1/devices/{id}/short-energy`
pub(crate) async fn feed_short(
    state: State<App>,
    feeder: Feeder,
    params: Params,
    _: SaysJson,
    body: RawBody,
) -> Result<Reply<Outcome>, Failure> {
    feed(state.0, feeder, &params, body, Stream::Short).await
}

/// `POST /ingest/v1/devices/{id}/modbus`
pub(crate) async fn feed_modbus(
    state: State<App>,
    feeder: Feeder,
    params: Params,
    _: SaysJson,
    body: RawBody,
) -> Result<Reply<Outcome>, Failure> {
    feed(state.0, feeder, &params, body, Stream::Modbus).await
}

async fn feed(
    app: App,
    feeder: Feeder,
    params: &Params,
    body: RawBody,
    stream: Stream,
) -> Result<Reply<Outcome>, Failure> {
    let bytes = body.bytes.clone();
    let sent = if bytes.len() > LARGE_BYTES {
        let slot = app.large_body_slot().await?;
        app.blocking(move |_| {
            let sent = Sent::read(&bytes, stream)?;
            Ok(sent.holding(slot))
        })
        .await?
    } else {
        Sent::read(&bytes, stream)?
    };
    let device = feeder.device(&app, params.get("id"))?;
    if stream == Stream::Modbus {
        device.document.expect_modbus()?;
    }
    // A task of its own goes on when the client goes away, so that no record is stored without its device's knowing.
    let done = tokio::spawn(async move {
        let author = feeder.author();
        let outcome = app.store_sent(&device, stream, sent, &author).await?;
        let serial = &device.document.serial;
        app.heard.note(feeder.account(), serial, feeder.now());
        drop(body);
        Ok::<_, Fault>(outcome)
    });
    Ok(Reply::ok(done.await.map_err(Fault::internal)??))
}

/// The items of a body, with what is wrong in their syntax.
#[derive(Debug)]
struct Sent {
    items: Vec<Json>,
    problems: Vec<Problem>,
    /// Whether it takes longer to look through than it takes to call another thread.
    is_large: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Sent {
    fn read(bytes: &[u8], stream: Stream) -> Result<Self, Fault> {
        let mut problems = Problems::default();
        let Json::Array(items) = parse(bytes, "", &mut problems)? else {
            let expected = JsonType::Array;
            return Err(Fault::invalid(Problem::body("", Rule::Type { expected })));
        };
        let max = stream.records_max();
        if items.len() > max {
            let rule = Rule::Count {
                min: 0,
                max: max as u64,
            };
            return Err(Fault::invalid(Problem::body("", rule)));
        }
        if problems.is_full() {
            // Some items may be wrong without its being known which.
            problems.into_result()?;
            return Err(Fault::internal("problems that are none"));
        }
        Ok(Self {
            is_large: bytes.len() > LARGE_BYTES || items.len() > LARGE_RECORDS,
            items,
            problems: problems.into_vec(),
            _slot: None,
        })
    }

    /// With a place that is taken for as long as its items are there.
    fn holding(self, slot: OwnedSemaphorePermit) -> Self {
        Self {
            _slot: Some(slot),
            ..self
        }
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
    fn of(sent: Sent, terms: &Terms, place: &Place) -> Result<Self, Fault> {
        let Sent {
            items, problems, ..
        } = sent;
        let mut prepared = Self::default();
        for (index, item) in items.into_iter().enumerate() {
            let read = match problem_at(&problems, index) {
                Some(problem) => Err(problem.message()),
                None => terms.read(item).map_err(told),
            };
            match read {
                Ok(record) => {
                    prepared.measurements.extend(record.measurements(place)?);
                    prepared.ends.push(prepared.measurements.len());
                }
                Err(message) => prepared.rejected.push(Rejected { index, message }),
            }
        }
        Ok(prepared)
    }
}

/// The first problem in the syntax of an item.
fn problem_at(problems: &[Problem], index: usize) -> Option<&Problem> {
    problems.iter().find(|problem| {
        let place = problem.location.dotted();
        place.starts_with(&format!("[{index}]"))
    })
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
    /// Stores records in place of those of the same stamps.
    async fn store_sent(
        &self,
        device: &Arc<Stored<Device>>,
        stream: Stream,
        sent: Sent,
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
        let is_large = sent.is_large;
        let Prepared {
            measurements,
            ends,
            rejected,
        } = if is_large {
            self.blocking(move |_| Prepared::of(sent, &terms, &place))
                .await?
        } else {
            Prepared::of(sent, &terms, &place)?
        };
        let mut outcome = Outcome {
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
            on_conflict: OnConflict::Replace,
        };
        let receipt = self.submit(batch, is_large).await?;
        let mut start = 0;
        for end in ends {
            let verdicts = receipt.verdicts.get(start..end).unwrap_or_default();
            if is_replacement(verdicts) {
                outcome.replaced += 1;
            } else {
                outcome.accepted += 1;
            }
            start = end;
        }
        self.note_reported(device, stream, author).await?;
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
        if let Some(meter) = found {
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
        self.change_device(*author, device, move |device| {
            device.reported.insert(stream);
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// A record's channels are stored together. Where some are new and others are not, or differ, it was another record.
fn is_replacement(verdicts: &[Verdict]) -> bool {
    let count = |wanted| {
        verdicts
            .iter()
            .filter(|verdict| **verdict == wanted)
            .count()
    };
    count(Verdict::Accepted) != verdicts.len() && count(Verdict::Duplicate) != verdicts.len()
}
