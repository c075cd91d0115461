//! Points in time.

use std::fmt;

/// Microseconds since 1970-01-01T00:00:00Z, between 1970 and 9999-12-30T22:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// Why a text or number is no [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("is not an RFC 3339 time with an offset")]
    Syntax,
    #[error("is before 1970 or after 9999-12-30T22:00:00Z")]
    Range,
}

impl Timestamp {
    pub const MIN: Self = Self(0);
    /// 9999-12-30T22:00:00Z less a microsecond: the last that every zone can show. Only the end of a range or of a
    /// measured period; a measurement happens before it.
    pub const MAX: Self = Self(253_402_207_200_000_000 - 1);

    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros >= Self::MIN.0 && micros <= Self::MAX.0 {
            Some(Self(micros))
        } else {
            None
        }
    }

    pub const fn from_seconds(seconds: i64) -> Option<Self> {
        match seconds.checked_mul(1_000_000) {
            Some(micros) => Self::from_micros(micros),
            None => None,
        }
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Parses RFC 3339 with any offset; a blank may stand for the `T`. Digits past the microsecond are cut off, so
    /// that clients that send nanoseconds are understood. A leap second (`:60`) is refused, as no number of
    /// microseconds since 1970 stands for it.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let micros = rfc3339_micros(text.as_bytes()).ok_or(TimeError::Syntax)?;
        Self::from_micros(micros).ok_or(TimeError::Range)
    }

    /// As [`Self::parse`], and besides what services take that follow ISO 8601 more freely: a time without offset is
    /// UTC, the offset may lack its colon or its minutes, seconds may be left out, and a date alone is its midnight.
    pub fn parse_iso(text: &str) -> Result<Self, TimeError> {
        let Some(full) = to_rfc3339(text) else {
            return Err(TimeError::Syntax);
        };
        Self::parse(&full)
    }

    /// This much later, held within the range.
    #[must_use]
    pub fn saturating_add(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// This much earlier, held within the range.
    #[must_use]
    pub fn saturating_sub(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(Self::MIN.0))
    }

    /// The present time of this machine's clock. Only the binary's outer edge calls this.
    pub fn of_system(now: std::time::SystemTime) -> Self {
        let since = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self::MIN.saturating_add(since)
    }

    pub(crate) fn to_jiff(self) -> jiff::Timestamp {
        // Within jiff's range by construction.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    pub(crate) fn from_jiff(time: jiff::Timestamp) -> Self {
        Self(time.as_microsecond().clamp(Self::MIN.0, Self::MAX.0))
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.digits](Z|±HH:MM)`, byte by byte: the library knows other forms as well (RFC 9557).
fn rfc3339_micros(text: &[u8]) -> Option<i64> {
    let (date_and_time, rest) = text.split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
    ] = *date_and_time
    else {
        return None;
    };
    let year = two_digits(y1, y2, 99)? * 100 + two_digits(y3, y4, 99)?;
    let (month, day) = (two_digits(mo1, mo2, 12)?, two_digits(d1, d2, 31)?);
    let date = jiff::civil::Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()?;
    let days = date.duration_since(jiff::civil::date(1970, 1, 1)).as_secs() / 86_400;
    let hours = two_digits(h1, h2, 23)?;
    let minutes = two_digits(mi1, mi2, 59)?;
    let seconds = two_digits(s1, s2, 59)?;
    let (fraction_micros, rest) = match rest.split_first() {
        Some((b'.', rest)) => fraction(rest)?,
        _ => (0, rest),
    };
    let offset_minutes = match *rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = two_digits(h1, h2, 23)? * 60 + two_digits(m1, m2, 59)?;
            if sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let all_minutes = (days * 24 + hours) * 60 + minutes - offset_minutes;
    Some((all_minutes * 60 + seconds) * 1_000_000 + fraction_micros)
}

/// The full form of a text that may leave out offset, seconds or the time of day; not yet checked.
fn to_rfc3339(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    const DATE: usize = "2026-11-01".len();
    const MINUTES: usize = "T00:00".len();
    if !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_at_checked(DATE)?;
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z").into());
    }
    let (time, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(place) => rest.split_at_checked(place)?,
        None => (rest, "Z"),
    };
    let offset = match offset.as_bytes() {
        [_, _, _] => format!("{offset}:00").into(),
        [_, _, _, b'0'..=b'9', _] => {
            let (hours, minutes) = offset.split_at_checked(3)?;
            format!("{hours}:{minutes}").into()
        }
        _ => std::borrow::Cow::Borrowed(offset),
    };
    let seconds = if time.len() == MINUTES { ":00" } else { "" };
    Some(format!("{date}{time}{seconds}{offset}").into())
}

fn two_digits(tens: u8, ones: u8, max: i64) -> Option<i64> {
    let number = digit(tens)? * 10 + digit(ones)?;
    (number <= max).then_some(number)
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

/// Microseconds of one or more digits after the point, and what follows them.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text
        .split_at_checked(digits)
        .filter(|(digits, _)| !digits.is_empty())?;
    let micros = (0..6).fold(0, |micros, place| {
        let next = digits.get(place).copied().and_then(digit).unwrap_or(0);
        micros * 10 + next
    });
    Some((micros, rest))
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with as many fraction digits as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_offsets_and_cuts_nanoseconds() {
        for (text, shown) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T02:30:00+05:30", "2026-10-31T21:00:00Z"),
            (
                "2026-11-01T00:00:00.123456789Z",
                "2026-11-01T00:00:00.123456Z",
            ),
            ("2026-11-01t00:00:00.5z", "2026-11-01T00:00:00.5Z"),
            ("2026-11-01 00:00:00+00:00", "2026-11-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "2026-11-01",
            "2026-11-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-01T25:00:00Z",
            "2026-11-01T24:00:00Z",
            "2026-11-01T00:60:00Z",
            "2026-11-01T00:00:60Z",
            "1762000000",
            "2026-11-01T00:00:00+01:00[Europe/Berlin]",
            "2026-02-30T00:00:00Z",
            "2026-11-01T00:00:00,5Z",
            "2026-11-01T00:00:00.Z",
            "2026-11-01T000000.000Z",
            "2026-11-01T00:00:00+01",
            "2026-11-01T00:00:00+0100",
            "2026-11-01T00:00:00+01:00:30",
            "2026-11-01T00:00:00+24:00",
            "2026-11-01T00:00:00+01:60",
            "2026-11-01T00:00:00.5+00",
            "2026-11-01T12+00:00:00.000",
            "2026-11-01T0000+0000000",
            "2026-11-01T00:00:00 Z",
            "2026-11-01T00:00:00Zé",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(TimeError::Syntax), "{bad}");
        }
        for far in [
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:59:59+01:00",
            "0000-01-01T00:00:00Z",
            "9999-12-30T22:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-23:59",
        ] {
            assert_eq!(Timestamp::parse(far), Err(TimeError::Range), "{far}");
        }
        for (text, time) in [
            ("9999-12-30T21:59:59.9999999Z", Timestamp::MAX),
            ("1970-01-01T00:00:00-00:00", Timestamp::MIN),
        ] {
            assert_eq!(Timestamp::parse(text), Ok(time));
        }
    }

    #[test]
    fn iso_times_may_leave_parts_out() {
        for (text, shown) in [
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T02:30", "2026-11-01T02:30:00Z"),
            ("2026-11-01T02:30:15", "2026-11-01T02:30:15Z"),
            ("2026-11-01 02:30:15.25", "2026-11-01T02:30:15.25Z"),
            ("2026-11-01T02:30Z", "2026-11-01T02:30:00Z"),
            ("2026-11-01T02:30+05:30", "2026-10-31T21:00:00Z"),
            ("2026-11-01T02:30:00+0530", "2026-10-31T21:00:00Z"),
            ("2026-11-01T02:00:00-02", "2026-11-01T04:00:00Z"),
            (
                "2026-11-01T02:00:00.123456789+00:00",
                "2026-11-01T02:00:00.123456Z",
            ),
        ] {
            let parsed = Timestamp::parse_iso(text).map(|time| time.to_string());
            assert_eq!(parsed.as_deref(), Ok(shown), "{text}");
        }
        for bad in [
            "",
            "2026",
            "2026-11-01T",
            "2026-11-01Z",
            "2026-11-01T2:30",
            "2026-11-01T02",
            "20261101T023000Z",
            "2026-11-01T02:30:00+5",
            "2026-11-01T02:30:00+05:3",
            "2026-11-01T02:30:00+053",
            "2026-11-0é",
            "2026-02-30",
            "2026-11-01T02:30:00ZZ",
            "2026-11-01T02:30:00Z+01:00",
        ] {
            assert_eq!(Timestamp::parse_iso(bad), Err(TimeError::Syntax), "{bad}");
        }
        assert_eq!(Timestamp::parse_iso("1969-12-31"), Err(TimeError::Range));
    }

    /// What a regular expression would say: `d` is a digit, `T` one of `T`, `t` and a blank, all else stands for itself.
    fn has_shape(text: &str, shape: &str) -> bool {
        text.len() == shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(byte, wanted)| match wanted {
                    b'd' => byte.is_ascii_digit(),
                    b'T' => b"Tt ".contains(&byte),
                    b'Z' => b"Zz".contains(&byte),
                    b'+' => b"+-".contains(&byte),
                    other => byte == other,
                })
    }

    /// By the library's calendar, from fields at their places.
    fn expected(text: &str) -> Result<Timestamp, TimeError> {
        let digits = text.bytes().skip(20).take_while(u8::is_ascii_digit).count();
        let fraction = if text.as_bytes().get(19) == Some(&b'.') {
            format!(".{}", "d".repeat(digits.max(1)))
        } else {
            String::new()
        };
        let stem = format!("dddd-dd-ddTdd:dd:dd{fraction}");
        let utc = has_shape(text, &format!("{stem}Z"));
        if !utc && !has_shape(text, &format!("{stem}+dd:dd")) {
            return Err(TimeError::Syntax);
        }
        let number = |at: usize, length: usize| text[at..at + length].parse::<i32>().unwrap();
        let small = |at| i8::try_from(number(at, 2)).unwrap();
        if small(17) == 60 {
            return Err(TimeError::Syntax);
        }
        let civil = jiff::civil::DateTime::new(
            i16::try_from(number(0, 4)).unwrap(),
            small(5),
            small(8),
            small(11),
            small(14),
            small(17),
            0,
        )
        .map_err(|_| TimeError::Syntax)?;
        let offset = if utc {
            0
        } else {
            let end = text.len();
            let (hours, minutes) = (number(end - 5, 2), number(end - 2, 2));
            if hours > 23 || minutes > 59 {
                return Err(TimeError::Syntax);
            }
            let sign = if text.as_bytes()[end - 6] == b'-' {
                -1
            } else {
                1
            };
            sign * (hours * 3600 + minutes * 60)
        };
        let seconds = civil
            .duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0))
            .as_secs()
            - i64::from(offset);
        let micros: String = (0..6)
            .map(|n| {
                if n < fraction.len().saturating_sub(1) {
                    char::from(text.as_bytes()[20 + n])
                } else {
                    '0'
                }
            })
            .collect();
        Timestamp::from_micros(seconds * 1_000_000 + micros.parse::<i64>().unwrap())
            .ok_or(TimeError::Range)
    }

    fn texts() -> impl Strategy<Value = String> {
        let parts = (
            prop_oneof![
                Just("1970".to_owned()),
                Just("9999".to_owned()),
                "[0-9]{4}",
                "20[0-9]{2}"
            ],
            "(-|-|-|/)(0[0-9]|1[0-3])-([0-2][0-9]|3[0-2])",
            "(T|t| |T|T|_)([01][0-9]|2[0-4]):([0-5][0-9]|60):([0-5][0-9]|60)",
            "|\\.[0-9]{0,12}|,[0-9]{3}",
            "Z|z|Z|[+-]([01][0-9]|2[0-4]):?([0-5][0-9]|60)|[+-]02:00|",
        )
            .prop_map(|(year, date, time, fraction, zone)| {
                format!("{year}{date}{time}{fraction}{zone}")
            });
        (parts, prop::option::weighted(0.2, (0_usize..20, "[ -~é]"))).prop_map(|(text, edit)| {
            match edit {
                None => text,
                Some((at, with)) => text
                    .chars()
                    .enumerate()
                    .map(|(n, old)| {
                        if n == at {
                            with.clone()
                        } else {
                            old.to_string()
                        }
                    })
                    .collect(),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn parses_what_the_shape_allows_and_nothing_else(text in texts()) {
            prop_assert_eq!(Timestamp::parse(&text), expected(&text), "{}", text);
        }

        #[test]
        fn what_is_shown_is_parsed_again(micros in 0..=Timestamp::MAX.micros()) {
            let time = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        }
    }
}
