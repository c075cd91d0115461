//! What a file for `meterd apply` says of a company of FSM Navigator.

use crate::apply::repeated;
use crate::key::{parse_blocks, said};
use crate::server::Parts;
use anyhow::Context as _;
use meterd_control::{Applied, Author, Environment, NewCredential};
use meterd_model::{OrganizationId, Timestamp};
use meterd_surface_fsm_navigator::{DataSet, KEYS, SetUp, apply_plan};
use meterd_surface_native::own_limits;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a company of FSM Navigator sets up in its dashboard.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedFsmNavigator {
    plan: Option<String>,
    #[serde(default)]
    key: Vec<WantedKey>,
    #[serde(default)]
    live: SetUp,
    #[serde(default)]
    test: SetUp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedKey {
    /// Tells the keys of a data set apart here.
    name: String,
    #[serde(default)]
    environment: Environment,
    scopes: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    /// Numbers in place of those of the limits of these names.
    #[serde(default)]
    limits: BTreeMap<String, u64>,
}

impl WantedFsmNavigator {
    /// The keys, once nothing else is wrong either.
    pub(crate) fn check(&self, now: Timestamp) -> anyhow::Result<Vec<NewCredential>> {
        for (set, set_up) in [("live", &self.live), ("test", &self.test)] {
            set_up.check().map_err(said).context(set)?;
        }
        for environment in [Environment::Live, Environment::Test] {
            let keys = self.key.iter().filter(|key| key.environment == environment);
            if let Some(name) = repeated(keys.map(|key| key.name.as_str())) {
                anyhow::bail!("key {name}: stands there twice");
            }
        }
        let checked = self.key.iter().map(|key| {
            let checked = key.check(now);
            checked.with_context(|| format!("key {:?}", key.name))
        });
        checked.collect()
    }

    /// Makes what is not there.
    pub(crate) fn apply(
        &self,
        parts: &Parts,
        company: OrganizationId,
        author: &Author,
    ) -> anyhow::Result<()> {
        let control = &parts.control;
        if let Some(plan) = &self.plan {
            let applied = apply_plan(control, company, plan, author).map_err(said)?;
            println!("  plan {plan}: {}", applied.as_str());
        }
        for (environment, set_up) in [
            (Environment::Live, &self.live),
            (Environment::Test, &self.test),
        ] {
            let set = DataSet {
                company,
                environment,
            };
            let mut show = |what: &str, applied: Applied| {
                println!("  {what}: {}", applied.as_str());
            };
            set_up
                .apply(control, &parts.engine, set, author, &mut show)
                .map_err(said)?;
        }
        Ok(())
    }
}

impl WantedKey {
    fn check(&self, now: Timestamp) -> anyhow::Result<NewCredential> {
        let mut key = KEYS
            .api_key(None, self.environment, &self.name)
            .with_permissions(self.scopes.iter().cloned());
        key.addresses = parse_blocks(&self.addresses).context("addresses")?;
        key.limits = own_limits(&KEYS, self.limits.clone()).map_err(said)?;
        KEYS.check(&key, now).map_err(said)?;
        Ok(key)
    }
}
