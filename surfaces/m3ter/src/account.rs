//! Accounts: the end customers that usage belongs to (4.6).

use crate::access::{Allowed, Guarded, Retrieve, Seen, Update};
use crate::app::App;
use crate::counter_adjustment::CounterAdjustment;
use crate::entity::{At, DateOf, Entity, entity_event, item, paths};
use crate::list::{Filter, ListQuery, page_of, read_page};
use crate::search::Searchable;
use crate::wire::{
    CODE, CREDITS, CustomValues, ID, NAME, STATEMENT_MODES, currency, id_text, positive, text,
    word, words,
};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use meterd_control::{
    Admission, Changed, Document, Reference, Resource, Store, Stored, Use, refers, used_by,
};
use meterd_fault::{Fault, Problem, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form, parse_uuid};
use meterd_http::{Failure, Params, Parsed, Reply};
use meterd_model::{Date, OrganizationId, Subject};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// Most children of one account (4.6).
const CHILDREN_MAX: usize = 999;
/// Most accounts of one page of children.
const CHILDREN_PAGE_MAX: i64 = 200;
/// What can be ended together (4.6).
const BILLING_ENTITIES: [&str; 5] = [
    "CONTRACT",
    "ACCOUNTPLAN",
    "PREPAYMENT",
    "PRICINGS",
    "COUNTER_PRICINGS",
];
/// Most accounts of all organizations that are kept for ingest, of some 200 bytes; past it they are looked up anew.
const HOLDERS_MAX: usize = 100_000;
/// Longest line of an address for which the original names no bound.
const LINE_MAX_CHARS: usize = 200;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) email_address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent_account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bill_epoch: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) purchase_order_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) statement_definition_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_generate_statement_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credit_application_order: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) days_before_bill_due: Option<u32>,
    #[serde(default, skip_serializing_if = "CustomValues::is_empty")]
    pub(crate) custom_fields: CustomValues,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Address {
    #[serde(rename = "addressLine1", skip_serializing_if = "Option::is_none")]
    pub(crate) line1: Option<String>,
    #[serde(rename = "addressLine2", skip_serializing_if = "Option::is_none")]
    pub(crate) line2: Option<String>,
    #[serde(rename = "addressLine3", skip_serializing_if = "Option::is_none")]
    pub(crate) line3: Option<String>,
    #[serde(rename = "addressLine4", skip_serializing_if = "Option::is_none")]
    pub(crate) line4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) locality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) post_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<String>,
}

impl Address {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut line = |name, max| fields.checked_string(name, text(0, max));
        Self {
            line1: line("addressLine1", 50),
            line2: line("addressLine2", 50),
            line3: line("addressLine3", LINE_MAX_CHARS),
            line4: line("addressLine4", LINE_MAX_CHARS),
            locality: line("locality", 100),
            region: line("region", 50),
            post_code: line("postCode", 20),
            country: line("country", 100),
        }
    }
}

impl Account {
    /// An account as ingest makes it for a code that it does not know (5.4).
    pub(crate) fn skeleton(code: String, email_address: String) -> Self {
        Self {
            name: format!("{code}-autocreated"),
            code,
            email_address,
            address: None,
            parent_account_id: None,
            bill_epoch: None,
            purchase_order_number: None,
            currency: None,
            statement_definition_id: None,
            auto_generate_statement_mode: None,
            credit_application_order: None,
            days_before_bill_due: None,
            custom_fields: CustomValues::default(),
        }
    }
}

/// An account with what its usage is stored under: its id, which stays when its code changes (1.2).
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) subject: Subject,
    pub(crate) account: Arc<Stored<Account>>,
}

impl Holder {
    pub(crate) fn new(account: Arc<Stored<Account>>) -> Result<Self, Fault> {
        let mut text = Uuid::encode_buffer();
        let text = account.id.hyphenated().encode_lower(&mut text);
        let subject = Subject::new(text).map_err(Fault::internal)?;
        Ok(Self { subject, account })
    }
}

/// Accounts as ingest asks for them: by the codes of a batch at once, since to ask the store for one after the other
/// would cost more than to read their rows. Those of an organization are kept until one of them changes.
#[derive(Debug, Default)]
pub(crate) struct Holders(RwLock<HashMap<OrganizationId, OwnHolders>>);

