//! Readings at random, back-dated, equal, repeated and at once, against a list and plain loops (5.3, 5.4).

use crate::server::refused;
use crate::statuses::Dice;
use crate::world::World;
use meterd_surface_fsm_navigator::{Amount, NewReset, apply_reset};
use meterd_testkit::client::Answer;
use meterd_testkit::system;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What one meter has, in the order it came.
struct Oracle {
    initial: i64,
    threshold: i64,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Place in time, then in the order of arrival.
    at: (i64, usize),
    value: i64,
    is_reset: bool,
}

/// Status of the answer, the value before, what the meter is at, whether the threshold was reached.
#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    before: i64,
    current: i64,
    crosses: bool,
}

impl Told {
    #[track_caller]
    fn by(answer: &Answer) -> Self {
        let body = answer.json();
        let reading = &body["meter_reading"];
        Self {
            status: answer.status,
            before: reading["previous_value"].as_i64().unwrap(),
            current: body["meter"]["current_reading"].as_i64().unwrap(),
            crosses: body["threshold"]["crossed"] == true,
        }
    }
}

impl Oracle {
    fn sorted(&self) -> Vec<Entry> {
        let mut sorted = self.entries.clone();
        sorted.sort_by_key(|entry| entry.at);
        sorted
    }

    fn current(&self) -> i64 {
        self.sorted()
            .last()
            .map_or(self.initial, |entry| entry.value)
    }

    fn before(&self, at: (i64, usize)) -> i64 {
        let sorted = self.sorted();
        let before = sorted.iter().rfind(|entry| entry.at < at);
        before.map_or(self.initial, |entry| entry.value)
    }

    /// Whether a value is above the reading after it.
    fn is_too_high(&self, time: i64, value: i64) -> bool {
        let sorted = self.sorted();
        let after = sorted.iter().find(|entry| entry.at.0 > time);
        after.is_some_and(|after| !after.is_reset && value > after.value)
    }

    fn add(&mut self, time: i64, value: i64, is_reset: bool) {
        let at = (time, self.entries.len());
        self.entries.push(Entry {
            at,
            value,
            is_reset,
        });
    }

    /// `None`: refused.
    fn read(&mut self, time: i64, value: i64, reached: &mut Vec<(i64, i64)>) -> Option<Told> {
        let same = |e: &&Entry| e.at.0 == time && e.value == value && !e.is_reset;
        if let Some(known) = self.entries.iter().find(same) {
            return Some(Told {
                status: 200,
                before: self.before(known.at),
                current: self.current(),
                // Only the last that reached it is remembered.
                crosses: reached.last() == Some(&(time, value)),
            });
        }
        let before = self.before((time, usize::MAX));
        if value < before || self.is_too_high(time, value) {
            return None;
        }
        let is_last = self.entries.iter().all(|entry| entry.at.0 <= time);
        let crosses = is_last && before < self.threshold && self.threshold <= value;
        if crosses {
            reached.push((time, value));
        }
        self.add(time, value, false);
        Some(Told {
            status: 201,
            before,
            current: self.current(),
            crosses,
        })
    }
}

/// A second of the year 2026; resets have odd ones.
fn moment(time: i64) -> String {
    format!("2026-02-03T04:{:02}:{:02}Z", time / 60, time % 60)
}

