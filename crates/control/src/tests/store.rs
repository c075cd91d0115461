//! Resources: keys, versions, listing, isolation, events, bounds.

use super::*;
use crate::event::{Direction, select_statement};
use crate::{Actor, Cursor, EventFilter, EventMember, List, NewEvent, Order, PAGE_MAX, Settings};
use meterd_fault::Kind;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::HashSet;
use uuid::Uuid;

#[test]
fn a_resource_lives_through_its_versions() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let first = store.create(home, device("a"), &author()).unwrap();
    assert_eq!((first.version, first.created_at), (1, at(0)));
    assert_eq!(first.id.get_version_num(), 7);
    let later = Author::new(Actor::Operator, at(60));
    let second = store
        .update(
            home,
            first.id,
            Some(1),
            &later,
            |current: &crate::Stored<Device>| {
                Ok(Device {
                    count: current.document.count + 1,
                    ..current.document.clone()
                })
            },
        )
        .unwrap();
    assert_eq!(
        (second.version, second.created_at, second.modified_at),
        (2, at(0), at(60))
    );
    assert_eq!(
        (second.created_by, second.modified_by),
        (Actor::System, Actor::Operator)
    );
    assert_eq!(store.get::<Device>(home, first.id).unwrap(), second);
    assert_eq!(
        store.get_by_key::<Device>(home, "name", "a").unwrap(),
        second
    );
    let stale = store.replace(home, first.id, Some(1), device("a"), &later);
    assert_eq!(
        *stale.unwrap_err().kind,
        Kind::VersionMismatch {
            resource: Resource::Device,
            stored: 2,
            given: 1
        }
    );
    assert_eq!(
        code(store.delete::<Device>(home, first.id, Some(1), &later)),
        Code::VersionMismatch
    );
    let deleted = store
        .delete::<Device>(home, first.id, Some(2), &later)
        .unwrap();
    assert_eq!(deleted.document, second.document);
    assert_eq!(
        code(store.get::<Device>(home, first.id)),
        Code::ResourceNotFound
    );
    assert_eq!(
        code(store.get_by_key::<Device>(home, "name", "a")),
        Code::ResourceNotFound
    );
    // A name may be used again.
    store.create(home, device("a"), &later).unwrap();
    assert!(fixture.control.verify().unwrap().is_sound());
}

#[test]
fn unique_keys_are_unique_per_organization() {
    let fixture = Fixture::new();
    let (acme, other) = (fixture.organization("acme"), fixture.organization("other"));
    let store = fixture.control.store();
    let a = store.create(acme, device("a"), &author()).unwrap();
    let b = store.create(acme, device("b"), &author()).unwrap();
    store.create(other, device("a"), &author()).unwrap();
    let taken = store.create(acme, device("a"), &author()).unwrap_err();
    let expected = Kind::ResourceExists {
        resource: Resource::Device,
        field: "name",
        value: "a".into(),
    };
    assert_eq!(*taken.kind, expected);
    let renamed = store.replace(acme, b.id, None, device("a"), &author());
    assert_eq!(*renamed.unwrap_err().kind, expected);
    assert_eq!(
        store
            .get_by_key::<Device>(acme, "name", "b")
            .unwrap()
            .version,
        1
    );
    // Keeping one's own key is no conflict.
    store
        .replace(acme, a.id, None, device("a"), &author())
        .unwrap();
}

