//! What a batch with bad rows leaves behind: nothing with `on_error=abort`, exactly the good rows with `skip`.

use crate::pinned::pins;
use crate::server::{Options, Server, row, row_with};
use meterd_testkit::client::{Answer, post};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

fn server() -> Server {
    let server = Server::start().with_meter();
    server.ingest(&[row("stored"), row("stored too")]);
    server
}

/// Good rows at 0, 3 and 6; repeats at 1 and 7; a conflict at 2; bad rows at 4, 5 and 8.
fn mixed() -> Vec<Value> {
    vec![
        row_with("good-0", &json!({"values": {"requests": 10}})),
        row("stored"),
        row_with("stored too", &json!({"subject": "acct_2"})),
        row_with(
            "good-3",
            &json!({"values": {"requests": "0.000000000000000001"}}),
        ),
        row_with("bad-4", &json!({"meter": "nope"})),
        row_with(
            "bad-5",
            &json!({"time": "soon", "values": {"clicks": 1, "bytes": true}}),
        ),
        row_with("good-6", &json!({"values": {"bytes": 5}})),
        row_with("good-0", &json!({"values": {"requests": 10.0}})),
        json!({"id": 8, "subject": ""}),
    ]
}

fn send(server: &Server, on_error: &str, media_type: &str, rows: &[Value]) -> Answer {
    let body = if media_type == JSON {
        json!({"measurements": rows}).to_string()
    } else {
        let lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    let target = format!("/v1/measurements?on_error={on_error}");
    server.send(&post(target).key(&server.key).typed(media_type, body))
}

fn ids(server: &Server) -> Vec<String> {
    let page = server.get("/v1/measurements?limit=1000");
    let items = page["items"].as_array().unwrap();
    let mut ids: Vec<_> = items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn sums(server: &Server) -> Value {
    let query = json!({
        "meter": "api_calls", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z",
        "aggregations": [{"function": "sum", "field": "requests"}, {"function": "sum", "field": "bytes"}, {"function": "count"}],
    });
    server.query(&query)["rows"][0]["values"].clone()
}

#[test]
fn abort_stores_nothing_whichever_row_is_bad() {
    let server = server();
    let before = server.contents();
    let mut pins = pins("rows-abort");
    for media_type in [JSON, LINES] {
        let answer = send(&server, "abort", media_type, &mixed());
        assert_eq!(server.contents(), before);
        pins.check(media_type, &answer);
        // The bad row first, in the middle, last.
        for place in [0, 50, 99] {
            let mut rows: Vec<_> = (0..100).map(|index| row(&format!("new-{index}"))).collect();
            rows[place]["values"] = json!({"requests": "x"});
            let answer = send(&server, "abort", media_type, &rows);
            let problems = answer.expect(422)["errors"].clone();
            assert_eq!(problems.as_array().unwrap().len(), 1);
            let pointer = problems[0]["pointer"].as_str().unwrap();
            assert!(
                pointer.ends_with(&format!("/{place}/values/requests")),
                "{pointer}"
            );
            assert_eq!(server.contents(), before);
        }
    }
    pins.finish();
}

#[test]
fn skip_stores_exactly_the_good_rows() {
    let mut pins = pins("rows-skip");
    for media_type in [JSON, LINES] {
        let server = server();
        let answer = send(&server, "skip", media_type, &mixed());
        assert_eq!(
            ids(&server),
            ["good-0", "good-3", "good-6", "stored", "stored too"]
        );
        assert_eq!(
            sums(&server),
            json!({"sum(requests)": "12.000000000000000001", "sum(bytes)": "5", "count": "5"})
        );
        pins.check(media_type, &answer);
        let body = answer.expect(200);
        let verdicts: Vec<_> = body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                (
                    item["index"].as_u64().unwrap(),
                    item["verdict"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            verdicts,
            [
                (1, "duplicate"),
                (2, "conflict"),
                (4, "rejected"),
                (5, "rejected"),
                (7, "duplicate"),
                (8, "rejected")
            ]
        );
        // The same batch again: what was good is there already, the rest is as bad as before.
        let again = send(&server, "skip", media_type, &mixed()).expect(200);
        let counts = |answer: &Value| {
            ["accepted", "duplicate", "conflict", "rejected"]
                .map(|name| answer[name].as_u64().unwrap())
        };
        assert_eq!(counts(&body), [3, 2, 1, 3]);
        assert_eq!(counts(&again), [0, 5, 1, 3]);
        // What was sent but not stored is on record.
        let events = server.get("/v1/events?type=ingest.rejected");
        let recorded = |name: &str| -> u64 {
            let items = events["items"].as_array().unwrap();
            items
                .iter()
                .map(|event| event["data"][name].as_u64().unwrap())
                .sum()
        };
        // One event a minute, with what adds up; a test may run over the end of one.
        let names = ["requests", "accepted", "duplicate", "conflict", "rejected"];
        assert_eq!(names.map(recorded), [2, 3, 7, 2, 6]);
    }
    pins.finish();
}

#[test]
fn a_line_that_is_no_json_is_one_bad_row() {
    let server = server();
    let body = [
        row("first").to_string().as_bytes(),
        b"\n{\"id\":\n\n\"\xff\"\nnull\n",
        row("last").to_string().as_bytes(),
    ]
    .concat();
    let answer = server.send(
        &post("/v1/measurements?on_error=skip")
            .key(&server.key)
            .typed(LINES, body),
    );
    assert_eq!(ids(&server), ["first", "last", "stored", "stored too"]);
    let mut pins = pins("rows-lines");
    pins.check("lines", &answer);
    pins.finish();
}

#[test]
fn a_batch_is_of_a_bounded_number_of_months() {
    let engine = meterd_engine::Settings {
        batch_partitions_max: 3,
        ..meterd_engine::Settings::default()
    };
    let server = Server::start_with(Options {
        engine,
        ..Options::default()
    })
    .with_meter();
    let rows: Vec<_> = (1..=4)
        .map(|n| {
            row_with(
                &format!("{n}"),
                &json!({"time": format!("2026-0{n}-01T00:00:00Z")}),
            )
        })
        .collect();
    let mut pins = pins("rows-months");
    for on_error in ["abort", "skip"] {
        pins.check(on_error, &send(&server, on_error, JSON, &rows));
    }
    pins.finish();
    assert_eq!(ids(&server), [""; 0]);
    send(&server, "abort", JSON, &rows[1..]).expect(200);
    assert_eq!(ids(&server), ["2", "3", "4"]);
}

#[test]
fn skip_with_nothing_good_stores_nothing() {
    let server = server();
    let before = server.contents();
    let answer = send(&server, "skip", JSON, &[json!({}), json!(1)]).expect(200);
    assert_eq!(answer["rejected"], 2);
    assert_eq!(server.contents(), before);
    // A body that is no batch is no batch of bad rows.
    for rows in [vec![], vec![row("r"); 10_001]] {
        assert_eq!(send(&server, "skip", JSON, &rows).status, 422);
        assert_eq!(send(&server, "skip", LINES, &rows).status, 422);
        assert_eq!(server.contents(), before);
    }
}

/// What is wrong is listed for the first rows; an answer may not become a multiple of what was sent.
#[test]
fn an_answer_about_many_bad_rows_stays_in_proportion() {
    let server = Server::start().with_meter();
    let names: serde_json::Map<String, Value> =
        (0..20).map(|n| (format!("n{n}"), json!(1))).collect();
    let rows: Vec<_> = (0..2_000)
        .map(|n| row_with(&format!("bad-{n}"), &json!({"values": names})))
        .collect();
    let body = json!({"measurements": rows}).to_string();
    let sent = body.len();
    let answer = server.send(
        &post("/v1/measurements?on_error=skip")
            .key(&server.key)
            .json(body),
    );
    assert!(
        answer.body.len() < 2 * sent,
        "{} of {sent}",
        answer.body.len()
    );
    let items = answer.expect(200)["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 2_000);
    assert_eq!(items[0]["fault"]["errors"].as_array().unwrap().len(), 20);
    assert_eq!(items[1_999]["fault"]["errors"], json!([]));
    assert_eq!(
        items[1_999]["fault"]["detail"],
        "Problems were found; those of earlier rows are listed."
    );
}