#[derive(Debug, Default)]
struct OwnHolders {
    /// Of the accounts.
    revision: u64,
    by_code: HashMap<String, Holder>,
}

impl Holders {
    /// The accounts with these codes, in their order.
    pub(crate) fn find(
        &self,
        store: &Store,
        organization: OrganizationId,
        codes: &[Cow<'_, str>],
    ) -> Result<Vec<Option<Holder>>, Fault> {
        // Before accounts are read: what is read of an older one is not kept under a newer number.
        let revision = store.revision::<Account>(organization);
        let mut found = self.known(organization, revision, codes);
        let mut new = Vec::new();
        for (code, holder) in codes.iter().zip(&mut found) {
            if holder.is_none()
                && let Some(account) = store.find_by_key::<Account>(organization, "code", code)?
            {
                let made = Holder::new(account)?;
                new.push((code.to_string(), made.clone()));
                *holder = Some(made);
            }
        }
        if !new.is_empty() {
            self.keep(organization, revision, new);
        }
        Ok(found)
    }

    fn known(
        &self,
        organization: OrganizationId,
        revision: u64,
        codes: &[Cow<'_, str>],
    ) -> Vec<Option<Holder>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&organization);
        let own = own.filter(|own| own.revision == revision);
        let holder = |code: &Cow<'_, str>| own?.by_code.get(code.as_ref()).cloned();
        codes.iter().map(holder).collect()
    }

    fn keep(&self, organization: OrganizationId, revision: u64, new: Vec<(String, Holder)>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = all.values().map(|own| own.by_code.len()).sum();
        if kept + new.len() > HOLDERS_MAX {
            all.clear();
        }
        let own = all.entry(organization).or_default();
        if own.revision < revision {
            *own = OwnHolders {
                revision,
                by_code: HashMap::new(),
            };
        }
        if own.revision == revision {
            own.by_code.extend(new);
        }
    }
}

/// What codes have in common that a person would take for the same (9, 14).
pub(crate) fn fold_code(code: &str) -> String {
    let folded = code.to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Document for Account {
    const KIND: &'static str = "m3ter/account";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Account;
    const EVENT: &'static str = "m3ter.configuration.account";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("foldedCode", fold_code(&self.code))];
        keys.extend(
            self.parent_account_id
                .iter()
                .map(|id| ("parentAccountId", id.clone())),
        );
        keys
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for Account {
    const USED_BY: &'static [Use] = &[
        used_by::<Self>("parentAccountId"),
        used_by::<CounterAdjustment>("accountId"),
    ];

    fn references(&self) -> Vec<Reference> {
        let parent = self.parent_account_id.iter();
        parent
            .map(|id| refers::<Self>("/parentAccountId", id))
            .collect()
    }

    /// Two levels and no more: nobody's child is somebody's parent.
    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        let Some(parent) = &self.parent_account_id else {
            return Ok(());
        };
        let before = admission.before;
        if before.is_some_and(|before| before.document.parent_account_id.as_ref() == Some(parent)) {
            return Ok(());
        }
        let Admission {
            store,
            organization,
            ..
        } = admission;
        let children = |id: &str| store.count::<Self>(*organization, &[("parentAccountId", id)]);
        let own_id = before.map(|before| before.id.to_string());
        if own_id.as_ref() == Some(parent) {
            return Err(parent_refused("must be another account"));
        }
        if let Some(own_id) = own_id
            && children(&own_id)? > 0
        {
            return Err(parent_refused(
                "must be left out for an account that has children",
            ));
        }
        // The references are met, so that there is one.
        let id = parse_uuid(parent).unwrap_or_default();
        if (store.get::<Self>(*organization, id)?.document)
            .parent_account_id
            .is_some()
        {
            return Err(parent_refused("must be an account that has no parent"));
        }
        if children(parent)? >= CHILDREN_MAX {
            return Err(parent_refused(format!(
                "must be an account with less than {CHILDREN_MAX} children"
            )));
        }
        Ok(())
    }
}

fn parent_refused(text: impl Into<Cow<'static, str>>) -> Fault {
    let rule = Rule::Other {
        code: "hierarchy",
        text: text.into(),
    };
    Fault::invalid(Problem::body("/parentAccountId", rule))
}

