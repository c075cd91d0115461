//! Checking what a request says, member by member, and collecting everything that is wrong with it.
//!
//! [`Fields`] takes the members of an object one after the other; each getter returns the value if it is good and
//! notes a [`Problem`] if it is not. So one answer lists all problems of a body. Query strings are read through the
//! same face, with every value a string.

use crate::json::{Json, child};
use meterd_fault::{Fault, Format, JsonType, Kind, Location, Problem, Rule};
use meterd_model::{
    Alphabet, Date, Decimal, DecimalError, TextError, TextRule, TimeError, Timestamp, Zone,
    check_text,
};
use uuid::Uuid;

/// The most problems one answer lists.
pub const PROBLEMS_MAX: usize = 100;

const URL_ENCODED: Rule = Rule::Format {
    format: Format::UrlEncoding,
};

/// What has been found wrong so far.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    beyond: bool,
}

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.beyond = true;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether more problems were found than are listed.
    pub fn is_full(&self) -> bool {
        self.beyond
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.list
    }

    /// All problems as one fault, if there are any.
    pub fn into_result(self) -> Result<(), Fault> {
        if self.list.is_empty() {
            Ok(())
        } else {
            Err(Kind::Invalid {
                problems: self.list,
            }
            .into())
        }
    }
}

/// How strictly a body or query string is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Members that nobody takes are refused rather than ignored.
    pub refuses_unknown: bool,
    /// Repeated parameters of a query are one list, as if joined by commas, rather than refused.
    pub joins_repeats: bool,
    /// Parameters of a query without a value are as if they were not there.
    pub drops_empty: bool,
}

impl Form {
    /// A typing error does not pass for a wish that was met.
    pub const STRICT: Self = Self {
        refuses_unknown: true,
        joins_repeats: false,
        drops_empty: false,
    };
    /// As services take it whose clients send more than they document.
    pub const LENIENT: Self = Self {
        refuses_unknown: false,
        joins_repeats: true,
        drops_empty: false,
    };
}

/// Bounds of a decimal.
#[derive(Clone, Copy, Debug)]
pub enum DecimalRange {
    Any,
    AtLeast(Decimal),
    Above(Decimal),
}

/// Where a set of fields was read from.
#[derive(Clone, Debug)]
enum Source {
    Body(String),
    Query,
}

