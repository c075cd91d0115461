//! A company with one of each thing, and how a test makes more.

use crate::server::Server;
use meterd_surface_fsm_navigator::{NewTechnician, apply_technician};
use meterd_testkit::system;
use serde_json::{Value, json};

/// A server whose company acme has a customer with a location, and a technician.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) customer: u64,
    pub(crate) location: u64,
    pub(crate) technician: u64,
    pub(crate) asset: u64,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::over(Server::start())
    }

    pub(crate) fn over(server: Server) -> Self {
        let customer = json!({"customer_name": "Acme", "customer_email": "office@acme.example"});
        let customer = id(&server.post("/customers", &customer));
        let location = server.post(&format!("/customers/{customer}/locations"), &location());
        let technician = technician(&server, "Ada", "Lovelace");
        Self {
            customer,
            location: id(&location),
            technician,
            // Until assets can be made.
            asset: 1,
            server,
        }
    }

    /// Makes a job and returns it.
    #[track_caller]
    pub(crate) fn job(&self) -> Value {
        let body = json!({"job_title": "Inspect", "customer_location_id": self.location});
        self.server.post("/jobs", &body)
    }
}

/// The body of a location.
pub(crate) fn location() -> Value {
    json!({
        "location_name": "Main site",
        "street": "1 Main St",
        "city": "Springfield",
        "state": "il",
        "zip": "62701",
    })
}

/// Makes a technician in acme's live data.
pub(crate) fn technician(server: &Server, first_name: &str, last_name: &str) -> u64 {
    let new = NewTechnician {
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        status: None,
        availability_status: None,
        vehicle_type: Some("Van".to_owned()),
        transport_modes: vec!["driving".to_owned()],
    };
    let (id, _) = apply_technician(&server.control, server.live(), new, &system()).unwrap();
    id
}

#[track_caller]
pub(crate) fn id(thing: &Value) -> u64 {
    thing["id"].as_u64().unwrap()
}

/// The ids of a list.
#[track_caller]
pub(crate) fn ids(list: &Value) -> Vec<u64> {
    list["data"].as_array().unwrap().iter().map(id).collect()
}
