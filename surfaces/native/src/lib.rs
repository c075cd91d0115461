//! meterd's own API below `/v1`: meters, measurements, queries, organizations, credentials, events and the catalogue.

// The schemas of the OpenAPI document are one literal.
#![recursion_limit = "256"]

mod app;
mod backups;
mod credentials;
mod dialect;
mod events;
mod export;
mod faults;
mod ingest;
mod measurements;
mod meters;
mod openapi;
mod organizations;
mod page;
mod permissions;
mod query;
mod routes;
mod surface;
mod voids;

pub use app::{App, long_work_threads};
pub use backups::Backup;
pub use credentials::{KEYS, parse_block};
pub use dialect::{ItemFault, NativeDialect};
pub use measurements::{BatchForm, IngestAnswer, ItemAnswer, OnError, SentBatch, ingest};
pub use meters::{MeterUse, check_meter_change, read_meter};
pub use openapi::document as openapi_document;
pub use surface::NativeSurface;
