//! `meterd import`: CSV and NDJSON, plain and compressed, to a server and into a directory.

use crate::support::{Done, Home, Server, furnish, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;

const ROWS: u64 = 6_000;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn minute(index: u64) -> String {
    let (day, hour, minute) = (index / 1440 + 1, index / 60 % 24, index % 60);
    format!("2026-03-{day:02}T{hour:02}:{minute:02}:00Z")
}

/// Values `0.1`, columns that are named and one that nobody asked for.
fn csv() -> String {
    let mut text = String::from("start,kind,reading,note\n");
    for index in 0..ROWS {
        writeln!(text, "{},eu,0.1,\"a, b\"", minute(index)).unwrap();
    }
    text
}

fn ndjson() -> String {
    let mut text = String::new();
    for index in 0..ROWS {
        let row = json!({
            "id": format!("line-{index}"), "meter": "calls", "subject": "s", "time": minute(index),
            "values": {"requests": "0.1"},
        });
        writeln!(text, "{row}").unwrap();
    }
    text
}

fn import(file: &str, target: &[&str], more: &[&str]) -> Done {
    run(&[&["import", file], target, more].concat())
}

const CSV_OPTIONS: [&str; 10] = [
    "--meter",
    "calls",
    "--subject",
    "s",
    "--time-column",
    "start",
    "--value-column",
    "requests=reading",
    "--attribute-column",
    "region=kind",
];

/// Every kind of file once and once more, with the same totals on every target.
fn all_files_twice(home: &Home, target: &[&str]) {
    let files: [(String, &[&str]); 4] = [
        (home.write("rows.csv", csv()), &CSV_OPTIONS),
        (home.write("again.csv.gz", gzip(&csv())), &CSV_OPTIONS),
        (home.write("rows.ndjson", ndjson()), &[]),
        (home.write("again.NDJSON.GZ", gzip(&ndjson())), &[]),
    ];
    let new = "6,000 accepted, 0 duplicate, 0 conflict, 0 rejected";
    let known = "0 accepted, 6,000 duplicate, 0 conflict, 0 rejected";
    for (index, (file, options)) in files.iter().enumerate() {
        let first = if index % 2 == 0 { new } else { known };
        import(file, target, options)
            .succeeded()
            .ended_with(0, &[file, first]);
        import(file, target, options)
            .succeeded()
            .ended_with(0, &[file, known]);
    }
}

/// Bad rows are named by their line in the file.
fn bad_rows(home: &Home, target: &[&str]) {
    // Line 2 has no subject; line 5,503, in the second batch, has a bad time.
    let mut lines: Vec<String> = ndjson()
        .replace("line-", "bad-")
        .lines()
        .map(str::to_owned)
        .collect();
    lines[1] = lines[1].replace("\"subject\":\"s\",", "");
    lines[5_502] = lines[5_502].replace("2026-03-", "2026-33-");
    // An empty line is no row, but it counts as a line.
    lines[3] = String::new();
    let file = home.write("bad.ndjson", lines.join("\n"));
    let done = import(&file, target, &[]).failed_with(&["bad.ndjson", "line 2:", "subject"]);
    assert!(!done.stderr.contains("line 1:"), "{done:?}");
    let done = import(&file, target, &["--skip-errors"])
        .ended_with(1, &["5,997 accepted, 0 duplicate, 0 conflict, 2 rejected"]);
    for words in [["line 2:", "subject"], ["line 5503:", "time"]] {
        let named = done
            .stderr
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(named, "{words:?}: {done:?}");
    }
    assert_eq!(done.stderr.lines().count(), 2, "{done:?}");

    // The first batch is good and stays; the second one is refused as a whole.
    lines[1] = lines[0].replace("bad-0", "bad-1");
    let file = home.write("late.ndjson", lines.join("\n").replace("bad-", "late-"));
    import(&file, target, &[]).failed_with(&["line 5503:", "time"]);
    // A line that is no JSON.
    "{\"id\":".clone_into(&mut lines[5_502]);
    let file = home.write("broken.ndjson", lines.join("\n").replace("bad-", "broken-"));
    import(&file, target, &[]).failed_with(&["broken.ndjson", "5503"]);
    import(&file, target, &["--skip-errors"]).ended_with(1, &["line 5503:", "1 rejected"]);

    // The same id with other content.
    let other = ndjson().replace("0.1", "0.2");
    let file = home.write("conflict.ndjson", other.lines().next().unwrap());
    import(&file, target, &[]).ended_with(
        1,
        &["0 accepted, 0 duplicate, 1 conflict", "line 1:", "line-0"],
    );

    // The header of a CSV file is its line 1.
    let mut rows: Vec<String> = csv().lines().map(str::to_owned).collect();
    rows[3] = rows[3].replace("0.1", "much");
    let file = home.write("bad.csv", rows[..5].join("\n"));
    import(&file, target, &CSV_OPTIONS).failed_with(&["bad.csv", "line 4:", "requests"]);
    "too,few".clone_into(&mut rows[3]);
    let file = home.write("short.csv", rows[..5].join("\n"));
    import(&file, target, &CSV_OPTIONS).failed_with(&["short.csv", "line: 4"]);
}

/// What never reaches the target.
fn bad_options(home: &Home, target: &[&str]) {
    let file = home.write("plain.csv", csv());
    let none: [&str; 4] = ["--meter", "calls", "--subject", "s"];
    import(&file, target, &none).failed_with(&["plain.csv", "no column \"time\"", "--time-column"]);
    import(
        &file,
        target,
        &["--time-column", "start", "--value-column", "requests=rdng"],
    )
    .failed_with(&["no column \"rdng\""]);
    import(
        &file,
        target,
        &["--time-column", "start", "--value-column", "requests"],
    )
    .failed_with(&["FIELD=COLUMN"]);
    let file = home.write("rows.txt", "x");
    import(&file, target, &[]).failed_with(&["rows.txt", ".ndjson"]);
    import(&home.text("nowhere.csv"), target, &[]).failed_with(&["nowhere.csv"]);
    let mut cut = gzip(&csv());
    cut.truncate(cut.len() / 2);
    let file = home.write("cut.csv.gz", cut);
    import(&file, target, &CSV_OPTIONS).failed_with(&["cut.csv.gz"]);
}

#[test]
fn to_a_running_server() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    let client = furnish(&server, &admin_key);
    let target = ["--server", &server.base_url, "--key", client.key()];
    all_files_twice(&home, &target);
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("1200".to_owned(), 2 * ROWS)
    );
    bad_rows(&home, &target);
    bad_options(&home, &target);

    let file = home.path("rows.csv").display().to_string();
    let wrong = ["--server", &server.base_url, "--key", "mtr_wrong"];
    import(&file, &wrong, &CSV_OPTIONS).failed_with(&["401"]);
    let gone = ["--server", "http://127.0.0.1:1", "--key", "mtr_wrong"];
    import(&file, &gone, &CSV_OPTIONS).failed_with(&["reach the server"]);
    run(&["import", &file, "--server", &server.base_url]).ended_with(2, &["--key"]);
}

