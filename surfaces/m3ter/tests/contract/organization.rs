//! Who belongs to an organization: service users, users and invitations.

use crate::server::Server;
use serde_json::{Value, json};

#[test]
fn a_caller_is_told_who_it_is() {
    let server = Server::start();
    let me = server.get("/users/me");
    assert_eq!(me["serviceUser"]["id"], server.acme.admin.id.to_string());
    assert_eq!(me["serviceUser"]["name"], "administrator");
    let organization = &me["organization"];
    assert_eq!(organization["id"], server.acme.id.to_string());
    assert_eq!(organization["orgId"], organization["id"]);
    assert_eq!(organization["organizationName"], "acme");
    assert_eq!(organization["shortName"], "acme");
    assert_eq!(organization["type"], "PRODUCTION");
    assert_eq!(organization["status"], "ACTIVE");
    assert_eq!(me.get("user"), None);
}

#[test]
fn users_are_listed_changed_and_lose_their_access() {
    let server = Server::start();
    let jane = server.user("jane@example.com").to_string();
    let john = server.user("john@example.com").to_string();
    let page = server.get("/users");
    let emails: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["email"].as_str().unwrap())
        .collect();
    assert_eq!(emails, ["john@example.com", "jane@example.com"]);
    let only = server.get(&format!("/users?ids={jane}"));
    assert_eq!(only["data"][0]["id"], *jane);
    assert_eq!(only["data"].as_array().unwrap().len(), 1);

    let path = format!("/users/{jane}");
    let user = server.get(&path);
    assert_eq!(user["firstName"], "Jane");
    assert_eq!(user["organizations"], json!([server.acme.id.to_string()]));
    assert_eq!(user["supportUser"], false);
    let change = json!({
        "version": 1, "email": "other@example.com", "dtEndAccess": "2030-01-01T00:00:00+01:00",
        "permissionPolicy": [{"effect": "ALLOW", "action": ["CONFIG_RETRIEVE"], "resource": ["*"]}],
    });
    let changed = server.put(&path, &change);
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["email"], "jane@example.com");
    assert_eq!(changed["dtEndAccess"], "2029-12-31T23:00:00.000000Z");
    assert_eq!(
        changed["permissionPolicy"],
        json!([{"effect": "allow", "action": ["config:retrieve"], "resource": ["*"]}])
    );
    let cleared = server.put(&path, &json!({"version": 2}));
    assert_eq!(cleared.get("dtEndAccess"), None);
    assert_eq!(cleared.get("permissionPolicy"), None);

    // What is a page to one client is one policy to another.
    let policy = server.post(
        "/permissionpolicies",
        &json!({"name": "p", "permissionPolicy": [{"effect": "allow", "action": ["all"], "resource": ["*"]}]}),
    );
    let grant = format!(
        "/permissionpolicies/{}/addtouser",
        policy["id"].as_str().unwrap()
    );
    server.post(&grant, &json!({"principalId": jane}));
    let granted = server.get(&format!("{path}/permissions"));
    assert_eq!(granted["data"], json!([policy]));
    assert_eq!(granted["name"], "p");
    assert_eq!(granted["id"], policy["id"]);
    let nothing = format!("/users/{john}/permissions");
    assert_eq!(server.get(&nothing), json!({"data": []}));

    let group = server.post("/resourcegroups/user", &json!({"name": "team"}));
    let add = format!(
        "/resourcegroups/user/{}/addresource",
        group["id"].as_str().unwrap()
    );
    server.post(&add, &json!({"targetId": jane, "targetType": "ITEM"}));
    let groups = server.get(&format!("{path}/usergroups"));
    assert_eq!(groups["data"], json!([group]));
    assert_eq!(groups["name"], "team");

    let answer = server.ask("PUT", &format!("{path}/password/resend"), None);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), Some("0"));
    server.refused(404, "PUT", "/users/jane/password/resend", None);
}

#[test]
fn people_are_invited() {
    let server = Server::start();
    let policy = server.get("/permissionpolicies")["data"][0]["id"].clone();
    let invitation = json!({
        "firstName": "Jane", "lastName": "Doe", "email": "jane@example.com",
        "permissionPolicyIds": [policy],
    });
    let made = server.post("/invitations", &invitation);
    assert_eq!(made["accepted"], false);
    assert_eq!(made["permissionPolicyIds"], json!([policy]));
    assert_eq!(
        made["invitingPrincipalId"],
        server.acme.admin.id.to_string()
    );
    let days = |text: &Value| {
        let time = meterd_model::Timestamp::parse(text.as_str().unwrap()).unwrap();
        (time.seconds() - meterd_testkit::now().seconds() + 60) / 86_400
    };
    assert_eq!(days(&made["dtExpiry"]), 30);
    let id = made["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/invitations/{id}")), made);
    assert_eq!(server.get("/invitations")["data"], json!([made]));
    server.refused(404, "DELETE", &format!("/invitations/{id}"), None);

    let bad = json!({
        "firstName": "", "email": "jane", "dtExpiry": "2020-01-01",
        "contactNumber": "0".repeat(51),
    });
    let said = server.refused(400, "POST", "/invitations", Some(&bad));
    for part in [
        "firstName: ",
        "lastName: is required",
        "email: ",
        "contactNumber: ",
        "dtExpiry: must be in the future",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let unknown = json!({
        "firstName": "J", "lastName": "D", "email": "j@example.com", "permissionPolicyIds": ["p"],
    });
    let said = server.refused(400, "POST", "/invitations", Some(&unknown));
    assert!(
        said.starts_with("Validation failed: permissionPolicyIds[0]: "),
        "{said}"
    );
}
