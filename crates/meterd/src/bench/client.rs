//! The generator's side of HTTP: requests made before the clock starts, kept connections, and as little work per
//! answer as can be, since the generator shares the machine with the server.

use anyhow::{Context as _, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest wait for the next bytes of an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_mins(5);
const PIECE_BYTES: usize = 64 * 1024;

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// With the query.
    pub(crate) path: String,
    pub(crate) key: Option<String>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .context("the URL must begin with http://")?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            address: address
                .parse()
                .context("the URL must name an address and a port")?,
            path: format!("/{path}"),
            key: None,
        })
    }

    /// A whole request, ready to be sent.
    pub(crate) fn request(&self, body: &[u8]) -> Vec<u8> {
        let mut request = format!("POST {} HTTP/1.1\r\nHost: bench\r\n", self.path).into_bytes();
        if let Some(key) = &self.key {
            request.extend_from_slice(format!("Authorization: Bearer {key}\r\n").as_bytes());
        }
        let length = body.len();
        request.extend_from_slice(
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
                .as_bytes(),
        );
        request.extend_from_slice(body);
        request
    }
}

/// What a run of requests took.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    latencies: Vec<Duration>,
}

impl Run {
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that so many percent of the requests did not exceed.
    pub(crate) fn latency_ms(&self, percent: usize) -> f64 {
        let index = self.latencies.len().saturating_sub(1) * percent / 100;
        let latency = self.latencies.get(index).copied().unwrap_or_default();
        latency.as_secs_f64() * 1e3
    }

    /// Adds a run that came after this one.
    pub(crate) fn append(&mut self, later: Self) {
        self.elapsed += later.elapsed;
        self.latencies.extend(later.latencies);
        self.latencies.sort_unstable();
    }
}

/// Sends every request once, over so many connections at a time. With a pace (requests per second), each is sent when
/// it is due, and its latency counts from then: a server that stalls is charged for those that had to wait.
pub(crate) fn send_all(
    address: SocketAddr,
    requests: &[Vec<u8>],
    connections: u32,
    pace: Option<f64>,
) -> anyhow::Result<Run> {
    let queue = Queue {
        requests,
        next: AtomicUsize::new(0),
        started: Instant::now(),
        pace,
    };
    let results: Vec<anyhow::Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| queue.send_some(address)))
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
    let elapsed = queue.started.elapsed();
    let mut latencies = Vec::with_capacity(requests.len());
    for result in results {
        latencies.extend(result?);
    }
    latencies.sort_unstable();
    Ok(Run { elapsed, latencies })
}

/// The requests of a run, each taken by whichever connection is free.
struct Queue<'a> {
    requests: &'a [Vec<u8>],
    next: AtomicUsize,
    started: Instant,
    pace: Option<f64>,
}

impl Queue<'_> {
    fn send_some(&self, address: SocketAddr) -> anyhow::Result<Vec<Duration>> {
        let mut connection = Connection::open(address)?;
        let mut latencies = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = self.requests.get(index) else {
                return Ok(latencies);
            };
            let begin = self.wait_until_due(index);
            connection.exchange(request)?;
            latencies.push(begin.elapsed());
        }
    }

    fn wait_until_due(&self, index: usize) -> Instant {
        let Some(pace) = self.pace else {
            return Instant::now();
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let due = self.started + Duration::from_secs_f64(f64::from(index) / pace);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due
    }
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    piece: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(Self {
            stream,
            piece: vec![0; PIECE_BYTES],
            answer: Vec::new(),
        })
    }

    /// Sends a request and reads its answer, which must be a success.
    fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        self.answer.clear();
        let mut head = None;
        loop {
            let read = self.stream.read(&mut self.piece)?;
            if read == 0 || self.answer.len() > ANSWER_BYTES_MAX {
                bail!("the server ended the connection, or never its answer");
            }
            self.answer
                .extend_from_slice(self.piece.get(..read).unwrap_or_default());
            if head.is_none() {
                head = Head::read(&self.answer)?;
            }
            let Some(head) = &head else { continue };
            let body = self.answer.get(head.length..).unwrap_or_default();
            if !head.framing.is_whole(body) {
                continue;
            }
            if head.success {
                return Ok(());
            }
            bail!(
                "the server answered: {}",
                String::from_utf8_lossy(&self.answer)
            );
        }
    }
}

/// What the head of an answer says.
struct Head {
    success: bool,
    /// Bytes of the head itself.
    length: usize,
    framing: Framing,
}

enum Framing {
    Length(usize),
    Chunks,
}

impl Head {
    /// Nothing as long as the head is not there whole.
    fn read(answer: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.context("an answer without a status")?;
        let mut framing = (status == "204").then_some(Framing::Length(0));
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                framing = Some(Framing::Length(value.parse()?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(Framing::Chunks);
            }
        }
        Ok(Some(Self {
            success: status.starts_with('2'),
            length: end + 4,
            framing: framing.context("an answer without a length")?,
        }))
    }
}

impl Framing {
    fn is_whole(&self, body: &[u8]) -> bool {
        match self {
            Self::Length(length) => body.len() >= *length,
            // The walk begins anew for each piece, so look at the end first.
            Self::Chunks => body.ends_with(b"0\r\n\r\n") && ends_with_last_chunk(body),
        }
    }
}

fn ends_with_last_chunk(mut body: &[u8]) -> bool {
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let digits = std::str::from_utf8(body.get(..line).unwrap_or_default()).unwrap_or("");
        let Ok(length) = usize::from_str_radix(digits, 16) else {
            return false;
        };
        if length == 0 {
            return true;
        }
        body = body
            .get(line.saturating_add(length).saturating_add(4)..)
            .unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let whole = |text: &str| {
            let head = Head::read(text.as_bytes()).unwrap()?;
            let body = text.as_bytes().get(head.length..).unwrap();
            Some(head.framing.is_whole(body))
        };
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Le", None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", Some(false)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Some(true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some(true)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n0\r\n\r\n",
                Some(false),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                Some(true),
            ),
        ] {
            assert_eq!(whole(answer), expected, "{answer:?}");
        }
    }
}
