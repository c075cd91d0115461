//! The black-box checklist of the reference (10), row by row. Rows of one theme that others hold in more detail are
//! short here.

use crate::server::{Options, Server, refused};
use crate::world::{World, id, ids, location};
use meterd_control::CredentialChange;
use meterd_testkit::client::{Answer, get, post, request};
use meterd_testkit::system;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const JOBS: &str = "/fsm-navigator/api/v1/jobs";

/// Status and code of a refusal.
#[track_caller]
fn told(answer: &Answer) -> (u16, String) {
    let (status, code, _) = refused(answer);
    (status, code)
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[track_caller]
fn message(answer: &Answer) -> String {
    refused(answer).2
}

fn job(world: &World) -> Value {
    json!({"job_title": "A", "customer_location_id": world.location})
}

#[test]
fn row_01_a_request_without_key() {
    let answer = Server::start().send(&get(JOBS));
    assert_eq!(told(&answer), is(401, "unauthorized"));
    assert_eq!(answer.json().as_object().unwrap().len(), 3);
}

#[test]
fn row_02_a_request_with_a_random_key() {
    let server = Server::start();
    let without = server.send(&get(JOBS));
    let random = server.send(&get(JOBS).header("X-API-Key", "fsm_live_4f9a"));
    assert_eq!((random.status, random.body), (401, without.body));
}

#[test]
fn row_03_a_key_in_the_address_or_in_the_body() {
    let server = Server::start();
    let key = &server.key;
    let in_query = server.send(&get(format!("{JOBS}?api_key={key}&X-API-Key={key}")));
    let in_body = server.send(&post(JOBS).json(json!({"X-API-Key": key}).to_string()));
    assert_eq!((in_query.status, in_body.status), (401, 401));
}

#[test]
fn row_04_a_key_that_was_just_revoked() {
    let server = Server::start();
    let issued = server.issue(&["jobs:read"], |_| {});
    let key = issued.secret.reveal();
    assert_eq!(server.ask_as(key, "GET", "/jobs", None).status, 200);
    let credentials = server.control.credentials();
    credentials.revoke(issued.credential.id, &system()).unwrap();
    assert_eq!(server.ask_as(key, "GET", "/jobs", None).status, 401);
}

/// What a key that is bound to this block is answered.
fn from(block: Option<&str>) -> Answer {
    let server = Server::start();
    let issued = server.issue(&["jobs:read"], |new| {
        new.addresses = block
            .map(|block| block.parse().unwrap())
            .into_iter()
            .collect();
    });
    server.ask_as(issued.secret.reveal(), "GET", "/jobs", None)
}

#[test]
fn row_05_a_list_without_the_callers_address() {
    assert_eq!(told(&from(Some("192.0.2.7/32"))), is(403, "ip_not_allowed"));
}

#[test]
fn row_06_an_empty_list_of_addresses() {
    assert_eq!(from(None).status, 200);
}

#[test]
fn row_07_a_block_that_holds_the_caller() {
    assert_eq!(from(Some("127.0.0.0/16")).status, 200);
}

/// What a key with one scope is answered.
fn with_scope(scope: &str, method: &'static str, path: &str) -> (u16, String) {
    let server = Server::start();
    let body = (method != "GET").then(|| json!({}));
    let answer = server.ask_as(&server.key_with(&[scope]), method, path, body.as_ref());
    if answer.status == 200 {
        return is(200, "");
    }
    told(&answer)
}

#[test]
fn row_08_a_write_with_a_scope_to_read() {
    let told = with_scope("jobs:read", "POST", "/jobs");
    assert_eq!(told, is(403, "scope_not_authorized"));
}

#[test]
fn row_09_a_scope_of_another_resource() {
    assert_eq!(
        with_scope("customers:read", "GET", "/jobs"),
        is(403, "forbidden")
    );
}

#[test]
fn row_10_a_reading_with_a_scope_to_write() {
    let told = with_scope("assets:write", "POST", "/assets?id=1&sub=meter_reading");
    assert_eq!(told, is(403, "scope_not_authorized"));
}

#[test]
fn row_11_writing_inventory_implies_reading_it() {
    assert_eq!(
        with_scope("inventory:write", "GET", "/inventory"),
        is(200, "")
    );
}

#[test]
fn row_12_transferring_inventory_implies_nothing() {
    assert_eq!(with_scope("inventory:transfer", "GET", "/inventory").0, 403);
}

#[test]
fn row_13_a_scope_that_is_added_to_the_key() {
    let world = World::start();
    let server = &world.server;
    let issued = server.issue(&["jobs:read"], |_| {});
    let ask = || server.ask_as(issued.secret.reveal(), "POST", "/jobs", Some(&job(&world)));
    assert_eq!(ask().status, 403);
    let change = CredentialChange {
        permissions: Some(vec!["jobs:read".to_owned(), "jobs:write".to_owned()]),
        ..CredentialChange::default()
    };
    let credentials = server.control.credentials();
    credentials
        .change(issued.credential.id, None, change, &system())
        .unwrap();
    assert_eq!(ask().status, 201);
}

#[test]
fn rows_14_to_16_methods_that_are_not_there() {
    let server = Server::start();
    for (method, path) in [
        ("DELETE", "/jobs?id=1"),
        ("POST", "/technicians"),
        ("PATCH", "/customers?id=1"),
    ] {
        let answer = server.ask(method, path, Some(&json!({})));
        assert_eq!(
            told(&answer),
            is(405, "method_not_allowed"),
            "{method} {path}"
        );
    }
}

#[test]
fn row_17_an_id_that_is_nowhere() {
    let answer = Server::start().ask("GET", "/jobs?id=999999999", None);
    assert_eq!(told(&answer), is(404, "not_found"));
}

#[test]
fn row_18_an_id_of_another_company() {
    let world = World::start();
    let ask = |id: u64| {
        let path = format!("/customers?id={id}");
        world
            .server
            .ask_as(&world.server.rival_key, "GET", &path, None)
    };
    let (foreign, nowhere) = (ask(world.customer), ask(999_999_999));
    assert_eq!(told(&foreign), is(404, "not_found"));
    assert_eq!(foreign.body, nowhere.body);
}

#[test]
fn row_19_a_live_id_with_a_test_key() {
    let world = World::start();
    let path = format!("/customers?id={}", world.customer);
    let answer = world
        .server
        .ask_as(&world.server.test_key, "GET", &path, None);
    assert_eq!(answer.status, 404);
}

#[test]
fn row_20_a_path_that_is_nowhere() {
    let answer = Server::start().ask("GET", "/nonsense", None);
    assert_eq!(told(&answer), is(404, "not_found"));
}

#[test]
fn row_21_a_list_of_nothing() {
    let list = Server::start().get("/jobs");
    assert_eq!(list["data"], json!([]));
    let pagination = json!({"page": 1, "per_page": 50, "total": 0, "total_pages": 0});
    assert_eq!(list["pagination"], pagination);
}

#[test]
fn rows_22_to_26_pages_of_lists() {
    let server = Server::start();
    for n in 0..101 {
        server.post("/customers", &json!({"customer_name": format!("C{n}")}));
    }
    let first = server.get("/customers");
    assert_eq!(ids(&first).len(), 50);
    assert_eq!(
        (
            &first["pagination"]["per_page"],
            &first["pagination"]["page"]
        ),
        (&json!(50), &json!(1))
    );
    for asked in [100, 500] {
        let page = server.get(&format!("/customers?per_page={asked}"));
        assert_eq!(
            (ids(&page).len(), &page["pagination"]["per_page"]),
            (100, &json!(100))
        );
    }
    for query in ["page=0", "per_page=x"] {
        let answer = server.ask("GET", &format!("/customers?{query}"), None);
        assert_eq!(told(&answer), is(400, "validation_failed"));
    }
    let pages: Vec<_> = (1..=4)
        .map(|page| server.get(&format!("/customers?per_page=30&page={page}")))
        .collect();
    let mut all: Vec<_> = pages.iter().flat_map(ids).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=101).collect::<Vec<_>>());
    assert_eq!(pages[0]["pagination"]["total"], 101);
    let requests: BTreeSet<_> = pages
        .iter()
        .map(|page| page["request_id"].as_str().unwrap())
        .collect();
    assert!(requests.len() == 4 && !requests.contains(""));
}

