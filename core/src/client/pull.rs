//! The pull loop of one owned queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Received;
use super::consumer::{Inner, Listener, RETRY_PAUSE};
use super::in_order::UNLOCKED_PAUSE;
use super::process_queue::ProcessQueue;
use super::route_cache::MASTER_ID;
use super::subscription::wants;
use crate::message::codec::RecordError;
use crate::message::sys_flag::pull::{COMMIT_OFFSET, SUSPEND};
use crate::message::{StoredMessage, properties};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{MessageQueue, SubscriptionData};
use crate::remoting::codes::{request, response, response_name};
use crate::remoting::headers::{PullMessageHeader, PullMessageResponse};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mono, Mutant, Runtime};

/// While consumption is behind.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// After the broker asked for a break, or answered a pull at once that it could have held.
const BROKER_PAUSE: Duration = Duration::from_millis(20);
/// On top of the time that the broker may hold a pull.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const PULL_BYTES_MAX: i32 = 256 << 10;

/// Why an answer with messages cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("record at byte {at} of the answer: {error}")]
struct UnreadablePull {
    at: usize,
    error: RecordError,
}

/// Pulls until the queue is given up.
pub(super) async fn pull_queue<R: Runtime, L: Listener>(
    inner: Arc<Inner<R, L>>,
    queue: MessageQueue,
    mut stopped: Receiver<bool>,
) {
    crate::select! {
        _ = stopped.wait_for(|stop| *stop) => {}
        () = async {
            inner.shared.rt.sleep(inner.config.takeover_delay).await;
            let start = find_start(&inner, &queue).await;
            inner.offsets.begin(&queue, start);
            let mut pull = Pull { inner: &inner, queue: &queue, next: start, broker_id: 0 };
            while let Some(process) = inner.process(&queue) {
                let pause = pull.once(&process).await;
                // A sleep of nothing would still wait for the timer's next tick.
                if !pause.is_zero() {
                    inner.shared.rt.sleep(pause).await;
                }
            }
        } => {}
    }
}

/// Asks until it is known: a place guessed after an error would skip or repeat everything.
async fn find_start<R: Runtime, L: Listener>(inner: &Inner<R, L>, queue: &MessageQueue) -> i64 {
    loop {
        match inner.start_offset(queue).await {
            Ok(offset) => return offset,
            Err(error) => {
                tracing::debug!(topic = queue.topic, queue = queue.queue_id, %error, "no start offset yet")
            }
        }
        inner.shared.rt.sleep(RETRY_PAUSE).await;
    }
}

struct Pull<'a, R: Runtime, L> {
    inner: &'a Arc<Inner<R, L>>,
    queue: &'a MessageQueue,
    /// The next queue offset to pull.
    next: i64,
    /// Which member of the broker's name to pull from, as the last answer suggests.
    broker_id: i64,
}

