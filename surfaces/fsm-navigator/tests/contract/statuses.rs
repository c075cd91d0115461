//! State machines, walked at random against the tables as they stand in the original's documents and in ours (5.1, 5.2).

use crate::server::{refusal, refused};
use crate::world::{World, id};
use meterd_control::EventFilter;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A status, and what may follow it.
type Row = (&'static str, &'static [&'static str]);

const JOBS: [Row; 9] = [
    (
        "Pending",
        &[
            "Assigned",
            "In-Transit",
            "In Progress",
            "On Hold",
            "Cancelled",
            "Declined",
        ],
    ),
    (
        "Assigned",
        &[
            "Pending",
            "In-Transit",
            "In Progress",
            "On Hold",
            "Cancelled",
            "Declined",
        ],
    ),
    (
        "In-Transit",
        &[
            "Assigned",
            "Arrived",
            "In Progress",
            "On Hold",
            "Cancelled",
            "Declined",
        ],
    ),
    (
        "Arrived",
        &["In Progress", "On Hold", "Cancelled", "Declined"],
    ),
    ("In Progress", &["On Hold", "Completed", "Cancelled"]),
    (
        "On Hold",
        &["Assigned", "In-Transit", "In Progress", "Cancelled"],
    ),
    ("Completed", &[]),
    ("Cancelled", &[]),
    ("Declined", &[]),
];

const ASSETS: [Row; 9] = [
    (
        "Active",
        &[
            "Idle",
            "In Maintenance",
            "Decommissioned",
            "Lost",
            "In Transit",
            "Non-Compliant",
        ],
    ),
    (
        "Idle",
        &[
            "Active",
            "In Maintenance",
            "Decommissioned",
            "Retired",
            "In Transit",
            "Pending Install",
        ],
    ),
    (
        "In Maintenance",
        &["Active", "Idle", "Decommissioned", "Retired"],
    ),
    (
        "Pending Install",
        &[
            "Active",
            "Idle",
            "In Maintenance",
            "In Transit",
            "Decommissioned",
        ],
    ),
    (
        "In Transit",
        &[
            "Active",
            "Idle",
            "Pending Install",
            "In Maintenance",
            "Lost",
        ],
    ),
    ("Lost", &["Active", "Idle", "Decommissioned", "Retired"]),
    (
        "Non-Compliant",
        &[
            "Active",
            "Idle",
            "In Maintenance",
            "Decommissioned",
            "Retired",
        ],
    ),
    ("Decommissioned", &[]),
    ("Retired", &[]),
];

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Walks from the thing at `path`, which has the table's first status, until nothing leads on or the steps are used up.
pub(crate) fn walk(world: &World, path: &str, member: &str, table: &[Row], dice: &mut Dice) {
    let table: BTreeMap<_, _> = table.iter().copied().collect();
    let words: Vec<_> = table.keys().copied().collect();
    let thing = |mut answer: Value| {
        let mut thing = answer["data"].take();
        // Only an asset that is asked for has them.
        thing.as_object_mut().unwrap().remove("meters");
        thing
    };
    let mut now = thing(world.server.get(path));
    for _ in 0..40 {
        let from = now[member].as_str().unwrap().to_owned();
        let to = words[dice.roll(words.len())];
        let answer = world.server.ask("PATCH", path, Some(&json!({member: to})));
        if table[from.as_str()].contains(&to) {
            now = thing(answer.expect(200));
            assert_eq!(now[member], to);
        } else {
            let message = format!("Cannot change status from \"{from}\" to \"{to}\".");
            let expected = refusal(400, "invalid_status_transition", &message);
            assert_eq!(refused(&answer), expected);
            // Nothing of it is changed, the time of the last change neither.
            assert_eq!(thing(world.server.get(path)), now);
        }
    }
}

#[test]
fn jobs_follow_their_table() {
    let world = World::start();
    let mut dice = Dice::new(1);
    for _ in 0..12 {
        let path = format!("/jobs?id={}", id(&world.job()));
        walk(&world, &path, "job_status", &JOBS, &mut dice);
    }
}

#[test]
fn assets_follow_their_table() {
    let world = World::start();
    let mut dice = Dice::new(2);
    for n in 0..12 {
        let status = ["Active", "Pending Install"][n % 2];
        let asset = json!({"asset_name": "Pump", "status": status});
        let path = format!("/assets?id={}", id(&world.server.post("/assets", &asset)));
        walk(&world, &path, "status", &ASSETS, &mut dice);
    }
}

/// What is changed at once is changed one by one: each change begins where the one before led to, as the table allows.
fn change_at_once(world: &World, path: &str, [member, reason]: [&str; 2], table: &[Row]) {
    let words: Vec<_> = table.iter().map(|(word, _)| *word).collect();
    let walk = |seed: u64| {
        let mut dice = Dice::new(seed);
        let change = |_| {
            let to = words[dice.roll(words.len())];
            let body = json!({member: to, reason: "at once"});
            let answer = world.server.ask("PATCH", path, Some(&body));
            if answer.status != 200 {
                assert_eq!(refused(&answer).1, "invalid_status_transition");
            }
            usize::from(answer.status == 200)
        };
        (0..12).map(change).sum::<usize>()
    };
    let (events, acme) = (world.server.control.events(), world.server.acme);
    let (newest, _) = events
        .newest(acme, &EventFilter::default(), None, 1)
        .unwrap();
    let mut now = world.server.get(path)["data"][member].clone();
    let told = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4)
            .map(|seed| scope.spawn(move || walk(seed)))
            .collect();
        let told = threads.into_iter().map(|thread| thread.join().unwrap());
        told.sum::<usize>()
    });
    let events = events.after(acme, &EventFilter::default(), newest[0].sequence, 1_000);
    let changes: Vec<_> = (events.unwrap().into_iter())
        .filter(|event| event.kind.ends_with(".status_reason"))
        .collect();
    assert_eq!(changes.len(), told);
    let table: BTreeMap<_, _> = table.iter().copied().collect();
    for change in changes {
        assert_eq!(change.data["from"], now);
        let (from, to) = (now.as_str().unwrap(), change.data["to"].as_str().unwrap());
        assert!(table[from].contains(&to), "{from} {to}");
        now = change.data["to"].clone();
    }
    assert_eq!(world.server.get(path)["data"][member], now);
}

