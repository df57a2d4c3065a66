//! The flush of the queues and of the index, and the checkpoint that follows from it.
//!
//! Invariant: the checkpoint is written only from what is durable: the position and time are read before a flush of all
//! queues that succeeded (S-10). After a failed queue flush it never moves again; the next start reads the log from there.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::checkpoint::{self, Checkpoint, NO_RECORD_CRC, NOT_STOPPED, Own, Positions};
use super::commit_log::Log;
use super::config::Pace;
use super::consume_queues::ConsumeQueues;
use super::dispatch::{Dispatch, Progress};
use super::flush::Flush;
use super::index::Index;
use super::recovery::Paths;
use crate::runtime::sync::{Receiver, Watermark};
use crate::runtime::{Mark, Mutant, Runtime};

const PAGE_BYTES: u64 = 4096;

/// Whether the store goes on behind a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    GoesOn,
    Ends,
}

pub(crate) struct QueueFlush<R: Runtime> {
    rt: R,
    paths: Paths,
    log: Log<R>,
    queues: Arc<ConsumeQueues<R>>,
    dispatch: Arc<Dispatch<R>>,
    flush: Arc<Flush<R>>,
    index: Arc<Index<R>>,
    /// What the checkpoint says but for what moves.
    base: Checkpoint,
    /// The checkpoint on disk.
    saved: tokio::sync::Mutex<Checkpoint>,
    /// [`checkpoint::NO_RECORD_CRC`] is in the checkpoint on disk, and stays there.
    expects_plain: AtomicBool,
    failed: AtomicBool,
    /// Below it the checkpoint on disk says that log and queues are durable.
    claimed: Watermark,
    asked: Notify,
}

impl<R: Runtime> QueueFlush<R> {
    pub fn new(
        rt: R,
        paths: Paths,
        log: Log<R>,
        queues: Arc<ConsumeQueues<R>>,
        dispatch: Arc<Dispatch<R>>,
        (flush, index): (Arc<Flush<R>>, Arc<Index<R>>),
        base: Checkpoint,
    ) -> QueueFlush<R> {
        let of_base = base.positions().map_or(NO_RECORD_CRC, |own| own.record_crc_from);
        let claimed = Watermark::new(base.positions().map_or(0, |own| own.queues_durable));
        QueueFlush {
            rt,
            paths,
            log,
            queues,
            dispatch,
            flush,
            index,
            base,
            saved: tokio::sync::Mutex::new(base),
            expects_plain: AtomicBool::new(of_base == NO_RECORD_CRC),
            failed: AtomicBool::new(false),
            claimed,
            asked: Notify::new(),
        }
    }

    /// Below it the checkpoint on disk says that log and queues are durable.
    pub fn claimed(&self) -> &Watermark {
        &self.claimed
    }

