//! `meterd apply`: a file describes what there should be; bad files change nothing.

use crate::support::{Home, Server, call, exchange, run};
use serde_json::json;

const FIRST: &str = r#"
[[organization]]
name = "acme"
display_name = "Acme"
timezone = "Europe/Berlin"

[[organization.meter]]
name = "calls"
kind = "delta"
values = { requests = { unit = "1" } }
attributes = ["region"]

[[organization.key]]
name = "backend"
permissions = ["measurements:*"]
addresses = ["127.0.0.0/8"]
"#;

fn apply(home: &Home, toml: &str) -> crate::support::Done {
    let file = home.write("wanted.toml", toml);
    run(&["apply", &file, "--data", &home.data()])
}

fn lines(done: &crate::support::Done) -> Vec<&str> {
    done.stdout
        .lines()
        .map(|line| line.split(", secret").next().unwrap().trim())
        .collect()
}

#[test]
fn it_creates_then_changes_nothing_then_updates() {
    let home = Home::new();
    let done = apply(&home, FIRST).succeeded();
    assert_eq!(
        lines(&done),
        [
            "organization acme: created",
            "meter calls: created",
            "key backend: created",
        ]
    );
    let (_, secret) = done.stdout.split_once("(shown once): ").unwrap();
    let secret = secret.trim();

    for _ in 0..2 {
        let done = apply(&home, FIRST).succeeded();
        assert_eq!(
            lines(&done),
            [
                "organization acme: unchanged",
                "meter calls: unchanged",
                "key backend: unchanged",
            ]
        );
        assert!(!done.stdout.contains("mtr_"), "{done:?}");
    }

    let server = Server::start(&home);
    let client = server.client(secret);
    let rows = json!({"measurements": [call("a", "3")]});
    assert_eq!(client.post("/v1/measurements", &rows).ok()["accepted"], 1);
    assert_eq!(client.get("/v1/meters").problem(403), "permission_missing");
    assert_eq!(server.stop(), Some(0));

    let changed = FIRST
        .replace("\"Acme\"", "\"Acme Inc.\"")
        .replace("[\"region\"]", "[\"region\", \"plan\"]")
        .replace("\"measurements:*\"", "\"measurements:*\", \"meters:read\"");
    let done = apply(&home, &changed).succeeded();
    assert_eq!(
        lines(&done),
        [
            "organization acme: updated",
            "meter calls: updated",
            "key backend: updated",
        ]
    );
    let server = Server::start(&home);
    let meter = server.client(secret).get("/v1/meters/calls").ok();
    assert_eq!(meter["attributes"], json!(["plan", "region"]));
    assert_eq!(
        server.client(secret).sum_and_count("calls", "requests"),
        ("3".to_owned(), 1)
    );
}

#[test]
fn a_change_that_would_lose_data_is_refused_and_nothing_of_its_file_is_written() {
    let home = Home::new();
    let done = apply(&home, FIRST).succeeded();
    let (_, secret) = done.stdout.split_once("(shown once): ").unwrap();
    let secret = secret.trim();
    let server = Server::start(&home);
    let rows = json!({"measurements": [call("a", "3")]});
    server.client(secret).post("/v1/measurements", &rows).ok();
    assert_eq!(server.stop(), Some(0));

    let lossy = [
        ("values", FIRST.replace("requests =", "bytes ="), "requests"),
        (
            "attributes",
            FIRST.replace("\"region\"", "\"zone\""),
            "region",
        ),
        ("kind", FIRST.replace("\"delta\"", "\"gauge\""), "kind"),
    ];
    for (what, toml, named) in lossy {
        // An organization before it and one after it: neither may come to be.
        let toml = format!(
            "[[organization]]\nname = \"before\"\n{}\n[[organization]]\nname = \"after\"\n",
            toml.replace("\"Acme\"", "\"Changed\"")
        );
        let done = apply(&home, &toml).failed_with(&["calls", named]);
        assert!(done.stdout.is_empty(), "{what}: {done:?}");
    }
    let done = apply(&home, FIRST).succeeded();
    assert_eq!(lines(&done)[0], "organization acme: unchanged");
    assert_eq!(lines(&done)[1], "meter calls: unchanged");
    let server = Server::start(&home);
    assert_eq!(
        server.client(secret).sum_and_count("calls", "requests"),
        ("3".to_owned(), 1)
    );
    assert_eq!(server.stop(), Some(0));
    for name in ["before", "after"] {
        run(&[
            "key",
            "list",
            "--organization",
            name,
            "--data",
            &home.data(),
        ])
        .failed_with(&[name]);
    }
}

