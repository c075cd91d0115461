//! Measurements as files: an address to upload to, the file, and the job that reads it (5.7).

use crate::access::{Access, Action, Guarded, Target};
use crate::app::App;
use crate::entity::{At, Entity, View, item, paths};
use crate::jobs::Job;
use crate::list::Filter;
use crate::transfer::Transfer;
use crate::wire::{is_zero, millis, text};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use meterd_control::{Author, Document, NewFile, Resource, Stored};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::{BodyStream, Context, Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Largest file (4.9).
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long the address to upload to works (4.9).
const PUT_LIFETIME: Duration = Duration::from_mins(1);
/// How long the address of the original works.
const GET_LIFETIME: Duration = Duration::from_mins(5);
/// How long the original is kept, and the job.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// Bytes that are written at a time.
const PIECE_BYTES: usize = 1024 * 1024;
const MEDIA_TYPES: [(&str, &str); 2] = [
    ("application/json", "application/json"),
    ("text/json", "text/json"),
];

/// A file of measurements and how far it has been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadJob {
    pub(crate) file_name: String,
    pub(crate) content_type: String,
    pub(crate) content_length: u64,
    pub(crate) status: UploadStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload_date: Option<String>,
    pub(crate) total_rows: u64,
    /// Those that were stored or refused.
    pub(crate) processed_rows: u64,
    pub(crate) failed_rows: u64,
    /// The original, in the store of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Uuid>,
    /// By how many servers it was begun since rows of it were processed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) starts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum UploadStatus {
    NotUploaded,
    Running,
    Failed,
    Succeeded,
}

impl UploadStatus {
    fn word(self) -> &'static str {
        match self {
            Self::NotUploaded => "notUploaded",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
        }
    }
}

impl Document for UploadJob {
    const KIND: &'static str = "m3ter/upload_job";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::UploadJob;

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status", self.status.word().to_owned()),
            ("fileName", self.file_name.clone()),
        ]
    }
}

impl Resource for UploadJob {
    fn label(&self) -> String {
        self.file_name.clone()
    }
}

impl Guarded for UploadJob {
    const SERVICE: &'static str = "measurements";
    const WORD: &'static str = "fileupload";
    const SEEING: Action = Action::MeasurementsFileUpload;
}

impl Entity for UploadJob {
    paths!("/fileuploads/measurements/jobs");
    const FILTERS: &'static [Filter] = &[Filter::Equal {
        parameter: "fileKey",
        index: "fileName",
    }];

    /// The request for an address to upload to.
    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let file_name = fields.required_checked("fileName", text(1, 100));
        let content_type = fields.required_choice("contentType", &MEDIA_TYPES);
        let length_max = i64::try_from(FILE_BYTES_MAX).unwrap_or(i64::MAX);
        let content_length = fields.required_integer("contentLength", 1, length_max);
        Some(Self {
            file_name: file_name?,
            content_type: content_type?.to_owned(),
            content_length: content_length?.unsigned_abs(),
            status: UploadStatus::NotUploaded,
            upload_date: None,
            total_rows: 0,
            processed_rows: 0,
            failed_rows: 0,
            file: None,
            starts: 0,
        })
    }

    fn shown(&self) -> Self {
        Self {
            file: None,
            starts: 0,
            ..self.clone()
        }
    }
}

impl Job for UploadJob {
    const UNFINISHED: &'static [&'static str] = &["running"];
    const KEPT: Duration = KEPT;

    fn begin(&mut self, _: Timestamp) -> u32 {
        self.starts = self.starts.saturating_add(1);
        self.starts
    }
}

/// An address with the job it belongs to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobUrl {
    job_id: Uuid,
    url: String,
    headers: BTreeMap<&'static str, String>,
}

fn permit(access: &Access, id: Option<Uuid>) -> Result<(), Fault> {
    access.permit(
        Action::MeasurementsFileUpload,
        &Target {
            service: UploadJob::SERVICE,
            kind: UploadJob::WORD,
            id,
        },
    )
}

/// `POST /fileuploads/measurements/generateUploadUrl`
pub(crate) async fn generate_url(
    State(app): State<App>,
    params: Params,
    access: Access,
    body: Parsed,
) -> Result<Reply<JobUrl>, Failure> {
    permit(&access, None)?;
    let organization = access.organization;
    let author = access.author();
    let at = At {
        app: &app,
        organization,
        params: &params,
        author,
        before: None,
    };
    let job = body.read(Form::LENIENT, |fields| UploadJob::read(fields, &at))?;
    let stored = app
        .blocking(move |app| app.write(organization, &author, |writer| writer.create(job)))
        .await?;
    let job = stored.id;
    let expires = access.context.now.saturating_add(PUT_LIFETIME);
    let url = Transfer::Put { organization, job }.url(&app, &access.context, expires)?;
    Ok(Reply::ok(JobUrl {
        job_id: job,
        url,
        headers: BTreeMap::from([
            ("Content-Type", stored.document.content_type.clone()),
            ("Content-Length", stored.document.content_length.to_string()),
        ]),
    }))
}