    /// The task writes a checkpoint soon.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The task: runs until `stop` is true or a flush has failed.
    pub async fn run(&self, mut paces: Receiver<Pace>, mut stop: Receiver<bool>) {
        let mut last = self.rt.now();
        loop {
            let pace = paces.get();
            let interval = Duration::from_millis(pace.queue_flush_interval_ms);
            let asked = crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = paces.wait_for(|now| *now != pace) => continue,
                () = self.asked.notified() => true,
                () = self.rt.sleep(interval) => false,
            };
            let thorough_at = last.after_ms(pace.queue_flush_thorough_interval_ms);
            let thorough =
                asked || self.rt.now() >= thorough_at || self.rt.buggify("store.queue_flush.thorough");
            let done = if thorough {
                last = self.rt.now();
                self.checkpoint().await
            } else {
                self.flush_some(pace.queue_flush_least_pages * PAGE_BYTES).await
            };
            if let Err(error) = done {
                self.rt.mark(Mark::QueueFlushFailed);
                tracing::error!(%error, "flush the queues: the checkpoint does not move any more");
                return;
            }
        }
    }

    /// Flushes all queues and the index, and writes the checkpoint. An index that cannot be flushed is claimed where it was.
    ///
    /// # Errors
    /// Of a flush of the queues or of writing the checkpoint: it does not move again in this run.
    pub async fn checkpoint(&self) -> io::Result<()> {
        self.checkpoint_of(Life::GoesOn).await
    }

    /// As [`Self::checkpoint`], when nothing more is appended: what another broker appends behind is then not taken for ours.
    ///
    /// # Errors
    /// As there.
    pub async fn last_checkpoint(&self) -> io::Result<()> {
        self.checkpoint_of(Life::Ends).await
    }

    async fn checkpoint_of(&self, life: Life) -> io::Result<()> {
        let claimed = self.dispatch.progress();
        self.flush_queues(0).await?;
        self.index.flush().await;
        self.save(claimed, life).await.inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    /// Flushes the queues that have much to flush; the checkpoint stays where it is.
    async fn flush_some(&self, bytes_min: u64) -> io::Result<()> {
        self.flush_queues(bytes_min).await?;
        if self.rt.mutant(Mutant::CheckpointAheadOfQueues) {
            self.save(self.dispatch.progress(), Life::GoesOn).await?;
        }
        Ok(())
    }

    async fn flush_queues(&self, bytes_min: u64) -> io::Result<()> {
        if self.has_failed() {
            return Err(io::Error::other("an earlier flush of the queues has failed"));
        }
        let flushed = self.flush_each(bytes_min).await;
        flushed.inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    async fn flush_each(&self, bytes_min: u64) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for queue in self.queues.take_dirty(bytes_min) {
            let flushed = queue.flush(&self.queues.files, &mut folders).await;
            if !self.rt.mutant(Mutant::QueueFlushErrorIgnored) {
                flushed?;
            }
        }
        for folder in folders {
            self.rt.sync_dir(&folder).await?;
        }
        Ok(())
    }

    async fn save(&self, claimed: Progress, life: Life) -> io::Result<()> {
        // In ASYNC_FLUSH queues may be ahead of what is durable in the log. The log of a slave that is to begin elsewhere claims
        // nothing before it has a file there: the next start would look for it. What was claimed of an empty one stays.
        let known = || self.base.positions().map_or(0, |own| own.queues_durable);
        let durable = if self.log.has_file() { self.log.durable().get() } else { known() };
        let Progress { position, timestamp, mark } = claimed;
        let durable_timestamp = self.flush.durable_timestamp();
        let (index, index_ms) = self.index.claim();
        let queues_durable = position.min(durable);
        let mut saved = self.saved.lock().await;
        let checkpoint = Checkpoint {
            physic_ms: durable_timestamp,
            logic_ms: timestamp.min(durable_timestamp),
            own: Own::Valid(Positions {
                scan_from: mark.min(self.safe_mark(durable)),
                queues_durable,
                record_crc_from: saved.positions().map_or(NO_RECORD_CRC, |own| own.record_crc_from),
                ours_from: saved.positions().map_or(NO_RECORD_CRC, |own| own.ours_from),
                stopped_at: if life == Life::Ends { queues_durable } else { NOT_STOPPED },
            }),
            index,
            index_ms,
            ..self.base
        };
        checkpoint::save(&self.rt, &self.paths.root, &self.paths.checkpoint, &checkpoint).await?;
        *saved = checkpoint;
        drop(saved);
        self.claimed.advance(queues_durable);
        Ok(())
    }

    /// Records that carry no record checksum come next: recovery is told so, durably, before this returns. What else the
    /// checkpoint says stays as it is.
    ///
    /// # Errors
    /// Of writing it.
    pub async fn expect_plain_records(&self) -> io::Result<()> {
        if self.expects_plain.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut saved = self.saved.lock().await;
        let Own::Valid(own) = saved.own else { return Ok(()) };
        let own = Own::Valid(Positions { record_crc_from: NO_RECORD_CRC, ours_from: NO_RECORD_CRC, ..own });
        let checkpoint = Checkpoint { own, ..*saved };
        checkpoint::save(&self.rt, &self.paths.root, &self.paths.checkpoint, &checkpoint).await?;
        *saved = checkpoint;
        self.expects_plain.store(true, Ordering::Release);
        Ok(())
    }

    /// A record's position that is durable: the last checkpoint's while the flush of the log is far behind.
    fn safe_mark(&self, durable: u64) -> u64 {
        let Progress { mark, .. } = self.dispatch.progress();
        if mark <= durable { mark } else { self.base.positions().map_or(0, |own| own.scan_from) }
    }
}
