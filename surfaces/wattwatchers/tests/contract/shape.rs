//! Records as clients wish to see them: converted, by phase, with the power factor or by their stamp alone.

use crate::energy::feed_long;
use crate::world::{HOUSE, Options, SHED, World, assert_fault, long_record, short_record};
use meterd_engine::{Batch, OnConflict};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, Subject, Timestamp,
};
use meterd_testkit::now;
use serde_json::{Value, json};

/// A multiple of 900.
const BASE: i64 = 1_550_408_400;
const SHORT: i64 = 1_550_622_130;

/// The vectors of section 5: what a quarter of an hour and five seconds of the original's samples come to.
fn feed_vectors(world: &World) {
    let long = |stamp: i64, second: i64| {
        let mut record = long_record(stamp, 3);
        record["eReal"] = json!([1_213_135, second, 0]);
        record["eRealPositive"] = json!([1_213_135, 0, 0]);
        record["eRealNegative"] = json!([0, -second, 0]);
        record["eReactive"] = json!([51_527, 0, 0]);
        record["eReactivePositive"] = json!([51_527, 0, 0]);
        record["eReactiveNegative"] = json!([0, 0, 0]);
        record
    };
    let records = json!([
        long(BASE, -186),
        long(BASE + 300, -187),
        long(BASE + 600, -187)
    ]);
    let fed = world.feed(SHED, "/long-energy", &records).expect(200);
    assert_eq!(fed["accepted"], 3);
    let short = json!([{
        "timestamp": SHORT, "duration": 5, "frequency": 50.04, "eReal": [1150, 0, 38], "eReactive": [-857, 0, 0],
        "vRMS": [244.9, 244.8, 244.8], "iRMS": [1.259, 0.028, 0.31],
    }]);
    let fed = world.feed(SHED, "/short-energy", &short).expect(200);
    assert_eq!(fed["accepted"], 1);
}

fn group(world: &World, serial: &str, count: u8, groups: &[&[u8]]) {
    let ids =
        |group: &&[u8]| -> Vec<String> { group.iter().map(|n| format!("{serial}_C{n}")).collect() };
    let grouping: Vec<_> = groups
        .iter()
        .map(|group| json!({"included": ids(group)}))
        .collect();
    let phases = json!({"phases": {"count": count, "grouping": grouping}});
    world
        .patch(&format!("/devices/{serial}"), &phases)
        .expect(200);
}

/// [55], 5
#[test]
fn energy_in_kilowatt_hours() {
    let world = World::start();
    feed_vectors(&world);
    let list = world
        .get(&format!(
            "/long-energy/{SHED}?granularity=15m&convert[energy]=kWh"
        ))
        .expect(200);
    assert_eq!(
        list,
        json!([{
            "timestamp": BASE,
            "duration": 900,
            "eRealKwh": [1.010_945_833_333_333_4, -0.000_155_555_555_555_555_56, 0.0],
            "eRealPositiveKwh": [1.010_945_833_333_333_4, 0.0, 0.0],
            "eRealNegativeKwh": [0.0, 0.000_155_555_555_555_555_56, 0.0],
            "eReactiveKwh": [0.042_939_166_666_666_67, 0.0, 0.0],
            "eReactivePositiveKwh": [0.042_939_166_666_666_67, 0.0, 0.0],
            "eReactiveNegativeKwh": [0.0, 0.0, 0.0],
            "vRMSMin": [230.1, 230.2, 230.3],
            "vRMSMax": [241.5, 241.5, 241.5],
            "iRMSMin": [0.125, 0.125, 0.125],
            "iRMSMax": [2.75, 2.75, 2.75],
        }])
    );
}

