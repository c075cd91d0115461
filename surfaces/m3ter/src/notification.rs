//! Notifications: events that tell of other events, where a calculation says so (4.10).

use crate::access::{Access, Action, Guarded, Target};
use crate::app::App;
use crate::calculation::check_operations;
use crate::custom_fields::CustomFields;
use crate::entity::{At, Entity, entity_event, paths};
use crate::event::{PREFIX, find_event, permit_event};
use crate::event_types::{CUSTOM, defaults_of, fields_of, is_known};
use crate::list::Filter;
use crate::singleton::current;
use crate::wire::{CustomValue, CustomValues, text};
use axum::extract::State;
use meterd_control::{Admission, Changed, Document, List, Resource, Store, Stored};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_formula::{Calculation, Formula, Type, Value as Term, Variable};
use meterd_http::fields::{Fields, Form};
use meterd_http::{Failure, LongWork, Parsed, Reply};
use meterd_model::{Decimal, OrganizationId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Configurations that one event can fire; they are evaluated inside the write that raises the event.
const PER_EVENT_MAX: usize = 100;
const CALCULATION_CHARS_MAX: usize = 5_000;
/// Most operations of one; it may be looked at a thousand times within a write.
const OPERATIONS_MAX: usize = 500;
/// Rules that are remembered.
const RULES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notification {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) code: String,
    pub(crate) event_name: String,
    pub(crate) active: bool,
    /// Without asking the calculation.
    pub(crate) always_fire_event: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calculation: Option<String>,
}

impl Notification {
    /// Those that an event of this name may fire.
    pub(crate) fn active(
        store: &Store,
        organization: OrganizationId,
        event_name: &str,
    ) -> Result<Vec<Arc<Stored<Self>>>, Fault> {
        let list = List {
            filters: &[("eventName", event_name), ("active", "true")],
            limit: PER_EVENT_MAX,
            ..List::default()
        };
        Ok(store.list(organization, &list)?.items)
    }
}

/// The rules of notifications, each made once for what it is made of.
#[derive(Debug, Default)]
pub(crate) struct EventRules {
    known: Mutex<HashMap<Uuid, Known>>,
}

#[derive(Debug)]
struct Known {
    /// Version of the notification, revision of the custom fields.
    made_of: (u64, u64),
    rule: Arc<Result<EventRule, String>>,
}

impl EventRules {
    /// Which of the notifications the event fires. A calculation without a result fires nothing.
    pub(crate) fn firing(
        &self,
        store: &Store,
        notifications: Vec<Arc<Stored<Notification>>>,
        event: &Value,
    ) -> Result<Vec<Arc<Stored<Notification>>>, Fault> {
        let mut firing = Vec::new();
        for stored in notifications {
            if stored.document.always_fire_event || self.holds(store, &stored, event)? {
                firing.push(stored);
            }
        }
        Ok(firing)
    }

    fn holds(
        &self,
        store: &Store,
        stored: &Stored<Notification>,
        event: &Value,
    ) -> Result<bool, Fault> {
        let Some(calculation) = &stored.document.calculation else {
            return Ok(false);
        };
        // Before anything is read: what changes meanwhile makes the rule old at once.
        let revision = store.revision::<CustomFields>(stored.organization);
        let made_of = (stored.version, revision);
        let known = self.lock().get(&stored.id).and_then(|known| {
            let is_new = known.made_of == made_of;
            is_new.then(|| Arc::clone(&known.rule))
        });
        let rule = match known {
            Some(rule) => rule,
            None => {
                let custom: CustomFields = current(store, stored.organization)?;
                let name = &stored.document.event_name;
                let rule = Arc::new(EventRule::parse(calculation, name, &custom));
                let known = Known {
                    made_of,
                    rule: Arc::clone(&rule),
                };
                let mut all = self.lock();
                if all.len() >= RULES_MAX {
                    all.clear();
                }
                all.insert(stored.id, known);
                rule
            }
        };
        let outcome = match rule.as_ref() {
            Ok(rule) => rule.evaluate(event),
            Err(reason) => Err(reason.clone()),
        };
        Ok(outcome.unwrap_or_else(|reason| {
            let code = &stored.document.code;
            tracing::debug!(code, reason, "notification without a result");
            None
        }) == Some(true))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A calculation over an event: true where it shall fire.
#[derive(Debug)]
struct EventRule {
    calculation: Calculation,
    /// What the calculation reads, with its place in the row.
    paths: Vec<(usize, String)>,
    /// Of the custom fields that the event's entity has.
    defaults: CustomValues,
}

impl EventRule {
    /// The error is a clause, such as `character 7: …`.
    fn parse(text: &str, event_name: &str, custom: &CustomFields) -> Result<Self, String> {
        let formula = Formula::parse(text).map_err(|error| error.to_string())?;
        let fields = fields_of(event_name, custom)
            .unwrap_or_default()
            .into_iter();
        let variables: Vec<_> = fields
            .filter_map(|(name, word)| {
                let holds = word.holds()?;
                Some(Variable { name, holds })
            })
            .collect();
        let calculation = formula.check(&variables, Type::Boolean).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            errors.join("; ")
        })?;
        let read = calculation.places().filter_map(|place| {
            let variable = variables.get(place)?;
            Some((place, variable.name.clone()))
        });
        Ok(Self {
            paths: read.collect(),
            calculation,
            defaults: defaults_of(event_name, custom).clone(),
        })
    }

