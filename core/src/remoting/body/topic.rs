//! Topic settings and their version.

use super::{json_body, json_enum, lenient, queue::queue_map_json};
use crate::remoting::json::{self, Layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::MessageQueue;

/// Topic and queue may be read.
pub const PERM_READ: i32 = 0x4;
/// Topic and queue may be written.
pub const PERM_WRITE: i32 = 0x2;
/// New topics may take over this one's settings.
pub const PERM_INHERIT: i32 = 0x1;

json_enum! {
    /// How many tags a message of a topic may have.
    pub enum TopicFilterType {
        /// One.
        #[default]
        SingleTag = "SINGLE_TAG",
        /// Several.
        MultiTag = "MULTI_TAG",
    }
}

/// Which state of a table somebody has. Two are the same version only if all members are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataVersion {
    /// Counts changes.
    #[serde(deserialize_with = "lenient::int")]
    pub counter: i64,
    /// The epoch of a master in controller mode, 0 without; 4.9 does not know it.
    #[serde(deserialize_with = "lenient::int")]
    pub state_version: i64,
    /// When it changed last, in ms since 1970.
    #[serde(deserialize_with = "lenient::int")]
    pub timestamp: i64,
}

impl DataVersion {
    /// The version after one more change at `now_ms`.
    #[must_use]
    pub fn next(&self, now_ms: i64) -> Self {
        Self { counter: self.counter.wrapping_add(1), state_version: self.state_version, timestamp: now_ms }
    }
}

/// The settings of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    /// Only 5.x knows them.
    pub attributes: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient::boolean")]
    pub order: bool,
    /// [`PERM_READ`] and so on.
    #[serde(deserialize_with = "lenient::int")]
    pub perm: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub read_queue_nums: i32,
    pub topic_filter_type: TopicFilterType,
    #[serde(deserialize_with = "lenient::text")]
    pub topic_name: String,
    /// 0x1 unit, 0x2 unit subscription.
    #[serde(deserialize_with = "lenient::int")]
    pub topic_sys_flag: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: PERM_READ | PERM_WRITE,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

/// All topics of a broker: the body of GET_ALL_TOPIC_CONFIG (21) and the file `topics.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigSerializeWrapper {
    pub data_version: DataVersion,
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

impl TopicConfigSerializeWrapper {
    /// The file as Java writes it.
    pub fn to_java_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Tabs)
    }
}

/// UPDATE_AND_CREATE_TOPIC_LIST (18).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigList {
    pub topic_config_list: Vec<TopicConfig>,
}

json_body!(DataVersion, TopicConfig, TopicConfigSerializeWrapper, TopicConfigList);

/// The ends of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicOffset {
    /// When its last message was stored, in ms since 1970; 0 without one.
    #[serde(deserialize_with = "lenient::int")]
    pub last_update_timestamp: i64,
    /// The next queue offset to be written.
    #[serde(deserialize_with = "lenient::int")]
    pub max_offset: i64,
    /// The first queue offset that can be read.
    #[serde(deserialize_with = "lenient::int")]
    pub min_offset: i64,
}

/// The answer to GET_TOPIC_STATS_INFO (202).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicStatsTable {
    #[serde(deserialize_with = "super::queue::queue_map")]
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    /// Messages per second; 4.9 does not know it, `None` where nobody counts them.
    pub topic_put_tps: Option<f64>,
}

impl TopicStatsTable {
    /// Reads the body.
    ///
    /// # Errors
    /// [`super::BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, super::BodyError> {
        super::parse("TopicStatsTable", bytes)
    }

    /// Writes the body, compact, with objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = br#"{"offsetTable":"#.to_vec();
        queue_map_json(&mut text, &self.offset_table);
        if let Some(tps) = self.topic_put_tps {
            text.extend_from_slice(br#","topicPutTps":"#);
            text.extend_from_slice(&json::to_standard(&tps));
        }
        text.push(b'}');
        text
    }
}
