//! I6 and I11: a slave's log is its master's, byte for byte where both have one, and what is confirmed is in it. I20 and I19
//! as far as they concern a wait for a slave, and its link.
//!
//! # Source
//! `spec/ha.md`, sections 1.9 and 5; `spec/known-bugs.md`, H-02, H-03, H-04, H-09.

use super::acked_not_lost::lookup;
use super::{Broken, Verdict};
use crate::history::{History, Outcome, Place, Sent, Status};
use crate::platter::commit_log::Log;
use crate::platter::record::{Found, decode};
use crate::platter::{BrokerDisk, Image};
use crate::workload::{Identity, MessageId, identify};

/// Whether a slave has a message that its master has acknowledged. `bytes` is what it has of the file, from the acknowledged
/// offset on.
///
/// # Errors
/// I11: it has not that message there.
pub fn copy(id: MessageId, slave: &str, place: &Place, bytes: Option<&[u8]>) -> Verdict {
    let at = place.physical_offset.unwrap_or_default();
    let instead = match bytes.map(|bytes| decode(bytes, at)) {
        Some(Found::Record(record)) if identify(&record.body) == Identity::Whole(id) => return Ok(()),
        Some(Found::Record(_)) => "another message",
        Some(Found::Blank) => "the end of a file",
        Some(Found::End(why)) => why,
        None => "no file",
    };
    let detail = format!("message {} is confirmed, but {slave} has at {at}: {instead}", id.0);
    Err(Broken::new("I11", detail))
}

/// Whether a slave has at `at` the record that its master has put back for a consumer; `own` are the master's bytes.
///
/// # Errors
/// I11: it has not.
pub fn handed_back(slave: &str, at: u64, own: &[u8], copy: Option<&[u8]>) -> Verdict {
    if !own.is_empty() && copy.is_some_and(|copy| copy.starts_with(own)) {
        return Ok(());
    }
    Err(Broken::new(
        "I11",
        format!("the record at {at} was put back, and {slave} has another one there, or none"),
    ))
}

/// A SEND_OK of a SYNC_MASTER has arrived, which promises copies on `least` slaves.
///
/// # Errors
/// I11: there are fewer.
pub fn at_ack(id: MessageId, copies: &[Verdict], least: usize) -> Verdict {
    on_slaves(&format!("message {}", id.0), copies, least)
}

/// As [`at_ack`], of `what`.
///
/// # Errors
/// I11: there are fewer.
pub fn on_slaves(what: &str, copies: &[Verdict], least: usize) -> Verdict {
    let have = copies.iter().filter(|copy| copy.is_ok()).count();
    let missing = copies.iter().find_map(|copy| copy.as_ref().err());
    match missing {
        Some(missing) if have < least => {
            let detail = format!("{} ({have} of {least} slaves have {what})", missing.detail);
            Err(Broken { detail, ..missing.clone() })
        }
        _ => Ok(()),
    }
}

/// A send was answered SLAVE_NOT_AVAILABLE.
///
/// # Errors
/// I20: Java 5.x's settings have no such answer.
pub fn not_available(id: MessageId, in_sync: bool) -> Verdict {
    let detail =
        || format!("message {} is stored without a slave, by a master that counts copies in sync", id.0);
    if in_sync { Err(Broken::new("I20", detail())) } else { Ok(()) }
}

/// A slave says that its master has another history.
///
/// # Errors
/// I6: nothing that was pushed can have been lost by the master.
pub fn divergence(slave: &str, at: u64, sync_flush: bool, master_lost_power: bool) -> Verdict {
    if !sync_flush && master_lost_power {
        return Ok(());
    }
    let detail =
        format!("{slave} has another record at {at} than its master, which has lost nothing that it pushed");
    Err(Broken::new("I6", detail))
}

/// A slave has given a consumer something, or taken something from its master.
///
/// # Errors
/// I6: it knows that its master's history is another one.
pub fn served(slave: &str, what: &str, diverged: bool) -> Verdict {
    let detail = || format!("{slave} gives or takes {what}, though its master has another history");
    if diverged { Err(Broken::new("I6", detail())) } else { Ok(()) }
}

/// A send was answered FLUSH_SLAVE_TIMEOUT after so long.
///
/// # Errors
/// I20: the time was not up.
pub fn timeout(id: MessageId, took_ms: u64, timeout_ms: u64) -> Verdict {
    if took_ms >= timeout_ms {
        return Ok(());
    }
    let detail =
        format!("message {}: no slave within {timeout_ms} ms, says an answer after {took_ms} ms", id.0);
    Err(Broken::new("I20", detail))
}

