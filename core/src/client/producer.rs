//! Sending: choice of a queue, retry at another broker, and an honest result.
//!
//! Invariant: [`SendOutcome::Refused`] means that no attempt has stored the message; as soon as one may have, the
//! outcome is `Unknown` unless a later attempt is answered with success.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::fault_strategy::{Attempt, FaultStrategy};
use super::message::{BODY_BYTES_MAX, IllegalMessage, Message, check, compress};
use super::route_cache::{DEFAULT_TOPIC, Route, RouteError};
use super::{Client, Shared};
use crate::message::batch::{BatchItem, encode_item};
use crate::message::properties::{self, Properties};
use crate::message::sys_flag;
use crate::remoting::RemotingCommand;
use crate::remoting::body::MessageQueue;
use crate::remoting::codes::{request, response};
use crate::remoting::headers::{SendMessageHeader, SendMessageResponse};
use crate::runtime::{Mark, Mono, Mutant, Runtime};

/// Codes of refusals that have no broker, as Java's client numbers them.
pub mod local_code {
    pub const CONNECT_BROKER: i32 = 10_001;
    pub const ACCESS_BROKER_TIMEOUT: i32 = 10_002;
    pub const BROKER_NOT_EXIST: i32 = 10_003;
    pub const NO_NAME_SERVER: i32 = 10_004;
    pub const NOT_FOUND_TOPIC: i32 = 10_005;
}

#[derive(Clone, Debug)]
pub struct ProducerConfig {
    pub group: String,
    /// For all attempts together.
    pub send_timeout: Duration,
    /// The first attempt not counted.
    pub retries: usize,
    /// Sends go round brokers that were slow or failed lately, if others are there.
    pub avoid_faulty_brokers: bool,
    /// Queues that a topic gets if this message creates it.
    pub default_topic_queues: i32,
}

impl ProducerConfig {
    #[must_use]
    pub fn new(group: impl Into<String>) -> ProducerConfig {
        ProducerConfig {
            group: group.into(),
            send_timeout: Duration::from_secs(3),
            retries: 2,
            avoid_faulty_brokers: true,
            default_topic_queues: 4,
        }
    }
}

/// How safe a stored message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendStatus {
    /// As safe as the broker's mode promises.
    Ok,
    /// Stored, not flushed in time.
    FlushDiskTimeout,
    /// Stored, not acknowledged by enough slaves in time.
    FlushSlaveTimeout,
    /// Stored, no slave is in sync.
    SlaveNotAvailable,
}

impl SendStatus {
    /// Java's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SendStatus::Ok => "SEND_OK",
            SendStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            SendStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            SendStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendResult {
    pub status: SendStatus,
    /// The id the client gave it (of a batch: all of them, joined by commas).
    pub msg_id: String,
    /// The id of its place in the store (of a batch: likewise).
    pub offset_msg_id: String,
    pub broker_name: String,
    pub queue_id: i32,
    /// Of a batch that of the first message.
    pub queue_offset: i64,
}

/// What became of a send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    Sent(SendResult),
    /// No attempt has stored it. `code` is a response code or one of [`local_code`].
    Refused {
        code: i32,
        remark: String,
    },
    /// It may have been stored, perhaps more than once.
    Unknown {
        why: String,
    },
}

impl SendOutcome {
    fn illegal(error: &IllegalMessage) -> SendOutcome {
        SendOutcome::Refused { code: response::MESSAGE_ILLEGAL, remark: error.to_string() }
    }
}

/// What has been learned from the attempts so far.
#[derive(Debug, Default)]
struct Verdict {
    unknown: Option<String>,
    refusal: Option<(i32, String)>,
}

impl Verdict {
    fn refuse(&mut self, code: i32, remark: String) {
        self.refusal = Some((code, remark));
    }

    fn outcome(self) -> SendOutcome {
        match (self.unknown, self.refusal) {
            (Some(why), _) => SendOutcome::Unknown { why },
            (None, Some((code, remark))) => SendOutcome::Refused { code, remark },
            (None, None) => SendOutcome::Refused {
                code: local_code::ACCESS_BROKER_TIMEOUT,
                remark: "the time was over before the first attempt".to_owned(),
            },
        }
    }
}

/// A message ready to be sent to any queue.
struct Parcel {
    code: i32,
    topic: String,
    body: Bytes,
    sys_flag: i32,
    flag: i32,
    properties: String,
    is_batch: bool,
    msg_id: String,
}

/// Sends messages for one group. Calls run side by side; those to one broker share a connection.
pub struct Producer<R: Runtime> {
    shared: Arc<Shared<R>>,
    config: ProducerConfig,
    next_queue: AtomicUsize,
    faults: Mutex<FaultStrategy>,
}

