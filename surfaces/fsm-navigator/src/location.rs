//! Locations: the sites of customers (4.2).

use crate::access::{Access, CustomersRead, CustomersWrite};
use crate::app::App;
use crate::customer::{Customer, email};
use crate::envelope::Many;
use crate::page::Filters;
use crate::record::{At, Editable, Found, Look, Record, Shown, View, list_with};
use crate::wire::{NAME_MAX, TEXT_MAX, optional, required, rule, text};
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Document, Resource, Stored};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use meterd_http::{Failure, Reply};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) location_id: u64,
    pub(crate) customer_id: u64,
    pub(crate) location_name: String,
    pub(crate) street: String,
    pub(crate) city: String,
    /// Two capital letters.
    pub(crate) state: String,
    pub(crate) zip: String,
    /// Without one, the customer's counts.
    pub(crate) contact_email: Option<String>,
    pub(crate) notes: Option<String>,
}

/// Where it is on the map, which nobody here finds out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Coordinates {
    latitude: Option<()>,
    longitude: Option<()>,
}

impl Document for Location {
    const KIND: &'static str = "fsm-navigator/location";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Location;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key()]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("customer_id", self.customer_id.to_string())]
    }
}

impl Resource for Location {}

impl Record for Location {
    const ID: &'static str = "location_id";
    const PARAM: &'static str = "location_id";
    const BELOW: Option<&'static str> = Some("customer_id");

    fn number(&self) -> u64 {
        self.location_id
    }

    fn set_number(&mut self, number: u64) {
        self.location_id = number;
    }
}

impl Shown for Location {
    type Read = CustomersRead;
    type View = View<Self, Coordinates>;
    const ONE: &'static str = "location";

    fn view(stored: &Stored<Self>, look: &Look<'_>) -> Result<Self::View, Fault> {
        let mut shown = stored.document.clone();
        if shown.contact_email.is_none() {
            let customer = look.find::<Customer>(shown.customer_id)?;
            shown.contact_email = customer.and_then(|c| c.document.customer_email.clone());
        }
        Ok(View::of(stored, shown, Coordinates::default()))
    }
}

impl Editable for Location {
    type Write = CustomersWrite;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before;
        let mut line =
            |name, of: fn(&Self) -> &String| required(fields, name, before.map(of), text(NAME_MAX));
        let location_name = line("location_name", |b| &b.location_name);
        let street = line("street", |b| &b.street);
        let city = line("city", |b| &b.city);
        let state = required(fields, "state", before.map(|b| &b.state), state);
        let zip = required(fields, "zip", before.map(|b| &b.zip), zip);
        let contact_email = optional(
            fields,
            "contact_email",
            before.and_then(|b| b.contact_email.clone()),
            |fields, name| email(fields, name, &at.settings.blocked_mail_domains),
        );
        let notes = optional(
            fields,
            "notes",
            before.and_then(|b| b.notes.clone()),
            text(TEXT_MAX),
        );
        Some(Self {
            location_id: before.map_or(0, |b| b.location_id),
            customer_id: at.above(),
            location_name: location_name?,
            street: street?,
            city: city?,
            state: state?,
            zip: zip?,
            contact_email,
            notes,
        })
    }

    /// The customer's address, sent back as it was shown, does not become the location's own.
    fn complete(&mut self, at: &At<'_, Self>) -> Result<(), Fault> {
        let had_none = |before: &Self| before.contact_email.is_none();
        if at.before.is_some_and(had_none) {
            let customer = at.look.find::<Customer>(self.customer_id)?;
            let shown = customer.and_then(|customer| customer.document.customer_email.clone());
            let email = &mut self.contact_email;
            email.take_if(|sent| Some(&*sent) == shown.as_ref());
        }
        Ok(())
    }
}

/// `GET /customers?id=&locations=1`
pub(crate) async fn list_locations(
    State(app): State<App>,
    access: Access<CustomersRead>,
    Found(customer): Found<Customer>,
    uri: Uri,
) -> Result<Reply<Many<<Location as Shown>::View>>, Failure> {
    list_with(&app, &access, &uri, move |_, _| {
        let mut filters = Filters::<Location>::none();
        filters.equal("customer_id", Some(customer.document.customer_id));
        Ok(filters)
    })
    .await
}

/// The two letters of a state.
fn state(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let given = text(NAME_MAX)(fields, name)?;
    if given.len() == 2 && given.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Some(given.to_uppercase());
    }
    fields.refuse(name, rule("state", "must be the two letters of a state"));
    None
}

/// Five or nine digits, a hyphen between the fifth and the sixth or none.
fn zip(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let given = text(NAME_MAX)(fields, name)?;
    let digits = match given.split_once('-') {
        Some((first, last)) if first.len() == 5 && last.len() == 4 => [first, last].concat(),
        Some(_) => String::new(),
        None => given.clone(),
    };
    if matches!(digits.len(), 5 | 9) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(given);
    }
    let rule = rule("zip", "must be a ZIP code of five or nine digits");
    fields.refuse(name, rule);
    None
}
