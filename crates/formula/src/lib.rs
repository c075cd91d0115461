//! The grammar in which m3ter words calculations: derived fields, compound aggregations, rules of notifications.
//!
//! Text becomes a [`Formula`] by [`Formula::parse`], and a [`Calculation`] by [`Formula::check`] against the names that
//! exist where it stands. [`Calculation::evaluate`] then computes it over one row of values; at ingest that is each
//! measurement, so names have become slots of the row by then.
//!
//! ```text
//! formula    = choice
//! choice     = or [ "?" formula ":" formula ]
//! or         = and { "OR" and }
//! and        = comparison { "AND" comparison }
//! comparison = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) sum ]
//! sum        = product { ( "+" | "-" ) product }
//! product    = sign { ( "*" | "/" | "%" ) sign }
//! sign       = { "-" | "+" } power
//! power      = value [ "^" sign ]
//! value      = number | text | "(" formula ")" | name | constant | function "(" formula { "," formula } ")"
//! number     = digits [ "." digits ] [ ( "e" | "E" ) [ "+" | "-" ] digits ]
//! text       = in double quotes; \" and \\ stand for a quote and a backslash
//! name       = word { "." word }; a word is letters, digits, _ and $, and does not begin with a digit
//! constant   = "null" | "true" | "false" | "Math.PI" | "DateTime.TS_FMT"
//! ```
//!
//! **Functions**: `Math.max`, `Math.min` of two or more numbers; `Math.floor`, `Math.ceil`, `Math.round` of a number
//! at an optional scale (2: two digits after the point; -2: hundreds), where `round` sends halves up; `Math.pow`,
//! `Math.abs`; `isnull(a, b)`, which is `a` or, where `a` is null, `b`; `IN(a, b, …)`, whether `a` equals one of the
//! others.
//!
//! **Numbers** are [`meterd_model::Decimal`]s. `+`, `-`, `%` (with the sign of its left side) and all roundings are
//! exact. `*`, `/` and powers round half to even at the 18th digit after the point, each for itself. Exponents and
//! scales are whole.
//!
//! **Null** equals only null. Any other comparison with it is null; to compute or decide with it fails, so that no
//! amount comes from nowhere. `AND`, `OR`, `? :`, `isnull` and `IN` look only at what they need, from left to right.
//! Texts are ordered by their code points; `true` and `false` are not ordered.
//!
//! m3ter's own conversions of dates, types and look-up tables are not part of it, as their names are not documented.

mod check;
mod evaluate;
mod expression;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod token;

pub use check::{Calculation, CheckError, Misfit, Type, Variable};
pub use evaluate::{EvaluateError, Failure, Value};
pub use expression::{Formula, POWER_OPERATIONS};
pub use parse::{DEPTH_MAX, LENGTH_MAX, POWERS_MAX, Syntax, SyntaxError};

/// Something wrong with one place of a formula. As text it is a clause such as ``character 7: found `)`, but …``.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {at}: {reason}")]
pub struct ErrorAt<Reason> {
    /// Characters up to and with the one where it begins, so the first is 1.
    pub at: usize,
    pub reason: Reason,
}
