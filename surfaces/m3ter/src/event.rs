//! What happened, as m3ter tells it: `GET /events` (4.10).
//!
//! All of it lies in the control plane's one feed of events, where the names of this surface's begin with
//! [`PREFIX`]; others of the same organization are not shown.

use crate::access::{Access, Action, Allowed, Guarded, Retrieve, Seen, Target};
use crate::app::App;
use crate::event_types::entity_of;
use crate::failure::DOWNLOAD_URL;
use crate::list::{Page, read_page};
use crate::transfer::surface_url;
use crate::wire::{millis, one_spelling};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{Cursor, EVENT_PAGE_MAX, Event, EventFilter, EventMember};
use meterd_fault::{Fault, Kind, Resource, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, LongWork, Params, Reply};
use meterd_model::OrganizationId;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// What the stored names of this surface's events begin with.
pub(crate) const PREFIX: &str = "m3ter.";
/// Longest data of an event before what matters least is left out; the rest of the 64 KiB is for notifications.
const DATA_BYTES_MAX: usize = 60 * 1024;
const PAGE_MAX: i64 = 100;
const IDS_MAX: usize = 1_000;
/// Shows that an id was made here; the half before it is the organization's, the half with it the sequence.
const SEQUENCE_MARK: u64 = 1 << 63;

/// Events as policies name them.
#[derive(Debug)]
pub(crate) struct AnyEvent;

impl Guarded for AnyEvent {
    const WORD: &'static str = "event";
}

/// An event in an answer. It is never `dtActioned`: nothing in the API acts on events (9, 28).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventView {
    id: Uuid,
    event_name: String,
    event_time: String,
    m3ter_event: Value,
}

impl EventView {
    /// `surface_url` is where the reader found the surface.
    fn of(event: Event, surface_url: &str) -> Self {
        let Event {
            sequence,
            organization,
            at,
            kind,
            mut data,
            ..
        } = event;
        let own = data.get_mut("m3terEvent").map(Value::take);
        let mut own = own.unwrap_or_default();
        if let Some(Value::String(path)) = own.get_mut(DOWNLOAD_URL)
            && path.starts_with('/')
        {
            path.insert_str(0, surface_url);
        }
        Self {
            id: event_id(organization, sequence),
            event_name: kind.strip_prefix(PREFIX).unwrap_or(&kind).to_owned(),
            event_time: millis(at),
            m3ter_event: own,
        }
    }
}

/// The id of an event: made of its organization and sequence, so that it need not be stored.
pub(crate) fn event_id(organization: OrganizationId, sequence: u64) -> Uuid {
    let (high, _) = organization.0.as_u64_pair();
    let id = Uuid::from_u64_pair(high, sequence | SEQUENCE_MARK);
    // An UUID of no standard form, and of no organization's either.
    uuid::Builder::from_custom_bytes(id.into_bytes()).into_uuid()
}

fn sequence_of(organization: OrganizationId, id: &str) -> Option<u64> {
    let id = parse_uuid(id)?;
    let sequence = id.as_u64_pair().1 & !SEQUENCE_MARK;
    (event_id(organization, sequence) == id).then_some(sequence)
}

/// The event of this surface that an id names.
pub(crate) fn find_event(
    app: &App,
    organization: OrganizationId,
    id: &str,
) -> Result<Option<Event>, Fault> {
    let Some(sequence) = sequence_of(organization, id) else {
        return Ok(None);
    };
    let found = app.control.events().get(organization, sequence)?;
    Ok(found.filter(|event| event.kind.starts_with(PREFIX)))
}

/// The entity that an event shows, which only those are told of who may retrieve it.
fn shown(event: &Event) -> Option<Target<'_>> {
    let own = event.data.get("m3terEvent")?;
    let sides = own.get("eventData")?;
    // What a notification tells of is another event.
    let name = own.get("eventName").and_then(Value::as_str);
    let name = name.or_else(|| event.kind.strip_prefix(PREFIX))?;
    let dto = sides.get("newDto").or_else(|| sides.get("oldDto"))?;
    Some(Target {
        service: "config",
        kind: entity_of(name)?,
        id: dto.get("id").and_then(Value::as_str).and_then(parse_uuid),
    })
}

/// Leave to see an event, with what it shows.
pub(crate) fn permit_event(access: &Access, event: &Event) -> Result<(), Fault> {
    let own = Target {
        service: AnyEvent::SERVICE,
        kind: AnyEvent::WORD,
        id: Some(event_id(event.organization, event.sequence)),
    };
    access.permit(Action::ConfigRetrieve, &own)?;
    match shown(event) {
        Some(entity) => access.permit(Action::ConfigRetrieve, &entity),
        None => Ok(()),
    }
}

