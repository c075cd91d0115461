//! Repeated requests get the first one's answer.

use super::*;
use crate::{ANSWER_BODY_BYTES_MAX, ANSWERS_MAX, Answer, Begin, Idempotency, InProgress};
use meterd_fault::Kind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

const SCOPE: Uuid = Uuid::from_u128(1);
const DAY: i64 = 86_400;

fn answer(body: &str) -> Answer {
    Answer {
        status: 201,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.into(),
    }
}

fn fresh(keys: &Idempotency, key: &str, now: Timestamp) -> InProgress {
    match keys.begin(SCOPE, key, [1; 32], now).unwrap() {
        Begin::Fresh(permit) => permit,
        Begin::Replay(answer) => panic!("a replay of {answer:?}"),
    }
}

fn replayed(keys: &Idempotency, key: &str, now: Timestamp) -> Answer {
    match keys.begin(SCOPE, key, [1; 32], now).unwrap() {
        Begin::Fresh(_) => panic!("not kept"),
        Begin::Replay(answer) => answer,
    }
}

#[test]
fn an_answer_is_replayed_for_a_day_and_over_a_restart() {
    let fixture = Fixture::new();
    let keys = fixture.control.idempotency();
    assert!(
        fresh(keys, "k", at(0))
            .complete(&answer("one"), at(0))
            .unwrap()
    );
    assert_eq!(replayed(keys, "k", at(0)), answer("one"));
    let fixture = fixture.reopened();
    let keys = fixture.control.idempotency();
    assert_eq!(replayed(keys, "k", at(DAY - 1)), answer("one"));
    let reused = keys.begin(SCOPE, "k", [2; 32], at(1));
    assert_eq!(code(reused), Code::IdempotencyKeyReused);
    // Another credential's keys are others.
    assert!(matches!(
        keys.begin(Uuid::from_u128(2), "k", [2; 32], at(1)),
        Ok(Begin::Fresh(_))
    ));
    fresh(keys, "k", at(DAY))
        .complete(&answer("two"), at(DAY))
        .unwrap();
    assert_eq!(replayed(keys, "k", at(DAY)), answer("two"));
    assert_eq!(keys.sweep(at(3 * DAY)).unwrap(), 1);
}

#[test]
fn a_request_in_progress_holds_its_key_until_it_ends() {
    let fixture = Fixture::new();
    let keys = fixture.control.idempotency();
    let permit = fresh(keys, "k", at(0));
    let running = keys.begin(SCOPE, "k", [1; 32], at(0)).unwrap_err();
    assert_eq!(
        *running.kind,
        Kind::IdempotencyInProgress {
            retry_after: Duration::from_secs(5)
        }
    );
    assert_eq!(
        code(keys.begin(SCOPE, "k", [2; 32], at(0))),
        Code::IdempotencyKeyReused
    );
    // The failed attempts did not free the key.
    assert_eq!(
        code(keys.begin(SCOPE, "k", [1; 32], at(0))),
        Code::IdempotencyInProgress
    );
    permit.abandon();
    drop(fresh(keys, "k", at(0)));
    drop(fresh(keys, "k", at(0)));
}

#[test]
fn of_many_at_once_one_is_carried_out() {
    let fixture = Fixture::new();
    let keys = fixture.control.idempotency();
    let carried_out = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    match keys.begin(SCOPE, "k", [1; 32], at(0)) {
                        Ok(Begin::Fresh(permit)) => {
                            carried_out.fetch_add(1, Ordering::SeqCst);
                            permit.complete(&answer("one"), at(0)).unwrap();
                        }
                        Ok(Begin::Replay(kept)) => return assert_eq!(kept, answer("one")),
                        Err(fault) => {
                            assert_eq!(
                                Code::from(fault.kind.as_ref()),
                                Code::IdempotencyInProgress
                            );
                        }
                    }
                }
            });
        }
    });
    assert_eq!(carried_out.into_inner(), 1);
}

#[test]
fn keys_and_answers_are_bounded() {
    let fixture = Fixture::new();
    let keys = fixture.control.idempotency();
    for bad in ["", &"k".repeat(256), "a\nb", "é"] {
        assert_eq!(code(keys.begin(SCOPE, bad, [1; 32], at(0))), Code::Invalid);
    }
    let large = Answer {
        body: vec![0; ANSWER_BODY_BYTES_MAX + 1],
        ..answer("")
    };
    assert!(!fresh(keys, "k", at(0)).complete(&large, at(0)).unwrap());
    drop(fresh(keys, "k", at(0)));
    // As if that many had been kept; each through its own commit would take long.
    let sql = rusqlite::Connection::open(fixture.path()).unwrap();
    sql.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
         INSERT INTO idempotency SELECT ?2, 'old' || i, ?3, ?4 + i, 200, '[]', x'' FROM n",
        rusqlite::params![ANSWERS_MAX, SCOPE, [1_u8; 32], at(0).micros()],
    )
    .unwrap();
    fresh(keys, "k", at(60))
        .complete(&answer("one"), at(60))
        .unwrap();
    let kept: u64 = sql
        .query_row("SELECT count(*) FROM idempotency", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, ANSWERS_MAX);
    drop(fresh(keys, "old1", at(60)));
    assert_eq!(replayed(keys, "k", at(60)), answer("one"));
}
