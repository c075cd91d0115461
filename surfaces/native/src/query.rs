//! `POST /v1/query`: aggregations over measurements, by window and group.

use crate::access::MeasurementsRead;
use crate::app::{App, meter_id};
use crate::meter::SUBJECT;
use axum::extract::State;
use meterd_control::Meter;
use meterd_engine::{Aggregation, Filter, Function, GroupKey, Number, Order, OrderKey, Query};
use meterd_fault::{Fault, Format, Kind, Location, Problem, Resource, Rule};
use meterd_http::fields::{Fields, Problems, texts_of};
use meterd_http::json::{Json, child};
use meterd_http::{Body, Checked, Context, Failure, LongWork, Permit, Reply, query_fault};
use meterd_model::{
    FieldName, MeterDefinition, MeterKind, Subject, TextError, Timestamp, Window, Zone,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const AGGREGATIONS_MAX: usize = 32;
const GROUP_KEYS_MAX: usize = 8;
const FILTER_VALUES_MAX: usize = 1000;
const ROWS_DEFAULT: i64 = 1000;
/// Most rows of one answer; more through the cursor.
const ROWS_MAX: i64 = 10_000;
/// Most calendar windows that one query may span.
const WINDOWS_MAX: u64 = 100_000;
const OFFSET_MAX: usize = 10_000_000;

const FUNCTIONS: [(&str, Function); 9] = [
    ("sum", Function::Sum),
    ("min", Function::Min),
    ("max", Function::Max),
    ("count", Function::Count),
    ("mean", Function::Mean),
    ("latest", Function::Latest),
    ("earliest", Function::Earliest),
    ("unique", Function::Unique),
    ("consumption", Function::Consumption),
];

/// Refuses a range of times that nothing can be in.
pub(crate) fn refuse_backward(
    fields: &mut Fields<'_>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) {
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        let text = "must be after from".into();
        fields.refuse(
            "to",
            Rule::Other {
                code: "order",
                text,
            },
        );
    }
}

/// A query as it was asked, names not yet looked up.
#[derive(Debug)]
pub(crate) struct Question {
    meter: String,
    from: Timestamp,
    to: Timestamp,
    zone: Zone,
    window: Option<Window>,
    group_by: Vec<String>,
    filter: Vec<(String, Vec<String>)>,
    aggregations: Vec<AskedAggregation>,
    order_by: Vec<(String, bool)>,
    limit: usize,
    cursor: Option<QueryCursor>,
}

#[derive(Debug)]
struct AskedAggregation {
    word: &'static str,
    function: Function,
    field: Option<String>,
}

impl AskedAggregation {
    /// What its values are called in the answer: `sum(requests)`, or `count` alone.
    fn key(&self) -> String {
        match &self.field {
            Some(field) => format!("{}({field})", self.word),
            None => self.word.to_owned(),
        }
    }
}

impl Checked for Question {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let meter = fields.required_string("meter");
        let from = fields.required_timestamp("from");
        let to = fields.required_timestamp("to");
        refuse_backward(fields, from, to);
        let zone = fields.zone("timezone").unwrap_or(Zone::UTC);
        let windows = Window::ALL.map(|window| (window.as_str(), window));
        let window = fields.choice("window", &windows);
        let any_text = Ok::<String, TextError>;
        let group_by = fields
            .texts("group_by", GROUP_KEYS_MAX, any_text)
            .unwrap_or_default();
        for index in repeats(&group_by) {
            fields
                .problems()
                .push(Problem::body(format!("/group_by/{index}"), Rule::Unique));
        }
        let filter = check_filter(fields);
        let aggregations = check_aggregations(fields);
        let order_by = check_order(fields);
        let limit = fields.integer("limit", 1, ROWS_MAX).unwrap_or(ROWS_DEFAULT);
        let cursor = fields.string("cursor").and_then(|text| {
            let cursor = QueryCursor::parse(&text);
            if cursor.is_none() {
                let format = Format::Cursor;
                fields.refuse("cursor", Rule::Format { format });
            }
            cursor
        });
        Some(Self {
            meter: meter?,
            from: from?,
            to: to?,
            zone,
            window,
            group_by,
            filter,
            aggregations: aggregations?,
            order_by,
            limit: usize::try_from(limit).ok()?,
            cursor,
        })
    }
}