#[test]
fn bad_files_are_refused_with_file_and_field_and_write_nothing() {
    let bad = [
        ("not TOML", "[[organization".to_owned(), vec!["line 1"]),
        (
            "typing error",
            FIRST.replace("timezone", "time_zone"),
            vec!["time_zone"],
        ),
        (
            "no name",
            "[[organization]]\ntimezone = \"UTC\"\n".to_owned(),
            vec!["name"],
        ),
        (
            "bad name",
            FIRST.replace("\"acme\"", "\"No Slug\""),
            vec!["name"],
        ),
        (
            "unknown zone",
            FIRST.replace("Europe/Berlin", "Europe/Berlln"),
            vec!["acme", "timezone"],
        ),
        (
            "unknown kind of meter",
            FIRST.replace("\"delta\"", "\"sum\""),
            vec!["acme", "calls", "kind"],
        ),
        (
            "unknown member of a meter",
            FIRST.replace("attributes", "atributes"),
            vec!["acme", "calls", "atributes"],
        ),
        (
            "bad permission",
            FIRST.replace("measurements:*", "Everything Please"),
            vec!["acme", "backend", "permissions"],
        ),
        (
            "bad address",
            FIRST.replace("127.0.0.0/8", "127.0.0.0/33"),
            vec!["addresses"],
        ),
        (
            "the same meter twice",
            format!(
                "{FIRST}\n[[organization.meter]]\nname = \"calls\"\nkind = \"gauge\"\nvalues = {{ x = {{ unit = \"1\" }} }}\n"
            ),
            vec!["acme", "calls"],
        ),
        (
            "the same organization twice",
            format!("{FIRST}\n[[organization]]\nname = \"acme\"\n"),
            vec!["acme"],
        ),
        (
            "the same key twice",
            format!("{FIRST}\n[[organization.key]]\nname = \"backend\"\npermissions = [\"*\"]\n"),
            vec!["acme", "backend"],
        ),
    ];
    for (what, toml, mut words) in bad {
        println!("{what}");
        let home = Home::new();
        // A good organization before the bad one must not come to be either.
        let toml = if what == "not TOML" {
            toml
        } else {
            format!("[[organization]]\nname = \"before\"\n{toml}")
        };
        words.push("wanted.toml");
        let done = apply(&home, &toml).failed_with(&words);
        assert!(done.stdout.is_empty(), "{what}: {done:?}");
        assert!(!home.path("data").exists(), "{what}: something was written");
    }
    let home = Home::new();
    run(&["apply", &home.text("nowhere.toml"), "--data", &home.data()])
        .failed_with(&["nowhere.toml"]);
}

#[test]
fn service_users_and_users_of_the_m3ter_api_are_made_once() {
    let home = Home::new();
    let wanted = r#"
[[organization]]
name = "acme"

[[organization.m3ter.service_user]]
name = "billing"
policies = ["Administrator"]

[[organization.m3ter.user]]
email = "jane@example.com"
first_name = "Jane"
last_name = "Doe"
"#;
    let bad = wanted.replace("\"Administrator\"", "\"Nobody's\"");
    apply(&home, &bad).failed_with(&["there is no policy"]);
    let done = apply(&home, wanted).succeeded();
    let made = "service user billing: created, key: ";
    assert!(done.stdout.contains(made), "{done:?}");
    assert!(
        done.stdout.contains("user jane@example.com: created"),
        "{done:?}"
    );
    let done = apply(&home, wanted).succeeded();
    assert_eq!(
        lines(&done),
        [
            "organization acme: unchanged",
            "service user billing: unchanged",
            "user jane@example.com: unchanged",
        ]
    );
}

const ENERGY: &str = r#"
[[organization]]
name = "sunny"

[[organization.wattwatchers.device]]
id = "D123456789012"
model = "6M+3SW"
label = "Roof"
timezone = "Australia/Sydney"

[[organization.wattwatchers.device]]
id = "B00000000000A"
model = "3M"

[[organization.wattwatchers.key]]
name = "dashboard"
levels = ["metadata", "switching"]
per_second = 50
per_day = 100000

[[organization.wattwatchers.key]]
name = "panel"
devices = ["B00000000000A"]

[[organization.wattwatchers.key]]
name = "devices"
ingest = true
"#;

