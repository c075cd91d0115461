//! Modbus: registers of a meter that one model of device reads.

use crate::energy::stamps;
use crate::world::{HOUSE, MODBUS, World, assert_fault};
use serde_json::{Value, json};

const BASE: i64 = 1_700_000_100;

fn single_phase(timestamp: i64) -> Value {
    json!({
        "timestamp": timestamp, "model": "PMC-220", "kVAh": 329, "kWh_Exp": 0, "kWh_Imp": 283, "kWh_Net": 283,
        "kWh_Tot": 283, "kvarh_Exp": 173, "kvarh_Imp": 0, "kvarh_Net": -173, "kvarh_Tot": 173, "_I": 0.012,
        "_V": 244.31, "_PF": 1,
    })
}

fn three_phases(timestamp: i64) -> Value {
    json!({
        "timestamp": timestamp, "model": "PMC-340B", "kVAh": 330, "kWh_Exp": 0, "kWh_Imp": 284, "kWh_Net": 284,
        "kWh_Tot": 284, "kvarh_Exp": 174, "kvarh_Imp": 0, "kvarh_Net": -174, "kvarh_Tot": 174, "_Ia": 1.5, "_Ib": 0,
        "_Ic": 0.25, "_PFa": 1, "_PFb": -0.5, "_PFc": 1, "_Uan": 240.1, "_Ubn": 241.2, "_Ucn": 239.9,
        "kvarh_Q1": 1, "kvarh_Q2": 2, "kvarh_Q3": 3, "kvarh_Q4": 4,
    })
}

fn feed(world: &World, records: &[Value]) {
    let answer = world.feed(MODBUS, "/modbus", &json!(records)).expect(200);
    assert_eq!(answer["rejected"], json!([]));
}

/// [63]
#[test]
fn only_one_model_has_modbus() {
    let world = World::start();
    for rest in [
        "",
        "?fromTs=5",
        "/first",
        "/latest",
        "/latest?fields[energy]=x",
    ] {
        assert_fault(
            &world.get(&format!("/modbus/{HOUSE}{rest}")),
            422,
            "UNPROCESSABLE ENTITY",
            "You have attempted to query modbus data for a device ID that does not support it",
        );
    }
}

/// [64]
#[test]
fn a_list_needs_its_start() {
    let world = World::start();
    for query in ["", "?toTs=5", "?fromTs="] {
        let message = "You must specify the fromTs query string value.";
        let answer = world.get(&format!("/modbus/{MODBUS}{query}"));
        assert_fault(&answer, 400, "BAD_REQUEST", message);
    }
    // None stored, and it could be no other way.
    for rest in ["?fromTs=5", "/first", "/latest"] {
        let answer = world.get(&format!("/modbus/{MODBUS}{rest}"));
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{rest}");
    }
}

/// [65]
#[test]
fn registers_are_shown_as_they_were_read() {
    let world = World::start();
    let week = 7 * 86_400;
    let all = [
        single_phase(BASE),
        single_phase(BASE + 77),
        three_phases(BASE + week - 1),
        three_phases(BASE + week),
    ];
    feed(&world, &all);
    let of = |rest: &str| world.get(&format!("/modbus/{MODBUS}{rest}"));
    for _ in 0..2 {
        assert_eq!(of("/first").expect(200), all[0]);
        assert_eq!(of("/latest").expect(200), all[3]);
        let stamp = of("/latest?fields[energy]=timestamp").expect(200);
        assert_eq!(stamp, json!({"timestamp": BASE + week}));
        let listed = of(&format!("?fromTs={BASE}")).expect(200);
        assert_eq!(listed, json!(all[..3]));
        world.engine.seal().unwrap();
    }
    let period = |to: i64| of(&format!("?fromTs={}&toTs={to}", BASE + 1));
    assert_eq!(
        stamps(&period(BASE + 1 + week)),
        [BASE + 77, BASE + week - 1, BASE + week]
    );
    let message = "The requested time period is greater than 7 days.";
    assert_fault(
        &period(BASE + 2 + week),
        422,
        "UNPROCESSABLE_ENTITY",
        message,
    );
    assert_eq!(of("?fromTs=5").body, b"[]");
    // What only energy has is ignored, also where it is wrong.
    let ignored =
        format!("?fromTs={BASE}&convert[energy]=x&filter[group]=x&granularity=x&fields[energy]=x");
    assert_eq!(of(&ignored).status, 200);
    let message = "The fields[energy] query string value must be one of timestamp.";
    assert_fault(
        &of("/latest?fields[energy]=%2Bpf"),
        400,
        "BAD_REQUEST",
        message,
    );
}
