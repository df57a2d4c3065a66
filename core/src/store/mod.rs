//! The message store in Java RocketMQ's format.
//!
//! `CommitLog` files hold the records of all queues in the order of their puts, `ConsumeQueue` files the place of each of a
//! queue's records; the latter follow from the former, so that only the log has to be durable before an answer.
//!
//! Map: `commit_log` (appends), `mapped_file` and `mapped_file_queue` (its files), `allocation` (the next one, ahead), `flush`
//! (group commit), `commit` (what the transient pool holds), `dispatch` (log to queues), `dropped` (queues of deleted topics), `consume_queue`, `consume_queues`, `queue_files`, `queue_entry`, `first_kept`, `filing` (queues),
//! `delay_levels` (when a delayed record is due), `index` (records by their keys), `queue_flush` and `checkpoint` (where recovery may begin), `retention` and `clean` (what is
//! deleted, and when a full disk refuses puts), `replicate` (what slaves copy), `recovery`, `recover_log`, `recover_queues` (opening a directory), `read` (what
//! consumers ask), `queue_heal` (entries that the disk has not kept), `check` (the same look, without changing anything), `dump` (what is in the files), `resync` (where records
//! go on behind damage), `config_file` (durable small files).
//!
//! Queue files are opened when somebody reads them and a bounded number is open, so what reads a queue (`get`,
//! `offset_by_time`, `store_time`) is async; offsets known in memory (`min_offset`, `max_offset`) and the log (`message_at`) are not.
//!
//! Invariant: a put answered in SYNC_FLUSH survives a power loss; in both modes it survives a crash of the process, but for
//! what the transient pool has not committed yet.
//! Invariant: queue offsets are dense, in the order of the log, and never given twice once shown.
//! Invariant: what was cut by a recovery never comes back (S-04, S-05).

mod abort_marker;
mod allocation;
pub mod answer;
mod batch_topics;
pub mod check;
mod checkpoint;
mod clean;
mod commit;
mod commit_log;
pub mod config;
pub mod config_file;
mod consume_queue;
mod consume_queues;
mod delay_levels;
mod dispatch;
mod dropped;
pub mod dump;
pub mod error;
mod filing;
mod first_kept;
mod flush;
pub mod index;
mod mapped_file;
mod mapped_file_queue;
mod queue_entry;
mod queue_files;
mod queue_flush;
mod queue_heal;
mod read;
mod recover_log;
mod recover_queues;
mod recovery;
mod replicate;
mod resync;
mod retention;

use std::io;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use answer::{Appended, AppendedBatch, ArrivalListener, Boundary, GetStatus, Read};
pub use clean::StoreUsage;
pub use commit_log::copy::{CopyError, Piece};
pub use config::{FlushMode, Pace, ReadLimits, StoreConfig, TransientPool, commit_log_dirs, moved_dirs};
pub use config_file::ConfigFile;
pub use delay_levels::DelayLevels;
pub use error::{LogTrace, PutError, RecoverError, StopError, WhyNot};
pub(crate) use queue_entry::Entry;
pub use read::ReadFilter;
pub use retention::{DeleteHours, Retention};

pub(crate) use batch_topics::ATTRIBUTE as OF_BATCHES;
use batch_topics::BatchTopics;
use clean::Clean;
use commit_log::{CommitLog, Log, Placed};
use consume_queues::{ConsumeQueues, QueueOffsets};
use dispatch::Dispatch;
use dropped::Dropped;
use flush::Flush;
use index::{Handed, Index};
use queue_flush::QueueFlush;
use recovery::{Look, Paths};

use crate::message::batch::BatchItem;
use crate::message::codec::{self, Prepared};
use crate::message::{MessageToStore, sys_flag};
use crate::runtime::sync::{Sender, Watermark, watch};
use crate::runtime::{Mutant, Runtime, Task};

pub struct MessageStore<R: Runtime> {
    rt: R,
    config: StoreConfig,
    pace: Sender<Pace>,
    paths: Paths,
    log: Log<R>,
    queues: Arc<ConsumeQueues<R>>,
    offsets: QueueOffsets,
    flush: Arc<Flush<R>>,
    dispatch: Arc<Dispatch<R>>,
    index: Arc<Index<R>>,
    batch_topics: Arc<BatchTopics>,
    queue_flush: Arc<QueueFlush<R>>,
    clean: Arc<Clean<R>>,
    stop: Sender<bool>,
    tasks: Mutex<Vec<R::Task<()>>>,
    /// Held while the store lives: keeps other brokers, Java's too, out of the directory.
    lock: Mutex<Option<R::Lock>>,
    /// One topic is dropped at a time.
    dropping: tokio::sync::Mutex<()>,
}

