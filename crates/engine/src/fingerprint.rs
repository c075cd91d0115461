//! When two measurements of one id have the same content.

use crate::id_hash::HashKey;
use meterd_model::Measurement;

/// 128 bits of `SipHash`-2-4 over everything but the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u128);

impl Fingerprint {
    /// Takes a measurement whose fields are in order. `scratch` saves an allocation per measurement.
    pub(crate) fn of(key: HashKey, measurement: &Measurement, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        canonical(measurement, scratch);
        Self(key.hash(scratch))
    }
}

/// Every text and list with its length before it, so that no two contents share an encoding.
fn canonical(measurement: &Measurement, out: &mut Vec<u8>) {
    out.extend_from_slice(measurement.meter.0.as_bytes());
    out.extend_from_slice(&measurement.time.micros().to_le_bytes());
    match measurement.end_time {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            out.extend_from_slice(&end.micros().to_le_bytes());
        }
    }
    put_text(out, measurement.subject.as_str());
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

/// One byte for nearly all lengths; no length begins as another one is written.
fn put_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < u8::MAX => out.push(short),
        _ => {
            out.push(u8::MAX);
            out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_tell_texts_apart() {
        let encoded = |texts: &[&str]| {
            let mut out = Vec::new();
            for text in texts {
                put_text(&mut out, text);
            }
            out
        };
        let long = "x".repeat(300);
        assert_ne!(encoded(&["ab", "c"]), encoded(&["a", "bc"]));
        assert_ne!(encoded(&[&long]), encoded(&[&long[..255], &long[255..]]));
    }
}