impl<R: Runtime, L: Listener> Pull<'_, R, L> {
    /// One pull, and how long to wait before the next.
    async fn once(&mut self, process: &Arc<ProcessQueue>) -> Duration {
        if process.is_full() {
            return FULL_PAUSE;
        }
        if !self.inner.may_consume(self.queue) {
            return UNLOCKED_PAUSE;
        }
        let shared = &self.inner.shared;
        let Some(addr) = shared.routes.readable(&self.queue.broker_name, self.broker_id) else {
            // Whoever asks next finds what this has learned.
            let _ = shared.routes.refresh(&self.queue.topic).await;
            return RETRY_PAUSE;
        };
        let timeout = self.inner.config.pull_suspend + ANSWER_TIMEOUT;
        let begun = shared.rt.now();
        process.pulled_at(begun);
        match shared.peers.call(&addr, self.request(), timeout).await {
            Ok(answer) => self.take(process, &addr, &answer, begun).await,
            Err(error) => {
                tracing::debug!(topic = self.queue.topic, queue = self.queue.queue_id, %error, "pull failed");
                self.inner.offsets.doubt_broker(self.queue);
                let _ = shared.routes.refresh(&self.queue.topic).await;
                RETRY_PAUSE
            }
        }
    }

    fn request(&self) -> RemotingCommand {
        let config = &self.inner.config;
        // Only the master keeps offsets, and none of a broadcasting consumer.
        let is_kept_there = self.broker_id == 0 && config.broadcast.is_none();
        let committed = self.inner.offsets.to_tell(self.queue).filter(|offset| *offset > 0 && is_kept_there);
        let subscription = self.subscription();
        let header = PullMessageHeader {
            consumer_group: config.group.clone(),
            topic: self.queue.topic.clone(),
            queue_id: self.queue.queue_id,
            queue_offset: self.next,
            max_msg_nums: config.pull_batch_max,
            sys_flag: SUSPEND | committed.map_or(0, |_| COMMIT_OFFSET),
            commit_offset: committed.unwrap_or(0),
            suspend_timeout_millis: i64::try_from(config.pull_suspend.as_millis()).unwrap_or(i64::MAX),
            subscription: None,
            sub_version: subscription.map_or(0, |subscription| subscription.sub_version),
            expression_type: subscription.map(|subscription| subscription.expression_type.clone()),
            max_msg_bytes: Some(PULL_BYTES_MAX),
            request_source: None,
        };
        RemotingCommand::request(request::PULL_MESSAGE).with_header(&header)
    }

    fn subscription(&self) -> Option<&SubscriptionData> {
        self.inner.subscriptions.get(&self.queue.topic)
    }

    async fn take(
        &mut self,
        process: &Arc<ProcessQueue>,
        addr: &str,
        answer: &RemotingCommand,
        begun: Mono,
    ) -> Duration {
        if !matches!(
            answer.code,
            response::SUCCESS
                | response::PULL_NOT_FOUND
                | response::PULL_RETRY_IMMEDIATELY
                | response::PULL_OFFSET_MOVED
        ) {
            let pause = self.refused(addr, answer);
            // What a slave does not know, its master may.
            self.broker_id = MASTER_ID;
            self.find_member().await;
            return pause;
        }
        let header = match answer.header::<PullMessageResponse>() {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(addr, %error, "a pull was answered without its offsets");
                return RETRY_PAUSE;
            }
        };
        self.broker_id = header.suggest_which_broker_id;
        let (asked, next) = (self.next, header.next_begin_offset);
        match answer.code {
            response::SUCCESS => match self.read(&answer.body.to_bytes()) {
                Ok(messages) => {
                    let time = (begun, self.inner.shared.rt.now());
                    self.inner.counts.pulled(&self.queue.topic, time, messages.len());
                    process.put(&messages, next);
                    if self.inner.config.broadcast.is_some()
                        && self.inner.shared.rt.mutant(Mutant::BroadcastKeepsPulled)
                    {
                        self.inner.offsets.raise(self.queue, next);
                    }
                    self.next = next;
                    self.inner.dispatch(self.queue, process, messages);
                }
                Err(error) => {
                    tracing::error!(addr, topic = self.queue.topic, queue = self.queue.queue_id, %error, "cannot read");
                    return RETRY_PAUSE;
                }
            },
            response::PULL_OFFSET_MOVED => {
                self.inner.shared.rt.mark(Mark::PullMoved);
                tracing::warn!(
                    addr,
                    topic = self.queue.topic,
                    queue = self.queue.queue_id,
                    asked,
                    next,
                    "the broker moves us"
                );
                self.next = next;
                self.inner.reset(self.queue, next).await;
            }
            response::PULL_RETRY_IMMEDIATELY => {
                self.next = next;
                // Who sends us to a member may know of it before our route does, and gives nothing meanwhile.
                self.find_member().await;
            }
            _ => self.next = next,
        }
        if answer.code != response::PULL_OFFSET_MOVED && process.is_empty() {
            // Nothing that was pulled is unfinished, so all below `next` is consumed or not wanted.
            process.finish(&[], |_| self.inner.offsets.raise(self.queue, next));
        }
        if next > asked { Duration::ZERO } else { BROKER_PAUSE }
    }

    /// Asks for the route if it lacks the member to pull from: another is pulled from as long.
    async fn find_member(&self) {
        let shared = &self.inner.shared;
        if shared.rt.mutant(Mutant::MissingMemberUnsought) {
            return;
        }
        if shared.routes.is_missing(&self.queue.broker_name, self.broker_id) {
            let _ = shared.routes.refresh(&self.queue.topic).await;
        }
    }

    fn refused(&self, addr: &str, answer: &RemotingCommand) -> Duration {
        match answer.code {
            response::FLOW_CONTROL => return BROKER_PAUSE,
            response::SUBSCRIPTION_NOT_EXIST
            | response::SUBSCRIPTION_NOT_LATEST
            | response::SUBSCRIPTION_GROUP_NOT_EXIST
            | response::FILTER_DATA_NOT_EXIST
            | response::FILTER_DATA_NOT_LATEST => self.inner.shared.wake_heartbeat(),
            _ => {}
        }
        let remark = answer.remark.as_deref().unwrap_or_default();
        tracing::debug!(
            addr,
            topic = self.queue.topic,
            code = response_name(answer.code),
            remark,
            "pull refused"
        );
        RETRY_PAUSE
    }

    /// The records of an answer that the subscription wants.
    fn read(&self, body: &Bytes) -> Result<Vec<Received>, UnreadablePull> {
        let mut messages = Vec::new();
        let mut rest = body.clone();
        while !rest.is_empty() {
            let at = body.len() - rest.len();
            let record = StoredMessage::decode(&rest).map_err(|error| UnreadablePull { at, error })?;
            // A decoded record lies within `rest`.
            rest = rest.slice((record.store_size as usize).min(rest.len())..);
            let tag = properties::find(&record.properties, properties::TAGS);
            let is_wanted = self.subscription().is_none_or(|subscription| wants(subscription, tag));
            if is_wanted || self.inner.shared.rt.mutant(Mutant::OtherTagsGiven) {
                let (offset, broker_name) = (record.queue_offset, &self.queue.broker_name);
                let received = Received::new(record.clone(), broker_name).unwrap_or_else(|error| {
                    let (topic, queue) = (&self.queue.topic, self.queue.queue_id);
                    tracing::error!(topic, queue, offset, %error, "a body is handed over as it was stored");
                    Received::as_it_is(record, broker_name)
                });
                messages.push(received);
            }
        }
        Ok(messages)
    }
}
