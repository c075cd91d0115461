//! `GET /v1/export`: what comes out, and how a client knows that all of it did.

use crate::pinned::pins;
use crate::server::{Options, Server, row};
use meterd_engine::Disk;
use meterd_engine::testing::SimulatedDisk;
use meterd_testkit::client::{Request, connect, exchange, get, post, request};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A chunked answer: its head, its body, and whether the body came to its end.
struct Streamed {
    head: String,
    body: Vec<u8>,
    whole: bool,
}

impl Streamed {
    fn of(server: &Server, request: &Request) -> Self {
        let mut stream = connect(server.address);
        stream.write_all(&request.bytes()).unwrap();
        let mut bytes = Vec::new();
        // A connection that is broken off may end in an error.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let mut rest = &bytes[end + 4..];
        let mut body = Vec::new();
        if !head.contains("transfer-encoding: chunked") {
            let body = rest.to_vec();
            return Self {
                head,
                body,
                whole: true,
            };
        }
        let whole = loop {
            let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else {
                break false;
            };
            let length = std::str::from_utf8(&rest[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            rest = &rest[line + 2..];
            if length == 0 {
                break true;
            }
            if rest.len() < length + 2 {
                break false;
            }
            body.extend_from_slice(&rest[..length]);
            rest = &rest[length + 2..];
        };
        Self { head, body, whole }
    }

    #[track_caller]
    fn text(self) -> String {
        assert!(
            self.head.starts_with("http/1.1 200") && self.whole,
            "{}",
            self.head
        );
        String::from_utf8(self.body).unwrap()
    }
}

fn export(server: &Server, query: &str) -> Streamed {
    Streamed::of(server, &get(format!("/v1/export?{query}")).key(&server.key))
}

/// In the order of their lines, which is not promised.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn lines_and_csv_say_everything() {
    let server = Server::start().with_meter();
    server.ingest(&[
        json!({
            "id": "a,1", "meter": "api_calls", "subject": "say \"hi\"", "time": "2026-11-01T10:20:30.5Z",
            "end_time": "2026-11-01T10:21:00Z", "values": {"requests": "0.000000000000000001", "bytes": -5},
            "attributes": {"region": "", "plan": "\"\""},
        }),
        json!({"id": "b-2", "meter": "api_calls", "subject": "s", "time": "2026-10-01T00:00:00Z", "values": {"requests": 1}}),
        row("voided"),
    ]);
    let path = "/v1/measurements/voided";
    assert_eq!(
        server
            .send(&request("DELETE", path).key(&server.key))
            .status,
        204
    );
    for sealed in [false, true] {
        if sealed {
            server.engine.seal().unwrap();
        }
        let answer = export(&server, "meter=api_calls");
        for header in [
            "content-type: application/x-ndjson",
            "content-disposition: attachment; filename=\"api_calls.ndjson\"",
        ] {
            assert!(answer.head.contains(header), "{}", answer.head);
        }
        let text = answer.text();
        let lines: Vec<Value> = sorted(&text)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                json!({
                    "id": "a,1", "meter": "api_calls", "subject": "say \"hi\"", "time": "2026-11-01T10:20:30.5Z",
                    "end_time": "2026-11-01T10:21:00Z",
                    "values": {"bytes": "-5", "requests": "0.000000000000000001"},
                    "attributes": {"plan": "\"\"", "region": ""},
                }),
                json!({
                    "id": "b-2", "meter": "api_calls", "subject": "s", "time": "2026-10-01T00:00:00Z",
                    "values": {"requests": "1"}, "attributes": {},
                }),
            ]
        );
        let answer = export(&server, "meter=api_calls&format=csv");
        assert!(
            answer.head.contains("content-type: text/csv"),
            "{}",
            answer.head
        );
        let text = answer.text();
        let (header, rows) = text.split_once("\r\n").unwrap();
        assert_eq!(
            header,
            "id,meter,subject,time,end_time,values.bytes,values.requests,attributes.plan,attributes.region"
        );
        assert_eq!(
            sorted(rows),
            [
                concat!(
                    "\"a,1\",api_calls,\"say \"\"hi\"\"\",2026-11-01T10:20:30.5Z,2026-11-01T10:21:00Z,",
                    "-5,0.000000000000000001,\"\"\"\"\"\"\"\"\"\",\"\"\"\"\"\""
                ),
                "b-2,api_calls,s,2026-10-01T00:00:00Z,,,1,,",
            ]
        );
        // From is in it, to is not.
        let range = "from=2026-10-01T00:00:00Z&to=2026-11-01T10:20:30.5Z";
        let part = export(&server, &format!("meter=api_calls&{range}")).text();
        assert_eq!(part.lines().count(), 1);
        assert!(part.contains("b-2"));
        let parquet = export(&server, "meter=api_calls&format=parquet");
        assert!(parquet.head.contains("application/vnd.apache.parquet") && parquet.whole);
        assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
        // Of another organization, nothing; and that is a whole answer.
        let request = get("/v1/export?meter=api_calls").key(&server.rival_key);
        assert_eq!(Streamed::of(&server, &request).text(), "");
    }
}

