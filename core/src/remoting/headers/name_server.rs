//! What name servers are asked.

use super::typed_header;

typed_header! {
    /// PUT_KV_CONFIG (100).
    pub struct PutKvConfigHeader {
        namespace: String = "namespace",
        key: String = "key",
        value: String = "value",
    }

    /// GET_KV_CONFIG (101).
    pub struct GetKvConfigHeader {
        namespace: String = "namespace",
        key: String = "key",
    }

    /// The answer to GET_KV_CONFIG.
    pub struct GetKvConfigResponse {
        value: Option<String> = "value",
    }

    /// DELETE_KV_CONFIG (102).
    pub struct DeleteKvConfigHeader {
        namespace: String = "namespace",
        key: String = "key",
    }

    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct GetKvListHeader {
        namespace: String = "namespace",
    }

    /// REGISTER_BROKER (103).
    pub struct RegisterBrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        ha_server_addr: String = "haServerAddr",
        /// 0 for a master.
        broker_id: i64 = "brokerId",
        /// After how long without a word the broker is dropped; absent is the server's own limit.
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        /// Whether the body is compressed. A 5.4.0 broker says "false" and compresses all the same.
        compressed: bool = "compressed",
        /// Of the body as it was sent, with the sign bit cleared; 0 or absent is unchecked.
        body_crc32: Option<i32> = "bodyCrc32",
        zone_name: Option<String> = "__ZONE_NAME",
    }

    /// The answer to REGISTER_BROKER; both fields are for slaves.
    pub struct RegisterBrokerResponse {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }

    /// UNREGISTER_BROKER (104).
    pub struct UnregisterBrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }

    /// QUERY_DATA_VERSION (322).
    pub struct QueryDataVersionHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }

    /// The answer to QUERY_DATA_VERSION.
    pub struct QueryDataVersionResponse {
        changed: bool = "changed",
    }

    /// GET_ROUTEINFO_BY_TOPIC (105).
    pub struct GetRouteInfoHeader {
        topic: String = "topic",
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }

    /// WIPE_WRITE_PERM_OF_BROKER (205).
    pub struct WipeWritePermHeader {
        broker_name: String = "brokerName",
    }

    /// The answer to WIPE_WRITE_PERM_OF_BROKER.
    pub struct WipeWritePermResponse {
        wipe_topic_count: i32 = "wipeTopicCount",
    }

    /// ADD_WRITE_PERM_OF_BROKER (327).
    pub struct AddWritePermHeader {
        broker_name: String = "brokerName",
    }

    /// The answer to ADD_WRITE_PERM_OF_BROKER.
    pub struct AddWritePermResponse {
        add_topic_count: i32 = "addTopicCount",
    }

    /// DELETE_TOPIC_IN_NAMESRV (216).
    pub struct DeleteTopicInNameServerHeader {
        topic: String = "topic",
        cluster_name: Option<String> = "clusterName",
    }

    /// REGISTER_TOPIC_IN_NAMESRV (217).
    pub struct RegisterTopicHeader {
        topic: String = "topic",
    }

    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct GetTopicsByClusterHeader {
        cluster: String = "cluster",
    }

    /// GET_BROKER_MEMBER_GROUP (901).
    pub struct GetBrokerMemberGroupHeader {
        cluster_name: String = "clusterName",
        broker_name: String = "brokerName",
    }

    /// BROKER_HEARTBEAT (904).
    pub struct BrokerHeartbeatHeader {
        cluster_name: String = "clusterName",
        broker_addr: String = "brokerAddr",
        broker_name: String = "brokerName",
        broker_id: Option<i64> = "brokerId",
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
    }

    /// NOTIFY_MIN_BROKER_ID_CHANGE (905).
    pub struct NotifyMinBrokerIdChangeHeader {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<String> = "brokerName",
        min_broker_addr: Option<String> = "minBrokerAddr",
        offline_broker_addr: Option<String> = "offlineBrokerAddr",
        ha_broker_addr: Option<String> = "haBrokerAddr",
    }
}
