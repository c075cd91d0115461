//! How an organization counts time and money (4.2). What is about bills waits for billing.

use crate::access::Guarded;
use crate::entity::{At, DateOf, Entity, entity_event, paths};
use crate::singleton::{Singleton, singleton_key};
use crate::wire::{
    CREDITS, CustomValues, ID, STATEMENT_MODES, currency, positive, read_each, text, word, words,
};
use meterd_control::{Changed, Document, Resource};
use meterd_fault::Rule;
use meterd_http::ExactNumber;
use meterd_http::fields::{DecimalRange, Fields};
use meterd_model::{Date, Decimal, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most conversions between currencies.
const CONVERSIONS_MAX: usize = 1_000;
/// Longest name of a currency in a conversion; the original names no bound.
const CURRENCY_MAX_CHARS: usize = 80;
/// The hours of `scheduledBillInterval`; 0 is never.
const BILL_INTERVALS: [&str; 11] = ["0", "0.25", "0.5", "1", "2", "3", "4", "6", "8", "12", "24"];
const GRACE_UNITS: [&str; 3] = ["MINUTES", "HOURS", "DAYS"];
const INVOICE_DATES: [&str; 2] = ["LAST_DAY_OF_ARREARS", "FIRST_DAY_OF_NEXT_PERIOD"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrganizationConfig {
    /// IANA name.
    pub(crate) timezone: String,
    pub(crate) year_epoch: Date,
    pub(crate) month_epoch: Date,
    pub(crate) week_epoch: Date,
    pub(crate) day_epoch: Date,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) currency_conversions: Vec<CurrencyConversion>,
    pub(crate) days_before_bill_due: u32,
    /// Hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheduled_bill_interval: Option<ExactNumber>,
    /// Hour of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheduled_bill_offset: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) standing_charge_bill_in_advance: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment_fee_bill_in_advance: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) minimum_spend_bill_in_advance: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_approve_bills_grace_period: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_approve_bills_grace_period_unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) external_invoice_date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) suppressed_empty_bills: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) consolidate_bills: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_statement_definition_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_generate_statement_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credit_application_order: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allow_negative_balances: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allow_overlapping_plans: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bill_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequence_start_number: Option<i64>,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurrencyConversion {
    from: String,
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    multiplier: Option<ExactNumber>,
}

impl Default for OrganizationConfig {
    /// What m3ter documents for a fresh organization; that bills are due after 30 days is ours.
    fn default() -> Self {
        let epoch = |text| Date::parse(text).unwrap_or(Date::MIN);
        Self {
            timezone: "UTC".to_owned(),
            year_epoch: epoch("2022-01-01"),
            month_epoch: epoch("2022-01-01"),
            week_epoch: epoch("2022-01-04"),
            day_epoch: epoch("2022-01-01"),
            currency: "USD".to_owned(),
            currency_conversions: Vec::new(),
            days_before_bill_due: 30,
            scheduled_bill_interval: Some(ExactNumber(Decimal::ZERO)),
            scheduled_bill_offset: None,
            standing_charge_bill_in_advance: None,
            commitment_fee_bill_in_advance: None,
            minimum_spend_bill_in_advance: None,
            auto_approve_bills_grace_period: None,
            auto_approve_bills_grace_period_unit: None,
            external_invoice_date: Some("FIRST_DAY_OF_NEXT_PERIOD".to_owned()),
            suppressed_empty_bills: None,
            consolidate_bills: None,
            default_statement_definition_id: None,
            auto_generate_statement_mode: Some("NONE".to_owned()),
            credit_application_order: None,
            allow_negative_balances: None,
            allow_overlapping_plans: Some(false),
            bill_prefix: None,
            sequence_start_number: None,
            custom_fields: CustomValues::default(),
        }
    }
}

impl OrganizationConfig {
    /// Whose days and months usage is counted by.
    pub(crate) fn zone(&self) -> Zone {
        // It was checked when it was saved.
        Zone::named(&self.timezone).unwrap_or(Zone::UTC)
    }
}

impl Document for OrganizationConfig {
    const KIND: &'static str = "m3ter/organization_config";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Organization;
    const EVENT: &'static str = "m3ter.configuration.organizationconfig";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        singleton_key()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for OrganizationConfig {}

impl Guarded for OrganizationConfig {
    const WORD: &'static str = "organizationconfig";
}

impl Singleton for OrganizationConfig {}

impl Entity for OrganizationConfig {
    paths!("/organizationconfig");
    const DATES: &'static [(&'static str, DateOf<Self>)] = &[
        ("yearEpoch", |config| Some(config.year_epoch)),
        ("monthEpoch", |config| Some(config.month_epoch)),
        ("weekEpoch", |config| Some(config.week_epoch)),
        ("dayEpoch", |config| Some(config.day_epoch)),
    ];

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let timezone = fields.zone("timezone");
        if timezone.is_none() {
            fields.require("timezone");
        }
        let [year_epoch, month_epoch, week_epoch, day_epoch] =
            ["yearEpoch", "monthEpoch", "weekEpoch", "dayEpoch"]
                .map(|name| fields.required_date(name));
        let main_currency = currency(fields, "currency");
        if main_currency.is_none() {
            fields.require("currency");
        }
        let conversions = fields.array("currencyConversions", CONVERSIONS_MAX);
        let conversions = read_each(
            fields,
            "currencyConversions",
            conversions,
            CurrencyConversion::read,
        );
        let days_before_bill_due = positive(fields, "daysBeforeBillDue");
        if days_before_bill_due.is_none() {
            fields.require("daysBeforeBillDue");
        }
        let interval = read_bill_interval(fields);
        let offset = fields.integer("scheduledBillOffset", 0, 23);
        if offset.is_some() && interval.is_none_or(|interval| interval != Decimal::from(24)) {
            fields.refuse(
                "scheduledBillOffset",
                Rule::Other {
                    code: "needs_daily",
                    text: "can only be given together with a scheduledBillInterval of 24".into(),
                },
            );
        }
        let standing_charge_bill_in_advance = fields.boolean("standingChargeBillInAdvance");
        let commitment_fee_bill_in_advance = fields.boolean("commitmentFeeBillInAdvance");
        let minimum_spend_bill_in_advance = fields.boolean("minimumSpendBillInAdvance");
        let grace_period = positive(fields, "autoApproveBillsGracePeriod");
        let grace_unit = word(fields, "autoApproveBillsGracePeriodUnit", &GRACE_UNITS);
        let external_invoice_date = word(fields, "externalInvoiceDate", &INVOICE_DATES);
        let suppressed_empty_bills = fields.boolean("suppressedEmptyBills");
        let consolidate_bills = fields.boolean("consolidateBills");
        let statement_definition_id = fields.checked_string("defaultStatementDefinitionId", ID);
        let statement_mode = word(fields, "autoGenerateStatementMode", &STATEMENT_MODES);
        let credits = fields.array("creditApplicationOrder", CREDITS.len());
        let credit_application_order = words(fields, "creditApplicationOrder", credits, &CREDITS);
        let allow_negative_balances = fields.boolean("allowNegativeBalances");
        let allow_overlapping_plans = fields.boolean("allowOverlappingPlans");
        let bill_prefix = fields.checked_string("billPrefix", text(0, 100));
        let sequence_start_number = fields.integer("sequenceStartNumber", i64::MIN, i64::MAX);
        let custom_fields = CustomValues::read(fields);
        Some(Self {
            timezone: timezone?.name().to_owned(),
            year_epoch: year_epoch?,
            month_epoch: month_epoch?,
            week_epoch: week_epoch?,
            day_epoch: day_epoch?,
            currency: main_currency?,
            currency_conversions: conversions.unwrap_or_default(),
            days_before_bill_due: days_before_bill_due?,
            scheduled_bill_interval: interval.map(ExactNumber),
            scheduled_bill_offset: offset.and_then(|hour| u32::try_from(hour).ok()),
            standing_charge_bill_in_advance,
            commitment_fee_bill_in_advance,
            minimum_spend_bill_in_advance,
            auto_approve_bills_grace_period: grace_period,
            auto_approve_bills_grace_period_unit: grace_unit,
            external_invoice_date,
            suppressed_empty_bills,
            consolidate_bills,
            default_statement_definition_id: statement_definition_id,
            auto_generate_statement_mode: statement_mode,
            credit_application_order,
            allow_negative_balances,
            allow_overlapping_plans,
            bill_prefix,
            sequence_start_number,
            custom_fields,
        })
    }
}

/// One of [`BILL_INTERVALS`].
fn read_bill_interval(fields: &mut Fields<'_>) -> Option<Decimal> {
    let interval = fields.decimal("scheduledBillInterval", DecimalRange::Any)?;
    let allowed = BILL_INTERVALS.map(Into::into).to_vec();
    if !BILL_INTERVALS.contains(&interval.to_string().as_str()) {
        fields.refuse("scheduledBillInterval", Rule::OneOf { allowed });
        return None;
    }
    Some(interval)
}

impl CurrencyConversion {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let from = fields.required_checked("from", text(1, CURRENCY_MAX_CHARS));
        let to = fields.required_checked("to", text(1, CURRENCY_MAX_CHARS));
        let multiplier = fields.decimal("multiplier", DecimalRange::Above(Decimal::ZERO));
        Some(Self {
            from: from?,
            to: to?,
            multiplier: multiplier.map(ExactNumber),
        })
    }
}
