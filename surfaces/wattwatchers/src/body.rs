//! Bodies of PATCH and POST: JSON that must say so, which is told before anything of it is looked at
//! (specs/wattwatchers.md 7.4).

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use meterd_fault::Kind;
use meterd_http::Failure;
use meterd_http::body::{Parsed, has_media_type};

const JSON: &str = "application/json";

/// Proof that the request says `application/json`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaysJson;

impl<S: Sync> FromRequestParts<S> for SaysJson {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        if has_media_type(&parts.headers, JSON) {
            return Ok(Self);
        }
        Err(Kind::MediaTypeUnsupported { expected: &[JSON] }.into())
    }
}

/// A JSON body of which only the syntax is known to be right.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Parsed);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        SaysJson::from_request_parts(&mut parts, state).await?;
        let request = Request::from_parts(parts, body);
        Parsed::from_request(request, state).await.map(Self)
    }
}
