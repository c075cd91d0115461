//! Cron expressions of five fields, in UTC: minute, hour, day of the month, month, day of the week.

use meterd_model::{Date, Timestamp, Zone};
use std::time::Duration;

const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MINUTES: i64 = 24 * 60;
/// Closest that two minutes of an hour may be (4.12).
const STEP_MINUTES_MIN: u32 = 15;
/// How far back a due time is looked for.
const LOOK_BACK: Duration = Duration::from_hours(32 * 24);

/// For each field the values that match, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With both kinds of days given, either will do; as everywhere.
    any_day: bool,
}

impl Cron {
    /// Numbers, `*`, ranges, steps and lists. The error is a clause.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err("must have five fields: minute hour day month weekday".to_owned());
        };
        let minutes = field("minute", minute, 0, 59)?;
        let mut last = None;
        let places = (0..60).filter(|minute| minutes >> minute & 1 == 1);
        // Round the hour, so that the first stands behind the last once more.
        let first = minutes.trailing_zeros();
        for place in places.chain([first + 60]) {
            if last.is_some_and(|last| place - last < STEP_MINUTES_MIN) {
                return Err(format!(
                    "must have {STEP_MINUTES_MIN} minutes or more between two exports"
                ));
            }
            last = Some(place);
        }
        let mut weekdays = field("weekday", weekday, 0, 7)?;
        // Sunday is 0 and 7.
        weekdays |= weekdays >> 7 & 1;
        Ok(Self {
            minutes,
            hours: field("hour", hour, 0, 23)?,
            days: field("day", day, 1, 31)?,
            months: field("month", month, 1, 12)?,
            weekdays,
            any_day: *day != "*" && *weekday != "*",
        })
    }

    /// The last matching minute at or before `now` and after `since`.
    pub(crate) fn last_due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let since = since.max(now.saturating_sub(LOOK_BACK)).micros();
        let mut minute = now.micros().div_euclid(MINUTE_MICROS);
        while minute * MINUTE_MICROS > since {
            if !self.matches_day(minute)? {
                // On to the last minute of the day before.
                minute -= minute.rem_euclid(DAY_MINUTES) + 1;
                continue;
            }
            let of_day = minute.rem_euclid(DAY_MINUTES);
            if self.hours >> (of_day / 60) & 1 == 1 && self.minutes >> (of_day % 60) & 1 == 1 {
                return Timestamp::from_micros(minute * MINUTE_MICROS);
            }
            minute -= 1;
        }
        None
    }

    fn matches_day(&self, minute: i64) -> Option<bool> {
        let time = Timestamp::from_micros(minute.checked_mul(MINUTE_MICROS)?)?;
        let date = Date::of(time, &Zone::UTC).to_string();
        let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<u32>().ok();
        let (month, day) = (number(5..7)?, number(8..10)?);
        // 1970 began on a Thursday.
        let weekday = (minute.div_euclid(DAY_MINUTES) + 4).rem_euclid(7);
        let by_date = self.days >> day & 1 == 1;
        let by_weekday = self.weekdays >> weekday & 1 == 1;
        let by_day = if self.any_day {
            by_date || by_weekday
        } else {
            by_date && by_weekday
        };
        Some(by_day && self.months >> month & 1 == 1)
    }
}

fn field(name: &str, text: &str, min: u32, max: u32) -> Result<u64, String> {
    let wrong = || format!("has a {name} that is not within {min} to {max}");
    let number = |text: &str| {
        let number = text.parse::<u32>().map_err(|_| wrong())?;
        if (min..=max).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        }
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<usize>().ok().filter(|step| *step > 0);
                (range, step.ok_or_else(wrong)?)
            }
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        if last < first {
            return Err(wrong());
        }
        for value in (first..=last).step_by(step) {
            bits |= 1 << value;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(cron: &str, now: &str) -> Option<String> {
        let now = Timestamp::parse(now).unwrap();
        let due = Cron::parse(cron).unwrap().last_due(Timestamp::MIN, now)?;
        Some(due.to_string())
    }

    #[test]
    fn the_last_matching_minute_is_found() {
        let now = "2026-03-04T12:05:30Z"; // A Wednesday.
        for (cron, due) in [
            ("*/15 * * * *", "2026-03-04T12:00:00Z"),
            ("5 12 * * *", "2026-03-04T12:05:00Z"),
            ("6 12 * * *", "2026-03-03T12:06:00Z"),
            ("0,30 8-10 * * 1-2", "2026-03-03T10:30:00Z"),
            ("0 0 1 * *", "2026-03-01T00:00:00Z"),
            ("0 0 * * 7", "2026-03-01T00:00:00Z"),
            ("0 0 28 2 *", "2026-02-28T00:00:00Z"),
            // The first, or a Tuesday.
            ("0 0 1 * 2", "2026-03-03T00:00:00Z"),
        ] {
            assert_eq!(last(cron, now).as_deref(), Some(due), "{cron}");
        }
        assert_eq!(last("0 0 1 1 *", now), None);
        let cron = Cron::parse("0 12 * * *").unwrap();
        let at = |text| Timestamp::parse(text).unwrap();
        assert_eq!(cron.last_due(at("2026-03-04T12:00:00Z"), at(now)), None);
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * *",
            "0,10 * * * *",
            "0,50 * * * *",
            "0 5-3 * * *",
            "0 */0 * * *",
            "0 0 0 * *",
            "0 0 * 13 *",
            "a 0 * * *",
            "0 0 * * 1,",
        ] {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
    }
}
