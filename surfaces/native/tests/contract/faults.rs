//! Every fault of the catalogue that the native surface can answer with, provoked over HTTP, and its whole answer.
//!
//! The cases are tables. Each says which fault it provokes; what the answer looks like stands in `answers/`. Whatever
//! the fault, the organization holds the same afterwards as before.

mod access;
mod bodies;
mod measurements;
mod requests;
mod resources;
mod trouble;

use crate::pinned::pins;
use crate::server::Server;
use meterd_fault::{Code, Kind};
use meterd_testkit::client::{Answer, Request};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use bodies::gzip;

type Send = Box<dyn Fn(&Server) -> Answer>;

/// One way to provoke one fault.
struct Case {
    name: String,
    code: Code,
    send: Send,
}

fn case(
    name: impl Into<String>,
    code: Code,
    request: impl Fn(&Server) -> Request + 'static,
) -> Case {
    exchange(name, code, move |server| server.send(&request(server)))
}

/// A case that takes more than one request.
fn exchange(
    name: impl Into<String>,
    code: Code,
    send: impl Fn(&Server) -> Answer + 'static,
) -> Case {
    Case {
        name: name.into(),
        code,
        send: Box::new(send),
    }
}

/// Cases that share a server.
struct Group {
    name: &'static str,
    start: fn() -> Server,
    cases: fn() -> Vec<Case>,
    /// Whether a failed request surely leaves everything as it was.
    keeps_contents: bool,
}

const GROUPS: &[Group] = &[
    requests::GROUP,
    requests::BOUNDED,
    bodies::GROUP,
    measurements::GROUP,
    measurements::LINES,
    resources::GROUP,
    access::GROUP,
    access::LIMITED,
    trouble::HANDLERS,
    trouble::IDEMPOTENT,
    trouble::FULL,
    trouble::UNAVAILABLE,
    trouble::CLOSED,
    trouble::SMALL_ENGINE,
];

fn check(group: &Group) {
    let server = (group.start)();
    let before = group.keeps_contents.then(|| server.contents());
    let mut pins = pins(group.name);
    for case in (group.cases)() {
        let answer = (case.send)(&server);
        let code = case.code.entry().code;
        let seen = codes_in(&answer);
        assert!(
            seen.contains(code),
            "{}: {code} was to be provoked, but the answer is {} {}",
            case.name,
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if let Some(before) = &before {
            assert_eq!(server.contents(), *before, "after {}", case.name);
        }
        pins.check(&case.name, &answer);
    }
    pins.finish();
}

/// Of the answer as a whole, or of its items.
fn codes_in(answer: &Answer) -> BTreeSet<String> {
    let body = answer.json();
    let whole = body["code"].as_str().map(str::to_owned);
    let items = body["items"].as_array().into_iter().flatten();
    let of_items = items.filter_map(|item| item["fault"]["code"].as_str().map(str::to_owned));
    whole.into_iter().chain(of_items).collect()
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
    bodies: bodies::GROUP;
    measurements_in_json: measurements::GROUP;
    measurements_in_lines: measurements::LINES;
    resources: resources::GROUP;
    access: access::GROUP;
    rate_limits: access::LIMITED;
    handlers_in_trouble: trouble::HANDLERS;
    idempotent_requests: trouble::IDEMPOTENT;
    full_storage: trouble::FULL;
    unavailable_storage: trouble::UNAVAILABLE;
    closed_storage: trouble::CLOSED;
    small_engine: trouble::SMALL_ENGINE;
}

/// Faults that no request to the native surface can end in, and why.
const NOT_NATIVE: &[(Code, &str)] = &[
    (
        Code::PeriodTooLong,
        "Wattwatchers: queries here are bounded by their windows",
    ),
    (
        Code::CalculationFailed,
        "m3ter: derived fields and compound aggregations",
    ),
    (
        Code::CodeAmbiguous,
        "m3ter: codes that differ in case; names here match exactly",
    ),
    (
        Code::TokenInvalid,
        "m3ter and T IoT Hub: keys here are no tokens",
    ),
    (
        Code::TokenExpired,
        "m3ter and T IoT Hub: keys here are no tokens",
    ),
    (Code::FeatureNotIncluded, "surfaces with plans"),
    (
        Code::OrganizationNotAccessible,
        "m3ter: the organization stands in no path here",
    ),
    (
        Code::ResourceForbidden,
        "surfaces with permissions on single resources",
    ),
    (Code::OauthClientInvalid, "token endpoints"),
    (Code::OauthRequestInvalid, "token endpoints"),
    (Code::OauthGrantUnsupported, "token endpoints"),
    (Code::OauthScopeInvalid, "token endpoints"),
    (
        Code::ActionNotSupported,
        "T IoT Hub: actions on SIM products",
    ),
    (Code::MeterNotConfigured, "FSM Navigator: meters of assets"),
    (Code::CapabilityMissing, "Wattwatchers: models of devices"),
    (Code::QuotaExhausted, "Meter: strategies in 30 days"),
    (Code::TooManyRunning, "m3ter and Meter: jobs"),
    (
        Code::ResponseTooLarge,
        "surfaces whose answers have no pages",
    ),
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
fn every_code_is_provoked_or_not_native() {
    let mut places: BTreeMap<Code, Vec<String>> = BTreeMap::new();
    for group in GROUPS {
        for case in (group.cases)() {
            let place = format!("{}/{}", group.name, case.name);
            places.entry(case.code).or_default().push(place);
        }
    }
    for (code, reason) in NOT_NATIVE {
        assert_eq!(places.get(code), None, "{reason}");
        places.insert(*code, vec![(*reason).to_owned()]);
    }
    let missing: Vec<_> = Kind::samples()
        .map(|kind| Code::from(&kind))
        .filter(|code| !places.contains_key(code))
        .collect();
    assert_eq!(missing, []);
}
