//! Who consumes what, and how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    ConsumeQueueData, ConsumeStats, ConsumeStatsList, GroupList, OffsetWrapper, ProducerInfo,
    ProducerTableInfo, QueryConsumeQueueBody, QueryConsumeTimeSpanBody, QuerySubscriptionBody, QueueTimeSpan,
    TopicConfig, TopicList,
};
use crate::remoting::codes::response;
use crate::remoting::headers::{
    GetBrokerConsumeStatsHeader, QueryConsumeQueueHeader, QueryConsumeTimeSpanHeader,
    QuerySubscriptionByConsumerHeader, QueryTopicConsumeByWhoHeader, QueryTopicsByConsumerHeader,
    ViewBrokerStatsHeader,
};
use crate::runtime::Runtime;

use super::super::filter::is_tag_type;
use super::super::refusal::Refusal;
use super::{AdminRequests, Result, done, no_topic};

/// Entries of a queue that are shown at once, at most.
const ENTRIES_MAX: i32 = 800;

impl<R: Runtime> AdminRequests<R> {
    /// The groups that subscribe to a topic or have committed offsets on it.
    pub(super) fn groups_of_topic(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let QueryTopicConsumeByWhoHeader { topic } = request.header()?;
        let mut groups: BTreeSet<String> = self.clients.groups_of_topic(&topic).into_iter().collect();
        groups.extend(self.offsets.groups_of(&topic));
        let body = GroupList { group_list: groups.into_iter().collect() };
        Ok(done().with_body(body.to_json()))
    }

    /// The topics on which a group has committed offsets.
    pub(super) fn topics_of_group(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let QueryTopicsByConsumerHeader { group } = request.header()?;
        let topic_list = self.offsets.topics_of(&group);
        Ok(done().with_body(TopicList { broker_addr: None, topic_list }.to_json()))
    }

    pub(super) fn subscription(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let QuerySubscriptionByConsumerHeader { group, topic } = request.header()?;
        let topic = topic.unwrap_or_default();
        let live = self.clients.live_group(&group, &topic).and_then(|live| live.subscription);
        let subscription_data = live.map(|subscription| subscription.data.clone());
        Ok(done().with_body(QuerySubscriptionBody { group, subscription_data, topic }.to_json()))
    }

    pub(super) fn producers(&self) -> RemotingCommand {
        let now = self.rt.now();
        let now_ms = self.rt.wall_ms();
        let mut data = BTreeMap::new();
        for (group, members) in self.clients.producers() {
            let members = members.into_iter().map(|member| {
                let silent_ms =
                    i64::try_from(now.since(member.last_heartbeat).as_millis()).unwrap_or(i64::MAX);
                ProducerInfo {
                    client_id: member.client_id,
                    language: member.language,
                    last_update_timestamp: now_ms.saturating_sub(silent_ms),
                    // As Java writes an address that nobody has looked up.
                    remote_ip: format!("/{}", member.connection.peer()),
                    version: member.version,
                }
            });
            data.insert(group, members.collect());
        }
        done().with_body(ProducerTableInfo { data }.to_json())
    }

    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#queryConsumeTimeSpan`.
    pub(super) async fn time_span(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let QueryConsumeTimeSpanHeader { topic, group } = request.header()?;
        let config = self.topics.get(&topic).ok_or_else(|| no_topic(&topic))?;
        let mut consume_time_span_set = Vec::new();
        for queue in 0..config.write_queue_nums {
            let (min, max) = (self.store.min_offset(&topic, queue), self.store.max_offset(&topic, queue));
            let time = |offset| self.store_time(&topic, queue, offset);
            let min_time_stamp = time(min).await.unwrap_or(-1);
            let max_time_stamp = time(max - 1).await.unwrap_or(-1);
            let consumed = self.offsets.get(&topic, &group, queue).unwrap_or(-1);
            let consume_time_stamp =
                if consumed > 0 { time(consumed - 1).await.unwrap_or(-1) } else { min_time_stamp };
            let next = if consumed < max { time(consumed.max(min)).await } else { None };
            let delay_time = next.map_or(0, |next| self.rt.wall_ms().saturating_sub(next));
            consume_time_span_set.push(QueueTimeSpan {
                consume_time_stamp,
                delay_time,
                max_time_stamp,
                message_queue: self.queue(&topic, queue),
                min_time_stamp,
            });
        }
        Ok(done().with_body(QueryConsumeTimeSpanBody { consume_time_span_set }.to_json()))
    }

