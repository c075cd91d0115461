//! Exports: what is asked for, and the jobs that make files of it (4.12).

use crate::access::{Access, Action, Allowed, Create, Guarded, Target};
use crate::app::App;
use crate::entity::{At, Entity, item, paths};
use crate::export_destination::ExportDestination;
use crate::export_usage::selection_of;
use crate::ingest::Measurements;
use crate::jobs::Job;
use crate::list::Filter;
use crate::operational::OperationalType;
use crate::transfer::Transfer;
use crate::wire::{CODE, ID, NAME, is_zero, kept_value, micros};
use axum::extract::State;
use meterd_control::{Admission, Document, Reference, Resource, refers};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::json::{Json, child};
use meterd_http::{Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{Date, Timestamp, Zone, check_text};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// How long the file of a job can be downloaded (4.12).
const DOWNLOAD_WINDOW: Duration = Duration::from_hours(24);
/// How long the address of a download works (4.12).
const URL_LIFETIME: Duration = Duration::from_mins(15);
/// Most ids, filters, aggregations or groups of one usage export.
const LIST_MAX: usize = 1_000;
/// Most jobs of an organization that have not begun.
const WAITING_MAX: usize = 100;
/// Most destinations of one export; each is a key of its schedule.
const DESTINATIONS_MAX: usize = 100;

/// A job that makes one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportJob {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule_id: Option<String>,
    pub(crate) source_type: SourceType,
    pub(crate) status: ExportStatus,
    pub(crate) date_created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<String>,
    /// What to export, until it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<ExportRequest>,
    /// In the store of files, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Uuid>,
    /// By how many servers it was begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) starts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SourceType {
    Usage,
    Operational,
}

