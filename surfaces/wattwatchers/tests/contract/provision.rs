//! What is set up from outside the API.

use crate::world::{HOUSE, SHED, SWITCHED, World};
use meterd_control::Applied;
use meterd_surface_wattwatchers::{
    KeyLimits, KeyRole, KeySees, Level, NewKey, NewKeyLimits, Serial, apply_key,
};
use meterd_testkit::system;
use serde_json::json;

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
