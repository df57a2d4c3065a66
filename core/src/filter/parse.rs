//! From the text of an expression to its tree.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::token::{Token, tokens};
use super::value::{Constant, order};
use super::{Node, Order, Part};

/// A longer text is refused.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// A tree of more levels is refused, and brackets and signs that are deeper in one another. Lists of AND and of OR are one
/// level, however long.
pub const HEIGHT_MAX: usize = 64;

/// The text is no expression.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid message selector: character {character}: {what}")]
pub struct ParseError {
    /// From 1; one past the last when something is missing at the end.
    pub character: usize,
    pub what: &'static str,
}

impl ParseError {
    pub(super) fn at(text: &str, byte: usize, what: &'static str) -> ParseError {
        let before = text.get(..byte).unwrap_or(text);
        ParseError { character: before.chars().count() + 1, what }
    }
}

/// A part of the tree.
struct Built {
    node: Node,
    height: usize,
    /// Byte at which it begins.
    at: usize,
}

type Parsed = Result<Built, ParseError>;

const KEYWORDS: [&str; 12] = [
    "NOT",
    "AND",
    "OR",
    "BETWEEN",
    "IN",
    "TRUE",
    "FALSE",
    "NULL",
    "IS",
    "CONTAINS",
    "STARTSWITH",
    "ENDSWITH",
];

pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError { character: 1, what: "the expression is longer than 65536 bytes" });
    }
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0 };
    let tree = parser.or()?;
    // A line comment that the text ends with; without an end of line its dashes were taken for signs.
    let behind = text.get(parser.at()..).unwrap_or_default();
    if parser.peek().is_some() && !behind.starts_with("--") {
        return Err(parser.error("the expression has ended before this"));
    }
    parser.boolean(tree).map(|tree| tree.node)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    /// Byte at which the next token begins.
    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at)
    }

    fn error(&self, what: &'static str) -> ParseError {
        self.error_at(self.at(), what)
    }

    fn error_at(&self, byte: usize, what: &'static str) -> ParseError {
        ParseError::at(self.text, byte, what)
    }

    fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        let token = self.tokens.get(self.next + ahead);
        matches!(token, Some((_, Token::Word(word))) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_it = self.is_keyword(0, keyword);
        self.next += usize::from(is_it);
        is_it
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Symbol(found)) if found == symbol);
        self.next += usize::from(is_it);
        is_it
    }

    fn build(&self, at: usize, node: Node, below: &[usize]) -> Parsed {
        let height = 1 + below.iter().max().copied().unwrap_or(0);
        if height > HEIGHT_MAX {
            return Err(self.error_at(at, "the expression has more than 64 levels"));
        }
        Ok(Built { node, height, at })
    }

    /// As a truth value.
    fn boolean(&self, built: Built) -> Parsed {
        let Built { node, height, at } = built;
        match node {
            node if node.is_boolean() => Ok(Built { node, height, at }),
            Node::Property(_) => self.build(at, Node::Cast(Box::new(node)), &[height]),
            _ => Err(self.error_at(at, "this does not result in a boolean value")),
        }
    }

    /// Operands with `keyword` between them.
    fn chain(
        &mut self,
        keyword: &str,
        operand: fn(&mut Self) -> Parsed,
        join: fn(Vec<Node>) -> Node,
    ) -> Parsed {
        let first = operand(self)?;
        if !self.is_keyword(0, keyword) {
            return Ok(first);
        }
        let at = first.at;
        let first = self.boolean(first)?;
        let (mut nodes, mut height) = (vec![first.node], first.height);
        while self.take_keyword(keyword) {
            let next = operand(self)?;
            let next = self.boolean(next)?;
            height = height.max(next.height);
            nodes.push(next.node);
        }
        self.build(at, join(nodes), &[height])
    }

    fn or(&mut self) -> Parsed {
        self.chain("OR", Self::and, Node::Or)
    }

    fn and(&mut self) -> Parsed {
        self.chain("AND", Self::equality, Node::And)
    }

    fn equality(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        loop {
            let at = left.at;
            if self.take_symbol("=") {
                left = self.equal(left)?;
            } else if self.take_symbol("<>") {
                let equal = self.equal(left)?;
                left = self.build(at, Node::Not(Box::new(equal.node)), &[equal.height])?;
            } else if self.take_keyword("IS") {
                let not = self.take_keyword("NOT");
                if !self.take_keyword("NULL") {
                    return Err(self.error("expected NULL"));
                }
                let null = Box::new(Node::Constant(Constant::Null));
                left = self.build(at, Node::Equal(Box::new(left.node), null), &[left.height])?;
                if not {
                    left = self.build(at, Node::Not(Box::new(left.node)), &[left.height])?;
                }
            } else {
                return Ok(left);
            }
        }
    }

    fn equal(&mut self, left: Built) -> Parsed {
        let right = self.comparison()?;
        for side in [&left, &right] {
            if side.node == Node::Constant(Constant::Null) {
                return Err(self.error_at(side.at, "NULL cannot be compared: say IS NULL"));
            }
        }
        let is_boolean = |node: &Node| matches!(node, Node::Constant(Constant::Boolean(_)));
        let is_other = |node: &Node| matches!(node, Node::Constant(_)) && !is_boolean(node);
        if is_boolean(&left.node) && is_other(&right.node) {
            return Err(self.error_at(right.at, "a boolean cannot be compared with this"));
        }
        let heights = [left.height, right.height];
        self.build(left.at, Node::Equal(Box::new(left.node), Box::new(right.node)), &heights)
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let orders = [
                (">", Order::Greater),
                (">=", Order::GreaterOrEqual),
                ("<", Order::Less),
                ("<=", Order::LessOrEqual),
            ];
            if let Some((_, order)) = orders.into_iter().find(|(symbol, _)| self.take_symbol(symbol)) {
                let right = self.unary()?;
                self.check_ordered(&left)?;
                self.check_ordered(&right)?;
                let (at, heights) = (left.at, [left.height, right.height]);
                let node = Node::Order(order, Box::new(left.node), Box::new(right.node));
                left = self.build(at, node, &heights)?;
                continue;
            }
            let not = self.is_keyword(0, "NOT");
            let ahead = usize::from(not);
            let parts = [
                ("CONTAINS", Part::Contains),
                ("STARTSWITH", Part::StartsWith),
                ("ENDSWITH", Part::EndsWith),
            ];
            if self.is_keyword(ahead, "BETWEEN") {
                self.next += ahead + 1;
                left = self.between(left, not)?;
            } else if self.is_keyword(ahead, "IN") {
                self.next += ahead + 1;
                left = self.list(left, not)?;
            } else if let Some((_, part)) = parts.into_iter().find(|(word, _)| self.is_keyword(ahead, word)) {
                self.next += ahead + 1;
                let search = self.text()?;
                let (at, height) = (left.at, left.height);
                let node = Node::Part { part, value: Box::new(left.node), search, not };
                left = self.build(at, node, &[height])?;
            } else {
                return Ok(left);
            }
        }
    }

    /// What can be greater or less: numbers, and properties that may be some.
    fn check_ordered(&self, built: &Built) -> Result<(), ParseError> {
        let can = match &built.node {
            Node::Constant(constant) => constant.is_number(),
            node => !node.is_boolean(),
        };
        if can { Ok(()) } else { Err(self.error_at(built.at, "this cannot be greater or less")) }
    }

    fn between(&mut self, value: Built, not: bool) -> Parsed {
        let low = self.unary()?;
        if !self.take_keyword("AND") {
            return Err(self.error("expected AND"));
        }
        let high = self.unary()?;
        for side in [&value, &low, &high] {
            self.check_ordered(side)?;
        }
        if let (Node::Constant(least), Node::Constant(most), false) = (&low.node, &high.node, not)
            && order(most.value(), least.value()) == Ok(Ordering::Less)
        {
            return Err(self.error_at(low.at, "the lower bound is above the upper one"));
        }
        let (at, heights) = (value.at, [value.height, low.height, high.height]);
        let boxed = |built: Built| Box::new(built.node);
        let node = Node::Between { value: boxed(value), low: boxed(low), high: boxed(high), not };
        self.build(at, node, &heights)
    }

    fn list(&mut self, left: Built, not: bool) -> Parsed {
        let Node::Property(property) = left.node else {
            return Err(self.error_at(left.at, "expected a property before IN"));
        };
        if !self.take_symbol("(") {
            return Err(self.error("expected ("));
        }
        let mut list = BTreeSet::from([self.text()?]);
        while self.take_symbol(",") {
            list.insert(self.text()?);
        }
        if !self.take_symbol(")") {
            return Err(self.error("expected , or )"));
        }
        self.build(left.at, Node::In { property, list, not }, &[])
    }

    fn text(&mut self) -> Result<String, ParseError> {
        let Some(Token::Text(raw)) = self.peek() else {
            return Err(self.error("expected a text in quotes"));
        };
        self.next += 1;
        Ok(raw.replace("''", "'"))
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > HEIGHT_MAX {
            return Err(self.error("the expression has more than 64 levels"));
        }
        let at = self.at();
        let built = if self.take_symbol("+") {
            self.unary()
        } else if self.take_symbol("-") {
            let built = self.unary()?;
            self.build(at, Node::Negate(Box::new(built.node)), &[built.height])
        } else if self.take_keyword("NOT") {
            let built = self.unary()?;
            let built = self.boolean(built)?;
            self.build(at, Node::Not(Box::new(built.node)), &[built.height])
        } else {
            self.primary()
        };
        self.depth -= 1;
        built
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let nothing = "expected a property, a number, a text in quotes, TRUE, FALSE, NULL or (";
        let token = self.peek().ok_or_else(|| self.error(nothing))?;
        let node = match token {
            Token::Symbol("(") => {
                self.next += 1;
                let built = self.or()?;
                if !self.take_symbol(")") {
                    return Err(self.error("expected )"));
                }
                return Ok(built);
            }
            Token::Symbol(_) => return Err(self.error(nothing)),
            Token::Text(_) => return self.text().and_then(|text| self.constant(at, Constant::Text(text))),
            Token::Integer(digits) => Node::Constant(self.integer(digits)?),
            Token::Decimal(digits) => Node::Constant(self.decimal(digits)?),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Node::Constant(Constant::Boolean(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => {
                Node::Constant(Constant::Boolean(false))
            }
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => Node::Constant(Constant::Null),
            Token::Word(word) if KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => {
                return Err(self.error(nothing));
            }
            Token::Word(word) => Node::Property(word.to_owned()),
        };
        self.next += 1;
        self.build(at, node, &[])
    }

    fn constant(&self, at: usize, constant: Constant) -> Parsed {
        self.build(at, Node::Constant(constant), &[])
    }

    fn integer(&self, digits: &str) -> Result<Constant, ParseError> {
        let digits = digits.trim_end_matches(['l', 'L']);
        let long: i64 = digits.parse().map_err(|_| self.error("the number is above 9223372036854775807"))?;
        Ok(i32::try_from(long).map_or(Constant::Long(long), Constant::Int))
    }

    /// # Source
    /// apache/rocketmq, `ConstantExpression#createFloat`: zero is below the least of these numbers.
    fn decimal(&self, digits: &str) -> Result<Constant, ParseError> {
        let number: f64 = digits.parse().map_err(|_| self.error("this is no number"))?;
        match number {
            _ if number.is_infinite() => Err(self.error("the number is too large")),
            0.0 => Err(self.error("the number is too small; zero is written 0")),
            _ => Ok(Constant::Double(number)),
        }
    }
}
