//! All queues by topic and number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::consume_queue::{ConsumeQueue, Extent};
use super::queue_files::QueueFiles;
use crate::runtime::Runtime;

type Table<T> = BTreeMap<String, BTreeMap<i32, Arc<T>>>;

pub(crate) struct ConsumeQueues<R: Runtime> {
    pub root: String,
    pub files: QueueFiles<R>,
    file_bytes: u64,
    table: RwLock<Table<ConsumeQueue>>,
    /// Queues with entries that are not durable.
    dirty: Mutex<BTreeMap<u64, Arc<ConsumeQueue>>>,
    numbers: AtomicU64,
}

impl<R: Runtime> ConsumeQueues<R> {
    pub fn new(root: String, files: QueueFiles<R>, file_bytes: u64) -> ConsumeQueues<R> {
        ConsumeQueues {
            root,
            files,
            file_bytes,
            table: RwLock::default(),
            dirty: Mutex::default(),
            numbers: AtomicU64::new(0),
        }
    }

    pub fn find(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(topic)?.get(&queue_id).cloned()
    }

    /// The queue, made empty when there is none.
    pub fn find_or_create(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        self.find(topic, queue_id).unwrap_or_else(|| self.add(topic, queue_id, Extent::default()))
    }

    /// The queue; where there is none, one that stands at `extent`.
    pub fn add(&self, topic: &str, queue_id: i32, extent: Extent) -> Arc<ConsumeQueue> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let queue = ConsumeQueue::new(number, &self.root, topic, queue_id, self.file_bytes, extent);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let queues = table.entry(topic.to_owned()).or_default();
        queues.entry(queue_id).or_insert_with(|| Arc::new(queue)).clone()
    }

    pub fn of_topic(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(topic).map(|queues| queues.values().cloned().collect()).unwrap_or_default()
    }

    /// Takes the queues of a topic out, with what they have to flush.
    pub fn take_topic(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        let taken = self.table.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
        let taken: Vec<_> = taken.unwrap_or_default().into_values().collect();
        for queue in &taken {
            self.dirty().remove(&queue.number());
        }
        taken
    }

    pub fn all(&self) -> Vec<Arc<ConsumeQueue>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().flat_map(BTreeMap::values).cloned().collect()
    }

    fn dirty(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ConsumeQueue>>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mark_dirty(&self, queue: &Arc<ConsumeQueue>) {
        self.dirty().insert(queue.number(), queue.clone());
    }

    pub fn take_dirty(&self, bytes_min: u64) -> Vec<Arc<ConsumeQueue>> {
        let mut dirty = self.dirty();
        let taken: Vec<_> =
            dirty.values().filter(|queue| queue.dirty_bytes() >= bytes_min).cloned().collect();
        for queue in &taken {
            dirty.remove(&queue.number());
        }
        taken
    }
}

/// The next queue offset of each queue, as puts assign it.
///
/// Its own table: a put may be far ahead of dispatch, and must not find what it has assigned in the queue.
#[derive(Default)]
pub(crate) struct QueueOffsets(RwLock<Table<AtomicI64>>);

impl QueueOffsets {
    /// The queue's next offset, 0 for a new one. Making the place for it assigns nothing.
    pub fn of(&self, topic: &str, queue_id: i32) -> Arc<AtomicI64> {
        {
            let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = table.get(topic).and_then(|queues| queues.get(&queue_id)) {
                return next.clone();
            }
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.entry(topic.to_owned()).or_default().entry(queue_id).or_default().clone()
    }

    /// The next offset of each queue of a topic that a put has been for.
    pub fn of_topic(&self, topic: &str) -> BTreeMap<i32, i64> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let queues = table.get(topic).into_iter().flatten();
        queues.map(|(queue_id, next)| (*queue_id, next.load(Ordering::Acquire))).collect()
    }
}
