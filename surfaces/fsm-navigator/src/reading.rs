//! Readings of meters: `POST /assets?id=&sub=meter_reading` (4.3, 5.3).
//!
//! A reading is a measurement in the engine, under an id made of meter, second and value, so that a repeat finds it. One
//! reading of a meter is taken at a time: what it stands between stays so until it is stored.

use crate::access::{Access, AssetsMeter};
use crate::app::App;
use crate::envelope::{Beside, One};
use crate::job::Job;
use crate::meter::{AssetMeter, MeterView, Metered};
use crate::record::Look;
use crate::register::{Current, Entry, JOB_ID, READING_ID, Register, SOURCE};
use crate::threshold::{Crossing, ThresholdView, settle, try_settle};
use crate::wire::{Moment, NAME_MAX, TEXT_MAX, id, moment, refused, required, rule, text};
use axum::extract::State;
use meterd_control::{Author, Document, Store, Stored};
use meterd_engine::{Batch, OnConflict};
use meterd_fault::{Fault, JsonType, Rule};
use meterd_http::fields::{Fields, Form, decimal_rule};
use meterd_http::json::Json;
use meterd_http::{AnyJson, ExactNumber, ExactSum, Failure, LongWork, Reply};
use meterd_model::{Decimal, DecimalSum, Measurement, MeasurementId, OrganizationId, Timestamp};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How far ahead of the server's clock a reading may be.
pub(crate) const AHEAD_MAX: Duration = Duration::from_mins(5);
/// What readings are counted under.
pub(crate) const READINGS: &str = "fsm-navigator/reading";
/// Where readings come from that come through here.
const API: &str = "api";

/// What somebody noted with a reading. It may be longer than an attribute, so it is kept beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadingNote {
    reading_id: u64,
    notes: String,
}

impl Document for ReadingNote {
    const KIND: &'static str = "fsm-navigator/reading-note";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Measurement;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("reading_id", self.reading_id.to_string())]
    }
}

/// A reading as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ReadingView {
    reading_id: u64,
    id: u64,
    meter_id: u64,
    asset_id: u64,
    reading_value: ExactNumber,
    previous_value: ExactNumber,
    delta: ExactSum,
    unit: String,
    reading_date: Moment,
    source: String,
    job_id: Option<u64>,
    notes: Option<String>,
    created_at: Moment,
}

/// What an answer has beside the reading.
#[derive(Debug)]
pub(crate) struct Effects {
    meter: MeterView,
    threshold: Option<ThresholdView>,
}

impl Beside for Effects {
    fn write<M: SerializeMap>(&self, members: &mut M) -> Result<(), M::Error> {
        members.serialize_entry("meter", &self.meter)?;
        members.serialize_entry("threshold", &self.threshold)
    }
}

/// A reading as it is handed in.
#[derive(Debug)]
struct NewReading {
    meter: MeterAsked,
    value: Decimal,
    date: Option<Moment>,
    unit: Option<String>,
    job_id: Option<u64>,
    notes: Option<String>,
}

#[derive(Clone, Debug)]
enum MeterAsked {
    Id(u64),
    Name(String),
}

impl NewReading {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        for alias in ["meter", "meter_name", "meter_type"] {
            fields.alias("meter_id", alias);
        }
        for alias in ["reading", "value", "meter_reading"] {
            fields.alias("reading_value", alias);
        }
        for alias in ["recorded_at", "reading_at", "date"] {
            fields.alias("reading_date", alias);
        }
        let meter = required(fields, "meter_id", None, meter_asked);
        let value = required(fields, "reading_value", None, reading_value);
        let date = moment(fields, "reading_date");
        let unit = text(NAME_MAX)(fields, "unit");
        let job_id = id(fields, "job_id");
        let notes = text(TEXT_MAX)(fields, "notes");
        Some(Self {
            meter: meter?,
            value: value?,
            date,
            unit,
            job_id,
            notes,
        })
    }

    /// Rules that do not depend on other readings.
    fn check(&self, meter: &AssetMeter, look: &Look<'_>, now: Timestamp) -> Result<(), Fault> {
        if let Some(unit) = &self.unit
            && unit.to_lowercase() != meter.unit.to_lowercase()
        {
            let text = format!("must be the meter's unit ({})", meter.unit);
            return Err(refused("unit", rule("unit", text)));
        }
        let latest = now.saturating_add(AHEAD_MAX);
        if self.date.is_some_and(|date| date.time() > latest) {
            let rule = rule("future", "must not be more than 5 minutes ahead");
            return Err(refused("reading_date", rule));
        }
        if let Some(job) = self.job_id {
            look.named::<Job>("job_id", job)?;
        }
        Ok(())
    }
}

