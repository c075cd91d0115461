//! Addresses that hand out or take in one file for a short time, without a token: what m3ter calls presigned URLs.

use crate::app::App;
use crate::upload;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::{BodyStream, Context, Failure, LongWork, Params};
use meterd_model::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

/// What the signature is for.
const PURPOSE: &str = "m3ter-transfer";
/// Most files that are taken in at a time, of one organization and of all.
const OWN_UPLOADS_MAX: usize = 4;
const UPLOADS_MAX: usize = 64;
/// Bytes that are read of a file at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What an address allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transfer {
    Get {
        organization: OrganizationId,
        file: Uuid,
    },
    /// The file of an upload job.
    Put {
        organization: OrganizationId,
        job: Uuid,
    },
}

/// The jobs whose files are being taken in.
#[derive(Debug, Default)]
pub(crate) struct Transfers(Mutex<HashSet<(OrganizationId, Uuid)>>);

/// Leave to take in one file, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    of: (OrganizationId, Uuid),
    transfers: Arc<Transfers>,
}

impl Transfers {
    /// A file takes a place among the requests in hand for as long as its client likes, so that there are few at a
    /// time: `TooManyRunning`. Each job is claimed once.
    pub(crate) fn claim(
        self: &Arc<Self>,
        organization: OrganizationId,
        job: Uuid,
    ) -> Result<Claim, Fault> {
        let of = (organization, job);
        let mut taking = self.lock();
        if taking.contains(&of) {
            return Err(Kind::TransitionNotAllowed {
                resource: Resource::UploadJob,
                from: "being uploaded".to_owned(),
                to: "running".to_owned(),
            }
            .into());
        }
        let own = taking.iter().filter(|(owner, _)| *owner == organization);
        if own.count() >= OWN_UPLOADS_MAX || taking.len() >= UPLOADS_MAX {
            return Err(Kind::TooManyRunning {
                resource: Resource::UploadJob,
                limit: OWN_UPLOADS_MAX as u64,
            }
            .into());
        }
        taking.insert(of);
        Ok(Claim {
            of,
            transfers: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(OrganizationId, Uuid)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.of);
    }
}

impl Transfer {
    pub(crate) fn url(
        &self,
        app: &App,
        context: &Context,
        expires: Timestamp,
    ) -> Result<String, Fault> {
        let token = app.control.signer().sign(PURPOSE, self, expires)?;
        Ok(format!("{}/transfers/{token}", surface_url(context)))
    }

    fn of(app: &App, params: &Params, context: &Context) -> Result<Self, Fault> {
        let signer = app.control.signer();
        signer.check(PURPOSE, params.get("token"), context.now)
    }
}

/// Where the surface answers.
pub(crate) fn surface_url(context: &Context) -> String {
    format!("{}{}", context.base_url, context.prefix)
}

/// `GET /transfers/{token}`
pub(crate) async fn download(
    State(app): State<App>,
    context: Context,
    params: Params,
) -> Result<Response, Failure> {
    let Transfer::Get { organization, file } = Transfer::of(&app, &params, &context)? else {
        return Err(Kind::TokenInvalid.into());
    };
    let now = context.now;
    let (meta, file) = app
        .blocking(move |app| app.control.files().open_file(organization, file, now))
        .await?;
    let text = |text: String| HeaderValue::try_from(text).map_err(Fault::internal);
    let name = meta.name.replace(|c: char| !is_plain(c), "_");
    let headers = [
        (header::CONTENT_TYPE, text(meta.media_type)?),
        (header::CONTENT_LENGTH, HeaderValue::from(meta.bytes)),
        (
            header::CONTENT_DISPOSITION,
            text(format!("attachment; filename=\"{name}\""))?,
        ),
    ];
    let pieces = futures_util::stream::unfold(File::from_std(file), async |mut file| {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), file)),
            Err(error) => Some((Err(error), file)),
        }
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// `PUT /transfers/{token}`. The address is looked at before the body, and so are the headers that belong to it (4.9).
pub(crate) async fn put_file(
    State(app): State<App>,
    context: Context,
    params: Params,
    headers: HeaderMap,
    body: BodyStream,
) -> Result<Response, Failure> {
    let Transfer::Put { organization, job } = Transfer::of(&app, &params, &context)? else {
        return Err(Kind::TokenInvalid.into());
    };
    upload::take_in(&app, &context, organization, job, &headers, body).await?;
    Ok(Response::default())
}
