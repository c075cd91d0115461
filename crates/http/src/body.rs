//! Reading request bodies within bounds, and what they and query strings say.
//!
//! A body may not be larger than its route allows, neither as sent nor inflated; it may not pause for long; and all
//! bodies in hand together stay within one budget of memory.

use crate::clock::HandlerClock;
use crate::context::Context;
use crate::failure::Failure;
use crate::fields::{Fields, Form, Problems};
use crate::json::{self, Json};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use meterd_fault::{Fault, Kind};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest window a zstd body may ask for: 8 MiB, as RFC 9659 sets for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Room made at once for a body that announces its length; more is made as it comes, since an announcement costs nothing.
const ANNOUNCED_ROOM_MAX_BYTES: u64 = 256 * 1024;
/// How much is inflated at a time.
const INFLATED_PIECE_BYTES: usize = 64 * 1024;
const ENCODINGS: &[&str] = &["gzip", "zstd"];
pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";
const FORM: &str = "application/x-www-form-urlencoded";

/// Bounds on bodies that hold for the whole server.
#[derive(Clone, Debug)]
pub struct BodyBounds {
    /// Longest pause between two pieces of a body.
    pub pause_max: Duration,
    /// Longest time for a whole body.
    pub total_max: Duration,
    /// What is left of the memory for bodies, in KiB.
    pub memory_kib: Arc<Semaphore>,
}

/// A whole body as it was meant: inflated, within its bound.
#[derive(Debug)]
pub struct RawBody {
    pub bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        read(request).await.map_err(Failure)
    }
}

async fn read(request: Request) -> Result<RawBody, Fault> {
    let (parts, body) = request.into_parts();
    let context = parts
        .extensions
        .get::<Context>()
        .ok_or_else(|| Fault::internal("a body was read outside the pipeline"))?;
    let bounds = parts
        .extensions
        .get::<BodyBounds>()
        .ok_or_else(|| Fault::internal("a body was read without bounds"))?;
    let encoding = Encoding::of(&parts.headers)?;
    let limit = context.body_limit_bytes;

    let deadline = tokio::time::Instant::now() + bounds.total_max;
    // The handler's time limit is for its own work.
    let waiting = parts
        .extensions
        .get::<HandlerClock>()
        .map(HandlerClock::pause);
    let (sent, mut memory) = receive(body, limit, bounds, deadline).await?;
    drop(waiting);
    if encoding == Encoding::Identity {
        return Ok(RawBody {
            bytes: sent,
            _memory: memory,
        });
    }
    let bounds = bounds.clone();
    let (inflated, more) =
        tokio::task::spawn_blocking(move || inflate(&sent, encoding, limit, &bounds))
            .await
            .map_err(Fault::internal)??;
    if let Some(more) = more {
        merge(&mut memory, more);
    }
    Ok(RawBody {
        bytes: inflated,
        _memory: memory,
    })
}

