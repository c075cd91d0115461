//! Permission policies: named lists of statements, granted to principals.

use crate::access::Guarded;
use crate::app::App;
use crate::entity::{At, Entity, View, paths};
use crate::grant::Grant;
use crate::list::{ListQuery, Page};
use crate::resource_group::ResourceGroup;
use crate::statement::{Scope, Statement};
use crate::wire::text;
use meterd_control::{Admission, Document, List, Resource, Stored, Use, used_by};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::Fields;
use meterd_model::{OrganizationId, TextRule};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use uuid::Uuid;

/// The policy that every organization has and nobody can change.
pub(crate) const ADMINISTRATOR: &str = "Administrator";
/// Groups that are not there which one answer names.
const PROBLEMS_MAX: usize = 100;
/// Names of policies and groups.
pub(crate) const NAME_100: TextRule = text(1, 100);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "as m3ter calls them")]
pub(crate) struct PermissionPolicy {
    pub(crate) name: String,
    pub(crate) permission_policy: Vec<Statement>,
    /// Supplied by the server.
    pub(crate) managed_policy: bool,
}

impl PermissionPolicy {
    /// Allows everything.
    pub(crate) fn administrator() -> Self {
        Self {
            name: ADMINISTRATOR.to_owned(),
            permission_policy: vec![Statement::all()],
            managed_policy: true,
        }
    }
}

impl Document for PermissionPolicy {
    const KIND: &'static str = "m3ter/permission_policy";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::PermissionPolicy;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }
}

impl Resource for PermissionPolicy {
    const USED_BY: &'static [Use] = &[used_by::<Grant>("permissionPolicyId")];

    /// A statement about a group that is not there, or is of something else, would be about nothing.
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let mut problems = Vec::new();
        let mut known: HashSet<&Scope> = HashSet::new();
        for (place, statement) in self.permission_policy.iter().enumerate() {
            for (index, pattern) in statement.resource.iter().enumerate() {
                let Scope::Group(name, id) = &pattern.scope else {
                    continue;
                };
                if known.contains(&pattern.scope) {
                    continue;
                }
                let Admission {
                    store,
                    organization,
                    ..
                } = admission;
                let group = store.find::<ResourceGroup>(*organization, *id)?;
                let is_of = |group: &Stored<ResourceGroup>| {
                    group.document.group_type.eq_ignore_ascii_case(&name.kind)
                };
                if group.is_some_and(|group| is_of(&group)) {
                    known.insert(&pattern.scope);
                } else if problems.len() < PROBLEMS_MAX {
                    let rule = Rule::UnknownReference {
                        resource: ResourceGroup::RESOURCE,
                    };
                    let here = format!("/permissionPolicy/{place}/resource/{index}");
                    problems.push(Problem::body(here, rule));
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Kind::Invalid { problems }.into())
    }
}

impl Guarded for PermissionPolicy {
    const WORD: &'static str = "permissionpolicy";
}

impl Entity for PermissionPolicy {
    paths!("/permissionpolicies");

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME_100);
        let permission_policy = Statement::read_all(fields, "permissionPolicy", true);
        Some(Self {
            name: name?,
            permission_policy: permission_policy?,
            managed_policy: false,
        })
    }

    fn is_managed(&self) -> bool {
        self.managed_policy
    }
}

/// A page of the policies that were granted to a principal, the newest grant first.
pub(crate) fn policies_of(
    app: &App,
    organization: OrganizationId,
    principal: Uuid,
    query: &ListQuery,
) -> Result<Page<View<PermissionPolicy>>, Fault> {
    let store = app.control.store();
    let principal = principal.to_string();
    let list = List {
        filters: &[("principalId", principal.as_str())],
        ..query.list()
    };
    let grants = store.list::<Grant>(organization, &list)?;
    let mut data = Vec::with_capacity(grants.items.len());
    for grant in grants.items {
        let policy = grant.document.permission_policy_id;
        let policy = store.find::<PermissionPolicy>(organization, policy)?;
        data.extend(policy.map(|policy| View::of(&policy)));
    }
    Ok(Page {
        data,
        next_token: grants.next.map(|cursor| cursor.to_string()),
    })
}
