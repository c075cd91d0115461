//! `meterd verify` on sound and on damaged directories: a report, never a panic, and nothing changed.

use crate::support::{Done, Home, Server, call, furnish, run};
use serde_json::json;
use std::path::PathBuf;

/// A directory with a few hundred measurements, its server stopped.
fn filled() -> Home {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    for batch in 0..10 {
        let rows: Vec<_> = (0..50)
            .map(|row| call(&format!("m-{batch}-{row}"), "1.5"))
            .collect();
        client
            .post("/v1/measurements", &json!({"measurements": rows}))
            .ok();
    }
    assert_eq!(server.stop(), Some(0));
    home
}

fn verify(home: &Home) -> Done {
    run(&["verify", "--data", &home.data()])
}

fn log_file(home: &Home) -> PathBuf {
    let log = home.path("data").join("engine").join("log");
    let mut files: Vec<_> = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.remove(0)
}

/// Changes one byte, and changes it back.
fn with_flipped_byte(path: &PathBuf, offset: usize, check: impl FnOnce()) {
    let good = std::fs::read(path).unwrap();
    let mut bad = good.clone();
    bad[offset] ^= 0x20;
    std::fs::write(path, &bad).unwrap();
    check();
    assert_eq!(std::fs::read(path).unwrap(), bad, "verify changed a file");
    std::fs::write(path, &good).unwrap();
}

#[test]
fn a_sound_directory_is_in_order() {
    let home = filled();
    for _ in 0..2 {
        verify(&home).succeeded().ended_with(
            0,
            &[
                "500 current, 500 versions, 500 ids",
                "everything is in order",
            ],
        );
    }
    run(&["verify", "--data", &home.text("nowhere")]).failed_with(&["nowhere"]);
}

#[test]
fn a_flipped_byte_of_the_log_is_found() {
    let home = filled();
    let log = log_file(&home);
    let length = std::fs::read(&log).unwrap().len();
    for offset in [0, 9, 20, 40, length / 3, length / 2, length * 2 / 3] {
        with_flipped_byte(&log, offset, || {
            let name = log.file_name().unwrap().to_string_lossy();
            verify(&home).ended_with(1, &["problem: ", &name, "PROBLEMS WERE FOUND"]);
            let data = home.data();
            // And the server does not start on it as if nothing were.
            run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]).failed_with(&["open"]);
        });
    }
    verify(&home).succeeded();
}

#[test]
fn a_missing_log_file_is_found() {
    let home = filled();
    let log = log_file(&home);
    std::fs::rename(&log, log.with_file_name("00000000000000000002.log")).unwrap();
    verify(&home).ended_with(1, &["problem: "]);
}

#[test]
fn a_torn_end_is_told_and_is_no_problem() {
    let home = filled();
    let log = log_file(&home);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend([7; 5]);
    std::fs::write(&log, &bytes).unwrap();
    verify(&home).ended_with(0, &["interrupted write left 5 bytes", "500 current"]);
    let server = Server::start(&home);
    assert_eq!(server.stop(), Some(0));
    let done = verify(&home).succeeded();
    assert!(!done.stdout.contains("interrupted"), "{done:?}");
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_control_database_is_found() {
    let home = filled();
    let database = home.path("data").join("control.sqlite");
    let good = std::fs::read(&database).unwrap();
    let damages: [(&str, Damage); 4] = [
        ("no SQLite file", |bytes| bytes[..16].fill(b'x')),
        ("a page overwritten", |bytes| bytes[4096..8192].fill(0xa5)),
        ("all pages but the first overwritten", |bytes| {
            bytes[4096..].fill(0);
        }),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ];
    for (what, damage) in damages {
        println!("{what}");
        let mut bad = good.clone();
        damage(&mut bad);
        std::fs::write(&database, &bad).unwrap();
        let done = verify(&home);
        assert!(matches!(done.code, Some(1 | 3)), "{done:?}");
        assert!(!done.stderr.contains("panicked"), "{done:?}");
        let said = done.stdout.contains("problem: ") || done.stderr.contains("control");
        assert!(said, "{done:?}");
        // The measurements' report comes either way.
        assert!(done.stdout.contains("500 current"), "{done:?}");
    }
    std::fs::write(&database, &good).unwrap();
    verify(&home).succeeded();
}

#[test]
fn a_control_database_that_contradicts_itself_is_found() {
    let home = filled();
    let database = rusqlite::Connection::open(home.path("data").join("control.sqlite")).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    let changed = database
        .execute(
            "UPDATE resource_keys SET resource = zeroblob(16) WHERE kind = 'meter'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    database.close().unwrap();
    let done = verify(&home).ended_with(1, &["500 current", "problem: ", "PROBLEMS WERE FOUND"]);
    assert_eq!(done.stderr, "", "{done:?}");
}
