//! A message that its consumers hand back comes again until they can consume it, and is a dead letter exactly if they fail
//! more often than they may.
//!
//! # Source
//! README, "a message that a listener hands back"; `spec/broker-semantics.md`, section 12.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};
use crate::history::{History, Outcome, Place};
use crate::platter::BrokerDisk;
use crate::platter::delayed::{DLQ_PREFIX, Part, RETRY_PREFIX, part};
use crate::platter::properties::find;
use crate::platter::record::Record;
use crate::witness::physical_offset;
use crate::workload::{Identity, MessageId, identify};

/// The delay level of the first try again.
const FIRST_LEVEL: i32 = 3;

/// How often consumers fail with a message, and how often they may.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub fails: &'a dyn Fn(MessageId) -> i32,
    pub reconsume_max: i32,
}

/// The dead letters of `group` in a log.
fn dead<'a>(disk: &'a BrokerDisk, group: &str) -> impl Iterator<Item = (MessageId, &'a Record)> {
    let topic = format!("{DLQ_PREFIX}{group}");
    let records = disk.log.records.iter().filter(move |record| record.topic == topic);
    records.filter_map(|record| match identify(&record.body) {
        Identity::Whole(id) => Some((id, record)),
        _ => None,
    })
}

/// The first message that `group` was given and has neither consumed nor given up; of one whose broker has lost what was not
/// flushed, nothing is promised, nor of one that stands where others stood before such a loss ([`may_be_passed`]).
#[must_use]
pub fn unfinished(
    history: &History,
    sync_flush: bool,
    (group, filters): (&str, bool),
    terms: Terms<'_>,
    brokers: &BTreeMap<String, BrokerDisk>,
) -> Option<MessageId> {
    let mut furthest: BTreeMap<MessageId, i32> = BTreeMap::new();
    for delivery in history.deliveries.iter().filter(|delivery| delivery.group == group) {
        let times = furthest.entry(delivery.message).or_insert(0);
        *times = delivery.reconsume_times.max(*times);
    }
    let dead: BTreeSet<MessageId> =
        brokers.values().flat_map(|disk| dead(disk, group)).map(|(id, _)| id).collect();
    let lost = |id: &MessageId| {
        let started_ms = history.sends.get(id).map_or(0, |sent| sent.started_ms);
        let mut died_ms = history.deaths.iter().map(|death| death.at_ms);
        let mut power = history.power_losses.iter().map(|loss| loss.at_ms);
        !sync_flush && (power.any(|at_ms| at_ms >= started_ms) || died_ms.any(|at_ms| at_ms >= started_ms))
    };
    let open = |(id, times): &(&MessageId, &i32)| {
        **times < (terms.fails)(**id)
            && !dead.contains(id)
            && !lost(id)
            && (sync_flush || !may_be_passed(history, (group, filters), **id, brokers))
    };
    furthest.iter().find(open).map(|(id, _)| *id)
}

/// Whether a member of `group` may go on behind a message without having looked at it: wherever the message stands now, a loss
/// of power has taken others that stood there or further on in the queue, and the group had been given them, or told that its
/// filter leaves them out. Who has them goes on behind them, unless the queue still ends below when it asks again.
fn may_be_passed(
    history: &History,
    (group, filters): (&str, bool),
    id: MessageId,
    brokers: &BTreeMap<String, BrokerDisk>,
) -> bool {
    let retry = format!("{RETRY_PREFIX}{group}");
    let is_for_group = |record: &Record| {
        let goes_to = find(&record.properties, "REAL_TOPIC").unwrap_or(&record.topic);
        goes_to == retry || ![RETRY_PREFIX, DLQ_PREFIX].iter().any(|prefix| goes_to.starts_with(prefix))
    };
    let is_it = |record: &Record, id| identify(&record.body) == Identity::Whole(id);
    let mut found = Vec::new();
    for (broker, disk) in brokers {
        let records = disk.log.records.iter().filter(|record| is_it(record, id) && is_for_group(record));
        found.extend(records.map(|record| (broker, disk, record)));
    }
    let tries = found.iter().map(|(_, _, record)| record.reconsume_times).max();
    found.retain(|(_, _, record)| Some(record.reconsume_times) == tries);
    let is_gone = |disk: &BrokerDisk, place: &Place, id| {
        let stands = |record: &Record| {
            let at = (&record.topic, record.queue, record.queue_offset);
            at == (&place.topic, place.queue, place.queue_offset) && is_it(record, id)
        };
        !disk.log.records.iter().any(stands)
    };
    let deliveries = || {
        let given = history.deliveries.iter().filter(|given| given.group == group || filters);
        given.map(|given| (given.message, &given.place))
    };
    let sends = || {
        let acked = history.sends.iter().filter(|_| filters);
        acked.filter_map(|(id, sent)| match &sent.outcome {
            Outcome::Acked { place, .. } => Some((*id, place)),
            _ => None,
        })
    };
    let is_passed = |(broker, disk, record): &(&String, &BrokerDisk, &Record)| {
        let is_behind = |place: &Place| {
            (&place.broker, &place.topic, place.queue) == (*broker, &record.topic, record.queue)
                && place.queue_offset >= record.queue_offset
        };
        let mut behind = deliveries().chain(sends()).filter(|(_, place)| is_behind(place));
        history.lost_power_since(broker, 0) && behind.any(|(id, place)| is_gone(disk, place, id))
    };
    !found.is_empty() && found.iter().all(is_passed)
}

