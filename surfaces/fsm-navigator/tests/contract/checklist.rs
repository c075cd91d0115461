//! The black-box checklist of the reference (10), row by row. Rows of one theme that others hold in more detail are
//! short here.

use crate::server::{Options, Server, Told, invalid, missing, no_scope, refusal, refused};
use crate::world::{World, id, ids, location};
use meterd_control::CredentialChange;
use meterd_testkit::client::{Answer, get, post, request};
use meterd_testkit::system;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const JOBS: &str = "/fsm-navigator/api/v1/jobs";

fn unauthorized() -> Told {
    refusal(401, "unauthorized", "API key is missing or invalid.")
}

fn not_found(what: &str) -> Told {
    refusal(404, "not_found", &format!("{what} not found."))
}

fn duplicate() -> Told {
    let message = "A customer with this email already exists.";
    refusal(409, "duplicate_customer", message)
}

fn too_many() -> Told {
    let message = "Too many requests. Please try again later.";
    refusal(429, "rate_limit_exceeded", message)
}

fn job(world: &World) -> Value {
    json!({"job_title": "A", "customer_location_id": world.location})
}

#[test]
fn row_01_a_request_without_key() {
    let answer = Server::start().send(&get(JOBS));
    assert_eq!(refused(&answer), unauthorized());
}

#[test]
fn row_02_a_request_with_a_random_key() {
    let server = Server::start();
    let without = server.send(&get(JOBS));
    let random = server.send(&get(JOBS).header("X-API-Key", "fsm_live_4f9a"));
    assert_eq!(refused(&random), unauthorized());
    assert_eq!(random.body, without.body);
}

#[test]
fn row_03_a_key_in_the_address_or_in_the_body() {
    let server = Server::start();
    let key = &server.key;
    let in_query = server.send(&get(format!("{JOBS}?api_key={key}&X-API-Key={key}")));
    let in_body = server.send(&post(JOBS).json(json!({"X-API-Key": key}).to_string()));
    assert_eq!(
        [refused(&in_query), refused(&in_body)],
        [unauthorized(), unauthorized()]
    );
}

#[test]
fn row_04_a_key_that_was_just_revoked() {
    let server = Server::start();
    let issued = server.issue(&["jobs:read"], |_| {});
    let key = issued.secret.reveal();
    server.ask_as(key, "GET", "/jobs", None).expect(200);
    let credentials = server.control.credentials();
    credentials.revoke(issued.credential.id, &system()).unwrap();
    let answer = server.ask_as(key, "GET", "/jobs", None);
    assert_eq!(refused(&answer), unauthorized());
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
    let message = "Requests from this IP address are not allowed.";
    let told = refused(&from(Some("192.0.2.7/32")));
    assert_eq!(told, refusal(403, "ip_not_allowed", message));
}

#[test]
fn row_06_an_empty_list_of_addresses() {
    assert_eq!(from(None).expect(200)["data"], json!([]));
}

#[test]
fn row_07_a_block_that_holds_the_caller() {
    let answer = from(Some("127.0.0.0/16"));
    assert_eq!(answer.expect(200)["data"], json!([]));
}

/// What a key with one scope is answered.
fn with_scope(scope: &str, method: &'static str, path: &str) -> Answer {
    let server = Server::start();
    let body = (method != "GET").then(|| json!({}));
    server.ask_as(&server.key_with(&[scope]), method, path, body.as_ref())
}

#[test]
fn row_08_a_write_with_a_scope_to_read() {
    let answer = with_scope("jobs:read", "POST", "/jobs");
    let expected = no_scope("scope_not_authorized", "jobs:write");
    assert_eq!(refused(&answer), expected);
}

#[test]
fn row_09_a_scope_of_another_resource() {
    let answer = with_scope("customers:read", "GET", "/jobs");
    assert_eq!(refused(&answer), no_scope("forbidden", "jobs:read"));
}

