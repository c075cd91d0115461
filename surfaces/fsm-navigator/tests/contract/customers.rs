//! Customers and their locations (4.2), and what all resources have in common.

use crate::server::{Options, Server, invalid, missing, refusal, refused};
use crate::world::{World, id, ids, location};
use meterd_control::EventFilter;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A member without what differs from run to run.
fn timeless(mut thing: Value) -> Value {
    for member in ["created_at", "updated_at"] {
        let time = thing[member].as_str().unwrap().to_owned();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        thing.as_object_mut().unwrap().remove(member);
    }
    thing
}

#[test]
fn a_customer_is_made_and_read_back() {
    let server = Server::start();
    let body = json!({
        "customer_name": "  Acme HVAC ",
        "contact_email": "Office@Acme.example",
        "contact_phone": "(212) 555-0100",
        "unknown": true,
    });
    let answer = server.ask("POST", "/customers", Some(&body));
    let made = answer.expect(201);
    let customer = json!({
        "customer_id": 1,
        "id": 1,
        "customer_name": "Acme HVAC",
        "customer_email": "Office@Acme.example",
        "customer_phone": "+12125550100",
        "default_sla_hours": null,
        "tax_exempt": false,
        "tax_exemption_reason": null,
    });
    assert_eq!(timeless(made["customer"].clone()), customer);
    assert_eq!(made["data"], made["customer"]);
    assert_eq!(made["success"], true);
    let request_id = made["request_id"].as_str().unwrap();
    assert_eq!(answer.header("x-request-id"), Some(request_id));
    assert!(request_id.len() == 12 && request_id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(made.as_object().unwrap().len(), 4);
    for path in ["/customers?id=1", "/customers/1", "/customers/1/"] {
        assert_eq!(server.get(path)["customer"], made["customer"], "{path}");
    }
}

#[test]
fn bodies_are_checked_member_by_member() {
    let server = Server::start();
    let told = |body: Value| server.refused("POST", "/customers", &body);
    assert_eq!(
        told(json!({})),
        missing("Missing required field: customer_name.")
    );
    let name = missing("Missing required field: customer_name.");
    for body in [
        json!({"customer_name": null}),
        json!({"customer_name": "  ", "customer_email": 5}),
    ] {
        assert_eq!(told(body), name);
    }
    assert_eq!(
        told(json!({"customer_name": 5})),
        invalid("Invalid value for customer_name: must be a string.")
    );
    assert_eq!(
        told(json!({"customer_name": "A", "customer_email": "x", "tax_exempt": "yes"})),
        invalid(
            "Invalid value for customer_email: must be an e-mail address. \
             Invalid value for tax_exempt: must be a boolean."
        )
    );
    assert_eq!(
        told(json!({"customer_name": "A", "customer_email": "a@b.c", "contact_email": "d@e.f"})),
        invalid("Invalid value for customer_email: cannot be given together with contact_email.")
    );
    assert_eq!(
        told(json!({"customer_name": "A", "customer_phone": "555"})),
        invalid("Invalid value for customer_phone: must be a phone number such as +12125550100.")
    );
    assert_eq!(
        told(json!({"customer_name": "A", "default_sla_hours": 0})),
        invalid("Invalid value for default_sla_hours: must be between 1 and 876000.")
    );
    assert_eq!(
        told(json!({"customer_name": "A", "tax_exemption_reason": "r".repeat(256)})),
        invalid("Invalid value for tax_exemption_reason: must have at most 255 characters.")
    );
    assert_eq!(
        told(json!([])),
        invalid("The request body must be an object.")
    );
    let path = "/fsm-navigator/api/v1/customers";
    let raw = |media_type: &str, body: &str| {
        let request = meterd_testkit::client::post(path).header("X-API-Key", &server.key);
        server.send(&request.typed(media_type, body))
    };
    for body in ["", "{\"customer_name\":"] {
        let (status, code, _) = refused(&raw("application/json", body));
        assert_eq!((status, code.as_str()), (400, "validation_failed"));
    }
    let large = format!("{{\"customer_name\":\"{}\"}}", "x".repeat(1024 * 1024));
    let (status, code, _) = refused(&raw("application/json", &large));
    assert_eq!((status, code.as_str()), (400, "validation_failed"));
    assert_eq!(server.get("/customers")["pagination"]["total"], 0);
    // Whatever a body is called, it is read as JSON.
    raw("text/plain", r#"{"customer_name":"A"}"#).expect(201);
    let body = json!({"customer_name": "A", "tax_exemption_reason": "r".repeat(255)});
    server.post("/customers", &body);
}

#[test]
fn no_two_customers_share_an_address() {
    let server = Server::start();
    let body = |email: &str| json!({"customer_name": "A", "customer_email": email});
    server.post("/customers", &body("a@x.example"));
    let taken = refusal(
        409,
        "duplicate_customer",
        "A customer with this email already exists.",
    );
    assert_eq!(
        server.refused("POST", "/customers", &body(" A@X.example ")),
        taken
    );
    // What is invalid besides is told first.
    let both = json!({"customer_name": "A", "customer_email": "a@x.example", "tax_exempt": 1});
    assert_eq!(server.refused("POST", "/customers", &both).0, 400);
    let answer = server.ask_as(
        &server.rival_key,
        "POST",
        "/customers",
        Some(&body("a@x.example")),
    );
    answer.expect(201);
    let other = server.post("/customers", &body("b@x.example"));
    let path = format!("/customers?id={}", id(&other));
    assert_eq!(server.refused("PUT", &path, &body("a@x.example")), taken);
    let own = json!({"customer_email": "B@X.example"});
    assert_eq!(server.put(&path, &own)["customer_email"], "B@X.example");
    for _ in 0..2 {
        server.post("/customers", &json!({"customer_name": "without"}));
    }
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let world = World::start();
    let server = &world.server;
    let path = format!("/customers?id={}", world.customer);
    let before = server.get(&path)["customer"].clone();
    assert_eq!(server.put(&path, &json!({})), before);
    let after = server.put(&path, &json!({"default_sla_hours": 8, "tax_exempt": true}));
    assert_eq!(after["customer_name"], before["customer_name"]);
    assert_eq!(after["customer_email"], before["customer_email"]);
    assert_eq!(
        (&after["default_sla_hours"], &after["tax_exempt"]),
        (&json!(8), &json!(true))
    );
    assert_eq!(server.put(&path, &json!({"tax_exempt": null})), after);
    let after = server.put(
        &path,
        &json!({"default_sla_hours": null, "customer_email": null}),
    );
    assert_eq!(
        (&after["default_sla_hours"], &after["customer_email"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(
        server.refused("PUT", &path, &json!({"customer_name": ""})),
        missing("Missing required field: customer_name.")
    );
    assert_eq!(server.get(&path)["customer"], after);
}

#[test]
fn throw_away_addresses_can_be_blocked() {
    let mut options = Options::default();
    options.settings.blocked_mail_domains = vec!["trash.example".to_owned()];
    let server = Server::start_with(options);
    let body = json!({"customer_name": "A", "customer_email": "a@Trash.Example"});
    assert_eq!(
        server.refused("POST", "/customers", &body),
        invalid(
            "Invalid value for customer_email: must not be of a domain for throw-away addresses."
        )
    );
}

#[test]
fn locations_are_made_in_both_styles() {
    let world = World::start();
    let server = &world.server;
    let customer = world.customer;
    let query = format!("/customers?id={customer}&locations=1");
    let path = format!("/customers/{customer}/locations");
    let answer = server.ask("POST", &query, Some(&location())).expect(201);
    let expected = json!({
        "location_id": 2,
        "id": 2,
        "customer_id": customer,
        "location_name": "Main site",
        "street": "1 Main St",
        "city": "Springfield",
        "state": "IL",
        "zip": "62701",
        "contact_email": "office@acme.example",
        "notes": null,
        "latitude": null,
        "longitude": null,
    });
    assert_eq!(timeless(answer["location"].clone()), expected);
    let other = server.post(&path, &location());
    for address in [&query, &path] {
        assert_eq!(ids(&server.get(address)), [id(&other), 2, world.location]);
    }
    let alone = server.get(&format!("/customers?id={customer}"));
    assert_eq!(alone["customer"].get("locations"), None);
    let with = server.get(&format!("/customers?id={customer}&include=locations"));
    let embedded = with["customer"]["locations"].as_array().unwrap();
    let embedded: Vec<_> = embedded.iter().map(id).collect();
    assert_eq!(embedded, [world.location, 2, id(&other)]);
    assert_eq!(with["customer"]["locations_total"], 3);
}

/// Of more than a thousand locations the first are shown with their customer, which tells how many there are.
#[test]
fn locations_that_are_not_shown_are_counted() {
    let world = World::start();
    let path = format!("/customers/{}/locations", world.customer);
    for _ in 1..1_001 {
        world.server.post(&path, &location());
    }
    let with = format!("/customers/{}?include=locations", world.customer);
    let with = world.server.get(&with);
    let shown = with["customer"]["locations"].as_array().unwrap();
    assert_eq!(
        (shown.len(), id(&shown[0]), id(&shown[999])),
        (1_000, 1, 1_000)
    );
    assert_eq!(with["customer"]["locations_total"], 1_001);
    let last = world.server.get(&format!("{path}?per_page=1"));
    assert_eq!(ids(&last), [1_001]);
}

/// Whoever sends back what was shown changes nothing.
#[test]
fn what_was_shown_can_be_sent_back() {
    let world = World::start();
    let server = &world.server;
    world.meter(&world.asset(), |_| {});
    world.job();
    server.post(
        "/inventory",
        &json!({"part_number": "F-1", "name": "Filter", "unit_cost": 12.10}),
    );
    let events = || {
        let all = EventFilter::default();
        let newest = server.control.events().newest(server.acme, &all, None, 100);
        newest.unwrap().0.len()
    };
    let before = events();
    for (method, path) in [
        ("PUT", "/customers?id=1"),
        ("PUT", "/customers?id=1&locations=1&location_id=1"),
        ("PUT", "/assets?id=1"),
        ("PUT", "/jobs?id=1"),
        ("PUT", "/inventory?id=1"),
        ("PATCH", "/inventory?id=1"),
    ] {
        let shown = server.get(path)["data"].take();
        let answer = server.ask(method, path, Some(&shown)).expect(200);
        assert_eq!(answer["data"], shown, "{method} {path}");
        assert_eq!(events(), before, "{method} {path}");
    }
}

#[test]
fn locations_change_below_their_own_customer() {
    let world = World::start();
    let server = &world.server;
    let (customer, location) = (world.customer, world.location);
    let path = format!("/customers?id={customer}&locations=1&location_id={location}");
    let body = json!({"zip": "62701-1234", "contact_email": "site@acme.example"});
    let changed = server.put(&path, &body);
    assert_eq!(changed["zip"], "62701-1234");
    assert_eq!(changed["contact_email"], "site@acme.example");
    assert_eq!(changed["city"], "Springfield");
    assert_eq!(server.get(&path)["location"], changed);
    let path = format!("/customers/{customer}/locations/{location}");
    let changed = server.put(&path, &json!({"contact_email": null}));
    assert_eq!(changed["contact_email"], "office@acme.example");
    // Sent back as it was shown it is not the location's own.
    assert_eq!(server.put(&path, &changed), changed);
    let moved = json!({"customer_email": "new@acme.example"});
    server.put(&format!("/customers?id={customer}"), &moved);
    let shown = server.get(&path)["data"].take();
    assert_eq!(shown["contact_email"], "new@acme.example");
    let old = json!({"contact_email": "office@acme.example"});
    let own = server.put(&path, &old);
    assert_eq!(own["contact_email"], "office@acme.example");
    let other = id(&server.post("/customers", &json!({"customer_name": "B"})));
    let path = format!("/customers/{other}/locations/{location}");
    for method in ["GET", "PUT"] {
        assert_eq!(
            server.refused(method, &path, &json!({})),
            refusal(404, "not_found", "Location not found.")
        );
    }
    assert_eq!(
        server.refused("PUT", "/customers/1/locations", &json!({})),
        missing("Missing required field: location_id.")
    );
}

#[test]
fn locations_are_checked_member_by_member() {
    let world = World::start();
    let path = format!("/customers/{}/locations", world.customer);
    let told = |body: Value| world.server.refused("POST", &path, &body);
    assert_eq!(
        told(json!({"location_name": "A", "street": "B", "state": "Illinois"})),
        missing("Missing required fields: city, zip.")
    );
    let with = |member: &str, value: &str| {
        let mut body = location();
        body[member] = value.into();
        told(body)
    };
    for state in ["Illinois", "I1", "I"] {
        let message = "Invalid value for state: must be the two letters of a state.";
        assert_eq!(with("state", state), invalid(message));
    }
    for zip in [
        "6270",
        "62701-12",
        "627011234x",
        "6270-11234",
        "62701-1234-",
    ] {
        let message = "Invalid value for zip: must be a ZIP code of five or nine digits.";
        assert_eq!(with("zip", zip), invalid(message), "{zip}");
    }
    for zip in ["62701", "62701-1234", "627011234"] {
        let mut body = location();
        body["zip"] = zip.into();
        world.server.post(&path, &body);
    }
}

#[test]
fn customers_are_found_by_parts_of_them() {
    let world = World::start();
    let server = &world.server;
    let body = json!({
        "customer_name": "Zebra Ltd",
        "customer_email": "zoo@stripes.example",
        "customer_phone": "+49 30 1234567",
    });
    let zebra = id(&server.post("/customers", &body));
    let found = |query: &str| ids(&server.get(&format!("/customers?{query}")));
    for search in ["zEBra", "stripes", "STRIPES.example", "30 123", "%2B4930"] {
        let search = search.replace(' ', "%20");
        assert_eq!(found(&format!("search={search}")), [zebra], "{search}");
    }
    assert_eq!(found("search=nobody"), [0_u64; 0]);
    assert_eq!(found("search="), [zebra, world.customer]);
    assert_eq!(found("has_locations=1"), [world.customer]);
    assert_eq!(found("has_locations=0"), [zebra]);
    assert_eq!(
        server.refused("GET", "/customers?has_locations=2", &Value::Null),
        invalid("Invalid value for has_locations: must be one of 1, 0.")
    );
    let own = server.get(&format!("/customers?id={zebra}"));
    let own = own["customer"]["created_at"].as_str().unwrap().to_owned();
    assert!(!found(&format!("created_after={own}")).contains(&zebra));
    assert!(!found(&format!("created_before={own}")).contains(&zebra));
    // The fraction of a bound is dropped, as that of what is shown.
    let later = own.replace('Z', ".5Z");
    assert!(!found(&format!("created_before={later}")).contains(&zebra));
    assert!(found("created_after=2020-01-01").contains(&zebra));
    assert!(found("created_before=2120-01-01T00:00:00").contains(&zebra));
    assert_eq!(
        server
            .refused("GET", "/customers?created_after=yesterday", &Value::Null)
            .0,
        400
    );
}

#[test]
fn pages_hold_every_row_once() {
    let server = Server::start();
    let empty = server.get("/customers");
    assert_eq!(empty["data"], json!([]));
    assert_eq!(
        empty["pagination"],
        json!({"page": 1, "per_page": 50, "total": 0, "total_pages": 0})
    );
    for n in 0..103 {
        server.post("/customers", &json!({"customer_name": format!("C{n}")}));
    }
    let first = server.get("/customers");
    assert_eq!(
        first["pagination"],
        json!({"page": 1, "per_page": 50, "total": 103, "total_pages": 3})
    );
    assert_eq!(ids(&first), (54..=103).rev().collect::<Vec<_>>());
    let clamped = server.get("/customers?per_page=500&unknown=1");
    assert_eq!(clamped["pagination"]["per_page"], 100);
    assert_eq!(ids(&clamped).len(), 100);
    let far = server.get("/customers?page=2000000000&per_page=2000000000");
    assert_eq!(far["data"], json!([]));
    assert_eq!(
        far["pagination"],
        json!({"page": 2_000_000_000, "per_page": 100, "total": 103, "total_pages": 2})
    );
    let mut seen = BTreeSet::new();
    let mut requests = BTreeSet::new();
    for page in 1..=16 {
        let page = server.get(&format!("/customers?per_page=7&page={page}"));
        requests.insert(page["request_id"].as_str().unwrap().to_owned());
        for id in ids(&page) {
            assert!(seen.insert(id), "{id} came twice");
        }
    }
    assert_eq!(seen.len(), 103);
    assert_eq!(requests.len(), 16);
    for query in [
        "page=0",
        "page=x",
        "per_page=0",
        "per_page=1.5",
        "per_page=1.0",
        "page=1e1",
        "page=-1",
    ] {
        let (status, code, message) =
            server.refused("GET", &format!("/customers?{query}"), &Value::Null);
        assert_eq!((status, code.as_str()), (400, "validation_failed"));
        let name = query.split('=').next().unwrap();
        assert!(
            message.starts_with(&format!("Invalid value for {name}: ")),
            "{message}"
        );
    }
    assert_eq!(
        server.get("/customers?page=&per_page=")["pagination"]["page"],
        1
    );
}
