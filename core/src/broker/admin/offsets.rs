//! Offsets moved by operators: back or forth in time (222), or from one group to another (314).

use std::collections::BTreeMap;

use crate::remoting::body::ResetOffsetBody;
use crate::remoting::codes::{request as codes, response};
use crate::remoting::headers::{CloneGroupOffsetHeader, ResetOffsetHeader};
use crate::remoting::{LanguageCode, RemotingCommand};
use crate::runtime::Runtime;
use crate::store::Boundary;

use super::super::client_table::Kind;
use super::super::refusal::Refusal;
use super::clients::RESETTABLE_FROM;
use super::{AdminRequests, Result, done, no_topic};

impl<R: Runtime> AdminRequests<R> {
    /// Tells the group's clients where to go on; they commit it. Without `isForce` no offset moves forth.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `Broker2Client#resetOffset`; an explicit offset as in 5.x.
    pub(super) async fn reset_offset(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: ResetOffsetHeader = request.header()?;
        let (topic, group) = (&header.topic, &header.group);
        let config = self.topics.get(topic).ok_or_else(|| no_topic(topic))?;
        let one = header.queue_id.filter(|queue| *queue >= 0);
        if let Some(queue) = one.filter(|queue| *queue >= config.write_queue_nums) {
            let remark = format!("queueId[{queue}] is illegal, topic:[{topic}]");
            return Err(Refusal::new(response::INVALID_PARAMETER, remark));
        }
        let queues = one.map_or(0..config.write_queue_nums, |queue| queue..queue + 1);
        let mut offset_table = BTreeMap::new();
        for queue in queues {
            let Some(committed) = self.offsets.get(topic, group, queue) else {
                let remark = format!("THe consumer group <{group}> not exist");
                return Err(Refusal::new(response::SYSTEM_ERROR, remark));
            };
            let wanted = self.reset_target(&header, queue).await?;
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
        for member in members {
            let told = match member.language {
                LanguageCode::CPP => body.to_cpp_json(),
                _ => body.to_json(),
            };
            let notice = RemotingCommand::request(codes::RESET_CONSUMER_CLIENT_OFFSET);
            let notice = notice.with_header(&header).with_body(told);
            if let Err(error) = member.connection.send_oneway(notice) {
                tracing::warn!(client = member.client_id, %error, "tell a client to reset its offset");
            }
        }
        let body = match request.language {
            LanguageCode::CPP => body.to_cpp_json(),
            _ => body.to_json(),
        };
        Ok(done().with_body(body))
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
            ms => self.store.offset_by_time(topic, queue, ms, Boundary::Lower).await,
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
