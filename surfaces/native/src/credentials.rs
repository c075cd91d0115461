//! Credentials, for the server's administrator: API keys of any organization.

use crate::app::{App, author};
use crate::page::{self, Page};
use crate::permissions::{self, CredentialsRead, CredentialsWrite};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meterd_control::{
    ADDRESSES_MAX, CREDENTIAL_NAME_MAX, Credential, Cursor, Issued, List, NewCredential, NewSecret,
    OVERLAP_MAX, PERMISSIONS_MAX, SecretForm, canonical_block,
};
use meterd_fault::{Fault, Format, Kind, Location, Problem, Resource, Rule};
use meterd_http::fields::{Fields, texts_of};
use meterd_http::{
    AdminPermit, Body, Checked, Context, Failure, NoContent, Params, Query, ReplayBody, Reply,
};
use meterd_model::{OrganizationId, TextError, Timestamp};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Every rule that a native key breaks, for whoever makes one without the API. `now` is when it would be made.
pub fn check_key(key: &NewCredential, now: Timestamp) -> Result<(), Fault> {
    let mut problems = key.problems(now);
    let given = key.permissions.iter().take(PERMISSIONS_MAX).enumerate();
    // Control already names what is no permission at all.
    for (index, permission) in given.filter(|(_, given)| !permissions::is_known(given)) {
        let place = format!("/permissions/{index}");
        let location = Location::Body(place.clone());
        problems.retain(|problem| problem.location != location);
        problems.push(unknown_permission(place, permission));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Kind::Invalid { problems }.into())
}

fn unknown_permission(place: String, given: &str) -> Problem {
    let allowed = permissions::grantable()
        .into_iter()
        .map(Into::into)
        .collect();
    Problem::body(place, Rule::OneOf { allowed }).with_value(given)
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct CredentialView {
    id: String,
    /// Null for a server administrator.
    organization: Option<String>,
    surface: String,
    name: String,
    permissions: Vec<String>,
    addresses: Vec<String>,
    expires_at: Option<String>,
    state: &'static str,
    hint: String,
    created_at: String,
    last_used_at: Option<String>,
    /// Shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl CredentialView {
    fn of(app: &App, credential: &Credential) -> Self {
        let organization = credential.organization.map(|id| {
            let found = app.control.store().organization(id);
            found.map_or_else(|_| id.to_string(), |stored| stored.document.name.clone())
        });
        Self {
            id: credential.id.to_string(),
            organization,
            surface: credential.surface.clone(),
            name: credential.name.clone(),
            permissions: credential.permissions.clone(),
            addresses: credential
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            expires_at: credential.expires_at.map(|time| time.to_string()),
            state: credential.state.as_str(),
            hint: credential.hint.clone(),
            created_at: credential.created_at.to_string(),
            last_used_at: app
                .control
                .credentials()
                .last_used(credential.id)
                .map(|time| time.to_string()),
            secret: None,
        }
    }

    fn with_secret(app: &App, issued: &Issued) -> Self {
        Self {
            secret: Some(issued.secret.reveal().to_owned()),
            ..Self::of(app, &issued.credential)
        }
    }
}

#[derive(Debug)]
pub(crate) struct CredentialRequest {
    /// Name or id; none for a server administrator.
    organization: Option<String>,
    name: String,
    permissions: Vec<String>,
    addresses: Vec<ipnet::IpNet>,
    expires_at: Option<Timestamp>,
}

impl Checked for CredentialRequest {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let organization = fields.string("organization");
        let name = fields.required_text("name", |text| {
            meterd_model::check_text(&text, NAME).map(|()| text)
        });
        let permissions = check_permissions(fields);
        let addresses = check_addresses(fields);
        let expires_at = fields.timestamp("expires_at");
        Some(Self {
            organization,
            name: name?,
            permissions: permissions?,
            addresses,
            expires_at,
        })
    }
}

const NAME: meterd_model::TextRule = meterd_model::TextRule {
    min_chars: 1,
    max_chars: CREDENTIAL_NAME_MAX,
    alphabet: meterd_model::Alphabet::Text,
};

fn check_permissions(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let items = fields.required_array("permissions", PERMISSIONS_MAX)?;
    let location = Location::Body("/permissions".to_owned());
    let given = texts_of(items, &location, fields.problems(), Ok::<String, TextError>);
    for (index, permission) in given.iter().enumerate() {
        if permissions::is_known(permission) {
            continue;
        }
        let pointer = format!("/permissions/{index}");
        fields
            .problems()
            .push(unknown_permission(pointer, permission));
    }
    Some(given)
}

fn check_addresses(fields: &mut Fields<'_>) -> Vec<ipnet::IpNet> {
    let Some(texts) = fields.texts("addresses", ADDRESSES_MAX, Ok::<String, TextError>) else {
        return Vec::new();
    };
    let mut blocks = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match parse_block(text) {
            Some(block) => blocks.push(block),
            None => fields.problems().push(
                Problem::body(
                    format!("/addresses/{index}"),
                    Rule::Format {
                        format: Format::AddressBlock,
                    },
                )
                .with_value(text),
            ),
        }
    }
    blocks
}

/// An address or a block of them; IPv4 ones as such, however they are spelled.
pub fn parse_block(text: &str) -> Option<ipnet::IpNet> {
    let single = || {
        text.parse::<std::net::IpAddr>()
            .ok()
            .map(ipnet::IpNet::from)
    };
    text.parse().ok().or_else(single).map(canonical_block)
}

