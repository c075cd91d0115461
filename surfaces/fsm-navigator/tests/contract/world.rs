//! A company with one of each thing, and how a test makes more.

use crate::server::Server;
use meterd_surface_fsm_navigator::{NewMeter, NewTechnician, apply_meter, apply_technician};
use meterd_testkit::client::Answer;
use meterd_testkit::system;
use serde_json::{Value, json};

/// A server whose company acme has a customer with a location, and a technician.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) customer: u64,
    pub(crate) location: u64,
    pub(crate) technician: u64,
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
            server,
        }
    }

    /// Makes a job and returns it.
    #[track_caller]
    pub(crate) fn job(&self) -> Value {
        let body = json!({"job_title": "Inspect", "customer_location_id": self.location});
        self.server.post("/jobs", &body)
    }

    /// Makes an asset at the location and returns it.
    #[track_caller]
    pub(crate) fn asset(&self) -> Value {
        let body = json!({"asset_name": "Generator", "location_id": self.location});
        self.server.post("/assets", &body)
    }

    /// Gives an asset a meter `Engine Hours` in hours, otherwise as `shape` makes it, and returns the meter's id.
    pub(crate) fn meter(&self, asset: &Value, shape: impl FnOnce(&mut NewMeter)) -> u64 {
        let mut new = NewMeter {
            asset: asset["asset_tag"].as_str().unwrap().to_owned(),
            name: "Engine Hours".to_owned(),
            unit: "hours".to_owned(),
            initial_reading: None,
            threshold_value: None,
            threshold_action: None,
        };
        shape(&mut new);
        let server = &self.server;
        let (id, _) = apply_meter(&server.control, server.live(), &new, &system()).unwrap();
        id
    }

    /// Hands in a reading of a meter: the value, and when it was read.
    pub(crate) fn read(&self, asset: u64, meter: u64, value: &str, at: &str) -> Answer {
        let body = json!({"meter_id": meter, "reading_value": value, "reading_date": at});
        let path = format!("/assets?id={asset}&sub=meter_reading");
        self.server.ask("POST", &path, Some(&body))
    }

    /// What the asset's first meter is at.
    #[track_caller]
    pub(crate) fn current(&self, asset: u64) -> Value {
        let asset = self.server.get(&format!("/assets?id={asset}"));
        asset["asset"]["meters"][0]["current_reading"].clone()
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
        namesake: None,
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
