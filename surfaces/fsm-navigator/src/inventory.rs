//! Inventory: parts, and how many of each are kept where (4.4). Only here `PUT` replaces and `PATCH` changes.

use crate::access::{Access, InventoryRead, InventoryWrite};
use crate::app::App;
use crate::envelope::Many;
use crate::page::{Filters, Search};
use crate::record::{
    At, Editable, Listed, Look, Nothing, Record, Replaceable, Shown, View, list_with,
};
use crate::wire::{NAME_MAX, TEXT_MAX, amount, boolean, id, kept, optional, required, text};
use axum::extract::State;
use axum::http::Uri;
use meterd_control::{Document, Resource, Stored};
use meterd_fault::Fault;
use meterd_http::fields::Fields;
use meterd_http::{ExactNumber, Failure, Reply};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most of anything in one place.
pub(crate) const QUANTITY_MAX: i64 = 1_000_000_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) part_number: String,
    pub(crate) name: String,
    description: Option<String>,
    category: Option<String>,
    unit_cost: Option<ExactNumber>,
    unit_price: Option<ExactNumber>,
    /// Without one it is never low.
    min_stock_level: Option<i64>,
    is_active: bool,
    /// How many there are, by the place they are kept at.
    pub(crate) stock: BTreeMap<u64, i64>,
}

/// An item as it is shown, but for what every record has.
#[derive(Debug, Serialize)]
pub(crate) struct ItemView {
    part_number: String,
    name: String,
    description: Option<String>,
    category: Option<String>,
    unit_cost: Option<ExactNumber>,
    unit_price: Option<ExactNumber>,
    min_stock_level: Option<i64>,
    total_quantity: i64,
    is_active: bool,
}

impl Item {
    /// How many there are in one place.
    pub(crate) fn at(&self, location: u64) -> i64 {
        self.stock.get(&location).copied().unwrap_or_default()
    }

    fn total(&self) -> i64 {
        self.stock
            .values()
            .fold(0, |sum, quantity| sum.saturating_add(*quantity))
    }

    fn is_low(&self) -> bool {
        self.min_stock_level.is_some_and(|min| self.total() <= min)
    }
}

impl Document for Item {
    const KIND: &'static str = "fsm-navigator/inventory-item";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::InventoryItem;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key(), ("part_number", self.part_number.clone())]
    }
}

impl Resource for Item {}

impl Record for Item {
    const ID: &'static str = "id";

    fn number(&self) -> u64 {
        self.number
    }

    fn set_number(&mut self, number: u64) {
        self.number = number;
    }
}

impl Shown for Item {
    type Read = InventoryRead;
    type View = View<ItemView>;
    const ONE: &'static str = "item";

    fn view(stored: &Stored<Self>, _: &Look<'_>) -> Result<Self::View, Fault> {
        let total_quantity = stored.document.total();
        let item = stored.document.clone();
        let shown = ItemView {
            part_number: item.part_number,
            name: item.name,
            description: item.description,
            category: item.category,
            unit_cost: item.unit_cost,
            unit_price: item.unit_price,
            min_stock_level: item.min_stock_level,
            total_quantity,
            is_active: item.is_active,
        };
        Ok(View::of(stored, shown, Nothing {}))
    }
}

impl Listed for Item {
    fn filters(fields: &mut Fields<'_>, _: &Look<'_>) -> Result<Filters<Self>, Fault> {
        let mut filters = Filters::read(fields);
        filters.when(Search::read(fields), |search, stored| {
            let item: &Self = &stored.document;
            search.is_in(&item.name) || search.is_in(&item.part_number)
        });
        filters.when(id(fields, "location_id"), |location, stored| {
            stored.document.at(*location) > 0
        });
        filters.when(fields.string("category"), |wanted, stored| {
            let category = stored.document.category.as_ref();
            category.is_some_and(|category| category.to_lowercase() == wanted.to_lowercase())
        });
        Ok(filters)
    }
}

impl Editable for Item {
    type Write = InventoryWrite;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before;
        let part_number = required(
            fields,
            "part_number",
            before.map(|b| &b.part_number),
            text(NAME_MAX),
        );
        let name = required(fields, "name", before.map(|b| &b.name), text(NAME_MAX));
        let description = optional(
            fields,
            "description",
            before.and_then(|b| b.description.clone()),
            text(TEXT_MAX),
        );
        let category = optional(
            fields,
            "category",
            before.and_then(|b| b.category.clone()),
            text(NAME_MAX),
        );
        let unit_cost = optional(
            fields,
            "unit_cost",
            before.and_then(|b| b.unit_cost),
            amount,
        );
        let unit_price = optional(
            fields,
            "unit_price",
            before.and_then(|b| b.unit_price),
            amount,
        );
        let min_stock_level = optional(
            fields,
            "min_stock_level",
            before.and_then(|b| b.min_stock_level),
            |fields, name| fields.integer(name, 0, QUANTITY_MAX),
        );
        let is_active = kept(fields, "is_active", before.map(|b| b.is_active), boolean);
        Some(Self {
            number: before.map_or(0, |b| b.number),
            part_number: part_number?,
            name: name?,
            description,
            category,
            unit_cost,
            unit_price,
            min_stock_level,
            is_active: is_active.unwrap_or(true),
            stock: before.map(|b| b.stock.clone()).unwrap_or_default(),
        })
    }
}

impl Replaceable for Item {
    fn keep(&mut self, before: &Self) {
        self.number = before.number;
        self.stock.clone_from(&before.stock);
    }
}

/// `GET /inventory?sub=low-stock`
pub(crate) async fn list_low_stock(
    State(app): State<App>,
    access: Access<InventoryRead>,
    uri: Uri,
) -> Result<Reply<Many<<Item as Shown>::View>>, Failure> {
    list_with(&app, &access, &uri, move |_, _| {
        let mut filters = Filters::<Item>::none();
        filters.when(Some(()), |(), stored| stored.document.is_low());
        Ok(filters)
    })
    .await
}
