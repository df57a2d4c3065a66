//! What a consumer says of itself (307).

use super::queue::{queue_map, queue_map_json};
use super::{BodyError, MessageQueue, SubscriptionData, lenient};
use crate::remoting::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a consumer has of one queue, inside [`ConsumerRunningInfo`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProcessQueueInfo {
    #[serde(deserialize_with = "lenient::int")]
    pub cached_msg_count: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub cached_msg_max_offset: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub cached_msg_min_offset: i64,
    #[serde(rename = "cachedMsgSizeInMiB", deserialize_with = "lenient::int")]
    pub cached_msg_size_mib: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub commit_offset: i64,
    /// Spelled so by Java; Go says `dropped`.
    #[serde(rename = "droped", alias = "dropped", deserialize_with = "lenient::boolean")]
    pub dropped: bool,
    /// In ms since 1970, as the two below; 0 for never.
    #[serde(deserialize_with = "lenient::int")]
    pub last_consume_timestamp: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub last_lock_timestamp: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub last_pull_timestamp: i64,
    #[serde(deserialize_with = "lenient::boolean")]
    pub locked: bool,
    /// What an orderly listener has been given and has not answered for.
    #[serde(deserialize_with = "lenient::int")]
    pub transaction_msg_count: i32,
    #[serde(deserialize_with = "lenient::int")]
    pub transaction_msg_max_offset: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub transaction_msg_min_offset: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub try_unlock_times: i64,
}

/// How fast a topic is consumed, inside [`ConsumerRunningInfo`]: Java's `ConsumeStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConsumption {
    /// In the last hour.
    #[serde(deserialize_with = "lenient::int")]
    pub consume_failed_msgs: i64,
    #[serde(rename = "consumeFailedTPS")]
    pub consume_failed_tps: f64,
    #[serde(rename = "consumeOKTPS")]
    pub consume_ok_tps: f64,
    /// In ms, as the pull's.
    #[serde(rename = "consumeRT")]
    pub consume_rt: f64,
    #[serde(rename = "pullRT")]
    pub pull_rt: f64,
    #[serde(rename = "pullTPS")]
    pub pull_tps: f64,
}

/// The answer to GET_CONSUMER_RUNNING_INFO (307), as 4.9 has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerRunningInfo {
    /// Stacks of its threads, if they were asked for.
    #[serde(deserialize_with = "lenient::some_text")]
    pub jstack: Option<String>,
    #[serde(deserialize_with = "queue_map")]
    pub mq_table: BTreeMap<MessageQueue, ProcessQueueInfo>,
    pub properties: BTreeMap<String, String>,
    pub status_table: BTreeMap<String, TopicConsumption>,
    pub subscription_set: Vec<SubscriptionData>,
}

impl ConsumerRunningInfo {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        super::parse("ConsumerRunningInfo", bytes)
    }

    /// Writes the body, compact, with objects as keys.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = b"{".to_vec();
        if let Some(jstack) = &self.jstack {
            text.extend_from_slice(br#""jstack":"#);
            text.extend_from_slice(&json::to_standard(jstack));
            text.push(b',');
        }
        text.extend_from_slice(br#""mqTable":"#);
        queue_map_json(&mut text, &self.mq_table);
        for (name, value) in [
            ("properties", json::to_standard(&self.properties)),
            ("statusTable", json::to_standard(&self.status_table)),
            ("subscriptionSet", json::to_standard(&self.subscription_set)),
        ] {
            text.extend_from_slice(format!(r#","{name}":"#).as_bytes());
            text.extend_from_slice(&value);
        }
        text.push(b'}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Java 5.3.2 client has answered it.
    const JAVA: &str = r#"{"mqPopTable":{},"mqTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:{"cachedMsgCount":0,"cachedMsgMaxOffset":0,"cachedMsgMinOffset":0,"cachedMsgSizeInMiB":0,"commitOffset":10,"droped":false,"lastConsumeTimestamp":0,"lastLockTimestamp":0,"lastPullTimestamp":0,"locked":false,"transactionMsgCount":0,"transactionMsgMaxOffset":0,"transactionMsgMinOffset":0,"tryUnlockTimes":0}},"properties":{"PROP_CONSUME_TYPE":"CONSUME_PASSIVELY","PROP_CLIENT_VERSION":"V5_3_2"},"statusTable":{"TopicTest":{"consumeFailedMsgs":0,"consumeFailedTPS":0.0,"consumeOKTPS":0.0,"consumeRT":0.0,"pullRT":0.0,"pullTPS":0.0}},"subscriptionSet":[],"userConsumerInfo":{}}"#;

    #[test]
    fn what_java_answers_is_read_and_written_with_its_names() {
        let info = ConsumerRunningInfo::parse(JAVA.as_bytes()).expect("a body");
        assert_eq!(info.mq_table.values().map(|queue| queue.commit_offset).collect::<Vec<_>>(), [10]);
        let ours = String::from_utf8(info.to_json()).expect("JSON is text");
        let without = JAVA
            .replace(r#""mqPopTable":{},"#, "")
            .replace(r#","userConsumerInfo":{}"#, "")
            // Ours are sorted.
            .replace(
                r#""PROP_CONSUME_TYPE":"CONSUME_PASSIVELY","PROP_CLIENT_VERSION":"V5_3_2""#,
                r#""PROP_CLIENT_VERSION":"V5_3_2","PROP_CONSUME_TYPE":"CONSUME_PASSIVELY""#,
            );
        assert_eq!(ours, without);
        let asked = ConsumerRunningInfo { jstack: Some("a \"b\"".to_owned()), ..info };
        assert_eq!(ConsumerRunningInfo::parse(&asked.to_json()), Ok(asked));
    }
}
