//! Who asks: keys in every bad state, scopes, addresses, rate limits.

use super::{Case, Group, case, exchange};
use crate::server::{Options, Server, now, system};
use meterd_control::{Algorithm, Author, CredentialChange, LimitPolicy, WindowStart};
use meterd_fault::{Code, LimitScope};
use meterd_testkit::client::{Answer, get, post, request};
use std::time::Duration;

pub(super) const GROUP: Group = Group {
    name: "access",
    start: || {
        Server::start_with(Options {
            // The test's own address may speak for others.
            proxies: vec!["127.0.0.1/32".parse().unwrap()],
            ..Options::default()
        })
        .with_meter()
    },
    cases,
    keeps_contents: true,
};

pub(super) const LIMITED: Group = Group {
    name: "limited",
    start: || {
        let window = Duration::from_mins(1);
        let algorithm = Algorithm::FixedWindow {
            start: WindowStart::FirstRequest,
        };
        Server::start_with(Options {
            policies: vec![
                LimitPolicy::new("control", LimitScope::Credential, algorithm, 2, window)
                    .for_class("control"),
                LimitPolicy::new("address", LimitScope::Address, algorithm, 100, window),
            ],
            ..Options::default()
        })
    },
    cases: limits,
    keeps_contents: false,
};

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("no key", Code::CredentialsMissing, |_| get("/v1/meters")),
        case("no key for a new meter", Code::CredentialsMissing, |_| {
            post("/v1/meters").json("{}")
        }),
        exchange("expired key", Code::CredentialsExpired, |s| {
            let (credential, key) = s.issue(|_| {});
            // Set an hour ago, to end a second ago.
            let change = CredentialChange {
                expires_at: Some(Some(now().saturating_sub(Duration::from_secs(1)))),
                ..CredentialChange::default()
            };
            let author = Author::system(now().saturating_sub(Duration::from_hours(1)));
            let credentials = s.control.credentials();
            credentials
                .change(credential.id, None, change, &author)
                .unwrap();
            meters(s, &key)
        }),
        exchange("disabled key", Code::CredentialsDisabled, |s| {
            let (credential, key) = s.issue(|_| {});
            s.control
                .credentials()
                .disable(credential.id, &system())
                .unwrap();
            meters(s, &key)
        }),
        exchange("revoked key", Code::CredentialsRevoked, |s| {
            let (credential, key) = s.issue(|_| {});
            assert_eq!(meters(s, &key).status, 200);
            let revoke = request("DELETE", format!("/v1/credentials/{}", credential.id));
            assert_eq!(s.send(&revoke.key(&s.admin_key)).status, 204);
            meters(s, &key)
        }),
        exchange("rotated key", Code::CredentialsRevoked, |s| {
            let (credential, key) = s.issue(|_| {});
            let rotate = post(format!("/v1/credentials/{}/rotate", credential.id));
            s.send(&rotate.key(&s.admin_key).json("{}")).expect(200);
            meters(s, &key)
        }),
        exchange("key of another surface", Code::CredentialsUnknown, |s| {
            let (_, key) = s.issue(|new| "m3ter".clone_into(&mut new.surface));
            meters(s, &key)
        }),
        exchange("address not allowed", Code::AddressNotAllowed, |s| {
            let (_, key) = s.issue(|new| new.addresses = vec!["192.0.2.0/24".parse().unwrap()]);
            let from = |address: &str| {
                s.send(
                    &get("/v1/meters")
                        .key(&key)
                        .header("X-Forwarded-For", address),
                )
            };
            from("192.0.2.77").expect(200);
            from("198.51.100.7, 192.0.2.77").expect(200);
            from("192.0.2.77, 198.51.100.7")
        }),
    ];
    for (name, code, value) in HEADERS {
        cases.push(case(*name, *code, move |_| {
            get("/v1/meters").header("Authorization", value)
        }));
    }
    for (name, method, path, permissions, body) in SCOPES {
        let is_administration =
            path.starts_with("/v1/organizations") || path.starts_with("/v1/credentials");
        let code = match permissions {
            None => Code::OrganizationRequired,
            Some(_) if is_administration => Code::AdministratorRequired,
            Some(_) => Code::PermissionMissing,
        };
        cases.push(case(*name, code, move |s| {
            let key = match permissions {
                Some(permissions) => s.key_with(permissions),
                None => s.admin_key.clone(),
            };
            let request = request(method, *path).key(&key);
            if body.is_empty() {
                request
            } else {
                request.json(*body)
            }
        }));
    }
    cases
}

fn meters(server: &Server, key: &str) -> Answer {
    server.send(&get("/v1/meters").key(key))
}

const HEADERS: &[(&str, Code, &str)] = &[
    ("another scheme", Code::CredentialsMalformed, "Basic YTpi"),
    ("scheme alone", Code::CredentialsMalformed, "Bearer"),
    ("scheme and blanks", Code::CredentialsMalformed, "Bearer   "),
    ("key alone", Code::CredentialsMalformed, "mtr_0123456789"),
    ("empty header", Code::CredentialsMalformed, ""),
    (
        "bytes that are no text",
        Code::CredentialsMalformed,
        "Bearer \u{e9}",
    ),
    (
        "unknown key",
        Code::CredentialsUnknown,
        "Bearer mtr_0123456789012345678901234567890123456789012",
    ),
    (
        "nonsense as key",
        Code::CredentialsUnknown,
        "Bearer ' OR 1=1 --",
    ),
];

