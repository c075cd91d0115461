//! Every write of this surface, so that what follows from a change happens in the same transaction: its notifications.

use crate::entity::Entity;
use crate::event::{PREFIX, data_of};
use crate::notification::{EventRules, Notification};
use meterd_control::{Changed, NewEvent, Stored, Writes};
use meterd_fault::Fault;
use meterd_model::OrganizationId;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Notifications that one transaction fires. A request may make a thousand accounts, and each may fire a hundred, while
/// every organization waits for the one writer of the database.
const FIRED_MAX: usize = 1_000;

/// The changes of one transaction in one organization.
pub(crate) struct Writer<'a, 't> {
    writes: &'a mut Writes<'t>,
    organization: OrganizationId,
    rules: &'a EventRules,
    /// Notifications that it has fired so far.
    fired: usize,
}

/// An event that is no change of an entity.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    /// As the API has it, e.g. `ingest.validation.failure`.
    pub(crate) name: String,
    pub(crate) payload: Value,
    pub(crate) account: Option<Uuid>,
}

impl<'a, 't> Writer<'a, 't> {
    pub(crate) fn new(
        writes: &'a mut Writes<'t>,
        organization: OrganizationId,
        rules: &'a EventRules,
    ) -> Self {
        Self {
            writes,
            organization,
            rules,
            fired: 0,
        }
    }

    pub(crate) fn create<E: Entity>(&mut self, document: E) -> Result<Arc<Stored<E>>, Fault> {
        let stored = self.writes.create_checked(self.organization, document)?;
        self.changed(&Changed::Created(&stored))?;
        Ok(stored)
    }

    pub(crate) fn replace<E: Entity>(
        &mut self,
        id: Uuid,
        version: u64,
        document: E,
    ) -> Result<Arc<Stored<E>>, Fault> {
        let before = self.writes.get::<E>(self.organization, id)?;
        let after = self
            .writes
            .replace_checked(self.organization, id, Some(version), document)?;
        self.changed(&Changed::Updated {
            before: &before,
            after: &after,
        })?;
        Ok(after)
    }

    pub(crate) fn delete<E: Entity>(&mut self, id: Uuid) -> Result<Arc<Stored<E>>, Fault> {
        let stored = self.writes.delete_checked(self.organization, id, None)?;
        if let Some(mark) = E::MARK {
            let name = format!("{mark}/{id}");
            self.writes.remove_mark(self.organization, &name)?;
        }
        self.changed(&Changed::Deleted(&stored))?;
        Ok(stored)
    }

    /// Of what only the server itself changes, which goes on in an organization that is full.
    pub(crate) fn update<E: Entity>(
        &mut self,
        id: Uuid,
        change: impl FnOnce(&mut E),
    ) -> Result<Arc<Stored<E>>, Fault> {
        let before = self.writes.get::<E>(self.organization, id)?;
        let mut document = before.document.clone();
        change(&mut document);
        let after =
            (self.writes).update_though_full::<E>(self.organization, id, None, |_| Ok(document))?;
        self.changed(&Changed::Updated {
            before: &before,
            after: &after,
        })?;
        Ok(after)
    }

    pub(crate) fn raise(&mut self, event: &Raised) -> Result<(), Fault> {
        let account = event.account.map(|id| id.to_string());
        let data = data_of(event.payload.clone(), account.as_deref());
        self.append(&event.name, data.clone())?;
        self.fire(&event.name, || data)
    }

    /// Whether it is there, and stays until the transaction is done.
    pub(crate) fn holds<E: Entity>(&self, id: Uuid) -> Result<bool, Fault> {
        let found = self.writes.store().find::<E>(self.organization, id)?;
        Ok(found.is_some())
    }

    /// See [`meterd_control::Writes::set_mark`].
    pub(crate) fn set_mark(&mut self, name: &str, value: i64) -> Result<(), Fault> {
        self.writes.set_mark(self.organization, name, value)
    }

    /// The change's own event is there already; kinds without a documented event have no notifications.
    fn changed<E: Entity>(&mut self, changed: &Changed<'_, E>) -> Result<(), Fault> {
        match E::EVENT.strip_prefix(PREFIX) {
            Some(event) => {
                let name = format!("{event}.{}", changed.verb());
                self.fire(&name, || E::event_data(changed))
            }
            None => Ok(()),
        }
    }

    /// Appends an event for each notification that the event of this name and data fires. They fire nothing further.
    fn fire(&mut self, name: &str, data: impl FnOnce() -> Value) -> Result<(), Fault> {
        let store = self.writes.store();
        let active = Notification::active(store, self.organization, name)?;
        if active.is_empty() {
            return Ok(());
        }
        let data = data();
        let event = data.get("m3terEvent").cloned().unwrap_or_default();
        for notification in self.rules.firing(store, active, &event)? {
            if self.fired == FIRED_MAX {
                tracing::warn!(
                    organization = %self.organization,
                    "one change fires more than {FIRED_MAX} notifications; the rest is left out"
                );
                return Ok(());
            }
            self.fired += 1;
            let code = &notification.document.code;
            let mut fired = json!({
                "m3terEvent": {
                    "eventName": name,
                    "notificationId": notification.id,
                    "notificationCode": code,
                    "name": notification.document.name,
                },
                "notificationId": notification.id,
                "notificationCode": code,
            });
            if let (Some(all), Some(own)) = (data.as_object(), fired.as_object_mut()) {
                own.extend(
                    all.get("accountId")
                        .map(|id| ("accountId".to_owned(), id.clone())),
                );
            }
            if let (Some(all), Some(own)) = (
                event.as_object(),
                fired.get_mut("m3terEvent").and_then(Value::as_object_mut),
            ) {
                for (member, value) in all {
                    own.entry(member.clone()).or_insert_with(|| value.clone());
                }
            }
            self.append(&format!("notification.{code}"), fired)?;
        }
        Ok(())
    }

    fn append(&mut self, name: &str, data: Value) -> Result<(), Fault> {
        let event = NewEvent {
            organization: self.organization,
            kind: format!("{PREFIX}{name}"),
            resource: None,
            data,
        };
        self.writes.append(&event)?;
        Ok(())
    }
}
