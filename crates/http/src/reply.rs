//! Answers that are no faults.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meterd_fault::{Fault, Kind};
use serde::Serialize;
use std::io::{self, Write};

/// A JSON answer.
#[derive(Debug)]
pub struct Reply<T> {
    pub status: StatusCode,
    pub body: T,
    location: Option<String>,
}

impl<T: Serialize> Reply<T> {
    pub fn ok(body: T) -> Self {
        Self {
            status: StatusCode::OK,
            body,
            location: None,
        }
    }

    /// 201 with the new resource's address, where the surface tells it.
    pub fn created(body: T, location: impl Into<Option<String>>) -> Self {
        Self {
            status: StatusCode::CREATED,
            body,
            location: location.into(),
        }
    }
}

impl<T: Serialize> Reply<T> {
    /// The answer, unless it has more bytes than that.
    pub fn within(self, limit_bytes: u64) -> Result<Response, Fault> {
        let mut json = Limited {
            bytes: Vec::new(),
            max: usize::try_from(limit_bytes).unwrap_or(usize::MAX),
        };
        // Wire types are plain structs; only the bound makes them fail.
        if serde_json::to_writer(&mut json, &self.body).is_err() {
            return Err(Kind::ResponseTooLarge { limit_bytes }.into());
        }
        Ok(response(self.status, json.bytes, self.location))
    }
}

/// Bytes up to a bound, so that what is past it takes no memory.
struct Limited {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn response(status: StatusCode, json: Vec<u8>, location: Option<String>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(location) = location.and_then(|l| HeaderValue::from_str(&l).ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        // Wire types are plain structs; these always serialise.
        let json = serde_json::to_vec(&self.body).unwrap_or_default();
        response(self.status, json, self.location)
    }
}

/// 204.
#[derive(Clone, Copy, Debug)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}
