//! What an organization has one of, and counters with their adjustments.

use crate::world::{World, refused, with};
use serde_json::{Value, json};

#[test]
fn the_organization_is_configured_from_the_start() {
    let world = World::start();
    let mut config = world.get("/organizationconfig").expect(200);
    assert_eq!(world.get("/organizationconfig").expect(200), config);
    let members = config.as_object_mut().unwrap();
    assert_eq!(members.remove("id").unwrap().as_str().unwrap().len(), 36);
    assert_eq!(
        members.remove("dtCreated"),
        members.remove("dtLastModified")
    );
    assert_eq!(
        members.remove("createdBy"),
        members.remove("lastModifiedBy")
    );
    assert_eq!(
        config,
        json!({
            "version": 1,
            "timezone": "UTC",
            "yearEpoch": "2022-01-01",
            "monthEpoch": "2022-01-01",
            "weekEpoch": "2022-01-04",
            "dayEpoch": "2022-01-01",
            "currency": "USD",
            "currencyConversions": [],
            "daysBeforeBillDue": 30,
            "scheduledBillInterval": 0,
            "externalInvoiceDate": "FIRST_DAY_OF_NEXT_PERIOD",
            "autoGenerateStatementMode": "NONE",
            "allowOverlappingPlans": false,
        })
    );
}

#[test]
fn who_may_only_read_the_configuration_does_not_replace_it() {
    let world = World::start();
    let resource = ["config:organizationconfig"];
    let statements =
        json!([{"effect": "allow", "action": ["config:retrieve"], "resource": resource}]);
    let reader = world.server.with_statements("reader", &statements);
    let ask = |method, path| {
        world
            .server
            .ask_as(&reader.token, method, path, Some(&json!([])))
    };
    ask("GET", "/organizationconfig").expect(200);
    // Before the body is looked at.
    ask("PUT", "/organizationconfig").expect(403);
    ask("GET", "/customfields").expect(403);
}

fn full_config() -> Value {
    json!({
        "timezone": "Europe/Berlin",
        "yearEpoch": "2023-04-01",
        "monthEpoch": "2023-04-01",
        "weekEpoch": "2023-04-03",
        "dayEpoch": "2023-04-01",
        "currency": "EUR",
        "currencyConversions": [{"from": "USD", "to": "EUR", "multiplier": 0.9}, {"from": "XAU", "to": "EUR"}],
        "daysBeforeBillDue": 14,
        "scheduledBillInterval": 24,
        "scheduledBillOffset": 23,
        "standingChargeBillInAdvance": true,
        "commitmentFeeBillInAdvance": false,
        "minimumSpendBillInAdvance": true,
        "autoApproveBillsGracePeriod": 3,
        "autoApproveBillsGracePeriodUnit": "HOURS",
        "externalInvoiceDate": "LAST_DAY_OF_ARREARS",
        "suppressedEmptyBills": true,
        "consolidateBills": true,
        "defaultStatementDefinitionId": "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11",
        "autoGenerateStatementMode": "JSON_AND_CSV",
        "creditApplicationOrder": ["PREPAYMENT"],
        "allowNegativeBalances": true,
        "allowOverlappingPlans": true,
        "billPrefix": "INVOICE-",
        "sequenceStartNumber": 100,
        "customFields": {"region": "north"},
    })
}

