//! The native surface as the pipeline sees it.

use crate::app::App;
use crate::dialect::NativeDialect;
use crate::routes::routes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use meterd_control::LimitPolicy;
use meterd_fault::Fault;
use meterd_http::{
    Answered, Caller, Dialect, HEALTH_PATH, Routes, Step, Surface, bearer, rate_limit_headers,
    request_id_header,
};
use meterd_model::Timestamp;

/// The surface's name, in credentials, logs and metrics.
pub(crate) const SURFACE: &str = "native";
/// Largest body where no route says otherwise: no resource comes near it.
const BODY_MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct NativeSurface {
    app: App,
    routes: Routes,
    policies: Vec<LimitPolicy>,
}

impl NativeSurface {
    /// `policies`: limits by address, organization or for all, beside those of each credential.
    pub fn new(app: App, policies: Vec<LimitPolicy>) -> Self {
        Self {
            routes: routes(app.clone()),
            app,
            policies,
        }
    }
}

impl Surface for NativeSurface {
    fn dialect(&self) -> &dyn Dialect {
        &NativeDialect
    }

    fn order(&self) -> &'static [Step] {
        &[
            Step::Route,
            Step::Method,
            Step::Authenticate,
            Step::Address,
            Step::RateLimit,
        ]
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault> {
        let key = bearer(&parts.headers)?;
        let credentials = self.app.control.credentials();
        let credential = credentials.authenticate(SURFACE, key, now)?;
        Ok(Caller { credential })
    }

    fn policies(&self) -> &[LimitPolicy] {
        &self.policies
    }

    /// Problem details link to the pages about errors.
    fn shares(&self, path: &str) -> bool {
        path == HEALTH_PATH || path.starts_with("/docs/errors")
    }

    fn body_limit_bytes(&self) -> u64 {
        BODY_MAX_BYTES
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        request_id_header(headers, answered.request_id);
        if let Some(decision) = answered.limits {
            rate_limit_headers(headers, decision, answered.now);
        }
    }
}
