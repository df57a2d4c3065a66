//! A push consumer of a group. In clustering mode each queue has one owner in the group, found by rebalancing; a broadcasting
//! consumer reads all queues, and keeps for itself how far it is. A task per owned queue pulls; batches are consumed side by
//! side, or, of each queue, one after the other: see `in_order`.
//!
//! At least once: after a crash, a rebalance or a reset a message may come again. A message whose listener says `Retry` is
//! handed back to the broker, which delivers it again through the group's retry topic and gives it up after too many tries.
//! One whose listener says `Later`, or that no broker takes back, comes again here, and its queue's committed offset waits.
//! In order both come again here, before anything behind them. A broadcasting consumer has nobody to hand back to: what its
//! listener fails with by `Retry` is passed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::asked::Asked;
use super::consume_counts::ConsumeCounts;
pub use super::consumer_config::{ConsumeFrom, ConsumerConfig, StartError};
use super::in_order::{Locks, consume_in_order, renew_locks};
use super::offset_store::{OffsetError, OffsetStore};
use super::process_queue::ProcessQueue;
use super::pull::pull_queue;
use super::send_back::{Terms, send_back};
use super::subscription::{sql, subscription};
use super::{Client, Received, Shared};
use crate::filter::Expression;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    ConsumeFromWhere, ConsumeType, ConsumerData, ConsumerList, MessageModel, MessageQueue, ProcessQueueInfo,
    SubscriptionData,
};
use crate::remoting::codes::{request, response};
use crate::remoting::headers::GetConsumerListHeader;
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Mark, Mutant, Runtime, Task};

/// A stop waits at least so long for brokers to take locks back.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);
/// Topic of messages that a group is to try again.
const RETRY_PREFIX: &str = "%RETRY%";
/// Rebalances are no closer together, however often they are asked for.
const REBALANCE_PAUSE: Duration = Duration::from_secs(1);
/// What could not be learned is asked for again after this.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a listener did with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsumeStatus {
    Success,
    /// The whole batch is to come again here, after [`ConsumerConfig::retry_delay`].
    Later,
    /// It has failed: each message is handed back and comes again after the broker's delay, to some member of the group.
    Retry,
}

/// The application. Implemented by closures.
pub trait Listener: Send + Sync + 'static {
    fn consume(&self, messages: Vec<Received>) -> impl Future<Output = ConsumeStatus> + Send;
}

impl<F, Fut> Listener for F
where
    F: Fn(Vec<Received>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ConsumeStatus> + Send,
{
    fn consume(&self, messages: Vec<Received>) -> impl Future<Output = ConsumeStatus> + Send {
        self(messages)
    }
}

/// A queue that is ours.
struct Owned {
    process: Arc<ProcessQueue>,
    stop: Sender<bool>,
}

type OwnedQueues = Arc<Mutex<BTreeMap<MessageQueue, Owned>>>;

fn lock(owned: &OwnedQueues) -> MutexGuard<'_, BTreeMap<MessageQueue, Owned>> {
    owned.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Inner<R: Runtime, L> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) config: ConsumerConfig,
    pub(super) subscriptions: BTreeMap<String, SubscriptionData>,
    pub(super) offsets: OffsetStore<R>,
    pub(super) counts: ConsumeCounts,
    /// By the wall clock.
    pub(super) started_ms: i64,
    owned: OwnedQueues,
    pub(super) locks: Locks,
    listener: L,
    pub(super) permits: Semaphore,
    /// Listeners that run now.
    running: Sender<usize>,
    stopping: Receiver<bool>,
}

/// A running consumer. Dropped without `stop`, it goes on.
pub struct PushConsumer<R: Runtime> {
    owned: OwnedQueues,
    stop: Sender<bool>,
    task: R::Task<()>,
}

