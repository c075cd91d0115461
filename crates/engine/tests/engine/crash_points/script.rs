//! Short random histories. The same seed makes the same one everywhere.

use crate::fixtures::*;
use meterd_engine::{Batch, OnConflict};
use meterd_model::{Measurement, MeasurementId, MeterId, OrganizationId, Timestamp};
use std::fmt;

/// What is done to an engine, one after the other.
#[derive(Clone)]
pub(super) enum Act {
    Submit(Batch),
    Void(OrganizationId, Vec<MeasurementId>),
    Seal,
    /// Until nothing is left to merge.
    Merge,
    /// Seals, and then drops the months of a meter that ended by then.
    Expire(OrganizationId, MeterId, Timestamp),
    Reopen,
}

/// On one line, since a failure prints a whole history.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(batch) => {
                let how = batch.on_conflict;
                write!(f, "submit of {} ({how:?}):", batch.organization.0.as_u128())?;
                for row in &batch.measurements {
                    let (id, amount) = (row.id.as_str(), row.values[0].1);
                    let meter = row.meter.0.as_u128() - 1000;
                    write!(f, " {id} of meter {meter} {} {amount};", row.time)?;
                }
                Ok(())
            }
            Self::Void(organization, ids) => {
                let ids: Vec<_> = ids.iter().map(MeasurementId::as_str).collect();
                write!(f, "void of {}: {}", organization.0.as_u128(), ids.join(" "))
            }
            Self::Seal => write!(f, "seal"),
            Self::Merge => write!(f, "merge"),
            Self::Expire(organization, meter, before) => {
                let (organization, meter) = (organization.0.as_u128(), meter.0.as_u128() - 1000);
                write!(
                    f,
                    "seal and expire of {organization}: meter {meter} before {before}"
                )
            }
            Self::Reopen => write!(f, "close and open"),
        }
    }
}

pub(super) const ORGANIZATIONS: [u128; 2] = [1, 2];
pub(super) const METERS: [u128; 2] = [1, 2];

/// Starts of months.
const MONTHS: [i64; 2] = [1_767_225_600, 1_769_904_000];
/// Few, so that they meet often.
const IDS: usize = 12;
const CONTENTS: usize = 4;

pub(super) fn script(random: &mut Random) -> Vec<Act> {
    let acts = 8 + random.below(16);
    (0..acts).map(|_| act(random)).collect()
}

/// What is done to whatever a crash left.
pub(super) fn aftermath(random: &mut Random) -> Vec<Act> {
    vec![
        submit(random),
        submit(random),
        void(random),
        Act::Seal,
        Act::Merge,
    ]
}

fn act(random: &mut Random) -> Act {
    match random.below(20) {
        0..8 => submit(random),
        8..10 => void(random),
        10..15 => Act::Seal,
        15..17 => Act::Merge,
        17 => {
            let before = at(MONTHS[random.below(MONTHS.len())]);
            Act::Expire(
                any_organization(random),
                any(random, METERS.map(meter)),
                before,
            )
        }
        _ => Act::Reopen,
    }
}

fn submit(random: &mut Random) -> Act {
    let rows = 1 + random.below(4);
    Act::Submit(Batch {
        organization: any_organization(random),
        received: at(1_780_000_000 + i64::try_from(random.below(10_000)).unwrap()),
        measurements: (0..rows).map(|_| measurement(random)).collect(),
        on_conflict: if random.below(3) == 0 {
            OnConflict::Replace
        } else {
            OnConflict::Reject
        },
    })
}

fn void(random: &mut Random) -> Act {
    let ids = 1 + random.below(3);
    let ids = (0..ids)
        .map(|_| id(&format!("id-{}", random.below(IDS))))
        .collect();
    Act::Void(any_organization(random), ids)
}

/// One of the few things that ids are sent with.
fn measurement(random: &mut Random) -> Measurement {
    let (number, content) = (random.below(IDS), random.below(CONTENTS));
    let mut mixed = Random((number * CONTENTS + content) as u64);
    let month = MONTHS[mixed.below(MONTHS.len())];
    // A microsecond before the month is in another one.
    let time = month * 1_000_000 + [-1, 0, 1_500_000_000][mixed.below(3)];
    let mut values = vec![(field("amount"), decimal(["1", "2.5", "-7", "0"][content]))];
    if mixed.below(3) == 0 {
        values.push((field("energy"), decimal("99999999999999999999.5")));
    }
    let attributes = match mixed.below(3) {
        0 => vec![(field("region"), text("eu"))],
        1 => vec![(field("region"), text("us")), (field("tier"), text(""))],
        _ => Vec::new(),
    };
    Measurement {
        id: id(&format!("id-{number}")),
        meter: any(&mut mixed, METERS.map(meter)),
        subject: subject(["one", "two", "Äpfel"][mixed.below(3)]),
        time: Timestamp::from_micros(time).unwrap(),
        end_time: (mixed.below(4) == 0).then(|| Timestamp::from_micros(time + 5).unwrap()),
        values,
        attributes,
    }
}

fn any_organization(random: &mut Random) -> OrganizationId {
    any(random, ORGANIZATIONS.map(organization))
}

/// Mostly the first, so that something has a history of some depth.
fn any<T>(random: &mut Random, [first, second]: [T; 2]) -> T {
    if random.below(5) == 0 { second } else { first }
}

/// A small generator (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}
