//! What the policies of a principal come to, and for how long that is known.

use crate::access::{Action, Target};
use crate::grant::Grant;
use crate::list::every;
use crate::policy::PermissionPolicy;
use crate::resource_group::{GroupMember, ResourceGroup, TargetType};
use crate::statement::{Effect, KindName, Scope, StatedAction, Statement};
use meterd_control::{Document, List, Store, Stored};
use meterd_fault::Fault;
use meterd_model::OrganizationId;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Groups within groups are followed so far; what is deeper does not count.
pub(crate) const GROUP_DEPTH_MAX: usize = 8;
/// Items that groups name for one principal, all of its policies together.
const GROUPED_MAX: usize = 100_000;
/// Rules that are remembered, and items that they name, of all principals together.
const CACHED_MAX: usize = 1_000_000;
/// Types of resource groups whose members get what is granted to the group.
pub(crate) const PRINCIPAL_GROUPS: [&str; 2] = ["user", "serviceuser"];

/// The statements of all policies of one principal, groups resolved.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    allow: Vec<RuleOf>,
    deny: Vec<RuleOf>,
    /// What it takes to remember them, in rules and items.
    size: usize,
}

/// One resource of one statement.
#[derive(Debug)]
struct RuleOf {
    /// None for all.
    actions: Option<Vec<Action>>,
    cover: Cover,
}

#[derive(Debug)]
enum Cover {
    Everything,
    Service(String),
    Kind(KindName),
    Items(KindName, Arc<HashSet<Uuid>>),
}

/// Which items of a kind something may be done to. Made once for a list, since rules and items may both be many.
#[derive(Debug)]
pub(crate) struct Sight {
    /// All but those denied.
    all: bool,
    allowed: HashSet<Uuid>,
    denied: HashSet<Uuid>,
}

impl Sight {
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.allowed.is_empty()
    }

    pub(crate) fn has(&self, id: Uuid) -> bool {
        (self.all || self.allowed.contains(&id)) && !self.denied.contains(&id)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.all && self.denied.is_empty()
    }
}

impl Rules {
    /// Deny beats allow, and what no statement allows is denied.
    pub(crate) fn allow(&self, action: Action, target: &Target<'_>) -> bool {
        let hits = |rule: &RuleOf| rule.acts(action) && rule.cover.has(target);
        self.allow.iter().any(hits) && !self.deny.iter().any(hits)
    }

    pub(crate) fn sight(&self, action: Action, service: &'static str, kind: &str) -> Sight {
        let whole = Target {
            service,
            kind,
            id: None,
        };
        let (allows_all, allowed) = gathered(&self.allow, action, &whole);
        let (denies_all, denied) = gathered(&self.deny, action, &whole);
        Sight {
            all: allows_all && !denies_all,
            allowed: if denies_all { HashSet::new() } else { allowed },
            denied,
        }
    }

    fn add(&mut self, statements: &[Statement], groups: &mut Groups<'_>) -> Result<(), Fault> {
        for statement in statements {
            let actions = statement.action.iter().map(|action| match action {
                StatedAction::All => None,
                StatedAction::One(action) => Some(*action),
            });
            let actions: Option<Vec<_>> = actions.collect();
            let mut stated = HashSet::new();
            for pattern in &statement.resource {
                if !stated.insert(&pattern.scope) {
                    continue;
                }
                let rule = RuleOf {
                    actions: actions.clone(),
                    cover: groups.resolve(&pattern.scope, statement.effect)?,
                };
                match statement.effect {
                    Effect::Allow => self.allow.push(rule),
                    Effect::Deny => self.deny.push(rule),
                }
            }
        }
        Ok(())
    }
}

/// Whether the rules cover a whole kind, and which of its items they name.
fn gathered(rules: &[RuleOf], action: Action, whole: &Target<'_>) -> (bool, HashSet<Uuid>) {
    let mut covers_all = false;
    let mut items = HashSet::new();
    let touching = |rule: &&RuleOf| rule.acts(action) && rule.cover.touches(whole);
    for rule in rules.iter().filter(touching) {
        match &rule.cover {
            Cover::Items(_, ids) => items.extend(ids.iter()),
            Cover::Everything | Cover::Service(_) | Cover::Kind(_) => covers_all = true,
        }
    }
    (covers_all, items)
}

