//! Every title of the original's error page, the token endpoint's errors and each row of the normalisation table
//! (specs/t-iot-hub.md 2.1, 6.1, 6.2, 6.5), as whole answers.

use super::TIotHubDialect;
use meterd_fault::{Code, JsonType, Kind, Platform, Problem, Resource, Rule, awkward_texts};
use meterd_http::{Asked, Dialect};
use serde_json::{Value, json};
use std::time::Duration;

/// The documented statuses and the gateway's two (6.2).
const STATUSES: [u16; 8] = [400, 401, 403, 404, 413, 429, 431, 500];

fn asked() -> Asked<'static> {
    Asked {
        method: "POST",
        path: "/t-iot-hub/api-gw/connection-management-orchestrator/v5/eos/product/find",
        base_url: "https://meter.example",
        ..Asked::example()
    }
}

fn render(kind: &Kind) -> Value {
    TIotHubDialect.render(kind, &asked()).to_json()
}

fn answer(status: u16, phrase: &str, title: &str, detail: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json"},
        "body": {
            "type": phrase,
            "title": title,
            "status": status,
            "detail": detail,
            "instance": "https://meter.example/t-iot-hub/api-gw/connection-management-orchestrator/v5/eos/product/find",
            "externalErrors": [],
            "@type": "problem",
            "traceId": "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11",
            "retryable": false,
        },
    })
}

fn bad_request(detail: &str) -> Value {
    answer(400, "Bad Request", "Bad Request", detail)
}

fn invalid_action(detail: &str) -> Value {
    answer(400, "Bad Request", "Invalid Action", detail)
}

fn plain(status: u16, phrase: &str, detail: &str) -> Value {
    answer(status, phrase, phrase, detail)
}

fn server_error(detail: &str) -> Value {
    plain(500, "Internal Server Error", detail)
}

fn unauthorized() -> Value {
    plain(
        401,
        "Unauthorized",
        "Authentication information is missing or invalid",
    )
}

fn retryable(mut answer: Value, seconds: &str) -> Value {
    answer["body"]["retryable"] = true.into();
    answer["headers"]["retry-after"] = seconds.into();
    answer
}

fn external(mut answer: Value) -> Value {
    let detail = answer["body"]["detail"].clone();
    answer["body"]["externalErrors"] = json!([{
        "system": "JASPER", "account": "JASPER_1", "status": 404, "code": "20000001", "message": detail,
    }]);
    answer
}

fn oauth(status: u16, error: &str, description: &str) -> Value {
    json!({
        "status": status,
        "headers": {"content-type": "application/json"},
        "body": {"error": error, "error_description": description},
    })
}

fn platform() -> Platform {
    Platform {
        system: "JASPER".into(),
        account: "JASPER_1".into(),
        status: Some(404),
        code: Some("20000001".into()),
    }
}

fn timeout(write: bool) -> Kind {
    Kind::PlatformTimeout {
        platform: platform(),
        after: Duration::from_secs(30),
        write,
    }
}

fn missing(resource: Resource, id: &str) -> Kind {
    Kind::ResourceNotFound {
        resource,
        id: id.into(),
    }
}

