//! The Wattwatchers surface: the Wattwatchers energy API v3, and what devices send.

mod access;
mod app;
mod asked;
mod body;
mod bucket;
mod category;
mod check;
mod command;
mod device;
mod devices;
mod dialect;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod heard;
mod ingest;
mod item;
mod layout;
mod limits;
mod long;
mod modbus;
mod model;
mod patch;
mod period;
mod provision;
mod record;
mod register;
mod root;
mod routes;
mod rows;
mod serial;
mod settings;
mod shape;
mod short;
mod status;
mod stream;
mod surface;

pub use access::Level;
pub use app::App;
pub use dialect::WattwatchersDialect;
pub use heard::work;
pub use ingest::{Outcome, Rejected, import};
pub use layout::{Layout, LayoutRow};
pub use limits::KeyLimits;
pub use model::Model;
pub use provision::{
    KeyRole, KeySees, NewKey, NewKeyLimits, apply_key, check_key, create_key, owner_of,
    register_device, remember_ids,
};
pub use register::{LABEL, Registration};
pub use serial::Serial;
pub use settings::{DayWindow, WattwatchersLimits, WattwatchersSettings};
pub use stream::Stream;
pub use surface::{WattwatchersSurface, documents};
