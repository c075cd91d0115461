//! Measurements: what a request must be, what becomes of each row, and that nothing is counted twice.

use crate::server::{Options, Server, message};
use meterd_testkit::client::{Answer, post};
use meterd_testkit::now;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ACCEPTED: &str = r#"{"result":"accepted"}"#;
pub(crate) const TIME: &str = "2024-03-01T10:00:00Z";

/// A meter with one field of each type that counts, and one derived from the first.
pub(crate) fn storage() -> Value {
    json!({
        "name": "Storage", "code": "storage",
        "dataFields": [
            {"category": "MEASURE", "code": "bytes", "name": "Bytes", "unit": "By"},
            {"category": "WHERE", "code": "region", "name": "Region"},
            {"category": "METADATA", "code": "note", "name": "Note"},
        ],
        "derivedFields": [
            {"category": "COST", "code": "perByte", "name": "Cost per byte", "calculation": "12 / bytes"},
        ],
    })
}

pub(crate) fn account(code: &str) -> Value {
    json!({"name": code, "code": code, "emailAddress": "a@example.com"})
}

pub(crate) fn row(uid: &str, account: &str, time: &str, bytes: &str, region: &str) -> Value {
    json!({
        "uid": uid, "meter": "storage", "account": account, "ts": time,
        "measure": {"bytes": serde_json::from_str::<Value>(bytes).unwrap()}, "where": {"region": region},
    })
}

impl Server {
    /// A server with the meter and an account `acme`; the meter's id.
    pub(crate) fn with_storage() -> (Self, String) {
        Self::with_storage_and(Options::default())
    }

    pub(crate) fn with_storage_and(options: Options) -> (Self, String) {
        let server = Self::start_with(options);
        let meter = server.post("/meters", &storage());
        server.post("/accounts", &account("acme"));
        let id = meter["id"].as_str().unwrap().to_owned();
        (server, id)
    }

    pub(crate) fn send_body(&self, body: impl Into<Vec<u8>>) -> Answer {
        let path = self.path("/measurements");
        self.send(&post(path).key(&self.acme.admin.token).json(body))
    }

    #[track_caller]
    pub(crate) fn submit(&self, rows: &[Value]) {
        let answer = self.send_body(json!({"measurements": rows}).to_string());
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        assert_eq!(answer.body, ACCEPTED.as_bytes());
    }

    /// The refusal of a request with these rows.
    #[track_caller]
    fn refusal(&self, rows: &Value) -> String {
        message(
            &self.send_body(json!({"measurements": rows}).to_string()),
            400,
        )
    }

    /// All raw rows, oldest first.
    pub(crate) fn stored(&self) -> Vec<Value> {
        let query = json!({"startDate": "1970-01-01", "endDate": "9999-01-01"});
        let mut answer = self.post("/usage/query", &query);
        assert_eq!(answer["hasMoreData"], false);
        let mut rows: Vec<Value> = serde_json::from_value(answer["data"].take()).unwrap();
        rows.reverse();
        rows
    }

