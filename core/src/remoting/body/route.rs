//! Routes and the cluster.

use super::{json_body, lenient};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The queues of a topic on one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueData {
    #[serde(deserialize_with = "lenient::text")]
    pub broker_name: String,
    #[serde(default, deserialize_with = "lenient::int")]
    pub perm: i32,
    #[serde(default, deserialize_with = "lenient::int")]
    pub read_queue_nums: i32,
    #[serde(default, deserialize_with = "lenient::int")]
    pub topic_sys_flag: i32,
    #[serde(default, deserialize_with = "lenient::int")]
    pub write_queue_nums: i32,
}

/// A master and its slaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerData {
    /// By broker id; 0 is the master. Written with quoted keys, which every client reads; Go needs the table compact.
    #[serde(default)]
    pub broker_addrs: BTreeMap<i64, String>,
    #[serde(deserialize_with = "lenient::text")]
    pub broker_name: String,
    #[serde(default, deserialize_with = "lenient::text")]
    pub cluster: String,
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub enable_acting_master: bool,
    #[serde(default, deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// The answer to GET_ROUTEINFO_BY_TOPIC (105).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicRouteData {
    pub broker_datas: Vec<BrokerData>,
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker:queues;broker:queues` of an ordered topic.
    #[serde(deserialize_with = "lenient::some_text", skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    pub queue_datas: Vec<QueueData>,
}

/// The answer to GET_BROKER_CLUSTER_INFO (106).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterInfo {
    /// By broker name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Broker names by cluster.
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}

/// The members of one broker name, inside [`GetBrokerMemberGroupBody`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerMemberGroup {
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
}

/// The answer to GET_BROKER_MEMBER_GROUP (901).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GetBrokerMemberGroupBody {
    pub broker_member_group: BrokerMemberGroup,
}

json_body!(TopicRouteData, ClusterInfo, GetBrokerMemberGroupBody);
