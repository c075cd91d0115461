//! The FSM Navigator surface as the pipeline sees it.

use crate::address::canonical;
use crate::app::App;
use crate::asset::Asset;
use crate::asset_type::AssetType;
use crate::company::{Company, has_api};
use crate::customer::Customer;
use crate::dialect::FsmNavigatorDialect;
use crate::envelope::request_id;
use crate::inventory::Item;
use crate::job::Job;
use crate::location::Location;
use crate::meter::AssetMeter;
use crate::reading::ReadingNote;
use crate::routes::routes;
use crate::service::ServiceRecord;
use crate::settings::DAILY;
use crate::stock::{StockLocation, Transaction};
use crate::technician::Technician;
use crate::transfer::Transfer;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use meterd_control::{Allowance, Decision, Documents, LimitPolicy};
use meterd_fault::{Fault, Kind};
use meterd_http::{Answered, Caller, Dialect, Routes, Step, Surface};
use meterd_model::Timestamp;
use std::borrow::Cow;

/// The surface's name, in credentials, logs and metrics.
pub(crate) const SURFACE: &str = "fsm-navigator";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Largest body (3.6).
const BODY_MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct FsmNavigatorSurface {
    routes: Routes,
    policies: Vec<LimitPolicy>,
    app: App,
}

impl FsmNavigatorSurface {
    pub fn new(app: App) -> Self {
        Self {
            routes: routes(app.clone()),
            policies: app.settings.limits.policies(),
            app,
        }
    }
}

/// The kinds of resource that this surface stores.
pub fn documents() -> Documents {
    Documents::new()
        .with::<Asset>()
        .with::<AssetMeter>()
        .with::<AssetType>()
        .with::<Company>()
        .with::<Customer>()
        .with::<Item>()
        .with::<Job>()
        .with::<Location>()
        .with::<ReadingNote>()
        .with::<ServiceRecord>()
        .with::<StockLocation>()
        .with::<Technician>()
        .with::<Transaction>()
        .with::<Transfer>()
}

impl Surface for FsmNavigatorSurface {
    fn dialect(&self) -> &dyn Dialect {
        &FsmNavigatorDialect
    }

    /// Nothing is told before the key is known, and nobody without leave uses up a key's requests (2.4).
    fn order(&self) -> &'static [Step] {
        &[
            Step::Authenticate,
            Step::Address,
            Step::Organization,
            Step::RateLimit,
            Step::Route,
            Step::Method,
        ]
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn route_path<'p>(&self, path: &'p str, query: &str) -> Cow<'p, str> {
        canonical(path, query)
    }

    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault> {
        let value = parts.headers.get(API_KEY).ok_or(Kind::CredentialsMissing)?;
        let key = value.to_str().map_err(|_| Kind::CredentialsMalformed)?;
        let credentials = self.app.control.credentials();
        let credential = credentials.authenticate(SURFACE, key.trim(), now)?;
        Ok(Caller { credential })
    }

    /// The API belongs to one plan (1).
    fn admit(&self, caller: &Caller, _: &[(String, String)]) -> Result<(), Fault> {
        let company = caller.credential.organization;
        let company = company.ok_or(Kind::OrganizationRequired)?;
        if has_api(self.app.control.store(), company)? {
            return Ok(());
        }
        Err(Kind::FeatureNotIncluded {
            feature: "the REST API".to_owned(),
        }
        .into())
    }

    fn policies(&self) -> &[LimitPolicy] {
        &self.policies
    }

    fn body_limit_bytes(&self) -> u64 {
        BODY_MAX_BYTES
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if let Ok(id) = HeaderValue::from_str(&request_id(answered.request_id)) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(allowance) = answered.limits.and_then(of_tier) {
            headers.insert(LIMIT, allowance.limit.into());
            headers.insert(REMAINING, allowance.remaining.into());
            headers.insert(RESET, whole_seconds(allowance.reset).into());
        }
    }
}

/// The limit of the request's tier; that of the day if it refused the request (6).
fn of_tier(limits: &Decision) -> Option<&Allowance> {
    let mut allowances = limits.allowances.iter();
    let daily = |allowance: &&Allowance| allowance.policy == DAILY;
    let exceeded = limits.allowances.iter().find(|a| a.is_exceeded && daily(a));
    exceeded.or_else(|| allowances.find(|allowance| !daily(allowance)))
}

/// When the time has passed for sure.
fn whole_seconds(time: Timestamp) -> i64 {
    time.seconds() + i64::from(time.micros() % 1_000_000 != 0)
}
