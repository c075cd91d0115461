//! Accepting connections, bounding them, and letting them finish at shutdown.

use crate::drain::Drained;
use crate::pipeline::Pipeline;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, info, warn};

/// Bounds on connections.
#[derive(Clone, Debug)]
pub struct ConnectionBounds {
    /// Open connections; more wait in the system's queue.
    pub connections_max: usize,
    /// Longest time for the head of a request, and for an idle HTTP/1 connection.
    pub head_max: Duration,
    /// Longest time that a connection may be open without a request.
    pub idle_max: Duration,
    /// Longest time that a client may take nothing of an answer.
    pub write_pause_max: Duration,
    /// How long requests in hand may finish at shutdown.
    pub drain_max: Duration,
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_max: Duration::from_secs(15),
            idle_max: Duration::from_mins(2),
            write_pause_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(25),
        }
    }
}

/// What the HTTP library itself refuses, with a bare answer. Above [`crate::Bounds`], so that nearly everything gets
/// an answer in its surface's words.
const HEAD_BUFFER_BYTES: usize = 256 * 1024;
const HEADERS_HARD_MAX: usize = 512;
const HTTP2_STREAMS_MAX: u32 = 128;

/// One address to serve, for all surfaces or for one.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// A listener of one surface serves it without its prefix.
    pub surface: Option<String>,
}

/// Serves until `stop` turns true, then lets requests in hand finish.
pub async fn serve(
    listeners: Vec<Listener>,
    pipeline: Arc<Pipeline>,
    bounds: ConnectionBounds,
    stop: watch::Receiver<bool>,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let acceptor = Acceptor {
                surface: listener.surface.map(Arc::from),
                pipeline: Arc::clone(&pipeline),
                bounds: bounds.clone(),
                slots: Arc::clone(&slots),
                graceful: Arc::clone(&graceful),
            };
            tokio::spawn(acceptor.accept(listener.socket, stop.clone()))
        })
        .collect();
    for task in accepting {
        if let Err(error) = task.await {
            warn!("a listener ended: {error}");
        }
    }
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    match tokio::time::timeout(bounds.drain_max, graceful.shutdown()).await {
        Ok(()) => info!("all connections finished"),
        Err(_) => warn!("connections were cut off after {:?}", bounds.drain_max),
    }
}

struct Acceptor {
    surface: Option<Arc<str>>,
    pipeline: Arc<Pipeline>,
    bounds: ConnectionBounds,
    slots: Arc<Semaphore>,
    graceful: Arc<GracefulShutdown>,
}

impl Acceptor {
    async fn accept(self, socket: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return,
                accepted = self.next(&socket) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => self.serve_connection(stream, peer, slot),
                Err(error) => {
                    // Most often no file descriptors left; a pause lets some connections end.
                    warn!("accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn next(
        &self,
        socket: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(std::io::Error::other)?;
        let (stream, peer) = socket.accept().await?;
        Ok((stream, peer, slot))
    }

    fn serve_connection(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        // Answers are written whole; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.bounds.write_pause_max));
        let pipeline = Arc::clone(&self.pipeline);
        let surface = self.surface.clone();
        let requests = Arc::new(Requests::default());
        let counted = Arc::clone(&requests);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let in_hand = Requests::begin(&counted);
            let pipeline = Arc::clone(&pipeline);
            let surface = surface.clone();
            async move {
                let request = Drained::wrap(request);
                let answer = pipeline.answer(request, peer, surface.as_deref()).await;
                Ok::<_, Infallible>(answer.map(|body| Answering {
                    body,
                    _in_hand: in_hand,
                }))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head_max)
            .max_buf_size(HEAD_BUFFER_BYTES)
            .max_headers(HEADERS_HARD_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BUFFER_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(Duration::from_secs(20)));
        let connection = builder
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .into_owned();
        let connection = self.graceful.watch(connection);
        let open = self.pipeline.metrics.connections.clone();
        let (head_max, idle_max) = (self.bounds.head_max, self.bounds.idle_max);
        tokio::spawn(async move {
            open.inc();
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!("connection from {peer} ended: {error}");
                    }
                }
                // The library's own bound on a head begins only once it knows the version of HTTP, which a client
                // that sends nothing never tells; and it has none for HTTP/2 connections between requests.
                () = requests.idle(head_max, idle_max) => {
                    debug!("connection from {peer} closed: no request came");
                }
            }
            open.dec();
            drop(slot);
        });
    }
}

/// The body of an answer. Its request is in hand until the body has ended or is dropped, since it may take far longer
/// than its head.
struct Answering {
    body: Body,
    _in_hand: InHand,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The requests of one connection.
#[derive(Debug, Default)]
struct Requests {
    /// How many have begun and how many have ended, together.
    steps: AtomicU64,
    in_hand: AtomicU64,
}

/// One request in hand.
struct InHand(Arc<Requests>);

impl Requests {
    fn begin(requests: &Arc<Self>) -> InHand {
        requests.in_hand.fetch_add(1, Ordering::Relaxed);
        requests.steps.fetch_add(1, Ordering::Relaxed);
        InHand(Arc::clone(requests))
    }

    /// Ends when no first request came in time, or none for long after others.
    async fn idle(&self, first_max: Duration, idle_max: Duration) {
        tokio::time::sleep(first_max).await;
        let mut steps = self.steps.load(Ordering::Relaxed);
        while steps > 0 {
            tokio::time::sleep(idle_max).await;
            // An end counts like a beginning: the last bytes of an answer may still be on their way.
            let steps_now = self.steps.load(Ordering::Relaxed);
            if steps_now == steps && self.in_hand.load(Ordering::Relaxed) == 0 {
                return;
            }
            steps = steps_now;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}
