//! What the runs know of the ids of one request, looked up where the caller waits rather than in the one writer.

use crate::memory::Known;
use crate::runs::{IdHash, RunError};
use crate::state::RunSet;
use hashbrown::HashMap;
use meterd_model::OrganizationId;

/// Holds for the generation of runs that was asked, however they are merged.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    generation: u64,
    found: HashMap<IdHash, Known>,
}

impl Probes {
    pub(crate) fn look_up(
        runs: &RunSet,
        organization: OrganizationId,
        ids: impl Iterator<Item = IdHash>,
    ) -> Result<Self, RunError> {
        let mut found = HashMap::new();
        if !runs.runs.is_empty() {
            for hash in ids {
                if let Some(entry) = runs.find(organization, hash)? {
                    found.insert(hash, entry.into());
                }
            }
        }
        Ok(Self {
            generation: runs.generation,
            found,
        })
    }

    pub(crate) fn hold_for(&self, runs: &RunSet) -> bool {
        self.generation == runs.generation
    }

    pub(crate) fn known(&self, hash: IdHash) -> Option<Known> {
        if self.found.is_empty() {
            return None;
        }
        self.found.get(&hash).copied()
    }
}
