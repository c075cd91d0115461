//! Users: people. They sign in elsewhere; here they are listed, get policies, and lose their access.

use crate::access::{Access, Action, Allowed, Guarded, Retrieve, Target, Update};
use crate::app::App;
use crate::entity::{At, Entity, View, item, paths};
use crate::list::{Filter, ListQuery, Page};
use crate::policy::policies_of;
use crate::resource_group::{GroupMember, ResourceGroup, TargetType};
use crate::service_user::ServiceUser;
use crate::statement::Statement;
use crate::wire::{actor_name, micros};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use meterd_control::{Document, List, Organization, Resource, Stored};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use meterd_http::{Failure, Params, Reply};
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "as m3ter calls them")]
pub(crate) struct User {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact_number: Option<String>,
    pub(crate) email: String,
    pub(crate) organizations: Vec<OrganizationId>,
    pub(crate) support_user: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) permission_policy: Option<Vec<Statement>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dt_end_access: Option<String>,
}

impl Document for User {
    const KIND: &'static str = "m3ter/user";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::User;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("email", self.email.clone())]
    }
}

impl Resource for User {}

impl Guarded for User {
    const WORD: &'static str = "user";
}

impl Entity for User {
    paths!("/users");
    const PAGE_MAX: i64 = 200;
    const FILTERS: &'static [Filter] = &[Filter::Ids];

    /// What an organization says of a user; who it is stays.
    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let permission_policy = Statement::read_all(fields, "permissionPolicy", false);
        let dt_end_access = fields.iso_time("dtEndAccess").map(micros);
        Some(Self {
            permission_policy,
            dt_end_access,
            ..at.before?.document.clone()
        })
    }
}

/// Who is asking, and in which organization.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    service_user: View<ServiceUser>,
    organization: OrganizationView,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OrganizationView {
    id: Uuid,
    version: u64,
    dt_created: String,
    dt_last_modified: String,
    created_by: String,
    last_modified_by: String,
    org_id: Uuid,
    organization_name: String,
    short_name: String,
    #[serde(rename = "type")]
    organization_type: &'static str,
    status: &'static str,
}

impl OrganizationView {
    fn of(stored: &Stored<Organization>) -> Self {
        Self {
            id: stored.id,
            version: stored.version,
            dt_created: micros(stored.created_at),
            dt_last_modified: micros(stored.modified_at),
            created_by: actor_name(stored.created_by),
            last_modified_by: actor_name(stored.modified_by),
            org_id: stored.id,
            organization_name: stored.document.display_name.clone(),
            short_name: stored.document.name.clone(),
            organization_type: "PRODUCTION",
            status: "ACTIVE",
        }
    }
}

pub(crate) async fn retrieve_me(
    State(app): State<App>,
    access: Access,
) -> Result<Reply<Me>, Failure> {
    let own = Target {
        service: User::SERVICE,
        kind: User::WORD,
        id: Some(access.principal),
    };
    access.permit(Action::ConfigRetrieve, &own)?;
    let store = app.control.store();
    let service_user = store.get::<ServiceUser>(access.organization, access.principal)?;
    let organization = store.organization(access.organization)?;
    Ok(Reply::ok(Me {
        service_user: View::plain(&service_user),
        organization: OrganizationView::of(&organization),
    }))
}

/// A page that is its first item at the same time: the description types these answers as a single entity (9, 27).
#[derive(Debug, Serialize)]
pub(crate) struct Merged<E> {
    #[serde(flatten)]
    page: Page<View<E>>,
    #[serde(flatten)]
    first: Option<View<E>>,
}

impl<E: Clone> Merged<E> {
    fn of(page: Page<View<E>>) -> Self {
        let first = page.data.first().cloned();
        Self { page, first }
    }
}

pub(crate) async fn list_user_permissions(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, User>,
    uri: Uri,
) -> Result<Response, Failure> {
    let user = item::<User>(&app, access.organization, &params)?;
    let query = ListQuery::of_page(&uri, User::PAGE_MAX)?;
    let page = policies_of(&app, access.organization, user.id, &query)?;
    Ok(Reply::ok(Merged::of(page)).within(app.settings.response_max_bytes)?)
}

pub(crate) async fn list_user_groups(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, User>,
    uri: Uri,
) -> Result<Response, Failure> {
    let user = item::<User>(&app, access.organization, &params)?;
    let query = ListQuery::of_page(&uri, User::PAGE_MAX)?;
    let page = groups_of(&app, access.organization, user.id, &query)?;
    Ok(Reply::ok(Merged::of(page)).within(app.settings.response_max_bytes)?)
}

fn groups_of(
    app: &App,
    organization: OrganizationId,
    user: Uuid,
    query: &ListQuery,
) -> Result<Page<View<ResourceGroup>>, Fault> {
    let store = app.control.store();
    let user = user.to_string();
    let list = List {
        filters: &[("targetId", user.as_str())],
        ..query.list()
    };
    let members = store.list_where::<GroupMember>(organization, &list, |member| {
        member.document.target_type == TargetType::Item
    })?;
    let mut data = Vec::with_capacity(members.items.len());
    for member in members.items {
        let group = store.find::<ResourceGroup>(organization, member.document.group_id)?;
        data.extend(group.map(|group| View::of(&group)));
    }
    Ok(Page {
        data,
        next_token: members.next.map(|cursor| cursor.to_string()),
    })
}

/// People sign in elsewhere, so that there is no password to send; the answer is m3ter's all the same (4.3).
pub(crate) async fn resend_password(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, User>,
) -> Result<StatusCode, Failure> {
    item::<User>(&app, access.organization, &params)?;
    Ok(StatusCode::OK)
}
