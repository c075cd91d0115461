//! Meters: what is measured, with the fields that a measurement carries and those that are calculated from it (4.5).

use crate::access::Guarded;
use crate::aggregation::Aggregation;
use crate::calculation::{OPERATIONS_MAX, check_operations, derived_sources, parse_derived};
use crate::custom_fields::CustomFields;
use crate::entity::{At, Entity, entity_event, paths};
use crate::list::{Filter, every};
use crate::product::Product;
use crate::singleton::current;
use crate::wire::{CODE, CustomValues, IDENTIFIER, NAME, id_text, read_each, text};
use meterd_control::{
    Admission, Changed, Document, List, Reference, Resource, Use, refers, used_by,
};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_formula::Type;
use meterd_http::fields::{Fields, Problems};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;

/// Most data fields, and most derived fields.
const FIELDS_MAX: usize = 15;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meter {
    /// None for a global meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group_id: Option<String>,
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) data_fields: Vec<DataField>,
    pub(crate) derived_fields: Vec<DerivedField>,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

/// What a field says of a measurement: amounts in the last three, texts in all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Category {
    Who,
    Where,
    What,
    Other,
    Metadata,
    Measure,
    Income,
    Cost,
}

impl Category {
    pub(crate) const WORDS: [(&'static str, Self); 8] = [
        ("WHO", Self::Who),
        ("WHERE", Self::Where),
        ("WHAT", Self::What),
        ("OTHER", Self::Other),
        ("METADATA", Self::Metadata),
        ("MEASURE", Self::Measure),
        ("INCOME", Self::Income),
        ("COST", Self::Cost),
    ];

    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Self::Measure | Self::Income | Self::Cost)
    }

    /// What calculations take its values for.
    pub(crate) fn holds(self) -> Type {
        if self.is_numeric() {
            Type::Number
        } else {
            Type::Text
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataField {
    pub(crate) category: Category,
    pub(crate) code: String,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DerivedField {
    pub(crate) category: Category,
    pub(crate) code: String,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    pub(crate) calculation: String,
}

impl Meter {
    /// The codes and categories of all fields, data fields first.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, Category)> {
        let data = self.data_fields.iter();
        let data = data.map(|field| (field.code.as_str(), field.category));
        let derived = self.derived_fields.iter();
        data.chain(derived.map(|field| (field.code.as_str(), field.category)))
    }

    pub(crate) fn category(&self, code: &str) -> Option<Category> {
        let mut fields = self.fields();
        fields.find_map(|(known, category)| (known == code).then_some(category))
    }
}

impl Document for Meter {
    const KIND: &'static str = "m3ter/meter";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Meter;
    const EVENT: &'static str = "m3ter.configuration.meter";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let product = self.product_id.iter();
        product.map(|id| ("productId", id.clone())).collect()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Meter {
    const USED_BY: &'static [Use] = &[used_by::<Aggregation>("meterId")];

    fn references(&self) -> Vec<Reference> {
        let product = self.product_id.iter();
        product
            .map(|id| refers::<Product>("/productId", id))
            .collect()
    }

    /// Aggregations keep the fields that they are of.
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let Some(before) = admission.before else {
            return Ok(());
        };
        let of_meter = List {
            filters: &[("meterId", &before.id.to_string())],
            ..List::default()
        };
        let aggregations =
            every::<Aggregation>(admission.store, admission.organization, of_meter, |_| true)?;
        for aggregation in aggregations.iter().map(|stored| &stored.document) {
            let holds = |meter: &Self| {
                meter
                    .category(&aggregation.target_field)
                    .map(Category::holds)
            };
            // COUNT fits every field, but what it counted would be another thing.
            let is_other = holds(self) != holds(&before.document);
            if is_other || aggregation.target_misfit(self).is_some() {
                return Err(Kind::ReferenceBroken {
                    resource: Self::RESOURCE,
                    field: aggregation.target_field.clone(),
                    used_by: Aggregation::RESOURCE,
                    user: aggregation.name.clone(),
                }
                .into());
            }
            if let Some((code, _)) = aggregation.segment_misfits(self).next() {
                let rule = Rule::Other {
                    code: "reference_broken",
                    text: format!(
                        "must keep the field '{}' as it is: it splits the aggregation '{}' into segments",
                        meterd_fault::quote(code),
                        meterd_fault::quote(&aggregation.name)
                    )
                    .into(),
                };
                return Err(Fault::invalid(Problem::body("", rule)));
            }
        }
        Ok(())
    }

    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for Meter {
    const WORD: &'static str = "meter";
}

impl Entity for Meter {
    paths!("/meters");
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Codes,
        Filter::AnyOf {
            parameter: "productId",
            index: "productId",
        },
    ];

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let product_id = fields.uuid("productId");
        let group_id = fields.uuid("groupId");
        let name = fields.required_checked("name", NAME);
        let code = fields.required_checked("code", CODE);
        let data_fields = fields.required_array("dataFields", FIELDS_MAX);
        let data_fields = read_each(fields, "dataFields", data_fields, read_data_field);
        let derived_fields = fields.array("derivedFields", FIELDS_MAX);
        if derived_fields.is_none() {
            fields.require("derivedFields");
        }
        let derived_fields = read_each(fields, "derivedFields", derived_fields, read_derived_field);
        let custom_fields = CustomValues::read(fields);
        let (data_fields, derived_fields) = (data_fields?, derived_fields?);
        check_fields(
            &data_fields,
            &derived_fields,
            &current(at.app.control.store(), at.organization).ok()?,
            fields.problems(),
        );
        Some(Self {
            product_id: id_text(product_id),
            group_id: id_text(group_id),
            name: name?,
            code: code?,
            data_fields,
            derived_fields,
            custom_fields,
        })
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}

fn read_data_field(field: &mut Fields<'_>) -> Option<DataField> {
    let category = field.required_choice("category", &Category::WORDS);
    let code = field.required_checked("code", IDENTIFIER);
    let name = field.required_checked("name", NAME);
    let unit = field.checked_string("unit", text(1, 50));
    if unit.is_some() && category.is_some_and(|category| !category.is_numeric()) {
        field.refuse(
            "unit",
            Rule::Other {
                code: "unit",
                text: "must be left out unless the category is MEASURE, COST or INCOME".into(),
            },
        );
        return None;
    }
    Some(DataField {
        category: category?,
        code: code?,
        name: name?,
        unit,
    })
}

fn read_derived_field(field: &mut Fields<'_>) -> Option<DerivedField> {
    let data = read_data_field(field);
    let calculation = field.required_checked("calculation", text(1, 5_000));
    let data = data?;
    Some(DerivedField {
        category: data.category,
        code: data.code,
        name: data.name,
        unit: data.unit,
        calculation: calculation?,
    })
}

/// No code twice; calculations that can be calculated.
fn check_fields(
    data_fields: &[DataField],
    derived_fields: &[DerivedField],
    custom_fields: &CustomFields,
    problems: &mut Problems,
) {
    let data = data_fields.iter().map(|field| field.code.as_str());
    let derived = derived_fields.iter().map(|field| field.code.as_str());
    let places = (data
        .enumerate()
        .map(|(index, code)| ("dataFields", index, code)))
    .chain(
        derived
            .enumerate()
            .map(|(index, code)| ("derivedFields", index, code)),
    );
    let mut codes = HashSet::new();
    for (list, index, code) in places {
        if !codes.insert(code) {
            problems.push(Problem::body(format!("/{list}/{index}/code"), Rule::Unique));
        }
    }
    let sources = derived_sources(data_fields, custom_fields);
    let mut calculations = Vec::with_capacity(derived_fields.len());
    for (index, field) in derived_fields.iter().enumerate() {
        match parse_derived(field, &sources) {
            Ok(calculation) => calculations.push(calculation),
            Err(rule) => problems.push(Problem::body(
                format!("/derivedFields/{index}/calculation"),
                rule,
            )),
        }
    }
    if let Err(rule) = check_operations(&calculations, OPERATIONS_MAX) {
        problems.push(Problem::body("/derivedFields", rule));
    }
}