pub(crate) async fn create_credential(
    State(app): State<App>,
    context: Context,
    permit: AdminPermit<CredentialsWrite>,
    Body(new): Body<CredentialRequest>,
) -> Result<Response, Failure> {
    let author = author(&permit.credential, &context);
    let organization = match &new.organization {
        Some(name) => {
            let place = Location::Body("/organization".to_owned());
            Some(app.organization_named(name, place)?)
        }
        None => None,
    };
    let mut wanted = NewCredential::api_key(organization, "native", new.name, SecretForm::NATIVE)
        .with_permissions(new.permissions);
    wanted.addresses = new.addresses;
    wanted.expires_at = new.expires_at;
    check_key(&wanted, context.now)?;
    let issued = app
        .blocking(move |app| app.control.credentials().create(wanted, &author))
        .await?;
    let location = format!("{}/credentials/{}", context.prefix, issued.credential.id);
    let shown = CredentialView::with_secret(&app, &issued);
    Ok(once(Reply::created(shown.clone(), location), shown))
}

/// An answer with a secret: a replay of the request gets it without, since secrets are not kept.
fn once(reply: Reply<CredentialView>, shown: CredentialView) -> Response {
    let without = CredentialView {
        secret: None,
        ..shown
    };
    let mut response = reply.into_response();
    response.extensions_mut().insert(ReplayBody::json(&without));
    response
}

impl App {
    /// By name or id; a problem at `place` if there is none.
    fn organization_named(&self, name: &str, place: Location) -> Result<OrganizationId, Fault> {
        let store = self.control.store();
        let by_id = name.parse::<Uuid>().ok().map(OrganizationId);
        let found = match by_id {
            Some(id) => store.organization(id),
            None => store.organization_by_name(name),
        };
        found.map(|stored| stored.organization_id()).map_err(|_| {
            let rule = Rule::UnknownReference {
                resource: Resource::Organization,
            };
            Fault::invalid(Problem::new(place, rule).with_value(name))
        })
    }

    fn credential(&self, id: &str) -> Result<Arc<Credential>, Fault> {
        id.parse::<Uuid>()
            .ok()
            .and_then(|id| self.control.credentials().find(id))
            .ok_or_else(|| {
                Kind::ResourceNotFound {
                    resource: Resource::Credential,
                    id: meterd_fault::quote(id),
                }
                .into()
            })
    }
}

#[derive(Debug)]
pub(crate) struct CredentialQuery {
    organization: Option<String>,
    limit: usize,
    cursor: Option<Cursor>,
}

impl Checked for CredentialQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            organization: fields.string("organization"),
            limit: page::limit(fields),
            cursor: page::cursor(fields, |text| Cursor::parse(text).ok()),
        })
    }
}

/// Of one organization, or of the server's administrators.
pub(crate) async fn list_credentials(
    State(app): State<App>,
    _permit: AdminPermit<CredentialsRead>,
    Query(query): Query<CredentialQuery>,
) -> Result<Reply<Page<CredentialView>>, Failure> {
    let organization = match &query.organization {
        None => None,
        Some(name) => {
            let place = Location::Query("organization".to_owned());
            Some(app.organization_named(name, place)?)
        }
    };
    let list = List {
        cursor: query.cursor,
        limit: query.limit,
        ..List::default()
    };
    let (credentials, next) = app.control.credentials().list(organization, &list)?;
    Ok(Reply::ok(Page {
        items: credentials
            .iter()
            .map(|credential| CredentialView::of(&app, credential))
            .collect(),
        next_cursor: next.map(|cursor| cursor.to_string()),
    }))
}

pub(crate) async fn get_credential(
    State(app): State<App>,
    _permit: AdminPermit<CredentialsRead>,
    params: Params,
) -> Result<Reply<CredentialView>, Failure> {
    let credential = app.credential(params.get("id"))?;
    Ok(Reply::ok(CredentialView::of(&app, &credential)))
}

/// Ends a credential for good; it stays listed as revoked.
pub(crate) async fn revoke_credential(
    State(app): State<App>,
    context: Context,
    permit: AdminPermit<CredentialsWrite>,
    params: Params,
) -> Result<NoContent, Failure> {
    let credential = app.credential(params.get("id"))?;
    let author = author(&permit.credential, &context);
    app.blocking(move |app| app.control.credentials().revoke(credential.id, &author))
        .await?;
    Ok(NoContent)
}

#[derive(Debug)]
pub(crate) struct Rotation {
    overlap: Duration,
}

impl Checked for Rotation {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let longest = i64::try_from(OVERLAP_MAX.as_secs()).unwrap_or(i64::MAX);
        let overlap = fields.integer("overlap_seconds", 0, longest);
        let seconds = u64::try_from(overlap.unwrap_or(0)).unwrap_or(0);
        Some(Self {
            overlap: Duration::from_secs(seconds),
        })
    }
}

/// A new secret; the old one goes on working for the overlap.
pub(crate) async fn rotate_credential(
    State(app): State<App>,
    context: Context,
    permit: AdminPermit<CredentialsWrite>,
    params: Params,
    Body(rotation): Body<Rotation>,
) -> Result<Response, Failure> {
    let credential = app.credential(params.get("id"))?;
    let author = author(&permit.credential, &context);
    let issued = app
        .blocking(move |app| {
            let secret = NewSecret::Generate(credential.secret_form());
            app.control
                .credentials()
                .rotate(credential.id, secret, rotation.overlap, &author)
        })
        .await?;
    let shown = CredentialView::with_secret(&app, &issued);
    Ok(once(Reply::ok(shown.clone()), shown))
}
