//! Opening a data directory, putting the surfaces over it, and serving until told to stop.

use crate::cli::ServeOptions;
use crate::config::{Config, Listen};
use crate::logging;
use crate::retention;
use crate::system::{SystemState, SystemSurface};
use anyhow::Context as _;
use meterd_control::{Author, Control, KeyRules};
use meterd_engine::{Engine, SystemDisk};
use meterd_http::listen::{ConnectionBounds, Listener};
use meterd_http::metrics::HttpMetrics;
use meterd_http::{Bounds, Core, Mount, Pipeline, Surface, TrustedProxies};
use meterd_model::Timestamp;
use meterd_surface_fsm_navigator::FsmNavigatorSurface;
use meterd_surface_m3ter::M3terSurface;
use meterd_surface_native::{App, NativeSurface, long_work_threads};
use meterd_surface_wattwatchers::WattwatchersSurface;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Threads for what waits shortly for a disk; what is beyond them waits. Few, since the allocator keeps memory for each
/// thread that once needed it. What works for long (and retention does) has its own beside them.
const SHORT_WORK_THREADS: usize = 16;
const UPKEEP_THREADS: usize = 2;

pub(crate) fn engine_path(data: &Path) -> PathBuf {
    data.join("engine")
}

pub(crate) fn control_path(data: &Path) -> PathBuf {
    data.join("control.sqlite")
}

/// The control database while a restore is under way: it gets its name at the end.
pub(crate) fn restoring_path(data: &Path) -> PathBuf {
    data.join("control.sqlite.part")
}

/// What an interrupted restore leaves would otherwise be taken for a new data directory, and begun anew.
pub(crate) fn ensure_restored(data: &Path) -> anyhow::Result<()> {
    if restoring_path(data).exists() {
        anyhow::bail!(
            "{} was not restored to the end; remove it and restore the backup again",
            data.display()
        );
    }
    Ok(())
}

/// What keys of the surfaces may be whose keys an administrator makes.
pub(crate) const KEY_RULES: [KeyRules; 2] = [
    meterd_surface_native::KEYS,
    meterd_surface_fsm_navigator::KEYS,
];

/// With the kinds of resource of all surfaces: what is not listed would be stored and never seen.
pub(crate) fn control_settings() -> meterd_control::Settings {
    meterd_control::Settings {
        documents: meterd_surface_m3ter::documents()
            .and(meterd_surface_wattwatchers::documents())
            .and(meterd_surface_fsm_navigator::documents()),
        ..meterd_control::Settings::default()
    }
}

/// The present time. Everything below gets it passed in.
pub(crate) fn now() -> Timestamp {
    Timestamp::of_system(SystemTime::now())
}

/// `meterd serve`
pub(crate) fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let mut config = match &options.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(data) = &options.data {
        config.data.clone_from(data);
    }
    if let Some(address) = options.listen {
        config.listen = vec![Listen {
            address,
            surface: None,
        }];
    }
    logging::start(&config.log, "info");
    let parts = Parts::open(&config)?;
    let admin = parts
        .control
        .credentials()
        .ensure_admin(&Author::system(now()))
        .map_err(|fault| anyhow::anyhow!("create the administrator's key: {}", fault.kind))?;
    if let Some(admin) = admin {
        // Once, and to whoever started the server: nobody can read it again.
        println!(
            "administrator's key (shown once): {}",
            admin.secret.reveal()
        );
    }
    run(config, parts, |addresses| {
        let Some(path) = &options.ready_file else {
            return Ok(());
        };
        let urls: Vec<_> = addresses.iter().map(|a| format!("http://{a}")).collect();
        let ready = serde_json::json!({"base_url": urls.first(), "listen": urls});
        write_whole(path, ready.to_string().as_bytes())
    })
}

/// Writes a file so that a reader sees all of it or nothing, and no other user can read it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("write {}", draft.display()))?;
    file.write_all(bytes)?;
    std::fs::rename(&draft, path).with_context(|| format!("write {}", path.display()))
}

/// What a data directory holds, opened.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Arc<Engine>,
}

impl Parts {
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let data = &config.data;
        ensure_restored(data)?;
        // The engine first: it makes the directory, and its lock tells that no other server has it.
        let settings = config.engine.settings();
        let engine = Engine::open(&engine_path(data), settings, Arc::new(SystemDisk))
            .with_context(|| format!("open {}", engine_path(data).display()))?;
        let torn_bytes = engine.stats().torn_bytes;
        if torn_bytes > 0 {
            warn!(
                torn_bytes,
                "cut {torn_bytes} bytes of an interrupted write off the end of the log; a copy is in {}",
                engine_path(data).join("log").display()
            );
        }
        let settings = meterd_control::Settings {
            resource_bytes_max: config.bounds.resource_bytes_max,
            ..control_settings()
        };
        let control = Control::open(control_path(data), settings)
            .with_context(|| format!("open {}", control_path(data).display()))?;
        Ok(Self {
            control: Arc::new(control),
            engine: Arc::new(engine),
        })
    }

    /// Lets organizations forget ids after the time that the operator has set, which is for whoever serves to say: what
    /// sealing has once forgotten stays so, and other commands open a directory without its configuration.
    fn forget_old_ids(&self, config: &Config) -> anyhow::Result<()> {
        let (control, engine) = (&self.control, &self.engine);
        meterd_surface_m3ter::remember_ids(control, engine, &config.m3ter)
            .and_then(|()| meterd_surface_wattwatchers::remember_ids(control, engine))
            .map_err(crate::key::said)
    }
}

