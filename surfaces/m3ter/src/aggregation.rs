//! Aggregations: a function over one field of a meter, which prices are for (4.7, 6.3).

use crate::access::Guarded;
use crate::compound_aggregation::CompoundAggregation;
use crate::entity::{At, Entity, entity_event, paths};
use crate::list::{Filter, every};
use crate::meter::{Category, Meter};
use crate::product::Product;
use crate::wire::{CustomValues, IDENTIFIER_OR_EMPTY, NAME, id_text, text};
use meterd_control::{
    Admission, Changed, Document, List, Reference, Resource, Store, Use, refers, used_by,
};
use meterd_fault::{Fault, JsonType, Kind, Problem, Rule};
use meterd_http::ExactNumber;
use meterd_http::fields::{DecimalRange, Fields, parse_uuid};
use meterd_http::json::{Json, child};
use meterd_model::{Decimal, OrganizationId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Most fields that split an aggregation.
const SEGMENTED_FIELDS_MAX: usize = 5;
const SEGMENTS_MAX: usize = 1_000;
/// As long as the texts of measurements that it is compared with.
const SEGMENT_VALUE_MAX_CHARS: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Aggregation {
    pub(crate) name: String,
    pub(crate) rounding: Rounding,
    pub(crate) quantity_per_unit: ExactNumber,
    pub(crate) unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accounting_product_id: Option<String>,
    pub(crate) meter_id: String,
    /// The code of a data field or derived field.
    pub(crate) target_field: String,
    #[serde(rename = "aggregation")]
    pub(crate) function: Function,
    /// Codes of fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) segmented_fields: Vec<String>,
    /// A value for each segmented field; `*` stands for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) segments: Vec<Segment>,
    /// Counts where there is no usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_value: Option<ExactNumber>,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

pub(crate) type Segment = BTreeMap<String, String>;

/// What is done to the values; [`Function::fits`] says which fields it can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Function {
    Sum,
    Min,
    Max,
    Count,
    Latest,
    Mean,
    /// How many different values there are.
    Unique,
}

impl Function {
    /// Functions in SQL of one's own are not offered.
    pub(crate) const WORDS: [(&'static str, Self); 7] = [
        ("SUM", Self::Sum),
        ("MIN", Self::Min),
        ("MAX", Self::Max),
        ("COUNT", Self::Count),
        ("LATEST", Self::Latest),
        ("MEAN", Self::Mean),
        ("UNIQUE", Self::Unique),
    ];

    /// Whether it can be computed over such a field (6.3).
    pub(crate) fn fits(self, category: Category) -> bool {
        match self {
            Self::Count => true,
            Self::Unique => !category.is_numeric(),
            Self::Sum | Self::Min | Self::Max | Self::Latest | Self::Mean => category.is_numeric(),
        }
    }
}

/// How a quantity becomes units, when it is rated (6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Rounding {
    Up,
    Down,
    Nearest,
    None,
}

impl Rounding {
    const WORDS: [(&'static str, Self); 4] = [
        ("UP", Self::Up),
        ("DOWN", Self::Down),
        ("NEAREST", Self::Nearest),
        ("NONE", Self::None),
    ];
}

/// What simple and compound aggregations have in common.
pub(crate) struct Rated {
    pub(crate) name: String,
    pub(crate) rounding: Rounding,
    pub(crate) quantity_per_unit: ExactNumber,
    pub(crate) unit: String,
    pub(crate) code: Option<String>,
    pub(crate) accounting_product_id: Option<String>,
    pub(crate) custom_fields: CustomValues,
}

impl Rated {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let rounding = fields.required_choice("rounding", &Rounding::WORDS);
        let quantity =
            fields.required_decimal("quantityPerUnit", DecimalRange::Above(Decimal::ZERO));
        let unit = fields.required_checked("unit", text(1, 50));
        let code = fields.checked_string("code", IDENTIFIER_OR_EMPTY);
        let accounting_product = fields.uuid("accountingProductId");
        let custom_fields = CustomValues::read(fields);
        Some(Self {
            name: name?,
            rounding: rounding?,
            quantity_per_unit: ExactNumber(quantity?),
            unit: unit?,
            code: code.filter(|code| !code.is_empty()),
            accounting_product_id: id_text(accounting_product),
            custom_fields,
        })
    }
}

impl Aggregation {
    /// Why the meter has no field that this could be an aggregation of.
    pub(crate) fn target_misfit(&self, meter: &Meter) -> Option<Rule> {
        let fits = |category| self.function.fits(category);
        misfit(
            &self.target_field,
            meter,
            fits,
            "that the function can be computed over",
        )
    }

    /// The segmented fields that cannot split the meter's usage, and why.
    pub(crate) fn segment_misfits<'a>(
        &'a self,
        meter: &'a Meter,
    ) -> impl Iterator<Item = (&'a str, Rule)> {
        let fits = |category: Category| !category.is_numeric() && category != Category::Metadata;
        self.segmented_fields.iter().filter_map(move |code| {
            let rule = misfit(
                code,
                meter,
                fits,
                "of the categories WHO, WHERE, WHAT and OTHER",
            )?;
            Some((code.as_str(), rule))
        })
    }
}

