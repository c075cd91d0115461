//! The parts together, on a database in a folder of its own.

mod access;
mod control;
mod files;
mod idempotency;
mod resource;
mod store;

use crate::{Author, Control, Document, Documents, Organization, Settings};
use meterd_fault::{Code, Fault, Resource};
use meterd_model::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A believable document: unique name, a status to list by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Device {
    name: String,
    status: String,
    count: u64,
}

impl Document for Device {
    const KIND: &'static str = "device";
    const RESOURCE: Resource = Resource::Device;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status", self.status.clone()),
            ("parity", (self.count % 2).to_string()),
        ]
    }
}

fn device(name: &str) -> Device {
    Device {
        name: name.to_owned(),
        status: "on".to_owned(),
        count: 0,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds).unwrap()
}

fn author() -> Author {
    Author::system(at(0))
}

fn settings() -> Settings {
    Settings {
        documents: Documents::new().with::<Device>(),
        ..Settings::default()
    }
}

struct Fixture {
    folder: tempfile::TempDir,
    control: Control,
}

impl Fixture {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::open(folder.path().join("control.db"), settings).unwrap();
        Self { folder, control }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.db")
    }

    /// As after a crash: the process ends without closing, so what counts is on the disk.
    fn reopened(self) -> Self {
        self.reopened_with(settings())
    }

    fn reopened_with(self, settings: Settings) -> Self {
        let crashed = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("control.db{suffix}");
            std::fs::copy(self.folder.path().join(&name), crashed.path().join(&name)).unwrap();
        }
        let control = Control::open(crashed.path().join("control.db"), settings).unwrap();
        Self {
            folder: crashed,
            control,
        }
    }

    fn organization(&self, name: &str) -> OrganizationId {
        let organization = Organization::named(name);
        let stored = self
            .control
            .store()
            .create_organization(organization, &author());
        stored.unwrap().organization_id()
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> Code {
    Code::from(result.unwrap_err().kind.as_ref())
}
