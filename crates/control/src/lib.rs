//! The control plane: what is configured, who may call, how much, and what happened.
//!
//! [`Control`] opens one database and gives access to its parts: the resource [`Store`], [`Events`],
//! [`Credentials`], [`Tokens`], the [`Limiter`], [`Idempotency`], [`Files`] and the [`Signer`]. Everything on the path of a request reads memory;
//! what writes blocks until it is on the disk, so asynchronous callers use a thread for it. Time is passed in.

mod applied;
mod author;
mod credential;
mod cursor;
mod database;
mod document;
mod event;
mod files;
mod idempotency;
mod limit;
mod mark;
mod memory;
mod meter;
mod organization;
mod resource;
mod secret;
mod signature;
mod signing;
mod store;
mod token;

#[cfg(test)]
mod tests;

pub use applied::Applied;
pub use author::{Actor, ActorError, Author};
pub use credential::{
    ADDRESSES_MAX, CLIENT_ID_BYTES_MAX, CREDENTIAL_NAME_MAX, Credential, CredentialChange,
    CredentialKind, CredentialState, Credentials, Environment, Issued, KeyRules, LIMITS_MAX,
    NewCredential, NewKind, NewSecret, OVERLAP_MAX, PERMISSION_BYTES_MAX, PERMISSIONS_MAX,
    SECRETS_MAX, canonical_block,
};
pub use cursor::{Cursor, CursorError};
pub use database::OpenError;
pub use document::{Changed, Document, Documents, Stored};
pub use event::{
    Change, EVENT_DATA_BYTES_MAX, EVENT_PAGE_MAX, Event, EventFilter, EventMember, Events,
    NewEvent, ResourceRef,
};
pub use files::{FileMeta, FileWriter, Files, NewFile};
pub use idempotency::{
    ANSWER_BODY_BYTES_MAX, ANSWER_HEADERS_BYTES_MAX, ANSWER_KEPT, ANSWERS_MAX, Answer, Begin,
    IDEMPOTENCY_KEY_BYTES_MAX, IN_PROGRESS_MAX, Idempotency, InProgress,
};
pub use limit::{
    Algorithm, Allowance, Decision, KEYS_MAX, LIMIT_MAX, LIMIT_NAME_BYTES_MAX, LIMIT_WINDOW_MAX,
    LOG_TIMES_MAX, LimitPolicy, Limiter, SLIDING_LIMIT_MAX, WindowStart,
};
pub use meter::{Meter, RETENTION_DAYS_MAX};
pub use organization::{DISPLAY_NAME_MAX, ORGANIZATION_NAME_MAX, Organization};
pub use resource::{Admission, Reference, Resource, Use, refers, refers_by, used_by};
pub use secret::{IMPORTED_SECRET_CHARS_MIN, SECRET_BYTES_MAX, Secret, SecretAlphabet, SecretForm};
pub use signature::Signer;
pub use store::{
    CHANGES_MAX, DOCUMENT_BYTES_MAX, KEYS_MAX as DOCUMENT_KEYS_MAX, List, Order, PAGE_MAX, Page,
    SERVER, Store, Writes, is_full,
};
pub use token::{IssuedToken, TOKEN_BYTES_MAX, Tokens};

use database::{Database, ReadOnly, doing};
use event::EventsKept;
use memory::Held;
use meterd_fault::Fault;
use std::path::Path;
use std::sync::Arc;

/// Most problems that one verification lists.
const PROBLEMS_MAX: usize = 100;

/// What the control plane is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The document types of all surfaces. Organizations, meters and credentials are known without being listed.
    pub documents: Documents,
    /// Changes of resources (the audit trail) kept per organization; the oldest give way.
    pub change_events_max: u64,
    /// Other events kept per organization, such as rejected ingest; the oldest give way.
    pub other_events_max: u64,
    /// Resources of all kinds per organization, and organizations on the server. All are held in memory.
    pub resources_max: usize,
    /// Bytes of their documents as JSON, per organization.
    pub resource_bytes_max: usize,
    /// Keys that the limiter keeps in memory.
    pub limiter_keys_max: usize,
    /// Bytes of all files of one organization.
    pub files_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            documents: Documents::new(),
            change_events_max: 100_000,
            other_events_max: 100_000,
            resources_max: 500_000,
            resource_bytes_max: 512 * 1024 * 1024,
            limiter_keys_max: KEYS_MAX,
            files_bytes_max: 20 * 1024 * 1024 * 1024,
        }
    }
}

