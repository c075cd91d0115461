//! How sealed measurements are divided: one partition per meter and calendar month.

use hashbrown::HashSet;
use meterd_model::{MeterId, Timestamp};
use std::fmt;
use std::ops::Range;

/// A calendar month in UTC, counted from January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month(pub(crate) u32);

/// The measurements of one meter whose time is in one month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) meter: MeterId,
    pub(crate) month: Month,
}

/// Each partition that something is of, once.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    all: HashSet<Partition>,
    /// The one noted last, and the times of its month: measurements next to each other are mostly of one.
    last: Option<(MeterId, Range<i64>)>,
}

impl Partitions {
    /// That of a measurement.
    pub(crate) fn note(&mut self, meter: MeterId, time: Timestamp) {
        let is_last = (self.last.as_ref())
            .is_some_and(|(last, times)| *last == meter && times.contains(&time.micros()));
        if !is_last {
            let month = Month::of(time);
            self.all.insert(Partition { meter, month });
            self.last = Some((meter, month.start_micros()..month.end_micros()));
        }
    }

    pub(crate) fn insert(&mut self, partition: Partition) {
        self.all.insert(partition);
    }

    pub(crate) fn contains(&self, partition: Partition) -> bool {
        self.all.contains(&partition)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Partition> {
        self.all.iter().copied()
    }
}

/// Where a version of a measurement is kept, once it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    pub(crate) partition: Partition,
    pub(crate) sequence: u64,
}

const DAY_MICROS: i64 = 86_400_000_000;

impl Month {
    /// The month that a time is in.
    pub(crate) fn of(time: Timestamp) -> Self {
        let (year, month) = civil(time.micros().div_euclid(DAY_MICROS));
        // No timestamp is before 1970 or after 9999.
        Self(u32::try_from((year - 1970) * 12 + i64::from(month) - 1).unwrap_or(0))
    }

    /// The first microsecond of the month, since 1970.
    pub(crate) fn start_micros(self) -> i64 {
        let months = i64::from(self.0);
        days(1970 + months / 12, months % 12 + 1) * DAY_MICROS
    }

    /// The first microsecond after the month.
    pub(crate) fn end_micros(self) -> i64 {
        Self(self.0.saturating_add(1)).start_micros()
    }

    /// Exact inverse of `Display`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let number = |digits: &str, length| {
            let plain = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let (year, month) = (number(year, 4)?, number(month, 2)?);
        let months = year.checked_sub(1970)? * 12;
        (1..=12).contains(&month).then(|| Self(months + month - 1))
    }
}

/// As in `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", 1970 + self.0 / 12, self.0 % 12 + 1)
    }
}

/// Year and month of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(day: i64) -> (i64, u32) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1))
}

/// Days from 1970 to the first of a month (the same source, `days_from_civil`).
fn days(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_one_another_without_a_gap() {
        let mut month = Month(0);
        assert_eq!(month.start_micros(), 0);
        while let Some(last) = Timestamp::from_micros(month.end_micros() - 1) {
            let first = Timestamp::from_micros(month.start_micros()).unwrap();
            assert_eq!((Month::of(first), Month::of(last)), (month, month));
            assert_eq!(Month::parse(&month.to_string()), Some(month));
            assert_eq!(first.to_string(), format!("{month}-01T00:00:00Z"));
            month = Month(month.0 + 1);
        }
        assert_eq!(month.to_string(), "9999-12");
        for bad in ["2026-00", "2026-13", "2026-1", "1969-12", "+026-01", ""] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }
}
