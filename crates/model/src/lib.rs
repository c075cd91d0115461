//! What meterd measures: ids, exact decimals, times and calendar windows, meter definitions and measurements.
//!
//! No I/O and no clock: whoever needs the present time passes it in.

mod date;
mod decimal;
mod id;
mod measurement;
mod meter;
mod text;
mod time;
mod window;

pub use date::Date;
pub use decimal::{Decimal, DecimalError, DecimalSum, Rounding};
pub use id::{
    Alphabet, AttributeValue, FieldName, MeasurementId, MeterId, MeterName, OrganizationId,
    Subject, TextError, TextRule, check_text,
};
pub use measurement::{Measurement, MeasurementError};
pub use meter::{FIELDS_MAX, MeterDefinition, MeterKind, RESET, ValueField};
pub use time::{TimeError, Timestamp};
pub use window::{Window, Zone, ZoneError};
