//! What the demo prints: what is loaded, what it looks like, and what to try.

use super::Ready;
use super::data::{ACCOUNTS, Loaded};
use crate::server::now;
use crate::terminal::grouped;
use meterd_engine::{Aggregation, Cancel, Engine, Filter, Function, GroupKey, Number, Query};
use meterd_model::{Decimal, FieldName, OrganizationId, Subject, Timestamp, Window, Zone};
use std::io::IsTerminal;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);
/// Days in the pictures.
const SHOWN_DAYS: u32 = 60;

/// Escape codes, or nothing where the output is no terminal.
struct Ink {
    bold: &'static str,
    dim: &'static str,
    accent: &'static str,
    end: &'static str,
}

impl Ink {
    fn of_stdout() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if colours {
            Self {
                bold: "\x1b[1m",
                dim: "\x1b[2m",
                accent: "\x1b[36m",
                end: "\x1b[0m",
            }
        } else {
            Self {
                bold: "",
                dim: "",
                accent: "",
                end: "",
            }
        }
    }
}

pub(super) fn show(
    ready: &Ready,
    loaded: &[Loaded],
    engine: &Engine,
    organization: OrganizationId,
) {
    let Ink {
        bold,
        dim,
        accent,
        end,
    } = Ink::of_stdout();
    println!(
        "\n{bold}meterd {}{end}  {dim}demo{end}\n",
        env!("CARGO_PKG_VERSION")
    );
    for series in loaded {
        println!(
            "  {:>9}  {bold}{:<12}{end} {:<58} {dim}{} to {}{end}",
            grouped(series.measurements),
            series.meter,
            series.what,
            date(series.first),
            date(series.last),
        );
    }
    println!();
    for series in loaded {
        let Some(bars) = picture(series, engine, organization) else {
            continue;
        };
        println!(
            "  {:<15} {accent}{bars}{end} {dim}{}, last {SHOWN_DAYS} days{end}",
            series
                .subject
                .as_ref()
                .map_or("all accounts", Subject::as_str),
            series.meter
        );
    }
    let native = &ready.native;
    println!("\n  {bold}Listening on {}{end}", ready.base_url);
    println!("  {dim}key            {}{end}", native.key);
    println!("  {dim}read-only key  {}{end}", native.read_only_key);
    println!("  {dim}admin key      {}{end}", native.admin_key);
    println!("  {dim}wattwatchers   {}{end}", ready.wattwatchers.key);
    println!("  {dim}fsm-navigator  {}{end}", ready.fsm_navigator.key);
    println!("  {dim}documentation  {}/docs{end}", ready.base_url);
    println!("\n  {bold}Requests worth trying{end}\n");
    for (title, command) in requests(ready) {
        println!("  {accent}{title}{end}\n{command}\n");
    }
    println!("  {dim}Ctrl-C stops; the data stays for the next run.{end}");
}

fn date(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

/// A bar per day of the series' last days.
fn picture(series: &Loaded, engine: &Engine, organization: OrganizationId) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (_, to) = Window::Day.around(series.last, &Zone::UTC);
    let meter = series.id;
    let query = Query {
        meter,
        from: to.saturating_sub(DAY * SHOWN_DAYS),
        to,
        zone: Zone::UTC,
        window: Some(Window::Day),
        group_by: Vec::<GroupKey>::new(),
        filter: Filter {
            subjects: series.subject.clone().map(|subject| vec![subject]),
            attributes: Vec::new(),
        },
        aggregations: vec![Aggregation {
            function: Function::Sum,
            field: Some(FieldName::new(series.field).ok()?),
        }],
        order_by: Vec::new(),
        offset: 0,
        limit: usize::try_from(SHOWN_DAYS).ok()?,
    };
    let answer = engine.query(organization, &query, &Cancel::new()).ok()?;
    let sums: Vec<i128> = answer
        .rows
        .iter()
        .map(|row| match row.values.first() {
            Some(Some(Number::Decimal(sum))) => sum.to_decimal().map_or(0, Decimal::units),
            _ => 0,
        })
        .collect();
    let top = sums.iter().copied().max().filter(|top| *top > 0)?;
    let bars = sums.iter().map(|sum| {
        let step = usize::try_from(sum.max(&0) * 7 / top).unwrap_or(0);
        BARS.get(step).copied().unwrap_or(' ')
    });
    Some(bars.collect())
}