#[test]
fn energy_devices_and_their_keys_are_set_up() {
    let home = Home::new();
    let done = apply(&home, ENERGY).succeeded();
    assert_eq!(
        lines(&done),
        [
            "organization sunny: created",
            "device D123456789012: created",
            "device B00000000000A: created",
            "key dashboard: created",
            "key panel: created",
            "key devices: created",
        ]
    );
    let secrets: Vec<_> = (done.stdout.lines())
        .filter_map(|line| line.split_once("(shown once): "))
        .map(|(_, secret)| secret.to_owned())
        .collect();
    assert!(secrets[0].starts_with("key_") && secrets[2].starts_with("ingest_"));
    let again = apply(&home, ENERGY).succeeded();
    assert!(
        lines(&again).iter().all(|line| line.ends_with("unchanged")),
        "{again:?}"
    );
    let changed = ENERGY
        .replace("\"Roof\"", "\"Barn\"")
        .replace("[\"B00000000000A\"]", "[\"D123456789012\"]");
    let done = apply(&home, &changed).succeeded();
    assert_eq!(
        lines(&done)[1..],
        [
            "device D123456789012: updated",
            "device B00000000000A: unchanged",
            "key dashboard: unchanged",
            "key panel: updated",
            "key devices: unchanged",
        ]
    );
    for (bad, named) in [
        (
            ENERGY.replace("\"3M\"", "\"9M\""),
            "there is no model \"9M\"",
        ),
        (
            ENERGY.replace("\"B00000000000A\"", "\"A0\""),
            "\"A0\" is no serial number",
        ),
        (
            ENERGY.replace("Australia/Sydney", "Mars/X"),
            "device D123456789012: timezone",
        ),
        (
            ENERGY.replace("Roof", &"x".repeat(65)),
            "device D123456789012: label: must have 0 to 64 characters",
        ),
        (
            ENERGY.replace(
                "levels = [\"metadata\", \"switching\"]\nper_second = 50\nper_day = 100000",
                "ingest = true",
            ),
            "key dashboard: ",
        ),
        (
            ENERGY.replace("\"switching\"", "\"all\""),
            "none of the levels",
        ),
        (
            ENERGY.replace("per_second = 50", ""),
            "per_second and per_day together",
        ),
        (
            ENERGY.replace(
                "devices = [\"B00000000000A\"]",
                "devices = [\"F00000000000A\"]",
            ),
            "there is no device F00000000000A",
        ),
        (
            ENERGY.replace("sunny", "shady"),
            "belongs to another organization",
        ),
    ] {
        apply(&home, &bad).failed_with(&[named]);
    }

    let created = run(&[
        "key",
        "create",
        "--surface",
        "wattwatchers",
        "--organization",
        "sunny",
        "--name",
        "phone",
        "--device",
        "D123456789012",
        "--level",
        "metadata",
        "--auto-limits",
        "--data",
        &home.data(),
    ]);
    let created = created.succeeded();
    let bound = [
        "--name",
        "x",
        "--address",
        "10.0.0.0/8",
        "--data",
        &home.data(),
    ];
    let create = [
        "key",
        "create",
        "--surface",
        "wattwatchers",
        "--organization",
        "sunny",
    ];
    run(&[&create[..], &bound[..]].concat()).failed_with(&["--address"]);
    let phone = created.after("secret");
    assert!(phone.starts_with("key_"));
    let rotated = run(&[
        "key",
        "rotate",
        &created.after("id"),
        "--data",
        &home.data(),
    ]);
    let phone = rotated.succeeded().after("secret");
    assert!(phone.starts_with("key_"));

    let server = Server::start(&home);
    let listed = |key: &str| server.client(key).get("/wattwatchers/devices").ok();
    assert_eq!(
        listed(&secrets[0]),
        json!(["B00000000000A", "D123456789012"])
    );
    assert_eq!(listed(&secrets[1]), json!(["D123456789012"]));
    assert_eq!(listed(&phone), json!(["D123456789012"]));
    let device = server
        .client(&phone)
        .get("/wattwatchers/devices/D123456789012")
        .ok();
    assert_eq!(device["label"], "Barn");
    let meters = server.client(&secrets[2]).get("/wattwatchers/devices");
    assert_eq!(meters.status, 403);
    assert_eq!(server.stop(), Some(0));
}

const COMPANY: &str = r#"
[[organization]]
name = "acme"

[organization.fsm_navigator]
plan = "Enterprise"

[[organization.fsm_navigator.key]]
name = "app"
scopes = ["jobs:read", "technicians:read"]
limits = { fsm-list = 5 }

