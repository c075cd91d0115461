//! SIGTERM lets requests in hand finish; and one data directory has one process at a time.

use crate::support::{Home, Server, call, exchange, furnish, run};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn head(path: &str, key: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: meterd\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[test]
fn requests_in_hand_finish_and_new_connections_are_refused() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());

    // One request whose body comes in pieces, and one of which only half a head has come.
    let body = json!({"measurements": [call("slow", "5")]}).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let mut slow = server.connect();
    slow.write_all(head("/v1/measurements", client.key(), body.len()).as_bytes())
        .unwrap();
    slow.write_all(first.as_bytes()).unwrap();
    let mut probe = server.connect();
    probe
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: me")
        .unwrap();
    // The server has read both once it answers what came after them.
    client.get("/v1/meters").ok();

    server.child.terminate();
    server.wait_for_log("finishing requests in hand");
    crate::support::until("refused connections", || {
        TcpStream::connect(server.address()).is_err()
    });
    let unready = exchange(probe, b"terd\r\n\r\n");
    assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
    assert!(unready.contains("\"code\":\"shutting_down\""), "{unready}");
    assert!(server.child.is_running(), "it did not wait for the body");

    slow.write_all(second.as_bytes()).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"accepted\":1"), "{answer}");
    assert_eq!(server.child.wait(), Some(0));

    let again = Server::start(&home);
    let client = client.at(&again.base_url);
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("5".to_owned(), 1)
    );
    assert_eq!(again.stop(), Some(0));
}

#[test]
fn a_request_that_never_ends_is_cut_off_at_shutdown() {
    let home = Home::new();
    let server = Server::configured(
        &home,
        "bounds = { drain_seconds_max = 0.2 }\nlisten = [{ address = \"127.0.0.1:0\" }]\n",
    );
    let client = furnish(&server, &server.admin_key());
    let mut stuck = server.connect();
    stuck
        .write_all(head("/v1/measurements", client.key(), 100).as_bytes())
        .unwrap();
    client.get("/v1/meters").ok();
    assert_eq!(server.stop(), Some(0));
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_directory_in_use_is_refused_and_left_alone() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    let client = furnish(&server, &admin_key);
    let data = home.data();
    let credentials = || {
        server
            .client(&admin_key)
            .get("/v1/credentials?organization=acme")
            .ok()
    };
    let meters = client.get("/v1/meters").ok();
    let keys = credentials();
    let id = keys["items"][0]["id"].as_str().unwrap();
    let file = home.write(
        "apply.toml",
        "[[organization]]\nname = \"other\"\n\n[[organization.meter]]\nname = \"m\"\nkind = \"delta\"\nvalues = { x = { unit = \"1\" } }\n",
    );
    let rows = home.write("rows.ndjson", call("offline", "1").to_string());

    let commands: [&[&str]; 8] = [
        &["serve", "--listen", "127.0.0.1:0"],
        &["verify"],
        &["key", "list"],
        &["key", "create", "--name", "x", "--permission", "*"],
        &["key", "revoke", id],
        &["key", "rotate", id],
        &["apply", &file],
        &["import", &rows, "--organization", "acme"],
    ];
    for command in commands {
        let mut arguments = command.to_vec();
        arguments.extend(["--data", &data]);
        let done = run(&arguments).failed_with(&["open"]);
        assert!(done.stdout.is_empty(), "{command:?}: {done:?}");
        assert!(
            done.stderr
                .contains("another process has the data directory open")
                || done.stderr.contains("a server has"),
            "{command:?}: {done:?}"
        );
    }
    assert_eq!(credentials(), keys);
    assert_eq!(client.get("/v1/meters").ok(), meters);
    assert_eq!(
        server.client(&admin_key).get("/v1/organizations").ok()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    client
        .post(
            "/v1/measurements",
            &json!({"measurements": [call("online", "2")]}),
        )
        .ok();
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("2".to_owned(), 1)
    );
    assert_eq!(server.stop(), Some(0));
    run(&["verify", "--data", &data]).succeeded();
}
