//! Invitations of users. Nobody is sent anything: they are on record, and accepted elsewhere.

use crate::access::Guarded;
use crate::entity::{At, Entity, paths};
use crate::list::Filter;
use crate::policy::PermissionPolicy;
use crate::wire::{micros, text};
use meterd_control::{Actor, Document, Reference, Resource, refers};
use meterd_fault::Rule;
use meterd_http::fields::Fields;
use meterd_model::TextRule;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

const PERSON_NAME: TextRule = text(1, 100);
const CONTACT_NUMBER: TextRule = text(0, 50);
const POLICIES_MAX: usize = 100;
/// How long an invitation that says nothing of it is good for (4.3).
const EXPIRY_DEFAULT: Duration = Duration::from_hours(30 * 24);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invitation {
    pub(crate) email: String,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) m3ter_user: Option<bool>,
    pub(crate) permission_policy_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dt_end_access: Option<String>,
    pub(crate) dt_expiry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inviting_principal_id: Option<Uuid>,
    pub(crate) accepted: bool,
}

impl Document for Invitation {
    const KIND: &'static str = "m3ter/invitation";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Invitation;
}

impl Resource for Invitation {
    fn references(&self) -> Vec<Reference> {
        let ids = self.permission_policy_ids.iter().enumerate();
        ids.map(|(index, id)| {
            refers::<PermissionPolicy>(format!("/permissionPolicyIds/{index}"), id)
        })
        .collect()
    }

    fn label(&self) -> String {
        self.email.clone()
    }
}

impl Guarded for Invitation {
    const WORD: &'static str = "invitation";
}

impl Entity for Invitation {
    paths!("/invitations");
    const PAGE_MAX: i64 = 200;
    const FILTERS: &'static [Filter] = &[];

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let email = fields.required_email("email");
        let first_name = fields.required_checked("firstName", PERSON_NAME);
        let last_name = fields.required_checked("lastName", PERSON_NAME);
        let contact_number = fields.checked_string("contactNumber", CONTACT_NUMBER);
        let m3ter_user = fields.boolean("m3terUser");
        let permission_policy_ids = fields.texts("permissionPolicyIds", POLICIES_MAX, Ok);
        let dt_end_access = fields.iso_time("dtEndAccess").map(micros);
        let expiry = fields.iso_time("dtExpiry");
        if expiry.is_some_and(|expiry| expiry <= at.author.at) {
            let rule = Rule::Other {
                code: "future",
                text: "must be in the future".into(),
            };
            fields.refuse("dtExpiry", rule);
        }
        let expiry = expiry.unwrap_or_else(|| at.author.at.saturating_add(EXPIRY_DEFAULT));
        let inviting_principal_id = match at.author.actor {
            Actor::Principal(id) | Actor::Credential(id) => Some(id),
            Actor::System | Actor::Operator => None,
        };
        Some(Self {
            email: email?,
            first_name: first_name?,
            last_name: last_name?,
            contact_number,
            m3ter_user,
            permission_policy_ids: permission_policy_ids.unwrap_or_default(),
            dt_end_access,
            dt_expiry: micros(expiry),
            inviting_principal_id,
            accepted: false,
        })
    }
}
