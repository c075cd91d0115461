//! One fact: something was measured, at a time, with values.

use crate::id::{AttributeValue, FieldName, MeasurementId, MeterId, Subject};
use crate::{Decimal, Timestamp};

/// One measurement as its sender gave it, checked against its meter.
///
/// `values` and `attributes` are sorted by name and name each field at most once; equal content is therefore equal
/// data, which is what de-duplication compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    pub id: MeasurementId,
    pub meter: MeterId,
    pub subject: Subject,
    /// When it happened, or when the measured period began; before [`Timestamp::MAX`].
    pub time: Timestamp,
    /// When the measured period ended; after `time`.
    pub end_time: Option<Timestamp>,
    pub values: Vec<(FieldName, Decimal)>,
    pub attributes: Vec<(FieldName, AttributeValue)>,
}

/// Why a measurement cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasurementError {
    #[error("names a field more than once")]
    FieldRepeated,
    /// Ranges end before their upper bound, so that none could hold it.
    #[error("has the last time there is")]
    TimeLast,
}

impl Measurement {
    /// Brings `values` and `attributes` into their one order.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.values.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.attributes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self
    }

    /// What its types do not say already; for a measurement in order.
    pub fn check(&self) -> Result<(), MeasurementError> {
        let once = self.values.is_sorted_by(|a, b| a.0 < b.0)
            && self.attributes.is_sorted_by(|a, b| a.0 < b.0);
        if !once {
            return Err(MeasurementError::FieldRepeated);
        }
        if self.time == Timestamp::MAX {
            return Err(MeasurementError::TimeLast);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn fields_come_once_and_times_before_the_last() {
        let field = |name: &str| FieldName::new(name).unwrap();
        let plain = Measurement {
            id: MeasurementId::new("a").unwrap(),
            meter: MeterId(Uuid::from_u128(1)),
            subject: Subject::new("s").unwrap(),
            time: Timestamp::MIN,
            end_time: Some(Timestamp::MAX),
            values: vec![
                (field("b"), Decimal::from(1)),
                (field("a"), Decimal::from(2)),
            ],
            attributes: vec![(field("b"), AttributeValue::new("x").unwrap())],
        };
        assert_eq!(plain.clone().in_order().check(), Ok(()));
        let mut twice = plain.clone();
        twice.values.push((field("b"), Decimal::from(1)));
        assert_eq!(
            twice.in_order().check(),
            Err(MeasurementError::FieldRepeated)
        );
        let mut twice = plain.clone();
        twice.attributes.extend_from_slice(&plain.attributes);
        assert_eq!(
            twice.in_order().check(),
            Err(MeasurementError::FieldRepeated)
        );
        let last = Measurement {
            time: Timestamp::MAX,
            ..plain
        };
        assert_eq!(last.in_order().check(), Err(MeasurementError::TimeLast));
    }
}
