//! Usage queries: `POST /usage/query` (6.1).

pub(crate) mod question;
pub(crate) mod rows;

use crate::access::{Access, Action, Target};
use crate::account::Account;
use crate::app::App;
use crate::list::every;
use crate::meter::Meter;
use crate::organization_config::OrganizationConfig;
use crate::singleton::current;
use axum::extract::State;
use axum::response::Response;
use meterd_control::{List, Order as ListOrder, Stored};
use meterd_engine::{
    Aggregation, Cancel, Filter, Function, GroupKey, Listed, Listing, Number, Order, OrderKey,
    Query,
};
use meterd_fault::{Fault, Kind};
use meterd_http::fields::Form;
use meterd_http::{Failure, LongWork, Parsed, Reply, query_fault};
use meterd_model::{MeterId, OrganizationId, Subject, Timestamp, Window, Zone};
use question::{Group, Resolved, Selection, UsageQuery};
use rows::{AccountKey, AggregatedRow, Head, MeterNames, RawRow, UsageRow};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Memory for what one answer is made of; the answer itself is bounded by its bytes.
const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Measurements that are read of a meter before it is known how large they are.
const FIRST_PAGE_ROWS: usize = 1_000;
/// Most windows of one query.
const WINDOWS_MAX: u64 = 100_000;
/// What a row takes in memory beside its texts and values, about.
const ROW_BYTES: usize = 128;
/// Codes of accounts that are remembered while rows are written.
const CODES_MAX: usize = 100_000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageAnswer {
    pub(crate) data: Vec<UsageRow>,
    pub(crate) has_more_data: bool,
}

/// `POST /usage/query`
pub(crate) async fn query_usage(
    State(app): State<App>,
    access: Access,
    body: Parsed,
) -> Result<Response, Failure> {
    // All three, as documented (2.3).
    for (action, service, kind) in [
        (Action::ConfigCreate, "config", "analyticsjob"),
        (Action::ConfigRetrieve, "config", "analyticsjob"),
        (Action::AnalyticsQuery, "analytics", "usage"),
    ] {
        let id = None;
        access.permit(action, &Target { service, kind, id })?;
    }
    let query = body.read(Form::LENIENT, UsageQuery::read)?;
    let organization = access.organization;
    let response = app
        .query(organization, move |app, cancel| {
            let answer = run(app, organization, &query, cancel)?;
            Reply::ok(answer).within(app.settings.response_max_bytes)
        })
        .await?;
    Ok(response)
}

/// Answers a query. Waits for the disk.
pub(crate) fn run(
    app: &App,
    organization: OrganizationId,
    query: &UsageQuery,
    cancel: &Cancel,
) -> Result<UsageAnswer, Fault> {
    let asking = Asking::new(app, organization, query, cancel)?;
    if query.what.aggregations.is_empty() {
        asking.raw()
    } else {
        asking.aggregated()
    }
}

/// A query with what it names looked up.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) app: &'a App,
    pub(crate) organization: OrganizationId,
    pub(crate) query: &'a UsageQuery,
    resolved: Resolved,
    pub(crate) cancel: &'a Cancel,
}

/// What rows of several meters are joined by, in the order of the answer: newest first, then by account, then by
/// dimensions.
type Key = (Reverse<Timestamp>, Option<String>, Vec<Option<String>>);

impl<'a> Asking<'a> {
    /// What does not exist, or has another type, refuses the query.
    pub(crate) fn new(
        app: &'a App,
        organization: OrganizationId,
        query: &'a UsageQuery,
        cancel: &'a Cancel,
    ) -> Result<Self, Fault> {
        let resolved = query.what.resolve(app.control.store(), organization)?;
        Ok(Self {
            app,
            organization,
            query,
            resolved,
            cancel,
        })
    }

    fn what(&self) -> &Selection {
        &self.query.what
    }

