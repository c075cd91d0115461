//! The parts of a device that a body may change: channels, switches, phases, the network.

use super::Levels;
use crate::access::Level;
use crate::category::Category;
use crate::command::{Change, NetworkKey, numbered, numbered_mut};
use crate::device::{ContactorType, Device, Phases, SwitchState};
use crate::item::{ITEMS_MAX, each_of, one_of, position};
use crate::register::LABEL;
use meterd_fault::{JsonType, Problem, Rule};
use meterd_http::fields::Fields;
use meterd_http::json::{Json, child};
use meterd_model::{Alphabet, TextRule, Timestamp};
use std::collections::HashSet;

/// Amperes of the current transformers there are.
const RATINGS: [u32; 5] = [60, 120, 200, 400, 600];
const PHASES_MAX: i64 = 3;
const STATE_LABEL: TextRule = TextRule {
    min_chars: 0,
    max_chars: 16,
    alphabet: Alphabet::Any,
};
/// What a network may be called, and its key be (IEEE 802.11).
const SSID: TextRule = TextRule {
    min_chars: 0,
    max_chars: 32,
    alphabet: Alphabet::Any,
};
const PSK: TextRule = TextRule {
    min_chars: 0,
    max_chars: 64,
    alphabet: Alphabet::Any,
};

#[derive(Clone, Debug)]
pub(super) struct ChannelPatch {
    number: u8,
    label: Option<String>,
    category_id: Option<i64>,
    ct_rating: Option<u32>,
}

