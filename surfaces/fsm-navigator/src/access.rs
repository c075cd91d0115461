//! Who calls: scopes as types, and the data set that a key works on.

use crate::app::App;
use crate::company::space_of;
use crate::settings::FsmNavigatorLimits;
use crate::surface::SURFACE;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::{Author, Environment, KeyRules};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Kind, Rule};
use meterd_http::{Context, Failure, LongWork, Slot};
use meterd_model::OrganizationId;
use std::marker::PhantomData;

/// What keys of this surface may be. A scope that nobody knows grants nothing and is no error (2.2).
pub const KEYS: KeyRules = KeyRules {
    surface: SURFACE,
    serves_administrators: false,
    environments: &[Environment::Live, Environment::Test],
    is_permission: is_scope,
    permission_rule: || Rule::Other {
        code: "scope",
        text: "must be a scope such as jobs:read".into(),
    },
    limits: || FsmNavigatorLimits::default().policies(),
};

/// A scope's name as a type, so that it can stand in a handler's signature.
pub(crate) trait Scope: Send + 'static {
    const NAME: &'static str;
    /// Another scope that grants the same.
    const IMPLIED_BY: Option<&'static str> = None;
}

macro_rules! scopes {
    ($($name:ident = $text:literal $(, implied by $other:literal)?;)+) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;

        impl Scope for $name {
            const NAME: &'static str = $text;
            $(const IMPLIED_BY: Option<&'static str> = Some($other);)?
        }
    )+

        /// The thirteen that are known (2.2).
        pub const SCOPES: &[&str] = &[$($text),+];
    };
}

scopes! {
    JobsRead = "jobs:read";
    JobsWrite = "jobs:write";
    CustomersRead = "customers:read";
    CustomersWrite = "customers:write";
    AssetsRead = "assets:read";
    AssetsWrite = "assets:write";
    AssetsTransfer = "assets:transfer";
    AssetsMeter = "assets:meter";
    AssetsService = "assets:service";
    InventoryRead = "inventory:read", implied by "inventory:write";
    InventoryWrite = "inventory:write";
    InventoryTransfer = "inventory:transfer";
    TechniciansRead = "technicians:read";
}

/// Proof that the caller holds a scope.
#[derive(Debug)]
pub(crate) struct Access<S> {
    /// The data set that the key works on.
    pub(crate) space: OrganizationId,
    pub(crate) context: Context,
    company: OrganizationId,
    author: Author,
    scope: PhantomData<S>,
}

impl<S> Access<S> {
    /// The caller as author of a change.
    pub(crate) fn author(&self) -> Author {
        self.author
    }

    /// Searches, or questions the engine. Both data sets of a company share its places.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        app: &App,
        work: impl FnOnce(&App, &Cancel) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        app.query(self.company, work).await
    }

    /// Leave to do the same in several steps.
    pub(crate) async fn query_slot(&self, app: &App) -> Result<Slot, Fault> {
        app.query_slot(self.company).await
    }
}

impl<S: Scope> FromRequestParts<App> for Access<S> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let context = Context::from_request_parts(parts, app).await?;
        let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
        let credential = &caller.credential;
        if !S::IMPLIED_BY.is_some_and(|other| credential.holds(other)) {
            credential.permits(S::NAME)?;
        }
        Ok(Self {
            space: space(&context)?,
            company: company(&context)?,
            author: Author::new(credential.actor(), context.now),
            context,
            scope: PhantomData,
        })
    }
}

/// The data set that the caller's key works on.
pub(crate) fn space(context: &Context) -> Result<OrganizationId, Fault> {
    let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
    Ok(space_of(company(context)?, caller.credential.environment))
}

fn company(context: &Context) -> Result<OrganizationId, Fault> {
    let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
    let company = caller.credential.organization;
    company.ok_or_else(|| Kind::OrganizationRequired.into())
}

fn is_scope(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once(':')
        .is_some_and(|(resource, action)| is_word(resource) && is_word(action))
}