/// The members of one object, or the parameters of one query string, not yet taken.
#[derive(Debug)]
pub struct Fields<'p> {
    source: Source,
    members: Vec<(String, Json)>,
    /// Parameters of a query whose values cannot be decoded, where that only matters if somebody takes them.
    undecoded: Vec<String>,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'p> Fields<'p> {
    /// The members of a JSON object; anything else is a problem at `pointer`.
    pub fn of_object(json: Json, pointer: &str, problems: &'p mut Problems) -> Option<Self> {
        match json {
            Json::Object(members) => Some(Self {
                source: Source::Body(pointer.to_owned()),
                members,
                undecoded: Vec::new(),
                known: Vec::new(),
                problems,
            }),
            _ => {
                problems.push(Problem::body(
                    pointer,
                    Rule::Type {
                        expected: JsonType::Object,
                    },
                ));
                None
            }
        }
    }

    /// The parameters of a query string (`application/x-www-form-urlencoded`).
    pub fn of_query(query: &str, form: Form, problems: &'p mut Problems) -> Self {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut undecoded = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = form_decode(name);
            let (Some(name), Some(value)) = (&decoded, form_decode(value)) else {
                if form.refuses_unknown {
                    problems.push(Problem::query(meterd_fault::quote(name), URL_ENCODED));
                } else {
                    undecoded.extend(decoded);
                }
                continue;
            };
            if value.is_empty() && form.drops_empty {
                continue;
            }
            match members.iter_mut().find(|(known, _)| known == name) {
                None => members.push((name.clone(), Json::String(value))),
                Some((_, Json::String(list))) if form.joins_repeats => {
                    list.push(',');
                    list.push_str(&value);
                }
                Some(_) => {
                    problems.push(Problem::query(meterd_fault::quote(name), Rule::Unique));
                }
            }
        }
        Self {
            source: Source::Query,
            members,
            undecoded,
            known: Vec::new(),
            problems,
        }
    }

    pub fn location(&self, name: &str) -> Location {
        match &self.source {
            Source::Body(pointer) => Location::Body(child(pointer, name)),
            Source::Query => Location::Query(name.to_owned()),
        }
    }

    /// Notes that the named member breaks a rule.
    pub fn refuse(&mut self, name: &str, rule: Rule) {
        let location = self.location(name);
        self.problems.push(Problem::new(location, rule));
    }

    fn refuse_value(&mut self, name: &str, rule: Rule, value: &str) {
        let location = self.location(name);
        self.problems
            .push(Problem::new(location, rule).with_value(value));
    }

    /// The raw member; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Json> {
        self.known.push(name);
        if let Some(position) = self.undecoded.iter().position(|known| known == name) {
            self.undecoded.remove(position);
            self.refuse(name, URL_ENCODED);
        }
        let position = self.members.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.members.remove(position);
        (value != Json::Null).then_some(value)
    }

    /// The raw member without taking it, for what must be known before it is checked; `null` counts as absent.
    pub fn peek(&self, name: &str) -> Option<&Json> {
        let (_, value) = self.members.iter().find(|(key, _)| key == name)?;
        (*value != Json::Null).then_some(value)
    }

    /// Whether the member is there, if only as `null`.
    pub fn is_given(&self, name: &str) -> bool {
        self.members.iter().any(|(key, _)| key == name)
    }

    /// Whether the member says nothing: absent, `null` or a text of blanks.
    pub fn is_blank(&self, name: &str) -> bool {
        let found = self.members.iter().find(|(key, _)| key == name);
        match found {
            None | Some((_, Json::Null)) => true,
            Some((_, Json::String(text))) => text.trim().is_empty(),
            Some(_) => false,
        }
    }

    /// Lets a member go by another name too. Given under both, it must be the same; `null` counts as absent.
    pub fn alias(&mut self, name: &'static str, alias: &'static str) {
        let Some(at) = self.members.iter().position(|(key, _)| key == alias) else {
            return;
        };
        let (_, value) = self.members.remove(at);
        match self.members.iter_mut().find(|(key, _)| key == name) {
            None => self.members.push((name.to_owned(), value)),
            Some((_, known)) if *known == Json::Null => *known = value,
            Some((_, known)) if value == Json::Null || is_same(known, &value) => {}
            Some(_) => {
                let other = alias.into();
                self.refuse(name, Rule::ExcludedBy { other });
            }
        }
    }

    /// The raw member, or a problem that it is missing.
    pub fn require(&mut self, name: &'static str) -> Option<Json> {
        let value = self.take(name);
        if value.is_none() && !self.already_refused(name) {
            self.refuse(name, Rule::Required);
        }
        value
    }

    fn already_refused(&self, name: &str) -> bool {
        let location = self.location(name);
        self.problems.list.iter().any(|p| p.location == location)
    }

    pub fn string(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        self.as_string(name, value)
    }

    pub fn required_string(&mut self, name: &'static str) -> Option<String> {
        let value = self.require(name)?;
        self.as_string(name, value)
    }

    fn as_string(&mut self, name: &'static str, value: Json) -> Option<String> {
        match value {
            Json::String(text) => Some(text),
            _ => {
                self.refuse(
                    name,
                    Rule::Type {
                        expected: JsonType::String,
                    },
                );
                None
            }
        }
    }

    /// A string that follows a model type's rule.
    pub fn text<T>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(String) -> Result<T, TextError>,
    ) -> Option<T> {
        let text = self.string(name)?;
        self.made(name, text, make)
    }

    pub fn required_text<T>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(String) -> Result<T, TextError>,
    ) -> Option<T> {
        let text = self.required_string(name)?;
        self.made(name, text, make)
    }

    fn made<T>(
        &mut self,
        name: &str,
        text: String,
        make: impl FnOnce(String) -> Result<T, TextError>,
    ) -> Option<T> {
        let shown = meterd_fault::quote(&text);
        match make(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse_value(name, text_rule(error), &shown);
                None
            }
        }
    }

    /// A string within a length and alphabet.
    pub fn checked_string(&mut self, name: &'static str, rule: TextRule) -> Option<String> {
        self.text(name, |text| check_text(&text, rule).map(|()| text))
    }

    pub fn required_checked(&mut self, name: &'static str, rule: TextRule) -> Option<String> {
        self.required_text(name, |text| check_text(&text, rule).map(|()| text))
    }

    /// A string that is one of a closed list.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.string(name)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let allowed = choices.iter().map(|(word, _)| (*word).into()).collect();
            self.refuse_value(name, Rule::OneOf { allowed }, &text);
        }
        found.map(|(_, value)| *value)
    }

    pub fn required_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if !self
            .members
            .iter()
            .any(|(key, value)| key == name && *value != Json::Null)
        {
            self.require(name);
            return None;
        }
        self.choice(name, choices)
    }

    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            Json::Boolean(value) => Some(value),
            Json::String(text) if self.is_query() && text == "true" => Some(true),
            Json::String(text) if self.is_query() && text == "false" => Some(false),
            _ => {
                self.refuse(
                    name,
                    Rule::Type {
                        expected: JsonType::Boolean,
                    },
                );
                None
            }
        }
    }

    /// An integer within inclusive bounds.
    pub fn integer(&mut self, name: &'static str, min: i64, max: i64) -> Option<i64> {
        let value = self.take(name)?;
        self.as_integer(name, value, min, max)
    }

    pub fn required_integer(&mut self, name: &'static str, min: i64, max: i64) -> Option<i64> {
        let value = self.require(name)?;
        self.as_integer(name, value, min, max)
    }

    fn as_integer(&mut self, name: &str, value: Json, min: i64, max: i64) -> Option<i64> {
        let text: Box<str> = match value {
            Json::Number(text) => text,
            Json::String(text) if self.is_query() => text.into(),
            _ => {
                self.refuse(
                    name,
                    Rule::Type {
                        expected: JsonType::Integer,
                    },
                );
                return None;
            }
        };
        // 10, 10.0 and 1e1 are the same JSON number (RFC 8259, section 6).
        let units = match Decimal::parse(text.as_bytes()) {
            Ok(decimal) if decimal.units() % Decimal::ONE.units() == 0 => {
                Some(decimal.units() / Decimal::ONE.units())
            }
            Err(DecimalError::Digits) => Some(i128::MAX),
            _ => None,
        };
        let Some(number) = units else {
            self.refuse_value(
                name,
                Rule::Type {
                    expected: JsonType::Integer,
                },
                &text,
            );
            return None;
        };
        match i64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                self.refuse_value(
                    name,
                    Rule::Range {
                        min: Some(min.to_string()),
                        max: Some(max.to_string()),
                    },
                    &text,
                );
                None
            }
        }
    }

    /// An array of integers, each within inclusive bounds.
    pub fn integers(
        &mut self,
        name: &'static str,
        items_max: usize,
        min: i64,
        max: i64,
    ) -> Option<Vec<i64>> {
        let items = self.array(name, items_max)?;
        let Location::Body(pointer) = self.location(name) else {
            return None;
        };
        let mut within = Fields {
            source: Source::Body(pointer),
            members: Vec::new(),
            undecoded: Vec::new(),
            known: Vec::new(),
            problems: self.problems,
        };
        let items = items.into_iter().enumerate();
        let read =
            items.filter_map(|(index, item)| within.as_integer(&index.to_string(), item, min, max));
        Some(read.collect())
    }

    pub fn timestamp(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.string(name)?;
        self.parsed(name, &text, Timestamp::parse)
    }

    pub fn required_timestamp(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.required_string(name)?;
        self.parsed(name, &text, Timestamp::parse)
    }

    pub fn zone(&mut self, name: &'static str) -> Option<Zone> {
        let text = self.string(name)?;
        if let Ok(zone) = Zone::named(&text) {
            return Some(zone);
        }
        self.refuse_value(
            name,
            Rule::Format {
                format: Format::Timezone,
            },
            &text,
        );
        None
    }

    /// As [`Self::timestamp`], in any form of ISO 8601 that [`Timestamp::parse_iso`] takes.
    pub fn iso_time(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.string(name)?;
        self.parsed(name, &text, Timestamp::parse_iso)
    }

    pub fn required_iso_time(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.required_string(name)?;
        self.parsed(name, &text, Timestamp::parse_iso)
    }

    /// `YYYY-MM-DD`.
    pub fn date(&mut self, name: &'static str) -> Option<Date> {
        let text = self.string(name)?;
        self.parsed_date(name, &text)
    }

    pub fn required_date(&mut self, name: &'static str) -> Option<Date> {
        let text = self.required_string(name)?;
        self.parsed_date(name, &text)
    }

    fn parsed_date(&mut self, name: &'static str, text: &str) -> Option<Date> {
        let date = Date::parse(text);
        if let Err(error) = date {
            self.refuse_value(name, date_rule(error), text);
        }
        date.ok()
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, TimeError>,
    ) -> Option<T> {
        match parse(text) {
            Ok(time) => Some(time),
            Err(error) => {
                self.refuse_value(name, time_rule(error), text);
                None
            }
        }
    }

    /// A number, exactly as it is written.
    pub fn decimal(&mut self, name: &'static str, range: DecimalRange) -> Option<Decimal> {
        let value = self.take(name)?;
        self.as_decimal(name, value, range)
    }

    pub fn required_decimal(&mut self, name: &'static str, range: DecimalRange) -> Option<Decimal> {
        let value = self.require(name)?;
        self.as_decimal(name, value, range)
    }

    fn as_decimal(
        &mut self,
        name: &'static str,
        value: Json,
        range: DecimalRange,
    ) -> Option<Decimal> {
        let Json::Number(text) = value else {
            self.refuse(
                name,
                Rule::Type {
                    expected: JsonType::Number,
                },
            );
            return None;
        };
        let rule = match Decimal::parse(text.as_bytes()) {
            Ok(number) => match range {
                DecimalRange::AtLeast(least) if number < least => Rule::Range {
                    min: Some(least.to_string()),
                    max: None,
                },
                DecimalRange::Above(bound) if number <= bound => Rule::Other {
                    code: "above",
                    text: format!("must be greater than {bound}").into(),
                },
                _ => return Some(number),
            },
            Err(error) => decimal_rule(error),
        };
        self.refuse_value(name, rule, &text);
        None
    }

    /// 36 characters.
    pub fn uuid(&mut self, name: &'static str) -> Option<Uuid> {
        let text = self.string(name)?;
        self.as_uuid(name, &text)
    }

    pub fn required_uuid(&mut self, name: &'static str) -> Option<Uuid> {
        let text = self.required_string(name)?;
        self.as_uuid(name, &text)
    }

    fn as_uuid(&mut self, name: &'static str, text: &str) -> Option<Uuid> {
        let id = parse_uuid(text);
        if id.is_none() {
            self.refuse_value(
                name,
                Rule::Format {
                    format: Format::Uuid,
                },
                text,
            );
        }
        id
    }

    /// An e-mail address as far as its form tells: something before and after one `@`, without blanks.
    pub fn email(&mut self, name: &'static str) -> Option<String> {
        let text = self.string(name)?;
        self.as_email(name, text)
    }

    pub fn required_email(&mut self, name: &'static str) -> Option<String> {
        let text = self.required_string(name)?;
        self.as_email(name, text)
    }

    fn as_email(&mut self, name: &'static str, text: String) -> Option<String> {
        if is_email(&text) {
            return Some(text);
        }
        let shown = meterd_fault::quote(&text);
        self.refuse_value(
            name,
            Rule::Format {
                format: Format::Email,
            },
            &shown,
        );
        None
    }

    /// The items of a query parameter, separated by commas; empty ones do not count.
    pub fn list(&mut self, name: &'static str, max: usize) -> Option<Vec<String>> {
        let text = self.string(name)?;
        let items = text.split(',').filter(|item| !item.is_empty());
        let items: Vec<_> = items.map(str::to_owned).collect();
        if items.len() > max {
            self.refuse(
                name,
                Rule::Count {
                    min: 0,
                    max: max as u64,
                },
            );
            return None;
        }
        Some(items)
    }

    /// An array of at most `max` items.
    pub fn array(&mut self, name: &'static str, max: usize) -> Option<Vec<Json>> {
        let value = self.take(name)?;
        self.as_array(name, value, 0, max)
    }

    /// An array of one to `max` items.
    pub fn required_array(&mut self, name: &'static str, max: usize) -> Option<Vec<Json>> {
        let value = self.require(name)?;
        self.as_array(name, value, 1, max)
    }

    fn as_array(
        &mut self,
        name: &'static str,
        value: Json,
        min: usize,
        max: usize,
    ) -> Option<Vec<Json>> {
        match value {
            Json::Array(items) if (min..=max).contains(&items.len()) => Some(items),
            Json::Array(_) => {
                self.refuse(
                    name,
                    Rule::Count {
                        min: min as u64,
                        max: max as u64,
                    },
                );
                None
            }
            _ => {
                self.refuse(
                    name,
                    Rule::Type {
                        expected: JsonType::Array,
                    },
                );
                None
            }
        }
    }

    /// An array of strings, each following a model type's rule.
    pub fn texts<T>(
        &mut self,
        name: &'static str,
        max: usize,
        make: impl Fn(String) -> Result<T, TextError>,
    ) -> Option<Vec<T>> {
        let items = self.array(name, max)?;
        let pointer = self.location(name);
        Some(texts_of(items, &pointer, self.problems, make))
    }

    /// The fields of a member that is itself an object, with its pointer.
    pub fn object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        let value = self.take(name)?;
        self.nested(name, value)
    }

    fn nested(&mut self, name: &str, value: Json) -> Option<Fields<'_>> {
        let Location::Body(pointer) = self.location(name) else {
            return None;
        };
        Fields::of_object(value, &pointer, self.problems)
    }

    /// All members at once, for objects whose keys are data.
    pub fn into_members(self) -> (Vec<(String, Json)>, &'p mut Problems) {
        (self.members, self.problems)
    }

    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    fn is_query(&self) -> bool {
        matches!(self.source, Source::Query)
    }

    /// Every member that nobody took is a mistake: most often a typing error that would otherwise do nothing.
    pub fn finish(self) {
        for (name, _) in &self.members {
            let location = self.location(&meterd_fault::quote(name));
            self.problems.push(Problem::new(
                location,
                Rule::UnknownField {
                    known: self.known.iter().map(ToString::to_string).collect(),
                },
            ));
        }
    }
}

