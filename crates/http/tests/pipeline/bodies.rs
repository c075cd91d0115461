//! Every way that a body can come, and the ways it must not.

use crate::support::{
    BODY_MAX_BYTES, Server, Setup, assert_answer, assert_fault, echo_of, last_get, read_to_end,
    read_until,
};
use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meterd_fault::Code;
use tokio::io::AsyncWriteExt as _;

const CHUNKED: &str = "Transfer-Encoding: chunked\r\nConnection: close\r\n";

fn sized(length: usize) -> String {
    format!("Content-Length: {length}\r\nConnection: close\r\n")
}

#[tokio::test]
async fn chunked_and_sized_bodies_are_the_same() {
    let server = Server::start(Setup::default()).await;
    for sent in [
        echo_of(&sized(5), "hello"),
        echo_of(CHUNKED, "2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\n\r\n"),
        echo_of(CHUNKED, "5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    ] {
        assert_answer(&server.exchange(&sent).await, 200, "hello");
    }
    let most = usize::try_from(BODY_MAX_BYTES).unwrap();
    let body = "x".repeat(most);
    let chunk = format!("{most:x}\r\n{body}\r\n");
    for sent in [
        echo_of(&sized(most), &body),
        echo_of(CHUNKED, &format!("{chunk}0\r\n\r\n")),
    ] {
        assert_answer(&server.exchange(&sent).await, 200, &body);
    }
    for sent in [
        // Refused for what it announces, before it is sent.
        echo_of(&sized(most + 1), ""),
        echo_of(&sized(usize::MAX / 4), ""),
        echo_of(CHUNKED, &format!("{chunk}1\r\nx\r\n0\r\n\r\n")),
        echo_of(CHUNKED, &chunk.repeat(50)),
    ] {
        let answer = server.exchange(&sent).await;
        assert_fault(&answer, 413, Code::BodyTooLarge);
    }
}

#[tokio::test]
async fn a_broken_body_is_the_clients_fault() {
    let server = Server::start(Setup::default()).await;
    for body in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "-1\r\n\r\n",
    ] {
        let answer = server.exchange(echo_of(CHUNKED, body)).await;
        assert_fault(&answer, 400, Code::BodyMalformed);
    }
    // Half a body, and the client says that this is all.
    for sent in [echo_of(&sized(10), "hello"), echo_of(CHUNKED, "a\r\nhello")] {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        if !answer.is_empty() {
            assert_fault(&answer, 400, Code::BodyMalformed);
        }
    }
    assert_answer(&server.exchange(last_get("/ping")).await, 200, "pong");
}

/// Whoever stands before the server could take another end of the body than the server does, and then the rest of one
/// client's request for the start of another's.
#[tokio::test]
async fn a_body_with_two_lengths_smuggles_nothing_and_its_connection_is_closed() {
    let server = Server::start(Setup::default()).await;
    let smuggled = "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
    // With both kinds, the chunks count (RFC 9112, 6.1), and what follows them is not looked at.
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let sent = echo_of(headers, &format!("2\r\nhi\r\n0\r\n\r\n{smuggled}"));
        assert_answer(&server.exchange(&sent).await, 200, "hi");
    }
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
    ] {
        let sent = echo_of(headers, &format!("0\r\n\r\n{smuggled}"));
        let answer = server.exchange(&sent).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
        assert!(!answer.contains("pong"), "{headers:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_the_word_to_go_on_gets_it() {
    let server = Server::start(Setup::default()).await;
    let mut stream = server.connect().await;
    let expecting = format!("Expect: 100-continue\r\n{}", sized(5));
    stream
        .write_all(echo_of(&expecting, "").as_bytes())
        .await
        .unwrap();
    let interim = read_until(&mut stream, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    stream.write_all(b"hello").await.unwrap();
    assert_answer(&read_to_end(&mut stream).await, 200, "hello");

    // And is spared the work where the answer is known already.
    let expecting = format!("Expect: 100-continue\r\n{}", sized(5000));
    let answer = server.exchange(echo_of(&expecting, "")).await;
    assert_fault(&answer, 413, Code::BodyTooLarge);
    let nowhere = echo_of(&expecting, "").replace("/echo", "/nowhere");
    assert_fault(&server.exchange(nowhere).await, 404, Code::UnknownRoute);
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_turn() {
    let server = Server::start(Setup::default()).await;
    let sent = [
        "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        echo_of("Content-Length: 5\r\n", "first"),
        echo_of("Transfer-Encoding: chunked\r\n", "6\r\nsecond\r\n0\r\n\r\n"),
        "HEAD /ping HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        last_get("/ping"),
    ];
    let answer = server.exchange(sent.concat()).await;
    let mut rest = answer.as_str();
    for (status, body) in [
        (200, "pong"),
        (200, "first"),
        (200, "second"),
        (200, ""),
        (404, Code::UnknownRoute.entry().code),
        (200, "pong"),
    ] {
        let (head, tail) = rest.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        rest = tail.strip_prefix(body).unwrap();
    }
    assert_eq!(rest, "");
}

#[tokio::test]
async fn http_2_with_prior_knowledge() {
    let server = Server::start(Setup::default()).await;
    let stream = TokioIo::new(server.connect().await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let driving = tokio::spawn(connection);
    let ask = |method: &str, path: &str, body: String| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", server.address))
            .body(Body::from(body))
            .unwrap();
        let mut sender = sender.clone();
        async move {
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            assert!(answer.headers().contains_key("x-request-id"));
            let body: Bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        }
    };
    // Side by side on one connection.
    let (ping, echo, large, nowhere, panic) = tokio::join!(
        ask("GET", "/ping", String::new()),
        ask("POST", "/echo", "hello".to_owned()),
        ask("POST", "/echo", "x".repeat(1001)),
        ask("GET", "/nowhere", String::new()),
        ask("GET", "/panic", String::new()),
    );
    let fault = |status: u16, code: Code| (status, code.entry().code.to_owned());
    assert_eq!(ping, (200, "pong".to_owned()));
    assert_eq!(echo, (200, "hello".to_owned()));
    assert_eq!(large, fault(413, Code::BodyTooLarge));
    assert_eq!(nowhere, fault(404, Code::UnknownRoute));
    assert_eq!(panic, fault(500, Code::Internal));
    driving.abort();
}

/// A connection that is closed on unread bytes makes the client's system throw the answer away.
#[tokio::test]
async fn a_client_that_sends_everything_first_still_hears_why_it_was_refused() {
    let server = Server::start(Setup::default()).await;
    let large = "x".repeat(8 * 1024 * 1024);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            large.len()
        )
    };
    for (path, status, code) in [
        ("/nowhere", 404, Code::UnknownRoute),
        ("/echo", 413, Code::BodyTooLarge),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(head(path).as_bytes()).await.unwrap();
        stream.write_all(large.as_bytes()).await.unwrap();
        assert_fault(&read_to_end(&mut stream).await, status, code);
    }
}

#[tokio::test]
async fn small_compressed_bodies_do_not_hold_room_for_large_ones() {
    let setup = Setup {
        bounds: meterd_http::Bounds {
            // Room for two bodies of the smallest step each, far from the largest that the route takes.
            body_memory_max_bytes: 4096,
            ..meterd_http::Bounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, b"hello").unwrap();
    let body = encoder.finish().unwrap();
    let mut request = echo_of(
        &format!(
            "Content-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n",
            body.len()
        ),
        "",
    )
    .into_bytes();
    request.extend_from_slice(&body);
    assert_answer(&server.exchange(&request).await, 200, "hello");
}
