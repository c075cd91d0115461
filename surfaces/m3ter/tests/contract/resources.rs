//! What all configuration objects have in common, over every kind: create, retrieve, replace, list and delete.

use crate::world::{World, with};
use serde_json::{Value, json};

/// A kind of configuration object.
struct Kind {
    path: &'static str,
    /// What a 404 calls it.
    noun: &'static str,
    page_max: usize,
    has_code: bool,
    has_custom_fields: bool,
    /// A good body, another one for each number.
    body: fn(&World, usize) -> Value,
    /// Members that make a good body bad, and the problem that is told.
    bad: &'static [(&'static str, &'static str)],
}

const NAME: &str = "name: must have 1 to 200 characters";
const CODE: &str = "code: must have 1 to 80 characters";
const PLAIN: &str = "code: must be text without control characters or blanks at either end";

const KINDS: &[Kind] = &[
    Kind {
        path: "/products",
        noun: "Product",
        page_max: 200,
        has_code: true,
        has_custom_fields: true,
        body: |_, number| json!({"name": "Storage", "code": format!("product {number}")}),
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (r#"{"name": null}"#, "name: is required"),
            (r#"{"name": 7}"#, "name: must be a string"),
            (r#"{"code": " a"}"#, PLAIN),
            (r#"{"code": ""}"#, CODE),
            (
                r#"{"customFields": {"a": true}}"#,
                "customFields.a: must be a string or a number",
            ),
            (r#"{"customFields": []}"#, "customFields: must be an object"),
        ],
    },
    Kind {
        path: "/meters",
        noun: "Meter",
        page_max: 100,
        has_code: true,
        has_custom_fields: true,
        body: |world, number| {
            json!({
                "productId": world.product,
                "name": "Storage",
                "code": format!("storage {number}"),
                "dataFields": [
                    {"category": "MEASURE", "code": "bytes", "name": "Bytes", "unit": "By"},
                    {"category": "WHERE", "code": "region", "name": "Region"},
                ],
                "derivedFields": [{
                    "category": "MEASURE", "code": "gib", "name": "GiB", "unit": "GiB",
                    "calculation": "bytes / 1073741824",
                }],
            })
        },
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (r#"{"code": "a "}"#, PLAIN),
            (r#"{"productId": "storage"}"#, "productId: must be a UUID"),
            (
                r#"{"productId": "00000000-0000-4000-8000-000000000000"}"#,
                "productId: must name an existing product",
            ),
        ],
    },
    Kind {
        path: "/accounts",
        noun: "Account",
        page_max: 100,
        has_code: true,
        has_custom_fields: true,
        body: |_, number| {
            json!({
                "name": "Acme",
                "code": format!("acme {number}"),
                "emailAddress": "billing@acme.example",
                "address": {"addressLine1": "1 High Street", "postCode": "AB1 2CD"},
                "billEpoch": "2024-02-29",
                "currency": "EUR",
                "purchaseOrderNumber": "PO-7",
                "autoGenerateStatementMode": "JSON",
                "creditApplicationOrder": ["BALANCE", "PREPAYMENT"],
                "daysBeforeBillDue": 14,
            })
        },
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (r#"{"code": "\ta"}"#, PLAIN),
            (
                r#"{"emailAddress": "acme.example"}"#,
                "emailAddress: must be an e-mail address",
            ),
            (r#"{"emailAddress": null}"#, "emailAddress: is required"),
            (
                r#"{"billEpoch": "2023-02-29"}"#,
                "billEpoch: must be a date such as 2026-11-01",
            ),
            (
                r#"{"currency": "euro"}"#,
                "currency: must be a currency code of three letters, such as USD",
            ),
            (
                r#"{"autoGenerateStatementMode": "PDF"}"#,
                "autoGenerateStatementMode: must be one of NONE, JSON, JSON_AND_CSV",
            ),
            (
                r#"{"creditApplicationOrder": ["BALANCE", "BALANCE"]}"#,
                "creditApplicationOrder[1]: must not be given twice",
            ),
            (
                r#"{"daysBeforeBillDue": 0}"#,
                "daysBeforeBillDue: must be between 1 and 4294967295",
            ),
            (
                r#"{"address": {"postCode": "a postal code of 24 char"}}"#,
                "address.postCode: must have at most 20 characters",
            ),
            (
                r#"{"parentAccountId": "00000000-0000-4000-8000-000000000000"}"#,
                "parentAccountId: must name an existing account",
            ),
        ],
    },
    Kind {
        path: "/aggregations",
        noun: "Aggregation",
        page_max: 100,
        has_code: true,
        has_custom_fields: true,
        body: |world, number| {
            json!({
                "name": "Bytes",
                "code": format!("bytes_{number}"),
                "rounding": "UP",
                "quantityPerUnit": 0.001,
                "unit": "kB",
                "meterId": world.meter,
                "targetField": "bytes",
                "aggregation": "SUM",
                "segmentedFields": ["region", "tier"],
                "segments": [{"region": "eu", "tier": "*"}, {"region": "*", "tier": "*"}],
                "defaultValue": 0,
                "accountingProductId": world.product,
            })
        },
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (
                r#"{"code": "a b"}"#,
                "code: must be a name of letters, digits, underscores and dollar signs that does not start with a digit",
            ),
            (
                r#"{"rounding": "HALF"}"#,
                "rounding: must be one of UP, DOWN, NEAREST, NONE",
            ),
            (
                r#"{"quantityPerUnit": 0}"#,
                "quantityPerUnit: must be greater than 0",
            ),
            (r#"{"unit": ""}"#, "unit: must have 1 to 50 characters"),
            (
                r#"{"meterId": "00000000-0000-4000-8000-000000000000"}"#,
                "meterId: must name an existing meter",
            ),
            (
                r#"{"defaultValue": -1}"#,
                "defaultValue: must be at least 0",
            ),
        ],
    },
    Kind {
        path: "/compoundaggregations",
        noun: "Compound aggregation",
        page_max: 100,
        has_code: true,
        has_custom_fields: true,
        body: |world, number| {
            json!({
                "name": "Twice the bytes",
                "code": format!("twice_{number}"),
                "rounding": "NONE",
                "quantityPerUnit": 1,
                "unit": "By",
                "productId": world.product,
                "calculation": "aggregation.stored * 2",
                "evaluateNullAggregations": true,
            })
        },
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (r#"{"unit": null}"#, "unit: is required"),
            (
                r#"{"evaluateNullAggregations": "yes"}"#,
                "evaluateNullAggregations: must be a boolean",
            ),
            (
                r#"{"productId": "00000000-0000-4000-8000-000000000000"}"#,
                "productId: must name an existing product",
            ),
        ],
    },
    Kind {
        path: "/counters",
        noun: "Counter",
        page_max: 200,
        has_code: true,
        has_custom_fields: false,
        body: |world, number| {
            json!({
                "name": "Seats",
                "code": format!("seats {number}"),
                "productId": world.product,
                "unit": "seat",
            })
        },
        bad: &[
            (r#"{"name": ""}"#, NAME),
            (r#"{"unit": ""}"#, "unit: must have 1 to 5000 characters"),
            (
                r#"{"productId": "00000000-0000-4000-8000-000000000000"}"#,
                "productId: must name an existing product",
            ),
        ],
    },
    Kind {
        path: "/counteradjustments",
        noun: "Counter adjustment",
        page_max: 100,
        has_code: false,
        has_custom_fields: false,
        body: |world, number| {
            json!({
                "counterId": world.counter,
                "accountId": world.account,
                "date": format!("2024-01-{number:02}"),
                "value": 5,
                "purchaseOrderNumber": "PO-7",
            })
        },
        bad: &[
            (
                r#"{"value": -1}"#,
                "value: must be between 0 and 9223372036854775807",
            ),
            (r#"{"value": 1.5}"#, "value: must be an integer"),
            (
                r#"{"date": "01/02/2024"}"#,
                "date: must be a date such as 2026-11-01",
            ),
            (
                r#"{"counterId": "00000000-0000-4000-8000-000000000000"}"#,
                "counterId: must name an existing counter",
            ),
            (
                r#"{"accountId": "00000000-0000-4000-8000-000000000000"}"#,
                "accountId: must name an existing account",
            ),
        ],
    },
];

/// Runs a test for each kind on one server.
fn for_each_kind(check: impl Fn(&World, &Kind)) {
    let world = World::start();
    for kind in KINDS {
        check(&world, kind);
    }
}

fn id(entity: &Value) -> &str {
    entity["id"].as_str().unwrap()
}

#[test]
fn creating_answers_the_whole_entity() {
    for_each_kind(|world, kind| {
        let mut body = (kind.body)(world, 1);
        if kind.has_custom_fields {
            body["customFields"] = json!({"tier": "gold", "discount": 0.5});
        }
        let created = world.post(kind.path, &body).expect(200);
        let mut expected = body;
        for member in [
            "id",
            "dtCreated",
            "dtLastModified",
            "createdBy",
            "lastModifiedBy",
        ] {
            expected[member] = created[member].clone();
        }
        expected["version"] = json!(1);
        if kind.path == "/compoundaggregations" {
            expected["aggregationIds"] = json!([world.aggregation]);
        }
        assert_eq!(created, expected, "{}", kind.path);
        assert_eq!(id(&created).len(), 36);
        assert_eq!(created["dtCreated"], created["dtLastModified"]);
        let author = created["createdBy"].as_str().unwrap();
        assert!(author.starts_with("SERVICE_USER_"), "{author}");
        let read = world.get(&format!("{}/{}", kind.path, id(&created)));
        assert_eq!(read.expect(200), created, "{}", kind.path);
    });
}

#[test]
fn unknown_members_and_a_version_are_ignored_when_creating() {
    for_each_kind(|world, kind| {
        let plain = (kind.body)(world, 1);
        let body = with(&plain, r#"{"version": 17, "frobnication": {"level": 9}}"#);
        let created = world.post(kind.path, &body).expect(200);
        assert_eq!(created["version"], 1);
        assert_eq!(created["frobnication"], Value::Null);
    });
}

#[test]
fn replacing_needs_the_present_version() {
    for_each_kind(|world, kind| {
        let body = (kind.body)(world, 1);
        let created = world.post(kind.path, &body).expect(200);
        let path = format!("{}/{}", kind.path, id(&created));

        let missing = world.put(&path, &body);
        assert_eq!(
            missing.expect(400)["message"],
            "Validation failed: version: is required"
        );
        let stale = world.put(&path, &with(&body, r#"{"version": 2}"#));
        assert_eq!(
            stale.expect(400)["message"],
            "Version mismatch: expected 1, got 2"
        );
        assert_eq!(world.get(&path).expect(200), created, "{}", kind.path);

        let other = with(&(kind.body)(world, 2), r#"{"version": 1}"#);
        let replaced = world.put(&path, &other).expect(200);
        assert_eq!(replaced["version"], 2);
        assert_eq!(replaced["id"], created["id"]);
        assert_eq!(replaced["dtCreated"], created["dtCreated"]);
        let times = [&created, &replaced].map(|entity| entity["dtLastModified"].as_str().unwrap());
        assert!(times[0] < times[1], "{times:?}");
        assert_eq!(world.get(&path).expect(200), replaced, "{}", kind.path);
        assert_eq!(
            world.put(&path, &other).expect(400)["message"],
            "Version mismatch: expected 2, got 1"
        );
    });
}

#[test]
fn replacing_clears_what_is_left_out() {
    for_each_kind(|world, kind| {
        if !kind.has_custom_fields {
            return;
        }
        let body = (kind.body)(world, 1);
        let full = with(&body, r#"{"customFields": {"tier": "gold"}}"#);
        let created = world.post(kind.path, &full).expect(200);
        let path = format!("{}/{}", kind.path, id(&created));
        let replaced = world.put(&path, &with(&body, r#"{"version": 1}"#));
        assert_eq!(replaced.expect(200)["customFields"], Value::Null);
        let read = world.get(&path).expect(200);
        assert_eq!(read["customFields"], Value::Null, "{}", kind.path);
    });
}

#[test]
fn deleting_answers_what_was_deleted() {
    for_each_kind(|world, kind| {
        let body = (kind.body)(world, 1);
        let created = world.post(kind.path, &body).expect(200);
        let path = format!("{}/{}", kind.path, id(&created));
        assert_eq!(world.delete(&path).expect(200), created, "{}", kind.path);
        let message = format!("{} not found: {}", kind.noun, id(&created));
        for answer in [
            world.get(&path),
            world.put(&path, &with(&body, r#"{"version": 1}"#)),
            world.delete(&path),
        ] {
            assert_eq!(answer.expect(404)["message"], message);
        }
        // Its code can be used again.
        world.post(kind.path, &body).expect(200);
    });
}

#[test]
fn a_code_is_no_id() {
    for_each_kind(|world, kind| {
        world.post(kind.path, &(kind.body)(world, 1)).expect(200);
        for code in [
            "bytes_1",
            "storage%201",
            "0193a5c27c1e7d3a9f103b6f0f2f9d11",
            "%00",
        ] {
            let path = format!("{}/{code}", kind.path);
            let message = world.get(&path).expect(404)["message"].clone();
            let message = message.as_str().unwrap();
            assert!(
                message.starts_with(&format!("{} not found: ", kind.noun)),
                "{message}"
            );
        }
    });
}

#[test]
fn a_code_is_used_once() {
    for_each_kind(|world, kind| {
        let body = (kind.body)(world, 1);
        let first = world.post(kind.path, &body).expect(200);
        let second = world.post(kind.path, &(kind.body)(world, 2)).expect(200);
        let renamed = with(&body, r#"{"version": 1}"#);
        let path = format!("{}/{}", kind.path, id(&second));
        for answer in [world.post(kind.path, &body), world.put(&path, &renamed)] {
            let message = answer.expect(400)["message"].clone();
            let message = message.as_str().unwrap();
            let expected = match body["code"].as_str() {
                Some(code) => format!("Code '{code}' is already in use"),
                None => format!(
                    "Date '2024-01-01 of {} for {}' is already in use",
                    world.counter, world.account
                ),
            };
            assert_eq!(message, expected, "{}", kind.path);
        }
        assert_eq!(world.get(&path).expect(200), second);
        let kept = world.put(&format!("{}/{}", kind.path, id(&first)), &renamed);
        kept.expect(200);
    });
}

#[test]
fn bad_fields_are_told_by_name() {
    for_each_kind(|world, kind| {
        let body = (kind.body)(world, 1);
        let created = world.post(kind.path, &body).expect(200);
        let path = format!("{}/{}", kind.path, id(&created));
        let bad = kind
            .bad
            .iter()
            .map(|(patch, problem)| ((*patch).to_owned(), *problem));
        let long_name = body["name"].is_string().then(|| {
            let name = json!({"name": "n".repeat(201)});
            (name.to_string(), NAME)
        });
        for (patch, problem) in bad.chain(long_name) {
            let message = format!("Validation failed: {problem}");
            let new = with(&(kind.body)(world, 2), &patch);
            assert_eq!(world.post(kind.path, &new).expect(400)["message"], message);
            let changed = with(&new, r#"{"version": 1}"#);
            assert_eq!(world.put(&path, &changed).expect(400)["message"], message);
        }
        assert_eq!(world.get(&path).expect(200), created);
        let nothing = world.post(kind.path, &json!([]));
        assert_eq!(
            nothing.expect(400)["message"],
            "Validation failed: body: must be an object"
        );
    });
}

#[test]
fn malformed_json_is_located() {
    for_each_kind(|world, kind| {
        let created = world.post(kind.path, &(kind.body)(world, 1)).expect(200);
        let path = format!("{}/{}", kind.path, id(&created));
        for answer in [
            world.send("POST", kind.path, "{\"name\":\n oops}"),
            world.send("PUT", &path, "{\"name\":\n oops}"),
        ] {
            let message = answer.expect(400)["message"].clone();
            let message = message.as_str().unwrap();
            assert!(message.starts_with("Invalid JSON: "), "{message}");
            assert!(message.contains("at line 2"), "{message}");
        }
        assert_eq!(world.get(&path).expect(200), created);
    });
}

#[test]
fn lists_are_paged_from_the_newest() {
    for_each_kind(|world, kind| {
        let list = match kind.path {
            "/counteradjustments" => format!("{}?counterId={}&", kind.path, world.counter),
            path => format!("{path}?"),
        };
        let empty = world.get(&list).expect(200);
        let before = empty["data"].as_array().unwrap().len();
        let made: Vec<_> = (1..=5)
            .map(|number| {
                world
                    .post(kind.path, &(kind.body)(world, number))
                    .expect(200)
            })
            .collect();
        let mut listed = Vec::new();
        let mut sizes = Vec::new();
        let mut next = String::new();
        loop {
            let page = world.get(&format!("{list}pageSize=2{next}")).expect(200);
            let data = page["data"].as_array().unwrap();
            assert!(!data.is_empty(), "{}", kind.path);
            sizes.push(data.len());
            listed.extend(data.iter().cloned());
            let Some(token) = page["nextToken"].as_str() else {
                assert_eq!(page.as_object().unwrap().len(), 1, "no nextToken at all");
                break;
            };
            next = format!("&nextToken={token}");
        }
        let newest: Vec<_> = made.iter().rev().cloned().collect();
        assert_eq!(listed[..5], newest, "{}", kind.path);
        assert_eq!(listed.len(), 5 + before);
        assert_eq!(sizes[..2], [2, 2]);

        for (size, problem) in [
            ("0".to_owned(), true),
            ((kind.page_max + 1).to_string(), true),
            (kind.page_max.to_string(), false),
        ] {
            let answer = world.get(&format!("{list}pageSize={size}"));
            if problem {
                let message = format!(
                    "Validation failed: pageSize: must be between 1 and {}",
                    kind.page_max
                );
                assert_eq!(answer.expect(400)["message"], message);
            } else {
                answer.expect(200);
            }
        }
        world.get(&format!("{list}nextToken=nonsense")).expect(400);
        world
            .get(&format!("{list}unknown=1&nextToken="))
            .expect(200);
    });
}

#[test]
fn lists_are_narrowed_by_ids_and_codes() {
    for_each_kind(|world, kind| {
        if !kind.has_code {
            return;
        }
        let made: Vec<_> = (1..=3)
            .map(|number| {
                world
                    .post(kind.path, &(kind.body)(world, number))
                    .expect(200)
            })
            .collect();
        let [first, second, third] = [&made[0], &made[1], &made[2]];
        let (one, three) = (id(first), id(third));
        let code = |entity: &Value| entity["code"].as_str().unwrap().replace(' ', "%20");
        let (code_one, code_three) = (code(first), code(third));
        let by_id = [
            (format!("ids={one}%2C{three}"), vec![third, first]),
            (format!("ids={one}&ids={three}"), vec![third, first]),
            (
                format!("ids={one},none,{}", id(second)),
                vec![second, first],
            ),
            (
                "ids=none%2C00000000-0000-4000-8000-000000000000".to_owned(),
                vec![],
            ),
        ];
        let by_code = [
            (
                format!("codes={code_one}%2C{code_three}"),
                vec![third, first],
            ),
            (
                format!("codes={code_one}&codes={code_three}"),
                vec![third, first],
            ),
            (format!("ids={one}&codes={code_three}"), vec![]),
            (format!("ids={one}&codes={code_one}"), vec![first]),
            ("codes=none".to_owned(), vec![]),
        ];
        // The one kind with codes that is not listed by them.
        let by_code = by_code.into_iter().filter(|_| kind.path != "/products");
        for (query, expected) in by_id.into_iter().chain(by_code) {
            let page = world.get(&format!("{}?{query}", kind.path)).expect(200);
            let data: Vec<_> = page["data"].as_array().unwrap().iter().collect();
            assert_eq!(data, expected, "{}?{query}", kind.path);
        }
    });
}
