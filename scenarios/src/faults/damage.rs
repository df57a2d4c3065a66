//! Damage to the files of a broker whose machine is off: what its next start must refuse until it is undone, and what it must
//! make again by itself.
//!
//! Chosen is what the promise is about. A start knows where the log was durable and where it may begin to read it, and so must
//! see that a file is missing between others or before that end, and any turned bit between the two, where a checksum covers it. It cannot know that its
//! first files are missing, since old ones go by themselves, nor read all of a log at each start.

use hotfire_sim::disk::LostFile;
use hotfire_sim::{NodeId, World};

use crate::plan::{Fault, LOG_FOLDERS, Loss, Rotten};
use crate::platter::checkpoint::{Checkpoint, Own};
use crate::platter::delayed::DELAY_TOPIC;
use crate::platter::queue::{ENTRY_BYTES, Entry};
use crate::platter::record::{Found, Record, decode};
use crate::platter::{BrokerDisk, Image, QueueKey, index};
use crate::witness::STORE;
use crate::workload::PASSING;

/// With it a number is too large, or negative.
const HIGH_BIT: u8 = 6;

/// What was done to a machine that is off.
#[derive(Debug)]
pub enum Damage {
    /// Until these are back its broker must not start.
    Lost(Vec<LostFile>),
    /// Until this bit has turned again its broker must not start.
    Turned { path: String, offset: u64, bit: u8 },
    /// The start makes it again.
    Repairable,
    /// The start does, or whoever reads it.
    Rotten(Turned),
}

/// A queue entry: of which queue, and its number there.
pub type EntryAt = (QueueKey, i64, Entry);

/// A byte in which a bit has turned, of what can be made again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turned {
    pub path: String,
    pub offset: u64,
    pub was: u8,
    pub is: u8,
    /// The queue entry that it belongs to.
    pub entry: Option<EntryAt>,
}

/// Does `fault` to the machine, if it has what the fault needs.
#[must_use]
pub fn strike(
    world: &World,
    node: NodeId,
    fault: &Fault,
    (image, disk): (&Image, &BrokerDisk),
    (queue_file_bytes, index_slots): (u64, u32),
) -> Option<Damage> {
    let control = world.disk(node);
    let own =
        image.files.get(&format!("{STORE}/checkpoint")).and_then(|bytes| Checkpoint::decode(bytes)?.own);
    match fault {
        Fault::LostFile { of: Loss::LogFile, pick, .. } => {
            let path = nth(&log_files(image, own?), *pick)?;
            Some(Damage::Lost(vec![in_any(&path, |path| control.lose(path))?]))
        }
        Fault::LostFile { of: Loss::Log, .. } => {
            let all = |own: &Own| own.durable > first_base(image).unwrap_or(u64::MAX);
            own.filter(all)?;
            let folder = format!("{STORE}/commitlog");
            let paths: Vec<String> =
                image.folder(&folder).map(|(name, _)| format!("{folder}/{name}")).collect();
            Some(Damage::Lost(
                paths.iter().filter_map(|path| in_any(path, |path| control.lose(path))).collect(),
            ))
        }
        Fault::LostFile { of: Loss::QueueFile, pick, .. } => {
            // Where the end of the log says something of the queue, the gap is seen there.
            let files = queue_files(image);
            let is_quiet = |path: &&String| own.is_some_and(|own| is_quiet(path, disk, own.scan_from));
            let quiet: Vec<String> = files.iter().filter(is_quiet).cloned().collect();
            control.lose(&nth(if quiet.is_empty() { &files } else { &quiet }, *pick)?)?;
            Some(Damage::Repairable)
        }
        Fault::LostFile { of: Loss::IndexFile, .. } => {
            let checkpoint = Checkpoint::decode(image.files.get(&format!("{STORE}/checkpoint"))?)?;
            control.lose(&format!("{STORE}/index/{:017}", checkpoint.index?.file))?;
            Some(Damage::Repairable)
        }
        Fault::BitRot { pick, .. } => {
            let (path, offset) = nth(&record_bytes(image, disk, own?, *pick), *pick)?;
            let bit = (pick % 8) as u8;
            let path = in_any(&path, |path| control.rot(path, offset, bit).then(|| path.to_owned()))?;
            Some(Damage::Turned { path, offset, bit })
        }
        Fault::Rot { of, pick, .. } => {
            let (path, offset, entry) = match of {
                Rotten::QueueEntry => entry_byte(disk, queue_file_bytes, *pick)?,
                Rotten::IndexFile => index_byte(image, *pick)?,
                Rotten::IndexEntry => index_entry_byte(image, index_slots, *pick)?,
            };
            let was = *image.files.get(&path)?.get(usize::try_from(offset).ok()?)?;
            let bit = if entry.is_some() { (pick >> 40) as u8 % 8 } else { HIGH_BIT };
            let is = was ^ (1 << bit);
            let of_entry = (queue_file_bytes, entry.as_ref(), (offset, is));
            if is_like_a_lost_one(image, disk, of_entry) {
                return None;
            }
            control.rot(&path, offset, bit).then_some(Damage::Rotten(Turned { path, offset, was, is, entry }))
        }
        _ => None,
    }
}