/// The hub's own failures.
fn hub() -> Vec<(&'static str, Kind, Value)> {
    vec![
        // 400 Bad Request
        (
            "paging value",
            Kind::Invalid {
                problems: vec![Problem::query(
                    "pageSize",
                    Rule::Type {
                        expected: JsonType::Integer,
                    },
                )],
            },
            bad_request("The query parameter pageSize must be an integer"),
        ),
        (
            "unparsable JSON",
            Code::BodyMalformed.sample(),
            bad_request("The body could not be read: expected a value at line 1, column 17"),
        ),
        (
            "wrong content type",
            Kind::MediaTypeUnsupported {
                expected: &[
                    "application/json-patch+json",
                    "application/json-patch-query+json",
                ],
            },
            bad_request(
                "The Content-Type must be application/json-patch+json or application/json-patch-query+json",
            ),
        ),
        // 400 Invalid Action
        (
            "wrong method",
            Kind::MethodNotAllowed {
                allowed: vec!["GET".into(), "PATCH".into()],
            },
            invalid_action("This path accepts only GET, PATCH"),
        ),
        (
            "forbidden transition",
            Kind::TransitionNotAllowed {
                resource: Resource::SimProduct,
                from: "SUSPENDED".into(),
                to: "INVENTORY".into(),
            },
            invalid_action("The SIM product cannot change from SUSPENDED to INVENTORY"),
        ),
        (
            "status on the wrong part",
            Kind::ActionNotSupported {
                resource: Resource::Product,
                action: "status".into(),
            },
            invalid_action("A product does not support status"),
        ),
        // 401, 403
        ("no token", Kind::CredentialsMissing, unauthorized()),
        (
            "token older than five minutes",
            Kind::TokenExpired,
            unauthorized(),
        ),
        ("bad signature", Kind::TokenInvalid, unauthorized()),
        (
            "tenant not in the token",
            Kind::OrganizationNotAccessible {
                organization: "eos".into(),
            },
            plain(
                403,
                "Forbidden",
                "The credentials give no access to the organization eos",
            ),
        ),
        (
            "role missing",
            Kind::PermissionMissing {
                permission: "rw%connection-management-orchestrator".into(),
                holds_related: true,
            },
            plain(
                403,
                "Forbidden",
                "The credentials lack the permission rw%connection-management-orchestrator",
            ),
        ),
        // 404; the first detail is the recorded one of 4.3.
        (
            "unknown SIM",
            missing(Resource::SimProduct, "8907160000000000533"),
            plain(
                404,
                "Not Found",
                "Product with iccid 8907160000000000533 not found",
            ),
        ),
        (
            "unknown terminal",
            missing(Resource::Device, "T-1"),
            plain(
                404,
                "Not Found",
                "Product with terminal serial number T-1 not found",
            ),
        ),
        (
            "unknown product",
            missing(Resource::Product, "INTELSAT-27597"),
            plain(404, "Not Found", "Product with id INTELSAT-27597 not found"),
        ),
        (
            "unknown monitor",
            missing(Resource::Monitor, "m-1"),
            plain(404, "Not Found", "Monitor m-1 not found"),
        ),
        (
            "unknown path",
            Kind::UnknownRoute,
            plain(404, "Not Found", "There is nothing at this path"),
        ),
        // 413, 431, 429, 500
        (
            "request above 20 MB",
            Kind::BodyTooLarge {
                limit_bytes: 20_000_000,
            },
            plain(
                413,
                "Payload Too Large",
                "The body is larger than 20000000 bytes",
            ),
        ),
        (
            "headers above 20 kB",
            Kind::HeadersTooLarge {
                limit_bytes: 20_000,
            },
            plain(
                431,
                "Request Header Fields Too Large",
                "The headers are larger than 20000 bytes",
            ),
        ),
        (
            "rate limit",
            Code::RateLimited.sample(),
            retryable(
                plain(
                    429,
                    "Too Many Requests",
                    "More than 5 requests per 1 second from this credential",
                ),
                "1",
            ),
        ),
        (
            "internal",
            Kind::Internal,
            retryable(server_error("Something went wrong inside the server"), "1"),
        ),
        // 2.1
        (
            "wrong secret",
            Kind::OauthClientInvalid,
            oauth(
                401,
                "invalid_client",
                "Invalid client or Invalid client credentials",
            ),
        ),
        (
            "no grant_type",
            Code::OauthRequestInvalid.sample(),
            oauth(400, "invalid_request", "Missing form parameter: grant_type"),
        ),
        (
            "other grant",
            Kind::OauthGrantUnsupported,
            oauth(400, "unsupported_grant_type", "Unsupported grant_type"),
        ),
        (
            "unknown scope",
            Code::OauthScopeInvalid.sample(),
            oauth(400, "invalid_scope", "Invalid scopes: everything"),
        ),
    ]
}

/// The rows of 6.5 that are failures of their own, by number.
fn normalised() -> Vec<(u8, Kind, Value)> {
    let unreachable = retryable(server_error("Platform JASPER_1 is not reachable"), "1");
    let credentials = server_error("Credentials for platform JASPER_1 are invalid or expired");
    let unexpected = server_error("Platform JASPER_1 returned an unexpected response");
    let rejected = Kind::PlatformRejectedValue {
        platform: platform(),
        message: "unknown rate plan".into(),
    };
    vec![
        (
            1,
            Kind::PlatformUnreachable(platform()),
            unreachable.clone(),
        ),
        (
            2,
            timeout(false),
            retryable(
                server_error("Platform JASPER_1 did not answer within 30 s"),
                "1",
            ),
        ),
        (
            3,
            timeout(true),
            retryable(
                server_error(
                    "Platform JASPER_1 did not answer within 30 s; the change may have been applied",
                ),
                "1",
            ),
        ),
        (
            4,
            Kind::PlatformCredentials(platform()),
            credentials.clone(),
        ),
        (
            5,
            Kind::PlatformForbidden(platform()),
            plain(
                403,
                "Forbidden",
                "The account used for platform JASPER_1 is not allowed to perform this action",
            ),
        ),
        (
            7,
            Kind::PlatformBadResponse(platform()),
            retryable(unexpected.clone(), "1"),
        ),
        (8, rejected.clone(), bad_request("unknown rate plan")),
        (
            9,
            Kind::PlatformRejectedRequest(platform()),
            server_error("Platform JASPER_1 rejected the request"),
        ),
        (
            10,
            Code::PlatformRefusedTransition.sample(),
            invalid_action(
                "Status change from ACTIVATED to INVENTORY was refused by platform JASPER_1",
            ),
        ),
        (
            11,
            Kind::PlatformThrottled {
                platform: platform(),
                retry_after: Duration::from_millis(1_500),
            },
            retryable(
                plain(
                    429,
                    "Too Many Requests",
                    "Rate limit of platform JASPER_1 reached",
                ),
                "2",
            ),
        ),
        (12, rejected, bad_request("unknown rate plan")),
        (13, Kind::PlatformCredentials(platform()), credentials),
        (
            14,
            Kind::PlatformFailed(platform()),
            retryable(
                server_error("Platform JASPER_1 reported an internal error"),
                "1",
            ),
        ),
        (15, Kind::PlatformUnreachable(platform()), unreachable),
        (
            16,
            Kind::PlatformBadResponse(platform()),
            retryable(unexpected.clone(), "1"),
        ),
        (17, Kind::PlatformMisconfigured(platform()), unexpected),
        (
            20,
            Code::PlatformSuspended.sample(),
            retryable(
                server_error("Platform JASPER_1 is temporarily disabled after repeated errors"),
                "60",
            ),
        ),
    ]
}

