//! Reading measurements off the wire, in one pass and without stopping at the first mistake.
//!
//! A row that cannot be stored keeps the list of its problems, so that a batch can be refused with all of them
//! (`on_error=abort`) or stored without the bad rows (`on_error=skip`).

use jiter::Peek;
use meterd_fault::{Fault, JsonType, Kind, Problem, Resource, Rule};
use meterd_http::fields::{decimal_rule, text_rule, time_rule};
use meterd_http::json::{check_utf8, child};
use meterd_http::scan::Scanner;
use meterd_model::{
    AttributeValue, Decimal, FIELDS_MAX, FieldName, Measurement, MeasurementId, MeterDefinition,
    MeterId, Subject, TextError, Timestamp,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

/// Most measurements in one request.
pub(crate) const ROWS_MAX: usize = 10_000;
/// Bytes of a row with few fields; room is made for as many rows as a body of them would have.
const ROW_BYTES_TYPICAL: usize = 160;
/// Most problems noted of one row; the rest follow from them more often than not.
const ROW_PROBLEMS_MAX: usize = 20;
/// Problems noted of all rows of a batch together; past it each bad row keeps its first.
const BATCH_PROBLEMS_MAX: usize = 2_000;
/// Fields of a row that are looked at, of values and of attributes. No meter has as many, so that among them are some
/// that are unknown or given twice, and the row is refused whatever comes after.
const GIVEN_MAX: usize = FIELDS_MAX + ROW_PROBLEMS_MAX;
/// How far ahead of the server's clock a measurement may be: the widest zone confusion, and some more.
pub(crate) const FUTURE_MAX: Duration = Duration::from_hours(24);

/// Where a batch finds the meters that its rows name.
pub(crate) trait Meters {
    /// Asked once a batch for each name.
    fn meter(&self, name: &str) -> Result<Option<MeterFields>, Fault>;
}

/// A meter as rows are checked against it.
#[derive(Debug)]
pub(crate) struct MeterFields {
    id: MeterId,
    values: FieldNames,
    attributes: FieldNames,
}

impl MeterFields {
    pub(crate) fn of(id: MeterId, definition: &MeterDefinition) -> Self {
        Self {
            id,
            values: FieldNames::of(definition.values.keys()),
            attributes: FieldNames::of(definition.attributes.iter()),
        }
    }
}

/// The rows of a batch: those that are measurements, and why the others are none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) measurements: Vec<Measurement>,
    /// In the order of the batch.
    pub(crate) rejected: Vec<RejectedRow>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct RejectedRow {
    /// Position in the batch.
    pub(crate) index: usize,
    /// As sent, if it could be read at all.
    pub(crate) id: Option<String>,
    pub(crate) problems: Vec<Problem>,
}

impl Rows {
    fn count(&self) -> usize {
        self.measurements.len() + self.rejected.len()
    }

    /// Positions in the batch of the measurements.
    pub(crate) fn measurement_indexes(&self) -> impl Iterator<Item = usize> {
        let mut rejected = self.rejected.iter().map(|row| row.index).peekable();
        (0..self.count()).filter(move |index| rejected.next_if_eq(index).is_none())
    }
}

/// Reads `{"measurements":[…]}`.
pub(crate) fn read_json(bytes: &[u8], meters: &dyn Meters, now: Timestamp) -> Result<Rows, Fault> {
    let mut json = Scanner::new(check_utf8(bytes)?);
    if json.peek()? != Peek::Object {
        json.skip()?;
        json.finish()?;
        return Err(refuse(
            "",
            Rule::Type {
                expected: JsonType::Object,
            },
        )
        .into());
    }
    let mut rows = None;
    let mut problems = Vec::new();
    let mut key = json.object()?;
    while let Some(name) = key {
        match name.as_ref() {
            "measurements" if rows.is_none() => {
                let batch = BatchReader::new("/measurements", bytes.len(), meters, now);
                rows = Some(read_rows(&mut json, batch, &mut problems)?);
            }
            _ if problems.len() >= ROW_PROBLEMS_MAX => json.skip()?,
            "measurements" => {
                problems.push(Problem::body("/measurements", Rule::Unique));
                json.skip()?;
            }
            _ => {
                problems.push(Problem::body(
                    child("", &meterd_fault::quote(&name)),
                    Rule::UnknownField {
                        known: vec!["measurements".into()],
                    },
                ));
                json.skip()?;
            }
        }
        key = json.next_key()?;
    }
    json.finish()?;
    if rows.is_none() && problems.is_empty() {
        problems.push(Problem::body("/measurements", Rule::Required));
    }
    if problems.is_empty() {
        Ok(rows.unwrap_or_default())
    } else {
        Err(Kind::Invalid { problems }.into())
    }
}

fn read_rows<'b>(
    json: &mut Scanner<'b>,
    mut batch: BatchReader<'_, 'b>,
    problems: &mut Vec<Problem>,
) -> Result<Rows, Fault> {
    if json.peek()? != Peek::Array {
        json.skip()?;
        problems.push(Problem::body(
            batch.pointer,
            Rule::Type {
                expected: JsonType::Array,
            },
        ));
        return Ok(Rows::default());
    }
    let mut count = 0_usize;
    let mut next = json.array()?;
    while let Some(peek) = next {
        if count < ROWS_MAX {
            batch.read_row(json, peek)?;
        } else {
            json.skip()?;
        }
        count += 1;
        next = json.next_item()?;
    }
    if !(1..=ROWS_MAX).contains(&count) {
        problems.push(count_problem(batch.pointer));
    }
    batch.into_rows()
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
    meters: &dyn Meters,
    now: Timestamp,
    broken_lines: BrokenLines,
) -> Result<Rows, Fault> {
    let mut batch = BatchReader::new("", bytes.len(), meters, now);
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty());
    for (line_index, line) in lines {
        if batch.rows.count() == ROWS_MAX {
            return Err(Fault::invalid(count_problem("")));
        }
        match batch.read_line(line) {
            Ok(()) => {}
            Err(Kind::BodyMalformed { reason, column, .. }) => {
                let line_number = line_index as u64 + 1;
                if broken_lines == BrokenLines::Refuse {
                    return Err(Kind::BodyMalformed {
                        reason,
                        line: line_number,
                        column,
                    }
                    .into());
                }
                let text = format!("is not JSON: {reason} at line {line_number}, column {column}");
                batch.reject_line(Rule::Other {
                    code: "json",
                    text: text.into(),
                });
            }
            Err(kind) => return Err(kind.into()),
        }
    }
    if batch.rows.count() == 0 {
        return Err(Fault::invalid(count_problem("")));
    }
    batch.into_rows()
}

