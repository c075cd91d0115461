//! Exports: destinations, schedules, jobs, and the files that come out.

use crate::failures::{create_meter, fetch, row, submit};
use crate::server::{Options, Server, message};
use crate::uploads::finished;
use meterd_surface_m3ter::tick;
use meterd_testkit::{now, system};
use serde_json::{Value, json};
use std::time::Duration;

fn export(server: &Server, request: &Value) -> Value {
    let made = server.post("/dataexports/adhoc", request);
    let path = format!("/dataexports/jobs/{}", made["jobId"].as_str().unwrap());
    finished(server, &path, &["SUCCEEDED", "FAILED"])
}

fn download(server: &Server, job: &Value) -> String {
    let path = format!(
        "/dataexports/jobs/{}/getdownloadurl",
        job["id"].as_str().unwrap()
    );
    let url = server.get(&path);
    assert!(url["expirationTime"].as_str().unwrap().ends_with('Z'));
    let answer = fetch(server, url["url"].as_str().unwrap());
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

fn lines(file: &str) -> Vec<Value> {
    file.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn usage_is_exported_as_it_was_measured() {
    let server = Server::start();
    let meter = create_meter(&server);
    let mut second = row("u-2");
    second["ts"] = json!("2026-03-02T10:00:00Z");
    second["where"]["region"] = json!("a \"b\", c");
    second["account"] = json!("other");
    second["measure"]["bytes"] = json!(12_345.000_001);
    submit(&server, &[row("u-1"), second]);
    let account = server.get("/accounts?codes=acme")["data"][0]["id"].clone();

    let job = export(
        &server,
        &json!({"sourceType": "USAGE", "exportFileFormat": "JSONL", "accountIds": [account]}),
    );
    assert_eq!(
        (&job["status"], &job["sourceType"]),
        (&json!("SUCCEEDED"), &json!("USAGE"))
    );
    assert!(job["startedAt"].is_string() && job["dateCreated"].is_string());
    assert_eq!(
        lines(&download(&server, &job)),
        [json!({
            "uid": "u-1", "meterId": meter["id"], "meterCode": "storage", "accountId": account, "accountCode": "acme",
            "ts": "2026-03-01T10:00:00.000Z", "ets": null, "who": {}, "where": {"region": "eu"}, "what": {}, "other": {},
            "metadata": {}, "measure": {"bytes": 3, "parts": 2, "share": 1.5}, "cost": {}, "income": {},
        })]
    );

    // Comma-separated unless asked otherwise.
    let job = export(
        &server,
        &json!({"sourceType": "USAGE", "startDate": "2026-03-02T00:00:00Z", "endDate": "2026-03-03T00:00:00Z"}),
    );
    let file = download(&server, &job);
    let (head, rest) = file.split_once('\n').unwrap();
    assert_eq!(
        head,
        "uid,meterId,meterCode,accountId,accountCode,ts,ets,measure.bytes,measure.parts,where.region,measure.share"
    );
    assert!(rest.starts_with("u-2,"), "{rest}");
    assert!(
        rest.ends_with(",storage,")
            || rest.contains(
                ",other,2026-03-02T10:00:00.000Z,,12345.000001,2,\"a \"\"b\"\", c\",6172.5000005\n"
            ),
        "{rest}"
    );
    assert_eq!(rest.lines().count(), 1);

    let aggregated = |format: &str| {
        let meter = &meter["id"];
        let request = json!({
            "sourceType": "USAGE", "exportFileFormat": format, "groups": [{"groupType": "ACCOUNT"}],
            "aggregations": [{"meterId": meter, "fieldCode": "bytes", "fieldType": "MEASURE", "function": "SUM"}],
        });
        download(&server, &export(&server, &request))
    };
    let rows = lines(&aggregated("JSONL"));
    let found = rows
        .iter()
        .find(|row| row["accountCode"] == "other")
        .unwrap();
    assert_eq!(
        (rows.len(), &found["bytes.SUM"]),
        (2, &json!(12_345.000_001))
    );
    let csv = aggregated("CSV");
    assert_eq!(csv.lines().next(), Some("accountId,accountCode,bytes.SUM"));
    assert!(
        csv.contains(",acme,3\n") && csv.contains(",other,12345.000001\n"),
        "{csv}"
    );

    let filtered = json!({
        "sourceType": "USAGE", "exportFileFormat": "JSONL",
        "dimensionFilters": [{"meterId": meter["id"], "fieldCode": "region", "values": ["eu", "us"]}],
    });
    let rows = lines(&download(&server, &export(&server, &filtered)));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["uid"], "u-1");
}

#[test]
fn entities_are_exported_that_changed_since() {
    let server = Server::start();
    create_meter(&server);
    server.post("/products", &json!({"name": "One", "code": "one"}));
    let request = |start: &str| {
        json!({
            "sourceType": "OPERATIONAL", "exportFileFormat": "JSONL", "startDate": start,
            "operationalDataTypes": ["PRODUCTS", "METERS", "BILLS"],
        })
    };
    let rows = lines(&download(
        &server,
        &export(&server, &request("2020-01-01T00:00:00Z")),
    ));
    let kinds: Vec<_> = rows.iter().map(|row| &row["operationalDataType"]).collect();
    assert_eq!(kinds, ["PRODUCTS", "METERS"]);
    assert_eq!(
        (&rows[0]["code"], &rows[0]["orgId"]),
        (&json!("one"), &json!(server.acme.id.to_string()))
    );
    assert_eq!(
        download(&server, &export(&server, &request("2100-01-01T00:00:00Z"))),
        ""
    );

    let csv = json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["PRODUCTS"]});
    let file = download(&server, &export(&server, &csv));
    let head = file.lines().next().unwrap();
    assert_eq!(
        head,
        "operationalDataType,id,version,dtCreated,dtLastModified,createdBy,lastModifiedBy,name,code,orgId"
    );
    assert!(file.lines().nth(1).unwrap().contains(",One,one,"), "{file}");
}

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let server = Server::start();
    let refused = |body: &Value| server.refused(400, "POST", "/dataexports/adhoc", Some(body));
    assert_eq!(
        refused(&json!({})),
        "Validation failed: sourceType: is required"
    );
    let usage =
        |start: &str, end: &str| json!({"sourceType": "USAGE", "startDate": start, "endDate": end});
    assert_eq!(
        refused(&usage("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z")),
        "Validation failed: endDate: must be after startDate"
    );
    assert!(
        refused(&usage("2026-03-02", "2100-01-01"))
            .starts_with("Validation failed: endDate: must not be after ")
    );
    let answer = refused(&json!({"sourceType": "USAGE", "groups": [{"groupType": "ACCOUNT"}]}));
    assert!(
        answer.starts_with("Validation failed: groups: "),
        "{answer}"
    );
    refused(&json!({"sourceType": "OPERATIONAL"}));
    let answer = refused(
        &json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS", "THINGS"]}),
    );
    assert!(
        answer.starts_with("Validation failed: operationalDataTypes[1]: must be one of"),
        "{answer}"
    );
    server.refused(404, "GET", "/dataexports/jobs/x/getdownloadurl", None);
}

