//! Which queues a broker gives a member of a group, where members leave that to brokers.

use super::{MessageModel, MessageQueue, json_body, json_enum, lenient};
use serde::{Deserialize, Serialize};

json_enum! {
    /// How a group gets its messages.
    pub enum MessageRequestMode {
        #[default]
        Pull = "PULL",
        Pop = "POP",
    }
}

/// QUERY_ASSIGNMENT (400).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryAssignmentRequestBody {
    #[serde(deserialize_with = "lenient::text")]
    pub client_id: String,
    #[serde(deserialize_with = "lenient::text")]
    pub consumer_group: String,
    #[serde(default)]
    pub message_model: MessageModel,
    #[serde(default, deserialize_with = "lenient::text")]
    pub strategy_name: String,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

/// One queue that a member has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueueAssignment {
    pub message_queue: MessageQueue,
    #[serde(default)]
    pub mode: MessageRequestMode,
}

/// The answer to QUERY_ASSIGNMENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryAssignmentResponseBody {
    /// Absent when it is not known: the member keeps what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_queue_assignments: Option<Vec<MessageQueueAssignment>>,
}

/// SET_MESSAGE_REQUEST_MODE (401).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetMessageRequestModeRequestBody {
    #[serde(deserialize_with = "lenient::text")]
    pub consumer_group: String,
    #[serde(default)]
    pub mode: MessageRequestMode,
    #[serde(default, deserialize_with = "lenient::int")]
    pub pop_share_queue_num: i32,
    #[serde(deserialize_with = "lenient::text")]
    pub topic: String,
}

json_body!(QueryAssignmentRequestBody, QueryAssignmentResponseBody, SetMessageRequestModeRequestBody,);
