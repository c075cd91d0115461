//! The demo's organizations of the m3ter surface, filled over its own API.

use crate::key::{Api, said, text};
use crate::server::{Parts, now, write_whole};
use anyhow::Context as _;
use meterd_control::{Author, Credential, Organization};
use meterd_model::{Date, OrganizationId, Zone};
use meterd_surface_m3ter::{NewUser, apply_user, create_service_user, provision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const ORGANIZATION: &str = "m3ter-demo";
/// Another one, whose things nobody of the first may see.
const OTHER: &str = "m3ter-other";
const ADMINISTRATOR: &str = "Administrator";
const ACCOUNTS: u32 = 50;
const PARENTS: u32 = 5;
const DAYS: i32 = 90;
const ROWS_PER_REQUEST: usize = 1_000;
const HOUR: Duration = Duration::from_hours(1);

/// What the ready file says of m3ter. Members are stable: added, never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct M3terReady {
    pub(super) base_url: String,
    pub(super) org_id: OrganizationId,
    pub(super) api_key: String,
    pub(super) api_secret: String,
    /// May fetch tokens and nothing else.
    pub(super) restricted_api_key: String,
    pub(super) restricted_api_secret: String,
    pub(super) other_org_id: OrganizationId,
    /// Of the administrator, a day old.
    pub(super) expired_token: String,
}

/// The organizations and their keys; those of an earlier run if they still work.
pub(super) fn prepare(parts: &Parts, file: &Path, author: &Author) -> anyhow::Result<M3terReady> {
    let control = &parts.control;
    let kept = std::fs::read(file).ok();
    let kept: Option<M3terReady> = kept.and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(kept) = kept
        && client(parts, &kept.api_key, &kept.api_secret).is_ok()
        && client(parts, &kept.restricted_api_key, &kept.restricted_api_secret).is_ok()
    {
        return Ok(kept);
    }
    let organization = ensure_organization(parts, ORGANIZATION, author)?;
    let other = ensure_organization(parts, OTHER, author)?;
    let service_user = |name, policies: &[&str]| {
        create_service_user(control, organization, name, policies, author).map_err(said)
    };
    let all = service_user("demo", &[ADMINISTRATOR])?;
    let restricted = service_user("demo, restricted", &[])?;
    let credential = client(parts, &all.api_key, all.api_secret.reveal())?;
    let yesterday = author.at.saturating_sub(24 * HOUR);
    let expired = control
        .tokens()
        .issue(&credential, Duration::from_secs(1), yesterday)
        .map_err(said)?;
    let ready = M3terReady {
        base_url: String::new(),
        org_id: organization,
        api_key: all.api_key,
        api_secret: all.api_secret.reveal().to_owned(),
        restricted_api_key: restricted.api_key,
        restricted_api_secret: restricted.api_secret.reveal().to_owned(),
        other_org_id: other,
        expired_token: expired.token.reveal().to_owned(),
    };
    write_whole(file, &serde_json::to_vec_pretty(&ready)?)?;
    Ok(ready)
}

fn client(parts: &Parts, key: &str, secret: &str) -> anyhow::Result<Arc<Credential>> {
    let credentials = parts.control.credentials();
    credentials
        .authenticate_client("m3ter", key, secret, now())
        .map_err(said)
}

fn ensure_organization(
    parts: &Parts,
    name: &str,
    author: &Author,
) -> anyhow::Result<OrganizationId> {
    let organization = super::ensure_named(parts, Organization::named(name), author)?;
    provision(&parts.control, organization, author).map_err(said)?;
    Ok(organization)
}

/// Fills the organization through the running server at `ready.base_url`, unless the file says that it is done.
pub(super) fn fill(parts: &Parts, ready: &M3terReady, done: &Path) -> anyhow::Result<()> {
    if done.exists() {
        return Ok(());
    }
    let credential = client(parts, &ready.api_key, &ready.api_secret)?;
    let token = parts.control.tokens().issue(&credential, HOUR, now());
    let token = token.map_err(said)?.token;
    let base = format!("{}/organizations/{}", ready.base_url, ready.org_id);
    let api = Api::new(&base, token.reveal());
    configure(&api).context("fill the m3ter demo")?;
    measure(&api).context("fill the m3ter demo")?;
    for (email, first, last) in [
        ("ada@example.com", "Ada", "Moore"),
        ("ben@example.com", "Ben", "Ortiz"),
    ] {
        let user = NewUser {
            email: email.to_owned(),
            first_name: first.to_owned(),
            last_name: last.to_owned(),
            contact_number: None,
        };
        apply_user(&parts.control, ready.org_id, user, &Author::system(now())).map_err(said)?;
    }
    write_whole(done, b"")
}

