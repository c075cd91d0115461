//! Events: what is told of changes, how they are found, and what notifications and schedules make of them.

use crate::failures::{create_meter, row, submit};
use crate::server::{Server, message};
use meterd_control::EventFilter;
use meterd_surface_m3ter::tick;
use meterd_testkit::client::get;
use meterd_testkit::now;
use serde_json::{Value, json};
use std::time::Duration;

fn account(server: &Server, code: &str) -> Value {
    let body = json!({"name": code, "code": code, "emailAddress": "a@example.com"});
    server.post("/accounts", &body)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Names of the events that a list answers, newest first.
fn names(server: &Server, query: &str) -> Vec<String> {
    let events = server.get(&format!("/events?{query}"));
    let events = events["data"].as_array().unwrap();
    events
        .iter()
        .map(|event| text(&event["eventName"]).to_owned())
        .collect()
}

#[test]
fn a_change_is_an_event_with_both_sides() {
    let server = Server::start();
    let made = account(&server, "one");
    let id = text(&made["id"]);
    let mut change = made.clone();
    change["code"] = json!("two");
    server.put(&format!("/accounts/{id}"), &change);
    server.delete(&format!("/accounts/{id}"));

    let events = server.get(&format!("/events?resourceId={id}"));
    let events = events["data"].as_array().unwrap();
    let side = |event: usize, side: &str| events[event]["m3terEvent"]["eventData"][side].clone();
    let order =
        ["deleted", "updated", "created"].map(|change| format!("configuration.account.{change}"));
    assert_eq!(names(&server, &format!("accountId={id}")), order);
    assert_eq!(side(2, "newDto")["code"], "one");
    assert_eq!(side(2, "newDto")["orgId"], server.acme.id.to_string());
    assert_eq!(side(2, "oldDto"), Value::Null);
    assert_eq!(
        (&side(1, "oldDto")["code"], &side(1, "newDto")["code"]),
        (&json!("one"), &json!("two"))
    );
    assert_eq!(
        (side(1, "newDto")["version"].clone(), side(0, "newDto")),
        (json!(2), Value::Null)
    );
    assert_eq!(side(0, "oldDto")["code"], "two");
    // An event is never actioned, so it has no time for that.
    assert_eq!(events[0].as_object().unwrap().len(), 4);

    let event = text(&events[1]["id"]);
    assert_eq!(server.get(&format!("/events/{event}")), events[1]);
    let foreign = server.rival.path(&format!("/events/{event}"));
    let answer = server.send(&get(foreign).key(&server.rival.admin.token));
    assert_eq!(message(&answer, 404), format!("Event not found: {event}"));
    server.refused(404, "GET", "/events/configuration", None);
}

#[test]
fn events_are_found_by_filters_and_pages() {
    let server = Server::start();
    for code in ["a", "b", "c"] {
        account(&server, code);
    }
    submit(&server, &[row("u-1")]);
    let created = "configuration.account.created";
    assert_eq!(
        names(&server, "eventName=configuration.account.created"),
        [created; 3]
    );
    assert_eq!(
        names(&server, "eventType=IngestValidationFailure"),
        ["ingest.validation.failure"]
    );
    assert_eq!(names(&server, "eventType=Notification"), [""; 0]);
    assert_eq!(
        names(
            &server,
            "eventType=IngestValidationFailure&eventName=configuration.account.created"
        ),
        [""; 0]
    );
    assert_eq!(names(&server, "accountId=x&includeActioned=true"), [""; 0]);
    server.refused(400, "GET", "/events?eventType=Anything", None);
    server.refused(400, "GET", "/events?pageSize=101", None);

    let list = |query: String| server.get(&format!("/events?{query}"));
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(format!("eventName={created}&pageSize=1&nextToken={token}"));
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        match page.get("nextToken") {
            Some(next) => token = text(next).to_owned(),
            None => break,
        }
    }
    let codes: Vec<_> = found
        .iter()
        .map(|event| &event["m3terEvent"]["eventData"]["newDto"]["code"])
        .collect();
    assert_eq!(codes, ["c", "b", "a"]);

    let ids = format!(
        "{},{},nothing",
        text(&found[2]["id"]),
        text(&found[0]["id"])
    );
    let page = list(format!("ids={ids}"));
    assert_eq!(page, json!({"data": [found[0], found[2]]}));
    let page = list(format!("ids={ids}&pageSize=1"));
    assert_eq!(page["data"], json!([found[0]]));
    let page = list(format!(
        "ids={ids}&pageSize=1&nextToken={}",
        text(&page["nextToken"])
    ));
    assert_eq!(page, json!({"data": [found[2]]}));
    assert_eq!(
        server.refused(400, "GET", &format!("/events?ids={ids}&eventName=x"), None),
        "Validation failed: ids: cannot be combined with other filters"
    );
}

