//! Limits on requests (7.4).

use crate::server::{GRANT, Options, Server, message, token_request};
use meterd_surface_m3ter::M3terLimits;
use meterd_testkit::client::{Answer, get};
use serde_json::json;

fn limited(change: impl FnOnce(&mut M3terLimits)) -> Server {
    let mut options = Options::default();
    let limits = &mut options.settings.limits;
    *limits = M3terLimits::default();
    change(limits);
    Server::start_with(options)
}

fn assert_told_to_wait(answer: &Answer) {
    assert_eq!(message(answer, 429), "Too Many Requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// The requests may fall into two seconds.
#[test]
fn an_organization_has_its_requests_a_second() {
    let server = limited(|limits| limits.config_organization = 5);
    let asked: Vec<_> = (0..30)
        .map(|_| server.ask("GET", "/products", None))
        .collect();
    let refused: Vec<_> = asked.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert_told_to_wait(answer);
    }
    assert!(asked.iter().filter(|answer| answer.status == 200).count() >= 5);
    // The other organization has its own; and so has ingest.
    let path = server.rival.path("/products");
    let answer = server.send(&get(path).key(&server.rival.admin.token));
    assert_eq!(answer.status, 200);
}

#[test]
fn an_address_has_its_requests_in_five_minutes_and_tokens_are_no_part_of_them() {
    let server = limited(|limits| limits.config_address = 10);
    let admin = &server.acme.admin;
    for _ in 0..30 {
        let request = token_request(&admin.key, &admin.secret).json(GRANT);
        server.send(&request).expect(200);
    }
    for _ in 0..10 {
        server.get("/products");
    }
    let answer = server.ask("GET", "/products", None);
    assert_eq!(message(&answer, 429), "Too Many Requests");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    // Before the token is looked at, so that guessing has its bound too.
    let answer = server.send(&get(server.path("/products")).key("garbage"));
    assert_eq!(message(&answer, 429), "Too Many Requests");
    let request = token_request(&admin.key, &admin.secret).json(GRANT);
    server.send(&request).expect(200);
}

#[test]
fn nobody_uses_up_an_organizations_second_without_a_token() {
    let server = limited(|limits| limits.config_organization = 1);
    for _ in 0..10 {
        let answer = server.send(&get(server.path("/products")).key("garbage"));
        assert_eq!(message(&answer, 403), "Unauthorized");
    }
    server.get("/products");
}

#[test]
fn limits_can_be_taken_away() {
    let server = limited(|limits| {
        limits.enabled = false;
        limits.config_organization = 1;
        limits.config_address = 1;
    });
    for _ in 0..20 {
        assert_eq!(server.get("/products"), json!({"data": []}));
    }
}