/// The open control plane. Cheap to clone. Only one process can have a database open.
#[derive(Clone, Debug)]
pub struct Control {
    database: Arc<Database>,
    store: Store,
    events: Events,
    credentials: Credentials,
    tokens: Tokens,
    limits: Limiter,
    idempotency: Idempotency,
    files: Files,
    signer: Signer,
}

impl Control {
    /// Opens or creates the database and reads all resources into memory.
    pub fn open(path: impl AsRef<Path>, settings: Settings) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let database = Arc::new(Database::open(path)?);
        let events = Events::new(
            Arc::clone(&database),
            EventsKept {
                changes_max: settings.change_events_max.max(1),
                others_max: settings.other_events_max.max(1),
            },
        );
        let documents = known_types(settings.documents);
        let store = Store::open(
            Arc::clone(&database),
            events.clone(),
            &documents,
            Held {
                resources: settings.resources_max,
                bytes: settings.resource_bytes_max,
            },
        )?;
        let credentials = Credentials::open(store.clone());
        let tokens = Tokens::open(&database, credentials.clone())?;
        Ok(Self {
            limits: Limiter::new(Arc::clone(&database), settings.limiter_keys_max),
            idempotency: Idempotency::new(Arc::clone(&database)),
            files: Files::open(Arc::clone(&database), settings.files_bytes_max)?,
            signer: Signer::open(&database)?,
            database,
            store,
            events,
            credentials,
            tokens,
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn events(&self) -> &Events {
        &self.events
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn limits(&self) -> &Limiter {
        &self.limits
    }

    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// Reads and checks the whole database. A damaged one is a report with problems, not a fault.
    pub fn verify(&self) -> Result<Verification, Fault> {
        self.database.read(|sql| {
            Verification::of(sql, &self.store.types()).map_err(doing("verify the database"))
        })
    }

    /// As [`Self::verify`], of a database that nobody has open: nothing is loaded, migrated or written, so that a
    /// document that would stop the opening is one problem among all.
    pub fn verify_file(
        path: impl AsRef<Path>,
        settings: &Settings,
    ) -> Result<Verification, OpenError> {
        let path = path.as_ref();
        let database = ReadOnly::open(path)?;
        let unreadable = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let damaged = |error: &rusqlite::Error| Verification {
            resources: 0,
            problems: vec![format!("the database cannot be read: {error}")],
        };
        let schema = match database.schema() {
            Err(error) if database::is_damage(&error) => return Ok(damaged(&error)),
            schema => schema.map_err(unreadable)?,
        };
        let known = database::known_schema();
        if schema > known {
            return Err(OpenError::NewerSchema {
                path: path.to_owned(),
                found: schema,
                known,
            });
        }
        if schema == 0 {
            return Ok(Verification {
                resources: 0,
                problems: vec!["the database is empty".to_owned()],
            });
        }
        match Verification::of(
            &database.connection,
            &known_types(settings.documents.clone()),
        ) {
            Err(error) if database::is_damage(&error) => Ok(damaged(&error)),
            done => done.map_err(unreadable),
        }
    }

    /// Copies the database to a new file while it is in use.
    pub fn backup_to(&self, target: impl AsRef<Path>) -> Result<(), Fault> {
        self.database.backup_to(target.as_ref())
    }
}

/// The documents of the surfaces and those that every control plane has.
fn known_types(surfaces: Documents) -> Documents {
    surfaces
        .with::<Organization>()
        .with::<Meter>()
        .with::<credential::CredentialDocument>()
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Resources that were read.
    pub resources: u64,
    /// One line each; at most 100.
    pub problems: Vec<String>,
}

impl Verification {
    fn of(sql: &rusqlite::Connection, documents: &Documents) -> Result<Self, rusqlite::Error> {
        let mut problems = database::integrity(sql)?;
        let (resources, wrong) = store::check(sql, &documents.types, PROBLEMS_MAX)?;
        problems.extend(wrong);
        problems.truncate(PROBLEMS_MAX);
        Ok(Self {
            resources,
            problems,
        })
    }

    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}
