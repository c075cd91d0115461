//! Limits on requests (7.4).

use crate::failures::{create_meter, failures, row, submit};
use crate::server::{GRANT, Options, Server, message, token_request};
use crate::uploads::{ask_for_url, finished, job_path, upload};
use meterd_surface_m3ter::M3terLimits;
use meterd_testkit::client::{Answer, get, post};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn limited(change: impl FnOnce(&mut M3terLimits)) -> Server {
    let mut options = Options::default();
    let limits = &mut options.settings.limits;
    *limits = M3terLimits::default();
    change(limits);
    Server::start_with(options)
}

fn assert_told_to_wait(answer: &Answer) {
    assert_eq!(message(answer, 429), "Too Many Requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// The requests may fall into two seconds.
#[test]
fn an_organization_has_its_requests_a_second() {
    let server = limited(|limits| limits.config_organization = 5);
    let asked: Vec<_> = (0..30)
        .map(|_| server.ask("GET", "/products", None))
        .collect();
    let refused: Vec<_> = asked.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert_told_to_wait(answer);
    }
    assert!(asked.iter().filter(|answer| answer.status == 200).count() >= 5);
    // The other organization has its own; and so has ingest.
    let path = server.rival.path("/products");
    let answer = server.send(&get(path).key(&server.rival.admin.token));
    assert_eq!(answer.status, 200);
}

#[test]
fn an_address_has_its_requests_in_five_minutes_and_tokens_are_no_part_of_them() {
    let server = limited(|limits| limits.config_address = 10);
    let admin = &server.acme.admin;
    for _ in 0..30 {
        let request = token_request(&admin.key, &admin.secret).json(GRANT);
        server.send(&request).expect(200);
    }
    for _ in 0..10 {
        server.get("/products");
    }
    let answer = server.ask("GET", "/products", None);
    assert_eq!(message(&answer, 429), "Too Many Requests");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    // Before the token is looked at, so that guessing has its bound too.
    let answer = server.send(&get(server.path("/products")).key("garbage"));
    assert_eq!(message(&answer, 429), "Too Many Requests");
    let request = token_request(&admin.key, &admin.secret).json(GRANT);
    server.send(&request).expect(200);
}

#[test]
fn nobody_uses_up_an_organizations_second_without_a_token() {
    let server = limited(|limits| limits.config_organization = 1);
    for _ in 0..10 {
        let answer = server.send(&get(server.path("/products")).key("garbage"));
        assert_eq!(message(&answer, 403), "Unauthorized");
    }
    server.get("/products");
}

#[test]
fn limits_can_be_taken_away() {
    let server = limited(|limits| {
        limits.enabled = false;
        limits.config_organization = 1;
        limits.config_address = 1;
    });
    for _ in 0..20 {
        assert_eq!(server.get("/products"), json!({"data": []}));
    }
}

/// Ten at once, and then one each second (6.2).
#[test]
fn usage_queries_have_a_measure_of_their_own() {
    let server = limited(|_| {});
    let query = json!({"startDate": "2024-01-01", "endDate": "2024-02-01"});
    let ask = || server.ask("POST", "/usage/query", Some(&query));
    // The requests may fall into several seconds, but not into twenty.
    let asked: Vec<_> = (0..30).map(|_| ask()).collect();
    let (answered, refused): (Vec<_>, Vec<_>) =
        asked.iter().partition(|answer| answer.status == 200);
    assert!(answered.len() >= 10, "{}", answered.len());
    assert!(!refused.is_empty());
    for answer in refused {
        assert_told_to_wait(answer);
    }
    // The other organization has its own, and configuration is not counted with them.
    let path = server.rival.path("/usage/query");
    let rival = post(path).key(&server.rival.admin.token);
    let answer = server.send(&rival.json(query.to_string()));
    assert_eq!(answer.status, 200);
    server.get("/products");
    // Whoever waits as told is answered.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ask().status, 200);
}

/// Also those that are asked for by POST, or answer a single entity beside the page (7.2, 413).
#[test]
fn every_list_has_a_bound_and_can_be_narrowed() {
    const ITEMS: usize = 12;
    let mut options = Options::default();
    options.settings.response_max_bytes = 2_000;
    let server = Server::start_with(options);
    let make = |path: &str, body: &Value| {
        let made = server.post(path, body);
        made["id"].as_str().unwrap().to_owned()
    };
    let user = server.user("jane@example.com");
    let account = json!({"name": "A", "code": "a", "emailAddress": "a@example.com"});
    let account = make("/accounts", &account);
    let counter = make("/counters", &json!({"name": "C", "unit": "seat"}));
    let group = make("/resourcegroups/user", &json!({"name": "all"}));
    let statement = json!({"effect": "allow", "action": ["all"], "resource": ["config:meter"]});
    for number in 0..ITEMS {
        let policy = make(
            "/permissionpolicies",
            &json!({"name": number.to_string(), "permissionPolicy": [statement]}),
        );
        let policy = format!("/permissionpolicies/{policy}");
        server.post(
            &format!("{policy}/addtouser"),
            &json!({"principalId": user}),
        );
        server.post(
            &format!("{policy}/addtousergroup"),
            &json!({"principalId": group}),
        );
        let own = make("/resourcegroups/user", &json!({"name": number.to_string()}));
        let join = |group: &str, target: &str| {
            let path = format!("/resourcegroups/user/{group}/addresource");
            server.post(&path, &json!({"targetId": target, "targetType": "ITEM"}));
        };
        join(&own, &user.to_string());
        join(&group, &format!("item {number}"));
        let date = format!("2024-01-{:02}", number + 1);
        make(
            "/counteradjustments",
            &json!({"counterId": counter, "accountId": account, "date": date, "value": 1}),
        );
        server.post(
            "/dataexports/adhoc",
            &json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]}),
        );
        server.post(
            "/fileuploads/measurements/generateUploadUrl",
            &json!({"fileName": "a", "contentType": "application/json", "contentLength": 1}),
        );
    }
    for (method, path) in [
        ("GET", "/events".to_owned()),
        ("GET", "/dataexports/jobs".to_owned()),
        ("GET", "/fileuploads/measurements/jobs".to_owned()),
        ("GET", format!("/users/{user}/permissions")),
        ("GET", format!("/users/{user}/usergroups")),
        ("POST", format!("/resourcegroups/user/{group}/contents")),
        ("GET", format!("/resourcegroups/user/{group}/permissions")),
        ("GET", "/permissionpolicies".to_owned()),
    ] {
        assert_eq!(
            server.refused(413, method, &path, None),
            "Response too large; narrow the request with filters",
            "{path}"
        );
        let narrowed = format!("{path}?pageSize=1");
        let page = server.ask(method, &narrowed, None).expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), 1, "{path}");
    }
    let of_counter = format!("/counteradjustments?counterId={counter}");
    server.refused(413, "GET", &of_counter, None);
    server.get(&format!("{of_counter}&pageSize=1"));
    // This one is not made of pages: it is told by name.
    server.refused(413, "GET", "/events/types", None);
    server.refused(413, "GET", "/events/fields", None);
    server.get("/events/fields?eventName=configuration.product.created");
}

