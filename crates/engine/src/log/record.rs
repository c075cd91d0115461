//! Records: the decisions of one batch, encoded so that each can be read without any other.

use super::frame::Fault;
use crate::encode::{Dictionary, put_count, put_varint};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp,
};
use uuid::Uuid;

const TYPE_STORE: u8 = 1;
const TYPE_VOID: u8 = 2;
const TYPE_CLOSE: u8 = 3;
const VERSION: u8 = 1;
/// Of a store with a row whose id had been forgotten.
const VERSION_FORGOTTEN: u8 = 2;

/// Room made for each row; more is made where it does not do.
const ROW_BYTES_TYPICAL: usize = 96;
const ROWS_EXPECTED_MAX: usize = 10_000;

const FLAG_REPLACES: u8 = 1;
const FLAG_HAS_END: u8 = 2;
const FLAG_FORGOTTEN: u8 = 4;

/// One decision after another, as read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Store(Head, Vec<StoredRow>),
    Void(Head, Vec<MeasurementId>),
    /// The engine was closed; all before it was synced.
    Close,
}

/// What the rows of a record share. Row `n` has the sequence `first_sequence + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) organization: OrganizationId,
    pub(crate) received: Timestamp,
    pub(crate) first_sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) kind: RowKind,
    pub(crate) measurement: Measurement,
}

/// What the id of a stored row was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    New,
    /// Known, but from before its organization's window, so that the row is as good as new.
    Forgotten,
    /// Known, and replaced.
    Replaces,
}

impl RowKind {
    fn flag(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Forgotten => FLAG_FORGOTTEN,
            Self::Replaces => FLAG_REPLACES,
        }
    }

    fn of(flags: u8) -> Result<Self, Fault> {
        match flags & (FLAG_REPLACES | FLAG_FORGOTTEN) {
            0 => Ok(Self::New),
            FLAG_FORGOTTEN => Ok(Self::Forgotten),
            FLAG_REPLACES => Ok(Self::Replaces),
            _ => Err(Fault::Contents),
        }
    }
}

pub(crate) fn encode_store<'a>(
    out: &mut Vec<u8>,
    head: Head,
    rows: impl Iterator<Item = (RowKind, &'a Measurement)>,
) {
    let rows_expected = rows.size_hint().1.unwrap_or(0).min(ROWS_EXPECTED_MAX);
    let mut texts = Dictionary::for_items(rows_expected);
    let mut meters = Dictionary::for_items(1);
    let mut names = Names::default();
    let mut body = Vec::with_capacity(rows_expected * ROW_BYTES_TYPICAL);
    let mut count = 0_u64;
    let mut version = VERSION;
    for (kind, measurement) in rows {
        count += 1;
        if kind == RowKind::Forgotten {
            version = VERSION_FORGOTTEN;
        }
        let ends = measurement.end_time.map_or(0, |_| FLAG_HAS_END);
        body.push(kind.flag() | ends);
        put_text(&mut body, measurement.id.as_str());
        put_varint(&mut body, meters.number(measurement.meter));
        put_varint(&mut body, texts.number(measurement.subject.as_str()));
        put_time(&mut body, measurement.time);
        if let Some(end) = measurement.end_time {
            put_time(&mut body, end);
        }
        names.next_row();
        put_count(&mut body, measurement.values.len());
        for (name, value) in &measurement.values {
            put_varint(&mut body, names.number(name.as_str(), &mut texts));
            put_units(&mut body, value.units());
        }
        put_count(&mut body, measurement.attributes.len());
        for (name, value) in &measurement.attributes {
            put_varint(&mut body, names.number(name.as_str(), &mut texts));
            put_varint(&mut body, texts.number(value.as_str()));
        }
    }
    put_record(out, |out| {
        put_head(out, [TYPE_STORE, version], head);
        put_count(out, texts.order.len());
        for text in &texts.order {
            put_text(out, text);
        }
        put_count(out, meters.order.len());
        for meter in &meters.order {
            out.extend_from_slice(meter.0.as_bytes());
        }
        put_varint(out, count);
        out.extend_from_slice(&body);
    });
}

