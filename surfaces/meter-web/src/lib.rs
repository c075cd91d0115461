//! The Meter surface: Meter's web monitoring API.

mod dialect;

pub use dialect::MeterWebDialect;