#[test]
fn what_an_organization_configures_is_bounded_in_bytes() {
    let mut options = Options::default();
    options.general.resource_bytes_max = Some(20_000);
    let server = Server::start_with(options);
    create_meter(&server);
    let product = |code: usize| {
        let text = "x".repeat(2_000);
        json!({"name": "P", "code": format!("p{code}"), "customFields": {"a": text, "b": text}})
    };
    let mut made = Vec::new();
    let refused = loop {
        let answer = server.ask("POST", "/products", Some(&product(made.len())));
        if answer.status != 200 {
            break answer;
        }
        made.push(answer.expect(200));
    };
    let full = "Validation failed: body: does not fit: an organization's configuration has at most 20000 bytes";
    assert_eq!(message(&refused, 400), full);
    assert!((2..5).contains(&made.len()), "{}", made.len());
    // Once there is room again, the next one fits.
    let last = made.pop().unwrap();
    server.delete(&format!("/products/{}", last["id"].as_str().unwrap()));
    server.post("/products", &product(made.len()));
}

/// Leaves no room for another byte.
pub(crate) fn fill(server: &Server) {
    let product = |code: &str, bytes: usize| {
        let text = "x".repeat(bytes);
        json!({"name": "P", "code": code, "customFields": {"a": text}})
    };
    let mut last = Value::Null;
    for bytes in [1_000, 1] {
        for number in 0.. {
            let code = format!("filler-{bytes}-{number}");
            let answer = server.ask("POST", "/products", Some(&product(&code, bytes)));
            if answer.status != 200 {
                break;
            }
            last = answer.expect(200);
        }
    }
    let path = format!("/products/{}", last["id"].as_str().unwrap());
    let code = last["code"].as_str().unwrap();
    let grows = |bytes: &usize| {
        let answer = server.ask("PUT", &path, Some(&product(code, *bytes)));
        answer.status == 200
    };
    assert!((2..1_000).find(|bytes| !grows(bytes)).is_some());
}

#[test]
fn a_full_organizations_known_accounts_go_on() {
    let mut options = Options::default();
    options.general.resource_bytes_max = Some(20_000);
    let server = Server::start_with(options);
    create_meter(&server);
    submit(&server, &[row("u-1")]);
    let rows = |prefix: &str| {
        let rows = [1, 2, 3].map(|number| row(&format!("{prefix}-{number}")));
        let [known, mut new, mut other] = rows;
        new["account"] = json!("a customer");
        other["account"] = json!("another one");
        [new, known, other]
    };
    let body = json!(rows("file")).to_string();
    let url = ask_for_url(&server, body.len());
    fill(&server);

    submit(&server, &rows("body"));
    let told = |event: &Value| {
        let of = &event["m3terEvent"];
        (
            of["type"].clone(),
            of["uids"].clone(),
            of["message"].clone(),
        )
    };
    let expected = |prefix: &str| {
        (
            json!("InvalidAccountCode"),
            json!([format!("{prefix}-2"), format!("{prefix}-3")]),
            json!(
                "there is no account with the code 'a customer', nor room in the organization's configuration to make one"
            ),
        )
    };
    let events = failures(&server);
    let events: Vec<_> = events.iter().map(told).collect();
    assert_eq!(events, [expected("body")]);

    // What the server notes of its own work fits.
    assert_eq!(upload(&server, &url, &body).status, 200);
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(
        ["status", "totalRows", "failedRows"].map(|name| &job[name]),
        [&json!("succeeded"), &json!(3), &json!(2)]
    );
    let events = failures(&server);
    let events: BTreeSet<_> = events
        .iter()
        .map(|event| told(event).1.to_string())
        .collect();
    assert_eq!(events.len(), 2);
    let stored = server.stored();
    let stored: BTreeSet<_> = stored.iter().map(|row| row["uid"].as_str()).collect();
    assert_eq!(stored, ["u-1", "body-1", "file-1"].map(Some).into());
    let accounts = server.get("/accounts");
    assert_eq!(accounts["data"].as_array().unwrap().len(), 1);
}
