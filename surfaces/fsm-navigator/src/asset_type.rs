//! Types of assets, which are set up outside the API.

use crate::record::Record;
use meterd_control::{Document, Resource};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AssetType {
    pub(crate) asset_type_id: u64,
    pub(crate) asset_type_name: String,
}

impl Document for AssetType {
    const KIND: &'static str = "fsm-navigator/asset-type";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Resource;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            self.id_key(),
            ("asset_type_name", self.asset_type_name.clone()),
        ]
    }
}

impl Resource for AssetType {}

impl Record for AssetType {
    const ID: &'static str = "asset_type_id";

    fn number(&self) -> u64 {
        self.asset_type_id
    }

    fn set_number(&mut self, number: u64) {
        self.asset_type_id = number;
    }
}