    /// None if the result is null.
    fn evaluate(&self, event: &Value) -> Result<Option<bool>, String> {
        let width = self.paths.iter().map(|(place, _)| place + 1).max();
        let mut row = vec![Term::Null; width.unwrap_or(0)];
        for (place, path) in &self.paths {
            if let Some(term) = row.get_mut(*place) {
                *term = self.term(event, path);
            }
        }
        match self.calculation.evaluate(&row) {
            Ok(Term::Boolean(result)) => Ok(Some(result)),
            Ok(_) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// `new.code` is the member `code` of the entity after the change. A custom field that an entity does not have is
    /// the default.
    fn term<'v>(&'v self, event: &'v Value, path: &str) -> Term<'v> {
        let sides = event.get("eventData");
        let (side, member) = match path.split_once('.') {
            Some(("new", member)) => (sides.and_then(|sides| sides.get("newDto")), member),
            Some(("old", member)) => (sides.and_then(|sides| sides.get("oldDto")), member),
            _ => (Some(event), path),
        };
        let Some(side) = side else {
            return Term::Null;
        };
        let Some(name) = member.strip_prefix(CUSTOM) else {
            return side.get(member).map_or(Term::Null, term_of);
        };
        let own = side.get("customFields").and_then(|own| own.get(name));
        match (own, self.defaults.get(name)) {
            (Some(own), _) => term_of(own),
            (None, Some(CustomValue::Text(text))) => Term::Text(text),
            (None, Some(CustomValue::Number(number))) => Term::Number(*number),
            (None, None) => Term::Null,
        }
    }
}

fn term_of(value: &Value) -> Term<'_> {
    match value {
        Value::Bool(value) => Term::Boolean(*value),
        Value::String(text) => Term::Text(text),
        Value::Number(number) => {
            let number = Decimal::parse(number.to_string().as_bytes());
            number.map_or(Term::Null, Term::Number)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Term::Null,
    }
}

impl Document for Notification {
    const KIND: &'static str = "m3ter/notification";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Notification;
    const EVENT: &'static str = "m3ter.configuration.alert";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("eventName", self.event_name.clone()),
            ("active", self.active.to_string()),
        ]
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Notification {
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let others = [("eventName", self.event_name.as_str())];
        let count = admission
            .store
            .count::<Self>(admission.organization, &others)?;
        let is_among = |before: &Stored<Self>| before.document.event_name == self.event_name;
        if count < PER_EVENT_MAX || admission.before.is_some_and(is_among) {
            return Ok(());
        }
        let rule = Rule::Other {
            code: "too_many",
            text: format!("has {PER_EVENT_MAX} notification configurations already").into(),
        };
        Err(Fault::invalid(Problem::body("/eventName", rule)))
    }
}

impl Guarded for Notification {
    const WORD: &'static str = "alert";
}

impl Entity for Notification {
    paths!("/notifications/configurations");
    const FILTERS: &'static [Filter] = &[
        Filter::Ids,
        Filter::Equal {
            parameter: "eventName",
            index: "eventName",
        },
        Filter::Word {
            parameter: "active",
            words: &["true", "false"],
        },
    ];

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", text(1, 200));
        let description = fields.required_checked("description", text(1, 1_000));
        let code = fields.required_checked("code", text(1, 200));
        let event_name = fields.required_checked("eventName", text(1, 500));
        let active = fields.boolean("active").unwrap_or(true);
        let always_fire_event = fields.boolean("alwaysFireEvent").unwrap_or(false);
        let calculation = fields.checked_string("calculation", text(0, CALCULATION_CHARS_MAX));
        let calculation = calculation.filter(|text| !text.trim().is_empty());
        let event_name = event_name?;
        // The kind is known to the store, so that looking it up cannot fail.
        let custom: CustomFields =
            current(at.app.control.store(), at.organization).unwrap_or_default();
        let checked = match &calculation {
            _ if !is_known(&event_name) => {
                let text = "must be one of the names that events/types lists";
                fields.refuse("eventName", other("event_name", text));
                Ok(())
            }
            Some(text) => match EventRule::parse(text, &event_name, &custom) {
                Ok(rule) => check_operations([&rule.calculation], OPERATIONS_MAX),
                Err(reason) => Err(other(
                    "calculation",
                    format!("must be a calculation: {reason}"),
                )),
            },
            None if always_fire_event => Ok(()),
            None => Err(other(
                "calculation",
                "is required unless alwaysFireEvent is true",
            )),
        };
        if let Err(rule) = checked {
            fields.refuse("calculation", rule);
        }
        Some(Self {
            name: name?,
            description: description?,
            code: code?,
            event_name,
            active,
            always_fire_event,
            calculation,
        })
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}