/// A byte of a queue entry whose record the log has. The entries of delayed messages state times that no record has; topics of
/// brokers' own are read by these alone, and others may go. A tag's hash has four bytes: with a bit in the others it is taken for
/// the address of an extension, and says nothing.
fn entry_byte(disk: &BrokerDisk, queue_file_bytes: u64, pick: u64) -> Option<(String, u64, Option<EntryAt>)> {
    let queues = disk.queues.iter().filter(|((topic, _), _)| is_usual(topic));
    let entries = queues.flat_map(|(key, queue)| {
        let numbered = queue.entries.iter().enumerate();
        numbered.map(move |(nth, entry)| (key.clone(), queue.min + nth as i64, *entry))
    });
    let known: Vec<_> = entries.filter(|(_, _, entry)| disk.log.at(entry.at).is_some()).collect();
    let (key, n, entry) = nth(&known, pick)?;
    let inside = match (pick >> 20) % (ENTRY_BYTES as u64 - 4) {
        of_place @ 0..12 => of_place,
        of_tag => of_tag + 4,
    };
    let at = n.unsigned_abs() * ENTRY_BYTES as u64 + inside;
    let base = at - at % queue_file_bytes;
    let path = format!("{STORE}/consumequeue/{}/{}/{base:020}", key.0, key.1);
    Some((path, at - base, Some((key, n, entry))))
}

/// Whether the last entry of a queue would point to where the log may have lost a record: no start can tell it from one whose
/// record was lost.
fn is_like_a_lost_one(
    image: &Image,
    disk: &BrokerDisk,
    (queue_file_bytes, entry, (offset, is)): (u64, Option<&EntryAt>, (u64, u8)),
) -> bool {
    let Some((key, n, entry)) = entry else { return false };
    let inside = (offset % queue_file_bytes) as usize % ENTRY_BYTES;
    let mut at = entry.at.to_be_bytes();
    let Some(byte) = at.get_mut(inside) else { return false };
    *byte = is;
    let log_file_bytes =
        image.folder(&format!("{STORE}/commitlog")).map(|(_, bytes)| bytes.len() as u64).max();
    let files_end = bases(image).last().map_or(0, |base| base + log_file_bytes.unwrap_or(0));
    let is_last = disk.queues.get(key).is_some_and(|queue| queue.max() == n + 1);
    is_last && (disk.log.end..files_end).contains(&u64::from_be_bytes(at))
}

fn is_usual(topic: &str) -> bool {
    topic != DELAY_TOPIC && ![PASSING, "RMQ_SYS_", "TRANS_CHECK_"].iter().any(|own| topic.starts_with(own))
}

/// The highest byte of what the header of an index file says of its first record's place, its last one's, or of its entries.
fn index_byte(image: &Image, pick: u64) -> Option<(String, u64, Option<EntryAt>)> {
    let folder = format!("{STORE}/index");
    let files: Vec<String> = image
        .folder(&folder)
        .filter(|(_, bytes)| bytes.get(16..40).is_some_and(|header| header.iter().any(|byte| *byte != 0)))
        .map(|(name, _)| format!("{folder}/{name}"))
        .collect();
    let fields = [16, 24, 36];
    Some((nth(&files, pick)?, fields[(pick >> 20) as usize % fields.len()], None))
}

/// The highest byte of where an entry's record is, or of the older entry that it follows. Entries are read at a start that
/// follows no stop in order, and what a start does not rely on is not looked at.
fn index_entry_byte(image: &Image, slots: u32, pick: u64) -> Option<(String, u64, Option<EntryAt>)> {
    let claim = Checkpoint::decode(image.files.get(&format!("{STORE}/checkpoint"))?)?.index?;
    let claimed = u64::from(claim.next).checked_sub(1).filter(|claimed| *claimed > 0)?;
    image.files.get(&format!("{STORE}/abort"))?;
    let at = index::entry_at(slots, 1 + pick / 8 % claimed);
    let inside = [4, 16][(pick >> 20) as usize % 2];
    Some((format!("{STORE}/index/{:017}", claim.file), at + inside, None))
}

/// Undoes it. The machine is off, or has read only.
pub fn undo(world: &World, node: NodeId, damage: Damage) {
    let control = world.disk(node);
    match damage {
        Damage::Lost(files) => files.into_iter().for_each(|file| control.put_back(file)),
        Damage::Turned { path, offset, bit } => {
            control.rot(&path, offset, bit);
            control.drop_caches();
        }
        Damage::Repairable | Damage::Rotten(_) => {}
    }
}

/// What is done to a file of the log, which is at `path` or of the same name in another of the log's folders.
fn in_any<T>(path: &str, act: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let paths: Vec<String> = LOG_FOLDERS.iter().map(|folder| format!("{STORE}/{folder}/{name}")).collect();
    paths.iter().map(String::as_str).find_map(act)
}