pub(crate) fn encode_void<'a>(
    out: &mut Vec<u8>,
    head: Head,
    ids: impl Iterator<Item = &'a MeasurementId>,
) {
    let mut body = Vec::new();
    let mut count = 0_u64;
    for id in ids {
        count += 1;
        put_text(&mut body, id.as_str());
    }
    put_record(out, |out| {
        put_head(out, [TYPE_VOID, VERSION], head);
        put_varint(out, count);
        out.extend_from_slice(&body);
    });
}

pub(crate) fn encode_close(out: &mut Vec<u8>) {
    put_record(out, |out| out.extend_from_slice(&[TYPE_CLOSE, VERSION]));
}

/// No less than the bytes that a measurement adds to a record.
pub(crate) fn measurement_bytes_max(measurement: &Measurement) -> usize {
    const FIXED: usize = 128;
    const PER_FIELD: usize = 48;
    let values = measurement
        .values
        .iter()
        .map(|(name, _)| name.as_str().len() + PER_FIELD);
    let attributes = (measurement.attributes.iter())
        .map(|(name, value)| name.as_str().len() + value.as_str().len() + PER_FIELD);
    FIXED
        + measurement.id.as_str().len()
        + measurement.subject.as_str().len()
        + values.sum::<usize>()
        + attributes.sum::<usize>()
}

/// No less than the bytes that a record has beyond its rows.
pub(crate) const RECORD_BYTES_MAX: usize = 128;

/// The records of one frame's payload, in order.
pub(crate) fn decode_all(payload: &[u8]) -> Result<Vec<Record>, Fault> {
    let mut input = Input(payload);
    let mut records = Vec::new();
    while !input.0.is_empty() {
        let length = u32::from_le_bytes(input.array()?);
        let length = usize::try_from(length).map_err(|_| Fault::Contents)?;
        records.push(decode(input.bytes(length)?)?);
    }
    Ok(records)
}

fn decode(bytes: &[u8]) -> Result<Record, Fault> {
    let mut input = Input(bytes);
    let [kind, version] = input.array()?;
    let last = if kind == TYPE_STORE {
        VERSION_FORGOTTEN
    } else {
        VERSION
    };
    if !(VERSION..=last).contains(&version) {
        return Err(Fault::RecordVersion(version));
    }
    let record = match kind {
        TYPE_STORE => {
            let head = input.head()?;
            let rows = input.rows()?;
            let forgotten = rows.iter().any(|row| row.kind == RowKind::Forgotten);
            if forgotten != (version == VERSION_FORGOTTEN) {
                return Err(Fault::Contents);
            }
            Record::Store(head, rows)
        }
        TYPE_VOID => {
            let head = input.head()?;
            let count = input.count()?;
            let ids = (0..count).map(|_| input.id()).collect::<Result<_, _>>()?;
            Record::Void(head, ids)
        }
        TYPE_CLOSE => Record::Close,
        other => return Err(Fault::RecordType(other)),
    };
    if input.0.is_empty() {
        Ok(record)
    } else {
        Err(Fault::Contents)
    }
}

/// Numbers of the fields' names. Rows mostly have the same fields in the same order, so that the name at the same place
/// of the row before is nearly always the one that is asked for.
#[derive(Default)]
struct Names<'a> {
    /// Of the last rows, by place.
    seen: Vec<(&'a str, u64)>,
    place: usize,
}

impl<'a> Names<'a> {
    fn next_row(&mut self) {
        self.place = 0;
    }

    fn number(&mut self, name: &'a str, texts: &mut Dictionary<&'a str>) -> u64 {
        let place = self.place;
        self.place += 1;
        match self.seen.get_mut(place) {
            Some((before, number)) if *before == name => *number,
            Some(before) => {
                *before = (name, texts.number(name));
                before.1
            }
            None => {
                let number = texts.number(name);
                self.seen.push((name, number));
                number
            }
        }
    }
}

