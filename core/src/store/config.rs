//! Settings of a store. Java's key is in each doc line; times are in ms, sizes in bytes.

use super::delay_levels::DelayLevels;
use super::error::RecoverError;
use super::index::{COUNT_MAX, Geometry};
use super::retention::Retention;
use crate::runtime::Backing;

/// A file holds at least a small record and its blank record.
const LOG_FILE_BYTES_MIN: u64 = 512;
/// A blank record's length field holds the rest of any file.
const LOG_FILE_BYTES_MAX: u64 = i32::MAX as u64 + 1;

/// When a put may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// After the flush that covers it; consumers see flushed messages only.
    Sync,
    /// At once; a flush follows within the intervals.
    Async,
}

/// Appends are gathered in memory and answered there; a commit service writes them into their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransientPool {
    /// `transientStorePoolSize`: so many CommitLog files of bytes may wait in memory. They are taken as they are needed.
    pub buffers: u64,
    /// `fastFailIfNoBufferInStorePool`: a put that finds none is refused; else it commits by itself.
    pub fast_fail: bool,
    /// `commitIntervalCommitLog`: between two looks at what waits.
    pub commit_interval_ms: u64,
    /// `commitCommitLogLeastPages`: fewer pages of 4 KiB wait for the thorough commit, or for the end of their file.
    pub commit_least_pages: u64,
    /// `commitCommitLogThoroughInterval`: so long after the last commit everything is committed.
    pub commit_thorough_interval_ms: u64,
}

impl Default for TransientPool {
    /// Java's.
    fn default() -> TransientPool {
        TransientPool {
            buffers: 5,
            fast_fail: false,
            commit_interval_ms: 200,
            commit_least_pages: 4,
            commit_thorough_interval_ms: 200,
        }
    }
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `storePathRootDir`.
    pub root: String,
    /// `storePathCommitLog`: one folder or several, among which the files are spread. None: `commitlog` in the root.
    pub commit_log_dirs: Vec<String>,
    /// `readOnlyCommitLogStorePaths`: folders of the log whose files are read, and deleted when they expire. None is made or
    /// changed there.
    pub read_only_commit_log_dirs: Vec<String>,
    /// `mappedFileSizeCommitLog`.
    pub commit_log_file_bytes: u64,
    /// `mappedFileSizeConsumeQueue`; a multiple of 20.
    pub consume_queue_file_bytes: u64,
    /// `flushDiskType`.
    pub flush: FlushMode,
    /// `brokerRole` is SLAVE: what the master appended is copied, and puts are refused.
    pub slave: bool,
    /// `syncFlushTimeout`: a put that waited longer is answered FLUSH_DISK_TIMEOUT.
    pub sync_flush_timeout_ms: u64,
    /// `transientStorePoolEnable`, for [`FlushMode::Async`] alone, as in Java.
    pub transient_pool: Option<TransientPool>,
    /// `flushIntervalCommitLog`, for [`FlushMode::Async`].
    pub flush_interval_ms: u64,
    /// `flushCommitLogLeastPages`: fewer dirty pages of 4 KiB wait for the thorough flush.
    pub flush_least_pages: u64,
    /// `flushCommitLogThoroughInterval`.
    pub flush_thorough_interval_ms: u64,
    /// `flushIntervalConsumeQueue`.
    pub queue_flush_interval_ms: u64,
    /// `flushConsumeQueueLeastPages`.
    pub queue_flush_least_pages: u64,
    /// `flushConsumeQueueThoroughInterval`: also how often the checkpoint can move.
    pub queue_flush_thorough_interval_ms: u64,
    /// `messageIndexEnable`: records can be looked up by key.
    pub index: bool,
    /// `maxHashSlotNum` and `maxIndexNum`: of each index file. Files of other lengths are made again.
    pub index_geometry: Geometry,
    /// `maxMsgsNumBatch`: records that one look-up by key gives at most.
    pub query_count_max: usize,
    /// `maxMessageSize`: bytes of a body.
    pub message_bytes_max: usize,
    /// `enabledAppendPropCRC`, on by default: only it shows properties that a power loss tore.
    pub record_crc: bool,
    /// `messageDelayLevel`: the delay of level 1, 2, … in ms, for the due times in the delay topic's queues.
    pub delay_levels_ms: Vec<i64>,
    /// How long a put waits for the next CommitLog file.
    pub segment_timeout_ms: u64,
    /// How far ahead of the appends pages are brought into memory.
    pub prefault_bytes: u64,
    /// Files of queues that are open at once, at most.
    pub open_queue_files_max: usize,
    /// Bytes of memory that hold recent messages (Java: 40 % of RAM): what lies further back counts as on disk.
    pub hot_bytes: u64,
    pub read_limits: ReadLimits,
    pub retention: Retention,
}

/// Of [`StoreConfig`] what may change while the store runs; the fields are those of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub flush_interval_ms: u64,
    pub flush_least_pages: u64,
    pub flush_thorough_interval_ms: u64,
    pub queue_flush_interval_ms: u64,
    pub queue_flush_least_pages: u64,
    pub queue_flush_thorough_interval_ms: u64,
    pub message_bytes_max: usize,
}

