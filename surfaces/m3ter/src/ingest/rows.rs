//! Measurements off the wire, in one pass and each by its own form alone: whether its meter and account exist is asked
//! afterwards (5.3).
//!
//! One row that is malformed refuses the request with the problems of all rows, so nothing is kept of a row but its
//! good parts.

use crate::meter::Category;
use crate::wire::CODE;
use meterd_fault::{Fault, JsonType, Kind, Problem, Rule};
use meterd_http::fields::{Problems, decimal_rule, text_rule, time_rule};
use meterd_http::json::{check_utf8, child};
use meterd_http::scan::{Peek, Scanner};
use meterd_model::{
    Alphabet, AttributeValue, Decimal, MeasurementId, TextRule, Timestamp, check_text,
};
use std::borrow::Cow;

/// Most measurements in one request (5.2).
pub(crate) const ROWS_MAX: usize = 1_000;
/// Most fields of one category that a row may have. A meter has far fewer; those that it does not have are ignored.
const FIELDS_MAX: usize = 100;
/// Bytes of a row with few fields; room is made for as many rows as a body of them would have.
const ROW_BYTES_TYPICAL: usize = 160;
/// The longest id is shorter here than the engine's; nothing at all means no id.
const UID: TextRule = TextRule {
    min_chars: 0,
    max_chars: 50,
    alphabet: Alphabet::Text,
};

/// A measurement as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row<'b> {
    /// Its JSON, for whoever has to be told what became of it.
    pub(crate) text: &'b str,
    pub(crate) uid: Option<MeasurementId>,
    /// The meter's code.
    pub(crate) meter: Cow<'b, str>,
    /// The account's code.
    pub(crate) account: Cow<'b, str>,
    pub(crate) time: Timestamp,
    /// After `time`.
    pub(crate) end_time: Option<Timestamp>,
    /// In the order sent; a code at most once in a category.
    pub(crate) fields: Vec<Given<'b>>,
}

/// A field that a row has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given<'b> {
    pub(crate) category: Category,
    pub(crate) code: Cow<'b, str>,
    pub(crate) value: Amount,
    /// Which of the meter's data fields it is, once that is known.
    pub(crate) place: Option<usize>,
}

/// What a field says: an amount in numeric categories, a text in all others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Amount {
    Number(Decimal),
    Text(AttributeValue),
}

/// Reads `{"measurements":[…]}`. No row may be later than `latest`.
pub(crate) fn read(body: &[u8], latest: Timestamp) -> Result<Vec<Row<'_>>, Fault> {
    let mut json = Scanner::new(check_utf8(body)?);
    let mut reader = Reader::new("/measurements", latest);
    let mut rows = None;
    if json.peek()? == Peek::Object {
        let mut key = json.object()?;
        while let Some(name) = key {
            if name != "measurements" {
                json.skip()?;
            } else if rows.is_none() {
                rows = Some(reader.list(&mut json, body.len() / ROW_BYTES_TYPICAL)?);
            } else {
                json.skip()?;
                reader.note(|| ("/measurements".to_owned(), Rule::Unique));
            }
            key = json.next_key()?;
        }
        if rows.is_none() {
            reader.note(|| ("/measurements".to_owned(), Rule::Required));
        }
    } else {
        json.skip()?;
        reader.note(|| (String::new(), wrong_type(JsonType::Object)));
    }
    json.finish()?;
    reader.problems.into_result()?;
    Ok(rows.unwrap_or_default())
}

/// Reads one measurement that stands by itself, as in files.
pub(crate) fn read_row(text: &str, latest: Timestamp) -> Result<Row<'_>, Fault> {
    let mut json = Scanner::new(text);
    let mut reader = Reader::new("", latest);
    let peek = json.peek()?;
    let row = reader.row(&mut json, peek, String::new)?;
    json.finish()?;
    reader.problems.into_result()?;
    row.ok_or_else(|| Fault::internal("a row without problems was not read"))
}

/// What a row may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Uid,
    Meter,
    Account,
    Start,
    End,
    Fields(Category),
}

