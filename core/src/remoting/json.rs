//! The JSON that Java peers speak: fastjson's dialect.
//!
//! [`parse`] accepts all of JSON and what fastjson adds to it: keys without quotes, keys that are objects (they become
//! their own compact JSON text), single quotes, trailing commas, raw control characters, a few more escapes, lone
//! surrogates and bytes that are not UTF-8 (both become U+FFFD). What standard JSON accepts it reads as `serde_json`
//! does, with one more limit: depth and number of values are bounded, so that a body costs memory in proportion to its
//! size and no recursion runs away.
//!
//! [`to_java`] writes what Java writes to its own files: integer keys without quotes, tabs.

use serde::Serialize;
use serde_json::{Map, Number, Value, ser::Formatter};
use std::{borrow::Cow, io};

/// Deepest nesting that is read. Real bodies have five levels.
pub const DEPTH_MAX: usize = 64;

/// Most values that are read: a registration of 100,000 topics has about a million.
pub const VALUES_MAX: usize = 1 << 21;

/// Why a text is not JSON. `at` counts bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSON, at byte {at}: {problem}")]
pub struct JsonError {
    /// Where it went wrong.
    pub at: usize,
    /// What went wrong.
    pub problem: JsonProblem,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// The text ends inside a value.
    #[error("the text ends inside a value")]
    Ends,
    /// Something else was expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A number that no number type holds.
    #[error("not a number")]
    Number,
    /// An escape that is none.
    #[error("not an escape")]
    Escape,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    Depth,
    /// More values than [`VALUES_MAX`].
    #[error("too many values")]
    Values,
    /// Something follows the value.
    #[error("text after the value")]
    Trailing,
}

/// Reads one value.
///
/// # Errors
/// [`JsonError`]: it is neither JSON nor the dialect, or too deep or too large.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    Reader::read(bytes, false)
}

/// Reads one value; a member that is null is left out, as a peer that writes it means that it is absent.
///
/// # Errors
/// As [`parse`].
pub fn parse_without_nulls(bytes: &[u8]) -> Result<Value, JsonError> {
    Reader::read(bytes, true)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    values: usize,
    drop_nulls: bool,
}

impl<'a> Reader<'a> {
    fn read(bytes: &'a [u8], drop_nulls: bool) -> Result<Value, JsonError> {
        // Java replaces what is not UTF-8; so do we, rather than cutting off a client for one odd byte.
        let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
        let mut reader = Reader { bytes: text.as_bytes(), at: 0, depth: 0, values: 0, drop_nulls };
        let value = reader.value()?;
        reader.skip_space();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err(reader.error(JsonProblem::Trailing)),
        }
    }

    fn error(&self, problem: JsonProblem) -> JsonError {
        JsonError { at: self.at, problem }
    }

    fn expected(&self, what: &'static str) -> JsonError {
        match self.peek() {
            None => self.error(JsonProblem::Ends),
            Some(_) => self.error(JsonProblem::Expected(what)),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.error(JsonProblem::Values));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(quote @ (b'"' | b'\'')) => self.string(quote).map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value, JsonError>,
    ) -> Result<Value, JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(JsonProblem::Depth));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else if word.as_bytes().starts_with(rest) {
            Err(self.error(JsonProblem::Ends))
        } else {
            Err(self.error(JsonProblem::Expected("a value")))
        }
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        let mut members = Map::new();
        loop {
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            let name = self.name()?;
            if !self.take(b':') {
                return Err(self.expected("a colon"));
            }
            let value = self.value()?;
            if !(self.drop_nulls && value.is_null()) {
                members.insert(name, value);
            }
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err(self.expected("a comma or a closing brace"));
            }
        }
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        loop {
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            items.push(self.value()?);
            if !self.take(b',') && self.peek() != Some(b']') {
                return Err(self.expected("a comma or a closing bracket"));
            }
        }
    }

    fn name(&mut self) -> Result<String, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.string(quote),
            // `{{"brokerName":"b","queueId":0,"topic":"T"}:5}`: the members come out sorted, so equal keys are equal texts.
            Some(b'{' | b'[') => self.value().map(|value| value.to_string()),
            _ => self.bare_name(),
        }
    }

    fn bare_name(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'_' | b'$' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'))
        {
            self.at += 1;
        }
        match self.bytes.get(start..self.at).map(std::str::from_utf8) {
            Some(Ok(name)) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(self.expected("a name")),
        }
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let token = self.bytes.get(start..self.at).unwrap_or_default();
        // serde_json decides what a number is and how it is rounded, so that we never read one differently.
        serde_json::from_slice(token).map_err(|_| JsonError { at: start, problem: JsonProblem::Number })
    }

    fn string(&mut self, quote: u8) -> Result<String, JsonError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte != quote && byte != b'\\') {
                self.at += 1;
            }
            // Both ends are ASCII, so the piece between them is whole characters.
            let piece = self.bytes.get(start..self.at).unwrap_or_default();
            text.push_str(std::str::from_utf8(piece).unwrap_or_default());
            match self.peek() {
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    text.push(escaped);
                }
                Some(_) => {
                    self.at += 1;
                    return Ok(text);
                }
                None => return Err(self.error(JsonProblem::Ends)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let kind = self.peek().ok_or(self.error(JsonProblem::Ends))?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\'' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' | b'F' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{b}',
            b'0'..=b'7' => char::from(kind - b'0'),
            b'x' => char::from_u32(self.hex(2)?).unwrap_or(char::REPLACEMENT_CHARACTER),
            b'u' => self.unicode_escape()?,
            _ => return Err(JsonError { at: self.at - 1, problem: JsonProblem::Escape }),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let unit = self.hex(4)?;
        let follows = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u"));
        if (0xD800..0xDC00).contains(&unit) && follows {
            let before = self.at;
            self.at += 2;
            let low = self.hex(4)?;
            if (0xDC00..0xE000).contains(&low) {
                let point = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, digits: usize) -> Result<u32, JsonError> {
        let mut number = 0;
        for _ in 0..digits {
            let digit = match self.peek() {
                None => return Err(self.error(JsonProblem::Ends)),
                Some(byte) => char::from(byte).to_digit(16),
            };
            number = number << 4 | digit.ok_or(self.error(JsonProblem::Escape))?;
            self.at += 1;
        }
        Ok(number)
    }
}

/// How [`to_java`] lays out its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Without any space: bodies.
    Compact,
    /// With line breaks and tabs: files.
    Tabs,
}