fn refuse(pointer: &str, rule: Rule) -> Kind {
    Kind::Invalid {
        problems: vec![Problem::body(pointer, rule)],
    }
}

/// Reads the rows of one batch. What rows have in common is found once: nearly all name the same meter and fields.
struct BatchReader<'m, 'b> {
    /// Of the list of rows.
    pointer: &'static str,
    meters: BatchMeters<'m, 'b>,
    /// No row may be later.
    latest: Timestamp,
    problems_noted: usize,
    row: RowReader<'b>,
    rows: Rows,
}

impl<'m, 'b> BatchReader<'m, 'b> {
    fn new(
        pointer: &'static str,
        body_bytes: usize,
        meters: &'m dyn Meters,
        now: Timestamp,
    ) -> Self {
        let rows_expected = (body_bytes / ROW_BYTES_TYPICAL).min(ROWS_MAX);
        Self {
            pointer,
            meters: BatchMeters::new(meters),
            latest: now.saturating_add(FUTURE_MAX),
            problems_noted: 0,
            row: RowReader::new(pointer),
            rows: Rows {
                measurements: Vec::with_capacity(rows_expected),
                rejected: Vec::new(),
            },
        }
    }

    fn read_row(&mut self, json: &mut Scanner<'b>, peek: Peek) -> Result<(), Kind> {
        self.start_row();
        self.row.read(json, peek)?;
        self.finish_row();
        Ok(())
    }