/// Where an item stands that stood before.
fn repeats<T: PartialEq>(items: &[T]) -> Vec<usize> {
    let stood_before = |index: usize| {
        items
            .iter()
            .take(index)
            .any(|item| items.get(index) == Some(item))
    };
    (0..items.len())
        .filter(|index| stood_before(*index))
        .collect()
}

fn check_filter(fields: &mut Fields<'_>) -> Vec<(String, Vec<String>)> {
    let Some(filter) = fields.object("filter") else {
        return Vec::new();
    };
    let (members, problems) = filter.into_members();
    let mut filters = Vec::new();
    for (name, json) in members {
        let pointer = child("/filter", &name);
        // One value may be given without brackets.
        let items = match json {
            Json::Array(items) if (1..=FILTER_VALUES_MAX).contains(&items.len()) => items,
            Json::Array(_) => {
                let rule = Rule::Count {
                    min: 1,
                    max: FILTER_VALUES_MAX as u64,
                };
                problems.push(Problem::body(pointer, rule));
                continue;
            }
            single => vec![single],
        };
        let values = texts_of(
            items,
            &Location::Body(pointer),
            problems,
            Ok::<String, TextError>,
        );
        filters.push((name, values));
    }
    filters
}

fn check_aggregations(fields: &mut Fields<'_>) -> Option<Vec<AskedAggregation>> {
    let items = fields.required_array("aggregations", AGGREGATIONS_MAX)?;
    let problems = fields.problems();
    let mut aggregations: Vec<AskedAggregation> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let pointer = format!("/aggregations/{index}");
        let Some(aggregation) = check_aggregation(item, &pointer, problems) else {
            continue;
        };
        if aggregations
            .iter()
            .any(|known| known.key() == aggregation.key())
        {
            problems.push(Problem::body(pointer, Rule::Unique));
            continue;
        }
        aggregations.push(aggregation);
    }
    Some(aggregations)
}

fn check_aggregation(
    item: Json,
    pointer: &str,
    problems: &mut Problems,
) -> Option<AskedAggregation> {
    let mut fields = Fields::of_object(item, pointer, problems)?;
    let words = FUNCTIONS.map(|(word, function)| (word, (word, function)));
    let function = fields.required_choice("function", &words);
    let field = fields.string("field");
    if let Some((_, function)) = function
        && field.is_none()
        && function != Function::Count
    {
        fields.refuse("field", Rule::Required);
    }
    fields.finish();
    let (word, function) = function?;
    Some(AskedAggregation {
        word,
        function,
        field,
    })
}

fn check_order(fields: &mut Fields<'_>) -> Vec<(String, bool)> {
    let Some(items) = fields.array("order_by", GROUP_KEYS_MAX) else {
        return Vec::new();
    };
    let problems = fields.problems();
    let mut orders = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let pointer = format!("/order_by/{index}");
        let Some(mut fields) = Fields::of_object(item, &pointer, problems) else {
            continue;
        };
        let value = fields.required_string("value");
        let descending = fields.boolean("descending").unwrap_or(false);
        fields.finish();
        orders.extend(value.map(|value| (value, descending)));
    }
    orders
}

