//! The buckets that a list of Long Energy can be summed up in (specs/wattwatchers.md 3.6, 4).
//!
//! Buckets are ranges of raw stamps, and a stamp marks an interval's end: the bucket of a day begins with the record of
//! the five minutes before midnight. So does the original's.

use meterd_fault::{Fault, Format, Period, Problem, Rule};
use meterd_model::{Timestamp, Window, Zone};

/// Of `30m` buckets, in seconds.
const HALF_HOUR: i64 = 1800;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Granularity {
    /// The records as they came.
    #[default]
    FiveMinutes,
    QuarterHour,
    HalfHour,
    Hour,
    Day,
    Week,
    Month,
}

impl Granularity {
    pub(crate) const WORDS: [(&'static str, Self); 7] = [
        ("5m", Self::FiveMinutes),
        ("15m", Self::QuarterHour),
        ("30m", Self::HalfHour),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    pub(crate) fn longest(self) -> Period {
        match self {
            Self::FiveMinutes => Period::Days(7),
            Self::QuarterHour => Period::Days(14),
            Self::HalfHour => Period::Days(31),
            Self::Hour => Period::Days(90),
            Self::Day => Period::Years(3),
            Self::Week => Period::Years(5),
            Self::Month => Period::Years(10),
        }
    }

    /// The zone whose calendar the buckets follow. Where they follow none, the name is not even looked at.
    pub(crate) fn zone(self, name: Option<&str>) -> Result<Zone, Fault> {
        match self {
            Self::FiveMinutes | Self::QuarterHour | Self::HalfHour => Ok(Zone::UTC),
            Self::Hour | Self::Day | Self::Week | Self::Month => {
                let format = Format::Timezone;
                let named = name.ok_or(Rule::Required);
                let zone =
                    named.and_then(|name| Zone::named(name).map_err(|_| Rule::Format { format }));
                zone.map_err(|rule| Fault::invalid(Problem::query("timezone", rule)))
            }
        }
    }

    /// The engine's windows that the buckets are made of; none of records as they came.
    pub(crate) fn window(self) -> Option<Window> {
        match self {
            Self::FiveMinutes => None,
            Self::QuarterHour | Self::HalfHour => Some(Window::QuarterHour),
            Self::Hour => Some(Window::Hour),
            Self::Day => Some(Window::Day),
            Self::Week => Some(Window::Week),
            Self::Month => Some(Window::Month),
        }
    }

    /// The stamp of the bucket that holds a time.
    pub(crate) fn start(self, time: Timestamp, zone: &Zone) -> i64 {
        match self {
            Self::HalfHour => time.seconds() - time.seconds().rem_euclid(HALF_HOUR),
            _ => {
                let window = self.window().map(|window| window.around(time, zone).0);
                window.unwrap_or(time).seconds()
            }
        }
    }
}