#[test]
fn types_and_fields_are_told() {
    let server = Server::start();
    server.post(
        "/scheduledevents/configurations",
        &json!({"name": "review", "entity": "account", "field": "billEpoch", "offset": 3}),
    );
    let types = server.get("/events/types");
    let types = types["events"].as_array().unwrap();
    for name in [
        "configuration.account.created",
        "configuration.alert.deleted",
        "billing.counteradjustment.updated",
        "ingest.validation.failure",
        "dataexport.job.failure",
        "scheduled.account.review",
    ] {
        assert!(types.contains(&json!(name)), "{name}");
    }
    let fields = server.get("/events/fields?eventName=configuration.account.updated");
    let fields = &fields["events"]["configuration.account.updated"];
    assert_eq!(
        (&fields["new.code"], &fields["old.version"]),
        (&json!("string"), &json!("int"))
    );
    assert_eq!(fields["new.customFields"], "map");
    let all = server.get("/events/fields");
    assert!(all["events"].as_object().unwrap().len() > 30);
    server.refused(400, "GET", "/events/fields?eventName=nothing", None);
}

fn notification(code: &str, calculation: Option<&str>) -> Value {
    json!({
        "name": code, "description": "Tells", "code": code, "active": true,
        "eventName": "configuration.account.updated", "calculation": calculation,
        "alwaysFireEvent": calculation.is_none(),
    })
}

#[test]
fn a_notification_fires_where_its_calculation_says_so() {
    let server = Server::start();
    let configure = |body: Value| server.post("/notifications/configurations", &body);
    let fired = configure(notification("renamed", Some("new.code != old.code")));
    configure(notification("always", None));
    configure(notification("undefined", Some("new.daysBeforeBillDue > 3")));
    let mut off = notification("off", None);
    off["active"] = json!(false);
    let off = configure(off);
    let made = account(&server, "one");
    let path = format!("/accounts/{}", text(&made["id"]));
    let mut change = made.clone();
    change["code"] = json!("two");
    let change = server.put(&path, &change);
    server.put(&path, &change);

    let codes = |query: &str| {
        let events = server.get(&format!("/events?eventType=Notification{query}"));
        let events = events["data"].as_array().unwrap().clone();
        let mut codes: Vec<_> = events
            .iter()
            .map(|event| text(&event["m3terEvent"]["notificationCode"]).to_owned())
            .collect();
        codes.sort_unstable();
        codes
    };
    assert_eq!(codes(""), ["always", "always", "renamed"]);
    assert_eq!(codes("&notificationCode=renamed"), ["renamed"]);
    assert_eq!(
        codes(&format!("&notificationId={}", text(&fired["id"]))),
        ["renamed"]
    );
    assert_eq!(codes(&format!("&accountId={}", text(&made["id"]))).len(), 3);
    let event = server.get("/events?notificationCode=renamed")["data"][0].clone();
    assert_eq!(event["eventName"], "notification.renamed");
    assert_eq!(
        event["m3terEvent"]["eventName"],
        "configuration.account.updated"
    );
    assert_eq!(event["m3terEvent"]["eventData"]["newDto"]["code"], "two");

    let listed = server.get("/notifications/configurations?active=false");
    assert_eq!(listed, json!({"data": [off]}));
    assert_eq!(
        names(&server, "eventName=configuration.alert.created").len(),
        4
    );
}