#[test]
fn into_the_directory_of_a_stopped_server() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    let target = ["--data", &data, "--organization", "acme"];
    all_files_twice(&home, &target);
    let server = Server::start(&home);
    assert_eq!(
        client
            .at(&server.base_url)
            .sum_and_count("calls", "requests"),
        ("1200".to_owned(), 2 * ROWS)
    );
    assert_eq!(server.stop(), Some(0));
    bad_rows(&home, &target);
    bad_options(&home, &target);
    run(&["verify", "--data", &data]).succeeded();

    let file = home.path("rows.csv").display().to_string();
    let nobody = ["--data", &data, "--organization", "nobody"];
    import(&file, &nobody, &CSV_OPTIONS).failed_with(&["nobody"]);
    let nowhere = home.text("nowhere");
    let target = ["--data", nowhere.as_str(), "--organization", "acme"];
    import(&file, &target, &CSV_OPTIONS).failed_with(&["nowhere"]);
    assert!(!home.path("nowhere").exists());
    run(&["import", &file, "--data", &data]).ended_with(2, &["--organization"]);
}

const ENERGY: &str = r#"
[[organization]]
name = "rival"

[[organization.wattwatchers.device]]
id = "B00000000000B"
model = "3M"

[[organization]]
name = "sunny"

[[organization.wattwatchers.device]]
id = "D123456789012"
model = "6M"
channels = 2

[[organization.wattwatchers.device]]
id = "B00000000000A"
model = "3M"

[[organization.wattwatchers.key]]
name = "devices"
ingest = true
"#;

