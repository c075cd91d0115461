//! Who calls, and which devices they may see or change (specs/wattwatchers.md 2, 6.1).

use crate::app::App;
use crate::device::Device;
use crate::devices::serials;
use crate::serial::{Claim, Serial};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::{Actor, Author, Credential, SERVER, Stored};
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::{Context, Failure};
use meterd_model::{OrganizationId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// May read the devices that name the key.
pub(crate) const READ: &str = "devices:read";
/// Sees every device of the account.
pub(crate) const ALL_DEVICES: &str = "devices:all";
/// Has limits that follow the number of its devices.
pub(crate) const AUTO_LIMITS: &str = "limits:auto";
/// May send what devices measure. No key may do this and read.
pub(crate) const FEED: &str = "ingest:write";

/// What a key may change, beside reading (2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Labels, categories, zones, phases.
    Metadata,
    /// Ratings, reporting intervals, networks.
    Configuration,
    /// States of switches.
    Switching,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Metadata, Self::Configuration, Self::Switching];

    pub fn word(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Configuration => "configuration",
            Self::Switching => "switching",
        }
    }

    pub(crate) fn permission(self) -> String {
        format!("devices:{}", self.word())
    }
}

/// The caller of the reading side.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Party);

/// The caller of the ingest side.
#[derive(Clone, Debug)]
pub(crate) struct Feeder(Party);

/// A credential with the account it belongs to.
#[derive(Clone, Debug)]
struct Party {
    account: OrganizationId,
    credential: Arc<Credential>,
    now: Timestamp,
}

impl Party {
    async fn of<S: Sync>(parts: &mut Parts, state: &S, permission: &str) -> Result<Self, Failure> {
        let context = Context::from_request_parts(parts, state).await?;
        let caller = context.caller.as_ref().ok_or(Kind::CredentialsMissing)?;
        let credential = Arc::clone(&caller.credential);
        credential.permits(permission)?;
        Ok(Self {
            account: credential.organization.ok_or(Kind::OrganizationRequired)?,
            credential,
            now: context.now,
        })
    }

    fn author(&self) -> Author {
        Author::new(Actor::Credential(self.credential.id), self.now)
    }
}

impl FromRequestParts<App> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Party::of(parts, app, READ).await.map(Self)
    }
}

impl FromRequestParts<App> for Feeder {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Party::of(parts, app, FEED).await.map(Self)
    }
}

impl Reader {
    pub(crate) fn author(&self) -> Author {
        self.0.author()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.now
    }

    /// The device of a path, if the key sees it.
    pub(crate) fn device(&self, app: &App, id: &str) -> Result<Arc<Stored<Device>>, Fault> {
        let serial = Serial::of_path(id)?;
        let device = find(app, self.0.account, &serial)?;
        if self.sees(&device) {
            return Ok(device);
        }
        Err(foreign(app, &serial))
    }

    fn sees(&self, device: &Stored<Device>) -> bool {
        let credential = &self.0.credential;
        credential.holds(ALL_DEVICES) || device.document.keys.contains(&credential.id)
    }

    /// Every device that the key sees.
    pub(crate) fn serials(&self, app: &App) -> Result<BTreeSet<Serial>, Fault> {
        let credential = &self.0.credential;
        let named = (!credential.holds(ALL_DEVICES)).then_some(credential.id);
        serials(app.control.store(), self.0.account, named)
    }

    /// `ResourceForbidden` unless the key may change things of this level.
    pub(crate) fn permit(&self, level: Level, device: &Device) -> Result<(), Fault> {
        if self.0.credential.holds(&level.permission()) {
            return Ok(());
        }
        Err(forbidden(&device.serial, "update"))
    }

    /// Whether the key may change anything at all.
    pub(crate) fn may_write(&self) -> bool {
        Level::ALL
            .iter()
            .any(|level| self.0.credential.holds(&level.permission()))
    }
}

impl Feeder {
    pub(crate) fn account(&self) -> OrganizationId {
        self.0.account
    }

    pub(crate) fn author(&self) -> Author {
        self.0.author()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.now
    }

    /// The device of a path, of the same account.
    pub(crate) fn device(&self, app: &App, id: &str) -> Result<Arc<Stored<Device>>, Fault> {
        find(app, self.0.account, &Serial::of_path(id)?)
    }
}

fn find(app: &App, account: OrganizationId, serial: &Serial) -> Result<Arc<Stored<Device>>, Fault> {
    let store = app.control.store();
    if let Some(device) = store.find_by_key::<Device>(account, "id", serial.as_str())? {
        return Ok(device);
    }
    let claim = store.find_by_key::<Claim>(SERVER, "id", serial.as_str())?;
    Err(match claim {
        Some(_) => foreign(app, serial),
        None => unknown(serial),
    })
}

/// A device that exists and is not the caller's.
fn foreign(app: &App, serial: &Serial) -> Fault {
    if app.settings.mask_foreign_devices {
        return unknown(serial);
    }
    forbidden(serial, "access")
}

fn unknown(serial: &Serial) -> Fault {
    Fault::new(Kind::ResourceNotFound {
        resource: Resource::Device,
        id: serial.to_string(),
    })
}

pub(crate) fn forbidden(serial: &Serial, action: &'static str) -> Fault {
    Fault::new(Kind::ResourceForbidden {
        resource: Resource::Device,
        id: serial.to_string(),
        action,
    })
}