#[test]
fn two_resources_can_swap_a_key_in_one_transaction() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let a = store.create(home, device("a"), &author()).unwrap().id;
    let b = store.create(home, device("b"), &author()).unwrap().id;
    store
        .write(&author(), |writes| {
            writes.update(home, a, None, |_| Ok(device("c")))?;
            writes.update(home, b, None, |_| Ok(device("a")))?;
            assert_eq!(
                writes.find_by_key::<Device>(home, "name", "a")?.unwrap().id,
                b
            );
            writes.update(home, a, None, |_| Ok(device("b")))
        })
        .unwrap();
    assert_eq!(store.get_by_key::<Device>(home, "name", "a").unwrap().id, b);
    assert_eq!(store.get_by_key::<Device>(home, "name", "b").unwrap().id, a);
    assert!(
        store
            .find_by_key::<Device>(home, "name", "c")
            .unwrap()
            .is_none()
    );
    assert!(fixture.control.verify().unwrap().is_sound());
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let failed: Result<(), Fault> = store.write(&author(), |writes| {
        writes.create(home, device("a"))?;
        assert_eq!(writes.next_number(home, "device")?, 1);
        writes.create(home, device("b"))?;
        Err(Fault::internal("no"))
    });
    assert_eq!(code(failed), Code::Internal);
    assert_eq!(store.count::<Device>(home, &[]).unwrap(), 0);
    let (events, _) = fixture
        .control
        .events()
        .newest(home, &EventFilter::default(), None, 10)
        .unwrap();
    assert!(events.is_empty());
    assert_eq!(
        store
            .write(&author(), |writes| writes.next_number(home, "device"))
            .unwrap(),
        1
    );
}

#[test]
fn organizations_are_apart() {
    let fixture = Fixture::new();
    let (acme, other) = (fixture.organization("acme"), fixture.organization("other"));
    let store = fixture.control.store();
    let id = store.create(acme, device("a"), &author()).unwrap().id;
    assert_eq!(code(store.get::<Device>(other, id)), Code::ResourceNotFound);
    assert_eq!(
        code(store.get_by_key::<Device>(other, "name", "a")),
        Code::ResourceNotFound
    );
    assert_eq!(
        code(store.replace(other, id, None, device("x"), &author())),
        Code::ResourceNotFound
    );
    assert_eq!(
        code(store.delete::<Device>(other, id, None, &author())),
        Code::ResourceNotFound
    );
    assert!(
        store
            .list::<Device>(other, &List::default())
            .unwrap()
            .items
            .is_empty()
    );
    let (events, _) = fixture
        .control
        .events()
        .newest(other, &EventFilter::default(), None, 10)
        .unwrap();
    assert!(events.is_empty());
    assert_eq!(store.get::<Device>(acme, id).unwrap().document, device("a"));
    // Nor is an id of another kind.
    assert_eq!(
        code(store.get::<Organization>(acme, id)),
        Code::ResourceNotFound
    );
}

#[test]
fn lists_can_ask_for_one_of_several_values() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    for (place, status) in ["on", "off", "lost", "on", "off"].into_iter().enumerate() {
        let device = Device {
            name: format!("d{place}"),
            status: status.to_owned(),
            count: place as u64,
        };
        store.create(home, device, &author()).unwrap();
    }
    let names = |filters: &[(&str, &str)], values: &[&str], limit| {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        let list = List {
            filters,
            any_of: Some(("status", &values)),
            limit,
            ..List::default()
        };
        let page = store.list::<Device>(home, &list).unwrap();
        let names: Vec<_> = page.items.iter().map(|d| d.document.name.clone()).collect();
        (names.join(" "), page.next.is_some())
    };
    assert_eq!(
        names(&[], &["on", "lost", "never", "on"], 9),
        ("d3 d2 d0".into(), false)
    );
    assert_eq!(names(&[], &["on", "lost"], 2), ("d3 d2".into(), true));
    assert_eq!(
        names(&[("parity", "0")], &["on", "off"], 9),
        ("d4 d0".into(), false)
    );
    assert_eq!(names(&[], &[], 9), (String::new(), false));
}

#[test]
fn lists_can_be_held_to_ids() {
    let fixture = Fixture::new();
    let (home, other) = (fixture.organization("acme"), fixture.organization("rival"));
    let store = fixture.control.store();
    let make = |organization, name| {
        let made = store.create(organization, device(name), &author());
        made.unwrap().id
    };
    let ids = ["a", "b", "c"].map(|name| make(home, name));
    let foreign = make(other, "d");
    let names = |filters: &[(&str, &str)], ids: &[Uuid], limit| {
        let list = List {
            filters,
            ids: Some(ids),
            limit,
            ..List::default()
        };
        let page = store.list::<Device>(home, &list).unwrap();
        let names: Vec<_> = page.items.iter().map(|d| d.document.name.clone()).collect();
        (names.join(" "), page.next.is_some())
    };
    let [a, b, c] = ids;
    assert_eq!(
        names(&[], &[a, c, foreign, a, Uuid::nil()], 9),
        ("c a".into(), false)
    );
    assert_eq!(names(&[], &[a, b, c], 2), ("c b".into(), true));
    assert_eq!(
        names(&[("status", "gone")], &[a], 9),
        (String::new(), false)
    );
    assert_eq!(names(&[], &[], 9), (String::new(), false));
}

