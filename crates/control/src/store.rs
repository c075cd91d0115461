//! The resource store: every configuration object of every surface, typed by [`Document`].
//!
//! Writes go to the database in one transaction with their audit events, then to memory, before any other writer starts;
//! reads come from memory. A reader sees all of a transaction or nothing of it, and a returned write is seen by
//! every later read. [`Store::write`] is the general form: it runs a closure alone among all writers, so that what
//! the closure reads through its [`Writes`] (or through the store itself) cannot change before it commits. The
//! closure must not start another write of the store, which would wait for itself.

use crate::author::Author;
use crate::cursor::Cursor;
use crate::database::{Database, OpenError, doing, time};
use crate::document::{
    self, Changed, Document, DocumentType, Documents, Keys, Loaded, Row, Stored,
};
use crate::event::{Change, Events, NewEvent, ResourceRef};
use crate::memory::{Held, Memory, MemoryChange};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_model::{OrganizationId, Timestamp};
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Most items of one list page.
pub const PAGE_MAX: usize = 1_000;
/// Longest document as JSON, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Most keys (unique and index together) of one document.
pub const KEYS_MAX: usize = 256;
/// Most changes in one transaction.
pub const CHANGES_MAX: usize = 10_000;
/// Longest that a write can have waited for those before it. A clock that is farther behind was set back.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// The code of what does not fit an organization any more.
const FULL: &str = "organization_full";

/// The organization of what belongs to the server itself: organizations and server administrators.
pub const SERVER: OrganizationId = OrganizationId(Uuid::nil());

/// Which resources to list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Index keys that must all match.
    pub filters: &'a [(&'a str, &'a str)],
    /// An index key and its values, one of which must match.
    pub any_of: Option<(&'a str, &'a [String])>,
    /// Only these, of which those that are not there do not count.
    pub ids: Option<&'a [Uuid]>,
    pub cursor: Option<Cursor>,
    /// Matching items to pass over first, for surfaces that page by number.
    pub skip: usize,
    /// Held to [`PAGE_MAX`].
    pub limit: usize,
    pub order: Order,
}

impl Default for List<'_> {
    fn default() -> Self {
        Self {
            filters: &[],
            any_of: None,
            ids: None,
            cursor: None,
            skip: 0,
            limit: PAGE_MAX,
            order: Order::NewestFirst,
        }
    }
}

/// By creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

#[derive(Clone, Debug)]
pub struct Page<D> {
    pub items: Vec<Arc<Stored<D>>>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

/// Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Arc<Database>,
    events: Events,
    memory: RwLock<Memory>,
    ids: Mutex<IdClock>,
    types: Vec<DocumentType>,
    /// The time of the last write; at the opening, of the last one that can be told.
    written_at: Mutex<Timestamp>,
    /// Of one organization.
    held_max: Held,
}

