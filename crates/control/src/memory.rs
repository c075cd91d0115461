//! The resources in memory, with their keys. Holds exactly what the database holds for the registered kinds.

use crate::document::{Keys, Put};
use crate::store::List;
use meterd_model::OrganizationId;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Memory {
    kinds: HashMap<&'static str, KindMemory>,
    held: HashMap<OrganizationId, Held>,
}

/// What an organization has, or at most may have, in all kinds together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) resources: usize,
    /// Of their documents as JSON.
    pub(crate) bytes: usize,
}

impl std::fmt::Debug for Memory {
    /// Only the counts: keys may be personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self
            .kinds
            .iter()
            .map(|(kind, memory)| (kind, memory.by_id.len()));
        f.debug_map().entries(counts).finish()
    }
}

#[derive(Default)]
struct KindMemory {
    by_id: HashMap<Uuid, Entry>,
    tenants: HashMap<OrganizationId, Tenant>,
}

struct Entry {
    organization: OrganizationId,
    unique: Keys,
    index: Keys,
    bytes: usize,
    stored: Arc<dyn Any + Send + Sync>,
}

#[derive(Default)]
struct Tenant {
    /// Counts the changes since the opening.
    revision: u64,
    ids: BTreeSet<Uuid>,
    unique: HashMap<&'static str, HashMap<String, Uuid>>,
    index: HashMap<&'static str, HashMap<String, BTreeSet<Uuid>>>,
}

/// A change of memory that belongs to one committed transaction.
pub(crate) enum MemoryChange {
    Put(Put),
    Remove { kind: &'static str, id: Uuid },
}

impl Memory {
    pub(crate) fn register(&mut self, kind: &'static str) {
        self.kinds.entry(kind).or_default();
    }

    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    pub(crate) fn held(&self, organization: OrganizationId) -> Held {
        self.held.get(&organization).copied().unwrap_or_default()
    }

    pub(crate) fn get(
        &self,
        kind: &str,
        organization: OrganizationId,
        id: Uuid,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let entry = self.kinds.get(kind)?.by_id.get(&id)?;
        (entry.organization == organization).then(|| Arc::clone(&entry.stored))
    }

    pub(crate) fn get_by_key(
        &self,
        kind: &str,
        organization: OrganizationId,
        field: &str,
        value: &str,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let memory = self.kinds.get(kind)?;
        let id = memory
            .tenants
            .get(&organization)?
            .unique
            .get(field)?
            .get(value)?;
        Some(Arc::clone(&memory.by_id.get(id)?.stored))
    }

    pub(crate) fn revision(&self, kind: &str, organization: OrganizationId) -> u64 {
        let tenant = self
            .kinds
            .get(kind)
            .and_then(|memory| memory.tenants.get(&organization));
        tenant.map_or(0, |tenant| tenant.revision)
    }

    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Arc<dyn Any + Send + Sync>> {
        let memory = self.kinds.get(kind).into_iter();
        memory.flat_map(|memory| memory.by_id.values().map(|entry| &entry.stored))
    }

    /// The organization's resources of a kind that a list asks for, whatever its page. An index value that nothing
    /// carries gives nothing.
    pub(crate) fn scan(
        &self,
        kind: &str,
        organization: OrganizationId,
        list: &List<'_>,
    ) -> Option<Scan<'_>> {
        let memory = self.kinds.get(kind)?;
        let tenant = memory.tenants.get(&organization)?;
        let mut sets = Vec::with_capacity(list.filters.len());
        for (field, value) in list.filters {
            sets.push(tenant.index.get(*field)?.get(*value)?);
        }
        sets.sort_unstable_by_key(|set| set.len());
        let mut ids = match list.any_of {
            Some((field, values)) => {
                let carried = tenant.index.get(field)?;
                let carriers = values.iter().filter_map(|value| carried.get(value));
                Cow::Owned(carriers.flatten().copied().collect())
            }
            None if sets.is_empty() => Cow::Borrowed(&tenant.ids),
            None => Cow::Borrowed(sets.remove(0)),
        };
        if let Some(wanted) = list.ids {
            let wanted = wanted.iter().filter(|id| ids.contains(id));
            ids = Cow::Owned(wanted.copied().collect());
        }
        Some(Scan {
            memory,
            ids,
            others: sets,
        })
    }

