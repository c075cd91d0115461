//! The real executable, from outside: its commands, its sockets, its signals and its files.
//!
//! Every test has a directory of its own and lets the system choose the port, so that all run side by side.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod apply;
mod crash;
mod demo;
mod errors;
mod fsm_navigator;
mod import;
mod keep;
mod key;
mod observe;
mod review;
mod serve;
mod shutdown;
mod support;
mod verify;
