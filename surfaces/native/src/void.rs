//! Withdrawing measurements: they no longer count, and their trace stays.

use crate::access::MeasurementsWrite;
use crate::app::App;
use crate::measurement::Happened;
use axum::extract::State;
use meterd_engine::{VoidOutcome, VoidReceipt};
use meterd_fault::{Fault, Kind, Location, Resource};
use meterd_http::fields::{Fields, texts_of};
use meterd_http::{
    Body, Checked, Context, Failure, LongWork, NoContent, Params, Permit, Reply, submit_fault,
};
use meterd_model::{MeasurementId, OrganizationId, Timestamp};
use serde::Serialize;

/// Most ids in one request.
const IDS_MAX: usize = 10_000;

/// Ids to withdraw.
#[derive(Debug)]
pub(crate) struct Voids(Vec<MeasurementId>);

impl Checked for Voids {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let items = fields.required_array("ids", IDS_MAX)?;
        let location = Location::Body("/ids".to_owned());
        let ids = texts_of(items, &location, fields.problems(), MeasurementId::new);
        Some(Self(ids))
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct VoidAnswer {
    voided: u64,
    already_voided: u64,
    not_found: u64,
    /// Those that were not voided now.
    items: Vec<VoidItem>,
}

#[derive(Debug, Serialize)]
struct VoidItem {
    index: usize,
    id: String,
    outcome: &'static str,
}

/// `DELETE /v1/measurements/{id}`. Withdrawing twice is no error.
pub(crate) async fn void_measurement(
    State(app): State<App>,
    context: Context,
    permit: Permit<MeasurementsWrite>,
    params: Params,
) -> Result<NoContent, Failure> {
    let asked = params.get("id");
    let not_found = || Kind::ResourceNotFound {
        resource: Resource::Measurement,
        id: meterd_fault::quote(asked),
    };
    // A text that can be no id names nothing.
    let id = MeasurementId::new(asked).map_err(|_| not_found())?;
    let receipt = void(&app, permit.organization, vec![id], context.now).await?;
    match receipt.outcomes.first() {
        Some(VoidOutcome::Voided) => {
            let happened = Happened {
                app: &app,
                permit: &permit,
                context: &context,
            };
            let counts = vec![("requests", 1), ("voided", 1)];
            happened.record("measurements.voided", counts).await;
            Ok(NoContent)
        }
        Some(VoidOutcome::AlreadyVoided) => Ok(NoContent),
        Some(VoidOutcome::NotFound) | None => Err(not_found().into()),
    }
}

/// `POST /v1/voids`: many at once.
pub(crate) async fn void_measurements(
    State(app): State<App>,
    context: Context,
    permit: Permit<MeasurementsWrite>,
    Body(Voids(ids)): Body<Voids>,
) -> Result<Reply<VoidAnswer>, Failure> {
    let receipt = void(&app, permit.organization, ids.clone(), context.now).await?;
    let mut answer = VoidAnswer::default();
    for (index, (id, outcome)) in ids.iter().zip(receipt.outcomes).enumerate() {
        let outcome = match outcome {
            VoidOutcome::Voided => {
                answer.voided += 1;
                continue;
            }
            VoidOutcome::AlreadyVoided => {
                answer.already_voided += 1;
                "already_voided"
            }
            VoidOutcome::NotFound => {
                answer.not_found += 1;
                "not_found"
            }
        };
        let id = id.to_string();
        answer.items.push(VoidItem { index, id, outcome });
    }
    if answer.voided > 0 {
        let happened = Happened {
            app: &app,
            permit: &permit,
            context: &context,
        };
        let counts = vec![("requests", 1), ("voided", answer.voided)];
        happened.record("measurements.voided", counts).await;
    }
    Ok(Reply::ok(answer))
}

async fn void(
    app: &App,
    organization: OrganizationId,
    ids: Vec<MeasurementId>,
    now: Timestamp,
) -> Result<VoidReceipt, Fault> {
    // What is withdrawn is mostly sealed, so that its ids are read from the disk.
    let void = move |app: &App| {
        app.engine
            .void(organization, ids, now)
            .map_err(submit_fault)
    };
    let ticket = app.blocking(void).await?;
    ticket.await.map_err(submit_fault)
}
