//! What operators' tools ask a broker beyond its topics, groups and the ends of queues.
//!
//! `settings` shows and changes settings (25, 26), `runtime_info` says how the broker is (28), `consumption` who consumes what
//! and how far (300, 303, 317, 321, 328, 343, 345), `offsets` moves offsets (222, 314), `clients` asks a consumer through the
//! broker (223, 307, 309), `removal` takes things away (207, 215, 306, 316, 329), `half_messages` has a half message asked
//! about once more (323).
//!
//! Each runs beside its connection: some wait for a client, a file or the disk.

mod clients;
mod consumption;
mod half_messages;
mod offsets;
mod removal;
mod runtime_info;
mod settings;

use std::sync::Arc;

use crate::remoting::RemotingCommand;
use crate::remoting::body::MessageQueue;
use crate::remoting::codes::{request as codes, response};
use crate::runtime::{Mono, Runtime};
use crate::store::MessageStore;

use super::client_table::ClientTable;
use super::committed_offsets::CommittedOffsets;
use super::consumer_filters::ConsumerFilters;
use super::counts::Counts;
use super::offset_file::OffsetFile;
use super::refusal::{Refusal, answer};
use super::schedule::Schedule;
use super::send_message::SendMessage;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::Topics;

pub(crate) use settings::{Changeable, Places, Settings};

type Result<T> = std::result::Result<T, Refusal>;

pub(crate) struct AdminRequests<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub clients: Arc<ClientTable>,
    pub filters: Arc<ConsumerFilters<R>>,
    pub offsets: Arc<CommittedOffsets>,
    pub offset_file: Arc<OffsetFile<R>>,
    pub schedule: Arc<Schedule<R>>,
    pub sends: Arc<SendMessage<R>>,
    pub counts: Arc<Counts>,
    pub settings: Settings<R>,
    pub broker_name: String,
    pub is_slave: bool,
    /// When the broker began, by the wall clock and by the other one.
    pub began: (i64, Mono),
}

/// Whether a request is one of these.
pub(crate) fn is_admin(code: i32) -> bool {
    matches!(
        code,
        codes::UPDATE_BROKER_CONFIG
            | codes::GET_BROKER_CONFIG
            | codes::GET_BROKER_RUNTIME_INFO
            | codes::DELETE_SUBSCRIPTIONGROUP
            | codes::DELETE_TOPIC_IN_BROKER
            | codes::INVOKE_BROKER_TO_RESET_OFFSET
            | codes::INVOKE_BROKER_TO_GET_CONSUMER_STATUS
            | codes::QUERY_TOPIC_CONSUME_BY_WHO
            | codes::QUERY_CONSUME_TIME_SPAN
            | codes::CLEAN_EXPIRED_CONSUMEQUEUE
            | codes::GET_CONSUMER_RUNNING_INFO
            | codes::CONSUME_MESSAGE_DIRECTLY
            | codes::CLONE_GROUP_OFFSET
            | codes::VIEW_BROKER_STATS_DATA
            | codes::CLEAN_UNUSED_TOPIC
            | codes::GET_BROKER_CONSUME_STATS
            | codes::QUERY_CONSUME_QUEUE
            | codes::RESUME_CHECK_HALF_MESSAGE
            | codes::GET_ALL_PRODUCER_INFO
            | codes::DELETE_EXPIRED_COMMITLOG
            | codes::QUERY_TOPICS_BY_CONSUMER
            | codes::QUERY_SUBSCRIPTION_BY_CONSUMER
    )
}

impl<R: Runtime> AdminRequests<R> {
    pub async fn dispatch(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        match request.code {
            codes::UPDATE_BROKER_CONFIG => self.update_config(request).await,
            codes::GET_BROKER_CONFIG => Ok(self.config()),
            codes::GET_BROKER_RUNTIME_INFO => Ok(self.runtime_info().await),
            codes::DELETE_SUBSCRIPTIONGROUP => self.delete_group(request).await,
            codes::DELETE_TOPIC_IN_BROKER => self.delete_topic(request).await,
            codes::INVOKE_BROKER_TO_RESET_OFFSET => self.reset_offset(request).await,
            codes::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => self.consumer_status(request).await,
            codes::QUERY_TOPIC_CONSUME_BY_WHO => self.groups_of_topic(request),
            codes::QUERY_CONSUME_TIME_SPAN => self.time_span(request).await,
            codes::CLEAN_EXPIRED_CONSUMEQUEUE => Ok(self.clean_queues()),
            codes::GET_CONSUMER_RUNNING_INFO => self.running_info(request).await,
            codes::CONSUME_MESSAGE_DIRECTLY => self.consume_directly(request).await,
            codes::CLONE_GROUP_OFFSET => self.clone_offset(request),
            codes::VIEW_BROKER_STATS_DATA => self.stats_data(request),
            codes::CLEAN_UNUSED_TOPIC => self.clean_unused().await,
            codes::GET_BROKER_CONSUME_STATS => self.all_consume_stats(request).await,
            codes::QUERY_CONSUME_QUEUE => self.queue_entries(request).await,
            codes::RESUME_CHECK_HALF_MESSAGE => self.resume_check(request).await,
            codes::GET_ALL_PRODUCER_INFO => Ok(self.producers()),
            codes::DELETE_EXPIRED_COMMITLOG => Ok(self.delete_expired()),
            codes::QUERY_TOPICS_BY_CONSUMER => self.topics_of_group(request),
            codes::QUERY_SUBSCRIPTION_BY_CONSUMER => self.subscription(request),
            code => {
                let remark = format!(" request type {code} not supported");
                Err(Refusal::new(response::REQUEST_CODE_NOT_SUPPORTED, remark))
            }
        }
    }

    fn queue(&self, topic: &str, queue_id: i32) -> MessageQueue {
        MessageQueue { broker_name: self.broker_name.clone(), queue_id, topic: topic.to_owned() }
    }

    /// When the message at `offset` was stored, in ms since 1970; `None` when there is none.
    async fn store_time(&self, topic: &str, queue: i32, offset: i64) -> Option<i64> {
        if offset < 0 { None } else { self.store.store_time(topic, queue, offset).await }
    }
}

fn done() -> RemotingCommand {
    answer(response::SUCCESS)
}

fn no_topic(topic: &str) -> Refusal {
    Refusal::new(response::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
}