    pub(crate) fn apply(&mut self, changes: Vec<MemoryChange>) {
        for change in changes {
            match change {
                MemoryChange::Put(put) => {
                    self.remove(put.kind, put.id);
                    self.put(put);
                }
                MemoryChange::Remove { kind, id } => self.remove(kind, id),
            }
        }
    }

    fn put(&mut self, put: Put) {
        let memory = self.kinds.entry(put.kind).or_default();
        let tenant = memory.tenants.entry(put.organization).or_default();
        tenant.revision += 1;
        tenant.ids.insert(put.id);
        for (field, value) in &put.unique {
            let values = tenant.unique.entry(field).or_default();
            values.insert(value.clone(), put.id);
        }
        for (field, value) in &put.index {
            let values = tenant.index.entry(field).or_default();
            values.entry(value.clone()).or_default().insert(put.id);
        }
        let held = self.held.entry(put.organization).or_default();
        held.resources += 1;
        held.bytes += put.bytes;
        memory.by_id.insert(
            put.id,
            Entry {
                organization: put.organization,
                unique: put.unique,
                index: put.index,
                bytes: put.bytes,
                stored: put.stored,
            },
        );
    }

    fn remove(&mut self, kind: &'static str, id: Uuid) {
        let Some(memory) = self.kinds.get_mut(kind) else {
            return;
        };
        let Some(entry) = memory.by_id.remove(&id) else {
            return;
        };
        if let Some(held) = self.held.get_mut(&entry.organization) {
            held.resources = held.resources.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(entry.bytes);
        }
        let Some(tenant) = memory.tenants.get_mut(&entry.organization) else {
            return;
        };
        tenant.revision += 1;
        tenant.ids.remove(&id);
        for (field, value) in &entry.unique {
            if let Some(values) = tenant.unique.get_mut(field) {
                // Changes come in the order they were made, so the value cannot be another resource's yet.
                values.remove(value);
            }
        }
        for (field, value) in &entry.index {
            let Some(values) = tenant.index.get_mut(field) else {
                continue;
            };
            let is_empty = values.get_mut(value).is_some_and(|ids| {
                ids.remove(&id);
                ids.is_empty()
            });
            if is_empty {
                values.remove(value);
            }
        }
    }
}

pub(crate) struct Scan<'m> {
    memory: &'m KindMemory,
    ids: Cow<'m, BTreeSet<Uuid>>,
    others: Vec<&'m BTreeSet<Uuid>>,
}

impl<'m> Scan<'m> {
    /// Falling ids, below the given one.
    pub(crate) fn newest_first(
        &self,
        below: Option<Uuid>,
    ) -> impl Iterator<Item = &'m Arc<dyn Any + Send + Sync>> {
        let range = match below {
            Some(below) => self.ids.range(..below),
            None => self.ids.range(..),
        };
        range.rev().filter_map(|id| self.entry(id))
    }

    /// Rising ids, above the given one.
    pub(crate) fn oldest_first(
        &self,
        above: Option<Uuid>,
    ) -> impl Iterator<Item = &'m Arc<dyn Any + Send + Sync>> {
        use std::ops::Bound;
        let from = above.map_or(Bound::Unbounded, Bound::Excluded);
        self.ids
            .range((from, Bound::Unbounded))
            .filter_map(|id| self.entry(id))
    }

    fn entry(&self, id: &Uuid) -> Option<&'m Arc<dyn Any + Send + Sync>> {
        if !self.others.iter().all(|set| set.contains(id)) {
            return None;
        }
        self.memory.by_id.get(id).map(|entry| &entry.stored)
    }
}
