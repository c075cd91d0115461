//! What can go wrong in meterd, and what the caller should do about it.
//!
//! [`Kind`] is the one closed catalogue. Every failure that reaches a client is one of its variants; a surface's
//! dialect turns a variant into the status, headers and body that the surface's original documents. This crate
//! knows no HTTP types and does no I/O, so every other room can speak of faults.

mod catalogue;
mod detail;
mod kind;
mod problem;
mod samples;

pub use kind::{
    Advice, Code, Entry, Kind, LimitHit, LimitScope, Period, Platform, QuotaHit, Resource, Stored,
};
pub use problem::{Format, JsonType, Location, Problem, Rule};
pub use samples::awkward_texts;

use std::fmt;

/// One failure of one request.
///
/// `kind` is what the client reads, through its surface's dialect. `context` is for the log only: it has no
/// `Display`, so that nobody sends it to a client by accident.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub kind: Box<Kind>,
    context: Option<String>,
}

impl Fault {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind: Box::new(kind),
            context: None,
        }
    }

    /// A failure of meterd itself. `context` goes to the log; the client sees a request id.
    pub fn internal(context: impl fmt::Display) -> Self {
        Self::new(Kind::Internal).with_context(context)
    }

    /// A request with one thing wrong in it.
    pub fn invalid(problem: Problem) -> Self {
        Self::new(Kind::Invalid {
            problems: vec![problem],
        })
    }

    #[must_use]
    pub fn with_context(mut self, context: impl fmt::Display) -> Self {
        self.context = Some(context.to_string());
        self
    }

    /// What the log should say and the client must not read.
    pub fn log_context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    pub fn entry(&self) -> &'static Entry {
        self.kind.entry()
    }
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

/// Text from outside, made fit to be repeated in an answer: at most 120 characters, no control characters.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut quoted: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    quoted
}
