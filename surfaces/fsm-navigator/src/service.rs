//! Service records: what was done to an asset, told by whoever did it or left by a completed job (4.3).

use crate::access::{Access, AssetsRead, AssetsService};
use crate::app::App;
use crate::asset::Asset;
use crate::envelope::Many;
use crate::job::Job;
use crate::page::Filters;
use crate::record::{
    At, Editable, Found, Look, Record, Shown, View, create_numbered, list_with, names,
};
use crate::technician::Technician;
use crate::wire::{Moment, NAME_MAX, TEXT_MAX, amount, id, moment, required, text};
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Document, Reference, Resource, Stored, Writes};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use meterd_http::{ExactNumber, Failure, Reply};
use serde::{Deserialize, Serialize};

/// What records are called that jobs leave.
const JOB: &str = "job";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    service_record_id: u64,
    asset_id: u64,
    service_type: String,
    service_date: Moment,
    description: Option<String>,
    technician_id: Option<u64>,
    job_id: Option<u64>,
    cost: Option<ExactNumber>,
    notes: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Joined {
    technician_name: Option<String>,
}

impl Document for ServiceRecord {
    const KIND: &'static str = "fsm-navigator/service-record";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Resource;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key()]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("asset_id", self.asset_id.to_string())]
    }
}

impl Resource for ServiceRecord {
    fn references(&self) -> Vec<Reference> {
        let technician = self.technician_id;
        let technician = technician.map(|id| names::<Technician>("/technician_id", id));
        let job = self.job_id.map(|id| names::<Job>("/job_id", id));
        technician.into_iter().chain(job).collect()
    }
}

impl Record for ServiceRecord {
    const ID: &'static str = "service_record_id";

    fn number(&self) -> u64 {
        self.service_record_id
    }

    fn set_number(&mut self, number: u64) {
        self.service_record_id = number;
    }
}

impl Shown for ServiceRecord {
    type Read = AssetsRead;
    type View = View<Self, Joined>;
    const ONE: &'static str = "service_record";

    fn view(stored: &Stored<Self>, look: &Look<'_>) -> Result<Self::View, Fault> {
        let technician = look.find_some::<Technician>(stored.document.technician_id)?;
        let technician_name = technician.map(|technician| technician.document.full_name());
        let joined = Joined { technician_name };
        Ok(View::of(stored, stored.document.clone(), joined))
    }
}

impl Editable for ServiceRecord {
    type Write = AssetsService;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let service_type = required(fields, "service_type", None, text(NAME_MAX));
        let service_date = moment(fields, "service_date");
        let description = text(TEXT_MAX)(fields, "description");
        let technician_id = id(fields, "technician_id");
        let job_id = id(fields, "job_id");
        let cost = amount(fields, "cost");
        let notes = text(TEXT_MAX)(fields, "notes");
        Some(Self {
            service_record_id: 0,
            asset_id: at.above(),
            service_type: service_type?,
            service_date: service_date.unwrap_or(Moment::of(at.now)),
            description,
            technician_id,
            job_id,
            cost,
            notes,
        })
    }
}

/// `GET /assets?id=&sub=service_history`
pub(crate) async fn list_service_history(
    State(app): State<App>,
    access: Access<AssetsRead>,
    Found(asset): Found<Asset>,
    uri: Uri,
) -> Result<Reply<Many<<ServiceRecord as Shown>::View>>, Failure> {
    list_with(&app, &access, &uri, move |_, _| {
        let mut filters = Filters::<ServiceRecord>::none();
        filters.equal("asset_id", Some(asset.document.asset_id));
        Ok(filters)
    })
    .await
}

/// Leaves a record with each asset of a job that is done.
pub(crate) fn record_completion(
    writes: &mut Writes<'_>,
    stored: &Stored<Job>,
) -> Result<(), Fault> {
    let job = &stored.document;
    for asset_id in &job.asset_ids {
        let record = ServiceRecord {
            service_record_id: 0,
            asset_id: *asset_id,
            service_type: JOB.to_owned(),
            service_date: job.actual_end.unwrap_or(Moment::of(stored.modified_at)),
            description: Some(job.job_title.clone()),
            technician_id: job.assigned_technician_id,
            job_id: Some(job.job_id),
            cost: None,
            notes: None,
        };
        create_numbered(writes, stored.organization, record)?;
    }
    Ok(())
}
