//! What was asked of a device and waits for its confirmation (specs/wattwatchers.md 3.3, 6.1).

use crate::device::{Comms, Device, SwitchState};
use meterd_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// Rises with each command of the device.
    pub(crate) n: u64,
    #[serde(flatten)]
    pub(crate) change: Change,
    /// Seconds since 1970.
    pub(crate) requested_at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Change {
    ReportingInterval {
        seconds: u32,
    },
    CtRating {
        channel: u8,
        amperes: u32,
    },
    Switch {
        switch: u8,
        state: SwitchState,
    },
    /// Both empty: back to the cellular network.
    Wifi {
        ssid: String,
        psk: NetworkKey,
    },
}

/// The key of a network, which its device alone is shown.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NetworkKey(pub(crate) String);

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey")
    }
}

impl Change {
    /// Whether both are about the same thing.
    fn is_rival_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ReportingInterval { .. }, Self::ReportingInterval { .. })
            | (Self::Wifi { .. }, Self::Wifi { .. }) => true,
            (Self::CtRating { channel: a, .. }, Self::CtRating { channel: b, .. })
            | (Self::Switch { switch: a, .. }, Self::Switch { switch: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// What has this number, from 1.
pub(crate) fn numbered<T>(items: &[T], number: u8) -> Option<&T> {
    items.get(usize::from(number).checked_sub(1)?)
}

impl Device {
    /// What waits, oldest first. A command that only takes another back says what is so, and is the hardware's alone.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Change> {
        let changes = self.commands.iter().map(|command| &command.change);
        changes.filter(|change| !self.is_so(change))
    }

    /// Whether something about the same thing is pending.
    pub(crate) fn is_asked(&self, change: &Change) -> bool {
        self.pending().any(|pending| pending.is_rival_of(change))
    }

    /// Asks the hardware for a change, in place of an earlier wish about the same thing. What is so already is asked for
    /// only to take such a wish back: the hardware may have it by now.
    pub(crate) fn ask(&mut self, change: Change, now: Timestamp) {
        let is_asked = |command: &Command| command.change == change;
        if self.commands.iter().any(is_asked) {
            return;
        }
        let waited = self.commands.len();
        self.commands
            .retain(|command| !command.change.is_rival_of(&change));
        if self.is_so(&change) && self.commands.len() == waited {
            return;
        }
        self.last_command += 1;
        self.commands.push(Command {
            n: self.last_command,
            change,
            requested_at: now.seconds(),
        });
    }

    /// Whether it has what is to change.
    pub(crate) fn can(&self, change: &Change) -> bool {
        match change {
            Change::ReportingInterval { .. } => true,
            Change::CtRating { channel, .. } => numbered(&self.channels, *channel).is_some(),
            Change::Switch { switch, .. } => numbered(&self.switches, *switch).is_some(),
            Change::Wifi { .. } => self.model.takes_wifi_credentials(),
        }
    }

    /// What the hardware says is so; whatever was asked for about the same thing and is met now waits no longer.
    pub(crate) fn confirm(&mut self, change: &Change) {
        match change {
            Change::ReportingInterval { seconds } => self.interval_seconds = *seconds,
            Change::CtRating { channel, amperes } => {
                if let Some(channel) = numbered_mut(&mut self.channels, *channel) {
                    channel.ct_rating = *amperes;
                }
            }
            Change::Switch { switch, state } => {
                if let Some(switch) = numbered_mut(&mut self.switches, *switch) {
                    switch.state = *state;
                }
            }
            Change::Wifi { .. } => {}
        }
        self.commands.retain(|command| command.change != *change);
    }

    /// The hardware says how it reaches us. When it has gone over to a network that it was asked to use, that waits no longer;
    /// of one that it was on already it may still have to be told another key.
    pub(crate) fn reach_by(&mut self, comms: &Comms) {
        let before = self.comms.replace(comms.clone());
        self.commands.retain(|command| match &command.change {
            Change::Wifi { ssid, .. } => {
                !comms.is_on(ssid) || before.as_ref().is_some_and(|before| before.is_on(ssid))
            }
            _ => true,
        });
    }

    fn is_so(&self, change: &Change) -> bool {
        match change {
            Change::ReportingInterval { seconds } => self.interval_seconds == *seconds,
            Change::CtRating { channel, amperes } => {
                let channel = numbered(&self.channels, *channel);
                channel.is_some_and(|channel| channel.ct_rating == *amperes)
            }
            Change::Switch { switch, state } => {
                let switch = numbered(&self.switches, *switch);
                switch.is_some_and(|switch| switch.state == *state)
            }
            // Nobody tells which ones it uses.
            Change::Wifi { .. } => false,
        }
    }
}

impl Comms {
    /// Whether it uses this network, or the cellular one for none.
    fn is_on(&self, ssid: &str) -> bool {
        if ssid.is_empty() {
            return self.transport == "cellular";
        }
        self.transport == "wifi" && self.network_id.as_deref() == Some(ssid)
    }
}

pub(crate) fn numbered_mut<T>(items: &mut [T], number: u8) -> Option<&mut T> {
    let index = usize::from(number).checked_sub(1)?;
    items.get_mut(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_key_is_stored_and_not_shown() {
        let change = Change::Wifi {
            ssid: "home".to_owned(),
            psk: NetworkKey("correct horse".to_owned()),
        };
        assert_eq!(
            format!("{change:?}"),
            "Wifi { ssid: \"home\", psk: NetworkKey }"
        );
        let stored = serde_json::to_value(&change).unwrap();
        let told = serde_json::json!({"type": "wifi", "ssid": "home", "psk": "correct horse"});
        assert_eq!(stored, told);
        assert_eq!(serde_json::from_value::<Change>(told).unwrap(), change);
    }
}
