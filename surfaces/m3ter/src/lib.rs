//! The m3ter surface: m3ter's Config and Ingest API.

mod dialect;

pub use dialect::M3terDialect;
