//! Short Energy: what lists and single records of it are like.

use crate::energy::stamps;
use crate::world::{HOUSE, SHED, World, short_record};
use meterd_testkit::now;
use serde_json::{Value, json};

#[test]
fn a_record_is_shown_as_it_was_sent() {
    let world = World::start();
    let sent = "{\"timestamp\":1550622130,\"duration\":5,\"frequency\":50.04,\"eReal\":[1150,2,38],\
                \"eReactive\":[-857,-19,-364],\"vRMS\":[244.9,244.8,244.8],\"iRMS\":[1.259,0.028,0.31]}";
    let record: Value = serde_json::from_str(sent).unwrap();
    world
        .feed(SHED, "/short-energy", &json!([record]))
        .expect(200);
    for _ in 0..2 {
        for end in ["first", "latest"] {
            let answer = world.get(&format!("/short-energy/{SHED}/{end}"));
            assert_eq!(String::from_utf8(answer.body).unwrap(), sent);
        }
        let path = format!("/short-energy/{SHED}?fromTs=1550622130&toTs=1550622131");
        let list = world.get(&path);
        assert_eq!(String::from_utf8(list.body).unwrap(), format!("[{sent}]"));
        world.engine.seal().unwrap();
    }
}

/// The records of a whole period, of which one page of the engine has only some.
#[test]
fn a_long_list_is_whole() {
    let world = World::start();
    let end = now().seconds() - 60;
    let all: Vec<_> = (0..2200).map(|n| end - 10 * (2199 - n)).collect();
    let (first, last) = all.split_at(1000);
    for part in [last, first] {
        let records = part.iter().map(|stamp| short_record(*stamp, 6));
        world
            .feed(HOUSE, "/short-energy", &records.collect())
            .expect(200);
        world.engine.seal().unwrap();
    }
    // One that another took the place of is not shown twice.
    let mut other = short_record(all[1000], 6);
    other["eReal"][0] = json!(7);
    world
        .feed(HOUSE, "/short-energy", &json!([other]))
        .expect(200);
    let path = format!("/short-energy/{HOUSE}?fromTs={}&toTs={}", all[0], end + 1);
    let answer = world.get(&path);
    assert_eq!(stamps(&answer), all);
    let mut expected: Vec<_> = all.iter().map(|stamp| short_record(*stamp, 6)).collect();
    expected[1000] = other;
    assert_eq!(answer.json(), Value::Array(expected));
}

/// Q21
#[test]
fn expired_records_leave_an_empty_list() {
    let world = World::start();
    let stamp = 1_550_622_130;
    world
        .feed(SHED, "/short-energy", &json!([short_record(stamp, 3)]))
        .expect(200);
    world.engine.seal().unwrap();
    let store = world.control.store();
    let meter = store
        .get_by_key::<meterd_control::Meter>(world.acme, "name", "wattwatchers_short_energy")
        .unwrap();
    let meter = meterd_model::MeterId(meter.id);
    world.engine.expire(world.acme, meter, now()).unwrap();
    assert_eq!(world.get(&format!("/short-energy/{SHED}")).body, b"[]");
    let list = world.get(&format!("/short-energy/{SHED}?fromTs={stamp}"));
    assert_eq!(list.body, b"[]");
    for end in ["first", "latest"] {
        let answer = world.get(&format!("/short-energy/{SHED}/{end}"));
        assert_eq!(answer.status, 204);
    }
}
