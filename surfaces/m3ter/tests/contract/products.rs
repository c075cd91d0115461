//! What all configuration objects have in common, shown by the simplest of them.

use crate::server::{Server, message};
use meterd_testkit::client::request;
use serde_json::{Value, json};

fn product(code: &str) -> Value {
    json!({"name": "Storage", "code": code, "customFields": {"tier": "gold", "seats": 7}})
}

#[test]
fn a_product_is_created_read_replaced_and_deleted() {
    let server = Server::start();
    let created = server.post("/products", &product("storage"));
    let id = created["id"].as_str().unwrap();
    let item = format!("/products/{id}");
    assert_eq!(created["version"], 1);
    assert_eq!(created["name"], "Storage");
    assert_eq!(created["customFields"], json!({"tier": "gold", "seats": 7}));
    let author = format!("SERVICE_USER_{}", server.acme.admin.id);
    assert_eq!(created["createdBy"], author);
    assert_eq!(created["lastModifiedBy"], author);
    assert_eq!(created["dtCreated"], created["dtLastModified"]);
    assert_eq!(server.get(&item), created);

    let change = json!({"name": "Cold storage", "code": "storage", "version": 1});
    let changed = server.put(&item, &change);
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["name"], "Cold storage");
    assert_eq!(changed["customFields"], Value::Null);
    assert_eq!(changed["dtCreated"], created["dtCreated"]);
    assert_eq!(server.get(&item), changed);

    let stale = server.refused(400, "PUT", &item, Some(&change));
    assert_eq!(stale, "Version mismatch: expected 2, got 1");
    let without = json!({"name": "x", "code": "storage"});
    assert_eq!(
        server.refused(400, "PUT", &item, Some(&without)),
        "Validation failed: version: is required"
    );
    assert_eq!(server.get(&item), changed);

    assert_eq!(server.delete(&item), changed);
    assert_eq!(
        server.refused(404, "GET", &item, None),
        format!("Product not found: {id}")
    );
    // A code is free again once its entity is gone.
    server.post("/products", &product("storage"));
}

#[test]
fn an_entity_is_found_by_its_id_in_its_organization_alone() {
    let server = Server::start();
    let created = server.post("/products", &product("storage"));
    let id = created["id"].as_str().unwrap();
    for wrong in [
        "storage",
        "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11",
        &id.replace('-', ""),
    ] {
        let path = format!("/products/{wrong}");
        assert_eq!(
            server.refused(404, "GET", &path, None),
            format!("Product not found: {wrong}")
        );
        server.refused(404, "DELETE", &path, None);
    }
    let rivals = server.rival.path(&format!("/products/{id}"));
    let answer = server.send(&request("GET", rivals).key(&server.rival.admin.token));
    assert_eq!(message(&answer, 404), format!("Product not found: {id}"));
}

#[test]
fn lists_come_in_pages_newest_first() {
    let server = Server::start();
    let codes: Vec<_> = (0..5).map(|n| format!("p{n}")).collect();
    for code in &codes {
        server.post("/products", &product(code));
    }
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    let mut path = "/products?pageSize=2".to_owned();
    loop {
        let page = server.get(&path);
        let items = page["data"].as_array().unwrap().clone();
        sizes.push(items.len());
        seen.extend(
            items
                .iter()
                .map(|item| item["code"].as_str().unwrap().to_owned()),
        );
        let Some(token) = page.get("nextToken") else {
            break;
        };
        path = format!("/products?pageSize=2&nextToken={}", token.as_str().unwrap());
    }
    assert_eq!(sizes, [2, 2, 1]);
    seen.reverse();
    assert_eq!(seen, codes);
    for bad in ["pageSize=0", "pageSize=201", "nextToken=x"] {
        server.refused(400, "GET", &format!("/products?{bad}"), None);
    }
}
