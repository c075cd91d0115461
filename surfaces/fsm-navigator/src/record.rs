//! What all resources have in common: integer ids, and create, retrieve, list and change (3, 4).

use crate::access::{Access, Scope, space};
use crate::app::App;
use crate::envelope::{Many, One};
use crate::page::{Filters, PageAsked, QUERY};
use crate::settings::FsmNavigatorSettings;
use crate::wire::{Moment, refused};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use meterd_control::{
    List, NewEvent, Order, Reference, Resource, ResourceRef, Store, Stored, Writes, refers_by,
};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form};
use meterd_http::{AnyJson, Context, Failure, LongWork, Params, Parsed, Reply};
use meterd_model::{OrganizationId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// A resource with an integer id, counted from 1 in each data set.
pub(crate) trait Record: Resource + PartialEq {
    /// What its id is called, in answers and as its unique key.
    const ID: &'static str;
    /// The parameter of the path that is its id.
    const PARAM: &'static str = "id";
    /// An index key that is the path's `id`, for what is found only below that.
    const BELOW: Option<&'static str> = None;

    fn number(&self) -> u64;

    fn set_number(&mut self, number: u64);

    /// Gives a new one the next number of its kind.
    fn take_number(&mut self, writes: &mut Writes<'_>, space: OrganizationId) -> Result<(), Fault> {
        self.set_number(writes.next_number(space, Self::KIND)?);
        Ok(())
    }

    /// What happens in the same transaction as a change.
    fn follow(
        writes: &mut Writes<'_>,
        before: Option<&Stored<Self>>,
        after: &Stored<Self>,
    ) -> Result<(), Fault> {
        let (_, _, _) = (writes, before, after);
        Ok(())
    }

    /// The unique key that every record has.
    fn id_key(&self) -> (&'static str, String) {
        (Self::ID, self.number().to_string())
    }
}

/// The member at `pointer` is the id of an `R`.
pub(crate) fn names<R: Record>(pointer: impl Into<String>, number: u64) -> Reference {
    refers_by::<R>(R::ID, pointer, number.to_string())
}

/// A record that the API shows.
pub(crate) trait Shown: Record {
    type Read: Scope;
    type View: Serialize + Send;
    /// What an answer calls one of them.
    const ONE: &'static str;

    fn view(stored: &Stored<Self>, look: &Look<'_>) -> Result<Self::View, Fault>;

    /// As it is shown alone.
    fn view_alone(stored: &Stored<Self>, app: &App) -> Result<Self::View, Fault> {
        Self::view(stored, &app.look(stored.organization))
    }
}

/// A record that the API lists.
pub(crate) trait Listed: Shown {
    /// What the query narrows the list by; what is wrong is noted in `fields`.
    fn filters(fields: &mut Fields<'_>, look: &Look<'_>) -> Result<Filters<Self>, Fault>;
}

/// A record that the API makes and changes.
pub(crate) trait Editable: Shown {
    type Write: Scope;

    /// Reads a body, for a new one or for one that it changes; what is wrong is noted in `fields`.
    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self>;

    /// Fills in what other records say of one that was read.
    fn complete(&mut self, at: &At<'_, Self>) -> Result<(), Fault> {
        let _ = at;
        Ok(())
    }
}

/// A record in an answer: its document, its id by both names, what is joined to it, and when it was made and changed.
#[derive(Debug, Serialize)]
pub(crate) struct View<D, J = Nothing> {
    id: u64,
    #[serde(flatten)]
    document: D,
    #[serde(flatten)]
    joined: J,
    created_at: Moment,
    updated_at: Moment,
}

/// What is joined to a record that stands for itself.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {}

impl<D, J> View<D, J> {
    /// `document` is that of the record, or what of it is shown.
    pub(crate) fn of<R: Record>(stored: &Stored<R>, document: D, joined: J) -> Self {
        Self {
            id: stored.document.number(),
            document,
            joined,
            created_at: Moment::of(stored.created_at),
            updated_at: Moment::of(stored.modified_at),
        }
    }
}

/// Where a body is read.
pub(crate) struct At<'a, R> {
    pub(crate) look: Look<'a>,
    pub(crate) settings: &'a FsmNavigatorSettings,
    pub(crate) now: Timestamp,
    /// The path's ids.
    pub(crate) params: &'a Params,
    /// What the body changes; none for a new one.
    pub(crate) before: Option<&'a R>,
}

impl<R> At<'_, R> {
    /// The id of what the path's record is below.
    pub(crate) fn above(&self) -> u64 {
        parse_id(self.params.get("id")).unwrap_or_default()
    }
}

/// Most records that another one is shown with; how many there are is told beside them.
pub(crate) const SHOWN_WITH_MAX: usize = 1_000;

/// One data set, to look things up in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) store: &'a Store,
    pub(crate) space: OrganizationId,
}

impl<'a> Look<'a> {
    pub(crate) fn of(store: &'a Store, space: OrganizationId) -> Self {
        Self { store, space }
    }

