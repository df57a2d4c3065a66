//! Pulls: read a queue from an offset, with a filter by tag or by properties. Codes 11 and 361.
//!
//! The messages of an answer are views of the log. An answer with nothing new is held when the client allows it; see
//! `long_polling` for what wakes it. Offset, minimum and maximum stand in every answer that a read has given.
//!
//! Invariant: no pull is answered by what was allowed when it was held.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Live, Permission, PullSettings};
use crate::filter::{Expression, SQL92};
use crate::message::sys_flag::pull as flags;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    MessageModel, MessageQueue, OffsetMovedEvent, SubscriptionGroupConfig, TopicConfig,
};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::{Answer, ConnectionHandle};
use crate::remoting::headers::{PullMessageHeader, PullMessageResponse};
use crate::runtime::{Mutant, Runtime};
use crate::store::{GetStatus, MessageStore, Read, ReadFilter};

use super::client_table::{ClientTable, LiveGroup};
use super::committed_offsets::CommittedOffsets;
use super::consumer_filters::{ConsumerFilters, Registered};
use super::counts::{Counts, GroupCounts};
use super::filter::{Filter, TagFilter, is_tag_type, is_wanted};
use super::held_pulls::Held;
use super::long_polling::{HeldAnswer, LongPolling};
use super::moved_offsets::MovedOffsets;
use super::offset_file::probe_commit;
use super::refusal::{Forbidden, Refusal, answer, of_batches};
use super::replication::OtherSide;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{Topics, perm};

/// A pull as it was asked for.
pub(crate) struct Asked {
    header: PullMessageHeader,
    /// By LITE_PULL_MESSAGE.
    lite: bool,
}

/// A pull that has passed its checks: what is read.
struct CheckedPull {
    topic: String,
    queue: i32,
    offset: i64,
    count_max: usize,
    filter: Filter,
    topic_sys_flag: i32,
    group_sys_flag: i32,
    suggest: Suggest,
    /// Read from a slave, which may lack what its master has.
    of_slave: bool,
    /// Where what is read counts.
    counts: Option<Arc<GroupCounts>>,
}

/// The master's number among the brokers of a name.
const MASTER_ID: i64 = 0;
/// Before a pull is sent elsewhere.
const ELSEWHERE_AFTER: Duration = Duration::from_secs(1);

/// Which broker of the name a consumer is told to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Suggest {
    /// One that keeps up: what it wants is in memory.
    near: i64,
    /// One that is far behind, and would push what others want out of memory.
    far: i64,
}