#[test]
fn destinations_are_kept_with_what_clients_leave_out() {
    let server = Server::start();
    let path = "/dataexports/destinations";
    let amazon = server.post(
        path,
        &json!({"bucketName": "bucket", "iamRoleArn": "arn:aws:iam::123456789012:role/x"}),
    );
    assert_eq!(
        (&amazon["destinationType"], &amazon["partitionOrder"]),
        (&json!("S3"), &json!("TYPE_FIRST"))
    );
    assert!(amazon["code"].as_str().unwrap().starts_with("export-"));
    assert_eq!(amazon["name"], amazon["code"]);
    let google = server.post(
        path,
        &json!({"name": "G", "code": "g", "bucketName": "bucket", "projectNumber": "1", "poolId": "p", "providerId": "q"}),
    );
    assert_eq!(google["destinationType"], "GCS");
    let item = format!("{path}/{}", amazon["id"].as_str().unwrap());
    let mut change = amazon.clone();
    change.as_object_mut().unwrap().remove("code");
    change["prefix"] = json!("a/");
    let changed = server.put(&item, &change);
    assert_eq!(
        (&changed["code"], &changed["prefix"]),
        (&amazon["code"], &json!("a/"))
    );
    assert_eq!(server.get(path)["data"], json!([google, changed]));
    server.delete(&item);
    for body in [
        json!({"bucketName": "bucket"}),
        json!({"bucketName": "bucket", "iamRoleArn": "arn:aws:iam::x:role/x"}),
        json!({"bucketName": "b", "iamRoleArn": "arn:aws:iam::1:role/x"}),
        json!({"bucketName": "bucket", "destinationType": "GCS"}),
    ] {
        server.refused(400, "POST", path, Some(&body));
    }
}

