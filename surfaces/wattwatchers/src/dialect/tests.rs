//! Every worked example of the original's error page and every row of specs/wattwatchers.md 2, 4.2, 7.1 and 7.3, as whole answers.

use super::WattwatchersDialect;
use meterd_fault::{
    Code, Format, JsonType, Kind, LimitHit, LimitScope, Location, Period, Problem, Resource, Rule,
};
use meterd_http::{Asked, Dialect};
use serde_json::{Value, json};
use std::time::Duration;

/// The documented statuses (7.1) and 405 of section 3.
const STATUSES: [u16; 8] = [400, 401, 403, 404, 405, 422, 429, 500];

fn render(kind: &Kind) -> Value {
    WattwatchersDialect
        .render(kind, &Asked::example())
        .to_json()
}

fn envelope(status: u16, code: &str, message: &str) -> Value {
    json!({"code": code, "httpCode": status, "message": message})
}

fn answer(status: u16, code: &str, message: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json"},
        "body": envelope(status, code, message),
    })
}

fn bad_request(message: &str) -> Value {
    answer(400, "BAD_REQUEST", message)
}

fn unprocessable(message: &str) -> Value {
    answer(422, "UNPROCESSABLE_ENTITY", message)
}

fn limited(limit: &str, reset: &str, retry_after: &str, code: &str, message: &str) -> Value {
    let mut answer = answer(429, code, message);
    answer["headers"] = json!({
        "content-type": "application/json",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-limit": limit,
        "x-ratelimit-reset": reset,
        "retry-after": retry_after,
    });
    answer
}

fn throttled() -> Value {
    json!({
        "status": 429,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": "Too many requests. Please try again later.\n",
    })
}

fn invalid(problem: Problem) -> Kind {
    Kind::Invalid {
        problems: vec![problem],
    }
}

fn hit(scope: LimitScope, limit: u64, window: u64, wait: u64, reset: i64) -> Kind {
    Kind::RateLimited(LimitHit {
        policy: "key".into(),
        scope,
        limit,
        window: Duration::from_secs(window),
        retry_after: Duration::from_secs(wait),
        reset_epoch_seconds: reset,
    })
}

fn device(action: &'static str) -> Kind {
    Kind::ResourceForbidden {
        resource: Resource::Device,
        id: "D123456789012".into(),
        action,
    }
}

