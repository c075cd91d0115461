//! The native surface: meterd's own API below `/v1`, with meters, measurements, queries, organizations, credentials, events
//! and the catalogue.

// The schemas of the OpenAPI document are one literal.
#![recursion_limit = "256"]

mod access;
mod app;
mod backup;
mod credential;
mod dialect;
mod event;
mod export;
mod fault;
mod ingest;
mod measurement;
mod meter;
mod openapi;
mod organization;
mod page;
mod query;
mod routes;
mod surface;
mod void;

pub use access::KEYS;
pub use app::{App, long_work_threads};
pub use backup::Backup;
pub use credential::{own_limits, parse_block};
pub use dialect::{ItemFault, NativeDialect};
pub use measurement::{BatchForm, IngestAnswer, ItemAnswer, OnError, SentBatch, ingest};
pub use meter::{MeterUse, check_meter_change, read_meter};
pub use openapi::document as openapi_document;
pub use surface::NativeSurface;
