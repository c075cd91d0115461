//! The Wattwatchers surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//! Numbers in brackets are rows of the checklist (specs/wattwatchers.md 10).
//!
//! `devices` is about what is known of devices and who sees them, `patch` about changing them, `ingest` about what they
//! send; `period`, `long`, `short`, `modbus` and `shape` about what clients read of it, and `oracle` compares that with a
//! naive reckoning; `limits` and `faults` are about refusals.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod devices;
mod energy;
mod faults;
mod ingest;
mod limits;
mod long;
mod modbus;
mod oracle;
mod patch;
mod period;
mod provision;
mod shape;
mod short;
mod world;
