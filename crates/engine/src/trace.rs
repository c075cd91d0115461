//! What happened to one id, version by version.

use crate::state::Organization;
use meterd_model::{Measurement, MeasurementId, Timestamp};

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

/// At most `limit` versions, the newest; so the lock is held for no more.
pub(crate) fn trace(
    organization: &Organization,
    id: &MeasurementId,
    limit: usize,
) -> Option<Trace> {
    let number = organization.ids.find(id.as_str())?;
    let (newest, more) = organization.history(number, limit);
    let versions = newest
        .into_iter()
        .map(|entry| Version {
            sequence: entry.sequence,
            received: entry.received,
            action: entry.action,
            measurement: entry.row.and_then(|place| organization.measurement(place)),
        })
        .collect();
    Some(Trace {
        versions,
        more,
        duplicates: organization.repeats(number),
    })
}