    pub(crate) fn find<R: Record>(&self, number: u64) -> Result<Option<Arc<Stored<R>>>, Fault> {
        self.store
            .find_by_key::<R>(self.space, R::ID, &number.to_string())
    }

    /// What a member of a body names, which must be there.
    pub(crate) fn named<R: Record>(
        &self,
        member: &str,
        number: u64,
    ) -> Result<Arc<Stored<R>>, Fault> {
        self.find(number)?.ok_or_else(|| unknown::<R>(member))
    }

    /// All that carry these values under index keys, the oldest first.
    pub(crate) fn every<R: Record>(
        &self,
        filters: &[(&str, &str)],
    ) -> Result<Vec<Arc<Stored<R>>>, Fault> {
        let mut list = List {
            filters,
            order: Order::OldestFirst,
            ..List::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.store.list::<R>(self.space, &list)?;
            all.extend(page.items);
            match page.next {
                Some(next) => list.cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// [`Self::find`] of something that need not be named.
    pub(crate) fn find_some<R: Record>(
        &self,
        number: Option<u64>,
    ) -> Result<Option<Arc<Stored<R>>>, Fault> {
        number.map_or(Ok(None), |number| self.find(number))
    }
}

/// That a member names no `R`.
pub(crate) fn unknown<R: Record>(member: &str) -> Fault {
    let resource = R::RESOURCE;
    refused(member, Rule::UnknownReference { resource })
}

/// The record that the path names; without it the request ends here.
#[derive(Debug)]
pub(crate) struct Found<R>(pub(crate) Arc<Stored<R>>);

impl<R: Record> FromRequestParts<App> for Found<R> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let context = Context::from_request_parts(parts, app).await?;
        let params = Params::from_request_parts(parts, app).await?;
        let look = app.look(space(&context)?);
        let text = params.get(R::PARAM);
        let changes = matches!(parts.method, Method::PUT | Method::PATCH);
        if changes && params.get("id").trim().is_empty() {
            return Err(Fault::invalid(Problem::query("id", Rule::Required)).into());
        }
        let number = parse_id(text);
        let found = look.find_some::<R>(number)?.filter(|stored| {
            R::BELOW.is_none_or(|index| {
                let above = parse_id(params.get("id")).unwrap_or_default();
                let keys = stored.document.index_keys();
                keys.contains(&(index, above.to_string()))
            })
        });
        found.map(Self).ok_or_else(|| {
            Kind::ResourceNotFound {
                resource: R::RESOURCE,
                id: meterd_fault::quote(text),
            }
            .into()
        })
    }
}

/// What is no positive integer is no id.
fn parse_id(text: &str) -> Option<u64> {
    let is_id = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| is_id && *id > 0)
}

impl App {
    pub(crate) fn look(&self, space: OrganizationId) -> Look<'_> {
        Look::of(self.control.store(), space)
    }
}

pub(crate) async fn retrieve<R: Shown>(
    State(app): State<App>,
    access: Access<R::Read>,
    Found(found): Found<R>,
) -> Result<Reply<One<R::View>>, Failure> {
    let view = R::view_alone(&found, &app)?;
    Ok(Reply::ok(One::of(&access.context, R::ONE, view)))
}

pub(crate) async fn list<R: Listed>(
    State(app): State<App>,
    access: Access<R::Read>,
    uri: Uri,
) -> Result<Reply<Many<R::View>>, Failure> {
    list_with(&app, &access, &uri, R::filters).await
}

/// [`list`], narrowed by more than the query.
pub(crate) async fn list_with<R: Shown>(
    app: &App,
    access: &Access<R::Read>,
    uri: &Uri,
    filters: impl FnOnce(&mut Fields<'_>, &Look<'_>) -> Result<Filters<R>, Fault> + Send + 'static,
) -> Result<Reply<Many<R::View>>, Failure> {
    let (space, query) = (access.space, uri.query().unwrap_or("").to_owned());
    let (views, page, total) = access
        .query(app, move |app, _| {
            let look = app.look(space);
            let (page, filters) = read_query(&query, QUERY, |fields| {
                Some((PageAsked::read(fields), filters(fields, &look)))
            })?;
            let (found, total) = filters?.page(&look, page)?;
            let views = found.iter().map(|stored| R::view(stored, &look));
            Ok((views.collect::<Result<_, _>>()?, page, total))
        })
        .await?;
    Ok(Many::reply(&access.context, views, page, total))
}

