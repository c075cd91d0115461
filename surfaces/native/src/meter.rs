//! Meters: create, list, read, replace, delete.

use crate::access::{MetersRead, MetersWrite};
use crate::app::{App, author, meter_id};
use crate::page::{Page, PageQuery};
use axum::extract::State;
use meterd_control::{Author, List, Meter, RETENTION_DAYS_MAX, Stored};
use meterd_engine::{Cancel, Engine, Listing, MeterStats};
use meterd_fault::{Fault, JsonType, Kind, Location, Resource, Rule};
use meterd_http::body::check_json;
use meterd_http::fields::{Fields, texts_of};
use meterd_http::json::{Json, child};
use meterd_http::{
    Body, Checked, Context, Failure, LongWork, NoContent, Params, Permit, Query, Reply,
};
use meterd_model::{
    FIELDS_MAX, FieldName, MeterDefinition, MeterId, MeterKind, MeterName, OrganizationId,
    ValueField,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// Longest unit, in characters.
const UNIT_MAX: usize = 32;
/// What queries call the thing measured, so no attribute may.
pub(crate) const SUBJECT: &str = "subject";

/// A meter as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct MeterView {
    id: String,
    name: String,
    kind: &'static str,
    values: BTreeMap<String, ValueField>,
    attributes: Vec<String>,
    retention_days: Option<u32>,
    /// The surface that made it for itself, if one did.
    managed_by: Option<String>,
    version: u64,
    created_at: String,
    updated_at: String,
}

impl MeterView {
    fn of(stored: &Stored<Meter>) -> Self {
        let definition = &stored.document.definition;
        Self {
            id: stored.id.to_string(),
            name: stored.document.name.to_string(),
            kind: definition.kind.as_str(),
            values: definition
                .values
                .iter()
                .map(|(name, field)| (name.to_string(), field.clone()))
                .collect(),
            attributes: definition
                .attributes
                .iter()
                .map(ToString::to_string)
                .collect(),
            retention_days: stored.document.retention_days,
            managed_by: stored.document.managed_by.clone(),
            version: stored.version,
            created_at: stored.created_at.to_string(),
            updated_at: stored.modified_at.to_string(),
        }
    }
}

pub(crate) async fn create_meter(
    State(app): State<App>,
    context: Context,
    permit: Permit<MetersWrite>,
    Body(new): Body<NewMeter>,
) -> Result<Reply<MeterView>, Failure> {
    let author = author(&permit.credential, &context);
    let stored = app
        .blocking(move |app| {
            app.control
                .store()
                .create(permit.organization, new.0, &author)
        })
        .await?;
    let location = format!("{}/meters/{}", context.prefix, stored.document.name);
    Ok(Reply::created(MeterView::of(&stored), location))
}