    /// Asked for ordered topics it tells of those only, else of all.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#fetchAllConsumeStatsInBroker`.
    pub(super) async fn all_consume_stats(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let GetBrokerConsumeStatsHeader { is_order } = request.header()?;
        let mut list = ConsumeStatsList { broker_addr: self.settings.address(), ..Default::default() };
        for group in self.groups.names() {
            let subscribed = self.clients.consumption(&group).map(|(_, subscriptions)| subscriptions);
            let subscribed = subscribed.filter(|subscriptions| !subscriptions.is_empty());
            let mut of_group = Vec::new();
            for topic in self.offsets.topics_of(&group) {
                let asked_for = |config: &Arc<TopicConfig>| config.order || !is_order;
                let Some(config) = self.topics.get(&topic).filter(asked_for) else { continue };
                if subscribed.as_ref().is_some_and(|all| all.iter().all(|data| data.topic != topic)) {
                    continue;
                }
                let mut offset_table = BTreeMap::new();
                for queue in 0..config.write_queue_nums {
                    let broker_offset = self.store.max_offset(&topic, queue).max(0);
                    let consumer_offset = self.offsets.get(&topic, &group, queue).unwrap_or(0);
                    let last_timestamp =
                        self.store_time(&topic, queue, consumer_offset - 1).await.unwrap_or(0);
                    list.total_diff += broker_offset - consumer_offset;
                    let pull_offset = consumer_offset;
                    let offsets =
                        OffsetWrapper { broker_offset, consumer_offset, last_timestamp, pull_offset };
                    offset_table.insert(self.queue(&topic, queue), offsets);
                }
                let consume_tps = Some(self.counts.consume_tps(&topic, &group));
                of_group.push(ConsumeStats { consume_tps, offset_table });
            }
            if !of_group.is_empty() {
                list.consume_stats_list.push(BTreeMap::from([(group, of_group)]));
            }
        }
        Ok(done().with_body(list.to_json()))
    }

    pub(super) fn stats_data(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let ViewBrokerStatsHeader { stats_name, stats_key } = request.header()?;
        let body = self.counts.view(&stats_name, &stats_key).ok_or_else(|| {
            let remark = format!("The stats <{stats_name}> <{stats_key}> not exist");
            Refusal::new(response::SYSTEM_ERROR, remark)
        })?;
        Ok(done().with_body(body.to_json()))
    }

    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#queryConsumeQueue`.
    pub(super) async fn queue_entries(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: QueryConsumeQueueHeader = request.header()?;
        let (topic, queue) = (&header.topic, header.queue_id);
        if !self.store.has_queue(topic, queue) {
            let remark = format!("{queue}@{topic} is not exist!");
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        }
        let mut body = QueryConsumeQueueBody {
            max_queue_index: self.store.max_offset(topic, queue),
            min_queue_index: self.store.min_offset(topic, queue),
            ..Default::default()
        };
        let live = header.consumer_group.as_deref().and_then(|group| self.clients.live_group(group, topic));
        let subscription = live.and_then(|live| live.subscription);
        let by_sql = subscription.as_ref().filter(|known| !is_tag_type(Some(&known.data.expression_type)));
        if let (Some(_), Some(group)) = (by_sql, header.consumer_group.as_deref()) {
            body.filter_data = self.filters.describe(topic, group);
        }
        body.subscription_data = subscription.as_ref().map(|known| known.data.clone());
        let count = usize::try_from(header.count.clamp(0, ENTRIES_MAX)).unwrap_or(0);
        let entries = self.store.entries(topic, queue, header.index, count).await;
        let entries = entries.unwrap_or_default();
        if entries.is_empty() {
            let remark = format!("Index {} of {queue}@{topic} is not exist!", header.index);
            return Ok(done().with_remark(remark).with_body(body.to_json()));
        }
        body.queue_data = entries
            .iter()
            .map(|entry| ConsumeQueueData {
                // An expression over properties is not asked: the entry alone does not say.
                eval: subscription
                    .as_ref()
                    .is_some_and(|known| by_sql.is_some() || known.filter.matches(entry.tags_code)),
                physic_offset: i64::try_from(entry.physical_offset).unwrap_or(i64::MAX),
                physic_size: i32::try_from(entry.size).unwrap_or(i32::MAX),
                tags_code: entry.tags_code,
            })
            .collect();
        Ok(done().with_body(body.to_json()))
    }
}
