//! Meters: their fields, their calculations, and what aggregations hold them to.

use crate::world::{World, refused, with};
use serde_json::{Value, json};

fn data_field(number: usize) -> Value {
    json!({"category": "MEASURE", "code": format!("f{number}"), "name": "F"})
}

fn derived_field(code: &str, category: &str, calculation: &str) -> Value {
    json!({"category": category, "code": code, "name": "D", "calculation": calculation})
}

fn meter(data_fields: &[Value], derived_fields: &[Value]) -> Value {
    json!({
        "name": "Requests",
        "code": "requests per day",
        "dataFields": data_fields,
        "derivedFields": derived_fields,
    })
}

#[test]
fn a_meter_has_1_to_15_data_fields_and_0_to_15_derived_ones() {
    let world = World::start();
    let fields = |count| (0..count).map(data_field).collect::<Vec<_>>();
    let derived = |count| {
        let codes = (0..count).map(|number| format!("d{number}"));
        codes
            .map(|code| derived_field(&code, "COST", "f0 * 2"))
            .collect::<Vec<_>>()
    };
    for (body, problem) in [
        (meter(&[], &[]), "dataFields: must have 1 to 15 items"),
        (
            meter(&fields(16), &[]),
            "dataFields: must have 1 to 15 items",
        ),
        (
            meter(&fields(1), &derived(16)),
            "derivedFields: must have at most 15 items",
        ),
        (
            with(&meter(&fields(1), &[]), r#"{"derivedFields": null}"#),
            "derivedFields: is required",
        ),
        (
            with(&meter(&fields(1), &[]), r#"{"derivedFields": {}}"#),
            "derivedFields: must be an array",
        ),
        (
            with(&meter(&[], &[]), r#"{"dataFields": null}"#),
            "dataFields: is required",
        ),
        (meter(&[json!(7)], &[]), "dataFields[0]: must be an object"),
    ] {
        let answer = world.post("/meters", &body);
        assert_eq!(refused(&answer), format!("Validation failed: {problem}"));
    }
    let largest = meter(&fields(15), &derived(15));
    world.post("/meters", &largest).expect(200);
}

#[test]
fn fields_are_checked_one_by_one() {
    let world = World::start();
    let good = data_field(0);
    for (field, problem) in [
        (
            with(&good, r#"{"code": "a b"}"#),
            "code: must be a name of letters, digits, underscores and dollar signs that does not start with a digit",
        ),
        (
            with(&good, r#"{"code": "1a"}"#),
            "code: must be a name of letters, digits, underscores and dollar signs that does not start with a digit",
        ),
        (
            with(&good, r#"{"code": ""}"#),
            "code: must have 1 to 80 characters",
        ),
        (with(&good, r#"{"name": null}"#), "name: is required"),
        (
            with(&good, r#"{"category": "SIZE"}"#),
            "category: must be one of WHO, WHERE, WHAT, OTHER, METADATA, MEASURE, INCOME, COST",
        ),
        (
            with(&good, r#"{"unit": ""}"#),
            "unit: must have 1 to 50 characters",
        ),
        (
            with(&good, r#"{"category": "WHO", "unit": "x"}"#),
            "unit: must be left out unless the category is MEASURE, COST or INCOME",
        ),
    ] {
        let answer = world.post("/meters", &meter(&[data_field(7), field], &[]));
        assert_eq!(
            refused(&answer),
            format!("Validation failed: dataFields[1].{problem}")
        );
    }
    for code in ["_a", "$", "größe", "a1"] {
        let field = with(&good, &json!({"code": code}).to_string());
        let body = with(
            &meter(&[field], &[]),
            &json!({"code": format!("of {code}")}).to_string(),
        );
        world.post("/meters", &body).expect(200);
    }
}

#[test]
fn codes_of_fields_are_unique_in_their_meter() {
    let world = World::start();
    let body = meter(
        &[data_field(0), data_field(1), data_field(0)],
        &[derived_field("f1", "COST", "f0")],
    );
    assert_eq!(
        refused(&world.post("/meters", &body)),
        "Validation failed: dataFields[2].code: must not be given twice; \
         derivedFields[0].code: must not be given twice"
    );
}

#[test]
fn calculations_name_data_fields_timestamps_and_custom_fields() {
    let world = World::start();
    let custom = json!({
        "version": 1,
        "account": {"discount": 0.5},
        "meter": {"label": "x"},
        "aggregation": {"hidden": 1},
    });
    world.put("/customfields", &custom).expect(200);
    let who = json!({"category": "WHO", "code": "who", "name": "Who"});
    let fields = [data_field(0), who];
    let check = |category: &str, calculation: &str| {
        let derived = [derived_field("d", category, calculation)];
        let body = meter(&fields, &derived);
        let made = world.post("/meters", &body);
        if made.status == 200 {
            let path = format!("/meters/{}", made.json()["id"].as_str().unwrap());
            world.delete(&path).expect(200);
            return None;
        }
        let message = refused(&made);
        let before = "Validation failed: derivedFields[0].calculation: must be a calculation: ";
        Some(message.strip_prefix(before).unwrap().to_owned())
    };
    for (category, calculation) in [
        ("MEASURE", "f0 * account.discount"),
        ("INCOME", "timestamp.ets - timestamp.ts"),
        ("WHAT", "meter.label"),
        ("METADATA", r#"f0 > 1 ? who : "none""#),
        ("COST", "null"),
    ] {
        assert_eq!(check(category, calculation), None, "{calculation}");
    }
    for (category, calculation, part) in [
        ("MEASURE", "f0 +", "character 5: "),
        (
            "MEASURE",
            "missing + 1",
            "character 1: there is no `missing` here; there is `f0`, `who`",
        ),
        ("MEASURE", "d + 1", "character 1: there is no `d` here"),
        (
            "MEASURE",
            "aggregation.hidden",
            "there is no `aggregation.hidden` here",
        ),
        (
            "MEASURE",
            "who",
            "character 1: this is a text, but a number must stand here",
        ),
        (
            "WHO",
            "f0",
            "character 1: this is a number, but a text must stand here",
        ),
        ("MEASURE", "DateTime.now()", "character 1: "),
        ("MEASURE", "a + b", "; character 5: "),
    ] {
        let reason = check(category, calculation).unwrap();
        assert!(reason.contains(part), "{calculation}: {reason}");
    }
    let empty = meter(&fields, &[derived_field("d", "COST", "")]);
    assert_eq!(
        refused(&world.post("/meters", &empty)),
        "Validation failed: derivedFields[0].calculation: must have 1 to 5000 characters"
    );
}

#[test]
fn the_calculations_of_a_meter_take_a_bounded_time_together() {
    let world = World::start();
    // A thousand operations.
    let half = format!("f0{} + f0 ^ 2", " + f0".repeat(899));
    let derived = |last: &str| {
        let fields = [
            derived_field("a", "COST", &half),
            derived_field("b", "COST", last),
        ];
        meter(&[data_field(0)], &fields)
    };
    assert_eq!(
        refused(&world.post("/meters", &derived(&format!("{half} - 1")))),
        "Validation failed: derivedFields: must take at most 2000 operations, where a power counts as 100; it takes 2001"
    );
    world.post("/meters", &derived(&half)).expect(200);
}

#[test]
fn aggregations_keep_the_fields_they_are_of() {
    let world = World::start();
    let aggregation = json!({
        "name": "By region",
        "rounding": "UP",
        "quantityPerUnit": 1,
        "unit": "By",
        "meterId": world.meter,
        "targetField": "note",
        "aggregation": "UNIQUE",
        "segmentedFields": ["region"],
    });
    let counting = with(
        &aggregation,
        r#"{"name": "Tiers", "targetField": "tier", "aggregation": "COUNT", "segmentedFields": []}"#,
    );
    let counting = world.make("/aggregations", &counting);
    let aggregation = world.make("/aggregations", &aggregation);
    let path = format!("/meters/{}", world.meter);
    let meter = world.get(&path).expect(200);
    let without = |code: &str| {
        let mut changed = meter.clone();
        let fields = changed["dataFields"].as_array_mut().unwrap();
        fields.retain(|field| field["code"] != code);
        changed
    };
    let with_category = |code: &str, category: &str| {
        let mut changed = meter.clone();
        let fields = changed["dataFields"].as_array_mut().unwrap();
        let field = fields
            .iter_mut()
            .find(|field| field["code"] == code)
            .unwrap();
        field["category"] = json!(category);
        changed
    };
    let target = |code: &str, user: &str| {
        format!("Meter update rejected: field '{code}' is used as target of aggregation '{user}'")
    };
    let segment = "Validation failed: body: must keep the field 'region' as it is: it splits the \
                   aggregation 'By region' into segments";
    for (changed, message) in [
        (without("bytes"), target("bytes", "Stored")),
        (with_category("bytes", "WHO"), target("bytes", "Stored")),
        (without("note"), target("note", "By region")),
        (with_category("note", "COST"), target("note", "By region")),
        (with_category("tier", "COST"), target("tier", "Tiers")),
        (without("region"), segment.to_owned()),
        (with_category("region", "METADATA"), segment.to_owned()),
    ] {
        assert_eq!(refused(&world.put(&path, &changed)), message);
    }
    assert_eq!(world.get(&path).expect(200), meter);

    // What keeps them is allowed.
    let path_of = |aggregation: &str| format!("/aggregations/{aggregation}");
    world.delete(&path_of(&counting)).expect(200);
    let mut more = with_category("bytes", "COST");
    let fields = more["dataFields"].as_array_mut().unwrap();
    fields.retain(|field| field["code"] != "tier");
    fields.push(data_field(9));
    let changed = world.put(&path, &more).expect(200);
    assert_eq!(changed["dataFields"], more["dataFields"]);
    assert_eq!(changed["version"], 2);

    assert_eq!(
        refused(&world.delete(&path)),
        "Meter M is in use by aggregation 'Stored'"
    );
    for aggregation in [&world.aggregation, &aggregation] {
        world
            .delete(&format!("/aggregations/{aggregation}"))
            .expect(200);
    }
    world.delete(&path).expect(200);
}

#[test]
fn a_derived_field_can_be_aimed_at_too() {
    let world = World::start();
    let mut body = meter(
        &[data_field(0)],
        &[derived_field("twice", "COST", "f0 * 2")],
    );
    let id = world.make("/meters", &body);
    let aggregation = json!({
        "name": "Cost",
        "rounding": "NONE",
        "quantityPerUnit": 1,
        "unit": "EUR",
        "meterId": id,
        "targetField": "twice",
        "aggregation": "MEAN",
    });
    world.make("/aggregations", &aggregation);
    body["version"] = json!(1);
    body["derivedFields"] = json!([]);
    assert_eq!(
        refused(&world.put(&format!("/meters/{id}"), &body)),
        "Meter update rejected: field 'twice' is used as target of aggregation 'Cost'"
    );
}

#[test]
fn meters_are_listed_by_product() {
    let world = World::start();
    let other = world.make("/products", &json!({"name": "O", "code": "o"}));
    let mut body = meter(&[data_field(0)], &[]);
    let global = world.make("/meters", &body);
    body["code"] = json!("of other");
    body["productId"] = json!(other);
    let of_other = world.make("/meters", &body);
    let ids = |query: &str| {
        let page = world.get(&format!("/meters?{query}")).expect(200);
        let data = page["data"].as_array().unwrap().clone();
        let ids = data
            .iter()
            .map(|meter| meter["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let (product, meter) = (&world.product, world.meter.clone());
    assert_eq!(ids(""), [of_other.clone(), global, meter.clone()]);
    assert_eq!(ids(&format!("productId={other}")), [of_other.as_str()]);
    assert_eq!(
        ids(&format!("productId={other},{product}")),
        [of_other.clone(), meter.clone()]
    );
    assert_eq!(
        ids(&format!("productId={other}&productId={product}")),
        [of_other.clone(), meter]
    );
    assert_eq!(
        ids(&format!("productId={product}&codes=of%20other")),
        Vec::<String>::new()
    );
    assert_eq!(
        ids(&format!("productId={other}&ids={of_other}")),
        [of_other]
    );
    assert_eq!(ids("productId=none"), Vec::<String>::new());
}
