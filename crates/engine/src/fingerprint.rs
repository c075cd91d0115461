//! When two measurements of one id have the same content.

use meterd_model::Measurement;

/// 128 bits of BLAKE3 over everything but the id. Not written to disk, so that it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u128);

impl Fingerprint {
    /// Takes a measurement whose fields are in order. `scratch` saves an allocation per measurement.
    pub(crate) fn of(measurement: &Measurement, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        canonical(measurement, scratch);
        let hash = blake3::hash(scratch);
        let mut half = [0; 16];
        for (to, from) in half.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Self(u128::from_le_bytes(half))
    }
}

/// Every text and list with its length before it, so that no two contents share an encoding.
fn canonical(measurement: &Measurement, out: &mut Vec<u8>) {
    out.extend_from_slice(measurement.meter.0.as_bytes());
    put_text(out, measurement.subject.as_str());
    out.extend_from_slice(&measurement.time.micros().to_le_bytes());
    match measurement.end_time {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            out.extend_from_slice(&end.micros().to_le_bytes());
        }
    }
    put_length(out, measurement.values.len());
    for (name, value) in &measurement.values {
        put_text(out, name.as_str());
        out.extend_from_slice(&value.units().to_le_bytes());
    }
    put_length(out, measurement.attributes.len());
    for (name, value) in &measurement.attributes {
        put_text(out, name.as_str());
        put_text(out, value.as_str());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
}