pub(crate) struct PullMessage<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub clients: Arc<ClientTable>,
    pub filters: Arc<ConsumerFilters<R>>,
    pub offsets: Arc<CommittedOffsets>,
    pub held: Arc<LongPolling<R>>,
    pub settings: Live<PullSettings>,
    pub property_filter: bool,
    pub permission: Live<Permission>,
    pub counts: Arc<Counts>,
    /// Where it is noted that a consumer was sent elsewhere; `None` on a slave, which does not send it.
    pub moved: Option<Arc<MovedOffsets>>,
    pub broker_name: String,
    pub is_slave: bool,
    pub other: OtherSide,
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
        let lite = request.code == request::LITE_PULL_MESSAGE;
        let asked = Asked { header: request.header()?, lite };
        let pull = self.checked(&asked).await?;
        let header = &asked.header;
        if let Some(moved) = self.moved_to(&pull, header) {
            return Ok(Answer::Now(moved));
        }
        if self.has_diverged() {
            // A client asks again at once, and here as long as its route has no master.
            let (rt, elsewhere) = (self.rt.clone(), elsewhere(&pull));
            return Ok(Answer::Later(Box::pin(async move {
                rt.sleep(ELSEWHERE_AFTER).await;
                elsewhere
            })));
        }
        // Before the read, which may have to wait: the topic may be deleted meanwhile, and what groups have committed on it.
        if header.sys_flag & flags::COMMIT_OFFSET != 0 {
            let max = self.store.max_offset(&header.topic, header.queue_id);
            let (topic, group) = (&header.topic, &header.consumer_group);
            if let Some(kept) = self.offsets.commit(topic, group, header.queue_id, header.commit_offset, max)
            {
                probe_commit(&self.rt, (topic, group, header.queue_id), kept);
            }
        }
        let read = read(&self.rt, &self.store, &pull).await;
        let may_hold = header.sys_flag & flags::SUSPEND != 0 && !request.is_oneway();
        if code_of(&read, pull.offset) == response::PULL_NOT_FOUND && may_hold {
            return Ok(self.hold(connection, request, asked, pull));
        }
        Ok(Answer::Now(self.answered(header, &pull, read)))
    }

    /// The answer to a pull that was held: by what is allowed now, without a commit, and not held again.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `PullMessageProcessor#executeRequestWhenWakeup`.
    pub async fn answer_woken(&self, asked: &Asked) -> RemotingCommand {
        match self.checked(asked).await {
            Ok(pull) => match self.moved_to(&pull, &asked.header) {
                Some(moved) => moved,
                None => {
                    let read = read(&self.rt, &self.store, &pull).await;
                    self.answered(&asked.header, &pull, read)
                }
            },
            Err(refusal) => refusal.answer(),
        }
    }

    /// The answer to a pull of a group that an operator has moved elsewhere on this queue.
    ///
    /// # Source
    /// Broker semantics 10.1, "pending server-side reset".
    fn moved_to(&self, pull: &CheckedPull, header: &PullMessageHeader) -> Option<RemotingCommand> {
        let (topic, queue) = (&pull.topic, pull.queue);
        let target = self.offsets.take_reset(topic, &header.consumer_group, queue)?;
        if self.rt.mutant(Mutant::MovedUntold) {
            return None;
        }
        // A client that was told has moved already.
        (target != pull.offset).then(|| {
            let header = PullMessageResponse {
                suggest_which_broker_id: pull.suggest.near,
                next_begin_offset: target,
                min_offset: self.store.min_offset(topic, queue),
                max_offset: self.store.max_offset(topic, queue),
                topic_sys_flag: Some(pull.topic_sys_flag),
                group_sys_flag: Some(pull.group_sys_flag),
            };
            answer(response::PULL_OFFSET_MOVED).with_remark("OFFSET_RESET").with_header(&header)
        })
    }

    /// A slave whose master has another history gives nobody what that has lost.
    pub fn has_diverged(&self) -> bool {
        self.other.link.has_diverged()
    }

    fn answered(&self, header: &PullMessageHeader, pull: &CheckedPull, read: Read) -> RemotingCommand {
        if self.has_diverged() {
            return elsewhere(pull);
        }
        if self.is_slave && read.status == GetStatus::Found {
            self.rt.probe("slave.gave", pull.offset.unsigned_abs(), 0);
        }
        let offset_new = read.next_begin;
        let answer = respond(pull, read);
        if answer.code == response::PULL_OFFSET_MOVED
            && let Some(moved) = &self.moved
        {
            let (broker_name, queue_id) = (self.broker_name.clone(), header.queue_id);
            moved.note(OffsetMovedEvent {
                consumer_group: header.consumer_group.clone(),
                message_queue: MessageQueue { broker_name, queue_id, topic: header.topic.clone() },
                offset_new,
                offset_request: header.queue_offset,
            });
        }
        answer
    }

    /// Checks a pull against what is known now.
    async fn checked(&self, Asked { header, lite }: &Asked) -> Result<CheckedPull, Refusal> {
        if self.store.is_of_batches(&header.topic) {
            return Err(of_batches(&header.topic));
        }
        let group = self.groups.get_or_create(&header.consumer_group).await?;
        let topic = self.topics.get(&header.topic);
        let live = self.clients.live_group(&header.consumer_group, &header.topic);
        let by_sql = |live: &LiveGroup| {
            live.subscription.as_ref().is_some_and(|wanted| !is_tag_type(Some(&wanted.data.expression_type)))
        };
        let registered = match live.as_ref().is_some_and(by_sql) {
            true => self.filters.get(&header.topic, &header.consumer_group),
            false => None,
        };
        let settings = self.settings.get();
        let facts = Facts {
            can_read: self.permission.get().can_read(),
            is_slave: self.is_slave,
            slave_read: settings.slave_read,
            slave_follows: self.other.slaves.as_ref().is_none_or(|slaves| slaves.slaves() > 0),
            lite: *lite,
            lite_enabled: settings.lite_pull,
            group: group.as_deref(),
            topic: topic.as_deref(),
            live: live.as_ref(),
            forbidden: !self.groups.may_read(&header.consumer_group, &header.topic),
            registered: registered.as_ref(),
            property_filter: self.property_filter,
        };
        let mut pull = check(header, &facts)?;
        pull.counts = Some(self.counts.group(&header.topic, &header.consumer_group));
        Ok(pull)
    }

    fn hold(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
        asked: Asked,
        pull: CheckedPull,
    ) -> Answer {
        let settings = self.settings.get();
        let wait_ms = match settings.long_polling {
            true => u64::try_from(asked.header.suspend_timeout_millis).unwrap_or(0),
            false => settings.short_polling_ms,
        };
        let held = Held {
            topic: pull.topic,
            queue: pull.queue,
            offset: pull.offset,
            filter: pull.filter,
            deadline: self.rt.now().after_ms(wait_ms),
            connection: connection.id(),
            payload: HeldAnswer { connection: connection.clone(), key: request.key(), asked },
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
async fn read<R: Runtime>(rt: &R, store: &MessageStore<R>, pull: &CheckedPull) -> Read {
    let by_tag = |tags_code| pull.filter.matches_entry(tags_code) || rt.mutant(Mutant::TagsNotAsked);
    let expression = pull.filter.by_record();
    let by_properties = |raw: &str| expression.is_none_or(|expression| is_wanted(rt, expression, raw));
    let by_properties: &(dyn Fn(&str) -> bool + Sync) = &by_properties;
    let filter = ReadFilter { by_tag: &by_tag, by_properties: expression.map(|_| by_properties) };
    let count_max = pull.count_max + usize::from(rt.mutant(Mutant::OneMoreThanAsked));
    let began = rt.now();
    let mut read = store.get_filtered(&pull.topic, pull.queue, pull.offset, count_max, filter).await;
    if read.status == GetStatus::OffsetOverflowBadly && rt.mutant(Mutant::OverflowGoesToMin) {
        read.next_begin = read.min;
    }
    if let Some(counts) = &pull.counts {
        let bytes = read.messages.iter().map(|run| run.len()).sum();
        counts.got(read.count, bytes, rt.now().since(began));
    }
    read
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

/// Outcomes that say more about how far a slave has come than about the queue.
fn keeps_offset(status: GetStatus) -> bool {
    matches!(
        status,
        GetStatus::NoMatchedLogicQueue
            | GetStatus::NoMessageInQueue
            | GetStatus::OffsetTooSmall
            | GetStatus::OffsetOverflowOne
            | GetStatus::OffsetOverflowBadly
            | GetStatus::OffsetFoundNull
    )
}

/// The answer to a pull of what is not to be given here: ask the master for the same.
fn elsewhere(pull: &CheckedPull) -> RemotingCommand {
    let header = PullMessageResponse {
        suggest_which_broker_id: MASTER_ID,
        next_begin_offset: pull.offset,
        min_offset: pull.offset,
        max_offset: pull.offset,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
    };
    let remark = "this slave does not follow its master, which has another history";
    answer(response::PULL_RETRY_IMMEDIATELY).with_remark(remark).with_header(&header)
}

/// The answer to a pull that was read.
///
/// A slave may lack what its master has: where it would send the consumer to another offset, or has nothing, it leaves the
/// offset as it is and lets the consumer ask the master again.
///
/// # Source
/// Broker semantics 10.2, behind the table.
fn respond(pull: &CheckedPull, mut read: Read) -> RemotingCommand {
    let mut code = code_of(&read, pull.offset);
    if pull.of_slave && keeps_offset(read.status) {
        read.next_begin = pull.offset;
        if code == response::PULL_OFFSET_MOVED {
            code = response::PULL_RETRY_IMMEDIATELY;
        }
    }
    let header = PullMessageResponse {
        suggest_which_broker_id: if read.suggest_slave { pull.suggest.far } else { pull.suggest.near },
        next_begin_offset: read.next_begin,
        min_offset: read.min,
        max_offset: read.max,
        topic_sys_flag: Some(pull.topic_sys_flag),
        group_sys_flag: Some(pull.group_sys_flag),
    };
    answer(code).with_remark(read.status.name()).with_header(&header).with_body(read.messages)
}

/// What a pull is checked against.
struct Facts<'a> {
    can_read: bool,
    is_slave: bool,
    slave_read: bool,
    /// Or this is one.
    slave_follows: bool,
    lite: bool,
    lite_enabled: bool,
    group: Option<&'a SubscriptionGroupConfig>,
    topic: Option<&'a TopicConfig>,
    live: Option<&'a LiveGroup>,
    /// An operator has forbidden the topic to the group.
    forbidden: bool,
    /// The SQL filter of the group's heartbeats.
    registered: Option<&'a Registered>,
    property_filter: bool,
}

/// # Source
/// Broker semantics 10.1, in its order.
fn check(header: &PullMessageHeader, facts: &Facts<'_>) -> Result<CheckedPull, Refusal> {
    let (group_name, topic_name) = (&header.consumer_group, &header.topic);
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    if !facts.can_read {
        return Err(Refusal::forbidden(Forbidden::Broker, "the broker pulling message is forbidden"));
    }
    if facts.lite && !facts.lite_enabled {
        return Err(Refusal::forbidden(Forbidden::Broker, "the broker for lite pull is forbidden"));
    }
    let Some(group) = facts.group else {
        let remark = format!("subscription group [{group_name}] does not exist");
        return refuse(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    };
    if !group.consume_enable {
        let remark = format!("subscription group no permission, {group_name}");
        return Err(Refusal::forbidden(Forbidden::Group, remark));
    }
    let Some(topic) = facts.topic else {
        let remark = format!("topic[{topic_name}] not exist, apply first please!");
        return refuse(response::TOPIC_NOT_EXIST, remark);
    };
    if topic.perm & perm::READ == 0 {
        let remark = format!("the topic[{topic_name}] pulling message is forbidden");
        return Err(Refusal::forbidden(Forbidden::Topic, remark));
    }
    if header.queue_id < 0 || header.queue_id >= topic.read_queue_nums {
        let remark = format!("queueId[{}] is illegal, topic:[{topic_name}]", header.queue_id);
        return refuse(response::INVALID_PARAMETER, remark);
    }
    let filter = match header.sys_flag & flags::SUBSCRIPTION != 0 {
        true => filter_of_request(header, facts.property_filter)?,
        false => filter_of_group(header, group, facts)?,
    };
    Ok(CheckedPull {
        topic: header.topic.clone(),
        queue: header.queue_id,
        offset: header.queue_offset,
        count_max: usize::try_from(header.max_msg_nums.max(1)).unwrap_or(1),
        filter,
        topic_sys_flag: topic.topic_sys_flag,
        group_sys_flag: group.group_sys_flag,
        suggest: match facts.slave_read {
            true if !facts.slave_follows => Suggest { near: group.broker_id, far: group.broker_id },
            true => Suggest { near: group.broker_id, far: group.which_broker_when_consume_slowly },
            false => Suggest::default(),
        },
        of_slave: facts.is_slave,
        counts: None,
    })
}

fn filter_of_request(header: &PullMessageHeader, property_filter: bool) -> Result<Filter, Refusal> {
    let expression = header.subscription.as_deref().unwrap_or_default();
    filter_of(header.expression_type.as_deref(), expression, property_filter)
}

/// The filter that an expression stands for.
///
/// # Source
/// apache/rocketmq, `ClientManageProcessor#checkClientConfig`, in its order.
pub(crate) fn filter_of(
    kind: Option<&str>,
    expression: &str,
    property_filter: bool,
) -> Result<Filter, Refusal> {
    let failed = |why: &dyn std::fmt::Display| {
        let remark = format!("parse the consumer's subscription failed: {why}");
        Refusal::new(response::SUBSCRIPTION_PARSE_FAILED, remark)
    };
    if is_tag_type(kind) {
        return TagFilter::parse(expression).map(Filter::Tag).map_err(|error| failed(&error));
    }
    let named = kind.unwrap_or_default();
    check_property_filter(named, property_filter)?;
    if named != SQL92 {
        return Err(failed(&format!("expressions of the type {named} are not known")));
    }
    Expression::parse(expression).map(|read| Filter::Sql(Arc::new(read))).map_err(|error| failed(&error))
}

fn filter_of_group(
    header: &PullMessageHeader,
    group: &SubscriptionGroupConfig,
    facts: &Facts<'_>,
) -> Result<Filter, Refusal> {
    let group_name = &header.consumer_group;
    let not_there = |what: &str| {
        let remark = format!("the consumer's {what} not exist, group: {group_name}");
        Refusal::new(response::SUBSCRIPTION_NOT_EXIST, remark)
    };
    let live = facts.live.ok_or_else(|| not_there("group info"))?;
    if !group.consume_broadcast_enable && live.model == MessageModel::Broadcasting {
        let remark = format!("the consumer group[{group_name}] can not consume by broadcast way");
        return Err(Refusal::forbidden(Forbidden::Broadcasting, remark));
    }
    if facts.forbidden {
        let remark = format!("the consumer group[{group_name}] is forbidden for topic[{}]", header.topic);
        return Err(Refusal::forbidden(Forbidden::Subscription, remark));
    }
    let subscription = live.subscription.as_ref().ok_or_else(|| not_there("subscription"))?;
    if subscription.data.sub_version < header.sub_version {
        let remark = format!("the consumer's subscription not latest, group: {group_name}");
        return Err(Refusal::new(response::SUBSCRIPTION_NOT_LATEST, remark));
    }
    let named = &subscription.data.expression_type;
    if is_tag_type(Some(named)) {
        return Ok(Filter::Tag(subscription.filter.clone()));
    }
    let registered = facts.registered.ok_or_else(|| {
        let remark = "the broker's consumer filter data is not exist! Your expression may be wrong!";
        Refusal::new(response::FILTER_DATA_NOT_EXIST, remark)
    })?;
    if registered.version < header.sub_version {
        return Err(Refusal::new(
            response::FILTER_DATA_NOT_LATEST,
            "the broker's consumer filter data is not latest!",
        ));
    }
    check_property_filter(named, facts.property_filter)?;
    Ok(Filter::Sql(registered.expression.clone()))
}

/// The answer that Java gives while `enablePropertyFilter` is off, as it is by default.
fn check_property_filter(named: &str, property_filter: bool) -> Result<(), Refusal> {
    if property_filter {
        return Ok(());
    }
    let remark = format!("The broker does not support consumer to filter message by {named}");
    Err(Refusal::new(response::SYSTEM_ERROR, remark))
}

#[cfg(test)]
mod tests;
