//! The log: every record of every queue in the order of the puts.
//!
//! One short lock orders the appends. Under it a record gets its queue offset, physical offset and store time, is encoded in
//! place and published; there is no allocation, no system call, no wait and no log line. A record of L bytes is put into a
//! file only when L + 8 bytes are left; else a blank record fills the file and the next one, made ahead, takes over.
//!
//! Invariant: store times do not decrease along the log.
//! Invariant: a queue's next offset rises only with a record that was published (S-19).
//! Where appends are pooled ([`Backing::Pooled`]), [`CommitLog::commit`] gives them to the system; before it they are in no
//! file and not read by anybody. With SYNC_FLUSH they are not acknowledged either; with the transient pool they are.
//!
//! Invariant: `durable` <= `committed` <= `written`, and `durable` rises only by a flush that succeeded.

pub mod copy;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::allocation::{
    Allocation, PREFAULT_BYTES_MAX, PREFAULT_BYTES_MIN, PREFAULT_POOLED_BYTES, Plan, Step,
};
use super::config::{FlushMode, StoreConfig};
use super::error::{PutError, WhyNot};
use super::mapped_file::MappedFile;
use super::mapped_file_queue::MappedFileQueue;
use super::recovery::parent;
use crate::message::codec::{self, BLANK_BYTES, Place, Prepared};
use crate::runtime::sync::Watermark;
use crate::runtime::{Backing, Mutant, Runtime, SegmentReader, SegmentWriter};

/// Bytes that may wait in memory for a synchronous flush; puts above them are refused.
const POOL_BYTES_MAX: u64 = 64 << 20;

/// What a put does that finds as many bytes in memory as may wait there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    Refuse(WhyNot),
    /// It pays for the write that the commit service has not done yet.
    Commit,
}

pub(crate) struct CommitLog<R: Runtime> {
    rt: R,
    dirs: Vec<String>,
    /// Those of them in which no file is made while others are left: their disks are nearly full, or take no writes.
    passed_over: Mutex<BTreeSet<String>>,
    flush: FlushMode,
    /// It copies its master's log and takes no puts.
    slave: bool,
    backing: Backing,
    pool_bytes_max: u64,
    when_full: WhenFull,
    segment_timeout_ms: u64,
    prefault_bytes: u64,
    files: MappedFileQueue<R>,
    tail: Mutex<Tail<R>>,
    /// End of what was appended.
    written: Watermark,
    /// End of what is in the files and may be read: `written` itself unless appends are pooled.
    committed: Watermark,
    /// End of what is on stable storage.
    durable: Watermark,
    allocation: Allocation,
    /// Monotonic ns since which appends wait for the one that holds the tail; 0 when none has waited since one ended.
    blocked_since: AtomicU64,
}

/// What the append lock guards.
struct Tail<R: Runtime> {
    /// The file that takes appends; `None` before the first file exists.
    writer: Option<R::SegmentWriter>,
    /// Offset of the first byte of `writer`'s file; without a writer, of the first file to make.
    base: u64,
    /// Files that are full and hold appends which are not committed.
    uncommitted: Vec<R::SegmentWriter>,
    /// The file after it, made ahead.
    next: Option<R::SegmentWriter>,
    /// A put waits for `next`.
    next_wanted: bool,
    /// An append has happened since the start.
    appended: bool,
    last_timestamp: i64,
    refuse: Option<WhyNot>,
    /// The reasons that hold now and pass by themselves.
    passing: BTreeSet<WhyNot>,
}

/// Where the records of one put went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub physical_offset: u64,
    pub end: u64,
    pub queue_offset: i64,
    pub store_timestamp: i64,
}

enum Attempt {
    Placed(Placed),
    NeedsFile { base: u64 },
    Refused(WhyNot),
}

/// What recovery hands over: the files up to the end of the log, and the last one for appends.
pub(crate) struct Recovered<R: Runtime> {
    pub files: Vec<MappedFile<R>>,
    /// Of the last file.
    pub writer: Option<R::SegmentWriter>,
    /// End of the log.
    pub end: u64,
    /// Store time of the last record.
    pub last_timestamp: i64,
}

