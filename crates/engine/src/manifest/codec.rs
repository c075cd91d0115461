//! The manifest's bytes. What is named often (fields, meters) is written once and then by its number.

use super::ManifestFault::Contents;
use super::{Manifest, ManifestFault, OrganizationMeta};
use crate::encode::{Dictionary, put_count, put_varint};
use crate::partition::{Month, Partition};
use crate::runs::RunMeta;
use crate::segment::SegmentMeta;
use meterd_model::{FieldName, MeterId, OrganizationId};
use roaring::RoaringTreemap;
use std::io;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"meterdMF";
const VERSION: u32 = 2;
/// Magic 8, version 4, payload length 8, CRC-32C 4.
const HEADER_BYTES: usize = 24;
/// Bytes of the header that its checksum covers, with the payload.
const COVERED_BYTES: usize = 20;
/// Most bytes of a payload.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;
pub(super) const FILE_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX + 24;

/// The whole file; an error for a manifest that would not be read.
pub(super) fn encode(manifest: &Manifest) -> io::Result<Vec<u8>> {
    manifest.check().map_err(io::Error::other)?;
    let payload = payload(manifest)?;
    if length(payload.len()) > PAYLOAD_BYTES_MAX {
        return Err(io::Error::other("the manifest is too long"));
    }
    Ok(framed(&payload))
}

/// Takes the whole file.
pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestFault> {
    let mut input = Input(bytes);
    let short = |_| ManifestFault::Length;
    if input.array().map_err(short)? != MAGIC {
        return Err(ManifestFault::Magic);
    }
    let version = u32::from_le_bytes(input.array().map_err(short)?);
    if version != VERSION {
        return Err(ManifestFault::Version(version));
    }
    let payload_length = u64::from_le_bytes(input.array().map_err(short)?);
    let checksum = u32::from_le_bytes(input.array().map_err(short)?);
    let Input(payload) = input;
    if payload_length != length(payload.len()) || payload_length > PAYLOAD_BYTES_MAX {
        return Err(ManifestFault::Length);
    }
    let covered = bytes.get(..COVERED_BYTES).ok_or(ManifestFault::Length)?;
    if checksum != crc32c::crc32c_append(crc32c::crc32c(covered), payload) {
        return Err(ManifestFault::Checksum);
    }
    let mut input = Input(payload);
    let manifest = input.manifest()?;
    input.end()?;
    manifest.check()?;
    Ok(manifest)
}

pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length(payload.len()).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Whatever the manifest is; only [`encode`] asks whether it would be read.
pub(super) fn payload(manifest: &Manifest) -> io::Result<Vec<u8>> {
    let mut body = Body::default();
    put_count(&mut body.out, manifest.organizations.len());
    for meta in &manifest.organizations {
        body.put_organization(meta)?;
    }
    put_count(&mut body.out, manifest.runs.len());
    for run in &manifest.runs {
        body.put_run(run);
    }
    put_count(&mut body.out, manifest.marks.len());
    body.put_marks(&manifest.marks);

    let mut out = Vec::new();
    put_varint(&mut out, manifest.first_log);
    put_varint(&mut out, manifest.next_sequence);
    put_varint(&mut out, manifest.next_file);
    out.extend_from_slice(&manifest.hash_key);
    put_count(&mut out, body.fields.order.len());
    for field in &body.fields.order {
        put_count(&mut out, field.len());
        out.extend_from_slice(field.as_bytes());
    }
    put_count(&mut out, body.meters.order.len());
    for meter in &body.meters.order {
        out.extend_from_slice(meter.0.as_bytes());
    }
    out.append(&mut body.out);
    Ok(out)
}

/// What follows the lists of fields and meters, which it makes.
#[derive(Default)]
struct Body<'a> {
    out: Vec<u8>,
    fields: Dictionary<&'a str>,
    meters: Dictionary<MeterId>,
}

