//! The pipeline behind real sockets, with a small surface of its own: bounds, broken clients, and every way that
//! HTTP lets a body come.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bodies;
mod bounds;
mod connections;
mod headers;
mod support;
