//! Which events there are, and what calculations can read of each: `GET /events/types` and `/events/fields` (4.10).

use crate::access::Access;
use crate::access::{Action, Target};
use crate::app::App;
use crate::custom_fields::{CustomFields, Owner};
use crate::scheduled_event::ScheduledEvent;
use crate::singleton::current;
use crate::wire::{CustomValue, CustomValues};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::List;
use meterd_fault::{Fault, Rule};
use meterd_formula::Type;
use meterd_http::body::read_query;
use meterd_http::fields::Form;
use meterd_http::{Failure, Reply};
use meterd_model::OrganizationId;
use serde::Serialize;
use std::collections::BTreeMap;

const CONFIGURATION: [&str; 23] = [
    "account",
    "accountplan",
    "aggregation",
    "alert",
    "commitment",
    "compoundaggregation",
    "contract",
    "counter",
    "counterpricing",
    "creditreason",
    "customfield",
    "meter",
    "metergroup",
    "organization",
    "organizationconfig",
    "plan",
    "plangroup",
    "plangrouplink",
    "plantemplate",
    "pricing",
    "pricingband",
    "product",
    "transactiontype",
];
const BILLING: [&str; 10] = [
    "balance",
    "balanceamount",
    "bill",
    "billconfig",
    "billjob",
    "charge",
    "counteradjustment",
    "scheduledbalancecharge",
    "scheduledbalancetransaction",
    "statementjob",
];
const CHANGES: [&str; 3] = ["created", "updated", "deleted"];
const SINGLE: [&str; 7] = [
    "ingest.validation.failure",
    "dataexport.job.failure",
    "integration.authentication.error",
    "integration.perform.error",
    "integration.validation.error",
    "integration.missingaccountmapping.error",
    "integration.disabled.error",
];
/// What the names of scheduled events begin with.
pub(crate) const SCHEDULED: &str = "scheduled.";
/// Before the name of a custom field, within a side of an event.
pub(crate) const CUSTOM: &str = "customFields.";
/// Scheduled events that the list of types names.
const SCHEDULED_MAX: usize = 1_000;

/// The type of a member, in m3ter's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    String,
    Double,
    Int,
    Boolean,
    Map,
    Array,
}

impl Word {
    fn of(default: &CustomValue) -> Self {
        match default {
            CustomValue::Text(_) => Self::String,
            CustomValue::Number(_) => Self::Double,
        }
    }

    /// What a calculation takes it for; it cannot look into maps and arrays.
    pub(crate) fn holds(self) -> Option<Type> {
        match self {
            Self::String => Some(Type::Text),
            Self::Double | Self::Int => Some(Type::Number),
            Self::Boolean => Some(Type::Boolean),
            Self::Map | Self::Array => None,
        }
    }
}

type Members = &'static [(&'static str, Word)];

/// What every entity has.
const BASE: Members = &[
    ("id", Word::String),
    ("orgId", Word::String),
    ("version", Word::Int),
    ("dtCreated", Word::String),
    ("dtLastModified", Word::String),
    ("createdBy", Word::String),
    ("lastModifiedBy", Word::String),
];

/// What the entities of this server have besides.
const ENTITIES: [(&str, Members); 10] = [
    (
        "account",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("emailAddress", Word::String),
            ("address", Word::Map),
            ("parentAccountId", Word::String),
            ("billEpoch", Word::String),
            ("purchaseOrderNumber", Word::String),
            ("currency", Word::String),
            ("statementDefinitionId", Word::String),
            ("autoGenerateStatementMode", Word::String),
            ("creditApplicationOrder", Word::Array),
            ("daysBeforeBillDue", Word::Int),
            ("customFields", Word::Map),
        ],
    ),
    (
        "aggregation",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("meterId", Word::String),
            ("targetField", Word::String),
            ("aggregation", Word::String),
            ("segmentedFields", Word::Array),
            ("segments", Word::Array),
            ("quantityPerUnit", Word::Double),
            ("rounding", Word::String),
            ("unit", Word::String),
            ("defaultValue", Word::Double),
            ("accountingProductId", Word::String),
            ("customFields", Word::Map),
        ],
    ),
    (
        "alert",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("description", Word::String),
            ("active", Word::Boolean),
            ("alwaysFireEvent", Word::Boolean),
            ("calculation", Word::String),
            ("eventName", Word::String),
        ],
    ),
    (
        "compoundaggregation",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("calculation", Word::String),
            ("quantityPerUnit", Word::Double),
            ("rounding", Word::String),
            ("unit", Word::String),
            ("productId", Word::String),
            ("accountingProductId", Word::String),
            ("evaluateNullAggregations", Word::Boolean),
            ("segments", Word::Array),
            ("customFields", Word::Map),
        ],
    ),
    (
        "counter",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("productId", Word::String),
            ("unit", Word::String),
        ],
    ),
    (
        "counteradjustment",
        &[
            ("counterId", Word::String),
            ("accountId", Word::String),
            ("date", Word::String),
            ("value", Word::Int),
            ("purchaseOrderNumber", Word::String),
        ],
    ),
    (
        "customfield",
        &[
            ("organization", Word::Map),
            ("account", Word::Map),
            ("accountPlan", Word::Map),
            ("meter", Word::Map),
            ("product", Word::Map),
            ("planTemplate", Word::Map),
            ("plan", Word::Map),
            ("aggregation", Word::Map),
            ("compoundAggregation", Word::Map),
            ("contract", Word::Map),
        ],
    ),
    (
        "meter",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("productId", Word::String),
            ("groupId", Word::String),
            ("dataFields", Word::Array),
            ("derivedFields", Word::Array),
            ("customFields", Word::Map),
        ],
    ),
    (
        "organizationconfig",
        &[
            ("timezone", Word::String),
            ("yearEpoch", Word::String),
            ("monthEpoch", Word::String),
            ("weekEpoch", Word::String),
            ("dayEpoch", Word::String),
            ("currency", Word::String),
            ("currencyConversions", Word::Array),
            ("daysBeforeBillDue", Word::Int),
            ("scheduledBillInterval", Word::Double),
            ("scheduledBillOffset", Word::Int),
            ("autoGenerateStatementMode", Word::String),
            ("billPrefix", Word::String),
            ("sequenceStartNumber", Word::Int),
            ("customFields", Word::Map),
        ],
    ),
    (
        "product",
        &[
            ("name", Word::String),
            ("code", Word::String),
            ("customFields", Word::Map),
        ],
    ),
];

