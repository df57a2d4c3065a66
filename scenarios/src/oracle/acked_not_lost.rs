//! I1: an acknowledged message survives the faults that its setting promises to survive.
//!
//! At the acknowledgement the record is looked up on the raw disk, since one that is in the page cache only would be
//! found at the end all the same, unless a fault happened to hit it; one that promises to survive the process alone is
//! looked up as the kernel shows the file. At the end it is looked up through its queue.
//!
//! With the transient store pool an acknowledgement says no more than that the record is in memory. Then the death of the
//! process excuses what it was given shortly before, and nothing older.
//!
//! # Source
//! `spec/store.md`, sections 10.1 and 11; `spec/known-bugs.md`, S-06.

use super::{Broken, Final, Verdict};
use crate::history::{Outcome, Place, Promise, promise};
use crate::platter::BrokerDisk;
use crate::platter::record::{Found, Record, decode};
use crate::workload::{Identity, MessageId, identify};

/// An acknowledgement has arrived that promises to survive a loss of power, or of the process. `kept` is what the disk's
/// surface holds, or the kernel shows, of the CommitLog file from the acknowledged offset on.
///
/// # Errors
/// When the record is not there whole.
pub fn at_ack(id: MessageId, place: &Place, kept: Option<&[u8]>) -> Verdict {
    let Some(at) = place.physical_offset else {
        return Err(Broken::new("I1", format!("the answer to message {} has no offset in it", id.0)));
    };
    let instead = match kept.map(|bytes| decode(bytes, at)) {
        Some(Found::Record(record)) if identify(&record.body) == Identity::Whole(id) => return Ok(()),
        Some(Found::Record(_)) => "another message",
        Some(Found::Blank) => "the end of a file",
        Some(Found::End(why)) => why,
        None => "no file",
    };
    let Place { broker, topic, queue, queue_offset, .. } = place;
    Err(Broken::new(
        "I1",
        format!(
            "message {} is acknowledged as {topic} queue {queue} offset {queue_offset}, but the disk of {broker} \
             has at {at}: {instead}",
            id.0
        ),
    ))
}

/// # Errors
/// The first message whose acknowledgement was not kept.
pub fn at_end(end: Final<'_>) -> Verdict {
    for (id, sent) in &end.history.sends {
        let Outcome::Acked { place, status } = &sent.outcome else { continue };
        let excused = promise(end.sync_flush, sent.wait, *status) < Promise::PowerLoss
            && end.history.may_have_lost(
                &place.broker,
                sent.started_ms,
                sent.ended_ms.unwrap_or(sent.started_ms) + end.flushed_within_ms,
            );
        let acked_ms = sent.ended_ms.unwrap_or(sent.started_ms);
        let uncommitted = end.committed_within_ms.is_some_and(|within_ms| {
            end.history.may_have_lost_uncommitted(&place.broker, (sent.started_ms, acked_ms), within_ms)
        });
        let dropped = end.history.may_be_dropped(&place.broker, &place.topic, *id);
        if excused || uncommitted || dropped {
            continue;
        }
        let Some(disk) = end.brokers.get(&place.broker) else { continue };
        if end.history.is_deleted(place) && place.physical_offset < Some(disk.log.min) {
            continue;
        }
        let found = lookup(disk, &place.topic, place.queue, place.queue_offset);
        let instead = match found {
            Some(record) if identify(&record.body) == Identity::Whole(*id) => continue,
            Some(record) => format!("the record at {} is another one", record.at),
            None => "nothing is there".to_owned(),
        };
        return Err(Broken::new(
            "I1",
            format!(
                "message {} was acknowledged at {} ms as {} queue {} offset {} of {}, and {instead} (log ends at {}: {})",
                id.0,
                sent.ended_ms.unwrap_or(sent.started_ms),
                place.topic,
                place.queue,
                place.queue_offset,
                place.broker,
                disk.log.end,
                disk.log.stopped
            ),
        ));
    }
    Ok(())
}