    fn read_line(&mut self, line: &'b [u8]) -> Result<(), Kind> {
        let mut json = Scanner::new(check_utf8(line)?);
        let peek = json.peek()?;
        self.start_row();
        self.row.read(&mut json, peek)?;
        json.finish()?;
        self.finish_row();
        Ok(())
    }

    fn start_row(&mut self) {
        let left = BATCH_PROBLEMS_MAX.saturating_sub(self.problems_noted);
        self.row
            .start(self.rows.count(), left.clamp(1, ROW_PROBLEMS_MAX));
    }

    fn finish_row(&mut self) {
        let measurement = self.row.check(&mut self.meters, self.latest);
        let problems = std::mem::take(&mut self.row.problems);
        match measurement {
            Some(measurement) if problems.is_empty() => self.rows.measurements.push(measurement),
            _ => {
                self.problems_noted += problems.len();
                let id = self.row.raw.id.take().map(Cow::into_owned);
                self.reject(id, problems);
            }
        }
    }

    /// A meter that could not be looked up is no mistake of the rows that name it.
    fn into_rows(self) -> Result<Rows, Fault> {
        self.meters.fault.map_or(Ok(self.rows), Err)
    }

    fn reject_line(&mut self, rule: Rule) {
        let pointer = format!("{}/{}", self.pointer, self.rows.count());
        self.reject(None, vec![Problem::body(pointer, rule)]);
    }

    fn reject(&mut self, id: Option<String>, problems: Vec<Problem>) {
        let index = self.rows.count();
        self.rows.rejected.push(RejectedRow {
            index,
            id,
            problems,
        });
    }
}

/// The meters that a batch has named so far.
struct BatchMeters<'m, 'b> {
    source: &'m dyn Meters,
    found: Vec<Option<MeterFields>>,
    places: HashMap<Cow<'b, str>, usize>,
    /// The place of the meter that the row before named.
    last: Option<(Cow<'b, str>, usize)>,
    /// Why a meter could not be looked up.
    fault: Option<Fault>,
}

impl<'m, 'b> BatchMeters<'m, 'b> {
    fn new(source: &'m dyn Meters) -> Self {
        Self {
            source,
            found: Vec::new(),
            places: HashMap::new(),
            last: None,
            fault: None,
        }
    }

    #[expect(clippy::ptr_arg, reason = "a borrowed name is kept as one")]
    fn get(&mut self, name: &Cow<'b, str>) -> Option<&mut MeterFields> {
        let place = match &self.last {
            Some((last, place)) if last == name => *place,
            _ => self.place(name),
        };
        self.found.get_mut(place)?.as_mut()
    }

    #[expect(clippy::ptr_arg, reason = "a borrowed name is kept as one")]
    fn place(&mut self, name: &Cow<'b, str>) -> usize {
        let place = *self.places.entry(name.clone()).or_insert_with(|| {
            let found = self.source.meter(name).unwrap_or_else(|fault| {
                self.fault.get_or_insert(fault);
                None
            });
            self.found.push(found);
            self.found.len() - 1
        });
        self.last = Some((name.clone(), place));
        place
    }
}

/// The names of a meter's values, or of its attributes.
#[derive(Debug)]
struct FieldNames {
    /// Sorted.
    names: Vec<FieldName>,
    /// Of each name the last row that used it, counted from 1.
    used_in: Vec<usize>,
}

/// What a name in a row stands for.
enum Named {
    /// The field at this place, counted in the order of names.
    Field(usize),
    /// A field that the row has named before.
    Again,
    Unknown,
}

impl FieldNames {
    fn of<'a>(names: impl Iterator<Item = &'a FieldName>) -> Self {
        let names: Vec<_> = names.cloned().collect();
        Self {
            used_in: vec![0; names.len()],
            names,
        }
    }

