//! What all handlers of the surface share.

use crate::heard::HeardBook;
use crate::settings::WattwatchersSettings;
use meterd_http::Core;
use std::ops::Deref;
use std::sync::Arc;

/// The parts of a server that this surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    pub settings: Arc<WattwatchersSettings>,
    pub(crate) heard: Arc<HeardBook>,
}

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
        }
    }
}
