//! Changing a device (specs/wattwatchers.md 3.3): a body is read whole, with everything that is wrong in it, before
//! anything changes.
//!
//! A member that says what is so already asks for nothing and needs no level: clients send back what they were given with
//! one member changed. What the hardware has to do first becomes a command.

mod items;

use self::items::{ChannelPatch, CommsPatch, PhasesPatch, SwitchPatch};
use crate::access::{Level, Reader};
use crate::app::App;
use crate::body::JsonBody;
use crate::command::Change;
use crate::device::{Device, DeviceView};
use crate::register::LABEL;
use crate::serial::{MALFORMED, Serial};
use axum::extract::State;
use meterd_fault::{Fault, Problem, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::json::Json;
use meterd_http::{Failure, Params, Reply};
use meterd_model::{Decimal, Timestamp};
use std::collections::BTreeSet;

/// What a device may be told about its reporting interval, in seconds.
const INTERVAL_SECONDS_MIN: i64 = 5;
const INTERVAL_SECONDS_MAX: i64 = 295;

/// `PATCH /devices/{id}`, and POST
pub(crate) async fn update_device(
    State(app): State<App>,
    reader: Reader,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Reply<DeviceView>, Failure> {
    let device = reader.device(&app, params.get("id"))?;
    let mut levels = Levels::default();
    let read = body.read(Form::LENIENT, |fields| {
        Some(Patch::read(fields, &device.document, &mut levels))
    });
    levels.permit(&reader, &device.document)?;
    let patch = read?;
    let now = reader.now();
    let changed = app
        .change_device(reader.author(), &device, move |device| {
            patch.apply(device, now)
        })
        .await?;
    Ok(Reply::ok(app.view(&changed).await?))
}

/// `POST /devices/{id}/reporting-interval`, which the original's own programs use
pub(crate) async fn set_reporting_interval(
    State(app): State<App>,
    reader: Reader,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Reply<DeviceView>, Failure> {
    let device = reader.device(&app, params.get("id"))?;
    reader.permit(Level::Configuration, &device.document)?;
    let seconds = body.read(Form::LENIENT, |fields| {
        fields.required_integer(
            "shortEnergyReportingInterval",
            INTERVAL_SECONDS_MIN,
            INTERVAL_SECONDS_MAX,
        )
    })?;
    let seconds = u32::try_from(seconds).map_err(Fault::internal)?;
    let now = reader.now();
    let changed = app
        .change_device(reader.author(), &device, move |device| {
            device.ask(Change::ReportingInterval { seconds }, now);
            Ok(())
        })
        .await?;
    Ok(Reply::ok(app.view(&changed).await?))
}

/// What the members that would change something need.
#[derive(Debug, Default)]
struct Levels(BTreeSet<Level>);

impl Levels {
    /// Drops a member that says what is so, which asks for nothing, whatever becomes of it until the body is applied. Any
    /// other needs the level.
    fn note(&mut self, fields: &mut Fields<'_>, name: &'static str, level: Level, is_so: impl Is) {
        match fields.peek(name) {
            None => {}
            Some(json) if is_so.is(json) => drop(fields.take(name)),
            Some(_) => self.need(level),
        }
    }

    /// The same of what the hardware may have been asked to change. Then what is so takes that wish back, unless the item
    /// says as well what is pending: so it was given to the client.
    fn note_wish(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        level: Level,
        is_so: impl Is,
        is_asked: bool,
    ) {
        let repeats = fields.take("pending").is_some();
        if !is_asked || repeats {
            self.note(fields, name, level, is_so);
        } else if fields.peek(name).is_some() {
            self.need(level);
        }
    }

    fn need(&mut self, level: Level) {
        self.0.insert(level);
    }

    /// A key that may change nothing is refused whatever the body says.
    fn permit(&self, reader: &Reader, device: &Device) -> Result<(), Fault> {
        if !reader.may_write() {
            return reader.permit(Level::Metadata, device);
        }
        (self.0.iter()).try_for_each(|level| reader.permit(*level, device))
    }
}

/// A value that a member may repeat.
trait Is: Copy {
    fn is(&self, json: &Json) -> bool;
}

impl Is for &str {
    fn is(&self, json: &Json) -> bool {
        matches!(json, Json::String(text) if text == self)
    }
}

impl Is for Option<&String> {
    fn is(&self, json: &Json) -> bool {
        self.is_some_and(|text| text.as_str().is(json))
    }
}

impl Is for i64 {
    fn is(&self, json: &Json) -> bool {
        let Json::Number(text) = json else {
            return false;
        };
        Decimal::parse(text.as_bytes()) == Ok(Decimal::from(*self))
    }
}

/// What a body asks for. Members that are none ask for nothing.
#[derive(Clone, Debug)]
struct Patch {
    label: Option<String>,
    timezone: Option<String>,
    channels: Vec<ChannelPatch>,
    switches: Vec<SwitchPatch>,
    phases: Option<PhasesPatch>,
    comms: Option<CommsPatch>,
}

impl Patch {
    /// Notes problems in `fields`, and in `levels` what the good and the bad members need.
    fn read(fields: &mut Fields<'_>, device: &Device, levels: &mut Levels) -> Self {
        if let Some(id) = fields.string("id") {
            match Serial::parse(&id) {
                None => fields.refuse("id", MALFORMED),
                Some(serial) if serial != device.serial => fields.refuse("id", Rule::Immutable),
                Some(_) => {}
            }
        }
        levels.note(fields, "label", Level::Metadata, device.label.as_ref());
        levels.note(
            fields,
            "timezone",
            Level::Metadata,
            device.timezone.as_ref(),
        );
        Self {
            label: fields.checked_string("label", LABEL),
            timezone: fields.zone("timezone").map(|zone| zone.name().to_owned()),
            channels: ChannelPatch::read_all(fields, device, levels),
            switches: SwitchPatch::read_all(fields, device, levels),
            phases: PhasesPatch::read(fields, device, levels),
            comms: CommsPatch::read(fields, device, levels),
        }
    }

    fn apply(&self, device: &mut Device, now: Timestamp) -> Result<(), Fault> {
        if let Some(label) = &self.label {
            device.label = Some(label.clone()).filter(|label| !label.is_empty());
        }
        if let Some(timezone) = &self.timezone {
            device.timezone = Some(timezone.clone());
        }
        for channel in &self.channels {
            channel.apply(device, now);
        }
        for switch in &self.switches {
            switch.apply(device, now);
        }
        if let Some(phases) = &self.phases {
            device.phases = phases.over(&device.phases);
            // Somebody else may have changed the other half of them.
            if let Some((place, rule)) = items::broken(&device.phases) {
                return Err(Fault::invalid(Problem::body(place, rule)));
            }
        }
        if let Some(comms) = &self.comms {
            device.ask(comms.change(), now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{ContactorType, SwitchState};
    use crate::model::Model;
    use meterd_http::fields::Problems;
    use meterd_http::json::parse;

    #[test]
    fn what_was_so_when_it_was_read_leaves_a_later_wish_alone() {
        let serial = Serial::parse("DD03710132282").unwrap();
        let mut device = Device::new(serial, Model::named("6M+3SW").unwrap(), 6);
        device.label = Some("Barn".to_owned());
        device.timezone = Some("UTC".to_owned());
        let body = br#"{"label": "Barn", "timezone": "UTC", "phases": {"count": 0, "grouping": []},
                        "channels": [{"id": "DD03710132282_C1", "label": "Channel 1", "categoryId": -1, "ctRating": 60}],
                        "switches": [{"id": "DD03710132282_S1", "label": "Switch 1", "contactorType": "NO",
                                      "closedStateLabel": "On", "openStateLabel": "Off", "state": "open"}]}"#;
        let mut problems = Problems::default();
        let json = parse(body, "", &mut problems).unwrap();
        let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
        let mut levels = Levels::default();
        let patch = Patch::read(&mut fields, &device, &mut levels);
        assert!(levels.0.is_empty());
        let now = Timestamp::parse_iso("2026-01-01T00:00:00Z").unwrap();
        device.label = Some("Shed".to_owned());
        device.timezone = Some("Asia/Tokyo".to_owned());
        device.phases.count = 1;
        device.channels[0].label = "Oven".to_owned();
        device.channels[0].category_id = 9;
        device.switches[0].label = "Pump".to_owned();
        device.switches[0].contactor_type = ContactorType::Nc;
        device.switches[0].closed_state_label = "Runs".to_owned();
        device.switches[0].open_state_label = "Rests".to_owned();
        for change in [
            Change::CtRating {
                channel: 1,
                amperes: 120,
            },
            Change::Switch {
                switch: 1,
                state: SwitchState::Closed,
            },
        ] {
            device.ask(change, now);
        }
        let asked = device.clone();
        patch.apply(&mut device, now).unwrap();
        assert_eq!(device, asked);
    }
}
