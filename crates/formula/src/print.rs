//! From a tree to text again.

use crate::expression::{Expression, Formula, Level, Node, Operator};
use std::fmt::{self, Write as _};

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &self.root, Level::Choice)
    }
}

impl Formula {
    /// Writes an expression where at least `least` must stand.
    fn write(&self, f: &mut fmt::Formatter<'_>, of: &Expression, least: Level) -> fmt::Result {
        let level = of.level();
        if level < least {
            f.write_char('(')?;
            self.write(f, of, Level::Choice)?;
            return f.write_char(')');
        }
        match &of.node {
            Node::Number(number) => write!(f, "{number}"),
            Node::Text(text) => write_text(f, text),
            Node::Constant(constant) => f.write_str(constant.name),
            Node::Name(place) => f.write_str(self.names.get(*place).map_or("", |name| &name.text)),
            Node::Sign { minus, operand } => {
                f.write_char(if *minus { '-' } else { '+' })?;
                self.write(f, operand, level.right())
            }
            Node::Arithmetic { first, steps, .. } => {
                self.write(f, first, level.left())?;
                steps.iter().try_for_each(|step| {
                    write!(f, " {} ", Operator::Arithmetic(step.operator).symbol())?;
                    self.write(f, &step.operand, level.right())
                })
            }
            Node::Comparison(operator, operands) => {
                let between = format!(" {} ", Operator::Comparison(*operator).symbol());
                self.write_list(f, operands.as_slice(), &between, level.left())
            }
            Node::Logic(operator, operands) => {
                let between = format!(" {} ", Operator::Logic(*operator).symbol());
                self.write_list(f, operands, &between, level.left())
            }
            Node::Choice(choice) => {
                self.write(f, &choice.condition, level.left())?;
                f.write_str(" ? ")?;
                self.write(f, &choice.then, level.right())?;
                f.write_str(" : ")?;
                self.write(f, &choice.otherwise, level.right())
            }
            Node::Call(function, arguments) => {
                write!(f, "{}(", function.name())?;
                self.write_list(f, arguments, ", ", Level::Choice)?;
                f.write_char(')')
            }
        }
    }

    fn write_list(
        &self,
        f: &mut fmt::Formatter<'_>,
        items: &[Expression],
        between: &str,
        least: Level,
    ) -> fmt::Result {
        items.iter().enumerate().try_for_each(|(place, item)| {
            f.write_str(if place == 0 { "" } else { between })?;
            self.write(f, item, least)
        })
    }
}

impl Expression {
    fn level(&self) -> Level {
        match &self.node {
            Node::Number(_)
            | Node::Text(_)
            | Node::Constant(_)
            | Node::Name(_)
            | Node::Call(..) => Level::Value,
            Node::Sign { .. } => Level::Sign,
            Node::Arithmetic { level, .. } => *level,
            Node::Comparison(..) => Level::Comparison,
            Node::Logic(operator, _) => Operator::Logic(*operator).level(),
            Node::Choice(_) => Level::Choice,
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    f.write_char('"')
}