/// Writes a value as fastjson does: integer keys have no quotes.
///
/// # Panics
/// If the value cannot be JSON, as when a key is neither a text nor an integer: our own types can.
pub fn to_java<T: Serialize>(value: &T, layout: Layout) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    let formatter = JavaFormatter { layout, indent: 0, has_members: false, key: Key::Outside };
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("our bodies are JSON and a Vec takes every byte");
    text
}

/// Writes a value in compact standard JSON.
///
/// # Panics
/// As [`to_java`].
pub fn to_standard<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our bodies are JSON and a Vec takes every byte")
}

struct JavaFormatter {
    layout: Layout,
    indent: usize,
    has_members: bool,
    key: Key,
}

/// Where in a key we are. serde_json quotes integer keys by the same calls as texts, so a quote waits until it is clear
/// what follows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Outside,
    Begun,
    QuoteHeld,
    Integer,
    Text,
}

impl JavaFormatter {
    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        if self.layout == Layout::Tabs {
            out.write_all(b"\n")?;
            for _ in 0..self.indent {
                out.write_all(b"\t")?;
            }
        }
        Ok(())
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.indent -= 1;
        if self.has_members {
            self.line(out)?;
        }
        out.write_all(bracket)
    }

    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.indent += 1;
        self.has_members = false;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line(out)
    }

    fn integer<W: ?Sized + io::Write>(&mut self, out: &mut W, value: impl itoa::Integer) -> io::Result<()> {
        if self.key == Key::QuoteHeld {
            self.key = Key::Integer;
        }
        out.write_all(itoa::Buffer::new().format(value).as_bytes())
    }
}

impl Formatter for JavaFormatter {
    fn write_i32<W: ?Sized + io::Write>(&mut self, out: &mut W, value: i32) -> io::Result<()> {
        self.integer(out, value)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: i64) -> io::Result<()> {
        self.integer(out, value)
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.key == Key::Begun {
            self.key = Key::QuoteHeld;
            return Ok(());
        }
        out.write_all(b"\"")
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        match self.key {
            Key::Integer => Ok(()),
            // An empty text: nothing was written between its quotes.
            Key::QuoteHeld => out.write_all(b"\"\""),
            _ => out.write_all(b"\""),
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.release_quote(out)?;
        out.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        escape: serde_json::ser::CharEscape,
    ) -> io::Result<()> {
        self.release_quote(out)?;
        serde_json::ser::CompactFormatter.write_char_escape(out, escape)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_members = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.key = Key::Begun;
        self.next(out, first)
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.key = Key::Outside;
        Ok(())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_members = true;
        Ok(())
    }
}

impl JavaFormatter {
    fn release_quote<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.key == Key::QuoteHeld {
            self.key = Key::Text;
            out.write_all(b"\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
