//! Accounts: parents and children, the end of billing entities, and search.

use crate::server::{Options, Server};
use crate::world::{World, refused, with};
use serde_json::{Value, json};

fn account(code: &str) -> Value {
    json!({"name": format!("Name of {code}"), "code": code, "emailAddress": "a@example.com"})
}

fn child(code: &str, parent: &str) -> Value {
    with(
        &account(code),
        &json!({"parentAccountId": parent}).to_string(),
    )
}

fn codes(page: &Value) -> Vec<&str> {
    let data = page["data"].as_array().unwrap();
    data.iter()
        .map(|account| account["code"].as_str().unwrap())
        .collect()
}

#[test]
fn there_are_parents_and_children_and_nothing_beyond() {
    let world = World::start();
    let parent = world.make("/accounts", &account("parent"));
    let first = world.make("/accounts", &child("first", &parent));
    world.make("/accounts", &child("second", &parent));
    let children = world
        .get(&format!("/accounts/{parent}/children"))
        .expect(200);
    assert_eq!(codes(&children), ["second", "first"]);
    let none = world
        .get(&format!("/accounts/{first}/children"))
        .expect(200);
    assert_eq!(none, json!({"data": []}));

    let of_child = world.post("/accounts", &child("grandchild", &first));
    assert_eq!(
        refused(&of_child),
        "Validation failed: parentAccountId: must be an account that has no parent"
    );
    let path = format!("/accounts/{parent}");
    let lower = with(&child("parent", &world.account), r#"{"version": 1}"#);
    assert_eq!(
        refused(&world.put(&path, &lower)),
        "Validation failed: parentAccountId: must be left out for an account that has children"
    );
    let own = with(&child("parent", &parent), r#"{"version": 1}"#);
    assert_eq!(
        refused(&world.put(&path, &own)),
        "Validation failed: parentAccountId: must be another account"
    );
    assert_eq!(
        refused(&world.delete(&path)),
        "Account parent is in use by account 'first'"
    );
    // A child keeps its parent over other changes, and may leave it.
    let path = format!("/accounts/{first}");
    world
        .put(
            &path,
            &with(&child("first one", &parent), r#"{"version": 1}"#),
        )
        .expect(200);
    world
        .put(&path, &with(&account("first one"), r#"{"version": 2}"#))
        .expect(200);
    let children = world
        .get(&format!("/accounts/{parent}/children"))
        .expect(200);
    assert_eq!(codes(&children), ["second"]);
}

#[test]
fn children_are_paged_by_up_to_200() {
    let world = World::start();
    let parent = world.make("/accounts", &account("parent"));
    for number in 1..=3 {
        world.make("/accounts", &child(&format!("child {number}"), &parent));
    }
    let list = format!("/accounts/{parent}/children");
    let first = world.get(&format!("{list}?pageSize=2")).expect(200);
    assert_eq!(codes(&first), ["child 3", "child 2"]);
    let token = first["nextToken"].as_str().unwrap();
    let second = world
        .get(&format!("{list}?pageSize=2&nextToken={token}"))
        .expect(200);
    assert_eq!(codes(&second), ["child 1"]);
    assert_eq!(second["nextToken"], Value::Null);
    world.get(&format!("{list}?pageSize=200")).expect(200);
    assert_eq!(
        refused(&world.get(&format!("{list}?pageSize=201"))),
        "Validation failed: pageSize: must be between 1 and 200"
    );
    let unknown = world.get("/accounts/parent/children");
    assert_eq!(unknown.expect(404)["message"], "Account not found: parent");
}

#[test]
fn nothing_ends_where_there_is_no_billing() {
    let world = World::start();
    let path = format!("/accounts/{}/enddatebillingentities", world.account);
    let body = json!({
        "endDate": "2024-06-01T00:00:00+00:00",
        "applyToChildren": true,
        "billingEntities": ["CONTRACT", "ACCOUNTPLAN", "PREPAYMENT", "PRICINGS", "COUNTER_PRICINGS"],
    });
    assert_eq!(
        world.put(&path, &body).expect(200),
        json!({
            "statusMessage": "The account has no billing entities to end",
            "updatedEntities": {},
            "failedEntities": {},
        })
    );
    for (patch, problem) in [
        (r#"{"endDate": null}"#, "endDate: is required"),
        (
            r#"{"endDate": "June"}"#,
            "endDate: must be an RFC 3339 time with offset, such as 2026-11-01T00:00:00Z",
        ),
        (
            r#"{"billingEntities": null}"#,
            "billingEntities: is required",
        ),
        (
            r#"{"billingEntities": []}"#,
            "billingEntities: must have 1 to 5 items",
        ),
        (
            r#"{"billingEntities": ["PLANS"]}"#,
            "billingEntities[0]: must be one of CONTRACT, ACCOUNTPLAN, PREPAYMENT, PRICINGS, COUNTER_PRICINGS",
        ),
    ] {
        let answer = world.put(&path, &with(&body, patch));
        assert_eq!(refused(&answer), format!("Validation failed: {problem}"));
    }
    let unknown = world.put("/accounts/none/enddatebillingentities", &body);
    assert_eq!(unknown.expect(404)["message"], "Account not found: none");
}

#[test]
fn a_search_finds_by_its_conditions() {
    let world = World::start();
    let parent = world.make("/accounts", &account("Nordic Group"));
    let eur = json!({"currency": "EUR", "purchaseOrderNumber": "PO-2", "parentAccountId": parent});
    let north = world.make("/accounts", &with(&account("north-wind"), &eur.to_string()));
    let usd = json!({"currency": "USD", "purchaseOrderNumber": "PO-1"});
    world.make("/accounts", &with(&account("south wind"), &usd.to_string()));
    for (query, expected) in [
        ("code:north-wind", vec!["north-wind"]),
        ("code:north", vec![]),
        ("code:NORTH-WIND", vec![]),
        ("code~NOR", vec!["north-wind", "Nordic Group"]),
        ("code~wind", vec!["south wind", "north-wind"]),
        ("code~ind", vec![]),
        ("name~name of s", vec!["south wind"]),
        (
            "codes:north-wind,south wind,none",
            vec!["south wind", "north-wind"],
        ),
        ("ids:NORTH,PARENT", vec!["north-wind", "Nordic Group"]),
        ("id:NORTH", vec!["north-wind"]),
        ("id:UPPER", vec!["north-wind"]),
        ("ids:UPPER,PARENT", vec!["north-wind", "Nordic Group"]),
        ("parentAccountId:PARENT", vec!["north-wind"]),
        ("purchaseOrderNumber>PO-1", vec!["north-wind"]),
        (
            "purchaseOrderNumber>=PO-1",
            vec!["south wind", "north-wind"],
        ),
        ("purchaseOrderNumber<PO-2", vec!["south wind"]),
        (
            "purchaseOrderNumber<=PO-2",
            vec!["south wind", "north-wind"],
        ),
        ("currency:EUR$code~wind", vec!["north-wind"]),
        ("currency:EUR$code~south", vec![]),
        (
            "currency:EUR$code~south&operator=OR",
            vec!["south wind", "north-wind"],
        ),
        ("currency:EUR$code~south&operator=AND", vec![]),
        ("dtCreated>2024-01-01$currency : EUR", vec!["north-wind"]),
        ("dtCreated<2024-01-01", vec![]),
        ("dtCreated:2024-01-01", vec![]),
        ("createdBy~service_user_$currency:USD", vec!["south wind"]),
        ("lastModifiedBy:SYSTEM", vec![]),
        ("", vec!["south wind", "north-wind", "Nordic Group", "a"]),
        (
            "&operator=OR",
            vec!["south wind", "north-wind", "Nordic Group", "a"],
        ),
        (
            "&sortBy=code",
            vec!["Nordic Group", "a", "north-wind", "south wind"],
        ),
        (
            "&sortBy=code&sortOrder=DESC",
            vec!["south wind", "north-wind", "a", "Nordic Group"],
        ),
        (
            "&sortBy=dtCreated&sortOrder=ASC",
            vec!["a", "Nordic Group", "north-wind", "south wind"],
        ),
        (
            "&sortBy=code&fromDocument=1&pageSize=2",
            vec!["a", "north-wind"],
        ),
        ("&fromDocument=4", vec![]),
    ] {
        let query = query
            .replace("UPPER", &north.to_uppercase())
            .replace("NORTH,", &format!("{north},"))
            .replace("PARENT", &parent);
        let query = query
            .replace("id:NORTH", &format!("id:{north}"))
            .replace(' ', "%20");
        let query = query.replace('>', "%3E").replace('<', "%3C");
        let found = world
            .get(&format!("/accounts/search?searchQuery={query}"))
            .expect(200);
        assert_eq!(codes(&found), expected, "{query}");
    }
}

#[test]
fn today_is_a_whole_day_to_a_search() {
    let world = World::start();
    let created = world
        .get(&format!("/accounts/{}", world.account))
        .expect(200);
    let created = created["dtCreated"].as_str().unwrap();
    let (day, _) = created.split_once('T').unwrap();
    let count = |condition: &str| {
        let query = condition.replace('>', "%3E").replace('<', "%3C");
        let found = world
            .get(&format!("/accounts/search?searchQuery={query}"))
            .expect(200);
        found["data"].as_array().unwrap().len()
    };
    for (condition, expected) in [
        (format!("dtCreated:{day}"), 1),
        (format!("dtCreated>={day}"), 1),
        (format!("dtCreated>{day}"), 0),
        (format!("dtCreated<={day}"), 1),
        (format!("dtCreated<{day}"), 0),
        (format!("dtCreated~{day}"), 1),
        (format!("dtCreated:{created}"), 1),
        (format!("dtCreated>{created}"), 0),
        (format!("dtCreated>={created}"), 1),
    ] {
        assert_eq!(count(&condition), expected, "{condition}");
    }
}

#[test]
fn a_search_shows_10_and_tells_where_the_next_begins() {
    let world = World::start();
    for number in 1..=11 {
        world.make("/accounts", &account(&format!("account {number}")));
    }
    let first = world.get("/accounts/search").expect(200);
    assert_eq!(codes(&first).len(), 10);
    assert_eq!(first["nextToken"], "10");
    let second = world.get("/accounts/search?fromDocument=10").expect(200);
    assert_eq!(codes(&second), ["account 1", "a"]);
    assert_eq!(second["nextToken"], Value::Null);
    let by_token = world.get("/accounts/search?nextToken=10").expect(200);
    assert_eq!(by_token, second);
    let all = world.get("/accounts/search?pageSize=100").expect(200);
    assert_eq!(codes(&all).len(), 12);
}

#[test]
fn a_search_that_cannot_be_read_is_refused() {
    let world = World::start();
    let fields = "name, code, codes, emailAddress, currency, purchaseOrderNumber, parentAccountId, id, ids, createdBy, \
                  dtCreated, lastModifiedBy, dtLastModified";
    for (query, problem) in [
        (
            "searchQuery=balance:1",
            format!(
                "searchQuery: names the field 'balance', which cannot be searched; those that can are {fields}"
            ),
        ),
        (
            "searchQuery=code",
            "searchQuery: must have one of : > >= < <= ~ between each field and its value"
                .to_owned(),
        ),
        (
            "searchQuery=dtCreated:soon",
            "searchQuery: must be an RFC 3339 time with offset, such as 2026-11-01T00:00:00Z"
                .to_owned(),
        ),
        ("sortBy=balance", format!("sortBy: must be one of {fields}")),
        (
            "sortOrder=UP",
            "sortOrder: must be one of ASC, DESC".to_owned(),
        ),
        (
            "operator=NOT",
            "operator: must be one of AND, OR".to_owned(),
        ),
        (
            "pageSize=0",
            "pageSize: must be between 1 and 100".to_owned(),
        ),
        (
            "pageSize=101",
            "pageSize: must be between 1 and 100".to_owned(),
        ),
        (
            "fromDocument=-1",
            "fromDocument: must be between 0 and 4294967295".to_owned(),
        ),
    ] {
        let answer = world.get(&format!("/accounts/search?{query}"));
        assert_eq!(refused(&answer), format!("Validation failed: {problem}"));
    }
}

#[test]
fn an_account_has_at_most_999_children() {
    let world = World::start();
    let parent = world.make("/accounts", &account("parent"));
    for number in 0..999 {
        world.make("/accounts", &child(&format!("child {number}"), &parent));
    }
    let problem =
        "Validation failed: parentAccountId: must be an account with less than 999 children";
    let one_more = world.post("/accounts", &child("one more", &parent));
    assert_eq!(refused(&one_more), problem);
    let alone = world.post("/accounts", &account("one more")).expect(200);
    let path = format!("/accounts/{}", alone["id"].as_str().unwrap());
    let joining = with(&child("one more", &parent), r#"{"version": 1}"#);
    assert_eq!(refused(&world.put(&path, &joining)), problem);
    assert_eq!(world.get(&path).expect(200), alone);
}

#[test]
fn lists_hold_what_the_caller_may_see() {
    let world = World::start();
    let parent = world.make("/accounts", &account("parent"));
    let seen = world.make("/accounts", &child("seen", &parent));
    world.make("/accounts", &child("hidden", &parent));
    let items = [&parent, &seen].map(|id| format!("config:account/item/{id}"));
    let statements = json!([{"effect": "allow", "action": ["config:retrieve"], "resource": items}]);
    let reader = world.server.with_statements("reader", &statements);
    for (path, expected) in [
        ("/accounts", vec!["seen", "parent"]),
        ("/accounts/search?searchQuery=code~seen", vec!["seen"]),
        ("/accounts/search?sortBy=code", vec!["parent", "seen"]),
    ] {
        let page = world
            .server
            .ask_as(&reader.token, "GET", path, None)
            .expect(200);
        assert_eq!(codes(&page), expected, "{path}");
    }
    let path = format!("/accounts/{parent}/children");
    let page = world
        .server
        .ask_as(&reader.token, "GET", &path, None)
        .expect(200);
    assert_eq!(codes(&page), ["seen"]);
    let path = format!("/accounts/{parent}/enddatebillingentities");
    let refused = world
        .server
        .ask_as(&reader.token, "PUT", &path, Some(&json!({})));
    assert_eq!(refused.expect(403)["message"], "Forbidden");
}

#[test]
fn a_list_that_is_too_large_can_be_narrowed() {
    let mut options = Options::default();
    options.settings.response_max_bytes = 1_000;
    let server = Server::start_with(options);
    let parent = server.post("/accounts", &account("parent"));
    let parent = parent["id"].as_str().unwrap();
    for number in 0..9 {
        server.post("/accounts", &child(&format!("child {number}"), parent));
    }
    for path in [
        "/accounts",
        "/accounts/search",
        &format!("/accounts/{parent}/children"),
    ] {
        let too_large = server.refused(413, "GET", path, None);
        assert_eq!(
            too_large,
            "Response too large; narrow the request with filters"
        );
        server.get(&format!("{path}?pageSize=1"));
    }
}
