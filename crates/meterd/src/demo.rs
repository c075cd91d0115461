//! `meterd demo`: a server with ready-made organizations and real measurements, to try everything on.

mod data;
mod fsm_navigator;
mod m3ter;
mod show;
mod wattwatchers;

use self::fsm_navigator::FsmNavigatorReady;
use self::m3ter::M3terReady;
use self::wattwatchers::{Fleet, WattwatchersReady};
use crate::cli::DemoOptions;
use crate::config::{Config, EngineConfig, Listen, LogConfig};
use crate::key::said;
use crate::logging;
use crate::server::{self, Parts, control_path, now};
use anyhow::Context as _;
use meterd_control::{
    Author, Credential, Meter, NewCredential, NewSecret, Organization, Secret, SecretForm,
};
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};

/// The demo's organization.
const ORGANIZATION: &str = "demo";
/// Few, so that what is loaded does not stay in memory.
const SEAL_ROWS: u64 = 20_000;
const READ_ONLY: [&str; 3] = ["measurements:read", "meters:read", "events:read"];

/// What the ready file says. Members are stable: added, never renamed.
#[derive(Clone, Debug, Serialize)]
struct Ready {
    base_url: String,
    native: NativeReady,
    m3ter: M3terReady,
    wattwatchers: WattwatchersReady,
    fsm_navigator: FsmNavigatorReady,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NativeReady {
    base_url: String,
    organization: String,
    admin_key: String,
    key: String,
    read_only_key: String,
}

pub(crate) fn demo(options: &DemoOptions) -> anyhow::Result<()> {
    let log = LogConfig::default();
    logging::start(&log, "warn");
    let keys_file = options.data.join("demo-keys.json");
    let kept = read_kept(&options.data, &keys_file)?;
    if kept.is_none() {
        // From here on the directory is the demo's, even if this first start is interrupted.
        std::fs::create_dir_all(&options.data)
            .with_context(|| format!("create {}", options.data.display()))?;
        server::write_whole(&keys_file, b"null")?;
    }
    let config = Config {
        data: options.data.clone(),
        listen: vec![Listen {
            address: options.listen,
            surface: None,
        }],
        engine: EngineConfig {
            seal_rows: SEAL_ROWS,
            ..EngineConfig::default()
        },
        ..Config::default()
    };
    let parts = Parts::open(&config)?;
    let mut ready_files = vec![options.data.join("demo.json")];
    ready_files.extend(options.ready_file.clone());
    for file in &ready_files {
        remove_if_there(file)?;
    }
    let author = Author::system(now());
    let organization = ensure_organization(&parts, &author)?;
    let keys = ensure_keys(&parts, organization, kept.as_ref(), &author)?;
    server::write_whole(&keys_file, &serde_json::to_vec_pretty(&keys)?)?;
    let loaded = data::load(&parts, organization, &author)?;
    let m3ter_file = options.data.join("demo-keys-m3ter.json");
    let m3ter = m3ter::prepare(&parts, &m3ter_file, &author)?;
    let wattwatchers_file = options.data.join("demo-keys-wattwatchers.json");
    let wattwatchers = wattwatchers::prepare(&parts, &wattwatchers_file, &author)?;
    let fsm_file = options.data.join("demo-keys-fsm-navigator.json");
    let fsm_navigator = fsm_navigator::prepare(&parts, &fsm_file, &author)?;
    let engine = Arc::clone(&parts.engine);
    let filled = parts.clone();
    let history_days = options.history_days;
    let (stop, stopped) = mpsc::channel();
    let mut living = None;
    server::run(config, parts, |addresses| {
        let ready = ready_for(addresses, keys, m3ter, wattwatchers, fsm_navigator);
        m3ter::fill(&filled, &ready.m3ter, &m3ter_file.with_extension("filled"))?;
        let done = fsm_file.with_extension("filled");
        fsm_navigator::fill(&filled, &ready.fsm_navigator, &done)?;
        let done = wattwatchers_file.with_extension("filled");
        let fleet = Fleet::fill(&ready.wattwatchers, history_days, &done)?;
        living = Some(std::thread::spawn(move || fleet.live(&stopped)));
        let json = serde_json::to_vec_pretty(&ready)?;
        for file in &ready_files {
            server::write_whole(file, &json)?;
        }
        show::show(&ready, &loaded, &engine, organization);
        Ok(())
    })?;
    drop(stop);
    if let Some(living) = living {
        // What it still sends finds nobody.
        let _ = living.join();
    }
    Ok(())
}

/// Keys of an earlier run in this directory: their secrets are nowhere else.
fn read_kept(data: &Path, file: &Path) -> anyhow::Result<Option<NativeReady>> {
    if !file.is_file() {
        if control_path(data).exists() {
            anyhow::bail!(
                "{} holds data that is not the demo's; choose another directory with --data",
                data.display()
            );
        }
        return Ok(None);
    }
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

/// A ready file of an earlier run says that requests are accepted, which is not so yet.
fn remove_if_there(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

fn ready_for(
    addresses: &[SocketAddr],
    keys: NativeReady,
    m3ter: M3terReady,
    wattwatchers: WattwatchersReady,
    fsm_navigator: FsmNavigatorReady,
) -> Ready {
    let base_url = addresses
        .first()
        .map(|address| format!("http://{address}"))
        .unwrap_or_default();
    Ready {
        native: NativeReady {
            base_url: format!("{base_url}/v1"),
            ..keys
        },
        m3ter: M3terReady {
            base_url: format!("{base_url}/m3ter"),
            ..m3ter
        },
        wattwatchers: WattwatchersReady {
            base_url: format!("{base_url}/wattwatchers"),
            ..wattwatchers
        },
        fsm_navigator: FsmNavigatorReady {
            base_url: format!("{base_url}/fsm-navigator/api/v1"),
            ..fsm_navigator
        },
        base_url,
    }
}

fn ensure_organization(parts: &Parts, author: &Author) -> anyhow::Result<OrganizationId> {
    let mut organization = Organization::named(ORGANIZATION);
    "Demo".clone_into(&mut organization.display_name);
    ensure_named(parts, organization, author)
}

/// The organization of that name; one of an earlier run is taken as it is.
fn ensure_named(
    parts: &Parts,
    organization: Organization,
    author: &Author,
) -> anyhow::Result<OrganizationId> {
    let store = parts.control.store();
    if let Ok(found) = store.organization_by_name(&organization.name) {
        return Ok(found.organization_id());
    }
    let created = store.create_organization(organization, author);
    Ok(created.map_err(said)?.organization_id())
}

fn ensure_keys(
    parts: &Parts,
    organization: OrganizationId,
    kept: Option<&NativeReady>,
    author: &Author,
) -> anyhow::Result<NativeReady> {
    let ensure =
        |kept: Option<&String>, of: Option<OrganizationId>, name: &str, permissions: &[&str]| {
            ensure_key(parts, kept, of, name, permissions, author)
        };
    Ok(NativeReady {
        base_url: String::new(),
        organization: ORGANIZATION.to_owned(),
        admin_key: ensure(
            kept.map(|k| &k.admin_key),
            None,
            "demo administrator",
            &["*"],
        )?,
        key: ensure(kept.map(|k| &k.key), Some(organization), "demo", &["*"])?,
        read_only_key: ensure(
            kept.map(|k| &k.read_only_key),
            Some(organization),
            "demo, reading only",
            &READ_ONLY,
        )?,
    })
}

/// The key of an earlier run if it still works, or a new one.
fn ensure_key(
    parts: &Parts,
    kept: Option<&String>,
    organization: Option<OrganizationId>,
    name: &str,
    permissions: &[&str],
    author: &Author,
) -> anyhow::Result<String> {
    let credentials = parts.control.credentials();
    if let Some(secret) = kept {
        let known: Result<Arc<Credential>, _> =
            credentials.authenticate("native", secret, author.at);
        if known.is_ok() {
            return Ok(secret.clone());
        }
    }
    let mut new = NewCredential::api_key(organization, "native", name, SecretForm::NATIVE)
        .with_permissions(permissions.iter().copied());
    if let Some(secret) = kept {
        // The crash came between the file and the database; what is printed somewhere goes on working.
        if let Ok(secret) = Secret::import(secret.as_str()) {
            new.secret = NewSecret::Given(secret);
        }
    }
    let issued = credentials.create(new, author).map_err(said)?;
    Ok(issued.secret.reveal().to_owned())
}

/// A meter of the demo; one of an earlier run is taken as it is.
fn ensure_meter(
    parts: &Parts,
    organization: OrganizationId,
    json: &str,
    author: &Author,
) -> anyhow::Result<meterd_model::MeterId> {
    let meter = meterd_surface_native::read_meter(json.as_bytes()).map_err(said)?;
    let store = parts.control.store();
    let found = store
        .find_by_key::<Meter>(organization, "name", meter.name.as_str())
        .map_err(said)?;
    let stored = match found {
        Some(found) => found,
        None => store.create(organization, meter, author).map_err(said)?,
    };
    Ok(meterd_model::MeterId(stored.id))
}
