//! Resource groups: items of one type under one name, so that policies and grants can speak of all of them.

use crate::access::{Allowed, Delete, Guarded, Retrieve, Update};
use crate::app::App;
use crate::entity::{At, Entity, View, item, paths};
use crate::grant::Grant;
use crate::list::{ListQuery, Page, every};
use crate::policy::{NAME_100, PermissionPolicy, policies_of};
use crate::rules::{GROUP_DEPTH_MAX, PRINCIPAL_GROUPS, carrying};
use crate::statement::Scope;
use crate::wire::{CODE, one_spelling, text};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{Document, List, Order, Resource, Store, Stored, Use, used_by};
use meterd_fault::{Fault, Kind, Location, Problem, Rule};
use meterd_http::fields::{Fields, Form, parse_uuid, text_rule};
use meterd_http::{Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{OrganizationId, TextRule, check_text};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use uuid::Uuid;

/// Most members of one group.
const MEMBERS_MAX: usize = 5_000;
const TARGET_ID: TextRule = text(1, 200);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceGroup {
    pub(crate) name: String,
    /// The word of the path below which it was made.
    #[serde(rename = "type")]
    pub(crate) group_type: String,
}

impl ResourceGroup {
    /// Whether what is granted to the group is granted to its members.
    pub(crate) fn is_of_principals(&self) -> bool {
        let same = |word: &&str| word.eq_ignore_ascii_case(&self.group_type);
        PRINCIPAL_GROUPS.iter().any(same)
    }
}

impl Document for ResourceGroup {
    const KIND: &'static str = "m3ter/resource_group";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ResourceGroup;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", format!("{}/{}", self.group_type, self.name))]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("type", self.group_type.clone())]
    }
}

impl Resource for ResourceGroup {
    const USED_BY: &'static [Use] = &[
        used_by::<Grant>("principalId"),
        used_by::<GroupMember>("targetId"),
    ];

    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for ResourceGroup {
    const WORD: &'static str = "resourcegroup";
}

impl Entity for ResourceGroup {
    paths!("/resourcegroups/{type}");
    const SCOPE: Option<&'static str> = Some("type");

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let group_type = at.params.get("type").to_owned();
        if let Err(error) = check_text(&group_type, CODE) {
            let location = Location::Path("type".to_owned());
            let problem = Problem::new(location, text_rule(error));
            fields.problems().push(problem);
        }
        let name = fields.required_checked("name", NAME_100)?;
        Some(Self { name, group_type })
    }
}

/// That something belongs to a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupMember {
    pub(crate) group_id: Uuid,
    pub(crate) target_id: String,
    pub(crate) target_type: TargetType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TargetType {
    Item,
    Group,
}

impl TargetType {
    /// In keys of the database.
    fn word(self) -> &'static str {
        match self {
            Self::Item => "Item",
            Self::Group => "Group",
        }
    }
}

impl GroupMember {
    pub(crate) fn target_uuid(&self) -> Option<Uuid> {
        parse_uuid(&self.target_id)
    }

    fn key(&self) -> String {
        let word = self.target_type.word();
        format!("{}/{word}/{}", self.group_id, self.target_id)
    }
}

impl Document for GroupMember {
    const KIND: &'static str = "m3ter/group_member";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::GroupMember;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("member", self.key())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("groupId", self.group_id.to_string()),
            ("targetId", self.target_id.clone()),
        ]
    }
}

impl Resource for GroupMember {
    fn label(&self) -> String {
        self.group_id.to_string()
    }
}

