//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request sent again gets the first answer.
//!
//! Only successes are kept. A request that failed changed nothing, so sending it again may simply be tried again.

use crate::body::RawBody;
use crate::context::Context;
use crate::core::blocking;
use crate::failure::Failure;
use crate::route::Target;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use meterd_control::{Answer, Begin, Control, IDEMPOTENCY_KEY_BYTES_MAX};
use meterd_fault::{Fault, Format, Problem, Rule};
use meterd_model::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use tracing::error;
use uuid::Uuid;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a replay answers instead of the response's own body, for answers with secrets.
#[derive(Clone, Debug)]
pub struct ReplayBody(Bytes);

impl ReplayBody {
    pub fn json(body: &impl Serialize) -> Self {
        Self(serde_json::to_vec(body).unwrap_or_default().into())
    }
}

/// Calls the handler once for all requests with the same key.
pub(crate) async fn call(
    control: &Arc<Control>,
    target: Target,
    request: Request,
) -> Result<Response, Fault> {
    let Some(key) = key_of(request.headers())? else {
        return Ok(target.call(request).await);
    };
    let (mut parts, body) = request.into_parts();
    let context = parts
        .extensions
        .get::<Context>()
        .cloned()
        .ok_or_else(|| Fault::internal("an idempotent call outside the pipeline"))?;
    let Some(caller) = &context.caller else {
        return Ok(target.call(Request::from_parts(parts, body)).await);
    };
    let (scope, now) = (caller.credential.id, context.now);
    let whole = RawBody::from_request(Request::from_parts(parts.clone(), body), &())
        .await
        .map_err(|Failure(fault)| fault)?;
    let fingerprint = fingerprint(&parts, &whole.bytes);

    // The body is inflated by now.
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    let request = Request::from_parts(parts, Body::from(whole.bytes.clone()));
    let keyed = Keyed {
        scope,
        key,
        fingerprint,
        now,
    };
    // A task of its own: when the client goes away, the key must still learn how it ended.
    tokio::spawn(carry_out(Arc::clone(control), target, request, keyed))
        .await
        .map_err(Fault::internal)?
}

/// A key with what it is used for.
struct Keyed {
    scope: Uuid,
    key: String,
    fingerprint: [u8; 32],
    now: Timestamp,
}

async fn carry_out(
    control: Arc<Control>,
    target: Target,
    request: Request,
    keyed: Keyed,
) -> Result<Response, Fault> {
    let now = keyed.now;
    let begun = blocking(move || {
        control
            .idempotency()
            .begin(keyed.scope, &keyed.key, keyed.fingerprint, now)
    })
    .await?;
    let first = match begun {
        Begin::Replay(stored) => return replay(stored),
        Begin::Fresh(first) => first,
    };
    let response = target.call(request).await;
    if !response.status().is_success() {
        // Dropping what `begin` gave lets the next request with this key be the first.
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(Fault::internal)?.to_bytes();
    let kept = parts
        .extensions
        .get::<ReplayBody>()
        .map_or_else(|| body.clone(), |replay| replay.0.clone());
    let stored = Answer {
        status: parts.status.as_u16(),
        headers: kept_headers(&parts.headers),
        body: kept.to_vec(),
    };
    let completed = blocking(move || first.complete(&stored, now)).await;
    if let Err(fault) = completed {
        // What was asked for is done and must be answered as done; only a repeat of it will not be recognised.
        error!(
            "keep an idempotent answer: {}",
            fault.log_context().unwrap_or("failed")
        );
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| {
        let format = Format::PlainText;
        Fault::invalid(Problem::header("Idempotency-Key", Rule::Format { format }))
    })?;
    let text = text.trim();
    // A structured-field string has quotes; most clients send it bare.
    let key = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    Err(Fault::invalid(Problem::header(
        "Idempotency-Key",
        Rule::Length {
            min: 1,
            max: IDEMPOTENCY_KEY_BYTES_MAX as u64,
        },
    )))
}

fn fingerprint(parts: &axum::http::request::Parts, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let media_type = parts.headers.get(header::CONTENT_TYPE);
    for part in [
        parts.method.as_str().as_bytes(),
        media_type.map_or(b"", HeaderValue::as_bytes),
        parts.uri.path().as_bytes(),
        parts.uri.query().unwrap_or("").as_bytes(),
        body,
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    [header::CONTENT_TYPE, header::LOCATION]
        .into_iter()
        .filter_map(|name| {
            let value = headers.get(&name)?.to_str().ok()?;
            Some((name.to_string(), value.to_owned()))
        })
        .collect()
}

fn replay(stored: Answer) -> Result<Response, Fault> {
    let mut response = Response::new(Body::from(stored.body));
    *response.status_mut() = StatusCode::from_u16(stored.status).map_err(Fault::internal)?;
    for (name, value) in stored.headers {
        let name: HeaderName = name.parse().map_err(Fault::internal)?;
        let value: HeaderValue = value.parse().map_err(Fault::internal)?;
        response.headers_mut().insert(name, value);
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
