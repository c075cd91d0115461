//! Statements of policies: what is allowed or denied, to what (2.3).

use crate::access::Action;
use meterd_fault::{JsonType, Location, Problem, Rule};
use meterd_http::fields::{Fields, Problems, parse_uuid};
use meterd_http::json::{Json, child};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most statements of one policy, and resources of one statement.
const STATEMENTS_MAX: usize = 100;
const RESOURCES_MAX: usize = 100;
const ACTIONS_MAX: usize = 100;
/// Longest name of a resource.
const RESOURCE_BYTES_MAX: usize = 300;
/// Stands for every action.
const ANY_ACTION: &str = "all";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    pub(crate) action: Vec<StatedAction>,
    pub(crate) resource: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// One action, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub(crate) enum StatedAction {
    All,
    One(Action),
}

/// Which resources: `service:type/item/id`, where what is left out or `*` stands for any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Pattern {
    /// As it was written.
    text: String,
    pub(crate) scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Everything,
    Service(String),
    Kind(KindName),
    Item(KindName, Uuid),
    /// The items of a resource group.
    Group(KindName, Uuid),
}

/// Service and type, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KindName {
    pub(crate) service: String,
    pub(crate) kind: String,
}

impl Statement {
    /// Everything, to everything.
    pub(crate) fn all() -> Self {
        Self {
            effect: Effect::Allow,
            action: vec![StatedAction::All],
            resource: vec![Pattern {
                text: "*".to_owned(),
                scope: Scope::Everything,
            }],
        }
    }

    /// The member of a body that holds statements; at least one if it is required.
    pub(crate) fn read_all(
        fields: &mut Fields<'_>,
        name: &'static str,
        is_required: bool,
    ) -> Option<Vec<Self>> {
        let items = if is_required {
            fields.required_array(name, STATEMENTS_MAX)?
        } else {
            fields.array(name, STATEMENTS_MAX)?
        };
        let pointer = child("", name);
        let problems = fields.problems();
        let read = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| Self::read(item, &child(&pointer, &index.to_string()), problems));
        // All of them are looked at, whatever is wrong with the first.
        let read: Vec<_> = read.collect();
        read.into_iter().collect()
    }

    fn read(json: Json, pointer: &str, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::of_object(json, pointer, problems)?;
        let effect = match fields.required_string("effect") {
            Some(word) => {
                let effect = Effect::parse(&word);
                if effect.is_none() {
                    let allowed = vec!["allow".into(), "deny".into()];
                    fields.refuse("effect", Rule::OneOf { allowed });
                }
                effect
            }
            None => None,
        };
        let action = each_text(&mut fields, "action", ACTIONS_MAX, |text| {
            StatedAction::parse(text).ok_or_else(one_of_the_actions)
        });
        let resource = each_text(&mut fields, "resource", RESOURCES_MAX, |text| {
            let pattern = Pattern::parse(text).filter(|_| text.len() <= RESOURCE_BYTES_MAX);
            pattern.ok_or(RESOURCE_RULE)
        });
        Some(Self {
            effect: effect?,
            action: action?,
            resource: resource?,
        })
    }
}

const RESOURCE_RULE: Rule = Rule::Other {
    code: "resource_pattern",
    text: std::borrow::Cow::Borrowed(
        "must be a resource such as *, config:*, config:meter/*, config:meter/item/<id> or config:meter/group/<id>",
    ),
};

fn one_of_the_actions() -> Rule {
    let words = Action::ALL.iter().map(|(word, _)| (*word).into());
    Rule::OneOf {
        allowed: std::iter::once(ANY_ACTION.into()).chain(words).collect(),
    }
}

/// A required array of texts, each parsed; what is wrong is noted.
fn each_text<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    max: usize,
    parse: impl Fn(&str) -> Result<T, Rule>,
) -> Option<Vec<T>> {
    let items = fields.required_array(name, max)?;
    let location = fields.location(name);
    let Location::Body(pointer) = location else {
        return None;
    };
    let problems = fields.problems();
    let mut parsed = Vec::with_capacity(items.len());
    let mut is_good = true;
    for (index, item) in items.into_iter().enumerate() {
        let here = child(&pointer, &index.to_string());
        let problem = match item {
            Json::String(text) => match parse(&text) {
                Ok(value) => {
                    parsed.push(value);
                    continue;
                }
                Err(rule) => Problem::body(here, rule).with_value(&text),
            },
            _ => Problem::body(
                here,
                Rule::Type {
                    expected: JsonType::String,
                },
            ),
        };
        problems.push(problem);
        is_good = false;
    }
    is_good.then_some(parsed)
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("allow") {
            Some(Self::Allow)
        } else if text.eq_ignore_ascii_case("deny") {
            Some(Self::Deny)
        } else {
            None
        }
    }
}

