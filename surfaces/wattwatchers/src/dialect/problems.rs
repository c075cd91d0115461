//! The many things that can be wrong inside a request: which of them are 400 and which 422, and in what words
//! (specs/wattwatchers.md 3.3, 3.6, 4.2, 7.2, 7.3).

use super::{BAD_REQUEST, Class, Envelope, UNPROCESSABLE, flat};
use http::StatusCode;
use meterd_fault::{Format, JsonType, Location, Problem, Rule, quote};
use meterd_http::Rendered;
use serde::Serialize;

const SERIAL: &str = "Serial numbers must be 13 characters in length, starting with a B, D, E, F.";
/// The full stop stands inside the last quote, as in the contract (7.1).
const TIMEZONE: &str = "You must specify a valid timezone value when applying granularity of 'hour', 'day', 'week', or 'month.'";

/// A rejected body: the later form with all errors, and at the top level the older form of one, because clients of
/// both are in use (7.3).
#[derive(Serialize)]
struct BodyErrors {
    #[serde(flatten)]
    first: Envelope,
    errors: Vec<Envelope>,
}

pub(super) fn render(problems: &[Problem]) -> Rendered {
    let Some(leading) = leading(problems) else {
        return flat(BAD_REQUEST, "The request is not valid.");
    };
    let class = class_of(leading);
    let in_body = |problem: &Problem| matches!(problem.location, Location::Body(_));
    if !problems.iter().any(in_body) {
        return flat(class, message(leading));
    }
    Rendered::json(
        class.status,
        &BodyErrors {
            first: envelope(leading),
            errors: problems.iter().map(envelope).collect(),
        },
    )
}

/// The first problem of the lowest status: syntax is checked before meaning (section 2, order of checks).
fn leading(problems: &[Problem]) -> Option<&Problem> {
    problems
        .iter()
        .min_by_key(|problem| class_of(problem).status.as_u16())
}

fn envelope(problem: &Problem) -> Envelope {
    class_of(problem).envelope(message(problem))
}

/// 400 for what is malformed, 422 for what is well formed and cannot be honoured.
fn class_of(problem: &Problem) -> Class {
    let status = match &problem.location {
        Location::Query(name) => query_status(name, &problem.rule),
        Location::Body(_) => body_status(&problem.rule),
        Location::Path(_) | Location::Header(_) => StatusCode::BAD_REQUEST,
    };
    if status == StatusCode::BAD_REQUEST {
        BAD_REQUEST
    } else {
        UNPROCESSABLE
    }
}

/// In a query the words of an enumeration are tokens, so a word outside it is malformed (3.6), as is a missing or
/// unknown timezone (7.1).
fn query_status(name: &str, rule: &Rule) -> StatusCode {
    match rule {
        Rule::OneOf { .. } => StatusCode::BAD_REQUEST,
        _ if name == "timezone" || rule.is_shape() => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// In a body a value of the right type that is outside its set is a matter of meaning (3.3, Q24): an unknown zone,
/// a channel that is listed twice. A serial is the exception (7.5).
fn body_status(rule: &Rule) -> StatusCode {
    match rule {
        Rule::Format {
            format: Format::Timezone,
        }
        | Rule::Unique => StatusCode::UNPROCESSABLE_ENTITY,
        _ if rule.is_shape() => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn message(problem: &Problem) -> String {
    if let Rule::Format {
        format: Format::DeviceSerial,
    } = problem.rule
    {
        return SERIAL.to_owned();
    }
    match &problem.location {
        // What cannot even be decoded is no serial number either.
        Location::Path(name) if name == "id" => SERIAL.to_owned(),
        Location::Query(name) if name == "timezone" => TIMEZONE.to_owned(),
        Location::Query(name) => query_message(&quote(name), problem),
        Location::Body(_) | Location::Path(_) | Location::Header(_) => problem.message(),
    }
}

fn query_message(name: &str, problem: &Problem) -> String {
    match &problem.rule {
        Rule::Required => format!("You must specify the {name} query string value."),
        Rule::Type {
            expected: JsonType::Integer,
        }
        | Rule::Format {
            format: Format::Integer | Format::EpochSeconds,
        } => format!("The {name} query string value must be an integer."),
        Rule::Range { .. } => match &problem.value {
            Some(value) => format!("The provided {name} ({value}) value was invalid."),
            None => format!("The provided {name} value was invalid."),
        },
        rule => format!("The {name} query string value {rule}."),
    }
}
