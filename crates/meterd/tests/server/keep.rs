//! What is kept beyond one server: backups, restores, exports, and what a meter's retention drops.

use crate::support::{Client, Home, Server, call, calls_meter, furnish, run, until};
use meterd_model::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn send(client: &Client, rows: &[Value]) -> Value {
    client
        .post("/v1/measurements", &json!({"measurements": rows}))
        .ok()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn segments_of(home: &Home) -> Vec<PathBuf> {
    let directory = home.path("data/engine/segments");
    if directory.exists() {
        files_below(&directory)
    } else {
        Vec::new()
    }
}

#[test]
fn a_few_measurements_are_sealed_after_a_while_and_at_a_start() {
    let home = Home::new();
    let engine = |seal_after_seconds: u32| {
        format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n[engine]\nseal_after_seconds = {seal_after_seconds}\n"
        )
    };
    let server = Server::configured(&home, &engine(0));
    let client = furnish(&server, &server.admin_key());
    send(&client, &[call("first", "1")]);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(segments_of(&home), Vec::<PathBuf>::new());

    let server = Server::configured(&home, &engine(1));
    let client = client.at(&server.base_url);
    until("what the log held is sealed", || {
        segments_of(&home).len() == 1
    });
    let before = segments_of(&home);
    send(&client, &[call("second", "2")]);
    until("what came is sealed", || {
        segments_of(&home).iter().any(|file| !before.contains(file))
    });
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("3".to_owned(), 2)
    );
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_backup_of_a_running_server_is_restored_and_served() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    let client = furnish(&server, &admin_key);
    let rows: Vec<_> = (0..500).map(|n| call(&format!("m-{n}"), "0.1")).collect();
    send(&client, &rows);
    let copy = home.text("copies/first");
    let remote = ["--server", &server.base_url, "--admin-key", &admin_key];
    let backup = |directory: &str| run(&[&["backup", directory], &remote[..]].concat());
    backup(&copy)
        .succeeded()
        .ended_with(0, &[&copy, "500 measurements"]);
    backup(&copy).failed_with(&["new or empty"]);
    send(&client, &[call("later", "7")]);
    // Without the server's leave, only a stopped one.
    let data = home.data();
    let second = home.text("copies/second");
    run(&["backup", &second, "--data", &data]).failed_with(&["a server has"]);
    assert_eq!(server.stop(), Some(0));
    run(&["backup", &second, "--data", &data])
        .succeeded()
        .ended_with(0, &["501 measurements"]);

    for (copy, sum, count) in [(&copy, "50", 500), (&second, "57", 501)] {
        let other = Home::new();
        let restored = other.data();
        run(&["restore", copy, "--data", &restored])
            .succeeded()
            .ended_with(0, &["every checksum right"]);
        run(&["restore", copy, "--data", &restored]).failed_with(&["is not empty"]);
        run(&["verify", "--data", &restored]).succeeded();
        let server = Server::start(&other);
        let client = client.at(&server.base_url);
        assert_eq!(
            client.sum_and_count("calls", "requests"),
            (sum.to_owned(), count)
        );
        let answer = send(&client, &[call("m-1", "0.1"), call("new", "1")]);
        assert_eq!(
            (&answer["duplicate"], &answer["accepted"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(server.stop(), Some(0));
    }

    run(&["restore", &data, "--data", &home.text("a")]).failed_with(&["no backup"]);
    let nothing = home.text("nothing");
    run(&["restore", &nothing, "--data", &home.text("b")]).failed_with(&["no backup"]);
    let segment = files_below(Path::new(&copy))
        .into_iter()
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "parquet")
        })
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = home.text("c");
    run(&["restore", &copy, "--data", &damaged]).failed_with(&["checksum"]);
    run(&["verify", "--data", &damaged]).failed_with(&["not restored to the end"]);
    let serve = |data: &str| run(&["serve", "--data", data, "--listen", "127.0.0.1:0"]);
    serve(&damaged).failed_with(&["not restored to the end"]);
    // Without a manifest nothing of the measurements is there, which must not be taken for a new server.
    let manifest = Path::new(&copy).join("engine/manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let empty = home.text("d");
    run(&["restore", &copy, "--data", &empty]).failed_with(&["manifest"]);
    serve(&empty).failed_with(&["not restored to the end"]);
    for command in [&["verify"][..], &["key", "list"]] {
        run(&[command, &["--data", &empty]].concat()).failed_with(&["not restored to the end"]);
    }
    run(&["restore", &second, "--data", &empty]).failed_with(&["not restored to the end"]);
}

