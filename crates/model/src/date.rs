//! Calendar dates, which are a time only together with a zone.

use crate::window::start_of;
use crate::{TimeError, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A day of the Gregorian calendar, between 1970-01-01 and 9999-12-30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(jiff::civil::Date);

impl Date {
    pub const MIN: Self = Self(jiff::civil::date(1970, 1, 1));
    pub const MAX: Self = Self(jiff::civil::date(9999, 12, 30));

    /// Parses `YYYY-MM-DD` and nothing else.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let is_shaped = text.len() == 10
            && text.bytes().enumerate().all(|(place, byte)| match place {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_shaped {
            return Err(TimeError::Syntax);
        }
        let date = text
            .parse::<jiff::civil::Date>()
            .map_err(|_| TimeError::Syntax)?;
        Self::within(date).ok_or(TimeError::Range)
    }

    fn within(date: jiff::civil::Date) -> Option<Self> {
        (Self::MIN.0 <= date && date <= Self::MAX.0).then_some(Self(date))
    }

    /// The date that the zone's calendar shows at that time.
    pub fn of(time: Timestamp, zone: &Zone) -> Self {
        let date = time.to_jiff().to_zoned(zone.rules().clone()).date();
        Self(date.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The first instant of the date in the zone; of a date that the zone skipped, the instant of the skip.
    pub fn start(self, zone: &Zone) -> Timestamp {
        start_of(self.0, zone.rules())
    }

    /// So many days later, or earlier; `None` past either end of the calendar.
    pub fn checked_add_days(self, days: i32) -> Option<Self> {
        let days = jiff::Span::new().try_days(i64::from(days)).ok()?;
        self.0.checked_add(days).ok().and_then(Self::within)
    }
}

impl fmt::Display for Date {
    /// `YYYY-MM-DD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Date {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        Self::parse(&text)
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_dates_are_read() {
        for good in ["1970-01-01", "2024-02-29", "9999-12-30"] {
            assert_eq!(Date::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "2024-2-29",
            "20240229",
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-01-01T00:00:00Z",
            "2024-01-01 ",
            "+024-01-01",
            "२०२४-०१-०१",
        ] {
            assert_eq!(Date::parse(bad), Err(TimeError::Syntax), "{bad}");
        }
        for far in ["1969-12-31", "9999-12-31"] {
            assert_eq!(Date::parse(far), Err(TimeError::Range), "{far}");
        }
    }

    #[test]
    fn a_date_begins_when_its_zone_says() {
        let at = |text| Timestamp::parse(text).unwrap();
        let zone = |name| Zone::named(name).unwrap();
        for (name, date, start) in [
            ("UTC", "2026-03-29", "2026-03-29T00:00:00Z"),
            ("Australia/Sydney", "2026-11-01", "2026-10-31T13:00:00Z"),
            // Midnight does not exist on the day that summer time begins there.
            ("America/Santiago", "2024-09-08", "2024-09-08T04:00:00Z"),
        ] {
            let date = Date::parse(date).unwrap();
            assert_eq!(date.start(&zone(name)), at(start), "{name}");
            assert_eq!(Date::of(at(start), &zone(name)), date, "{name}");
        }
        assert_eq!(
            Date::of(at("2026-10-31T13:00:00Z"), &zone("UTC")).to_string(),
            "2026-10-31"
        );
    }

    #[test]
    fn days_are_added_within_the_calendar() {
        let date = Date::parse("2024-02-28").unwrap();
        assert_eq!(date.checked_add_days(2).unwrap().to_string(), "2024-03-01");
        assert_eq!(
            date.checked_add_days(-59).unwrap().to_string(),
            "2023-12-31"
        );
        assert_eq!(Date::MAX.checked_add_days(1), None);
        assert_eq!(Date::MIN.checked_add_days(-1), None);
        assert_eq!(Date::MIN.checked_add_days(i32::MAX), None);
    }
}
