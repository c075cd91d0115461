//! What all handlers of the surface share.

use crate::heard::HeardBook;
use crate::settings::WattwatchersSettings;
use meterd_fault::Fault;
use meterd_http::Core;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The parts of a server that this surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    pub settings: Arc<WattwatchersSettings>,
    pub(crate) heard: Arc<HeardBook>,
    /// While they are read, large bodies take many times their size.
    large_bodies: Arc<Semaphore>,
}

const LARGE_BODIES_MAX: usize = 4;

impl Deref for App {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl App {
    pub fn new(core: Core, settings: WattwatchersSettings) -> Self {
        Self {
            core,
            settings: Arc::new(settings),
            heard: Arc::default(),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
        }
    }

    /// Leave to read a large body, once few enough others are read.
    pub(crate) async fn large_body_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let slot = Arc::clone(&self.large_bodies).acquire_owned().await;
        slot.map_err(Fault::internal)
    }
}
