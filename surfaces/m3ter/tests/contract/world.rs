//! An organization with one of each kind of configuration object, and how a test talks to it.

use crate::server::Server;
use meterd_testkit::client::{Answer, request};
use serde_json::{Value, json};

/// A server whose organization has a product, a meter, two aggregations, an account and a counter.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) product: String,
    /// With the fields `bytes` (MEASURE), `region` (WHERE), `tier` (WHAT) and `note` (METADATA).
    pub(crate) meter: String,
    /// `stored`: the sum of `bytes`.
    pub(crate) aggregation: String,
    pub(crate) account: String,
    pub(crate) counter: String,
}

impl World {
    pub(crate) fn start() -> Self {
        let mut world = Self {
            server: Server::start(),
            product: String::new(),
            meter: String::new(),
            aggregation: String::new(),
            account: String::new(),
            counter: String::new(),
        };
        world.product = world.make("/products", &json!({"name": "P", "code": "p"}));
        let meter = json!({
            "productId": world.product,
            "name": "M",
            "code": "m",
            "dataFields": [
                {"category": "MEASURE", "code": "bytes", "name": "Bytes"},
                {"category": "WHERE", "code": "region", "name": "Region"},
                {"category": "WHAT", "code": "tier", "name": "Tier"},
                {"category": "METADATA", "code": "note", "name": "Note"},
            ],
            "derivedFields": [],
        });
        world.meter = world.make("/meters", &meter);
        let aggregation = json!({
            "name": "Stored",
            "code": "stored",
            "rounding": "NONE",
            "quantityPerUnit": 1,
            "unit": "By",
            "meterId": world.meter,
            "targetField": "bytes",
            "aggregation": "SUM",
        });
        world.aggregation = world.make("/aggregations", &aggregation);
        let account = json!({"name": "A", "code": "a", "emailAddress": "a@example.com"});
        world.account = world.make("/accounts", &account);
        world.counter = world.make("/counters", &json!({"name": "C", "unit": "seat"}));
        world
    }

    /// Creates something and returns its id.
    #[track_caller]
    pub(crate) fn make(&self, path: &str, body: &Value) -> String {
        let made = self.post(path, body).expect(200);
        made["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &body.to_string())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "")
    }

    /// As the organization's administrator; `path` is below the organization.
    pub(crate) fn send(&self, method: &'static str, path: &str, body: &str) -> Answer {
        let path = self.server.path(path);
        let request = request(method, path).key(&self.server.acme.admin.token);
        let request = match body {
            "" => request,
            body => request.json(body),
        };
        self.server.send(&request)
    }
}

/// The body with some members put in place of its own.
pub(crate) fn with(body: &Value, patch: &str) -> Value {
    let mut patched = body.clone();
    let patch: Value = serde_json::from_str(patch).unwrap();
    for (member, value) in patch.as_object().unwrap() {
        patched[member] = value.clone();
    }
    patched
}

/// The message of a refused request.
#[track_caller]
pub(crate) fn refused(answer: &Answer) -> String {
    answer.expect(400)["message"].as_str().unwrap().to_owned()
}
