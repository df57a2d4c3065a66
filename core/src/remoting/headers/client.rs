//! Clients coming, going and being called.

use super::typed_header;

typed_header! {
    /// UNREGISTER_CLIENT (35). C++ sends an empty text for the group it does not mean.
    pub struct UnregisterClientHeader {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
    }

    /// The answer to HEART_BEAT (34) from 5.x on.
    pub struct HeartbeatResponse {
        is_support_heart_beat_v2: Option<bool> = "IS_SUPPORT_HEART_BEAT_V2",
        is_sub_change: Option<bool> = "IS_SUB_CHANGE",
    }

    /// GET_CONSUMER_LIST_BY_GROUP (38).
    pub struct GetConsumerListHeader {
        consumer_group: String = "consumerGroup",
    }

    /// NOTIFY_CONSUMER_IDS_CHANGED (40).
    pub struct NotifyConsumerIdsChangedHeader {
        consumer_group: String = "consumerGroup",
    }

    /// GET_CONSUMER_RUNNING_INFO (307).
    pub struct GetConsumerRunningInfoHeader {
        consumer_group: String = "consumerGroup",
        client_id: String = "clientId",
        jstack_enable: bool = "jstackEnable",
    }

    /// CONSUME_MESSAGE_DIRECTLY (309).
    pub struct ConsumeMessageDirectlyHeader {
        consumer_group: String = "consumerGroup",
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
        broker_name: Option<String> = "brokerName",
        topic: Option<String> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }

    /// RESET_CONSUMER_CLIENT_OFFSET (220) and INVOKE_BROKER_TO_RESET_OFFSET (222).
    pub struct ResetOffsetHeader {
        topic: String = "topic",
        group: String = "group",
        /// In ms since 1970, -1 for the end of the queue.
        timestamp: i64 = "timestamp",
        is_force: bool = "isForce",
        /// Absent or -1 for all queues.
        queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset",
    }

    /// GET_CONSUMER_STATUS_FROM_CLIENT (221) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
    pub struct GetConsumerStatusHeader {
        topic: String = "topic",
        group: String = "group",
        /// A client id, in spite of its name.
        client_addr: Option<String> = "clientAddr",
    }
}