impl Guarded for Account {
    const WORD: &'static str = "account";
}

impl Entity for Account {
    paths!("/accounts");
    const FILTERS: &'static [Filter] = &[Filter::Ids, Filter::Codes];
    const DATES: &'static [(&'static str, DateOf<Self>)] =
        &[("billEpoch", |account| account.bill_epoch)];

    fn read(fields: &mut Fields<'_>, _: &At<'_, Self>) -> Option<Self> {
        let name = fields.required_checked("name", NAME);
        let code = fields.required_checked("code", CODE);
        let email_address = fields.required_email("emailAddress");
        let address = fields.object("address").map(|mut f| Address::read(&mut f));
        let parent = fields.uuid("parentAccountId");
        let bill_epoch = fields.date("billEpoch");
        let purchase_order_number = fields.checked_string("purchaseOrderNumber", text(0, 100));
        let currency = currency(fields, "currency");
        let statement_definition_id = fields.checked_string("statementDefinitionId", ID);
        let statement_mode = word(fields, "autoGenerateStatementMode", &STATEMENT_MODES);
        let credits = fields.array("creditApplicationOrder", CREDITS.len());
        let credit_application_order = words(fields, "creditApplicationOrder", credits, &CREDITS);
        let days_before_bill_due = positive(fields, "daysBeforeBillDue");
        let custom_fields = CustomValues::read(fields);
        Some(Self {
            name: name?,
            code: code?,
            email_address: email_address?,
            address,
            parent_account_id: id_text(parent),
            bill_epoch,
            purchase_order_number,
            currency,
            statement_definition_id,
            auto_generate_statement_mode: statement_mode,
            credit_application_order,
            days_before_bill_due,
            custom_fields,
        })
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}

impl Searchable for Account {
    const SEARCHED: &'static [(&'static str, fn(&Self) -> Option<&str>)] = &[
        ("name", |account| Some(&account.name)),
        ("code", |account| Some(&account.code)),
        ("codes", |account| Some(&account.code)),
        ("emailAddress", |account| Some(&account.email_address)),
        ("currency", |account| account.currency.as_deref()),
        ("purchaseOrderNumber", |account| {
            account.purchase_order_number.as_deref()
        }),
        ("parentAccountId", |account| {
            account.parent_account_id.as_deref()
        }),
    ];
}

pub(crate) async fn list_children(
    State(app): State<App>,
    params: Params,
    _: Allowed<Retrieve, Account>,
    seen: Seen<Account>,
    uri: Uri,
) -> Result<Response, Failure> {
    let organization = seen.access.organization;
    let parent = item::<Account>(&app, organization, &params)?.id.to_string();
    let page = read_query(uri.query().unwrap_or(""), Form::LENIENT, |fields| {
        Some(read_page(fields, CHILDREN_PAGE_MAX))
    })?;
    let query = ListQuery::equal(page, "parentAccountId", parent);
    let page = page_of::<Account>(&app, organization, &query, |child| seen.sees(child.id))?;
    Ok(Reply::ok(page).within(app.settings.response_max_bytes)?)
}

/// What came of ending billing entities: their ids by kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    status_message: &'static str,
    updated_entities: BTreeMap<&'static str, Vec<String>>,
    failed_entities: BTreeMap<&'static str, Vec<String>>,
}

/// Ends the account's contracts, plans, prepayments and pricings. There are none until billing comes, so that none ends.
pub(crate) async fn end_billing_entities(
    State(app): State<App>,
    params: Params,
    Allowed { access, .. }: Allowed<Update, Account>,
    body: Parsed,
) -> Result<Reply<Ended>, Failure> {
    item::<Account>(&app, access.organization, &params)?;
    body.read(Form::LENIENT, |fields| {
        let end = fields.required_iso_time("endDate");
        fields.boolean("applyToChildren");
        let kinds = fields.required_array("billingEntities", BILLING_ENTITIES.len());
        let kinds = words(fields, "billingEntities", kinds, &BILLING_ENTITIES);
        end.and(kinds)
    })?;
    Ok(Reply::ok(Ended {
        status_message: "The account has no billing entities to end",
        updated_entities: BTreeMap::new(),
        failed_entities: BTreeMap::new(),
    }))
}