impl RuleOf {
    fn acts(&self, action: Action) -> bool {
        self.actions
            .as_ref()
            .is_none_or(|actions| actions.contains(&action))
    }
}

impl Cover {
    /// What has no id, such as something that is yet to be made, is only had with the whole kind.
    fn has(&self, target: &Target<'_>) -> bool {
        match self {
            Self::Items(name, ids) => {
                name.is_of(target) && target.id.is_some_and(|id| ids.contains(&id))
            }
            wide => wide.touches(target),
        }
    }

    /// Whether something of the target's kind may be had.
    fn touches(&self, target: &Target<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::Service(service) => service == target.service,
            Self::Kind(name) | Self::Items(name, _) => name.is_of(target),
        }
    }
}

impl KindName {
    fn is_of(&self, target: &Target<'_>) -> bool {
        self.service == target.service && self.kind == target.kind
    }
}

/// The resource groups of one organization, and what was found in them for one principal.
struct Groups<'a> {
    store: &'a Store,
    organization: OrganizationId,
    /// By group and kind; none where there is no room for more.
    resolved: HashMap<(Uuid, String), Option<Arc<HashSet<Uuid>>>>,
    /// Items that may still be named by groups.
    room: usize,
}

impl<'a> Groups<'a> {
    fn new(store: &'a Store, organization: OrganizationId) -> Self {
        Self {
            store,
            organization,
            resolved: HashMap::new(),
            room: GROUPED_MAX,
        }
    }

    fn resolve(&mut self, scope: &Scope, effect: Effect) -> Result<Cover, Fault> {
        Ok(match scope {
            Scope::Everything => Cover::Everything,
            Scope::Service(service) => Cover::Service(service.clone()),
            Scope::Kind(name) => Cover::Kind(name.clone()),
            Scope::Item(name, id) => Cover::Items(name.clone(), Arc::new(HashSet::from([*id]))),
            Scope::Group(name, group) => match (self.grouped(&name.kind, *group)?, effect) {
                (Some(items), _) => Cover::Items(name.clone(), items),
                // Without room nothing of the group is allowed, and all of its kind is denied.
                (None, Effect::Allow) => Cover::Items(name.clone(), Arc::default()),
                (None, Effect::Deny) => Cover::Kind(name.clone()),
            },
        })
    }

    /// The ids of what a group holds; none if there is no room for them.
    fn grouped(&mut self, kind: &str, group: Uuid) -> Result<Option<Arc<HashSet<Uuid>>>, Fault> {
        let key = (group, kind.to_owned());
        if let Some(known) = self.resolved.get(&key) {
            return Ok(known.clone());
        }
        let items = self.items(kind, group)?.map(Arc::new);
        let taken = items.as_ref().map_or(0, |items| items.len());
        self.room = self.room.saturating_sub(taken);
        self.resolved.insert(key, items.clone());
        Ok(items)
    }

    /// The ids of what a group holds, itself or in groups within; none if they are more than there is room for.
    fn items(&self, kind: &str, group: Uuid) -> Result<Option<HashSet<Uuid>>, Fault> {
        let mut items = HashSet::new();
        let mut seen = HashSet::from([group]);
        let mut level = vec![group];
        for _ in 0..GROUP_DEPTH_MAX {
            let mut below = Vec::new();
            for id in level {
                let Some(group) = self.store.find::<ResourceGroup>(self.organization, id)? else {
                    continue;
                };
                if !group.document.group_type.eq_ignore_ascii_case(kind) {
                    continue;
                }
                for member in self.members(("groupId", id))? {
                    match (member.document.target_type, member.document.target_uuid()) {
                        (TargetType::Item, Some(id)) => {
                            items.insert(id);
                        }
                        (TargetType::Group, Some(id)) if seen.insert(id) => below.push(id),
                        _ => {}
                    }
                }
                if items.len() > self.room {
                    return Ok(None);
                }
            }
            level = below;
        }
        Ok(Some(items))
    }

    fn members(&self, key: (&str, Uuid)) -> Result<Vec<Arc<Stored<GroupMember>>>, Fault> {
        carrying(self.store, self.organization, key)
    }

