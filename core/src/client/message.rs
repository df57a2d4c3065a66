//! A message before it is sent and after it was received.
//!
//! Bodies over a threshold travel compressed; whoever sends or listens sees them plain.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::message::properties::{self, Properties};
use crate::message::{StoredMessage, sys_flag};
use crate::remoting::body::inflate;

/// Bodies of more bytes are compressed.
pub const COMPRESSED_BODY_BYTES_MIN: usize = 4096;
/// What a body may be, before compression and after decompression.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// A received body may inflate to this: brokers may allow more than we send.
const INFLATED_BYTES_MAX: usize = 64 << 20;
const COMPRESSION_LEVEL: u32 = 5;

/// What a producer sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub topic: String,
    pub body: Bytes,
    pub tags: Option<String>,
    pub keys: Vec<String>,
    /// Further properties. Names of the protocol (`DELAY`, `WAIT`) act as such.
    pub properties: Vec<(String, String)>,
    /// The application's own number.
    pub flag: i32,
}

impl Message {
    #[must_use]
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Message {
        Message { topic: topic.into(), body: body.into(), ..Message::default() }
    }

    #[must_use]
    pub fn with_tags(mut self, tags: impl Into<String>) -> Message {
        self.tags = Some(tags.into());
        self
    }

    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Message {
        self.keys.push(key.into());
        self
    }

    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Message {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// The properties as they are sent; an own UNIQ_KEY is kept.
    pub(super) fn wire_properties(&self, unique_key: &str) -> Properties {
        let mut wire = Properties::default();
        for (name, value) in &self.properties {
            wire.set(name, value.as_str());
        }
        if let Some(tags) = self.tags.as_ref().filter(|tags| !tags.is_empty()) {
            wire.set(properties::TAGS, tags.as_str());
        }
        if !self.keys.is_empty() {
            wire.set(properties::KEYS, self.keys.join(" "));
        }
        if wire.get(properties::WAIT).is_none() {
            wire.set(properties::WAIT, "true");
        }
        if wire.get(properties::UNIQ_KEY).is_none() {
            wire.set(properties::UNIQ_KEY, unique_key);
        }
        wire
    }
}

/// Why a message cannot be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalMessage {
    #[error("the topic is empty")]
    NoTopic,
    #[error("the topic has {bytes} bytes, at most 127 are allowed")]
    TopicTooLong { bytes: usize },
    #[error("the topic {topic:?} has other characters than letters, digits, % | - and _")]
    TopicCharacters { topic: String },
    #[error("the body is empty")]
    NoBody,
    #[error("the body has {bytes} bytes, at most {BODY_BYTES_MAX} are allowed")]
    BodyTooLong { bytes: usize },
    #[error("a property has an empty name or value, or a separator in it: {name:?}")]
    Property { name: String },
    #[error("a batch has no messages")]
    EmptyBatch,
    #[error("a batch has more than one topic")]
    MixedTopics,
    #[error("a delayed message cannot be sent in a batch")]
    DelayedInBatch,
}

pub(super) fn check(message: &Message) -> Result<(), IllegalMessage> {
    let topic = &message.topic;
    if topic.is_empty() {
        return Err(IllegalMessage::NoTopic);
    }
    if topic.len() > 127 {
        return Err(IllegalMessage::TopicTooLong { bytes: topic.len() });
    }
    if !topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%|-_".contains(&byte)) {
        return Err(IllegalMessage::TopicCharacters { topic: topic.clone() });
    }
    if message.body.is_empty() {
        return Err(IllegalMessage::NoBody);
    }
    if message.body.len() > BODY_BYTES_MAX {
        return Err(IllegalMessage::BodyTooLong { bytes: message.body.len() });
    }
    let has_separator = |text: &str| text.contains(['\u{1}', '\u{2}']);
    let named = message.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let keys = message.keys.iter().map(|key| ("KEYS", key.as_str()));
    for (name, value) in named.chain(keys).chain(message.tags.as_deref().map(|tags| ("TAGS", tags))) {
        if name.is_empty() || value.is_empty() || has_separator(name) || has_separator(value) {
            return Err(IllegalMessage::Property { name: name.to_owned() });
        }
    }
    Ok(())
}

/// The body as it travels, and the bits of `sysFlag` that say how.
pub(super) fn compress(body: &Bytes) -> (Bytes, i32) {
    if body.len() <= COMPRESSED_BODY_BYTES_MIN {
        return (body.clone(), 0);
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(COMPRESSION_LEVEL));
    encoder.write_all(body).expect("a Vec takes every byte");
    let packed = encoder.finish().expect("a Vec takes every byte");
    (packed.into(), sys_flag::COMPRESSED | sys_flag::COMPRESSION_ZLIB)
}

/// What a listener gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The record, its body plain, its topic the one that it was sent to. A body that does not decompress is as it was stored:
    /// who cannot read it hands it back, and the messages behind it do not wait.
    pub message: StoredMessage,
    pub broker_name: String,
}