    /// Which measurements of a meter count. Subjects and texts are in order.
    pub(crate) fn filter(&self, meter: Uuid) -> Result<Filter, Fault> {
        let subjects = match &self.what().accounts {
            None => None,
            Some(ids) => {
                let subjects = ids.iter().map(|id| Subject::new(id.to_string()));
                let subjects: Result<Vec<_>, _> = subjects.collect();
                Some(subjects.map_err(Fault::internal)?)
            }
        };
        let filters = self.resolved.filters.iter().zip(&self.what().filters);
        let attributes =
            filters
                .filter(|((of, _), _)| of.id == meter)
                .map(|((_, name), filter)| {
                    let mut texts = filter.values.clone();
                    texts.sort_unstable();
                    (name.clone(), texts)
                });
        Ok(Filter {
            subjects,
            attributes: attributes.collect(),
        })
    }

    fn is_asked(&self, meter: Uuid) -> bool {
        let meters = self.what().meters.as_ref();
        meters.is_none_or(|ids| ids.contains(&meter))
    }

    /// The newest measurements.
    fn raw(&self) -> Result<UsageAnswer, Fault> {
        let wanted = self.query.limit + 1;
        let mut newest: Vec<(Listed, usize)> = Vec::new();
        let mut meters = Vec::new();
        let mut from = self.query.start;
        for meter in self.meters()? {
            let id = MeterId(meter.id);
            let mut listing = Listing {
                meter: Some(id),
                filter: self.filter(meter.id)?,
                from: Some(from),
                to: Some(self.query.end),
                ..Listing::default()
            };
            let number = meters.len();
            let mut left = wanted;
            listing.limit = left.min(FIRST_PAGE_ROWS);
            loop {
                let engine = &self.app.engine;
                let page = engine
                    .list(self.organization, &listing, self.cancel)
                    .map_err(query_fault)?;
                left = left.saturating_sub(page.measurements.len());
                newest.extend(page.measurements.into_iter().map(|listed| (listed, number)));
                let bytes: usize = newest.iter().map(|(listed, _)| weight(listed)).sum();
                if bytes > GATHERED_BYTES_MAX {
                    let limit_bytes = self.app.settings.response_max_bytes;
                    return Err(Kind::ResponseTooLarge { limit_bytes }.into());
                }
                listing.after = page.next;
                // As many more as there is room for, if they are like those before.
                let average = (bytes / newest.len().max(1)).max(1);
                let room = (GATHERED_BYTES_MAX - bytes) / average;
                listing.limit = left.min(room.max(FIRST_PAGE_ROWS));
                if listing.after.is_none() || left == 0 {
                    break;
                }
            }
            meters.push(meter);
            newest.sort_unstable_by_key(|(listed, _)| {
                Reverse((listed.measurement.time, listed.sequence))
            });
            newest.truncate(wanted);
            if let Some((oldest, _)) = newest.get(self.query.limit) {
                // Of the other meters only what is newer has a place.
                from = oldest.measurement.time;
            }
        }
        let has_more_data = newest.len() > self.query.limit;
        newest.truncate(self.query.limit);
        let names: Result<Vec<_>, _> = meters.into_iter().map(MeterNames::new).collect();
        let names = names?;
        let mut accounts = AccountCodes::new(self.app, self.organization);
        let mut data = Vec::with_capacity(newest.len());
        for (listed, number) in &newest {
            let Some(names) = names.get(*number) else {
                continue;
            };
            let code = accounts.code(listed.measurement.subject.as_str())?;
            let row = RawRow::new(&listed.measurement, Some(listed.received), names, code);
            data.push(UsageRow::Raw(Box::new(row)));
        }
        Ok(UsageAnswer {
            data,
            has_more_data,
        })
    }

    /// The meters whose measurements are asked for, in the order they were made.
    pub(crate) fn meters(&self) -> Result<Vec<Arc<Stored<Meter>>>, Fault> {
        let list = List {
            order: ListOrder::OldestFirst,
            ids: self.what().meters.as_deref(),
            ..List::default()
        };
        every(self.app.control.store(), self.organization, list, |_| true)
    }

