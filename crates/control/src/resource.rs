//! Rules between configuration objects: what one refers to must exist, and what is referred to cannot be deleted.
//!
//! The `…_checked` writes of [`Writes`] hold these rules. They run inside the write, where nobody else can change what
//! they look at.

use crate::document::{Document, Stored};
use crate::store::{List, Order, Store, Writes};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_model::OrganizationId;
use std::sync::Arc;
use uuid::Uuid;

/// A document that refers to others, or that others refer to.
pub trait Resource: Document {
    /// Who refers to this kind; while somebody does, it is not deleted.
    const USED_BY: &'static [Use] = &[];

    /// What must exist for this document.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// Rules over several documents; asked once the references are known to exist.
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let _ = admission;
        Ok(())
    }

    /// What messages call it; its id if this is empty.
    fn label(&self) -> String {
        let first_key = self.unique_keys().into_iter().next();
        first_key.map(|(_, value)| value).unwrap_or_default()
    }
}

/// What a document is admitted to.
#[derive(Debug)]
pub struct Admission<'a, R> {
    /// As it was before the transaction.
    pub store: &'a Store,
    pub organization: OrganizationId,
    /// What the document replaces; none for a new one.
    pub before: Option<&'a Stored<R>>,
}

/// That documents of some kind carry the ids of another under an index key.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    field: &'static str,
    find: Find,
}

/// By field and id.
type Find = fn(&Store, OrganizationId, &'static str, Uuid) -> Result<Option<User>, Fault>;

#[derive(Debug)]
struct User {
    resource: meterd_fault::Resource,
    label: String,
}

/// Documents of `R` carry the id under this index key.
pub const fn used_by<R: Resource>(field: &'static str) -> Use {
    Use {
        field,
        find: first_user::<R>,
    }
}

fn first_user<R: Resource>(
    store: &Store,
    organization: OrganizationId,
    field: &'static str,
    id: Uuid,
) -> Result<Option<User>, Fault> {
    let first = List {
        filters: &[(field, &id.to_string())],
        limit: 1,
        order: Order::OldestFirst,
        ..List::default()
    };
    let page = store.list::<R>(organization, &first)?;
    Ok(page.items.first().map(|user| User {
        resource: R::RESOURCE,
        label: label(user),
    }))
}

fn label<R: Resource>(stored: &Stored<R>) -> String {
    let label = stored.document.label();
    if label.is_empty() {
        return stored.id.to_string();
    }
    label
}

/// A member of a document that names another resource.
#[derive(Clone, Debug)]
pub struct Reference {
    pointer: String,
    value: String,
    resource: meterd_fault::Resource,
    /// The unique key that the value is of; none for an id.
    key: Option<&'static str>,
    exists: fn(&Store, OrganizationId, &Reference) -> Result<bool, Fault>,
}

/// The member at `pointer` is the id of a `D`.
pub fn refers<D: Document>(pointer: impl Into<String>, id: impl Into<String>) -> Reference {
    Reference {
        pointer: pointer.into(),
        value: id.into(),
        resource: D::RESOURCE,
        key: None,
        // What is no UUID does not exist.
        exists: |store, organization, reference| match Uuid::try_parse(&reference.value) {
            Ok(id) => Ok(store.find::<D>(organization, id)?.is_some()),
            Err(_) => Ok(false),
        },
    }
}

/// The member at `pointer` is the value that a `D` has under a unique key.
pub fn refers_by<D: Document>(
    key: &'static str,
    pointer: impl Into<String>,
    value: impl Into<String>,
) -> Reference {
    Reference {
        pointer: pointer.into(),
        value: value.into(),
        resource: D::RESOURCE,
        key: Some(key),
        exists: |store, organization, reference| {
            let key = reference.key.unwrap_or_default();
            let found = store.find_by_key::<D>(organization, key, &reference.value)?;
            Ok(found.is_some())
        },
    }
}

impl Reference {
    fn is_met(&self, store: &Store, organization: OrganizationId) -> Result<bool, Fault> {
        (self.exists)(store, organization, self)
    }
}

impl Writes<'_> {
    pub fn create_checked<R: Resource>(
        &mut self,
        organization: OrganizationId,
        document: R,
    ) -> Result<Arc<Stored<R>>, Fault> {
        check(self.store(), organization, None, &document)?;
        self.create(organization, document)
    }

    /// `expected` is the version that the caller has seen, if it said one.
    pub fn replace_checked<R: Resource>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
        document: R,
    ) -> Result<Arc<Stored<R>>, Fault> {
        let store = self.store().clone();
        self.update(organization, id, expected, |before| {
            check(&store, organization, Some(before), &document)?;
            Ok(document)
        })
    }

    pub fn delete_checked<R: Resource>(
        &mut self,
        organization: OrganizationId,
        id: Uuid,
        expected: Option<u64>,
    ) -> Result<Arc<Stored<R>>, Fault> {
        let current = self.get::<R>(organization, id)?;
        for used in R::USED_BY {
            if let Some(user) = (used.find)(self.store(), organization, used.field, id)? {
                return Err(Kind::ResourceInUse {
                    resource: R::RESOURCE,
                    id: label(&current),
                    used_by: user.resource,
                    user: user.label,
                }
                .into());
            }
        }
        self.delete(organization, id, expected)
    }
}

fn check<R: Resource>(
    store: &Store,
    organization: OrganizationId,
    before: Option<&Stored<R>>,
    document: &R,
) -> Result<(), Fault> {
    let mut problems = Vec::new();
    for reference in document.references() {
        if !reference.is_met(store, organization)? {
            let rule = Rule::UnknownReference {
                resource: reference.resource,
            };
            problems.push(Problem::body(reference.pointer, rule).with_value(&reference.value));
        }
    }
    if !problems.is_empty() {
        return Err(Kind::Invalid { problems }.into());
    }
    document.admit(&Admission {
        store,
        organization,
        before,
    })
}
