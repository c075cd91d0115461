//! Limits on requests, and what every answer says of them (8).

use crate::world::{FOREIGN, HOUSE, Options, World, assert_fault, at};
use meterd_surface_wattwatchers::{
    DayWindow, KeyLimits, KeySees, Level, NewKeyLimits, WattwatchersLimits,
};
use meterd_testkit::client::{Answer, get, patch, request};
use serde_json::json;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A world whose keys have few requests, and one of those keys.
fn limited(per_second: u64, per_day: u64) -> (World, String) {
    let world = World::start();
    let key = key_with(&world, per_second, per_day);
    (world, key)
}

fn key_with(world: &World, per_second: u64, per_day: u64) -> String {
    let limits = KeyLimits {
        per_second,
        per_day,
    };
    world.make_key(&Level::ALL, KeySees::All, NewKeyLimits::Own(limits))
}

fn number(answer: &Answer, header: &str) -> u64 {
    let text = answer.header(header);
    text.unwrap_or_else(|| panic!("no {header}"))
        .parse()
        .unwrap()
}

/// The six headers of the later generation, as limits and what remains of them. Those of the earlier one tell of the tighter
/// limit, and when it begins anew.
#[track_caller]
fn told(answer: &Answer) -> (u64, u64, u64, u64) {
    let tpd_reset = number(answer, "x-ratelimit-tpdreset");
    assert!((1..=DAY_SECONDS).contains(&tpd_reset), "{tpd_reset}");
    let tps_reset = answer.header("x-ratelimit-tpsreset").unwrap();
    let (whole, thousandths) = tps_reset.split_once('.').unwrap();
    assert_eq!(thousandths.len(), 3, "{tps_reset}");
    assert!(matches!(whole, "0" | "1"), "{tps_reset}");
    let limit = |name: &str| {
        (
            number(answer, &format!("x-ratelimit-{name}remaining")),
            number(answer, &format!("x-ratelimit-{name}limit")),
        )
    };
    let (day, second) = (limit("tpd"), limit("tps"));
    let is_day = day.0 <= second.0;
    assert_eq!(limit(""), if is_day { day } else { second });
    let reset = number(answer, "x-ratelimit-reset");
    let now = u64::try_from(meterd_testkit::now().seconds()).unwrap();
    let wait = if is_day { tpd_reset } else { 1 };
    assert!((now + wait).abs_diff(reset) <= 2, "{reset} {now} {wait}");
    (day.1, day.0, second.1, second.0)
}

fn says_nothing(answer: &Answer) -> bool {
    !answer
        .headers
        .iter()
        .any(|(name, _)| name.starts_with("x-ratelimit-"))
}

/// [66]
#[test]
fn every_answer_to_a_known_key_says_what_is_left() {
    let (world, key) = limited(1_000, 100);
    let house = at(&format!("/devices/{HOUSE}"));
    let change = |body: &str| patch(house.as_str()).json(body);
    let mut left = 100;
    for (request, status) in [
        (get(at("/devices")), 200),
        (get(house.as_str()), 200),
        (get(at(&format!("/long-energy/{HOUSE}"))), 204),
        (get(at("/devices/marmaduke")), 400),
        (get(at(&format!("/devices/{FOREIGN}"))), 403),
        (get(at("/devices/D000000000000")), 404),
        (get(at(&format!("/modbus/{HOUSE}"))), 422),
        (change("{\"label\": \"Home\"}"), 200),
        (change("{\"label\": 5}"), 400),
        (change("{"), 400),
        (patch(house.as_str()).typed("text/plain", "{}"), 400),
        (change("{\"timezone\": \"Mars/X\"}"), 422),
    ] {
        let answer = world.send(&request.clone().key(&key));
        assert_eq!(answer.status, status, "{request:?}");
        left -= 1;
        let (day, day_left, second, _) = told(&answer);
        assert_eq!((day, day_left, second), (100, left, 1_000), "{request:?}");
    }
    // Devices' keys count like others where they do not belong.
    let answer = world.get_as(&world.feed, "/devices");
    assert_eq!(answer.status, 403);
    assert_eq!(told(&answer), (100_000_000, 99_999_999, 100_000, 99_999));
    // What no key was looked at for, and what is no known key's, says nothing.
    for answer in [
        world.send(&get(at("/"))),
        world.get_as(&key, "/nonsense"),
        world.send(&get(at("/devices"))),
        world.get_as("key_00000000000000000000000000000000", "/devices"),
    ] {
        assert!(says_nothing(&answer), "{:?}", answer.headers);
    }
}

