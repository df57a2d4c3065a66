//! REGISTER_BROKER (103): a broker tells a name server its topics.
//!
//! The body is JSON, or a zlib stream of
//!
//! ```text
//! i32 length, DataVersion as JSON
//! i32 count of topics, each: i32 length, "name readQueues writeQueues perm filterType[ attributes as JSON]"
//! i32 length, filter servers as a JSON array
//! i32 count of mappings, each: i32 length, JSON          from V5_0_0 on
//! ```
//!
//! Integers are big-endian. Order and sysFlag of topics are lost in it.

use super::{BodyError, DataVersion, TopicConfig, TopicConfigSerializeWrapper, TopicFilterType, json_body};
use crate::remoting::{V5_0_0, json};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// Longest registration after inflating.
pub const INFLATED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// First byte of a zlib stream with the usual window.
const ZLIB_FIRST: u8 = 0x78;

/// The ordinal of V3_0_11: before it the body was the topics alone.
const V3_0_11: i32 = 37;

/// The body of a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegisterBrokerBody {
    pub filter_server_list: Vec<String>,
    pub topic_config_serialize_wrapper: TopicConfigSerializeWrapper,
}

json_body!(RegisterBrokerBody);

/// The checksum of a body as it is sent, for the field `bodyCrc32`: CRC-32 (IEEE) with the sign bit cleared.
pub fn body_crc32(bytes: &[u8]) -> i32 {
    i32::try_from(crc32fast::hash(bytes) & 0x7FFF_FFFF).expect("31 bits")
}

impl RegisterBrokerBody {
    /// Reads the body of a sender with this version, compressed or not. An empty body is a registration without topics.
    ///
    /// Whether it is compressed shows in its first byte, which JSON never has; the header's `compressed` is not asked,
    /// since a 5.4.0 broker says "false" there and compresses all the same.
    ///
    /// # Errors
    /// [`BodyError`]: it does not inflate, inflates too far or is malformed.
    pub fn decode(bytes: &[u8], sender_version: i32) -> Result<Self, BodyError> {
        match bytes.first() {
            None => Ok(Self::default()),
            Some(&ZLIB_FIRST) => decode_sections(&inflate(bytes, INFLATED_BYTES_MAX)?, sender_version),
            Some(_) if sender_version < V3_0_11 => Ok(Self {
                topic_config_serialize_wrapper: TopicConfigSerializeWrapper::parse(bytes)?,
                ..Self::default()
            }),
            Some(_) => Self::parse(bytes),
        }
    }

    /// Writes the compressed body of a sender with this version.
    ///
    /// # Panics
    /// Never: a Vec takes every byte.
    pub fn to_compressed(&self, sender_version: i32) -> Vec<u8> {
        let mut sections = Vec::new();
        let wrapper = &self.topic_config_serialize_wrapper;
        put_section(&mut sections, &wrapper.data_version.to_json());
        put_count(&mut sections, wrapper.topic_config_table.len());
        for topic in wrapper.topic_config_table.values() {
            put_section(&mut sections, topic_line(topic, sender_version).as_bytes());
        }
        put_section(&mut sections, &json::to_standard(&self.filter_server_list));
        if sender_version >= V5_0_0 {
            put_count(&mut sections, 0);
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&sections).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte")
    }
}

/// Inflates a zlib stream to at most `bytes_max` bytes. Memory grows with what really comes out.
///
/// # Errors
/// [`BodyError::Deflate`] or [`BodyError::InflatesTooFar`].
pub fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut inflated = Vec::new();
    // One byte more than allowed shows that there is more.
    let limit = bytes_max.saturating_add(1) as u64;
    ZlibDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|error| BodyError::Deflate { reason: error.to_string() })?;
    if inflated.len() > bytes_max {
        return Err(BodyError::InflatesTooFar { bytes_max });
    }
    Ok(inflated)
}

fn decode_sections(mut left: &[u8], sender_version: i32) -> Result<RegisterBrokerBody, BodyError> {
    let mut body = RegisterBrokerBody::default();
    let wrapper = &mut body.topic_config_serialize_wrapper;
    wrapper.data_version = DataVersion::parse(section(&mut left, "data version")?)?;
    for _ in 0..count(&mut left, "topic count")? {
        let topic = parse_topic_line(section(&mut left, "topic")?)?;
        wrapper.topic_config_table.insert(topic.topic_name.clone(), topic);
    }
    let filter_servers = section(&mut left, "filter servers")?;
    body.filter_server_list = super::parse("filter server list", filter_servers)?;
    if sender_version >= V5_0_0 {
        // Mappings of static topics, which we do not serve; read over, so that damage is still noticed.
        for _ in 0..count(&mut left, "mapping count")? {
            section(&mut left, "mapping")?;
        }
    }
    Ok(body)
}

fn topic_line(topic: &TopicConfig, sender_version: i32) -> String {
    let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, .. } = topic;
    let filter_type = topic.topic_filter_type.name();
    let line = format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {filter_type}");
    if sender_version < V5_0_0 {
        // 4.9 refuses any other number of words.
        return line;
    }
    let attributes = json::to_standard(&topic.attributes);
    format!("{line} {}", String::from_utf8_lossy(&attributes))
}

fn parse_topic_line(line: &[u8]) -> Result<TopicConfig, BodyError> {
    let line = String::from_utf8_lossy(line);
    let malformed = || BodyError::TopicLine { found: line.chars().take(64).collect() };
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(malformed);
    let number = |word: &str| word.parse().map_err(|_| malformed());
    let topic = TopicConfig {
        topic_name: word()?.to_owned(),
        read_queue_nums: number(word()?)?,
        write_queue_nums: number(word()?)?,
        perm: number(word()?)?,
        topic_filter_type: match word()? {
            "MULTI_TAG" => TopicFilterType::MultiTag,
            _ => TopicFilterType::SingleTag,
        },
        ..TopicConfig::default()
    };
    match words.next() {
        None | Some("") => Ok(topic),
        Some(attributes) => {
            let attributes = super::parse("topic attributes", attributes.as_bytes())?;
            Ok(TopicConfig { attributes, ..topic })
        }
    }
}

fn put_section(sections: &mut Vec<u8>, bytes: &[u8]) {
    put_count(sections, bytes.len());
    sections.extend_from_slice(bytes);
}

fn put_count(sections: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).expect("our own topics, far below 2 GiB");
    sections.extend_from_slice(&count.to_be_bytes());
}

fn count(left: &mut &[u8], part: &'static str) -> Result<usize, BodyError> {
    let Some((word, rest)) = left.split_first_chunk() else {
        return Err(BodyError::Part { part, claimed: 4, left: left.len() });
    };
    *left = rest;
    let claimed = i32::from_be_bytes(*word);
    // Each item has at least its length word, so more than this is a lie.
    match usize::try_from(claimed) {
        Ok(count) if count <= left.len() => Ok(count),
        _ => Err(BodyError::Part { part, claimed: i64::from(claimed), left: left.len() }),
    }
}

fn section<'a>(left: &mut &'a [u8], part: &'static str) -> Result<&'a [u8], BodyError> {
    let length = count(left, part)?;
    let Some((bytes, rest)) = left.split_at_checked(length) else {
        return Err(BodyError::Part { part, claimed: length as i64, left: left.len() });
    };
    *left = rest;
    Ok(bytes)
}