/// [56], 5
#[test]
fn energy_as_average_power() {
    let world = World::start();
    feed_vectors(&world);
    for name in [
        "convert[energy]",
        "convert%5Benergy%5D",
        "convert%5benergy%5d",
    ] {
        let list = world
            .get(&format!("/long-energy/{SHED}?granularity=15m&{name}=kW"))
            .expect(200);
        assert_eq!(
            list,
            json!([{
                "timestamp": BASE,
                "duration": 900,
                "pRealKw": [4.043_783_333_333_334, -0.000_622_222_222_222_222_2, 0.0],
                "pRealPositiveKw": [4.043_783_333_333_334, 0.0, 0.0],
                "pRealNegativeKw": [0.0, 0.000_622_222_222_222_222_2, 0.0],
                "pReactiveKw": [0.171_756_666_666_666_67, 0.0, 0.0],
                "pReactivePositiveKw": [0.171_756_666_666_666_67, 0.0, 0.0],
                "pReactiveNegativeKw": [0.0, 0.0, 0.0],
                "vRMSMin": [230.1, 230.2, 230.3],
                "vRMSMax": [241.5, 241.5, 241.5],
                "iRMSMin": [0.125, 0.125, 0.125],
                "iRMSMax": [2.75, 2.75, 2.75],
            }])
        );
        let latest = world
            .get(&format!("/short-energy/{SHED}/latest?{name}=kW"))
            .expect(200);
        assert_eq!(
            latest,
            json!({
                "timestamp": SHORT,
                "duration": 5,
                "frequency": 50.04,
                "pRealKw": [0.23, 0.0, 0.0076],
                "pReactiveKw": [-0.1714, 0.0, 0.0],
                "vRMS": [244.9, 244.8, 244.8],
                "iRMS": [1.259, 0.028, 0.31],
            })
        );
    }
}

/// [57]
#[test]
fn other_words_are_refused() {
    let world = World::start();
    let bad = |path: &str, message: &str| {
        assert_fault(&world.get(path), 400, "BAD_REQUEST", message);
    };
    for stream in ["long-energy", "short-energy"] {
        for end in ["", "/first", "/latest"] {
            let path = |query: &str| format!("/{stream}/{SHED}{end}?{query}");
            for unit in ["MWh", "kwh", "KW", "J", "kWh,kW", "kWh&convert[energy]=kWh"] {
                let message = "The convert[energy] query string value must be one of kWh, kW.";
                bad(&path(&format!("convert[energy]={unit}")), message);
            }
            for group in ["category", "Phases"] {
                let message = "The filter[group] query string value must be one of phases.";
                bad(&path(&format!("filter[group]={group}")), message);
            }
            let allowed = if end.is_empty() {
                "+pf"
            } else {
                "+pf, timestamp"
            };
            let message =
                format!("The fields[energy] query string value must be one of {allowed}.");
            for fields in ["%2Bpf,timestamp", "pf", "+PF", "eReal", "Timestamp"] {
                bad(&path(&format!("fields[energy]={fields}")), &message);
            }
            if end.is_empty() {
                bad(&path("fields[energy]=timestamp"), &message);
            }
            // Nothing is no word.
            let empty = path("convert[energy]=&filter[group]=&fields[energy]=");
            assert_eq!(world.get(&empty).status, 204);
        }
    }
}

/// [58]
#[test]
fn a_record_can_be_its_stamp() {
    let world = World::start();
    feed_vectors(&world);
    for (path, stamp) in [
        ("long-energy", [BASE, BASE + 600]),
        ("short-energy", [SHORT, SHORT]),
    ] {
        for (end, stamp) in ["first", "latest"].iter().zip(stamp) {
            for convert in ["", "&convert[energy]=kW"] {
                let path = format!("/{path}/{SHED}/{end}?fields[energy]=timestamp{convert}");
                assert_eq!(world.get(&path).expect(200), json!({"timestamp": stamp}));
            }
        }
    }
}