    /// The principal itself, and the groups that hold it.
    fn identities(&self, principal: Uuid) -> Result<Vec<Uuid>, Fault> {
        let mut identities = vec![principal];
        let mut level = vec![(principal, TargetType::Item)];
        for _ in 0..GROUP_DEPTH_MAX {
            let mut above = Vec::new();
            for (id, target_type) in level {
                for member in self.members(("targetId", id))? {
                    let holder = member.document.group_id;
                    let group = self
                        .store
                        .find::<ResourceGroup>(self.organization, holder)?;
                    let is_of_principals =
                        group.is_some_and(|group| group.document.is_of_principals());
                    if member.document.target_type == target_type
                        && is_of_principals
                        && !identities.contains(&holder)
                    {
                        identities.push(holder);
                        above.push((holder, TargetType::Group));
                    }
                }
            }
            level = above;
        }
        Ok(identities)
    }
}

/// All documents that carry the id under an index key.
pub(crate) fn carrying<D: Document>(
    store: &Store,
    organization: OrganizationId,
    (index, id): (&str, Uuid),
) -> Result<Vec<Arc<Stored<D>>>, Fault> {
    let id = id.to_string();
    let list = List {
        filters: &[(index, id.as_str())],
        ..List::default()
    };
    every(store, organization, list, |_| true)
}

fn compile(store: &Store, organization: OrganizationId, principal: Uuid) -> Result<Rules, Fault> {
    let mut groups = Groups::new(store, organization);
    let mut policies = HashSet::new();
    for identity in groups.identities(principal)? {
        let grants = carrying::<Grant>(store, organization, ("principalId", identity))?;
        policies.extend(
            grants
                .iter()
                .map(|grant| grant.document.permission_policy_id),
        );
    }
    let mut rules = Rules::default();
    for policy in policies {
        if let Some(policy) = store.find::<PermissionPolicy>(organization, policy)? {
            rules.add(&policy.document.permission_policy, &mut groups)?;
        }
    }
    rules.size = 1 + rules.allow.len() + rules.deny.len() + (GROUPED_MAX - groups.room);
    Ok(rules)
}

/// Rules of principals, each until something that they were made of changes.
#[derive(Default)]
pub(crate) struct RuleCache {
    known: Mutex<HashMap<(OrganizationId, Uuid), Known>>,
}

struct Known {
    made_of: [u64; 4],
    rules: Arc<Rules>,
}

impl std::fmt::Debug for RuleCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleCache").finish_non_exhaustive()
    }
}

impl RuleCache {
    /// The rules if they are remembered as everything is now, so that a change acts on the very next request.
    pub(crate) fn known(
        &self,
        store: &Store,
        organization: OrganizationId,
        principal: Uuid,
    ) -> Option<Arc<Rules>> {
        let made_of = made_of(store, organization);
        let all = self.lock();
        let known = all.get(&(organization, principal));
        let known = known.filter(|known| known.made_of == made_of)?;
        Some(Arc::clone(&known.rules))
    }

