//! Consumption in order: of each queue one batch at a time, in one member of the group alone, and none before the one in
//! front of it is consumed.
//!
//! A queue is consumed while its broker's lock is ours. The lock is asked for before a queue is taken, and again every 20 s
//! and whenever a connection is opened. The broker gives it to somebody else a minute after it was asked for last; here it
//! counts for half of that from when the request was sent, so that what is begun in time ends in time. A lock that was lost, or has run out before it was
//! renewed, costs what was pulled: the next owner, perhaps we, begins where the group has committed. Offsets are committed
//! only while the lock is held.
//!
//! A queue is handed over when its listener has come back: the offset is committed and then the lock given back, over one
//! connection. Until the broker has answered that, the queue is not taken again: a request to unlock that comes late would
//! free the lock of its next holder here.
//!
//! Left to others: the locks live in the broker's memory. After its restart another member may be given a queue while we
//! still believe that it is ours; both then consume in order, from a place at which nothing was left out.
//!
//! # Source
//! apache/rocketmq 4.9.7, `ConsumeMessageOrderlyService`, `RebalancePushImpl`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::consumer::{ConsumeStatus, Inner, Listener};
use super::process_queue::{ProcessQueue, wall};
use super::send_back::DEAD_LETTER;
use super::{Received, Shared};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{LockBatchRequestBody, LockBatchResponseBody, MessageQueue, ProcessQueueInfo};
use crate::remoting::codes::{request, response};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mono, Mutant, Runtime};

/// How long a granted lock counts here; the broker keeps it for twice as long.
const LOCK_LIFE: Duration = Duration::from_secs(30);
/// How long a broker keeps a lock that nobody asks for.
const BROKER_LOCK_LIFE: Duration = Duration::from_secs(60);
const FIRST_RENEWAL: Duration = Duration::from_secs(1);
const RENEWAL_INTERVAL: Duration = Duration::from_secs(20);
/// Renewals are no closer together, however many connections are opened.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// Before a queue whose lock has run out is looked at again.
pub(super) const UNLOCKED_PAUSE: Duration = Duration::from_secs(1);
const SUSPEND_MIN: Duration = Duration::from_millis(10);
const SUSPEND_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Place {
    /// When the request was sent by which the lock was granted last.
    granted: Option<Mono>,
    /// Held by the one whose listener runs.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// It is not to be taken before this.
    barred_until: Option<Mono>,
    /// The broker was asked to lock it, whatever came of it, and has not been asked to unlock it since.
    may_be_locked: bool,
}

/// The locks and the turns of a consumer's queues.
#[derive(Default)]
pub(super) struct Locks(Mutex<BTreeMap<MessageQueue, Place>>);

impl Locks {
    fn places(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, queue: &MessageQueue, change: impl FnOnce(&mut Place) -> T) -> T {
        change(self.places().entry(queue.clone()).or_default())
    }

    fn granted(&self, queue: &MessageQueue, at: Mono) {
        self.change(queue, |place| place.granted = Some(at));
    }

    fn lost(&self, queue: &MessageQueue) {
        self.change(queue, |place| place.granted = None);
    }

    fn is_held(&self, queue: &MessageQueue, now: Mono) -> bool {
        self.change(queue, |place| place.granted.is_some_and(|at| now.since(at) <= LOCK_LIFE))
    }

    fn turn(&self, queue: &MessageQueue) -> Arc<tokio::sync::Mutex<()>> {
        self.change(queue, |place| place.turn.clone())
    }

    fn bar(&self, queue: &MessageQueue, until: Mono) {
        self.change(queue, |place| place.barred_until = Some(until));
    }

    fn is_barred(&self, queue: &MessageQueue, now: Mono) -> bool {
        self.change(queue, |place| place.barred_until.is_some_and(|until| now < until))
    }
}

