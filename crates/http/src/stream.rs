//! A body that is read piece by piece, for files that must not be held in memory.

use crate::body::{BodyBounds, Encoding, next_piece};
use crate::clock::HandlerClock;
use crate::context::Context;
use crate::failure::Failure;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use meterd_fault::{Fault, Kind};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes a second that a sender has to come up with, and for how long it may be slower: a sender that kept to the bound
/// on pauses with a byte each time would hold its place as long as the route allows.
const RATE_MIN_BYTES: u64 = 16 * 1024;
const SLOW_MAX: Duration = Duration::from_secs(30);

/// A body in the order it comes, as it was sent; a compressed one is refused. It is held to the route's limit of bytes,
/// to the bounds on pauses and time and to a least rate, and while it is waited for, the handler's clock stands still.
#[derive(Debug)]
pub struct BodyStream {
    body: Body,
    bounds: BodyBounds,
    clock: Option<HandlerClock>,
    deadline: Instant,
    limit_bytes: u64,
    received_bytes: u64,
    /// For all of them together.
    waited: Duration,
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
            waited: Duration::ZERO,
        })
    }
}

impl BodyStream {
    /// The next piece, or `None` at the end. `BodyTooLarge`, `BodyTimeout`, or `BodyMalformed` if it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let _waiting = self.clock.as_ref().map(HandlerClock::pause);
        let asked = Instant::now();
        let wait_max = SLOW_MAX + Duration::from_secs(self.received_bytes / RATE_MIN_BYTES);
        let deadline = self
            .deadline
            .min(asked + wait_max.saturating_sub(self.waited));
        let piece = next_piece(&mut self.body, &self.bounds, deadline).await?;
        self.waited += asked.elapsed();
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _};
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    /// A body that says nothing further for now.
    fn silent(received_bytes: u64, waited: Duration) -> BodyStream {
        let pieces = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        BodyStream {
            body: Body::from_stream(pieces.boxed()),
            bounds: BodyBounds {
                pause_max: Duration::from_mins(1),
                total_max: Duration::from_hours(1),
                memory_kib: Arc::new(Semaphore::new(1)),
            },
            clock: None,
            deadline: Instant::now() + Duration::from_hours(1),
            limit_bytes: u64::MAX,
            received_bytes,
            waited,
        }
    }

    #[tokio::test]
    async fn a_sender_that_drips_loses_its_place() {
        let mib = 1024 * 1024;
        for (received_bytes, waited, is_in_time) in [
            (0, Duration::ZERO, true),
            (5, SLOW_MAX, false),
            (mib, SLOW_MAX, true),
            (mib, SLOW_MAX + Duration::from_secs(64), false),
        ] {
            let mut body = silent(received_bytes, waited);
            if is_in_time {
                assert!(body.next().now_or_never().is_none());
                continue;
            }
            let refused = body.next().await.unwrap_err();
            let is_late = matches!(*refused.kind, Kind::BodyTimeout { .. });
            assert!(is_late, "{refused:?}");
        }
    }
}
