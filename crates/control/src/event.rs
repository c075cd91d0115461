//! What happened, in order: the change feed and the audit trail.
//!
//! Both are one table. A change of a resource is an event with a [`Change`] (its audit part: versions and the names
//! of the members that changed, never their values); other events, such as a rejected ingest, have none. Each
//! organization keeps its newest events of both classes up to a bound for each, so that a noisy client cannot push
//! the audit trail out; what is pruned is gone. Each organization numbers its own events.

use crate::author::{Actor, Author};
use crate::cursor::Cursor;
use crate::database::{Database, doing, time};
use meterd_fault::Fault;
use meterd_model::{OrganizationId, Timestamp};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

/// Most events that one call returns.
pub const EVENT_PAGE_MAX: usize = 1_000;
/// Longest JSON that one event carries, in bytes.
pub const EVENT_DATA_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts the organization's events from 1; never used twice, even when events are pruned.
    pub sequence: u64,
    pub organization: OrganizationId,
    pub at: Timestamp,
    /// `meter.created`, `ingest.rejected`, …
    pub kind: String,
    pub actor: Actor,
    pub resource: Option<ResourceRef>,
    pub change: Option<Change>,
    /// More about it; holds no secret.
    pub data: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    pub kind: String,
    pub id: String,
}

/// The audit part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Version before; none for a creation.
    pub before: Option<u64>,
    /// Version after; none for a deletion.
    pub after: Option<u64>,
    /// Members of the document that differ.
    pub members: Vec<String>,
}

/// An event to append.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub organization: OrganizationId,
    pub kind: String,
    pub resource: Option<ResourceRef>,
    pub data: Value,
}

/// Which events to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter<'a> {
    /// The type, e.g. `meter.created`.
    pub kind: Option<&'a str>,
    pub resource_kind: Option<&'a str>,
    pub resource_id: Option<&'a str>,
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Changes of resources only: the audit trail.
    pub audit_only: bool,
    /// What the type begins with.
    pub kind_prefix: Option<&'a str>,
    /// Members of the data and the texts they hold; all must match.
    pub members: &'a [(EventMember, &'a str)],
}

/// A member of events' data that lists can be narrowed by where it is a text. Each has a column and an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventMember {
    AccountId,
    NotificationId,
    NotificationCode,
}

impl EventMember {
    pub const ALL: [Self; 3] = [
        Self::AccountId,
        Self::NotificationId,
        Self::NotificationCode,
    ];

    /// In the data.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccountId => "accountId",
            Self::NotificationId => "notificationId",
            Self::NotificationCode => "notificationCode",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::AccountId => "account_id",
            Self::NotificationId => "notification_id",
            Self::NotificationCode => "notification_code",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Events {
    database: Arc<Database>,
    kept: EventsKept,
}

/// Most events that an organization keeps, by class; the oldest of the class give way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventsKept {
    pub(crate) changes_max: u64,
    pub(crate) others_max: u64,
}

impl Events {
    pub(crate) fn new(database: Arc<Database>, kept: EventsKept) -> Self {
        Self { database, kept }
    }

    /// Appends an event that is not a change of a resource. Returns its sequence.
    pub fn append(&self, event: &NewEvent, author: &Author) -> Result<u64, Fault> {
        self.database
            .write(|sql| self.insert(sql, event, None, author))
    }

