//! Meters: what is measured. The one resource that every surface shares with the engine.

use crate::Document;
use meterd_fault::Resource;
use meterd_model::{MeterDefinition, MeterName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Unique within the organization.
    pub name: MeterName,
    pub definition: MeterDefinition,
    /// Days after which measurements may be dropped, whole months at a time; none: they stay for ever.
    pub retention_days: Option<u32>,
}

/// Most days of [`Meter::retention_days`]: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

impl Document for Meter {
    const KIND: &'static str = "meter";
    const RESOURCE: Resource = Resource::Meter;
    const SCHEMA: u32 = 2;

    /// Before schema 2 measurements stayed for ever.
    fn upgrade(from: u32, mut value: Value) -> Result<Value, String> {
        if from < 2 {
            let document = value.as_object_mut().ok_or("it is no object")?;
            document.insert("retention_days".to_owned(), Value::Null);
        }
        Ok(value)
    }

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_meter_of_schema_1_keeps_its_measurements_for_ever() {
        let old =
            json!({"name": "m", "definition": {"kind": "delta", "values": {}, "attributes": []}});
        let upgraded = Meter::upgrade(1, old).unwrap();
        let meter: Meter = serde_json::from_value(upgraded).unwrap();
        assert_eq!((meter.name.as_str(), meter.retention_days), ("m", None));
        assert!(Meter::upgrade(1, json!([])).is_err());
    }
}
