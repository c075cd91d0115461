//! Files with an end, signed values, marks, and events by what their data say.

use super::*;
use crate::{EventFilter, EventMember, FileMeta, NewEvent, NewFile};
use meterd_fault::Kind;
use serde_json::json;
use std::io::Read as _;

fn new_file(organization: OrganizationId, seconds: i64) -> NewFile {
    NewFile {
        organization,
        purpose: "export",
        name: "usage.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        expires_at: at(seconds),
        purpose_bytes_max: None,
    }
}

fn write_file(fixture: &Fixture, new: NewFile, bytes: &[u8], seconds: i64) -> FileMeta {
    let mut writer = fixture.control.files().create(new, at(seconds)).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_file_is_there_until_its_end() {
    let fixture = Fixture::new();
    let (home, other) = (fixture.organization("home"), fixture.organization("other"));
    let files = fixture.control.files();
    let meta = write_file(&fixture, new_file(home, 100), b"a,b\n", 0);
    assert_eq!((meta.bytes, meta.name.as_str()), (4, "usage.csv"));
    let (found, mut file) = files.open_file(home, meta.id, at(99)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((found, text.as_str()), (meta.clone(), "a,b\n"));
    for (organization, seconds) in [(home, 100), (other, 0)] {
        let missing = files.open_file(organization, meta.id, at(seconds));
        assert_eq!(code(missing), Code::ResourceNotFound);
    }

    let later = write_file(&fixture, new_file(home, 200), b"", 1);
    let newest = |seconds| files.newest(home, "export", at(seconds)).unwrap();
    assert_eq!(newest(2), Some(later.clone()));
    assert_eq!(newest(200), None);
    assert_eq!(files.newest(other, "export", at(2)).unwrap(), None);

    assert_eq!(files.sweep(at(100)).unwrap(), 1);
    assert_eq!(files.find(home, meta.id).unwrap(), None);
    let folder = fixture.folder.path().join("files").join(home.to_string());
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 1);
    files.delete(home, later.id).unwrap();
    files.delete(home, later.id).unwrap();
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
}

#[test]
fn an_unfinished_file_leaves_nothing_also_after_a_crash() {
    let fixture = Fixture::new();
    let home = fixture.organization("home");
    let meta = write_file(&fixture, new_file(home, 100), b"kept", 0);
    let folder = fixture.folder.path().join("files").join(home.to_string());
    let mut dropped = fixture
        .control
        .files()
        .create(new_file(home, 100), at(0))
        .unwrap();
    dropped.write(b"lost").unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    drop(dropped);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);

    let path = fixture.path();
    let Fixture {
        folder: owner,
        control,
    } = fixture;
    drop(control);
    std::fs::write(folder.join("0190-no-row.part"), b"rest").unwrap();
    std::fs::write(folder.join(uuid::Uuid::from_u128(7).to_string()), b"rest").unwrap();
    let control = Control::open(path, settings()).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    assert!(control.files().open_file(home, meta.id, at(1)).is_ok());
    drop(owner);
}

#[test]
fn files_are_bounded_by_refusal_or_by_age() {
    let fixture = Fixture::with(Settings {
        files_bytes_max: 40_000,
        ..settings()
    });
    let (home, other) = (fixture.organization("home"), fixture.organization("other"));
    let files = fixture.control.files();
    let mut first = files.create(new_file(home, 100), at(0)).unwrap();
    first.write(&vec![0; 20_000]).unwrap();
    let mut second = files.create(new_file(home, 100), at(0)).unwrap();
    assert_eq!(code(second.write(&vec![0; 20_000])), Code::StorageFull);
    // Another organization's room is its own, and what is given up is free again.
    write_file(&fixture, new_file(other, 100), &vec![0; 20_000], 0);
    drop(first);
    second.write(&vec![0; 20_000]).unwrap();
    let second = second.finish().unwrap();
    files.delete(home, second.id).unwrap();

    // What gives way to its like is taken although others have left no room.
    let mut third = files.create(new_file(home, 100), at(0)).unwrap();
    third.write(&vec![0; 35_000]).unwrap();
    let third = third.finish().unwrap();
    assert_eq!(
        code(files.create(new_file(home, 100), at(0)).map(drop)),
        Code::StorageFull
    );
    let kept: Vec<_> = (0..5)
        .map(|seconds| {
            let mut new = new_file(home, 100);
            new.purpose = "failures";
            new.purpose_bytes_max = Some(12_000);
            write_file(&fixture, new, &[0; 1_000], seconds)
        })
        .filter(|meta| files.find(home, meta.id).unwrap().is_some())
        .collect();
    assert_eq!(kept.len(), 5, "each was there when it was written");
    let left = kept
        .iter()
        .filter(|meta| files.find(home, meta.id).unwrap().is_some());
    assert_eq!(
        left.map(|meta| meta.created_at).collect::<Vec<_>>(),
        [at(3), at(4)]
    );

    // Two who remove the same file give its room back once.
    files.delete(home, third.id).unwrap();
    write_file(&fixture, new_file(home, 100), &vec![0; 20_000], 5);
    files.remove(std::slice::from_ref(&third)).unwrap();
    let mut last = files.create(new_file(home, 100), at(5)).unwrap();
    assert_eq!(code(last.write(&vec![0; 20_000])), Code::StorageFull);
}

