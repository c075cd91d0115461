//! What is set up from outside the API: keys, and devices without their hardware.

use crate::access::{ALL_DEVICES, AUTO_LIMITS, FEED, Level, READ};
use crate::device::{Device, KEYS_MAX};
use crate::limits::KeyLimits;
use crate::register::{Applied, Registration, register};
use crate::serial::Serial;
use crate::settings::WattwatchersSettings;
use crate::surface::SURFACE;
use meterd_control::{Author, Control, Issued, NewCredential, SecretAlphabet, SecretForm, Writes};
use meterd_fault::{Fault, Kind, Resource};
use meterd_model::OrganizationId;
use uuid::Uuid;

const INGEST_SECRET: SecretForm = SecretForm::new("ingest_", SecretAlphabet::LowerHex, 32);

/// An API key to be made. It may read the devices it sees, and nothing else unless a level says so.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub name: String,
    pub levels: Vec<Level>,
    pub sees: KeySees,
    pub limits: NewKeyLimits,
}

/// Which devices a key sees.
#[derive(Clone, Debug)]
pub enum KeySees {
    /// Those that are made later too.
    All,
    These(Vec<Serial>),
}

/// How much a key may ask.
#[derive(Clone, Copy, Debug)]
pub enum NewKeyLimits {
    /// As the server's settings say.
    Default,
    Own(KeyLimits),
    /// Following the number of its devices.
    Auto,
}

/// The form of the secrets of this surface's credentials, for a new one of one of them.
pub fn secret_form(permissions: &[String]) -> SecretForm {
    if permissions.iter().any(|held| held == FEED) {
        INGEST_SECRET
    } else {
        SecretForm::WATTWATCHERS
    }
}

/// Makes an API key. `ResourceNotFound` if a device is none of the account's.
pub fn create_key(
    control: &Control,
    settings: &WattwatchersSettings,
    account: OrganizationId,
    new: NewKey,
    author: &Author,
) -> Result<Issued, Fault> {
    let mut permissions = vec![READ.to_owned()];
    permissions.extend(new.levels.iter().map(|level| level.permission()));
    let devices = match new.sees {
        KeySees::All => {
            permissions.push(ALL_DEVICES.to_owned());
            Vec::new()
        }
        KeySees::These(serials) => serials,
    };
    let mut limits = Vec::new();
    match new.limits {
        NewKeyLimits::Default => {}
        NewKeyLimits::Own(own) => limits.extend(own.policies(settings.limits.day.start())),
        NewKeyLimits::Auto => permissions.push(AUTO_LIMITS.to_owned()),
    }
    let store = control.store();
    for serial in &devices {
        store.get_by_key::<Device>(account, "id", serial.as_str())?;
    }
    let form = SecretForm::WATTWATCHERS;
    let mut credential = NewCredential::api_key(Some(account), SURFACE, new.name, form)
        .with_permissions(permissions);
    credential.limits = limits;
    let issued = control.credentials().create(credential, author)?;
    let key = issued.credential.id;
    store.write(author, |writes| {
        (devices.iter()).try_for_each(|serial| show(writes, account, serial, key))
    })?;
    Ok(issued)
}

/// Lets a key see a device.
fn show(
    writes: &mut Writes<'_>,
    account: OrganizationId,
    serial: &Serial,
    key: Uuid,
) -> Result<(), Fault> {
    let found = writes.find_by_key::<Device>(account, "id", serial.as_str())?;
    let found = found.ok_or_else(|| Kind::ResourceNotFound {
        resource: Resource::Device,
        id: serial.to_string(),
    })?;
    if found.document.keys.len() >= KEYS_MAX {
        return Err(Kind::TooManyRunning {
            resource: Resource::Credential,
            limit: KEYS_MAX as u64,
        }
        .into());
    }
    writes.update::<Device>(account, found.id, None, |stored| {
        let mut device = stored.document.clone();
        device.keys.insert(key);
        Ok(device)
    })?;
    Ok(())
}

/// Makes a credential that may register devices of the account and send what they measure.
pub fn create_ingest_key(
    control: &Control,
    account: OrganizationId,
    name: &str,
    author: &Author,
) -> Result<Issued, Fault> {
    let new = NewCredential::api_key(Some(account), SURFACE, name, INGEST_SECRET);
    let credentials = control.credentials();
    credentials.create(new.with_permissions([FEED]), author)
}

/// Makes a device known, as its registration over HTTP does.
pub fn register_device(
    control: &Control,
    settings: &WattwatchersSettings,
    account: OrganizationId,
    registration: Registration,
    author: &Author,
) -> Result<Applied, Fault> {
    let done = (control.store()).write(author, |writes| {
        register(writes, settings, account, registration)
    });
    Ok(done?.1)
}