#[test]
fn a_schedule_starts_its_export_once_each_time() {
    let server = Server::start();
    let path = "/dataexports/schedules";
    let operational = json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]});
    let schedule = server.post(path, &operational);
    assert_eq!(
        (&schedule["scheduleType"], &schedule["period"]),
        (&json!("DAY"), &json!(1))
    );
    let usage = json!({
        "name": "Monthly", "code": "monthly", "sourceType": "USAGE", "timePeriod": "PREVIOUS_MONTH",
        "cronExpression": "0 5 * * *", "exportFileFormat": "JSONL",
    });
    let cron = server.post(path, &usage);
    assert_eq!(cron["timePeriod"], "PREVIOUS_MONTH");
    assert_eq!(
        server.get(&format!("{path}/{}", cron["id"].as_str().unwrap())),
        cron
    );
    let day = now().saturating_add(Duration::from_hours(24));
    tick(&server.app, day).unwrap();
    tick(&server.app, day).unwrap();
    for schedule in [&schedule, &cron] {
        let query = format!(
            "/dataexports/jobs?scheduleId={}",
            schedule["id"].as_str().unwrap()
        );
        let jobs = server.get(&query);
        assert_eq!(jobs["data"].as_array().unwrap().len(), 1, "{jobs}");
        let job = format!(
            "/dataexports/jobs/{}",
            jobs["data"][0]["id"].as_str().unwrap()
        );
        assert_eq!(
            finished(&server, &job, &["SUCCEEDED", "FAILED"])["status"],
            "SUCCEEDED"
        );
    }
    let jobs = server.get("/dataexports/jobs?status=SUCCEEDED");
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2);

    // Nothing of a schedule stays behind.
    let id = cron["id"].as_str().unwrap();
    let mark = || {
        let name = format!("m3ter/export-schedule/{id}");
        server.control.store().mark(server.acme.id, &name).unwrap()
    };
    assert!(mark().is_some());
    server.delete(&format!("{path}/{id}"));
    assert_eq!(mark(), None);

    for (change, message) in [
        (
            json!({"scheduleType": "MINUTE", "period": 10}),
            "period: must make the export repeat every 15 minutes to 3 days",
        ),
        (
            json!({"scheduleType": "DAY", "period": 4}),
            "period: must make the export repeat every 15 minutes to 3 days",
        ),
        (
            json!({"scheduleType": "HOUR", "offset": 60}),
            "offset: must be below 60",
        ),
        (
            json!({"cronExpression": "* * * * *"}),
            "cronExpression: must have 15 minutes or more between two exports",
        ),
    ] {
        let mut body = operational.clone();
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        assert_eq!(
            server.refused(400, "POST", path, Some(&body)),
            format!("Validation failed: {message}")
        );
    }
    let answer = server.refused(400, "POST", path, Some(&json!({"sourceType": "USAGE"})));
    assert!(answer.contains("timePeriod"), "{answer}");
}

