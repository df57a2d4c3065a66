//! Request and response codes, by the names they have in Java's `RequestCode` and `ResponseCode`.
//!
//! A code that is here need not be served; what a node does not serve it answers with REQUEST_CODE_NOT_SUPPORTED.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: i32 = $code;)*

        /// Every code with its name.
        pub const ALL: &[(i32, &str)] = &[$(($code, stringify!($name))),*];

        /// The name of a code, "unknown" if there is none.
        pub(super) fn name(code: i32) -> &'static str {
            match code {
                $($code => stringify!($name),)*
                _ => "unknown",
            }
        }
    };
}

/// What may be asked.
pub mod request {
    codes! {
        SEND_MESSAGE = 10;
        PULL_MESSAGE = 11;
        QUERY_MESSAGE = 12;
        QUERY_BROKER_OFFSET = 13;
        QUERY_CONSUMER_OFFSET = 14;
        UPDATE_CONSUMER_OFFSET = 15;
        UPDATE_AND_CREATE_TOPIC = 17;
        UPDATE_AND_CREATE_TOPIC_LIST = 18;
        GET_ALL_TOPIC_CONFIG = 21;
        GET_TOPIC_CONFIG_LIST = 22;
        GET_TOPIC_NAME_LIST = 23;
        UPDATE_BROKER_CONFIG = 25;
        GET_BROKER_CONFIG = 26;
        TRIGGER_DELETE_FILES = 27;
        GET_BROKER_RUNTIME_INFO = 28;
        SEARCH_OFFSET_BY_TIMESTAMP = 29;
        GET_MAX_OFFSET = 30;
        GET_MIN_OFFSET = 31;
        GET_EARLIEST_MSG_STORETIME = 32;
        VIEW_MESSAGE_BY_ID = 33;
        HEART_BEAT = 34;
        UNREGISTER_CLIENT = 35;
        CONSUMER_SEND_MSG_BACK = 36;
        END_TRANSACTION = 37;
        GET_CONSUMER_LIST_BY_GROUP = 38;
        CHECK_TRANSACTION_STATE = 39;
        NOTIFY_CONSUMER_IDS_CHANGED = 40;
        LOCK_BATCH_MQ = 41;
        UNLOCK_BATCH_MQ = 42;
        GET_ALL_CONSUMER_OFFSET = 43;
        GET_ALL_DELAY_OFFSET = 45;
        CHECK_CLIENT_CONFIG = 46;
        GET_CLIENT_CONFIG = 47;
        UPDATE_AND_CREATE_ACL_CONFIG = 50;
        DELETE_ACL_CONFIG = 51;
        GET_BROKER_CLUSTER_ACL_INFO = 52;
        UPDATE_GLOBAL_WHITE_ADDRS_CONFIG = 53;
        GET_BROKER_CLUSTER_ACL_CONFIG = 54;
        GET_TIMER_CHECK_POINT = 60;
        GET_TIMER_METRICS = 61;
        PUT_KV_CONFIG = 100;
        GET_KV_CONFIG = 101;
        DELETE_KV_CONFIG = 102;
        REGISTER_BROKER = 103;
        UNREGISTER_BROKER = 104;
        GET_ROUTEINFO_BY_TOPIC = 105;
        GET_BROKER_CLUSTER_INFO = 106;
        UPDATE_AND_CREATE_SUBSCRIPTIONGROUP = 200;
        GET_ALL_SUBSCRIPTIONGROUP_CONFIG = 201;
        GET_TOPIC_STATS_INFO = 202;
        GET_CONSUMER_CONNECTION_LIST = 203;
        GET_PRODUCER_CONNECTION_LIST = 204;
        WIPE_WRITE_PERM_OF_BROKER = 205;
        GET_ALL_TOPIC_LIST_FROM_NAMESERVER = 206;
        DELETE_SUBSCRIPTIONGROUP = 207;
        GET_CONSUME_STATS = 208;
        DELETE_TOPIC_IN_BROKER = 215;
        DELETE_TOPIC_IN_NAMESRV = 216;
        REGISTER_TOPIC_IN_NAMESRV = 217;
        GET_KVLIST_BY_NAMESPACE = 219;
        RESET_CONSUMER_CLIENT_OFFSET = 220;
        GET_CONSUMER_STATUS_FROM_CLIENT = 221;
        INVOKE_BROKER_TO_RESET_OFFSET = 222;
        INVOKE_BROKER_TO_GET_CONSUMER_STATUS = 223;
        GET_TOPICS_BY_CLUSTER = 224;
        UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST = 225;
        QUERY_TOPIC_CONSUME_BY_WHO = 300;
        REGISTER_FILTER_SERVER = 301;
        REGISTER_MESSAGE_FILTER_CLASS = 302;
        QUERY_CONSUME_TIME_SPAN = 303;
        GET_SYSTEM_TOPIC_LIST_FROM_NS = 304;
        GET_SYSTEM_TOPIC_LIST_FROM_BROKER = 305;
        CLEAN_EXPIRED_CONSUMEQUEUE = 306;
        GET_CONSUMER_RUNNING_INFO = 307;
        QUERY_CORRECTION_OFFSET = 308;
        CONSUME_MESSAGE_DIRECTLY = 309;
        SEND_MESSAGE_V2 = 310;
        GET_UNIT_TOPIC_LIST = 311;
        GET_HAS_UNIT_SUB_TOPIC_LIST = 312;
        GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST = 313;
        CLONE_GROUP_OFFSET = 314;
        VIEW_BROKER_STATS_DATA = 315;
        CLEAN_UNUSED_TOPIC = 316;
        GET_BROKER_CONSUME_STATS = 317;
        UPDATE_NAMESRV_CONFIG = 318;
        GET_NAMESRV_CONFIG = 319;
        SEND_BATCH_MESSAGE = 320;
        QUERY_CONSUME_QUEUE = 321;
        QUERY_DATA_VERSION = 322;
        RESUME_CHECK_HALF_MESSAGE = 323;
        SEND_REPLY_MESSAGE = 324;
        SEND_REPLY_MESSAGE_V2 = 325;
        PUSH_REPLY_MESSAGE_TO_CLIENT = 326;
        ADD_WRITE_PERM_OF_BROKER = 327;
        GET_ALL_PRODUCER_INFO = 328;
        DELETE_EXPIRED_COMMITLOG = 329;
        QUERY_TOPICS_BY_CONSUMER = 343;
        QUERY_SUBSCRIPTION_BY_CONSUMER = 345;
        GET_TOPIC_CONFIG = 351;
        GET_SUBSCRIPTIONGROUP_CONFIG = 352;
        UPDATE_AND_GET_GROUP_FORBIDDEN = 353;
        CHECK_ROCKSDB_CQ_WRITE_PROGRESS = 354;
        EXPORT_ROCKSDB_CONFIG_TO_JSON = 355;
        LITE_PULL_MESSAGE = 361;
        RECALL_MESSAGE = 370;
        QUERY_ASSIGNMENT = 400;
        SET_MESSAGE_REQUEST_MODE = 401;
        GET_ALL_MESSAGE_REQUEST_MODE = 402;
        UPDATE_AND_CREATE_STATIC_TOPIC = 513;
        GET_BROKER_MEMBER_GROUP = 901;
        ADD_BROKER = 902;
        REMOVE_BROKER = 903;
        BROKER_HEARTBEAT = 904;
        NOTIFY_MIN_BROKER_ID_CHANGE = 905;
        EXCHANGE_BROKER_HA_INFO = 906;
        GET_BROKER_HA_STATUS = 907;
        RESET_MASTER_FLUSH_OFFSET = 908;
        CONTROLLER_ALTER_SYNC_STATE_SET = 1001;
        GET_COLD_DATA_FLOW_CTR_INFO = 2003;
        CONTROLLER_ELECT_MASTER = 1002;
        CONTROLLER_REGISTER_BROKER = 1003;
        CONTROLLER_GET_REPLICA_INFO = 1004;
        CONTROLLER_GET_METADATA_INFO = 1005;
        CONTROLLER_GET_SYNC_STATE_DATA = 1006;
        GET_BROKER_EPOCH_CACHE = 1007;
        NOTIFY_BROKER_ROLE_CHANGED = 1008;
        AUTH_CREATE_USER = 3001;
        AUTH_UPDATE_USER = 3002;
        AUTH_DELETE_USER = 3003;
        AUTH_GET_USER = 3004;
        AUTH_LIST_USER = 3005;
        AUTH_CREATE_ACL = 3006;
        AUTH_UPDATE_ACL = 3007;
        AUTH_DELETE_ACL = 3008;
        AUTH_GET_ACL = 3009;
        AUTH_LIST_ACL = 3010;
        POP_MESSAGE = 200050;
        ACK_MESSAGE = 200051;
        PEEK_MESSAGE = 200052;
        CHANGE_MESSAGE_INVISIBLETIME = 200053;
        NOTIFICATION = 200054;
        POLLING_INFO = 200055;
        POP_ROLLBACK = 200056;
        BATCH_ACK_MESSAGE = 200151;
    }
}

