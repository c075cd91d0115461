//! All thirteen codes of the original's error page and the decisions of specs/fsm-navigator.md 8.2 and 8.3, as whole answers.

use super::FsmNavigatorDialect;
use meterd_fault::{Code, JsonType, Kind, LimitHit, LimitScope, Problem, QuotaHit, Resource, Rule};
use meterd_http::{Asked, Dialect};
use serde_json::{Value, json};
use std::time::Duration;

/// The original's table: each code and its status (8.1).
const CODES: [(&str, u16); 13] = [
    ("validation_failed", 400),
    ("missing_required_field", 400),
    ("invalid_status_transition", 400),
    ("meter_not_found", 400),
    ("unauthorized", 401),
    ("forbidden", 403),
    ("ip_not_allowed", 403),
    ("scope_not_authorized", 403),
    ("not_found", 404),
    ("method_not_allowed", 405),
    ("duplicate_customer", 409),
    ("rate_limit_exceeded", 429),
    ("server_error", 500),
];

fn render(kind: &Kind) -> Value {
    let request = Asked {
        method: "DELETE",
        ..Asked::example()
    };
    FsmNavigatorDialect.render(kind, &request).to_json()
}

fn answer(status: u16, error: &str, message: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json; charset=utf-8"},
        "body": {"success": false, "error": error, "message": message},
    })
}

fn with_header(mut answer: Value, name: &str, value: &str) -> Value {
    answer["headers"][name] = value.into();
    answer
}

fn too_many(seconds: u64) -> Value {
    let mut answer = answer(
        429,
        "rate_limit_exceeded",
        "Too many requests. Please try again later.",
    );
    answer["body"]["retry_after"] = seconds.into();
    with_header(answer, "retry-after", &seconds.to_string())
}

fn invalid(problems: Vec<Problem>) -> Kind {
    Kind::Invalid { problems }
}

fn hit(scope: LimitScope) -> Kind {
    Kind::RateLimited(LimitHit {
        policy: "writes".into(),
        scope,
        limit: 60,
        window: Duration::from_mins(1),
        retry_after: Duration::from_mins(1),
        reset_epoch_seconds: 1_793_491_260,
    })
}

fn permission(holds_related: bool) -> Kind {
    Kind::PermissionMissing {
        permission: "jobs:write".into(),
        holds_related,
    }
}

fn transition(from: &str, to: &str) -> Kind {
    Kind::TransitionNotAllowed {
        resource: Resource::Job,
        from: from.into(),
        to: to.into(),
    }
}

fn priority() -> Problem {
    Problem::body(
        "/job_priority",
        Rule::OneOf {
            allowed: vec![
                "Low".into(),
                "Medium".into(),
                "High".into(),
                "Urgent".into(),
            ],
        },
    )
}

const LIMITED_HEADERS: [(&str, &str); 3] = [
    ("x-ratelimit-limit", "60"),
    ("x-ratelimit-remaining", "0"),
    ("x-ratelimit-reset", "1793491260"),
];

