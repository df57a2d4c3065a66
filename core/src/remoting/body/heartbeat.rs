//! What clients tell brokers about themselves.

use super::{json_body, json_enum, lenient};
use crate::message::subscription::TagExpression;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

json_enum! {
    /// Who moves the messages.
    pub enum ConsumeType {
        /// The application pulls.
        Actively = "CONSUME_ACTIVELY",
        /// The client pulls and pushes into the application.
        #[default]
        Passively = "CONSUME_PASSIVELY",
        /// POP of 5.x.
        Pop = "CONSUME_POP",
    }
}

json_enum! {
    /// Who of a group gets a message.
    pub enum MessageModel {
        /// All.
        Broadcasting = "BROADCASTING",
        /// One.
        #[default]
        Clustering = "CLUSTERING",
    }
}

json_enum! {
    /// Where a group without an offset begins.
    pub enum ConsumeFromWhere {
        /// At the end.
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        /// Deprecated in Java; as [`Self::LastOffset`].
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Deprecated in Java; as [`Self::LastOffset`].
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        /// Deprecated in Java; as [`Self::LastOffset`].
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        /// At the beginning.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        /// At a time.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

/// What a group wants of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionData {
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub class_filter_mode: bool,
    /// Java hashes of the tags. The C++ client of the Python package sends zeros, so a filter is built from the
    /// expression, not from these.
    #[serde(default, deserialize_with = "lenient::int_set")]
    pub code_set: BTreeSet<i32>,
    /// "TAG" or "SQL92".
    #[serde(default = "tag", deserialize_with = "tag_or")]
    pub expression_type: String,
    /// The expression; "*" is everything.
    #[serde(default, deserialize_with = "lenient::text")]
    pub sub_string: String,
    /// Grows with each change; Java counts ms, Go ns.
    #[serde(default, deserialize_with = "lenient::int")]
    pub sub_version: i64,
    #[serde(default)]
    pub tags_set: BTreeSet<String>,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

fn tag() -> String {
    "TAG".to_owned()
}

/// An expression type, "TAG" if it is empty.
fn tag_or<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let found = lenient::text(deserializer)?;
    Ok(if found.is_empty() { tag() } else { found })
}

/// One group of producers of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerData {
    #[serde(deserialize_with = "lenient::text")]
    pub group_name: String,
}

/// One group of consumers of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerData {
    #[serde(default)]
    pub consume_from_where: ConsumeFromWhere,
    #[serde(default)]
    pub consume_type: ConsumeType,
    #[serde(deserialize_with = "lenient::text")]
    pub group_name: String,
    #[serde(default)]
    pub message_model: MessageModel,
    #[serde(default)]
    pub subscription_data_set: Vec<SubscriptionData>,
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub unit_mode: bool,
}

/// HEART_BEAT (34).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatData {
    #[serde(rename = "clientID", deserialize_with = "lenient::text")]
    pub client_id: String,
    #[serde(default)]
    pub consumer_data_set: Vec<ConsumerData>,
    /// Of the subscriptions, 0 if unused.
    #[serde(default, deserialize_with = "lenient::int")]
    pub heartbeat_fingerprint: i32,
    #[serde(default)]
    pub producer_data_set: Vec<ProducerData>,
    /// Whether subscriptions are left out because they have not changed.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub without_sub: bool,
}

/// CHECK_CLIENT_CONFIG (46).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckClientRequestBody {
    #[serde(deserialize_with = "lenient::text")]
    pub client_id: String,
    #[serde(deserialize_with = "lenient::text")]
    pub group: String,
    pub subscription_data: SubscriptionData,
}

json_body!(HeartbeatData, CheckClientRequestBody, SubscriptionData);

impl SubscriptionData {
    /// The subscription of a client to the tags of an expression.
    ///
    /// # Errors
    /// [`NoTags`](crate::message::subscription::NoTags): the expression has none.
    pub fn tags(
        topic: &str,
        expression: &str,
        sub_version: i64,
    ) -> Result<Self, crate::message::subscription::NoTags> {
        let parsed = TagExpression::parse(expression)?;
        Ok(Self {
            class_filter_mode: false,
            code_set: parsed.codes,
            expression_type: tag(),
            sub_string: parsed.sub_string,
            sub_version,
            tags_set: parsed.tags,
            topic: topic.to_owned(),
        })
    }
}