/// Serves until SIGTERM or SIGINT, then lets requests in hand finish. `ready` is called once requests are accepted.
pub(crate) fn run(
    config: Config,
    parts: Parts,
    ready: impl FnOnce(&[SocketAddr]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(SHORT_WORK_THREADS + long_work_threads() + UPKEEP_THREADS)
        .build()
        .context("start the runtime")?;
    parts.forget_old_ids(&config)?;
    let engine = Arc::clone(&parts.engine);
    let control = Arc::clone(&parts.control);
    let author = Author::system(now());
    if let Err(fault) = meterd_surface_fsm_navigator::settle_all(&control, &engine, &author) {
        warn!("settle what readings asked for: {}", fault.kind);
    }
    runtime.block_on(serve_until_stopped(config, parts, ready))?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    engine.close();
    if let Err(fault) = control.limits().flush(now()) {
        warn!("write quotas: {}", fault.kind);
    }
    info!("stopped");
    Ok(())
}

async fn serve_until_stopped(
    config: Config,
    parts: Parts,
    ready: impl FnOnce(&[SocketAddr]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let draining = Arc::new(AtomicBool::new(false));
    let core = Core::new(Arc::clone(&parts.control), Arc::clone(&parts.engine));
    let m3ter = meterd_surface_m3ter::App::new(core.clone(), config.m3ter.clone());
    let wattwatchers =
        meterd_surface_wattwatchers::App::new(core.clone(), config.wattwatchers.clone());
    let surfaces = Surfaces {
        m3ter: m3ter.clone(),
        wattwatchers: wattwatchers.clone(),
    };
    let pipeline = build_pipeline(&config, core, surfaces, Arc::clone(&draining));
    let pipeline = Arc::new(pipeline);
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listen in config.listeners()? {
        if let Some(name) = &listen.surface
            && !pipeline.serves(name)
        {
            anyhow::bail!("listen: there is no surface {name}");
        }
        let socket = TcpListener::bind(listen.address)
            .await
            .with_context(|| format!("listen on {}", listen.address))?;
        addresses.push(socket.local_addr()?);
        listeners.push(Listener {
            socket,
            surface: listen.surface,
        });
    }
    for address in &addresses {
        info!("listening on http://{address}");
    }
    let bounds = ConnectionBounds {
        connections_max: config.bounds.connections_max,
        drain_max: Duration::from_secs_f64(config.bounds.drain_seconds_max),
        ..ConnectionBounds::default()
    };
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let serving = tokio::spawn(meterd_http::listen::serve(
        listeners, pipeline, bounds, stopped,
    ));
    let upkeep = tokio::spawn(upkeep(Arc::clone(&parts.control)));
    let sealing = tokio::spawn(keep_sealing(
        Arc::clone(&parts.engine),
        Duration::from_secs(config.engine.seal_after_seconds.into()),
    ));
    let retention = tokio::spawn(retention::keep(
        Arc::clone(&parts.control),
        Arc::clone(&parts.engine),
        Duration::from_secs(config.retention.first_after_seconds.into()),
    ));
    let m3ter = tokio::spawn(meterd_surface_m3ter::work(m3ter, now));
    let heard = tokio::spawn(meterd_surface_wattwatchers::work(wattwatchers.clone(), now));
    ready(&addresses)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping: finishing requests in hand");
    draining.store(true, Ordering::Relaxed);
    // Only fails when nobody serves any more.
    let _ = stop.send(true);
    upkeep.abort();
    sealing.abort();
    retention.abort();
    m3ter.abort();
    heard.abort();
    serving.await.context("serve")?;
    let written = tokio::task::spawn_blocking(move || wattwatchers.write_heard(now())).await?;
    if let Err(fault) = written {
        warn!("write when devices were heard: {}", fault.kind);
    }
    Ok(())
}

/// The surfaces that do something beside answering.
struct Surfaces {
    m3ter: meterd_surface_m3ter::App,
    wattwatchers: meterd_surface_wattwatchers::App,
}

/// What has to be done now and then.
async fn upkeep(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(Duration::from_hours(1));
    loop {
        ticks.tick().await;
        let control = Arc::clone(&control);
        let done = tokio::task::spawn_blocking(move || {
            let now = now();
            control.idempotency().sweep(now)?;
            control.files().sweep(now)
        })
        .await;
        if let Ok(Err(fault)) = done {
            warn!("upkeep: {}", fault.log_context().unwrap_or("failed"));
        }
    }
}

/// Has all that is in memory written to segments at the start and then every so often. What whole segments answer is
/// kept, so that a few measurements a second leave old ones as quick to ask as many do; and a restart has less to read.
async fn keep_sealing(engine: Arc<Engine>, pause: Duration) {
    if pause.is_zero() {
        return;
    }
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&engine);
        // The engine counts failures, and tries again itself.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || engine.seal()).await {
            warn!("seal: {error}");
        }
    }
}