impl StatedAction {
    /// Both spellings that are documented: `config:create` and `CONFIG_CREATE` (9, 34).
    fn parse(text: &str) -> Option<Self> {
        let plain = plain(text);
        if plain == ANY_ACTION {
            return Some(Self::All);
        }
        let found = Action::ALL
            .iter()
            .find(|(word, _)| self::plain(word) == plain);
        found.map(|(_, action)| Self::One(*action))
    }

    fn word(self) -> &'static str {
        match self {
            Self::All => ANY_ACTION,
            Self::One(action) => action.word(),
        }
    }
}

/// Lower case, with neither colon nor underscore: `MARKETPLACE_USAGE_CREATE` is `marketplaceUsage:create`.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(|c| !matches!(c, ':' | '_'));
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

impl TryFrom<String> for StatedAction {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no action")
    }
}

impl From<StatedAction> for &'static str {
    fn from(action: StatedAction) -> Self {
        action.word()
    }
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(Self {
            text: text.to_owned(),
            scope: Scope::parse(text)?,
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no resource")
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        let (service, rest) = text.split_once(':')?;
        let mut parts = rest.split('/');
        let kind = parts.next()?;
        let item_type = parts.next().unwrap_or("*");
        let id = parts.next().unwrap_or("*");
        if parts.next().is_some() {
            return None;
        }
        match (service, kind, item_type, id) {
            ("*", "*", "*", "*") => Some(Self::Everything),
            (service, "*", "*", "*") => Some(Self::Service(word(service)?)),
            (service, kind, item_type, id) => {
                let name = KindName {
                    service: word(service)?,
                    kind: word(kind)?,
                };
                match (item_type.to_ascii_lowercase().as_str(), id) {
                    ("*" | "item", "*") => Some(Self::Kind(name)),
                    ("item", id) => Some(Self::Item(name, parse_uuid(id)?)),
                    ("group", id) => Some(Self::Group(name, parse_uuid(id)?)),
                    _ => None,
                }
            }
        }
    }
}

/// A word of a pattern in lower case.
fn word(text: &str) -> Option<String> {
    let is_word = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    is_word.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_say_which_resources() {
        let id = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";
        let uuid = Uuid::try_parse(id).unwrap();
        let meter = || KindName {
            service: "config".into(),
            kind: "meter".into(),
        };
        let cases = [
            ("*", Scope::Everything),
            ("*:*", Scope::Everything),
            ("config:*", Scope::Service("config".into())),
            ("config:*/*/*", Scope::Service("config".into())),
            ("config:meter", Scope::Kind(meter())),
            ("Config:METER/*", Scope::Kind(meter())),
            ("config:meter/item/*", Scope::Kind(meter())),
            ("config:meter/item", Scope::Kind(meter())),
            ("config:meter/*/*", Scope::Kind(meter())),
            (
                &*format!("config:meter/item/{id}"),
                Scope::Item(meter(), uuid),
            ),
            (
                &*format!("config:meter/group/{id}"),
                Scope::Group(meter(), uuid),
            ),
        ];
        for (text, scope) in cases {
            assert_eq!(Scope::parse(text), Some(scope), "{text}");
        }
        for bad in [
            "",
            "config",
            ":",
            "config:",
            ":meter",
            "*:meter",
            "config:*/item/1",
            "config:meter/item/1",
            "config:meter/group/*",
            "config:meter/group",
            "config:meter/other/*",
            "config:meter/item/*/x",
            "config: meter",
            "config:meter:x",
            "**",
        ] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn actions_have_two_spellings_and_one_answer() {
        for (given, word) in [
            ("all", "all"),
            ("ALL", "all"),
            ("CONFIG_CREATE", "config:create"),
            ("config:create", "config:create"),
            ("MEASUREMENTS_FILEUPLOAD", "measurements:fileUpload"),
            ("measurements:fileUpload", "measurements:fileUpload"),
            ("MARKETPLACE_USAGE_RETRIEVE", "marketplaceUsage:retrieve"),
        ] {
            assert_eq!(StatedAction::parse(given).unwrap().word(), word);
        }
        for bad in ["", "*", "config", "config:create ", "create:config"] {
            assert_eq!(StatedAction::parse(bad), None, "{bad}");
        }
    }
}
