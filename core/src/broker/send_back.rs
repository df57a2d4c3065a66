//! Send-backs: a consumer hands a message back that it could not handle. Code 36.
//!
//! The message comes again to its group after a delay that grows with the tries, through the group's retry topic; after too
//! many it goes into the group's dead letter queue.
//!
//! Guarantees: SUCCESS means that a copy is as safe as a send's that is answered so: on stable storage in SYNC_FLUSH mode, on slaves
//! where the broker is a SYNC_MASTER, since the consumer commits past the message then. Anything else: it keeps the message.
//! Where too few slaves are near nothing is stored either: a consumer tries again, and each try would leave a copy.

use std::sync::Arc;

use crate::config::{Live, Permission};
use crate::message::properties;
use crate::message::{MessageToStore, StoredMessage};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{SubscriptionGroupConfig, TopicConfig};
use crate::remoting::codes::response;
use crate::remoting::connection::{Answer, Response};
use crate::remoting::headers::ConsumerSendMsgBackHeader;
use crate::runtime::{Mutant, Runtime};
use crate::store::MessageStore;

use super::counts::Counts;
use super::names;
use super::refusal::{Refusal, answer};
use super::replication::now;
use super::schedule::Delayed;
use super::send_message::{SendMessage, reconsume_max};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{Topics, perm, retry_topic};

/// The level of the first try again: later ones follow it one by one.
const FIRST_LEVEL: i32 = 3;

pub(crate) struct SendBack<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub sends: Arc<SendMessage<R>>,
    pub permission: Live<Permission>,
    pub counts: Arc<Counts>,
}

/// What becomes of a message that was handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It comes again, after the delay of this level.
    Retry(i32),
    DeadLetter,
}

/// # Source
/// Broker semantics 12.1, steps 5 and 6.
fn fate(asked_level: i32, reconsume_times: i32, max: i32) -> Fate {
    if reconsume_times >= max || asked_level < 0 {
        return Fate::DeadLetter;
    }
    Fate::Retry(if asked_level == 0 { reconsume_times.saturating_add(FIRST_LEVEL) } else { asked_level })
}

impl<R: Runtime> SendBack<R> {
    pub async fn handle(&self, request: &RemotingCommand) -> Answer {
        self.put_back(request).await.unwrap_or_else(|refusal| Answer::Now(refusal.answer()))
    }

