//! From an id to the hash that stands for it, and from a content to its fingerprint.

use crate::fingerprint::Fingerprint;
use crate::runs::IdHash;
use meterd_model::{Measurement, OrganizationId};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hash;

/// Key of `SipHash`-2-4 with 128 bits of output (Aumasson and Bernstein 2012). Each server has its own, so that nobody
/// outside can look for inputs that hash alike.
#[derive(Clone, Copy)]
pub(crate) struct HashKey(u64, u64);

impl HashKey {
    pub(crate) fn hash(self, bytes: &[u8]) -> u128 {
        let hash = SipHasher24::new_with_keys(self.0, self.1).hash(bytes);
        u128::from(hash.h2) << 64 | u128::from(hash.h1)
    }
}

/// Makes the hashes that de-duplication compares.
#[derive(Clone, Copy)]
pub(crate) struct IdHasher {
    ids: HashKey,
    contents: HashKey,
}

/// The keys are nobody's business.
impl std::fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdHasher")
    }
}

/// What de-duplication compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    pub(crate) hash: IdHash,
    /// 64 bits of [`Fingerprint`]: of two contents sent under one id, they are alike with a probability of 2⁻⁶⁴.
    pub(crate) content: u64,
}

impl IdHasher {
    /// The first half of `key` is for ids, the second for contents.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        let (words, _) = key.as_chunks::<8>();
        let word = |index: usize| words.get(index).copied().map_or(0, u64::from_le_bytes);
        Self {
            ids: HashKey(word(0), word(1)),
            contents: HashKey(word(2), word(3)),
        }
    }

    /// Of anything, for comparisons within this process.
    pub(crate) fn hash_of(&self, value: &impl Hash) -> u128 {
        let HashKey(one, other) = self.contents;
        let mut hasher = SipHasher24::new_with_keys(one, other);
        value.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    pub(crate) fn hash(&self, organization: OrganizationId, id: &str) -> IdHash {
        /// An organization and the longest id: 128 characters of up to 4 bytes.
        const BYTES_MAX: usize = 16 + 512;
        let mut input = [0; BYTES_MAX];
        let full = match input.get_mut(..16 + id.len()) {
            Some(place) => {
                let (head, tail) = place.split_at_mut(16);
                head.copy_from_slice(organization.0.as_bytes());
                tail.copy_from_slice(id.as_bytes());
                self.ids.hash(place)
            }
            // No measurement has such an id, but somebody may ask for it.
            None => (self.ids).hash(&[organization.0.as_bytes(), id.as_bytes()].concat()),
        };
        let [hash @ .., _, _, _, _] = full.to_le_bytes();
        IdHash(hash)
    }

    /// Takes a measurement whose fields are in order. `scratch` saves an allocation per measurement.
    pub(crate) fn print(
        &self,
        organization: OrganizationId,
        measurement: &Measurement,
        scratch: &mut Vec<u8>,
    ) -> Print {
        let fingerprint = Fingerprint::of(self.contents, measurement, scratch);
        let [content @ .., _, _, _, _, _, _, _, _] = fingerprint.0.to_le_bytes();
        Print {
            hash: self.hash(organization, measurement.id.as_str()),
            content: u64::from_le_bytes(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's test vectors: what is on disk must mean the same in every build.
    #[test]
    fn hashes_as_the_reference_does() {
        let key = HashKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        for (length, expected) in [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
        ] {
            let bytes: Vec<u8> = (0..length).collect();
            assert_eq!(key.hash(&bytes).to_le_bytes(), expected.to_be_bytes());
        }
    }
}