#[test]
fn rows_27_to_30_customers_by_both_names() {
    let server = Server::start();
    let body = json!({"customer_name": "A", "contact_email": "a@x.example", "contact_phone": "+4930123456"});
    let answer = server.ask("POST", "/customers", Some(&body)).expect(201);
    assert_eq!(
        (&answer["success"], &answer["customer"]["id"]),
        (&json!(true), &json!(1))
    );
    let read = server.get("/customers?id=1")["customer"].clone();
    assert_eq!(read["customer_email"], "a@x.example");
    assert_eq!(read["customer_phone"], "+4930123456");
    let other = json!({"customer_name": "B", "customer_email": "b@x.example"});
    server.post("/customers", &other);
    let again = json!({"customer_name": "C", "customer_email": "B@X.EXAMPLE"});
    let answer = server.ask("POST", "/customers", Some(&again));
    assert_eq!(told(&answer), is(409, "duplicate_customer"));
    let answer = server.ask_as(&server.rival_key, "POST", "/customers", Some(&again));
    assert_eq!(answer.status, 201);
}

#[test]
fn rows_31_to_33_bodies_that_are_wrong() {
    let server = Server::start();
    let ask = |body: Value| server.ask("POST", "/customers", Some(&body));
    let empty = ask(json!({}));
    assert_eq!(told(&empty), is(400, "missing_required_field"));
    assert!(message(&empty).contains("customer_name"));
    let number = ask(json!({"customer_name": 5}));
    assert_eq!(told(&number), is(400, "validation_failed"));
    assert!(message(&number).contains("customer_name"));
    let broken = post("/fsm-navigator/api/v1/customers").header("X-API-Key", &server.key);
    let broken = server.send(&broken.json("{\"customer_name\": "));
    assert_eq!(told(&broken), is(400, "validation_failed"));
}

