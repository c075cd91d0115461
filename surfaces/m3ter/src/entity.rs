//! What all configuration objects have in common on the wire: create, retrieve, replace and delete (3, 4).

use crate::access::{Access, Allowed, Create, Delete, Guarded, Retrieve, Update};
use crate::app::App;
use crate::event::change_data;
use crate::list::Filter;
use crate::wire::{actor_name, micros};
use axum::extract::State;
use meterd_control::{Admission, Author, Changed, Resource, Stored};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{Date, OrganizationId};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Most of what the server looks at by itself.
const FEW_MAX: usize = 100;

/// A kind of configuration object as m3ter's API shows it. Its document is its wire form.
pub(crate) trait Entity: Resource + Guarded {
    /// Paths of the list and of one item, see [`paths`].
    const COLLECTION: &'static str;
    const ITEM: &'static str;
    /// Most items of one page.
    const PAGE_MAX: i64 = 100;
    /// What lists can be narrowed by.
    const FILTERS: &'static [Filter] = &[Filter::Ids];
    /// Its members that are dates; times of creation and change aside, which all have.
    const DATES: &'static [(&'static str, DateOf<Self>)] = &[];
    /// Where the server acts on it by itself: what the name of the mark begins with that says how far it is.
    const MARK: Option<&'static str> = None;
    /// A parameter of the path that is an index key too: an item is only found under its own.
    const SCOPE: Option<&'static str> = None;

    /// Reads the request's body; what is wrong is noted in `fields`.
    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self>;

    /// What the caller needs leave for besides creating or replacing it: for what it does by itself later.
    fn permit(&self, access: &Access) -> Result<(), Fault> {
        let _ = access;
        Ok(())
    }

    /// The short reference that lists can be narrowed by.
    fn code(&self) -> Option<&str> {
        None
    }

    /// The document as answers have it, without what only the server is to know.
    fn shown(&self) -> Self {
        self.clone()
    }

    /// Supplied by the server: no caller changes or deletes it.
    fn is_managed(&self) -> bool {
        false
    }
}

/// A date of an entity, if it has it.
pub(crate) type DateOf<E> = fn(&E) -> Option<Date>;

/// Where a body is read.
pub(crate) struct At<'a, E> {
    pub(crate) app: &'a App,
    pub(crate) organization: OrganizationId,
    pub(crate) params: &'a Params,
    pub(crate) author: Author,
    /// What the body replaces; none for a new one.
    pub(crate) before: Option<&'a Stored<E>>,
}

/// The paths of a kind below its organization.
macro_rules! paths {
    ($path:literal) => {
        const COLLECTION: &'static str = concat!("/organizations/{orgId}", $path);
        const ITEM: &'static str = concat!("/organizations/{orgId}", $path, "/{id}");
    };
}
pub(crate) use paths;

/// An entity in an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View<E> {
    id: Uuid,
    version: u64,
    dt_created: String,
    dt_last_modified: String,
    created_by: String,
    last_modified_by: String,
    #[serde(flatten)]
    document: E,
}

impl<E> View<E> {
    /// Of what is no entity: just as it is stored.
    pub(crate) fn plain(stored: &Stored<E>) -> Self
    where
        E: Clone,
    {
        Self::with(stored, stored.document.clone())
    }

    pub(crate) fn of(stored: &Stored<E>) -> Self
    where
        E: Entity,
    {
        Self::with(stored, stored.document.shown())
    }

    fn with(stored: &Stored<E>, document: E) -> Self {
        Self {
            id: stored.id,
            version: stored.version,
            dt_created: micros(stored.created_at),
            dt_last_modified: micros(stored.modified_at),
            created_by: actor_name(stored.created_by),
            last_modified_by: actor_name(stored.modified_by),
            document,
        }
    }

    /// As events and exports have it: with its organization.
    pub(crate) fn dto(stored: &Stored<E>) -> Value
    where
        E: Entity,
    {
        // Wire types are plain structs; these always serialise.
        let mut dto = serde_json::to_value(Self::of(stored)).unwrap_or_default();
        if let Some(members) = dto.as_object_mut() {
            members.insert("orgId".to_owned(), json!(stored.organization));
        }
        dto
    }
}

pub(crate) async fn create<E: Entity>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Create, E>,
    body: Parsed,
) -> Result<Reply<View<E>>, Failure> {
    let (organization, author) = (access.organization, access.author());
    let at = At {
        app: &app,
        organization,
        params: &params,
        author,
        before: None,
    };
    let document = body.read(Form::LENIENT, |fields| E::read(fields, &at))?;
    document.permit(&access)?;
    let stored = app
        .blocking(move |app| app.write(organization, &author, |writer| writer.create(document)))
        .await?;
    Ok(Reply::ok(View::of(&stored)))
}

