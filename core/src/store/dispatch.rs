//! Dispatch: follows the log in batches and gives each record's place to its queue, and its keys to the index.
//!
//! It reads up to what may be visible (the durable position in SYNC_FLUSH, S-08), writes each queue's entries of a batch in
//! one piece, then tells who waits for messages. It never skips bytes: what it cannot read stops it and the puts (S-24).
//!
//! Invariant: everything below `dispatched` is in its queue.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::answer::ArrivalListener;
use super::batch_topics::BatchTopics;
use super::commit_log::Log;
use super::consume_queue::ConsumeQueue;
use super::consume_queues::ConsumeQueues;
use super::dropped::DroppedTopics;
use super::error::WhyNot;
use super::filing::Filing;
use super::index::{self, Handed, Key};
use super::queue_entry::Entry;
use super::recover_log::{Marks, mark_bytes};
use crate::message::codec::{self, BLANK_BYTES, Check, Head};
use crate::runtime::sync::{Receiver, Watermark};
use crate::runtime::{Mark, Mutant, Runtime};

/// One batch covers at most this many bytes of the log, or one record.
const BATCH_BYTES: u64 = 1 << 20;
/// While nobody waits for messages, so many batches are dispatched as they come within [`PACE`]; then it rests as long: under
/// load a wake-up for each message would cost more than its dispatch. Java rests as long after each.
const QUICK_BATCHES: u32 = 8;
const PACE: Duration = Duration::from_millis(1);
/// Between two tries to write queue entries on a disk that is full.
const RETRY: Duration = Duration::from_millis(1_000);
/// After so many tries without success puts are refused until one succeeds.
const TRIES_MAX: u32 = 5;
/// So many of the queues met last are looked through before the table of all is: producers go round a few queues.
const RECENT_QUEUES: usize = 16;

pub(crate) struct Dispatch<R: Runtime> {
    log: Log<R>,
    queues: Arc<ConsumeQueues<R>>,
    /// Who files records by their keys, if somebody does.
    handed: Option<Arc<Handed>>,
    delay_levels_ms: Vec<i64>,
    dispatched: Watermark,
    /// Store time of the last record dispatched.
    timestamp: AtomicI64,
    marks: Mutex<Marks>,
    dropped: RwLock<Arc<DroppedTopics>>,
    batch_topics: Arc<BatchTopics>,
    /// Held by each batch, and while queues are dropped: nobody writes what is being deleted.
    writing: tokio::sync::Mutex<()>,
    /// The store stops: a disk that takes no entries is not waited for.
    stopping: AtomicBool,
    listener: RwLock<Option<Arc<dyn ArrivalListener>>>,
}

/// How far dispatch has come, of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub position: u64,
    pub timestamp: i64,
    /// A record's position well before `position`.
    pub mark: u64,
}

struct Arrival {
    /// Index in [`Batch::queues`].
    queue: usize,
    next_offset: i64,
    entry: Entry,
}

#[derive(Default)]
struct Batch {
    arrivals: Vec<Arrival>,
    /// The queues of the records, as they came: one that was not met for a while may be there again.
    queues: Vec<Arc<ConsumeQueue>>,
    touched: Vec<Arc<ConsumeQueue>>,
    keys: Vec<Key>,
    end: u64,
    timestamp: i64,
}

enum Stopped {
    Unreadable(io::Error),
    Inconsistent,
}

impl<R: Runtime> Dispatch<R> {
    pub fn new(
        log: Log<R>,
        queues: Arc<ConsumeQueues<R>>,
        handed: Option<Arc<Handed>>,
        delay_levels_ms: Vec<i64>,
        mark: u64,
        (dropped, batch_topics): (DroppedTopics, Arc<BatchTopics>),
    ) -> Dispatch<R> {
        let (end, timestamp) = log.position();
        let marks = Marks::new(mark, mark_bytes(log.file_bytes()));
        Dispatch {
            log,
            queues,
            handed,
            delay_levels_ms,
            dispatched: Watermark::new(end),
            timestamp: AtomicI64::new(timestamp),
            marks: Mutex::new(marks),
            dropped: RwLock::new(Arc::new(dropped)),
            batch_topics,
            writing: tokio::sync::Mutex::new(()),
            stopping: AtomicBool::new(false),
            listener: RwLock::new(None),
        }
    }

    pub fn dispatched(&self) -> &Watermark {
        &self.dispatched
    }

