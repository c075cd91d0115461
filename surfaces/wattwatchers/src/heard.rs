//! When each device was last heard, which changes with every record and so is kept in memory and written down now and
//! then. A crash forgets the last minute of it.

use crate::app::App;
use crate::serial::Serial;
use meterd_control::Author;
use meterd_fault::Fault;
use meterd_http::LongWork;
use meterd_model::{OrganizationId, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PAUSE: Duration = Duration::from_mins(1);

/// When a device was last heard at all, and when it last told its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) any: Option<Timestamp>,
    pub(crate) status: Option<Timestamp>,
}

/// Bounded by the number of devices, whose times alone it holds.
#[derive(Debug, Default)]
pub(crate) struct HeardBook {
    times: Mutex<HashMap<(OrganizationId, String), Noted>>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    at: Option<Timestamp>,
    is_written: bool,
}

fn any_mark(serial: &Serial) -> String {
    format!("wattwatchers/heard/{serial}")
}

fn status_mark(serial: &Serial) -> String {
    format!("wattwatchers/status/{serial}")
}

impl HeardBook {
    /// The device was heard.
    pub(crate) fn note(&self, account: OrganizationId, serial: &Serial, now: Timestamp) {
        self.set(account, any_mark(serial), now);
    }

    /// The device was heard, and told its status.
    pub(crate) fn note_status(&self, account: OrganizationId, serial: &Serial, now: Timestamp) {
        self.note(account, serial, now);
        self.set(account, status_mark(serial), now);
    }

    fn set(&self, account: OrganizationId, mark: String, at: Timestamp) {
        let noted = Noted {
            at: Some(at),
            is_written: false,
        };
        self.lock().insert((account, mark), noted);
    }

    /// What is in memory; `None` for what has to be read first.
    fn known(&self, account: OrganizationId, mark: String) -> Option<Noted> {
        self.lock().get(&(account, mark)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(OrganizationId, String), Noted>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Reads from the disk once for each device, after a start.
    pub(crate) async fn heard(
        &self,
        account: OrganizationId,
        serial: &Serial,
    ) -> Result<Heard, Fault> {
        Ok(Heard {
            any: self.time_of(account, any_mark(serial)).await?,
            status: self.time_of(account, status_mark(serial)).await?,
        })
    }

    async fn time_of(
        &self,
        account: OrganizationId,
        mark: String,
    ) -> Result<Option<Timestamp>, Fault> {
        if let Some(known) = self.heard.known(account, mark.clone()) {
            return Ok(known.at);
        }
        let key = mark.clone();
        let value = self
            .blocking(move |app| app.control.store().mark(account, &mark))
            .await?;
        let read = Noted {
            at: value.and_then(Timestamp::from_seconds),
            is_written: true,
        };
        // It may have been heard meanwhile.
        let mut times = self.heard.lock();
        Ok(times.entry((account, key)).or_insert(read).at)
    }

    /// Writes down what was noted since the last time. Waits for the disk.
    pub fn write_heard(&self, now: Timestamp) -> Result<(), Fault> {
        let due: Vec<_> = (self.heard.lock().iter_mut())
            .filter(|(_, noted)| !noted.is_written)
            .filter_map(|(key, noted)| {
                noted.is_written = true;
                Some((key.clone(), noted.at?))
            })
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let written = self.control.store().write(&Author::system(now), |writes| {
            for ((account, mark), at) in &due {
                writes.set_mark(*account, mark, at.seconds())?;
            }
            Ok(())
        });
        if written.is_err() {
            // So that the next time has them again.
            let mut times = self.heard.lock();
            for (key, _) in &due {
                if let Some(noted) = times.get_mut(key) {
                    noted.is_written = false;
                }
            }
        }
        written
    }
}

/// Does what this surface does by itself, until it is dropped. `now` is the server's clock.
pub async fn work(app: App, now: fn() -> Timestamp) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let done = app.blocking(move |app| app.write_heard(now())).await;
        if let Err(fault) = done {
            tracing::warn!(
                "write when devices were heard: {}",
                fault.log_context().unwrap_or("failed")
            );
        }
    }
}