pub(crate) async fn list_meters(
    State(app): State<App>,
    permit: Permit<MetersRead>,
    Query(page): Query<PageQuery>,
) -> Result<Reply<Page<MeterView>>, Failure> {
    let list = List {
        cursor: page.cursor,
        limit: page.limit,
        ..List::default()
    };
    let found = app
        .control
        .store()
        .list::<Meter>(permit.organization, &list)?;
    Ok(Reply::ok(Page {
        items: found
            .items
            .iter()
            .map(|meter| MeterView::of(meter))
            .collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

pub(crate) async fn get_meter(
    State(app): State<App>,
    permit: Permit<MetersRead>,
    params: Params,
) -> Result<Reply<MeterView>, Failure> {
    let meter = app.meter_by_name(permit.organization, params.get("name"))?;
    Ok(Reply::ok(MeterView::of(&meter)))
}

/// Replaces the definition. Fields that hold data stay.
pub(crate) async fn replace_meter(
    State(app): State<App>,
    context: Context,
    permit: Permit<MetersWrite>,
    params: Params,
    Body(change): Body<MeterChange>,
) -> Result<Reply<MeterView>, Failure> {
    let current = app.meter_by_name(permit.organization, params.get("name"))?;
    if change.meter.name != current.document.name {
        return Err(Fault::invalid(meterd_fault::Problem::body("/name", Rule::Immutable)).into());
    }
    let author = author(&permit.credential, &context);
    let locked = app.lock_meters(permit.organization).await;
    let stored = app
        .blocking(move |app| {
            let _locked = locked;
            app.change_meter(permit.organization, current.id, change, &author)
        })
        .await?;
    Ok(Reply::ok(MeterView::of(&stored)))
}

impl App {
    /// A change that changes nothing writes nothing.
    fn change_meter(
        &self,
        organization: OrganizationId,
        id: Uuid,
        change: MeterChange,
        author: &Author,
    ) -> Result<Arc<Stored<Meter>>, Fault> {
        let store = self.control.store();
        let current = store.get::<Meter>(organization, id)?;
        let seen = change
            .version
            .is_none_or(|version| version == current.version);
        let wanted = Meter {
            managed_by: current.document.managed_by.clone(),
            ..change.meter
        };
        if seen && current.document == wanted {
            return Ok(current);
        }
        store.update::<Meter>(organization, id, change.version, author, |stored| {
            let held = MeterUse::of(&self.engine, organization, meter_id(stored));
            check_meter_change(&stored.document, &wanted, &held)?;
            Ok(wanted)
        })
    }
}

/// Deletes a meter that holds no measurements.
pub(crate) async fn delete_meter(
    State(app): State<App>,
    context: Context,
    permit: Permit<MetersWrite>,
    params: Params,
) -> Result<NoContent, Failure> {
    let meter = app.meter_by_name(permit.organization, params.get("name"))?;
    let author = author(&permit.credential, &context);
    let locked = app.lock_meters(permit.organization).await;
    app.blocking(move |app| {
        let _locked = locked;
        refuse_managed(&meter.document, "deletion")?;
        let held = MeterUse::of(&app.engine, permit.organization, meter_id(&meter));
        if held.stats.versions > 0 {
            return Err(Kind::ResourceInUse {
                resource: Resource::Meter,
                id: meter.document.name.to_string(),
                used_by: Resource::Measurement,
                user: held.example,
            }
            .into());
        }
        app.control
            .store()
            .delete::<Meter>(permit.organization, meter.id, None, &author)
    })
    .await?;
    Ok(NoContent)
}

/// What a meter holds.
#[derive(Debug)]
pub struct MeterUse {
    stats: MeterStats,
    /// Id of the newest measurement, to name in refusals.
    example: String,
}

impl MeterUse {
    pub fn of(engine: &Engine, organization: OrganizationId, meter: MeterId) -> Self {
        let newest = Listing {
            meter: Some(meter),
            limit: 1,
            ..Listing::default()
        };
        let listed = engine.list(organization, &newest, &Cancel::new()).ok();
        let example = listed.and_then(|page| page.measurements.into_iter().next());
        Self {
            stats: engine.meter_stats(organization, meter),
            example: example.map_or_else(
                || "that was withdrawn".to_owned(),
                |listed| listed.measurement.id.to_string(),
            ),
        }
    }
}

/// What a surface made for itself must not be taken from under it.
fn refuse_managed(meter: &Meter, action: &str) -> Result<(), Fault> {
    match &meter.managed_by {
        None => Ok(()),
        Some(surface) => Err(Kind::ActionNotSupported {
            resource: Resource::Meter,
            action: format!("{action}: the surface {surface} manages it"),
        }
        .into()),
    }
}

/// What already holds data must stay as it is, and what a surface defined. Only `definition` is looked at.
pub fn check_meter_change(current: &Meter, wanted: &Meter, held: &MeterUse) -> Result<(), Fault> {
    if current.definition != wanted.definition {
        refuse_managed(current, "another definition")?;
    }
    let MeterUse {
        stats: held,
        example,
    } = held;
    if held.versions == 0 {
        return Ok(());
    }
    let lost = |field: &str| -> Fault {
        Kind::ReferenceBroken {
            resource: Resource::Meter,
            field: field.to_owned(),
            used_by: Resource::Measurement,
            user: example.clone(),
        }
        .into()
    };
    if current.definition.kind != wanted.definition.kind {
        return Err(lost("kind"));
    }
    let lost_value = held
        .values
        .iter()
        .find(|f| !wanted.definition.values.contains_key(*f));
    let lost_attribute = held
        .attributes
        .iter()
        .find(|f| !wanted.definition.attributes.contains(*f));
    lost_value
        .or(lost_attribute)
        .map_or(Ok(()), |field| Err(lost(field.as_str())))
}

/// Body of `POST /v1/meters`.
#[derive(Debug)]
pub(crate) struct NewMeter(Meter);

impl Checked for NewMeter {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        check_meter(fields).map(Self)
    }
}

/// Body of `PUT /v1/meters/{name}`.
#[derive(Debug)]
pub(crate) struct MeterChange {
    meter: Meter,
    /// The version that the caller has seen, if it said one.
    version: Option<u64>,
}

impl Checked for MeterChange {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let version = fields
            .integer("version", 1, i64::MAX)
            .and_then(|version| u64::try_from(version).ok());
        // What a GET shows may be sent back whole.
        for shown in ["id", "managed_by", "created_at", "updated_at"] {
            let _ = fields.take(shown);
        }
        let meter = check_meter(fields)?;
        Some(Self { meter, version })
    }
}

/// Reads a meter from the JSON that `POST /v1/meters` takes.
pub fn read_meter(json: &[u8]) -> Result<Meter, Fault> {
    check_json::<NewMeter>(json).map(|new| new.0)
}

fn check_meter(fields: &mut Fields<'_>) -> Option<Meter> {
    let name = fields.required_text("name", MeterName::new);
    let kinds = MeterKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = fields.required_choice("kind", &kinds);
    let values = fields
        .take("values")
        .map_or_else(|| Some(BTreeMap::new()), |json| check_values(fields, json));
    let attributes = check_attributes(fields);
    let retention_days = fields.integer("retention_days", 1, i64::from(RETENTION_DAYS_MAX));
    let values = values?;
    for name in &attributes {
        let clash = values.contains_key(name) || name.as_str() == SUBJECT;
        if clash {
            fields.refuse(
                "attributes",
                Rule::Other {
                    code: "name_taken",
                    text: format!("must not name {name}, which is a value field or the subject")
                        .into(),
                },
            );
        }
    }
    Some(Meter {
        name: name?,
        definition: MeterDefinition {
            kind: kind?,
            values,
            attributes,
        },
        retention_days: retention_days.and_then(|days| u32::try_from(days).ok()),
        managed_by: None,
    })
}

fn check_values(fields: &mut Fields<'_>, json: Json) -> Option<BTreeMap<FieldName, ValueField>> {
    let Json::Object(members) = json else {
        fields.refuse(
            "values",
            Rule::Type {
                expected: JsonType::Object,
            },
        );
        return None;
    };
    if members.len() > FIELDS_MAX {
        fields.refuse(
            "values",
            Rule::Count {
                min: 0,
                max: FIELDS_MAX as u64,
            },
        );
        return None;
    }
    let problems = fields.problems();
    let mut values = BTreeMap::new();
    for (key, json) in members {
        let pointer = child("/values", &key);
        let name = match FieldName::new(key) {
            Ok(name) => Some(name),
            Err(error) => {
                problems.push(meterd_fault::Problem::body(
                    pointer.clone(),
                    meterd_http::fields::text_rule(error),
                ));
                None
            }
        };
        if let Some(mut field) = Fields::of_object(json, &pointer, problems) {
            let unit = field.checked_string("unit", UNIT);
            field.finish();
            if let Some(name) = name {
                values.insert(
                    name,
                    ValueField {
                        unit: unit.unwrap_or_else(|| "1".to_owned()),
                    },
                );
            }
        }
    }
    Some(values)
}

const UNIT: meterd_model::TextRule = meterd_model::TextRule {
    min_chars: 1,
    max_chars: UNIT_MAX,
    alphabet: meterd_model::Alphabet::Text,
};

fn check_attributes(fields: &mut Fields<'_>) -> BTreeSet<FieldName> {
    let Some(items) = fields.array("attributes", FIELDS_MAX) else {
        return BTreeSet::new();
    };
    let location = Location::Body("/attributes".to_owned());
    let names = texts_of(items, &location, fields.problems(), FieldName::new);
    let count = names.len();
    let set: BTreeSet<_> = names.into_iter().collect();
    if set.len() < count {
        fields.refuse("attributes", Rule::Unique);
    }
    set
}
