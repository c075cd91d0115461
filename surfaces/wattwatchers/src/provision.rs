//! What is set up from outside the API: keys, and devices without their hardware.

use crate::access::{ALL_DEVICES, AUTO_LIMITS, FEED, Level, READ};
use crate::device::{Device, KEYS_MAX};
use crate::devices::serials;
use crate::limits::KeyLimits;
use crate::register::{Registration, register};
use crate::serial::{Claim, Serial};
use crate::surface::SURFACE;
use meterd_control::{
    Applied, Author, Control, Credential, CredentialChange, CredentialState, Issued, LimitPolicy,
    List, NewCredential, SERVER, SecretForm, WindowStart,
};
use meterd_engine::Engine;
use meterd_fault::{Fault, Problem, Rule};
use meterd_model::OrganizationId;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// A key of an account, as it is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub name: String,
    pub role: KeyRole,
}

/// What a key is for.
#[derive(Clone, Debug)]
pub enum KeyRole {
    /// To read devices, and to change of them what a level says.
    Api {
        levels: Vec<Level>,
        sees: KeySees,
        limits: NewKeyLimits,
    },
    /// To register devices of the account and send what they measure.
    Ingest,
}

/// Which devices a key sees.
#[derive(Clone, Debug)]
pub enum KeySees {
    /// Those that are made later too.
    All,
    These(BTreeSet<Serial>),
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

impl NewKey {
    fn permissions(&self) -> Vec<String> {
        let KeyRole::Api {
            levels,
            sees,
            limits,
        } = &self.role
        else {
            return vec![FEED.to_owned()];
        };
        let mut permissions = vec![READ.to_owned()];
        let levels: BTreeSet<_> = levels.iter().collect();
        permissions.extend(levels.into_iter().map(|level| level.permission()));
        if matches!(sees, KeySees::All) {
            permissions.push(ALL_DEVICES.to_owned());
        }
        if matches!(limits, NewKeyLimits::Auto) {
            permissions.push(AUTO_LIMITS.to_owned());
        }
        permissions
    }

    /// Beginning at midnight; another beginning of the day is the server's setting.
    fn limits(&self) -> Vec<LimitPolicy> {
        match &self.role {
            KeyRole::Api {
                limits: NewKeyLimits::Own(own),
                ..
            } => Vec::from(own.policies(WindowStart::UtcAligned)),
            _ => Vec::new(),
        }
    }

