//! Whether a formula makes sense where it stands: its names exist, its types agree.

use crate::ErrorAt;
use crate::expression::{Comparison, Expression, Formula, Function, Node};
use std::collections::HashMap;
use std::fmt;

/// What a value is, unless it is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Number,
    Text,
    Boolean,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Boolean => "true or false",
        })
    }
}

/// A name that a formula may use, such as `bytes`, `timestamp.ts` or `aggregation.stored`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub holds: Type,
}

/// A formula that is ready to be computed over rows.
#[derive(Clone, Debug)]
pub struct Calculation {
    pub(crate) root: Expression,
    /// In the order of the formula's names.
    pub(crate) slots: Vec<Slot>,
}

/// Where a row has the value of a name, and what it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) place: usize,
    pub(crate) holds: Type,
}

pub type CheckError = ErrorAt<Misfit>;

/// Why a part of a formula cannot stand where it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("there is no `{}` here; there is {}", meterd_fault::quote(.name), listed(.known))]
    UnknownName { name: String, known: Vec<String> },
    #[error("this is {found}, but {expected} must stand here")]
    Type { expected: Type, found: Type },
}

/// Most names that the text of an error lists.
const LISTED_MAX: usize = 30;
/// Most errors that a check reports.
const ERRORS_MAX: usize = 20;

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED_MAX);
    let shown: Vec<_> = shown.map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(LISTED_MAX) {
        0 if shown.is_empty() => "no name to use".to_owned(),
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

impl Formula {
    /// Checks a formula that shall yield `result` against the names it may use.
    ///
    /// The place of a variable in `variables` is the place of its value in the rows of [`Calculation::evaluate`].
    /// Errors are in the order of the text, at most 20.
    pub fn check(
        self,
        variables: &[Variable],
        result: Type,
    ) -> Result<Calculation, Vec<CheckError>> {
        let known: HashMap<_, _> = (variables.iter().enumerate())
            .map(|(place, variable)| {
                let holds = variable.holds;
                (variable.name.as_str(), Slot { place, holds })
            })
            .collect();
        let slots: Vec<_> = self.names().map(|name| known.get(name).copied()).collect();
        let mut checker = Checker {
            slots: &slots,
            errors: Vec::new(),
        };
        for (name, slot) in self.names.iter().zip(&slots) {
            if slot.is_none() {
                checker.report(name.at, || Misfit::UnknownName {
                    name: name.text.clone(),
                    known: variables.iter().map(|v| v.name.clone()).collect(),
                });
            }
        }
        checker.expect(&self.root, Some(result));
        let mut errors = checker.errors;
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.at);
            return Err(errors);
        }
        Ok(Calculation {
            root: self.root,
            slots: slots.into_iter().flatten().collect(),
        })
    }
}

impl Calculation {
    /// The places of a row that it can read, each once.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.place)
    }

    /// Steps that an evaluation takes at most: one for each operator and argument, and [`POWER_OPERATIONS`] for a power.
    ///
    /// [`POWER_OPERATIONS`]: crate::POWER_OPERATIONS
    pub fn operations(&self) -> usize {
        self.root.operations()
    }
}

/// To it, a type is `None` where it cannot be told, as of `null` and of unknown names; that fits everywhere.
struct Checker<'a> {
    slots: &'a [Option<Slot>],
    errors: Vec<CheckError>,
}

impl Checker<'_> {
    fn type_of(&mut self, expression: &Expression) -> Option<Type> {
        match &expression.node {
            Node::Number(_) => Some(Type::Number),
            Node::Text(_) => Some(Type::Text),
            Node::Constant(constant) => constant.value.holds(),
            Node::Name(name) => self.slots.get(*name).copied().flatten().map(|s| s.holds),
            Node::Sign { operand, .. } => self.expect(operand, Some(Type::Number)),
            Node::Arithmetic { first, steps, .. } => {
                let operands = steps.iter().map(|step| &step.operand);
                self.all([first.as_ref()].into_iter().chain(operands), Type::Number);
                Some(Type::Number)
            }
            Node::Comparison(operator, operands) => {
                let compared = self.alike(operands.iter());
                let ordered = !matches!(operator, Comparison::Equal | Comparison::NotEqual);
                if ordered && compared == Some(Type::Boolean) {
                    self.report(expression.at, || Misfit::Type {
                        expected: Type::Number,
                        found: Type::Boolean,
                    });
                }
                Some(Type::Boolean)
            }
            Node::Logic(_, operands) => {
                self.all(operands, Type::Boolean);
                Some(Type::Boolean)
            }
            Node::Choice(choice) => {
                self.expect(&choice.condition, Some(Type::Boolean));
                self.alike([&choice.then, &choice.otherwise])
            }
            Node::Call(function, arguments) => match function {
                Function::IsNull => self.alike(arguments),
                Function::In => {
                    self.alike(arguments);
                    Some(Type::Boolean)
                }
                _ => {
                    self.all(arguments, Type::Number);
                    Some(Type::Number)
                }
            },
        }
    }

    fn all<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expression>, expected: Type) {
        for expression in expressions {
            self.expect(expression, Some(expected));
        }
    }

    /// Expects the type of the first whose type can be told.
    fn alike<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expression>) -> Option<Type> {
        expressions.into_iter().fold(None, |expected, expression| {
            self.expect(expression, expected)
        })
    }

    fn expect(&mut self, expression: &Expression, expected: Option<Type>) -> Option<Type> {
        match (expected, self.type_of(expression)) {
            (Some(expected), Some(found)) if expected != found => {
                self.report(expression.at, || Misfit::Type { expected, found });
                Some(expected)
            }
            (expected, found) => expected.or(found),
        }
    }

    fn report(&mut self, at: usize, reason: impl FnOnce() -> Misfit) {
        if self.errors.len() < ERRORS_MAX {
            let reason = reason();
            self.errors.push(ErrorAt { at, reason });
        }
    }
}
