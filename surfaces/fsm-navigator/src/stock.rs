//! Stock: the places that items are kept at, and every change of how many there are (4.4).

use crate::access::{Access, InventoryRead, InventoryTransfer, InventoryWrite};
use crate::app::App;
use crate::envelope::{Many, One};
use crate::inventory::{Item, QUANTITY_MAX};
use crate::page::{Filters, PageAsked, QUERY};
use crate::record::{
    Found, Listed, Look, Nothing, Record, SHOWN_WITH_MAX, Shown, View, create_numbered, list_with,
    replace_changed,
};
use crate::wire::{NAME_MAX, id, refused, required, rule, text};
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Document, Resource, Stored, Writes};
use meterd_fault::Fault;
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form};
use meterd_http::{AnyJson, Failure, LongWork, Reply};
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A place that items are kept at. Made outside the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StockLocation {
    pub(crate) location_id: u64,
    pub(crate) location_name: String,
}

/// A change of how many of an item are in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    transaction_id: u64,
    item_id: u64,
    location_id: u64,
    #[serde(rename = "type")]
    kind: Movement,
    /// Negative if there are fewer.
    quantity: i64,
    quantity_after: i64,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Movement {
    Adjust,
    TransferOut,
    TransferIn,
}

/// How many of an item are in one place.
#[derive(Debug, Serialize)]
pub(crate) struct Level {
    id: u64,
    location_id: u64,
    location_name: Option<String>,
    quantity: i64,
}

/// What is in one place, which only a single one is shown with.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Contents {
    /// The first of them; all are listed as items of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<Content>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items_total: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Content {
    id: u64,
    part_number: String,
    name: String,
    quantity: i64,
}

/// Some of an item brought from one place to another.
#[derive(Debug, Serialize)]
pub(crate) struct StockTransfer {
    /// That of the first transaction.
    id: u64,
    item_id: u64,
    from_location_id: u64,
    to_location_id: u64,
    quantity: i64,
    transactions: Vec<<Transaction as Shown>::View>,
}

impl Document for StockLocation {
    const KIND: &'static str = "fsm-navigator/stock-location";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Location;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key(), ("location_name", self.location_name.clone())]
    }
}

impl Resource for StockLocation {}

impl Record for StockLocation {
    const ID: &'static str = "location_id";
    const PARAM: &'static str = "location_id";

    fn number(&self) -> u64 {
        self.location_id
    }

    fn set_number(&mut self, number: u64) {
        self.location_id = number;
    }
}

impl Shown for StockLocation {
    type Read = InventoryRead;
    type View = View<Self, Contents>;
    const ONE: &'static str = "location";

    fn view(stored: &Stored<Self>, _: &Look<'_>) -> Result<Self::View, Fault> {
        let nothing = Contents::default();
        Ok(View::of(stored, stored.document.clone(), nothing))
    }
}

impl Contents {
    /// Looks through all items for those that the place has some of.
    fn of(location: &StockLocation, look: &Look<'_>) -> Result<Self, Fault> {
        let mut all = look.every::<Item>(&[])?;
        all.retain(|item| item.document.at(location.location_id) > 0);
        let first = all.iter().take(SHOWN_WITH_MAX).map(|item| {
            let item = &item.document;
            Content {
                id: item.number,
                part_number: item.part_number.clone(),
                name: item.name.clone(),
                quantity: item.at(location.location_id),
            }
        });
        Ok(Self {
            items: Some(first.collect()),
            items_total: Some(all.len()),
        })
    }
}

impl Listed for StockLocation {
    fn filters(_: &mut Fields<'_>, _: &Look<'_>) -> Result<Filters<Self>, Fault> {
        Ok(Filters::none())
    }
}

impl Document for Transaction {
    const KIND: &'static str = "fsm-navigator/stock-transaction";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Event;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key()]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("item_id", self.item_id.to_string())]
    }
}

impl Resource for Transaction {}

impl Record for Transaction {
    const ID: &'static str = "transaction_id";

    fn number(&self) -> u64 {
        self.transaction_id
    }

    fn set_number(&mut self, number: u64) {
        self.transaction_id = number;
    }
}

impl Shown for Transaction {
    type Read = InventoryRead;
    type View = View<Self>;
    const ONE: &'static str = "transaction";

    fn view(stored: &Stored<Self>, _: &Look<'_>) -> Result<Self::View, Fault> {
        Ok(View::of(stored, stored.document.clone(), Nothing {}))
    }
}

/// `GET /inventory?sub=locations&location_id=`, with what is there.
pub(crate) async fn retrieve_place(
    State(app): State<App>,
    access: Access<InventoryRead>,
    Found(found): Found<StockLocation>,
) -> Result<Reply<One<<StockLocation as Shown>::View>>, Failure> {
    let space = access.space;
    let view = access
        .query(&app, move |app, _| {
            let contents = Contents::of(&found.document, &app.look(space))?;
            Ok(View::of(&found, found.document.clone(), contents))
        })
        .await?;
    Ok(Reply::ok(One::of(
        &access.context,
        StockLocation::ONE,
        view,
    )))
}

/// `GET /inventory?id=&sub=stock`
pub(crate) async fn list_stock(
    State(app): State<App>,
    access: Access<InventoryRead>,
    Found(item): Found<Item>,
    uri: Uri,
) -> Result<Reply<Many<Level>>, Failure> {
    let page = read_query(uri.query().unwrap_or(""), QUERY, |fields| {
        Some(PageAsked::read(fields))
    })?;
    let look = app.look(access.space);
    let stock = &item.document.stock;
    let mut levels = Vec::new();
    for (location_id, quantity) in page.cut(stock.iter()) {
        let location = look.find::<StockLocation>(*location_id)?;
        levels.push(Level {
            id: *location_id,
            location_id: *location_id,
            location_name: location.map(|l| l.document.location_name.clone()),
            quantity: *quantity,
        });
    }
    Ok(Many::reply(&access.context, levels, page, stock.len()))
}

