//! The FSM Navigator surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `access`, `limits` and `statuses` are about what many operations have in common; the others about one resource each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod access;
mod customers;
mod inventory;
mod jobs;
mod limits;
mod server;
mod statuses;
mod world;