/// Strings of an array, each checked; problems are noted at their index.
pub fn texts_of<T>(
    items: Vec<Json>,
    location: &Location,
    problems: &mut Problems,
    make: impl Fn(String) -> Result<T, TextError>,
) -> Vec<T> {
    let Location::Body(pointer) = location else {
        return Vec::new();
    };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let here = child(pointer, &index.to_string());
        let Json::String(text) = item else {
            problems.push(Problem::body(
                here,
                Rule::Type {
                    expected: JsonType::String,
                },
            ));
            continue;
        };
        let shown = meterd_fault::quote(&text);
        match make(text) {
            Ok(value) => texts.push(value),
            Err(error) => {
                problems.push(Problem::body(here, text_rule(error)).with_value(&shown));
            }
        }
    }
    texts
}

/// The rule that a text broke.
pub fn text_rule(error: TextError) -> Rule {
    match error {
        TextError::Length { min, max } => Rule::Length {
            min: min as u64,
            max: max as u64,
        },
        TextError::Alphabet(Alphabet::Name) => Rule::Format {
            format: Format::Name,
        },
        TextError::Alphabet(Alphabet::Identifier) => Rule::Format {
            format: Format::Identifier,
        },
        // No text breaks the rule of the last one.
        TextError::Alphabet(Alphabet::Text | Alphabet::Any) => Rule::Format {
            format: Format::PlainText,
        },
    }
}

