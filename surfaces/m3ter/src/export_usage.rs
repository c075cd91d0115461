//! Usage as a file: measurements one by one, or aggregated as a usage query does (4.12).

use crate::app::App;
use crate::export_job::{ExportRequest, FileFormat};
use crate::export_work::Sheet;
use crate::meter::Category;
use crate::usage::question::{Selection, UsageQuery};
use crate::usage::rows::{MeterNames, RawRow};
use crate::usage::{AccountCodes, Asking};
use meterd_engine::{Aggregation, Cancel, Filter, Function, Query};
use meterd_fault::{Fault, Kind, Problem};
use meterd_http::fields::{Fields, Problems, parse_uuid};
use meterd_http::json::{Json, parse};
use meterd_http::query_fault;
use meterd_model::{Measurement, MeterId, OrganizationId, Timestamp, Window, Zone};
use serde::Serialize;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Most rows of aggregated usage, and memory for them; past either the job fails.
const AGGREGATED_ROWS_MAX: usize = 1_000_000;
const AGGREGATED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// What a value or text of a row takes at least.
const CELL_BYTES: usize = 48;

/// Writes what the request asks for.
pub(crate) fn write(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
    now: Timestamp,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let time = |text: &Option<String>| text.as_deref().and_then(|t| Timestamp::parse(t).ok());
    let mut query = UsageQuery {
        start: time(&request.start_date).unwrap_or(Timestamp::MIN),
        end: time(&request.end_date).unwrap_or(now),
        what: selection_of(request).map_err(|problems| Kind::Invalid { problems })?,
        limit: AGGREGATED_ROWS_MAX,
    };
    let cells = query.what.aggregations.len() + query.what.groups.len();
    query.limit = (query.limit).min(AGGREGATED_BYTES_MAX / (CELL_BYTES * cells.max(1)));
    let cancel = Cancel::new();
    if request.start_date.is_none() {
        query.start = first_month(app, organization, &query, &cancel)?;
    }
    let asking = Asking::new(app, organization, &query, &cancel)?;
    if query.what.aggregations.is_empty() {
        write_raw(&asking, request.export_file_format, sheet)
    } else {
        write_aggregated(&asking, request.export_file_format, sheet)
    }
}

/// Where there is something to aggregate: from the beginning of all times there would be too many buckets.
fn first_month(
    app: &App,
    organization: OrganizationId,
    query: &UsageQuery,
    cancel: &Cancel,
) -> Result<Timestamp, Fault> {
    let meters = query.what.aggregations.iter();
    let meters: HashSet<_> = meters
        .filter_map(|asked| parse_uuid(&asked.field.meter))
        .collect();
    if meters.is_empty() {
        return Ok(query.start);
    }
    let mut first = query.end;
    for meter in meters {
        let months = Query {
            meter: MeterId(meter),
            from: query.start,
            to: query.end,
            zone: Zone::UTC,
            window: Some(Window::Month),
            group_by: Vec::new(),
            filter: Filter::default(),
            aggregations: vec![Aggregation {
                function: Function::Count,
                field: None,
            }],
            order_by: Vec::new(),
            offset: 0,
            limit: 1,
        };
        let months = (app.engine.query(organization, &months, cancel)).map_err(query_fault)?;
        first = months.rows.first().map_or(first, |row| first.min(row.from));
    }
    Ok(first)
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
    asking: &Asking<'_>,
    format: FileFormat,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let joined = asking.joined(AGGREGATED_BYTES_MAX)?;
    if joined.more {
        return Err(Kind::QueryTooExpensive {
            limit_rows: asking.query.limit as u64,
        }
        .into());
    }
    let mut columns = Columns::default();
    if format == FileFormat::Csv {
        for name in joined.head.columns() {
            columns.add(&name);
        }
        columns.write_head(sheet)?;
    }
    let mut accounts = AccountCodes::new(asking.app, asking.organization);
    for row in joined.into_rows(&mut accounts) {
        write_row(&json_of(&row?)?, format, &columns, sheet)?;
    }
    Ok(())
}

