//! What the log and the manifest are written with: varints, and things meant by number.

use hashbrown::HashMap;
use std::hash::Hash;

/// 7 bits per byte, lowest first; the top bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= 7;
    }
    let [last, ..] = number.to_le_bytes();
    out.push(last);
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, u64::try_from(count).unwrap_or(u64::MAX));
}

/// Numbers things in the order they first appear.
pub(crate) struct Dictionary<T> {
    numbers: HashMap<T, u64>,
    pub(crate) order: Vec<T>,
}

impl<T: Copy + Eq + Hash> Dictionary<T> {
    pub(crate) fn for_items(count: usize) -> Self {
        Self {
            numbers: HashMap::with_capacity(count),
            order: Vec::with_capacity(count),
        }
    }

    pub(crate) fn number(&mut self, item: T) -> u64 {
        let next = u64::try_from(self.order.len()).unwrap_or(u64::MAX);
        *self.numbers.entry(item).or_insert_with(|| {
            self.order.push(item);
            next
        })
    }
}

impl<T: Copy + Eq + Hash> Default for Dictionary<T> {
    fn default() -> Self {
        Self::for_items(0)
    }
}
