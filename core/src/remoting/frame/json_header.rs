//! The JSON header (serialize type 0x00).
//!
//! Every message costs one header of about 300 bytes, so the usual shape is read by a scanner that allocates twice:
//! one copy of the header, in which escapes are decoded in place, and one list of spans. It gives up on anything
//! unusual, and the whole header is then read through [`json::parse`]. Both must read alike what both can read; a
//! property test holds them to it.
//!
//! Tolerated, since real clients send it: field values that are numbers, booleans or null, an unknown or numeric
//! language, numbers in quotes, no `serializeTypeCurrentRPC`, unknown members, an empty remark.

use super::{FIELDS_MAX, FrameError};
use crate::remoting::{
    ExtFields, FLAG_RESPONSE, JsonAnswer, LanguageCode, OUR_VERSION, RemotingCommand,
    ext_fields::{Entries, Span},
    json,
};
use bytes::{BufMut, BytesMut};
use serde_json::Value;

pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    match Scanner::scan(header) {
        Some(command) => Ok(command),
        None => decode_any(header),
    }
}

/// Reads any header that is JSON or nearly.
fn decode_any(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    let Value::Object(members) = json::parse(header)? else {
        return Err(unexpected("header", "an object", &Value::Null));
    };
    let mut command = RemotingCommand::default();
    for (name, value) in &members {
        match name.as_str() {
            "code" => command.code = integer("code", value)?,
            "version" => command.version = integer("version", value)?,
            "opaque" => command.opaque = integer("opaque", value)?,
            "flag" => command.flag = integer("flag", value)?,
            "language" => command.language = language(value),
            "remark" => command.remark = text(value).filter(|remark| !remark.is_empty()),
            "extFields" => command.ext = fields(value)?,
            _ => {}
        }
    }
    Ok(command)
}

fn integer(field: &'static str, value: &Value) -> Result<i32, FrameError> {
    let number = match value {
        Value::Null => Some(0),
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        _ => None,
    };
    number.ok_or_else(|| unexpected(field, "a 32-bit integer", value))
}

fn language(value: &Value) -> LanguageCode {
    match value {
        Value::String(name) => LanguageCode::from_name(name),
        Value::Number(ordinal) => LanguageCode::from_ordinal(ordinal.as_i64().unwrap_or(-1)),
        _ => LanguageCode::OTHER,
    }
}

/// A value as the text that a typed header reads.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn fields(value: &Value) -> Result<ExtFields, FrameError> {
    let members = match value {
        Value::Null => return Ok(ExtFields::default()),
        Value::Object(members) => members,
        _ => return Err(unexpected("extFields", "an object", value)),
    };
    if members.len() > FIELDS_MAX {
        return Err(FrameError::TooManyFields);
    }
    let mut ext = ExtFields::default();
    for (name, value) in members {
        if let Some(value) = text(value) {
            ext.set_str(name, &value);
        }
    }
    Ok(ext)
}

fn unexpected(field: &'static str, expected: &'static str, found: &Value) -> FrameError {
    FrameError::JsonField { field, expected, found: found.to_string().chars().take(64).collect() }
}

/// Reads the usual shape; every method answers None at the first unusual byte.
struct Scanner {
    bytes: Vec<u8>,
    at: usize,
}