impl<R: Runtime> PushConsumer<R> {
    /// Starts to consume. Name servers and brokers need not be there yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start<L: Listener>(
        client: &Client<R>,
        config: ConsumerConfig,
        listener: L,
    ) -> Result<PushConsumer<R>, StartError> {
        let shared = client.shared().clone();
        let group = config.group.clone();
        if group.is_empty() {
            return Err(StartError::NoGroup);
        }
        if config.subscriptions.is_empty() && config.sql.is_empty() {
            return Err(StartError::NoSubscription { group });
        }
        let version = shared.rt.wall_ms();
        let retry_topic = (format!("{RETRY_PREFIX}{group}"), "*".to_owned());
        let subscriptions: BTreeMap<String, SubscriptionData> = config
            .subscriptions
            .iter()
            .chain(config.broadcast.is_none().then_some(&retry_topic))
            .map(|(topic, expression)| (topic.clone(), subscription(topic, expression, version)))
            .chain(config.sql.iter().map(|(topic, text)| (topic.clone(), sql(topic, text, version))))
            .collect();
        for (topic, text) in &config.sql {
            Expression::parse(text)
                .map_err(|error| StartError::Expression { topic: topic.clone(), error })?;
        }
        let (wake, woken) = watch(0);
        let (stop, stopping) = watch(false);
        let owned = OwnedQueues::default();
        let inner = Arc::new(Inner {
            offsets: OffsetStore::new(shared.clone(), group.clone(), config.broadcast.clone()),
            locks: Locks::default(),
            counts: ConsumeCounts::default(),
            started_ms: version,
            permits: Semaphore::new(config.concurrency.max(1)),
            shared: shared.clone(),
            config,
            subscriptions,
            owned: owned.clone(),
            listener,
            running: watch(0).0,
            stopping: stopping.clone(),
        });
        let asked: Weak<dyn Asked> = Arc::downgrade(&(inner.clone() as Arc<dyn Asked>));
        if !shared.add_consumer(inner.data(), wake, asked) {
            return Err(StartError::GroupInUse { group });
        }
        shared.rt.spawn("client: commit offsets", commit_offsets(inner.clone(), stopping.clone()));
        if inner.locks_queues() {
            let opened = shared.registry.heartbeat.subscribe();
            shared.rt.spawn("client: renew locks", renew_locks(inner.clone(), opened, stopping.clone()));
        }
        let task = shared.rt.spawn("client: rebalance", run(inner, woken, stopping));
        Ok(PushConsumer { owned, stop, task })
    }

    /// The queues that are ours now.
    #[must_use]
    pub fn queues(&self) -> Vec<MessageQueue> {
        lock(&self.owned).keys().cloned().collect()
    }

    /// Tells the queues that are ours whenever it is asked, for whoever watches the consumer from outside.
    pub fn watch_queues(&self) -> impl Fn() -> Vec<MessageQueue> + Send + Sync + use<R> {
        let owned = self.owned.clone();
        move || lock(&owned).keys().cloned().collect()
    }

    /// Lets running listeners end, commits offsets, tells the brokers that the consumer is gone.
    pub async fn stop(self) {
        self.stop.send(true);
        // Cancelled: the node is dying.
        let _ = self.task.join().await;
    }
}

/// Rebalances until the stop, then ends everything in order.
async fn run<R: Runtime, L: Listener>(
    inner: Arc<Inner<R, L>>,
    mut woken: Receiver<u64>,
    mut stopping: Receiver<bool>,
) {
    let rt = inner.shared.rt.clone();
    crate::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = async {
            inner.introduce().await;
            loop {
                let is_balanced = inner.rebalance().await;
                rt.sleep(REBALANCE_PAUSE).await;
                if is_balanced {
                    // Elapsed and woken lead to the same.
                    let _ = rt.timeout(inner.config.rebalance_interval, woken.changed()).await;
                }
            }
        } => {}
    }
    inner.shut_down().await;
}

