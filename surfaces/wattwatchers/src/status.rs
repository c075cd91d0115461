//! What a device says of itself, and what it is asked to do (specs/wattwatchers.md 6.1).

use crate::access::Feeder;
use crate::app::App;
use crate::body::JsonBody;
use crate::command::Change;
use crate::device::{Comms, Device, DeviceView, SwitchState};
use crate::ingest::Outcome;
use crate::item::each_of;
use axum::extract::State;
use meterd_fault::{Kind, Resource};
use meterd_http::fields::{Fields, Form};
use meterd_http::{Failure, Params, Reply};
use meterd_model::{Alphabet, TextRule};
use serde::Serialize;
use serde_json::{Value, json};

/// Of anything that a device tells in words.
const WORDS: TextRule = TextRule {
    min_chars: 0,
    max_chars: 64,
    alphabet: Alphabet::Any,
};
/// Of any number that a device tells of its network.
const QUALITY_MAX: i64 = 1_000;
const RATING_MAX: i64 = 10_000;
const INTERVAL_SECONDS_MAX: i64 = 3_600;

/// What a device tells. Members that are none are as they were.
#[derive(Clone, Debug)]
struct Status {
    firmware_version: Option<String>,
    comms: Option<Comms>,
    /// What is so now, of what can be asked of it.
    applied: Vec<Change>,
}

impl Status {
    fn read(fields: &mut Fields<'_>, device: &Device) -> Self {
        let mut applied = Vec::new();
        let seconds = fields.integer("shortEnergyReportingInterval", 1, INTERVAL_SECONDS_MAX);
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        applied.extend(seconds.map(|seconds| Change::ReportingInterval { seconds }));
        applied.extend(each_of(
            fields,
            "channels",
            &device.channel_ids(),
            |channel, fields| {
                let amperes = fields.required_integer("ctRating", 1, RATING_MAX)?;
                let amperes = u32::try_from(amperes).ok()?;
                Some(Change::CtRating { channel, amperes })
            },
        ));
        applied.extend(each_of(
            fields,
            "switches",
            &device.switch_ids(),
            |switch, fields| {
                let state = fields.required_choice("state", &SwitchState::WORDS)?;
                Some(Change::Switch { switch, state })
            },
        ));
        Self {
            firmware_version: fields.checked_string("firmwareVersion", WORDS),
            comms: fields
                .object("comms")
                .and_then(|mut fields| read_comms(&mut fields)),
            applied,
        }
    }

    fn apply(&self, device: &mut Device) {
        if let Some(version) = &self.firmware_version {
            device.firmware_version = Some(version.clone()).filter(|text| !text.is_empty());
        }
        if let Some(comms) = &self.comms {
            device.reach_by(comms);
        }
        for change in &self.applied {
            device.confirm(change);
        }
    }
}

fn read_comms(fields: &mut Fields<'_>) -> Option<Comms> {
    let transports = [("cellular", "cellular"), ("wifi", "wifi")];
    let transport = fields.required_choice("type", &transports);
    Some(Comms {
        mode: fields.checked_string("mode", WORDS),
        cell_quality: fields.integer("cellQuality", -QUALITY_MAX, QUALITY_MAX),
        signal_quality_dbm: fields.integer("signalQualityDbm", -QUALITY_MAX, QUALITY_MAX),
        sim_id: fields.checked_string("simId", WORDS),
        apn: fields.checked_string("apn", WORDS),
        imsi: fields.checked_string("imsi", WORDS),
        network_id: fields.checked_string("networkId", WORDS),
        mac_address: fields.checked_string("macAddress", WORDS),
        transport: transport?.to_owned(),
    })
}

/// `POST /ingest/v1/devices/{id}/status`
pub(crate) async fn take_status(
    State(app): State<App>,
    feeder: Feeder,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Reply<Outcome>, Failure> {
    let device = feeder.device(&app, params.get("id"))?;
    let status = body.read(Form::LENIENT, |fields| {
        Some(Status::read(fields, &device.document))
    })?;
    app.note_device(feeder.author(), &device, move |device| {
        status.apply(device);
        Ok(())
    })
    .await?;
    let serial = &device.document.serial;
    app.heard
        .note_status(feeder.account(), serial, feeder.now());
    Ok(Reply::ok(Outcome {
        accepted: 1,
        ..Outcome::default()
    }))
}

#[derive(Debug, Serialize)]
pub(crate) struct Commands {
    commands: Vec<CommandView>,
}

/// A command as its device is told it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CommandView {
    n: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    target: String,
    value: Value,
    requested_at: i64,
}

/// `GET /ingest/v1/devices/{id}/commands`
pub(crate) async fn list_commands(
    State(app): State<App>,
    feeder: Feeder,
    params: Params,
) -> Result<Reply<Commands>, Failure> {
    let device = feeder.device(&app, params.get("id"))?;
    let device = &device.document;
    app.heard
        .note(feeder.account(), &device.serial, feeder.now());
    let commands = device.commands.iter().map(|command| {
        let (kind, target, value) = told(device, &command.change);
        CommandView {
            n: command.n,
            kind,
            target,
            value,
            requested_at: command.requested_at,
        }
    });
    Ok(Reply::ok(Commands {
        commands: commands.collect(),
    }))
}

/// What to do, to what, and how it is to be.
fn told(device: &Device, change: &Change) -> (&'static str, String, Value) {
    let itself = || device.serial.to_string();
    match change {
        Change::ReportingInterval { seconds } => {
            ("shortEnergyReportingInterval", itself(), json!(seconds))
        }
        Change::CtRating { channel, amperes } => {
            ("ctRating", device.channel_id(*channel), json!(amperes))
        }
        Change::Switch { switch, state } => ("switch", device.switch_id(*switch), json!(state)),
        Change::Wifi { ssid, psk } => ("wifi", itself(), json!({"ssid": ssid, "psk": psk})),
    }
}

/// `POST /ingest/v1/devices/{id}/commands/{n}/ack`
pub(crate) async fn acknowledge(
    State(app): State<App>,
    feeder: Feeder,
    params: Params,
) -> Result<Reply<DeviceView>, Failure> {
    let device = feeder.device(&app, params.get("id"))?;
    let sent = params.get("n").to_owned();
    let device = app
        .note_device(feeder.author(), &device, move |device| {
            let mut commands = device.commands.iter();
            let found = commands.find(|command| command.n.to_string() == sent);
            let change = found.map(|command| command.change.clone());
            device.confirm(&change.ok_or_else(|| Kind::ResourceNotFound {
                resource: Resource::Device,
                id: format!("command {sent}"),
            })?);
            Ok(())
        })
        .await?;
    app.heard
        .note(feeder.account(), &device.document.serial, feeder.now());
    Ok(Reply::ok(app.view(&device).await?))
}
