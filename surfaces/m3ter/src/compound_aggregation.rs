//! Compound aggregations: a calculation over aggregations (4.8).

use crate::access::Guarded;
use crate::aggregation::{Aggregation, Rated, Rounding, Segment};
use crate::calculation::parse_compound;
use crate::custom_fields::CustomFields;
use crate::entity::{At, Entity, entity_event, paths};
use crate::list::Filter;
use crate::product::Product;
use crate::singleton::current;
use crate::wire::{CustomValues, id_text, text};
use meterd_control::{Changed, Document, Reference, Resource, refers};
use meterd_fault::Rule;
use meterd_http::ExactNumber;
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompoundAggregation {
    pub(crate) name: String,
    pub(crate) rounding: Rounding,
    pub(crate) quantity_per_unit: ExactNumber,
    pub(crate) unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accounting_product_id: Option<String>,
    /// None for a global one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_id: Option<String>,
    pub(crate) calculation: String,
    /// Whether it is calculated where an aggregation has no usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) evaluate_null_aggregations: Option<bool>,
    /// Those of the aggregations, if all had the same when this was saved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) segments: Vec<Segment>,
    /// The aggregations that the calculation names. Ours; m3ter does not show it.
    pub(crate) aggregation_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

impl Document for CompoundAggregation {
    const KIND: &'static str = "m3ter/compound_aggregation";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::CompoundAggregation;
    const EVENT: &'static str = "m3ter.configuration.compoundaggregation";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let code = self.code.iter();
        code.map(|code| ("code", code.clone())).collect()
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let aggregations = self.aggregation_ids.iter();
        let aggregations = aggregations.map(|id| ("aggregationId", id));
        let product = self.product_id.iter().map(|id| ("productId", id));
        let accounting = self.accounting_product_id.iter();
        let accounting = accounting.map(|id| ("accountingProductId", id));
        let keys = aggregations.chain(product).chain(accounting);
        keys.map(|(field, id)| (field, id.clone())).collect()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for CompoundAggregation {
    fn references(&self) -> Vec<Reference> {
        let aggregations = self.aggregation_ids.iter();
        let aggregations = aggregations.map(|id| refers::<Aggregation>("/calculation", id));
        let product = self.product_id.iter();
        let product = product.map(|id| refers::<Product>("/productId", id));
        let accounting = self.accounting_product_id.iter();
        let accounting = accounting.map(|id| refers::<Product>("/accountingProductId", id));
        aggregations.chain(product).chain(accounting).collect()
    }

    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for CompoundAggregation {
    const WORD: &'static str = "compoundaggregation";
}

impl Entity for CompoundAggregation {
    paths!("/compoundaggregations");
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Codes,
        Filter::AnyOf {
            parameter: "productId",
            index: "productId",
        },
    ];

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let rated = Rated::read(fields);
        let product_id = fields.uuid("productId");
        let calculation = fields.required_checked("calculation", text(1, 5_000));
        let evaluate_null_aggregations = fields.boolean("evaluateNullAggregations");
        let calculation = calculation?;
        let named = match named_aggregations(&calculation, at) {
            Ok(named) => named,
            Err(rule) => {
                fields.refuse("calculation", rule);
                return None;
            }
        };
        let mut segments = named.iter().map(|(_, aggregation)| &aggregation.segments);
        let first = segments.next().cloned().unwrap_or_default();
        let segments = if segments.all(|other| *other == first) {
            first
        } else {
            Vec::new()
        };
        let rated = rated?;
        Some(Self {
            name: rated.name,
            rounding: rated.rounding,
            quantity_per_unit: rated.quantity_per_unit,
            unit: rated.unit,
            code: rated.code,
            accounting_product_id: rated.accounting_product_id,
            product_id: id_text(product_id),
            calculation,
            evaluate_null_aggregations,
            segments,
            aggregation_ids: named.into_iter().map(|(id, _)| id).collect(),
            custom_fields: rated.custom_fields,
        })
    }

    fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// The aggregations that a calculation names, with their ids.
fn named_aggregations(
    calculation: &str,
    at: &At<'_, CompoundAggregation>,
) -> Result<Vec<(String, Aggregation)>, Rule> {
    let store = at.app.control.store();
    // The kinds are known to the store, so that looking them up cannot fail.
    let custom_fields = current::<CustomFields>(store, at.organization).unwrap_or_default();
    let codes = parse_compound(calculation, &custom_fields)?;
    let named = codes.iter().map(|code| {
        let found = store.find_by_key::<Aggregation>(at.organization, "code", code);
        let found = found.ok().flatten().ok_or_else(|| Rule::Other {
            code: "unknown_reference",
            text: format!("names the aggregation '{code}', which does not exist").into(),
        })?;
        Ok((found.id.to_string(), found.document.clone()))
    });
    named.collect()
}