async fn commit_offsets<R: Runtime, L: Listener>(inner: Arc<Inner<R, L>>, mut stopping: Receiver<bool>) {
    loop {
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = inner.shared.rt.sleep(inner.config.commit_interval) => {}
        }
        let queues = inner.queues().into_iter().filter(|queue| inner.may_consume(queue));
        inner.offsets.persist_all(&queues.collect::<Vec<_>>()).await;
    }
}

impl<R: Runtime, L: Listener> Inner<R, L> {
    /// What heartbeats tell of the group.
    pub(super) fn data(&self) -> ConsumerData {
        ConsumerData {
            consume_from_where: match self.config.from {
                ConsumeFrom::Last => ConsumeFromWhere::LastOffset,
                ConsumeFrom::First => ConsumeFromWhere::FirstOffset,
                ConsumeFrom::Time(_) => ConsumeFromWhere::Timestamp,
            },
            consume_type: ConsumeType::Passively,
            group_name: self.config.group.clone(),
            message_model: match self.config.broadcast {
                Some(_) => MessageModel::Broadcasting,
                None => MessageModel::Clustering,
            },
            subscription_data_set: self.subscriptions.values().cloned().collect(),
            unit_mode: false,
        }
    }

    /// Makes the group known to every broker of its topics before the first consumer list is asked for.
    async fn introduce(&self) {
        for topic in self.subscriptions.keys() {
            if let Err(error) = self.shared.routes.route(topic).await {
                tracing::debug!(topic, %error, "no route yet");
            }
        }
        self.shared.heartbeat_all().await;
    }

    /// Takes and gives up queues by the lists as they are now. False when a list or a lock is missing: ask again soon.
    async fn rebalance(self: &Arc<Self>) -> bool {
        let mut is_balanced = true;
        for topic in self.subscriptions.keys() {
            match self.share_of(topic).await {
                Ok(mine) => is_balanced &= self.take_over(topic, &mine).await,
                // The queues stay with whom they are: better twice than not at all.
                Err(why) => {
                    tracing::debug!(group = self.config.group, topic, why, "not rebalanced");
                    // The retry topic is made by the broker some time after the first heartbeat.
                    is_balanced &= topic.starts_with(RETRY_PREFIX);
                }
            }
        }
        is_balanced
    }

    async fn share_of(&self, topic: &str) -> Result<Vec<MessageQueue>, String> {
        let route = match self.shared.routes.known(topic) {
            Some(route) if !route.subscribe.is_empty() => route,
            _ => self.shared.routes.refresh(topic).await.map_err(|error| error.to_string())?,
        };
        if self.config.broadcast.is_some() {
            return Ok(route.subscribe.clone());
        }
        let names: Vec<&String> = route.brokers.keys().collect();
        let draw = usize::try_from(self.shared.rt.random_u64() >> 33).unwrap_or(0);
        let name = names.get(draw % names.len().max(1)).ok_or("the route names no broker")?;
        let addr = self.shared.routes.readable(name, 0).ok_or("the broker has no address")?;
        let header = GetConsumerListHeader { consumer_group: self.config.group.clone() };
        let question = RemotingCommand::request(request::GET_CONSUMER_LIST_BY_GROUP).with_header(&header);
        let asked = self.shared.peers.call(&addr, question, self.shared.config.request_timeout).await;
        let answer = asked.map_err(|error| error.to_string())?;
        if answer.code != response::SUCCESS {
            // It has restarted and not heard of the group since.
            self.shared.wake_heartbeat();
            return Err(format!("{addr} answers {}: {:?}", answer.code, answer.remark));
        }
        let list = ConsumerList::parse(&answer.body.to_bytes()).map_err(|error| error.to_string())?;
        if !list.consumer_id_list.contains(&self.shared.client_id) {
            // The heartbeat is on its way, or the broker has lost us. Its notice of our coming may be lost too.
            self.shared.wake_heartbeat();
            return Err(format!("{addr} does not list us"));
        }
        let ids = &list.consumer_id_list;
        Ok(self.config.strategy.allocate(&self.shared.client_id, &route.subscribe, ids))
    }

