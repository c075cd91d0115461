//! From characters to tokens.

use crate::parse::Syntax;
use meterd_model::Decimal;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Number(Decimal),
    Text(String),
    /// One word or several with points between them.
    Name(String),
    /// An operator or a mark, spelled as in the grammar.
    Symbol(&'static str),
    End,
    /// What is none of these, for the parser to report when nothing before it is wrong.
    Invalid(Syntax),
}

impl Token {
    /// What to write instead of something that is nearly an operator.
    pub(crate) fn instead(&self) -> Option<&'static str> {
        match self {
            Self::Symbol("=") => Some("=="),
            Self::Name(name) if name.eq_ignore_ascii_case("and") => Some("AND"),
            Self::Name(name) if name.eq_ignore_ascii_case("or") => Some("OR"),
            _ => None,
        }
    }
}

/// As an error shows what was found.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Text(text) => write!(f, "the text \"{}\"", meterd_fault::quote(text)),
            Self::Name(name) => write!(f, "`{}`", meterd_fault::quote(name)),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::End => write!(f, "the end"),
            Self::Invalid(reason) => write!(f, "{reason}"),
        }
    }
}

/// The longer ones first, where one begins with another.
const SYMBOLS: [&str; 18] = [
    "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "^", "(", ")", ",", "?", ":", "=",
];

/// Other languages' spellings, with the grammar's own.
const FOREIGN: [(&str, &str); 9] = [
    ("===", "=="),
    ("!==", "!="),
    ("<>", "!="),
    ("**", "^"),
    ("&&", "AND"),
    ("||", "OR"),
    ("'", "\""),
    ("“", "\""),
    ("”", "\""),
];

#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    rest: &'a str,
    /// The place of the first character of `rest`.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, at: 1 }
    }

    /// The next token and its place; [`Token::End`] for ever after the last.
    pub(crate) fn token(&mut self) -> (usize, Token) {
        self.take_while(char::is_whitespace);
        let at = self.at;
        match self.rest.chars().next() {
            None => (at, Token::End),
            Some('"') => self.text(),
            Some(first) if first.is_ascii_digit() => (at, self.number()),
            Some(first) if begins_word(first) => (at, self.name()),
            Some(first) => (at, self.symbol(first)),
        }
    }

    fn symbol(&mut self, first: char) -> Token {
        let begins = |symbol: &str| self.rest.starts_with(symbol);
        if let Some((found, instead)) = FOREIGN.into_iter().find(|(symbol, _)| begins(symbol)) {
            let found = format!("`{found}`");
            return Token::Invalid(Syntax::Foreign { found, instead });
        }
        match SYMBOLS.into_iter().find(|symbol| begins(symbol)) {
            Some(symbol) => {
                self.take(symbol.len());
                Token::Symbol(symbol)
            }
            None => Token::Invalid(Syntax::Character(first)),
        }
    }

    fn name(&mut self) -> Token {
        let whole = self.rest;
        self.take_while(in_word);
        while let Some(word) = self.rest.strip_prefix('.')
            && word.starts_with(begins_word)
        {
            self.take(1);
            self.take_while(in_word);
        }
        let (name, _) = whole.split_at(whole.len() - self.rest.len());
        match name {
            "AND" => Token::Symbol("AND"),
            "OR" => Token::Symbol("OR"),
            _ => Token::Name(name.to_owned()),
        }
    }

    fn number(&mut self) -> Token {
        let digit = |c: char| c.is_ascii_digit();
        let whole = self.rest;
        self.take_while(digit);
        if let Some(fraction) = self.rest.strip_prefix('.')
            && fraction.starts_with(digit)
        {
            self.take(1);
            self.take_while(digit);
        }
        if let Some(exponent) = self.rest.strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(digit) {
                self.take(self.rest.len() - digits.len());
                self.take_while(digit);
            }
        }
        let (number, _) = whole.split_at(whole.len() - self.rest.len());
        Decimal::parse(number.as_bytes()).map_or_else(
            |problem| {
                let found = meterd_fault::quote(number);
                Token::Invalid(Syntax::Number { found, problem })
            },
            Token::Number,
        )
    }

    /// The place is that of the beginning, or of what is wrong with it.
    fn text(&mut self) -> (usize, Token) {
        let begin = self.at;
        self.take(1);
        let mut text = String::new();
        loop {
            let mut rest = self.rest.chars();
            match (rest.next(), rest.next()) {
                (None, _) => return (begin, Token::Invalid(Syntax::TextWithoutEnd)),
                (Some('"'), _) => {
                    self.take(1);
                    return (begin, Token::Text(text));
                }
                (Some('\\'), Some(escaped @ ('"' | '\\'))) => {
                    self.take(2);
                    text.push(escaped);
                }
                (Some('\\'), _) => return (self.at, Token::Invalid(Syntax::Escape)),
                (Some(plain), _) => {
                    self.take(plain.len_utf8());
                    text.push(plain);
                }
            }
        }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) {
        let end = self.rest.find(|c| !belongs(c));
        self.take(end.unwrap_or(self.rest.len()));
    }

    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at += taken.chars().count();
        self.rest = rest;
    }
}

fn begins_word(character: char) -> bool {
    character.is_alphabetic() || matches!(character, '_' | '$')
}

fn in_word(character: char) -> bool {
    begins_word(character) || character.is_ascii_digit()
}
