//! Entities of a kind, one after the other as the API shows them: for exports and scheduled events.

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
use meterd_control::{Cursor, List, Order};
use meterd_fault::Fault;
use meterd_model::{OrganizationId, Zone};
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

type Visit<'v> = &'v mut dyn FnMut(Value) -> Result<(), Fault>;

/// Shows every entity of one kind.
type Each = fn(&App, OrganizationId, Visit<'_>) -> Result<(), Fault>;

/// The entities that this server has, as events call them.
const SERVED: [(&str, Each); 8] = [
    ("account", each::<Account>),
    ("aggregation", each::<Aggregation>),
    ("compoundaggregation", each::<CompoundAggregation>),
    ("counter", each::<Counter>),
    ("counteradjustment", each::<CounterAdjustment>),
    ("meter", each::<Meter>),
    ("organizationconfig", each::<OrganizationConfig>),
    ("product", each::<Product>),
];

pub(crate) fn is_served(entity: &str) -> bool {
    SERVED.iter().any(|(name, _)| *name == entity)
}

/// Every entity of a kind, oldest first, as the API shows it and with its organization.
pub(crate) fn each_dto(
    app: &App,
    organization: OrganizationId,
    entity: &str,
    visit: Visit<'_>,
) -> Result<(), Fault> {
    match SERVED.iter().find(|(name, _)| *name == entity) {
        Some((_, each)) => each(app, organization, visit),
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
            visit(View::dto(stored))?;
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
