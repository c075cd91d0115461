//! What the policies of a principal come to, and for how long that is known.

use crate::access::{Action, Target};
use crate::entity::every;
use crate::grant::Grant;
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
const GROUP_DEPTH_MAX: usize = 8;
/// Principals whose rules are remembered.
const CACHED_MAX: usize = 10_000;
/// Types of resource groups whose members get what is granted to the group.
pub(crate) const PRINCIPAL_GROUPS: [&str; 2] = ["user", "serviceuser"];

/// The statements of all policies of one principal, groups resolved.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    allow: Vec<RuleOf>,
    deny: Vec<RuleOf>,
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
    Items(KindName, HashSet<Uuid>),
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

    fn add(&mut self, statements: &[Statement], groups: &Groups<'_>) -> Result<(), Fault> {
        for statement in statements {
            let actions = statement.action.iter().map(|action| match action {
                StatedAction::All => None,
                StatedAction::One(action) => Some(*action),
            });
            let actions: Option<Vec<_>> = actions.collect();
            for pattern in &statement.resource {
                let rule = RuleOf {
                    actions: actions.clone(),
                    cover: groups.resolve(&pattern.scope)?,
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
            Cover::Items(_, ids) => items.extend(ids),
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

/// The resource groups of one organization.
struct Groups<'a> {
    store: &'a Store,
    organization: OrganizationId,
}

impl Groups<'_> {
    fn resolve(&self, scope: &Scope) -> Result<Cover, Fault> {
        Ok(match scope {
            Scope::Everything => Cover::Everything,
            Scope::Service(service) => Cover::Service(service.clone()),
            Scope::Kind(name) => Cover::Kind(name.clone()),
            Scope::Item(name, id) => Cover::Items(name.clone(), HashSet::from([*id])),
            Scope::Group(name, group) => {
                Cover::Items(name.clone(), self.items(&name.kind, *group)?)
            }
        })
    }

    /// The ids of what a group holds, itself or in groups within.
    fn items(&self, kind: &str, group: Uuid) -> Result<HashSet<Uuid>, Fault> {
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
            }
            level = below;
        }
        Ok(items)
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
    let groups = Groups {
        store,
        organization,
    };
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
            rules.add(&policy.document.permission_policy, &groups)?;
        }
    }
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
    /// As everything was when this was called, so that a change acts on the very next request.
    pub(crate) fn of(
        &self,
        store: &Store,
        organization: OrganizationId,
        principal: Uuid,
    ) -> Result<Arc<Rules>, Fault> {
        // Before anything is read: what changes meanwhile makes the rules old at once.
        let made_of = [
            store.revision::<PermissionPolicy>(organization),
            store.revision::<Grant>(organization),
            store.revision::<ResourceGroup>(organization),
            store.revision::<GroupMember>(organization),
        ];
        let key = (organization, principal);
        if let Some(known) = self.lock().get(&key)
            && known.made_of == made_of
        {
            return Ok(Arc::clone(&known.rules));
        }
        let rules = Arc::new(compile(store, organization, principal)?);
        let mut cached = self.lock();
        if cached.len() >= CACHED_MAX && !cached.contains_key(&key) {
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
        let groups = Groups {
            store: control.store(),
            organization: OrganizationId(ONE),
        };
        let mut rules = Rules::default();
        rules.add(statements, &groups).unwrap();
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
