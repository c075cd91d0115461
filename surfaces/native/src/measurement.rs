//! Measurements: send, list, and ask what became of one.

use crate::access::{MeasurementsRead, MeasurementsWrite};
use crate::app::{App, author, meter_id};
use crate::dialect::ItemFault;
use crate::ingest::{self, BrokenLines, MeterFields, Meters, RejectedRow, Rows};
use crate::page::{self, Page};
use axum::body::Bytes;
use axum::extract::State;
use meterd_control::{Meter, NewEvent};
use meterd_engine::{Action, Batch, Filter, ListCursor, Listing, OnConflict, Trace, Verdict};
use meterd_fault::{Fault, Kind, Problem, Resource, Rule};
use meterd_http::body::{JSON, NDJSON, has_media_type};
use meterd_http::fields::{Fields, PROBLEMS_MAX};
use meterd_http::{
    Checked, Context, Failure, LongWork, Params, Permit, Query, RawBody, Reply, query_fault,
};
use meterd_model::{
    Measurement, MeasurementId, MeterId, OrganizationId, Subject, Timestamp, Window, Zone,
};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// Largest body of measurements: 10,000 rows of about 1.6 KB.
pub(crate) const BODY_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What to do with a batch that has rows which cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Nothing is stored, and all problems are listed.
    Abort,
    /// The good rows are stored.
    Skip,
}

#[derive(Debug)]
pub(crate) struct IngestQuery {
    on_error: OnError,
    on_conflict: OnConflict,
}

impl Checked for IngestQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let on_error = fields.choice(
            "on_error",
            &[("abort", OnError::Abort), ("skip", OnError::Skip)],
        );
        let on_conflict = fields.choice(
            "on_conflict",
            &[
                ("reject", OnConflict::Reject),
                ("replace", OnConflict::Replace),
            ],
        );
        Some(Self {
            on_error: on_error.unwrap_or(OnError::Abort),
            on_conflict: on_conflict.unwrap_or(OnConflict::Reject),
        })
    }
}

/// What became of a batch.
#[derive(Debug, Default, Serialize)]
pub struct IngestAnswer {
    pub accepted: u64,
    /// Stored as the new version of an id; only with `on_conflict=replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u64>,
    pub duplicate: u64,
    pub conflict: u64,
    pub rejected: u64,
    /// Those that were not accepted.
    pub items: Vec<ItemAnswer>,
    #[serde(skip)]
    problems_listed: usize,
}

/// One measurement that was not accepted, and why.
#[derive(Debug, Serialize)]
pub struct ItemAnswer {
    /// Position in the batch.
    pub index: usize,
    pub id: Option<String>,
    pub verdict: &'static str,
    pub fault: Option<ItemFault>,
}

pub(crate) async fn ingest_measurements(
    State(app): State<App>,
    context: Context,
    permit: Permit<MeasurementsWrite>,
    Query(options): Query<IngestQuery>,
    body: Sendable,
) -> Result<Reply<IngestAnswer>, Failure> {
    let batch = SentBatch {
        organization: permit.organization,
        received: context.now,
        bytes: body.raw.bytes.clone(),
        form: body.form,
        on_error: options.on_error,
        on_conflict: options.on_conflict,
    };
    let answer = ingest(&app, batch).await?;
    let happened = Happened {
        app: &app,
        permit: &permit,
        context: &context,
    };
    happened.record_ingest(&answer).await;
    Ok(Reply::ok(answer))
}

/// Measurements as they were sent.
#[derive(Clone, Debug)]
pub struct SentBatch {
    pub organization: OrganizationId,
    pub received: Timestamp,
    pub bytes: Bytes,
    pub form: BatchForm,
    pub on_error: OnError,
    pub on_conflict: OnConflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// `{"measurements":[…]}`
    Json,
    /// One measurement a line.
    Lines,
}

