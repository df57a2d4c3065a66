//! I19: once the faults have ended, everything goes on within a bound: sends are answered, consumers get every message
//! that is in the log, and on a healthy cluster nothing waits for a timeout.
//!
//! # Source
//! `spec/ha.md`, section 5. The bounds are the runner's.

use std::collections::{BTreeMap, BTreeSet};

use super::delay::LOOK_MS;
use super::no_phantom::is_ours;
use super::{Broken, Verdict};
use crate::history::{ClockJump, History, Outcome, Place};
use crate::platter::BrokerDisk;
use crate::platter::delayed::{Part, origin_topic, part};
use crate::platter::properties::find;
use crate::platter::record::Record;
use crate::workload::{Identity, Kind, MessageId, identify};

/// An answer on a healthy cluster takes less: beyond it a request or its answer was lost and a timeout has hidden it.
pub const HEALTHY_ANSWER_MS: u64 = 2_500;

/// From when a message can be pulled, or its queue is held, until the holder is given it: beyond it a pull that should have
/// been woken was not.
pub const HEALTHY_DELIVERY_MS: u64 = 2_500;

/// The first send that has no outcome yet.
#[must_use]
pub fn unanswered(history: &History) -> Option<MessageId> {
    let waiting = |outcome: &Outcome| *outcome == Outcome::Started;
    history.sends.iter().find(|(_, sent)| waiting(&sent.outcome)).map(|(id, _)| *id)
}

/// What a broker that is well has taken and not yet written, its last append being that. Its files do not tell before what is
/// missing: half messages in a transient pool are to be settled too.
#[must_use]
pub fn unwritten(broker: &str, last_append: Option<u64>, disk: &BrokerDisk) -> Option<String> {
    let (at, end) = (last_append?, disk.log.end);
    (at >= end).then(|| format!("{broker} has appended a record at {at}, and its files end at {end}"))
}

/// The first message in a log that `group` asks for and has not been given, with its record.
///
/// Where an asynchronous flush has lost records that consumers had read, new ones take their queue offsets, and a consumer
/// that is past them never sees those: RocketMQ's protocol has no way to tell it. With a synchronous flush that cannot be.
/// A group that `filters` may be past what it was never given.
///
/// A file that was to be deleted and was held by a reader is there again after a crash; consumers were told meanwhile that
/// their queues begin behind it.
#[must_use]
pub fn undelivered<'a>(
    history: &History,
    sync_flush: bool,
    group: &str,
    (filters, asks_for): (bool, impl Fn(MessageId) -> bool),
    brokers: &'a BTreeMap<String, BrokerDisk>,
) -> Option<(MessageId, &'a Record)> {
    let delivered = history.delivered.get(group);
    for (broker, disk) in brokers {
        let may_skip = !sync_flush && history.lost_power_since(broker, 0);
        let deleting = history.deleting.get(broker).copied().unwrap_or(0);
        let is_kept = |record: &&Record| record.at >= deleting && !disk.dropped.contains(&record.at);
        let wanted = disk.log.records.iter().filter(is_kept);
        let copied: BTreeSet<_> =
            disk.log.records.iter().map(part).filter(|part| matches!(part, Part::Copy(_))).collect();
        let is_own = |record: &Record| {
            record.topic.starts_with("RMQ_SYS_TRANS_") || record.topic.starts_with("TRANS_CHECK_")
        };
        let wanted = wanted
            .filter(|record| record.has_queue_entry() && !is_own(record) && is_ours(origin_topic(record)));
        for record in wanted.filter(|record| is_on_its_way(record, &copied)) {
            let Identity::Whole(id) = identify(&record.body) else { continue };
            let given = delivered.is_some_and(|delivered| delivered.contains_key(&id));
            if given || !history.sends.contains_key(&id) || !asks_for(id) {
                continue;
            }
            let key = (group.to_owned(), broker.clone(), record.topic.clone(), record.queue);
            let passed = history.highest.get(&key).is_some_and(|highest| *highest >= record.queue_offset)
                || filters && was_longer(history, broker, record);
            if !(may_skip && passed) {
                return Some((id, record));
            }
        }
    }
    None
}

/// Whether a record's queue went beyond it before its broker has lost power.
fn was_longer(history: &History, broker: &str, record: &Record) -> bool {
    let is_beyond = |place: &Place| {
        place.broker == broker
            && (place.topic.as_str(), place.queue) == (record.topic.as_str(), record.queue)
            && place.queue_offset >= record.queue_offset
    };
    let was_sent = history.sends.values().any(|sent| {
        matches!(&sent.outcome, Outcome::Acked { place, .. } if is_beyond(place))
            && history.lost_power_since(broker, sent.started_ms)
    });
    // One way, and somebody else was given it.
    let is_of_queue = |of: &(String, String, String, i32)| {
        (of.1.as_str(), of.2.as_str(), of.3) == (broker, record.topic.as_str(), record.queue)
    };
    let mut highest = history.highest.iter().filter(|(of, _)| is_of_queue(of)).map(|(_, highest)| *highest);
    was_sent || highest.any(|highest| highest >= record.queue_offset)
}

