//! What all configuration objects have in common on the wire: create, retrieve, replace, list and delete (3, 4).

use crate::access::{Access, Allowed, Create, Delete, Guarded, Retrieve, Seen, Update};
use crate::app::App;
use crate::event::change_data;
use crate::wire::{actor_name, micros, one_spelling, word};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{Admission, Author, Changed, Cursor, Document, List, Resource, Store, Stored};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{Date, OrganizationId};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Items of a page when the caller asks for no number (9, 5).
const PAGE_DEFAULT: i64 = 100;
/// Most of what the server looks at by itself.
const FEW_MAX: usize = 100;
/// Most values of one filter: more than fit into an address.
const FILTER_VALUES_MAX: usize = 1_000;

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

/// A query parameter that narrows a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// `ids`: any of these.
    Ids,
    /// `codes`: any of these.
    Codes,
    /// Any of the parameter's values under an index key.
    AnyOf {
        parameter: &'static str,
        index: &'static str,
    },
    /// Any of what the parameter's values lead to, under an index key.
    Through {
        parameter: &'static str,
        index: &'static str,
        lead: Lead,
    },
    /// The parameter's value under an index key.
    Equal {
        parameter: &'static str,
        index: &'static str,
    },
    /// One of these words under the index key of the parameter's name.
    Word {
        parameter: &'static str,
        words: &'static [&'static str],
    },
}

/// From the values of a parameter to those of an index key.
pub(crate) type Lead = fn(&Store, OrganizationId, &[String]) -> Result<Vec<String>, Fault>;

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

/// One page of a list. Without `nextToken` it is the last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_token: Option<String>,
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

pub(crate) async fn list<E: Entity>(
    State(app): State<App>,
    params: Params,
    seen: Seen<E>,
    uri: Uri,
) -> Result<Response, Failure> {
    let mut query = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        Some(ListQuery::read::<E>(fields))
    })?;
    let scope = E::SCOPE.map(|scope| (scope, params.get(scope).to_owned()));
    query.equal.extend(scope);
    let page = page_of::<E>(&app, seen.access.organization, &query, |stored| {
        seen.sees(stored.id)
    })?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
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

/// What a list request asks for.
#[derive(Debug, Default)]
pub(crate) struct ListQuery {
    page_size: usize,
    cursor: Option<Cursor>,
    ids: Option<Vec<Uuid>>,
    codes: Option<Vec<String>>,
    any_of: Option<(&'static str, Vec<String>)>,
    /// How the values of `any_of` lead to those of the index key, if they are not themselves it.
    lead: Option<Lead>,
    equal: Vec<(&'static str, String)>,
}

impl ListQuery {
    /// All that carry a value under an index key.
    pub(crate) fn equal(page: (usize, Option<Cursor>), index: &'static str, value: String) -> Self {
        let (page_size, cursor) = page;
        Self {
            page_size,
            cursor,
            equal: vec![(index, value)],
            ..Self::default()
        }
    }

    pub(crate) fn read<E: Entity>(fields: &mut Fields<'_>) -> Self {
        let (page_size, cursor) = read_page(fields, E::PAGE_MAX);
        let mut query = Self {
            page_size,
            cursor,
            ..Self::default()
        };
        for filter in E::FILTERS {
            match filter {
                Filter::Ids => {
                    let ids = fields.list("ids", FILTER_VALUES_MAX);
                    query.ids = ids.map(|ids| ids.iter().filter_map(|id| parse_uuid(id)).collect());
                }
                Filter::Codes => query.codes = fields.list("codes", FILTER_VALUES_MAX),
                Filter::AnyOf { parameter, index } => {
                    let values = fields.list(parameter, FILTER_VALUES_MAX);
                    let values = values.map(|ids| ids.into_iter().map(one_spelling).collect());
                    query.any_of = values.map(|values| (*index, values));
                }
                Filter::Through {
                    parameter,
                    index,
                    lead,
                } => {
                    let values = fields.list(parameter, FILTER_VALUES_MAX);
                    let values = values.map(|ids| ids.into_iter().map(one_spelling).collect());
                    query.any_of = values.map(|values| (*index, values));
                    query.lead = Some(*lead);
                }
                Filter::Equal { parameter, index } => {
                    let value = fields.string(parameter).map(one_spelling);
                    query.equal.extend(value.map(|value| (*index, value)));
                }
                Filter::Word { parameter, words } => {
                    let value = word(fields, parameter, words);
                    query.equal.extend(value.map(|value| (*parameter, value)));
                }
            }
        }
        query
    }

    /// What says no more than which page.
    pub(crate) fn of_page(uri: &Uri, page_max: i64) -> Result<Self, Fault> {
        read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
            let (page_size, cursor) = read_page(fields, page_max);
            Some(Self {
                page_size,
                cursor,
                ..Self::default()
            })
        })
    }