impl<R: Runtime> Producer<R> {
    /// Registers the group. Nothing is connected before the first send.
    #[must_use]
    pub fn start(client: &Client<R>, config: ProducerConfig) -> Producer<R> {
        let shared = client.shared().clone();
        shared.add_producer(&config.group);
        let first = usize::try_from(shared.rt.random_u64() >> 33).unwrap_or(0);
        Producer { shared, config, next_queue: AtomicUsize::new(first), faults: Mutex::default() }
    }

    /// Tells the brokers that the producer is gone.
    pub async fn stop(self) {
        if self.shared.remove_producer(&self.config.group) {
            self.shared.unregister(Some(&self.config.group), None).await;
        }
    }

    /// Sends to a queue of our choice, trying other brokers within the timeout.
    pub async fn send(&self, message: &Message) -> SendOutcome {
        match self.parcel(message) {
            Ok(parcel) => self.send_anywhere(&parcel).await,
            Err(error) => SendOutcome::illegal(&error),
        }
    }

    /// Sends to this queue, in one attempt.
    pub async fn send_to_queue(&self, message: &Message, queue: &MessageQueue) -> SendOutcome {
        let parcel = match self.parcel(message) {
            Ok(parcel) => parcel,
            Err(error) => return SendOutcome::illegal(&error),
        };
        let deadline = self.shared.rt.now().after(self.config.send_timeout);
        // The route tells where the queue's broker is; without one the attempt says so.
        let _ = self.shared.routes.publish_route(&queue.topic).await;
        let mut verdict = Verdict::default();
        match self.attempt(&parcel, queue, deadline, &mut verdict).await {
            Some(result) => SendOutcome::Sent(result),
            None => verdict.outcome(),
        }
    }

    /// Sends messages of one topic in one request: all are stored or none.
    pub async fn send_batch(&self, messages: &[Message]) -> SendOutcome {
        match self.batch_parcel(messages) {
            Ok(parcel) => self.send_anywhere(&parcel).await,
            Err(error) => SendOutcome::illegal(&error),
        }
    }

    /// Sends without asking for an answer. `Ok` says only that it is on its way.
    ///
    /// # Errors
    /// The refusal as [`SendOutcome::Refused`] would have it.
    pub async fn send_oneway(&self, message: &Message) -> Result<(), (i32, String)> {
        let parcel = self.parcel(message).map_err(|error| (response::MESSAGE_ILLEGAL, error.to_string()))?;
        let route = self.shared.routes.publish_route(&parcel.topic).await.map_err(|error| refusal(&error))?;
        let queue = self.choose_queue(&route, None).ok_or_else(|| no_queue(&parcel.topic))?;
        let addr = self.shared.routes.master(&queue.broker_name).ok_or_else(|| no_broker(&queue))?;
        let command = self.command(&parcel, &queue);
        let sent = self.shared.peers.oneway(&addr, command, self.config.send_timeout).await;
        sent.map_err(|error| (local_code::CONNECT_BROKER, error.to_string()))
    }