impl StoreConfig {
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace {
            flush_interval_ms: self.flush_interval_ms,
            flush_least_pages: self.flush_least_pages,
            flush_thorough_interval_ms: self.flush_thorough_interval_ms,
            queue_flush_interval_ms: self.queue_flush_interval_ms,
            queue_flush_least_pages: self.queue_flush_least_pages,
            queue_flush_thorough_interval_ms: self.queue_flush_thorough_interval_ms,
            message_bytes_max: self.message_bytes_max,
        }
    }
}

/// What one read may give, beside what its caller asks. "Hot" is what lies within [`StoreConfig::hot_bytes`] of the log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// `maxTransferBytesOnMessageInMemory`.
    pub hot_bytes: u64,
    /// `maxTransferCountOnMessageInMemory`.
    pub hot_count: usize,
    /// `maxTransferBytesOnMessageInDisk`.
    pub cold_bytes: u64,
    /// `maxTransferCountOnMessageInDisk`.
    pub cold_count: usize,
}

impl Default for ReadLimits {
    /// Java's.
    fn default() -> ReadLimits {
        ReadLimits { hot_bytes: 256 << 10, hot_count: 32, cold_bytes: 64 << 10, cold_count: 8 }
    }
}

/// The folders that `storePathCommitLog` names, in the order in which Java fills them.
#[must_use]
pub fn commit_log_dirs(setting: &str) -> Vec<String> {
    let dirs = setting.split(',').map(|dir| dir.trim().trim_end_matches('/').to_owned());
    let mut dirs: Vec<String> = dirs.filter(|dir| !dir.is_empty()).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// Folders below `root`, for a directory that now is at `moved_to`.
#[must_use]
pub fn moved_dirs(dirs: Vec<String>, root: &str, moved_to: &str) -> Vec<String> {
    let (root, moved_to) = (root.trim_end_matches('/'), moved_to.trim_end_matches('/'));
    let moved = dirs.into_iter().map(|dir| match dir.strip_prefix(root) {
        Some(below) if below.starts_with('/') => format!("{moved_to}{below}"),
        _ => dir,
    });
    moved.collect()
}

impl StoreConfig {
    /// Java's defaults for a store in `root`, with the record checksum on.
    #[must_use]
    pub fn new(root: impl Into<String>) -> StoreConfig {
        StoreConfig {
            root: root.into(),
            commit_log_dirs: Vec::new(),
            read_only_commit_log_dirs: Vec::new(),
            commit_log_file_bytes: 1 << 30,
            consume_queue_file_bytes: 6_000_000,
            flush: FlushMode::Async,
            slave: false,
            sync_flush_timeout_ms: 5_000,
            transient_pool: None,
            flush_interval_ms: 500,
            flush_least_pages: 4,
            flush_thorough_interval_ms: 10_000,
            queue_flush_interval_ms: 1_000,
            queue_flush_least_pages: 2,
            queue_flush_thorough_interval_ms: 60_000,
            index: true,
            index_geometry: Geometry { slots: 5_000_000, entries: 20_000_000 },
            query_count_max: 64,
            message_bytes_max: 4 << 20,
            record_crc: true,
            delay_levels_ms: DelayLevels::default().ms().to_vec(),
            segment_timeout_ms: 5_000,
            prefault_bytes: 64 << 20,
            open_queue_files_max: 512,
            hot_bytes: 1 << 30,
            read_limits: ReadLimits::default(),
            retention: Retention::default(),
        }
    }

    /// Where appends to the log go. With SYNC_FLUSH nobody reads or acknowledges a record before its flush, so appends are
    /// gathered in memory and each flush writes its group in one piece: a store into the mapping would cost a page fault
    /// after every flush, since the flush makes the page read-only. With ASYNC_FLUSH the transient pool asks for the same.
    pub(crate) fn backing(&self) -> Backing {
        match self.flush {
            FlushMode::Async if self.transient_pool.is_none() => Backing::Mapped,
            FlushMode::Sync | FlushMode::Async => Backing::Pooled,
        }
    }

    /// # Errors
    /// `Setting`: a size with which no file could work.
    pub(crate) fn check(&self) -> Result<(), RecoverError> {
        let wrong = |setting, found, why| Err(RecoverError::Setting { setting, found, why });
        let (log, queue) = (self.commit_log_file_bytes, self.consume_queue_file_bytes);
        if !(LOG_FILE_BYTES_MIN..=LOG_FILE_BYTES_MAX).contains(&log) {
            return wrong("mappedFileSizeCommitLog", log, "a file has 512 bytes to 2 GiB");
        }
        if queue == 0 || queue % 20 != 0 {
            return wrong("mappedFileSizeConsumeQueue", queue, "a file has whole entries of 20 bytes");
        }
        let Geometry { slots, entries } = self.index_geometry;
        if !(1..=COUNT_MAX).contains(&slots) {
            return wrong("maxHashSlotNum", slots.into(), "a file has 1 to 2^31 - 1 slots");
        }
        if !(2..=COUNT_MAX).contains(&entries) {
            return wrong(
                "maxIndexNum",
                entries.into(),
                "a file has 2 to 2^31 - 1 entries, the first of which is not used",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_log_are_sorted_and_move_with_their_root() {
        let dirs = commit_log_dirs("/s/b/, /s/a,,/t/c");
        assert_eq!(dirs, ["/s/a", "/s/b", "/t/c"]);
        assert_eq!(moved_dirs(dirs, "/s", "x/"), ["x/a", "x/b", "/t/c"]);
        assert_eq!(commit_log_dirs(""), [""; 0]);
    }
}
