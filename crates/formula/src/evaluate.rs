//! A calculation over a row of values.

use crate::ErrorAt;
use crate::check::{Calculation, Type};
use crate::expression::{Arithmetic, Comparison, Expression, Function, Logic, Node, Step};
use meterd_model::{Decimal, Rounding};
use std::cmp::Ordering;

/// A value in a row, or what a calculation yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    Number(Decimal),
    Text(&'a str),
}

impl Value<'_> {
    /// `None` for null.
    pub fn holds(self) -> Option<Type> {
        match self {
            Self::Null => None,
            Self::Boolean(_) => Some(Type::Boolean),
            Self::Number(_) => Some(Type::Number),
            Self::Text(_) => Some(Type::Text),
        }
    }
}

pub type EvaluateError = ErrorAt<Failure>;

/// Why there is no result for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("there is no value here; `isnull(…, …)` can give one")]
    Null,
    /// The row holds something else than was declared.
    #[error("the value is {found}, but {expected} was declared")]
    Type { expected: Type, found: Type },
    #[error("division by zero")]
    DivisionByZero,
    #[error(
        "the result has more than {} digits before the point",
        Decimal::INTEGER_DIGITS
    )]
    Overflow,
    #[error("exponents and scales must be whole numbers")]
    Fraction,
}

type Outcome<T> = Result<T, EvaluateError>;

impl Calculation {
    /// Computes the calculation over a row, whose values lie in the order of the variables it was checked against. A
    /// value past the row's end is null.
    ///
    /// What comes out is null or of the type that was asked of the check.
    pub fn evaluate<'a>(&'a self, row: &[Value<'a>]) -> Outcome<Value<'a>> {
        Evaluation {
            calculation: self,
            row,
        }
        .value(&self.root)
    }
}

/// Since the check has been passed, only null and what the row holds can have a wrong type.
struct Evaluation<'a, 'r> {
    calculation: &'a Calculation,
    row: &'r [Value<'a>],
}