impl Question {
    /// The engine's query, with every name looked up in the meter.
    fn resolve(&self, meter: &meterd_control::Stored<Meter>) -> Result<Query, Fault> {
        let definition = &meter.document.definition;
        let mut problems = Problems::default();
        let group_by = self
            .group_by
            .iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let pointer = format!("/group_by/{index}");
                group_key(name, definition, pointer, &mut problems)
            })
            .collect();
        let filter = self.resolve_filter(definition, &mut problems);
        let aggregations = self
            .aggregations
            .iter()
            .enumerate()
            .filter_map(|(index, asked)| {
                let pointer = format!("/aggregations/{index}");
                resolve_aggregation(asked, definition, &pointer, &mut problems)
            })
            .collect();
        let order_by = self
            .order_by
            .iter()
            .enumerate()
            .filter_map(|(index, (value, descending))| {
                let by = self.order_key(value);
                if by.is_none() {
                    let allowed = self.order_keys().into_iter().map(Into::into).collect();
                    problems.push(
                        Problem::body(format!("/order_by/{index}/value"), Rule::OneOf { allowed })
                            .with_value(value),
                    );
                }
                Some(Order {
                    by: by?,
                    descending: *descending,
                })
            })
            .collect();
        problems.into_result()?;
        Ok(Query {
            meter: meter_id(meter),
            from: self.from,
            to: self.to,
            zone: self.zone.clone(),
            window: self.window,
            group_by,
            filter,
            aggregations,
            order_by,
            offset: self.offset(),
            limit: self.limit,
        })
    }

    fn resolve_filter(&self, definition: &MeterDefinition, problems: &mut Problems) -> Filter {
        let mut filter = Filter::default();
        for (name, values) in &self.filter {
            let pointer = child("/filter", name);
            match group_key(name, definition, pointer.clone(), problems) {
                None => {}
                Some(GroupKey::Attribute(field)) => filter.attributes.push((field, values.clone())),
                Some(GroupKey::Subject) => {
                    let mut subjects = Vec::with_capacity(values.len());
                    for (index, value) in values.iter().enumerate() {
                        match Subject::new(value.as_str()) {
                            Ok(subject) => subjects.push(subject),
                            Err(error) => problems.push(Problem::body(
                                format!("{pointer}/{index}"),
                                meterd_http::fields::text_rule(error),
                            )),
                        }
                    }
                    filter.subjects = Some(subjects);
                }
            }
        }
        filter
    }

    fn order_key(&self, value: &str) -> Option<OrderKey> {
        if value == "from" {
            return Some(OrderKey::From);
        }
        if let Some(index) = self.group_by.iter().position(|name| name == value) {
            return Some(OrderKey::Group(index));
        }
        self.aggregations
            .iter()
            .position(|aggregation| aggregation.key() == value)
            .map(OrderKey::Value)
    }

    fn order_keys(&self) -> Vec<String> {
        let mut keys = vec!["from".to_owned()];
        keys.extend(self.group_by.iter().cloned());
        keys.extend(self.aggregations.iter().map(AskedAggregation::key));
        keys
    }
}

fn names<'a>(fields: impl Iterator<Item = &'a FieldName>) -> Vec<String> {
    fields.map(ToString::to_string).collect()
}

fn group_key(
    name: &str,
    definition: &MeterDefinition,
    pointer: String,
    problems: &mut Problems,
) -> Option<GroupKey> {
    if name == SUBJECT {
        return Some(GroupKey::Subject);
    }
    if let Some(field) = definition.attributes.get(name) {
        return Some(GroupKey::Attribute(field.clone()));
    }
    let mut allowed = vec![SUBJECT.to_owned()];
    allowed.extend(names(definition.attributes.iter()));
    let allowed = allowed.into_iter().map(Into::into).collect();
    problems.push(Problem::body(pointer, Rule::OneOf { allowed }).with_value(name));
    None
}

fn resolve_aggregation(
    asked: &AskedAggregation,
    definition: &MeterDefinition,
    pointer: &str,
    problems: &mut Problems,
) -> Option<Aggregation> {
    let function = asked.function;
    if function == Function::Consumption && definition.kind != MeterKind::Register {
        let others = FUNCTIONS.iter().filter(|(_, known)| *known != function);
        let allowed = others.map(|(word, _)| (*word).into()).collect();
        let problem = Problem::body(child(pointer, "function"), Rule::OneOf { allowed });
        problems.push(problem.with_value(asked.word));
        return None;
    }
    let pointer = child(pointer, "field");
    let Some(name) = &asked.field else {
        return Some(Aggregation {
            function,
            field: None,
        });
    };
    // Only counting makes sense of what is no number.
    let takes_any = matches!(function, Function::Unique | Function::Count);
    if takes_any && name == SUBJECT {
        return Some(Aggregation {
            function,
            field: None,
        });
    }
    let mut known: Vec<&FieldName> = definition.values.keys().collect();
    if takes_any {
        known.extend(definition.attributes.iter());
    }
    if let Some(field) = known.iter().find(|field| field.as_str() == name) {
        return Some(Aggregation {
            function,
            field: Some((*field).clone()),
        });
    }
    let mut allowed = names(known.into_iter());
    if takes_any {
        allowed.push(SUBJECT.to_owned());
    }
    let allowed = allowed.into_iter().map(Into::into).collect();
    problems.push(Problem::body(pointer, Rule::OneOf { allowed }).with_value(name));
    None
}

