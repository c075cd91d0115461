//! Starting the executable, talking to it, and never leaving one behind.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far longer than anything takes; past it, something hangs.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// A directory of one test, removed at its end.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as text, for a command line.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn data(&self) -> String {
        self.text("data")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("write a file");
        self.text(name)
    }
}

/// A child that dies with this value, even when a test panics.
pub(crate) struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guarded {
    /// The exit code, or none if a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("wait for the child") {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the command does not end");
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("ask for the child").is_none()
    }

    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("send SIGTERM");
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("send SIGKILL");
        self.0.wait().expect("wait for the child");
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It could not do its work, said why in one message, and did not panic.
    #[track_caller]
    pub(crate) fn failed_with(self, words: &[&str]) -> Self {
        self.ended_with(3, words)
    }

    #[track_caller]
    pub(crate) fn ended_with(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        let said = format!("{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(said.contains(word), "no {word:?} in {self:?}");
        }
        self
    }

    /// What stands behind a word at the start of a line of the output.
    #[track_caller]
    pub(crate) fn after(&self, word: &str) -> String {
        let line = self
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(word))
            .unwrap_or_else(|| panic!("no line begins with {word:?}: {self:?}"));
        line.trim().to_owned()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    clean(&mut command);
    command.args(arguments);
    command
}

/// Nothing of the surroundings may decide about a test.
fn clean(command: &mut Command) {
    command
        .env_remove("METERD_LOG")
        .env_remove("METERD_KEY")
        .env_remove("METERD_ADMIN_KEY")
        .stdin(Stdio::null());
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Done {
    let output = tempfile::tempdir().expect("a temporary directory");
    let (stdout, stderr) = (output.path().join("out"), output.path().join("err"));
    let mut child = start(command(arguments), &stdout, &stderr);
    Done {
        code: child.wait(),
        stdout: std::fs::read_to_string(stdout).expect("read the output"),
        stderr: std::fs::read_to_string(stderr).expect("read the messages"),
    }
}

fn start(mut command: Command, stdout: &Path, stderr: &Path) -> Guarded {
    let create = |path: &Path| std::fs::File::create(path).expect("create a file for output");
    let child = command
        .stdout(create(stdout))
        .stderr(create(stderr))
        .spawn()
        .expect("start the executable");
    Guarded(child)
}

/// Starts a command whose output nobody reads.
pub(crate) fn spawn(arguments: &[&str]) -> Guarded {
    let mut command = command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Guarded(command.spawn().expect("start the executable"))
}

/// A running server.
pub(crate) struct Server {
    pub(crate) child: Guarded,
    /// `http://127.0.0.1:PORT`
    pub(crate) base_url: String,
    /// The ready file's JSON.
    pub(crate) ready: Value,
    output: tempfile::TempDir,
}

impl Server {
    /// `meterd serve` on the home's data directory.
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    pub(crate) fn start_with(home: &Home, more: &[&str]) -> Self {
        let data = home.data();
        let mut arguments = vec!["serve", "--data", &data, "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        Self::spawn(command(&arguments))
    }

    /// `meterd serve --config`; the file says where to listen.
    pub(crate) fn configured(home: &Home, toml: &str) -> Self {
        let file = home.write("meterd.toml", toml);
        let data = home.data();
        Self::spawn(command(&["serve", "--config", &file, "--data", &data]))
    }

    /// `meterd demo`, with as much energy as tests need.
    pub(crate) fn demo(home: &Home) -> Self {
        let data = home.data();
        let arguments = ["demo", "--data", &data, "--listen", "127.0.0.1:0"];
        let mut command = command(&arguments);
        command.args(["--history-days", "2"]);
        Self::spawn(command)
    }

    /// `meterd serve` whose files cannot grow past a size, as on a full disk.
    pub(crate) fn with_file_limit(home: &Home, limit_kib: u64) -> Self {
        let mut shell = Command::new("bash");
        clean(&mut shell);
        shell.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\""]);
        shell.arg(limit_kib.to_string());
        shell.arg(env!("CARGO_BIN_EXE_meterd"));
        shell.args(["serve", "--data", &home.data(), "--listen", "127.0.0.1:0"]);
        Self::spawn(shell)
    }

    fn spawn(mut command: Command) -> Self {
        let output = tempfile::tempdir().expect("a temporary directory");
        let ready_file = output.path().join("ready.json");
        command.arg("--ready-file").arg(&ready_file);
        let (stdout, stderr) = (output.path().join("out"), output.path().join("err"));
        let mut child = start(command, &stdout, &stderr);
        let started = Instant::now();
        let ready = loop {
            if let Ok(text) = std::fs::read(&ready_file) {
                break serde_json::from_slice::<Value>(&text).expect("a ready file of JSON");
            }
            let log = || std::fs::read_to_string(&stderr).unwrap_or_default();
            assert!(child.is_running(), "the server ended: {}", log());
            assert!(started.elapsed() < PATIENCE, "no ready file: {}", log());
            std::thread::sleep(POLL);
        };
        let base_url = ready["base_url"].as_str().expect("a base URL").to_owned();
        Self {
            child,
            base_url,
            ready,
            output,
        }
    }

    pub(crate) fn ready_file(&self) -> PathBuf {
        self.output.path().join("ready.json")
    }

    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.output.path().join("out")).expect("read the output")
    }

    /// The log.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.output.path().join("err")).expect("read the log")
    }

    /// Waits until the log holds the text.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let mut log = String::new();
        until(&format!("{text:?} in the log"), || {
            log = self.stderr();
            log.contains(text)
        });
        log
    }

    /// The administrator's key that the first start prints.
    pub(crate) fn admin_key(&self) -> String {
        let stdout = self.stdout();
        let (_, key) = stdout.split_once("(shown once): ").expect("a printed key");
        key.trim().to_owned()
    }

    pub(crate) fn client(&self, key: &str) -> Client {
        Client::new(&self.base_url, key)
    }

    pub(crate) fn address(&self) -> &str {
        self.base_url
            .strip_prefix("http://")
            .expect("an http address")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// SIGTERM, and all there is to say about the end.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.child.terminate();
        self.child.wait()
    }
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("set a time-out");
    stream
}