    /// Those that name the key.
    fn devices(&self) -> BTreeSet<Serial> {
        match &self.role {
            KeyRole::Api {
                sees: KeySees::These(serials),
                ..
            } => serials.clone(),
            _ => BTreeSet::new(),
        }
    }
}

/// Makes a key. `ResourceNotFound` if a device is none of the account's.
pub fn create_key(
    control: &Control,
    account: OrganizationId,
    new: &NewKey,
    author: &Author,
) -> Result<Issued, Fault> {
    let devices = new.devices();
    for serial in &devices {
        let store = control.store();
        let device = store.get_by_key::<Device>(account, "id", serial.as_str())?;
        // Once it is made, nobody would be told its secret.
        check_keys(keys_in_use(control, &device.document).len() + 1)?;
    }
    let permissions = new.permissions();
    let form = match new.role {
        KeyRole::Api { .. } => SecretForm::WATTWATCHERS,
        KeyRole::Ingest => SecretForm::WATTWATCHERS_INGEST,
    };
    let mut credential = NewCredential::api_key(Some(account), SURFACE, &new.name, form)
        .with_permissions(permissions);
    credential.limits = new.limits();
    let issued = control.credentials().create(credential, author)?;
    show(control, account, issued.credential.id, &devices, author)?;
    Ok(issued)
}

/// `Invalid` if the key of this name has the other role: its secret is with those who may not do what this one may.
pub fn check_key(control: &Control, account: OrganizationId, wanted: &NewKey) -> Result<(), Fault> {
    find_key(control, account, wanted).map(drop)
}

/// The key of this name as it is to be, made if there is none; then its secret is there to be told. `Invalid` as
/// [`check_key`] has it.
pub fn apply_key(
    control: &Control,
    account: OrganizationId,
    wanted: &NewKey,
    author: &Author,
) -> Result<(Applied, Option<Issued>), Fault> {
    let Some(known) = find_key(control, account, wanted)? else {
        let issued = create_key(control, account, wanted, author)?;
        return Ok((Applied::Created, Some(issued)));
    };
    let (permissions, limits) = (wanted.permissions(), wanted.limits());
    let shown = show(control, account, known.id, &wanted.devices(), author)?;
    if known.permissions == permissions && known.limits == limits {
        return Ok((shown, None));
    }
    let change = CredentialChange {
        permissions: Some(permissions),
        limits: Some(limits),
        ..CredentialChange::default()
    };
    control
        .credentials()
        .change(known.id, None, change, author)?;
    Ok((Applied::Updated, None))
}

fn find_key(
    control: &Control,
    account: OrganizationId,
    wanted: &NewKey,
) -> Result<Option<Arc<Credential>>, Fault> {
    let mut list = List {
        filters: &[("surface", SURFACE)],
        ..List::default()
    };
    loop {
        let (page, next) = control.credentials().list(Some(account), &list)?;
        let mut keys = page.into_iter();
        let found =
            keys.find(|key| key.name == wanted.name && key.state != CredentialState::Revoked);
        if let Some(key) = &found {
            let feeds = key.permissions.iter().any(|permission| permission == FEED);
            if feeds != matches!(wanted.role, KeyRole::Ingest) {
                return Err(Fault::invalid(Problem::body("/ingest", Rule::Immutable)));
            }
        }
        if found.is_some() || next.is_none() {
            return Ok(found);
        }
        list.cursor = next;
    }
}

/// Lets a key see these devices and no others. `ResourceNotFound` if one of them is none of the account's.
fn show(
    control: &Control,
    account: OrganizationId,
    key: Uuid,
    wanted: &BTreeSet<Serial>,
    author: &Author,
) -> Result<Applied, Fault> {
    let store = control.store();
    let seen = serials(store, account, Some(key))?;
    if seen == *wanted {
        return Ok(Applied::Unchanged);
    }
    store.write(author, |writes| {
        for serial in seen.symmetric_difference(wanted) {
            let device = store.get_by_key::<Device>(account, "id", serial.as_str())?;
            writes.update::<Device>(account, device.id, None, |stored| {
                let mut device = stored.document.clone();
                device.keys = keys_in_use(control, &device);
                if !device.keys.remove(&key) {
                    device.keys.insert(key);
                }
                check_keys(device.keys.len())?;
                Ok(device)
            })?;
        }
        Ok(Applied::Updated)
    })
}

/// The keys that a device names, without those that are revoked for ever.
fn keys_in_use(control: &Control, device: &Device) -> BTreeSet<Uuid> {
    let is_in_use = |id: &&Uuid| {
        let key = control.credentials().find(**id);
        key.is_some_and(|key| key.state != CredentialState::Revoked)
    };
    device.keys.iter().filter(is_in_use).copied().collect()
}

fn check_keys(count: usize) -> Result<(), Fault> {
    if count <= KEYS_MAX {
        return Ok(());
    }
    let rule = Rule::Count {
        min: 0,
        max: KEYS_MAX as u64,
    };
    Err(Fault::invalid(Problem::body("/keys", rule)))
}

/// The account whose device has this serial number.
pub fn owner_of(control: &Control, serial: &Serial) -> Result<Option<OrganizationId>, Fault> {
    let claim = control
        .store()
        .find_by_key::<Claim>(SERVER, "id", serial.as_str())?;
    Ok(claim.map(|claim| claim.document.account))
}

/// Makes a device known, as its registration over HTTP does.
pub fn register_device(
    control: &Control,
    account: OrganizationId,
    registration: Registration,
    author: &Author,
) -> Result<Applied, Fault> {
    let done = (control.store()).write(author, |writes| register(writes, account, registration));
    Ok(done?.1)
}

/// Tells the engine that accounts with devices forget no id, whatever another surface wants that serves them as well: a
/// device may send a record again at any time. To be called after what other surfaces want is told.
pub fn remember_ids(control: &Control, engine: &Engine) -> Result<(), Fault> {
    let store = control.store();
    for organization in store.every_organization()? {
        let account = organization.organization_id();
        if store.count::<Device>(account, &[])? > 0 {
            engine.set_id_window(account, None);
        }
    }
    Ok(())
}