    fn aggregated(&self) -> Result<UsageAnswer, Fault> {
        let joined = self.joined(GATHERED_BYTES_MAX)?;
        let has_more_data = joined.more;
        let mut accounts = AccountCodes::new(self.app, self.organization);
        let rows = joined.into_rows(&mut accounts);
        let data = rows.map(|row| row.map(UsageRow::Aggregated));
        Ok(UsageAnswer {
            data: data.collect::<Result<_, _>>()?,
            has_more_data,
        })
    }

    /// What all meters come to, in so much memory.
    pub(crate) fn joined(&self, bytes_max: usize) -> Result<Joined, Fault> {
        let config: OrganizationConfig = current(self.app.control.store(), self.organization)?;
        let zone = config.zone();
        let window = self.what().groups.iter().find_map(|group| match group {
            Group::Time(window) => Some(*window),
            Group::Account | Group::Dimension(_) => None,
        });
        if let Some(window) = window
            && window.count_estimate(self.query.start, self.query.end) > WINDOWS_MAX
        {
            let limit_rows = WINDOWS_MAX;
            return Err(Kind::QueryTooExpensive { limit_rows }.into());
        }
        let asked = self.what().aggregations.iter();
        let of_meters = self.resolved.aggregations.iter();
        let codes: Vec<_> = of_meters
            .clone()
            .map(|(meter, _)| meter.document.code.as_str())
            .collect();
        let head = Arc::new(Head::new(
            of_meters
                .zip(asked.clone())
                .map(|((meter, _), asked)| (meter.id, asked.field.code.clone(), asked.word))
                .collect(),
            &codes,
            &self.what().groups,
        ));
        // Where no measurement of a meter is, it has nothing to count.
        let nothing: Vec<_> = asked
            .map(|asked| match asked.function {
                Function::Count | Function::Unique => Some(Number::Count(0)),
                _ => None,
            })
            .collect();
        let mut joined: BTreeMap<Key, Vec<Option<Number>>> = BTreeMap::new();
        let mut more = false;
        let mut done: Vec<Uuid> = Vec::new();
        for (meter, _) in &self.resolved.aggregations {
            if done.contains(&meter.id) || !self.is_asked(meter.id) {
                continue;
            }
            done.push(meter.id);
            let (places, query) = self.question(meter.id, window, &zone)?;
            let engine = &self.app.engine;
            let answer = engine
                .query(self.organization, &query, self.cancel)
                .map_err(query_fault)?;
            more |= answer.more;
            for row in answer.rows {
                let values = joined
                    .entry(self.key(meter.id, row.from, row.group))
                    .or_insert_with(|| nothing.clone());
                for (place, value) in places.iter().zip(row.values) {
                    if let Some(slot) = values.get_mut(*place) {
                        *slot = value;
                    }
                }
            }
            // What has no place now has none with the other meters' rows either.
            while joined.len() > self.query.limit {
                joined.pop_last();
                more = true;
            }
            let bytes: usize = joined
                .iter()
                .map(|(key, values)| bytes_of(key, values))
                .sum();
            if bytes > bytes_max {
                let limit_bytes = bytes_max as u64;
                return Err(Kind::ResponseTooLarge { limit_bytes }.into());
            }
        }
        Ok(Joined {
            head,
            more,
            window,
            zone,
            rows: joined,
        })
    }

    /// The engine's question about one meter, and the places of its aggregations among all.
    fn question(
        &self,
        meter: Uuid,
        window: Option<Window>,
        zone: &Zone,
    ) -> Result<(Vec<usize>, Query), Fault> {
        let mut places = Vec::new();
        let mut aggregations = Vec::new();
        let asked = self.what().aggregations.iter();
        for (place, ((of, name), asked)) in
            (self.resolved.aggregations.iter().zip(asked)).enumerate()
        {
            if of.id == meter {
                places.push(place);
                aggregations.push(Aggregation {
                    function: asked.function,
                    field: Some(name.clone()),
                });
            }
        }
        let mut group_by = Vec::new();
        if self.what().groups.contains(&Group::Account) {
            group_by.push(GroupKey::Subject);
        }
        let own = self.resolved.dimensions.iter();
        let own = own.filter(|(of, _)| of.id == meter);
        group_by.extend(own.map(|(_, name)| GroupKey::Attribute(name.clone())));
        let query = Query {
            meter: MeterId(meter),
            from: self.query.start,
            to: self.query.end,
            zone: zone.clone(),
            window,
            group_by,
            filter: self.filter(meter)?,
            aggregations,
            // As in keys; the engine's own order of groups is that of keys.
            order_by: vec![Order {
                by: OrderKey::From,
                descending: true,
            }],
            offset: 0,
            limit: self.query.limit,
        };
        Ok((places, query))
    }

