//! Organizations, for the server's administrator.

use crate::access::{OrganizationsRead, OrganizationsWrite};
use crate::app::{App, author};
use crate::page::{Page, PageQuery};
use axum::extract::State;
use meterd_control::{List, Organization, Stored};
use meterd_http::fields::Fields;
use meterd_http::{AdminPermit, Body, Checked, Context, Failure, LongWork, Params, Query, Reply};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct OrganizationView {
    id: String,
    name: String,
    display_name: String,
    timezone: String,
    version: u64,
    created_at: String,
}

impl OrganizationView {
    fn of(stored: &Stored<Organization>) -> Self {
        Self {
            id: stored.id.to_string(),
            name: stored.document.name.clone(),
            display_name: stored.document.display_name.clone(),
            timezone: stored.document.timezone.clone(),
            version: stored.version,
            created_at: stored.created_at.to_string(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct NewOrganization(Organization);

impl Checked for NewOrganization {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required_string("name");
        let display_name = fields.string("display_name");
        let timezone = fields.zone("timezone");
        // Without a name the other members are still checked.
        let named = name.is_some();
        let mut organization = Organization::named(name.unwrap_or_else(|| "unnamed".to_owned()));
        if let Some(display_name) = display_name {
            organization.display_name = display_name;
        }
        if let Some(zone) = timezone {
            zone.name().clone_into(&mut organization.timezone);
        }
        for problem in organization.problems() {
            fields.problems().push(problem);
        }
        named.then_some(Self(organization))
    }
}

pub(crate) async fn create_organization(
    State(app): State<App>,
    context: Context,
    permit: AdminPermit<OrganizationsWrite>,
    Body(new): Body<NewOrganization>,
) -> Result<Reply<OrganizationView>, Failure> {
    let author = author(&permit.credential, &context);
    let stored = app
        .blocking(move |app| app.control.store().create_organization(new.0, &author))
        .await?;
    let location = format!("{}/organizations/{}", context.prefix, stored.document.name);
    Ok(Reply::created(OrganizationView::of(&stored), location))
}

pub(crate) async fn list_organizations(
    State(app): State<App>,
    _permit: AdminPermit<OrganizationsRead>,
    Query(page): Query<PageQuery>,
) -> Result<Reply<Page<OrganizationView>>, Failure> {
    let found = app.control.store().list_organizations(&List {
        cursor: page.cursor,
        limit: page.limit,
        ..List::default()
    })?;
    Ok(Reply::ok(Page {
        items: found
            .items
            .iter()
            .map(|stored| OrganizationView::of(stored))
            .collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

pub(crate) async fn get_organization(
    State(app): State<App>,
    _permit: AdminPermit<OrganizationsRead>,
    params: Params,
) -> Result<Reply<OrganizationView>, Failure> {
    let stored = app
        .control
        .store()
        .organization_by_name(params.get("name"))?;
    Ok(Reply::ok(OrganizationView::of(&stored)))
}