impl Store {
    pub(crate) fn open(
        database: Arc<Database>,
        events: Events,
        documents: &Documents,
        held_max: Held,
    ) -> Result<Self, OpenError> {
        let mut memory = Memory::default();
        let mut ids = IdClock::default();
        let mut written_at = Timestamp::MIN;
        for document in &documents.types {
            if memory.knows(document.kind) {
                return Err(OpenError::DuplicateKind(document.kind));
            }
            memory.register(document.kind);
            let changed_at = load_kind(&database, document, &mut memory, &mut ids)?;
            written_at = written_at.max(changed_at);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                events,
                memory: RwLock::new(memory),
                ids: Mutex::new(ids),
                types: documents.types.clone(),
                written_at: Mutex::new(written_at),
                held_max,
            }),
        })
    }

    /// By id. Another organization's resource is not found.
    pub fn get<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.find(organization, id)?
            .ok_or_else(|| not_found::<D>(&id))
    }

    pub fn find<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<Option<Arc<Stored<D>>>, Fault> {
        let memory = self.inner.memory.read();
        known::<D>(&memory)?;
        memory
            .get(D::KIND, organization, id)
            .map(|stored| typed(&stored))
            .transpose()
    }

    /// By unique key.
    pub fn get_by_key<D: Document>(
        &self,
        organization: OrganizationId,
        field: &str,
        value: &str,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.find_by_key(organization, field, value)?
            .ok_or_else(|| not_found::<D>(&meterd_fault::quote(value)))
    }

    pub fn find_by_key<D: Document>(
        &self,
        organization: OrganizationId,
        field: &str,
        value: &str,
    ) -> Result<Option<Arc<Stored<D>>>, Fault> {
        let memory = self.inner.memory.read();
        known::<D>(&memory)?;
        memory
            .get_by_key(D::KIND, organization, field, value)
            .map(|stored| typed(&stored))
            .transpose()
    }

    pub fn list<D: Document>(
        &self,
        organization: OrganizationId,
        list: &List<'_>,
    ) -> Result<Page<D>, Fault> {
        self.list_where(organization, list, |_| true)
    }

    /// Lists what also passes `keep`, for filters that no index key serves. `keep` is called under the read lock and
    /// must be quick and must not use the store.
    pub fn list_where<D: Document>(
        &self,
        organization: OrganizationId,
        list: &List<'_>,
        keep: impl Fn(&Stored<D>) -> bool,
    ) -> Result<Page<D>, Fault> {
        let limit = list.limit.clamp(1, PAGE_MAX);
        let memory = self.inner.memory.read();
        known::<D>(&memory)?;
        let Some(scan) = memory.scan(D::KIND, organization, list) else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        };
        let from = list.cursor.map(Cursor::as_id);
        let mut items = match list.order {
            Order::NewestFirst => matching(scan.newest_first(from), &keep, list.skip, limit + 1)?,
            Order::OldestFirst => matching(scan.oldest_first(from), &keep, list.skip, limit + 1)?,
        };
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items
            .last()
            .filter(|_| has_more)
            .map(|last| Cursor::of_id(last.id));
        Ok(Page { items, next })
    }

    /// How many resources match all the index keys.
    pub fn count<D: Document>(
        &self,
        organization: OrganizationId,
        filters: &[(&str, &str)],
    ) -> Result<usize, Fault> {
        let memory = self.inner.memory.read();
        known::<D>(&memory)?;
        let list = List {
            filters,
            ..List::default()
        };
        Ok(memory
            .scan(D::KIND, organization, &list)
            .map_or(0, |scan| scan.oldest_first(None).count()))
    }

    /// A number that is another one after each change of a resource of the kind, for caches of what is made of them.
    pub fn revision<D: Document>(&self, organization: OrganizationId) -> u64 {
        let memory = self.inner.memory.read();
        memory.revision(D::KIND, organization)
    }

    pub fn create<D: Document>(
        &self,
        organization: OrganizationId,
        document: D,
        author: &Author,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.write(author, |writes| writes.create(organization, document))
    }

    /// Replaces the document. `expected` is the version that the caller has seen, if it said one.
    pub fn replace<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        document: D,
        author: &Author,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.update(organization, id, expected, author, |_| Ok(document))
    }

    /// Reads, changes and writes without another write in between.
    pub fn update<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        author: &Author,
        change: impl FnOnce(&Stored<D>) -> Result<D, Fault>,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.write(author, |writes| {
            writes.update(organization, id, expected, change)
        })
    }

    pub fn delete<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.write(author, |writes| writes.delete(organization, id, expected))
    }

    /// Several changes as one: all of them, with their events, or none. They carry the author's time, or that of the
    /// write before if it is later: of two changes, the one that is seen first never has the later time.
    pub fn write<T>(
        &self,
        author: &Author,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.inner.database.write_then(
            |sql| {
                let mut writes = Writes {
                    sql,
                    store: self,
                    author: self.in_turn(author),
                    changes: Vec::new(),
                    added: HashMap::new(),
                };
                let done = work(&mut writes)?;
                Ok((done, writes.changes))
            },
            |(done, changes)| {
                if !changes.is_empty() {
                    self.inner.memory.write().apply(changes);
                }
                done
            },
        )
    }

    /// The author with the time of the write. Only called by the one writer.
    fn in_turn(&self, author: &Author) -> Author {
        let mut last = self.inner.written_at.lock();
        let is_late = author.at < *last && last.saturating_sub(WAIT_MAX) <= author.at;
        if !is_late {
            *last = author.at;
        }
        Author {
            at: *last,
            ..*author
        }
    }

    /// Every resource of a kind over all organizations.
    pub(crate) fn each<D: Document>(&self, visit: &mut dyn FnMut(&Stored<D>)) {
        let memory = self.inner.memory.read();
        for stored in memory.all(D::KIND) {
            if let Some(stored) = stored.downcast_ref() {
                visit(stored);
            }
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn types(&self) -> Documents {
        Documents {
            types: self.inner.types.clone(),
        }
    }
}

/// Checks every stored document against its rows, without memory or a change. Finds at most `problems_max` problems;
/// what the database refuses to read is an error.
pub(crate) fn check(
    sql: &Connection,
    types: &[DocumentType],
    problems_max: usize,
) -> Result<(u64, Vec<String>), rusqlite::Error> {
    let mut checked = 0;
    let mut problems = Vec::new();
    for document in types {
        let mut last = Uuid::nil();
        loop {
            let rows = rows_after(sql, document.kind, last)?;
            let Some(id) = rows.last().map(|(id, _)| *id) else {
                break;
            };
            last = id;
            for (id, row) in rows {
                checked += 1;
                let finding = match row {
                    Ok(row) => check_row(sql, document, &row)?,
                    Err(reason) => Some(reason),
                };
                if let Some(reason) = finding
                    && problems.len() < problems_max
                {
                    problems.push(format!("{} {id}: {reason}", document.kind));
                }
            }
        }
    }
    Ok((checked, problems))
}

/// The changes of one transaction, see [`Store::write`].
pub struct Writes<'t> {
    sql: &'t Transaction<'t>,
    store: &'t Store,
    author: Author,
    changes: Vec<MemoryChange>,
    /// What the changes add to the organizations.
    added: HashMap<OrganizationId, Added>,
}

