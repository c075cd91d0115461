//! The one request pipeline that all surfaces share. The only shared crate that knows the web framework.
//!
//! A surface implements [`Surface`] with data: its routes, the order of its checks, where its credentials stand and
//! its [`Dialect`]. [`Pipeline`] does the rest, and [`listen::serve`] puts it behind sockets.

pub mod body;
mod clock;
mod context;
mod core;
mod cors;
mod dialect;
mod drain;
mod exact;
mod failure;
pub mod fields;
mod idempotency;
pub mod json;
pub mod listen;
pub mod metrics;
mod pipeline;
mod proxy;
mod reply;
pub mod route;
pub mod scan;
mod standard;
mod stream;
mod surface;

pub use self::core::{
    CancelOnDrop, Core, EXPORTS_MAX, LongWork, Slot, queries_max, query_fault, submit_fault,
};
pub use body::{AnyJson, Body, Checked, JsonOrForm, Parsed, Query, RawBody};
pub use context::{AdminPermit, Caller, Context, HomePermit, Params, Permission, Permit};
pub use cors::Cors;
pub use dialect::{Asked, Dialect, Rendered};
pub use exact::{ExactNumber, ExactSum};
pub use failure::Failure;
pub use idempotency::ReplayBody;
pub use pipeline::{Bounds, Mount, Pipeline};
pub use proxy::TrustedProxies;
pub use reply::{NoContent, Reply};
pub use route::Routes;
pub use standard::{bearer, rate_limit_headers, request_id_header};
pub use stream::BodyStream;
pub use surface::{Answered, HEALTH_PATH, Step, Surface};
