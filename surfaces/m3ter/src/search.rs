//! Search: `searchQuery` has conditions such as `name~acme$dtCreated>2024-01-01`, all of which, or one of which, must
//! hold (3).
//!
//! `:` is equality, `~` that the text or one of its words begins so, without regard to case. Times are compared as
//! times, where a date stands for its whole day in UTC; everything else is text. Where the field's name is a plural,
//! equality is with any of the values between commas.

use crate::access::Seen;
use crate::app::App;
use crate::entity::{Entity, View};
use crate::list::{Page, every};
use crate::wire::{actor_name, micros, one_spelling};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{List, Stored};
use meterd_fault::Rule;
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, time_rule};
use meterd_http::{Failure, LongWork, Reply};
use meterd_model::{Date, TimeError, Timestamp};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

/// Items of a page when the caller asks for no number.
const PAGE_DEFAULT: i64 = 10;
const PAGE_MAX: i64 = 100;
/// Most conditions of one search.
const CONDITIONS_MAX: usize = 50;

/// A text of an entity, if it has it.
type TextOf<E> = fn(&E) -> Option<&str>;

/// A kind of configuration object that can be searched.
pub(crate) trait Searchable: Entity {
    /// Its fields that can be searched, besides those that all have.
    const SEARCHED: &'static [(&'static str, TextOf<Self>)];
}

/// `nextToken` is the `fromDocument` of the next page: a search is paged by number.
pub(crate) async fn search<E: Searchable>(
    State(app): State<App>,
    seen: Seen<E>,
    uri: Uri,
) -> Result<Response, Failure> {
    let search = read_query(uri.query().unwrap_or(""), Form::LENIENT, Search::<E>::read)?;
    let organization = seen.access.organization;
    let response = app
        .query(organization, move |app, _| {
            let store = app.control.store();
            // Compared once they are gathered: nobody may wait for the store meanwhile.
            let mut found = every::<E>(store, organization, List::default(), |_| true)?;
            found.retain(|stored| search.finds(stored) && seen.sees(stored.id));
            if let Some((field, order)) = search.sort {
                found.sort_by(|one, other| {
                    let ordering = field.of(one).cmp(&field.of(other));
                    match order {
                        Order::Ascending => ordering,
                        Order::Descending => ordering.reverse(),
                    }
                });
            }
            let end = search.from.saturating_add(search.page_size);
            let data = found.iter().skip(search.from).take(search.page_size);
            let page = Page {
                data: data.map(|stored| View::of(stored)).collect(),
                next_token: (end < found.len()).then(|| end.to_string()),
            };
            Reply::ok(page).within(app.settings.response_max_bytes)
        })
        .await?;
    Ok(response)
}

#[derive(Debug)]
struct Search<E> {
    conditions: Vec<Condition<E>>,
    /// Whether one condition is enough.
    any: bool,
    sort: Option<(Field<E>, Order)>,
    from: usize,
    page_size: usize,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Ascending,
    Descending,
}

#[derive(Debug)]
struct Condition<E> {
    field: Field<E>,
    operator: Operator,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Above,
    AtLeast,
    Below,
    AtMost,
    Begins,
}

