//! Meters: what is measured. The one resource that every surface shares with the engine.

use crate::Document;
use meterd_fault::Resource;
use meterd_model::{MeterDefinition, MeterName};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Unique within the organization.
    pub name: MeterName,
    pub definition: MeterDefinition,
}

impl Document for Meter {
    const KIND: &'static str = "meter";
    const RESOURCE: Resource = Resource::Meter;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.to_string())]
    }
}
