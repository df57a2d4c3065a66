//! I2: each record is reachable through its queue, once. I3: queue entry n leads to the record that says it is n.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/store.md`, section 3.

use std::collections::BTreeSet;

use super::{Broken, Verdict};
use crate::platter::delayed::{DELAY_TOPIC, due_ms as due_ms_of};
use crate::platter::properties::{find, tags_code};
use crate::platter::queue::{ENTRY_BYTES, entry};
use crate::platter::{BrokerDisk, Image, QueueKey};

/// Judges a broker whose log has been dispatched to its end.
///
/// # Errors
/// The first record without entry, or entry without record.
pub fn judge(broker: &str, disk: &BrokerDisk) -> Verdict {
    judge_below(broker, disk, u64::MAX)
}

/// Judges a broker whose log has been dispatched up to `end`, at least.
///
/// # Errors
/// The first record below it without entry, or any entry without record.
pub fn judge_below(broker: &str, disk: &BrokerDisk, end: u64) -> Verdict {
    let reached = entries(broker, disk)?;
    for record in disk.log.records.iter().filter(|record| record.at < end) {
        let may_lack = disk.dropped.contains(&record.at);
        if record.has_queue_entry() && !reached.contains(&record.at) && !may_lack {
            let key: QueueKey = (record.topic.clone(), record.queue);
            let max = disk.queues.get(&key).map_or(0, |queue| queue.max());
            return Err(Broken::new(
                "I2",
                format!(
                    "{broker}: the record at {} ({} queue {} offset {}) has no queue entry; the queue ends at {max}",
                    record.at, record.topic, record.queue, record.queue_offset
                ),
            ));
        }
    }
    Ok(())
}

/// Judges the entries alone, as they must be from the moment that a broker has recovered: what recovery has cut of a queue
/// is not on the disk any more, where the next one would take it for good (S-05). Answers where the records are that have one.
///
/// # Errors
/// The first entry without record.
pub fn entries(broker: &str, disk: &BrokerDisk) -> Result<BTreeSet<u64>, Broken> {
    let mut reached = BTreeSet::new();
    for ((topic, queue), entries) in &disk.queues {
        for (index, entry) in entries.entries.iter().enumerate() {
            let queue_offset = entries.min + index as i64;
            let what = || format!("{broker}: {topic} queue {queue} entry {queue_offset} (at {})", entry.at);
            if entry.at < disk.log.min {
                continue;
            }
            let Some(record) = disk.log.at(entry.at) else {
                let log = format!("the log ends at {}: {}", disk.log.end, disk.log.stopped);
                return Err(Broken::new("I3", format!("{} leads to no record; {log}", what())));
            };
            let says = (record.topic.as_str(), record.queue, record.queue_offset, record.bytes);
            if says != (topic.as_str(), *queue, queue_offset, entry.bytes) {
                return Err(Broken::new("I3", format!("{} leads to a record that says {says:?}", what())));
            }
            // The delay topic's entries hold the due time instead.
            let due_ms = Some(topic).filter(|topic| *topic == DELAY_TOPIC);
            let due_ms = due_ms.and_then(|_| due_ms_of(record, &disk.delay_levels_ms));
            if due_ms.is_some_and(|due_ms| entry.tags_code != due_ms) {
                return Err(Broken::new(
                    "I3",
                    format!("{} is due at {}, its record at {due_ms:?}", what(), entry.tags_code),
                ));
            }
            if due_ms.is_none() && entry.tags_code != tags_code(find(&record.properties, "TAGS")) {
                return Err(Broken::new("I3", format!("{} has another tag hash than its record", what())));
            }
            if !reached.insert(entry.at) {
                return Err(Broken::new("I2", format!("{} is the record's second entry", what())));
            }
        }
        if let Some(stray) = entries.strays.first() {
            let end = entries.max();
            return Err(Broken::new(
                "I3",
                format!("{broker}: {topic} queue {queue} ends at {end}, yet {stray} holds an entry"),
            ));
        }
    }
    Ok(reached)
}

/// A broker has recovered: an entry that it has removed, by itself or with its file, is off the disk's surface too. The file's
/// name may come back, and with the entry in it a later record would be taken for the one that the entry was of.
///
/// # Errors
/// I7: the first that may come back.
pub fn removed(
    broker: &str,
    (durable, disk): (&Image, &BrokerDisk),
    cached: &Image,
    folder: &str,
) -> Verdict {
    // Those before go with the log's files, and a deleted topic's are known to be of one.
    let matters = |at: u64| at >= disk.log.min && !disk.dropped.contains(&at);
    for (name, bytes) in durable.folder(folder) {
        let path = format!("{folder}/{name}");
        let seen = cached.files.get(&path);
        for (index, unit) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
            let Some(entry) = entry(unit).filter(|entry| matters(entry.at)) else { continue };
            let now = seen.and_then(|seen| seen.chunks_exact(ENTRY_BYTES).nth(index));
            if now.and_then(self::entry).is_none() {
                let at = entry.at;
                let what = if seen.is_none() { "queue file" } else { "entry in the queue file" };
                let detail = format!(
                    "{broker} has removed the {what} {path}, and its entry {index} (at {at}) may come back"
                );
                return Err(Broken::new("I7", detail));
            }
        }
    }
    Ok(())
}

/// A queue entry in which a bit has turned, and what a reader was given for it.
#[derive(Clone, Debug)]
pub struct ReadBack {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub n: i64,
    /// Where its record is.
    pub at: u64,
    pub found: Vec<u64>,
}

/// # Errors
/// I3: the reader was given something else, or nothing.
pub fn read_back(read: &ReadBack) -> Verdict {
    let ReadBack { broker, topic, queue, n, at, found } = read;
    if found.first() == Some(at) {
        return Ok(());
    }
    let detail = format!(
        "{broker}: a bit has turned in {topic} queue {queue} entry {n} (at {at}), and a reader is given {found:?}"
    );
    Err(Broken::new("I3", detail))
}