impl SourceType {
    const WORDS: [(&'static str, Self); 2] =
        [("USAGE", Self::Usage), ("OPERATIONAL", Self::Operational)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ExportStatus {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl ExportStatus {
    const WORDS: [(&'static str, Self); 4] = [
        ("PENDING", Self::Pending),
        ("RUNNING", Self::Running),
        ("SUCCEEDED", Self::Succeeded),
        ("FAILED", Self::Failed),
    ];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, status)| *status == self);
        found.map_or("", |(word, _)| word)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum FileFormat {
    Csv,
    Jsonl,
}

/// What is exported, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportRequest {
    pub(crate) export_file_format: FileFormat,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_ids: Vec<String>,
    /// RFC 3339; without it from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_date: Option<String>,
    /// RFC 3339; without it until the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_date: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) operational_data_types: Vec<OperationalType>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) meter_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) account_ids: Vec<String>,
    /// These three as in a usage query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dimension_filters: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aggregations: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<Value>,
}

impl ExportRequest {
    /// With the source it names.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<(SourceType, Self)> {
        let source = fields.required_choice("sourceType", &SourceType::WORDS);
        let formats = [("CSV", FileFormat::Csv), ("JSONL", FileFormat::Jsonl)];
        let format = fields.choice("exportFileFormat", &formats);
        let mut request = Self {
            // The official client cannot send these two without tricks (9, 36).
            export_file_format: format.unwrap_or(FileFormat::Csv),
            destination_ids: read_texts(fields, "destinationIds", DESTINATIONS_MAX),
            start_date: None,
            end_date: None,
            operational_data_types: Vec::new(),
            meter_ids: Vec::new(),
            account_ids: Vec::new(),
            dimension_filters: Vec::new(),
            aggregations: Vec::new(),
            groups: Vec::new(),
        };
        match source? {
            SourceType::Operational => {
                request.operational_data_types = read_types(fields)?;
            }
            SourceType::Usage => {
                request.meter_ids = read_texts(fields, "meterIds", LIST_MAX);
                request.account_ids = read_texts(fields, "accountIds", LIST_MAX);
                request.dimension_filters = read_items(fields, "dimensionFilters");
                request.aggregations = read_items(fields, "aggregations");
                request.groups = read_items(fields, "groups");
                let refused = selection_of(&request).err().unwrap_or_default();
                for problem in refused {
                    fields.problems().push(problem);
                }
            }
        }
        Some((source?, request))
    }

    /// Whoever takes data out needs leave for all of them: an export knows no single items.
    pub(crate) fn permit(&self, access: &Access, source: SourceType) -> Result<(), Fault> {
        if source == SourceType::Usage {
            let (service, kind) = (Measurements::SERVICE, Measurements::WORD);
            return access.permit_all(Action::MeasurementsExport, service, kind);
        }
        let kinds = self.operational_data_types.iter();
        kinds
            .filter_map(|kind| kind.entity())
            .try_for_each(|kind| access.permit_all(Action::ConfigExport, "config", kind))
    }

    /// The destinations, which must exist.
    pub(crate) fn destinations(&self) -> Vec<Reference> {
        let ids = self.destination_ids.iter().enumerate();
        ids.map(|(index, id)| refers::<ExportDestination>(format!("/destinationIds/{index}"), id))
            .collect()
    }

    /// An ad-hoc export has times of its own.
    fn read_times(&mut self, fields: &mut Fields<'_>, source: SourceType, now: Timestamp) {
        let start = fields.iso_time("startDate");
        self.start_date = start.map(|start| start.to_string());
        if source == SourceType::Operational {
            return;
        }
        let end = fields.iso_time("endDate");
        self.end_date = end.map(|end| end.to_string());
        let (Some(start), Some(end)) = (start, end) else {
            return;
        };
        let other = |text: String| Rule::Other {
            code: "range",
            text: text.into(),
        };
        let tomorrow = Date::of(now, &Zone::UTC).checked_add_days(1);
        let latest = tomorrow.map_or(Timestamp::MAX, |date| date.start(&Zone::UTC));
        if end <= start {
            fields.refuse("endDate", other("must be after startDate".to_owned()));
        } else if end > latest {
            fields.refuse("endDate", other(format!("must not be after {latest}")));
        }
    }
}

fn read_texts(fields: &mut Fields<'_>, name: &'static str, max: usize) -> Vec<String> {
    let checked = |id: String| check_text(&id, ID).map(|()| id);
    fields.texts(name, max, checked).unwrap_or_default()
}

fn read_types(fields: &mut Fields<'_>) -> Option<Vec<OperationalType>> {
    const NAME: &str = "operationalDataTypes";
    let words = fields.required_array(NAME, OperationalType::WORDS.len())?;
    let mut types = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let known = OperationalType::WORDS
            .iter()
            .find(|(known, _)| matches!(word, Json::String(word) if word == known));
        match known {
            Some((_, kind)) if types.contains(kind) => {}
            Some((_, kind)) => types.push(*kind),
            None => {
                let known = OperationalType::WORDS.iter();
                let allowed = known.map(|(word, _)| (*word).into()).collect();
                let pointer = child(&child("", NAME), &index.to_string());
                let problem = Problem::body(pointer, Rule::OneOf { allowed });
                fields.problems().push(problem);
            }
        }
    }
    Some(types)
}

/// The items as they were sent; what each must be is told as of a usage query.
fn read_items(fields: &mut Fields<'_>, name: &'static str) -> Vec<Value> {
    let items = fields.array(name, LIST_MAX).unwrap_or_default();
    match kept_value(fields, name, Json::Array(items)) {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// What destinations and schedules begin with. The official client cannot send either, so that both have a default.
pub(crate) struct ExportHead {
    pub(crate) name: String,
    pub(crate) code: String,
}

impl ExportHead {
    /// `before` are the name and code of what is replaced.
    pub(crate) fn read(fields: &mut Fields<'_>, before: Option<(&String, &String)>) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let made = format!("export-{}", id.get(..8).unwrap_or_default());
        let name = match fields.checked_string("name", NAME) {
            Some(name) => name,
            None => before.map_or_else(|| made.clone(), |(name, _)| name.clone()),
        };
        let code = match fields.checked_string("code", CODE) {
            Some(code) => code,
            None => before.map_or(made, |(_, code)| code.clone()),
        };
        Self { name, code }
    }
}

impl Document for ExportJob {
    const KIND: &'static str = "m3ter/export_job";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ExportJob;

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("status", self.status.word().to_owned())];
        keys.extend(self.schedule_id.iter().map(|id| ("scheduleId", id.clone())));
        keys
    }
}

impl Resource for ExportJob {
    /// Asked for when the job is; it outlives its destinations.
    fn references(&self) -> Vec<Reference> {
        match self.status {
            ExportStatus::Pending => {
                let request = self.request.iter();
                request.flat_map(ExportRequest::destinations).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Jobs wait for their turn, but not without end.
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let Admission {
            store,
            organization,
            before,
        } = admission;
        if before.is_some() {
            return Ok(());
        }
        let waiting = [("status", ExportStatus::Pending.word())];
        if store.count::<Self>(*organization, &waiting)? < WAITING_MAX {
            return Ok(());
        }
        Err(Kind::TooManyRunning {
            resource: Self::RESOURCE,
            limit: WAITING_MAX as u64,
        }
        .into())
    }
}

impl Guarded for ExportJob {
    const WORD: &'static str = "dataexportjob";
}

impl Entity for ExportJob {
    paths!("/dataexports/jobs");
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Equal {
            parameter: "scheduleId",
            index: "scheduleId",
        },
        Filter::Word {
            parameter: "status",
            words: &["PENDING", "RUNNING", "SUCCEEDED", "FAILED"],
        },
    ];

    /// Nobody sends a job: requests and schedules make them.
    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        fields.refuse("sourceType", Rule::Required);
        None
    }

    fn shown(&self) -> Self {
        Self {
            schedule_id: self.schedule_id.clone(),
            source_type: self.source_type,
            status: self.status,
            date_created: self.date_created.clone(),
            started_at: self.started_at.clone(),
            request: None,
            file: None,
            starts: 0,
        }
    }
}

impl Job for ExportJob {
    const UNFINISHED: &'static [&'static str] = &["PENDING", "RUNNING"];
    const KEPT: Duration = Duration::from_hours(30 * 24);

    fn begin(&mut self, now: Timestamp) -> u32 {
        self.status = ExportStatus::Running;
        self.started_at = Some(micros(now));
        self.starts = self.starts.saturating_add(1);
        self.starts
    }
}

impl ExportJob {
    pub(crate) fn new(
        source_type: SourceType,
        request: ExportRequest,
        schedule_id: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            schedule_id,
            source_type,
            status: ExportStatus::Pending,
            date_created: micros(now),
            started_at: None,
            request: Some(request),
            file: None,
            starts: 0,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobId {
    job_id: Uuid,
}

/// `POST /dataexports/adhoc`
pub(crate) async fn create_adhoc(
    State(app): State<App>,
    Allowed { access, .. }: Allowed<Create, ExportJob>,
    body: Parsed,
) -> Result<Reply<JobId>, Failure> {
    let now = access.context.now;
    let (source, request) = body.read(Form::LENIENT, |fields| {
        let (source, mut request) = ExportRequest::read(fields)?;
        request.read_times(fields, source, now);
        Some((source, request))
    })?;
    request.permit(&access, source)?;
    let job = ExportJob::new(source, request, None, now);
    let (organization, author) = (access.organization, access.author());
    let stored = app
        .blocking(move |app| app.write(organization, &author, |writer| writer.create(job)))
        .await?;
    app.wake.notify_one();
    Ok(Reply::ok(JobId { job_id: stored.id }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportUrl {
    url: String,
    expiration_time: String,
}

/// `GET /dataexports/jobs/{id}/getdownloadurl`
pub(crate) async fn download_url(
    State(app): State<App>,
    params: Params,
    access: Access,
) -> Result<Reply<ExportUrl>, Failure> {
    access.permit(
        Action::ExportsDownload,
        &Target {
            service: "exports",
            kind: "job",
            id: Uuid::try_parse(params.get("id")).ok(),
        },
    )?;
    let organization = access.organization;
    let stored = item::<ExportJob>(&app, organization, &params)?;
    let now = access.context.now;
    let job = &stored.document;
    let is_young = now < stored.created_at.saturating_add(DOWNLOAD_WINDOW);
    let Some(file) = job.file.filter(|_| is_young) else {
        let from = match job.status {
            ExportStatus::Succeeded => "SUCCEEDED more than 24 hours ago".to_owned(),
            status => status.word().to_owned(),
        };
        return Err(Fault::from(Kind::TransitionNotAllowed {
            resource: ExportJob::RESOURCE,
            from,
            to: "downloaded".to_owned(),
        })
        .into());
    };
    let expires = now.saturating_add(URL_LIFETIME);
    let url = Transfer::Get { organization, file }.url(&app, &access.context, expires)?;
    Ok(Reply::ok(ExportUrl {
        url,
        expiration_time: micros(expires),
    }))
}
