//! One queue: the places of its messages, in files of 20-byte entries named by their first byte in the queue.
//!
//! Guarantees: entry n is queue offset n, dense from `min` to `max`; an entry can be read once `max` has passed it. Files are
//! written and read by place, never mapped, so that tens of thousands of queues need neither mappings nor open files.
//! One task at a time appends (dispatch, or recovery before it).
//!
//! Invariant: an append that does not continue the queue is refused and never shifted (S-40).
//! Invariant: behind `max` are 20 zero bytes or the file's end, on disk too once a flush has covered `max`, so that what an
//! earlier life left further on never continues the queue (S-05).

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::first_kept::{Seen, first_kept, first_kept_believed};
use super::mapped_file::file_name;
use super::queue_entry::{ENTRY_BYTES, Entry, Unit, pre_blank, units};
use super::queue_files::QueueFiles;
use crate::runtime::storage::{Allocation, File};
use crate::runtime::{Mutant, Runtime};

const ENTRY: u64 = ENTRY_BYTES as u64;

pub(crate) struct ConsumeQueue {
    pub topic: String,
    pub queue_id: i32,
    /// The key of its files among the open ones.
    number: u64,
    topic_dir: String,
    dir: String,
    file_bytes: u64,
    /// First entry that points into the log.
    min: AtomicI64,
    /// One past the last entry.
    max: AtomicI64,
    /// Entries below are durable.
    durable: AtomicI64,
    /// First byte of the first and end of the last file; equal when there is none.
    files: (AtomicU64, AtomicU64),
    /// A folder or file was made whose name is not durable yet.
    names_unsynced: AtomicBool,
    /// The name of a deleted file may still be on the disk: nothing more is deleted before it is known to be gone.
    removal_unsynced: AtomicBool,
    /// Its files are being deleted, or gone.
    dropped: AtomicBool,
    /// Entries that dispatch has taken from the log and not yet written.
    staged: Mutex<Vec<u8>>,
}

/// Where a queue stands after recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub min: i64,
    pub max: i64,
    /// First byte of the first file and end of the last one.
    pub files: (u64, u64),
}

/// An entry does not continue the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub expected: i64,
    pub found: i64,
}

/// How many entries one read of a queue takes from its file at most.
pub(crate) const READ_ENTRIES_MAX: usize = 800;

impl ConsumeQueue {
    pub fn new(
        number: u64,
        root: &str,
        topic: &str,
        queue_id: i32,
        file_bytes: u64,
        extent: Extent,
    ) -> ConsumeQueue {
        assert!(0 <= extent.min && extent.min <= extent.max, "{topic}/{queue_id}: {extent:?}");
        ConsumeQueue {
            number,
            topic_dir: format!("{root}/{topic}"),
            dir: format!("{root}/{topic}/{queue_id}"),
            topic: topic.to_owned(),
            queue_id,
            file_bytes,
            min: AtomicI64::new(extent.min),
            max: AtomicI64::new(extent.max),
            durable: AtomicI64::new(extent.max),
            files: (AtomicU64::new(extent.files.0), AtomicU64::new(extent.files.1)),
            names_unsynced: AtomicBool::new(false),
            removal_unsynced: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            staged: Mutex::new(Vec::new()),
        }
    }

