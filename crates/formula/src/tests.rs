//! Formulas from text to result, and against an oracle that computes with wide integers.

use crate::{DEPTH_MAX, Failure, Formula, LENGTH_MAX, POWERS_MAX, Type, Value, Variable};
use meterd_model::Decimal;
use num_bigint::{BigInt, BigUint};
use proptest::prelude::*;

const NAMES: [(&str, Type); 6] = [
    ("bytes", Type::Number),
    ("timestamp.ts", Type::Number),
    ("absent", Type::Number),
    ("region", Type::Text),
    ("$größe_2", Type::Number),
    ("live", Type::Boolean),
];

fn variables() -> Vec<Variable> {
    let variable = |(name, holds): (&str, Type)| Variable {
        name: name.to_owned(),
        holds,
    };
    NAMES.map(variable).to_vec()
}

fn number(text: &str) -> Value<'static> {
    Value::Number(text.parse().unwrap())
}

fn row() -> Vec<Value<'static>> {
    vec![
        number("1536"),
        number("1709287200000"),
        Value::Null,
        Value::Text("eu"),
        number("-0.5"),
        Value::Boolean(true),
    ]
}

/// The result as text, or the first error.
fn outcome(text: &str, result: Type) -> String {
    let formula = match Formula::parse(text) {
        Ok(formula) => formula,
        Err(error) => return error.to_string(),
    };
    let calculation = match formula.check(&variables(), result) {
        Ok(calculation) => calculation,
        Err(errors) => return errors.first().unwrap().to_string(),
    };
    match calculation.evaluate(&row()) {
        Ok(Value::Null) => "null".to_owned(),
        Ok(Value::Boolean(boolean)) => boolean.to_string(),
        Ok(Value::Number(number)) => number.to_string(),
        Ok(Value::Text(text)) => text.to_owned(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn check(result: Type, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(outcome(text, result), *expected, "{text}");
    }
}

#[test]
fn operators_bind_as_documented() {
    check(
        Type::Number,
        &[
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("10 - 4 - 3", "3"),
            ("10 - (4 - 3)", "9"),
            ("100 / 10 / 5", "2"),
            ("7 % 4 * 2", "6"),
            ("-7 % 4", "-3"),
            ("2 ^ 3 ^ 2", "512"),
            ("(2 ^ 3) ^ 2", "64"),
            ("-2 ^ 2", "-4"),
            ("(-2) ^ 2", "4"),
            ("2 ^ -1", "0.5"),
            ("2 ^ -1 * 4", "2"),
            ("--+-2", "-2"),
            ("2 * -3", "-6"),
            ("true ? 1 : false ? 2 : 3", "1"),
            ("false ? 1 : false ? 2 : 3", "3"),
            ("true ? false ? 1 : 2 : 3", "2"),
            ("1 + 1 == 2 AND 2 < 3 ? 1 + 1 : 0", "2"),
            ("1.5e3+2E-1", "1500.2"),
            ("\n\t bytes\u{a0}/ 1024 ", "1.5"),
            ("timestamp.ts % 1000", "0"),
            ("$größe_2*2", "-1"),
        ],
    );
    check(
        Type::Boolean,
        &[
            ("true OR false AND false", "true"),
            ("(true OR false) AND false", "false"),
            ("1 < 2 AND 2 >= 2 AND 1 != 2 AND 2 <= 2 AND 3 > 2", "true"),
            ("(1 < 2) == true", "true"),
            ("region == \"eu\"", "true"),
            ("region < \"us\"", "true"),
            ("live", "true"),
        ],
    );
}

#[test]
fn functions_and_constants_are_those_of_the_guide() {
    check(
        Type::Number,
        &[
            ("Math.round(2.5)", "3"),
            ("Math.round(-2.5)", "-2"),
            ("Math.round(2.345, 2)", "2.35"),
            ("Math.round(1250, -2)", "1300"),
            ("Math.floor(-2.1)", "-3"),
            ("Math.floor(1299, -2)", "1200"),
            ("Math.ceil(2.001, 2)", "2.01"),
            ("Math.ceil(2.001)", "3"),
            ("Math.max(1, 3, 2)", "3"),
            ("Math.min(1, bytes)", "1"),
            ("Math.pow(2, 10)", "1024"),
            ("Math.abs(-2)", "2"),
            ("Math.PI", "3.141592653589793238"),
            ("isnull(absent, 7)", "7"),
            ("isnull(bytes, 1 / 0)", "1536"),
            ("IN(region, \"us\", \"eu\") ? 1 : 0", "1"),
            ("IN(bytes, 1, 2) ? 1 : 0", "0"),
            ("null", "null"),
        ],
    );
    check(
        Type::Text,
        &[
            ("DateTime.TS_FMT", "yyyy-MM-dd'T'HH:mm:ss.SSSX"),
            ("bytes > 1000 ? \"large\" : \"small\"", "large"),
            (r#""say \"a\\b\"""#, r#"say "a\b""#),
        ],
    );
}

#[test]
fn null_is_only_equal_to_null() {
    check(
        Type::Boolean,
        &[
            ("absent == null", "true"),
            ("bytes == null", "false"),
            ("null != bytes", "true"),
            ("absent < 1", "null"),
            ("isnull(absent < 1, false)", "false"),
            ("IN(absent, 1, null)", "true"),
            ("live OR absent == 1 / 0", "true"),
            (
                "absent < 1 AND live",
                "character 1: there is no value here; `isnull(…, …)` can give one",
            ),
        ],
    );
}

#[test]
fn a_row_without_result_says_where_and_why() {
    check(
        Type::Number,
        &[
            ("1 + bytes / 0", "character 11: division by zero"),
            ("bytes % (1 - 1)", "character 7: division by zero"),
            ("0 ^ -1", "character 3: division by zero"),
            (
                "1 + absent",
                "character 5: there is no value here; `isnull(…, …)` can give one",
            ),
            (
                "bytes * 99999999999999999999",
                "character 7: the result has more than 20 digits before the point",
            ),
            (
                "2 ^ 0.5",
                "character 3: exponents and scales must be whole numbers",
            ),
            (
                "1 + Math.round(1, 0.5)",
                "character 5: exponents and scales must be whole numbers",
            ),
            (
                "Math.ceil(1, -99999999999)",
                "character 1: the result has more than 20 digits before the point",
            ),
        ],
    );
    let bytes = Formula::parse("bytes").unwrap();
    let bytes = bytes.check(&variables(), Type::Number).unwrap();
    let error = bytes.evaluate(&[Value::Text("12")]).unwrap_err();
    assert_eq!(
        error.reason,
        Failure::Type {
            expected: Type::Number,
            found: Type::Text
        }
    );
    assert_eq!(bytes.evaluate(&[]), Ok(Value::Null));
}

#[test]
fn what_breaks_the_grammar_is_named_with_what_is_allowed() {
    const VALUE: &str = "a number, a text in double quotes, a name, a function, a sign or `(`";
    let expecting_value =
        |at, found| format!("character {at}: found {found}, but {VALUE} must stand here");
    check(
        Type::Number,
        &[
            ("", &expecting_value(1, "the end")),
            ("bytes /", &expecting_value(8, "the end")),
            ("1 + * 2", &expecting_value(5, "`*`")),
            ("()", &expecting_value(2, "`)`")),
            ("1 + ) #", &expecting_value(5, "`)`")),
            ("Math.abs()", &expecting_value(10, "`)`")),
            (
                "bytes 1024",
                "character 7: found `1024`, but an operator or the end must stand here",
            ),
            (
                "größe größe",
                "character 7: found `größe`, but an operator or the end must stand here",
            ),
            (
                "1)",
                "character 2: found `)`, but an operator or the end must stand here",
            ),
            (
                "(1",
                "character 3: found the end, but an operator or `)` must stand here",
            ),
            (
                "Math.max(1 2)",
                "character 12: found `2`, but an operator, `,` or `)` must stand here",
            ),
            (
                "true ? 1",
                "character 9: found the end, but an operator or `:` must stand here",
            ),
            (
                "1 < 2 < 3",
                "character 7: comparisons do not chain; join two of them with `AND`, or put one in parentheses",
            ),
            (
                "live and live",
                "character 6: found `and`; the grammar has `AND` for it",
            ),
            (
                "live && live",
                "character 6: found `&&`; the grammar has `AND` for it",
            ),
            (
                "bytes = 1",
                "character 7: found `=`; the grammar has `==` for it",
            ),
            (
                "region == 'eu'",
                "character 11: found `'`; the grammar has `\"` for it",
            ),
            (
                "2 ** 3",
                "character 3: found `**`; the grammar has `^` for it",
            ),
            ("bytes # 2", "character 7: `#` has no meaning here"),
            (
                "region == \"eu",
                "character 11: the text that begins here has no closing `\"`",
            ),
            (
                r#""a\n""#,
                r#"character 3: after `\` only `"` or `\` may stand; write `\\` for one backslash"#,
            ),
            (
                "round(1.5)",
                "character 1: there is no function `round`; there are `Math.max`, `Math.min`, `Math.floor`, \
                 `Math.ceil`, `Math.round`, `Math.pow`, `Math.abs`, `isnull`, `IN`",
            ),
            (
                "1 + Math.pow(2)",
                "character 5: `Math.pow` takes 2 arguments, but is given 1",
            ),
            (
                "Math.abs(1, 2)",
                "character 1: `Math.abs` takes 1 argument, but is given 2",
            ),
            (
                "Math.max(1)",
                "character 1: `Math.max` takes 2 or more arguments, but is given 1",
            ),
            (
                "Math.floor(1, 2, 3)",
                "character 1: `Math.floor` takes 1 or 2 arguments, but is given 3",
            ),
            (
                "1e20",
                "character 1: `1e20` has more than 20 digits before or 18 after the decimal point",
            ),
            ("007", "character 1: `007` is not a decimal number"),
        ],
    );
}

#[test]
fn names_must_exist_and_types_agree() {
    const KNOWN: &str = "`bytes`, `timestamp.ts`, `absent`, `region`, `$größe_2`, `live`";
    let not_here =
        |at, name| format!("character {at}: there is no `{name}` here; there is {KNOWN}");
    let number =
        |at, found| format!("character {at}: this is {found}, but a number must stand here");
    check(
        Type::Number,
        &[
            ("bytes / size", &not_here(9, "size")),
            ("Math.E", &not_here(1, "Math.E")),
            ("region", &number(1, "a text")),
            ("bytes + (region)", &number(10, "a text")),
            ("-region", &number(2, "a text")),
            ("bytes > 1", &number(1, "true or false")),
            ("Math.max(1, 2, live)", &number(16, "true or false")),
            ("live ? 1 : \"a\"", &number(12, "a text")),
            ("isnull(bytes, region)", &number(15, "a text")),
            ("live < false ? 1 : 2", &number(1, "true or false")),
            (
                "bytes ? 1 : 2",
                "character 1: this is a number, but true or false must stand here",
            ),
            (
                "region == 5 ? 1 : 2",
                "character 11: this is a number, but a text must stand here",
            ),
            (
                "IN(region, \"a\", 5) ? 1 : 2",
                "character 17: this is a number, but a text must stand here",
            ),
        ],
    );
    let many = Formula::parse("a + region + b").unwrap();
    let errors = many.check(&variables(), Type::Number).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.at).collect();
    assert_eq!(places, [1, 5, 14]);
    let none = Formula::parse("a").unwrap().check(&[], Type::Number);
    assert_eq!(
        none.unwrap_err().first().unwrap().to_string(),
        "character 1: there is no `a` here; there is no name to use"
    );
}

#[test]
fn names_are_listed_once() {
    let formula =
        Formula::parse("aggregation.b + a.b.c * aggregation.b - Math.PI - isnull(x, true)");
    let formula = formula.unwrap();
    assert!(formula.names().eq(["aggregation.b", "a.b.c", "x"]));
}

#[test]
fn a_calculation_knows_the_places_it_reads() {
    let formula = Formula::parse("region == \"eu\" ? bytes : bytes * 2").unwrap();
    let calculation = formula.check(&variables(), Type::Number).unwrap();
    assert!(calculation.places().eq([3, 0]));
}

#[test]
fn length_and_depth_are_bounded() {
    let longest = format!("1{}", "+1".repeat((LENGTH_MAX - 1) / 2));
    check(Type::Number, &[(&longest, "2500")]);
    let too_long = " ".repeat(LENGTH_MAX) + "1";
    check(
        Type::Number,
        &[(
            &too_long,
            "character 5001: the calculation is longer than 5000 characters",
        )],
    );
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("true ? 1 : ", ""),
        ("Math.abs(", ")"),
    ] {
        let deepest = nested(open, close, DEPTH_MAX - 1);
        assert!(
            ["1", "-1"].contains(&outcome(&deepest, Type::Number).as_str()),
            "{open}"
        );
        let printed = Formula::parse(&deepest).unwrap().to_string();
        assert_eq!(Formula::parse(&printed).unwrap().to_string(), printed);
        let too_deep = outcome(&nested(open, close, DEPTH_MAX), Type::Number);
        assert!(
            too_deep.ends_with("parts lie inside one another more than 200 deep"),
            "{too_deep}"
        );
    }
    assert!(Formula::parse(&"(".repeat(LENGTH_MAX)).is_err());
    let powers = |number: usize| format!("Math.pow(1, 1){}", " ^ 1".repeat(number - 1));
    let too_many = "character 140: there are more than 32 powers";
    check(
        Type::Number,
        &[
            (&powers(POWERS_MAX), "1"),
            (&powers(POWERS_MAX + 1), too_many),
        ],
    );
}

#[test]
fn operations_are_counted_before_anything_is_calculated() {
    for (text, result, operations) in [
        ("bytes", Type::Number, 0),
        ("bytes + 1 - 2", Type::Number, 2),
        ("-bytes * (1 + 2)", Type::Number, 3),
        ("bytes ^ 2 / 2", Type::Number, 101),
        ("Math.max(bytes, 1, 1 + 1)", Type::Number, 4),
        ("live ? Math.pow(bytes, 2) : 0", Type::Number, 101),
        ("live AND bytes > 1 OR IN(region, \"eu\")", Type::Boolean, 7),
    ] {
        let calculation = Formula::parse(text).unwrap();
        let calculation = calculation.check(&variables(), result).unwrap();
        assert_eq!(calculation.operations(), operations, "{text}");
    }
}

#[test]
fn text_has_one_spelling() {
    for (text, printed) in [
        ("((a))+(b*c)", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "(a - b) - c"),
        ("(a^b)^c", "(a ^ b) ^ c"),
        ("a^(b^c)", "a ^ b ^ c"),
        ("(-a)^b", "(-a) ^ b"),
        ("-(a^b)", "-a ^ b"),
        ("- - a", "--a"),
        ("a^-b", "a ^ -b"),
        ("-(a*b)", "-(a * b)"),
        ("(a?b:c)?d:(e?f:g)", "(a ? b : c) ? d : e ? f : g"),
        ("(a OR b)AND c", "(a OR b) AND c"),
        ("(a==b)==c", "(a == b) == c"),
        ("isnull( a,(b?c:d) )", "isnull(a, b ? c : d)"),
        ("1e3", "1000"),
        (r#""\"\\""#, r#""\"\\""#),
    ] {
        assert_eq!(Formula::parse(text).unwrap().to_string(), printed);
    }
}

/// A formula of numbers, its text written and its value computed as simply as can be.
#[derive(Clone, Debug)]
enum Naive {
    Number(Decimal),
    /// A place of the row.
    Slot(usize),
    Minus(Box<Naive>),
    Binary(&'static str, Box<[Naive; 2]>),
    /// A small whole number to a small whole power.
    Power(i32, i32),
    /// `a < b ? c : d`
    Choice(Box<[Naive; 4]>),
    Call(&'static str, Box<[Naive; 2]>),
    Round(&'static str, Box<Naive>, i32),
}

const SLOTS: [&str; 3] = ["bytes", "timestamp.ts", "absent"];

impl Naive {
    /// With parentheses around everything.
    fn text(&self) -> String {
        match self {
            Self::Number(number) => format!("({number})"),
            Self::Slot(place) => SLOTS[*place].to_owned(),
            Self::Minus(of) => format!("(-{})", of.text()),
            Self::Binary(operator, of) => format!("({} {operator} {})", of[0].text(), of[1].text()),
            Self::Power(base, exponent) => format!("(({base}) ^ ({exponent}))"),
            Self::Choice(of) => {
                let [a, b, c, d] = &**of;
                let (a, b, c, d) = (a.text(), b.text(), c.text(), d.text());
                format!("(({a} < {b}) ? {c} : {d})")
            }
            Self::Call(function, of) => format!("{function}({}, {})", of[0].text(), of[1].text()),
            Self::Round(function, of, scale) => format!("{function}({}, {scale})", of.text()),
        }
    }

    /// In units of 10⁻¹⁸: `Err` without a result, `Ok(None)` for null.
    fn units(&self, row: &[Value]) -> Result<Option<BigInt>, ()> {
        let one = BigInt::from(10).pow(18);
        let known = |of: &Self| of.units(row)?.ok_or(());
        let result = match self {
            Self::Number(number) => BigInt::from(number.units()),
            Self::Slot(place) => match row[*place] {
                Value::Number(number) => BigInt::from(number.units()),
                _ => return Ok(None),
            },
            Self::Minus(of) => -known(of)?,
            Self::Binary(operator, of) => {
                let (a, b) = (known(&of[0])?, known(&of[1])?);
                match *operator {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => half_even(&(a * b), &one),
                    _ if b == BigInt::ZERO => return Err(()),
                    "/" => half_even(&(a * one), &b),
                    _ => a % b,
                }
            }
            Self::Power(base, exponent) => {
                let power = BigInt::from(*base).pow(exponent.unsigned_abs());
                match exponent.signum() {
                    -1 if *base == 0 => return Err(()),
                    -1 => half_even(&one, &power),
                    _ => power * one,
                }
            }
            Self::Choice(of) => {
                let less = known(&of[0])? < known(&of[1])?;
                return of[if less { 2 } else { 3 }].units(row);
            }
            Self::Call("isnull", of) => match of[0].units(row)? {
                Some(value) => value,
                None => return of[1].units(row),
            },
            Self::Call(function, of) => {
                let (a, b) = (known(&of[0])?, known(&of[1])?);
                if *function == "Math.max" {
                    a.max(b)
                } else {
                    a.min(b)
                }
            }
            Self::Round(function, of, scale) => {
                let step = BigInt::from(10).pow(u32::try_from(18 - scale).unwrap());
                let units = known(of)?;
                let shifted = match *function {
                    "Math.floor" => units,
                    "Math.ceil" => units + &step - 1,
                    _ => units + &step / 2,
                };
                let rest = (&shifted % &step + &step) % &step;
                shifted - rest
            }
        };
        let fits = *result.magnitude() < BigUint::from(10_u32).pow(38);
        fits.then_some(Some(result)).ok_or(())
    }
}

fn half_even(above: &BigInt, below: &BigInt) -> BigInt {
    let (a, b) = (above.magnitude(), below.magnitude());
    let (quotient, twice) = (a / b, a % b * 2_u32);
    let odd = &quotient % 2_u32 == BigUint::from(1_u32);
    let up = twice > *b || (twice == *b && odd);
    let magnitude = BigInt::from(quotient + u32::from(up));
    if above.sign() == below.sign() {
        magnitude
    } else {
        -magnitude
    }
}

fn numbers() -> impl Strategy<Value = Decimal> {
    let units = (any::<i128>(), 0_u32..127).prop_map(|(bits, shift)| bits >> shift);
    prop_oneof![
        (-20_i64..20).prop_map(Decimal::from),
        units.prop_filter_map("38 digits", Decimal::from_units),
    ]
}

fn naive() -> impl Strategy<Value = Naive> {
    let leaf = prop_oneof![
        3 => numbers().prop_map(Naive::Number),
        2 => (0..SLOTS.len()).prop_map(Naive::Slot),
        1 => (-9..10, -3..9).prop_map(|(base, exponent)| Naive::Power(base, exponent)),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        let two = (inner.clone(), inner.clone()).prop_map(|(a, b)| Box::new([a, b]));
        let four = (two.clone(), two.clone()).prop_map(|(x, y)| {
            let ([a, b], [c, d]) = (*x, *y);
            Box::new([a, b, c, d])
        });
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        let function = prop::sample::select(vec!["isnull", "Math.max", "Math.min"]);
        let rounding = prop::sample::select(vec!["Math.floor", "Math.ceil", "Math.round"]);
        prop_oneof![
            4 => (operator, two.clone()).prop_map(|(operator, of)| Naive::Binary(operator, of)),
            1 => inner.clone().prop_map(|of| Naive::Minus(Box::new(of))),
            1 => four.prop_map(Naive::Choice),
            1 => (function, two).prop_map(|(function, of)| Naive::Call(function, of)),
            1 => (rounding, inner, -21..18).prop_map(|(f, of, scale)| Naive::Round(f, Box::new(of), scale)),
        ]
    })
}

/// Any order of what the grammar knows, with some of what it does not.
fn token_soup() -> impl Strategy<Value = String> {
    let tokens = "1 2.5 0 1e9 bytes absent region live timestamp.ts null true false Math.PI \"a\\\"b\" + - * / % ^ == != \
                  < <= > >= AND OR ? : ( ) , Math.max( Math.round( Math.pow( isnull( IN( ( ) ( ) = && ' \" . \\ é #";
    let token = prop::sample::select(tokens.split_whitespace().collect::<Vec<_>>());
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.join(" "))
}

/// Texts of all operators and types without regard to what they bind; only chains of comparisons are refused.
fn grammatical() -> impl Strategy<Value = String> {
    let leaves = "1 2.5 bytes absent region live null true Math.PI \"a\"";
    let leaf = prop::sample::select(leaves.split_whitespace().collect::<Vec<_>>());
    leaf.prop_map(str::to_owned).prop_recursive(6, 24, 3, |inner| {
        let operators = "+ - * / % ^ ^ == != < <= > >= AND OR AND OR";
        let operator = prop::sample::select(operators.split_whitespace().collect::<Vec<_>>());
        let three = (inner.clone(), inner.clone(), inner.clone());
        let function = prop::sample::select(vec!["isnull", "IN", "Math.max", "Math.round"]);
        prop_oneof![
            6 => (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            1 => inner.clone().prop_map(|a| format!("-{a}")),
            1 => three.prop_map(|(a, b, c)| format!("{a} ? {b} : {c}")),
            1 => (function, inner.clone(), inner).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
        ]
    })
}

/// The tree without the places of its parts.
fn shape(formula: &Formula) -> String {
    let tree = format!("{:?} of {:?}", formula.root, formula.names);
    let mut parts = tree.split("at: ");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |shape, part| {
        shape + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// Printing gives the same formula, and nothing panics on the way to a result.
fn try_text(text: &str) {
    let Ok(formula) = Formula::parse(text) else {
        return;
    };
    let printed = formula.to_string();
    let again = Formula::parse(&printed).unwrap();
    assert_eq!(again.to_string(), printed);
    assert_eq!(shape(&again), shape(&formula), "{printed}");
    for result in [Type::Number, Type::Text, Type::Boolean] {
        let (first, again) = (formula.clone(), again.clone());
        let first = first.check(&variables(), result);
        let again = again.check(&variables(), result);
        assert_eq!(first.is_ok(), again.is_ok());
        let (Ok(first), Ok(again)) = (first, again) else {
            continue;
        };
        let value = first.evaluate(&row());
        assert!(
            value
                .clone()
                .ok()
                .and_then(Value::holds)
                .is_none_or(|holds| holds == result)
        );
        assert_eq!(
            value.map_err(|error| error.reason),
            again.evaluate(&row()).map_err(|error| error.reason)
        );
    }
}

proptest! {
    #[test]
    fn results_agree_with_wide_integers(naive in naive(), a in numbers(), b in numbers()) {
        let row = [Value::Number(a), Value::Number(b), Value::Null];
        let expected = naive.units(&row).map(|units| match units {
            Some(units) => Value::Number(Decimal::from_units(units.try_into().unwrap()).unwrap()),
            None => Value::Null,
        });
        let formula = Formula::parse(&naive.text()).unwrap();
        let printed = Formula::parse(&formula.to_string()).unwrap();
        for formula in [formula, printed] {
            let text = formula.to_string();
            let calculation = formula.check(&variables(), Type::Number).unwrap();
            let found = calculation.evaluate(&row).map_err(drop);
            prop_assert_eq!(found, expected, "{}", text);
        }
    }

    #[test]
    fn what_is_printed_means_the_same(text in grammatical()) {
        try_text(&text);
    }

    #[test]
    fn any_order_of_tokens_is_refused_or_printed_again(text in token_soup()) {
        try_text(&text);
    }

    #[test]
    fn any_text_is_refused_or_printed_again(text in "\\PC{0,40}|[-0-9a.(+*^?:, \"\\\\]{0,40}") {
        try_text(&text);
    }
}