pub(crate) async fn retrieve<E: Entity>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, E>,
) -> Result<Reply<View<E>>, Failure> {
    let stored = item::<E>(&app, access.organization, &params)?;
    Ok(Reply::ok(View::of(&stored)))
}

/// Replaces the whole entity: what the body leaves out is gone (3).
pub(crate) async fn replace<E: Entity>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, E>,
    body: Parsed,
) -> Result<Reply<View<E>>, Failure> {
    let before = item::<E>(&app, access.organization, &params)?;
    replace_stored(&app, &access, &params, &before, body).await
}

/// [`replace`], once it is known what and that the caller may.
pub(crate) async fn replace_stored<E: Entity>(
    app: &App,
    access: &Access,
    params: &Params,
    before: &Stored<E>,
    body: Parsed,
) -> Result<Reply<View<E>>, Failure> {
    let (organization, author) = (access.organization, access.author());
    refuse_managed(before)?;
    let at = At {
        app,
        organization,
        params,
        author,
        before: Some(before),
    };
    let (version, document) = body.read(Form::LENIENT, |fields| {
        let version = version_of(fields);
        let document = E::read(fields, &at);
        Some((version?, document?))
    })?;
    document.permit(access)?;
    let id = before.id;
    let stored = app
        .blocking(move |app| {
            app.write(organization, &author, |writer| {
                writer.replace(id, version, document)
            })
        })
        .await?;
    Ok(Reply::ok(View::of(&stored)))
}

/// Answers what was deleted (3).
pub(crate) async fn remove<E: Entity>(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Delete, E>,
) -> Result<Reply<View<E>>, Failure> {
    let (organization, author) = (access.organization, access.author());
    let before = item::<E>(&app, organization, &params)?;
    refuse_managed(&before)?;
    let id = before.id;
    let stored = app
        .blocking(move |app| app.write(organization, &author, |writer| writer.delete::<E>(id)))
        .await?;
    Ok(Reply::ok(View::of(&stored)))
}

/// The stored entity that the path's `id` names. A code, or anything else that is no id, names nothing (7.3).
pub(crate) fn item<E: Entity>(
    app: &App,
    organization: OrganizationId,
    params: &Params,
) -> Result<Arc<Stored<E>>, Fault> {
    let text = params.get("id");
    let found = match parse_uuid(text) {
        Some(id) => app.control.store().find::<E>(organization, id)?,
        None => None,
    };
    let is_there = |stored: &Arc<Stored<E>>| {
        E::SCOPE.is_none_or(|scope| {
            let keys = stored.document.index_keys();
            keys.contains(&(scope, params.get(scope).to_owned()))
        })
    };
    found.filter(is_there).ok_or_else(|| {
        Kind::ResourceNotFound {
            resource: E::RESOURCE,
            id: text.to_owned(),
        }
        .into()
    })
}

fn refuse_managed<E: Entity>(stored: &Stored<E>) -> Result<(), Fault> {
    if !stored.document.is_managed() {
        return Ok(());
    }
    Err(Kind::ActionNotSupported {
        resource: E::RESOURCE,
        action: "changes: the server manages it".to_owned(),
    }
    .into())
}

/// No more of a kind than the server can look at every half minute.
pub(crate) fn admit_few<E: Entity>(admission: &Admission<'_, E>) -> Result<(), Fault> {
    let count = admission.store.count::<E>(admission.organization, &[])?;
    if admission.before.is_some() || count < FEW_MAX {
        return Ok(());
    }
    let rule = Rule::Other {
        code: "too_many",
        text: format!("must not be added: an organization has at most {FEW_MAX} of them").into(),
    };
    Err(Fault::invalid(Problem::body("", rule)))
}

/// The version that an update must name (3).
pub(crate) fn version_of(fields: &mut Fields<'_>) -> Option<u64> {
    let version = fields.required_integer("version", 0, i64::MAX)?;
    u64::try_from(version).ok()
}

/// Whose events those of an entity are, which is an account or may belong to one.
pub(crate) fn account_of<'d>(word: &str, dto: &'d Value) -> Option<&'d str> {
    let member = if word == "account" { "id" } else { "accountId" };
    dto.get(member)?.as_str()
}

/// What a change event says: the entity after the change, and before it (4.10).
pub(crate) fn entity_event<E: Entity>(changed: &Changed<'_, E>) -> Value {
    let newest = View::dto(changed.newest());
    let account = account_of(E::WORD, &newest).map(str::to_owned);
    let before = changed.before().map(View::dto);
    change_data(changed.after().map(|_| newest), before, account.as_deref())
}