#[test]
fn lists_page_newest_first_and_survive_deletion_of_the_cursor() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    for number in 0..25 {
        let new = Device {
            count: number,
            ..device(&format!("d{number}"))
        };
        // All in one instant, and some with the clock set back: creation order holds all the same.
        store
            .create(
                home,
                new,
                &Author::system(at(-60 * i64::from(number % 3 == 0))),
            )
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let list = List {
            cursor,
            limit: 4,
            filters: &[("parity", "1"), ("status", "on")],
            ..List::default()
        };
        let page = store.list::<Device>(home, &list).unwrap();
        seen.extend(page.items.iter().map(|item| item.document.count));
        if let Some(last) = page.items.last() {
            store
                .delete::<Device>(home, last.id, None, &author())
                .unwrap();
        }
        match page.next {
            Some(next) => cursor = Some(Cursor::parse(&next.to_string()).unwrap()),
            None => break,
        }
    }
    assert_eq!(
        seen,
        (0..25).rev().filter(|n| n % 2 == 1).collect::<Vec<_>>()
    );
    let list = List {
        order: Order::OldestFirst,
        skip: 2,
        limit: 3,
        ..List::default()
    };
    let page = store.list_where(home, &list, |item: &crate::Stored<Device>| {
        item.document.count.is_multiple_of(2)
    });
    let counts: Vec<_> = page
        .unwrap()
        .items
        .iter()
        .map(|item| item.document.count)
        .collect();
    assert_eq!(counts, [4, 6, 8]);
    let nothing = List {
        filters: &[("status", "off")],
        ..List::default()
    };
    assert!(
        store
            .list::<Device>(home, &nothing)
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(store.count::<Device>(home, &[("parity", "0")]).unwrap(), 13);
}

#[test]
fn pages_are_bounded() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    store
        .write(&author(), |writes| {
            for number in 0..=PAGE_MAX {
                writes.create(home, device(&number.to_string()))?;
            }
            Ok(())
        })
        .unwrap();
    let page = store
        .list::<Device>(
            home,
            &List {
                limit: usize::MAX,
                ..List::default()
            },
        )
        .unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (PAGE_MAX, true));
}

#[test]
fn no_update_is_lost() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let id = store.create(home, device("a"), &author()).unwrap().id;
    let mismatches: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut mismatches = 0;
                    for _ in 0..25 {
                        loop {
                            let seen = store.get::<Device>(home, id).unwrap();
                            let next = Device {
                                count: seen.document.count + 1,
                                ..seen.document.clone()
                            };
                            match store.replace(home, id, Some(seen.version), next, &author()) {
                                Ok(stored) => {
                                    assert!(
                                        store.get::<Device>(home, id).unwrap().version
                                            >= stored.version
                                    );
                                    break;
                                }
                                Err(fault) => {
                                    assert_eq!(
                                        Code::from(fault.kind.as_ref()),
                                        Code::VersionMismatch
                                    );
                                    mismatches += 1;
                                }
                            }
                        }
                    }
                    mismatches
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    let last = store.get::<Device>(home, id).unwrap();
    assert_eq!(
        (last.document.count, last.version),
        (100, 101),
        "{mismatches} mismatches"
    );
}

#[test]
fn readers_see_whole_transactions() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let a = store.create(home, device("a"), &author()).unwrap().id;
    store.create(home, device("b"), &author()).unwrap();
    let b = store.get_by_key::<Device>(home, "name", "b").unwrap().id;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in 1..50 {
                store
                    .write(&author(), |writes| {
                        writes.update(home, a, None, |_| {
                            Ok(Device {
                                count,
                                ..device("a")
                            })
                        })?;
                        writes.update(home, b, None, |_| {
                            Ok(Device {
                                count,
                                ..device("b")
                            })
                        })
                    })
                    .unwrap();
            }
        });
        for _ in 0..2_000 {
            let page = store.list::<Device>(home, &List::default()).unwrap();
            let counts: HashSet<_> = page.items.iter().map(|item| item.document.count).collect();
            assert_eq!((page.items.len(), counts.len()), (2, 1));
        }
    });
}

