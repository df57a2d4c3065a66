//! An independent reader of a broker's data folder, from raw bytes. It shares no code with `core`: own parser, own CRC.
//!
//! It reads what a disk holds after any fault, so nothing here trusts a length or panics on a byte. It decides nothing
//! either: where the log ends and what the queues say is handed to the oracles.

pub mod checkpoint;
pub mod commit_log;
pub mod config;
pub mod crc;
pub mod delayed;
pub mod index;
pub mod properties;
pub mod queue;
pub mod record;

use std::collections::{BTreeMap, BTreeSet};

use commit_log::Log;
use queue::Queue;

/// Files of one node by path, relative to its data folder.
#[derive(Clone, Default, Debug)]
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl From<hotfire_sim::Image> for Image {
    fn from(image: hotfire_sim::Image) -> Image {
        Image { files: image.files }
    }
}

impl Image {
    /// The files directly in `folder`, by name.
    pub fn folder<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let prefix = format!("{folder}/");
        self.files.range(prefix.clone()..).map_while(move |(path, bytes)| {
            path.strip_prefix(prefix.as_str()).map(|name| (name, bytes.as_slice()))
        })
    }
}

impl Image {
    /// The image with all files of a log, which may be spread over several folders below `root`, in the first of them. Where one has
    /// an empty file of that name, the other's stays.
    #[must_use]
    pub fn log_in_one(mut self, root: &str, folders: &[&str]) -> Image {
        let Some((first, others)) = folders.split_first() else { return self };
        for folder in others {
            let prefix = format!("{root}/{folder}/");
            let names: Vec<String> =
                self.folder(&format!("{root}/{folder}")).map(|(name, _)| name.to_owned()).collect();
            for name in names {
                let bytes = self.files.remove(&format!("{prefix}{name}")).unwrap_or_default();
                let there = self.files.entry(format!("{root}/{first}/{name}")).or_default();
                if there.is_empty() {
                    *there = bytes;
                }
            }
        }
        self
    }
}

/// A queue's identity within one broker.
pub type QueueKey = (String, i32);

/// All that a broker's folder says.
#[derive(Clone, Default, Debug)]
pub struct BrokerDisk {
    pub log: Log,
    pub queues: BTreeMap<QueueKey, Queue>,
    /// Oldest first.
    pub index: Vec<index::IndexFile>,
    pub checkpoint: Option<checkpoint::Checkpoint>,
    /// The abort marker is there.
    pub abort: bool,
    /// The delays of the broker's settings; not from the disk.
    pub delay_levels_ms: Vec<u64>,
    /// Where records are that a deletion of their topic may have taken out of their queues; not from the disk.
    pub dropped: BTreeSet<u64>,
}

/// Reads the store below `root`, with files of the sizes that the broker was given; an index file has so many slots and entries.
#[must_use]
pub fn read_broker(image: &Image, root: &str, queue_file_bytes: u64, index_file: (u32, u32)) -> BrokerDisk {
    BrokerDisk {
        log: commit_log::scan(image, &format!("{root}/commitlog")),
        queues: queue::scan(image, &format!("{root}/consumequeue"), queue_file_bytes),
        index: index::scan(image, &format!("{root}/index"), index_file),
        checkpoint: image
            .files
            .get(&format!("{root}/checkpoint"))
            .and_then(|bytes| checkpoint::Checkpoint::decode(bytes)),
        abort: image.files.contains_key(&format!("{root}/abort")),
        delay_levels_ms: Vec::new(),
        dropped: BTreeSet::new(),
    }
}

/// Big-endian integers that end before they start reading past the bytes.
pub(crate) fn i16_at(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
