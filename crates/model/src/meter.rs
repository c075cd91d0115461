//! Definitions of what is measured.

use crate::FieldName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most value fields, and most attributes, that a meter may have.
pub const FIELDS_MAX: usize = 32;

/// Attribute and text by which a measurement of a register begins a new count: what it says is no difference to the one
/// before.
pub const RESET: (&str, &str) = ("reset", "true");

/// The fields of one meter. Its name and id belong to the resource that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterDefinition {
    pub kind: MeterKind,
    /// Numeric fields.
    pub values: BTreeMap<FieldName, ValueField>,
    /// Text fields to group and filter by.
    pub attributes: BTreeSet<FieldName>,
}

/// How readings of a meter relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Amounts that add up.
    Delta,
    /// States, such as a temperature.
    Gauge,
    /// Ever-rising readings, such as an odometer.
    Register,
}

impl MeterKind {
    pub const ALL: [Self; 3] = [Self::Delta, Self::Gauge, Self::Register];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Gauge => "gauge",
            Self::Register => "register",
        }
    }
}

/// One numeric field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueField {
    /// UCUM code, e.g. `kW.h`, `By`, `1`.
    pub unit: String,
}
