//! Headers that the surface or the pipeline puts on answers of every kind.

use crate::support::{Server, Setup, assert_answer, assert_fault, last_get};
use meterd_fault::Code;

fn options(path: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://dashboard.example\r\n\
         Access-Control-Request-Method: GET\r\nConnection: close\r\n\r\n"
    )
}

#[track_caller]
fn assert_open(answer: &str) {
    for header in [
        "access-control-allow-origin: *\r\n",
        "access-control-expose-headers: X-Surface\r\n",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
}

#[tokio::test]
async fn scripts_of_other_sites_get_leave_without_credentials() {
    let server = Server::start(Setup::default()).await;
    for path in ["/ping", "/secret"] {
        let answer = server.exchange(options(path)).await;
        assert_answer(&answer, 204, "");
        assert_open(&answer);
        for header in [
            "access-control-allow-methods: GET, POST\r\n",
            "access-control-allow-headers: Authorization\r\n",
            "access-control-max-age: 7200\r\n",
        ] {
            assert!(answer.contains(header), "{answer}");
        }
    }
    let answer = server.exchange(options("/nowhere")).await;
    assert_fault(&answer, 404, Code::UnknownRoute);
}

#[tokio::test]
async fn scripts_of_other_sites_may_read_failures_too() {
    let server = Server::start(Setup::default()).await;
    let answer = server.exchange(last_get("/ping")).await;
    assert_answer(&answer, 200, "pong");
    assert_open(&answer);
    let answer = server.exchange(last_get("/secret")).await;
    assert_fault(&answer, 401, Code::CredentialsMissing);
    assert_open(&answer);
}

#[tokio::test]
async fn a_surface_knows_whether_the_answer_that_it_decorates_is_a_fault() {
    let server = Server::start(Setup::default()).await;
    let answer = server.exchange(last_get("/secret")).await;
    assert!(answer.contains("x-failed: yes\r\n"), "{answer}");
    let answer = server.exchange(last_get("/ping")).await;
    assert!(!answer.contains("x-failed"), "{answer}");
}
