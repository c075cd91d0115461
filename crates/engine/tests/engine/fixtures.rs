//! Short ways to say what the tests store.

use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{
    Aggregation, Batch, Cancel, Engine, Filter, Function, Number, OnConflict, Query, Settings,
    Verdict,
};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp, Zone,
};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) const DIRECTORY: &str = "data";

pub(crate) fn organization(n: u128) -> OrganizationId {
    OrganizationId(Uuid::from_u128(n))
}

pub(crate) fn meter(n: u128) -> MeterId {
    MeterId(Uuid::from_u128(1000 + n))
}

pub(crate) fn id(text: &str) -> MeasurementId {
    MeasurementId::new(text).unwrap()
}

pub(crate) fn field(text: &str) -> FieldName {
    FieldName::new(text).unwrap()
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::new(text).unwrap()
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::new(text).unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds).unwrap()
}

pub(crate) fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// One measurement of meter 1 with one value.
pub(crate) fn measured(id_text: &str, seconds: i64, value: &str) -> Measurement {
    Measurement {
        id: id(id_text),
        meter: meter(1),
        subject: subject("s"),
        time: at(seconds),
        end_time: None,
        values: vec![(field("amount"), decimal(value))],
        attributes: Vec::new(),
    }
}

pub(crate) fn batch(measurements: Vec<Measurement>) -> Batch {
    Batch {
        organization: organization(1),
        received: at(2_000_000_000),
        measurements,
        on_conflict: OnConflict::Reject,
    }
}

pub(crate) fn replacing(measurements: Vec<Measurement>) -> Batch {
    Batch {
        on_conflict: OnConflict::Replace,
        ..batch(measurements)
    }
}

pub(crate) fn open(disk: &SimulatedDisk) -> Engine {
    open_with(disk, Settings::default())
}

pub(crate) fn open_with(disk: &SimulatedDisk, settings: Settings) -> Engine {
    Engine::open(Path::new(DIRECTORY), settings, Arc::new(disk.clone())).unwrap()
}

pub(crate) fn store(engine: &Engine, batch: Batch) -> Vec<Verdict> {
    engine.submit(batch).unwrap().wait().unwrap().verdicts
}

pub(crate) fn whole_range(aggregations: Vec<Aggregation>) -> Query {
    Query {
        meter: meter(1),
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        zone: Zone::UTC,
        window: None,
        group_by: Vec::new(),
        filter: Filter::default(),
        aggregations,
        order_by: Vec::new(),
        offset: 0,
        limit: 1000,
    }
}

pub(crate) fn sum_of(name: &str) -> Aggregation {
    Aggregation {
        function: Function::Sum,
        field: Some(field(name)),
    }
}

pub(crate) fn count() -> Aggregation {
    Aggregation {
        function: Function::Count,
        field: None,
    }
}

/// Count and sum of `amount` over all of meter 1.
pub(crate) fn totals(engine: &Engine) -> (u64, String) {
    let query = whole_range(vec![count(), sum_of("amount")]);
    let answer = engine
        .query(organization(1), &query, &Cancel::new())
        .unwrap();
    match answer.rows.first().map(|row| row.values.as_slice()) {
        Some([Some(Number::Count(count)), sum]) => {
            let sum = match sum {
                Some(Number::Decimal(sum)) => sum.to_string(),
                _ => String::new(),
            };
            (*count, sum)
        }
        _ => (0, "0".to_owned()),
    }
}
