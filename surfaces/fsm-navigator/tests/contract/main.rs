//! The FSM Navigator surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `access`, `faults`, `scopes`, `isolation`, `limits` and `statuses` are about what many operations have in common; `checklist`
//! has the rows of the reference's black-box checklist; the others are about one resource each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod access;
mod assets;
mod checklist;
mod checklist_assets;
mod customers;
mod faults;
mod inventory;
mod isolation;
mod jobs;
mod limits;
mod reading_oracle;
mod readings;
mod scopes;
mod server;
mod services;
mod statuses;
mod world;