    /// Appends an event, or counts it into the one of the same organization, type, actor and minute (UTC): for what a
    /// client can provoke with every request. `counts` are members of the event's data that add up over the minute;
    /// the other members, the time and the sequence are those of the first. `event.data` must be an object.
    /// Returns the sequence.
    pub fn append_counted(
        &self,
        event: &NewEvent,
        counts: &[(&'static str, u64)],
        author: &Author,
    ) -> Result<u64, Fault> {
        let minute = author.at.seconds().div_euclid(60);
        self.database.write(|sql| {
            let first = find_counted(sql, event, minute, author).map_err(doing("find event"))?;
            let Some((sequence, data)) = first else {
                let data = add_counts(event.data.clone(), counts)?;
                return self.insert_as(sql, event, &data, None, Some(minute), author);
            };
            let data = serde_json::from_str(&data)
                .map_err(|e| Fault::internal(format!("read event data: {e}")))?;
            let data = add_counts(data, counts)?;
            sql.prepare_cached(
                "UPDATE events SET data = ?3 WHERE organization = ?1 AND sequence = ?2",
            )
            .and_then(|mut update| {
                update.execute(params![event.organization.0, sequence, data.to_string()])
            })
            .map_err(doing("count an event"))?;
            Ok(sequence)
        })
    }

    /// Newest first, before the cursor. `limit` is held to [`EVENT_PAGE_MAX`].
    pub fn newest(
        &self,
        organization: OrganizationId,
        filter: &EventFilter<'_>,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Event>, Option<Cursor>), Fault> {
        let before = cursor.map_or(i64::MAX as u64, |cursor| cursor.as_sequence());
        let limit = limit.clamp(1, EVENT_PAGE_MAX);
        let mut events = self.select(
            Direction::NewestFirst,
            organization,
            filter,
            before,
            limit + 1,
        )?;
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events
            .last()
            .filter(|_| more)
            .map(|event| Cursor::of_sequence(event.sequence));
        Ok((events, next))
    }

    /// Oldest first, after the sequence: for followers of the feed. `limit` is held to [`EVENT_PAGE_MAX`].
    pub fn after(
        &self,
        organization: OrganizationId,
        filter: &EventFilter<'_>,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, Fault> {
        let limit = limit.clamp(1, EVENT_PAGE_MAX);
        self.select(
            Direction::OldestFirst,
            organization,
            filter,
            sequence,
            limit,
        )
    }

    /// One event of the organization, if it is still kept.
    pub fn get(&self, organization: OrganizationId, sequence: u64) -> Result<Option<Event>, Fault> {
        let Some(before) = sequence.checked_sub(1) else {
            return Ok(None);
        };
        let found = self.after(organization, &EventFilter::default(), before, 1)?;
        Ok(found.into_iter().find(|event| event.sequence == sequence))
    }

    pub(crate) fn insert(
        &self,
        sql: &Connection,
        event: &NewEvent,
        change: Option<&Change>,
        author: &Author,
    ) -> Result<u64, Fault> {
        self.insert_as(sql, event, &event.data, change, None, author)
    }

    fn insert_as(
        &self,
        sql: &Connection,
        event: &NewEvent,
        data: &Value,
        change: Option<&Change>,
        minute: Option<i64>,
        author: &Author,
    ) -> Result<u64, Fault> {
        let [account_id, notification_id, notification_code] =
            EventMember::ALL.map(|member| data.get(member.name()).and_then(Value::as_str));
        let json = data.to_string();
        if json.len() > EVENT_DATA_BYTES_MAX {
            return Err(Fault::internal(format!(
                "append event {}: {} bytes of data",
                event.kind,
                json.len()
            )));
        }
        let sequence = self
            .make_room(sql, event.organization, change.is_some())
            .map_err(doing("prune events"))?;
        let members = change.map(|change| Value::from(change.members.clone()).to_string());
        sql.prepare_cached(
            "INSERT INTO events (organization, sequence, is_change, at, type, actor, resource_kind, resource_id, \
             version_before, version_after, changed, data, minute, account_id, notification_id, notification_code) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                event.organization.0,
                sequence,
                change.is_some(),
                author.at.micros(),
                event.kind,
                author.actor.to_string(),
                event.resource.as_ref().map(|resource| &resource.kind),
                event.resource.as_ref().map(|resource| &resource.id),
                change.and_then(|change| change.before),
                change.and_then(|change| change.after),
                members,
                json,
                minute,
                account_id,
                notification_id,
                notification_code,
            ])
        })
        .map_err(doing("append event"))?;
        Ok(sequence)
    }

    /// The next sequence, with the oldest events of the class gone if it is at its bound.
    fn make_room(
        &self,
        sql: &Connection,
        organization: OrganizationId,
        is_change: bool,
    ) -> Result<u64, rusqlite::Error> {
        let (sequence, changes, others): (u64, u64, u64) = sql
            .prepare_cached(
                "INSERT INTO event_counts (organization, last, changes, others) VALUES (?1, 1, ?2, 1 - ?2) \
                 ON CONFLICT (organization) DO UPDATE SET last = last + 1, \
                 changes = changes + excluded.changes, others = others + excluded.others \
                 RETURNING last, changes, others",
            )?
            .query_row(params![organization.0, is_change], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let excess = if is_change {
            changes.saturating_sub(self.kept.changes_max)
        } else {
            others.saturating_sub(self.kept.others_max)
        };
        if excess > 0 {
            sql.prepare_cached(
                "DELETE FROM events WHERE organization = ?1 AND sequence IN \
                 (SELECT sequence FROM events WHERE organization = ?1 AND is_change = ?2 ORDER BY sequence LIMIT ?3)",
            )?
            .execute(params![organization.0, is_change, excess])?;
            sql.prepare_cached(
                "UPDATE event_counts SET changes = changes - ?2 * ?3, others = others - (1 - ?2) * ?3 \
                 WHERE organization = ?1",
            )?
            .execute(params![organization.0, is_change, excess])?;
        }
        Ok(sequence)
    }

    fn select(
        &self,
        direction: Direction,
        organization: OrganizationId,
        filter: &EventFilter<'_>,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, Fault> {
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        self.database.read(|sql| {
            let mut statement = sql
                .prepare_cached(&select_statement(direction, filter))
                .map_err(doing("list events"))?;
            statement
                .query_map(
                    params_from_iter(select_values(organization, sequence, filter, limit)),
                    event_of,
                )
                .and_then(Iterator::collect)
                .map_err(doing("list events"))
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    NewestFirst,
    OldestFirst,
}

/// Names only the filters that are given, so that the database sees which index serves them.
pub(crate) fn select_statement(direction: Direction, filter: &EventFilter<'_>) -> String {
    let mut statement = String::from(
        "SELECT sequence, organization, at, type, actor, resource_kind, resource_id, version_before, \
         version_after, changed, data FROM events WHERE organization = ?1",
    );
    // The plus leaves the order to the index of a member, which fewer events have than a type.
    let type_condition = if filter.members.is_empty() {
        " AND type = ?3"
    } else {
        " AND +type = ?3"
    };
    let conditions = [
        (filter.kind.is_some(), type_condition),
        (filter.resource_kind.is_some(), " AND resource_kind = ?4"),
        (filter.resource_id.is_some(), " AND resource_id = ?5"),
        (filter.from.is_some(), " AND at >= ?6"),
        (filter.to.is_some(), " AND at < ?7"),
        (filter.audit_only, " AND is_change = 1"),
    ];
    for (_, condition) in conditions.iter().filter(|(is_given, _)| *is_given) {
        statement.push_str(condition);
    }
    if filter.kind_prefix.is_some() {
        // The plus keeps the order of the primary key, since nearly all types of an organization begin alike.
        statement.push_str(" AND +type >= ?9 AND +type < ?10");
    }
    for ((member, _), place) in filter.members.iter().zip(11..) {
        // Writing to a string cannot fail.
        let _ = write!(statement, " AND {} = ?{place}", member.column());
    }
    statement.push_str(match direction {
        Direction::NewestFirst => " AND sequence < ?2 ORDER BY sequence DESC LIMIT ?8",
        Direction::OldestFirst => " AND sequence > ?2 ORDER BY sequence LIMIT ?8",
    });
    statement
}

/// What the places of [`select_statement`] stand for.
fn select_values(
    organization: OrganizationId,
    sequence: i64,
    filter: &EventFilter<'_>,
    limit: usize,
) -> Vec<SqlValue> {
    let text =
        |text: Option<&str>| text.map_or(SqlValue::Null, |text| SqlValue::Text(text.to_owned()));
    let time = |time: Option<Timestamp>| {
        time.map_or(SqlValue::Null, |time| SqlValue::Integer(time.micros()))
    };
    let mut values = vec![
        SqlValue::Blob(organization.0.as_bytes().to_vec()),
        SqlValue::Integer(sequence),
        text(filter.kind),
        text(filter.resource_kind),
        text(filter.resource_id),
        time(filter.from),
        time(filter.to),
        SqlValue::Integer(i64::try_from(limit).unwrap_or(i64::MAX)),
    ];
    if filter.kind_prefix.is_some() || !filter.members.is_empty() {
        let end = filter
            .kind_prefix
            .map(|prefix| format!("{prefix}{}", char::MAX));
        values.extend([text(filter.kind_prefix), text(end.as_deref())]);
    }
    values.extend(filter.members.iter().map(|(_, value)| text(Some(value))));
    values
}

/// The event that this one counts into.
fn find_counted(
    sql: &Connection,
    event: &NewEvent,
    minute: i64,
    author: &Author,
) -> Result<Option<(u64, String)>, rusqlite::Error> {
    sql.prepare_cached(
        "SELECT sequence, data FROM events \
         WHERE organization = ?1 AND type = ?2 AND actor = ?3 AND minute = ?4",
    )?
    .query_row(
        params![
            event.organization.0,
            event.kind,
            author.actor.to_string(),
            minute
        ],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()
}

fn add_counts(mut data: Value, counts: &[(&'static str, u64)]) -> Result<Value, Fault> {
    let members = data
        .as_object_mut()
        .ok_or_else(|| Fault::internal("the data of a counted event is no object"))?;
    for (name, count) in counts {
        let before = members.get(*name).and_then(Value::as_u64).unwrap_or(0);
        members.insert((*name).to_owned(), before.saturating_add(*count).into());
    }
    Ok(data)
}

fn event_of(row: &Row<'_>) -> Result<Event, rusqlite::Error> {
    let unreadable = |column, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    };
    let actor: String = row.get(4)?;
    let resource_kind: Option<String> = row.get(5)?;
    let resource_id: Option<String> = row.get(6)?;
    let changed: Option<String> = row.get(9)?;
    let data: String = row.get(10)?;
    let change = match changed {
        Some(members) => Some(Change {
            before: row.get(7)?,
            after: row.get(8)?,
            members: serde_json::from_str(&members).map_err(|e| unreadable(9, e.into()))?,
        }),
        None => None,
    };
    Ok(Event {
        sequence: row.get(0)?,
        organization: OrganizationId(row.get(1)?),
        at: time(row.get(2)?),
        kind: row.get(3)?,
        actor: actor
            .parse()
            .map_err(|_| unreadable(4, "not an actor".into()))?,
        resource: resource_kind
            .zip(resource_id)
            .map(|(kind, id)| ResourceRef { kind, id }),
        change,
        data: serde_json::from_str(&data).map_err(|e| unreadable(10, e.into()))?,
    })
}