const INGEST_FAILURE: Members = &[
    ("type", Word::String),
    ("message", Word::String),
    ("measurements", Word::Int),
    ("uids", Word::Array),
    ("getDownloadUrl", Word::String),
];
const EXPORT_FAILURE: Members = &[("jobId", Word::String), ("reason", Word::String)];

/// Whether an event can have this name, as far as that does not depend on the organization.
pub(crate) fn is_known(name: &str) -> bool {
    name.starts_with(SCHEDULED) || SINGLE.contains(&name) || changed_entity(name).is_some()
}

/// `configuration.meter.created` is a change of a meter.
fn changed_entity(name: &str) -> Option<(&str, &str)> {
    let (group, rest) = name.split_once('.')?;
    let (entity, change) = rest.split_once('.')?;
    let entities: &[&str] = match group {
        "configuration" => &CONFIGURATION,
        "billing" => &BILLING,
        _ => return None,
    };
    (entities.contains(&entity) && CHANGES.contains(&change)).then_some((entity, change))
}

/// What can be read of an event: paths such as `new.code`, and what they hold. Of custom fields it is those that the
/// organization has a default for. None for an unknown name.
pub(crate) fn fields_of(name: &str, custom: &CustomFields) -> Option<Vec<(String, Word)>> {
    let plain = |members: Members| {
        let paths = members.iter();
        Some(
            paths
                .map(|(path, word)| ((*path).to_owned(), *word))
                .collect(),
        )
    };
    match name {
        "ingest.validation.failure" => return plain(INGEST_FAILURE),
        "dataexport.job.failure" => return plain(EXPORT_FAILURE),
        _ if SINGLE.contains(&name) => return plain(&[]),
        _ => {}
    }
    let defaults = defaults_of(name, custom);
    if let Some(scheduled) = name.strip_prefix(SCHEDULED) {
        let (entity, _) = scheduled.split_once('.')?;
        return Some(sides(entity, &["new"], defaults));
    }
    let (entity, change) = changed_entity(name)?;
    Some(match change {
        "created" => sides(entity, &["new"], defaults),
        "deleted" => sides(entity, &["old"], defaults),
        _ => sides(entity, &["new", "old"], defaults),
    })
}

/// What an event of this name is about, if it is about an entity; as policies call it, too.
pub(crate) fn entity_of(name: &str) -> Option<&str> {
    match name.strip_prefix(SCHEDULED) {
        Some(scheduled) => scheduled.split_once('.').map(|(entity, _)| entity),
        None => changed_entity(name).map(|(entity, _)| entity),
    }
}

/// The defaults of the custom fields that the entity of an event has.
pub(crate) fn defaults_of<'c>(name: &str, custom: &'c CustomFields) -> &'c CustomValues {
    static NONE: CustomValues = CustomValues::NONE;
    let owner = entity_of(name).and_then(Owner::of_entity);
    owner.map_or(&NONE, |owner| custom.defaults(owner))
}

