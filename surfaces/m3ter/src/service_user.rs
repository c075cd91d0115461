//! Service users: on whose behalf API keys act.

use meterd_control::{Document, Resource};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceUser {
    pub(crate) name: String,
}

impl Document for ServiceUser {
    const KIND: &'static str = "m3ter/service_user";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ServiceUser;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }
}

impl Resource for ServiceUser {}