/// Whether a change is held to the bound of an organization's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Bounded,
    Always,
}

#[derive(Clone, Copy, Debug, Default)]
struct Added {
    resources: i64,
    bytes: i64,
}

impl std::fmt::Debug for Writes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writes")
            .field("author", &self.author)
            .field("changes", &self.changes.len())
            .finish_non_exhaustive()
    }
}

impl Writes<'_> {
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// The store as it was before the transaction.
    pub fn store(&self) -> &Store {
        self.store
    }

    pub(crate) fn sql(&self) -> &Connection {
        self.sql
    }

    /// Appends an event that is not a change of a resource. Returns its sequence.
    pub fn append(&mut self, event: &NewEvent) -> Result<u64, Fault> {
        let events = &self.store.inner.events;
        events.insert(self.sql, event, None, &self.author)
    }

    /// By id, with this transaction's own changes.
    pub fn get<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<Arc<Stored<D>>, Fault> {
        let (stored, _) = self.current(organization, id)?;
        Ok(Arc::new(stored))
    }

    /// With the bytes of its document.
    fn current<D: Document>(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<(Stored<D>, usize), Fault> {
        let row =
            select_row(self.sql, D::KIND, organization, id)?.ok_or_else(|| not_found::<D>(&id))?;
        let read = row.and_then(|row| Ok((document::parse::<D>(&row)?.0, row.document.len())));
        read.map_err(|reason| Fault::internal(format!("read {} {id}: {reason}", D::KIND)))
    }

    /// By unique key, with this transaction's own changes.
    pub fn find_by_key<D: Document>(
        &self,
        organization: OrganizationId,
        field: &str,
        value: &str,
    ) -> Result<Option<Arc<Stored<D>>>, Fault> {
        let holder = holder_of(self.sql, organization, D::KIND, field, value)
            .map_err(doing("look up a key"))?;
        holder.map(|id| self.get::<D>(organization, id)).transpose()
    }

    /// The next number of a named sequence, from 1. Numbers of a transaction that fails are handed out again.
    pub fn next_number(&mut self, organization: OrganizationId, name: &str) -> Result<u64, Fault> {
        self.sql
            .prepare_cached(
                "INSERT INTO sequences (organization, name, last) VALUES (?1, ?2, 1) \
                 ON CONFLICT (organization, name) DO UPDATE SET last = last + 1 RETURNING last",
            )
            .and_then(|mut statement| {
                statement.query_row(params![organization.0, name], |row| row.get(0))
            })
            .map_err(doing("take a number"))
    }

    pub fn create<D: Document>(
        &mut self,
        organization: OrganizationId,
        document: D,
    ) -> Result<Arc<Stored<D>>, Fault> {
        let id = self.next_id()?;
        self.create_as(organization, id, document)
    }

    /// As [`Self::create`], however many bytes the organization has: for the few that the server itself cannot do without.
    pub fn create_though_full<D: Document>(
        &mut self,
        organization: OrganizationId,
        document: D,
    ) -> Result<Arc<Stored<D>>, Fault> {
        let id = self.next_id()?;
        self.insert(organization, id, Room::Always, document)
    }

    /// With a given id, for ids that are fixed outside; an id that is taken is a fault.
    pub fn create_as<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        document: D,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.insert(organization, id, Room::Bounded, document)
    }

    fn next_id(&self) -> Result<Uuid, Fault> {
        self.store.inner.ids.lock().next(self.author.at)
    }

    fn insert<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        room: Room,
        document: D,
    ) -> Result<Arc<Stored<D>>, Fault> {
        let stored = Arc::new(Stored {
            id,
            organization,
            version: 1,
            created_at: self.author.at,
            created_by: self.author.actor,
            modified_at: self.author.at,
            modified_by: self.author.actor,
            document,
        });
        // The nil id is the server's own organization.
        if id.is_nil() || id_is_taken(self.sql, id).map_err(doing("look up an id"))? {
            return Err(Kind::ResourceExists {
                resource: D::RESOURCE,
                field: "id",
                value: id.to_string(),
            }
            .into());
        }
        let json = to_json(&stored.document)?;
        self.add(organization, 1, signed(json.len()), room)?;
        self.sql
            .prepare_cached(
                "INSERT INTO resources (id, organization, kind, version, schema, created_at, created_by, \
                 modified_at, modified_by, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?7, ?8)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    id,
                    organization.0,
                    D::KIND,
                    stored.version,
                    D::SCHEMA,
                    self.author.at.micros(),
                    self.author.actor.to_string(),
                    json,
                ])
            })
            .map_err(doing("insert a resource"))?;
        let members = member_names(&json);
        self.finish(&stored, &Changed::Created(&stored), json.len(), members)?;
        Ok(stored)
    }

    pub fn update<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        change: impl FnOnce(&Stored<D>) -> Result<D, Fault>,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.change(organization, id, expected, Room::Bounded, change)
    }

    /// As [`Self::update`], however full the organization is: for what must be possible at any time, such as to revoke a
    /// key, and for what the server itself notes. What it lets documents grow to must be bounded without that.
    pub fn update_though_full<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        change: impl FnOnce(&Stored<D>) -> Result<D, Fault>,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.change(organization, id, expected, Room::Always, change)
    }

    fn change<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        room: Room,
        change: impl FnOnce(&Stored<D>) -> Result<D, Fault>,
    ) -> Result<Arc<Stored<D>>, Fault> {
        let (current, bytes_before) = self.current::<D>(organization, id)?;
        check_version(&current, expected)?;
        let document = change(&current)?;
        let stored = Arc::new(Stored {
            version: current.version + 1,
            modified_at: self.author.at,
            modified_by: self.author.actor,
            document,
            ..current
        });
        let json = to_json(&stored.document)?;
        let growth = signed(json.len()) - signed(bytes_before);
        self.add(organization, 0, growth, room)?;
        self.sql
            .prepare_cached(
                "UPDATE resources SET version = ?2, schema = ?3, modified_at = ?4, modified_by = ?5, document = ?6 \
                 WHERE id = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    id,
                    stored.version,
                    D::SCHEMA,
                    self.author.at.micros(),
                    self.author.actor.to_string(),
                    json,
                ])
            })
            .map_err(doing("update a resource"))?;
        delete_keys(self.sql, id).map_err(doing("delete keys"))?;
        let changed = changed_members(&to_json(&current.document)?, &json);
        let sides = Changed::Updated {
            before: &current,
            after: &stored,
        };
        self.finish(&stored, &sides, json.len(), changed)?;
        Ok(stored)
    }

    /// Returns what was deleted.
    pub fn delete<D: Document>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
    ) -> Result<Arc<Stored<D>>, Fault> {
        self.check_changes()?;
        let (current, bytes) = self.current::<D>(organization, id)?;
        check_version(&current, expected)?;
        self.add(organization, -1, -signed(bytes), Room::Always)?;
        self.sql
            .prepare_cached("DELETE FROM resources WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id]))
            .map_err(doing("delete a resource"))?;
        self.record(&Changed::Deleted(&current), Vec::new())?;
        self.changes
            .push(MemoryChange::Remove { kind: D::KIND, id });
        Ok(Arc::new(current))
    }

    /// Key rows, event and memory of a resource that was created or updated.
    fn finish<D: Document>(
        &mut self,
        stored: &Arc<Stored<D>>,
        changed: &Changed<'_, D>,
        bytes: usize,
        members: Vec<String>,
    ) -> Result<(), Fault> {
        self.check_changes()?;
        known::<D>(&self.store.inner.memory.read())?;
        let put = document::put(Arc::clone(stored), bytes);
        if put.unique.len() + put.index.len() > KEYS_MAX {
            return Err(Fault::internal(format!(
                "{} {} has too many keys",
                D::KIND,
                stored.id
            )));
        }
        for (field, value) in &put.unique {
            let holder = holder_of(self.sql, stored.organization, D::KIND, field, value)
                .map_err(doing("look up a key"))?;
            if holder.is_some() {
                return Err(Kind::ResourceExists {
                    resource: D::RESOURCE,
                    field,
                    value: meterd_fault::quote(value),
                }
                .into());
            }
        }
        insert_keys(
            self.sql,
            D::KIND,
            stored.organization,
            stored.id,
            &put.unique,
            &put.index,
        )
        .map_err(doing("insert keys"))?;
        self.record(changed, members)?;
        self.changes.push(MemoryChange::Put(put));
        Ok(())
    }

    fn record<D: Document>(
        &self,
        changed: &Changed<'_, D>,
        members: Vec<String>,
    ) -> Result<(), Fault> {
        let stored = changed.newest();
        let event = NewEvent {
            organization: stored.organization,
            kind: format!("{}.{}", D::EVENT, changed.verb()),
            resource: Some(ResourceRef {
                kind: D::KIND.to_owned(),
                id: stored.id.to_string(),
            }),
            data: D::event_data(changed),
        };
        let change = Change {
            before: changed.before().map(|stored| stored.version),
            after: changed.after().map(|stored| stored.version),
            members,
        };
        let events = &self.store.inner.events;
        events.insert(self.sql, &event, Some(&change), &self.author)?;
        Ok(())
    }

    /// Counts what a change adds, unless it is refused. What makes the organization no larger is always taken, so that one
    /// past its bound, which may have been lowered, can be tidied up; so is what there is always room for.
    fn add(
        &mut self,
        organization: OrganizationId,
        resources: i64,
        bytes: i64,
        room: Room,
    ) -> Result<(), Fault> {
        let held = self.store.inner.memory.read().held(organization);
        let max = self.store.inner.held_max;
        let added = self.added.entry(organization).or_default();
        let sum = Added {
            resources: added.resources + resources,
            bytes: added.bytes + bytes,
        };
        if resources > 0 && signed(held.resources) + sum.resources > signed(max.resources) {
            return Err(too_much(max.resources, "items"));
        }
        if bytes > 0 && room == Room::Bounded && signed(held.bytes) + sum.bytes > signed(max.bytes)
        {
            return Err(too_much(max.bytes, "bytes"));
        }
        *added = sum;
        Ok(())
    }

    fn check_changes(&self) -> Result<(), Fault> {
        if self.changes.len() >= CHANGES_MAX {
            return Err(Fault::internal("a transaction with too many changes"));
        }
        Ok(())
    }
}