/// The record that a consumer would get at that queue offset.
pub(super) fn lookup<'a>(
    disk: &'a BrokerDisk,
    topic: &str,
    queue: i32,
    queue_offset: i64,
) -> Option<&'a Record> {
    let entry = disk.queues.get(&(topic.to_owned(), queue))?.entry(queue_offset)?;
    disk.log.at(entry.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, place};
    use crate::history::{Death, History, PowerLoss, Trouble};
    use crate::oracle::queue_matches_log::tests::disk;
    use crate::platter::commit_log::tests::{FOLDER, image};

    #[test]
    fn an_acknowledged_record_must_be_on_the_surface() {
        let image = image(&[(1_000_000, 0)]);
        let bytes = image.folder(FOLDER).next().expect("one file").1;
        let place = Place { physical_offset: Some(0), ..place(0) };
        assert_eq!(at_ack(MessageId(1_000_000), &place, Some(bytes)), Ok(()));
        let zeros = vec![0; bytes.len()];
        assert!(at_ack(MessageId(1_000_000), &place, Some(&zeros)).is_err());
        assert!(at_ack(MessageId(1_000_001), &place, Some(bytes)).is_err());
        assert!(at_ack(MessageId(1_000_000), &place, None).is_err());
    }

    #[test]
    fn a_lost_acknowledged_message_is_rejected_and_a_waived_one_is_excused_by_a_power_loss_only() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_000, 50, place(0));
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
        ack(&mut history, 1_000_001, 60, place(1));
        assert!(end(&history, true).is_err());
        assert!(end(&history, false).is_err());
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 70 });
        assert!(end(&history, true).is_err());
        assert_eq!(end(&history, false), Ok(()));
    }

    #[test]
    fn a_deleted_message_is_excused_only_where_the_log_begins_behind_it() {
        let mut history = History::default();
        ack(&mut history, 1_000_001, 60, Place { physical_offset: Some(100), ..place(1) });
        let end = |history: &History, log_min| {
            let mut disk = disk(&[(1_000_000, 0)]);
            disk.log.min = log_min;
            let brokers = [("broker-a".to_owned(), disk)].into();
            at_end(Final {
                history,
                sync_flush: true,
                committed_within_ms: None,
                flushed_within_ms: 1_000,
                brokers: &brokers,
            })
        };
        assert!(end(&history, 1_024).is_err());
        history.deleted.insert("broker-a".into(), 1_024);
        assert_eq!(end(&history, 1_024), Ok(()));
        assert!(end(&history, 0).is_err());
    }

    #[test]
    fn a_pool_loses_only_what_is_newer_than_its_commits() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_001, 60, place(1));
        let end = |history: &History, committed_within_ms| {
            at_end(Final {
                history,
                sync_flush: false,
                committed_within_ms,
                flushed_within_ms: 1_000,
                brokers: &brokers,
            })
        };
        history.deaths.push(Death { node: "broker-a".into(), at_ms: 200 });
        assert!(end(&history, None).is_err());
        assert!(end(&history, Some(100)).is_err());
        assert_eq!(end(&history, Some(150)), Ok(()));
    }

    #[test]
    fn an_asynchronous_flush_loses_only_what_is_newer_than_its_interval() {
        let brokers = [("broker-a".to_owned(), disk(&[(1_000_000, 0)]))].into();
        let mut history = History::default();
        ack(&mut history, 1_000_001, 60, place(1));
        history.power_losses.push(PowerLoss { node: "broker-a".into(), at_ms: 5_000 });
        let end = |history: &History| {
            at_end(Final {
                history,
                sync_flush: false,
                committed_within_ms: None,
                flushed_within_ms: 1_000,
                brokers: &brokers,
            })
        };
        assert!(end(&history).is_err());
        history.troubles.push(Trouble { node: "broker-a".into(), from_ms: 900, to_ms: 1_200 });
        assert_eq!(end(&history), Ok(()));
    }
}
