//! Customers: who a company works for (4.2).

use crate::access::{Access, CustomersRead, CustomersWrite};
use crate::app::App;
use crate::envelope::One;
use crate::location::Location;
use crate::page::{Filters, QUERY, Search};
use crate::record::{At, Editable, Found, Listed, Look, Record, SHOWN_WITH_MAX, Shown, View};
use crate::wire::{NAME_MAX, boolean, kept, optional, required, rule, text};
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Document, Resource, Stored};
use meterd_fault::{Fault, Format, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, is_email};
use meterd_http::{Failure, Reply};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Longest reason of a tax exemption, in characters.
const REASON_MAX: usize = 255;
/// Longest text that is looked at as a phone number or an e-mail address, in characters.
const CONTACT_MAX: usize = 320;
/// A hundred years.
const SLA_HOURS_MAX: i64 = 876_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) customer_id: u64,
    pub(crate) customer_name: String,
    pub(crate) customer_email: Option<String>,
    /// E.164.
    pub(crate) customer_phone: Option<String>,
    pub(crate) default_sla_hours: Option<i64>,
    pub(crate) tax_exempt: bool,
    pub(crate) tax_exemption_reason: Option<String>,
}

/// The customer's locations, where they are asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct WithLocations {
    /// The first of them, the primary one before all; all are listed below the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<Vec<<Location as Shown>::View>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations_total: Option<usize>,
}

impl Document for Customer {
    const KIND: &'static str = "fsm-navigator/customer";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Customer;

    /// Two customers may lack an address, but not share one.
    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let email = self.customer_email.as_ref();
        let email = email.map(|email| ("email", email.to_lowercase()));
        email.into_iter().chain([self.id_key()]).collect()
    }
}

impl Resource for Customer {}

impl Record for Customer {
    const ID: &'static str = "customer_id";

    fn number(&self) -> u64 {
        self.customer_id
    }

    fn set_number(&mut self, number: u64) {
        self.customer_id = number;
    }
}

impl Shown for Customer {
    type Read = CustomersRead;
    type View = View<Self, WithLocations>;
    const ONE: &'static str = "customer";

    fn view(stored: &Stored<Self>, _: &Look<'_>) -> Result<Self::View, Fault> {
        let without = WithLocations::default();
        Ok(View::of(stored, stored.document.clone(), without))
    }
}

impl Listed for Customer {
    fn filters(fields: &mut Fields<'_>, look: &Look<'_>) -> Result<Filters<Self>, Fault> {
        let mut filters = Filters::read(fields);
        filters.when(Search::read(fields), |search, stored| {
            let Self {
                customer_name,
                customer_email,
                customer_phone,
                ..
            } = &stored.document;
            search.is_in(customer_name)
                || customer_email
                    .as_ref()
                    .is_some_and(|text| search.is_in(text))
                || (customer_phone.as_ref()).is_some_and(|text| search.is_in_phone(text))
        });
        if let Some(wanted) = fields.choice("has_locations", &[("1", true), ("0", false)]) {
            let with = located(look)?;
            filters.when(Some(with), move |with, stored| {
                with.contains(&stored.document.customer_id) == wanted
            });
        }
        Ok(filters)
    }
}

impl Editable for Customer {
    type Write = CustomersWrite;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before;
        fields.alias("customer_email", "contact_email");
        fields.alias("customer_phone", "contact_phone");
        let customer_name = required(
            fields,
            "customer_name",
            before.map(|b| &b.customer_name),
            text(NAME_MAX),
        );
        let blocked = &at.settings.blocked_mail_domains;
        let customer_email = optional(
            fields,
            "customer_email",
            before.and_then(|b| b.customer_email.clone()),
            |fields, name| email(fields, name, blocked),
        );
        let customer_phone = optional(
            fields,
            "customer_phone",
            before.and_then(|b| b.customer_phone.clone()),
            phone,
        );
        let default_sla_hours = optional(
            fields,
            "default_sla_hours",
            before.and_then(|b| b.default_sla_hours),
            |fields, name| fields.integer(name, 1, SLA_HOURS_MAX),
        );
        let tax_exempt = kept(fields, "tax_exempt", before.map(|b| b.tax_exempt), boolean);
        let tax_exemption_reason = optional(
            fields,
            "tax_exemption_reason",
            before.and_then(|b| b.tax_exemption_reason.clone()),
            text(REASON_MAX),
        );
        Some(Self {
            customer_id: before.map_or(0, |b| b.customer_id),
            customer_name: customer_name?,
            customer_email,
            customer_phone,
            default_sla_hours,
            tax_exempt: tax_exempt.unwrap_or(false),
            tax_exemption_reason,
        })
    }
}

