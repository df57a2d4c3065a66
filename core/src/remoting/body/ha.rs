//! How replication stands.

use super::{json_body, lenient};
use serde::{Deserialize, Serialize};

/// The answer to GET_BROKER_HA_STATUS (907), which 4.9 does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaRuntimeInfo {
    /// Of a slave.
    pub ha_client_runtime_info: HaClientRuntimeInfo,
    /// Of a master: each connection that has reported.
    pub ha_connection_info: Vec<HaConnectionRuntimeInfo>,
    #[serde(deserialize_with = "lenient::int")]
    pub in_sync_slave_nums: i32,
    #[serde(deserialize_with = "lenient::boolean")]
    pub master: bool,
    #[serde(deserialize_with = "lenient::int")]
    pub master_commit_log_max_offset: i64,
}

/// A slave as its master sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaConnectionRuntimeInfo {
    #[serde(deserialize_with = "lenient::text")]
    pub addr: String,
    /// Bytes that it has not acknowledged.
    #[serde(deserialize_with = "lenient::int")]
    pub diff: i64,
    #[serde(deserialize_with = "lenient::boolean")]
    pub in_sync: bool,
    #[serde(deserialize_with = "lenient::int")]
    pub slave_ack_offset: i64,
    /// Where the next push begins; -1 before the first.
    #[serde(deserialize_with = "lenient::int")]
    pub transfer_from_where: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub transferred_byte_in_second: i64,
}

/// A slave as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaClientRuntimeInfo {
    /// It follows.
    #[serde(deserialize_with = "lenient::boolean")]
    pub activated: bool,
    /// When something came last from the master, in ms since 1970; 0 without a link.
    #[serde(deserialize_with = "lenient::int")]
    pub last_read_timestamp: i64,
    /// When it reported last.
    #[serde(deserialize_with = "lenient::int")]
    pub last_write_timestamp: i64,
    /// `host:port` of the master's HA port.
    #[serde(deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub master_addr: Option<String>,
    /// What it was told of its master's flush at its start, by a setting of 5.x that is off; else 0.
    #[serde(deserialize_with = "lenient::int")]
    pub master_flush_offset: i64,
    /// Where its log ends.
    #[serde(deserialize_with = "lenient::int")]
    pub max_offset: i64,
    #[serde(deserialize_with = "lenient::int")]
    pub transferred_byte_in_second: i64,
}

json_body!(HaRuntimeInfo);
