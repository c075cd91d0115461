//! What scripts that browsers load from other sites may do with a surface (the Fetch standard, section 3.2).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

/// What scripts of every site may do. A caller's secret stands in a header that the script sets itself, and no cookie
/// counts for anything, so that there is no site to be told from another.
#[derive(Clone, Copy, Debug)]
pub struct Cors {
    /// Methods, separated by commas.
    pub methods: &'static str,
    /// Headers of requests beside those that need no leave.
    pub headers: &'static str,
    /// Headers of answers that a script may read.
    pub exposed_headers: &'static str,
}

/// How long a browser need not ask again, in seconds.
const KEPT_SECONDS: &str = "7200";

impl Cors {
    /// The answer to a browser that asks before it sends.
    pub(crate) fn leave(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, KEPT_SECONDS),
        ] {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Lets the script read an answer, a failure too.
    pub(crate) fn open(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed_headers),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