fn nth<T: Clone>(of: &[T], pick: u64) -> Option<T> {
    let count = of.len() as u64;
    (count > 0).then(|| of[(pick / 8 % count) as usize].clone())
}

fn bases(image: &Image) -> Vec<u64> {
    let mut bases: Vec<u64> =
        image.folder(&format!("{STORE}/commitlog")).filter_map(|(name, _)| name.parse().ok()).collect();
    bases.sort_unstable();
    bases
}

fn first_base(image: &Image) -> Option<u64> {
    bases(image).first().copied()
}

/// Files of the log behind its first one that begin below what was durable.
fn log_files(image: &Image, own: Own) -> Vec<String> {
    let bases = bases(image).into_iter().skip(1).filter(|base| *base < own.durable);
    bases.map(|base| format!("{STORE}/commitlog/{base:020}")).collect()
}

/// Files of queues that have whole ones before and behind them.
fn queue_files(image: &Image) -> Vec<String> {
    let folder = format!("{STORE}/consumequeue");
    let mut names: Vec<(&str, usize)> =
        image.folder(&folder).map(|(name, bytes)| (name, bytes.len())).collect();
    names.sort_unstable();
    let queue = |name: &str| name.rsplit_once('/').map(|(queue, _)| queue.to_owned());
    let middle = names.windows(3).filter(|files| {
        let of = queue(files[0].0);
        files.iter().all(|(name, bytes)| queue(name) == of && *bytes > 0)
    });
    middle.map(|files| format!("{folder}/{}", files[1].0)).collect()
}

/// Whether the log has no record of the file's queue from `from` on.
fn is_quiet(path: &str, disk: &BrokerDisk, from: u64) -> bool {
    let mut parts = path.rsplit('/').skip(1);
    let (queue, topic) = (parts.next().and_then(|queue| queue.parse::<i32>().ok()), parts.next());
    let of_queue = |record: &&Record| Some(record.topic.as_str()) == topic && Some(record.queue) == queue;
    disk.log.records.iter().filter(of_queue).all(|record| record.at < from)
}

/// A byte of each record between where a start begins to read and what was durable, of those that a checksum covers: in a
/// record without one of its own that is the body alone.
fn record_bytes(image: &Image, disk: &BrokerDisk, own: Own, pick: u64) -> Vec<(String, u64)> {
    let read = disk.log.records.iter().filter(|record| (own.scan_from..own.durable).contains(&record.at));
    let has_checksum = |record: &Record| record.properties.contains("__CRC32#\u{1}");
    let bytes = read.filter_map(|record| {
        let (path, base, file) =
            bases(image).into_iter().rev().find(|base| *base <= record.at).and_then(|base| {
                let path = format!("{STORE}/commitlog/{base:020}");
                let bytes = image.files.get(&path)?;
                Some((path, base, bytes))
            })?;
        let offset = record.at - base;
        let is_whole = matches!(decode(file.get(offset as usize..)?, record.at), Found::Record(_));
        let (from, bytes) = if has_checksum(record) {
            (0, u64::from(record.bytes))
        } else {
            (record.body_at(), record.body.len() as u64)
        };
        (is_whole && bytes > 0).then(|| (path, offset + from + pick % bytes))
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk as disk_of;

    fn image(names: &[&str]) -> Image {
        Image { files: names.iter().map(|name| (format!("{STORE}/{name}"), vec![1])).collect() }
    }

    #[test]
    fn a_bit_turns_only_in_entries_of_records_that_are_there() {
        let mut disk = disk_of(&[(1_000_000, 0), (1_000_001, 1)]);
        disk.log.records.remove(0);
        let (path, offset, entry) = entry_byte(&disk, 20, 5 << 20).expect("one");
        assert_eq!((path, offset), (format!("{STORE}/consumequeue/topic-0/0/{:020}", 20), 5));
        assert_eq!(entry.map(|(_, n, _)| n), Some(1));
        disk.log.records.clear();
        assert_eq!(entry_byte(&disk, 20, 0), None);
        assert_eq!(index_byte(&image(&["index/1"]), 0), None, "it has no header");
        assert_eq!(index_entry_byte(&image(&["index/1", "abort"]), 7, 0), None, "none is claimed");
    }

    #[test]
    fn what_a_start_cannot_miss_is_not_taken() {
        let names = [
            "commitlog/00000000000000000000",
            "commitlog/00000000000000004096",
            "commitlog/00000000000000008192",
        ];
        let found = log_files(&image(&names), Own { scan_from: 0, durable: 8_192 });
        assert_eq!(found, [format!("{STORE}/commitlog/00000000000000004096")]);
        let names =
            ["consumequeue/T/0/00", "consumequeue/T/0/20", "consumequeue/T/0/40", "consumequeue/T/1/00"];
        assert_eq!(queue_files(&image(&names)), [format!("{STORE}/consumequeue/T/0/20")]);
    }
}