#[test]
fn the_organization_s_configuration_is_replaced_as_a_whole() {
    let world = World::start();
    let before = world.get("/organizationconfig").expect(200);
    let body = with(&full_config(), r#"{"version": 1, "color": "red"}"#);
    let after = world.put("/organizationconfig", &body).expect(200);
    let mut expected = full_config();
    expected["version"] = json!(2);
    for member in ["id", "dtCreated", "createdBy"] {
        expected[member] = before[member].clone();
    }
    for member in ["dtLastModified", "lastModifiedBy"] {
        expected[member] = after[member].clone();
    }
    assert_eq!(after, expected);
    assert_eq!(world.get("/organizationconfig").expect(200), after);

    assert_eq!(
        refused(&world.put("/organizationconfig", &body)),
        "Version mismatch: expected 2, got 1"
    );
    assert_eq!(
        refused(&world.put("/organizationconfig", &full_config())),
        "Validation failed: version: is required"
    );
    let malformed = world.send("PUT", "/organizationconfig", "{");
    assert!(refused(&malformed).starts_with("Invalid JSON: "));
    assert_eq!(world.get("/organizationconfig").expect(200), after);
    for path in ["/organizationconfig", "/customfields"] {
        world.delete(path).expect(404);
        world.post(path, &json!({})).expect(404);
        let id = world.get(path).expect(200)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        world.get(&format!("{path}/{id}")).expect(404);
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let world = World::start();
    let before = world.get("/organizationconfig").expect(200);
    let good = with(&full_config(), r#"{"version": 1}"#);
    for (patch, problem) in [
        (r#"{"timezone": null}"#, "timezone: is required"),
        (
            r#"{"timezone": "Berlin"}"#,
            "timezone: must be an IANA time zone name, such as Europe/Berlin",
        ),
        (r#"{"weekEpoch": null}"#, "weekEpoch: is required"),
        (
            r#"{"dayEpoch": "1 May"}"#,
            "dayEpoch: must be a date such as 2026-11-01",
        ),
        (r#"{"currency": null}"#, "currency: is required"),
        (
            r#"{"currency": "$"}"#,
            "currency: must be a currency code of three letters, such as USD",
        ),
        (
            r#"{"daysBeforeBillDue": null}"#,
            "daysBeforeBillDue: is required",
        ),
        (
            r#"{"daysBeforeBillDue": 0}"#,
            "daysBeforeBillDue: must be between 1 and 4294967295",
        ),
        (
            r#"{"scheduledBillInterval": 5, "scheduledBillOffset": null}"#,
            "scheduledBillInterval: must be one of 0, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 24",
        ),
        (
            r#"{"scheduledBillInterval": 12}"#,
            "scheduledBillOffset: can only be given together with a scheduledBillInterval of 24",
        ),
        (
            r#"{"scheduledBillOffset": 24}"#,
            "scheduledBillOffset: must be between 0 and 23",
        ),
        (
            r#"{"autoApproveBillsGracePeriodUnit": "WEEKS"}"#,
            "autoApproveBillsGracePeriodUnit: must be one of MINUTES, HOURS, DAYS",
        ),
        (
            r#"{"externalInvoiceDate": "NOW"}"#,
            "externalInvoiceDate: must be one of LAST_DAY_OF_ARREARS, FIRST_DAY_OF_NEXT_PERIOD",
        ),
        (
            r#"{"allowOverlappingPlans": "no"}"#,
            "allowOverlappingPlans: must be a boolean",
        ),
        (
            r#"{"currencyConversions": [{"from": "USD", "to": "EUR", "multiplier": 0}]}"#,
            "currencyConversions[0].multiplier: must be greater than 0",
        ),
        (
            r#"{"currencyConversions": [{"from": "USD"}]}"#,
            "currencyConversions[0].to: is required",
        ),
    ] {
        let answer = world.put("/organizationconfig", &with(&good, patch));
        assert_eq!(refused(&answer), format!("Validation failed: {problem}"));
    }
    assert_eq!(world.get("/organizationconfig").expect(200), before);
}

#[test]
fn custom_fields_have_defaults_by_owner() {
    let world = World::start();
    let before = world.get("/customfields").expect(200);
    assert_eq!(before["version"], 1);
    let owners = [
        "organization",
        "account",
        "accountPlan",
        "meter",
        "product",
        "planTemplate",
        "plan",
        "aggregation",
        "compoundAggregation",
        "contract",
    ];
    for owner in owners {
        assert_eq!(before[owner], json!({}), "{owner}");
    }
    let body = r#"{"version": 1, "account": {"tier": "gold", "rate": 0.123456789012345678}, "unknown": {"a": 1}}"#;
    let after = world.send("PUT", "/customfields", body);
    assert_eq!(after.status, 200);
    let text = String::from_utf8(after.body).unwrap();
    assert!(
        text.contains(r#""account":{"rate":0.123456789012345678,"tier":"gold"}"#),
        "{text}"
    );
    let read = world.get("/customfields").expect(200);
    assert_eq!(read["version"], 2);
    assert_eq!(read["unknown"], Value::Null);

    let fields = |count: usize| {
        let fields = (0..count).map(|number| (format!("f{number}"), json!(number)));
        fields.collect::<serde_json::Map<_, _>>()
    };
    for owner in owners {
        let most = json!({"version": 2, owner: fields(26)});
        assert_eq!(
            refused(&world.put("/customfields", &most)),
            format!("Validation failed: {owner}: must have at most 25 items")
        );
    }
    let nested = json!({"version": 2, "plan": {"a": {"b": 1}}});
    assert_eq!(
        refused(&world.put("/customfields", &nested)),
        "Validation failed: plan.a: must be a string or a number"
    );
    let most = json!({"version": 2, "plan": fields(25)});
    let replaced = world.put("/customfields", &most).expect(200);
    assert_eq!(replaced["account"], json!({}));
    assert_eq!(replaced["plan"], most["plan"]);
}

#[test]
fn counters_are_listed_by_product() {
    let world = World::start();
    let of_product = json!({"name": "Seats", "unit": "seat", "productId": world.product});
    let of_product = world.make("/counters", &of_product);
    let ids = |query: &str| {
        let page = world.get(&format!("/counters?{query}")).expect(200);
        let data = page["data"].as_array().unwrap().clone();
        let ids = data
            .iter()
            .map(|found| found["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(""), [of_product.as_str(), &world.counter]);
    assert_eq!(
        ids(&format!("productId={}", world.product)),
        [of_product.as_str()]
    );
    assert_eq!(
        ids(&format!("productId={}", world.product.to_uppercase())),
        [of_product.as_str()]
    );
    assert_eq!(ids("productId=none"), Vec::<String>::new());
}

fn adjustment(world: &World, date: &str) -> Value {
    json!({
        "counterId": world.counter,
        "accountId": world.account,
        "date": date,
        "value": 5,
    })
}

#[test]
fn a_counter_is_adjusted_once_a_day_for_an_account() {
    let world = World::start();
    let body = adjustment(&world, "2024-03-01");
    let first = world.make("/counteradjustments", &body);
    let second = with(&body, r#"{"value": 9}"#);
    let message = format!(
        "Date '2024-03-01 of {} for {}' is already in use",
        world.counter, world.account
    );
    assert_eq!(
        refused(&world.post("/counteradjustments", &second)),
        message
    );
    let other = world.make("/counteradjustments", &adjustment(&world, "2024-03-02"));
    let moved = with(&second, r#"{"version": 1}"#);
    assert_eq!(
        refused(&world.put(&format!("/counteradjustments/{other}"), &moved)),
        message
    );
    let replaced = world
        .put(&format!("/counteradjustments/{first}"), &moved)
        .expect(200);
    assert_eq!(replaced["value"], 9);

    let undated = with(&body, r#"{"date": null}"#);
    let made = world.post("/counteradjustments", &undated).expect(200);
    assert_eq!(made["date"], "2022-01-04");
    assert_eq!(
        refused(&world.delete(&format!("/counters/{}", world.counter))),
        format!("Counter C is in use by counter adjustment '{first}'")
    );
    assert_eq!(
        refused(&world.delete(&format!("/accounts/{}", world.account))),
        format!("Account a is in use by counter adjustment '{first}'")
    );
}

#[test]
fn adjustments_are_listed_in_the_order_of_their_dates() {
    let world = World::start();
    let account = json!({"name": "B", "code": "b", "emailAddress": "b@example.com"});
    let other = world.make("/accounts", &account);
    for date in ["2024-03-02", "2024-03-01", "2024-03-04", "2024-03-03"] {
        world.make("/counteradjustments", &adjustment(&world, date));
    }
    let of_other = json!({"accountId": other});
    let of_other = with(&adjustment(&world, "2024-03-02"), &of_other.to_string());
    world.make("/counteradjustments", &of_other);
    let base = format!("/counteradjustments?counterId={}", world.counter);
    let days = |query: &str| {
        let page = world.get(&format!("{base}{query}")).expect(200);
        let data = page["data"].as_array().unwrap();
        let days = data.iter().map(|found| found["date"].as_str().unwrap());
        days.map(|day| day.strip_prefix("2024-03-0").unwrap().parse().unwrap())
            .collect::<Vec<u32>>()
    };
    let of_account = format!("&accountId={}", world.account);
    for (query, expected) in [
        (String::new(), vec![4, 3, 2, 2, 1]),
        ("&sortOrder=DESC".to_owned(), vec![4, 3, 2, 2, 1]),
        ("&sortOrder=ASC".to_owned(), vec![1, 2, 2, 3, 4]),
        (of_account.clone(), vec![4, 3, 2, 1]),
        (format!("&accountId={other}"), vec![2]),
        (format!("{of_account}&date=2024-03-03"), vec![3]),
        (format!("{of_account}&dateStart=2024-03-02"), vec![4, 3, 2]),
        (format!("{of_account}&dateEnd=2024-03-02"), vec![1]),
        (
            format!("{of_account}&dateStart=2024-03-02&dateEnd=2024-03-04&sortOrder=ASC"),
            vec![2, 3],
        ),
        (format!("{of_account}&endDateStart=2024-03-04"), vec![4]),
        (format!("{of_account}&endDateEnd=2024-03-01"), vec![]),
    ] {
        assert_eq!(days(&query), expected, "{query}");
    }
    assert_eq!(
        world.get("/counteradjustments?counterId=none").expect(200),
        json!({"data": []})
    );

    for order in ["ASC", "DESC"] {
        let mut listed = Vec::new();
        let mut next = String::new();
        loop {
            let page = world
                .get(&format!("{base}&sortOrder={order}&pageSize=2{next}"))
                .expect(200);
            listed.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["nextToken"].as_str() {
                Some(token) => next = format!("&nextToken={token}"),
                None => break,
            }
        }
        let all = world.get(&format!("{base}&sortOrder={order}")).expect(200);
        assert_eq!(json!(listed), all["data"], "{order}");
    }
}

#[test]
fn adjustments_are_asked_for_by_counter() {
    let world = World::start();
    let needs_account = "can only be given together with accountId";
    for (query, problem) in [
        (String::new(), "counterId: is required".to_owned()),
        (
            format!("accountId={}", world.account),
            "counterId: is required".to_owned(),
        ),
        (
            "counterId=x&date=2024-01-01".to_owned(),
            format!("date: {needs_account}"),
        ),
        (
            "counterId=x&dateStart=2024-01-01".to_owned(),
            format!("dateStart: {needs_account}"),
        ),
        (
            "counterId=x&endDateEnd=2024-01-01".to_owned(),
            format!("endDateEnd: {needs_account}"),
        ),
        (
            "counterId=x&sortOrder=UP".to_owned(),
            "sortOrder: must be one of ASC, DESC".to_owned(),
        ),
        (
            "counterId=x&accountId=y&date=today".to_owned(),
            "date: must be a date such as 2026-11-01".to_owned(),
        ),
    ] {
        let answer = world.get(&format!("/counteradjustments?{query}"));
        assert_eq!(refused(&answer), format!("Validation failed: {problem}"));
    }
}

/// What names a field goes on without it and says so, and nothing can be saved that names it.
#[test]
fn a_default_that_is_gone_is_missed_where_it_was_used() {
    let world = World::start();
    let set_defaults = |owner: Value| {
        let version = world.get("/customfields").expect(200)["version"].clone();
        let defaults = json!({"version": version, "account": owner});
        world.put("/customfields", &defaults).expect(200);
    };
    set_defaults(json!({"rate": 2}));
    let rated = json!({
        "name": "Rated", "code": "rated",
        "dataFields": [{"category": "MEASURE", "code": "bytes", "name": "Bytes"}],
        "derivedFields": [
            {"category": "COST", "code": "price", "name": "Price", "calculation": "bytes * account.rate"},
            {"category": "MEASURE", "code": "twice", "name": "Twice", "calculation": "bytes * 2"},
        ],
    });
    let meter = format!("/meters/{}", world.make("/meters", &rated));
    let submit = |uid: &str| {
        let row = json!({
            "uid": uid, "meter": "rated", "account": "a", "ts": "2024-03-01T10:00:00Z", "measure": {"bytes": 3},
        });
        world.server.submit(&[row]);
    };
    submit("with");
    set_defaults(json!({}));
    submit("without");
    let again = with(&rated, r#"{"version": 1}"#);
    let refusal = "Validation failed: derivedFields[0].calculation: must be a calculation: character 9: \
                   there is no `account.rate` here";
    let said = refused(&world.put(&meter, &again));
    assert!(said.starts_with(refusal), "{said}");
    set_defaults(json!({"rate": 5}));
    submit("again");

    let rows = world.server.stored();
    let derived: Vec<_> = rows
        .iter()
        .map(|row| {
            let price = row["cost"].get("price").and_then(Value::as_i64);
            (
                row["uid"].as_str().unwrap(),
                price,
                row["measure"]["twice"].as_i64(),
            )
        })
        .collect();
    assert_eq!(
        derived,
        [
            ("with", Some(6), Some(6)),
            ("without", None, Some(6)),
            ("again", Some(15), Some(6)),
        ]
    );
    let events = world
        .get("/events?eventType=IngestValidationFailure")
        .expect(200);
    let events = events["data"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["m3terEvent"]["type"], "CalculationError");
    assert_eq!(events[0]["m3terEvent"]["uids"], json!(["without"]));
    let message = events[0]["m3terEvent"]["message"].as_str().unwrap();
    assert!(message.contains("`account.rate`"), "{message}");
}
