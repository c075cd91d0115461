//! What is set up from outside the API.

use crate::world::{HOUSE, SHED, SWITCHED, World};
use meterd_control::Applied;
use meterd_engine::{Batch, OnConflict, Verdict};
use meterd_model::{Measurement, MeasurementId, MeterId, Subject, Timestamp};
use meterd_surface_wattwatchers::{
    KeyLimits, KeyRole, KeySees, Level, NewKey, NewKeyLimits, Serial, apply_key, create_key,
    remember_ids,
};
use meterd_testkit::system;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

fn key(levels: &[Level], serials: &[&str], limits: NewKeyLimits) -> NewKey {
    let serials = serials.iter().map(|serial| Serial::parse(serial).unwrap());
    NewKey {
        name: "panel".to_owned(),
        role: KeyRole::Api {
            levels: levels.to_vec(),
            sees: KeySees::These(serials.collect()),
            limits,
        },
    }
}

#[test]
fn a_key_is_brought_to_what_it_is_to_be() {
    let world = World::start();
    let apply = |wanted: &NewKey| apply_key(&world.control, world.acme, wanted, &system()).unwrap();
    let first = key(&[Level::Metadata], &[HOUSE, SHED], NewKeyLimits::Default);
    let (applied, issued) = apply(&first);
    let secret = issued.unwrap().secret;
    assert_eq!(applied, Applied::Created);
    assert_eq!(apply(&first).0, Applied::Unchanged);
    assert_eq!(
        world.get_as(secret.reveal(), "/devices").expect(200),
        json!([SHED, HOUSE])
    );

    let own = NewKeyLimits::Own(KeyLimits {
        per_second: 100,
        per_day: 1_000,
    });
    for wanted in [
        key(
            &[Level::Metadata],
            &[HOUSE, SWITCHED],
            NewKeyLimits::Default,
        ),
        key(&[], &[HOUSE, SWITCHED], NewKeyLimits::Default),
        key(&[], &[HOUSE, SWITCHED], own),
    ] {
        let (applied, issued) = apply(&wanted);
        assert_eq!(applied, Applied::Updated);
        assert!(issued.is_none());
        assert_eq!(apply(&wanted).0, Applied::Unchanged);
        let answer = world.get_as(secret.reveal(), "/devices");
        assert_eq!(answer.expect(200), json!([HOUSE, SWITCHED]));
    }
    let answer = world.get_as(secret.reveal(), "/devices");
    assert_eq!(answer.header("x-ratelimit-tpdlimit"), Some("1000"));
    let unknown = key(&[], &["D000000000000"], NewKeyLimits::Default);
    assert!(apply_key(&world.control, world.acme, &unknown, &system()).is_err());
    assert_eq!(
        world.get_as(secret.reveal(), "/devices").expect(200),
        json!([HOUSE, SWITCHED])
    );
}

#[test]
fn a_key_keeps_its_role() {
    let world = World::start();
    let apply = |wanted: &NewKey| apply_key(&world.control, world.acme, wanted, &system());
    let panel = key(&[], &[HOUSE], NewKeyLimits::Default);
    let secret = apply(&panel).unwrap().1.unwrap().secret;
    let feeding = NewKey {
        role: KeyRole::Ingest,
        ..panel.clone()
    };
    assert!(apply(&feeding).is_err());
    assert_eq!(apply(&panel).unwrap().0, Applied::Unchanged);
    assert_eq!(
        world.get_as(secret.reveal(), "/devices").expect(200),
        json!([HOUSE])
    );
}

/// A device has room for 200 keys.
#[test]
fn keys_that_are_revoked_leave_their_devices() {
    let world = World::start();
    let panel = key(&[], &[HOUSE], NewKeyLimits::Default);
    let make = || create_key(&world.control, world.acme, &panel, &system());
    let keys: Vec<_> = (0..200).map(|_| make().unwrap()).collect();
    assert!(make().is_err());
    let credentials = world.control.credentials();
    let (first, last) = (&keys[0], &keys[199]);
    credentials.revoke(first.credential.id, &system()).unwrap();
    let another = make().unwrap();
    for issued in [last, &another] {
        let devices = world.get_as(issued.secret.reveal(), "/devices");
        assert_eq!(devices.expect(200), json!([HOUSE]));
    }
    assert!(make().is_err());
}

/// Another surface may want an organization to forget ids, which would count twice what is sent again.
#[test]
fn accounts_with_devices_forget_no_id() {
    let world = World::start();
    let send = |id: &str, hours: i64| {
        let at = |hours| Timestamp::from_seconds(1_700_000_000 + hours * 3_600).unwrap();
        let measurement = Measurement {
            id: MeasurementId::new(id).unwrap(),
            meter: MeterId(Uuid::nil()),
            subject: Subject::new(HOUSE).unwrap(),
            time: at(0),
            end_time: None,
            values: Vec::new(),
            attributes: Vec::new(),
        };
        let batch = Batch {
            organization: world.acme,
            received: at(hours),
            measurements: vec![measurement],
            on_conflict: OnConflict::Reject,
        };
        let receipt = world.engine.submit(batch).unwrap().wait().unwrap();
        world.engine.seal().unwrap();
        receipt.verdicts[0]
    };
    let register = || world.feed_put(SHED, &json!({"model": "3M"}));
    let cases: [(i64, &dyn Fn()); 3] = [
        (0, &|| {}),
        (1, &|| remember_ids(&world.control, &world.engine).unwrap()),
        (2, &|| drop(register().expect(200))),
    ];
    for (n, remember) in cases {
        let day = Some(Duration::from_hours(24));
        world.engine.set_id_window(world.acme, day);
        remember();
        let (id, hours) = (format!("a-{n}"), 1_000 * n);
        assert_eq!(send(&id, hours), Verdict::Accepted);
        for step in 1..4 {
            send(&format!("{id}-{step}"), hours + 30 * step);
        }
        let is_known = send(&id, hours + 100) == Verdict::Duplicate;
        assert_eq!(is_known, n > 0, "{n}");
    }
}

#[test]
fn new_secrets_look_like_the_old_ones() {
    let world = World::start();
    let credentials = world.control.credentials();
    for (secret, prefix) in [(&world.key, "key_"), (&world.feed, "ingest_")] {
        let random = secret.strip_prefix(prefix).unwrap();
        assert!(random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit()));
        let known = credentials.authenticate("wattwatchers", secret, meterd_testkit::now());
        assert_eq!(known.unwrap().secret_form().prefix, prefix);
    }
}
