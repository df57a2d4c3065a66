//! How far a group has consumed each of its queues: the next offset to consume, in memory and at the queue's master; or, of a
//! broadcasting consumer, in a file of its own.
//!
//! Only what was consumed or decided here is told: an offset that was read and that nothing has come of yet may be behind
//! what another member has told since, and would put it back. Once its broker was lost it is told all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::local_offsets::LocalOffsets;
use crate::remoting::RemotingCommand;
use crate::remoting::body::MessageQueue;
use crate::remoting::codes::{request, response, response_name};
use crate::remoting::connection::CallError;
use crate::remoting::headers::{
    GetMaxOffsetHeader, HeaderError, OffsetResponse, QueryConsumerOffsetHeader, SearchOffsetHeader,
    TypedHeader, UpdateConsumerOffsetHeader,
};
use crate::runtime::{Mark, Runtime};

/// Why an offset is not known. None of these means that there is none.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum OffsetError {
    #[error("the broker {broker_name} has no known address")]
    NoBroker { broker_name: String },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{addr} answers {}: {remark}", response_name(*code))]
    Refused { addr: String, code: i32, remark: String },
    #[error("{addr} answers without an offset: {error}")]
    Malformed { addr: String, error: HeaderError },
    #[error("{path}: {error}")]
    Local { path: String, error: Arc<io::Error> },
}

#[derive(Clone, Copy)]
struct Known {
    offset: i64,
    /// It was read, and nothing has come of it yet.
    is_only_read: bool,
}

pub(super) struct OffsetStore<R: Runtime> {
    shared: Arc<Shared<R>>,
    group: String,
    local: Option<LocalOffsets>,
    offsets: Mutex<BTreeMap<MessageQueue, Known>>,
}

impl<R: Runtime> OffsetStore<R> {
    /// `local`: the file of a broadcasting consumer.
    pub(super) fn new(shared: Arc<Shared<R>>, group: String, local: Option<String>) -> Self {
        OffsetStore { shared, group, local: local.map(LocalOffsets::new), offsets: Mutex::default() }
    }

    fn offsets(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Known>> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, queue: &MessageQueue) -> Option<i64> {
        self.offsets().get(queue).map(|known| known.offset)
    }

    /// What the broker is to be told.
    pub(super) fn to_tell(&self, queue: &MessageQueue) -> Option<i64> {
        self.offsets().get(queue).filter(|known| !known.is_only_read).map(|known| known.offset)
    }

    /// Raises the offset; a lower one changes nothing, since batches of a queue finish in any order.
    pub(super) fn raise(&self, queue: &MessageQueue, offset: i64) {
        let mut offsets = self.offsets();
        let before = offsets.get(queue).map_or(offset, |known| known.offset);
        offsets.insert(queue.clone(), Known { offset: before.max(offset), is_only_read: false });
    }

    /// Sets the offset, also to a lower one: where a queue was reset.
    pub(super) fn set(&self, queue: &MessageQueue, offset: i64) {
        self.offsets().insert(queue.clone(), Known { offset, is_only_read: false });
    }

    /// Where a queue that was taken over begins, as it was read.
    pub(super) fn begin(&self, queue: &MessageQueue, offset: i64) {
        self.offsets().insert(queue.clone(), Known { offset, is_only_read: true });
    }

    /// The broker may have died, and with it what it had not saved: also what was only read is told again.
    pub(super) fn doubt_broker(&self, queue: &MessageQueue) {
        if let Some(known) = self.offsets().get_mut(queue) {
            known.is_only_read = false;
        }
    }

    pub(super) fn forget(&self, queue: &MessageQueue) {
        self.offsets().remove(queue);
    }

    /// Tells the masters the offsets of `assigned`. Unanswered as in Java: what is lost now is told again in 5 s.
    ///
    /// A broker that the last routes did not name has no address here, while its queues stay ours until the next
    /// rebalance and may stay ours after it. Then the name servers are asked again, last, since they may not answer.
    ///
    /// # Source
    /// apache/rocketmq, `RemoteBrokerOffsetStore#updateConsumeOffsetToBroker`.
    pub(super) async fn persist_all(&self, assigned: &[MessageQueue]) {
        if let Some(local) = &self.local {
            return self.save(local, assigned).await;
        }
        let (reachable, lost): (Vec<_>, Vec<_>) =
            assigned.iter().partition(|queue| self.to_tell(queue).is_none() || self.addr(queue).is_ok());
        for queue in reachable {
            self.persist(queue).await;
        }
        let topics: BTreeSet<&String> = lost.iter().map(|queue| &queue.topic).collect();
        for topic in topics {
            if let Err(error) = self.shared.routes.refresh(topic).await {
                tracing::debug!(topic, %error, "no address to commit offsets at");
            }
        }
        for queue in lost {
            self.persist(queue).await;
        }
    }

