//! Aggregations, simple and compound: what they may be of, and what they keep.

use crate::world::{World, refused, with};
use serde_json::{Value, json};

fn aggregation(world: &World) -> Value {
    json!({
        "name": "Bytes",
        "rounding": "NEAREST",
        "quantityPerUnit": 1000,
        "unit": "kB",
        "meterId": world.meter,
        "targetField": "bytes",
        "aggregation": "SUM",
    })
}

fn compound(calculation: &str) -> Value {
    json!({
        "name": "Both",
        "rounding": "NONE",
        "quantityPerUnit": 1,
        "unit": "By",
        "calculation": calculation,
    })
}

#[test]
fn an_aggregation_fits_its_field() {
    let world = World::start();
    let numeric = ["SUM", "MIN", "MAX", "LATEST", "MEAN"];
    let texts = ["region", "tier", "note"];
    for function in numeric {
        let body = with(
            &aggregation(&world),
            &json!({"aggregation": function}).to_string(),
        );
        world.post("/aggregations", &body).expect(200);
        for field in texts.into_iter().chain(["missing"]) {
            let body = with(&body, &json!({"targetField": field}).to_string());
            assert_eq!(
                refused(&world.post("/aggregations", &body)),
                "Validation failed: targetField: must be one of the meter's fields that the function can be \
                 computed over: bytes"
            );
        }
    }
    for field in texts.into_iter().chain(["bytes"]) {
        let count = json!({"aggregation": "COUNT", "targetField": field});
        let body = with(&aggregation(&world), &count.to_string());
        world.post("/aggregations", &body).expect(200);
        let unique = with(&body, r#"{"aggregation": "UNIQUE"}"#);
        let answer = world.post("/aggregations", &unique);
        if field == "bytes" {
            assert_eq!(
                refused(&answer),
                "Validation failed: targetField: must be one of the meter's fields that the function can be \
                 computed over: region, tier, note"
            );
        } else {
            answer.expect(200);
        }
    }
}

#[test]
fn sql_is_not_offered() {
    let world = World::start();
    let sql = with(
        &aggregation(&world),
        r#"{"aggregation": "CUSTOM_SQL", "customSql": "SELECT 1"}"#,
    );
    assert_eq!(
        refused(&world.post("/aggregations", &sql)),
        "Validation failed: aggregation: must be one of SUM, MIN, MAX, COUNT, LATEST, MEAN, UNIQUE; \
         customSql: must be left out: aggregations in SQL are not supported"
    );
    let empty = with(&aggregation(&world), r#"{"customSql": "", "code": ""}"#);
    for _ in 0..2 {
        let made = world.post("/aggregations", &empty).expect(200);
        assert_eq!(made["code"], Value::Null);
    }
}

#[test]
fn segments_have_the_segmented_fields_as_keys() {
    let world = World::start();
    let one_segment = "must be an object with a text of 1 to 256 characters for each of the segmentedFields and \
                       nothing else";
    let string_fields = "must be one of the meter's fields of the categories WHO, WHERE, WHAT and OTHER: region, tier";
    for (patch, problem) in [
        (
            json!({"segmentedFields": ["a", "b", "c", "d", "e", "f"]}),
            "segmentedFields: must have at most 5 items".to_owned(),
        ),
        (
            json!({"segmentedFields": ["bytes"]}),
            format!("segmentedFields.bytes: {string_fields}"),
        ),
        (
            json!({"segmentedFields": ["note"]}),
            format!("segmentedFields.note: {string_fields}"),
        ),
        (
            json!({"segmentedFields": ["region", "region"]}),
            "segmentedFields[1]: must not be given twice".to_owned(),
        ),
        (
            json!({"segmentedFields": [7]}),
            "segmentedFields[0]: must be a string".to_owned(),
        ),
        (
            json!({"segmentedFields": ["region", "tier"], "segments": [{"region": "eu"}]}),
            format!("segments[0]: {one_segment}"),
        ),
        (
            json!({"segmentedFields": ["region"], "segments": [{"tier": "eu"}]}),
            format!("segments[0]: {one_segment}"),
        ),
        (
            json!({"segmentedFields": ["region"], "segments": [{"region": "eu"}, {"region": 7}]}),
            format!("segments[1]: {one_segment}"),
        ),
        (
            json!({"segments": [{"region": "eu"}]}),
            format!("segments[0]: {one_segment}"),
        ),
        (
            json!({"segmentedFields": ["region"], "segments": [{"region": "eu"}, {"region": "eu"}]}),
            "segments[1]: must not be given twice".to_owned(),
        ),
        (
            json!({"segmentedFields": ["region"], "segments": vec![json!({"region": "eu"}); 1001]}),
            "segments: must have at most 1000 items".to_owned(),
        ),
    ] {
        let body = with(&aggregation(&world), &patch.to_string());
        let message = format!("Validation failed: {problem}");
        assert_eq!(refused(&world.post("/aggregations", &body)), message);
    }
    let segments: Vec<_> = (0..1000)
        .map(|number| json!({"region": format!("r{number}")}))
        .collect();
    let most = json!({"segmentedFields": ["region"], "segments": segments});
    let made = world.post(
        "/aggregations",
        &with(&aggregation(&world), &most.to_string()),
    );
    assert_eq!(made.expect(200)["segments"], most["segments"]);
    // More than fits into the event that tells of it.
    let long = |number| json!({"region": format!("{number:0>100}"), "tier": "*"});
    let segments: Vec<_> = (0..1000).map(long).collect();
    let most = json!({"segmentedFields": ["region", "tier"], "segments": segments});
    let made = world.post(
        "/aggregations",
        &with(&aggregation(&world), &most.to_string()),
    );
    assert_eq!(made.expect(200)["segments"], most["segments"]);
}

#[test]
fn numbers_keep_all_their_digits() {
    let world = World::start();
    let body = aggregation(&world).to_string();
    let digits = "12345678901234567890.123456789012345678";
    let made = world.send("POST", "/aggregations", &body.replace("1000", digits));
    assert_eq!(made.status, 200);
    let text = String::from_utf8(made.body).unwrap();
    assert!(
        text.contains(&format!("\"quantityPerUnit\":{digits},")),
        "{text}"
    );
    let too_many = body.replace("1000", "0.1234567890123456789");
    assert_eq!(
        refused(&world.send("POST", "/aggregations", &too_many)),
        "Validation failed: quantityPerUnit: must have at most 20 digits before and 18 after the decimal point"
    );
}

#[test]
fn aggregations_are_listed_by_the_product_of_their_meter() {
    let world = World::start();
    let meter = json!({
        "name": "Global",
        "code": "global",
        "dataFields": [{"category": "COST", "code": "bytes", "name": "B"}],
        "derivedFields": [],
    });
    let meter = world.make("/meters", &meter);
    let of_global = json!({"meterId": meter, "accountingProductId": world.product});
    let of_global = world.make(
        "/aggregations",
        &with(&aggregation(&world), &of_global.to_string()),
    );
    let ids = |query: &str| {
        let page = world.get(&format!("/aggregations?{query}")).expect(200);
        let data = page["data"].as_array().unwrap().clone();
        let ids = data
            .iter()
            .map(|found| found["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(""), [of_global.as_str(), &world.aggregation]);
    assert_eq!(
        ids(&format!("productId={},none", world.product)),
        [world.aggregation.as_str()]
    );
    assert_eq!(ids("productId=none"), Vec::<String>::new());
}

#[test]
fn a_compound_names_aggregations_that_exist() {
    let world = World::start();
    for (calculation, problem) in [
        (
            "aggregation.stored + aggregation.sent",
            "names the aggregation 'sent', which does not exist",
        ),
        (
            "bytes * 2",
            "must be a calculation: character 1: there is no `bytes` here; there is no name to use",
        ),
        (
            "aggregation.stored + bytes",
            "must be a calculation: character 22: there is no `bytes` here; there is `aggregation.stored`",
        ),
        (
            "aggregation.stored > 1",
            "must be a calculation: character 1: this is true or false, but a number must stand here",
        ),
        ("", "must have 1 to 5000 characters"),
    ] {
        let message = format!("Validation failed: calculation: {problem}");
        assert_eq!(
            refused(&world.post("/compoundaggregations", &compound(calculation))),
            message
        );
    }
    let many: Vec<_> = (0..101)
        .map(|number| format!("aggregation.a{number}"))
        .collect();
    assert_eq!(
        refused(&world.post("/compoundaggregations", &compound(&many.join("+")))),
        "Validation failed: calculation: must be a calculation: it names more than 100 aggregations"
    );
    let long = format!("1{}", "+1".repeat(2_001));
    assert_eq!(
        refused(&world.post("/compoundaggregations", &compound(&long))),
        "Validation failed: calculation: must take at most 2000 operations, where a power counts as 100; it takes 2001"
    );

    let custom =
        json!({"version": 1, "account": {"discount": 0.5}, "compoundAggregation": {"top": 9}});
    world.put("/customfields", &custom).expect(200);
    let calculation =
        "Math.min(isnull(aggregation.stored, 0) * account.discount, compoundAggregation.top)";
    let made = world
        .post("/compoundaggregations", &compound(calculation))
        .expect(200);
    assert_eq!(made["calculation"], calculation);
    assert_eq!(made["aggregationIds"], json!([world.aggregation]));
}

#[test]
fn a_compound_shows_the_segments_of_its_aggregations() {
    let world = World::start();
    let segments = json!([{"region": "eu"}, {"region": "*"}]);
    for (code, segments) in [
        ("one", &segments),
        ("two", &segments),
        ("plain", &json!([])),
    ] {
        let patch = json!({"code": code, "segmentedFields": ["region"], "segments": segments});
        world.make(
            "/aggregations",
            &with(&aggregation(&world), &patch.to_string()),
        );
    }
    for (calculation, expected) in [
        ("aggregation.one + aggregation.two", &segments),
        ("aggregation.one + aggregation.plain", &Value::Null),
        ("1", &Value::Null),
    ] {
        let made = world
            .post("/compoundaggregations", &compound(calculation))
            .expect(200);
        assert_eq!(&made["segments"], expected, "{calculation}");
    }
}

#[test]
fn what_a_compound_names_stays() {
    let world = World::start();
    let user = world.make("/compoundaggregations", &compound("aggregation.stored"));
    let path = format!("/aggregations/{}", world.aggregation);
    assert_eq!(
        refused(&world.delete(&path)),
        "Aggregation Stored is in use by compound aggregation 'Both'"
    );
    let stored = world.get(&path).expect(200);
    for code in [json!("other"), json!(null)] {
        let renamed = with(&stored, &json!({"code": code}).to_string());
        assert_eq!(
            refused(&world.put(&path, &renamed)),
            "Aggregation update rejected: field 'code' is used by compound aggregation 'Both'"
        );
    }
    let renamed = world
        .put(&path, &with(&stored, r#"{"name": "All"}"#))
        .expect(200);
    assert_eq!(renamed["name"], "All");
    world
        .delete(&format!("/compoundaggregations/{user}"))
        .expect(200);
    world.delete(&path).expect(200);
}

#[test]
fn a_product_stays_while_something_is_of_it() {
    let world = World::start();
    let product = world.make("/products", &json!({"name": "Q", "code": "q"}));
    let path = format!("/products/{product}");
    let of = |body: Value, member: &str| with(&body, &json!({member: product}).to_string());
    let meter = json!({
        "name": "M2",
        "code": "m2",
        "dataFields": [{"category": "COST", "code": "c", "name": "C"}],
        "derivedFields": [],
    });
    for (collection, body, noun, label) in [
        ("/meters", of(meter, "productId"), "meter", "M2"),
        (
            "/aggregations",
            of(aggregation(&world), "accountingProductId"),
            "aggregation",
            "Bytes",
        ),
        (
            "/compoundaggregations",
            of(compound("1"), "productId"),
            "compound aggregation",
            "Both",
        ),
        (
            "/compoundaggregations",
            of(compound("1"), "accountingProductId"),
            "compound aggregation",
            "Both",
        ),
        (
            "/counters",
            of(json!({"name": "Seats", "unit": "seat"}), "productId"),
            "counter",
            "Seats",
        ),
    ] {
        let user = world.make(collection, &body);
        assert_eq!(
            refused(&world.delete(&path)),
            format!("Product q is in use by {noun} '{label}'")
        );
        world.get(&path).expect(200);
        world.delete(&format!("{collection}/{user}")).expect(200);
    }
    world.delete(&path).expect(200);
}
