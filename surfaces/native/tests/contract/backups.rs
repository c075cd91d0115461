//! `POST /v1/backups`: who may, where to, and what is there afterwards.

use crate::pinned::pins;
use crate::server::{Options, Server, row};
use meterd_control::{Control, Meter};
use meterd_engine::SystemDisk;
use meterd_engine::testing::SimulatedDisk;
use meterd_testkit::client::{Answer, post};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn back_up(server: &Server, key: &str, directory: &Path) -> Answer {
    let body = json!({"directory": directory}).to_string();
    server.send(&post("/v1/backups").key(key).json(body))
}

#[test]
fn a_backup_holds_what_was_acknowledged_before() {
    let server = Server::start().with_meter();
    let rows: Vec<_> = (0..50).map(|n| row(&format!("m-{n}"))).collect();
    server.ingest(&rows);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/new/one");
    let answer = back_up(&server, &server.admin_key, &directory).expect(201);
    assert_eq!(answer["directory"], json!(directory));
    assert_eq!(answer["measurements"], 50);
    assert!(answer["bytes"].as_u64().unwrap() > 1000, "{answer}");
    let engine = directory.join("engine");
    let report = meterd_engine::verify(&engine, &SystemDisk, &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!((report.measurements, report.ids), (50, 50));
    let settings = meterd_control::Settings::default();
    let control = Control::open(directory.join("control.sqlite"), settings).unwrap();
    let meter = control
        .store()
        .find_by_key::<Meter>(server.acme, "name", "api_calls");
    assert!(meter.unwrap().is_some());
    // The server goes on, and the same place is no longer empty.
    assert_eq!(server.ingest(&[row("m-1"), row("later")])["accepted"], 1);
    let refused = back_up(&server, &server.admin_key, &directory).expect(422);
    assert_eq!(refused["errors"][0]["rule"], "new_directory", "{refused}");
    assert_eq!(refused["errors"][0]["pointer"], "/directory", "{refused}");
    assert!(engine.join("manifest").is_file());
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let answer = back_up(&server, &server.admin_key, &empty).expect(201);
    assert_eq!(answer["measurements"], 51);
}

#[test]
fn what_cannot_be_backed_up() {
    let server = Server::start().with_meter();
    let mut pins = pins("backups");
    let admin = server.admin_key.clone();
    let body = json!({"name": "weak", "permissions": ["organizations:*"]}).to_string();
    let made = server
        .send(&post("/v1/credentials").key(&admin).json(body))
        .expect(201);
    let weak = made["secret"].as_str().unwrap();
    let mut pin = |name: &str, key: &str, body: &str| {
        pins.check(name, &server.send(&post("/v1/backups").key(key).json(body)));
    };
    pin("no directory", &admin, "{}");
    pin(
        "a relative path",
        &admin,
        r#"{"directory":"backups/monday"}"#,
    );
    pin(
        "a path that goes up again",
        &admin,
        r#"{"directory":"/tmp/new/../back"}"#,
    );
    pin("a file", &admin, r#"{"directory":"/dev/null"}"#);
    pin(
        "an organization's key",
        &server.key,
        r#"{"directory":"/dev/null"}"#,
    );
    pin(
        "an administrator without the permission",
        weak,
        r#"{"directory":"/dev/null"}"#,
    );
    pins.finish();
}

#[test]
fn a_backup_that_fails_leaves_nothing_behind() {
    let disk = SimulatedDisk::new();
    let server = Server::start_with(Options {
        disk: Some(disk.clone()),
        ..Options::default()
    })
    .with_meter();
    server.ingest(&[row("a-1")]);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("copy");
    disk.set_space(Some(0));
    let answer = back_up(&server, &server.admin_key, &directory).expect(503);
    assert_eq!(answer["code"], "storage_full", "{answer}");
    assert!(!directory.exists());
    disk.set_space(None);
    back_up(&server, &server.admin_key, &home.path().join("again")).expect(201);
    server.engine.close();
    let answer = back_up(&server, &server.admin_key, &home.path().join("closed")).expect(503);
    assert_eq!(answer["code"], "shutting_down", "{answer}");
}

#[test]
fn a_backup_lies_where_the_server_can_write_and_outside_of_its_data() {
    let server = Server::start().with_meter();
    let home = tempfile::tempdir().unwrap();
    let data = server.control.path().parent().unwrap().to_owned();
    let into_data = home.path().join("into-data");
    std::os::unix::fs::symlink(&data, &into_data).unwrap();
    let to_itself = home.path().join("to-itself");
    std::os::unix::fs::symlink(&to_itself, &to_itself).unwrap();
    for (directory, rule) in [
        (data.join("inside"), "outside_data"),
        (data.join("engine/segments/inside"), "outside_data"),
        (into_data.join("a/b"), "outside_data"),
        (into_data, "outside_data"),
        (to_itself, "writable_directory"),
        (home.path().join("n".repeat(300)), "writable_directory"),
        ("/proc/new/backup".into(), "writable_directory"),
    ] {
        let refused = back_up(&server, &server.admin_key, &directory).expect(422);
        assert_eq!(refused["errors"][0]["rule"], rule, "{refused}");
        assert_eq!(refused["errors"][0]["pointer"], "/directory", "{refused}");
    }
    assert!(!data.join("inside").exists());
    // A link to an empty directory elsewhere is as good as that one; and nobody else can look into the copy.
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&empty, &link).unwrap();
    let new = home.path().join("a/new/one");
    for directory in [&link, &new] {
        back_up(&server, &server.admin_key, directory).expect(201);
        let made = std::fs::metadata(directory.join("engine")).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o700);
    }
    let made = std::fs::metadata(new).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o700);
}
