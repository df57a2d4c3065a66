//! What can go wrong in a store, one enum per family of operations, each variant with its evidence.

use std::io;
use std::sync::Arc;

use crate::message::codec::{EncodeError, RecordError};

/// A message was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// The message itself: its sender must change it.
    #[error(transparent)]
    Illegal(#[from] EncodeError),
    #[error("the body has {bytes} bytes, at most {max} are allowed")]
    BodyTooLarge { bytes: usize, max: usize },
    /// With its blank record it cannot fit in one CommitLog file.
    #[error("the record has {bytes} bytes, a CommitLog file holds {max}")]
    RecordTooLarge { bytes: usize, max: usize },
    #[error("the batch is empty")]
    EmptyBatch,
    #[error("topic {topic} has queues of batches (queue.type=BatchCQ), which this broker does not serve")]
    QueuesOfBatches { topic: String },
    #[error("the store takes no writes: {0}")]
    NotWritable(WhyNot),
    /// The next CommitLog file could not be made; a later put tries again.
    #[error("create CommitLog file {file}: {source}")]
    SegmentFailed { file: String, source: Arc<io::Error> },
    /// The next CommitLog file was not there in time; a later put may succeed.
    #[error("the next CommitLog file was not ready within {waited_ms} ms")]
    SegmentTimeout { waited_ms: u64 },
}

impl PutError {
    /// Whether no later put of the same message can succeed.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(
            self,
            PutError::Illegal(_)
                | PutError::BodyTooLarge { .. }
                | PutError::RecordTooLarge { .. }
                | PutError::EmptyBatch
                | PutError::QueuesOfBatches { .. }
        )
    }
}

/// Why a store takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum WhyNot {
    #[error("it has not been started")]
    NotStarted,
    #[error("it is stopping")]
    Stopping,
    /// The pages may be gone: the node must be restarted, which recovers what is on the disk.
    #[error("a flush has failed")]
    FlushFailed,
    /// Passing: dispatch goes on once the system takes queue entries again.
    #[error("queue entries cannot be written")]
    QueueWriteFailed,
    /// Passing: the disk is fuller than the warning level. Files are deleted to make room.
    #[error("the disk is full")]
    DiskFull,
    /// Passing: the file system was made read-only.
    #[error("the file system is read-only")]
    ReadOnly,
    /// A queue does not continue where the log says: the next start rebuilds it.
    #[error("the log and a queue contradict each other")]
    Inconsistent,
    /// Its master takes them.
    #[error("it is a slave")]
    Slave,
    /// Told to single puts: appends wait in memory for a flush that does not come.
    #[error("too many bytes wait for the flush")]
    FlushBehind,
    /// Told to single puts: appends wait in memory for a commit, in all the room there is for them.
    #[error("every buffer of the transient store pool is in use")]
    PoolFull,
    /// A record that was appended cannot be read back.
    #[error("the log cannot be read back")]
    Unreadable,
}

impl WhyNot {
    /// It ends when its cause does, without a restart.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, WhyNot::QueueWriteFailed | WhyNot::DiskFull | WhyNot::ReadOnly)
    }
}

/// The directory cannot be opened. Nothing was changed in it, unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The source says by whom.
    #[error("{dir} is {source}")]
    InUse { dir: String, source: io::Error },
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: io::Error },
    #[error("{file}: expected {expected} bytes, found {found}")]
    FileLength { file: String, expected: u64, found: u64 },
    #[error("{file}: not a name of 20 digits")]
    FileName { file: String },
    #[error("{file}: expected a file that begins at {expected}, found one at {found}")]
    FileMissing { file: String, expected: u64, found: u64 },
    #[error("{file}: begins at {base}, which is no multiple of {file_bytes} bytes")]
    FileBase { file: String, base: u64, file_bytes: u64 },
    /// Records are damaged that were durable: no crash explains it, and a cut would lose what lies behind.
    #[error(
        "{file}: the log at {at}: expected a whole record, since the log was durable up to {durable}; found: {found}"
    )]
    Damaged { file: String, at: u64, durable: u64, found: ScanEnd },
    #[error(
        "{folder}: expected a log, since {known}; found: no record. Is storePathCommitLog what it was when it was written?"
    )]
    LogMissing { folder: String, known: LogTrace },
    /// One of several folders of the log is not there, and the log is not whole without it, or may not be.
    #[error(
        "{folder}: expected this folder of the log, found none, and the others have the log up to {at} only. Is its disk mounted? If it is a new one, make the folder"
    )]
    FolderMissing { folder: String, at: u64 },
    /// What has to be written or removed is in a folder of `readOnlyCommitLogStorePaths`.
    #[error(
        "{file}: the log ends at {end}, so that this file has to be written, and its folder is one that is only read (readOnlyCommitLogStorePaths): move the file to another folder of the log"
    )]
    ReadOnlyFile { file: String, end: u64 },
    /// No folder is left to make files in.
    #[error("{setting}: every folder of the log is in readOnlyCommitLogStorePaths: one must take new files")]
    NoFolder { setting: &'static str },
    /// Written by a broker in a form that this one does not read.
    #[error("{path}: {what}: this broker does not read them")]
    OtherForm { path: String, what: &'static str },
    #[error("{setting}: {found} is out of range: {why}")]
    Setting { setting: &'static str, found: u64, why: &'static str },
    /// Recovery itself met a disk that does not keep what it is told to: some files were already cut.
    #[error("recover {path}: {source}")]
    Repair { path: String, source: io::Error },
}

/// By what it is known that there was a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogTrace {
    #[error("it was durable up to {0}")]
    Durable(u64),
    #[error("the checkpoint has the time of a record, {0} ms")]
    StoreTime(i64),
    #[error("queue {queue} of {topic} has entries")]
    QueueEntries { topic: String, queue: i32 },
    #[error("the index file {file} has entries")]
    IndexEntries { file: String },
}

impl RecoverError {
    /// The files are not what a crash leaves: a look with `store check` tells more, and a repair may help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            RecoverError::FileLength { .. }
                | RecoverError::FileName { .. }
                | RecoverError::FileMissing { .. }
                | RecoverError::FileBase { .. }
                | RecoverError::Damaged { .. }
                | RecoverError::LogMissing { .. }
                | RecoverError::FolderMissing { .. }
        )
    }

    /// Files that were not found would explain it.
    pub(crate) fn is_for_want_of_files(&self) -> bool {
        matches!(
            self,
            RecoverError::FileMissing { .. } | RecoverError::Damaged { .. } | RecoverError::LogMissing { .. }
        )
    }

    pub(crate) fn io(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> RecoverError {
        let path = path.to_owned();
        move |source| RecoverError::Io { action, path, source }
    }

    pub(crate) fn repair(path: &str) -> impl FnOnce(io::Error) -> RecoverError {
        let path = path.to_owned();
        move |source| RecoverError::Repair { path, source }
    }
}

/// The store has ended, but the next start must recover.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("a flush has failed while the store ran")]
    FlushFailed,
    #[error("dispatch stopped at {dispatched}, the log ends at {end}")]
    DispatchBehind { dispatched: u64, end: u64 },
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: io::Error },
}

/// Why the scan of the log ended where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanEnd {
    /// Nothing was written here.
    #[error("nothing is written here")]
    Clean,
    #[error(transparent)]
    Damaged(#[from] RecordError),
    #[error("a blank record of {size} bytes where {remaining} remain in the file")]
    Blank { size: u32, remaining: u64 },
}
