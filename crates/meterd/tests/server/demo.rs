//! `meterd demo`: what it loads, writes and prints is what it says.

use crate::support::{Client, Home, Server, exchange, run};
use flate2::read::GzDecoder;
use meterd_model::Timestamp;
use serde_json::{Value, json};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const ACCOUNTS: u64 = 50;
const API_ROWS: u64 = ACCOUNTS * 24 * 90;

fn text<'a>(ready: &'a Value, pointer: &str) -> &'a str {
    ready.pointer(pointer).and_then(Value::as_str).unwrap()
}

/// Aggregations over one subject of a meter, or over all.
fn query(client: &Client, meter: &str, subject: Option<&str>, asked: &Value) -> Value {
    let filter = subject.map_or_else(|| json!({}), |subject| json!({"subject": [subject]}));
    let answer = client.post(
        "/v1/query",
        &json!({
            "meter": meter, "from": "2000-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z",
            "filter": filter, "aggregations": asked,
        }),
    );
    answer.ok()["rows"][0]["values"].clone()
}

fn count(client: &Client, meter: &str, subject: Option<&str>) -> u64 {
    let values = query(client, meter, subject, &json!([{"function": "count"}]));
    values["count"].as_str().unwrap().parse().unwrap()
}

/// A decimal text in units of 10^-20, without rounding.
fn units(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 20, "{text}");
    format!("{whole}{fraction:0<20}").parse().unwrap()
}

/// A file of the demo.
fn read_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("demo-data")
        .join(name);
    let mut csv = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut csv)
        .unwrap();
    csv
}

/// Number of rows and exact sum of a file of the demo.
fn of_file(name: &str) -> (u64, i128) {
    let csv = read_file(name);
    let values = csv
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap().1);
    (
        values.clone().count() as u64,
        values.map(units).sum::<i128>(),
    )
}