impl Operator {
    /// Longer ones before those they begin with.
    const WORDS: [(&'static str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
        (":", Self::Equal),
        ("~", Self::Begins),
    ];
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Text(String),
    AnyOf(HashSet<String>),
    /// From a time to before another.
    Period(Timestamp, Timestamp),
}

/// Where a value is found.
enum Field<E> {
    Id,
    CreatedAt,
    CreatedBy,
    ModifiedAt,
    ModifiedBy,
    Own(fn(&E) -> Option<&str>),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found<'a> {
    Nothing,
    Text(Cow<'a, str>),
    Time(Timestamp),
}

impl<E: Searchable> Search<E> {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let size = fields.integer("pageSize", 1, PAGE_MAX);
        let from = fields.integer("fromDocument", 0, i64::from(u32::MAX));
        // As all other lists are paged, too.
        let token = fields.integer("nextToken", 0, i64::from(u32::MAX));
        let from = token.or(from);
        let operator = fields.choice("operator", &[("AND", false), ("OR", true)]);
        let order = fields.choice(
            "sortOrder",
            &[("ASC", Order::Ascending), ("DESC", Order::Descending)],
        );
        let sort_by = fields.string("sortBy").filter(|name| !name.is_empty());
        let sort = sort_by.and_then(|name| {
            let field = Field::named(&name);
            if field.is_none() {
                let allowed = field_names::<E>().map(Cow::from).collect();
                fields.refuse("sortBy", Rule::OneOf { allowed });
            }
            field
        });
        let query = fields.string("searchQuery").unwrap_or_default();
        let conditions = read_conditions(&query).unwrap_or_else(|rule| {
            fields.refuse("searchQuery", rule);
            Vec::new()
        });
        Some(Self {
            conditions,
            any: operator.unwrap_or(false),
            sort: sort.map(|field| (field, order.unwrap_or(Order::Ascending))),
            from: usize::try_from(from.unwrap_or(0)).ok()?,
            page_size: usize::try_from(size.unwrap_or(PAGE_DEFAULT)).ok()?,
        })
    }

    fn finds(&self, stored: &Stored<E>) -> bool {
        let mut conditions = self.conditions.iter();
        if self.any && !self.conditions.is_empty() {
            return conditions.any(|condition| condition.holds(stored));
        }
        conditions.all(|condition| condition.holds(stored))
    }
}

fn read_conditions<E: Searchable>(query: &str) -> Result<Vec<Condition<E>>, Rule> {
    let texts = query.split('$').map(str::trim);
    let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
    if texts.len() > CONDITIONS_MAX {
        return Err(Rule::Count {
            min: 0,
            max: CONDITIONS_MAX as u64,
        });
    }
    texts.into_iter().map(Condition::read).collect()
}

impl<E: Searchable> Condition<E> {
    fn read(text: &str) -> Result<Self, Rule> {
        let name_end = text.find(|c: char| !c.is_ascii_alphabetic());
        let (name, rest) = text.split_at(name_end.unwrap_or(text.len()));
        let field = Field::named(name).ok_or_else(|| Rule::Other {
            code: "search",
            text: format!(
                "names the field '{}', which cannot be searched; those that can are {}",
                meterd_fault::quote(name),
                field_names::<E>().collect::<Vec<_>>().join(", ")
            )
            .into(),
        })?;
        let operator = Operator::WORDS.iter().find_map(|(word, operator)| {
            let value = rest.trim_start().strip_prefix(word)?;
            Some((*operator, value.trim()))
        });
        let Some((operator, value)) = operator else {
            return Err(Rule::Other {
                code: "search",
                text: "must have one of : > >= < <= ~ between each field and its value".into(),
            });
        };
        // Codes and names stay as they are, even those that look like an id.
        let is_id = matches!(name, "id" | "ids" | "parentAccountId");
        let in_one_spelling = |value: &str| {
            let value = value.to_owned();
            if is_id { one_spelling(value) } else { value }
        };
        let is_time = matches!(field, Field::CreatedAt | Field::ModifiedAt);
        let wanted = match operator {
            Operator::Begins => Wanted::Text(value.to_lowercase()),
            _ if is_time => period(value).map_err(time_rule)?,
            Operator::Equal if name == "ids" || name == "codes" => {
                let values = value.split(',').map(str::trim);
                Wanted::AnyOf(values.map(in_one_spelling).collect())
            }
            _ => Wanted::Text(in_one_spelling(value)),
        };
        Ok(Self {
            field,
            operator,
            wanted,
        })
    }