/// `GET /customers?id=`, with the locations if they are asked for.
pub(crate) async fn retrieve_customer(
    State(app): State<App>,
    access: Access<CustomersRead>,
    Found(found): Found<Customer>,
    uri: Uri,
) -> Result<Reply<One<<Customer as Shown>::View>>, Failure> {
    let included = read_query(uri.query().unwrap_or(""), QUERY, |fields| {
        Some(fields.string("include").unwrap_or_default())
    })?;
    let includes_locations = included.split(',').any(|word| word.trim() == "locations");
    let mut locations = WithLocations::default();
    if includes_locations {
        let (space, customer) = (access.space, found.document.customer_id);
        locations = access
            .query(&app, move |app, _| {
                WithLocations::of(customer, &app.look(space))
            })
            .await?;
    }
    let view = View::of(&found, found.document.clone(), locations);
    Ok(Reply::ok(One::of(&access.context, Customer::ONE, view)))
}

impl WithLocations {
    fn of(customer: u64, look: &Look<'_>) -> Result<Self, Fault> {
        let all = look.every::<Location>(&[("customer_id", &customer.to_string())])?;
        let first = all.iter().take(SHOWN_WITH_MAX);
        let first = first.map(|stored| Location::view(stored, look));
        Ok(Self {
            locations: Some(first.collect::<Result<_, _>>()?),
            locations_total: Some(all.len()),
        })
    }
}

/// The customers that have a location.
fn located(look: &Look<'_>) -> Result<HashSet<u64>, Fault> {
    let all = look.every::<Location>(&[])?;
    Ok(all.iter().map(|l| l.document.customer_id).collect())
}

/// An e-mail address, of a domain that is not blocked.
pub(crate) fn email(
    fields: &mut Fields<'_>,
    name: &'static str,
    blocked: &[String],
) -> Option<String> {
    let email = text(CONTACT_MAX)(fields, name)?;
    if !is_email(&email) {
        let format = Format::Email;
        fields.refuse(name, Rule::Format { format });
        return None;
    }
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    if blocked
        .iter()
        .any(|block| block.eq_ignore_ascii_case(domain))
    {
        let text = "must not be of a domain for throw-away addresses";
        fields.refuse(name, rule("mail_domain", text));
        return None;
    }
    Some(email)
}

/// A phone number, brought to E.164; ten digits are one of North America.
fn phone(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let given = text(CONTACT_MAX)(fields, name)?;
    let number = e164(&given);
    if number.is_none() {
        let text = "must be a phone number such as +12125550100";
        fields.refuse(name, rule("phone", text));
    }
    number
}

fn e164(text: &str) -> Option<String> {
    let (is_whole, rest) = match text.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let is_sound = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '(' | ')' | '-' | '.' | '/');
    if !rest.chars().all(is_sound) {
        return None;
    }
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        7..=15 if is_whole => Some(format!("+{digits}")),
        10 if !is_whole => Some(format!("+1{digits}")),
        11 if !is_whole && digits.starts_with('1') => Some(format!("+{digits}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::e164;

    #[test]
    fn phone_numbers_get_one_form() {
        for (given, expected) in [
            ("+49 (30) 123-456", Some("+4930123456")),
            ("(212) 555-0100", Some("+12125550100")),
            ("1 212 555 0100", Some("+12125550100")),
            ("2 212 555 0100", None),
            ("+123456", None),
            ("+1234567890123456", None),
            ("555-0100", None),
            ("212-555-0100 x5", None),
            ("", None),
        ] {
            assert_eq!(e164(given).as_deref(), expected, "{given}");
        }
    }
}
