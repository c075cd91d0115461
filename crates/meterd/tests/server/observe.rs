//! What the server says about itself: health, metrics, log; and whom it takes a request to be from.

use crate::support::{Home, Server, call, exchange, furnish, new_key, until};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const LISTEN: &str = "[[listen]]\naddress = \"127.0.0.1:0\"\n";

/// One sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Reads `{a="b",c="d"}`, escapes included, and returns what stands behind it.
fn read_labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return (labels, text);
    };
    loop {
        let (name, tail) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name:?}");
        let mut value = String::new();
        let mut chars = tail.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("unknown escape {c:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &tail[end + 1..];
        if let Some(behind) = rest.strip_prefix('}') {
            return (labels, behind);
        }
        rest = rest.strip_prefix(',').expect("a comma");
    }
}

/// Reads `OpenMetrics` 1.0 text and refuses whatever breaks its rules.
fn parse_open_metrics(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("the end marker");
    let mut family = String::new();
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap_or("");
            assert!(is_name(name), "{line}");
            if name != family {
                name.clone_into(&mut family);
                assert!(
                    !types.contains_key(name) && !helped.contains(name),
                    "{name} is not in one piece"
                );
            }
            match word {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(types.insert(name.into(), rest.into()).is_none(), "{line}");
                }
                "HELP" => assert!(helped.insert(name.to_owned()) && !rest.is_empty(), "{line}"),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).expect("a sample");
        let (name, tail) = line.split_at(end);
        let (labels, value) = read_labels(tail);
        let value: f64 = value
            .strip_prefix(' ')
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no value: {line}"));
        let suffix = name.strip_prefix(family.as_str()).expect("its family");
        let allowed: &[&str] = match types[&family].as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        assert!(allowed.contains(&suffix), "{line}");
        assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
        assert!(series.insert((name.to_owned(), labels.clone())), "{line}");
        samples.push((name.to_owned(), labels, value));
    }
    for name in types.keys() {
        assert!(helped.contains(name), "{name} has no help");
    }
    check_histograms(&samples);
    samples
}

/// Buckets rise and end in `+Inf`, which is the count.
fn check_histograms(samples: &[Sample]) {
    let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, labels, value) in samples {
        if let Some(name) = name.strip_suffix("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = bound.replace("+Inf", "inf").parse().unwrap();
            buckets
                .entry((name.to_owned(), labels))
                .or_default()
                .push((bound, *value));
        }
    }
    for ((name, labels), buckets) in buckets {
        let rises = |(a, b): (&(f64, f64), &(f64, f64))| a.0 < b.0 && a.1 <= b.1;
        assert!(buckets.iter().zip(&buckets[1..]).all(rises), "{name}");
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite(), "{name}");
        let name = format!("{name}_count");
        let count = samples.iter().find(|s| s.0 == name && s.1 == labels);
        assert!((count.unwrap().2 - last.1).abs() < 0.5, "{name}");
    }
}

fn scrape(server: &Server) -> Vec<Sample> {
    let answer = server.client("").get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    parse_open_metrics(&answer.text)
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    samples
        .iter()
        .filter(|(known, has, _)| {
            known == name
                && labels
                    .iter()
                    .all(|(name, value)| has.get(*name).is_some_and(|v| v == value))
        })
        .map(|(.., value)| value)
        .sum()
}

