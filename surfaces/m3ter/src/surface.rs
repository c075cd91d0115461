//! The m3ter surface as the pipeline sees it.

use crate::account::Account;
use crate::aggregation::Aggregation;
use crate::app::App;
use crate::compound_aggregation::CompoundAggregation;
use crate::counter::Counter;
use crate::counter_adjustment::CounterAdjustment;
use crate::custom_fields::CustomFields;
use crate::dialect::M3terDialect;
use crate::export_destination::ExportDestination;
use crate::export_job::ExportJob;
use crate::export_schedule::ExportSchedule;
use crate::grant::Grant;
use crate::invitation::Invitation;
use crate::meter::Meter;
use crate::notification::Notification;
use crate::organization_config::OrganizationConfig;
use crate::policy::PermissionPolicy;
use crate::product::Product;
use crate::resource_group::{GroupMember, ResourceGroup};
use crate::routes::routes;
use crate::saved_query::SavedQuery;
use crate::scheduled_event::ScheduledEvent;
use crate::service_user::ServiceUser;
use crate::upload::UploadJob;
use crate::user::User;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use meterd_control::{Documents, LimitPolicy};
use meterd_fault::{Fault, Kind};
use meterd_http::{Answered, Caller, Dialect, Routes, Step, Surface, bearer, request_id_header};
use meterd_model::Timestamp;

/// The surface's name, in credentials, logs and metrics.
pub(crate) const SURFACE: &str = "m3ter";
/// Largest body where no route says otherwise: no configuration object comes near it.
const BODY_MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct M3terSurface {
    routes: Routes,
    policies: Vec<LimitPolicy>,
    dialect: M3terDialect,
    app: App,
}

impl M3terSurface {
    pub fn new(app: App) -> Self {
        Self {
            routes: routes(app.clone()),
            policies: app.settings.limits.policies(),
            dialect: M3terDialect {
                token_refusal: app.settings.token_refusal,
            },
            app,
        }
    }
}

/// The kinds of resource that this surface stores.
pub fn documents() -> Documents {
    identity()
        .and(records())
        .with::<Account>()
        .with::<Aggregation>()
        .with::<CompoundAggregation>()
        .with::<Counter>()
        .with::<CounterAdjustment>()
        .with::<CustomFields>()
        .with::<Meter>()
        .with::<OrganizationConfig>()
        .with::<Product>()
        .with::<SavedQuery>()
}

/// What is kept of events, uploads and exports.
fn records() -> Documents {
    Documents::new()
        .with::<ExportDestination>()
        .with::<ExportJob>()
        .with::<ExportSchedule>()
        .with::<Notification>()
        .with::<ScheduledEvent>()
        .with::<UploadJob>()
}

fn identity() -> Documents {
    Documents::new()
        .with::<Grant>()
        .with::<GroupMember>()
        .with::<Invitation>()
        .with::<PermissionPolicy>()
        .with::<ResourceGroup>()
        .with::<ServiceUser>()
        .with::<User>()
}

impl Surface for M3terSurface {
    fn dialect(&self) -> &dyn Dialect {
        &self.dialect
    }

    /// m3ter limits addresses before it looks at tokens (2.2). The organization's limits come after the token, so that
    /// nobody without one can use them up.
    fn order(&self) -> &'static [Step] {
        &[
            Step::Route,
            Step::Method,
            Step::AddressLimit,
            Step::Authenticate,
            Step::Address,
            Step::Organization,
            Step::RateLimit,
        ]
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault> {
        let token = bearer(&parts.headers)?;
        let tokens = self.app.control.tokens();
        let credential = tokens.check(SURFACE, token, now)?;
        Ok(Caller { credential })
    }

    /// Whatever else the path says, it must be the caller's organization (7.3); no other is told to exist.
    fn admit(&self, caller: &Caller, params: &[(String, String)]) -> Result<(), Fault> {
        let named = params.iter().find(|(name, _)| name == "orgId");
        let own = caller.credential.organization;
        match (named, own) {
            (None, _) => Ok(()),
            (Some((_, id)), Some(own)) if *id == own.to_string() => Ok(()),
            (Some((_, id)), _) => Err(Kind::OrganizationNotAccessible {
                organization: id.clone(),
            }
            .into()),
        }
    }

    fn policies(&self) -> &[LimitPolicy] {
        &self.policies
    }

    fn body_limit_bytes(&self) -> u64 {
        BODY_MAX_BYTES
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        request_id_header(headers, answered.request_id);
    }
}
