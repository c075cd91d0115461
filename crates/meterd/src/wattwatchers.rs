//! Devices and keys of the Wattwatchers API, as files and the command line describe them.

use crate::apply::repeated;
use crate::cli::WattwatchersKey;
use crate::key::said;
use anyhow::{Context as _, anyhow, bail};
use meterd_control::{Author, Control};
use meterd_model::{OrganizationId, Zone, check_text};
use meterd_surface_wattwatchers::{
    KeyLimits, KeyRole, KeySees, LABEL, Level, Model, NewKey, NewKeyLimits, Registration, Serial,
    apply_key, check_key, owner_of, register_device,
};
use serde::Deserialize;
use std::collections::BTreeSet;

/// What the API works with and cannot make itself, or only for devices.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedWattwatchers {
    #[serde(default)]
    device: Vec<WantedDevice>,
    #[serde(default)]
    key: Vec<WantedKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedDevice {
    id: String,
    model: String,
    channels: Option<u8>,
    label: Option<String>,
    timezone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedKey {
    name: String,
    #[serde(default)]
    levels: Vec<String>,
    /// None: all.
    devices: Option<Vec<String>>,
    per_second: Option<u64>,
    per_day: Option<u64>,
    #[serde(default)]
    auto_limits: bool,
    #[serde(default)]
    ingest: bool,
}

/// What is known to be sound by itself.
#[derive(Debug)]
pub(crate) struct CheckedWattwatchers {
    devices: Vec<Registration>,
    keys: Vec<NewKey>,
}

impl WantedWattwatchers {
    pub(crate) fn check(self) -> anyhow::Result<CheckedWattwatchers> {
        if let Some(id) = repeated(self.device.iter().map(|device| device.id.as_str())) {
            bail!("device {id}: stands there twice");
        }
        if let Some(name) = repeated(self.key.iter().map(|key| key.name.as_str())) {
            bail!("key {name}: stands there twice");
        }
        let devices = self.device.iter().map(|device| {
            let checked = device.check();
            checked.with_context(|| format!("device {}", device.id))
        });
        let keys = self.key.iter().map(|key| {
            let checked = key.check();
            checked.with_context(|| format!("key {}", key.name))
        });
        Ok(CheckedWattwatchers {
            devices: devices.collect::<anyhow::Result<_>>()?,
            keys: keys.collect::<anyhow::Result<_>>()?,
        })
    }
}

impl WantedDevice {
    fn check(&self) -> anyhow::Result<Registration> {
        let model = Model::named(&self.model);
        let model = model.ok_or_else(|| anyhow!("there is no model {:?}", self.model))?;
        if let Some(label) = &self.label {
            check_text(label, LABEL).context("label")?;
        }
        let zone = self.timezone.as_deref().map(Zone::named).transpose();
        let zone = zone.context("timezone")?;
        Ok(Registration {
            channels: self.channels,
            label: self.label.clone(),
            timezone: zone.map(|zone| zone.name().to_owned()),
            ..Registration::new(serial(&self.id)?, model)
        })
    }
}

fn serial(text: &str) -> anyhow::Result<Serial> {
    Serial::parse(text).ok_or_else(|| {
        anyhow!("{text:?} is no serial number: 13 capital letters or digits, beginning with B, D, E or F")
    })
}

impl WantedKey {
    pub(crate) fn of(name: &str, options: &WattwatchersKey) -> Self {
        Self {
            name: name.to_owned(),
            levels: options.levels.clone(),
            devices: Some(options.devices.clone()).filter(|devices| !devices.is_empty()),
            per_second: options.per_second,
            per_day: options.per_day,
            auto_limits: options.auto_limits,
            ingest: options.ingest,
        }
    }

    pub(crate) fn check(&self) -> anyhow::Result<NewKey> {
        let role = if self.ingest {
            self.check_ingest()?;
            KeyRole::Ingest
        } else {
            KeyRole::Api {
                levels: self
                    .levels
                    .iter()
                    .map(|word| level(word))
                    .collect::<Result<_, _>>()?,
                sees: self.sees()?,
                limits: self.limits()?,
            }
        };
        Ok(NewKey {
            name: self.name.clone(),
            role,
        })
    }

    fn check_ingest(&self) -> anyhow::Result<()> {
        let is_plain = self.levels.is_empty()
            && self.devices.is_none()
            && self.per_second.is_none()
            && self.per_day.is_none()
            && !self.auto_limits;
        if !is_plain {
            bail!("a key for ingest has no levels, devices or limits");
        }
        Ok(())
    }

    fn sees(&self) -> anyhow::Result<KeySees> {
        let Some(devices) = &self.devices else {
            return Ok(KeySees::All);
        };
        let serials = devices.iter().map(|id| serial(id));
        Ok(KeySees::These(
            serials.collect::<anyhow::Result<BTreeSet<_>>>()?,
        ))
    }

    fn limits(&self) -> anyhow::Result<NewKeyLimits> {
        match (self.per_second, self.per_day) {
            (None, None) if self.auto_limits => Ok(NewKeyLimits::Auto),
            (None, None) => Ok(NewKeyLimits::Default),
            (Some(per_second), Some(per_day)) if !self.auto_limits => {
                Ok(NewKeyLimits::Own(KeyLimits {
                    per_second,
                    per_day,
                }))
            }
            _ => bail!("limits are per_second and per_day together, or auto_limits"),
        }
    }
}

fn level(word: &str) -> anyhow::Result<Level> {
    let found = Level::ALL.into_iter().find(|level| level.word() == word);
    found
        .ok_or_else(|| anyhow!("{word:?} is none of the levels metadata, configuration, switching"))
}

impl CheckedWattwatchers {
    /// Against what is stored; `account` is none if it is still to be made.
    pub(crate) fn check_changes(
        &self,
        control: &Control,
        account: Option<OrganizationId>,
    ) -> anyhow::Result<()> {
        let owner = |serial| owner_of(control, serial).map_err(said);
        for device in &self.devices {
            let owner = owner(&device.serial)?;
            if owner.is_some() && owner != account {
                bail!("device {}: belongs to another organization", device.serial);
            }
        }
        for key in &self.keys {
            if let Some(account) = account {
                check_key(control, account, key)
                    .map_err(said)
                    .with_context(|| format!("key {}", key.name))?;
            }
            let KeyRole::Api {
                sees: KeySees::These(serials),
                ..
            } = &key.role
            else {
                continue;
            };
            for serial in serials {
                let is_made = self.devices.iter().any(|device| device.serial == *serial);
                if !is_made && (account.is_none() || owner(serial)? != account) {
                    bail!("key {}: there is no device {serial}", key.name);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn apply(
        self,
        control: &Control,
        account: OrganizationId,
        author: &Author,
    ) -> anyhow::Result<()> {
        for device in self.devices {
            let id = device.serial.to_string();
            let applied = register_device(control, account, device, author)
                .map_err(said)
                .with_context(|| format!("device {id}"))?;
            println!("  device {id}: {}", applied.as_str());
        }
        for key in self.keys {
            let (applied, issued) = apply_key(control, account, &key, author)
                .map_err(said)
                .with_context(|| format!("key {}", key.name))?;
            match issued {
                Some(issued) => println!(
                    "  key {}: {}, secret (shown once): {}",
                    key.name,
                    applied.as_str(),
                    issued.secret.reveal()
                ),
                None => println!("  key {}: {}", key.name, applied.as_str()),
            }
        }
        Ok(())
    }
}