pub(crate) async fn create<R: Editable>(
    State(app): State<App>,
    access: Access<R::Write>,
    params: Params,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<R::View>>, Failure> {
    create_one::<R>(&app, &access, params, body).await
}

/// [`create`], below a record that must be there.
pub(crate) async fn create_below<A: Record, R: Editable>(
    State(app): State<App>,
    access: Access<R::Write>,
    _: Found<A>,
    params: Params,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<R::View>>, Failure> {
    create_one::<R>(&app, &access, params, body).await
}

async fn create_one<R: Editable>(
    app: &App,
    access: &Access<R::Write>,
    params: Params,
    body: Parsed,
) -> Result<Reply<One<R::View>>, Failure> {
    let (space, author) = (access.space, access.author());
    let view = app
        .blocking(move |app| {
            let stored = app.control.store().write(&author, |writes| {
                let at = At {
                    look: Look::of(writes.store(), space),
                    settings: &app.settings,
                    now: author.at,
                    params: &params,
                    before: None,
                };
                let document = read_complete(body, &at)?;
                create_numbered(writes, space, document)
            })?;
            R::view_alone(&stored, app)
        })
        .await?;
    Ok(Reply::created(One::of(&access.context, R::ONE, view), None))
}

/// Changes what the body names; the rest stays.
pub(crate) async fn change<R: Editable>(
    State(app): State<App>,
    access: Access<R::Write>,
    Found(found): Found<R>,
    params: Params,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<R::View>>, Failure> {
    change_one(&app, &access, found, params, move |at| {
        read_complete(body, at)
    })
    .await
}

/// A record of which `PUT` leaves nothing but what no body says.
pub(crate) trait Replaceable: Editable {
    /// Takes over what no body says.
    fn keep(&mut self, before: &Self);
}

/// Replaces a record: what the body leaves out is as in a new one.
pub(crate) async fn replace<R: Replaceable>(
    State(app): State<App>,
    access: Access<R::Write>,
    Found(found): Found<R>,
    params: Params,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<R::View>>, Failure> {
    change_one(&app, &access, found, params, move |at: &At<'_, R>| {
        let new = At {
            before: None,
            ..*at
        };
        let mut document = read_complete(body, &new)?;
        if let Some(before) = at.before {
            document.keep(before);
        }
        Ok(document)
    })
    .await
}

fn read_complete<R: Editable>(body: Parsed, at: &At<'_, R>) -> Result<R, Fault> {
    let mut document = body.read(Form::LENIENT, |fields| R::read(fields, at))?;
    document.complete(at)?;
    Ok(document)
}

/// The body is read where nobody else can change what it changes.
async fn change_one<R: Editable>(
    app: &App,
    access: &Access<R::Write>,
    found: Arc<Stored<R>>,
    params: Params,
    read: impl FnOnce(&At<'_, R>) -> Result<R, Fault> + Send + 'static,
) -> Result<Reply<One<R::View>>, Failure> {
    let (space, author) = (access.space, access.author());
    let view = app
        .blocking(move |app| {
            let stored = app.control.store().write(&author, |writes| {
                let current = writes.get::<R>(space, found.id)?;
                let document = read(&At {
                    look: Look::of(writes.store(), space),
                    settings: &app.settings,
                    now: author.at,
                    params: &params,
                    before: Some(&current.document),
                })?;
                replace_changed(writes, &current, document)
            })?;
            R::view_alone(&stored, app)
        })
        .await?;
    Ok(Reply::ok(One::of(&access.context, R::ONE, view)))
}

/// Stores a new record under a number of its own.
pub(crate) fn create_numbered<R: Record>(
    writes: &mut Writes<'_>,
    space: OrganizationId,
    mut document: R,
) -> Result<Arc<Stored<R>>, Fault> {
    document.take_number(writes, space)?;
    let created = writes.create_checked(space, document)?;
    R::follow(writes, None, &created)?;
    Ok(created)
}

/// Replaces a record, unless nothing of it changes.
pub(crate) fn replace_changed<R: Record>(
    writes: &mut Writes<'_>,
    current: &Arc<Stored<R>>,
    document: R,
) -> Result<Arc<Stored<R>>, Fault> {
    if current.document == document {
        return Ok(Arc::clone(current));
    }
    let after = writes.replace_checked(current.organization, current.id, None, document)?;
    R::follow(writes, Some(current), &after)?;
    Ok(after)
}

/// Tells of something that happened to a record besides its changes.
pub(crate) fn append_event<R: Record>(
    writes: &mut Writes<'_>,
    stored: &Stored<R>,
    what: &str,
    data: Value,
) -> Result<(), Fault> {
    let resource = ResourceRef {
        kind: R::KIND.to_owned(),
        id: stored.id.to_string(),
    };
    writes.append(&NewEvent {
        organization: stored.organization,
        kind: format!("{}.{what}", R::EVENT),
        resource: Some(resource),
        data,
    })?;
    Ok(())
}

/// A change without an id: whoever may make it hears what is missing (3.1).
pub(crate) async fn without_id<R: Editable>(_: Access<R::Write>) -> Failure {
    Fault::invalid(Problem::query(R::PARAM, Rule::Required)).into()
}

/// [`without_id`], below a record that must be there.
pub(crate) async fn without_id_below<A: Record, R: Editable>(
    access: Access<R::Write>,
    _: Found<A>,
) -> Failure {
    without_id::<R>(access).await
}
