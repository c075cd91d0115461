//! What a formula says, as a tree.

use crate::evaluate::Value;
use meterd_model::Decimal;

/// What a power counts as: it may take as many multiplications.
pub const POWER_OPERATIONS: usize = 100;

/// A formula whose grammar is right; whether its names exist and its types agree is for [`Formula::check`].
///
/// Its text is the formula in one spelling, with no more parentheses than it needs.
#[derive(Clone, Debug)]
pub struct Formula {
    pub(crate) root: Expression,
    pub(crate) names: Vec<Name>,
}

impl Formula {
    /// Every name once, in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.text.as_str())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    /// Where it comes first.
    pub(crate) at: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// Where it begins.
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// A row of operators of one level, such as `a + b - c`, is one node, so that the depth of a tree is that of its
/// parentheses and not that of its length.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Number(Decimal),
    Text(String),
    Constant(Constant),
    /// Place in [`Formula::names`].
    Name(usize),
    Sign {
        minus: bool,
        operand: Box<Expression>,
    },
    Arithmetic {
        level: Level,
        first: Box<Expression>,
        steps: Vec<Step>,
    },
    Comparison(Comparison, Box<[Expression; 2]>),
    Logic(Logic, Vec<Expression>),
    Choice(Box<Choice>),
    Call(Function, Vec<Expression>),
}

impl Expression {
    /// See [`Calculation::operations`](crate::Calculation::operations).
    pub(crate) fn operations(&self) -> usize {
        let all = |expressions: &[Self]| expressions.iter().map(Self::operations).sum::<usize>();
        match &self.node {
            Node::Number(_) | Node::Text(_) | Node::Constant(_) | Node::Name(_) => 0,
            Node::Sign { operand, .. } => 1 + operand.operations(),
            Node::Arithmetic { first, steps, .. } => {
                let steps = steps.iter().map(|step| {
                    let own = match step.operator {
                        Arithmetic::Power => POWER_OPERATIONS,
                        _ => 1,
                    };
                    own + step.operand.operations()
                });
                first.operations() + steps.sum::<usize>()
            }
            Node::Comparison(_, operands) => 1 + all(operands.as_slice()),
            Node::Logic(_, operands) => operands.len() + all(operands),
            Node::Choice(choice) => {
                let Choice {
                    condition,
                    then,
                    otherwise,
                } = choice.as_ref();
                1 + condition.operations() + then.operations() + otherwise.operations()
            }
            Node::Call(Function::Power, arguments) => POWER_OPERATIONS + all(arguments),
            Node::Call(_, arguments) => arguments.len() + all(arguments),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) operator: Arithmetic,
    pub(crate) at: usize,
    pub(crate) operand: Expression,
}

#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) condition: Expression,
    pub(crate) then: Expression,
    pub(crate) otherwise: Expression,
}

/// What binds tighter comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Choice,
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Sign,
    Power,
    Value,
}

impl Level {
    /// What may stand on the left of an operator of this level without parentheses.
    pub(crate) fn left(self) -> Self {
        match self {
            Self::Choice => Self::Or,
            Self::Or => Self::And,
            Self::And => Self::Comparison,
            Self::Comparison => Self::Sum,
            Self::Sum => Self::Product,
            Self::Product | Self::Sign => Self::Sign,
            Self::Power | Self::Value => Self::Value,
        }
    }

    /// What may stand on its right.
    pub(crate) fn right(self) -> Self {
        match self {
            Self::Choice => Self::Choice,
            Self::Power => Self::Sign,
            _ => self.left(),
        }
    }
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Logic(Logic),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
}

const OPERATORS: [(&str, Operator); 14] = [
    ("+", Operator::Arithmetic(Arithmetic::Add)),
    ("-", Operator::Arithmetic(Arithmetic::Subtract)),
    ("*", Operator::Arithmetic(Arithmetic::Multiply)),
    ("/", Operator::Arithmetic(Arithmetic::Divide)),
    ("%", Operator::Arithmetic(Arithmetic::Remainder)),
    ("^", Operator::Arithmetic(Arithmetic::Power)),
    ("==", Operator::Comparison(Comparison::Equal)),
    ("!=", Operator::Comparison(Comparison::NotEqual)),
    ("<", Operator::Comparison(Comparison::Less)),
    ("<=", Operator::Comparison(Comparison::LessOrEqual)),
    (">", Operator::Comparison(Comparison::Greater)),
    (">=", Operator::Comparison(Comparison::GreaterOrEqual)),
    ("AND", Operator::Logic(Logic::And)),
    ("OR", Operator::Logic(Logic::Or)),
];

impl Operator {
    pub(crate) fn find(symbol: &str) -> Option<Self> {
        let found = OPERATORS.into_iter().find(|(known, _)| *known == symbol);
        found.map(|(_, operator)| operator)
    }

    pub(crate) fn symbol(self) -> &'static str {
        let found = OPERATORS.into_iter().find(|(_, known)| *known == self);
        found.map_or("", |(symbol, _)| symbol)
    }

    pub(crate) fn level(self) -> Level {
        match self {
            Self::Arithmetic(Arithmetic::Add | Arithmetic::Subtract) => Level::Sum,
            Self::Arithmetic(Arithmetic::Power) => Level::Power,
            Self::Arithmetic(_) => Level::Product,
            Self::Comparison(_) => Level::Comparison,
            Self::Logic(Logic::And) => Level::And,
            Self::Logic(Logic::Or) => Level::Or,
        }
    }
}

/// To the 18th digit after the point.
const PI: Decimal = match Decimal::from_units(3_141_592_653_589_793_238) {
    Some(pi) => pi,
    None => Decimal::ZERO,
};

const CONSTANTS: [(&str, Value<'static>); 5] = [
    ("null", Value::Null),
    ("true", Value::Boolean(true)),
    ("false", Value::Boolean(false)),
    ("Math.PI", Value::Number(PI)),
    ("DateTime.TS_FMT", Value::Text("yyyy-MM-dd'T'HH:mm:ss.SSSX")),
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Constant {
    pub(crate) name: &'static str,
    pub(crate) value: Value<'static>,
}

impl Constant {
    pub(crate) fn find(name: &str) -> Option<Self> {
        let found = CONSTANTS.into_iter().find(|(known, _)| *known == name);
        found.map(|(name, value)| Self { name, value })
    }
}

/// With the fewest and most arguments of each.
pub(crate) const FUNCTIONS: [(&str, Function, usize, Option<usize>); 9] = [
    ("Math.max", Function::Max, 2, None),
    ("Math.min", Function::Min, 2, None),
    ("Math.floor", Function::Floor, 1, Some(2)),
    ("Math.ceil", Function::Ceiling, 1, Some(2)),
    ("Math.round", Function::Round, 1, Some(2)),
    ("Math.pow", Function::Power, 2, Some(2)),
    ("Math.abs", Function::Absolute, 1, Some(1)),
    ("isnull", Function::IsNull, 2, Some(2)),
    ("IN", Function::In, 2, None),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Max,
    Min,
    Floor,
    Ceiling,
    Round,
    Power,
    Absolute,
    IsNull,
    In,
}

impl Function {
    pub(crate) fn name(self) -> &'static str {
        let found = FUNCTIONS.into_iter().find(|(_, known, ..)| *known == self);
        found.map_or("", |(name, ..)| name)
    }
}