async fn receive(
    mut body: axum::body::Body,
    limit: u64,
    bounds: &BodyBounds,
    deadline: tokio::time::Instant,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Fault> {
    let announced = hyper::body::Body::size_hint(&body);
    if announced.lower() > limit {
        return Err(Kind::BodyTooLarge { limit_bytes: limit }.into());
    }
    let room = announced.lower().min(ANNOUNCED_ROOM_MAX_BYTES);
    let mut memory = None;
    let mut charged = 0;
    let mut received = BytesMut::new();
    loop {
        let Some(piece) = next_piece(&mut body, bounds, deadline).await? else {
            break;
        };
        let length = received.len() as u64 + piece.len() as u64;
        if length > limit {
            return Err(Kind::BodyTooLarge { limit_bytes: limit }.into());
        }
        if length > charged {
            // The first piece pays for all the room that is made for the body.
            let due = length.max(room) - charged;
            merge(&mut memory, reserve(bounds, due)?);
            charged += due;
        }
        if received.is_empty() {
            received.reserve(usize::try_from(room).unwrap_or(0));
        }
        received.extend_from_slice(&piece);
    }
    Ok((received.freeze(), memory))
}

/// The next bytes of a body, waited for within bounds.
pub(crate) async fn next_piece(
    body: &mut axum::body::Body,
    bounds: &BodyBounds,
    deadline: tokio::time::Instant,
) -> Result<Option<Bytes>, Fault> {
    loop {
        let pause_end = (tokio::time::Instant::now() + bounds.pause_max).min(deadline);
        let frame = tokio::time::timeout_at(pause_end, body.frame())
            .await
            .map_err(|_| Kind::BodyTimeout {
                limit: bounds.pause_max,
            })?;
        let Some(frame) = frame else {
            return Ok(None);
        };
        let frame = frame.map_err(|error| {
            Fault::new(Kind::BodyMalformed {
                reason: "the body ended early".into(),
                line: 1,
                column: 0,
            })
            .with_context(error)
        })?;
        if let Ok(piece) = frame.into_data() {
            return Ok(Some(piece));
        }
    }
}

fn reserve(bounds: &BodyBounds, bytes: u64) -> Result<OwnedSemaphorePermit, Fault> {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    Arc::clone(&bounds.memory_kib)
        .try_acquire_many_owned(kib)
        .map_err(|_| {
            Fault::new(Kind::Overloaded {
                retry_after: Duration::from_secs(1),
            })
            .with_context("no memory left for request bodies")
        })
}

fn merge(memory: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match memory {
        Some(held) => held.merge(more),
        None => *memory = Some(more),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = match (values.next(), values.next()) {
            (None, _) => Some(Self::Identity),
            (Some(value), None) => match value.to_str().unwrap_or("").trim() {
                word if word.eq_ignore_ascii_case("identity") || word.is_empty() => {
                    Some(Self::Identity)
                }
                word if word.eq_ignore_ascii_case("gzip")
                    || word.eq_ignore_ascii_case("x-gzip") =>
                {
                    Some(Self::Gzip)
                }
                word if word.eq_ignore_ascii_case("zstd") => Some(Self::Zstd),
                _ => None,
            },
            // Encodings on top of each other multiply what a small body can become.
            (Some(_), Some(_)) => None,
        };
        encoding.ok_or_else(|| Kind::ContentEncodingUnsupported { allowed: ENCODINGS }.into())
    }

    pub(crate) fn refuse_compressed(self) -> Result<(), Fault> {
        match self {
            Self::Identity => Ok(()),
            Self::Gzip | Self::Zstd => Err(Kind::ContentEncodingUnsupported {
                allowed: &["identity"],
            }
            .into()),
        }
    }
}

fn inflate(
    sent: &[u8],
    encoding: Encoding,
    limit: u64,
    bounds: &BodyBounds,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Fault> {
    let mut decoder: Box<dyn Read + '_> = match encoding {
        Encoding::Identity => Box::new(sent),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(sent)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(sent).map_err(damaged)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(damaged)?;
            Box::new(decoder)
        }
    };
    let mut inflated = Vec::new();
    let mut memory = None;
    let mut piece = vec![0; INFLATED_PIECE_BYTES];
    loop {
        let read = decoder.read(&mut piece).map_err(damaged)?;
        if read == 0 {
            return Ok((inflated.into(), memory));
        }
        if inflated.len() as u64 + read as u64 > limit {
            return Err(Kind::BodyTooLarge { limit_bytes: limit }.into());
        }
        // In steps, so that a small body does not hold room for the largest one.
        merge(&mut memory, reserve(bounds, read as u64)?);
        inflated.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
}

fn damaged(error: std::io::Error) -> Fault {
    Fault::new(Kind::BodyMalformed {
        reason: "the compressed body is damaged".into(),
        line: 1,
        column: 0,
    })
    .with_context(error)
}

/// Whether the media type is `expected`, parameters and case aside.
pub fn has_media_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

/// Refuses a media type that is none of JSON's. To say none is fine.
pub fn expect_json(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.contains_key(header::CONTENT_TYPE) && !is_json(headers) {
        return Err(Kind::MediaTypeUnsupported { expected: &[JSON] }.into());
    }
    Ok(())
}

/// Something that a JSON object or a query string says.
pub trait Checked: Sized {
    const FORM: Form = Form::STRICT;

    /// Takes the members it knows, noting problems in `fields`; `None` only if there are some.
    fn check(fields: &mut Fields<'_>) -> Option<Self>;
}

/// A JSON body, checked member by member.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: Checked, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !has_media_type(request.headers(), JSON) {
            return Err(Kind::MediaTypeUnsupported { expected: &[JSON] }.into());
        }
        let body = RawBody::from_request(request, state).await?;
        check_json(&body.bytes).map(Self).map_err(Failure)
    }
}

/// A JSON body of which only the syntax is known to be right, for surfaces that tell an unknown resource before a bad
/// field. Any JSON media type will do, and none.
#[derive(Debug)]
pub struct Parsed {
    json: Json,
    problems: Problems,
}