    fn stored_uids(&self) -> Vec<String> {
        let rows = self.stored();
        rows.iter()
            .map(|row| row["uid"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The types of all failures on record, oldest first.
    fn failures(&self) -> Vec<String> {
        let events = self.get("/events?eventType=IngestValidationFailure");
        let mut types: Vec<String> = events["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["m3terEvent"]["type"].as_str().unwrap().to_owned())
            .collect();
        types.reverse();
        types
    }
}

#[test]
fn a_measurement_is_stored_with_its_derived_field_when_it_is_accepted() {
    let (server, meter) = Server::with_storage();
    let mut sent = row("u-1", "acme", "2024-03-01T11:00:00.5+01:00", "8", "eu");
    sent["ets"] = json!("2024-03-01T12:00");
    sent["metadata"] = json!({"note": ""});
    sent["what"] = json!({"unknown": "dropped"});
    sent["unknown"] = json!([{}]);
    server.submit(&[sent]);
    let mut rows = server.stored();
    assert_eq!(rows.len(), 1);
    let account = server.get("/accounts")["data"][0]["id"].take();
    assert!(rows[0]["receivedAt"].take().is_string());
    assert_eq!(
        rows[0],
        json!({
            "uid": "u-1", "meterId": meter, "meterCode": "storage", "accountId": account, "accountCode": "acme",
            "ts": "2024-03-01T10:00:00.500Z", "ets": "2024-03-01T12:00:00.000Z", "receivedAt": null,
            "who": {}, "where": {"region": "eu"}, "what": {}, "other": {}, "metadata": {"note": ""},
            "measure": {"bytes": 8}, "cost": {"perByte": 1.5}, "income": {},
        })
    );
    assert!(server.failures().is_empty());
}

#[test]
fn a_request_has_one_to_a_thousand_rows_and_fewer_than_512000_bytes() {
    let (server, _) = Server::with_storage();
    let rows = |count: usize| -> Vec<Value> {
        let row = |n| row(&format!("r{n}"), "acme", TIME, "1", "eu");
        (0..count).map(row).collect()
    };
    server.submit(&rows(1_000));
    assert_eq!(server.stored().len(), 1_000);
    for count in [0, 1_001] {
        assert_eq!(
            server.refusal(&json!(rows(count))),
            "Validation failed: measurements: must have 1 to 1000 items"
        );
    }
    let mut body = json!({"measurements": [row("big", "acme", TIME, "1", "eu")]}).to_string();
    body.push_str(&" ".repeat(511_999 - body.len()));
    assert_eq!(server.send_body(body.clone()).status, 200);
    body.push(' ');
    let answer = server.send_body(body);
    assert_eq!(message(&answer, 403), "Request payload too large");
    assert_eq!(server.stored().len(), 1_001);
}

#[test]
fn a_malformed_row_refuses_the_request_with_all_that_is_wrong() {
    let (server, _) = Server::with_storage();
    let good = row("good", "acme", TIME, "1", "eu");
    let with = |name: &str, value: Value| {
        let mut row = good.clone();
        row[name] = value;
        row
    };
    for (name, value, reason) in [
        ("meter", Value::Null, "meter: is required"),
        ("account", Value::Null, "account: is required"),
        ("ts", Value::Null, "ts: is required"),
        ("meter", json!(" storage"), "meter: must"),
        ("account", json!(""), "account: must"),
        ("account", json!("a".repeat(81)), "account: must"),
        ("uid", json!("u".repeat(51)), "uid: must"),
        ("uid", json!(7), "uid: must be a string"),
        ("ts", json!("yesterday"), "ts: must"),
        ("ts", json!("1969-12-31T23:59:59Z"), "ts: must"),
        (
            "ets",
            json!("2024-03-01T09:00:00Z"),
            "ets: must not be before ts",
        ),
        ("where", json!([]), "where: must be an object"),
        (
            "where",
            json!({"region": 7}),
            "where.region: must be a string",
        ),
        (
            "measure",
            json!({"bytes": "7"}),
            "measure.bytes: must be a number",
        ),
        ("measure", json!({"bytes": 1e20}), "measure.bytes: must"),
        ("who", json!({"a": "x".repeat(257)}), "who.a: must"),
    ] {
        let refusal = server.refusal(&json!([good, with(name, value.clone())]));
        let expected = format!("Validation failed: measurements[1].{reason}");
        assert!(refusal.starts_with(&expected), "{name} {value}: {refusal}");
    }
    let soon = |seconds: i64| {
        let time = meterd_model::Timestamp::from_seconds(now().seconds() + seconds);
        with("ts", json!(time.unwrap().to_string()))
    };
    assert_eq!(
        server.refusal(&json!([soon(120)])),
        "Validation failed: measurements[0].ts: must not be in the future"
    );
    for (body, refusal) in [
        ("[]", "Validation failed: body: must be an object"),
        ("{}", "Validation failed: measurements: is required"),
        (
            r#"{"measurements":[7]}"#,
            "Validation failed: measurements[0]: must be an object",
        ),
        (
            r#"{"measurements":[{"uid":"a","uid":"b","measure":{"x":1,"x":2}}]}"#,
            "Validation failed: measurements[0].uid: must not be given twice; \
             measurements[0].measure.x: must not be given twice; measurements[0].meter: is required; \
             measurements[0].account: is required; measurements[0].ts: is required",
        ),
    ] {
        assert_eq!(message(&server.send_body(body), 400), refusal);
    }
    let path = server.path("/measurements");
    let other = post(path)
        .key(&server.acme.admin.token)
        .typed("text/csv", "{}");
    message(&server.send(&other), 400);
    let broken = message(&server.send_body(r#"{"measurements":[{"meter":}]}"#), 400);
    assert!(broken.starts_with("Invalid JSON: "), "{broken}");
    assert!(server.stored().is_empty());
    // A clock that is a little ahead is none's fault.
    server.submit(&[soon(30)]);
    assert_eq!(server.stored().len(), 1);
}

#[test]
fn what_does_not_fit_its_meter_is_told_and_the_rest_is_stored() {
    let (server, _) = Server::with_storage();
    let mut rows = vec![row("good", "acme", TIME, "1", "eu")];
    let mut bad = |uid: &str, name: &str, value: Value| {
        let mut row = row(uid, "acme", TIME, "1", "eu");
        row[name] = value;
        rows.push(row);
    };
    bad("undefined", "meter", json!("Storage"));
    bad("missing", "measure", json!({}));
    bad("elsewhere", "where", Value::Null);
    bad("doubled", "who", json!({"region": "eu"}));
    bad("near", "account", json!("ACME "));
    rows[4]["account"] = json!("new-but-bad");
    rows[5]["account"] = json!("ACME");
    rows[3]["what"] = json!({"region": "eu"});
    server.submit(&rows);
    assert_eq!(server.stored_uids(), ["good"]);
    let failures: BTreeSet<_> = server.failures().into_iter().collect();
    let expected = [
        "UndefinedMeter",
        "MissingField",
        "DuplicateField",
        "InvalidAccountCode",
    ];
    assert_eq!(failures, expected.map(str::to_owned).into());
    // A row that is not stored makes no account.
    assert_eq!(server.get("/accounts")["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_derived_field_that_cannot_be_computed_is_left_out() {
    let (server, _) = Server::with_storage();
    server.submit(&[
        row("zero", "acme", TIME, "0", "eu"),
        row("small", "acme", TIME, "0.0000000000000000001", "eu"),
        row("third", "acme", TIME, "36", "eu"),
    ]);
    let rows = server.stored();
    let costs: Vec<_> = rows.iter().map(|row| row["cost"].to_string()).collect();
    assert_eq!(costs, ["{}", "{}", r#"{"perByte":0.3333333333333333}"#]);
    assert_eq!(server.failures(), ["CalculationError"]);
}

#[test]
fn a_uid_counts_once() {
    let (server, _) = Server::with_storage();
    let first = row("same", "acme", TIME, "1", "eu");
    let other = row("same", "acme", TIME, "2", "us");
    server.submit(&[first.clone(), other.clone()]);
    assert_eq!(server.failures(), ["DuplicateUid"]);
    // As a client repeats what it has no answer to.
    server.submit(std::slice::from_ref(&first));
    server.submit(&[other]);
    let rows = server.stored();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["measure"]["bytes"], 1);
    assert_eq!(server.failures().len(), 3);
    // Without one, every submission counts.
    let mut nameless = first;
    nameless["uid"] = json!("");
    let mut nothing = nameless.clone();
    nothing["uid"] = Value::Null;
    server.submit(&[nameless.clone(), nothing.clone()]);
    server.submit(&[nameless, nothing]);
    let uids: BTreeSet<_> = server.stored_uids().into_iter().collect();
    assert_eq!(uids.len(), 5);
    assert_eq!(server.failures().len(), 3);
}

#[test]
fn an_unknown_account_is_made_and_keeps_its_usage() {
    let (server, _) = Server::with_storage();
    server.submit(&[
        row("a", "New Customer", TIME, "-3", "eu"),
        row("b", "new  customer", TIME, "1", "eu"),
        row("c", "New Customer", TIME, "5", "eu"),
    ]);
    assert_eq!(server.stored_uids(), ["a", "c"]);
    assert_eq!(server.failures(), ["InvalidAccountCode"]);
    let found = server.get("/accounts?codes=New%20Customer");
    let made = &found["data"][0];
    assert_eq!(made["name"], "New Customer-autocreated");
    let email = made["emailAddress"].as_str().unwrap();
    assert!(email.ends_with("-autocreated@example.com"), "{email}");
    assert_eq!(email.len(), 16 + "-autocreated@example.com".len());
    // Its code is changed; what it used stays its own, and the old code is free.
    let id = made["id"].as_str().unwrap();
    let renamed = json!({"name": "N", "code": "renamed", "emailAddress": email, "version": 1});
    server.put(&format!("/accounts/{id}"), &renamed);
    server.submit(&[row("d", "New Customer", TIME, "7", "eu")]);
    let owners: Vec<_> = server
        .stored()
        .iter()
        .map(|row| row["accountCode"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(owners, ["renamed", "renamed", "New Customer"]);
}

/// Twenty clients send the same rows for accounts that nobody knows, each from another place on, as clients do that
/// repeat what was not answered.
#[test]
fn clients_that_repeat_each_other_make_each_account_and_count_each_row_once() {
    const CLIENTS: usize = 20;
    const ROWS: usize = 200;
    const ACCOUNTS: usize = 25;
    let (server, _) = Server::with_storage();
    let all: Vec<Value> = (0..ROWS)
        .map(|n| {
            let account = format!("customer-{}", n % ACCOUNTS);
            row(&format!("uid-{n}"), &account, TIME, "1", "eu")
        })
        .collect();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, all) = (&server, &all);
            scope.spawn(move || {
                for part in 0..4 {
                    let from = (client * 37 + part * 50) % ROWS;
                    let rows: Vec<Value> =
                        all.iter().cycle().skip(from).take(60).cloned().collect();
                    server.submit(&rows);
                }
            });
        }
    });
    let rows = server.stored();
    let uids: BTreeSet<_> = rows.iter().map(|row| row["uid"].to_string()).collect();
    assert_eq!((rows.len(), uids.len()), (ROWS, ROWS));
    let accounts = server.get("/accounts?pageSize=100");
    let accounts = accounts["data"].as_array().unwrap();
    assert_eq!(accounts.len(), ACCOUNTS + 1);
    let owners: BTreeSet<_> = rows
        .iter()
        .map(|row| row["accountId"].to_string())
        .collect();
    assert_eq!(owners.len(), ACCOUNTS);
}

#[test]
fn custom_fields_take_part_in_calculations() {
    let server = Server::start();
    let defaults = server.get("/customfields");
    let defaults = json!({
        "version": defaults["version"],
        "organization": {"factor": 2}, "meter": {"unit": 3}, "account": {"rate": 5}, "plan": {"base": 7},
    });
    server.put("/customfields", &defaults);
    let meter = json!({
        "name": "M", "code": "m", "customFields": {"unit": 11},
        "dataFields": [{"category": "MEASURE", "code": "x", "name": "X"}],
        "derivedFields": [
            {"category": "MEASURE", "code": "y", "name": "Y",
             "calculation": "x * organization.factor * meter.unit * account.rate + plan.base"},
            {"category": "OTHER", "code": "late", "name": "Late",
             "calculation": "timestamp.ts > 1709287200000 ? \"late\" : \"early\""},
        ],
    });
    let made = server.post("/meters", &meter);
    let mut own = account("own");
    own["customFields"] = json!({"rate": 13});
    server.post("/accounts", &own);
    let sent = |uid: &str, account: &str, time: &str| json!({"uid": uid, "meter": "m", "account": account, "ts": time, "measure": {"x": 1}});
    server.submit(&[
        sent("a", "own", TIME),
        sent("b", "other", "2024-03-01T10:00:01Z"),
    ]);
    // What is changed holds for what comes after.
    let mut changed = meter;
    changed["version"] = made["version"].clone();
    changed["customFields"] = json!({});
    server.put(
        &format!("/meters/{}", made["id"].as_str().unwrap()),
        &changed,
    );
    server.submit(&[sent("c", "own", "2024-03-01T10:00:02Z")]);
    let rows = server.stored();
    let derived: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["measure"]["y"].as_i64().unwrap(),
                row["other"]["late"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(derived, [(293, "early"), (117, "late"), (85, "late")]);
}

#[test]
fn what_becomes_of_an_account_holds_for_the_next_row() {
    let server = Server::start();
    let defaults = server.get("/customfields");
    let defaults = json!({"version": defaults["version"], "account": {"rate": 5}});
    server.put("/customfields", &defaults);
    let meter = json!({
        "name": "M", "code": "m", "dataFields": [{"category": "MEASURE", "code": "x", "name": "X"}],
        "derivedFields": [{"category": "COST", "code": "y", "name": "Y", "calculation": "x * account.rate"}],
    });
    server.post("/meters", &meter);
    let send = |uid: &str, time: &str| {
        server.submit(&[
            json!({"uid": uid, "meter": "m", "account": "own", "ts": time, "measure": {"x": 1}}),
        ]);
    };
    let mut own = account("own");
    own["customFields"] = json!({"rate": 13});
    let mut own = server.post("/accounts", &own);
    send("a", "2024-03-01T10:00:00Z");
    send("b", "2024-03-01T10:00:01Z");
    own["customFields"] = json!({"rate": 17});
    let path = format!("/accounts/{}", own["id"].as_str().unwrap());
    server.put(&path, &own);
    send("c", "2024-03-01T10:00:02Z");
    server.delete(&path);
    send("d", "2024-03-01T10:00:03Z");
    let costs: Vec<_> = server
        .stored()
        .iter()
        .map(|row| (row["accountCode"].clone(), row["cost"]["y"].clone()))
        .collect();
    let gone = |cost: u32| (Value::Null, json!(cost));
    let expected = [gone(13), gone(13), gone(17), (json!("own"), json!(5))];
    assert_eq!(costs, expected);
}

#[test]
fn what_was_accepted_is_there_after_a_restart() {
    let (server, _) = Server::with_storage();
    server.submit(&[
        row("a", "acme", TIME, "1", "eu"),
        row("b", "fresh", TIME, "2", "eu"),
    ]);
    let before = server.stored();
    let server = server.restart();
    assert_eq!(server.stored(), before);
    server.submit(&[row("b", "fresh", TIME, "2", "eu")]);
    assert_eq!(server.stored(), before);
}

/// Formulas as long as they may be, for as many rows as a request has.
#[test]
fn long_calculations_are_made_for_every_row() {
    let server = Server::start();
    let long = format!("bytes{}", " + 1 - 1".repeat(500));
    let derived: Vec<_> = (0..2)
        .map(|n| json!({"category": "MEASURE", "code": format!("d{n}"), "name": "D", "calculation": long}))
        .collect();
    let mut meter = storage();
    meter["derivedFields"] = json!(derived);
    server.post("/meters", &meter);
    let rows: Vec<_> = (0..1_000)
        .map(|n| row(&format!("r{n}"), "acme", TIME, "7", "eu"))
        .collect();
    server.submit(&rows);
    let rows = server.stored();
    assert_eq!(rows.len(), 1_000);
    for row in rows {
        assert_eq!(row["measure"], json!({"bytes": 7, "d0": 7, "d1": 7}));
    }
}
