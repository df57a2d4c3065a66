//! The next CommitLog file is made, and the pages ahead of the appends are brought into memory, before an append needs them.
//!
//! Its own task, so that a client that goes away in the middle leaves no half-made file behind. Nothing is made before the
//! first append asks: an idle broker holds no reserved blocks and no touched pages.
//!
//! While nothing is appended, more pages are read ahead, as many as were appended since the start and at most
//! [`READ_AHEAD_BYTES_MAX`]: a page that is new to the machine costs two microseconds a KiB, a tenth of it once it was read, and
//! a burst after a pause then finds them read. They stay clean, so the system may take them back at no cost.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::commit_log::CommitLog;
use super::error::PutError;
use super::mapped_file;
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Mark, Runtime, SegmentReader};

/// Pages are brought in by steps of this many bytes while there are too few ahead.
pub(crate) const PREFAULT_BYTES_MAX: u64 = 8 << 20;
/// With enough of them ahead, by steps of this many, about as fast as appends use them up: a page that is cold in the machine
/// costs microseconds, and megabytes in one go would keep a core from the connections for many milliseconds.
pub(crate) const PREFAULT_BYTES_MIN: u64 = 256 << 10;
/// The same where appends are pooled: each step ends with a flush of its own.
pub(crate) const PREFAULT_POOLED_BYTES: u64 = 1 << 20;
/// Pages are read ahead to at most so many bytes behind the log's end.
pub(crate) const READ_AHEAD_BYTES_MAX: u64 = 512 << 20;
/// They are once nothing was appended for this long,
const QUIET: Duration = Duration::from_millis(100);
/// by so many bytes
const READ_AHEAD_STEP: u64 = 256 << 10;
/// at this pace, a tenth of a core where pages are dear.
const READ_AHEAD_PACE: Duration = Duration::from_millis(5);
/// After a file could not be made, the task itself tries again at this pace; a waiting put makes it try at once.
const RETRY: Duration = Duration::from_millis(1_000);
/// Without a reason to look again it looks again after this long.
const IDLE: Duration = Duration::from_secs(3_600);

pub(crate) struct Allocation {
    asked: Notify,
    /// Counts tries that ended; the last one's error.
    tried: Sender<u64>,
    last_error: Mutex<Option<Arc<io::Error>>>,
    /// Puts that wait for a file.
    waiting: AtomicUsize,
    /// Monotonic ns since which they do; 0 when none does.
    waiting_since: AtomicU64,
}

/// A put that waits, however its wait ends.
struct Waits<'a>(&'a Allocation);

impl<'a> Waits<'a> {
    fn since(allocation: &'a Allocation, now: u64) -> Waits<'a> {
        allocation.waiting.fetch_add(1, Ordering::Relaxed);
        // The first one sets it, the try that ends clears it.
        let _ = allocation.waiting_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        Waits(allocation)
    }
}

impl Drop for Waits<'_> {
    /// The try may have ended just before the put began to wait for it: then nobody else would clear what it has set, and the
    /// broker would call itself busy until the next file is made.
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.waiting_since.store(0, Ordering::Relaxed);
        }
    }
}

impl Allocation {
    pub fn new() -> Allocation {
        Allocation {
            asked: Notify::new(),
            tried: watch(0).0,
            last_error: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            waiting_since: AtomicU64::new(0),
        }
    }

    fn last_error(&self) -> MutexGuard<'_, Option<Arc<io::Error>>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers for the next try; to be called before looking whether the file is there.
    pub fn subscribe(&self) -> Receiver<u64> {
        self.tried.subscribe()
    }

    /// How long puts have been waiting for a file; 0 when none does.
    pub fn waiting_ms<R: Runtime>(&self, rt: &R) -> u64 {
        match self.waiting_since.load(Ordering::Relaxed) {
            0 => 0,
            since => rt.now().0.saturating_sub(since) / 1_000_000,
        }
    }

    /// Wakes the task, and waits until a try has ended.
    ///
    /// # Errors
    /// `SegmentFailed` with the system's words, `SegmentTimeout`.
    pub async fn wait<R: Runtime>(
        &self,
        rt: &R,
        mut tries: Receiver<u64>,
        file: u64,
        timeout_ms: u64,
    ) -> Result<(), PutError> {
        let _waits = Waits::since(self, rt.now().0.max(1));
        self.asked.notify_one();
        let ended = rt.timeout(Duration::from_millis(timeout_ms), tries.changed()).await;
        if ended.is_err() {
            return Err(PutError::SegmentTimeout { waited_ms: timeout_ms });
        }
        match self.last_error().clone() {
            Some(source) => Err(PutError::SegmentFailed { file: mapped_file::file_name(file), source }),
            None => Ok(()),
        }
    }

