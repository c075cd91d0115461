//! Reading measurements off the wire, in one pass and without stopping at the first mistake.
//!
//! A row that cannot be stored keeps the list of its problems, so that a batch can be refused with all of them
//! (`on_error=abort`) or stored without the bad rows (`on_error=skip`).

use jiter::{Jiter, Peek};
use meterd_fault::{Format, JsonType, Kind, Problem, Resource, Rule};
use meterd_http::fields::{text_rule, time_rule};
use meterd_http::json::{check_utf8, child, malformed};
use meterd_model::{
    AttributeValue, Decimal, DecimalError, FieldName, Measurement, MeasurementId, MeterDefinition,
    MeterId, Subject, Timestamp,
};
use std::time::Duration;

/// Most measurements in one request.
pub(crate) const ROWS_MAX: usize = 10_000;
/// Most problems noted of one row; the rest follow from them more often than not.
const ROW_PROBLEMS_MAX: usize = 20;
/// Problems noted of all rows of a batch together; past it each bad row keeps its first.
const BATCH_PROBLEMS_MAX: usize = 2_000;
/// How far ahead of the server's clock a measurement may be: the widest zone confusion, and some more.
pub(crate) const FUTURE_MAX: Duration = Duration::from_hours(24);

const MEMBERS: [&str; 7] = [
    "id",
    "meter",
    "subject",
    "time",
    "end_time",
    "values",
    "attributes",
];

/// A meter as ingest needs it.
pub(crate) trait Meters {
    fn meter(&mut self, name: &str) -> Option<(MeterId, &MeterDefinition)>;
}

/// One row of a batch: a measurement, or why it is none.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    /// As sent, if it could be read at all.
    pub(crate) id: Option<String>,
    pub(crate) outcome: Result<Measurement, Vec<Problem>>,
}

/// Reads `{"measurements":[…]}`.
pub(crate) fn read_json(
    bytes: &[u8],
    meters: &mut dyn Meters,
    now: Timestamp,
) -> Result<Vec<Row>, Kind> {
    check_utf8(bytes)?;
    let broken = |e: jiter::JiterError| malformed(&e, bytes);
    let mut jiter = Jiter::new(bytes);
    if jiter.peek().map_err(broken)? != Peek::Object {
        jiter.next_skip().map_err(broken)?;
        jiter.finish().map_err(broken)?;
        return Err(refuse(
            "",
            Rule::Type {
                expected: JsonType::Object,
            },
        ));
    }
    let mut batch = BatchReader::new(meters, now);
    let mut rows = None;
    let mut problems = Vec::new();
    let mut key = jiter.known_object().map_err(broken)?.map(str::to_owned);
    while let Some(name) = key {
        match name.as_str() {
            "measurements" if rows.is_none() => {
                rows = Some(read_rows(&mut jiter, bytes, &mut batch, &mut problems)?);
            }
            "measurements" => {
                problems.push(Problem::body("/measurements", Rule::Unique));
                jiter.next_skip().map_err(broken)?;
            }
            _ => {
                if problems.len() < ROW_PROBLEMS_MAX {
                    problems.push(Problem::body(
                        child("", &meterd_fault::quote(&name)),
                        Rule::UnknownField {
                            known: vec!["measurements".into()],
                        },
                    ));
                }
                jiter.next_skip().map_err(broken)?;
            }
        }
        key = jiter.next_key().map_err(broken)?.map(str::to_owned);
    }
    jiter.finish().map_err(broken)?;
    if rows.is_none() && problems.is_empty() {
        problems.push(Problem::body("/measurements", Rule::Required));
    }
    if problems.is_empty() {
        Ok(rows.unwrap_or_default())
    } else {
        Err(Kind::Invalid { problems })
    }
}