/// A send was answered FLUSH_SLAVE_TIMEOUT, and for so long before it began no slave has lived whose link could be open:
/// `None`, when one may have. As Java 4.x counts such a send is not to wait, as 5.x does where more than one copy is asked
/// for it is to be refused.
///
/// # Errors
/// I19: it has waited for nobody.
pub fn waited(id: MessageId, none_since_ms: Option<u64>, least: Option<u32>) -> Verdict {
    match none_since_ms {
        Some(ms) if least.is_none_or(|least| least > 1) => {
            let detail =
                format!("message {} has waited for slaves, of which none has lived for {ms} ms", id.0);
            Err(Broken::new("I19", detail))
        }
        _ => Ok(()),
    }
}

/// What the slave lacks of its master's log, on a cluster that is well.
#[must_use]
pub fn behind(slave: &str, own: &Log, master: &Log) -> Option<Broken> {
    let (own, master) = (own.end, master.end);
    let detail = format!("the log of {slave} ends at {own}, its master's at {master}");
    (own != master).then(|| Broken::new("I19", detail))
}

/// A SYNC_MASTER with a slave that follows confirms everything that was sent after `healthy_from_ms`.
///
/// # Errors
/// I19: the first that was only stored.
pub fn confirms(history: &History, healthy_from_ms: u64) -> Verdict {
    let sent = history.sends.iter().filter(|(_, sent)| sent.started_ms >= healthy_from_ms);
    let only_stored = |sent: &Sent| matches!(sent.outcome, Outcome::Acked { status: Status::StoredOnly, .. });
    match sent.into_iter().find(|(_, sent)| only_stored(sent)) {
        None => Ok(()),
        Some((id, sent)) => {
            let detail = format!(
                "message {}, sent at {} ms on a healthy cluster, is not confirmed",
                id.0, sent.started_ms
            );
            Err(Broken::new("I19", detail))
        }
    }
}

/// A slave has become the master, and stopped again without a send.
///
/// # Errors
/// I1: it has not kept what it had.
pub fn kept(slave: &str, before: u64, now: u64) -> Verdict {
    if now == before {
        return Ok(());
    }
    let detail = format!("the log of {slave} ended at {before}, and ends at {now} since it is the master");
    Err(Broken::new("I1", detail))
}

/// What a SYNC_MASTER has answered SEND_OK, and where it was.
#[must_use]
pub fn confirmed(history: &History, broker: &str) -> Vec<(MessageId, Place)> {
    let confirmed = |sent: &Sent| match &sent.outcome {
        Outcome::Acked { place, status: Status::Ok } if sent.wait && place.broker == broker => {
            Some(place.clone())
        }
        _ => None,
    };
    history.sends.iter().filter_map(|(id, sent)| Some((*id, confirmed(sent)?))).collect()
}

/// Whether a message is where its master said, in the log and for those who read its queue.
#[must_use]
pub fn has(disk: &BrokerDisk, id: MessageId, place: &Place) -> bool {
    lookup(disk, &place.topic, place.queue, place.queue_offset)
        .is_some_and(|record| identify(&record.body) == Identity::Whole(id))
}

/// A slave has taken over without a message that was confirmed.
#[must_use]
pub fn not_inherited(slave: &str, id: MessageId, place: &Place) -> Broken {
    let Place { topic, queue, queue_offset, .. } = place;
    let at = format!("{topic} queue {queue} offset {queue_offset}");
    Broken::new(
        "I1",
        format!("message {} was confirmed as {at}, and {slave} has taken over without it", id.0),
    )
}

/// A link of a healthy, idle cluster has ended.
#[must_use]
pub fn link_ended(side: &str) -> Broken {
    Broken::new("I19", format!("the {side} has closed the link of a cluster that is well and idle"))
}

/// Compares what both logs have.
///
/// # Errors
/// I6: the first byte that differs.
pub fn same(slave: &str, own: (&Image, &Log), master: (&Image, &Log), folder: &str) -> Verdict {
    let from = own.1.min.max(master.1.min);
    let upto = own.1.end.min(master.1.end);
    for (name, bytes) in own.0.folder(folder) {
        let Ok(base) = name.parse::<u64>() else { continue };
        let Some(theirs) = master.0.files.get(&format!("{folder}/{name}")) else { continue };
        let begin = from.saturating_sub(base).min(bytes.len() as u64) as usize;
        let end = upto.saturating_sub(base).min(bytes.len() as u64) as usize;
        let range = begin..end.max(begin);
        let pair = bytes[range.clone()].iter().zip(theirs.get(range).unwrap_or_default());
        if let Some(first) = pair.into_iter().position(|(own, their)| own != their) {
            let at = base + (begin + first) as u64;
            return Err(Broken::new(
                "I6",
                format!("{slave} and its master differ at {at} of {from} to {upto}"),
            ));
        }
    }
    Ok(())
}