#[test]
fn what_cannot_be_exported() {
    let server = Server::start().with_meter();
    let mut pins = pins("exports");
    for (name, query) in [
        ("no meter", ""),
        ("an unknown meter", "meter=nope"),
        ("an unknown form", "meter=api_calls&format=xml"),
        ("a bad time", "meter=api_calls&from=yesterday"),
        (
            "times the wrong way round",
            "meter=api_calls&from=2026-11-01T00:00:00Z&to=2026-10-01T00:00:00Z",
        ),
        ("an unknown parameter", "meter=api_calls&subject=s"),
    ] {
        pins.check(
            name,
            &server.send(&get(format!("/v1/export?{query}")).key(&server.key)),
        );
    }
    let writer = server.key_with(&["measurements:write"]);
    let request = get("/v1/export?meter=api_calls");
    pins.check(
        "a key without permission",
        &server.send(&request.clone().key(&writer)),
    );
    // There the end of a body cannot be told from a break.
    let old = request.key(&server.key).bytes();
    let old = String::from_utf8(old)
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    pins.check(
        "over HTTP/1.0",
        &exchange(server.address, old.as_bytes(), false),
    );
    pins.finish();
}

/// The segments' files, by month.
fn segments(disk: &SimulatedDisk, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in disk.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            found.push(path);
        } else {
            found.extend(segments(disk, &path));
        }
    }
    found.sort();
    found
}

fn damage(disk: &SimulatedDisk, path: &Path) {
    let mut bytes = disk.bytes(path).unwrap();
    for byte in bytes.iter_mut().skip(100).take(2000) {
        *byte ^= 0x55;
    }
    disk.put(path, bytes);
}

#[test]
fn a_failure_in_the_middle_breaks_the_connection_off() {
    let disk = SimulatedDisk::new();
    let server = Server::start_with(Options {
        disk: Some(disk.clone()),
        ..Options::default()
    });
    // With so many fields a row group is full before the second month is begun, and its ids do not compress.
    let names = |word: &str| (0..32).map(|n| format!("{word}{n}")).collect::<Vec<_>>();
    let values: serde_json::Map<_, _> = names("v").into_iter().map(|v| (v, json!({}))).collect();
    let wide = json!({"name": "wide", "kind": "delta", "values": values, "attributes": names("a")});
    let create = post("/v1/meters").key(&server.key);
    server.send(&create.json(wide.to_string())).expect(201);
    for month in 1..3_u128 {
        let rows: Vec<_> = (0..8000_u128)
            .map(|n| {
                let id = (month * 8000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                let time = format!("2026-{month:02}-01T{:02}:{:02}:00Z", n / 60 % 24, n % 60);
                json!({
                    "id": format!("{id:032x}"), "meter": "wide", "subject": "s", "time": time,
                    "values": {"v0": 1},
                })
            })
            .collect();
        assert_eq!(server.ingest(&rows)["accepted"], 8000);
    }
    server.engine.seal().unwrap();
    let files = segments(&disk, Path::new("/engine/segments"));
    assert_eq!(files.len(), 2);
    for format in ["ndjson", "csv", "parquet"] {
        assert!(export(&server, &format!("meter=wide&format={format}")).whole);
    }
    damage(&disk, &files[1]);
    for format in ["ndjson", "csv", "parquet"] {
        let answer = export(&server, &format!("meter=wide&format={format}"));
        assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.head);
        assert!(!answer.body.is_empty() && !answer.whole, "{format}");
    }
    // Before anything was sent, it is a fault like any other.
    damage(&disk, &files[0]);
    let answer = server.send(&get("/v1/export?meter=wide").key(&server.key));
    assert_eq!(answer.expect(500)["code"], "internal_error");
}

#[test]
fn clients_that_go_away_or_read_nothing_keep_no_place() {
    let server = Server::start().with_meter();
    for batch in 0..5 {
        let rows: Vec<_> = (0..10_000).map(|n| row(&format!("{batch}-{n}"))).collect();
        assert_eq!(server.ingest(&rows)["accepted"], 10_000);
    }
    let whole = get("/v1/export?meter=api_calls").key(&server.key);
    // More than may run at a time, one after the other.
    for _ in 0..10 {
        let mut stream = connect(server.address);
        stream.write_all(&whole.bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        drop(stream);
        let head = request("HEAD", "/v1/export?meter=api_calls").key(&server.key);
        assert_eq!(server.send(&head).status, 200);
    }
    assert_eq!(
        export(&server, "meter=api_calls").text().lines().count(),
        50_000
    );
    // Queries do not wait for exports that nobody reads.
    let idle: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(server.address);
            stream.write_all(&whole.bytes()).unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            stream
        })
        .collect();
    let query = json!({
        "meter": "api_calls", "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z",
        "aggregations": [{"function": "count"}],
    });
    assert_eq!(server.query(&query)["rows"][0]["values"]["count"], "50000");
    // Nor does another organization: one has half of the places, and its third export is turned away.
    let other = get("/v1/export?meter=api_calls").key(&server.rival_key);
    assert_eq!(Streamed::of(&server, &other).text(), "");
    let third = server.send(&whole).expect(503);
    assert_eq!(third["code"], "overloaded", "{third}");
    drop(idle);
    assert_eq!(
        export(&server, "meter=api_calls").text().lines().count(),
        50_000
    );
    let again = post("/v1/query").key(&server.key).json(query.to_string());
    server.send(&again).expect(200);
}
