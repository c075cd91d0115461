//! The table of contents of the surface.

use crate::app::App;
use crate::category::list_categories;
use crate::devices::{list_devices, retrieve_device};
use crate::ingest::{BODY_MAX_BYTES, feed_long, feed_modbus, feed_short};
use crate::limits::{API, INGEST};
use crate::model::list_models;
use crate::patch::{set_reporting_interval, update_device};
use crate::register::register_device;
use crate::root::tell_status;
use crate::status::{acknowledge, list_commands, take_status};
use crate::{long, modbus, short};
use meterd_http::route::{RouteTable, Routes, get, patch, post, put};

pub(crate) fn routes(app: App) -> Routes {
    let table = RouteTable::new(app).route("/", [get(tell_status).public()]);
    ingest(streams(devices(table))).build()
}

fn devices(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route("/devices", [get(list_devices).class(API)])
        .route(
            "/devices/channel-categories",
            [get(list_categories).class(API)],
        )
        .route("/devices/models", [get(list_models).class(API)])
        .route(
            "/devices/{id}",
            [
                get(retrieve_device).class(API),
                patch(update_device).class(API),
                post(update_device).class(API),
            ],
        )
        .route(
            "/devices/{id}/reporting-interval",
            [post(set_reporting_interval).class(API)],
        )
}

fn streams(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route("/short-energy/{id}", [get(short::list).class(API)])
        .route("/short-energy/{id}/first", [get(short::first).class(API)])
        .route("/short-energy/{id}/latest", [get(short::latest).class(API)])
        .route("/long-energy/{id}", [get(long::list).class(API)])
        .route("/long-energy/{id}/first", [get(long::first).class(API)])
        .route("/long-energy/{id}/latest", [get(long::latest).class(API)])
        .route("/modbus/{id}", [get(modbus::list).class(API)])
        .route("/modbus/{id}/first", [get(modbus::first).class(API)])
        .route("/modbus/{id}/latest", [get(modbus::latest).class(API)])
}

/// A path of one device on the ingest side.
macro_rules! fed {
    ($path:literal) => {
        concat!("/ingest/v1/devices/{id}", $path)
    };
}

fn ingest(table: RouteTable<App>) -> RouteTable<App> {
    let feed = |endpoint: meterd_http::route::Endpoint<App>| {
        endpoint.class(INGEST).body_limit_bytes(BODY_MAX_BYTES)
    };
    table
        .route(fed!(""), [put(register_device).class(INGEST)])
        .route(fed!("/long-energy"), [feed(post(feed_long))])
        .route(fed!("/short-energy"), [feed(post(feed_short))])
        .route(fed!("/modbus"), [feed(post(feed_modbus))])
        .route(fed!("/status"), [post(take_status).class(INGEST)])
        .route(fed!("/commands"), [get(list_commands).class(INGEST)])
        .route(fed!("/commands/{n}/ack"), [post(acknowledge).class(INGEST)])
}
