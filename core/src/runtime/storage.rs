//! Files, mapped segments and folders, one step per call.
//!
//! Paths are relative to the node's data folder, with `/` between names, or absolute when the node was given an absolute
//! folder; the runtime joins them. What survives: a process crash keeps every store and every name; a power loss keeps
//! what a flush of the file (bytes, length) and a [`Storage::sync_dir`] of the folder (names) made durable, and any subset
//! of the rest, whole or torn.
//!
//! Invariant: bytes of a segment below `written` do not change until `truncate`; bytes at and above it belong to the one writer.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};

/// How a file gets its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// Blocks are reserved: a full disk is met here and not at a later store into a mapping. CommitLog files.
    Reserve,
    /// Only the length: blocks come with the first store. ConsumeQueue and index files.
    Sparse,
}

/// Where a segment's appends go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Into the mapping: readers see them at once.
    Mapped,
    /// Into memory off the file (the transient store pool); readers see what [`SegmentWriter::commit`] has written.
    Pooled,
    /// Nowhere: the file is opened for reading, and of another user or a disk that takes no writes this is all that can be
    /// done. Appends find no room, and a truncation is refused.
    ReadOnly,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// Bytes.
    pub len: u64,
    /// Wall clock, ms since the epoch.
    pub modified_ms: i64,
    pub is_dir: bool,
}

/// Of the partition that holds the folder, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskUsage {
    /// What is used and what is available, without what the file system keeps back.
    pub total: u64,
    pub available: u64,
    /// Nothing can be changed on it.
    pub read_only: bool,
}

impl DiskUsage {
    /// Used fraction, 0.0 to 1.0.
    #[must_use]
    pub fn used_ratio(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        1.0 - self.available as f64 / self.total as f64
    }
}

pub trait Storage {
    type SegmentWriter: SegmentWriter<Reader = Self::SegmentReader>;
    type SegmentReader: SegmentReader<View = Self::View>;
    type View: View;
    type File: File;
    /// Held for as long as the lock is.
    type Lock: Send + Sync + 'static;

    /// Creates the folder and the missing ones above it. Present is fine. The names are durable after `sync_dir` of each parent.
    fn create_dir_all(&self, path: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Creates an empty file.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` when the folder is missing; `StorageFull`; `ReadOnlyFilesystem`.
    fn create_file(&self, path: &str) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Creates a file of `len` bytes, all zero, that has its length from the first moment it has its name: a process crash leaves
    /// it whole or not at all. A Java broker does not start where it meets a CommitLog or ConsumeQueue file of another length.
    /// The length is durable after a flush of the file, the name after `sync_dir`, each without the other.
    ///
    /// On a file system that has no files without a name, a crash may leave an empty one, and so may an error if it cannot be
    /// removed either.
    ///
    /// # Errors
    /// As [`Self::create_file`], and those of [`File::set_len`].
    fn create_sized(
        &self,
        path: &str,
        len: u64,
        allocation: Allocation,
    ) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Opens an existing file for reading and writing (for reading only when `read_only`).
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    fn open_file(&self, path: &str, read_only: bool) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Maps an existing file of its present length (at least 1 byte) as a segment whose first `written` bytes are published.
    /// One writer per file at a time. With [`Backing::Pooled`] the published part is in the file, appends are not.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when `written` exceeds the length or the file is empty.
    fn open_segment(
        &self,
        path: &str,
        written: usize,
        backing: Backing,
    ) -> impl Future<Output = io::Result<Self::SegmentWriter>> + Send;

    /// The folder's entries, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    fn list(&self, dir: &str) -> impl Future<Output = io::Result<Vec<DirEntry>>> + Send;

    /// # Errors
    /// `NotFound`.
    fn stat(&self, path: &str) -> impl Future<Output = io::Result<FileStat>> + Send;

    /// Atomically gives `from` the name `to`, replacing a file there. Durable after `sync_dir` of the folder(s).
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes the name of a file. Its bytes live as long as views, readers and handles do.
    fn remove(&self, path: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the folder's names (created, renamed, removed) durable.
    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>> + Send;

    fn disk_usage(&self, dir: &str) -> impl Future<Output = io::Result<DiskUsage>> + Send;

    /// Takes the exclusive advisory lock on byte 0 of the file, creating it if absent, as Java does (`fcntl`, so that a
    /// Java broker and ours exclude each other). Freed when the value is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` when another process (or another runtime in this one) holds it; the text names the holder's pid if known.
    fn lock_file(&self, path: &str) -> impl Future<Output = io::Result<Self::Lock>> + Send;
}

/// Sole owner of a segment's tail: `&mut self` is the single-writer token.
///
/// `append` runs its closure inside the runtime: the closure must not call the runtime, nor wait.
pub trait SegmentWriter: Send + 'static {
    type Reader: SegmentReader;

