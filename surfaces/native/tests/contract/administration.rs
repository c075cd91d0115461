//! What administrators may do: read the server's own events, and give no more than they hold.

use crate::server::Server;
use meterd_control::{NewCredential, SecretForm};
use meterd_testkit::client::{Answer, get, post, request};
use serde_json::{Value, json};

fn types(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect()
}

/// Another administrator, with its id.
fn administrator(server: &Server, permissions: &[&str]) -> (String, String) {
    let made = create(
        server,
        &server.admin_key,
        &json!({"permissions": permissions}),
    )
    .expect(201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

fn create(server: &Server, key: &str, members: &Value) -> Answer {
    let mut body = json!({"name": "made"});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    server.send(&post("/v1/credentials").key(key).json(body.to_string()))
}

#[test]
fn the_servers_own_events_are_for_administrators() {
    let server = Server::start().with_meter();
    let events = |key: &str| server.send(&get("/v1/events").key(key)).expect(200);
    let own = events(&server.admin_key);
    // Two organizations, and the administrator's key.
    assert_eq!(
        types(&own),
        [
            "credential.created",
            "organization.created",
            "organization.created"
        ]
    );
    let sequences: Vec<_> = own["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, [3, 2, 1]);
    assert_eq!(own["items"][1]["data"]["name"], "rival");

    let acme = events(&server.key);
    assert_eq!(types(&acme), ["meter.created", "credential.created"]);
    assert_eq!(acme["items"][0]["sequence"], 2);

    let (_, reader) = administrator(&server, &["events:read"]);
    assert_eq!(types(&events(&reader))[0], "credential.created");
    let (_, other) = administrator(&server, &["credentials:*"]);
    let refused = server.send(&get("/v1/events").key(&other)).expect(403);
    assert_eq!(refused["code"], "permission_missing");
}

#[test]
fn nobody_gives_more_than_it_holds() {
    let server = Server::start();
    let (helper, key) = administrator(&server, &["credentials:*"]);
    let refused = create(&server, &key, &json!({"permissions": ["*"]})).expect(403);
    assert_eq!(refused["code"], "permission_missing");
    assert!(
        refused["detail"].as_str().unwrap().contains("permission *"),
        "{refused}"
    );
    let held = json!({"permissions": ["credentials:read"]});
    // `credentials:*` holds all of its resource.
    create(&server, &key, &held).expect(201);
    let of_acme = json!({"permissions": ["*"], "organization": "acme"});
    create(&server, &key, &of_acme).expect(201);

    let listed = server.send(&get("/v1/credentials").key(&key)).expect(200);
    let whole = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["permissions"] == json!(["*"]))
        .unwrap()["id"]
        .as_str()
        .unwrap();
    // The secret of a stronger key would be the same grant.
    let rotate = |id: &str| {
        let path = format!("/v1/credentials/{id}/rotate");
        server.send(&post(path).key(&key).json("{}"))
    };
    assert_eq!(rotate(whole).expect(403)["code"], "permission_missing");
    let last = server
        .send(&request("DELETE", format!("/v1/credentials/{whole}")).key(&key))
        .expect(409);
    assert_eq!(last["code"], "transition_not_allowed");
    rotate(&helper).expect(200);
}

#[test]
fn a_key_that_has_expired_already_is_not_made() {
    let server = Server::start();
    let past = json!({"permissions": ["*"], "expires_at": "2020-01-01T00:00:00Z"});
    let refused = create(&server, &server.admin_key, &past);
    let refused = refused.json();
    assert_eq!(refused["code"], "invalid_request", "{refused}");
    assert_eq!(refused["errors"][0]["rule"], "future", "{refused}");
}

#[test]
fn an_allow_list_may_name_mapped_addresses() {
    let server = Server::start().with_meter();
    let members = json!({
        "permissions": ["meters:read"], "organization": "acme", "addresses": ["::ffff:127.0.0.1"],
    });
    let made = create(&server, &server.admin_key, &members).expect(201);
    assert_eq!(made["addresses"], json!(["127.0.0.1/32"]));
    let key = made["secret"].as_str().unwrap();
    server.send(&get("/v1/meters").key(key)).expect(200);
}

/// Also those of other surfaces, whose clients may check what they are given.
#[test]
fn a_new_secret_looks_as_its_surface_has_them() {
    let server = Server::start();
    let rotated = |new: NewCredential| {
        let (credential, old) = server.issue(|issued| *issued = new);
        let rotate = post(format!("/v1/credentials/{}/rotate", credential.id));
        let answer = server.send(&rotate.key(&server.admin_key).json("{}"));
        (
            old,
            answer.expect(200)["secret"].as_str().unwrap().to_owned(),
        )
    };
    let (old, new) = rotated(NewCredential::oauth_client(
        Some(server.acme),
        "m3ter",
        "client",
    ));
    assert_eq!((new.len(), new.contains('_')), (old.len(), false), "{new}");
    let wattwatchers = NewCredential::api_key(
        Some(server.acme),
        "wattwatchers",
        "device",
        SecretForm::WATTWATCHERS,
    );
    let (old, new) = rotated(wattwatchers);
    assert!(new.starts_with("key_") && new.len() == old.len(), "{new}");
}

#[test]
fn a_credential_is_edited_and_keeps_its_secret() {
    let server = Server::start().with_meter();
    let members = json!({"permissions": ["meters:read"], "organization": "acme"});
    let made = create(&server, &server.admin_key, &members).expect(201);
    let (id, key) = (
        made["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    let edit = |id: &str, body: &Value| {
        let request = request("PATCH", format!("/v1/credentials/{id}"));
        server.send(&request.key(&server.admin_key).json(body.to_string()))
    };
    let meters = || server.send(&get("/v1/meters").key(key));
    meters().expect(200);
    let body = json!({"permissions": ["events:read"], "name": "renamed", "expires_at": "2100-01-01T00:00:00Z"});
    let edited = edit(id, &body).expect(200);
    assert_eq!(edited["permissions"], json!(["events:read"]));
    assert_eq!(edited["name"], "renamed");
    assert_eq!(edited.get("secret"), None);
    assert_eq!(meters().expect(403)["code"], "permission_missing");
    let body = json!({"permissions": ["meters:read"], "addresses": ["192.0.2.1"]});
    assert_eq!(
        edit(id, &body).expect(200)["expires_at"],
        "2100-01-01T00:00:00Z"
    );
    assert_eq!(meters().expect(403)["code"], "address_not_allowed");
    let body = json!({"addresses": [], "expires_at": null});
    assert_eq!(edit(id, &body).expect(200)["expires_at"], Value::Null);
    meters().expect(200);
    let rule = |answer: Answer| answer.json()["errors"][0]["rule"].clone();
    assert_eq!(
        rule(edit(id, &json!({"permissions": ["everything"]}))),
        "one_of"
    );
    assert_eq!(
        rule(edit(id, &json!({"limits": {"all": 1}}))),
        "unknown_field"
    );
    assert_eq!(rule(edit(id, &json!({"limits": {"all": "x"}}))), "type");
    assert_eq!(rule(edit(id, &json!({"secret": "mine"}))), "unknown_field");
    assert_eq!(
        edit("x", &json!({})).expect(404)["code"],
        "resource_not_found"
    );
    // The last administrator keeps what makes it one.
    let listed = server
        .send(&get("/v1/credentials").key(&server.admin_key))
        .expect(200);
    let admin = listed["items"][0]["id"].as_str().unwrap();
    let refused = edit(admin, &json!({"permissions": ["credentials:*"]})).expect(409);
    assert_eq!(refused["code"], "transition_not_allowed");
    // What a client of m3ter may do is told by its policies.
    let client = NewCredential::oauth_client(Some(server.acme), "m3ter", "client");
    let (client, _) = server.issue(|issued| *issued = client);
    let id = client.id.to_string();
    assert_eq!(
        rule(edit(&id, &json!({"permissions": ["meters:read"]}))),
        "immutable"
    );
    assert_eq!(rule(edit(&id, &json!({"limits": {}}))), "immutable");
    edit(&id, &json!({"name": "other"})).expect(200);
}

#[test]
fn a_key_is_for_a_surface_that_is_served() {
    let server = Server::start();
    let members = json!({"permissions": ["*"], "surface": "nowhere"});
    let refused = create(&server, &server.admin_key, &members).json();
    assert_eq!(refused["errors"][0]["pointer"], "/surface", "{refused}");
    assert_eq!(refused["errors"][0]["allowed"], json!(["native"]));
    let members = json!({"permissions": ["*"], "surface": "native", "environment": "test"});
    let refused = create(&server, &server.admin_key, &members).json();
    // Its measurements are in one data set.
    assert_eq!(refused["errors"][0]["pointer"], "/environment", "{refused}");
    assert_eq!(refused["errors"][0]["allowed"], json!(["live"]));
    let members = json!({"permissions": ["*"], "surface": "native", "environment": "live"});
    let made = create(&server, &server.admin_key, &members).expect(201);
    assert_eq!(
        (&made["surface"], &made["environment"]),
        (&json!("native"), &json!("live"))
    );
}
