//! The engine of meterd: keeps each measurement exactly once and answers questions about them at once.
//!
//! A batch goes through [`Engine::submit`] to the one writer thread, which decides every id, appends the decisions to
//! the log, syncs, applies them to memory and then answers. Queries read memory and what is sealed on disk, each from
//! one snapshot. No HTTP, no SQL, no async runtime; disk and time are passed in.
//!
//! What never happens: an answer before the sync, an answer that a restart belies, a query that sees what is not
//! durable, a measurement changed in place, a number rounded (but a mean at its last digit), a damaged log guessed at.

mod backup;
mod batch;
mod catalog;
mod compact;
mod disk;
mod encode;
mod engine;
mod export;
mod files;
mod fingerprint;
mod freezer;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod id_hash;
mod ids;
mod keeper;
mod list;
mod log;
mod manifest;
mod marks;
mod memory;
mod partition;
mod probe;
mod query;
mod queue;
mod recover;
mod retired;
mod runs;
mod seal;
mod segment;
mod settings;
mod state;
mod stored;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod texts;
mod ticket;
mod trace;
mod verify;
mod writer;

pub use backup::{BackupReport, restore};
pub use batch::{Batch, OnConflict, Receipt, SubmitError, Verdict, VoidOutcome, VoidReceipt};
pub use catalog::MaintenanceError;
pub use disk::{Disk, DiskFile, DiskLock, DiskReader, SystemDisk};
pub use engine::{Engine, MeterStats, PreparedBatch, Stats};
pub use list::{ListCursor, ListOrder, ListPage, Listed, Listing};
pub use log::frame::Fault;
pub use query::{
    Aggregation, Cancel, Filter, Function, GroupKey, Number, Order, OrderKey, Query, QueryAnswer,
    QueryError, QueryLimit, Row,
};
pub use recover::OpenError;
pub use settings::{Durability, Sealing, Settings};
pub use ticket::Ticket;
pub use trace::{Action, Trace, Version};
pub use verify::{Problem, VerifyError, VerifyReport, verify};

/// How many of something, as wide as such numbers are kept and told.
pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
