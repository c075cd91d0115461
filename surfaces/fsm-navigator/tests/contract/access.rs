//! Keys: what is refused before a request is looked at, and in which order (2).

use crate::server::{NO_API, Server, missing, no_scope, refusal, refused};
use crate::world::{World, id, ids, location};
use meterd_control::{Applied, CredentialChange};
use meterd_surface_fsm_navigator::{KEYS, apply_plan};
use meterd_testkit::client::{get, request};
use meterd_testkit::system;
use serde_json::{Value, json};

const UNAUTHORIZED: &str = "API key is missing or invalid.";

#[test]
fn a_key_that_is_no_key_is_told_nothing_more() {
    let server = Server::start();
    let revoked = server.issue(&["jobs:read"], |_| {});
    server
        .control
        .credentials()
        .revoke(revoked.credential.id, &system())
        .unwrap();
    let path = "/fsm-navigator/api/v1/jobs";
    let plain = || get(path);
    let answers = [
        server.send(&plain()),
        server.send(&plain().header("X-API-Key", "fsm_live_nonsense")),
        server.send(&plain().header("X-API-Key", "")),
        server.send(&plain().header("X-API-Key", revoked.secret.reveal())),
        server.send(&plain().key(&server.key)),
        server.send(&get(format!("{path}?api_key={}", server.key))),
        server.send(&request("POST", path).json(json!({"api_key": server.key}).to_string())),
        // Nobody learns what is there.
        server.send(&get("/fsm-navigator/api/v1/nonsense")),
        server.send(&request("DELETE", path)),
    ];
    for answer in &answers {
        assert_eq!(refused(answer), refusal(401, "unauthorized", UNAUTHORIZED));
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.header("x-ratelimit-limit"), None);
    }
    // Blanks around it are nothing.
    let blanks = plain().header("X-API-Key", &format!(" {} ", server.key));
    server.send(&blanks).expect(200);
}

#[test]
fn addresses_bind_a_key() {
    let server = Server::start();
    let with = |block: &str| {
        let block = block.parse().unwrap();
        server.issue(&["jobs:read"], |new| new.addresses = vec![block])
    };
    let inside = with("127.0.0.0/8");
    let answer = server.ask_as(inside.secret.reveal(), "GET", "/jobs", None);
    answer.expect(200);
    let mapped = with("::ffff:127.0.0.1/128");
    let answer = server.ask_as(mapped.secret.reveal(), "GET", "/jobs", None);
    answer.expect(200);
    let outside = with("192.0.2.0/24");
    let sentence = "Requests from this IP address are not allowed.";
    for (method, path) in [("GET", "/jobs"), ("DELETE", "/jobs"), ("GET", "/nonsense")] {
        let answer = server.ask_as(outside.secret.reveal(), method, path, None);
        assert_eq!(refused(&answer), refusal(403, "ip_not_allowed", sentence));
        assert_eq!(answer.header("x-ratelimit-limit"), None);
    }
    let credentials = server.control.credentials();
    credentials
        .revoke(outside.credential.id, &system())
        .unwrap();
    let answer = server.ask_as(outside.secret.reveal(), "GET", "/jobs", None);
    assert_eq!(refused(&answer), refusal(401, "unauthorized", UNAUTHORIZED));
}

#[test]
fn every_key_is_of_a_company() {
    let company = Server::start().acme;
    assert!(KEYS.check_home(Some(company)).is_ok());
    assert!(KEYS.check_home(None).is_err());
}

#[test]
fn the_api_belongs_to_one_plan() {
    let server = Server::start();
    let set = |plan| apply_plan(&server.control, server.acme, plan, &system()).unwrap();
    assert_eq!(set("Professional"), Applied::Created);
    for key in [&server.key, &server.test_key] {
        let answer = server.ask_as(key, "GET", "/nonsense", None);
        assert_eq!(refused(&answer), refusal(403, "forbidden", NO_API));
        assert_eq!(answer.header("x-ratelimit-limit"), None);
    }
    let answer = server.ask_as(&server.rival_key, "GET", "/jobs", None);
    answer.expect(200);
    assert_eq!(set(" enterprise "), Applied::Updated);
    server.get("/jobs");
    assert_eq!(set("Enterprise"), Applied::Updated);
    assert_eq!(set("Enterprise"), Applied::Unchanged);
    server.get("/jobs");
}

