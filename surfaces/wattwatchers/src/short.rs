//! Short Energy as clients read it (specs/wattwatchers.md 3.7).

use crate::asked::Asked;
use crate::period::AskedEnds;
use crate::rows::{End, Source};
use crate::shape::{OF_LISTS, OF_RECORDS, Shape};
use crate::stream::Stream;
use axum::response::Response;
use meterd_http::Failure;

/// `GET /short-energy/{id}`
pub(crate) async fn list(asked: Asked) -> Result<Response, Failure> {
    let (ends, shape) =
        asked.read(|fields| (AskedEnds::read(fields), Shape::read(fields, OF_LISTS)))?;
    let ends = ends.check()?;
    shape.check()?;
    let range = ends.short(asked.now)?;
    let answer = move |source: &Source| source.reply(source.records(range)?, shape);
    asked.answer(Stream::Short, answer).await
}

/// `GET /short-energy/{id}/first`
pub(crate) async fn first(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::First).await
}

/// `GET /short-energy/{id}/latest`
pub(crate) async fn latest(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::Latest).await
}

async fn single(asked: Asked, end: End) -> Result<Response, Failure> {
    let shape = asked.read(|fields| Shape::read(fields, OF_RECORDS))?;
    shape.check()?;
    asked.answer_single(Stream::Short, end, shape).await
}
