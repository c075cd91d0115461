//! The FSM Navigator surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `access`, `addresses`, `envelopes` and `limits` are about what all operations have in common; the others about one
//! resource each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod access;
mod customers;
mod server;
mod world;