[[organization.fsm_navigator.key]]
name = "app"
environment = "test"
scopes = ["technicians:read"]

[[organization.fsm_navigator.live.technician]]
first_name = "Ada"
last_name = "Lovelace"
vehicle_type = "Van"

[[organization.fsm_navigator.live.asset_type]]
name = "Compressor"

[[organization.fsm_navigator.live.stock_location]]
name = "Warehouse"
"#;

#[test]
fn a_company_of_fsm_navigator_is_set_up() {
    let home = Home::new();
    let made = apply(&home, COMPANY).succeeded();
    let things = [
        "key app",
        "key app",
        "plan Enterprise",
        "technician Ada Lovelace",
        "asset type Compressor",
        "stock location Warehouse",
    ];
    let with = |word: &str| things.map(|thing| format!("{thing}: {word}"));
    assert_eq!(lines(&made)[1..], with("created"));
    let again = apply(&home, COMPANY).succeeded();
    assert_eq!(lines(&again)[1..], with("unchanged"));
    let changed = COMPANY
        .replace("\"Van\"", "\"Truck\"")
        .replace("fsm-list = 5", "fsm-list = 6");
    let changed = apply(&home, &changed).succeeded();
    let updated: Vec<_> = lines(&changed)
        .into_iter()
        .filter(|line| line.ends_with("updated"))
        .collect();
    assert_eq!(
        updated,
        ["key app: updated", "technician Ada Lovelace: updated"]
    );
    for (from, to, word) in [
        ("jobs:read", "jobs:*", "scope"),
        ("fsm-list", "fsm-all", "fsm-all"),
        ("vehicle_type = \"Van\"", "status = \"Gone\"", "status"),
        ("\"Ada\"", "\" \"", "first_name"),
    ] {
        apply(&home, &COMPANY.replace(from, to)).failed_with(&["fsm_navigator", word]);
    }
}

#[test]
fn meters_of_assets_are_set_up_and_reset() {
    let home = Home::new();
    let made = apply(&home, &COMPANY.replace("jobs:read", "assets:write")).succeeded();
    let (_, key) = made.stdout.split_once("(shown once): ").unwrap();
    let key = key.split_whitespace().next().unwrap();
    let server = Server::start(&home);
    let body = r#"{"asset_name":"Compressor 1"}"#;
    let request = format!(
        "POST /fsm-navigator/api/v1/assets HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server.connect(), request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.stop(), Some(0));
    let meters = r#"
[[organization]]
name = "acme"

[[organization.fsm_navigator.live.meter]]
asset = "AST-000001"
name = "Engine Hours"
unit = "hours"
threshold_value = "500.5"
threshold_action = "create_job"

[[organization.fsm_navigator.live.reset]]
asset = "AST-000001"
meter = "Engine Hours"
at = "2026-03-01T08:00:00Z"
base = 12
"#;
    let things = [
        "meter Engine Hours of AST-000001",
        "reset of Engine Hours of AST-000001 at 2026-03-01T08:00:00Z",
    ];
    let with = |word: &str| things.map(|thing| format!("{thing}: {word}"));
    let made = apply(&home, meters).succeeded();
    assert_eq!(lines(&made)[1..], with("created"));
    let again = apply(&home, meters).succeeded();
    assert_eq!(lines(&again)[1..], with("unchanged"));
    for (from, to, word) in [
        ("AST-000001", "AST-000002", "asset"),
        ("unit = \"hours\"", "unit = \"days\"", "unit"),
        ("base = 12", "base = 13", "base"),
        ("create_job", "explode", "threshold_action"),
        ("\"500.5\"", "-1", "threshold_value"),
    ] {
        apply(&home, &meters.replace(from, to)).failed_with(&["fsm_navigator", word]);
    }
    // What it made for itself in the engine is not defined anew, but may keep its measurements for less long.
    let engine_meter = |kind: &str| {
        format!(
            r#"
[[organization]]
name = "acme"

[[organization.meter]]
name = "engine_hours"
kind = "{kind}"
values = {{ reading = {{ unit = "hours" }} }}
attributes = ["job_id", "reading_id", "reset", "source"]
retention_days = 4000
"#
        )
    };
    for word in ["updated", "unchanged"] {
        let kept = apply(&home, &engine_meter("register")).succeeded();
        assert_eq!(lines(&kept)[1..], [format!("meter engine_hours: {word}")]);
    }
    apply(&home, &engine_meter("gauge")).failed_with(&["engine_hours", "fsm-navigator"]);
}