/// Puts something into the group; a second time changes nothing.
pub(crate) async fn add_resource(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, ResourceGroup>,
    body: Parsed,
) -> Result<Reply<View<ResourceGroup>>, Failure> {
    let organization = access.organization;
    let group = item::<ResourceGroup>(&app, organization, &params)?;
    let member = read_member(body, group.id)?;
    let (id, author) = (group.id, access.author());
    let stored = app
        .blocking(move |app| {
            app.control.store().write(&author, |writes| {
                let stored = writes.get::<ResourceGroup>(organization, id)?;
                check_nesting(app, organization, &stored.document, &member)?;
                let known =
                    writes.find_by_key::<GroupMember>(organization, "member", &member.key())?;
                if known.is_none() {
                    let group_id = id.to_string();
                    let members = [("groupId", group_id.as_str())];
                    if writes
                        .store()
                        .count::<GroupMember>(organization, &members)?
                        >= MEMBERS_MAX
                    {
                        return Err(Fault::invalid(Problem::body("", too_many())));
                    }
                    writes.create(organization, member)?;
                }
                Ok(stored)
            })
        })
        .await?;
    Ok(Reply::ok(View::of(&stored)))
}

fn too_many() -> Rule {
    Rule::Other {
        code: "group_members",
        text: format!("must not be added: a group has at most {MEMBERS_MAX} members").into(),
    }
}

/// A group within a group is another one of the same type.
fn check_nesting(
    app: &App,
    organization: OrganizationId,
    group: &ResourceGroup,
    member: &GroupMember,
) -> Result<(), Fault> {
    if member.target_type == TargetType::Item {
        return Ok(());
    }
    let store = app.control.store();
    let target = match member.target_uuid() {
        Some(id) if id != member.group_id => store.find::<ResourceGroup>(organization, id)?,
        _ => None,
    };
    let target = target.filter(|target| target.document.group_type == group.group_type);
    let Some(target) = target else {
        let rule = Rule::UnknownReference {
            resource: ResourceGroup::RESOURCE,
        };
        let problem = Problem::body("/targetId", rule).with_value(&member.target_id);
        return Err(Fault::invalid(problem));
    };
    let nested = |key: (&str, Uuid)| -> Result<Vec<GroupMember>, Fault> {
        let members = carrying::<GroupMember>(store, organization, key)?;
        let members = members.iter().map(|stored| &stored.document);
        let nested = members.filter(|member| member.target_type == TargetType::Group);
        Ok(nested.cloned().collect())
    };
    let above = depth(member.group_id, |group| {
        let holders = nested(("targetId", group))?;
        Ok(holders.iter().map(|holder| holder.group_id).collect())
    })?;
    let below = depth(target.id, |group| {
        let held = nested(("groupId", group))?;
        Ok(held.iter().filter_map(GroupMember::target_uuid).collect())
    })?;
    if above + below <= GROUP_DEPTH_MAX {
        return Ok(());
    }
    let text = format!("must not be added: groups hold groups to a depth of {GROUP_DEPTH_MAX}");
    let rule = Rule::Other {
        code: "group_depth",
        text: text.into(),
    };
    Err(Fault::invalid(Problem::body("/targetId", rule)))
}

/// How many levels of groups there are from this one on, which is the first; past [`GROUP_DEPTH_MAX`] nobody counts.
fn depth(group: Uuid, next: impl Fn(Uuid) -> Result<Vec<Uuid>, Fault>) -> Result<usize, Fault> {
    let mut level = HashSet::from([group]);
    for depth in 1..=GROUP_DEPTH_MAX {
        let mut further = HashSet::new();
        for group in level {
            further.extend(next(group)?);
        }
        if further.is_empty() {
            return Ok(depth);
        }
        level = further;
    }
    Ok(GROUP_DEPTH_MAX + 1)
}

/// What a policy says of a group would be said of nothing once it is gone: a denial would deny no more.
fn check_unnamed(
    store: &Store,
    organization: OrganizationId,
    group: &Stored<ResourceGroup>,
) -> Result<(), Fault> {
    let names = |policy: &Stored<PermissionPolicy>| {
        let statements = policy.document.permission_policy.iter();
        let mut patterns = statements.flat_map(|statement| &statement.resource);
        patterns.any(|pattern| matches!(pattern.scope, Scope::Group(_, id) if id == group.id))
    };
    let list = List {
        order: Order::OldestFirst,
        ..List::default()
    };
    let policies = every::<PermissionPolicy>(store, organization, list, names)?;
    let Some(policy) = policies.first() else {
        return Ok(());
    };
    Err(Kind::ResourceInUse {
        resource: ResourceGroup::RESOURCE,
        id: group.document.label(),
        used_by: PermissionPolicy::RESOURCE,
        user: policy.document.name.clone(),
    }
    .into())
}