/// `POST /assets?id=&sub=meter_reading`: 201 for a new reading, 200 for one that is stored already.
pub(crate) async fn submit_reading(
    State(app): State<App>,
    access: Access<AssetsMeter>,
    metered: Metered,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<ReadingView, Effects>>, Failure> {
    let new = body.read(Form::LENIENT, NewReading::read)?;
    let meter = metered.meters.iter().find(|stored| match &new.meter {
        MeterAsked::Id(id) => stored.document.meter_id == *id,
        MeterAsked::Name(name) => stored.document.meter_name.to_lowercase() == *name,
    });
    let meter = meter.ok_or_else(|| metered.lacks_it())?;
    let (author, space) = (access.author(), access.space);
    new.check(&meter.document, &app.look(space), author.at)?;
    let (meter, number) = (meter.id, meter.document.meter_id);
    // Before the turn, which companies share, and to the end: what is stored is not told to come again.
    let slot = access.query_slot(&app).await?;
    // A task of its own goes on when the client goes away, so that nothing is left half done.
    let done = tokio::spawn(async move {
        let _slot = slot;
        let _turn = app.turns.take(&(space.0, number)).await;
        submit(&app, author, space, meter, new).await
    });
    let (view, effects, is_new) = done.await.map_err(Fault::internal)??;
    let one = One::of(&access.context, "meter_reading", view).with(effects);
    Ok(if is_new {
        Reply::created(one, None)
    } else {
        Reply::ok(one)
    })
}

/// A reading with what is around it: all that is told of it.
#[derive(Debug)]
struct Taken {
    reading_id: u64,
    value: Decimal,
    time: Timestamp,
    source: String,
    job_id: Option<u64>,
    received: Timestamp,
    /// What was read before it.
    previous: Decimal,
    /// What the meter is at with it.
    current: Current,
}

impl Taken {
    /// One that is stored already.
    fn again(entry: &Entry, register: &Register<'_>, meter: &AssetMeter) -> Result<Self, Fault> {
        let number = |name| entry.attribute(name)?.parse().ok();
        let previous = register.before(entry)?.map(|previous| previous.value);
        let Current { value, time } = entry.current();
        let last = register.last()?.map(|last| last.current());
        Ok(Self {
            reading_id: number(READING_ID).unwrap_or_default(),
            value,
            time,
            source: entry.attribute(SOURCE).unwrap_or_default().to_owned(),
            job_id: number(JOB_ID),
            received: entry.listed.received,
            previous: previous.unwrap_or(meter.initial_reading.0),
            current: last.unwrap_or(entry.current()),
        })
    }

    fn attributes(&self) -> [(&'static str, Option<String>); 3] {
        [
            (READING_ID, Some(self.reading_id.to_string())),
            (SOURCE, Some(self.source.clone())),
            (JOB_ID, self.job_id.map(|id| id.to_string())),
        ]
    }
}

/// Whether the reading is new is told besides. The caller holds a place and the meter's turn.
async fn submit(
    app: &App,
    author: Author,
    space: OrganizationId,
    meter: Uuid,
    new: NewReading,
) -> Result<(ReadingView, Effects, bool), Fault> {
    let (taken, measurement) = app
        .blocking(move |app| {
            let store = app.control.store();
            let meter = store.get::<AssetMeter>(space, meter)?;
            let meter = try_settle(store, &app.engine, &author, meter);
            accept(app, &author, &meter, new)
        })
        .await?;
    let is_new = measurement.is_some();
    if let Some(measurement) = measurement {
        let batch = Batch {
            organization: space,
            received: author.at,
            measurements: vec![measurement],
            // One that was voided comes again.
            on_conflict: OnConflict::Replace,
        };
        app.submit(batch, false).await?;
    }
    app.blocking(move |app| {
        let store = app.control.store();
        let meter = store.get::<AssetMeter>(space, meter)?;
        let meter = try_settle(store, &app.engine, &author, meter);
        let (view, effects) = show(store, &meter, taken)?;
        Ok((view, effects, is_new))
    })
    .await
}

/// Checks a reading against those it would stand between and numbers it. No measurement: it is stored already.
fn accept(
    app: &App,
    author: &Author,
    stored: &Arc<Stored<AssetMeter>>,
    new: NewReading,
) -> Result<(Taken, Option<Measurement>), Fault> {
    let (space, meter) = (stored.organization, &stored.document);
    let register = Register::new(&app.engine, stored)?;
    let (value, date) = (new.value, new.date.unwrap_or(Moment::of(author.at)));
    let id = reading_id(meter, date, value)?;
    if let Some(entry) = register.find(&id)? {
        return Ok((Taken::again(&entry, &register, meter)?, None));
    }
    meter.asset(&app.look(space))?.document.check_in_use()?;
    let place = register.place(date.time())?;
    let before = place.before.unwrap_or(meter.initial_reading.0);
    if value < before {
        let text = format!("must be greater than or equal to the previous reading ({before})");
        return Err(refused("reading_value", rule("less_than_previous", text)));
    }
    if let Some(after) = place.after.filter(|after| value > *after) {
        let text = format!("must be less than or equal to the next reading ({after})");
        return Err(refused("reading_value", rule("greater_than_next", text)));
    }
    let crosses = |threshold: ExactNumber| before < threshold.0 && threshold.0 <= value;
    let crosses = place.later.is_none() && meter.threshold_value.is_some_and(crosses);
    if crosses {
        // The note of an earlier one must not be lost.
        settle(app.control.store(), &app.engine, author, Arc::clone(stored))?;
    }
    let reading_id = app.control.store().write(author, |writes| {
        let reading_id = writes.next_number(space, READINGS)?;
        if let Some(notes) = new.notes {
            writes.create(space, ReadingNote { reading_id, notes })?;
        }
        if crosses {
            let crossing = Crossing::ahead(reading_id, id.clone(), ExactNumber(value));
            writes.update_though_full::<AssetMeter>(space, stored.id, None, |current| {
                let mut meter = current.document.clone();
                meter.crossing = Some(crossing);
                Ok(meter)
            })?;
        }
        Ok(reading_id)
    })?;
    let time = date.time();
    let taken = Taken {
        reading_id,
        value,
        time,
        source: API.to_owned(),
        job_id: new.job_id,
        received: author.at,
        previous: before,
        current: place.later.unwrap_or(Current { value, time }),
    };
    let measurement = register.measurement(id, time, value, &taken.attributes())?;
    Ok((taken, Some(measurement)))
}

/// What a reading is stored under: a repeat has the same.
pub(crate) fn reading_id(
    meter: &AssetMeter,
    date: Moment,
    value: Decimal,
) -> Result<MeasurementId, Fault> {
    let seconds = date.time().seconds();
    let id = format!("reading-{}-{seconds}-{value}", meter.meter_id);
    MeasurementId::new(id).map_err(Fault::internal)
}

/// A reading that is stored, and what came of it.
fn show(
    store: &Store,
    stored: &Stored<AssetMeter>,
    taken: Taken,
) -> Result<(ReadingView, Effects), Fault> {
    let (space, meter) = (stored.organization, &stored.document);
    let reading_id = taken.reading_id;
    let note = store.find_by_key::<ReadingNote>(space, "reading_id", &reading_id.to_string())?;
    let mut delta = DecimalSum::ZERO;
    delta.add(taken.value);
    delta.subtract(taken.previous);
    let view = ReadingView {
        reading_id,
        id: reading_id,
        meter_id: meter.meter_id,
        asset_id: meter.asset_id,
        reading_value: ExactNumber(taken.value),
        previous_value: ExactNumber(taken.previous),
        delta: ExactSum(delta),
        unit: meter.unit.clone(),
        reading_date: Moment::of(taken.time),
        source: taken.source,
        job_id: taken.job_id,
        notes: note.map(|note| note.document.notes.clone()),
        created_at: Moment::of(taken.received),
    };
    let effects = Effects {
        meter: MeterView::of(meter, Some(taken.current)),
        threshold: ThresholdView::of(meter, reading_id),
    };
    Ok((view, effects))
}

/// An id, as a number or in digits, or a name.
fn meter_asked(fields: &mut Fields<'_>, name: &'static str) -> Option<MeterAsked> {
    // What is too large for an id is that of no meter.
    let id = |text: &str| MeterAsked::Id(text.parse().unwrap_or(0));
    match fields.take(name)? {
        Json::Number(text) => match Decimal::parse(text.as_bytes()).map(Decimal::to_integer) {
            Ok(Some(integer)) => Some(id(&integer.to_string())),
            _ => refuse_type(fields, name, JsonType::Integer),
        },
        Json::String(text) => {
            let text = text.trim();
            let is_id = text.bytes().all(|b| b.is_ascii_digit());
            Some(if is_id {
                id(text)
            } else {
                MeterAsked::Name(text.to_lowercase())
            })
        }
        _ => refuse_type(fields, name, JsonType::Integer),
    }
}

/// A number, or a text that is one: not negative, below 10¹², with at most 4 digits after the point.
fn reading_value(fields: &mut Fields<'_>, name: &'static str) -> Option<Decimal> {
    /// Units of the decimal that the fourth digit after the point counts.
    const STEP_UNITS: i128 = Decimal::ONE.units() / 10_000;
    const LIMIT_UNITS: i128 = Decimal::ONE.units() * 1_000_000_000_000;
    let text = match fields.take(name)? {
        Json::Number(text) => text.into_string(),
        Json::String(text) => text,
        _ => return refuse_type(fields, name, JsonType::Number),
    };
    match Decimal::parse(text.trim().as_bytes()) {
        Ok(value)
            if (0..LIMIT_UNITS).contains(&value.units()) && value.units() % STEP_UNITS == 0 =>
        {
            return Some(value);
        }
        Ok(_) => {
            let text = "must be from 0 to below 1000000000000, with at most 4 decimals";
            fields.refuse(name, rule("reading", text));
        }
        Err(error) => fields.refuse(name, decimal_rule(error)),
    }
    None
}

fn refuse_type<T>(fields: &mut Fields<'_>, name: &str, expected: JsonType) -> Option<T> {
    fields.refuse(name, Rule::Type { expected });
    None
}