/// How many bytes of a text are plain: up to the first quote, backslash or control character. None if there is none.
#[inline]
fn plain_bytes(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Eight bytes at a time: most texts of a header end within the first word.
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let ends = ends_plain(u64::from_le_bytes(*word));
        if ends != 0 {
            return Some(at + ends.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    Some(at + rest.iter().position(|byte| matches!(byte, 0x00..0x20 | b'"' | b'\\'))?)
}

/// The lowest bit that is set marks the lowest byte that ends a plain text; bits above it may be wrong, since a borrow
/// runs upwards from the byte that was found.
#[inline]
fn ends_plain(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

impl Scanner {
    fn scan(header: &[u8]) -> Option<RemotingCommand> {
        let mut scanner = Scanner { bytes: header.to_vec(), at: 0 };
        let mut command = RemotingCommand::default();
        let mut fields = Entries::default();
        let mut remark = None;
        scanner.object(|scanner, name| {
            match scanner.bytes.get(name.range())? {
                b"code" => command.code = scanner.integer()?,
                b"version" => command.version = scanner.integer()?,
                b"opaque" => command.opaque = scanner.integer()?,
                b"flag" => command.flag = scanner.integer()?,
                b"language" => {
                    let name = scanner.string()?;
                    command.language = match scanner.bytes.get(name.range())? {
                        b"JAVA" => LanguageCode::JAVA,
                        other => LanguageCode::from_name(std::str::from_utf8(other).ok()?),
                    };
                }
                b"remark" => remark = Some(scanner.string()?),
                b"serializeTypeCurrentRPC" => {
                    scanner.string()?;
                }
                // Twice the same member: let the careful reader decide.
                b"extFields" if fields.len() == 0 => fields = scanner.fields()?,
                _ => return None,
            }
            Some(())
        })?;
        scanner.skip_space();
        if scanner.at != scanner.bytes.len() {
            return None;
        }
        let text = String::from_utf8(scanner.bytes).ok()?;
        command.remark = match remark {
            Some(span) => Some(text.get(span.range())?.to_owned()).filter(|remark| !remark.is_empty()),
            None => None,
        };
        if fields.len() > 0 {
            command.ext = ExtFields::from_parts(text, fields.into_vec());
        }
        Some(command)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        if self.peek() != Some(byte) {
            self.skip_space();
            if self.peek() != Some(byte) {
                return None;
            }
        }
        self.at += 1;
        Some(())
    }

    fn object(&mut self, mut member: impl FnMut(&mut Self, Span) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = match self.letter_name() {
                Some(name) => name,
                None => {
                    let name = self.string()?;
                    self.take(b':')?;
                    name
                }
            };
            self.skip_space();
            member(self, name)?;
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    /// A name of one letter with its colon, as most fields of a send have; nothing is taken of anything else.
    #[inline]
    fn letter_name(&mut self) -> Option<Span> {
        match self.bytes.get(self.at..)?.first_chunk()? {
            [b'"', b'a'..=b'z', b'"', b':'] => {}
            _ => return None,
        }
        let start = self.at + 1;
        self.at += 4;
        Span::new(start, start + 1)
    }

    fn fields(&mut self) -> Option<Entries> {
        let mut fields = Entries::default();
        self.object(|scanner, name| {
            if fields.len() == FIELDS_MAX {
                return None;
            }
            let value = match scanner.peek()? {
                b'"' => scanner.string()?,
                b't' => scanner.word(b"true")?,
                b'f' => scanner.word(b"false")?,
                _ => scanner.digits()?,
            };
            fields.push(&scanner.bytes, name, value);
            Some(())
        })?;
        Some(fields)
    }

    fn word(&mut self, word: &[u8]) -> Option<Span> {
        let start = self.at;
        if !self.bytes.get(start..)?.starts_with(word) {
            return None;
        }
        self.at += word.len();
        Span::new(start, self.at)
    }

    /// An integer of at most 18 digits in its usual form, which is its own text.
    fn digits(&mut self) -> Option<Span> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let count = self.at - first;
        let zero_leads = self.bytes.get(first) == Some(&b'0') && (count > 1 || negative);
        if count == 0
            || count > 18
            || zero_leads
            || matches!(self.peek(), Some(b'.' | b'e' | b'E' | b'+' | b'-'))
        {
            return None;
        }
        Span::new(start, self.at)
    }

    fn integer(&mut self) -> Option<i32> {
        let digits = self.digits()?;
        let (negative, digits) = match self.bytes.get(digits.range())? {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        // At most 18 digits, so that the sum fits.
        let sum = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        i32::try_from(if negative { -sum } else { sum }).ok()
    }

    /// A text in double quotes; its escapes are decoded in place.
    #[inline]
    fn string(&mut self) -> Option<Span> {
        self.take(b'"')?;
        let start = self.at;
        let rest = self.bytes.get(start..)?;
        let plain = plain_bytes(rest)?;
        self.at = start + plain;
        match rest.get(plain)? {
            b'"' => {
                self.at += 1;
                Span::new(start, start + plain)
            }
            b'\\' => self.string_with_escapes(start),
            _ => None,
        }
    }

    /// The rest of a text from its first escape on. What an escape stands for is never longer than the escape, so the
    /// decoded text is written over the coded one; what remains behind it is blanked to keep the whole valid UTF-8.
    fn string_with_escapes(&mut self, start: usize) -> Option<Span> {
        let mut end = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    let decoded = self.escape()?;
                    if let (Ok(ascii), true) = (u8::try_from(decoded), decoded.is_ascii()) {
                        // Nearly always: the separators of a property string.
                        *self.bytes.get_mut(end)? = ascii;
                        end += 1;
                        continue;
                    }
                    let mut utf8 = [0; 4];
                    let utf8 = decoded.encode_utf8(&mut utf8).as_bytes();
                    self.bytes.get_mut(end..end + utf8.len())?.copy_from_slice(utf8);
                    end += utf8.len();
                }
                0x00..0x20 => return None,
                _ => {
                    let plain = plain_bytes(self.bytes.get(self.at..)?)?;
                    self.bytes.copy_within(self.at..self.at + plain, end);
                    self.at += plain;
                    end += plain;
                }
            }
        }
        self.bytes.get_mut(end..self.at)?.fill(b' ');
        self.at += 1;
        Span::new(start, end)
    }

    fn escape(&mut self) -> Option<char> {
        let kind = *self.bytes.get(self.at + 1)?;
        self.at += 2;
        Some(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits: &[u8; 4] = self.bytes.get(self.at..)?.first_chunk()?;
                let mut unit = 0;
                for digit in digits {
                    unit = unit << 4 | char::from(*digit).to_digit(16)?;
                }
                self.at += 4;
                // A surrogate is none: pairs are rare and left to the careful reader.
                char::from_u32(unit)?
            }
            _ => return None,
        })
    }
}