/// Creates something, or finds what an interrupted run has created under the same code.
fn create(api: &Api, path: &str, body: &Value) -> anyhow::Result<String> {
    let made = match api.post(path, body) {
        Ok(made) => made,
        Err(error) => {
            let code = text(body, "code");
            let found = api.get(path, &[("codes", code.to_owned())])?;
            match found.pointer("/data/0") {
                Some(first) if !code.is_empty() => first.clone(),
                _ => return Err(error),
            }
        }
    };
    Ok(text(&made, "id").to_owned())
}

fn configure(api: &Api) -> anyhow::Result<()> {
    let product = create(
        api,
        "/products",
        &json!({"name": "Cloud storage", "code": "cloud-storage"}),
    )?;
    let compute = create(
        api,
        "/products",
        &json!({"name": "Compute", "code": "compute"}),
    )?;
    let storage = create(
        api,
        "/meters",
        &json!({
            "productId": product, "name": "Storage", "code": "storage",
            "dataFields": [
                {"category": "MEASURE", "code": "bytes", "name": "Bytes", "unit": "By"},
                {"category": "WHERE", "code": "region", "name": "Region"},
            ],
            "derivedFields": [{
                "category": "MEASURE", "code": "gib", "name": "GiB", "unit": "GiB",
                "calculation": "bytes / 1073741824",
            }],
        }),
    )?;
    let calls = create(
        api,
        "/meters",
        &json!({
            "productId": product, "name": "API calls", "code": "api-calls",
            "dataFields": [
                {"category": "MEASURE", "code": "calls", "name": "Calls"},
                {"category": "WHAT", "code": "endpoint", "name": "Endpoint"},
            ],
            "derivedFields": [],
        }),
    )?;
    let machines = create(
        api,
        "/meters",
        &json!({
            "productId": compute, "name": "Compute", "code": "compute",
            "dataFields": [{"category": "COST", "code": "cost", "name": "Cost", "unit": "USD"}],
            "derivedFields": [],
        }),
    )?;
    create(
        api,
        "/meters",
        &json!({
            "name": "Seats used", "code": "seats-used",
            "dataFields": [{"category": "MEASURE", "code": "seats", "name": "Seats"}],
            "derivedFields": [],
        }),
    )?;
    let aggregation = |name: &str, code: &str, meter: &str, field: &str, function: &str| {
        json!({
            "name": name, "code": code, "meterId": meter, "targetField": field, "aggregation": function,
            "rounding": "UP", "quantityPerUnit": 1, "unit": "1",
        })
    };
    let by_region = with(
        aggregation("Storage by region", "gib_by_region", &storage, "gib", "MAX"),
        &json!({"segmentedFields": ["region"], "segments": [{"region": "eu"}, {"region": "us"}]}),
    );
    for body in [
        aggregation("Stored", "stored", &storage, "gib", "MAX"),
        by_region,
        aggregation("Calls", "calls", &calls, "calls", "SUM"),
        aggregation("Cost", "cost", &machines, "cost", "SUM"),
    ] {
        create(api, "/aggregations", &body)?;
    }
    create(
        api,
        "/compoundaggregations",
        &json!({
            "name": "Calls for each GiB", "code": "calls_per_gib", "productId": product, "unit": "1",
            "calculation": "aggregation.calls / aggregation.stored", "rounding": "NONE", "quantityPerUnit": 1,
        }),
    )?;
    let mut accounts = Vec::new();
    for parent in 0..PARENTS {
        let code = format!("parent-{parent:02}");
        let body = json!({"name": format!("Parent {parent}"), "code": code, "emailAddress": "billing@example.com"});
        let id = create(api, "/accounts", &body)?;
        let code = account_code(parent);
        let body = json!({
            "name": format!("Customer {parent}"), "code": code, "emailAddress": "billing@example.com",
            "parentAccountId": id,
        });
        accounts.push(create(api, "/accounts", &body)?);
    }
    let counter = create(
        api,
        "/counters",
        &json!({"name": "Seats", "code": "seats", "unit": "seat", "productId": product}),
    )?;
    for (date, value) in [("2026-01-01", 5), ("2026-02-01", 8)] {
        let body = json!({"counterId": counter, "accountId": accounts.first(), "date": date, "value": value});
        // One that an interrupted run has made is there already.
        let _ = api.post("/counteradjustments", &body);
    }
    create(
        api,
        "/notifications/configurations",
        &json!({
            "name": "Account renamed", "description": "The code of an account changed", "code": "renamed",
            "eventName": "configuration.account.updated", "calculation": "new.code != old.code",
        }),
    )?;
    let _ = api.post(
        "/scheduledevents/configurations",
        &json!({"name": "review", "entity": "account", "field": "dtCreated", "offset": 30}),
    );
    create(
        api,
        "/dataexports/destinations",
        &json!({
            "name": "Archive", "code": "archive", "bucketName": "usage-archive",
            "iamRoleArn": "arn:aws:iam::123456789012:role/exports",
        }),
    )?;
    create(
        api,
        "/dataexports/schedules",
        &json!({
            "name": "Accounts, daily", "code": "accounts-daily", "sourceType": "OPERATIONAL",
            "operationalDataTypes": ["ACCOUNTS"],
        }),
    )?;
    api.post(
        "/dataexports/adhoc",
        &json!({"sourceType": "OPERATIONAL", "operationalDataTypes": ["PRODUCTS", "METERS"]}),
    )?;
    api.post(
        "/fileuploads/measurements/generateUploadUrl",
        &json!({"fileName": "march.json", "contentType": "application/json", "contentLength": 1024}),
    )?;
    api.post(
        "/invitations",
        &json!({"firstName": "Cleo", "lastName": "Park", "email": "cleo@example.com"}),
    )?;
    Ok(())
}