/// [59], 5
#[test]
fn the_power_factor_is_added() {
    let world = World::start();
    feed_vectors(&world);
    for selection in ["%2Bpf", "+pf", "%20pf"] {
        for convert in ["", "&convert[energy]=kW", "&convert[energy]=kWh"] {
            let options = format!("fields[energy]={selection}{convert}");
            let list = world.get(&format!("/long-energy/{SHED}?granularity=15m&{options}"));
            assert_eq!(
                list.expect(200)[0]["pf"],
                json!([0.999_099_187_675_905_6, -1.0, 1.0])
            );
            let single = world.get(&format!("/short-energy/{SHED}/first?{options}"));
            assert_eq!(
                single.expect(200)["pf"],
                json!([0.801_836_973_984_367_9, 1.0, 1.0])
            );
        }
    }
    for (path, factors) in [
        (
            format!("/long-energy/{SHED}"),
            json!([0.999_099_187_675_905_6, -1.0, 1.0]),
        ),
        (
            format!("/short-energy/{SHED}"),
            json!([0.801_836_973_984_367_9, 1.0, 1.0]),
        ),
    ] {
        let mut expected = world.get(&format!("{path}/latest")).expect(200);
        expected["pf"] = factors;
        for selection in ["%2Bpf", "+pf"] {
            let with = |rest: &str| {
                let answer = world.get(&format!("{path}{rest}fields[energy]={selection}"));
                answer.expect(200)
            };
            assert_eq!(with("/latest?"), expected);
            let stamp = &expected["timestamp"];
            let list = with(&format!("?fromTs={stamp}&"));
            assert_eq!(list, json!([expected]));
        }
    }
}

/// [60]
#[test]
fn fields_and_phases_exclude_each_other() {
    let world = World::start();
    feed_vectors(&world);
    let message =
        "The fields[energy] query string value cannot be given together with filter[group].";
    for (end, fields) in [("", "%2Bpf"), ("/first", "+pf"), ("/latest", "timestamp")] {
        for stream in ["long-energy", "short-energy"] {
            let query = format!("fields[energy]={fields}&filter[group]=phases");
            let answer = world.get(&format!("/{stream}/{SHED}{end}?{query}"));
            assert_fault(&answer, 422, "UNPROCESSABLE_ENTITY", message);
        }
    }
}

/// [61]
#[test]
fn channels_are_put_together_by_phase() {
    let world = World::start();
    let stamps = [BASE, BASE + 300];
    feed_long(&world, HOUSE, 6, &stamps);
    let phases = format!("/long-energy/{HOUSE}?granularity=15m&filter[group]=phases");
    let plain = world
        .get(&format!("/long-energy/{HOUSE}?granularity=15m"))
        .expect(200);
    assert_eq!(world.get(&phases).expect(200), plain);
    // In any order, one of a single channel, and channel 2 of none.
    group(&world, HOUSE, 3, &[&[6, 1], &[4], &[3, 5]]);
    assert_eq!(
        world.get(&phases).expect(200),
        json!([{
            "timestamp": BASE,
            "duration": 600,
            "eReal": [6000, 4000, 8000],
            "eRealPositive": [14_000, 8000, 16_000],
            "eRealNegative": [8000, 4000, 8000],
            "eReactive": [140, 80, 160],
            "eReactivePositive": [210, 120, 240],
            "eReactiveNegative": [70, 40, 80],
            "vRMSMin": [230.1, 230.4, 230.3],
            "vRMSMax": [241.5, 241.5, 241.5],
            "iRMSMin": [0.125, 0.125, 0.125],
            "iRMSMax": [2.75, 2.75, 2.75],
        }])
    );
    let kilowatts = world
        .get(&format!("{phases}&convert[energy]=kW"))
        .expect(200);
    assert_eq!(
        kilowatts[0]["pRealKw"],
        json!([0.01, 0.006_666_666_666_666_667, 0.013_333_333_333_333_334])
    );
    let latest = world
        .get(&format!("/long-energy/{HOUSE}/latest?filter[group]=phases"))
        .expect(200);
    assert_eq!(latest["timestamp"], json!(BASE + 300));
    assert_eq!(latest["eReal"], json!([3000, 2000, 4000]));
}

