//! SEARCH: a search by time leads to the first message of a queue that is not older, or to the last that is not younger; and a
//! pull by tags is given all the messages with those tags, and no other.
//!
//! The clients compare tags once more, so what a broker gives too much is never seen in a delivery: brokers are asked by hand.
//!
//! # Source
//! `spec/broker-semantics.md`, sections 10 and 16; apache/rocketmq 5.x, `ConsumeQueue#getOffsetInQueueByTime`.

use super::{Broken, Verdict};
use crate::platter::BrokerDisk;
use crate::platter::properties::find;
use crate::platter::record::Record;

/// Which messages a search by time asks for: the last that is not younger, else the first that is not older.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    First,
    Last,
}

/// A search by time, and the queue offset that it has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByTime {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub time_ms: i64,
    pub end: End,
    pub found: i64,
}

/// A pull by tags from one offset on, and what it was given: where the records are, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByTags {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub from: i64,
    pub found: Vec<u64>,
    pub next: i64,
}

/// What pulls ask for.
pub const TAGS: [&str; 2] = ["t1", "t2"];

/// The records that a queue still has, by their queue offsets.
pub(super) fn records<'a>(disk: &'a BrokerDisk, topic: &str, queue: i32) -> Vec<(i64, &'a Record)> {
    let Some(entries) = disk.queues.get(&(topic.to_owned(), queue)) else { return Vec::new() };
    let numbered = (entries.min..).zip(&entries.entries);
    let there = numbered.filter_map(|(n, entry)| {
        let found = disk.log.records.binary_search_by_key(&entry.at, |record| record.at).ok()?;
        Some((n, &disk.log.records[found]))
    });
    there.collect()
}

/// Judges a search by the broker's own disk, where nothing was added or deleted meanwhile.
///
/// # Errors
/// When it leads elsewhere.
pub fn by_time(answer: &ByTime, disk: &BrokerDisk) -> Verdict {
    let ByTime { broker, topic, queue, time_ms, end, found } = answer;
    let records = records(disk, topic, *queue);
    let (Some((min, _)), Some((last, _))) = (records.first(), records.last()) else { return Ok(()) };
    let expected = match end {
        End::First => {
            let first = records.iter().find(|(_, record)| record.store_ms >= *time_ms);
            first.map_or(last + 1, |(n, _)| *n)
        }
        // Java says 0 where there is none, wherever the queue begins.
        End::Last => {
            records.iter().rev().find(|(_, record)| record.store_ms <= *time_ms).map_or(0, |(n, _)| *n)
        }
    };
    if *found == expected {
        return Ok(());
    }
    let detail = format!(
        "{broker}: the {end:?} of {topic} queue {queue} at {time_ms} is said to be {found}, and is {expected} of {min} to {last}"
    );
    Err(Broken::new("SEARCH", detail))
}

/// As [`by_time`].
///
/// # Errors
/// When a message is missing, or was not asked for.
pub fn by_tags(answer: &ByTags, disk: &BrokerDisk) -> Verdict {
    let ByTags { broker, topic, queue, from, found, next } = answer;
    let wanted = |record: &Record| find(&record.properties, "TAGS").is_some_and(|tag| TAGS.contains(&tag));
    let records = records(disk, topic, *queue);
    let passed = records.iter().filter(|(n, _)| (*from..*next).contains(n));
    let expected: Vec<u64> =
        passed.filter(|(_, record)| wanted(record)).map(|(_, record)| record.at).collect();
    let end = records.last().map_or(0, |(last, _)| last + 1);
    let goes_on = *next > *from || *from >= end;
    if *found == expected && goes_on {
        return Ok(());
    }
    let detail = format!(
        "{broker}: a pull of {TAGS:?} from {topic} queue {queue}, {from} to {next} of {end}, is given {found:?}, and should be \
         {expected:?}"
    );
    Err(Broken::new("SEARCH", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;

    /// Three messages of queue 0, stored at 10, 20 and 20 ms, the second without the tags.
    fn queue() -> BrokerDisk {
        let mut disk = disk(&[(1_000_000, 0), (1_000_001, 1), (1_000_002, 2)]);
        let said = [(10, "t1"), (20, "t3"), (20, "t2")];
        for (record, (store_ms, tag)) in disk.log.records.iter_mut().zip(said) {
            record.store_ms = store_ms;
            record.properties = format!("TAGS\u{1}{tag}");
        }
        disk
    }

    #[test]
    fn a_search_that_leads_elsewhere_is_rejected() {
        let disk = queue();
        let ask = |time_ms, end, found| {
            let (broker, topic) = ("broker-a".to_owned(), "topic-0".to_owned());
            by_time(&ByTime { broker, topic, queue: 0, time_ms, end, found }, &disk).is_ok()
        };
        for (time_ms, first, last) in [(9, 0, 0), (10, 0, 0), (11, 1, 0), (20, 1, 2), (21, 3, 2)] {
            assert!(ask(time_ms, End::First, first) && ask(time_ms, End::Last, last), "at {time_ms}");
            assert!(
                !ask(time_ms, End::First, first + 1) && !ask(time_ms, End::Last, last + 1),
                "at {time_ms}"
            );
        }
    }

    #[test]
    fn a_pull_that_is_given_too_much_or_too_little_is_rejected() {
        let disk = queue();
        let at = |n: usize| disk.log.records[n].at;
        let pull = |from, found: &[u64], next| {
            let (broker, topic, found) = ("broker-a".to_owned(), "topic-0".to_owned(), found.to_vec());
            by_tags(&ByTags { broker, topic, queue: 0, from, found, next }, &disk).is_ok()
        };
        assert!(pull(0, &[at(0), at(2)], 3));
        assert!(pull(0, &[at(0)], 2));
        assert!(pull(1, &[], 2));
        assert!(pull(3, &[], 3));
        assert!(!pull(0, &[at(0), at(1), at(2)], 3), "nobody has asked for the second");
        assert!(!pull(0, &[at(0)], 3), "the third is missing");
        assert!(!pull(0, &[], 0), "it stands still");
    }
}
