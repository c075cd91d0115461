//! Types that the bodies of many operations share.

use meterd_control::Actor;
use meterd_fault::{JsonType, Location, Problem, Rule};
use meterd_formula::Type;
use meterd_http::ExactNumber;
use meterd_http::fields::{Fields, decimal_rule, parse_uuid, text_rule};
use meterd_http::json::{Json, child};
use meterd_model::{Alphabet, Decimal, TextRule, Timestamp, check_text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most custom fields of one entity.
const CUSTOM_FIELDS_MAX: usize = 100;
/// m3ter names no bound for these texts; every entity is held in memory, so that there must be one.
const CUSTOM_NAME: TextRule = text(1, 200);
const CUSTOM_TEXT: TextRule = text(0, 2_000);
/// Ids in bodies, where what is no id names nothing.
pub(crate) const ID: TextRule = text(0, 200);
/// Most bytes of what is kept as it was sent.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Names (3).
pub(crate) const NAME: TextRule = text(1, 200);
/// Short references chosen by clients: no control characters, no blank at either end.
pub(crate) const CODE: TextRule = TextRule {
    min_chars: 1,
    max_chars: 80,
    alphabet: Alphabet::Text,
};
/// Codes that a calculation must be able to spell.
pub(crate) const IDENTIFIER: TextRule = TextRule {
    min_chars: 1,
    max_chars: 80,
    alphabet: Alphabet::Identifier,
};
/// Codes of entities that need none, which may therefore be empty.
pub(crate) const CODE_OR_EMPTY: TextRule = TextRule {
    min_chars: 0,
    ..CODE
};
pub(crate) const IDENTIFIER_OR_EMPTY: TextRule = TextRule {
    min_chars: 0,
    ..IDENTIFIER
};

/// Any three letters, since a list of the currencies in use would be out of date (9, 31).
const CURRENCY_RULE: &str = "must be a currency code of three letters, such as USD";
/// What statements an account's bills come with (4.2, 4.6).
pub(crate) const STATEMENT_MODES: [&str; 3] = ["NONE", "JSON", "JSON_AND_CSV"];
/// What is drawn down first (4.2, 4.6).
pub(crate) const CREDITS: [&str; 2] = ["PREPAYMENT", "BALANCE"];

/// Any text of so many characters.
pub(crate) const fn text(min_chars: usize, max_chars: usize) -> TextRule {
    TextRule {
        min_chars,
        max_chars,
        alphabet: Alphabet::Any,
    }
}

/// A time as m3ter's own answers have it: RFC 3339 in UTC with microseconds.
pub(crate) fn micros(time: Timestamp) -> String {
    with_fraction(time, 6)
}

/// A time of a measurement or period: RFC 3339 in UTC with milliseconds.
pub(crate) fn millis(time: Timestamp) -> String {
    with_fraction(time, 3)
}

/// Digits past those asked for are cut off.
fn with_fraction(time: Timestamp, digits: usize) -> String {
    let whole = Timestamp::from_seconds(time.seconds()).unwrap_or(Timestamp::MIN);
    let mut text = whole.to_string();
    // `Z`, put back behind the fraction.
    text.pop();
    let fraction = format!("{:06}", time.micros().rem_euclid(1_000_000));
    text.push('.');
    text.push_str(fraction.get(..digits).unwrap_or_default());
    text.push('Z');
    text
}

/// Who changed something, as m3ter writes it.
pub(crate) fn actor_name(actor: Actor) -> String {
    match actor {
        Actor::Principal(id) | Actor::Credential(id) => format!("SERVICE_USER_{id}"),
        Actor::System | Actor::Operator => "SYSTEM".to_owned(),
    }
}

/// A word of a closed list.
pub(crate) fn word(
    fields: &mut Fields<'_>,
    name: &'static str,
    words: &[&'static str],
) -> Option<String> {
    let choices: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
    fields.choice(name, &choices).map(str::to_owned)
}

/// The items of the array `name`: words of a closed list, each at most once.
pub(crate) fn words(
    fields: &mut Fields<'_>,
    name: &'static str,
    items: Option<Vec<Json>>,
    words: &[&'static str],
) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let pointer = pointer_of(fields, name);
    for (index, item) in items?.into_iter().enumerate() {
        let rule = match item {
            Json::String(word) if found.contains(&word) => Rule::Unique,
            Json::String(word) if words.contains(&word.as_str()) => {
                found.push(word);
                continue;
            }
            _ => Rule::OneOf {
                allowed: words.iter().map(|word| (*word).into()).collect(),
            },
        };
        let here = child(&pointer, &index.to_string());
        fields.problems().push(Problem::body(here, rule));
    }
    Some(found)
}

/// A currency code.
pub(crate) fn currency(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let code = fields.string(name)?;
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(code);
    }
    fields.refuse(
        name,
        Rule::Other {
            code: "currency",
            text: CURRENCY_RULE.into(),
        },
    );
    None
}

/// An integer above zero.
pub(crate) fn positive(fields: &mut Fields<'_>, name: &'static str) -> Option<u32> {
    let number = fields.integer(name, 1, i64::from(u32::MAX))?;
    u32::try_from(number).ok()
}

/// The objects of the array `name`, each read by itself; `None` without them, or if one is wrong.
pub(crate) fn read_each<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    items: Option<Vec<Json>>,
    read: impl Fn(&mut Fields<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let pointer = pointer_of(fields, name);
    let mut values = Vec::new();
    let mut sound = true;
    for (index, item) in items?.into_iter().enumerate() {
        let here = child(&pointer, &index.to_string());
        let read = Fields::of_object(item, &here, fields.problems()).and_then(|mut f| read(&mut f));
        sound &= read.is_some();
        values.extend(read);
    }
    sound.then_some(values)
}

/// Where a member is in the body, which may have the object that it is of deep within.
pub(crate) fn pointer_of(fields: &Fields<'_>, name: &str) -> String {
    match fields.location(name) {
        Location::Body(pointer) => pointer,
        _ => child("", name),
    }
}

/// [`value_of`], unless it is too long to be kept.
pub(crate) fn kept_value(fields: &mut Fields<'_>, name: &str, json: Json) -> Value {
    let value = value_of(json);
    if value.to_string().len() > KEPT_BYTES_MAX {
        let text = format!("must have at most {KEPT_BYTES_MAX} bytes").into();
        fields.refuse(
            name,
            Rule::Other {
                code: "length",
                text,
            },
        );
    }
    value
}

/// What is kept as it was sent, and holds no amount: numbers lose what binary floating point does.
fn value_of(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Boolean(value) => value.into(),
        Json::Number(text) => serde_json::from_str(&text).unwrap_or_default(),
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(value_of).collect(),
        Json::Object(members) => {
            let members = members.into_iter();
            Value::Object(
                members
                    .map(|(name, value)| (name, value_of(value)))
                    .collect(),
            )
        }
    }
}

