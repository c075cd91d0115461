//! Calendar windows in a zone: the buckets of a query.
//!
//! Windows are half-open, cover a range without gaps and never overlap. Days, weeks (from Monday), months and quarters begin
//! at the first instant of their first date in the zone, whatever daylight saving does to that date. Quarter hours
//! and hours follow the wall clock and are cut where the zone's offset changes, so that the two runs of a repeated
//! hour are two windows.

use crate::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fmt;

/// An IANA time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an IANA time zone")]
pub struct ZoneError;

impl Zone {
    pub const UTC: Self = Self(TimeZone::UTC);

    /// By IANA name, e.g. `Europe/Berlin`. The zone data is part of the program.
    pub fn named(name: &str) -> Result<Self, ZoneError> {
        // Only names: the library would also accept POSIX rules and fixed offsets.
        let zone = TimeZone::get(name).map_err(|_| ZoneError)?;
        // Names of the database that stand for no place.
        let nowhere = zone.is_unknown() || zone.iana_name() == Some("Factory");
        if nowhere {
            Err(ZoneError)
        } else {
            Ok(Self(zone))
        }
    }

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The same date and time of day so many years later, or where the calendar or the clock lacks that, the nearest
    /// that it has; [`Timestamp::MAX`] past the end of time.
    pub fn years_later(&self, time: Timestamp, years: u32) -> Timestamp {
        let later = (jiff::Span::new().try_years(years))
            .and_then(|span| time.to_jiff().to_zoned(self.0.clone()).checked_add(span));
        later.map_or(Timestamp::MAX, |later| {
            Timestamp::from_jiff(later.timestamp())
        })
    }

    pub(crate) fn rules(&self) -> &TimeZone {
        &self.0
    }

    /// RFC 3339 with the zone's offset at that time; in UTC where that offset has seconds, which RFC 3339 cannot
    /// write (Monrovia until 1972).
    pub fn format(&self, time: Timestamp) -> String {
        let offset = self.0.to_offset(time.to_jiff());
        if offset.seconds() % 60 != 0 || offset.is_zero() {
            return time.to_string();
        }
        time.to_jiff().display_with_offset(offset).to_string()
    }
}

/// The width of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    QuarterHour,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
}

impl Window {
    pub const ALL: [Self; 6] = [
        Self::QuarterHour,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
    ];