#[test]
fn readings_go_between_their_neighbours() {
    for seed in 1..=6 {
        let world = World::start();
        let server = &world.server;
        let asset = world.asset();
        let mut dice = Dice::new(seed);
        let mut crossings = [Vec::new(), Vec::new()];
        let mut oracles: Vec<Oracle> = Vec::new();
        for name in ["First", "Second"] {
            let (initial, threshold) = (5, 25);
            world.meter(&asset, |new| {
                new.name = name.to_owned();
                new.initial_reading = Some(Amount::Integer(initial));
                new.threshold_value = Some(Amount::Integer(threshold));
                new.threshold_action = Some("create_job".to_owned());
            });
            oracles.push(Oracle {
                initial,
                threshold,
                entries: Vec::new(),
            });
        }
        for step in 0..220 {
            let meter = dice.roll(2);
            let oracle = &mut oracles[meter];
            match dice.roll(60) {
                0 => server.engine.seal().unwrap(),
                1 => {
                    let (time, base) = (dice.roll(20) * 2 + 1, dice.roll(20));
                    let (time, base) = (i64::try_from(time).unwrap(), i64::try_from(base).unwrap());
                    let is_known = oracle.entries.iter().any(|entry| entry.at.0 == time);
                    if is_known {
                        continue;
                    }
                    let reset = NewReset {
                        asset: "AST-000001".to_owned(),
                        meter: ["first", "SECOND"][meter].to_owned(),
                        at: moment(time),
                        base: Amount::Integer(base),
                    };
                    let applied = apply_reset(
                        &server.control,
                        &server.engine,
                        server.live(),
                        &reset,
                        &system(),
                    );
                    assert_eq!(applied.is_err(), oracle.is_too_high(time, base));
                    if applied.is_ok() {
                        oracle.add(time, base, true);
                    }
                }
                _ => {
                    let time = i64::try_from(dice.roll(20) * 2).unwrap();
                    // Near to what fits, so that many do.
                    let near = oracle.before((time, usize::MAX));
                    let value = near + i64::try_from(dice.roll(9)).unwrap() - 2;
                    let value = value.max(0);
                    let answer = world.read(
                        1,
                        u64::try_from(meter).unwrap() + 1,
                        &value.to_string(),
                        &moment(time),
                    );
                    let expected = oracle.read(time, value, &mut crossings[meter]);
                    let Some(expected) = expected else {
                        assert_eq!(refused(&answer).1, "validation_failed", "{seed} {step}");
                        continue;
                    };
                    assert_eq!(Told::by(&answer), expected, "{seed} {step}");
                    let reading = &answer.json()["meter_reading"];
                    assert_eq!(reading["reading_value"], value);
                    assert_eq!(reading["delta"], value - expected.before);
                }
            }
        }
        let jobs = crossings.iter().map(Vec::len).sum::<usize>();
        assert_eq!(server.get("/jobs")["pagination"]["total"], jobs);
        for (meter, oracle) in oracles.iter().enumerate() {
            let asset = server.get("/assets?id=1");
            let shown = &asset["asset"]["meters"][meter]["current_reading"];
            assert_eq!(*shown, oracle.current());
        }
    }
}

/// Readings at once are taken one by one: in the order of their numbers, each is told what the list says of it.
#[test]
fn readings_at_once_are_taken_one_by_one() {
    for round in 0..4 {
        let world = World::start();
        let asset = world.asset();
        let (initial, threshold) = (0, 25);
        let meter = world.meter(&asset, |new| {
            new.threshold_value = Some(Amount::Integer(threshold));
            new.threshold_action = Some("create_job".to_owned());
        });
        let read = |seed: u64| {
            let mut dice = Dice::new(100 * round + seed);
            let one = |_| {
                // Those of a later second are mostly higher, and some come twice.
                let time = i64::try_from(dice.roll(8)).unwrap();
                let value = 4 * time + i64::try_from(dice.roll(6)).unwrap();
                let answer = world.read(1, meter, &value.to_string(), &moment(time));
                (time, value, answer)
            };
            (0..20).map(one).collect::<Vec<_>>()
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || read(seed))).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.flatten().collect()
        });
        let mut made = BTreeMap::new();
        for (time, value, answer) in &answers {
            match answer.status {
                200 => {}
                201 => {
                    let number = answer.json()["meter_reading"]["reading_id"].as_u64();
                    made.insert(number.unwrap(), (*time, *value, Told::by(answer)));
                }
                _ => assert_eq!(refused(answer).1, "validation_failed"),
            }
        }
        let mut oracle = Oracle {
            initial,
            threshold,
            entries: Vec::new(),
        };
        let mut reached = Vec::new();
        for (time, value, told) in made.values() {
            let expected = oracle.read(*time, *value, &mut reached);
            assert_eq!(Some(told), expected.as_ref(), "{round}: {time} {value}");
        }
        assert_eq!(world.current(1), oracle.current());
        let jobs = world.server.get("/jobs");
        assert_eq!(jobs["pagination"]["total"], reached.len());
    }
}

#[test]
fn the_same_reading_many_times_at_once_is_stored_once() {
    let world = World::start();
    let meter = world.meter(&world.asset(), |_| {});
    let read = || world.read(1, meter, "7", "2026-01-01T00:00:00Z");
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(read)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers
            .map(|answer| json!([answer.status, answer.json()["meter_reading"]]))
            .collect()
    });
    let made = answers.iter().filter(|answer| answer[0] == 201).count();
    assert_eq!(made, 1);
    for answer in &answers {
        assert_eq!(answer[1], answers[0][1]);
    }
}