/// Asks the broker to lock or unlock queues of its, for us.
async fn ask<R: Runtime>(
    shared: &Shared<R>,
    group: &str,
    code: i32,
    broker_name: &str,
    mq_set: BTreeSet<MessageQueue>,
) -> Option<RemotingCommand> {
    let addr = shared.routes.master(broker_name)?;
    let body = LockBatchRequestBody {
        client_id: shared.client_id.clone(),
        consumer_group: group.to_owned(),
        mq_set,
        only_this_broker: false,
    };
    let asked = RemotingCommand::request(code).with_body(body.to_json());
    match shared.peers.call(&addr, asked, shared.config.request_timeout).await {
        Ok(answer) if answer.code == response::SUCCESS => Some(answer),
        Ok(answer) => {
            shared.rt.mark(Mark::QueuesNotLocked);
            tracing::warn!(addr, code = answer.code, remark = ?answer.remark, "queues are not locked");
            None
        }
        Err(error) => {
            tracing::debug!(addr, %error, "queues are not locked");
            None
        }
    }
}

impl<R: Runtime, L: Listener> Inner<R, L> {
    /// Whether queues are consumed under locks of their brokers.
    pub(super) fn locks_queues(&self) -> bool {
        self.config.in_order && self.config.broadcast.is_none()
    }

    /// Whether the queue may be consumed, and its offset committed.
    pub(super) fn may_consume(&self, queue: &MessageQueue) -> bool {
        !self.locks_queues()
            || self.locks.is_held(queue, self.shared.rt.now())
            || self.shared.rt.mutant(Mutant::OrderlyIgnoresLocks)
    }

    /// Those of `queues` that may be taken now.
    pub(super) async fn lock(&self, queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let now = self.shared.rt.now();
        let mut by_broker: BTreeMap<&str, BTreeSet<MessageQueue>> = BTreeMap::new();
        for queue in queues.iter().filter(|queue| !self.locks.is_barred(queue, now)) {
            by_broker.entry(&queue.broker_name).or_default().insert(queue.clone());
        }
        let mut locked = Vec::new();
        for (broker_name, queues) in by_broker {
            let at = self.shared.rt.now();
            for queue in self.ask_for_locks(broker_name, &queues).await.unwrap_or_default() {
                self.locks.granted(&queue, at);
                locked.push(queue);
            }
        }
        if self.shared.rt.mutant(Mutant::OrderlyIgnoresLocks) { queues.to_vec() } else { locked }
    }

    /// What the broker grants; `None`: it has not answered.
    async fn ask_for_locks(
        &self,
        broker_name: &str,
        queues: &BTreeSet<MessageQueue>,
    ) -> Option<BTreeSet<MessageQueue>> {
        queues.iter().for_each(|queue| self.locks.change(queue, |place| place.may_be_locked = true));
        let (shared, group) = (&self.shared, &self.config.group);
        let answer = ask(shared, group, request::LOCK_BATCH_MQ, broker_name, queues.clone()).await?;
        match LockBatchResponseBody::parse(&answer.body.to_bytes()) {
            Ok(body) => Some(queues.intersection(&body.lock_ok_mq_set).cloned().collect()),
            Err(error) => {
                tracing::warn!(broker_name, %error, "an answer to a lock of queues");
                None
            }
        }
    }

    /// Asks for the locks of all that is ours, and gives up what is not ours any more.
    async fn renew(&self) {
        let brokers: BTreeSet<String> = self.queues().into_iter().map(|queue| queue.broker_name).collect();
        for broker_name in brokers {
            // As it is now: what was handed over meanwhile must not be locked again.
            let mut queues: BTreeSet<MessageQueue> = self.queues().into_iter().collect();
            queues.retain(|queue| queue.broker_name == broker_name);
            let at = self.shared.rt.now();
            let Some(granted) = self.ask_for_locks(&broker_name, &queues).await else { continue };
            for queue in queues {
                // One that has run out may have been another member's meanwhile.
                if granted.contains(&queue) && self.locks.is_held(&queue, self.shared.rt.now()) {
                    self.locks.granted(&queue, at);
                } else {
                    self.lose(&queue);
                }
            }
        }
    }