/// The data of an event: what the API shows, and what lists are narrowed by. What would be too long loses the side
/// before the change first, then lists and objects, then all but the id.
pub(crate) fn change_data(new: Option<Value>, old: Option<Value>, account: Option<&str>) -> Value {
    let data = |sides: [Option<Value>; 2]| {
        let [new, old] = sides;
        let sides = [("newDto", new), ("oldDto", old)].into_iter();
        let sides = sides.filter_map(|(name, side)| Some((name.to_owned(), side?)));
        let event = json!({"eventData": Value::Object(sides.collect::<Map<_, _>>())});
        data_of(event, account)
    };
    let fits = |data: &Value| data.to_string().len() <= DATA_BYTES_MAX;
    let whole = data([new.clone(), old.clone()]);
    if fits(&whole) {
        return whole;
    }
    let newest = if new.is_some() {
        [new, None]
    } else {
        [None, old]
    };
    let keeping = |keep: fn(&str, &Value) -> bool| {
        newest.clone().map(|side| {
            let mut side = side?;
            side.as_object_mut()?
                .retain(|name, value| keep(name, value));
            Some(side)
        })
    };
    let attempts: [fn(&str, &Value) -> bool; 2] = [
        |_, _| true,
        |_, value| !value.is_array() && !value.is_object(),
    ];
    let attempts = attempts.into_iter().map(|keep| data(keeping(keep)));
    let first = attempts.into_iter().find(fits);
    first.unwrap_or_else(|| {
        data(keeping(|name, _| {
            matches!(name, "id" | "orgId" | "version")
        }))
    })
}

/// The data of an event whose content is `event`.
pub(crate) fn data_of(event: Value, account: Option<&str>) -> Value {
    let mut data = Map::new();
    data.insert("m3terEvent".to_owned(), event);
    if let Some(account) = account {
        data.insert("accountId".to_owned(), account.into());
    }
    Value::Object(data)
}

/// `GET /events/{id}`
pub(crate) async fn retrieve_event(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Retrieve, AnyEvent>,
) -> Result<Reply<EventView>, Failure> {
    let id = params.get("id").to_owned();
    let organization = access.organization;
    let found = app
        .blocking(move |app| {
            let found = find_event(app, organization, &id)?;
            found.ok_or_else(|| {
                Kind::ResourceNotFound {
                    resource: Resource::Event,
                    id,
                }
                .into()
            })
        })
        .await?;
    permit_event(&access, &found)?;
    let surface_url = surface_url(&access.context);
    Ok(Reply::ok(EventView::of(found, &surface_url)))
}

/// `GET /events`
pub(crate) async fn list_events(
    State(app): State<App>,
    seen: Seen<AnyEvent>,
    uri: Uri,
) -> Result<Response, Failure> {
    let question = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        Some(Question::read(fields))
    })?;
    let page = app.blocking(move |app| question.page(app, &seen)).await?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}

/// What a list of events is narrowed by.
#[derive(Debug)]
struct Question {
    page_size: usize,
    cursor: Option<Cursor>,
    ids: Option<Vec<String>>,
    /// What `eventType` stands for: a name, or what names begin with.
    prefix: Option<&'static str>,
    name: Option<String>,
    resource: Option<String>,
    members: Vec<(EventMember, String)>,
}

/// The words of `eventType` and what the names of their events begin with.
const TYPES: [(&str, &str); 4] = [
    ("Notification", "m3ter.notification."),
    ("IntegrationEvent", "m3ter.integration."),
    ("IngestValidationFailure", "m3ter.ingest.validation.failure"),
    ("DataExportJobFailure", "m3ter.dataexport.job.failure"),
];

impl Question {
    fn read(fields: &mut Fields<'_>) -> Self {
        let (page_size, cursor) = read_page(fields, PAGE_MAX);
        let ids = fields.list("ids", IDS_MAX);
        let prefix = fields.choice("eventType", &TYPES);
        let name = fields.string("eventName");
        let resource = fields.string("resourceId").map(one_spelling);
        let mut members = Vec::new();
        for member in EventMember::ALL {
            let value = fields.string(member.name()).map(one_spelling);
            members.extend(value.map(|value| (member, value)));
        }
        // Nothing is ever actioned, so that both answers are the same.
        let _ = fields.boolean("includeActioned");
        let narrowed = prefix.is_some() || name.is_some() || resource.is_some();
        if ids.is_some() && (narrowed || !members.is_empty()) {
            fields.refuse(
                "ids",
                Rule::Other {
                    code: "exclusive",
                    text: "cannot be combined with other filters".into(),
                },
            );
        }
        Self {
            page_size,
            cursor,
            ids,
            prefix,
            name: name.map(|name| format!("{PREFIX}{name}")),
            resource,
            members,
        }
    }

