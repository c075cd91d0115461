//! The table of contents of the surface.

use crate::app::App;
use crate::backup::create_backup;
use crate::credential::{
    change_credential, create_credential, get_credential, list_credentials, revoke_credential,
    rotate_credential,
};
use crate::event::list_events;
use crate::export::export;
use crate::fault::list_faults;
use crate::measurement::{
    BODY_MAX_BYTES, ingest_measurements, list_measurements, trace_measurement,
};
use crate::meter::{create_meter, delete_meter, get_meter, list_meters, replace_meter};
use crate::openapi::openapi_json;
use crate::organization::{create_organization, get_organization, list_organizations};
use crate::query::query;
use crate::void::{void_measurement, void_measurements};
use meterd_http::route::{RouteTable, Routes, delete, get, patch, post, put};
use std::time::Duration;

/// Which rate limits count a route.
const CONTROL: &str = "control";
const INGEST: &str = "ingest";
const QUERY: &str = "query";

/// Longest time that the making of a backup is waited for.
const BACKUP_MAX: Duration = Duration::from_hours(24);

pub(crate) fn routes(app: App) -> Routes {
    RouteTable::new(app)
        // Meters
        .route(
            "/meters",
            [
                get(list_meters).class(CONTROL),
                post(create_meter).class(CONTROL).idempotent(),
            ],
        )
        .route(
            "/meters/{name}",
            [
                get(get_meter).class(CONTROL),
                put(replace_meter).class(CONTROL),
                delete(delete_meter).class(CONTROL),
            ],
        )
        // Measurements
        .route(
            "/measurements",
            [
                get(list_measurements).class(QUERY),
                // Not idempotent(): ids tell what is stored already, and a backup counts on it (see `back_up`).
                post(ingest_measurements)
                    .class(INGEST)
                    .body_limit_bytes(BODY_MAX_BYTES),
            ],
        )
        .route(
            "/measurements/{id}",
            [
                get(trace_measurement).class(QUERY),
                delete(void_measurement).class(INGEST),
            ],
        )
        .route(
            "/voids",
            [post(void_measurements)
                .class(INGEST)
                .body_limit_bytes(BODY_MAX_BYTES)],
        )
        .route("/query", [post(query).class(QUERY)])
        .route("/export", [get(export).class(QUERY)])
        // What happened
        .route("/events", [get(list_events).class(QUERY)])
        // Administration
        .route(
            "/organizations",
            [
                get(list_organizations).class(CONTROL),
                post(create_organization).class(CONTROL).idempotent(),
            ],
        )
        .route(
            "/organizations/{name}",
            [get(get_organization).class(CONTROL)],
        )
        .route(
            "/credentials",
            [
                get(list_credentials).class(CONTROL),
                post(create_credential).class(CONTROL).idempotent(),
            ],
        )
        .route(
            "/credentials/{id}",
            [
                get(get_credential).class(CONTROL),
                patch(change_credential).class(CONTROL),
                delete(revoke_credential).class(CONTROL),
            ],
        )
        .route(
            "/credentials/{id}/rotate",
            [post(rotate_credential).class(CONTROL).idempotent()],
        )
        .route(
            "/backups",
            [post(create_backup).class(CONTROL).time_limit(BACKUP_MAX)],
        )
        // About the API
        .route("/faults", [get(list_faults).public()])
        .route("/openapi.json", [get(openapi_json).public()])
        .build()
}
