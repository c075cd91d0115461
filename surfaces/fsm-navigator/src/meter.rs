//! Meters of assets. They are set up outside the API, which shows them with their asset (1.1, 5.3).

use crate::access::space;
use crate::app::App;
use crate::asset::Asset;
use crate::record::{Found, Look, Record, names};
use crate::register::{Current, Register};
use crate::threshold::{Crossing, ThresholdAction, UNSETTLED};
use crate::wire::{Moment, Word};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::{Document, Reference, Resource, Stored};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Kind};
use meterd_http::{Context, ExactNumber, Failure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AssetMeter {
    pub(crate) meter_id: u64,
    pub(crate) asset_id: u64,
    pub(crate) meter_name: String,
    pub(crate) unit: String,
    /// What the first reading may not be below. It is no reading: nobody knows of when it is.
    pub(crate) initial_reading: ExactNumber,
    pub(crate) threshold_value: Option<ExactNumber>,
    pub(crate) threshold_action: ThresholdAction,
    /// Whose subject the asset is.
    pub(crate) engine_meter: Uuid,
    /// The last time that its threshold was reached.
    pub(crate) crossing: Option<Crossing>,
}

/// A meter as it is shown, with what was read last.
#[derive(Debug, Serialize)]
pub(crate) struct MeterView {
    meter_id: u64,
    id: u64,
    meter_name: String,
    unit: String,
    initial_reading: ExactNumber,
    current_reading: ExactNumber,
    last_reading_at: Option<Moment>,
    threshold_value: Option<ExactNumber>,
    threshold_action: &'static str,
}

impl Document for AssetMeter {
    const KIND: &'static str = "fsm-navigator/asset-meter";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Meter;
    /// 2: it can be found by what is to be settled.
    const SCHEMA: u32 = 2;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let name = meter_key(self.asset_id, &self.meter_name);
        vec![self.id_key(), ("meter_name", name)]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("asset_id", self.asset_id.to_string())];
        if (self.crossing.as_ref()).is_some_and(|crossing| !crossing.is_settled) {
            let (name, value) = UNSETTLED;
            keys.push((name, value.to_owned()));
        }
        keys
    }
}

impl Resource for AssetMeter {
    fn references(&self) -> Vec<Reference> {
        vec![names::<Asset>("/asset", self.asset_id)]
    }
}

impl Record for AssetMeter {
    const ID: &'static str = "meter_id";

    fn number(&self) -> u64 {
        self.meter_id
    }

    fn set_number(&mut self, number: u64) {
        self.meter_id = number;
    }
}

impl AssetMeter {
    pub(crate) fn asset(&self, look: &Look<'_>) -> Result<Arc<Stored<Asset>>, Fault> {
        let asset = look.find(self.asset_id)?;
        asset.ok_or_else(|| Fault::internal("a meter has lost its asset"))
    }
}

impl MeterView {
    /// Of a meter that is at `current`, or was never read.
    pub(crate) fn of(meter: &AssetMeter, current: Option<Current>) -> Self {
        let value = current.map(|current| ExactNumber(current.value));
        Self {
            meter_id: meter.meter_id,
            id: meter.meter_id,
            meter_name: meter.meter_name.clone(),
            unit: meter.unit.clone(),
            initial_reading: meter.initial_reading,
            current_reading: value.unwrap_or(meter.initial_reading),
            last_reading_at: current.map(|current| Moment::of(current.time)),
            threshold_value: meter.threshold_value,
            threshold_action: meter.threshold_action.word(),
        }
    }
}

/// A meter's name is unique within its asset, in any case and whatever blanks are around it.
pub(crate) fn meter_key(asset: u64, name: &str) -> String {
    format!("{asset}/{}", name.trim().to_lowercase())
}

/// The meters of an asset, with what was read last.
pub(crate) fn meters_of(
    app: &App,
    asset: &Stored<Asset>,
    cancel: &Cancel,
) -> Result<Vec<MeterView>, Fault> {
    let meters = every_meter(&app.look(asset.organization), asset.document.asset_id)?;
    let views = meters.iter().map(|meter| {
        let register = Register::new(&app.engine, meter)?.until(cancel);
        let current = register.last()?.map(|last| last.current());
        Ok(MeterView::of(&meter.document, current))
    });
    views.collect()
}

fn every_meter(look: &Look<'_>, asset: u64) -> Result<Vec<Arc<Stored<AssetMeter>>>, Fault> {
    look.every(&[("asset_id", &asset.to_string())])
}

/// The asset that the path names, with its meters. Without any the request ends here, whatever its body says (4.3).
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) asset: Arc<Stored<Asset>>,
    pub(crate) meters: Vec<Arc<Stored<AssetMeter>>>,
}

impl FromRequestParts<App> for Metered {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let context = Context::from_request_parts(parts, app).await?;
        let Found(asset) = Found::<Asset>::from_request_parts(parts, app).await?;
        let meters = every_meter(&app.look(space(&context)?), asset.document.asset_id)?;
        let metered = Self { asset, meters };
        if metered.meters.is_empty() {
            return Err(metered.lacks_it().into());
        }
        Ok(metered)
    }
}

impl Metered {
    /// That the asset has no such meter.
    pub(crate) fn lacks_it(&self) -> Fault {
        let asset = self.asset.document.asset_id.to_string();
        Kind::MeterNotConfigured { asset }.into()
    }
}
