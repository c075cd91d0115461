//! Storage that is full, fails, or is closed already.

use super::{Case, Group, case};
use crate::ingest::{TIME, row};
use crate::server::{Options, Server};
use meterd_engine::testing::{Operation, SimulatedDisk};
use meterd_fault::Code;
use meterd_testkit::client::{Request, post};
use serde_json::json;

pub(super) const FULL: Group = Group {
    name: "full",
    start: || {
        let disk = SimulatedDisk::new();
        let server = on(&disk);
        disk.set_space(Some(0));
        server
    },
    cases: || submitting(Code::StorageFull),
    keeps_contents: true,
};

pub(super) const UNAVAILABLE: Group = Group {
    name: "unavailable",
    start: || {
        let disk = SimulatedDisk::new();
        let server = on(&disk);
        disk.fail(Operation::Sync, 1);
        server
    },
    cases: || submitting(Code::StorageUnavailable),
    // Whether it is stored is what nobody knows.
    keeps_contents: false,
};

pub(super) const CLOSED: Group = Group {
    name: "closed",
    start: || {
        let (server, _) = Server::with_storage();
        server.engine.close();
        server
    },
    cases: || submitting(Code::ShuttingDown),
    keeps_contents: true,
};

fn on(disk: &SimulatedDisk) -> Server {
    let mut options = Options::default();
    options.general.disk = Some(disk.clone());
    Server::with_storage_and(options).0
}

fn submitting(code: Code) -> Vec<Case> {
    vec![case("a measurement", code, measurement)]
}

fn measurement(server: &Server) -> Request {
    let rows = [row("a", "acme", TIME, "1", "eu")];
    let body = json!({"measurements": rows});
    post(server.path("/measurements")).json(body.to_string())
}

/// What a client does with a 500: it sends the same again.
#[test]
fn a_repeat_settles_what_was_not_confirmed() {
    let disk = SimulatedDisk::new();
    let server = on(&disk);
    let send = || server.send(&measurement(&server).key(&server.acme.admin.token));
    disk.set_space(Some(0));
    assert_eq!(send().status, 500);
    assert!(server.stored().is_empty());
    disk.set_space(None);
    disk.fail(Operation::Sync, 1);
    assert_eq!(send().status, 500);
    // Whatever became of it, it counts once.
    assert_eq!(send().status, 200);
    assert_eq!(server.stored().len(), 1);
}
