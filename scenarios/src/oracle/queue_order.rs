//! I4: the records of a queue take its offsets one by one, in log order. I5: an offset that was shown belongs to that
//! message for good.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, S-08, S-12, S-19.

use std::collections::BTreeMap;

use super::{Broken, Final, Verdict};
use crate::history::{Outcome, Promise, Shown, Slot, promise};
use crate::platter::BrokerDisk;

/// # Errors
/// The first queue offset that is out of turn.
pub fn dense(broker: &str, disk: &BrokerDisk) -> Verdict {
    let mut next: BTreeMap<(&str, i32), (i64, bool)> = BTreeMap::new();
    for record in disk.log.records.iter().filter(|record| record.has_queue_entry()) {
        let (expected, may_end) =
            next.entry((&record.topic, record.queue)).or_insert((record.queue_offset, false));
        // A topic that was deleted goes on behind all that it had, of which a loss of power may have taken the last.
        let begins_anew = *may_end && record.queue_offset > *expected;
        if record.queue_offset != *expected && !begins_anew {
            return Err(Broken::new(
                "I4",
                format!(
                    "{broker}: the record at {} of {} queue {} has queue offset {} where {expected} is next",
                    record.at, record.topic, record.queue, record.queue_offset
                ),
            ));
        }
        (*expected, *may_end) = (record.queue_offset + 1, disk.dropped.contains(&record.at));
    }
    Ok(())
}

/// # Errors
/// The first queue offset that two messages were shown at, unless the first of them was never promised to stay.
pub fn unique(end: Final<'_>) -> Verdict {
    for (slot, shown) in &end.history.shown {
        for pair in shown.windows(2) {
            let [first, second] = pair else { continue };
            if !excused(end, slot, *first, *second) {
                return Err(Broken::new(
                    "I5",
                    format!(
                        "{} {} queue {} offset {} was message {} at {} ms and message {} at {} ms",
                        slot.broker,
                        slot.topic,
                        slot.queue,
                        slot.queue_offset,
                        first.message.0,
                        first.at_ms,
                        second.message.0,
                        second.at_ms
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// A loss of power may take a message that was not flushed, and its offset is then free again. With a synchronous flush
/// consumers see only what is flushed, so a delivery is never taken back. Which of the two was lost is not told by the order
/// in which they were seen: a consumer that stood still may show late what it was given long before.
///
/// With the transient store pool the death of the process does the same to what was not committed. Consumers see only what
/// is.
fn excused(end: Final<'_>, slot: &Slot, first: Shown, second: Shown) -> bool {
    let Final { history, sync_flush, .. } = end;
    [first, second].iter().any(|shown| {
        let Some(sent) = history.sends.get(&shown.message) else { return false };
        let stays = match &sent.outcome {
            _ if sync_flush && shown.delivered => true,
            Outcome::Acked { status, .. } => promise(sync_flush, sent.wait, *status) == Promise::PowerLoss,
            _ => false,
        };
        let lost = history
            .power_losses
            .iter()
            .any(|loss| loss.node == slot.broker && (sent.started_ms..=second.at_ms).contains(&loss.at_ms));
        let uncommitted = !shown.delivered
            && end.committed_within_ms.is_some_and(|within_ms| {
                let acked_ms = sent.ended_ms.unwrap_or(sent.started_ms);
                history.may_have_lost_uncommitted(&slot.broker, (sent.started_ms, acked_ms), within_ms)
            });
        uncommitted || (!stays && lost)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, deliver, place};
    use crate::history::{Death, History, PowerLoss};
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn offsets_in_turn_are_accepted_and_a_repeat_or_a_hole_is_not() {
        assert_eq!(dense("broker-a", &disk(&[(1_000_000, 4), (1_000_001, 5)])), Ok(()));
        assert!(dense("broker-a", &disk(&[(1_000_000, 4), (1_000_001, 4)])).is_err());
        assert!(dense("broker-a", &disk(&[(1_000_000, 4), (1_000_001, 6)])).is_err());
    }

    #[test]
    fn a_deleted_topic_goes_on_behind_what_it_had_and_never_before() {
        let after = |offset| {
            let mut disk = disk(&[(1_000_000, 4), (1_000_001, offset)]);
            disk.dropped.insert(disk.log.records[0].at);
            dense("broker-a", &disk)
        };
        assert_eq!((after(5), after(7)), (Ok(()), Ok(())));
        assert!(after(4).is_err() && after(0).is_err());
    }

    fn unique(history: &History, sync_flush: bool) -> Verdict {
        pooled(history, sync_flush, None)
    }

    fn pooled(history: &History, sync_flush: bool, committed_within_ms: Option<u64>) -> Verdict {
        let brokers = BTreeMap::new();
        super::unique(Final {
            history,
            sync_flush,
            committed_within_ms,
            flushed_within_ms: 1_000,
            brokers: &brokers,
        })
    }

    #[test]
    fn a_death_frees_an_offset_that_was_not_committed_unless_a_consumer_was_shown_it() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        ack(&mut history, 1_000_001, 90, place(0));
        history.deaths.push(Death { node: "broker-a".into(), at_ms: 50 });
        assert!(pooled(&history, false, None).is_err());
        assert!(pooled(&history, false, Some(20)).is_err());
        assert_eq!(pooled(&history, false, Some(100)), Ok(()));
        deliver(&mut history, 1_000_000, 20, place(0));
        deliver(&mut history, 1_000_001, 95, place(0));
        assert!(pooled(&history, false, Some(100)).is_err());
    }

    #[test]
    fn one_offset_for_two_messages_is_rejected() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        deliver(&mut history, 1_000_000, 20, place(0));
        assert_eq!(unique(&history, true), Ok(()));
        ack(&mut history, 1_000_001, 90, place(0));
        assert!(unique(&history, true).is_err());
        assert!(unique(&history, false).is_err());
    }

    #[test]
    fn a_power_loss_frees_an_offset_only_where_nothing_was_promised() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        ack(&mut history, 1_000_001, 90, place(0));
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 50 });
        assert!(unique(&history, true).is_err());
        assert_eq!(unique(&history, false), Ok(()));
    }

    #[test]
    fn a_lost_message_that_is_shown_late_is_excused_by_the_loss_before() {
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(7));
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 50 });
        ack(&mut history, 1_000_001, 90, place(0));
        deliver(&mut history, 1_000_000, 120, place(0));
        assert_eq!(unique(&history, false), Ok(()));
        assert!(unique(&history, true).is_err());
    }
}