/// Without permissions: the administrator's key, which holds all but belongs to no organization.
type Scope = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static [&'static str]>,
    &'static str,
);

const SCOPES: &[Scope] = &[
    (
        "read meters with another permission",
        "GET",
        "/v1/meters",
        Some(&["events:read"]),
        "",
    ),
    (
        "read a meter with another permission",
        "GET",
        "/v1/meters/api_calls",
        Some(&["meters:write"]),
        "",
    ),
    (
        "create a meter with a reader's key",
        "POST",
        "/v1/meters",
        Some(&["meters:read"]),
        "{}",
    ),
    (
        "replace a meter with a reader's key",
        "PUT",
        "/v1/meters/api_calls",
        Some(&["meters:read"]),
        "{}",
    ),
    (
        "delete a meter with a reader's key",
        "DELETE",
        "/v1/meters/api_calls",
        Some(&["meters:read"]),
        "",
    ),
    (
        "send with a reader's key",
        "POST",
        "/v1/measurements",
        Some(&["measurements:read"]),
        "{}",
    ),
    (
        "list with a sender's key",
        "GET",
        "/v1/measurements",
        Some(&["measurements:write"]),
        "",
    ),
    (
        "trace with a sender's key",
        "GET",
        "/v1/measurements/a",
        Some(&["measurements:write"]),
        "",
    ),
    (
        "query with a sender's key",
        "POST",
        "/v1/query",
        Some(&["measurements:write"]),
        "{}",
    ),
    (
        "events with all but theirs",
        "GET",
        "/v1/events",
        Some(&["meters:*", "measurements:*"]),
        "",
    ),
    (
        "list organizations with an organization's key",
        "GET",
        "/v1/organizations",
        Some(&["*"]),
        "",
    ),
    (
        "create an organization with an organization's key",
        "POST",
        "/v1/organizations",
        Some(&["*"]),
        r#"{"name":"x"}"#,
    ),
    (
        "read an organization with an organization's key",
        "GET",
        "/v1/organizations/acme",
        Some(&["*"]),
        "",
    ),
    (
        "list credentials with an organization's key",
        "GET",
        "/v1/credentials",
        Some(&["*"]),
        "",
    ),
    (
        "create a credential with an organization's key",
        "POST",
        "/v1/credentials",
        Some(&["*"]),
        "{}",
    ),
    (
        "read a credential with an organization's key",
        "GET",
        "/v1/credentials/x",
        Some(&["*"]),
        "",
    ),
    (
        "revoke with an organization's key",
        "DELETE",
        "/v1/credentials/x",
        Some(&["*"]),
        "",
    ),
    (
        "rotate with an organization's key",
        "POST",
        "/v1/credentials/x/rotate",
        Some(&["*"]),
        "{}",
    ),
    (
        "list meters with an administrator's key",
        "GET",
        "/v1/meters",
        None,
        "",
    ),
    (
        "create a meter with an administrator's key",
        "POST",
        "/v1/meters",
        None,
        "{}",
    ),
    (
        "send with an administrator's key",
        "POST",
        "/v1/measurements",
        None,
        "{}",
    ),
    (
        "query with an administrator's key",
        "POST",
        "/v1/query",
        None,
        "{}",
    ),
];

fn limits() -> Vec<Case> {
    vec![exchange("a third request", Code::RateLimited, |s| {
        for left in ["1", "0"] {
            let answer = meters(s, &s.key);
            assert_eq!(answer.status, 200);
            assert_eq!(
                answer.header("ratelimit-policy"),
                Some("\"control\";q=2;w=60, \"address\";q=100;w=60")
            );
            let state = answer.header("ratelimit").unwrap();
            assert!(
                state.starts_with(&format!("\"control\";r={left};t=")),
                "{state}"
            );
        }
        // Other classes and other keys have limits of their own.
        assert_eq!(s.send(&get("/v1/events").key(&s.key)).status, 200);
        assert_eq!(meters(s, &s.rival_key).status, 200);
        meters(s, &s.key)
    })]
}

#[test]
fn waiting_as_told_lets_the_next_request_pass() {
    let server = Server::start();
    let policy = LimitPolicy::sliding("own", LimitScope::Credential, 1, Duration::from_millis(300));
    let (_, key) = server.issue(|new| new.limits = vec![policy]);
    // On a machine that stops in between, the window may pass by itself; then there is nothing to wait for.
    let mut refused = 0;
    for _ in 0..20 {
        let answer = meters(&server, &key);
        if answer.status == 200 {
            continue;
        }
        let body = answer.expect(429);
        refused += 1;
        let wait_ms = body["retry"]["after_ms"].as_u64().unwrap();
        assert!((1..=300).contains(&wait_ms), "{wait_ms}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        std::thread::sleep(Duration::from_millis(wait_ms));
        assert_eq!(meters(&server, &key).status, 200);
        if refused == 2 {
            return;
        }
    }
    panic!("refused {refused} times");
}

#[test]
fn addresses_are_believed_only_from_trusted_proxies() {
    let server = Server::start();
    let (_, key) = server.issue(|new| new.addresses = vec!["192.0.2.0/24".parse().unwrap()]);
    let answer = server.send(
        &get("/v1/meters")
            .key(&key)
            .header("X-Forwarded-For", "192.0.2.77"),
    );
    assert_eq!(answer.expect(403)["code"], "address_not_allowed");
    let (_, key) = server.issue(|new| new.addresses = vec!["127.0.0.1/32".parse().unwrap()]);
    assert_eq!(meters(&server, &key).status, 200);
}
