//! The demo's accounts of the Wattwatchers surface: devices at nine sites, what they measured until now, and what they go
//! on measuring and doing while the demo runs. Everything goes over the surface's own API.

mod site;

use self::site::{LONG_SECONDS, Measured, SITES, Site};
use super::ensure_named;
use crate::key::{Api, said, text};
use crate::server::{Parts, now, write_whole};
use crate::terminal::{Unit, progress_bar};
use anyhow::{Context as _, anyhow, bail};
use indicatif::ProgressBar;
use meterd_control::{Author, Issued, Organization};
use meterd_model::Timestamp;
use meterd_surface_wattwatchers::{
    KeyLimits, KeyRole, KeySees, Level, Model, NewKey, NewKeyLimits, Registration, Serial,
    create_key, register_device,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

const ACCOUNT: &str = "wattwatchers-demo";
/// Another one, whose devices nobody of the first may see.
const OTHER: &str = "wattwatchers-other";
/// With three switches.
const SWITCHED: &str = "DD10000000003";
const WITH_MODBUS: &str = "DD10000000004";
/// Registered, and never heard of again.
const EMPTY: &str = "DD10000000010";
const FOREIGN: &str = "DD20000000001";
/// Few, so that the server reads them where it serves connections: the allocator keeps what each further thread needed.
const RECORDS_PER_REQUEST: usize = 60;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// How far back Short Energy begins.
const SHORT_PAST_SECONDS: i64 = 2 * 60 * 60;
/// How often devices look whether something is asked of them, or due.
const TICK: Duration = Duration::from_secs(5);
/// How long a device needs to do what it is asked.
const OBEDIENCE_SECONDS: i64 = 3;
/// Of keys that tools use at full speed.
const AMPLE: KeyLimits = KeyLimits {
    per_second: 1_000,
    per_day: 10_000_000,
};
const NARROW: KeyLimits = KeyLimits {
    per_second: 5,
    per_day: 20,
};

/// What the ready file says of Wattwatchers. Members are stable: added, never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WattwatchersReady {
    pub(super) base_url: String,
    /// May change everything.
    pub(super) key: String,
    pub(super) read_only_key: String,
    /// 5 requests a second, 20 a day.
    pub(super) limited_key: String,
    pub(super) disabled_key: String,
    /// Sees no device.
    pub(super) empty_key: String,
    pub(super) ingest_key: String,
    /// Those that `key` sees.
    pub(super) devices: Vec<String>,
    pub(super) switch_device: String,
    pub(super) modbus_device: String,
    pub(super) empty_device: String,
    pub(super) foreign_device: String,
}

/// The accounts, their devices and keys; those of an earlier run if they still work.
pub(super) fn prepare(
    parts: &Parts,
    file: &Path,
    author: &Author,
) -> anyhow::Result<WattwatchersReady> {
    let kept = std::fs::read(file).ok();
    let kept: Option<WattwatchersReady> = kept.and_then(|text| serde_json::from_slice(&text).ok());
    let credentials = parts.control.credentials();
    let works = |key: &str| {
        credentials
            .authenticate("wattwatchers", key, author.at)
            .is_ok()
    };
    if let Some(kept) = kept
        && works(&kept.key)
        && works(&kept.ingest_key)
    {
        return Ok(kept);
    }
    let account = ensure_named(parts, Organization::named(ACCOUNT), author)?;
    let other = ensure_named(parts, Organization::named(OTHER), author)?;
    let register = |account, serial: &str, model: &str| {
        let model = Model::named(model).with_context(|| format!("no model {model}"))?;
        let registration = Registration::new(read_serial(serial)?, model);
        register_device(&parts.control, account, registration, author).map_err(said)
    };
    for site in &SITES {
        register(account, site.serial, site.model)?;
    }
    register(account, EMPTY, "6M")?;
    register(other, FOREIGN, "6M")?;
    let issue = |name: &str, role: KeyRole| {
        let name = name.to_owned();
        let new = NewKey { name, role };
        create_key(&parts.control, account, &new, author).map_err(said)
    };
    let key = |name: &str, role| Ok::<_, anyhow::Error>(secret(&issue(name, role)?));
    let all = |levels: &[Level], limits| KeyRole::Api {
        levels: levels.to_vec(),
        sees: KeySees::All,
        limits: NewKeyLimits::Own(limits),
    };
    let none = KeyRole::Api {
        levels: Level::ALL.to_vec(),
        sees: KeySees::These(BTreeSet::new()),
        limits: NewKeyLimits::Own(AMPLE),
    };
    let disabled = issue("demo, disabled", all(&Level::ALL, AMPLE))?;
    let id = disabled.credential.id;
    credentials.disable(id, author).map_err(said)?;
    let devices = SITES.iter().map(|site| site.serial).chain([EMPTY]);
    let ready = WattwatchersReady {
        base_url: String::new(),
        key: key("demo", all(&Level::ALL, AMPLE))?,
        read_only_key: key("demo, reading only", all(&[], AMPLE))?,
        limited_key: key("demo, limited", all(&Level::ALL, NARROW))?,
        disabled_key: secret(&disabled),
        empty_key: key("demo, no device", none)?,
        ingest_key: key("demo, devices", KeyRole::Ingest)?,
        devices: devices.map(str::to_owned).collect(),
        switch_device: SWITCHED.to_owned(),
        modbus_device: WITH_MODBUS.to_owned(),
        empty_device: EMPTY.to_owned(),
        foreign_device: FOREIGN.to_owned(),
    };
    write_whole(file, &serde_json::to_vec_pretty(&ready)?)?;
    Ok(ready)
}

