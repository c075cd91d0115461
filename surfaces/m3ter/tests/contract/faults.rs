//! Every fault of the catalogue that this surface can answer with, see [`meterd_testkit::faults`]; and what m3ter has and
//! this server does not. What the answers look like stands in `answers/`.

mod access;
mod bounds;
mod requests;
mod resources;
mod storage;

use crate::pinned::pins;
use crate::server::{Server, message};
use meterd_fault::Code;
use meterd_testkit::client::{Answer, Request};
use meterd_testkit::faults::{Provoked, check_complete};
use meterd_testkit::pinned::Pins;
use serde_json::{Value, json};

type Case = meterd_testkit::faults::Case<Server>;
type Group = meterd_testkit::faults::Group<Server>;

/// A request of acme's administrator.
fn case(name: &'static str, code: Code, request: impl Fn(&Server) -> Request + 'static) -> Case {
    Case::new(name, code, move |server: &Server| {
        request(server).key(&server.acme.admin.token)
    })
}

/// A case that takes more than one request, or another caller.
fn exchange(name: &'static str, code: Code, send: impl Fn(&Server) -> Answer + 'static) -> Case {
    Case::exchange(name, code, send)
}

impl Provoked for Server {
    fn pins(group: &str) -> Pins {
        pins(group)
    }

    fn send(&self, request: &Request) -> Answer {
        meterd_testkit::Server::send(self, request)
    }

    /// What the server told last, since the dialect has one word for many.
    fn codes_in(&self, answer: &Answer) -> Vec<String> {
        message(answer, answer.status);
        let told = self.told();
        let last = told.last().map(|code| code.entry().code.to_owned());
        last.into_iter().collect()
    }

    /// Of acme.
    fn contents(&self) -> Value {
        let lists = ["products", "meters", "aggregations", "accounts"];
        let lists = lists.map(|list| self.get(&format!("/{list}")));
        let all = json!({"startDate": "1970-01-01", "endDate": "9999-01-01"});
        let usage = self.ask("POST", "/usage/query", Some(&all));
        json!([lists, usage.json()])
    }
}

meterd_testkit::fault_groups! {
    Server:
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
    check_complete(GROUPS, NOT_HERE);
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
