//! Thresholds of meters: what happens when a reading reaches one (5.4).
//!
//! That a reading will reach it is noted with the meter before the reading is stored, and settled after: so it is acted on
//! once, also if the server stops in between. What was left, then or by a fault, is settled at the next start, or by whoever
//! takes the meter's next reading; the reading itself is stored and answered whatever becomes of it.

use crate::asset::Asset;
use crate::company::data_sets;
use crate::job::Job;
use crate::meter::AssetMeter;
use crate::record::{Look, append_event, create_numbered, replace_changed};
use crate::register::{Register, adopt_engine_meters};
use crate::wire::{Word, words};
use meterd_control::{Author, Control, Store, Stored, Writes, is_full};
use meterd_engine::Engine;
use meterd_fault::Fault;
use meterd_http::ExactNumber;
use meterd_model::MeasurementId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// The index key of meters whose crossing is to be settled.
pub(crate) const UNSETTLED: (&str, &str) = ("unsettled", "yes");

words! {
    /// What is done besides the alert.
    ThresholdAction { Alert = "alert", CreateJob = "create_job" }
}

/// That a reading reached the threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Crossing {
    pub(crate) reading_id: u64,
    measurement: MeasurementId,
    value: ExactNumber,
    /// Whether it was acted on; until then the reading may not be stored.
    pub(crate) is_settled: bool,
    job_id: Option<u64>,
}

/// What an answer says of it.
#[derive(Debug, Serialize)]
pub(crate) struct ThresholdView {
    crossed: bool,
    action: &'static str,
    job_id: Option<u64>,
}

impl Crossing {
    /// By a reading that is about to be stored.
    pub(crate) fn ahead(reading_id: u64, measurement: MeasurementId, value: ExactNumber) -> Self {
        Self {
            reading_id,
            measurement,
            value,
            is_settled: false,
            job_id: None,
        }
    }
}

impl ThresholdView {
    /// Of the reading, if it reached the threshold.
    pub(crate) fn of(meter: &AssetMeter, reading_id: u64) -> Option<Self> {
        let crossing = meter.crossing.as_ref()?;
        (crossing.reading_id == reading_id).then(|| Self {
            crossed: true,
            action: meter.threshold_action.word(),
            job_id: crossing.job_id,
        })
    }
}

/// Settles whatever was left when the server stopped, and takes charge of the engine meters of assets. To be called before
/// anybody is served. What cannot be settled now keeps nothing else from it; the first fault is returned.
pub fn settle_all(control: &Control, engine: &Engine, author: &Author) -> Result<(), Fault> {
    let store = control.store();
    let mut settled = Ok(());
    for space in data_sets(store)? {
        let adopted = store.write(author, |writes| adopt_engine_meters(writes, space));
        settled = settled.and(adopted);
        for meter in Look::of(store, space).every::<AssetMeter>(&[UNSETTLED])? {
            settled = settled.and(settle(store, engine, author, meter).map(|_| ()));
        }
    }
    settled
}

/// Acts on what was noted of the meter, if its reading is stored; else forgets it. The caller holds the meter's turn.
pub(crate) fn settle(
    store: &Store,
    engine: &Engine,
    author: &Author,
    stored: Arc<Stored<AssetMeter>>,
) -> Result<Arc<Stored<AssetMeter>>, Fault> {
    let crossing = stored.document.crossing.as_ref();
    let Some(crossing) = crossing.filter(|crossing| !crossing.is_settled) else {
        return Ok(stored);
    };
    let register = Register::new(engine, &stored)?;
    let is_stored = register.find(&crossing.measurement)?.is_some();
    let settle_with = |action| {
        store.write(author, |writes| {
            let current = writes.get::<AssetMeter>(stored.organization, stored.id)?;
            // A write may have been told as failed that was not.
            if current.document.crossing != stored.document.crossing {
                return Ok(current);
            }
            let mut meter = current.document.clone();
            meter.crossing = if is_stored {
                Some(act(writes, &current, crossing, action)?)
            } else {
                None
            };
            replace_changed(writes, &current, meter)
        })
    };
    match settle_with(stored.document.threshold_action) {
        // An organization that has no room for the job gets the alert all the same.
        Err(fault) if is_full(&fault) => {
            log(&stored, "a job could not be opened", &fault);
            settle_with(ThresholdAction::Alert)
        }
        settled => settled,
    }
}

/// [`settle`] where nobody waits for it: what cannot be settled now is left to whoever comes next.
pub(crate) fn try_settle(
    store: &Store,
    engine: &Engine,
    author: &Author,
    stored: Arc<Stored<AssetMeter>>,
) -> Arc<Stored<AssetMeter>> {
    settle(store, engine, author, Arc::clone(&stored)).unwrap_or_else(|fault| {
        log(&stored, "a threshold is settled later", &fault);
        stored
    })
}

fn log(stored: &Stored<AssetMeter>, what: &str, fault: &Fault) {
    tracing::warn!(
        organization = %stored.organization,
        meter = stored.document.meter_id,
        "{what}: {}, {}",
        fault.kind,
        fault.log_context().unwrap_or("no context")
    );
}

/// The alert is an event. A job needs a place to go to, which the asset may not have.
fn act(
    writes: &mut Writes<'_>,
    stored: &Stored<AssetMeter>,
    crossing: &Crossing,
    action: ThresholdAction,
) -> Result<Crossing, Fault> {
    let (space, meter) = (stored.organization, &stored.document);
    let look = Look::of(writes.store(), space);
    let asset = meter.asset(&look)?;
    let job = match action {
        ThresholdAction::Alert => None,
        ThresholdAction::CreateJob => {
            let (title, description) = words_of(&asset.document, meter, crossing);
            let now = writes.author().at;
            Job::about(&look, &asset.document, &title, description, now)?
        }
    };
    let job = job.map(|job| create_numbered(writes, space, job));
    let job_id = job.transpose()?.map(|job| job.document.job_id);
    let data = json!({
        "asset_id": meter.asset_id,
        "meter_id": meter.meter_id,
        "reading_id": crossing.reading_id,
        "reading_value": crossing.value.0.to_string(),
        "threshold_value": meter.threshold_value.map(|threshold| threshold.0.to_string()),
        "job_id": job_id,
    });
    append_event(writes, stored, "threshold", data)?;
    Ok(Crossing {
        is_settled: true,
        job_id,
        ..crossing.clone()
    })
}

/// Title and description of a job.
fn words_of(asset: &Asset, meter: &AssetMeter, crossing: &Crossing) -> (String, String) {
    let (name, tag) = (&asset.asset_name, &asset.asset_tag);
    let (meter, unit) = (&meter.meter_name, &meter.unit);
    (
        format!("{name} ({tag}): {meter} threshold reached"),
        format!("The reading of {meter} is {} {unit}.", crossing.value.0),
    )
}