#[test]
fn a_file_can_be_downloaded_for_a_day() {
    let server = Server::start();
    // The job of a schedule that came due some time ago.
    let job_of = |code: &str, ago: Duration| {
        let schedule = server.post(
            "/dataexports/schedules",
            &json!({"code": code, "sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]}),
        );
        let id = schedule["id"].as_str().unwrap();
        let at = now().saturating_sub(ago);
        let mark = at.saturating_sub(Duration::from_hours(25)).micros();
        let marked = server.control.store().write(&system(), |writes| {
            writes.set_mark(server.acme.id, &format!("m3ter/export-schedule/{id}"), mark)
        });
        marked.unwrap();
        tick(&server.app, at).unwrap();
        let jobs = server.get(&format!("/dataexports/jobs?scheduleId={id}"));
        let id = jobs["data"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/dataexports/jobs/{id}");
        finished(&server, &path, &["SUCCEEDED"])
    };
    let old = job_of("old", Duration::from_hours(24));
    let id = old["id"].as_str().unwrap();
    assert_eq!(
        server.refused(
            400,
            "GET",
            &format!("/dataexports/jobs/{id}/getdownloadurl"),
            None
        ),
        "The export job cannot change from SUCCEEDED more than 24 hours ago to downloaded"
    );
    let young = job_of("young", Duration::from_mins(24 * 60 - 5));
    assert!(download(&server, &young).starts_with("operationalDataType\n"));
}

#[test]
fn a_job_that_fails_is_an_event() {
    let server = Server::start();
    let meter = create_meter(&server);
    // More hours than one answer has.
    let job = export(
        &server,
        &json!({
            "sourceType": "USAGE", "groups": [{"groupType": "TIME", "frequency": "HOUR"}],
            "startDate": "1970-01-01", "endDate": "2020-01-01",
            "aggregations": [{"meterId": meter["id"], "fieldCode": "bytes", "fieldType": "MEASURE", "function": "SUM"}],
        }),
    );
    assert_eq!(job["status"], "FAILED");
    let id = job["id"].as_str().unwrap();
    let events = server.get("/events?eventType=DataExportJobFailure");
    let events = events["data"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["eventName"], "dataexport.job.failure");
    assert_eq!(
        events[0]["m3terEvent"],
        json!({"jobId": id, "reason": "The answer would need more than 100000 rows or groups"})
    );
    let path = format!("/dataexports/jobs/{id}/getdownloadurl");
    assert_eq!(
        server.refused(400, "GET", &path, None),
        "The export job cannot change from FAILED to downloaded"
    );
}

/// The columns follow from the question, whatever the rows have.
#[test]
fn aggregated_usage_has_a_column_for_all_that_was_asked() {
    let server = Server::start();
    let meter = create_meter(&server);
    let mut other = meter.clone();
    other["code"] = json!("calls");
    let other = server.post("/meters", &other);
    let mut second = row("u-2");
    second["meter"] = json!("calls");
    second["ts"] = json!("2026-03-02T10:00:00Z");
    submit(&server, &[row("u-1"), second]);
    let field = |meter: &Value, code: &str, kind: &str, function: &str| json!({"meterId": meter["id"], "fieldCode": code, "fieldType": kind, "function": function});
    let job = export(
        &server,
        &json!({
            "sourceType": "USAGE",
            "groups": [
                {"groupType": "DIMENSION", "meterId": meter["id"], "fieldCode": "region"},
                {"groupType": "TIME", "frequency": "DAY"},
            ],
            "aggregations": [
                field(&meter, "parts", "MEASURE", "SUM"), field(&meter, "bytes", "MEASURE", "SUM"),
                field(&other, "bytes", "MEASURE", "SUM"), field(&other, "region", "DIMENSION", "UNIQUE"),
            ],
        }),
    );
    assert_eq!(job["status"], "SUCCEEDED");
    for kept in ["file", "starts", "request"] {
        assert!(job.get(kept).is_none(), "{job}");
    }
    assert_eq!(
        download(&server, &job),
        "startDate,endDate,dimensions.region,bytes.SUM,calls.bytes.SUM,parts.SUM,region.UNIQUE\n\
         2026-03-02T00:00:00.000Z,2026-03-03T00:00:00.000Z,,,3,,1\n\
         2026-03-01T00:00:00.000Z,2026-03-02T00:00:00.000Z,eu,3,,2,0\n"
    );
}

/// From the beginning, which is where the measurements begin.
#[test]
fn usage_by_the_hour_needs_no_start() {
    let server = Server::start();
    let meter = create_meter(&server);
    submit(&server, &[row("u-1"), row("u-2")]);
    let job = export(
        &server,
        &json!({
            "sourceType": "USAGE", "exportFileFormat": "JSONL",
            "groups": [{"groupType": "TIME", "frequency": "HOUR"}],
            "aggregations": [{"meterId": meter["id"], "fieldCode": "bytes", "fieldType": "MEASURE", "function": "SUM"}],
        }),
    );
    assert_eq!(job["status"], "SUCCEEDED");
    let rows = lines(&download(&server, &job));
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["startDate"], &rows[0]["bytes.SUM"]),
        (&json!("2026-03-01T10:00:00.000Z"), &json!(6))
    );
}

#[test]
fn exports_go_to_destinations_that_exist() {
    let server = Server::start();
    let destination = server.post(
        "/dataexports/destinations",
        &json!({"code": "d", "bucketName": "bucket", "iamRoleArn": "arn:aws:iam::123456789012:role/x"}),
    );
    let known = destination["id"].as_str().unwrap();
    let unknown = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
    let request = |ids: Value| json!({"code": "s", "sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"], "destinationIds": ids});
    for path in ["/dataexports/adhoc", "/dataexports/schedules"] {
        for (ids, problem) in [
            (
                json!([unknown]),
                "destinationIds[0]: must name an existing export destination",
            ),
            (
                json!([known, "d"]),
                "destinationIds[1]: must name an existing export destination",
            ),
            (json!([known, 7]), "destinationIds[1]: must be a string"),
        ] {
            assert_eq!(
                server.refused(400, "POST", path, Some(&request(ids))),
                format!("Validation failed: {problem}")
            );
        }
    }
    assert_eq!(server.get("/dataexports/jobs"), json!({"data": []}));
    let job = export(&server, &request(json!([known])));
    assert_eq!(job["status"], "SUCCEEDED");
    let schedule = server.post("/dataexports/schedules", &request(json!([known])));
    let schedule = format!(
        "/dataexports/schedules/{}",
        schedule["id"].as_str().unwrap()
    );
    let mut change = request(json!([known, unknown]));
    change["version"] = json!(1);
    assert_eq!(
        server.refused(400, "PUT", &schedule, Some(&change)),
        "Validation failed: destinationIds[1]: must name an existing export destination"
    );
    let item = format!("/dataexports/destinations/{known}");
    assert_eq!(
        server.refused(400, "DELETE", &item, None),
        "Export destination d is in use by export schedule 's'"
    );
    server.delete(&schedule);
    // A job is what was, and goes without.
    server.delete(&item);
    server.get(&format!(
        "/dataexports/jobs/{}",
        job["id"].as_str().unwrap()
    ));
}

