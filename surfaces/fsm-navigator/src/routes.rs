//! Every route of the surface, by resource. Paths are those of the second style of addressing, see `address`.

use crate::access::{
    AssetsMeter, AssetsRead, AssetsService, AssetsTransfer, AssetsWrite, InventoryRead,
    InventoryTransfer, InventoryWrite,
};
use crate::app::App;
use crate::customer::{Customer, retrieve_customer};
use crate::job::Job;
use crate::location::{Location, list_locations};
use crate::record::{
    change, create, create_below, list, not_built, retrieve, without_id, without_id_below,
};
use crate::settings::{LIST, READ};
use crate::status::change_status;
use crate::technician::Technician;
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
            [put(change::<Location>)],
        )
}

fn assets(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/assets",
            [
                get(not_built::<AssetsRead>).class(LIST),
                post(not_built::<AssetsWrite>),
                put(not_built::<AssetsWrite>),
                patch(not_built::<AssetsWrite>),
            ],
        )
        .route(
            "/api/v1/assets/{id}",
            [
                get(not_built::<AssetsRead>).class(READ),
                put(not_built::<AssetsWrite>),
                patch(not_built::<AssetsWrite>),
            ],
        )
        .route(
            "/api/v1/assets/{id}/service_history",
            [get(not_built::<AssetsRead>).class(LIST)],
        )
        .route(
            "/api/v1/assets/{id}/service",
            [post(not_built::<AssetsService>)],
        )
        .route(
            "/api/v1/assets/{id}/meter_reading",
            [post(not_built::<AssetsMeter>)],
        )
        .route(
            "/api/v1/assets/{id}/transfer",
            [post(not_built::<AssetsTransfer>)],
        )
}

fn inventory(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            "/api/v1/inventory",
            [
                get(not_built::<InventoryRead>).class(LIST),
                post(not_built::<InventoryWrite>),
                put(not_built::<InventoryWrite>),
                patch(not_built::<InventoryWrite>),
            ],
        )
        .route(
            "/api/v1/inventory/{id}",
            [
                get(not_built::<InventoryRead>).class(READ),
                put(not_built::<InventoryWrite>),
                patch(not_built::<InventoryWrite>),
            ],
        )
        .route(
            "/api/v1/inventory/{id}/stock",
            [get(not_built::<InventoryRead>).class(LIST)],
        )
        .route(
            "/api/v1/inventory/{id}/transactions",
            [get(not_built::<InventoryRead>).class(LIST)],
        )
        .route(
            "/api/v1/inventory/{id}/adjust",
            [post(not_built::<InventoryWrite>)],
        )
        .route(
            "/api/v1/inventory?sub=transfer",
            [post(not_built::<InventoryTransfer>)],
        )
        .route(
            "/api/v1/inventory?sub=low-stock",
            [get(not_built::<InventoryRead>).class(LIST)],
        )
        .route(
            "/api/v1/inventory?sub=locations",
            [get(not_built::<InventoryRead>).class(LIST)],
        )
        .route(
            "/api/v1/inventory?sub=locations/{location_id}",
            [get(not_built::<InventoryRead>).class(LIST)],
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
