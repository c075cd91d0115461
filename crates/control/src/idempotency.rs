//! Answers kept by Idempotency-Key, so that a repeated request gets the first one's answer instead of a second effect.
//!
//! Keys belong to a credential. Finished answers are in the database for 24 hours; requests in progress are in memory,
//! so a restart frees their keys. Successes (2xx) are kept and nothing else: a request that failed changed nothing, so
//! its key is abandoned and the next request with it is the first again. These calls read and write the database, so
//! they block.

use crate::database::{Database, doing};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_model::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long an answer is kept.
pub const ANSWER_KEPT: Duration = Duration::from_hours(24);
/// Longest Idempotency-Key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Largest body that is kept, in bytes.
pub const ANSWER_BODY_BYTES_MAX: usize = 1024 * 1024;
pub const ANSWER_HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Most answers kept per credential; the oldest give way.
pub const ANSWERS_MAX: u64 = 10_000;
/// Most requests in progress over the whole server.
pub const IN_PROGRESS_MAX: usize = 10_000;
const IN_PROGRESS_RETRY: Duration = Duration::from_secs(5);

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names and values in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What to do with a request that carries a key.
#[derive(Debug)]
pub enum Begin {
    /// Do it, then complete (a success) or abandon (a failure).
    Fresh(InProgress),
    /// It was done before; send this.
    Replay(Answer),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Idempotency {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Arc<Database>,
    /// Fingerprints of requests in progress.
    in_progress: Mutex<HashMap<Place, [u8; 32]>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    scope: Uuid,
    key: String,
}

impl Idempotency {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                in_progress: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// `scope` is the credential, `fingerprint` a hash of what makes the request the same one (method, route, body).
    /// `IdempotencyKeyReused` for another request under the same key, `IdempotencyInProgress` while the first runs.
    pub fn begin(
        &self,
        scope: Uuid,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
    ) -> Result<Begin, Fault> {
        check_key(key)?;
        let place = Place {
            scope,
            key: key.to_owned(),
        };
        self.enter(&place, fingerprint)?;
        // From here on dropping it frees the key again.
        let begun = InProgress {
            inner: Arc::clone(&self.inner),
            place,
            fingerprint,
        };
        let kept = self
            .inner
            .database
            .read(|sql| select(sql, &begun.place, now).map_err(doing("look up an answer")))?;
        match kept {
            None => Ok(Begin::Fresh(begun)),
            Some((of, _)) if of != fingerprint => Err(Kind::IdempotencyKeyReused.into()),
            Some((_, answer)) => Ok(Begin::Replay(answer?)),
        }
    }

    /// Forgets answers that are older than 24 hours. Returns how many.
    pub fn sweep(&self, now: Timestamp) -> Result<usize, Fault> {
        self.inner.database.write(|sql| {
            sql.execute(
                "DELETE FROM idempotency WHERE at <= ?1",
                [now.saturating_sub(ANSWER_KEPT).micros()],
            )
            .map_err(doing("delete old answers"))
        })
    }

    fn enter(&self, place: &Place, fingerprint: [u8; 32]) -> Result<(), Fault> {
        let mut in_progress = self.inner.in_progress.lock();
        if let Some(running) = in_progress.get(place) {
            return Err(if *running == fingerprint {
                Kind::IdempotencyInProgress {
                    retry_after: IN_PROGRESS_RETRY,
                }
            } else {
                Kind::IdempotencyKeyReused
            }
            .into());
        }
        if in_progress.len() >= IN_PROGRESS_MAX {
            return Err(Fault::new(Kind::Overloaded {
                retry_after: IN_PROGRESS_RETRY,
            })
            .with_context("too many idempotent requests in progress"));
        }
        in_progress.insert(place.clone(), fingerprint);
        Ok(())
    }
}

/// A key whose request is being carried out. Dropping it abandons the key.
#[derive(Debug)]
pub struct InProgress {
    inner: Arc<Inner>,
    place: Place,
    fingerprint: [u8; 32],
}

impl InProgress {
    /// Keeps the answer, a success, for repeats. Returns false, and keeps nothing, if it is too large to keep: a repeat will then
    /// be carried out again.
    pub fn complete(self, answer: &Answer, now: Timestamp) -> Result<bool, Fault> {
        let headers = serde_json::to_string(&answer.headers)
            .map_err(|e| Fault::internal(format!("write headers: {e}")))?;
        if answer.body.len() > ANSWER_BODY_BYTES_MAX || headers.len() > ANSWER_HEADERS_BYTES_MAX {
            return Ok(false);
        }
        self.inner.database.write(|sql| {
            insert(sql, &self, answer, &headers, now).map_err(doing("keep an answer"))
        })?;
        Ok(true)
    }

    /// Frees the key: the next request with it is carried out.
    pub fn abandon(self) {
        drop(self);
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.inner.in_progress.lock().remove(&self.place);
    }
}

fn check_key(key: &str) -> Result<(), Fault> {
    let is_key = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|b| (b' '..=b'~').contains(&b));
    if is_key {
        return Ok(());
    }
    let rule = Rule::Length {
        min: 1,
        max: IDEMPOTENCY_KEY_BYTES_MAX as u64,
    };
    Err(Fault::invalid(Problem::header("Idempotency-Key", rule)))
}

type Kept = ([u8; 32], Result<Answer, Fault>);

fn select(
    sql: &Connection,
    place: &Place,
    now: Timestamp,
) -> Result<Option<Kept>, rusqlite::Error> {
    sql.prepare_cached(
        "SELECT fingerprint, status, headers, body FROM idempotency WHERE scope = ?1 AND key = ?2 AND at > ?3",
    )?
    .query_row(
        params![place.scope, place.key, now.saturating_sub(ANSWER_KEPT).micros()],
        |row| {
            let headers: String = row.get(2)?;
            let (status, body) = (row.get(1)?, row.get(3)?);
            let answer = serde_json::from_str(&headers)
                .map(|headers| Answer {
                    status,
                    headers,
                    body,
                })
                .map_err(|e| Fault::internal(format!("read headers: {e}")));
            Ok((row.get(0)?, answer))
        },
    )
    .optional()
}

fn insert(
    sql: &Connection,
    begun: &InProgress,
    answer: &Answer,
    headers: &str,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    let scope = begun.place.scope;
    sql.prepare_cached(
        "INSERT OR REPLACE INTO idempotency (scope, key, fingerprint, at, status, headers, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        scope,
        begun.place.key,
        begun.fingerprint,
        now.micros(),
        answer.status,
        headers,
        answer.body,
    ])?;
    sql.prepare_cached("DELETE FROM idempotency WHERE scope = ?1 AND at <= ?2")?
        .execute(params![scope, now.saturating_sub(ANSWER_KEPT).micros()])?;
    let kept: u64 = sql
        .prepare_cached("SELECT count(*) FROM idempotency WHERE scope = ?1")?
        .query_row([scope], |row| row.get(0))?;
    sql.prepare_cached(
        "DELETE FROM idempotency WHERE scope = ?1 AND key IN \
         (SELECT key FROM idempotency WHERE scope = ?1 ORDER BY at LIMIT ?2)",
    )?
    .execute(params![scope, kept.saturating_sub(ANSWERS_MAX)])?;
    Ok(())
}
