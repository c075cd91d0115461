//! The FSM Navigator surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `access`, `scopes`, `isolation`, `limits` and `statuses` are about what many operations have in common; `checklist`
//! has the rows of the reference's black-box checklist; the others are about one resource each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod access;
mod checklist;
mod customers;
mod inventory;
mod isolation;
mod jobs;
mod limits;
mod scopes;
mod server;
mod statuses;
mod world;
