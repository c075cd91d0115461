//! The rows of usage answers (6.1). Numbers are written with all their digits.

use crate::meter::{Category, Meter};
use crate::plan::field_name;
use crate::usage::question::Group;
use crate::wire::millis;
use meterd_control::Stored;
use meterd_engine::Number;
use meterd_fault::Fault;
use meterd_http::{ExactNumber, ExactSum};
use meterd_model::{FieldName, Measurement, Timestamp};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum UsageRow {
    Raw(Box<RawRow>),
    Aggregated(AggregatedRow),
}

/// A measurement as it is stored, derived fields included.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawRow {
    uid: String,
    meter_id: Uuid,
    meter_code: String,
    account_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_code: Option<String>,
    ts: String,
    ets: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    who: Texts,
    #[serde(rename = "where")]
    place: Texts,
    what: Texts,
    other: Texts,
    metadata: Texts,
    measure: Amounts,
    cost: Amounts,
    income: Amounts,
}

type Texts = BTreeMap<String, String>;
type Amounts = BTreeMap<String, ExactNumber>;

/// What the fields of a meter are called outside the engine.
#[derive(Debug)]
pub(crate) struct MeterNames {
    meter: Arc<Stored<Meter>>,
    fields: HashMap<FieldName, (String, Category)>,
}

impl MeterNames {
    pub(crate) fn new(meter: Arc<Stored<Meter>>) -> Result<Self, Fault> {
        let mut fields = HashMap::new();
        for (code, category) in meter.document.fields() {
            fields.insert(field_name(code)?, (code.to_owned(), category));
        }
        Ok(Self { meter, fields })
    }

    /// Fields that the meter had once are shown by the engine's names, which mostly are their codes.
    fn name(&self, name: &FieldName, otherwise: Category) -> (String, Category) {
        match self.fields.get(name) {
            Some((code, category)) if category.is_numeric() == otherwise.is_numeric() => {
                (code.clone(), *category)
            }
            _ => (name.to_string(), otherwise),
        }
    }
}

impl RawRow {
    pub(crate) fn new(
        measurement: &Measurement,
        received: Option<Timestamp>,
        names: &MeterNames,
        account_code: Option<String>,
    ) -> Self {
        let mut row = Self {
            uid: measurement.id.to_string(),
            meter_id: names.meter.id,
            meter_code: names.meter.document.code.clone(),
            account_id: measurement.subject.to_string(),
            account_code,
            ts: millis(measurement.time),
            ets: measurement.end_time.map(millis),
            received_at: received.map(millis),
            who: Texts::new(),
            place: Texts::new(),
            what: Texts::new(),
            other: Texts::new(),
            metadata: Texts::new(),
            measure: Amounts::new(),
            cost: Amounts::new(),
            income: Amounts::new(),
        };
        for (name, value) in &measurement.values {
            let (code, category) = names.name(name, Category::Measure);
            let amounts = match category {
                Category::Cost => &mut row.cost,
                Category::Income => &mut row.income,
                _ => &mut row.measure,
            };
            amounts.insert(code, ExactNumber(*value));
        }
        for (name, text) in &measurement.attributes {
            let (code, category) = names.name(name, Category::Other);
            let texts = match category {
                Category::Who => &mut row.who,
                Category::Where => &mut row.place,
                Category::What => &mut row.what,
                Category::Metadata => &mut row.metadata,
                _ => &mut row.other,
            };
            texts.insert(code, text.to_string());
        }
        row
    }
}

/// What the rows of an aggregated answer have in common.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Of the aggregations: meter, field and function.
    pub(crate) aggregations: Vec<(Uuid, String, &'static str)>,
    /// The flat member of each aggregation; none for one that is asked twice.
    pub(crate) flat: Vec<Option<String>>,
    /// Codes of the dimensions that rows are grouped by; none if they are not.
    pub(crate) dimensions: Vec<String>,
    by_account: bool,
    by_time: bool,
}

