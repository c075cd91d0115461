//! Making devices known (specs/wattwatchers.md 6.1).

use crate::access::{Feeder, forbidden};
use crate::app::App;
use crate::body::JsonBody;
use crate::device::{Device, DeviceView, KEYS_MAX};
use crate::model::Model;
use crate::serial::{Claim, Serial};
use axum::extract::State;
use meterd_control::{Applied, SERVER, Stored, Writes};
use meterd_fault::{Fault, JsonType, Problem, Resource, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::json::{Json, child};
use meterd_http::{Failure, LongWork, Params, Reply};
use meterd_model::{Alphabet, OrganizationId, TextRule, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Of what somebody calls a device, or a part of it.
pub const LABEL: TextRule = TextRule {
    min_chars: 0,
    max_chars: 64,
    alphabet: Alphabet::Any,
};

/// A device to be made known, or what is to become of one that is known; members that are none stay as they are.
#[derive(Clone, Debug)]
pub struct Registration {
    pub serial: Serial,
    pub model: Model,
    /// The model's, unless it says so.
    pub channels: Option<u8>,
    pub label: Option<String>,
    /// IANA name.
    pub timezone: Option<String>,
    /// Credentials that see it, beside those that see every device.
    pub keys: Option<BTreeSet<Uuid>>,
}

impl Registration {
    pub fn new(serial: Serial, model: Model) -> Self {
        Self {
            serial,
            model,
            channels: None,
            label: None,
            timezone: None,
            keys: None,
        }
    }

    fn read(
        app: &App,
        account: OrganizationId,
        serial: Serial,
        fields: &mut Fields<'_>,
        now: Timestamp,
    ) -> Option<Self> {
        let models: Vec<_> = (Model::codes())
            .filter_map(|code| Some((code, Model::named(code)?)))
            .collect();
        let model = fields.required_choice("model", &models);
        let max = model.map_or(u8::MAX, |model: Model| model.facts().channels);
        let channels = fields.integer("channelsCount", 1, max.into());
        let label = fields.checked_string("label", LABEL);
        let timezone = fields.zone("timezone").map(|zone| zone.name().to_owned());
        let keys = (fields.array("keys", KEYS_MAX))
            .map(|items| read_keys(app, account, items, fields, now));
        Some(Self {
            serial,
            model: model?,
            channels: channels.and_then(|channels| u8::try_from(channels).ok()),
            label,
            timezone,
            keys,
        })
    }
}

/// The credentials of API keys, which are given as such.
fn read_keys(
    app: &App,
    account: OrganizationId,
    items: Vec<Json>,
    fields: &mut Fields<'_>,
    now: Timestamp,
) -> BTreeSet<Uuid> {
    let mut keys = BTreeSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut refuse = |rule| {
            let place = child("/keys", &index.to_string());
            fields.problems().push(Problem::body(place, rule));
        };
        let Json::String(secret) = item else {
            let expected = JsonType::String;
            refuse(Rule::Type { expected });
            continue;
        };
        let credentials = app.control.credentials();
        match credentials.authenticate(crate::surface::SURFACE, &secret, now) {
            Ok(key) if key.organization == Some(account) => {
                keys.insert(key.id);
            }
            _ => refuse(Rule::UnknownReference {
                resource: Resource::Credential,
            }),
        }
    }
    keys
}

/// `PUT /ingest/v1/devices/{id}`
pub(crate) async fn register_device(
    State(app): State<App>,
    feeder: Feeder,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Reply<DeviceView>, Failure> {
    let serial = Serial::of_path(params.get("id"))?;
    let account = feeder.account();
    let registration = body.read(Form::STRICT, |fields| {
        Registration::read(&app, account, serial, fields, feeder.now())
    })?;
    let author = feeder.author();
    let (device, _) = app
        .blocking(move |app| {
            // As at each opening, for an account that had no device then.
            app.engine.set_id_window(account, None);
            app.control
                .store()
                .write(&author, |writes| register(writes, account, registration))
        })
        .await?;
    app.heard
        .note(account, &device.document.serial, feeder.now());
    Ok(Reply::ok(app.view(&device).await?))
}

/// The device with what the registration says. `ResourceForbidden` if another account has the serial number.
pub(crate) fn register(
    writes: &mut Writes<'_>,
    account: OrganizationId,
    wanted: Registration,
) -> Result<(Arc<Stored<Device>>, Applied), Fault> {
    let serial = wanted.serial.clone();
    let known = writes.find_by_key::<Device>(account, "id", serial.as_str())?;
    let Some(known) = known else {
        let claim = writes.find_by_key::<Claim>(SERVER, "id", serial.as_str())?;
        if claim.is_some() {
            return Err(forbidden(&serial, "register"));
        }
        let channels = channels_of(&wanted, wanted.model.facts().channels)?;
        let mut device = Device::new(serial.clone(), wanted.model, channels);
        device.apply(wanted);
        writes.create(SERVER, Claim { serial, account })?;
        return Ok((writes.create(account, device)?, Applied::Created));
    };
    let mut device = known.document.clone();
    let channels = u8::try_from(device.channels.len()).unwrap_or(u8::MAX);
    if channels_of(&wanted, channels)? != channels {
        // Records of either length would come in one answer.
        let problem = Problem::body("/channelsCount", Rule::Immutable);
        return Err(Fault::invalid(problem));
    }
    device.apply(wanted);
    if device == known.document {
        return Ok((known, Applied::Unchanged));
    }
    let stored = writes.update(account, known.id, None, |_| Ok(device))?;
    Ok((stored, Applied::Updated))
}

fn channels_of(wanted: &Registration, unless_said: u8) -> Result<u8, Fault> {
    let channels = wanted.channels.unwrap_or(unless_said);
    let max = wanted.model.facts().channels;
    if (1..=max).contains(&channels) {
        return Ok(channels);
    }
    let rule = Rule::Range {
        min: Some("1".to_owned()),
        max: Some(max.to_string()),
    };
    Err(Fault::invalid(Problem::body("/channelsCount", rule)))
}

impl Device {
    fn apply(&mut self, wanted: Registration) {
        if self.model != wanted.model {
            let fresh = Self::new(self.serial.clone(), wanted.model, 0);
            self.model = wanted.model;
            self.switches.truncate(fresh.switches.len());
            let more = fresh.switches.into_iter().skip(self.switches.len());
            self.switches.extend(more);
            let mut commands = std::mem::take(&mut self.commands);
            commands.retain(|command| self.can(&command.change));
            self.commands = commands;
        }
        if let Some(label) = wanted.label {
            self.label = Some(label).filter(|label| !label.is_empty());
        }
        self.timezone = wanted.timezone.or(self.timezone.take());
        if let Some(keys) = wanted.keys {
            self.keys = keys;
        }
    }
}
