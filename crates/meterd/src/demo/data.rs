//! What the demo loads: the hourly electricity of two households, the hourly flow of a water main (see
//! `demo-data/README.md` for sources and licences), and generated API usage of 50 accounts over 90 days.

use super::ensure_meter;
use crate::server::Parts;
use crate::terminal::{Unit, progress_bar};
use anyhow::{Context as _, anyhow};
use flate2::read::GzDecoder;
use meterd_control::Author;
use meterd_engine::{Batch, OnConflict, Verdict};
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp,
};
use std::time::Duration;

pub(super) const ACCOUNTS: u64 = 50;
pub(super) const DAYS: u64 = 90;
const BATCH_ROWS: usize = 10_000;
const HOUR: Duration = Duration::from_hours(1);

/// One series that was loaded, for the summary.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) id: MeterId,
    pub(super) meter: &'static str,
    /// The field that is shown.
    pub(super) field: &'static str,
    /// None for many subjects.
    pub(super) subject: Option<Subject>,
    pub(super) what: &'static str,
    pub(super) measurements: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// A file of `time,value` rows.
struct Series {
    meter: &'static str,
    definition: &'static str,
    field: &'static str,
    subject: &'static str,
    site: &'static str,
    what: &'static str,
    csv_gz: &'static [u8],
}

const ELECTRICITY: &str = r#"{"name":"electricity","kind":"delta","values":{"energy":{"unit":"kW.h"}},"attributes":["site"]}"#;
const WATER_FLOW: &str = r#"{"name":"water_flow","kind":"gauge","values":{"flow":{"unit":"L/s"}},"attributes":["site"]}"#;
const API_CALLS: &str = r#"{"name":"api_calls","kind":"delta","values":{"requests":{"unit":"1"},"bytes":{"unit":"By"}},"attributes":["region"]}"#;

pub(super) const ILLINOIS_CSV_GZ: &[u8] =
    include_bytes!("../../demo-data/il-electricity-cdd-hdd-hourly.csv.gz");
pub(super) const UK_CSV_GZ: &[u8] =
    include_bytes!("../../demo-data/uk-electricity-hdd-only-hourly-sample-0.csv.gz");

const SERIES: [Series; 3] = [
    Series {
        meter: "electricity",
        definition: ELECTRICITY,
        field: "energy",
        subject: "house-illinois",
        site: "Illinois, USA",
        what: "a household in Illinois, kWh per hour",
        csv_gz: ILLINOIS_CSV_GZ,
    },
    Series {
        meter: "electricity",
        definition: ELECTRICITY,
        field: "energy",
        subject: "house-uk",
        site: "United Kingdom",
        what: "a household in the UK, kWh per hour",
        csv_gz: UK_CSV_GZ,
    },
    Series {
        meter: "water_flow",
        definition: WATER_FLOW,
        field: "flow",
        subject: "main-branch-1",
        site: "Italy",
        what: "a branch of a water main in Italy, litres per second",
        csv_gz: include_bytes!("../../demo-data/water-flow.csv.gz"),
    },
];

/// Loads everything; ids are fixed, so that a second run adds only what is new.
pub(super) fn load(
    parts: &Parts,
    organization: OrganizationId,
    author: &Author,
) -> anyhow::Result<Vec<Loaded>> {
    let bar = progress_bar(0, "loading", Unit::Rows);
    let mut loaded = Vec::new();
    for series in &SERIES {
        let id = ensure_meter(parts, organization, series.definition, author)?;
        let mut summary = Loaded {
            id,
            meter: series.meter,
            field: series.field,
            subject: Some(Subject::new(series.subject)?),
            what: series.what,
            measurements: 0,
            first: Timestamp::MAX,
            last: Timestamp::MIN,
        };
        submit(
            parts,
            organization,
            author,
            series.rows(id)?,
            &mut summary,
            &bar,
        )?;
        loaded.push(summary);
    }
    let id = ensure_meter(parts, organization, API_CALLS, author)?;
    let mut summary = Loaded {
        id,
        meter: "api_calls",
        field: "requests",
        subject: None,
        what: "generated usage of 50 accounts, calls and bytes per hour",
        measurements: 0,
        first: Timestamp::MAX,
        last: Timestamp::MIN,
    };
    submit(
        parts,
        organization,
        author,
        api_usage(id, author.at)?,
        &mut summary,
        &bar,
    )?;
    loaded.push(summary);
    bar.finish_and_clear();
    Ok(loaded)
}

