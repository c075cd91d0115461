//! The catalogue of faults, as data for clients and tools.

use crate::dialect::status;
use meterd_fault::Kind;
use meterd_http::Reply;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Catalogue {
    items: Vec<FaultView>,
}

#[derive(Debug, Serialize)]
struct FaultView {
    code: &'static str,
    title: &'static str,
    status: u16,
    advice: &'static str,
    retry_can_help: bool,
    stored: &'static str,
    remedy: &'static str,
    /// Detail of an example.
    example: String,
}

pub(crate) async fn list_faults() -> Reply<Catalogue> {
    let items = Kind::samples()
        .map(|kind| {
            let entry = kind.entry();
            FaultView {
                code: entry.code,
                title: entry.title,
                status: status(&kind).as_u16(),
                advice: entry.advice.code(),
                retry_can_help: entry.advice.retry_can_help(),
                stored: entry.stored.code(),
                remedy: entry.remedy,
                example: kind.to_string(),
            }
        })
        .collect();
    Reply::ok(Catalogue { items })
}
