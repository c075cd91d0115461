//! A fault on its way out of a handler.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use meterd_fault::{Fault, Kind};

/// What handlers and extractors fail with.
///
/// It becomes a response only in name: the fault travels as an extension, and the pipeline lets the surface's dialect
/// word it. So no handler can answer in a dialect of its own.
#[derive(Clone, Debug)]
pub struct Failure(pub Fault);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self(kind.into())
    }
}