/// Why a received body cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableBody {
    #[error(transparent)]
    Inflate(#[from] crate::remoting::body::BodyError),
    #[error("the body does not decompress by {method}: {reason}")]
    Decompress { method: &'static str, reason: String },
    #[error("the body decompresses to more than {bytes_max} bytes")]
    TooFar { bytes_max: usize },
    #[error("the body is compressed with the unknown method {method:#x}")]
    Method { method: i32 },
}

/// The plain body of a message with these flags, of at most `bytes_max` bytes if it is compressed. Memory grows with what
/// really comes out.
///
/// # Source
/// apache/rocketmq 5.3, `CompressionType`: LZ4 in frames, Zstandard, zlib.
fn plain(body: &Bytes, sys_flag: i32, bytes_max: usize) -> Result<Bytes, UnreadableBody> {
    if sys_flag & sys_flag::COMPRESSED == 0 {
        return Ok(body.clone());
    }
    match sys_flag & sys_flag::COMPRESSION_MASK {
        0 | sys_flag::COMPRESSION_ZLIB => Ok(inflate(body, bytes_max)?.into()),
        sys_flag::COMPRESSION_LZ4 => read_all("LZ4", FrameDecoder::new(&body[..]), bytes_max),
        sys_flag::COMPRESSION_ZSTD => match StreamingDecoder::new(&body[..]) {
            Ok(decoder) => read_all("ZSTD", decoder, bytes_max),
            Err(error) => Err(UnreadableBody::Decompress { method: "ZSTD", reason: error.to_string() }),
        },
        method => Err(UnreadableBody::Method { method }),
    }
}

fn read_all(method: &'static str, decoder: impl Read, bytes_max: usize) -> Result<Bytes, UnreadableBody> {
    let mut plain = Vec::new();
    // One byte more than allowed shows that there is more.
    let limit = bytes_max.saturating_add(1) as u64;
    let read = decoder.take(limit).read_to_end(&mut plain);
    read.map_err(|error| UnreadableBody::Decompress { method, reason: error.to_string() })?;
    if plain.len() > bytes_max {
        return Err(UnreadableBody::TooFar { bytes_max });
    }
    Ok(plain.into())
}

impl Received {
    pub(super) fn new(mut message: StoredMessage, broker_name: &str) -> Result<Received, UnreadableBody> {
        message.body = plain(&message.body, message.sys_flag, INFLATED_BYTES_MAX)?;
        Ok(Received::as_it_is(message, broker_name))
    }

    /// With the body that was stored, whatever its flags say of it.
    pub(super) fn as_it_is(mut message: StoredMessage, broker_name: &str) -> Received {
        if let Some(topic) = properties::find(&message.properties, properties::RETRY_TOPIC)
            && message.topic.starts_with("%RETRY%")
        {
            message.topic = topic.to_owned();
        }
        Received { message, broker_name: broker_name.to_owned() }
    }

    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::find(&self.message.properties, name)
    }

    #[must_use]
    pub fn tags(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    /// The id its sender gave it, or else the one of its place.
    #[must_use]
    pub fn msg_id(&self) -> String {
        self.property(properties::UNIQ_KEY).map_or_else(|| self.message.offset_message_id(), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_over_the_threshold_travels_compressed() {
        let body = Bytes::from(vec![b'x'; COMPRESSED_BODY_BYTES_MIN + 1]);
        let (packed, flag) = compress(&body);
        assert_eq!(flag, 0x301);
        assert!(packed.len() < 100);
        assert_eq!(inflate(&packed, body.len()).expect("zlib"), body);
        assert_eq!(compress(&body.slice(1..)), (body.slice(1..), 0));
    }

    #[test]
    fn bodies_of_every_method_are_read_and_none_without_bound() {
        let body = Bytes::from("hello, hello, hello ".repeat(100));
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&body).expect("a Vec takes every byte");
        let lz4 = lz4.finish().expect("a Vec takes every byte");
        let zstd = ruzstd::encoding::compress_to_vec(&body[..], ruzstd::encoding::CompressionLevel::Fastest);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&body).expect("a Vec takes every byte");
        let zlib = zlib.finish().expect("a Vec takes every byte");
        for (method, packed) in [(0x100, lz4), (0x200, zstd), (0x300, zlib.clone()), (0, zlib)] {
            let (packed, flag) = (Bytes::from(packed), sys_flag::COMPRESSED | method);
            assert_eq!(plain(&packed, flag, body.len()).as_ref(), Ok(&body), "{method:#x}");
            assert!(plain(&packed, flag, body.len() - 1).is_err(), "{method:#x} without bound");
            for cut in 0..packed.len() - 8 {
                let cut = plain(&packed.slice(..cut), flag, body.len());
                assert!(cut.is_err() || cut.is_ok_and(|cut| cut != body), "{method:#x} cut off");
            }
            assert_eq!(plain(&packed, method, 0), Ok(packed), "not compressed");
        }
        let unknown = plain(&body, sys_flag::COMPRESSED | 0x700, 1);
        assert_eq!(unknown, Err(UnreadableBody::Method { method: 0x700 }));
    }

    #[test]
    fn what_the_property_string_cannot_carry_is_refused() {
        let message = Message::new("T", "x");
        assert_eq!(check(&message), Ok(()));
        assert!(check(&message.clone().with_property("a", "b\u{2}c")).is_err());
        assert!(check(&message.clone().with_property("", "b")).is_err());
        assert!(check(&message.with_key("")).is_err());
        assert!(check(&Message::new("a b", "x")).is_err());
        assert!(check(&Message::new("T", "")).is_err());
    }

    #[test]
    fn properties_of_the_protocol_are_added_once() {
        let message = Message::new("T", "x").with_tags("A").with_key("k1").with_key("k2");
        let wire = message.wire_properties("ID");
        assert_eq!(wire.get("KEYS"), Some("k1 k2"));
        assert_eq!(
            (wire.get("TAGS"), wire.get("WAIT"), wire.get("UNIQ_KEY")),
            (Some("A"), Some("true"), Some("ID"))
        );
    }
}
