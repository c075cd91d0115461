//! The demo's companies of the FSM Navigator surface: set up as the dashboard would, then filled over their own API.

use crate::key::{Api, said};
use crate::server::{Parts, now, write_whole};
use anyhow::Context as _;
use meterd_control::{
    Author, Control, Environment, Issued, LimitPolicy, NewCredential, Organization,
};
use meterd_model::{Date, Decimal, OrganizationId, Zone};
use meterd_surface_fsm_navigator::{
    DataSet, KEYS, NewMeter, NewTechnician, SCOPES, apply_asset_type, apply_meter,
    apply_stock_location, apply_technician, import_readings,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

const COMPANY: &str = "fsm-demo";
/// Another one, whose things nobody of the first may see.
const OTHER: &str = "fsm-other";
const CUSTOMERS: u64 = 40;
const ASSETS: u64 = 120;
const ITEMS: u64 = 12;
const WEEKS: i32 = 52;
/// Requests of a key in each tier's minute, so that trying things out meets no limit; and in a day.
const MANY: u64 = 10_000;
const MANY_A_DAY: u64 = 100_000;
/// Those of the key that shows the limits.
const FEW: u64 = 5;
/// The first is at all of them.
const TECHNICIANS: [(&str, &str, &str); 5] = [
    ("Ada", "Moore", "Van"),
    ("Ben", "Ortiz", "Truck"),
    ("Cleo", "Park", "Van"),
    ("Dan", "Quist", "Bicycle"),
    ("Eve", "Rossi", "Truck"),
];
/// Kind of asset, its meter, the meter's unit, and what it counts in a week.
const KINDS: [(&str, &str, &str, i64); 3] = [
    ("Generator", "Engine Hours", "hours", 41),
    ("Chiller", "Energy", "kWh", 1_270),
    ("Press", "Cycles", "cycles", 5_300),
];
/// How a job gets to each status from the first one.
const JOBS: [&[&str]; 9] = [
    &[],
    &["Assigned"],
    &["Assigned", "In-Transit"],
    &["Assigned", "In-Transit", "Arrived"],
    &["Assigned", "In Progress"],
    &["In Progress", "On Hold"],
    &["Assigned", "In Progress", "Completed"],
    &["Cancelled"],
    &["Declined"],
];
const ROUNDS_OF_JOBS: usize = 3;

/// What the ready file says of FSM Navigator. Members are stable: added, never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FsmNavigatorReady {
    pub(super) base_url: String,
    pub(super) key: String,
    pub(super) test_key: String,
    pub(super) jobs_read_key: String,
    pub(super) blocked_ip_key: String,
    pub(super) revoked_key: String,
    pub(super) limited_key: String,
    pub(super) other_company_key: String,
    pub(super) asset_id: u64,
    pub(super) asset_without_meter_id: u64,
    pub(super) meter_id: u64,
    pub(super) customer_id: u64,
    pub(super) location_id: u64,
}

/// The companies and their keys; those of an earlier run if they still work.
pub(super) fn prepare(
    parts: &Parts,
    file: &Path,
    author: &Author,
) -> anyhow::Result<FsmNavigatorReady> {
    let control = &parts.control;
    let kept = std::fs::read(file).ok();
    let kept: Option<FsmNavigatorReady> = kept.and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(kept) = kept
        && [&kept.key, &kept.test_key, &kept.other_company_key]
            .iter()
            .all(|key| works(control, key))
    {
        return Ok(kept);
    }
    let company = ensure_company(control, COMPANY, author)?;
    let other = ensure_company(control, OTHER, author)?;
    let issue = |new: NewCredential| -> anyhow::Result<Issued> {
        KEYS.check(&new, author.at).map_err(said)?;
        control.credentials().create(new, author).map_err(said)
    };
    let made = |new| issue(new).map(|issued| issued.secret.reveal().to_owned());
    let of = |company, environment, name: &str, scopes: &[&str], limit| {
        let key = KEYS.api_key(Some(company), environment, name);
        let mut key = key.with_permissions(scopes.iter().copied());
        key.limits = limits(limit);
        key
    };
    let live =
        |name: &str, scopes: &[&str], limit| of(company, Environment::Live, name, scopes, limit);
    let mut blocked = live("demo, from elsewhere", SCOPES, MANY);
    blocked.addresses = vec!["192.0.2.0/24".parse()?];
    let revoked = issue(live("demo, revoked", SCOPES, MANY))?;
    let credentials = control.credentials();
    credentials
        .revoke(revoked.credential.id, author)
        .map_err(said)?;
    let ready = FsmNavigatorReady {
        base_url: String::new(),
        key: made(live("demo", SCOPES, MANY))?,
        test_key: made(of(company, Environment::Test, "demo, test", SCOPES, MANY))?,
        jobs_read_key: made(live("demo, reading jobs", &["jobs:read"], MANY))?,
        blocked_ip_key: made(blocked)?,
        revoked_key: revoked.secret.reveal().to_owned(),
        limited_key: made(live("demo, limited", SCOPES, FEW))?,
        other_company_key: made(of(other, Environment::Live, "demo", SCOPES, MANY))?,
        asset_id: 1,
        asset_without_meter_id: ASSETS,
        meter_id: 1,
        customer_id: 1,
        location_id: 1,
    };
    write_whole(file, &serde_json::to_vec_pretty(&ready)?)?;
    Ok(ready)
}

