//! What happened to one id, version by version.

use crate::memory::{HistoryEntry, Memory};
use crate::partition::{Link, Partition};
use crate::query::{Cancel, QueryError};
use crate::segment::read::{Range, Segment};
use crate::state::State;
use crate::stored::{StoredRow, rows_of, rows_of_id};
use meterd_model::{Measurement, MeasurementId, OrganizationId, Timestamp};
use std::sync::Arc;

/// What is stored under one id, the newest version last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub versions: Vec<Version>,
    /// Whether there are older ones than these.
    pub more: bool,
    /// Times the same content came again since the engine was opened. Kept in memory only, and for a bounded number
    /// of ids.
    pub duplicates: u64,
}

impl Trace {
    /// The version that counts, if the id was not voided.
    pub fn current(&self) -> Option<&Measurement> {
        self.versions
            .last()
            .and_then(|version| version.measurement.as_ref())
    }
}

/// One event in the life of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its place in the one order of the engine.
    pub sequence: u64,
    pub received: Timestamp,
    pub action: Action,
    /// `None` when voided.
    pub measurement: Option<Measurement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Stored,
    Replaced,
    Voided,
}

/// At most `limit` versions, the newest. `None` if the id was never stored.
pub(crate) fn trace(
    state: &State,
    organization: OrganizationId,
    id: &MeasurementId,
    limit: usize,
    cancel: &Cancel,
) -> Result<Option<Trace>, QueryError> {
    let Some(held) = state.organization(organization) else {
        return Ok(None);
    };
    let hash = state.hasher.hash(organization, id.as_str());
    let mut newest_first = Vec::new();
    let (older, runs, segments, duplicates, forgotten_below) = {
        let held = held.read();
        let mut older = None;
        for memory in held.memories() {
            let (events, before) = memory.history(hash);
            let room = limit.saturating_add(1).saturating_sub(newest_first.len());
            let found = events.iter().rev().take(room);
            newest_first.extend(found.map(|event| version(memory, event)));
            if events.is_empty() {
                continue;
            }
            // It may be in the memory that is being sealed.
            older = before;
            if older.is_none() || newest_first.len() > limit {
                break;
            }
        }
        let segments: Vec<_> = held.sealed.all_segments().cloned().collect();
        let repeats = held.repeats(hash);
        (older, state.runs(), segments, repeats, held.forgotten_below)
    };
    let older = if newest_first.is_empty() {
        // What no memory had is in these runs. The disk may be slow, and nobody should wait for that with us.
        let found = runs.find(organization, hash);
        let found = found.map_err(|error| QueryError::Unreadable(error.to_string()))?;
        found.map(|entry| entry.newest)
    } else {
        older
    };
    let newest = newest_first.first().map(|version| version.sequence);
    let newest = newest.or(older.map(|link| link.sequence));
    if newest.is_none_or(|newest| newest < forgotten_below) {
        return Ok(None);
    }
    let room = limit.saturating_add(1).saturating_sub(newest_first.len());
    let sealed = sealed_versions(&segments, id, older, room, cancel)?;
    newest_first.extend(sealed);
    let more = newest_first.len() > limit;
    newest_first.truncate(limit);
    newest_first.reverse();
    Ok(Some(Trace {
        versions: newest_first,
        more,
        duplicates,
    }))
}

fn version(memory: &Memory, event: &HistoryEntry) -> Version {
    Version {
        sequence: event.stamp.sequence,
        received: event.stamp.received,
        action: event.action,
        measurement: event.row.and_then(|place| memory.measurement(place)),
    }
}

/// Follows the events of an id from one to the one before it, at most so many.
fn sealed_versions(
    segments: &[Arc<Segment>],
    id: &MeasurementId,
    newest: Option<Link>,
    count: usize,
    cancel: &Cancel,
) -> Result<Vec<Version>, QueryError> {
    let mut versions = Vec::new();
    let mut next = newest;
    let mut loaded: Vec<StoredRow> = Vec::new();
    let mut visited: Vec<Partition> = Vec::new();
    while let Some(link) = next.filter(|_| versions.len() < count) {
        if !loaded.iter().any(|row| row.sequence == link.sequence) {
            // The first look at a partition is for one row; a second one means that the id has a history there.
            let again = visited.contains(&link.partition);
            visited.push(link.partition);
            for segment in segments_of(segments, link) {
                loaded.extend(if again {
                    rows_of_id(segment, id.as_str(), cancel)?
                } else {
                    rows_of(segment, &Range::ALL, &[link.sequence], cancel)?
                });
            }
        }
        // Its month may have been dropped by the meter's retention.
        let Some(row) = loaded.iter().find(|row| row.sequence == link.sequence) else {
            break;
        };
        next = row.replaces;
        versions.push(Version {
            sequence: row.sequence,
            received: row.received,
            action: row.action(),
            measurement: row.measurement.clone(),
        });
    }
    Ok(versions)
}

fn segments_of(segments: &[Arc<Segment>], link: Link) -> impl Iterator<Item = &Arc<Segment>> {
    segments
        .iter()
        .filter(move |segment| segment.meta().partition == link.partition)
}
