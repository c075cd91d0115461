//! The FSM Navigator surface: customers, jobs, assets with meters, inventory and technicians of a field service company.

#![expect(
    clippy::struct_field_names,
    reason = "documents are the wire form, whose members the original names after their resource"
)]

mod access;
mod address;
mod app;
mod asset;
mod asset_type;
mod company;
mod customer;
mod dialect;
mod envelope;
mod inventory;
mod job;
mod location;
mod meter;
mod page;
mod provision;
mod reading;
mod record;
mod register;
mod routes;
mod service;
mod settings;
mod status;
mod stock;
mod surface;
mod technician;
mod threshold;
mod transfer;
mod wire;

pub use access::{KEYS, SCOPES};
pub use app::App;
pub use dialect::FsmNavigatorDialect;
pub use provision::{
    Amount, DataSet, Named, NewMeter, NewReset, NewTechnician, SetUp, apply_asset_type,
    apply_meter, apply_plan, apply_reset, apply_stock_location, apply_technician, import_readings,
};
pub use settings::{FsmNavigatorLimits, FsmNavigatorSettings};
pub use surface::{FsmNavigatorSurface, documents};
pub use threshold::settle_all;
