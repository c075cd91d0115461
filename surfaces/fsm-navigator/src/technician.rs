//! Technicians: who does the work. The API only shows them (4.5).

use crate::access::TechniciansRead;
use crate::app::App;
use crate::page::Filters;
use crate::record::{Listed, Look, Record, Shown, View};
use crate::wire::{Word, words};
use meterd_control::{Document, Resource, Stored};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Technician {
    pub(crate) technician_id: u64,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) status: TechnicianStatus,
    pub(crate) availability_status: Availability,
    pub(crate) vehicle_type: Option<String>,
    /// E.g. `driving`.
    pub(crate) transport_modes: Vec<String>,
    /// Tells apart those of one name, and is shown to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namesake: Option<u32>,
}

words! {
    TechnicianStatus { Active = "Active", Inactive = "Inactive" }
}

words! {
    Availability { Available = "Available", Busy = "Busy", Offline = "Offline" }
}

/// What only a single technician is shown with: promised by the original, its form unknown, so that there is none.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Abilities {
    #[serde(skip_serializing_if = "Option::is_none")]
    skills: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<[(); 0]>,
}

impl Technician {
    pub(crate) fn full_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
    }

    /// What it is told by where it is set up.
    pub(crate) fn name_key(&self) -> String {
        json!([self.first_name, self.last_name, self.namesake]).to_string()
    }

    fn shown(&self) -> Self {
        Self {
            namesake: None,
            ..self.clone()
        }
    }
}

impl Document for Technician {
    const KIND: &'static str = "fsm-navigator/technician";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Technician;
    /// 2: both names are told apart, and namesakes.
    const SCHEMA: u32 = 2;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key(), ("technician_name", self.name_key())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status", self.status.word().to_owned()),
            (
                "availability_status",
                self.availability_status.word().to_owned(),
            ),
        ]
    }
}

impl Resource for Technician {}

impl Record for Technician {
    const ID: &'static str = "technician_id";

    fn number(&self) -> u64 {
        self.technician_id
    }

    fn set_number(&mut self, number: u64) {
        self.technician_id = number;
    }
}

impl Shown for Technician {
    type Read = TechniciansRead;
    type View = View<Self, Abilities>;
    const ONE: &'static str = "technician";

    fn view(stored: &Stored<Self>, _: &Look<'_>) -> Result<Self::View, Fault> {
        let shown = stored.document.shown();
        Ok(View::of(stored, shown, Abilities::default()))
    }

    fn view_alone(stored: &Stored<Self>, _: &App) -> Result<Self::View, Fault> {
        let abilities = Abilities {
            skills: Some([]),
            availability: Some([]),
        };
        Ok(View::of(stored, stored.document.shown(), abilities))
    }
}

impl Listed for Technician {
    fn filters(fields: &mut Fields<'_>, _: &Look<'_>) -> Result<Filters<Self>, Fault> {
        let mut filters = Filters::none();
        let status = TechnicianStatus::read(fields, "status");
        filters.equal("status", status.map(Word::word));
        let availability = Availability::read(fields, "availability_status");
        filters.equal("availability_status", availability.map(Word::word));
        Ok(filters)
    }
}
