//! What operators ask most: how full the queues of a topic are (202), and how far a group is on them (208).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{ConsumeStats, MessageQueue, OffsetWrapper, TopicOffset, TopicStatsTable};
use crate::remoting::codes::response;
use crate::remoting::headers::{GetConsumeStatsHeader, GetTopicStatsHeader};
use crate::runtime::Runtime;
use crate::store::MessageStore;

use super::client_table::ClientTable;
use super::committed_offsets::CommittedOffsets;
use super::counts::Counts;
use super::refusal::{Refusal, answer};
use super::topic_config::Topics;

type Result<T> = std::result::Result<T, Refusal>;

pub(crate) struct StatsRequests<R: Runtime> {
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub clients: Arc<ClientTable>,
    pub offsets: Arc<CommittedOffsets>,
    pub broker_name: String,
    pub counts: Arc<Counts>,
}

impl<R: Runtime> StatsRequests<R> {
    pub async fn topic(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let GetTopicStatsHeader { topic } = request.header()?;
        let Some(config) = self.topics.get(&topic) else {
            return Err(Refusal::new(response::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
        };
        let mut offset_table = BTreeMap::new();
        for queue in 0..config.read_queue_nums.max(config.write_queue_nums) {
            let (min_offset, max_offset) = self.ends(&topic, queue);
            let last_update_timestamp = self.stored_before(&topic, queue, max_offset).await;
            let offset = TopicOffset { last_update_timestamp, max_offset, min_offset };
            offset_table.insert(self.queue(&topic, queue), offset);
        }
        let body = TopicStatsTable { offset_table, topic_put_tps: Some(self.counts.put_tps(&topic)) };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    /// # Source
    /// Broker semantics 25. Of a group that is online, only what it subscribes to.
    pub async fn group(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetConsumeStatsHeader = request.header()?;
        let group = &header.consumer_group;
        let subscribed = self.clients.consumption(group).map(|(_, subscriptions)| subscriptions);
        let subscribed = subscribed.filter(|subscriptions| !subscriptions.is_empty());
        let (mut offset_table, mut tps) = (BTreeMap::new(), 0.0);
        for topic in self.topics_of(&header) {
            let Some(config) = self.topics.get(&topic) else { continue };
            let wanted = |subscriptions: &Vec<_>| has_topic(subscriptions, &topic);
            if !subscribed.as_ref().is_none_or(wanted) {
                continue;
            }
            tps += self.counts.consume_tps(&topic, group);
            for queue in 0..config.read_queue_nums {
                let (_, broker_offset) = self.ends(&topic, queue);
                let consumer_offset = self.offsets.get(&topic, group, queue).unwrap_or(0);
                let last_timestamp = self.stored_before(&topic, queue, consumer_offset).await;
                // What a client has pulled and not committed is not known here.
                let pull_offset = consumer_offset;
                let offsets = OffsetWrapper { broker_offset, consumer_offset, last_timestamp, pull_offset };
                offset_table.insert(self.queue(&topic, queue), offsets);
            }
        }
        let body = ConsumeStats { consume_tps: Some(tps), offset_table };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    /// The topics that are asked about: those named, else those on which the group has committed offsets.
    fn topics_of(&self, header: &GetConsumeStatsHeader) -> BTreeSet<String> {
        let named = header.topic.iter().map(String::as_str);
        let listed = header.topic_list.iter().flat_map(|topics| topics.split(';'));
        let named: BTreeSet<String> =
            named.chain(listed).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if !named.is_empty() {
            return named;
        }
        let (all, _) = self.offsets.snapshot();
        let of_group = all.into_keys().filter_map(|key| {
            let (topic, group) = key.split_once('@')?;
            (group == header.consumer_group).then(|| topic.to_owned())
        });
        of_group.collect()
    }

    fn queue(&self, topic: &str, queue_id: i32) -> MessageQueue {
        MessageQueue { broker_name: self.broker_name.clone(), queue_id, topic: topic.to_owned() }
    }

    fn ends(&self, topic: &str, queue: i32) -> (i64, i64) {
        (self.store.min_offset(topic, queue).max(0), self.store.max_offset(topic, queue).max(0))
    }

    /// When the message before `offset` was stored, in ms since 1970; 0 when there is none.
    async fn stored_before(&self, topic: &str, queue: i32, offset: i64) -> i64 {
        match offset.checked_sub(1).filter(|last| *last >= 0) {
            Some(last) => self.store.store_time(topic, queue, last).await.unwrap_or(0),
            None => 0,
        }
    }
}

fn has_topic(subscriptions: &[crate::remoting::body::SubscriptionData], topic: &str) -> bool {
    subscriptions.iter().any(|data| data.topic == topic)
}