    fn take(&mut self, name: &str, row_index: usize) -> Named {
        let row = row_index + 1;
        let Some(place) = self.names.iter().position(|known| known.as_str() == name) else {
            return Named::Unknown;
        };
        match self.used_in.get_mut(place) {
            Some(last) if *last != row => {
                *last = row;
                Named::Field(place)
            }
            _ => Named::Again,
        }
    }

    fn at(&self, place: usize) -> Option<FieldName> {
        self.names.get(place).cloned()
    }
}

/// A field that a row has.
struct Given<'b, V> {
    name: Cow<'b, str>,
    value: V,
    /// Place of the field among the meter's, once the meter is known.
    place: usize,
}

enum RawValue {
    Decimal(Decimal),
    /// Null, which counts as absent; its name is taken all the same.
    Absent,
    /// Noted as a problem already.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Id,
    Meter,
    Subject,
    Time,
    EndTime,
    Values,
    Attributes,
}

impl Member {
    const NAMES: [&str; 7] = [
        "id",
        "meter",
        "subject",
        "time",
        "end_time",
        "values",
        "attributes",
    ];

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "meter" => Self::Meter,
            "subject" => Self::Subject,
            "time" => Self::Time,
            "end_time" => Self::EndTime,
            "values" => Self::Values,
            "attributes" => Self::Attributes,
            _ => return None,
        })
    }

    /// One bit of its own.
    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn pointer(self) -> &'static str {
        match self {
            Self::Id => "/id",
            Self::Meter => "/meter",
            Self::Subject => "/subject",
            Self::Time => "/time",
            Self::EndTime => "/end_time",
            Self::Values => "/values",
            Self::Attributes => "/attributes",
        }
    }
}

/// A row as it was sent, its fields aside.
#[derive(Default)]
struct RawRow<'b> {
    is_object: bool,
    has_values: bool,
    id: Option<Cow<'b, str>>,
    meter: Option<Cow<'b, str>>,
    subject: Option<Cow<'b, str>>,
    time: Option<Cow<'b, str>>,
    end_time: Option<Cow<'b, str>>,
}

/// The beginning of a member that should be an object.
enum Start<'b> {
    Object {
        first_key: Option<Cow<'b, str>>,
    },
    /// Null, or of another type, which is noted.
    Absent,
}

/// Reads one row after the other, in the same buffers.
struct RowReader<'b> {
    list_pointer: &'static str,
    index: usize,
    raw: RawRow<'b>,
    values: Vec<Given<'b, RawValue>>,
    /// Null counts as absent, but its name is taken.
    attributes: Vec<Given<'b, Option<Cow<'b, str>>>>,
    problems: Vec<Problem>,
    problems_max: usize,
}

impl<'b> RowReader<'b> {
    fn new(list_pointer: &'static str) -> Self {
        Self {
            list_pointer,
            index: 0,
            raw: RawRow::default(),
            values: Vec::new(),
            attributes: Vec::new(),
            problems: Vec::new(),
            problems_max: 0,
        }
    }

    fn start(&mut self, index: usize, problems_max: usize) {
        self.index = index;
        self.raw = RawRow::default();
        self.values.clear();
        self.attributes.clear();
        self.problems.clear();
        self.problems_max = problems_max;
    }

    fn note(&mut self, member: &str, rule: Rule) {
        self.note_with(|| (member.to_owned(), rule));
    }

    /// Notes a problem that takes work to word, while there is room for it.
    fn note_with(&mut self, problem: impl FnOnce() -> (String, Rule)) {
        if self.problems.len() < self.problems_max {
            let (member, rule) = problem();
            self.problems
                .push(Problem::body(self.pointer(&member), rule));
        }
    }

