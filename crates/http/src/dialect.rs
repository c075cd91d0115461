//! How a surface words its faults.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use meterd_fault::Kind;
use meterd_model::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// One surface's wording of the catalogue: which status, headers and body stand for which kind.
///
/// `render` matches on the kind without a wildcard, so that a new kind does not compile until every surface has
/// decided about it.
pub trait Dialect: std::fmt::Debug + Send + Sync + 'static {
    /// The surface's name as the command line writes it, e.g. `fsm-navigator`.
    fn surface(&self) -> &'static str;

    fn render(&self, kind: &Kind, request: &Asked<'_>) -> Rendered;
}

/// What a dialect may want to know of the request that failed.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub request_id: Uuid,
    pub method: &'a str,
    /// Path as the client sent it, without query.
    pub path: &'a str,
    /// Scheme and authority that the client used, e.g. `https://meter.example`; no trailing slash.
    pub base_url: &'a str,
    /// Value of the `Accept` header, or empty.
    pub accept: &'a str,
    pub now: Timestamp,
}

impl Asked<'_> {
    /// A request for documentation and tests: `GET /example` at 2026-11-01.
    pub fn example() -> Asked<'static> {
        Asked {
            request_id: Uuid::from_u128(0x0193_a5c2_7c1e_7d3a_9f10_3b6f_0f2f_9d11),
            method: "GET",
            path: "/example",
            base_url: "http://127.0.0.1:8181",
            accept: "*/*",
            now: Timestamp::from_seconds(1_793_491_200).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A fault as it goes over the wire. The request id header is added by the pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Rendered {
    /// A JSON body with `Content-Type: application/json`.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self::typed_json(status, HeaderValue::from_static("application/json"), body)
    }

    /// A JSON body with another media type of the JSON family.
    pub fn typed_json(
        status: StatusCode,
        content_type: HeaderValue,
        body: &impl Serialize,
    ) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, content_type)],
            // Dialect bodies are plain structs of strings and numbers; these always serialise.
            body: serde_json::to_vec(body).unwrap_or_default().into(),
        }
    }

    pub fn text(status: StatusCode, body: &'static str) -> Self {
        Self {
            status,
            headers: vec![(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            )],
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds `Retry-After` in whole seconds if the kind names a wait.
    #[must_use]
    pub fn with_retry_after(self, kind: &Kind) -> Self {
        match kind.retry_after_seconds() {
            Some(seconds) => self.with_header(header::RETRY_AFTER, seconds),
            None => self,
        }
    }

    /// Adds `Allow` if the kind lists the allowed methods (RFC 9110, 15.5.6).
    #[must_use]
    pub fn with_allow(self, kind: &Kind) -> Self {
        let Kind::MethodNotAllowed { allowed } = kind else {
            return self;
        };
        self.with_text_header(header::ALLOW, &allowed.join(", "))
    }

    /// Adds a header whose value is data; text that no header can carry leaves the header out.
    #[must_use]
    pub fn with_text_header(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with_header(name, value),
            Err(_) => self,
        }
    }

    /// Status, headers and body as one JSON value, for documentation and for tests that pin a whole answer. A body
    /// that is not JSON stands there as text.
    pub fn to_json(&self) -> serde_json::Value {
        let headers: serde_json::Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into(),
                )
            })
            .collect();
        let body: serde_json::Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into());
        serde_json::json!({"status": self.status.as_u16(), "headers": headers, "body": body})
    }
}
