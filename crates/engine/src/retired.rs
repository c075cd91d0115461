//! Which sealed rows count no more, though their segment says they do.

use crate::partition::{Link, Month, Partition};
use hashbrown::HashMap;
use meterd_model::MeterId;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sequences of rows by partition. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retired {
    meters: HashMap<MeterId, BTreeMap<Month, Arc<RoaringTreemap>>>,
}

impl Retired {
    pub(crate) fn insert(&mut self, row: Link) {
        let Partition { meter, month } = row.partition;
        let months = self.meters.entry(meter).or_default();
        Arc::make_mut(months.entry(month).or_default()).insert(row.sequence);
    }

    pub(crate) fn rows(&self, partition: Partition) -> Option<&Arc<RoaringTreemap>> {
        self.meters.get(&partition.meter)?.get(&partition.month)
    }

    /// All partitions of one meter.
    pub(crate) fn months(
        &self,
        meter: MeterId,
    ) -> impl Iterator<Item = (Month, &Arc<RoaringTreemap>)> {
        let months = self.meters.get(&meter).into_iter().flatten();
        months.map(|(month, rows)| (*month, rows))
    }

    /// Everything, by partition.
    pub(crate) fn partitions(&self) -> BTreeMap<Partition, Arc<RoaringTreemap>> {
        let all = self.meters.iter().flat_map(|(meter, months)| {
            let of = |month: &Month| Partition {
                meter: *meter,
                month: *month,
            };
            months
                .iter()
                .map(move |(month, rows)| (of(month), Arc::clone(rows)))
        });
        all.collect()
    }

    pub(crate) fn add(&mut self, partition: Partition, rows: &RoaringTreemap) {
        if rows.is_empty() {
            return;
        }
        let months = self.meters.entry(partition.meter).or_default();
        *Arc::make_mut(months.entry(partition.month).or_default()) |= rows;
    }

    /// The partition was dropped.
    pub(crate) fn forget(&mut self, partition: Partition) {
        if let Some(months) = self.meters.get_mut(&partition.meter) {
            months.remove(&partition.month);
        }
    }

    /// These are no longer there, or say by themselves that they do not count.
    pub(crate) fn remove(&mut self, partition: Partition, rows: &RoaringTreemap) {
        let Some(months) = self.meters.get_mut(&partition.meter) else {
            return;
        };
        if let Some(known) = months.get_mut(&partition.month) {
            *Arc::make_mut(known) -= rows;
            if known.is_empty() {
                months.remove(&partition.month);
            }
        }
        if months.is_empty() {
            self.meters.remove(&partition.meter);
        }
    }
}
