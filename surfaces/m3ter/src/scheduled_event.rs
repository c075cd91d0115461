//! Events that come when a date of an entity does: so many days before or after it (4.10).

use crate::access::Guarded;
use crate::app::App;
use crate::entity::{At, Entity, account_of, admit_few, entity_event, paths};
use crate::event::change_data;
use crate::event_types::{SCHEDULED, is_known};
use crate::operational::{Moment, dates_of, each_entity, zone_of};
use crate::wire::text;
use crate::writer::Raised;
use meterd_control::{Admission, Author, Changed, Document, Resource, Stored};
use meterd_fault::{Fault, Rule};
use meterd_http::fields::Fields;
use meterd_model::{Alphabet, TextRule, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Farthest from the date that an event may be, in days.
const OFFSET_DAYS_MAX: i64 = 3_660;
const MARK: &str = "m3ter/scheduled-event";
const DAY: Duration = Duration::from_hours(24);
/// A change carries the time of its request, unless a later one is written before; it may have waited so long.
const WRITE_MAX: Duration = Duration::from_mins(1);
/// Part of the event's name.
const NAME: TextRule = TextRule {
    min_chars: 1,
    max_chars: 200,
    alphabet: Alphabet::Text,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScheduledEvent {
    pub(crate) name: String,
    /// As events name it, e.g. `account`.
    pub(crate) entity: String,
    /// Its member with the date.
    pub(crate) field: String,
    /// Days after the date; before it if negative.
    pub(crate) offset: i32,
}

impl ScheduledEvent {
    pub(crate) fn event_name(&self) -> String {
        format!("{SCHEDULED}{}.{}", self.entity, self.name)
    }

    /// When the event of an entity with this date is due.
    fn due(&self, date: Moment, zone: &Zone) -> Option<Timestamp> {
        let time = match date {
            Moment::Day(date) => return Some(date.checked_add_days(self.offset)?.start(zone)),
            Moment::Time(time) => time,
        };
        let distance = DAY.saturating_mul(self.offset.unsigned_abs());
        Some(if self.offset < 0 {
            time.saturating_sub(distance)
        } else {
            time.saturating_add(distance)
        })
    }
}

impl Document for ScheduledEvent {
    const KIND: &'static str = "m3ter/scheduled_event";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ScheduledEvent;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for ScheduledEvent {
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        admit_few(admission)
    }
}

impl Guarded for ScheduledEvent {
    const WORD: &'static str = "scheduledeventconfiguration";
}

impl Entity for ScheduledEvent {
    paths!("/scheduledevents/configurations");
    const MARK: Option<&'static str> = Some(MARK);

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let entity = fields.required_checked("entity", text(1, 100));
        let field = fields.required_checked("field", text(1, 100));
        let offset = fields.required_integer("offset", -OFFSET_DAYS_MAX, OFFSET_DAYS_MAX);
        // Members of entities are written either way in m3ter's guides.
        let entity = entity?.to_lowercase();
        let is_entity = ["configuration", "billing"]
            .iter()
            .any(|group| is_known(&format!("{group}.{entity}.created")));
        if !is_entity {
            refuse(
                fields,
                "entity",
                "must be an entity that events/types names".to_owned(),
            );
        }
        let field = field?;
        if let Some(dates) = dates_of(&entity)
            && !dates.contains(&field.as_str())
        {
            let text = format!("must be a date of the entity: {}", dates.join(", "));
            refuse(fields, "field", text);
        }
        Some(Self {
            name: name?,
            entity,
            field,
            offset: i32::try_from(offset?).ok()?,
        })
    }
}

fn refuse(fields: &mut Fields<'_>, name: &str, text: String) {
    fields.refuse(
        name,
        Rule::Other {
            code: "scheduled_event",
            text: text.into(),
        },
    );
}

/// Raises what has come due of a configuration since the last look. The mark moves with the events, so each comes once,
/// whenever the server stops. Reads every entity of the kind; waits for the disk.
pub(crate) fn raise_due(
    app: &App,
    stored: &Stored<ScheduledEvent>,
    now: Timestamp,
) -> Result<(), Fault> {
    let organization = stored.organization;
    let configuration = &stored.document;
    let mark_name = format!("{MARK}/{}", stored.id);
    let store = app.control.store();
    let seen = store.mark(organization, &mark_name)?;
    // What was due before the configuration was made is past.
    let seen = seen.unwrap_or_else(|| stored.created_at.micros());
    // What is written at this moment may be due already.
    let until = now.saturating_sub(WRITE_MAX);
    if until.micros() <= seen {
        return Ok(());
    }
    let zone = zone_of(app, organization)?;
    let mut events = Vec::new();
    each_entity(app, organization, &configuration.entity, &mut |entity| {
        let date = entity.moment(&configuration.field);
        let due = date.and_then(|date| configuration.due(date, &zone));
        if due.is_some_and(|due| seen < due.micros() && due <= until) {
            let dto = entity.dto();
            let account = account_of(&configuration.entity, &dto);
            events.push(Raised {
                name: configuration.event_name(),
                account: account.and_then(|id| id.parse().ok()),
                payload: payload_of(dto),
            });
        }
        Ok(())
    })?;
    app.write(organization, &Author::system(now), |writer| {
        // It may have been deleted meanwhile, with its mark.
        if !writer.holds::<ScheduledEvent>(stored.id)? {
            return Ok(());
        }
        for event in &events {
            writer.raise(event)?;
        }
        writer.set_mark(&mark_name, until.micros())
    })
}

/// The entity as change events have it, within the same bound.
fn payload_of(dto: Value) -> Value {
    let mut data = change_data(Some(dto), None, None);
    let event = data.get_mut("m3terEvent").map(Value::take);
    event.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_model::Date;

    #[test]
    fn an_event_is_due_so_many_days_from_its_date() {
        let event = |offset| ScheduledEvent {
            name: "review".to_owned(),
            entity: "account".to_owned(),
            field: "at".to_owned(),
            offset,
        };
        let zone = Zone::named("America/New_York").unwrap();
        let due = |offset, at| {
            let due = event(offset).due(at, &zone);
            due.map(|due| due.to_string())
        };
        let day = |text| Moment::Day(Date::parse(text).unwrap());
        let time = |text| Moment::Time(Timestamp::parse(text).unwrap());
        assert_eq!(
            due(0, day("2024-07-01")).as_deref(),
            Some("2024-07-01T04:00:00Z")
        );
        // In winter, over the change of the clocks.
        assert_eq!(
            due(-180, day("2024-07-01")).as_deref(),
            Some("2024-01-03T05:00:00Z")
        );
        assert_eq!(
            due(2, time("2024-03-09T10:00:00.000001Z")).as_deref(),
            Some("2024-03-11T10:00:00.000001Z")
        );
        assert_eq!(due(1, Moment::Day(Date::MAX)), None);
    }
}
