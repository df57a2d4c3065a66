//! Committed offsets and the ends of queues.

use super::{Boundary, typed_header};

typed_header! {
    /// QUERY_CONSUMER_OFFSET (14).
    pub struct QueryConsumerOffsetHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        /// Absent is true: a queue that is still whole answers 0.
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }

    /// UPDATE_CONSUMER_OFFSET (15).
    pub struct UpdateConsumerOffsetHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        commit_offset: i64 = "commitOffset",
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    pub struct SearchOffsetHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        /// In ms since 1970.
        timestamp: i64 = "timestamp",
        boundary: Boundary = "boundaryType",
    }

    /// GET_MAX_OFFSET (30).
    pub struct GetMaxOffsetHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        /// Absent is true.
        committed: Option<bool> = "committed",
    }

    /// GET_MIN_OFFSET (31).
    pub struct GetMinOffsetHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }

    /// The answer to 14, 29, 30 and 31.
    pub struct OffsetResponse {
        /// A queue offset; that of GET_MAX_OFFSET is the next to be written.
        offset: i64 = "offset",
    }

    /// GET_EARLIEST_MSG_STORETIME (32).
    pub struct GetEarliestStoreTimeHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }

    /// The answer to GET_EARLIEST_MSG_STORETIME.
    pub struct StoreTimeResponse {
        /// In ms since 1970, -1 if the queue is empty.
        timestamp: i64 = "timestamp",
    }
}