/// Makes ids that rise even when the clock does not.
#[derive(Debug, Default)]
struct IdClock {
    /// Milliseconds since 1970 and a counter of 12 bits below them, as in the last id.
    last: u64,
}

impl IdClock {
    fn next(&mut self, now: Timestamp) -> Result<Uuid, Fault> {
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or_default();
        self.last = (self.last + 1).max(millis << 12);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| Fault::internal(format!("randomness: {e}")))?;
        let high =
            u128::from(self.last >> 12) << 80 | 7 << 76 | u128::from(self.last & 0xfff) << 64;
        let low = u128::from(u64::from_be_bytes(random) >> 2 | 1 << 63);
        Ok(Uuid::from_u128(high | low))
    }

    fn seen(&mut self, id: Uuid) {
        let bits = id.as_u128();
        if id.get_version_num() == 7 {
            let millis = u64::try_from(bits >> 80).unwrap_or_default();
            let counter = u64::try_from(bits >> 64 & 0xfff).unwrap_or_default();
            self.last = self.last.max(millis << 12 | counter);
        }
    }
}

fn known<D: Document>(memory: &Memory) -> Result<(), Fault> {
    if memory.knows(D::KIND) {
        return Ok(());
    }
    Err(Fault::internal(format!(
        "the document type {} is not registered",
        D::KIND
    )))
}

