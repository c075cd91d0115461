//! Every fault of the catalogue that this surface can answer with, provoked over HTTP, and its whole answer; and what
//! m3ter has and this server does not.
//!
//! The cases are tables. Each says which fault it provokes, which the server is asked afterwards, since the dialect has
//! one word for many; what the answer looks like stands in `answers/`. A failed request leaves everything as it was.

mod access;
mod bounds;
mod requests;
mod resources;
mod storage;

use crate::pinned::pins;
use crate::server::{Server, message};
use meterd_fault::{Code, Kind};
use meterd_testkit::client::{Answer, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One way to provoke one fault.
struct Case {
    name: &'static str,
    code: Code,
    send: Box<dyn Fn(&Server) -> Answer>,
}

/// A request of acme's administrator.
fn case(name: &'static str, code: Code, request: impl Fn(&Server) -> Request + 'static) -> Case {
    exchange(name, code, move |server| {
        server.send(&request(server).key(&server.acme.admin.token))
    })
}

/// A case that takes more than one request, or another caller.
fn exchange(name: &'static str, code: Code, send: impl Fn(&Server) -> Answer + 'static) -> Case {
    Case {
        name,
        code,
        send: Box::new(send),
    }
}

/// Cases that share a server.
struct Group {
    name: &'static str,
    start: fn() -> Server,
    cases: fn() -> Vec<Case>,
    /// Whether the server can be asked what it holds.
    is_readable: bool,
}

const GROUPS: &[Group] = &[
    requests::GROUP,
    requests::BOUNDED,
    access::GROUP,
    resources::GROUP,
    bounds::LIMITED,
    bounds::ANSWERS,
    bounds::QUEUED,
    bounds::TROUBLE,
    storage::FULL,
    storage::UNAVAILABLE,
    storage::CLOSED,
];

fn check(group: &Group) {
    let server = (group.start)();
    let before = group.is_readable.then(|| contents(&server));
    let mut pins = pins(group.name);
    for case in (group.cases)() {
        server.told();
        let answer = (case.send)(&server);
        assert_eq!(
            server.told().last(),
            Some(&case.code),
            "{}: {} {}",
            case.name,
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        message(&answer, answer.status);
        if let Some(before) = &before {
            assert_eq!(contents(&server), *before, "after {}", case.name);
        }
        pins.check(case.name, &answer);
    }
    pins.finish();
}

/// What a request could have changed in acme.
fn contents(server: &Server) -> Vec<Value> {
    let lists = ["products", "meters", "aggregations", "accounts"];
    let lists = lists.map(|list| server.get(&format!("/{list}")));
    let all = json!({"startDate": "1970-01-01", "endDate": "9999-01-01"});
    let usage = server.ask("POST", "/usage/query", Some(&all));
    lists.into_iter().chain([usage.json()]).collect()
}

macro_rules! tests {
    ($($test:ident: $group:expr;)+) => {
        $(
            #[test]
            fn $test() {
                check(&$group);
            }
        )+

        #[test]
        fn every_group_is_tested() {
            let tested = [$($group.name),+];
            let all: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
            assert_eq!(tested.as_slice(), all);
        }
    };
}

tests! {
    requests_as_a_whole: requests::GROUP;
    requests_past_a_bound: requests::BOUNDED;
    who_asks: access::GROUP;
    resources_and_their_rules: resources::GROUP;
    requests_past_a_limit: bounds::LIMITED;
    answers_past_a_bound: bounds::ANSWERS;
    jobs_past_a_bound: bounds::QUEUED;
    handlers_in_trouble: bounds::TROUBLE;
    full_storage: storage::FULL;
    unavailable_storage: storage::UNAVAILABLE;
    closed_storage: storage::CLOSED;
}

/// Faults that no request to this surface can end in, and why.
const NOT_HERE: &[(Code, &str)] = &[
    (
        Code::PeriodTooLong,
        "Wattwatchers: queries here are bounded by their windows and rows",
    ),
    (
        Code::MeasurementConflict,
        "a uid with other content is a failure on record, after the answer",
    ),
    (
        Code::CalculationFailed,
        "a failure on record, after the answer; what cannot be parsed is invalid",
    ),
    (Code::CodeAmbiguous, "a failure on record, after the answer"),
    (
        Code::CredentialsUnknown,
        "surfaces with keys: what is no token is an invalid one",
    ),
    (Code::FeatureNotIncluded, "surfaces with plans"),
    (
        Code::OrganizationRequired,
        "the path names the organization, which no administrator's key is of",
    ),
    (
        Code::AdministratorRequired,
        "nothing here is for administrators of the server",
    ),
    (
        Code::ResourceForbidden,
        "policies speak of actions: a missing permission",
    ),
    (
        Code::OauthRequestInvalid,
        "a missing grant_type is a problem of the body",
    ),
    (Code::OauthScopeInvalid, "scopes are not looked at"),
    (Code::MeterNotConfigured, "FSM Navigator: meters of assets"),
    (Code::CapabilityMissing, "Wattwatchers: models of devices"),
    (Code::IdempotencyKeyReused, "m3ter has no idempotency keys"),
    (Code::IdempotencyInProgress, "m3ter has no idempotency keys"),
    (Code::QuotaExhausted, "Meter: strategies in 30 days"),
    (Code::DependencyUnavailable, "Meter: language models"),
    (Code::DependencyTimeout, "Meter: language models"),
    (Code::PlatformUnreachable, "T IoT Hub: SIM platforms"),
    (Code::PlatformTimeout, "T IoT Hub: SIM platforms"),
    (Code::PlatformCredentials, "T IoT Hub: SIM platforms"),
    (Code::PlatformForbidden, "T IoT Hub: SIM platforms"),
    (Code::PlatformBadResponse, "T IoT Hub: SIM platforms"),
    (Code::PlatformMisconfigured, "T IoT Hub: SIM platforms"),
    (Code::PlatformRejectedValue, "T IoT Hub: SIM platforms"),
    (Code::PlatformRejectedRequest, "T IoT Hub: SIM platforms"),
    (Code::PlatformRefusedTransition, "T IoT Hub: SIM platforms"),
    (Code::PlatformThrottled, "T IoT Hub: SIM platforms"),
    (Code::PlatformFailed, "T IoT Hub: SIM platforms"),
    (Code::PlatformSuspended, "T IoT Hub: SIM platforms"),
    (Code::PageNotAllowed, "Meter: web pages"),
    (Code::PageNotAccessible, "Meter: web pages"),
    (Code::PageTimeout, "Meter: web pages"),
    (Code::NothingExtractable, "Meter: web pages"),
];

#[test]
fn every_code_is_provoked_or_not_of_this_surface() {
    let mut provoked: BTreeMap<Code, BTreeSet<&str>> = BTreeMap::new();
    for group in GROUPS {
        for case in (group.cases)() {
            provoked.entry(case.code).or_default().insert(case.name);
        }
    }
    for (code, reason) in NOT_HERE {
        assert_eq!(provoked.get(code), None, "{reason}");
        provoked.insert(*code, BTreeSet::from([*reason]));
    }
    let missing: Vec<_> = Kind::samples()
        .map(|kind| Code::from(&kind))
        .filter(|code| !provoked.contains_key(code))
        .collect();
    assert_eq!(missing, []);
}

#[test]
fn what_is_not_there_yet_is_not_found() {
    let server = Server::start();
    let token = &server.acme.admin.token;
    let id = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
    for line in include_str!("absent.txt").lines() {
        let (method, template) = line.split_once(' ').unwrap();
        let segments = template.split('/').map(|segment| {
            let is_parameter = segment.starts_with('{');
            if is_parameter { id } else { segment }
        });
        let path: Vec<_> = segments.collect();
        let method = ["GET", "POST", "PUT", "DELETE"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap();
        let body = json!({});
        let answer = server.ask_as(token, method, &path.join("/"), Some(&body));
        assert_eq!(message(&answer, 404), "Not Found", "{line}");
    }
}