/// Checks and stores a batch. Once this returns, all that it says accepted is durable and visible.
pub async fn ingest(app: &App, batch: SentBatch) -> Result<IngestAnswer, Fault> {
    let held = app.hold_meters(batch.organization).await;
    let rows = read_rows(app, &batch).await?;
    if batch.on_error == OnError::Abort {
        refuse_bad_rows(&rows.rejected)?;
    }
    let mut answer = IngestAnswer {
        replaced: (batch.on_conflict == OnConflict::Replace).then_some(0),
        ..IngestAnswer::default()
    };
    let indexes: Vec<usize> = rows.measurement_indexes().collect();
    let Rows {
        measurements,
        rejected,
    } = rows;
    for row in rejected {
        answer.reject(row);
    }
    if !measurements.is_empty() {
        let ids: Vec<_> = measurements.iter().map(|sent| sent.id.clone()).collect();
        let sent = Batch {
            organization: batch.organization,
            received: batch.received,
            measurements,
            on_conflict: batch.on_conflict,
        };
        let is_large = batch.bytes.len() > READ_INLINE_MAX_BYTES;
        let app = app.clone();
        // A task of its own holds the meters until the batch is decided, also when the client goes away.
        let decided = tokio::spawn(async move {
            let receipt = app.submit(sent, is_large).await;
            drop(held);
            receipt
        });
        let receipt = decided.await.map_err(Fault::internal)??;
        for ((index, id), verdict) in indexes.into_iter().zip(ids).zip(receipt.verdicts) {
            answer.count(index, &id, verdict);
        }
        answer.items.sort_unstable_by_key(|item| item.index);
    }
    Ok(answer)
}

impl IngestAnswer {
    /// The first rows' problems are listed, as many as one answer lists; of later rows only that they have some.
    fn reject(&mut self, row: RejectedRow) {
        self.rejected += 1;
        self.problems_listed = self.problems_listed.saturating_add(row.problems.len());
        let kind = Kind::Invalid {
            problems: row.problems,
        };
        let fault = ItemFault::of(&kind.into());
        let fault = if self.problems_listed > PROBLEMS_MAX {
            fault.without_errors()
        } else {
            fault
        };
        self.items.push(ItemAnswer {
            index: row.index,
            id: row.id,
            verdict: "rejected",
            fault: Some(fault),
        });
    }

    fn count(&mut self, index: usize, id: &MeasurementId, verdict: Verdict) {
        let (verdict, fault) = match verdict {
            Verdict::Accepted => {
                self.accepted += 1;
                return;
            }
            Verdict::Replaced => {
                *self.replaced.get_or_insert_default() += 1;
                return;
            }
            Verdict::Duplicate => {
                self.duplicate += 1;
                ("duplicate", None)
            }
            Verdict::Conflict => {
                self.conflict += 1;
                let kind = Kind::MeasurementConflict { id: id.to_string() };
                ("conflict", Some(ItemFault::of(&kind.into())))
            }
        };
        self.items.push(ItemAnswer {
            index,
            id: Some(id.to_string()),
            verdict,
            fault,
        });
    }
}

/// A body of measurements in either form.
#[derive(Debug)]
pub(crate) struct Sendable {
    raw: RawBody,
    form: BatchForm,
}

impl<S: Sync> axum::extract::FromRequest<S> for Sendable {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        let form = if has_media_type(request.headers(), NDJSON) {
            BatchForm::Lines
        } else if has_media_type(request.headers(), JSON) {
            BatchForm::Json
        } else {
            let expected = &[JSON, NDJSON];
            return Err(Kind::MediaTypeUnsupported { expected }.into());
        };
        let raw = RawBody::from_request(request, state).await?;
        Ok(Self { raw, form })
    }
}

/// Bodies past this size are read and handed in away from the threads that serve connections.
const READ_INLINE_MAX_BYTES: usize = 64 * 1024;

async fn read_rows(app: &App, batch: &SentBatch) -> Result<Rows, Fault> {
    if batch.bytes.len() <= READ_INLINE_MAX_BYTES {
        return parse_rows(app, batch);
    }
    let batch = batch.clone();
    app.blocking(move |app| parse_rows(app, &batch)).await
}

fn parse_rows(app: &App, batch: &SentBatch) -> Result<Rows, Fault> {
    let meters = MetersOf {
        app,
        organization: batch.organization,
    };
    match batch.form {
        BatchForm::Json => ingest::read_json(&batch.bytes, &meters, batch.received),
        BatchForm::Lines => {
            let broken_lines = match batch.on_error {
                OnError::Abort => BrokenLines::Refuse,
                OnError::Skip => BrokenLines::Keep,
            };
            ingest::read_ndjson(&batch.bytes, &meters, batch.received, broken_lines)
        }
    }
}

/// All problems of all rows at once, up to the bound on one answer.
fn refuse_bad_rows(rejected: &[RejectedRow]) -> Result<(), Fault> {
    let problems: Vec<_> = rejected
        .iter()
        .flat_map(|row| &row.problems)
        .take(PROBLEMS_MAX)
        .cloned()
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Kind::Invalid { problems }.into())
    }
}

struct MetersOf<'a> {
    app: &'a App,
    organization: OrganizationId,
}

