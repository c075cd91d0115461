//! Usage as a file: measurements one by one, or aggregated as a usage query does (4.12).

use crate::account::Account;
use crate::app::App;
use crate::export_job::{ExportRequest, FileFormat};
use crate::export_work::Sheet;
use crate::meter::{Category, Meter};
use crate::plan::field_name;
use crate::usage;
use crate::usage::question::{Selection, UsageQuery};
use crate::usage::rows::UsageRow;
use crate::wire::millis;
use meterd_control::{List, Order, Stored};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Kind, Problem};
use meterd_http::ExactNumber;
use meterd_http::fields::{Fields, Problems};
use meterd_http::json::{Json, parse};
use meterd_http::query_fault;
use meterd_model::{Decimal, FieldName, Measurement, MeterId, OrganizationId, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

/// Most rows of aggregated usage; past it the job fails.
const AGGREGATED_ROWS_MAX: usize = 1_000_000;

/// Writes what the request asks for.
pub(crate) fn write(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
    now: Timestamp,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let time = |text: &Option<String>| text.as_deref().and_then(|t| Timestamp::parse(t).ok());
    let from = time(&request.start_date).unwrap_or(Timestamp::MIN);
    let to = time(&request.end_date).unwrap_or(now);
    if !request.aggregations.is_empty() {
        return write_aggregated(app, organization, request, (from, to), sheet);
    }
    let meters = meters_of(app, organization, request)?;
    write_raw(app, organization, request, &meters, (from, to), sheet)
}

/// The request in the form of a usage query; what is wrong with it otherwise.
pub(crate) fn selection_of(request: &ExportRequest) -> Result<Selection, Vec<Problem>> {
    let body = json!({
        "meterIds": request.meter_ids,
        "accountIds": request.account_ids,
        "dimensionFilters": request.dimension_filters,
        "aggregations": request.aggregations,
        "groups": request.groups,
    });
    let mut problems = Problems::default();
    let json = parse(body.to_string().as_bytes(), "", &mut problems).unwrap_or(Json::Null);
    let selection =
        Fields::of_object(json, "", &mut problems).map(|mut fields| Selection::read(&mut fields));
    match selection {
        Some(selection) if problems.is_empty() => Ok(selection),
        _ => Err(problems.into_vec()),
    }
}

/// Rows as a usage query answers them, without a limit that a caller would notice.
fn write_aggregated(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
    (start, end): (Timestamp, Timestamp),
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let what = selection_of(request).map_err(|problems| Kind::Invalid { problems })?;
    let query = UsageQuery {
        start,
        end,
        what,
        limit: AGGREGATED_ROWS_MAX,
    };
    let answer = usage::run(app, organization, &query, &Cancel::new())?;
    if answer.has_more_data {
        return Err(Kind::QueryTooExpensive {
            limit_rows: AGGREGATED_ROWS_MAX as u64,
        }
        .into());
    }
    let text = |row: &UsageRow| serde_json::to_string(row).map_err(Fault::internal);
    if request.export_file_format == FileFormat::Jsonl {
        for row in &answer.data {
            sheet.line(text(row)?.as_bytes())?;
        }
        return Ok(());
    }
    // A row lacks the members of which it has no value, so that the columns are known at the end only.
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::with_capacity(answer.data.len());
    for row in &answer.data {
        let cells = cells_of(&text(row)?)?;
        for (name, _) in &cells {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        rows.push(cells);
    }
    sheet.cells(columns.iter().map(String::as_str))?;
    for row in &rows {
        let cells = columns.iter().map(|column| {
            let cell = row.iter().find(|(name, _)| name == column);
            cell.map_or("", |(_, cell)| cell.as_str())
        });
        sheet.cells(cells)?;
    }
    Ok(())
}

/// The members of a row as columns, numbers digit by digit. The list of aggregations repeats what the flat members say.
fn cells_of(row: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut problems = Problems::default();
    let row = parse(row.as_bytes(), "", &mut problems)?;
    let mut cells = Vec::new();
    push_cells("", row, &mut cells);
    Ok(cells)
}

fn push_cells(name: &str, json: Json, cells: &mut Vec<(String, String)>) {
    let cell = match json {
        Json::Array(_) => return,
        Json::Object(members) => {
            for (member, value) in members {
                let path = if name.is_empty() {
                    member
                } else {
                    format!("{name}.{member}")
                };
                push_cells(&path, value, cells);
            }
            return;
        }
        Json::Null => String::new(),
        Json::Boolean(value) => value.to_string(),
        Json::Number(text) => text.into(),
        Json::String(text) => text,
    };
    cells.push((name.to_owned(), cell));
}

fn meters_of(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
) -> Result<Vec<Arc<Stored<Meter>>>, Fault> {
    let store = app.control.store();
    let mut list = List {
        order: Order::OldestFirst,
        ..List::default()
    };
    let mut meters = Vec::new();
    loop {
        let wanted = |meter: &Stored<Meter>| {
            request.meter_ids.is_empty() || request.meter_ids.contains(&meter.id.to_string())
        };
        let page = store.list_where::<Meter>(organization, &list, wanted)?;
        meters.extend(page.items);
        match page.next {
            Some(next) => list.cursor = Some(next),
            None => return Ok(meters),
        }
    }
}

/// A measurement as a usage query shows it, but for when it was received.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RawRow<'r> {
    uid: &'r str,
    meter_id: Uuid,
    meter_code: &'r str,
    account_id: &'r str,
    account_code: Option<&'r str>,
    ts: String,
    ets: Option<String>,
    #[serde(flatten)]
    categories: BTreeMap<&'static str, BTreeMap<&'r str, Cell<'r>>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Cell<'r> {
    Number(ExactNumber),
    Text(&'r str),
}

/// What a field of the engine is to the API.
type FieldsByName<'m> = HashMap<FieldName, (Category, &'m str)>;

fn fields_by_name(meter: &Meter) -> Result<FieldsByName<'_>, Fault> {
    let data = meter.data_fields.iter();
    let data = data.map(|field| (field.category, field.code.as_str()));
    let derived = meter.derived_fields.iter();
    let derived = derived.map(|field| (field.category, field.code.as_str()));
    data.chain(derived)
        .map(|(category, code)| Ok((field_name(code)?, (category, code))))
        .collect()
}

/// The member of a measurement that holds the fields of a category.
fn member(category: Category) -> &'static str {
    match category {
        Category::Who => "who",
        Category::Where => "where",
        Category::What => "what",
        Category::Other => "other",
        Category::Metadata => "metadata",
        Category::Measure => "measure",
        Category::Income => "income",
        Category::Cost => "cost",
    }
}