#[test]
fn row_10_a_reading_with_a_scope_to_write() {
    let answer = with_scope("assets:write", "POST", "/assets?id=1&sub=meter_reading");
    let expected = no_scope("scope_not_authorized", "assets:meter");
    assert_eq!(refused(&answer), expected);
}

#[test]
fn row_11_writing_inventory_implies_reading_it() {
    let answer = with_scope("inventory:write", "GET", "/inventory");
    assert_eq!(answer.expect(200)["data"], json!([]));
}

#[test]
fn row_12_transferring_inventory_implies_nothing() {
    let answer = with_scope("inventory:transfer", "GET", "/inventory");
    let expected = no_scope("scope_not_authorized", "inventory:read");
    assert_eq!(refused(&answer), expected);
}

#[test]
fn row_13_a_scope_that_is_added_to_the_key() {
    let world = World::start();
    let server = &world.server;
    let issued = server.issue(&["jobs:read"], |_| {});
    let ask = || server.ask_as(issued.secret.reveal(), "POST", "/jobs", Some(&job(&world)));
    let expected = no_scope("scope_not_authorized", "jobs:write");
    assert_eq!(refused(&ask()), expected);
    let change = CredentialChange {
        permissions: Some(vec!["jobs:read".to_owned(), "jobs:write".to_owned()]),
        ..CredentialChange::default()
    };
    let credentials = server.control.credentials();
    credentials
        .change(issued.credential.id, None, change, &system())
        .unwrap();
    assert_eq!(ask().expect(201)["job"]["job_title"], "A");
}

#[test]
fn rows_14_to_16_methods_that_are_not_there() {
    let server = Server::start();
    for (method, path, allowed) in [
        ("DELETE", "/jobs?id=1", "GET, PUT, PATCH, HEAD"),
        ("POST", "/technicians", "GET, HEAD"),
        ("PATCH", "/customers?id=1", "GET, PUT, HEAD"),
    ] {
        let answer = server.ask(method, path, Some(&json!({})));
        let message = format!("Method {method} is not allowed for this endpoint.");
        assert_eq!(
            refused(&answer),
            refusal(405, "method_not_allowed", &message)
        );
        assert_eq!(answer.header("allow"), Some(allowed));
    }
}

#[test]
fn row_17_an_id_that_is_nowhere() {
    let answer = Server::start().ask("GET", "/jobs?id=999999999", None);
    assert_eq!(refused(&answer), not_found("Job"));
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
    assert_eq!(refused(&foreign), not_found("Customer"));
    assert_eq!(foreign.body, nowhere.body);
}

#[test]
fn row_19_a_live_id_with_a_test_key() {
    let world = World::start();
    let path = format!("/customers?id={}", world.customer);
    let answer = world
        .server
        .ask_as(&world.server.test_key, "GET", &path, None);
    assert_eq!(refused(&answer), not_found("Customer"));
}

#[test]
fn row_20_a_path_that_is_nowhere() {
    let answer = Server::start().ask("GET", "/nonsense", None);
    assert_eq!(refused(&answer), not_found("Endpoint"));
}

