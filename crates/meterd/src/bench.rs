//! `meterd bench`: load on this build, on this machine, with the figures printed.
//!
//! The server runs as a process of its own on loopback with a fresh data directory, so that its processor time and
//! memory can be told from the generator's. Bodies are built before the clock starts. Every run is bounded by its
//! options and stops by itself.

use crate::cli::{BenchCommand, BenchIngest, BenchQuery};
use crate::key::Api;
use crate::terminal::grouped;
use anyhow::{Context as _, bail};
use meterd_model::Timestamp;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for the server to come up.
const START_MAX: Duration = Duration::from_secs(30);
/// Longest answer that the generator reads.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Subjects that the rows are spread over.
const SUBJECTS: u64 = 1_000;
/// 2026-01-01T00:00:00Z; rows follow each other by a second.
const FIRST_SECOND: u64 = 1_767_225_600;
const SECONDS: u64 = 300 * 86_400;

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Ingest(options) => ingest(options),
        BenchCommand::Http(options) => ingest(&BenchIngest {
            batch: 1,
            ..options.clone()
        }),
        BenchCommand::Query(options) => query(options),
    }
}

fn ingest(options: &BenchIngest) -> anyhow::Result<()> {
    let bodies = bodies(options.rows, options.batch);
    let server = Server::start()?;
    let before = server.usage()?;
    let run = server.post_all("/v1/measurements", &bodies, options.connections)?;
    let after = server.usage()?;
    let rows = f64::from(options.rows);
    println!(
        "{} rows in batches of {} over {} connections, durable and de-duplicated",
        grouped(options.rows.into()),
        options.batch,
        options.connections
    );
    println!(
        "rows per second            {:>12.0}",
        rows / run.elapsed.as_secs_f64()
    );
    println!(
        "requests per second        {:>12.0}",
        f64::from(options.rows.div_ceil(options.batch)) / run.elapsed.as_secs_f64()
    );
    println!("latency p50 / p99 / max    {}", run.latencies());
    println!(
        "server CPU s / million     {:>12.3}",
        (after.cpu_seconds - before.cpu_seconds) / rows * 1e6
    );
    println!(
        "server memory, MiB         {:>12}",
        after.resident_bytes >> 20
    );
    println!(
        "log bytes per row          {:>12.1}",
        server.log_bytes()? / rows
    );
    Ok(())
}

fn query(options: &BenchQuery) -> anyhow::Result<()> {
    const BATCH: u32 = 10_000;
    let server = Server::start()?;
    server.post_all("/v1/measurements", &bodies(options.rows, BATCH), 2)?;
    println!(
        "over {} rows, {} runs each",
        grouped(options.rows.into()),
        options.runs
    );
    let whole =
        json!({"meter": "bench", "from": "2026-01-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"});
    let questions = [
        (
            "one subject, one month, by day",
            json!({
                "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", "timezone": "Europe/Berlin", "window": "day",
                "filter": {"subject": ["subject-7"]}, "aggregations": [{"function": "sum", "field": "requests"}],
            }),
        ),
        (
            "sum by subject, top 100",
            json!({
                "group_by": ["subject"], "aggregations": [{"function": "sum", "field": "bytes"}],
                "order_by": [{"value": "sum(bytes)", "descending": true}], "limit": 100,
            }),
        ),
        (
            "sum by attribute and hour",
            json!({
                "window": "hour", "group_by": ["region"], "aggregations": [{"function": "sum", "field": "bytes"}], "limit": 10000,
            }),
        ),
        (
            "one sum over everything",
            json!({"aggregations": [{"function": "sum", "field": "bytes"}]}),
        ),
    ];
    for (name, question) in questions {
        let mut body = whole.clone();
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), question) {
            body.extend(more);
        }
        let bodies = vec![body.to_string().into_bytes(); usize::try_from(options.runs)?];
        let run = server.post_all("/v1/query", &bodies, 1)?;
        println!("{name:<34} p50 / p99 / max {}", run.latencies());
    }
    Ok(())
}

/// Rows of about 190 bytes: 128-bit id, two values, one attribute.
fn bodies(rows: u32, batch: u32) -> Vec<Vec<u8>> {
    let rows: Vec<u64> = (0..u64::from(rows)).collect();
    rows.chunks(usize::try_from(batch).unwrap_or(1))
        .map(body)
        .collect()
}

fn body(rows: &[u64]) -> Vec<u8> {
    const REGIONS: [&str; 4] = ["eu-west", "us-east", "us-west", "ap-south"];
    let mut body = b"{\"measurements\":[".to_vec();
    for (position, row) in rows.iter().enumerate() {
        let second = i64::try_from(FIRST_SECOND + row * 7 % SECONDS).unwrap_or(0);
        let time = Timestamp::from_seconds(second).unwrap_or(Timestamp::MIN);
        let region = REGIONS
            .iter()
            .cycle()
            .nth(usize::try_from(row % 4).unwrap_or(0));
        let comma = if position == 0 { "" } else { "," };
        // Writing to a vector cannot fail.
        let _ = write!(
            body,
            "{comma}{{\"id\":\"{:032x}\",\"meter\":\"bench\",\"subject\":\"subject-{}\",\"time\":\"{time}\",\
             \"values\":{{\"requests\":{},\"bytes\":{}.{:02}}},\"attributes\":{{\"region\":\"{}\"}}}}",
            u128::from(*row).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            row % SUBJECTS,
            row % 97,
            row % 100_003,
            row % 100,
            region.unwrap_or(&""),
        );
    }
    body.extend_from_slice(b"]}");
    body
}

