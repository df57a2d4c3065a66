//! I15: a delayed message is delivered at least once, not before its time on a sane clock, and again only after a broker has
//! died; the saved delay offsets never count a message whose copy the log does not have, and do not go back: whatever dies, what
//! they once counted is not delivered again. On a healed cluster its copy is stored within [`LATE_MS`] of when it was due and
//! could be seen.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/store.md`, 7.3; `spec/known-bugs.md`, D-01, D-03, D-04, D-05, D-09.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};
use crate::history::{Delivery, History};
use crate::platter::config::{self, Version};
use crate::platter::delayed::{DELAY_TOPIC, Key, Part, count, due_ms, part};
use crate::platter::record::Record;
use crate::platter::{BrokerDisk, Image};
use crate::workload::MessageId;

/// A level looks so often whether messages have come; one whose delay is shorter looks after that.
pub const LOOK_MS: u64 = 1_000;

/// A broker that is well takes less to put a message that is due; 157 ms were the most in 120 runs.
pub const LATE_MS: i64 = 1_000;

fn broken(detail: String) -> Broken {
    Broken::new("I15", detail)
}

/// A consumer was given a message, in true time.
///
/// # Errors
/// When it is too early, even with all the time by which its broker's clock was set forward since it was sent.
pub fn early(history: &History, delivery: &Delivery) -> Verdict {
    let Some(sent) = history.sends.get(&delivery.message) else { return Ok(()) };
    let broker = &delivery.place.broker;
    let jumps =
        history.clock_jumps.iter().filter(|jump| jump.node == *broker && jump.at_ms >= sent.started_ms);
    let forward: u64 = jumps.map(|jump| u64::try_from(jump.by_ms).unwrap_or(0)).sum();
    let due_ms = sent.started_ms + sent.delay_ms;
    if delivery.at_ms + forward >= due_ms {
        return Ok(());
    }
    Err(broken(format!(
        "message {} was delivered to {} at {} ms, is due at {due_ms} ms, and the clock of {broker} was set forward by {forward} ms",
        delivery.message.0, delivery.group, delivery.at_ms
    )))
}

/// The waiting records of a log with their parts, and the keys of its copies.
fn parts(disk: &BrokerDisk) -> (Vec<(&Record, Key)>, Vec<Key>) {
    let (mut waiting, mut copies) = (Vec::new(), Vec::new());
    for record in &disk.log.records {
        match part(record) {
            Part::Waits(key) => waiting.push((record, key)),
            Part::Copy(key) => copies.push(key),
            Part::Neither => {}
        }
    }
    (waiting, copies)
}

/// What the file says; nothing when there is none.
#[must_use]
pub fn in_file(image: &Image, folder: &str) -> BTreeMap<i32, i64> {
    match config::load(image, &format!("{folder}/delayOffset.json")) {
        Version::Whole(value) => config::delay_offsets(&value),
        Version::Absent | Version::Broken => BTreeMap::new(),
    }
}

/// Holds the delay offsets that a start finds against those that the one before had on the disk's surface, or what a process
/// writes against what it has written before (`when`).
///
/// # Errors
/// The first level that has gone back, so that messages come again however long ago they were delivered.
pub fn never_back(
    broker: &str,
    when: &str,
    before: &BTreeMap<i32, i64>,
    now: &BTreeMap<i32, i64>,
) -> Verdict {
    let back = before.iter().find(|(level, offset)| now.get(level).is_none_or(|now| now < offset));
    back.map_or(Ok(()), |(level, offset)| {
        let now = now.get(level);
        let detail =
            format!("{broker}: the saved delay offset of level {level} was {offset} and is {now:?} {when}");
        Err(broken(detail))
    })
}

/// A broker serves: its file counts no message that the queue of its level does not have, or those that come there next would
/// be left out (D-01).
///
/// # Errors
/// The first level that is beyond its queue.
pub fn within(broker: &str, image: &Image, folder: &str, disk: &BrokerDisk) -> Verdict {
    for (level, offset) in in_file(image, folder) {
        let end = disk.queues.get(&(DELAY_TOPIC.to_owned(), level - 1)).map_or(0, |queue| queue.max());
        if offset > end {
            return Err(broken(format!(
                "{broker}: the delay offset of level {level} is {offset}, and its queue ends at {end}"
            )));
        }
    }
    Ok(())
}

