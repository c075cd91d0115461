//! The three streams of a device as meters of the engine, so that its measurements are like all others
//! (specs/wattwatchers.md 3.7 to 3.9).
//!
//! A device is a subject. A record of Long or Short Energy is one measurement for each channel, which the attribute
//! `channel` numbers from 1; one of Modbus is one measurement. A measurement's time is the record's stamp, which marks the
//! end of the interval: so the engine's ranges and calendar windows over stamps are the original's.

use crate::settings::WattwatchersSettings;
use crate::surface::SURFACE;
use meterd_control::{Meter, Stored, Writes};
use meterd_fault::Fault;
use meterd_model::{FieldName, MeterDefinition, MeterKind, MeterName, OrganizationId, ValueField};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The attribute that numbers a record's channels.
pub(crate) const CHANNEL: &str = "channel";
/// The attribute that names the Modbus meter's model.
pub(crate) const MODEL: &str = "model";
/// Seconds that a record covers; in every channel's measurement.
pub(crate) const DURATION: &str = "duration";
/// Of the grid, in Short Energy; in every channel's measurement.
pub(crate) const FREQUENCY: &str = "frequency";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Long,
    Short,
    Modbus,
}

/// One array of an energy record, a value for each channel; a field of the stream's meter of the same name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) name: &'static str,
    pub(crate) quantity: Quantity,
    /// What many values become: those of a bucket, and those of the channels of a phase.
    pub(crate) combine: Combine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Joules of either sign: whole ones.
    NetEnergy,
    /// Joules of one direction, at least 0.
    Energy,
    /// At least 0.
    Volts,
    /// At least 0.
    Amperes,
}

impl Quantity {
    fn unit(self) -> &'static str {
        match self {
            Self::NetEnergy | Self::Energy => "J",
            Self::Volts => "V",
            Self::Amperes => "A",
        }
    }

    pub(crate) fn is_energy(self) -> bool {
        matches!(self, Self::NetEnergy | Self::Energy)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Min,
    Max,
    Mean,
}

const fn array(name: &'static str, quantity: Quantity, combine: Combine) -> Array {
    Array {
        name,
        quantity,
        combine,
    }
}

static LONG: [Array; 10] = [
    array("eReal", Quantity::NetEnergy, Combine::Sum),
    array("eRealPositive", Quantity::Energy, Combine::Sum),
    array("eRealNegative", Quantity::Energy, Combine::Sum),
    array("eReactive", Quantity::NetEnergy, Combine::Sum),
    array("eReactivePositive", Quantity::Energy, Combine::Sum),
    array("eReactiveNegative", Quantity::Energy, Combine::Sum),
    array("vRMSMin", Quantity::Volts, Combine::Min),
    array("vRMSMax", Quantity::Volts, Combine::Max),
    array("iRMSMin", Quantity::Amperes, Combine::Min),
    array("iRMSMax", Quantity::Amperes, Combine::Max),
];

static SHORT: [Array; 4] = [
    array("eReal", Quantity::NetEnergy, Combine::Sum),
    array("eReactive", Quantity::NetEnergy, Combine::Sum),
    array("vRMS", Quantity::Volts, Combine::Mean),
    array("iRMS", Quantity::Amperes, Combine::Sum),
];

/// What is sent as a net is sent as its two directions too, in Long Energy: the net is the second less the third.
pub(crate) const NETS: [[&str; 3]; 2] = [
    ["eReal", "eRealPositive", "eRealNegative"],
    ["eReactive", "eReactivePositive", "eReactiveNegative"],
];

/// Registers of every Modbus meter, which count hundredths of their unit.
pub(crate) const REGISTERS: [&str; 9] = [
    "kVAh",
    "kWh_Exp",
    "kWh_Imp",
    "kWh_Net",
    "kWh_Tot",
    "kvarh_Exp",
    "kvarh_Imp",
    "kvarh_Net",
    "kvarh_Tot",
];

/// Models of Modbus meters, and what each reads beside the registers. A reading's name on the wire begins with `_`,
/// which no field does.
pub(crate) const MODBUS_METERS: [(&str, &[&str]); 2] = [
    ("PMC-220", &["_I", "_V", "_PF"]),
    (
        "PMC-340B",
        &[
            "_Ia", "_Ib", "_Ic", "_PFa", "_PFb", "_PFc", "_Uan", "_Ubn", "_Ucn", "kvarh_Q1",
            "kvarh_Q2", "kvarh_Q3", "kvarh_Q4",
        ],
    ),
];