fn put_record(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    // A record is part of a frame, whose length is checked against 32 bits.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

fn put_head(out: &mut Vec<u8>, kind_and_version: [u8; 2], head: Head) {
    out.extend_from_slice(&kind_and_version);
    out.extend_from_slice(head.organization.0.as_bytes());
    put_time(out, head.received);
    out.extend_from_slice(&head.first_sequence.to_le_bytes());
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.micros().to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Zigzag: small numbers of either sign stay short.
fn put_units(out: &mut Vec<u8>, units: i128) {
    put_wide_varint(out, ((units << 1) ^ (units >> 127)).cast_unsigned());
}

fn put_wide_varint(out: &mut Vec<u8>, mut number: u128) {
    // What 64 bits hold is shifted faster, and 63 bits are nine bytes.
    const LOW_BITS: u128 = (1 << 63) - 1;
    while number > u128::from(u64::MAX) {
        let low = u64::try_from(number & LOW_BITS).unwrap_or(0);
        for place in 0..9 {
            let [byte, ..] = (low >> (7 * place)).to_le_bytes();
            out.push(byte | 0x80);
        }
        number >>= 63;
    }
    put_varint(out, u64::try_from(number).unwrap_or(0));
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Fault::Contents)?;
        self.0 = tail;
        Ok(*head)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Fault::Contents)?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        u64::try_from(self.wide_varint()?).map_err(|_| Fault::Contents)
    }

    fn wide_varint(&mut self) -> Result<u128, Fault> {
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let [byte] = self.array()?;
            let bits = u128::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return Err(Fault::Contents);
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Fault::Contents)
    }

    fn units(&mut self) -> Result<Decimal, Fault> {
        let coded = self.wide_varint()?;
        let units = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
        Decimal::from_units(units).ok_or(Fault::Contents)
    }

    /// A number of things to come, each of which has at least one byte: so no count asks for more memory than the
    /// input could fill.
    fn count(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or(Fault::Contents)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.count()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Fault::Contents)
    }

    fn id(&mut self) -> Result<MeasurementId, Fault> {
        MeasurementId::new(self.text()?).map_err(|_| Fault::Contents)
    }

    fn time(&mut self) -> Result<Timestamp, Fault> {
        Timestamp::from_micros(i64::from_le_bytes(self.array()?)).ok_or(Fault::Contents)
    }

    fn uuid(&mut self) -> Result<Uuid, Fault> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn head(&mut self) -> Result<Head, Fault> {
        Ok(Head {
            organization: OrganizationId(self.uuid()?),
            received: self.time()?,
            first_sequence: u64::from_le_bytes(self.array()?),
        })
    }

    fn of<T: Clone>(&mut self, table: &[T]) -> Result<T, Fault> {
        let number = usize::try_from(self.varint()?).map_err(|_| Fault::Contents)?;
        table.get(number).cloned().ok_or(Fault::Contents)
    }

    fn rows(&mut self) -> Result<Vec<StoredRow>, Fault> {
        let count = self.count()?;
        let texts = (0..count)
            .map(|_| self.text())
            .collect::<Result<Vec<_>, _>>()?;
        let count = self.count()?;
        let meters = (0..count)
            .map(|_| self.uuid().map(MeterId))
            .collect::<Result<Vec<_>, _>>()?;
        let count = self.count()?;
        (0..count).map(|_| self.row(&texts, &meters)).collect()
    }

    fn row(&mut self, texts: &[&str], meters: &[MeterId]) -> Result<StoredRow, Fault> {
        let [flags] = self.array()?;
        if flags & !(FLAG_REPLACES | FLAG_HAS_END | FLAG_FORGOTTEN) != 0 {
            return Err(Fault::Contents);
        }
        let id = self.id()?;
        let meter = self.of(meters)?;
        let subject = Subject::new(self.of(texts)?).map_err(|_| Fault::Contents)?;
        let time = self.time()?;
        let end_time = if flags & FLAG_HAS_END == 0 {
            None
        } else {
            Some(self.time()?)
        };
        let count = self.count()?;
        let values = (0..count)
            .map(|_| Ok((self.field(texts)?, self.units()?)))
            .collect::<Result<_, Fault>>()?;
        let count = self.count()?;
        let attributes = (0..count)
            .map(|_| Ok((self.field(texts)?, self.attribute(texts)?)))
            .collect::<Result<_, Fault>>()?;
        let measurement = Measurement {
            id,
            meter,
            subject,
            time,
            end_time,
            values,
            attributes,
        };
        measurement.check().map_err(|_| Fault::Contents)?;
        Ok(StoredRow {
            kind: RowKind::of(flags)?,
            measurement,
        })
    }

    fn field(&mut self, texts: &[&str]) -> Result<FieldName, Fault> {
        FieldName::new(self.of(texts)?).map_err(|_| Fault::Contents)
    }

    fn attribute(&mut self, texts: &[&str]) -> Result<AttributeValue, Fault> {
        AttributeValue::new(self.of(texts)?).map_err(|_| Fault::Contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        Head {
            organization: OrganizationId(Uuid::from_u128(7)),
            received: Timestamp::from_seconds(1_800_000_000).unwrap(),
            first_sequence: 42,
        }
    }

    fn measurement(units: i128, text: &str, ends: bool) -> Measurement {
        let time = Timestamp::from_seconds(1_700_000_000).unwrap();
        Measurement {
            id: MeasurementId::new(format!("id {text}")).unwrap(),
            meter: MeterId(Uuid::from_u128(8)),
            subject: Subject::new("Äpfel").unwrap(),
            time,
            end_time: ends.then_some(Timestamp::MAX),
            values: vec![(
                FieldName::new("amount").unwrap(),
                Decimal::from_units(units).unwrap(),
            )],
            attributes: vec![(
                FieldName::new("region").unwrap(),
                AttributeValue::new(text).unwrap(),
            )],
        }
    }

    fn payload(rows: &[StoredRow], ids: &[MeasurementId]) -> Vec<u8> {
        let mut out = Vec::new();
        let pairs = rows.iter().map(|row| (row.kind, &row.measurement));
        encode_store(&mut out, head(), pairs);
        encode_void(&mut out, head(), ids.iter());
        encode_close(&mut out);
        out
    }

    fn rows() -> impl Strategy<Value = Vec<StoredRow>> {
        let units = prop_oneof![
            any::<i64>().prop_map(i128::from),
            Just(Decimal::MAX.units()),
            Just(Decimal::MIN.units())
        ];
        let row = (units, "[a-zé]{1,9}", any::<bool>(), 0..3_usize).prop_map(
            |(units, text, ends, kind)| StoredRow {
                kind: [RowKind::New, RowKind::Forgotten, RowKind::Replaces][kind],
                measurement: measurement(units, &text, ends),
            },
        );
        prop::collection::vec(row, 0..6)
    }

    proptest! {
        /// Seven bits a byte, lowest first, the high bit on all but the last.
        #[test]
        fn varints_have_their_one_spelling(number in any::<u128>(), shift in 0_u32..128) {
            let number = number >> shift;
            let mut expected = Vec::new();
            let mut rest = number;
            while rest > 0x7f {
                expected.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            expected.push(u8::try_from(rest).unwrap());
            let mut out = Vec::new();
            put_wide_varint(&mut out, number);
            prop_assert_eq!(&out, &expected);
            if let Ok(narrow) = u64::try_from(number) {
                out.clear();
                put_varint(&mut out, narrow);
                prop_assert_eq!(out, expected);
            }
        }

        #[test]
        fn records_round_trip_within_their_bound(rows in rows()) {
            let ids: Vec<_> = rows.iter().map(|row| row.measurement.id.clone()).collect();
            let mut store = Vec::new();
            encode_store(&mut store, head(), rows.iter().map(|row| (row.kind, &row.measurement)));
            let bound: usize = rows.iter().map(|row| measurement_bytes_max(&row.measurement)).sum();
            prop_assert!(store.len() <= bound + RECORD_BYTES_MAX);
            let read = decode_all(&payload(&rows, &ids));
            prop_assert_eq!(read, Ok(vec![Record::Store(head(), rows), Record::Void(head(), ids), Record::Close]));
        }

        /// What passes the checksum may still be anything: it is refused or read, never a panic.
        #[test]
        fn no_payload_makes_it_panic(
            rows in rows(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            keep in any::<prop::sample::Index>(),
            extra in prop::collection::vec(any::<u8>(), 0..8),
            cut in any::<bool>(),
        ) {
            let mut bytes = payload(&rows, &[]);
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if cut {
                bytes.truncate(keep.index(bytes.len()));
            }
            bytes.extend(extra);
            let _ = decode_all(&bytes);
        }
    }
}