/// Holds the delay offsets of a broker's folder against its log, before a start or at the end. As long as a broker has always
/// been stopped in order they count all that was delivered.
///
/// # Errors
/// The first message that would never be delivered, or be delivered again after a stop in order.
pub fn offsets(broker: &str, image: &Image, folder: &str, disk: &BrokerDisk, deaths: usize) -> Verdict {
    let offsets = in_file(image, folder);
    let offset = |record: &Record| offsets.get(&(record.queue + 1)).copied().unwrap_or(0);
    let (waiting, copies) = parts(disk);
    let counted = |(record, _): &&(&Record, Key)| record.queue_offset < offset(record);
    let copied = count(copies.iter());
    for (key, passed) in count(waiting.iter().filter(counted).map(|(_, key)| key)) {
        let there = copied.get(key).copied().unwrap_or(0);
        if there < passed {
            return Err(broken(format!(
                "{broker}: the delay offsets count message {} for {} queue {} {passed} times, and the log has {there} copies \
                 of it up to {}",
                key.0.0, key.1, key.2, disk.log.end
            )));
        }
    }
    if deaths > 0 {
        return Ok(());
    }
    let passed: BTreeSet<&Key> = waiting.iter().filter(counted).map(|(_, key)| key).collect();
    let again = waiting.iter().find(|(_, key)| copied.contains_key(key) && !passed.contains(key));
    again.map_or(Ok(()), |(record, key)| {
        Err(broken(format!(
            "{broker}: message {} was delivered, and after a stop in order the delay offset of level {} is {}, not above {}",
            key.0.0,
            record.queue + 1,
            offset(record),
            record.queue_offset
        )))
    })
}

/// Holds the delay offsets that a process has left which has stopped in order, and whose log ended at `began_at` when it began to
/// serve: they count all that it has delivered, however many have died before it.
///
/// # Errors
/// The first message that it has delivered and that would be delivered again.
pub fn stopped(broker: &str, image: &Image, folder: &str, disk: &BrokerDisk, began_at: u64) -> Verdict {
    let offsets = in_file(image, folder);
    let own = disk.log.records.iter().filter(|record| record.at >= began_at).map(part);
    let own: BTreeSet<Part> = own.collect();
    let (waiting, _) = parts(disk);
    let offset = |record: &Record| offsets.get(&(record.queue + 1)).copied().unwrap_or(0);
    let passed: BTreeSet<&Key> = waiting
        .iter()
        .filter(|(record, _)| record.queue_offset < offset(record))
        .map(|(_, key)| key)
        .collect();
    let again =
        waiting.iter().find(|(_, key)| own.contains(&Part::Copy(key.clone())) && !passed.contains(key));
    again.map_or(Ok(()), |(record, key)| {
        Err(broken(format!(
            "{broker}: message {} was delivered by the process that has stopped in order, and the delay offset of level {} is \
             {}, not above {}",
            key.0.0,
            record.queue + 1,
            offset(record),
            record.queue_offset
        )))
    })
}

/// Judges a running broker that is well, by its own clock: when it put the messages of `of`, which were sent since it is. It
/// can see a message that waits `seen_within_ms` after it was stored, at the latest, and may just have looked then.
///
/// # Errors
/// The first message that waited longer than its delay.
pub fn late(broker: &str, disk: &BrokerDisk, seen_within_ms: u64, of: impl Fn(MessageId) -> bool) -> Verdict {
    let (waiting, _) = parts(disk);
    let mut copied: BTreeMap<Key, i64> = BTreeMap::new();
    for record in &disk.log.records {
        if let Part::Copy(key) = part(record) {
            copied.entry(key).or_insert(record.store_ms);
        }
    }
    for (record, key) in waiting.iter().filter(|(_, key)| of(key.0)) {
        let Some(due_ms) = due_ms(record, &disk.delay_levels_ms) else { continue };
        let look_ms = (due_ms - record.store_ms).min(LOOK_MS as i64);
        let last_ms = due_ms.max(record.store_ms + seen_within_ms as i64 + look_ms) + LATE_MS;
        if let Some(at_ms) = copied.get(key).filter(|at_ms| **at_ms > last_ms) {
            let (late_ms, id) = (at_ms - due_ms, key.0.0);
            return Err(broken(format!(
                "{broker} is well and put message {id} into {} queue {} {late_ms} ms after it was due",
                key.1, key.2
            )));
        }
    }
    Ok(())
}

