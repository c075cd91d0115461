//! The time a handler has for its own work: what it waits for its client's body does not count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs while the handler works. Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct HandlerClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: Duration,
    /// None while paused.
    since: Option<Instant>,
}

impl HandlerClock {
    pub(crate) fn start(limit: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            left: limit,
            since: Some(Instant::now()),
        })))
    }

    /// Stops the clock until the result is dropped.
    pub(crate) fn pause(&self) -> Paused {
        self.with(|state| {
            state.left = state.left();
            state.since = None;
        });
        Paused(self.clone())
    }

    /// What is left; None while it is paused.
    fn left(&self) -> Option<Duration> {
        self.with(|state| state.since.map(|_| state.left()))
    }

    /// Ends when the time is over.
    pub(crate) async fn expired(&self) {
        /// How often a paused clock is looked at again; a body has bounds of its own.
        const PAUSED_LOOK: Duration = Duration::from_millis(250);
        loop {
            match self.left() {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => tokio::time::sleep(PAUSED_LOOK).await,
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here can panic half-way, so a poisoned state is as good as any.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn left(&self) -> Duration {
        let spent = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.left.saturating_sub(spent)
    }
}

/// A stopped clock, which goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Paused(HandlerClock);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.with(|state| state.since = Some(Instant::now()));
    }
}