    /// The task: runs until `stop` is true.
    pub async fn run<R: Runtime>(&self, log: Arc<CommitLog<R>>, mut stop: Receiver<bool>) {
        let rt = log.rt().clone();
        let mut prefaulted = 0_u64;
        let (begin, mut read_to, mut seen) = (log.written().get(), 0_u64, u64::MAX);
        loop {
            let plan = log.allocation_plan(prefaulted);
            let failed = match plan.step {
                Step::Create { base } => match self.create(&log, base).await {
                    Ok(()) => continue,
                    Err(()) => true,
                },
                Step::Prefault { from, upto } => {
                    prefaulted = prefault(&log, from, upto).await;
                    continue;
                }
                Step::Idle => false,
            };
            // After a failure the position has passed already, and only time or a put makes it worth another try.
            let wait_for = if failed { u64::MAX } else { plan.next_at };
            let end = log.written().get();
            let spare = read_to.max(prefaulted).max(end)..plan.known_end.min(read_ahead_end(begin, end));
            let quiet = std::mem::replace(&mut seen, end) == end;
            let look_after = match (failed, spare.is_empty()) {
                (true, _) => RETRY,
                (false, true) => IDLE,
                (false, false) if quiet => READ_AHEAD_PACE,
                (false, false) => QUIET,
            };
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.asked.notified() => {}
                () = rt.sleep_until(rt.now().after(look_after)) => {
                    if !failed && !spare.is_empty() && log.written().get() == end {
                        read_to = read_ahead(&log, spare).await;
                    }
                }
                _ = log.written().reached(wait_for) => {}
            }
        }
    }

    async fn create<R: Runtime>(&self, log: &CommitLog<R>, base: u64) -> Result<(), ()> {
        let mut made = Err(io::ErrorKind::NotFound.into());
        for dir in log.dirs_for(base) {
            made = mapped_file::create(log.rt(), &dir, base, log.file_bytes(), log.backing()).await;
            match &made {
                Ok(_) => break,
                // Another folder may lie on another disk.
                Err(error) => {
                    log.rt().mark(Mark::LogFileUnmade);
                    tracing::warn!(dir, base, %error, "make a CommitLog file in this folder");
                }
            }
        }
        let outcome = match made {
            Ok((file, writer)) => {
                log.rt().probe("store.file", base, log.file_bytes());
                log.add_next_file(file, writer);
                *self.last_error() = None;
                Ok(())
            }
            Err(error) => {
                let file = mapped_file::file_name(base);
                tracing::error!(%file, %error, "create the next CommitLog file");
                *self.last_error() = Some(Arc::new(error));
                Err(())
            }
        };
        self.waiting_since.store(0, Ordering::Relaxed);
        self.tried.modify(|tries| *tries += 1);
        outcome
    }
}

/// What the allocation task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create { base: u64 },
    Prefault { from: u64, upto: u64 },
    Idle,
}

/// A step, and the position of the log at which to look again when idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub step: Step,
    pub next_at: u64,
    /// Where the last of the files ends that are there; 0 before appends need pages.
    pub known_end: u64,
}

/// Up to where pages are read ahead, of a log that began at `begin` and has come to `end` since.
fn read_ahead_end(begin: u64, end: u64) -> u64 {
    end.saturating_add(end.saturating_sub(begin).min(READ_AHEAD_BYTES_MAX))
}

/// Brings in the pages of one file and answers where it ended.
async fn prefault<R: Runtime>(log: &CommitLog<R>, from: u64, upto: u64) -> u64 {
    let Some(file) = log.files().find(from) else { return upto };
    let upto = upto.min(file.end());
    // The range is inside one file, whose length is a usize.
    let range = (from - file.base) as usize..(upto - file.base) as usize;
    // A page that is not brought in ahead comes in with its first append, only slower.
    if let Err(error) = file.reader.prefault(range).await {
        tracing::warn!(path = %file.path, %error, "bring pages into memory ahead of appends");
    }
    upto
}

/// Reads a step of `spare`, which is not empty, and answers where it ended.
async fn read_ahead<R: Runtime>(log: &CommitLog<R>, spare: Range<u64>) -> u64 {
    let Some(file) = log.files().find(spare.start) else { return spare.end };
    let upto = spare.end.min(spare.start + READ_AHEAD_STEP).min(file.end());
    // The range is inside one file, whose length is a usize.
    let range = (spare.start - file.base) as usize..(upto - file.base) as usize;
    if let Err(error) = file.reader.read_ahead(range).await {
        tracing::warn!(path = %file.path, %error, "read pages ahead of appends");
        return spare.end;
    }
    upto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_read_ahead_as_was_appended() {
        assert_eq!(read_ahead_end(1_000, 1_000), 1_000);
        assert_eq!(read_ahead_end(1_000, 1_700), 2_400);
        assert_eq!(read_ahead_end(0, 10 << 30), (10 << 30) + READ_AHEAD_BYTES_MAX);
        // A slave's log may begin again behind where it was.
        assert_eq!(read_ahead_end(5_000, 1_000), 1_000);
    }

    #[test]
    fn a_wait_that_begins_when_the_try_has_ended_leaves_nothing_behind() {
        let allocation = Allocation::new();
        let since = || allocation.waiting_since.load(Ordering::Relaxed);
        let first = Waits::since(&allocation, 5);
        let second = Waits::since(&allocation, 7);
        assert_eq!(since(), 5);
        drop(first);
        assert_eq!(since(), 5, "another one waits still");
        // The try ends, and a third begins to wait for it.
        allocation.waiting_since.store(0, Ordering::Relaxed);
        let third = Waits::since(&allocation, 9);
        drop(second);
        assert_eq!(since(), 9);
        drop(third);
        assert_eq!(since(), 0);
    }
}
