//! Nothing of a company shows to another one, nor to the other data set (1, 2.1).

use crate::scopes::{OPERATIONS, path};
use crate::server::{Server, refused};
use crate::world::{World, id};
use meterd_surface_fsm_navigator::apply_stock_location;
use meterd_testkit::system;
use serde_json::{Value, json};

/// Ids of acme's things, by the resource that paths begin with.
struct Ids {
    job: u64,
    customer: u64,
    location: u64,
    asset: u64,
    item: u64,
    place: u64,
    technician: u64,
}

impl Ids {
    /// Of things with numbers that no other company has.
    fn make(world: &World) -> Self {
        let server = &world.server;
        let set = server.live();
        let place = apply_stock_location(&server.control, set, "Warehouse", &system());
        let item = json!({"part_number": "F-1", "name": "Filter"});
        Self {
            job: id(&world.job()),
            customer: world.customer,
            location: world.location,
            asset: id(&world.asset()),
            item: id(&server.post("/inventory", &item)),
            place: place.unwrap().0,
            technician: world.technician,
        }
    }

    fn path(&self, template: &str) -> String {
        let (id, below) = match template.split(['/', '?']).nth(1).unwrap() {
            "jobs" => (self.job, 0),
            "customers" => (self.customer, self.location),
            "assets" => (self.asset, 0),
            "inventory" => (self.item, self.place),
            "technicians" => (self.technician, 0),
            other => panic!("{other}"),
        };
        path(template, &id.to_string(), &below.to_string())
    }
}

/// All that acme sees.
fn state(server: &Server) -> Vec<Value> {
    ["/jobs", "/customers", "/assets", "/inventory"]
        .map(|path| {
            let answer = server.ask("GET", path, None);
            answer.json()["data"].clone()
        })
        .into()
}

#[test]
fn an_id_of_another_company_is_not_found() {
    let world = World::start();
    let server = &world.server;
    let ids = Ids::make(&world);
    let before = state(server);
    let by_id = OPERATIONS
        .iter()
        .filter(|(_, template, _)| template.contains('{'));
    let mut probed = 0;
    for (method, template, _) in by_id {
        let path = ids.path(template);
        for key in [&server.rival_key, &server.test_key] {
            for body in [
                json!({}),
                json!({"status": "Cancelled", "customer_name": "taken over"}),
            ] {
                let body = (*method != "GET").then_some(&body);
                let (status, code, _) = refused(&server.ask_as(key, method, &path, body));
                assert_eq!(
                    (status, code.as_str()),
                    (404, "not_found"),
                    "{method} {path}"
                );
                probed += 1;
            }
        }
        // The same words as for what is nowhere.
        let ask = |path: &str| refused(&server.ask_as(&server.rival_key, method, path, None));
        let nowhere = crate::scopes::path(template, "999999999", "999999999");
        assert_eq!(ask(&path), ask(&nowhere), "{method} {path}");
    }
    assert_eq!(probed, 25 * 4);
    assert_eq!(state(server), before);
}

#[test]
fn what_is_another_companys_cannot_be_named_in_a_body() {
    let world = World::start();
    let server = &world.server;
    let ids = Ids::make(&world);
    let told = |path: &str, body: Value| {
        let answer = server.ask_as(&server.rival_key, "POST", path, Some(&body));
        let (status, code, message) = refused(&answer);
        assert_eq!((status, code.as_str()), (400, "validation_failed"));
        message
    };
    let job = json!({"job_title": "A", "customer_location_id": ids.location});
    assert_eq!(
        told("/jobs", job),
        "Invalid value for customer_location_id: must name an existing location."
    );
    let transfer = json!({
        "item_id": ids.item, "from_location_id": ids.place, "to_location_id": 9, "quantity": 1,
    });
    assert_eq!(
        told("/inventory?sub=transfer", transfer),
        "Invalid value for item_id: must name an existing inventory item."
    );
    for path in [
        "/jobs",
        "/customers",
        "/technicians",
        "/inventory",
        "/inventory?sub=locations",
    ] {
        let list = server
            .ask_as(&server.rival_key, "GET", path, None)
            .expect(200);
        assert_eq!(list["pagination"]["total"], 0, "{path}");
    }
}
