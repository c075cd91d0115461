//! Tokens, the organization of the path, and the order in which a request is looked at.

use crate::server::{GRANT, Options, Server, basic, message, token_request};
use meterd_surface_m3ter::TokenRefusal;
use meterd_testkit::client::{get, post, request};
use meterd_testkit::{now, system};
use serde_json::{Value, json};
use std::time::Duration;

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_key_and_its_secret_are_worth_a_token() {
    let server = Server::start();
    let admin = &server.acme.admin;
    let asked = [
        token_request(&admin.key, &admin.secret).json(GRANT),
        token_request(&admin.key, &admin.secret)
            .json(r#"{"grant_type":"client_credentials","scope":"everything","more":[1]}"#),
        token_request(&admin.key, &admin.secret).typed(FORM, "grant_type=client_credentials"),
        token_request(&admin.key, &admin.secret).typed(
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            "scope=a&scope=b&grant_type=client%5Fcredentials",
        ),
        token_request(&admin.key, &admin.secret).body(GRANT),
    ];
    let mut tokens = Vec::new();
    for request in asked {
        let answer = server.send(&request);
        let mut body = answer.expect(200);
        let token = body["access_token"].take();
        assert_eq!(
            body,
            json!({"access_token": null, "expires_in": 18_000, "token_type": "Bearer", "scope": null})
        );
        tokens.push(token.as_str().unwrap().to_owned());
    }
    // All of them work, beside each other.
    for token in &tokens {
        assert!(tokens.iter().filter(|other| *other == token).count() == 1);
        let answer = server.ask_as(token, "GET", "/products", None);
        assert_eq!(answer.expect(200), json!({"data": []}));
    }
}

#[test]
fn what_is_no_good_for_a_token_says_so() {
    let server = Server::start();
    let admin = &server.acme.admin;
    let token = "/m3ter/oauth/token";
    let nobody = [
        token_request(&admin.key, "wrong").json(GRANT),
        token_request("wrong", &admin.secret).json(GRANT),
        token_request("", "").json(GRANT),
        post(token).json(GRANT),
        post(token).header("Authorization", "Basic !!!").json(GRANT),
        post(token)
            .header("Authorization", "Basic bm9jb2xvbg==")
            .json(GRANT),
        post(token).key(&admin.token).json(GRANT),
        // Nothing of the body is told to whoever is nobody.
        token_request(&admin.key, "wrong").json("{"),
    ];
    for request in nobody {
        assert_eq!(message(&server.send(&request), 403), "Unauthorized");
    }
    let refused = |body: &str| {
        let request = token_request(&admin.key, &admin.secret).json(body);
        message(&server.send(&request), 400)
    };
    assert_eq!(
        refused(r#"{"grant_type":"password"}"#),
        "Validation failed: grant_type: must be client_credentials"
    );
    assert_eq!(refused("{}"), "Validation failed: grant_type: is required");
    assert!(refused("{").starts_with("Invalid JSON: "));
    assert!(refused("").starts_with("Invalid JSON: "));
    let form = token_request(&admin.key, &admin.secret).typed(FORM, "grant_type=password");
    assert_eq!(
        message(&server.send(&form), 400),
        "Validation failed: grant_type: must be client_credentials"
    );
    let xml = token_request(&admin.key, &admin.secret).typed("text/xml", "<a/>");
    message(&server.send(&xml), 400);
}

#[test]
fn the_token_endpoint_can_answer_401_as_the_standard_has_it() {
    let mut options = Options::default();
    options.settings.token_refusal = TokenRefusal::Unauthorized;
    let server = Server::start_with(options);
    let wrong = token_request(&server.acme.admin.key, "wrong").json(GRANT);
    assert_eq!(message(&server.send(&wrong), 401), "Unauthorized");
    // And only there.
    let answer = server.send(&get(server.path("/products")).key("garbage"));
    assert_eq!(message(&answer, 403), "Unauthorized");
}

#[test]
fn without_a_good_token_everything_is_unauthorized() {
    let server = Server::start();
    let admin = &server.acme.admin;
    let credentials = server.control.credentials();
    let credential = credentials.find(admin.credential).unwrap();
    let tokens = server.control.tokens();
    let day = Duration::from_hours(24);
    let yesterday = now().saturating_sub(day);
    let expired = tokens
        .issue(&credential, Duration::from_secs(1), yesterday)
        .unwrap();
    let mut forged = admin.token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let products = server.path("/products");
    let bad = [
        get(&*products),
        get(&*products).key(expired.token.reveal()),
        get(&*products).key("garbage"),
        get(&*products).key(&forged),
        get(&*products).key(&admin.secret),
        get(&*products).header("Authorization", &basic(&admin.key, &admin.secret)),
        get(&*products).header("Authorization", "Bearer"),
    ];
    for request in bad {
        assert_eq!(message(&server.send(&request), 403), "Unauthorized");
    }
    // A key that is taken away ends its tokens; another key of the same service user goes on.
    let other = server.service_user("administrator", &[]);
    assert_eq!(other.id, admin.id);
    credentials.revoke(admin.credential, &system()).unwrap();
    let answer = server.ask("GET", "/products", None);
    assert_eq!(message(&answer, 403), "Unauthorized");
    server
        .ask_as(&other.token, "GET", "/products", None)
        .expect(200);
}

#[test]
fn another_organization_is_forbidden_whether_it_exists_or_not() {
    let server = Server::start();
    let own = server.acme.id.to_string();
    let paths = [
        server.rival.path("/products"),
        "/m3ter/organizations/0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11/products".to_owned(),
        "/m3ter/organizations/acme/products".to_owned(),
        format!("/m3ter/organizations/{}/products", own.to_uppercase()),
    ];
    let upper_is_same = own == own.to_uppercase();
    for path in paths.iter().take(if upper_is_same { 3 } else { 4 }) {
        let answer = server.send(&get(path.as_str()).key(&server.acme.admin.token));
        assert_eq!(message(&answer, 403), "Forbidden");
    }
}

/// token → organization → permission → syntax → id → fields → version (2.2).
#[test]
fn what_is_wrong_is_told_in_order() {
    let server = Server::start();
    let nothing = server.service_user("nothing", &[]);
    let admin = server.acme.admin.clone();
    let created = server.post("/products", &json!({"name": "a", "code": "a"}));
    let id = created["id"].as_str().unwrap();
    let known = format!("/products/{id}");
    let unknown = "/products/0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
    let bad_fields = json!({"name": "", "version": 7}).to_string();
    let stale = json!({"name": "b", "code": "b", "version": 7}).to_string();
    let put = |organization: &crate::server::Tenant, path: &str, token: &str, body: &str| {
        let request = request("PUT", organization.path(path)).key(token);
        server.send(&request.json(body.to_owned()))
    };
    let acme = &server.acme;
    let says = |answer, status, beginning: &str| {
        let message = message(&answer, status);
        assert!(message.starts_with(beginning), "{message}");
    };
    says(
        put(&server.rival, unknown, "garbage", "{"),
        403,
        "Unauthorized",
    );
    says(
        put(&server.rival, unknown, &nothing.token, "{"),
        403,
        "Forbidden",
    );
    says(put(acme, unknown, &nothing.token, "{"), 403, "Forbidden");
    says(put(acme, unknown, &admin.token, "{"), 400, "Invalid JSON");
    says(
        put(acme, unknown, &admin.token, &bad_fields),
        404,
        "Product not found",
    );
    says(
        put(acme, &known, &admin.token, &bad_fields),
        400,
        "Validation failed: name",
    );
    says(
        put(acme, &known, &admin.token, &stale),
        400,
        "Version mismatch",
    );
    assert_eq!(server.get(&known), created);
}

#[test]
fn a_token_costs_no_write() {
    let server = Server::start();
    let admin = &server.acme.admin;
    let events = |server: &Server| {
        let filter = meterd_control::EventFilter::default();
        let control = &server.control;
        let page = control
            .events()
            .newest(server.acme.id, &filter, None, 1_000);
        page.unwrap().0.len()
    };
    let before = events(&server);
    for _ in 0..300 {
        let request = token_request(&admin.key, &admin.secret).json(GRANT);
        server.send(&request).expect(200);
    }
    assert_eq!(events(&server), before);
}

#[test]
fn a_restart_keeps_keys_tokens_and_what_they_may() {
    let server = Server::start();
    let created = server.post("/products", &json!({"name": "a", "code": "a"}));
    let caller = server.with_statements(
        "reader",
        &json!([{"effect": "allow", "action": ["config:retrieve"], "resource": ["config:product"]}]),
    );
    let server = server.restart();
    assert_eq!(server.app.settings.token_lifetime_seconds, 18_000);
    let list = |token: &str, path: &str| server.ask_as(token, "GET", path, None);
    assert_eq!(
        list(&caller.token, "/products").expect(200),
        json!({"data": [created]})
    );
    assert_eq!(message(&list(&caller.token, "/meters"), 403), "Forbidden");
    let request = token_request(&caller.key, &caller.secret).json(GRANT);
    server.send(&request).expect(200);
}

#[test]
fn paths_and_methods_that_are_not_there_are_not_found() {
    let server = Server::start();
    let token = &server.acme.admin.token;
    for (method, path) in [
        ("GET", "/nothing"),
        ("PATCH", "/products"),
        ("DELETE", "/products"),
        ("OPTIONS", "/products"),
        ("POST", "/users"),
        ("GET", "/PRODUCTS"),
    ] {
        let answer = server.ask_as(token, method, path, None);
        assert_eq!(message(&answer, 404), "Not Found", "{method} {path}");
    }
    // As one well-known client puts its paths together (8.3).
    for path in [
        "//organizations/{}/products",
        "/organizations/{}//products/",
    ] {
        let path = format!("/m3ter{}", path.replace("{}", &server.acme.id.to_string()));
        let answer = server.send(&get(path).key(token));
        assert_eq!(
            answer.expect(200),
            json!({"data": Value::Array(Vec::new())})
        );
    }
}
