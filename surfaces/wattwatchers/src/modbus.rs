//! Modbus as clients read it (specs/wattwatchers.md 3.9).

use crate::asked::Asked;
use crate::period::AskedEnds;
use crate::rows::{End, Source};
use crate::shape::Shape;
use crate::stream::Stream;
use axum::response::Response;
use meterd_http::Failure;

/// `GET /modbus/{id}`
pub(crate) async fn list(asked: Asked) -> Result<Response, Failure> {
    asked.device.document.expect_modbus()?;
    let range = asked.read(AskedEnds::read_with_start)?.check()?.modbus()?;
    let answer = move |source: &Source| source.reply(source.records(range)?, Shape::default());
    asked.answer(Stream::Modbus, answer).await
}

/// `GET /modbus/{id}/first`
pub(crate) async fn first(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::First).await
}

/// `GET /modbus/{id}/latest`
pub(crate) async fn latest(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::Latest).await
}

async fn single(asked: Asked, end: End) -> Result<Response, Failure> {
    asked.device.document.expect_modbus()?;
    let shape = asked.read(Shape::read_modbus)?;
    asked.answer_single(Stream::Modbus, end, shape).await
}