    /// As the native API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15m",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
        }
    }

    /// A lower bound of the width, to bound the number of windows in a range.
    fn shortest_micros(self) -> i64 {
        const HOUR: i64 = 3_600_000_000;
        match self {
            Self::QuarterHour => HOUR / 4,
            Self::Hour => HOUR,
            Self::Day => 23 * HOUR,
            Self::Week => 7 * 23 * HOUR,
            Self::Month => 28 * 23 * HOUR,
            Self::Quarter => 90 * 23 * HOUR,
        }
    }

    /// About how many windows a range has; never less than a tenth too few. For checking a bound before the work.
    pub fn count_estimate(self, from: Timestamp, to: Timestamp) -> u64 {
        let span = to.micros().saturating_sub(from.micros()).max(0);
        u64::try_from(span / self.shortest_micros() + 2).unwrap_or(u64::MAX)
    }

    /// The window that holds `time`: its first instant and the first instant after it.
    pub fn around(self, time: Timestamp, zone: &Zone) -> (Timestamp, Timestamp) {
        match self {
            Self::QuarterHour => wall_clock_window(time, 15 * 60, &zone.0),
            Self::Hour => wall_clock_window(time, 60 * 60, &zone.0),
            Self::Day | Self::Week | Self::Month | Self::Quarter => self.date_window(time, &zone.0),
        }
    }

    fn date_window(self, time: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let date = time.to_jiff().to_zoned(zone.clone()).date();
        let mut first = self.first_date(date);
        // A date that the zone skipped has no instants; a clock set back over midnight makes `time` belong to the
        // day that began already. Both are settled by looking at instants, not at dates.
        loop {
            let start = start_of(first, zone);
            let next = self.next_date(first);
            let end = start_of(next, zone);
            if time < start {
                first = self.previous_date(first);
            } else if time >= end && next != first {
                first = next;
            } else {
                return (start, end);
            }
        }
    }

    fn first_date(self, date: Date) -> Date {
        match self {
            Self::Week => {
                let days = i64::from(date.weekday().to_monday_zero_offset());
                date.saturating_sub(days.days())
            }
            Self::Month => date.first_of_month(),
            Self::Quarter => {
                let months = (date.month() - 1) % 3;
                date.first_of_month().saturating_sub(months.months())
            }
            _ => date,
        }
    }

    fn next_date(self, first: Date) -> Date {
        match self {
            Self::Week => first.saturating_add(7.days()),
            Self::Month => first.saturating_add(1.month()),
            Self::Quarter => first.saturating_add(3.months()),
            _ => first.saturating_add(1.day()),
        }
    }

    fn previous_date(self, first: Date) -> Date {
        match self {
            Self::Week => first.saturating_sub(7.days()),
            Self::Month => first.saturating_sub(1.month()),
            Self::Quarter => first.saturating_sub(3.months()),
            _ => first.saturating_sub(1.day()),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first instant of a date.
pub(crate) fn start_of(date: Date, zone: &TimeZone) -> Timestamp {
    date.to_zoned(zone.clone())
        .and_then(|midnight| midnight.start_of_day())
        .map_or(Timestamp::MAX, |start| {
            Timestamp::from_jiff(start.timestamp())
        })
}

fn wall_clock_window(
    time: Timestamp,
    width_seconds: i64,
    zone: &TimeZone,
) -> (Timestamp, Timestamp) {
    let instant = time.to_jiff();
    let offset = i64::from(zone.to_offset(instant).seconds());
    let into = (time.seconds() + offset).rem_euclid(width_seconds);
    let aligned_start = time.seconds() - into;
    let aligned_end = aligned_start + width_seconds;
    // `preceding` is strictly before its argument, so look back from just after `time`.
    let just_after = Timestamp::from_micros(time.micros() + 1).unwrap_or(Timestamp::MAX);
    let last_change = zone
        .preceding(just_after.to_jiff())
        .next()
        .map_or(i64::MIN, |t| t.timestamp().as_second());
    let next_change = zone
        .following(instant)
        .next()
        .map_or(i64::MAX, |t| t.timestamp().as_second());
    let start = aligned_start.max(last_change).max(0);
    let end = aligned_end.min(next_change);
    (
        Timestamp::from_seconds(start).unwrap_or(Timestamp::MIN),
        Timestamp::from_seconds(end).unwrap_or(Timestamp::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap()
    }

    /// The windows that touch `[from, to)`, in order, each clipped to the range.
    fn cover(
        window: Window,
        from: Timestamp,
        to: Timestamp,
        zone: &Zone,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let mut next = from;
        std::iter::from_fn(move || {
            let start = next;
            next = window.around(start, zone).1.min(to);
            (start < next).then_some((start, next))
        })
    }

    fn count(window: Window, name: &str, from: &str, to: &str) -> usize {
        cover(window, at(from), at(to), &zone(name)).count()
    }

    #[test]
    fn days_follow_daylight_saving() {
        let berlin = zone("Europe/Berlin");
        let hours = |text: &str| {
            let (start, end) = Window::Day.around(at(text), &berlin);
            (end.seconds() - start.seconds()) / 3600
        };
        assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
        assert_eq!(hours("2026-11-01T12:00:00Z"), 24);
        assert_eq!(
            count(
                Window::Hour,
                "Europe/Berlin",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z"
            ),
            25
        );
        assert_eq!(
            count(
                Window::QuarterHour,
                "Europe/Berlin",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z"
            ),
            92
        );
    }

    #[test]
    fn odd_zones() {
        // Half-hour offset: the hour begins at minute 30 of UTC.
        let (start, _) = Window::Hour.around(at("2026-01-01T00:10:00Z"), &zone("Asia/Kolkata"));
        assert_eq!(start, at("2025-12-31T23:30:00Z"));
        // Lord Howe moves by half an hour: the repeated half hour is a window of its own.
        let (start, end) =
            Window::Hour.around(at("2026-04-04T15:10:00Z"), &zone("Australia/Lord_Howe"));
        assert_eq!(
            (start, end),
            (at("2026-04-04T15:00:00Z"), at("2026-04-04T15:30:00Z"))
        );
        // Samoa had no 30 December 2011.
        let days = count(
            Window::Day,
            "Pacific/Apia",
            "2011-12-29T10:00:00Z",
            "2011-12-31T10:00:00Z",
        );
        assert_eq!(days, 2);
        // Midnight did not exist in São Paulo on this date: the day began at one o'clock.
        let (start, _) = Window::Day.around(at("2018-11-04T12:00:00Z"), &zone("America/Sao_Paulo"));
        assert_eq!(start, at("2018-11-04T03:00:00Z"));
        assert!(Zone::named("Europe/Nowhere").is_err());
        for nowhere in [
            "",
            "Etc/Unknown",
            "etc/unknown",
            "Factory",
            "factory",
            "+01:00",
        ] {
            assert!(Zone::named(nowhere).is_err(), "{nowhere}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_quarters_in_january() {
        let (start, end) = Window::Week.around(at("2026-11-01T12:00:00Z"), &Zone::UTC);
        assert_eq!(
            (start, end),
            (at("2026-10-26T00:00:00Z"), at("2026-11-02T00:00:00Z"))
        );
        let (start, end) =
            Window::Month.around(at("2024-02-29T12:00:00Z"), &zone("America/New_York"));
        assert_eq!(
            (start, end),
            (at("2024-02-01T05:00:00Z"), at("2024-03-01T05:00:00Z"))
        );
        for (time, from, to) in [
            (
                "2024-01-01T00:00:00Z",
                "2024-01-01T00:00:00Z",
                "2024-04-01T00:00:00Z",
            ),
            (
                "2024-06-30T23:59:59Z",
                "2024-04-01T00:00:00Z",
                "2024-07-01T00:00:00Z",
            ),
            (
                "2024-12-31T12:00:00Z",
                "2024-10-01T00:00:00Z",
                "2025-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(
                Window::Quarter.around(at(time), &Zone::UTC),
                (at(from), at(to))
            );
        }
    }

    #[test]
    fn years_are_the_calendars() {
        let later = |name: &str, from: &str, years| zone(name).years_later(at(from), years);
        // Summer begins on 4 October 2020 and on 1 October 2023.
        let sydney = later("Australia/Sydney", "2020-10-02T14:00:00Z", 3);
        assert_eq!(sydney, at("2023-10-02T13:00:00Z"));
        let leap = later("UTC", "2024-02-29T12:00:00Z", 3);
        assert_eq!(leap, at("2027-02-28T12:00:00Z"));
        assert_eq!(later("UTC", "2024-02-29T12:00:00Z", 9000), Timestamp::MAX);
    }

    #[test]
    fn formats_with_the_zones_offset() {
        assert_eq!(
            zone("Europe/Berlin").format(at("2026-11-01T00:00:00Z")),
            "2026-11-01T01:00:00+01:00"
        );
        assert_eq!(
            Zone::UTC.format(at("2026-11-01T00:00:00Z")),
            "2026-11-01T00:00:00Z"
        );
        // Its offset was 44 minutes and 30 seconds.
        assert_eq!(
            zone("Africa/Monrovia").format(at("1971-06-01T12:00:00Z")),
            "1971-06-01T12:00:00Z"
        );
    }

    const ZONES: [&str; 12] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "America/St_Johns",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Africa/Monrovia",
    ];

    proptest! {
        /// Windows partition any range, and every instant finds its own window again.
        #[test]
        fn windows_partition_time(seconds in 0_i64..4_000_000_000, span in 1_i64..2_000_000, zone_index in 0..ZONES.len(), window_index in 0..Window::ALL.len()) {
            let zone = zone(ZONES[zone_index]);
            let window = Window::ALL[window_index];
            let (from, to) = (Timestamp::from_seconds(seconds).unwrap(), Timestamp::from_seconds(seconds + span).unwrap());
            let mut expected = from;
            for (start, end) in cover(window, from, to, &zone) {
                prop_assert_eq!(start, expected);
                prop_assert!(end > start);
                let whole = window.around(start, &zone);
                prop_assert!(whole.0 <= start && end <= whole.1);
                let last = Timestamp::from_micros(end.micros() - 1).unwrap();
                prop_assert_eq!(window.around(last, &zone), whole);
                expected = end;
            }
            prop_assert_eq!(expected, to);
        }
    }
}