/// How it went.
pub mod response {
    codes! {
        /// It was done.
        SUCCESS = 0;
        /// Any failure without a code of its own; the remark says which.
        SYSTEM_ERROR = 1;
        /// Not handled because of overload; another broker may do it.
        SYSTEM_BUSY = 2;
        /// We do not know this request.
        REQUEST_CODE_NOT_SUPPORTED = 3;
        /// Defined by Java, sent by nobody.
        TRANSACTION_FAILED = 4;
        /// Stored, but not durable within the limit.
        FLUSH_DISK_TIMEOUT = 10;
        /// Stored, but no slave is in sync.
        SLAVE_NOT_AVAILABLE = 11;
        /// Stored, but not acknowledged by a slave within the limit.
        FLUSH_SLAVE_TIMEOUT = 12;
        /// The message breaks a limit or a rule of form.
        MESSAGE_ILLEGAL = 13;
        /// The store takes no writes: disk full, failed, slave, shutting down.
        SERVICE_NOT_AVAILABLE = 14;
        /// Sent only by proxies.
        VERSION_NOT_SUPPORTED = 15;
        /// Broker, topic or group forbids it.
        NO_PERMISSION = 16;
        /// No such topic, or no route to it.
        TOPIC_NOT_EXIST = 17;
        /// Defined by Java, sent by nobody.
        TOPIC_EXIST_ALREADY = 18;
        /// Nothing at that offset yet.
        PULL_NOT_FOUND = 19;
        /// Scanned, nothing matched; go on from nextBeginOffset.
        PULL_RETRY_IMMEDIATELY = 20;
        /// The offset is outside the queue.
        PULL_OFFSET_MOVED = 21;
        /// No such committed offset, key or message.
        QUERY_NOT_FOUND = 22;
        /// The filter expression is wrong.
        SUBSCRIPTION_PARSE_FAILED = 23;
        /// The group does not subscribe to this topic.
        SUBSCRIPTION_NOT_EXIST = 24;
        /// Our copy of the subscription is older than the caller's.
        SUBSCRIPTION_NOT_LATEST = 25;
        /// Unknown group, and groups are not created by use.
        SUBSCRIPTION_GROUP_NOT_EXIST = 26;
        /// No compiled filter for this group.
        FILTER_DATA_NOT_EXIST = 27;
        /// The compiled filter is older than the subscription.
        FILTER_DATA_NOT_LATEST = 28;
        /// A parameter is malformed or out of range.
        INVALID_PARAMETER = 29;
        /// No consumer of the group is connected.
        CONSUMER_NOT_ONLINE = 206;
        /// A call forwarded to a consumer was not answered in time.
        CONSUME_MSG_TIMEOUT = 207;
        /// The offset to acknowledge is outside the queue.
        NO_MESSAGE = 208;
        /// Too many held pops.
        POLLING_FULL = 209;
        /// A held pop ended without a message.
        POLLING_TIMEOUT = 210;
        /// Pull again a little later.
        FLOW_CONTROL = 215;
        /// Static topics only.
        NOT_LEADER_FOR_QUEUE = 501;
        /// The transaction or recall is no longer possible.
        ILLEGAL_OPERATION = 604;
        /// We are shutting down; connect again elsewhere.
        GO_AWAY = 1500;
    }
}

/// The name of a request code, for logs and remarks.
pub fn request_name(code: i32) -> &'static str {
    request::name(code)
}

/// The name of a response code, for logs and errors.
pub fn response_name(code: i32) -> &'static str {
    response::name(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names() {
        assert_eq!(request_name(request::SEND_MESSAGE_V2), "SEND_MESSAGE_V2");
        assert_eq!(request_name(16), "unknown");
        assert_eq!(response_name(response::PULL_OFFSET_MOVED), "PULL_OFFSET_MOVED");
    }
}
