//! Measurements as files: the address, the file, and the job that reads it.

use crate::failures::{create_meter, fetch, path_of, row, submit};
use crate::server::{Server, message};
use meterd_testkit::client::{Answer, put};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn ask_for_url(server: &Server, length: usize) -> Value {
    server.post(
        "/fileuploads/measurements/generateUploadUrl",
        &json!({"fileName": "march.json", "contentType": "application/json", "contentLength": length}),
    )
}

fn upload(server: &Server, url: &Value, body: &str) -> Answer {
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

fn job_path(url: &Value) -> String {
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
