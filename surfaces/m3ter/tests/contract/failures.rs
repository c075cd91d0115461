//! What could not be ingested: the events, the file, and the address that hands it out.

use crate::server::{Options, Server, message};
use meterd_control::NewFile;
use meterd_testkit::client::{Answer, exchange, get, post, put};
use meterd_testkit::now;
use serde_json::{Value, json};
use std::time::Duration;

/// A meter with a measure, a text, and a quotient that zero parts leave undefined.
pub(crate) fn create_meter(server: &Server) -> Value {
    server.post(
        "/meters",
        &json!({
            "name": "Storage", "code": "storage",
            "dataFields": [
                {"category": "MEASURE", "code": "bytes", "name": "Bytes", "unit": "By"},
                {"category": "MEASURE", "code": "parts", "name": "Parts"},
                {"category": "WHERE", "code": "region", "name": "Region"},
            ],
            "derivedFields": [{"category": "MEASURE", "code": "share", "name": "Share", "calculation": "bytes / parts"}],
        }),
    )
}

pub(crate) fn row(uid: &str) -> Value {
    json!({
        "uid": uid, "meter": "storage", "account": "acme", "ts": "2026-03-01T10:00:00Z",
        "measure": {"bytes": 3, "parts": 2}, "where": {"region": "eu"},
    })
}

pub(crate) fn submit(server: &Server, rows: &[Value]) {
    let answer = server.post("/measurements", &json!({"measurements": rows}));
    assert_eq!(answer, json!({"result": "accepted"}));
}

/// Fetches a signed address, which says where the server is but needs no token.
pub(crate) fn fetch(server: &Server, url: &str) -> Answer {
    server.send(&get(path_of(url)))
}

pub(crate) fn path_of(url: &str) -> &str {
    url.strip_prefix("http://meter.example").unwrap()
}

/// `http://host/m3ter/organizations/{orgId}/…` below the organization.
fn below_organization<'u>(server: &Server, url: &'u str) -> &'u str {
    path_of(url).strip_prefix(&server.path("")).unwrap()
}

pub(crate) fn failures(server: &Server) -> Vec<Value> {
    let events = server.get("/events?eventType=IngestValidationFailure");
    events["data"].as_array().unwrap().clone()
}

