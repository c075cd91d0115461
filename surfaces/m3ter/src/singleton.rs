//! What every organization has exactly one of, from the start: it is read and replaced, never created or deleted (4.2).

use crate::access::{Access, Retrieve, Target, Update, Verb};
use crate::app::App;
use crate::entity::{Entity, View, replace_stored};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use meterd_control::{Store, Stored};
use meterd_fault::Fault;
use meterd_http::{Failure, Params, Parsed, Reply};
use meterd_model::OrganizationId;
use std::marker::PhantomData;
use std::sync::Arc;

/// The unique key that there is only one of. All of these kinds have it.
pub(crate) const KEY: (&str, &str) = ("singleton", "1");

/// A kind of which each organization has one. Its default is what an organization is provisioned with.
pub(crate) trait Singleton: Entity + Default {}

/// [`KEY`], as documents say their keys.
pub(crate) fn singleton_key() -> Vec<(&'static str, String)> {
    vec![(KEY.0, KEY.1.to_owned())]
}

/// What it says, or what it would say if it were there.
pub(crate) fn current<S: Singleton>(
    store: &Store,
    organization: OrganizationId,
) -> Result<S, Fault> {
    let stored = store.find_by_key::<S>(organization, KEY.0, KEY.1)?;
    Ok(stored.map_or_else(S::default, |stored| stored.document.clone()))
}

/// The organization's `S`, to which the caller may do `V`.
#[derive(Debug)]
pub(crate) struct Only<V, S> {
    access: Access,
    stored: Arc<Stored<S>>,
    marker: PhantomData<V>,
}

impl<V: Verb, S: Singleton> FromRequestParts<App> for Only<V, S> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let access = Access::from_request_parts(parts, app).await?;
        let store = app.control.store();
        let stored = store.get_by_key::<S>(access.organization, KEY.0, KEY.1)?;
        let target = Target {
            service: S::SERVICE,
            kind: S::WORD,
            id: Some(stored.id),
        };
        access.permit(V::ACTION, &target)?;
        Ok(Self {
            access,
            stored,
            marker: PhantomData,
        })
    }
}

pub(crate) async fn retrieve_only<S: Singleton>(only: Only<Retrieve, S>) -> Reply<View<S>> {
    Reply::ok(View::of(&only.stored))
}

pub(crate) async fn replace_only<S: Singleton>(
    State(app): State<App>,
    params: Params,
    only: Only<Update, S>,
    body: Parsed,
) -> Result<Reply<View<S>>, Failure> {
    replace_stored(&app, &only.access, &params, &only.stored, body).await
}
