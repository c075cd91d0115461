//! Usage queries: filters, functions, groups, limits; and a slow reckoning of the same questions beside them.

use crate::ingest::{TIME, account, row};
use crate::server::{Options, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn period(more: &Value) -> Value {
    let mut query = json!({"startDate": "2024-01-01", "endDate": "2025-01-01T00:00:00+00:00"});
    let members = query.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    query
}

impl Server {
    fn usage(&self, more: &Value) -> Value {
        self.post("/usage/query", &period(more))
    }

    fn refused_usage(&self, more: &Value) -> String {
        self.refused(400, "POST", "/usage/query", Some(&period(more)))
    }

    fn account_id(&self, code: &str) -> String {
        let found = self.get(&format!("/accounts?codes={code}"));
        found["data"][0]["id"].as_str().unwrap().to_owned()
    }
}

fn measure(meter: &str, function: &str) -> Value {
    json!({"meterId": meter, "fieldCode": "bytes", "fieldType": "MEASURE", "function": function})
}

fn dimension(meter: &str, function: &str) -> Value {
    json!({"meterId": meter, "fieldCode": "region", "fieldType": "DIMENSION", "function": function})
}

#[test]
fn functions_come_to_the_right_numbers() {
    let (server, meter) = Server::with_storage();
    let third = row("c", "acme", "2024-03-01T11:00:00Z", "3", "eu").to_string();
    let rows = [
        row("a", "acme", "2024-03-01T10:00:00Z", "10", "eu").to_string(),
        row("b", "acme", "2024-03-01T12:00:00Z", "-2.5", "us").to_string(),
        // More digits than a binary number has.
        third.replace(":3}", ":3.000000000000000001}"),
    ];
    let body = format!("{{\"measurements\":[{}]}}", rows.join(","));
    assert_eq!(server.send_body(body).status, 200);
    let functions = ["SUM", "MIN", "MAX", "COUNT", "LATEST", "MEAN"];
    let mut aggregations: Vec<_> = functions.map(|name| measure(&meter, name)).into();
    aggregations.extend(["COUNT", "UNIQUE"].map(|name| dimension(&meter, name)));
    let query = period(&json!({"aggregations": aggregations}));
    let answer = server.ask("POST", "/usage/query", Some(&query));
    answer.expect(200);
    let text = String::from_utf8(answer.body).unwrap();
    let flat = r#""bytes.COUNT":3,"bytes.LATEST":-2.5,"bytes.MAX":10,"bytes.MEAN":3.5,"bytes.MIN":-2.5,"bytes.SUM":10.500000000000000001,"region.COUNT":3,"region.UNIQUE":2}],"hasMoreData":false}"#;
    assert!(text.ends_with(flat), "{text}");
    let first = format!(
        r#"{{"data":[{{"aggregations":[{{"meterId":"{meter}","fieldCode":"bytes","function":"SUM","value":10.500000000000000001}},"#
    );
    assert!(text.starts_with(&first), "{text}");
    // Without measurements there is no row.
    let nothing = json!({"aggregations": [measure(&meter, "SUM")], "accountIds": ["none"]});
    assert_eq!(
        server.usage(&nothing),
        json!({"data": [], "hasMoreData": false})
    );
}

#[test]
fn a_period_has_its_start_and_not_its_end() {
    let (server, meter) = Server::with_storage();
    for (uid, time) in [
        ("a", "2023-12-31T23:59:59.999999Z"),
        ("b", "2024-01-01T00:00:00Z"),
        ("c", "2024-12-31T23:59:59.999999Z"),
        ("d", "2025-01-01T00:00:00Z"),
    ] {
        server.submit(&[row(uid, "acme", time, "1", "eu")]);
    }
    let raw = server.usage(&json!({}));
    let uids: Vec<_> = raw["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["uid"].clone())
        .collect();
    assert_eq!(uids, ["c", "b"]);
    let sum = server.usage(&json!({"aggregations": [measure(&meter, "SUM")]}));
    assert_eq!(sum["data"][0]["bytes.SUM"], 2);
}

#[test]
fn filters_meet_and_their_values_are_choices() {
    let (server, meter) = Server::with_storage();
    let parent = server.account_id("acme");
    let mut child = account("child");
    child["parentAccountId"] = json!(parent);
    server.post("/accounts", &child);
    let second = json!({
        "name": "Calls", "code": "calls", "derivedFields": [],
        "dataFields": [{"category": "MEASURE", "code": "bytes", "name": "B"}, {"category": "WHAT", "code": "größe", "name": "G"}],
    });
    let calls = server.post("/meters", &second)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.submit(&[
        row("a", "acme", "2024-03-01T10:00:00Z", "1", "eu"),
        row("b", "acme", "2024-03-01T11:00:00Z", "2", "us"),
        row("c", "child", "2024-03-01T12:00:00Z", "4", "eu"),
        row("d", "acme", "2024-03-01T13:00:00Z", "8", "ap"),
        json!({"uid": "e", "meter": "calls", "account": "acme", "ts": "2024-03-01T14:00:00Z",
               "measure": {"bytes": 16}, "what": {"größe": "xl"}}),
    ]);
    let uids = |more: Value| {
        let answer = server.usage(&more);
        let rows = answer["data"].as_array().unwrap().iter();
        rows.map(|row| row["uid"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    let region = |values: Value| json!({"meterId": meter, "fieldCode": "region", "values": values});
    assert_eq!(uids(json!({})), "edcba");
    assert_eq!(uids(json!({"meterIds": [], "accountIds": []})), "edcba");
    assert_eq!(uids(json!({"meterIds": [meter]})), "dcba");
    assert_eq!(uids(json!({"meterIds": ["nothing"]})), "");
    // A parent has its own usage only.
    assert_eq!(uids(json!({"accountIds": [parent]})), "edba");
    // A filter is about its own meter.
    assert_eq!(
        uids(json!({"dimensionFilters": [region(json!(["eu", "us"]))]})),
        "ecba"
    );
    assert_eq!(
        uids(
            json!({"dimensionFilters": [region(json!(["eu", "us"])), region(json!(["eu", "ap"]))], "accountIds": [parent]})
        ),
        "ea"
    );
    let size = json!({"meterId": calls, "fieldCode": "größe", "values": ["xl"]});
    assert_eq!(
        uids(json!({"dimensionFilters": [size], "meterIds": [calls]})),
        "e"
    );
    let sums = json!({
        "aggregations": [measure(&meter, "SUM"), measure(&calls, "SUM"), dimension(&meter, "COUNT")],
        "dimensionFilters": [region(json!(["eu", "us"]))],
        "groups": [{"groupType": "ACCOUNT"}],
    });
    let answer = server.usage(&sums);
    // The flat members of one meter are never the other's.
    let flat: BTreeMap<_, _> = (answer["data"].as_array().unwrap().iter())
        .map(|row| {
            let account = row["accountCode"].as_str().unwrap().to_owned();
            (
                account,
                ["bytes.SUM", "calls.bytes.SUM"].map(|name| row[name].as_i64()),
            )
        })
        .collect();
    assert_eq!(flat["acme"], [Some(3), Some(16)]);
    assert_eq!(flat["child"], [Some(4), None]);
    let mut other_way = sums.clone();
    other_way["aggregations"] = json!([measure(&calls, "SUM"), measure(&meter, "SUM")]);
    let other_way = server.usage(&other_way);
    let child = (other_way["data"].as_array().unwrap().iter())
        .find(|row| row["accountCode"] == "child")
        .unwrap();
    assert_eq!(
        (child.get("bytes.SUM"), &child["storage.bytes.SUM"]),
        (None, &json!(4))
    );
    let mut rows: Vec<_> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let values = row["aggregations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["value"].clone());
            (
                row["accountCode"].as_str().unwrap().to_owned(),
                values.collect::<Vec<_>>(),
            )
        })
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        rows,
        [
            ("acme".to_owned(), vec![json!(3), json!(16), json!(2)]),
            ("child".to_owned(), vec![json!(4), Value::Null, json!(1)]),
        ]
    );
}

#[test]
fn what_a_query_asks_must_make_sense() {
    let (server, meter) = Server::with_storage();
    let aggregation = |name: &str, value: &str| {
        let mut one = measure(&meter, "SUM");
        one[name] = json!(value);
        json!({"aggregations": [one]})
    };
    let group = |group: Value| json!({"aggregations": [measure(&meter, "SUM")], "groups": [group]});
    let unknown = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
    for (query, refusal) in [
        (json!({"startDate": null}), "startDate: is required"),
        (json!({"endDate": null}), "endDate: is required"),
        (
            json!({"endDate": "2024-01-01T00:00:00Z"}),
            "endDate: must be after startDate",
        ),
        (json!({"limit": 0}), "limit: must"),
        (json!({"limit": 20_001}), "limit: must"),
        (
            json!({"groups": [{"groupType": "ACCOUNT"}]}),
            "groups: cannot be given without aggregations",
        ),
        (aggregation("meterId", unknown), "aggregations[0].meterId: "),
        (
            aggregation("fieldCode", "nothing"),
            "aggregations[0].fieldCode: must be one of bytes, region, note, perByte",
        ),
        (
            aggregation("function", "CUSTOM_SQL"),
            "aggregations[0].function: must be one of",
        ),
        (
            aggregation("function", "UNIQUE"),
            "aggregations[0].function: must be one of SUM, MIN, MAX, COUNT, LATEST, MEAN",
        ),
        (
            aggregation("fieldType", "DIMENSION"),
            "aggregations[0].function: must be one of COUNT, UNIQUE",
        ),
        (
            aggregation("fieldCode", "region"),
            "aggregations[0].fieldType: must fit the field",
        ),
        (
            group(json!({"groupType": "TIME"})),
            "groups[0].frequency: is required",
        ),
        (
            group(json!({"groupType": "YEAR"})),
            "groups[0].groupType: must be one of ACCOUNT, TIME, DIMENSION",
        ),
        (
            group(json!({"groupType": "DIMENSION", "meterId": meter, "fieldCode": "bytes"})),
            "groups[0].fieldCode: must be a field of texts",
        ),
        (
            json!({"dimensionFilters": [{"meterId": meter, "fieldCode": "region", "values": []}]}),
            "dimensionFilters[0].values: must",
        ),
    ] {
        let said = server.refused_usage(&query);
        let expected = format!("Validation failed: {refusal}");
        assert!(said.starts_with(&expected), "{query}: {said}");
    }
    let centuries = json!({
        "startDate": "1970-01-01", "endDate": "2070-01-01", "aggregations": [measure(&meter, "SUM")],
        "groups": [{"groupType": "TIME", "frequency": "HOUR"}],
    });
    server.refused(413, "POST", "/usage/query", Some(&centuries));
}

#[test]
fn the_newest_rows_are_kept_where_an_answer_is_cut() {
    let (server, meter) = Server::with_storage();
    for day in 1..=5 {
        let time = format!("2024-03-0{day}T10:00:00Z");
        server.submit(&[row(&format!("u{day}"), "acme", &time, "1", "eu")]);
    }
    let raw = server.usage(&json!({"limit": 2}));
    assert_eq!(raw["hasMoreData"], true);
    assert_eq!(raw["data"][0]["uid"], "u5");
    assert_eq!(raw["data"].as_array().unwrap().len(), 2);
    assert_eq!(server.usage(&json!({"limit": 5}))["hasMoreData"], false);
    let by_day = json!({
        "aggregations": [measure(&meter, "COUNT")], "limit": 2,
        "groups": [{"groupType": "TIME", "frequency": "DAY"}],
    });
    let days = server.usage(&by_day);
    assert_eq!(days["hasMoreData"], true);
    let starts: Vec<_> = days["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["startDate"].clone())
        .collect();
    assert_eq!(
        starts,
        ["2024-03-05T00:00:00.000Z", "2024-03-04T00:00:00.000Z"]
    );
    assert_eq!(days["data"][0]["endDate"], "2024-03-06T00:00:00.000Z");
}

#[test]
fn an_answer_past_the_bound_is_refused_until_it_is_narrowed() {
    let mut options = Options::default();
    options.settings.response_max_bytes = 2_000;
    let (server, _) = Server::with_storage_and(options);
    for n in 0..10 {
        server.submit(&[row(&format!("u{n}"), "acme", TIME, "1", "eu")]);
    }
    assert_eq!(
        server.refused(413, "POST", "/usage/query", Some(&period(&json!({})))),
        "Response too large; narrow the request with filters"
    );
    assert_eq!(
        server.usage(&json!({"limit": 3}))["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_deleted_account_keeps_its_usage_without_a_code() {
    let (server, _) = Server::with_storage();
    server.submit(&[row("a", "acme", TIME, "1", "eu")]);
    let id = server.account_id("acme");
    server.delete(&format!("/accounts/{id}"));
    let rows = server.usage(&json!({"accountIds": [id]}));
    assert_eq!(rows["data"][0]["accountId"], id);
    assert_eq!(rows["data"][0].get("accountCode"), None);
}

/// Random enough, and the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

struct Measured {
    account: &'static str,
    /// Since 1970.
    second: i64,
    bytes: i64,
    region: &'static str,
}

/// What a row is grouped by: its bucket, its account, its region.
type Group = (Option<String>, Option<&'static str>, Option<&'static str>);

/// Over a change of clocks in the organization's zone, where days have 23 and 24 hours.
#[test]
fn groups_and_functions_agree_with_a_slow_reckoning() {
    const ACCOUNTS: [&str; 3] = ["acme", "beta", "gamma"];
    const REGIONS: [&str; 3] = ["ap", "eu", "us"];
    const FUNCTIONS: [&str; 6] = ["SUM", "MIN", "MAX", "COUNT", "MEAN", "LATEST"];
    // 2024-03-30T00:00:00 in Berlin; the clock there goes forward on the 31st at 01:00 UTC.
    const FIRST: i64 = 1_711_753_200;
    const DAYS: [(i64, i64, &str); 3] = [
        (0, 24, "2024-03-29T23:00:00.000Z"),
        (24, 47, "2024-03-30T23:00:00.000Z"),
        (47, 71, "2024-03-31T22:00:00.000Z"),
    ];
    let (server, meter) = Server::with_storage();
    let mut config = server.get("/organizationconfig");
    config["timezone"] = json!("Europe/Berlin");
    config["daysBeforeBillDue"] = json!(1);
    server.put("/organizationconfig", &config);
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let measured: Vec<Measured> = (0..500)
        .map(|n| Measured {
            account: ACCOUNTS[random.below(3)],
            // No two at a time, so that there is one latest.
            second: FIRST + i64::try_from(random.below(71 * 7)).unwrap() * 500 + n % 500,
            bytes: i64::try_from(random.below(2_000)).unwrap() - 1_000,
            region: REGIONS[random.below(3)],
        })
        .collect();
    let rows: Vec<Value> = (measured.iter().enumerate())
        .map(|(n, row_of)| {
            let time = meterd_model::Timestamp::from_seconds(row_of.second).unwrap();
            let bytes = row_of.bytes.to_string();
            row(
                &format!("r{n}"),
                row_of.account,
                &time.to_string(),
                &bytes,
                row_of.region,
            )
        })
        .collect();
    server.submit(&rows);
    let day_of = |second: i64| {
        let hour = (second - FIRST) / 3_600;
        DAYS.iter()
            .find(|(from, to, _)| (*from..*to).contains(&hour))
            .unwrap()
            .2
    };
    for mask in 0..8 {
        let (by_account, by_day, by_region) = (mask & 1 != 0, mask & 2 != 0, mask & 4 != 0);
        let mut groups = Vec::new();
        if by_day {
            groups.push(json!({"groupType": "TIME", "frequency": "DAY"}));
        }
        if by_region {
            groups.push(json!({"groupType": "DIMENSION", "meterId": meter, "fieldCode": "region"}));
        }
        if by_account {
            groups.push(json!({"groupType": "ACCOUNT"}));
        }
        let query = json!({
            "aggregations": FUNCTIONS.map(|name| measure(&meter, name)), "groups": groups,
        });
        let mut expected: BTreeMap<Group, Vec<&Measured>> = BTreeMap::new();
        for one in &measured {
            let day = by_day.then(|| day_of(one.second).to_owned());
            let key = (
                day,
                by_account.then_some(one.account),
                by_region.then_some(one.region),
            );
            expected.entry(key).or_default().push(one);
        }
        let answer = server.usage(&query);
        let rows = answer["data"].as_array().unwrap();
        assert_eq!(rows.len(), expected.len(), "{query}");
        for row in rows {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let same = |a: Option<&'static str>, b: Option<String>| a.map(str::to_owned) == b;
            let found = expected.iter().find(|((day, account, region), _)| {
                *day == text(&row["startDate"])
                    && same(*account, text(&row["accountCode"]))
                    && same(*region, text(&row["dimensions"]["region"]))
            });
            let members = found.unwrap().1;
            let bytes = members.iter().map(|one| one.bytes);
            let sum: i64 = bytes.clone().sum();
            let count = i64::try_from(members.len()).unwrap();
            let latest = members.iter().max_by_key(|one| one.second).unwrap();
            for (name, value) in [
                ("SUM", sum),
                ("MIN", bytes.clone().min().unwrap()),
                ("MAX", bytes.clone().max().unwrap()),
                ("COUNT", count),
                ("LATEST", latest.bytes),
            ] {
                assert_eq!(row[format!("bytes.{name}")], value, "{name} of {row}");
            }
            let mean = row["bytes.MEAN"].as_f64().unwrap();
            #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
            let exact = sum as f64 / count as f64;
            assert!((mean - exact).abs() < 1e-9, "{row}");
        }
        // Newest first.
        let starts: Vec<_> = rows
            .iter()
            .map(|row| row["startDate"].to_string())
            .collect();
        assert!(starts.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn a_query_is_saved_by_name() {
    let (server, meter) = Server::with_storage();
    let query = json!({
        "timePeriod": "LAST_7_DAYS", "aggregations": [measure(&meter, "SUM")], "limit": 10,
        "groups": [{"groupType": "TIME", "frequency": "DAY"}],
    });
    let saved = server.post(
        "/usage/savedqueries",
        &json!({"name": "week", "usageQuery": query}),
    );
    assert_eq!(saved["usageQuery"], query);
    let item = format!("/usage/savedqueries/{}", saved["id"].as_str().unwrap());
    assert_eq!(server.get(&item), saved);
    let change = json!({"name": "weekly", "usageQuery": query, "version": 1});
    assert_eq!(server.put(&item, &change)["version"], 2);
    assert_eq!(
        server.get("/usage/savedqueries")["data"][0]["name"],
        "weekly"
    );
    for (body, refusal) in [
        (json!({"usageQuery": {}}), "name: is required"),
        (json!({"name": "x"}), "usageQuery: is required"),
        (
            json!({"name": "x", "usageQuery": {"limit": 0}}),
            "usageQuery.limit: must",
        ),
        (
            json!({"name": "x", "usageQuery": {"timePeriod": "SOON"}}),
            "usageQuery.timePeriod: must be one of",
        ),
    ] {
        let said = server.refused(400, "POST", "/usage/savedqueries", Some(&body));
        assert!(
            said.starts_with(&format!("Validation failed: {refusal}")),
            "{said}"
        );
    }
    server.delete(&item);
    server.refused(404, "GET", &item, None);
}

#[test]
fn an_answer_is_cut_over_several_meters_as_over_one() {
    let (server, meter) = Server::with_storage();
    let mut second = crate::ingest::storage();
    second["code"] = json!("second");
    let second = server.post("/meters", &second)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows: Vec<_> = (0..12)
        .map(|n| {
            let mut row = row(
                &format!("r{n}"),
                "acme",
                &format!("2024-03-{:02}T10:00:00Z", n + 1),
                "1",
                "eu",
            );
            if n % 3 == 0 {
                row["meter"] = json!("second");
            }
            row
        })
        .collect();
    server.submit(&rows);
    let query = |limit: usize| {
        json!({
            "aggregations": [measure(&meter, "COUNT"), measure(&second, "COUNT")], "limit": limit,
            "groups": [{"groupType": "TIME", "frequency": "DAY"}],
        })
    };
    let all = server.usage(&query(12));
    assert_eq!(all["hasMoreData"], false);
    for limit in [1, 4, 11] {
        let some = server.usage(&query(limit));
        assert_eq!(some["hasMoreData"], true);
        let whole = all["data"].as_array().unwrap();
        assert_eq!(some["data"], json!(whole[..limit]));
    }
}

/// More rows than are read at first.
#[test]
fn raw_rows_are_gathered_page_by_page() {
    let mut options = Options::default();
    options.settings.response_max_bytes = 1 << 30;
    let server = Server::start_with(options);
    let fields: Vec<_> = (0..15)
        .map(|n| json!({"category": "OTHER", "code": format!("f{n}"), "name": "F"}))
        .collect();
    let meter = json!({"name": "M", "code": "m", "dataFields": fields, "derivedFields": []});
    server.post("/meters", &meter);
    let row = |n: usize, text: &str| {
        let other: serde_json::Map<_, _> =
            (0..15).map(|f| (format!("f{f}"), json!(text))).collect();
        json!({"uid": n.to_string(), "meter": "m", "account": "a", "ts": TIME, "other": other})
    };
    for from in [0, 1_000] {
        let rows: Vec<_> = (from..from + 1_000).map(|n| row(n, "x")).collect();
        server.submit(&rows);
    }
    server.submit(&(2_000..2_500).map(|n| row(n, "x")).collect::<Vec<_>>());
    let answer = server.usage(&json!({}));
    assert_eq!(answer["data"].as_array().unwrap().len(), 2_500);
    assert_eq!(answer["hasMoreData"], false);
    assert_eq!(server.usage(&json!({"limit": 2_499}))["hasMoreData"], true);
}
