//! Jobs: what is to be done at a location (4.1, 5.1).

use crate::access::{JobsRead, JobsWrite};
use crate::asset::Asset;
use crate::customer::Customer;
use crate::location::Location;
use crate::page::{Filters, Search};
use crate::record::{At, Editable, Listed, Look, Nothing, Record, Shown, View, names};
use crate::service::record_completion;
use crate::status::{Stateful, admit_status, read_status, statuses};
use crate::technician::Technician;
use crate::wire::{
    Moment, NAME_MAX, TEXT_MAX, Word, id, kept, moment, optional, required, rule, text, time_bound,
    words,
};
use meterd_control::{Admission, Document, Reference, Resource, Stored, Writes};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use meterd_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most assets of one job.
const ASSETS_MAX: usize = 100;
/// Hours until a job is due where its customer says nothing (1.1).
const SLA_HOURS: i64 = 24;
const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) job_id: u64,
    pub(crate) job_title: String,
    pub(crate) job_description: String,
    pub(crate) job_status: JobStatus,
    pub(crate) job_priority: Priority,
    pub(crate) assigned_technician_id: Option<u64>,
    pub(crate) customer_location_id: u64,
    /// The location's.
    pub(crate) customer_id: u64,
    pub(crate) scheduled_start: Option<Moment>,
    pub(crate) scheduled_end: Option<Moment>,
    pub(crate) actual_start: Option<Moment>,
    pub(crate) actual_end: Option<Moment>,
    pub(crate) asset_ids: Vec<u64>,
    /// Kept, and not shown (1.1).
    pub(crate) sla_due_date: Option<Moment>,
}

statuses! {
    JobStatus {
        Pending = "Pending",
        Assigned = "Assigned",
        InTransit = "In-Transit",
        Arrived = "Arrived",
        InProgress = "In Progress",
        OnHold = "On Hold",
        Completed = "Completed",
        Cancelled = "Cancelled",
        Declined = "Declined",
    }
    Pending => Assigned, InTransit, InProgress, OnHold, Cancelled, Declined;
    Assigned => Pending, InTransit, InProgress, OnHold, Cancelled, Declined;
    InTransit => Assigned, Arrived, InProgress, OnHold, Cancelled, Declined;
    Arrived => InProgress, OnHold, Cancelled, Declined;
    InProgress => OnHold, Completed, Cancelled;
    OnHold => Assigned, InTransit, InProgress, Cancelled;
    Completed => ;
    Cancelled => ;
    Declined => ;
}

words! {
    Priority { Low = "Low", Medium = "Medium", High = "High", Urgent = "Urgent" }
}

/// A job as it is shown, but for what every record has.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    job_id: u64,
    job_title: String,
    job_description: String,
    job_status: JobStatus,
    job_priority: Priority,
    assigned_technician_id: Option<u64>,
    assigned_technician_name: Option<String>,
    customer_location_id: u64,
    customer_location_name: Option<String>,
    customer_id: u64,
    customer_name: Option<String>,
    scheduled_start: Option<Moment>,
    scheduled_end: Option<Moment>,
    actual_start: Option<Moment>,
    actual_end: Option<Moment>,
    assets: Vec<LinkedAsset>,
}

#[derive(Debug, Serialize)]
struct LinkedAsset {
    asset_id: u64,
    id: u64,
    asset_tag: String,
    asset_name: String,
    status: &'static str,
}

impl Document for Job {
    const KIND: &'static str = "fsm-navigator/job";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Job;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key()]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![
            ("status", self.job_status.word().to_owned()),
            ("priority", self.job_priority.word().to_owned()),
            ("customer_id", self.customer_id.to_string()),
            (
                "customer_location_id",
                self.customer_location_id.to_string(),
            ),
        ];
        let technician = self.assigned_technician_id;
        keys.extend(technician.map(|id| ("assigned_technician_id", id.to_string())));
        keys
    }
}

impl Resource for Job {
    fn references(&self) -> Vec<Reference> {
        let mut references = vec![names::<Location>(
            "/customer_location_id",
            self.customer_location_id,
        )];
        let technician = self.assigned_technician_id;
        references.extend(technician.map(|id| names::<Technician>("/assigned_technician_id", id)));
        let assets = self.asset_ids.iter().enumerate();
        references
            .extend(assets.map(|(index, id)| names::<Asset>(format!("/asset_ids/{index}"), *id)));
        references
    }

    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        admit_status(self, admission)
    }
}

impl Record for Job {
    const ID: &'static str = "job_id";

    fn number(&self) -> u64 {
        self.job_id
    }

