//! Every example of the original's error page and every row of specs/meter-web.md 2, 3.0 and 5, as whole answers.

use super::MeterWebDialect;
use meterd_fault::{
    Code, Format, JsonType, Kind, LimitHit, LimitScope, Location, Problem, QuotaHit, Resource, Rule,
};
use meterd_http::{Asked, Dialect};
use serde_json::{Value, json};
use std::time::Duration;

/// The original's table of failures, with 405 and 413 of specs/meter-web.md 5.1 and 409 of its 3.0.
const STATUSES: [u16; 11] = [400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503];

fn render(kind: &Kind) -> Value {
    MeterWebDialect.render(kind, &Asked::example()).to_json()
}

fn answer(status: u16, detail: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json"},
        "body": {"detail": detail},
    })
}

fn with_headers(mut answer: Value, headers: &[(&str, &str)]) -> Value {
    for (name, value) in headers {
        answer["headers"][*name] = (*value).into();
    }
    answer
}

fn unauthorized() -> Value {
    with_headers(
        answer(401, "Invalid or missing API key"),
        &[("www-authenticate", "Bearer")],
    )
}

fn unavailable() -> Value {
    answer(
        503,
        "Service temporarily unavailable. Please try again later.",
    )
}

fn missing(resource: Resource) -> Kind {
    Kind::ResourceNotFound {
        resource,
        id: "0193a5c2".into(),
    }
}

fn quota(reset: Option<&str>) -> Kind {
    Kind::QuotaExhausted(QuotaHit {
        quota: "strategies".into(),
        used: 10,
        limit: 10,
        window_days: 30,
        tier: "free".into(),
        reset: reset.map(Into::into),
    })
}

fn quota_answer() -> Value {
    with_headers(
        answer(
            403,
            "Strategy quota exceeded: 10 of 10 used in the last 30 days",
        ),
        &[
            ("x-strategy-quota-used", "10"),
            ("x-strategy-quota-limit", "10"),
            ("x-strategy-quota-tier", "free"),
        ],
    )
}

fn golden() -> Vec<(&'static str, Kind, Value)> {
    vec![
        // The original's error page; its 400 and 422 of "Invalid URL format" are settled by 8.1, Q4: a string is a 422.
        ("401", Kind::CredentialsMissing, unauthorized()),
        (
            "404",
            missing(Resource::Strategy),
            answer(404, "Strategy not found"),
        ),
        ("500", Kind::Internal, answer(500, "Internal server error")),
        (
            "429",
            Kind::RateLimited(LimitHit {
                policy: "generate".into(),
                scope: LimitScope::Credential,
                limit: 30,
                window: Duration::from_mins(1),
                retry_after: Duration::from_mins(1),
                reset_epoch_seconds: 1_793_491_260,
            }),
            with_headers(
                answer(429, "Please slow down - limits on strategy generation"),
                &[("retry-after", "60")],
            ),
        ),
        (
            "503, model",
            Code::DependencyUnavailable.sample(),
            unavailable(),
        ),
        (
            "503, model too slow",
            Code::DependencyTimeout.sample(),
            unavailable(),
        ),
        ("503, draining", Code::ShuttingDown.sample(), unavailable()),
        // 2
        ("other scheme", Kind::CredentialsMalformed, unauthorized()),
        ("unknown key", Kind::CredentialsUnknown, unauthorized()),
        ("deleted key", Kind::CredentialsRevoked, unauthorized()),
        (
            "read-only key",
            Code::PermissionMissing.sample(),
            answer(403, "You do not have permission to access this resource"),
        ),
        // 3.0
        (
            "idempotency key with another body",
            Kind::IdempotencyKeyReused,
            answer(422, "Idempotency-Key reused with a different request body."),
        ),
        (
            "idempotent request running",
            Code::IdempotencyInProgress.sample(),
            with_headers(
                answer(409, "Idempotent request still in progress. Retry shortly."),
                &[("retry-after", "5")],
            ),
        ),
        // 5.1, 5.3
        (
            "unknown route",
            Kind::UnknownRoute,
            answer(404, "Not Found"),
        ),
        (
            "wrong method",
            Code::MethodNotAllowed.sample(),
            with_headers(answer(405, "Method Not Allowed"), &[("allow", "GET, POST")]),
        ),
        (
            "oversize body",
            Kind::BodyTooLarge { limit_bytes: 1_024 },
            answer(413, "The body is larger than 1024 bytes"),
        ),
        ("job", missing(Resource::Job), answer(404, "Job not found")),
        (
            "workflow run",
            missing(Resource::WorkflowRun),
            answer(404, "Workflow run not found"),
        ),
        (
            "group",
            missing(Resource::StrategyGroup),
            answer(404, "Strategy group not found"),
        ),
        (
            "batch",
            missing(Resource::Batch),
            answer(404, "Batch not found"),
        ),
        (
            "discovery",
            missing(Resource::Discovery),
            answer(404, "Discovery not found"),
        ),
        ("quota", quota(None), quota_answer()),
        (
            "quota with reset",
            quota(Some("2026-12-01T00:00:00Z")),
            with_headers(
                quota_answer(),
                &[("x-strategy-quota-reset", "2026-12-01T00:00:00Z")],
            ),
        ),
        // 5.2
        (
            "not JSON",
            Code::BodyMalformed.sample(),
            answer(400, "Malformed JSON"),
        ),
        (
            "page refused by the guard",
            Code::PageNotAllowed.sample(),
            answer(422, "URL not allowed"),
        ),
        (
            "page not reachable",
            Code::PageNotAccessible.sample(),
            answer(422, "Page not accessible: 404 Not Found"),
        ),
        (
            "page too slow",
            Kind::PageTimeout,
            answer(422, "Connection timeout: target site did not respond"),
        ),
        (
            "nothing extractable",
            Kind::NothingExtractable,
            answer(
                422,
                "Could not generate a strategy for this page and description",
            ),
        ),
    ]
}