/// Whether a record must lead to a delivery: not what a consumer has handed back, which is judged by itself, and not what
/// waits for its time where its copy is there, which must.
fn is_on_its_way(record: &Record, copied: &BTreeSet<Part>) -> bool {
    let handed_back = find(&record.properties, "RETRY_TOPIC").is_some();
    match part(record) {
        Part::Waits(key) => !handed_back && !copied.contains(&Part::Copy(key)),
        Part::Copy(_) | Part::Neither => !handed_back,
    }
}

/// # Errors
/// The first send that began after `healthy_from_ms` and was slow, or refused, or had no clear outcome. Where `lacks_slaves`,
/// a master that asks for more may refuse.
pub fn healthy(history: &History, healthy_from_ms: u64, lacks_slaves: bool) -> Verdict {
    for (id, sent) in &history.sends {
        if sent.started_ms < healthy_from_ms {
            continue;
        }
        let trouble = match (&sent.outcome, sent.ended_ms) {
            // The code of such a refusal stands for much, and clients take it for an unknown outcome.
            (Outcome::Unknown, _) if lacks_slaves => continue,
            (Outcome::Refused { code }, _) => format!("was refused with code {code}"),
            (Outcome::Unknown, _) => "has an unknown outcome".to_owned(),
            (Outcome::Acked { .. }, Some(ended_ms)) if ended_ms - sent.started_ms > HEALTHY_ANSWER_MS => {
                format!("took {} ms", ended_ms - sent.started_ms)
            }
            _ => continue,
        };
        let detail =
            format!("message {}, sent at {} ms on a healthy cluster, {trouble}", id.0, sent.started_ms);
        return Err(Broken::new("I19", detail));
    }
    Ok(())
}