fn read_rows(
    jiter: &mut Jiter<'_>,
    bytes: &[u8],
    batch: &mut BatchReader<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Row>, Kind> {
    const POINTER: &str = "/measurements";
    let broken = |e: jiter::JiterError| malformed(&e, bytes);
    if jiter.peek().map_err(broken)? != Peek::Array {
        jiter.next_skip().map_err(broken)?;
        problems.push(Problem::body(
            POINTER,
            Rule::Type {
                expected: JsonType::Array,
            },
        ));
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    let mut count = 0_usize;
    let mut next = jiter.known_array().map_err(broken)?;
    while let Some(peek) = next {
        if count < ROWS_MAX {
            let pointer = format!("{POINTER}/{count}");
            rows.push(batch.read_row(jiter, peek, &pointer, bytes)?);
        } else {
            jiter.known_skip(peek).map_err(broken)?;
        }
        count += 1;
        next = jiter.array_step().map_err(broken)?;
    }
    if !(1..=ROWS_MAX).contains(&count) {
        problems.push(count_problem(POINTER));
    }
    Ok(rows)
}

fn count_problem(pointer: &str) -> Problem {
    Problem::body(
        pointer,
        Rule::Count {
            min: 1,
            max: ROWS_MAX as u64,
        },
    )
}

/// How a line of NDJSON that is no JSON is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenLines {
    /// The whole request is malformed.
    Refuse,
    /// The line is a bad row.
    Keep,
}

/// Reads one measurement a line (`application/x-ndjson`). Empty lines do not count.
pub(crate) fn read_ndjson(
    bytes: &[u8],
    meters: &mut dyn Meters,
    now: Timestamp,
    broken_lines: BrokenLines,
) -> Result<Vec<Row>, Kind> {
    let mut batch = BatchReader::new(meters, now);
    let mut rows = Vec::new();
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty());
    for (line_index, line) in lines {
        if rows.len() == ROWS_MAX {
            return Err(Kind::Invalid {
                problems: vec![count_problem("")],
            });
        }
        let pointer = format!("/{}", rows.len());
        match batch.read_line(line, &pointer) {
            Ok(row) => rows.push(row),
            Err(Kind::BodyMalformed { reason, column, .. }) => {
                let line_number = line_index as u64 + 1;
                if broken_lines == BrokenLines::Refuse {
                    return Err(Kind::BodyMalformed {
                        reason,
                        line: line_number,
                        column,
                    });
                }
                let text = format!("is not JSON: {reason} at line {line_number}, column {column}");
                rows.push(Row {
                    id: None,
                    outcome: Err(vec![Problem::body(
                        pointer,
                        Rule::Other {
                            code: "json",
                            text: text.into(),
                        },
                    )]),
                });
            }
            Err(kind) => return Err(kind),
        }
    }
    if rows.is_empty() {
        return Err(Kind::Invalid {
            problems: vec![count_problem("")],
        });
    }
    Ok(rows)
}

fn refuse(pointer: &str, rule: Rule) -> Kind {
    Kind::Invalid {
        problems: vec![Problem::body(pointer, rule)],
    }
}

/// What the rows of one batch are read with.
struct BatchReader<'m> {
    meters: &'m mut dyn Meters,
    now: Timestamp,
    problems_noted: usize,
}

impl<'m> BatchReader<'m> {
    fn new(meters: &'m mut dyn Meters, now: Timestamp) -> Self {
        Self {
            meters,
            now,
            problems_noted: 0,
        }
    }

    fn read_line(&mut self, line: &[u8], pointer: &str) -> Result<Row, Kind> {
        check_utf8(line)?;
        let mut jiter = Jiter::new(line);
        let peek = jiter.peek().map_err(|e| malformed(&e, line))?;
        let row = self.read_row(&mut jiter, peek, pointer, line)?;
        jiter.finish().map_err(|e| malformed(&e, line))?;
        Ok(row)
    }

    fn read_row(
        &mut self,
        jiter: &mut Jiter<'_>,
        peek: Peek,
        pointer: &str,
        bytes: &[u8],
    ) -> Result<Row, Kind> {
        let left = BATCH_PROBLEMS_MAX.saturating_sub(self.problems_noted);
        let mut reader = RowReader {
            pointer,
            bytes,
            problems: Vec::new(),
            problems_max: left.clamp(1, ROW_PROBLEMS_MAX),
        };
        let raw = reader.raw(jiter, peek)?;
        let id = raw.id.clone();
        let measurement = reader.check(raw, self.meters, self.now);
        self.problems_noted += reader.problems.len();
        let outcome = match measurement {
            Some(measurement) if reader.problems.is_empty() => Ok(measurement),
            _ => Err(reader.problems),
        };
        Ok(Row { id, outcome })
    }
}