/// Judges the copies in the log of a broker that has died `deaths` times without a stop in order, and whose clock was
/// never set (`sane`).
///
/// # Errors
/// The first copy too many, of nothing, or before its time by the broker's own clock.
pub fn copies(broker: &str, disk: &BrokerDisk, deaths: usize, sane: bool) -> Verdict {
    let (waiting, copies) = parts(disk);
    let waits = count(waiting.iter().map(|(_, key)| key));
    for (key, there) in count(copies.iter()) {
        let may_be = waits.get(key).copied().unwrap_or(0) * (1 + deaths);
        if there > may_be {
            return Err(broken(format!(
                "{broker}: message {} is in {} queue {} {there} times, and may be {may_be} times",
                key.0.0, key.1, key.2
            )));
        }
    }
    for record in disk.log.records.iter().filter(|_| sane) {
        let Part::Copy(key) = part(record) else { continue };
        let mut own = waiting.iter().filter(|(waits, other)| *other == key && waits.at < record.at);
        let due = |waits: &Record| due_ms(waits, &disk.delay_levels_ms).unwrap_or(i64::MAX);
        if !own.any(|(waits, _)| due(waits) <= record.store_ms) {
            return Err(broken(format!(
                "{broker}: the copy of message {} at {} was stored at {} before it was due",
                key.0.0, record.at, record.store_ms
            )));
        }
    }
    let ends = disk.queues.iter().filter(|((topic, _), _)| topic == DELAY_TOPIC);
    for ((_, queue), entries) in ends {
        let undelivered = waiting.iter().find(|(record, key)| {
            record.queue == *queue && record.queue_offset < entries.max() && !copies.contains(key)
        });
        if let Some((record, key)) = undelivered {
            return Err(broken(format!(
                "{broker}: message {} (level {}, offset {}) has waited and was never delivered",
                key.0.0,
                queue + 1,
                record.queue_offset
            )));
        }
    }
    Ok(())
}