/// [67, 69]
#[test]
fn a_key_past_its_second_waits_for_the_next() {
    let (world, key) = limited(2, 100);
    // However slow the machine, so many requests do not take one second for each two of them.
    let answers: Vec<_> = (0..60).map(|_| world.get_as(&key, "/devices")).collect();
    let passed = answers
        .iter()
        .take_while(|answer| answer.status == 200)
        .count();
    let refused = &answers[passed];
    assert_fault(
        refused,
        429,
        "TOO_MANY_REQUESTS_TPS",
        "You have exceeded the request limit of 2 per 1 second for for your API key. Please review the response headers \
         for further details.",
    );
    // One that was refused does not count.
    let left = 100 - u64::try_from(passed).unwrap();
    assert_eq!(told(refused), (100, left, 2, 0));
    assert_eq!(number(refused, "retry-after"), 1);
    assert_eq!(number(refused, "x-ratelimit-limit"), 2);
    assert_eq!(number(refused, "x-ratelimit-remaining"), 0);
    let reset = number(refused, "x-ratelimit-reset");
    let now = u64::try_from(meterd_testkit::now().seconds()).unwrap();
    assert!((now..=now + 2).contains(&reset), "{reset} {now}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(world.get_as(&key, "/devices").status, 200);
}

/// [68, 70]
#[test]
fn a_key_past_its_day_has_nothing_left_also_after_a_restart() {
    let (world, key) = limited(1_000, 3);
    for _ in 0..3 {
        world.get_as(&key, "/devices").expect(200);
    }
    let refused = |world: &World| {
        let answer = world.get_as(&key, "/devices");
        assert_fault(
            &answer,
            429,
            "TOO_MANY_REQUESTS_TPD",
            "You have exceeded the request limit of 3 per 1 day for for your API key. Please review the response headers \
             for further details.",
        );
        let (day, left, second, _) = told(&answer);
        assert_eq!((day, left, second), (3, 0, 1_000));
        let wait = number(&answer, "retry-after");
        assert!((1..=DAY_SECONDS).contains(&wait), "{wait}");
        assert_eq!(number(&answer, "x-ratelimit-limit"), 3);
    };
    refused(&world);
    // Another key has its own.
    let other = key_with(&world, 1_000, 3);
    world.get_as(&other, "/devices").expect(200);
    let world = world.restart();
    refused(&world);
    world.get_as(&other, "/devices").expect(200);
}

#[test]
fn a_day_can_begin_with_its_first_request() {
    let mut options = Options::default();
    options.settings.limits = WattwatchersLimits {
        day: DayWindow::FirstRequest24h,
        per_second: 1_000,
        per_day: 10,
        address_per_minute: 0,
    };
    let world = World::start_with(options);
    // Of a key with limits of its own too.
    for key in [world.key.clone(), key_with(&world, 1_000, 10)] {
        let answer = world.get_as(&key, "/devices");
        assert_eq!(number(&answer, "x-ratelimit-tpdreset"), DAY_SECONDS);
    }
}

#[test]
fn limits_can_follow_the_number_of_devices() {
    let world = World::start();
    let key = world.make_key(&[], KeySees::All, NewKeyLimits::Auto);
    let (day, _, second, _) = told(&world.get_as(&key, "/devices"));
    assert_eq!((day, second), (4 * 4_320, 5));
    for n in 0..4 {
        world
            .feed_put(&format!("D00000000000{n}"), &json!({"model": "6M"}))
            .expect(200);
    }
    let (day, left, second, _) = told(&world.get_as(&key, "/devices"));
    assert_eq!((day, left, second), (8 * 4_320, 8 * 4_320 - 2, 8));
}

#[test]
fn what_devices_send_counts_for_no_key() {
    let mut options = Options::default();
    options.settings.limits = WattwatchersLimits {
        per_second: 1,
        per_day: 1,
        address_per_minute: 0,
        ..WattwatchersLimits::default()
    };
    let world = World::start_with(options);
    for _ in 0..5 {
        let answer = world.feed(HOUSE, "/status", &json!({}));
        answer.expect(200);
        assert!(says_nothing(&answer));
    }
}

#[test]
fn an_address_that_asks_too_much_is_throttled_without_a_word_of_limits() {
    let guess = get(at("/devices")).key("key_guess");
    let preflight = request("OPTIONS", at("/devices"));
    for asked in [guess, preflight] {
        let mut options = Options::default();
        options.settings.limits.address_per_minute = 4;
        let world = World::start_with(options);
        let answers: Vec<_> = (0..9).map(|_| world.send(&asked)).collect();
        // The minute may change once in between.
        let throttled: Vec<_> = (answers.iter())
            .filter(|answer| answer.status == 429)
            .collect();
        assert!(!throttled.is_empty());
        for answer in throttled {
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain; charset=utf-8")
            );
            assert_eq!(answer.body, b"Too many requests. Please try again later.\n");
            assert!(says_nothing(answer) && answer.header("retry-after").is_none());
        }
    }
}

/// 2, oddity 6
#[test]
fn scripts_of_other_sites_may_call_and_read_limits() {
    let world = World::start();
    let preflight = request("OPTIONS", at(&format!("/devices/{HOUSE}")))
        .header("Origin", "https://dashboard.example")
        .header("Access-Control-Request-Method", "PATCH");
    let answer = world.send(&preflight);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for (name, value) in [
        ("access-control-allow-methods", "GET, PATCH, POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type",
        ),
        ("access-control-max-age", "7200"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    // What every answer lets them read is looked at wherever a test asks something.
    for answer in [
        answer,
        world.get("/devices"),
        world.get_as("key_x", "/devices"),
        world.get("/nonsense"),
    ] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}
