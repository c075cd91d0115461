//! Connections: how many, how long, and how they end.

use crate::support::{
    PATIENCE, SHORT, STREAM_PIECES, Server, Setup, assert_answer, last_get, read_to_end, read_until,
};
use meterd_http::listen::ConnectionBounds;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn hasty() -> Setup {
    Setup {
        connections: ConnectionBounds {
            head_max: SHORT,
            write_pause_max: SHORT,
            ..ConnectionBounds::default()
        },
        ..Setup::default()
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_ends_the_connection() {
    let server = Server::start(hasty()).await;
    for start in [
        "GET /ping HTTP/1.1\r\nHost: a\r\nX-Long: ",
        "GET /",
        "PRI * HTTP/2.0\r",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let drip = async {
            // A write fails once the server has closed.
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        let mut answer = Vec::new();
        let closed = async {
            let _ = reader.read_to_end(&mut answer).await;
        };
        let either = async {
            tokio::select! {
                () = drip => {}
                () = closed => {}
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, either).await.is_ok();
        assert!(in_time, "{start:?} is never closed");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("pong"), "{start:?}: {answer}");
    }
    server.connections(0).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_more_is_closed() {
    let server = Server::start(hasty()).await;
    // Nothing, what begins both POST and the preface of HTTP/2, most of that preface, and all of it.
    for start in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /ping HTTP/1.1\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{start:?} is never closed");
    }
    // One request, and then nothing.
    let mut idle = server.connect().await;
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert_answer(&read_to_end(&mut idle).await, 200, "pong");
    server.connections(0).await;
}

#[tokio::test]
async fn a_handler_may_take_longer_than_a_head() {
    let server = Server::start(hasty()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(last_get("/wait").as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(SHORT * 3).await;
    server.gate.add_permits(1);
    assert_answer(&read_to_end(&mut stream).await, 200, "waited");
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_connection_may_be_idle() {
    let mut setup = hasty();
    setup.connections.idle_max = SHORT / 4;
    let server = Server::start(setup).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..STREAM_PIECES {
        tokio::time::sleep(SHORT).await;
        server.gate.add_permits(1);
        read_until(&mut stream, "piece").await;
    }
    read_until(&mut stream, "0\r\n\r\n").await;
    // Then it is idle.
    assert_eq!(read_to_end(&mut stream).await, "");
    server.connections(0).await;
    // What knows its length still says it.
    let answer = server.exchange(last_get("/ping")).await;
    assert!(answer.contains("content-length: 4\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let server = Server::start(hasty()).await;
    let mut deaf = server.connect().await;
    deaf.write_all(last_get("/big").as_bytes()).await.unwrap();
    server.connections(1).await;
    server.connections(0).await;
    // One that reads gets everything, however large.
    let answer = server.exchange(last_get("/big")).await;
    assert!(answer.len() > 64 * 1024 * 1024);
}

#[tokio::test]
async fn connections_past_the_bound_wait_their_turn() {
    let setup = Setup {
        connections: ConnectionBounds {
            connections_max: 2,
            ..ConnectionBounds::default()
        },
        ..Setup::default()
    };
    let server = Server::start(setup).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut open = [server.connect().await, server.connect().await];
    for stream in &mut open {
        stream.write_all(get("/ping").as_bytes()).await.unwrap();
        read_until(stream, "pong").await;
    }
    let mut third = server.connect().await;
    third.write_all(last_get("/ping").as_bytes()).await.unwrap();
    for _ in 0..20 {
        open[0].write_all(get("/ping").as_bytes()).await.unwrap();
        read_until(&mut open[0], "pong").await;
        assert_eq!(server.pipeline.metrics.connections.get(), 2);
    }
    let nothing = third.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    drop(open);
    assert_answer(&read_to_end(&mut third).await, 200, "pong");
    server.connections(0).await;
}

#[tokio::test]
async fn stopping_lets_requests_in_hand_finish_and_closes_the_others() {
    let server = Server::start(Setup::default()).await;
    let mut waiting = server.connect().await;
    waiting
        .write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, "pong").await;
    while server.pipeline.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    server.stop.send(true).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!server.serving.is_finished());
    server.gate.add_permits(1);
    let answer = read_to_end(&mut waiting).await;
    assert!(answer.ends_with("waited"), "{answer}");
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_does_not_finish_is_given_up_at_the_end_of_the_drain() {
    let setup = Setup {
        connections: ConnectionBounds {
            drain_max: SHORT,
            ..ConnectionBounds::default()
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
    server.stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .unwrap()
        .unwrap();
}
