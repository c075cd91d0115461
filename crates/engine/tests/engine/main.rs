//! The engine from outside: against a naive oracle, through power cuts and failing disks, from many threads, and over
//! damaged files.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod answers;
mod concurrency;
mod crash;
mod crash_points;
mod fixtures;
mod format;
mod formats;
mod fuzzing;
mod oracle;
mod properties;
mod registers;
mod rules;
mod upkeep;
mod windows;
