//! The words of an expression.

use super::parse::ParseError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    /// A keyword or the name of a property.
    Word(&'a str),
    /// With its `L`, if it has one.
    Integer(&'a str),
    Decimal(&'a str),
    /// Without the quotes around it; `''` still stands for one.
    Text(&'a str),
    Symbol(&'static str),
}

/// Longer ones before those that they begin with.
const SYMBOLS: [&str; 10] = ["<>", ">=", "<=", "=", ">", "<", "(", ")", ",", "+"];

/// Cuts a text into tokens, each with the byte at which it begins.
///
/// # Errors
/// [`ParseError`] at the first character that begins none.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(bytes) = blank(rest) {
            at += bytes;
            continue;
        }
        let Some((token, bytes)) = token(rest) else {
            let what = match rest {
                _ if rest.starts_with('\'') => "a text that does not end",
                _ if rest.starts_with("/*") => "a comment that does not end",
                _ => "this is no part of an expression",
            };
            return Err(ParseError::at(text, at, what));
        };
        tokens.push((at, token));
        at += bytes;
    }
    Ok(tokens)
}

/// Bytes of a blank or a comment. A line comment needs an end of line, else its dashes are signs.
fn blank(rest: &str) -> Option<usize> {
    let first = *rest.as_bytes().first()?;
    if b" \t\n\r\x0c".contains(&first) {
        return Some(1);
    }
    if rest.starts_with("--") {
        return rest.find(['\n', '\r']).map(|end| end + 1);
    }
    rest.strip_prefix("/*")?.find("*/").map(|end| end + 4)
}

fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    let first = *rest.as_bytes().first()?;
    if first == b'\'' {
        let bytes = text(rest)?;
        return Some((Token::Text(rest.get(1..bytes - 1)?), bytes));
    }
    if first.is_ascii_digit() || (first == b'.' && digits(rest.get(1..)?) > 0) {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || b"_$".contains(&first) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let bytes = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        return Some((Token::Word(rest.get(..bytes)?), bytes));
    }
    if first == b'-' {
        return Some((Token::Symbol("-"), 1));
    }
    let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol))?;
    Some((Token::Symbol(symbol), symbol.len()))
}

/// Bytes of a text with its quotes.
fn text(rest: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += rest.get(at..)?.find('\'')? + 1;
        if !rest.get(at..)?.starts_with('\'') {
            return Some(at);
        }
        at += 1;
    }
}

/// How many digits it begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// As much as makes a number: in `5Ex` that is `5`, in `007` the first zero.
fn number(rest: &str) -> Option<(Token<'_>, usize)> {
    let whole = digits(rest);
    let mut bytes = whole;
    let mut is_decimal = false;
    if rest.get(bytes..)?.starts_with('.') {
        is_decimal = true;
        bytes += 1;
        bytes += digits(rest.get(bytes..)?);
    }
    let exponent = rest.get(bytes..)?;
    if let Some(unsigned) = exponent.strip_prefix(['e', 'E']) {
        let sign = usize::from(unsigned.starts_with(['+', '-']));
        let count = digits(unsigned.get(sign..)?);
        if count > 0 {
            is_decimal = true;
            bytes += 1 + sign + count;
        }
    }
    if is_decimal {
        return Some((Token::Decimal(rest.get(..bytes)?), bytes));
    }
    if rest.starts_with('0') {
        return Some((Token::Integer(rest.get(..1)?), 1));
    }
    bytes += usize::from(rest.get(bytes..)?.starts_with(['l', 'L']));
    Some((Token::Integer(rest.get(..bytes)?), bytes))
}