    fn holds(&self, stored: &Stored<E>) -> bool {
        holds(&self.field.of(stored), self.operator, &self.wanted)
    }
}

fn holds(found: &Found<'_>, operator: Operator, wanted: &Wanted) -> bool {
    let ordering = match (found, wanted) {
        (Found::Text(text), Wanted::Text(wanted)) if operator == Operator::Begins => {
            return has_beginning(text, wanted);
        }
        (Found::Time(time), Wanted::Text(wanted)) => {
            return micros(*time).to_lowercase().starts_with(wanted);
        }
        (Found::Text(text), Wanted::Text(wanted)) => text.as_ref().cmp(wanted),
        (Found::Text(text), Wanted::AnyOf(wanted)) => return wanted.contains(text.as_ref()),
        (Found::Time(time), Wanted::Period(start, _)) if time < start => Ordering::Less,
        (Found::Time(time), Wanted::Period(_, end)) if time < end => Ordering::Equal,
        (Found::Time(_), Wanted::Period(..)) => Ordering::Greater,
        (Found::Nothing, _)
        | (Found::Text(_), Wanted::Period(..))
        | (Found::Time(_), Wanted::AnyOf(_)) => return false,
    };
    match operator {
        Operator::Equal | Operator::Begins => ordering.is_eq(),
        Operator::Above => ordering.is_gt(),
        Operator::AtLeast => ordering.is_ge(),
        Operator::Below => ordering.is_lt(),
        Operator::AtMost => ordering.is_le(),
    }
}

/// Whether the text or one of its words begins so; `wanted` is in lower case.
fn has_beginning(text: &str, wanted: &str) -> bool {
    let text = text.to_lowercase();
    text.match_indices(wanted).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric())
    })
}

/// A date is its day, a time is its microsecond.
fn period(text: &str) -> Result<Wanted, TimeError> {
    let start = Timestamp::parse_iso(text)?;
    let length = match Date::parse(text) {
        Ok(_) => Duration::from_hours(24),
        Err(_) => Duration::from_micros(1),
    };
    Ok(Wanted::Period(start, start.saturating_add(length)))
}

fn field_names<E: Searchable>() -> impl Iterator<Item = &'static str> {
    let own = E::SEARCHED.iter().map(|(name, _)| *name);
    own.chain(COMMON_FIELDS)
}

const COMMON_FIELDS: [&str; 6] = [
    "id",
    "ids",
    "createdBy",
    "dtCreated",
    "lastModifiedBy",
    "dtLastModified",
];

impl<E: Searchable> Field<E> {
    fn named(name: &str) -> Option<Self> {
        match name {
            "id" | "ids" => Some(Self::Id),
            "dtCreated" => Some(Self::CreatedAt),
            "createdBy" => Some(Self::CreatedBy),
            "dtLastModified" => Some(Self::ModifiedAt),
            "lastModifiedBy" => Some(Self::ModifiedBy),
            _ => {
                let own = E::SEARCHED.iter().find(|(own, _)| *own == name);
                own.map(|(_, read)| Self::Own(*read))
            }
        }
    }

    fn of<'a>(&self, stored: &'a Stored<E>) -> Found<'a> {
        match self {
            Self::Id => Found::Text(stored.id.to_string().into()),
            Self::CreatedAt => Found::Time(stored.created_at),
            Self::CreatedBy => Found::Text(actor_name(stored.created_by).into()),
            Self::ModifiedAt => Found::Time(stored.modified_at),
            Self::ModifiedBy => Found::Text(actor_name(stored.modified_by).into()),
            Self::Own(read) => {
                read(&stored.document).map_or(Found::Nothing, |text| Found::Text(text.into()))
            }
        }
    }
}

impl<E> std::fmt::Debug for Field<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Id => "id",
            Self::CreatedAt => "dtCreated",
            Self::CreatedBy => "createdBy",
            Self::ModifiedAt => "dtLastModified",
            Self::ModifiedBy => "lastModifiedBy",
            Self::Own(_) => "own",
        })
    }
}
