//! Whether a caller may do what an operation does: permission as an argument of its handler.

use crate::app::App;
use crate::rules::{Rules, Sight};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::{Actor, Author};
use meterd_fault::{Fault, Kind};
use meterd_http::fields::parse_uuid;
use meterd_http::{Context, Failure, LongWork, Params};
use meterd_model::OrganizationId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use uuid::Uuid;

/// What statements of policies allow or deny (2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    ConfigCreate,
    ConfigRetrieve,
    ConfigUpdate,
    ConfigDelete,
    ConfigExport,
    AnalyticsQuery,
    MeasurementsUpload,
    MeasurementsFileUpload,
    MeasurementsRetrieve,
    MeasurementsExport,
    ForecastRetrieve,
    HealthscoresRetrieve,
    AnomaliesRetrieve,
    ExportsDownload,
    MarketplaceUsageCreate,
    MarketplaceUsageRetrieve,
    AuditRetrieve,
}

impl Action {
    /// Each with the word for it.
    pub(crate) const ALL: [(&'static str, Self); 17] = [
        ("config:create", Self::ConfigCreate),
        ("config:retrieve", Self::ConfigRetrieve),
        ("config:update", Self::ConfigUpdate),
        ("config:delete", Self::ConfigDelete),
        ("config:export", Self::ConfigExport),
        ("analytics:query", Self::AnalyticsQuery),
        ("measurements:upload", Self::MeasurementsUpload),
        ("measurements:fileUpload", Self::MeasurementsFileUpload),
        ("measurements:retrieve", Self::MeasurementsRetrieve),
        ("measurements:export", Self::MeasurementsExport),
        ("forecast:retrieve", Self::ForecastRetrieve),
        ("healthscores:retrieve", Self::HealthscoresRetrieve),
        ("anomalies:retrieve", Self::AnomaliesRetrieve),
        ("exports:download", Self::ExportsDownload),
        ("marketplaceUsage:create", Self::MarketplaceUsageCreate),
        ("marketplaceUsage:retrieve", Self::MarketplaceUsageRetrieve),
        ("audit:retrieve", Self::AuditRetrieve),
    ];

    pub(crate) fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, action)| *action == self);
        found.map_or("", |(word, _)| word)
    }
}

/// What an action is done to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) service: &'static str,
    pub(crate) kind: &'a str,
    /// None for what does not exist yet, or is no single item.
    pub(crate) id: Option<Uuid>,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/item/", self.service, self.kind)?;
        match self.id {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("*"),
        }
    }
}

/// An authenticated caller with all that its policies say.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) organization: OrganizationId,
    /// The service user.
    pub(crate) principal: Uuid,
    pub(crate) context: Context,
    rules: Arc<Rules>,
}

impl Access {
    /// The caller as author of a change.
    pub(crate) fn author(&self) -> Author {
        Author::new(Actor::Principal(self.principal), self.context.now)
    }

    pub(crate) fn may(&self, action: Action, target: &Target<'_>) -> bool {
        self.rules.allow(action, target)
    }

    pub(crate) fn permit(&self, action: Action, target: &Target<'_>) -> Result<(), Fault> {
        if self.may(action, target) {
            return Ok(());
        }
        Err(refused(action, target))
    }

    /// Leave for everything of a kind, of which no item is denied.
    pub(crate) fn permit_all(
        &self,
        action: Action,
        service: &'static str,
        kind: &str,
    ) -> Result<(), Fault> {
        if self.rules.sight(action, service, kind).is_whole() {
            return Ok(());
        }
        let id = None;
        Err(refused(action, &Target { service, kind, id }))
    }
}

fn refused(action: Action, target: &Target<'_>) -> Fault {
    let permission = format!("{} on {target}", action.word());
    // The answer is the bare word Forbidden, so that the log has to say what was missing.
    Fault::new(Kind::PermissionMissing {
        permission: permission.clone(),
        holds_related: false,
    })
    .with_context(permission)
}

impl FromRequestParts<App> for Access {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let context = Context::from_request_parts(parts, app).await?;
        let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
        let credential = &caller.credential;
        let organization = credential.organization.ok_or(Kind::OrganizationRequired)?;
        let principal = credential.principal.unwrap_or(credential.id);
        let known = (app.rules).known(app.control.store(), organization, principal);
        let rules = match known {
            Some(rules) => rules,
            None => {
                app.blocking(move |app| {
                    (app.rules).make(app.control.store(), organization, principal)
                })
                .await?
            }
        };
        Ok(Self {
            organization,
            principal,
            context,
            rules,
        })
    }
}

/// What an operation does, as a type, so that it can stand in a handler's signature.
pub(crate) trait Verb: Send + 'static {
    const ACTION: Action;
    /// Whether it is done to the item that the path's `id` names.
    const TO_ITEM: bool;
}

/// A kind of thing that policies name.
pub(crate) trait Guarded: Send + 'static {
    const SERVICE: &'static str = "config";
    const WORD: &'static str;
    /// What it takes to find it in a list.
    const SEEING: Action = Action::ConfigRetrieve;
}

macro_rules! verbs {
    ($($name:ident = $action:ident, $to_item:literal;)+) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;

        impl Verb for $name {
            const ACTION: Action = Action::$action;
            const TO_ITEM: bool = $to_item;
        }
    )+};
}

verbs! {
    Create = ConfigCreate, false;
    Retrieve = ConfigRetrieve, true;
    Update = ConfigUpdate, true;
    Delete = ConfigDelete, true;
    Upload = MeasurementsUpload, false;
}

/// Proof that the caller may do `V` to the `K` that the path names.
#[derive(Debug)]
pub(crate) struct Allowed<V, K> {
    pub(crate) access: Access,
    marker: PhantomData<(V, K)>,
}

impl<V: Verb, K: Guarded> FromRequestParts<App> for Allowed<V, K> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let access = Access::from_request_parts(parts, app).await?;
        let params = Params::from_request_parts(parts, app).await?;
        let target = Target {
            service: K::SERVICE,
            kind: K::WORD,
            // What is no id is covered by statements about the whole kind only.
            id: parse_uuid(params.get("id")).filter(|_| V::TO_ITEM),
        };
        access.permit(V::ACTION, &target)?;
        Ok(Self {
            access,
            marker: PhantomData,
        })
    }
}

/// Proof that the caller may see some or all of a kind.
#[derive(Debug)]
pub(crate) struct Seen<K> {
    pub(crate) access: Access,
    sight: Sight,
    marker: PhantomData<K>,
}

impl<K: Guarded> Seen<K> {
    /// Whether the caller may see this one.
    pub(crate) fn sees(&self, id: Uuid) -> bool {
        self.sight.has(id)
    }
}

impl<K: Guarded> FromRequestParts<App> for Seen<K> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let access = Access::from_request_parts(parts, app).await?;
        let sight = access.rules.sight(K::SEEING, K::SERVICE, K::WORD);
        if sight.is_empty() {
            let all = Target {
                service: K::SERVICE,
                kind: K::WORD,
                id: None,
            };
            return Err(refused(K::SEEING, &all).into());
        }
        Ok(Self {
            access,
            sight,
            marker: PhantomData,
        })
    }
}