    /// A row's key. Dimensions of other meters are null.
    fn key(&self, meter: Uuid, from: Timestamp, group: Vec<Option<String>>) -> Key {
        let mut group = group.into_iter();
        let account = if self.what().groups.contains(&Group::Account) {
            group.next().flatten()
        } else {
            None
        };
        let dimensions = self.resolved.dimensions.iter();
        let dimensions = dimensions.map(|(of, _)| {
            if of.id == meter {
                group.next().flatten()
            } else {
                None
            }
        });
        (Reverse(from), account, dimensions.collect())
    }
}

/// The rows of several meters as one.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) head: Arc<Head>,
    /// Whether there are more than the query's limit.
    pub(crate) more: bool,
    window: Option<Window>,
    zone: Zone,
    rows: BTreeMap<Key, Vec<Option<Number>>>,
}

impl Joined {
    /// In the order of the answer, each made when it is asked for.
    pub(crate) fn into_rows(
        self,
        accounts: &mut AccountCodes<'_>,
    ) -> impl Iterator<Item = Result<AggregatedRow, Fault>> {
        let Self {
            head,
            window,
            zone,
            rows,
            ..
        } = self;
        rows.into_iter()
            .map(move |((Reverse(from), account, dimensions), values)| {
                let account = match account {
                    None => None,
                    Some(id) => Some(AccountKey {
                        code: accounts.code(&id)?,
                        id,
                    }),
                };
                Ok(AggregatedRow {
                    head: Arc::clone(&head),
                    account,
                    bucket: window.map(|window| window.around(from, &zone)),
                    dimensions,
                    values,
                })
            })
    }
}

/// About what a joined row takes in memory.
fn bytes_of((_, account, dimensions): &Key, values: &[Option<Number>]) -> usize {
    let texts = dimensions.iter().chain([account]);
    let texts: usize = texts
        .map(|text| size_of::<Option<String>>() + text.as_ref().map_or(0, String::len))
        .sum();
    ROW_BYTES + texts + size_of_val(values)
}

/// About what a measurement takes in memory, in bytes.
fn weight(listed: &Listed) -> usize {
    const FIXED: usize = 256;
    const FIELD: usize = 64;
    let measurement = &listed.measurement;
    let texts = measurement.attributes.iter();
    let texts: usize = texts.map(|(_, text)| FIELD + text.as_str().len()).sum();
    FIXED + FIELD * measurement.values.len() + texts
}

/// Codes for the ids of accounts, each looked up once.
#[derive(Debug)]
pub(crate) struct AccountCodes<'a> {
    app: &'a App,
    organization: OrganizationId,
    seen: HashMap<String, Option<String>>,
}

impl<'a> AccountCodes<'a> {
    pub(crate) fn new(app: &'a App, organization: OrganizationId) -> Self {
        Self {
            app,
            organization,
            seen: HashMap::new(),
        }
    }

    /// None for an account that is gone.
    pub(crate) fn code(&mut self, id: &str) -> Result<Option<String>, Fault> {
        if let Some(code) = self.seen.get(id) {
            return Ok(code.clone());
        }
        let code = match Uuid::try_parse(id) {
            Ok(uuid) => {
                let store = self.app.control.store();
                let account = store.find::<Account>(self.organization, uuid)?;
                account.map(|account| account.document.code.clone())
            }
            Err(_) => None,
        };
        if self.seen.len() >= CODES_MAX {
            self.seen.clear();
        }
        self.seen.insert(id.to_owned(), code.clone());
        Ok(code)
    }
}
