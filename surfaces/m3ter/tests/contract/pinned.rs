//! The answers on file, see [`meterd_testkit::pinned`].

use meterd_testkit::pinned::{Pins, comparable};

/// The answers of one group of cases, on file in `answers/GROUP.json`.
pub(crate) fn pins(group: &str) -> Pins {
    Pins::of(env!("CARGO_MANIFEST_DIR"), group, comparable)
}
