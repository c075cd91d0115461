//! What policies allow and deny, on the very next request.

use crate::server::{Server, ServiceUser, message};
use serde_json::{Value, json};

/// Whether the caller may make the request; if not, the answer is the one word for it.
fn may(
    server: &Server,
    caller: &ServiceUser,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> bool {
    let answer = server.ask_as(&caller.token, method, path, body);
    match answer.status {
        200 => true,
        403 => {
            assert_eq!(message(&answer, 403), "Forbidden");
            false
        }
        other => panic!("{other} {}", String::from_utf8_lossy(&answer.body)),
    }
}

fn product(code: &str) -> Value {
    json!({"name": code, "code": code})
}

fn allow(action: &str, resource: &str) -> Value {
    json!({"effect": "allow", "action": [action], "resource": [resource]})
}

fn deny(action: &str, resource: &str) -> Value {
    json!({"effect": "deny", "action": [action], "resource": [resource]})
}

fn made(server: &Server, path: &str, body: &Value) -> String {
    server.post(path, body)["id"].as_str().unwrap().to_owned()
}

fn codes(server: &Server, caller: &ServiceUser) -> Vec<String> {
    let answer = server.ask_as(&caller.token, "GET", "/products", None);
    let page = answer.expect(200);
    let items = page["data"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_key_without_a_policy_may_fetch_a_token_and_nothing_else() {
    let server = Server::start();
    let nobody = server.service_user("nobody", &[]);
    let id = made(&server, "/products", &product("a"));
    for (method, path, body) in [
        ("GET", "/products", None),
        ("GET", &*format!("/products/{id}"), None),
        ("POST", "/products", Some(product("b"))),
        ("PUT", &*format!("/products/{id}"), Some(product("b"))),
        ("DELETE", &*format!("/products/{id}"), None),
        ("GET", "/users", None),
        ("GET", "/users/me", None),
        ("GET", "/permissionpolicies", None),
        ("GET", "/resourcegroups/meter", None),
        ("GET", "/invitations", None),
    ] {
        assert!(
            !may(&server, &nobody, method, path, body.as_ref()),
            "{method} {path}"
        );
    }
}

#[test]
fn deny_beats_allow() {
    let server = Server::start();
    let id = made(&server, "/products", &product("a"));
    let other = made(&server, "/products", &product("b"));
    let item = format!("/products/{id}");
    let statements = json!([
        allow("ALL", "*"),
        deny("config:retrieve", &format!("config:product/item/{id}")),
        deny("CONFIG_DELETE", "config:product/*"),
    ]);
    let caller = server.with_statements("careful", &statements);
    assert!(!may(&server, &caller, "GET", &item, None));
    assert!(may(
        &server,
        &caller,
        "GET",
        &format!("/products/{other}"),
        None
    ));
    assert!(!may(
        &server,
        &caller,
        "DELETE",
        &format!("/products/{other}"),
        None
    ));
    let change = json!({"name": "a", "code": "a", "version": 1});
    assert!(may(&server, &caller, "PUT", &item, Some(&change)));
    assert!(may(
        &server,
        &caller,
        "POST",
        "/products",
        Some(&product("c"))
    ));
    // Lists leave out what is denied.
    assert_eq!(codes(&server, &caller), ["c", "b"]);
}

#[test]
fn an_item_that_is_allowed_is_no_leave_to_make_more() {
    let server = Server::start();
    let id = made(&server, "/products", &product("a"));
    made(&server, "/products", &product("b"));
    let statements = json!([allow("all", &format!("config:product/item/{id}"))]);
    let caller = server.with_statements("one", &statements);
    assert!(may(
        &server,
        &caller,
        "GET",
        &format!("/products/{id}"),
        None
    ));
    assert!(!may(
        &server,
        &caller,
        "POST",
        "/products",
        Some(&product("c"))
    ));
    assert_eq!(codes(&server, &caller), ["a"]);
    assert!(!may(&server, &caller, "GET", "/meters", None));
    assert!(may(
        &server,
        &caller,
        "DELETE",
        &format!("/products/{id}"),
        None
    ));
}

#[test]
fn pages_of_what_may_be_seen_are_full() {
    let server = Server::start();
    let mut allowed = Vec::new();
    for number in 0..6 {
        let id = made(&server, "/products", &product(&format!("p{number}")));
        if number % 2 == 0 {
            allowed.push(format!("config:product/item/{id}"));
        }
    }
    let statements =
        json!([{"effect": "allow", "action": ["config:retrieve"], "resource": allowed}]);
    let caller = server.with_statements("even", &statements);
    let answer = server.ask_as(&caller.token, "GET", "/products?pageSize=2", None);
    let page = answer.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let token = page["nextToken"].as_str().unwrap();
    let rest = format!("/products?pageSize=2&nextToken={token}");
    let page = server.ask_as(&caller.token, "GET", &rest, None).expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(page.get("nextToken"), None);
}

#[test]
fn groups_gather_what_may_be_seen_and_who_may_see_it() {
    let server = Server::start();
    let first = made(&server, "/products", &product("first"));
    let second = made(&server, "/products", &product("second"));
    let group = |kind: &str, name: &str| {
        made(
            &server,
            &format!("/resourcegroups/{kind}"),
            &json!({"name": name}),
        )
    };
    let add = |kind: &str, group: &str, target: &str, target_type: &str| {
        let path = format!("/resourcegroups/{kind}/{group}/addresource");
        server.post(
            &path,
            &json!({"targetId": target, "targetType": target_type}),
        )
    };
    let outer = group("product", "outer");
    let inner = group("product", "inner");
    add("product", &outer, &inner, "GROUP");
    add("product", &inner, &first, "ITEM");

    let policy = json!({
        "name": "seers",
        "permissionPolicy": [allow("config:retrieve", &format!("config:product/group/{outer}"))],
    });
    let policy = made(&server, "/permissionpolicies", &policy);
    let nobody = server.service_user("nobody", &[]);
    let callers = group("serviceuser", "callers");
    let grant = json!({"principalId": callers});
    server.post(
        &format!("/permissionpolicies/{policy}/addtousergroup"),
        &grant,
    );
    assert!(!may(&server, &nobody, "GET", "/products", None));

    add("serviceuser", &callers, &nobody.id.to_string(), "ITEM");
    assert_eq!(codes(&server, &nobody), ["first"]);
    assert!(!may(
        &server,
        &nobody,
        "GET",
        &format!("/products/{second}"),
        None
    ));
    add("product", &outer, &second, "ITEM");
    assert_eq!(codes(&server, &nobody), ["second", "first"]);

    let remove = format!("/resourcegroups/product/{outer}/removeresource");
    server.post(&remove, &json!({"targetId": inner, "targetType": "GROUP"}));
    assert_eq!(codes(&server, &nobody), ["second"]);
    server.post(
        &format!("/permissionpolicies/{policy}/removefromusergroup"),
        &grant,
    );
    assert!(!may(&server, &nobody, "GET", "/products", None));
}

#[test]
fn policies_act_on_the_very_next_request() {
    let server = Server::start();
    let caller = server.service_user("caller", &[]);
    let policy = server.post(
        "/permissionpolicies",
        &json!({"name": "readers", "permissionPolicy": [allow("config:retrieve", "config:product")]}),
    );
    let path = format!("/permissionpolicies/{}", policy["id"].as_str().unwrap());
    let grant = json!({"principalId": caller.id});
    assert!(!may(&server, &caller, "GET", "/products", None));
    server.post(&format!("{path}/addtoserviceuser"), &grant);
    assert!(may(&server, &caller, "GET", "/products", None));
    let other = json!({
        "name": "readers", "version": 1,
        "permissionPolicy": [allow("config:retrieve", "config:meter")],
    });
    server.put(&path, &other);
    assert!(!may(&server, &caller, "GET", "/products", None));
    assert!(may(&server, &caller, "GET", "/meters", None));
    server.post(&format!("{path}/removefromserviceuser"), &grant);
    assert!(!may(&server, &caller, "GET", "/meters", None));
}

#[test]
fn statements_are_answered_in_lower_case_and_bad_ones_are_named() {
    let server = Server::start();
    let statements = json!([
        {"effect": "ALLOW", "action": ["ALL"], "resource": ["*"]},
        {"effect": "Deny", "action": ["CONFIG_CREATE", "MEASUREMENTS_FILEUPLOAD", "marketplaceUsage:create"],
         "resource": ["config:meter/*", "measurements:*"]},
    ]);
    let made = server.post(
        "/permissionpolicies",
        &json!({"name": "p", "permissionPolicy": statements}),
    );
    assert_eq!(made["managedPolicy"], false);
    assert_eq!(
        made["permissionPolicy"],
        json!([
            {"effect": "allow", "action": ["all"], "resource": ["*"]},
            {"effect": "deny", "action": ["config:create", "measurements:fileUpload", "marketplaceUsage:create"],
             "resource": ["config:meter/*", "measurements:*"]},
        ])
    );
    let refused = |statements: Value| {
        let body = json!({"name": "q", "permissionPolicy": statements});
        server.refused(400, "POST", "/permissionpolicies", Some(&body))
    };
    assert_eq!(
        refused(json!([])),
        "Validation failed: permissionPolicy: must have 1 to 100 items"
    );
    let message = refused(json!([
        {"effect": "perhaps", "action": [], "resource": ["config:meter", "meter"]},
        {"effect": "allow", "action": ["config:destroy"]},
    ]));
    for part in [
        "permissionPolicy[0].effect: must be one of",
        "permissionPolicy[0].action: must have 1 to",
        "permissionPolicy[0].resource[1]: must be a resource such as",
        "permissionPolicy[1].action[0]: must be one of",
        "permissionPolicy[1].resource: is required",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let twice = json!({"name": "p", "permissionPolicy": [allow("all", "*")]});
    assert_eq!(
        server.refused(400, "POST", "/permissionpolicies", Some(&twice)),
        "Name 'p' is already in use"
    );
}

#[test]
fn the_administrators_policy_is_managed() {
    let server = Server::start();
    let page = server.get("/permissionpolicies");
    let policy = &page["data"][0];
    assert_eq!(policy["name"], "Administrator");
    assert_eq!(policy["managedPolicy"], true);
    assert_eq!(policy["createdBy"], "SYSTEM");
    let path = format!("/permissionpolicies/{}", policy["id"].as_str().unwrap());
    let change = json!({"name": "x", "version": 1, "permissionPolicy": [allow("all", "*")]});
    for (method, body) in [("PUT", Some(&change)), ("DELETE", None)] {
        let said = server.refused(400, method, &path, body);
        assert!(said.contains("the server manages it"), "{said}");
    }
    assert_eq!(server.get(&path), *policy);
}

#[test]
fn policies_are_granted_and_withdrawn() {
    let server = Server::start();
    let policy = made(
        &server,
        "/permissionpolicies",
        &json!({"name": "p", "permissionPolicy": [allow("all", "*")]}),
    );
    let path = format!("/permissionpolicies/{policy}");
    let nobody = server.service_user("nobody", &[]);
    let group = made(&server, "/resourcegroups/user", &json!({"name": "team"}));
    let meters = made(&server, "/resourcegroups/meter", &json!({"name": "team"}));
    let user = server.user("jane@example.com").to_string();
    for (word, principal, kind) in [
        ("serviceuser", nobody.id.to_string(), "SERVICEUSER"),
        ("user", user, "USER"),
        ("usergroup", group, "USERGROUP"),
    ] {
        let body = json!({"principalId": principal});
        let add = format!("{path}/addto{word}");
        let granted = server.post(&add, &body);
        assert_eq!(granted["permissionPolicyId"], *policy);
        assert_eq!(granted["principalId"], *principal);
        assert_eq!(granted["principalType"], kind);
        assert_eq!(granted["version"], 1);
        assert_eq!(server.post(&add, &body), granted);
        let said = server.refused(400, "DELETE", &path, None);
        assert!(said.contains("is in use by permission grant"), "{said}");
        let remove = format!("{path}/removefrom{word}");
        assert_eq!(server.post(&remove, &body), granted);
        assert_eq!(
            server.refused(404, "POST", &remove, Some(&body)),
            format!("Permission grant not found: {principal}")
        );
        for unknown in [policy.as_str(), "nobody", meters.as_str()] {
            let body = json!({"principalId": unknown});
            let said = server.refused(400, "POST", &add, Some(&body));
            assert!(
                said.starts_with("Validation failed: principalId: "),
                "{said}"
            );
        }
        assert_eq!(
            server.refused(400, "POST", &add, Some(&json!({}))),
            "Validation failed: principalId: is required"
        );
    }
    // They take no body, whatever comes.
    let granted = server
        .ask("POST", &format!("{path}/addtosupportusers"), None)
        .expect(200);
    assert_eq!(granted["principalType"], "SUPPORTUSERS");
    assert_eq!(granted.get("principalId"), None);
    server.post(&format!("{path}/removefromsupportusers"), &json!({}));
    server.refused(404, "POST", &format!("{path}/removefromsupportusers"), None);
    let unknown = "/permissionpolicies/p/addtouser";
    server.refused(404, "POST", unknown, Some(&json!({})));
    assert_eq!(server.delete(&path)["id"], *policy);
}

#[test]
fn groups_are_found_under_their_own_type() {
    let server = Server::start();
    let created = server.post("/resourcegroups/meter", &json!({"name": "EU"}));
    let id = created["id"].as_str().unwrap();
    let path = format!("/resourcegroups/meter/{id}");
    assert_eq!(server.get(&path), created);
    assert_eq!(
        server.get("/resourcegroups/meter")["data"],
        json!([created])
    );
    assert_eq!(server.get("/resourcegroups/account"), json!({"data": []}));
    server.refused(404, "GET", &format!("/resourcegroups/account/{id}"), None);
    // A name is free in another type.
    server.post("/resourcegroups/account", &json!({"name": "EU"}));
    server.refused(
        400,
        "POST",
        "/resourcegroups/meter",
        Some(&json!({"name": "EU"})),
    );

    let contents = || {
        server
            .ask("POST", &format!("{path}/contents?pageSize=1"), None)
            .expect(200)
    };
    assert_eq!(contents(), json!({"data": []}));
    let item = json!({"targetId": "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11", "targetType": "ITEM"});
    assert_eq!(server.post(&format!("{path}/addresource"), &item), created);
    assert_eq!(server.post(&format!("{path}/addresource"), &item), created);
    let page = contents();
    assert_eq!(page["data"][0]["targetId"], item["targetId"]);
    assert_eq!(page["data"][0]["targetType"], "ITEM");
    assert!(page["data"][0]["id"].is_string());
    assert_eq!(page.get("nextToken"), None);

    let outer = made(&server, "/resourcegroups/meter", &json!({"name": "world"}));
    let nest = |target: &str| json!({"targetId": target, "targetType": "GROUP"});
    let add = format!("/resourcegroups/meter/{outer}/addresource");
    for wrong in [outer.as_str(), "EU", item["targetId"].as_str().unwrap()] {
        let said = server.refused(400, "POST", &add, Some(&nest(wrong)));
        assert!(said.starts_with("Validation failed: targetId: "), "{said}");
    }
    server.post(&add, &nest(id));
    let said = server.refused(400, "DELETE", &path, None);
    assert!(said.contains("is in use by group member"), "{said}");

    assert_eq!(
        server.post(&format!("{path}/removeresource"), &item),
        created
    );
    server.refused(404, "POST", &format!("{path}/removeresource"), Some(&item));
    // What it holds goes with a group, and is no reason to keep it.
    server.delete(&format!("/resourcegroups/meter/{outer}"));
    assert_eq!(server.delete(&path), created);
}

/// What is granted or denied to a group must not end unnoticed.
#[test]
fn groups_do_not_lose_what_policies_say_of_them() {
    let server = Server::start();
    let group = |name: &str| {
        made(
            &server,
            "/resourcegroups/serviceuser",
            &json!({"name": name}),
        )
    };
    let add = |group: &str, target: &str, target_type: &str| {
        let path = format!("/resourcegroups/serviceuser/{group}/addresource");
        let body = json!({"targetId": target, "targetType": target_type});
        server.ask("POST", &path, Some(&body))
    };
    // An id is one id, however it is spelled.
    let caller = server.service_user("caller", &["Administrator"]);
    let denied = group("denied");
    let policy = json!({"name": "none", "permissionPolicy": [deny("all", "*")]});
    let policy = made(&server, "/permissionpolicies", &policy);
    let grant = json!({"principalId": denied});
    server.post(
        &format!("/permissionpolicies/{policy}/addtousergroup"),
        &grant,
    );
    add(&denied, &caller.id.to_string().to_uppercase(), "ITEM").expect(200);
    assert!(!may(&server, &caller, "GET", "/products", None));
    let remove = format!("/resourcegroups/serviceuser/{denied}/removeresource");
    let member = json!({"targetId": caller.id, "targetType": "ITEM"});
    server.post(&remove, &member);
    assert!(may(&server, &caller, "GET", "/products", None));

    // A group that a policy names is there, is of the items that are meant, and stays.
    for (place, resource) in [
        (0, format!("config:meter/group/{denied}")),
        (
            1,
            "config:meter/group/0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11".to_owned(),
        ),
    ] {
        let mut resources = vec!["config:meter".to_owned(); place];
        resources.push(resource);
        let statement = json!({"effect": "deny", "action": ["all"], "resource": resources});
        let policy = json!({"name": "x", "permissionPolicy": [statement]});
        assert_eq!(
            server.refused(400, "POST", "/permissionpolicies", Some(&policy)),
            format!(
                "Validation failed: permissionPolicy[0].resource[{place}]: must name an existing resource group"
            )
        );
    }
    let named = made(&server, "/resourcegroups/meter", &json!({"name": "named"}));
    let pattern = format!("config:meter/group/{named}");
    let policy = json!({"name": "secret", "permissionPolicy": [deny("config:retrieve", &pattern)]});
    let policy = made(&server, "/permissionpolicies", &policy);
    let path = format!("/resourcegroups/meter/{named}");
    assert_eq!(
        server.refused(400, "DELETE", &path, None),
        "Resource group named is in use by permission policy 'secret'"
    );
    server.delete(&format!("/permissionpolicies/{policy}"));
    server.delete(&path);

    // Deeper than groups are followed there are none.
    let chain: Vec<_> = (0..9).map(|number| group(&number.to_string())).collect();
    for pair in chain[..8].windows(2) {
        add(&pair[0], &pair[1], "GROUP").expect(200);
    }
    let refusal =
        "Validation failed: targetId: must not be added: groups hold groups to a depth of 8";
    assert_eq!(message(&add(&chain[7], &chain[8], "GROUP"), 400), refusal);
    assert_eq!(message(&add(&chain[8], &chain[0], "GROUP"), 400), refusal);
    assert_eq!(message(&add(&chain[7], &chain[0], "GROUP"), 400), refusal);
    add(&chain[6], &chain[8], "GROUP").expect(200);
}

/// An export takes out all there is, so that leave for exporting alone is not enough.
#[test]
fn exports_need_leave_for_what_they_take_out() {
    let server = Server::start();
    let exporter = |name: &str, more: &[Value]| {
        let mut statements = vec![
            allow("config:create", "config:dataexportjob"),
            allow("config:create", "config:dataexportschedule"),
        ];
        statements.extend(more.iter().cloned());
        server.with_statements(name, &json!(statements))
    };
    let usage = json!({"sourceType": "USAGE", "timePeriod": "TODAY"});
    let accounts =
        json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS", "BILLS"]});
    let outcomes = |caller: &ServiceUser| {
        [&usage, &accounts].map(|body| {
            let jobs = may(&server, caller, "POST", "/dataexports/adhoc", Some(body));
            let schedules = may(
                &server,
                caller,
                "POST",
                "/dataexports/schedules",
                Some(body),
            );
            assert_eq!(jobs, schedules);
            jobs
        })
    };
    assert_eq!(outcomes(&exporter("nothing", &[])), [false, false]);
    let measurements = allow("measurements:export", "measurements:measurements");
    assert_eq!(outcomes(&exporter("usage", &[measurements])), [true, false]);
    let all = allow("config:export", "config:account");
    assert_eq!(
        outcomes(&exporter("accounts", std::slice::from_ref(&all))),
        [false, true]
    );
    let one = deny(
        "config:export",
        "config:account/item/0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11",
    );
    assert_eq!(outcomes(&exporter("most", &[all, one])), [false, false]);
    let schedule = server.post("/dataexports/schedules", &usage);
    let path = format!(
        "/dataexports/schedules/{}",
        schedule["id"].as_str().unwrap()
    );
    let changer = server.with_statements(
        "changer",
        &json!([allow("config:update", "config:dataexportschedule")]),
    );
    let mut change = usage.clone();
    change["version"] = json!(1);
    assert!(!may(&server, &changer, "PUT", &path, Some(&change)));
}