#[test]
fn each_kind_of_failure_is_an_event_that_names_the_file() {
    let server = Server::start();
    create_meter(&server);
    let mut unknown = row("u-1");
    unknown["meter"] = json!("nothing");
    let mut missing = row("u-2");
    missing["measure"] = json!({"parts": 1});
    let mut undefined = row("u-3");
    undefined["measure"]["parts"] = json!(0);
    submit(&server, &[row("u-0")]);
    submit(&server, &[unknown.clone(), missing, undefined]);

    let of_account = |code: &str| {
        let account = &server.get(&format!("/accounts?codes={code}"))["data"][0]["id"];
        let query = format!("/events?accountId={}", account.as_str().unwrap());
        let events = server.get(&format!("{query}&eventName=ingest.validation.failure"));
        let events = events["data"].as_array().unwrap().iter();
        let mut kinds: Vec<_> = events
            .map(|event| event["m3terEvent"]["type"].as_str().unwrap().to_owned())
            .collect();
        kinds.sort_unstable();
        kinds
    };
    let events = failures(&server);
    let mut kinds: Vec<_> = events
        .iter()
        .map(|event| event["m3terEvent"]["type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["CalculationError", "MissingField", "UndefinedMeter"]
    );
    let event = events
        .iter()
        .find(|event| event["m3terEvent"]["type"] == "UndefinedMeter")
        .unwrap();
    assert_eq!(event["eventName"], "ingest.validation.failure");
    assert_eq!(event["m3terEvent"]["uids"], json!(["u-1"]));
    assert_eq!(event["m3terEvent"]["measurements"], 1);
    // They are the account's, which was there before; what fails makes none.
    assert_eq!(
        of_account("acme"),
        ["CalculationError", "MissingField", "UndefinedMeter"]
    );

    let named = event["m3terEvent"]["getDownloadUrl"].as_str().unwrap();
    let url = server.get(below_organization(&server, named))["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = fetch(&server, &url);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.header("content-disposition"),
        Some("attachment; filename=\"failed-ingest.json\"")
    );
    let file = answer.expect(200);
    assert_eq!(file.as_array().unwrap().len(), 3);
    let record = file
        .as_array()
        .unwrap()
        .iter()
        .find(|record| record["measurement"]["uid"] == "u-1")
        .unwrap();
    assert_eq!(record["measurement"], unknown);
    assert_eq!(record["errors"][0]["type"], "UndefinedMeter");

    // The whole address will do as the name of the file, and no name stands for the last file.
    let whole = server.get(&format!(
        "/measurements/failedIngest/getDownloadUrl?file={}",
        percent(named)
    ));
    assert_eq!(
        fetch(&server, whole["url"].as_str().unwrap()).expect(200),
        file
    );
    let last = server.get("/measurements/failedIngest/getDownloadUrl");
    assert_eq!(
        fetch(&server, last["url"].as_str().unwrap()).expect(200),
        file
    );
}

fn percent(text: &str) -> String {
    text.replace(':', "%3A")
        .replace('/', "%2F")
        .replace('?', "%3F")
        .replace('=', "%3D")
}

#[test]
fn a_file_is_found_by_its_owner_only() {
    let server = Server::start();
    let unknown =
        "/measurements/failedIngest/getDownloadUrl?file=0190f2c0-0000-7000-8000-000000000000";
    assert_eq!(
        server.refused(404, "GET", unknown, None),
        "File not found: 0190f2c0-0000-7000-8000-000000000000"
    );
    server.refused(
        404,
        "GET",
        "/measurements/failedIngest/getDownloadUrl",
        None,
    );
    server.refused(
        404,
        "GET",
        "/measurements/failedIngest/getDownloadUrl?file=x",
        None,
    );

    submit(&server, &[row("u-1")]);
    let named = failures(&server)[0]["m3terEvent"]["getDownloadUrl"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = below_organization(&server, &named);
    let foreign = server.rival.path(path);
    let answer = server.send(&get(foreign).key(&server.rival.admin.token));
    assert!(message(&answer, 404).starts_with("File not found"));
    let poor = server.service_user("poor", &[]);
    assert_eq!(
        message(&server.ask_as(&poor.token, "GET", path, None), 403),
        "Forbidden"
    );
}

#[test]
fn an_address_ends_with_its_time_and_cannot_be_made() {
    let server = Server::start();
    submit(&server, &[row("u-1")]);
    let url = server.get("/measurements/failedIngest/getDownloadUrl")["url"]
        .as_str()
        .unwrap()
        .to_owned();
    fetch(&server, &url).expect(200);
    let refused = |path: &str| message(&server.send(&get(path)), 403);
    let (body, signature) = path_of(&url).rsplit_once('.').unwrap();
    assert_eq!(refused(&format!("{body}x.{signature}")), "Unauthorized");
    assert_eq!(refused("/m3ter/transfers/x"), "Unauthorized");
    let answer = server.send(&put(path_of(&url)).json("[]"));
    assert_eq!(message(&answer, 403), "Unauthorized");

    let file = server
        .control
        .files()
        .newest(server.acme.id, "m3ter-failed-ingest", now());
    let body = json!({"Get": {"organization": server.acme.id, "file": file.unwrap().unwrap().id}});
    let signer = server.control.signer();
    let sign = |purpose, ago| {
        let expires = now()
            .saturating_add(Duration::from_mins(1))
            .saturating_sub(ago);
        format!(
            "/m3ter/transfers/{}",
            signer.sign(purpose, &body, expires).unwrap()
        )
    };
    server
        .send(&get(sign("m3ter-transfer", Duration::ZERO)))
        .expect(200);
    assert_eq!(
        refused(&sign("m3ter-transfer", Duration::from_mins(1))),
        "Unauthorized"
    );
    assert_eq!(refused(&sign("another", Duration::ZERO)), "Unauthorized");
}

/// What is stored is stored; to say otherwise would have the client send it again.
#[test]
fn a_row_that_fails_is_told_although_others_have_filled_the_files() {
    let mut options = Options::default();
    options.general.files_bytes_max = Some(50_000);
    let server = Server::start_with(options);
    create_meter(&server);
    let new = NewFile {
        organization: server.acme.id,
        purpose: "m3ter-upload",
        name: "large".to_owned(),
        media_type: "application/json".to_owned(),
        expires_at: now().saturating_add(Duration::from_hours(1)),
        purpose_bytes_max: None,
    };
    let mut large = server.control.files().create(new, now()).unwrap();
    large.write(&vec![b' '; 45_000]).unwrap();
    large.finish().unwrap();
    let mut unknown = row("u-2");
    unknown["meter"] = json!("nothing");
    submit(&server, &[row("u-1"), unknown]);
    assert_eq!(server.stored().len(), 1);
    let named = failures(&server)[0]["m3terEvent"]["getDownloadUrl"].clone();
    let path = below_organization(&server, named.as_str().unwrap());
    let url = server.get(path)["url"].clone();
    assert_eq!(fetch(&server, url.as_str().unwrap()).status, 200);
}

/// Where the file is follows from who reads of it: the sender may name any host, and readers follow with their tokens.
#[test]
fn the_address_of_a_file_is_the_readers() {
    let server = Server::start();
    let body = json!({"measurements": [row("u-1")]}).to_string();
    let sent = post(server.path("/measurements")).key(&server.acme.admin.token);
    let sent = String::from_utf8(sent.json(body).bytes()).unwrap();
    let sent = sent.replace("Host: meter.example", "Host: evil.example");
    assert_eq!(exchange(server.address, sent.as_bytes(), false).status, 200);
    let named = failures(&server)[0]["m3terEvent"]["getDownloadUrl"].clone();
    server.get(below_organization(&server, named.as_str().unwrap()));
}