/// A row as it was sent.
#[derive(Default)]
struct RawRow {
    is_object: bool,
    seen: [bool; MEMBERS.len()],
    id: Option<String>,
    meter: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    end_time: Option<String>,
    values: Option<Vec<(String, RawValue)>>,
    /// Null counts as absent, but its name is taken.
    attributes: Vec<(String, Option<String>)>,
}

enum RawValue {
    Decimal(Decimal),
    /// Null, which counts as absent; its name is taken all the same.
    Absent,
    /// Noted as a problem already.
    Bad,
}

/// The beginning of a member that should be an object.
enum Start {
    Object {
        first_key: Option<String>,
    },
    /// Null, or of another type, which is noted.
    Absent,
}

struct RowReader<'a> {
    pointer: &'a str,
    bytes: &'a [u8],
    problems: Vec<Problem>,
    problems_max: usize,
}

impl RowReader<'_> {
    fn note(&mut self, member: &str, rule: Rule) {
        if self.problems.len() < self.problems_max {
            self.problems
                .push(Problem::body(format!("{}{member}", self.pointer), rule));
        }
    }

    fn broken(&self, error: &jiter::JiterError) -> Kind {
        malformed(error, self.bytes)
    }

    fn raw(&mut self, jiter: &mut Jiter<'_>, peek: Peek) -> Result<RawRow, Kind> {
        let mut raw = RawRow::default();
        if peek != Peek::Object {
            jiter.known_skip(peek).map_err(|e| self.broken(&e))?;
            self.note(
                "",
                Rule::Type {
                    expected: JsonType::Object,
                },
            );
            return Ok(raw);
        }
        raw.is_object = true;
        let mut key = self.member(jiter.known_object())?;
        while let Some(found) = key {
            match found {
                Ok(index) => {
                    let seen = raw.seen.get_mut(index);
                    if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
                        self.note(&format!("/{}", name_of(index)), Rule::Unique);
                        jiter.next_skip().map_err(|e| self.broken(&e))?;
                    } else {
                        self.read_member(jiter, index, &mut raw)?;
                    }
                }
                Err(name) => {
                    self.note(
                        &child("", &meterd_fault::quote(&name)),
                        Rule::UnknownField {
                            known: MEMBERS.map(str::to_owned).to_vec(),
                        },
                    );
                    jiter.next_skip().map_err(|e| self.broken(&e))?;
                }
            }
            key = self.member(jiter.next_key())?;
        }
        Ok(raw)
    }

    /// The index of a known member, or the name of an unknown one.
    fn member(
        &self,
        key: Result<Option<&str>, jiter::JiterError>,
    ) -> Result<Option<Result<usize, String>>, Kind> {
        let key = key.map_err(|e| self.broken(&e))?;
        Ok(key.map(|name| {
            MEMBERS
                .iter()
                .position(|member| *member == name)
                .ok_or_else(|| name.to_owned())
        }))
    }

    fn read_member(
        &mut self,
        jiter: &mut Jiter<'_>,
        index: usize,
        raw: &mut RawRow,
    ) -> Result<(), Kind> {
        let member = name_of(index);
        match member {
            "id" => raw.id = self.string(jiter, "/id")?,
            "meter" => raw.meter = self.string(jiter, "/meter")?,
            "subject" => raw.subject = self.string(jiter, "/subject")?,
            "time" => raw.time = self.string(jiter, "/time")?,
            "end_time" => raw.end_time = self.string(jiter, "/end_time")?,
            "values" => raw.values = self.values(jiter)?,
            _ => raw.attributes = self.attributes(jiter)?,
        }
        Ok(())
    }

    /// A string; null counts as absent.
    fn string(&mut self, jiter: &mut Jiter<'_>, member: &str) -> Result<Option<String>, Kind> {
        let peek = jiter.peek().map_err(|e| self.broken(&e))?;
        match peek {
            Peek::String => {
                let text = jiter.known_str().map_err(|e| self.broken(&e))?;
                Ok(Some(text.to_owned()))
            }
            Peek::Null => {
                jiter.known_null().map_err(|e| self.broken(&e))?;
                Ok(None)
            }
            other => {
                jiter.known_skip(other).map_err(|e| self.broken(&e))?;
                self.note(
                    member,
                    Rule::Type {
                        expected: JsonType::String,
                    },
                );
                Ok(None)
            }
        }
    }

    /// Starts an object member.
    fn object(&mut self, jiter: &mut Jiter<'_>, member: &str) -> Result<Start, Kind> {
        let peek = jiter.peek().map_err(|e| self.broken(&e))?;
        match peek {
            Peek::Object => {
                let first = jiter.known_object().map_err(|e| self.broken(&e))?;
                Ok(Start::Object {
                    first_key: first.map(str::to_owned),
                })
            }
            Peek::Null => {
                jiter.known_null().map_err(|e| self.broken(&e))?;
                Ok(Start::Absent)
            }
            other => {
                jiter.known_skip(other).map_err(|e| self.broken(&e))?;
                self.note(
                    member,
                    Rule::Type {
                        expected: JsonType::Object,
                    },
                );
                Ok(Start::Absent)
            }
        }
    }

    fn values(&mut self, jiter: &mut Jiter<'_>) -> Result<Option<Vec<(String, RawValue)>>, Kind> {
        let Start::Object { first_key: mut key } = self.object(jiter, "/values")? else {
            return Ok(None);
        };
        let mut values = Vec::new();
        while let Some(name) = key {
            let value = self.value(jiter, &name)?;
            values.push((name, value));
            key = jiter
                .next_key()
                .map_err(|e| self.broken(&e))?
                .map(str::to_owned);
        }
        Ok(Some(values))
    }

    /// A number, or a string that holds one, for clients whose numbers are binary. Null counts as absent.
    fn value(&mut self, jiter: &mut Jiter<'_>, name: &str) -> Result<RawValue, Kind> {
        let peek = jiter.peek().map_err(|e| self.broken(&e))?;
        let parsed = match peek {
            Peek::Null => {
                jiter.known_null().map_err(|e| self.broken(&e))?;
                return Ok(RawValue::Absent);
            }
            Peek::String => {
                let text = jiter.known_str().map_err(|e| self.broken(&e))?;
                Decimal::parse(text.as_bytes())
            }
            peek if peek.is_num() => {
                let text = jiter
                    .known_number_bytes(peek)
                    .map_err(|e| malformed(&e, self.bytes))?;
                Decimal::parse(text)
            }
            other => {
                jiter.known_skip(other).map_err(|e| self.broken(&e))?;
                self.note(
                    &child("/values", name),
                    Rule::Type {
                        expected: JsonType::Number,
                    },
                );
                return Ok(RawValue::Bad);
            }
        };
        match parsed {
            Ok(decimal) => Ok(RawValue::Decimal(decimal)),
            Err(error) => {
                self.note(&child("/values", name), decimal_rule(error));
                Ok(RawValue::Bad)
            }
        }
    }

    fn attributes(&mut self, jiter: &mut Jiter<'_>) -> Result<Vec<(String, Option<String>)>, Kind> {
        let Start::Object { first_key: mut key } = self.object(jiter, "/attributes")? else {
            return Ok(Vec::new());
        };
        let mut attributes = Vec::new();
        while let Some(name) = key {
            let member = child("/attributes", &name);
            let value = self.string(jiter, &member)?;
            attributes.push((name, value));
            key = jiter
                .next_key()
                .map_err(|e| self.broken(&e))?
                .map(str::to_owned);
        }
        Ok(attributes)
    }

    /// The measurement that a row means; `None` only with problems noted.
    fn check(
        &mut self,
        raw: RawRow,
        meters: &mut dyn Meters,
        now: Timestamp,
    ) -> Option<Measurement> {
        if !raw.is_object {
            return None;
        }
        let id = self.text("/id", raw.id, MeasurementId::new);
        let subject = self.text("/subject", raw.subject, Subject::new);
        let time = self
            .required("/time", raw.time)
            .and_then(|text| self.time("/time", &text, now));
        let end_time = match raw.end_time {
            None => None,
            Some(text) => {
                let end_time = self.time("/end_time", &text, now);
                if let (Some(start), Some(end)) = (time, end_time)
                    && end <= start
                {
                    self.note(
                        "/end_time",
                        Rule::Other {
                            code: "order",
                            text: "must be after time".into(),
                        },
                    );
                }
                end_time
            }
        };
        let name = self.required("/meter", raw.meter)?;
        let Some((meter, definition)) = meters.meter(&name) else {
            self.note(
                "/meter",
                Rule::UnknownReference {
                    resource: Resource::Meter,
                },
            );
            return None;
        };
        if raw.values.is_none() && !definition.values.is_empty() {
            self.missing("/values");
        }
        let values = self.fields(
            "/values",
            raw.values.unwrap_or_default(),
            &definition.values.keys().collect::<Vec<_>>(),
        );
        let values: Vec<_> = values
            .into_iter()
            .filter_map(|(name, value)| match value {
                RawValue::Decimal(decimal) => Some((name, decimal)),
                RawValue::Absent | RawValue::Bad => None,
            })
            .collect();
        if values.is_empty() && !definition.values.is_empty() && self.problems.is_empty() {
            self.note(
                "/values",
                Rule::Count {
                    min: 1,
                    max: definition.values.len() as u64,
                },
            );
        }
        let attributes = self.fields(
            "/attributes",
            raw.attributes,
            &definition.attributes.iter().collect::<Vec<_>>(),
        );
        let attributes: Vec<_> = attributes
            .into_iter()
            .filter_map(|(name, text)| {
                let text = text?;
                match AttributeValue::new(text) {
                    Ok(text) => Some((name, text)),
                    Err(error) => {
                        self.note(&child("/attributes", name.as_str()), text_rule(error));
                        None
                    }
                }
            })
            .collect();
        Some(
            Measurement {
                id: id?,
                meter,
                subject: subject?,
                time: time?,
                end_time,
                values,
                attributes,
            }
            .in_order(),
        )
    }

    fn missing(&mut self, member: &str) {
        let pointer = format!("{}{member}", self.pointer);
        let refused = self.problems.iter().any(
            |p| matches!(&p.location, meterd_fault::Location::Body(known) if *known == pointer),
        );
        if !refused {
            self.note(member, Rule::Required);
        }
    }

    fn required(&mut self, member: &str, text: Option<String>) -> Option<String> {
        if text.is_none() {
            self.missing(member);
        }
        text
    }

    fn text<T>(
        &mut self,
        member: &str,
        text: Option<String>,
        make: impl FnOnce(String) -> Result<T, meterd_model::TextError>,
    ) -> Option<T> {
        let text = self.required(member, text)?;
        match make(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(member, text_rule(error));
                None
            }
        }
    }

    fn time(&mut self, member: &str, text: &str, now: Timestamp) -> Option<Timestamp> {
        let time = match Timestamp::parse(text) {
            Ok(time) => time,
            Err(error) => {
                self.note(member, time_rule(error));
                return None;
            }
        };
        let latest = now.saturating_add(FUTURE_MAX);
        if time > latest {
            self.note(
                member,
                Rule::Range {
                    min: None,
                    max: Some(latest.to_string()),
                },
            );
            return None;
        }
        Some(time)
    }

    /// Sorts out names that the meter does not have or that are given twice.
    fn fields<V>(
        &mut self,
        member: &str,
        given: Vec<(String, V)>,
        known: &[&FieldName],
    ) -> Vec<(FieldName, V)> {
        let mut fields: Vec<(FieldName, V)> = Vec::with_capacity(given.len());
        for (name, value) in given {
            let Some(field) = known.iter().find(|field| field.as_str() == name) else {
                self.note(
                    &child(member, &meterd_fault::quote(&name)),
                    Rule::UnknownField {
                        known: known.iter().map(ToString::to_string).collect(),
                    },
                );
                continue;
            };
            if fields.iter().any(|(seen, _)| seen == *field) {
                self.note(&child(member, &name), Rule::Unique);
                continue;
            }
            fields.push(((*field).clone(), value));
        }
        fields
    }
}

fn name_of(index: usize) -> &'static str {
    MEMBERS.get(index).copied().unwrap_or_default()
}

fn decimal_rule(error: DecimalError) -> Rule {
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
