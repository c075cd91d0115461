//! Usage queries as they are asked, checked by their own form and against the meters that they name (6.1).

use crate::meter::{Category, Meter};
use crate::plan::field_name;
use crate::wire::read_each;
use meterd_control::{Store, Stored};
use meterd_engine::Function;
use meterd_fault::{Fault, Problem, Resource, Rule};
use meterd_http::fields::{Fields, Problems, parse_uuid, texts_of};
use meterd_model::{FieldName, OrganizationId, Timestamp, Window};
use std::sync::Arc;
use uuid::Uuid;

/// Most rows of an answer, and as many as it has if nothing is said.
pub(crate) const LIMIT_MAX: usize = 20_000;
const AGGREGATIONS_MAX: usize = 32;
const GROUPS_MAX: usize = 8;
const FILTERS_MAX: usize = 32;
/// Most values of a filter, and most ids of a list.
const VALUES_MAX: usize = 1_000;

const FREQUENCIES: [(&str, Window); 5] = [
    ("DAY", Window::Day),
    ("HOUR", Window::Hour),
    ("WEEK", Window::Week),
    ("MONTH", Window::Month),
    ("QUARTER", Window::Quarter),
];
const FUNCTIONS: [(&str, Function); 7] = [
    ("SUM", Function::Sum),
    ("MIN", Function::Min),
    ("MAX", Function::Max),
    ("COUNT", Function::Count),
    ("LATEST", Function::Latest),
    ("MEAN", Function::Mean),
    ("UNIQUE", Function::Unique),
];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsageQuery {
    pub(crate) start: Timestamp,
    /// After `start`; not included.
    pub(crate) end: Timestamp,
    pub(crate) what: Selection,
    pub(crate) limit: usize,
}

/// What a query is about, its period aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    /// None: all of them. What is no id names none.
    pub(crate) meters: Option<Vec<Uuid>>,
    pub(crate) accounts: Option<Vec<Uuid>>,
    pub(crate) filters: Vec<DimensionFilter>,
    /// None: the measurements themselves.
    pub(crate) aggregations: Vec<Asked>,
    pub(crate) groups: Vec<Group>,
}

/// The field of the meter has one of the values. Measurements of other meters are not filtered by it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DimensionFilter {
    field: FieldOf,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) field: FieldOf,
    is_measure: bool,
    pub(crate) word: &'static str,
    pub(crate) function: Function,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Group {
    Account,
    Time(Window),
    Dimension(FieldOf),
}

/// A field of a meter, by what callers call the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldOf {
    pub(crate) meter: String,
    pub(crate) code: String,
}

impl UsageQuery {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let start = fields.required_iso_time("startDate");
        let end = fields.required_iso_time("endDate");
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            let text = "must be after startDate".into();
            fields.refuse(
                "endDate",
                Rule::Other {
                    code: "order",
                    text,
                },
            );
        }
        let limit = read_limit(fields);
        let what = Selection::read(fields);
        Some(Self {
            start: start?,
            end: end?,
            what,
            limit: limit?,
        })
    }
}

/// The member `limit`; `None` if it is wrong.
pub(crate) fn read_limit(fields: &mut Fields<'_>) -> Option<usize> {
    let max = i64::try_from(LIMIT_MAX).unwrap_or(i64::MAX);
    let before = fields.problems().len();
    match fields.integer("limit", 1, max) {
        Some(limit) => usize::try_from(limit).ok(),
        None => (fields.problems().len() == before).then_some(LIMIT_MAX),
    }
}

impl Selection {
    /// What is wrong is noted, and left out.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let meters = read_ids(fields, "meterIds");
        let accounts = read_ids(fields, "accountIds");
        let filters = fields.array("dimensionFilters", FILTERS_MAX);
        let filters = read_each(fields, "dimensionFilters", filters, |filter| {
            let field = FieldOf::read(filter);
            let values = filter.required_array("values", VALUES_MAX)?;
            let here = filter.location("values");
            Some(DimensionFilter {
                field: field?,
                values: texts_of(values, &here, filter.problems(), Ok),
            })
        });
        let aggregations = fields.array("aggregations", AGGREGATIONS_MAX);
        let aggregations = read_each(fields, "aggregations", aggregations, read_aggregation);
        let groups = fields.array("groups", GROUPS_MAX);
        let groups = read_each(fields, "groups", groups, read_group).unwrap_or_default();
        let aggregations = aggregations.unwrap_or_default();
        if aggregations.is_empty() && !groups.is_empty() && fields.problems().is_empty() {
            let text = "cannot be given without aggregations".into();
            fields.refuse(
                "groups",
                Rule::Other {
                    code: "groups",
                    text,
                },
            );
        }
        let count = |wanted: fn(&Group) -> bool| groups.iter().filter(|g| wanted(g)).count();
        if count(|group| *group == Group::Account) > 1
            || count(|group| matches!(group, Group::Time(_))) > 1
        {
            let text = "must have ACCOUNT and TIME at most once each".into();
            fields.refuse(
                "groups",
                Rule::Other {
                    code: "groups",
                    text,
                },
            );
        }
        Self {
            meters,
            accounts,
            filters: filters.unwrap_or_default(),
            aggregations,
            groups,
        }
    }

    /// Looks up what the query names; what does not exist, or has another type, is a problem.
    pub(crate) fn resolve(
        &self,
        store: &Store,
        organization: OrganizationId,
    ) -> Result<Resolved, Fault> {
        let mut resolver = Resolver {
            store,
            organization,
            problems: Problems::default(),
        };
        let mut found = Resolved::default();
        for (index, asked) in self.aggregations.iter().enumerate() {
            let here = format!("/aggregations/{index}");
            let Some((meter, category, name)) = resolver.field(&asked.field, &here)? else {
                continue;
            };
            if asked.is_measure != category.is_numeric() {
                let kind = if asked.is_measure {
                    "MEASURE"
                } else {
                    "DIMENSION"
                };
                let text = format!(
                    "must fit the field, which is not a {kind}: MEASURE for MEASURE, COST and INCOME, else DIMENSION"
                );
                resolver.refuse(&format!("{here}/fieldType"), "field_type", text);
            }
            found.aggregations.push((meter, name));
        }
        for (index, filter) in self.filters.iter().enumerate() {
            let here = format!("/dimensionFilters/{index}");
            found
                .filters
                .extend(resolver.dimension(&filter.field, &here)?);
        }
        for (index, group) in self.groups.iter().enumerate() {
            if let Group::Dimension(field) = group {
                let here = format!("/groups/{index}");
                found.dimensions.extend(resolver.dimension(field, &here)?);
            }
        }
        resolver.problems.into_result()?;
        Ok(found)
    }
}

