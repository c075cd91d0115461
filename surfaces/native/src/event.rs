//! What happened: changes and ingest, in the caller's organization, or on the server for its administrator.

use crate::access::EventsRead;
use crate::app::App;
use crate::page::{self, Page};
use axum::extract::State;
use meterd_control::{Cursor, Event, EventFilter};
use meterd_http::fields::Fields;
use meterd_http::{Checked, Failure, HomePermit, LongWork, Query, Reply};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    sequence: u64,
    time: String,
    #[serde(rename = "type")]
    kind: String,
    actor: String,
    resource: Option<ResourceView>,
    version_before: Option<u64>,
    version_after: Option<u64>,
    /// Members of the resource that differ.
    changed: Vec<String>,
    data: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct ResourceView {
    kind: String,
    id: String,
}

impl EventView {
    fn of(event: Event) -> Self {
        let change = event.change;
        Self {
            sequence: event.sequence,
            time: event.at.to_string(),
            kind: event.kind,
            actor: event.actor.to_string(),
            resource: event.resource.map(|resource| ResourceView {
                kind: resource.kind,
                id: resource.id,
            }),
            version_before: change.as_ref().and_then(|change| change.before),
            version_after: change.as_ref().and_then(|change| change.after),
            changed: change.map(|change| change.members).unwrap_or_default(),
            data: event.data,
        }
    }
}

#[derive(Debug)]
pub(crate) struct EventQuery {
    kind: Option<String>,
    limit: usize,
    cursor: Option<Cursor>,
}

impl Checked for EventQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            kind: fields.string("type"),
            limit: page::limit(fields),
            cursor: page::cursor(fields, |text| Cursor::parse(text).ok()),
        })
    }
}

/// Newest first.
pub(crate) async fn list_events(
    State(app): State<App>,
    permit: HomePermit<EventsRead>,
    Query(query): Query<EventQuery>,
) -> Result<Reply<Page<EventView>>, Failure> {
    let page = app
        .blocking(move |app| {
            let filter = EventFilter {
                kind: query.kind.as_deref(),
                ..EventFilter::default()
            };
            let (events, next) = app.control.events().newest(
                permit.home,
                &filter,
                query.cursor.as_ref(),
                query.limit,
            )?;
            Ok(Page {
                items: events.into_iter().map(EventView::of).collect(),
                next_cursor: next.map(|cursor| cursor.to_string()),
            })
        })
        .await?;
    Ok(Reply::ok(page))
}
