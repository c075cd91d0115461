//! Credentials, for the server's administrator: API keys of any organization.

use crate::access::{CredentialsRead, CredentialsWrite, KEYS};
use crate::app::{App, author};
use crate::page::{self, Page};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use meterd_control::{
    ADDRESSES_MAX, CREDENTIAL_NAME_MAX, Credential, CredentialChange, Cursor, Environment, Issued,
    KeyRules, LimitPolicy, List, NewCredential, NewSecret, OVERLAP_MAX, PERMISSIONS_MAX,
    canonical_block,
};
use meterd_fault::{Fault, Format, JsonType, Kind, Location, Problem, Resource, Rule};
use meterd_http::fields::{Fields, Problems, texts_of};
use meterd_http::json::{Json, child};
use meterd_http::{
    AdminPermit, Body, Checked, Context, Failure, LongWork, NoContent, Params, Query, ReplayBody,
    Reply,
};
use meterd_model::{OrganizationId, TextError, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Data sets, by the words for them.
const ENVIRONMENTS: [(&str, Environment); 2] =
    [("live", Environment::Live), ("test", Environment::Test)];

#[derive(Clone, Debug, Serialize)]
pub(crate) struct CredentialView {
    id: String,
    /// Null for a server administrator.
    organization: Option<String>,
    surface: String,
    /// Which of the organization's data sets it works on, where its surface knows two.
    environment: &'static str,
    name: String,
    permissions: Vec<String>,
    addresses: Vec<String>,
    expires_at: Option<String>,
    /// Its own numbers in place of its surface's limits.
    limits: BTreeMap<String, u64>,
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
            environment: credential.environment.as_str(),
            name: credential.name.clone(),
            permissions: credential.permissions.clone(),
            addresses: credential
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            expires_at: credential.expires_at.map(|time| time.to_string()),
            limits: (credential.limits.iter())
                .map(|limit| (limit.name.clone(), limit.limit))
                .collect(),
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
    surface: Option<String>,
    environment: Environment,
    name: String,
    permissions: Vec<String>,
    addresses: Vec<IpNet>,
    expires_at: Option<Timestamp>,
    limits: Vec<(String, u64)>,
}

impl Checked for CredentialRequest {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let organization = fields.string("organization");
        let surface = fields.string("surface");
        let environment = fields.choice("environment", &ENVIRONMENTS);
        let name = fields.required_checked("name", NAME);
        let permissions = fields
            .required_array("permissions", PERMISSIONS_MAX)
            .map(|items| check_permissions(fields, items));
        // Those of other surfaces are looked at once it is known which there are.
        if surface.as_deref().is_none_or(|name| name == KEYS.surface) {
            for problem in KEYS.permission_problems(permissions.as_deref().unwrap_or_default()) {
                fields.problems().push(problem);
            }
        }
        let addresses = check_addresses(fields).unwrap_or_default();
        let expires_at = fields.timestamp("expires_at");
        let limits = check_limits(fields).unwrap_or_default();
        Some(Self {
            organization,
            surface,
            environment: environment.unwrap_or_default(),
            name: name?,
            permissions: permissions?,
            addresses,
            expires_at,
            limits,
        })
    }
}

/// What `PATCH` changes of a credential; what the body leaves out stays.
#[derive(Debug)]
pub(crate) struct CredentialEdit {
    /// But for the limits.
    change: CredentialChange,
    limits: Option<Vec<(String, u64)>>,
}

impl Checked for CredentialEdit {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let ends = fields.is_given("expires_at");
        let permissions = fields.array("permissions", PERMISSIONS_MAX);
        let change = CredentialChange {
            name: fields.checked_string("name", NAME),
            permissions: permissions.map(|items| check_permissions(fields, items)),
            addresses: check_addresses(fields),
            expires_at: ends.then(|| fields.timestamp("expires_at")),
            limits: None,
        };
        let limits = check_limits(fields);
        Some(Self { change, limits })
    }
}

const NAME: meterd_model::TextRule = meterd_model::TextRule {
    min_chars: 1,
    max_chars: CREDENTIAL_NAME_MAX,
    alphabet: meterd_model::Alphabet::Text,
};

fn check_permissions(fields: &mut Fields<'_>, items: Vec<Json>) -> Vec<String> {
    let location = Location::Body("/permissions".to_owned());
    texts_of(items, &location, fields.problems(), Ok::<String, TextError>)
}