impl<'a> Body<'a> {
    fn put_organization(&mut self, meta: &'a OrganizationMeta) -> io::Result<()> {
        self.out.extend_from_slice(meta.organization.0.as_bytes());
        put_varint(&mut self.out, meta.ids);
        put_count(&mut self.out, meta.segments.len());
        for segment in &meta.segments {
            self.put_segment(segment);
        }
        put_count(&mut self.out, meta.retired.len());
        for (partition, sequences) in &meta.retired {
            self.put_partition(*partition);
            put_count(&mut self.out, sequences.serialized_size());
            sequences.serialize_into(&mut self.out)?;
        }
        put_count(&mut self.out, meta.dropped.len());
        for (partition, sequence) in &meta.dropped {
            self.put_partition(*partition);
            put_varint(&mut self.out, *sequence);
        }
        self.out.push(u8::from(meta.forgets));
        put_varint(&mut self.out, meta.forgotten_below);
        Ok(())
    }

    fn put_segment(&mut self, segment: &'a SegmentMeta) {
        put_varint(&mut self.out, segment.number);
        self.put_partition(segment.partition);
        put_varint(&mut self.out, segment.rows);
        put_varint(&mut self.out, segment.voids);
        put_varint(&mut self.out, segment.superseded);
        self.out.extend_from_slice(&segment.time_min.to_le_bytes());
        self.out.extend_from_slice(&segment.time_max.to_le_bytes());
        put_varint(&mut self.out, segment.sequence_min);
        put_varint(&mut self.out, segment.sequence_max);
        put_varint(&mut self.out, segment.bytes);
        self.out.extend_from_slice(&segment.checksum.to_le_bytes());
        for fields in [&segment.values, &segment.attributes] {
            put_count(&mut self.out, fields.len());
            for field in fields {
                put_varint(&mut self.out, self.fields.number(field.as_str()));
            }
        }
    }

    fn put_partition(&mut self, partition: Partition) {
        put_varint(&mut self.out, self.meters.number(partition.meter));
        put_varint(&mut self.out, u64::from(partition.month.0));
    }

    fn put_run(&mut self, run: &RunMeta) {
        put_varint(&mut self.out, run.number);
        put_varint(&mut self.out, run.entries);
        put_varint(&mut self.out, run.bytes);
        self.out.extend_from_slice(&run.checksum.to_le_bytes());
    }

    /// By their distances, since there may be many.
    fn put_marks(&mut self, marks: &[(i64, u64)]) {
        let (mut last_time, mut last_sequence) = (0_i64, 0_u64);
        for (time, sequence) in marks {
            let elapsed = time.wrapping_sub(last_time).cast_unsigned();
            put_varint(&mut self.out, elapsed);
            put_varint(&mut self.out, sequence.wrapping_sub(last_sequence));
            (last_time, last_sequence) = (*time, *sequence);
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

/// What was written once and is meant by number.
struct Named {
    fields: Vec<FieldName>,
    meters: Vec<MeterId>,
}

impl<'a> Input<'a> {
    fn manifest(&mut self) -> Result<Manifest, ManifestFault> {
        let first_log = self.varint()?;
        let next_sequence = self.varint()?;
        let next_file = self.varint()?;
        let hash_key = self.array()?;
        let named = Named {
            fields: self.list(Self::field)?,
            meters: self.list(|input| Ok(MeterId(input.uuid()?)))?,
        };
        Ok(Manifest {
            first_log,
            next_sequence,
            next_file,
            hash_key,
            organizations: self.list(|input| input.organization(&named))?,
            runs: self.list(Self::run)?,
            marks: self.marks()?,
        })
    }

    fn organization(&mut self, named: &Named) -> Result<OrganizationMeta, ManifestFault> {
        let organization = OrganizationId(self.uuid()?);
        Ok(OrganizationMeta {
            organization,
            ids: self.varint()?,
            segments: self.list(|input| input.segment(organization, named))?,
            retired: self.list(|input| Ok((input.partition(named)?, input.sequences()?)))?,
            dropped: self.list(|input| Ok((input.partition(named)?, input.varint()?)))?,
            forgets: self.flag()?,
            forgotten_below: self.varint()?,
        })
    }

    fn segment(
        &mut self,
        organization: OrganizationId,
        named: &Named,
    ) -> Result<SegmentMeta, ManifestFault> {
        Ok(SegmentMeta {
            number: self.varint()?,
            organization,
            partition: self.partition(named)?,
            rows: self.varint()?,
            voids: self.varint()?,
            superseded: self.varint()?,
            time_min: i64::from_le_bytes(self.array()?),
            time_max: i64::from_le_bytes(self.array()?),
            sequence_min: self.varint()?,
            sequence_max: self.varint()?,
            bytes: self.varint()?,
            checksum: u32::from_le_bytes(self.array()?),
            values: self.list(|input| input.of(&named.fields))?,
            attributes: self.list(|input| input.of(&named.fields))?,
        })
    }

    fn partition(&mut self, named: &Named) -> Result<Partition, ManifestFault> {
        let meter = self.of(&named.meters)?;
        let month = u32::try_from(self.varint()?).map_err(|_| Contents("a month is too great"))?;
        Ok(Partition {
            meter,
            month: Month(month),
        })
    }

    fn flag(&mut self) -> Result<bool, ManifestFault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Contents("a flag is neither 0 nor 1")),
        }
    }