fn names(json: &Value) -> Vec<&str> {
    let mut names: Vec<_> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// The commands that the demo prints to try.
fn printed_commands(stdout: &str) -> Vec<String> {
    let (_, tail) = stdout.split_once("worth trying").unwrap();
    let titled = tail
        .split("\n\n")
        .filter_map(|block| block.trim_start().split_once('\n'));
    titled
        .filter(|(_, command)| command.contains("curl "))
        .map(|(_, command)| command.trim().to_owned())
        .collect()
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok()
}

/// Runs a printed command in a shell; where there is no curl, sends what it would send.
fn try_printed(command: &str) -> (u16, Value) {
    if has_curl() {
        let output = Command::new("sh")
            .args(["-c", &format!("{command} -w '\\n%{{http_code}}'")])
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let (body, status) = output.rsplit_once('\n').unwrap();
        return (status.parse().unwrap(), serde_json::from_str(body).unwrap());
    }
    let quoted = |start: &str| {
        let (_, tail) = command.split_once(start).unwrap();
        tail.split('\'').next().unwrap()
    };
    let url = command
        .split_whitespace()
        .nth(2)
        .unwrap()
        .trim_matches('\'');
    let (base_url, path) = url.split_at(url.find("/v1").or(url.find("/wattw")).unwrap());
    let client = Client::new(base_url, quoted("Authorization: Bearer "));
    if !command.contains("-d '") {
        let answer = client.get(path);
        return (answer.status, answer.json());
    }
    let body = serde_json::from_str(quoted("-d '")).unwrap();
    let answer = client.post(path, &body);
    (answer.status, answer.json())
}

#[test]
fn a_first_and_a_second_start() {
    let home = Home::new();
    let server = Server::demo(&home);
    let ready = server.ready.clone();
    ready_files_are_right(&home, &server);
    keys_have_their_powers(&server);
    series_are_whole(&server);
    company_is_whole(&server);
    printed_requests_work(&server);
    device_keys_have_their_powers(&server);
    devices_measure_what_the_houses_used(&server);
    devices_go_on_living(&server);
    let client = server.client(text(&ready, "/native/key"));
    let api_rows = count(&client, "api_calls", None);
    assert_eq!(server.stop(), Some(0));

    let again = Server::demo(&home);
    for key in ["admin_key", "key", "read_only_key", "organization"] {
        assert_eq!(again.ready["native"][key], ready["native"][key], "{key}");
    }
    let mut wattwatchers = ready["wattwatchers"].clone();
    wattwatchers["base_url"] = format!("{}/wattwatchers", again.base_url).into();
    assert_eq!(again.ready["wattwatchers"], wattwatchers);
    ready_files_are_right(&home, &again);
    keys_have_their_powers(&again);
    device_keys_have_their_powers(&again);
    devices_measure_what_the_houses_used(&again);
    company_is_whole(&again);
    let client = client.at(&again.base_url);
    assert_eq!(count(&client, "electricity", None), 19_417 + 23_508);
    assert_eq!(count(&client, "water_flow", None), 1_268);
    // Full hours that passed between the two starts are new.
    let more = count(&client, "api_calls", None) - api_rows;
    assert!(
        more.is_multiple_of(ACCOUNTS) && more <= 2 * ACCOUNTS,
        "{more} more"
    );
    let admin = again.client(text(&ready, "/native/admin_key"));
    let keys = admin.get("/v1/credentials").ok();
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(again.stop(), Some(0));
    run(&["verify", "--data", &home.data()]).succeeded();
}

fn ready_files_are_right(home: &Home, server: &Server) {
    let ready = &server.ready;
    assert_eq!(
        names(ready),
        [
            "base_url",
            "fsm_navigator",
            "m3ter",
            "native",
            "wattwatchers"
        ]
    );
    assert_eq!(
        names(&ready["fsm_navigator"]),
        [
            "asset_id",
            "asset_without_meter_id",
            "base_url",
            "blocked_ip_key",
            "customer_id",
            "jobs_read_key",
            "key",
            "limited_key",
            "location_id",
            "meter_id",
            "other_company_key",
            "revoked_key",
            "test_key"
        ]
    );
    assert_eq!(
        names(&ready["m3ter"]),
        [
            "api_key",
            "api_secret",
            "base_url",
            "expired_token",
            "org_id",
            "other_org_id",
            "restricted_api_key",
            "restricted_api_secret"
        ]
    );
    assert_eq!(
        text(ready, "/m3ter/base_url"),
        format!("{}/m3ter", server.base_url)
    );
    assert_eq!(
        names(&ready["wattwatchers"]),
        [
            "base_url",
            "devices",
            "disabled_key",
            "empty_device",
            "empty_key",
            "foreign_device",
            "ingest_key",
            "key",
            "limited_key",
            "modbus_device",
            "read_only_key",
            "switch_device"
        ]
    );
    assert_eq!(
        text(ready, "/wattwatchers/base_url"),
        format!("{}/wattwatchers", server.base_url)
    );
    assert_eq!(
        names(&ready["native"]),
        [
            "admin_key",
            "base_url",
            "key",
            "organization",
            "read_only_key"
        ]
    );
    assert_eq!(
        text(ready, "/native/base_url"),
        format!("{}/v1", server.base_url)
    );
    assert_eq!(text(ready, "/native/organization"), "demo");
    let kept = home.path("data").join("demo.json");
    let read: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(&read, ready);
    for file in [kept, server.ready_file()] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

fn keys_have_their_powers(server: &Server) {
    let client = |name: &str| server.client(text(&server.ready, &format!("/native/{name}")));
    let (admin, key, reader) = (client("admin_key"), client("key"), client("read_only_key"));
    let organizations = admin.get("/v1/organizations").ok();
    let organizations = organizations["items"].as_array().unwrap();
    let mut names: Vec<_> = organizations.iter().map(|o| text(o, "/name")).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "demo",
            "fsm-demo",
            "fsm-other",
            "m3ter-demo",
            "m3ter-other",
            "wattwatchers-demo",
            "wattwatchers-other"
        ]
    );
    assert_eq!(
        admin.get("/v1/meters").problem(403),
        "organization_required"
    );
    let empty = json!({"measurements": []});
    for path in ["/v1/meters", "/v1/measurements?limit=1", "/v1/events"] {
        key.get(path).ok();
        reader.get(path).ok();
    }
    assert_eq!(
        key.get("/v1/organizations").problem(403),
        "administrator_required"
    );
    assert_eq!(key.post("/v1/measurements", &empty).status, 422);
    for path in ["/v1/measurements", "/v1/meters"] {
        assert_eq!(reader.post(path, &empty).problem(403), "permission_missing");
    }
}

