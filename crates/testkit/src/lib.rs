//! What the contract tests of all surfaces share: a whole server in the test's process, a client on a socket, and
//! answers held against those on file. For tests only.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

pub mod client;
pub mod pinned;
mod server;

pub use server::{Options, Parts, Server, create_organization, now, system};
