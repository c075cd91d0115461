//! Inventory: items, and their stock in several places (4.4).

use crate::server::{Server, invalid, missing};
use crate::world::{id, ids};
use meterd_surface_fsm_navigator::apply_stock_location;
use meterd_testkit::system;
use serde_json::{Value, json};

/// A server with the places `Warehouse` (1) and `Van 7` (2).
fn start() -> Server {
    let server = Server::start();
    for name in ["Warehouse", "Van 7"] {
        apply_stock_location(&server.control, server.live(), name, &system()).unwrap();
    }
    server
}

fn item(server: &Server, part_number: &str) -> u64 {
    let body = json!({"part_number": part_number, "name": "Filter"});
    id(&server.post("/inventory", &body))
}

fn adjust(server: &Server, item: u64, location: u64, quantity: i64) -> Value {
    let body = json!({"location_id": location, "quantity": quantity, "reason": "count"});
    let answer = server.ask(
        "POST",
        &format!("/inventory?id={item}&sub=adjust"),
        Some(&body),
    );
    answer.expect(200)
}

#[test]
fn an_item_keeps_its_digits() {
    let server = start();
    let body = br#"{"part_number":"F-1","name":"Filter","unit_cost":12.10,"unit_price":0.000000000000000001}"#;
    let request = meterd_testkit::client::post("/fsm-navigator/api/v1/inventory");
    let answer = server.send(&request.header("X-API-Key", &server.key).json(*body));
    let made = answer.expect(201);
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(
        text.contains(r#""unit_cost":12.1,"unit_price":0.000000000000000001"#),
        "{text}"
    );
    let mut shown = made["item"].clone();
    for member in ["created_at", "updated_at", "unit_cost", "unit_price"] {
        shown.as_object_mut().unwrap().remove(member);
    }
    assert_eq!(
        shown,
        json!({
            "id": 1,
            "part_number": "F-1",
            "name": "Filter",
            "description": null,
            "category": null,
            "min_stock_level": null,
            "total_quantity": 0,
            "is_active": true,
        })
    );
    assert_eq!(
        server.refused(
            "POST",
            "/inventory",
            &json!({"part_number": "F-1", "name": "B"})
        ),
        invalid("Invalid value for part_number: another inventory item has F-1 already.")
    );
    assert_eq!(
        server.refused("POST", "/inventory", &json!({"unit_cost": -1})),
        missing("Missing required fields: part_number, name.")
    );
}

#[test]
fn one_method_replaces_and_the_other_changes() {
    let server = start();
    let path = format!("/inventory?id={}", item(&server, "F-1"));
    adjust(&server, 1, 1, 5);
    let changed = server.patch(&path, &json!({"category": "Air", "is_active": false}));
    assert_eq!(server.patch(&path, &json!({"is_active": null})), changed);
    assert_eq!(
        (&changed["name"], &changed["category"]),
        (&json!("Filter"), &json!("Air"))
    );
    assert_eq!(server.patch(&path, &json!({})), changed);
    let replaced = server.put(&path, &json!({"part_number": "F-2", "name": "Fine filter"}));
    assert_eq!(replaced["category"], Value::Null);
    assert_eq!(replaced["is_active"], true);
    assert_eq!(replaced["total_quantity"], 5);
    assert_eq!(
        server.refused("PUT", &path, &json!({"name": "A"})),
        missing("Missing required field: part_number.")
    );
    assert_eq!(
        server.refused("PUT", &path, &json!({})),
        missing("Missing required fields: part_number, name.")
    );
    assert_eq!(server.get(&path)["item"], replaced);
    assert_eq!(ids(&server.get("/inventory?search=fine")), [1]);
    assert_eq!(ids(&server.get("/inventory?category=air")), [0_u64; 0]);
}

#[test]
fn stock_is_adjusted_and_transferred() {
    let server = start();
    let item = item(&server, "F-1");
    let made = adjust(&server, item, 1, 10);
    let mut transaction = made["transaction"].clone();
    for member in ["created_at", "updated_at"] {
        transaction.as_object_mut().unwrap().remove(member);
    }
    assert_eq!(
        transaction,
        json!({
            "transaction_id": 1,
            "id": 1,
            "item_id": item,
            "location_id": 1,
            "type": "adjust",
            "quantity": 10,
            "quantity_after": 10,
            "reason": "count",
        })
    );
    adjust(&server, item, 1, -3);
    let body = json!({"item_id": item, "from_location_id": 1, "to_location_id": 2, "quantity": 4});
    let answer = server
        .ask("POST", "/inventory?sub=transfer", Some(&body))
        .expect(200);
    let kinds = answer["transfer"]["transactions"].as_array().unwrap();
    let kinds: Vec<_> = kinds.iter().map(|t| (&t["type"], &t["quantity"])).collect();
    assert_eq!(
        kinds,
        [
            (&json!("transfer_out"), &json!(-4)),
            (&json!("transfer_in"), &json!(4))
        ]
    );
    let stock = server.get(&format!("/inventory/{item}/stock"));
    assert_eq!(
        stock["data"],
        json!([
            {"id": 1, "location_id": 1, "location_name": "Warehouse", "quantity": 3},
            {"id": 2, "location_id": 2, "location_name": "Van 7", "quantity": 4},
        ])
    );
    let page = server.get(&format!("/inventory/{item}/stock?per_page=1&page=2"));
    assert_eq!(ids(&page), [2]);
    assert_eq!(page["pagination"]["total"], 2);
    let all = server.get(&format!("/inventory?id={item}&sub=transactions"));
    assert_eq!(ids(&all), [4, 3, 2, 1]);
    assert_eq!(
        server.get(&format!("/inventory/{item}"))["item"]["total_quantity"],
        7
    );
    let place = server.get("/inventory?sub=locations&location_id=2");
    assert_eq!(
        place["location"]["items"],
        json!([{"id": item, "part_number": "F-1", "name": "Filter", "quantity": 4}])
    );
    assert_eq!(place["location"]["items_total"], 1);
    assert_eq!(ids(&server.get("/inventory?sub=locations")), [2, 1]);
    assert_eq!(ids(&server.get("/inventory?location_id=2")), [item]);
    // What is all gone is not there.
    adjust(&server, item, 2, -4);
    let place = server.get("/inventory?sub=locations&location_id=2");
    assert_eq!(place["location"]["items"], json!([]));
    assert_eq!(place["location"]["items_total"], 0);
    assert_eq!(ids(&server.get("/inventory?location_id=2")), [0_u64; 0]);
}

#[test]
fn nothing_is_taken_that_is_not_there() {
    let server = start();
    let item = item(&server, "F-1");
    adjust(&server, item, 1, 2);
    let path = format!("/inventory?id={item}&sub=adjust");
    let told = |body: Value| server.refused("POST", &path, &body);
    assert_eq!(
        told(json!({})),
        missing("Missing required fields: location_id, quantity, reason.")
    );
    let below = "Invalid value for quantity: must leave from 0 to 1000000000000; there are 2.";
    assert_eq!(
        told(json!({"location_id": 1, "quantity": -3, "reason": "x"})),
        invalid(below)
    );
    assert_eq!(
        told(json!({"location_id": 1, "quantity": 0, "reason": "x"})),
        invalid("Invalid value for quantity: must not be 0.")
    );
    assert_eq!(
        told(json!({"location_id": 9, "quantity": 1, "reason": "x"})),
        invalid("Invalid value for location_id: must name an existing location.")
    );
    let transfer = |change: Value| {
        let mut body =
            json!({"item_id": item, "from_location_id": 1, "to_location_id": 2, "quantity": 1});
        for (member, value) in change.as_object().unwrap() {
            body[member] = value.clone();
        }
        server.refused("POST", "/inventory?sub=transfer", &body)
    };
    assert_eq!(transfer(json!({"quantity": 3})), invalid(below));
    assert_eq!(transfer(json!({"quantity": -1})).1, "validation_failed");
    assert_eq!(
        transfer(json!({"item_id": 99})),
        invalid("Invalid value for item_id: must name an existing inventory item.")
    );
    assert_eq!(
        transfer(json!({"to_location_id": 1})),
        invalid("Invalid value for to_location_id: must be another place than from_location_id.")
    );
    assert_eq!(
        transfer(json!({"to_location_id": null})),
        missing("Missing required field: to_location_id.")
    );
    assert_eq!(
        server.get(&format!("/inventory/{item}"))["item"]["total_quantity"],
        2
    );
    assert_eq!(
        ids(&server.get(&format!("/inventory/{item}/transactions"))),
        [1]
    );
}

#[test]
fn what_is_at_its_minimum_is_low() {
    let server = start();
    let [low, enough, _unwatched] = ["A", "B", "C"].map(|part| item(&server, part));
    server.patch(&format!("/inventory/{low}"), &json!({"min_stock_level": 5}));
    server.patch(
        &format!("/inventory/{enough}"),
        &json!({"min_stock_level": 5}),
    );
    adjust(&server, low, 1, 3);
    adjust(&server, low, 2, 2);
    adjust(&server, enough, 1, 6);
    assert_eq!(ids(&server.get("/inventory?sub=low-stock")), [low]);
}

/// Twenty take one each of ten.
#[test]
fn many_at_once_take_no_more_than_there_is() {
    let server = start();
    let item = item(&server, "F-1");
    adjust(&server, item, 1, 10);
    let body = json!({"item_id": item, "from_location_id": 1, "to_location_id": 2, "quantity": 1});
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    server
                        .ask("POST", "/inventory?sub=transfer", Some(&body))
                        .status
                })
            })
            .collect();
        let statuses = threads.into_iter().map(|t| t.join().unwrap());
        statuses.filter(|status| *status == 200).count()
    });
    assert_eq!(taken, 10);
    let stock = server.get(&format!("/inventory/{item}/stock"));
    let levels: Vec<_> = stock["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["quantity"])
        .collect();
    assert_eq!(levels, [&json!(0), &json!(10)]);
}
