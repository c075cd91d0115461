//! Grants: that a principal has a policy.

use crate::access::{Allowed, Update};
use crate::app::App;
use crate::entity::{View, item};
use crate::policy::PermissionPolicy;
use crate::resource_group::ResourceGroup;
use crate::service_user::ServiceUser;
use crate::user::User;
use axum::extract::{FromRequest, Request, State};
use meterd_control::{Document, Resource, Store};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::{Form, parse_uuid};
use meterd_http::{Failure, LongWork, Params, Parsed, Reply};
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Grant {
    pub(crate) permission_policy_id: Uuid,
    /// None for the one principal of its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) principal_id: Option<Uuid>,
    pub(crate) principal_type: PrincipalType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum PrincipalType {
    User,
    UserGroup,
    ServiceUser,
    /// The people who run the service: nobody, where it is self-hosted.
    SupportUsers,
}

impl PrincipalType {
    /// In keys of the database.
    fn word(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::UserGroup => "UserGroup",
            Self::ServiceUser => "ServiceUser",
            Self::SupportUsers => "SupportUsers",
        }
    }
}

impl Document for Grant {
    const KIND: &'static str = "m3ter/grant";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::PermissionGrant;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("grant", self.key())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let principal = self.principal_id.map(|id| ("principalId", id.to_string()));
        std::iter::once(("permissionPolicyId", self.permission_policy_id.to_string()))
            .chain(principal)
            .collect()
    }
}

impl Resource for Grant {
    fn label(&self) -> String {
        self.principal_id
            .map(|id| id.to_string())
            .unwrap_or_default()
    }
}

impl Grant {
    pub(crate) fn key(&self) -> String {
        let principal = self.principal_id.unwrap_or_default();
        let word = self.principal_type.word();
        format!("{}/{word}/{principal}", self.permission_policy_id)
    }
}

/// Whom an operation grants to.
pub(crate) trait Principal: Send + 'static {
    const TYPE: PrincipalType;
    const RESOURCE: meterd_fault::Resource;
    /// Whether there are several, so that the body names one.
    const IS_NAMED: bool = true;

    fn exists(store: &Store, organization: OrganizationId, id: Uuid) -> Result<bool, Fault>;
}

impl Principal for User {
    const TYPE: PrincipalType = PrincipalType::User;
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::User;

    fn exists(store: &Store, organization: OrganizationId, id: Uuid) -> Result<bool, Fault> {
        Ok(store.find::<Self>(organization, id)?.is_some())
    }
}

impl Principal for ServiceUser {
    const TYPE: PrincipalType = PrincipalType::ServiceUser;
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ServiceUser;

    fn exists(store: &Store, organization: OrganizationId, id: Uuid) -> Result<bool, Fault> {
        Ok(store.find::<Self>(organization, id)?.is_some())
    }
}

/// A resource group of users or service users.
impl Principal for ResourceGroup {
    const TYPE: PrincipalType = PrincipalType::UserGroup;
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ResourceGroup;

    fn exists(store: &Store, organization: OrganizationId, id: Uuid) -> Result<bool, Fault> {
        let group = store.find::<Self>(organization, id)?;
        Ok(group.is_some_and(|group| group.document.is_of_principals()))
    }
}

/// Stands in the routes of what names no principal.
#[derive(Debug)]
pub(crate) struct SupportUsers;

impl Principal for SupportUsers {
    const TYPE: PrincipalType = PrincipalType::SupportUsers;
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::User;
    const IS_NAMED: bool = false;

    fn exists(_: &Store, _: OrganizationId, _: Uuid) -> Result<bool, Fault> {
        Ok(true)
    }
}

/// Grants the policy; a second time changes nothing.
pub(crate) async fn grant<P: Principal>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, PermissionPolicy>,
    request: Request,
) -> Result<Reply<View<Grant>>, Failure> {
    let organization = access.organization;
    let wanted = named::<P>(&app, organization, &params, request).await?;
    let author = access.author();
    let stored = app
        .blocking(move |app| {
            if let Some(id) = wanted.principal_id
                && !P::exists(app.control.store(), organization, id)?
            {
                let rule = Rule::UnknownReference {
                    resource: P::RESOURCE,
                };
                let problem = Problem::body("/principalId", rule);
                return Err(Fault::invalid(problem.with_value(&id.to_string())));
            }
            app.control.store().write(&author, |writes| {
                // It may have been deleted since it was looked up.
                writes.get::<PermissionPolicy>(organization, wanted.permission_policy_id)?;
                match writes.find_by_key(organization, "grant", &wanted.key())? {
                    Some(stored) => Ok(stored),
                    None => writes.create(organization, wanted),
                }
            })
        })
        .await?;
    Ok(Reply::ok(View::plain(&stored)))
}

/// Takes the policy away from the principal. Answers what was granted.
pub(crate) async fn withdraw<P: Principal>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, PermissionPolicy>,
    request: Request,
) -> Result<Reply<View<Grant>>, Failure> {
    let organization = access.organization;
    let wanted = named::<P>(&app, organization, &params, request).await?;
    let author = access.author();
    let stored = app
        .blocking(move |app| {
            app.control.store().write(&author, |writes| {
                let granted = writes
                    .find_by_key::<Grant>(organization, "grant", &wanted.key())?
                    .ok_or_else(|| Kind::ResourceNotFound {
                        resource: Grant::RESOURCE,
                        id: wanted.label(),
                    })?;
                writes.delete::<Grant>(organization, granted.id, None)
            })
        })
        .await?;
    Ok(Reply::ok(View::plain(&stored)))
}

/// The grant that path and body name.
async fn named<P: Principal>(
    app: &App,
    organization: OrganizationId,
    params: &Params,
    request: Request,
) -> Result<Grant, Failure> {
    let named = if P::IS_NAMED {
        Some(Parsed::from_request(request, app).await?)
    } else {
        None
    };
    let policy = item::<PermissionPolicy>(app, organization, params)?;
    let principal_id = match named {
        Some(body) => Some(body.read(Form::LENIENT, |fields| {
            let id = fields.required_string("principalId")?;
            let parsed = parse_uuid(&id);
            if parsed.is_none() {
                let resource = P::RESOURCE;
                fields.refuse("principalId", Rule::UnknownReference { resource });
            }
            parsed
        })?),
        None => None,
    };
    Ok(Grant {
        permission_policy_id: policy.id,
        principal_id,
        principal_type: P::TYPE,
    })
}