/// The rule that a time broke.
pub fn time_rule(error: TimeError) -> Rule {
    match error {
        TimeError::Syntax => Rule::Format {
            format: Format::Timestamp,
        },
        TimeError::Range => Rule::Range {
            min: Some(Timestamp::MIN.to_string()),
            max: Some("9999-12-30T21:59:59Z".into()),
        },
    }
}

/// The rule that a date broke.
pub fn date_rule(error: TimeError) -> Rule {
    match error {
        TimeError::Syntax => Rule::Format {
            format: Format::Date,
        },
        TimeError::Range => Rule::Range {
            min: Some(Date::MIN.to_string()),
            max: Some(Date::MAX.to_string()),
        },
    }
}

/// The rule that a number broke.
pub fn decimal_rule(error: DecimalError) -> Rule {
    match error {
        DecimalError::Syntax => Rule::Format {
            format: Format::Decimal,
        },
        DecimalError::Digits => Rule::Digits {
            integer: Decimal::INTEGER_DIGITS,
            fraction: Decimal::FRACTION_DIGITS,
        },
    }
}

/// A UUID in its usual form of 36 characters; the library would also take others.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// Longest address: 64 before the `@` and 255 after it (RFC 5321, 4.5.3.1).
const EMAIL_BYTES_MAX: usize = 320;