impl<R: Runtime> CommitLog<R> {
    pub fn new(rt: R, dirs: Vec<String>, config: &StoreConfig, recovered: Recovered<R>) -> CommitLog<R> {
        let Recovered { files, writer, end, last_timestamp } = recovered;
        let base = match (&writer, files.last()) {
            (Some(_), Some(last)) => last.base,
            _ => end,
        };
        assert!(!dirs.is_empty(), "the log has a folder");
        assert_ne!(config.backing(), Backing::ReadOnly, "the log takes appends");
        if let Some(writer) = &writer {
            assert_eq!(base + writer.written() as u64, end, "the last file ends where the log ends");
        }
        let written = Watermark::new(end);
        let backing = config.backing();
        let committed = match backing {
            Backing::Mapped => written.clone(),
            Backing::Pooled | Backing::ReadOnly => Watermark::new(end),
        };
        let (pool_bytes_max, when_full) = match &config.transient_pool {
            Some(pool) if config.flush == FlushMode::Async => (
                pool.buffers.saturating_mul(config.commit_log_file_bytes),
                if pool.fast_fail { WhenFull::Refuse(WhyNot::PoolFull) } else { WhenFull::Commit },
            ),
            _ => (POOL_BYTES_MAX, WhenFull::Refuse(WhyNot::FlushBehind)),
        };
        // Zeros ahead of the appends make a flush that somebody waits for cheaper; else they would only be written twice.
        let prefault_bytes = match (backing, config.flush) {
            (Backing::Pooled, FlushMode::Async) => 0,
            _ => config.prefault_bytes,
        };
        CommitLog {
            rt,
            dirs,
            passed_over: Mutex::default(),
            flush: config.flush,
            slave: config.slave,
            backing,
            pool_bytes_max,
            when_full,
            segment_timeout_ms: config.segment_timeout_ms,
            prefault_bytes,
            files: MappedFileQueue::new(config.commit_log_file_bytes, files),
            tail: Mutex::new(Tail {
                writer,
                base,
                uncommitted: Vec::new(),
                next: None,
                next_wanted: false,
                appended: false,
                last_timestamp,
                refuse: Some(WhyNot::NotStarted),
                passing: BTreeSet::new(),
            }),
            written,
            committed,
            durable: Watermark::new(end),
            allocation: Allocation::new(),
            blocked_since: AtomicU64::new(0),
        }
    }

    pub fn rt(&self) -> &R {
        &self.rt
    }

