//! Requests about offsets: what groups have committed (14, 15, 43, 308), and where queues begin and end (29 to 32).

use std::sync::Arc;

use crate::remoting::body::{ConsumerOffsetWrapper, DataVersion, QueryCorrectionOffsetBody};
use crate::remoting::codes::response;
use crate::remoting::headers::{
    self, GetEarliestStoreTimeHeader, GetMaxOffsetHeader, GetMinOffsetHeader, OffsetResponse,
    QueryConsumerOffsetHeader, QueryCorrectionOffsetHeader, SearchOffsetHeader, StoreTimeResponse,
    UpdateConsumerOffsetHeader,
};
use crate::remoting::{RemotingCommand, V5_0_0};
use crate::runtime::{Mutant, Runtime};
use crate::store::{Boundary, GetStatus, MessageStore};

use super::committed_offsets::{CommittedOffsets, QueueOffsets};
use super::names;
use super::offset_file::probe_commit;
use super::refusal::{Refusal, answer, unsearched};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::Topics;

type Result<T> = std::result::Result<T, Refusal>;

pub(crate) struct OffsetRequests<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub offsets: Arc<CommittedOffsets>,
}

fn offset_answer(offset: i64) -> RemotingCommand {
    answer(response::SUCCESS).with_header(&OffsetResponse { offset })
}

/// What a table of offsets is told to be the version of. A slave of Java 5.x needs one: without it, it does not write what it
/// has copied.
pub(crate) fn table_version(changes: u64, now_ms: i64) -> DataVersion {
    let counter = i64::try_from(changes).unwrap_or(i64::MAX);
    DataVersion { counter, state_version: 0, timestamp: now_ms }
}

impl<R: Runtime> OffsetRequests<R> {
    /// # Source
    /// Broker semantics 16. A queue that still begins at 0 and lies within memory answers 0, so that a new group on a
    /// young topic consumes all of it, whatever its own policy.
    pub async fn query(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: QueryConsumerOffsetHeader = request.header()?;
        let (topic, queue) = (&header.topic, header.queue_id);
        if let Some(offset) = self.offsets.get(topic, &header.consumer_group, queue)
            && !self.rt.mutant(Mutant::CommittedNotFound)
        {
            return Ok(offset_answer(offset));
        }
        if header.set_zero_if_not_found != Some(false) && self.is_whole_and_near(topic, queue).await {
            return Ok(offset_answer(0));
        }
        Err(Refusal::new(
            response::QUERY_NOT_FOUND,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        ))
    }

    async fn is_whole_and_near(&self, topic: &str, queue: i32) -> bool {
        if self.store.min_offset(topic, queue) > 0 {
            return false;
        }
        let first = self.store.get(topic, queue, 0, 1, &|_| true).await;
        match first.status {
            GetStatus::Found => !first.suggest_slave,
            GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue | GetStatus::OffsetOverflowOne => {
                true
            }
            _ => false,
        }
    }

    pub fn update(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: UpdateConsumerOffsetHeader = request.header()?;
        let (topic, group) = (&header.topic, &header.consumer_group);
        if !self.may_commit(group, request.version) {
            let remark = format!("Group {group} not exist!");
            return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        let Some(config) = self.topics.get(topic) else {
            return Err(Refusal::new(response::TOPIC_NOT_EXIST, format!("Topic {topic} not exist!")));
        };
        let max = self.store.committable(topic, header.queue_id);
        // A topic that has shrunk still has its old queues. Others would let anybody fill the table.
        let queues = config.read_queue_nums.max(config.write_queue_nums);
        if max == 0 && !(0..queues).contains(&header.queue_id) {
            let remark = format!("queueId[{}] is illegal, topic:[{topic}]", header.queue_id);
            return Err(Refusal::new(response::INVALID_PARAMETER, remark));
        }
        let max = if self.rt.mutant(Mutant::CommitUncut) { i64::MAX } else { max };
        if let Some(kept) = self.offsets.commit(topic, group, header.queue_id, header.commit_offset, max) {
            probe_commit(&self.rt, (topic, group, header.queue_id), kept);
        }
        Ok(answer(response::SUCCESS))
    }

    /// Whether a caller of this version may commit offsets of `group`, which is not made by that: up to 4.9 it need not be there.
    ///
    /// # Source
    /// apache/rocketmq 5.4, `ConsumerManageProcessor#updateConsumerOffset`; there a pull makes the group on a slave too.
    fn may_commit(&self, group: &str, version: i32) -> bool {
        match version >= V5_0_0 {
            true => self.groups.is_served(group),
            false => names::check_group(group).is_ok(),
        }
    }

    pub fn all(&self) -> RemotingCommand {
        let (offset_table, changes) = self.offsets.snapshot();
        let version = table_version(changes, self.rt.wall_ms());
        let body = ConsumerOffsetWrapper { data_version: Some(version), offset_table };
        answer(response::SUCCESS).with_body(body.to_json())
    }

    /// The smallest offset that some group has committed on each queue, of those that still are in the queue; without a limit
    /// where the group to compare with is behind it.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `ConsumerOffsetManager#queryMinOffsetInAllGroup`, but for the groups that do not count: there
    /// their offsets are deleted.
    pub fn correction(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: QueryCorrectionOffsetHeader = request.header()?;
        let left_out: Vec<&str> = header.filter_groups.iter().flat_map(|groups| groups.split(',')).collect();
        let committed = self.offsets.on_topic(&header.topic);
        let mut correction_offsets = QueueOffsets::new();
        for (_, queues) in committed.iter().filter(|(group, _)| !left_out.contains(&group.as_str())) {
            for (queue, offset) in queues {
                if *offset >= self.store.min_offset(&header.topic, *queue) {
                    let smallest = correction_offsets.entry(*queue).or_insert(*offset);
                    *smallest = (*smallest).min(*offset);
                }
            }
        }
        for (queue, offset) in committed.get(&header.compare_group).into_iter().flatten() {
            if let Some(correction) = correction_offsets.get_mut(queue).filter(|known| **known > *offset) {
                *correction = i64::MAX;
            }
        }
        let body = QueryCorrectionOffsetBody { correction_offsets };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    pub fn max(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetMaxOffsetHeader = request.header()?;
        if self.rt.mutant(Mutant::EndToldAsBegin) {
            return Ok(offset_answer(self.store.min_offset(&header.topic, header.queue_id).max(0)));
        }
        Ok(offset_answer(self.store.max_offset(&header.topic, header.queue_id).max(0)))
    }

    pub fn min(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetMinOffsetHeader = request.header()?;
        Ok(offset_answer(self.store.min_offset(&header.topic, header.queue_id).max(0)))
    }

    pub async fn by_time(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: SearchOffsetHeader = request.header()?;
        let boundary = match header.boundary {
            headers::Boundary::Lower => Boundary::Lower,
            headers::Boundary::Upper => Boundary::Upper,
        };
        let (topic, queue) = (&header.topic, header.queue_id);
        let found = self.store.offset_by_time(topic, queue, header.timestamp, boundary).await;
        Ok(offset_answer(found.map_err(|error| unsearched(topic, queue, &error))?))
    }

    pub async fn earliest_store_time(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetEarliestStoreTimeHeader = request.header()?;
        let (topic, queue) = (&header.topic, header.queue_id);
        let min = self.store.min_offset(topic, queue);
        let timestamp = self.store.store_time(topic, queue, min).await.unwrap_or(-1);
        Ok(answer(response::SUCCESS).with_header(&StoreTimeResponse { timestamp }))
    }
}
