//! `meterd apply`: organizations, meters and keys from a TOML file. Applying a file twice changes nothing.

use crate::cli::ApplyOptions;
use crate::config::Config;
use crate::key::{parse_blocks, said};
use crate::server::{Parts, now};
use anyhow::Context as _;
use meterd_control::{Actor, Author, List, Meter, NewCredential, Organization, SecretForm, Stored};
use meterd_model::{MeterId, OrganizationId, Timestamp};
use meterd_surface_native::check_key;
use meterd_surface_native::{MeterUse, check_meter_change};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    organization: Vec<WantedOrganization>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedOrganization {
    name: String,
    display_name: Option<String>,
    timezone: Option<String>,
    /// As `POST /v1/meters` takes them.
    #[serde(default)]
    meter: Vec<serde_json::Value>,
    #[serde(default)]
    key: Vec<WantedKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedKey {
    /// Tells the keys of an organization apart here.
    name: String,
    permissions: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
}

pub(crate) fn run(options: &ApplyOptions) -> anyhow::Result<()> {
    let shown = options.file.display();
    // Everything is checked before anything is written: the file by itself, then against what is stored.
    let author = Author::new(Actor::Operator, now());
    let checked = read(&options.file, author.at).with_context(|| format!("read {shown}"))?;
    let parts = Parts::open(&Config {
        data: options.data.clone(),
        ..Config::default()
    })?;
    for organization in &checked {
        check_changes(&parts, organization).with_context(|| format!("apply {shown}"))?;
    }
    for organization in checked {
        apply(&parts, organization, &author).with_context(|| format!("apply {shown}"))?;
    }
    parts.engine.close();
    Ok(())
}

fn read(file: &Path, now: Timestamp) -> anyhow::Result<Vec<Checked>> {
    let wanted: Wanted = toml::from_str(&std::fs::read_to_string(file)?)?;
    if let Some(name) = repeated(wanted.organization.iter().map(|o| o.name.as_str())) {
        anyhow::bail!("organization {name}: stands there twice");
    }
    let organizations = wanted.organization.into_iter();
    organizations
        .map(|wanted| Checked::of(wanted, now))
        .collect()
}

/// The first name that was there before.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

struct Checked {
    organization: Organization,
    meters: Vec<Meter>,
    /// Still without their organization, which may not exist yet.
    keys: Vec<NewCredential>,
}

impl Checked {
    fn of(wanted: WantedOrganization, now: Timestamp) -> anyhow::Result<Self> {
        let mut organization = Organization::named(wanted.name);
        if let Some(display_name) = wanted.display_name {
            organization.display_name = display_name;
        }
        if let Some(timezone) = wanted.timezone {
            organization.timezone = timezone;
        }
        let context = format!("organization {}", organization.name);
        if let Some(problem) = organization.problems().first() {
            anyhow::bail!("{context}: {}", problem.message());
        }
        let meters = wanted
            .meter
            .iter()
            .map(|json| {
                meterd_surface_native::read_meter(json.to_string().as_bytes())
                    .map_err(said)
                    .with_context(|| {
                        let name = json.get("name").map(ToString::to_string);
                        format!("{context}: meter {}", name.unwrap_or_default())
                    })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if let Some(name) = repeated(meters.iter().map(|meter| meter.name.as_str())) {
            anyhow::bail!("{context}: meter {name}: stands there twice");
        }
        let keys = wanted
            .key
            .iter()
            .map(|key| {
                key.check(now)
                    .with_context(|| format!("{context}: key {:?}", key.name))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if let Some(name) = repeated(wanted.key.iter().map(|key| key.name.as_str())) {
            anyhow::bail!("{context}: key {name}: stands there twice");
        }
        Ok(Self {
            organization,
            meters,
            keys,
        })
    }
}

impl WantedKey {
    /// What the API would refuse, before anything is written.
    fn check(&self, now: Timestamp) -> anyhow::Result<NewCredential> {
        let mut key = NewCredential::api_key(None, "native", &self.name, SecretForm::NATIVE)
            .with_permissions(self.permissions.iter().cloned());
        key.addresses = parse_blocks(&self.addresses).context("addresses")?;
        check_key(&key, now).map_err(said)?;
        Ok(key)
    }
}

/// No meter may lose what its measurements use.
fn check_changes(parts: &Parts, wanted: &Checked) -> anyhow::Result<()> {
    let store = parts.control.store();
    let name = &wanted.organization.name;
    let Ok(organization) = store.organization_by_name(name) else {
        return Ok(());
    };
    let organization = organization.organization_id();
    for meter in &wanted.meters {
        let current = store
            .find_by_key::<Meter>(organization, "name", meter.name.as_str())
            .map_err(said)?;
        let Some(current) = current else {
            continue;
        };
        let held = MeterUse::of(&parts.engine, organization, MeterId(current.id));
        check_meter_change(&current.document, meter, &held)
            .map_err(said)
            .with_context(|| format!("organization {name}: meter {}", meter.name))?;
    }
    Ok(())
}

fn apply(parts: &Parts, wanted: Checked, author: &Author) -> anyhow::Result<()> {
    let name = wanted.organization.name.clone();
    let organization = apply_organization(parts, wanted.organization, author)?;
    let id = organization.organization_id();
    for meter in wanted.meters {
        let meter_name = meter.name.to_string();
        apply_meter(parts, id, meter, author)
            .with_context(|| format!("organization {name}: meter {meter_name}"))?;
    }
    for key in wanted.keys {
        let key_name = key.name.clone();
        apply_key(parts, id, key, author)
            .with_context(|| format!("organization {name}: key {key_name}"))?;
    }
    Ok(())
}

fn apply_organization(
    parts: &Parts,
    wanted: Organization,
    author: &Author,
) -> anyhow::Result<Arc<Stored<Organization>>> {
    let store = parts.control.store();
    let name = wanted.name.clone();
    let Ok(current) = store.organization_by_name(&name) else {
        println!("organization {name}: created");
        return store.create_organization(wanted, author).map_err(said);
    };
    if current.document == wanted {
        println!("organization {name}: unchanged");
        return Ok(current);
    }
    println!("organization {name}: updated");
    let id = current.organization_id();
    store
        .update_organization(id, Some(current.version), wanted, author)
        .map_err(said)
}

fn apply_meter(
    parts: &Parts,
    organization: OrganizationId,
    wanted: Meter,
    author: &Author,
) -> anyhow::Result<()> {
    let store = parts.control.store();
    let name = wanted.name.to_string();
    let current = store
        .find_by_key::<Meter>(organization, "name", &name)
        .map_err(said)?;
    let Some(current) = current else {
        store.create(organization, wanted, author).map_err(said)?;
        println!("  meter {name}: created");
        return Ok(());
    };
    if current.document == wanted {
        println!("  meter {name}: unchanged");
        return Ok(());
    }
    store
        .replace(
            organization,
            current.id,
            Some(current.version),
            wanted,
            author,
        )
        .map_err(said)?;
    println!("  meter {name}: updated");
    Ok(())
}

fn apply_key(
    parts: &Parts,
    organization: OrganizationId,
    wanted: NewCredential,
    author: &Author,
) -> anyhow::Result<()> {
    let credentials = parts.control.credentials();
    let mut list = List::default();
    loop {
        let (page, next) = credentials.list(Some(organization), &list).map_err(said)?;
        let found = page.iter().find(|credential| {
            credential.name == wanted.name
                && credential.state != meterd_control::CredentialState::Revoked
        });
        if let Some(found) = found {
            let same =
                found.permissions == wanted.permissions && found.addresses == wanted.addresses;
            if same {
                println!("  key {}: unchanged", wanted.name);
                return Ok(());
            }
            let change = meterd_control::CredentialChange {
                permissions: Some(wanted.permissions),
                addresses: Some(wanted.addresses),
                ..meterd_control::CredentialChange::default()
            };
            credentials
                .change(found.id, Some(found.version), change, author)
                .map_err(said)?;
            println!("  key {}: updated", wanted.name);
            return Ok(());
        }
        if next.is_none() {
            break;
        }
        list.cursor = next;
    }
    let name = wanted.name.clone();
    let new = NewCredential {
        organization: Some(organization),
        ..wanted
    };
    let issued = credentials.create(new, author).map_err(said)?;
    println!(
        "  key {name}: created, secret (shown once): {}",
        issued.secret.reveal()
    );
    Ok(())
}
