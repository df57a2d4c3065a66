//! An answer whose fields are JSON from the start: for answers that are given hundreds of thousands of times a second.
//!
//! Invariant: it is sent as the same bytes as a [`super::RemotingCommand`] with the same fields in the same order.

use super::frame;
use bytes::{BufMut, BytesMut};

/// A response with fields and without body, to a request that came with a JSON header.
#[derive(Clone, Debug)]
pub struct JsonAnswer {
    /// How it went: see [`super::codes`].
    pub code: i32,
    /// Why, in words.
    pub remark: Option<String>,
    /// The fields; none of a name twice.
    pub fields: JsonFields,
}

/// Members of a JSON object, without its braces.
#[derive(Clone, Debug, Default)]
pub struct JsonFields(BytesMut);

impl JsonFields {
    /// The fields of `common`, with room for `bytes` more.
    #[must_use]
    pub fn beginning_with(common: &JsonFields, bytes: usize) -> JsonFields {
        let mut text = BytesMut::with_capacity(common.0.len() + bytes);
        text.put_slice(&common.0);
        JsonFields(text)
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        frame::put_json_text(&mut self.0, value);
    }

    /// Adds a number, as a text like every field.
    pub fn int(&mut self, name: &str, value: impl itoa::Integer) {
        self.plain(name, itoa::Buffer::new().format(value));
    }

    /// Adds a text that needs no escapes: digits, hex and the like.
    pub fn plain(&mut self, name: &str, value: &str) {
        debug_assert!(
            value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')),
            "{value}"
        );
        self.name(name);
        self.0.put_u8(b'"');
        self.0.put_slice(value.as_bytes());
        self.0.put_u8(b'"');
    }

    fn name(&mut self, name: &str) {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        let separator: &[u8] = if self.0.is_empty() { b"\"" } else { b",\"" };
        self.0.put_slice(separator);
        self.0.put_slice(name.as_bytes());
        self.0.put_slice(b"\":");
    }

    /// The text of the members.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoting::{FLAG_RESPONSE, RemotingCommand};

    #[test]
    fn it_is_sent_as_the_command_with_its_fields() {
        for fields in
            [&[][..], &[("MSG_REGION", "a \"b\"\u{1}中")], &[("a", "x"), ("queueOffset", "-7"), ("b", "")]]
        {
            let remark = Some(format!("{} \"fields\"", fields.len())).filter(|_| fields.len() > 1);
            let mut command = RemotingCommand::request(3);
            (command.opaque, command.flag, command.remark) = (-42, FLAG_RESPONSE, remark.clone());
            let mut own = JsonFields::default();
            for (name, value) in fields {
                command.ext.set_str(name, value);
                match value.parse::<i64>() {
                    Ok(number) => own.int(name, number),
                    Err(_) => own.text(name, value),
                }
            }
            let (mut expected, mut sent) = (BytesMut::new(), BytesMut::new());
            frame::encode(&command, &mut expected);
            frame::encode_json_answer(-42, &JsonAnswer { code: 3, remark, fields: own }, &mut sent);
            assert_eq!(sent, expected);
        }
    }
}
