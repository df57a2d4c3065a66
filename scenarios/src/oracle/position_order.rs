//! I9: the flushed position never passes what is on the disk's surface, nor the committed one what the kernel has of the file. I10: nor do the positions and times in the checkpoint, which is on the surface itself when it counts.
//!
//! Recovery trusts the checkpoint: it starts in a file whose first record is old enough, and what is older is taken for
//! complete. A checkpoint that says too much hides records without queue entries for ever.
//!
//! # Source
//! `spec/store.md`, section 6.1; `spec/known-bugs.md`, S-10, S-15.

use std::collections::BTreeMap;

use super::{Broken, Verdict};
use crate::platter::BrokerDisk;
use crate::platter::checkpoint::Checkpoint;
use crate::platter::record::{Found, Record, decode};

/// The store says that it has flushed the bytes from log offset `at` on: `cached` is what its kernel shows of them, `durable`
/// what is on the disk's surface.
///
/// # Errors
/// When it has not.
pub fn flushed(broker: &str, at: u64, cached: &[u8], durable: Option<&[u8]>) -> Verdict {
    let differs = match durable {
        None => Some((0, "its file's name is not")),
        Some(durable) => {
            let equal = cached.iter().zip(durable).take_while(|(cached, durable)| cached == durable).count();
            (equal < cached.len()).then_some((equal, "the bytes there are not"))
        }
    };
    let Some((equal, what)) = differs else { return Ok(()) };
    let (end, first) = (at + cached.len() as u64, at + equal as u64);
    Err(Broken::new(
        "I9",
        format!("{broker} counts {at} to {end} as flushed, and from {first} on {what} on its disk"),
    ))
}

/// What begins at `at` was appended so long ago and is not counted as flushed yet, by a process that runs, on a disk that is
/// well.
///
/// # Errors
/// When that is too long: a loss of power would take more than the flush mode says.
pub fn in_time(broker: &str, at: u64, waits_ms: u64, within_ms: u64) -> Verdict {
    if waits_ms <= within_ms {
        return Ok(());
    }
    let detail = format!(
        "{broker} has not flushed its log from {at} on for {waits_ms} ms, longer than {within_ms} ms"
    );
    Err(Broken::new("I9", detail))
}

/// The broker has stopped in order: what its checkpoint says of its log's newest store time.
///
/// # Errors
/// When it has a newer record below what is durable: the next life could give store times that run backwards.
pub fn stopped(broker: &str, disk: &BrokerDisk) -> Verdict {
    let Some(Checkpoint { physic_ms, own: Some(own), .. }) = disk.checkpoint else { return Ok(()) };
    match disk.log.records.iter().find(|record| record.at < own.durable && record.store_ms > physic_ms) {
        None => Ok(()),
        Some(Record { at, store_ms, .. }) => Err(Broken::new(
            "I10",
            format!(
                "{broker} has stopped with a checkpoint of {physic_ms} ms, and its log has at {at} a record of {store_ms} ms"
            ),
        )),
    }
}

/// The store says that the bytes of one file from log offset `at` on are in it, `len` of them; `cached` is what the kernel
/// shows from there to the file's end.
///
/// # Errors
/// When they are not whole records.
pub fn committed(broker: &str, at: u64, len: u64, cached: &[u8]) -> Verdict {
    let (mut rest, end) = (cached, at + len);
    let mut next = at;
    while next < end {
        let why = match decode(rest, next) {
            Found::Record(record) => {
                next = record.end();
                rest = rest.get(record.bytes as usize..).unwrap_or_default();
                continue;
            }
            Found::Blank => return Ok(()),
            Found::End(why) => why,
        };
        let detail = format!("{broker} counts {at} to {end} as written, and its file has at {next}: {why}");
        return Err(Broken::new("I9", detail));
    }
    Ok(())
}

/// The store says that its checkpoint is durable: `said` are where a scan begins and the time up to which queues are complete.
///
/// # Errors
/// When the disk's surface has another one, or none.
pub fn saved(broker: &str, (scan_from, logic_ms): (u64, u64), durable: Option<&Checkpoint>) -> Verdict {
    let is_there = durable.is_some_and(|durable| {
        let from = durable.own.map_or(0, |own| own.scan_from);
        from == scan_from && durable.logic_ms.cast_unsigned() == logic_ms
    });
    if is_there {
        return Ok(());
    }
    let detail = format!(
        "{broker} has a checkpoint that begins at {scan_from} and is complete up to {logic_ms} ms, its disk has {durable:?}"
    );
    Err(Broken::new("I10", detail))
}

