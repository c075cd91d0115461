//! The Wattwatchers surface: the Wattwatchers energy API v3.

mod dialect;

pub use dialect::WattwatchersDialect;
