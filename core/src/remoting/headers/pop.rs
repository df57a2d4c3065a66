//! The POP family of 5.x.

use super::typed_header;

typed_header! {
    /// POP_MESSAGE (200050).
    pub struct PopMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        /// -1 for any.
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        /// In ms.
        invisible_time: i64 = "invisibleTime",
        /// How long it may be held, in ms.
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        /// 0 begins at the minimum, 1 at the maximum.
        init_mode: i32 = "initMode",
        exp_type: Option<String> = "expType",
        exp: Option<String> = "exp",
        order: bool = "order",
        attempt_id: Option<String> = "attemptId",
    }

    /// The answer to POP_MESSAGE and PEEK_MESSAGE.
    pub struct PopMessageResponse {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum",
        start_offset_info: Option<String> = "startOffsetInfo",
        msg_offset_info: Option<String> = "msgOffsetInfo",
        order_count_info: Option<String> = "orderCountInfo",
    }

    /// ACK_MESSAGE (200051).
    pub struct AckMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
    }

    /// CHANGE_MESSAGE_INVISIBLETIME (200053).
    pub struct ChangeInvisibleTimeHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        invisible_time: i64 = "invisibleTime",
    }

    /// The answer to CHANGE_MESSAGE_INVISIBLETIME.
    pub struct ChangeInvisibleTimeResponse {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
    }
}