    /// The folders for the file that begins at `base`, in the order in which they are to be tried. Those that are passed over
    /// come last.
    ///
    /// # Source
    /// apache/rocketmq 5.x, `MultiPathMappedFileQueue#tryCreateMappedFile`, which knows the first alone: files are spread evenly
    /// over the folders that are left, in the order of their names.
    pub fn dirs_for(&self, base: u64) -> Vec<String> {
        let passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut full, mut left): (Vec<String>, Vec<String>) =
            self.dirs.iter().cloned().partition(|dir| passed_over.contains(dir));
        let number = base / self.file_bytes();
        let in_turn = |dirs: &mut Vec<String>| {
            let first = number % (dirs.len() as u64).max(1);
            dirs.rotate_left(first as usize);
        };
        in_turn(&mut left);
        in_turn(&mut full);
        left.extend(full);
        left
    }

    /// No more files are made in `folders` while there are others.
    pub fn pass_over(&self, folders: BTreeSet<String>) {
        *self.passed_over.lock().unwrap_or_else(PoisonError::into_inner) = folders;
    }

    /// Whether appends need `folder`: the file that takes them, or the next one, lies there, or it is the only one of the log,
    /// or none of the log's.
    pub fn appends_in(&self, folder: &str) -> bool {
        let of_log = self.dirs.iter().any(|dir| dir == folder);
        let last = self.files.bases().into_iter().rev().take(2).filter_map(|base| self.files.find(base));
        let appended: Vec<_> = last.filter(|file| file.end() > self.written.get()).collect();
        !of_log || self.dirs.len() == 1 || appended.iter().any(|file| parent(&file.path) == folder)
    }

    pub fn file_bytes(&self) -> u64 {
        self.files.file_bytes()
    }

    pub fn files(&self) -> &MappedFileQueue<R> {
        &self.files
    }

    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    pub fn written(&self) -> &Watermark {
        &self.written
    }

    /// The position up to which the files hold the log: it outlives the process. It fails with the first write that fails.
    pub fn committed(&self) -> &Watermark {
        &self.committed
    }

    pub fn durable(&self) -> &Watermark {
        &self.durable
    }

    pub fn backing(&self) -> Backing {
        self.backing
    }

    pub fn must_wait(&self) -> bool {
        self.flush == FlushMode::Sync
    }

    /// What dispatch may show to consumers: flushed bytes in SYNC_FLUSH, else all that can be read.
    pub fn visible(&self) -> &Watermark {
        if self.must_wait() && !self.rt.mutant(Mutant::UnflushedVisible) {
            &self.durable
        } else {
            &self.committed
        }
    }

    /// Offset of the first byte that is kept.
    pub fn min(&self) -> u64 {
        self.files.min().unwrap_or_else(|| self.written.get())
    }

    fn tail(&self) -> MutexGuard<'_, Tail<R>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of the log and the store time of its last record, of one moment.
    pub fn position(&self) -> (u64, i64) {
        self.tail().position()
    }

    /// Nothing more is ever durable, and puts are refused; what was appended before is kept as well as can be.
    pub fn fail(&self) {
        self.refuse_because(WhyNot::FlushFailed);
        // Its failure is noted where it counts.
        let _ = self.commit();
        self.durable.fail();
    }

    /// Writes what was appended into the files, where it is pooled, and answers the end of the log and the store time of
    /// its last record, of one moment.
    ///
    /// # Errors
    /// Of the first write that failed, in this call or before: `committed` has come to where the files end and has failed, so
    /// that a record above it is not whole in its file and never will be.
    pub fn commit(&self) -> io::Result<(u64, i64)> {
        let mut tail = self.tail();
        if self.backing == Backing::Mapped {
            return Ok(tail.position());
        }
        if self.committed.has_failed() {
            return Err(io::Error::other("an earlier write of the log has failed"));
        }
        let before = self.committed.get();
        let written = match self.rt.mutant(Mutant::CommitCountsAll) && !tail.uncommitted.is_empty() {
            false => tail.commit(),
            // One file, and the position of all.
            true => tail.uncommitted[0].commit(usize::MAX).map(|()| self.committed.advance(tail.end())),
        };
        if written.is_err() && self.rt.mutant(Mutant::ShortWriteIgnored) {
            self.committed.advance(tail.end());
            return Ok(tail.position());
        }
        // Still under the lock: a commit that fails never hides one before it that did not. Of a failed one the part that was
        // written counts, else its records would be refused and found by a restart.
        self.committed.advance(tail.committed_end());
        if written.is_err() {
            self.committed.fail();
        } else if self.committed.get() > before {
            self.rt.probe("store.committed", before, self.committed.get());
        }
        written.map(|()| tail.position())
    }

    /// The store has been started: puts are taken, unless a passing reason holds.
    pub fn take_puts(&self) {
        let mut tail = self.tail();
        tail.refuse = tail.passing.first().copied();
    }

    /// Refuses puts. The first reason is the one worth knowing, but one that passes never hides one that does not.
    pub fn refuse_because(&self, why: WhyNot) {
        let mut tail = self.tail();
        if why.passes() {
            tail.passing.insert(why);
        }
        if tail.refuse.is_none_or(|known| known.passes() && !why.passes()) {
            tail.refuse = Some(why);
        }
    }

    /// A passing reason holds no longer; puts are taken again when it was the last one (S-28).
    pub fn recover_from(&self, why: WhyNot) {
        assert!(why.passes(), "{why:?} does not pass");
        if self.rt.mutant(Mutant::DiskFullSticks) {
            return;
        }
        let mut tail = self.tail();
        tail.passing.remove(&why);
        if tail.refuse == Some(why) {
            tail.refuse = tail.passing.first().copied();
        }
    }

    /// Whether a passing reason holds, be it the one that is told or not.
    pub fn is_refused_because(&self, why: WhyNot) -> bool {
        self.tail().passing.contains(&why)
    }

    pub fn refusal(&self) -> Option<WhyNot> {
        self.tail().refuse
    }

    /// How long the present append has been in the way of others, by its lock, or by the wait for the next file, as Java's
    /// holds its lock meanwhile.
    pub fn append_blocked_ms(&self) -> u64 {
        let blocked_ms = match self.blocked_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.rt.now().0.saturating_sub(since) / 1_000_000,
        };
        blocked_ms.max(self.allocation.waiting_ms(&self.rt))
    }

    /// Appends `records`, one behind the other in one file, with queue offsets from `next_offset` (or 0 without), which
    /// rises by their number. Waits only for a file.
    ///
    /// # Errors
    /// Nothing was appended and `next_offset` has not changed.
    pub async fn append(
        &self,
        records: &[Prepared<'_>],
        next_offset: Option<&AtomicI64>,
    ) -> Result<Placed, PutError> {
        let bytes: usize = records.iter().map(|record| record.size() as usize).sum();
        let room = usize::try_from(self.file_bytes()).unwrap_or(usize::MAX).saturating_sub(BLANK_BYTES);
        if bytes > room {
            return Err(PutError::RecordTooLarge { bytes, max: room });
        }
        loop {
            let tries = match self.try_append(records, bytes, next_offset) {
                Attempt::Placed(placed) => {
                    self.written.advance(placed.end);
                    self.rt.probe("store.append", placed.physical_offset, placed.end);
                    return Ok(placed);
                }
                Attempt::Refused(why) => return Err(PutError::NotWritable(why)),
                Attempt::NeedsFile { base } => (self.allocation.subscribe(), base),
            };
            let (tries, base) = tries;
            if self.next_is_there() {
                continue;
            }
            let waited = self.allocation.wait(&self.rt, tries, base, self.segment_timeout_ms).await;
            if let Some(next) = next_offset.filter(|_| waited.is_err())
                && self.rt.mutant(Mutant::RejectedTakesOffset)
            {
                next.fetch_add(records.len() as i64, Ordering::Relaxed);
            }
            waited?;
        }
    }

    fn next_is_there(&self) -> bool {
        self.tail().next.is_some()
    }

    fn try_append(&self, records: &[Prepared<'_>], bytes: usize, next_offset: Option<&AtomicI64>) -> Attempt {
        // Read before the lock: the times only have to be monotonic along the log.
        let now_ms = self.rt.wall_ms();
        if self.written.get().saturating_sub(self.committed.get()) > self.pool_bytes_max {
            match self.when_full {
                WhenFull::Refuse(why) => return Attempt::Refused(why),
                WhenFull::Commit if self.commit().is_err() => return Attempt::Refused(WhyNot::FlushFailed),
                WhenFull::Commit => {}
            }
        }
        let mut tail = self.tail_for_append();
        let attempt = match tail.refuse {
            Some(why) => Attempt::Refused(why),
            None if self.slave => Attempt::Refused(WhyNot::Slave),
            None => tail.append(records, bytes, next_offset, now_ms),
        };
        if !tail.uncommitted.is_empty() && self.rt.mutant(Mutant::RollLosesPool) {
            tail.uncommitted.clear();
        }
        if self.blocked_since.load(Ordering::Relaxed) != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
        attempt
    }

    /// The append lock. Who has to wait for it notes since when, and takes the note back after its own append at the latest.
    fn tail_for_append(&self) -> MutexGuard<'_, Tail<R>> {
        match self.tail.try_lock() {
            Ok(tail) => return tail,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        let now = self.rt.now().0.max(1);
        // The first who waits: an error says that somebody waits already.
        let _ = self.blocked_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.tail()
    }

    /// What the allocation task should do now.
    pub fn allocation_plan(&self, prefaulted: u64) -> Plan {
        let tail = self.tail();
        let file_bytes = self.file_bytes();
        let end = tail.end();
        let Some(writer) = &tail.writer else {
            // Before the first file: only a put makes it.
            let step = match tail.next {
                None if tail.next_wanted => Step::Create { base: tail.base },
                _ => Step::Idle,
            };
            return Plan { step, next_at: end + 1, known_end: 0 };
        };
        if !tail.appended && !tail.next_wanted {
            return Plan { step: Step::Idle, next_at: end + 1, known_end: 0 };
        }
        let file_end = tail.base + writer.capacity() as u64;
        let known_end = if tail.next.is_some() { file_end + file_bytes } else { file_end };
        let lead_at = file_end.saturating_sub(file_bytes / 4);
        if tail.next.is_none() && (tail.next_wanted || end >= lead_at) {
            return Plan { step: Step::Create { base: file_end }, next_at: end + 1, known_end };
        }
        let (from, upto) = (prefaulted.max(end), (end + self.prefault_bytes).min(known_end));
        // By steps, so that a page is not asked for with each append.
        let step = match self.backing {
            Backing::Mapped => PREFAULT_BYTES_MIN,
            Backing::Pooled | Backing::ReadOnly => PREFAULT_POOLED_BYTES,
        };
        let hysteresis = step.min(self.prefault_bytes / 2);
        if from < upto && prefaulted < end + self.prefault_bytes - hysteresis {
            let behind = prefaulted < end + self.prefault_bytes / 2;
            let bytes_max = if behind { PREFAULT_BYTES_MAX } else { step };
            let upto = upto.min(from + bytes_max);
            return Plan { step: Step::Prefault { from, upto }, next_at: end + 1, known_end };
        }
        let prefault_at = if upto == known_end || self.prefault_bytes == 0 {
            u64::MAX
        } else {
            from.saturating_sub(self.prefault_bytes - hysteresis)
        };
        let create_at = if tail.next.is_none() { lead_at } else { file_end + 1 };
        Plan { step: Step::Idle, next_at: prefault_at.min(create_at).max(end + 1), known_end }
    }

    /// Whether there is a file, be it one that was made ahead.
    pub fn has_file(&self) -> bool {
        !self.files.bases().is_empty()
    }

    /// Ends the writing: gives up the last file, which another store may then open, and answers the path of the file that
    /// was made ahead and holds nothing. The only file of a log that does not begin at 0 stays: it says where the log goes on.
    pub fn close(&self) -> Option<String> {
        let mut tail = self.tail();
        tail.base = tail.end();
        tail.writer = None;
        tail.uncommitted.clear();
        tail.next.take()?;
        if matches!(self.files.bases()[..], [only] if only > 0) {
            return None;
        }
        Some(self.files.pop_unused()?.path.clone())
    }

    /// The allocation task has made the file after the last one.
    pub fn add_next_file(&self, file: MappedFile<R>, writer: R::SegmentWriter) {
        // Readers may know of it before the first append: it shows no bytes until then.
        self.files.push(file);
        let mut tail = self.tail();
        assert!(tail.next.is_none(), "one file is made ahead");
        tail.next = Some(writer);
        tail.next_wanted = false;
    }
}

impl<R: Runtime> Tail<R> {
    fn end(&self) -> u64 {
        self.base + self.writer.as_ref().map_or(0, SegmentWriter::written) as u64
    }

    fn position(&self) -> (u64, i64) {
        (self.end(), self.last_timestamp)
    }

    /// End of what is in the files.
    fn committed_end(&self) -> u64 {
        let Some(first) = self.uncommitted.first().or(self.writer.as_ref()) else { return self.base };
        // All files have one length.
        let before = (self.uncommitted.len() * first.capacity()) as u64;
        self.base - before + first.reader().written() as u64
    }

    fn commit(&mut self) -> io::Result<()> {
        while let Some(full) = self.uncommitted.first_mut() {
            full.commit(usize::MAX)?;
            self.uncommitted.remove(0);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.commit(usize::MAX))
    }

    fn append(
        &mut self,
        records: &[Prepared<'_>],
        bytes: usize,
        next_offset: Option<&AtomicI64>,
        now_ms: i64,
    ) -> Attempt {
        if self.room() < bytes + BLANK_BYTES && !self.roll() {
            self.next_wanted = true;
            let file_bytes = self.writer.as_ref().map_or(0, SegmentWriter::capacity) as u64;
            return Attempt::NeedsFile { base: self.base + file_bytes };
        }
        let store_timestamp = now_ms.max(self.last_timestamp);
        let physical_offset = self.end();
        let queue_offset = next_offset.map_or(0, |next| next.load(Ordering::Relaxed));
        let writer = self.writer.as_mut().expect("room was found in it");
        writer
            .append(bytes, |into| {
                encode_all(records, into, Place { queue_offset, physical_offset, store_timestamp })
            })
            .expect("the room was checked");
        if let Some(next) = next_offset {
            // Only the holder of the append lock stores here.
            next.store(queue_offset + records.len() as i64, Ordering::Relaxed);
        }
        self.last_timestamp = store_timestamp;
        self.appended = true;
        let end = physical_offset + bytes as u64;
        Attempt::Placed(Placed { physical_offset, end, queue_offset, store_timestamp })
    }

    /// Bytes left in the file that takes appends.
    fn room(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.capacity() - writer.written())
    }

    /// Ends the file with a blank record and goes on in the next one; `false` when it is not there yet.
    fn roll(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        if let Some(writer) = &mut self.writer {
            let room = writer.capacity() - writer.written();
            if room >= BLANK_BYTES {
                let blank = u32::try_from(room).unwrap_or(u32::MAX);
                writer
                    .append(BLANK_BYTES, |into| codec::encode_blank(into, blank))
                    .expect("the room was checked");
            }
            writer.advance(writer.capacity() - writer.written());
            self.base += writer.capacity() as u64;
        }
        let full = self.writer.replace(next);
        self.uncommitted.extend(full.filter(|full| full.reader().written() < full.capacity()));
        true
    }
}

fn encode_all(records: &[Prepared<'_>], mut into: &mut [u8], mut place: Place) {
    for record in records {
        let (own, rest) = into.split_at_mut(record.size() as usize);
        record.encode(own, place);
        place.physical_offset += u64::from(record.size());
        place.queue_offset += 1;
        into = rest;
    }
    assert!(into.is_empty(), "{} bytes were not written", into.len());
}

/// A shared handle on the log.
pub(crate) type Log<R> = Arc<CommitLog<R>>;