/// Holds what consumers were given of the messages sent since `healthy_from_ms` against when a member of their group that
/// holds the queue could have pulled them: a stored message may be seen after `seen_within_ms`. `held_since` says since when one has held it without a break; where nobody has,
/// the group has still to learn of its queues, and the runner's bounds judge that.
///
/// # Errors
/// The first message that its holder was given late.
pub fn given(
    history: &History,
    healthy_from_ms: u64,
    seen_within_ms: u64,
    held_since: impl Fn(&str, &Place) -> Option<u64>,
) -> Verdict {
    let mut judged = BTreeSet::new();
    for delivery in &history.deliveries {
        let Some(sent) = history.sends.get(&delivery.message) else { continue };
        // One of a transaction is seen when it is committed, which may be when somebody is asked.
        if sent.kind == Kind::Transaction {
            continue;
        }
        // What is handed back waits for its own delay.
        let is_first = delivery.reconsume_times == 0 && judged.insert((&delivery.group, delivery.message));
        if sent.started_ms < healthy_from_ms || !is_first {
            continue;
        }
        let Some(since_ms) = held_since(&delivery.group, &delivery.place) else { continue };
        let stored_ms = sent.ended_ms.unwrap_or(sent.started_ms);
        // One that was delayed is stored twice, and its level may just have looked when it can be seen first. Where the
        // clock was set back it waits for its delay from then.
        let visible_ms = match sent.delay_ms {
            0 => stored_ms,
            delay_ms => {
                let set_back = |jump: &ClockJump| jump.node == delivery.place.broker && jump.by_ms < 0;
                let seen_ms = stored_ms + seen_within_ms + delay_ms.min(LOOK_MS);
                match history.clock_jumps.iter().any(set_back) {
                    true => seen_ms + delay_ms,
                    false => seen_ms.max(stored_ms + delay_ms),
                }
            }
        };
        let due_ms = visible_ms + seen_within_ms;
        let from_ms = due_ms.max(since_ms);
        if delivery.at_ms > from_ms + HEALTHY_DELIVERY_MS {
            let Place { broker, topic, queue, .. } = &delivery.place;
            return Err(Broken::new(
                "I19",
                format!(
                    "message {} was to be seen in {topic} queue {queue} of {broker} at {due_ms} ms, {} has held it since {since_ms} \
                     ms, and was given it at {} ms",
                    delivery.message.0, delivery.group, delivery.at_ms
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, deliver, place, sent};
    use crate::history::{Delivery, PowerLoss};
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn a_send_without_outcome_and_a_message_without_delivery_are_found() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        assert_eq!(unanswered(&history), None);
        let missing = undelivered(&history, true, "group-0", (false, |_| true), &brokers).map(|(id, _)| id);
        assert_eq!(missing, Some(MessageId(1_000_000)));
        assert!(undelivered(&history, true, "group-0", (true, |_| false), &brokers).is_none());
        deliver(&mut history, 1_000_000, 20, place(0));
        assert!(undelivered(&history, true, "group-0", (false, |_| true), &brokers).is_none());
        history.started(MessageId(1_000_001), sent(30));
        assert_eq!(unanswered(&history), Some(MessageId(1_000_001)));
    }

    #[test]
    fn a_record_that_is_appended_and_in_no_file_is_missing() {
        let disk = disk(&[(1_000_000, 0)]);
        let end = disk.log.end;
        assert_eq!(unwritten("broker-a", None, &disk), None);
        assert_eq!(unwritten("broker-a", Some(end - 1), &disk), None);
        assert!(unwritten("broker-a", Some(end), &disk).is_some());
    }

    #[test]
    fn a_message_that_was_being_deleted_need_not_be_delivered_and_the_next_one_must() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0), (1_000_001, 1)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        ack(&mut history, 1_000_001, 10, place(1));
        let missing = |history: &History| {
            undelivered(history, true, "group-0", (false, |_| true), &brokers).map(|(id, _)| id)
        };
        assert_eq!(missing(&history), Some(MessageId(1_000_000)));
        history.deleting.insert("broker-a".into(), 1);
        assert_eq!(missing(&history), Some(MessageId(1_000_001)));
    }

    #[test]
    fn a_skipped_message_is_excused_only_after_an_asynchronous_flush_has_lost_its_place() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        ack(&mut history, 1_000_001, 10, place(1));
        deliver(&mut history, 1_000_001, 20, place(1));
        assert!(undelivered(&history, false, "group-0", (false, |_| true), &brokers).is_some());
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 30 });
        assert!(undelivered(&history, true, "group-0", (false, |_| true), &brokers).is_some());
        assert!(undelivered(&history, false, "group-0", (false, |_| true), &brokers).is_none());
    }

    #[test]
    fn a_filtering_group_may_be_past_what_a_loss_of_power_made_room_for() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_005, 10, place(3));
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 30 });
        ack(&mut history, 1_000_000, 50, place(0));
        let missing =
            |filters| undelivered(&history, false, "group-0", (filters, |_| true), &brokers).is_some();
        assert!(missing(false) && !missing(true));
        history.power_losses.clear();
        assert!(undelivered(&history, false, "group-0", (true, |_| true), &brokers).is_some());
    }

    #[test]
    fn a_timeout_on_a_healthy_cluster_is_rejected() {
        let mut history = History::default();
        history.started(MessageId(1_000_000), sent(100));
        history.ended(MessageId(1_000_000), 4_000, Outcome::Unknown);
        assert!(healthy(&history, 50, false).is_err());
        assert_eq!(healthy(&history, 101, false), Ok(()));
        assert_eq!(healthy(&history, 50, true), Ok(()), "refused for want of slaves");
        history.sends.get_mut(&MessageId(1_000_000)).expect("it").outcome = Outcome::Refused { code: 208 };
        assert!(healthy(&history, 50, true).is_err());
    }

    #[test]
    fn a_message_that_its_holder_is_given_late_is_rejected_and_one_that_nobody_held_is_not() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 100, place(0));
        history.sends.get_mut(&MessageId(1_000_000)).expect("it").delay_ms = 1_000;
        deliver(&mut history, 1_000_000, 1_101 + HEALTHY_DELIVERY_MS, place(0));
        let judge = |healthy_from_ms, since: Option<u64>| given(&history, healthy_from_ms, 0, |_, _| since);
        assert!(judge(50, Some(0)).is_err() && judge(50, Some(1_100)).is_err());
        assert_eq!(judge(50, Some(1_101)), Ok(()), "held so late");
        assert_eq!((judge(50, None), judge(101, Some(0))), (Ok(()), Ok(())));
        assert_eq!(given(&history, 50, 1, |_, _| Some(0)), Ok(()), "seen so late");
        let jump = |by_ms| ClockJump { node: "broker-a".into(), at_ms: 20, by_ms };
        history.clock_jumps = vec![jump(9)];
        assert!(given(&history, 50, 0, |_, _| Some(0)).is_err());
        history.clock_jumps = vec![jump(-9)];
        assert_eq!(given(&history, 50, 0, |_, _| Some(0)), Ok(()), "and a look more");
        let later = Delivery { at_ms: 2_102 + HEALTHY_DELIVERY_MS, ..history.deliveries[0].clone() };
        let late = History { deliveries: vec![later], ..history.clone() };
        assert!(given(&late, 50, 0, |_, _| Some(0)).is_err(), "stored at 100 ms, seen a second later");
        history.clock_jumps.clear();
        deliver(&mut history, 1_000_000, 99_000, place(0));
        let judge = |since| given(&history, 50, 0, |_, _| Some(since));
        assert_eq!(judge(1_101), Ok(()), "again is not late");
    }
}
