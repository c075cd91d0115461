//! What the runs know of the ids of one request, looked up where the caller waits rather than in the one writer.

use crate::memory::Known;
use crate::runs::{IdHash, Run, RunError, find_newest, may_be_in};
use crate::state::RunSet;
use hashbrown::HashMap;
use meterd_model::OrganizationId;
use std::borrow::Cow;
use std::sync::Arc;

/// Holds for the generation of runs that was asked, however they are merged.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    generation: u64,
    found: HashMap<IdHash, Known>,
}

impl Probes {
    /// Reads the disk for ids that the runs may have.
    pub(crate) fn look_up(
        runs: &RunSet,
        organization: OrganizationId,
        ids: impl Iterator<Item = IdHash>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            generation: runs.generation,
            found: find_all(&runs.runs, organization, ids)?,
        })
    }

    /// `None` if the disk had to be read for that.
    pub(crate) fn look_up_in_memory(
        runs: &RunSet,
        organization: OrganizationId,
        mut ids: impl Iterator<Item = IdHash>,
    ) -> Option<Self> {
        let is_known = ids.any(|hash| may_be_in(&runs.runs, organization, hash));
        (!is_known).then(|| Self {
            generation: runs.generation,
            found: HashMap::new(),
        })
    }

    /// The same for the runs as they are now. Where ids were sealed once since, only the last run is asked: it has all
    /// of those, merged or not, and what the others say still holds.
    pub(crate) fn as_of<I: Iterator<Item = IdHash>>(
        &self,
        runs: &RunSet,
        organization: OrganizationId,
        ids: impl FnOnce() -> I,
    ) -> Result<Cow<'_, Self>, RunError> {
        if self.generation == runs.generation {
            return Ok(Cow::Borrowed(self));
        }
        let newest = match runs.runs.as_slice() {
            [.., newest] if self.generation + 1 == runs.generation => std::slice::from_ref(newest),
            _ => return Self::look_up(runs, organization, ids()).map(Cow::Owned),
        };
        let newer = find_all(newest, organization, ids())?;
        if newer.is_empty() {
            return Ok(Cow::Borrowed(self));
        }
        let mut now = self.clone();
        now.generation = runs.generation;
        now.found.extend(newer);
        Ok(Cow::Owned(now))
    }

    pub(crate) fn known(&self, hash: IdHash) -> Option<Known> {
        if self.found.is_empty() {
            return None;
        }
        self.found.get(&hash).copied()
    }
}

fn find_all(
    oldest_first: &[Arc<Run>],
    organization: OrganizationId,
    ids: impl Iterator<Item = IdHash>,
) -> Result<HashMap<IdHash, Known>, RunError> {
    let mut found = HashMap::new();
    if !oldest_first.is_empty() {
        for hash in ids {
            if let Some(entry) = find_newest(oldest_first, organization, hash)? {
                found.insert(hash, entry.into());
            }
        }
    }
    Ok(found)
}