#[test]
fn tables_of_energy_go_the_way_of_what_devices_send() {
    let home = Home::new();
    let wanted = home.write("energy.toml", ENERGY);
    let applied = run(&["apply", &wanted, "--data", &home.data()]).succeeded();
    let (_, secret) = applied.stdout.rsplit_once("(shown once): ").unwrap();
    let secret = secret.trim();
    let simple = "device_id,timestamp,duration,c1_j,c2_j,c3_j\n\
                  D123456789012,1550408400,300,1200,-560,\n\
                  B00000000000A,1550408400,300,1,2,3\n\
                  D123456789012,1550408700,300,1300,-570,\n\
                  D123456789012,1550408701,300,1300,-570,\n\
                  D123456789012,1550409000,300,1300,-570,7\n\
                  X,1550409000,300,1,2,3\n";
    let file = home.write("simple.csv", simple);
    let data = home.data();
    let into_data = [
        "--data",
        &data,
        "--organization",
        "sunny",
        "--layout",
        "wattwatchers",
    ];
    let import = |file: &str, target: &[&str]| run(&[&["import", file], target].concat());
    let done = import(&file, &into_data);
    assert!(
        done.stdout
            .contains("3 accepted, 0 replaced, 0 kept as they were, 3 rejected"),
        "{done:?}"
    );
    for told in [
        "line 5: timestamp must be a multiple of 300.",
        "line 6: eReal must have 2 items, one for each channel.",
        "line 7: device_id \"X\" is no serial number",
    ] {
        assert!(done.stderr.contains(told), "{done:?}");
    }
    let changed = home.write(
        "notebook.csv",
        "device_id,timestamp,date,time,duration,eRealKwh_0,eRealKwh_1\n\
         D123456789012,1550408400,2019-02-18,00:00,300,0.0005,0\n\
         D123456789012,1550409300,2019-02-18,00:15,300,0.0005,0\n",
    );
    let unknown = home.write(
        "nobodys.csv",
        "device_id,timestamp,duration,c1_j\nD000000000000,1550408400,300,1\n",
    );
    let done = import(&unknown, &into_data);
    assert!(
        done.stdout
            .contains("0 accepted, 0 replaced, 0 kept as they were, 1 rejected"),
        "{done:?}"
    );
    // What devices sent, or an earlier table, is not lost to a later one.
    let kept = "1 accepted, 0 replaced, 1 kept as they were, 0 rejected";
    let done = import(&changed, &into_data).succeeded();
    assert!(done.stdout.contains(kept), "{done:?}");
    let server = Server::start(&home);
    let into_server = [
        "--server",
        &server.base_url,
        "--key",
        secret,
        "--layout",
        "wattwatchers",
    ];
    for (flags, told) in [
        (&[][..], kept),
        (
            &["--replace"],
            "1 accepted, 1 replaced, 0 kept as they were, 0 rejected",
        ),
        (
            &[],
            "2 accepted, 0 replaced, 0 kept as they were, 0 rejected",
        ),
    ] {
        let done = import(&changed, &[&into_server[..], flags].concat()).succeeded();
        assert!(done.stdout.contains(told), "{done:?}");
    }
    let unknown = home.write(
        "unknown.csv",
        "device_id,timestamp,duration,c1_j,c2_j\n\
         B00000000000B,1550409600,300,1,2\n\
         D000000000000,1550409600,300,1,2\n\
         D123456789012,1550409600,300,1,2\n",
    );
    // Whatever comes after it is stored.
    let done = import(&unknown, &into_server);
    assert!(
        done.stdout
            .contains("1 accepted, 0 replaced, 0 kept as they were, 2 rejected"),
        "{done:?}"
    );
    for told in [
        "line 2: You don't have permission to access device B00000000000B.",
        "line 3: D000000000000 could not be found.",
    ] {
        assert!(done.stderr.contains(told), "{done:?}");
    }
    let wrong = ["--key", "key_00000000000000000000000000000000"];
    let wrong = [&into_server[..2], &wrong, &into_server[4..]].concat();
    import(&unknown, &wrong).failed_with(&["You are not permitted to access this endpoint"]);
    let other = home.write("other.csv", "a,b\n1,2\n");
    import(&other, &into_server).failed_with(&["has none of the layouts"]);
    assert_eq!(server.stop(), Some(0));
}