/// The meters and fields that a selection names, in its order.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) aggregations: Vec<FieldIn>,
    pub(crate) filters: Vec<FieldIn>,
    /// Of the groups that are dimensions.
    pub(crate) dimensions: Vec<FieldIn>,
}

/// A meter, and what the engine calls a field of it.
pub(crate) type FieldIn = (Arc<Stored<Meter>>, FieldName);

/// A field with its meter and category.
type Found = (Arc<Stored<Meter>>, Category, FieldName);

struct Resolver<'a> {
    store: &'a Store,
    organization: OrganizationId,
    problems: Problems,
}

impl Resolver<'_> {
    fn field(&mut self, field: &FieldOf, here: &str) -> Result<Option<Found>, Fault> {
        let meter = match parse_uuid(&field.meter) {
            Some(id) => self.store.find::<Meter>(self.organization, id)?,
            None => None,
        };
        let Some(meter) = meter else {
            let rule = Rule::UnknownReference {
                resource: Resource::Meter,
            };
            let problem = Problem::body(format!("{here}/meterId"), rule);
            self.problems.push(problem.with_value(&field.meter));
            return Ok(None);
        };
        let Some(category) = meter.document.category(&field.code) else {
            let known = meter.document.fields();
            let allowed = known.map(|(code, _)| code.to_owned().into()).collect();
            let problem = Problem::body(format!("{here}/fieldCode"), Rule::OneOf { allowed });
            self.problems.push(problem.with_value(&field.code));
            return Ok(None);
        };
        Ok(Some((meter, category, field_name(&field.code)?)))
    }

    fn dimension(&mut self, field: &FieldOf, here: &str) -> Result<Option<FieldIn>, Fault> {
        let Some((meter, category, name)) = self.field(field, here)? else {
            return Ok(None);
        };
        if category.is_numeric() {
            let text = "must be a field of texts, not of numbers".to_owned();
            self.refuse(&format!("{here}/fieldCode"), "dimension", text);
            return Ok(None);
        }
        Ok(Some((meter, name)))
    }

    fn refuse(&mut self, pointer: &str, code: &'static str, text: String) {
        let text = text.into();
        self.problems
            .push(Problem::body(pointer, Rule::Other { code, text }));
    }
}

impl FieldOf {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let meter = fields.required_string("meterId");
        let code = fields.required_string("fieldCode");
        Some(Self {
            meter: meter?,
            code: code?,
        })
    }
}

fn read_aggregation(fields: &mut Fields<'_>) -> Option<Asked> {
    let field = FieldOf::read(fields);
    let is_measure =
        fields.required_choice("fieldType", &[("MEASURE", true), ("DIMENSION", false)]);
    let functions = FUNCTIONS.map(|(word, function)| (word, (word, function)));
    let function = fields.required_choice("function", &functions);
    if let (Some(is_measure), Some((_, function))) = (is_measure, function) {
        let fits = match function {
            Function::Count => true,
            Function::Unique => !is_measure,
            _ => is_measure,
        };
        if !fits {
            let words = if is_measure {
                &["SUM", "MIN", "MAX", "COUNT", "LATEST", "MEAN"][..]
            } else {
                &["COUNT", "UNIQUE"]
            };
            let allowed = words.iter().map(|word| (*word).into()).collect();
            fields.refuse("function", Rule::OneOf { allowed });
            return None;
        }
    }
    let (word, function) = function?;
    Some(Asked {
        field: field?,
        is_measure: is_measure?,
        word,
        function,
    })
}

fn read_group(fields: &mut Fields<'_>) -> Option<Group> {
    let kinds = ["ACCOUNT", "TIME", "DIMENSION"].map(|word| (word, word));
    match fields.required_choice("groupType", &kinds)? {
        "ACCOUNT" => Some(Group::Account),
        "TIME" => {
            let window = fields.required_choice("frequency", &FREQUENCIES)?;
            Some(Group::Time(window))
        }
        _ => FieldOf::read(fields).map(Group::Dimension),
    }
}

/// Absent or empty is all. What is no id names nothing.
fn read_ids(fields: &mut Fields<'_>, name: &'static str) -> Option<Vec<Uuid>> {
    let texts = fields.texts(name, VALUES_MAX, Ok)?;
    let mut ids: Vec<_> = texts.iter().filter_map(|text| parse_uuid(text)).collect();
    ids.sort_unstable();
    ids.dedup();
    (!texts.is_empty()).then_some(ids)
}
