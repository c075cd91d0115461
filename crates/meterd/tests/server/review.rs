//! What a hostile reader of the command line found: commands that granted, accepted or missed more than the API does.

use crate::support::{Home, Server, furnish, run};
use serde_json::json;

/// A directory with the organization `acme`, its server stopped.
fn furnished() -> Home {
    let home = Home::new();
    let server = Server::start(&home);
    furnish(&server, &server.admin_key());
    assert_eq!(server.stop(), Some(0));
    home
}

fn files(home: &Home) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(home.path("data"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn verify_lists_every_damaged_document_and_changes_nothing() {
    let home = furnished();
    let database = rusqlite::Connection::open(home.path("data").join("control.sqlite")).unwrap();
    let damaged = database
        .execute(
            "UPDATE resources SET document = '{}' WHERE kind IN ('organization', 'meter')",
            [],
        )
        .unwrap();
    assert_eq!(damaged, 2);
    database.close().unwrap();
    let before = files(&home);
    let done = run(&["verify", "--data", &home.data()]).ended_with(
        1,
        &[
            "problem: organization ",
            "problem: meter ",
            "control: ",
            "PROBLEMS WERE FOUND",
        ],
    );
    assert_eq!(done.stdout.matches("problem: ").count(), 2, "{done:?}");
    assert_eq!(files(&home), before);
}

/// What no way of making a key accepts, and what its refusal names.
const BAD_KEYS: [(&[&str], &str); 4] = [
    (
        &["--name", "x", "--permission", "measurments:write"],
        "permissions",
    ),
    (&["--name", "two\nlines", "--permission", "*"], "name"),
    (&["--name", " blank", "--permission", "*"], "name"),
    (
        &[
            "--name",
            "x",
            "--permission",
            "*",
            "--expires-at",
            "2020-01-01T00:00:00Z",
        ],
        "expires_at",
    ),
];

#[test]
fn a_key_that_the_api_refuses_is_refused_everywhere() {
    let home = furnished();
    let create = |bad: &[&str], target: &[&str]| {
        run(&[&["key", "create", "--organization", "acme"], bad, target].concat())
    };
    let data = home.data();
    for (bad, named) in BAD_KEYS {
        create(bad, &["--data", &data]).failed_with(&[named]);
    }
    for (key, named) in [
        (
            "name = \"x\"\npermissions = [\"measurments:write\"]",
            "permissions",
        ),
        ("name = \"two\\nlines\"\npermissions = [\"*\"]", "name"),
    ] {
        let toml = format!("[[organization]]\nname = \"acme\"\n\n[[organization.key]]\n{key}\n");
        let file = home.write("wanted.toml", toml);
        run(&["apply", &file, "--data", &data]).failed_with(&["acme", named]);
    }
    let admin = run(&[
        "key",
        "create",
        "--name",
        "a",
        "--permission",
        "*",
        "--data",
        &data,
    ])
    .succeeded()
    .after("secret");
    let server = Server::start(&home);
    for (bad, named) in BAD_KEYS {
        let target = ["--server", &server.base_url, "--admin-key", &admin];
        create(bad, &target).failed_with(&[named]);
    }
    // Longer than the API allows is a wrong command line, wherever it goes.
    let nobody = "00000000-0000-7000-8000-000000000000";
    run(&["key", "rotate", nobody, "--overlap-seconds", "2592001"])
        .ended_with(2, &["overlap-seconds", "2592000"]);
}

#[test]
fn allow_lists_may_name_mapped_addresses() {
    let home = furnished();
    let data = home.data();
    let made = run(&[
        "key",
        "create",
        "--organization",
        "acme",
        "--name",
        "x",
        "--permission",
        "meters:read",
        "--address",
        "::ffff:127.0.0.1",
        "--data",
        &data,
    ])
    .succeeded();
    let file = home.write(
        "wanted.toml",
        "[[organization]]\nname = \"acme\"\n\n[[organization.key]]\nname = \"y\"\n\
         permissions = [\"meters:read\"]\naddresses = [\"::ffff:127.0.0.0/104\", \"192.0.2.1\"]\n",
    );
    let applied = run(&["apply", &file, "--data", &data]).succeeded();
    let again = run(&["apply", &file, "--data", &data]).succeeded();
    assert!(again.stdout.contains("key y: unchanged"), "{again:?}");
    let (_, applied) = applied.stdout.split_once("(shown once): ").unwrap();
    let server = Server::start(&home);
    for secret in [made.after("secret").as_str(), applied.trim()] {
        server.client(secret).get("/v1/meters").ok();
    }
}

#[test]
fn the_last_administrator_is_not_revoked() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin = server.client(&server.admin_key());
    let listed = admin.get("/v1/credentials").ok();
    let id = listed["items"][0]["id"].as_str().unwrap();
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    run(&["key", "revoke", id, "--data", &data]).failed_with(&["last active administrator"]);
    run(&[
        "key",
        "create",
        "--name",
        "b",
        "--permission",
        "*",
        "--data",
        &data,
    ])
    .succeeded();
    run(&["key", "revoke", id, "--data", &data]).succeeded();
}

#[test]
fn a_limit_that_would_never_count_is_refused() {
    let home = Home::new();
    let limit = |name: &str, class: &str| {
        format!(
            "[[limit]]\nname = \"{name}\"\nscope = \"server\"\nclass = \"{class}\"\nlimit = 9\nwindow_seconds = 1\n"
        )
    };
    for (toml, words) in [
        (limit("a", "ingets"), vec!["ingets", "ingest"]),
        (
            limit("a", "ingest") + &limit("a", "query"),
            vec!["\"a\"", "twice"],
        ),
    ] {
        let file = home.write("meterd.toml", toml);
        run(&["serve", "--config", &file, "--data", &home.data()]).failed_with(&words);
        assert!(!home.path("data").exists());
    }
}

#[test]
fn the_audit_trail_of_the_server_can_be_read() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin = server.client(&server.admin_key());
    admin
        .post("/v1/organizations", &json!({"name": "acme"}))
        .ok();
    let events = admin.get("/v1/events").ok();
    assert_eq!(events["items"][0]["type"], "organization.created");
    assert_eq!(events["items"][1]["type"], "credential.created");
}
