//! Measurements: `POST /measurements` (5).
//!
//! The request is read as a whole, and refused as a whole if a row is malformed. Then each row meets its meter and its
//! account; accounts that nobody knows are made. What can be stored is stored, and what cannot goes on record, all of
//! it before the answer: so an answer that says accepted is never belied by a crash, and a repeat is harmless.

pub(crate) mod rows;
mod stage2;

use crate::access::{Allowed, Guarded, Upload};
use crate::account::{Account, Holder};
use crate::app::App;
use crate::failure::{self, FailedRow, FailureType};
use axum::extract::State;
use axum::http::HeaderMap;
use meterd_control::{Author, is_full};
use meterd_engine::{Batch, OnConflict, Verdict};
use meterd_fault::Fault;
use meterd_http::body::expect_json;
use meterd_http::{Context, Failure, LongWork, RawBody, Reply};
use meterd_model::{OrganizationId, Timestamp};
use rows::Row;
use serde::Serialize;
use stage2::{Known, failed_row, failure, look_up, sort};
use std::borrow::Cow;
use std::time::Duration;
use uuid::{NoContext, Uuid};

/// A request must have fewer than 512,000 bytes, inflated too (5.2).
pub(crate) const BODY_MAX_BYTES: u64 = 511_999;
/// Batches past this size are hashed away from the threads that serve connections.
const LARGE_BYTES: usize = 64 * 1024;

/// What uploads are done to, in the words of policies.
#[derive(Debug)]
pub(crate) struct Measurements;

impl Guarded for Measurements {
    const SERVICE: &'static str = "measurements";
    const WORD: &'static str = "measurements";
}

#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    result: &'static str,
}

/// Where rows come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) author: Author,
    /// Some of the rows may have been handed in before: what is stored already with equal content is done, and no
    /// repeat of the sender's.
    pub(crate) resumes: bool,
}

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredCounts {
    /// Those that are stored, some of them without a derived field.
    pub(crate) stored: u64,
    pub(crate) failed: u64,
}

/// `POST /measurements`
pub(crate) async fn submit_measurements(
    State(app): State<App>,
    context: Context,
    Allowed { access, .. }: Allowed<Upload, Measurements>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Reply<Accepted>, Failure> {
    expect_json(&headers)?;
    let source = Source {
        author: access.author(),
        resumes: false,
    };
    let (organization, now) = (access.organization, context.now);
    // A task of its own goes on when the client goes away, so that no row is stored without the record of its failure.
    // Half a megabyte is read in about a millisecond, for which no other thread is called.
    let done = tokio::spawn(async move {
        let rows = rows::read(&body.bytes, app.latest(now))?;
        store_rows(&app, organization, rows, &source, now).await
    });
    done.await.map_err(Fault::internal)??;
    Ok(Reply::ok(Accepted { result: "accepted" }))
}

impl App {
    /// The last time that a measurement may have (9, 13).
    pub(crate) fn latest(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(Duration::from_secs(self.settings.future_tolerance_seconds))
    }
}

/// Stores rows and puts on record those that cannot be. When this returns, all of it is durable and visible.
pub(crate) async fn store_rows(
    app: &App,
    organization: OrganizationId,
    mut rows: Vec<Row<'_>>,
    source: &Source,
    now: Timestamp,
) -> Result<StoredCounts, Fault> {
    let is_large = rows.iter().map(|row| row.text.len()).sum::<usize>() > LARGE_BYTES;
    let id_base = Uuid::new_v7(uuid::Timestamp::from_unix(
        NoContext,
        u64::try_from(now.seconds()).unwrap_or(0),
        u32::try_from(now.micros().rem_euclid(1_000_000)).unwrap_or(0) * 1_000,
    ));
    let sorted = sort(app, organization, &mut rows)?;
    let missing = sorted.missing();
    let found = if missing.is_empty() {
        Vec::new()
    } else {
        let author = source.author;
        app.blocking(move |app| make_accounts(app, organization, &author, &missing))
            .await?
    };
    let ready = if sorted.is_costly() {
        tokio::task::block_in_place(|| sorted.settle(&rows, found, id_base))?
    } else {
        sorted.settle(&rows, found, id_base)?
    };
    let mut failed = ready.failed;
    let mut counts = StoredCounts {
        stored: 0,
        failed: failed.len() as u64,
    };
    if !ready.measurements.is_empty() {
        let batch = Batch {
            organization,
            received: now,
            measurements: ready.measurements,
            on_conflict: OnConflict::Reject,
        };
        let receipt = app.submit(batch, is_large).await?;
        for (told, verdict) in ready.told.into_iter().zip(receipt.verdicts) {
            let is_stored = match verdict {
                Verdict::Accepted | Verdict::Replaced => true,
                Verdict::Duplicate => source.resumes,
                Verdict::Conflict => false,
            };
            let failures = if is_stored {
                counts.stored += 1;
                told.failures
            } else {
                counts.failed += 1;
                let days = app.settings.uid_window_days;
                let message = format!("the uid was ingested before, within the last {days} days");
                vec![failure(FailureType::DuplicateUid, message, None)]
            };
            if !failures.is_empty() {
                failed.push(failed_row(told.row, Some(told.account), failures));
            }
        }
    }
    if !failed.is_empty() {
        record(app, organization, failed, source, now).await?;
    }
    Ok(counts)
}

async fn record(
    app: &App,
    organization: OrganizationId,
    failed: Vec<FailedRow<'_>>,
    source: &Source,
    now: Timestamp,
) -> Result<(), Fault> {
    let failed: Vec<FailedRow<'static>> = failed
        .into_iter()
        .map(|row| FailedRow {
            text: Cow::Owned(row.text.into_owned()),
            failures: row.failures,
            uid: row.uid,
            account: row.account,
        })
        .collect();
    let author = source.author;
    app.blocking(move |app| failure::record(app, organization, &author, &failed, now))
        .await
}

/// Makes an account for each code, unless somebody else has made one meanwhile (5.4), or there is no room for it. In one
/// transaction, which no other can come between: so of many requests at a time that name a new code, one makes its
/// account.
fn make_accounts(
    app: &App,
    organization: OrganizationId,
    author: &Author,
    codes: &[String],
) -> Result<Vec<Known>, Fault> {
    app.write(organization, author, |writer| {
        let mut found = Vec::with_capacity(codes.len());
        for code in codes {
            // The codes are far enough from each other; only what others have made matters.
            let known = match look_up(app.control.store(), organization, code)? {
                Known::Missing(code) => {
                    let hash = Uuid::new_v4().simple().to_string();
                    let hash = hash.get(..16).unwrap_or_default();
                    let email = format!("{hash}-autocreated@example.com");
                    match writer.create(Account::skeleton(code, email)) {
                        Ok(made) => Known::Here(Holder::new(made)?),
                        Err(fault) if is_full(&fault) => Known::NoRoom,
                        Err(fault) => return Err(fault),
                    }
                }
                known => known,
            };
            found.push(known);
        }
        Ok(found)
    })
}