fn misfit(code: &str, meter: &Meter, fits: impl Fn(Category) -> bool, which: &str) -> Option<Rule> {
    if meter.category(code).is_some_and(&fits) {
        return None;
    }
    let fields = meter.fields().filter(|(_, category)| fits(*category));
    let codes: Vec<_> = fields.map(|(code, _)| code).collect();
    let codes = if codes.is_empty() {
        "none".to_owned()
    } else {
        codes.join(", ")
    };
    let text = format!("must be one of the meter's fields {which}: {codes}");
    Some(Rule::Other {
        code: "field",
        text: text.into(),
    })
}

impl Document for Aggregation {
    const KIND: &'static str = "m3ter/aggregation";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Aggregation;
    const EVENT: &'static str = "m3ter.configuration.aggregation";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let code = self.code.iter();
        code.map(|code| ("code", code.clone())).collect()
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("meterId", self.meter_id.clone())];
        let product = self.accounting_product_id.iter();
        keys.extend(product.map(|id| ("accountingProductId", id.clone())));
        keys
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Aggregation {
    const USED_BY: &'static [Use] = &[used_by::<CompoundAggregation>("aggregationId")];

    fn references(&self) -> Vec<Reference> {
        let meter = refers::<Meter>("/meterId", &self.meter_id);
        let product = self.accounting_product_id.iter();
        let product = product.map(|id| refers::<Product>("/accountingProductId", id));
        [meter].into_iter().chain(product).collect()
    }

    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let Admission {
            store,
            organization,
            before,
        } = *admission;
        // The references are met, so that there is one.
        let meter_id = parse_uuid(&self.meter_id).unwrap_or_default();
        let meter = &store.get::<Meter>(organization, meter_id)?.document;
        let target = self.target_misfit(meter);
        let target = target.map(|rule| Problem::body("/targetField", rule));
        let segments = self.segment_misfits(meter);
        let segments =
            segments.map(|(code, rule)| Problem::body(child("/segmentedFields", code), rule));
        let problems: Vec<_> = target.into_iter().chain(segments).collect();
        if !problems.is_empty() {
            return Err(Kind::Invalid { problems }.into());
        }
        // Compounds spell the code.
        let Some(before) = before.filter(|before| before.document.code != self.code) else {
            return Ok(());
        };
        let users = List {
            filters: &[("aggregationId", &before.id.to_string())],
            limit: 1,
            ..List::default()
        };
        let users = store.list::<CompoundAggregation>(organization, &users)?;
        match users.items.first() {
            Some(user) => Err(Kind::ReferenceBroken {
                resource: Self::RESOURCE,
                field: "code".to_owned(),
                used_by: CompoundAggregation::RESOURCE,
                user: user.document.label(),
            }
            .into()),
            None => Ok(()),
        }
    }

    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for Aggregation {
    const WORD: &'static str = "aggregation";
}

