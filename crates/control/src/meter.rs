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
    /// The surface that made it for itself, and relies on its definition; none: whoever may change meters made it.
    pub managed_by: Option<String>,
}

/// Most days of [`Meter::retention_days`]: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

impl Document for Meter {
    const KIND: &'static str = "meter";
    const RESOURCE: Resource = Resource::Meter;
    const SCHEMA: u32 = 3;

    /// Before schema 2 measurements stayed for ever; before schema 3 nobody said whose a meter is.
    fn upgrade(from: u32, mut value: Value) -> Result<Value, String> {
        if from < 2 {
            let document = value.as_object_mut().ok_or("it is no object")?;
            document.insert("retention_days".to_owned(), Value::Null);
        }
        if from < 3 {
            let document = value.as_object_mut().ok_or("it is no object")?;
            document.insert("managed_by".to_owned(), Value::Null);
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

    #[test]
    fn a_meter_of_schema_2_is_managed_by_no_surface() {
        let old = json!({
            "name": "m", "definition": {"kind": "delta", "values": {}, "attributes": []}, "retention_days": 3,
        });
        let upgraded = Meter::upgrade(2, old).unwrap();
        let meter: Meter = serde_json::from_value(upgraded).unwrap();
        assert_eq!((meter.retention_days, meter.managed_by), (Some(3), None));
        assert!(Meter::upgrade(2, json!([])).is_err());
    }
}