/// For members of documents that are left out where they say nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An id as documents have it, however a caller spells it; other texts as they are.
pub(crate) fn one_spelling(text: String) -> String {
    parse_uuid(&text).map_or(text, |id| id.to_string())
}

/// An id in an answer or a document.
pub(crate) fn id_text(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// Custom fields of an entity: texts and numbers by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CustomValues(BTreeMap<String, CustomValue>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CustomValue {
    Text(String),
    Number(Decimal),
}

impl CustomValue {
    /// None for null.
    fn read(name: &str, value: Json) -> Result<Option<Self>, Rule> {
        check_text(name, CUSTOM_NAME).map_err(text_rule)?;
        match value {
            Json::Null => Ok(None),
            Json::String(text) => {
                check_text(&text, CUSTOM_TEXT).map_err(text_rule)?;
                Ok(Some(Self::Text(text)))
            }
            Json::Number(text) => {
                let number = Decimal::parse(text.as_bytes()).map_err(decimal_rule)?;
                Ok(Some(Self::Number(number)))
            }
            _ => Err(Rule::Other {
                code: "type",
                text: "must be a string or a number".into(),
            }),
        }
    }

    /// What calculations take it for.
    pub(crate) fn holds(&self) -> Type {
        match self {
            Self::Text(_) => Type::Text,
            Self::Number(_) => Type::Number,
        }
    }
}

impl CustomValues {
    pub(crate) const NONE: Self = Self(BTreeMap::new());

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &CustomValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&CustomValue> {
        self.0.get(name)
    }

    /// The member `customFields`; left out means none.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self::read_member(fields, "customFields", CUSTOM_FIELDS_MAX)
    }

    /// An object of texts and numbers; what is wrong with it is noted.
    pub(crate) fn read_member(fields: &mut Fields<'_>, name: &'static str, max: usize) -> Self {
        let Some(json) = fields.take(name) else {
            return Self::default();
        };
        let Json::Object(members) = json else {
            fields.refuse(
                name,
                Rule::Type {
                    expected: JsonType::Object,
                },
            );
            return Self::default();
        };
        if members.len() > max {
            fields.refuse(
                name,
                Rule::Count {
                    min: 0,
                    max: max as u64,
                },
            );
            return Self::default();
        }
        let pointer = pointer_of(fields, name);
        let problems = fields.problems();
        let mut values = BTreeMap::new();
        for (key, value) in members {
            match CustomValue::read(&key, value) {
                Ok(Some(value)) => {
                    values.insert(key, value);
                }
                Ok(None) => {}
                Err(rule) => problems.push(Problem::body(child(&pointer, &key), rule)),
            }
        }
        Self(values)
    }
}

impl Serialize for CustomValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Number(number) => ExactNumber(*number).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CustomValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let custom = serde::de::Error::custom;
        if raw.get().starts_with('"') {
            serde_json::from_str(raw.get())
                .map(Self::Text)
                .map_err(custom)
        } else {
            serde_json::from_str::<ExactNumber>(raw.get())
                .map(|number| Self::Number(number.0))
                .map_err(custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_asked_for() {
        let at = |text| Timestamp::parse(text).unwrap();
        assert_eq!(
            micros(at("2024-03-01T10:00:00Z")),
            "2024-03-01T10:00:00.000000Z"
        );
        assert_eq!(
            micros(at("2024-03-01T10:00:00.048081Z")),
            "2024-03-01T10:00:00.048081Z"
        );
        assert_eq!(
            millis(at("2024-03-01T10:00:00.9999Z")),
            "2024-03-01T10:00:00.999Z"
        );
    }

    #[test]
    fn custom_values_keep_their_digits() {
        let json = r#"{"a":"1.50","b":0.100000000000000001,"c":-7}"#;
        let values: CustomValues = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&values).unwrap(), json);
        assert_eq!(values.get("a"), Some(&CustomValue::Text("1.50".into())));
    }
}
