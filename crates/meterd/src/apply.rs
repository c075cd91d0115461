//! `meterd apply`: organizations, meters and keys from a TOML file. Applying a file twice changes nothing.

use crate::cli::ApplyOptions;
use crate::fsm_navigator::WantedFsmNavigator;
use crate::key::{config_beside, parse_blocks, said};
use crate::server::{Parts, now};
use crate::wattwatchers::{CheckedWattwatchers, WantedWattwatchers};
use anyhow::Context as _;
use meterd_control::{
    Actor, Applied, Author, Control, Environment, List, Meter, NewCredential, Organization, Stored,
};
use meterd_model::{MeterId, OrganizationId, Timestamp};
use meterd_surface_m3ter::{
    NewUser, apply_service_user, apply_user, create_service_user, has_policy, provision,
};
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
    fsm_navigator: Option<WantedFsmNavigator>,
    m3ter: Option<WantedM3ter>,
    wattwatchers: Option<WantedWattwatchers>,
}

/// What the m3ter API works with and cannot make itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedM3ter {
    #[serde(default)]
    service_user: Vec<WantedServiceUser>,
    #[serde(default)]
    user: Vec<WantedUser>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedServiceUser {
    name: String,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedUser {
    email: String,
    first_name: String,
    last_name: String,
    contact_number: Option<String>,
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
    let parts = Parts::open(&config_beside(&options.data))?;
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
pub(crate) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

struct Checked {
    organization: Organization,
    meters: Vec<Meter>,
    /// Still without their organization, which may not exist yet.
    keys: Vec<NewCredential>,
    fsm_navigator: Option<WantedFsmNavigator>,
    m3ter: Option<WantedM3ter>,
    wattwatchers: Option<CheckedWattwatchers>,
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
        let mut keys = wanted
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
        if let Some(fsm_navigator) = &wanted.fsm_navigator {
            let checked = fsm_navigator.check(now);
            keys.extend(checked.with_context(|| format!("{context}: fsm_navigator"))?);
        }
        if let Some(m3ter) = &wanted.m3ter {
            m3ter.check().with_context(|| format!("{context}: m3ter"))?;
        }
        let wattwatchers = wanted.wattwatchers.map(WantedWattwatchers::check);
        let wattwatchers = wattwatchers
            .transpose()
            .with_context(|| format!("{context}: wattwatchers"))?;
        Ok(Self {
            organization,
            meters,
            keys,
            fsm_navigator: wanted.fsm_navigator,
            m3ter: wanted.m3ter,
            wattwatchers,
        })
    }
}

impl WantedKey {
    /// What the API would refuse, before anything is written.
    fn check(&self, now: Timestamp) -> anyhow::Result<NewCredential> {
        let rules = meterd_surface_native::KEYS;
        let mut key = rules
            .api_key(None, Environment::Live, &self.name)
            .with_permissions(self.permissions.iter().cloned());
        key.addresses = parse_blocks(&self.addresses).context("addresses")?;
        rules.check(&key, now).map_err(said)?;
        Ok(key)
    }
}

impl WantedM3ter {
    fn check(&self) -> anyhow::Result<()> {
        if let Some(name) = repeated(self.service_user.iter().map(|user| user.name.as_str())) {
            anyhow::bail!("service_user {name}: stands there twice");
        }
        if let Some(email) = repeated(self.user.iter().map(|user| user.email.as_str())) {
            anyhow::bail!("user {email}: stands there twice");
        }
        Ok(())
    }

    /// A policy is made through the API; only the administrator's is there from the start.
    fn check_policies(
        &self,
        control: &Control,
        organization: Option<OrganizationId>,
    ) -> anyhow::Result<()> {
        for service_user in &self.service_user {
            for policy in &service_user.policies {
                if !has_policy(control, organization, policy).map_err(said)? {
                    anyhow::bail!(
                        "service_user {}: there is no policy {policy:?}",
                        service_user.name
                    );
                }
            }
        }
        Ok(())
    }
}

/// No meter may lose what its measurements use, and what is named must be there.
fn check_changes(parts: &Parts, wanted: &Checked) -> anyhow::Result<()> {
    let store = parts.control.store();
    let name = &wanted.organization.name;
    let known = store.organization_by_name(name).ok();
    let known = known.map(|organization| organization.organization_id());
    if let Some(m3ter) = &wanted.m3ter {
        m3ter
            .check_policies(&parts.control, known)
            .with_context(|| format!("organization {name}: m3ter"))?;
    }
    if let Some(wattwatchers) = &wanted.wattwatchers {
        wattwatchers
            .check_changes(&parts.control, known)
            .with_context(|| format!("organization {name}: wattwatchers"))?;
    }
    let Some(organization) = known else {
        return Ok(());
    };
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
    if let Some(fsm_navigator) = wanted.fsm_navigator {
        fsm_navigator
            .apply(parts, id, author)
            .with_context(|| format!("organization {name}: fsm_navigator"))?;
    }
    if let Some(m3ter) = wanted.m3ter {
        apply_m3ter(parts, id, m3ter, author)
            .with_context(|| format!("organization {name}: m3ter"))?;
    }
    if let Some(wattwatchers) = wanted.wattwatchers {
        wattwatchers
            .apply(&parts.control, id, author)
            .with_context(|| format!("organization {name}: wattwatchers"))?;
    }
    Ok(())
}

fn apply_m3ter(
    parts: &Parts,
    organization: OrganizationId,
    wanted: WantedM3ter,
    author: &Author,
) -> anyhow::Result<()> {
    let control = &parts.control;
    provision(control, organization, author).map_err(said)?;
    for wanted in wanted.service_user {
        let name = wanted.name.as_str();
        let policies: Vec<_> = wanted.policies.iter().map(String::as_str).collect();
        let (_, applied) = apply_service_user(control, organization, name, &policies, author)
            .map_err(said)
            .with_context(|| format!("service_user {name}"))?;
        let word = applied.as_str();
        if applied != Applied::Created {
            println!("  service user {name}: {word}");
            continue;
        }
        let new = create_service_user(control, organization, name, &[], author).map_err(said)?;
        println!(
            "  service user {name}: {word}, key: {}, secret (shown once): {}",
            new.api_key,
            new.api_secret.reveal()
        );
    }
    for wanted in wanted.user {
        let email = wanted.email.clone();
        let new = NewUser {
            email: wanted.email,
            first_name: wanted.first_name,
            last_name: wanted.last_name,
            contact_number: wanted.contact_number,
        };
        let (_, applied) = apply_user(control, organization, new, author)
            .map_err(said)
            .with_context(|| format!("user {email}"))?;
        println!("  user {email}: {}", applied.as_str());
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
    let wanted = Meter {
        managed_by: current.document.managed_by.clone(),
        ..wanted
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
                && credential.surface == wanted.surface
                && credential.environment == wanted.environment
                && credential.state != meterd_control::CredentialState::Revoked
        });
        if let Some(found) = found {
            let same = found.permissions == wanted.permissions
                && found.addresses == wanted.addresses
                && found.limits == wanted.limits;
            if same {
                println!("  key {}: unchanged", wanted.name);
                return Ok(());
            }
            let change = meterd_control::CredentialChange {
                permissions: Some(wanted.permissions),
                addresses: Some(wanted.addresses),
                limits: Some(wanted.limits),
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
