//! Pulling and looking up messages.

use super::typed_header;

typed_header! {
    /// PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
    pub struct PullMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        /// First queue offset wanted.
        queue_offset: i64 = "queueOffset",
        max_msg_nums: i32 = "maxMsgNums",
        /// Bits of `message::sys_flag::pull`.
        sys_flag: i32 = "sysFlag",
        /// To be committed, if the flag says so.
        commit_offset: i64 = "commitOffset",
        /// How long the pull may be held when there is nothing, in ms.
        suspend_timeout_millis: i64 = "suspendTimeoutMillis",
        /// The filter expression, if the flag says that it is here.
        subscription: Option<String> = "subscription",
        sub_version: i64 = "subVersion",
        /// "TAG" or "SQL92"; absent is "TAG".
        expression_type: Option<String> = "expressionType",
        max_msg_bytes: Option<i32> = "maxMsgBytes",
        request_source: Option<i32> = "requestSource",
    }

    /// The answer to a pull. Clients read the first four for every code, so they are always set.
    pub struct PullMessageResponse {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset",
        max_offset: i64 = "maxOffset",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }

    /// QUERY_MESSAGE (12).
    pub struct QueryMessageHeader {
        topic: String = "topic",
        key: String = "key",
        max_num: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
        /// Whether `key` is a unique key.
        unique_key: bool = "_UNIQUE_KEY_QUERY",
    }

    /// The answer to QUERY_MESSAGE.
    pub struct QueryMessageResponse {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }

    /// VIEW_MESSAGE_BY_ID (33).
    pub struct ViewMessageHeader {
        /// Physical offset, in bytes.
        offset: i64 = "offset",
        topic: Option<String> = "topic",
        /// Of a slave of ours, which will follow if it has the same: where its log ends, in bytes. Java masters leave it out
        /// of account.
        compares: Option<i64> = "hotfireCompares",
    }
}
