//! What devices send, and how they become known.

use crate::world::{FOREIGN, HOUSE, MODBUS, SHED, World, assert_fault, long_record, short_record};
use meterd_engine::{Cancel, Listing};
use meterd_model::{MeterId, OrganizationId};
use meterd_surface_wattwatchers::Stream;
use serde_json::{Value, json};

fn counts(accepted: usize, replaced: usize) -> Value {
    json!({"accepted": accepted, "replaced": replaced, "rejected": []})
}

/// The values of each measurement of a stream, the newest and the last channel first.
fn stored(world: &World, account: OrganizationId, stream: Stream) -> Vec<String> {
    let store = world.control.store();
    let meter = store.get_by_key::<meterd_control::Meter>(account, "name", stream.meter_name());
    let listing = Listing {
        meter: Some(MeterId(meter.unwrap().id)),
        limit: 1000,
        ..Listing::default()
    };
    let page = world
        .engine
        .list(account, &listing, &Cancel::new())
        .unwrap();
    let shown = page.measurements.iter().map(|listed| {
        let measurement = &listed.measurement;
        let values: Vec<_> = (measurement.values.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let attributes: Vec<_> = (measurement.attributes.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "{} {} {} {} {}",
            measurement.id,
            measurement.subject,
            measurement.time.seconds(),
            attributes.join(" "),
            values.join(" ")
        )
    });
    shown.collect()
}

/// [74]
#[test]
fn a_record_sent_again_is_one_record() {
    let world = World::start();
    let record = long_record(1_700_000_100, 6);
    let send = |record: &Value| {
        world
            .feed(HOUSE, "/long-energy", &json!([record]))
            .expect(200)
    };
    assert_eq!(send(&record), counts(1, 0));
    assert_eq!(send(&record), counts(1, 0));
    let mut other = record.clone();
    other["vRMSMax"][5] = json!(242.5);
    assert_eq!(send(&other), counts(0, 1));
    assert_eq!(send(&other), counts(1, 0));
    assert_eq!(stored(&world, world.acme, Stream::Long).len(), 6);
}

#[test]
fn a_record_is_a_measurement_of_each_channel() {
    let world = World::start();
    let sent = world.feed(
        SHED,
        "/long-energy",
        &json!([long_record(1_700_000_100, 3)]),
    );
    assert_eq!(sent.expect(200), counts(1, 0));
    assert_eq!(
        stored(&world, world.acme, Stream::Long)[2],
        "B00000000000A/long/1700000100/1 B00000000000A 1700000100 channel=1 duration=300 eReactive=10 \
         eReactiveNegative=5 eReactivePositive=15 eReal=-1000 eRealNegative=2000 eRealPositive=1000 iRMSMax=2.75 \
         iRMSMin=0.125 vRMSMax=241.5 vRMSMin=230.1"
    );
    let sent = world.feed(
        SHED,
        "/short-energy",
        &json!([short_record(1_700_000_130, 3)]),
    );
    assert_eq!(sent.expect(200), counts(1, 0));
    assert_eq!(
        stored(&world, world.acme, Stream::Short)[0],
        "B00000000000A/short/1700000130/3 B00000000000A 1700000130 channel=3 duration=30 eReactive=-2571 eReal=3450 \
         frequency=50.04 iRMS=1.259 vRMS=244.9"
    );
    let modbus = json!([{
        "timestamp": 1_700_000_100, "model": "PMC-220", "kVAh": 300, "kWh_Exp": 0, "kWh_Imp": 283, "kWh_Net": 283,
        "kWh_Tot": 283, "kvarh_Exp": 173, "kvarh_Imp": 0, "kvarh_Net": -173, "kvarh_Tot": 173, "_I": 1.5, "_V": 230.1,
        "_PF": 0.99,
    }]);
    assert_eq!(
        world.feed(MODBUS, "/modbus", &modbus).expect(200),
        counts(1, 0)
    );
    assert_eq!(
        stored(&world, world.acme, Stream::Modbus),
        [
            "E00000000000B/modbus/1700000100 E00000000000B 1700000100 model=PMC-220 I=1.5 PF=0.99 V=230.1 kVAh=300 \
             kWh_Exp=0 kWh_Imp=283 kWh_Net=283 kWh_Tot=283 kvarh_Exp=173 kvarh_Imp=0 kvarh_Net=-173 kvarh_Tot=173"
        ]
    );
}

#[test]
fn a_device_is_registered_by_whoever_sends_for_its_account() {
    let world = World::start();
    let id = "D00000000000Z";
    let wanted = json!({
        "model": "6M+3SW", "channelsCount": 4, "label": "Barn", "timezone": "Australia/Sydney", "keys": [world.key],
    });
    let device = world.feed_put(id, &wanted).expect(200);
    assert_eq!(device["label"], "Barn");
    assert_eq!(device["timezone"], "Australia/Sydney");
    assert_eq!(device["channels"].as_array().unwrap().len(), 4);
    assert_eq!(device["switches"].as_array().unwrap().len(), 3);
    assert!(device["comms"]["lastHeardAt"].as_i64().unwrap() > 1_700_000_000);
    let again = world.feed_put(id, &json!({"model": "6M+3SW"})).expect(200);
    assert_eq!(again["label"], "Barn");
    let answer = world.feed_put(FOREIGN, &json!({"model": "6M"}));
    let message = format!("You don't have permission to register device {FOREIGN}.");
    assert_fault(&answer, 403, "FORBIDDEN", &message);
}