/// What a process has used so far.
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// A server of its own, stopped and swept away when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    key: String,
    data: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let data = std::env::temp_dir().join(format!("meterd-bench-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data)?;
        let ready = data.join("ready.json");
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .env("METERD_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start the server")?;
        let admin_key = process.stdout.take().and_then(|stdout| {
            let line = BufReader::new(stdout).lines().next()?.ok()?;
            line.rsplit(' ').next().map(str::to_owned)
        });
        let mut server = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: String::new(),
            data,
        };
        let admin_key = admin_key.context("the server printed no key")?;
        let url = wait_for(&ready)?;
        server.address = url.trim_start_matches("http://").parse()?;
        server.key = prepare(&Api::new(&url, &admin_key), &url)?;
        Ok(server)
    }

    /// Processor time and memory, as the kernel counts them.
    fn usage(&self) -> anyhow::Result<Usage> {
        const TICKS_PER_SECOND: f64 = 100.0;
        const PAGE_BYTES: u64 = 4096;
        let read =
            |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", self.process.id()));
        let stat = read("stat").context("processor time is only known on Linux")?;
        let after_name = stat.rsplit(") ").next().unwrap_or("");
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|f| f.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let statm = read("statm")?;
        let pages: u64 = statm
            .split(' ')
            .nth(1)
            .and_then(|f| f.parse().ok())
            .unwrap_or(0);
        Ok(Usage {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            resident_bytes: pages * PAGE_BYTES,
        })
    }

    fn log_bytes(&self) -> anyhow::Result<f64> {
        let mut bytes = 0.0;
        for entry in std::fs::read_dir(self.data.join("data/engine/log"))? {
            bytes += f64::from(u32::try_from(entry?.metadata()?.len())?);
        }
        Ok(bytes)
    }

    /// Posts every body once, over so many connections at a time.
    fn post_all(&self, path: &str, bodies: &[Vec<u8>], connections: u32) -> anyhow::Result<Run> {
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let results: Vec<anyhow::Result<Vec<Duration>>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..connections)
                .map(|_| scope.spawn(|| self.post_some(path, bodies, &next)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|_| bail!("a generator panicked"))
                })
                .collect()
        });
        let elapsed = started.elapsed();
        let mut latencies = Vec::with_capacity(bodies.len());
        for result in results {
            latencies.extend(result?);
        }
        latencies.sort_unstable();
        Ok(Run { elapsed, latencies })
    }

    fn post_some(
        &self,
        path: &str,
        bodies: &[Vec<u8>],
        next: &AtomicUsize,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut connection = Connection::open(self.address)?;
        let mut latencies = Vec::new();
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.key,
                body.len()
            );
            let sent = Instant::now();
            connection.exchange(head.as_bytes(), body)?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }
}

fn wait_for(ready: &Path) -> anyhow::Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < START_MAX {
        if let Ok(text) = std::fs::read_to_string(ready) {
            let json: Value = serde_json::from_str(&text)?;
            if let Some(url) = json.get("base_url").and_then(Value::as_str) {
                return Ok(url.to_owned());
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the server did not start within {START_MAX:?}")
}

/// An organization, a key and a meter to load; returns the key.
fn prepare(admin: &Api, url: &str) -> anyhow::Result<String> {
    admin.post("/v1/organizations", &json!({"name": "bench"}))?;
    let created = admin.post(
        "/v1/credentials",
        &json!({"organization": "bench", "name": "bench", "permissions": ["*"]}),
    )?;
    let key = created
        .get("secret")
        .and_then(Value::as_str)
        .context("a key")?;
    let meter = json!({
        "name": "bench", "kind": "delta",
        "values": {"requests": {"unit": "1"}, "bytes": {"unit": "By"}}, "attributes": ["region"],
    });
    Api::new(url, key).post("/v1/meters", &meter)?;
    Ok(key.to_owned())
}

/// What a run of requests took.
struct Run {
    elapsed: Duration,
    latencies: Vec<Duration>,
}

impl Run {
    fn latencies(&self) -> String {
        let at = |percent: usize| {
            let index = self.latencies.len().saturating_sub(1) * percent / 100;
            let latency = self.latencies.get(index).copied().unwrap_or_default();
            latency.as_secs_f64() * 1e3
        };
        format!("{:.2} / {:.2} / {:.2} ms", at(50), at(99), at(100))
    }
}

/// A connection that is kept, as thin as can be: the generator shares the machine with the server.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request and reads its answer, which must be a 200 with a length.
    fn exchange(&mut self, head: &[u8], body: &[u8]) -> anyhow::Result<()> {
        let mut request = Vec::with_capacity(head.len() + body.len());
        request.extend_from_slice(head);
        request.extend_from_slice(body);
        self.stream.write_all(&request)?;
        self.buffer.clear();
        let mut piece = [0; 16 * 1024];
        let mut expected = None;
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 || self.buffer.len() > ANSWER_BYTES_MAX {
                bail!("the server ended the connection");
            }
            self.buffer
                .extend_from_slice(piece.get(..read).unwrap_or_default());
            if expected.is_none() {
                expected = answer_length(&self.buffer)?;
            }
            if expected.is_some_and(|length| self.buffer.len() >= length) {
                return Ok(());
            }
        }
    }
}

/// Bytes of the whole answer, once its head is there.
fn answer_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).into_owned();
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the server answered: {}", String::from_utf8_lossy(answer));
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse::<usize>().ok())
        .context("an answer without length")?;
    Ok(Some(end + 4 + length))
}
