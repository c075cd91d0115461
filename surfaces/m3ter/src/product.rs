//! Products: what is sold. They own meters, counters and compound aggregations.

use crate::access::Guarded;
use crate::aggregation::Aggregation;
use crate::compound_aggregation::CompoundAggregation;
use crate::counter::Counter;
use crate::entity::{At, Entity, entity_event, paths};
use crate::meter::Meter;
use crate::wire::{CODE, CustomValues, NAME};
use meterd_control::{Changed, Document, Resource, Use, used_by};
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) code: String,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

impl Document for Product {
    const KIND: &'static str = "m3ter/product";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Product;
    const EVENT: &'static str = "m3ter.configuration.product";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Product {
    const USED_BY: &'static [Use] = &[
        used_by::<Meter>("productId"),
        used_by::<Counter>("productId"),
        used_by::<CompoundAggregation>("productId"),
        used_by::<CompoundAggregation>("accountingProductId"),
        used_by::<Aggregation>("accountingProductId"),
    ];
}

impl Guarded for Product {
    const WORD: &'static str = "product";
}

impl Entity for Product {
    paths!("/products");
    const PAGE_MAX: i64 = 200;

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let code = fields.required_checked("code", CODE);
        let custom_fields = CustomValues::read(fields);
        Some(Self {
            name: name?,
            code: code?,
            custom_fields,
        })
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}
