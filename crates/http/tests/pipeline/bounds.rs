//! Requests past a bound get the fault that is named for it.

use crate::support::{
    PANIC_WORDS, SHORT, Server, Setup, assert_answer, assert_fault, echo_of, last_get, read_to_end,
    read_until,
};
use meterd_fault::Code;
use meterd_http::Bounds;
use tokio::io::AsyncWriteExt as _;

fn with_headers(headers: &str) -> String {
    format!("GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_head_past_its_bounds_is_refused_in_the_dialect() {
    let server = Server::start(Setup::default()).await;
    let many = |count: usize| "X: y\r\n".repeat(count);
    assert_answer(&server.exchange(with_headers(&many(90))).await, 200, "pong");
    for headers in [
        format!("X-Long: {}\r\n", "y".repeat(32 * 1024)),
        format!("X-Long: {}\r\n", "y".repeat(200 * 1024)),
    ] {
        let answer = server.exchange(with_headers(&headers)).await;
        assert_fault(&answer, 431, Code::HeadersTooLarge);
    }
    let query = |bytes: usize| format!("/ping?{}", "q".repeat(bytes - "/ping?".len()));
    let answer = server.exchange(last_get(&query(8 * 1024))).await;
    assert_answer(&answer, 200, "pong");
    for bytes in [8 * 1024 + 1, 60 * 1024] {
        let answer = server.exchange(last_get(&query(bytes))).await;
        assert_fault(&answer, 414, Code::UriTooLong);
    }
}

#[tokio::test]
async fn a_head_past_every_measure_ends_the_connection() {
    let server = Server::start(Setup::default()).await;
    let endless = [
        with_headers(&"X: y\r\n".repeat(10_000)),
        with_headers(&format!("X-Long: {}\r\n", "y".repeat(1024 * 1024))),
        last_get(&format!("/{}", "p".repeat(1024 * 1024))),
        "G".repeat(1024 * 1024),
    ];
    for sent in endless {
        let answer = server.exchange(&sent).await;
        let bare = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(bare, "{answer}");
    }
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\r\n\r\n \r\n\r\n",
    ] {
        let answer = server.exchange(garbage).await;
        let bare = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        assert!(bare, "{garbage:?}: {answer}");
    }
    assert_answer(&server.exchange(last_get("/ping")).await, 200, "pong");
}

#[tokio::test]
async fn requests_past_the_number_in_hand_are_turned_away_at_once() {
    let setup = Setup {
        bounds: Bounds {
            in_flight_max: 1,
            ..Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let mut waiting = server.connect().await;
    waiting
        .write_all(last_get("/wait").as_bytes())
        .await
        .unwrap();
    while server.pipeline.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        let answer = server.exchange(last_get("/ping")).await;
        assert_fault(&answer, 503, Code::Overloaded);
    }
    server.gate.add_permits(1);
    assert_answer(&read_to_end(&mut waiting).await, 200, "waited");
    assert_answer(&server.exchange(last_get("/ping")).await, 200, "pong");
    assert_eq!(server.pipeline.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let setup = Setup {
        bounds: Bounds {
            in_flight_max: 1,
            ..Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    for _ in 0..3 {
        let mut leaving = server.connect().await;
        leaving
            .write_all(last_get("/wait").as_bytes())
            .await
            .unwrap();
        while server.pipeline.metrics.in_flight.get() == 0 {
            tokio::task::yield_now().await;
        }
        drop(leaving);
        server.connections(0).await;
        assert_eq!(server.pipeline.metrics.in_flight.get(), 0);
    }
    assert_answer(&server.exchange(last_get("/ping")).await, 200, "pong");
}

#[tokio::test]
async fn a_handler_without_end_is_timed_out_and_a_panic_is_one_fault() {
    let server = Server::start(Setup::default()).await;
    let mut stream = server.connect().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (path, end) in [
        ("/slow", Code::TimedOut.entry().code),
        ("/panic", Code::Internal.entry().code),
        ("/nowhere", Code::UnknownRoute.entry().code),
        ("/echo", Code::MethodNotAllowed.entry().code),
        ("/ping", "pong"),
    ] {
        stream.write_all(get(path).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, end).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert!(!answer.contains(PANIC_WORDS), "{answer}");
    }
    let answer = server.exchange(last_get("/panic")).await;
    assert_fault(&answer, 500, Code::Internal);
}

#[tokio::test]
async fn a_body_that_pauses_is_timed_out() {
    let setup = Setup {
        bounds: Bounds {
            body_pause_max: SHORT,
            ..Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let answer = server
        .exchange(echo_of("Content-Length: 10\r\n", "12345"))
        .await;
    assert_fault(&answer, 408, Code::BodyTimeout);
    // One that only comes slowly arrives.
    let mut slow = server.connect().await;
    let head = echo_of("Content-Length: 10\r\nConnection: close\r\n", "");
    slow.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(SHORT / 20).await;
        slow.write_all(b"x").await.unwrap();
    }
    assert_answer(&read_to_end(&mut slow).await, 200, "xxxxxxxxxx");
}

/// The handler's time is its own: a body that comes slowly is the body's fault, and nothing was stored.
#[tokio::test]
async fn waiting_for_a_body_is_not_the_handlers_time() {
    let setup = Setup {
        bounds: Bounds {
            time_limit: SHORT / 4,
            body_total_max: SHORT,
            ..Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let (mut answer, mut slow) = server.connect().await.into_split();
    let head = echo_of("Content-Length: 1000\r\nConnection: close\r\n", "");
    slow.write_all(head.as_bytes()).await.unwrap();
    let trickle = tokio::spawn(async move {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 20).await;
        }
    });
    let answer = read_until(&mut answer, "\r\n\r\n").await;
    trickle.abort();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn memory_for_bodies_is_one_budget() {
    let setup = Setup {
        bounds: Bounds {
            body_memory_max_bytes: 1024,
            ..Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let mut first = server.connect().await;
    let head = echo_of("Content-Length: 10\r\nConnection: close\r\n", "12345");
    first.write_all(head.as_bytes()).await.unwrap();
    // Once the first has taken its share, nothing is left for another; until then, the other one is served.
    let second = echo_of("Content-Length: 5\r\nConnection: close\r\n", "12345");
    loop {
        let answer = server.exchange(&second).await;
        if answer.starts_with("HTTP/1.1 503 ") {
            assert_fault(&answer, 503, Code::Overloaded);
            break;
        }
        assert_answer(&answer, 200, "12345");
    }
    assert_answer(&server.exchange(last_get("/ping")).await, 200, "pong");
    drop(first);
    server.connections(0).await;
    assert_answer(&server.exchange(&second).await, 200, "12345");
}