fn sides(entity: &str, sides: &[&str], defaults: &CustomValues) -> Vec<(String, Word)> {
    let own = ENTITIES.iter().find(|(name, _)| *name == entity);
    let own = own.map_or(&[][..], |(_, members)| *members);
    let members = BASE.iter().chain(own);
    let members = members.map(|(name, word)| ((*name).to_owned(), *word));
    let custom = defaults.iter();
    let custom = custom.map(|(name, default)| (format!("{CUSTOM}{name}"), Word::of(default)));
    let members: Vec<_> = members.chain(custom).collect();
    let paths = sides.iter().flat_map(|side| {
        let members = members.iter();
        members.map(move |(path, word)| (format!("{side}.{path}"), *word))
    });
    paths.collect()
}

#[derive(Debug, Serialize)]
pub(crate) struct Types {
    events: Vec<String>,
}

/// `GET /events/types`
pub(crate) async fn list_types(
    State(app): State<App>,
    access: Access,
) -> Result<Response, Failure> {
    permit(&access)?;
    let changes = |group: &'static str, entities: &'static [&'static str]| {
        entities.iter().flat_map(move |entity| {
            let names = CHANGES.iter();
            names.map(move |change| format!("{group}.{entity}.{change}"))
        })
    };
    let mut events: Vec<_> = changes("configuration", &CONFIGURATION)
        .chain(changes("billing", &BILLING))
        .chain(SINGLE.map(str::to_owned))
        .collect();
    events.extend(scheduled(&app, access.organization)?);
    Ok(Reply::ok(Types { events }).within(app.settings.response_max_bytes)?)
}

fn scheduled(app: &App, organization: OrganizationId) -> Result<Vec<String>, Fault> {
    let list = List {
        limit: SCHEDULED_MAX,
        ..List::default()
    };
    let found = app
        .control
        .store()
        .list::<ScheduledEvent>(organization, &list)?;
    let names = found.items.iter();
    Ok(names.map(|stored| stored.document.event_name()).collect())
}

/// Names, paths and types.
type FieldsByName = BTreeMap<String, BTreeMap<String, Word>>;

#[derive(Debug, Serialize)]
pub(crate) struct EventFields {
    events: FieldsByName,
}

/// `GET /events/fields`: of one event, or of all whose fields are known.
pub(crate) async fn list_fields(
    State(app): State<App>,
    access: Access,
    uri: Uri,
) -> Result<Response, Failure> {
    permit(&access)?;
    let custom: CustomFields = current(app.control.store(), access.organization)?;
    let events = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        let Some(name) = fields.string("eventName") else {
            return Some(all_fields(&custom));
        };
        let found = fields_of(&name, &custom);
        if found.is_none() {
            let text = "must be one of the names that events/types lists";
            fields.refuse(
                "eventName",
                Rule::Other {
                    code: "event_name",
                    text: text.into(),
                },
            );
        }
        Some(FieldsByName::from([(name, found?.into_iter().collect())]))
    })?;
    Ok(Reply::ok(EventFields { events }).within(app.settings.response_max_bytes)?)
}

fn all_fields(custom: &CustomFields) -> FieldsByName {
    let changes = ENTITIES.iter().flat_map(|(entity, _)| {
        let group = if BILLING.contains(entity) {
            "billing"
        } else {
            "configuration"
        };
        CHANGES.map(|change| format!("{group}.{entity}.{change}"))
    });
    let names = changes.chain(SINGLE.map(str::to_owned));
    let fields = names.filter_map(|name| {
        let fields = fields_of(&name, custom)?.into_iter().collect();
        Some((name, fields))
    });
    fields.collect()
}

fn permit(access: &Access) -> Result<(), Fault> {
    access.permit(
        Action::ConfigRetrieve,
        &Target {
            service: "config",
            kind: "event",
            id: None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_their_parts() {
        for known in [
            "configuration.account.created",
            "billing.bill.deleted",
            "ingest.validation.failure",
            "scheduled.account.review",
        ] {
            assert!(is_known(known), "{known}");
        }
        for unknown in [
            "",
            "account.created",
            "configuration.bill.created",
            "configuration.account.moved",
            "notification.x",
        ] {
            assert!(
                !is_known(unknown) && fields_of(unknown, &CustomFields::default()).is_none(),
                "{unknown}"
            );
        }
    }

    #[test]
    fn an_update_has_both_sides() {
        let paths = |name| {
            let fields = fields_of(name, &CustomFields::default())
                .unwrap()
                .into_iter();
            fields.map(|(path, _)| path).collect::<Vec<_>>()
        };
        let created = paths("configuration.product.created");
        assert!(created.contains(&"new.code".to_owned()));
        assert!(!created.iter().any(|path| path.starts_with("old.")));
        let updated = paths("configuration.product.updated");
        assert_eq!(updated.len(), 2 * created.len());
        assert!(updated.contains(&"old.code".to_owned()));
        assert!(paths("billing.bill.deleted").contains(&"old.id".to_owned()));
    }
}
