//! What tools ask a broker.

use super::typed_header;

typed_header! {
    /// UPDATE_AND_CREATE_TOPIC (17).
    pub struct CreateTopicHeader {
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        /// "SINGLE_TAG" or "MULTI_TAG".
        topic_filter_type: String = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order",
        /// `+key=value,-key`.
        attributes: Option<String> = "attributes",
        force: Option<bool> = "force",
    }

    /// GET_ALL_TOPIC_CONFIG (21) from 5.x.
    pub struct GetAllTopicConfigHeader {
        topic_seq: Option<i32> = "topicSeq",
        data_version: Option<String> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }

    /// The answer to GET_ALL_TOPIC_CONFIG from 5.x.
    pub struct GetAllTopicConfigResponse {
        total_topic_num: Option<i32> = "totalTopicNum",
    }

    /// The answer to GET_BROKER_CONFIG (26).
    pub struct GetBrokerConfigResponse {
        /// A DataVersion in JSON.
        version: String = "version",
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201) from 5.x.
    pub struct GetAllSubscriptionGroupHeader {
        group_seq: Option<i32> = "groupSeq",
        data_version: Option<String> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }

    /// The answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG from 5.x.
    pub struct GetAllSubscriptionGroupResponse {
        total_group_num: Option<i32> = "totalGroupNum",
    }

    /// GET_TOPIC_STATS_INFO (202).
    pub struct GetTopicStatsHeader {
        topic: String = "topic",
    }

    /// GET_CONSUMER_CONNECTION_LIST (203).
    pub struct GetConsumerConnectionListHeader {
        consumer_group: String = "consumerGroup",
    }

    /// GET_PRODUCER_CONNECTION_LIST (204).
    pub struct GetProducerConnectionListHeader {
        producer_group: String = "producerGroup",
    }

    /// DELETE_SUBSCRIPTIONGROUP (207).
    pub struct DeleteSubscriptionGroupHeader {
        group_name: String = "groupName",
        /// By the name 5.x gives it.
        clean_offset: Option<bool> = "cleanOffset",
        /// The same by the name that 4.9.7 sends.
        remove_offset: Option<bool> = "removeOffset",
    }

    /// GET_CONSUME_STATS (208).
    pub struct GetConsumeStatsHeader {
        consumer_group: String = "consumerGroup",
        topic: Option<String> = "topic",
        /// Separated by `;`.
        topic_list: Option<String> = "topicList",
    }

    /// DELETE_TOPIC_IN_BROKER (215).
    pub struct DeleteTopicHeader {
        topic: String = "topic",
    }

    /// QUERY_TOPIC_CONSUME_BY_WHO (300).
    pub struct QueryTopicConsumeByWhoHeader {
        topic: String = "topic",
    }

    /// QUERY_CONSUME_TIME_SPAN (303).
    pub struct QueryConsumeTimeSpanHeader {
        topic: String = "topic",
        group: String = "group",
    }

    /// QUERY_CORRECTION_OFFSET (308).
    pub struct QueryCorrectionOffsetHeader {
        topic: String = "topic",
        compare_group: String = "compareGroup",
        /// Separated by commas.
        filter_groups: Option<String> = "filterGroups",
    }

    /// CLONE_GROUP_OFFSET (314).
    pub struct CloneGroupOffsetHeader {
        src_group: String = "srcGroup",
        dest_group: String = "destGroup",
        topic: Option<String> = "topic",
        offline: bool = "offline",
    }

    /// VIEW_BROKER_STATS_DATA (315).
    pub struct ViewBrokerStatsHeader {
        stats_name: String = "statsName",
        stats_key: String = "statsKey",
    }

    /// GET_BROKER_CONSUME_STATS (317).
    pub struct GetBrokerConsumeStatsHeader {
        is_order: bool = "isOrder",
    }

    /// QUERY_CONSUME_QUEUE (321).
    pub struct QueryConsumeQueueHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        index: i64 = "index",
        count: i32 = "count",
        consumer_group: Option<String> = "consumerGroup",
    }

    /// RESUME_CHECK_HALF_MESSAGE (323).
    pub struct ResumeCheckHalfMessageHeader {
        topic: Option<String> = "topic",
        msg_id: Option<String> = "msgId",
    }

    /// QUERY_TOPICS_BY_CONSUMER (343).
    pub struct QueryTopicsByConsumerHeader {
        group: String = "group",
    }

    /// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    pub struct QuerySubscriptionByConsumerHeader {
        group: String = "group",
        topic: Option<String> = "topic",
    }

    /// GET_TOPIC_CONFIG (351).
    pub struct GetTopicConfigHeader {
        topic: String = "topic",
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG (352).
    pub struct GetSubscriptionGroupConfigHeader {
        group: String = "group",
    }

    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    pub struct UpdateGroupForbiddenHeader {
        group: String = "group",
        topic: String = "topic",
        readable: Option<bool> = "readable",
    }
}
