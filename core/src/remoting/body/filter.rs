//! SQL filters of consumer groups: the file `consumerFilter.json`.

use super::{BodyError, lenient};
use crate::remoting::json::{self, Layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerFilterWrapper {
    pub filter_data_by_topic: BTreeMap<String, FilterDataByTopic>,
}

/// The filters of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterDataByTopic {
    /// By group.
    pub group_filter_data: BTreeMap<String, ConsumerFilterData>,
    pub topic: String,
}

/// One group's filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerFilterData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bloom_filter_data: Option<BloomFilterData>,
    /// When it was registered, in ms since 1970.
    #[serde(deserialize_with = "lenient::int")]
    pub born_time: i64,
    /// The version of the subscription.
    #[serde(deserialize_with = "lenient::int")]
    pub client_version: i64,
    #[serde(deserialize_with = "lenient::text")]
    pub consumer_group: String,
    /// When the group was last seen to be gone, in ms since 1970; 0 while it is there.
    #[serde(deserialize_with = "lenient::int")]
    pub dead_time: i64,
    #[serde(deserialize_with = "lenient::text")]
    pub expression: String,
    #[serde(deserialize_with = "lenient::text")]
    pub expression_type: String,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

/// The bits of a group in messages' bit maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BloomFilterData {
    pub bit_num: i32,
    pub bit_pos: Vec<i32>,
}

impl ConsumerFilterWrapper {
    /// Reads the file.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        super::parse("ConsumerFilterWrapper", bytes)
    }

    /// The file as Java writes it.
    pub fn to_java_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Tabs)
    }
}