/// A slave that follows: each level is at least where its master has had it, as far as its queue goes.
///
/// # Errors
/// The first level that is not.
pub fn copied(
    slave: &str,
    of_master: &BTreeMap<i32, i64>,
    own: &BTreeMap<i32, i64>,
    disk: &BrokerDisk,
) -> Verdict {
    for (level, offset) in of_master {
        let max = disk.queues.get(&(DELAY_TOPIC.to_owned(), level - 1)).map_or(0, |queue| queue.max());
        let has = own.get(level).copied();
        if has.unwrap_or(0) < (*offset).min(max) {
            let detail = format!("{slave}: delay level {level} is at {has:?}, its master has had {offset}");
            return Err(Broken::new("I19", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::ClockJump;
    use crate::history::tests::{place, sent};
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn a_level_that_a_slave_does_not_copy_is_found() {
        let mut disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let queue = disk.queues.remove(&("topic-0".to_owned(), 0)).expect("it has a queue");
        disk.queues.insert((DELAY_TOPIC.to_owned(), 0), queue);
        let judged =
            |masters: i64, own: i64| copied("slave-a", &[(1, masters)].into(), &[(1, own)].into(), &disk);
        assert_eq!(judged(2, 2), Ok(()));
        assert_eq!(judged(9, 2), Ok(()), "its queue ends there");
        assert!(judged(2, 1).is_err());
    }

    /// A log with message 1000000 waiting at level 1, due 1,000 ms after 1,000 ms, and so many copies at `copy_ms`.
    fn waiting(copies: usize, copy_ms: i64) -> BrokerDisk {
        let messages: Vec<(u64, i64)> = (0..=copies as i64).map(|offset| (1_000_000, offset)).collect();
        let mut disk = disk(&messages);
        disk.delay_levels_ms = vec![1_000];
        for record in &mut disk.log.records {
            record.properties = "DELAY\u{1}1\u{2}REAL_TOPIC\u{1}topic-0\u{2}REAL_QID\u{1}0".into();
            record.store_ms = copy_ms;
        }
        let first = &mut disk.log.records[0];
        (first.topic, first.store_ms) = (DELAY_TOPIC.into(), 1_000);
        disk
    }

    fn image(offset: i64) -> Image {
        let text = format!("{{\"offsetTable\":{{1:{offset}}}}}");
        Image { files: [("store/config/delayOffset.json".to_owned(), text.into_bytes())].into() }
    }

    #[test]
    fn an_offset_that_counts_a_copy_that_is_not_there_is_rejected() {
        let judge =
            |offset, copies| offsets("broker-a", &image(offset), "store/config", &waiting(copies, 2_000), 1);
        assert_eq!(judge(0, 0), Ok(()));
        assert!(judge(1, 0).is_err());
        assert_eq!(judge(1, 1), Ok(()));
        assert_eq!(judge(0, 1), Ok(()), "after a crash it comes again");
        let clean = |offset| offsets("broker-a", &image(offset), "store/config", &waiting(1, 2_000), 0);
        assert!(clean(0).is_err());
        assert_eq!(clean(1), Ok(()));
    }

    #[test]
    fn an_offset_that_lacks_what_the_stopped_process_delivered_is_rejected() {
        let disk = waiting(1, 2_000);
        let copy_at = disk.log.records[1].at;
        let judged = |offset, began_at| stopped("broker-a", &image(offset), "store/config", &disk, began_at);
        assert_eq!(judged(1, 0), Ok(()));
        assert!(judged(0, copy_at).is_err());
        assert_eq!(judged(0, copy_at + 1), Ok(()), "another process has delivered it, and died");
    }

    #[test]
    fn an_offset_beyond_its_queue_is_rejected() {
        let mut disk = waiting(1, 2_000);
        let queue = disk.queues.remove(&("topic-0".to_owned(), 0)).expect("it");
        let end = queue.max();
        disk.queues.insert((DELAY_TOPIC.to_owned(), 0), queue);
        let judged = |offset| within("broker-a", &image(offset), "store/config", &disk);
        assert_eq!(judged(end), Ok(()));
        assert!(judged(end + 1).is_err());
    }

    /// The last start found 7 of level 1 delivered, and the process died before it saved anything else.
    #[test]
    fn a_table_that_is_emptied_between_two_starts_is_rejected() {
        let judged = |now: &Image| {
            never_back("broker-a", "now", &in_file(&image(7), "store/config"), &in_file(now, "store/config"))
        };
        assert_eq!(judged(&image(7)), Ok(()));
        assert_eq!(judged(&image(8)), Ok(()));
        assert!(judged(&image(6)).is_err());
        let emptied = Image {
            files: [("store/config/delayOffset.json".to_owned(), b"{\"offsetTable\":{}}".to_vec())].into(),
        };
        assert!(judged(&emptied).is_err());
    }

    #[test]
    fn a_copy_too_many_or_too_early_is_rejected() {
        assert_eq!(copies("broker-a", &waiting(1, 2_000), 0, true), Ok(()));
        assert!(copies("broker-a", &waiting(1, 1_999), 0, true).is_err());
        assert_eq!(copies("broker-a", &waiting(1, 1_999), 0, false), Ok(()));
        assert!(copies("broker-a", &waiting(2, 2_000), 0, true).is_err());
        assert_eq!(copies("broker-a", &waiting(2, 2_000), 1, true), Ok(()));
    }

    #[test]
    fn a_copy_that_a_broker_puts_late_is_rejected_where_it_is_well() {
        // Stored at 1,000 ms, due at 2,000 ms.
        assert_eq!(late("broker-a", &waiting(1, 2_000 + LATE_MS), 0, |_| true), Ok(()));
        let too_late = waiting(1, 2_001 + LATE_MS);
        assert!(late("broker-a", &too_late, 0, |id| id == MessageId(1_000_000)).is_err());
        assert_eq!(late("broker-a", &too_late, 1, |_| true), Ok(()), "seen so late");
        assert_eq!(late("broker-a", &too_late, 0, |_| false), Ok(()));
        // Due at 4,000 ms.
        let slow = |copy_ms| BrokerDisk { delay_levels_ms: vec![3_000], ..waiting(1, copy_ms) };
        assert_eq!(late("broker-a", &slow(4_000 + LATE_MS), 2_000, |_| true), Ok(()));
        assert!(late("broker-a", &slow(4_001 + LATE_MS), 2_000, |_| true).is_err(), "seen in time");
        assert_eq!(late("broker-a", &slow(4_001 + LATE_MS), 2_001, |_| true), Ok(()));
    }

    #[test]
    fn a_message_that_waits_for_ever_is_rejected() {
        let mut disk = waiting(0, 2_000);
        let queue = disk.queues.remove(&("topic-0".to_owned(), 0)).expect("it");
        disk.queues.insert((DELAY_TOPIC.to_owned(), 0), queue);
        assert!(copies("broker-a", &disk, 0, true).is_err());
    }

    #[test]
    fn a_delivery_before_its_time_is_excused_by_a_clock_that_was_set_forward_only() {
        let mut history = History::default();
        history.started(MessageId(1), crate::history::Sent { delay_ms: 1_000, ..sent(100) });
        let delivery = Delivery {
            at_ms: 1_050,
            group: "group-0".into(),
            message: MessageId(1),
            place: place(0),
            reconsume_times: 0,
        };
        assert!(early(&history, &delivery).is_err());
        assert_eq!(early(&history, &Delivery { at_ms: 1_100, ..delivery.clone() }), Ok(()));
        let jump = |by_ms| ClockJump { node: "broker-a".into(), at_ms: 500, by_ms };
        history.clock_jumps.push(jump(-9_000));
        assert!(early(&history, &delivery).is_err());
        history.clock_jumps.push(jump(60));
        assert_eq!(early(&history, &delivery), Ok(()));
    }
}