    pub fn set_listener(&self, listener: Arc<dyn ArrivalListener>) {
        *self.listener.write().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    /// Who is to hear of messages, if somebody waits for them.
    fn listener(&self) -> Option<Arc<dyn ArrivalListener>> {
        let listener = self.listener.read().unwrap_or_else(PoisonError::into_inner).clone();
        listener.filter(|listener| listener.is_waiting())
    }

    /// Everything below the answer's position is in its queue. The time is read first, so that it is never ahead.
    pub fn progress(&self) -> Progress {
        let timestamp = self.timestamp.load(Ordering::Acquire);
        let position = self.dispatched.get();
        let mark = self.marks.lock().unwrap_or_else(PoisonError::into_inner).behind(position);
        Progress { position, timestamp, mark }
    }

    /// The task: runs until `stop` is true, or nothing more can be dispatched.
    pub async fn run(&self, mut stop: Receiver<bool>) {
        let (mut quick, mut since) = (0, self.log.rt().now());
        loop {
            let position = self.dispatched.get();
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                reached = self.log.visible().reached(position + 1) => {
                    if reached.is_err() {
                        return;
                    }
                }
            }
            let limit = self.log.visible().get();
            if self.dispatched.get() != position {
                // The log of a slave has begun behind it.
                continue;
            }
            match self.batch(position, limit).await {
                Ok(true) => quick += 1,
                Ok(false) => return,
                Err(Stopped::Unreadable(error)) => {
                    self.log.rt().mark(Mark::LogUnreadable);
                    tracing::error!(position, %error, "read the CommitLog");
                    self.log.refuse_because(WhyNot::Unreadable);
                    return;
                }
                Err(Stopped::Inconsistent) => {
                    self.log.refuse_because(WhyNot::Inconsistent);
                    self.log.rt().probe("store.inconsistent", position, limit);
                    return;
                }
            }
            if quick < QUICK_BATCHES || self.listener().is_some() {
                continue;
            }
            let rt = self.log.rt();
            if rt.now().since(since) < PACE {
                crate::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = rt.sleep(PACE) => {}
                }
            }
            (quick, since) = (0, rt.now());
        }
    }

    /// The store stops: no more waiting for a disk that takes nothing.
    pub fn give_up_waiting(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Dispatches what is visible now, to the end; used when the store stops.
    pub async fn catch_up(&self) -> bool {
        loop {
            let (position, limit) = (self.dispatched.get(), self.log.visible().get());
            if position >= limit {
                return true;
            }
            if !matches!(self.batch(position, limit).await, Ok(true)) {
                return false;
            }
        }
    }

    async fn batch(&self, from: u64, limit: u64) -> Result<bool, Stopped> {
        let _writing = self.writing.lock().await;
        let batch = self.collect(from, limit)?;
        assert!(batch.end > from, "visible bytes at {from} are dispatched");
        if !self.write(&batch).await {
            return Ok(false);
        }
        let rt = self.log.rt();
        for queue in &batch.touched {
            self.queues.mark_dirty(queue);
        }
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).pass(batch.end);
        // Before the index is told to go on.
        if let Some(handed) = self.handed.as_ref().filter(|_| !rt.buggify("store.dispatch.keeps_keys")) {
            handed.offer(from, batch.end, &batch.keys);
        }
        self.dispatched.advance(batch.end);
        self.timestamp.fetch_max(batch.timestamp, Ordering::AcqRel);
        rt.probe("store.dispatched", from, batch.end);
        if let Some(listener) = self.listener() {
            for arrival in &batch.arrivals {
                let queue = &batch.queues[arrival.queue];
                let Arrival { next_offset, entry, .. } = arrival;
                let properties = || self.properties(entry);
                listener.on_arrival(&queue.topic, queue.queue_id, *next_offset, entry.tags_code, &properties);
            }
        }
        Ok(true)
    }

    pub fn dropped(&self) -> Arc<DroppedTopics> {
        self.dropped.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Deletes the queues of `topic`, which is in `dropped`, as the file on disk says already.
    ///
    /// # Errors
    /// Of deleting, when the store stops before the disk lets it be done: the next start does it.
    pub async fn drop_queues(&self, topic: &str, dropped: DroppedTopics) -> io::Result<()> {
        *self.dropped.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(dropped);
        let rt = self.log.rt();
        let _writing = self.writing.lock().await;
        let queues = self.queues.take_topic(topic);
        let mut tries = 0;
        for queue in &queues {
            // Until it is done, since a queue of the same name would be written into the old files.
            while let Err(error) = queue.delete_files(rt, &self.queues.files).await {
                tries += 1;
                rt.mark(Mark::QueueFilesUndeleted);
                tracing::warn!(topic, queue = queue.queue_id, tries, %error, "delete the files of a queue");
                if self.stopping.load(Ordering::Acquire) {
                    return Err(error);
                }
                if tries >= TRIES_MAX {
                    self.log.refuse_because(WhyNot::QueueWriteFailed);
                }
                rt.sleep(RETRY).await;
            }
        }
        if tries >= TRIES_MAX {
            self.log.recover_from(WhyNot::QueueWriteFailed);
        }
        rt.probe("store.topic_dropped", queues.len() as u64, 0);
        Ok(())
    }

    /// Stages the entries of the records from `from` on.
    fn collect(&self, from: u64, limit: u64) -> Result<Batch, Stopped> {
        let missing = || Stopped::Unreadable(io::ErrorKind::NotFound.into());
        let file = self.log.files().find(from).ok_or_else(missing)?;
        let upto = limit.min(file.end()).min(file.written_end());
        let dropped = self.dropped();
        let bytes_max = if self.log.rt().buggify("store.dispatch.small_batch") { 1 } else { BATCH_BYTES };
        let mut batch = Batch { end: from, ..Batch::default() };
        if file.end() - from < BLANK_BYTES as u64 {
            batch.end = file.end();
            return Ok(batch);
        }
        let first = file.view(from, BLANK_BYTES).map_err(Stopped::Unreadable)?;
        let first_bytes = match codec::head(first.as_ref()) {
            Head::Record { size } => u64::from(size),
            Head::Blank { .. } => {
                batch.end = file.end();
                return Ok(batch);
            }
            Head::Nothing { .. } => return Err(Stopped::Unreadable(io::ErrorKind::InvalidData.into())),
        };
        let len = bytes_max.max(first_bytes).min(upto - from);
        let view =
            file.view(from, usize::try_from(len).unwrap_or(usize::MAX)).map_err(Stopped::Unreadable)?;
        let mut rest = view.as_ref();
        while !rest.is_empty() {
            let record = match codec::head(rest) {
                Head::Record { size } if size as usize <= rest.len() => codec::decode(rest, Check::Lengths),
                Head::Blank { .. } => {
                    batch.end = file.end();
                    break;
                }
                // Cut by the window, or by what is visible: the next batch has it whole.
                _ if batch.end > from => break,
                _ => return Err(Stopped::Unreadable(io::ErrorKind::InvalidData.into())),
            };
            let record =
                record.map_err(|why| Stopped::Unreadable(io::Error::new(io::ErrorKind::InvalidData, why)))?;
            assert_eq!(record.physical_offset, batch.end, "a record states where it is");
            let filing = Filing::of(&record);
            if self.handed.is_some() {
                index::add_keys(&record, &filing, &mut batch.keys);
            }
            let in_queue =
                record.physical_offset >= dropped.before(record.topic) && !self.batch_topics.has(&record);
            if let Some(entry) = Entry::filed(&record, &filing, &self.delay_levels_ms).filter(|_| in_queue) {
                self.stage(&mut batch, record.topic, record.queue_id, record.queue_offset, &entry)?;
            }
            batch.end += u64::from(record.size);
            batch.timestamp = batch.timestamp.max(record.store_timestamp);
            rest = rest.get(record.size as usize..).unwrap_or(&[]);
        }
        Ok(batch)
    }

    fn stage(
        &self,
        batch: &mut Batch,
        topic: &str,
        queue_id: i32,
        n: i64,
        entry: &Entry,
    ) -> Result<(), Stopped> {
        let at = self.queue_of(batch, topic, queue_id);
        let queue = &batch.queues[at];
        match queue.stage(n, entry) {
            Ok(first) => {
                if first {
                    batch.touched.push(queue.clone());
                }
                batch.arrivals.push(Arrival { queue: at, next_offset: n + 1, entry: *entry });
                Ok(())
            }
            Err(gap) => {
                tracing::error!(topic, queue_id, ?gap, "the log does not continue the queue");
                Err(Stopped::Inconsistent)
            }
        }
    }

    /// The property string of the record that an entry points at.
    fn properties(&self, entry: &Entry) -> Option<String> {
        let view = self.log.files().view(entry.physical_offset, entry.size as usize)?.ok()?;
        let record = codec::decode(view.as_ref(), Check::Lengths).ok()?;
        Some(record.properties.into_owned())
    }

    /// Where the queue is in `batch.queues`.
    fn queue_of(&self, batch: &mut Batch, topic: &str, queue_id: i32) -> usize {
        let is_it = |queue: &Arc<ConsumeQueue>| queue.queue_id == queue_id && queue.topic == topic;
        let recent_from = batch.queues.len().saturating_sub(RECENT_QUEUES);
        if let Some(at) = batch.queues[recent_from..].iter().position(is_it) {
            return recent_from + at;
        }
        batch.queues.push(self.queues.find_or_create(topic, queue_id));
        batch.queues.len() - 1
    }

    /// Writes what was staged; goes on trying while the disk takes nothing, so that a full disk leaves no trace (S-28).
    async fn write(&self, batch: &Batch) -> bool {
        let rt = self.log.rt();
        for queue in &batch.touched {
            let mut tries = 0;
            while let Err(error) = queue.write_staged(rt, &self.queues.files).await {
                tries += 1;
                rt.mark(Mark::QueueUnwritten);
                tracing::warn!(topic = %queue.topic, queue = queue.queue_id, tries, %error, "write queue entries");
                if self.stopping.load(Ordering::Acquire) {
                    return false;
                }
                if tries >= TRIES_MAX {
                    self.log.refuse_because(WhyNot::QueueWriteFailed);
                }
                rt.sleep(RETRY).await;
            }
            if tries > 0 && !rt.mutant(Mutant::QueueWriteSticks) {
                self.log.recover_from(WhyNot::QueueWriteFailed);
            }
        }
        true
    }
}