fn write_raw(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
    meters: &[Arc<Stored<Meter>>],
    (from, to): (Timestamp, Timestamp),
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    const BASE: [&str; 7] = [
        "uid",
        "meterId",
        "meterCode",
        "accountId",
        "accountCode",
        "ts",
        "ets",
    ];
    let accounts: HashSet<&str> = request.account_ids.iter().map(String::as_str).collect();
    let mut columns: Vec<(&'static str, &str)> = Vec::new();
    for meter in meters {
        let data = meter.document.data_fields.iter();
        let data = data.map(|field| (member(field.category), field.code.as_str()));
        let derived = meter.document.derived_fields.iter();
        let derived = derived.map(|field| (member(field.category), field.code.as_str()));
        for column in data.chain(derived) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    let is_csv = request.export_file_format == FileFormat::Csv;
    if is_csv {
        let names = columns
            .iter()
            .map(|(member, code)| format!("{member}.{code}"));
        let names: Vec<_> = BASE.map(str::to_owned).into_iter().chain(names).collect();
        sheet.cells(names.iter().map(String::as_str))?;
    }
    let mut codes = AccountCodes::new(app, organization);
    for meter in meters {
        let fields = fields_by_name(&meter.document)?;
        let filters = filters_of(request, meter)?;
        let mut outcome = Ok(());
        let mut take = |measurement: &Measurement| {
            let subject = measurement.subject.as_str();
            let is_wanted = (accounts.is_empty() || accounts.contains(subject))
                && filters.iter().all(|filter| filter.admits(measurement));
            if !is_wanted {
                return ControlFlow::Continue(());
            }
            outcome = (|| {
                let code = codes.of(subject)?;
                let row = raw_row(meter, &fields, measurement, code.as_deref());
                if is_csv {
                    sheet_cells(sheet, &row, &columns)
                } else {
                    let json = serde_json::to_vec(&row).map_err(Fault::internal)?;
                    sheet.line(&json)
                }
            })();
            if outcome.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        app.engine
            .export(
                organization,
                MeterId(meter.id),
                from,
                to,
                &Cancel::new(),
                &mut take,
            )
            .map_err(query_fault)?;
        outcome?;
    }
    Ok(())
}

fn raw_row<'r>(
    meter: &'r Stored<Meter>,
    fields: &FieldsByName<'r>,
    measurement: &'r Measurement,
    account_code: Option<&'r str>,
) -> RawRow<'r> {
    let names = Category::WORDS.map(|(_, category)| member(category));
    let mut categories: BTreeMap<_, BTreeMap<_, _>> = names
        .into_iter()
        .map(|name| (name, BTreeMap::new()))
        .collect();
    let mut put = |name: &FieldName, cell| {
        // A field that the meter has lost since is shown no more.
        if let Some((category, code)) = fields.get(name) {
            categories
                .entry(member(*category))
                .or_default()
                .insert(*code, cell);
        }
    };
    for (name, value) in &measurement.values {
        put(name, Cell::Number(ExactNumber(*value)));
    }
    for (name, value) in &measurement.attributes {
        put(name, Cell::Text(value.as_str()));
    }
    RawRow {
        uid: measurement.id.as_str(),
        meter_id: meter.id,
        meter_code: &meter.document.code,
        account_id: measurement.subject.as_str(),
        account_code,
        ts: millis(measurement.time),
        ets: measurement.end_time.map(millis),
        categories,
    }
}

fn sheet_cells(
    sheet: &mut Sheet,
    row: &RawRow<'_>,
    columns: &[(&'static str, &str)],
) -> Result<(), Fault> {
    let base = [
        row.uid.to_owned(),
        row.meter_id.to_string(),
        row.meter_code.to_owned(),
        row.account_id.to_owned(),
        row.account_code.unwrap_or_default().to_owned(),
        row.ts.clone(),
        row.ets.clone().unwrap_or_default(),
    ];
    let cells = columns.iter().map(|(member, code)| {
        let cell = row.categories.get(member).and_then(|cells| cells.get(code));
        match cell {
            Some(Cell::Number(number)) => decimal_text(number.0),
            Some(Cell::Text(text)) => (*text).to_owned(),
            None => String::new(),
        }
    });
    let cells: Vec<_> = base.into_iter().chain(cells).collect();
    sheet.cells(cells.iter().map(String::as_str))
}

fn decimal_text(number: Decimal) -> String {
    number.to_string()
}

/// One of the values that a field must have.
#[derive(Debug)]
struct DimensionFilter {
    name: FieldName,
    values: HashSet<String>,
}

impl DimensionFilter {
    fn admits(&self, measurement: &Measurement) -> bool {
        let mut attributes = measurement.attributes.iter();
        let found = attributes.find(|(name, _)| *name == self.name);
        found.is_some_and(|(_, value)| self.values.contains(value.as_str()))
    }
}

/// Those that bind this meter.
fn filters_of(
    request: &ExportRequest,
    meter: &Stored<Meter>,
) -> Result<Vec<DimensionFilter>, Fault> {
    let id = meter.id.to_string();
    let text = |filter: &Value, member: &str| {
        filter
            .get(member)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let own = request
        .dimension_filters
        .iter()
        .filter(|filter| text(filter, "meterId").is_some_and(|meter| meter == id));
    own.map(|filter| {
        let values = filter.get("values").and_then(Value::as_array);
        let values = values.into_iter().flatten().filter_map(Value::as_str);
        Ok(DimensionFilter {
            name: field_name(&text(filter, "fieldCode").unwrap_or_default())?,
            values: values.map(str::to_owned).collect(),
        })
    })
    .collect()
}

/// The codes of accounts, looked up once each.
struct AccountCodes<'a> {
    app: &'a App,
    organization: OrganizationId,
    known: HashMap<String, Option<String>>,
}

impl<'a> AccountCodes<'a> {
    fn new(app: &'a App, organization: OrganizationId) -> Self {
        Self {
            app,
            organization,
            known: HashMap::new(),
        }
    }

    /// None for an account that is gone.
    fn of(&mut self, subject: &str) -> Result<Option<String>, Fault> {
        if let Some(code) = self.known.get(subject) {
            return Ok(code.clone());
        }
        let code = match Uuid::try_parse(subject) {
            Ok(id) => self
                .app
                .control
                .store()
                .find::<Account>(self.organization, id)?,
            Err(_) => None,
        };
        let code = code.map(|account| account.document.code.clone());
        self.known.insert(subject.to_owned(), code.clone());
        Ok(code)
    }
}
