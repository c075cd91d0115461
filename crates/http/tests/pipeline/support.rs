//! A surface with a handful of routes, a server around it, and clients that speak raw bytes.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use meterd_control::{Control, Settings};
use meterd_fault::{Code, Fault, Kind};
use meterd_http::listen::{ConnectionBounds, Listener, serve};
use meterd_http::metrics::HttpMetrics;
use meterd_http::route::{RouteTable, get, post};
use meterd_http::{
    Answered, Asked, Bounds, Caller, Context, Cors, Dialect, Mount, Pipeline, RawBody, Rendered,
    Routes, Step, Surface, TrustedProxies, request_id_header,
};
use meterd_model::Timestamp;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Far longer than anything takes; past it, something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A bound small enough to be reached in a test.
pub(crate) const SHORT: Duration = Duration::from_millis(200);
pub(crate) const BODY_MAX_BYTES: u64 = 1000;
pub(crate) const PANIC_WORDS: &str = "what only the log may read";
/// Pieces of the answer of `/stream`.
pub(crate) const STREAM_PIECES: usize = 4;
const BIG_BYTES: usize = 64 * 1024 * 1024;

/// Answers `CODE` as plain text.
#[derive(Debug)]
struct Plain;

impl Dialect for Plain {
    fn surface(&self) -> &'static str {
        "plain"
    }

    fn render(&self, kind: &Kind, _: &Asked<'_>) -> Rendered {
        let status = match kind {
            Kind::BodyMalformed { .. } => StatusCode::BAD_REQUEST,
            Kind::CredentialsMissing => StatusCode::UNAUTHORIZED,
            Kind::UnknownRoute => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Kind::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Kind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Kind::ContentEncodingUnsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Kind::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Kind::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Rendered::text(status, kind.entry().code)
    }
}

#[derive(Debug)]
struct Tiny {
    routes: Routes,
}

/// What handlers share: `/wait` takes a permit, which a test hands out.
type Gate = Arc<Semaphore>;

impl Tiny {
    fn new(gate: Gate) -> Self {
        let routes = RouteTable::new(gate)
            .route("/ping", [get(ping).public()])
            .route("/client", [get(client).public()])
            .route("/echo", [post(echo).public()])
            .route("/big", [get(big).public()])
            .route("/panic", [get(panics).public()])
            .route("/wait", [get(wait).public()])
            .route("/stream", [get(stream).public()])
            .route("/slow", [get(slow).public().time_limit(SHORT)])
            .route("/secret", [get(ping)])
            .build();
        Self { routes }
    }
}

async fn ping() -> &'static str {
    "pong"
}

async fn client(context: Context) -> String {
    context.client.to_string()
}

async fn echo(body: RawBody) -> Bytes {
    body.bytes
}

/// More than the buffers of any socket hold.
async fn big() -> Bytes {
    Bytes::from(vec![b'x'; BIG_BYTES])
}

async fn panics() -> &'static str {
    panic!("{PANIC_WORDS}")
}

async fn wait(State(gate): State<Gate>) -> &'static str {
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
    "waited"
}

/// Each piece waits for a permit.
async fn stream(State(gate): State<Gate>) -> Body {
    Body::from_stream(futures_util::stream::unfold(STREAM_PIECES, move |left| {
        let gate = Arc::clone(&gate);
        async move {
            let left = left.checked_sub(1)?;
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
            Some((Ok::<_, Infallible>("piece"), left))
        }
    }))
}

async fn slow() -> &'static str {
    std::future::pending().await
}

impl Surface for Tiny {
    fn dialect(&self) -> &dyn Dialect {
        &Plain
    }

    fn order(&self) -> &'static [Step] {
        &[Step::Route, Step::Method, Step::Authenticate]
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn authenticate(&self, _: &Parts, _: Timestamp) -> Result<Caller, Fault> {
        Err(Kind::CredentialsMissing.into())
    }

    fn cors(&self) -> Option<&'static Cors> {
        Some(&Cors {
            methods: "GET, POST",
            headers: "Authorization",
            exposed_headers: "X-Surface",
        })
    }

    fn body_limit_bytes(&self) -> u64 {
        BODY_MAX_BYTES
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        request_id_header(headers, answered.request_id);
        headers.insert("x-surface", HeaderValue::from_static("tiny"));
        // Not the fault's code, up to which tests read on to the body.
        if answered.fault.is_some() {
            headers.insert("x-failed", HeaderValue::from_static("yes"));
        }
    }
}

/// How a test wants its server.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) bounds: Bounds,
    pub(crate) connections: ConnectionBounds,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) gate: Gate,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sqlite");
        let control = Control::open(path, Settings::default()).unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let mount = Mount {
            prefix: "",
            surface: Arc::new(Tiny::new(Arc::clone(&gate))),
        };
        let pipeline = Arc::new(Pipeline::new(
            vec![mount],
            Arc::new(control),
            setup.bounds,
            TrustedProxies::default(),
            None,
            HttpMetrics::register(&mut Registry::default()),
        ));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener {
            socket,
            surface: None,
        };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(
            vec![listener],
            Arc::clone(&pipeline),
            setup.connections,
            stopped,
        ));
        Self {
            address,
            pipeline,
            gate,
            stop,
            serving,
            _directory: directory,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) async fn exchange(&self, sent: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(sent.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// Waits until this many connections are open.
    pub(crate) async fn connections(&self, wanted: i64) {
        let reached = async {
            while self.pipeline.metrics.connections.get() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        let open = self.pipeline.metrics.connections.get();
        assert!(in_time.is_ok(), "{open} connections are open, not {wanted}");
    }
}

/// Everything until the server closes, or resets.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(PATIENCE, read).await;
    assert!(ended.is_ok(), "the server does not close");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the text ends so.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(end.as_bytes()) {
            text.push(stream.read_u8().await.unwrap());
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, read).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(in_time, "only {text:?}");
    text
}

/// A GET that ends its connection.
pub(crate) fn last_get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// A POST to `/echo` with these headers and bytes behind its head.
pub(crate) fn echo_of(headers: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

#[track_caller]
pub(crate) fn assert_answer(answer: &str, status: u16, body: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{status}: {answer}"
    );
    let (head, sent) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(sent, body, "{answer}");
    assert!(head.contains("x-request-id: "), "{answer}");
    assert!(head.contains("x-surface: tiny"), "{answer}");
}

/// The fault's body is its code.
#[track_caller]
pub(crate) fn assert_fault(answer: &str, status: u16, code: Code) {
    assert_answer(answer, status, code.entry().code);
}
