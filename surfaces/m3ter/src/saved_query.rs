//! Saved queries: usage queries by name, kept for whoever asks them again (4.9).

use crate::access::Guarded;
use crate::entity::{At, Entity, entity_event, paths};
use crate::period::TimePeriod;
use crate::usage::question::{Selection, read_limit};
use crate::wire::{NAME, kept_value};
use meterd_control::{Changed, Document, Resource};
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedQuery {
    pub(crate) name: String,
    /// As it was sent; its own form was checked. It has no fractions, so that no digit is lost.
    pub(crate) usage_query: Value,
}

impl Document for SavedQuery {
    const KIND: &'static str = "m3ter/saved_query";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::SavedQuery;

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for SavedQuery {
    fn label(&self) -> String {
        self.name.clone()
    }
}

impl Guarded for SavedQuery {
    const WORD: &'static str = "analyticsjob";
}

impl Entity for SavedQuery {
    paths!("/usage/savedqueries");

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let query = fields.require("usageQuery")?;
        let mut query_fields = Fields::of_object(query.clone(), "/usageQuery", fields.problems())?;
        query_fields.choice("timePeriod", &TimePeriod::WORDS);
        query_fields.iso_time("startDate");
        query_fields.iso_time("endDate");
        read_limit(&mut query_fields);
        Selection::read(&mut query_fields);
        Some(Self {
            name: name?,
            usage_query: kept_value(fields, "usageQuery", query),
        })
    }
}