fn series_are_whole(server: &Server) {
    let client = server.client(text(&server.ready, "/native/read_only_key"));
    let files = [
        (
            "electricity",
            "energy",
            "house-illinois",
            19_417,
            "il-electricity-cdd-hdd-hourly.csv.gz",
        ),
        (
            "electricity",
            "energy",
            "house-uk",
            23_508,
            "uk-electricity-hdd-only-hourly-sample-0.csv.gz",
        ),
        (
            "water_flow",
            "flow",
            "main-branch-1",
            1_268,
            "water-flow.csv.gz",
        ),
    ];
    for (meter, field, subject, rows, file) in files {
        let asked = json!([{"function": "count"}, {"function": "sum", "field": field}]);
        let values = query(&client, meter, Some(subject), &asked);
        assert_eq!(values["count"], rows.to_string(), "{subject}");
        let (rows_of_file, sum_of_file) = of_file(file);
        assert_eq!(rows_of_file, rows, "{subject}");
        let sum = values[format!("sum({field})")].as_str().unwrap();
        assert_eq!(units(sum), sum_of_file, "{subject}");
    }
    assert_eq!(count(&client, "api_calls", None), API_ROWS);
    let asked = json!([{"function": "unique", "field": "subject"}]);
    let values = query(&client, "api_calls", None, &asked);
    assert_eq!(values["unique(subject)"], ACCOUNTS.to_string());
}

fn device_keys_have_their_powers(server: &Server) {
    let ready = &server.ready["wattwatchers"];
    let client = |name: &str| server.client(ready[name].as_str().unwrap());
    let path = |name: &str| format!("/wattwatchers/devices/{}", ready[name].as_str().unwrap());
    let label = json!({"label": "House in Sydney"});
    let key = client("key");
    for key in [&key, &client("read_only_key")] {
        let devices = key.get("/wattwatchers/devices").ok();
        assert_eq!(devices, ready["devices"]);
    }
    assert_eq!(devices_of(&client("empty_key")), json!([]));
    assert_eq!(
        client("disabled_key").get("/wattwatchers/devices").status,
        401
    );
    assert_eq!(key.get(&path("foreign_device")).status, 403);
    let switched = key.post(&path("switch_device"), &label).ok();
    assert_eq!(switched["switches"].as_array().unwrap().len(), 3);
    let reader = client("read_only_key");
    assert_eq!(reader.post(&path("switch_device"), &label).status, 403);
    assert_eq!(key.get(&path("modbus_device")).ok()["model"], "6M+One");
    assert_eq!(key.get(&path("empty_device")).status, 200);
    let limited = client("limited_key").get("/wattwatchers/devices");
    for (name, value) in [("tpslimit", "5"), ("tpdlimit", "20")] {
        assert_eq!(limited.headers[format!("x-ratelimit-{name}")], value);
    }
    let fed = "/wattwatchers/ingest/v1/devices/DD10000000001/commands";
    assert_eq!(client("ingest_key").get(fed).status, 200);
    assert_eq!(key.get(fed).status, 403);
}

fn devices_of(client: &Client) -> Value {
    client.get("/wattwatchers/devices").ok()
}

