//! The table of contents of the surface. Paths are those of the second style of addressing, see `address`.

use crate::app::App;
use crate::asset::{Asset, retrieve_asset};
use crate::customer::{Customer, retrieve_customer};
use crate::inventory::{Item, list_low_stock};
use crate::job::Job;
use crate::location::{Location, list_locations};
use crate::reading::submit_reading;
use crate::record::{
    change, create, create_below, list, replace, retrieve, without_id, without_id_below,
};
use crate::service::{ServiceRecord, list_service_history};
use crate::settings::{LIST, READ};
use crate::status::change_status;
use crate::stock::{
    StockLocation, adjust_stock, list_stock, list_transactions, retrieve_place, transfer_stock,
};
use crate::technician::Technician;
use crate::transfer::transfer_asset;
use meterd_http::Routes;
use meterd_http::route::{RouteTable, get, patch, post, put};

pub(crate) fn routes(app: App) -> Routes {
    let table = RouteTable::new(app);
    let table = jobs(table);
    let table = customers(table);
    let table = assets(table);
    let table = inventory(table);
    technicians(table).build()
}

fn jobs(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/jobs",
            [
                get(list::<Job>).class(LIST),
                post(create::<Job>),
                put(without_id::<Job>),
                patch(without_id::<Job>),
            ],
        )
        .route(
            "/api/v1/jobs/{id}",
            [
                get(retrieve::<Job>).class(READ),
                put(change::<Job>),
                patch(change_status::<Job>),
            ],
        )
}

fn customers(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/customers",
            [
                get(list::<Customer>).class(LIST),
                post(create::<Customer>),
                put(without_id::<Customer>),
            ],
        )
        .route(
            "/api/v1/customers/{id}",
            [get(retrieve_customer).class(READ), put(change::<Customer>)],
        )
        .route(
            "/api/v1/customers/{id}/locations",
            [
                get(list_locations).class(LIST),
                post(create_below::<Customer, Location>),
                put(without_id_below::<Customer, Location>),
            ],
        )
        .route(
            "/api/v1/customers/{id}/locations/{location_id}",
            [
                get(retrieve::<Location>).class(READ),
                put(change::<Location>),
            ],
        )
}

fn assets(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/assets",
            [
                get(list::<Asset>).class(LIST),
                post(create::<Asset>),
                put(without_id::<Asset>),
                patch(without_id::<Asset>),
            ],
        )
        .route(
            "/api/v1/assets/{id}",
            [
                get(retrieve_asset).class(READ),
                put(change::<Asset>),
                patch(change_status::<Asset>),
            ],
        )
        .route(
            "/api/v1/assets/{id}/service_history",
            [get(list_service_history).class(LIST)],
        )
        .route(
            "/api/v1/assets/{id}/service",
            [post(create_below::<Asset, ServiceRecord>)],
        )
        .route("/api/v1/assets/{id}/meter_reading", [post(submit_reading)])
        .route("/api/v1/assets/{id}/transfer", [post(transfer_asset)])
}

fn inventory(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/inventory",
            [
                get(list::<Item>).class(LIST),
                post(create::<Item>),
                put(without_id::<Item>),
                patch(without_id::<Item>),
            ],
        )
        .route(
            "/api/v1/inventory/{id}",
            [
                get(retrieve::<Item>).class(READ),
                put(replace::<Item>),
                patch(change::<Item>),
            ],
        )
        .route(
            "/api/v1/inventory/{id}/stock",
            [get(list_stock).class(LIST)],
        )
        .route(
            "/api/v1/inventory/{id}/transactions",
            [get(list_transactions).class(LIST)],
        )
        .route("/api/v1/inventory/{id}/adjust", [post(adjust_stock)])
        .route("/api/v1/inventory?sub=transfer", [post(transfer_stock)])
        .route(
            "/api/v1/inventory?sub=low-stock",
            [get(list_low_stock).class(LIST)],
        )
        .route(
            "/api/v1/inventory?sub=locations",
            [get(list::<StockLocation>).class(LIST)],
        )
        .route(
            "/api/v1/inventory?sub=locations/{location_id}",
            [get(retrieve_place).class(LIST)],
        )
}

fn technicians(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route("/api/v1/technicians", [get(list::<Technician>).class(LIST)])
        .route(
            "/api/v1/technicians/{id}",
            [get(retrieve::<Technician>).class(READ)],
        )
}
