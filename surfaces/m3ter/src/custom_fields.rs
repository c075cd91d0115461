//! The organization's defaults of custom fields, by what carries them. They are also what makes custom fields known to
//! calculations (1.3, 4.2).

use crate::access::Guarded;
use crate::entity::{At, Entity, entity_event, paths};
use crate::singleton::{Singleton, singleton_key};
use crate::wire::CustomValues;
use meterd_control::{Changed, Document, Resource};
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most fields of one kind of owner.
const FIELDS_MAX: usize = 25;

/// What carries custom fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Owner {
    Organization,
    Account,
    AccountPlan,
    Meter,
    Product,
    PlanTemplate,
    Plan,
    Aggregation,
    CompoundAggregation,
    Contract,
}

impl Owner {
    const ALL: [Self; 10] = [
        Self::Organization,
        Self::Account,
        Self::AccountPlan,
        Self::Meter,
        Self::Product,
        Self::PlanTemplate,
        Self::Plan,
        Self::Aggregation,
        Self::CompoundAggregation,
        Self::Contract,
    ];

    /// Whose custom fields an entity has, by the word of events for it.
    pub(crate) fn of_entity(word: &str) -> Option<Self> {
        let named = |owner: &Self| owner.word().eq_ignore_ascii_case(word);
        match word {
            "organizationconfig" => Some(Self::Organization),
            // An organization's custom fields are in its configuration.
            "organization" => None,
            _ => Self::ALL.into_iter().find(named),
        }
    }

    /// Its member of the document, and its name in calculations.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Account => "account",
            Self::AccountPlan => "accountPlan",
            Self::Meter => "meter",
            Self::Product => "product",
            Self::PlanTemplate => "planTemplate",
            Self::Plan => "plan",
            Self::Aggregation => "aggregation",
            Self::CompoundAggregation => "compoundAggregation",
            Self::Contract => "contract",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CustomFields(BTreeMap<Owner, CustomValues>);

impl Default for CustomFields {
    /// No fields for any owner.
    fn default() -> Self {
        Self(Owner::ALL.map(|owner| (owner, CustomValues::NONE)).into())
    }
}

impl CustomFields {
    pub(crate) fn defaults(&self, owner: Owner) -> &CustomValues {
        static NONE: CustomValues = CustomValues::NONE;
        self.0.get(&owner).unwrap_or(&NONE)
    }
}

impl Document for CustomFields {
    const KIND: &'static str = "m3ter/custom_fields";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::CustomField;
    const EVENT: &'static str = "m3ter.configuration.customfield";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        singleton_key()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for CustomFields {}

impl Guarded for CustomFields {
    const WORD: &'static str = "customfield";
}

impl Entity for CustomFields {
    paths!("/customfields");

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let values = Owner::ALL.map(|owner| {
            (
                owner,
                CustomValues::read_member(fields, owner.word(), FIELDS_MAX),
            )
        });
        Some(Self(values.into()))
    }
}

impl Singleton for CustomFields {}
