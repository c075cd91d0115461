//! What is left of a request's body once its answer is decided.
//!
//! A server that closes a connection with unread bytes on it makes the client's system throw the answer away (RFC
//! 9112, section 9.6). So a body that nobody has read to its end is read on in the background, within bounds, while
//! the answer goes out: a client that sends first and reads later then sees why it was refused.

use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Most bytes that are read and thrown away.
const DRAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest time for it.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Longest pause of a client that is still sending.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A body that is read to its end after it is dropped.
#[derive(Debug)]
pub(crate) struct Drained<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> {
    body: Option<B>,
    /// The client sends nothing until somebody asks for it (`Expect: 100-continue`).
    waits_to_be_asked: bool,
}

impl<B> Drained<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    pub(crate) fn wrap(request: Request<B>) -> Request<Body> {
        let waits_to_be_asked = request.headers().contains_key(header::EXPECT);
        request.map(|body| {
            Body::new(Self {
                body: Some(body),
                waits_to_be_asked,
            })
        })
    }
}

impl<B> HttpBody for Drained<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.waits_to_be_asked = false;
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Drop for Drained<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if self.waits_to_be_asked {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_MAX, drain(body)));
        }
    }
}

async fn drain<B: HttpBody<Data = Bytes> + Send + Unpin + 'static>(mut body: B) {
    let mut left = DRAIN_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE_MAX, body.frame()).await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
