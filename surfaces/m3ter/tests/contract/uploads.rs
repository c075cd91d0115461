//! Measurements as files: the address, the file, and the job that reads it.

use crate::failures::{create_meter, fetch, path_of, row, submit};
use crate::server::{Server, message};
use meterd_control::EventFilter;
use meterd_surface_m3ter::tick;
use meterd_testkit::client::{Answer, connect, put, read_answer};
use meterd_testkit::now;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub(crate) fn ask_for_url(server: &Server, length: usize) -> Value {
    server.post(
        "/fileuploads/measurements/generateUploadUrl",
        &json!({"fileName": "march.json", "contentType": "application/json", "contentLength": length}),
    )
}

pub(crate) fn upload(server: &Server, url: &Value, body: &str) -> Answer {
    server.send(&put(path_of(url["url"].as_str().unwrap())).json(body))
}

/// The job once it is at its end.
pub(crate) fn finished(server: &Server, path: &str, ends: &[&str]) -> Value {
    let started = Instant::now();
    loop {
        let job = server.get(path);
        if ends.contains(&job["status"].as_str().unwrap()) {
            return job;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn job_path(url: &Value) -> String {
    format!(
        "/fileuploads/measurements/jobs/{}",
        url["jobId"].as_str().unwrap()
    )
}

fn failure_kinds(server: &Server) -> Vec<String> {
    let events = server.get("/events?eventType=IngestValidationFailure");
    let events = events["data"].as_array().unwrap();
    let kinds = events
        .iter()
        .map(|event| event["m3terEvent"]["type"].as_str().unwrap().to_owned());
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn a_file_is_taken_in_and_its_rows_are_stored() {
    let server = Server::start();
    create_meter(&server);
    submit(&server, &[row("u-1")]);
    let mut without_uid = row("x");
    without_uid.as_object_mut().unwrap().remove("uid");
    let mut unknown = row("u-3");
    unknown["meter"] = json!("nothing");
    let rows = json!([row("u-2"), without_uid, unknown, {"uid": "u-4"}, row("u-2")]);
    let body = rows.to_string();
    let url = ask_for_url(&server, body.len());
    assert_eq!(
        url["headers"],
        json!({"Content-Length": body.len().to_string(), "Content-Type": "application/json"})
    );
    let job = server.get(&job_path(&url));
    assert_eq!(
        (&job["status"], &job["fileName"]),
        (&json!("notUploaded"), &json!("march.json"))
    );
    let original = format!("{}/original", job_path(&url));
    server.refused(404, "GET", &original, None);

    assert_eq!(upload(&server, &url, &body).status, 200);
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(job["status"], "succeeded");
    let counts = ["totalRows", "processedRows", "failedRows", "contentLength"]
        .map(|name| job[name].as_u64().unwrap());
    // The repeat of u-2 has equal content, which in a file counts as done.
    assert_eq!(counts, [5, 5, 2, body.len() as u64]);
    // What the server keeps for itself stays there.
    assert!(
        job.get("file").is_none() && job.get("starts").is_none(),
        "{job}"
    );
    assert_eq!(
        failure_kinds(&server),
        ["InvalidMeasurement", "UndefinedMeter"]
    );

    let original = server.get(&original);
    assert_eq!(original["jobId"], url["jobId"]);
    assert_eq!(
        fetch(&server, original["url"].as_str().unwrap()).expect(200),
        rows
    );
    // The address works once.
    let again = message(&upload(&server, &url, &body), 400);
    assert_eq!(
        again,
        "The upload job cannot change from succeeded to running"
    );
}

#[test]
fn a_broken_file_fails_and_keeps_the_rows_before() {
    let server = Server::start();
    create_meter(&server);
    for (body, rows) in [
        ("{}".to_owned(), 0),
        (format!("[{},", row("u-1")), 1),
        ("nothing".to_owned(), 0),
    ] {
        let url = ask_for_url(&server, body.len());
        assert_eq!(upload(&server, &url, &body).status, 200);
        let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
        assert_eq!(
            (&job["status"], &job["totalRows"]),
            (&json!("failed"), &json!(rows)),
            "{body}"
        );
    }
    let jobs = server.get("/fileuploads/measurements/jobs?pageSize=2&fileKey=march.json");
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2);
    assert!(jobs["nextToken"].is_string());
    let none = server.get("/fileuploads/measurements/jobs?dateCreatedEnd=2020-01-01");
    assert_eq!(none, json!({"data": []}));
    assert_eq!(
        server.get("/fileuploads/measurements/jobs?fileKey=other"),
        json!({"data": []})
    );
}

#[test]
fn an_upload_must_be_what_its_address_was_made_for() {
    let server = Server::start();
    let url = ask_for_url(&server, 2);
    assert_eq!(
        message(&upload(&server, &url, "[ ]"), 400),
        "Validation failed: Content-Length: must be 2, as the address was made for"
    );
    let path = path_of(url["url"].as_str().unwrap());
    let answer = server.send(&put(path).typed("text/json", "[]"));
    assert_eq!(
        message(&answer, 400),
        "Validation failed: Content-Type: must be application/json, as the address was made for"
    );
    assert_eq!(upload(&server, &url, "[]").status, 200);
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(
        (&job["status"], &job["totalRows"]),
        (&json!("succeeded"), &json!(0))
    );
    for body in [
        json!({"fileName": "", "contentType": "application/json", "contentLength": 1}),
        json!({"fileName": "a", "contentType": "text/csv", "contentLength": 1}),
        json!({"fileName": "a", "contentType": "text/json", "contentLength": 1_073_741_825}),
    ] {
        server.refused(
            400,
            "POST",
            "/fileuploads/measurements/generateUploadUrl",
            Some(&body),
        );
    }
    let poor = server.service_user("poor", &[]);
    let answer = server.ask_as(&poor.token, "GET", "/fileuploads/measurements/jobs", None);
    assert_eq!(message(&answer, 403), "Forbidden");
}

#[test]
fn a_long_file_is_read_on_after_a_restart() {
    let server = Server::start();
    create_meter(&server);
    let rows: Vec<_> = (0..3_500).map(|n| row(&format!("u-{n}"))).collect();
    let body = json!(rows).to_string();
    let url = ask_for_url(&server, body.len());
    assert_eq!(upload(&server, &url, &body).status, 200);
    // Wherever it was, the rest is read and nothing is stored twice.
    let server = server.restart();
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(
        (&job["totalRows"], &job["failedRows"]),
        (&json!(3_500), &json!(0))
    );
    assert_eq!(failure_kinds(&server), [""; 0]);
}

/// Nothing is stored under a name that only looks like the one that was sent.
#[test]
fn bytes_that_are_no_text_fail_as_their_row() {
    let server = Server::start();
    create_meter(&server);
    let rows = json!([row("\u{e9}"), row("\u{e8}"), row("fine")]).to_string();
    // As Latin-1 has it.
    let body: Vec<u8> = rows.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let url = ask_for_url(&server, body.len());
    let path = path_of(url["url"].as_str().unwrap());
    assert_eq!(server.send(&put(path).json(body)).status, 200);
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(
        (&job["status"], &job["totalRows"], &job["failedRows"]),
        (&json!("succeeded"), &json!(3), &json!(2))
    );
    assert_eq!(failure_kinds(&server), ["InvalidMeasurement"]);
    let uids: Vec<_> = server
        .stored()
        .iter()
        .map(|row| row["uid"].clone())
        .collect();
    assert_eq!(uids, ["fine"]);
}

/// A file with no end of rows that are no measurements neither goes on for ever nor fills the organization's records.
#[test]
fn a_file_of_no_measurements_is_given_up() {
    let server = Server::start();
    let rows = vec![json!(1); 30_000];
    let body = json!(rows).to_string();
    let url = ask_for_url(&server, body.len());
    assert_eq!(upload(&server, &url, &body).status, 200);
    let job = finished(&server, &job_path(&url), &["succeeded", "failed"]);
    assert_eq!(
        (&job["status"], &job["totalRows"], &job["failedRows"]),
        (&json!("failed"), &json!(11_000), &json!(11_000))
    );
    let filter = EventFilter {
        resource_id: url["jobId"].as_str(),
        ..EventFilter::default()
    };
    let events = server.control.events();
    let (changes, _) = events.newest(server.acme.id, &filter, None, 1_000).unwrap();
    assert!(changes.len() < 10, "{}", changes.len());
}

#[test]
fn jobs_are_listed_for_whom_they_concern() {
    let server = Server::start();
    let [first, second] = [1, 2].map(|length| ask_for_url(&server, length)["jobId"].clone());
    let of = |name: &str, effect: &str, job: &Value| {
        let item = format!("measurements:fileupload/item/{}", job.as_str().unwrap());
        let action = "measurements:fileUpload";
        let mut statements =
            vec![json!({"effect": effect, "action": [action], "resource": [item]})];
        if effect == "deny" {
            statements.push(json!({
                "effect": "allow", "action": [action], "resource": ["measurements:fileupload"],
            }));
        }
        let caller = server.with_statements(name, &json!(statements));
        let path = "/fileuploads/measurements/jobs";
        let jobs = server.ask_as(&caller.token, "GET", path, None).expect(200);
        let jobs = jobs["data"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("one", "allow", &first), std::slice::from_ref(&first));
    assert_eq!(of("others", "deny", &first), [second]);
}

/// A file that is on its way; the server has begun to read it.
fn begin(server: &Server, url: &Value) -> TcpStream {
    let request = put(path_of(url["url"].as_str().unwrap()))
        .header("Expect", "100-continue")
        .json("[]");
    let bytes = request.bytes();
    let mut stream = connect(server.address);
    stream.write_all(&bytes[..bytes.len() - 2]).unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        told.extend(byte);
    }
    assert!(
        told.starts_with(b"HTTP/1.1 100 "),
        "{}",
        String::from_utf8_lossy(&told)
    );
    stream
}

#[test]
fn few_files_are_taken_in_at_a_time_and_each_once() {
    let server = Server::start();
    let urls: Vec<_> = (0..5).map(|_| ask_for_url(&server, 2)).collect();
    let mut first = begin(&server, &urls[0]);
    assert_eq!(
        message(&upload(&server, &urls[0], "[]"), 400),
        "The upload job cannot change from being uploaded to running"
    );
    let others: Vec<_> = urls[1..4].iter().map(|url| begin(&server, url)).collect();
    let refused = upload(&server, &urls[4], "[]");
    assert_eq!(message(&refused, 429), "Too Many Requests");
    assert_eq!(refused.header("retry-after"), Some("1"));
    first.write_all(b"[]").unwrap();
    assert_eq!(read_answer(&mut first, false).status, 200);
    // One has ended.
    assert_eq!(upload(&server, &urls[4], "[]").status, 200);
    drop(others);
}

#[test]
fn jobs_go_when_their_time_is_over() {
    let server = Server::start();
    let url = ask_for_url(&server, 2);
    assert_eq!(upload(&server, &url, "[]").status, 200);
    finished(&server, &job_path(&url), &["succeeded"]);
    ask_for_url(&server, 2);
    let days = |days: u64| now().saturating_add(Duration::from_hours(24 * days));
    let list = || {
        server.get("/fileuploads/measurements/jobs")["data"]
            .as_array()
            .unwrap()
            .len()
    };
    tick(&server.app, days(29)).unwrap();
    assert_eq!(list(), 2);
    tick(&server.app, days(31)).unwrap();
    assert_eq!(list(), 0);
}