#[test]
fn calculations_are_checked_when_they_are_saved() {
    let server = Server::start();
    let refused =
        |body: &Value| server.refused(400, "POST", "/notifications/configurations", Some(body));
    let answer = refused(&notification("x", Some("new.nothing == 1")));
    assert!(answer.starts_with("Validation failed: calculation: must be a calculation: character 1: there is no `new.nothing` here"), "{answer}");
    let answer = refused(&notification("x", Some("new.code ==")));
    assert!(
        answer.starts_with("Validation failed: calculation: must be a calculation: character"),
        "{answer}"
    );
    let long = format!("new.version{} > 0", " + 1".repeat(500));
    assert_eq!(
        refused(&notification("x", Some(&long))),
        "Validation failed: calculation: must take at most 500 operations, where a power counts as 100; it takes 501"
    );
    let mut body = notification("x", Some("true"));
    body["eventName"] = json!("account.created");
    assert_eq!(
        refused(&body),
        "Validation failed: eventName: must be one of the names that events/types lists"
    );
    body = notification("x", None);
    body["alwaysFireEvent"] = json!(false);
    assert_eq!(
        refused(&body),
        "Validation failed: calculation: is required unless alwaysFireEvent is true"
    );

    account(&server, "one");
    let event = server.get("/events?eventName=configuration.account.created")["data"][0].clone();
    let evaluate = |body: Value| server.post("/notifications/evaluate", &body);
    assert_eq!(
        evaluate(json!({"eventId": event["id"], "calculation": "new.code == \"one\""})),
        json!({"success": true})
    );
    assert_eq!(
        evaluate(
            json!({"eventName": "configuration.account.updated", "calculation": "new.version > old.version"})
        ),
        json!({"success": true})
    );
    let failed = evaluate(json!({"eventId": event["id"], "calculation": "old.version > 1"}));
    assert_eq!(failed["success"], false);
    assert!(text(&failed["errorMessage"]).contains("old.version"));
    assert_eq!(
        evaluate(json!({"eventId": "x", "calculation": "true"}))["success"],
        false
    );
    server.refused(
        400,
        "POST",
        "/notifications/evaluate",
        Some(&json!({"calculation": "true"})),
    );
}

#[test]
fn a_scheduled_event_comes_once_also_over_a_restart() {
    let server = Server::start();
    server.post(
        "/scheduledevents/configurations",
        &json!({"name": "review", "entity": "account", "field": "dtCreated", "offset": 2}),
    );
    let made = account(&server, "one");
    let names_now = |server: &Server| names(server, "eventName=scheduled.account.review");
    let days = |days: u64| now().saturating_add(Duration::from_hours(24 * days));
    tick(&server.app, days(1)).unwrap();
    assert_eq!(names_now(&server), [""; 0]);
    let server = server.restart();
    tick(&server.app, days(3)).unwrap();
    assert_eq!(names_now(&server), ["scheduled.account.review"]);
    let server = server.restart();
    tick(&server.app, days(4)).unwrap();
    let events = server.get(&format!(
        "/events?eventName=scheduled.account.review&accountId={}",
        text(&made["id"])
    ));
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        events["data"][0]["m3terEvent"]["eventData"]["newDto"]["code"],
        "one"
    );

    let refused =
        |body: &Value| server.refused(400, "POST", "/scheduledevents/configurations", Some(body));
    let answer = refused(&json!({"name": "x", "entity": "account", "field": "name", "offset": 1}));
    assert_eq!(
        answer,
        "Validation failed: field: must be a date of the entity: dtCreated, dtLastModified, billEpoch"
    );
    refused(&json!({"name": "x", "entity": "thing", "field": "name", "offset": 1}));
    refused(&json!({"name": "review", "entity": "account", "field": "dtCreated", "offset": 1}));
}

/// Custom fields are known where the organization has a default for them, which counts where an entity has none.
#[test]
fn a_notification_reads_custom_fields() {
    let server = Server::start();
    let set_defaults = |account: Value| {
        let version = server.get("/customfields")["version"].clone();
        let defaults = json!({"version": version, "account": account, "product": {"size": 1}});
        server.put("/customfields", &defaults);
    };
    let calculation =
        "new.customFields.tier == \"gold\" AND new.customFields.seats > old.customFields.seats";
    let body = notification("more", Some(calculation));
    let said = server.refused(400, "POST", "/notifications/configurations", Some(&body));
    assert!(
        said.starts_with(
            "Validation failed: calculation: must be a calculation: character 1: there is no `new.customFields.tier` here"
        ),
        "{said}"
    );
    set_defaults(json!({"tier": "gold", "seats": 2.5}));
    server.post("/notifications/configurations", &body);
    let fields = server.get("/events/fields?eventName=configuration.account.updated");
    let fields = &fields["events"]["configuration.account.updated"];
    assert_eq!(
        [
            &fields["new.customFields.tier"],
            &fields["old.customFields.seats"],
            &fields["new.customFields.size"]
        ],
        [&json!("string"), &json!("double"), &Value::Null]
    );

    let mut account = account(&server, "one");
    let path = format!("/accounts/{}", text(&account["id"]));
    let fired = || {
        server.get("/events?notificationCode=more")["data"]
            .as_array()
            .unwrap()
            .len()
    };
    let mut change = |custom: Value| {
        account["customFields"] = custom;
        account = server.put(&path, &account);
        fired()
    };
    // The default's 2.5 seats, then more, then fewer.
    assert_eq!(change(json!({"note": "x"})), 0);
    assert_eq!(change(json!({"seats": 3})), 1);
    assert_eq!(change(json!({"seats": 2})), 1);
    // Of another tier; one whose seats are no number has no result.
    assert_eq!(change(json!({"seats": 9, "tier": "free"})), 1);
    assert_eq!(change(json!({"seats": "many"})), 1);
    assert_eq!(change(json!({})), 1);
    assert_eq!(change(json!({"seats": 2.75})), 2);

    let evaluate = json!({
        "eventName": "configuration.account.updated", "calculation": "old.customFields.tier != new.customFields.tier",
    });
    let tried = |body: &Value| server.post("/notifications/evaluate", body)["success"].clone();
    assert_eq!(tried(&evaluate), true);
    // Without its default a field is unknown; the change goes through, and nothing fires.
    set_defaults(json!({"seats": 1}));
    assert_eq!(tried(&evaluate), false);
    assert_eq!(change(json!({"seats": 100})), 2);
}