    /// False when a queue cannot be taken yet.
    async fn take_over(self: &Arc<Self>, topic: &str, mine: &[MessageQueue]) -> bool {
        let wanted: BTreeSet<&MessageQueue> = mine.iter().collect();
        let lost: Vec<MessageQueue> = {
            let owned = lock(&self.owned);
            owned.keys().filter(|queue| queue.topic == topic && !wanted.contains(queue)).cloned().collect()
        };
        for queue in lost {
            self.give_up(&queue).await;
        }
        let mut new: Vec<MessageQueue> = {
            let owned = lock(&self.owned);
            mine.iter().filter(|queue| !owned.contains_key(queue)).cloned().collect()
        };
        let missing = new.len();
        if self.locks_queues() {
            new = self.lock(&new).await;
        }
        for queue in &new {
            let (stop, stopped) = watch(false);
            lock(&self.owned).insert(queue.clone(), Owned { process: Arc::default(), stop });
            tracing::info!(
                group = self.config.group,
                topic,
                broker = queue.broker_name,
                queue = queue.queue_id,
                "queue taken"
            );
            self.work_on(queue, stopped);
        }
        new.len() == missing
    }

    fn work_on(self: &Arc<Self>, queue: &MessageQueue, stopped: Receiver<bool>) {
        let rt = &self.shared.rt;
        if self.config.in_order {
            let consuming = consume_in_order(self.clone(), queue.clone(), stopped.clone());
            rt.spawn("client: consume in order", consuming);
        }
        rt.spawn("client: pull", pull_queue(self.clone(), queue.clone(), stopped));
    }

    /// The queues that are ours now.
    pub(super) fn queues(&self) -> Vec<MessageQueue> {
        lock(&self.owned).keys().cloned().collect()
    }

    /// Forgets what was pulled from a queue of ours and begins with it anew, at `offset`, which becomes the group's.
    pub(super) async fn begin_again(self: &Arc<Self>, queue: &MessageQueue, offset: i64) {
        let stopped = {
            let mut owned = lock(&self.owned);
            let Some(owned) = owned.get_mut(queue) else { return };
            owned.process.drop_queue();
            owned.stop.send(true);
            let (stop, stopped) = watch(false);
            *owned = Owned { process: Arc::default(), stop };
            self.offsets.set(queue, offset);
            stopped
        };
        tracing::info!(
            group = self.config.group,
            topic = queue.topic,
            queue = queue.queue_id,
            offset,
            "queue reset"
        );
        // The broker is asked where to begin, over the same connection.
        self.offsets.persist(queue).await;
        self.work_on(queue, stopped);
    }

    /// How many listeners run.
    pub(super) fn running(&self) -> usize {
        self.running.get()
    }

    pub(super) fn queue_infos(&self) -> BTreeMap<MessageQueue, ProcessQueueInfo> {
        let owned: Vec<(MessageQueue, Arc<ProcessQueue>)> =
            lock(&self.owned).iter().map(|(queue, owned)| (queue.clone(), owned.process.clone())).collect();
        let rt = &self.shared.rt;
        let (now, now_ms) = (rt.now(), rt.wall_ms());
        let info = |(queue, process): (MessageQueue, Arc<ProcessQueue>)| {
            let commit_offset = self.offsets.get(&queue).unwrap_or(-1);
            let info = self.order_info(&queue, now_ms, process.info(now, now_ms));
            (queue, ProcessQueueInfo { commit_offset, ..info })
        };
        owned.into_iter().map(info).collect()
    }

    /// The queue is not ours any more; what is pulled for it ends.
    pub(super) fn disown(&self, queue: &MessageQueue) -> Option<Arc<ProcessQueue>> {
        let owned = lock(&self.owned).remove(queue)?;
        owned.stop.send(true);
        Some(owned.process)
    }