fn week_of_device(ready: &Ready) -> String {
    let wattwatchers = &ready.wattwatchers;
    let device = wattwatchers.devices.first().map_or("", String::as_str);
    let from = now().saturating_sub(7 * DAY).seconds();
    format!(
        "    curl -s '{}/long-energy/{device}?fromTs={from}&granularity=day&timezone=America/Chicago&convert%5Benergy%5D=kWh' \\\n      -H 'Authorization: Bearer {}'",
        wattwatchers.base_url, wattwatchers.key
    )
}

fn newest_usage(ready: &Ready) -> String {
    let m3ter = &ready.m3ter;
    let (base_url, to) = (&m3ter.base_url, now());
    let from = date(to.saturating_sub(7 * DAY));
    let to = date(to.saturating_add(DAY));
    format!(
        r#"    TOKEN=$(curl -s {base_url}/oauth/token -u {}:{} \
      -d grant_type=client_credentials | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
    curl -s {base_url}/organizations/{}/usage/query -H "Authorization: Bearer $TOKEN" \
      -H 'Content-Type: application/json' -d '{{"startDate":"{from}T00:00:00Z","endDate":"{to}T00:00:00Z","limit":2}}'"#,
        m3ter.api_key, m3ter.api_secret, m3ter.org_id
    )
}

fn falling_reading(ready: &Ready) -> String {
    let fsm = &ready.fsm_navigator;
    format!(
        r#"    curl -s {}/assets/{}/meter_reading -H 'X-API-Key: {}' \
      -H 'Content-Type: application/json' -d '{{"meter_id":{},"reading_value":1}}'"#,
        fsm.base_url, fsm.asset_id, fsm.key, fsm.meter_id
    )
}

fn requests(ready: &Ready) -> [(String, String); 6] {
    let url = &ready.native.base_url;
    let key = &ready.native.key;
    let post = |path: &str, body: &str| {
        format!(
            "    curl -s {url}{path} -H 'Authorization: Bearer {key}' \\\n      -H 'Content-Type: application/json' -d '{body}'"
        )
    };
    [
        (
            "What did the house in Illinois use each month of 2017, by its own calendar?"
                .to_owned(),
            post(
                "/query",
                r#"{"meter":"electricity","from":"2017-01-01T00:00:00-06:00","to":"2018-01-01T00:00:00-06:00",
        "timezone":"America/Chicago","window":"month","filter":{"subject":["house-illinois"]},
        "aggregations":[{"function":"sum","field":"energy"},{"function":"max","field":"energy"}]}"#,
            ),
        ),
        (
            format!("Which five of the {ACCOUNTS} accounts call most?"),
            post(
                "/query",
                r#"{"meter":"api_calls","from":"2020-01-01T00:00:00Z","to":"2100-01-01T00:00:00Z",
        "group_by":["subject","region"],"aggregations":[{"function":"sum","field":"requests"}],
        "order_by":[{"value":"sum(requests)","descending":true}],"limit":5}"#,
            ),
        ),
        (
            "Send a measurement; send it again and it counts once; change it and hear why not"
                .to_owned(),
            post(
                "/measurements",
                r#"{"measurements":[{"id":"my-first","meter":"api_calls","subject":"acct_01",
        "time":"2026-11-01T12:00:00Z","values":{"requests":12,"bytes":345.25},"attributes":{"region":"eu"}}]}"#,
            ),
        ),
        (
            "What did the house in Illinois use each day of the last week, in kWh by circuit?"
                .to_owned(),
            week_of_device(ready),
        ),
        (
            "What came last, asked as m3ter's clients do?".to_owned(),
            newest_usage(ready),
        ),
        (
            "Send an asset's meter less than it read last, and hear why not".to_owned(),
            falling_reading(ready),
        ),
    ]
}
