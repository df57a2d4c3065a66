//! What a store answers to puts and reads.

use bytes::Bytes;

/// Where a message was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub physical_offset: u64,
    /// First byte behind the record: the put is durable when `durable()` has reached it.
    pub end: u64,
    pub queue_offset: i64,
    pub store_timestamp: i64,
}

impl Appended {
    /// Of the record.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end - self.physical_offset
    }
}

/// Where a batch was put: its members lie one behind the other, with queue offsets that rise by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Physical offset of each member.
    pub physical_offsets: Vec<u64>,
    pub end: u64,
    /// Queue offset of the first member.
    pub queue_offset: i64,
    pub store_timestamp: i64,
}

impl AppendedBatch {
    /// Of all records.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.physical_offsets.first().map_or(0, |first| self.end - first)
    }
}

/// Outcome of a read, as Java names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetStatus {
    Found,
    NoMatchedMessage,
    MessageWasRemoving,
    OffsetFoundNull,
    OffsetOverflowBadly,
    OffsetOverflowOne,
    OffsetTooSmall,
    NoMatchedLogicQueue,
    NoMessageInQueue,
    /// The queue's file could not be read: the caller answers a system error.
    Unreadable,
}

impl GetStatus {
    /// Java's name of it, as it stands in response remarks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GetStatus::Found => "FOUND",
            GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
            GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
            GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
            GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
            GetStatus::Unreadable => "UNREADABLE",
        }
    }
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Read {
    pub status: GetStatus,
    /// The queue offset to read next.
    pub next_begin: i64,
    /// First queue offset that can be read.
    pub min: i64,
    /// One past the last queue offset that can be read.
    pub max: i64,
    /// Runs of whole records, views of the log.
    pub messages: Vec<Bytes>,
    /// Records in `messages`.
    pub count: usize,
    /// The reader is so far behind that a slave should serve it.
    pub suggest_slave: bool,
}

impl Read {
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum()
    }
}

/// Which message of a queue answers for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The first stored at or after the time; the queue's maximum when all are earlier.
    Lower,
    /// The last stored at or before the time; 0 when all are later.
    Upper,
}

/// Told of each entry once it can be read. Called from dispatch: it must be short and must not wait.
pub trait ArrivalListener: Send + Sync + 'static {
    /// False when nobody waits for any entry. Asked once for many entries, when all of them can be read.
    fn is_waiting(&self) -> bool {
        true
    }

    /// `next_offset` is one past the entry: the queue's maximum as the listener may now see it. `properties` reads the property
    /// string of its record, `None` when that is gone already.
    fn on_arrival(
        &self,
        topic: &str,
        queue: i32,
        next_offset: i64,
        tags_code: i64,
        properties: &dyn Fn() -> Option<String>,
    );
}