#[test]
fn row_21_a_list_of_nothing() {
    let list = Server::start().get("/jobs");
    let expected = json!({
        "success": true,
        "data": [],
        "pagination": {"page": 1, "per_page": 50, "total": 0, "total_pages": 0},
        "request_id": list["request_id"],
    });
    assert_eq!(list, expected);
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
    for (query, message) in [
        ("page=0", "page: must be between 1 and 9223372036854775807"),
        ("per_page=x", "per_page: must be an integer"),
    ] {
        let answer = server.ask("GET", &format!("/customers?{query}"), None);
        let message = format!("Invalid value for {message}.");
        assert_eq!(refused(&answer), invalid(&message));
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
    let made = &answer["customer"];
    let read = json!({
        "id": 1,
        "customer_id": 1,
        "customer_name": "A",
        "customer_email": "a@x.example",
        "customer_phone": "+4930123456",
        "default_sla_hours": null,
        "tax_exempt": false,
        "tax_exemption_reason": null,
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
    });
    assert_eq!(*made, read);
    assert_eq!(server.get("/customers?id=1")["customer"], read);
    let other = json!({"customer_name": "B", "customer_email": "b@x.example"});
    server.post("/customers", &other);
    let again = json!({"customer_name": "C", "customer_email": "B@X.EXAMPLE"});
    let answer = server.ask("POST", "/customers", Some(&again));
    assert_eq!(refused(&answer), duplicate());
    let answer = server.ask_as(&server.rival_key, "POST", "/customers", Some(&again));
    assert_eq!(answer.expect(201)["customer"]["id"], 1);
}

#[test]
fn rows_31_to_33_bodies_that_are_wrong() {
    let server = Server::start();
    let ask = |body: Value| server.ask("POST", "/customers", Some(&body));
    assert_eq!(
        refused(&ask(json!({}))),
        missing("Missing required field: customer_name.")
    );
    assert_eq!(
        refused(&ask(json!({"customer_name": 5}))),
        invalid("Invalid value for customer_name: must be a string.")
    );
    let broken = post("/fsm-navigator/api/v1/customers").header("X-API-Key", &server.key);
    let broken = server.send(&broken.json("{\"customer_name\": "));
    assert_eq!(
        refused(&broken),
        invalid(
            "The request body is not valid JSON: EOF while parsing a value at line 1, column 18."
        )
    );
}

#[test]
fn row_34_the_longest_reason() {
    let server = Server::start();
    let with = |length: usize| {
        let body = json!({"customer_name": "A", "tax_exemption_reason": "x".repeat(length)});
        server.ask("POST", "/customers", Some(&body))
    };
    with(255).expect(201);
    assert_eq!(
        refused(&with(256)),
        invalid("Invalid value for tax_exemption_reason: must have at most 255 characters.")
    );
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
    for (member, value, rule) in [
        (
            "job_priority",
            json!("Critical"),
            "must be one of Low, Medium, High, Urgent",
        ),
        (
            "customer_location_id",
            json!(99),
            "must name an existing location",
        ),
    ] {
        let mut body = job(&world);
        body[member] = value;
        let answer = world.server.ask("POST", "/jobs", Some(&body));
        let message = format!("Invalid value for {member}: {rule}.");
        assert_eq!(refused(&answer), invalid(&message));
    }
}

#[test]
fn rows_43_to_47_statuses_of_jobs() {
    let world = World::start();
    let server = &world.server;
    let address = format!("/jobs?id={}", id(&world.job()));
    let patch = |status: &str| server.ask("PATCH", &address, Some(&json!({"job_status": status})));
    let illegal = |from: &str, to: &str| {
        let message = format!("Cannot change status from \"{from}\" to \"{to}\".");
        refusal(400, "invalid_status_transition", &message)
    };
    let before = server.get(&address)["job"].clone();
    assert_eq!(
        refused(&patch("Completed")),
        illegal("Pending", "Completed")
    );
    assert_eq!(
        refused(&patch("Flying")),
        invalid(
            "Invalid value for job_status: must be one of Pending, Assigned, In-Transit, Arrived, In Progress, \
             On Hold, Completed, Cancelled, Declined."
        )
    );
    assert_eq!(server.get(&address)["job"], before);
    let begun = patch("In Progress").expect(200);
    assert_ne!(begun["job"]["actual_start"], Value::Null);
    let done = patch("Completed").expect(200);
    assert_ne!(done["job"]["actual_end"], Value::Null);
    assert_eq!(
        refused(&patch("In Progress")),
        illegal("Completed", "In Progress")
    );
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

/// What an answer says of the limit of its tier.
fn window(answer: &Answer) -> [Option<&str>; 2] {
    ["limit", "remaining"].map(|name| answer.header(&format!("x-ratelimit-{name}")))
}

#[test]
fn row_62_more_than_a_tier_lets_through() {
    let server = limited(1);
    let customer = json!({"customer_name": "A"});
    let ask = || server.ask("POST", "/customers", Some(&customer));
    ask().expect(201);
    let answer = ask();
    assert_eq!(refused(&answer), too_many());
    let wait = answer.json()["retry_after"].as_u64().unwrap();
    assert_eq!(
        answer.header("retry-after"),
        Some(wait.to_string().as_str())
    );
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(window(&answer), [Some("1"), Some("0")]);
}

/// Of every status there is, and of each tier: the headers of all of them are looked at where they are asked for.
#[test]
fn rows_63_and_64_limits_on_every_answer() {
    let server = limited(50);
    let reader = server.key_with(&["customers:read"]);
    let customer = json!({"customer_name": "A", "customer_email": "a@x.example"});
    let mut left = 50;
    for (method, path, status) in [
        ("POST", "/customers", 201),
        ("POST", "/customers", 409),
        ("PUT", "/customers", 400),
        ("PUT", "/customers?id=1", 200),
        ("PUT", "/customers?id=2", 404),
        ("GET", "/nonsense", 404),
        ("DELETE", "/customers", 405),
    ] {
        let answer = server.ask(method, path, Some(&customer));
        assert_eq!(answer.status, status, "{method} {path}");
        left -= 1;
        assert_eq!(
            window(&answer),
            [Some("50"), Some(left.to_string().as_str())]
        );
    }
    let list = server.ask("GET", "/customers", None);
    let one = server.ask("GET", "/customers/1", None);
    let forbidden = server.ask_as(&reader, "POST", "/customers", Some(&customer));
    for (answer, status, tier) in [
        (list, 200, ["50", "49"]),
        (one, 200, ["90", "89"]),
        (forbidden, 403, ["50", "49"]),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(window(&answer), tier.map(Some));
    }
}

// Row 65, waiting as long as told, is `limits::a_window_slides`.

#[test]
fn row_66_another_key_while_one_is_limited() {
    let server = limited(1);
    let other = server.key_with(&["jobs:read"]);
    let ask = |key: &str| server.ask_as(key, "GET", "/jobs", None);
    ask(&server.key).expect(200);
    assert_eq!(refused(&ask(&server.key)), too_many());
    ask(&other).expect(200);
}

#[test]
fn row_67_a_list_when_writes_are_used_up() {
    let server = limited(1);
    let write = || server.ask("PUT", "/jobs", Some(&json!({})));
    assert_eq!(write().status, 400);
    assert_eq!(refused(&write()), too_many());
    server.ask("GET", "/jobs", None).expect(200);
}

#[test]
fn row_68_a_fault_of_the_server() {
    let server = Server::start();
    let database = rusqlite::Connection::open(server.control.path()).unwrap();
    database
        .execute_batch("ALTER TABLE sequences RENAME TO gone")
        .unwrap();
    let answer = server.ask("POST", "/customers", Some(&json!({"customer_name": "A"})));
    let message = "An internal error occurred.";
    assert_eq!(refused(&answer), refusal(500, "server_error", message));
    assert_eq!(server.get("/customers")["pagination"]["total"], 0);
}

#[test]
fn row_70_many_customers_with_one_address() {
    let server = Server::start();
    let body = json!({"customer_name": "A", "customer_email": "a@x.example"});
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.ask("POST", "/customers", Some(&body));
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.collect()
    });
    let (made, others): (Vec<_>, Vec<_>) =
        (answers.iter()).partition(|answer| answer.status == 201);
    assert_eq!((made.len(), others.len()), (1, 19));
    for answer in others {
        assert_eq!(refused(answer), duplicate());
    }
    assert_eq!(server.get("/customers")["pagination"]["total"], 1);
}

/// HEAD is GET without its body, and there is no other method that changes nothing (9).
#[test]
fn head_is_get_without_its_body() {
    let server = Server::start();
    let head = request("HEAD", JOBS).header("X-API-Key", &server.key);
    let answer = server.send(&head);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = server.ask("OPTIONS", "/jobs", None);
    let message = "Method OPTIONS is not allowed for this endpoint.";
    assert_eq!(
        refused(&answer),
        refusal(405, "method_not_allowed", message)
    );
}
