//! Rules between resources: references, uses, admission, and what events say of both sides of a change.

use super::*;
use crate::{
    Admission, Changed, EventFilter, NewEvent, Reference, Resource as _, Stored, Use, refers,
    refers_by, used_by,
};
use meterd_fault::{Kind, Location, Rule};
use serde_json::json;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Site {
    code: String,
}

impl Document for Site {
    const KIND: &'static str = "site";
    const RESOURCE: Resource = Resource::Location;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }
}

impl crate::Resource for Site {
    const USED_BY: &'static [Use] = &[used_by::<Sensor>("siteId")];
}

/// Counts only upwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sensor {
    site_id: String,
    count: u64,
}

impl Document for Sensor {
    const KIND: &'static str = "test/sensor";
    const RESOURCE: Resource = Resource::Device;
    const EVENT: &'static str = "test.configuration.sensor";

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("siteId", self.site_id.clone())]
    }

    fn event_data(changed: &Changed<'_, Self>) -> serde_json::Value {
        let count = |side: Option<&Stored<Self>>| side.map(|stored| stored.document.count);
        json!({"old": count(changed.before()), "new": count(changed.after())})
    }
}

impl crate::Resource for Sensor {
    fn references(&self) -> Vec<Reference> {
        match self.site_id.strip_prefix("code:") {
            Some(code) => vec![refers_by::<Site>("code", "/siteCode", code)],
            None => vec![refers::<Site>("/siteId", &self.site_id)],
        }
    }

    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let least = admission.before.map_or(0, |before| before.document.count);
        if self.count < least {
            return Err(Kind::NothingExtractable.into());
        }
        Ok(())
    }
}

fn fixture() -> Fixture {
    Fixture::with(Settings {
        documents: Documents::new().with::<Site>().with::<Sensor>(),
        ..Settings::default()
    })
}

fn site(code: &str) -> Site {
    Site {
        code: code.to_owned(),
    }
}

fn sensor(site: Uuid, count: u64) -> Sensor {
    Sensor {
        site_id: site.to_string(),
        count,
    }
}

#[test]
fn what_is_referred_to_exists_and_stays() {
    let fixture = fixture();
    let (home, other) = (fixture.organization("acme"), fixture.organization("other"));
    let store = fixture.control.store();
    let create = |organization, sensor: Sensor| {
        store.write(&author(), |writes| {
            writes.create_checked(organization, sensor)
        })
    };
    let place = store.create(home, site("roof"), &author()).unwrap();
    for (organization, id) in [
        (home, Uuid::from_u128(7).to_string()),
        (home, "roof".to_owned()),
        (other, place.id.to_string()),
    ] {
        let unknown = Sensor {
            site_id: id,
            count: 0,
        };
        let fault = create(organization, unknown).unwrap_err();
        let Kind::Invalid { problems } = *fault.kind else {
            panic!("{fault:?}");
        };
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].location, Location::Body("/siteId".into()));
        assert_eq!(
            problems[0].rule,
            Rule::UnknownReference {
                resource: Resource::Location
            }
        );
    }
    let by_code = |code: &str| Sensor {
        site_id: format!("code:{code}"),
        count: 0,
    };
    let fault = create(home, by_code("cellar")).unwrap_err();
    let Kind::Invalid { problems } = *fault.kind else {
        panic!("{fault:?}");
    };
    assert_eq!(problems[0].location, Location::Body("/siteCode".into()));
    assert_eq!(problems[0].value.as_deref(), Some("cellar"));
    create(home, by_code("roof")).unwrap();
    let held = create(home, sensor(place.id, 1)).unwrap();
    let delete = |id| {
        store.write(&author(), |writes| {
            writes.delete_checked::<Site>(home, id, None)
        })
    };
    assert_eq!(
        *delete(place.id).unwrap_err().kind,
        Kind::ResourceInUse {
            resource: Resource::Location,
            id: "roof".to_owned(),
            used_by: Resource::Device,
            user: held.id.to_string(),
        }
    );
    store
        .delete::<Sensor>(home, held.id, None, &author())
        .unwrap();
    assert_eq!(delete(place.id).unwrap().document, site("roof"));
    assert_eq!(place.document.label(), "roof");
}

#[test]
fn a_change_is_admitted_with_what_it_replaces() {
    let fixture = fixture();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let place = store.create(home, site("roof"), &author()).unwrap();
    let held = store.create(home, sensor(place.id, 5), &author()).unwrap();
    let replace = |version, document| {
        store.write(&author(), |writes| {
            writes.replace_checked(home, held.id, Some(version), document)
        })
    };
    let revision = store.revision::<Sensor>(home);
    let refused = replace(1, sensor(place.id, 4)).unwrap_err();
    assert_eq!(Code::from(&*refused.kind), Code::NothingExtractable);
    assert_eq!(store.revision::<Sensor>(home), revision);
    // A stale version is told before anything else is looked at.
    let stale = replace(2, sensor(Uuid::from_u128(9), 4)).unwrap_err();
    assert_eq!(Code::from(&*stale.kind), Code::VersionMismatch);
    assert_eq!(replace(1, sensor(place.id, 6)).unwrap().version, 2);
    assert_ne!(store.revision::<Sensor>(home), revision);
    assert_eq!(store.revision::<Sensor>(fixture.organization("other")), 0);
}

#[test]
fn events_have_their_own_name_and_tell_both_sides() {
    let fixture = fixture();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let place = store.create(home, site("roof"), &author()).unwrap();
    let held = store.create(home, sensor(place.id, 1), &author()).unwrap();
    store
        .write(&author(), |writes| {
            writes.replace_checked(home, held.id, None, sensor(place.id, 2))?;
            writes.append(&NewEvent {
                organization: home,
                kind: "test.noticed".to_owned(),
                resource: None,
                data: json!({}),
            })
        })
        .unwrap();
    store
        .delete::<Sensor>(home, held.id, None, &author())
        .unwrap();
    let events = fixture.control.events();
    let (events, _) = events
        .newest(home, &EventFilter::default(), None, 4)
        .unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event.kind.as_str(),
                event.data.clone(),
                event.change.is_some(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "test.configuration.sensor.deleted",
                json!({"old": 2, "new": null}),
                true
            ),
            ("test.noticed", json!({}), false),
            (
                "test.configuration.sensor.updated",
                json!({"old": 1, "new": 2}),
                true
            ),
            (
                "test.configuration.sensor.created",
                json!({"old": null, "new": 1}),
                true
            ),
        ]
    );
}
