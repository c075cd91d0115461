//! The table of contents of the surface. What m3ter has and is not served yet is an unknown route.

use crate::account::{Account, end_billing_entities, list_children};
use crate::aggregation::Aggregation;
use crate::app::App;
use crate::compound_aggregation::CompoundAggregation;
use crate::counter::Counter;
use crate::counter_adjustment::{CounterAdjustment, list_adjustments};
use crate::custom_fields::CustomFields;
use crate::entity::{Entity, create, remove, replace, retrieve};
use crate::event::{list_events, retrieve_event};
use crate::event_types::{list_fields, list_types};
use crate::export_destination::ExportDestination;
use crate::export_job::ExportJob;
use crate::export_schedule::ExportSchedule;
use crate::grant::{SupportUsers, grant, withdraw};
use crate::ingest::{BODY_MAX_BYTES, submit_measurements};
use crate::invitation::Invitation;
use crate::jobs::list_jobs;
use crate::list::list;
use crate::meter::Meter;
use crate::notification::{Notification, evaluate};
use crate::organization_config::OrganizationConfig;
use crate::policy::PermissionPolicy;
use crate::product::Product;
use crate::resource_group::{
    ResourceGroup, add_resource, list_contents, list_permissions, remove_group, remove_resource,
};
use crate::saved_query::SavedQuery;
use crate::scheduled_event::ScheduledEvent;
use crate::search::search;
use crate::service_user::ServiceUser;
use crate::singleton::{Singleton, replace_only, retrieve_only};
use crate::token::issue_token;
use crate::upload::UploadJob;
use crate::usage::query_usage;
use crate::user::{User, list_user_groups, list_user_permissions, resend_password, retrieve_me};
use crate::{export_job, failure, transfer, upload};
use meterd_http::route::{RouteTable, Routes, delete, get, post, put};
use std::time::Duration;

/// Which rate limits count a route.
const CONFIG: &str = "config";
const EXPLORER: &str = "explorer";
const INGEST: &str = "ingest";
/// Counted by no limit: a well-known client fetches a token before every request (8.2).
const TOKEN: &str = "token";
/// A request for a token names its grant. Forms are read with care for few parameters, and no limit counts them here.
const TOKEN_BODY_MAX_BYTES: u64 = 4 * 1024;

/// Counted by no limit: the address was asked for by a request that was.
const TRANSFER: &str = "transfer";
/// Longest time for a file of a gigabyte.
const TRANSFER_MAX: Duration = Duration::from_hours(1);

pub(crate) fn routes(app: App) -> Routes {
    let table = RouteTable::new(app);
    let table = identity(table);
    let table = configuration(table);
    records(usage(table)).build()
}

/// A path below an organization.
macro_rules! at {
    ($path:literal) => {
        concat!("/organizations/{orgId}", $path)
    };
}

fn identity(table: RouteTable<App>) -> RouteTable<App> {
    let table = table
        .route(
            "/oauth/token",
            [post(issue_token)
                .public()
                .class(TOKEN)
                .body_limit_bytes(TOKEN_BODY_MAX_BYTES)],
        )
        .route(User::COLLECTION, [get(list::<User>).class(CONFIG)])
        .route(
            User::ITEM,
            [
                get(retrieve::<User>).class(CONFIG),
                put(replace::<User>).class(CONFIG),
            ],
        )
        .route(at!("/users/me"), [get(retrieve_me).class(CONFIG)])
        .route(
            at!("/users/{id}/permissions"),
            [get(list_user_permissions).class(CONFIG)],
        )
        .route(
            at!("/users/{id}/usergroups"),
            [get(list_user_groups).class(CONFIG)],
        )
        .route(
            at!("/users/{id}/password/resend"),
            [put(resend_password).class(CONFIG)],
        )
        .route(
            Invitation::COLLECTION,
            [
                get(list::<Invitation>).class(CONFIG),
                post(create::<Invitation>).class(CONFIG),
            ],
        )
        .route(
            Invitation::ITEM,
            [get(retrieve::<Invitation>).class(CONFIG)],
        );
    let table = groups(entity::<PermissionPolicy>(table));
    grants(table)
}

