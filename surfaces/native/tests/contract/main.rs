//! The native surface over HTTP: the real pipeline, control plane and engine in process, and a client on a socket.
//!
//! `administration` looks at what administrators may do, `backups` and `exports` at what leaves the server; `corrections` replaces and withdraws; `disconnects` hangs up in the middle; `faults` provokes every
//! fault that the surface can answer with and pins the whole answers; `rows` holds ingest to storing all or nothing, or
//! exactly the good rows; `operations` walks through every operation; `isolation` looks over the fence between
//! organizations; `properties` compares thousands of measurements with a naive oracle.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod administration;
mod backups;
mod corrections;
mod disconnects;
mod exports;
mod faults;
mod isolation;
mod operations;
mod oracle;
mod pinned;
mod properties;
mod retention;
mod rows;
mod server;
