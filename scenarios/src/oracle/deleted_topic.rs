//! DELETED: once it is answered that a topic is deleted, its settings and what groups have committed on it are on no disk any
//! more, and nothing that was sent to it before is in a queue or is served again, whatever happens then; a topic of the same
//! name goes on with queue offsets that were never given.
//!
//! A deletion without an answer may have come to pass or not, and later than the next one: it excuses what is missing, and
//! demands nothing.
//!
//! # Source
//! README, "a deleted topic"; `spec/broker-semantics.md`, section 25.

use std::collections::BTreeMap;

use super::{Broken, Verdict};
use crate::history::{History, Place};
use crate::platter::config::{self, Version};
use crate::platter::{BrokerDisk, Image};

const PROMISE: &str = "DELETED";

/// Judges the queues of a broker that has recovered, or has just answered.
///
/// # Errors
/// The first entry that leads to what was there before a deletion.
pub fn queues(history: &History, broker: &str, disk: &BrokerDisk) -> Verdict {
    for ((topic, queue), entries) in &disk.queues {
        let below = history.dropped_below(broker, topic);
        let mut entries = (entries.min..).zip(&entries.entries);
        if let Some((n, entry)) = entries.find(|(_, entry)| entry.at < below) {
            let detail = format!(
                "{broker}: entry {n} of {topic} queue {queue} leads to {}, and the topic was deleted with all below {below}",
                entry.at
            );
            return Err(Broken::new(PROMISE, detail));
        }
    }
    Ok(())
}

/// Judges the queue offsets of records that came after a deletion by those that came before.
///
/// # Errors
/// The first that is not behind all of them.
pub fn numbers(history: &History, broker: &str, disk: &BrokerDisk) -> Verdict {
    let mut last: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for record in disk.log.records.iter().filter(|record| record.has_queue_entry()) {
        let before = last.get(&(record.topic.as_str(), record.queue)).copied();
        if record.at < history.dropped_below(broker, &record.topic) {
            let last = last.entry((&record.topic, record.queue)).or_insert(record.queue_offset);
            *last = record.queue_offset.max(*last);
        } else if before.is_some_and(|before| record.queue_offset <= before) {
            let detail = format!(
                "{broker}: the record at {} of {} queue {} has queue offset {}, and before the topic was deleted it had come \
                 to {before:?}",
                record.at, record.topic, record.queue, record.queue_offset
            );
            return Err(Broken::new(PROMISE, detail));
        }
    }
    Ok(())
}

/// A broker has given a message to somebody who had asked after the deletions that are known to be done.
///
/// # Errors
/// When one of them was to take it.
pub fn served(history: &History, place: &Place) -> Verdict {
    let below = history.dropped_below(&place.broker, &place.topic);
    if place.physical_offset.is_none_or(|at| at >= below) {
        return Ok(());
    }
    let detail = format!(
        "{} serves {} queue {} offset {} from {:?}, and the topic was deleted with all below {below}",
        place.broker, place.topic, place.queue, place.queue_offset, place.physical_offset
    );
    Err(Broken::new(PROMISE, detail))
}