impl Entity for Aggregation {
    paths!("/aggregations");
    /// Aggregations of global meters belong to no product (9, 35).
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Codes,
        Filter::Through {
            parameter: "productId",
            index: "meterId",
            lead: meters_of,
        },
    ];

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let rated = Rated::read(fields);
        let meter_id = fields.required_uuid("meterId");
        let target_field = fields.required_checked("targetField", text(1, 80));
        let function = fields.required_choice("aggregation", &Function::WORDS);
        let segmented_fields = read_segmented_fields(fields);
        let segments = read_segments(fields, &segmented_fields);
        let default_value = fields.decimal("defaultValue", DecimalRange::AtLeast(Decimal::ZERO));
        if fields
            .string("customSql")
            .is_some_and(|sql| !sql.is_empty())
        {
            fields.refuse(
                "customSql",
                Rule::Other {
                    code: "custom_sql",
                    text: "must be left out: aggregations in SQL are not supported".into(),
                },
            );
        }
        let rated = rated?;
        Some(Self {
            name: rated.name,
            rounding: rated.rounding,
            quantity_per_unit: rated.quantity_per_unit,
            unit: rated.unit,
            code: rated.code,
            accounting_product_id: rated.accounting_product_id,
            meter_id: meter_id?.to_string(),
            target_field: target_field?,
            function: function?,
            segmented_fields,
            segments,
            default_value: default_value.map(ExactNumber),
            custom_fields: rated.custom_fields,
        })
    }

    fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

fn meters_of(
    store: &Store,
    organization: OrganizationId,
    products: &[String],
) -> Result<Vec<String>, Fault> {
    let list = List {
        any_of: Some(("productId", products)),
        ..List::default()
    };
    let meters = every::<Meter>(store, organization, list, |_| true)?;
    Ok(meters.iter().map(|meter| meter.id.to_string()).collect())
}

fn read_segmented_fields(fields: &mut Fields<'_>) -> Vec<String> {
    let codes = fields.array("segmentedFields", SEGMENTED_FIELDS_MAX);
    let mut found = Vec::new();
    for (index, code) in codes.into_iter().flatten().enumerate() {
        let rule = match code {
            Json::String(code) if found.contains(&code) => Rule::Unique,
            Json::String(code) => {
                found.push(code);
                continue;
            }
            _ => string_expected(),
        };
        let here = child("/segmentedFields", &index.to_string());
        fields.problems().push(Problem::body(here, rule));
    }
    found
}

/// Each with exactly the segmented fields as keys.
fn read_segments(fields: &mut Fields<'_>, segmented_fields: &[String]) -> Vec<Segment> {
    let segments = fields.array("segments", SEGMENTS_MAX);
    let mut found = Vec::new();
    let mut known = HashSet::new();
    for (index, segment) in segments.into_iter().flatten().enumerate() {
        let here = child("/segments", &index.to_string());
        let rule = match read_segment(segment, segmented_fields) {
            Some(segment) if known.insert(segment.clone()) => {
                found.push(segment);
                continue;
            }
            Some(_) => Rule::Unique,
            None => Rule::Other {
                code: "segment",
                text: format!(
                    "must be an object with a text of 1 to {SEGMENT_VALUE_MAX_CHARS} characters for each of the \
                     segmentedFields and nothing else"
                )
                .into(),
            },
        };
        fields.problems().push(Problem::body(here, rule));
    }
    found
}

fn read_segment(json: Json, segmented_fields: &[String]) -> Option<Segment> {
    let Json::Object(members) = json else {
        return None;
    };
    if members.len() != segmented_fields.len() || members.is_empty() {
        return None;
    }
    let mut segment = Segment::new();
    for (code, value) in members {
        let Json::String(value) = value else {
            return None;
        };
        let length = value.chars().take(SEGMENT_VALUE_MAX_CHARS + 1).count();
        if !segmented_fields.contains(&code) || !(1..=SEGMENT_VALUE_MAX_CHARS).contains(&length) {
            return None;
        }
        segment.insert(code, value);
    }
    (segment.len() == segmented_fields.len()).then_some(segment)
}

fn string_expected() -> Rule {
    Rule::Type {
        expected: JsonType::String,
    }
}