    /// The queue may be somebody else's: nothing of it is consumed or committed any more.
    fn lose(&self, queue: &MessageQueue) {
        let Some(process) = self.disown(queue) else { return };
        self.locks.lost(queue);
        process.drop_queue();
        self.offsets.forget(queue);
        self.shared.rt.mark(Mark::QueueLost);
        tracing::info!(group = self.config.group, topic = queue.topic, queue = queue.queue_id, "queue lost");
        self.shared.registry.wake_rebalance(&self.config.group);
    }

    /// Lets the running listener end, commits what it has consumed, and gives the lock back.
    pub(super) async fn hand_over(self: Arc<Self>, queue: MessageQueue, process: Arc<ProcessQueue>) {
        let rt = self.shared.rt.clone();
        let turn = self.locks.turn(&queue);
        let _turn = match rt.mutant(Mutant::OrderlyUnlocksEarly) {
            true => None,
            false => Some(turn.lock_owned().await),
        };
        process.drop_queue();
        if self.may_consume(&queue) {
            self.offsets.persist(&queue).await;
        }
        self.offsets.forget(&queue);
        self.locks.lost(&queue);
        let is_answered = self.unlock(&queue.broker_name, [queue.clone()].into()).await;
        let now = rt.now();
        self.locks.bar(&queue, if is_answered { now } else { now.after(BROKER_LOCK_LIFE) });
    }

    /// False when the broker has not answered.
    async fn unlock(&self, broker_name: &str, queues: BTreeSet<MessageQueue>) -> bool {
        queues.iter().for_each(|queue| self.locks.change(queue, |place| place.may_be_locked = false));
        let (shared, group) = (&self.shared, &self.config.group);
        ask(shared, group, request::UNLOCK_BATCH_MQ, broker_name, queues).await.is_some()
    }

    /// Gives back what a rebalance was about to take when it was stopped.
    pub(super) async fn unlock_rest(&self) {
        let mut by_broker: BTreeMap<String, BTreeSet<MessageQueue>> = BTreeMap::new();
        for (queue, _) in self.locks.places().iter().filter(|(_, place)| place.may_be_locked) {
            by_broker.entry(queue.broker_name.clone()).or_default().insert(queue.clone());
        }
        for (broker_name, queues) in by_broker {
            self.unlock(&broker_name, queues).await;
        }
    }

    /// It is not taken again while it is being handed over.
    pub(super) fn bar(&self, queue: &MessageQueue) {
        self.locks.bar(queue, Mono::NEVER);
    }

    /// One batch, and how long to wait before the next.
    async fn take_turn(
        &self,
        queue: &MessageQueue,
        process: &ProcessQueue,
        batch: Vec<Received>,
        stopped: &mut Receiver<bool>,
    ) -> Duration {
        let _turn = self.locks.turn(queue).lock_owned().await;
        let Ok(_permit) = self.permits.acquire().await else { return UNLOCKED_PAUSE };
        if stopped.get() || self.is_stopping() || process.is_dropped() {
            // The caller looks at the first two, and finds another queue in the place of a dropped one.
            return Duration::ZERO;
        }
        if !self.may_consume(queue) {
            return UNLOCKED_PAUSE;
        }
        let _running = self.begin();
        process.consumed_at(self.shared.rt.now());
        let count = batch.len();
        let done: Vec<i64> = match self.listen(batch.clone()).await {
            ConsumeStatus::Success => batch.iter().map(|received| received.message.queue_offset).collect(),
            ConsumeStatus::Later | ConsumeStatus::Retry => self.give_up_on(&batch).await,
        };
        let is_done = done.len() == count;
        if !done.is_empty() {
            process.finish(&done, |offset| self.offsets.raise(queue, offset));
        }
        if is_done {
            return Duration::ZERO;
        }
        process.failed(count - done.len());
        self.config.suspend.clamp(SUSPEND_MIN, SUSPEND_MAX)
    }