/// Texts that each form has its own trouble with.
fn awkward() -> Vec<Value> {
    let mut rows: Vec<_> = (0..300)
        .map(|n| call(&format!("m-{n}"), "0.000000000000000001"))
        .collect();
    for (n, region) in [
        "",
        "\"",
        "\"\"",
        "\"a\"",
        "a,b",
        "ü\"é",
        "x".repeat(256).as_str(),
    ]
    .iter()
    .enumerate()
    {
        let mut row = call(&format!("region,{n} \"é\""), "-99999999999999999999.5");
        row["attributes"]["region"] = json!(region);
        row["time"] = json!(format!("2026-0{}-01T10:20:30.123456Z", n + 1));
        row["end_time"] = json!(format!("2026-0{}-01T10:20:31Z", n + 1));
        row["subject"] = json!("a, \"b\"");
        rows.push(row);
    }
    let mut bare = call("bare", "1");
    bare["attributes"] = json!({});
    rows.push(bare);
    rows
}

fn answers(client: &Client) -> Value {
    let query = json!({
        "meter": "calls", "from": "1970-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z",
        "window": "month", "group_by": ["subject", "region"],
        "aggregations": [{"function": "sum", "field": "requests"}, {"function": "count"}],
    });
    let listed = client.get("/v1/measurements?limit=1000").ok();
    let mut items = listed["items"].as_array().unwrap().clone();
    items.sort_by_key(|item| item["id"].as_str().unwrap().to_owned());
    json!([client.post("/v1/query", &query).ok(), items])
}

#[test]
fn an_export_is_imported_in_every_form() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    let rows = awkward();
    assert_eq!(send(&client, &rows)["accepted"], rows.len());
    let expected = answers(&client);
    for format in ["ndjson", "csv", "parquet"] {
        let file = home.text(&format!("calls.{format}"));
        let export = |server: &str, key: &str, output: &str| {
            run(&[
                "export", "--meter", "calls", "--format", format, "--output", output, "--server",
                server, "--key", key,
            ])
        };
        export(&server.base_url, client.key(), &file)
            .succeeded()
            .ended_with(0, &[&file, " bytes"]);
        assert!(!home.path(&format!("calls.{format}.part")).exists());
        let import = |server: &Server, client: &Client| {
            let key = client.key();
            run(&["import", &file, "--server", &server.base_url, "--key", key]).succeeded()
        };
        let known = "0 accepted, 308 duplicate, 0 conflict, 0 rejected";
        import(&server, &client).ended_with(0, &[known]);
        let fresh_home = Home::new();
        let fresh = Server::start(&fresh_home);
        let fresh_client = furnish(&fresh, &fresh.admin_key());
        let new = "308 accepted, 0 duplicate, 0 conflict, 0 rejected";
        import(&fresh, &fresh_client).ended_with(0, &[new]);
        assert_eq!(answers(&fresh_client), expected, "{format}");
        export(&server.base_url, "mtr_wrong", &file).failed_with(&["401"]);
        if format == "csv" {
            let shown = export(&server.base_url, client.key(), "-").succeeded();
            assert_eq!(shown.stdout.lines().count(), 309);
        }
    }
    let range = [
        "--from",
        "2026-03-01T00:00:00Z",
        "--to",
        "2026-05-01T00:00:00Z",
    ];
    let target = [
        "--server",
        &server.base_url,
        "--key",
        client.key(),
        "--output",
        "-",
    ];
    let part =
        run(&[&["export", "--meter", "calls"], &range[..], &target[..]].concat()).succeeded();
    assert_eq!(part.stdout.lines().count(), 2);
    let unknown = run(&[&["export", "--meter", "nope"], &target[..]].concat());
    unknown.failed_with(&["422", "an existing meter"]);
}

#[test]
fn retention_drops_whole_months_and_keeps_their_ids() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    let mut meter = calls_meter();
    meter["retention_days"] = json!(40);
    let agent = ureq::Agent::config_builder().build().new_agent();
    let changed = agent
        .put(format!("{}/v1/meters/calls", server.base_url))
        .header("Authorization", format!("Bearer {}", client.key()))
        .header("Content-Type", "application/json")
        .send(meter.to_string())
        .unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(client.get("/v1/meters/calls").ok()["retention_days"], 40);
    let mut old = call("old", "5");
    old["time"] = json!("2020-01-31T23:59:59Z");
    let mut young = call("young", "2");
    young["time"] = json!(Timestamp::of_system(SystemTime::now()).to_string());
    send(&client, &[old.clone(), young]);
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("7".to_owned(), 2)
    );
    assert_eq!(server.stop(), Some(0));

    let at_once = "[retention]\nfirst_after_seconds = 0\n[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let server = Server::configured(&home, at_once);
    server.wait_for_log("dropped 1 versions of acme/calls");
    let client = client.at(&server.base_url);
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("2".to_owned(), 1)
    );
    assert_eq!(send(&client, &[old])["duplicate"], 1);
    let metrics = client.get("/metrics").text;
    for line in ["meterd_engine_segments 1", "meterd_engine_log_files 1"] {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
    for name in ["meterd_engine_segment_bytes ", "meterd_engine_id_bytes "] {
        let figure = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        assert!(figure.parse::<u64>().unwrap() > 0, "{name}{figure}");
    }
    assert_eq!(server.stop(), Some(0));
    run(&["verify", "--data", &home.data()]).succeeded();
}