    pub(super) async fn persist(&self, queue: &MessageQueue) {
        if let Some(local) = &self.local {
            return self.save(local, std::slice::from_ref(queue)).await;
        }
        let Some(commit_offset) = self.to_tell(queue) else {
            return;
        };
        let Ok(addr) = self.addr(queue) else {
            return;
        };
        let header = UpdateConsumerOffsetHeader {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset,
        };
        let update = RemotingCommand::request(request::UPDATE_CONSUMER_OFFSET).with_header(&header);
        if let Err(error) = self.shared.peers.oneway(&addr, update, self.shared.config.request_timeout).await
        {
            tracing::debug!(%error, "offset not committed");
        }
    }

    async fn save(&self, local: &LocalOffsets, queues: &[MessageQueue]) {
        let told = queues.iter().filter_map(|queue| Some((queue.clone(), self.to_tell(queue)?)));
        if let Err(error) = local.save(&self.shared.rt, told.collect()).await {
            self.shared.rt.mark(Mark::LocalOffsetsUnsaved);
            tracing::warn!(path = local.path(), %error, "offsets not saved");
        }
    }

    /// The offset that the group has committed, `None` if it has none.
    ///
    /// # Errors
    /// [`OffsetError`]: nothing is known, so nothing may be consumed from a guessed place.
    pub(super) async fn committed(&self, queue: &MessageQueue) -> Result<Option<i64>, OffsetError> {
        if let Some(local) = &self.local {
            let found = local.get(&self.shared.rt, queue).await;
            return found.map_err(|error| OffsetError::Local {
                path: local.path().to_owned(),
                error: Arc::new(error),
            });
        }
        let header = QueryConsumerOffsetHeader {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: None,
        };
        match self.ask(queue, request::QUERY_CONSUMER_OFFSET, &header).await {
            Ok(offset) => Ok(Some(offset)),
            Err(OffsetError::Refused { code: response::QUERY_NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The offset that the next message of the queue will get.
    ///
    /// # Errors
    /// [`OffsetError`].
    pub(super) async fn end(&self, queue: &MessageQueue) -> Result<i64, OffsetError> {
        let header =
            GetMaxOffsetHeader { topic: queue.topic.clone(), queue_id: queue.queue_id, committed: None };
        self.ask(queue, request::GET_MAX_OFFSET, &header).await
    }

    /// The first offset stored at or after the time, in ms since 1970.
    ///
    /// # Errors
    /// [`OffsetError`].
    pub(super) async fn at_time(&self, queue: &MessageQueue, timestamp: i64) -> Result<i64, OffsetError> {
        let header = SearchOffsetHeader {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp,
            ..SearchOffsetHeader::default()
        };
        self.ask(queue, request::SEARCH_OFFSET_BY_TIMESTAMP, &header).await
    }

    fn addr(&self, queue: &MessageQueue) -> Result<String, OffsetError> {
        let addr = self.shared.routes.readable(&queue.broker_name, 0);
        addr.ok_or_else(|| OffsetError::NoBroker { broker_name: queue.broker_name.clone() })
    }

    async fn ask(
        &self,
        queue: &MessageQueue,
        code: i32,
        header: &impl TypedHeader,
    ) -> Result<i64, OffsetError> {
        let addr = self.addr(queue)?;
        let question = RemotingCommand::request(code).with_header(header);
        let answer = self.shared.peers.call(&addr, question, self.shared.config.request_timeout).await?;
        if answer.code != response::SUCCESS {
            let remark = answer.remark.unwrap_or_default();
            return Err(OffsetError::Refused { addr, code: answer.code, remark });
        }
        match answer.header::<OffsetResponse>() {
            Ok(found) => Ok(found.offset),
            Err(error) => Err(OffsetError::Malformed { addr, error }),
        }
    }
}
