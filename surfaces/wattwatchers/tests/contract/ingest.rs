//! What devices send, and how they become known.

use crate::world::{
    FOREIGN, HOUSE, MODBUS, Options, SHED, World, assert_fault, long_record, short_record,
};
use meterd_control::Meter;
use meterd_engine::{Cancel, Listing, OnConflict};
use meterd_model::{MeterId, OrganizationId};
use meterd_surface_wattwatchers::{Layout, Outcome, Serial, Stream, import};
use meterd_testkit::system;
use serde_json::{Value, json};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use tokio::runtime::Runtime;

fn counts(accepted: usize, replaced: usize) -> Value {
    json!({"accepted": accepted, "replaced": replaced, "rejected": []})
}

/// The values of each measurement of a stream, the newest and the last channel first.
fn stored(world: &World, account: OrganizationId, stream: Stream) -> Vec<String> {
    let store = world.control.store();
    let meter = store.get_by_key::<Meter>(account, "name", stream.meter_name());
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

/// Fills acme's configuration to the byte.
fn fill(world: &World) {
    let serials: Vec<_> = (0..100).map(|n| format!("F{n:012}")).collect();
    let made = serials.iter().take_while(|serial| {
        let answer = world.feed_put(serial, &json!({"model": "6M"}));
        answer.status == 200
    });
    for serial in &serials[..made.count()] {
        for channel in 1..=6 {
            let is_label_of = |length: &usize| {
                let channel =
                    json!({"id": format!("{serial}_C{channel}"), "label": "x".repeat(*length)});
                let body = json!({"channels": [channel]});
                world.patch(&format!("/devices/{serial}"), &body).status == 200
            };
            if (1..=64).rev().find(is_label_of) != Some(64) {
                return;
            }
        }
    }
    panic!("there is room for more");
}

#[test]
fn a_full_accounts_devices_go_on_sending() {
    let mut options = Options::default();
    options.general.resource_bytes_max = Some(32_000);
    let world = World::start_with(options);
    fill(&world);
    // The first record of a stream makes its meter.
    for (stream, record) in [
        ("long-energy", long_record(1_700_000_100, 6)),
        ("short-energy", short_record(1_700_000_100, 6)),
    ] {
        let path = format!("/{stream}/{HOUSE}");
        let sent = world.feed(HOUSE, &format!("/{stream}"), &json!([record]));
        assert_eq!(sent.expect(200), counts(1, 0));
        let latest = world.get(&format!("{path}/latest")).expect(200);
        assert_eq!(latest["timestamp"], 1_700_000_100);
    }
}

#[test]
fn what_is_stored_is_accepted_also_when_nothing_more_can_be_noted() {
    let world = World::start();
    // What is no record makes the meter.
    world.feed(HOUSE, "/long-energy", &json!([{}])).expect(200);
    let database = rusqlite::Connection::open(world.control.path()).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE UPDATE ON resources WHEN NEW.kind = 'wattwatchers_device' \
             BEGIN SELECT RAISE(ABORT, 'no notes'); END",
        )
        .unwrap();
    let path = format!("/long-energy/{HOUSE}");
    let send = |stamp: i64| {
        let record = long_record(stamp, 6);
        let sent = world.feed(HOUSE, "/long-energy", &json!([record]));
        assert_eq!(sent.expect(200), counts(1, 0));
        record
    };
    let first = send(1_700_000_100);
    assert_eq!(send(1_700_000_100), first);
    assert_eq!(world.get(&path).expect(200), json!([first]));
    // The next one notes it, so that nothing that is left is told from nothing ever sent.
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    send(1_700_000_400);
    world.engine.seal().unwrap();
    let store = world.control.store();
    let found = store.get_by_key::<Meter>(world.acme, "name", Stream::Long.meter_name());
    let meter = MeterId(found.unwrap().id);
    let now = meterd_testkit::now();
    world.engine.expire(world.acme, meter, now).unwrap();
    assert_eq!(world.get(&path).expect(200), json!([]));
}