/// Row by row, the first check that fails answers (2.4, 8.2).
#[test]
fn what_is_wrong_first_is_told() {
    let world = World::start();
    let server = &world.server;
    let jobs_read = server.key_with(&["jobs:read"]);
    let told = |method, path: &str, body: Option<&Value>| {
        refused(&server.ask_as(&jobs_read, method, path, body))
    };
    let unknown = refusal(404, "not_found", "Endpoint not found.");
    for path in [
        "/nonsense",
        "/jobs/1/assets",
        "/assets?id=1&sub=x",
        "/webhooks",
    ] {
        assert_eq!(told("GET", path, None), unknown, "{path}");
    }
    let wrong = |method: &str| {
        let message = format!("Method {method} is not allowed for this endpoint.");
        refusal(405, "method_not_allowed", &message)
    };
    // Nobody has a scope for what does not exist.
    assert_eq!(told("DELETE", "/customers?id=9", None), wrong("DELETE"));
    assert_eq!(told("POST", "/jobs?id=1", None), wrong("POST"));
    assert_eq!(told("PATCH", "/customers?id=1", None), wrong("PATCH"));
    assert_eq!(told("OPTIONS", "/jobs", None), wrong("OPTIONS"));
    let answer = server.ask_as(&jobs_read, "DELETE", "/jobs", None);
    assert_eq!(answer.header("allow"), Some("GET, POST, PUT, PATCH, HEAD"));
    // A key without the scope cannot tell ids that are there from others.
    let write = no_scope("scope_not_authorized", "jobs:write");
    for path in ["/jobs?id=999", "/jobs?id=x", "/jobs"] {
        assert_eq!(told("PUT", path, Some(&json!([]))), write, "{path}");
    }
    let other = no_scope("forbidden", "customers:write");
    assert_eq!(told("PUT", "/customers?id=999", None), other);
    let gone = refusal(404, "not_found", "Job not found.");
    for id in [
        "999999999",
        "0",
        "-1",
        "x",
        "1.0",
        "01x",
        "99999999999999999999",
        "%zz",
        "%ff",
    ] {
        assert_eq!(told("GET", &format!("/jobs?id={id}"), None), gone, "{id}");
        assert_eq!(told("GET", &format!("/jobs/{id}"), None), gone, "{id}");
    }
    let body = Value::String("no object".into());
    assert_eq!(server.refused("PUT", "/jobs?id=999", &body), gone);
    // Without a value it names nothing.
    assert_eq!(told("GET", "/jobs?id=", None), gone);
    let nobody = refusal(404, "not_found", "Customer not found.");
    let below = "/customers?locations=1";
    assert_eq!(server.refused("GET", below, &Value::Null), nobody);
    assert_eq!(server.refused("POST", below, &location()), nobody);
    let missing = missing("Missing required field: id.");
    for method in ["PUT", "PATCH"] {
        assert_eq!(server.refused(method, "/jobs", &json!({})), missing);
    }
    for path in [
        "/customers",
        "/customers?id=",
        "/customers?locations=1",
        "/customers?locations=1&location_id=6",
        "/customers?id=&locations=1&location_id=6",
        "/jobs?id=",
        "/assets?id=%20",
        "/inventory?id=",
    ] {
        assert_eq!(server.refused("PUT", path, &json!({})), missing, "{path}");
    }
    for path in ["/jobs?id=", "/assets?id=", "/inventory?id="] {
        assert_eq!(server.refused("PATCH", path, &json!({})), missing, "{path}");
    }
}

#[test]
fn scopes_can_be_edited_on_a_key() {
    let world = World::start();
    let server = &world.server;
    let issued = server.issue(&["jobs:read"], |_| {});
    let key = issued.secret.reveal();
    let body = json!({"job_title": "A", "customer_location_id": world.location});
    let answer = server.ask_as(key, "POST", "/jobs", Some(&body));
    assert_eq!(
        refused(&answer),
        no_scope("scope_not_authorized", "jobs:write")
    );
    let change = CredentialChange {
        permissions: Some(vec!["jobs:write".to_owned()]),
        ..CredentialChange::default()
    };
    let credentials = server.control.credentials();
    let id = issued.credential.id;
    credentials.change(id, None, change, &system()).unwrap();
    server.ask_as(key, "POST", "/jobs", Some(&body)).expect(201);
    // One scope implies no other.
    let answer = server.ask_as(key, "GET", "/jobs", None);
    assert_eq!(
        refused(&answer),
        no_scope("scope_not_authorized", "jobs:read")
    );
}

#[test]
fn a_scope_that_nobody_knows_grants_nothing() {
    let server = Server::start();
    let key = server.key_with(&["webhooks:manage", "jobs:read_all"]);
    let told = |path| refused(&server.ask_as(&key, "GET", path, None));
    assert_eq!(told("/jobs"), no_scope("scope_not_authorized", "jobs:read"));
    assert_eq!(told("/customers"), no_scope("forbidden", "customers:read"));
}

#[test]
fn live_and_test_data_are_apart() {
    let world = World::start();
    let server = &world.server;
    let test = |method, path: &str, body: Option<&Value>| {
        server.ask_as(&server.test_key, method, path, body)
    };
    let gone = refusal(404, "not_found", "Customer not found.");
    let path = format!("/customers?id={}", world.customer);
    assert_eq!(refused(&test("GET", &path, None)), gone);
    assert_eq!(
        test("GET", "/customers", None).expect(200)["data"],
        json!([])
    );
    // The same address of a customer is no other's here, and numbers begin anew.
    let body = json!({"customer_name": "T", "customer_email": "office@acme.example"});
    let made = test("POST", "/customers", Some(&body)).expect(201);
    assert_eq!(id(&made["customer"]), 1);
    let body = json!({"job_title": "A", "customer_location_id": world.location});
    let (status, code, _) = refused(&test("POST", "/jobs", Some(&body)));
    assert_eq!((status, code.as_str()), (400, "validation_failed"));
    assert_eq!(ids(&server.get("/customers")), [world.customer]);
    let answer = server.ask_as(&server.rival_key, "GET", &path, None);
    assert_eq!(refused(&answer), gone);
    let path = format!("{path}&locations=1");
    let answer = server.ask_as(&server.rival_key, "POST", &path, Some(&location()));
    assert_eq!(refused(&answer), gone);
}
