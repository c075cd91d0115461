//! Long Energy as clients read it (specs/wattwatchers.md 3.8).

use crate::asked::{Asked, text, word};
use crate::bucket::Granularity;
use crate::period::AskedEnds;
use crate::record::Record;
use crate::rows::{End, Source};
use crate::shape::{OF_LISTS, OF_RECORDS, Shape};
use crate::stream::Stream;
use axum::response::Response;
use meterd_http::Failure;

/// `GET /long-energy/{id}`
pub(crate) async fn list(asked: Asked) -> Result<Response, Failure> {
    let (ends, granularity, zone, shape) = asked.read(|fields| {
        let granularity = word(fields, "granularity", &Granularity::WORDS);
        (
            AskedEnds::read(fields),
            granularity.unwrap_or_default(),
            text(fields, "timezone"),
            Shape::read(fields, OF_LISTS),
        )
    })?;
    let ends = ends.check()?.without_zero_start()?;
    shape.check()?;
    let zone = granularity.zone(zone.as_deref())?;
    let answer = move |source: &Source| {
        let first = || source.single(End::First);
        let from = match ends.from {
            Some(from) => Some(from),
            None => first()?.as_ref().map(Record::stamp),
        };
        let Some(from) = from else {
            return source.reply(Vec::new(), shape);
        };
        let range = ends.long(from, granularity.longest(), &zone)?;
        let records = match granularity {
            Granularity::FiveMinutes => source.records(range)?,
            _ => source.buckets(range, granularity, &zone)?,
        };
        source.reply(records, shape)
    };
    asked.answer(Stream::Long, answer).await
}

/// `GET /long-energy/{id}/first`
pub(crate) async fn first(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::First).await
}

/// `GET /long-energy/{id}/latest`
pub(crate) async fn latest(asked: Asked) -> Result<Response, Failure> {
    single(asked, End::Latest).await
}

async fn single(asked: Asked, end: End) -> Result<Response, Failure> {
    let shape = asked.read(|fields| Shape::read(fields, OF_RECORDS))?;
    shape.check()?;
    asked.answer_single(Stream::Long, end, shape).await
}