#[test]
fn jobs_wait_for_their_turn_but_not_without_end() {
    let server = Server::start_with(Options {
        works: false,
        ..Options::default()
    });
    let request = json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]});
    for _ in 0..100 {
        server.post("/dataexports/adhoc", &request);
    }
    let refused = server.ask("POST", "/dataexports/adhoc", Some(&request));
    assert_eq!(message(&refused, 429), "Too Many Requests");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        server.refused(400, "GET", "/dataexports/jobs?status=DONE", None),
        "Validation failed: status: must be one of PENDING, RUNNING, SUCCEEDED, FAILED"
    );
    // Once they are done there is room, and after their time they are gone.
    let server = server.restart();
    let newest = server.get("/dataexports/jobs?pageSize=1")["data"][0]["id"].clone();
    let newest = format!("/dataexports/jobs/{}", newest.as_str().unwrap());
    finished(&server, &newest, &["SUCCEEDED"]);
    export(&server, &request);
    tick(
        &server.app,
        now().saturating_add(Duration::from_hours(24 * 31)),
    )
    .unwrap();
    assert_eq!(server.get("/dataexports/jobs"), json!({"data": []}));
}

#[test]
fn an_organization_has_few_schedules() {
    let server = Server::start();
    let export = json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["METERS"]});
    let event = |number| json!({"name": format!("e{number}"), "entity": "account", "field": "dtCreated", "offset": 1});
    for number in 0..100 {
        server.post("/dataexports/schedules", &export);
        server.post("/scheduledevents/configurations", &event(number));
    }
    for (path, body) in [
        ("/dataexports/schedules", export),
        ("/scheduledevents/configurations", event(100)),
    ] {
        assert_eq!(
            server.refused(400, "POST", path, Some(&body)),
            "Validation failed: body: must not be added: an organization has at most 100 of them"
        );
        let one = server.get(&format!("{path}?pageSize=1"))["data"][0].clone();
        server.put(&format!("{path}/{}", one["id"].as_str().unwrap()), &one);
    }
}

