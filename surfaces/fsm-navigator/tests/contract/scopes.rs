//! Every scope against every operation (2.2).

use crate::server::{Server, refused};
use meterd_surface_fsm_navigator::SCOPES;
use serde_json::json;
use std::collections::BTreeSet;

/// Method, path as routes have it, and the scope that the operation needs.
pub(crate) const OPERATIONS: [(&str, &str, &str); 44] = [
    ("GET", "/jobs", "jobs:read"),
    ("POST", "/jobs", "jobs:write"),
    ("PUT", "/jobs", "jobs:write"),
    ("PATCH", "/jobs", "jobs:write"),
    ("GET", "/jobs/{id}", "jobs:read"),
    ("PUT", "/jobs/{id}", "jobs:write"),
    ("PATCH", "/jobs/{id}", "jobs:write"),
    ("GET", "/customers", "customers:read"),
    ("POST", "/customers", "customers:write"),
    ("PUT", "/customers", "customers:write"),
    ("GET", "/customers/{id}", "customers:read"),
    ("PUT", "/customers/{id}", "customers:write"),
    ("GET", "/customers/{id}/locations", "customers:read"),
    ("POST", "/customers/{id}/locations", "customers:write"),
    ("PUT", "/customers/{id}/locations", "customers:write"),
    (
        "GET",
        "/customers/{id}/locations/{location_id}",
        "customers:read",
    ),
    (
        "PUT",
        "/customers/{id}/locations/{location_id}",
        "customers:write",
    ),
    ("GET", "/assets", "assets:read"),
    ("POST", "/assets", "assets:write"),
    ("PUT", "/assets", "assets:write"),
    ("PATCH", "/assets", "assets:write"),
    ("GET", "/assets/{id}", "assets:read"),
    ("PUT", "/assets/{id}", "assets:write"),
    ("PATCH", "/assets/{id}", "assets:write"),
    ("GET", "/assets/{id}/service_history", "assets:read"),
    ("POST", "/assets/{id}/service", "assets:service"),
    ("POST", "/assets/{id}/meter_reading", "assets:meter"),
    ("POST", "/assets/{id}/transfer", "assets:transfer"),
    ("GET", "/inventory", "inventory:read"),
    ("POST", "/inventory", "inventory:write"),
    ("PUT", "/inventory", "inventory:write"),
    ("PATCH", "/inventory", "inventory:write"),
    ("GET", "/inventory/{id}", "inventory:read"),
    ("PUT", "/inventory/{id}", "inventory:write"),
    ("PATCH", "/inventory/{id}", "inventory:write"),
    ("GET", "/inventory/{id}/stock", "inventory:read"),
    ("GET", "/inventory/{id}/transactions", "inventory:read"),
    ("POST", "/inventory/{id}/adjust", "inventory:write"),
    ("POST", "/inventory?sub=transfer", "inventory:transfer"),
    ("GET", "/inventory?sub=low-stock", "inventory:read"),
    ("GET", "/inventory?sub=locations", "inventory:read"),
    (
        "GET",
        "/inventory?sub=locations/{location_id}",
        "inventory:read",
    ),
    ("GET", "/technicians", "technicians:read"),
    ("GET", "/technicians/{id}", "technicians:read"),
];

/// The path as a client asks for it.
pub(crate) fn path(template: &str, id: &str, below: &str) -> String {
    let template = template.replace("locations/{location_id}", "locations&location_id={below}");
    // In the path where nothing but ids is.
    let template = if template.contains('?') {
        template
    } else {
        template.replace("&location_id=", "/")
    };
    template.replace("{id}", id).replace("{below}", below)
}

fn resource(scope: &str) -> &str {
    scope.split(':').next().unwrap()
}

#[test]
fn every_route_is_in_the_table() {
    let server = Server::start();
    let routed: BTreeSet<_> = server
        .routes
        .iter()
        .flat_map(|(template, methods)| {
            let path = template.strip_prefix("/api/v1").unwrap();
            methods.iter().map(move |method| (method.clone(), path))
        })
        .collect();
    let listed = OPERATIONS
        .into_iter()
        .map(|(method, path, _)| (method.to_owned(), path));
    assert_eq!(routed, listed.collect());
}

#[test]
fn each_scope_grants_its_operations_and_no_other() {
    let server = Server::start();
    for held in SCOPES {
        let key = server.key_with(&[held]);
        for (method, template, needed) in OPERATIONS {
            let path = path(template, "999", "999");
            let body = (method != "GET").then(|| json!({}));
            let answer = server.ask_as(&key, method, &path, body.as_ref());
            let grants =
                *held == needed || (*held, needed) == ("inventory:write", "inventory:read");
            if grants {
                assert!(
                    [200, 400, 404].contains(&answer.status),
                    "{held}: {method} {path}: {}",
                    answer.status
                );
                continue;
            }
            let (status, code, message) = refused(&answer);
            let expected = if resource(held) == resource(needed) {
                "scope_not_authorized"
            } else {
                "forbidden"
            };
            assert_eq!(
                (status, code.as_str()),
                (403, expected),
                "{held}: {method} {path}"
            );
            let named = format!("This API key does not include the required scope: {needed}.");
            assert_eq!(message, named);
        }
    }
}

#[test]
fn all_scopes_but_one_do_not_grant_its_operations() {
    let server = Server::start();
    for missing in SCOPES.iter().filter(|scope| **scope != "inventory:read") {
        let others: Vec<_> = SCOPES
            .iter()
            .copied()
            .filter(|scope| scope != missing)
            .collect();
        let key = server.key_with(&others);
        for (method, template, needed) in OPERATIONS {
            let answer = server.ask_as(&key, method, &path(template, "999", "999"), None);
            assert_eq!(
                answer.status == 403,
                needed == *missing,
                "{missing}: {method} {template}"
            );
        }
    }
}