fn write_row(
    row: &str,
    format: FileFormat,
    columns: &Columns,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    match format {
        FileFormat::Jsonl => sheet.line(row.as_bytes()),
        FileFormat::Csv => columns.write(&cells_of(row)?, sheet),
    }
}

/// Measurements as a usage query shows them, but for when they were received.
fn write_raw(asking: &Asking<'_>, format: FileFormat, sheet: &mut Sheet) -> Result<(), Fault> {
    const BASE: [&str; 7] = [
        "uid",
        "meterId",
        "meterCode",
        "accountId",
        "accountCode",
        "ts",
        "ets",
    ];
    let meters = asking.meters()?;
    let mut columns = Columns::default();
    if format == FileFormat::Csv {
        for name in BASE {
            columns.add(name);
        }
        for (code, category) in meters.iter().flat_map(|meter| meter.document.fields()) {
            columns.add(&format!("{}.{code}", member(category)));
        }
        columns.write_head(sheet)?;
    }
    let mut accounts = AccountCodes::new(asking.app, asking.organization);
    for meter in meters {
        let id = meter.id;
        let filter = asking.filter(id)?;
        let names = MeterNames::new(meter)?;
        let mut write = |measurement: &Measurement| {
            let code = accounts.code(measurement.subject.as_str())?;
            let row = json_of(&RawRow::new(measurement, None, &names, code))?;
            write_row(&row, format, &columns, sheet)
        };
        let mut written = Ok(());
        let mut take = |measurement: &Measurement| {
            if admits(&filter, measurement) {
                written = write(measurement);
            }
            if written.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let (organization, query) = (asking.organization, asking.query);
        (asking.app.engine)
            .export(
                organization,
                MeterId(id),
                query.start,
                query.end,
                asking.cancel,
                &mut take,
            )
            .map_err(query_fault)?;
        written?;
    }
    Ok(())
}

/// Whether a measurement passes; see [`Asking::filter`] for the order that this relies on.
fn admits(filter: &Filter, measurement: &Measurement) -> bool {
    let subjects = filter.subjects.as_ref();
    subjects.is_none_or(|subjects| subjects.binary_search(&measurement.subject).is_ok())
        && filter.attributes.iter().all(|(name, texts)| {
            let mut attributes = measurement.attributes.iter();
            let found = attributes.find(|(known, _)| known == name);
            found.is_some_and(|(_, text)| {
                let place = texts.binary_search_by(|known| known.as_str().cmp(text.as_str()));
                place.is_ok()
            })
        })
}

/// The member of a row that holds the fields of a category.
fn member(category: Category) -> String {
    let mut words = Category::WORDS.iter();
    let found = words.find(|(_, known)| *known == category);
    found.map_or_else(String::new, |(word, _)| word.to_lowercase())
}

fn json_of(row: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(row).map_err(Fault::internal)
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

/// The columns of a file, in their order.
#[derive(Debug, Default)]
struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Columns {
    /// Once, however often it is asked for.
    fn add(&mut self, name: &str) {
        if !self.places.contains_key(name) {
            self.places.insert(name.to_owned(), self.names.len());
            self.names.push(name.to_owned());
        }
    }

    fn write_head(&self, sheet: &mut Sheet) -> Result<(), Fault> {
        sheet.cells(self.names.iter().map(String::as_str))
    }

    /// A row by the names of its cells; those of no column are left out.
    fn write(&self, row: &[(String, String)], sheet: &mut Sheet) -> Result<(), Fault> {
        let mut cells = vec![""; self.names.len()];
        for (name, text) in row {
            let place = self.places.get(name);
            if let Some(cell) = place.and_then(|place| cells.get_mut(*place)) {
                *cell = text;
            }
        }
        sheet.cells(cells)
    }
}