    fn pointer(&self, member: &str) -> String {
        format!("{}/{}{member}", self.list_pointer, self.index)
    }

    fn read(&mut self, json: &mut Scanner<'b>, peek: Peek) -> Result<(), Kind> {
        if peek != Peek::Object {
            json.skip()?;
            self.note(
                "",
                Rule::Type {
                    expected: JsonType::Object,
                },
            );
            return Ok(());
        }
        self.raw.is_object = true;
        let mut seen = 0_u8;
        let mut key = json.object()?;
        while let Some(name) = key {
            match Member::named(&name) {
                Some(member) if seen & member.bit() == 0 => {
                    seen |= member.bit();
                    self.read_member(json, member)?;
                }
                Some(member) => {
                    self.note(member.pointer(), Rule::Unique);
                    json.skip()?;
                }
                None => {
                    self.note_with(|| {
                        let known = Member::NAMES.map(str::to_owned).to_vec();
                        let rule = Rule::UnknownField { known };
                        (child("", &meterd_fault::quote(&name)), rule)
                    });
                    json.skip()?;
                }
            }
            key = json.next_key()?;
        }
        Ok(())
    }

    fn read_member(&mut self, json: &mut Scanner<'b>, member: Member) -> Result<(), Kind> {
        let pointer = || member.pointer().to_owned();
        match member {
            Member::Id => self.raw.id = self.string(json, pointer)?,
            Member::Meter => self.raw.meter = self.string(json, pointer)?,
            Member::Subject => self.raw.subject = self.string(json, pointer)?,
            Member::Time => self.raw.time = self.string(json, pointer)?,
            Member::EndTime => self.raw.end_time = self.string(json, pointer)?,
            Member::Values => self.raw.has_values = self.values(json)?,
            Member::Attributes => self.attributes(json)?,
        }
        Ok(())
    }