    /// The key of its files among the open ones, and its own among the queues of this run.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn min(&self) -> i64 {
        self.min.load(Ordering::Acquire)
    }

    pub fn max(&self) -> i64 {
        self.max.load(Ordering::Acquire)
    }

    /// What lies before `min` is gone. It never goes back.
    pub fn raise_min(&self, min: i64) {
        assert!(min <= self.max(), "{}: a minimum of {min} behind the end", self.dir);
        self.min.fetch_max(min, Ordering::AcqRel);
    }

    /// Entries that are not durable, in bytes.
    pub fn dirty_bytes(&self) -> u64 {
        let dirty = self.max() - self.durable.load(Ordering::Acquire);
        u64::try_from(dirty).unwrap_or(0).saturating_mul(ENTRY)
    }

    fn staged(&self) -> MutexGuard<'_, Vec<u8>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `entry` for queue offset `n`, to be written by [`Self::write_staged`]; true when it is the first one staged.
    ///
    /// # Errors
    /// [`Gap`] when `n` is not the next offset; nothing is taken.
    pub fn stage(&self, n: i64, entry: &Entry) -> Result<bool, Gap> {
        let mut staged = self.staged();
        let expected = self.max() + (staged.len() / ENTRY_BYTES) as i64;
        let empty_queue = expected == 0 && !self.has_files();
        if n != expected && !empty_queue {
            return Err(Gap { expected, found: n });
        }
        let first = staged.is_empty();
        if empty_queue && n > 0 {
            // The queue begins in the middle: everything before it was deleted with its log files.
            self.min.store(n, Ordering::Release);
            self.max.store(n, Ordering::Release);
            self.durable.store(n, Ordering::Release);
        }
        staged.extend_from_slice(&entry.encode());
        Ok(first)
    }

    fn has_files(&self) -> bool {
        self.files.0.load(Ordering::Acquire) != self.files.1.load(Ordering::Acquire)
    }

    /// Writes what is staged, then lets readers see it. Called again after an error it writes the same bytes to the same places.
    ///
    /// # Errors
    /// Of creating or writing a file. Nothing new can be read then.
    pub async fn write_staged<R: Runtime>(&self, rt: &R, files: &QueueFiles<R>) -> io::Result<()> {
        let bytes = self.staged().clone();
        if bytes.is_empty() {
            return Ok(());
        }
        let first = self.max();
        self.write(rt, files, first, &bytes).await?;
        self.staged().clear();
        self.max.store(first + (bytes.len() / ENTRY_BYTES) as i64, Ordering::Release);
        Ok(())
    }

    /// Writes whole entries at `first` and behind, into files that are made as needed.
    ///
    /// # Errors
    /// Of creating or writing a file.
    pub async fn write<R: Runtime>(
        &self,
        rt: &R,
        files: &QueueFiles<R>,
        first: i64,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        debug_assert_eq!(bytes.len() % ENTRY_BYTES, 0);
        let mut at = u64::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?.saturating_mul(ENTRY);
        while !bytes.is_empty() {
            let base = at - at % self.file_bytes;
            let inside = at - base;
            let room = usize::try_from(self.file_bytes - inside).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let file = self.file_for_write(rt, files, base, inside).await?;
            if room >= now.len() + ENTRY_BYTES {
                // Zeros behind the last entry: whatever an earlier life left there does not continue the queue.
                file.write_at(inside, &[now, &[0; ENTRY_BYTES]].concat())?;
            } else {
                file.write_at(inside, now)?;
            }
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    async fn file_for_write<R: Runtime>(
        &self,
        rt: &R,
        files: &QueueFiles<R>,
        base: u64,
        inside: u64,
    ) -> io::Result<R::File> {
        let end = self.files.1.load(Ordering::Acquire);
        if self.has_files() && base < end {
            return files.get((self.number, base), || self.path(base)).await;
        }
        if !self.has_files() {
            rt.create_dir_all(&self.dir).await?;
        }
        let path = self.path(base);
        let file = match rt.create_sized(&path, self.file_bytes, Allocation::Sparse).await {
            // Left by a try that failed behind the creation.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = rt.open_file(&path, false).await?;
                file.set_len(self.file_bytes, Allocation::Sparse).await?;
                file
            }
            created => created?,
        };
        if !self.has_files() {
            // Zeros would end the queue: readers of the file, Java among them, need valid entries before the first one.
            let blanks = usize::try_from(inside / ENTRY).unwrap_or(0);
            file.write_at(0, &pre_blank(blanks))?;
            self.files.0.store(base, Ordering::Release);
        }
        self.names_unsynced.store(true, Ordering::Release);
        self.files.1.store(base + self.file_bytes, Ordering::Release);
        files.put((self.number, base), file.clone());
        Ok(file)
    }

    fn path(&self, base: u64) -> String {
        format!("{}/{}", self.dir, file_name(base))
    }

    /// Up to `count` units from `first` on, out of one file, below `max`. All are entries, if the disk has kept them.
    ///
    /// # Errors
    /// Of opening or reading the file; `NotFound` also when no file holds `first`.
    pub async fn read<R: Runtime>(
        &self,
        files: &QueueFiles<R>,
        first: i64,
        count: usize,
    ) -> io::Result<Vec<Unit>> {
        let max = self.max();
        let first_u = u64::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?;
        let left = usize::try_from(max - first).unwrap_or(0);
        let at = first_u.saturating_mul(ENTRY);
        let base = at - at % self.file_bytes;
        let in_file = usize::try_from((self.file_bytes - (at - base)) / ENTRY).unwrap_or(usize::MAX);
        let count = count.min(left).min(in_file).min(READ_ENTRIES_MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        let files_from = self.files.0.load(Ordering::Acquire);
        if base < files_from || base >= self.files.1.load(Ordering::Acquire) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = files.get((self.number, base), || self.path(base)).await?;
        let mut bytes = vec![0; count * ENTRY_BYTES];
        file.read_at(at - base, &mut bytes)?;
        Ok(units(&bytes).collect())
    }

    /// Writes the entry at `n` again, which the disk has not kept. It is as durable as the kernel makes it: what the disk has
    /// is no better.
    ///
    /// # Errors
    /// Of opening or writing the file.
    pub async fn rewrite<R: Runtime>(&self, files: &QueueFiles<R>, n: i64, entry: &Entry) -> io::Result<()> {
        assert!((self.min()..self.max()).contains(&n), "{}: {n} was never written", self.dir);
        let at = u64::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?.saturating_mul(ENTRY);
        let base = at - at % self.file_bytes;
        let file = files.get((self.number, base), || self.path(base)).await?;
        file.write_at(at - base, &entry.encode())
    }

    /// The unit at `n`, whatever it is.
    ///
    /// # Errors
    /// Of opening or reading the file.
    pub async fn read_unit<R: Runtime>(&self, files: &QueueFiles<R>, n: i64) -> io::Result<Unit> {
        let at = u64::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?.saturating_mul(ENTRY);
        let base = at - at % self.file_bytes;
        let file = files.get((self.number, base), || self.path(base)).await?;
        let mut unit = [0; ENTRY_BYTES];
        file.read_at(at - base, &mut unit)?;
        Ok(Unit::decode(&unit))
    }

    /// The first entry whose record lies at `log_min` or behind; `max` when none does.
    ///
    /// # Errors
    /// Of opening or reading a file.
    pub async fn first_kept<R: Runtime>(&self, files: &QueueFiles<R>, log_min: u64) -> io::Result<i64> {
        let look = |n| async move { Ok(Seen::of(self.read_unit(files, n).await?, log_min)) };
        let entries = self.min()..self.max();
        match files.rt().mutant(Mutant::DamagedEntryMovesBegin) {
            false => first_kept(entries, look).await,
            true => first_kept_believed(entries, look).await,
        }
    }

    /// Deletes the first file if none of its entries is above `min`, and a later file begins with an entry of a record
    /// below `log_durable` that is durable itself: a recovery that cuts log and queue then never empties the queue, whose
    /// next offset would be forgotten with its last file. True when a file was deleted.
    ///
    /// # Errors
    /// Of reading, or of a step of the deletion; it can be tried again.
    pub async fn delete_first_file<R: Runtime>(
        &self,
        rt: &R,
        files: &QueueFiles<R>,
        log_durable: u64,
    ) -> io::Result<bool> {
        if self.removal_unsynced.load(Ordering::Acquire) {
            rt.sync_dir(&self.dir).await?;
            self.removal_unsynced.store(false, Ordering::Release);
        }
        let (first, end) = (self.files.0.load(Ordering::Acquire), self.files.1.load(Ordering::Acquire));
        if self.dropped.load(Ordering::Acquire) {
            return Ok(false);
        }
        let second = first + self.file_bytes;
        let next = i64::try_from(second / ENTRY).unwrap_or(i64::MAX);
        if second >= end || self.min() < next || next >= self.durable.load(Ordering::Acquire) {
            return Ok(false);
        }
        let entry = self.read_unit(files, next).await?.entry();
        if entry.is_none_or(|entry| entry.end() > log_durable) {
            return Ok(false);
        }
        self.files.0.store(second, Ordering::Release);
        files.forget((self.number, first));
        if let Err(error) = rt.remove(&self.path(first)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            self.files.0.store(first, Ordering::Release);
            return Err(error);
        }
        // A reader that was on its way may have opened it meanwhile.
        files.forget((self.number, first));
        self.removal_unsynced.store(true, Ordering::Release);
        rt.sync_dir(&self.dir).await?;
        self.removal_unsynced.store(false, Ordering::Release);
        Ok(true)
    }

    /// Deletes all files, durably. Readers that have the queue find nothing more.
    ///
    /// # Errors
    /// Of deleting; called again it goes on.
    pub async fn delete_files<R: Runtime>(&self, rt: &R, files: &QueueFiles<R>) -> io::Result<()> {
        self.dropped.store(true, Ordering::Release);
        if !self.has_files() {
            return Ok(());
        }
        let (first, end) = (self.files.0.load(Ordering::Acquire), self.files.1.load(Ordering::Acquire));
        let mut base = first;
        while base < end {
            files.forget((self.number, base));
            if let Err(error) = rt.remove(&self.path(base)).await
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            files.forget((self.number, base));
            base += self.file_bytes;
        }
        rt.sync_dir(&self.dir).await?;
        self.files.0.store(end, Ordering::Release);
        Ok(())
    }

    /// To the end of its last file: a planted bug.
    pub fn counts_as_flushed(&self) {
        let entries = i64::try_from(self.files_end() / ENTRY).unwrap_or(i64::MAX);
        self.durable.store(entries, Ordering::Release);
    }

    /// First byte behind the last file.
    pub fn files_end(&self) -> u64 {
        self.files.1.load(Ordering::Acquire)
    }

    /// Recovery: makes entries from `first` on, and the names, durable, after marking them dirty when `redirty`: a failed
    /// flush may have left pages that are in memory only.
    ///
    /// # Errors
    /// Of writing or flushing.
    pub async fn make_durable_from<R: Runtime>(
        &self,
        files: &QueueFiles<R>,
        first: i64,
        redirty: bool,
        folders: &mut BTreeSet<String>,
    ) -> io::Result<()> {
        self.durable.store(first, Ordering::Release);
        self.names_unsynced.store(true, Ordering::Release);
        if !redirty {
            return self.flush(files, folders).await;
        }
        self.redirty_from(files, first).await?;
        if self.flush(files, folders).await.is_ok() {
            return Ok(());
        }
        // See `recovery`: it may be what the process before has lost.
        self.redirty_from(files, first).await?;
        self.flush(files, folders).await
    }

    async fn redirty_from<R: Runtime>(&self, files: &QueueFiles<R>, first: i64) -> io::Result<()> {
        let mut at = u64::try_from(first).unwrap_or(0).saturating_mul(ENTRY);
        let end = u64::try_from(self.max()).unwrap_or(0).saturating_mul(ENTRY);
        while at < end {
            let base = at - at % self.file_bytes;
            let upto = end.min(base + self.file_bytes);
            files
                .get((self.number, base), || self.path(base))
                .await?
                .redirty(at - base..(upto + ENTRY - base).min(self.file_bytes))?;
            at = upto;
        }
        Ok(())
    }

    /// First queue offset of the file behind the one that holds `n`.
    pub fn next_file_offset(&self, n: i64) -> i64 {
        let per_file = i64::try_from(self.file_bytes / ENTRY).unwrap_or(i64::MAX);
        (n / per_file + 1).saturating_mul(per_file)
    }

    /// Makes entries up to the present `max` durable, and puts the folders whose names are not into `folders`: the caller
    /// flushes each once, before it claims anything.
    ///
    /// # Errors
    /// Of a flush. What it covered is then not known to be on disk, ever: the caller claims nothing about this queue again.
    pub async fn flush<R: Runtime>(
        &self,
        files: &QueueFiles<R>,
        folders: &mut BTreeSet<String>,
    ) -> io::Result<()> {
        let (from, max) = (self.durable.load(Ordering::Acquire), self.max());
        let mut at = u64::try_from(from).unwrap_or(0).saturating_mul(ENTRY);
        if self.names_unsynced.load(Ordering::Acquire) {
            // The pre-blank entries of a queue's first file come before its first entry.
            at = self.files.0.load(Ordering::Acquire).max(at - at % self.file_bytes);
        }
        let end = u64::try_from(max).unwrap_or(0).saturating_mul(ENTRY);
        while at < end {
            let base = at - at % self.file_bytes;
            let upto = end.min(base + self.file_bytes);
            let file = match files.get((self.number, base), || self.path(base)).await {
                // There is nothing left to be made durable.
                Err(_) if self.dropped.load(Ordering::Acquire) => return Ok(()),
                file => file?,
            };
            // With the zeros behind the last entry.
            file.flush(at - base..(upto + ENTRY - base).min(self.file_bytes)).await?;
            at = upto;
        }
        if self.names_unsynced.swap(false, Ordering::AcqRel) {
            let root = self.topic_dir.rsplit_once('/').map_or("", |(root, _)| root);
            folders.extend([self.dir.clone(), self.topic_dir.clone(), root.to_owned()]);
        }
        self.durable.fetch_max(max, Ordering::AcqRel);
        Ok(())
    }
}