    /// In order it goes on beside the caller, until the listener has come back: then the task is answered.
    async fn give_up(self: &Arc<Self>, queue: &MessageQueue) -> Option<R::Task<()>> {
        if self.locks_queues() {
            self.bar(queue);
        }
        let process = self.disown(queue)?;
        tracing::info!(
            group = self.config.group,
            topic = queue.topic,
            broker = queue.broker_name,
            queue = queue.queue_id,
            "queue given up"
        );
        if self.locks_queues() {
            let handing_over = self.clone().hand_over(queue.clone(), process);
            return Some(self.shared.rt.spawn("client: hand a queue over", handing_over));
        }
        process.drop_queue();
        self.offsets.persist(queue).await;
        self.offsets.forget(queue);
        None
    }

    /// The unfinished messages of a queue, `None` when it is no longer ours.
    pub(super) fn process(&self, queue: &MessageQueue) -> Option<Arc<ProcessQueue>> {
        lock(&self.owned).get(queue).map(|owned| owned.process.clone())
    }

    /// Goes on at `offset`, whatever was pulled before: the broker does not have what we asked for.
    pub(super) async fn reset(&self, queue: &MessageQueue, offset: i64) {
        {
            let mut owned = lock(&self.owned);
            let Some(owned) = owned.get_mut(queue) else {
                return;
            };
            owned.process.drop_queue();
            owned.process = Arc::default();
            self.offsets.set(queue, offset);
        }
        self.offsets.persist(queue).await;
    }

    /// Where to begin with a queue that has become ours.
    ///
    /// # Errors
    /// [`OffsetError`]: nothing is known, ask again.
    pub(super) async fn start_offset(&self, queue: &MessageQueue) -> Result<i64, OffsetError> {
        let committed = match self.offsets.committed(queue).await {
            Err(_) if self.shared.rt.mutant(Mutant::OffsetErrorIsNone) => None,
            said => said?,
        };
        if let Some(committed) = committed {
            return Ok(committed);
        }
        let is_retry = queue.topic.starts_with(RETRY_PREFIX);
        match self.config.from {
            ConsumeFrom::First => Ok(0),
            ConsumeFrom::Last if is_retry => Ok(0),
            ConsumeFrom::Time(ms) if !is_retry => self.offsets.at_time(queue, ms).await,
            ConsumeFrom::Last | ConsumeFrom::Time(_) => self.offsets.end(queue).await,
        }
    }

    /// Starts to consume what was pulled, batch by batch.
    pub(super) fn dispatch(
        self: &Arc<Self>,
        queue: &MessageQueue,
        process: &Arc<ProcessQueue>,
        messages: Vec<Received>,
    ) {
        if self.config.in_order {
            return process.line_up(messages);
        }
        for batch in messages.chunks(self.config.consume_batch_max.max(1)) {
            let consuming = consume(self.clone(), queue.clone(), process.clone(), batch.to_vec());
            self.shared.rt.spawn("client: consume", consuming);
        }
    }

    /// Calls the listener.
    pub(super) async fn listen(&self, batch: Vec<Received>) -> ConsumeStatus {
        let rt = &self.shared.rt;
        let (begun, count) = (rt.now(), batch.len());
        let topic = batch.first().map(|received| received.message.topic.clone()).unwrap_or_default();
        let status = self.listener.consume(batch).await;
        let failed = if status == ConsumeStatus::Success { 0 } else { count };
        self.counts.consumed(&topic, (begun, rt.now()), count, failed);
        status
    }

    /// Hands a message back to its broker. False when none has taken it.
    pub(super) async fn hand_back(&self, received: &Received, delay_level: i32) -> bool {
        let terms =
            Terms { group: &self.config.group, max_reconsume_times: self.config.tries_max(), delay_level };
        send_back(&self.shared, terms, received).await
    }