    /// The page alone.
    pub(crate) fn list(&self) -> List<'static> {
        List {
            cursor: self.cursor,
            limit: self.page_size,
            ..List::default()
        }
    }

    /// The only ones that can be meant, if the list is of ids or codes: looked up, so that they need not be looked for.
    fn named<E: Entity>(
        &self,
        store: &Store,
        organization: OrganizationId,
    ) -> Result<Option<Vec<Uuid>>, Fault> {
        let Some(codes) = &self.codes else {
            return Ok(self.ids.clone());
        };
        let mut found = Vec::new();
        for code in codes {
            let stored = store.find_by_key::<E>(organization, "code", code)?;
            found.extend(stored.map(|stored| stored.id));
        }
        Ok(Some(found))
    }

    fn admits<E: Entity>(&self, stored: &Stored<E>) -> bool {
        let by_id = self.ids.as_ref().is_none_or(|ids| ids.contains(&stored.id));
        let by_code = self.codes.as_ref().is_none_or(|codes| {
            stored
                .document
                .code()
                .is_some_and(|code| codes.iter().any(|wanted| wanted == code))
        });
        by_id && by_code
    }
}

/// `pageSize` and `nextToken` (3).
pub(crate) fn read_page(fields: &mut Fields<'_>, page_max: i64) -> (usize, Option<Cursor>) {
    let size = read_page_size(fields, page_max);
    let token = fields.string("nextToken").filter(|token| !token.is_empty());
    let cursor = token.and_then(|token| {
        let cursor = Cursor::parse(&token).ok();
        if cursor.is_none() {
            fields.refuse(
                "nextToken",
                Rule::Other {
                    code: "cursor",
                    text: "must be the nextToken of an earlier answer".into(),
                },
            );
        }
        cursor
    });
    (size, cursor)
}

/// `pageSize` alone, for lists whose tokens are of their own.
pub(crate) fn read_page_size(fields: &mut Fields<'_>, page_max: i64) -> usize {
    let size = fields.integer("pageSize", 1, page_max);
    usize::try_from(size.unwrap_or(PAGE_DEFAULT.min(page_max))).unwrap_or(1)
}

/// A page of what matches and the caller sees, newest first.
pub(crate) fn page_of<E: Entity>(
    app: &App,
    organization: OrganizationId,
    query: &ListQuery,
    sees: impl Fn(&Stored<E>) -> bool,
) -> Result<Page<View<E>>, Fault> {
    let filters: Vec<_> = query
        .equal
        .iter()
        .map(|(index, value)| (*index, value.as_str()))
        .collect();
    let store = app.control.store();
    let mut any_of = query.any_of.clone();
    if let (Some((_, values)), Some(lead)) = (&mut any_of, query.lead) {
        *values = lead(store, organization, values)?;
    }
    let ids = query.named::<E>(store, organization)?;
    let list = List {
        ids: ids.as_deref(),
        filters: &filters,
        any_of: any_of
            .as_ref()
            .map(|(index, values)| (*index, values.as_slice())),
        ..query.list()
    };
    let found = store.list_where::<E>(organization, &list, |stored| {
        query.admits(stored) && sees(stored)
    })?;
    Ok(Page {
        data: found.items.iter().map(|stored| View::of(stored)).collect(),
        next_token: found.next.map(|cursor| cursor.to_string()),
    })
}

/// All that match and pass `keep`, where a page is not enough. `keep` may not use the store.
pub(crate) fn every<D: Document>(
    store: &Store,
    organization: OrganizationId,
    mut list: List<'_>,
    keep: impl Fn(&Stored<D>) -> bool,
) -> Result<Vec<Arc<Stored<D>>>, Fault> {
    let mut found = Vec::new();
    loop {
        let page = store.list_where(organization, &list, &keep)?;
        found.extend(page.items);
        match page.next {
            Some(next) => list.cursor = Some(next),
            None => return Ok(found),
        }
    }
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