#[test]
fn metrics_count_requests_under_bounded_labels() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    let rows = json!({"measurements": [call("a", "1"), call("b", "1")]});
    client.post("/v1/measurements", &rows).ok();
    client.get("/v1/measurements/nowhere");
    client.get("/v1/nowhere");
    client.get("/nowhere");
    let before = scrape(&server);
    let requests = "meterd_http_requests_total";
    assert!((value(&before, "meterd_engine_measurements", &[]) - 2.0).abs() < 0.5);
    assert!((value(&before, "meterd_engine_batches_total", &[]) - 1.0).abs() < 0.5);
    let ingested = [
        ("surface", "native"),
        ("route", "/measurements"),
        ("method", "POST"),
        ("status", "200"),
    ];
    assert!((value(&before, requests, &ingested) - 1.0).abs() < 0.5);
    assert!((value(&before, "meterd_http_requests_in_flight", &[]) - 1.0).abs() < 0.5);

    let unknown = [("route", "none"), ("status", "404")];
    let unknown_before = value(&before, requests, &unknown);
    for index in 0..1_000 {
        let path = match index % 4 {
            0 => format!("/v1/{index}/nowhere"),
            1 => format!("/{index:x}"),
            2 => format!("/v1/measurements/id-{index}"),
            _ => format!("/docs/errors/{index}?secret={index}"),
        };
        assert_eq!(client.get(&path).status, 404, "{path}");
    }
    let odd = "BREW /v1/meters HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let odder = odd.replace("BREW", "STEEP");
    for text in [odd, odder.as_str()] {
        let answer = exchange(server.connect(), text.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
    let after = scrape(&server);
    assert!((value(&after, requests, &unknown) - unknown_before - 500.0).abs() < 0.5);
    let odd_ones = value(&after, requests, &[("method", "other")]);
    assert!((odd_ones - 2.0).abs() < 0.5);
    // New are /metrics itself, an error page that is not there, and the odd method: a few labels, each with a
    // counter, a fault and a histogram.
    assert!(
        after.len() <= before.len() + 60,
        "{} samples became {}",
        before.len(),
        after.len()
    );
    let routes: BTreeSet<_> = after
        .iter()
        .filter_map(|(_, labels, _)| labels.get("route"))
        .collect();
    assert!(
        routes.iter().all(|route| !route.contains("id-")),
        "{routes:?}"
    );
}

#[test]
fn a_request_whose_client_leaves_is_no_longer_in_hand() {
    use std::io::Write as _;
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    for _ in 0..5 {
        let mut stream = server.connect();
        let head = format!(
            "POST /v1/measurements HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
            client.key()
        );
        stream.write_all(head.as_bytes()).unwrap();
        until("a request in hand", || {
            value(&scrape(&server), "meterd_http_requests_in_flight", &[]) > 1.5
        });
    }
    until("no request in hand but the one that asks", || {
        value(&scrape(&server), "meterd_http_requests_in_flight", &[]) < 1.5
    });
}

#[test]
fn health_and_readiness() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = server.client("");
    for path in ["/healthz", "/readyz"] {
        let answer = client.get(path);
        assert!(answer.headers.contains_key("x-request-id"));
        assert_eq!(answer.ok()["version"], env!("CARGO_PKG_VERSION"));
    }
    let head = exchange(
        server.connect(),
        b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "HEAD has no body: {head}");
    let answer = server.client("").post("/healthz", &json!({}));
    assert_eq!(answer.headers["allow"], "GET, HEAD");
    assert_eq!(answer.problem(405), "method_not_allowed");
}

#[test]
fn a_full_disk_stores_nothing_by_halves_and_is_not_ready() {
    let home = Home::new();
    let server = Server::start(&home);
    let client = furnish(&server, &server.admin_key());
    assert_eq!(server.stop(), Some(0));
    let server = Server::with_file_limit(&home, 512);
    let client = client.at(&server.base_url);
    let mut accepted = 0;
    let refused = (0..200)
        .find_map(|batch| {
            let rows: Vec<_> = (0..100)
                .map(|row| call(&format!("m-{batch}-{row}-{}", "x".repeat(60)), "1"))
                .collect();
            let answer = client.post("/v1/measurements", &json!({"measurements": rows}));
            if answer.status == 200 {
                accepted += answer.ok()["accepted"].as_u64().unwrap();
                return None;
            }
            Some(answer)
        })
        .expect("a full disk");
    assert!(refused.headers.contains_key("retry-after"));
    assert!(accepted > 0);
    let code = refused.problem(503);
    assert!(
        ["storage_full", "storage_unavailable"].contains(&code.as_str()),
        "{code}"
    );
    let ready = server.client("").get("/readyz");
    assert_eq!(ready.problem(503), "storage_unavailable");
    server.client("").get("/healthz").ok();
    // Reads go on, and say what was acknowledged.
    let stored = client.sum_and_count("calls", "requests").1;
    assert_eq!(stored, accepted);
    drop(server);
    let server = Server::start(&home);
    let client = client.at(&server.base_url);
    let stored = client.sum_and_count("calls", "requests").1;
    assert!(stored == accepted || code == "storage_unavailable" && stored == accepted + 100);
    server.client("").get("/readyz").ok();
    let rows = json!({"measurements": [call("again", "1")]});
    assert_eq!(client.post("/v1/measurements", &rows).ok()["accepted"], 1);
}

