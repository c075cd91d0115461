//! What a configuration object must say of itself to be kept in the resource store.

use crate::author::Actor;
use meterd_fault::Resource;
use meterd_model::{OrganizationId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::any::Any;
use std::sync::Arc;
use uuid::Uuid;

/// A kind of configuration object.
///
/// Two documents of one kind and organization never share the value of a unique key. Index keys are what lists can
/// be filtered by. Keys must follow from the document alone.
pub trait Document: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Stable name in the database and in event types, e.g. `meter`.
    const KIND: &'static str;
    const RESOURCE: Resource;
    /// What its change events are called: this, then `.created`, `.updated` or `.deleted`.
    const EVENT: &'static str = Self::KIND;
    /// Version of the document's form. Raise it together with [`Document::upgrade`].
    const SCHEMA: u32 = 1;

    /// Rewrites a document of an older form, at opening.
    fn upgrade(from: u32, value: Value) -> Result<Value, String> {
        let _ = from;
        Ok(value)
    }

    /// Field and value; the field is what a client calls it, since faults name it.
    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What a change event says besides the resource's id; no secrets.
    fn event_data(changed: &Changed<'_, Self>) -> Value {
        let keys = changed.newest().document.unique_keys().into_iter();
        Value::Object(
            keys.map(|(k, v)| (k.to_owned(), v.into()))
                .collect::<Map<_, _>>(),
        )
    }
}

/// Both sides of a change.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a, D> {
    Created(&'a Stored<D>),
    Updated {
        before: &'a Stored<D>,
        after: &'a Stored<D>,
    },
    Deleted(&'a Stored<D>),
}

impl<'a, D> Changed<'a, D> {
    /// The resource after the change, or as it was deleted.
    pub fn newest(&self) -> &'a Stored<D> {
        match self {
            Self::Created(stored) | Self::Updated { after: stored, .. } | Self::Deleted(stored) => {
                stored
            }
        }
    }

    pub fn before(&self) -> Option<&'a Stored<D>> {
        match self {
            Self::Created(_) => None,
            Self::Updated { before, .. } | Self::Deleted(before) => Some(before),
        }
    }

    pub fn after(&self) -> Option<&'a Stored<D>> {
        match self {
            Self::Created(after) | Self::Updated { after, .. } => Some(after),
            Self::Deleted(_) => None,
        }
    }

    /// The last word of the event's type.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Updated { .. } => "updated",
            Self::Deleted(_) => "deleted",
        }
    }
}

/// A document with what the store knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<D> {
    /// UUID v7; later creations sort after earlier ones.
    pub id: Uuid,
    pub organization: OrganizationId,
    /// 1 after creation, one more with each update.
    pub version: u64,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub modified_at: Timestamp,
    pub modified_by: Actor,
    pub document: D,
}

/// The document types that a control plane knows. Every type that is stored must be listed before opening.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    pub(crate) types: Vec<DocumentType>,
}

impl Documents {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with<D: Document>(mut self) -> Self {
        self.types.push(DocumentType {
            kind: D::KIND,
            schema: D::SCHEMA,
            load: load::<D>,
        });
        self
    }

    /// The types of both; for a server that gathers what its surfaces list.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.types.extend(others.types);
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentType {
    pub(crate) kind: &'static str,
    pub(crate) schema: u32,
    pub(crate) load: fn(&Row) -> Result<Loaded, String>,
}

/// A resource as its row has it.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) organization: OrganizationId,
    pub(crate) version: u64,
    pub(crate) schema: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: Actor,
    pub(crate) modified_at: Timestamp,
    pub(crate) modified_by: Actor,
    pub(crate) document: String,
}

/// A resource as memory has it, its type forgotten.
pub(crate) struct Put {
    pub(crate) kind: &'static str,
    pub(crate) id: Uuid,
    pub(crate) organization: OrganizationId,
    pub(crate) unique: Keys,
    pub(crate) index: Keys,
    /// Of the document as JSON.
    pub(crate) bytes: usize,
    pub(crate) stored: Arc<dyn Any + Send + Sync>,
}

pub(crate) type Keys = Vec<(&'static str, String)>;

pub(crate) struct Loaded {
    pub(crate) put: Put,
    /// The document in its present form, if the row has an older one.
    pub(crate) upgraded: Option<String>,
}

pub(crate) fn parse<D: Document>(row: &Row) -> Result<(Stored<D>, bool), String> {
    let is_old = row.schema < D::SCHEMA;
    let document: D = if is_old {
        let value = serde_json::from_str(&row.document).map_err(|e| e.to_string())?;
        let value = D::upgrade(row.schema, value)?;
        serde_json::from_value(value).map_err(|e| e.to_string())?
    } else {
        serde_json::from_str(&row.document).map_err(|e| e.to_string())?
    };
    let stored = Stored {
        id: row.id,
        organization: row.organization,
        version: row.version,
        created_at: row.created_at,
        created_by: row.created_by,
        modified_at: row.modified_at,
        modified_by: row.modified_by,
        document,
    };
    Ok((stored, is_old))
}

pub(crate) fn put<D: Document>(stored: Arc<Stored<D>>, bytes: usize) -> Put {
    Put {
        kind: D::KIND,
        id: stored.id,
        organization: stored.organization,
        unique: distinct(stored.document.unique_keys()),
        index: distinct(stored.document.index_keys()),
        bytes,
        stored,
    }
}

fn load<D: Document>(row: &Row) -> Result<Loaded, String> {
    let (stored, is_old) = parse::<D>(row)?;
    let upgraded = if is_old {
        Some(serde_json::to_string(&stored.document).map_err(|e| e.to_string())?)
    } else {
        None
    };
    let bytes = upgraded.as_ref().unwrap_or(&row.document).len();
    Ok(Loaded {
        put: put(Arc::new(stored), bytes),
        upgraded,
    })
}

/// A document may name a key twice, say one tag given twice; it counts once.
fn distinct(mut keys: Keys) -> Keys {
    keys.sort_unstable();
    keys.dedup();
    keys
}
