//! Queues, their locks, and what is kept per queue.

use super::{BodyError, json_body, lenient};
use crate::remoting::json;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};

/// One queue of one broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueue {
    #[serde(deserialize_with = "lenient::text")]
    pub broker_name: String,
    #[serde(default, deserialize_with = "lenient::int")]
    pub queue_id: i32,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

/// Reads a map keyed by queues: each key is an object, which `json` has turned into its text, or was a text already.
pub(super) fn queue_map<'de, D, V>(deserializer: D) -> Result<BTreeMap<MessageQueue, V>, D::Error>
where
    D: Deserializer<'de>,
    V: DeserializeOwned,
{
    let by_text: BTreeMap<String, V> = Deserialize::deserialize(deserializer)?;
    by_text
        .into_iter()
        .map(|(key, value)| {
            let queue = super::parse("MessageQueue", key.as_bytes()).map_err(serde::de::Error::custom)?;
            Ok((queue, value))
        })
        .collect()
}

/// Writes a map keyed by queues, each key an object.
pub(super) fn queue_map_json<V: Serialize>(text: &mut Vec<u8>, map: &BTreeMap<MessageQueue, V>) {
    text.push(b'{');
    for (index, (queue, value)) in map.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&json::to_standard(queue));
        text.push(b':');
        text.extend_from_slice(&json::to_standard(value));
    }
    text.push(b'}');
}

/// LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockBatchRequestBody {
    #[serde(deserialize_with = "lenient::text")]
    pub client_id: String,
    #[serde(deserialize_with = "lenient::text")]
    pub consumer_group: String,
    #[serde(default)]
    pub mq_set: BTreeSet<MessageQueue>,
    /// Only 5.x knows it.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub only_this_broker: bool,
}

/// The answer to LOCK_BATCH_MQ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockBatchResponseBody {
    /// Which queues are locked now.
    #[serde(default, rename = "lockOKMQSet")]
    pub lock_ok_mq_set: BTreeSet<MessageQueue>,
}

json_body!(MessageQueue, LockBatchRequestBody, LockBatchResponseBody);

/// How far a group is on one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OffsetWrapper {
    /// The next to be written.
    #[serde(deserialize_with = "lenient::int")]
    pub broker_offset: i64,
    /// The next to be consumed.
    #[serde(deserialize_with = "lenient::int")]
    pub consumer_offset: i64,
    /// When the last consumed message was stored, in ms since 1970.
    #[serde(deserialize_with = "lenient::int")]
    pub last_timestamp: i64,
    /// The next to be pulled; only 5.x knows it.
    #[serde(deserialize_with = "lenient::int")]
    pub pull_offset: i64,
}

/// The answer to GET_CONSUME_STATS (208).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages per second; `None` where nobody counts them.
    pub consume_tps: Option<f64>,
    #[serde(deserialize_with = "queue_map")]
    pub offset_table: BTreeMap<MessageQueue, OffsetWrapper>,
}

impl ConsumeStats {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        super::parse("ConsumeStats", bytes)
    }

    /// Writes the body, compact, with objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = b"{".to_vec();
        if let Some(tps) = self.consume_tps {
            text.extend_from_slice(br#""consumeTps":"#);
            text.extend_from_slice(&json::to_standard(&tps));
            text.push(b',');
        }
        text.extend_from_slice(br#""offsetTable":"#);
        queue_map_json(&mut text, &self.offset_table);
        text.push(b'}');
        text
    }
}

/// The answer to GET_BROKER_CONSUME_STATS (317).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStatsList {
    /// `ip:port`.
    pub broker_addr: String,
    /// By group, one entry for each topic of it.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages that all groups have not consumed.
    #[serde(deserialize_with = "lenient::int")]
    pub total_diff: i64,
}

impl ConsumeStatsList {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        super::parse("ConsumeStatsList", bytes)
    }

    /// Writes the body, compact, with objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = br#"{"brokerAddr":"#.to_vec();
        text.extend_from_slice(&json::to_standard(&self.broker_addr));
        text.extend_from_slice(br#","consumeStatsList":["#);
        for (index, group) in self.consume_stats_list.iter().flatten().enumerate() {
            text.extend_from_slice(if index > 0 { b",{" } else { b"{" });
            text.extend_from_slice(&json::to_standard(group.0));
            text.extend_from_slice(b":[");
            for (index, stats) in group.1.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(&stats.to_json());
            }
            text.extend_from_slice(b"]}");
        }
        text.extend_from_slice(br#"],"totalDiff":"#);
        text.extend_from_slice(&json::to_standard(&self.total_diff));
        text.push(b'}');
        text
    }
}

