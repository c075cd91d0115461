//! A body that is read piece by piece, for files that must not be held in memory.

use crate::body::{BodyBounds, Encoding, next_piece};
use crate::clock::HandlerClock;
use crate::context::Context;
use crate::failure::Failure;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use meterd_fault::{Fault, Kind};
use tokio::time::Instant;

/// A body in the order it comes, as it was sent; a compressed one is refused. It is held to the route's limit of bytes
/// and to the bounds on pauses and time, and while it is waited for, the handler's clock stands still.
#[derive(Debug)]
pub struct BodyStream {
    body: Body,
    bounds: BodyBounds,
    clock: Option<HandlerClock>,
    deadline: Instant,
    limit_bytes: u64,
    received_bytes: u64,
}

impl<S: Sync> FromRequest<S> for BodyStream {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let context = parts
            .extensions
            .get::<Context>()
            .ok_or_else(|| Fault::internal("a body was read outside the pipeline"))?;
        let bounds = parts
            .extensions
            .get::<BodyBounds>()
            .ok_or_else(|| Fault::internal("a body was read without bounds"))?;
        Encoding::of(&parts.headers)?.refuse_compressed()?;
        Ok(Self {
            body,
            bounds: bounds.clone(),
            clock: parts.extensions.get::<HandlerClock>().cloned(),
            deadline: Instant::now() + bounds.total_max,
            limit_bytes: context.body_limit_bytes,
            received_bytes: 0,
        })
    }
}

impl BodyStream {
    /// The next piece, or `None` at the end. `BodyTooLarge`, `BodyTimeout`, or `BodyMalformed` if it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let _waiting = self.clock.as_ref().map(HandlerClock::pause);
        let piece = next_piece(&mut self.body, &self.bounds, self.deadline).await?;
        let length = piece.as_ref().map_or(0, Bytes::len) as u64;
        self.received_bytes = self.received_bytes.saturating_add(length);
        if self.received_bytes > self.limit_bytes {
            return Err(Kind::BodyTooLarge {
                limit_bytes: self.limit_bytes,
            }
            .into());
        }
        Ok(piece)
    }
}