fn build_pipeline(
    config: &Config,
    core: Core,
    surfaces: Surfaces,
    draining: Arc<AtomicBool>,
) -> Pipeline {
    let mut registry = Registry::with_prefix("meterd");
    let metrics = HttpMetrics::register(&mut registry);
    let (control, engine) = (Arc::clone(&core.control), Arc::clone(&core.engine));
    let fsm_navigator =
        meterd_surface_fsm_navigator::App::new(core.clone(), config.fsm_navigator.clone());
    let app = App::new(core).with_keys(&KEY_RULES);
    let system = SystemSurface::new(SystemState {
        engine,
        registry: Arc::new(registry),
        draining,
    });
    let mounts = vec![
        Mount {
            prefix: "/v1",
            surface: Arc::new(NativeSurface::new(app, config.policies())) as Arc<dyn Surface>,
        },
        Mount {
            prefix: "/fsm-navigator",
            surface: Arc::new(FsmNavigatorSurface::new(fsm_navigator)),
        },
        Mount {
            prefix: "/m3ter",
            surface: Arc::new(M3terSurface::new(surfaces.m3ter)),
        },
        Mount {
            prefix: "/wattwatchers",
            surface: Arc::new(WattwatchersSurface::new(surfaces.wattwatchers)),
        },
        Mount {
            prefix: "",
            surface: Arc::new(system),
        },
    ];
    let bounds = Bounds {
        time_limit: Duration::from_secs_f64(config.bounds.request_seconds_max),
        in_flight_max: config.bounds.in_flight_max,
        body_memory_max_bytes: config.bounds.body_memory_max_bytes,
        body_pause_max: Duration::from_secs_f64(config.bounds.body_pause_seconds_max),
        ..Bounds::default()
    };
    Pipeline::new(
        mounts,
        control,
        bounds,
        TrustedProxies::new(config.trusted_proxies.clone()),
        config
            .public_url
            .as_deref()
            .map(|url| url.trim_end_matches('/').to_owned()),
        metrics,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_control::Organization;
    use meterd_engine::{Batch, OnConflict, Verdict};
    use meterd_model::{Measurement, MeasurementId, MeterId, OrganizationId, Subject};
    use meterd_surface_m3ter::provision;
    use uuid::Uuid;

    const DAY: Duration = Duration::from_hours(24);

    fn submit(
        parts: &Parts,
        organization: OrganizationId,
        id: &str,
        received: Timestamp,
    ) -> Verdict {
        let measurement = Measurement {
            id: MeasurementId::new(id).unwrap(),
            meter: MeterId(Uuid::nil()),
            subject: Subject::new("account").unwrap(),
            time: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            end_time: None,
            values: Vec::new(),
            attributes: Vec::new(),
        };
        let batch = Batch {
            organization,
            received,
            measurements: vec![measurement],
            on_conflict: OnConflict::Reject,
        };
        let ticket = parts.engine.submit(batch).unwrap();
        ticket.wait().unwrap().verdicts[0]
    }

    /// Whether a measurement of a hundred days ago counts once more when it is sent again.
    fn forgets(serves: bool) -> bool {
        let home = tempfile::tempdir().unwrap();
        let config = Config {
            data: home.path().join("data"),
            ..Config::default()
        };
        let parts = Parts::open(&config).unwrap();
        let now = now();
        let author = Author::system(now);
        let store = parts.control.store();
        let made = store.create_organization(Organization::named("acme"), &author);
        let acme = made.unwrap().organization_id();
        provision(&parts.control, acme, &author).unwrap();
        if serves {
            parts.forget_old_ids(&config).unwrap();
        }
        for (id, days_ago) in [("first", 100), ("second", 50), ("third", 0)] {
            let received = now.saturating_sub(DAY * days_ago);
            assert_eq!(submit(&parts, acme, id, received), Verdict::Accepted);
            parts.engine.seal().unwrap();
        }
        submit(&parts, acme, "first", now) == Verdict::Accepted
    }

    #[test]
    fn only_who_serves_lets_ids_be_forgotten() {
        assert!(forgets(true));
        // A backup, for example, which seals.
        assert!(!forgets(false));
    }
}
