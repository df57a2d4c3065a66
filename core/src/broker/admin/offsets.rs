//! Offsets moved by operators: back or forth in time (222), or from one group to another (314).

use std::collections::BTreeMap;
use std::ops::Range;

use crate::remoting::body::{MessageQueue, ResetOffsetBody};
use crate::remoting::codes::{request as codes, response};
use crate::remoting::headers::{CloneGroupOffsetHeader, ResetOffsetHeader};
use crate::remoting::{LanguageCode, RemotingCommand, V5_0_0};
use crate::runtime::Runtime;
use crate::store::Boundary;

use super::super::client_table::{Kind, Member};
use super::super::refusal::{Refusal, of_batches, unsearched};
use super::clients::RESETTABLE_FROM;
use super::{AdminRequests, Result, done, no_topic};

impl<R: Runtime> AdminRequests<R> {
    /// Moves a group on a topic. Who decides differs: a tool of 4.9 has the group's clients go there and commit it; one of 5.x,
    /// and who names one queue and its offset, has it set here, whether or not somebody of the group is online.
    pub(super) async fn reset_offset(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: ResetOffsetHeader = request.header()?;
        let config = self.topics.get(&header.topic).ok_or_else(|| no_topic(&header.topic))?;
        let queue_id = header.queue_id.filter(|queue| *queue >= 0);
        let named = queue_id.is_some() && header.offset.is_some_and(|offset| offset >= 0);
        let set_here = request.version >= V5_0_0 || named;
        let count = if set_here { config.read_queue_nums } else { config.write_queue_nums };
        if let Some(queue) = queue_id.filter(|queue| *queue >= count) {
            let remark = format!("queueId[{queue}] is illegal, topic:[{}]", header.topic);
            return Err(Refusal::new(response::INVALID_PARAMETER, remark));
        }
        let queues = queue_id.map_or(0..count, |queue| queue..queue + 1);
        if self.store.is_of_batches(&header.topic) {
            return Err(of_batches(&header.topic));
        }
        let body = match set_here {
            true => self.reset_here(&header, queues).await?,
            false => self.reset_by_clients(&header, queues).await?,
        };
        // A map, in whatever language it was asked for: the list form is for clients.
        Ok(done().with_body(body.to_json()))
    }

    /// # Source
    /// apache/rocketmq 5.3, `AdminBrokerProcessor#resetOffsetInner`. The next pull of each queue is answered with its new offset,
    /// and what consumers commit before is not taken. A push client that is online is told beside: it moves at once.
    async fn reset_here(&self, header: &ResetOffsetHeader, queues: Range<i32>) -> Result<ResetOffsetBody> {
        let (topic, group) = (&header.topic, &header.group);
        if self.is_slave {
            return Err(Refusal::new(response::SYSTEM_ERROR, "Can not reset offset in slave broker"));
        }
        if self.groups.get(group).is_none() {
            let remark = format!("Group {group} does not exist");
            return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        let mut offset_table = BTreeMap::new();
        for queue in queues {
            offset_table.insert(self.queue(topic, queue), self.reset_target(header, queue).await?);
        }
        for (MessageQueue { queue_id, .. }, offset) in &offset_table {
            let max = self.store.max_offset(topic, *queue_id);
            self.offsets.reset(topic, group, *queue_id, *offset, max);
        }
        let body = ResetOffsetBody { offset_table };
        let mut members = self.clients.members(Kind::Consumer, group);
        members.retain(|member| member.version >= RESETTABLE_FROM);
        tell(members, header, &body);
        Ok(body)
    }

    /// Without `isForce` no offset moves forth.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `Broker2Client#resetOffset`.
    async fn reset_by_clients(
        &self,
        header: &ResetOffsetHeader,
        queues: Range<i32>,
    ) -> Result<ResetOffsetBody> {
        let (topic, group) = (&header.topic, &header.group);
        let mut offset_table = BTreeMap::new();
        for queue in queues {
            let Some(committed) = self.offsets.get(topic, group, queue) else {
                let remark = format!("THe consumer group <{group}> not exist");
                return Err(Refusal::new(response::SYSTEM_ERROR, remark));
            };
            let wanted = self.reset_target(header, queue).await?;
            let target = if header.is_force || wanted < committed { wanted } else { committed };
            offset_table.insert(self.queue(topic, queue), target);
        }
        let body = ResetOffsetBody { offset_table };
        let members = self.clients.members(Kind::Consumer, group);
        if members.is_empty() {
            let remark = format!(
                "Consumer not online, so can not reset offset. Group: {group} Topic: {topic} Timestamp: {}",
                header.timestamp
            );
            return Err(Refusal::new(response::CONSUMER_NOT_ONLINE, remark));
        }
        if let Some(old) = members.iter().find(|member| member.version < RESETTABLE_FROM) {
            let remark = format!(
                "the client {} has version {}, {RESETTABLE_FROM} is needed to reset its offset",
                old.client_id, old.version
            );
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        }
        tell(members, header, &body);
        Ok(body)
    }

    async fn reset_target(&self, header: &ResetOffsetHeader, queue: i32) -> Result<i64> {
        let topic = &header.topic;
        let (min, max) = (self.store.min_offset(topic, queue), self.store.max_offset(topic, queue));
        if let Some(offset) = header.offset.filter(|offset| *offset >= 0) {
            if !(min..=max).contains(&offset) {
                let remark = format!(
                    "queue {queue} of {topic}: expected an offset from {min} to {max}, found {offset}"
                );
                return Err(Refusal::new(response::SYSTEM_ERROR, remark));
            }
            return Ok(offset);
        }
        Ok(match header.timestamp {
            -1 => max,
            ms => {
                let found = self.store.offset_by_time(topic, queue, ms, Boundary::Lower).await;
                found.map_err(|error| unsearched(topic, queue, &error))?
            }
        })
    }

    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#cloneGroupOffset`.
    pub(super) fn clone_offset(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: CloneGroupOffsetHeader = request.header()?;
        let topics = match header.topic {
            Some(topic) => vec![topic],
            None => self.offsets.topics_of(&header.src_group),
        };
        let subscribed = self.clients.consumption(&header.src_group).map(|(_, subscriptions)| subscriptions);
        let subscribed = subscribed.filter(|all| !header.offline && !all.is_empty());
        for topic in topics {
            let wanted = subscribed.as_ref().is_none_or(|all| all.iter().any(|data| data.topic == topic));
            if wanted && self.topics.contains(&topic) {
                self.offsets.copy(&topic, &header.src_group, &header.dest_group);
            }
        }
        Ok(done())
    }
}

/// Tells members where to go on, each in the form that its language reads.
fn tell(members: Vec<Member>, header: &ResetOffsetHeader, body: &ResetOffsetBody) {
    for member in members {
        let told = match member.language {
            LanguageCode::CPP => body.to_cpp_json(),
            _ => body.to_json(),
        };
        let notice = RemotingCommand::request(codes::RESET_CONSUMER_CLIENT_OFFSET);
        let notice = notice.with_header(header).with_body(told);
        if let Err(error) = member.connection.send_oneway(notice) {
            tracing::warn!(client = member.client_id, %error, "tell a client to reset its offset");
        }
    }
}
