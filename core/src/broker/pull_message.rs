//! Pulls: read a queue from an offset, with a tag filter. Codes 11 and 361.
//!
//! The messages of an answer are views of the log. An answer with nothing new is held when the client allows it; see
//! `long_polling` for what wakes it. Offset, minimum and maximum stand in every answer that a read has given.

use std::sync::Arc;

use crate::config::{Permission, PullSettings};
use crate::message::sys_flag::pull as flags;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{MessageModel, SubscriptionGroupConfig, TopicConfig};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::{Answer, ConnectionHandle};
use crate::remoting::headers::{PullMessageHeader, PullMessageResponse};
use crate::runtime::Runtime;
use crate::store::{GetStatus, MessageStore, Read};

use super::client_table::{ClientTable, LiveGroup};
use super::committed_offsets::CommittedOffsets;
use super::filter::{TagFilter, is_tag_type};
use super::held_pulls::Held;
use super::long_polling::{HeldAnswer, LongPolling};
use super::refusal::{Refusal, answer};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{Topics, perm};

/// A pull that has passed its checks: what is read, and again when it wakes.
#[derive(Clone, Debug)]
pub(crate) struct CheckedPull {
    pub topic: String,
    pub queue: i32,
    pub offset: i64,
    pub count_max: usize,
    pub filter: TagFilter,
    topic_sys_flag: i32,
    group_sys_flag: i32,
}

pub(crate) struct PullMessage<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub clients: Arc<ClientTable>,
    pub offsets: Arc<CommittedOffsets>,
    pub held: Arc<LongPolling<R>>,
    pub settings: PullSettings,
    pub permission: Permission,
}

impl<R: Runtime> PullMessage<R> {
    pub async fn handle(&self, connection: &ConnectionHandle, request: &RemotingCommand) -> Answer {
        match self.pull(connection, request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::Now(refusal.answer()),
        }
    }

    async fn pull(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
    ) -> Result<Answer, Refusal> {
        let header: PullMessageHeader = request.header()?;
        let group = self.groups.get_or_create(&header.consumer_group).await?;
        let topic = self.topics.get(&header.topic);
        let live = self.clients.live_group(&header.consumer_group, &header.topic);
        let facts = Facts {
            can_read: self.permission.can_read(),
            lite: request.code == request::LITE_PULL_MESSAGE,
            lite_enabled: self.settings.lite_pull,
            group: group.as_deref(),
            topic: topic.as_deref(),
            live: live.as_ref(),
        };
        let pull = check(&header, &facts)?;
        let read = read(&self.store, &pull).await;
        if header.sys_flag & flags::COMMIT_OFFSET != 0 {
            let max = self.store.max_offset(&header.topic, header.queue_id);
            let (topic, group) = (&header.topic, &header.consumer_group);
            self.offsets.commit(topic, group, header.queue_id, header.commit_offset, max);
        }
        let may_hold = header.sys_flag & flags::SUSPEND != 0 && !request.is_oneway();
        if code_of(&read, pull.offset) == response::PULL_NOT_FOUND && may_hold {
            return Ok(self.hold(connection, request, &header, pull));
        }
        Ok(Answer::Now(respond(&pull, read)))
    }

    fn hold(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
        header: &PullMessageHeader,
        pull: CheckedPull,
    ) -> Answer {
        let wait_ms = match self.settings.long_polling {
            true => u64::try_from(header.suspend_timeout_millis).unwrap_or(0),
            false => self.settings.short_polling_ms,
        };
        let held = Held {
            topic: pull.topic.clone(),
            queue: pull.queue,
            offset: pull.offset,
            filter: pull.filter.clone(),
            deadline: self.rt.now().after_ms(wait_ms),
            connection: connection.id(),
            payload: HeldAnswer { connection: connection.clone(), key: request.key(), pull },
        };
        if self.held.hold(held, &self.store) {
            return Answer::Held;
        }
        Answer::Now(
            answer(response::SYSTEM_BUSY).with_remark(
                "[OVERLOAD]system busy, start flow control for a while: too many pulls are held",
            ),
        )
    }
}

/// Reads what a checked pull asks for.
pub(crate) async fn read<R: Runtime>(store: &MessageStore<R>, pull: &CheckedPull) -> Read {
    let wanted = |tags_code| pull.filter.matches(tags_code);
    store.get(&pull.topic, pull.queue, pull.offset, pull.count_max, &wanted).await
}

/// # Source
/// Broker semantics 10.2, last column.
fn code_of(read: &Read, offset: i64) -> i32 {
    match read.status {
        GetStatus::Found => response::SUCCESS,
        GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => response::PULL_RETRY_IMMEDIATELY,
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => response::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => response::PULL_OFFSET_MOVED,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if offset == 0 => {
            response::PULL_NOT_FOUND
        }
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => response::PULL_OFFSET_MOVED,
        GetStatus::Unreadable => response::SYSTEM_ERROR,
    }
}