fn submit(
    parts: &Parts,
    organization: OrganizationId,
    author: &Author,
    mut rows: impl Iterator<Item = anyhow::Result<Measurement>>,
    summary: &mut Loaded,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    loop {
        let measurements: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect::<Result<_, _>>()?;
        if measurements.is_empty() {
            return Ok(());
        }
        let count = measurements.len() as u64;
        for row in &measurements {
            summary.first = summary.first.min(row.time);
            summary.last = summary.last.max(row.time);
        }
        let batch = Batch {
            organization,
            received: author.at,
            measurements,
            on_conflict: OnConflict::Reject,
        };
        let receipt = parts.engine.submit(batch)?.wait()?;
        if receipt.verdicts.contains(&Verdict::Conflict) {
            anyhow::bail!("the data directory holds other demo data; choose another with --data");
        }
        summary.measurements += count;
        bar.inc(count);
    }
}

impl Series {
    fn rows(
        &self,
        meter: MeterId,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Measurement>>> {
        let subject = Subject::new(self.subject)?;
        let field = FieldName::new(self.field)?;
        let site = FieldName::new("site")?;
        let site_name = self.site;
        let reader = csv::Reader::from_reader(GzDecoder::new(self.csv_gz));
        Ok(reader.into_records().map(move |record| {
            let record = record?;
            let (Some(time), Some(value)) = (record.get(0), record.get(1)) else {
                anyhow::bail!("{subject}: a row of {} cells", record.len());
            };
            let time = Timestamp::parse(time).map_err(|e| anyhow!("{subject}: {time} {e}"))?;
            let value: Decimal = value
                .parse()
                .map_err(|e| anyhow!("{subject}: {value} {e}"))?;
            Ok(Measurement {
                id: MeasurementId::new(format!("{subject}/{time}"))?,
                meter,
                subject: subject.clone(),
                time,
                end_time: Some(time.saturating_add(HOUR)),
                values: vec![(field.clone(), value)],
                attributes: vec![(site.clone(), AttributeValue::new(site_name)?)],
            })
        }))
    }
}

/// Hourly usage of every account, up to the present hour.
fn api_usage(
    meter: MeterId,
    now: Timestamp,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Measurement>>> {
    let names = UsageNames {
        meter,
        requests: FieldName::new("requests")?,
        bytes: FieldName::new("bytes")?,
        region: FieldName::new("region")?,
    };
    let this_hour = u64::try_from(now.seconds())? / 3600;
    let first_hour = this_hour.saturating_sub(DAYS * 24);
    let hours = (1..=ACCOUNTS).flat_map(move |a| (first_hour..this_hour).map(move |h| (a, h)));
    Ok(hours.map(move |(account, hour)| names.usage(account, hour)))
}

struct UsageNames {
    meter: MeterId,
    requests: FieldName,
    bytes: FieldName,
    region: FieldName,
}

impl UsageNames {
    /// One account's hour. Each account has a size, a region and working hours; the numbers follow from account and
    /// hour alone.
    fn usage(&self, account: u64, hour: u64) -> anyhow::Result<Measurement> {
        const REGIONS: [(&str, u64); 3] = [("eu", 13), ("us", 19), ("apac", 5)];
        let subject = Subject::new(format!("acct_{account:02}"))?;
        let (region, noon) = *REGIONS
            .get(usize::try_from(account % 3)?)
            .context("a region")?;
        // Some accounts are a hundred times the size of others, as customers are.
        let size = 20 + 4_000 / account;
        let noise = mixed(account, hour);
        let distance = (hour % 24).abs_diff(noon);
        let from_noon = distance.min(24 - distance);
        let weekday = (hour / 24 + 4) % 7;
        let weekend = if weekday == 0 || weekday == 6 { 3 } else { 10 };
        let calls = size * (13 - from_noon) * weekend * (50 + noise % 100) / 10_000;
        let hundredths = calls * (90_000 + noise % 40_000);
        let bytes = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let time = Timestamp::from_seconds(i64::try_from(hour * 3600)?).context("a time")?;
        Ok(Measurement {
            id: MeasurementId::new(format!("{subject}/{time}"))?,
            meter: self.meter,
            subject,
            time,
            end_time: Some(time.saturating_add(HOUR)),
            values: vec![
                (self.requests.clone(), Decimal::from(i64::try_from(calls)?)),
                (self.bytes.clone(), bytes.parse()?),
            ],
            attributes: vec![(self.region.clone(), AttributeValue::new(region)?)],
        })
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014) of two numbers: the same on every run.
pub(super) fn mixed(account: u64, hour: u64) -> u64 {
    let mut z = (account << 40 ^ hour).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
