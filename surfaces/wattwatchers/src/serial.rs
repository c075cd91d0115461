//! Serial numbers, and which account has the device of each (specs/wattwatchers.md 7.5).

use meterd_control::Document;
use meterd_fault::{Fault, Format, Location, Problem, Resource, Rule};
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A device's serial number: a B, D, E or F and twelve more capital letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

const LENGTH: usize = 13;

pub(crate) const MALFORMED: Rule = Rule::Format {
    format: Format::DeviceSerial,
};

impl Serial {
    pub fn parse(text: &str) -> Option<Self> {
        let is_sound = text.len() == LENGTH
            && text.starts_with(['B', 'D', 'E', 'F'])
            && (text.bytes()).all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        is_sound.then(|| Self(text.to_owned()))
    }

    /// Of a request's path.
    pub(crate) fn of_path(text: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| {
            let place = Location::Path("device-id".to_owned());
            Fault::invalid(Problem::new(place, MALFORMED))
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Serial {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no serial number")
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

/// That a serial number belongs to an account. Kept for the whole server, so that one number is one device, and a
/// device of somebody else can be told from one that nobody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) serial: Serial,
    pub(crate) account: OrganizationId,
}

impl Document for Claim {
    const KIND: &'static str = "wattwatchers_claim";
    const RESOURCE: Resource = Resource::Device;
    const EVENT: &'static str = "wattwatchers.claim";

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("id", self.serial.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::Serial;

    #[test]
    fn serials_are_told_from_other_texts() {
        for good in [
            "D123456789012",
            "DD03710132282",
            "DDA4108814035",
            "BZZZZZZZZZZZZ",
            "E000000000000",
            "F000000000000",
        ] {
            assert_eq!(Serial::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "marmaduke",
            "A123456789012",
            "C123456789012",
            "D12345678901",
            "D1234567890123",
            "d123456789012",
            "D12345678901a",
            "D12345678901\u{e9}",
            "D12345 789012",
        ] {
            assert!(Serial::parse(bad).is_none(), "{bad}");
        }
    }
}
