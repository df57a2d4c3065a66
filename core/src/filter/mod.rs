//! SQL92 filters: which messages a consumer wants, by their properties.
//!
//! ```text
//! or         = and { OR and }
//! and        = equality { AND equality }
//! equality   = comparison { (= | <>) comparison | IS [NOT] NULL }
//! comparison = unary { (> | >= | < | <=) unary | [NOT] BETWEEN unary AND unary | [NOT] IN ( text {, text} )
//!                    | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text }
//! unary      = (+ | - | NOT) unary | primary
//! primary    = text | integer | decimal | TRUE | FALSE | NULL | property | ( or )
//! ```
//!
//! Keywords are read in any case, property names as they are written. A text stands in `'`, with `''` for one. Properties are
//! texts; a missing one is NULL. Logic has three values; a message is wanted only if the whole is TRUE. Values that cannot be
//! compared end the evaluation: the message is not wanted, whatever the rest would say.
//!
//! Invariant: a text of any bytes is read in one pass and refused at a named character, or becomes a tree of at most
//! [`HEIGHT_MAX`] levels; nothing here recurses deeper than that.
//!
//! # Source
//! apache/rocketmq, `SelectorParser.jj` and package `filter.expression`; `tests/golden/known-answers/sql92.json` holds what
//! 5.4.0 answers. Stricter here: text behind a whole expression is refused, where Java leaves it out without a word.

mod bloom;
mod evaluate;
mod parse;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use bloom::BloomFilter;
pub use parse::{HEIGHT_MAX, ParseError, TEXT_BYTES_MAX};
pub use value::NotComparable;

use std::collections::BTreeSet;

use value::Constant;

/// The expression type of these filters, in subscriptions and pulls.
pub const SQL92: &str = "SQL92";

/// A compiled expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expression(Node);

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`ParseError`]: answered SUBSCRIPTION_PARSE_FAILED.
    pub fn parse(text: &str) -> Result<Expression, ParseError> {
        parse::parse(text).map(Expression)
    }

    /// What it says of a message with these properties: `None` is unknown.
    ///
    /// # Errors
    /// [`NotComparable`]: the message is not wanted.
    pub fn evaluate<'p>(
        &self,
        property: impl Fn(&str) -> Option<&'p str>,
    ) -> Result<Option<bool>, NotComparable> {
        evaluate::truth(&self.0, &property)
    }

    /// Whether a message with these properties is wanted.
    pub fn matches<'p>(&self, property: impl Fn(&str) -> Option<&'p str>) -> bool {
        self.evaluate(property) == Ok(Some(true))
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Node {
    Constant(Constant),
    Property(String),
    Negate(Box<Node>),
    Not(Box<Node>),
    /// A property where a truth value is expected: properties are texts, so it is false, or unknown if it is missing.
    Cast(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Equal(Box<Node>, Box<Node>),
    Order(Order, Box<Node>, Box<Node>),
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        not: bool,
    },
    In {
        property: String,
        list: BTreeSet<String>,
        not: bool,
    },
    Part {
        part: Part,
        value: Box<Node>,
        search: String,
        not: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Where a text is looked for in another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Contains,
    StartsWith,
    EndsWith,
}

impl Node {
    /// Whether its value is a truth value or NULL.
    fn is_boolean(&self) -> bool {
        match self {
            Node::Constant(constant) => matches!(constant, Constant::Null | Constant::Boolean(_)),
            Node::Property(_) | Node::Negate(_) => false,
            Node::Not(_)
            | Node::Cast(_)
            | Node::And(_)
            | Node::Or(_)
            | Node::Equal(..)
            | Node::Order(..)
            | Node::Between { .. }
            | Node::In { .. }
            | Node::Part { .. } => true,
        }
    }
}
