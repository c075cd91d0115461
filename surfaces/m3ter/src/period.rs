//! Periods that are named by their place to the present, such as `PREVIOUS_MONTH` (4.12).

use meterd_model::{Date, Timestamp, Window, Zone};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TimePeriod {
    #[serde(rename = "TODAY")]
    Today,
    #[serde(rename = "YESTERDAY")]
    Yesterday,
    #[serde(rename = "WEEK_TO_DATE")]
    WeekToDate,
    #[serde(rename = "MONTH_TO_DATE")]
    MonthToDate,
    #[serde(rename = "YEAR_TO_DATE")]
    YearToDate,
    #[serde(rename = "PREVIOUS_WEEK")]
    PreviousWeek,
    #[serde(rename = "PREVIOUS_MONTH")]
    PreviousMonth,
    #[serde(rename = "PREVIOUS_QUARTER")]
    PreviousQuarter,
    #[serde(rename = "PREVIOUS_YEAR")]
    PreviousYear,
    #[serde(rename = "LAST_12_HOURS")]
    Last12Hours,
    #[serde(rename = "LAST_7_DAYS")]
    Last7Days,
    #[serde(rename = "LAST_30_DAYS")]
    Last30Days,
    #[serde(rename = "LAST_35_DAYS")]
    Last35Days,
    #[serde(rename = "LAST_90_DAYS")]
    Last90Days,
    #[serde(rename = "LAST_120_DAYS")]
    Last120Days,
    #[serde(rename = "LAST_YEAR")]
    LastYear,
}

impl TimePeriod {
    pub(crate) const WORDS: [(&'static str, Self); 16] = [
        ("TODAY", Self::Today),
        ("YESTERDAY", Self::Yesterday),
        ("WEEK_TO_DATE", Self::WeekToDate),
        ("MONTH_TO_DATE", Self::MonthToDate),
        ("YEAR_TO_DATE", Self::YearToDate),
        ("PREVIOUS_WEEK", Self::PreviousWeek),
        ("PREVIOUS_MONTH", Self::PreviousMonth),
        ("PREVIOUS_QUARTER", Self::PreviousQuarter),
        ("PREVIOUS_YEAR", Self::PreviousYear),
        ("LAST_12_HOURS", Self::Last12Hours),
        ("LAST_7_DAYS", Self::Last7Days),
        ("LAST_30_DAYS", Self::Last30Days),
        ("LAST_35_DAYS", Self::Last35Days),
        ("LAST_90_DAYS", Self::Last90Days),
        ("LAST_120_DAYS", Self::Last120Days),
        ("LAST_YEAR", Self::LastYear),
    ];

    /// Its first instant and the first after it. Those that last until now end now; `LAST_…_DAYS` are whole days of
    /// the zone before today, `LAST_YEAR` the 365 of them.
    pub(crate) fn around(self, now: Timestamp, zone: &Zone) -> (Timestamp, Timestamp) {
        let window = |window: Window| window.around(now, zone).0;
        let previous = |of: Window| {
            let end = window(of);
            (of.around(before(end), zone).0, end)
        };
        let today = window(Window::Day);
        let days = |days: i32| {
            let first = Date::of(now, zone).checked_add_days(-days);
            (first.unwrap_or(Date::MIN).start(zone), today)
        };
        match self {
            Self::Today => (today, now),
            Self::Yesterday => previous(Window::Day),
            Self::WeekToDate => (window(Window::Week), now),
            Self::MonthToDate => (window(Window::Month), now),
            Self::YearToDate => (month_start(now, zone, 12, 0), now),
            Self::PreviousWeek => previous(Window::Week),
            Self::PreviousMonth => previous(Window::Month),
            Self::PreviousQuarter => (month_start(now, zone, 3, 1), month_start(now, zone, 3, 0)),
            Self::PreviousYear => (month_start(now, zone, 12, 1), month_start(now, zone, 12, 0)),
            Self::Last12Hours => (now.saturating_sub(Duration::from_hours(12)), now),
            Self::Last7Days => days(7),
            Self::Last30Days => days(30),
            Self::Last35Days => days(35),
            Self::Last90Days => days(90),
            Self::Last120Days => days(120),
            Self::LastYear => days(365),
        }
    }
}

fn before(time: Timestamp) -> Timestamp {
    time.saturating_sub(Duration::from_micros(1))
}

/// The start of the part of a year of so many months that holds `now`, or of one so many parts before.
fn month_start(now: Timestamp, zone: &Zone, months: u32, back: u32) -> Timestamp {
    let today = Date::of(now, zone).to_string();
    let number = |range: std::ops::Range<usize>| {
        today
            .get(range)
            .and_then(|text: &str| text.parse::<u32>().ok())
    };
    let (Some(year), Some(month)) = (number(0..4), number(5..7)) else {
        return Timestamp::MIN;
    };
    let from_zero = (year * 12 + month - 1) / months * months;
    let from_zero = from_zero.saturating_sub(back * months);
    let first = format!("{:04}-{:02}-01", from_zero / 12, from_zero % 12 + 1);
    Date::parse(&first).map_or(Timestamp::MIN, |date| date.start(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_follow_the_calendar_of_the_zone() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        // Half past midnight on Wednesday, 1 May, there.
        let now = Timestamp::parse("2024-04-30T22:30:00Z").unwrap();
        for (period, start, end) in [
            (
                TimePeriod::Today,
                "2024-04-30T22:00:00Z",
                "2024-04-30T22:30:00Z",
            ),
            (
                TimePeriod::Yesterday,
                "2024-04-29T22:00:00Z",
                "2024-04-30T22:00:00Z",
            ),
            (
                TimePeriod::WeekToDate,
                "2024-04-28T22:00:00Z",
                "2024-04-30T22:30:00Z",
            ),
            (
                TimePeriod::MonthToDate,
                "2024-04-30T22:00:00Z",
                "2024-04-30T22:30:00Z",
            ),
            (
                TimePeriod::YearToDate,
                "2023-12-31T23:00:00Z",
                "2024-04-30T22:30:00Z",
            ),
            (
                TimePeriod::PreviousWeek,
                "2024-04-21T22:00:00Z",
                "2024-04-28T22:00:00Z",
            ),
            (
                TimePeriod::PreviousMonth,
                "2024-03-31T22:00:00Z",
                "2024-04-30T22:00:00Z",
            ),
            (
                TimePeriod::PreviousQuarter,
                "2023-12-31T23:00:00Z",
                "2024-03-31T22:00:00Z",
            ),
            (
                TimePeriod::PreviousYear,
                "2022-12-31T23:00:00Z",
                "2023-12-31T23:00:00Z",
            ),
            (
                TimePeriod::Last12Hours,
                "2024-04-30T10:30:00Z",
                "2024-04-30T22:30:00Z",
            ),
            (
                TimePeriod::Last7Days,
                "2024-04-23T22:00:00Z",
                "2024-04-30T22:00:00Z",
            ),
            (
                TimePeriod::LastYear,
                "2023-05-01T22:00:00Z",
                "2024-04-30T22:00:00Z",
            ),
        ] {
            let (from, to) = period.around(now, &zone);
            assert_eq!(
                (from.to_string(), to.to_string()),
                (start.to_owned(), end.to_owned()),
                "{period:?}"
            );
        }
    }
}