/// Takes something out of the group.
pub(crate) async fn remove_resource(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, ResourceGroup>,
    body: Parsed,
) -> Result<Reply<View<ResourceGroup>>, Failure> {
    let organization = access.organization;
    let group = item::<ResourceGroup>(&app, organization, &params)?;
    let member = read_member(body, group.id)?;
    let author = access.author();
    app.blocking(move |app| {
        app.control.store().write(&author, |writes| {
            let known = writes
                .find_by_key::<GroupMember>(organization, "member", &member.key())?
                .ok_or_else(|| Kind::ResourceNotFound {
                    resource: GroupMember::RESOURCE,
                    id: member.target_id.clone(),
                })?;
            writes.delete::<GroupMember>(organization, known.id, None)
        })
    })
    .await?;
    Ok(Reply::ok(View::of(&group)))
}

fn read_member(body: Parsed, group_id: Uuid) -> Result<GroupMember, Fault> {
    body.read(Form::LENIENT, |fields| {
        let target_id = fields.required_checked("targetId", TARGET_ID);
        // One spelling of each id, since members are looked up by it.
        let target_id = target_id.map(one_spelling);
        let target_type = fields.required_choice(
            "targetType",
            &[("ITEM", TargetType::Item), ("GROUP", TargetType::Group)],
        );
        Some(GroupMember {
            group_id,
            target_id: target_id?,
            target_type: target_type?,
        })
    })
}

/// Deletes the group with what it says of its members, who stay. Answers what was deleted.
pub(crate) async fn remove_group(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Delete, ResourceGroup>,
) -> Result<Reply<View<ResourceGroup>>, Failure> {
    let organization = access.organization;
    let group = item::<ResourceGroup>(&app, organization, &params)?;
    let (id, author) = (group.id, access.author());
    let stored = app
        .blocking(move |app| {
            app.control.store().write(&author, |writes| {
                check_unnamed(writes.store(), organization, &group)?;
                let members =
                    carrying::<GroupMember>(writes.store(), organization, ("groupId", id))?;
                for member in members {
                    writes.delete::<GroupMember>(organization, member.id, None)?;
                }
                writes.delete_checked::<ResourceGroup>(organization, id, None)
            })
        })
        .await?;
    Ok(Reply::ok(View::of(&stored)))
}

/// A list, though it is asked for by POST (4.3).
pub(crate) async fn list_contents(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, ResourceGroup>,
    uri: Uri,
) -> Result<Response, Failure> {
    let organization = access.organization;
    let group = item::<ResourceGroup>(&app, organization, &params)?;
    let query = ListQuery::of_page(&uri, ResourceGroup::PAGE_MAX)?;
    let group_id = group.id.to_string();
    let list = List {
        filters: &[("groupId", group_id.as_str())],
        ..query.list()
    };
    let members = app
        .control
        .store()
        .list::<GroupMember>(organization, &list)?;
    let next_token = members.next.map(|cursor| cursor.to_string());
    let members = members.items.iter();
    let page = Page {
        data: members.map(|member| View::plain(member)).collect(),
        next_token,
    };
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}

pub(crate) async fn list_permissions(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, ResourceGroup>,
    uri: Uri,
) -> Result<Response, Failure> {
    let organization = access.organization;
    let group = item::<ResourceGroup>(&app, organization, &params)?;
    let query = ListQuery::of_page(&uri, ResourceGroup::PAGE_MAX)?;
    let page = policies_of(&app, organization, group.id, &query)?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}
