//! What all handlers of the surface share.

use crate::settings::FsmNavigatorSettings;
use meterd_fault::Fault;
use meterd_http::Core;
use std::ops::Deref;
use std::sync::Arc;

/// The parts of a server that this surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    pub settings: Arc<FsmNavigatorSettings>,
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
        }
    }

    /// Runs work that may wait for a disk, away from the threads that serve connections.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let app = self.clone();
        meterd_http::blocking(move || work(&app)).await
    }
}