#[test]
fn a_signed_value_is_ours_for_its_purpose_and_time() {
    let fixture = Fixture::new();
    let signer = fixture.control.signer();
    let token = signer
        .sign("download", &json!({"file": 7}), at(60))
        .unwrap();
    let check = |purpose: &str, token: &str, seconds| {
        signer.check::<serde_json::Value>(purpose, token, at(seconds))
    };
    assert_eq!(check("download", &token, 59).unwrap(), json!({"file": 7}));
    assert_eq!(code(check("download", &token, 60)), Code::TokenExpired);
    assert_eq!(code(check("upload", &token, 0)), Code::TokenInvalid);
    let (body, signature) = token.rsplit_once('.').unwrap();
    let other = signer
        .sign("download", &json!({"file": 8}), at(60))
        .unwrap();
    let (other, _) = other.rsplit_once('.').unwrap();
    for forged in [
        "",
        ".",
        body,
        &format!("{other}.{signature}"),
        &format!("{body}."),
        &"x".repeat(100_000),
    ] {
        assert_eq!(code(check("download", forged, 0)), Code::TokenInvalid);
    }
    // A token for callers is signed with another key.
    let elsewhere = Fixture::new();
    let foreign = elsewhere
        .control
        .signer()
        .sign("download", &json!({}), at(60))
        .unwrap();
    assert_eq!(code(check("download", &foreign, 0)), Code::TokenInvalid);
    assert!(signer.sign("download", &"x".repeat(3_000), at(60)).is_err());
    let reopened = fixture.reopened();
    let kept = reopened
        .control
        .signer()
        .check::<serde_json::Value>("download", &token, at(1));
    assert_eq!(kept.unwrap(), json!({"file": 7}));
}

#[test]
fn a_mark_is_written_with_what_it_stands_for() {
    let fixture = Fixture::new();
    let (home, other) = (fixture.organization("home"), fixture.organization("other"));
    let store = fixture.control.store();
    assert_eq!(store.mark(home, "schedule").unwrap(), None);
    store
        .write(&author(), |writes| {
            writes.set_mark(home, "schedule", 5)?;
            writes.set_mark(home, "schedule", -6)
        })
        .unwrap();
    let failed: Result<(), _> = store.write(&author(), |writes| {
        writes.set_mark(home, "schedule", 7)?;
        Err(Kind::Internal.into())
    });
    assert!(failed.is_err());
    let reopened = fixture.reopened();
    let store = reopened.control.store();
    assert_eq!(store.mark(home, "schedule").unwrap(), Some(-6));
    assert_eq!(store.mark(other, "schedule").unwrap(), None);
    store
        .write(&author(), |writes| writes.remove_mark(home, "schedule"))
        .unwrap();
    assert_eq!(store.mark(home, "schedule").unwrap(), None);
}

#[test]
fn events_are_found_by_the_beginning_of_their_type_and_by_their_data() {
    let fixture = Fixture::new();
    let home = fixture.organization("home");
    let events = fixture.control.events();
    for (kind, data) in [
        ("a.created", json!({"accountId": "1", "notificationId": 1})),
        ("a.x.created", json!({"accountId": "2"})),
        (
            "ab.created",
            json!({"accountId": "1", "notificationCode": "c"}),
        ),
        (
            "b.created",
            json!({"accountId": "1", "notificationCode": "c"}),
        ),
    ] {
        let event = NewEvent {
            organization: home,
            kind: kind.to_owned(),
            resource: None,
            data,
        };
        events.append(&event, &author()).unwrap();
    }
    let found = |filter: EventFilter<'_>| {
        let (found, _) = events.newest(home, &filter, None, 10).unwrap();
        found
            .into_iter()
            .map(|event| event.kind)
            .collect::<Vec<_>>()
    };
    let prefix = |kind_prefix| EventFilter {
        kind_prefix: Some(kind_prefix),
        ..EventFilter::default()
    };
    assert_eq!(found(prefix("a.")), ["a.x.created", "a.created"]);
    assert_eq!(found(prefix("c")), Vec::<String>::new());
    let members = &[(EventMember::AccountId, "1")];
    assert_eq!(
        found(EventFilter {
            members,
            ..EventFilter::default()
        }),
        ["b.created", "ab.created", "a.created"]
    );
    assert_eq!(
        found(EventFilter {
            members: &[
                (EventMember::AccountId, "1"),
                (EventMember::NotificationCode, "c")
            ],
            ..prefix("ab")
        }),
        ["ab.created"]
    );
    assert_eq!(
        found(EventFilter {
            members,
            kind: Some("a.created"),
            ..prefix("a.")
        }),
        ["a.created"]
    );
    // Text and number are not the same, and a strange value is only a value.
    assert!(
        found(EventFilter {
            members: &[(EventMember::NotificationId, "1")],
            ..EventFilter::default()
        })
        .is_empty()
    );
    assert!(
        found(EventFilter {
            members: &[(EventMember::AccountId, "' OR 1=1")],
            ..EventFilter::default()
        })
        .is_empty()
    );
}