#[test]
fn a_phase_has_the_mean_voltage_and_the_sum_of_currents() {
    let world = World::start();
    let mut record = short_record(SHORT, 6);
    record["vRMS"] = json!([240.1, 240.2, 240.2, 230.0, 230.1, 229.8]);
    record["iRMS"] = json!([0.1, 0.2, 0.3, 1.001, 2.002, 3.003]);
    world
        .feed(HOUSE, "/short-energy", &json!([record]))
        .expect(200);
    group(&world, HOUSE, 3, &[&[1, 2, 3], &[4, 5], &[6]]);
    let shown = world
        .get(&format!(
            "/short-energy/{HOUSE}/latest?filter[group]=phases"
        ))
        .expect(200);
    assert_eq!(
        shown,
        json!({
            "timestamp": SHORT,
            "duration": 30,
            "frequency": 50.04,
            "eReal": [6900, 10_350, 6900],
            "eReactive": [-5142, -7713, -5142],
            // 240.1666… and 230.05
            "vRMS": [240.2, 230.1, 229.8],
            "iRMS": [0.6, 3.003, 3.003],
        })
    );
}

/// Only the native API knows parts of a second.
#[test]
fn measurements_of_one_second_are_one_record_on_any_page() {
    for rows in 4..=8 {
        let mut options = Options::default();
        options.general.engine.list_limit_max = rows;
        let world = World::start_with(options);
        let stamps = [BASE - 300, BASE, BASE + 300];
        feed_long(&world, SHED, 3, &stamps);
        let store = world.control.store();
        let meter = store
            .get_by_key::<meterd_control::Meter>(world.acme, "name", "wattwatchers_long_energy")
            .unwrap();
        let field = |name| FieldName::new(name).unwrap();
        let measurement = Measurement {
            id: MeasurementId::new("late").unwrap(),
            meter: MeterId(meter.id),
            subject: Subject::new(SHED).unwrap(),
            time: Timestamp::from_micros(BASE * 1_000_000 + 1).unwrap(),
            end_time: None,
            values: vec![(field("eReal"), Decimal::from(7))],
            attributes: vec![(field("channel"), AttributeValue::new("2").unwrap())],
        };
        let batch = Batch {
            organization: world.acme,
            received: now(),
            measurements: vec![measurement],
            on_conflict: OnConflict::Reject,
        };
        world.engine.submit(batch).unwrap().wait().unwrap();
        let mut expected = stamps.map(|stamp| long_record(stamp, 3));
        expected[1]["eReal"][1] = json!(7);
        // What it does not say counts as 0.
        expected[1]["vRMSMin"][1] = json!(0);
        expected[1]["iRMSMin"][1] = json!(0);
        let list = world.get(&format!("/long-energy/{SHED}"));
        assert_eq!(list.expect(200), json!(expected), "{rows}");
    }
}

/// What came another way than as a record of the device does not break its list.
#[test]
fn a_record_lacking_a_channel_shows_it_as_nothing() {
    let world = World::start();
    feed_long(&world, SHED, 3, &[BASE]);
    let id = MeasurementId::new(format!("{SHED}/long/{BASE}/1")).unwrap();
    let voided = world.engine.void(world.acme, vec![id], now()).unwrap();
    voided.wait().unwrap();
    let record = world
        .get(&format!("/long-energy/{SHED}/latest"))
        .expect(200);
    assert_eq!(record["duration"], json!(300));
    assert_eq!(record["eReal"], json!([0, 0, 1000]));
    assert_eq!(record["vRMSMin"], json!([0, 230.2, 230.3]));
    let days: Value = world
        .get(&format!("/long-energy/{SHED}?granularity=day&timezone=UTC"))
        .expect(200);
    assert_eq!(days[0]["duration"], json!(300));
    assert_eq!(days[0]["eReal"], json!([0, 0, 1000]));
}