/// The hour before the last one, of which all is there after the first start and the second: as a meter of the native API.
fn devices_measure_what_the_houses_used(server: &Server) {
    let admin = server.client(text(&server.ready, "/native/admin_key"));
    let new = json!({"organization": "wattwatchers-demo", "name": "test", "permissions": ["*"]});
    let created = admin.post("/v1/credentials", &new).ok();
    let client = server.client(text(&created, "/secret"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let hour = now.unwrap().as_secs() / 3600 - 2;
    let csv = read_file("il-electricity-cdd-hdd-hourly.csv.gz");
    let row = usize::try_from(hour).unwrap() % (104 * 7 * 24);
    let (_, kwh) = csv.lines().nth(1 + row).unwrap().split_once(',').unwrap();
    // A record stands at the end of its five minutes.
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap();
        Timestamp::from_seconds(seconds).unwrap().to_string()
    };
    let answer = client.post(
        "/v1/query",
        &json!({
            "meter": "wattwatchers_long_energy",
            "from": time(hour * 3600 + 1), "to": time(hour * 3600 + 3601),
            "filter": {"subject": ["DD10000000001"]},
            "aggregations": [{"function": "sum", "field": "eReal"}, {"function": "count"}],
        }),
    );
    let values = answer.ok()["rows"][0]["values"].clone();
    assert_eq!(values["count"], (12 * 3).to_string());
    let joules = units(kwh) / 10_i128.pow(14) * 36 / 10;
    assert_eq!(
        units(text(&values, "/sum(eReal)")),
        joules * 10_i128.pow(20)
    );
}

/// A switch moves once its device has done so, and records go on coming.
fn devices_go_on_living(server: &Server) {
    let ready = &server.ready["wattwatchers"];
    let key = server.client(ready["key"].as_str().unwrap());
    let id = ready["switch_device"].as_str().unwrap();
    let path = format!("/wattwatchers/devices/{id}");
    let wish = json!({"id": id, "switches": [{"id": format!("{id}_S1"), "state": "closed"}]});
    let asked = key.post(&path, &wish).ok();
    assert_eq!(asked["switches"][0]["state"], "open");
    assert_eq!(asked["switches"][0]["pending"], json!({"state": "closed"}));
    crate::support::until("the switch to close", || {
        let device = key.get(&path).ok();
        let switch = &device["switches"][0];
        switch["state"] == "closed" && switch.get("pending").is_none()
    });
    let latest = || {
        let record = key.get(&format!("/wattwatchers/short-energy/{id}/latest"));
        record.ok()["timestamp"].as_i64().unwrap()
    };
    let before = latest();
    crate::support::until("a record of Short Energy", || latest() > before);
}

/// Asks the FSM Navigator API; status and body.
fn ask_fsm(server: &Server, key: &str, path: &str) -> (u16, Value) {
    let ready = &server.ready["fsm_navigator"];
    let path = format!("/fsm-navigator/api/v1{path}");
    assert!(text(ready, "/base_url").ends_with("/fsm-navigator/api/v1"));
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    let key = text(ready, &format!("/{key}"));
    let request = format!("{head}X-API-Key: {key}\r\n\r\n");
    let answer = exchange(server.connect(), request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// 40 customers, 120 assets with a year of readings, and jobs in every state.
fn company_is_whole(server: &Server) {
    let ask = |path: &str| ask_fsm(server, "key", path).1;
    let total = |path: &str| ask(path)["pagination"]["total"].clone();
    assert_eq!(total("/customers?has_locations=1"), 40);
    assert_eq!(total("/assets"), 120);
    assert_eq!(total("/technicians"), 5);
    assert_eq!(total("/jobs"), 27);
    for status in [
        "Pending",
        "Assigned",
        "In-Transit",
        "Arrived",
        "In%20Progress",
        "On%20Hold",
        "Completed",
        "Cancelled",
        "Declined",
    ] {
        assert_eq!(total(&format!("/jobs?status={status}")), 3, "{status}");
    }
    assert_eq!(total("/inventory?sub=low-stock"), 3);
    let id = |name: &str| server.ready["fsm_navigator"][name].clone();
    let with = ask(&format!("/assets/{}", id("asset_id")));
    assert_eq!(with["asset"]["meters"][0]["meter_id"], id("meter_id"));
    assert_ne!(with["asset"]["meters"][0]["last_reading_at"], Value::Null);
    let without = ask(&format!("/assets/{}", id("asset_without_meter_id")));
    assert_eq!(without["asset"]["meters"], json!([]));
    let location = ask(&format!("/customers/{}/locations", id("customer_id")));
    assert_eq!(location["data"][0]["location_id"], id("location_id"));
    for (key, path, status) in [
        ("test_key", "/customers/1", 404),
        ("jobs_read_key", "/jobs", 200),
        ("jobs_read_key", "/customers", 403),
        ("blocked_ip_key", "/jobs", 403),
        ("revoked_key", "/jobs", 401),
        ("other_company_key", "/jobs/1", 404),
        ("other_company_key", "/customers", 200),
    ] {
        assert_eq!(ask_fsm(server, key, path).0, status, "{key} {path}");
    }
    let statuses = [(); 6].map(|()| ask_fsm(server, "limited_key", "/jobs").0);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
}

fn printed_requests_work(server: &Server) {
    let stdout = server.stdout();
    let commands = printed_commands(&stdout);
    assert_eq!(commands.len(), 6, "{stdout}");
    let answers: Vec<Value> = commands[..4]
        .iter()
        .map(|command| {
            let (status, answer) = try_printed(command);
            assert_eq!(status, 200, "{command}: {answer}");
            answer
        })
        .collect();
    assert_eq!(answers[0]["rows"].as_array().unwrap().len(), 12);
    assert_eq!(answers[1]["rows"].as_array().unwrap().len(), 5);
    assert_eq!(answers[2]["accepted"], 1);
    // Two days of history touch three of the house's days.
    let days = answers[3].as_array().unwrap();
    assert!(days.len() >= 3, "{days:?}");
    assert_eq!(days[1]["eRealKwh"].as_array().unwrap().len(), 3);
    // As the text says: sent again, it counts once; changed, it is refused.
    assert_eq!(try_printed(&commands[2]).1["duplicate"], 1);
    let changed = commands[2].replace("\"requests\":12", "\"requests\":13");
    assert_eq!(try_printed(&changed).1["conflict"], 1);
    // These two ask in other ways than the others, for which only curl will do.
    if has_curl() {
        let (status, usage) = try_printed(&commands[4]);
        assert_eq!((status, usage["data"].as_array().unwrap().len()), (200, 2));
        let (status, refusal) = try_printed(&commands[5]);
        assert_eq!(
            (status, &refusal["error"]),
            (400, &json!("validation_failed"))
        );
    }
    for key in ["key", "read_only_key", "admin_key"] {
        assert!(stdout.contains(text(&server.ready, &format!("/native/{key}"))));
    }
}

#[test]
fn a_start_that_was_interrupted_is_taken_up_again() {
    let home = Home::new();
    // Killed as soon as there is a database, hence while it loads.
    let data = home.data();
    let mut first = crate::support::spawn(&["demo", "--data", &data, "--listen", "127.0.0.1:0"]);
    let database = home.path("data").join("control.sqlite");
    crate::support::until("a database", || database.exists());
    first.kill();
    let server = Server::demo(&home);
    keys_have_their_powers(&server);
    series_are_whole(&server);
    company_is_whole(&server);
}

#[test]
fn a_directory_with_other_data_is_refused_and_left_alone() {
    let home = Home::new();
    let server = Server::start(&home);
    let admin_key = server.admin_key();
    assert_eq!(server.stop(), Some(0));
    let data = home.data();
    run(&["demo", "--data", &data, "--listen", "127.0.0.1:0"])
        .failed_with(&["not the demo's", "--data"]);
    assert!(!home.path("data").join("demo.json").exists());
    let server = Server::start(&home);
    let organizations = server.client(&admin_key).get("/v1/organizations").ok();
    assert_eq!(organizations["items"], json!([]));
}