#[test]
fn changes_leave_events_with_an_audit_part() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let (store, events) = (fixture.control.store(), fixture.control.events());
    let id = store.create(home, device("a"), &author()).unwrap().id;
    let next = Device {
        count: 5,
        ..device("a")
    };
    let by = Author::new(Actor::Credential(Uuid::from_u128(9)), at(3));
    store.replace(home, id, None, next, &by).unwrap();
    store.delete::<Device>(home, id, None, &author()).unwrap();
    let rejected = NewEvent {
        organization: home,
        kind: "ingest.rejected".into(),
        resource: None,
        data: serde_json::json!({"count": 3}),
    };
    let sequence = events.append(&rejected, &author()).unwrap();
    let all = events.after(home, &EventFilter::default(), 0, 10).unwrap();
    let kinds: Vec<_> = all.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "device.created",
            "device.updated",
            "device.deleted",
            "ingest.rejected"
        ]
    );
    let updated = &all[1];
    let change = updated.change.as_ref().unwrap();
    assert_eq!((change.before, change.after), (Some(1), Some(2)));
    assert_eq!(change.members, ["count"]);
    assert_eq!((updated.actor, updated.at), (by.actor, at(3)));
    assert_eq!(updated.resource.as_ref().unwrap().id, id.to_string());
    assert_eq!(updated.data, serde_json::json!({"name": "a"}));
    assert_eq!(all[3].sequence, sequence);
    assert_eq!(events.get(home, sequence).unwrap().unwrap(), all[3]);
    let audit = EventFilter {
        audit_only: true,
        ..EventFilter::default()
    };
    let (newest, cursor) = events.newest(home, &audit, None, 2).unwrap();
    assert_eq!(
        newest
            .iter()
            .map(|event| event.sequence)
            .collect::<Vec<_>>(),
        [all[2].sequence, all[1].sequence]
    );
    let (rest, end) = events.newest(home, &audit, cursor.as_ref(), 2).unwrap();
    assert_eq!((rest.as_slice(), end), (&all[..1], None));
    let late = EventFilter {
        from: Some(at(3)),
        ..EventFilter::default()
    };
    // The deletion, which is later, carries no earlier time; the event that is no change carries its own.
    assert_eq!(events.after(home, &late, 0, 10).unwrap(), all[1..3]);
}