    /// The library checks what it reads, and takes no more memory than a few times the bytes that are there.
    fn sequences(&mut self) -> Result<RoaringTreemap, ManifestFault> {
        let malformed = Contents("a retired set does not read");
        let length = self.count()?;
        let mut bytes = self.bytes(length)?;
        let (parts, _) = bytes.split_first_chunk().ok_or(malformed)?;
        let parts = u64::from_le_bytes(*parts);
        let sequences = RoaringTreemap::deserialize_from(&mut bytes).map_err(|_| malformed)?;
        // Of two parts with one key the library keeps the last.
        let distinct = self::length(sequences.bitmaps().count());
        if bytes.is_empty() && distinct == parts {
            Ok(sequences)
        } else {
            Err(malformed)
        }
    }

    fn run(&mut self) -> Result<RunMeta, ManifestFault> {
        Ok(RunMeta {
            number: self.varint()?,
            entries: self.varint()?,
            bytes: self.varint()?,
            checksum: u32::from_le_bytes(self.array()?),
        })
    }

    fn marks(&mut self) -> Result<Vec<(i64, u64)>, ManifestFault> {
        let too_great = Contents("a mark is too great");
        let mut last = (0_i64, 0_u64);
        self.list(|input| {
            let (elapsed, given) = (input.varint()?, input.varint()?);
            last.0 = last.0.checked_add_unsigned(elapsed).ok_or(too_great)?;
            last.1 = last.1.checked_add(given).ok_or(too_great)?;
            Ok(last)
        })
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ManifestFault>,
    ) -> Result<Vec<T>, ManifestFault> {
        let count = self.count()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn of<T: Clone>(&mut self, named: &[T]) -> Result<T, ManifestFault> {
        let number = usize::try_from(self.varint()?).ok();
        let item = number.and_then(|number| named.get(number)).cloned();
        item.ok_or(Contents("a number stands for nothing"))
    }

    fn field(&mut self) -> Result<FieldName, ManifestFault> {
        let length = self.count()?;
        let text = std::str::from_utf8(self.bytes(length)?).ok();
        text.and_then(|text| FieldName::new(text).ok())
            .ok_or(Contents("a field has no valid name"))
    }

    fn uuid(&mut self) -> Result<Uuid, ManifestFault> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// A number of things to come, each of which has at least one byte: so no count asks for more memory than the
    /// input could fill.
    fn count(&mut self) -> Result<usize, ManifestFault> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or(ENDS)
    }

    fn varint(&mut self) -> Result<u64, ManifestFault> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return Err(Contents("a number is too great"));
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Contents("a number is too great"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestFault> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(ENDS)?;
        self.0 = tail;
        Ok(*head)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], ManifestFault> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(ENDS)?;
        self.0 = tail;
        Ok(head)
    }

    fn end(&self) -> Result<(), ManifestFault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Contents("they go on past their end"))
        }
    }
}

const ENDS: ManifestFault = Contents("they end too early");