/// A record, and whether the disk's surface has it and its queue entry.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    pub record: &'a Record,
    pub in_log: bool,
    pub in_queue: bool,
}

/// Judges a checkpoint when it is written. `records` are those from where the last one said that all is durable. With
/// `deletes` queue entries may be gone.
///
/// # Errors
/// The first record of which it says too much.
pub fn claimed(broker: &str, checkpoint: &Checkpoint, records: &[Claimed<'_>], deletes: bool) -> Verdict {
    let durable = checkpoint.own.map_or(0, |own| own.durable);
    let complete_ms = checkpoint.physic_ms.min(checkpoint.logic_ms);
    for Claimed { record, in_log, in_queue } in records {
        let lacks = match () {
            () if !in_log && record.at < durable => format!("durable up to {durable}"),
            () if !in_log && record.store_ms < checkpoint.physic_ms => {
                format!("durable up to {} ms", checkpoint.physic_ms)
            }
            () if deletes || *in_queue || !record.has_queue_entry() => continue,
            () if record.at < durable => format!("filed up to {durable}"),
            () if record.store_ms < complete_ms => format!("filed up to {complete_ms} ms"),
            () => continue,
        };
        let Record { at, store_ms, topic, queue, queue_offset, .. } = record;
        let detail = format!(
            "{broker}: its checkpoint says that the log is {lacks}, and the record at {at} of {store_ms} ms, {topic} queue \
             {queue} offset {queue_offset}, is not"
        );
        return Err(Broken::new("I10", detail));
    }
    Ok(())
}

/// Judges what a loss of power has left, before the broker starts again. `known` are records that were in the log before,
/// by their start.
///
/// # Errors
/// When the checkpoint is ahead of the log or of the queues.
pub fn checkpoint(broker: &str, disk: &BrokerDisk, known: &BTreeMap<u64, Record>) -> Verdict {
    let Some(checkpoint) = disk.checkpoint else { return Ok(()) };
    let gone = known.range(disk.log.end..).map(|(_, record)| record);
    for record in gone.filter(|record| record.at >= disk.log.min) {
        if record.store_ms < checkpoint.physic_ms {
            return Err(Broken::new(
                "I10",
                format!(
                    "{broker}: the checkpoint says that the log is durable up to {} ms, and the record at {} of {} ms is not",
                    checkpoint.physic_ms, record.at, record.store_ms
                ),
            ));
        }
    }
    // Recovery goes by the older of the two times, so that only their minimum is a promise about the queues.
    let complete_ms = checkpoint.physic_ms.min(checkpoint.logic_ms);
    let filed = |record: &&Record| record.has_queue_entry() && !disk.dropped.contains(&record.at);
    for record in disk.log.records.iter().filter(filed) {
        let entry = disk
            .queues
            .get(&(record.topic.clone(), record.queue))
            .and_then(|queue| queue.entry(record.queue_offset));
        if record.store_ms < complete_ms && entry.is_none_or(|entry| entry.at != record.at) {
            return Err(Broken::new(
                "I10",
                format!(
                    "{broker}: the checkpoint says that queues are durable up to {complete_ms} ms, and {} queue {} \
                     offset {} of {} ms has no entry",
                    record.topic, record.queue, record.queue_offset, record.store_ms
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;
    use crate::platter::checkpoint::Own;
    use crate::platter::commit_log::tests::{FOLDER, image};

    #[test]
    fn a_checkpoint_that_is_not_on_the_disk_is_rejected() {
        let own = Some(Own { scan_from: 40, durable: 80 });
        let durable = Checkpoint { physic_ms: 5, logic_ms: 4, own, ..Checkpoint::default() };
        assert_eq!(saved("broker-a", (40, 4), Some(&durable)), Ok(()));
        assert!(saved("broker-a", (41, 4), Some(&durable)).is_err());
        assert!(saved("broker-a", (40, 5), Some(&durable)).is_err());
        assert!(saved("broker-a", (40, 4), None).is_err());
    }

    #[test]
    fn a_checkpoint_that_says_too_much_when_it_is_written_is_rejected() {
        let disk = disk(&[(1_000_000, 0)]);
        let record = &disk.log.records[0];
        let (now, later) = (record.store_ms, record.store_ms + 1);
        let judged = |(physic_ms, logic_ms, durable): (i64, i64, u64), (in_log, in_queue): (bool, bool)| {
            let own = Some(Own { scan_from: 0, durable });
            let checkpoint = Checkpoint { physic_ms, logic_ms, own, ..Checkpoint::default() };
            claimed("broker-a", &checkpoint, &[Claimed { record, in_log, in_queue }], false).is_ok()
        };
        let end = record.end();
        assert!(judged((now, now, record.at), (false, false)), "it says nothing of it");
        assert!(judged((later, later, end), (true, true)));
        assert!(!judged((later, now, record.at), (false, false)));
        assert!(!judged((now, now, end), (false, true)));
        assert!(judged((later, now, record.at), (true, false)));
        assert!(!judged((later, later, record.at), (true, false)));
        assert!(!judged((now, now, end), (true, false)));
    }

    #[test]
    fn bytes_that_wait_too_long_for_a_flush_are_rejected() {
        assert_eq!(in_time("broker-a", 100, 4_000, 4_000), Ok(()));
        assert!(in_time("broker-a", 100, 4_001, 4_000).is_err());
    }

    #[test]
    fn a_stop_whose_checkpoint_is_older_than_its_newest_record_is_rejected() {
        let disk = |physic_ms, durable| {
            let own = Some(Own { scan_from: 0, durable });
            let checkpoint = Checkpoint { physic_ms, own, ..Checkpoint::default() };
            BrokerDisk { checkpoint: Some(checkpoint), ..disk(&[(1_000_000, 0), (1_000_001, 1)]) }
        };
        assert_eq!(stopped("broker-a", &disk(1_001, 10_000)), Ok(()));
        assert!(stopped("broker-a", &disk(1_000, 10_000)).is_err());
        assert_eq!(stopped("broker-a", &disk(1_000, 1)), Ok(()), "what was not durable is not spoken of");
    }

    fn at(physic_ms: i64, logic_ms: i64) -> BrokerDisk {
        let checkpoint = Some(Checkpoint { physic_ms, logic_ms, index_ms: 0, index: None, own: None });
        BrokerDisk { checkpoint, ..disk(&[(1_000_000, 0), (1_000_001, 1)]) }
    }

    #[test]
    fn flushed_bytes_that_are_not_on_the_surface_are_rejected() {
        assert_eq!(flushed("broker-a", 100, b"abc", Some(b"abc")), Ok(()));
        assert!(flushed("broker-a", 100, b"abc", Some(b"ab\0")).is_err());
        assert!(flushed("broker-a", 100, b"abc", Some(b"ab")).is_err());
        assert!(flushed("broker-a", 100, b"abc", None).is_err());
    }

    #[test]
    fn committed_bytes_that_are_no_whole_records_are_rejected() {
        let image = image(&[(1_000_000, 0), (1_000_001, 1)]);
        let bytes = image.folder(FOLDER).next().expect("one file").1;
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let (second, end) = (disk.log.records[1].at, disk.log.end);
        assert_eq!(committed("broker-a", 0, end, bytes), Ok(()));
        let mut zeroed = bytes.to_vec();
        zeroed[second as usize..].fill(0);
        assert_eq!(committed("broker-a", 0, second, &zeroed), Ok(()));
        assert!(committed("broker-a", 0, end, &zeroed).is_err());
        assert!(committed("broker-a", second, end - second, &[]).is_err());
    }

    #[test]
    fn a_checkpoint_newer_than_a_missing_queue_entry_is_rejected() {
        let known = BTreeMap::new();
        let mut disk = at(1_005, 1_005);
        assert_eq!(checkpoint("broker-a", &disk, &known), Ok(()));
        disk.queues.values_mut().next().expect("one queue").entries.pop();
        assert!(checkpoint("broker-a", &disk, &known).is_err());
        disk.checkpoint =
            Some(Checkpoint { physic_ms: 1_001, logic_ms: 1_005, index_ms: 0, index: None, own: None });
        assert_eq!(checkpoint("broker-a", &disk, &known), Ok(()));
    }

    #[test]
    fn a_checkpoint_newer_than_a_lost_record_is_rejected() {
        let mut disk = at(1_001, 1_001);
        let lost = disk.log.records.pop().expect("two records");
        disk.log.end = lost.at;
        let known = [(lost.at, lost)].into();
        assert_eq!(checkpoint("broker-a", &disk, &known), Ok(()));
        disk.checkpoint =
            Some(Checkpoint { physic_ms: 1_002, logic_ms: 0, index_ms: 0, index: None, own: None });
        assert!(checkpoint("broker-a", &disk, &known).is_err());
    }
}
