//! One thing that is wrong with a request: where it is and which rule it breaks.

use crate::{Resource, quote};
use std::borrow::Cow;
use std::fmt;

/// One broken rule. A fault of kind `invalid_request` lists all that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub location: Location,
    pub rule: Rule,
    /// What was sent, where repeating it helps; made fit to print.
    pub value: Option<String>,
}

impl Problem {
    pub fn new(location: Location, rule: Rule) -> Self {
        Self {
            location,
            rule,
            value: None,
        }
    }

    /// In the body; `pointer` is an RFC 6901 JSON Pointer.
    pub fn body(pointer: impl Into<String>, rule: Rule) -> Self {
        Self::new(Location::Body(pointer.into()), rule)
    }

    pub fn query(parameter: impl Into<String>, rule: Rule) -> Self {
        Self::new(Location::Query(parameter.into()), rule)
    }

    pub fn header(name: impl Into<String>, rule: Rule) -> Self {
        Self::new(Location::Header(name.into()), rule)
    }

    #[must_use]
    pub fn with_value(mut self, value: &str) -> Self {
        self.value = Some(quote(value));
        self
    }

    /// One English sentence that names the place and the rule.
    pub fn message(&self) -> String {
        format!("{} {}.", self.location, self.rule)
    }
}

/// Where in the request a problem is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// JSON Pointer into the body (RFC 6901); empty for the body as a whole. In NDJSON the first member is the line's index.
    Body(String),
    Query(String),
    Path(String),
    Header(String),
}

impl Location {
    /// The last member of the place: the name a user knows the field by.
    pub fn field(&self) -> &str {
        match self {
            Self::Body(pointer) => pointer.rsplit('/').next().unwrap_or(""),
            Self::Query(name) | Self::Path(name) | Self::Header(name) => name,
        }
    }

    /// The place as dotted path, e.g. `measurements[0].values.requests`; empty for the whole body.
    pub fn dotted(&self) -> String {
        let Self::Body(pointer) = self else {
            return self.field().to_owned();
        };
        let mut path = String::new();
        for member in pointer.split('/').skip(1) {
            if !member.is_empty() && member.bytes().all(|b| b.is_ascii_digit()) {
                path.push('[');
                path.push_str(member);
                path.push(']');
                continue;
            }
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&member.replace("~1", "/").replace("~0", "~"));
        }
        path
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(pointer) if pointer.is_empty() => f.write_str("The body"),
            Self::Body(_) => f.write_str(&self.dotted()),
            Self::Query(name) => write!(f, "The query parameter {name}"),
            Self::Path(name) => write!(f, "The path parameter {name}"),
            Self::Header(name) => write!(f, "The header {name}"),
        }
    }
}

/// The rule that was broken, with what would have been allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Absent, null, or blank where blank does not count.
    Required,
    Type {
        expected: JsonType,
    },
    Format {
        format: Format,
    },
    OneOf {
        allowed: Vec<Cow<'static, str>>,
    },
    /// Characters of a string.
    Length {
        min: u64,
        max: u64,
    },
    /// Items of an array or members of an object.
    Count {
        min: u64,
        max: u64,
    },
    /// Inclusive bounds; numbers or times as text.
    Range {
        min: Option<String>,
        max: Option<String>,
    },
    /// Digits of a decimal before and after the point.
    Digits {
        integer: u32,
        fraction: u32,
    },
    /// Nesting of JSON.
    Depth {
        max: u64,
    },
    /// The same key or item twice.
    Unique,
    /// A member that the resource does not have.
    UnknownField {
        known: Vec<String>,
    },
    /// A reference to something that does not exist.
    UnknownReference {
        resource: Resource,
    },
    /// Cannot be given together with the named field.
    ExcludedBy {
        other: Cow<'static, str>,
    },
    /// Cannot change once set.
    Immutable,
    /// A rule of one surface, with its sentence's second half ("must …").
    Other {
        code: &'static str,
        text: Cow<'static, str>,
    },
}