    /// Makes dead letters of those with which the listener has failed too often. Answers their queue offsets.
    async fn give_up_on(&self, batch: &[Received]) -> Vec<i64> {
        let mut given_up = Vec::new();
        let max = self.config.tries_max();
        for received in batch.iter().filter(|received| received.message.reconsume_times >= max) {
            if self.config.broadcast.is_some() {
                tracing::warn!(group = self.config.group, id = received.msg_id(), "a message is given up");
            } else if !self.hand_back(received, DEAD_LETTER).await {
                continue;
            }
            self.shared.rt.mark(Mark::OrderlyGivenUp);
            given_up.push(received.message.queue_offset);
        }
        given_up
    }

    pub(super) fn order_info(
        &self,
        queue: &MessageQueue,
        now_ms: i64,
        info: ProcessQueueInfo,
    ) -> ProcessQueueInfo {
        let now = self.shared.rt.now();
        let granted = self.locks.change(queue, |place| place.granted);
        ProcessQueueInfo {
            locked: self.locks.is_held(queue, now),
            last_lock_timestamp: wall(granted, now, now_ms),
            ..info
        }
    }
}

/// Gives a queue's messages to the listener, until the queue is given up.
pub(super) async fn consume_in_order<R: Runtime, L: Listener>(
    inner: Arc<Inner<R, L>>,
    queue: MessageQueue,
    mut stopped: Receiver<bool>,
) {
    // Only waits are cut short by the stop: a listener that was begun is never cancelled. The consumer stops before its queues
    // are told.
    while !stopped.get() && !inner.is_stopping() {
        let Some(process) = inner.process(&queue) else { return };
        let batch = process.first(inner.config.consume_batch_max.max(1));
        if batch.is_empty() {
            crate::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = process.arrived() => {}
            }
            continue;
        }
        let pause = inner.take_turn(&queue, &process, batch, &mut stopped).await;
        if !pause.is_zero() {
            crate::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = inner.shared.rt.sleep(pause) => {}
            }
        }
    }
}

/// Keeps the locks until the stop.
pub(super) async fn renew_locks<R: Runtime, L: Listener>(
    inner: Arc<Inner<R, L>>,
    mut opened: Receiver<u64>,
    mut stopping: Receiver<bool>,
) {
    let rt = inner.shared.rt.clone();
    let mut pause = FIRST_RENEWAL;
    loop {
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = opened.changed() => {}
            () = rt.sleep(pause) => {}
        }
        pause = RENEWAL_INTERVAL;
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = inner.renew() => {}
        }
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = rt.sleep(RENEWAL_PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn queue() -> MessageQueue {
        MessageQueue { topic: "T".to_owned(), broker_name: "a".to_owned(), queue_id: 0 }
    }

    #[test]
    fn a_lock_counts_for_half_of_the_time_that_the_broker_keeps_it() {
        let locks = Locks::default();
        assert!(!locks.is_held(&queue(), at(0)));
        locks.granted(&queue(), at(5));
        assert!(locks.is_held(&queue(), at(35)));
        assert!(!locks.is_held(&queue(), at(36)));
        assert!(BROKER_LOCK_LIFE >= 2 * LOCK_LIFE && RENEWAL_INTERVAL < LOCK_LIFE);
        locks.granted(&queue(), at(40));
        locks.lost(&queue());
        assert!(!locks.is_held(&queue(), at(40)));
    }

    #[test]
    fn a_queue_that_is_handed_over_is_barred_until_its_unlock_is_answered() {
        let locks = Locks::default();
        assert!(!locks.is_barred(&queue(), at(0)));
        locks.bar(&queue(), Mono::NEVER);
        assert!(locks.is_barred(&queue(), at(1_000)));
        locks.bar(&queue(), at(60));
        assert!(locks.is_barred(&queue(), at(59)));
        assert!(!locks.is_barred(&queue(), at(60)));
    }

    #[test]
    fn a_queue_has_one_turn_at_a_time_whoever_asks() {
        let locks = Locks::default();
        let turn = locks.turn(&queue()).try_lock_owned().expect("nobody has it");
        assert!(locks.turn(&queue()).try_lock_owned().is_err());
        drop(turn);
        assert!(locks.turn(&queue()).try_lock_owned().is_ok());
    }
}