/// The field that a Modbus reading is kept in.
pub(crate) fn modbus_field(wire_name: &str) -> &str {
    wire_name.strip_prefix('_').unwrap_or(wire_name)
}

impl Stream {
    /// As ids of measurements have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Short => "short",
            Self::Modbus => "modbus",
        }
    }

    pub fn meter_name(self) -> &'static str {
        match self {
            Self::Long => "wattwatchers_long_energy",
            Self::Short => "wattwatchers_short_energy",
            Self::Modbus => "wattwatchers_modbus",
        }
    }

    /// None of Modbus.
    pub(crate) fn arrays(self) -> &'static [Array] {
        match self {
            Self::Long => &LONG,
            Self::Short => &SHORT,
            Self::Modbus => &[],
        }
    }

    /// Which of its arrays has this name.
    pub(crate) fn place_of(self, name: &str) -> Option<usize> {
        self.arrays().iter().position(|array| array.name == name)
    }

    fn values(self) -> Vec<(&'static str, &'static str)> {
        let arrays = self.arrays().iter();
        let mut values: Vec<_> = arrays.map(|a| (a.name, a.quantity.unit())).collect();
        match self {
            Self::Long => values.push((DURATION, "s")),
            Self::Short => values.extend([(DURATION, "s"), (FREQUENCY, "Hz")]),
            Self::Modbus => {
                let readings = MODBUS_METERS.iter().flat_map(|(_, readings)| *readings);
                let names = REGISTERS.iter().chain(readings);
                values.extend(names.map(|name| (modbus_field(name), modbus_unit(name))));
            }
        }
        values
    }

    /// The stream's meter of an account that has none yet.
    fn meter(self, settings: &WattwatchersSettings) -> Result<Meter, Fault> {
        let field = |name: &str| FieldName::new(name).map_err(Fault::internal);
        let mut values = BTreeMap::new();
        for (name, unit) in self.values() {
            let unit = unit.to_owned();
            values.insert(field(name)?, ValueField { unit });
        }
        let (kind, attribute, retention_days) = match self {
            Self::Long => (MeterKind::Delta, CHANNEL, None),
            Self::Short => {
                let days = settings.short_energy_retention_days;
                (MeterKind::Delta, CHANNEL, Some(days))
            }
            Self::Modbus => (MeterKind::Register, MODEL, None),
        };
        Ok(Meter {
            name: MeterName::new(self.meter_name()).map_err(Fault::internal)?,
            definition: MeterDefinition {
                kind,
                values,
                attributes: BTreeSet::from([field(attribute)?]),
            },
            retention_days,
            managed_by: Some(SURFACE.to_owned()),
        })
    }
}

/// UCUM codes; hundredths are a scale that the code can say.
fn modbus_unit(wire_name: &str) -> &'static str {
    let field = modbus_field(wire_name);
    if field.starts_with("kWh") {
        "10*-2.kW.h"
    } else if field.starts_with('k') {
        // Apparent and reactive energy have no code of their own.
        "10*-2.kV.A.h"
    } else if field.starts_with("PF") {
        "1"
    } else if field.starts_with('I') {
        "A"
    } else {
        "V"
    }
}

/// The stream's meter of an account, made if there is none, and adopted if it was made before meters said whose they are;
/// one that somebody else has made otherwise stays theirs.
pub(crate) fn ensure_meter(
    writes: &mut Writes<'_>,
    account: OrganizationId,
    stream: Stream,
    settings: &WattwatchersSettings,
) -> Result<Arc<Stored<Meter>>, Fault> {
    let own = stream.meter(settings)?;
    match writes.find_by_key::<Meter>(account, "name", stream.meter_name())? {
        None => writes.create_though_full(account, own),
        Some(meter)
            if meter.document.managed_by.is_some()
                || meter.document.definition != own.definition =>
        {
            Ok(meter)
        }
        Some(meter) => writes.update_though_full::<Meter>(account, meter.id, None, |meter| {
            Ok(Meter {
                managed_by: Some(SURFACE.to_owned()),
                ..meter.document.clone()
            })
        }),
    }
}