/// Of a thousand new accounts at once, which all wait for the one who writes.
#[test]
fn one_change_fires_a_bounded_number_of_notifications() {
    let server = Server::start();
    create_meter(&server);
    for number in 0..3 {
        let mut body = notification(&format!("n{number}"), None);
        body["eventName"] = json!("configuration.account.created");
        server.post("/notifications/configurations", &body);
    }
    let rows: Vec<_> = (0..400)
        .map(|number| {
            let mut row = row(&format!("u-{number}"));
            row["account"] = json!(format!("customer {number}"));
            row
        })
        .collect();
    submit(&server, &rows);
    let filter = EventFilter {
        kind_prefix: Some("m3ter.notification."),
        ..EventFilter::default()
    };
    let events = server.control.events();
    let (first, next) = events.newest(server.acme.id, &filter, None, 1_000).unwrap();
    assert_eq!(first.len(), 1_000);
    let (rest, _) = events
        .newest(server.acme.id, &filter, next.as_ref(), 1_000)
        .unwrap();
    assert!(rest.is_empty() || next.is_none());
    // All the accounts are there, and the next change fires again.
    account(&server, "one more");
    let (newest, _) = events.newest(server.acme.id, &filter, None, 3).unwrap();
    let codes: Vec<_> = newest
        .iter()
        .map(|event| &event.data["m3terEvent"]["eventData"]["newDto"]["code"])
        .collect();
    assert_eq!(codes, ["one more"; 3]);
}

#[test]
fn a_scheduled_event_is_cut_as_others_are_and_stops_nobody() {
    let server = Server::start();
    let mut large =
        json!({"name": "L", "code": "l", "emailAddress": "a@example.com", "customFields": {}});
    for number in 0..100 {
        large["customFields"][format!("f{number}")] = json!("x".repeat(1_000));
    }
    server.post("/accounts", &large);
    for name in ["first", "second"] {
        server.post(
            "/scheduledevents/configurations",
            &json!({"name": name, "entity": "account", "field": "dtCreated", "offset": 1}),
        );
    }
    tick(&server.app, now().saturating_add(Duration::from_hours(25))).unwrap();
    for name in ["first", "second"] {
        let events = server.get(&format!("/events?eventName=scheduled.account.{name}"));
        let dto = &events["data"][0]["m3terEvent"]["eventData"]["newDto"];
        assert_eq!(
            (&dto["code"], &dto["customFields"]),
            (&json!("l"), &Value::Null)
        );
    }
}

/// An event shows an entity to those who may retrieve it.
#[test]
fn events_of_what_is_denied_are_hidden() {
    let server = Server::start();
    account(&server, "one");
    server.post("/products", &json!({"name": "P", "code": "p"}));
    let event = server.get("/events?eventName=configuration.account.created")["data"][0].clone();
    let caller = server.with_statements(
        "auditor",
        &json!([{"effect": "allow", "action": ["config:retrieve"], "resource": ["config:event", "config:alert", "config:product"]}]),
    );
    let ask =
        |method, path: &str, body: Option<&Value>| server.ask_as(&caller.token, method, path, body);
    let seen = ask("GET", "/events", None).expect(200);
    let seen: Vec<_> = seen["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| text(&event["eventName"]))
        .collect();
    assert_eq!(seen, ["configuration.product.created"]);
    let one = format!("/events/{}", text(&event["id"]));
    assert_eq!(message(&ask("GET", &one, None), 403), "Forbidden");
    let trial = json!({"eventId": event["id"], "calculation": "new.code == \"one\""});
    let tried = ask("POST", "/notifications/evaluate", Some(&trial));
    assert_eq!(message(&tried, 403), "Forbidden");
}