/// Waits for something that happens soon.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }

    /// The problem's code, if the status is the expected one.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

/// Speaks with one key to one server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base_url: String,
    authorization: String,
}

impl Client {
    pub(crate) fn new(base_url: &str, key: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self {
            agent,
            base_url: base_url.to_owned(),
            authorization: format!("Bearer {key}"),
        }
    }

    /// With the token that a key pair of the m3ter API is worth, or what came instead of one.
    pub(crate) fn of_key_pair(base_url: &str, key: &str, secret: &str) -> Result<Self, Answer> {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{key}:{secret}"));
        let asking = Self {
            authorization: format!("Basic {pair}"),
            ..Self::new(base_url, "")
        };
        let grant = json!({"grant_type": "client_credentials"});
        let answer = asking.post("/m3ter/oauth/token", &grant);
        if answer.status != 200 {
            return Err(answer);
        }
        let token = answer.json()["access_token"].clone();
        Ok(Self::new(base_url, token.as_str().expect("a token")))
    }

    pub(crate) fn key(&self) -> &str {
        self.authorization
            .strip_prefix("Bearer ")
            .expect("a bearer key")
    }

    /// The same key, on another server or on connections of its own.
    pub(crate) fn at(&self, base_url: &str) -> Self {
        Self {
            authorization: self.authorization.clone(),
            ..Self::new(base_url, "")
        }
    }

    pub(crate) fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.base_url));
        read(
            request
                .header("Authorization", &self.authorization)
                .call()?,
        )
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_get(path).expect("an answer")
    }

    /// With one more header.
    pub(crate) fn get_with(&self, path: &str, name: &str, value: &str) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.base_url));
        let request = request.header("Authorization", &self.authorization);
        read(request.header(name, value).call().expect("an answer")).expect("an answer")
    }

    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base_url));
        let request = request
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json");
        read(request.send(body.to_string())?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).expect("an answer")
    }

    /// Sum of a field and count of a meter's measurements, over all time.
    pub(crate) fn sum_and_count(&self, meter: &str, field: &str) -> (String, u64) {
        let answer = self.post(
            "/v1/query",
            &json!({
                "meter": meter, "from": "1970-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z",
                "aggregations": [{"function": "sum", "field": field}, {"function": "count"}],
            }),
        );
        let json = answer.ok();
        let Some(row) = json["rows"].get(0) else {
            return ("0".to_owned(), 0);
        };
        let value = |name: &str| row["values"][name].as_str().expect("a value").to_owned();
        let count = value("count").parse().expect("a count");
        (value(&format!("sum({field})")), count)
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string()?,
    })
}

/// An organization `acme` with the meter `calls` and a key that may do everything, made over HTTP.
pub(crate) fn furnish(server: &Server, admin_key: &str) -> Client {
    let admin = server.client(admin_key);
    admin
        .post("/v1/organizations", &json!({"name": "acme"}))
        .ok();
    let client = server.client(&new_key(&admin, &["*"], &[]).1);
    client.post("/v1/meters", &calls_meter()).ok();
    client
}

pub(crate) fn calls_meter() -> Value {
    json!({
        "name": "calls", "kind": "delta", "values": {"requests": {"unit": "1"}},
        "attributes": ["region"],
    })
}

/// A new key of `acme`: its id and secret.
pub(crate) fn new_key(
    admin: &Client,
    permissions: &[&str],
    addresses: &[&str],
) -> (String, String) {
    let body = json!({
        "organization": "acme", "name": "test", "permissions": permissions, "addresses": addresses,
    });
    let created = admin.post("/v1/credentials", &body).ok();
    let text = |name: &str| created[name].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}

/// A measurement of the meter `calls`.
pub(crate) fn call(id: &str, requests: &str) -> Value {
    json!({
        "id": id, "meter": "calls", "subject": "acct_1", "time": "2026-01-01T00:00:00Z",
        "values": {"requests": requests}, "attributes": {"region": "eu"},
    })
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) fn exchange(mut stream: TcpStream, sent: &[u8]) -> String {
    stream.write_all(sent).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read the answer");
    String::from_utf8_lossy(&answer).into_owned()
}