    fn faults(&self) -> MutexGuard<'_, FaultStrategy> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parcel(&self, message: &Message) -> Result<Parcel, IllegalMessage> {
        check(message)?;
        let properties = message.wire_properties(&self.shared.keys.next(self.shared.rt.wall_ms()));
        let (body, compression) = compress(&message.body);
        let is_half = properties.get(properties::TRAN_MSG) == Some("true");
        let compression = if self.shared.rt.mutant(Mutant::CompressedUnmarked) { 0 } else { compression };
        let sys_flag = compression | if is_half { sys_flag::TRANSACTION_PREPARED } else { 0 };
        Ok(Parcel {
            code: request::SEND_MESSAGE_V2,
            topic: message.topic.clone(),
            body,
            sys_flag,
            flag: message.flag,
            properties: properties.encode(true),
            is_batch: false,
            msg_id: properties.get(properties::UNIQ_KEY).unwrap_or_default().to_owned(),
        })
    }

    fn batch_parcel(&self, messages: &[Message]) -> Result<Parcel, IllegalMessage> {
        let first = messages.first().ok_or(IllegalMessage::EmptyBatch)?;
        let mut body = Vec::new();
        let mut ids = Vec::new();
        for message in messages {
            check(message)?;
            if message.topic != first.topic {
                return Err(IllegalMessage::MixedTopics);
            }
            let key = self.shared.keys.next(self.shared.rt.wall_ms());
            let wire = message.wire_properties(&key);
            if wire.get(properties::DELAY).is_some() {
                return Err(IllegalMessage::DelayedInBatch);
            }
            ids.push(wire.get(properties::UNIQ_KEY).unwrap_or_default().to_owned());
            let encoded = wire.encode(false);
            encode_item(
                &BatchItem { flag: message.flag, body: &message.body, properties: &encoded },
                &mut body,
            );
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(IllegalMessage::BodyTooLong { bytes: body.len() });
        }
        let mut properties = Properties::default();
        properties.set(properties::WAIT, "true");
        properties.set(properties::UNIQ_KEY, self.shared.keys.next(self.shared.rt.wall_ms()));
        Ok(Parcel {
            code: request::SEND_BATCH_MESSAGE,
            topic: first.topic.clone(),
            body: body.into(),
            sys_flag: 0,
            flag: 0,
            properties: properties.encode(true),
            is_batch: true,
            msg_id: ids.join(","),
        })
    }

    async fn send_anywhere(&self, parcel: &Parcel) -> SendOutcome {
        let rt = &self.shared.rt;
        let deadline = rt.now().after(self.config.send_timeout);
        let mut verdict = Verdict::default();
        let mut last_broker: Option<String> = None;
        for _ in 0..=self.config.retries {
            let now = rt.now();
            if now >= deadline {
                break;
            }
            let asked = self.shared.routes.publish_route(&parcel.topic);
            let route = match rt.timeout(deadline.since(now), asked).await {
                Ok(Ok(route)) => route,
                Ok(Err(error)) => {
                    let (code, remark) = refusal(&error);
                    verdict.refuse(code, remark);
                    continue;
                }
                Err(_) => break,
            };
            let Some(queue) = self.choose_queue(&route, last_broker.as_deref()) else {
                let (code, remark) = no_queue(&parcel.topic);
                verdict.refuse(code, remark);
                break;
            };
            if let Some(result) = self.attempt(parcel, &queue, deadline, &mut verdict).await {
                return SendOutcome::Sent(result);
            }
            let is_final = |(code, _): &(i32, String)| !is_worth_a_retry(*code);
            if verdict.refusal.as_ref().is_some_and(is_final) {
                break;
            }
            self.shared.rt.mark(Mark::SendTriedAgain);
            last_broker = Some(queue.broker_name);
        }
        verdict.outcome()
    }

    /// The address of the queue's master. The route of another topic may have been asked for while the broker had a slave
    /// only: then the name servers are asked again.
    async fn master_now(&self, queue: &MessageQueue, deadline: Mono) -> Option<String> {
        let (rt, routes) = (&self.shared.rt, &self.shared.routes);
        if let Some(addr) = routes.master(&queue.broker_name) {
            return Some(addr);
        }
        let left = deadline.since(rt.now());
        if let Ok(Err(error)) = rt.timeout(left, routes.refresh(&queue.topic)).await {
            tracing::debug!(broker = %queue.broker_name, %error, "ask for the master");
        }
        routes.master(&queue.broker_name)
    }

    /// One attempt. `None` leaves what was learned in `verdict`.
    async fn attempt(
        &self,
        parcel: &Parcel,
        queue: &MessageQueue,
        deadline: Mono,
        verdict: &mut Verdict,
    ) -> Option<SendResult> {
        let rt = &self.shared.rt;
        let Some(addr) = self.master_now(queue, deadline).await else {
            let (code, remark) = no_broker(queue);
            verdict.refuse(code, remark);
            return None;
        };
        let started = rt.now();
        let command = self.command(parcel, queue);
        let answered = self.shared.peers.call(&addr, command, deadline.since(started)).await;
        let now = rt.now();
        let attempt = match &answered {
            Ok(_) => Attempt::Answered(now.since(started)),
            Err(_) => Attempt::Failed,
        };
        self.faults().note(now, &queue.broker_name, attempt);
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) if error.outcome_unknown() => {
                verdict.unknown.get_or_insert_with(|| error.to_string());
                return None;
            }
            Err(error) => {
                verdict.refuse(local_code::CONNECT_BROKER, error.to_string());
                return None;
            }
        };
        let Some(status) = status(answer.code) else {
            let remark = answer.remark.unwrap_or_default();
            if answer.code == response::SYSTEM_ERROR {
                // The code of every failure without a name; some come after the message was appended.
                verdict.unknown.get_or_insert_with(|| format!("{addr} answers SYSTEM_ERROR: {remark}"));
            }
            verdict.refuse(answer.code, remark);
            return None;
        };
        match answer.header::<SendMessageResponse>() {
            Ok(header) => Some(SendResult {
                status,
                msg_id: parcel.msg_id.clone(),
                offset_msg_id: header.msg_id,
                broker_name: queue.broker_name.clone(),
                queue_id: header.queue_id,
                queue_offset: header.queue_offset,
            }),
            Err(error) => {
                verdict.unknown = Some(format!("{addr} answers success without a place: {error}"));
                None
            }
        }
    }

    /// The next queue in turn, if possible of another broker than `last_broker` and of one without faults.
    fn choose_queue(&self, route: &Route, last_broker: Option<&str>) -> Option<MessageQueue> {
        let queues = &route.publish;
        if queues.is_empty() {
            return None;
        }
        let start = self.next_queue.fetch_add(1, Ordering::Relaxed) % queues.len();
        let in_turn = || queues.iter().skip(start).chain(queues.iter().take(start));
        let is_other = |queue: &&MessageQueue| Some(queue.broker_name.as_str()) != last_broker;
        let now = self.shared.rt.now();
        let faults = self.faults();
        let is_available = |queue: &&MessageQueue| {
            !self.config.avoid_faulty_brokers || faults.is_available(now, &queue.broker_name)
        };
        let chosen = in_turn().find(|queue| is_other(queue) && is_available(queue));
        chosen.or_else(|| in_turn().find(is_other)).or_else(|| in_turn().next()).cloned()
    }

    fn command(&self, parcel: &Parcel, queue: &MessageQueue) -> RemotingCommand {
        let header = SendMessageHeader {
            producer_group: &self.config.group,
            topic: &parcel.topic,
            default_topic: DEFAULT_TOPIC,
            default_topic_queue_nums: self.config.default_topic_queues,
            queue_id: queue.queue_id,
            sys_flag: parcel.sys_flag,
            born_timestamp: self.shared.rt.wall_ms(),
            flag: parcel.flag,
            properties: Some(&parcel.properties),
            reconsume_times: Some(0),
            unit_mode: false,
            max_reconsume_times: None,
            batch: parcel.is_batch,
            broker_name: Some(&queue.broker_name),
        };
        let mut command = RemotingCommand::request(parcel.code).with_body(parcel.body.clone());
        header.encode_v2(&mut command.ext);
        command
    }
}

