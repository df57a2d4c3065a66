//! A message as a broker keeps it: the CommitLog record, its id, and the batch body a client sends.
//!
//! Guarantees: what [`codec`] encodes it decodes to the same fields, and Java RocketMQ 4.9 and 5.x read it; bytes from disk or
//! network never make it panic.

pub mod batch;
pub mod codec;
pub mod hash;
pub mod id;
pub mod properties;
pub mod subscription;
pub mod sys_flag;
pub mod unique_key;

use std::net::SocketAddr;

use bytes::Bytes;

use codec::{Check, RecordError};

/// What a broker hands to its store. Everything that names a place (queue offset, physical offset, store time) is given by
/// the store under its append lock.
#[derive(Debug, Clone, Copy)]
pub struct MessageToStore<'a> {
    pub topic: &'a str,
    pub queue_id: i32,
    /// The producer's own flag, opaque to brokers.
    pub flag: i32,
    /// Bits of section 2.2 of the store format. The two address-family bits are set from the hosts.
    pub sys_flag: i32,
    /// The client's clock, ms since the epoch.
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    /// The encoded property string, final but for the record checksum, which the store takes out and adds itself.
    pub properties: &'a str,
    /// Java's `WAIT` property: the producer wants its answer after the flush and the replication that the mode promises.
    pub wait_for_flush: bool,
}

/// A record read back, owning its parts; `body` and the record share memory with what it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub topic: String,
    pub queue_id: i32,
    pub flag: i32,
    pub queue_offset: i64,
    pub physical_offset: u64,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: Bytes,
    pub body_crc: u32,
    pub properties: String,
    /// Bytes of the whole record.
    pub store_size: u32,
}

impl StoredMessage {
    /// The record at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// [`RecordError`] when it is not a whole record with a right body checksum.
    pub fn decode(bytes: &Bytes) -> Result<StoredMessage, RecordError> {
        let record = codec::decode(bytes, Check::Body)?;
        Ok(StoredMessage {
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            flag: record.flag,
            queue_offset: record.queue_offset,
            physical_offset: record.physical_offset,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_timestamp: record.store_timestamp,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            body: bytes.slice_ref(record.body),
            body_crc: record.body_crc,
            properties: record.properties.into_owned(),
            store_size: record.size,
        })
    }

    /// The id that names the record's place: store host and physical offset.
    #[must_use]
    pub fn offset_message_id(&self) -> String {
        id::offset_message_id(self.store_host, self.physical_offset)
    }
}