fn format_rule(format: Format) -> Rule {
    Rule::Format { format }
}

fn at_least(min: &str) -> Rule {
    Rule::Range {
        min: Some(min.into()),
        max: None,
    }
}

fn excluded_by(other: &'static str) -> Rule {
    Rule::ExcludedBy {
        other: other.into(),
    }
}

fn integer() -> Rule {
    Rule::Type {
        expected: JsonType::Integer,
    }
}

fn one_of(word: &'static str) -> Rule {
    Rule::OneOf {
        allowed: vec![word.into()],
    }
}

/// 5.2, row by row, and what 3.0, 3.2, 4.4 and 4.9 say of single fields.
fn golden_problems() -> Vec<(Problem, u16, &'static str)> {
    let uuid = || format_rule(Format::Uuid);
    let path = |name: &str| Problem::new(Location::Path(name.into()), uuid());
    let name = || Problem::body("/name", Rule::Length { min: 1, max: 200 });
    vec![
        (
            Problem::body(
                "",
                Rule::Type {
                    expected: JsonType::Object,
                },
            ),
            400,
            "Malformed JSON",
        ),
        (
            Problem::body("/url", Rule::Required),
            400,
            "Missing required field: url",
        ),
        (
            Problem::body("/interval_seconds", integer()),
            400,
            "Invalid type for field: interval_seconds",
        ),
        (name().with_value(""), 400, "Invalid request parameters"),
        (
            name().with_value("too long"),
            422,
            "name must have 1 to 200 characters",
        ),
        (
            Problem::body("/strategy_id", uuid()),
            400,
            "Invalid UUID: strategy_id",
        ),
        (path("strategy_id"), 400, "Strategy not found: invalid UUID"),
        (path("run_id"), 400, "Workflow run not found: invalid UUID"),
        (
            Problem::body("/url", format_rule(Format::Url)),
            422,
            "Invalid URL format",
        ),
        (
            Problem::body("/webhook_url", format_rule(Format::Url)),
            422,
            "Invalid URL format",
        ),
        (
            Problem::body("/interval_seconds", at_least("60")),
            422,
            "interval_seconds must be at least 60",
        ),
        (
            Problem::body("/urls", excluded_by("url")),
            422,
            "Provide either url or urls, not both",
        ),
        (
            Problem::body("/url", excluded_by("urls")),
            422,
            "Provide either url or urls, not both",
        ),
        (
            Problem::body("/cron_expression", excluded_by("interval_seconds")),
            422,
            "Provide either interval_seconds or cron_expression, not both",
        ),
        (
            Problem::body("/cron_expression", format_rule(Format::Cron)),
            422,
            "Invalid cron expression",
        ),
        (
            Problem::body("/filter_config/conditions/0/operator", one_of("contains")),
            422,
            "filter_config.conditions[0].operator must be one of contains",
        ),
        (
            Problem::body(
                "/filter_config/conditions/0/value",
                format_rule(Format::RegularExpression),
            ),
            422,
            "filter_config.conditions[0].value must be a regular expression",
        ),
        (
            Problem::body("/output_schema/price", one_of("number")),
            422,
            "Invalid output_schema",
        ),
        (
            Problem::body("/webhook_type", one_of("standard")),
            422,
            "webhook_type must be one of standard",
        ),
        (
            Problem::query("limit", at_least("1")),
            400,
            "Invalid request parameters: limit must be at least 1",
        ),
        (
            Problem::query("offset", integer()),
            400,
            "Invalid request parameters: offset must be an integer",
        ),
        (
            Problem::query("status", one_of("failed")),
            422,
            "status must be one of failed",
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
fn broken_rules_follow_the_table() {
    for (problem, status, detail) in golden_problems() {
        let kind = Kind::Invalid {
            problems: vec![problem],
        };
        assert_eq!(render(&kind), answer(status, detail), "{detail}");
    }
}

#[test]
fn several_problems_share_one_string_and_form_comes_before_meaning() {
    let kind = Kind::Invalid {
        problems: vec![
            Problem::body("/interval_seconds", at_least("60")),
            Problem::body("/url", Rule::Required),
            Problem::body("/name", Rule::Required),
        ],
    };
    assert_eq!(
        render(&kind),
        answer(
            400,
            "interval_seconds must be at least 60; Missing required field: url; Missing required field: name",
        )
    );
}

fn check_shape(kind: &Kind, answer: &Value) {
    let name = kind.entry().code;
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    assert!(STATUSES.contains(&status), "{name}: {status}");
    let body = answer["body"]
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {answer}"));
    assert_eq!(body.keys().collect::<Vec<_>>(), ["detail"], "{name}");
    assert!(
        !body["detail"].as_str().unwrap().trim().is_empty(),
        "{name}"
    );
    let wait = answer["headers"].get("retry-after");
    assert_eq!(wait.is_some(), status == 429 || status == 409, "{name}");
    assert!(wait.is_none_or(|wait| wait.as_str().unwrap().parse::<u64>().unwrap() >= 1));
    let challenge = answer["headers"].get("www-authenticate");
    assert_eq!(challenge.is_some(), status == 401, "{name}");
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
