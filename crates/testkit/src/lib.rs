//! What the contract tests of all surfaces share: a whole server in the test's process, a client on a socket, answers
//! held against those on file, and tables of the faults that they show. For tests only.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

pub mod client;
pub mod faults;
pub mod pinned;
mod server;
mod trouble;

pub use server::{Options, Parts, Server, create_organization, now, system};
pub use trouble::{Held, Trouble};