#[test]
fn the_log_has_one_line_per_request_and_neither_secrets_nor_bodies() {
    const MARKER: &str = "marker-7f3a";
    for format in ["text", "json"] {
        let home = Home::new();
        let toml = format!("{LISTEN}[log]\nformat = \"{format}\"\n");
        let server = Server::configured(&home, &toml);
        let admin_key = server.admin_key();
        let client = furnish(&server, &admin_key);
        let mut row = call(MARKER, "1");
        row["subject"] = json!(MARKER);
        row["attributes"]["region"] = json!(MARKER);
        let rows = json!({"measurements": [row]});
        client.post("/v1/measurements", &rows).ok();
        // Bodies and addresses that fail.
        for body in [
            json!({"measurements": [{"id": MARKER, "meter": MARKER}]}),
            json!({MARKER: MARKER}),
            json!(MARKER),
        ] {
            assert!(client.post("/v1/measurements", &body).status >= 400);
            assert!(client.post("/v1/query", &body).status >= 400);
            assert!(client.post("/v1/meters", &body).status >= 400);
        }
        client.get(&format!("/v1/measurements/{MARKER}")).ok();
        client.get(&format!("/v1/{MARKER}?{MARKER}={MARKER}"));
        let wrong = server.client(&format!("mtr_{MARKER}")).get("/v1/meters");
        assert_eq!(wrong.status, 401);
        let last = client.get("/v1/meters");
        let request_id = last.headers["x-request-id"].to_str().unwrap().to_owned();

        let log = server.wait_for_log(&request_id);
        let lines: Vec<_> = log.lines().filter(|l| l.contains(&request_id)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let words: &[&str] = match format {
            "text" => &[
                "surface=\"native\"",
                "route=\"/meters\"",
                "status=200",
                "GET",
            ],
            _ => &[
                "\"surface\":\"native\"",
                "\"route\":\"/meters\"",
                "\"status\":200",
            ],
        };
        for word in words.iter().chain(&["127.0.0.1", "duration_us"]) {
            assert!(lines[0].contains(word), "{word}: {}", lines[0]);
        }
        for secret in [client.key(), admin_key.as_str(), MARKER, "Bearer"] {
            assert!(!log.contains(secret), "{secret} is in the log: {log}");
        }
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
            }
        }
    }
}

#[test]
fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
    let home = Home::new();
    let server = Server::configured(&home, LISTEN);
    let admin_key = server.admin_key();
    furnish(&server, &admin_key);
    let (_, far) = new_key(&server.client(&admin_key), &["*"], &["203.0.113.0/24"]);
    let (_, near) = new_key(&server.client(&admin_key), &["*"], &["127.0.0.0/8"]);
    let asked = |server: &Server, key: &str, forwarded: &str| {
        let client = server.client(key);
        client
            .get_with("/v1/meters", "X-Forwarded-For", forwarded)
            .status
    };
    assert_eq!(
        asked(&server, &far, "203.0.113.9"),
        403,
        "nobody is trusted"
    );
    assert_eq!(asked(&server, &near, "203.0.113.9"), 200);
    assert_eq!(server.stop(), Some(0));

    let toml = format!("trusted_proxies = [\"127.0.0.1/32\", \"10.0.0.0/8\"]\n{LISTEN}");
    let server = Server::configured(&home, &toml);
    assert_eq!(
        server.client(&far).get("/v1/meters").problem(403),
        "address_not_allowed"
    );
    for (forwarded, far_status, near_status) in [
        ("203.0.113.9", 200, 403),
        ("::ffff:203.0.113.9", 200, 403),
        ("203.0.113.9, 10.1.2.3", 200, 403),
        // What a client claims in front of its own address does not count.
        ("203.0.113.9, 198.51.100.7", 403, 403),
        ("198.51.100.7, 203.0.113.9", 200, 403),
        ("nonsense", 403, 200),
        ("203.0.113.9, nonsense", 403, 200),
    ] {
        assert_eq!(asked(&server, &far, forwarded), far_status, "{forwarded}");
        assert_eq!(asked(&server, &near, forwarded), near_status, "{forwarded}");
    }
}