/// What a response code says about a stored message; `None` for the codes of refusals.
fn status(code: i32) -> Option<SendStatus> {
    match code {
        response::SUCCESS => Some(SendStatus::Ok),
        response::FLUSH_DISK_TIMEOUT => Some(SendStatus::FlushDiskTimeout),
        response::FLUSH_SLAVE_TIMEOUT => Some(SendStatus::FlushSlaveTimeout),
        response::SLAVE_NOT_AVAILABLE => Some(SendStatus::SlaveNotAvailable),
        _ => None,
    }
}

/// Whether another broker may do better.
///
/// # Source
/// apache/rocketmq 5.x, `DefaultMQProducer#retryResponseCodes`; local failures are retried as its exceptions are.
fn is_worth_a_retry(code: i32) -> bool {
    matches!(
        code,
        response::TOPIC_NOT_EXIST
            | response::SERVICE_NOT_AVAILABLE
            | response::SYSTEM_ERROR
            | response::SYSTEM_BUSY
            | response::NO_PERMISSION
            | 204
            | 205
            | response::GO_AWAY
            | local_code::CONNECT_BROKER..=local_code::NOT_FOUND_TOPIC
    )
}

fn refusal(error: &RouteError) -> (i32, String) {
    let code = match error {
        RouteError::NoNameServer | RouteError::Unreachable(_) => local_code::NO_NAME_SERVER,
        RouteError::UnknownTopic { .. } | RouteError::Malformed { .. } => local_code::NOT_FOUND_TOPIC,
        RouteError::Refused { code, .. } => *code,
    };
    (code, error.to_string())
}

fn no_queue(topic: &str) -> (i32, String) {
    (local_code::NOT_FOUND_TOPIC, format!("the topic {topic} has no queue that can be written"))
}

fn no_broker(queue: &MessageQueue) -> (i32, String) {
    (local_code::BROKER_NOT_EXIST, format!("the broker {} has no master", queue.broker_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_attempt_outweighs_a_later_refusal() {
        let mut verdict = Verdict { unknown: Some("cut".to_owned()), refusal: None };
        verdict.refuse(response::SYSTEM_BUSY, "busy".to_owned());
        assert_eq!(verdict.outcome(), SendOutcome::Unknown { why: "cut".to_owned() });
    }

    #[test]
    fn refusals_alone_are_a_refusal() {
        let mut verdict = Verdict::default();
        verdict.refuse(response::SYSTEM_BUSY, "busy".to_owned());
        verdict.refuse(response::MESSAGE_ILLEGAL, "no".to_owned());
        let expected = SendOutcome::Refused { code: response::MESSAGE_ILLEGAL, remark: "no".to_owned() };
        assert_eq!(verdict.outcome(), expected);
    }

    #[test]
    fn only_what_another_broker_may_do_is_tried_again() {
        assert!(is_worth_a_retry(response::SYSTEM_BUSY));
        assert!(is_worth_a_retry(local_code::CONNECT_BROKER));
        assert!(!is_worth_a_retry(response::MESSAGE_ILLEGAL));
    }
}