impl Head {
    /// `codes` are those of the meters that the aggregations are of.
    pub(crate) fn new(
        aggregations: Vec<(Uuid, String, &'static str)>,
        codes: &[&str],
        groups: &[Group],
    ) -> Self {
        let mut taken = HashSet::new();
        let of_meters = aggregations.iter().zip(codes);
        let flat = of_meters.map(|((_, field, function), code)| {
            let name = format!("{field}.{function}");
            // Of meters that call a field the same, the second's has the meter's code before it, in every row.
            let other = format!("{code}.{name}");
            let mut names = [name, other].into_iter();
            names.find(|name| taken.insert(name.clone()))
        });
        Self {
            flat: flat.collect(),
            aggregations,
            dimensions: (groups.iter())
                .filter_map(|group| match group {
                    Group::Dimension(field) => Some(field.code.clone()),
                    Group::Account | Group::Time(_) => None,
                })
                .collect(),
            by_account: groups.contains(&Group::Account),
            by_time: groups.iter().any(|group| matches!(group, Group::Time(_))),
        }
    }

    /// The paths to all that a row may say in its order, but for the list of aggregations, which repeats what the flat
    /// members say.
    pub(crate) fn columns(&self) -> impl Iterator<Item = String> {
        let account = ["accountId", "accountCode"]
            .into_iter()
            .filter(|_| self.by_account);
        let bucket = ["startDate", "endDate"]
            .into_iter()
            .filter(|_| self.by_time);
        let dimensions: BTreeSet<_> = self.dimensions.iter().collect();
        let dimensions = dimensions
            .into_iter()
            .map(|code| format!("dimensions.{code}"));
        let flat: BTreeSet<_> = self.flat.iter().flatten().cloned().collect();
        let fixed = account.chain(bucket).map(str::to_owned);
        fixed.chain(dimensions).chain(flat)
    }
}

#[derive(Debug)]
pub(crate) struct AggregatedRow {
    pub(crate) head: Arc<Head>,
    /// If rows are grouped by account.
    pub(crate) account: Option<AccountKey>,
    /// The whole of it, if rows are grouped by time.
    pub(crate) bucket: Option<(Timestamp, Timestamp)>,
    /// In the order of the head.
    pub(crate) dimensions: Vec<Option<String>>,
    /// In the order of the head's aggregations.
    pub(crate) values: Vec<Option<Number>>,
}

#[derive(Debug)]
pub(crate) struct AccountKey {
    pub(crate) id: String,
    /// None of a deleted account.
    pub(crate) code: Option<String>,
}

struct Value(Option<Number>);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_none(),
            Some(Number::Count(count)) => serializer.serialize_u64(count),
            Some(Number::Decimal(sum)) => ExactSum(sum).serialize(serializer),
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregationView<'a> {
    meter_id: Uuid,
    field_code: &'a str,
    function: &'static str,
    value: Value,
}

impl Serialize for AggregatedRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(account) = &self.account {
            map.serialize_entry("accountId", &account.id)?;
            if let Some(code) = &account.code {
                map.serialize_entry("accountCode", code)?;
            }
        }
        if let Some((start, end)) = self.bucket {
            map.serialize_entry("startDate", &millis(start))?;
            map.serialize_entry("endDate", &millis(end))?;
        }
        if !self.head.dimensions.is_empty() {
            let mut dimensions: BTreeMap<&str, Option<&str>> = BTreeMap::new();
            for (code, text) in self.head.dimensions.iter().zip(&self.dimensions) {
                // Two meters may call a field the same; a row has it of one of them.
                let known = dimensions.entry(code).or_default();
                *known = known.or(text.as_deref());
            }
            map.serialize_entry("dimensions", &dimensions)?;
        }
        let values = self.head.aggregations.iter().zip(&self.values);
        let views: Vec<_> = values
            .clone()
            .map(|((meter, field, function), value)| AggregationView {
                meter_id: *meter,
                field_code: field,
                function,
                value: Value(*value),
            })
            .collect();
        map.serialize_entry("aggregations", &views)?;
        let flat = self.head.flat.iter().zip(&self.values);
        let flat = flat.filter_map(|(name, value)| Some((name.as_ref()?, (*value)?)));
        let flat: BTreeMap<_, _> = flat.collect();
        for (name, value) in flat {
            map.serialize_entry(name, &Value(Some(value)))?;
        }
        map.end()
    }
}
