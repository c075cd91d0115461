//! What the pipeline has established about a request, for extractors and handlers.

use crate::failure::Failure;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::{Credential, SERVER};
use meterd_fault::{Fault, Format, Kind, Location, Problem, Rule};
use meterd_model::{OrganizationId, Timestamp};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// Facts about one request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context(Arc<Facts>);

#[derive(Clone, Debug)]
pub struct Facts {
    pub request_id: Uuid,
    /// When the request arrived; handlers use this and never a clock.
    pub now: Timestamp,
    /// Whoever sent the request, seen through trusted proxies.
    pub client: IpAddr,
    /// Scheme and authority, without trailing slash.
    pub base_url: String,
    /// What the surface's paths begin with, e.g. `/v1`; empty on a listener of its own.
    pub prefix: &'static str,
    pub caller: Option<Caller>,
    /// Decoded path parameters by name.
    pub params: Vec<(String, String)>,
    pub body_limit_bytes: u64,
}

impl Context {
    pub(crate) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }
}

impl std::ops::Deref for Context {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Fault::internal("a handler ran outside the pipeline").into())
    }
}

/// Who is asking: an authenticated credential.
#[derive(Clone, Debug)]
pub struct Caller {
    pub credential: Arc<Credential>,
}

/// A permission's name as a type, so that it can stand in a handler's signature.
pub trait Permission: Send + 'static {
    const NAME: &'static str;
}

/// Proof that the caller belongs to an organization and holds `P` there.
#[derive(Debug)]
pub struct Permit<P> {
    pub organization: OrganizationId,
    pub credential: Arc<Credential>,
    permission: PhantomData<P>,
}

impl<P: Permission, S: Sync> FromRequestParts<S> for Permit<P> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let credential = caller(parts, state).await?;
        // Before the permission: no permission would help an administrator's key here.
        let organization = credential.organization.ok_or(Kind::OrganizationRequired)?;
        credential.permits(P::NAME)?;
        Ok(Self {
            organization,
            credential,
            permission: PhantomData,
        })
    }
}

/// Proof that the caller administers the server and holds `P`.
#[derive(Debug)]
pub struct AdminPermit<P> {
    pub credential: Arc<Credential>,
    permission: PhantomData<P>,
}

impl<P: Permission, S: Sync> FromRequestParts<S> for AdminPermit<P> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let credential = caller(parts, state).await?;
        if !credential.is_admin() {
            return Err(Kind::AdministratorRequired.into());
        }
        credential.permits(P::NAME)?;
        Ok(Self {
            credential,
            permission: PhantomData,
        })
    }
}

/// Proof that the caller holds `P` where it belongs: in its organization, or on the server for an administrator.
#[derive(Debug)]
pub struct HomePermit<P> {
    /// [`SERVER`] for an administrator.
    pub home: OrganizationId,
    pub credential: Arc<Credential>,
    permission: PhantomData<P>,
}

impl<P: Permission, S: Sync> FromRequestParts<S> for HomePermit<P> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let credential = caller(parts, state).await?;
        credential.permits(P::NAME)?;
        Ok(Self {
            home: credential.organization.unwrap_or(SERVER),
            credential,
            permission: PhantomData,
        })
    }
}

async fn caller<S: Sync>(parts: &mut Parts, state: &S) -> Result<Arc<Credential>, Failure> {
    let context = Context::from_request_parts(parts, state).await?;
    let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
    Ok(Arc::clone(&caller.credential))
}

/// The path's parameters.
#[derive(Debug)]
pub struct Params(Context);

impl Params {
    /// A parameter of the matched route, decoded.
    pub fn get(&self, name: &str) -> &str {
        self.0
            .params
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Context::from_request_parts(parts, state).await.map(Self)
    }
}

/// The fault for a path parameter that is no percent-encoded UTF-8.
pub(crate) fn undecodable_parameter(name: &str) -> Fault {
    Fault::invalid(Problem::new(
        Location::Path(name.to_owned()),
        Rule::Format {
            format: Format::UrlEncoding,
        },
    ))
}