#[test]
fn events_are_pruned_per_organization() {
    let fixture = Fixture::with(Settings {
        change_events_max: 5,
        ..settings()
    });
    let (acme, other) = (fixture.organization("acme"), fixture.organization("other"));
    let store = fixture.control.store();
    store.create(other, device("a"), &author()).unwrap();
    for number in 0..12 {
        store
            .create(acme, device(&number.to_string()), &author())
            .unwrap();
    }
    let events = fixture.control.events();
    let kept = events.after(acme, &EventFilter::default(), 0, 100).unwrap();
    let names: Vec<_> = kept
        .iter()
        .map(|event| event.data["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["7", "8", "9", "10", "11"]);
    assert_eq!(
        events
            .after(other, &EventFilter::default(), 0, 100)
            .unwrap()
            .len(),
        1
    );
}

fn rejected(home: OrganizationId, kind: &str) -> NewEvent {
    NewEvent {
        organization: home,
        kind: kind.to_owned(),
        resource: None,
        data: serde_json::json!({"request_id": "first"}),
    }
}

#[test]
fn a_noisy_client_cannot_push_the_audit_trail_out() {
    let fixture = Fixture::with(Settings {
        change_events_max: 4,
        other_events_max: 3,
        ..settings()
    });
    let home = fixture.organization("acme");
    let (store, events) = (fixture.control.store(), fixture.control.events());
    for name in ["a", "b"] {
        store.create(home, device(name), &author()).unwrap();
    }
    for _ in 0..50 {
        events
            .append(&rejected(home, "ingest.rejected"), &author())
            .unwrap();
    }
    for number in 0..3 {
        let name = number.to_string();
        store.create(home, device(&name), &author()).unwrap();
    }
    let all = events.after(home, &EventFilter::default(), 0, 100).unwrap();
    let sequences: Vec<_> = all.iter().map(|event| event.sequence).collect();
    // Of both classes the newest, and no number is used twice.
    assert_eq!(sequences, [2, 50, 51, 52, 53, 54, 55]);
    let audit = EventFilter {
        audit_only: true,
        ..EventFilter::default()
    };
    assert_eq!(events.after(home, &audit, 0, 100).unwrap().len(), 4);
}

#[test]
fn counted_events_add_up_within_their_minute() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let events = fixture.control.events();
    let by = |credential, seconds| {
        Author::new(Actor::Credential(Uuid::from_u128(credential)), at(seconds))
    };
    let count = |kind: &str, request: &str, by: Author, rejected_rows| {
        let mut event = rejected(home, kind);
        event.data = serde_json::json!({"request_id": request});
        let counts = [("requests", 1), ("rejected", rejected_rows)];
        events.append_counted(&event, &counts, &by).unwrap()
    };
    let first = count("ingest.rejected", "r1", by(1, 0), 7);
    // The requests of a minute may finish in any order.
    for (request, seconds) in [("r2", 59), ("r3", 3)] {
        assert_eq!(count("ingest.rejected", request, by(1, seconds), 10), first);
    }
    for (kind, other) in [
        ("ingest.rejected", by(2, 1)),
        ("ingest.rejected", by(1, 60)),
        ("ingest.conflict", by(1, 1)),
    ] {
        assert_ne!(count(kind, "other", other, 1), first);
    }
    let all = events.after(home, &EventFilter::default(), 0, 100).unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(
        all[0].data,
        serde_json::json!({"request_id": "r1", "requests": 3, "rejected": 27})
    );
    assert_eq!((all[0].at, all[0].change.as_ref()), (at(0), None));
    assert_eq!(all[1].data["rejected"], 1);
    // The sum stops at its bound rather than to begin again.
    assert_eq!(count("ingest.rejected", "r4", by(1, 4), u64::MAX), first);
    let summed = events.get(home, first).unwrap().unwrap();
    assert_eq!(summed.data["rejected"], u64::MAX);
    let mut bare = rejected(home, "x");
    bare.data = serde_json::json!(1);
    assert_eq!(
        code(events.append_counted(&bare, &[], &author())),
        Code::Internal
    );
}

#[test]
fn the_number_of_an_event_tells_nothing_of_other_organizations() {
    let fixture = Fixture::new();
    let (acme, other) = (fixture.organization("acme"), fixture.organization("other"));
    let (store, events) = (fixture.control.store(), fixture.control.events());
    for number in 0..5 {
        store
            .create(other, device(&number.to_string()), &author())
            .unwrap();
    }
    store.create(acme, device("a"), &author()).unwrap();
    let numbers = |home| -> Vec<_> {
        let all = events.after(home, &EventFilter::default(), 0, 100).unwrap();
        all.iter().map(|event| event.sequence).collect()
    };
    assert_eq!(numbers(acme), [1]);
    assert_eq!(numbers(other), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(crate::SERVER), [1, 2]);
}

#[test]
fn events_of_a_rare_type_are_found_by_index() {
    let fixture = Fixture::new();
    let rare = EventFilter {
        kind: Some("meter.deleted"),
        ..EventFilter::default()
    };
    let audit = EventFilter {
        audit_only: true,
        ..EventFilter::default()
    };
    let member = |member| [(member, "7")];
    let [account, notification, code] = EventMember::ALL.map(member);
    let of_members = [
        (&account, "events_by_account"),
        (&notification, "events_by_notification"),
        (&code, "events_by_notification_code"),
    ]
    .map(|(members, index)| {
        let filter = EventFilter {
            kind_prefix: Some("meter."),
            members,
            ..rare
        };
        (filter, index)
    });
    for direction in [Direction::NewestFirst, Direction::OldestFirst] {
        let of_members = of_members.iter().map(|(filter, index)| (filter, *index));
        for (filter, index) in
            of_members.chain([(&rare, "events_by_type"), (&audit, "events_by_class")])
        {
            let statement = select_statement(direction, filter);
            let plan: Vec<String> = fixture
                .control
                .database
                .read(|sql| {
                    let mut plan = sql
                        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                        .unwrap();
                    let steps = plan.raw_query().mapped(|row| row.get(3));
                    Ok(steps.collect::<Result<_, _>>().unwrap())
                })
                .unwrap();
            assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
            assert!(plan[0].contains(&format!("{index} ")), "{plan:?}");
        }
    }
}

#[test]
fn a_long_listing_does_not_hold_up_other_readers() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let (done, answers) = std::sync::mpsc::channel();
    fixture
        .control
        .database
        .read(|_| {
            let events = fixture.control.events().clone();
            for _ in 0..3 {
                let (events, done) = (events.clone(), done.clone());
                std::thread::spawn(move || {
                    let listed = events.after(home, &EventFilter::default(), 0, 1);
                    done.send(listed.is_ok()).unwrap();
                });
            }
            for _ in 0..3 {
                let answer = answers.recv_timeout(std::time::Duration::from_secs(10));
                assert_eq!(answer, Ok(true), "a reader waits for another");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn numbers_follow_each_other() {
    let fixture = Fixture::new();
    let (acme, other) = (fixture.organization("acme"), fixture.organization("other"));
    let take = |fixture: &Fixture, home| {
        let store = fixture.control.store();
        store
            .write(&author(), |writes| writes.next_number(home, "asset"))
            .unwrap()
    };
    assert_eq!(
        [
            take(&fixture, acme),
            take(&fixture, acme),
            take(&fixture, other)
        ],
        [1, 2, 1]
    );
    let fixture = fixture.reopened();
    assert_eq!(take(&fixture, acme), 3);
}

#[test]
fn resources_and_documents_are_bounded() {
    let fixture = Fixture::with(Settings {
        resources_max: 3,
        ..settings()
    });
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let too_long = Device {
        status: "x".repeat(crate::DOCUMENT_BYTES_MAX),
        ..device("a")
    };
    assert_eq!(
        code(store.create(home, too_long, &author())),
        Code::BodyTooLarge
    );
    let burst = store.write(&author(), |writes| {
        (0..4).try_for_each(|n| writes.create(home, device(&n.to_string())).map(drop))
    });
    assert_eq!(code(burst), Code::Invalid);
    for number in 0..3 {
        store
            .create(home, device(&number.to_string()), &author())
            .unwrap();
    }
    let refused = store.create(home, device("3"), &author()).unwrap_err();
    let problem = meterd_fault::Problem::body(
        "",
        meterd_fault::Rule::Other {
            code: "organization_full",
            text: "does not fit: an organization's configuration has at most 3 items".into(),
        },
    );
    let problems = vec![problem];
    assert_eq!(*refused.kind, Kind::Invalid { problems });
}

#[test]
fn the_bytes_of_an_organization_are_bounded() {
    let sized = |name: &str, status_bytes| Device {
        status: "x".repeat(status_bytes),
        ..device(name)
    };
    let document = |name: &str, status_bytes| {
        let json = serde_json::to_string(&sized(name, status_bytes));
        json.unwrap().len()
    };
    // Room for two with a status of 100 bytes.
    let max = 2 * document("a", 100);
    let bounded = |settings| Settings {
        resource_bytes_max: max,
        ..settings
    };
    let fixture = Fixture::with(bounded(settings()));
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let other = fixture.organization("other");
    store.create(other, sized("a", 100), &author()).unwrap();
    let a = store.create(home, sized("a", 100), &author()).unwrap().id;
    let full = store.create(home, sized("b", 101), &author());
    assert_eq!(code(full), Code::Invalid);
    let b = store.create(home, sized("b", 100), &author()).unwrap().id;
    let longer = store.replace(home, a, None, sized("a", 101), &author());
    assert_eq!(code(longer), Code::Invalid);
    // A transaction counts what it adds and takes away itself; one that fails counts nothing.
    store
        .write(&author(), |writes| {
            writes.delete::<Device>(home, b, None)?;
            writes.update(home, a, None, |_| Ok(sized("a", 150)))?;
            writes.create(home, sized("c", 50))
        })
        .unwrap();
    let failed = store.write(&author(), |writes| {
        writes.update(home, a, None, |_| Ok(sized("a", 0)))?;
        writes.create(home, sized("d", 200))
    });
    assert_eq!(code(failed), Code::Invalid);
    // What does not fit is not counted, so that what is smaller still does.
    store
        .write(&author(), |writes| {
            writes.delete::<Device>(home, a, None)?;
            let full = writes.create(home, sized("d", 200)).unwrap_err();
            assert!(crate::is_full(&full));
            writes.create(home, sized("d", 150)).map(drop)?;
            Err::<(), _>(Fault::internal("enough"))
        })
        .unwrap_err();
    // The same after a restart, and what is past a bound that was lowered can be made smaller.
    let fixture = fixture.reopened_with(bounded(settings()));
    let store = fixture.control.store();
    let longer = store.replace(home, a, None, sized("a", 151), &author());
    assert_eq!(code(longer), Code::Invalid);
    let fixture = fixture.reopened_with(Settings {
        resource_bytes_max: 10,
        ..settings()
    });
    let store = fixture.control.store();
    store
        .replace(home, a, None, sized("a", 149), &author())
        .unwrap();
    store.delete::<Device>(home, a, None, &author()).unwrap();
    assert_eq!(
        code(store.create(home, device("e"), &author())),
        Code::Invalid
    );
}

#[test]
fn what_is_written_later_never_carries_an_earlier_time() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let made_at = |name, seconds| {
        let made = store.create(home, device(name), &Author::system(at(seconds)));
        made.unwrap().created_at
    };
    assert_eq!(made_at("a", 1_000), at(1_000));
    // Its request came before, and waited.
    assert_eq!(made_at("b", 970), at(1_000));
    let events = fixture.control.events();
    let (last, _) = events
        .newest(home, &EventFilter::default(), None, 1)
        .unwrap();
    assert_eq!(last[0].at, at(1_000));
    assert_eq!(made_at("c", 1_001), at(1_001));
    // No request waits for an hour: the clock was set back.
    assert_eq!(made_at("d", -2_599), at(-2_599));
    assert_eq!(made_at("e", -2_598), at(-2_598));
}

#[test]
fn what_is_written_after_a_restart_carries_no_earlier_time() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let made_at = |fixture: &Fixture, name, seconds| {
        let store = fixture.control.store();
        let made = store.create(home, device(name), &Author::system(at(seconds)));
        made.unwrap().created_at
    };
    assert_eq!(made_at(&fixture, "a", 1_000), at(1_000));
    let fixture = fixture.reopened();
    assert_eq!(made_at(&fixture, "b", 900), at(1_000));
}

#[test]
fn organizations_are_checked_and_unique() {
    let fixture = Fixture::new();
    let store = fixture.control.store();
    let id = fixture.organization("acme");
    assert_eq!(
        store
            .organization_by_name("acme")
            .unwrap()
            .organization_id(),
        id
    );
    assert_eq!(store.organization(id).unwrap().document.timezone, "UTC");
    assert_eq!(
        store
            .list_organizations(&List::default())
            .unwrap()
            .items
            .len(),
        1
    );
    let again = store.create_organization(Organization::named("acme"), &author());
    assert_eq!(code(again), Code::ResourceExists);
    for bad in ["", "Acme", "a b", "-a", "é", &"a".repeat(65)] {
        let new = store.create_organization(Organization::named(bad), &author());
        assert_eq!(code(new), Code::Invalid, "{bad}");
    }
    let fixed = OrganizationId(Uuid::from_u128(77));
    let organization = Organization::named("fixed");
    store
        .create_organization_as(fixed, organization.clone(), &author())
        .unwrap();
    let again = store.create_organization_as(fixed, Organization::named("other"), &author());
    assert_eq!(code(again), Code::ResourceExists);
    let berlin = Organization {
        timezone: "Europe/Berlin".into(),
        ..organization
    };
    let updated = store
        .update_organization(fixed, Some(1), berlin, &author())
        .unwrap();
    assert_eq!(updated.version, 2);
}

#[test]
fn an_unregistered_type_is_a_fault_of_ours() {
    let fixture = Fixture::with(Settings::default());
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    assert_eq!(
        code(store.create(home, device("a"), &author())),
        Code::Internal
    );
    assert_eq!(
        code(store.list::<Device>(home, &List::default())),
        Code::Internal
    );
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Create {
        home: usize,
        name: u8,
        count: u64,
    },
    Rename {
        home: usize,
        name: u8,
        to: u8,
        count: u64,
    },
    Delete {
        home: usize,
        name: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..2_usize, 0..6_u8, 0..4_u64).prop_map(|(home, name, count)| Step::Create {
            home,
            name,
            count
        }),
        (0..2_usize, 0..6_u8, 0..6_u8, 0..4_u64).prop_map(|(home, name, to, count)| Step::Rename {
            home,
            name,
            to,
            count
        }),
        (0..2_usize, 0..6_u8).prop_map(|(home, name)| Step::Delete { home, name }),
    ];
    prop::collection::vec(step, 1..40)
}

/// By organization and name: count and version.
type Model = BTreeMap<(usize, String), (u64, u64)>;

fn step_both(fixture: &Fixture, homes: &[OrganizationId], model: &mut Model, step: &Step) {
    let store = fixture.control.store();
    let name_of = |name: u8| format!("d{name}");
    match *step {
        Step::Create { home, name, count } => {
            let new = Device {
                count,
                ..device(&name_of(name))
            };
            let created = store.create(homes[home], new, &author()).is_ok();
            let is_free = !model.contains_key(&(home, name_of(name)));
            assert_eq!(created, is_free);
            model.entry((home, name_of(name))).or_insert((count, 1));
        }
        Step::Rename {
            home,
            name,
            to,
            count,
        } => {
            let found = store
                .find_by_key::<Device>(homes[home], "name", &name_of(name))
                .unwrap();
            let Some(found) = found else {
                assert!(!model.contains_key(&(home, name_of(name))));
                return;
            };
            let next = Device {
                count,
                ..device(&name_of(to))
            };
            let version = Some(found.version);
            let renamed = store
                .replace(homes[home], found.id, version, next, &author())
                .is_ok();
            assert_eq!(
                renamed,
                name == to || !model.contains_key(&(home, name_of(to)))
            );
            if renamed {
                model.remove(&(home, name_of(name)));
                model.insert((home, name_of(to)), (count, found.version + 1));
            }
        }
        Step::Delete { home, name } => {
            let found = store
                .find_by_key::<Device>(homes[home], "name", &name_of(name))
                .unwrap();
            let deleted = found.is_some_and(|found| {
                store
                    .delete::<Device>(homes[home], found.id, None, &author())
                    .is_ok()
            });
            assert_eq!(deleted, model.remove(&(home, name_of(name))).is_some());
        }
    }
}

fn assert_same(fixture: &Fixture, homes: &[OrganizationId], model: &Model) {
    let mut seen = Model::new();
    for (home, organization) in homes.iter().enumerate() {
        for parity in ["0", "1"] {
            let list = List {
                filters: &[("parity", parity)],
                ..List::default()
            };
            let page = fixture
                .control
                .store()
                .list::<Device>(*organization, &list)
                .unwrap();
            for item in page.items {
                let key = (home, item.document.name.clone());
                assert_eq!((item.document.count % 2).to_string(), parity);
                assert_eq!(seen.insert(key, (item.document.count, item.version)), None);
            }
        }
    }
    assert_eq!(&seen, model);
    assert!(fixture.control.verify().unwrap().is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agrees_with_a_map_before_and_after_a_crash(steps in steps()) {
        let fixture = Fixture::new();
        let homes = [fixture.organization("acme"), fixture.organization("other")];
        let mut model = Model::new();
        for step in &steps {
            step_both(&fixture, &homes, &mut model, step);
        }
        assert_same(&fixture, &homes, &model);
        assert_same(&fixture.reopened(), &homes, &model);
    }
}