fn typed<D: Document>(stored: &Arc<dyn Any + Send + Sync>) -> Result<Arc<Stored<D>>, Fault> {
    Arc::clone(stored)
        .downcast::<Stored<D>>()
        .map_err(|_| Fault::internal(format!("two document types are called {}", D::KIND)))
}

fn matching<'m, D: Document>(
    entries: impl Iterator<Item = &'m Arc<dyn Any + Send + Sync>>,
    keep: impl Fn(&Stored<D>) -> bool,
    skip: usize,
    limit: usize,
) -> Result<Vec<Arc<Stored<D>>>, Fault> {
    let mut skipped = 0;
    let mut items = Vec::new();
    for entry in entries {
        let stored = entry
            .downcast_ref::<Stored<D>>()
            .ok_or_else(|| Fault::internal(format!("two document types are called {}", D::KIND)))?;
        if !keep(stored) {
            continue;
        }
        if skipped < skip {
            skipped += 1;
            continue;
        }
        items.push(typed(entry)?);
        if items.len() == limit {
            break;
        }
    }
    Ok(items)
}

fn not_found<D: Document>(id: &impl ToString) -> Fault {
    Fault::new(Kind::ResourceNotFound {
        resource: D::RESOURCE,
        id: id.to_string(),
    })
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether the store refused something because its organization is full.
pub fn is_full(fault: &Fault) -> bool {
    let Kind::Invalid { problems } = fault.kind.as_ref() else {
        return false;
    };
    let full = |rule: &Rule| matches!(rule, Rule::Other { code, .. } if *code == FULL);
    problems.iter().any(|problem| full(&problem.rule))
}

/// No retry helps before something is removed.
fn too_much(max: usize, what: &str) -> Fault {
    let rule = Rule::Other {
        code: FULL,
        text: format!("does not fit: an organization's configuration has at most {max} {what}")
            .into(),
    };
    Fault::invalid(Problem::body("", rule))
}

fn check_version<D: Document>(current: &Stored<D>, expected: Option<u64>) -> Result<(), Fault> {
    match expected {
        Some(given) if given != current.version => Err(Kind::VersionMismatch {
            resource: D::RESOURCE,
            stored: current.version,
            given,
        }
        .into()),
        _ => Ok(()),
    }
}

fn to_json<D: Document>(document: &D) -> Result<String, Fault> {
    let json = serde_json::to_string(document)
        .map_err(|e| Fault::internal(format!("write a {}: {e}", D::KIND)))?;
    if json.len() > DOCUMENT_BYTES_MAX {
        return Err(Kind::BodyTooLarge {
            limit_bytes: DOCUMENT_BYTES_MAX as u64,
        }
        .into());
    }
    Ok(json)
}

fn members(json: &str) -> serde_json::Map<String, Value> {
    match serde_json::from_str(json) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    }
}

