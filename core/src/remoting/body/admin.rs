//! Lists and tables for tools and clients.

use super::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData, json_body, json_enum, lenient};
use crate::remoting::LanguageCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table of texts: runtime information (28), a key-value namespace (219), the order topics of a registration (103).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvTable {
    pub table: BTreeMap<String, String>,
}

/// Topic names: codes 206, 224, 304, 305, 343.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicList {
    #[serde(deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    pub topic_list: Vec<String>,
}

/// Group names (300).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupList {
    pub group_list: Vec<String>,
}

/// The answer to GET_CONSUMER_LIST_BY_GROUP (38).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerList {
    pub consumer_id_list: Vec<String>,
}

/// One client's connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Connection {
    /// `ip:port`.
    pub client_addr: String,
    pub client_id: String,
    pub language: LanguageCode,
    #[serde(deserialize_with = "lenient::int")]
    pub version: i32,
}

/// The answer to GET_CONSUMER_CONNECTION_LIST (203).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerConnection {
    pub connection_set: Vec<Connection>,
    pub consume_from_where: ConsumeFromWhere,
    pub consume_type: ConsumeType,
    pub message_model: MessageModel,
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// The answer to GET_PRODUCER_CONNECTION_LIST (204).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerConnection {
    pub connection_set: Vec<Connection>,
}

/// One producer, inside [`ProducerTableInfo`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerInfo {
    pub client_id: String,
    pub language: LanguageCode,
    #[serde(deserialize_with = "lenient::int")]
    pub last_update_timestamp: i64,
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    #[serde(deserialize_with = "lenient::int")]
    pub version: i32,
}

/// The answer to GET_ALL_PRODUCER_INFO (328), by group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerTableInfo {
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

json_enum! {
    /// How one message consumed on demand went.
    pub enum ConsumeResult {
        /// Consumed.
        #[default]
        Success = "CR_SUCCESS",
        /// To be tried later.
        Later = "CR_LATER",
        /// Rolled back.
        Rollback = "CR_ROLLBACK",
        /// Committed.
        Commit = "CR_COMMIT",
        /// The application threw.
        ThrowException = "CR_THROW_EXCEPTION",
        /// The application returned nothing.
        ReturnNull = "CR_RETURN_NULL",
    }
}

/// The answer to CONSUME_MESSAGE_DIRECTLY (309).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeMessageDirectlyResult {
    #[serde(default = "lenient::yes", deserialize_with = "lenient::boolean")]
    pub auto_commit: bool,
    pub consume_result: ConsumeResult,
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub order: bool,
    #[serde(default, deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    #[serde(default, deserialize_with = "lenient::int")]
    pub spent_time_mills: i64,
}

/// Averages over one window, inside [`BrokerStatsData`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerStatsItem {
    pub avgpt: f64,
    #[serde(deserialize_with = "lenient::int")]
    pub sum: i64,
    pub tps: f64,
}

/// The answer to VIEW_BROKER_STATS_DATA (315).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerStatsData {
    pub stats_day: BrokerStatsItem,
    pub stats_hour: BrokerStatsItem,
    pub stats_minute: BrokerStatsItem,
}

/// One queue entry, inside [`QueryConsumeQueueBody`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeQueueData {
    #[serde(deserialize_with = "lenient::boolean")]
    pub eval: bool,
    #[serde(deserialize_with = "lenient::int")]
    pub physic_offset: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub physic_size: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub tags_code: i64,
}

/// The answer to QUERY_CONSUME_QUEUE (321).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryConsumeQueueBody {
    #[serde(deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    #[serde(deserialize_with = "lenient::int")]
    pub max_queue_index: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub min_queue_index: i64,
    pub queue_data: Vec<ConsumeQueueData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}

/// The answer to QUERY_SUBSCRIPTION_BY_CONSUMER (345).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QuerySubscriptionBody {
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
    pub topic: String,
}

json_body!(
    KvTable,
    TopicList,
    GroupList,
    ConsumerList,
    ConsumerConnection,
    ProducerConnection,
    ProducerTableInfo,
    ConsumeMessageDirectlyResult,
    BrokerStatsData,
    QueryConsumeQueueBody,
    QuerySubscriptionBody,
);