fn golden() -> Vec<(&'static str, Kind, Value)> {
    let no_scope = "This API key does not include the required scope: jobs:write.";
    let bad_key = "API key is missing or invalid.";
    vec![
        (
            "one missing field",
            invalid(vec![Problem::body("/job_title", Rule::Required)]),
            answer(
                400,
                "missing_required_field",
                "Missing required field: job_title.",
            ),
        ),
        (
            "missing wins over invalid and lists all",
            invalid(vec![
                priority(),
                Problem::body("/city", Rule::Required),
                Problem::body("/zip", Rule::Required),
            ]),
            answer(
                400,
                "missing_required_field",
                "Missing required fields: city, zip.",
            ),
        ),
        (
            "PUT without an id",
            invalid(vec![Problem::query("id", Rule::Required)]),
            answer(400, "missing_required_field", "Missing required field: id."),
        ),
        (
            "word outside an enumeration",
            invalid(vec![priority()]),
            answer(
                400,
                "validation_failed",
                "Invalid value for job_priority: must be one of Low, Medium, High, Urgent.",
            ),
        ),
        (
            "lower reading",
            invalid(vec![Problem::body(
                "/reading_value",
                Rule::Other {
                    code: "reading_order",
                    text: "must be greater than or equal to the previous reading (1250)".into(),
                },
            )]),
            answer(
                400,
                "validation_failed",
                "Invalid value for reading_value: must be greater than or equal to the previous reading (1250).",
            ),
        ),
        (
            "several invalid fields",
            invalid(vec![
                priority(),
                Problem::query(
                    "page",
                    Rule::Range {
                        min: Some("1".into()),
                        max: None,
                    },
                ),
            ]),
            answer(
                400,
                "validation_failed",
                "Invalid value for job_priority: must be one of Low, Medium, High, Urgent. \
                 Invalid value for page: must be at least 1.",
            ),
        ),
        (
            "not an object",
            invalid(vec![Problem::body(
                "",
                Rule::Type {
                    expected: JsonType::Object,
                },
            )]),
            answer(
                400,
                "validation_failed",
                "The request body must be an object.",
            ),
        ),
        (
            "no body",
            invalid(vec![Problem::body("", Rule::Required)]),
            answer(400, "validation_failed", "The request body is required."),
        ),
        (
            "not JSON",
            Code::BodyMalformed.sample(),
            answer(
                400,
                "validation_failed",
                "The request body is not valid JSON: expected a value at line 1, column 17.",
            ),
        ),
        (
            "body above 1 MiB",
            Kind::BodyTooLarge {
                limit_bytes: 1_048_576,
            },
            answer(
                400,
                "validation_failed",
                "The body is larger than 1048576 bytes.",
            ),
        ),
        (
            "illegal status change",
            transition("Completed", "In Progress"),
            answer(
                400,
                "invalid_status_transition",
                "Cannot change status from \"Completed\" to \"In Progress\".",
            ),
        ),
        (
            "unknown meter",
            Kind::MeterNotConfigured { asset: "42".into() },
            answer(400, "meter_not_found", "Meter not found for this asset."),
        ),
        (
            "no key",
            Kind::CredentialsMissing,
            answer(401, "unauthorized", bad_key),
        ),
        (
            "unknown key",
            Kind::CredentialsUnknown,
            answer(401, "unauthorized", bad_key),
        ),
        (
            "revoked key",
            Kind::CredentialsRevoked,
            answer(401, "unauthorized", bad_key),
        ),
        (
            "another scope of the resource",
            permission(true),
            answer(403, "scope_not_authorized", no_scope),
        ),
        (
            "no scope of the resource",
            permission(false),
            answer(403, "forbidden", no_scope),
        ),
        (
            "plan without the API",
            Code::FeatureNotIncluded.sample(),
            answer(
                403,
                "forbidden",
                "Your organization does not include the REST API.",
            ),
        ),
        (
            "address outside the whitelist",
            Code::AddressNotAllowed.sample(),
            answer(
                403,
                "ip_not_allowed",
                "Requests from this IP address are not allowed.",
            ),
        ),
        (
            "unknown job",
            Kind::ResourceNotFound {
                resource: Resource::Job,
                id: "999".into(),
            },
            answer(404, "not_found", "Job not found."),
        ),
        (
            "unknown path",
            Kind::UnknownRoute,
            answer(404, "not_found", "Endpoint not found."),
        ),
        (
            "wrong method",
            Kind::MethodNotAllowed {
                allowed: vec!["GET".into()],
            },
            with_header(
                answer(
                    405,
                    "method_not_allowed",
                    "Method DELETE is not allowed for this endpoint.",
                ),
                "allow",
                "GET",
            ),
        ),
        (
            "customer's e-mail in use",
            Code::ResourceExists.sample(),
            answer(
                409,
                "duplicate_customer",
                "A customer with this email already exists.",
            ),
        ),
        (
            "anything else in use is no 409",
            Kind::ResourceExists {
                resource: Resource::Asset,
                field: "asset_tag",
                value: "T-1".into(),
            },
            answer(
                400,
                "validation_failed",
                "Invalid value for asset_tag: another asset has T-1 already.",
            ),
        ),
        (
            "a key's window is full",
            hit(LimitScope::Credential),
            LIMITED_HEADERS
                .into_iter()
                .fold(too_many(60), |answer, (name, value)| {
                    with_header(answer, name, value)
                }),
        ),
        (
            "an address's window is full",
            hit(LimitScope::Address),
            too_many(60),
        ),
        ("overload", Code::Overloaded.sample(), too_many(1)),
        (
            "internal",
            Kind::Internal,
            answer(500, "server_error", "An internal error occurred."),
        ),
        (
            "quota on things",
            Kind::QuotaExhausted(QuotaHit {
                quota: "jobs".into(),
                used: 5,
                limit: 5,
                window_days: 30,
                tier: "free".into(),
                reset: None,
            }),
            answer(
                403,
                "forbidden",
                "The quota of 5 jobs in 30 days is used up.",
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
fn golden_answers_cover_all_thirteen_codes() {
    for (code, status) in CODES {
        assert!(
            golden()
                .iter()
                .any(|(_, _, answer)| answer["body"]["error"] == code && answer["status"] == status),
            "{code}"
        );
    }
}

fn check_shape(kind: &Kind, answer: &Value) {
    let name = kind.entry().code;
    let body = answer["body"]
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {answer}"));
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    let error = body["error"].as_str().unwrap();
    assert!(CODES.contains(&(error, status)), "{name}: {error} {status}");
    assert_eq!(body["success"], false);
    assert!(
        !body["message"].as_str().unwrap().trim().is_empty(),
        "{name}"
    );
    let wait = answer["headers"].get("retry-after");
    assert_eq!(wait.is_some(), status == 429, "{name}");
    assert_eq!(body.len(), if status == 429 { 4 } else { 3 }, "{name}");
    if let Some(wait) = wait {
        let seconds: u64 = wait.as_str().unwrap().parse().unwrap();
        assert!(seconds >= 1);
        assert_eq!(body["retry_after"], seconds);
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
