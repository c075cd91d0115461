//! What a channel measures (specs/wattwatchers.md 3.4).

use meterd_http::Reply;
use serde::Serialize;

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Category {
    pub(crate) id: i64,
    pub(crate) label: &'static str,
    description: &'static str,
}

/// Of a channel about which nothing was said.
pub(crate) const NOT_SET: i64 = -1;

const fn category(id: i64, label: &'static str, description: &'static str) -> Category {
    Category {
        id,
        label,
        description,
    }
}

static CATEGORIES: [Category; 14] = [
    category(
        NOT_SET,
        "Not set",
        "Nothing has been said about the channel.",
    ),
    category(
        0,
        "Not connected",
        "The channel has no current transformer.",
    ),
    category(
        1,
        "Grid connect",
        "The whole site's connection to the grid.",
    ),
    category(
        2,
        "Lighting & Power",
        "Lights and socket outlets on one circuit.",
    ),
    category(3, "Pool pump", "The pump of a swimming pool."),
    category(4, "Air conditioning", "Heating, ventilation and cooling."),
    category(5, "Solar generation", "The output of photovoltaic panels."),
    category(6, "Hot water", "An electric water heater."),
    category(7, "Electric vehicle", "A vehicle's charger."),
    category(8, "Battery", "A battery that is charged and discharged."),
    category(9, "Oven", "An oven or a cooker."),
    category(10, "Lighting", "Lights only."),
    category(11, "Power", "Socket outlets only."),
    category(
        12,
        "Hybrid solar & battery system",
        "Panels and a battery behind one inverter.",
    ),
];

impl Category {
    pub(crate) fn of_id(id: i64) -> Option<&'static Self> {
        CATEGORIES.iter().find(|category| category.id == id)
    }

    pub(crate) fn ids() -> impl Iterator<Item = i64> {
        CATEGORIES.iter().map(|category| category.id)
    }
}

/// `GET /devices/channel-categories`
pub(crate) async fn list_categories() -> Reply<&'static [Category]> {
    Reply::ok(&CATEGORIES)
}
