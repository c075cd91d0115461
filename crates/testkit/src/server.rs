//! A whole server in the test's process: control plane, engine, pipeline and sockets, in a directory that goes away.

use crate::client::{Answer, Request};
use meterd_control::{Author, Control, Documents, Organization};
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{Engine, SystemDisk};
use meterd_http::listen::{ConnectionBounds, Listener, serve};
use meterd_http::metrics::HttpMetrics;
use meterd_http::{Bounds, Mount, Pipeline, TrustedProxies};
use meterd_model::{OrganizationId, Timestamp};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a test may set before the start.
#[derive(Debug, Default)]
pub struct Options {
    pub bounds: Bounds,
    pub engine: meterd_engine::Settings,
    /// Instead of the machine's own disk.
    pub disk: Option<SimulatedDisk>,
    pub proxies: Vec<ipnet::IpNet>,
    /// The kinds of resource that the surfaces under test store.
    pub documents: Documents,
    /// Bytes of all files of one organization, instead of the usual bound.
    pub files_bytes_max: Option<u64>,
    /// Bytes of all that one organization has configured, likewise.
    pub resource_bytes_max: Option<usize>,
    /// Of a server that was [stopped](Server::stop), instead of a new one.
    pub directory: Option<TempDir>,
}

/// What a server's directory holds, opened.
#[derive(Clone, Debug)]
pub struct Parts {
    pub control: Arc<Control>,
    pub engine: Arc<Engine>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub control: Arc<Control>,
    pub engine: Arc<Engine>,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<()>>,
    directory: Option<TempDir>,
}

impl Server {
    /// Opens a directory and serves what `mounts` puts over it.
    pub fn start(options: Options, mounts: impl FnOnce(&Parts) -> Vec<Mount>) -> Self {
        let directory = options
            .directory
            .unwrap_or_else(|| tempfile::tempdir().unwrap());
        let usual = meterd_control::Settings::default();
        let settings = meterd_control::Settings {
            documents: options.documents,
            files_bytes_max: options.files_bytes_max.unwrap_or(usual.files_bytes_max),
            resource_bytes_max: (options.resource_bytes_max).unwrap_or(usual.resource_bytes_max),
            ..usual
        };
        let control = Control::open(directory.path().join("control.sqlite"), settings).unwrap();
        let engine = match options.disk {
            Some(disk) => Engine::open(Path::new("/engine"), options.engine, Arc::new(disk)),
            None => Engine::open(
                &directory.path().join("engine"),
                options.engine,
                Arc::new(SystemDisk),
            ),
        };
        let parts = Parts {
            control: Arc::new(control),
            engine: Arc::new(engine.unwrap()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        // What the surfaces start beside their requests starts in the server's runtime.
        let entered = runtime.enter();
        let pipeline = Pipeline::new(
            mounts(&parts),
            Arc::clone(&parts.control),
            options.bounds,
            TrustedProxies::new(options.proxies),
            None,
            HttpMetrics::register(&mut Registry::default()),
        );
        drop(entered);
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener {
            socket,
            surface: None,
        };
        let (stop, stopped) = watch::channel(false);
        let serving = runtime.spawn(serve(
            vec![listener],
            Arc::new(pipeline),
            ConnectionBounds::default(),
            stopped,
        ));
        let Parts { control, engine } = parts;
        Self {
            address,
            control,
            engine,
            runtime: Some(runtime),
            stop,
            serving: Some(serving),
            directory: Some(directory),
        }
    }

    pub fn send(&self, request: &Request) -> Answer {
        request.send(self.address)
    }

    /// Lets requests in hand finish and closes everything. The directory can be opened again.
    pub fn stop(mut self) -> TempDir {
        self.close();
        self.directory.take().unwrap()
    }

    fn close(&mut self) {
        let _ = self.stop.send(true);
        if let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) {
            let _ = runtime.block_on(serving);
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        self.engine.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

pub fn now() -> Timestamp {
    Timestamp::of_system(SystemTime::now())
}

pub fn system() -> Author {
    Author::system(now())
}

pub fn create_organization(control: &Control, name: &str) -> OrganizationId {
    control
        .store()
        .create_organization(Organization::named(name), &system())
        .unwrap()
        .organization_id()
}