fn words(words: &[&'static str]) -> Rule {
    Rule::OneOf {
        allowed: words.iter().map(|word| (*word).into()).collect(),
    }
}

const SERIAL: Rule = Rule::Format {
    format: Format::DeviceSerial,
};
const STAMP: Rule = Rule::Range {
    min: None,
    max: None,
};
const NO_CREDENTIALS: &str =
    "You must provide a valid Authorization header value to access this endpoint.";
const BAD_SERIAL: &str =
    "Serial numbers must be 13 characters in length, starting with a B, D, E, F.";
const BAD_TIMEZONE: &str = "You must specify a valid timezone value when applying granularity of 'hour', 'day', 'week', or 'month.'";

fn golden() -> Vec<(&'static str, Kind, Value)> {
    vec![
        // The original's error page, in its order.
        (
            "wrong content type",
            Code::MediaTypeUnsupported.sample(),
            // The original lacks the comma after the code; the spec asks for valid JSON.
            bad_request("The Content-Type header must be 'application/json'."),
        ),
        (
            "resource not authorized",
            device("access"),
            // The original's sample has httpCode 401 under a 403; the spec's decision Q1 is 403.
            answer(
                403,
                "FORBIDDEN",
                "You don't have permission to access device D123456789012.",
            ),
        ),
        (
            "device not found",
            Kind::ResourceNotFound {
                resource: Resource::Device,
                id: "D123456789012".into(),
            },
            answer(404, "NOT_FOUND", "D123456789012 could not be found."),
        ),
        (
            "no Authorization header",
            Kind::CredentialsMissing,
            answer(401, "UNAUTHORIZED", NO_CREDENTIALS),
        ),
        (
            "Authorization header without a token",
            Kind::CredentialsMalformed,
            answer(401, "UNAUTHORIZED", NO_CREDENTIALS),
        ),
        (
            "unknown key",
            Kind::CredentialsUnknown,
            answer(
                403,
                "NOT_PERMITTED",
                "You are not permitted to access this endpoint with the provided token.",
            ),
        ),
        (
            "per-second limit",
            hit(LimitScope::Credential, 5, 1, 1, 1_550_549_481),
            limited(
                "5",
                "1550549481",
                "1",
                "TOO_MANY_REQUESTS_TPS",
                "You have exceeded the request limit of 5 per 1 second for for your API key. Please review the response headers for further details.",
            ),
        ),
        (
            "per-day limit",
            hit(
                LimitScope::Credential,
                10_000,
                86_400,
                86_398,
                1_550_635_880,
            ),
            limited(
                "10000",
                "1550635880",
                "86398",
                "TOO_MANY_REQUESTS_TPD",
                "You have exceeded the request limit of 10000 per 1 day for for your API key. Please review the response headers for further details.",
            ),
        ),
        ("whole server", Code::Overloaded.sample(), throttled()),
        (
            "whole server, as a limit",
            hit(LimitScope::Server, 5, 1, 1, 0),
            throttled(),
        ),
        (
            "source address",
            hit(LimitScope::Address, 5, 1, 1, 0),
            throttled(),
        ),
        (
            "missing required parameter",
            invalid(Problem::query("fromTs", Rule::Required)),
            bad_request("You must specify the fromTs query string value."),
        ),
        (
            "invalid start",
            invalid(Problem::query("fromTs", STAMP).with_value("-1")),
            unprocessable("The provided fromTs (-1) value was invalid."),
        ),
        (
            "invalid end",
            invalid(Problem::query("toTs", STAMP).with_value("1550635880000")),
            unprocessable("The provided toTs (1550635880000) value was invalid."),
        ),
        (
            "period too long",
            Kind::PeriodTooLong {
                longest: Period::Days(7),
            },
            unprocessable("The requested time period is greater than 7 days."),
        ),
        // The other rows of 7.1, section 2 and 3.6.
        (
            "period of short energy",
            Kind::PeriodTooLong {
                longest: Period::Hours(12),
            },
            unprocessable("The requested time period is greater than 12 hours."),
        ),
        (
            "period of days",
            Kind::PeriodTooLong {
                longest: Period::Years(3),
            },
            unprocessable("The requested time period is greater than 3 years."),
        ),
        (
            "malformed serial in the path",
            invalid(Problem::new(Location::Path("device-id".into()), SERIAL)),
            bad_request(BAD_SERIAL),
        ),
        (
            "not an integer",
            invalid(
                Problem::query(
                    "fromTs",
                    Rule::Format {
                        format: Format::EpochSeconds,
                    },
                )
                .with_value("abc"),
            ),
            bad_request("The fromTs query string value must be an integer."),
        ),
        (
            "word outside a query's enumeration",
            invalid(Problem::query("convert[energy]", words(&["kWh", "kW"]))),
            bad_request("The convert[energy] query string value must be one of kWh, kW."),
        ),
        (
            "options that exclude each other",
            invalid(Problem::query(
                "fields[energy]",
                Rule::ExcludedBy {
                    other: "filter[group]".into(),
                },
            )),
            unprocessable(
                "The fields[energy] query string value cannot be given together with filter[group].",
            ),
        ),
        (
            "timezone missing",
            invalid(Problem::query("timezone", Rule::Required)),
            bad_request(BAD_TIMEZONE),
        ),
        (
            "timezone unknown",
            invalid(Problem::query(
                "timezone",
                Rule::Format {
                    format: Format::Timezone,
                },
            )),
            bad_request(BAD_TIMEZONE),
        ),
        (
            "syntax before meaning",
            Kind::Invalid {
                problems: vec![
                    Problem::query("toTs", STAMP).with_value("0"),
                    Problem::query("fromTs", Rule::Required),
                ],
            },
            bad_request("You must specify the fromTs query string value."),
        ),
        (
            "unparsable body",
            Kind::BodyMalformed {
                reason: "expected a value".into(),
                line: 1,
                column: 17,
            },
            bad_request(
                "The request body is not valid JSON: expected a value at line 1, column 17.",
            ),
        ),
        (
            "disabled key",
            Kind::CredentialsDisabled,
            answer(
                401,
                "UNAUTHORIZED",
                "The provided API key has been disabled.",
            ),
        ),
        (
            "level missing",
            device("update"),
            answer(
                403,
                "FORBIDDEN",
                "You don't have permission to update device D123456789012.",
            ),
        ),
        (
            "unknown path",
            Kind::UnknownRoute,
            answer(
                404,
                "NOT_FOUND",
                "The requested resource could not be found.",
            ),
        ),
        (
            "modbus on another model",
            Code::CapabilityMissing.sample(),
            answer(
                422,
                "UNPROCESSABLE ENTITY",
                "You have attempted to query modbus data for a device ID that does not support it",
            ),
        ),
        (
            "server fault",
            Kind::Internal,
            answer(
                500,
                "INTERNAL_SERVER_ERROR",
                "Something went wrong at our end. There has been a server problem processing your request.",
            ),
        ),
    ]
}

#[test]
fn documented_answers_are_exact() {
    for (name, kind, expected) in golden() {
        assert_eq!(render(&kind), expected, "{name}");
    }
}

#[test]
fn wrong_method_names_the_right_ones() {
    let mut expected = answer(
        405,
        "METHOD_NOT_ALLOWED",
        "This path accepts only GET, PATCH, POST.",
    );
    expected["headers"]["allow"] = "GET, PATCH, POST".into();
    let kind = Kind::MethodNotAllowed {
        allowed: vec!["GET".into(), "PATCH".into(), "POST".into()],
    };
    assert_eq!(render(&kind), expected);
}

/// 7.3: all errors in a list, and on top a copy of the first of the lowest status.
#[test]
fn rejected_body_lists_all_errors_and_repeats_the_leading_one() {
    let kind = Kind::Invalid {
        problems: vec![
            Problem::body("/switches/0/state", words(&["open", "closed"])),
            Problem::body(
                "/label",
                Rule::Type {
                    expected: JsonType::String,
                },
            ),
            Problem::body("/channels/0/id", Rule::Required),
        ],
    };
    assert_eq!(
        render(&kind),
        json!({
            "status": 400,
            "headers": {"content-type": "application/json"},
            "body": {
                "code": "BAD_REQUEST",
                "httpCode": 400,
                "message": "label must be a string.",
                "errors": [
                    envelope(422, "UNPROCESSABLE_ENTITY", "switches[0].state must be one of open, closed."),
                    envelope(400, "BAD_REQUEST", "label must be a string."),
                    envelope(400, "BAD_REQUEST", "channels[0].id is required."),
                ],
            },
        })
    );
}

/// 3.3 and the original's serial example, which came with a body; the list is there even for one error.
#[test]
fn body_rules_are_400_for_shape_and_422_for_meaning() {
    let cases = [
        (SERIAL, 400, BAD_SERIAL),
        (Rule::Required, 400, "x is required."),
        (
            Rule::Type {
                expected: JsonType::Object,
            },
            400,
            "x must be an object.",
        ),
        (
            Rule::Length { min: 0, max: 64 },
            422,
            "x must have at most 64 characters.",
        ),
        (words(&["NO", "NC"]), 422, "x must be one of NO, NC."),
        (
            Rule::Format {
                format: Format::Timezone,
            },
            422,
            "x must be an IANA time zone name, such as Europe/Berlin.",
        ),
        (
            Rule::UnknownReference {
                resource: Resource::Device,
            },
            422,
            "x must name an existing device.",
        ),
        (Rule::Unique, 422, "x must not be given twice."),
        (Rule::Immutable, 422, "x cannot be changed."),
    ];
    for (rule, status, message) in cases {
        let code = if status == 400 {
            "BAD_REQUEST"
        } else {
            "UNPROCESSABLE_ENTITY"
        };
        let mut expected = answer(status, code, message);
        expected["body"]["errors"] = json!([envelope(status, code, message)]);
        assert_eq!(
            render(&invalid(Problem::body("/x", rule))),
            expected,
            "{message}"
        );
    }
}

/// The one answer without the envelope is the whole server's throttling.
fn check_shape(kind: &Kind, answer: &Value) {
    let name = kind.entry().code;
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    assert!(STATUSES.contains(&status), "{name}: {status}");
    let wait = answer["headers"].get("retry-after");
    assert!(wait.is_none_or(|wait| wait.as_str().unwrap().parse::<u64>().unwrap() >= 1));
    assert_eq!(
        wait.is_some(),
        matches!(kind, Kind::RateLimited(_)),
        "{name}"
    );
    if answer["headers"]["content-type"] == "text/plain; charset=utf-8" {
        assert_eq!(*answer, throttled(), "{name}");
        return;
    }
    check_envelope(name, status, &answer["body"]);
    for error in answer["body"]["errors"].as_array().unwrap_or(&Vec::new()) {
        let own = u16::try_from(error["httpCode"].as_u64().unwrap()).unwrap();
        assert!(own >= status, "{name}: {answer}");
        check_envelope(name, own, error);
    }
}

fn check_envelope(name: &str, status: u16, body: &Value) {
    assert_eq!(body["httpCode"], status, "{name}: {body}");
    assert!(!body["code"].as_str().unwrap().is_empty(), "{name}");
    assert!(
        !body["message"].as_str().unwrap().trim().is_empty(),
        "{name}"
    );
    let members = body.as_object().unwrap().keys();
    for member in members {
        assert!(
            ["code", "httpCode", "message", "errors"].contains(&member.as_str()),
            "{name}: {member}"
        );
    }
}

#[test]
fn every_kind_has_a_documented_answer() {
    for kind in Kind::samples() {
        let answer = render(&kind);
        check_shape(&kind, &answer);
        let text = answer.to_string();
        for leak in ["Kind", "Debug", "Some(", "::", " { "] {
            assert!(!text.contains(leak), "{}: {text}", kind.entry().code);
        }
    }
}

#[test]
fn awkward_text_breaks_neither_body_nor_headers() {
    for kind in Kind::awkward_samples() {
        check_shape(&kind, &render(&kind));
    }
}