    fn page(&self, app: &App, seen: &Seen<AnyEvent>) -> Result<Page<EventView>, Fault> {
        let organization = seen.access.organization;
        let is_shown = |event: &Event| {
            let may = |entity| seen.access.may(Action::ConfigRetrieve, &entity);
            seen.sees(event_id(organization, event.sequence)) && shown(event).is_none_or(may)
        };
        // One more than the page tells whether there is another.
        let mut found = match &self.ids {
            Some(ids) => self.by_ids(app, organization, ids, is_shown)?,
            None => self.by_filter(app, organization, is_shown)?,
        };
        let more = found.len() > self.page_size;
        found.truncate(self.page_size);
        let last = found.last().filter(|_| more);
        let next_token = last.map(|last| Cursor::of_sequence(last.sequence).to_string());
        let surface_url = surface_url(&seen.access.context);
        Ok(Page {
            data: (found.into_iter())
                .map(|event| EventView::of(event, &surface_url))
                .collect(),
            next_token,
        })
    }

    fn by_ids(
        &self,
        app: &App,
        organization: OrganizationId,
        ids: &[String],
        sees: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, Fault> {
        let before = self.cursor.map_or(u64::MAX, Cursor::as_sequence);
        let sequences = ids.iter().filter_map(|id| sequence_of(organization, id));
        let mut sequences: Vec<_> = sequences.filter(|sequence| *sequence < before).collect();
        sequences.sort_unstable();
        sequences.dedup();
        let mut found = Vec::new();
        for sequence in sequences.into_iter().rev() {
            let event = app.control.events().get(organization, sequence)?;
            found.extend(event.filter(|event| event.kind.starts_with(PREFIX) && sees(event)));
            if found.len() > self.page_size {
                break;
            }
        }
        Ok(found)
    }

    fn by_filter(
        &self,
        app: &App,
        organization: OrganizationId,
        sees: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, Fault> {
        let members: Vec<_> = self
            .members
            .iter()
            .map(|(member, value)| (*member, value.as_str()))
            .collect();
        let filter = EventFilter {
            kind: self.name.as_deref(),
            kind_prefix: Some(self.prefix.unwrap_or(PREFIX)),
            resource_id: self.resource.as_deref(),
            members: &members,
            ..EventFilter::default()
        };
        let events = app.control.events();
        let mut cursor = self.cursor;
        let mut found = Vec::new();
        let mut limit = self.page_size + 1;
        loop {
            let (page, next) = events.newest(organization, &filter, cursor.as_ref(), limit)?;
            found.extend(page.into_iter().filter(&sees));
            if next.is_none() || found.len() > self.page_size {
                return Ok(found);
            }
            // Only where a policy hides some of them.
            cursor = next;
            limit = EVENT_PAGE_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_event_of_one_organization() {
        let home = OrganizationId(Uuid::from_u128(0x0190_aaaa_bbbb_7ccc_8ddd_0000_0000_0001));
        let other = OrganizationId(Uuid::from_u128(0x0190_aaaa_bbbb_7ccd_8ddd_0000_0000_0001));
        let ids: Vec<_> = [1, 2, 1 << 40].map(|n| (n, event_id(home, n))).into();
        for (sequence, id) in &ids {
            assert_eq!(sequence_of(home, &id.to_string()), Some(*sequence));
            assert_eq!(sequence_of(other, &id.to_string()), None);
        }
        assert_ne!(ids[0].1, ids[1].1);
        assert_eq!(sequence_of(home, &home.0.to_string()), None);
        assert_eq!(sequence_of(home, "acme"), None);
    }

    #[test]
    fn long_changes_lose_what_matters_least() {
        let dto = |text: usize, list: usize| json!({"id": "1", "orgId": "2", "name": "x".repeat(text), "segments": ["y".repeat(list)]});
        let new = |data: &Value| data["m3terEvent"]["eventData"]["newDto"].clone();
        let old = |data: &Value| data["m3terEvent"]["eventData"]["oldDto"].clone();
        let data = change_data(Some(dto(5, 40_000)), Some(dto(6, 10_000)), Some("7"));
        assert_eq!((new(&data), old(&data)), (dto(5, 40_000), dto(6, 10_000)));
        assert_eq!(data["accountId"], "7");
        let data = change_data(Some(dto(5, 40_000)), Some(dto(6, 40_000)), None);
        assert_eq!((new(&data), old(&data)), (dto(5, 40_000), Value::Null));
        let data = change_data(Some(dto(5, 100_000)), Some(dto(6, 1)), None);
        assert_eq!(
            new(&data),
            json!({"id": "1", "orgId": "2", "name": "xxxxx"})
        );
        let data = change_data(None, Some(dto(100_000, 1)), None);
        assert_eq!(old(&data), json!({"id": "1", "orgId": "2"}));
    }
}