/// A bit had turned in a byte, which `is` so: what the broker's kernel shows there `now`, after it was read.
///
/// # Errors
/// I3: it is so still.
pub fn made_again(broker: &str, path: &str, offset: u64, is: u8, now: Option<&[u8]>) -> Verdict {
    if now != Some(&[is]) {
        return Ok(());
    }
    let detail = format!("{broker}: a bit has turned at {offset} of {path}, and it was not made again");
    Err(Broken::new("I3", detail))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::platter::commit_log::{scan, tests};
    use crate::platter::queue::tests::encode;
    use crate::platter::queue::{Entry, Queue};

    /// A broker whose log holds those messages at those offsets of queue 0 of `topic-0`, and whose queue fits.
    #[must_use]
    pub fn disk(messages: &[(u64, i64)]) -> BrokerDisk {
        let log = scan(&tests::image(messages), tests::FOLDER);
        let entry = |record: &crate::platter::record::Record| Entry {
            at: record.at,
            bytes: record.bytes,
            tags_code: tags_code(find(&record.properties, "TAGS")),
        };
        let queue = Queue {
            min: messages.first().map_or(0, |(_, offset)| *offset),
            entries: log.records.iter().map(entry).collect(),
            strays: Vec::new(),
        };
        BrokerDisk { log, queues: [(("topic-0".to_owned(), 0), queue)].into(), ..BrokerDisk::default() }
    }

    fn broken(change: impl FnOnce(&mut BrokerDisk, &QueueKey)) -> Option<&'static str> {
        let mut disk = disk(&[(1_000_000, 0), (1_000_001, 1), (1_000_002, 2)]);
        change(&mut disk, &("topic-0".to_owned(), 0));
        judge("broker-a", &disk).err().map(|broken| broken.promise)
    }

    #[test]
    fn a_queue_that_fits_its_log_is_accepted() {
        assert_eq!(broken(|_, _| {}), None);
    }

    #[test]
    fn an_entry_that_was_removed_and_may_come_back_is_rejected() {
        let entry = |at: u64| encode(&[Entry { at, bytes: 100, tags_code: 7 }]);
        let nothing = || vec![0; ENTRY_BYTES];
        let image = |files: &[(&str, Vec<u8>)]| Image {
            files: files.iter().map(|(file, bytes)| (format!("q/T/0/{file}"), bytes.clone())).collect(),
        };
        let mut disk = disk(&[]);
        (disk.log.min, disk.dropped) = (50, [70].into());
        let removed = |durable: &[_], cached: &[_]| {
            removed("broker-a", (&image(durable), &disk), &image(cached), "q").is_ok()
        };
        let (first, second) = (("00", entry(60)), ("20", entry(80)));
        assert!(removed(&[first.clone(), second.clone()], &[first.clone(), second.clone()]));
        assert!(!removed(&[first.clone(), second.clone()], std::slice::from_ref(&first)));
        assert!(!removed(&[first.clone(), second.clone()], std::slice::from_ref(&second)));
        assert!(
            removed(&[first.clone(), ("20", nothing())], std::slice::from_ref(&first)),
            "it holds nothing"
        );
        assert!(!removed(std::slice::from_ref(&first), &[]), "all of the queue");
        assert!(!removed(std::slice::from_ref(&first), &[("00", nothing())]), "a new one of its name");
        assert!(removed(&[("00", nothing())], std::slice::from_ref(&first)), "not flushed yet");
        assert!(removed(&[("00", entry(40)), second.clone()], &[second]), "the first go with the log's");
        assert!(removed(&[("00", entry(70))], &[]), "its topic was deleted");
    }

    #[test]
    fn an_entry_that_is_read_as_another_or_stays_as_it_is_is_rejected() {
        let read = |found| {
            let (broker, topic) = ("broker-a".to_owned(), "topic-0".to_owned());
            read_back(&ReadBack { broker, topic, queue: 0, n: 1, at: 100, found }).is_ok()
        };
        assert!(read(vec![100]) && !read(vec![200]) && !read(Vec::new()));
        let made = |now: Option<&[u8]>| made_again("broker-a", "index/1", 16, 64, now).is_ok();
        assert!(made(Some(&[0])) && made(None) && !made(Some(&[64])));
    }

    #[test]
    fn a_missing_entry_is_rejected() {
        assert_eq!(broken(|disk, key| _ = disk.queues.get_mut(key).expect("it").entries.pop()), Some("I2"));
    }

    #[test]
    fn a_record_that_has_just_come_may_be_without_entry() {
        let mut disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        disk.queues.values_mut().for_each(|queue| _ = queue.entries.pop());
        let last = disk.log.records[1].at;
        assert_eq!(judge_below("broker-a", &disk, last), Ok(()));
        assert!(judge_below("broker-a", &disk, last + 1).is_err());
    }

    #[test]
    fn an_entry_past_the_log_is_rejected() {
        assert_eq!(broken(|disk, _| _ = disk.log.records.pop()), Some("I3"));
    }

    #[test]
    fn a_shifted_queue_is_rejected() {
        let shift = |disk: &mut BrokerDisk, key: &QueueKey| {
            let queue = disk.queues.get_mut(key).expect("it");
            queue.entries.insert(1, queue.entries[0]);
        };
        assert_eq!(broken(shift), Some("I3"));
    }

    #[test]
    fn an_entry_left_behind_the_end_is_rejected() {
        assert_eq!(broken(|disk, key| disk.queues.get_mut(key).expect("it").strays.push(9)), Some("I3"));
    }
}