    fn set_number(&mut self, number: u64) {
        self.job_id = number;
    }

    fn follow(
        writes: &mut Writes<'_>,
        before: Option<&Stored<Self>>,
        after: &Stored<Self>,
    ) -> Result<(), Fault> {
        let was = before.map(|before| before.document.job_status);
        if after.document.job_status == JobStatus::Completed && was != Some(JobStatus::Completed) {
            record_completion(writes, after)?;
        }
        Ok(())
    }
}

impl Shown for Job {
    type Read = JobsRead;
    type View = View<JobView>;
    const ONE: &'static str = "job";

    fn view(stored: &Stored<Self>, look: &Look<'_>) -> Result<Self::View, Fault> {
        let job = stored.document.clone();
        let technician = look.find_some::<Technician>(job.assigned_technician_id)?;
        let location = look.find::<Location>(job.customer_location_id)?;
        let customer = look.find::<Customer>(job.customer_id)?;
        let mut assets = Vec::with_capacity(job.asset_ids.len());
        for id in job.asset_ids {
            let asset = look.find::<Asset>(id)?;
            assets.extend(asset.map(|stored| LinkedAsset::of(&stored.document)));
        }
        let shown = JobView {
            job_id: job.job_id,
            job_title: job.job_title,
            job_description: job.job_description,
            job_status: job.job_status,
            job_priority: job.job_priority,
            assigned_technician_id: job.assigned_technician_id,
            assigned_technician_name: technician.map(|t| t.document.full_name()),
            customer_location_id: job.customer_location_id,
            customer_location_name: location.map(|l| l.document.location_name.clone()),
            customer_id: job.customer_id,
            customer_name: customer.map(|c| c.document.customer_name.clone()),
            scheduled_start: job.scheduled_start,
            scheduled_end: job.scheduled_end,
            actual_start: job.actual_start,
            actual_end: job.actual_end,
            assets,
        };
        Ok(View::of(stored, shown, Nothing {}))
    }
}

impl LinkedAsset {
    fn of(asset: &Asset) -> Self {
        Self {
            asset_id: asset.asset_id,
            id: asset.asset_id,
            asset_tag: asset.asset_tag.clone(),
            asset_name: asset.asset_name.clone(),
            status: asset.status.word(),
        }
    }
}

impl Listed for Job {
    fn filters(fields: &mut Fields<'_>, _: &Look<'_>) -> Result<Filters<Self>, Fault> {
        fields.alias("customer_location_id", "location_id");
        let mut filters = Filters::read(fields);
        let status = JobStatus::read(fields, "status");
        filters.equal("status", status.map(Word::word));
        let priority = Priority::read(fields, "priority");
        filters.equal("priority", priority.map(Word::word));
        for name in [
            "assigned_technician_id",
            "customer_id",
            "customer_location_id",
        ] {
            filters.equal(name, id(fields, name));
        }
        filters.when(Search::read(fields), |search, stored| {
            let job: &Self = &stored.document;
            search.is_in(&job.job_title) || search.is_in(&job.job_description)
        });
        let after = time_bound(fields, "scheduled_after");
        filters.when(after, |after, stored| {
            let start = stored.document.scheduled_start;
            start.is_some_and(|start| start > *after)
        });
        let before = time_bound(fields, "scheduled_before");
        filters.when(before, |before, stored| {
            let start = stored.document.scheduled_start;
            start.is_some_and(|start| start < *before)
        });
        Ok(filters)
    }
}

