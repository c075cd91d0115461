//! The m3ter surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `access` is about tokens, `policies` about what they may do; `organization` about who belongs to one; `limits` and
//! `faults` about refusals; `failures`, `uploads`, `events` and `exports` about what goes on after an answer; `products` shows what all configuration objects have in common and
//! `resources` holds every kind to it; `meters`, `aggregations`, `accounts` and `configuration` are about their own rules,
//! `ingest` and `usage` about measurements. `rows` says which of them holds which documented behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod access;
mod accounts;
mod aggregations;
mod configuration;
mod events;
mod exports;
mod failures;
mod faults;
mod ingest;
mod limits;
mod meters;
mod organization;
mod pinned;
mod policies;
mod products;
mod resources;
mod rows;
mod server;
mod uploads;
mod usage;
mod world;
