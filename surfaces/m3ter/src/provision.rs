//! What is set up from outside the API: organizations, service users with their keys, and users.

use crate::custom_fields::CustomFields;
use crate::grant::{Grant, PrincipalType};
use crate::organization_config::OrganizationConfig;
use crate::policy::{ADMINISTRATOR, PermissionPolicy};
use crate::service_user::ServiceUser;
use crate::settings::M3terSettings;
use crate::singleton::KEY;
use crate::surface::SURFACE;
use crate::user::User;
use meterd_control::{Applied, Author, Control, Document, NewCredential, Secret, Stored, Writes};
use meterd_engine::Engine;
use meterd_fault::{Fault, Kind};
use meterd_model::OrganizationId;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);

/// Gives an organization what each one of this surface has from the start. A second time changes nothing.
///
/// Before measurements are submitted to it, [`remember_ids`] is to be called once more.
pub fn provision(
    control: &Control,
    organization: OrganizationId,
    author: &Author,
) -> Result<(), Fault> {
    control
        .store()
        .write(author, |writes| provision_within(writes, organization))
}

fn provision_within(writes: &mut Writes<'_>, organization: OrganizationId) -> Result<(), Fault> {
    ensure(
        writes,
        organization,
        ("name", ADMINISTRATOR),
        PermissionPolicy::administrator,
    )?;
    ensure(writes, organization, KEY, OrganizationConfig::default)?;
    ensure(writes, organization, KEY, CustomFields::default)?;
    Ok(())
}

/// The document with this unique key, made if there is none.
fn ensure<D: Document>(
    writes: &mut Writes<'_>,
    organization: OrganizationId,
    (field, value): (&str, &str),
    make: impl FnOnce() -> D,
) -> Result<Arc<Stored<D>>, Fault> {
    match writes.find_by_key::<D>(organization, field, value)? {
        Some(stored) => Ok(stored),
        None => writes.create(organization, make()),
    }
}

/// Tells the engine for how long the organizations of this surface remember the `uid`s of measurements (5.5). To be
/// called by whoever serves, and by no one who does not know the operator's settings: what is forgotten stays so.
pub fn remember_ids(
    control: &Control,
    engine: &Engine,
    settings: &M3terSettings,
) -> Result<(), Fault> {
    for organization in control.store().every_organization()? {
        let id = organization.organization_id();
        if is_provisioned(control, id)? {
            engine.set_id_window(id, Some(DAY * settings.uid_window_days));
        }
    }
    Ok(())
}

fn is_provisioned(control: &Control, organization: OrganizationId) -> Result<bool, Fault> {
    let found =
        control
            .store()
            .find_by_key::<PermissionPolicy>(organization, "name", ADMINISTRATOR)?;
    Ok(found.is_some_and(|policy| policy.document.managed_policy))
}

/// A service user with a key pair of its own. The secret is nowhere to be read again.
#[derive(Clone, Debug)]
pub struct NewServiceUser {
    pub service_user: Uuid,
    /// The credential, as an administrator revokes or rotates it.
    pub credential: Uuid,
    pub api_key: String,
    pub api_secret: Secret,
}

/// A key pair for the service user of this name, who is made if there is none and gets the policies of these names;
/// without any it may fetch tokens and nothing else. Provisions the organization.
pub fn create_service_user(
    control: &Control,
    organization: OrganizationId,
    name: &str,
    policies: &[&str],
    author: &Author,
) -> Result<NewServiceUser, Fault> {
    let new = NewCredential::oauth_client(Some(organization), SURFACE, name);
    let problems = new.problems(author.at);
    if !problems.is_empty() {
        return Err(Kind::Invalid { problems }.into());
    }
    let (service_user, _) = apply_service_user(control, organization, name, policies, author)?;
    let issued = control.credentials().create(
        NewCredential {
            principal: Some(service_user),
            ..new
        },
        author,
    )?;
    Ok(NewServiceUser {
        service_user,
        credential: issued.credential.id,
        api_key: issued.credential.client_id.clone().unwrap_or_default(),
        api_secret: issued.secret,
    })
}

/// Whether there is a policy of this name, or will be once the organization is provisioned.
pub fn has_policy(
    control: &Control,
    organization: Option<OrganizationId>,
    name: &str,
) -> Result<bool, Fault> {
    let Some(organization) = organization else {
        return Ok(name == ADMINISTRATOR);
    };
    let store = control.store();
    let found = store.find_by_key::<PermissionPolicy>(organization, "name", name)?;
    Ok(found.is_some() || name == ADMINISTRATOR)
}

/// The service user of this name with at least these policies. Provisions the organization.
pub fn apply_service_user(
    control: &Control,
    organization: OrganizationId,
    name: &str,
    policies: &[&str],
    author: &Author,
) -> Result<(Uuid, Applied), Fault> {
    control.store().write(author, |writes| {
        provision_within(writes, organization)?;
        let known = writes.find_by_key::<ServiceUser>(organization, "name", name)?;
        let mut applied = if known.is_some() {
            Applied::Unchanged
        } else {
            Applied::Created
        };
        let service_user = ensure(writes, organization, ("name", name), || ServiceUser {
            name: name.to_owned(),
        })?;
        for policy in policies {
            let found = writes.find_by_key::<PermissionPolicy>(organization, "name", policy)?;
            let policy = found.ok_or_else(|| Kind::ResourceNotFound {
                resource: PermissionPolicy::RESOURCE,
                id: (*policy).to_owned(),
            })?;
            let grant = Grant {
                permission_policy_id: policy.id,
                principal_id: Some(service_user.id),
                principal_type: PrincipalType::ServiceUser,
            };
            let known = writes.find_by_key::<Grant>(organization, "grant", &grant.key())?;
            if known.is_none() {
                writes.create(organization, grant)?;
                if applied == Applied::Unchanged {
                    applied = Applied::Updated;
                }
            }
        }
        Ok((service_user.id, applied))
    })
}

/// A person, whom the API itself cannot make.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub contact_number: Option<String>,
}

/// The user with this e-mail address, made if there is none; one that is there stays as it is. Provisions the
/// organization.
pub fn apply_user(
    control: &Control,
    organization: OrganizationId,
    new: NewUser,
    author: &Author,
) -> Result<(Uuid, Applied), Fault> {
    control.store().write(author, |writes| {
        provision_within(writes, organization)?;
        if let Some(user) = writes.find_by_key::<User>(organization, "email", &new.email)? {
            return Ok((user.id, Applied::Unchanged));
        }
        let user = User {
            first_name: new.first_name,
            last_name: new.last_name,
            contact_number: new.contact_number,
            email: new.email,
            organizations: vec![organization],
            support_user: false,
            permission_policy: None,
            dt_end_access: None,
        };
        let created = writes.create(organization, user)?;
        Ok((created.id, Applied::Created))
    })
}
