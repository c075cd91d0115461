//! Every fault of the catalogue that a surface can answer with, provoked over HTTP, and its whole answer.
//!
//! The cases are tables. Each says which fault it provokes; what the answer looks like is pinned. A failed request leaves
//! everything as it was.

use crate::client::{Answer, Request};
use crate::pinned::Pins;
use meterd_fault::{Code, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// A server of a surface whose faults are provoked.
pub trait Provoked {
    /// The answers on file of the group of this name.
    fn pins(group: &str) -> Pins;

    fn send(&self, request: &Request) -> Answer;

    /// The codes that an answer, which has just come, stands for: as a whole, or of its items.
    fn codes_in(&self, answer: &Answer) -> Vec<String>;

    /// What a request could have changed.
    fn contents(&self) -> Value;
}

/// One way to provoke one fault.
#[expect(
    missing_debug_implementations,
    reason = "a closure has nothing to show"
)]
pub struct Case<S> {
    pub name: String,
    pub code: Code,
    pub send: Box<dyn Fn(&S) -> Answer>,
}

impl<S: Provoked> Case<S> {
    pub fn new(
        name: impl Into<String>,
        code: Code,
        request: impl Fn(&S) -> Request + 'static,
    ) -> Self {
        Self::exchange(name, code, move |server| server.send(&request(server)))
    }

    /// A case that takes more than one request.
    pub fn exchange(
        name: impl Into<String>,
        code: Code,
        send: impl Fn(&S) -> Answer + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            code,
            send: Box::new(send),
        }
    }
}

/// Cases that share a server.
#[derive(Debug)]
pub struct Group<S> {
    pub name: &'static str,
    pub start: fn() -> S,
    pub cases: fn() -> Vec<Case<S>>,
    /// Whether the server can be asked what it holds, and a failed request surely leaves it so.
    pub keeps_contents: bool,
}

impl<S: Provoked> Group<S> {
    pub fn check(&self) {
        let server = (self.start)();
        let before = self.keeps_contents.then(|| server.contents());
        let mut pins = S::pins(self.name);
        for case in (self.cases)() {
            let answer = (case.send)(&server);
            let (code, name) = (case.code.entry().code, &case.name);
            assert!(
                server.codes_in(&answer).iter().any(|seen| seen == code),
                "{name}: {code} was to be provoked, but the answer is {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            if let Some(before) = &before {
                assert_eq!(server.contents(), *before, "after {name}");
            }
            pins.check(name, &answer);
        }
        pins.finish();
    }
}

/// Fails unless every code of the catalogue is provoked, or is one that no request here can end in, with the reason.
#[track_caller]
pub fn check_complete<S>(groups: &[Group<S>], not_here: &[(Code, &str)]) {
    let mut places: BTreeMap<Code, String> = BTreeMap::new();
    for group in groups {
        for case in (group.cases)() {
            places.insert(case.code, format!("{}/{}", group.name, case.name));
        }
    }
    for (code, reason) in not_here {
        let provoked = places.insert(*code, (*reason).to_owned());
        assert_eq!(provoked, None, "{reason}");
    }
    let codes = Kind::samples().map(|kind| Code::from(&kind));
    let missing: Vec<_> = codes.filter(|code| !places.contains_key(code)).collect();
    assert_eq!(missing, []);
}

/// A test of each group, and `GROUPS`, which has them all: `fault_groups! { Server: requests: requests::GROUP; … }`.
#[macro_export]
macro_rules! fault_groups {
    ($server:ty: $($test:ident: $group:expr;)+) => {
        const GROUPS: &[$crate::faults::Group<$server>] = &[$($group),+];

        $(
            #[test]
            fn $test() {
                $group.check();
            }
        )+
    };
}