impl Meters for MetersOf<'_> {
    fn meter(&self, name: &str) -> Result<Option<MeterFields>, Fault> {
        let found = self.app.find_meter(self.organization, name)?;
        Ok(found.map(|meter| MeterFields::of(meter_id(&meter), &meter.document.definition)))
    }
}

/// Where a request's doings go on record: one event a minute and credential, with what adds up.
pub(crate) struct Happened<'a> {
    pub(crate) app: &'a App,
    pub(crate) permit: &'a Permit<MeasurementsWrite>,
    pub(crate) context: &'a Context,
}

impl Happened<'_> {
    /// What was sent but not stored, since the answer was a success; and what no longer counts as it did.
    async fn record_ingest(&self, answer: &IngestAnswer) {
        if answer.rejected > 0 || answer.conflict > 0 {
            let counts = [
                ("requests", 1),
                ("accepted", answer.accepted),
                ("duplicate", answer.duplicate),
                ("conflict", answer.conflict),
                ("rejected", answer.rejected),
            ];
            self.record("ingest.rejected", counts.to_vec()).await;
        }
        if let Some(replaced) = answer.replaced.filter(|replaced| *replaced > 0) {
            let counts = vec![("requests", 1), ("replaced", replaced)];
            self.record("measurements.replaced", counts).await;
        }
    }

    pub(crate) async fn record(&self, kind: &'static str, counts: Vec<(&'static str, u64)>) {
        let event = NewEvent {
            organization: self.permit.organization,
            kind: kind.to_owned(),
            resource: None,
            data: json!({"first_request_id": self.context.request_id}),
        };
        let author = author(&self.permit.credential, self.context);
        let appended = self
            .app
            .blocking(move |app| {
                app.control
                    .events()
                    .append_counted(&event, &counts, &author)
            })
            .await;
        if let Err(fault) = appended {
            // The caller knows what became of the measurements; only the record of it is missing.
            tracing::error!(
                request_id = %self.context.request_id,
                "append event {kind}: {}",
                fault.log_context().unwrap_or("no context"),
            );
        }
    }
}

/// One stored measurement.
#[derive(Debug, Serialize)]
pub(crate) struct MeasurementView {
    id: String,
    meter: Option<String>,
    subject: String,
    time: String,
    end_time: Option<String>,
    values: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl MeasurementView {
    fn of(measurement: &Measurement, meter: Option<String>) -> Self {
        Self {
            id: measurement.id.to_string(),
            meter,
            subject: measurement.subject.to_string(),
            time: measurement.time.to_string(),
            end_time: measurement.end_time.map(|time| time.to_string()),
            values: measurement
                .values
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            attributes: measurement
                .attributes
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ListQuery {
    meter: Option<String>,
    subject: Option<Subject>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: usize,
    cursor: Option<ListCursor>,
}

impl Checked for ListQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            meter: fields.string("meter"),
            subject: fields.text("subject", Subject::new),
            from: fields.timestamp("from"),
            to: fields.timestamp("to"),
            limit: page::limit(fields),
            cursor: page::cursor(fields, parse_cursor),
        })
    }
}

fn parse_cursor(text: &str) -> Option<ListCursor> {
    let (time, sequence) = text.split_once('.')?;
    Some(ListCursor {
        time: Timestamp::from_micros(i64::from_str_radix(time, 16).ok()?)?,
        sequence: u64::from_str_radix(sequence, 16).ok()?,
    })
}

fn format_cursor(cursor: &ListCursor) -> String {
    format!("{:x}.{:x}", cursor.time.micros(), cursor.sequence)
}

pub(crate) async fn list_measurements(
    State(app): State<App>,
    permit: Permit<MeasurementsRead>,
    Query(query): Query<ListQuery>,
) -> Result<Reply<Page<MeasurementView>>, Failure> {
    let organization = permit.organization;
    let meter = match &query.meter {
        None => None,
        Some(name) => {
            let found = app.find_meter(organization, name)?;
            let rule = Rule::UnknownReference {
                resource: Resource::Meter,
            };
            let meter = found
                .ok_or_else(|| Fault::invalid(Problem::query("meter", rule).with_value(name)))?;
            Some(meter_id(&meter))
        }
    };
    let listing = Listing {
        meter,
        filter: Filter {
            subjects: query.subject.map(|subject| vec![subject]),
            ..Filter::default()
        },
        from: query.from,
        to: query.to,
        after: query.cursor,
        limit: query.limit,
        ..Listing::default()
    };
    let page = app
        .query(organization, move |app, cancel| {
            let page = app
                .engine
                .list(organization, &listing, cancel)
                .map_err(query_fault)?;
            let mut names = MeterNames::new(app, organization);
            let items = page
                .measurements
                .iter()
                .map(|listed| &listed.measurement)
                .map(|item| MeasurementView::of(item, names.of(item.meter)))
                .collect();
            Ok(Page {
                items,
                next_cursor: page.next.as_ref().map(format_cursor),
            })
        })
        .await?;
    Ok(Reply::ok(page))
}

