//! A client on one screen: one request per connection, every byte under the test's control.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request to be sent; built like a sentence: `post("/v1/query").key(&key).json("{}")`.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub fn request(method: &'static str, target: impl Into<String>) -> Request {
    Request {
        method,
        target: target.into(),
        headers: Vec::new(),
        body: None,
    }
}

pub fn get(target: impl Into<String>) -> Request {
    request("GET", target)
}

pub fn post(target: impl Into<String>) -> Request {
    request("POST", target)
}

pub fn put(target: impl Into<String>) -> Request {
    request("PUT", target)
}

pub fn patch(target: impl Into<String>) -> Request {
    request("PATCH", target)
}

pub fn delete(target: impl Into<String>) -> Request {
    request("DELETE", target)
}

impl Request {
    /// With a key or token of the form `Authorization: Bearer …`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.typed("application/json", body)
    }

    #[must_use]
    pub fn typed(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", media_type).body(body)
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The head as it goes over the wire, and the body.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: meter.example\r\nConnection: close\r\n",
            self.method, self.target
        );
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let body = self.body.as_deref().unwrap_or_default();
        if self.body.is_some() {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }

    pub fn send(&self, server: SocketAddr) -> Answer {
        exchange(server, &self.bytes(), self.method == "HEAD")
    }
}

/// Sends bytes as they are and reads one answer.
pub fn exchange(server: SocketAddr, bytes: &[u8], is_head: bool) -> Answer {
    let mut stream = connect(server);
    stream.write_all(bytes).unwrap();
    read_answer(&mut stream, is_head)
}

pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    // Only so that a broken server fails a test instead of hanging it.
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    stream
}

pub fn read_answer(stream: &mut TcpStream, is_head: bool) -> Answer {
    let mut bytes = Vec::new();
    let mut piece = [0; 8 * 1024];
    loop {
        if let Some(answer) = parse(&bytes, is_head) {
            return answer;
        }
        let count = stream.read(&mut piece).unwrap();
        assert!(
            count > 0,
            "the connection ended within an answer: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// A whole answer, or nothing yet.
fn parse(bytes: &[u8], is_head: bool) -> Option<Answer> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let has_body = !is_head && status != 204;
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse::<usize>().unwrap());
    let body = bytes[head_end + 4..].to_vec();
    if has_body && body.len() < length {
        return None;
    }
    Some(Answer {
        status,
        headers,
        body,
    })
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }
}
