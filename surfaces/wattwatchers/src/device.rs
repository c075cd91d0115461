//! Devices: what is known of each, and how the API shows it (specs/wattwatchers.md 3.2).

use crate::category::{Category, NOT_SET};
use crate::command::{Change, Command};
use crate::heard::Heard;
use crate::model::Model;
use crate::serial::Serial;
use crate::stream::Stream;
use meterd_control::Document;
use meterd_fault::{Fault, Kind, Resource};
use meterd_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// How often a device sends Short Energy unless told otherwise, in seconds.
const INTERVAL_SECONDS: u32 = 30;
/// Most API keys that one device names; those that see every device are not named.
pub(crate) const KEYS_MAX: usize = 200;

/// A device of an account. Channels and switches are numbered from 1 in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) serial: Serial,
    pub(crate) model: Model,
    pub(crate) label: Option<String>,
    /// IANA name.
    pub(crate) timezone: Option<String>,
    pub(crate) firmware_version: Option<String>,
    pub(crate) interval_seconds: u32,
    pub(crate) comms: Option<Comms>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) phases: Phases,
    pub(crate) switches: Vec<Switch>,
    /// What was asked for and the hardware has not confirmed, oldest first; at most one for each thing that can change.
    pub(crate) commands: Vec<Command>,
    /// The number of the last one.
    pub(crate) last_command: u64,
    /// Credentials that see it, beside those that see every device.
    pub(crate) keys: BTreeSet<Uuid>,
    /// Streams of which a record was ever stored.
    pub(crate) reported: BTreeSet<Stream>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Channel {
    pub(crate) label: String,
    pub(crate) category_id: i64,
    /// Amperes of its current transformer.
    pub(crate) ct_rating: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Phases {
    pub(crate) count: u8,
    /// Numbers of channels.
    pub(crate) grouping: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Switch {
    pub(crate) state: SwitchState,
    pub(crate) label: String,
    pub(crate) contactor_type: ContactorType,
    pub(crate) closed_state_label: String,
    pub(crate) open_state_label: String,
}

/// Closed: what it controls is on, whatever the contactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SwitchState {
    Open,
    Closed,
}

impl SwitchState {
    pub(crate) const WORDS: [(&'static str, Self); 2] =
        [("open", Self::Open), ("closed", Self::Closed)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ContactorType {
    /// Normally open.
    No,
    /// Normally closed.
    Nc,
}

impl ContactorType {
    pub(crate) const WORDS: [(&'static str, Self); 2] = [("NO", Self::No), ("NC", Self::Nc)];
}

/// How it last reached us, as it said itself. Also as the API shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Comms {
    /// `cellular` or `wifi`.
    #[serde(rename = "type")]
    pub(crate) transport: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cell_quality: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal_quality_dbm: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sim_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) apn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) imsi: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac_address: Option<String>,
}

impl Device {
    /// One about which nothing but its model is known, with the first `channels` of it in use.
    pub(crate) fn new(serial: Serial, model: Model, channels: u8) -> Self {
        let channel = |number| Channel {
            label: format!("Channel {number}"),
            category_id: NOT_SET,
            ct_rating: model.rating_amperes(),
        };
        let switch = |number| Switch {
            state: SwitchState::Open,
            label: format!("Switch {number}"),
            contactor_type: ContactorType::No,
            closed_state_label: "On".to_owned(),
            open_state_label: "Off".to_owned(),
        };
        Self {
            serial,
            model,
            label: None,
            timezone: None,
            firmware_version: None,
            interval_seconds: INTERVAL_SECONDS,
            comms: None,
            channels: (1..=channels).map(channel).collect(),
            phases: Phases::default(),
            switches: (1..=model.facts().switches).map(switch).collect(),
            commands: Vec::new(),
            last_command: 0,
            keys: BTreeSet::new(),
            reported: BTreeSet::new(),
        }
    }

    /// `CapabilityMissing` of what has no Modbus meter.
    pub(crate) fn expect_modbus(&self) -> Result<(), Fault> {
        if self.model.has_modbus() {
            return Ok(());
        }
        Err(Fault::new(Kind::CapabilityMissing {
            resource: Resource::Device,
            id: self.serial.to_string(),
            capability: "modbus",
        }))
    }

    pub(crate) fn channel_id(&self, number: u8) -> String {
        format!("{}_C{number}", self.serial)
    }

    pub(crate) fn switch_id(&self, number: u8) -> String {
        format!("{}_S{number}", self.serial)
    }

    pub(crate) fn channel_ids(&self) -> Vec<String> {
        let numbers = (1..=u8::MAX).take(self.channels.len());
        numbers.map(|number| self.channel_id(number)).collect()
    }

    pub(crate) fn switch_ids(&self) -> Vec<String> {
        let numbers = (1..=u8::MAX).take(self.switches.len());
        numbers.map(|number| self.switch_id(number)).collect()
    }
}

impl Document for Device {
    const KIND: &'static str = "wattwatchers_device";
    const RESOURCE: Resource = Resource::Device;
    const EVENT: &'static str = "wattwatchers.device";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("id", self.serial.to_string())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let keys = self.keys.iter();
        keys.map(|key| ("key", key.to_string())).collect()
    }
}

/// A device as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceView {
    id: Serial,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    model: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_status: Option<i64>,
    short_energy_reporting_interval: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<PendingInterval>,
    comms: CommsView,
    channels: Vec<ChannelView>,
    phases: PhasesView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    switches: Vec<SwitchView>,
}

/// Clients refuse members of `pending` that they do not know, so that it has no others (1.1).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PendingInterval {
    short_energy_reporting_interval: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PendingRating {
    ct_rating: u32,
}

#[derive(Debug, Serialize)]
struct PendingState {
    state: SwitchState,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CommsView {
    #[serde(flatten)]
    comms: Comms,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard_at: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelView {
    id: String,
    label: String,
    category_id: i64,
    category_label: &'static str,
    ct_rating: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<PendingRating>,
}

#[derive(Debug, Serialize)]
struct PhasesView {
    count: u8,
    grouping: Vec<GroupView>,
}

#[derive(Debug, Serialize)]
struct GroupView {
    included: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SwitchView {
    id: String,
    state: SwitchState,
    label: String,
    contactor_type: ContactorType,
    closed_state_label: String,
    open_state_label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<PendingState>,
}

impl DeviceView {
    pub(crate) fn of(device: &Device, heard: &Heard) -> Self {
        let interval = device.pending().find_map(|change| match change {
            Change::ReportingInterval { seconds } => Some(*seconds),
            _ => None,
        });
        Self {
            id: device.serial.clone(),
            label: device.label.clone(),
            timezone: device.timezone.clone(),
            model: device.model.facts().code,
            firmware_version: device.firmware_version.clone(),
            latest_status: heard.status.map(Timestamp::seconds),
            short_energy_reporting_interval: device.interval_seconds,
            pending: interval.map(|seconds| PendingInterval {
                short_energy_reporting_interval: seconds,
            }),
            comms: CommsView {
                comms: device.comms.clone().unwrap_or_else(|| Comms {
                    transport: device.model.transport().to_owned(),
                    ..Comms::default()
                }),
                last_heard_at: heard.any.map(Timestamp::seconds),
            },
            channels: device.channel_views(),
            phases: PhasesView {
                count: device.phases.count,
                grouping: (device.phases.grouping.iter())
                    .map(|group| GroupView {
                        included: group.iter().map(|n| device.channel_id(*n)).collect(),
                    })
                    .collect(),
            },
            switches: device.switch_views(),
        }
    }
}

impl Device {
    fn channel_views(&self) -> Vec<ChannelView> {
        let channels = (1_u8..).zip(&self.channels);
        let view = |(number, channel): (u8, &Channel)| ChannelView {
            id: self.channel_id(number),
            label: channel.label.clone(),
            category_id: channel.category_id,
            category_label: Category::of_id(channel.category_id).map_or("", |found| found.label),
            ct_rating: channel.ct_rating,
            pending: self.pending_rating(number),
        };
        channels.map(view).collect()
    }

    fn pending_rating(&self, number: u8) -> Option<PendingRating> {
        self.pending().find_map(|change| match *change {
            Change::CtRating { channel, amperes } if channel == number => {
                Some(PendingRating { ct_rating: amperes })
            }
            _ => None,
        })
    }

    fn switch_views(&self) -> Vec<SwitchView> {
        let switches = (1_u8..).zip(&self.switches);
        let view = |(number, switch): (u8, &Switch)| SwitchView {
            id: self.switch_id(number),
            state: switch.state,
            label: switch.label.clone(),
            contactor_type: switch.contactor_type,
            closed_state_label: switch.closed_state_label.clone(),
            open_state_label: switch.open_state_label.clone(),
            pending: self.pending_state(number),
        };
        switches.map(view).collect()
    }

    fn pending_state(&self, number: u8) -> Option<PendingState> {
        self.pending().find_map(|change| match *change {
            Change::Switch { switch, state } if switch == number => Some(PendingState { state }),
            _ => None,
        })
    }
}
