//! Decimals as JSON numbers with all their digits, which no binary float stands between.

use meterd_model::{Decimal, DecimalSum};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON number, read and written digit by digit. Serialise it straight to bytes: `serde_json::Value` keeps numbers as
/// binary floats. It cannot be read from inside a flattened or untagged type, which would do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactNumber(pub Decimal);

impl Serialize for ExactNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ExactNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Decimal::parse(raw.get().as_bytes())
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// The sum of many decimals as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactSum(pub DecimalSum);

impl Serialize for ExactSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(&self.0, serializer)
    }
}

fn number<S: Serializer>(number: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(number.to_string())
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_digit_is_lost() {
        let text = "[-0.000000000000000001,99999999999999999999.123456789012345678,0,1.5,-7]";
        let numbers: Vec<ExactNumber> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&numbers).unwrap(), text);
        for bad in ["\"1\"", "null", "0.0000000000000000001", "1e21", "[1]"] {
            assert!(serde_json::from_str::<ExactNumber>(bad).is_err(), "{bad}");
        }
        let from_value: ExactNumber = serde_json::from_value(serde_json::json!(2.5)).unwrap();
        assert_eq!(from_value.0, Decimal::parse(b"2.5").unwrap());
    }
}