#[test]
fn documented_answers_are_exact() {
    for (name, kind, expected) in hub() {
        assert_eq!(render(&kind), expected, "{name}");
    }
}

#[test]
fn platform_failures_follow_the_normalisation_table() {
    for (row, kind, expected) in normalised() {
        assert_eq!(render(&kind), external(expected), "row {row}");
    }
}

#[test]
fn rejected_body_lists_its_problems() {
    let kind = Kind::Invalid {
        problems: vec![
            Problem::body("/iccidList/0", Rule::Length { min: 1, max: 22 }),
            Problem::body(
                "/terminalSNList",
                Rule::Type {
                    expected: JsonType::Array,
                },
            ),
            Problem::body("", Rule::Depth { max: 32 }),
        ],
    };
    let mut expected = answer(
        400,
        "Bad Request",
        "Missing or malformed parameter",
        "iccidList[0] must have 1 to 22 characters. terminalSNList must be an array. \
         The body must not nest deeper than 32 levels",
    );
    expected["body"]["errors"] = json!([
        {"field": "iccidList[0]", "message": "must have 1 to 22 characters"},
        {"field": "terminalSNList", "message": "must be an array"},
        {"field": "body", "message": "must not nest deeper than 32 levels"},
    ]);
    assert_eq!(render(&kind), expected);
}

#[test]
fn problem_media_type_only_when_accept_names_it() {
    let cases = [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("", "application/json"),
        ("application/problem+json", "application/problem+json"),
        (
            "application/json, Application/Problem+JSON;q=0.5",
            "application/problem+json",
        ),
        ("text/application/problem+json", "application/json"),
    ];
    for (accept, expected) in cases {
        let request = Asked { accept, ..asked() };
        let answer = TIotHubDialect.render(&Kind::Internal, &request).to_json();
        assert_eq!(answer["headers"]["content-type"], expected, "{accept}");
    }
}

fn check_shape(kind: &Kind, answer: &Value) {
    let name = kind.entry().code;
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    assert!(STATUSES.contains(&status), "{name}: {status}");
    let body = answer["body"]
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {answer}"));
    if name.starts_with("oauth_") {
        assert_eq!(
            body.keys().collect::<Vec<_>>(),
            ["error", "error_description"]
        );
        return;
    }
    let mut members = vec![
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "externalErrors",
        "@type",
        "traceId",
        "retryable",
    ];
    if body["title"] == "Missing or malformed parameter" {
        members.insert(6, "errors");
    }
    assert_eq!(body.keys().collect::<Vec<_>>(), members, "{name}");
    assert_eq!(body["status"], status, "{name}");
    for member in ["type", "title", "detail", "instance"] {
        assert!(
            !body[member].as_str().unwrap().trim().is_empty(),
            "{name}: {member}"
        );
    }
    for error in body
        .get("errors")
        .and_then(Value::as_array)
        .unwrap_or(&Vec::new())
    {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(
        body["externalErrors"].as_array().unwrap().len(),
        usize::from(name.starts_with("platform_")),
        "{name}"
    );
    let wait = answer["headers"].get("retry-after");
    assert_eq!(wait.is_some(), body["retryable"] == true, "{name}");
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

#[test]
fn awkward_requests_break_neither_body_nor_headers() {
    for text in awkward_texts() {
        let request = Asked {
            path: &text,
            base_url: "https://meter.example",
            accept: &text,
            ..asked()
        };
        for kind in Kind::samples() {
            check_shape(&kind, &TIotHubDialect.render(&kind, &request).to_json());
        }
    }
}