#[test]
fn what_is_changed_at_once_follows_its_table() {
    let world = World::start();
    for _ in 0..6 {
        let job = format!("/jobs?id={}", id(&world.job()));
        change_at_once(&world, &job, ["job_status", "notes"], &JOBS);
        let asset = format!("/assets?id={}", id(&world.asset()));
        change_at_once(&world, &asset, ["status", "reason"], &ASSETS);
    }
}

/// Of all that want to end one job at once, one does.
#[test]
fn one_change_at_a_time_leads_on() {
    let world = World::start();
    for _ in 0..5 {
        let path = format!("/jobs?id={}", id(&world.job()));
        let change = |n: usize| {
            let to = ["Cancelled", "Declined"][n % 2];
            let method = ["PATCH", "PUT"][n / 2 % 2];
            let body = json!({"job_status": to});
            (to, world.server.ask(method, &path, Some(&body)))
        };
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || change(n))).collect();
            let answers = threads.into_iter().map(|t| t.join().unwrap());
            answers.collect::<Vec<_>>()
        });
        let end = world.server.get(&path)["job"]["job_status"].clone();
        for (to, answer) in answers {
            // Who asks by PUT for what it is already has nothing to change.
            if answer.status == 200 {
                assert_eq!(end, to);
            } else {
                assert_eq!(refused(&answer).1, "invalid_status_transition");
            }
        }
    }
}
