//! Entities of a kind, one after the other: for exports and scheduled events.

use crate::account::Account;
use crate::aggregation::Aggregation;
use crate::app::App;
use crate::compound_aggregation::CompoundAggregation;
use crate::counter::Counter;
use crate::counter_adjustment::CounterAdjustment;
use crate::entity::{Entity, View};
use crate::meter::Meter;
use crate::organization_config::OrganizationConfig;
use crate::product::Product;
use crate::singleton::current;
use meterd_control::{Cursor, List, Order, Stored};
use meterd_fault::Fault;
use meterd_model::{Date, OrganizationId, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What operational exports are made of (4.12). Those that belong to billing are empty so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum OperationalType {
    Bills,
    Commitments,
    Accounts,
    Balances,
    Contracts,
    AccountPlans,
    Aggregations,
    Plans,
    Pricing,
    PricingBands,
    BillLineItems,
    Meters,
    Products,
    CompoundAggregations,
    PlanGroups,
    PlanGroupLinks,
    PlanTemplates,
    BalanceTransactions,
    TransactionTypes,
    Charges,
}

impl OperationalType {
    pub(crate) const WORDS: [(&'static str, Self); 20] = [
        ("BILLS", Self::Bills),
        ("COMMITMENTS", Self::Commitments),
        ("ACCOUNTS", Self::Accounts),
        ("BALANCES", Self::Balances),
        ("CONTRACTS", Self::Contracts),
        ("ACCOUNT_PLANS", Self::AccountPlans),
        ("AGGREGATIONS", Self::Aggregations),
        ("PLANS", Self::Plans),
        ("PRICING", Self::Pricing),
        ("PRICING_BANDS", Self::PricingBands),
        ("BILL_LINE_ITEMS", Self::BillLineItems),
        ("METERS", Self::Meters),
        ("PRODUCTS", Self::Products),
        ("COMPOUND_AGGREGATIONS", Self::CompoundAggregations),
        ("PLAN_GROUPS", Self::PlanGroups),
        ("PLAN_GROUP_LINKS", Self::PlanGroupLinks),
        ("PLAN_TEMPLATES", Self::PlanTemplates),
        ("BALANCE_TRANSACTIONS", Self::BalanceTransactions),
        ("TRANSACTION_TYPES", Self::TransactionTypes),
        ("CHARGES", Self::Charges),
    ];

    pub(crate) fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(word, _)| word)
    }
}

impl OperationalType {
    /// What events call the entities of this type; those of billing are none yet.
    pub(crate) fn entity(self) -> Option<&'static str> {
        match self {
            Self::Accounts => Some("account"),
            Self::Aggregations => Some("aggregation"),
            Self::CompoundAggregations => Some("compoundaggregation"),
            Self::Meters => Some("meter"),
            Self::Products => Some("product"),
            _ => None,
        }
    }
}

/// A stored entity of any kind.
pub(crate) trait AnyEntity {
    fn modified_at(&self) -> Timestamp;

    /// Its member of this name, if that is a date or time.
    fn moment(&self, member: &str) -> Option<Moment>;

    /// As the API shows it, with its organization.
    fn dto(&self) -> Value;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Day(Date),
    Time(Timestamp),
}

impl<E: Entity> AnyEntity for Stored<E> {
    fn modified_at(&self) -> Timestamp {
        self.modified_at
    }

    fn moment(&self, member: &str) -> Option<Moment> {
        match member {
            "dtCreated" => Some(Moment::Time(self.created_at)),
            "dtLastModified" => Some(Moment::Time(self.modified_at)),
            _ => {
                let (_, date) = E::DATES.iter().find(|(name, _)| *name == member)?;
                date(&self.document).map(Moment::Day)
            }
        }
    }

    fn dto(&self) -> Value {
        View::dto(self)
    }
}

type Visit<'v> = &'v mut dyn FnMut(&dyn AnyEntity) -> Result<(), Fault>;

/// A kind of entity that this server has.
struct Served {
    /// As events call it.
    word: &'static str,
    /// Shows every entity.
    each: fn(&App, OrganizationId, Visit<'_>) -> Result<(), Fault>,
    /// Names of the members that [`AnyEntity::moment`] knows.
    dates: fn() -> Vec<&'static str>,
}

const fn served<E: Entity>() -> Served {
    Served {
        word: E::WORD,
        each: each::<E>,
        dates: || {
            let own = E::DATES.iter().map(|(name, _)| *name);
            ["dtCreated", "dtLastModified"]
                .into_iter()
                .chain(own)
                .collect()
        },
    }
}

const SERVED: [Served; 8] = [
    served::<Account>(),
    served::<Aggregation>(),
    served::<CompoundAggregation>(),
    served::<Counter>(),
    served::<CounterAdjustment>(),
    served::<Meter>(),
    served::<OrganizationConfig>(),
    served::<Product>(),
];

/// The dates of a kind of entity, if this server has it.
pub(crate) fn dates_of(entity: &str) -> Option<Vec<&'static str>> {
    let served = SERVED.iter().find(|served| served.word == entity)?;
    Some((served.dates)())
}

/// Every entity of a kind, oldest first; none of a kind that this server does not have.
pub(crate) fn each_entity(
    app: &App,
    organization: OrganizationId,
    entity: &str,
    visit: Visit<'_>,
) -> Result<(), Fault> {
    match SERVED.iter().find(|served| served.word == entity) {
        Some(served) => (served.each)(app, organization, visit),
        None => Ok(()),
    }
}

fn each<E: Entity>(app: &App, organization: OrganizationId, visit: Visit<'_>) -> Result<(), Fault> {
    let mut cursor: Option<Cursor> = None;
    loop {
        let list = List {
            cursor,
            order: Order::OldestFirst,
            ..List::default()
        };
        let page = app.control.store().list::<E>(organization, &list)?;
        for stored in &page.items {
            visit(stored.as_ref())?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// The zone that the organization counts its days in.
pub(crate) fn zone_of(app: &App, organization: OrganizationId) -> Result<Zone, Fault> {
    let config: OrganizationConfig = current(app.control.store(), organization)?;
    Ok(config.zone())
}