fn member_names(json: &str) -> Vec<String> {
    members(json).into_iter().map(|(name, _)| name).collect()
}

fn changed_members(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (members(before), members(after));
    let added = after.keys().filter(|name| !before.contains_key(*name));
    let changed = before
        .iter()
        .filter(|(name, value)| after.get(*name) != Some(value))
        .map(|(name, _)| name);
    changed.chain(added).cloned().collect()
}

fn holder_of(
    sql: &Connection,
    organization: OrganizationId,
    kind: &str,
    field: &str,
    value: &str,
) -> Result<Option<Uuid>, rusqlite::Error> {
    sql.prepare_cached(
        "SELECT resource FROM resource_keys WHERE organization = ?1 AND kind = ?2 AND field = ?3 AND value = ?4",
    )?
    .query_row(params![organization.0, kind, field, value], |row| row.get(0))
    .optional()
}

fn id_is_taken(sql: &Connection, id: Uuid) -> Result<bool, rusqlite::Error> {
    sql.prepare_cached("SELECT 1 FROM resources WHERE id = ?1")?
        .exists([id])
}

fn insert_keys(
    sql: &Connection,
    kind: &str,
    organization: OrganizationId,
    id: Uuid,
    unique: &Keys,
    index: &Keys,
) -> Result<(), rusqlite::Error> {
    let mut insert = sql.prepare_cached(
        "INSERT INTO resource_keys (organization, kind, field, value, resource) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (field, value) in unique {
        insert.execute(params![organization.0, kind, field, value, id])?;
    }
    let mut insert = sql.prepare_cached(
        "INSERT INTO resource_indexes (organization, kind, field, value, resource) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (field, value) in index {
        insert.execute(params![organization.0, kind, field, value, id])?;
    }
    Ok(())
}

