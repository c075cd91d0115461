//! Handlers that do what no real one should, behind a surface's own checks and in its own words.

use http::HeaderMap;
use http::request::Parts;
use meterd_control::LimitPolicy;
use meterd_fault::Fault;
use meterd_http::route::{RouteTable, get, post};
use meterd_http::{Answered, Caller, Cors, Dialect, NoContent, Routes, Step, Surface};
use meterd_model::Timestamp;
use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A surface with other routes: `GET /panic`, `GET /slow`, which takes longer than it may, and `POST /hold`, see [`Held`].
#[derive(Debug)]
pub struct Trouble {
    surface: Arc<dyn Surface>,
    routes: Routes,
}

/// Requests that wait in the handler of `POST /hold` until they are released.
#[derive(Debug)]
pub struct Held {
    entered: Mutex<mpsc::Receiver<()>>,
    gate: Arc<Semaphore>,
}

impl Trouble {
    pub fn over(surface: Arc<dyn Surface>) -> (Self, Held) {
        let (sender, entered) = mpsc::channel();
        let gate = Arc::new(Semaphore::new(0));
        let held = Held {
            entered: Mutex::new(entered),
            gate: Arc::clone(&gate),
        };
        let waiting = move || async move {
            let _ = sender.send(());
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
            NoContent
        };
        let slow = get(never_done).public();
        let routes = RouteTable::new(())
            .route("/panic", [get(panicking).public()])
            .route("/slow", [slow.time_limit(Duration::from_millis(20))])
            .route("/hold", [post(waiting).idempotent()])
            .build();
        (Self { surface, routes }, held)
    }
}

impl Held {
    pub fn wait_for_one(&self) {
        self.entered.lock().unwrap().recv().unwrap();
    }

    pub fn release(&self) {
        self.gate.add_permits(1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.close();
    }
}

async fn panicking() -> NoContent {
    panic!("a handler of the tests panics, as it should");
}

async fn never_done() -> NoContent {
    pending().await
}

impl Surface for Trouble {
    fn dialect(&self) -> &dyn Dialect {
        self.surface.dialect()
    }

    fn order(&self) -> &'static [Step] {
        self.surface.order()
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault> {
        self.surface.authenticate(parts, now)
    }

    fn admit(&self, caller: &Caller, params: &[(String, String)]) -> Result<(), Fault> {
        self.surface.admit(caller, params)
    }

    fn policies(&self) -> &[LimitPolicy] {
        self.surface.policies()
    }

    fn cors(&self) -> Option<&'static Cors> {
        self.surface.cors()
    }

    fn body_limit_bytes(&self) -> u64 {
        self.surface.body_limit_bytes()
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        self.surface.decorate(headers, answered);
    }
}
