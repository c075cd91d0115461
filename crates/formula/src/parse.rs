//! From text to a tree.

use crate::ErrorAt;
use crate::expression::{
    Arithmetic, Choice, Comparison, Constant, Expression, FUNCTIONS, Formula, Function, Level,
    Logic, Name, Node, Operator, Step,
};
use crate::token::{Lexer, Token};
use meterd_model::DecimalError;

/// Most characters of a formula.
pub const LENGTH_MAX: usize = 5000;
/// Most powers of a formula.
pub const POWERS_MAX: usize = 32;
/// Most parts of a formula that may lie inside one another, so that no stack overflows.
pub const DEPTH_MAX: usize = 200;

pub type SyntaxError = ErrorAt<Syntax>;

/// How a text breaks the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    #[error("the calculation is longer than {LENGTH_MAX} characters")]
    TooLong,
    #[error("there are more than {POWERS_MAX} powers")]
    TooManyPowers,
    #[error("parts lie inside one another more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("`{}` has no meaning here", meterd_fault::quote(&.0.to_string()))]
    Character(char),
    #[error("found {found}, but {expected} must stand here")]
    Unexpected {
        found: String,
        expected: &'static str,
    },
    #[error("found {found}; the grammar has `{instead}` for it")]
    Foreign {
        found: String,
        instead: &'static str,
    },
    #[error("`{found}` {problem}")]
    Number {
        found: String,
        problem: DecimalError,
    },
    #[error("the text that begins here has no closing `\"`")]
    TextWithoutEnd,
    #[error("after `\\` only `\"` or `\\` may stand; write `\\\\` for one backslash")]
    Escape,
    #[error("comparisons do not chain; join two of them with `AND`, or put one in parentheses")]
    Chain,
    #[error("there is no function `{found}`; there are {}", functions())]
    UnknownFunction { found: String },
    #[error("`{function}` takes {}, but is given {found}", arguments(*.fewest, *.most))]
    Arguments {
        function: &'static str,
        found: usize,
        fewest: usize,
        most: Option<usize>,
    },
}

fn functions() -> String {
    FUNCTIONS.map(|(name, ..)| format!("`{name}`")).join(", ")
}

fn arguments(fewest: usize, most: Option<usize>) -> String {
    match most {
        Some(1) => "1 argument".to_owned(),
        Some(most) if most == fewest => format!("{most} arguments"),
        Some(most) => format!("{fewest} or {most} arguments"),
        None => format!("{fewest} or more arguments"),
    }
}

impl Formula {
    /// Reads a formula of up to [`LENGTH_MAX`] characters; the error is the first place where it cannot go on.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        if text.chars().nth(LENGTH_MAX).is_some() {
            return Err(ErrorAt {
                at: LENGTH_MAX + 1,
                reason: Syntax::TooLong,
            });
        }
        let mut lexer = Lexer::new(text);
        let mut parser = Parser {
            next: lexer.token(),
            lexer,
            depth: 0,
            powers: 0,
            names: Vec::new(),
        };
        let root = parser.expression(Level::Choice)?;
        parser.expect(&Token::End, "an operator or the end")?;
        Ok(Self {
            root,
            names: parser.names,
        })
    }
}

const VALUE: &str = "a number, a text in double quotes, a name, a function, a sign or `(`";

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The place of the first token that is not yet part of anything, and the token.
    next: (usize, Token),
    depth: usize,
    powers: usize,
    names: Vec<Name>,
}