impl Editable for Job {
    type Write = JobsWrite;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before;
        let job_title = required(
            fields,
            "job_title",
            before.map(|b| &b.job_title),
            text(NAME_MAX),
        );
        let customer_location_id = required(
            fields,
            "customer_location_id",
            before.map(|b| &b.customer_location_id),
            id,
        );
        let job_description = optional(
            fields,
            "job_description",
            before.map(|b| b.job_description.clone()),
            text(TEXT_MAX),
        );
        let job_priority = kept(
            fields,
            "job_priority",
            before.map(|b| b.job_priority),
            Priority::read,
        );
        let assigned_technician_id = optional(
            fields,
            "assigned_technician_id",
            before.and_then(|b| b.assigned_technician_id),
            id,
        );
        let mut time = |name, before: Option<Moment>| optional(fields, name, before, moment);
        let scheduled_start = time("scheduled_start", before.and_then(|b| b.scheduled_start));
        let scheduled_end = time("scheduled_end", before.and_then(|b| b.scheduled_end));
        let sla_due_date = time("sla_due_date", before.and_then(|b| b.sla_due_date));
        if let (Some(start), Some(end)) = (scheduled_start, scheduled_end)
            && end < start
        {
            let rule = rule("order", "must not be before scheduled_start");
            fields.refuse("scheduled_end", rule);
        }
        let asset_ids = kept(
            fields,
            "asset_ids",
            before.map(|b| b.asset_ids.clone()),
            ids,
        );
        let mut job = Self {
            job_id: before.map_or(0, |b| b.job_id),
            job_title: job_title?,
            job_description: job_description.unwrap_or_default(),
            job_status: before.map_or(JobStatus::Pending, |b| b.job_status),
            job_priority: job_priority.unwrap_or(Priority::Medium),
            assigned_technician_id,
            customer_location_id: customer_location_id?,
            customer_id: before.map_or(0, |b| b.customer_id),
            scheduled_start,
            scheduled_end,
            actual_start: before.and_then(|b| b.actual_start),
            actual_end: before.and_then(|b| b.actual_end),
            asset_ids: asset_ids.unwrap_or_default(),
            sla_due_date,
        };
        job.read_status(fields, at);
        Some(job)
    }

    fn complete(&mut self, at: &At<'_, Self>) -> Result<(), Fault> {
        let location = at.look.find::<Location>(self.customer_location_id)?;
        // One that is not there is told with the other references.
        self.customer_id = location.map_or(0, |location| location.document.customer_id);
        if at.before.is_none() && self.sla_due_date.is_none() {
            self.sla_due_date = Some(due(&at.look, at.now, self.customer_id)?);
        }
        Ok(())
    }
}

impl Job {
    /// A new one about an asset, at the asset's location; none if it has no location.
    pub(crate) fn about(
        look: &Look<'_>,
        asset: &Asset,
        title: &str,
        description: String,
        now: Timestamp,
    ) -> Result<Option<Self>, Fault> {
        let Some(location) = look.find_some::<Location>(asset.location_id)? else {
            return Ok(None);
        };
        let customer_id = location.document.customer_id;
        Ok(Some(Self {
            job_id: 0,
            job_title: title.chars().take(NAME_MAX).collect(),
            job_description: description,
            job_status: JobStatus::Pending,
            job_priority: Priority::Medium,
            assigned_technician_id: None,
            customer_location_id: location.document.location_id,
            customer_id,
            scheduled_start: None,
            scheduled_end: None,
            actual_start: None,
            actual_end: None,
            asset_ids: vec![asset.asset_id],
            sla_due_date: Some(due(look, now, customer_id)?),
        }))
    }

    /// A new job waits, or is assigned if it has somebody; another one changes as its status allows.
    fn read_status(&mut self, fields: &mut Fields<'_>, at: &At<'_, Self>) {
        let Some(status) = read_status::<Self>(fields) else {
            return;
        };
        let may_begin = status == JobStatus::Pending
            || status == JobStatus::Assigned && self.assigned_technician_id.is_some();
        if at.before.is_none() && !may_begin {
            let text = "must be Pending for a new job, or Assigned with a technician";
            fields.refuse("job_status", rule("first_status", text));
        } else if status != self.job_status {
            self.enter(status, at.now);
        }
    }
}

impl Stateful for Job {
    type Status = JobStatus;
    const STATUS: [&'static str; 2] = ["job_status", "status"];
    const REASON: &'static str = "notes";

    fn status(&self) -> JobStatus {
        self.job_status
    }

    fn enter(&mut self, status: JobStatus, now: Timestamp) {
        self.job_status = status;
        match status {
            JobStatus::InProgress if self.actual_start.is_none() => {
                self.actual_start = Some(Moment::of(now));
            }
            JobStatus::Completed => self.actual_end = Some(Moment::of(now)),
            _ => {}
        }
    }
}

/// When a job of this customer is due, counted from now.
fn due(look: &Look<'_>, now: Timestamp, customer: u64) -> Result<Moment, Fault> {
    let customer = look.find::<Customer>(customer)?;
    let hours = customer.and_then(|stored| stored.document.default_sla_hours);
    let hours = u32::try_from(hours.unwrap_or(SLA_HOURS)).unwrap_or(u32::MAX);
    Ok(Moment::of(now.saturating_add(HOUR * hours)))
}

/// Ids of things, each once.
fn ids(fields: &mut Fields<'_>, name: &'static str) -> Option<Vec<u64>> {
    let mut ids = fields.integers(name, ASSETS_MAX, 1, i64::MAX)?;
    ids.sort_unstable();
    ids.dedup();
    Some(
        ids.into_iter()
            .filter_map(|id| u64::try_from(id).ok())
            .collect(),
    )
}
