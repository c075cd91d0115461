//! The `T IoT Hub` surface: Deutsche Telekom's connection (CMO) and device (DMO) management API.

mod dialect;

pub use dialect::TIotHubDialect;