impl Parser<'_> {
    /// The longest expression whose operators are of level `least` or tighter.
    fn expression(&mut self, least: Level) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.error(Syntax::TooDeep);
        }
        let mut expression = self.operand()?;
        let at = expression.at;
        while let Some(operator) = self.operator().filter(|o| o.level() >= least) {
            let node = match operator {
                Operator::Arithmetic(_) => self.arithmetic(expression, operator.level())?,
                Operator::Comparison(operator) => self.comparison(expression, operator)?,
                Operator::Logic(operator) => self.logic(expression, operator)?,
            };
            expression = Expression { at, node };
        }
        if least == Level::Choice && *self.token() == Token::Symbol("?") {
            let node = self.choice(expression)?;
            expression = Expression { at, node };
        }
        self.depth -= 1;
        Ok(expression)
    }

    /// A value, or an expression with a sign.
    fn operand(&mut self) -> Result<Expression, SyntaxError> {
        let (at, token) = self.take()?;
        let node = match token {
            Token::Number(number) => Node::Number(number),
            Token::Text(text) => Node::Text(text),
            Token::Name(name) if *self.token() == Token::Symbol("(") => self.call(at, &name)?,
            Token::Name(name) => match Constant::find(&name) {
                Some(constant) => Node::Constant(constant),
                None => Node::Name(self.name(at, name)),
            },
            Token::Symbol("(") => {
                let inner = self.expression(Level::Choice)?;
                self.expect(&Token::Symbol(")"), "an operator or `)`")?;
                return Ok(inner);
            }
            Token::Symbol(sign @ ("-" | "+")) => Node::Sign {
                minus: sign == "-",
                operand: Box::new(self.expression(Level::Sign)?),
            },
            found => return unexpected(at, &found, VALUE),
        };
        Ok(Expression { at, node })
    }

    fn arithmetic(&mut self, first: Expression, level: Level) -> Result<Node, SyntaxError> {
        let first = Box::new(first);
        let mut steps = Vec::new();
        while let Some(Operator::Arithmetic(operator)) = self.operator()
            && Operator::Arithmetic(operator).level() == level
        {
            let (at, _) = self.take()?;
            self.count_powers(at, operator == Arithmetic::Power)?;
            let operand = self.expression(level.right())?;
            steps.push(Step {
                operator,
                at,
                operand,
            });
        }
        Ok(Node::Arithmetic {
            level,
            first,
            steps,
        })
    }

    fn logic(&mut self, first: Expression, operator: Logic) -> Result<Node, SyntaxError> {
        let repeated = Operator::Logic(operator);
        let mut operands = vec![first];
        while self.operator() == Some(repeated) {
            self.take()?;
            operands.push(self.expression(repeated.level().right())?);
        }
        Ok(Node::Logic(operator, operands))
    }

    fn comparison(&mut self, left: Expression, operator: Comparison) -> Result<Node, SyntaxError> {
        self.take()?;
        let right = self.expression(Level::Comparison.right())?;
        if let Some(Operator::Comparison(_)) = self.operator() {
            return self.error(Syntax::Chain);
        }
        Ok(Node::Comparison(operator, Box::new([left, right])))
    }

    fn choice(&mut self, condition: Expression) -> Result<Node, SyntaxError> {
        self.take()?;
        let then = self.expression(Level::Choice)?;
        self.expect(&Token::Symbol(":"), "an operator or `:`")?;
        let otherwise = self.expression(Level::Choice)?;
        Ok(Node::Choice(Box::new(Choice {
            condition,
            then,
            otherwise,
        })))
    }

    /// From the parenthesis on.
    fn call(&mut self, at: usize, name: &str) -> Result<Node, SyntaxError> {
        let error = |reason| Err(ErrorAt { at, reason });
        let known = FUNCTIONS.into_iter().find(|(known, ..)| *known == name);
        let Some((name, function, fewest, most)) = known else {
            return error(Syntax::UnknownFunction {
                found: meterd_fault::quote(name),
            });
        };
        self.count_powers(at, function == Function::Power)?;
        let mut arguments = Vec::new();
        while arguments.is_empty() || *self.token() == Token::Symbol(",") {
            self.take()?;
            arguments.push(self.expression(Level::Choice)?);
        }
        self.expect(&Token::Symbol(")"), "an operator, `,` or `)`")?;
        if arguments.len() < fewest || most.is_some_and(|most| arguments.len() > most) {
            return error(Syntax::Arguments {
                function: name,
                found: arguments.len(),
                fewest,
                most,
            });
        }
        Ok(Node::Call(function, arguments))
    }

    fn count_powers(&mut self, at: usize, is_power: bool) -> Result<(), SyntaxError> {
        self.powers += usize::from(is_power);
        if self.powers > POWERS_MAX {
            let reason = Syntax::TooManyPowers;
            return Err(ErrorAt { at, reason });
        }
        Ok(())
    }

    /// The place of a name among the formula's names.
    fn name(&mut self, at: usize, text: String) -> usize {
        let known = self.names.iter().position(|name| name.text == text);
        known.unwrap_or_else(|| {
            self.names.push(Name { text, at });
            self.names.len() - 1
        })
    }

    fn token(&self) -> &Token {
        &self.next.1
    }

    fn operator(&self) -> Option<Operator> {
        match self.token() {
            Token::Symbol(symbol) => Operator::find(symbol),
            _ => None,
        }
    }

    fn take(&mut self) -> Result<(usize, Token), SyntaxError> {
        let (at, token) = std::mem::replace(&mut self.next, self.lexer.token());
        match token {
            Token::Invalid(reason) => Err(ErrorAt { at, reason }),
            token => Ok((at, token)),
        }
    }

    fn expect(&mut self, token: &Token, expected: &'static str) -> Result<(), SyntaxError> {
        let (at, found) = self.take()?;
        if found == *token {
            return Ok(());
        }
        unexpected(at, &found, expected)
    }

    fn error<T>(&self, reason: Syntax) -> Result<T, SyntaxError> {
        let (at, _) = self.next;
        Err(ErrorAt { at, reason })
    }
}

fn unexpected<T>(at: usize, found: &Token, expected: &'static str) -> Result<T, SyntaxError> {
    let reason = match found.instead() {
        Some(instead) => Syntax::Foreign {
            found: found.to_string(),
            instead,
        },
        None => Syntax::Unexpected {
            found: found.to_string(),
            expected,
        },
    };
    Err(ErrorAt { at, reason })
}
