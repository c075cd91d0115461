//! Export: the measurements of a meter, one by one, from one snapshot.

use crate::ids::IdTexts;
use crate::memory::{Memory, RowNames};
use crate::query::{Cancel, QueryError, check, is_retired};
use crate::segment::read::{Range, Segment};
use crate::state::Organization;
use crate::stored::{current_places, scan_part, stored_row, whole};
use crate::table::Chunk;
use crate::texts::{TextList, Texts};
use meterd_model::{FieldName, Measurement, MeterId};
use parking_lot::RwLock;
use roaring::RoaringTreemap;
use std::cell::RefCell;
use std::ops::{ControlFlow, Range as Times};
use std::sync::Arc;

pub(crate) fn export(
    organization: &RwLock<Organization>,
    meter: MeterId,
    times: &Times<i64>,
    cancel: &Cancel,
    take: &mut dyn FnMut(&Measurement) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    let snapshot = Snapshot::new(&organization.read(), meter, times);
    // What is in memory goes first, and is let go of: the writer copies what a snapshot holds.
    for rows in snapshot.memories {
        if rows.hand_out(meter, times, cancel, take)?.is_break() {
            return Ok(());
        }
    }
    for rows in snapshot.segments {
        if rows.hand_out(times, cancel, take)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Everything that may have measurements of the times, as it was under one lock.
struct Snapshot {
    memories: Vec<MemoryRows>,
    segments: Vec<SegmentRows>,
}

struct MemoryRows {
    chunks: Vec<Chunk>,
    values: Vec<FieldName>,
    attributes: Vec<FieldName>,
    texts: TextList,
    ids: IdTexts,
    retired: Vec<Arc<RoaringTreemap>>,
}

struct SegmentRows {
    segment: Arc<Segment>,
    retired: Vec<Arc<RoaringTreemap>>,
}

impl Snapshot {
    fn new(organization: &Organization, meter: MeterId, times: &Times<i64>) -> Self {
        let meets = |min: i64, max: i64| min < times.end && max >= times.start;
        let memories = organization.memories();
        let segments = organization.sealed.segments(meter).iter();
        Self {
            memories: memories
                .filter_map(|memory| MemoryRows::new(organization, memory, meter, &meets))
                .collect(),
            segments: segments
                .filter(|segment| {
                    let meta = segment.meta();
                    meets(meta.time_min, meta.time_max) && meta.rows > meta.superseded
                })
                .map(|segment| SegmentRows {
                    segment: Arc::clone(segment),
                    retired: organization.retired(segment.meta().partition),
                })
                .collect(),
        }
    }
}

impl MemoryRows {
    fn new(
        organization: &Organization,
        memory: &Memory,
        meter: MeterId,
        meets: &dyn Fn(i64, i64) -> bool,
    ) -> Option<Self> {
        let table = memory.table(meter)?;
        let chunks = table.chunks().iter();
        let chunks = chunks.filter(|chunk| meets(chunk.rows.time_min, chunk.rows.time_max));
        let is_recent = std::ptr::eq(memory, &raw const organization.recent);
        Some(Self {
            chunks: chunks.cloned().collect(),
            values: table.value_names().to_vec(),
            attributes: table.attribute_names().to_vec(),
            texts: memory.texts.list().clone(),
            ids: memory.ids.texts(),
            // What comes marks its own rows by itself.
            retired: if is_recent {
                Vec::new()
            } else {
                organization.retired_while_sealing(meter)
            },
        })
    }

    fn hand_out(
        self,
        meter: MeterId,
        times: &Times<i64>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&Measurement) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, QueryError> {
        let names = RowNames {
            meter,
            values: &self.values,
            attributes: &self.attributes,
            texts: &self.texts,
        };
        for chunk in self.chunks {
            check(cancel)?;
            let rows = &chunk.rows;
            for place in chunk.current_places() {
                let counts = rows
                    .times
                    .get(place)
                    .is_some_and(|time| times.contains(time))
                    && !is_retired(&self.retired, &rows.sequences, place);
                let id = rows.ids.get(place).filter(|_| counts);
                let measurement = id
                    .and_then(|id| self.ids.text(*id))
                    .and_then(|id| names.measurement(id, rows, place));
                if let Some(measurement) = measurement
                    && take(&measurement).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl SegmentRows {
    fn hand_out(
        &self,
        times: &Times<i64>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&Measurement) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, QueryError> {
        let meta = self.segment.meta();
        let projection = whole(meta);
        let range = Range {
            from: times.start,
            to: times.end,
            subjects: None,
            sequence: None,
        };
        let mut flow = ControlFlow::Continue(());
        for part in self.segment.parts(&range)? {
            // Texts are forgotten after each part, so that no more are held than one has.
            let texts = RefCell::new(Texts::default());
            scan_part(
                &self.segment,
                &part,
                &projection,
                &mut |_, text| texts.borrow_mut().number(text),
                cancel,
                &mut |rows| {
                    for place in current_places(rows) {
                        let counts = rows
                            .times
                            .get(place)
                            .is_some_and(|time| times.contains(time))
                            && !is_retired(&self.retired, &rows.sequences, place);
                        if !counts {
                            continue;
                        }
                        let row = stored_row(meta, &projection, rows, place, &texts.borrow());
                        if let Some(measurement) = row.and_then(|row| row.measurement)
                            && take(&measurement).is_break()
                        {
                            flow = ControlFlow::Break(());
                            return flow;
                        }
                    }
                    ControlFlow::Continue(())
                },
            )?;
            if flow.is_break() {
                break;
            }
        }
        Ok(flow)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::SimulatedDisk;
    use crate::{Batch, Cancel, Engine, OnConflict, QueryError, Sealing, Settings};
    use meterd_model::{
        AttributeValue, FieldName, Measurement, MeasurementId, MeterId, OrganizationId, Subject,
        Timestamp,
    };
    use std::collections::BTreeMap;
    use std::ops::ControlFlow;
    use std::path::Path;
    use std::sync::Arc;
    use uuid::Uuid;

    const ORGANIZATION: OrganizationId = OrganizationId(Uuid::from_u128(1));
    const METER: MeterId = MeterId(Uuid::from_u128(2));
    const MONTH_SECONDS: i64 = 31 * 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    fn measured(n: i64, value: &str) -> Measurement {
        let field = |name: &str| FieldName::new(name).unwrap();
        let attribute = (
            field("region"),
            AttributeValue::new(format!("r{}", n % 3)).unwrap(),
        );
        Measurement {
            id: MeasurementId::new(format!("id-{n}")).unwrap(),
            meter: METER,
            subject: Subject::new(format!("s{}", n % 7)).unwrap(),
            time: at(n * MONTH_SECONDS / 50),
            end_time: (n % 2 == 0).then(|| at(n * MONTH_SECONDS / 50 + 60)),
            values: vec![(field("amount"), value.parse().unwrap())],
            attributes: (n % 5 > 0).then_some(attribute).into_iter().collect(),
        }
    }

    fn store(engine: &Engine, on_conflict: OnConflict, measurements: Vec<Measurement>) {
        let batch = Batch {
            organization: ORGANIZATION,
            received: at(0),
            measurements,
            on_conflict,
        };
        engine.submit(batch).unwrap().wait().unwrap();
    }

    fn exported(engine: &Engine, from: i64, to: i64) -> BTreeMap<String, Measurement> {
        let mut all = BTreeMap::new();
        let mut take = |measurement: &Measurement| {
            let before = all.insert(measurement.id.to_string(), measurement.clone());
            assert_eq!(before, None, "handed out twice");
            ControlFlow::Continue(())
        };
        let cancel = Cancel::new();
        (engine.export(ORGANIZATION, METER, at(from), at(to), &cancel, &mut take)).unwrap();
        all
    }

    #[test]
    fn what_counts_comes_out_once_from_every_layer() {
        let settings = Settings {
            sealing: Sealing::OnDemand,
            ..Settings::default()
        };
        let disk = Arc::new(SimulatedDisk::new());
        let engine = Engine::open(Path::new("data"), settings, disk).unwrap();
        let mut expected = BTreeMap::new();
        let mut put = |engine: &Engine, on_conflict, rows: Vec<Measurement>| {
            for row in &rows {
                expected.insert(row.id.to_string(), row.clone());
            }
            store(engine, on_conflict, rows);
        };
        put(
            &engine,
            OnConflict::Reject,
            (0..300).map(|n| measured(n, "1.5")).collect(),
        );
        engine.seal().unwrap();
        // Over segments, over memory, in another month, and back in time.
        let moved = |n: i64| Measurement {
            time: measured(n + 100, "0").time,
            end_time: None,
            ..measured(n, "-7")
        };
        put(&engine, OnConflict::Replace, (0..40).map(moved).collect());
        put(
            &engine,
            OnConflict::Reject,
            (300..9000).map(|n| measured(n, "2")).collect(),
        );
        put(
            &engine,
            OnConflict::Replace,
            (290..310).map(|n| measured(n, "3")).collect(),
        );
        let voided: Vec<_> = (50..60)
            .chain(400..410)
            .map(|n| measured(n, "0").id)
            .collect();
        engine
            .void(ORGANIZATION, voided.clone(), at(0))
            .unwrap()
            .wait()
            .unwrap();
        for id in voided {
            expected.remove(id.as_str());
        }
        let check = |engine: &Engine| {
            let last = 9000 * MONTH_SECONDS / 50;
            assert_eq!(exported(engine, 0, last), expected);
            let (from, to) = (30 * MONTH_SECONDS / 50, 310 * MONTH_SECONDS / 50);
            let part: BTreeMap<_, _> = (expected.clone().into_iter())
                .filter(|(_, row)| (at(from)..at(to)).contains(&row.time))
                .collect();
            assert_eq!(exported(engine, from, to), part);
            assert!(exported(engine, to, from).is_empty());
        };
        check(&engine);
        engine.seal().unwrap();
        check(&engine);
        while engine.merge().unwrap() {}
        check(&engine);

        let cancel = Cancel::new();
        let mut seen = 0;
        let mut take = |_: &Measurement| {
            seen += 1;
            if seen == 5 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        engine
            .export(ORGANIZATION, METER, from, to, &cancel, &mut take)
            .unwrap();
        assert_eq!(seen, 5);
        let mut take = |_: &Measurement| {
            cancel.cancel();
            ControlFlow::Continue(())
        };
        let cancelled = engine.export(ORGANIZATION, METER, from, to, &cancel, &mut take);
        assert_eq!(cancelled, Err(QueryError::Cancelled));
    }

    #[test]
    fn what_comes_meanwhile_changes_nothing() {
        let engine = Engine::open(
            Path::new("data"),
            Settings {
                seal_rows: 500,
                ..Settings::default()
            },
            Arc::new(SimulatedDisk::new()),
        )
        .unwrap();
        store(
            &engine,
            OnConflict::Reject,
            (0..2000).map(|n| measured(n, "1")).collect(),
        );
        let mut all = BTreeMap::new();
        let mut take = |measurement: &Measurement| {
            let n = i64::try_from(all.len()).unwrap();
            if n % 200 == 0 {
                // New ones, and other versions of those that are still to come out.
                store(&engine, OnConflict::Reject, vec![measured(10_000 + n, "1")]);
                store(
                    &engine,
                    OnConflict::Replace,
                    (n..n + 200).map(|n| measured(n, "2")).collect(),
                );
                engine.seal().unwrap();
                while engine.merge().unwrap() {}
            }
            all.insert(measurement.id.to_string(), measurement.clone());
            ControlFlow::Continue(())
        };
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        engine
            .export(ORGANIZATION, METER, from, to, &Cancel::new(), &mut take)
            .unwrap();
        let rows = (0..2000).map(|n| (format!("id-{n}"), measured(n, "1")));
        assert_eq!(all, rows.collect());
    }
}
