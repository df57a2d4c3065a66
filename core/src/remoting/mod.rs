//! RocketMQ's remoting protocol: one [`RemotingCommand`] is one frame on a connection.
//!
//! A command is a request, a response ([`FLAG_RESPONSE`]) or a request that wants no answer ([`FLAG_ONEWAY`]). Both
//! sides of a connection send requests; `opaque` pairs a response with its request, and each side counts its own, so a
//! response is looked up only among the requests its reader has sent.
//!
//! Left to others: `frame` turns bytes into commands and back, `headers` reads and writes the typed extFields, `body`
//! the JSON bodies, `connection` and `peer` move the bytes.
//!
//! Invariant: what a peer sent is kept as text until a typed header asks for it, so a strange field harms only its own
//! request.

pub mod body;
pub mod body_chunks;
pub mod codes;
pub mod connection;
pub mod ext_fields;
pub mod frame;
pub mod headers;
pub mod json;
pub mod json_answer;
pub mod language;
pub mod peer;
pub mod server;
pub mod suite;

pub use body_chunks::Body;
pub use ext_fields::ExtFields;
pub use headers::{HeaderError, TypedHeader};
pub use json_answer::{JsonAnswer, JsonFields};
pub use language::LanguageCode;

/// Set in `flag` of a response.
pub const FLAG_RESPONSE: i32 = 0x1;
/// Set in `flag` of a request that is not answered.
pub const FLAG_ONEWAY: i32 = 0x2;

/// The version we report: the ordinal of V4_9_8.
///
/// Clients compare it: from V4_9_4 (401) on they may expect standard JSON routes and SQL92 filters; from V5_0_0 (413) on also
/// requests we do not serve.
pub const OUR_VERSION: i32 = 409;

/// The version that V5_0_0 reports. Some requests of callers from there on mean something else.
pub const V5_0_0: i32 = 413;

/// How a header is written; the upper byte of a frame's header word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SerializeType {
    /// A JSON object.
    #[default]
    Json = 0,
    /// The binary form of `frame`.
    RocketMq = 1,
}

/// One frame: a request or a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemotingCommand {
    /// What is asked, or how it went: see [`codes`].
    pub code: i32,
    /// The sender's language.
    pub language: LanguageCode,
    /// The sender's version as the ordinal of Java's `MQVersion`.
    pub version: i32,
    /// Pairs a response with its request; chosen by the side that asks.
    pub opaque: i32,
    /// [`FLAG_RESPONSE`] and [`FLAG_ONEWAY`].
    pub flag: i32,
    /// Text for people, mostly the reason of a failure. An empty remark reads as none, as in the binary form.
    pub remark: Option<String>,
    /// The fields of the typed header.
    pub ext: ExtFields,
    /// What follows the header.
    pub body: Body,
    /// How the header came, or is to be sent.
    pub serialize_type: SerializeType,
}

impl RemotingCommand {
    /// A request of ours. Whoever sends it chooses `opaque`.
    pub fn request(code: i32) -> Self {
        Self { code, language: LanguageCode::JAVA, version: OUR_VERSION, ..Self::default() }
    }

    /// The answer to `request`, with its `opaque` and in its serialization.
    pub fn response_to(request: &RemotingCommand, code: i32) -> Self {
        Self {
            code,
            language: LanguageCode::JAVA,
            version: OUR_VERSION,
            opaque: request.opaque,
            flag: FLAG_RESPONSE,
            serialize_type: request.serialize_type,
            ..Self::default()
        }
    }

    /// The same command with a remark.
    #[must_use]
    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    /// The same command with the fields of `header` added.
    #[must_use]
    pub fn with_header(mut self, header: &impl TypedHeader) -> Self {
        header.encode(&mut self.ext);
        self
    }

    /// The same command with a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether this answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether this is a request that must not be answered.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The typed header.
    ///
    /// # Errors
    /// [`HeaderError`]: a required field is missing or a field does not parse. A server answers SYSTEM_ERROR with its
    /// text as the remark.
    pub fn header<H: TypedHeader>(&self) -> Result<H, HeaderError> {
        H::decode(&self.ext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_answers_in_the_callers_serialization() {
        let mut request = RemotingCommand::request(codes::request::GET_MAX_OFFSET);
        request.opaque = -7;
        request.serialize_type = SerializeType::RocketMq;
        let response = RemotingCommand::response_to(&request, codes::response::SUCCESS);
        assert_eq!(response.opaque, -7);
        assert_eq!(response.serialize_type, SerializeType::RocketMq);
        assert!(response.is_response());
        assert!(!response.is_oneway());
        assert!(!request.is_response());
    }
}
