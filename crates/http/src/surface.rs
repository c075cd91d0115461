//! One API face of meterd, as the pipeline sees it.

use crate::context::Caller;
use crate::cors::Cors;
use crate::dialect::Dialect;
use crate::route::Routes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use meterd_control::{Decision, LimitPolicy};
use meterd_fault::Fault;
use meterd_model::Timestamp;
use std::borrow::Cow;
use uuid::Uuid;

/// Answered on every listener.
pub const HEALTH_PATH: &str = "/healthz";

/// The checks before a handler. A surface lists them in the order its original makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The path exists.
    Route,
    /// The method exists there.
    Method,
    /// The limits of the source address have room. Counts the request there, so that [`Self::RateLimit`] does not.
    AddressLimit,
    /// The credentials are good.
    Authenticate,
    /// They may be used from this address.
    Address,
    /// The caller may act where the path says, see [`Surface::admit`].
    Organization,
    /// All limits have room. Counts the request.
    RateLimit,
}

/// What is known once a request has its answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub request_id: Uuid,
    pub now: Timestamp,
    /// What the rate limit steps found, if one was reached; of a refused request too.
    pub limits: Option<&'a Decision>,
    /// Why the answer is no success.
    pub fault: Option<&'a Fault>,
}

/// What a surface contributes to the pipeline: data and translation, no mechanism.
pub trait Surface: std::fmt::Debug + Send + Sync + 'static {
    fn dialect(&self) -> &dyn Dialect;

    fn order(&self) -> &'static [Step];

    fn routes(&self) -> &Routes;

    /// The path that routes are looked up by, for surfaces whose original names what it addresses in the query too.
    fn route_path<'p>(&self, path: &'p str, query: &str) -> Cow<'p, str> {
        let _ = query;
        Cow::Borrowed(path)
    }

    /// Finds the credentials where the surface's original wants them, and checks them.
    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault>;

    /// Whether the caller may act where the path says; `params` are those of the matched route, percent-encoded.
    fn admit(&self, caller: &Caller, params: &[(String, String)]) -> Result<(), Fault> {
        let (_, _) = (caller, params);
        Ok(())
    }

    /// Limits by address, organization or for all, beside those of the credential.
    fn policies(&self) -> &[LimitPolicy] {
        &[]
    }

    /// What scripts of other sites may do; nothing without it. With it, `OPTIONS` of a route that exists is answered
    /// before any other check.
    fn cors(&self) -> Option<&'static Cors> {
        None
    }

    /// Whether a path that belongs to no surface is there on this one's own listener too, unless it has that path itself:
    /// what tells that the process answers, and what its answers link to.
    fn shares(&self, path: &str) -> bool {
        path == HEALTH_PATH
    }

    /// Largest request body, unless a route says otherwise.
    fn body_limit_bytes(&self) -> u64;

    /// Whether its requests are turned away when too many are in hand. What tells the server's health is not.
    fn is_shed(&self) -> bool {
        true
    }

    /// Headers that every answer carries, whatever its status.
    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>);
}