/// # Errors
/// The first dead letter that should be none, or that says another number of tries.
pub fn judge(broker: &str, disk: &BrokerDisk, group: &str, terms: Terms<'_>) -> Verdict {
    for (id, record) in dead(disk, group) {
        let what = || format!("{broker}: message {} is a dead letter of {group} at {}", id.0, record.at);
        let fails = (terms.fails)(id);
        if fails <= terms.reconsume_max {
            let detail = format!("{}, and its consumers fail {fails} times", what());
            return Err(Broken::new("DLQ", detail));
        }
        if record.reconsume_times != terms.reconsume_max + 1 {
            let detail = format!(
                "{} after {} tries instead of {}",
                what(),
                record.reconsume_times,
                terms.reconsume_max + 1
            );
            return Err(Broken::new("DLQ", detail));
        }
    }
    Ok(())
}

/// Messages that were handed back, as they wait: each time at the next level, from the third on and up to the last; the message
/// that each copy names is the one that was sent; none is tried more often than it may be; and a dead letter does not wait.
///
/// # Errors
/// The first that is not so.
pub fn judge_tries(broker: &str, disk: &BrokerDisk, reconsume_max: i32) -> Verdict {
    let last = i32::try_from(disk.delay_levels_ms.len()).unwrap_or(i32::MAX);
    for record in &disk.log.records {
        let (Part::Waits((id, topic, _, tries)) | Part::Copy((id, topic, _, tries))) = part(record) else {
            continue;
        };
        let wrong = |what: String| {
            let detail =
                format!("{broker}: message {} at {}, try {tries} of {topic}: {what}", id.0, record.at);
            Err(Broken::new("DLQ", detail))
        };
        if topic.starts_with(DLQ_PREFIX) {
            return wrong("a dead letter waits".to_owned());
        }
        if !topic.starts_with(RETRY_PREFIX) {
            continue;
        }
        if tries > reconsume_max {
            return wrong(format!("it may be tried {reconsume_max} times"));
        }
        let level = find(&record.properties, "DELAY").and_then(|level| level.parse::<i32>().ok());
        let expected = (FIRST_LEVEL + tries - 1).min(last);
        if level != Some(expected) {
            return wrong(format!("it waits at level {level:?} instead of {expected}"));
        }
        // A client that could not hand it back has sent it, and names it by its unique key.
        let origin = find(&record.properties, "ORIGIN_MESSAGE_ID");
        let place = origin.filter(|origin| Some(*origin) != find(&record.properties, "UNIQ_KEY"));
        let Some(at) = place.and_then(physical_offset).filter(|at| *at >= disk.log.min) else { continue };
        let is_origin = disk.log.at(at).is_some_and(|sent| {
            find(&sent.properties, "RETRY_TOPIC").is_none() && identify(&sent.body) == Identity::Whole(id)
        });
        if !is_origin {
            return wrong(format!("it says that it was sent as the message at {at}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, deliver, place};
    use crate::history::{Delivery, PowerLoss};
    use crate::oracle::queue_matches_log::tests::disk;

    const ID: MessageId = MessageId(1_000_000);

    fn terms(fails: &dyn Fn(MessageId) -> i32) -> Terms<'_> {
        Terms { fails, reconsume_max: 1 }
    }

    fn dead_disk(reconsume_times: i32) -> BrokerDisk {
        let mut disk = disk(&[(ID.0, 0)]);
        let record = &mut disk.log.records[0];
        (record.topic, record.reconsume_times) = ("%DLQ%group-0".into(), reconsume_times);
        disk
    }

    #[test]
    fn a_message_that_never_comes_again_is_found_and_a_dead_or_consumed_one_is_done() {
        let none = BTreeMap::new();
        let dead = [("broker-a".to_owned(), dead_disk(2))].into();
        let mut history = History::default();
        ack(&mut history, ID.0, 10, place(0));
        deliver(&mut history, ID.0, 20, place(0));
        let open = |history: &History, sync, fails: i32, brokers: &BTreeMap<String, BrokerDisk>| {
            unfinished(history, sync, ("group-0", false), terms(&|_| fails), brokers)
        };
        assert_eq!(open(&history, true, 0, &none), None);
        assert_eq!(open(&history, true, 1, &none), Some(ID));
        assert_eq!(open(&history, true, 2, &dead), None);
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 30 });
        assert_eq!(open(&history, true, 1, &none), Some(ID));
        assert_eq!(open(&history, false, 1, &none), None);
        let again =
            Delivery { at_ms: 40, group: "group-0".into(), message: ID, place: place(1), reconsume_times: 1 };
        history.delivered(again);
        assert_eq!(open(&history, true, 1, &none), None);
    }

    /// Seed 200654 of `replication`: a member had been given up to 78 of a queue, a loss of power cut it to 67, and it had grown
    /// to 85 when that member asked for 78; what another one had been given of it meanwhile, and could not hand back, nobody
    /// was given again.
    #[test]
    fn a_message_where_lost_ones_stood_may_be_passed_and_no_other() {
        let (lost, kept) = (2_000_000, 2_000_001);
        let brokers = [("broker-a".to_owned(), disk(&[(kept, 0), (ID.0, 1), (kept, 2)]))].into();
        let open = |history: &History, sync, filters| {
            let mut history = history.clone();
            ack(&mut history, ID.0, 30, place(1));
            deliver(&mut history, ID.0, 40, place(1));
            let group = ("group-0", filters);
            unfinished(&history, sync, group, terms(&|id| i32::from(id == ID)), &brokers)
        };
        let loss = PowerLoss { node: "broker-a".into(), at_ms: 15 };
        let lossy = History { power_losses: vec![loss], ..History::default() };
        let given = |history: &History, id, offset| {
            let mut history = history.clone();
            deliver(&mut history, id, 10, place(offset));
            history
        };
        for offset in [1, 3] {
            assert_eq!(open(&given(&lossy, lost, offset), false, false), None);
            assert_eq!(open(&given(&lossy, lost, offset), true, false), Some(ID), "nothing is lost");
            assert_eq!(
                open(&given(&History::default(), lost, offset), false, false),
                Some(ID),
                "no power was"
            );
        }
        assert_eq!(open(&given(&lossy, lost, 0), false, false), Some(ID), "it stood before it");
        assert_eq!(open(&given(&lossy, kept, 2), false, false), Some(ID), "it is still there");
        assert_eq!(open(&lossy, false, false), Some(ID));
        // How far a filter may have gone is what anybody was told of.
        let mut acked = lossy.clone();
        ack(&mut acked, lost, 10, place(3));
        assert_eq!(open(&acked, false, false), Some(ID));
        assert_eq!(open(&acked, false, true), None);
        assert_eq!(open(&lossy, false, true), Some(ID));
    }

    #[test]
    fn a_try_at_another_level_or_of_another_message_is_rejected() {
        let judged = |tries: i32, level: i32, origin: u64, real: &str| {
            let mut disk = disk(&[(ID.0, 0), (ID.0, 1)]);
            disk.delay_levels_ms = vec![1_000; 4];
            let at = disk.log.records[0].at;
            let waits = &mut disk.log.records[1];
            (waits.topic, waits.reconsume_times) = ("SCHEDULE_TOPIC_XXXX".into(), tries);
            waits.properties = format!(
                "REAL_TOPIC\u{1}{real}\u{2}REAL_QID\u{1}0\u{2}RETRY_TOPIC\u{1}topic-0\u{2}DELAY\u{1}{level}\u{2}\
                 ORIGIN_MESSAGE_ID\u{1}{:032X}",
                at + origin
            );
            judge_tries("broker-a", &disk, 3).is_ok()
        };
        let retry = "%RETRY%group-0";
        assert!(judged(1, 3, 0, retry) && judged(2, 4, 0, retry) && judged(3, 4, 0, retry));
        assert!(!judged(1, 2, 0, retry) && !judged(2, 3, 0, retry));
        assert!(!judged(4, 4, 0, retry), "too often");
        assert!(!judged(1, 3, 1, retry), "no message begins there");
        assert!(!judged(1, 3, 0, "%DLQ%group-0"));
    }

    #[test]
    fn a_dead_letter_that_could_be_consumed_or_was_tried_another_number_of_times_is_rejected() {
        let judge = |times, fails: i32| judge("broker-a", &dead_disk(times), "group-0", terms(&|_| fails));
        assert_eq!(judge(2, 2), Ok(()));
        assert!(judge(2, 1).is_err());
        assert!(judge(1, 2).is_err());
    }
}