/// `GET /inventory?id=&sub=transactions`
pub(crate) async fn list_transactions(
    State(app): State<App>,
    access: Access<InventoryRead>,
    Found(item): Found<Item>,
    uri: Uri,
) -> Result<Reply<Many<<Transaction as Shown>::View>>, Failure> {
    list_with(&app, &access, &uri, move |_, _| {
        let mut filters = Filters::<Transaction>::none();
        filters.equal("item_id", Some(item.document.number));
        Ok(filters)
    })
    .await
}

/// `POST /inventory?id=&sub=adjust`
pub(crate) async fn adjust_stock(
    State(app): State<App>,
    access: Access<InventoryWrite>,
    Found(item): Found<Item>,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<<Transaction as Shown>::View>>, Failure> {
    let (location, quantity, reason) = body.read(Form::LENIENT, |fields| {
        let location = required(fields, "location_id", None, id);
        let quantity = required(fields, "quantity", None, |fields, name| {
            let quantity = fields.integer(name, -QUANTITY_MAX, QUANTITY_MAX)?;
            if quantity == 0 {
                fields.refuse(name, rule("zero", "must not be 0"));
                return None;
            }
            Some(quantity)
        });
        let reason = required(fields, "reason", None, text(NAME_MAX));
        Some((location?, quantity?, reason?))
    })?;
    let (space, author) = (access.space, access.author());
    let view = app
        .blocking(move |app| {
            let look = app.look(space);
            look.named::<StockLocation>("location_id", location)?;
            let stored = app.control.store().write(&author, |writes| {
                let current = writes.get::<Item>(space, item.id)?;
                let change = Change {
                    location,
                    kind: Movement::Adjust,
                    quantity,
                    reason: Some(reason),
                };
                let mut made = apply(writes, space, &current, vec![change])?;
                made.pop()
                    .ok_or_else(|| Fault::internal("nothing was adjusted"))
            })?;
            Transaction::view(&stored, &look)
        })
        .await?;
    let one = One::of(&access.context, Transaction::ONE, view);
    Ok(Reply::ok(one))
}

/// `POST /inventory?sub=transfer`
pub(crate) async fn transfer_stock(
    State(app): State<App>,
    access: Access<InventoryTransfer>,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<StockTransfer>>, Failure> {
    let (item, from, to, quantity, reason) = body.read(Form::LENIENT, |fields| {
        let item = required(fields, "item_id", None, id);
        let from = required(fields, "from_location_id", None, id);
        let to = required(fields, "to_location_id", None, id);
        let quantity = required(fields, "quantity", None, |fields, name| {
            fields.integer(name, 1, QUANTITY_MAX)
        });
        let reason = text(NAME_MAX)(fields, "reason");
        if from.is_some() && from == to {
            let rule = rule("distinct", "must be another place than from_location_id");
            fields.refuse("to_location_id", rule);
        }
        Some((item?, from?, to?, quantity?, reason))
    })?;
    let (space, author) = (access.space, access.author());
    let transfer = app
        .blocking(move |app| {
            let look = app.look(space);
            let found = look.named::<Item>("item_id", item)?;
            look.named::<StockLocation>("from_location_id", from)?;
            look.named::<StockLocation>("to_location_id", to)?;
            let made = app.control.store().write(&author, |writes| {
                let current = writes.get::<Item>(space, found.id)?;
                let change = |location, kind, quantity| Change {
                    location,
                    kind,
                    quantity,
                    reason: reason.clone(),
                };
                let out = change(from, Movement::TransferOut, -quantity);
                let into = change(to, Movement::TransferIn, quantity);
                apply(writes, space, &current, vec![out, into])
            })?;
            let views = made.iter().map(|stored| Transaction::view(stored, &look));
            Ok(StockTransfer {
                id: made.first().map_or(0, |out| out.document.transaction_id),
                item_id: item,
                from_location_id: from,
                to_location_id: to,
                quantity,
                transactions: views.collect::<Result<_, _>>()?,
            })
        })
        .await?;
    Ok(Reply::ok(One::of(&access.context, "transfer", transfer)))
}

/// A change of the stock in one place.
struct Change {
    location: u64,
    kind: Movement,
    quantity: i64,
    reason: Option<String>,
}

/// Makes all the changes, or none if one would leave less than nothing or more than can be.
fn apply(
    writes: &mut Writes<'_>,
    space: OrganizationId,
    current: &Arc<Stored<Item>>,
    changes: Vec<Change>,
) -> Result<Vec<Arc<Stored<Transaction>>>, Fault> {
    let mut item = current.document.clone();
    let mut made = Vec::with_capacity(changes.len());
    for change in changes {
        let level = item.stock.entry(change.location).or_default();
        let after = level.saturating_add(change.quantity);
        if !(0..=QUANTITY_MAX).contains(&after) {
            let text = format!("must leave from 0 to {QUANTITY_MAX}; there are {level}");
            return Err(refused("quantity", rule("stock", text)));
        }
        *level = after;
        let transaction = Transaction {
            transaction_id: 0,
            item_id: item.number,
            location_id: change.location,
            kind: change.kind,
            quantity: change.quantity,
            quantity_after: after,
            reason: change.reason,
        };
        made.push(create_numbered(writes, space, transaction)?);
    }
    replace_changed(writes, current, item)?;
    Ok(made)
}
