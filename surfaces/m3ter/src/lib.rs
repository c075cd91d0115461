//! The m3ter surface: m3ter's Config and Ingest API.

mod access;
mod account;
mod aggregation;
mod app;
mod array;
mod calculation;
mod compound_aggregation;
mod counter;
mod counter_adjustment;
mod cron;
mod custom_fields;
mod dialect;
mod entity;
mod event;
mod event_types;
mod export_destination;
mod export_job;
mod export_schedule;
mod export_usage;
mod export_work;
mod failure;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod grant;
mod ingest;
mod invitation;
mod jobs;
mod list;
mod meter;
mod notification;
mod operational;
mod organization_config;
mod period;
mod plan;
mod policy;
mod product;
mod provision;
mod resource_group;
mod routes;
mod rules;
mod saved_query;
mod scheduled_event;
mod search;
mod service_user;
mod settings;
mod singleton;
mod statement;
mod surface;
mod token;
mod transfer;
mod upload;
mod upload_work;
mod usage;
mod user;
mod wire;
mod writer;

pub use app::App;
pub use dialect::M3terDialect;
pub use jobs::{tick, work};
pub use provision::{
    NewServiceUser, NewUser, apply_service_user, apply_user, create_service_user, has_policy,
    provision, remember_ids,
};
pub use settings::{M3terLimits, M3terSettings, RequiredFields, TokenRefusal};
pub use surface::{M3terSurface, documents};