#[test]
fn a_meter_that_somebody_else_made_stays_theirs() {
    let world = World::start();
    let store = world.control.store();
    let name = Stream::Long.meter_name();
    world.feed(HOUSE, "/long-energy", &json!([{}])).expect(200);
    let found = store.get_by_key::<Meter>(world.acme, "name", name).unwrap();
    for (is_alike, manager) in [(false, None), (true, Some("wattwatchers"))] {
        let change = |stored: &meterd_control::Stored<Meter>| {
            let mut meter = stored.document.clone();
            meter.managed_by = None;
            meter.definition = found.document.definition.clone();
            if !is_alike {
                meter.definition.values.pop_last();
            }
            Ok(meter)
        };
        (store.update::<Meter>(world.acme, found.id, None, &system(), change)).unwrap();
        world.feed(HOUSE, "/long-energy", &json!([{}])).expect(200);
        let after = store.get_by_key::<Meter>(world.acme, "name", name).unwrap();
        assert_eq!(after.document.managed_by.as_deref(), manager);
    }
}

#[test]
fn no_record_goes_to_a_meter_that_is_being_deleted() {
    let world = World::start();
    // What is no record makes the meter too, and leaves it empty.
    world.feed(HOUSE, "/long-energy", &json!([{}])).expect(200);
    let store = world.control.store();
    let found = store.get_by_key::<Meter>(world.acme, "name", Stream::Long.meter_name());
    let meter = found.unwrap();
    assert_eq!(meter.document.managed_by.as_deref(), Some("wattwatchers"));

    let (serial, author) = (Serial::parse(HOUSE).unwrap(), system());
    let body = json!([long_record(1_700_000_100, 6)]).to_string();
    let runtime = Runtime::new().unwrap();
    let locked = runtime.block_on(world.app.lock_meters(world.acme));
    let stream = Stream::Long;
    let mut sent = pin!(import(
        &world.app,
        world.acme,
        &serial,
        stream,
        body.into(),
        OnConflict::Replace,
        &author
    ));
    let begun = poll_fn(|context| Poll::Ready(sent.as_mut().poll(context)));
    assert!(runtime.block_on(begun).is_pending());
    (store.delete::<Meter>(world.acme, meter.id, None, &author)).unwrap();
    drop(locked);
    let expected = Outcome {
        accepted: 1,
        ..Outcome::default()
    };
    assert_eq!(runtime.block_on(sent).unwrap(), expected);
    assert_eq!(stored(&world, world.acme, stream).len(), 6);
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

#[test]
fn a_bad_record_is_rejected_and_the_others_are_stored() {
    let world = World::start();
    let good = long_record(1_700_000_100, 3);
    let with = |member: &str, value: Value| {
        let mut record = good.clone();
        record[member] = value;
        record
    };
    let without = |member: &str| {
        let mut record = good.clone();
        record.as_object_mut().unwrap().remove(member);
        record
    };
    let future = (meterd_testkit::now().seconds() + 900) / 300 * 300;
    let cases = [
        (json!(5), "The body must be an object."),
        (
            with("timestamp", json!(1_700_000_101)),
            "timestamp must be a multiple of 300.",
        ),
        (
            with("timestamp", json!(-300)),
            "timestamp must be between 0 and 9999999999.",
        ),
        (
            with("timestamp", json!(1_700_000_100_000_i64)),
            "timestamp must be between 0 and 9999999999.",
        ),
        (
            with("timestamp", json!(future)),
            "timestamp must not be in the future.",
        ),
        (
            with("timestamp", json!("1700000100")),
            "timestamp must be an integer.",
        ),
        (
            with("duration", json!(0)),
            "duration must be between 1 and 300.",
        ),
        (
            with("duration", json!(301)),
            "duration must be between 1 and 300.",
        ),
        (without("duration"), "duration is required."),
        (
            with("eReal", json!([1, 2])),
            "eReal must have 3 items, one for each channel.",
        ),
        (
            with("eReal", json!([null, null, null, null])),
            "eReal must have 3 items, one for each channel.",
        ),
        (
            with("eReal", json!([-1000, 0, 1000.5])),
            "eReal[2] must be an integer.",
        ),
        (
            with("eReal", json!([-1000, 2, 1000])),
            "eReal[1] must be eRealPositive less eRealNegative.",
        ),
        (with("eReal", json!({})), "eReal must be an array."),
        (
            with("vRMSMin", json!([1, "2", 3])),
            "vRMSMin[1] must be a number.",
        ),
        (
            with("vRMSMin", json!([1, 1e30, 3])),
            "vRMSMin[1] must have at most 20 digits before and 18 after the decimal point.",
        ),
        (
            with("vRMSMin", json!([242, 230, 230])),
            "vRMSMin[0] must not be above vRMSMax.",
        ),
        (
            with("iRMSMax", json!([-1, 3, 3])),
            "iRMSMax[0] must be between 0 and 10000000000000. iRMSMin[0] must not be above iRMSMax.",
        ),
        (without("iRMSMax"), "iRMSMax is required."),
        (
            with("vRMS", json!([1, 2, 3])),
            "vRMS is not a known field; known are timestamp, duration, ",
        ),
    ];
    let mut body = vec![good.clone()];
    body.extend(cases.iter().map(|(record, _)| record.clone()));
    // Within a joule is near enough.
    body.push(with("eReal", json!([-999, -1, 1000])));
    let answer = world.feed(SHED, "/long-energy", &json!(body)).expect(200);
    assert_eq!(
        (&answer["accepted"], &answer["replaced"]),
        (&json!(1), &json!(1))
    );
    for (index, (_, message)) in cases.iter().enumerate() {
        let rejected = &answer["rejected"][index];
        let text = rejected["message"].as_str().unwrap();
        assert_eq!(rejected["index"], index + 1);
        assert!(text.starts_with(message), "{text}\n{message}");
    }
    assert_eq!(answer["rejected"].as_array().unwrap().len(), cases.len());
    assert_eq!(stored(&world, world.acme, Stream::Long).len(), 3);
}

#[test]
fn a_member_given_twice_rejects_its_record() {
    let world = World::start();
    let good = long_record(1_700_000_400, 3).to_string();
    let twice = good.replacen('{', "{\"duration\":300,", 1);
    let path = format!("/wattwatchers/ingest/v1/devices/{SHED}/long-energy");
    let body = format!("[{twice},{good}]");
    let request = meterd_testkit::client::post(path)
        .key(&world.feed)
        .json(body);
    let answer = world.send(&request).expect(200);
    assert_eq!(
        answer,
        json!({"accepted": 1, "replaced": 0, "rejected": [{"index": 0, "message": "duration must not be given twice."}]})
    );
}

/// Whatever the others of a body are like.
#[test]
fn a_record_is_read_by_itself() {
    let world = World::start();
    let path = format!("/wattwatchers/ingest/v1/devices/{SHED}/long-energy");
    let send = |body: String| {
        let request = meterd_testkit::client::post(path.as_str()).key(&world.feed);
        world.send(&request.json(body))
    };
    let good = long_record(1_700_000_400, 3).to_string();
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let too_deep = format!(
        "{} must not nest deeper than 32 levels. The body must be an object.",
        "[0]".repeat(32)
    );
    let long = format!("[{}0]", "0,".repeat(2_000_000));
    let rejected = |index: usize, message: &str| json!({"index": index, "message": message});
    assert_eq!(
        send(format!("[ {long} ,{deep},\n {good} ]")).expect(200),
        json!({"accepted": 1, "replaced": 0, "rejected": [
            rejected(0, "The body must not be longer than 16384 bytes."),
            rejected(1, &too_deep),
        ]})
    );
    for (body, message) in [
        (
            format!("[{good},]"),
            format!("trailing comma at line 1, column {}", good.len() + 3),
        ),
        (
            format!("[{good}] 1"),
            format!("trailing characters at line 1, column {}", good.len() + 4),
        ),
        (
            format!("[{good}"),
            format!(
                "EOF while parsing a list at line 1, column {}",
                good.len() + 1
            ),
        ),
    ] {
        let message = format!("The request body is not valid JSON: {message}.");
        assert_fault(&send(body), 400, "BAD_REQUEST", &message);
    }
}

/// So that a table with less in it does not take the place of what a device sent.
#[test]
fn what_is_stored_stays_where_that_is_asked_for() {
    let world = World::start();
    let (first, second) = (long_record(1_700_000_100, 3), long_record(1_700_000_400, 3));
    let mut other = first.clone();
    other["vRMSMax"][1] = json!(242.5);
    let send =
        |query: &str, records: Value| world.feed(SHED, &format!("/long-energy?{query}"), &records);
    let reject = "on_conflict=reject";
    assert_eq!(
        send(reject, json!([first, 5])).expect(200),
        json!({"accepted": 1, "replaced": 0, "kept": 0, "rejected": [{"index": 1, "message": "The body must be an object."}]})
    );
    assert_eq!(
        send(reject, json!([first, second, other])).expect(200),
        json!({"accepted": 2, "replaced": 0, "kept": 1, "rejected": []})
    );
    let of_first = || world.get(&format!("/long-energy/{SHED}/first")).expect(200);
    assert_eq!(of_first(), first);
    for (query, (accepted, replaced)) in [("", (0, 1)), ("on_conflict=replace&foo=%FF", (1, 0))] {
        let answer = send(query, json!([other])).expect(200);
        assert_eq!(answer, counts(accepted, replaced));
        assert_eq!(of_first(), other);
    }
    let message = "The on_conflict query string value must be one of reject, replace.";
    assert_fault(
        &send("on_conflict=skip", json!([])),
        400,
        "BAD_REQUEST",
        message,
    );
}

/// A fleet export rounds a net and its directions each by itself.
#[test]
fn a_rounded_row_of_a_table_is_a_good_record() {
    let world = World::start();
    let names = [
        "device_id",
        "timestamp",
        "duration",
        "C1_ereal_kWh",
        "C1_erealpositive_kWh",
        "C1_erealnegative_kWh",
        "C2_ereal_kWh",
        "C3_ereal_kWh",
    ];
    let layout = Layout::of_header(&names).unwrap();
    let send = |net: &str| {
        let cells = [SHED, "1700000100", "300", net, "0.0124", "0.0000", "0", "0"];
        let record: Value = serde_json::from_str(&layout.row(&cells).unwrap().record).unwrap();
        let sent = world.feed(SHED, "/long-energy", &json!([record]));
        sent.expect(200)
    };
    assert_eq!(send("0.0123"), counts(1, 0));
    let shown = world
        .get(&format!("/long-energy/{SHED}/latest"))
        .expect(200);
    assert_eq!(shown["eReal"], json!([44_640, 0, 0]));
    let message = "eReal[0] must be eRealPositive less eRealNegative.";
    assert_eq!(
        send("0.0121"),
        json!({"accepted": 0, "replaced": 0, "rejected": [{"index": 0, "message": message}]})
    );
}

#[test]
fn short_energy_and_modbus_have_rules_of_their_own() {
    let world = World::start();
    let short = |member: &str, value: Value| {
        let mut record = short_record(1_700_000_101, 3);
        record[member] = value;
        let answer = world
            .feed(SHED, "/short-energy", &json!([record]))
            .expect(200);
        answer["rejected"][0]["message"].clone()
    };
    assert_eq!(short("duration", json!(295)), Value::Null);
    assert_eq!(
        short("duration", json!(296)),
        "duration must be between 1 and 295."
    );
    assert_eq!(
        short("frequency", json!(-1)),
        "frequency must be at least 0."
    );
    assert_eq!(short("frequency", Value::Null), "frequency is required.");
    let modbus = |member: &str, value: Value| {
        let mut record = json!({
            "timestamp": 1_700_000_101, "model": "PMC-340B", "kVAh": 300, "kWh_Exp": 0, "kWh_Imp": 283, "kWh_Net": 283,
            "kWh_Tot": 283, "kvarh_Exp": 173, "kvarh_Imp": 0, "kvarh_Net": -173, "kvarh_Tot": 173, "_Ia": 1.5,
        });
        record[member] = value;
        let answer = world.feed(MODBUS, "/modbus", &json!([record])).expect(200);
        answer["rejected"][0]["message"].clone()
    };
    assert_eq!(modbus("_Uan", json!(230.4)), Value::Null);
    assert_eq!(
        modbus("_Uan", json!(-10_000_000_000_001_i64)),
        "_Uan must be between -10000000000000 and 10000000000000."
    );
    assert_eq!(
        modbus("model", json!("X")),
        "model must be one of PMC-220, PMC-340B."
    );
    assert_eq!(modbus("kVAh", json!(0.5)), "kVAh must be an integer.");
    assert!(
        modbus("_I", json!(1))
            .as_str()
            .unwrap()
            .starts_with("_I is not a known field;")
    );
}

#[test]
fn a_body_that_is_no_list_of_records_is_refused_whole() {
    let world = World::start();
    let answer = world.feed(HOUSE, "/long-energy", &json!({"timestamp": 1}));
    assert_eq!(answer.expect(400)["message"], "The body must be an array.");
    let many: Vec<_> = (0..2017).map(|_| json!(0)).collect();
    let answer = world.feed(HOUSE, "/long-energy", &json!(many));
    assert_eq!(
        answer.expect(422)["message"],
        "The body must have at most 2016 items."
    );
    let answer = world.feed(HOUSE, "/modbus", &json!([]));
    assert_fault(
        &answer,
        422,
        "UNPROCESSABLE ENTITY",
        "You have attempted to query modbus data for a device ID that does not support it",
    );
    let answer = world.feed("D000000000000", "/long-energy", &json!([]));
    assert_fault(
        &answer,
        404,
        "NOT_FOUND",
        "D000000000000 could not be found.",
    );
    assert_eq!(world.feed(FOREIGN, "/long-energy", &json!([])).status, 403);
    assert_eq!(
        world.feed(HOUSE, "/long-energy", &json!([])).expect(200),
        counts(0, 0)
    );
}

#[test]
fn a_registration_is_checked_whole() {
    let world = World::start();
    let id = "D00000000000Y";
    let refused = |body: &Value| {
        let answer = world.feed_put(id, body);
        (
            answer.status,
            answer.json()["message"].as_str().unwrap().to_owned(),
        )
    };
    let ours = world.key_for(&[HOUSE], &[]);
    for (body, status, message) in [
        (json!({}), 400, "model is required."),
        (
            json!({"model": "9M"}),
            422,
            "model must be one of 3M, 3RM, 3RM+3SW, 6M, ",
        ),
        (
            json!({"model": "3M", "channelsCount": 4}),
            422,
            "channelsCount must be between 1 and 3.",
        ),
        (
            json!({"model": "3M", "timezone": "Mars/X"}),
            422,
            "timezone must be an IANA time zone",
        ),
        (
            json!({"model": "3M", "label": "x".repeat(65)}),
            422,
            "label must have at most 64 characters.",
        ),
        (
            json!({"model": "3M", "keys": [ours, "key_1"]}),
            422,
            "keys[1] must name an existing credential.",
        ),
        (
            json!({"model": "3M", "colour": "red"}),
            400,
            "colour is not a known field; known are model, ",
        ),
    ] {
        let (got, text) = refused(&body);
        assert!(got == status && text.starts_with(message), "{got} {text}");
    }
    assert_eq!(world.get(&format!("/devices/{id}")).status, 404);
    world
        .feed_put(id, &json!({"model": "6M+3SW", "keys": [ours]}))
        .expect(200);
    assert_eq!(
        world.get_as(&ours, "/devices").expect(200),
        json!([id, HOUSE])
    );
    let answer = world.feed_put(id, &json!({"model": "6M", "channelsCount": 3}));
    assert_eq!(
        answer.expect(422)["message"],
        "channelsCount cannot be changed."
    );
    let other = world
        .feed_put(id, &json!({"model": "6M", "keys": []}))
        .expect(200);
    assert_eq!(
        (&other["model"], other.get("switches")),
        (&json!("6M"), None)
    );
    assert_eq!(world.get_as(&ours, "/devices").expect(200), json!([HOUSE]));
}

/// Whatever registers a device, the command line too, knows nothing of the server's settings.
#[test]
fn a_stream_has_its_meter_from_the_first_record_on() {
    let mut options = Options::default();
    options.settings.short_energy_retention_days = 400;
    let world = World::start_with(options);
    let store = world.control.store();
    let find = || {
        let name = Stream::Short.meter_name();
        let found = store.find_by_key::<Meter>(world.acme, "name", name);
        found.unwrap()
    };
    assert!(find().is_none());
    let record = short_record(1_700_000_101, 3);
    let sent = world.feed(SHED, "/short-energy", &json!([record]));
    assert_eq!(sent.expect(200), counts(1, 0));
    assert_eq!(find().unwrap().document.retention_days, Some(400));
}

/// The engine's own query sees a device's streams like any other measurement.
#[test]
fn streams_are_meters_with_units() {
    let world = World::start();
    world
        .feed(
            SHED,
            "/long-energy",
            &json!([long_record(1_700_000_100, 3)]),
        )
        .expect(200);
    world
        .feed(
            SHED,
            "/short-energy",
            &json!([short_record(1_700_000_101, 3)]),
        )
        .expect(200);
    let store = world.control.store();
    let meter = store
        .get_by_key::<Meter>(world.acme, "name", "wattwatchers_long_energy")
        .unwrap();
    let units: Vec<_> = (meter.document.definition.values.iter())
        .map(|(name, field)| format!("{name} {}", field.unit))
        .collect();
    assert_eq!(
        units,
        [
            "duration s",
            "eReactive J",
            "eReactiveNegative J",
            "eReactivePositive J",
            "eReal J",
            "eRealNegative J",
            "eRealPositive J",
            "iRMSMax A",
            "iRMSMin A",
            "vRMSMax V",
            "vRMSMin V",
        ]
    );
    assert_eq!(meter.document.retention_days, None);
    let short = store
        .get_by_key::<Meter>(world.acme, "name", "wattwatchers_short_energy")
        .unwrap();
    assert_eq!(short.document.retention_days, Some(31));
}

#[test]
fn a_streams_meter_of_before_meters_said_whose_they_are_is_adopted() {
    let world = World::start();
    let store = world.control.store();
    let find = || {
        let found = store.get_by_key::<Meter>(world.acme, "name", Stream::Long.meter_name());
        found.unwrap()
    };
    let send = |stamp| {
        let records = json!([long_record(stamp, 6)]);
        world.feed(HOUSE, "/long-energy", &records).expect(200)
    };
    send(1_700_000_100);
    let made = find();
    let old = Meter {
        managed_by: None,
        ..made.document.clone()
    };
    (store.replace(world.acme, made.id, None, old, &system())).unwrap();
    assert_eq!(send(1_700_000_400), counts(1, 0));
    let adopted = find();
    assert_eq!((adopted.id, &adopted.document), (made.id, &made.document));
}

#[test]
fn what_devices_tell_of_themselves_fits_in_an_account_that_is_full() {
    let mut options = Options::default();
    options.general.resource_bytes_max = Some(32_000);
    let world = World::start_with(options);
    let store = world.control.store();
    world.feed(HOUSE, "/long-energy", &json!([{}])).expect(200);
    let found = store.get_by_key::<Meter>(world.acme, "name", Stream::Long.meter_name());
    let (id, mut meter) = found
        .map(|meter| (meter.id, meter.document.clone()))
        .unwrap();
    // Grows by falling powers of two, until not one more byte fits.
    let mut bytes = 1;
    for step in (0..15).map(|exponent| 1 << exponent).rev() {
        let unit = "x".repeat(bytes + step);
        meter.definition.values.values_mut().next().unwrap().unit = unit;
        let grown = store.replace(world.acme, id, None, meter.clone(), &system());
        bytes += if grown.is_ok() { step } else { 0 };
    }
    let label = json!({"label": "a label that is longer than the one before"});
    let refused = world.patch(&format!("/devices/{HOUSE}"), &label);
    assert!(refused.expect(422).to_string().contains("does not fit"));
    let version = "a version that is longer than the one before";
    let status = json!({"firmwareVersion": version});
    world.feed(HOUSE, "/status", &status).expect(200);
    let shown = world.get(&format!("/devices/{HOUSE}")).expect(200);
    assert_eq!(shown["firmwareVersion"], version);
    let records = json!([long_record(1_700_000_100, 6)]);
    let sent = world.feed(HOUSE, "/long-energy", &records);
    assert_eq!(sent.expect(200), counts(1, 0));
}
