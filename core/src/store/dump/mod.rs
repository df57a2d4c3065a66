//! A data directory shown line by line, offline and without changing a byte of it.
//!
//! It reads each file by itself, so that a file that is missing, cut or damaged hides none of the others: where a record is
//! not whole it says so and goes on at the next whole one. Recovery would not go on there; what it would do says `check`.

mod index;
mod queues;
mod records;
mod small_files;

use std::borrow::Cow;
use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::check::{config_for, lock_if_there};
use super::config::StoreConfig;
use super::error::RecoverError;
use crate::message::codec::Record;
use crate::message::{id, properties};
use crate::runtime::Runtime;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Records of the log in its order.
    Records,
    /// Entries of the queues, by topic, number and offset.
    Queues,
    /// Entries of the index files, oldest file first.
    Index,
    Checkpoint,
    /// The JSON files below `config`.
    Config,
}

/// Which lines of each part.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Records and queue entries of this topic only. Entries of the index do not tell theirs.
    pub topic: Option<String>,
    /// Queues: from this queue offset on. Records and index: of records from this offset of the log on, in bytes.
    pub from: u64,
    /// Lines at most, of each part.
    pub count: Option<u64>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line<'a> {
    Record(Box<RecordLine<'a>>),
    QueueEntry {
        topic: &'a str,
        queue: i32,
        /// Number of the entry.
        offset: i64,
        /// Of the record in the log, in bytes.
        at: u64,
        /// Of the record, in bytes.
        size: u32,
        tags_code: i64,
    },
    IndexEntry {
        file: &'a str,
        /// Number of the entry in its file, from 1 on.
        entry: u32,
        key_hash: i32,
        /// Of the record in the log, in bytes.
        at: u64,
        /// Store time, ms; whole seconds behind the file's first.
        stored_ms: i64,
        /// The entry before it in its slot; 0 for none.
        previous: i32,
    },
    Checkpoint {
        physic_ms: i64,
        logic_ms: i64,
        index_ms: i64,
        master_flushed_offset: i64,
        confirm_offset: i64,
        /// Our own fields; absent when Java has written the file last.
        #[serde(skip_serializing_if = "Option::is_none")]
        scan_from: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queues_durable: Option<u64>,
    },
    Config {
        file: &'a str,
        value: Value,
    },
    /// What is shown behind it does not continue what was shown before it.
    Damaged {
        file: &'a str,
        /// Offset in the log or in the queue, in bytes; in other files that of the byte.
        at: u64,
        why: String,
    },
}

/// A record. A body that is not UTF-8 is shown with replacement characters; `body_bytes` tells its length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordLine<'a> {
    /// Of its first byte in the log, in bytes.
    pub at: u64,
    /// Of the whole record, in bytes.
    pub size: u32,
    pub topic: &'a str,
    pub queue: i32,
    /// Its queue offset.
    pub offset: i64,
    pub msg_id: Option<&'a str>,
    pub offset_msg_id: String,
    pub tag: Option<&'a str>,
    pub keys: Option<&'a str>,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_ms: i64,
    pub born_host: String,
    pub stored_ms: i64,
    pub store_host: String,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body_crc: u32,
    pub body: Cow<'a, str>,
    pub body_bytes: usize,
    pub properties: Map<String, Value>,
}

impl<'a> RecordLine<'a> {
    fn of(record: &'a Record<'_>) -> RecordLine<'a> {
        let property = |name| properties::find(&record.properties, name);
        RecordLine {
            at: record.physical_offset,
            size: record.size,
            topic: record.topic,
            queue: record.queue_id,
            offset: record.queue_offset,
            msg_id: property(properties::UNIQ_KEY),
            offset_msg_id: id::offset_message_id(record.store_host, record.physical_offset),
            tag: property(properties::TAGS),
            keys: property(properties::KEYS),
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_ms: record.born_timestamp,
            born_host: record.born_host.to_string(),
            stored_ms: record.store_timestamp,
            store_host: record.store_host.to_string(),
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            body_crc: record.body_crc,
            body: String::from_utf8_lossy(record.body),
            body_bytes: record.body.len(),
            properties: properties::iter(&record.properties)
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect(),
        }
    }
}

/// Shows `parts` of the directory `root` to `each`, in that order, until it breaks off. File lengths are taken from the
/// files; where the log is, and what its queues mean, from `base`.
///
/// # Errors
/// `InUse` while a broker runs on it, `Io` when something cannot be read. Damage is no error: it is shown.
pub async fn dump<R: Runtime>(
    rt: &R,
    root: &str,
    base: &StoreConfig,
    parts: &[Part],
    filter: &Filter,
    mut each: impl FnMut(Line<'_>) -> ControlFlow<()> + Send,
) -> Result<(), RecoverError> {
    let _lock = lock_if_there(rt, root).await?;
    let (config, paths) = config_for(rt, root, base).await;
    for part in parts {
        let mut out = Out { left: filter.count.unwrap_or(u64::MAX), ended: false, each: &mut each };
        match part {
            Part::Records => records::show(rt, &config, &paths, filter, &mut out).await?,
            Part::Queues => queues::show(rt, &config, &paths, filter, &mut out).await?,
            Part::Index => index::show(rt, &paths.index, config.index_geometry, filter, &mut out).await?,
            Part::Checkpoint => small_files::show_checkpoint(rt, &paths, &mut out).await?,
            Part::Config => small_files::show_config(rt, &format!("{root}/config"), &mut out).await,
        }
        if out.ended {
            break;
        }
    }
    Ok(())
}

/// Where the lines of one part go.
struct Out<'a> {
    /// Lines that may still be shown.
    left: u64,
    /// The reader wants nothing more at all.
    ended: bool,
    each: &'a mut (dyn FnMut(Line<'_>) -> ControlFlow<()> + Send),
}

impl Out<'_> {
    /// Whether another line of this part is wanted.
    fn is_open(&self) -> bool {
        self.left > 0 && !self.ended
    }

    fn line(&mut self, line: Line<'_>) -> ControlFlow<()> {
        if self.is_open() {
            self.left -= 1;
            self.ended = (self.each)(line).is_break();
        }
        if self.is_open() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Damage is told in any number: it counts for nothing.
    fn damaged(&mut self, file: &str, at: u64, why: String) -> ControlFlow<()> {
        self.ended |= (self.each)(Line::Damaged { file, at, why }).is_break();
        if self.is_open() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