impl Member {
    const REQUIRED: [(Self, &str); 3] = [
        (Self::Meter, "meter"),
        (Self::Account, "account"),
        (Self::Start, "ts"),
    ];
    const REQUIRED_BITS: u16 = Self::Meter.bit() | Self::Account.bit() | Self::Start.bit();

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "uid" => Self::Uid,
            "meter" => Self::Meter,
            "account" => Self::Account,
            "ts" => Self::Start,
            "ets" => Self::End,
            "who" => Self::Fields(Category::Who),
            "where" => Self::Fields(Category::Where),
            "what" => Self::Fields(Category::What),
            "other" => Self::Fields(Category::Other),
            "metadata" => Self::Fields(Category::Metadata),
            "measure" => Self::Fields(Category::Measure),
            "cost" => Self::Fields(Category::Cost),
            "income" => Self::Fields(Category::Income),
            _ => return None,
        })
    }

    /// One bit of its own.
    const fn bit(self) -> u16 {
        1 << match self {
            Self::Uid => 0,
            Self::Meter => 1,
            Self::Account => 2,
            Self::Start => 3,
            Self::End => 4,
            Self::Fields(category) => 5 + category as u16,
        }
    }
}

/// What is known of the row in hand.
#[derive(Default)]
struct Draft<'b> {
    uid: Option<MeasurementId>,
    meter: Option<Cow<'b, str>>,
    account: Option<Cow<'b, str>>,
    time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    fields: Vec<Given<'b>>,
}

struct Reader {
    /// Of the list of rows.
    pointer: &'static str,
    latest: Timestamp,
    problems: Problems,
}

impl Reader {
    fn new(pointer: &'static str, latest: Timestamp) -> Self {
        Self {
            pointer,
            latest,
            problems: Problems::default(),
        }
    }

    /// Notes a problem, which takes work to word, while there is room for it.
    fn note(&mut self, problem: impl FnOnce() -> (String, Rule)) {
        if !self.problems.is_full() {
            let (pointer, rule) = problem();
            self.problems.push(Problem::body(pointer, rule));
        }
    }

