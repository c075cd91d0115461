//! Counters: quantities that are set rather than measured, such as seats (4.11).

use crate::access::Guarded;
use crate::counter_adjustment::CounterAdjustment;
use crate::entity::{At, Entity, entity_event, paths};
use crate::list::Filter;
use crate::product::Product;
use crate::wire::{CODE_OR_EMPTY, NAME, id_text, text};
use meterd_control::{Changed, Document, Reference, Resource, Use, refers, used_by};
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest unit; the original names no bound.
const UNIT_MAX_CHARS: usize = 5_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counter {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// None for a global one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_id: Option<String>,
    pub(crate) unit: String,
}

impl Document for Counter {
    const KIND: &'static str = "m3ter/counter";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Counter;
    const EVENT: &'static str = "m3ter.configuration.counter";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let code = self.code.iter();
        code.map(|code| ("code", code.clone())).collect()
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let product = self.product_id.iter();
        product.map(|id| ("productId", id.clone())).collect()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Counter {
    const USED_BY: &'static [Use] = &[used_by::<CounterAdjustment>("counterId")];

    fn references(&self) -> Vec<Reference> {
        let product = self.product_id.iter();
        product
            .map(|id| refers::<Product>("/productId", id))
            .collect()
    }

    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for Counter {
    const WORD: &'static str = "counter";
}

impl Entity for Counter {
    paths!("/counters");
    const PAGE_MAX: i64 = 200;
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Codes,
        Filter::AnyOf {
            parameter: "productId",
            index: "productId",
        },
    ];

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let code = fields.checked_string("code", CODE_OR_EMPTY);
        let product_id = fields.uuid("productId");
        let unit = fields.required_checked("unit", text(1, UNIT_MAX_CHARS));
        Some(Self {
            name: name?,
            code: code.filter(|code| !code.is_empty()),
            product_id: id_text(product_id),
            unit: unit?,
        })
    }

    fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}