/// Who gets what a policy allows.
fn grants(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            at!("/permissionpolicies/{id}/addtoserviceuser"),
            [post(grant::<ServiceUser>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/addtosupportusers"),
            [post(grant::<SupportUsers>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/addtouser"),
            [post(grant::<User>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/addtousergroup"),
            [post(grant::<ResourceGroup>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/removefromserviceuser"),
            [post(withdraw::<ServiceUser>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/removefromsupportusers"),
            [post(withdraw::<SupportUsers>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/removefromuser"),
            [post(withdraw::<User>).class(CONFIG)],
        )
        .route(
            at!("/permissionpolicies/{id}/removefromusergroup"),
            [post(withdraw::<ResourceGroup>).class(CONFIG)],
        )
}

fn groups(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            ResourceGroup::COLLECTION,
            [
                get(list::<ResourceGroup>).class(CONFIG),
                post(create::<ResourceGroup>).class(CONFIG),
            ],
        )
        .route(
            ResourceGroup::ITEM,
            [
                get(retrieve::<ResourceGroup>).class(CONFIG),
                put(replace::<ResourceGroup>).class(CONFIG),
                delete(remove_group).class(CONFIG),
            ],
        )
        .route(
            at!("/resourcegroups/{type}/{id}/addresource"),
            [post(add_resource).class(CONFIG)],
        )
        .route(
            at!("/resourcegroups/{type}/{id}/removeresource"),
            [post(remove_resource).class(CONFIG)],
        )
        .route(
            at!("/resourcegroups/{type}/{id}/contents"),
            [post(list_contents).class(CONFIG)],
        )
        .route(
            at!("/resourcegroups/{type}/{id}/permissions"),
            [get(list_permissions).class(CONFIG)],
        )
}

fn usage(table: RouteTable<App>) -> RouteTable<App> {
    table
        .route(
            at!("/measurements"),
            [post(submit_measurements)
                .class(INGEST)
                .body_limit_bytes(BODY_MAX_BYTES)],
        )
        .route(at!("/usage/query"), [post(query_usage).class(EXPLORER)])
        .route(
            SavedQuery::COLLECTION,
            [
                get(list::<SavedQuery>).class(EXPLORER),
                post(create::<SavedQuery>).class(EXPLORER),
            ],
        )
        .route(
            SavedQuery::ITEM,
            [
                get(retrieve::<SavedQuery>).class(EXPLORER),
                put(replace::<SavedQuery>).class(EXPLORER),
                delete(remove::<SavedQuery>).class(EXPLORER),
            ],
        )
}

fn configuration(table: RouteTable<App>) -> RouteTable<App> {
    let table = singleton::<OrganizationConfig>(table);
    let table = singleton::<CustomFields>(table);
    let table = entity::<Product>(table);
    let table = entity::<Meter>(table);
    let table = entity::<Account>(table)
        .route(
            at!("/accounts/search"),
            [get(search::<Account>).class(CONFIG)],
        )
        .route(
            at!("/accounts/{id}/children"),
            [get(list_children).class(CONFIG)],
        )
        .route(
            at!("/accounts/{id}/enddatebillingentities"),
            [put(end_billing_entities).class(CONFIG)],
        );
    let table = entity::<Aggregation>(table);
    let table = entity::<CompoundAggregation>(table);
    let table = entity::<Counter>(table);
    item_routes::<CounterAdjustment>(table).route(
        CounterAdjustment::COLLECTION,
        [
            get(list_adjustments).class(CONFIG),
            post(create::<CounterAdjustment>).class(CONFIG),
        ],
    )
}

fn records(table: RouteTable<App>) -> RouteTable<App> {
    let table = entity::<Notification>(table);
    let table = entity::<ScheduledEvent>(table);
    let table = entity::<ExportDestination>(table);
    let table = entity::<ExportSchedule>(table);
    table
        .route(
            "/organizations/{orgId}/measurements/failedIngest/getDownloadUrl",
            [get(failure::download_url).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/fileuploads/measurements/generateUploadUrl",
            [post(upload::generate_url).class(CONFIG)],
        )
        .route(
            UploadJob::COLLECTION,
            [get(list_jobs::<UploadJob>).class(CONFIG)],
        )
        .route(UploadJob::ITEM, [get(upload::retrieve_job).class(CONFIG)])
        .route(
            "/organizations/{orgId}/fileuploads/measurements/jobs/{id}/original",
            [get(upload::original).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/events",
            [get(list_events).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/events/{id}",
            [get(retrieve_event).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/events/fields",
            [get(list_fields).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/events/types",
            [get(list_types).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/notifications/evaluate",
            [post(evaluate).class(CONFIG)],
        )
        .route(
            "/organizations/{orgId}/dataexports/adhoc",
            [post(export_job::create_adhoc).class(CONFIG)],
        )
        .route(
            ExportJob::COLLECTION,
            [get(list_jobs::<ExportJob>).class(CONFIG)],
        )
        .route(ExportJob::ITEM, [get(retrieve::<ExportJob>).class(CONFIG)])
        .route(
            "/organizations/{orgId}/dataexports/jobs/{id}/getdownloadurl",
            [get(export_job::download_url).class(CONFIG)],
        )
        .route(
            "/transfers/{token}",
            [
                get(transfer::download).public().class(TRANSFER),
                put(transfer::put_file)
                    .public()
                    .class(TRANSFER)
                    .body_limit_bytes(upload::FILE_BYTES_MAX)
                    .body_time_limit(TRANSFER_MAX)
                    .time_limit(TRANSFER_MAX),
            ],
        )
}

/// The five operations of a kind.
fn entity<E: Entity>(table: RouteTable<App>) -> RouteTable<App> {
    item_routes::<E>(table).route(
        E::COLLECTION,
        [
            get(list::<E>).class(CONFIG),
            post(create::<E>).class(CONFIG),
        ],
    )
}

fn item_routes<E: Entity>(table: RouteTable<App>) -> RouteTable<App> {
    table.route(
        E::ITEM,
        [
            get(retrieve::<E>).class(CONFIG),
            put(replace::<E>).class(CONFIG),
            delete(remove::<E>).class(CONFIG),
        ],
    )
}

/// The two operations of a kind of which there is one.
fn singleton<S: Singleton>(table: RouteTable<App>) -> RouteTable<App> {
    table.route(
        S::COLLECTION,
        [
            get(retrieve_only::<S>).class(CONFIG),
            put(replace_only::<S>).class(CONFIG),
        ],
    )
}