fn read_serial(text: &str) -> anyhow::Result<Serial> {
    Serial::parse(text).ok_or_else(|| anyhow!("{text} is no serial number"))
}

fn secret(issued: &Issued) -> String {
    issued.secret.reveal().to_owned()
}

/// The devices, as the running server knows them.
pub(super) struct Fleet {
    sites: Vec<Measured>,
    /// With the ingest key.
    api: Api,
    /// Until when everything is sent.
    sent: Sent,
}

/// Stamps of the last records.
#[derive(Clone, Copy, Debug)]
struct Sent {
    long: i64,
    short: i64,
}

impl Fleet {
    /// The devices at the running server of the ready file, with all that they measured until now: the history on the
    /// first start, later what is missing since the last one, which the file tells.
    pub(super) fn fill(
        ready: &WattwatchersReady,
        history_days: u16,
        done: &Path,
    ) -> anyhow::Result<Self> {
        let now = now().seconds();
        let before = std::fs::read_to_string(done).ok();
        let before: Option<i64> = before.and_then(|text| text.trim().parse().ok());
        let mut fleet = Self {
            sites: SITES.iter().map(Measured::of).collect::<Result<_, _>>()?,
            api: Api::new(&ready.base_url, &ready.ingest_key),
            sent: Sent {
                long: now,
                short: now,
            },
        };
        let people = Api::new(&ready.base_url, &ready.key);
        if before.is_none() {
            fleet.configure(&people)?;
        }
        for measured in &mut fleet.sites {
            let path = format!("/devices/{}", measured.site.serial);
            measured.obey_interval(&people.get(&path, &[])?);
        }
        let bar = progress_bar(0, "measuring", Unit::Rows);
        for measured in &fleet.sites {
            let days = measured.site.days.min(history_days.into());
            let from = (now - days * DAY_SECONDS).max(before.unwrap_or(0));
            fleet.send_long(measured, from, now, &bar)?;
            let from = (now - SHORT_PAST_SECONDS).max(before.unwrap_or(0));
            fleet.send_short(measured, from, now, &bar)?;
        }
        bar.finish_and_clear();
        write_whole(done, now.to_string().as_bytes())?;
        Ok(fleet)
    }

    /// What people say of the devices, and what these say of themselves.
    fn configure(&self, people: &Api) -> anyhow::Result<()> {
        for Measured { site, .. } in &self.sites {
            let path = format!("/devices/{}", site.serial);
            people.post(&path, &description(site)).context(site.label)?;
            self.post(site, "/status", &status(site))?;
        }
        Ok(())
    }

    fn post(&self, site: &Site, path: &str, body: &Value) -> anyhow::Result<Value> {
        let path = format!("/ingest/v1/devices/{}{path}", site.serial);
        self.api.post(&path, body).context(site.label)
    }

    /// Long Energy of all stamps in `from < stamp <= to`, with what the device reads at its Modbus.
    fn send_long(
        &self,
        measured: &Measured,
        from: i64,
        to: i64,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let stamps = || stamps(from, to, LONG_SECONDS);
        let long = stamps().map(|stamp| measured.long(stamp));
        self.send(measured.site, "/long-energy", long, bar)?;
        if measured.site.serial == WITH_MODBUS {
            let modbus = stamps().map(|stamp| measured.modbus(stamp));
            self.send(measured.site, "/modbus", modbus, bar)?;
        }
        Ok(())
    }

    /// Short Energy of all stamps in `from < stamp <= to`.
    fn send_short(
        &self,
        measured: &Measured,
        from: i64,
        to: i64,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let stamps = stamps(from, to, measured.short_seconds);
        let short = stamps.map(|stamp| measured.short(stamp));
        self.send(measured.site, "/short-energy", short, bar)
    }

    fn send(
        &self,
        site: &Site,
        path: &str,
        mut records: impl Iterator<Item = impl Serialize>,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let path = format!("/ingest/v1/devices/{}{path}", site.serial);
        loop {
            let some: Vec<_> = records.by_ref().take(RECORDS_PER_REQUEST).collect();
            if some.is_empty() {
                return Ok(());
            }
            let body = serde_json::to_vec(&some)?;
            let sent = self.api.send(&path, "application/json", &body);
            let answer = sent.context(site.label)?;
            if answer.pointer("/rejected/0").is_some() {
                bail!("{}: {answer}", site.label);
            }
            bar.inc(some.len() as u64);
        }
    }