    /// Hands messages back and answers those that no broker has taken.
    async fn hand_all_back(&self, batch: &[Received]) -> Vec<Received> {
        if self.config.broadcast.is_some() {
            self.shared.rt.mark(Mark::BroadcastPassed);
            tracing::warn!(
                group = self.config.group,
                messages = batch.len(),
                "messages are passed unconsumed"
            );
            return Vec::new();
        }
        let mut kept = Vec::new();
        for received in batch {
            if !self.hand_back(received, self.config.retry_level).await {
                kept.push(received.clone());
            }
        }
        kept
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.clone().get()
    }

    /// A listener is called.
    pub(super) fn begin(&self) -> Running<'_> {
        Running::begin(&self.running)
    }

    async fn shut_down(self: &Arc<Self>) {
        let queues: Vec<MessageQueue> = {
            let owned = lock(&self.owned);
            owned.values().for_each(|owned| owned.stop.send(true));
            owned.keys().cloned().collect()
        };
        let mut running = self.running.subscribe();
        let rt = &self.shared.rt;
        let deadline = rt.now().after(self.config.stop_patience);
        let ended = running.wait_for(|count| *count == 0);
        if rt.timeout(self.config.stop_patience, ended).await.is_err() {
            self.shared.rt.mark(Mark::StoppedWhileConsuming);
            tracing::warn!(
                group = self.config.group,
                "stopped while listeners run; their messages come again"
            );
        }
        let mut handing_over = Vec::new();
        for queue in queues {
            handing_over.extend(self.give_up(&queue).await);
        }
        // The next owner waits for the locks: no longer than it must.
        let handed_over = async {
            for task in handing_over {
                let _ = task.join().await;
            }
            self.unlock_rest().await;
        };
        let left = deadline.since(rt.now()).max(HAND_OVER_PATIENCE);
        if rt.timeout(left, handed_over).await.is_err() {
            tracing::warn!(group = self.config.group, "stopped before all locks were given back");
        }
        self.shared.remove_consumer(&self.config.group);
        self.shared.unregister(None, Some(&self.config.group)).await;
    }
}

/// Counts a listener that runs, also when it panics or is cancelled.
pub(super) struct Running<'a>(&'a Sender<usize>);

impl<'a> Running<'a> {
    fn begin(running: &'a Sender<usize>) -> Running<'a> {
        running.modify(|count| *count += 1);
        Running(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.modify(|count| *count -= 1);
    }
}

/// Gives a batch to the listener until it is consumed or no longer ours.
async fn consume<R: Runtime, L: Listener>(
    inner: Arc<Inner<R, L>>,
    queue: MessageQueue,
    process: Arc<ProcessQueue>,
    mut batch: Vec<Received>,
) {
    let mut stopping = inner.stopping.clone();
    loop {
        let Ok(_permit) = inner.permits.acquire().await else {
            return;
        };
        if process.is_dropped() || stopping.get() {
            return;
        }
        let running = inner.begin();
        process.consumed_at(inner.shared.rt.now());
        let status = inner.listen(batch.clone()).await;
        let kept = match status {
            ConsumeStatus::Success => Vec::new(),
            ConsumeStatus::Later => batch.clone(),
            // The queue's new owner will consume them anyway.
            ConsumeStatus::Retry if process.is_dropped() => return,
            ConsumeStatus::Retry => inner.hand_all_back(&batch).await,
        };
        let is_done = |received: &&Received| !kept.contains(received);
        let done: Vec<i64> =
            batch.iter().filter(is_done).map(|received| received.message.queue_offset).collect();
        if !done.is_empty() {
            process.finish(&done, |offset| inner.offsets.raise(&queue, offset));
        }
        if kept.is_empty() {
            return;
        }
        batch = kept;
        drop(running);
        drop(_permit);
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = inner.shared.rt.sleep(inner.config.retry_delay) => {}
        }
        for received in &mut batch {
            received.message.reconsume_times = received.message.reconsume_times.saturating_add(1);
        }
    }
}
