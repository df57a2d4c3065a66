//! Committed offsets: bodies that are also files.

use super::{BodyError, DataVersion, MessageQueue, json_body, lenient};
use crate::remoting::json::{self, Layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// GET_ALL_CONSUMER_OFFSET (43) and the file `consumerOffset.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerOffsetWrapper {
    /// Absent from 4.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// `topic@group`, then queue, then the next offset to consume.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl ConsumerOffsetWrapper {
    /// Reads the body or file; integer keys may have quotes.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            data_version: Option<DataVersion>,
            #[serde(default)]
            offset_table: BTreeMap<String, BTreeMap<i32, lenient::Int<i64>>>,
        }
        let raw: Raw = super::parse("ConsumerOffsetWrapper", bytes)?;
        let plain = |offsets: BTreeMap<i32, lenient::Int<i64>>| {
            offsets.into_iter().map(|(queue, offset)| (queue, offset.0)).collect()
        };
        Ok(Self {
            data_version: raw.data_version,
            offset_table: raw.offset_table.into_iter().map(|(key, offsets)| (key, plain(offsets))).collect(),
        })
    }

    /// The body as Java writes it: compact, integer keys without quotes.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Compact)
    }

    /// The file as Java writes it.
    pub fn to_java_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Tabs)
    }
}

/// GET_ALL_DELAY_OFFSET (45) and the file `delayOffset.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelayOffsetWrapper {
    /// Absent from 4.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// By delay level: the next queue offset to deliver.
    pub offset_table: BTreeMap<i32, i64>,
}

impl DelayOffsetWrapper {
    /// Reads the body or file; integer keys may have quotes.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            data_version: Option<DataVersion>,
            #[serde(default)]
            offset_table: BTreeMap<i32, lenient::Int<i64>>,
        }
        let raw: Raw = super::parse("DelayOffsetWrapper", bytes)?;
        Ok(Self {
            data_version: raw.data_version,
            offset_table: raw.offset_table.into_iter().map(|(level, offset)| (level, offset.0)).collect(),
        })
    }

    /// The body as Java writes it: compact, integer keys without quotes.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Compact)
    }

    /// The file as Java writes it.
    pub fn to_java_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Tabs)
    }
}

/// The answer to QUERY_CORRECTION_OFFSET (308).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryCorrectionOffsetBody {
    /// By queue.
    pub correction_offsets: BTreeMap<i32, i64>,
}

impl QueryCorrectionOffsetBody {
    /// Reads the body; integer keys may have quotes.
    ///
    /// # Errors
    /// [`BodyError`]: it is not JSON or has not this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            #[serde(default)]
            correction_offsets: BTreeMap<i32, lenient::Int<i64>>,
        }
        let raw: Raw = super::parse("QueryCorrectionOffsetBody", bytes)?;
        let offsets = raw.correction_offsets.into_iter().map(|(queue, offset)| (queue, offset.0));
        Ok(Self { correction_offsets: offsets.collect() })
    }

    /// The body as Java writes it: compact, integer keys without quotes.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_java(self, Layout::Compact)
    }
}

/// The body of a message about a consumer that was sent to another offset than it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OffsetMovedEvent {
    #[serde(deserialize_with = "lenient::text")]
    pub consumer_group: String,
    pub message_queue: MessageQueue,
    #[serde(deserialize_with = "lenient::int")]
    pub offset_new: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub offset_request: i64,
}

json_body!(OffsetMovedEvent);