    /// Goes on measuring and obeying until told to stop.
    pub(super) fn live(mut self, stop: &Receiver<()>) {
        while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let done = self.send_due(now()).and_then(|()| self.obey(now()));
            if let Err(error) = done {
                // A server that is stopping answers so; another time it goes better.
                tracing::debug!("the demo's devices: {error:#}");
            }
        }
    }

    fn send_due(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let now = now.seconds();
        let silent = ProgressBar::hidden();
        let Sent { long, short } = self.sent;
        for measured in &self.sites {
            self.send_long(measured, long, now, &silent)?;
            self.send_short(measured, short, now, &silent)?;
        }
        self.sent = Sent {
            long: now,
            short: now,
        };
        Ok(())
    }

    /// Every device does what it was asked a while ago.
    fn obey(&mut self, now: Timestamp) -> anyhow::Result<()> {
        for measured in &mut self.sites {
            let site = measured.site;
            let path = format!("/ingest/v1/devices/{}/commands", site.serial);
            let asked = self.api.get(&path, &[])?;
            let commands = asked.get("commands").and_then(Value::as_array);
            for command in commands.into_iter().flatten() {
                let number = |name| command.get(name).and_then(Value::as_i64);
                let (Some(n), Some(at)) = (number("n"), number("requestedAt")) else {
                    bail!(
                        "{}: a command of type {}",
                        site.label,
                        text(command, "type")
                    );
                };
                if at + OBEDIENCE_SECONDS <= now.seconds() {
                    let path = format!("{path}/{n}/ack");
                    let device = self.api.post(&path, &json!({})).context(site.label)?;
                    measured.obey_interval(&device);
                }
            }
        }
        Ok(())
    }
}

impl Measured {
    /// Sends Short Energy as often as the API shows that the device does.
    fn obey_interval(&mut self, device: &Value) {
        let seconds = device.get("shortEnergyReportingInterval");
        self.short_seconds = seconds
            .and_then(Value::as_i64)
            .unwrap_or(self.short_seconds);
    }
}

/// The multiples of `step` in `from < stamp <= to`.
fn stamps(from: i64, to: i64, step: i64) -> impl Iterator<Item = i64> {
    let next = from.div_euclid(step) + 1;
    (next..=to.div_euclid(step)).map(move |count| count * step)
}

fn description(site: &Site) -> Value {
    let channels = (1..).zip(site.circuits).map(|(number, circuit)| {
        json!({
            "id": format!("{}_C{number}", site.serial), "label": circuit.label,
            "categoryId": circuit.category,
        })
    });
    let groups = site.phases.iter().map(|group| {
        let channels = group.iter().map(|n| format!("{}_C{n}", site.serial));
        json!({"included": channels.collect::<Vec<_>>()})
    });
    let mut description = json!({
        "label": site.label, "timezone": site.timezone, "channels": channels.collect::<Vec<_>>(),
        "phases": {"count": site.phase_count, "grouping": groups.collect::<Vec<_>>()},
    });
    if site.serial == SWITCHED {
        let switch = |n: u8, label: &str| json!({"id": format!("{SWITCHED}_S{n}"), "label": label});
        let switches = [
            switch(1, "Hot water"),
            switch(2, "Pool pump"),
            switch(3, "Car"),
        ];
        if let Some(members) = description.as_object_mut() {
            members.insert("switches".into(), json!(switches));
        }
    }
    description
}

fn status(site: &Site) -> Value {
    let number = site.number();
    let comms = if matches!(site.model, "6W" | "6W+3SW" | "6MW-CER") {
        json!({
            "type": "wifi", "macAddress": format!("02:00:5e:10:00:{number:02x}"),
            "signalQualityDbm": -61, "networkId": "site-wifi",
        })
    } else {
        json!({
            "type": "cellular", "mode": "4G", "cellQuality": 3, "signalQualityDbm": -79,
            "simId": format!("89610000000000000{number:03}"), "apn": "iot.example",
            "imsi": format!("5050100000{number:05}"), "networkId": "50501",
        })
    };
    json!({"firmwareVersion": "49.1.0", "comms": comms})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_sends_as_often_as_it_is_told() {
        let mut measured = Measured::of(&SITES[2]).unwrap();
        assert_eq!(measured.short(1_700_000_010).duration, 30);
        measured.obey_interval(&json!({"shortEnergyReportingInterval": 5}));
        assert_eq!(measured.short(1_700_000_010).duration, 5);
        measured.obey_interval(&json!({}));
        assert_eq!(measured.short(1_700_000_010).duration, 5);
    }

    #[test]
    fn stamps_begin_after_the_last_that_was_sent() {
        assert!(stamps(0, 299, 300).next().is_none());
        assert_eq!(stamps(0, 600, 300).collect::<Vec<_>>(), [300, 600]);
        assert_eq!(stamps(300, 901, 300).collect::<Vec<_>>(), [600, 900]);
    }
}