impl<S: Sync> FromRequest<S> for Parsed {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        expect_json(request.headers())?;
        let body = RawBody::from_request(request, state).await?;
        Self::of(&body.bytes).map_err(Failure)
    }
}

impl Parsed {
    fn of(bytes: &[u8]) -> Result<Self, Fault> {
        let mut problems = Problems::default();
        let json = json::parse(bytes, "", &mut problems)?;
        Ok(Self { json, problems })
    }

    /// What the body's object says. `read` returns `None` only if it has noted problems.
    pub fn read<T>(
        self,
        form: Form,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Result<T, Fault> {
        let Self { json, mut problems } = self;
        let mut value = None;
        if let Some(mut fields) = Fields::of_object(json, "", &mut problems) {
            value = read(&mut fields);
            if form.refuses_unknown {
                fields.finish();
            }
        }
        problems.into_result()?;
        value.ok_or_else(|| Fault::internal("a body was refused without a problem"))
    }
}

/// A [`Parsed`] body, whatever its media type is said to be.
#[derive(Debug)]
pub struct AnyJson(pub Parsed);

impl<S: Sync> FromRequest<S> for AnyJson {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = RawBody::from_request(request, state).await?;
        Ok(Self(Parsed::of(&body.bytes)?))
    }
}

/// A JSON body, or the same members as `application/x-www-form-urlencoded`.
#[derive(Debug)]
pub struct JsonOrForm(pub Parsed);

impl<S: Sync> FromRequest<S> for JsonOrForm {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !has_media_type(request.headers(), FORM) {
            return Parsed::from_request(request, state).await.map(Self);
        }
        let body = RawBody::from_request(request, state).await?;
        // What is no text has no known members, nor has it as nothing.
        let text = std::str::from_utf8(&body.bytes).unwrap_or("");
        let mut problems = Problems::default();
        let (members, _) = Fields::of_query(text, Form::LENIENT, &mut problems).into_members();
        let json = Json::Object(members);
        Ok(Self(Parsed { json, problems }))
    }
}

/// `application/json`, `text/json` or any `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase());
    essence.is_some_and(|essence| {
        essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json")
    })
}

/// Reads one JSON object as a `T`.
pub fn check_json<T: Checked>(bytes: &[u8]) -> Result<T, Fault> {
    Parsed::of(bytes)?.read(T::FORM, T::check)
}

/// A query string, checked parameter by parameter.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: Checked, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        read_query(parts.uri.query().unwrap_or(""), T::FORM, T::check)
            .map(Self)
            .map_err(Failure)
    }
}

/// What a query string says. `read` returns `None` only if it has noted problems.
pub fn read_query<T>(
    query: &str,
    form: Form,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Fault> {
    let mut problems = Problems::default();
    let mut fields = Fields::of_query(query, form, &mut problems);
    let value = read(&mut fields);
    if form.refuses_unknown {
        fields.finish();
    }
    problems.into_result()?;
    value.ok_or_else(|| Fault::internal("a query was refused without a problem"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use hyper::body::{Body as HttpBody, Frame, SizeHint};
    use std::pin::Pin;
    use std::task::{Context as Task, Poll};

    /// One byte of a body that announces more, and then nothing.
    struct Begun {
        announced: u64,
        first: Option<Bytes>,
    }

    impl HttpBody for Begun {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Task<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            match self.first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => Poll::Pending,
            }
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.announced)
        }
    }

    #[tokio::test]
    async fn the_room_made_for_a_body_is_charged_with_its_first_byte() {
        let bounds = BodyBounds {
            pause_max: Duration::from_mins(1),
            total_max: Duration::from_mins(1),
            memory_kib: Arc::new(Semaphore::new(1024)),
        };
        for (announced, left_kib) in [(10_000, 1014), (1_000_000, 768)] {
            let body = axum::body::Body::new(Begun {
                announced,
                first: Some(Bytes::from_static(b"x")),
            });
            let deadline = tokio::time::Instant::now() + bounds.total_max;
            let mut receiving = Box::pin(receive(body, 16_000_000, &bounds, deadline));
            assert!((&mut receiving).now_or_never().is_none());
            assert_eq!(bounds.memory_kib.available_permits(), left_kib);
            drop(receiving);
            assert_eq!(bounds.memory_kib.available_permits(), 1024);
        }
    }
}