impl<'a> Evaluation<'a, '_> {
    fn value(&self, of: &'a Expression) -> Outcome<Value<'a>> {
        match &of.node {
            Node::Number(number) => Ok(Value::Number(*number)),
            Node::Text(text) => Ok(Value::Text(text)),
            Node::Constant(constant) => Ok(constant.value),
            Node::Name(name) => self.slot(*name).map_err(|failure| at(of.at, failure)),
            Node::Sign { minus, operand } => {
                let number = self.number(operand)?;
                Ok(Value::Number(if *minus { -number } else { number }))
            }
            Node::Arithmetic { first, steps, .. } => {
                let mut number = self.number(first)?;
                for step in steps {
                    number = self.step(number, step)?;
                }
                Ok(Value::Number(number))
            }
            Node::Comparison(operator, operands) => {
                let [left, right] = &**operands;
                Ok(compare(self.value(left)?, *operator, self.value(right)?))
            }
            Node::Logic(operator, operands) => {
                let decisive = *operator == Logic::Or;
                for operand in operands {
                    if self.boolean(operand)? == decisive {
                        return Ok(Value::Boolean(decisive));
                    }
                }
                Ok(Value::Boolean(!decisive))
            }
            Node::Choice(choice) => {
                if self.boolean(&choice.condition)? {
                    return self.value(&choice.then);
                }
                self.value(&choice.otherwise)
            }
            Node::Call(function, arguments) => self.call(of.at, *function, arguments),
        }
    }

    fn slot(&self, name: usize) -> Result<Value<'a>, Failure> {
        let Some(slot) = self.calculation.slots.get(name) else {
            return Ok(Value::Null);
        };
        let value = self.row.get(slot.place).copied().unwrap_or(Value::Null);
        match value.holds() {
            Some(found) if found != slot.holds => Err(Failure::Type {
                expected: slot.holds,
                found,
            }),
            _ => Ok(value),
        }
    }

    fn number(&self, of: &'a Expression) -> Outcome<Decimal> {
        match self.value(of)? {
            Value::Number(number) => Ok(number),
            other => Err(at(of.at, unfit(Type::Number, other))),
        }
    }

    fn boolean(&self, of: &'a Expression) -> Outcome<bool> {
        match self.value(of)? {
            Value::Boolean(boolean) => Ok(boolean),
            other => Err(at(of.at, unfit(Type::Boolean, other))),
        }
    }

    fn step(&self, left: Decimal, step: &'a Step) -> Outcome<Decimal> {
        let right = self.number(&step.operand)?;
        match step.operator {
            Arithmetic::Add => left.checked_add(right).ok_or(Failure::Overflow),
            Arithmetic::Subtract => left.checked_sub(right).ok_or(Failure::Overflow),
            Arithmetic::Multiply => left.checked_mul(right).ok_or(Failure::Overflow),
            Arithmetic::Divide | Arithmetic::Remainder if right == Decimal::ZERO => {
                Err(Failure::DivisionByZero)
            }
            Arithmetic::Divide => left.checked_div(right).ok_or(Failure::Overflow),
            Arithmetic::Remainder => left.checked_rem(right).ok_or(Failure::Overflow),
            Arithmetic::Power => power(left, right),
        }
        .map_err(|failure| at(step.at, failure))
    }

    fn call(&self, place: usize, function: Function, of: &'a [Expression]) -> Outcome<Value<'a>> {
        // The parser has counted the arguments.
        let Some((first, others)) = of.split_first() else {
            return Ok(Value::Null);
        };
        match function {
            Function::IsNull => match (self.value(first)?, others.first()) {
                (Value::Null, Some(instead)) => self.value(instead),
                (value, _) => Ok(value),
            },
            Function::In => {
                let sought = self.value(first)?;
                for other in others {
                    if self.value(other)? == sought {
                        return Ok(Value::Boolean(true));
                    }
                }
                Ok(Value::Boolean(false))
            }
            Function::Max => self.extreme(first, others, Decimal::max),
            Function::Min => self.extreme(first, others, Decimal::min),
            Function::Absolute => Ok(Value::Number(self.number(first)?.abs())),
            Function::Power => self.of_two(place, of, power),
            Function::Floor => self.of_two(place, of, |n, scale| round(n, scale, Rounding::Floor)),
            Function::Ceiling => {
                self.of_two(place, of, |n, scale| round(n, scale, Rounding::Ceiling))
            }
            Function::Round => self.of_two(place, of, |n, scale| round(n, scale, Rounding::HalfUp)),
        }
    }

    fn extreme(
        &self,
        first: &'a Expression,
        others: &'a [Expression],
        of: fn(Decimal, Decimal) -> Decimal,
    ) -> Outcome<Value<'a>> {
        let first = self.number(first)?;
        let mut others = others.iter().map(|other| self.number(other));
        let extreme = others.try_fold(first, |extreme, other| Ok(of(extreme, other?)));
        extreme.map(Value::Number)
    }

    /// A function of two numbers, the second of which may be left out and is 0 then.
    fn of_two(
        &self,
        place: usize,
        arguments: &'a [Expression],
        function: impl Fn(Decimal, Decimal) -> Result<Decimal, Failure>,
    ) -> Outcome<Value<'a>> {
        let argument = |index| match arguments.get(index) {
            Some(argument) => self.number(argument),
            None => Ok(Decimal::ZERO),
        };
        let result = function(argument(0)?, argument(1)?);
        result
            .map(Value::Number)
            .map_err(|failure| at(place, failure))
    }
}

fn at(at: usize, reason: Failure) -> EvaluateError {
    ErrorAt { at, reason }
}

fn unfit(expected: Type, value: Value) -> Failure {
    match value.holds() {
        None => Failure::Null,
        Some(found) => Failure::Type { expected, found },
    }
}

fn compare<'a>(left: Value, operator: Comparison, right: Value) -> Value<'a> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => Some(left.cmp(&right)),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        _ => None,
    };
    let ordered = |fits: fn(Ordering) -> bool| match order {
        Some(order) => Value::Boolean(fits(order)),
        None => Value::Null,
    };
    match operator {
        Comparison::Equal => Value::Boolean(left == right),
        Comparison::NotEqual => Value::Boolean(left != right),
        Comparison::Less => ordered(Ordering::is_lt),
        Comparison::LessOrEqual => ordered(Ordering::is_le),
        Comparison::Greater => ordered(Ordering::is_gt),
        Comparison::GreaterOrEqual => ordered(Ordering::is_ge),
    }
}

fn power(base: Decimal, exponent: Decimal) -> Result<Decimal, Failure> {
    let exponent = exponent.to_integer().ok_or(Failure::Fraction)?;
    if base == Decimal::ZERO && exponent < 0 {
        return Err(Failure::DivisionByZero);
    }
    base.checked_pow(exponent).ok_or(Failure::Overflow)
}

fn round(number: Decimal, scale: Decimal, rounding: Rounding) -> Result<Decimal, Failure> {
    let scale = scale.to_integer().ok_or(Failure::Fraction)?;
    // Scales past either end of a decimal are all alike.
    let scale = i32::try_from(scale.clamp(-100, 100)).unwrap_or_default();
    number.round_at(scale, rounding).ok_or(Failure::Overflow)
}