fn other(code: &'static str, text: impl Into<std::borrow::Cow<'static, str>>) -> Rule {
    Rule::Other {
        code,
        text: text.into(),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evaluated {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

#[derive(Debug)]
struct Trial {
    event_id: Option<String>,
    event_name: Option<String>,
    calculation: String,
}

/// `POST /notifications/evaluate`: whether a calculation can be made over an event, or over events of a name. What
/// cannot is no fault: the answer says why.
pub(crate) async fn evaluate(
    State(app): State<App>,
    access: Access,
    body: Parsed,
) -> Result<Reply<Evaluated>, Failure> {
    access.permit(
        Action::ConfigRetrieve,
        &Target {
            service: "config",
            kind: Notification::WORD,
            id: None,
        },
    )?;
    let trial = body.read(Form::LENIENT, |fields| {
        let event_id = fields.string("eventId");
        let event_name = fields.string("eventName");
        if event_id.is_none() && event_name.is_none() {
            fields.refuse(
                "eventName",
                other("required", "is required without eventId"),
            );
        }
        let rule = text(1, CALCULATION_CHARS_MAX);
        let calculation = fields.required_checked("calculation", rule);
        Some(Trial {
            event_id,
            event_name,
            calculation: calculation?,
        })
    })?;
    let outcome = app
        .blocking(move |app| try_out(app, &access, &trial))
        .await?;
    Ok(Reply::ok(Evaluated {
        success: outcome.is_ok(),
        error_message: outcome.err(),
    }))
}

fn try_out(app: &App, access: &Access, trial: &Trial) -> Result<Result<(), String>, Fault> {
    let organization = access.organization;
    let event = match &trial.event_id {
        None => None,
        Some(id) => match find_event(app, organization, id)? {
            Some(event) => {
                // The outcome tells of what the event shows.
                permit_event(access, &event)?;
                Some(event)
            }
            None => {
                let id = id.clone();
                let resource = meterd_fault::Resource::Event;
                let kind = Kind::ResourceNotFound { resource, id };
                return Ok(Err(kind.phrase()));
            }
        },
    };
    let of_event = event
        .as_ref()
        .and_then(|event| event.kind.strip_prefix(PREFIX));
    let name = of_event.or(trial.event_name.as_deref()).unwrap_or("");
    if !is_known(name) {
        return Ok(Err(format!(
            "there is no event {}",
            meterd_fault::quote(name)
        )));
    }
    let custom: CustomFields = current(app.control.store(), organization)?;
    let rule = match EventRule::parse(&trial.calculation, name, &custom) {
        Ok(rule) => rule,
        Err(reason) => return Ok(Err(reason)),
    };
    let data = event
        .as_ref()
        .and_then(|event| event.data.get("m3terEvent"));
    Ok(match data {
        Some(data) => rule.evaluate(data).map(|_| ()),
        None => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_reads_both_sides() {
        let event = json!({"eventData": {
            "newDto": {"code": "b", "version": 2, "daysBeforeBillDue": 30},
            "oldDto": {"code": "a", "version": 1},
        }});
        let outcome = |text| {
            let custom = CustomFields::default();
            let rule = EventRule::parse(text, "configuration.account.updated", &custom)?;
            rule.evaluate(&event)
        };
        assert_eq!(outcome("new.code != old.code"), Ok(Some(true)));
        assert_eq!(outcome("new.version * 2 < old.version"), Ok(Some(false)));
        assert_eq!(
            outcome("new.daysBeforeBillDue >= old.daysBeforeBillDue"),
            Ok(None)
        );
        assert!(outcome("new.daysBeforeBillDue + old.daysBeforeBillDue > 1").is_err());
        assert!(
            outcome("new.nothing == 1")
                .unwrap_err()
                .contains("new.nothing")
        );
        assert!(outcome("new.version").is_err());
        assert!(outcome("new.version >").is_err());
    }
}