fn check_addresses(fields: &mut Fields<'_>) -> Option<Vec<IpNet>> {
    let texts = fields.texts("addresses", ADDRESSES_MAX, Ok::<String, TextError>)?;
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
    Some(blocks)
}

/// Numbers by the names of limits.
fn check_limits(fields: &mut Fields<'_>) -> Option<Vec<(String, u64)>> {
    let (members, problems) = fields.object("limits")?.into_members();
    let mut limits = Vec::with_capacity(members.len());
    for (name, value) in members {
        let number = match &value {
            Json::Number(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => limits.push((name, number)),
            None => {
                let expected = JsonType::Integer;
                let place = child("/limits", &name);
                problems.push(Problem::body(place, Rule::Type { expected }));
            }
        }
    }
    Some(limits)
}

/// Numbers in place of those of a surface's limits, by their names. `Invalid` if it has not all of them.
pub fn own_limits(
    rules: &KeyRules,
    given: impl IntoIterator<Item = (String, u64)>,
) -> Result<Vec<LimitPolicy>, Fault> {
    let mut problems = Problems::default();
    let mut limits = Vec::new();
    for (name, number) in given {
        match rules.limit(&name, number) {
            Some(limit) => limits.push(limit),
            None => {
                let known = (rules.limits)().into_iter().map(|known| known.name);
                let known = known.collect();
                let place = child("/limits", &name);
                problems.push(Problem::body(place, Rule::UnknownField { known }));
            }
        }
    }
    problems.into_result()?;
    Ok(limits)
}

/// An address or a block of them; IPv4 ones as such, however they are spelled.
pub fn parse_block(text: &str) -> Option<IpNet> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
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
    let rules = app.key_rules(new.surface.as_deref())?;
    rules.check_home(organization)?;
    let wanted = NewCredential {
        addresses: new.addresses,
        expires_at: new.expires_at,
        limits: own_limits(rules, new.limits)?,
        ..rules
            .api_key(organization, new.environment, new.name)
            .with_permissions(new.permissions)
    };
    rules.check(&wanted, context.now)?;
    let issued = app
        .blocking(move |app| app.control.credentials().create(wanted, &author))
        .await?;
    let location = format!("{}/credentials/{}", context.prefix, issued.credential.id);
    let shown = CredentialView::with_secret(&app, &issued);
    Ok(once(Reply::created(shown.clone(), location), shown))
}

/// Edits a credential without giving it a new secret. Acts on its next request.
pub(crate) async fn change_credential(
    State(app): State<App>,
    context: Context,
    permit: AdminPermit<CredentialsWrite>,
    params: Params,
    Body(edit): Body<CredentialEdit>,
) -> Result<Reply<CredentialView>, Failure> {
    let credential = app.credential(params.get("id"))?;
    let mut problems = Problems::default();
    let rules = app.keys.iter().find(|r| r.surface == credential.surface);
    let permissions = edit.change.permissions.as_deref();
    match rules {
        Some(rules) => {
            for problem in rules.permission_problems(permissions.unwrap_or_default()) {
                problems.push(problem);
            }
        }
        // What these may do, and how often, is told elsewhere, see their surface.
        None => {
            let told = [
                ("/permissions", permissions.is_some()),
                ("/limits", edit.limits.is_some()),
            ];
            for (place, _) in told.into_iter().filter(|(_, is_given)| *is_given) {
                problems.push(Problem::body(place, Rule::Immutable));
            }
        }
    }
    problems.into_result()?;
    let mut change = edit.change;
    if let (Some(rules), Some(limits)) = (rules, edit.limits) {
        change.limits = Some(own_limits(rules, limits)?);
    }
    let author = author(&permit.credential, &context);
    let changed = app
        .blocking(move |app| {
            let credentials = app.control.credentials();
            credentials.change(credential.id, None, change, &author)
        })
        .await?;
    Ok(Reply::ok(CredentialView::of(&app, &changed)))
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
    /// What keys of the surface may be; `native` unless it is named.
    fn key_rules(&self, surface: Option<&str>) -> Result<&KeyRules, Fault> {
        let surface = surface.unwrap_or(KEYS.surface);
        let found = self.keys.iter().find(|rules| rules.surface == surface);
        found.ok_or_else(|| {
            let known = self.keys.iter().map(|rules| rules.surface.into());
            let allowed = known.collect();
            Fault::invalid(Problem::body("/surface", Rule::OneOf { allowed }).with_value(surface))
        })
    }

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