fn delete_keys(sql: &Connection, id: Uuid) -> Result<(), rusqlite::Error> {
    sql.prepare_cached("DELETE FROM resource_keys WHERE resource = ?1")?
        .execute([id])?;
    sql.prepare_cached("DELETE FROM resource_indexes WHERE resource = ?1")?
        .execute([id])?;
    Ok(())
}

const ROWS_PER_READ: usize = 1_000;

/// A row, or why it cannot be read.
type RowResult = Result<Row, String>;

/// The next rows of a kind by id, over all organizations.
fn rows_after(
    sql: &Connection,
    kind: &str,
    after: Uuid,
) -> Result<Vec<(Uuid, RowResult)>, rusqlite::Error> {
    // The nil id is never stored, so that "after nil" is the beginning.
    sql.prepare_cached(
        "SELECT id, organization, version, schema, created_at, created_by, modified_at, modified_by, document \
         FROM resources WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?
    .query_map(params![kind, after, ROWS_PER_READ], |row| Ok((row.get(0)?, row_of(row)?)))?
    .collect()
}

fn select_row(
    sql: &Connection,
    kind: &str,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<RowResult>, Fault> {
    sql.prepare_cached(
        "SELECT id, organization, version, schema, created_at, created_by, modified_at, modified_by, document \
         FROM resources WHERE id = ?1 AND kind = ?2 AND organization = ?3",
    )
    .and_then(|mut statement| {
        statement
            .query_row(params![id, kind, organization.0], row_of)
            .optional()
    })
    .map_err(doing("read a resource"))
}

fn row_of(row: &rusqlite::Row<'_>) -> Result<RowResult, rusqlite::Error> {
    let created_by: String = row.get(5)?;
    let modified_by: String = row.get(7)?;
    let (Ok(created_by), Ok(modified_by)) = (created_by.parse(), modified_by.parse()) else {
        return Ok(Err("its actor cannot be read".to_owned()));
    };
    Ok(Ok(Row {
        id: row.get(0)?,
        organization: OrganizationId(row.get(1)?),
        version: row.get(2)?,
        schema: row.get(3)?,
        created_at: time(row.get(4)?),
        created_by,
        modified_at: time(row.get(6)?),
        modified_by,
        document: row.get(8)?,
    }))
}

/// Brings one kind into memory and rewrites what has an older form. Returns when one was changed last.
fn load_kind(
    database: &Database,
    document: &DocumentType,
    memory: &mut Memory,
    ids: &mut IdClock,
) -> Result<Timestamp, OpenError> {
    let mut last = Uuid::nil();
    let mut changed_at = Timestamp::MIN;
    loop {
        let rows = database.on_writer(|sql| rows_after(sql, document.kind, last))?;
        let Some(id) = rows.last().map(|(id, _)| *id) else {
            return Ok(changed_at);
        };
        last = id;
        let mut changes = Vec::with_capacity(rows.len());
        for (id, row) in rows {
            ids.seen(id);
            if let Ok(row) = &row {
                changed_at = changed_at.max(row.modified_at);
            }
            let loaded = load_row(document, id, row)?;
            if let Some(json) = &loaded.upgraded {
                database.on_writer(|sql| rewrite(sql, document, &loaded, json))?;
            }
            changes.push(MemoryChange::Put(loaded.put));
        }
        memory.apply(changes);
    }
}

fn load_row(document: &DocumentType, id: Uuid, row: RowResult) -> Result<Loaded, OpenError> {
    let unreadable = |reason| OpenError::Document {
        kind: document.kind.to_owned(),
        id: id.to_string(),
        reason,
    };
    let row = row.map_err(unreadable)?;
    if row.schema > document.schema {
        return Err(OpenError::NewerDocument {
            kind: document.kind,
            id: id.to_string(),
            found: row.schema,
            known: document.schema,
        });
    }
    (document.load)(&row).map_err(unreadable)
}

/// One upgraded document, atomically with its keys. The version stays: clients see the same resource.
fn rewrite(
    sql: &mut Connection,
    document: &DocumentType,
    loaded: &Loaded,
    json: &str,
) -> Result<(), rusqlite::Error> {
    let put = &loaded.put;
    let transaction = sql.transaction()?;
    transaction.execute(
        "UPDATE resources SET schema = ?2, document = ?3 WHERE id = ?1",
        params![put.id, document.schema, json],
    )?;
    delete_keys(&transaction, put.id)?;
    insert_keys(
        &transaction,
        put.kind,
        put.organization,
        put.id,
        &put.unique,
        &put.index,
    )?;
    transaction.commit()
}

/// Why a row does not agree with itself, if it does not.
fn check_row(
    sql: &Connection,
    document: &DocumentType,
    row: &Row,
) -> Result<Option<String>, rusqlite::Error> {
    if row.schema > document.schema {
        return Ok(Some(format!(
            "was written by a newer meterd (document schema {}; this one knows up to {})",
            row.schema, document.schema
        )));
    }
    let id = row.id;
    let loaded = match (document.load)(row) {
        Ok(loaded) => loaded,
        Err(reason) => return Ok(Some(reason)),
    };
    if loaded.upgraded.is_some() {
        // The next opening rewrites its keys together with it.
        return Ok(None);
    }
    let unique = stored_keys(
        sql,
        "SELECT field, value FROM resource_keys WHERE resource = ?1 ORDER BY field, value",
        id,
    )?;
    let index = stored_keys(
        sql,
        "SELECT field, value FROM resource_indexes WHERE resource = ?1 ORDER BY field, value",
        id,
    )?;
    if !same_keys(&loaded.put.unique, &unique) {
        return Ok(Some("its unique keys differ from its document".to_owned()));
    }
    if !same_keys(&loaded.put.index, &index) {
        return Ok(Some("its index keys differ from its document".to_owned()));
    }
    Ok(None)
}

fn stored_keys(
    sql: &Connection,
    statement: &'static str,
    id: Uuid,
) -> Result<Vec<(String, String)>, rusqlite::Error> {
    sql.prepare_cached(statement)?
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn same_keys(computed: &Keys, stored: &[(String, String)]) -> bool {
    computed.len() == stored.len()
        && computed
            .iter()
            .zip(stored)
            .all(|(a, b)| a.0 == b.0 && a.1 == b.1)
}
