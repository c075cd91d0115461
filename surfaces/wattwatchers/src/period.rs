//! Which stamps a list has: `fromTs` and `toTs`, what stands for those that are not given, and the longest period
//! (specs/wattwatchers.md 4.1 to 4.3).

use crate::asked::integer;
use crate::check::STAMP_MAX;
use meterd_fault::{Fault, Kind, Period, Problem, Rule};
use meterd_http::fields::Fields;
use meterd_model::{Timestamp, Zone};

const FROM: &str = "fromTs";
const TO: &str = "toTs";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// What a list of Short Energy has unless told otherwise.
const SHORT_SECONDS: i64 = HOUR;
const SHORT_LONGEST: Period = Period::Hours(12);
const MODBUS_LONGEST: Period = Period::Days(7);

/// The ends of a period as a request gives them.
#[derive(Debug)]
pub(crate) struct AskedEnds {
    from: Option<String>,
    to: Option<String>,
}

/// The same, each a stamp that can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) from: Option<i64>,
    to: Option<i64>,
}

/// Stamps of `[from, to)`, in seconds since 1970; without any where `to` is not after `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl AskedEnds {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            from: integer(fields, FROM),
            to: integer(fields, TO),
        }
    }

    /// As [`read`](Self::read), but the start must be given.
    pub(crate) fn read_with_start(fields: &mut Fields<'_>) -> Self {
        let ends = Self::read(fields);
        if ends.from.is_none() && fields.problems().is_empty() {
            fields.refuse(FROM, Rule::Required);
        }
        ends
    }

    /// The stamps, unless one cannot be: 1970 is the beginning, and what is too late is milliseconds (4.2).
    pub(crate) fn check(&self) -> Result<Ends, Fault> {
        let stamp = |name, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(stamp) if (0..=STAMP_MAX).contains(&stamp) => Ok(Some(stamp)),
                _ => Err(invalid(name, text)),
            },
        };
        Ok(Ends {
            from: stamp(FROM, &self.from)?,
            to: stamp(TO, &self.to)?,
        })
    }
}

impl Ends {
    /// A start of 0 stands for none in Long Energy, and no end goes with it (4.1).
    pub(crate) fn without_zero_start(self) -> Result<Self, Fault> {
        match (self.from, self.to) {
            (Some(0), Some(1..)) => Err(invalid(FROM, "0")),
            (Some(0), to) => Ok(Self { from: None, to }),
            _ => Ok(self),
        }
    }

    pub(crate) fn short(self, now: Timestamp) -> Result<Range, Fault> {
        let now = now.seconds();
        let end = self.to.unwrap_or(now);
        let from = self.from.unwrap_or((end - SHORT_SECONDS).max(0));
        let to = self.to.unwrap_or_else(|| now.min(from + SHORT_SECONDS));
        self.checked(
            Range { from, to },
            latest_end(from, SHORT_LONGEST, &Zone::UTC),
            SHORT_LONGEST,
        )
    }

    /// `from`: the start, or the stamp of the first record in place of it.
    pub(crate) fn long(self, from: i64, longest: Period, zone: &Zone) -> Result<Range, Fault> {
        let latest_end = latest_end(from, longest, zone);
        let to = self.to.unwrap_or(latest_end);
        self.checked(Range { from, to }, latest_end, longest)
    }

    pub(crate) fn modbus(self) -> Result<Range, Fault> {
        let from = self.from.unwrap_or_default();
        self.long(from, MODBUS_LONGEST, &Zone::UTC)
    }

    fn checked(self, range: Range, latest_end: i64, longest: Period) -> Result<Range, Fault> {
        if let Ends {
            from: Some(from),
            to: Some(to),
        } = self
            && to < from
        {
            return Err(invalid(TO, &to.to_string()));
        }
        if range.to > latest_end {
            return Err(Kind::PeriodTooLong { longest }.into());
        }
        Ok(range)
    }
}

/// The last end that a period may have. Days are 24 hours long. Years are those of the zone's calendar, but never shorter
/// than the 365 days that clients take them for, which a change of the clock would make them (3.6).
fn latest_end(from: i64, longest: Period, zone: &Zone) -> i64 {
    match longest {
        Period::Hours(hours) => from + i64::from(hours) * HOUR,
        Period::Days(days) => from + i64::from(days) * DAY,
        Period::Years(years) => {
            let start = Timestamp::from_seconds(from).unwrap_or(Timestamp::MAX);
            let by_calendar = zone.years_later(start, years).seconds();
            by_calendar.max(from + i64::from(years) * 365 * DAY)
        }
    }
}

fn invalid(name: &'static str, value: &str) -> Fault {
    let rule = Rule::Range {
        min: Some("0".to_owned()),
        max: Some(STAMP_MAX.to_string()),
    };
    Fault::invalid(Problem::query(name, rule).with_value(value))
}
