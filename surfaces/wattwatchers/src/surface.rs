//! The Wattwatchers surface as the pipeline sees it.

use crate::access::{ALL_DEVICES, AUTO_LIMITS};
use crate::app::App;
use crate::device::Device;
use crate::dialect::WattwatchersDialect;
use crate::limits::{self, KeyLimits};
use crate::routes::routes;
use crate::serial::Claim;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use meterd_control::{Credential, Documents, LimitPolicy};
use meterd_fault::Fault;
use meterd_http::{
    Answered, Caller, Cors, Dialect, Routes, Step, Surface, bearer, request_id_header,
};
use meterd_model::{OrganizationId, Timestamp};
use std::sync::Arc;

/// The surface's name, in credentials, logs and metrics.
pub(crate) const SURFACE: &str = "wattwatchers";
/// Largest body where no route says otherwise: no device's configuration comes near it.
const BODY_MAX_BYTES: u64 = 256 * 1024;

/// Dashboards run in browsers (2, oddity 6).
static CORS: Cors = Cors {
    methods: "GET, PATCH, POST, OPTIONS",
    headers: "Authorization, Content-Type",
    exposed_headers: "X-RateLimit-TpdLimit, X-RateLimit-TpdRemaining, X-RateLimit-TpdReset, X-RateLimit-TpsLimit, \
                      X-RateLimit-TpsRemaining, X-RateLimit-TpsReset, X-RateLimit-Limit, X-RateLimit-Remaining, \
                      X-RateLimit-Reset, Retry-After",
};

#[derive(Debug)]
pub struct WattwatchersSurface {
    routes: Routes,
    policies: Vec<LimitPolicy>,
    app: App,
}

impl WattwatchersSurface {
    pub fn new(app: App) -> Self {
        Self {
            routes: routes(app.clone()),
            policies: limits::policies(&app.settings.limits),
            app,
        }
    }

    /// The credential with its limits as they are at present: those that follow the number of its devices, and for all of
    /// its own the day as the settings have it.
    fn with_limits(&self, credential: Arc<Credential>) -> Result<Arc<Credential>, Fault> {
        let day = self.app.settings.limits.day.start();
        let account = credential.organization;
        let limits = match account.filter(|_| credential.holds(AUTO_LIMITS)) {
            Some(account) => {
                let devices = self.count_devices(account, &credential)?;
                Vec::from(KeyLimits::for_devices(devices).policies(day))
            }
            None if credential.limits.is_empty() => return Ok(credential),
            None => limits::on_day(&credential.limits, day),
        };
        let mut limited = Credential::clone(&credential);
        limited.limits = limits;
        Ok(Arc::new(limited))
    }

    fn count_devices(
        &self,
        account: OrganizationId,
        credential: &Credential,
    ) -> Result<usize, Fault> {
        let id = credential.id.to_string();
        let named = [("key", id.as_str())];
        let filters = if credential.holds(ALL_DEVICES) {
            &[][..]
        } else {
            &named
        };
        self.app.control.store().count::<Device>(account, filters)
    }
}

/// The kinds of resource that this surface stores.
pub fn documents() -> Documents {
    Documents::new().with::<Claim>().with::<Device>()
}

impl Surface for WattwatchersSurface {
    fn dialect(&self) -> &dyn Dialect {
        &WattwatchersDialect
    }

    /// As section 2 has it. Guesses at keys are bounded by their address, before they are looked at.
    fn order(&self) -> &'static [Step] {
        &[
            Step::Route,
            Step::Method,
            Step::AddressLimit,
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
        Ok(Caller {
            credential: self.with_limits(credential)?,
        })
    }

    fn policies(&self) -> &[LimitPolicy] {
        &self.policies
    }

    fn cors(&self) -> Option<&'static Cors> {
        Some(&CORS)
    }

    fn body_limit_bytes(&self) -> u64 {
        BODY_MAX_BYTES
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        request_id_header(headers, answered.request_id);
        limits::headers(headers, answered);
    }
}