    /// Makes the rules, which may take the time of reading many members of groups.
    pub(crate) fn make(
        &self,
        store: &Store,
        organization: OrganizationId,
        principal: Uuid,
    ) -> Result<Arc<Rules>, Fault> {
        // Before anything is read: what changes meanwhile makes the rules old at once.
        let made_of = made_of(store, organization);
        let key = (organization, principal);
        let rules = Arc::new(compile(store, organization, principal)?);
        let mut cached = self.lock();
        cached.remove(&key);
        let held: usize = cached.values().map(|known| known.rules.size).sum();
        if held + rules.size > CACHED_MAX {
            cached.clear();
        }
        let known = Known {
            made_of,
            rules: Arc::clone(&rules),
        };
        cached.insert(key, known);
        Ok(rules)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(OrganizationId, Uuid), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revisions of what rules are made of.
fn made_of(store: &Store, organization: OrganizationId) -> [u64; 4] {
    [
        store.revision::<PermissionPolicy>(organization),
        store.revision::<Grant>(organization),
        store.revision::<ResourceGroup>(organization),
        store.revision::<GroupMember>(organization),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Pattern;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    fn statement(effect: Effect, action: StatedAction, resource: &str) -> Statement {
        Statement {
            effect,
            action: vec![action],
            resource: vec![Pattern::parse(resource).unwrap()],
        }
    }

    fn allow(resource: &str) -> Statement {
        statement(Effect::Allow, StatedAction::All, resource)
    }

    fn deny(resource: &str) -> Statement {
        statement(Effect::Deny, StatedAction::All, resource)
    }

    fn rules(statements: &[Statement]) -> Rules {
        let directory = tempfile::tempdir().unwrap();
        let control = meterd_control::Control::open(
            directory.path().join("control.sqlite"),
            meterd_control::Settings::default(),
        )
        .unwrap();
        let mut groups = Groups::new(control.store(), OrganizationId(ONE));
        let mut rules = Rules::default();
        rules.add(statements, &mut groups).unwrap();
        rules
    }

    fn meter(id: Option<Uuid>) -> Target<'static> {
        Target {
            service: "config",
            kind: "meter",
            id,
        }
    }

    #[test]
    fn deny_beats_allow_and_what_nobody_allows_is_denied() {
        let one = format!("config:meter/item/{ONE}");
        let cases: [(&[Statement], [bool; 3]); 12] = [
            (&[], [false, false, false]),
            (&[allow("*")], [true, true, true]),
            (&[allow("config:*")], [true, true, true]),
            (&[allow("config:meter")], [true, true, true]),
            (&[allow("config:product/*")], [false, false, false]),
            (&[allow("measurements:*")], [false, false, false]),
            (&[allow(&one)], [true, false, false]),
            (&[allow("*"), deny(&one)], [false, true, true]),
            (&[allow("*"), deny("config:meter/*")], [false, false, false]),
            (&[deny("*"), allow("*")], [false, false, false]),
            (&[allow("*"), deny("config:product")], [true, true, true]),
            (&[allow(&one), deny("config:*")], [false, false, false]),
        ];
        for (statements, [first, second, new]) in cases {
            let rules = rules(statements);
            let may = |id| rules.allow(Action::ConfigRetrieve, &meter(id));
            assert_eq!(
                [may(Some(ONE)), may(Some(TWO)), may(None)],
                [first, second, new],
                "{statements:?}"
            );
            // Lists see the same.
            let sight = rules.sight(Action::ConfigRetrieve, "config", "meter");
            assert_eq!([sight.has(ONE), sight.has(TWO)], [first, second]);
            assert_eq!(sight.is_empty(), !first && !second, "{statements:?}");
        }
    }

    #[test]
    fn groups_past_the_bound_allow_nothing_and_deny_all() {
        let directory = tempfile::tempdir().unwrap();
        let settings = meterd_control::Settings {
            documents: crate::documents(),
            ..meterd_control::Settings::default()
        };
        let path = directory.path().join("control.sqlite");
        let control = meterd_control::Control::open(path, settings).unwrap();
        let store = control.store();
        let author = meterd_control::Author::system(meterd_model::Timestamp::MIN);
        let made = store
            .create_organization(meterd_control::Organization::named("acme"), &author)
            .unwrap();
        let organization = made.organization_id();
        let group = ResourceGroup {
            name: "meters".to_owned(),
            group_type: "meter".to_owned(),
        };
        let group = store.create(organization, group, &author).unwrap().id;
        for id in [ONE, TWO] {
            let member = GroupMember {
                group_id: group,
                target_id: id.to_string(),
                target_type: TargetType::Item,
            };
            store.create(organization, member, &author).unwrap();
        }
        let of_group = format!("config:meter/group/{group}");
        let may = |room, statements: &[Statement]| {
            let mut groups = Groups::new(store, organization);
            groups.room = room;
            let mut rules = Rules::default();
            rules.add(statements, &mut groups).unwrap();
            [ONE, TWO, Uuid::from_u128(3)]
                .map(|id| rules.allow(Action::ConfigRetrieve, &meter(Some(id))))
        };
        let denied = [allow("*"), deny(&of_group)];
        // Named twice, its members take room once.
        let allowed = [allow(&of_group), allow(&of_group)];
        assert_eq!(may(2, &allowed), [true, true, false]);
        assert_eq!(may(2, &denied), [false, false, true]);
        assert_eq!(may(1, &allowed), [false; 3]);
        assert_eq!(may(1, &denied), [false; 3]);
    }

    #[test]
    fn a_statement_is_about_its_actions() {
        let rules = rules(&[
            allow("*"),
            statement(
                Effect::Deny,
                StatedAction::One(Action::ConfigDelete),
                "config:meter",
            ),
        ]);
        assert!(rules.allow(Action::ConfigUpdate, &meter(Some(ONE))));
        assert!(!rules.allow(Action::ConfigDelete, &meter(Some(ONE))));
        let sight = rules.sight(Action::ConfigRetrieve, "config", "meter");
        assert!(sight.has(ONE));
    }
}