/// A master counts what its slave says that it has. Both logs end there, or before.
///
/// # Errors
/// I6: the first byte that differs, or what the master lacks.
pub fn followed(slave: &str, own: (&Image, &Log), master: (&Image, &Log), folder: &str) -> Verdict {
    if own.1.end > master.1.end {
        let (own, master) = (own.1.end, master.1.end);
        let detail = format!("{slave} is fed from {own} on by a master whose log ends at {master}");
        return Err(Broken::new("I6", detail));
    }
    same(slave, own, master, folder).map_err(|broken| {
        let detail = format!("{}, and it is fed", broken.detail);
        Broken { detail, ..broken }
    })
}

/// A master counts what its slave says that it has, and its log begins at `min`.
///
/// # Errors
/// I6: what the slave needs next was deleted (H-01).
pub fn fed_from(slave: &str, end: u64, min: u64) -> Verdict {
    if end >= min {
        return Ok(());
    }
    let detail = format!("{slave} is fed from {end} on by a master whose log begins at {min}");
    Err(Broken::new("I6", detail))
}

/// A slave that flushes before it reports has said that it has its master's log up to `end`.
///
/// # Errors
/// I11: its disk's surface has less.
pub fn reported(slave: &str, end: u64, durable: u64) -> Verdict {
    if durable >= end {
        return Ok(());
    }
    let detail = format!("{slave} says that it has {end}, and its disk has {durable}");
    Err(Broken::new("I11", detail))
}

