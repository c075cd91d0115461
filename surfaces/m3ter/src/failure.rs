//! What could not be ingested: a file with the rows and what is wrong with them, and events that name it (5.3).

use crate::access::{Access, Action, Target};
use crate::app::App;
use crate::transfer::Transfer;
use crate::writer::Raised;
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Author, NewFile};
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::body::read_query;
use meterd_http::fields::{Form, parse_uuid};
use meterd_http::{Failure as HttpFailure, LongWork, Reply};
use meterd_model::{OrganizationId, Timestamp};
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;

/// What failure files are for, in the store of files.
pub(crate) const PURPOSE: &str = "m3ter-failed-ingest";
/// The member of an event that says where the file is: below the surface's own address, which is whoever reads the
/// event to know. The one who sent the rows could have named any host.
pub(crate) const DOWNLOAD_URL: &str = "getDownloadUrl";
/// The event that each kind of failure raises.
pub(crate) const EVENT: &str = "ingest.validation.failure";
/// How long the rows can be looked at.
const KEPT: Duration = Duration::from_hours(90 * 24);
/// Bytes of all failure files of an organization; the oldest give way.
const KEPT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long a download's address works (4.9).
const URL_LIFETIME: Duration = Duration::from_mins(5);
/// Rows that an event names.
const UIDS_MAX: usize = 10;

/// Why a measurement was not stored, or not whole (5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum FailureType {
    UndefinedMeter,
    MissingField,
    DuplicateField,
    DuplicateUid,
    InvalidAccountCode,
    /// The only one whose row is stored, without the derived value.
    CalculationError,
    /// A row of an uploaded file that is no measurement.
    InvalidMeasurement,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Failure {
    #[serde(rename = "type")]
    pub(crate) kind: FailureType,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

/// A measurement with all that is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct FailedRow<'b> {
    pub(crate) failures: Vec<Failure>,
    pub(crate) uid: Option<String>,
    pub(crate) account: Option<Uuid>,
    /// The JSON that was sent.
    pub(crate) text: Cow<'b, str>,
}

/// Keeps the rows and tells of them; both are on the disk when it returns. One file for the request, and one event for
/// each kind of failure in it, so that a request of a thousand bad rows raises a handful of events. Waits for the disk.
pub(crate) fn record(
    app: &App,
    organization: OrganizationId,
    author: &Author,
    failed: &[FailedRow<'_>],
    now: Timestamp,
) -> Result<(), Fault> {
    if failed.is_empty() {
        return Ok(());
    }
    // What could be stored is stored by now. To refuse the request for want of a file would have the client send it all
    // again, so that the events go without.
    let url = match write_file(app, organization, failed, now) {
        Ok(file) => Some(format!(
            "/organizations/{organization}/measurements/failedIngest/getDownloadUrl?file={file}"
        )),
        Err(fault) => {
            tracing::error!(
                %organization,
                "no file of what could not be ingested: {}",
                fault.log_context().unwrap_or("no context")
            );
            None
        }
    };
    let kinds = failed.iter().flat_map(|row| &row.failures);
    let mut kinds: Vec<_> = kinds.map(|failure| failure.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let told = app.write(organization, author, |writer| {
        for kind in kinds {
            writer.raise(&event_of(kind, failed, url.as_deref()))?;
        }
        Ok(())
    });
    told.map_err(|fault| unconfirmed(&fault))
}

/// Whatever it was, it is not so that nothing of the request is stored.
fn unconfirmed(fault: &Fault) -> Fault {
    let kind = Kind::StorageUnavailable {
        retry_after: Duration::from_secs(5),
    };
    let context = fault.log_context().unwrap_or("no context").to_owned();
    Fault::new(kind).with_context(format!("tell what could not be ingested: {context}"))
}

fn write_file(
    app: &App,
    organization: OrganizationId,
    failed: &[FailedRow<'_>],
    now: Timestamp,
) -> Result<Uuid, Fault> {
    let mut writer = app.control.files().create(
        NewFile {
            organization,
            purpose: PURPOSE,
            name: "failed-ingest.json".to_owned(),
            media_type: "application/json".to_owned(),
            expires_at: now.saturating_add(KEPT),
            purpose_bytes_max: Some(KEPT_BYTES_MAX),
        },
        now,
    )?;
    let mut separator = "[\n";
    for row in failed {
        let errors = serde_json::to_string(&row.failures).map_err(Fault::internal)?;
        let record = format!(
            "{separator}{{\"errors\":{errors},\"measurement\":{}}}",
            row.text
        );
        writer.write(record.as_bytes())?;
        separator = ",\n";
    }
    writer.write(b"\n]\n")?;
    Ok(writer.finish()?.id)
}

fn event_of(kind: FailureType, failed: &[FailedRow<'_>], url: Option<&str>) -> Raised {
    let of_kind = |row: &FailedRow<'_>| {
        let first = row.failures.iter().find(|failure| failure.kind == kind);
        first.map(|failure| failure.message.clone())
    };
    let rows: Vec<_> = failed
        .iter()
        .filter_map(|row| Some((row, of_kind(row)?)))
        .collect();
    let uids: Vec<_> = rows
        .iter()
        .filter_map(|(row, _)| row.uid.as_ref())
        .collect();
    let mut accounts: Vec<_> = rows.iter().map(|(row, _)| row.account).collect();
    accounts.dedup();
    Raised {
        name: EVENT.to_owned(),
        payload: json!({
            "type": kind,
            "message": rows.first().map(|(_, message)| message),
            "measurements": rows.len(),
            "uids": uids.iter().take(UIDS_MAX).collect::<Vec<_>>(),
            DOWNLOAD_URL: url,
        }),
        // Of one account only, the event is that account's.
        account: match accounts.as_slice() {
            [account] => *account,
            _ => None,
        },
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DownloadUrl {
    url: String,
}

/// `GET /measurements/failedIngest/getDownloadUrl`
pub(crate) async fn download_url(
    State(app): State<App>,
    access: Access,
    uri: Uri,
) -> Result<Reply<DownloadUrl>, HttpFailure> {
    access.permit(
        Action::MeasurementsRetrieve,
        &Target {
            service: "measurements",
            kind: "failedingest",
            id: None,
        },
    )?;
    let asked = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        Some(fields.string("file"))
    })?;
    let (organization, now) = (access.organization, access.context.now);
    let file = app
        .blocking(move |app| file_of(app, organization, asked.as_deref(), now))
        .await?;
    let transfer = Transfer::Get { organization, file };
    let url = transfer.url(&app, &access.context, now.saturating_add(URL_LIFETIME))?;
    Ok(Reply::ok(DownloadUrl { url }))
}

/// The file that is named, by its id or by the whole address that its event says; or the last one.
fn file_of(
    app: &App,
    organization: OrganizationId,
    asked: Option<&str>,
    now: Timestamp,
) -> Result<Uuid, Fault> {
    let files = app.control.files();
    let found = match asked.filter(|asked| !asked.is_empty()) {
        None => files.newest(organization, PURPOSE, now)?,
        Some(asked) => {
            let id = asked.rsplit_once("file=").map_or(asked, |(_, id)| id);
            match parse_uuid(id) {
                Some(id) => files.find(organization, id)?,
                None => None,
            }
        }
    };
    let found = found.filter(|file| file.purpose == PURPOSE && now < file.expires_at);
    found.map(|file| file.id).ok_or_else(|| {
        Kind::ResourceNotFound {
            resource: Resource::File,
            id: asked.unwrap_or("").to_owned(),
        }
        .into()
    })
}
