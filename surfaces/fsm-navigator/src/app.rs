//! What all handlers of the surface share.

use crate::settings::FsmNavigatorSettings;
use meterd_http::Core;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The parts of a server that this surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    pub settings: Arc<FsmNavigatorSettings>,
    /// Of the meters that readings come for.
    pub(crate) turns: Arc<Turns>,
}

/// Lets one at a time do something to a thing. Things may share a place.
#[derive(Debug)]
pub(crate) struct Turns(Vec<Arc<Mutex<()>>>);

/// Most that are busy at a time.
const TURNS: usize = 64;

impl Turns {
    fn new() -> Self {
        Self(std::iter::repeat_with(Arc::default).take(TURNS).collect())
    }

    /// Waits until nobody else is at the thing.
    pub(crate) async fn take(&self, thing: &impl Hash) -> Option<OwnedMutexGuard<()>> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        let place = self.0.get(place)?;
        Some(Arc::clone(place).lock_owned().await)
    }
}

impl Deref for App {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl App {
    pub fn new(core: Core, settings: FsmNavigatorSettings) -> Self {
        Self {
            core,
            settings: Arc::new(settings),
            turns: Arc::new(Turns::new()),
        }
    }
}
