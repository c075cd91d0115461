//! A server of our own, as a process of its own on loopback.

use super::client::{Target, send_all};
use super::options::Shape;
use super::{process, rows};
use crate::config::Config;
use crate::key::Api;
use crate::server::{Parts, now};
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meterd_control::{Author, Control, Organization};
use meterd_fault::Fault;
use meterd_model::OrganizationId;
use meterd_surface_m3ter::{create_service_user, provision};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As m3ter documents them, its limits are far below what is to be measured.
const CONFIG: &str = "[m3ter.limits]\nenabled = false\n";
/// Questions are to be answered from the measurements.
const NO_CACHE: &str = "[engine]\nquery_cache_bytes = 0\n";
/// Longer than any run.
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);
/// Longest wait for the server to come up.
const START_MAX: Duration = Duration::from_mins(10);

/// A running server, stopped when dropped. Its directory is swept away unless it was asked for.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    key: String,
    m3ter: M3terAccess,
    directory: PathBuf,
    keep: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

impl Server {
    /// Starts with an empty data directory and makes what the measurements need.
    pub(crate) fn start(shape: &Shape, directory: Option<&Path>) -> anyhow::Result<Self> {
        let keep = directory.is_some();
        let directory = directory.map_or_else(
            || std::env::temp_dir().join(format!("meterd-bench-{}", std::process::id())),
            Path::to_path_buf,
        );
        if data(&directory).exists() {
            bail!("{} holds data already", directory.display());
        }
        std::fs::create_dir_all(&directory)?;
        std::fs::write(config_file(&directory), [CONFIG, NO_CACHE].concat())?;
        let m3ter = M3terAccess::make(&directory)?;
        let process = spawn(&directory, Stdio::piped())?;
        let mut server = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: String::new(),
            m3ter,
            directory,
            keep,
        };
        let line = server.process.stdout.take().and_then(|stdout| {
            let line = BufReader::new(stdout).lines().next()?;
            line.ok()
        });
        let admin_key = line.as_deref().and_then(|line| line.rsplit(' ').next());
        let admin_key = admin_key.context("the server printed no key")?;
        let url = server.wait_until_ready()?;
        server.key = prepare(&url, admin_key, shape)?;
        Ok(server)
    }

    /// Kills the server and starts it again on what it left; how long that takes is the answer.
    pub(crate) fn reopen(&mut self) -> anyhow::Result<Duration> {
        self.kill();
        std::fs::remove_file(ready_file(&self.directory))?;
        let begin = Instant::now();
        self.process = spawn(&self.directory, Stdio::null())?;
        self.wait_until_ready()?;
        Ok(begin.elapsed())
    }

    /// The same, and from now on what segments answer is kept.
    pub(crate) fn reopen_with_cache(&mut self) -> anyhow::Result<()> {
        std::fs::write(config_file(&self.directory), CONFIG)?;
        self.reopen().map(drop)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn target(&self, path: &str) -> Target {
        Target {
            address: self.address,
            path: path.to_owned(),
            key: Some(self.key.clone()),
        }
    }

    /// The m3ter surface, with the meters to load.
    pub(crate) fn m3ter_target(&self, shape: &Shape) -> anyhow::Result<Target> {
        let M3terAccess {
            organization,
            token,
            ..
        } = &self.m3ter;
        let url = format!("http://{}/m3ter/organizations/{organization}", self.address);
        let api = Api::new(&url, token);
        for number in 0..u64::from(shape.meters) {
            let field = |category: &str, code: &str| json!({"category": category, "code": code, "name": code});
            let meter = json!({
                "name": rows::meter(shape, number), "code": rows::meter(shape, number), "derivedFields": [],
                "dataFields": [field("MEASURE", "requests"), field("MEASURE", "bytes"), field("WHERE", "region")],
            });
            api.post("/meters", &meter)?;
        }
        Ok(Target {
            address: self.address,
            path: format!("/m3ter/organizations/{organization}/measurements"),
            key: Some(token.clone()),
        })
    }

    /// Processor time of one token, of which m3ter's clients fetch one before every request.
    pub(crate) fn token_cpu_micros(&self) -> anyhow::Result<f64> {
        const TOKENS: u32 = 50_000;
        const BODY: &str = r#"{"grant_type":"client_credentials"}"#;
        let request = format!(
            "POST /m3ter/oauth/token HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
            self.m3ter.basic,
            BODY.len()
        );
        let requests = vec![request.into_bytes(); usize::try_from(TOKENS)?];
        let before = process::cpu_seconds(self.id())?;
        send_all(self.address, &requests, 4, None)?;
        let seconds = process::cpu_seconds(self.id())? - before;
        Ok(seconds / f64::from(TOKENS) * 1e6)
    }

    /// Asks how many measurements there are, and fails unless it is as many as expected.
    pub(crate) fn check_count(&self, shape: &Shape, expected: u64) -> anyhow::Result<()> {
        let api = Api::new(&format!("http://{}", self.address), &self.key);
        let mut found = 0;
        for number in 0..u64::from(shape.meters) {
            let answer = api.post(
                "/v1/query",
                &json!({
                    "meter": rows::meter(shape, number),
                    "from": rows::day(0).to_string(), "to": rows::day(shape.days).to_string(),
                    "aggregations": [{"function": "count"}],
                }),
            )?;
            let count = answer
                .pointer("/rows/0/values/count")
                .and_then(Value::as_str);
            found += count
                .and_then(|count| count.parse::<u64>().ok())
                .unwrap_or(0);
        }
        if found != expected {
            bail!("{expected} measurements are expected, {found} are there");
        }
        Ok(())
    }

    /// Waits until nothing is left to merge; how long that took is the answer.
    pub(crate) fn settle(&self) -> anyhow::Result<Duration> {
        const WAIT_MAX: Duration = Duration::from_mins(30);
        const PAUSE: Duration = Duration::from_secs(1);
        let api = Api::new(&format!("http://{}", self.address), &self.key);
        let begin = Instant::now();
        while begin.elapsed() < WAIT_MAX {
            let mut metrics = String::new();
            api.stream("/metrics", &[])?.read_to_string(&mut metrics)?;
            if metrics
                .lines()
                .any(|line| line == "meterd_engine_settled 1")
            {
                return Ok(begin.elapsed());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("something is left to merge after {WAIT_MAX:?}")
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        process::disk_bytes(&data(&self.directory).join("engine/log"))
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        process::disk_bytes(&data(&self.directory))
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<String> {
        let ready = ready_file(&self.directory);
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let json: Value = serde_json::from_str(&text)?;
                let url = json.get("base_url").and_then(Value::as_str);
                let url = url.context("the ready file names no address")?;
                self.address = url.trim_start_matches("http://").parse()?;
                return Ok(url.to_owned());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the server did not start within {START_MAX:?}")
    }
}

/// A service user's way into an organization of the m3ter surface. It is made before the server starts, since no request
/// makes the first one.
struct M3terAccess {
    organization: OrganizationId,
    /// Key and secret as a header has them.
    basic: String,
    token: String,
}

impl M3terAccess {
    fn make(directory: &Path) -> anyhow::Result<Self> {
        let parts = Parts::open(&Config {
            data: data(directory),
            ..Config::default()
        })?;
        Self::make_in(&parts.control).map_err(|fault| anyhow!("prepare m3ter: {}", fault.kind))
    }

    fn make_in(control: &Control) -> Result<Self, Fault> {
        let author = Author::system(now());
        let store = control.store();
        let organization = store
            .create_organization(Organization::named("bench-m3ter"), &author)?
            .organization_id();
        provision(control, organization, &author)?;
        let user =
            create_service_user(control, organization, "bench", &["Administrator"], &author)?;
        let secret = user.api_secret.reveal();
        let credentials = control.credentials();
        let credential = credentials.authenticate_client("m3ter", &user.api_key, secret, now())?;
        let issued = control.tokens().issue(&credential, TOKEN_LIFETIME, now())?;
        Ok(Self {
            organization,
            basic: STANDARD.encode(format!("{}:{secret}", user.api_key)),
            token: issued.token.reveal().to_owned(),
        })
    }
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn config_file(directory: &Path) -> PathBuf {
    directory.join("meterd.toml")
}

fn ready_file(directory: &Path) -> PathBuf {
    directory.join("ready.json")
}

fn spawn(directory: &Path, stdout: Stdio) -> anyhow::Result<Child> {
    const SETPRIV: &str = "/usr/bin/setpriv";
    let program = std::env::current_exe()?;
    // Where it can be had, the kernel ends the server when the generator is killed.
    let mut command = if Path::new(SETPRIV).is_file() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data(directory))
        .arg("--config")
        .arg(config_file(directory))
        .arg("--ready-file")
        .arg(ready_file(directory))
        .env("METERD_LOG", "warn")
        .stdout(stdout)
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the server")
}

/// An organization, a key and the meters to load; returns the key.
fn prepare(url: &str, admin_key: &str, shape: &Shape) -> anyhow::Result<String> {
    let admin = Api::new(url, admin_key);
    admin.post("/v1/organizations", &json!({"name": "bench"}))?;
    let created = admin.post(
        "/v1/credentials",
        &json!({"organization": "bench", "name": "bench", "permissions": ["*"]}),
    )?;
    let key = created
        .get("secret")
        .and_then(Value::as_str)
        .context("a key")?;
    let api = Api::new(url, key);
    for number in 0..u64::from(shape.meters) {
        let meter = json!({
            "name": rows::meter(shape, number), "kind": "delta",
            "values": {"requests": {"unit": "1"}, "bytes": {"unit": "By"}}, "attributes": ["region"],
        });
        api.post("/v1/meters", &meter)?;
    }
    Ok(key.to_owned())
}
