//! Reading all of a segment again, to know that it is what it was written as.

use super::cursor::Cursor;
use super::read::Segment;
use super::write::{empty_meta, used};
use super::{SegmentError, SegmentMeta};
use meterd_model::Decimal;
use std::io;

const STEP_BYTES: usize = 1 << 20;

impl Segment {
    /// Checks the checksum of the whole file, every page, the order of the rows, and all that is known of them.
    pub(crate) fn verify(&self) -> Result<(), SegmentError> {
        self.check_bytes(&|| Ok(()))?;
        let meta = self.meta();
        let damaged = |what: &str| Err(SegmentError::damaged(meta.number, what));
        let footer = self.footer()?;
        let mut found = empty_meta(meta.number, meta.organization, meta.partition);
        let mut value_is_used = vec![false; footer.values.len()];
        let mut attribute_is_used = vec![false; footer.attributes.len()];
        let mut last: Option<(Option<Box<str>>, i64, u64)> = None;
        let mut cursor = Cursor::open(self)?;
        while cursor.advance()? {
            let row = cursor.row(&[], &[]);
            let (subject, time, sequence) = cursor.key();
            if let Some((last_subject, last_time, last_sequence)) = &mut last {
                if (last_subject.as_deref(), *last_time, *last_sequence)
                    >= (subject, time, sequence)
                {
                    return damaged("its rows are not in order");
                }
                (*last_time, *last_sequence) = (time, sequence);
                if last_subject.as_deref() != subject {
                    *last_subject = subject.map(Into::into);
                }
            } else {
                last = Some((subject.map(Into::into), time, sequence));
            }
            found.rows += 1;
            found.voids += u64::from(subject.is_none());
            found.superseded += u64::from(!row.current);
            found.sequence_min = found.sequence_min.min(sequence);
            found.sequence_max = found.sequence_max.max(sequence);
            if subject.is_some() {
                found.time_min = found.time_min.min(time);
                found.time_max = found.time_max.max(time);
            }
            for (column, units) in cursor.values() {
                if Decimal::from_units(units).is_none() {
                    return damaged("it has a decimal of more digits than there can be");
                }
                value_is_used
                    .get_mut(column)
                    .into_iter()
                    .for_each(|used| *used = true);
            }
            for (column, _) in cursor.attributes() {
                attribute_is_used
                    .get_mut(column)
                    .into_iter()
                    .for_each(|used| *used = true);
            }
        }
        let found = SegmentMeta {
            bytes: meta.bytes,
            checksum: meta.checksum,
            values: used(&footer.values, &value_is_used),
            attributes: used(&footer.attributes, &attribute_is_used),
            ..found
        };
        if found != *meta {
            return damaged("it does not have the rows that the manifest says");
        }
        Ok(())
    }

    /// Checks the checksum of the whole file, unless `go_on` ends it.
    pub(super) fn check_bytes(
        &self,
        go_on: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), SegmentError> {
        let reader = self.reader();
        let mut step = vec![0; STEP_BYTES];
        let (mut checksum, mut offset) = (0, 0);
        while offset < reader.length() {
            go_on()?;
            let left = usize::try_from(reader.length() - offset).unwrap_or(usize::MAX);
            let bytes = step.get_mut(..left.min(STEP_BYTES)).unwrap_or_default();
            reader.read_at(offset, bytes)?;
            checksum = crc32c::crc32c_append(checksum, bytes);
            offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        if checksum != self.meta().checksum {
            return Err(SegmentError::damaged(
                self.meta().number,
                "it does not have the right checksum",
            ));
        }
        Ok(())
    }
}