/// RESET_CONSUMER_CLIENT_OFFSET (220) and the answer to INVOKE_BROKER_TO_RESET_OFFSET (222).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetOffsetBody {
    /// Where each queue goes on.
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

/// A queue with its offset, as the C++ client wants it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueOffsetItem {
    broker_name: String,
    #[serde(deserialize_with = "lenient::int")]
    offset: i64,
    #[serde(default, deserialize_with = "lenient::int")]
    queue_id: i32,
    topic: String,
}

impl ResetOffsetBody {
    /// Reads the body in either form.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Table {
            Items(Vec<QueueOffsetItem>),
            Map(#[serde(deserialize_with = "queue_map")] BTreeMap<MessageQueue, lenient::Int<i64>>),
        }
        #[derive(Deserialize)]
        struct Raw {
            #[serde(rename = "offsetTable")]
            offset_table: Table,
        }
        let raw: Raw = super::parse("ResetOffsetBody", bytes)?;
        let offset_table = match raw.offset_table {
            Table::Map(map) => map.into_iter().map(|(queue, offset)| (queue, offset.0)).collect(),
            Table::Items(items) => items
                .into_iter()
                .map(|item| {
                    let queue = MessageQueue {
                        broker_name: item.broker_name,
                        queue_id: item.queue_id,
                        topic: item.topic,
                    };
                    (queue, item.offset)
                })
                .collect(),
        };
        Ok(Self { offset_table })
    }

    /// Writes the body for Java and Go: objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = br#"{"offsetTable":"#.to_vec();
        queue_map_json(&mut text, &self.offset_table);
        text.push(b'}');
        text
    }

    /// Writes the body for C++: a list.
    pub fn to_cpp_json(&self) -> Vec<u8> {
        let items: Vec<_> = self
            .offset_table
            .iter()
            .map(|(queue, offset)| QueueOffsetItem {
                broker_name: queue.broker_name.clone(),
                offset: *offset,
                queue_id: queue.queue_id,
                topic: queue.topic.clone(),
            })
            .collect();
        json::to_standard(&BTreeMap::from([("offsetTable", items)]))
    }
}

/// The answers to GET_CONSUMER_STATUS_FROM_CLIENT (221) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetConsumerStatusBody {
    /// By client id: what each client consumes next.
    pub consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>>,
    /// What the one client that answers consumes next.
    pub message_queue_table: BTreeMap<MessageQueue, i64>,
}

impl GetConsumerStatusBody {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        #[derive(Default, Deserialize)]
        struct Offsets(#[serde(deserialize_with = "queue_map")] BTreeMap<MessageQueue, lenient::Int<i64>>);
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Raw {
            consumer_table: BTreeMap<String, Offsets>,
            message_queue_table: Offsets,
        }
        let plain =
            |offsets: Offsets| offsets.0.into_iter().map(|(queue, offset)| (queue, offset.0)).collect();
        let raw: Raw = super::parse("GetConsumerStatusBody", bytes)?;
        Ok(Self {
            consumer_table: raw
                .consumer_table
                .into_iter()
                .map(|(client, offsets)| (client, plain(offsets)))
                .collect(),
            message_queue_table: plain(raw.message_queue_table),
        })
    }

    /// Writes the body, compact, with objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = br#"{"consumerTable":{"#.to_vec();
        for (index, (client, offsets)) in self.consumer_table.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&json::to_standard(client));
            text.push(b':');
            queue_map_json(&mut text, offsets);
        }
        text.extend_from_slice(br#"},"messageQueueTable":"#);
        queue_map_json(&mut text, &self.message_queue_table);
        text.push(b'}');
        text
    }
}

/// How far a group is on one queue, in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueTimeSpan {
    #[serde(default, deserialize_with = "lenient::int")]
    pub consume_time_stamp: i64,
    #[serde(default, deserialize_with = "lenient::int")]
    pub delay_time: i64,
    #[serde(default, deserialize_with = "lenient::int")]
    pub max_time_stamp: i64,
    pub message_queue: MessageQueue,
    #[serde(default, deserialize_with = "lenient::int")]
    pub min_time_stamp: i64,
}

/// The answer to QUERY_CONSUME_TIME_SPAN (303).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryConsumeTimeSpanBody {
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

json_body!(QueryConsumeTimeSpanBody);
