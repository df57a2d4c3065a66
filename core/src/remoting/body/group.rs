//! Settings of consumer groups.

use super::{DataVersion, json_body, lenient};
use crate::remoting::json::{self, Layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The settings of one consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupConfig {
    /// Only 5.x knows them.
    pub attributes: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient::int")]
    pub broker_id: i64,
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_broadcast_enable: bool,
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_enable: bool,
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_from_min_enable: bool,
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_message_orderly: bool,
    #[serde(deserialize_with = "lenient::int")]
    pub consume_timeout_minute: i32,
    #[serde(deserialize_with = "lenient::text")]
    pub group_name: String,
    /// Kept as it came: its forms differ between versions, and only delivery of retries reads it.
    pub group_retry_policy: Value,
    #[serde(deserialize_with = "lenient::int")]
    pub group_sys_flag: i32,
    #[serde(deserialize_with = "lenient::boolean")]
    pub notify_consumer_ids_changed_enable: bool,
    /// How often a message is tried before it goes to the dead letter queue.
    #[serde(deserialize_with = "lenient::int")]
    pub retry_max_times: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub retry_queue_nums: i32,
    /// What 5.x keeps of the group's subscriptions. Kept as it came, and not read.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub subscription_data_set: Value,
    /// Which broker of the name a slow consumer is sent to.
    #[serde(deserialize_with = "lenient::int")]
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: serde_json::json!({"type": "CUSTOMIZED"}),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: Value::Null,
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// All groups of a broker: the body of GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201) and the file `subscriptionGroup.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupWrapper {
    pub data_version: DataVersion,
    /// By group, by topic: which operations are forbidden, as bits.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

impl SubscriptionGroupWrapper {
    /// The file as Java writes it.
    pub fn to_java_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Tabs)
    }
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupList {
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

/// The answer to UPDATE_AND_GET_GROUP_FORBIDDEN (353).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupForbidden {
    #[serde(deserialize_with = "lenient::text")]
    pub group: String,
    #[serde(deserialize_with = "lenient::boolean")]
    pub readable: bool,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

json_body!(SubscriptionGroupConfig, SubscriptionGroupWrapper, SubscriptionGroupList, GroupForbidden);
