//! Limits on requests: tiers with sliding windows, for each key (6).

use crate::server::{Options, Server, refusal, refused};
use meterd_control::LimitPolicy;
use meterd_fault::LimitScope;
use meterd_surface_fsm_navigator::FsmNavigatorLimits;
use meterd_testkit::client::Answer;
use serde_json::{Value, json};
use std::time::Duration;

fn limited(change: impl FnOnce(&mut FsmNavigatorLimits)) -> Server {
    let mut options = Options::default();
    let limits = &mut options.settings.limits;
    *limits = FsmNavigatorLimits::default();
    change(limits);
    Server::start_with(options)
}

/// What the headers say: allowance, what is left of it, and when it is whole again.
fn window(answer: &Answer) -> Option<[i64; 3]> {
    let header = |name| answer.header(name)?.parse().ok();
    Some([
        header("x-ratelimit-limit")?,
        header("x-ratelimit-remaining")?,
        header("x-ratelimit-reset")?,
    ])
}

#[track_caller]
fn assert_told_to_wait(answer: &Answer, limit: i64) -> u64 {
    let told = refused(answer);
    let sentence = "Too many requests. Please try again later.";
    assert_eq!(told, refusal(429, "rate_limit_exceeded", sentence));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(answer.json()["retry_after"], wait);
    assert!(wait >= 1);
    let [allowed, left, _] = window(answer).unwrap();
    assert_eq!((allowed, left), (limit, 0));
    wait
}

#[test]
fn each_tier_has_its_own_window() {
    let server = limited(|limits| {
        limits.list = 3;
        limits.read = 4;
        limits.write = 5;
    });
    let ask = |method, path: &str| server.ask(method, path, None);
    for (limit, requests) in [
        (
            3,
            [
                ("GET", "/jobs"),
                ("GET", "/inventory?sub=low-stock"),
                ("GET", "/assets?id=1&sub=service_history"),
            ]
            .as_slice(),
        ),
        (
            4,
            &[
                ("GET", "/jobs?id=1"),
                ("GET", "/technicians/9"),
                ("HEAD", "/jobs/1"),
                ("GET", "/jobs/x"),
            ],
        ),
        (
            5,
            &[
                ("POST", "/jobs"),
                ("PUT", "/jobs"),
                ("DELETE", "/jobs"),
                ("GET", "/nonsense"),
                ("PATCH", "/technicians"),
            ],
        ),
    ] {
        for (n, (method, path)) in requests.iter().enumerate() {
            let answer = ask(method, path);
            let left = limit - i64::try_from(n).unwrap() - 1;
            let [allowed, remaining, reset] = window(&answer).unwrap();
            assert_eq!((allowed, remaining), (limit, left), "{method} {path}");
            let seconds = reset - meterd_testkit::now().seconds();
            assert!((1..=61).contains(&seconds), "{seconds}");
            assert_eq!(answer.header("retry-after"), None);
        }
        // What was refused is not counted, or clients that try again would never get through.
        for (method, path) in requests.iter().filter(|(method, _)| *method != "HEAD") {
            let wait = assert_told_to_wait(&ask(method, path), limit);
            assert!(wait <= 60, "{wait}");
        }
    }
    // Another key of the company has windows of its own.
    let other = server.key_with(&["jobs:read"]);
    server.ask_as(&other, "GET", "/jobs", None).expect(200);
}

#[test]
fn a_window_slides() {
    let mut options = Options::default();
    options.settings.limits.enabled = true;
    let server = Server::start_with(options);
    let second = Duration::from_secs(1);
    let issued = server.issue(&["jobs:read"], |new| {
        let own = LimitPolicy::sliding("fsm-list", LimitScope::Credential, 2, second);
        new.limits = vec![own.for_class("list")];
    });
    let list = || server.ask_as(issued.secret.reveal(), "GET", "/jobs", None);
    list().expect(200);
    list().expect(200);
    let wait = assert_told_to_wait(&list(), 2);
    assert_eq!(wait, 1);
    // Who waits as long as it was told gets through.
    std::thread::sleep(Duration::from_secs(wait));
    list().expect(200);
    // The other tiers of that key are the surface's.
    let answer = server.ask_as(issued.secret.reveal(), "GET", "/jobs/1", None);
    assert_eq!(window(&answer).unwrap()[0], 90);
}

#[test]
fn a_day_has_a_limit_over_all_tiers() {
    let server = limited(|limits| limits.daily = 4);
    let answers: Vec<_> = ["/jobs", "/jobs/1", "/jobs"]
        .map(|path| window(&server.ask("GET", path, None)).unwrap()[0])
        .into();
    assert_eq!(answers, [120, 90, 120]);
    let body = json!({"customer_name": "A"});
    server.ask("POST", "/customers", Some(&body)).expect(201);
    for (method, path) in [
        ("GET", "/jobs"),
        ("POST", "/customers"),
        ("GET", "/nonsense"),
    ] {
        let wait = assert_told_to_wait(&server.ask(method, path, None), 4);
        assert!((86_000..=86_400).contains(&wait), "{wait}");
    }
    assert_eq!(server.get_with_rival("/customers")["data"], json!([]));
}

/// As many as were left before, whether or not the server could say goodbye.
#[test]
fn a_day_goes_on_after_a_restart() {
    let start = |directory| {
        let mut options = Options::default();
        options.settings.limits = FsmNavigatorLimits {
            daily: 3,
            ..FsmNavigatorLimits::default()
        };
        options.general.directory = directory;
        Server::start_with(options)
    };
    let server = start(None);
    let key = server.key_with(&["jobs:read"]);
    for _ in 0..2 {
        server.ask_as(&key, "GET", "/jobs", None).expect(200);
    }
    let server = start(Some(server.stop()));
    server.ask_as(&key, "GET", "/jobs", None).expect(200);
    let wait = assert_told_to_wait(&server.ask_as(&key, "GET", "/jobs/1", None), 3);
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    // That of another key begins with its own first request.
    server.ask("GET", "/jobs", None).expect(200);
}

#[test]
fn limits_can_be_taken_away() {
    let server = limited(|limits| {
        limits.enabled = false;
        limits.list = 1;
    });
    for _ in 0..5 {
        let answer = server.ask("GET", "/jobs", None);
        answer.expect(200);
        assert_eq!(answer.header("x-ratelimit-limit"), None);
    }
}

impl Server {
    fn get_with_rival(&self, path: &str) -> Value {
        self.ask_as(&self.rival_key, "GET", path, None).expect(200)
    }
}