    fn list<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        rows_expected: usize,
    ) -> Result<Vec<Row<'b>>, Kind> {
        let list = self.pointer;
        if json.peek()? != Peek::Array {
            json.skip()?;
            self.note(|| (list.to_owned(), wrong_type(JsonType::Array)));
            return Ok(Vec::new());
        }
        let mut rows = Vec::with_capacity(rows_expected.min(ROWS_MAX));
        let mut count = 0_usize;
        let mut next = json.array()?;
        while let Some(peek) = next {
            if count < ROWS_MAX {
                rows.extend(self.row(json, peek, || format!("{list}/{count}"))?);
            } else {
                json.skip()?;
            }
            count += 1;
            next = json.next_item()?;
        }
        if !(1..=ROWS_MAX).contains(&count) {
            let (min, max) = (1, ROWS_MAX as u64);
            self.note(|| (list.to_owned(), Rule::Count { min, max }));
        }
        Ok(rows)
    }

    /// One row; `None` only with problems noted. `here` is its pointer.
    fn row<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        peek: Peek,
        here: impl Fn() -> String,
    ) -> Result<Option<Row<'b>>, Kind> {
        let place = json.place();
        if peek != Peek::Object {
            json.skip()?;
            self.note(|| (here(), wrong_type(JsonType::Object)));
            return Ok(None);
        }
        let mut draft = Draft::default();
        let (mut seen, mut absent) = (0_u16, Member::REQUIRED_BITS);
        let mut key = json.object()?;
        while let Some(name) = key {
            match Member::named(&name) {
                Some(member) if seen & member.bit() == 0 => {
                    seen |= member.bit();
                    // Null counts as absent.
                    if json.peek()? == Peek::Null {
                        json.null()?;
                    } else {
                        absent &= !member.bit();
                        self.member(json, member, &mut draft, &|| format!("{}/{name}", here()))?;
                    }
                }
                Some(_) => {
                    json.skip()?;
                    self.note(|| (format!("{}/{name}", here()), Rule::Unique));
                }
                None => json.skip()?,
            }
            key = json.next_key()?;
        }
        let text = json.text_from(place);
        for (member, name) in Member::REQUIRED {
            if absent & member.bit() != 0 {
                self.note(|| (format!("{}/{name}", here()), Rule::Required));
            }
        }
        if let (Some(start), Some(end)) = (draft.time, draft.end_time)
            && end < start
        {
            let rule = Rule::Other {
                code: "order",
                text: "must not be before ts".into(),
            };
            self.note(|| (format!("{}/ets", here()), rule));
        }
        let (Some(meter), Some(account), Some(time)) = (draft.meter, draft.account, draft.time)
        else {
            return Ok(None);
        };
        Ok(Some(Row {
            text,
            uid: draft.uid,
            meter,
            account,
            time,
            end_time: draft.end_time.filter(|end| *end > time),
            fields: draft.fields,
        }))
    }

    fn member<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        member: Member,
        draft: &mut Draft<'b>,
        here: &dyn Fn() -> String,
    ) -> Result<(), Kind> {
        match member {
            Member::Uid => {
                let text = self.text(json, UID, here)?;
                // Whatever that rule takes, the engine does.
                draft.uid = text.and_then(|text| MeasurementId::new(text).ok());
            }
            Member::Meter => draft.meter = self.text(json, CODE, here)?,
            Member::Account => draft.account = self.text(json, CODE, here)?,
            Member::Start => {
                let latest = self.latest;
                draft.time = self.time(json, here, |time| {
                    (time > latest).then(|| Rule::Other {
                        code: "future",
                        text: "must not be in the future".into(),
                    })
                })?;
            }
            Member::End => draft.end_time = self.time(json, here, |_| None)?,
            Member::Fields(category) => self.fields(json, category, &mut draft.fields, here)?,
        }
        Ok(())
    }

    fn string<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        here: &dyn Fn() -> String,
    ) -> Result<Option<Cow<'b, str>>, Kind> {
        match json.peek()? {
            Peek::String => Ok(Some(json.string()?)),
            _ => {
                json.skip()?;
                self.note(|| (here(), wrong_type(JsonType::String)));
                Ok(None)
            }
        }
    }

    fn text<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        rule: TextRule,
        here: &dyn Fn() -> String,
    ) -> Result<Option<Cow<'b, str>>, Kind> {
        let Some(text) = self.string(json, here)? else {
            return Ok(None);
        };
        match check_text(&text, rule) {
            Ok(()) => Ok(Some(text)),
            Err(error) => {
                self.note(|| (here(), text_rule(error)));
                Ok(None)
            }
        }
    }

    fn time(
        &mut self,
        json: &mut Scanner<'_>,
        here: &dyn Fn() -> String,
        refusal: impl FnOnce(Timestamp) -> Option<Rule>,
    ) -> Result<Option<Timestamp>, Kind> {
        let Some(text) = self.string(json, here)? else {
            return Ok(None);
        };
        // The first form is the usual one, and needs no room of its own.
        let parsed = Timestamp::parse(&text).or_else(|_| Timestamp::parse_iso(&text));
        let rule = match parsed {
            Ok(time) => match refusal(time) {
                None => return Ok(Some(time)),
                Some(rule) => rule,
            },
            Err(error) => time_rule(error),
        };
        self.note(|| (here(), rule));
        Ok(None)
    }

    fn fields<'b>(
        &mut self,
        json: &mut Scanner<'b>,
        category: Category,
        fields: &mut Vec<Given<'b>>,
        here: &dyn Fn() -> String,
    ) -> Result<(), Kind> {
        match json.peek()? {
            Peek::Object => {}
            _ => {
                json.skip()?;
                self.note(|| (here(), wrong_type(JsonType::Object)));
                return Ok(());
            }
        }
        let start = fields.len();
        let mut count = 0_usize;
        let mut key = json.object()?;
        while let Some(code) = key {
            count += 1;
            if count > FIELDS_MAX {
                json.skip()?;
            } else {
                let here = || child(&here(), &code);
                let is_known = |field: &Given<'_>| field.code == code;
                if fields.iter().skip(start).any(is_known) {
                    json.skip()?;
                    self.note(|| (here(), Rule::Unique));
                } else if let Some(value) = self.amount(json, category, &here)? {
                    fields.push(Given {
                        category,
                        code,
                        value,
                        place: None,
                    });
                }
            }
            key = json.next_key()?;
        }
        if count > FIELDS_MAX {
            let (min, max) = (0, FIELDS_MAX as u64);
            self.note(|| (here(), Rule::Count { min, max }));
        }
        Ok(())
    }

    /// What a category's fields say; null counts as absent.
    fn amount(
        &mut self,
        json: &mut Scanner<'_>,
        category: Category,
        here: &dyn Fn() -> String,
    ) -> Result<Option<Amount>, Kind> {
        let peek = json.peek()?;
        if peek == Peek::Null {
            return json.null().map(|()| None);
        }
        if !category.is_numeric() {
            let Some(text) = self.string(json, here)? else {
                return Ok(None);
            };
            let text = AttributeValue::new(text);
            return Ok(match text {
                Ok(text) => Some(Amount::Text(text)),
                Err(error) => {
                    self.note(|| (here(), text_rule(error)));
                    None
                }
            });
        }
        match peek {
            peek if peek.is_num() => match Decimal::parse_rounded(&json.number(peek)?) {
                Ok(number) => Ok(Some(Amount::Number(number))),
                Err(error) => {
                    self.note(|| (here(), decimal_rule(error)));
                    Ok(None)
                }
            },
            _ => {
                json.skip()?;
                self.note(|| (here(), wrong_type(JsonType::Number)));
                Ok(None)
            }
        }
    }
}