/// Writes the header as Java does: members sorted, absent ones left out, all field values texts.
pub(super) fn encode(command: &RemotingCommand, head: &mut BytesMut) {
    let mut digits = itoa::Buffer::new();
    head.reserve(160 + 2 * command.ext.text().len());
    head.put_slice(b"{\"code\":");
    head.put_slice(digits.format(command.code).as_bytes());
    if !command.ext.is_empty() {
        head.put_slice(b",\"extFields\":{");
        for (index, (name, value)) in command.ext.iter().enumerate() {
            if index > 0 {
                head.put_u8(b',');
            }
            put_text(head, name);
            head.put_u8(b':');
            put_text(head, value);
        }
        head.put_u8(b'}');
    }
    head.put_slice(b",\"flag\":");
    head.put_slice(digits.format(command.flag).as_bytes());
    head.put_slice(b",\"language\":\"");
    head.put_slice(command.language.name().as_bytes());
    head.put_slice(b"\",\"opaque\":");
    head.put_slice(digits.format(command.opaque).as_bytes());
    if let Some(remark) = &command.remark {
        head.put_slice(b",\"remark\":");
        put_text(head, remark);
    }
    head.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    head.put_slice(digits.format(command.version).as_bytes());
    head.put_u8(b'}');
}

/// As [`encode`] for a response of ours.
pub(super) fn encode_answer(opaque: i32, answer: &JsonAnswer, head: &mut BytesMut) {
    let mut digits = itoa::Buffer::new();
    let fields = answer.fields.as_bytes();
    head.reserve(160 + fields.len());
    head.put_slice(b"{\"code\":");
    head.put_slice(digits.format(answer.code).as_bytes());
    if !fields.is_empty() {
        head.put_slice(b",\"extFields\":{");
        head.put_slice(fields);
        head.put_u8(b'}');
    }
    const _: () = assert!(FLAG_RESPONSE == 1 && OUR_VERSION == 409);
    head.put_slice(b",\"flag\":1,\"language\":\"JAVA\",\"opaque\":");
    head.put_slice(digits.format(opaque).as_bytes());
    if let Some(remark) = &answer.remark {
        head.put_slice(b",\"remark\":");
        put_text(head, remark);
    }
    head.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}");
}

/// A JSON text. Control characters become `\u00XX`: property strings are full of U+0001 and U+0002.
pub(in crate::remoting) fn put_text(head: &mut BytesMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    head.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = plain_bytes(rest) {
        let (plain, special) = rest.split_at(at);
        head.put_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => head.put_slice(&[b'\\', *byte]),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                head.put_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xF)]);
            }
        }
        rest = after;
    }
    head.put_slice(rest);
    head.put_u8(b'"');
}

#[cfg(test)]
mod tests;
