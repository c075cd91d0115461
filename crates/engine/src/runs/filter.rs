//! The filter of a shard: says for sure that an id is absent, and of few absent ones that they may be there.
//!
//! A binary fuse filter (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", 2022): a key
//! belongs to three slots, whose exclusive or is the key's fingerprint. Since that holds bit by bit, a filter of any
//! width is one of `xorf`'s 16 bits with the upper ones left out: of absent keys, 1 in 2 to the power of the width
//! passes, at 1.13 times the width in memory.

use super::IdHash;
use super::format::{length, place};
use super::page::PAGE_BYTES;
use meterd_model::OrganizationId;
use std::io;
use xorf::BinaryFuse16;

/// Entries up to which a run is small. Many runs are, but few ids are in them.
const SMALL_RUN_ENTRIES: u64 = 4 << 20;
/// With ten runs, half of them small, 1 in 200 absent ids is looked for on disk.
const SMALL_RUN_SLOT_BITS: u32 = 12;
const LARGE_RUN_SLOT_BITS: u32 = 10;

/// Width of the slots of a run of so many entries.
pub(super) fn slot_bits(entries: u64) -> u32 {
    if entries <= SMALL_RUN_ENTRIES {
        SMALL_RUN_SLOT_BITS
    } else {
        LARGE_RUN_SLOT_BITS
    }
}

/// What a filter knows of an id.
pub(super) fn filter_key(organization: OrganizationId, hash: IdHash) -> u64 {
    let (high, low) = organization.0.as_u64_pair();
    let last = hash.0.last_chunk().copied().map_or(0, u32::from_be_bytes);
    // The hash is as good as random; mixing is for what organizations have in common.
    mix(mix(high).wrapping_add(low)) ^ mix(hash.prefix() ^ u64::from(last) << 32)
}

#[derive(Debug)]
pub(super) struct Filter {
    shape: FilterShape,
    /// The slots, each right after the bits of the one before, lowest bit first; then zeros.
    block: Box<[u8]>,
}

/// What of a filter is not its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilterShape {
    pub(super) slot_bits: u32,
    pub(super) seed: u64,
    /// Slots of a segment, a power of two. A key's slots are in three segments next to one another.
    pub(super) segment_slots: u32,
    /// Slots of all segments that can be the first of the three.
    pub(super) first_slots: u32,
}

impl Filter {
    /// A filter that all of `keys` pass; empties them.
    pub(super) fn build(keys: &mut Vec<u64>, slot_bits: u32) -> io::Result<Self> {
        // Two ids with the same key are as good as impossible, but the filter could not be built with both.
        keys.sort_unstable();
        keys.dedup();
        let wide = BinaryFuse16::try_from(keys.as_slice()).map_err(io::Error::other)?;
        keys.clear();
        let shape = FilterShape {
            slot_bits,
            seed: wide.descriptor.seed,
            segment_slots: wide.descriptor.segment_length,
            first_slots: wide.descriptor.segment_count_length,
        };
        if shape.slots() != length(wide.fingerprints.len()) {
            return Err(io::Error::other("the filter was built in an unknown shape"));
        }
        let mut block = vec![0; place(shape.block_bytes())].into_boxed_slice();
        for (slot, fingerprint) in (0..).zip(&wide.fingerprints) {
            let (byte, shift) = shape.position(slot);
            let bits = (u32::from(*fingerprint) & shape.mask()) << shift;
            for (to, from) in block.iter_mut().skip(byte).zip(bits.to_le_bytes()) {
                *to |= from;
            }
        }
        Ok(Self { shape, block })
    }

    /// A filter from what [`Self::block`] gave.
    pub(super) fn new(shape: FilterShape, block: Box<[u8]>) -> Self {
        Self { shape, block }
    }

    pub(super) fn shape(&self) -> FilterShape {
        self.shape
    }

    pub(super) fn block(&self) -> &[u8] {
        &self.block
    }

    /// Whether a key may be one of those the filter was built from; `false` is certain.
    #[inline]
    pub(super) fn may_have(&self, key: u64) -> bool {
        let hash = mix(key.wrapping_add(self.shape.seed));
        let segment = u64::from(self.shape.segment_slots);
        let within = segment.saturating_sub(1);
        let scaled = (u128::from(hash) * u128::from(self.shape.first_slots)) >> 64;
        let first = u64::try_from(scaled).unwrap_or_default();
        let second = (first + segment) ^ (hash >> 18 & within);
        let third = (first + 2 * segment) ^ (hash & within);
        match (self.slot(first), self.slot(second), self.slot(third)) {
            (Some(a), Some(b), Some(c)) => {
                let fingerprint = hash ^ hash >> 32;
                u64::from(a ^ b ^ c) & u64::from(self.shape.mask())
                    == fingerprint & u64::from(self.shape.mask())
            }
            // No such filter was built; the page knows better.
            _ => true,
        }
    }

    /// A slot, with bits of others above its own.
    #[inline]
    fn slot(&self, slot: u64) -> Option<u32> {
        let (byte, shift) = self.shape.position(slot);
        let bytes = self.block.get(byte..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) >> shift)
    }
}

impl FilterShape {
    fn slots(self) -> u64 {
        u64::from(self.first_slots) + 2 * u64::from(self.segment_slots)
    }

    /// Whole pages, with room to read four bytes at any slot.
    pub(super) fn block_bytes(self) -> u64 {
        let slots_bytes = (self.slots() * u64::from(self.slot_bits)).div_ceil(8);
        (slots_bytes + 3).next_multiple_of(length(PAGE_BYTES))
    }

    fn mask(self) -> u32 {
        (1 << self.slot_bits) - 1
    }

    /// The byte that a slot begins in, and at which of its bits.
    #[inline]
    fn position(self, slot: u64) -> (usize, u64) {
        let bit = slot * u64::from(self.slot_bits);
        (place(bit / 8), bit % 8)
    }
}

/// The finalizer of `MurmurHash3`, with which the filter finds a key's slots. It is part of the format.
#[inline]
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use xorf::Filter as _;

    #[test]
    fn finds_the_slots_that_it_was_built_with() {
        for count in [1, 2, 3, 10, 1_000, 20_000] {
            let mut keys: Vec<u64> = (0..count).map(mix).collect();
            let wide = BinaryFuse16::try_from(keys.as_slice()).unwrap();
            // A key that comes twice is no harm.
            keys.extend_from_within(..1);
            let all = keys.clone();
            let same = Filter::build(&mut keys, 16).unwrap();
            assert!(keys.is_empty());
            let narrow = Filter::build(&mut all.clone(), 10).unwrap();
            assert!(
                all.iter()
                    .all(|key| same.may_have(*key) && narrow.may_have(*key))
            );
            let absent: Vec<u64> = (0..50_000).map(|n| mix(n + count)).collect();
            assert!(
                absent
                    .iter()
                    .all(|key| same.may_have(*key) == wide.contains(key))
            );
            let passed = absent.iter().filter(|key| narrow.may_have(**key)).count();
            assert!(passed < 100, "{passed} of 50 000");
            let bytes = narrow.block().len();
            assert!(
                count < 20_000 || bytes < 20_000 * 10 / 8 * 14 / 10,
                "{bytes}"
            );
        }
    }

    #[test]
    fn a_wrong_shape_is_no_panic() {
        for (segment_slots, first_slots) in [(0, 0), (7, 1), (u32::MAX, u32::MAX)] {
            let shape = FilterShape {
                slot_bits: 16,
                seed: 1,
                segment_slots,
                first_slots,
            };
            let filter = Filter::new(shape, Box::default());
            assert!(filter.may_have(3));
        }
    }
}
