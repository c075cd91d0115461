//! Prints rows per second of submitting, reopening and querying on the real disk:
//! `cargo run --release -p meterd-engine --example throughput -- [ROWS] [DIRECTORY]`.
//!
//! A directory that is named stays, and if it is there already, only reopening and querying are measured.
#![expect(clippy::unwrap_used, reason = "a tool for developers fails loudly")]

use meterd_engine::{
    Aggregation, Batch, Cancel, Engine, Filter, Function, GroupKey, OnConflict, Query, Settings,
    SystemDisk, Ticket,
};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp, Window, Zone,
};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

const BATCH_ROWS: u32 = 1000;
const IN_FLIGHT: usize = 16;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows: u32 = arguments
        .next()
        .map_or(1_000_000, |text| text.parse().unwrap());
    let given = arguments.next().map(PathBuf::from);
    let directory = given.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("meterd-throughput-{}", std::process::id()))
    });
    // What is asked again is to be read again.
    let settings = Settings {
        query_cache_bytes: 0,
        ..Settings::default()
    };
    let open = || Engine::open(&directory, settings.clone(), Arc::new(SystemDisk)).unwrap();
    if !directory.exists() {
        submit_all(&open(), rows);
    }
    let resident_before = resident_bytes();
    let engine = timed("reopen", rows, open);
    let grown = resident_bytes().saturating_sub(resident_before);
    println!(
        "    resident growth {} bytes per row, meaningful on a directory that was there before",
        grown / u64::from(rows)
    );
    let one_sum = query(None, Vec::new());
    let by_day = query(Some(Window::Day), vec![GroupKey::Subject]);
    let by_hour = query(
        Some(Window::Hour),
        vec![GroupKey::Attribute(field("region"))],
    );
    for (name, query) in [
        ("query: one sum", one_sum.clone()),
        ("query: one sum again", one_sum),
        ("query: day x subject", by_day),
        ("query: hour x region", by_hour),
    ] {
        let answer = timed(name, rows, || {
            engine
                .query(organization(), &query, &Cancel::new())
                .unwrap()
        });
        println!("    {} rows", answer.rows.len());
    }
    drop(engine);
    if given.is_none() {
        std::fs::remove_dir_all(directory).unwrap();
    }
}

fn submit_all(engine: &Engine, rows: u32) {
    let batches: Vec<Batch> = (0..rows / BATCH_ROWS).map(batch).collect();
    timed("submit", rows, || {
        let mut tickets = VecDeque::new();
        for batch in batches {
            if tickets.len() >= IN_FLIGHT {
                let ticket: Ticket<_> = tickets.pop_front().unwrap();
                ticket.wait().unwrap();
            }
            tickets.push_back(engine.submit(batch).unwrap());
        }
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    });
    let stats = engine.stats();
    println!(
        "    {} bytes of log per row, {} groups, {} syncs",
        stats.log_bytes / stats.versions.max(1),
        stats.groups,
        stats.syncs
    );
}

fn timed<T>(name: &str, rows: u32, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {seconds:.3} s, {:.0} rows/s",
        f64::from(rows) / seconds
    );
    result
}

fn organization() -> OrganizationId {
    OrganizationId(Uuid::from_u128(1))
}

fn field(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

fn batch(number: u32) -> Batch {
    let rows = (number * BATCH_ROWS)..((number + 1) * BATCH_ROWS);
    let measurements = rows.map(|n| Measurement {
        id: MeasurementId::new(
            Uuid::from_u128(u128::from(n) * 0x9e37_79b9_7f4a_7c15_f39c).to_string(),
        )
        .unwrap(),
        meter: MeterId(Uuid::from_u128(2)),
        subject: Subject::new(format!("device-{}", n % 500)).unwrap(),
        time: Timestamp::from_seconds(1_700_000_000 + i64::from(n)).unwrap(),
        end_time: None,
        values: vec![
            (field("amount"), Decimal::from(i64::from(n % 977))),
            (
                field("energy"),
                Decimal::from_units(i128::from(n) * 1_000_000_007_000_000).unwrap(),
            ),
        ],
        attributes: vec![(
            field("region"),
            AttributeValue::new(["eu", "us", "ap"].get(n as usize % 3).copied().unwrap()).unwrap(),
        )],
    });
    Batch {
        organization: organization(),
        received: Timestamp::from_seconds(1_800_000_000).unwrap(),
        measurements: measurements.collect(),
        on_conflict: OnConflict::Reject,
    }
}

fn query(window: Option<Window>, group_by: Vec<GroupKey>) -> Query {
    Query {
        meter: MeterId(Uuid::from_u128(2)),
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        zone: Zone::named("Europe/Berlin").unwrap(),
        window,
        group_by,
        filter: Filter::default(),
        aggregations: vec![Aggregation {
            function: Function::Sum,
            field: Some(field("energy")),
        }],
        order_by: Vec::new(),
        offset: 0,
        limit: 100,
    }
}

/// Of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