/// Names for the engine's meter ids, each looked up once.
struct MeterNames<'a> {
    app: &'a App,
    organization: OrganizationId,
    seen: HashMap<MeterId, Option<String>>,
}

impl<'a> MeterNames<'a> {
    fn new(app: &'a App, organization: OrganizationId) -> Self {
        Self {
            app,
            organization,
            seen: HashMap::new(),
        }
    }

    fn of(&mut self, meter: MeterId) -> Option<String> {
        let (app, organization) = (self.app, self.organization);
        self.seen
            .entry(meter)
            .or_insert_with(|| {
                let found = app.control.store().find::<Meter>(organization, meter.0);
                Some(found.ok()??.document.name.to_string())
            })
            .clone()
    }
}

/// What became of one measurement.
#[derive(Debug, Serialize)]
pub(crate) struct TraceView {
    id: String,
    /// Of the newest version: `accepted`, `replaced` or `voided`.
    verdict: &'static str,
    received_at: String,
    meter: Option<String>,
    /// The calendar windows in UTC whose sums include it; empty once it is voided.
    counted_in: BTreeMap<&'static str, WindowView>,
    /// Oldest first; of very many the newest.
    versions: Vec<VersionView>,
    /// Whether there are older versions than those listed.
    more_versions: bool,
}

#[derive(Debug, Serialize)]
struct WindowView {
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
struct VersionView {
    verdict: &'static str,
    received_at: String,
    measurement: Option<MeasurementView>,
}

pub(crate) async fn trace_measurement(
    State(app): State<App>,
    permit: Permit<MeasurementsRead>,
    params: Params,
) -> Result<Reply<TraceView>, Failure> {
    let organization = permit.organization;
    let asked = params.get("id");
    let not_found = Kind::ResourceNotFound {
        resource: Resource::Measurement,
        id: meterd_fault::quote(asked),
    };
    // A text that can be no id names nothing.
    let Ok(id) = MeasurementId::new(asked) else {
        return Err(not_found.into());
    };
    let view = app
        .query(organization, move |app, cancel| {
            let trace = (app.engine)
                .trace(organization, &id, VERSIONS_MAX, cancel)
                .map_err(query_fault)?
                .ok_or(not_found)?;
            trace_view(app, organization, &id, &trace)
        })
        .await?;
    Ok(Reply::ok(view))
}

/// Most versions that one answer shows: the newest.
const VERSIONS_MAX: usize = 1000;

fn trace_view(
    app: &App,
    organization: OrganizationId,
    id: &MeasurementId,
    trace: &Trace,
) -> Result<TraceView, Fault> {
    let newest = trace
        .versions
        .last()
        .ok_or_else(|| Fault::internal("a measurement without versions"))?;
    let mut names = MeterNames::new(app, organization);
    let newest_measurement = newest.measurement.as_ref();
    Ok(TraceView {
        id: id.to_string(),
        verdict: verdict_of(newest.action),
        received_at: newest.received.to_string(),
        meter: trace
            .versions
            .iter()
            .rev()
            .find_map(|version| version.measurement.as_ref())
            .and_then(|measurement| names.of(measurement.meter)),
        counted_in: newest_measurement.map_or_else(BTreeMap::new, |m| windows_of(m.time)),
        versions: trace
            .versions
            .iter()
            .map(|version| VersionView {
                verdict: verdict_of(version.action),
                received_at: version.received.to_string(),
                measurement: version
                    .measurement
                    .as_ref()
                    .map(|m| MeasurementView::of(m, names.of(m.meter))),
            })
            .collect(),
        more_versions: trace.more,
    })
}

fn verdict_of(action: Action) -> &'static str {
    match action {
        Action::Stored => "accepted",
        Action::Replaced => "replaced",
        Action::Voided => "voided",
    }
}

fn windows_of(time: Timestamp) -> BTreeMap<&'static str, WindowView> {
    Window::ALL
        .into_iter()
        .map(|window| {
            let (from, to) = window.around(time, &Zone::UTC);
            let view = WindowView {
                from: from.to_string(),
                to: to.to_string(),
            };
            (window.as_str(), view)
        })
        .collect()
}