impl<R: Runtime> MessageStore<R> {
    /// Opens the directory: takes its lock, recovers it, makes the abort marker durable. Puts are refused until [`Self::start`].
    ///
    /// # Errors
    /// [`RecoverError`]: nothing was changed, unless it is `Repair`.
    pub async fn open(rt: R, config: StoreConfig) -> Result<Arc<Self>, RecoverError> {
        config.check()?;
        let paths = Paths::new(&config.root, &config.commit_log_dirs, &config.read_only_commit_log_dirs);
        if paths.commit_logs.is_empty() {
            return Err(RecoverError::NoFolder { setting: "storePathCommitLog" });
        }
        let lock = take_lock(&rt, &paths).await?;
        let store = Self::open_locked(rt, config, paths, Look::AsRecovery).await?;
        store.lock.lock().unwrap_or_else(PoisonError::into_inner).replace(lock);
        Ok(store)
    }

    /// As [`Self::open`] for whoever holds the directory's lock.
    ///
    /// # Errors
    /// As there.
    async fn open_locked(
        rt: R,
        config: StoreConfig,
        paths: Paths,
        how: Look,
    ) -> Result<Arc<Self>, RecoverError> {
        let opened = recovery::open(&rt, &config, &paths, how).await?;
        let mark = opened.checkpoint.positions().map_or(0, |own| own.scan_from);
        let log = Arc::new(CommitLog::new(rt.clone(), paths.commit_logs.clone(), &config, opened.log));
        let queues = Arc::new(opened.queues);
        let offsets = QueueOffsets::default();
        for queue in queues.all() {
            let next = offsets.of(&queue.topic, queue.queue_id);
            next.store(queue.max(), std::sync::atomic::Ordering::Relaxed);
        }
        for (topic, dropped) in opened.dropped.iter().filter(|_| !rt.mutant(Mutant::DroppedBeginsAnew)) {
            for (queue_id, next) in &dropped.next {
                // Without entries it is where it was dropped. With some, what the log says counts.
                if queues.find(topic, *queue_id).is_none_or(|queue| queue.max() == 0) {
                    offsets.of(topic, *queue_id).store(*next, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        let flush = Arc::new(Flush::new(log.clone()));
        let levels = config.delay_levels_ms.clone();
        let handed = opened.index.enabled().then(|| Arc::new(Handed::default()));
        let dispatch = Arc::new(Dispatch::new(
            log.clone(),
            queues.clone(),
            handed.clone(),
            levels,
            mark,
            (opened.dropped, opened.batch_topics.clone()),
        ));
        let index = Arc::new(Index::new(
            rt.clone(),
            (paths.root.clone(), paths.index.clone()),
            config.index_geometry,
            log.clone(),
            (dispatch.dispatched().clone(), handed.unwrap_or_default()),
            opened.index,
        ));
        let queue_flush = Arc::new(QueueFlush::new(
            rt.clone(),
            paths.clone(),
            log.clone(),
            queues.clone(),
            dispatch.clone(),
            (flush.clone(), index.clone()),
            opened.checkpoint,
        ));
        let clean = Arc::new(Clean::new(
            rt.clone(),
            config.retention.clone(),
            paths.clone(),
            log.clone(),
            queues.clone(),
            dispatch.clone(),
            (queue_flush.clone(), index.clone()),
        ));
        Ok(Arc::new(MessageStore {
            rt,
            pace: watch(config.pace()).0,
            config,
            paths,
            log,
            queues,
            offsets,
            flush,
            dispatch,
            index,
            batch_topics: opened.batch_topics,
            queue_flush,
            clean,
            stop: watch(false).0,
            tasks: Mutex::default(),
            lock: Mutex::default(),
            dropping: tokio::sync::Mutex::new(()),
        }))
    }

    /// Starts the tasks (flush, dispatch, index, queue flush with checkpoint, allocation, deletion) and takes puts.
    pub fn start(self: &Arc<Self>) {
        let mut tasks = self.tasks();
        assert!(tasks.is_empty(), "a store is started once");
        let (store, stop) = (self.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn_on_thread("store.flush", async move {
            store.flush.run(store.config.flush, store.pace.subscribe(), stop).await
        }));
        if let (FlushMode::Async, Some(pool)) = (self.config.flush, self.config.transient_pool) {
            let (flush, stop) = (self.flush.clone(), self.stop.subscribe());
            tasks.push(self.rt.spawn_on_thread("store.commit", async move {
                flush.commit_real_time(&pool, stop).await;
            }));
        }
        let (dispatch, stop) = (self.dispatch.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn_on_thread("store.dispatch", async move { dispatch.run(stop).await }));
        let (index, stop) = (self.index.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn_on_thread("store.index", async move { index.run(stop).await }));
        let (store, stop) = (self.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn("store.queue_flush", async move {
            store.queue_flush.run(store.pace.subscribe(), stop).await;
        }));
        let (log, stop) = (self.log.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn_on_thread("store.allocation", async move {
            log.allocation().run(log.clone(), stop).await;
        }));
        let (clean, stop) = (self.clean.clone(), self.stop.subscribe());
        tasks.push(self.rt.spawn("store.clean", async move { clean.run(stop).await }));
        self.log.take_puts();
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<R::Task<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops in order: no more puts, the log flushed, dispatched and indexed to its end, queues and index flushed, the
    /// checkpoint written, and only then the abort marker removed (S-02). Reads go on working.
    ///
    /// # Errors
    /// [`StopError`]: all that could be kept is kept, the marker stays and the next start recovers.
    pub async fn stop(&self) -> Result<(), StopError> {
        self.stop_with(async {}).await
    }

    /// As [`Self::stop`]; `last` runs when everything that can be flushed is, and the directory is still ours.
    ///
    /// # Errors
    /// As there.
    pub async fn stop_with(&self, last: impl Future<Output = ()> + Send) -> Result<(), StopError> {
        let refused = self.log.refusal();
        self.log.refuse_because(WhyNot::Stopping);
        self.stop.send(true);
        self.dispatch.give_up_waiting();
        self.index.give_up_waiting();
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            // A task that died with its node, or was aborted, has nothing more to say.
            let _ = task.join().await;
        }
        let done = self.finish(refused, last).await;
        if let Some(unused) = self.log.close()
            && let Err(error) = self.rt.remove(&unused).await
        {
            // The next start does it.
            tracing::warn!(path = %unused, %error, "remove the CommitLog file that was made ahead");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        done
    }

    async fn finish(
        &self,
        refused: Option<WhyNot>,
        last: impl Future<Output = ()> + Send,
    ) -> Result<(), StopError> {
        if !self.flush.flush_all().await {
            return Err(StopError::FlushFailed);
        }
        let forgets = self.rt.mutant(Mutant::StopForgetsDispatch);
        let complete = forgets || self.dispatch.catch_up().await;
        let (dispatched, end) = (self.dispatch.dispatched().get(), self.log.position().0);
        if !complete || (dispatched < end && !forgets) || refused == Some(WhyNot::Inconsistent) {
            return Err(StopError::DispatchBehind { dispatched, end });
        }
        self.index.catch_up().await;
        let io = |action, path: &str| {
            let path = path.to_owned();
            move |source| StopError::Io { action, path, source }
        };
        self.queue_flush.last_checkpoint().await.map_err(io("write", &self.paths.checkpoint))?;
        last.await;
        self.rt.remove(&self.paths.abort).await.map_err(io("remove", &self.paths.abort))?;
        self.rt.sync_dir(&self.paths.root).await.map_err(io("flush", &self.paths.root))?;
        self.rt.probe("store.stopped", dispatched, end);
        Ok(())
    }

    /// Stores one message. Waits only for a CommitLog file; whether the answer waits for the flush is the caller's to decide,
    /// by [`Self::must_wait`] and [`Self::durable`].
    ///
    /// # Errors
    /// [`PutError`]: the message is not stored and has no queue offset.
    pub async fn put(&self, message: &MessageToStore<'_>) -> Result<Appended, PutError> {
        self.check_body(message.body)?;
        self.put_again(message).await
    }

    /// Stores a message that the log holds already, at another place: one that was delayed, handed back, committed. A limit of
    /// bodies that was lowered since does not hold it up.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_again(&self, message: &MessageToStore<'_>) -> Result<Appended, PutError> {
        let prepared = codec::prepare(*message, self.config.record_crc)?;
        let placed = self.append(slice::from_ref(&prepared), message).await?;
        let Placed { physical_offset, end, queue_offset, store_timestamp } = placed;
        Ok(Appended { physical_offset, end, queue_offset, store_timestamp })
    }

    /// Stores the members of a batch, all or none, one behind the other. `common` gives what they share.
    ///
    /// # Errors
    /// [`PutError`]: none is stored.
    pub async fn put_batch(
        &self,
        common: &MessageToStore<'_>,
        items: &[BatchItem<'_>],
    ) -> Result<AppendedBatch, PutError> {
        if items.is_empty() {
            return Err(PutError::EmptyBatch);
        }
        let mut records = Vec::with_capacity(items.len());
        for BatchItem { flag, body, properties } in items.iter().copied() {
            self.check_body(body)?;
            records.push(codec::prepare(
                MessageToStore { flag, body, properties, ..*common },
                self.config.record_crc,
            )?);
        }
        let placed = self.append(&records, common).await?;
        let mut next = placed.physical_offset;
        let physical_offsets = records.iter().map(|record| {
            let own = next;
            next += u64::from(record.size());
            own
        });
        Ok(AppendedBatch {
            physical_offsets: physical_offsets.collect(),
            end: placed.end,
            queue_offset: placed.queue_offset,
            store_timestamp: placed.store_timestamp,
        })
    }

    fn check_body(&self, body: &[u8]) -> Result<(), PutError> {
        let (bytes, max) = (body.len(), self.pace.get().message_bytes_max);
        if bytes > max { Err(PutError::BodyTooLarge { bytes, max }) } else { Ok(()) }
    }

    async fn append(
        &self,
        records: &[Prepared<'_>],
        message: &MessageToStore<'_>,
    ) -> Result<Placed, PutError> {
        if self.is_of_batches(message.topic) {
            return Err(PutError::QueuesOfBatches { topic: message.topic.to_owned() });
        }
        // Prepared and rolled back messages are in no queue and take no offset.
        let in_queue = matches!(
            sys_flag::transaction_type(message.sys_flag),
            sys_flag::TRANSACTION_NONE | sys_flag::TRANSACTION_COMMIT
        );
        let next = in_queue.then(|| self.offsets.of(message.topic, message.queue_id));
        self.log.append(records, next.as_deref()).await
    }

    /// The position up to which the log is on stable storage. It fails with the first flush that fails.
    #[must_use]
    pub fn durable(&self) -> &Watermark {
        if self.rt.mutant(Mutant::AckBeforeFlush) { self.log.written() } else { self.log.durable() }
    }

    /// The position up to which the log outlives the process. With SYNC_FLUSH a put that does not wait for its flush waits
    /// for this; with the transient pool nobody does; else it is there at once.
    #[must_use]
    pub fn committed(&self) -> &Watermark {
        if self.rt.mutant(Mutant::AckInThePool) { self.log.written() } else { self.log.committed() }
    }

    /// Whether the record that ends at `end` outlives the process, for a put whose wait has ended without success: what is
    /// pooled is written now, flush or no flush. If not, it is not stored.
    #[must_use]
    pub fn keep(&self, end: u64) -> bool {
        if self.rt.mutant(Mutant::TimeoutLosesPool) {
            return true;
        }
        // The watermark tells how it went.
        let _ = self.log.commit();
        self.log.committed().get() >= end
    }

    /// Whether a put that waits is answered only when [`Self::durable`] has reached its end: SYNC_FLUSH.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.log.must_wait()
    }

    /// The position up to which records are in their queues.
    #[must_use]
    pub fn dispatched(&self) -> &Watermark {
        self.dispatch.dispatched()
    }

    /// The position up to which records can be found by key. It stays where it is in a store without an index.
    #[must_use]
    pub fn indexed(&self) -> &Watermark {
        self.index.indexed()
    }

    /// Offset of the first byte of the log that is kept.
    #[must_use]
    pub fn commit_log_min(&self) -> u64 {
        self.log.min()
    }

    /// First byte behind the log.
    #[must_use]
    pub fn commit_log_max(&self) -> u64 {
        self.log.written().get()
    }

    /// # Errors
    /// [`WhyNot`]: puts are refused.
    pub fn is_writable(&self) -> Result<(), WhyNot> {
        self.log.refusal().map_or(Ok(()), Err)
    }

    /// Deletes expired files now, whatever the hour of the day.
    pub fn delete_expired(&self) {
        self.clean.ask();
    }

    /// Looks now whether something is to be deleted.
    pub fn look_for_deletions(&self) {
        self.clean.look_soon();
    }

    /// From now on files are kept so.
    pub fn set_retention(&self, retention: Retention) {
        self.clean.set_retention(retention);
    }

    /// An interval that runs begins anew.
    pub fn set_pace(&self, pace: Pace) {
        self.pace.send(pace);
    }

    /// As it is now.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace.get()
    }

    /// How full the disks are.
    pub async fn disk_usage(&self) -> StoreUsage {
        self.clean.usage().await
    }

    /// Drops what the queues of `topic` hold, for good: when this returns no crash brings it back. Records stay in the log until
    /// their files go, and can be found by key and by place. A topic of that name goes on with the next queue offsets.
    ///
    /// # Errors
    /// Of writing what was dropped: nothing is. Of deleting files while the store stops: the next start deletes them.
    pub async fn drop_topic(&self, topic: &str) -> io::Result<()> {
        let _dropping = self.dropping.lock().await;
        let (queues, known) = (self.queues.of_topic(topic), self.dispatch.dropped());
        // Before the offsets are read: a put of this moment counts there, and its record may count as one of the next topic.
        let before = self.log.written().get();
        let mut next = self.offsets.of_topic(topic);
        for queue in &queues {
            let next = next.entry(queue.queue_id).or_default();
            *next = (*next).max(queue.max());
        }
        if queues.is_empty() && next.iter().all(|(queue, next)| known.next(topic, *queue) == Some(*next)) {
            return Ok(());
        }
        let mut dropped = (*known).clone();
        dropped.add(topic, Dropped { before, next });
        if self.rt.mutant(Mutant::DroppedUnwritten) {
            let (rt, path, late) = (self.rt.clone(), self.paths.dropped.clone(), dropped.clone());
            self.rt.spawn("store.dropped", async move {
                rt.sleep(Duration::from_secs(1)).await;
                let _ = late.save(&rt, &path).await;
            });
        } else {
            dropped.save(&self.rt, &self.paths.dropped).await?;
        }
        self.dispatch.drop_queues(topic, dropped).await
    }

    /// Whether `topic` has queues of another form, of which nothing is put, read or deleted here.
    #[must_use]
    pub fn is_of_batches(&self, topic: &str) -> bool {
        self.batch_topics.contains(topic)
    }

    /// From now on `topic` is one of those of [`Self::is_of_batches`].
    pub fn set_of_batches(&self, topic: &str) {
        self.batch_topics.add(topic);
    }

    /// How long the present append has been in the way of others, in ms: Java's "page cache busy" compares it with 1,000.
    #[must_use]
    pub fn append_blocked_ms(&self) -> u64 {
        self.log.append_blocked_ms()
    }

    /// Files of queues that are open now.
    #[must_use]
    pub fn open_queue_files(&self) -> usize {
        self.queues.files.len()
    }

    /// From now on `listener` is told of each entry that becomes visible.
    pub fn set_arrival_listener(&self, listener: Arc<dyn ArrivalListener>) {
        self.dispatch.set_listener(listener);
    }

    #[must_use]
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }
}

/// Takes the directory's lock. The directory itself is made, with a durable name; nothing else is written, since a look at
/// what is there may show that nothing must be.
async fn take_lock<R: Runtime>(rt: &R, paths: &Paths) -> Result<R::Lock, RecoverError> {
    let root = paths.root.as_str();
    if rt.stat(root).await.is_err() {
        rt.create_dir_all(root).await.map_err(RecoverError::io("create", root))?;
    }
    let lock = match rt.mutant(Mutant::LockNotTaken) {
        true => rt.lock_file(&format!("{}.{}", paths.lock, rt.random_u64())).await,
        false => rt.lock_file(&paths.lock).await,
    };
    let lock = lock.map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => RecoverError::InUse { dir: paths.root.clone(), source },
        _ => RecoverError::Io { action: "lock", path: paths.lock.clone(), source },
    })?;
    // Also when it was there: the process that made it, and the folders above it, may have died before this.
    rt.sync_dir(root).await.map_err(RecoverError::io("flush", root))?;
    recovery::sync_names(rt, recovery::folders_above(root, "/")).await?;
    Ok(lock)
}