fn works(control: &Control, key: &str) -> bool {
    let credentials = control.credentials();
    credentials.authenticate(KEYS.surface, key, now()).is_ok()
}

/// The same number in each tier, more in a day.
fn limits(limit: u64) -> Vec<LimitPolicy> {
    let tiers = ["fsm-list", "fsm-read", "fsm-write"].map(|name| (name, limit));
    let all = tiers.into_iter().chain([("fsm-daily", MANY_A_DAY)]);
    all.filter_map(|(name, limit)| KEYS.limit(name, limit))
        .collect()
}

fn ensure_company(
    control: &Control,
    name: &str,
    author: &Author,
) -> anyhow::Result<OrganizationId> {
    let store = control.store();
    let found = match store.organization_by_name(name) {
        Ok(found) => found,
        Err(_) => store
            .create_organization(Organization::named(name), author)
            .map_err(said)?,
    };
    Ok(found.organization_id())
}

/// Fills the companies, through the running server at `ready.base_url` and beside it, unless the file says that it is
/// done. What an interrupted run has made stays, since everything is made in one order.
pub(super) fn fill(parts: &Parts, ready: &FsmNavigatorReady, done: &Path) -> anyhow::Result<()> {
    if done.exists() {
        return Ok(());
    }
    let api = |key: &str| Api::with_header(&ready.base_url, "X-API-Key", key);
    let company = parts.control.store().organization_by_name(COMPANY);
    let set = DataSet {
        company: company.map_err(said)?.organization_id(),
        environment: Environment::Live,
    };
    fill_company(parts, &api(&ready.key), set).context("fill the FSM Navigator demo")?;
    let other = api(&ready.other_company_key);
    make_all(&other, "/customers", 3, customer)?;
    write_whole(done, b"")
}

fn fill_company(parts: &Parts, api: &Api, set: DataSet) -> anyhow::Result<()> {
    set_up(&parts.control, set).map_err(said)?;
    make_all(api, "/customers", CUSTOMERS, customer)?;
    for number in 1..=CUSTOMERS {
        let path = format!("/customers/{number}/locations");
        make_all(api, &path, 1, |_| location(number))?;
    }
    make_all(api, "/inventory", ITEMS, item)?;
    for number in 1..=ITEMS {
        let path = format!("/inventory/{number}/transactions");
        if total(api, &path)? == 0 {
            let body = json!({"location_id": 1, "quantity": 3 * number, "reason": "first count"});
            api.post(&format!("/inventory/{number}/adjust"), &body)?;
        }
    }
    make_all(api, "/assets", ASSETS, asset)?;
    for number in 1..ASSETS {
        measure(parts, set, number)?;
    }
    let jobs = total(api, "/jobs")?;
    let rounds = std::iter::repeat_n(JOBS, ROUNDS_OF_JOBS).flatten();
    for (number, statuses) in (1..).zip(rounds) {
        if number > jobs {
            api.post("/jobs", &job(number))?;
        }
        // The last one that is there may be on its way.
        if number >= jobs {
            let path = format!("/jobs/{number}");
            let now = api.get(&path, &[])?;
            let now = now.pointer("/job/job_status").and_then(Value::as_str);
            let done = statuses.iter().position(|status| Some(*status) == now);
            for status in statuses.iter().skip(done.map_or(0, |at| at + 1)) {
                api.patch(&path, &json!({"job_status": status}))?;
            }
        }
    }
    Ok(())
}

/// What there is of the API's lists.
fn total(api: &Api, path: &str) -> anyhow::Result<u64> {
    let list = api.get(path, &[])?;
    let total = list.pointer("/pagination/total").and_then(Value::as_u64);
    total.context("a list without a total")
}

