//! Counter adjustments: what a counter stands at for an account, from a date on (4.11).

use crate::access::{Guarded, Seen};
use crate::account::Account;
use crate::app::App;
use crate::counter::Counter;
use crate::entity::{At, DateOf, Entity, View, entity_event, paths};
use crate::list::{Page, every, read_page_size};
use crate::wire::{one_spelling, text};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meterd_control::{Changed, Document, List, Reference, Resource, Stored, refers};
use meterd_fault::{Fault, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, LongWork, Reply};
use meterd_model::{Date, OrganizationId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The date of an adjustment that names none (4.11).
const DATE_DEFAULT: &str = "2022-01-04";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CounterAdjustment {
    pub(crate) counter_id: String,
    pub(crate) account_id: String,
    pub(crate) date: Date,
    /// Not a difference.
    pub(crate) value: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) purchase_order_number: Option<String>,
}

impl Document for CounterAdjustment {
    const KIND: &'static str = "m3ter/counter_adjustment";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::CounterAdjustment;
    const EVENT: &'static str = "m3ter.billing.counteradjustment";

    /// One for each counter, account and day.
    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let Self {
            counter_id,
            account_id,
            date,
            ..
        } = self;
        vec![("date", format!("{date} of {counter_id} for {account_id}"))]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("counterId", self.counter_id.clone()),
            ("accountId", self.account_id.clone()),
        ]
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for CounterAdjustment {
    fn references(&self) -> Vec<Reference> {
        vec![
            refers::<Counter>("/counterId", &self.counter_id),
            refers::<Account>("/accountId", &self.account_id),
        ]
    }

    /// It has no name.
    fn label(&self) -> String {
        String::new()
    }
}

impl Guarded for CounterAdjustment {
    const WORD: &'static str = "counteradjustment";
}

impl Entity for CounterAdjustment {
    paths!("/counteradjustments");
    const DATES: &'static [(&'static str, DateOf<Self>)] =
        &[("date", |adjustment| Some(adjustment.date))];

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let counter_id = fields.required_uuid("counterId");
        let account_id = fields.required_uuid("accountId");
        let date = fields
            .date("date")
            .or_else(|| Date::parse(DATE_DEFAULT).ok());
        let value = fields.required_integer("value", 0, i64::MAX);
        let purchase_order_number = fields.checked_string("purchaseOrderNumber", text(0, 100));
        Some(Self {
            counter_id: counter_id?.to_string(),
            account_id: account_id?.to_string(),
            date: date?,
            value: u64::try_from(value?).ok()?,
            purchase_order_number,
        })
    }
}

/// The adjustments of one counter in the order of their dates, newest first unless asked otherwise.
pub(crate) async fn list_adjustments(
    State(app): State<App>,
    seen: Seen<CounterAdjustment>,
    uri: Uri,
) -> Result<Response, Failure> {
    let question = read_query(uri.query().unwrap_or(""), Form::LENIENT, Question::read)?;
    let organization = seen.access.organization;
    let page = app
        .blocking(move |app| question.answer(app, organization, &seen))
        .await?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}

#[derive(Debug)]
struct Question {
    counter_id: String,
    account_id: Option<String>,
    date: Option<Date>,
    start: Option<Date>,
    /// Exclusive.
    end: Option<Date>,
    oldest_first: bool,
    page_size: usize,
    /// The last of the page before.
    after: Option<Place>,
}

/// Where an adjustment stands in the order. As text it is a page token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    date: Date,
    id: Uuid,
}

impl Place {
    fn of(stored: &Stored<CounterAdjustment>) -> Self {
        Self {
            date: stored.document.date,
            id: stored.id,
        }
    }

    fn token(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.date, self.id))
    }

    fn parse(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (date, id) = text.split_once(' ')?;
        Some(Self {
            date: Date::parse(date).ok()?,
            id: parse_uuid(id)?,
        })
    }
}

impl Question {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let page_size = read_page_size(fields, CounterAdjustment::PAGE_MAX);
        let after = fields.string("nextToken").filter(|token| !token.is_empty());
        let after = after.and_then(|token| {
            let place = Place::parse(&token);
            if place.is_none() {
                fields.refuse(
                    "nextToken",
                    Rule::Other {
                        code: "cursor",
                        text: "must be the nextToken of an earlier answer".into(),
                    },
                );
            }
            place
        });
        let counter_id = fields.required_string("counterId").map(one_spelling);
        let account_id = fields.string("accountId").map(one_spelling);
        let mut date = |name| {
            let date = fields.date(name);
            if date.is_some() && account_id.is_none() {
                fields.refuse(
                    name,
                    Rule::Other {
                        code: "needs_account",
                        text: "can only be given together with accountId".into(),
                    },
                );
            }
            date
        };
        let on = date("date");
        let (start, older_start) = (date("dateStart"), date("endDateStart"));
        let (end, older_end) = (date("dateEnd"), date("endDateEnd"));
        let order = fields.choice("sortOrder", &[("ASC", true), ("DESC", false)]);
        Some(Self {
            counter_id: counter_id?,
            account_id,
            date: on,
            start: start.or(older_start),
            end: end.or(older_end),
            oldest_first: order.unwrap_or(false),
            page_size,
            after,
        })
    }

    fn answer(
        &self,
        app: &App,
        organization: OrganizationId,
        seen: &Seen<CounterAdjustment>,
    ) -> Result<Page<View<CounterAdjustment>>, Fault> {
        let mut filters = vec![("counterId", self.counter_id.as_str())];
        let account = self.account_id.iter();
        filters.extend(account.map(|id| ("accountId", id.as_str())));
        let list = List {
            filters: &filters,
            ..List::default()
        };
        let mut found =
            every::<CounterAdjustment>(app.control.store(), organization, list, |stored| {
                let date = stored.document.date;
                self.date.is_none_or(|on| on == date)
                    && self.start.is_none_or(|start| start <= date)
                    && self.end.is_none_or(|end| date < end)
                    && seen.sees(stored.id)
            })?;
        found.sort_by_cached_key(|stored| Place::of(stored));
        if !self.oldest_first {
            found.reverse();
        }
        let is_past = |stored: &Stored<_>| match self.after {
            Some(after) if self.oldest_first => Place::of(stored) > after,
            Some(after) => Place::of(stored) < after,
            None => true,
        };
        let rest: Vec<_> = found.iter().filter(|stored| is_past(stored)).collect();
        let page = rest.iter().take(self.page_size);
        let page_end = page.clone().next_back();
        let has_more = rest.len() > self.page_size;
        Ok(Page {
            data: page.map(|stored| View::of(stored)).collect(),
            next_token: page_end
                .filter(|_| has_more)
                .map(|stored| Place::of(stored).token()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_what_they_write() {
        let place = Place {
            date: Date::MAX,
            id: Uuid::from_u128(7),
        };
        assert_eq!(Place::parse(&place.token()), Some(place));
        for bad in ["", "x", "AAAA", &URL_SAFE_NO_PAD.encode("2024-01-01 7")] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
