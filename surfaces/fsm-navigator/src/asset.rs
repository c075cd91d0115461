//! Assets: what is looked after (4.3).

use crate::asset_type::AssetType;
use crate::location::Location;
use crate::record::{Record, names};
use crate::status::statuses;
use crate::technician::Technician;
use crate::wire::{Moment, Word};
use meterd_control::{Document, Reference, Resource};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asset {
    pub(crate) asset_id: u64,
    pub(crate) asset_tag: String,
    pub(crate) asset_name: String,
    pub(crate) asset_type_id: Option<u64>,
    pub(crate) status: AssetStatus,
    pub(crate) condition: Option<String>,
    pub(crate) ownership_type: Option<String>,
    pub(crate) serial_number: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) location_id: Option<u64>,
    pub(crate) assigned_technician_id: Option<u64>,
    pub(crate) purchase_date: Option<Moment>,
    pub(crate) install_date: Option<Moment>,
    pub(crate) warranty_expiration: Option<Moment>,
    pub(crate) notes: Option<String>,
}

statuses! {
    AssetStatus {
        Active = "Active",
        Idle = "Idle",
        InMaintenance = "In Maintenance",
        PendingInstall = "Pending Install",
        InTransit = "In Transit",
        Lost = "Lost",
        NonCompliant = "Non-Compliant",
        Decommissioned = "Decommissioned",
        Retired = "Retired",
    }
    Active => Idle, InMaintenance, Decommissioned, Lost, InTransit, NonCompliant;
    Idle => Active, InMaintenance, Decommissioned, Retired, InTransit, PendingInstall;
    InMaintenance => Active, Idle, Decommissioned, Retired;
    PendingInstall => Active, Idle, InMaintenance, InTransit, Decommissioned;
    InTransit => Active, Idle, PendingInstall, InMaintenance, Lost;
    Lost => Active, Idle, Decommissioned, Retired;
    NonCompliant => Active, Idle, InMaintenance, Decommissioned, Retired;
    Decommissioned => ;
    Retired => ;
}

impl Document for Asset {
    const KIND: &'static str = "fsm-navigator/asset";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Asset;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key(), ("asset_tag", self.asset_tag.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("status", self.status.word().to_owned())];
        let ids = [
            ("asset_type_id", self.asset_type_id),
            ("location_id", self.location_id),
        ];
        let ids = ids.into_iter();
        keys.extend(ids.filter_map(|(name, id)| Some((name, id?.to_string()))));
        keys
    }
}

impl Resource for Asset {
    fn references(&self) -> Vec<Reference> {
        let kind = self.asset_type_id;
        let kind = kind.map(|id| names::<AssetType>("/asset_type_id", id));
        let location = self.location_id;
        let location = location.map(|id| names::<Location>("/location_id", id));
        let technician = self.assigned_technician_id;
        let technician = technician.map(|id| names::<Technician>("/assigned_technician_id", id));
        [kind, location, technician].into_iter().flatten().collect()
    }
}

impl Record for Asset {
    const ID: &'static str = "asset_id";

    fn number(&self) -> u64 {
        self.asset_id
    }

    /// Gives it the usual tag too, unless it has one.
    fn set_number(&mut self, number: u64) {
        self.asset_id = number;
        if self.asset_tag.is_empty() {
            self.asset_tag = format!("AST-{number:06}");
        }
    }
}
