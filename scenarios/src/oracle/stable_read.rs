//! I8: what a consumer has received does not disappear. With a synchronous flush it is durable before it is shown.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, S-08.

use super::acked_not_lost::{at_ack, lookup};
use super::{Broken, Final, Verdict};
use crate::history::Place;
use crate::workload::{Identity, MessageId, identify};

/// A consumer of a broker with a synchronous flush has received a message; `durable` as in [`at_ack`].
///
/// # Errors
/// When the record is not on the disk's surface.
pub fn at_delivery(id: MessageId, place: &Place, durable: Option<&[u8]>) -> Verdict {
    at_ack(id, place, durable)
        .map_err(|broken| Broken::new("I8", format!("delivered before it was durable: {}", broken.detail)))
}

/// # Errors
/// The first delivered message that is no longer where it was read.
pub fn at_end(end: Final<'_>) -> Verdict {
    for delivery in &end.history.deliveries {
        let place = &delivery.place;
        let Some(sent) = end.history.sends.get(&delivery.message) else { continue };
        if !end.sync_flush && end.history.lost_power_since(&place.broker, sent.started_ms) {
            continue;
        }
        let Some(disk) = end.brokers.get(&place.broker) else { continue };
        if end.history.is_deleted(place) && place.physical_offset < Some(disk.log.min) {
            continue;
        }
        if end.history.may_be_dropped(&place.broker, &place.topic, delivery.message) {
            continue;
        }
        let found = lookup(disk, &place.topic, place.queue, place.queue_offset);
        if found.is_some_and(|record| identify(&record.body) == Identity::Whole(delivery.message)) {
            continue;
        }
        return Err(Broken::new(
            "I8",
            format!(
                "message {} was delivered to {} at {} ms from {} {} queue {} offset {}, where {} now",
                delivery.message.0,
                delivery.group,
                delivery.at_ms,
                place.broker,
                place.topic,
                place.queue,
                place.queue_offset,
                if found.is_some() { "another message is" } else { "nothing is" }
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, deliver, place};
    use crate::history::{History, PowerLoss};
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn a_delivered_message_that_is_gone_is_rejected() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_000, 10, place(0));
        deliver(&mut history, 1_000_000, 20, place(0));
        let end = |history: &History, sync_flush| {
            at_end(Final {
                history,
                sync_flush,
                committed_within_ms: None,
                flushed_within_ms: 1_000,
                brokers: &brokers,
            })
        };
        assert_eq!(end(&history, true), Ok(()));
        ack(&mut history, 1_000_001, 30, place(1));
        deliver(&mut history, 1_000_001, 40, place(1));
        assert!(end(&history, true).is_err());
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 50 });
        assert!(end(&history, true).is_err());
        assert_eq!(end(&history, false), Ok(()));
    }

    #[test]
    fn a_delivery_before_its_flush_is_rejected() {
        let place = Place { physical_offset: Some(0), ..place(0) };
        assert!(at_delivery(MessageId(1_000_000), &place, Some(&[0; 200])).is_err());
    }
}
