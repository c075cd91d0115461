//! Every fault of the catalogue that the native surface can answer with, see [`meterd_testkit::faults`]. What the answers
//! look like stands in `answers/`.

mod access;
mod bodies;
mod measurements;
mod requests;
mod resources;
mod trouble;

use crate::pinned::pins;
use crate::server::Server;
use meterd_fault::Code;
use meterd_testkit::client::{Answer, Request};
use meterd_testkit::faults::{Provoked, check_complete};
use meterd_testkit::pinned::Pins;
use serde_json::Value;

pub(crate) use bodies::gzip;

type Case = meterd_testkit::faults::Case<Server>;
type Group = meterd_testkit::faults::Group<Server>;

fn case(
    name: impl Into<String>,
    code: Code,
    request: impl Fn(&Server) -> Request + 'static,
) -> Case {
    Case::new(name, code, request)
}

/// A case that takes more than one request.
fn exchange(
    name: impl Into<String>,
    code: Code,
    send: impl Fn(&Server) -> Answer + 'static,
) -> Case {
    Case::exchange(name, code, send)
}

impl Provoked for Server {
    fn pins(group: &str) -> Pins {
        pins(group)
    }

    fn send(&self, request: &Request) -> Answer {
        meterd_testkit::Server::send(self, request)
    }

    fn codes_in(&self, answer: &Answer) -> Vec<String> {
        let body = answer.json();
        let whole = body["code"].as_str().map(str::to_owned);
        let items = body["items"].as_array().into_iter().flatten();
        let of_items = items.filter_map(|item| item["fault"]["code"].as_str().map(str::to_owned));
        whole.into_iter().chain(of_items).collect()
    }

    fn contents(&self) -> Value {
        Server::contents(self)
    }
}

meterd_testkit::fault_groups! {
    Server:
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
    check_complete(GROUPS, NOT_NATIVE);
}
