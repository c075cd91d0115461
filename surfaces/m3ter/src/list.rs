//! Lists of configuration objects: what they can be narrowed by, and their pages (3).

use crate::access::Seen;
use crate::app::App;
use crate::entity::{Entity, View};
use crate::wire::{one_spelling, word};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{Cursor, Document, List, Store, Stored};
use meterd_fault::{Fault, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, Params, Reply};
use meterd_model::OrganizationId;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// Items of a page when the caller asks for no number (9, 5).
const PAGE_DEFAULT: i64 = 100;
/// Most values of one filter: more than fit into an address.
const FILTER_VALUES_MAX: usize = 1_000;

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

/// One page of a list. Without `nextToken` it is the last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_token: Option<String>,
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