#[test]
fn row_34_the_longest_reason() {
    let server = Server::start();
    let with = |length: usize| {
        let body = json!({"customer_name": "A", "tax_exemption_reason": "x".repeat(length)});
        server.ask("POST", "/customers", Some(&body)).status
    };
    assert_eq!((with(255), with(256)), (201, 400));
}

#[test]
fn rows_35_to_37_locations_of_customers() {
    let server = Server::start();
    for name in ["with", "without"] {
        server.post("/customers", &json!({"customer_name": name}));
    }
    server.post("/customers?id=1&locations=1", &location());
    server.post("/customers/1/locations", &location());
    assert_eq!(ids(&server.get("/customers?id=1&locations=1")), [2, 1]);
    let with = server.get("/customers?id=1&include=locations");
    assert_eq!(with["customer"]["locations"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.get("/customers?id=1")["customer"].get("locations"),
        None
    );
    assert_eq!(ids(&server.get("/customers?has_locations=1")), [1]);
    assert_eq!(ids(&server.get("/customers?has_locations=0")), [2]);
}

#[test]
fn rows_38_and_39_filters_of_customers() {
    let server = Server::start();
    let body = json!({"customer_name": "Acme", "customer_email": "z@y.example", "customer_phone": "+4930123456"});
    let made = server.post("/customers", &body);
    for part in ["cm", "Y.EX", "3012"] {
        assert_eq!(
            ids(&server.get(&format!("/customers?search={part}"))),
            [1],
            "{part}"
        );
    }
    let own = made["created_at"].as_str().unwrap();
    assert_eq!(
        ids(&server.get(&format!("/customers?created_after={own}"))),
        [0_u64; 0]
    );
}

#[test]
fn row_40_a_job_of_four_fields() {
    let world = World::start();
    let mut body = job(&world);
    body["job_description"] = "B".into();
    body["job_priority"] = "Low".into();
    let answer = world.server.ask("POST", "/jobs", Some(&body)).expect(201);
    let job = answer["job"].as_object().unwrap();
    assert_eq!(
        (&job["id"], &job["job_status"]),
        (&json!(1), &json!("Pending"))
    );
    // The documented ones and `id`.
    assert_eq!(job.len(), 18 + 1);
    for nullable in [
        "assigned_technician_id",
        "assigned_technician_name",
        "scheduled_start",
        "actual_end",
    ] {
        assert_eq!(job[nullable], Value::Null);
    }
}

#[test]
fn rows_41_and_42_jobs_that_cannot_be() {
    let world = World::start();
    for (member, value) in [
        ("job_priority", json!("Critical")),
        ("customer_location_id", json!(99)),
    ] {
        let mut body = job(&world);
        body[member] = value;
        let answer = world.server.ask("POST", "/jobs", Some(&body));
        assert_eq!(told(&answer), is(400, "validation_failed"));
        assert!(message(&answer).contains(member));
    }
}

#[test]
fn rows_43_to_47_statuses_of_jobs() {
    let world = World::start();
    let server = &world.server;
    let address = format!("/jobs?id={}", id(&world.job()));
    let patch = |status: &str| server.ask("PATCH", &address, Some(&json!({"job_status": status})));
    let illegal = is(400, "invalid_status_transition");
    let before = server.get(&address)["job"].clone();
    assert_eq!(told(&patch("Completed")), illegal);
    assert_eq!(told(&patch("Flying")), is(400, "validation_failed"));
    assert_eq!(server.get(&address)["job"], before);
    let begun = patch("In Progress").expect(200);
    assert_ne!(begun["job"]["actual_start"], Value::Null);
    let done = patch("Completed").expect(200);
    assert_ne!(done["job"]["actual_end"], Value::Null);
    assert_eq!(told(&patch("In Progress")), illegal);
    assert_eq!(server.get(&address)["job"], done["job"]);
}

/// A server whose tiers have so many requests a minute.
fn limited(limit: u64) -> Server {
    let mut options = Options::default();
    let limits = &mut options.settings.limits;
    limits.enabled = true;
    (limits.list, limits.write) = (limit, limit);
    Server::start_with(options)
}

#[test]
fn rows_62_to_64_limits_on_every_answer() {
    let server = limited(3);
    let customer = json!({"customer_name": "A"});
    let answers = [
        server.ask("POST", "/customers", Some(&customer)),
        server.ask("POST", "/customers", Some(&json!({}))),
        server.ask("DELETE", "/customers", None),
    ];
    for (n, answer) in (1..).zip(&answers) {
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3"));
        assert_eq!(
            answer.header("x-ratelimit-remaining"),
            Some((3 - n).to_string().as_str())
        );
        assert!(answer.header("x-ratelimit-reset").is_some());
        assert_eq!(answer.header("retry-after"), None);
    }
    let answer = server.ask("POST", "/customers", Some(&customer));
    assert_eq!(told(&answer), is(429, "rate_limit_exceeded"));
    assert_eq!(
        message(&answer),
        "Too many requests. Please try again later."
    );
    let wait = answer.json()["retry_after"].as_u64().unwrap();
    assert_eq!(
        answer.header("retry-after"),
        Some(wait.to_string().as_str())
    );
    // Row 67: a tier of its own.
    assert_eq!(server.ask("GET", "/customers", None).status, 200);
}

// Row 65, waiting as long as told, is `limits::a_window_slides`.

#[test]
fn row_66_another_key_while_one_is_limited() {
    let server = limited(1);
    let other = server.key_with(&["jobs:read"]);
    let ask = |key: &str| server.ask_as(key, "GET", "/jobs", None).status;
    assert_eq!(
        [ask(&server.key), ask(&server.key), ask(&other)],
        [200, 429, 200]
    );
}

#[test]
fn row_68_a_fault_of_the_server() {
    let server = Server::start();
    let database = rusqlite::Connection::open(server.control.path()).unwrap();
    database
        .execute_batch("ALTER TABLE sequences RENAME TO gone")
        .unwrap();
    let answer = server.ask("POST", "/customers", Some(&json!({"customer_name": "A"})));
    assert_eq!(told(&answer), is(500, "server_error"));
    let message = message(&answer);
    assert!(
        !message.contains("sequences") && !message.to_lowercase().contains("sql"),
        "{message}"
    );
    assert_eq!(server.get("/customers")["pagination"]["total"], 0);
}

#[test]
fn row_70_many_customers_with_one_address() {
    let server = Server::start();
    let body = json!({"customer_name": "A", "customer_email": "a@x.example"});
    let mut statuses: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.ask("POST", "/customers", Some(&body)).status;
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    statuses.sort_unstable();
    let mut expected = vec![201];
    expected.resize(20, 409);
    assert_eq!(statuses, expected);
}

/// HEAD is GET without its body, and there is no other method that changes nothing (9).
#[test]
fn head_is_get_without_its_body() {
    let server = Server::start();
    let head = request("HEAD", JOBS).header("X-API-Key", &server.key);
    let answer = server.send(&head);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = server.ask("OPTIONS", "/jobs", None);
    assert_eq!(told(&answer), is(405, "method_not_allowed"));
}