/// Whether a text has the form of an e-mail address, see [`Fields::email`].
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let has_stray = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    text.len() <= EMAIL_BYTES_MAX
        && !local.is_empty()
        && !domain.is_empty()
        && !text.contains(',')
        && !local.contains(has_stray)
        && !domain.contains(has_stray)
}

/// Numbers are the same however they are written.
fn is_same(one: &Json, other: &Json) -> bool {
    if let (Json::Number(one), Json::Number(other)) = (one, other)
        && let (Ok(one), Ok(other)) = (
            Decimal::parse(one.as_bytes()),
            Decimal::parse(other.as_bytes()),
        )
    {
        return one == other;
    }
    one == other
}

/// Decodes `application/x-www-form-urlencoded`; `None` for bytes that are not UTF-8 or a stray percent sign.
fn form_decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    decode_percent(&spaced)
}

/// Percent-decoding that refuses what it cannot read, rather than passing it through.
pub fn decode_percent(text: &str) -> Option<String> {
    let stray = text.split('%').skip(1).any(|after| {
        let mut digits = after.bytes();
        !(digits.next().is_some_and(|b| b.is_ascii_hexdigit())
            && digits.next().is_some_and(|b| b.is_ascii_hexdigit()))
    });
    if stray {
        return None;
    }
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_every_problem() {
        let mut problems = Problems::default();
        let json = crate::json::parse(
            br#"{"name":5,"kind":"x","count":1.5,"tags":["a",7],"extra":1,"when":"soon"}"#,
            "",
            &mut problems,
        )
        .unwrap();
        let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
        assert_eq!(fields.string("name"), None);
        assert_eq!(fields.choice("kind", &[("delta", 1)]), None);
        assert_eq!(fields.integer("count", 0, 10), None);
        assert_eq!(
            fields.texts("tags", 5, Ok::<_, TextError>),
            Some(vec!["a".to_owned()])
        );
        assert_eq!(fields.required_string("missing"), None);
        assert_eq!(fields.timestamp("when"), None);
        fields.finish();
        let found: Vec<_> = problems
            .into_vec()
            .into_iter()
            .map(|p| (p.location.dotted(), p.rule.code()))
            .collect();
        assert_eq!(
            found,
            [
                ("name".to_owned(), "type"),
                ("kind".to_owned(), "one_of"),
                ("count".to_owned(), "type"),
                ("tags[1]".to_owned(), "type"),
                ("missing".to_owned(), "required"),
                ("when".to_owned(), "format"),
                ("extra".to_owned(), "unknown_field"),
            ]
        );
    }

    #[test]
    fn queries_are_decoded_strictly() {
        let mut problems = Problems::default();
        let mut fields = Fields::of_query(
            "subject=a+b%2Bc&limit=5&limit=6&bad=%zz&worse=%ff",
            Form::STRICT,
            &mut problems,
        );
        assert_eq!(fields.string("subject").as_deref(), Some("a b+c"));
        assert_eq!(fields.integer("limit", 1, 100), Some(5));
        fields.finish();
        let found: Vec<_> = problems
            .into_vec()
            .into_iter()
            .map(|p| (p.location.dotted(), p.rule.code()))
            .collect();
        assert_eq!(
            found,
            [
                ("limit".to_owned(), "unique"),
                ("bad".to_owned(), "format"),
                ("worse".to_owned(), "format")
            ]
        );
    }

    #[test]
    fn lenient_queries_join_what_is_repeated() {
        let mut problems = Problems::default();
        let query = "ids=a%2Cb&ids=c&one=x&ids=,&many=1,2,3";
        let mut fields = Fields::of_query(query, Form::LENIENT, &mut problems);
        let list = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        assert_eq!(fields.list("ids", 3), list(&["a", "b", "c"]));
        assert_eq!(fields.list("one", 3), list(&["x"]));
        assert_eq!(fields.list("many", 2), None);
        assert_eq!(fields.list("none", 2), None);
        let found: Vec<_> = problems
            .into_vec()
            .into_iter()
            .map(|p| (p.location.dotted(), p.rule.code()))
            .collect();
        assert_eq!(found, [("many".to_owned(), "count")]);
    }

    #[test]
    fn what_cannot_be_decoded_matters_where_it_is_taken() {
        let mut problems = Problems::default();
        let query = "one=%ff&two=%zz&other=%ff&%ff=1&three=3";
        let mut fields = Fields::of_query(query, Form::LENIENT, &mut problems);
        assert_eq!(fields.string("one"), None);
        assert_eq!(fields.required_string("two"), None);
        assert_eq!(fields.string("three").as_deref(), Some("3"));
        let found = problems.into_vec().into_iter();
        let found: Vec<_> = found
            .map(|p| (p.location.dotted(), p.rule.code()))
            .collect();
        let format = |name: &str| (name.to_owned(), "format");
        assert_eq!(found, [format("one"), format("two")]);
    }

    #[test]
    fn members_go_by_two_names() {
        let read = |json: &str| {
            let mut problems = Problems::default();
            let json = crate::json::parse(json.as_bytes(), "", &mut problems).unwrap();
            let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
            fields.alias("email", "mail");
            let (given, blank) = (fields.is_given("email"), fields.is_blank("email"));
            let email = fields.string("email");
            let codes = problems.into_vec().into_iter().map(|p| p.rule.code());
            (given, blank, email, codes.collect::<Vec<_>>())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read("{}"), (false, true, None, vec![]));
        assert_eq!(read(r#"{"mail":"a"}"#), (true, false, text("a"), vec![]));
        assert_eq!(read(r#"{"mail":null}"#), (true, true, None, vec![]));
        assert_eq!(read(r#"{"email":" "}"#), (true, true, text(" "), vec![]));
        let same = r#"{"email":"a","mail":"a"}"#;
        assert_eq!(read(same), (true, false, text("a"), vec![]));
        let other = r#"{"email":"a","mail":"b"}"#;
        assert_eq!(read(other), (true, false, text("a"), vec!["excluded_by"]));
        for one in [
            r#"{"email":"a","mail":null}"#,
            r#"{"email":null,"mail":"a"}"#,
        ] {
            assert_eq!(read(one), (true, false, text("a"), vec![]));
        }
        let numbers = r#"{"email":1,"mail":1.0}"#;
        assert_eq!(read(numbers), (true, false, None, vec!["type"]));
    }

    #[test]
    fn parameters_without_a_value_can_be_left_out() {
        let form = Form {
            drops_empty: true,
            ..Form::STRICT
        };
        let mut problems = Problems::default();
        let mut fields = Fields::of_query("page=&size=&size=5&flag", form, &mut problems);
        assert_eq!(fields.integer("page", 1, 9), None);
        assert_eq!(fields.integer("size", 1, 9), Some(5));
        fields.finish();
        assert!(problems.is_empty());
    }

    #[test]
    fn integers_of_an_array_are_told_by_their_place() {
        let mut problems = Problems::default();
        let json = crate::json::parse(br#"{"ids":[1,"2",0]}"#, "", &mut problems).unwrap();
        let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
        assert_eq!(fields.integers("ids", 3, 1, 9), Some(vec![1]));
        let places = problems.into_vec().into_iter();
        let places: Vec<_> = places.map(|p| p.location.dotted()).collect();
        assert_eq!(places, ["ids[1]", "ids[2]"]);
    }

    #[test]
    fn each_getter_says_what_it_wants() {
        let mut problems = Problems::default();
        let json = crate::json::parse(
            br#"{"day":"2026-02-30","time":"2026-02-03","id":"0192F0C1-7E6A-7B1C-8D2E-3F4A5B6C7D8E",
                "short":"0192f0c17e6a7b1c8d2e3f4a5b6c7d8e","mail":"a b@c","ok_mail":"a@b","list_mail":"a@b,c@d",
                "zero":0,"least":-1,"fine":1.50,"text":"1","long":0.1234567890123456789}"#,
            "",
            &mut problems,
        )
        .unwrap();
        let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
        let zero = Decimal::from(0);
        assert_eq!(fields.date("day"), None);
        assert_eq!(
            fields.iso_time("time"),
            Timestamp::parse("2026-02-03T00:00:00Z").ok()
        );
        assert!(fields.uuid("id").is_some());
        assert_eq!(fields.uuid("short"), None);
        assert_eq!(fields.email("mail"), None);
        assert_eq!(fields.email("list_mail"), None);
        assert_eq!(fields.email("ok_mail").as_deref(), Some("a@b"));
        assert_eq!(fields.decimal("zero", DecimalRange::Above(zero)), None);
        assert_eq!(fields.decimal("least", DecimalRange::AtLeast(zero)), None);
        let fine = fields.decimal("fine", DecimalRange::Above(zero));
        assert_eq!(fine, Decimal::parse(b"1.5").ok());
        assert_eq!(fields.decimal("text", DecimalRange::Any), None);
        assert_eq!(fields.decimal("long", DecimalRange::Any), None);
        assert_eq!(fields.required_date("missing"), None);
        let found: Vec<_> = problems
            .into_vec()
            .into_iter()
            .map(|p| format!("{}: {}", p.location.dotted(), p.rule))
            .collect();
        assert_eq!(
            found,
            [
                "day: must be a date such as 2026-11-01",
                "short: must be a UUID",
                "mail: must be an e-mail address",
                "list_mail: must be an e-mail address",
                "zero: must be greater than 0",
                "least: must be at least 0",
                "text: must be a number",
                "long: must have at most 20 digits before and 18 after the decimal point",
                "missing: is required",
            ]
        );
    }

    #[test]
    fn integers_are_numbers_not_spellings() {
        for (text, expected) in [
            ("10", Some(10)),
            ("10.0", Some(10)),
            ("1e1", Some(10)),
            ("1e30", None),
            ("0.5", None),
        ] {
            let mut problems = Problems::default();
            let json =
                crate::json::parse(format!(r#"{{"n":{text}}}"#).as_bytes(), "", &mut problems)
                    .unwrap();
            let mut fields = Fields::of_object(json, "", &mut problems).unwrap();
            assert_eq!(fields.integer("n", 0, 100), expected, "{text}");
        }
    }
}
