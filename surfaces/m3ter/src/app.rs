//! What all handlers of the surface share.

use crate::account::Holders;
use crate::notification::EventRules;
use crate::plan::Plans;
use crate::rules::RuleCache;
use crate::settings::M3terSettings;
use crate::transfer::Transfers;
use crate::writer::Writer;
use meterd_control::Author;
use meterd_fault::Fault;
use meterd_http::Core;
use meterd_model::OrganizationId;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::Notify;

/// The parts of a server that this surface works with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    core: Core,
    pub settings: Arc<M3terSettings>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) holders: Arc<Holders>,
    /// Told when there is a job to do.
    pub(crate) wake: Arc<Notify>,
    pub(crate) rules: Arc<RuleCache>,
    pub(crate) event_rules: Arc<EventRules>,
    pub(crate) transfers: Arc<Transfers>,
}

impl Deref for App {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl App {
    pub fn new(core: Core, settings: M3terSettings) -> Self {
        Self {
            core,
            settings: Arc::new(settings),
            plans: Arc::default(),
            holders: Arc::default(),
            wake: Arc::default(),
            rules: Arc::default(),
            event_rules: Arc::default(),
            transfers: Arc::default(),
        }
    }

    /// Several changes of one organization as one, with what follows from them. Waits for the disk.
    pub(crate) fn write<T>(
        &self,
        organization: OrganizationId,
        author: &Author,
        work: impl FnOnce(&mut Writer<'_, '_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.control.store().write(author, |writes| {
            work(&mut Writer::new(writes, organization, &self.event_rules))
        })
    }
}