/// An object with more members.
fn with(mut object: Value, more: &Value) -> Value {
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    object
}

fn account_code(account: u32) -> String {
    format!("customer-{account:02}")
}

/// A row of each meter for each account and day, always with the same values.
fn measure(api: &Api) -> anyhow::Result<()> {
    let today = Date::of(now(), &Zone::UTC);
    let mut rows = Vec::with_capacity(ROWS_PER_REQUEST);
    for days_ago in 1..=DAYS {
        let Some(day) = today.checked_add_days(-days_ago) else {
            continue;
        };
        for account in 0..ACCOUNTS {
            // Some variety that is the same on each machine.
            let seed = u64::from(account) * 7_919 + u64::from(days_ago.unsigned_abs()) * 104_729;
            for meter in ["storage", "api-calls", "compute", "seats-used"] {
                let row = json!({
                    "uid": format!("demo-{meter}-{account}-{day}"), "meter": meter,
                    "account": account_code(account), "ts": format!("{day}T{:02}:00:00Z", seed % 24),
                });
                let region = if seed % 3 == 0 { "us" } else { "eu" };
                let endpoint = if seed % 2 == 0 { "read" } else { "write" };
                let fields = match meter {
                    "storage" => json!({
                        "measure": {"bytes": 1_073_741_824 + seed % 997 * 10_485_760},
                        "where": {"region": region},
                    }),
                    "api-calls" => json!({
                        "measure": {"calls": seed % 5_000},
                        "what": {"endpoint": endpoint},
                    }),
                    "compute" => json!({"cost": {"cost": seed % 100}}),
                    _ => json!({"measure": {"seats": 1 + seed % 12}}),
                };
                rows.push(with(row, &fields));
                if rows.len() == ROWS_PER_REQUEST {
                    submit(api, &mut rows)?;
                }
            }
        }
    }
    // One that fails, so that there is something to look at.
    rows.push(json!({
        "uid": "demo-unknown", "meter": "unknown", "account": account_code(0), "ts": "2026-01-01T00:00:00Z",
    }));
    submit(api, &mut rows)
}

fn submit(api: &Api, rows: &mut Vec<Value>) -> anyhow::Result<()> {
    let body = json!({"measurements": std::mem::take(rows)});
    api.post("/measurements", &body).map(drop)
}