/// The answer to a pull that was read.
pub(crate) fn respond(pull: &CheckedPull, read: Read) -> RemotingCommand {
    let header = PullMessageResponse {
        suggest_which_broker_id: 0,
        next_begin_offset: read.next_begin,
        min_offset: read.min,
        max_offset: read.max,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
    };
    answer(code_of(&read, pull.offset))
        .with_remark(read.status.name())
        .with_header(&header)
        .with_body(read.messages)
}

/// What a pull is checked against.
struct Facts<'a> {
    can_read: bool,
    lite: bool,
    lite_enabled: bool,
    group: Option<&'a SubscriptionGroupConfig>,
    topic: Option<&'a TopicConfig>,
    live: Option<&'a LiveGroup>,
}

/// # Source
/// Broker semantics 10.1, in its order.
fn check(header: &PullMessageHeader, facts: &Facts<'_>) -> Result<CheckedPull, Refusal> {
    let (group_name, topic_name) = (&header.consumer_group, &header.topic);
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    if !facts.can_read {
        return refuse(response::NO_PERMISSION, "the broker pulling message is forbidden".to_owned());
    }
    if facts.lite && !facts.lite_enabled {
        return refuse(response::NO_PERMISSION, "the broker for lite pull is forbidden".to_owned());
    }
    let Some(group) = facts.group else {
        let remark = format!("subscription group [{group_name}] does not exist");
        return refuse(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    };
    if !group.consume_enable {
        return refuse(response::NO_PERMISSION, format!("subscription group no permission, {group_name}"));
    }
    let Some(topic) = facts.topic else {
        let remark = format!("topic[{topic_name}] not exist, apply first please!");
        return refuse(response::TOPIC_NOT_EXIST, remark);
    };
    if topic.perm & perm::READ == 0 {
        let remark = format!("the topic[{topic_name}] pulling message is forbidden");
        return refuse(response::NO_PERMISSION, remark);
    }
    if header.queue_id < 0 || header.queue_id >= topic.read_queue_nums {
        let remark = format!("queueId[{}] is illegal, topic:[{topic_name}]", header.queue_id);
        return refuse(response::INVALID_PARAMETER, remark);
    }
    let filter = match header.sys_flag & flags::SUBSCRIPTION != 0 {
        true => filter_of_request(header)?,
        false => filter_of_group(header, group, facts.live)?,
    };
    Ok(CheckedPull {
        topic: header.topic.clone(),
        queue: header.queue_id,
        offset: header.queue_offset,
        count_max: usize::try_from(header.max_msg_nums.max(1)).unwrap_or(1),
        filter,
        topic_sys_flag: topic.topic_sys_flag,
        group_sys_flag: group.group_sys_flag,
    })
}

fn filter_of_request(header: &PullMessageHeader) -> Result<TagFilter, Refusal> {
    check_expression_type(header.expression_type.as_deref())?;
    TagFilter::parse(header.subscription.as_deref().unwrap_or_default()).map_err(|error| {
        let remark = format!("parse the consumer's subscription failed: {error}");
        Refusal::new(response::SUBSCRIPTION_PARSE_FAILED, remark)
    })
}

fn filter_of_group(
    header: &PullMessageHeader,
    group: &SubscriptionGroupConfig,
    live: Option<&LiveGroup>,
) -> Result<TagFilter, Refusal> {
    let group_name = &header.consumer_group;
    let not_there = |what: &str| {
        let remark = format!("the consumer's {what} not exist, group: {group_name}");
        Refusal::new(response::SUBSCRIPTION_NOT_EXIST, remark)
    };
    let live = live.ok_or_else(|| not_there("group info"))?;
    if !group.consume_broadcast_enable && live.model == MessageModel::Broadcasting {
        let remark = format!("the consumer group[{group_name}] can not consume by broadcast way");
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    let subscription = live.subscription.as_ref().ok_or_else(|| not_there("subscription"))?;
    if subscription.data.sub_version < header.sub_version {
        let remark = format!("the consumer's subscription not latest, group: {group_name}");
        return Err(Refusal::new(response::SUBSCRIPTION_NOT_LATEST, remark));
    }
    check_expression_type(Some(&subscription.data.expression_type))?;
    Ok(subscription.filter.clone())
}

/// The answer that Java gives while `enablePropertyFilter` is off, as it is by default.
pub(crate) fn check_expression_type(expression_type: Option<&str>) -> Result<(), Refusal> {
    if is_tag_type(expression_type) {
        return Ok(());
    }
    let named = expression_type.unwrap_or_default();
    let remark = format!("The broker does not support consumer to filter message by {named}");
    Err(Refusal::new(response::SYSTEM_ERROR, remark))
}

#[cfg(test)]
mod tests;