    /// A string; null counts as absent.
    fn string(
        &mut self,
        json: &mut Scanner<'b>,
        member: impl FnOnce() -> String,
    ) -> Result<Option<Cow<'b, str>>, Kind> {
        let peek = json.peek()?;
        match peek {
            Peek::String => Ok(Some(json.string()?)),
            Peek::Null => {
                json.null()?;
                Ok(None)
            }
            _ => {
                json.skip()?;
                self.note_with(|| {
                    let expected = JsonType::String;
                    (member(), Rule::Type { expected })
                });
                Ok(None)
            }
        }
    }

    /// Starts an object member.
    fn object(&mut self, json: &mut Scanner<'b>, member: &str) -> Result<Start<'b>, Kind> {
        let peek = json.peek()?;
        match peek {
            Peek::Object => {
                let first_key = json.object()?;
                Ok(Start::Object { first_key })
            }
            Peek::Null => {
                json.null()?;
                Ok(Start::Absent)
            }
            _ => {
                json.skip()?;
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

    /// Whether there are values at all.
    fn values(&mut self, json: &mut Scanner<'b>) -> Result<bool, Kind> {
        let Start::Object { first_key: mut key } = self.object(json, "/values")? else {
            return Ok(false);
        };
        while let Some(name) = key {
            let value = self.value(json, &name)?;
            if self.values.len() < GIVEN_MAX {
                self.values.push(Given {
                    name,
                    value,
                    place: 0,
                });
            }
            key = json.next_key()?;
        }
        Ok(true)
    }

    /// A number, or a string that holds one, for clients whose numbers are binary. Null counts as absent.
    fn value(&mut self, json: &mut Scanner<'b>, name: &str) -> Result<RawValue, Kind> {
        let peek = json.peek()?;
        let parsed = match peek {
            Peek::Null => {
                json.null()?;
                return Ok(RawValue::Absent);
            }
            Peek::String => Decimal::parse(json.string()?.as_bytes()),
            peek if peek.is_num() => Decimal::parse(&json.number(peek)?),
            _ => {
                json.skip()?;
                self.note_with(|| {
                    let expected = JsonType::Number;
                    (child("/values", name), Rule::Type { expected })
                });
                return Ok(RawValue::Bad);
            }
        };
        match parsed {
            Ok(decimal) => Ok(RawValue::Decimal(decimal)),
            Err(error) => {
                self.note_with(|| (child("/values", name), decimal_rule(error)));
                Ok(RawValue::Bad)
            }
        }
    }

    fn attributes(&mut self, json: &mut Scanner<'b>) -> Result<(), Kind> {
        let Start::Object { first_key: mut key } = self.object(json, "/attributes")? else {
            return Ok(());
        };
        while let Some(name) = key {
            let value = self.string(json, || child("/attributes", &name))?;
            if self.attributes.len() < GIVEN_MAX {
                self.attributes.push(Given {
                    name,
                    value,
                    place: 0,
                });
            }
            key = json.next_key()?;
        }
        Ok(())
    }

    /// The measurement that a row means; `None` only with problems noted.
    fn check(
        &mut self,
        meters: &mut BatchMeters<'_, 'b>,
        latest: Timestamp,
    ) -> Option<Measurement> {
        let raw = std::mem::take(&mut self.raw);
        let measurement = self.check_raw(&raw, meters, latest);
        self.raw = raw;
        measurement
    }

    fn check_raw(
        &mut self,
        raw: &RawRow<'b>,
        meters: &mut BatchMeters<'_, 'b>,
        latest: Timestamp,
    ) -> Option<Measurement> {
        if !raw.is_object {
            return None;
        }
        let id = self.text("/id", raw.id.as_deref(), |text| MeasurementId::new(text));
        let subject = self.text("/subject", raw.subject.as_deref(), |text| {
            Subject::new(text)
        });
        let time = self
            .required("/time", raw.time.as_ref())
            .and_then(|text| self.time("/time", text, latest));
        let end_time = match &raw.end_time {
            None => None,
            Some(text) => {
                let end_time = self.time("/end_time", text, latest);
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
        let name = self.required("/meter", raw.meter.as_ref())?;
        let Some(meter) = meters.get(name) else {
            self.note(
                "/meter",
                Rule::UnknownReference {
                    resource: Resource::Meter,
                },
            );
            return None;
        };
        let values = self.check_values(raw, &mut meter.values);
        let attributes = self.check_attributes(&mut meter.attributes);
        Some(
            Measurement {
                id: id?,
                meter: meter.id,
                subject: subject?,
                time: time?,
                end_time,
                values,
                attributes,
            }
            .in_order(),
        )
    }

    fn check_values(
        &mut self,
        raw: &RawRow<'_>,
        known: &mut FieldNames,
    ) -> Vec<(FieldName, Decimal)> {
        if !raw.has_values && !known.names.is_empty() {
            self.missing("/values");
        }
        let mut given = std::mem::take(&mut self.values);
        self.sort_out("/values", &mut given, known);
        let mut values = Vec::with_capacity(given.len());
        values.extend(given.iter().filter_map(|field| match field.value {
            RawValue::Decimal(decimal) => Some((known.at(field.place)?, decimal)),
            RawValue::Absent | RawValue::Bad => None,
        }));
        self.values = given;
        if values.is_empty() && !known.names.is_empty() && self.problems.is_empty() {
            self.note(
                "/values",
                Rule::Count {
                    min: 1,
                    max: known.names.len() as u64,
                },
            );
        }
        values
    }

    fn check_attributes(&mut self, known: &mut FieldNames) -> Vec<(FieldName, AttributeValue)> {
        let mut given = std::mem::take(&mut self.attributes);
        self.sort_out("/attributes", &mut given, known);
        let mut attributes = Vec::with_capacity(given.len());
        for field in &given {
            let (Some(name), Some(text)) = (known.at(field.place), &field.value) else {
                continue;
            };
            match AttributeValue::new(text) {
                Ok(text) => attributes.push((name, text)),
                Err(error) => self.note(&child("/attributes", &field.name), text_rule(error)),
            }
        }
        self.attributes = given;
        attributes
    }

    /// Takes out the names that the meter does not have or that are given twice.
    fn sort_out<V>(&mut self, member: &str, given: &mut Vec<Given<'_, V>>, known: &mut FieldNames) {
        given.retain_mut(|field| match known.take(&field.name, self.index) {
            Named::Field(place) => {
                field.place = place;
                true
            }
            Named::Again => {
                self.note_with(|| (child(member, &field.name), Rule::Unique));
                false
            }
            Named::Unknown => {
                self.note_with(|| {
                    let known = known.names.iter().map(ToString::to_string).collect();
                    let rule = Rule::UnknownField { known };
                    (child(member, &meterd_fault::quote(&field.name)), rule)
                });
                false
            }
        });
    }

    fn missing(&mut self, member: &str) {
        let pointer = self.pointer(member);
        let refused = self.problems.iter().any(
            |p| matches!(&p.location, meterd_fault::Location::Body(known) if *known == pointer),
        );
        if !refused {
            self.note(member, Rule::Required);
        }
    }

    fn required<T>(&mut self, member: &str, text: Option<T>) -> Option<T> {
        if text.is_none() {
            self.missing(member);
        }
        text
    }

    fn text<T>(
        &mut self,
        member: &str,
        text: Option<&str>,
        make: impl FnOnce(&str) -> Result<T, TextError>,
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

    fn time(&mut self, member: &str, text: &str, latest: Timestamp) -> Option<Timestamp> {
        let time = match Timestamp::parse(text) {
            Ok(time) => time,
            Err(error) => {
                self.note(member, time_rule(error));
                return None;
            }
        };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None but one that cannot be looked up.
    struct OneBroken;

    impl Meters for OneBroken {
        fn meter(&self, name: &str) -> Result<Option<MeterFields>, Fault> {
            match name {
                "broken" => Err(Fault::internal("as the test wants it")),
                _ => Ok(None),
            }
        }
    }

    #[test]
    fn a_meter_that_cannot_be_looked_up_is_no_mistake_of_the_row() {
        let row = r#"{"id":"a","meter":"broken","subject":"s","time":"2026-11-01T00:00:00Z"}"#;
        let body = format!(r#"{{"measurements":[{row}]}}"#);
        let now = Timestamp::MAX;
        let read = [
            read_json(body.as_bytes(), &OneBroken, now),
            read_ndjson(row.as_bytes(), &OneBroken, now, BrokenLines::Keep),
        ];
        for read in read {
            assert!(matches!(*read.unwrap_err().kind, Kind::Internal));
        }
    }

    #[test]
    fn a_row_holds_no_more_fields_than_it_takes_to_refuse_it() {
        let many = r#""x":1,"#.repeat(100_000);
        let line = format!(r#"{{"values":{{{many}"y":1}},"attributes":{{{many}"y":1}}}}"#);
        let mut batch = BatchReader::new("", 0, &OneBroken, Timestamp::MAX);
        batch.read_line(line.as_bytes()).unwrap();
        assert!(batch.row.values.capacity() <= 2 * GIVEN_MAX);
        assert!(batch.row.attributes.capacity() <= 2 * GIVEN_MAX);
    }

    #[test]
    fn members_that_are_given_again_and_again_are_listed_up_to_the_bound() {
        let again = r#","measurements":0"#.repeat(1000);
        let body = format!(r#"{{"measurements":[]{again}}}"#);
        let refused = read_json(body.as_bytes(), &OneBroken, Timestamp::MAX).unwrap_err();
        let Kind::Invalid { problems } = refused.kind.as_ref() else {
            panic!("{refused:?}");
        };
        assert_eq!(problems.len(), ROW_PROBLEMS_MAX);
    }
}