    /// # Source
    /// apache/rocketmq 4.9.7, `SendMessageProcessor#asyncConsumerSendMsgBack`.
    async fn put_back(&self, request: &RemotingCommand) -> Result<Answer, Refusal> {
        let came = self.rt.now();
        let header: ConsumerSendMsgBackHeader = request.header()?;
        let store_host = self.sends.store_host()?;
        let Some(group) = self.groups.get_or_create(&header.group).await? else {
            let remark = format!("subscription group not exist, {}", header.group);
            return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        if !self.permission.get().can_write() {
            return Err(Refusal::new(response::NO_PERMISSION, "the broker takes no messages"));
        }
        if group.retry_queue_nums <= 0 {
            return Ok(Answer::Now(answer(response::SUCCESS)));
        }
        let retry = self.retry_topic(&header, &group).await?;
        if retry.perm & perm::WRITE == 0 {
            let remark = format!("the topic[{}] sending message is forbidden", retry.topic_name);
            return Err(Refusal::new(response::NO_PERMISSION, remark));
        }
        let message = self.message_at(&header)?;
        let max = reconsume_max(header.max_reconsume_times, request.version, &group);
        let fate = fate(header.delay_level, message.reconsume_times, max);
        let (topic, queue_id, level) = match fate {
            Fate::DeadLetter => (self.sends.dead_letter_topic(&header.group).await?, 0, 0),
            Fate::Retry(level) => {
                let queues = u64::from(retry_queues(&group, &retry).unsigned_abs());
                let queue = i32::try_from(self.rt.random_u64() % queues).unwrap_or(0);
                let lower = header.delay_level == 0 && self.rt.mutant(Mutant::RetryLevelLower);
                (retry.topic_name.clone(), queue, level - i32::from(lower))
            }
        };
        let properties = properties_back(&message, level);
        let back = MessageToStore {
            topic: &topic,
            queue_id,
            flag: message.flag,
            sys_flag: message.sys_flag,
            born_timestamp: message.born_timestamp,
            born_host: message.born_host,
            store_host,
            reconsume_times: message.reconsume_times.saturating_add(1),
            prepared_transaction_offset: 0,
            body: &message.body,
            properties: &properties,
            wait_for_flush: true,
        };
        let delayed = Delayed::by_property(&back, self.store.config().delay_levels_ms.len());
        let back = delayed.as_ref().map_or(back, |delayed| delayed.message(&back));
        let need = match self.rt.mutant(Mutant::SendBackOnMasterAlone) {
            true => None,
            false => self.sends.need_of_near(true)?,
        };
        let put = self.store.put_again(&back).await;
        let put = put.map_err(|error| Refusal::new(response::SYSTEM_ERROR, error.to_string()))?;
        self.counts.put(back.topic, 1, put.bytes());
        self.counts.sent_back(&self.counted_topic(&message), &header.group);
        if self.rt.mutant(Mutant::SendBackUnflushed) {
            return Ok(Answer::Now(answer(response::SUCCESS)));
        }
        let safe = self.sends.when_safe(answer(response::SUCCESS).into(), (put.end, came), (true, need));
        let rt = self.rt.clone();
        Ok(or_kept(safe, move || rt.probe("broker.handed_back", put.physical_offset, put.end)))
    }

    async fn retry_topic(
        &self,
        header: &ConsumerSendMsgBackHeader,
        group: &SubscriptionGroupConfig,
    ) -> Result<Arc<TopicConfig>, Refusal> {
        let new = retry_topic(&header.group, group.retry_queue_nums, header.unit_mode);
        let name = new.topic_name.clone();
        self.topics.create_if_absent(new).await?;
        let missing = || Refusal::new(response::SYSTEM_ERROR, format!("topic[{name}] not exist"));
        self.topics.get(&name).ok_or_else(missing)
    }

    /// Where the message came from first, if that is still there.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `SendMessageProcessor#asyncConsumerSendMsgBack`: the key of SNDBCK_PUT_NUMS.
    fn counted_topic(&self, message: &StoredMessage) -> String {
        let first = properties::find(&message.properties, properties::RETRY_TOPIC);
        first.filter(|topic| self.topics.contains(topic)).unwrap_or(&message.topic).to_owned()
    }

    fn message_at(&self, header: &ConsumerSendMsgBackHeader) -> Result<StoredMessage, Refusal> {
        let record = u64::try_from(header.offset).ok().and_then(|offset| self.store.message_at(offset));
        let message = record.and_then(|record| StoredMessage::decode(&record).ok());
        let meant = message.filter(|message| is_meant(message, header.origin_msg_id.as_deref()));
        meant.ok_or_else(|| {
            let (offset, id) = (header.offset, header.origin_msg_id.as_deref().unwrap_or("any message"));
            Refusal::new(response::SYSTEM_ERROR, format!("look message by offset failed, {offset}: not {id}"))
        })
    }
}

/// Among how many queues what comes again is spread: the group may ask for more than its retry topic has, since when that topic
/// was made, and nobody reads what lies in a queue that no route names. Java puts it there.
fn retry_queues(group: &SubscriptionGroupConfig, retry: &TopicConfig) -> i32 {
    group.retry_queue_nums.min(retry.read_queue_nums).min(retry.write_queue_nums).max(1)
}

/// `answer`, but that the consumer keeps the message unless it was handed back as safely as the settings say.
fn or_kept(answer: Answer, handed_back: impl FnOnce() + Send + 'static) -> Answer {
    let told = |answer: Response| match answer {
        Response::Command(mut answer) if answer.code != response::SUCCESS => {
            answer.code = response::SYSTEM_ERROR;
            Response::Command(answer)
        }
        answer => {
            handed_back();
            answer
        }
    };
    match answer {
        Answer::Now(answer) => now(told(answer.into())),
        Answer::WhenReached { mark, position, deadline, finish } => Answer::WhenReached {
            mark,
            position,
            deadline,
            finish: Box::new(move |reached| told(finish(reached))),
        },
        answer => answer,
    }
}

/// Whether a consumer that was given the message `origin_id` can mean this one, which lies where that one lay: where a loss of
/// power has taken that one, another lies there now. A client names its message by its unique key, or by its place.
fn is_meant(message: &StoredMessage, origin_id: Option<&str>) -> bool {
    let never_given = [names::SCHEDULE_TOPIC, names::HALF_TOPIC, names::OP_HALF_TOPIC];
    if never_given.contains(&message.topic.as_str()) {
        return false;
    }
    let properties = properties::decode(&message.properties);
    match (origin_id.filter(|id| !id.is_empty()), properties.get(properties::UNIQ_KEY)) {
        (Some(id), Some(unique)) => id == unique || id.eq_ignore_ascii_case(&message.offset_message_id()),
        _ => true,
    }
}

/// The properties of the copy: where the message came from first, and when it is to come again.
fn properties_back(message: &StoredMessage, level: i32) -> String {
    let mut properties = properties::decode(&message.properties);
    if properties.get(properties::RETRY_TOPIC).is_none() {
        properties.set(properties::RETRY_TOPIC, message.topic.clone());
    }
    if properties.get(properties::ORIGIN_MESSAGE_ID).is_none() {
        properties.set(properties::ORIGIN_MESSAGE_ID, message.offset_message_id());
    }
    // Of the message that Java has put into more queues than its own, and not of the copy.
    properties.remove(properties::INNER_MULTI_QUEUE_OFFSET);
    properties.set(properties::WAIT, "false");
    properties.set(properties::DELAY, level.to_string());
    properties.encode(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_lies_in_a_queue_that_is_read() {
        let queues = |asked, read_queue_nums, write_queue_nums| {
            let group = SubscriptionGroupConfig { retry_queue_nums: asked, ..Default::default() };
            let retry = TopicConfig { read_queue_nums, write_queue_nums, ..Default::default() };
            retry_queues(&group, &retry)
        };
        assert_eq!(queues(1, 1, 1), 1);
        assert_eq!(queues(4, 1, 1), 1);
        assert_eq!(queues(4, 3, 8), 3);
        assert_eq!(queues(2, 8, 8), 2);
        assert_eq!(queues(4, 0, 4), 1);
    }

    #[test]
    fn a_message_comes_again_with_rising_delays_until_it_is_dead() {
        let cases = [
            (0, 0, 16, Fate::Retry(3)),
            (0, 15, 16, Fate::Retry(18)),
            (0, 16, 16, Fate::DeadLetter),
            (5, 2, 16, Fate::Retry(5)),
            (-1, 0, 16, Fate::DeadLetter),
            (0, 0, 0, Fate::DeadLetter),
        ];
        for (asked, times, max, expect) in cases {
            assert_eq!(fate(asked, times, max), expect, "level {asked}, {times} of {max} times");
        }
    }
}