/// It was answered that a topic is deleted, and nobody has made it again since; `durable` holds the files of topics and offsets
/// as the disk's surface has them.
///
/// # Errors
/// When one of them still knows the topic.
pub fn tables(broker: &str, topic: &str, durable: &Image, folder: &str) -> Verdict {
    let topics = config::load(durable, &format!("{folder}/topics.json"));
    let offsets = config::load(durable, &format!("{folder}/consumerOffset.json"));
    let is_topic = |value: &serde_json::Value| {
        value.get("topicConfigTable").is_some_and(|topics| topics.get(topic).is_some())
    };
    let has_offsets = |value: &serde_json::Value| {
        let offsets = config::consumer_offsets(value);
        offsets.keys().any(|(name, _)| name.split('@').next() == Some(topic))
    };
    let left = match (&topics, &offsets) {
        (Version::Whole(value), _) if is_topic(value) => "its settings",
        (_, Version::Whole(value)) if has_offsets(value) => "what groups have committed on it",
        _ => return Ok(()),
    };
    Err(Broken::new(
        PROMISE,
        format!("{broker}: {topic} is deleted, and {left} would survive a loss of power"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Deletion;
    use crate::history::tests::{ack, place};
    use crate::oracle::queue_matches_log::tests::disk;
    use crate::workload::MessageId;

    fn history(below: u64, done: bool) -> History {
        let (broker, topic) = ("broker-a".to_owned(), "topic-0".to_owned());
        let deletion = Deletion { broker, topic, asked_ms: 100, done, until_ms: 120, below };
        History { deletions: vec![deletion], ..History::default() }
    }

    #[test]
    fn what_was_there_before_a_deletion_is_rejected_in_a_queue_and_where_it_is_served() {
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let second = disk.log.records[1].at;
        let judge = |history: &History| queues(history, "broker-a", &disk);
        assert!(judge(&history(1, true)).is_err(), "the first is still in its queue");
        assert_eq!(judge(&history(1, false)), Ok(()), "nobody has said that it is deleted");
        assert_eq!(judge(&history(0, true)), Ok(()), "the log was empty");
        assert_eq!(queues(&history(1, true), "broker-b", &disk), Ok(()));
        let at = |physical_offset| Place { physical_offset: Some(physical_offset), ..place(1) };
        assert!(served(&history(second + 1, true), &at(second)).is_err());
        assert_eq!(served(&history(second, true), &at(second)), Ok(()));
        assert_eq!(served(&history(second + 1, false), &at(second)), Ok(()));
    }

    #[test]
    fn a_queue_offset_that_was_given_before_the_deletion_is_rejected() {
        let judge = |offset| {
            let disk = disk(&[(1_000_000, 4), (1_000_001, offset)]);
            numbers(&history(disk.log.records[1].at, true), "broker-a", &disk)
        };
        assert_eq!((judge(5), judge(9)), (Ok(()), Ok(())));
        assert!(judge(4).is_err() && judge(0).is_err());
    }

    #[test]
    fn a_file_that_still_knows_the_topic_is_rejected() {
        let image = |topics: &str, offsets: &str| Image {
            files: [
                ("store/config/topics.json".to_owned(), topics.as_bytes().to_vec()),
                ("store/config/consumerOffset.json".to_owned(), offsets.as_bytes().to_vec()),
            ]
            .into(),
        };
        let judge = |topics, offsets| tables("broker-a", "T", &image(topics, offsets), "store/config");
        let (no_topic, no_offset) =
            (r#"{"topicConfigTable":{"TT":{}}}"#, r#"{"offsetTable":{"TT@g":{0:2}}}"#);
        assert_eq!(judge(no_topic, no_offset), Ok(()));
        assert!(judge(r#"{"topicConfigTable":{"T":{}}}"#, no_offset).is_err());
        assert!(judge(no_topic, r#"{"offsetTable":{"T@g":{0:2}}}"#).is_err());
    }

    #[test]
    fn a_deletion_may_take_what_was_sent_before_it_ended_and_nothing_later() {
        let mut history = history(0, true);
        ack(&mut history, 1_000_000, 50, place(0));
        ack(&mut history, 1_000_001, 125, place(1));
        ack(&mut history, 1_000_002, 126, place(2));
        let may = |id| history.may_be_dropped("broker-a", "topic-0", MessageId(id));
        assert_eq!((may(1_000_000), may(1_000_001), may(1_000_002)), (true, true, false));
        assert!(!history.may_be_dropped("broker-b", "topic-0", MessageId(1_000_000)));
        assert!(!history.may_be_dropped("broker-a", "topic-1", MessageId(1_000_000)));
    }

    #[test]
    fn a_topic_may_be_made_by_what_has_no_answer_yet() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 50, place(0));
        assert!(history.may_be_made("topic-0", 50, 1_000) && !history.may_be_made("topic-0", 51, 1_000));
        assert!(!history.may_be_made("topic-1", 50, 1_000));
        history.abandoned(|_| true);
        history.started(MessageId(1_000_001), crate::history::tests::sent(60));
        assert!(history.may_be_made("topic-0", 90_000, 1_000), "it is still on its way");
        history.abandoned(|_| true);
        assert!(
            history.may_be_made("topic-0", 4_060, 1_000) && !history.may_be_made("topic-0", 4_061, 1_000)
        );
        history.half_made.push(("topic-1".to_owned(), 9_000));
        assert!(
            history.may_be_made("topic-1", 10_000, 1_000) && !history.may_be_made("topic-1", 10_001, 1_000)
        );
    }
}