#[test]
fn what_is_kept_as_it_was_sent_is_not_too_long() {
    let server = Server::start();
    let values: Vec<_> = (0..900).map(|number| format!("{number:0100}")).collect();
    let filters = json!([{"meterId": "m", "fieldCode": "f", "values": values}]);
    for (path, body, member) in [
        (
            "/usage/savedqueries",
            json!({"name": "x", "usageQuery": {"dimensionFilters": filters}}),
            "usageQuery",
        ),
        (
            "/dataexports/adhoc",
            json!({"sourceType": "USAGE", "dimensionFilters": filters}),
            "dimensionFilters",
        ),
    ] {
        assert_eq!(
            server.refused(400, "POST", path, Some(&body)),
            format!("Validation failed: {member}: must have at most 65536 bytes")
        );
    }
    let product =
        |name: &str, text: &str| json!({"name": "P", "code": "p", "customFields": {name: text}});
    let refused = |body: &Value| server.refused(400, "POST", "/products", Some(body));
    assert_eq!(
        refused(&product("a", &"x".repeat(2_001))),
        "Validation failed: customFields.a: must have at most 2000 characters"
    );
    let long = "n".repeat(201);
    assert!(refused(&product(&long, "x")).ends_with(": must have 1 to 200 characters"));
    server.post("/products", &product(&"n".repeat(200), &"x".repeat(2_000)));
}

#[test]
fn problems_are_told_with_their_place() {
    let server = Server::start();
    let wrong = json!({
        "aggregations": [7, {"meterId": "m", "fieldCode": "f", "fieldType": "MEASURE", "function": "AVERAGE"}],
        "dimensionFilters": [{"meterId": "m", "fieldCode": "f", "values": ["a", 7]}],
        "meterIds": ["m", null],
    });
    let told = |prefix: &str| {
        [
            "meterIds[1]: must be a string",
            "dimensionFilters[0].values[1]: must be a string",
            "aggregations[0]: must be an object",
            "aggregations[1].function: must be one of SUM, MIN, MAX, COUNT, LATEST, MEAN, UNIQUE",
        ]
        .map(|problem| format!("{prefix}{problem}"))
        .join("; ")
    };
    let mut export = wrong.clone();
    export["sourceType"] = json!("USAGE");
    for (path, body, prefix) in [
        (
            "/usage/savedqueries",
            json!({"name": "x", "usageQuery": wrong}),
            "usageQuery.",
        ),
        ("/dataexports/adhoc", export, ""),
    ] {
        assert_eq!(
            server.refused(400, "POST", path, Some(&body)),
            format!("Validation failed: {}", told(prefix))
        );
    }
}
