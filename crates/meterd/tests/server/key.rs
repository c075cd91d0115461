//! `meterd key`, beside a stopped server and against a running one.

use crate::support::{Client, Home, Server, exchange, furnish, run, until};
use std::time::{Duration, SystemTime};

/// What `key list` says of a key.
fn line_of(listed: &str, id: &str) -> String {
    let line = listed.lines().find(|line| line.starts_with(id));
    line.unwrap_or_else(|| panic!("{id} is not in {listed}"))
        .to_owned()
}

/// Runs `meterd key …` on one target.
fn key(arguments: &[&str], target: &[&str]) -> crate::support::Done {
    let mut all = vec!["key"];
    all.extend(arguments);
    all.extend(target);
    run(&all)
}

/// Creates, lists, rotates and revokes on one target; `works` tells whether a secret is good at present.
fn whole_life(target: &[&str], works: &dyn Fn(&str) -> bool) {
    let created = key(
        &[
            "create",
            "--organization",
            "acme",
            "--name",
            "backend",
            "--permission",
            "meters:read",
            "--permission",
            "measurements:*",
        ],
        target,
    )
    .succeeded();
    let (id, secret) = (created.after("id"), created.after("secret"));
    assert!(works(&secret));
    let list = || {
        key(&["list", "--organization", "acme"], target)
            .succeeded()
            .stdout
    };
    let line = line_of(&list(), &id);
    assert!(
        line.contains("active") && line.contains("backend"),
        "{line}"
    );
    assert!(
        line.contains("[meters:read measurements:*]")
            || line.contains("[measurements:* meters:read]"),
        "{line}"
    );
    assert!(!list().contains(&secret), "a list shows no secret");

    let rotated = key(&["rotate", &id, "--overlap-seconds", "3600"], target).succeeded();
    let second = rotated.after("secret");
    assert_ne!(second, secret);
    assert!(
        works(&second) && works(&secret),
        "both work during the overlap"
    );
    let third = key(&["rotate", &id], target).succeeded().after("secret");
    assert!(works(&third) && !works(&second) && !works(&secret));

    key(&["revoke", &id], target).succeeded();
    assert!(!works(&third));
    assert!(line_of(&list(), &id).contains("revoked"));

    let nobody = "00000000-0000-7000-8000-000000000000";
    key(&["revoke", nobody], target).failed_with(&[nobody]);
    key(&["rotate", nobody], target).failed_with(&[nobody]);
    let bad = ["create", "--organization", "acme", "--name", "x"];
    let with = |more: &[&'static str]| [&bad[..], more].concat();
    key(&with(&["--permission", "Not A Permission"]), target).failed_with(&["permissions"]);
    key(&with(&["--permission", "*", "--address", "1.2.3"]), target).failed_with(&["address"]);
    key(
        &with(&["--permission", "*", "--expires-at", "tomorrow"]),
        target,
    )
    .failed_with(&["expires"]);
    let elsewhere = ["create", "--organization", "nobody", "--name", "x"];
    key(&[&elsewhere[..], &["--permission", "*"]].concat(), target).failed_with(&["rganization"]);
}

#[test]
fn against_a_running_server() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    let client = furnish(&server, &admin_key);
    let target = ["--server", &server.base_url, "--admin-key", &admin_key];
    whole_life(&target, &|secret| {
        let answer = server.client(secret).get("/v1/meters");
        if answer.status == 200 {
            return true;
        }
        assert!(
            ["credentials_unknown", "credentials_revoked"].contains(&answer.problem(401).as_str())
        );
        false
    });

    // Only an administrator may.
    let target = ["--server", &server.base_url, "--admin-key", client.key()];
    key(&["list"], &target).failed_with(&["403"]);
    let target = ["--server", &server.base_url, "--admin-key", "mtr_wrong"];
    key(&["list"], &target).failed_with(&["401"]);
    let target = ["--server", "http://127.0.0.1:1", "--admin-key", "mtr_wrong"];
    key(&["list"], &target).failed_with(&["reach the server"]);
}

#[test]
fn beside_a_stopped_server() {
    let home = Home::new();
    let server = Server::start(&home);
    furnish(&server, &server.admin_key());
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    whole_life(&["--data", &data], &|secret| {
        let server = Server::start(&home);
        let answer = server.client(secret).get("/v1/meters");
        assert_eq!(server.stop(), Some(0));
        answer.status == 200
    });
}

#[test]
fn a_new_administrator_offline_and_the_expiry_and_address_of_a_key() {
    let home = Home::new();
    let server = Server::start(&home);
    let first = server.admin_key();
    furnish(&server, &first);
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    let target = ["--data", data.as_str()];
    let create = |more: &[&str]| {
        let arguments = [&["create", "--name", "made", "--permission", "*"], more].concat();
        key(&arguments, &target).succeeded().after("secret")
    };
    let admin = create(&[]);
    let soon = SystemTime::now() + Duration::from_secs(2);
    let expires_at = meterd_model::Timestamp::of_system(soon).to_string();
    let past = create(&["--organization", "acme", "--expires-at", &expires_at]);
    let elsewhere = create(&["--organization", "acme", "--address", "192.0.2.0/24"]);
    let here = create(&["--organization", "acme", "--address", "127.0.0.1"]);
    let listed = key(&["list"], &target).succeeded().stdout;
    assert_eq!(listed.lines().count(), 2, "the administrators: {listed}");

    let server = Server::start(&home);
    assert!(
        !server.stdout().contains("shown once"),
        "there is an administrator already"
    );
    let status = |client: Client, path: &str| client.get(path).status;
    assert_eq!(status(server.client(&admin), "/v1/organizations"), 200);
    assert_eq!(status(server.client(&first), "/v1/organizations"), 200);
    until("the key expires", || SystemTime::now() > soon);
    assert_eq!(
        server.client(&past).get("/v1/meters").problem(401),
        "credentials_expired"
    );
    assert_eq!(
        server.client(&elsewhere).get("/v1/meters").problem(403),
        "address_not_allowed"
    );
    assert_eq!(status(server.client(&here), "/v1/meters"), 200);
}

