//! Records that tests feed, and what they see of lists.

use crate::world::{World, long_record};
use meterd_testkit::client::Answer;
use serde_json::{Value, json};

/// Most records of one request.
const RECORDS_MAX: usize = 2016;

/// Feeds records of Long Energy with these stamps to a device of so many channels.
#[track_caller]
pub(crate) fn feed_long(world: &World, serial: &str, channels: usize, stamps: &[i64]) {
    for part in stamps.chunks(RECORDS_MAX) {
        let records = part.iter().map(|stamp| long_record(*stamp, channels));
        let fed = world.feed(serial, "/long-energy", &records.collect());
        assert_eq!(
            fed.expect(200),
            json!({"accepted": part.len(), "replaced": 0, "rejected": []})
        );
    }
}

/// The stamps of a list.
#[track_caller]
pub(crate) fn stamps(list: &Answer) -> Vec<i64> {
    let list: Value = list.expect(200);
    let records = list.as_array().unwrap().iter();
    records
        .map(|record| record["timestamp"].as_i64().unwrap())
        .collect()
}
