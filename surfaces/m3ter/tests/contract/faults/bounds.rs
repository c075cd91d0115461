//! How much is asked for, and handlers that do not come to an end.

use super::{Case, Group, case, exchange};
use crate::ingest::{TIME, row};
use crate::server::{Options, Server};
use meterd_fault::Code;
use meterd_surface_m3ter::M3terLimits;
use meterd_testkit::client::{get, post};
use serde_json::{Value, json};

pub(super) const LIMITED: Group = Group {
    name: "limited",
    start: || {
        let mut options = Options::default();
        options.settings.limits = M3terLimits {
            config_organization: 5,
            ..M3terLimits::default()
        };
        Server::start_with(options)
    },
    cases: limited,
    // Asking is what is limited.
    keeps_contents: false,
};

pub(super) const ANSWERS: Group = Group {
    name: "answers",
    start: || {
        let mut options = Options::default();
        options.settings.response_max_bytes = 2_500;
        options.general.engine.query_groups_max = 2;
        let (server, _) = Server::with_storage_and(options);
        let rows: Vec<_> = (0..12)
            .map(|n| row(&format!("r{n}"), &format!("a{}", n % 3), TIME, "1", "eu"))
            .collect();
        server.submit(&rows);
        server
    },
    cases: answers,
    keeps_contents: true,
};

/// Where jobs are queued and never done.
pub(super) const QUEUED: Group = Group {
    name: "queued",
    start: || {
        Server::start_with(Options {
            works: false,
            ..Options::default()
        })
    },
    cases: || {
        let send = |server: &Server| {
            let request = json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]});
            let ask = || server.ask("POST", "/dataexports/adhoc", Some(&request));
            let asked = std::iter::repeat_with(ask).take(101);
            let mut refused = asked.filter(|answer| answer.status != 200);
            refused.next().unwrap()
        };
        vec![exchange(
            "more exports than may wait",
            Code::TooManyRunning,
            send,
        )]
    },
    keeps_contents: true,
};

pub(super) const TROUBLE: Group = Group {
    name: "trouble",
    start: || {
        let mut options = Options::default();
        options.general.bounds.in_flight_max = 1;
        Server::start_with(options)
    },
    cases: || {
        vec![
            case("a panic", Code::Internal, |_| get("/trouble/panic")),
            case("a handler that hangs", Code::TimedOut, |_| {
                get("/trouble/slow")
            }),
            exchange("one request too many", Code::Overloaded, |s| {
                let hold = post("/trouble/hold").key(&s.acme.admin.token).body("");
                std::thread::scope(|scope| {
                    let held = scope.spawn(|| s.send(&hold));
                    s.held.wait_for_one();
                    let refused = s.ask("GET", "/products", None);
                    s.held.release();
                    assert_eq!(held.join().unwrap().status, 204);
                    refused
                })
            }),
        ]
    },
    keeps_contents: true,
};

fn limited() -> Vec<Case> {
    vec![
        exchange("more requests than a second has", Code::RateLimited, |s| {
            // They may fall into two seconds.
            let asked = std::iter::repeat_with(|| s.ask("GET", "/products", None));
            let mut refused = asked.take(100).filter(|answer| answer.status == 429);
            refused.next().unwrap()
        }),
        exchange(
            "more queries than there are places",
            Code::RateLimited,
            |s| {
                let query = query(&json!({}));
                let ask = || s.ask("POST", "/usage/query", Some(&query));
                let mut refused = std::iter::repeat_with(ask)
                    .take(100)
                    .filter(|answer| answer.status == 429);
                refused.next().unwrap()
            },
        ),
    ]
}

fn query(more: &Value) -> Value {
    let mut query = json!({"startDate": "2024-01-01", "endDate": "2025-01-01"});
    let members = query.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    query
}

fn answers() -> Vec<Case> {
    let sum_by = |server: &Server, group: Value| {
        let meter = server.get("/meters")["data"][0]["id"].clone();
        json!({
            "startDate": "1970-01-01",
            "aggregations": [{"meterId": meter, "fieldCode": "bytes", "fieldType": "MEASURE", "function": "SUM"}],
            "groups": [group],
        })
    };
    vec![
        case("rows of usage", Code::ResponseTooLarge, |s| {
            post(s.path("/usage/query")).json(query(&json!({})).to_string())
        }),
        case("a list", Code::ResponseTooLarge, |s| get(s.path("/events"))),
        case(
            "more buckets of time than one answer has",
            Code::QueryTooExpensive,
            move |s| {
                let by_hour = sum_by(s, json!({"groupType": "TIME", "frequency": "HOUR"}));
                post(s.path("/usage/query")).json(query(&by_hour).to_string())
            },
        ),
        case(
            "more accounts than one answer has",
            Code::QueryTooExpensive,
            move |s| {
                let by_account = sum_by(s, json!({"groupType": "ACCOUNT"}));
                post(s.path("/usage/query")).json(query(&by_account).to_string())
            },
        ),
    ]
}