#[test]
fn a_directory_without_data_is_refused_and_not_made() {
    let home = Home::new();
    let data = home.data();
    key(&["list"], &["--data", &data]).failed_with(&["no data directory"]);
    assert!(!home.path("data").exists());
}

#[test]
fn a_key_pair_of_the_m3ter_api_is_good_for_tokens() {
    let home = Home::new();
    let acme = home.write("acme.toml", "[[organization]]\nname = \"acme\"\n");
    let data = home.data();
    run(&["apply", &acme, "--data", &data]).succeeded();
    let target = ["--data", &data];
    let create = |name: &str, more: &[&str]| {
        let mut arguments = vec![
            "create",
            "--surface",
            "m3ter",
            "--organization",
            "acme",
            "--name",
            name,
        ];
        arguments.extend(more);
        key(&arguments, &target)
    };
    let admin = create("billing", &[]).succeeded();
    let restricted = create("restricted", &["--no-policy"]).succeeded();
    create("other", &["--policy", "Nobody's"]).failed_with(&["Nobody's"]);
    let rotated = key(&["rotate", &restricted.after("id")], &target).succeeded();
    let without = ["create", "--surface", "m3ter", "--name", "billing"];
    key(&without, &target).failed_with(&["--organization"]);

    let server = Server::start(&home);
    let base_url = server.base_url.clone();
    let organization = admin.after("organization");
    let products = format!("/m3ter/organizations/{organization}/products");
    let client = |key: &str, secret: &str| Client::of_key_pair(&base_url, key, secret);
    let admin = client(&admin.after("key"), &admin.after("secret")).unwrap();
    assert_eq!(admin.get(&products).ok()["data"], serde_json::json!([]));
    let key = restricted.after("key");
    assert_eq!(
        client(&key, &restricted.after("secret"))
            .err()
            .unwrap()
            .status,
        403
    );
    let restricted = client(&key, &rotated.after("secret")).unwrap();
    assert_eq!(restricted.get(&products).status, 403);
    assert_eq!(server.stop(), Some(0));
}

/// Creates and edits a key of the FSM Navigator API on one target; `status` is that of a path below the API, asked with
/// a key.
fn life_of_an_fsm_key(target: &[&str], status: &dyn Fn(&str, &str) -> u16) {
    let create = |more: &[&str]| {
        let mut arguments = vec!["create", "--surface", "fsm-navigator", "--name", "app"];
        arguments.extend(["--organization", "acme"]);
        arguments.extend(more);
        key(&arguments, target)
    };
    let created = create(&["--permission", "jobs:read", "--limit", "fsm-read=1"]).succeeded();
    let id = created.after("id");
    let secret = created.after("secret");
    assert!(secret.starts_with("fsm_live_"), "{secret}");
    let test = create(&["--permission", "jobs:read", "--environment", "test"]).succeeded();
    assert!(test.after("secret").starts_with("fsm_test_"));
    create(&["--permission", "jobs:*"]).failed_with(&["permissions[0]", "scope"]);
    create(&["--permission", "jobs:read", "--limit", "none=1"]).failed_with(&["none"]);
    assert_eq!(status(&secret, "/jobs"), 200);
    assert_eq!(status(&secret, "/customers"), 403);

    let change = |more: &[&str]| {
        let arguments = [&["change", id.as_str()], more].concat();
        key(&arguments, target)
    };
    change(&["--permission", "customers:read"]).succeeded();
    assert_eq!(status(&secret, "/customers"), 200);
    assert_eq!(status(&secret, "/jobs"), 403);
    change(&["--address", "192.0.2.0/24", "--name", "moved"]).succeeded();
    assert_eq!(status(&secret, "/customers"), 403);
    change(&["--any-address"]).succeeded();
    assert_eq!(status(&secret, "/customers"), 200);
    change(&["--permission", "*"]).failed_with(&["permissions[0]"]);
    let listed = key(&["list", "--organization", "acme"], target).succeeded();
    let line = line_of(&listed.stdout, &id);
    assert!(
        line.contains("moved") && line.contains("[customers:read]"),
        "{line}"
    );
    let rotated = key(&["rotate", &id], target).succeeded().after("secret");
    assert!(rotated.starts_with("fsm_live_"), "{rotated}");
    key(&["revoke", &id], target).succeeded();
    assert_eq!(status(&rotated, "/customers"), 401);
}

fn fsm_status(server: &Server, key: &str, path: &str) -> u16 {
    let request = format!(
        "GET /fsm-navigator/api/v1{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\n\r\n"
    );
    let answer = exchange(server.connect(), request.as_bytes());
    let status = answer.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

#[test]
fn keys_of_the_fsm_navigator_api() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    furnish(&server, &admin_key);
    let target = ["--server", &server.base_url, "--admin-key", &admin_key];
    life_of_an_fsm_key(&target, &|key, path| fsm_status(&server, key, path));
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    life_of_an_fsm_key(&["--data", &data], &|key, path| {
        let server = Server::start(&home);
        let status = fsm_status(&server, key, path);
        assert_eq!(server.stop(), Some(0));
        status
    });
}