#[derive(Debug, Serialize)]
pub(crate) struct QueryAnswer {
    rows: Vec<RowView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct RowView {
    from: String,
    to: String,
    group: BTreeMap<String, Option<String>>,
    values: BTreeMap<String, Option<String>>,
}

pub(crate) async fn query(
    State(app): State<App>,
    _context: Context,
    permit: Permit<MeasurementsRead>,
    Body(question): Body<Question>,
) -> Result<Reply<QueryAnswer>, Failure> {
    let organization = permit.organization;
    let found = app.find_meter(organization, &question.meter)?;
    let meter = found.ok_or_else(|| {
        let rule = Rule::UnknownReference {
            resource: Resource::Meter,
        };
        Fault::invalid(Problem::body("/meter", rule).with_value(&question.meter))
    })?;
    if let Some(window) = question.window
        && window.count_estimate(question.from, question.to) > WINDOWS_MAX
    {
        return Err(Kind::QueryTooExpensive {
            limit_rows: WINDOWS_MAX,
        }
        .into());
    }
    question.check_cursor()?;
    let query = question.resolve(&meter)?;
    let answer = app
        .query(organization, move |app, cancel| {
            let answer = app
                .engine
                .query(organization, &query, cancel)
                .map_err(query_fault)?;
            Ok(question.view(&answer))
        })
        .await?;
    Ok(Reply::ok(answer))
}

impl Question {
    fn view(&self, answer: &meterd_engine::QueryAnswer) -> QueryAnswer {
        let keys: Vec<_> = self
            .aggregations
            .iter()
            .map(AskedAggregation::key)
            .collect();
        let rows = answer
            .rows
            .iter()
            .map(|row| RowView {
                from: self.zone.format(row.from),
                to: self.zone.format(row.to),
                group: self
                    .group_by
                    .iter()
                    .cloned()
                    .zip(row.group.iter().cloned())
                    .collect(),
                values: keys
                    .iter()
                    .cloned()
                    .zip(row.values.iter().map(|value| value.map(number_text)))
                    .collect(),
            })
            .collect();
        let next = QueryCursor {
            offset: self.offset().saturating_add(answer.rows.len()),
            question: self.fingerprint(),
        };
        QueryAnswer {
            rows,
            next_cursor: (answer.more && next.offset <= OFFSET_MAX).then(|| next.to_string()),
        }
    }

    fn offset(&self) -> usize {
        self.cursor.map_or(0, |cursor| cursor.offset)
    }

    /// Everything but the page, so that a cursor fits only the question it came from.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let aggregations: Vec<_> = self
            .aggregations
            .iter()
            .map(AskedAggregation::key)
            .collect();
        (
            &self.meter,
            self.from,
            self.to,
            self.zone.name(),
            self.window,
        )
            .hash(&mut hasher);
        (&self.group_by, &self.filter, aggregations, &self.order_by).hash(&mut hasher);
        hasher.finish()
    }

    fn check_cursor(&self) -> Result<(), Fault> {
        match self.cursor {
            Some(cursor) if cursor.question != self.fingerprint() => {
                let format = Format::Cursor;
                Err(Fault::invalid(Problem::body(
                    "/cursor",
                    Rule::Format { format },
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Where the next page of an answer begins: after so many rows. Pages are not one snapshot; what is stored between
/// two of them can move rows over their border.
#[derive(Clone, Copy, Debug)]
struct QueryCursor {
    offset: usize,
    question: u64,
}

impl QueryCursor {
    fn parse(text: &str) -> Option<Self> {
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let (offset, question) = text
            .split_once('.')
            .filter(|(a, b)| is_hex(a) && is_hex(b))?;
        let cursor = Self {
            offset: usize::from_str_radix(offset, 16).ok()?,
            question: u64::from_str_radix(question, 16).ok()?,
        };
        (cursor.offset <= OFFSET_MAX).then_some(cursor)
    }
}

impl fmt::Display for QueryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.offset, self.question)
    }
}

fn number_text(number: Number) -> String {
    match number {
        Number::Count(count) => count.to_string(),
        Number::Decimal(sum) => sum.to_string(),
    }
}