/// Makes those up to `count` that are not there.
fn make_all(api: &Api, path: &str, count: u64, body: impl Fn(u64) -> Value) -> anyhow::Result<()> {
    for number in total(api, path)? + 1..=count {
        api.post(path, &body(number))?;
    }
    Ok(())
}

fn set_up(control: &Control, set: DataSet) -> Result<(), meterd_fault::Fault> {
    let author = Author::system(now());
    for (first_name, last_name, vehicle) in TECHNICIANS {
        let technician = NewTechnician {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            namesake: None,
            status: None,
            availability_status: None,
            vehicle_type: Some(vehicle.to_owned()),
            transport_modes: vec!["driving".to_owned()],
        };
        apply_technician(control, set, technician, &author)?;
    }
    for (kind, ..) in KINDS {
        apply_asset_type(control, set, kind, &author)?;
    }
    for place in ["Warehouse", "Van of Ada"] {
        apply_stock_location(control, set, place, &author)?;
    }
    Ok(())
}

fn customer(number: u64) -> Value {
    json!({
        "customer_name": format!("Customer {number}"),
        "customer_email": format!("office{number}@example.com"),
        "customer_phone": format!("+1217555{number:04}"),
        "default_sla_hours": 8 * (1 + number % 3),
    })
}

fn location(number: u64) -> Value {
    json!({
        "location_name": format!("Site {number}"),
        "street": format!("{number} Main St"),
        "city": "Springfield",
        "state": "IL",
        "zip": format!("62{number:03}"),
    })
}

fn item(number: u64) -> Value {
    json!({
        "part_number": format!("P-{number:03}"),
        "name": format!("Part {number}"),
        "category": if number.is_multiple_of(2) { "Filters" } else { "Seals" },
        "unit_cost": number,
        // The first ones are low.
        "min_stock_level": 10,
    })
}

/// The kind that an asset of this number is of.
fn kind_of(number: u64) -> (u64, (&'static str, &'static str, &'static str, i64)) {
    let index = number % KINDS.len() as u64;
    let kind = usize::try_from(index).ok().and_then(|at| KINDS.get(at));
    (index + 1, kind.copied().unwrap_or(("", "", "", 0)))
}

fn asset(number: u64) -> Value {
    let (kind_id, (kind, ..)) = kind_of(number);
    json!({
        "asset_name": format!("{kind} {number}"),
        "asset_type_id": kind_id,
        "serial_number": format!("SN-{:05}", number * 7_919 % 100_000),
        "condition": if number.is_multiple_of(4) { "Fair" } else { "Good" },
        "ownership_type": "company-owned",
        "location_id": 1 + (number - 1) % CUSTOMERS,
    })
}

/// Gives an asset its meter with a year of weekly readings, always by the same numbers.
fn measure(parts: &Parts, set: DataSet, number: u64) -> anyhow::Result<()> {
    let (_, (_, meter, unit, weekly)) = kind_of(number);
    let tag = format!("AST-{number:06}");
    let seed = i64::try_from(number)? * 104_729;
    let today = Date::of(now(), &Zone::UTC);
    let mut count = seed % 1_000;
    let mut readings = Vec::new();
    for week in (1..=WEEKS).rev() {
        count += weekly - seed % 11 + i64::from(week) % 7;
        let day = today.checked_add_days(-7 * week);
        readings.extend(day.map(|day| (day.start(&Zone::UTC), Decimal::from(count))));
    }
    let new = NewMeter {
        asset: tag.clone(),
        name: meter.to_owned(),
        unit: unit.to_owned(),
        initial_reading: None,
        threshold_value: Some(meterd_surface_fsm_navigator::Amount::Integer(
            count + weekly,
        )),
        threshold_action: Some("create_job".to_owned()),
    };
    let author = Author::system(now());
    apply_meter(&parts.control, set, &new, &author).map_err(said)?;
    let place = (tag.as_str(), meter);
    import_readings(
        &parts.control,
        &parts.engine,
        set,
        place,
        &readings,
        &author,
    )
    .map_err(said)?;
    Ok(())
}

fn job(number: u64) -> Value {
    json!({
        "job_title": format!("Inspect asset {number}"),
        "job_description": "As every year.",
        "job_priority": if number.is_multiple_of(4) { "Urgent" } else { "Medium" },
        "customer_location_id": 1 + (number - 1) % CUSTOMERS,
        "assigned_technician_id": 1 + number % TECHNICIANS.len() as u64,
        "asset_ids": [number],
    })
}