    fn reader(&self) -> Self::Reader;
    /// Length of the file, in bytes.
    fn capacity(&self) -> usize;
    /// Bytes appended, committed or not.
    fn written(&self) -> usize;

    /// Hands `fill` the next `len` bytes (in the mapping itself when mapped), then publishes them. `None` when fewer are left; then nothing changes.
    fn append<T>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Option<T>;

    /// Publishes the next `len` bytes as they are, without storing into them.
    ///
    /// # Panics
    /// When fewer are left.
    fn advance(&mut self, len: usize);

    /// Writes pooled bytes up to `upto` into the file and publishes them to readers; all of them or an error. For a
    /// mapped segment nothing happens. Committed bytes are in the page cache, not yet durable.
    ///
    /// # Errors
    /// Of the write; the committed position then stays where the written part ends.
    fn commit(&mut self, upto: usize) -> io::Result<()>;

    /// Marks the pages of `range` dirty without changing a byte, so that the next flush really writes them. Recovery does
    /// this: after a failed flush the kernel may hold pages as clean that never reached the disk.
    fn redirty(&mut self, range: Range<usize>);

    /// Moves the tail back to `to`. Waits at most `patience` for views beyond it, sets **all** bytes from `to` to the
    /// segment's end to zero and flushes them before it returns.
    ///
    /// # Errors
    /// `TimedOut` when views stayed (nothing was changed); those of a flush (the tail has moved; the store must not go on).
    fn truncate(&mut self, to: usize, patience: Duration) -> impl Future<Output = io::Result<()>> + Send;
}

pub trait SegmentReader: Clone + Send + Sync + 'static {
    type View: View;

    /// Bytes published to readers.
    fn written(&self) -> usize;
    fn capacity(&self) -> usize;

    /// Published bytes, not copied.
    ///
    /// # Errors
    /// `InvalidInput` when the range is not published. In simulation an unreadable sector is `Other`; in production it is
    /// SIGBUS, so callers treat it as the end of the process ([`super::Runtime::fatal`]).
    fn view(&self, offset: usize, len: usize) -> io::Result<Self::View>;

    /// Makes the bytes of `range` (clipped to the capacity) and the file's length durable.
    ///
    /// # Errors
    /// After an error nothing may be assumed about the range, ever: not even when a later flush succeeds.
    fn flush(&self, range: Range<usize>) -> impl Future<Output = io::Result<()>> + Send;

    /// Brings the pages of `range` into memory, writable, off the caller's thread, so that appends meet no page fault.
    fn prefault(&self, range: Range<usize>) -> impl Future<Output = io::Result<()>> + Send;

    /// Brings the pages of `range` (clipped to the capacity) into memory, off the caller's thread, and leaves them clean: a later
    /// `prefault` costs a tenth, and nothing is written. A hint, which may do nothing.
    ///
    /// # Errors
    /// As of reading the file.
    fn read_ahead(&self, range: Range<usize>) -> impl Future<Output = io::Result<()>> + Send;

    /// Views of this segment that are alive.
    fn live_views(&self) -> usize;
}

/// A range of published bytes. It keeps the mapping alive, also after the file was removed.
/// Should a truncation have cut below its end (after the patience given), it shows zeros, as the mapping would.
pub trait View: Buf + AsRef<[u8]> + Clone + fmt::Debug + Send + Sync + 'static {
    /// The same bytes, shared and not copied.
    fn to_bytes(&self) -> Bytes;
    /// The part of it; ranges are relative to what remains.
    ///
    /// # Panics
    /// When the range is outside.
    fn slice(&self, range: Range<usize>) -> Self;
}

/// A file read and written at any place: checkpoint, index, configuration. Through the page cache.
pub trait File: Clone + Send + Sync + 'static {
    /// # Errors
    /// Of the system.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; EIO as `Other`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `from` at `offset`, growing the file if needed.
    ///
    /// # Errors
    /// `StorageFull`, `ReadOnlyFilesystem`; part of the bytes may then be there.
    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// Grows (with zeros) or cuts the file to `len` bytes.
    ///
    /// # Errors
    /// `StorageFull` when blocks are to be reserved and are not there; the length is then unchanged.
    fn set_len(&self, len: u64, allocation: Allocation) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the bytes of `range` and the file's length durable. After an error nothing may be assumed about the range.
    fn flush(&self, range: Range<u64>) -> impl Future<Output = io::Result<()>> + Send;

    /// As [`SegmentWriter::redirty`].
    ///
    /// # Errors
    /// Of reading or writing.
    fn redirty(&self, range: Range<u64>) -> io::Result<()>;
}
