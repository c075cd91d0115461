//! The table 400 or 422 of the Meter surface (specs/meter-web.md 5.2): which broken rule is which, in what words.
//!
//! 400 is a request that does not have the documented form, 422 one that has it with a value that cannot be used.

use super::{INVALID_PARAMETERS, MALFORMED_JSON, answer};
use http::StatusCode;
use meterd_fault::{Format, Location, Problem, Rule, quote};
use meterd_http::Rendered;

/// What the ids in a path stand for.
const PATH_OBJECTS: [(&str, &str); 11] = [
    ("strategy_id", "Strategy"),
    ("job_id", "Job"),
    ("other_job_id", "Job"),
    ("schedule_id", "Schedule"),
    ("workflow_id", "Workflow"),
    ("workflow_schedule_id", "Schedule"),
    ("run_id", "Workflow run"),
    ("group_id", "Strategy group"),
    ("strategy_group_id", "Strategy group"),
    ("batch_id", "Batch"),
    ("discovery_id", "Discovery"),
];

/// Pairs of which exactly one must be given. Both and neither have the same answer.
const EITHER_OR: [(&str, &str); 2] = [("url", "urls"), ("interval_seconds", "cron_expression")];

/// All problems in one string, because `detail` is a string in every case; the form is judged before the meaning.
pub(super) fn render(problems: &[Problem]) -> Rendered {
    if problems.is_empty() {
        return answer(StatusCode::BAD_REQUEST, INVALID_PARAMETERS);
    }
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    let mut details: Vec<String> = Vec::new();
    for problem in problems {
        let (its_status, detail) = status_and_detail(problem);
        status = status.min(its_status);
        if !details.contains(&detail) {
            details.push(detail);
        }
    }
    answer(status, details.join("; "))
}

fn status_and_detail(problem: &Problem) -> (StatusCode, String) {
    match &problem.location {
        Location::Body(pointer) if pointer.is_empty() => whole_body(&problem.rule),
        Location::Body(_) => in_body(&quote(&problem.location.dotted()), problem),
        Location::Path(name) => in_path(name, &problem.rule),
        Location::Query(name) => in_query(&quote(name), &problem.rule),
        Location::Header(name) => bad_parameter(&quote(name), &problem.rule),
    }
}

fn whole_body(rule: &Rule) -> (StatusCode, String) {
    if rule.is_shape() {
        bad_request(MALFORMED_JSON)
    } else {
        unprocessable(format!("The request body {rule}"))
    }
}

fn in_body(field: &str, problem: &Problem) -> (StatusCode, String) {
    let named = || format!("{field} {}", problem.rule);
    match &problem.rule {
        Rule::Required => bad_request(format!("Missing required field: {field}")),
        Rule::Type { .. } => bad_request(format!("Invalid type for field: {field}")),
        Rule::Length { min: 1.., .. } if is_blank(problem) => bad_request(INVALID_PARAMETERS),
        Rule::Format {
            format: Format::Uuid,
        } => bad_request(format!("Invalid UUID: {field}")),
        Rule::Unique | Rule::UnknownField { .. } | Rule::Depth { .. } => {
            bad_parameter(field, &problem.rule)
        }
        Rule::Format {
            format: Format::Url,
        } => unprocessable("Invalid URL format"),
        Rule::Format {
            format: Format::Cron,
        } => unprocessable("Invalid cron expression"),
        Rule::ExcludedBy { other } => unprocessable(either_or(field, other)),
        Rule::OneOf { .. } if field.starts_with("output_schema") => {
            unprocessable("Invalid output_schema")
        }
        Rule::Format { .. }
        | Rule::OneOf { .. }
        | Rule::Length { .. }
        | Rule::Count { .. }
        | Rule::Range { .. }
        | Rule::Digits { .. }
        | Rule::UnknownReference { .. }
        | Rule::Immutable
        | Rule::Other { .. } => unprocessable(named()),
    }
}

/// An empty name is malformed (documented as 400), too long a one is merely not usable.
fn is_blank(problem: &Problem) -> bool {
    problem
        .value
        .as_deref()
        .is_none_or(|value| value.trim().is_empty())
}

/// Starts with the words documented under 404, under the status documented for invalid UUIDs (8.1, Q2).
fn in_path(name: &str, rule: &Rule) -> (StatusCode, String) {
    let object = PATH_OBJECTS
        .iter()
        .find(|(parameter, _)| *parameter == name)
        .map_or("Resource", |(_, object)| object);
    match rule {
        Rule::Format {
            format: Format::Uuid,
        } => bad_request(format!("{object} not found: invalid UUID")),
        _ => bad_request(format!("{object} not found: invalid id")),
    }
}

/// `limit` and `offset` out of range are 400 (3.0); an unknown status word or a bad time is 422 (3.2).
fn in_query(name: &str, rule: &Rule) -> (StatusCode, String) {
    match rule {
        Rule::Required => bad_request(format!("Missing required field: {name}")),
        Rule::OneOf { .. }
        | Rule::Format {
            format: Format::Timestamp | Format::Date,
        } => unprocessable(format!("{name} {rule}")),
        Rule::Format {
            format: Format::Uuid,
        } => bad_request(format!("Invalid UUID: {name}")),
        _ => bad_parameter(name, rule),
    }
}

fn bad_parameter(name: &str, rule: &Rule) -> (StatusCode, String) {
    bad_request(format!("{INVALID_PARAMETERS}: {name} {rule}"))
}

fn either_or(field: &str, other: &str) -> String {
    let (first, second) = EITHER_OR
        .into_iter()
        .find(|pair| *pair == (field, other) || *pair == (other, field))
        .unwrap_or((other, field));
    format!("Provide either {first} or {second}, not both")
}

fn bad_request(detail: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, detail.into())
}

fn unprocessable(detail: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::UNPROCESSABLE_ENTITY, detail.into())
}
