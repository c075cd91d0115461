//! What is handed in, and the verdict on each part of it.

use meterd_model::{Measurement, MeasurementError, MeasurementId, OrganizationId, Timestamp};
use std::time::Duration;

/// Measurements of one organization, decided and stored together: queries see all that was accepted of a batch or
/// nothing of it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub organization: OrganizationId,
    /// When the server received it; kept with every measurement.
    pub received: Timestamp,
    pub measurements: Vec<Measurement>,
    pub on_conflict: OnConflict,
}

/// What to do with an id that is stored already with other content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    #[default]
    Reject,
    /// Stores a new version, which from then on is the one that counts.
    Replace,
}

/// What became of one measurement of a batch.
///
/// Measurements are decided one after the other, so that of two with the same id in one batch the second meets the
/// first as if it had been stored long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The id was new; stored.
    Accepted,
    /// The id is stored with the same content; nothing changed.
    Duplicate,
    /// The id is stored with other content, or it was voided (whatever its content); nothing changed.
    Conflict,
    /// Stored as the new version of an id that is stored with other content or was voided.
    Replaced,
}

impl Verdict {
    /// Whether the verdict wrote a version.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Accepted | Self::Replaced)
    }
}

/// The answer to a batch. All that it says stored is durable and visible to queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In the order of the batch.
    pub verdicts: Vec<Verdict>,
}

/// What became of one id that was to be voided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoidOutcome {
    /// No longer counts; its versions stay in the trace.
    Voided,
    AlreadyVoided,
    NotFound,
}

/// The answer to a void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoidReceipt {
    /// In the order of the ids.
    pub outcomes: Vec<VoidOutcome>,
}

/// Ids to withdraw.
#[derive(Clone, Debug)]
pub(crate) struct Void {
    pub(crate) organization: OrganizationId,
    pub(crate) received: Timestamp,
    pub(crate) ids: Vec<MeasurementId>,
}

/// Why a batch has no receipt. Sending the same measurements again is safe after every one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Nothing was stored: too much is waiting.
    #[error("the engine is busy")]
    Busy { retry_after: Duration },
    /// Nothing was stored: the engine is closed.
    #[error("the engine is closed")]
    Closed,
    /// Nothing was stored: the disk, or the number of measurements that may be kept, is exhausted. Reads go on.
    #[error("no space is left")]
    Full,
    /// Nothing was stored: the batch has more bytes than are written together.
    #[error("the batch has more than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    /// Nothing was stored: the batch has measurements of more months, those of each meter counted by themselves.
    #[error("the batch has measurements of more than {max} months of meters")]
    TooManyMonths { max: usize },
    /// Nothing was stored: the measurement at this index of the batch cannot be kept.
    #[error("measurement {index} {error}")]
    Invalid {
        index: usize,
        error: MeasurementError,
    },
    /// The disk failed. Whether the batch was stored is not known: surely not if ids on disk could not be read, maybe if
    /// the log could not be written. Reads go on; each further batch, or without one some time, tries again.
    #[error("the log cannot be written, or ids on disk cannot be read")]
    Unavailable,
}
