//! Types that the bodies of many operations share, and reading a body that makes something or changes it.

use meterd_fault::{Fault, Problem, Rule};
use meterd_http::ExactNumber;
use meterd_http::fields::{DecimalRange, Fields, time_rule};
use meterd_model::{Decimal, TimeError, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// Longest title or name, in characters (3.6).
pub(crate) const NAME_MAX: usize = 255;
/// Longest description or note, in characters (3.6).
pub(crate) const TEXT_MAX: usize = 10_000;

/// A time as the API has it: whole seconds in UTC, `2026-01-15T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Timestamp);

impl Moment {
    /// The fraction is dropped.
    pub(crate) fn of(time: Timestamp) -> Self {
        Self(Timestamp::from_seconds(time.seconds()).unwrap_or(time))
    }

    pub(crate) fn time(self) -> Timestamp {
        self.0
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Result<_, TimeError> = Timestamp::parse(&text);
        time.map(Self::of).map_err(serde::de::Error::custom)
    }
}

/// Words of a closed list. Any case will do, and blank, hyphen and underscore are the same (5.1).
pub(crate) trait Word: Copy + PartialEq + 'static {
    /// Each as it is written.
    const WORDS: &'static [(&'static str, Self)];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }

    fn named(text: &str) -> Option<Self> {
        let found = Self::WORDS
            .iter()
            .find(|(word, _)| spelled(word) == spelled(text));
        found.map(|(_, value)| *value)
    }

    fn read(fields: &mut Fields<'_>, name: &'static str) -> Option<Self> {
        let text = fields.string(name)?;
        let found = Self::named(&text);
        if found.is_none() {
            fields.refuse(name, Self::rule());
        }
        found
    }

    /// What a text breaks that is none of them.
    fn rule() -> Rule {
        let words = Self::WORDS.iter().map(|(word, _)| (*word).into());
        let allowed = words.collect();
        Rule::OneOf { allowed }
    }
}

fn spelled(word: &str) -> String {
    word.trim().to_lowercase().replace(['-', '_'], " ")
}

/// An enumeration whose members have words, which is also how it is stored and shown.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($member:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $name {
            $(#[serde(rename = $word)] $member),+
        }

        impl $crate::wire::Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$member)),+];
        }
    };
}
pub(crate) use words;

/// A rule that only this surface has: the second half of its sentence.
pub(crate) fn rule(code: &'static str, text: impl Into<Cow<'static, str>>) -> Rule {
    let text = text.into();
    Rule::Other { code, text }
}

/// That a member breaks a rule which nobody could tell when it was read.
pub(crate) fn refused(member: &str, rule: Rule) -> Fault {
    Fault::invalid(Problem::body(format!("/{member}"), rule))
}

/// A member that must be there, by itself or from before: what the body leaves out stays as it was, if it was.
pub(crate) fn required<T: Clone>(
    fields: &mut Fields<'_>,
    name: &'static str,
    before: Option<&T>,
    read: impl FnOnce(&mut Fields<'_>, &'static str) -> Option<T>,
) -> Option<T> {
    if let Some(before) = before
        && !fields.is_given(name)
    {
        return Some(before.clone());
    }
    if fields.is_blank(name) {
        fields.refuse(name, Rule::Required);
        return None;
    }
    read(fields, name)
}

/// A member that need not be there: what the body leaves out stays as it was, and `null` takes it away.
pub(crate) fn optional<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    before: Option<T>,
    read: impl FnOnce(&mut Fields<'_>, &'static str) -> Option<T>,
) -> Option<T> {
    if fields.is_given(name) {
        read(fields, name)
    } else {
        before
    }
}

/// A member that always has a value: what the body leaves out, or says `null` of, stays as it was.
pub(crate) fn kept<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    before: Option<T>,
    read: impl FnOnce(&mut Fields<'_>, &'static str) -> Option<T>,
) -> Option<T> {
    if fields.peek(name).is_some() {
        read(fields, name)
    } else {
        before
    }
}

/// Trimmed text; blank is none.
pub(crate) fn text(max_chars: usize) -> impl Fn(&mut Fields<'_>, &'static str) -> Option<String> {
    move |fields, name| {
        let text = fields.string(name)?;
        let text = text.trim();
        if text.chars().count() > max_chars {
            let max = max_chars as u64;
            fields.refuse(name, Rule::Length { min: 0, max });
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }
}

pub(crate) fn boolean(fields: &mut Fields<'_>, name: &'static str) -> Option<bool> {
    fields.boolean(name)
}

/// A time, or a date for its midnight.
pub(crate) fn moment(fields: &mut Fields<'_>, name: &'static str) -> Option<Moment> {
    let text = fields.string(name)?;
    match Timestamp::parse_iso(&text) {
        Ok(time) => Some(Moment::of(time)),
        Err(error) => refuse_time(fields, name, error),
    }
}

/// What a list compares times with: out of range it stands for the nearest time there is. A plus that was not encoded
/// arrives as a blank.
pub(crate) fn time_bound(fields: &mut Fields<'_>, name: &'static str) -> Option<Moment> {
    let mut text = fields.string(name)?;
    if let Some((time, offset)) = text.rsplit_once(' ')
        && time.contains(':')
    {
        text = format!("{time}+{offset}");
    }
    match Timestamp::parse_iso(&text) {
        Ok(time) => Some(Moment::of(time)),
        Err(TimeError::Range) if text.starts_with("9999") => Some(Moment::of(Timestamp::MAX)),
        Err(TimeError::Range) => Some(Moment::of(Timestamp::MIN)),
        Err(error) => refuse_time(fields, name, error),
    }
}

fn refuse_time<T>(fields: &mut Fields<'_>, name: &str, error: TimeError) -> Option<T> {
    let text = "must be an ISO 8601 date or time, such as 2026-01-15T00:00:00Z";
    fields.refuse(
        name,
        match error {
            TimeError::Syntax => rule("time", text),
            TimeError::Range => time_rule(error),
        },
    );
    None
}

/// The id of something.
pub(crate) fn id(fields: &mut Fields<'_>, name: &'static str) -> Option<u64> {
    let id = fields.integer(name, 1, i64::MAX)?;
    u64::try_from(id).ok()
}

/// An amount of money.
pub(crate) fn amount(fields: &mut Fields<'_>, name: &'static str) -> Option<ExactNumber> {
    let range = DecimalRange::AtLeast(Decimal::ZERO);
    fields.decimal(name, range).map(ExactNumber)
}