/// A send was answered FLUSH_SLAVE_TIMEOUT whose record ends behind `end`; slaves had never said that they have more than
/// `reported`. Java 4.x's setting says how far behind one may be that is waited for.
///
/// # Errors
/// I20: it was waited for one that was too far behind.
pub fn too_far(id: MessageId, end: u64, reported: u64, behind_max: Option<u64>) -> Verdict {
    match behind_max {
        Some(max) if end.saturating_sub(reported) > max => {
            let detail = format!(
                "message {} at {end} has waited for a slave that had {reported}, more than {max} bytes behind",
                id.0
            );
            Err(Broken::new("I20", detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, place, sent};
    use crate::platter::commit_log::scan;
    use crate::platter::commit_log::tests::{FOLDER, image};

    #[test]
    fn a_slave_that_is_fed_with_another_history_is_rejected() {
        let log = |messages| (image(messages), scan(&image(messages), FOLDER));
        let (one, other) = (log(&[(1_000_000, 0), (1_000_001, 1)]), log(&[(1_000_000, 0), (1_000_002, 1)]));
        let fed = |own: &(Image, Log), master: &(Image, Log)| {
            followed("slave-a", (&own.0, &own.1), (&master.0, &master.1), FOLDER).is_ok()
        };
        assert!(fed(&one, &one) && !fed(&one, &other));
        let short = log(&[(1_000_000, 0)]);
        assert!(fed(&short, &one) && !fed(&one, &short));
    }

    #[test]
    fn a_slave_that_needs_what_was_deleted_and_is_fed_is_rejected() {
        assert_eq!(fed_from("slave-a", 100, 100), Ok(()));
        assert!(fed_from("slave-a", 99, 100).is_err());
    }

    #[test]
    fn a_report_of_what_is_not_flushed_is_rejected() {
        assert_eq!(reported("slave-a", 100, 100), Ok(()));
        assert!(reported("slave-a", 101, 100).is_err());
    }

    #[test]
    fn a_wait_for_a_slave_that_is_too_far_behind_is_rejected() {
        assert_eq!(too_far(MessageId(1), 200, 100, Some(100)), Ok(()));
        assert!(too_far(MessageId(1), 201, 100, Some(100)).is_err());
        assert_eq!(too_far(MessageId(1), 201, 100, None), Ok(()));
    }

    #[test]
    fn a_confirmed_record_must_be_on_the_slave() {
        let image = image(&[(1_000_000, 0)]);
        let bytes = image.folder(FOLDER).next().expect("one file").1;
        let place = Place { physical_offset: Some(0), ..place(0) };
        let on = |bytes| copy(MessageId(1_000_000), "slave-a", &place, bytes);
        assert_eq!(on(Some(bytes)), Ok(()));
        let zeros = vec![0; bytes.len()];
        assert!(on(Some(&zeros)).is_err());
        assert!(on(None).is_err());
        assert!(copy(MessageId(1_000_001), "slave-a", &place, Some(bytes)).is_err());
    }

    #[test]
    fn a_confirmed_message_must_be_on_as_many_slaves_as_were_asked_for() {
        let (has, lacks) = (Ok(()), Err(Broken::new("I11", "slave-a2 has no file")));
        assert_eq!(at_ack(MessageId(1), &[has.clone(), lacks.clone()], 1), Ok(()));
        assert_eq!(at_ack(MessageId(1), &[has.clone(), has.clone()], 2), Ok(()));
        assert!(at_ack(MessageId(1), &[has, lacks.clone()], 2).is_err());
        assert!(at_ack(MessageId(1), &[lacks], 1).is_err());
        assert!(not_available(MessageId(1), true).is_err());
        assert_eq!(not_available(MessageId(1), false), Ok(()));
    }

    #[test]
    fn what_was_handed_back_must_be_on_a_slave_byte_for_byte() {
        assert_eq!(handed_back("slave-a", 9, b"record", Some(b"record and more")), Ok(()));
        for copy in [None, Some(&b"recor"[..]), Some(b"rabbit")] {
            let missing = handed_back("slave-a", 9, b"record", copy);
            assert!(missing.is_err() && on_slaves("it", &[missing], 1).is_err());
        }
        assert!(handed_back("slave-a", 9, b"", Some(b"")).is_err());
    }

    #[test]
    fn logs_are_compared_where_both_have_one() {
        let (long, short) = (image(&[(1_000_000, 0), (1_000_001, 1)]), image(&[(1_000_000, 0)]));
        let other = image(&[(1_000_000, 0), (1_000_002, 1)]);
        let judge =
            |a: &Image, b: &Image| same("slave-a", (a, &scan(a, FOLDER)), (b, &scan(b, FOLDER)), FOLDER);
        assert_eq!(judge(&long, &long), Ok(()));
        assert_eq!(judge(&short, &long), Ok(()));
        assert_eq!(judge(&long, &short), Ok(()));
        assert!(judge(&other, &long).is_err());
        let (long, short) = (scan(&long, FOLDER), scan(&short, FOLDER));
        assert!(behind("slave-a", &short, &long).is_some());
        assert!(behind("slave-a", &long, &long).is_none());
    }

    #[test]
    fn histories_may_differ_only_after_an_unflushed_loss_of_the_master() {
        assert_eq!(divergence("slave-a", 0, false, true), Ok(()));
        assert!(divergence("slave-a", 0, true, true).is_err());
        assert!(divergence("slave-a", 0, false, false).is_err());
    }

    #[test]
    fn a_slave_that_has_diverged_gives_and_takes_nothing() {
        assert_eq!(served("slave-a", "a message", false), Ok(()));
        assert!(served("slave-a", "a message", true).is_err());
    }

    #[test]
    fn on_a_healthy_cluster_a_message_that_is_only_stored_is_rejected() {
        let mut history = History::default();
        history.started(MessageId(1), sent(100));
        history.ended(MessageId(1), 120, Outcome::Acked { place: place(0), status: Status::StoredOnly });
        assert!(confirms(&history, 100).is_err());
        assert_eq!(confirms(&history, 101), Ok(()));
    }

    #[test]
    fn a_slave_that_loses_its_log_by_becoming_the_master_is_rejected() {
        assert_eq!(kept("slave-a", 900, 900), Ok(()));
        assert!(kept("slave-a", 900, 0).is_err());
    }

    #[test]
    fn an_heir_without_a_confirmed_message_is_rejected() {
        let disk = crate::oracle::queue_matches_log::tests::disk(&[(1_000_000, 0)]);
        let mut history = History::default();
        ack(&mut history, 1_000_000, 50, place(0));
        ack(&mut history, 1_000_001, 60, place(1));
        history.started(MessageId(2), sent(70));
        history.ended(MessageId(2), 80, Outcome::Acked { place: place(2), status: Status::StoredOnly });
        let confirmed = confirmed(&history, "broker-a");
        let has: Vec<bool> = confirmed.iter().map(|(id, place)| has(&disk, *id, place)).collect();
        assert_eq!(has, [true, false]);
    }

    #[test]
    fn a_wait_for_slaves_that_are_long_dead_is_rejected() {
        assert!(waited(MessageId(1), Some(3_000), None).is_err());
        assert!(waited(MessageId(1), Some(3_000), Some(2)).is_err());
        assert_eq!(waited(MessageId(1), Some(3_000), Some(1)), Ok(()));
        assert_eq!(waited(MessageId(1), None, None), Ok(()));
    }

    #[test]
    fn a_timeout_before_its_time_is_rejected() {
        assert_eq!(timeout(MessageId(1), 1_000, 1_000), Ok(()));
        assert!(timeout(MessageId(1), 999, 1_000).is_err());
    }
}