impl ChannelPatch {
    pub(super) fn read_all(
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Vec<Self> {
        let ids = device.channel_ids();
        each_of(fields, "channels", &ids, |number, fields| {
            Self::read(number, fields, device, levels)
        })
    }

    fn read(
        number: u8,
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Option<Self> {
        let channel = numbered(&device.channels, number)?;
        let rating = i64::from(channel.ct_rating);
        levels.note(fields, "label", Level::Metadata, channel.label.as_str());
        levels.note(fields, "categoryId", Level::Metadata, channel.category_id);
        let label = fields.checked_string("label", LABEL);
        let category_id = fields.integer("categoryId", i64::MIN, i64::MAX);
        let category_id = category_id.filter(|id| {
            let is_known = Category::of_id(*id).is_some();
            if !is_known {
                refuse_unless(fields, "categoryId", Category::ids());
            }
            is_known
        });
        let is_asked = device.is_asked(&Change::CtRating {
            channel: number,
            amperes: channel.ct_rating,
        });
        levels.note_wish(fields, "ctRating", Level::Configuration, rating, is_asked);
        let ct_rating = fields.integer("ctRating", i64::MIN, i64::MAX);
        // Those of Rogowski coils are what they are.
        let own = device.model.rating_amperes();
        let allowed = if RATINGS.contains(&own) {
            &RATINGS[..]
        } else {
            std::slice::from_ref(&own)
        };
        let ct_rating = ct_rating.and_then(|asked| {
            let found = u32::try_from(asked)
                .ok()
                .filter(|asked| allowed.contains(asked) || *asked == channel.ct_rating);
            if found.is_none() {
                refuse_unless(fields, "ctRating", allowed);
            }
            found
        });
        Some(Self {
            number,
            label,
            category_id,
            ct_rating,
        })
    }

    pub(super) fn apply(&self, device: &mut Device, now: Timestamp) {
        if let Some(channel) = numbered_mut(&mut device.channels, self.number) {
            if let Some(label) = &self.label {
                channel.label.clone_from(label);
            }
            channel.category_id = self.category_id.unwrap_or(channel.category_id);
        }
        if let Some(amperes) = self.ct_rating {
            let channel = self.number;
            device.ask(Change::CtRating { channel, amperes }, now);
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct SwitchPatch {
    number: u8,
    state: Option<SwitchState>,
    label: Option<String>,
    contactor_type: Option<ContactorType>,
    closed_state_label: Option<String>,
    open_state_label: Option<String>,
}

impl SwitchPatch {
    pub(super) fn read_all(
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Vec<Self> {
        let sends_some =
            matches!(fields.peek("switches"), Some(Json::Array(items)) if !items.is_empty());
        if device.switches.is_empty() && sends_some {
            let text = "must not be given: the device's model has no switches";
            refuse(fields, "switches", text);
            fields.take("switches");
            return Vec::new();
        }
        let ids = device.switch_ids();
        each_of(fields, "switches", &ids, |number, fields| {
            Self::read(number, fields, device, levels)
        })
    }

    fn read(
        number: u8,
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Option<Self> {
        let switch = numbered(&device.switches, number)?;
        let words = (
            word(&SwitchState::WORDS, switch.state),
            word(&ContactorType::WORDS, switch.contactor_type),
        );
        for (name, is_so) in [
            ("label", &switch.label),
            ("closedStateLabel", &switch.closed_state_label),
            ("openStateLabel", &switch.open_state_label),
        ] {
            levels.note(fields, name, Level::Metadata, is_so.as_str());
        }
        levels.note(fields, "contactorType", Level::Configuration, words.1);
        let is_asked = device.is_asked(&Change::Switch {
            switch: number,
            state: switch.state,
        });
        levels.note_wish(fields, "state", Level::Switching, words.0, is_asked);
        Some(Self {
            number,
            state: fields.choice("state", &SwitchState::WORDS),
            label: fields.checked_string("label", LABEL),
            contactor_type: fields.choice("contactorType", &ContactorType::WORDS),
            closed_state_label: fields.checked_string("closedStateLabel", STATE_LABEL),
            open_state_label: fields.checked_string("openStateLabel", STATE_LABEL),
        })
    }

    pub(super) fn apply(&self, device: &mut Device, now: Timestamp) {
        if let Some(switch) = numbered_mut(&mut device.switches, self.number) {
            for (text, sent) in [
                (&mut switch.label, &self.label),
                (&mut switch.closed_state_label, &self.closed_state_label),
                (&mut switch.open_state_label, &self.open_state_label),
            ] {
                if let Some(sent) = sent {
                    text.clone_from(sent);
                }
            }
            switch.contactor_type = self.contactor_type.unwrap_or(switch.contactor_type);
        }
        if let Some(state) = self.state {
            let switch = self.number;
            device.ask(Change::Switch { switch, state }, now);
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct PhasesPatch {
    count: Option<u8>,
    grouping: Option<Vec<Vec<u8>>>,
}

impl PhasesPatch {
    pub(super) fn read(
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Option<Self> {
        let before = fields.problems().len();
        let is_given = fields.peek("phases").is_some();
        let patch = fields.object("phases").map(|mut fields| Self {
            count: (fields.integer("count", 0, PHASES_MAX))
                .and_then(|count| u8::try_from(count).ok()),
            grouping: read_grouping(&mut fields, device),
        });
        let mut is_sound = fields.problems().len() == before;
        let phases = patch.as_ref().map(|patch| patch.over(&device.phases));
        if let Some((place, rule)) = phases.as_ref().filter(|_| is_sound).and_then(broken) {
            fields.problems().push(Problem::body(place, rule));
            is_sound = false;
        }
        let repeats = is_sound && phases.as_ref() == Some(&device.phases);
        if is_given && !repeats {
            levels.need(Level::Metadata);
        }
        patch.filter(|_| !repeats)
    }

    /// What the phases become.
    pub(super) fn over(&self, phases: &Phases) -> Phases {
        Phases {
            count: self.count.unwrap_or(phases.count),
            grouping: (self.grouping.clone()).unwrap_or_else(|| phases.grouping.clone()),
        }
    }
}

/// The first rule that phases break which are a matter of several members, and where.
pub(super) fn broken(phases: &Phases) -> Option<(String, Rule)> {
    let mut seen = HashSet::new();
    for (index, group) in phases.grouping.iter().enumerate() {
        let place = format!("/phases/grouping/{index}/included");
        if let Some(twice) = group.iter().position(|channel| !seen.insert(*channel)) {
            return Some((child(&place, &twice.to_string()), Rule::Unique));
        }
        if phases.count > 0 && group.len() > usize::from(phases.count) {
            let text = "must not have more channels than phases.count";
            return Some((place, other(text)));
        }
    }
    if phases.count == 0 && !phases.grouping.is_empty() {
        let text = "must be empty while phases.count is 0";
        return Some(("/phases/grouping".to_owned(), other(text)));
    }
    None
}

fn read_grouping(fields: &mut Fields<'_>, device: &Device) -> Option<Vec<Vec<u8>>> {
    let ids = device.channel_ids();
    let items = fields.array("grouping", ITEMS_MAX)?;
    let mut grouping = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let place = child("/phases/grouping", &index.to_string());
        let Some(mut group) = Fields::of_object(item, &place, fields.problems()) else {
            continue;
        };
        let Some(included) = group.required_array("included", ITEMS_MAX) else {
            continue;
        };
        let mut numbers = Vec::with_capacity(included.len());
        for (index, item) in included.into_iter().enumerate() {
            let rule = match item {
                Json::String(id) => match position(&ids, &id) {
                    Some(number) => {
                        numbers.push(number);
                        continue;
                    }
                    None => one_of(&ids),
                },
                _ => Rule::Type {
                    expected: JsonType::String,
                },
            };
            let place = child(&format!("{place}/included"), &index.to_string());
            group.problems().push(Problem::body(place, rule));
        }
        grouping.push(numbers);
    }
    Some(grouping)
}

/// What to use for reaching us.
#[derive(Clone, Debug)]
pub(super) struct CommsPatch {
    ssid: String,
    psk: NetworkKey,
}

impl CommsPatch {
    pub(super) fn read(
        fields: &mut Fields<'_>,
        device: &Device,
        levels: &mut Levels,
    ) -> Option<Self> {
        let mut comms = fields.object("comms")?;
        let mut wifi = comms.object("wifi")?;
        if !device.model.takes_wifi_credentials() {
            let text = "must not be given: the device's model takes no network";
            refuse(&mut comms, "wifi", text);
            return None;
        }
        levels.need(Level::Configuration);
        let ssid = wifi.required_checked("ssid", SSID);
        let psk = wifi.required_checked("psk", PSK);
        let (ssid, psk) = (ssid?, psk?);
        if ssid.is_empty() && !psk.is_empty() {
            refuse(&mut wifi, "psk", "must be empty without a network");
            return None;
        }
        let psk = NetworkKey(psk);
        Some(Self { ssid, psk })
    }

    pub(super) fn change(&self) -> Change {
        Change::Wifi {
            ssid: self.ssid.clone(),
            psk: self.psk.clone(),
        }
    }
}

fn refuse_unless(
    fields: &mut Fields<'_>,
    name: &str,
    allowed: impl IntoIterator<Item = impl ToString>,
) {
    let allowed = allowed.into_iter().map(|value| value.to_string().into());
    let allowed = allowed.collect();
    fields.refuse(name, Rule::OneOf { allowed });
}

fn refuse(fields: &mut Fields<'_>, name: &str, text: &'static str) {
    fields.refuse(name, other(text));
}

fn other(text: &'static str) -> Rule {
    Rule::Other {
        code: "not_supported",
        text: text.into(),
    }
}

fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, known)| *known == value);
    found.map_or("", |(word, _)| *word)
}
