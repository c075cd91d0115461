//! Every worked example and every row of the error tables of specs/m3ter.md 2.2, 5.2 and 7, as whole answers.

use super::M3terDialect;
use meterd_fault::{Code, Format, JsonType, Kind, Location, Problem, Resource, Rule};
use meterd_http::{Asked, Dialect};
use serde_json::{Value, json};
use std::time::Duration;

/// m3ter's own table of statuses (7.2). 401, 405, 409, 415, 422 and 503 are not in it.
const STATUSES: [u16; 8] = [400, 403, 404, 413, 429, 500, 502, 504];

fn render(kind: &Kind) -> Value {
    M3terDialect::default()
        .render(kind, &Asked::example())
        .to_json()
}

fn answer(status: u16, message: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json"},
        "body": {"message": message},
    })
}

fn wait(status: u16, seconds: &str, message: &str) -> Value {
    let mut answer = answer(status, message);
    answer["headers"]["retry-after"] = seconds.into();
    answer
}

fn invalid(problems: Vec<Problem>) -> Kind {
    Kind::Invalid { problems }
}

fn golden() -> Vec<(&'static str, Kind, Value)> {
    vec![
        // The examples of the original's error page; their exact wordings stood in screenshots, so the spec's suggestions count.
        (
            "400, update meter with malformed JSON",
            Kind::BodyMalformed {
                reason: "expected `,` or `}`".into(),
                line: 4,
                column: 3,
            },
            answer(400, "Invalid JSON: expected `,` or `}` at line 4, column 3"),
        ),
        (
            "400, update meter that drops an aggregation's target field",
            Kind::ReferenceBroken {
                resource: Resource::Meter,
                field: "bytes".into(),
                used_by: Resource::Aggregation,
                user: "Bytes per month".into(),
            },
            answer(
                400,
                "Meter update rejected: field 'bytes' is used as target of aggregation 'Bytes per month'",
            ),
        ),
        (
            "403 Forbidden, list meters of an unknown organization",
            Kind::OrganizationNotAccessible {
                organization: "ZZ6d788d-5174-4e8b-9d69-a41f4671fcYY".into(),
            },
            answer(403, "Forbidden"),
        ),
        (
            "403 Unauthorized, list users with an expired token",
            Kind::TokenExpired,
            answer(403, "Unauthorized"),
        ),
        (
            "404, account code in place of the id",
            Kind::ResourceNotFound {
                resource: Resource::Account,
                id: "game_dev_indie".into(),
            },
            answer(404, "Account not found: game_dev_indie"),
        ),
        // 2.2
        (
            "no token",
            Kind::CredentialsMissing,
            answer(403, "Unauthorized"),
        ),
        (
            "malformed header",
            Kind::CredentialsMalformed,
            answer(403, "Unauthorized"),
        ),
        (
            "unknown token",
            Kind::TokenInvalid,
            answer(403, "Unauthorized"),
        ),
        (
            "wrong Basic credentials",
            Kind::OauthClientInvalid,
            answer(403, "Unauthorized"),
        ),
        (
            "inactive key",
            Kind::CredentialsDisabled,
            answer(403, "Unauthorized"),
        ),
        (
            "permission missing",
            Kind::PermissionMissing {
                permission: "config:create".into(),
                holds_related: true,
            },
            answer(403, "Forbidden"),
        ),
        (
            "missing grant_type",
            Kind::OauthRequestInvalid {
                parameter: "grant_type",
            },
            answer(400, "Validation failed: grant_type: is required"),
        ),
        (
            "wrong grant_type",
            Kind::OauthGrantUnsupported,
            answer(
                400,
                "Validation failed: grant_type: must be client_credentials",
            ),
        ),
        // 5.2
        (
            "ingest body of 512,000 bytes",
            Kind::BodyTooLarge {
                limit_bytes: 511_999,
            },
            answer(403, "Request payload too large"),
        ),
        (
            "1001 measurements",
            invalid(vec![Problem::body(
                "/measurements",
                Rule::Count { min: 1, max: 1000 },
            )]),
            answer(
                400,
                "Validation failed: measurements: must have 1 to 1000 items",
            ),
        ),
        (
            "unparseable time",
            invalid(vec![Problem::body(
                "/measurements/3/ts",
                Rule::Format {
                    format: Format::Timestamp,
                },
            )]),
            answer(
                400,
                "Validation failed: measurements[3].ts: must be an RFC 3339 time with offset, such as 2026-11-01T00:00:00Z",
            ),
        ),
        // 7.3
        (
            "several problems",
            invalid(vec![
                Problem::body("/name", Rule::Required),
                Problem::body(
                    "/dataFields/0/category",
                    Rule::OneOf {
                        allowed: vec!["MEASURE".into(), "WHO".into()],
                    },
                ),
                Problem::new(
                    Location::Body(String::new()),
                    Rule::Type {
                        expected: JsonType::Object,
                    },
                ),
                Problem::query(
                    "pageSize",
                    Rule::Range {
                        min: Some("1".into()),
                        max: Some("200".into()),
                    },
                ),
            ]),
            answer(
                400,
                "Validation failed: name: is required; dataFields[0].category: must be one of MEASURE, WHO; \
                 body: must be an object; pageSize: must be between 1 and 200",
            ),
        ),
        (
            "stale version",
            Kind::VersionMismatch {
                resource: Resource::Meter,
                stored: 3,
                given: 2,
            },
            answer(400, "Version mismatch: expected 3, got 2"),
        ),
        (
            "code in use",
            Kind::ResourceExists {
                resource: Resource::Meter,
                field: "code",
                value: "api_calls".into(),
            },
            answer(400, "Code 'api_calls' is already in use"),
        ),
        (
            "delete of something in use",
            Kind::ResourceInUse {
                resource: Resource::Product,
                id: "0193a5c2".into(),
                used_by: Resource::Meter,
                user: "api_calls".into(),
            },
            answer(400, "Product 0193a5c2 is in use by meter 'api_calls'"),
        ),
        (
            "11th bill job",
            Code::TooManyRunning.sample(),
            wait(429, "1", "Too Many Requests"),
        ),
        (
            "rate limit",
            Code::RateLimited.sample(),
            wait(429, "1", "Too Many Requests"),
        ),
        (
            "response above the cap",
            Code::ResponseTooLarge.sample(),
            answer(413, "Response too large; narrow the request with filters"),
        ),
        ("unknown path", Kind::UnknownRoute, answer(404, "Not Found")),
        (
            "wrong method",
            Kind::MethodNotAllowed {
                allowed: vec!["GET".into()],
            },
            answer(404, "Not Found"),
        ),
        // 7.2, the server's side
        ("internal", Kind::Internal, answer(500, "Internal Error")),
        (
            "bad gateway",
            Code::PlatformUnreachable.sample(),
            answer(502, "Platform JASPER_1 is not reachable"),
        ),
        (
            "gateway timeout",
            Kind::TimedOut {
                limit: Duration::from_secs(30),
            },
            answer(504, "The request took longer than 30 seconds"),
        ),
    ]
}

#[test]
fn documented_answers_are_exact() {
    for (name, kind, expected) in golden() {
        assert_eq!(render(&kind), expected, "{name}");
    }
}

fn check_shape(kind: &Kind, answer: &Value) {
    let name = kind.entry().code;
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    assert!(STATUSES.contains(&status), "{name}: {status}");
    let body = answer["body"]
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {answer}"));
    assert_eq!(body.keys().collect::<Vec<_>>(), ["message"], "{name}");
    assert!(
        !body["message"].as_str().unwrap().trim().is_empty(),
        "{name}"
    );
    let wait = answer["headers"].get("retry-after");
    assert_eq!(wait.is_some(), status == 429, "{name}");
    assert!(wait.is_none_or(|wait| wait.as_str().unwrap().parse::<u64>().unwrap() >= 1));
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