/// Takes the file of a job. The job is read by a worker once this has returned.
pub(crate) async fn take_in(
    app: &App,
    context: &Context,
    organization: OrganizationId,
    job: Uuid,
    headers: &HeaderMap,
    mut body: BodyStream,
) -> Result<(), Fault> {
    let stored = app.control.store().get::<UploadJob>(organization, job)?;
    check_unused(&stored)?;
    check_headers(&stored.document, headers)?;
    let _claim = app.transfers.claim(organization, job)?;
    let (now, begun) = (context.now, Instant::now());
    let new = NewFile {
        organization,
        purpose: "m3ter-upload",
        name: stored.document.file_name.clone(),
        media_type: stored.document.content_type.clone(),
        expires_at: now.saturating_add(KEPT),
        purpose_bytes_max: None,
    };
    let mut writer = app
        .blocking(move |app| app.control.files().create(new, now))
        .await?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        let received = body.next().await?;
        let is_end = received.is_none();
        piece.extend_from_slice(&received.unwrap_or_default());
        if piece.len() >= PIECE_BYTES || is_end {
            let whole = std::mem::take(&mut piece);
            writer = app
                .blocking(move |_| writer.write(&whole).map(|()| writer))
                .await?;
        }
        if is_end {
            break;
        }
    }
    if writer.bytes() != stored.document.content_length {
        return Err(wrong_header(
            "Content-Length",
            &stored.document.content_length.to_string(),
        ));
    }
    // The file may have been long on its way.
    let ended = now.saturating_add(begun.elapsed());
    app.blocking(move |app| {
        let file = writer.finish()?.id;
        let taken = app.write(organization, &Author::system(ended), |writer| {
            writer.update::<UploadJob>(job, |job| {
                if job.file.is_none() {
                    job.file = Some(file);
                    job.status = UploadStatus::Running;
                    job.upload_date = Some(millis(ended));
                }
            })
        })?;
        if taken.document.file == Some(file) {
            return Ok(());
        }
        // Another request with the same address was faster.
        app.control.files().delete(organization, file)?;
        check_unused(&taken)
    })
    .await?;
    app.wake.notify_one();
    Ok(())
}

fn check_unused(stored: &Stored<UploadJob>) -> Result<(), Fault> {
    if stored.document.file.is_none() {
        return Ok(());
    }
    Err(Kind::TransitionNotAllowed {
        resource: UploadJob::RESOURCE,
        from: stored.document.status.word().to_owned(),
        to: UploadStatus::Running.word().to_owned(),
    }
    .into())
}

fn check_headers(job: &UploadJob, headers: &HeaderMap) -> Result<(), Fault> {
    let sent = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if sent(header::CONTENT_TYPE) != Some(job.content_type.as_str()) {
        return Err(wrong_header("Content-Type", &job.content_type));
    }
    // A body in chunks announces nothing; it is counted at its end.
    match sent(header::CONTENT_LENGTH) {
        Some(length) if length != job.content_length.to_string() => Err(wrong_header(
            "Content-Length",
            &job.content_length.to_string(),
        )),
        _ => Ok(()),
    }
}

fn wrong_header(name: &str, expected: &str) -> Fault {
    let rule = Rule::Other {
        code: "header",
        text: format!("must be {expected}, as the address was made for").into(),
    };
    Fault::invalid(Problem::header(name, rule))
}

/// `GET /fileuploads/measurements/jobs/{id}`
pub(crate) async fn retrieve_job(
    State(app): State<App>,
    params: Params,
    access: Access,
) -> Result<Reply<View<UploadJob>>, Failure> {
    let stored = permitted_item(&app, &params, &access)?;
    Ok(Reply::ok(View::of(&stored)))
}

fn permitted_item(
    app: &App,
    params: &Params,
    access: &Access,
) -> Result<std::sync::Arc<Stored<UploadJob>>, Fault> {
    permit(access, Uuid::try_parse(params.get("id")).ok())?;
    item::<UploadJob>(app, access.organization, params)
}

/// `GET /fileuploads/measurements/jobs/{id}/original`
pub(crate) async fn original(
    State(app): State<App>,
    params: Params,
    access: Access,
) -> Result<Reply<JobUrl>, Failure> {
    let stored = permitted_item(&app, &params, &access)?;
    let file = stored.document.file.ok_or_else(|| Kind::ResourceNotFound {
        resource: meterd_fault::Resource::File,
        id: stored.id.to_string(),
    })?;
    let organization = access.organization;
    let expires = access.context.now.saturating_add(GET_LIFETIME);
    let url = Transfer::Get { organization, file }.url(&app, &access.context, expires)?;
    Ok(Reply::ok(JobUrl {
        job_id: stored.id,
        url,
        headers: BTreeMap::new(),
    }))
}