fn wrong_type(expected: JsonType) -> Rule {
    Rule::Type { expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_http::json::{Json, parse};

    const LATEST: &str = "2024-06-01T00:00:00Z";

    fn latest() -> Timestamp {
        Timestamp::parse(LATEST).unwrap()
    }

    /// A row as the slow reading finds it.
    #[derive(Debug, PartialEq)]
    struct Plain {
        uid: Option<String>,
        meter: String,
        account: String,
        time: Timestamp,
        end_time: Option<Timestamp>,
        fields: Vec<(Category, String, Amount)>,
    }

    /// What is wanted of a body, said once more: from a tree of all of it, one question after the other.
    fn read_slowly(body: &str) -> Option<Vec<Plain>> {
        let mut problems = Problems::default();
        let tree = parse(body.as_bytes(), "", &mut problems).ok()?;
        if !problems.is_empty() {
            return None;
        }
        match member(&tree, "measurements")? {
            Json::Array(rows) if (1..=ROWS_MAX).contains(&rows.len()) => {
                rows.iter().map(read_row_slowly).collect()
            }
            _ => None,
        }
    }

    fn member<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
        match json {
            Json::Object(members) => {
                let found = members.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Null is nothing; something of another type is an error.
    fn text_of(row: &Json, name: &str) -> Result<Option<String>, ()> {
        match member(row, name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(()),
        }
    }

    fn read_row_slowly(row: &Json) -> Option<Plain> {
        if !matches!(row, Json::Object(_)) {
            return None;
        }
        let code = |name| {
            let text = text_of(row, name).ok()??;
            check_text(&text, CODE).ok().map(|()| text)
        };
        let (meter, account) = (code("meter")?, code("account")?);
        let uid = text_of(row, "uid").ok()?;
        if uid
            .as_ref()
            .is_some_and(|uid| check_text(uid, UID).is_err())
        {
            return None;
        }
        let time = Timestamp::parse_iso(&text_of(row, "ts").ok()??).ok()?;
        let end_time = match text_of(row, "ets").ok()? {
            Some(text) => Some(Timestamp::parse_iso(&text).ok()?),
            None => None,
        };
        if time > latest() || end_time.is_some_and(|end| end < time) {
            return None;
        }
        let mut fields = Vec::new();
        for (word, category) in Category::WORDS {
            let given = match member(row, &word.to_lowercase()) {
                None | Some(Json::Null) => continue,
                Some(Json::Object(members)) => members,
                Some(_) => return None,
            };
            if given.len() > FIELDS_MAX {
                return None;
            }
            for (code, value) in given {
                let amount = match (value, category.is_numeric()) {
                    (Json::Null, _) => continue,
                    (Json::String(text), false) => Amount::Text(AttributeValue::new(text).ok()?),
                    (Json::Number(text), true) => {
                        Amount::Number(Decimal::parse_rounded(text.as_bytes()).ok()?)
                    }
                    _ => return None,
                };
                fields.push((category, code.clone(), amount));
            }
        }
        Some(Plain {
            uid: uid.filter(|uid| !uid.is_empty()),
            meter,
            account,
            time,
            end_time: end_time.filter(|end| *end > time),
            fields,
        })
    }

    fn read_fast(body: &str) -> Option<Vec<Plain>> {
        let rows = read(body.as_bytes(), latest()).ok()?;
        let plain = rows.into_iter().map(|row| {
            // The text stands by itself for the same row.
            assert_eq!(read_row(row.text, latest()).unwrap(), row);
            let mut fields: Vec<_> = (row.fields.into_iter())
                .map(|given| (given.category, given.code.into_owned(), given.value))
                .collect();
            fields.sort_by_key(|(category, _, _)| {
                Category::WORDS
                    .iter()
                    .position(|(_, known)| known == category)
            });
            Plain {
                uid: row.uid.map(|uid| uid.to_string()),
                meter: row.meter.into_owned(),
                account: row.account.into_owned(),
                time: row.time,
                end_time: row.end_time,
                fields,
            }
        });
        Some(plain.collect())
    }

    /// Random enough, and the same in every run.
    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % bound
        }

        fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
            texts[self.below(texts.len())]
        }
    }

    /// Mostly good; of what is not, all kinds.
    fn random_row(random: &mut Xorshift) -> String {
        const ODD: [&str; 12] = [
            "null",
            "7",
            "true",
            "[]",
            "{}",
            "\"\"",
            "\" x\"",
            "{\"a\":null}",
            "{\"a\":7}",
            "{\"a\":\"b\"}",
            "{\"a\":1,\"a\":2}",
            "\"\\u00e9\"",
        ];
        const CODES: [&str; 4] = ["\"m\"", "\"a b\"", "\"é\"", "\"m\\u0041\""];
        const TIMES: [&str; 6] = [
            "\"2024-03-01T10:00:00Z\"",
            "\"2024-03-01T11:00:00.25+01:00\"",
            "\"2024-03-01T10:00\"",
            "\"2024-03-01\"",
            "\"2024-06-01T00:00:00.000001Z\"",
            "\"1969-12-31\"",
        ];
        const TEXTS: [&str; 4] = [
            "{\"a\":\"b\",\"c\":\"\"}",
            "{}",
            "{\"a\":null}",
            "{\"é\":\"\\n\"}",
        ];
        const NUMBERS: [&str; 5] = [
            "{\"x\":1}",
            "{\"x\":-0.12345678901234567890,\"y\":1e3}",
            "{}",
            "{\"x\":null}",
            "{\"x\":1e20}",
        ];
        let mut members = vec![
            format!("\"meter\":{}", random.one_of(&CODES)),
            format!("\"account\":{}", random.one_of(&CODES)),
            format!("\"ts\":{}", random.one_of(&TIMES[..4])),
        ];
        for (name, values) in [
            ("uid", &CODES[..]),
            ("ets", &TIMES),
            ("who", &TEXTS),
            ("where", &TEXTS),
            ("what", &TEXTS),
            ("other", &TEXTS),
            ("metadata", &TEXTS),
            ("measure", &NUMBERS),
            ("cost", &NUMBERS),
            ("income", &NUMBERS),
            ("unknown", &ODD[..4]),
        ] {
            if random.below(3) == 0 {
                let value = random.one_of(values);
                members.push(format!("\"{name}\": {value}"));
            }
        }
        if random.below(4) == 0 {
            let member = random.below(members.len());
            let name = members[member].split(':').next().unwrap().to_owned();
            members[member] = format!("{name}:{}", random.one_of(&ODD));
        }
        if random.below(20) == 0 {
            // None that nobody reads.
            let member = random.below(3);
            members.push(members[member].clone());
        }
        if random.below(20) == 0 {
            let member = random.below(members.len());
            members.remove(member);
        }
        for place in (1..members.len()).rev() {
            members.swap(place, random.below(place + 1));
        }
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn reads_and_refuses_what_a_slow_reading_does() {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let mut accepted = 0;
        for _ in 0..20_000 {
            let rows: Vec<_> = (0..random.below(3))
                .map(|_| random_row(&mut random))
                .collect();
            let body = format!("{{\"x\":[1],\"measurements\":[{}]}}", rows.join(" , "));
            // The slow reading minds what is twice in members that nobody reads, too.
            if body.contains(r#""unknown":{"a":1,"a":2}"#) {
                continue;
            }
            let read = read_fast(&body);
            assert_eq!(read, read_slowly(&body), "{body}");
            accepted += usize::from(read.is_some());
        }
        assert!((3_000..17_000).contains(&accepted), "{accepted}");
        for body in [
            "",
            "[]",
            "{}",
            "null",
            "{\"measurements\":{}}",
            "{\"measurements\":[1,]}",
        ] {
            assert_eq!(read_fast(body), None, "{body}");
        }
    }

    #[test]
    fn a_row_with_very_many_fields_costs_little() {
        let fields: Vec<_> = (0..50_000).map(|n| format!("\"f{n}\":1")).collect();
        let fields = fields.join(",");
        let body = format!("{{\"measurements\":[{{\"measure\":{{{fields}}}}}]}}");
        let fault = read(body.as_bytes(), latest()).unwrap_err();
        let Kind::Invalid { problems } = *fault.kind else {
            panic!("{fault:?}");
        };
        assert_eq!(problems.len(), 4);
    }
}