impl Rule {
    /// Stable code of the rule, as `errors[].rule` on the native surface.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Type { .. } => "type",
            Self::Format { .. } => "format",
            Self::OneOf { .. } => "one_of",
            Self::Length { .. } => "length",
            Self::Count { .. } => "count",
            Self::Range { .. } => "range",
            Self::Digits { .. } => "digits",
            Self::Depth { .. } => "depth",
            Self::Unique => "unique",
            Self::UnknownField { .. } => "unknown_field",
            Self::UnknownReference { .. } => "unknown_reference",
            Self::ExcludedBy { .. } => "excluded_by",
            Self::Immutable => "immutable",
            Self::Other { code, .. } => code,
        }
    }

    /// Whether the request is malformed, rather than well formed with a meaning that cannot be honoured. Surfaces
    /// that tell 400 from 422 decide by this.
    pub fn is_shape(&self) -> bool {
        match self {
            Self::Required
            | Self::Type { .. }
            | Self::Format { .. }
            | Self::Depth { .. }
            | Self::Unique
            | Self::UnknownField { .. } => true,
            Self::OneOf { .. }
            | Self::Length { .. }
            | Self::Count { .. }
            | Self::Range { .. }
            | Self::Digits { .. }
            | Self::UnknownReference { .. }
            | Self::ExcludedBy { .. }
            | Self::Immutable
            | Self::Other { .. } => false,
        }
    }

    /// The values that would have been accepted, where they can be listed.
    pub fn allowed(&self) -> Vec<String> {
        match self {
            Self::OneOf { allowed } => allowed.iter().map(ToString::to_string).collect(),
            Self::UnknownField { known } => known.clone(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("is required"),
            Self::Type { expected } => write!(f, "must be {}", expected.with_article()),
            Self::Format { format } => write!(f, "must be {}", format.description()),
            Self::OneOf { allowed } => write!(f, "must be one of {}", allowed.join(", ")),
            Self::Length { min: 0, max } => write!(f, "must have at most {max} characters"),
            Self::Length { min, max } => write!(f, "must have {min} to {max} characters"),
            Self::Count { min: 0, max } => write!(f, "must have at most {max} items"),
            Self::Count { min, max } => write!(f, "must have {min} to {max} items"),
            Self::Range {
                min: Some(min),
                max: Some(max),
            } => write!(f, "must be between {min} and {max}"),
            Self::Range {
                min: Some(min),
                max: None,
            } => write!(f, "must be at least {min}"),
            Self::Range {
                min: None,
                max: Some(max),
            } => write!(f, "must be at most {max}"),
            Self::Range {
                min: None,
                max: None,
            } => f.write_str("is out of range"),
            Self::Digits { integer, fraction } => write!(
                f,
                "must have at most {integer} digits before and {fraction} after the decimal point"
            ),
            Self::Depth { max } => write!(f, "must not nest deeper than {max} levels"),
            Self::Unique => f.write_str("must not be given twice"),
            Self::UnknownField { known } if known.is_empty() => f.write_str("is not a known field"),
            Self::UnknownField { known } => {
                write!(f, "is not a known field; known are {}", known.join(", "))
            }
            Self::UnknownReference { resource } => {
                write!(f, "must name an existing {}", resource.noun())
            }
            Self::ExcludedBy { other } => write!(f, "cannot be given together with {other}"),
            Self::Immutable => f.write_str("cannot be changed"),
            Self::Other { text, .. } => f.write_str(text),
        }
    }
}

/// JSON types as RFC 8259 names them, with integers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    Object,
    Array,
    String,
    Number,
    Integer,
    Boolean,
}

impl JsonType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
        }
    }

    fn with_article(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Integer => "an integer",
            Self::Boolean => "a boolean",
        }
    }
}

/// The written forms that meterd checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339 with an offset.
    Timestamp,
    /// Seconds since 1970 as integer.
    EpochSeconds,
    Date,
    /// IANA name.
    Timezone,
    Uuid,
    /// Absolute http or https.
    Url,
    Email,
    Decimal,
    Integer,
    Cron,
    /// The `next_cursor` of an earlier answer.
    Cursor,
    /// Letters, digits, `_`, `-`, `.`, starting with a letter.
    Name,
    /// Letters of any script, digits, `_` and `$`, no digit first.
    Identifier,
    /// One address or block: `192.0.2.1`, `2001:db8::/32`.
    AddressBlock,
    /// Wattwatchers serial number.
    DeviceSerial,
    Duration,
    /// No control characters, no blank at either end.
    PlainText,
    /// Percent-encoded UTF-8.
    UrlEncoding,
    RegularExpression,
    /// m3ter calculation (specs/m3ter.md 1.3).
    Calculation,
}

impl Format {
    pub fn description(self) -> &'static str {
        match self {
            Self::Timestamp => "an RFC 3339 time with offset, such as 2026-11-01T00:00:00Z",
            Self::EpochSeconds => "an integer of seconds since 1970-01-01T00:00:00Z",
            Self::Date => "a date such as 2026-11-01",
            Self::Timezone => "an IANA time zone name, such as Europe/Berlin",
            Self::Uuid => "a UUID",
            Self::Url => "an absolute http or https URL",
            Self::Email => "an e-mail address",
            Self::Decimal => "a decimal number",
            Self::Integer => "an integer",
            Self::Cron => "a cron expression of five fields",
            Self::Cursor => "the next_cursor of an earlier answer to the same request",
            Self::Name => {
                "a name of letters, digits, underscores, hyphens and full stops that starts with a letter"
            }
            Self::Identifier => {
                "a name of letters, digits, underscores and dollar signs that does not start with a digit"
            }
            Self::AddressBlock => "an IP address or a CIDR block",
            Self::DeviceSerial => "a serial number of 13 characters, starting with a B, D, E or F",
            Self::Duration => "a duration",
            Self::PlainText => "text without control characters or blanks at either end",
            Self::UrlEncoding => "percent-encoded UTF-8",
            Self::RegularExpression => "a regular expression",
            Self::Calculation => "a calculation",
        }
    }
}
